"""What a study would take that stops when firm, from its own arms and costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fake_study import fake_prepare, write_study

from titrant.cli.plan import staged_lines
from titrant.config.study import load_study
from titrant.experiment.design import Design, make_design
from titrant.experiment.forecast import outlook
from titrant.experiment.prepare import prepare_study
from titrant.experiment.speed import Speed
from titrant.experiment.staged_forecast import family_costs, staged_outlook
from titrant.stats.power import Components

SPEED = Speed(training_rate=100.0, answer_rate=400.0, run_seconds=3.0, memory_bytes=7)


@pytest.fixture
def design(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Design:
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    arms = {"target_rows": [6, 12], "doses": {"general": [8, 4]}, "seeds": 3}
    return make_design(prepare_study(load_study(write_study(tmp_path / "study", arms=arms))))


def test_the_family_is_what_the_verdict_reads_with_what_runs_take(design: Design) -> None:
    found = family_costs(design, "toy-model", "toy")
    assert [arm.name for arm in found.arms] == ["12", "12-matched", "12+general:4", "12+general:8"]
    runs = [design.cell(arm, 0) for arm in found.arms]
    assert found.tokens == tuple(planned.run.tokens + planned.requests.tokens for planned in runs)
    plain = runs[0]
    seconds = plain.run.tokens / 100 + plain.requests.tokens / 400 + 3
    assert found.seconds(SPEED)[0] == pytest.approx(seconds)


def test_worlds_cost_between_the_first_look_and_the_grid(design: Design) -> None:
    entry = outlook(design, "toy-model", "toy")
    found = staged_outlook(design, entry, most=8, speed=SPEED, jobs=2)
    each = family_costs(design, "toy-model", "toy")
    assert found.grid_tokens == 8 * sum(each.tokens)
    assert [world.name for world in found.worlds] == ["no effect", "δ", "2δ", "4δ", "harm of 2δ"]
    for world in found.worlds:
        assert 3 * min(each.tokens) < world.expected_tokens <= world.largest_tokens <= found.grid_tokens
        assert world.minutes is not None
        assert world.minutes == pytest.approx(world.runs * sum(each.seconds(SPEED)) / 4 / 60 / 2, rel=0.3)
    untuned, alone = (next(arm for arm in design.arms if arm.kind == kind) for kind in ("untuned", "generalist_alone"))
    assert found.beside_tokens > design.cell(untuned, 0).requests.tokens + design.cell(alone, 0).run.tokens
    unknown = staged_outlook(design, entry, most=8)
    assert [world.minutes for world in unknown.worlds] == [None] * 5
    assert [replace(world, minutes=None) for world in found.worlds] == list(unknown.worlds)


def test_less_variance_costs_less_and_the_table_says_whose_variances_they_are(design: Design) -> None:
    pilot = Components(item=0.001, seed=1e-5, error=0.001, origin="pilot")
    entry = outlook(design, "toy-model", "toy", pilot=pilot)
    sure = staged_outlook(design, entry, most=8)
    vague = staged_outlook(design, outlook(design, "toy-model", "toy"), most=8)
    assert sure.worlds[0].expected_tokens < vague.worlds[0].expected_tokens
    assert sure.smallest_found is not None
    lines = staged_lines(sure, design.prepared.study)
    assert "at 12 target rows of toy, at most 8 seeds, δ = 0.05, 20 items, pilot variances" in lines[0]
    assert lines[1].split() == ["if", "the", "truth", "is", "tokens,", "on", "average", "largest", "firm"]
    assert f"at most {sure.grid_tokens:,} tokens; a gain of {sure.smallest_found:.2g} is found in 80%" in lines[-1]
