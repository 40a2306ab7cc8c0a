"""What a file of rows looks like, for `titrant init`: its columns, shape, labels, and what to write in the study."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from titrant.core.errors import DataError
from titrant.core.records import RawRow
from titrant.data.readers.cells import is_filled
from titrant.data.readers.columns import ColumnPlaces, Row
from titrant.data.readers.lines import refuse
from titrant.data.readers.options import COUNTED_FROM, Numbers, number_of
from titrant.data.readers.parts import TEXT_PAIRS, ColumnMap
from titrant.data.readers.shapes import SHAPES, Shape, columns_in_other_case, offered, read_row, shape_of
from titrant.data.readers.trees import with_whole_conversations

MOST_LISTED_CHARACTERS = 1000
"""An instruction names all labels while they take no more than this: it is read again with every row."""
_MANY_LABELS = 50  # so many different numbers are quantities rather than names of classes
_MANY_GRADES = 11  # stars in halves are grades; of more values with fractions one is measured rather than chosen
_SAMPLE_ROWS = 20_000
_LABEL_NAMES = ("label", "labels", "class", "category", "intent", "sentiment", "target", "team", "tag", "topic")
_PAIR_LABELS = ("gold_label", "is_duplicate", "duplicate", "relevance", "relevant", "entailment", "stance", "verdict")
_SCORE_NAMES = ("score", "similarity", "similarity_score", "relatedness", "relatedness_score", "rating", "stars")
_NEVER_LABELS = ("id", "row_id", "split", "lang", "language", "source", "date")
_NUMBER = re.compile(r"[-+]?[0-9]*[.,]?[0-9]+")


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
    instruction. `different` says for each column that is full how many different values it has, `empty` for each that
    is full in some rows in how many it is not. `has_choices` where rows bring choices of their own. `quantity` are the
    least and the greatest label where labels are amounts rather than classes. `rows` counts those read, at most 20,000
    (`complete` False). `question` is what only the user can say of the rows: from where numbers of choices count.
    """

    columns: tuple[str, ...]
    shape: str | None
    labels: tuple[LabelCount, ...]
    rows: int
    complete: bool
    suggested_columns: tuple[tuple[str, str | tuple[str, ...]], ...]
    suggested_instruction: str | None
    labels_listed: bool = True
    different: tuple[tuple[str, int], ...] = ()
    has_choices: bool = False
    quantity: tuple[str, str] | None = None
    empty: tuple[tuple[str, int], ...] = ()
    question: DataError | None = None


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
    mapping, question = dict[str, str | tuple[str, ...]](), None
    shape = _known_shape(rows[0], None)
    if shape is None and (in_other_case := columns_in_other_case(rows[0])):
        shape = _known_shape(rows[0], in_other_case)
        mapping.update(in_other_case)
    if shape is None:
        mapping = _guess_text_and_label(rows, columns)
        shape = "text_label" if mapping else None
    else:
        counted, question = _way_of_counting(rows, SHAPES[shape], mapping, str(path))
        mapping = {name: column for name, column in mapping.items() if column not in counted.values()} | counted
    label_column = {
        "text_label": str(mapping.get("label", "label")),
        "input_output": str(mapping.get("output", "output")),
    }.get(shape or "", "")
    values = [str(value) for row in rows if _plain(value := row.values.get(label_column))]
    labels = _labels(values, named=shape == "text_label")
    quantity = _range(values) if shape == "text_label" and not labels and are_quantities(values) else None
    instruction, listed = None, True
    if labels:
        words = ", ".join(sorted(count.label for count in labels))
        listed = len(words) <= MOST_LISTED_CHARACTERS
        instruction = f"Read the text and answer with {f'one of: {words}' if listed else 'its label'}."
    elif quantity is not None:
        instruction = f"Read the text and answer with a number from {quantity[0]} to {quantity[1]}."
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
        quantity=quantity,
        empty=tuple(_empty(rows, columns).items()),
        question=question,
    )


def _known_shape(first: RawRow, columns: dict[str, str] | None) -> str | None:
    """The shape by column names alone; an instruction is assumed, since init would write one."""
    for instruction in (None, "…"):
        try:
            return shape_of(first, columns=columns, instruction=instruction).name
        except DataError:
            continue
    return None


def _has_choices(first: RawRow, shape: str, columns: ColumnMap) -> bool:
    """Whether the first row brings choices of its own. A row with a fault has none: the loader says which."""
    try:
        return read_row(SHAPES[shape], Row(first, columns), "…").choices is not None
    except DataError:
        return False


