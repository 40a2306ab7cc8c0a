"""How varied the arms' answers are, and what was written, read from the stored answers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from titrant.core.records import Arm, Item
from titrant.experiment.design import PlannedRun
from titrant.report.data import (
    CollapseRow,
)
from titrant.report.sections.view import View, labels_of
from titrant.scoring import metrics
from titrant.scoring.sheets import answer_columns

NOT_WRITTEN = "nothing was written: the score is the probability of the right answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answers:
    """The answers of one run to the target's test items, in their order. Texts are those of the choices, or written."""

    choice_I: NDArray[np.int64]
    text: Sequence[str | None] | None
    ended_I: NDArray[np.bool_]


class AnswerReader:
    """Reads stored answers to the target's test items, in the order of their keys."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.items: tuple[Item, ...] = tuple(sorted(view.data.test, key=lambda item: item.key))

    def read(self, planned: PlannedRun) -> _Answers:
        by_item = planned.requests.by_item
        found = answer_columns(self.view.answers.of(planned.run.run_id), [by_item[item.key] for item in self.items])
        return _Answers(
            choice_I=found.choice_I,
            text=None if found.text is None else list(found.text),
            ended_I=found.ended_I,
        )


def answer_variety(view: View) -> tuple[CollapseRow, ...]:
    """How varied every arm's answers are, over items and seeds."""
    items = sorted(view.data.test, key=lambda item: item.key)
    choices = [item.choices or () for item in items]
    same = len(set(choices)) == 1
    said: dict[str, Counter[str]] = {arm.name: Counter() for arm in view.arms}
    places: dict[int, NDArray[np.intp]] = {}
    for run in view.results.scores.of(view.judged.model, view.judged.target):
        if id(run.sheet) not in places:
            at = {key: number for number, key in enumerate(run.sheet.keys)}
            places[id(run.sheet)] = np.array([at[item.key] for item in items], dtype=np.intp)
        said[run.arm.name] += _said(run.choice_I[places[id(run.sheet)]], choices, same=same)
    written = _written(view) if any(item.answer == "text" for item in items) else {}
    return tuple(_collapse(view, arm, said[arm.name], written.get(arm.name)) for arm in view.arms)


@dataclass(slots=True, kw_only=True)
class _Written:
    """Counts of written answers: all, those that never ended, those that match no label (None: there are none)."""

    answers: int = 0
    unended: int = 0
    unmatched: int | None = None


def _written(view: View) -> dict[str, _Written]:
    """What every arm wrote, read from the stored answers."""
    reading, labels = AnswerReader(view), labels_of(view.data)
    matches: dict[str, bool] = {}
    found = {}
    for arm in view.arms:
        counts = _Written(unmatched=0 if labels else None)
        for planned in view.runs[arm.name]:
            answers = reading.read(planned)
            texts = [text for text in answers.text or () if text is not None]
            counts.answers += len(texts)
            counts.unended += int((~answers.ended_I).sum())
            if counts.unmatched is not None:
                counts.unmatched += sum(not _matches(text, labels, matches) for text in texts)
        found[arm.name] = counts
    return found


def _said(choice_I: NDArray[np.int32], choices: Sequence[tuple[str, ...]], *, same: bool) -> Counter[str]:
    if same:
        counts = np.bincount(choice_I[choice_I >= 0], minlength=len(choices[0])).tolist()
        return Counter({label: count for label, count in zip(choices[0], counts, strict=True) if count})
    return Counter(choices[row][number] for row, number in enumerate(choice_I.tolist()) if number >= 0)


def _matches(text: str, labels: Sequence[str], known: dict[str, bool]) -> bool:
    if text not in known:
        known[text] = metrics.score_text("exact_match", text, labels).value == 1.0
    return known[text]


def _collapse(view: View, arm: Arm, said: Counter[str], written: _Written | None) -> CollapseRow:
    total = said.total()
    wrote = written if written is not None and written.answers else None
    commonest = min(said, key=lambda label: (-said[label], label)) if said else None
    if not total and wrote is None:
        reason = view.missing(arm)
    elif not total:
        reason = "answers are written freely, so there are no choices to count"
    else:
        reason = "answers are chosen from a closed set, so they always end and match a label"
    if wrote is not None and wrote.unmatched is None:
        reason += "; the target's rows have no labels"
    unmatched = None if wrote is None else wrote.unmatched
    return CollapseRow(
        arm=arm.name,
        kind=arm.kind,
        commonest_label=commonest,
        commonest_share=said[commonest] / total if commonest is not None else None,
        entropy_bits=_entropy(list(said.values())) if total else None,
        never_ended=None if wrote is None else wrote.unended / wrote.answers,
        matched_no_label=None if wrote is None or unmatched is None else unmatched / wrote.answers,
        reason=reason,
    )


def _entropy(counts: Sequence[int]) -> float:
    """Entropy in bits of a distribution given by counts.

    >>> _entropy([2, 1, 1])
    1.5
    """
    total = sum(counts)
    return abs(-math.fsum(count / total * math.log2(count / total) for count in counts if count))
