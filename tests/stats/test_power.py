"""Power: promises that the method keeps, and designs that are as cheap as they can be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from titrant.core.identity import rng_for
from titrant.decision import rule
from titrant.stats.contrasts import contrast_batch, layout, moments
from titrant.stats.crossfit import halves
from titrant.stats.power import (
    Components,
    Costs,
    PowerDesign,
    assumed_components,
    cheapest_design,
    good_enough,
    pilot_components,
    prospects,
    ways_on,
)
from titrant.stats.weigh import weigh

PARTS = Components(item=0.02, seed=0.0004, error=0.02)
DESIGN = PowerDesign(seeds=3, items=200, doses=3, baselines=2, components=PARTS, smallest_effect=0.02)


def simulated(design: PowerDesign, gain: float, studies: int, name: str) -> np.ndarray:
    """Studies with exactly the components of the design; the last dose gains."""
    rng = rng_for(2, "tests", name)
    arms = design.baselines + design.doses
    parts = design.components
    values = 0.5 + np.sqrt(parts.item / 2) * rng.standard_normal((studies, arms, 1, design.items))
    values = values + np.sqrt(parts.seed / 2) * rng.standard_normal((studies, arms, design.seeds, 1))
    values = values + np.sqrt(parts.error / 2) * rng.standard_normal((studies, arms, design.seeds, design.items))
    values[:, -1] += gain
    return values


def verdicts(design: PowerDesign, gain: float, name: str) -> np.ndarray:
    numbers = weigh(
        simulated(design, gain, 400, name),
        layout(design.items),
        doses=list(range(design.baselines, design.baselines + design.doses)),
        baselines=list(range(design.baselines)),
        first_half_I=halves([str(number) for number in range(design.items)]),
        smallest_effect=design.smallest_effect,
    )
    return np.array(rule.WORDS)[rule.rule(numbers.rule_numbers, smallest_effect=design.smallest_effect).code_B]


@pytest.mark.parametrize("seeds", [2, 5])
def test_the_detectable_effect_is_found_in_80_percent(seeds: int) -> None:
    design = replace(DESIGN, seeds=seeds)
    effect = prospects(design).smallest_detectable
    assert effect is not None
    assert effect > design.smallest_effect
    share = (verdicts(design, effect, f"detect-{seeds}") == "mix").mean()
    assert 0.75 < share < 0.95


def test_no_difference_is_had_where_it_is_called_reachable() -> None:
    design = replace(DESIGN, seeds=5, smallest_effect=0.065)
    assert prospects(design).no_difference_reachable
    assert (verdicts(design, 0.0, "reach") == "no_difference").mean() > 0.75
    assert not prospects(replace(design, smallest_effect=0.01)).no_difference_reachable


def test_more_seeds_and_more_items_detect_less() -> None:
    effects = [prospects(replace(DESIGN, seeds=seeds)).smallest_detectable for seeds in (2, 3, 5, 10)]
    assert effects == sorted(effects, reverse=True)  # type: ignore[type-var]
    effects = [prospects(replace(DESIGN, items=items)).smallest_detectable for items in (50, 200, 1000)]
    assert effects == sorted(effects, reverse=True)  # type: ignore[type-var]


def test_a_design_without_any_variance_estimate_promises_nothing_and_says_why() -> None:
    found = prospects(replace(DESIGN, seeds=1, items=1))
    assert found.smallest_detectable is None
    assert found.reason is not None
    assert not found.no_difference_reachable


@pytest.mark.parametrize("overlap", [0.0, 0.4])
def test_pilot_components_are_found_again(overlap: float) -> None:
    values = simulated(replace(DESIGN, seeds=8, items=400), 0.0, 200, "pilot")
    spread = contrast_batch(moments(values, layout(400)), [2, 3, 4], 0, overlap=overlap)
    found = pilot_components(spread, overlap=overlap)
    assert found is not None
    assert found.item == pytest.approx(PARTS.item, rel=0.1)
    assert found.seed == pytest.approx(PARTS.seed, rel=0.15)
    assert found.error == pytest.approx(PARTS.error, rel=0.1)
    assert found.origin == "pilot"


def test_one_seed_is_no_pilot() -> None:
    values = simulated(replace(DESIGN, seeds=1), 0.0, 2, "no-pilot")
    assert pilot_components(contrast_batch(moments(values, layout(200)), [2], 0)) is None


def test_the_cheapest_design_is_good_enough_and_no_cheaper_neighbour_is() -> None:
    costs = Costs(training_tokens_per_seed=100_000, answer_tokens_per_item=50, tokens_per_minute=10_000)
    found = cheapest_design(DESIGN, costs=costs, most_items=1000)
    assert found is not None
    assert good_enough(found.design)
    assert not good_enough(replace(found.design, items=int(found.design.items * 0.9)))
    assert found.tokens == costs.tokens(seeds=found.design.seeds, items=found.design.items)
    assert cheapest_design(replace(DESIGN, smallest_effect=0.0005), costs=costs, most_items=1000) is None


def test_dear_training_asks_for_items_and_dear_answers_for_seeds() -> None:
    design = replace(DESIGN, components=Components(item=0.02, seed=0.001, error=0.02))
    gains = np.array([0.0, 0.0, 0.0])
    dear_runs = ways_on(design, gains=gains, costs=Costs(training_tokens_per_seed=10**8, answer_tokens_per_item=1))
    dear_items = ways_on(design, gains=gains, costs=Costs(training_tokens_per_seed=1, answer_tokens_per_item=10**6))
    for ways in (dear_runs, dear_items):
        assert [way.tokens for way in ways] == sorted(way.tokens or 0 for way in ways)
    assert {way.kind for way in dear_runs + dear_items} <= {"seeds", "items"}


def test_assumptions_say_that_they_are_assumed() -> None:
    assert assumed_components("accuracy").origin == "assumed"
    assert assumed_components("rouge_l").item < assumed_components("exact_match").item


def test_graded_scores_are_assumed_to_vary_less_than_right_or_wrong_ones() -> None:
    for metric in ("graded", "subject_gain", "f1"):
        assert assumed_components(metric).item < assumed_components("accuracy").item
