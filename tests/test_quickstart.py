"""The quickstart decides: its protocol on kept scores of its own arms, in random orders of their seeds."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from titrant.config.study import load_study
from titrant.decision.staged import judge_staged

ROOT = Path(__file__).resolve().parent.parent
STUDY = ROOT / "studies" / "quickstart.yaml"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """The benchmark's module; it lies beside the package."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module("quickstart_decides")
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="module")
def studies(benchmark: ModuleType) -> dict:
    most = len(load_study(STUDY).arms.seeds)
    return benchmark.summary(benchmark.outcomes(benchmark.read_kept(), orders=100, most=most))


def test_three_studies_in_four_are_firm(studies: dict) -> None:
    assert studies["firm_percent"] >= 75


def test_no_study_takes_more_than_19_runs_or_200_000_training_tokens(studies: dict) -> None:
    assert studies["runs"]["largest"] <= 19
    assert studies["training_tokens"]["largest"] <= 200_000


def test_kept_runs_are_those_of_the_quickstart(benchmark: ModuleType) -> None:
    # Everything but the number of seeds, and when to stop: else the shares are about another study.
    shipped, kept = load_study(STUDY), load_study(ROOT / "benchmarks" / "data" / "quickstart-seeds.yaml")
    parts = ("models", "targets", "generalist", "training", "hold_equal", "loss_weight", "template", "smallest_effect")
    assert {part: getattr(shipped, part) for part in parts} == {part: getattr(kept, part) for part in parts}
    same = {"seeds": (), "generalist_alone": False}
    assert shipped.arms.model_copy(update=same) == kept.arms.model_copy(update=same)
    assert len(benchmark.read_kept().seeds) >= len(shipped.arms.seeds)


def test_the_readme_shows_what_the_first_seeds_say(benchmark: ModuleType) -> None:
    seeds, kept = load_study(STUDY).arms.seeds, benchmark.read_kept()
    found = judge_staged(benchmark.protocol_of(kept, seeds), benchmark.scores_of(kept, seeds))
    assert found.verdict is not None
    shown = (ROOT / "README.md").read_text()
    assert f"\n{found.verdict.sentence}\n" in shown
    assert f"look {found.look} of {found.looks}, {found.seeds} seeds: train alone after {found.runs} runs" in shown


def test_a_quickstart_of_noise_would_be_seen(benchmark: ModuleType) -> None:
    # Seeds that say the opposite of each other by more than what matters: nothing may come out firm.
    kept = benchmark.read_kept()
    dose = [key for key in kept.columns if key[0] == kept.dose]
    columns = dict(kept.columns)
    for place, key in enumerate(sorted(dose, key=lambda key: key[1])):
        scores = [min(max(score + (0.4 if place % 2 else -0.4), 0.0), 1.0) for score in kept.columns[key]["score"]]
        columns[key] = {**kept.columns[key], "score": scores}
    noisy = benchmark.Kept(columns=columns, seeds=kept.seeds, tokens=kept.tokens, dose=kept.dose)
    most = len(load_study(STUDY).arms.seeds)
    assert benchmark.summary(benchmark.outcomes(noisy, orders=20, most=most))["firm_percent"] < 75
