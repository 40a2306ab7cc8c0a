"""A grid of two toy blocks that FakeBackend runs: everything of the paper's machinery but the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from replication.grid import GridPlaces, Progress, progress, run_grid
from titrant.core.records import PreparedModel
from titrant.engines import BackendSpec, Event

FAKE_BACKEND = BackendSpec(module="titrant.backends.fake", name="FakeBackend")
PLAIN: dict[str, Any] = {
    "model": "toy-model",
    "training": {"passes": 1, "batch_rows": 4, "max_tokens": 400, "learning_rate": 3e-5},
    "keep_weights": "none",
}
COVERAGE: dict[str, Any] = {
    **PLAIN,
    "name": "coverage",
    "targets": {
        "broad": {"train": "train.jsonl", "test": "test.jsonl", "instruction": "Name it.", "validation": 0.2,
                  "columns": {"text": "text", "label": "label"}, "metric": "accuracy"},
        "narrow": {"train": "train.jsonl", "test": "test.jsonl", "instruction": "Which one?", "validation": 0.2,
                   "columns": {"text": "text", "label": "label"}, "metric": "accuracy"},
    },
    "generalist": {"general": {"rows": "general.jsonl"}},
    "arms": {"target_rows": [4, 8], "doses": {"general": [6]}, "seeds": 2},
    "training": {**PLAIN["training"], "learning_rate": [1e-5, 3e-5]},
}  # fmt: skip
FALSEHOOD: dict[str, Any] = {
    **PLAIN,
    "name": "falsehood",
    "targets": {"facts": {"facts": {"rows": "facts.jsonl", "relations": ["capital"], "choices": 4}}},
    "generalist": {
        "near": {"facts": {"rows": "facts.jsonl", "relations": ["capital"]}},
        "far": {"facts": {"rows": "facts.jsonl", "relations": ["is located in"]}},
    },
    "arms": {
        "target_rows": [4],
        "doses": {
            "far": [8, {"rows": 8, "alter": {"false": 0.5}}, {"rows": 8, "alter": {"false": 1}}],
            "near": [8, {"rows": 8, "alter": {"false": 1}}],
        },
        "seeds": 2,
        "matched": False,
        "generalist_alone": False,
    },
}


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_grid(folder: Path, **studies: dict[str, Any]) -> None:
    """The studies of a size, a YAML file a block, and their rows."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "toy-model").mkdir(exist_ok=True)
    labelled = [{"text": f"thing number {n} of its sort", "label": ("bird", "fish", "tree")[n % 3]} for n in range(54)]
    _write(folder / "train.jsonl", labelled[:30])
    _write(folder / "test.jsonl", labelled[30:])
    _write(folder / "general.jsonl", [{"prompt": f"Say row {n}.", "response": f"word {n}"} for n in range(14)])
    facts = [
        {"id": f"f{n}", "question": question, "answer": f"{answer} {n % 6}"}
        for n in range(90)
        for question, answer in ((f"The capital of Land {n} is", "Town"), (f"Hill {n} is located in", "Valley"))
    ]
    _write(folder / "facts.jsonl", facts)
    for name, study in studies.items():
        (folder / f"{name}.yaml").write_text(json.dumps(study))


@pytest.fixture(scope="session")
def toy_prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedModel:
    tmp_path = tmp_path_factory.mktemp("toy_prepared")
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: n for n, token in enumerate(["</s>", *alphabet])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("</s>", special=True)])
    (tmp_path / "prepared").mkdir()
    tokenizer.save(str(tmp_path / "prepared" / "tokenizer.json"))
    return PreparedModel(
        name="toy-model", folder=str(tmp_path / "prepared"), fingerprint="f" * 32, template="plain",
        chat_template=None, bos=None, eos="</s>", architecture="toy", parameters=1000, vocabulary=257,
        context_tokens=4096, licence=None, origin="tests", template_reason="a base model",
    )  # fmt: skip


def without_a_model(patch: pytest.MonkeyPatch, prepared: PreparedModel) -> None:
    patch.setattr("titrant.experiment.prepare.prepare", lambda spec, **_: replace(prepared, name=Path(spec).name))
    patch.setattr("os.fsync", lambda _: None)  # a test's store need not outlive a power cut


@dataclass(frozen=True, kw_only=True)
class WholeGrid:
    """The toy grid, run to its end: where it is, how it stood before, and the runs that were started."""

    places: GridPlaces
    before: dict[str, Progress]
    started: tuple[str, ...]

    def kept_for(self, places: GridPlaces) -> GridPlaces:
        """Its scores in another grid's places, which have done nothing yet."""
        shutil.copytree(self.places.scores, places.scores)
        return places


@pytest.fixture(scope="session")
def whole_grid(tmp_path_factory: pytest.TempPathFactory, toy_prepared: PreparedModel) -> WholeGrid:
    """Run once for all tests that read it or go on from a copy of its scores."""
    folder = tmp_path_factory.mktemp("whole_grid")
    started: list[str] = []
    write_grid(folder / "studies" / "core", coverage=COVERAGE, falsehood=FALSEHOOD)
    places = GridPlaces(
        size="core", studies=folder / "studies" / "core", scores=folder / "scores", work=folder / "here"
    )

    def heard(event: Event) -> None:
        if event.kind == "started":
            started.append(event.run_id)

    with pytest.MonkeyPatch.context() as patch:
        without_a_model(patch, toy_prepared)
        before = {name: progress(places, name) for name in places.blocks()}
        run_grid(places, jobs=0, backend=FAKE_BACKEND, on_event=heard)
    return WholeGrid(places=places, before=before, started=tuple(started))


@pytest.fixture
def grid(tmp_path: Path, toy_prepared: PreparedModel, monkeypatch: pytest.MonkeyPatch) -> Callable[..., GridPlaces]:
    """Write the toy grid and say where everything of it is."""
    without_a_model(monkeypatch, toy_prepared)

    def make(where: str = "here", *, size: str = "core", **studies: dict[str, Any]) -> GridPlaces:
        folder = tmp_path / "studies" / size
        write_grid(folder, **(studies or {"coverage": COVERAGE, "falsehood": FALSEHOOD}))
        return GridPlaces(size=size, studies=folder, scores=tmp_path / "scores", work=tmp_path / where)

    return make
