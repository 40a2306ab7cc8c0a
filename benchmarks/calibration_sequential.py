"""Staged studies on trial: judged at every look, stopped when firm, are they wrong no more often than their level says?

Each cell is a world whose truth is known. The staged design, by the code that judges a study, stands beside one look at
all seeds and beside nine looks without correction, which must fail. What a study costs is counted in runs.

    python benchmarks/calibrate.py --only sequential
    python benchmarks/calibrate.py --only sequential --method uncorrected-looks      must fail

Array names end in their axes: B studies, A arms, S seeds, D doses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from calibration_cells import LEVEL, MOST_DRAWN, STORED_METRICS, WRONG_AT_MOST, Cell, Share
from numpy.typing import NDArray

from titrant.core.identity import rng_for
from titrant.decision import rule
from titrant.decision.replay import Replay, StagedDesign, replay
from titrant.stats.contrasts import layout
from titrant.stats.crossfit import halves
from titrant.stats.looks import Look, dunnett_tail, ladder, level_of_repeated_tests, plan_looks
from titrant.stats.simulation import SimulatedStudies, World, batches, standard_error

MOST = 20
CELLS = 12_000_000
"""Scores at once: studies that are at the same look are computed together."""

EXTENDED = ((3, 8), (5, 12), (5, 20))
"""Seeds of a grid that was judged, and of the same grid extended once."""

FAILED = 0.1
"""The share of runs that fail, where some do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What one way of judging said of every study, and the runs that it took, as a share of all."""

    code_B: NDArray[np.intp]
    cost_B: NDArray[np.float64]


def measure_sequential(cell: Cell, *, studies: int, seed: int, method: str) -> dict[str, Any]:
    """How often a firm verdict is wrong, for the staged design (or `method`) and for its rivals."""
    ways = {
        "titrant": uncorrected if method == "uncorrected-looks" else staged,
        "fixed grid": fixed_grid,
        "uncorrected looks": uncorrected,
    }
    wrong: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in ways}
    codes, costs = [], []
    for number, made in enumerate(batches(cell.world, studies=studies, seed=seed, cells=CELLS)):
        failed = _failures(cell, made, rng_for(seed, "sequential", "failed", number))
        for name, looks in ways.items():
            code_B, found = judged(cell, made, looks(cell), failed)
            if name == "titrant" and _judged_first(cell):
                code_B, found = extended(cell, made)
            if method == "always-cannot-tell" and name == "titrant":
                code_B = np.zeros_like(code_B)
            wrong[name].append(_wrong(cell, made, code_B))
            if name == "titrant":
                codes.append(code_B)
                costs.append(found.read_BA.mean(-1) / cell.world.seeds)
    high = _wrong_at_most(cell)
    shares = {name: _share(np.concatenate(hits), high=high) for name, hits in wrong.items()}
    words_B = np.array(rule.WORDS)[np.concatenate(codes)]
    ours = shares.pop("titrant")
    return {
        "shares": {"wrong": ours.as_json()},
        "rivals": {name: {"value": share.value, "error": share.error} for name, share in shares.items()},
        "said": {word: float(np.mean(words_B == word)) for word in rule.WORDS},
        "runs": float(np.mean(np.concatenate(costs))),
        "smallest_effect": cell.smallest_effect,
        "effect": max(cell.world.gains, key=abs),
    }


# ---------------------------------------------------------------------------------------------------- ways of judging


def staged(cell: Cell) -> tuple[Look, ...]:
    """The tails of a staged study."""
    most = cell.world.seeds
    return plan_looks(ladder(most), most=most, doses=len(cell.world.gains), level=LEVEL)


def uncorrected(cell: Cell) -> tuple[Look, ...]:
    """Every look at the tails that one look may have."""
    return tuple(_full(seeds, len(cell.world.gains)) for seeds in ladder(cell.world.seeds))


def fixed_grid(cell: Cell) -> tuple[Look, ...]:
    """One look, at all seeds."""
    return (_full(cell.world.seeds, len(cell.world.gains)),)


def extended(cell: Cell, made: SimulatedStudies) -> tuple[NDArray[np.intp], Replay]:
    """A grid that is judged, and where it is open judged once more with the seeds that it was told to add."""
    doses, most = len(cell.world.gains), cell.world.seeds
    first_B, _ = judged(cell, made, (_full(_judged_first(cell), doses),), None)
    second_B, found = judged(cell, made, (_full(most, doses),), None)
    return np.where(first_B == 0, second_B, first_B), found


def _judged_first(cell: Cell) -> int:
    """At how many seeds a grid was judged before it was extended; 0 where none was."""
    return int(dict(cell.details).get("judged_first", 0))


def _wrong_at_most(cell: Cell) -> float:
    """What the level that is said allows: an extended grid says what both of its looks hold together."""
    first = _judged_first(cell)
    held = level_of_repeated_tests((first, cell.world.seeds), level=LEVEL) if first else 1 - WRONG_AT_MOST
    return 1 - held


def _full(seeds: int, doses: int) -> Look:
    one = round((1 - LEVEL) / 2, 12)
    return Look(seeds=seeds, better=dunnett_tail(one, doses), single=2 * one, strict=one)


def judged(
    cell: Cell, made: SimulatedStudies, looks: tuple[Look, ...], failed_BAS: NDArray[np.bool_] | None
) -> tuple[NDArray[np.intp], Replay]:
    """The replay of all studies, and its codes."""
    world = made.world
    groups = None if made.groups is None else [f"group {number}" for number in made.groups]
    design = StagedDesign(
        looks=looks,
        most=world.seeds,
        baselines=world.first_dose,
        rows=tuple(range(1, len(world.gains) + 1)),
        smallest_effect=cell.smallest_effect,
        overlap=made.overlap if cell.estimand == "rows like these" else 0.0,
        set_aside=len(looks) > 1,
    )
    found = replay(
        made.scores,
        layout(world.items, groups=groups),
        design,
        first_half_I=halves([f"item {number}" for number in range(world.items)], groups),
        ran_BAS=None if failed_BAS is None else ~failed_BAS,
        failed_BAS=failed_BAS,
    )
    return found.code_B, found


def _failures(cell: Cell, made: SimulatedStudies, rng: np.random.Generator) -> NDArray[np.bool_] | None:
    share = dict(cell.details).get("failed", 0.0)
    return rng.random(made.scores.shape[:3]) < share if share else None


def _wrong(cell: Cell, made: SimulatedStudies, code_B: NDArray[np.intp]) -> NDArray[np.bool_]:
    """`mix` where no dose's true gain over the better baseline is above 0; `train_alone` or `no_difference` where some
    dose's is at least the smallest effect."""
    gains_BD = made.gains if cell.estimand == "rows like these" else made.gains_these_rows
    best_B = gains_BD.max(-1) - max(0.0, cell.world.matched_gain or 0.0)
    word_B = np.array(rule.WORDS)[code_B]
    worthless_B, worth_B = best_B <= 1e-12, best_B >= cell.smallest_effect - 1e-12
    return (worthless_B & (word_B == "mix")) | (worth_B & np.isin(word_B, ("train_alone", "no_difference")))


