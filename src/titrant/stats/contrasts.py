"""Arm minus baseline with items and seeds both random: the variance of the difference and its degrees of freedom.

Array names end in shape letters: B studies (any leading shape), A arms, S seeds, I items, G clusters of items, K doses.

The model of one contrast is d[s, i] = difference + item_i + seed_s + error_si, crossed. Its mean has the variance
`item + seed - error`, each of them a mean square divided by the number of cells, as both mean squares hold the error
once (Searle, Casella and McCulloch, *Variance Components*, 1992, chapter 4). What is done with few seeds, and what was
tried before, is in docs/decisions/0003-contrast-intervals.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from titrant.core.identity import rng_for

Floats = NDArray[np.float64]
TaskWeights = Literal["macro", "by_item"]

FEW_SEEDS = 4
"""Up to this many seeds the seed variance is moderated across arms and combined with the items' after Cochran."""

BORROWED_DF = 1.0
"""Degrees of freedom lent by the other arms with few seeds. More is narrower and fails with one arm of four times the
others' seed variance; fewer pays for an equality that usually holds."""

SMALLEST_VARIANCE = 1e-20
"""Variances of means below this are rounding; scores are 0 to 1."""

RARE_SHARE = 0.5
"""Where fewer than this share of the clusters differ at all between two arms, what differs is rare, and its variance is
a poor guide: see `bounds`."""

UNSEEN_WEIGHT = 0.7
"""How much of the bound on what was never seen is added for rare changes: the least that keeps one-sided errors at
their level where all changes go one way (docs/decisions/0016-rare-changes.md)."""

FEW_CHANGES = 6
"""So few changes do not show whether they go one way."""


