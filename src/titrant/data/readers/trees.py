"""Conversations out of files whose rows are single messages that reply to one another (OpenAssistant's layout).

Each row has `message_id`, `parent_id` (null for the first message of a tree), `role` (prompter or assistant), `text`,
and maybe `rank` (0 is the best reply to its parent) and `deleted`. Of each tree the thread of the best-ranked replies
is one conversation; replies without a rank come after those with one, in the order of the file. A thread ends with an
answer: a last message of the prompter is left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from titrant.core.errors import DataError
from titrant.core.records import RawRow
from titrant.data.readers.files import read_rows
from titrant.data.readers.lines import Report

_NEEDS = frozenset({"message_id", "parent_id", "role", "text"})
_READ = _NEEDS | {"rank", "deleted", "message_tree_id"}
_ROLES = {"prompter": "user", "assistant": "assistant"}


def holds_messages(row: RawRow) -> bool:
    """Whether a file's first row is one message of a tree."""
    return row.values.keys() >= _NEEDS


def with_whole_conversations(path: str | Path, *, report: Report) -> Iterator[RawRow]:
    """The rows of a place, classes by their names; of messages that reply to one another, the conversations."""
    rows = iter(read_rows(path, report=report, named=True))
    first = next(rows, None)
    if first is None:
        return
    everything = chain([first], rows)
    yield from conversations_of(everything, report=report) if holds_messages(first) else everything


def conversations_of(rows: Iterable[RawRow], *, report: Report) -> Iterator[RawRow]:
    """One row `{"id", "messages"}` for every tree, at the place of its first message, in the order of the file.

    All messages are held at once, as those of a tree need not stand together. A tree without an answer is reported.
    """
    roots: list[RawRow] = []
    replies: dict[str, list[RawRow]] = defaultdict(list)
    for row in rows:
        problem = _fault(row)
        if problem is not None:
            report(problem.at(str(row.origin)))
        elif row.values["parent_id"] is None:
            roots.append(row)
        else:
            replies[row.values["parent_id"]].append(row)
    for root in roots:
        thread = _thread(root, replies)
        while thread and thread[-1].values["role"] != "assistant":
            thread.pop()
        if thread:
            messages = [_turn(row) for row in thread]
            yield RawRow(values={"id": root.values["message_id"], "messages": messages}, origin=root.origin)
        else:
            report(DataError("a tree of messages without an answer").at(str(root.origin)))


def _thread(root: RawRow, replies: dict[str, list[RawRow]]) -> list[RawRow]:
    thread = [root]
    while following := [
        row for row in replies[thread[-1].values["message_id"]] if row.values.get("deleted") is not True
    ]:
        thread.append(min(following, key=_rank))
    return thread


def _turn(row: RawRow) -> dict[str, Any]:
    """A message as a turn; what else it holds stays beside, so that it is said that nobody reads it."""
    beside = {name: value for name, value in row.values.items() if name not in _READ}
    return {**beside, "role": _ROLES[row.values["role"]], "content": row.values["text"]}


def _rank(row: RawRow) -> tuple[bool, float]:
    rank = row.values.get("rank")
    if isinstance(rank, str) and rank.replace(".", "", 1).isdecimal():
        return (False, float(rank))
    return (True, 0.0)


def _fault(row: RawRow) -> DataError | None:
    values = row.values
    for name in ("message_id", "text"):
        if not isinstance(values.get(name), str):
            return DataError(f"the message has no {name}", got=values.get(name), expected="a text")
    if values.get("role") not in _ROLES:
        return DataError("a message of an unknown role", got=values.get("role"), expected=" or ".join(_ROLES))
    if values.get("parent_id") is not None and not isinstance(values["parent_id"], str):
        return DataError("parent_id is not the name of a message", got=values["parent_id"])
    return None
