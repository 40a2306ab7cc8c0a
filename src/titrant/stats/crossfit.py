"""The gain of the best dose without the luck of having been chosen: chosen on one half of the items at one half of the
seeds, measured on the other items at the other seeds, and averaged over all four ways.

The best of three doses without any effect shows +0.02 by luck; the part that did not choose shows it as it is. Items
alone are not enough: what a seed did to an arm shows in both halves of the items, so a dose with lucky seeds is chosen
on one half and measured, lucky still, on the other. With no effect and seeds that vary by 0.02 (300 items) that leaves
+0.003 to +0.004 at 2 or 3 seeds; with both split nothing is left, and the gain varies as much as before to a tenth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
    values_BASI: NDArray[np.floating[Any]],
    layout: Layout,
    first_half_I: NDArray[np.bool_],
    *,
    doses: Sequence[int],
    baselines: Sequence[int],
    smallest_effect: float,
    candidate_BK: NDArray[np.bool_] | None = None,
) -> CrossFit:
    """Gains over each of R baselines. `doses` are arms from the smallest dose to the largest: ties go to the smaller.
    `candidate_BK` says which of them may be chosen (None: all); a study without any has no gain.

    The first and third seed are one half, the second and fourth the other, and so on; one seed is not split.

    One seed. The first half prefers dose 1 (0.6 against 0.5), the second dose 2 (0.9 against 0.5). So dose 1 is
    measured on the second half (0.5 - 0.4) and dose 2 on the first (0.5 - 0.4), and the mean gain is 0.1.

    >>> from titrant.stats.contrasts import layout
    >>> scores = np.array([[[0.4, 0.4]], [[0.6, 0.5]], [[0.5, 0.9]]])
    >>> half = np.array([True, False])
    >>> fit = cross_fitted(scores, layout(2), half, doses=[1, 2], baselines=[0], smallest_effect=0.01)
    >>> fit.best.round(3).tolist()
    [0.1]
    """
    # Each half keeps the weights of its items and is rescaled to add up to 1, so that macro means stay macro means.
    weights = np.stack([layout.weight_I * first_half_I, layout.weight_I * ~first_half_I], axis=-1)
    total = weights.sum(0)
    leading = values_BASI.shape[:-3]
    if (total <= 0).any():
        nothing = np.full((*leading, len(baselines)), np.nan)
        return CrossFit(best=nothing, smallest=nothing)
    # Every other seed and not the first half of them: seeds that are added later leave the earlier ones in place.
    halves_of_seeds = [values_BASI[..., start::2, :] for start in range(min(2, values_BASI.shape[-2]))]
    parts = [half.mean(-2, dtype=np.float64) @ (weights / total) for half in halves_of_seeds]
    # parts P in an order in which the part with the other items and the other seeds stands at the mirrored place
    part_BAP = np.concatenate(parts, axis=-1)
    dose_BKP, base_BRP = part_BAP[..., list(doses), :], part_BAP[..., list(baselines), :]
    may_BKP = np.ones((len(doses), 1), dtype=bool) if candidate_BK is None else candidate_BK[..., None]
    choice_BKP = np.where(may_BKP, dose_BKP, -np.inf)
    # argmax takes the first of equal ones, which is the smallest dose.
    best_BP = choice_BKP.argmax(-2)
    # The smallest dose within the smallest effect is chosen by the same part, so its gain is as free of luck.
    near_BKP = may_BKP & (choice_BKP.max(-2, keepdims=True) - dose_BKP <= smallest_effect)
    any_B1 = may_BKP.any(-2)
    return CrossFit(
        best=np.where(any_B1, _measured(dose_BKP, base_BRP, best_BP), np.nan),
        smallest=np.where(any_B1, _measured(dose_BKP, base_BRP, near_BKP.argmax(-2)), np.nan),
    )


def _measured(dose_BKP: Floats, base_BRP: Floats, chosen_BP: NDArray[np.intp]) -> Floats:
    # Reversed parts: what was chosen on one part is measured on the part that shares neither items nor seeds with it.
    other = dose_BKP[..., ::-1]
    picked_BP = np.take_along_axis(other, chosen_BP[..., None, :], axis=-2)[..., 0, :]
    gain: Floats = (picked_BP[..., None, :] - base_BRP[..., ::-1]).mean(-1)
    return gain
