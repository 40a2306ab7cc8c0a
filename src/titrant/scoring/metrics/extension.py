"""Metrics from outside: what one is, how it is called, and what is refused of it.

A metric looks at one answer. A batch metric looks at all answers of a run at once (macro F1 has no meaning for one),
and `item_values` says what each item contributes to it, so that items are resampled as everywhere else in Titrant.
"""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from titrant.core.errors import ScoresError
from titrant.core.plugins import Extension, line_of
from titrant.core.records import Item
from titrant.scoring.metrics.text import TextScore, score_text


class Metric(Protocol):
    """One answer to a number from 0 to 1. A plain function will do: then its name is its name, and `revision` empty."""

    name: str
    revision: str

    def __call__(self, prediction: str, references: Sequence[str], item: Item) -> float:
        """How right `prediction` is. With `answer: choices` it is the text of the choice that was made. `references`
        holds at least one right answer. A function that takes two arguments gets no item."""
        ...


class BatchMetric(Protocol):
    """All answers of a run to one number from 0 to 1, such as macro F1. It sees answers and references alone, and their
    order must not matter."""

    name: str
    revision: str

    def over(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
        """The value over these answers; `references[i]` are the right answers to item i."""
        ...


class MacroF1:
    """The mean over classes of F1, the harmonic mean of precision and recall: a rare class counts like a common one.

    A class is the first reference of an item. An answer that equals any reference of its item counts as that class; any
    other answer counts against the class that it names, if it names one. Whole texts are compared, byte for byte.

    >>> MacroF1().over(["a", "a", "b", "c"], [["a"], ["b"], ["b"], ["b"]])
    0.5833333333333333
    """

    name = "macro_f1"
    revision = "1"

    def over(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
        right, said, gold = Counter[str](), Counter[str](), Counter[str]()
        for prediction, accepted in zip(predictions, references, strict=True):
            label = accepted[0]
            # A synonym counts as the class itself, or macro F1 would open a class for every accepted spelling.
            answer = label if prediction in accepted else prediction
            gold[label] += 1
            said[answer] += 1
            right[label] += answer == label
        return sum(2 * right[label] / (said[label] + gold[label]) for label in gold) / len(gold)


BATCH_METRICS: dict[str, BatchMetric] = {metric.name: metric for metric in (MacroF1(),)}


def is_batch(metric: str) -> bool:
    """Whether a metric is over all answers of a run."""
    return metric in BATCH_METRICS or (isinstance(metric, Extension) and hasattr(metric.made, "over"))


def takes_item(metric: Callable[..., Any]) -> bool:
    """Whether a metric wants the item too: a third argument without a default, or `*arguments`.

    >>> takes_item(lambda prediction, references: 1.0), takes_item(lambda prediction, references, item: 1.0)
    (False, True)
    """
    kinds = inspect.Parameter
    given = [
        one
        for one in inspect.signature(metric).parameters.values()
        if one.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        and (one.default is kinds.empty or one.name == "item")
    ]
    return len(given) >= 3 or any(
        one.kind is kinds.VAR_POSITIONAL for one in inspect.signature(metric).parameters.values()
    )


def outside_lines(items: Sequence[Item], metrics: Sequence[str]) -> dict[tuple[str, str, str, str], list[int]]:
    """The lines of a sheet whose metric is from outside or over all answers, by (metric, target, eval set, task).

    A batch metric is taken over the items of one task: several tasks then weigh as the study says, like any metric.
    """
    found: dict[tuple[str, str, str, str], list[int]] = {}
    for line, (item, metric) in enumerate(zip(items, metrics, strict=True)):
        if item.answer != "loss" and (isinstance(metric, Extension) or is_batch(metric)):
            found.setdefault((metric, item.target, item.eval_set, item.task), []).append(line)
    return found


def score_answer(item: Item, text: str) -> TextScore:
    """One answer by the item's own metric, ours or from outside; a batch metric says nothing about one answer."""
    if isinstance(item.metric, Extension):
        return score_item(item.metric, text, item)
    return score_text(item.metric, text, item.references)


def score_item(metric: Extension, prediction: str, item: Item) -> TextScore:
    """One answer by a metric from outside. `ScoresError` names the metric, the item and the value where it raises, or
    returns something that is no number from 0 to 1: such a score would stand in a verdict."""
    arguments: tuple[Any, ...] = (prediction, item.references)
    if takes_item(metric.made):
        arguments = (*arguments, item)
    try:
        value = metric.made(*arguments)
    except Exception as error:
        raise ScoresError(
            f"the metric {metric} raised {type(error).__name__}: {error} on item {_called(item)}",
            where=line_of(error, metric.made),
            got=prediction,
            expected="a number from 0 to 1",
        ) from error
    return TextScore(value=_number(metric, value, f"item {_called(item)}"))


def score_batch(metric: str, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """All answers by a batch metric, checked as `score_item` checks."""
    made = BATCH_METRICS[metric] if metric in BATCH_METRICS else cast("Extension", metric).made
    try:
        value = made.over(predictions, references)
    except Exception as error:
        raise ScoresError(
            f"the metric {metric} raised {type(error).__name__}: {error} over {len(predictions)} answers",
            where=line_of(error, made.over),
            expected="a number from 0 to 1",
        ) from error
    return _number(metric, value, f"{len(predictions)} answers")


def item_values(metric: str, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """What each item contributes to a batch metric: values whose mean is the metric, and whose spread over items is the
    metric's own (the jackknife: Efron and Stein 1981, Annals of Statistics 9, 586).

    Item i gets value + (n-1)(value - value without i), shifted so that the mean stays the value. Contrasts then pair
    and resample items as they do for any metric, which to first order is to compute the metric anew on resampled items.
    One contribution may lie outside 0 to 1. Items with equal answers and references contribute the same, so what is
    left out is tried once for each such pair: with three classes nine times, not once for each of 2,000 items.

    >>> item_values("macro_f1", ["a", "a", "b", "b"], [["a"], ["b"], ["b"], ["b"]]).round(3).tolist()
    [0.683, 0.083, 1.083, 1.083]
    """
    count = len(predictions)
    value = score_batch(metric, predictions, references)
    if count < 2:
        return np.full(count, value)
    pairs = [(prediction, tuple(accepted)) for prediction, accepted in zip(predictions, references, strict=True)]
    without: dict[tuple[str, tuple[str, ...]], float] = {}
    for place, pair in enumerate(pairs):
        if pair not in without:
            without[pair] = score_batch(
                metric,
                [*predictions[:place], *predictions[place + 1 :]],
                [*references[:place], *references[place + 1 :]],
            )
    # The jackknife's pseudo-values; their mean is off the value by the jackknife's bias, which is taken out of the
    # scores and not put into verdicts.
    share_I = np.array([(count - 1) * (value - without[pair]) for pair in pairs])
    shares: NDArray[np.float64] = value + share_I - share_I.mean()
    return shares


def _number(metric: str, value: Any, about: str) -> float:
    if isinstance(value, bool | np.bool_ | int | float | np.integer | np.floating):
        number = float(value)
        if 0 <= number <= 1:
            return number
        problem = "returned NaN" if math.isnan(number) else "left 0 to 1"
    else:
        problem = f"returned {type(value).__name__}, no number,"
    raise ScoresError(f"the metric {metric} {problem} on {about}", got=str(value), expected="a number from 0 to 1")


def _called(item: Item) -> str:
    place = f" ({item.origin})" if item.origin is not None else ""
    return f"{item.row_id}{place}"
