"""What a staged study is said to cost beforehand is what such studies cost."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from titrant.decision.ladder_forecast import WORLDS, forecast_worlds, smallest_found
from titrant.decision.replay import StagedDesign, replay
from titrant.stats.contrasts import layout
from titrant.stats.looks import ladder, plan_looks
from titrant.stats.power import ASSUMED, Components
from titrant.stats.simulation import World, batches, contrast_variances


def design(*, doses: int = 2, most: int = 20, smallest_effect: float = 0.05, baselines: int = 2) -> StagedDesign:
    return StagedDesign(
        looks=plan_looks(ladder(most), most=most, doses=doses),
        most=most,
        baselines=baselines,
        rows=tuple(96.0 * (dose + 1) for dose in range(doses)),
        smallest_effect=smallest_effect,
    )


@pytest.mark.parametrize(("gain", "doses", "share"), [(0.0, 2, 0.5), (0.06, 1, 0.5), (0.06, 3, 0.2), (-0.06, 2, 0.8)])
def test_costs_are_those_of_studies_simulated_item_by_item(gain: float, doses: int, share: float) -> None:
    """The forecast simulates a few items in place of many; the world here has all 150 of them."""
    gains = [gain] * doses if gain <= 0 else [gain / 2] * doses
    gains[doses // 2] = gain
    world = World(seeds=8, items=150, seeds_share=share, gains=tuple(gains), matched_gain=0.0)
    parts = contrast_variances(world)
    components = Components(item=parts.item * 150, seed=parts.seed * 8, error=parts.error * 8 * 150)
    plan = replace(design(doses=doses, most=8, smallest_effect=0.03))
    read, firm = [], []
    for made in batches(world, studies=200, seed=5):
        seen = replay(made.scores, layout(150), plan, first_half_I=np.arange(150) % 2 == 0)
        read.append(seen.read_BA.sum(-1))
        firm.append(seen.code_B > 0)
    runs, firm_share = np.concatenate(read), np.concatenate(firm).mean()
    found = forecast_worlds(
        plan, components=components, items=150, costs=[1.0] * (2 + doses), studies=200, worlds=[("it", gain / 0.03)]
    )[0]
    error = np.hypot(found.expected_error, runs.std() / np.sqrt(len(runs)))
    assert abs(found.expected - runs.mean()) < 3 * error + 0.03 * runs.mean()
    assert abs(found.firm - firm_share) < 3 * np.sqrt(0.25 / 100)


def test_costs_are_in_the_unit_of_each_arms_own_and_never_above_the_grid() -> None:
    plan = design(doses=1)
    parts = {"components": ASSUMED["right_or_wrong"], "items": 200, "studies": 40}
    one, dear = (forecast_worlds(plan, costs=costs, **parts) for costs in ([1.0, 1.0, 1.0], [7.0, 7.0, 7.0]))
    for cheap, expensive in zip(one, dear, strict=True):
        assert expensive.expected == pytest.approx(7 * cheap.expected)
        assert cheap.expected == pytest.approx(cheap.runs)
        assert cheap.expected <= cheap.largest <= 60
        assert 0 <= cheap.firm <= 1
    assert [world.name for world in one] == [name for name, _ in WORLDS]


def test_the_same_design_gets_the_same_figures_within_two_seconds() -> None:
    from titrant.decision.ladder_forecast import simulated_ladder

    plan, figures, seconds = design(doses=4), [], []
    for _ in range(2):
        simulated_ladder.cache_clear()
        start = time.process_time()
        figures.append(forecast_worlds(plan, components=ASSUMED["graded"], items=270, costs=[1.0] * 6))
        seconds.append(time.process_time() - start)
    assert figures[0] == figures[1]
    assert min(seconds) < 2.0


def test_the_simulations_own_error_is_what_more_studies_find() -> None:
    plan = design(doses=1)
    few, many = (
        forecast_worlds(plan, components=ASSUMED["graded"], items=100, costs=[1.0, 1.0, 1.0], studies=studies)
        for studies in (60, 800)
    )
    for small, large in zip(few, many, strict=True):
        assert abs(small.expected - large.expected) <= 3.5 * np.hypot(small.expected_error, large.expected_error) + 0.1


def test_more_seeds_find_smaller_gains_and_none_find_nothing() -> None:
    plan = design(doses=1)
    parts = {"components": ASSUMED["right_or_wrong"], "items": 200}
    few, some, many = (smallest_found(plan, seeds=seeds, **parts) for seeds in (3, 6, None))
    assert few is not None
    assert some is not None
    assert many is not None
    assert few > some > many > plan.smallest_effect
    assert smallest_found(plan, seeds=2, **parts) is None
    assert smallest_found(replace(plan, smallest_effect=1e-4), seeds=3, **parts) is None
