"""A family of doses weighed: every number that the rule of the verdict looks at, for one study or thousands at once.

`weigh` takes complete scores of the arms of one family, B×A×S×I for thousands of studies (`make calibrate`) or A×S×I
for one: `stats.evidence` calls it for a user's study, so that what is calibrated is what is run.

Thousands of studies, in a few lines (`values_BASI` float32 or float64; arms: 0 baseline, 1 matched, then doses rising):

    plan = layout(n_items, groups=groups)
    half = halves(names)
    numbers = weigh(values_BASI, plan, doses=[2, 3, 4], baselines=[0, 1], first_half_I=half, smallest_effect=0.01)
    ruling = rule(numbers.rule_numbers, smallest_effect=0.01)  # ruling.code_B indexes decision.rule.WORDS
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from titrant.stats.contrasts import Floats, Layout, Moments, Spread, bounds, contrast_batch, moments
from titrant.stats.crossfit import CrossFit, cross_fitted
from titrant.stats.family import FamilyBounds, correlations, simultaneous
from titrant.stats.numbers import RuleNumbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """Numbers of a family. `spreads`, `families` and `methods` have one entry for each of the R baselines; `methods`
    then one for each dose."""

    rule_numbers: RuleNumbers
    spreads: tuple[Spread, ...]
    families: tuple[FamilyBounds, ...]
    cross_fit: CrossFit
    methods: tuple[tuple[str, ...], ...]


def weigh(
    values_BASI: NDArray[np.floating[Any]],
    layout: Layout,
    *,
    doses: Sequence[int],
    baselines: Sequence[int],
    first_half_I: NDArray[np.bool_],
    smallest_effect: float,
    rows: Sequence[float] | None = None,
    level: float = 0.95,
    overlap: float = 0.0,
) -> Weighed:
    """Weigh `doses` (arms from the smallest to the largest) against each of `baselines` (plain, then matched).

    `rows` are the sizes of the doses (1, 2, … where left out). The arms of `values_BASI` are the family and its
    baselines only: all of them lend to the moderated seed variance.
    Bounds that the rule calls 90% and 95% are at 2·level - 1 and `level`.
    """
    found = moments(values_BASI, layout)
    spreads, families = [], []
    for baseline in baselines:
        spread = contrast_batch(found, doses, baseline, overlap=overlap)
        correlation = correlations(found, list(doses), baseline, spread) if len(doses) > 1 else None
        spreads.append(spread)
        families.append(simultaneous(spread, correlation, level=level))
    fit = cross_fitted(
        values_BASI,
        layout,
        first_half_I,
        doses=doses,
        baselines=baselines,
        smallest_effect=smallest_effect,
    )
    return weighed(
        spreads,
        families,
        fit,
        gaps(found, spreads[0], doses, level=level, overlap=overlap),
        rows=rows or range(1, len(doses) + 1),
        level=level,
    )


def weighed(
    spreads: Sequence[Spread],
    families: Sequence[FamilyBounds],
    fit: CrossFit,
    gaps_of: tuple[Floats, Floats],
    *,
    rows: Sequence[float],
    level: float,
    methods: tuple[tuple[str, ...], ...] | None = None,
) -> Weighed:
    """Spreads and families of R baselines put together, with all bounds that the rule looks at. `methods` where the
    doses' intervals have their own."""
    # `bounds` takes one tail: 5% a side is the 90% interval, 2.5% a side the 95% one.
    wide = [bounds(spread, (1 - level) / 2) for spread in spreads]
    narrow = [bounds(spread, 1 - level) for spread in spreads]
    numbers = RuleNumbers(
        rows_BK=np.broadcast_to(np.asarray(rows, dtype=np.float64), spreads[0].difference.shape),
        difference_BK=spreads[0].difference,
        simultaneous_low_BKR=np.stack([family.low for family in families], axis=-1),
        low_90_BKR=np.stack([low for low, _ in narrow], axis=-1),
        high_90_BKR=np.stack([high for _, high in narrow], axis=-1),
        high_95_BKR=np.stack([high for _, high in wide], axis=-1),
        gap_low_BK=gaps_of[0],
        gap_high_BK=gaps_of[1],
        gain_BR=fit.best,
    )
    if methods is None:
        methods = tuple((spread.method,) * spread.difference.shape[-1] for spread in spreads)
    return Weighed(
        rule_numbers=numbers, spreads=tuple(spreads), families=tuple(families), cross_fit=fit, methods=methods
    )


def gaps(
    found: Moments, spread: Spread, doses: Sequence[int], *, level: float, overlap: float
) -> tuple[Floats, Floats]:
    """One-sided bounds of best minus dose, B×K; 0 for the best itself. Ties for the best go to the smaller."""
    index = np.asarray(doses)
    best_B = spread.difference.argmax(-1)
    return gap_bounds(contrast_batch(found, doses, index[best_B], overlap=overlap), best_B, level=level)


def gap_bounds(against_best: Spread, best_B: NDArray[np.intp], *, level: float) -> tuple[Floats, Floats]:
    """One-sided bounds of best minus dose from contrasts of every dose with the best, which is dose `best_B`."""
    low, high = bounds(against_best, 1 - level)
    itself = np.arange(against_best.difference.shape[-1]) == best_B[..., None]
    # the contrasts are dose minus best; the gap is best minus dose.
    return np.where(itself, 0.0, -high), np.where(itself, 0.0, -low)
