"""When a staged study may be judged, and how much of its error each look may spend.

A study that is judged after every few seeds and stops when the verdict is firm is wrong far more often than its level
says: nine looks at 5% are wrong in about 17%. Here each look gets a tail of its own, so that all looks together spend
no more than one would: the boundaries of error spending (Lan and DeMets, *Biometrika* 70, 1983) at the power family of
Kim and DeMets (*Biometrika* 74, 1987), and Dunnett's allowance for several doses that share a baseline (*JASA* 50,
1955). The tails are then put through each contrast's own t (`contrasts.bounds`), so few seeds are allowed for as ever.

The recursion takes the mean over seeds for Brownian motion at time seeds / most. What a contrast shares over looks
beyond that (its items are the same at every look) makes looks more alike than Brownian motion, and errors rarer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import integrate, optimize, special

Floats = NDArray[np.float64]

SCREEN_SEEDS = 2
"""At so many seeds all arms are seen for the first time. The screen sets arms aside; it claims and spends nothing."""

LADDER = (3, 4, 5, 6, 8, 10, 12, 15, 20)
"""Seeds at which a study is looked at: often while seeds are few and each tells much, seldom later."""

FIRST_LOOK, MOST_SEEDS = 3, 200
"""The first look is at three seeds or more."""

USUAL_MOST = 20
"""Seeds in all where nobody says."""

NODES = 256
FARTHEST = 8.5
"""Paths lower than this many standard deviations are left out: fewer than one in 10^16 gets there."""


def ladder(most: int) -> tuple[int, ...]:
    """The looks of a study of at most `most` seeds; the last is at all of them.

    >>> ladder(20)
    (3, 4, 5, 6, 8, 10, 12, 15, 20)
    >>> ladder(7)
    (3, 4, 5, 6, 7)
    """
    if not FIRST_LOOK <= most <= MOST_SEEDS:
        raise ValueError(f"most must be {FIRST_LOOK} to {MOST_SEEDS} seeds, got {most}")
    return (*(seeds for seeds in LADDER if seeds < most), most)


# ------------------------------------------------------------------------------------------------------------- spending


def _power(tail: float, time: float) -> float:
    return float(tail * time**1.5)


def _obrien_fleming(tail: float, time: float) -> float:
    return float(2 * special.ndtr(special.ndtri(tail / 2) / np.sqrt(time)))


def _pocock(tail: float, time: float) -> float:
    return float(tail * np.log1p((np.e - 1) * time))


SPENDING: dict[str, Callable[[float, float], float]] = {
    "t^1.5": _power,
    "obrien_fleming": _obrien_fleming,
    "pocock": _pocock,
}
"""How much of a tail is spent by time 0 < t <= 1, by name: one line adds another. The first is what studies use:
O'Brien and Fleming's spends next to nothing early and costs more runs, Pocock's so much that little is left."""


@lru_cache(maxsize=512)
def nominal_tails(looks: tuple[int, ...], *, most: int, tail: float, spending: str = "t^1.5") -> tuple[float, ...]:
    """The one-sided tail at each of `looks` (rising, the last at most `most`) such that Brownian motion at time
    seeds / most has crossed by each look with the probability that `spending` allows by then.

    A look that is left out spends nothing: what it would have spent is there for the next one. A single look at the end
    is an ordinary test.

    >>> [round(tail, 5) for tail in nominal_tails((20,), most=20, tail=0.025)]
    [0.025]
    >>> [round(tail, 5) for tail in nominal_tails((3, 5, 20), most=20, tail=0.025)]
    [0.00145, 0.00212, 0.0227]
    """
    times = _times(looks, most)
    path, spent, tails = _START, 0.0, []
    for time in times:
        # Only what may be spent since the last look is: the height is found such that so many paths cross here and had
        # not crossed before. Spending the whole again at each look is what makes repeated testing wrong.
        now = SPENDING[spending](tail, time)
        point = _point_spending(path, time, now - spent)
        tails.append(float(special.ndtr(-point / np.sqrt(time))))
        path, spent = _survivors(path, time, point), now
    return tuple(tails)


def crossing_probability(times: Sequence[float], points: Sequence[float]) -> float:
    """The probability that Brownian motion, divided by √time, lies above `points[k]` at any of `times[k]`.

    Pocock's constant for five looks, two-sided 5%, is 2.413: one side is crossed in 2.5%.

    >>> round(crossing_probability((0.2, 0.4, 0.6, 0.8, 1.0), (2.413,) * 5), 4)
    0.025
    """
    path, crossed = _START, 0.0
    for time, point in zip(times, points, strict=True):
        height = point * np.sqrt(time)
        crossed += _beyond(path, time, height)
        path = _survivors(path, time, height)
    return crossed


def level_of_repeated_tests(seeds: tuple[int, ...], *, level: float = 0.95) -> float:
    """The level that tests after so many seeds hold together where each was one at `level`, as if the only one.

    A grid of 5 seeds that its own advice extends to 12, and one that goes on to 20:

    >>> [round(level_of_repeated_tests(seeds), 3) for seeds in ((5,), (5, 12), (5, 12, 20))]
    [0.95, 0.914, 0.887]
    """
    point = -float(special.ndtri((1 - level) / 2))
    crossed = crossing_probability(tuple(one / seeds[-1] for one in seeds), (point,) * len(seeds))
    return 1 - 2 * crossed


