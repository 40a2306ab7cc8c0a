"""What a dose is worth in target rows, and where it stops being worth anything.

The exchange rate is read without a model: the target size n' at which the curve of arms without a dose reaches the
score of the dosed arm, found by interpolation over the logarithm of target rows. Its interval holds every n' at which
the dosed arm and the curve do not differ, so it is open where the data leave it open, and it never leaves the sizes
that were run. A parametric law (`law`) may add its word, where it predicts arms that it has not seen better.

Array names end in shape letters: A arms, K contrasts (weighted sums of arms), N sizes of the curve.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from scipy import special

from titrant.stats.contrasts import Floats, Moments, bounds, contrast_batch, p_values

Step = Literal["none", "sign_and_bound", "interpolated"]
POINTS_A_SEGMENT = 17
CURVATURE_MARGIN = 2.0
"""How much of the bend foretold by neighbouring sizes a curve may have between two sizes: from none to twice."""


# --------------------------------------------------------------------------------------------------- weighted contrasts


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """Weighted sums of arm means, intervals and two-sided p-values, shape K; NaN where there is no interval."""

    value: Floats
    low: Floats
    high: Floats
    p: Floats


Reader = Callable[[Floats], Readings]
"""From weights K×A, each row adding up to 0, to readings. Items and seeds are shared by the arms, so this is paired."""


def reader(found: Moments, *, level: float = 0.95, overlap: float = 0.0) -> Reader:
    """The reader of one study's moments. A weighted sum of arms is treated as one arm against nothing."""

    def read(weights_KA: Floats) -> Readings:
        count, seeds = len(weights_KA), found.n_seeds
        mean_K2S = np.zeros((count, 2, seeds))
        item_K22, error_K22 = np.zeros((count, 2, 2)), np.zeros((count, 2, 2))
        # Arm 0 stays all zeros, so that "arm 1 against arm 0" is the weighted sum itself; covariances between arms go
        # into it through w M w', which is what makes the reading paired.
        mean_K2S[:, 1] = weights_KA @ found.mean_BAS
        item_K22[:, 1, 1] = np.einsum("ka,ab,kb->k", weights_KA, found.item_BAA, weights_KA)
        error_K22[:, 1, 1] = np.einsum("ka,ab,kb->k", weights_KA, found.error_BAA, weights_KA)
        summed = Moments(
            mean_BAS=mean_K2S,
            item_BAA=item_K22,
            error_BAA=error_K22,
            item_df=found.item_df,
            n_clusters=found.n_clusters,
        )
        spread = contrast_batch(summed, [1], 0, overlap=overlap)
        low, high = bounds(spread, (1 - level) / 2)
        return Readings(value=spread.difference[:, 0], low=low[:, 0], high=high[:, 0], p=p_values(spread)[:, 0])

    return read


# -------------------------------------------------------------------------------------------------------- exchange rate


@dataclass(frozen=True, slots=True, kw_only=True)
class SizedArm:
    """An arm of a curve: its target rows and its index among the arms that the reader weighs."""

    target_rows: int
    arm: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeRate:
    """How many target rows the dose is worth at `target_rows`: n' - n, negative where the dose hurts.

    `low` None: no lower bound within the sizes run; `high` None: no upper bound, so "at least `low`". `value` is None
    with a `reason` where it cannot be read off. `sign` is that of the gain at the same target size (0: not told apart;
    None: no arm without a dose at this size). `step` says how far the design lets one read.
    """

    target_rows: int
    dose_rows: int
    against: Literal["plain", "matched"]
    step: Step
    sign: Literal[-1, 0, 1] | None
    value: float | None
    low: float | None
    high: float | None
    level: float
    reason: str | None = None

    @property
    def sentence(self) -> str:
        """The rate in words."""
        dose = f"{self.dose_rows} generalist rows at {self.target_rows} target rows"
        if self.step == "none":
            return f"What {dose} are worth cannot be read: {self.reason}."
        if self.low is None and self.high is None:
            return f"What {dose} are worth cannot be pinned down: {self.reason}."
        return f"{dose[0].upper()}{dose[1:]} are worth {_amount(self.value, self.low, self.high)} target rows."


