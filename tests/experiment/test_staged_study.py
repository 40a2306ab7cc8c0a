"""A study that runs until its verdict is firm: what it runs, when it stops, and that nothing but its scores decide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_study import fake_prepare, page_as_text, trainings
from staged_study import teaching_backend, write_staged

from titrant.api import run_study
from titrant.config.study import load_study
from titrant.experiment.results import Results
from titrant.storage.store import read_json

GAIN = {"4": 0.1, "8": 0.25}


@pytest.fixture(autouse=True)
def toy_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("titrant.report.page.render", page_as_text)
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))


def run(study: Path, out: Path, *, jobs: int = 0, budget: Any = None, **backend: Any) -> Results:
    spec = teaching_backend(**{"gains": GAIN, **backend})
    return run_study(load_study(study), out=out, jobs=jobs, backend=spec, budget=budget)


def test_it_stops_when_the_verdict_is_firm_and_says_what_it_spent(tmp_path: Path) -> None:
    results = run(write_staged(tmp_path / "study"), tmp_path / "out", log=str(tmp_path / "log"))
    verdict = results.judged[0].verdict
    assert (verdict.word, verdict.arm, verdict.ended, verdict.provisional) == ("mix", "6+general:8", "firm", False)
    assert [look.seeds for look in verdict.looks] == [3]
    assert verdict.spent is not None
    assert verdict.grid_cost is not None
    assert verdict.spent.cost < 0.5 * verdict.grid_cost
    said = read_json(tmp_path / "out" / "verdict.json")
    assert said["staged"]["ended"] == "firm"
    assert said["failed_runs"] == []
    print(json.dumps(said["staged"], indent=1))
    print(trainings(tmp_path / "log"))
