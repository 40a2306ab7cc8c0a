"""What a design can find out, before it is paid for: the smallest detectable effect and the cheapest design.

Studies are simulated at the level of means and mean squares, from variance components, and go through the same
contrasts, families and bounds as real ones. So a figure here holds for the method as it is, few seeds included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from titrant.core.identity import rng_for
from titrant.stats.contrasts import (
    Floats,
    Moments,
    Spread,
    as_seen,
    bounds,
    contrast_batch,
    t_point_array,
)
from titrant.stats.family import SEEDS_TO_SIMULATE, correlations, simultaneous

SIMULATED_STUDIES = 1000
FACTOR_STUDIES = 24
AIM = 0.85
"""Share that is asked for, so that the promise of 80% survives the simulation's own error and scores that are not
normal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """Variances of one contrast's d[seed, item]: between items, between seeds, and what is left. Scores are 0 to 1.

    `origin` says where they come from: "assumed" or "pilot".
    """

    item: float
    seed: float
    error: float
    origin: str = "assumed"


ASSUMED: dict[str, Components] = {
    "right_or_wrong": Components(item=0.08, seed=0.0004, error=0.10),
    "graded": Components(item=0.02, seed=0.0002, error=0.03),
}
"""Assumed where nothing has been measured. Right or wrong: a pair of runs disagrees on 18% of the items, and seeds move
a difference by 0.02 (one standard deviation). Graded: a fourth of that variance in items and error, half in seeds."""

GRADED_METRICS = ("rouge_l", "f1", "graded", "subject_gain")


def assumed_components(metric: str) -> Components:
    """Assumed components by the kind of metric."""
    return ASSUMED["graded" if metric in GRADED_METRICS else "right_or_wrong"]