# -------------------------------------------------------------------------------------------------------------- layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How items weigh and which of them belong together; the same for every arm and seed.

    `weight_I` adds up to 1. `order_I` sorts items by cluster, `start_G` are the clusters' first places in that order,
    `weight_G` their weights. `stratum_G` is the task that a cluster lies in (tasks are fixed, not a sample); deviations
    are taken within it and blown up by `inflation_G` for the mean that was estimated. `item_df` are the degrees of
    freedom of the variance between clusters, fewer where clusters are unequal; 0 where it cannot be estimated.
    """

    weight_I: Floats
    order_I: NDArray[np.intp]
    start_G: NDArray[np.intp]
    weight_G: Floats
    stratum_G: NDArray[np.intp]
    inflation_G: Floats
    item_df: float
    grouped: bool
    plain: bool

    @property
    def n_items(self) -> int:
        return len(self.weight_I)

    @property
    def n_clusters(self) -> int:
        return len(self.weight_G)


def layout(
    n_items: int,
    *,
    groups: Sequence[str | None] | None = None,
    tasks: Sequence[str] | None = None,
    task_weights: TaskWeights = "macro",
) -> Layout:
    """The layout of `n_items` items. An item without a group (None) is its own. Several tasks: every task weighs the
    same (`macro`) or every item does (`by_item`).

    >>> layout(4, tasks=["a", "a", "a", "b"]).weight_I.round(3).tolist()
    [0.167, 0.167, 0.167, 0.5]
    >>> layout(4, groups=["x", "x", "y", None]).n_clusters
    3
    """
    # Weighing by item makes all items one task: then only their number counts.
    task_I = _codes(tasks) if tasks is not None and task_weights == "macro" else np.zeros(n_items, dtype=np.intp)
    count_T = np.bincount(task_I)
    weight_I = 1.0 / (len(count_T) * count_T[task_I])
    # Tagged, so that an item without a group can never share a cluster with a group that is named like its index.
    named = (
        [("item", str(index)) if group is None else ("group", group) for index, group in enumerate(groups)]
        if groups is not None
        else None
    )
    group_I = _codes(named) if named is not None else np.arange(n_items)
    order_I = np.argsort(group_I, kind="stable")
    _, start_G = np.unique(group_I[order_I], return_index=True)
    weight_G = np.add.reduceat(weight_I[order_I], start_G)
    # Tasks are fixed and not sampled, so the difference between their means is no part of the variance between items. A
    # cluster with items of several tasks lies in none of them, and then there are no strata.
    stratum_G, nested = _strata(task_I[order_I], start_G)
    size_T = np.bincount(stratum_G)
    n_clusters, n_strata = len(start_G), len(size_T)
    if nested:
        inflation_G = np.sqrt(size_T / np.maximum(size_T - 1, 1))[stratum_G]
    else:
        inflation_G = np.full(n_clusters, np.sqrt(n_clusters / max(n_clusters - 1, 1)))
    # Satterthwaite for a sum of squares with unequal weights: a few heavy clusters have fewer degrees of freedom than
    # their number says, and counting clusters would make intervals too narrow. One is lost for each mean (task) that
    # was estimated.
    effective = (weight_G**2).sum() ** 2 / (weight_G**4).sum()
    item_df = 0.0 if n_clusters < 2 else max(float(effective) * (1 - n_strata / n_clusters), 1.0)
    return Layout(
        weight_I=weight_I,
        order_I=order_I,
        start_G=start_G,
        weight_G=weight_G,
        stratum_G=stratum_G,
        inflation_G=inflation_G,
        item_df=item_df,
        grouped=n_clusters < n_items,
        plain=n_clusters == n_items and n_strata == 1 and bool(np.ptp(weight_G) < 1e-15),
    )


def _codes(names: Sequence[Any]) -> NDArray[np.intp]:
    codes: dict[Any, int] = {}
    return np.array([codes.setdefault(name, len(codes)) for name in names], dtype=np.intp)


def _strata(task_I: NDArray[np.intp], start_G: NDArray[np.intp]) -> tuple[NDArray[np.intp], bool]:
    """The stratum of each cluster and whether every cluster lies within one task. Tasks with one cluster have no
    deviation of their own: they are put together, and a single one joins the largest task."""
    first, last = np.minimum.reduceat(task_I, start_G), np.maximum.reduceat(task_I, start_G)
    if not np.array_equal(first, last):
        return np.zeros(len(start_G), dtype=np.intp), False
    stratum_G = first.copy()
    size = np.bincount(stratum_G)
    lone = np.flatnonzero(size == 1)
    if len(lone) and len(size) > 1:
        # A cluster alone in its task would deviate from its own mean by exactly 0 and hide its variance.
        home = int(np.argmax(size)) if len(lone) == 1 else int(lone[0])
        stratum_G[np.isin(stratum_G, lone)] = home
    return _codes(stratum_G.tolist()), True


# ------------------------------------------------------------------------------------------------------------- moments


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """All that contrasts among these arms need, computed once: any pair of arms is a few additions from here.

    `mean_BAS` weighted means over items. `item_BAA` and `error_BAA` are covariances between arms of what is left after
    arm means: of the clusters' means over seeds, and of the cells after cluster and seed means. Both are variances *of
    the mean* over clusters (and seeds). Undefined ones are 0, with `item_df` 0 or `n_seeds` 1. `same_BAA` is the share
    of clusters in which two arms do not differ at any seed; None where scores themselves were never seen.
    """

    mean_BAS: Floats
    item_BAA: Floats
    error_BAA: Floats
    item_df: float
    n_clusters: int
    same_BAA: Floats | None = None

    @property
    def n_seeds(self) -> int:
        return int(self.mean_BAS.shape[-1])

    @property
    def n_arms(self) -> int:
        return int(self.mean_BAS.shape[-2])


def moments(values_BASI: NDArray[np.floating[Any]], layout: Layout) -> Moments:
    """Moments of complete scores; leading axes, if any, are separate studies (many at once are cheap)."""
    cells_BASG, mean_BAS = _cells(values_BASI, layout)
    n_seeds, n_clusters = cells_BASG.shape[-2:]
    over_seeds_BAG = cells_BASG.mean(-2)
    # One matrix over arms gives the variance of every contrast: var(a - b) = M[a, a] - 2 M[a, b] + M[b, b].
    item_BAA = over_seeds_BAG @ over_seeds_BAG.swapaxes(-1, -2) / n_clusters**2
    if n_seeds > 1 and layout.item_df > 0:
        flat_BAC = cells_BASG.reshape(*cells_BASG.shape[:-2], n_seeds * n_clusters)
        total_BAA = flat_BAC @ flat_BAC.swapaxes(-1, -2)
        # The deviations of a seed already sum to 0 over clusters, as its own mean is off. With the clusters' means over
        # seeds off as well, what is left is the interaction of cluster and seed: the error.
        left_BAA = total_BAA - n_seeds * n_clusters**2 * item_BAA
        error_BAA = left_BAA / ((n_seeds - 1) * n_seeds * n_clusters**2)
    else:
        error_BAA = np.zeros_like(item_BAA)
    return Moments(
        mean_BAS=mean_BAS,
        item_BAA=item_BAA,
        error_BAA=error_BAA,
        item_df=layout.item_df,
        n_clusters=n_clusters,
        same_BAA=_same(values_BASI, layout),
    )


def _same(values_BASI: NDArray[np.floating[Any]], layout: Layout) -> Floats:
    """The share of clusters in which two arms have the same scores, B×A×A: compared by one number for each arm and
    cluster, a sum of all its scores with weights that no two different sets of scores share in practice."""
    n_seeds, n_items = values_BASI.shape[-2:]
    # Comparing all pairs of arms cell by cell would touch A * A * S * I scores. One random weighted sum a cluster tells
    # sets of scores apart as surely, and then only sums are compared.
    weight_SI = _mark_weights(n_seeds, n_items)
    mark_BAI = np.einsum("...si,si->...i", values_BASI, weight_SI)[..., layout.order_I]
    mark_BAG = mark_BAI if layout.n_clusters == n_items else np.add.reduceat(mark_BAI, layout.start_G, axis=-1)
    n_arms = mark_BAG.shape[-2]
    same_BAA = np.ones((*mark_BAG.shape[:-1], n_arms))
    for arm in range(n_arms):
        found = (np.abs(mark_BAG[..., arm + 1 :, :] - mark_BAG[..., arm, None, :]) < SAME_MARK).mean(-1)
        same_BAA[..., arm, arm + 1 :] = found
        same_BAA[..., arm + 1 :, arm] = found
    return same_BAA


SAME_MARK = 1e-9


@lru_cache(maxsize=64)
def _mark_weights(n_seeds: int, n_items: int) -> Floats:
    return rng_for(0, "stats", "contrasts", "marks").random((n_seeds, n_items)) + 0.5


def _cells(values_BASI: NDArray[np.floating[Any]], layout: Layout) -> tuple[Floats, Floats]:
    """Deviations of clusters from their stratum's mean, scaled so that their plain variance is that of the weighted
    mean (a linearised ratio estimator), and the weighted means. Deviations sum to 0 over clusters."""
    values = np.asarray(values_BASI, dtype=np.float64)
    # Equal weights and no groups is the usual case, and simulations take it many thousand times.
    if layout.plain:
        mean_BAS = values.mean(-1)
        return (values - mean_BAS[..., None]) * layout.inflation_G[0], mean_BAS
    weighted = (values * layout.weight_I)[..., layout.order_I]
    sum_G = np.add.reduceat(weighted, layout.start_G, axis=-1)
    mean_BAS = sum_G.sum(-1)
    by_stratum = np.argsort(layout.stratum_G, kind="stable")
    _, start_T = np.unique(layout.stratum_G[by_stratum], return_index=True)
    sum_T = np.add.reduceat(sum_G[..., by_stratum], start_T, axis=-1)
    weight_T = np.add.reduceat(layout.weight_G[by_stratum], start_T)
    # The mean of a task is a ratio, sum of weighted scores over sum of weights; to first order a cluster moves it by
    # its weighted deviation from it, and that is what varies.
    centre_G = (sum_T / weight_T)[..., layout.stratum_G]
    deviation = (sum_G - layout.weight_G * centre_G) * layout.n_clusters * layout.inflation_G
    return deviation, mean_BAS


# ------------------------------------------------------------------------------------------------------------- spreads


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Differences (arm minus baseline), their standard errors and degrees of freedom; all of one shape.

    `item`, `seed` and `error` are the parts of the squared standard error (variance of the mean; `seed` moderated where
    seeds are few). `constant` marks differences that are the same in every cell, for which no variance speaks. `unseen`
    is the share of the bound on what was never seen that rare changes add; 0 for what most clusters show. `df` 0: no
    interval can be had.
    """

    difference: Floats
    standard_error: Floats
    df: Floats
    item: Floats
    seed: Floats
    error: Floats
    constant: NDArray[np.bool_]
    unseen: Floats
    n_clusters: int
    n_seeds: int
    method: str

    @property
    def units(self) -> int:
        """How many independent things were seen: clusters of items, or seeds where there is one cluster."""
        return self.n_clusters if self.n_clusters > 1 else self.n_seeds


