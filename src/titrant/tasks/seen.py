"""Which test items could be answered from memory: their answer is also the answer of a training row.

More than half of WebQuestions is such. A model may have learned the answer there rather than the skill, so these
items are marked and reported apart; nothing is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from titrant.core.records import Item

ANSWER_SEEN = "answer_seen"
_NOT_LETTERS = re.compile(r"[\W_]+")


def mark_answer_seen(items: Sequence[Item], answers: Iterable[str]) -> tuple[Item, ...]:
    """The items, with the tag `answer_seen` where a reference is among the training `answers`.

    Answers are compared by letters and digits alone, without case; of GSM8K's, the number after `####`. Items of a task
    that always offers the same choices are not marked: every label has been seen there, which says nothing.
    """
    seen = {_bare(answer) for answer in answers}
    offered: dict[str, set[tuple[str, ...] | None]] = {}
    for item in items:
        offered.setdefault(item.task, set()).add(item.choices)
    return tuple(
        replace(item, tags=(*item.tags, (ANSWER_SEEN, "yes")))
        if (item.choices is None or len(offered[item.task]) > 1)
        and any(_bare(reference) in seen for reference in item.references)
        else item
        for item in items
    )


def answer_seen(item: Item) -> bool:
    """Whether an item is marked."""
    return (ANSWER_SEEN, "yes") in item.tags


def _bare(text: str) -> str:
    return _NOT_LETTERS.sub(" ", text.rpartition("####")[2].casefold()).strip() or text.strip()
