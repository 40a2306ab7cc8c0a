"""A law for scores over target rows and doses, which may speak only where it predicts better than interpolation.

    score = e + c * (n + gamma * g^alpha)^(-beta)

with n target rows and g generalist rows. gamma * g^alpha is what the dose is worth in target rows, negative where it
hurts. Each arm is left out in turn, predicted by the law and by its neighbours, and the law speaks only if it comes
closer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from titrant.stats.contrasts import Floats

FEWEST_SIZES, FEWEST_DOSES = 4, 3
MOST_LEFT_OUT = 60
"""Of a larger grid so many arms are left out in turn, evenly spread over it: each costs a fit."""
BOUNDS = ((-20.0, 0.05, 0.01), (50.0, 1.5, 3.0))
"""Of gamma, alpha and beta."""
SMALLEST_SHARE = 0.05
"""A harmful dose never takes away more than all but this share of the target rows: a law of nothing has no value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LawPoint:
    """The mean score of one arm of the grid; `dose_rows` 0 is the arm alone."""

    target_rows: int
    dose_rows: int
    mean: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """A fitted law, with the root mean squared error of predicting arms left out, its own and interpolation's.

    `speaks` is whether it may be quoted; if not, `reason` says why, and parameters may be None (too small a grid).
    """

    speaks: bool
    e: float | None
    c: float | None
    gamma: float | None
    alpha: float | None
    beta: float | None
    error_law: float | None
    error_interpolation: float | None
    reason: str | None = None

    def worth(self, dose_rows: int) -> float | None:
        """What the dose is worth in target rows, by the law; None where it may not speak."""
        if not self.speaks or self.gamma is None or self.alpha is None:
            return None
        return float(self.gamma * float(dose_rows) ** self.alpha)


def fit_law(arms: Sequence[LawPoint]) -> Law:
    """The law of a grid of four target sizes and three doses (beside none) or more."""
    grid = np.array([(arm.target_rows, arm.dose_rows, arm.mean) for arm in arms], dtype=np.float64).reshape(-1, 3)
    sizes, doses = set(grid[:, 0]), set(grid[:, 1]) - {0.0}
    if len(sizes) < FEWEST_SIZES or len(doses) < FEWEST_DOSES:
        return silent_law(
            f"{len(sizes)} target sizes and {len(doses)} {'dose' if len(doses) == 1 else 'doses'}, fewer than "
            f"{FEWEST_SIZES} and {FEWEST_DOSES}"
        )
    if np.ptp(grid[:, 2]) == 0:
        return silent_law("all arms have the same score")
    # e and c are linear given the rest, so the search is over three parameters and not five.
    shape = _fitted(grid)
    order = np.lexsort((grid[:, 1], grid[:, 0]))
    spread_out = order[np.unique(np.linspace(0, len(grid) - 1, MOST_LEFT_OUT).round().astype(int))]
    # Only arms that both can predict are compared: at the corners of the grid there is nothing to interpolate, and the
    # law would be judged on other arms than its rival.
    compared = [
        (_law_without(grid, left, shape) - grid[left, 2], between - grid[left, 2])
        for left in spread_out.tolist()
        if (between := _interpolation_without(grid, left)) is not None
    ]
    errors = np.sqrt(np.mean(np.array(compared) ** 2, axis=0))
    e, c = _linear(grid, shape)
    reason = None if errors[0] < errors[1] else "interpolation predicts arms that were left out at least as well"
    if reason is None and _at_an_edge(shape, grid):
        reason = "its best fit lies at the edge of what is allowed, so its shape is not settled"
    speaks = reason is None
    return Law(
        speaks=speaks,
        e=e,
        c=c,
        gamma=float(shape[0]),
        alpha=float(shape[1]),
        beta=float(shape[2]),
        error_law=float(errors[0]),
        error_interpolation=float(errors[1]),
        reason=reason,
    )


