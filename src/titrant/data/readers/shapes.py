"""What the columns of a row mean: the layouts the field uses, told apart by their column names.

A layout is data: the parts that it needs and may have, each with the names that the part goes by in files. What a row
holds beside them is what was not read (`Reading.unread`): a subtraction made in `read_row`, and nowhere else.
`docs/formats.md` shows every layout with the row that it becomes.

Parts of a prompt that are not empty are joined by one blank line, and are otherwise taken as they stand. A study's
`columns: {text: body}` says that what is called `text` here is called `body` in the file; several columns of the file
make one text, each under its name. Files whose rows are single messages are put together before (`trees`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from titrant.core.errors import DataError
from titrant.core.plugins import Extension, line_of
from titrant.core.records import RawRow, Turn
from titrant.data.readers.cells import is_filled, parsed_cell, text_of
from titrant.data.readers.columns import Row
from titrant.data.readers.options import Chosen, Options, chosen, options_of
from titrant.data.readers.parts import (
    ANSWER,
    ASKED,
    BEYOND_TEXT,
    CHOICES,
    COMMON,
    COMPLETION,
    CONTEXT,
    GROUP,
    HISTORY,
    ID,
    INPUT,
    INSTRUCTION,
    LABEL,
    MARKS,
    MESSAGES,
    ONLY_INPUT,
    OUTPUT,
    PLAIN,
    PROMPT,
    QUESTION,
    REPLY,
    ROW_ID,
    SYSTEM,
    TASK,
    TEXT,
    ColumnMap,
    Part,
    listed,
)
from titrant.data.readers.turns import (
    ROLE_FIELDS,
    asked,
    beyond_text,
    checked_prompt,
    is_learned,
    says_something,
    system_turns,
    turns_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One row, understood: the prompt's turns (none for plain text), right answers, and what else it says.

    `unread` are the columns and fields that hold something and were not read; `left_out` says why the row is no
    example (nothing in it is to be learned), `chosen` which of its choices the answer is and how that was said, and
    `remarks` what its file's user has to know of how it was read.
    """

    prompt: tuple[Turn, ...]
    references: tuple[str, ...]
    choices: tuple[str, ...] | None = None
    label: str | None = None
    left_out: str | None = None
    chosen: Chosen | None = None
    unread: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A layout: the parts that it needs, those that it may have, and how a row becomes a `Reading`.

    `instruction` says whether the study's instruction is needed, may stand before the prompt, or has no place;
    `label_marks` whether a label of true or false beside it is KTO's, which says if the answer is to be learned.
    """

    name: str
    needs: tuple[Part, ...]
    may: tuple[Part, ...]
    instruction: str
    read: Callable[[Row, str | None], Reading]
    label_marks: bool = False

    @property
    def names(self) -> frozenset[str]:
        """Every name that `columns` may map in this layout."""
        return frozenset(name for part in (*self.needs, *self.may, *COMMON) for name in part.single_names)


def read_row(shape: Shape, row: Row, instruction: str | None) -> Reading:
    """What a row says in a layout, and what of it was not read; `DataError` for a row with a fault."""
    for column in row.layout.beyond_text:
        if says_something(row.raw.values[column]):
            raise beyond_text(BEYOND_TEXT[column], column)
    reading = shape.read(row, instruction)
    for part in (ID, ROW_ID, TASK, GROUP, LABEL):
        if part in (ID, ROW_ID) or part.role in row.columns:
            row.value(part)
    for mark in MARKS:
        found = row.find(mark)
        if found is None or set(found[1]) & row.used:
            continue
        learned = is_learned(row.raw.values[found[1][0]], mark.role)
        if learned is not None:  # a column of that name with other values, a weight in kilograms, is no mark
            row.used.update(found[1])
        if learned is False:
            reading = replace(reading, left_out=f"{found[1][0]} says that the answer is not to be learned")
    if shape.label_marks and LABEL.role not in row.columns and LABEL.role in row.raw.values:
        reading = _marked_by_label(row, reading)
    unread = row.unread
    return replace(reading, unread=unread) if unread else reading


def _marked_by_label(row: Row, reading: Reading) -> Reading:
    """The reading of a row of KTO's layout, whose label says whether its answer was liked. A label of another kind is a
    class that nobody reads, and so is one beside an answer that is itself true or false."""
    learned = is_learned(row.raw.values[LABEL.role], LABEL.role)
    if learned is None or is_learned(reading.references[0], LABEL.role) is not None:
        return reading
    row.used.add(LABEL.role)
    remark = "label says whether the answer is learned, as KTO has it (if it is a class: columns: {label: label})"
    reading = replace(reading, remarks=(*reading.remarks, remark))
    return reading if learned else replace(reading, left_out="label is false: the answer is not to be learned")


def shape_of_row(shape: Shape, row: Row, instruction: str | None) -> Shape:
    """The layout that a row of a file is read in: the file's own, unless the row holds nothing in a part that it needs
    and is whole in another layout. Sets that were put together have such rows: one set's columns are null in another's.
    """
    if all(map(row.holds, shape.needs)):
        return shape
    for other in _candidates(row):
        fits = bool(instruction) if other.instruction == "needed" else other.instruction == "may" or not instruction
        if fits and all(row.holds(part) for part in other.needs) and (other.name != "text" or _is_only_text(row)):
            return other
    return shape


def shape_of(raw: RawRow, *, columns: ColumnMap | None, instruction: str | None, shape: str | None = None) -> Shape:
    """The shape of a file, from its first row; `DataError` names the columns present and how to map them.

    `shape` is the name of one that is forced, or a format from outside.
    """
    if isinstance(shape, Extension):
        return _shape_by_format(shape)
    row = Row(raw, columns or {})
    _check_columns(row)
    if shape is not None and shape not in SHAPES:
        raise DataError("no such shape", where="shape", got=shape, expected=", ".join(SHAPES))
    candidates = _candidates(row) if shape is None else [SHAPES[shape]]
    # In the order of the table: where several layouts fit, the first one wins.
    fitting = [each for each in candidates if all(row.find(part) is not None for part in each.needs)]
    if shape is None and not row.columns and not _is_only_text(row):
        # A forgotten `columns: {label: …}` must not turn a labelled table into text to be continued.
        fitting = [each for each in fitting if each.name != "text"]
    # Sets that were put together have each other's columns, full of nulls: the layout is that of the filled ones.
    filled = [each for each in fitting if all(row.holds(part) for part in each.needs)]
    fitting = filled or fitting
    if not fitting:
        raise _no_shape(row, candidates, forced=shape)
    found = fitting[0]
    if found.instruction == "needed" and not (instruction or "").strip():
        raise DataError(
            f"rows of {' and '.join(part.role for part in found.needs)} do not say what is asked",
            where=str(raw.origin),
            got=row.present,
            expected="an instruction",
            fix='instruction: "Route the ticket. Answer with one of: …" in the study',
        )
    if found.instruction == "none" and instruction:
        raise DataError(
            f"rows of the shape {found.name} have a prompt of their own, so the study's instruction has no place",
            where=str(raw.origin),
            got=row.present,
            fix="leave instruction out, or map the columns, as in columns: {text: body, label: team}",
        )
    return found


def _candidates(row: Row) -> list[Shape]:
    """The layouts that have every part that the study maps."""
    mapped = set(row.columns) - {part.role for part in COMMON}
    return [each for each in SHAPES.values() if mapped <= each.names]


def _is_only_text(row: Row) -> bool:
    """Whether a row has a text and nothing beside it but its name, and nulls where another layout has its parts."""
    needed = {
        name for each in SHAPES.values() for part in each.needs if part is not LABEL for name in part.single_names
    }
    beside = row.raw.values.keys() - {"text", "id", "row_id"}
    return all(name in needed and row.raw.values[name] in (None, [], {}) for name in beside)


def _no_shape(row: Row, candidates: list[Shape], *, forced: str | None) -> DataError:
    """The error for columns that no layout fits: what the nearest one finds in them, and what it lacks."""
    problem = "the columns are of no known shape" if forced is None else f"the columns are not of the shape {forced}"
    fix = "say which is which in the study: columns: {text: body, label: team}, or {text: body} for plain text"
    partly = [each for each in candidates if not all(map(row.find, each.needs)) and any(map(row.find, each.needs))]
    if partly:
        nearest = max(partly, key=lambda each: sum(row.find(part) is not None for part in each.needs) / len(each.needs))
        there = {part.role: "+".join(found[1]) for part in nearest.needs if (found := row.find(part)) is not None}
        lacking = [part for part in nearest.needs if part.role not in there]
        read_as = " and ".join(f"{column} is read as the {role}" for role, column in there.items())
        names = " and no ".join(f"{part.role} ({', '.join(part.single_names)})" for part in lacking)
        problem += f": {read_as}, and there is no {names}"
        fix = "say which is which in the study: columns: {" + ", ".join(f"{part.role}: …" for part in lacking) + "}"
    if forced is None:
        fix = _other_writing(row.raw) or fix
    return DataError(
        problem,
        where=str(row.raw.origin),
        got=row.present,
        expected=" | ".join("+".join(part.role for part in each.needs) for each in candidates or SHAPES.values()),
        fix=fix,
    )


def _other_writing(raw: RawRow) -> str | None:
    """How a row can be read whose columns go by other names, or whose parts stand within a column; None if unknown."""
    if written := columns_in_other_case(raw):
        return "columns: {" + ", ".join(f"{name}: {column}" for name, column in written.items()) + "}"
    for column, value in raw.values.items():
        if (
            isinstance(value, list)
            and value
            and all(isinstance(each, dict) and each.keys() & ROLE_FIELDS for each in value)
        ):
            return f"columns: {{messages: {column}}}"
        inner = Row(RawRow(values=value, origin=raw.origin), {}) if isinstance(value, dict) else None
        if inner is not None and any(all(map(inner.holds, each.needs)) for each in SHAPES.values()):
            return f"the parts stand within {column}, so bring its fields up: jq -c .{column} FILE > NEW_FILE"
    return None


def columns_in_other_case(raw: RawRow) -> dict[str, str]:
    """The column map that makes a row whole whose columns have our names in other case (`Question`, `Answer`); empty
    where there is none."""
    known = {column.strip().casefold().replace(" ", "_"): column for column in raw.values}
    for shape in SHAPES.values():
        whole = {}
        for part in shape.needs:
            name = next((name for name in part.single_names if name.casefold() in known), None)
            if name is None:
                break
            whole[name] = known[name.casefold()]
        else:
            if shape.name != "text":
                return {name: column for name, column in whole.items() if name != column}
    return {}


def _shape_by_format(form: Extension) -> Shape:
    """The shape that a format from outside makes of a row: what it returns is read as a row of a known shape."""

    def read(row: Row, instruction: str | None) -> Reading:
        try:
            values = form.made(row.raw.values)
        except Exception as error:
            place = line_of(error, form.made)
            told = f" ({place})" if place else ""
            problem = f"the format {form} raised {type(error).__name__}: {error}{told}"
            raise DataError(problem, got=row.present) from error
        if not isinstance(values, Mapping):
            raise DataError(f"the format {form} gave no row", got=values, expected="a mapping of columns to values")
        made = RawRow(values=values, origin=row.raw.origin)
        found = shape_of(made, columns=None, instruction=instruction)
        return found.read(Row(made, {}), instruction)

    return Shape(name=str(form), needs=(), may=(), instruction="may", read=read)


def _check_columns(row: Row) -> None:
    """Every name in `columns` must be one of ours, and every column named must be in the file."""
    known = sorted({name for shape in SHAPES.values() for name in shape.names})
    for name, mapped in row.columns.items():
        if name not in known:
            fix = None
            if any(column in known for column in listed(mapped)):
                fix = f"turn it round: columns: {{{listed(mapped)[0]}: {name}}}"
            raise DataError("no such column of a shape", where=f"columns.{name}", expected=", ".join(known), fix=fix)
        for column in listed(mapped):
            if column not in row.raw.values:
                near = difflib.get_close_matches(column, row.raw.values, n=1)
                raise DataError(
                    f"the column {column!r} (columns.{name}) is not in the file",
                    where=str(row.raw.origin),
                    got=row.present,
                    fix=f"columns: {{{name}: {near[0]}}}" if near else None,
                )


def _read_messages(row: Row, instruction: str | None) -> Reading:
    turns, learned = turns_of(row, MESSAGES)
    if turns[-1].role != "assistant":
        raise DataError(
            "the conversation does not end with an answer",
            got=turns[-1].role,
            expected="assistant",
            fix="leave out such rows, or their last turn",
        )
    system = system_turns(row)
    if system and turns[0].role == "system":
        if turns[0] != system[0]:
            raise DataError("two system texts: one of the conversation, one of the column", got=system[0].text)
        system = ()
    prompt = checked_prompt((*system, *turns[:-1]))
    return Reading(prompt=prompt, references=(turns[-1].text,), left_out=None if learned else _NOT_LEARNED)


_NOT_LEARNED = "the last answer is marked as not to be learned"


def _read_question(row: Row, instruction: str | None) -> Reading:
    context, question = row.optional_text(CONTEXT), row.text(QUESTION)
    return _answered(row, ANSWER, asked(row, instruction or "", context, question))


def _read_instruction(row: Row, instruction: str | None) -> Reading:
    return _answered(row, OUTPUT, asked(row, row.text(INSTRUCTION), row.optional_text(INPUT)))


def _read_input_output(row: Row, instruction: str | None) -> Reading:
    return _answered(row, OUTPUT, asked(row, instruction or "", row.text(ONLY_INPUT)))


def _read_prompt_completion(row: Row, instruction: str | None) -> Reading:
    return _replied(row, PROMPT, COMPLETION, instruction)


def _read_prompt_response(row: Row, instruction: str | None) -> Reading:
    return _replied(row, ASKED, REPLY, instruction)


def _replied(row: Row, question: Part, reply: Part, instruction: str | None) -> Reading:
    """The reading of a prompt and a reply: texts, or turns, of which those of the reply may repeat the prompt's."""
    in_turns = isinstance(row.value(question), list)
    turns = (
        (*system_turns(row), *turns_of(row, question)[0])
        if in_turns
        else asked(row, instruction or "", row.text(question))
    )
    if not isinstance(row.value(reply), list | dict):
        return Reading(prompt=checked_prompt(turns), references=(row.text(reply),))
    answer, learned = turns_of(row, reply)
    if len(answer) > len(turns) and answer[: len(turns)] == turns:
        answer = answer[len(turns) :]
    if len(answer) != 1 or answer[0].role != "assistant":
        raise DataError(f"the {reply.role} is not one turn of the assistant", got=row.value(reply))
    left_out = None if learned else _NOT_LEARNED
    return Reading(prompt=checked_prompt(turns), references=(answer[0].text,), left_out=left_out)


