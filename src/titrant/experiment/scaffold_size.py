"""How large a study `init` writes: one that is likely to answer its own question, within a budget where there is one.

What is asked for, from most to least: all target rows before fewer, two doses before one, the usual passes before
fewer. The first that is likely to be firm (`decision.decidable`) is taken, and the reason stands in the study as a
comment; where none is, the likeliest is, with what it lacks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from titrant.decision.decidable import Chances, chances, effect_that_shows, items_needed
from titrant.decision.replay import StagedDesign
from titrant.experiment.speed import Speed
from titrant.stats.looks import USUAL_MOST, ladder, plan_looks
from titrant.stats.power import assumed_components

FEWEST_STEPS = 24
"""Fewer optimiser steps than this, and a fine-tune has hardly left its warm-up."""
_MOST_PASSES, _FEWEST_PASSES = 12, 2
_SHARES = (1.0, 0.5, 0.25, 0.125)
_FEWEST_ROWS = 48  # fewer target rows than this are another task than the user's, unless there are no more


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """One study that could be written. `doses` by source, the largest last; `whole`: all target rows there are."""

    target_rows: int
    whole: bool
    doses: Mapping[str, tuple[int, ...]]
    passes: int
    batch_rows: int

    @property
    def steps(self) -> int:
        """Optimiser steps of the plain baseline, the arm that takes the fewest."""
        return math.ceil(self.target_rows * self.passes / self.batch_rows)

    @property
    def dose_rows(self) -> tuple[tuple[int, str], ...]:
        """Every dose with its source, rising."""
        return tuple(sorted((rows, source) for source, doses in self.doses.items() for rows in doses))

    @property
    def words(self) -> str:
        """In a few words."""
        rows = f"all {self.target_rows}" if self.whole else str(self.target_rows)
        doses = " and ".join(str(rows) for rows, _ in self.dose_rows)
        return (
            f"{rows} target rows, {'doses' if len(self.dose_rows) > 1 else 'a dose'} of {doses}, {self.passes} passes"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the study is to settle: a difference of `smallest_effect` on so many test items."""

    items: int
    metric: str
    smallest_effect: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What a run takes: tokens a visit of a target row, a row of each source, and the answers of one run. `speed` and
    `jobs` turn them into minutes."""

    visit_tokens: float
    row_tokens: Mapping[str, float]
    answer_tokens: float
    speed: Speed | None = None
    jobs: int = 1

    def of(self, size: Size, unit: Literal["minutes", "tokens", "runs"]) -> list[float]:
        """One run of each arm of that size, baselines first, then doses rising."""
        visits = size.target_rows * size.passes
        most = size.dose_rows[-1][0]
        # The matched baseline takes the largest dose's steps with target rows alone.
        training = [self.visit_tokens * visits, self.visit_tokens * (visits + most)]
        training += [self.visit_tokens * visits + self.row_tokens[source] * rows for rows, source in size.dose_rows]
        return [self._one(tokens, unit) for tokens in training]

    def untuned(self, unit: Literal["minutes", "tokens", "runs"]) -> float:
        """The run of the untuned model, which only answers."""
        return self._one(0.0, unit)

    def _one(self, training: float, unit: Literal["minutes", "tokens", "runs"]) -> float:
        if unit == "runs":
            return 1.0
        if unit == "tokens":
            return training + self.answer_tokens
        assert self.speed is not None, "minutes need a measured speed"
        seconds = self.speed.seconds(training_tokens=training, answer_tokens=self.answer_tokens, runs=1)
        return seconds / 60 / self.jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A budget with what runs take in its unit. `text` is what was said."""

    text: str
    unit: Literal["minutes", "tokens", "runs"]
    amount: float
    prices: Prices


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The size to write, why (a sentence a line), and how likely it is to answer its question."""

    size: Size
    why: tuple[str, ...]
    chances: Chances


def sizes(train_rows: int, pool_rows: Mapping[str, int], *, parts: bool) -> tuple[Size, ...]:
    """What could be written, the most that is asked for first. `pool_rows`: rows of each source that doses may take;
    `parts`: also with a part of the target rows, and with fewer passes."""
    counts = (2, 1) if len(pool_rows) == 1 else (1,)
    found: dict[tuple[object, ...], Size] = {}
    for share in _SHARES if parts else (1.0,):
        rows = train_rows if share == 1.0 else _rounded(train_rows * share)
        if share < 1.0 and rows < _FEWEST_ROWS:
            continue
        usual, batch_rows = passes_for(rows)
        for passes in (usual, *(_fewer_passes(rows, usual, batch_rows) if parts else ())):
            for count in counts:
                size = Size(
                    target_rows=rows,
                    whole=share == 1.0,
                    doses={source: _doses(rows, most, count) for source, most in pool_rows.items()},
                    passes=passes,
                    batch_rows=batch_rows,
                )
                found.setdefault((rows, size.dose_rows, passes), size)
    return tuple(found.values())


def choose(options: Sequence[Size], question: Question, limit: Limit | None = None) -> Choice:
    """The first of the options that is likely to be firm (within the limit), else the likeliest, and why."""
    tried = [(size, _chances(size, question, limit)) for size in options[:1]]
    for size in options[1:]:
        if tried[-1][1].likely:
            break
        tried.append((size, _chances(size, question, limit)))
    # Where several are as unlikely, the one that lacks the least money.
    size, found = max(tried, key=lambda each: (each[1].likely, each[1].least, -(each[1].budget_needed or math.inf)))
    within = "" if limit is None else f" within {limit.text}"
    why = [
        f"{size.words}: firm{within} in {_percent(found.no_effect)} of simulated studies where no dose does anything, "
        f"in {_percent(found.twice)} where one gains {2 * question.smallest_effect:g}"
    ]
    if size is not options[0] and found.likely:
        first = tried[0][1]
        needed = (
            ""
            if limit is None or first.budget_needed is None
            else f" and would take {_amount(first.budget_needed, limit)}"
        )
        why.append(f"{options[0].words}: firm{within} in {_percent(first.least)}{needed}")
    return Choice(size=size, why=tuple(why), chances=found)


def passes_for(smallest_rows: int) -> tuple[int, int]:
    """Passes and rows a batch that give the smallest arm its steps, with as few visits of a row as can be."""
    for batch_rows in (8, 4, 2):
        passes = max(4, math.ceil(((FEWEST_STEPS - 1) * batch_rows + 1) / smallest_rows))
        if passes <= _MOST_PASSES:
            return passes, batch_rows
    return _MOST_PASSES, 2


def _fewer_passes(rows: int, usual: int, batch_rows: int) -> list[int]:
    """Fewer passes than usual, where twice the fewest steps are left."""
    fewer = range(usual - 1, _FEWEST_PASSES - 1, -1)
    return [passes for passes in fewer if rows * passes / batch_rows >= 2 * FEWEST_STEPS]


def _doses(rows: int, most: int, count: int) -> tuple[int, ...]:
    """Half and twice the target's rows, or as many where there is one; less where the pool is small."""
    if count == 1:
        return (min(_rounded(rows), _rounded(most)),)
    wanted = [_rounded(rows / 2), _rounded(rows * 2)]
    if wanted[-1] > most:
        wanted = [min(wanted[0], _rounded(most / 4)), _rounded(most)]
    return tuple(sorted(set(wanted)))


