"""Advice before training: priors with their sources, never numbers, and a pilot that the power figures stand behind."""

from __future__ import annotations

import re

import pytest

from titrant.decision.expectation import DONG, GEKHMAN, SHI, advise
from titrant.stats.power import Components, Costs, PowerDesign, good_enough

ASK = {"target_rows": 256, "doses": (0, 128, 384), "smallest_effect": 0.05, "items": 400}


def test_a_broad_target_that_needs_understanding_may_expect_a_gain() -> None:
    found = advise(**ASK, breadth="broad", skill="understanding")
    assert found.expectation == "gain"
    assert {prior.source for prior in found.priors} == {SHI, DONG}


def test_a_target_that_needs_facts_is_warned_even_when_broad() -> None:
    found = advise(**ASK, breadth="broad", skill="facts")
    assert found.expectation == "loss_possible"
    assert GEKHMAN in {prior.source for prior in found.priors}
    assert "breadth speaks for one" in found.sentence


@pytest.mark.parametrize("breadth", [None, "narrow"])
def test_where_nothing_is_published_the_answer_is_open(breadth) -> None:
    assert advise(**ASK, breadth=breadth).expectation == "open"


@pytest.mark.parametrize("breadth", [None, "narrow", "broad"])
@pytest.mark.parametrize("skill", [None, "understanding", "reasoning", "facts"])
def test_a_prior_is_never_presented_as_a_measurement(breadth, skill) -> None:
    """No number stands in a prior, each names its paper, and the caution is always there."""
    found = advise(**{**ASK, "doses": ()}, breadth=breadth, skill=skill)
    for prior in found.priors:
        assert re.search(r"\d", prior.text) is None
        assert re.fullmatch(r"\d{4}\.\d{5}", prior.source.arxiv)
    assert re.search(r"\d", found.sentence) is None
    assert "None of this was measured" in found.caution


def test_the_pilot_is_a_design_that_settles_the_question() -> None:
    parts = Components(item=0.02, seed=0.0002, error=0.03, origin="pilot")
    costs = Costs(training_tokens_per_seed=90_000, answer_tokens_per_item=60, tokens_per_minute=30_000)
    pilot = advise(**ASK, components=parts, costs=costs).pilot
    design = PowerDesign(
        seeds=pilot.seeds, items=pilot.items, doses=1, baselines=2, components=parts, smallest_effect=0.05
    )
    assert good_enough(design)
    assert pilot.dose_rows == 384
    assert pilot.runs == 3 * pilot.seeds
    assert pilot.tokens == pilot.seeds * (90_000 + 60 * pilot.items)
    assert pilot.minutes == pytest.approx(pilot.tokens / 30_000)
    assert "pilot variances" in pilot.sentence


def test_without_known_costs_the_pilot_has_no_price() -> None:
    pilot = advise(**ASK, metric="rouge_l").pilot
    assert (pilot.tokens, pilot.minutes) == (None, None)
    assert "assumed variances" in pilot.sentence


def test_where_no_pilot_can_settle_it_the_reason_is_said() -> None:
    found = advise(**{**ASK, "items": 10, "smallest_effect": 0.001})
    assert found.pilot is None
    assert "more test items" in found.pilot_reason
    assert advise(**{**ASK, "doses": (0,)}).pilot_reason == "no dose is offered"
