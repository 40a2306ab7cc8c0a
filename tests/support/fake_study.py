"""Whole studies without a model, for tests that start other processes: rows, a tokenizer, a backend that goes wrong.

Workers and command lines are processes of their own, so what they need has to be importable: this folder is on
pytest's path (`pythonpath` in pyproject.toml) and, through it, on the path of spawned workers.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from titrant.backends.fake import FakeBackend, FakeLanguageModel
from titrant.core.errors import RunFailed
from titrant.core.records import Numerics, PreparedModel, StepReport, TrainingPlan
from titrant.engines import BackendSpec
from titrant.storage.atomic import write_bytes
from titrant.storage.json_files import read_json, write_json

LABELS = ("bird", "fish", "tree")
STUDY: dict[str, Any] = {
    "name": "toy",
    "model": "toy-model",
    "target": {
        "train": "train.jsonl",
        "test": "test.jsonl",
        "instruction": "Name the kind.",
        "columns": {"text": "text", "label": "label"},
        "metric": "accuracy",
    },
    "generalist": {"general": {"rows": "general.jsonl"}},
    "arms": {"target_rows": [6], "doses": {"general": [4]}, "seeds": 2},
    "training": {"passes": 2, "batch_rows": 4, "max_tokens": 400},
    "retention": {"kept": "kept.jsonl", "learned": "learned.jsonl"},
}


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_study(
    folder: Path, *, train: int = 12, test: int = 20, pool: int = 12, rows: bool = True, **said: Any
) -> Path:
    """A study file with these keys in place of `STUDY`'s (None takes a key out), and its rows; the file's path."""
    folder.mkdir(parents=True, exist_ok=True)
    if rows:
        labelled = [{"text": f"thing number {n} of its sort", "label": LABELS[n % 4 % 3]} for n in range(train + test)]
        write_rows(folder / "train.jsonl", labelled[:train])
        write_rows(folder / "test.jsonl", labelled[train:])
        pools = [
            {"prompt": f"Say the word of row {n}.", "response": f"word {n}", "id": f"p{n}"} for n in range(pool + 3)
        ]
        write_rows(folder / "general.jsonl", pools[:pool])
        write_rows(folder / "learned.jsonl", pools[pool:])
        kept = [
            {
                "question": f"Which of two is question {n}?",
                "choices": ["this", "that"],
                "answer": ["this", "that"][n % 2],
            }
            for n in range(4)
        ]
        write_rows(folder / "kept.jsonl", kept)
    (folder / "toy-model").mkdir(exist_ok=True)
    merged = {key: value for key, value in {**STUDY, **said}.items() if value is not None}
    path = folder / "study.yaml"
    path.write_text(json.dumps(merged, indent=1))  # JSON is YAML
    return path


def toy_model(folder: Path, *, name: str = "toy-model") -> PreparedModel:
    """A prepared model that is a tokenizer and nothing else: bytes as tokens, one end mark, the plain template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    if not (folder / "tokenizer.json").exists():
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        tokenizer = Tokenizer(models.BPE(vocab={token: n for n, token in enumerate(["</s>", *alphabet])}, merges=[]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken("</s>", special=True)])
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / "tokenizer.json", tokenizer.to_str().encode())
    return PreparedModel(
        name=name,
        folder=str(folder),
        fingerprint="f" * 32,
        template="plain",
        chat_template=None,
        bos=None,
        eos="</s>",
        architecture="toy",
        parameters=1000,
        vocabulary=257,
        context_tokens=4096,
        licence="Apache-2.0",
        origin="tests",
        template_reason="a base model",
    )


def fake_prepare(folder: Path) -> Callable[..., PreparedModel]:
    """What stands in for `models.prepare.prepare`: every model is the toy one, under its own name."""
    model = toy_model(folder)
    return lambda spec, **_: replace(model, name=Path(spec).name)


def trial_backend(**arguments: Any) -> BackendSpec:
    """The spec of a `TrialBackend`."""
    return BackendSpec(module="fake_study", name="TrialBackend", arguments=arguments)