def pilot_components(spread: Spread, *, overlap: float = 0.0) -> Components | None:
    """Components from measured contrasts (the mean over them); None where they cannot be told apart (one seed, one
    item) or where nothing varied. Estimates below 0 count as 0. `overlap` as it was for the spread."""
    n_seeds, n_clusters = spread.n_seeds, spread.n_clusters
    if n_seeds < 2 or n_clusters < 2 or not spread.item.size or bool(spread.constant.all()):
        return None
    # What overlapping draws add is put on again by whoever simulates a design with that overlap: here it is taken off.
    seed = as_seen(spread.seed, spread.error, overlap, n_seeds)
    return Components(
        item=float(np.maximum(spread.item - spread.error, 0).mean() * n_clusters),
        seed=float(np.maximum(seed - spread.error, 0).mean() * n_seeds),
        error=float(spread.error.mean() * n_seeds * n_clusters),
        origin="pilot",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerDesign:
    """A design to be judged in advance. `items` counts independent items (groups, where items come in groups);
    `baselines` is 2 where there is a matched one;
    `overlap` is n/N for *rows like these* (see contrast_batch)."""

    seeds: int
    items: int
    doses: int
    baselines: int
    components: Components
    smallest_effect: float
    level: float = 0.95
    overlap: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospects:
    """What a design promises. `smallest_detectable`: a dose with this gain (the others with none) is a `mix` in 80% of
    studies, and doses that all lose as much are `train_alone`. The shares are of studies in which no dose does
    anything. None with a reason where the design gives no interval at all."""

    smallest_detectable: float | None
    no_difference_share: float | None
    settled_share: float | None
    reason: str | None = None

    @property
    def no_difference_reachable(self) -> bool:
        return self.no_difference_share is not None and self.no_difference_share >= AIM

    @property
    def settles(self) -> bool:
        """Doses without effect are told as such (train alone, or no difference) in 80% of studies."""
        return self.settled_share is not None and self.settled_share >= AIM


@lru_cache(maxsize=512)
def prospects(design: PowerDesign, *, studies: int = SIMULATED_STUDIES) -> Prospects:
    """What the design promises, by simulation with a fixed generator."""
    if design.seeds < 1 or design.items < 1 or (design.seeds == 1 and design.items == 1) or design.doses < 1:
        return Prospects(
            smallest_detectable=None,
            no_difference_share=None,
            settled_share=None,
            reason="one item at one seed shows no variance" if design.doses >= 1 else "no dose",
        )
    delta = design.smallest_effect
    needed, inside, ruled_95, ruled_975, highs = [], [], [], [], []
    for seen in _imagined(replace(design, smallest_effect=0.0), studies):
        # A mix needs a difference beyond both the interval and the smallest effect; what a study lacks for that is the
        # effect that it would have found. The first dose stands for all: they vary alike.
        needed.append((np.maximum(delta, seen.reach) - seen.difference)[:, 0])
        inside.append((seen.low_90 > -delta) & (seen.high_90 < delta))
        ruled_95.append(seen.high_90 < delta)
        ruled_975.append(seen.high_95 < delta)
        highs.append(seen.high_90)
    no_difference = np.stack(inside, -1).all((-1, -2))
    # As in `decision.rule`: a dose is out by all baselines at 95%, or by any of them at 97.5%.
    alone = (np.stack(ruled_95, -1).all(-1) | np.stack(ruled_975, -1).any(-1)).all(-1)
    # A gain must show against every baseline, so the hardest of them counts.
    upwards = float(np.quantile(np.max(needed, axis=0), AIM))
    downwards = float(np.quantile(np.stack(highs, -1).max((-1, -2)), AIM)) - delta
    return Prospects(
        smallest_detectable=max(upwards, downwards),
        no_difference_share=float(no_difference.mean()),
        settled_share=float((no_difference | alone).mean()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What imagined studies show of the doses against one baseline, B×K each."""

    difference: Floats
    reach: Floats
    low_90: Floats
    high_90: Floats
    high_95: Floats


@lru_cache(maxsize=64)
def _imagined(design: PowerDesign, studies: int) -> tuple[_Seen, ...]:
    """Studies of this design, against each baseline. They do not depend on the smallest effect, and a search for the
    cheapest next step asks of the same design with several."""
    found = _simulated_moments(design, studies)
    doses = list(range(design.baselines, design.baselines + design.doses))
    level, seen = design.level, []
    for baseline in range(design.baselines):
        spread = contrast_batch(found, doses, baseline, overlap=design.overlap)
        low_90, high_90 = bounds(spread, 1 - level)
        seen.append(
            _Seen(
                difference=spread.difference,
                reach=_reach(found, spread, doses, baseline, level=level),
                low_90=low_90,
                high_90=high_90,
                high_95=bounds(spread, (1 - level) / 2)[1],
            )
        )
    return tuple(seen)


def _simulated_moments(design: PowerDesign, studies: int) -> Moments:
    """Moments of studies without any effect. Half of a contrast's variance is each arm's."""
    rng = rng_for(0, "stats", "power")
    parts, n_seeds, n_items = design.components, design.seeds, design.items
    n_arms = design.baselines + design.doses
    # Seeds that draw from the same N rows share the luck of those rows. It is common to all seeds, so it sits with the
    # items: more seeds do not shrink it.
    luck_of_rows = parts.seed * design.overlap / (1 - design.overlap)
    item_BA = rng.standard_normal((studies, n_arms)) * np.sqrt((parts.item / n_items + luck_of_rows) / 2)
    seed_BAS = rng.standard_normal((studies, n_arms, n_seeds)) * np.sqrt(parts.seed / 2 + parts.error / 2 / n_items)
    item_df = n_items - 1
    # What a study estimates of the items' variance scatters about the truth as a chi-square does.
    share = rng.chisquare(item_df, studies) / item_df if item_df else np.ones(studies)
    identity = np.eye(n_arms)
    # The items' mean square holds the error too, as in real studies: contrasts take it off again.
    item_square = (parts.item / n_items + parts.error / n_items / n_seeds) / 2
    error_square = parts.error / n_items / n_seeds / 2 if n_seeds > 1 else 0.0
    return Moments(
        mean_BAS=item_BA[..., None] + seed_BAS,
        item_BAA=identity * (item_square * share)[:, None, None],
        error_BAA=np.broadcast_to(identity * error_square, (studies, n_arms, n_arms)),
        item_df=float(item_df),
        n_clusters=n_items,
    )


def _reach(found: Moments, spread: Spread, doses: list[int], baseline: int, *, level: float) -> Floats:
    """Half the width of the simultaneous intervals, B×K. Where families are simulated, a few of the studies tell how
    much wider those are than single intervals."""
    single = t_point_array(np.full_like(spread.df, (1 + level) / 2), spread.df) * spread.standard_error
    if len(doses) == 1:
        return single
    if spread.n_seeds < SEEDS_TO_SIMULATE:
        # As `family.simultaneous` does below four seeds.
        tails = np.full_like(spread.df, (1 - level) / 2 / len(doses))
        return t_point_array(1 - tails, spread.df) * spread.standard_error
    # Simulating a family for every study is by far the dearest step here; its ratio to single intervals hardly moves
    # from study to study, so a few of them give it.
    few = slice(0, FACTOR_STUDIES)
    names = ("difference", "standard_error", "df", "item", "seed", "error", "constant", "unseen")
    some = replace(spread, **{name: getattr(spread, name)[few] for name in names})
    cut = replace(found, mean_BAS=found.mean_BAS[few], item_BAA=found.item_BAA[few], error_BAA=found.error_BAA[few])
    family = simultaneous(some, correlations(cut, doses, baseline, some), level=level)
    ratio = (family.high - some.difference)[~some.constant] / single[few][~some.constant]
    return single * (float(ratio.mean()) if ratio.size else 1.0)


# ------------------------------------------------------------------------------------------------------------- designs


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What runs cost, over all arms of the family: training tokens of one seed, answering tokens of one item at one
    seed, and the speed that turns tokens into minutes. `double_dose_tokens_per_seed` are all tokens that an arm with
    twice the largest dose takes at one seed, with the matched baseline that goes with it. None: unknown."""

    training_tokens_per_seed: int | None = None
    answer_tokens_per_item: int | None = None
    tokens_per_minute: float | None = None
    double_dose_tokens_per_seed: int | None = None

    def tokens(self, *, seeds: int, items: int) -> int | None:
        """All tokens of a design."""
        if self.training_tokens_per_seed is None or self.answer_tokens_per_item is None:
            return None
        return seeds * (self.training_tokens_per_seed + items * self.answer_tokens_per_item)

    def more_tokens(self, *, seeds: tuple[int, int], items: tuple[int, int]) -> int | None:
        """What the second design takes beyond the first."""
        now, then = (self.tokens(seeds=seeds[step], items=items[step]) for step in (0, 1))
        return None if now is None or then is None else then - now

    def minutes(self, tokens: int | None) -> float | None:
        """Time for so many tokens."""
        return None if tokens is None or not self.tokens_per_minute else tokens / self.tokens_per_minute


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedDesign:
    """A design with what it promises and costs."""

    design: PowerDesign
    prospects: Prospects
    tokens: int | None
    minutes: float | None


SEARCH_STUDIES = 300
MOST_SEEDS = 20
SEED_STEPS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20)


def good_enough(design: PowerDesign, *, studies: int = SEARCH_STUDIES) -> bool:
    """Whether a design answers the user's question: where no dose does anything it says so in 80% of studies, and a
    gain of twice the smallest effect is found in 80%."""
    found = prospects(design, studies=studies)
    return (
        found.settles
        and found.smallest_detectable is not None
        and found.smallest_detectable <= 2 * design.smallest_effect
    )


def cheapest_design(
    start: PowerDesign, *, costs: Costs, most_items: int, seeds: Sequence[int] = SEED_STEPS
) -> PricedDesign | None:
    """The cheapest design (seeds × items) that is good enough for the smallest effect, with at most `most_items`; None
    where there is none. Without known costs, seeds are dear (a training run each) and items cheap."""
    priced = (
        costs
        if costs.tokens(seeds=1, items=1) is not None
        else Costs(training_tokens_per_seed=1000, answer_tokens_per_item=1)
    )
    best: tuple[int, PowerDesign] | None = None
    most = most_items
    for n_seeds in sorted(seeds):
        # For each number of seeds the fewest items that do: more of either only costs more, so the cheapest design is
        # one of these. What costs as much as the best so far need not be simulated.
        affordable = most if best is None else _items_below(best[0], n_seeds, priced, most)
        items = _fewest(lambda count, s=n_seeds: good_enough(replace(start, seeds=s, items=count)), 2, affordable)  # type: ignore[misc]
        if items is None:
            continue
        most = items  # more seeds need no more items
        design = replace(start, seeds=n_seeds, items=items)
        price = priced.tokens(seeds=n_seeds, items=items) or 0
        if best is None or price < best[0]:
            best = (price, design)
    if best is None:
        return None
    design = best[1]
    tokens = costs.tokens(seeds=design.seeds, items=design.items)
    return PricedDesign(design=design, prospects=prospects(design), tokens=tokens, minutes=costs.minutes(tokens))


def _items_below(price: int, seeds: int, costs: Costs, most: int) -> int:
    """The most items, `most` at most, with which so many seeds cost less than `price`."""
    assert costs.training_tokens_per_seed is not None
    assert costs.answer_tokens_per_item is not None
    left = price / seeds - costs.training_tokens_per_seed
    return most if costs.answer_tokens_per_item == 0 else min(most, int(left // costs.answer_tokens_per_item))


def _fewest(enough: Callable[[int], bool], low: int, high: int) -> int | None:
    """The smallest count for which `enough` holds, to within 5%; None where it does not hold for `high`."""
    if high < low or not enough(high):
        return None
    while high - low > max(1, high // 20):
        # In ratios while the bracket is wide, so that small counts are found in as few steps as large ones.
        middle = int(np.sqrt(low * high)) if high > 4 * low else (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle
    return high


# ----------------------------------------------------------------------------------------------------------- next step


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way on from an open verdict: how many seeds or items in all would settle it."""

    kind: str
    seeds: int
    items: int
    tokens: int | None
    minutes: float | None


def ways_on(design: PowerDesign, *, gains: Floats, costs: Costs, items_each: float = 1.0) -> list[Way]:
    """Ways that would settle the verdict in 80% of studies if the doses' true gains were the measured `gains` (K), the
    cheapest first: more seeds with the same items (up to 20), or more items with the same seeds (up to 50 times).

    `items_each` is how many items make up one independent item (groups), so that counts can be told in items.
    """
    found = []
    seeds = next(
        (s for s in range(design.seeds + 1, MOST_SEEDS + 1) if would_settle(replace(design, seeds=s), gains)), None
    )
    items = _fewest(
        lambda count: would_settle(replace(design, items=count), gains), design.items + 1, 50 * design.items
    )
    for kind, n_seeds, n_items in (("seeds", seeds, design.items), ("items", design.seeds, items)):
        if n_seeds is None or n_items is None:
            continue
        more = costs.more_tokens(
            seeds=(design.seeds, n_seeds), items=(round(design.items * items_each), round(n_items * items_each))
        )
        found.append(
            Way(kind=kind, seeds=n_seeds, items=round(n_items * items_each), tokens=more, minutes=costs.minutes(more))
        )

    def price(way: Way) -> float:
        if way.tokens is not None:
            return way.tokens
        return max(way.seeds / design.seeds, way.items / max(design.items * items_each, 1))

    return sorted(found, key=price)


def would_settle(design: PowerDesign, gains: Floats) -> bool:
    """Whether 80% of studies of this design would be firm if the true gains were these. Gains within a quarter of the
    smallest effect of it can hardly ever be settled, and are taken as a quarter away, on the side where they are."""
    delta = design.smallest_effect
    best = float(np.max(gains))
    found = prospects(design, studies=SEARCH_STUDIES)
    if found.smallest_detectable is None or found.settled_share is None:
        return False
    if best >= delta:
        return found.smallest_detectable <= max(best, 1.25 * delta)
    # Ruling a gain out needs the same precision as ruling out nothing with what is left of the smallest effect.
    left = max(delta - best, 0.25 * delta)
    return prospects(replace(design, smallest_effect=left), studies=SEARCH_STUDIES).settles