def _share(hit_B: NDArray[np.bool_], *, high: float) -> Share:
    value = float(hit_B.mean())
    return Share(value=value, error=float(np.sqrt(value * (1 - value) / len(hit_B))), high=high)


# ---------------------------------------------------------------------------------------------------------------- grid


def sequential_cells(stored: str | None) -> Iterator[Cell]:
    """One to twelve doses, one or two baselines; then everything that the analysis does not assume."""
    plain = World(seeds=MOST, items=200, seeds_share=0.5)
    families = ((1, 0.0, False), (1, 0.0, True), (2, 0.0, True), (4, 0.0, True), (4, 0.5, False), (12, 0.0, True))
    for kind in ("graded", "binary"):
        for doses, correlation, matched in (*families, (12, 0.9, True)):
            yield from _truths(
                replace(plain, kind=kind, correlation=correlation), doses=doses, matched=matched, deltas=(0.05, 1.0)
            )
    unassumed: tuple[dict[str, Any], ...] = (
        {"seeds_share": 0.0},
        {"seeds_share": 0.9},
        {"kind": "heavy_tails"},
        {"kind": "heavy_tails", "seeds_share": 0.9},
        {"kind": "logistic_binary"},
        {"kind": "overlapping_draws"},
        {"kind": "overlapping_draws", "drawn_rows": MOST_DRAWN},
        {"odd_variance": 4.0},
        {"group_items": 5},
        {"kind": "binary", "group_items": 5},
        {"kind": "binary", "items": 50, "base_score": 0.15},
        {"seeds": 8},
        {"seeds": 3},
    )
    for changes in unassumed:
        yield from _truths(replace(plain, correlation=0.3, **changes), doses=3, matched=True)
    drawn = replace(plain, kind="overlapping_draws", correlation=0.3)
    for cell in _truths(drawn, doses=3, matched=False):
        yield replace(cell, name=cell.name + ", these rows", estimand="these rows")
    for kind in ("graded", "heavy_tails"):
        for cell in _truths(replace(plain, kind=kind, correlation=0.3), doses=3, matched=True):
            yield replace(cell, name=cell.name + ", one run in ten fails", details=(("failed", FAILED),))
    for first, seeds in EXTENDED:
        for matched in (False, True):
            for cell in _truths(replace(plain, seeds=seeds, correlation=0.3), doses=3, matched=matched):
                name = f"{cell.name}, a grid of {first} seeds that is extended where it is open"
                yield replace(cell, name=name, details=(("judged_first", first),))
    for items in (50, 200, 1000):
        for changed in (2.7, 10):
            gain = changed / items
            world = World(kind="rare_changes", gains=(gain, 0.0), seeds=MOST, items=items)
            name = f"rare_changes, {items} items, {changed:g} of them changed, 2 doses, one dose gains"
            yield Cell(name=name, purpose="sequential", world=world, smallest_effect=gain)
    for metric in STORED_METRICS if stored is not None else ():
        world = World(kind="stored", seeds=MOST, stored_path=stored, stored_metric=metric)
        yield from _truths(world, doses=3, matched=False)


