"""The exchange rate on trial: does its interval hold the rate that the simulated curves truly have?

The curves follow a power law that the reading does not know. Where the curve is flat there is nothing to read, and the
right answer is that the rate cannot be pinned down.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from calibration_cells import EXCHANGE_AT_LEAST, LEVEL, Cell, Share

from titrant.stats.contrasts import Moments, layout, moments
from titrant.stats.exchange import ExchangeRate, SizedArm, exchange_rate, reader
from titrant.stats.simulation import World, batches

HEIGHT, DEPTH, BEND = 0.8, 1.6, 0.4
"""Scores without a dose are HEIGHT - DEPTH * rows^-BEND."""


def exchange_cells() -> Iterator[Cell]:
    """Sizes, where the dose is given, and what it is truly worth."""
    settings = (
        ((64, 128, 256, 512), 0, 60.0),
        ((64, 128, 256, 512), 1, 60.0),
        ((64, 128, 256, 512), 2, -100.0),
        ((64, 256, 1024), 0, 120.0),
        ((64, 256, 1024), 1, 0.0),
        ((64, 256), 0, 60.0),
        ((64, 128, 256, 512), 3, 200.0),
    )
    for kind in ("graded", "binary"):
        for sizes, at, worth in settings:
            for seeds, items in ((2, 200), (3, 200), (5, 200), (5, 1000)):
                yield exchange_cell(World(kind=kind, seeds=seeds, items=items, seeds_share=0.3), sizes, at, worth)
        yield exchange_cell(
            World(kind=kind, seeds=5, items=200, seeds_share=0.3), (64, 128, 256, 512), 0, 60.0, flat=True
        )
    yield exchange_cell(World(kind="heavy_tails", seeds=3, seeds_share=0.5), (64, 128, 256), 0, 60.0)
    yield exchange_cell(World(kind="graded", seeds=5, group_items=5), (64, 128, 256), 0, 60.0)
    yield exchange_cell(World(kind="logistic_graded", seeds=5, seeds_share=0.5), (64, 128, 256), 1, -30.0)


def exchange_cell(world: World, sizes: tuple[int, ...], at: int, worth: float, *, flat: bool = False) -> Cell:
    """A curve over `sizes` without a dose, and one dosed arm at the size number `at`, worth so many target rows."""
    means = [0.6 if flat else HEIGHT - DEPTH * rows**-BEND for rows in (*sizes, sizes[at] + worth)]
    made = replace(world, base_score=means[0], gains=tuple(mean - means[0] for mean in means[1:]))
    name = f"{world.kind}, {world.seeds} seeds, {world.items} items, sizes {'/'.join(map(str, sizes))}, "
    if world.group_items is not None:
        name += "grouped, "
    name += "flat curve" if flat else f"{worth:+g} rows at {sizes[at]}"
    details = (("at", float(at)), ("worth", worth), ("flat", float(flat)), *(("size", float(size)) for size in sizes))
    return Cell(name=name, purpose="exchange", world=made, details=details)


def measure_exchange(cell: Cell, *, studies: int, seed: int) -> dict[str, Any]:
    """How often the interval holds the truth, how often it is open, and how wide it is where it is closed."""
    facts = dict(cell.details)
    sizes = [int(value) for name, value in cell.details if name == "size"]
    rates = [rate for made in _moments(cell.world, studies, seed) for rate in _rates(made, sizes, int(facts["at"]))]
    low = np.array([-np.inf if rate.low is None else rate.low for rate in rates])
    high = np.array([np.inf if rate.high is None else rate.high for rate in rates])
    widths = (high - low)[np.isfinite(high - low)]
    open_both = np.isinf(low) & np.isinf(high)
    if facts["flat"]:
        shares = {"cannot be pinned down": _share(open_both)}
    else:
        shares = {"exchange coverage": _share((low <= facts["worth"]) & (facts["worth"] <= high))}
    return {
        "shares": {name: share.as_json() for name, share in shares.items()},
        "closed": float(np.mean(np.isfinite(high - low))),
        "not_pinned_down": float(np.mean(open_both)),
        "median_width": float(np.median(widths)) if len(widths) else None,
        "true_error": None,
    }


def _share(hits: Any) -> Share:
    found = float(np.mean(hits))
    return Share(value=found, error=float(np.sqrt(found * (1 - found) / len(hits))), low=EXCHANGE_AT_LEAST)


def _moments(world: World, studies: int, seed: int) -> Iterator[Moments]:
    """The moments of each study on its own."""
    for made in batches(world, studies=studies, seed=seed):
        groups = None if made.groups is None else [str(number) for number in made.groups]
        found = moments(made.scores, layout(world.items, groups=groups))
        for study in range(len(made.scores)):
            yield replace(
                found,
                mean_BAS=found.mean_BAS[study],
                item_BAA=found.item_BAA[study],
                error_BAA=found.error_BAA[study],
            )


def _rates(found: Moments, sizes: list[int], at: int) -> Iterator[ExchangeRate]:
    yield exchange_rate(
        reader(found, level=LEVEL),
        n_arms=len(sizes) + 1,
        curve=[SizedArm(target_rows=rows, arm=arm) for arm, rows in enumerate(sizes)],
        dosed=SizedArm(target_rows=sizes[at], arm=len(sizes)),
        dose_rows=384,
        level=LEVEL,
    )
