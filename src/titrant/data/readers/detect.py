"""What a file of rows looks like, for `titrant init`: its columns, shape, labels, and what to write in the study."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from titrant.core.errors import DataError
from titrant.core.records import RawRow
from titrant.data.readers.columns import Row
from titrant.data.readers.lines import refuse
from titrant.data.readers.shapes import SHAPES, columns_in_other_case, read_row, shape_of
from titrant.data.readers.trees import with_whole_conversations

MOST_LISTED_CHARACTERS = 1000
"""An instruction names all labels while they take no more than this: it is read again with every row."""
_MANY_LABELS = 50  # so many different numbers are quantities rather than names of classes
_SAMPLE_ROWS = 20_000
_LABEL_NAMES = ("label", "labels", "class", "category", "intent", "sentiment", "target", "team", "tag", "topic")
_NEVER_LABELS = ("id", "row_id", "split", "lang", "language", "source", "date")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelCount:
    """One label and how many rows have it."""

    label: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileShape:
    """What `detect_shape` found.

    `shape` is None where no known shape fits; `suggested_columns` (name here, column there) is what the study's
    `columns` should then say, empty where nothing needs saying or nothing can be guessed. `labels` are sorted by
    count, and empty where the answers are no closed set; `labels_listed` is False where they are too many for the
    instruction. `different` says for each column that is full how many different values it has. `has_choices` where
    rows bring choices of their own. `rows` counts those read, at most 20,000 (`complete` False).
    """

    columns: tuple[str, ...]
    shape: str | None
    labels: tuple[LabelCount, ...]
    rows: int
    complete: bool
    suggested_columns: tuple[tuple[str, str], ...]
    suggested_instruction: str | None
    labels_listed: bool = True
    different: tuple[tuple[str, int], ...] = ()
    has_choices: bool = False


def detect_shape(path: str | Path) -> FileShape:
    """Look at up to 20,000 rows of `path`; a file that cannot be read raises the reader's `DataError`."""
    rows: list[RawRow] = []
    complete = True
    for row in with_whole_conversations(path, report=refuse):
        if len(rows) == _SAMPLE_ROWS:
            complete = False
            break
        rows.append(replace(row, values={name: _as_read(value) for name, value in row.values.items()}))
    columns = tuple(dict.fromkeys(column for row in rows for column in row.values))
    mapping: dict[str, str] = {}
    shape = _known_shape(rows[0], None)
    if shape is None and (mapping := columns_in_other_case(rows[0])):
        shape = _known_shape(rows[0], mapping)
    if shape is None:
        mapping = _guess_text_and_label(rows, columns)
        shape = "text_label" if mapping else None
    label_column = {
        "text_label": mapping.get("label", "label"),
        "input_output": mapping.get("output", "output"),
    }.get(shape or "")
    labels = _labels(rows, label_column, named=shape == "text_label") if label_column else ()
    instruction, listed = None, True
    if labels:
        words = ", ".join(sorted(count.label for count in labels))
        listed = len(words) <= MOST_LISTED_CHARACTERS
        instruction = f"Read the text and answer with {f'one of: {words}' if listed else 'its label'}."
    return FileShape(
        columns=columns,
        shape=shape,
        labels=labels,
        rows=len(rows),
        complete=complete,
        suggested_columns=tuple(mapping.items()),
        suggested_instruction=instruction,
        labels_listed=listed,
        different=tuple(_different(rows, columns).items()),
        has_choices=shape is not None and _has_choices(rows[0], shape, mapping),
    )


def _known_shape(first: RawRow, columns: dict[str, str] | None) -> str | None:
    """The shape by column names alone; an instruction is assumed, since init would write one."""
    for instruction in (None, "…"):
        try:
            return shape_of(first, columns=columns, instruction=instruction).name
        except DataError:
            continue
    return None


def _has_choices(first: RawRow, shape: str, columns: dict[str, str]) -> bool:
    """Whether the first row brings choices of its own. A row with a fault has none: the loader says which."""
    try:
        return read_row(SHAPES[shape], Row(first, columns), "…").choices is not None
    except DataError:
        return False


def _guess_text_and_label(rows: list[RawRow], columns: tuple[str, ...]) -> dict[str, str]:
    """The column with the longest values is the text; that with the fewest different ones the label."""
    different = _different(rows, columns)
    counts = {column: Counter(row.values[column] for row in rows) for column in different}
    # A column that no name marks as labels has to repeat more: authors and places come back too.
    closed = [
        column
        for column in different
        if different[column] >= 2
        and _comes_back(counts[column])
        and (column.lower() in _LABEL_NAMES or different[column] <= max(_MANY_LABELS, len(rows) // 5))
    ]
    if not closed:
        return {}
    named = [column for column in closed if column.lower() in _LABEL_NAMES]
    label = min(named or closed, key=lambda column: (different[column], columns.index(column)))
    others = [column for column in different if column != label]
    if not others:
        return {}
    text = max(others, key=lambda column: sum(len(row.values[column]) for row in rows))
    return {"text": text, "label": label}


def _different(rows: list[RawRow], columns: tuple[str, ...]) -> dict[str, int]:
    """How many different values each column has that holds a text in every row and may say what a row is."""
    full = [
        column
        for column in columns
        if column.lower() not in _NEVER_LABELS and all(_plain(row.values.get(column)) for row in rows)
    ]
    return {column: len({row.values[column] for row in rows}) for column in full}


def _labels(rows: list[RawRow], column: str, *, named: bool) -> tuple[LabelCount, ...]:
    """The labels of a column with their counts; none where it is no closed set. `named`: it is a column of labels by
    its name, where whole numbers are classes however many."""
    counts = Counter(str(value) for row in rows if _plain(value := row.values.get(column)))
    numbers = all(re.fullmatch(r"[-+]?[0-9]*[.,]?[0-9]+", label) for label in counts)
    quantities = numbers and len(counts) > _MANY_LABELS and not (named and all(map(str.isdecimal, counts)))
    if quantities or not _comes_back(counts):
        return ()
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(LabelCount(label=label, rows=count) for label, count in ranked)


def _comes_back(counts: Counter[str]) -> bool:
    """Whether values repeat as those of a closed set do, however many there are: twice on average, and at least half of
    them more than once. Of free answers most stand once, though a few are common."""
    once = sum(count == 1 for count in counts.values())
    return len(counts) <= 2 or (2 * len(counts) <= counts.total() and 2 * once <= len(counts))


def _as_read(value: Any) -> Any:
    """`true` and `false` as the text that training will read: a column of them is a closed set like any other."""
    return ("true" if value else "false") if isinstance(value, bool) else value


def _plain(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