class TrialLanguageModel(FakeLanguageModel):
    """A fake specialist whose weights can be large."""

    saved_bytes = 0

    def save(self, folder: Path) -> None:
        super().save(folder)
        if self.saved_bytes:
            (folder / "model.safetensors").write_bytes(self.salt.encode() * (self.saved_bytes // len(self.salt)))


class TrialBackend:
    """`FakeBackend` with a checkpoint after every step, and with what a test asks to go wrong.

    `log`: a file that gets a line `start|step|end <what>` for every training begun, step taken and training ended.
    `fails`: {"kind": ..., "seed": ..., "unless": a file, "tells": environment variables}: trainings of that seed log
    and raise at step 2, with these variables' values in the text; of the kind `bug` it is no error of ours.
    `dies`: {"how": "exit" | "kill", "once": a file that is made first}: the process ends at step 2 of a training.
    `holds`: a file; while it is there, no training goes on after a step unless it is asked to stop.
    `step_seconds`: how long a step takes. `saved_bytes`: how large weights are. `numerics` is taken and not used.
    """

    def __init__(
        self,
        *,
        numerics: Numerics | None = None,
        log: str | None = None,
        fails: dict[str, Any] | None = None,
        dies: dict[str, Any] | None = None,
        holds: str | None = None,
        step_seconds: float = 0.0,
        saved_bytes: int = 0,
        checkpoints: bool = True,
    ) -> None:
        self.log, self.fails, self.dies, self.step_seconds = log, fails, dies, step_seconds
        self.holds, self.saved_bytes, self.checkpoints = holds, saved_bytes, checkpoints

    def untuned(self, model: PreparedModel) -> FakeLanguageModel:
        return self._sized(FakeBackend().untuned(model))

    def train(
        self,
        plan: TrainingPlan,
        *,
        checkpoints: Path,
        on_step: Callable[[StepReport], None],
        stop: Callable[[], int | None],
    ) -> FakeLanguageModel:
        self._say("start", plan)

        def step(report: StepReport) -> None:
            on_step(replace(report, seconds=0.001))
            self._say(f"step{report.step}", plan)
            if report.step == 2:
                self._go_wrong(plan)
            if self.checkpoints:
                write_json(checkpoints / "step.json", {"step": report.step})
            time.sleep(self.step_seconds)
            while self.holds and os.path.exists(self.holds) and stop() is None:
                time.sleep(0.01)

        language_model = self._sized(FakeBackend().train(plan, checkpoints=checkpoints, on_step=step, stop=stop))
        self._say("end", plan)
        return language_model

    def _sized(self, language_model: FakeLanguageModel) -> FakeLanguageModel:
        found = TrialLanguageModel(language_model.salt, language_model.skill, keep=language_model.keep)
        found.saved_bytes = self.saved_bytes
        return found

    def _say(self, what: str, plan: TrainingPlan) -> None:
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{what} {'+'.join(sorted({row.source for row in plan.rows}))}/{plan.seed}\n")

    def _go_wrong(self, plan: TrainingPlan) -> None:
        fails, dies = self.fails, self.dies
        if fails and fails.get("seed", plan.seed) == plan.seed and not os.path.exists(fails.get("unless", "")):
            told = " ".join(["as the test asked", *(os.environ[name] for name in fails.get("tells", ()))])
            logging.getLogger(__name__).warning("it fails: %s", told)
            if fails["kind"] == "bug":
                raise LookupError(told)
            raise RunFailed(fails["kind"], told, step=2)
        if dies and not os.path.exists(dies["once"]):
            Path(dies["once"]).touch()
            if dies["how"] == "exit":
                os._exit(7)
            os.kill(os.getpid(), signal.SIGKILL)


def calm_content(root: Path) -> dict[str, bytes]:
    """All that readers see in a folder of results, bit for bit: no leftovers, no locks, no times; the ledger's records
    in any order, each as often as it stands there."""
    files = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        name = path.relative_to(root)
        hidden = any(part.startswith(".tmp-") for part in name.parts)
        if not hidden and name.parts[0] not in ("claims", "work", "ledger.jsonl") and name.name != "timing.json":
            files[name.as_posix()] = path.read_bytes()
    from titrant.storage.store import Store

    records = sorted(json.dumps(record, sort_keys=True) for record in Store(root).records())
    files["ledger.jsonl"] = "\n".join(records).encode()
    return files


def without_times(files: dict[str, bytes]) -> dict[str, bytes]:
    """`calm_content` without what follows from this machine's speed: the minutes of a next step, wherever they stand,
    and the checksums of what says them."""
    found = {name: _TIMES.sub(b"", data) for name, data in files.items()}
    return {name: data for name, data in found.items() if name != "results.json" and not _model_manifest(name)}


_TIMES = re.compile(rb',? ?(under a minute|about \d+ minutes)|"minutes": [0-9.e-]+')


def _model_manifest(name: str) -> bool:
    return name.startswith("model/") and name.endswith("manifest.json")


def page_as_text(data: object) -> str:
    """What stands in for a rendered report where nobody looks at it: its data, without this machine's minutes."""
    return re.sub(r"minutes=[^,)]+", "minutes=...", repr(data))


def undrawn_panel(layers: Sequence[Any], *, heading: str, alt: str, tips: Sequence[str]) -> Any:
    """What stands in for `drawing.drawn_panel` where nobody looks at the drawing; its layers are made all the same."""
    from titrant.report.drawing import Panel

    assert layers
    return Panel(heading=heading, svg="<svg></svg>", alt=alt)


def trainings(log: Path, what: str = "end") -> list[str]:
    """The trainings of which a lab's log says `what`, sorted."""
    lines = log.read_text().split("\n") if log.exists() else []
    return sorted(line.partition(" ")[2] for line in lines if line.startswith(what + " "))


def checkpoint_of(root: Path, run_id: str) -> int | None:
    """The step of a `TrialBackend`'s checkpoint, if there is one."""
    path = root / "work" / run_id / "step.json"
    return int(read_json(path)["step"]) if path.is_file() else None


class FailsAtOneRate(TrialBackend):
    """Trainings at this learning rate fail as with a loss that is no number."""

    def __init__(self, *, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def _go_wrong(self, plan: TrainingPlan) -> None:
        if plan.settings.learning_rate == self.rate:
            raise RunFailed("non_finite", "as the test asked", step=2)


class FailsAlone(TrialBackend):
    """Trainings on so many rows fail as with a loss that is no number: those without a dose."""

    def __init__(self, *, rows: int) -> None:
        super().__init__()
        self.rows = rows

    def _go_wrong(self, plan: TrainingPlan) -> None:
        if len(plan.rows) == self.rows:
            raise RunFailed("non_finite", "as the test asked", step=2)