def _way_of_counting(
    rows: Sequence[RawRow], shape: Shape, mapping: ColumnMap, path: str
) -> tuple[dict[str, str | tuple[str, ...]], DataError | None]:
    """What `columns` has to say so that answers that are numbers of choices are read as they count, empty where the
    reader knows; and what to ask where only the user can tell whether they count from 0 or from 1."""
    known, numbers, column, by_columns = ColumnPlaces(mapping), Numbers(), "", False
    for raw in rows:
        try:
            found = offered(shape, Row(raw, known))
        except DataError:  # the loader says what is wrong with the row
            continue
        number = number_of(found.answer, found.options) if found is not None else None
        if found is not None and number is not None:
            numbers, column, by_columns = numbers.add(number), found.column, found.options.by_columns
    if question := numbers.question(column):
        return {}, question.at(path)
    first = numbers.counted_from
    if first is None or (first == 0 and not by_columns):  # the numbers of a list count from 0 if nothing is said
        return {}, None
    return {COUNTED_FROM[first]: column}, None


def _guess_text_and_label(rows: list[RawRow], columns: tuple[str, ...]) -> dict[str, str | tuple[str, ...]]:
    """The columns that are a pair of texts, or else the longest values, are the text; the label is a column that is
    called so or has the fewest different values, or, beside a pair, a score."""
    different = _different(rows, columns)
    pair = _pair_of_texts(different)
    counts = {column: Counter(row.values[column] for row in rows) for column in different if column not in pair}
    # A column that no name marks as labels has to repeat more: authors and places come back too.
    closed = [
        column
        for column in counts
        if different[column] >= 2
        and _comes_back(counts[column])
        and (_is_named(column) or different[column] <= max(_MANY_LABELS, len(rows) // 5))
    ]
    scores = [column for column in counts if column.lower() in _SCORE_NAMES and are_quantities(counts[column])]
    named = [column for column in closed if _is_named(column)]
    label = min(
        named or (scores if pair else []) or closed,
        key=lambda column: (different[column], columns.index(column)),
        default=None,
    )
    others = [column for column in different if column != label]
    if label is None or not others:
        return {}
    if pair:
        return {"text": pair, "label": label}
    return {"text": max(others, key=lambda column: sum(len(row.values[column]) for row in rows)), "label": label}


def _is_named(column: str) -> bool:
    return column.lower() in (*_LABEL_NAMES, *_PAIR_LABELS, *_SCORE_NAMES)


def _pair_of_texts(columns: Collection[str]) -> tuple[str, ...]:
    """The two columns that are known to be read together; empty where there are none."""
    return next((pair for pair in TEXT_PAIRS if all(column in columns for column in pair)), ())


def _different(rows: list[RawRow], columns: tuple[str, ...]) -> dict[str, int]:
    """How many different values each column has that holds a text in every row and may say what a row is."""
    full = [
        column
        for column in columns
        if column.lower() not in _NEVER_LABELS and all(_plain(row.values.get(column)) for row in rows)
    ]
    return {column: len({row.values[column] for row in rows}) for column in full}


def _empty(rows: list[RawRow], columns: tuple[str, ...]) -> dict[str, int]:
    """In how many rows each column is empty that is empty in some and full in others."""
    counts = {column: sum(not is_filled(row.values.get(column)) for row in rows) for column in columns}
    return {column: count for column, count in counts.items() if 0 < count < len(rows)}


def _labels(values: Sequence[str], *, named: bool) -> tuple[LabelCount, ...]:
    """Labels with their counts; none where they are no closed set. `named`: their column is one of labels by its name,
    where whole numbers are classes however many."""
    counts = Counter(values)
    quantities = are_quantities(counts) and not (named and all(map(str.isdecimal, counts)))
    if not counts or quantities or not _comes_back(counts):
        return ()
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(LabelCount(label=label, rows=count) for label, count in ranked)


def are_quantities(values: Iterable[str]) -> bool:
    """Whether values are amounts rather than names of classes: many different numbers, or a dozen with fractions.

    >>> are_quantities(["1.0", "2.0", "0.0"]), are_quantities([f"{n / 5}" for n in range(26)])
    (False, True)
    """
    different = set(values)
    if not different or not all(map(_NUMBER.fullmatch, different)):
        return False
    fractions = any(not _amount(value).is_integer() for value in different)
    return len(different) > (_MANY_GRADES if fractions else _MANY_LABELS)


def _amount(value: str) -> float:
    return float(value.replace(",", "."))


def _range(values: Sequence[str]) -> tuple[str, str]:
    return min(values, key=_amount), max(values, key=_amount)


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
