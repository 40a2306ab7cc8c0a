"""The page of staged studies that were really run: how each ended, what it spent, and what its verdict stands on."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from fake_study import fake_prepare
from staged_study import teaching_backend, write_staged

from titrant.config.study import load_study
from titrant.core.budget import parse_budget
from titrant.experiment.results import Judged, Results
from titrant.experiment.runner import run_study
from titrant.report.data import CurvePoint, ReportData
from titrant.report.forest import banded_by_contrasts, contrasts_by_arm
from titrant.report.presenter import StudyPresenter
from titrant.report.sections.page import report_data
from titrant.storage.store import Store

FIRM = {"4": 0.0, "8": 0.25}
GREY = {"4": -0.1, "8": 0.05}


@pytest.fixture(autouse=True)
def toy_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))


def run(folder: Path, *, budget: str | None = None, gains: dict[str, float] = FIRM, **said: Any) -> Results:
    return run_study(
        load_study(write_staged(folder / "study", **{"curves": "never", **said})),
        out=folder / "out",
        presenter=StudyPresenter(),
        backend=teaching_backend(gains=gains),
        budget=None if budget is None else parse_budget(budget),
    )


def page_of(folder: Path) -> str:
    """The text between the tags of the report."""
    page = (folder / "out" / "report.html").read_text()
    body = re.sub(r"<(script|style)>.*?</\1>", "", page, flags=re.DOTALL).replace("</dt>", ": ")
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", "", body)))


def share_of(judged: Judged) -> str:
    verdict = judged.verdict
    assert verdict.spent is not None
    assert verdict.grid_cost is not None
    return f"{verdict.spent.runs} runs, {verdict.spent.cost / verdict.grid_cost:.0%} of the grid’s tokens"


def test_a_firm_study_says_its_look_runs_and_share_of_the_grid(tmp_path: Path) -> None:
    results = run(tmp_path)
    page = page_of(tmp_path)
    assert f"firm at look 1 of 5, {share_of(results.judged[0])}" in page
    assert "Seeds: 2 to 3 a dose, of at most 8 " in page  # one dose was set aside at the screen
    assert "Seeds: 0, 1, 2 " in page
    assert "Look by look" in page
    assert "; provisional" not in page


def test_a_study_that_a_budget_ended_says_so(tmp_path: Path) -> None:
    results = run(tmp_path, gains=GREY, budget="17runs")
    page = page_of(tmp_path)
    look = results.judged[0].verdict.looks[-1].look
    assert f"ended by its budget at look {look} of 5, {share_of(results.judged[0])}" in page
    assert "Cannot tell yet" in page
    assert "The budget ended it at" in page


def test_a_protocol_that_changed_is_provisional_and_promises_no_level(tmp_path: Path) -> None:
    run(tmp_path)
    assert "these intervals no longer hold their level" not in page_of(tmp_path)
    results = run(tmp_path, smallest_effect=0.02)
    page = page_of(tmp_path)
    reason = "its level no longer holds: the smallest effect changed from 0.05 to 0.02 after a look at 3 seeds"
    assert f"{share_of(results.judged[0])}; provisional: its level no longer holds" in page
    assert f"Provisional because {reason}" in page
    assert "seeds that nobody has looked at" in page
    # What a page says of intervals elsewhere must not take the level for granted.
    assert "these intervals no longer hold their level" in page
    assert "the intervals allow for all looks together" not in page
    assert "The interval allows for the looks" not in page


def mean_at(point: CurvePoint, seeds: set[int]) -> float:
    return sum(one.value for one in point.by_seed if one.seed in seeds) / len(seeds)


def test_bands_of_a_staged_study_stand_on_the_seeds_that_both_arms_have(tmp_path: Path) -> None:
    results = run(tmp_path, gains=GREY)
    data: ReportData = report_data(results, Store(tmp_path / "out"))
    contrasts = contrasts_by_arm([data.verdict])
    (curve,) = [curve for curve in data.curves if curve.target_rows == 6 and curve.measure == "score"]
    (banded,) = banded_by_contrasts([curve], contrasts)
    raw = {point.arm: point for point in curve.points}
    assert len({point.seeds for point in raw.values()}) > 1, "arms with different seeds, or the test is of nothing"
    drawn = 0
    for point in banded.points:
        contrast = contrasts.get(point.arm)
        if contrast is None or point.low is None or point.high is None:
            continue
        drawn += 1
        estimate, base = contrast.difference, raw[contrast.baseline]
        shared = {one.seed for one in raw[point.arm].by_seed} & {one.seed for one in base.by_seed}
        assert len(shared) == estimate.n_seeds == point.seeds
        assert estimate.value is not None
        assert estimate.low is not None
        under = mean_at(base, shared)
        assert point.mean == pytest.approx(under + estimate.value)
        assert point.low == pytest.approx(under + estimate.low)
        assert point.base == (pytest.approx(under) if len(shared) < base.seeds else None)
    assert drawn