def _read_text_label(row: Row, instruction: str | None) -> Reading:
    label = row.text(LABEL)
    return Reading(prompt=asked(row, instruction or "", row.text(TEXT)), references=(label,), label=label)


def _read_text(row: Row, instruction: str | None) -> Reading:
    return Reading(prompt=(), references=(row.text(PLAIN),))


def _answered(row: Row, part: Part, prompt: tuple[Turn, ...]) -> Reading:
    """The reading of a row whose answer may be a list of texts, or one of the row's choices or the place of one."""
    options = _options(row)
    texts = _texts(row, part)
    if not texts:
        return Reading(prompt=prompt, references=(), left_out="the question has no answer")
    if options is None:
        return Reading(prompt=prompt, references=texts)
    found = row.find(part)
    assert found is not None, "the answer was read"
    answers = [chosen(text, options, name=found[0], column=found[1][0]) for text in texts]
    return Reading(
        prompt=prompt,
        references=tuple(dict.fromkeys(answer.text for answer in answers)),
        choices=options.texts,
        chosen=answers[0],
    )


def _texts(row: Row, part: Part) -> tuple[str, ...]:
    """One text, or a list of texts of which none is empty; none at all where a list of answers is empty.

    A text that looks like a JSON list stays a text: an answer may well be `["a", "b"]`. Only a column that is
    called `answers` holds lists by its name, so there a cell of a table is read as one.
    """
    value = row.value(part)
    if row.is_listed(part):
        value = parsed_cell(value, part.role)
        if isinstance(value, Mapping):  # SQuAD: {"text": […], "answer_start": […]}
            for name in value:
                if name not in ("text", "answer_start"):
                    row.beside[f"{part.role}.{name}"] = None
            value = value.get("text")
        if isinstance(value, list) and not value:
            return ()
    if isinstance(value, list):
        texts = tuple(text_of(each, part.role) for each in value)
        if not texts or not all(text.strip() for text in texts):
            raise DataError(f"the {part.role} is empty", got=value, expected="at least one text")
        return tuple(dict.fromkeys(texts))
    if row.is_listed(part) and isinstance(value, str) and value.strip():
        return (value,)
    return (row.text(part),)


