"""What a file of rows looks like, for `titrant init`: its columns, shape, labels, and what to write in the study."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from titrant.core.errors import DataError
from titrant.core.records import RawRow
from titrant.data.readers.files import read_rows
from titrant.data.readers.shapes import shape_of

MAX_LABELS = 50
"""More different values than this, and a column is no closed set of labels."""
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
    count, and empty where the answers are no closed set. `rows` counts those read, at most 20,000 (`complete` False).
    """

    columns: tuple[str, ...]
    shape: str | None
    labels: tuple[LabelCount, ...]
    rows: int
    complete: bool
    suggested_columns: tuple[tuple[str, str], ...]
    suggested_instruction: str | None


def detect_shape(path: str | Path) -> FileShape:
    """Look at up to 20,000 rows of `path`; a file that cannot be read raises the reader's `DataError`."""
    rows: list[RawRow] = []
    complete = True
    for row in read_rows(path):
        if len(rows) == _SAMPLE_ROWS:
            complete = False
            break
        rows.append(row)
    columns = tuple(dict.fromkeys(column for row in rows for column in row.values))
    shape = _known_shape(rows[0])
    mapping: dict[str, str] = {}
    if shape is None:
        mapping = _guess_text_and_label(rows, columns)
        shape = "text_label" if mapping else None
    label_column = {"text_label": mapping.get("label", "label"), "input_output": "output"}.get(shape or "")
    labels = _labels(rows, label_column) if label_column else ()
    instruction = None
    if labels:
        words = ", ".join(sorted(count.label for count in labels))
        instruction = f"Read the text and answer with one of: {words}."
    return FileShape(
        columns=columns,
        shape=shape,
        labels=labels,
        rows=len(rows),
        complete=complete,
        suggested_columns=tuple(mapping.items()),
        suggested_instruction=instruction,
    )


def _known_shape(first: RawRow) -> str | None:
    """The shape by canonical column names alone; an instruction is assumed, since init would write one."""
    for instruction in (None, "…"):
        try:
            return shape_of(first, columns=None, instruction=instruction).name
        except DataError:
            continue
    return None


def _guess_text_and_label(rows: list[RawRow], columns: tuple[str, ...]) -> dict[str, str]:
    """The column with the longest values is the text; that with the fewest different ones the label."""
    full = [
        column
        for column in columns
        if column.lower() not in _NEVER_LABELS and all(_plain(row.values.get(column)) for row in rows)
    ]
    different = {column: len({row.values[column] for row in rows}) for column in full}
    closed = [
        column
        for column in full
        if 2 <= different[column] <= MAX_LABELS and different[column] <= max(2, len(rows) // 2)
    ]
    if not closed:
        return {}
    named = [column for column in closed if column.lower() in _LABEL_NAMES]
    label = min(named or closed, key=lambda column: (different[column], columns.index(column)))
    others = [column for column in full if column != label]
    if not others:
        return {}
    text = max(others, key=lambda column: sum(len(row.values[column]) for row in rows))
    return {"text": text, "label": label}


def _labels(rows: list[RawRow], column: str) -> tuple[LabelCount, ...]:
    counts = Counter(str(value) for row in rows if _plain(value := row.values.get(column)))
    if len(counts) > MAX_LABELS or len(counts) > max(2, len(rows) // 2):
        return ()
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(LabelCount(label=label, rows=count) for label, count in ranked)


def _plain(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