def contrast_batch(
    moments: Moments, arms: Sequence[int], baseline: int | NDArray[np.intp], *, overlap: float = 0.0
) -> Spread:
    """Contrasts of `arms` with `baseline`, shape B×K. `baseline` may be one index or one for each study.

    `overlap` is f = n/N where seeds draw n of N target rows and the estimand is *rows like these*. Seeds then share
    rows: their own variance is 1 - f of that of fresh draws, and f of it, which is the luck of the N rows, no number of
    seeds averages out. So the seeds' part is multiplied by 1 + S·f/(1 - f) (Nadeau and Bengio, 2003). 0: as it is.

    Two seeds, three items, differences 0, 1, 2 and 1, 2, 3: items alone vary by 1/3, seeds by 1/4, no error.

    >>> scores = np.array([[[0, 0, 0], [0, 0, 0]], [[0, 1, 2], [1, 2, 3]]]) / 4
    >>> spread = contrast_batch(moments(scores, layout(3)), [1], 0)
    >>> [round(float(part[0] * 16), 6) for part in (spread.difference, spread.item, spread.seed)]
    [6.0, 0.333333, 0.25]
    """
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap must be at least 0 and below 1, got {overlap}")
    # Both arms answer the same items at the same seeds. The covariances between arms are part of these variances, so
    # the luck that two arms share cancels.
    difference_BKS, item, error = _parts(moments, arms, baseline)
    difference = difference_BKS.mean(-1)
    n_seeds = moments.n_seeds
    swing_BKS = difference_BKS - difference[..., None]
    own_sum = (swing_BKS**2).sum(-1)
    own = own_sum / max(n_seeds - 1, 1) / n_seeds
    # One seed says nothing of how much seeds vary: the interval holds for this run only, and the method says so.
    if n_seeds == 1:
        parts = (item, np.zeros_like(item), np.zeros_like(item))
        variance, df = item, np.full_like(item, moments.item_df)
        method = "items only, this run only"
    # One cluster of items says nothing of how much items vary, so the seeds carry the whole interval.
    elif moments.item_df == 0:
        parts = (np.zeros_like(own), _fresh(own, np.zeros_like(own), overlap, n_seeds), np.zeros_like(own))
        variance, df = parts[1], np.full_like(own, n_seeds - 1.0)
        method = "seeds only, these items only"
    # With two to four seeds a variance of its own is nearly noise: two seeds that agree by luck would make a firm
    # verdict out of nothing. See `_moderated` and `_cochran`.
    elif n_seeds <= FEW_SEEDS:
        seed, seed_df = _moderated(moments.mean_BAS, own_sum)
        parts = (item, _fresh(seed, error, overlap, n_seeds), error)
        variance, df = _cochran(*parts, item_df=moments.item_df, seed_df=seed_df)
        method = "crossed items and seeds, seed variance moderated across arms"
    else:
        parts = (item, _fresh(own, error, overlap, n_seeds), error)
        # What is added for overlapping draws rests on the seeds alone: their few degrees of freedom count in full.
        freedom = _cochran if overlap else _satterthwaite
        variance, df = freedom(*parts, item_df=moments.item_df, seed_df=n_seeds - 1)
        method = f"crossed items and seeds, {'' if overlap else 'Satterthwaite and '}Cochran"
    if 0 < moments.item_df <= 1:
        # Two items (or groups) that agree by luck hide all their variance, and the parts' shares with it.
        df = np.minimum(df, 1.0)
    constant = (item < SMALLEST_VARIANCE) & (own < SMALLEST_VARIANCE) & (error < SMALLEST_VARIANCE)
    return Spread(
        difference=difference,
        standard_error=np.sqrt(variance),
        df=df,
        item=parts[0],
        seed=parts[1],
        error=parts[2],
        constant=constant & ((moments.item_df > 0) | (n_seeds > 1)),
        unseen=np.where(constant, 0.0, _unseen(moments, arms, baseline, difference)),
        n_clusters=moments.n_clusters,
        n_seeds=n_seeds,
        method=method,
    )