def _truths(world: World, *, doses: int, matched: bool, deltas: tuple[float, ...] = (0.05,)) -> Iterator[Cell]:
    """No gain (where next to nothing matters only the bounds stand between luck and a mix), only steps gain, and one
    dose worth exactly the smallest effect. Effects are in standard errors at all seeds."""
    null = replace(world, gains=(0.0,) * doses, matched_gain=0.0 if matched else None)
    error = 0.0125 if world.kind == "stored" else standard_error(null)
    name = _named(world, doses=doses, matched=matched)
    one = (1.0, *(0.0,) * (doses - 1))
    for delta in deltas:
        text = f"no gain, smallest effect of {delta:g} errors"
        yield Cell(name=f"{name}, {text}", purpose="sequential", world=null, smallest_effect=round(delta * error, 5))
    if matched:
        gain = round(4 * error, 4)
        only_steps = replace(null, gains=(gain,) * doses, matched_gain=gain)
        yield Cell(
            name=f"{name}, only steps gain", purpose="sequential", world=only_steps, smallest_effect=round(error / 4, 5)
        )
    for size in (2.0, 4.0):
        gain = round(size * error, 4)
        worth = replace(null, gains=tuple(gain * share for share in one))
        text = f"one dose worth exactly the smallest effect of {size:g} errors"
        yield Cell(name=f"{name}, {text}", purpose="sequential", world=worth, smallest_effect=gain)


def _named(world: World, *, doses: int, matched: bool) -> str:
    text = f"{world.kind}, up to {world.seeds} seeds, {world.items} items"
    if world.kind == "stored":
        text += f", {world.stored_metric.replace('_', ' ')}"
    else:
        text += f", seeds' share {100 * world.seeds_share:.0f}%, correlation {world.correlation:g}"
    if world.group_items is not None:
        text += ", grouped"
    if world.kind == "overlapping_draws":
        text += f", {world.drawn_rows} of {world.population_rows} rows drawn"
    if world.odd_variance != 1:
        text += f", one arm with {world.odd_variance:g} times the variance"
    return f"{text}, {doses} {'dose' if doses == 1 else 'doses'}{', matched' if matched else ''}"