def _rounded(rows: float) -> int:
    """Whole batches of eight where that changes little."""
    whole = int(rows)
    return max(1, whole - whole % 8 if whole >= 32 else whole)


def _staged(size: Size, question: Question) -> StagedDesign:
    doses = [float(rows) for rows, _ in size.dose_rows]
    return StagedDesign(
        looks=plan_looks(ladder(USUAL_MOST), most=USUAL_MOST, doses=len(doses)),
        most=USUAL_MOST,
        baselines=2,
        rows=tuple(doses),
        smallest_effect=question.smallest_effect,
    )


def _chances(size: Size, question: Question, limit: Limit | None) -> Chances:
    design, components = _staged(size, question), assumed_components(question.metric)
    if limit is None:
        costs = [1.0] * (2 + len(size.dose_rows))
        return chances(design, components=components, items=question.items, costs=costs)
    return chances(
        design,
        components=components,
        items=question.items,
        costs=limit.prices.of(size, limit.unit),
        budget=limit.amount,
        fixed=limit.prices.untuned(limit.unit),
    )


def lacks(choice: Choice, question: Question, limit: Limit | None = None) -> str | None:
    """What keeps the chosen study from being firm, money or test items; None where it is likely to be."""
    size, found = choice.size, choice.chances
    if found.likely:
        return None
    if limit is not None and found.budget_needed is not None:
        return (
            f"a firm verdict within {limit.text} is likely with no study of these rows: the likeliest needs "
            f"{_amount(found.budget_needed, limit)}"
        )
    design, components = _staged(size, question), assumed_components(question.metric)
    delta = question.smallest_effect
    needed = items_needed(design, components=components, items=question.items)
    shown = effect_that_shows(design, components=components, items=question.items)
    asks = f"needs about {needed} test items" if needed is not None else "is more than seeds allow, whatever the items"
    shows = (
        "no difference can be shown" if shown is None else f"about {shown:g} is the smallest effect that can be shown"
    )
    return f"a difference of {delta:g} {asks}; you have {question.items}: with these {shows}"


def _amount(amount: float, limit: Limit) -> str:
    if limit.unit == "minutes":
        return f"about {amount:.0f} minutes" if amount < 120 else f"about {amount / 60:.1f} hours"
    return f"about {float(f'{amount:.2g}'):,.0f} {limit.unit}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"
