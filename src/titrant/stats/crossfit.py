"""The gain of the best dose without the luck of having been chosen: chosen on one half of the items, measured on the
other, and averaged over both ways.

The best of three doses without any effect shows +0.02 by luck; the half that did not choose shows it as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from titrant.stats.contrasts import Floats, Layout


def halves(items: Sequence[str], groups: Sequence[str | None] | None = None) -> NDArray[np.bool_]:
    """Which items lie in the first half, by the hash of their group (or of the item, where it has none), so that items
    on the same text stay together and new items never move old ones."""
    names = (
        items
        if groups is None
        else [item if group is None else group for item, group in zip(items, groups, strict=True)]
    )
    return np.array([hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[0] < 128 for name in names])


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossFit:
    """Cross-fitted gains, B×R: of the best dose, and of the smallest that is within the smallest effect of the best.
    NaN where a half has no items."""

    best: Floats
    smallest: Floats


def cross_fitted(
    over_seeds_BAI: Floats,
    layout: Layout,
    first_half_I: NDArray[np.bool_],
    *,
    doses: Sequence[int],
    baselines: Sequence[int],
    smallest_effect: float,
) -> CrossFit:
    """Gains over each of R baselines. `doses` are arms from the smallest dose to the largest: ties go to the smaller.

    The first half prefers dose 1 (0.6 against 0.5), the second dose 2 (0.9 against 0.5). So dose 1 is measured on the
    second half (0.5 - 0.4) and dose 2 on the first (0.5 - 0.4), and the mean gain is 0.1.

    >>> from titrant.stats.contrasts import layout
    >>> scores = np.array([[0.4, 0.4], [0.6, 0.5], [0.5, 0.9]])
    >>> half = np.array([True, False])
    >>> fit = cross_fitted(scores, layout(2), half, doses=[1, 2], baselines=[0], smallest_effect=0.01)
    >>> fit.best.round(3).tolist()
    [0.1]
    """
    weights = np.stack([layout.weight_I * first_half_I, layout.weight_I * ~first_half_I], axis=-1)
    total = weights.sum(0)
    leading = over_seeds_BAI.shape[:-2]
    if (total <= 0).any():
        nothing = np.full((*leading, len(baselines)), np.nan)
        return CrossFit(best=nothing, smallest=nothing)
    half_BAH = over_seeds_BAI @ (weights / total)
    dose_BKH, base_BRH = half_BAH[..., list(doses), :], half_BAH[..., list(baselines), :]
    best_BH = dose_BKH.argmax(-2)
    near = dose_BKH.max(-2, keepdims=True) - dose_BKH <= smallest_effect
    return CrossFit(
        best=_measured(dose_BKH, base_BRH, best_BH), smallest=_measured(dose_BKH, base_BRH, near.argmax(-2))
    )


def _measured(dose_BKH: Floats, base_BRH: Floats, chosen_BH: NDArray[np.intp]) -> Floats:
    other = dose_BKH[..., ::-1]
    picked_BH = np.take_along_axis(other, chosen_BH[..., None, :], axis=-2)[..., 0, :]
    gain: Floats = (picked_BH[..., None, :] - base_BRH[..., ::-1]).mean(-1)
    return gain
