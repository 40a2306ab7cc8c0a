"""What a decision is made from: the two lines, the forest beside them, the looks, and what is folded away."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from staged_report import staged_report

from titrant.report.data import NOT_RUN, ReportData, SetAside, Stages
from titrant.report.figures import dose_response
from titrant.report.forest import banded_by_contrasts, contrasts_by_arm, forest_of, sizes_by_contrasts
from titrant.report.headline import EARLY_STOP_CAUTION, aside_words, evidence_line, headline, stages_line
from titrant.report.ladder_figure import ladder_figure
from titrant.report.page import render
from titrant.report.tables import fairness_table, retention_table, size_table

HOSTILE = (
    "</script><script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1>",
    "{{7*7}}{% raw %}",
    "</svg></bdi></figure>",
)


def text_of(page: str) -> str:
    """The text between the tags."""
    body = re.sub(r"<(script|style)>.*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", "", body)))


def test_the_two_lines_say_what_to_do_and_the_number_that_decides(filled: ReportData, sparse: ReportData) -> None:
    assert headline(filled.verdict) == "Mix in 352 rows of general"
    said = "accuracy +0.061 (+0.016 to +0.106) against training alone with as many steps; 0.050 matters"
    assert evidence_line(filled.verdict, metric="accuracy") == said
    assert headline(sparse.verdict) == "Cannot tell yet"
    assert "(no interval)" in evidence_line(sparse.verdict, metric="rouge_l")
    assert "No dose" in evidence_line(replace(sparse.verdict, contrasts=()), metric="rouge_l")


def test_the_forest_holds_every_contrast_with_the_fair_baseline_first(filled: ReportData) -> None:
    forest = forest_of(filled.verdict)
    assert forest is not None
    assert [group.heading for group in forest.groups] == [
        "against training alone with as many steps",
        "against training alone",
    ]
    lines = [line for group in forest.groups for line in group.lines]
    assert [line.standing for line in lines] == ["open", "above", "open", "above"]
    assert [line.chosen for line in lines] == [False, True, False, True]
    assert forest.zone_low < forest.zero < forest.zone_high
    assert all(0 <= place <= 100 for line in lines for place in (line.low, line.value, line.high) if place is not None)
    assert 3 <= len(forest.ticks) <= 7
    assert "0" in [tick.label for tick in forest.ticks]


@pytest.mark.parametrize(
    ("gains", "matched", "luck", "word"),
    [
        ({352: 0.005}, 0.005, (1, 0.018), "no_difference"),
        ({96: 0.01, 192: 0.006}, 0.004, (3, 0.012), "no_difference"),
        ({96: 0.01, 192: 0.006}, 0.004, (3, 0.018), "train_alone"),
        ({192: 0.04, 352: 0.045}, 0.045, (1, 0.018), "train_alone"),
        ({96: -0.02, 192: -0.06, 352: 0.0}, 0.02, (1, 0.018), "train_alone"),
        ({96: 0.03, 192: 0.075}, 0.01, (1, 0.018), "mix"),
    ],
)
def test_lines_show_what_the_rule_decided_by(
    make_filled: Callable[..., ReportData],
    gains: dict[int, float],
    matched: float,
    luck: tuple[int, float],
    word: str,
) -> None:
    """The rule reads bounds of single contrasts beside those for all doses at once: a firm verdict has no open line
    that it stands on."""
    verdict = staged_report(make_filled(items=10), gains=gains, matched=matched, number=luck[0], spread=luck[1]).verdict
    assert verdict.verdict == word
    forest = forest_of(verdict)
    assert forest is not None
    shown = {line.standing for group in forest.groups for line in group.lines}
    if word == "no_difference":
        assert shown <= {"inside", "slightly_above", "slightly_below"}
    elif word == "train_alone":
        assert "open" not in shown
    else:
        lines = [line for group in forest.groups for line in group.lines if line.chosen]
        assert {line.standing for line in lines} <= {"above", "slightly_above"}
    assert forest.has_single_bounds


def test_a_line_that_only_the_bounds_alone_decide_says_so(filled: ReportData) -> None:
    first = filled.verdict.contrasts[0]
    wide = replace(
        first, dose=None, source=None, difference=replace(first.difference, value=0.01, low=-0.06, high=0.06)
    )
    lines = [replace(wide, arm=arm, low_90=low, high_90=high, high_95=top) for arm, low, high, top in BOUNDS]
    lines.append(replace(lines[2], arm="under its right edge", baseline="160-matched", high_95=0.049))
    lines.append(replace(lines[2], arm="both", baseline="160-matched", high_95=0.049))
    lines.append(replace(lines[2], arm="both"))
    forest = forest_of(replace(filled.verdict, contrasts=tuple(lines), arm=None))
    assert forest is not None
    matched, plain = ({line.name: line.standing for line in group.lines} for group in forest.groups)
    assert matched == {"under its right edge": "ruled_out", "both": "ruled_out"}
    assert plain == {
        "inside the zone": "inside",
        "under its right edge": "ruled_out",
        "over it": "open",
        "not said": "open",
        "both": "other",
    }


BOUNDS: list[tuple[str, float | None, float | None, float | None]] = [
    ("inside the zone", -0.04, 0.04, 0.055),
    ("under its right edge", -0.055, 0.045, 0.055),
    ("over it", -0.055, 0.055, 0.058),
    ("not said", None, None, None),
]


def test_what_no_look_has_read_has_an_estimate_and_no_interval(filled: ReportData) -> None:
    first, *rest = filled.verdict.contrasts
    unread = replace(first, difference=replace(first.difference, low=-1.0, high=1.0))
    verdict = replace(filled.verdict, contrasts=(unread, *rest))
    forest = forest_of(verdict)
    assert forest is not None
    line = forest.groups[1].lines[0]
    assert (line.standing, line.low, line.high) == ("unread", None, None)
    assert "−1.000" not in render(replace(filled, verdict=verdict, training=(), retention=(), comparison=None))


def test_the_forest_is_read_aloud_as_text_and_hostile_names_stay_text(filled: ReportData) -> None:
    contrasts = tuple(
        replace(contrast, source=HOSTILE[n], arm=HOSTILE[n]) for n, contrast in enumerate(filled.verdict.contrasts)
    )
    page = render(replace(filled, verdict=replace(filled.verdict, contrasts=contrasts, arm=HOSTILE[0])))
    assert page.count("<script") == 1
    assert "<img" not in page
    assert HOSTILE[1] in text_of(page)
    assert "+0.061 (+0.016 to +0.106): better" in text_of(render(filled))


def test_a_staged_study_says_where_it_stopped_and_what_it_spent(staged: ReportData) -> None:
    assert staged.stages is not None
    line = stages_line(staged.stages, provisional=False)
    assert re.fullmatch(r"firm at look \d of 9, \d+ runs, \d+% of the grid’s tokens", line)
    page = render(staged)
    text = text_of(page)
    assert line in text
    assert "Look by look" in text
    assert "Arms set aside" in text
    assert "too large on average" in text
    assert "Look by look" not in text_of(render(replace(staged, stages=None)))


def test_a_grid_whose_level_is_lost_promises_none_for_its_intervals(filled: ReportData) -> None:
    reasons = ("its level no longer holds: judged at 3 seeds before, and now at 5",)
    bare = replace(filled, training=(), retention=(), comparison=None)
    lost = text_of(
        render(replace(bare, verdict=replace(filled.verdict, provisional=True, provisional_reasons=reasons)))
    )
    assert "for all doses at once (made for this level, which no longer holds)" in lost
    assert "holding for all doses at once" not in lost
    assert "holding for all doses at once" in text_of(render(bare))


def test_the_caution_quotes_what_the_simulation_found_and_under_which_condition() -> None:
    kept = Path(__file__).parents[2] / "benchmarks" / "results" / "early-stops.json"
    rows = {row["gain"]: row for row in json.loads(kept.read_text())["rows"]}
    for gain in (0.03, 0.06):
        row = rows[gain]
        assert f"{row['ways']['quoted']['mean']:.3f} ({row['early']:.0%}" in EARLY_STOP_CAUTION
    assert "that stopped early with mix" in EARLY_STOP_CAUTION


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        ("given_up", "given up at look"),
        ("last_look", "open after the last look"),
        ("budget", "ended by its budget at look"),
        (None, "under way, at look"),
    ],
)
def test_every_end_has_its_words(staged: ReportData, ended: str | None, expected: str) -> None:
    assert staged.stages is not None
    stages = replace(staged.stages, ended=ended)  # type: ignore[arg-type]
    assert stages_line(stages, provisional=True).startswith(expected)
    assert stages_line(stages, provisional=True).endswith("provisional")


def test_arms_set_aside_are_said_with_their_reason() -> None:
    assert aside_words(SetAside(arm="a", reason="ruled_out", look=3)) == "ruled out at look 3"
    assert aside_words(SetAside(arm="a", reason="waiting")).startswith("waiting")
    assert "no open claim needed it" in aside_words(SetAside(arm="a", reason="baseline_not_needed"))


def test_the_looks_are_drawn_a_panel_a_dose_with_every_interval_told(staged: ReportData) -> None:
    assert staged.stages is not None
    figure = ladder_figure(staged.stages, smallest_effect=0.03)
    assert figure is not None
    panels = {panel.heading: panel.alt for panel in figure.panels}
    assert set(panels) <= {f"{dose} rows of general" for dose in (48, 192, 352)}
    assert any("look 1, 3 seeds, against training alone" in alt for alt in panels.values())
    empty = Stages(ladder=(3, 4), looks=(), runs=4, cost=4.0, grid_cost=20.0, ended=None)
    assert ladder_figure(empty, smallest_effect=0.03) is None


def test_bands_are_of_contrasts_and_never_of_single_arms(filled: ReportData) -> None:
    curve = next(c for c in filled.curves if c.target_rows == 160 and c.measure == "score")
    (banded,) = banded_by_contrasts([curve], contrasts_by_arm([filled.verdict]))
    points = {point.arm: point for point in banded.points}
    assert points["160"].low is None
    assert points["160-matched"].low is None
    assert points["160+general-352"].low == pytest.approx(0.731 + 0.016)
    assert points["160+general-352"].high == pytest.approx(0.731 + 0.106)


def test_a_part_that_knows_nothing_is_one_line_with_its_reason(filled: ReportData) -> None:
    reason = "one target size has no curve to read from"
    silent = tuple(replace(row, rows=None, reason=reason) for row in filled.exchange * 3)
    text = text_of(render(replace(filled, exchange=silent, training=(), retention=(), comparison=None)))
    assert text.count(reason) == 1
    assert f"What a dose is worth Not known: {reason}" in text


def test_a_card_that_knows_nothing_is_one_line_with_its_reason(sparse: ReportData, filled: ReportData) -> None:
    cards = cards_of(render(replace(sparse, failures=(), thresholds=(), changes=(), skills=(), laws=())))
    reasons = {
        "size": "fewer than two target sizes have scores",
        "kept": "names neither retention.kept nor retention.learned",
        "won": "has no complete seed beside its baseline",
        "training": "no training log was recorded",
    }
    for name, reason in reasons.items():
        assert "one-line" in cards[name].split(">")[0]
        assert reason in text_of(f"<{cards[name]}")
        assert cards[name].count("<p") == 1
    assert "one-line" not in cards_of(render(sparse))["training"]  # a run failed: that is something to know
    assert not any("one-line" in card for card in cards_of(render(replace(filled, comparison=None))).values())


def cards_of(page: str) -> dict[str, str]:
    """The sections of the page by id."""
    found = re.findall(r'<(section id="([a-z]+)" .*?)</section>', page, flags=re.DOTALL)
    return {name: text for text, name in found}


def test_what_no_arm_has_kept_is_no_column_of_unknowns(filled: ReportData) -> None:
    silent = tuple(replace(row, learned=None, reason="the study names no held-out rows") for row in filled.retention)
    table = retention_table(silent)
    assert [column.title for column in table.columns] == ["arm", "recipe", "gain on the target", "kept", "interval"]
    assert table.remark is not None
    assert "what was learned" in table.remark
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_sizes_have_bands_of_contrasts_and_no_interval_of_one_arm_at_two_seeds(filled: ReportData) -> None:
    curves = [curve for curve in filled.curves if curve.measure == "score"]
    banded = banded_by_contrasts(curves, contrasts_by_arm([filled.verdict]))
    plain, _, dosed = sizes_by_contrasts(filled.sizes, banded)
    assert all(point.low is None for point in plain.points)
    assert [point.low is None for point in dosed.points] == [True, False]  # only 160 rows have contrasts here
    assert dosed.points[1].low == pytest.approx(0.731 + 0.016)
    two = tuple(replace(c, points=tuple(replace(p, seeds=2) for p in c.points)) for c in filled.sizes)
    assert {row[3].text for row in size_table(two, ()).rows} == {""}
    assert "" not in {row[3].text for row in size_table(filled.sizes, ()).rows}


def test_arms_and_sizes_that_were_never_run_take_one_line_and_no_panel(filled: ReportData) -> None:
    unrun = replace(filled.fairness[0], arm="48-never", seeds=0, steps=None, tokens=None, reason=NOT_RUN)
    table = fairness_table((*filled.fairness, unrun, replace(unrun, arm="48-neither")))
    assert len(table.rows) == len(filled.fairness)
    assert table.remark == "Without a run: 48-never, 48-neither (no run of this arm has a score)"
    empty = tuple(
        replace(
            c, points=tuple(replace(p, mean=None, low=None, high=None, by_seed=(), reason=NOT_RUN) for p in c.points)
        )
        if c.target_rows == 48
        else c
        for c in filled.curves
    )
    figure = dose_response(empty, measure="score")
    assert figure is not None
    assert [panel.heading for panel in figure.panels] == ["160 target rows"]
