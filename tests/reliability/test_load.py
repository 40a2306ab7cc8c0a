"""A store of 5,000 runs × 1,000 items: the second run is over at once, and the report is made in time and memory.

Built without the disk's patience (no fsync) and without a model; everything that reads is the real thing, as a command
of its own. The bars are held to seconds of the processor, which one thread of work takes alike on a busy machine and on
a quiet one; the clock is noted beside them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_study import fake_prepare

from titrant.backends.fake import FakeBackend, FakeLanguageModel
from titrant.config.study import load_study
from titrant.core.identity import rng_for
from titrant.core.records import PreparedModel, TokenQuestion, TrainingPlan
from titrant.engines import RunJob
from titrant.engines.job import do_run
from titrant.experiment.design import Design, make_design
from titrant.experiment.prepare import PreparedStudy, prepare_study
from titrant.experiment.runner import job_of
from titrant.storage.store import Store

RUNS, ITEMS, SEEDS = 5_000, 1_000, 50
NOTHING_TO_DO_SECONDS, REPORT_SECONDS, MEMORY_BYTES = 3.0, 60.0, 2 << 30
ARMS = {
    "target_rows": [32, 64, 128, 192, 256],
    "doses": {name: [16, 32, 48, 64, 96, 128, 192, 256, 352] for name in ("general", "other")},
    "seeds": SEEDS,
}


class QuickLanguageModel(FakeLanguageModel):
    """Answers at random, a thousand questions at a time; the first choice is a little likelier with skill."""

    def loglikelihood(self, questions: Sequence[TokenQuestion]) -> tuple[tuple[float, ...], ...]:
        drawn = np.log(rng_for(0, self.salt).random((len(questions), 3)))
        drawn[:, 0] += 0.2 + self.skill
        return tuple(map(tuple, drawn.tolist()))


class QuickBackend(FakeBackend):
    """`FakeBackend` with a quick specialist."""

    def untuned(self, model: PreparedModel) -> FakeLanguageModel:
        return QuickLanguageModel(model.fingerprint, 0.0)

    def train(self, plan: TrainingPlan, **options: Any) -> FakeLanguageModel:
        trained = super().train(plan, **options)
        return QuickLanguageModel(trained.salt, trained.skill)


def write_study(folder: Path) -> Path:
    labels = ("bird", "fish", "tree")
    rows = [{"text": f"thing number {n} of its sort", "label": labels[n % 4 % 3]} for n in range(400 + ITEMS)]
    pools = {
        name: [{"prompt": f"Say the {name} word of row {n}.", "response": f"{name} {n}"} for n in range(400)]
        for name in ("general", "other")
    }
    for name, content in {"train": rows[:400], "test": rows[400:], **pools}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    target = {
        "train": "train.jsonl",
        "test": "test.jsonl",
        "instruction": "Name the kind.",
        "columns": {"text": "text", "label": "label"},
        "metric": "accuracy",
    }
    (folder / "toy-model").mkdir()
    study = {
        "name": "load",
        "model": "toy-model",
        "target": target,
        "generalist": {name: {"rows": f"{name}.jsonl"} for name in pools},
        "arms": ARMS,
        "training": {"passes": 4, "batch_rows": 8, "max_tokens": 400},
        "keep_weights": "none",
    }
    (folder / "study.yaml").write_text(json.dumps(study))
    return folder / "study.yaml"


def fill(design: Design, prepared: PreparedStudy, store: Store) -> None:
    backend = QuickBackend()
    for planned in design.distinct:
        job: RunJob = job_of(planned, prepared)
        do_run(job, store=store, backend=backend, decode=lambda _: "", emit=lambda _: None, stop=lambda: None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a command took: on the clock, of the processor, and the most memory."""

    wall_seconds: float
    processor_seconds: float
    peak_bytes: int


def titrant(folder: Path, *arguments: str) -> Cost:
    """Run the command line in a process of its own, with the real page; what it cost."""
    script = Path(__file__).parents[1] / "support" / "titrant_with_fakes.py"
    said = json.dumps({"prepared": str(folder / "prepared"), "real_page": True})
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(script), *arguments],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "TITRANT_TRIAL": said},
        cwd=folder,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return Cost(
        wall_seconds=time.monotonic() - started,
        processor_seconds=usage.ru_utime + usage.ru_stime,
        peak_bytes=usage.ru_maxrss * 1024,
    )


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_five_thousand_runs_are_reported_in_time_and_a_second_run_is_over_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Counter[str]
) -> None:
    study, out = write_study(tmp_path), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
        patch.setattr("os.fsync", lambda _: None)
        prepared = prepare_study(load_study(study))
        design = make_design(prepared)
        assert len(design.distinct) >= RUNS
        fill(design, prepared, Store.open(out))
    made = titrant(tmp_path, "report", str(study), "--out", str(out))
    assert (out / "report.html").stat().st_size < 8_000_000
    again = titrant(tmp_path, "run", str(study), "--out", str(out))
    for name, cost in (("report", made), ("nothing to do", again)):
        print(name, cost)
        tally[f"5,101 runs, {name}: wall milliseconds"] = round(1000 * cost.wall_seconds)
        tally[f"5,101 runs, {name}: processor milliseconds"] = round(1000 * cost.processor_seconds)
        tally[f"5,101 runs, {name}: peak MiB"] = cost.peak_bytes >> 20
    assert made.processor_seconds < REPORT_SECONDS
    assert again.processor_seconds < NOTHING_TO_DO_SECONDS
    assert max(made.peak_bytes, again.peak_bytes) < MEMORY_BYTES
