"""A store of 5,000 runs × 1,000 items: the second run is over at once, and the report is made in time and memory.

Built without the disk's patience (no fsync) and without a model; everything that reads is the real thing. Seconds are
of the processor, which one thread of work takes alike on a busy machine and on a quiet one.
"""

from __future__ import annotations

import gc
import json
import resource
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from titrant.engines import LabSpec, RunJob
from titrant.engines.job import do_run
from titrant.identity import rng_for
from titrant.lab import FakeLab, FakeSpecialist
from titrant.records import PreparedModel, TokenQuestion, TrainingPlan
from titrant.store import Store
from titrant.study.bench import Bench, read_bench
from titrant.study.design import Design, make_design
from titrant.study.runner import finish, job_of, run_study
from titrant.study.spec import load_study

RUNS, ITEMS, SEEDS = 5_000, 1_000, 50
NOTHING_TO_DO_SECONDS, REPORT_SECONDS, MEMORY_BYTES = 3.0, 60.0, 2 << 30
ARMS = {
    "target_rows": [32, 64, 128, 192, 256],
    "doses": {name: [16, 32, 48, 64, 96, 128, 192, 256, 352] for name in ("general", "other")},
    "seeds": SEEDS,
}


class QuickSpecialist(FakeSpecialist):
    """Answers at random, a thousand questions at a time; the first choice is a little likelier with skill."""

    def choose(self, questions: Sequence[TokenQuestion]) -> tuple[tuple[float, ...], ...]:
        drawn = np.log(rng_for(0, self.salt).random((len(questions), 3)))
        drawn[:, 0] += 0.2 + self.skill
        return tuple(map(tuple, drawn.tolist()))


class QuickLab(FakeLab):
    """`FakeLab` with a quick specialist."""

    def untuned(self, model: PreparedModel) -> FakeSpecialist:
        return QuickSpecialist(model.fingerprint, 0.0)

    def train(self, plan: TrainingPlan, **options: Any) -> FakeSpecialist:
        trained = super().train(plan, **options)
        return QuickSpecialist(trained.salt, trained.skill)


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


def fill(design: Design, bench: Bench, store: Store) -> None:
    lab = QuickLab()
    for planned in design.distinct:
        job: RunJob = job_of(planned, bench)
        do_run(job, store=store, lab=lab, decode=lambda _: "", emit=lambda _: None, stop=lambda: None)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_five_thousand_runs_are_reported_in_time_and_a_second_run_is_over_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_study: Any
) -> None:
    study = write_study(tmp_path)
    model = toy_study.bench.models["toy-model"].model
    monkeypatch.setattr("titrant.study.bench.prepare", lambda spec, **_: replace(model, name=Path(spec).name))
    monkeypatch.setattr("os.fsync", lambda _: None)
    lab = LabSpec(module="titrant.lab", name="FakeLab")
    bench = read_bench(load_study(study))
    design = make_design(bench)
    assert len(design.distinct) >= RUNS
    store = Store.open(tmp_path / "out")
    fill(design, bench, store)

    started = time.process_time()
    results = finish(make_design(read_bench(load_study(study))), store)
    report_seconds = time.process_time() - started
    assert len(results.scores) == len(design.distinct) * ITEMS * 2
    assert (store.root / "report.html").stat().st_size < 8_000_000
    del results, design, bench
    gc.collect()

    started = time.process_time()
    again = run_study(load_study(study), out=tmp_path / "out", jobs=0, lab=lab)
    nothing_to_do_seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    said = f"report {report_seconds:.1f} s, nothing to do {nothing_to_do_seconds:.2f} s, peak {peak / 2**20:.0f} MiB"
    print(said)
    assert again.failed == ()
    assert report_seconds < REPORT_SECONDS, said
    assert nothing_to_do_seconds < NOTHING_TO_DO_SECONDS, said
    assert peak < MEMORY_BYTES, said
