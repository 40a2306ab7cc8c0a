"""What averaging weights changes is measured on the same runs, from outside, by a test that knows equal variances."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
STUDY = """
name: small
model: {model}
target:
  train: "pack:triage.train.jsonl"
  test: "pack:triage.test.jsonl"
  test_items: 4
  instruction: "Which?"
  columns: {{text: message, label: action}}
  metric: graded
  answer: choices
generalist:
  general: {{rows: "pack:general.jsonl", licence: MIT}}
arms: {{target_rows: [6], doses: {{general: [2]}}, seeds: 3, generalist_alone: false, matched: false}}
training:
  {{method: full, passes: 4, learning_rate: 1.0e-2, schedule: constant, batch_rows: 3, max_tokens: 400, too_long: drop}}
keep_weights: none
"""


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module("average_last")
    finally:
        sys.path.pop(0)


@pytest.mark.slow
def test_both_weights_of_the_same_runs_are_compared(
    benchmark: ModuleType,
    make_toy_folder: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TITRANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(benchmark.FOLDER, "")
    study = tmp_path / "study.yaml"
    study.write_text(STUDY.format(model=make_toy_folder(tmp_path / "toy")))
    found = benchmark.run(study, seeds=3, out=tmp_path / "out")
    assert sorted(found) == ["6", "6+general:2", "6+general:2 minus 6"]
    assert len(list((tmp_path / "out" / "answers").iterdir())) == 6
    last, averaged = (
        benchmark.seed_means(tmp_path / "out" / name / "scores.parquet", seeds=3)
        for name in ("LastWeights", "AveragedWeights")
    )
    for arm in ("6", "6+general:2"):
        # At a constant rate the mean of two steps' weights answers otherwise than the last, and not by far.
        gaps = np.abs(last[arm] - averaged[arm])
        assert (gaps > 0).all()
        assert (gaps < 0.3).all()


def test_the_mean_of_weights_is_that_of_the_last_steps(benchmark: ModuleType) -> None:
    import torch

    averages, weights = benchmark.Averages(first_step=3), SimpleNamespace()
    for step, value in enumerate((8.0, 8.0, 1.0, 2.0, 6.0), start=1):
        weights.steps_taken, weights.masters = step, {"w": torch.full((2,), value)}
        averages.add(weights)
    assert averages.count == 3
    assert averages.mean["w"].tolist() == pytest.approx([3.0, 3.0])


@pytest.mark.parametrize("ratio", [0.25, 1.0, 2.0])
def test_the_interval_of_a_variance_ratio_holds_it_in_95_percent(benchmark: ModuleType, ratio: float) -> None:
    rng = np.random.default_rng(3)
    held = []
    for _ in range(500):
        last = rng.standard_normal(12)
        averaged = np.sqrt(ratio) * (0.8 * last + 0.6 * rng.standard_normal(12))
        found = benchmark.pitman_morgan(last, averaged)
        held.append(found.low <= ratio <= found.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.03)
