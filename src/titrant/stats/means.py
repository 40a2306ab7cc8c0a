"""The mean score of every arm, with an interval for items like these and seeds like these.

A mean is read as its arm against nothing: the same variance components and degrees of freedom as a contrast
(`contrasts`), from the arm's own seeds alone, so that an arm whose runs failed elsewhere does not widen it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from titrant.core.records import Estimate
from titrant.stats.contrasts import Floats, Layout, Spread, TaskWeights, bounds, contrast_batch, layout, moments
from titrant.stats.table import ScoreTable, TableArm, complete

ONE_SEED = "one seed: the interval is over items only and holds for this run only"
ONE_CELL = "one item (or one group of items) at one seed shows no variance"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmMean:
    """One arm's mean over items and seeds, and its mean over items by seed (`seeds` are their names)."""

    arm: TableArm
    estimate: Estimate
    seeds: tuple[str, ...]
    by_seed: tuple[float, ...]


def arm_means(
    table: ScoreTable, *, level: float = 0.95, overlaps: Sequence[float] = (), task_weights: TaskWeights = "macro"
) -> tuple[ArmMean, ...]:
    """The means of all arms that have a run, in the table's order. Items that some run lacks are left out.

    `overlaps`: n/N for each arm where the seeds draw their target rows from one set (see `contrast_batch`).
    """
    # Arms are shown beside each other, so all means are over the same items.
    cut = complete(table, drop_incomplete=True).table
    plan = layout(len(cut.items), groups=cut.groups, tasks=cut.tasks, task_weights=task_weights)
    found = []
    for index, arm in enumerate(cut.arms):
        seeds = np.flatnonzero(cut.ran[index])
        if len(seeds):
            scores_SI = cut.values_ASI[index, seeds]
            overlap = overlaps[index] if overlaps else 0.0
            estimate = mean_estimate(scores_SI, plan, level=level, overlap=overlap)
            by_seed = tuple(float(value) for value in scores_SI @ plan.weight_I)
            names = tuple(cut.seeds[seed] for seed in seeds)
            found.append(ArmMean(arm=arm, estimate=estimate, seeds=names, by_seed=by_seed))
    return tuple(found)


def mean_estimate(scores_SI: Floats, plan: Layout, *, level: float = 0.95, overlap: float = 0.0) -> Estimate:
    """The mean of one arm's scores (0 to 1) with its interval, which stays within 0 and 1.

    Two seeds, two items: items vary by 1/4 (standard error of the mean 0.25), seeds do not.

    >>> found = mean_estimate(np.array([[0.0, 0.5], [0.0, 0.5]]), layout(2))
    >>> found.value, found.low, found.high
    (0.25, 0.0, 1.0)
    """
    # "Against nothing" is a way of computing: that most scores are 0 does not make the others rare changes.
    found = replace(moments(np.stack([np.zeros_like(scores_SI), scores_SI]), plan), same_BAA=None)
    spread = contrast_batch(found, [1], 0, overlap=overlap)
    low, high = _bounds(spread, 1 - level)
    n_seeds = len(scores_SI)
    known = bool(np.isfinite(low))
    return Estimate(
        value=float(spread.difference[0]),
        low=float(low) if known else None,
        high=float(high) if known else None,
        level=level,
        method=spread.method,
        n_items=plan.n_items,
        n_seeds=n_seeds,
        reason=ONE_CELL if not known else ONE_SEED if n_seeds == 1 else None,
    )


def _bounds(spread: Spread, error: float) -> tuple[float, float]:
    """Two-sided bounds of a mean. Where every cell is the same c, another share u = 1 - (error/2)^(1/n) of the items
    could be anything from 0 to 1, so the bounds are c - u·c and c + u(1 - c) (a difference could be from -1 to 1)."""
    value = float(spread.difference[0])
    if bool(spread.constant[0]):
        share = 1 - (error / 2) ** (1 / spread.n_clusters)
        return value - share * value, value + share * (1 - value)
    low, high = bounds(spread, error / 2)
    return float(np.clip(low[0], 0.0, 1.0)), float(np.clip(high[0], 0.0, 1.0))
