"""Simultaneous intervals and adjusted p-values for the doses of one family, which share a baseline.

From 4 seeds on, the joint distribution of the t statistics is simulated from their correlations and degrees of freedom.
Below, the correlations over seeds cannot be had: p-values are Holm's, and intervals Bonferroni's, which belong to its
first step (so an interval can hold 0 where Holm's p is below 5%, never the other way round).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special

from titrant.core.identity import rng_for
from titrant.stats.contrasts import Floats, Moments, Spread, bounds, p_values

SIMULATED_DRAWS = 8192
SEEDS_TO_SIMULATE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyBounds:
    """Simultaneous bounds, p-values for one contrast and for the family; all of shape B×K."""

    low: Floats
    high: Floats
    p: Floats
    p_adjusted: Floats
    method: str


def simultaneous(spread: Spread, correlation_BKK: Floats | None, *, level: float) -> FamilyBounds:
    """Bounds that hold for all K contrasts at once with probability `level`, and p-values that allow for looking at K.

    `correlation_BKK` None (or below 4 seeds): Holm and Bonferroni.
    """
    n_doses = spread.difference.shape[-1]
    p = p_values(spread)
    if n_doses == 1:
        low, high = bounds(spread, (1 - level) / 2)
        return FamilyBounds(low=low, high=high, p=p, p_adjusted=p, method="one contrast")
    if correlation_BKK is None or spread.n_seeds < SEEDS_TO_SIMULATE:
        # Two or three seeds give a correlation over seeds that is itself noise. Bonferroni needs none.
        low, high = bounds(spread, (1 - level) / 2 / n_doses)
        return FamilyBounds(low=low, high=high, p=p, p_adjusted=holm(p), method="Holm, Bonferroni intervals")
    # A difference that is the same everywhere has no t to simulate, so it gets Bonferroni's tail.
    tail_B, p_adjusted = _simulated(spread, correlation_BKK, p, level=level)
    low, high = bounds(spread, np.where(spread.constant, (1 - level) / 2 / n_doses, tail_B[..., None]))
    adjusted = np.where(spread.constant, np.minimum(p * n_doses, 1.0), np.maximum(p_adjusted, p))
    return FamilyBounds(low=low, high=high, p=p, p_adjusted=adjusted, method="simulated joint t")


def holm(p_BK: Floats) -> Floats:
    """Holm's adjusted p-values along the last axis; unknown ones (NaN) stay so and still count as looked at.

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    n_doses = p_BK.shape[-1]
    order = np.argsort(p_BK, axis=-1)
    sorted_p = np.take_along_axis(p_BK, order, axis=-1) * (n_doses - np.arange(n_doses))
    # A dose is never called surer than one with a smaller p; NaN sorts last and spoils no other.
    raised = np.minimum(np.maximum.accumulate(sorted_p, axis=-1), 1.0)
    adjusted = np.empty_like(p_BK)
    np.put_along_axis(adjusted, order, raised, axis=-1)
    return adjusted


def correlations(moments: Moments, arms: list[int], baseline: int, spread: Spread) -> Floats:
    """Correlations of the estimated differences, B×K×K: the items' from the data, the seeds' as of arms that vary alike
    and share a baseline, which is a half (S seeds are too few to estimate more)."""
    # cov(a - b, c - b) = M[a, c] - M[a, b] - M[b, c] + M[b, b].
    picked = moments.item_BAA[..., arms, :][..., :, arms]
    side = moments.item_BAA[..., arms, baseline]
    own = moments.item_BAA[..., baseline, baseline][..., None, None]
    item_BKK = picked - side[..., :, None] - side[..., None, :] + own
    scale = np.sqrt(np.maximum(np.diagonal(item_BKK, axis1=-2, axis2=-1), 1e-300))
    item_BKK = np.clip(item_BKK / (scale[..., :, None] * scale[..., None, :]), -1.0, 1.0)
    pure = np.maximum(spread.item - spread.error, 0.0)
    total = np.maximum(pure + spread.seed, 1e-300)
    item_share, seed_share = np.sqrt(pure / total), np.sqrt(spread.seed / total)
    # Each contrast's variance is part items and part seeds; the two parts correlate by their own rules.
    mixed = item_BKK * item_share[..., :, None] * item_share[..., None, :]
    mixed = mixed + 0.5 * seed_share[..., :, None] * seed_share[..., None, :]
    diagonal = np.eye(len(arms), dtype=bool)
    return np.where(diagonal, 1.0, np.clip(mixed, -0.999, 0.999))


@lru_cache(maxsize=16)
def _draws(n_doses: int) -> tuple[Floats, Floats]:
    """Standard normals for the estimates and for their variances, D×K each, the same for every study."""
    rng = rng_for(0, "stats", "family", n_doses)
    return rng.standard_normal((SIMULATED_DRAWS, n_doses)), rng.standard_normal((SIMULATED_DRAWS, n_doses))


def _simulated(spread: Spread, correlation_BKK: Floats, p: Floats, *, level: float) -> tuple[Floats, Floats]:
    """The tail that every single bound may leave in each study, and adjusted p-values, B×K.

    The statistic is the largest |t| on the normal's scale (Wallace 1959, which is right to two digits from 3 degrees of
    freedom), so that contrasts with few degrees of freedom do not rule the family: every contrast gets the same tail.
    Chi-square draws by Wilson and Hilferty's cube.
    """
    n_doses = spread.difference.shape[-1]
    leading = spread.difference.shape[:-1]
    df = np.where(spread.df > 0, spread.df, 1e6).reshape(-1, n_doses)
    # An observed p as a point of the normal, the scale on which the simulated maxima are compared.
    seen = special.ndtri(1 - np.minimum(np.maximum(p, 1e-15), 1.0) / 2).reshape(-1, n_doses)
    root = _roots(correlation_BKK.reshape(-1, n_doses, n_doses))
    normal_DK, spread_DK = _draws(n_doses)
    point, adjusted = np.empty(len(df)), np.empty_like(df)
    for study, own_df in enumerate(df):
        ninth = 2 / (9 * own_df)
        # Cubes can go below 0 with few degrees of freedom; kept off 0, or a single draw would be infinite.
        chi = np.maximum(1 - ninth + spread_DK * np.sqrt(ninth), 0.05) ** 3
        square = (normal_DK @ root[study].T) ** 2 / chi
        on_normal = np.log1p(square / own_df) * (own_df * ((8 * own_df + 1) / (8 * own_df + 3)) ** 2)
        largest = np.sort(on_normal.max(-1))
        point[study] = np.sqrt(np.quantile(largest, level))
        adjusted[study] = 1 - np.searchsorted(largest, seen[study] ** 2) / SIMULATED_DRAWS
    # Simulation error must not make a family cheaper than one contrast nor dearer than Bonferroni.
    tail = np.clip(special.ndtr(-point), (1 - level) / 2 / n_doses, (1 - level) / 2)
    adjusted = np.where(np.isnan(seen), np.nan, np.maximum(adjusted, 1 / SIMULATED_DRAWS))
    return tail.reshape(leading), adjusted.reshape(*leading, n_doses)


def _roots(correlation_BKK: Floats) -> Floats:
    """Square roots of correlation matrices; small negative eigenvalues (they are pieced together) count as 0."""
    values, vectors = np.linalg.eigh(correlation_BKK)
    root: Floats = vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]
    # Dropping negative eigenvalues makes rows a little longer than 1, and draws would have a variance above 1.
    length = np.sqrt((root**2).sum(-1, keepdims=True))
    rows: Floats = root / np.maximum(length, 1e-12)
    return rows
