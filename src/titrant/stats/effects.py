"""A weighted sum of arms as numbers: any contrast over anyone's scores, for who asks other questions than a verdict.

The arms are paired item by item and seed by seed, and both are taken as drawn at random, as everywhere else (see
`contrasts`). Array names end in shape letters: S seeds, I items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from titrant.core.errors import ScoresError
from titrant.stats.contrasts import Floats, TaskWeights, contrast_batch, layout, moments
from titrant.stats.exchange import GroupGain, mean_gain
from titrant.stats.table import coded

_NEEDED = ("arm", "seed", "item", "value")
_ONE_OF = ("metric", "eval_set", "target", "model")  # what a contrast is about, of which only the caller can choose
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A weighted sum of arms' means, in the scores' units, with its standard error and degrees of freedom.

    `items` and `seeds` count what it rests on; `method` says how its variance was estimated.
    """

    value: float
    standard_error: float
    df: float
    items: int
    seeds: int
    method: str

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """The ends of the confidence interval by Student's t; None where every cell is the same, so that nothing
        speaks of a variance."""
        if not self.standard_error > 0:
            return None
        half = float(special.stdtrit(self.df, (1 + level) / 2)) * self.standard_error
        return self.value - half, self.value + half

    @classmethod
    def mean_of(cls, parts: Sequence[Difference]) -> Difference:
        """The mean of differences that share no items (targets, say): of these, not of ones like these.

        Degrees of freedom after Satterthwaite; `items` is the sum, `seeds` the fewest.

        >>> one = Difference(value=0.1, standard_error=0.03, df=20, items=50, seeds=3, method="by hand")
        >>> two = Difference(value=0.3, standard_error=0.04, df=20, items=70, seeds=4, method="by hand")
        >>> mean = Difference.mean_of([one, two])
        >>> round(mean.value, 3), round(mean.standard_error, 3), round(mean.df, 1), mean.items, mean.seeds
        (0.2, 0.025, 37.1, 120, 3)
        """
        gains = [
            GroupGain(name=str(place), value=part.value, standard_error=part.standard_error, df=part.df)
            for place, part in enumerate(parts)
        ]
        mean = mean_gain("all", gains)
        return cls(
            value=mean.value,
            standard_error=mean.standard_error,
            df=mean.df,
            items=sum(part.items for part in parts),
            seeds=min(part.seeds for part in parts),
            method=", or ".join(dict.fromkeys(part.method for part in parts)),
        )


def weighted_difference(
    columns: Mapping[str, Sequence[Any]],
    weights: Mapping[str, float],
    *,
    task_weights: TaskWeights = "macro",
    drop_incomplete: bool = False,
) -> Difference:
    """The sum over arms of weight times mean score, from columns of equal length; what stands behind
    `titrant.contrast`."""
    cells = _Cells(columns, weights)
    whole_I = cells.whole_items()
    if not whole_I.all() and not drop_incomplete:
        raise cells.holes(whole_I)
    items = np.flatnonzero(whole_I)
    n_seeds = len(cells.seeds)
    if not len(items) or len(items) * n_seeds < 2:
        problem = "one item at one seed shows no variance" if len(items) else "no item has a score in every run"
        raise ScoresError(problem, expected="two items or more, or two seeds")
    # Summed cell by cell before anything is averaged: that is what pairs the arms. Into an array of our own: how one
    # lies in memory decides in which order it is summed later, and with it the last digit of a mean.
    sum_SI = np.zeros((n_seeds, len(items)))
    for arm, weight in weights.items():
        sum_SI += weight * cells.of_arm(arm, items)
    plan = layout(
        len(items),
        groups=cells.about("group", items),
        tasks=_named(cells.about("task", items)),
        task_weights=task_weights,
    )
    # One arm against nothing: the sum is the difference itself.
    spread = contrast_batch(moments(np.stack([np.zeros_like(sum_SI), sum_SI]), plan), [1], 0)
    return Difference(
        value=float(spread.difference[0]),
        standard_error=float(spread.standard_error[0]),
        df=float(spread.df[0]),
        items=len(items),
        seeds=n_seeds,
        method=spread.method,
    )