def exchange_rate(
    read: Reader,
    *,
    n_arms: int,
    curve: Sequence[SizedArm],
    dosed: SizedArm,
    dose_rows: int,
    against: Literal["plain", "matched"] = "plain",
    level: float = 0.95,
) -> ExchangeRate:
    """The exchange rate of one dosed arm against the curve of arms without a dose (all plain, or all matched).

    One size on the curve: none. Two: the sign, and bounds at the sizes themselves. From three: interpolated.

    Scores 0.5, 0.6 and 0.7 at 100, 200 and 400 target rows, and 0.65 with a dose at 100: worth 183 rows.

    >>> means = np.array([0.5, 0.6, 0.7, 0.65])
    >>> def read(weights):
    ...     value = weights @ means
    ...     return Readings(value=value, low=value - 0.02, high=value + 0.02, p=np.ones(len(value)))
    >>> curve = [SizedArm(target_rows=100 * 2**k, arm=k) for k in range(3)]
    >>> rate = exchange_rate(read, n_arms=4, curve=curve, dosed=SizedArm(target_rows=100, arm=3), dose_rows=384)
    >>> round(rate.value, 1), rate.sign, rate.step
    (182.8, 1, 'interpolated')
    >>> rate.sentence
    '384 generalist rows at 100 target rows are worth 183 (146 to 225) target rows.'
    """
    points = _rising(curve)
    shared = {"target_rows": dosed.target_rows, "dose_rows": dose_rows, "against": against, "level": level}
    if len(points) < 2:
        reason = "it needs arms without a dose at two target sizes or more"
        return ExchangeRate(**shared, step="none", sign=None, value=None, low=None, high=None, reason=reason)  # type: ignore[arg-type]
    sign = _sign(read, points, dosed, n_arms)
    knots_NA = np.eye(n_arms)[[point.arm for point in points]]
    dose_A = np.eye(n_arms)[dosed.arm]
    # Dose minus curve: it falls from positive (a small target alone is worse) to negative, and where it is 0 the two
    # are worth the same.
    found = _solve(read, [point.target_rows for point in points], lambda curve_KA: dose_A - curve_KA, knots_NA)
    shift = dosed.target_rows
    return ExchangeRate(
        **shared,  # type: ignore[arg-type]
        step="interpolated" if len(points) >= 3 else "sign_and_bound",
        sign=sign,
        value=None if found.first is None else found.first - shift,
        low=None if found.low is None else found.low - shift,
        high=None if found.high is None else found.high - shift,
        reason=found.reason,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TurningSize:
    """The target size above which the gain of a dose is below the smallest effect; fields as in ExchangeRate."""

    dose_rows: int
    smallest_effect: float
    step: Step
    value: float | None
    low: float | None
    high: float | None
    level: float
    reason: str | None = None

    @property
    def sentence(self) -> str:
        """The turning size in words."""
        dose = f"the gain of {self.dose_rows} generalist rows falls below {self.smallest_effect:g}"
        if self.step == "none" or (self.low is None and self.high is None):
            return f"Where {dose} cannot be pinned down: {self.reason}."
        at = (
            _amount(self.value, self.low, self.high)
            .replace("at least", "no fewer than")
            .replace("at most", "no more than")
        )
        return f"{dose[0].upper()}{dose[1:]} at {at} target rows."


@dataclass(frozen=True, slots=True, kw_only=True)
class GainAt:
    """A dosed arm and its baseline at one target size, as indices among the arms."""

    target_rows: int
    arm: int
    baseline: int


def turning_size(
    read: Reader,
    *,
    n_arms: int,
    gains: Sequence[GainAt],
    dose_rows: int,
    smallest_effect: float,
    level: float = 0.95,
) -> TurningSize:
    """Where the gain of one dose, over target sizes, falls below the smallest effect for good."""
    # A gain is a contrast of two arms, so the "curve" to be inverted is one of contrasts instead of arms.
    points = sorted(gains, key=lambda point: point.target_rows)
    if len({point.target_rows for point in points}) < 2:
        return TurningSize(
            dose_rows=dose_rows,
            smallest_effect=smallest_effect,
            step="none",
            value=None,
            low=None,
            high=None,
            level=level,
            reason="it needs the dose at two target sizes or more",
        )
    identity = np.eye(n_arms)
    knots_NA = identity[[point.arm for point in points]] - identity[[point.baseline for point in points]]
    sizes = [point.target_rows for point in points]
    found = _solve(read, sizes, lambda gains_KA: gains_KA, knots_NA, threshold=smallest_effect)
    return TurningSize(
        dose_rows=dose_rows,
        smallest_effect=smallest_effect,
        step="interpolated" if len(points) >= 3 else "sign_and_bound",
        value=found.last,
        low=found.low,
        high=found.high,
        level=level,
        reason=found.reason,
    )


def _rising(curve: Sequence[SizedArm]) -> list[SizedArm]:
    points = sorted(curve, key=lambda point: point.target_rows)
    assert all(point.target_rows > 0 for point in points), "the untuned model is no point of the curve"
    assert len({point.target_rows for point in points}) == len(points), "one arm for each size of the curve"
    return points


def _sign(read: Reader, points: list[SizedArm], dosed: SizedArm, n_arms: int) -> Literal[-1, 0, 1] | None:
    same = next((point.arm for point in points if point.target_rows == dosed.target_rows), None)
    if same is None:
        return None
    found = read((np.eye(n_arms)[dosed.arm] - np.eye(n_arms)[same])[None])
    if found.low[0] > 0:
        return 1
    return -1 if found.high[0] < 0 else 0


# ------------------------------------------------------------------------------------------------------------ inversion


@dataclass(frozen=True, slots=True, kw_only=True)
class _Solution:
    """Sizes at which a falling difference reaches its threshold: the first and the last crossing, and the interval."""

    first: float | None
    last: float | None
    low: float | None
    high: float | None
    reason: str | None


def _solve(
    read: Reader,
    sizes: Sequence[int],
    difference: Callable[[Floats], Floats],
    knots_NA: Floats,
    *,
    threshold: float = 0.0,
) -> _Solution:
    """Where `difference` of the interpolated knots falls to the threshold.

    A size is ruled out from below where the difference is surely above the threshold there, and from above where it is
    surely below it. Between two sizes the curve is known only to lie between the straight line and twice the bend that
    its neighbours foretell, so a size is ruled out only where both say so. Where the difference does not surely fall
    over the sizes, a crossing means nothing: only "beyond all sizes that were run" can still be said.
    """
    log_sizes = np.log(np.asarray(sizes, dtype=np.float64))
    # Two sizes do not show how the curve bends, so nothing is read between them.
    between = len(sizes) >= 3
    place_K = _places(log_sizes) if between else log_sizes
    straight_KA = difference(_interpolated(log_sizes, place_K) @ knots_NA)
    bent_KA = difference(_interpolated(log_sizes, place_K, bend=CURVATURE_MARGIN) @ knots_NA)
    straight, bent = read(straight_KA), read(bent_KA)
    # Each end of an interval is that of the worse of the two curves: a place is ruled out only where both agree.
    surely_above = np.minimum(straight.low, bent.low) - threshold
    surely_below = np.maximum(straight.high, bent.high) - threshold
    # The least squares slope over the logarithm is one more weighted sum of arms, so it is tested by the same reader.
    centred = log_sizes - log_sizes.mean()
    falls = bool(read((centred / (centred**2).sum() @ difference(knots_NA))[None]).high[0] < 0)
    if not falls and not (surely_above > 0).all() and not (surely_below < 0).all():
        return _Solution(
            first=None, last=None, low=None, high=None, reason="scores do not surely change with the sizes"
        )
    low, high = _hull(place_K, surely_above, surely_below, between=between)
    first = last = None
    if between:
        first, last = _crossings(place_K, straight.value - threshold)
    return _Solution(
        first=_size(first),
        last=_size(last),
        low=_size(low),
        high=_size(high),
        reason=_reason(first, low, high, between),
    )


def _places(log_sizes: Floats) -> Floats:
    """Where the curve is read: evenly over the logarithm within each segment, the sizes themselves included."""
    pieces = [np.linspace(start, stop, POINTS_A_SEGMENT)[:-1] for start, stop in pairwise(log_sizes.tolist())]
    return np.concatenate([*pieces, log_sizes[-1:]])


def _interpolated(log_sizes: Floats, place_K: Floats, *, bend: float = 0.0) -> Floats:
    """Weights K×N of the curve at each place: the straight line between neighbours, and `bend` times what a parabola
    through one more neighbour (the mean of two parabolas, inside) adds to it."""
    count = len(log_sizes)
    weights = np.zeros((len(place_K), count))
    for row, place in enumerate(place_K):
        left = min(int(np.searchsorted(log_sizes, place, side="right")) - 1, count - 2)
        share = (place - log_sizes[left]) / (log_sizes[left + 1] - log_sizes[left])
        weights[row, left] += 1 - share
        weights[row, left + 1] += share
        # Inside there are two parabolas, through the neighbour on either side; at the ends only one.
        starts = [start for start in (left - 1, left) if 0 <= start <= count - 3]
        for start in starts if bend else ():
            # A parabola through three points is the straight line plus its second difference times (x - a)(x - b) for
            # the neighbours a and b, which is 0 at both: sizes that were run are never moved.
            arch = bend / len(starts) * (place - log_sizes[left]) * (place - log_sizes[left + 1])
            weights[row, start : start + 3] += arch * _second_difference(log_sizes[start : start + 3])
    return weights


def _second_difference(x: Floats) -> Floats:
    """Weights of the divided second difference at three places."""
    return np.array(
        [
            1 / ((x[0] - x[1]) * (x[0] - x[2])),
            1 / ((x[1] - x[0]) * (x[1] - x[2])),
            1 / ((x[2] - x[0]) * (x[2] - x[1])),
        ]
    )


def _hull(
    place_K: Floats, surely_above: Floats, surely_below: Floats, *, between: bool
) -> tuple[float | None, float | None]:
    """The smallest interval that holds every place not ruled out; None for an end that is open. Ends lie between two
    places where the curve can be read `between` sizes, else at the place that was ruled out.

    Without an interval for the readings (NaN) nothing is ruled out.
    """
    above, below = surely_above > 0, surely_below < 0
    # Everything that is not surely above and not surely below could be the crossing.
    kept = np.flatnonzero(~(above | below))
    if len(kept) == 0:
        if above.all():
            return float(place_K[-1]), None
        if below.all():
            return None, float(place_K[0])
        # Both kinds and nothing between them: the crossing lies between two neighbouring places.
        turn = int(np.flatnonzero(below)[0])
        return (float(place_K[max(turn - 1, 0)]), float(place_K[turn])) if turn else (None, None)
    first, last = int(kept[0]), int(kept[-1])
    if not between:
        ends = (None if first == 0 else first - 1, None if last == len(place_K) - 1 else last + 1)
        low, high = (None if end is None else float(place_K[end]) for end in ends)
        return low, high
    low = None if first == 0 else _zero(place_K, surely_above if above[first - 1] else surely_below, first - 1)
    high = None if last == len(place_K) - 1 else _zero(place_K, surely_below if below[last + 1] else surely_above, last)
    return low, high


def _zero(place_K: Floats, value_K: Floats, index: int) -> float:
    """Where a line between two neighbouring readings crosses 0."""
    start, stop = float(value_K[index]), float(value_K[index + 1])
    share = start / (start - stop) if start != stop else 0.5
    return float(place_K[index] + min(max(share, 0.0), 1.0) * (place_K[index + 1] - place_K[index]))


def _crossings(place_K: Floats, value_K: Floats) -> tuple[float | None, float | None]:
    """The first and the last place at which the difference falls to 0 or below; None where it does not."""
    # Only downward crossings: noise can lift the curve again, and where it does, the rate takes the first fall and the
    # turning size the last.
    falls = np.flatnonzero((value_K[:-1] > 0) & (value_K[1:] <= 0))
    if len(falls) == 0:
        exact = np.flatnonzero(value_K == 0)
        return (float(place_K[exact[0]]), float(place_K[exact[-1]])) if len(exact) else (None, None)
    start = float(place_K[0]) if value_K[0] == 0 else None
    return start if start is not None else _zero(place_K, value_K, int(falls[0])), _zero(
        place_K, value_K, int(falls[-1])
    )


def _size(log_size: float | None) -> float | None:
    return None if log_size is None else math.exp(log_size)


def _reason(first: float | None, low: float | None, high: float | None, between: bool) -> str | None:
    if low is None and high is None:
        return "no target size that was run can be ruled out"
    if not between:
        return "two target sizes give bounds only"
    return "the crossing lies outside the sizes that were run" if first is None else None


def _amount(value: float | None, low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        interval = f"{round(low)} to {round(high)}"
        return interval if value is None else f"{round(value)} ({interval})"
    if low is not None:
        return f"at least {round(low)}"
    assert high is not None, "an amount with two open ends is said in other words"
    return f"at most {round(high)}"


# ---------------------------------------------------------------------------------------------------------- interaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """Whether something changes the gain of a dose, tested as one. `value` is the change (per doubling of target rows,
    or second group minus first), None with a reason where there is none to give; `p` two-sided."""

    influence: str
    value: float | None
    low: float | None
    high: float | None
    p: float | None
    level: float
    reason: str | None = None


def size_interaction(read: Reader, *, n_arms: int, gains: Sequence[GainAt], level: float = 0.95) -> Interaction:
    """The change of the gain per doubling of target rows: one contrast over all arms (the slope of the gain).

    Gains of 0.09, 0.05 and 0.01 at 100, 200 and 400 target rows: 0.04 less with each doubling.

    >>> means = np.array([0.59, 0.5, 0.65, 0.6, 0.71, 0.7])
    >>> def read(weights):
    ...     value = weights @ means
    ...     return Readings(value=value, low=value - 0.02, high=value + 0.02, p=np.full(len(value), 0.001))
    >>> gains = [GainAt(target_rows=100 * 2**k, arm=2 * k, baseline=2 * k + 1) for k in range(3)]
    >>> round(size_interaction(read, n_arms=6, gains=gains).value, 4)
    -0.04
    """
    doublings = np.log2([point.target_rows for point in gains]) if gains else np.zeros(0)
    centred = doublings - doublings.mean() if len(doublings) else doublings
    if len(set(doublings.tolist())) < 2:
        return _no_interaction("target rows", level, "it needs the dose at two target sizes or more")
    weights_A = np.zeros(n_arms)
    for point, weight in zip(gains, centred / (centred**2).sum(), strict=True):
        weights_A[point.arm] += weight
        weights_A[point.baseline] -= weight
    found = read(weights_A[None])
    if not np.isfinite(found.low[0]):
        return _no_interaction("target rows", level, "one item at one seed shows no variance")
    return Interaction(
        influence="target rows, per doubling",
        value=float(found.value[0]),
        low=float(found.low[0]),
        high=float(found.high[0]),
        p=float(found.p[0]),
        level=level,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupGain:
    """The gain of a dose in one group of targets (a skill, a breadth), its standard error and degrees of freedom."""

    name: str
    value: float
    standard_error: float
    df: float


def mean_gain(name: str, parts: Sequence[GroupGain]) -> GroupGain:
    """The mean over targets with items of their own, as one group: these targets, not targets like these."""
    variances = np.array([part.standard_error**2 for part in parts]) / len(parts) ** 2
    # Satterthwaite over independent parts: a part with few degrees of freedom counts by the share of variance that it
    # brings.
    spread = float(sum(variance**2 / part.df for variance, part in zip(variances, parts, strict=True)))
    total = float(variances.sum())
    return GroupGain(
        name=name,
        value=float(np.mean([part.value for part in parts])),
        standard_error=math.sqrt(total),
        df=total**2 / spread if spread > 0 else min(part.df for part in parts),
    )


def group_interaction(gains: Sequence[GroupGain], *, level: float = 0.95) -> Interaction:
    """Whether the gain differs between groups of targets that share no items: Welch's test of all of them at once.

    Two groups also get the difference with its interval. Source: Welch, "On the comparison of several mean values",
    Biometrika 38 (1951).

    >>> found = group_interaction([GroupGain(name="facts", value=0.0, standard_error=0.01, df=20),
    ...                            GroupGain(name="reasoning", value=0.05, standard_error=0.01, df=20)])
    >>> round(found.value, 3), round(found.p, 4)
    (0.05, 0.001)
    """
    names = " against ".join(gain.name for gain in gains)
    if len(gains) < 2:
        return _no_interaction(names, level, "it needs two groups of targets or more")
    if any(not gain.standard_error > 0 or not gain.df > 0 for gain in gains):
        return _no_interaction(names, level, "a group without variance cannot be weighed against others")
    weights = np.array([1 / gain.standard_error**2 for gain in gains])
    values = np.array([gain.value for gain in gains])
    count, centre = len(gains), float((weights * values).sum() / weights.sum())
    # Welch's correction: weights are estimated themselves, and those with few degrees of freedom make the statistic too
    # large.
    lack = float(sum((1 - w / weights.sum()) ** 2 / gain.df for w, gain in zip(weights, gains, strict=True)))
    square = float((weights * (values - centre) ** 2).sum()) / (count - 1)
    statistic = square / (1 + 2 * (count - 2) / (count**2 - 1) * lack)
    df = (count**2 - 1) / (3 * lack)
    p = float(special.fdtrc(count - 1, df, statistic))
    if count > 2:
        return Interaction(influence=names, value=None, low=None, high=None, p=p, level=level, reason="several groups")
    half = float(special.stdtrit(df, (1 + level) / 2)) * math.sqrt(float((1 / weights).sum()))
    change = float(values[1] - values[0])
    return Interaction(influence=names, value=change, low=change - half, high=change + half, p=p, level=level)


def _no_interaction(influence: str, level: float, reason: str) -> Interaction:
    return Interaction(influence=influence, value=None, low=None, high=None, p=None, level=level, reason=reason)
