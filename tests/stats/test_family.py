"""Simultaneous bounds: between the single ones and Bonferroni's, and right about the whole family."""

from __future__ import annotations

import numpy as np
from statsmodels.stats.multitest import multipletests

from titrant.core.identity import rng_for
from titrant.stats.contrasts import bounds, contrast_batch, layout, moments
from titrant.stats.family import correlations, holm, simultaneous


def null_studies(studies: int, arms: int, seeds: int, items: int, name: str) -> np.ndarray:
    rng = rng_for(1, "tests", name)
    return (
        0.5
        + 0.1 * rng.standard_normal((studies, arms, 1, items))
        + 0.02 * rng.standard_normal((studies, arms, seeds, 1))
        + 0.1 * rng.standard_normal((studies, arms, seeds, items))
    )


def test_holm_agrees_with_statsmodels_and_keeps_the_unknown_unknown() -> None:
    p = rng_for(0, "tests", "holm").random((6, 5))
    for row in p:
        np.testing.assert_allclose(holm(row), multipletests(row, method="holm")[1])
    assert np.isnan(holm(np.array([0.01, np.nan]))).tolist() == [False, True]
    assert float(holm(np.array([0.01, np.nan]))[0]) == 0.02


def test_simultaneous_intervals_are_wider_than_single_ones_and_narrower_than_bonferroni() -> None:
    found = moments(null_studies(20, 5, 6, 60, "between"), layout(60))
    spread = contrast_batch(found, [1, 2, 3, 4], 0)
    family = simultaneous(spread, correlations(found, [1, 2, 3, 4], 0, spread), level=0.95)
    single, cautious = bounds(spread, 0.025)[1], bounds(spread, 0.025 / 4)[1]
    assert (family.high > single).all()
    assert (family.high < cautious).all()
    assert (family.p_adjusted >= family.p).all()


def test_whole_families_are_covered_in_about_95_percent() -> None:
    found = moments(null_studies(1500, 5, 5, 40, "family-wise"), layout(40))
    spread = contrast_batch(found, [1, 2, 3, 4], 0)
    family = simultaneous(spread, correlations(found, [1, 2, 3, 4], 0, spread), level=0.95)
    covered = ((family.low <= 0) & (family.high >= 0)).all(-1).mean()
    assert 0.93 <= covered <= 0.985


def test_below_four_seeds_the_family_is_holms_with_bonferroni_intervals() -> None:
    found = moments(null_studies(1, 4, 3, 60, "few")[0], layout(60))
    spread = contrast_batch(found, [1, 2, 3], 0)
    family = simultaneous(spread, correlations(found, [1, 2, 3], 0, spread), level=0.95)
    np.testing.assert_allclose(family.p_adjusted, holm(family.p))
    np.testing.assert_allclose(family.low, bounds(spread, 0.025 / 3)[0])


def test_one_contrast_needs_no_adjustment() -> None:
    found = moments(null_studies(1, 2, 5, 60, "single")[0], layout(60))
    spread = contrast_batch(found, [1], 0)
    family = simultaneous(spread, None, level=0.95)
    assert float(family.p_adjusted[0]) == float(family.p[0])


def test_equal_studies_get_equal_bounds_whatever_stands_beside_them() -> None:
    studies = null_studies(3, 4, 5, 30, "repeat")
    whole = moments(studies, layout(30))
    spread = contrast_batch(whole, [1, 2, 3], 0)
    together = simultaneous(spread, correlations(whole, [1, 2, 3], 0, spread), level=0.95)
    found = moments(studies[1], layout(30))
    alone = contrast_batch(found, [1, 2, 3], 0)
    single = simultaneous(alone, correlations(found, [1, 2, 3], 0, alone), level=0.95)
    np.testing.assert_allclose(together.low[1], single.low, rtol=1e-9)
    np.testing.assert_allclose(together.p_adjusted[1], single.p_adjusted)