def silent_law(reason: str) -> Law:
    """A law that may not speak, and has nothing to say."""
    return Law(
        speaks=False,
        e=None,
        c=None,
        gamma=None,
        alpha=None,
        beta=None,
        error_law=None,
        error_interpolation=None,
        reason=reason,
    )


def _decay(grid: Floats, shape: Floats) -> Floats:
    """(n + gamma g^alpha)^(-beta), with the effective rows kept above a share of n."""
    gamma, alpha, beta = shape
    rows = grid[:, 0] + gamma * np.where(grid[:, 1] > 0, grid[:, 1], 0.0) ** alpha * (grid[:, 1] > 0)
    decay: Floats = np.maximum(rows, SMALLEST_SHARE * grid[:, 0]) ** -beta
    return decay


def _linear(grid: Floats, shape: Floats) -> tuple[float, float]:
    """The best e and c for a shape: least squares on one regressor."""
    x, y = _decay(grid, shape), grid[:, 2]
    centred = x - x.mean()
    c = float((centred * y).sum() / max(float((centred**2).sum()), 1e-300))
    return float(y.mean() - c * x.mean()), c


def _residuals(shape: Floats, grid: Floats) -> Floats:
    e, c = _linear(grid, shape)
    left: Floats = e + c * _decay(grid, shape) - grid[:, 2]
    return left


def _fitted(grid: Floats, start: Floats | None = None) -> Floats:
    """gamma, alpha and beta by least squares from several starts, e and c projected out."""
    starts = (
        [start]
        if start is not None
        else [np.array([g, a, b]) for g in (-0.3, 0.3, 2.0) for a in (0.5, 0.9) for b in (0.2, 0.8)]
    )
    # The sum of squares has several valleys (a large gamma with a small alpha does much as the reverse), so it is
    # searched from many starts.
    found = [optimize.least_squares(_residuals, guess, args=(grid,), bounds=BOUNDS, x_scale="jac") for guess in starts]
    best = min(found, key=lambda fit: float(fit.cost))
    shape: Floats = best.x
    return shape


def _at_an_edge(shape: Floats, grid: Floats) -> bool:
    """Whether a parameter ran into its bound. The exponent of a dose that is worth next to nothing may be anything."""
    low, high = np.array(BOUNDS)
    edge = (shape - low < 1e-3 * (high - low)) | (high - shape < 1e-3 * (high - low))
    worth = abs(shape[0]) * grid[:, 1].max() ** shape[1]
    return bool(edge[0] or edge[2] or (edge[1] and worth > 0.01 * grid[:, 0].min()))


def _law_without(grid: Floats, left: int, shape: Floats) -> float:
    """The left-out arm's score by the law of the others, fitted anew from the shape of all."""
    others = np.delete(grid, left, axis=0)
    again = _fitted(others, np.clip(shape, [-19.9, 0.06, 0.011], [49.9, 1.49, 2.99]))
    e, c = _linear(others, again)
    return float(e + c * _decay(grid[left : left + 1], again)[0])


def _interpolation_without(grid: Floats, left: int) -> float | None:
    """The left-out arm's score between its neighbours in target rows at the same dose; failing these, between its
    neighbours in dose at the same target rows; None at the corners, where there is nothing to interpolate."""
    target, dose, _ = grid[left]
    others = np.delete(grid, left, axis=0)
    along_rows = others[others[:, 1] == dose]
    along_doses = others[others[:, 0] == target]
    found = _between(np.log(along_rows[:, 0]), along_rows[:, 2], float(np.log(target)))
    return (
        found if found is not None else _between(np.log1p(along_doses[:, 1]), along_doses[:, 2], float(np.log1p(dose)))
    )


def _between(x: Floats, y: Floats, at: float) -> float | None:
    if not len(x) or not x.min() < at < x.max():
        return None
    order = np.argsort(x)
    return float(np.interp(at, x[order], y[order]))
