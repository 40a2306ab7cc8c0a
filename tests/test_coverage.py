"""A short calibration: single intervals and verdicts in a few settings, with Monte-Carlo room."""

from __future__ import annotations

import numpy as np
import pytest

from titrant.core.identity import rng_for
from titrant.decision import rule
from titrant.stats.contrasts import bounds, contrast_batch, layout, moments
from titrant.stats.crossfit import halves
from titrant.stats.simulation import World, batches
from titrant.stats.weigh import weigh

STUDIES = 1200


def studies(
    seeds: int, items: int, *, share: float, binary: bool, odd: bool = False, gain: float = 0.0, arms: int = 4
) -> np.ndarray:
    """Crossed studies; `share` is the seeds' share of the contrast's variance. The first dose gains, or varies more."""
    rng = rng_for(3, "tests", "coverage", seeds, items, str(share), int(binary), int(odd), str(gain))
    arm_item, error = 0.25, 0.6
    items_part = arm_item**2 / items + error**2 / (seeds * items)
    scale = np.full(arms, np.sqrt(seeds * items_part * share / (1 - share)))
    scale[1] *= 2 if odd else 1
    latent = (
        0.8 * rng.standard_normal((STUDIES, 1, 1, items), dtype=np.float32)
        + arm_item * rng.standard_normal((STUDIES, arms, 1, items), dtype=np.float32)
        + error * rng.standard_normal((STUDIES, arms, seeds, items), dtype=np.float32)
        + scale[None, :, None, None].astype(np.float32)
        * rng.standard_normal((STUDIES, arms, seeds, 1), dtype=np.float32)
    )
    latent[:, 1] += gain
    return (latent > 0).astype(np.float64) if binary else latent


CELLS = [
    # seeds, items, share, binary, odd, lowest, highest coverage allowed (bars with three Monte-Carlo errors)
    (2, 50, 0.5, True, False, 0.92, 1.0),
    (2, 100, 0.5, False, True, 0.92, 1.0),
    (3, 100, 0.1, True, False, 0.92, 1.0),
    (3, 50, 0.5, False, True, 0.92, 1.0),
    (5, 50, 0.0, True, False, 0.92, 0.98),
    (5, 100, 0.5, False, True, 0.92, 0.98),
    (10, 50, 0.5, True, False, 0.92, 0.98),
]


@pytest.mark.parametrize(("seeds", "items", "share", "binary", "odd", "lowest", "highest"), CELLS)
def test_single_intervals_cover(
    seeds: int, items: int, share: float, binary: bool, odd: bool, lowest: float, highest: float
) -> None:
    found = moments(studies(seeds, items, share=share, binary=binary, odd=odd), layout(items))
    low, high = bounds(contrast_batch(found, [1, 2, 3], 0), 0.025)
    covered = ((low <= 0) & (high >= 0))[:, 0].mean() if odd else ((low <= 0) & (high >= 0)).mean()
    assert lowest <= covered <= highest


@pytest.mark.parametrize("drawn", [30, 72])
def test_single_intervals_cover_rows_like_these_when_seeds_share_most_of_their_rows(drawn: int) -> None:
    world = World(
        kind="overlapping_draws",
        seeds=5,
        items=200,
        seeds_share=0.5,
        gains=(0.0,) * 3,
        correlation=0.3,
        drawn_rows=drawn,
    )
    covered = []
    for made in batches(world, studies=2 * STUDIES, seed=5):
        spread = contrast_batch(moments(made.scores, layout(200)), [1, 2, 3], 0, overlap=made.overlap)
        low, high = bounds(spread, 0.025)
        covered.append((low <= made.gains) & (made.gains <= high))
    assert 0.923 <= np.concatenate(covered).mean() <= 0.98


def shares(values: np.ndarray, items: int, delta: float) -> dict[str, float]:
    half = halves([str(number) for number in range(items)])
    numbers = weigh(values, layout(items), doses=[1, 2, 3], baselines=[0], first_half_I=half, smallest_effect=delta)
    code = rule.rule(numbers.rule_numbers, smallest_effect=delta).code_B
    return {word: float((code == index).mean()) for index, word in enumerate(rule.WORDS)}


@pytest.mark.parametrize("seeds", [3, 5])
def test_wrong_verdicts_are_at_most_one_in_twenty_and_right_ones_are_given(seeds: int) -> None:
    nothing = shares(studies(seeds, 100, share=0.3, binary=False), 100, 0.02)
    assert nothing["mix"] <= 0.07
    gain = 0.25
    at_the_border = shares(studies(seeds, 100, share=0.3, binary=False, gain=gain), 100, gain)
    assert at_the_border["train_alone"] + at_the_border["no_difference"] <= 0.07
    plain = shares(studies(seeds, 100, share=0.3, binary=False, gain=0.4), 100, 0.02)
    assert plain["mix"] >= 0.8
