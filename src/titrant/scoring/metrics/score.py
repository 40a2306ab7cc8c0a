"""A table of anyone's predictions to a score: what stands behind `titrant score`."""

from __future__ import annotations

import json
import re
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

    `references` may be one text, and in a table a cell with a text or a JSON list of texts.

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
    prediction, references = _text(row, "prediction"), _references(row)
    name = _value(row, "id")
    called = name if isinstance(name, str) and name else str(row.origin.line)
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


def _text(row: RawRow, column: str) -> str:
    """The text of a column; `true` and `false` are texts, as everywhere rows are read."""
    value = _value(row, column)
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        got = _columns_of(row) if value is None else value
        raise ScoresError(f"no {column}", got=got, expected="a text", fix=_near_column(row, column))
    return value


def _references(row: RawRow) -> list[str]:
    """The right answers of a row: a list of texts, or one text. A text that is a JSON list of texts, as a cell of a
    table holds one, is that list; every other text is itself one reference."""
    value = _value(row, "references")
    # An empty cell of a table is a missing reference as easily as an empty one, and every answer would be wrong by it.
    if value is None or value == [] or (isinstance(value, str) and not value.strip()):
        raise ScoresError(
            "no references",
            got=_columns_of(row) if value is None else value,
            expected='a text, or a list of texts: "references": ["…"]',
            fix=_near_column(row, "references") if value is None else 'where no answer is right, write [""]',
        )
    if isinstance(value, str) and value.startswith("[") and value.rstrip().endswith("]"):
        value = _listed(value)
    listed = value if isinstance(value, list) else [value]
    texts = [("true" if each else "false") if isinstance(each, bool) else each for each in listed]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ScoresError(
            "references that are no texts", got=value, expected='a text, or a list of texts: "references": ["…"]'
        )
    return [str(text) for text in texts]


def _listed(cell: str) -> Any:
    """The JSON list that a cell of a table holds, or the cell itself: `[Applause]` is a text."""
    try:
        value = json.loads(cell, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        if re.match(r"\[\s*'", cell):
            raise ScoresError(
                "a list as Python writes it, and not as JSON",
                got=cell,
                expected='["y", "z"]',
                fix="in pandas: frame.references = frame.references.map(json.dumps), before to_csv",
            ) from None
        return cell
    return value if all(isinstance(each, str | bool) for each in value) else cell


def _value(row: RawRow, column: str) -> Any:
    """The row's value under a name, however the header writes it (`Prediction`); None where it has none."""
    if column in row.values:
        return row.values[column]
    return next((value for name, value in row.values.items() if name.strip().lower() == column), None)


def _columns_of(row: RawRow) -> str:
    return "columns " + ", ".join(row.values)


def _near_column(row: RawRow, column: str) -> str | None:
    """The row's own column that was probably meant, in another case or under another usual name."""
    names = {"prediction": ("predictions", "pred", "output", "response", "generated"), "references": ()}[column]
    usual = {column, *names} if column == "prediction" else {column, "reference", "target", "answer", "gold", "label"}
    found = [name for name in row.values if name.strip().lower() in usual and name != column]
    return f"rename the column {found[0]} to {column}" if found else None