def _times(looks: tuple[int, ...], most: int) -> tuple[float, ...]:
    if not looks or looks[0] < 1 or looks[-1] > most or any(a >= b for a, b in pairwise(looks)):
        raise ValueError(f"looks must rise from 1 seed or more to at most {most}, got {looks}")
    return tuple(seeds / most for seeds in looks)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Paths:
    """Where the paths stand that have not crossed yet: their probability `mass_N` at heights `height_N`."""

    time: float
    height_N: Floats
    mass_N: Floats


_START = _Paths(time=0.0, height_N=np.zeros(1), mass_N=np.ones(1))


def _beyond(path: _Paths, time: float, height: float) -> float:
    """How many of the paths lie above `height` at `time`."""
    step = np.sqrt(time - path.time)
    return float((path.mass_N * special.ndtr((path.height_N - height) / step)).sum())


def _survivors(path: _Paths, time: float, height: float) -> _Paths:
    """The paths that lie below `height` at `time`, by Gauss and Legendre's quadrature (the density is smooth)."""
    node_N, weight_N = _quadrature()
    low = -FARTHEST * np.sqrt(time)
    half = (height - low) / 2
    height_N = low + half * (node_N + 1)
    step = np.sqrt(time - path.time)
    # Chapman and Kolmogorov: a path's step from one look to the next is normal and independent of its past, so the
    # density at this look is that of the survivors, smeared by the step and cut off at the height.
    density_N = np.exp(-(((height_N[:, None] - path.height_N) / step) ** 2) / 2) @ path.mass_N
    return _Paths(time=time, height_N=height_N, mass_N=density_N * half * weight_N / (step * np.sqrt(2 * np.pi)))


@lru_cache(maxsize=1)
def _quadrature() -> tuple[Floats, Floats]:
    node_N, weight_N = np.polynomial.legendre.leggauss(NODES)
    return node_N, weight_N


def _point_spending(path: _Paths, time: float, share: float) -> float:
    """The height above which `share` of all paths, crossed ones counted, lie for the first time at `time`."""
    far = FARTHEST * np.sqrt(time)
    return float(optimize.brentq(lambda height: _beyond(path, time, height) - share, -far, far, xtol=1e-12))


# ---------------------------------------------------------------------------------------------------------------- doses


@lru_cache(maxsize=1024)
def dunnett_tail(tail: float, doses: int, *, correlation: float = 0.5) -> float:
    """The one-sided tail for each of `doses` contrasts that is crossed by any of them with probability `tail`.

    Doses that share a baseline and vary as it does correlate by a half. Never below Bonferroni's share, never above the
    tail itself.

    >>> [round(dunnett_tail(0.025, doses), 5) for doses in (1, 2, 4, 12)]
    [0.025, 0.01348, 0.00731, 0.00282]
    """
    if doses == 1:
        return tail
    # Equal correlations come from one common factor: given it, the doses are independent, and twelve dimensions become
    # one integral.
    root, rest = np.sqrt(correlation), np.sqrt(1 - correlation)

    def any_beyond(point: float) -> float:
        def share(common: float) -> float:
            # 1 - (1 - q)^k, by way of logarithms: written as it stands, small tails would lose their digits.
            below = special.log_ndtr((point - root * common) / rest)
            return float(-np.expm1(doses * below) * np.exp(-(common**2) / 2) / np.sqrt(2 * np.pi))

        return float(integrate.quad(share, -FARTHEST, FARTHEST, epsabs=1e-13, epsrel=1e-9, limit=200)[0])

    # In logarithms, so that a small tail is met to as many digits as a large one.
    point = optimize.brentq(lambda z: np.log(any_beyond(z) / tail), -1.0, FARTHEST)
    return float(np.clip(special.ndtr(-point), tail / doses, tail))


# ---------------------------------------------------------------------------------------------------------------- looks


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look: its seeds, and the tails of its claims. At level 95%, all looks together spend 2.5% on `better` (over
    all doses) and on `strict` (ruled out by one of two baselines), and 5% on `single` (ruled out by both; inside)."""

    seeds: int
    better: float
    single: float
    strict: float


def plan_looks(
    looks: tuple[int, ...], *, most: int, doses: int, level: float = 0.95, spending: str = "t^1.5"
) -> tuple[Look, ...]:
    """The looks with the tails of all claims.

    >>> looks = plan_looks(ladder(20), most=20, doses=4)
    >>> looks[0].seeds, round(looks[0].single, 4), round(looks[-1].single, 4)
    (3, 0.0029, 0.0329)
    """
    # 1 - 0.95 is 0.050000000000000044: rounded, or tails would depend on how a level is written.
    both = round(1 - level, 12)
    single = nominal_tails(looks, most=most, tail=both, spending=spending)
    strict = nominal_tails(looks, most=most, tail=both / 2, spending=spending)
    return tuple(
        Look(seeds=seeds, better=dunnett_tail(one, doses), single=two, strict=one)
        for seeds, one, two in zip(looks, strict, single, strict=True)
    )
