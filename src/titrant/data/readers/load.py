"""Training rows and test items from a file of rows.

A row with a fault stops the reading, and up to twenty kinds of faults are told at once (`problems`), each with its file
and line.
Nothing is repaired or guessed, and nothing dropped unless the caller takes the faults (`on_fault`) and counts them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from titrant.core.errors import DataError
from titrant.core.identity import fingerprint
from titrant.core.records import AnswerKind, Example, Item, Tags, Turn
from titrant.data.readers.columns import ColumnPlaces, Row
from titrant.data.readers.files import read_rows, rows_at_lines
from titrant.data.readers.lines import Report
from titrant.data.readers.notes import ReadingNotes
from titrant.data.readers.options import AnswersOfFile
from titrant.data.readers.parts import GROUP, ID, LABEL, ROW_ID, TASK, ColumnMap, Part
from titrant.data.readers.problems import Problems
from titrant.data.readers.shapes import Reading, Shape, read_row, shape_of, shape_of_row
from titrant.data.readers.trees import with_whole_conversations


def load_examples(
    path: str | Path,
    *,
    source: str,
    task: str,
    columns: ColumnMap | None = None,
    instruction: str | None = None,
    shape: str | None = None,
    tags: Tags = (),
    on_fault: Report | None = None,
    notes: ReadingNotes | None = None,
) -> tuple[Example, ...]:
    """All rows of `path` as training rows of the pool `source`; `DataError` with every kind of fault, or the first 20.

    `columns` maps the names in `shapes` to the file's own; `shape` forces one where detection would take another. With
    `on_fault`, rows with a fault are left out and the faults handed over: public pools hold rows without answers. What
    was not read goes to `notes`: columns, and rows whose answer is marked as not to be learned, which are no example.
    """
    rows = stream_examples(
        path,
        source=source,
        task=task,
        columns=columns,
        instruction=instruction,
        shape=shape,
        tags=tags,
        on_fault=on_fault,
        notes=notes,
    )
    return tuple(rows)


def stream_examples(
    path: str | Path,
    *,
    source: str,
    task: str,
    columns: ColumnMap | None = None,
    instruction: str | None = None,
    shape: str | None = None,
    tags: Tags = (),
    on_fault: Report | None = None,
    numbered: bool = True,
    lines: Container[int] | None = None,
    notes: ReadingNotes | None = None,
) -> Iterator[Example]:
    """`load_examples` one row at a time. After the first fault nothing more is yielded, but faults are still sought.

    Without `numbered` a key is the hash of the content alone, and nothing is kept of the rows that were yielded. With
    `lines`, only these lines of a file of JSON Lines are read.
    """
    seen: Counter[str] = Counter()
    for row, reading in _readings(
        path, columns=columns, instruction=instruction, shape=shape, on_fault=on_fault, lines=lines, notes=notes
    ):
        turns = (*reading.prompt, Turn(role="assistant", text=reading.references[0]))
        label = row.optional_text(LABEL) or None if LABEL.role in row.columns else reading.label
        yield Example(
            key=_key([[turn.role, turn.text] for turn in turns], label, seen=seen if numbered else None),
            row_id=_row_id(row),
            source=source,
            task=_own(row, TASK) or task,
            turns=turns,
            label=label,
            group=_own(row, GROUP),
            tags=tags,
            origin=row.raw.origin,
        )


def load_items(
    path: str | Path,
    *,
    eval_set: str,
    target: str,
    task: str,
    metric: str,
    answer: AnswerKind,
    max_answer_tokens: int,
    choices: Sequence[str] | None = None,
    columns: ColumnMap | None = None,
    instruction: str | None = None,
    shape: str | None = None,
    tags: Tags = (),
    notes: ReadingNotes | None = None,
) -> tuple[Item, ...]:
    """All rows of `path` as test items; `DataError` with every kind of fault, or the first 20.

    `choices` is the closed set of a target's labels, used where a row has no choices of its own. With answer `choices`
    every reference must be among them: a label that training never showed cannot be answered.
    """
    seen: Counter[str] = Counter()
    problems = Problems()
    items = []
    for row, reading in _readings(path, columns=columns, instruction=instruction, shape=shape, notes=notes):
        try:
            open_to = _choices_for(reading, choices, answer)
            if not reading.prompt:
                raise DataError("plain text asks nothing, so it cannot be a test item", fix="use question and answer")
        except DataError as error:
            problems(error.at(str(row.raw.origin)))
            continue
        content = [[turn.role, turn.text] for turn in reading.prompt]
        items.append(
            Item(
                key=_key(content, list(reading.references), list(open_to or ()), seen=seen),
                row_id=_row_id(row),
                eval_set=eval_set,
                target=target,
                task=_own(row, TASK) or task,
                turns=reading.prompt,
                references=reading.references,
                choices=open_to,
                answer=answer,
                metric=metric,
                max_answer_tokens=max_answer_tokens,
                group=_own(row, GROUP),
                tags=tags,
                origin=row.raw.origin,
            )
        )
    problems.raise_any()
    return tuple(items)


def _readings(
    path: str | Path,
    *,
    columns: ColumnMap | None,
    instruction: str | None,
    shape: str | None,
    on_fault: Report | None = None,
    lines: Container[int] | None = None,
    notes: ReadingNotes | None = None,
) -> Iterator[tuple[Row, Reading]]:
    """Rows with what they say: up to the first fault, or all good ones where `on_fault` takes the others. Rows without
    anything to learn are passed over."""
    problems = Problems()
    fault = on_fault or problems
    found: Shape | None = None
    tally = (notes or ReadingNotes()).begin(str(path))
    answers, known = AnswersOfFile(), ColumnPlaces(columns or {})
    if lines is not None:  # what the first row of the file is, all are
        first = next(iter(read_rows(path, named=True)))
        found = shape_of(first, columns=columns, instruction=instruction, shape=shape)
    for raw in with_whole_conversations(path, report=fault) if lines is None else rows_at_lines(Path(path), lines):
        if found is None:
            found = shape_of(raw, columns=columns, instruction=instruction, shape=shape)
        row = Row(raw, known)
        own = found if shape is not None else shape_of_row(found, row, instruction)
        try:
            reading = read_row(own, row, instruction)
            answers.check(reading.chosen, str(raw.origin))
            for part in (TASK, GROUP, LABEL):
                if part.role in row.columns:
                    row.text(part)
        except DataError as error:
            fault(error.at(str(raw.origin)))
            continue
        if own is not found:
            lacking = " and ".join(part.role for part in found.needs)
            remark = f"rows without {lacking} are read in the layout {own.name}"
            reading = replace(reading, remarks=(*reading.remarks, remark))
        tally.add(raw, reading)
        if not problems and reading.left_out is None:
            yield row, reading
    for remark in answers.remarks:
        tally.remark(remark)
    problems.raise_any()


def _choices_for(reading: Reading, closed: Sequence[str] | None, answer: AnswerKind) -> tuple[str, ...] | None:
    choices = reading.choices if reading.choices is not None else tuple(closed) if closed is not None else None
    if answer != "choices":
        return choices
    if choices is None:
        raise DataError("the row has no choices", expected="a column of choices, or labels", fix="answer: text")
    unknown = [reference for reference in reading.references if reference not in choices]
    if unknown:
        own = reading.choices is not None
        fix = "write the answer exactly as the choice" if own else "add training rows with it, or correct the label"
        alike = [one for one in choices if one.strip().casefold() == unknown[0].strip().casefold()]
        if alike and not own:
            fix = f"merge_labels: {{{alike[0]!r}: [{unknown[0]!r}]}} in the target, as it differs in case or space only"
        raise DataError(
            "the answer is not among the row's choices"
            if own
            else f"a label that was never seen in training, {unknown[0]!r}",
            got=unknown[0],
            expected="one of " + ", ".join(choices),
            fix=fix,
        )
    return choices


def _key(*content: object, seen: Counter[str] | None) -> str:
    """The content key of `identity.content_keys`, one row at a time; the hash alone where nobody counts."""
    digest = fingerprint(list(content))
    if seen is None:
        return digest
    seen[digest] += 1
    return f"{digest}.{seen[digest] - 1}"


def _row_id(row: Row) -> str:
    """The user's own name of the row, or the number of its line."""
    return row.optional_text(ID) or (
        row.optional_text(ROW_ID) if "row_id" in row.raw.values else str(row.raw.origin.line)
    )


def _own(row: Row, part: Part) -> str | None:
    """A text that the study maps a column to; unmapped columns of that name are the file's own affair."""
    return row.text(part) if part.role in row.columns else None
