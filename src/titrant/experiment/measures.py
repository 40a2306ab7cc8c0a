"""What stands beside the score that decides: every metric's mean, balanced accuracy, rungs, and answers seen before.

Means are over seeds and over items, every task weighing the same. They are descriptions, without intervals: the verdict
rests on the metric that the study names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from titrant.core.records import Item
from titrant.experiment.prepare import TARGET_SET
from titrant.scoring import metrics
from titrant.scoring.sheets import BY_TASK, GRADED, Floats, RunScores, Scores, Sheet
from titrant.stats.contrasts import layout
from titrant.tasks import answer_seen

BALANCED = "balanced_accuracy"
ALL_ITEMS = "all items"
_RIGHT_OR_WRONG = ("exact_match", "accuracy")


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetMeasure:
    """The mean of one metric over some of the test items, by arm (arms in the order of their names)."""

    metric: str
    of: str
    items: int
    means: tuple[tuple[str, float], ...]


def target_measures(scores: Scores, model: str, target: str) -> tuple[TargetMeasure, ...]:
    """Every measure of one model and target: of all items, of those of each rung, and of answers seen in training or
    not. Balanced accuracy, the mean over labels of the share that was right, where all items have the same choices."""
    by_arm: dict[str, list[RunScores]] = {}
    for run in scores.of(model, target):
        by_arm.setdefault(run.arm.name, []).append(run)
    found: dict[tuple[str, str, int], dict[str, float]] = {}
    looked_at: dict[int, list[_Lines]] = {}
    for name, runs in sorted(by_arm.items()):
        sheet = runs[0].sheet
        for about in looked_at.setdefault(id(sheet), list(_metrics(sheet, target))):
            values_I = _mean_over_seeds(runs, about.lines)
            for of, chosen in about.subsets:
                part = [about.items[index] for index in chosen]
                mean = _mean(part, values_I[chosen])
                if mean is not None:
                    found.setdefault((about.metric, of, len(part)), {})[name] = mean
            balanced = _balanced(about.items, values_I) if about.metric in _RIGHT_OR_WRONG else None
            if balanced is not None:
                found.setdefault((BALANCED, ALL_ITEMS, len(about.items)), {})[name] = balanced
    return tuple(
        TargetMeasure(metric=metric, of=of, items=items, means=tuple(means.items()))
        for (metric, of, items), means in found.items()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lines:
    """One metric's lines of a sheet with their items, and the parts of them that are looked at apart."""

    metric: str
    lines: NDArray[np.intp]
    items: list[Item]
    subsets: list[tuple[str, list[int]]]


def _metrics(sheet: Sheet, target: str) -> Iterator[_Lines]:
    """Every metric of the target's items with its lines; where tasks are judged in several ways, all these together."""
    kinds = [kind for kind in dict.fromkeys(sheet.kinds) if kind[0] == target and kind[1] == TARGET_SET]
    own = {item.metric for item in sheet.items if item.target == target and item.eval_set == TARGET_SET}
    together = [BY_TASK] if len(own - {GRADED}) > 1 else []
    for metric in [*together, *sorted(metric for _, _, metric in kinds)]:
        lines = sheet.lines(target, TARGET_SET, metric)
        if metric == BY_TASK:  # an answer that is not written is graded only
            lines = lines[[sheet.items[line].answer != "loss" for line in lines]]
        items = [sheet.items[line] for line in lines]
        yield _Lines(metric=metric, lines=lines, items=items, subsets=list(_subsets(items)))


def _mean_over_seeds(runs: list[RunScores], lines: NDArray[np.intp]) -> Floats:
    """The mean of every line over the seeds that have it; NaN where none has."""
    values_SI = np.array([run.values_N[lines] for run in runs])
    count_I = (~np.isnan(values_SI)).sum(0)
    total_I = np.nansum(values_SI, axis=0)
    return np.where(count_I > 0, total_I / np.maximum(count_I, 1), np.nan)


def _subsets(items: list[Item]) -> Iterator[tuple[str, list[int]]]:
    """All items; those of each rung that holds some of them; and by whether the answer was seen, where some was."""
    everything = list(range(len(items)))
    yield ALL_ITEMS, everything
    conditions: dict[str, Callable[[Item], bool]] = {
        f"rung {rung}": lambda item, rung=rung: rung in item.rungs  # type: ignore[misc]
        for rung in dict.fromkeys(rung for item in items for rung in item.rungs)
    }
    conditions |= {"answer seen in training": answer_seen, "answer not seen": lambda item: not answer_seen(item)}
    for of, holds in conditions.items():
        chosen = [index for index in everything if holds(items[index])]
        if 0 < len(chosen) < len(everything):
            yield of, chosen


def _mean(items: list[Item], values_I: Floats) -> float | None:
    known = np.flatnonzero(~np.isnan(values_I))
    if not len(known):
        return None
    weight_I = layout(len(known), tasks=[items[index].task for index in known]).weight_I
    return float((weight_I * values_I[known]).sum() / weight_I.sum())


def _balanced(items: list[Item], values_I: Floats) -> float | None:
    """Balanced accuracy of items with one closed set of choices and one right answer each; None for others."""
    offered = {item.choices for item in items}
    single = len(offered) == 1 and all(item.answer == "choices" and len(item.references) == 1 for item in items)
    if not single or np.isnan(values_I).any():
        return None
    return metrics.balanced_accuracy([item.references[0] for item in items], values_I.tolist())
