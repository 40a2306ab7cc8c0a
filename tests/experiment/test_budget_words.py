"""Before a budget is spent: what it can tell, and what the user's own question would cost at all target rows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fake_study import fake_prepare, page_as_text
from staged_study import teaching_backend, write_staged

from titrant.config.study import load_study
from titrant.core.budget import parse_budget
from titrant.engines import LocalEngine
from titrant.experiment.budget_words import budget_lines
from titrant.experiment.design import Design, make_design
from titrant.experiment.prepare import prepare_study
from titrant.experiment.runner import Callbacks, run_study
from titrant.experiment.speed import Speed
from titrant.report.presenter import StudyPresenter

SPEED = Speed(training_rate=1000.0, answer_rate=4000.0, run_seconds=1.0, memory_bytes=7)


@pytest.fixture(autouse=True)
def toy_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TITRANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("titrant.report.page.render", page_as_text)
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))


@pytest.fixture
def design(tmp_path: Path) -> Design:
    return make_design(prepare_study(load_study(write_staged(tmp_path / "study", test=240))))


def _told_gain(line: str) -> float:
    return float(re.search(r"tells a gain of (0\.\d+) at 6 target rows", line)[1])  # type: ignore[index]


def test_more_runs_pay_for_more_seeds_and_tell_smaller_gains(design: Design) -> None:
    small, large = (budget_lines(design, parse_budget(text), speed=None, jobs=1) for text in ("14runs", "33runs"))
    assert small[0].startswith("14runs pays for 3 seeds of every arm and tells a gain of ")
    assert large[0].startswith("33runs pays for 8 seeds of every arm and tells a gain of ")
    assert _told_gain(large[0]) < _told_gain(small[0])
    assert "where one gains 0.1 (assumed variances)" in small[0]
    # What all rows cost hangs on no budget.
    assert small[1] == large[1]
    assert re.search(
        r"^an effect of 0\.05 at all 12 target rows (would take about [\d,]+ tokens|is not likely)", small[1]
    )


def test_minutes_are_of_this_machine_and_shared_by_its_workers(design: Design) -> None:
    one, two = (budget_lines(design, parse_budget("60m"), speed=SPEED, jobs=jobs) for jobs in (1, 2))
    assert "minutes on this machine" in one[1] or "not likely" in one[1]
    minutes = [re.search(r"([\d,]+) minutes", lines[1]) for lines in (one, two)]
    if all(minutes):
        first, second = (float(found[1].replace(",", "")) for found in minutes if found)
        assert second == pytest.approx(first / 2, abs=1)


def test_a_budget_below_the_first_look_is_said_to_be_with_what_it_takes(design: Design) -> None:
    (first, _) = budget_lines(design, parse_budget("5runs"), speed=None, jobs=1)
    assert first == "5runs ends before the first look, which takes about 13 runs"


def test_run_says_it_before_it_starts(tmp_path: Path) -> None:
    said: list[str] = []
    events: list[int] = []
    reporter = Callbacks(say=said.append, event=lambda _: events.append(len(said)))
    run_study(
        load_study(write_staged(tmp_path / "study")),
        out=tmp_path / "out",
        presenter=StudyPresenter(),
        engine=LocalEngine(jobs=0),
        backend=teaching_backend(gains={"8": 0.25}),
        budget=parse_budget("40runs"),
        reporter=reporter,
    )
    place = next(index for index, line in enumerate(said) if line.startswith("40runs pays for"))
    assert place < events[0]
    assert said[place + 1].startswith("an effect of 0.05 at all 12 target rows")
