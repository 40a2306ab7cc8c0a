"""A table of anyone's predictions to a score: what stands behind `titrant score`."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from titrant.core.errors import ScoresError
from titrant.core.plugins import Extension
from titrant.core.records import Item, RawRow
from titrant.scoring.metrics.extension import BATCH_METRICS, is_batch, item_values, score_item
from titrant.scoring.metrics.text import METRICS, score_text

_MAX_PROBLEMS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemScore:
    """The score of one prediction: `value` 0 to 1, or None with the reason; references that could not be read.

    Where the metric is over all answers, `answer` holds this one with its references, and `value` is what the item
    contributes to the metric: then it may lie outside 0 to 1, and the mean of all is the metric.
    """

    id: str
    value: float | None
    reason: str | None
    unread_references: int = 0
    answer: tuple[str, tuple[str, ...]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreReport:
    """The mean over the `n` items that have a score; `unscored` counts those without, by reason.

    `unread_references` counts references that the metric could not read, whether or not their item has others. `score`
    is None where no item has one.
    """

    metric: str
    score: float | None
    n: int
    unscored: tuple[tuple[str, int], ...]
    unread_references: int
    items: tuple[ItemScore, ...]


def score_rows(rows: Iterable[RawRow], metric: str) -> ScoreReport:
    """Score rows `{"id", "prediction", "references": […]}` by a metric of `METRICS` or from outside; ids stand once.

    `ScoresError` names the place of each row that cannot be scored, up to 20 at once. An empty prediction is a
    prediction. A row without an id is called by its line.
    """
    if metric not in METRICS and not is_batch(metric) and not isinstance(metric, Extension):
        known = ", ".join((*METRICS, *BATCH_METRICS))
        raise ScoresError("no such metric", where="metric", got=metric, expected=known)
    problems: list[ScoresError] = []
    places: dict[str, str] = {}
    items: list[ItemScore] = []
    for row in rows:
        where = str(row.origin)
        try:
            item = _item_score(row, metric)
        except ScoresError as error:
            problems.append(error.at(where))
        else:
            if item.id in places:
                problems.append(ScoresError(f"the id stands in {places[item.id]} already", where=where, got=item.id))
            places.setdefault(item.id, where)
            items.append(item)
        if len(problems) == _MAX_PROBLEMS:
            break
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise ScoresError(f"{len(problems)} problems:" + "".join(f"\n  {problem}" for problem in problems))
    if is_batch(metric) and items:
        items = _over_all(items, metric)
    values = [item.value for item in items if item.value is not None]
    reasons = [item.reason for item in items if item.value is None and item.reason is not None]
    return ScoreReport(
        metric=metric,
        score=statistics.fmean(values) if values else None,
        n=len(values),
        unscored=tuple((reason, reasons.count(reason)) for reason in sorted(set(reasons))),
        unread_references=sum(item.unread_references for item in items),
        items=tuple(items),
    )


def _item_score(row: RawRow, metric: str) -> ItemScore:
    present = "columns " + ", ".join(row.values)
    prediction = row.values.get("prediction")
    if not isinstance(prediction, str):
        raise ScoresError("no prediction", got=present if prediction is None else prediction, expected="a text")
    references = row.values.get("references")
    if not isinstance(references, list) or not references or not all(isinstance(each, str) for each in references):
        got: Any = present if references is None else references
        raise ScoresError("no references", got=got, expected='a list of texts: "references": ["…"]')
    name = row.values.get("id")
    called = name if isinstance(name, str) else str(row.origin.line)
    if is_batch(metric):  # its value comes when all are read
        return ItemScore(id=called, value=None, reason=None, answer=(prediction, tuple(references)))
    if isinstance(metric, Extension):
        score = score_item(metric, prediction, _item(row, called, references, metric))
    else:
        score = score_text(metric, prediction, references)
    return ItemScore(id=called, value=score.value, reason=score.reason, unread_references=score.unread_references)


def _over_all(items: list[ItemScore], metric: str) -> list[ItemScore]:
    """Every item with what it contributes to a metric over all of them."""
    answers = [item.answer for item in items if item.answer is not None]
    values = item_values(metric, [said for said, _ in answers], [accepted for _, accepted in answers])
    return [replace(item, value=float(value)) for item, value in zip(items, values, strict=True)]


def _item(row: RawRow, called: str, references: list[str], metric: str) -> Item:
    """What a metric that wants the item gets of a row: its id, its references and its place."""
    return Item(
        key=called,
        row_id=called,
        eval_set="target",
        target="",
        task="",
        turns=(),
        references=tuple(references),
        choices=None,
        answer="text",
        metric=metric,
        max_answer_tokens=0,
        origin=row.origin,
    )