def shared_seeds_contrast(
    values_BASI: NDArray[np.floating[Any]],
    ran_AS: NDArray[np.bool_],
    layout: Layout,
    *,
    arm: int,
    baseline: int,
    overlap: float = 0.0,
) -> Spread:
    """One contrast, shape B×1, over the seeds at which both arms ran; other arms lend to the seed variance where they
    ran at the same seeds. Without such a seed everything is NaN, with `df` 0."""
    seeds = np.flatnonzero(ran_AS[arm] & ran_AS[baseline])
    leading = values_BASI.shape[:-3]
    if not len(seeds):
        nothing, zero = np.full((*leading, 1), np.nan), np.zeros((*leading, 1))
        return Spread(
            difference=nothing,
            standard_error=nothing,
            df=zero,
            item=zero,
            seed=zero,
            error=zero,
            constant=np.zeros((*leading, 1), dtype=bool),
            unseen=zero,
            n_clusters=layout.n_clusters,
            n_seeds=0,
            method="no seed in common",
        )
    lenders = [other for other in range(len(ran_AS)) if other not in (arm, baseline) and ran_AS[other, seeds].all()]
    cut = values_BASI[..., [baseline, arm, *lenders], :, :][..., seeds, :]
    return contrast_batch(moments(cut, layout), [1], 0, overlap=overlap)


