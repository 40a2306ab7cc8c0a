"""The interval of an arm's mean: worked by hand, and right as often as it says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from titrant.core.identity import rng_for
from titrant.stats.contrasts import layout
from titrant.stats.means import ONE_CELL, ONE_SEED, arm_means, mean_estimate
from titrant.stats.table import tables_from_columns


def test_one_seed_is_students_interval_over_items() -> None:
    scores = np.array([[0.2, 0.4, 0.5, 0.9, 0.3]])
    found = mean_estimate(scores, layout(5))
    half = stats.t.ppf(0.975, 4) * scores.std(ddof=1) / np.sqrt(5)
    assert found.value == pytest.approx(scores.mean())
    assert (found.low, found.high) == (pytest.approx(scores.mean() - half), pytest.approx(scores.mean() + half))
    assert found.reason == ONE_SEED


def test_items_alike_at_every_seed_leave_the_seeds_interval() -> None:
    by_seed = np.array([0.5, 0.55, 0.48, 0.51, 0.53, 0.5])
    found = mean_estimate(np.repeat(by_seed[:, None], 40, axis=1), layout(40))
    half = stats.t.ppf(0.975, 5) * by_seed.std(ddof=1) / np.sqrt(6)
    assert found.low == pytest.approx(by_seed.mean() - half, rel=1e-3)
    assert found.reason is None


def test_all_right_has_the_exact_interval_of_a_share() -> None:
    found = mean_estimate(np.ones((3, 20)), layout(20))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 20))
    wrong = mean_estimate(np.zeros((3, 20)), layout(20))
    assert (wrong.value, wrong.low) == (0.0, 0.0)
    assert wrong.high == pytest.approx(1 - 0.025 ** (1 / 20))


def test_one_item_at_one_seed_has_a_mean_and_no_interval() -> None:
    found = mean_estimate(np.array([[0.5]]), layout(1))
    assert (found.value, found.low, found.high, found.reason) == (0.5, None, None, ONE_CELL)


def test_intervals_stay_within_the_scale() -> None:
    found = mean_estimate(np.array([[0.0, 0.1, 1.0], [0.9, 0.0, 0.0]]), layout(3))
    assert found.low == 0.0
    assert found.high is not None
    assert found.high <= 1.0


def test_draws_that_overlap_widen_the_interval() -> None:
    scores = rng_for(0, "overlap").random((5, 60))
    fresh, overlapping = (mean_estimate(scores, layout(60), overlap=share) for share in (0.0, 0.5))
    assert fresh.low is not None and overlapping.low is not None  # noqa: PT018
    assert overlapping.low < fresh.low


def test_an_arm_without_some_seed_is_read_at_its_own() -> None:
    cells = [(arm, seed, item) for arm in "ab" for seed in range(3) for item in range(4) if (arm, seed) != ("b", 1)]
    table = tables_from_columns(
        {
            "arm": [arm for arm, _, _ in cells],
            "seed": [seed for _, seed, _ in cells],
            "item": [item for _, _, item in cells],
            "score": [(seed + item) / 10 for _, seed, item in cells],
        }
    )["target"]
    first, second = arm_means(table)
    assert (first.seeds, second.seeds) == (("0", "1", "2"), ("0", "2"))
    assert second.by_seed == (pytest.approx(0.15), pytest.approx(0.35))
    assert second.estimate.value == pytest.approx(0.25)
    assert second.estimate.n_seeds == 2


@pytest.mark.parametrize(("seeds", "most"), [(2, 1.0), (3, 0.999), (5, 0.985)])
def test_the_interval_holds_the_true_mean_as_often_as_it_says(seeds: int, most: float) -> None:
    rng = rng_for(1, "means", seeds)
    inside = 0
    for _ in range(500):
        item, seed = rng.normal(0, 0.15, 60), rng.normal(0, 0.03, seeds)
        scores = np.clip(0.5 + item + seed[:, None] + rng.normal(0, 0.1, (seeds, 60)), 0, 1)
        found = mean_estimate(scores, layout(60))
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= 0.5 <= found.high
    assert 0.92 <= inside / 500 <= most
