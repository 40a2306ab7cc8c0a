"""The law speaks where it predicts what it has not seen, and is silent elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from titrant.stats.law import LawPoint, fit_law

SIZES, DOSES = (64, 128, 256, 512), (0, 128, 256, 512)


def grid(score, sizes=SIZES, doses=DOSES) -> list[LawPoint]:
    """An arm for every size and dose."""
    return [LawPoint(target_rows=n, dose_rows=g, mean=score(n, g)) for n in sizes for g in doses]


@pytest.mark.parametrize("gamma", [0.8, -0.05])
def test_a_true_law_is_found_and_speaks(gamma) -> None:
    found = fit_law(grid(lambda n, g: 0.85 - 1.5 * (n + gamma * g**0.7) ** -0.35))
    assert found.speaks
    assert found.worth(256) == pytest.approx(gamma * 256**0.7, rel=0.01)
    assert found.error_law < found.error_interpolation


def test_a_world_without_the_law_keeps_it_silent() -> None:
    """A jump at one dose, the same at every size: neighbours in size know of it, the law does not."""
    found = fit_law(grid(lambda n, g: 0.5 + 0.05 * np.log2(n / 64) + (0.2 if g == 256 else 0.0)))
    assert not found.speaks
    assert found.reason
    assert found.worth(256) is None


@pytest.mark.parametrize(("sizes", "doses"), [(SIZES[:3], DOSES), (SIZES, DOSES[:3]), ((), ())])
def test_a_small_grid_keeps_it_silent(sizes, doses) -> None:
    found = fit_law(grid(lambda n, g: 0.5 + n / 1000, sizes, doses))
    assert not found.speaks
    assert "fewer than" in found.reason


def test_equal_scores_keep_it_silent() -> None:
    assert "same score" in fit_law(grid(lambda n, g: 0.5)).reason