def _options(row: Row) -> Options | None:
    """The row's choices: of a column of their own, or of columns such as A, B, C, D."""
    found = row.find(CHOICES)
    if found is not None and len(found[1]) > 1:
        columns: tuple[str, ...] = found[1]
    else:
        value = parsed_cell(row.value(CHOICES), "choices")
        if value is not None:
            return options_of(value)
        columns = row.layout.options
    if not columns:
        return None
    row.used.update(columns)
    filled = {column: row.raw.values[column] for column in columns if is_filled(row.raw.values[column])}
    return options_of(list(filled.values()), columns=tuple(filled))


_EARLIER = (SYSTEM, HISTORY)
SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape(
            name="messages",
            needs=(MESSAGES,),
            may=(SYSTEM,),
            instruction="none",
            read=_read_messages,
            label_marks=True,
        ),
        Shape(
            name="question",
            needs=(QUESTION, ANSWER),
            may=(CONTEXT, CHOICES, *_EARLIER),
            instruction="may",
            read=_read_question,
        ),
        Shape(
            name="instruction",
            needs=(INSTRUCTION, OUTPUT),
            may=(INPUT, CHOICES, *_EARLIER),
            instruction="none",
            read=_read_instruction,
        ),
        Shape(
            name="prompt_completion",
            needs=(PROMPT, COMPLETION),
            may=_EARLIER,
            instruction="none",
            read=_read_prompt_completion,
            label_marks=True,
        ),
        Shape(name="text_label", needs=(TEXT, LABEL), may=_EARLIER, instruction="needed", read=_read_text_label),
        Shape(
            name="input_output",
            needs=(ONLY_INPUT, OUTPUT),
            may=(CHOICES, *_EARLIER),
            instruction="needed",
            read=_read_input_output,
        ),
        Shape(
            name="prompt_response",
            needs=(ASKED, REPLY),
            may=_EARLIER,
            instruction="may",
            read=_read_prompt_response,
            label_marks=True,
        ),
        Shape(name="text", needs=(PLAIN,), may=(), instruction="none", read=_read_text),
    )
}