class _Cells:
    """The scores of the weighed arms, NaN where there is none, at the seeds that all of them ran."""

    def __init__(self, columns: Mapping[str, Sequence[Any]], weights: Mapping[str, float]) -> None:
        _check_columns(columns)
        self._columns = columns
        named = {name: coded(columns[name]) for name in ("arm", "seed", "item")}
        arm, seed, self._item = named["arm"], named["seed"], named["item"]
        if not weights:
            raise ScoresError("no arm is weighed", expected=f"weights by arm: {', '.join(arm.names)}")
        for name in weights:
            if name not in arm.names:
                raise ScoresError(f"no arm {name!r} among the scores", expected=f"one of {', '.join(arm.names)}")
        self.items, self._place = self._item.names, {name: place for place, name in enumerate(weights)}
        values_R = _numbers(columns["value"])
        self._values_ASI = np.full((len(weights), len(seed.names), len(self.items)), np.nan)
        taken: set[tuple[int, ...]] = set()
        for row in np.flatnonzero(~np.isnan(values_R)):
            place = self._place.get(str(arm.at(int(row))))
            if place is None:
                continue
            cell = (place, int(seed.codes[row]), int(self._item.codes[row]))
            if cell in taken:
                at = f"{self._run(place, str(seed.at(int(row))))}, item {self._item.at(int(row))!r}"
                raise ScoresError(f"{at} stands there twice", fix="keep one score for each arm, seed and item")
            taken.add(cell)
            self._values_ASI[cell] = values_R[row]
        ran_S = ~np.isnan(self._values_ASI).all(-1).any(0)
        if not ran_S.any():
            raise ScoresError("no seed at which all weighed arms ran", got=", ".join(weights))
        self.seeds = [name for name, ran in zip(seed.names, ran_S, strict=True) if ran]
        self._values_ASI = self._values_ASI[:, ran_S]

    def of_arm(self, name: str, items: NDArray[np.intp]) -> Floats:
        """One arm's scores of these items, S×I."""
        found: Floats = self._values_ASI[self._place[name]][:, items]
        return found

    def whole_items(self) -> NDArray[np.bool_]:
        """Which items have a score in every run."""
        return np.asarray(~np.isnan(self._values_ASI).any((0, 1)))

    def about(self, column: str, items: NDArray[np.intp]) -> list[str | None] | None:
        """Another column by item; None where there is no such column, or nothing in it."""
        if column not in self._columns:
            return None
        found: dict[int, str | None] = {}
        for code, value in zip(self._item.codes.tolist(), self._columns[column], strict=True):
            found.setdefault(code, None if value in (None, "") else str(value))
        listed = [found[int(item)] for item in items]
        return listed if any(value is not None for value in listed) else None

    def holes(self, whole_I: NDArray[np.bool_]) -> ScoresError:
        """The first run that lacks scores, with the items that it lacks."""
        missing_ASI = np.isnan(self._values_ASI)
        arm, seed = (int(place) for place in np.argwhere(missing_ASI.any(-1))[0])
        lacking = np.flatnonzero(missing_ASI[arm, seed])
        name = next(name for name, place in self._place.items() if place == arm)
        shown = ", ".join(self.items[item] for item in lacking[:_SHOWN]) + (", …" if len(lacking) > _SHOWN else "")
        count = "1 item" if len(lacking) == 1 else f"{len(lacking)} items"
        return ScoresError(
            f"arm {name!r}, seed {self.seeds[seed]} has no score of {count}",
            got=shown,
            expected="the same items in every run",
            fix=f"score them too, or drop_incomplete=True, which leaves out {int((~whole_I).sum())} items",
        )

    def _run(self, place: int, seed: str) -> str:
        return f"arm {list(self._place)[place]!r}, seed {seed}"


def _check_columns(columns: Mapping[str, Sequence[Any]]) -> None:
    lacking = [name for name in _NEEDED if name not in columns]
    if lacking:
        raise ScoresError(
            f"no column {', '.join(lacking)}",
            got=", ".join(columns) or "nothing",
            expected="columns arm, seed, item, value; where known group and task",
        )
    if len({len(columns[name]) for name in columns}) > 1:
        raise ScoresError("columns are of unequal length")
    for name in _ONE_OF:
        several = coded(columns[name]).names if name in columns else ()
        if len(several) > 1:
            raise ScoresError(
                f"scores of several {name}s stand together",
                got=", ".join(several),
                expected=f"the rows of one {name}",
                fix=f'keep one: table.filter(pyarrow.compute.field("{name}") == "{several[0]}")',
            )


def _numbers(values: Sequence[Any]) -> Floats:
    """Finite numbers; None and NaN are missing scores."""
    found = np.full(len(values), np.nan)
    for row, value in enumerate(values):
        if value is None:
            continue
        number = float(value) if isinstance(value, int | float | np.number) else float("inf")
        if np.isinf(number):
            raise ScoresError("not a number", where=f"row {row}", got=value, expected="a finite number, or none")
        found[row] = number
    return found


def _named(tasks: list[str | None] | None) -> list[str] | None:
    return None if tasks is None else [task or "" for task in tasks]