def joined_spreads(spreads: Sequence[Spread]) -> Spread:
    """Spreads of single contrasts side by side, along the last axis."""

    def joined(name: str) -> Floats:
        return np.concatenate([getattr(spread, name) for spread in spreads], axis=-1)

    return Spread(
        difference=joined("difference"),
        standard_error=joined("standard_error"),
        df=joined("df"),
        item=joined("item"),
        seed=joined("seed"),
        error=joined("error"),
        constant=np.concatenate([spread.constant for spread in spreads], axis=-1),
        unseen=joined("unseen"),
        n_clusters=spreads[0].n_clusters,
        n_seeds=min(spread.n_seeds for spread in spreads),
        method=", or ".join(dict.fromkeys(spread.method for spread in spreads)),
    )


def _parts(moments: Moments, arms: Sequence[int], baseline: int | NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
    """Differences of seed means, and the items' and the error's variance of the mean difference; B×K×S, B×K, B×K."""
    index = list(arms)
    base_B = np.broadcast_to(np.asarray(baseline, dtype=np.intp), moments.mean_BAS.shape[:-2])
    base_BS = np.take_along_axis(moments.mean_BAS, base_B[..., None, None], axis=-2)[..., 0, :]
    difference_BKS = moments.mean_BAS[..., index, :] - base_BS[..., None, :]
    found = []
    for matrix in (moments.item_BAA, moments.error_BAA):
        cross, own = _picked(matrix, base_B, index)
        diagonal = np.diagonal(matrix, axis1=-2, axis2=-1)[..., index]
        # Rounding can leave a variance just below 0 where two arms answer alike.
        found.append(np.maximum(diagonal - 2 * cross + own, 0.0))
    item = np.where(found[0] < SMALLEST_VARIANCE, 0.0, found[0])
    error = np.where(found[1] < SMALLEST_VARIANCE, 0.0, found[1])
    return difference_BKS, item, error


def _unseen(moments: Moments, arms: Sequence[int], baseline: int | NDArray[np.intp], difference: Floats) -> Floats:
    """What rare changes add to the bounds, B×K, in shares of the bound on what was never seen: all of `UNSEEN_WEIGHT`
    where changes are few or go one way, little where as many go up as down (a symmetric sum needs no more than t)."""
    if moments.same_BAA is None or moments.n_clusters < 2:
        return np.zeros_like(difference)
    base_B = np.broadcast_to(np.asarray(baseline, dtype=np.intp), moments.mean_BAS.shape[:-2])
    same_BK, _ = _picked(moments.same_BAA, base_B, list(arms))
    # Not even one change seen does not mean that none can happen: at least one cluster counts as changed.
    changed = np.maximum(1 - same_BK, 1 / moments.n_clusters)
    # A cluster changes by 1 at most, so this is 1 where all changes go one way and near 0 where they cancel.
    one_sided = np.minimum(np.abs(difference) / changed, 1.0)
    few = np.minimum(FEW_CHANGES / (changed * moments.n_clusters), 1.0)
    return np.where(changed < RARE_SHARE, UNSEEN_WEIGHT * np.maximum(one_sided, few), 0.0)


def _picked(matrix_BAA: Floats, base_B: NDArray[np.intp], index: list[int]) -> tuple[Floats, Floats]:
    row_BA = np.take_along_axis(matrix_BAA, base_B[..., None, None], axis=-2)[..., 0, :]
    return row_BA[..., index], np.take_along_axis(row_BA, base_B[..., None], axis=-1)


def overlap_factor(overlap: float, n_seeds: int) -> float:
    """How many times more the mean over overlapping draws varies than its seeds show.

    >>> overlap_factor(0.5, 4), overlap_factor(0.0, 4)
    (5.0, 1.0)
    """
    return 1 + n_seeds * overlap / (1 - overlap)


def _fresh(seed: Floats, error: Floats, overlap: float, n_seeds: int) -> Floats:
    """The seeds' part for rows like these. The error's share in it does not come from draws, but only half of it is
    taken off: what is left of a mean square when another is taken from it varies more than its degrees of freedom say,
    and is then multiplied (decision 27)."""
    return seed + np.maximum(seed - error / 2, 0.0) * (overlap_factor(overlap, n_seeds) - 1)


def as_seen(seed: Floats, error: Floats, overlap: float, n_seeds: int) -> Floats:
    """The seeds' part as the seeds show it, from the one of `Spread.seed` that overlapping draws made larger."""
    factor = overlap_factor(overlap, n_seeds)
    return (seed + (factor - 1) * error / 2) / factor


def _moderated(mean_BAS: Floats, own_sum_BK: Floats) -> tuple[Floats, float]:
    """The seeds' part, with up to `BORROWED_DF` degrees of freedom from the other arms; and its degrees of freedom.

    The arm×seed interaction splits into the contrast's own swing and a rest that is independent of it where arms vary
    alike (orthogonal directions among arms). The rest counts for little, so that an arm that varies more still shows.
    """
    n_arms, n_seeds = mean_BAS.shape[-2:]
    own_df, rest_df = n_seeds - 1, (n_arms - 2) * (n_seeds - 1)
    if rest_df == 0:
        return own_sum_BK / own_df / n_seeds, float(own_df)
    # What is left after arm means and seed means. A seed that is good for all arms moves no contrast.
    interaction = mean_BAS - mean_BAS.mean(-2, keepdims=True)
    interaction = interaction - interaction.mean(-1, keepdims=True)
    all_sum = (interaction**2).sum((-1, -2))[..., None]
    # A contrast of two arms is sqrt(2) times a unit direction among arms: its own sum of squares is halved to be taken
    # off, and the rest doubled to be on the contrast's scale.
    rest = 2 * np.maximum(all_sum - own_sum_BK / 2, 0.0) / rest_df
    borrowed = min(BORROWED_DF, 0.75 * rest_df)
    return (own_sum_BK + borrowed * rest) / (own_df + borrowed) / n_seeds, own_df + borrowed


def _cochran(item: Floats, seed: Floats, error: Floats, *, item_df: float, seed_df: float) -> tuple[Floats, Floats]:
    """Variance and the degrees of freedom whose 97.5% point is Cochran's: the two parts' points, weighted by them.

    Satterthwaite's trusts the estimated mixture of the parts, which one or two degrees of freedom do not bear. The
    variance is kept at a quarter of the items' own (or the error's) or more: by luck seeds can agree to the last digit,
    which is no certainty.
    """
    # Item and seed mean squares both hold the error; it is taken off one of them.
    pure_item = np.maximum(item - error, 0.0)
    variance = pure_item + seed
    weight = np.divide(seed, variance, out=np.ones_like(seed), where=variance > 0)
    # Bounds at other levels take this number of degrees of freedom too, so a family or a look needs no rule of its own.
    point = np.sqrt((1 - weight) * t_point(0.975, item_df) ** 2 + weight * t_point(0.975, seed_df) ** 2)
    return np.maximum(variance, 0.25 * np.maximum(item, error)), df_of_point(point)


def _satterthwaite(item: Floats, seed: Floats, error: Floats, *, item_df: float, seed_df: int) -> tuple[Floats, Floats]:
    """Variance `item + seed - error`, and the geometric mean of Satterthwaite's and Cochran's degrees of freedom.

    Satterthwaite's alone are too many where the seeds' part is small by luck (one-sided errors of 5.5% in place of 5%),
    and too few where items differ by error only and the parts cancel (coverage of 98 to 99%); Cochran's err the other
    way. The variance is kept at a tenth of its largest part or more: by luck the difference can be next to nothing.
    """
    variance = np.maximum(item + seed - error, 0.1 * np.maximum(np.maximum(item, seed), error))
    spread = item**2 / item_df + seed**2 / seed_df + error**2 / (item_df * seed_df)
    df = np.divide(variance**2, spread, out=np.full_like(item, item_df), where=spread > 0)
    _, cautious = _cochran(item, seed, error, item_df=item_df, seed_df=seed_df)
    return variance, np.sqrt(np.clip(df, 1.0, max(item_df, seed_df)) * cautious)


# ----------------------------------------------------------------------------------------------------------- intervals


def t_point(probability: float, df: Any) -> Any:
    """The quantile of Student's t (df may be fractional); NaN where df is 0."""
    return special.stdtrit(df, probability)


def df_of_point(point: Floats) -> Floats:
    """The degrees of freedom whose 97.5% point is `point`.

    >>> df_of_point(np.array([12.706, 3.182])).round(2).tolist()
    [1.0, 3.0]
    """
    points, log_df = _df_grid()
    # Quantiles of t fall smoothly in the degrees of freedom: a table in logarithms is right to one in 100,000, and
    # thousands of studies take it at once where a root finder would take them one by one.
    found: Floats = np.exp(np.interp(np.log(point), points, log_df))
    return found


@lru_cache(maxsize=1)
def _df_grid() -> tuple[Floats, Floats]:
    log_df = np.linspace(np.log(0.5), np.log(1e6), 2000)
    points = np.log(special.stdtrit(np.exp(log_df), 0.975))
    return points[::-1].copy(), log_df[::-1].copy()


def bounds(spread: Spread, tail: float | Floats) -> tuple[Floats, Floats]:
    """Lower and upper bounds, each wrong with probability `tail`; NaN where there is no interval (df 0).

    Where every cell shows the same difference c, the interval is exact for the share of items on which it could be
    another: with n independent clusters (seeds, for one cluster) at most u = 1 - tail^(1/n). There it can be anything
    from -1 to 1, so the bounds are c - u(1 + c) and c + u(1 - c).

    Where most clusters show no difference at all, the few that do are what the variance is estimated from, and the t
    interval is too short: it would be shorter with one change seen than with none. So a share of u (`unseen`) is added
    to its half width.
    """
    tails = np.broadcast_to(np.asarray(tail, dtype=np.float64), spread.difference.shape)
    point = t_point_array(1 - tails, spread.df)
    half = np.where(spread.df > 0, point * spread.standard_error, np.nan)
    # If a change had a probability above this, n clusters without one would be seen less often than `tail`.
    share = 1 - tails ** (1 / max(spread.units, 1))
    half = half + spread.unseen * share
    low = np.where(spread.constant, spread.difference - share * (1 + spread.difference), spread.difference - half)
    high = np.where(spread.constant, spread.difference + share * (1 - spread.difference), spread.difference + half)
    return low, high


def t_point_array(probability: Floats, df: Floats) -> Floats:
    """Quantiles of t, elementwise; NaN where df is 0."""
    found: Floats = special.stdtrit(np.where(df > 0, df, np.nan), probability)
    return found


def p_values(spread: Spread) -> Floats:
    """Two-sided p of "no difference"; NaN where there is no interval. For a constant difference the p that belongs to
    its bounds, 2(1 + |c|)^-n; for rare changes twice the tail at which a bound touches 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(spread.difference) / spread.standard_error
        found = 2 * special.stdtr(np.where(spread.df > 0, spread.df, np.nan), -t)
    # Solved from c = u (1 + c) with u = 1 - (p / 2)^(1/n).
    exact = np.minimum(2 * (1 + np.abs(spread.difference)) ** (-float(spread.units)), 1.0)
    p: Floats = np.where(spread.constant, exact, found)
    if (spread.unseen > 0).any():
        p = np.where(spread.unseen > 0, _rare_p(spread), p)
    return p


def _rare_p(spread: Spread) -> Floats:
    """Twice the tail at which the half width is the difference itself, by bisection on its logarithm."""
    # Half widths have no inverse in closed form with the added share, but they fall steadily in the tail.
    low, high = np.full(spread.difference.shape, -60.0), np.full(spread.difference.shape, np.log(0.5))
    for _ in range(50):
        middle = (low + high) / 2
        half = bounds(spread, np.exp(middle))[1] - spread.difference
        excluded = np.abs(spread.difference) >= half
        low, high = np.where(excluded, low, middle), np.where(excluded, middle, high)
    p: Floats = np.minimum(2 * np.exp(high), 1.0)
    return p
