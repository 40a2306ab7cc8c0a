"""Simulated studies whose truth is known: what the statistics are calibrated against.

The generator knows nothing of the analysis and imports nothing from it. Each world makes many studies at once, on a
leading axis, and says what every dose is truly worth. The analysis assumes crossed random effects; most of these worlds
break that on purpose.

    graded            crossed normal effects: the textbook case
    binary            the same crossed effects behind a threshold
    logistic_graded   a logistic curve over arm x item and arm x seed interactions: effects do not add up
    logistic_binary   right or wrong with that probability
    heavy_tails       arm x seed effects from Student's t with 3 degrees of freedom
    overlapping_draws every seed trains on n of the same N target rows, so seeds resemble each other
    rare_changes      right or wrong, and a dose changes a few items for good, all one way, the same at every seed
    stored            real scores, resampled over seeds and items, with a known shift imposed

Array names end in their axes: B studies, A arms, S seeds, I items, G groups, D doses, N target rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import erf, sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from titrant.core.errors import ScoresError
from titrant.core.identity import canonical_json, rng_for

Array = NDArray[np.float64]
WorldKind = Literal[
    "graded",
    "binary",
    "logistic_graded",
    "logistic_binary",
    "heavy_tails",
    "overlapping_draws",
    "rare_changes",
    "stored",
]
WORLDS: tuple[WorldKind, ...] = get_args(WorldKind)
GROUP_SHARE = 0.5
"""The part of every item-wise variance (item, arm x item, residual) that the items of a group have in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One simulated setting.

    `gains` are the doses' true gains over the baseline, in the score's units; `matched_gain` that of the matched
    baseline, None for a study without one. `seeds_share` is the share of seeds in the variance of a contrast's estimate
    (the mean over seeds and items of arm minus baseline), for doses of ordinary variance. `correlation` is that of the
    doses' own deviations with each other, beside what they share through the baseline. `group_items` is the mean size
    of a group of items (sizes vary from half to one and a half of it), None without groups. `odd_variance` multiplies
    the arm x seed variance of the first dose. `population_rows` and `drawn_rows` are N and n of `overlapping_draws`.
    """

    kind: WorldKind = "graded"
    gains: tuple[float, ...] = (0.0,)
    matched_gain: float | None = None
    seeds: int = 5
    items: int = 200
    seeds_share: float = 0.1
    correlation: float = 0.0
    group_items: int | None = None
    odd_variance: float = 1.0
    base_score: float = 0.5
    population_rows: int = 90
    drawn_rows: int = 30
    stored_path: str | None = None
    stored_probe: str = "target"
    stored_metric: str = "exact_match"

    @property
    def arm_means(self) -> tuple[float, ...]:
        """The expected score of every arm: the baseline, the matched baseline where there is one, the doses."""
        matched = () if self.matched_gain is None else (self.base_score + self.matched_gain,)
        return (self.base_score, *matched, *(self.base_score + gain for gain in self.gains))

    @property
    def first_dose(self) -> int:
        """The index of the first dose among the arms."""
        return 1 if self.matched_gain is None else 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedStudies:
    """Studies of one world: `scores` B×A×S×I, gains B×D. Arm 0 is the baseline, arm 1 the matched one where there is
    one, the rest are doses.

    `gains` is the truth about rows like these (the expectation over everything that varies); `gains_these_rows` the
    truth about these very target rows, which differs only where seeds draw from a finite set. Both are over the
    baseline; subtract `matched_gain` for gains over the matched one. `groups` (I) numbers the groups of items from 0.
    """

    world: World
    scores: Array
    gains: Array
    gains_these_rows: Array
    groups: NDArray[np.int64] | None

    @property
    def matched(self) -> bool:
        """Whether arm 1 is a matched baseline."""
        return self.world.matched_gain is not None

    @property
    def overlap(self) -> float:
        """The share of the target rows that each seed trains on; 0 where seeds do not share a finite set."""
        return self.world.drawn_rows / self.world.population_rows if self.world.kind == "overlapping_draws" else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedComponents:
    """Variances on the scale where effects add up: the score itself, or what lies behind the threshold or the curve."""

    item: float
    seed: float
    arm_item: float
    arm_seed: float
    residual: float

    @property
    def total(self) -> float:
        """The variance of a cell over everything."""
        return self.item + self.seed + self.arm_item + self.arm_seed + self.residual


def simulate(world: World, *, studies: int, seed: int, batch: int = 0) -> SimulatedStudies:
    """`studies` studies of `world`: the same numbers for the same world, count, seed and batch number."""
    # Where a file of scores lies is no part of what is drawn from it.
    named = replace(world, stored_path=None if world.stored_path is None else Path(world.stored_path).name)
    rng = rng_for(seed, "worlds", canonical_json(named), studies, batch)
    if world.kind == "stored":
        return _resampled(world, studies=studies, rng=rng)
    if world.kind == "rare_changes":
        return _rarely_changed(world, studies=studies, rng=rng)
    parts, arms = components(world), len(world.arm_means)
    groups_I = item_groups(world.items, world.group_items)
    draw = partial(_itemwise, rng, items=world.items, groups_I=groups_I)
    arm_seed_BAS, these_BA = _arm_seed_effects(world, parts, studies=studies, rng=rng)
    arm_item_BAI = _alike(
        draw(studies, arms, variance=parts.arm_item), world, shared_B1x=draw(studies, 1, variance=parts.arm_item)
    )
    place_A = np.array([_place(world, _of_arm(world, parts, arm), mean) for arm, mean in enumerate(world.arm_means)])
    scores_BASI = draw(studies, arms, world.seeds, variance=parts.residual)
    scores_BASI += place_A[:, None, None] + draw(studies, 1, 1, variance=parts.item)
    scores_BASI += sqrt(parts.seed) * rng.standard_normal((studies, 1, world.seeds, 1))
    scores_BASI += arm_seed_BAS[..., None]
    scores_BASI += arm_item_BAI[:, :, None, :]
    gains_BD = np.tile(np.array(world.gains), (studies, 1))
    return SimulatedStudies(
        world=world,
        scores=_observed(world, scores_BASI, rng),
        gains=gains_BD,
        gains_these_rows=gains_BD + these_BA[:, world.first_dose :] - these_BA[:, :1],
        groups=groups_I,
    )


def batches(world: World, *, studies: int, seed: int, cells: int = 4_000_000) -> Iterator[SimulatedStudies]:
    """`studies` studies in batches of at most `cells` scores, so that memory stays bounded.

    The numbers depend on `cells`: it is part of what is asked for.
    """
    each = max(1, min(studies, cells // (len(world.arm_means) * world.seeds * world.items)))
    for number, start in enumerate(range(0, studies, each)):
        yield simulate(world, studies=min(each, studies - start), seed=seed, batch=number)


def item_groups(items: int, mean_size: int | None) -> NDArray[np.int64] | None:
    """The group of every item, from 0; sizes go round from half the mean to one and a half. None without groups.

    >>> item_groups(10, 4).tolist()
    [0, 0, 1, 1, 1, 2, 2, 2, 2, 3]
    """
    if mean_size is None:
        return None
    sizes = range(max(1, mean_size // 2), mean_size + (mean_size + 1) // 2 + 1)
    numbers: list[int] = []
    group = 0
    while len(numbers) < items:
        numbers += [group] * sizes[group % len(sizes)]
        group += 1
    return np.array(numbers[:items], dtype=np.int64)


# ------------------------------------------------------------------------------------------------------------ variances


_WITHOUT_SEEDS: dict[str, SimulatedComponents] = {
    "graded": SimulatedComponents(item=0.10**2, seed=0.02**2, arm_item=0.06**2, arm_seed=0.0, residual=0.06**2),
    "heavy_tails": SimulatedComponents(item=0.10**2, seed=0.02**2, arm_item=0.06**2, arm_seed=0.0, residual=0.06**2),
    "overlapping_draws": SimulatedComponents(
        item=0.10**2, seed=0.02**2, arm_item=0.06**2, arm_seed=0.0, residual=0.06**2
    ),
    "binary": SimulatedComponents(item=1.0, seed=0.1**2, arm_item=0.4, arm_seed=0.0, residual=1.0),
    "logistic_graded": SimulatedComponents(item=1.0, seed=0.1**2, arm_item=0.3, arm_seed=0.0, residual=0.4),
    "logistic_binary": SimulatedComponents(item=2.0, seed=0.15**2, arm_item=0.8, arm_seed=0.0, residual=0.0),
}


@lru_cache(maxsize=512)
def components(world: World) -> SimulatedComponents:
    """The world's variances, with the arm x seed variance that gives seeds the share asked for.

    The share is that of a dose with the largest of the true gains, exact up to the quadrature.
    """
    if world.kind == "rare_changes":
        return SimulatedComponents(item=0.0, seed=0.0, arm_item=0.0, arm_seed=0.0, residual=0.0)
    parts = _WITHOUT_SEEDS[world.kind]
    if not 0 <= world.seeds_share < 1:
        raise ValueError(f"seeds' share must be at least 0 and below 1, got {world.seeds_share}")
    if world.seeds_share == 0:
        return parts
    # No closed form, as observed scores pass through a link, but the share rises with the variance: bracket it, then
    # halve.
    low, high = 0.0, 1e-6
    while seeds_share(world, replace(parts, arm_seed=high)) < world.seeds_share:
        high *= 2
    for _ in range(30):
        middle = (low + high) / 2
        if seeds_share(world, replace(parts, arm_seed=middle)) < world.seeds_share:
            low = middle
        else:
            high = middle
    return replace(parts, arm_seed=(low + high) / 2)


def seeds_share(world: World, parts: SimulatedComponents) -> float:
    """The share of seeds in the variance of a contrast's estimate, for an ordinary dose with the largest true gain.

    The variance of the mean difference is an average of covariances over pairs of cells; a pair shares its seed or not,
    and its item, only its group, or neither. What cells of one seed share without sharing items is the seeds' part.
    """
    total, seeds_part, _ = _variance_of_mean(world, parts)
    return seeds_part / total


def standard_error(world: World) -> float:
    """The true standard error of an ordinary dose's estimated gain over the baseline."""
    return sqrt(_variance_of_mean(world, components(world))[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastVariances:
    """The true variance of an ordinary dose's estimated gain in its parts, which add up: what averages out over items
    alone, over seeds alone, and over both."""

    item: float
    seed: float
    error: float


def contrast_variances(world: World) -> ContrastVariances:
    """The parts of the squared `standard_error`."""
    total, seed, item = _variance_of_mean(world, components(world))
    return ContrastVariances(item=item, seed=seed, error=total - seed - item)


def _variance_of_mean(world: World, parts: SimulatedComponents) -> tuple[float, float, float]:
    """The variance of a contrast's estimate, and what of it is the seeds' and the items'."""
    if world.kind == "rare_changes":
        gain = max(world.gains, default=0.0, key=abs)
        own = (abs(gain) - gain**2) / world.items
        return own, 0.0, own
    groups_I = item_groups(world.items, world.group_items)
    shared = GROUP_SHARE if groups_I is not None else 0.0
    # Of all pairs of cells these shares have the same item, or another item of the same group.
    same_item = 1 / world.items
    same_group = 0.0 if groups_I is None else float(np.sum(np.bincount(groups_I) ** 2)) / world.items**2 - same_item
    means = (world.base_score, world.base_score + max(world.gains, default=0.0))

    def covariance(own: float, across: float, *, same_cell: bool = False) -> float:
        pair = [_cell_covariance(world, parts, means[k], means[k], own, same_cell=same_cell) for k in (0, 1)]
        return pair[0] + pair[1] - 2 * _cell_covariance(world, parts, means[0], means[1], across)

    itemwise, residual = parts.item + parts.arm_item, parts.residual
    of_seed, main_seed = parts.seed + parts.arm_seed, parts.seed
    seed_only = covariance(of_seed, main_seed)
    one_seed = (
        same_item * covariance(of_seed + itemwise + residual, main_seed + parts.item, same_cell=True)
        + same_group * covariance(of_seed + shared * (itemwise + residual), main_seed + shared * parts.item)
        + (1 - same_item - same_group) * seed_only
    )
    two_seeds = same_item * covariance(itemwise, parts.item) + same_group * covariance(
        shared * itemwise, shared * parts.item
    )
    # A pair of cells is of one seed in 1 / S of the cases, and of two seeds in the rest.
    total = one_seed / world.seeds + two_seeds * (1 - 1 / world.seeds)
    return total, seed_only / world.seeds, two_seeds


def _cell_covariance(
    world: World, parts: SimulatedComponents, mean: float, other: float, common: float, *, same_cell: bool = False
) -> float:
    """The covariance of two observed scores with those means that share latent variance `common`."""
    if world.kind in ("graded", "heavy_tails", "overlapping_draws"):
        return common
    if same_cell and world.kind in ("binary", "logistic_binary"):
        return mean * (1 - mean)
    places = [_place(world, parts, wanted) for wanted in (mean, other)]
    z, weight = _hermite()
    smooth = [_smoothed(world, parts.total - common, place + sqrt(common) * z) for place in places]
    return float(np.sum(weight * smooth[0] * smooth[1])) - mean * other


def _of_arm(world: World, parts: SimulatedComponents, arm: int) -> SimulatedComponents:
    return replace(parts, arm_seed=parts.arm_seed * world.odd_variance) if arm == world.first_dose else parts


def _place(world: World, parts: SimulatedComponents, mean: float) -> float:
    """The latent location at which an arm's expected score is `mean`."""
    if world.kind in ("graded", "heavy_tails", "overlapping_draws"):
        return mean
    if not 0 < mean < 1:
        raise ValueError(f"an expected score must lie between 0 and 1, got {mean}")
    if world.kind == "binary":
        return sqrt(parts.total) * NormalDist().inv_cdf(mean)
    return _logistic_place(parts.total, mean)


@lru_cache(maxsize=4096)
def _logistic_place(variance: float, mean: float) -> float:
    """Where a logistic curve over a normal of that variance has the expectation `mean`, by bisection."""
    z, weight = _hermite()
    low, high = -40.0, 40.0
    for _ in range(45):
        middle = (low + high) / 2
        if float(np.sum(weight * _sigmoid(middle + sqrt(variance) * z))) < mean:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _smoothed(world: World, variance: float, place: Array) -> Array:
    """The expected score at latent places, with normal latent `variance` still to come (the residual is in it)."""
    if world.kind == "binary":
        return _normal_below(place / sqrt(variance)) if variance > 1e-12 else (place > 0).astype(np.float64)
    z, weight = _hermite()
    return np.asarray((_sigmoid(place[..., None] + sqrt(max(variance, 0.0)) * z) * weight).sum(axis=-1))


@lru_cache(maxsize=1)
def _hermite() -> tuple[Array, Array]:
    """Nodes and weights of the expectation over a standard normal."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    return nodes, weights / weights.sum()


def _normal_below(x: Array) -> Array:
    return np.asarray(0.5 * (1 + np.vectorize(erf, otypes=[np.float64])(x / sqrt(2))))


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))


# -------------------------------------------------------------------------------------------------------------- effects


def _itemwise(
    rng: np.random.Generator,
    *shape: int,
    items: int,
    groups_I: NDArray[np.int64] | None,
    variance: float,
) -> Array:
    """Normal effects of items in that shape, with what the items of a group have in common."""
    own = rng.standard_normal((*shape, items), dtype=np.float32)
    if groups_I is not None:
        own *= np.float32(sqrt(1 - GROUP_SHARE))
        common = rng.standard_normal((*shape, int(groups_I.max()) + 1), dtype=np.float32)
        own += np.float32(sqrt(GROUP_SHARE)) * common[..., groups_I]
    own *= np.float32(sqrt(variance))
    return own.astype(np.float64)


def _alike(own_BAx: Array, world: World, *, shared_B1x: Array) -> Array:
    """Deviations of which those of the doses correlate as the world says; baselines stay on their own."""
    first, correlation = world.first_dose, world.correlation
    if correlation > 0:
        own_BAx[:, first:] = sqrt(1 - correlation) * own_BAx[:, first:] + sqrt(correlation) * shared_B1x
    return own_BAx


def _arm_seed_effects(
    world: World, parts: SimulatedComponents, *, studies: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Arm x seed effects, and what of them belongs to these very target rows (0 where rows are not drawn)."""
    arms = len(world.arm_means)
    scale_A1 = np.sqrt([[_of_arm(world, parts, arm).arm_seed] for arm in range(arms)])
    if world.kind == "overlapping_draws":
        return _drawn_effects(world, scale_A1, studies=studies, rng=rng)

    def draw(*shape: int) -> Array:
        # Student's t with 3 degrees of freedom has variance 3.
        return rng.standard_t(3, shape) / sqrt(3) if world.kind == "heavy_tails" else rng.standard_normal(shape)

    effects_BAS = _alike(draw(studies, arms, world.seeds), world, shared_B1x=draw(studies, 1, world.seeds))
    return scale_A1 * effects_BAS, np.zeros((studies, arms))


def _drawn_effects(world: World, scale_A1: Array, *, studies: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Effects of the rows that a seed drew, n of N without replacement, the same rows for every arm."""
    rows, drawn = world.population_rows, world.drawn_rows
    row_effects_BAN = _alike(
        rng.standard_normal((studies, scale_A1.shape[0], rows)),
        world,
        shared_B1x=rng.standard_normal((studies, 1, rows)),
    )
    # A mean over n rows varies by a row's variance / n: scaled up, so that a seed varies as the world asks for,
    # whatever n is.
    row_effects_BAN *= scale_A1 * sqrt(drawn)
    # The n smallest of N random numbers are n rows without replacement, for all studies and seeds at once.
    order_BSN = rng.random((studies, world.seeds, rows)).argsort(axis=-1)
    chosen_BSN = (order_BSN < drawn).astype(np.float64)
    drawn_BAS: Array = np.matmul(row_effects_BAN, chosen_BSN.swapaxes(1, 2)) / drawn
    return drawn_BAS, row_effects_BAN.mean(axis=-1)


def _observed(world: World, latent_BASI: Array, rng: np.random.Generator) -> Array:
    """What is scored of the latent values."""
    if world.kind == "binary":
        return (latent_BASI > 0).astype(np.float64)
    if world.kind == "logistic_graded":
        return _sigmoid(latent_BASI)
    if world.kind == "logistic_binary":
        return (rng.random(latent_BASI.shape) < _sigmoid(latent_BASI)).astype(np.float64)
    return latent_BASI


# -------------------------------------------------------------------------------------------------------- stored scores


@lru_cache(maxsize=4)
@lru_cache(maxsize=8)
def stored_arms(path: str, eval_set: str = "target", metric: str = "exact_match") -> dict[str, Array]:
    """Every arm of a scores.parquet on one eval set and metric as an array over its seeds and items, arms with missing
    cells left out.

    Only items and seeds that all kept arms share are used. Raises ScoresError with fewer than two complete arms.
    """
    import pyarrow.parquet as parquet

    columns = ["arm", "seed", "item", "value"]
    chosen = [("eval_set", "=", eval_set), ("metric", "=", metric)]
    table = parquet.read_table(Path(path), columns=columns, filters=chosen).to_pydict()
    cells: dict[str, dict[tuple[int, str], float]] = {}
    for arm, seed, item, value in zip(*(table[column] for column in columns), strict=True):
        if value is not None:
            cells.setdefault(arm, {})[seed, item] = float(value)
    wanted = max((set(values) for values in cells.values()), key=len, default=set())
    seeds, items = sorted({seed for seed, _ in wanted}), sorted({item for _, item in wanted})
    complete = {
        arm: np.array([[values[seed, item] for item in items] for seed in seeds])
        for arm, values in sorted(cells.items())
        if all((seed, item) in values for seed in seeds for item in items)
    }
    if len(complete) < 2 or len(seeds) < 2:
        raise ScoresError(
            "stored scores to resample need two arms with the same seeds and items",
            where=path,
            got=f"{len(complete)} complete arms, {len(seeds)} seeds, eval set {eval_set}, metric {metric}",
            expected="at least 2 arms and 2 seeds",
        )
    return complete


def _resampled(world: World, *, studies: int, rng: np.random.Generator) -> SimulatedStudies:
    """Studies drawn from stored scores, which stand for the whole population of seeds and items.

    Each study gives the stored arms new roles at random, draws items with replacement, the same ones for all arms, and
    for each arm and seed one of the arm's runs (not whole seeds: docs/decisions/0017-stored-world.md). It moves each
    arm's scores so that its mean over the population is what the world says, by mixing with all right or all wrong,
    which keeps scores within 0 to 1 and right-or-wrong scores right or wrong.
    """
    if world.stored_path is None:
        raise ValueError("a world of stored scores needs stored_path")
    stored_PSI = np.stack(list(stored_arms(world.stored_path, world.stored_probe, world.stored_metric).values()))
    pool, stored_seeds, stored_items = stored_PSI.shape
    is_binary = bool(np.isin(stored_PSI, (0.0, 1.0)).all())
    means_A = np.array(world.arm_means)
    scores_BASI = np.empty((studies, len(means_A), world.seeds, world.items))
    for study in range(studies):
        baseline, *others = rng.permutation(pool)
        # Roles change from study to study: with fixed ones, the truth of one pair of arms would be tested a thousand
        # times.
        roles_A = np.array([baseline, *(others[k % len(others)] for k in range(len(means_A) - 1))])
        runs_AS = rng.integers(stored_seeds, size=(len(means_A), world.seeds))
        items_I = rng.integers(stored_items, size=world.items)
        drawn_ASI = stored_PSI[roles_A[:, None, None], runs_AS[..., None], items_I]
        scores_BASI[study] = _moved(drawn_ASI, stored_PSI[roles_A].mean(axis=(1, 2)), means_A, is_binary, rng)
    gains_BD = np.tile(np.array(world.gains), (studies, 1))
    return SimulatedStudies(world=world, scores=scores_BASI, gains=gains_BD, gains_these_rows=gains_BD, groups=None)


def _rarely_changed(world: World, *, studies: int, rng: np.random.Generator) -> SimulatedStudies:
    """Every item is right or wrong whatever the seed; an arm's gain is the share of items that it alone changes, wrong
    to right (right to wrong where it loses). Seeds and items' common variance play no part."""
    means_A = np.array(world.arm_means)
    right_BI = rng.random((studies, world.items)) < world.base_score
    scores_BAI = np.repeat(right_BI[:, None], len(means_A), axis=1)
    for arm, change in enumerate(means_A - world.base_score):
        # Only items that are wrong can be changed to right, so a larger share of them has to be for the same gain.
        share = change / (1 - world.base_score) if change > 0 else -change / world.base_score
        changed_BI = rng.random((studies, world.items)) < share
        scores_BAI[:, arm] = np.where(changed_BI, change > 0, right_BI)
    scores_BASI = np.repeat(scores_BAI[:, :, None].astype(np.float64), world.seeds, axis=2)
    gains_BD = np.tile(np.array(world.gains), (studies, 1))
    return SimulatedStudies(world=world, scores=scores_BASI, gains=gains_BD, gains_these_rows=gains_BD, groups=None)


def _moved(scores_ASI: Array, from_A: Array, to_A: Array, is_binary: bool, rng: np.random.Generator) -> Array:
    """Scores whose population means are moved from `from_A` to `to_A` by mixing with all right (1) or all wrong (0)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share_A = np.where(to_A >= from_A, (to_A - from_A) / (1 - from_A), 1 - to_A / from_A)
    goal_ASI = np.broadcast_to((to_A >= from_A)[:, None, None], scores_ASI.shape).astype(np.float64)
    share_ASI = np.broadcast_to(np.nan_to_num(share_A)[:, None, None], scores_ASI.shape)
    if is_binary:
        return np.where(rng.random(scores_ASI.shape) < share_ASI, goal_ASI, scores_ASI)
    return scores_ASI + share_ASI * (goal_ASI - scores_ASI)
