"""What `make calibrate` simulates: the cells of the grid, what is counted in each, and the bar that it must meet.

Array names end in their axes: B studies, A arms, I items, D doses, R baselines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rivals import RIVALS

from titrant.decision import rule
from titrant.stats import power
from titrant.stats.contrasts import bounds, contrast_batch, layout, moments
from titrant.stats.crossfit import halves
from titrant.stats.simulation import SimulatedStudies, World, batches, contrast_variances, item_groups, standard_error
from titrant.stats.weigh import weigh

Purpose = Literal["coverage", "wrong", "firm", "exchange", "sequential"]
Codes = NDArray[np.intp]
LEVEL = 0.95
ALLOWED_ERRORS = 3.0
"""A bar is missed when it is missed by more than this many Monte-Carlo errors."""

COVERAGE_LOW, COVERAGE_HIGH = 0.935, 0.97
WRONG_AT_MOST = 0.05
FIRM_AT_LEAST = 0.80
EXCHANGE_AT_LEAST = 0.90
MOST_DRAWN = 54
"""Of the 90 target rows of `overlapping_draws`, beside the 30 that its seeds draw by default."""

STORED_METRICS = ("exact_match", "graded")
LARGEST_EFFECT = 0.4
"""Scores are 0 to 1 and start from the middle: larger effects than this are not simulated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell. `estimand` says which truth is covered; `wanted` the verdict that a firm cell must reach."""

    name: str
    purpose: Purpose
    world: World
    smallest_effect: float = 0.01
    estimand: Literal["rows like these", "these rows"] = "rows like these"
    wanted: str | None = None
    details: tuple[tuple[str, float], ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share of studies, or of contrasts, with its Monte-Carlo error and its bar."""

    value: float
    error: float
    low: float | None = None
    high: float | None = None

    @property
    def passed(self) -> bool | None:
        """Whether the bar is met within the allowed Monte-Carlo errors; None where there is no bar."""
        if self.low is None and self.high is None:
            return None
        slack = ALLOWED_ERRORS * self.error
        return (self.low is None or self.value >= self.low - slack) and (
            self.high is None or self.value <= self.high + slack
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values for the cell's file."""
        return {"value": self.value, "error": self.error, "low": self.low, "high": self.high, "passed": self.passed}


# ------------------------------------------------------------------------------------------------------------- methods


def titrant_verdicts(studies: SimulatedStudies, *, smallest_effect: float, overlap: float) -> Codes:
    """What `judge` would say of every study, by the code that `judge` runs."""
    world = studies.world
    groups = None if studies.groups is None else [f"group {number}" for number in studies.groups]
    names = [f"item {number}" for number in range(world.items)]
    numbers = weigh(
        studies.scores,
        layout(world.items, groups=groups),
        doses=dose_arms(world),
        baselines=baseline_arms(world),
        first_half_I=halves(names, groups),
        smallest_effect=smallest_effect,
        level=LEVEL,
        overlap=overlap,
    )
    return rule.rule(numbers.rule_numbers, smallest_effect=smallest_effect).code_B


def never_tells(studies: SimulatedStudies, *, smallest_effect: float, overlap: float) -> Codes:
    """The method that is never wrong and never of use: it must fail the calibration."""
    return np.full(len(studies.scores), rule.WORDS.index("cannot_tell"))


METHODS: dict[str, Callable[..., Codes]] = {"titrant": titrant_verdicts, "always-cannot-tell": never_tells}


def dose_arms(world: World) -> list[int]:
    """The indices of the doses."""
    return list(range(world.first_dose, len(world.arm_means)))


def baseline_arms(world: World) -> list[int]:
    """The indices of the plain and, where there is one, the matched baseline."""
    return list(range(world.first_dose))


# ------------------------------------------------------------------------------------------------------------ counting


def measure(cell: Cell, *, studies: int, seed: int, method: str) -> dict[str, Any]:
    """Everything that is counted in one cell, as plain values with `shares` by name. The exchange rate, whose bar is
    wide and whose studies go one by one, gets half the studies."""
    if cell.purpose == "coverage":
        return _coverage(cell, studies=studies, seed=seed)
    if cell.purpose == "exchange":
        from calibration_exchange import measure_exchange

        return measure_exchange(cell, studies=studies // 2, seed=seed)
    if cell.purpose == "sequential":
        from calibration_sequential import measure_sequential

        return measure_sequential(cell, studies=studies, seed=seed, method=method)
    if cell.wanted is not None:
        promised = promise(cell)
        if promised is None:
            return _numbers({}, rivals={}, said={}, bad=[], smallest_effect=cell.smallest_effect, effect=None)
        cell = promised
    return _verdicts(cell, studies=studies, seed=seed, method=METHODS[method])


def _coverage(cell: Cell, *, studies: int, seed: int) -> dict[str, Any]:
    """How often the 95% interval of one contrast holds the truth, over the doses of a family, and its median width."""
    held, widths = [], []
    for made in batches(cell.world, studies=studies, seed=seed):
        groups = None if made.groups is None else [str(number) for number in made.groups]
        overlap = made.overlap if cell.estimand == "rows like these" else 0.0
        found = moments(made.scores, layout(cell.world.items, groups=groups))
        spread = contrast_batch(found, dose_arms(cell.world), 0, overlap=overlap)
        low_BD, high_BD = bounds(spread, (1 - LEVEL) / 2)
        truth_BD = made.gains if cell.estimand == "rows like these" else made.gains_these_rows
        held.append((low_BD <= truth_BD) & (truth_BD <= high_BD))
        widths.append(high_BD - low_BD)
    held_BD, width_BD = np.concatenate(held), np.concatenate(widths)
    high = COVERAGE_HIGH if cell.world.seeds >= 5 else None
    shares = {"coverage": _clustered(held_BD, low=COVERAGE_LOW, high=high)}
    if cell.world.odd_variance != 1:
        shares = {
            "coverage, odd arm": _clustered(held_BD[:, :1], low=COVERAGE_LOW, high=high),
            "coverage, other arms": _clustered(held_BD[:, 1:], low=COVERAGE_LOW, high=high),
        }
    return _numbers(shares, median_width=float(np.median(width_BD)), true_error=_true_error(cell.world))


def _verdicts(cell: Cell, *, studies: int, seed: int, method: Callable[..., Codes]) -> dict[str, Any]:
    """How often each verdict falls, ours beside the rivals', and the bar of the cell."""
    codes: dict[str, list[Codes]] = {"titrant": [], **{name: [] for name in RIVALS}}
    for made in batches(cell.world, studies=studies, seed=seed):
        overlap = made.overlap if cell.estimand == "rows like these" else 0.0
        codes["titrant"].append(method(made, smallest_effect=cell.smallest_effect, overlap=overlap))
        for name, rival in RIVALS.items():
            codes[name].append(rival(made.scores, doses=dose_arms(cell.world), baselines=baseline_arms(cell.world)))
    verdicts = {name: np.concatenate(found) for name, found in codes.items()}
    bad = wrong_words(cell)
    shares, rivals = {}, {}
    for name, code_B in verdicts.items():
        words_B = np.array(rule.WORDS)[code_B]
        if cell.wanted is None:
            share = _clustered(np.isin(words_B, bad)[:, None], high=WRONG_AT_MOST)
        else:
            share = _clustered((words_B == cell.wanted)[:, None], low=FIRM_AT_LEAST)
        if name == "titrant":
            shares["wrong" if cell.wanted is None else "firm and right"] = share
            said = {word: float(np.mean(words_B == word)) for word in rule.WORDS}
        else:
            rivals[name] = {"value": share.value, "error": share.error}
    effect = max(cell.world.gains, key=abs)
    return _numbers(
        shares, rivals=rivals, said=said, bad=list(bad), smallest_effect=cell.smallest_effect, effect=effect
    )


def wrong_words(cell: Cell) -> tuple[str, ...]:
    """The verdicts that are wrong in this world: a dose is worth its gain over the better of the two baselines."""
    world = cell.world
    best = max(world.gains) - max(0.0, world.matched_gain or 0.0)
    if best <= 0:
        return ("mix",)
    return ("train_alone", "no_difference") if best >= cell.smallest_effect - 1e-12 else ()


def _clustered(hit_BD: NDArray[np.bool_], *, low: float | None = None, high: float | None = None) -> Share:
    """The share of hits; studies are independent, the contrasts of a study are not."""
    by_study = hit_BD.mean(-1)
    return Share(value=float(by_study.mean()), error=float(by_study.std() / np.sqrt(len(by_study))), low=low, high=high)


def _true_error(world: World) -> float | None:
    return None if world.kind in ("stored", "overlapping_draws") else standard_error(world)


def _numbers(shares: dict[str, Share], **more: Any) -> dict[str, Any]:
    return {"shares": {name: share.as_json() for name, share in shares.items()}, **more}


# ---------------------------------------------------------------------------------------------------------------- grid


def coverage_cells(stored: str | None) -> Iterator[Cell]:
    """The grid that must be covered, then the arm with four times the others' variance, then what is not assumed."""
    grid = World(gains=(0.03, 0.0, 0.06), correlation=0.3, base_score=0.5)
    for kind in ("graded", "binary"):
        for seeds in (2, 3, 5, 10):
            for items in (50, 200, 1000):
                for share in (0.0, 0.1, 0.5):
                    for group_items in (None, 5):
                        world = replace(
                            grid, kind=kind, seeds=seeds, items=items, seeds_share=share, group_items=group_items
                        )
                        yield _covered(world)
    for kind in ("graded", "binary"):
        for seeds in (2, 3, 5, 10):
            for items in (50, 200, 1000):
                yield _covered(replace(grid, kind=kind, seeds=seeds, items=items, seeds_share=0.5, odd_variance=4.0))
            yield _covered(replace(grid, kind=kind, seeds=seeds, seeds_share=0.1, odd_variance=4.0))
    for kind in ("logistic_graded", "logistic_binary", "heavy_tails", "overlapping_draws"):
        for seeds in (2, 3, 5, 10):
            for share in (0.1, 0.5):
                world = replace(grid, kind=kind, seeds=seeds, seeds_share=share, base_score=0.7)
                yield _covered(world)
                if kind == "overlapping_draws":
                    yield replace(_covered(world), name=_covered(world).name + ", these rows", estimand="these rows")
    for seeds in (2, 3, 5, 10):
        for share in (0.1, 0.5):
            world = replace(grid, kind="overlapping_draws", seeds=seeds, seeds_share=share, base_score=0.7)
            yield _covered(replace(world, drawn_rows=MOST_DRAWN))
    for seeds in (2, 3, 5):
        yield _covered(replace(grid, seeds=seeds, seeds_share=0.5, gains=(0.03,)))
    for metric in STORED_METRICS if stored is not None else ():
        for seeds in (2, 3, 5, 10):
            yield _covered(replace(grid, kind="stored", seeds=seeds, stored_path=stored, stored_metric=metric))


def wrong_cells(stored: str | None) -> Iterator[Cell]:
    """Where no dose is worth anything, and where one is worth exactly the smallest effect and the others nothing."""
    families = ((1, 0.0, False), (3, 0.5, True), (12, 0.0, False), (12, 0.9, True))
    for kind in ("graded", "binary"):
        for seeds in (2, 3, 5, 10):
            for doses, correlation, matched in families:
                world = World(kind=kind, seeds=seeds, items=200, seeds_share=0.3, correlation=correlation)
                yield from _truths(world, doses=doses, matched=matched)
    unassumed: tuple[dict[str, Any], ...] = (
        {"kind": "logistic_graded"},
        {"kind": "logistic_binary"},
        {"kind": "heavy_tails"},
        {"kind": "overlapping_draws"},
        {"kind": "overlapping_draws", "drawn_rows": MOST_DRAWN},
        {"kind": "graded", "odd_variance": 4.0},
        {"kind": "graded", "group_items": 5},
        {"kind": "binary", "group_items": 5},
        {"kind": "binary", "items": 50, "base_score": 0.15},
        {"kind": "graded", "items": 1000},
    )
    for changes in unassumed:
        for seeds in (3, 5):
            world = replace(World(seeds=seeds, seeds_share=0.5, correlation=0.5), **changes)
            yield from _truths(world, doses=3, matched=True)
    for items in (50, 200, 1000):
        for changes in (2.7, 5, 10, 20):
            yield _rare(items, changes)
    for metric in STORED_METRICS if stored is not None else ():
        for seeds in (2, 3, 5):
            world = World(kind="stored", seeds=seeds, stored_path=stored, stored_metric=metric)
            yield from _truths(world, doses=3, matched=False)


def _truths(world: World, *, doses: int, matched: bool) -> Iterator[Cell]:
    steps = 0.0 if matched else None
    null = replace(world, gains=(0.0,) * doses, matched_gain=steps)
    # Four standard errors: enough for a firm verdict either way, so that a wrong one has its chance.
    effect = 0.05 if world.kind == "stored" else round(4 * standard_error(null), 4)
    name = f"{_named(world)}, {_counted(doses)}"
    name += "" if world.kind == "stored" else f", correlation {world.correlation:g}"
    name += ", matched" if matched else ""
    yield Cell(name=f"{name}, no gain", purpose="wrong", world=null, smallest_effect=effect / 4)
    if matched:
        only_steps = replace(null, gains=(effect,) * doses, matched_gain=effect)
        yield Cell(name=f"{name}, only steps gain", purpose="wrong", world=only_steps, smallest_effect=effect / 4)
    one = replace(null, gains=(effect, *(0.0,) * (doses - 1)))
    yield Cell(name=f"{name}, one dose gains", purpose="wrong", world=one, smallest_effect=effect)


def _rare(items: int, changes: float) -> Cell:
    """One dose that turns so many items right, on average, and is worth exactly the smallest effect."""
    gain = changes / items
    world = World(kind="rare_changes", gains=(gain, 0.0), seeds=3, items=items)
    name = f"rare_changes, 3 seeds, {items} items, {changes:g} of them changed, 2 doses, one dose gains"
    return Cell(name=name, purpose="wrong", world=world, smallest_effect=gain)


def firm_cells() -> Iterator[Cell]:
    """What `plan` promises, simulated at exactly the effects and smallest effects that it names."""
    for kind in ("graded", "binary"):
        for seeds in (2, 3, 5, 10):
            for doses, matched in ((1, False), (3, True), (12, False)):
                world = World(
                    kind=kind, seeds=seeds, seeds_share=0.3, gains=(0.0,) * doses, matched_gain=0.0 if matched else None
                )
                yield from _promised(world)
    yield from _promised(World(kind="graded", group_items=5, gains=(0.0,) * 3, matched_gain=0.0))
    yield from _promised(World(kind="logistic_graded", items=50, gains=(0.0,) * 3, matched_gain=0.0))


def _promised(world: World) -> Iterator[Cell]:
    """One cell for each thing that `plan` may promise; what exactly, `promise` asks when the cell is measured."""
    doses = len(world.gains)
    name = f"{_named(world)}, {_counted(doses)}{', matched' if world.matched_gain is not None else ''}"
    delta = round(standard_error(world), 4)
    for wanted, text in (("mix", "+detectable"), ("train_alone", "-detectable"), ("no_difference", "no difference")):
        yield Cell(name=f"{name}, {text}", purpose="firm", world=world, smallest_effect=delta, wanted=wanted)


def promise(cell: Cell) -> Cell | None:
    """The cell at the very effect, or smallest effect, that `plan` promises; None where it promises nothing."""
    design = plan_design(cell.world, smallest_effect=cell.smallest_effect)
    if cell.wanted == "no_difference":
        wide = (replace(design, smallest_effect=round((2 + step / 4) * cell.smallest_effect, 4)) for step in range(100))
        reachable = next((found for found in wide if power.prospects(found).no_difference_reachable), None)
        return None if reachable is None else replace(cell, smallest_effect=reachable.smallest_effect)
    effect = power.prospects(design).smallest_detectable
    if effect is None or effect >= LARGEST_EFFECT:
        return None
    others = len(cell.world.gains) - 1
    gains = (*(0.0,) * others, effect) if cell.wanted == "mix" else (-effect,) * (others + 1)
    return replace(cell, world=replace(cell.world, gains=gains))


def plan_design(world: World, *, smallest_effect: float) -> power.PowerDesign:
    """The world as `plan` would see it with its true variances."""
    groups_I = item_groups(world.items, world.group_items)
    clusters = world.items if groups_I is None else int(groups_I.max()) + 1
    parts = contrast_variances(world)
    return power.PowerDesign(
        seeds=world.seeds,
        items=clusters,
        doses=len(world.gains),
        baselines=world.first_dose,
        components=power.Components(
            item=parts.item * clusters,
            seed=parts.seed * world.seeds,
            error=parts.error * world.seeds * clusters,
        ),
        smallest_effect=smallest_effect,
        level=LEVEL,
    )


def _counted(doses: int) -> str:
    return "1 dose" if doses == 1 else f"{doses} doses"


def _covered(world: World) -> Cell:
    doses = "" if len(world.gains) == 3 else f", {_counted(len(world.gains))}"
    return Cell(name=_named(world) + doses, purpose="coverage", world=world)


def _named(world: World) -> str:
    text = f"{world.kind}, {world.seeds} seeds, {world.items} items"
    if world.kind == "stored":
        return f"{text}, {world.stored_metric.replace('_', ' ')}"
    text += f", seeds' share {100 * world.seeds_share:.0f}%"
    if world.group_items is not None:
        text += ", grouped"
    if world.kind == "overlapping_draws":
        text += f", {world.drawn_rows} of {world.population_rows} rows drawn"
    if world.odd_variance != 1:
        text += f", one arm with {world.odd_variance:g} times the variance"
    return text
