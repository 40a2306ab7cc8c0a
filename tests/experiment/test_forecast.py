"""What a study will cost: counted from the plan, priced by a few measured steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_study import fake_prepare, trial_backend, write_study

import titrant.experiment.speed
from titrant.config.study import load_study
from titrant.experiment.design import Design, make_design
from titrant.experiment.forecast import forecast_cost, outlook, pilot_variances
from titrant.experiment.prepare import prepare_study
from titrant.experiment.runner import job_of
from titrant.experiment.speed import Speed
from titrant.experiment.work import open_runs
from titrant.storage.store import Store


@pytest.fixture
def design(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Design:
    """A small study's design; measuring happens in this process, and what is measured is kept beside it."""
    monkeypatch.setenv("TITRANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    execute = titrant.experiment.speed.execute

    def here(*arguments: Any, **options: Any) -> None:
        execute(*arguments, **{**options, "processes": 0})

    monkeypatch.setattr("titrant.experiment.speed.execute", here)
    return make_design(prepare_study(load_study(write_study(tmp_path / "study"))))


def test_what_is_left_is_counted_and_what_is_done_is_not(design: Design) -> None:
    all_runs = open_runs([design], None)
    everything = forecast_cost(design, jobs=1, left=all_runs)
    assert everything.runs == 9
    assert everything.training_tokens == sum(planned.run.tokens for planned in design.distinct)
    assert everything.answer_tokens == sum(planned.requests.tokens for planned in design.distinct)
    assert (everything.minutes, everything.memory_bytes) == (None, None)
    first = design.distinct[0]
    left = forecast_cost(design, jobs=1, left=all_runs[1:])
    assert left.runs == 8
    assert left.training_tokens == everything.training_tokens - first.run.tokens
    done = forecast_cost(design, jobs=1, left=())
    assert (done.runs, done.training_tokens, done.answer_tokens) == (0, 0, 0)


def test_minutes_follow_from_measured_speed_and_halve_with_two_jobs(design: Design) -> None:
    speed = Speed(training_rate=100.0, answer_rate=400.0, run_seconds=3.0, memory_bytes=7)
    left = open_runs([design], None)
    one, two = (forecast_cost(design, jobs=jobs, left=left, speed=speed) for jobs in (1, 2))
    assert one.minutes == pytest.approx((one.training_tokens / 100 + one.answer_tokens / 400 + 9 * 3.0) / 60)
    assert two.minutes == pytest.approx(one.minutes / 2)
    assert one.memory_bytes == 7


def test_an_outlook_says_what_the_design_can_find(design: Design) -> None:
    found = outlook(design, "toy-model", "toy")
    assert (found.target_rows, found.seeds, found.items, found.doses) == (6, 2, 20, 1)
    assert found.components.origin == "assumed"
    larger = found.prospects.smallest_detectable
    assert larger is None or larger > design.prepared.study.smallest_effect
    assert found.cheapest is None or found.cheapest.design.items >= found.items


def test_runs_that_are_stored_are_a_pilot_whose_variances_the_outlook_takes(design: Design, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "out")
    assert pilot_variances(design, store, "toy-model", "toy") is None
    jobs = [job_of(planned, design.prepared) for planned in design.distinct]
    titrant.experiment.speed.execute(jobs, root=store.root, backend=trial_backend())
    pilot = pilot_variances(design, store, "toy-model", "toy")
    assert pilot is not None
    assert pilot.origin == "pilot"
    assert min(pilot.item, pilot.seed, pilot.error) >= 0
    assert outlook(design, "toy-model", "toy", pilot=pilot).components == pilot
