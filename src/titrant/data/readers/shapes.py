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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from titrant.core.errors import DataError, RowsRefused
from titrant.core.plugins import Extension, line_of
from titrant.core.records import RawRow, Role, Turn
from titrant.data.readers.cells import is_filled, parsed_cell, text_of
from titrant.data.readers.marks import is_learned, refuse_part_weight
from titrant.data.readers.options import Options, chosen, option_columns, options_beside, options_of, wrong_columns
from titrant.data.readers.part_names import ASKED, RIGHT_CHOICE, TEXT_PAIRS, WRONG_CHOICES

JOIN = "\n\n"
ColumnMap = Mapping[str, str | Sequence[str]]
_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "ai": "assistant",
}


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Part:
    """One part of a row: the name that a study's `columns` gives it, and the names it has in files, best first.

    Several columns in one name are one text: `("premise", "hypothesis")`.
    """

    role: str
    names: tuple[str | tuple[str, ...], ...]

    @property
    def single_names(self) -> tuple[str, ...]:
        """The names of one column, which are those that `columns` may map."""
        return tuple(dict.fromkeys((self.role, *(name for name in self.names if isinstance(name, str)))))


def _part(role: str, *others: str | tuple[str, ...]) -> Part:
    return Part(role=role, names=(role, *others))


_BY_PLACE = ("answer_text", "answer_index", "answer_number", "answer_letter")
ID, ROW_ID, LABEL = _part("id"), _part("row_id"), _part("label")
TASK, GROUP, METADATA = _part("task"), _part("group"), _part("metadata")
_MESSAGES = _part("messages", "conversations")
_SYSTEM = _part("system", "system_prompt")
_HISTORY = _part("history")
_QUESTION = Part(role="question", names=(("premise", "question"), "question", "question_stem"))
_ANSWER = _part("answer", "answers", "answerKey", "answer_key", "answer_idx", *_BY_PLACE)
_CONTEXT = _part("context", "passage", "article")
_CHOICES = _part("choices", "options", "endings", *WRONG_CHOICES)
_ASKED = Part(role="question", names=ASKED)
_SUPPORT = _part("context", "passage", "article", "support")
_RIGHT = _part(*RIGHT_CHOICE, *_BY_PLACE)
_INSTRUCTION = _part("instruction")
_INPUT = _part("input", "context")
_ONLY_INPUT = _part("input")
_OUTPUT = _part("output", "response", *_BY_PLACE)
_PROMPT = _part("prompt")
_COMPLETION = _part("completion", "response")
_PLAIN = _part("text")
_TEXT = Part(
    role="text",
    # Two texts go before one: a label of a pair is not to be learned from half of it.
    names=(
        *TEXT_PAIRS,
        "text",
        "body",
        "sentence",
        "content",
    ),
)
_MARKS = (_part("weight"), _part("train"), _part("loss"), _part("kto_tag"))
"""Columns, and fields of a turn, that say of an answer whether it is learned."""
_COMMON = (ID, ROW_ID, LABEL, TASK, GROUP, METADATA, _part("source"), *_MARKS)
_BEYOND_TEXT = {
    "image": "images",
    "images": "images",
    "video": "videos",
    "videos": "videos",
    "audio": "audio",
    "audios": "audio",
    "tools": "tools",
    "functions": "tools",
    "tool_calls": "tools",
    "function_call": "tools",
}
"""Columns, and fields of a turn, without which the answer is not to be understood, and which no text model is shown."""
_PART_TYPES = ("text", "input_text", "output_text")
_TURN_FIELDS = ("role", "from", "content", "value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """A row's answer as it stands, the column that holds it, and the choices that it is one of."""

    answer: str
    column: str
    options: Options


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One row, understood: the prompt's turns (none for plain text), right answers, and what else it says.

    `unread` are the columns and fields that hold something and were not read; `left_out` says why the row is no
    example (nothing in it is to be learned), and `answered_by` whether its answer is a choice's text or its place;
    `numbered` is the answer where it is a place and the study does not say how places are counted.
    """

    prompt: tuple[Turn, ...]
    references: tuple[str, ...]
    choices: tuple[str, ...] | None = None
    label: str | None = None
    left_out: str | None = None
    answered_by: str | None = None
    numbered: Offered | None = None
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A layout: the parts that it needs, those that it may have, and how a row becomes a `Reading`.

    `instruction` says whether the study's instruction is needed, may stand before the prompt, or has no place.
    """

    name: str
    needs: tuple[Part, ...]
    may: tuple[Part, ...]
    instruction: str
    read: Callable[[Row, str | None], Reading]

    @property
    def names(self) -> frozenset[str]:
        """Every name that `columns` may map in this layout."""
        return frozenset(name for part in (*self.needs, *self.may, *_COMMON) for name in part.single_names)


Found = tuple[str, tuple[str, ...]]
"""The name under which rows have a part, and the file's columns that hold it."""
_MOST_LAYOUTS = 64


class ColumnPlaces:
    """A study's column map, and where rows of the same columns have their parts: worked out once for all of them."""

    def __init__(self, said: ColumnMap) -> None:
        self.said = said
        self.taken = {column for mapped in said.values() for column in _listed(mapped)}
        self._layouts: dict[tuple[str, ...], _Layout] = {}

    def layout(self, names: tuple[str, ...]) -> _Layout:
        """What is known of rows with these columns."""
        known = self._layouts.get(names)
        if known is None:
            if len(self._layouts) == _MOST_LAYOUTS:  # rows of JSON may each have columns of their own
                self._layouts.clear()
            known = self._layouts[names] = _Layout(self, names)
        return known


class _Layout:
    """Rows that have the same columns."""

    def __init__(self, columns: ColumnPlaces, names: tuple[str, ...]) -> None:
        self._columns, self._names = columns, names
        self._found: dict[Part, tuple[Found, ...]] = {}
        self._families = (("choices", option_columns(names)), ("distractors", wrong_columns(names)))
        self.beyond_text = tuple(name for name in names if name in _BEYOND_TEXT and name not in columns.taken)

    def found(self, part: Part) -> tuple[Found, ...]:
        """Every way in which these rows may have the part, best first; where the study names columns, these alone."""
        known = self._found.get(part)
        if known is None:
            known = self._found[part] = tuple(self._ways(part))
        return known

    def _ways(self, part: Part) -> Iterator[Found]:
        said, taken = self._columns.said, self._columns.taken
        for name in part.single_names:
            if name in said:
                mapped = tuple(_listed(said[name]))
                if all(column in self._names for column in mapped):
                    yield name, mapped
                return
        for names in part.names:
            columns = (names,) if isinstance(names, str) else names
            if all(column in self._names and column not in taken for column in columns):
                yield (names if isinstance(names, str) else part.role), columns
        if part is _CHOICES:
            yield from (family for family in self._families if family[1])


class Row:
    """A raw row seen through the study's column map. `used` are the file's columns that were read so far, and
    `beside` the fields within them that were not."""

    def __init__(self, raw: RawRow, columns: ColumnMap | ColumnPlaces) -> None:
        known = columns if isinstance(columns, ColumnPlaces) else ColumnPlaces(columns)
        self.raw, self.columns = raw, known.said
        self.layout = known.layout(tuple(raw.values))
        self.used: set[str] = set()
        self.beside: dict[str, None] = {}

    def find(self, part: Part) -> Found | None:
        """The name under which the row has the part, and the file's columns: a mapped name, else the first that holds
        something, else the first that is there. Sets that were put together hold nulls where one of them had no such
        column, so a null gives way to the next name."""
        there = self.layout.found(part)
        if len(there) < 2:
            return there[0] if there else None
        values = self.raw.values
        return next((found for found in there if all(is_filled(values[column]) for column in found[1])), there[0])

    def value(self, part: Part) -> Any:
        """The value of a part; several mapped columns give a list of theirs. None when absent."""
        found = self.find(part)
        if found is None:
            return None
        self.used.update(found[1])
        values = [self.raw.values[column] for column in found[1]]
        return values[0] if len(values) == 1 and not self._is_list(found[0]) else values

    def text(self, part: Part) -> str:
        """The text of a part: never empty."""
        text = self.optional_text(part)
        if not text.strip():
            state = "is missing" if self.value(part) is None else "is empty"
            raise DataError(
                f"the {part.role} {state}", got=self.present, expected=_one_of(part), fix=_map_fix(part.role)
            )
        return text

    def optional_text(self, part: Part) -> str:
        """The text of a part, empty when there is none; of several columns each that is not empty, under its name."""
        found = self.find(part)
        if found is None:
            return ""
        self.used.update(found[1])
        texts = {
            column: text_of(value, part.role) for column in found[1] if (value := self.raw.values[column]) is not None
        }
        if len(found[1]) == 1:
            return "".join(texts.values())
        return JOIN.join(f"{column}: {text}" for column, text in texts.items() if text.strip())

    def is_listed(self, part: Part) -> bool:
        """Whether the row has the part under a name that says that it is a list (`answers`)."""
        found = self.find(part)
        return found is not None and "answers" in (found[0], *found[1])

    @property
    def present(self) -> str:
        """The columns of the row, for messages."""
        return "columns " + (", ".join(self.raw.values) or "none")

    @property
    def unread(self) -> tuple[str, ...]:
        """The columns and fields that hold something and were not read."""
        columns = (name for name, value in self.raw.values.items() if name not in self.used and is_filled(value))
        return (*columns, *self.beside)

    def _is_list(self, name: str) -> bool:
        return not isinstance(self.columns.get(name, ""), str)


def read_row(shape: Shape, row: Row, instruction: str | None) -> Reading:
    """What a row says in a layout, and what of it was not read. `DataError` for a row with a fault, `RowsRefused` for
    what a whole file tends to have."""
    for column in row.layout.beyond_text:
        if _says_something(row.raw.values[column]):
            raise _beyond_text(_BEYOND_TEXT[column], column)
    reading = shape.read(row, instruction)
    for part in (ID, ROW_ID, TASK, GROUP, LABEL, METADATA):
        if part in (ID, ROW_ID) or part.role in row.columns:
            row.value(part)
    for mark in _MARKS:
        found = row.find(mark)
        if found is None or set(found[1]) & row.used:
            continue
        learned = is_learned(row.raw.values[found[1][0]], mark.role)
        if learned is not None:  # a column of that name with other values, a weight in kilograms, is no mark
            row.used.update(found[1])
        if learned is False:
            reading = replace(reading, left_out=f"{found[1][0]} says that the answer is not to be learned")
    unread = row.unread
    return replace(reading, unread=unread) if unread else reading


def shape_of(raw: RawRow, *, columns: ColumnMap | None, instruction: str | None, shape: str | None = None) -> Shape:
    """The shape of a file, from its first row; `DataError` names the columns present and how to map them.

    `shape` is the name of one that is forced, or a format from outside.
    """
    if isinstance(shape, Extension):
        return _shape_by_format(shape)
    row = Row(raw, columns or {})
    _check_columns(row)
    if shape is not None:
        if shape not in SHAPES:
            raise DataError("no such shape", where="shape", got=shape, expected=", ".join(SHAPES))
        candidates = [SHAPES[shape]]
    else:
        mapped = set(row.columns) - {part.role for part in _COMMON}
        candidates = [each for each in SHAPES.values() if mapped <= each.names]
    # In the order of the table: where several layouts fit, the first one wins.
    fitting = [each for each in candidates if all(row.find(part) is not None for part in each.needs)]
    # Sets that were put together have each other's columns, full of nulls: the layout is that of the filled ones.
    # A labelled row whose label is empty is no plain text.
    filled = [
        each for each in fitting if all(is_filled(row.value(part)) for part in each.needs) and each.name != "text"
    ]
    fitting = filled or fitting
    if fitting and fitting[0].name == "text" and shape is None and not row.columns:
        # A forgotten `columns: {label: …}` must not turn a labelled table into text to be continued.
        fitting = fitting if set(raw.values) <= {"text", "id", "row_id"} else []
    if not fitting:
        raise DataError(
            "the columns are of no known shape" if shape is None else f"the columns are not of the shape {shape}",
            where=str(raw.origin),
            got=row.present,
            expected=" | ".join("+".join(part.role for part in each.needs) for each in candidates or SHAPES.values()),
            fix="say which is which in the study: columns: {text: body, label: team}, or {text: body} for plain text",
        )
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
            if any(column in known for column in _listed(mapped)):
                fix = f"turn it round: columns: {{{_listed(mapped)[0]}: {name}}}"
            raise DataError("no such column of a shape", where=f"columns.{name}", expected=", ".join(known), fix=fix)
        for column in _listed(mapped):
            if column not in row.raw.values:
                near = difflib.get_close_matches(column, row.raw.values, n=1)
                raise DataError(
                    f"the column {column!r} (columns.{name}) is not in the file",
                    where=str(row.raw.origin),
                    got=row.present,
                    fix=f"columns: {{{name}: {near[0]}}}" if near else None,
                )


def _read_messages(row: Row, instruction: str | None) -> Reading:
    turns, learned = _turns(row, _MESSAGES)
    if turns[-1].role != "assistant":
        raise DataError("the conversation does not end with an answer", got=turns[-1].role, expected="assistant")
    system = _system(row)
    if system and turns[0].role == "system":
        if turns[0] != system[0]:
            raise DataError("two system texts: one of the conversation, one of the column", got=system[0].text)
        system = ()
    prompt = _checked_prompt((*system, *turns[:-1]))
    return Reading(prompt=prompt, references=(turns[-1].text,), left_out=None if learned else _NOT_LEARNED)


_NOT_LEARNED = "the last answer is marked as not to be learned"


def _read_question(row: Row, instruction: str | None) -> Reading:
    context, question = row.optional_text(_CONTEXT), row.text(_QUESTION)
    return _answered(row, _ANSWER, _asked(row, instruction or "", context, question))


def _read_choice(row: Row, instruction: str | None) -> Reading:
    return _answered(row, _RIGHT, _asked(row, instruction or "", row.optional_text(_SUPPORT), row.text(_ASKED)))


def _read_instruction(row: Row, instruction: str | None) -> Reading:
    return _answered(row, _OUTPUT, _asked(row, row.text(_INSTRUCTION), row.optional_text(_INPUT)))


def _read_input_output(row: Row, instruction: str | None) -> Reading:
    return _answered(row, _OUTPUT, _asked(row, instruction or "", row.text(_ONLY_INPUT)))


def _read_prompt_completion(row: Row, instruction: str | None) -> Reading:
    prompt, completion = row.value(_PROMPT), row.value(_COMPLETION)
    if isinstance(prompt, list) or isinstance(completion, list):
        answer, learned = _turns(row, _COMPLETION)
        if len(answer) != 1 or answer[0].role != "assistant":
            raise DataError("the completion is not one turn of the assistant", got=completion)
        turns = (*_system(row), *_turns(row, _PROMPT)[0])
        left_out = None if learned else _NOT_LEARNED
        return Reading(prompt=_checked_prompt(turns), references=(answer[0].text,), left_out=left_out)
    return Reading(prompt=_asked(row, row.text(_PROMPT)), references=(row.text(_COMPLETION),))


def _read_text_label(row: Row, instruction: str | None) -> Reading:
    label = row.text(LABEL)
    return Reading(prompt=_asked(row, instruction or "", row.text(_TEXT)), references=(label,), label=label)


def _read_text(row: Row, instruction: str | None) -> Reading:
    return Reading(prompt=(), references=(row.text(_PLAIN),))


def _answered(row: Row, part: Part, prompt: tuple[Turn, ...]) -> Reading:
    """The reading of a row whose answer may be a list of texts, or one of the row's choices or the place of one."""
    texts = _texts(row, part)
    if not texts:
        return Reading(prompt=prompt, references=(), left_out="the question has no answer")
    options = _options(row, texts)
    if options is None:
        return Reading(prompt=prompt, references=texts)
    found = row.find(part)
    assert found is not None, "the answer was read"
    answers = [chosen(text, options, name=found[0], column=found[1][0]) for text in texts]
    untold = answers[0].by == "place" and found[0] not in _BY_PLACE
    return Reading(
        prompt=prompt,
        references=tuple(dict.fromkeys(answer.text for answer in answers)),
        choices=options.texts,
        answered_by=answers[0].by,
        numbered=Offered(answer=texts[0], column=found[1][0], options=options) if untold else None,
    )


def offered(shape: Shape, row: Row) -> Offered | None:
    """What a row of choices offers; None where it has none, or the study says how its answers name them."""
    part = shape.needs[-1]
    found = row.find(part) if part in (_ANSWER, _OUTPUT, _RIGHT) else None
    if found is None or found[0] in _BY_PLACE:
        return None
    texts = _texts(row, part)
    options = _options(row, texts) if texts else None
    return Offered(answer=texts[0], column=found[1][0], options=options) if options is not None else None


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


def _options(row: Row, right: Sequence[str]) -> Options | None:
    """The row's choices: of a column of their own, of columns such as A, B, C, D, or of wrong ones and the right."""
    found = row.find(_CHOICES)
    if found is None:
        return None
    name, columns = found
    row.used.update(columns)
    filled = {column: row.raw.values[column] for column in columns if is_filled(row.raw.values[column])}
    several = len(columns) > 1
    value = list(filled.values()) if several else parsed_cell(row.value(_CHOICES), "choices")
    if value is None:
        return None
    if name in WRONG_CHOICES:
        return options_beside(value, right)
    return options_of(value, columns=tuple(filled) if several else ())


def _turns(row: Row, part: Part) -> tuple[tuple[Turn, ...], bool]:
    """The turns of a conversation, in any of the forms in use, and whether the last of them is to be learned.

    In a list of texts the user has the first word.
    """
    value = parsed_cell(row.value(part), part.role)
    if not isinstance(value, list) or not value:
        raise DataError(
            f"the {part.role} are not a list of turns", got=value, expected='[{"role": …, "content": …}, …]'
        )
    if all(isinstance(message, str) for message in value):
        value = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(value)]
    turns, learned = [], True
    for number, message in enumerate(value, start=1):
        if not isinstance(message, Mapping):
            raise DataError(f"turn {number} is not an object", got=message, expected='{"role": …, "content": …}')
        for name, content in message.items():
            if name in _BEYOND_TEXT and _says_something(content):
                raise _beyond_text(_BEYOND_TEXT[name], f"{part.role}[].{name}")
        role = _role(message.get("role", message.get("from")))
        text = _content(message.get("content", message.get("value")), number, role)
        turns.append(Turn(role=role, text=text))
        learned = all(is_learned(message.get(mark.role), mark.role) is not False for mark in _MARKS)
        if role == "assistant" and "weight" in message and number == len(value):
            refuse_part_weight(message["weight"])
        marks = {mark.role for mark in _MARKS}
        for name, content in message.items():
            if name not in _TURN_FIELDS and name not in marks and is_filled(content):
                row.beside[f"{part.role}[].{name}"] = None
    return tuple(turns), learned


def _role(role: Any) -> Role:
    known = _ROLES.get(role.strip().casefold()) if isinstance(role, str) else None
    if known is None:
        raise RowsRefused(
            f"a turn has an unknown role, {str(role)[:60]!r}",
            expected=", ".join(_ROLES),
            fix="rename the role, or leave out such rows",
        )
    return known


def _content(content: Any, number: int, role: Role) -> str:
    """The text of a turn. Of a list of parts the texts, one after the other, as chat templates write them."""
    if isinstance(content, list) and content and all(isinstance(part, Mapping) for part in content):
        for part in content:
            if part.get("type", "text") not in _PART_TYPES:
                raise _beyond_text("parts that are no text", f"a part of type {str(part.get('type'))[:60]!r}")
        content = "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    if not isinstance(content, str) or not content.strip():
        raise DataError(f"turn {number} ({role}) has no text", got=content, expected="text")
    return content


def _system(row: Row) -> tuple[Turn, ...]:
    text = row.optional_text(_SYSTEM)
    return (Turn(role="system", text=text),) if text.strip() else ()


def _history(row: Row) -> Iterator[Turn]:
    """Earlier turns: pairs of question and answer, or turns."""
    value = parsed_cell(row.value(_HISTORY), "history")
    if not is_filled(value):
        return
    if not isinstance(value, list):
        raise DataError("the history is not a list", got=value, expected='[["question", "answer"], …], or turns')
    if all(isinstance(pair, Mapping) for pair in value):
        yield from _turns(row, _HISTORY)[0]
        return
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2:
            raise DataError("the history is not pairs of question and answer", got=pair, expected='["a", "b"]')
        for role, text in zip(("user", "assistant"), pair, strict=True):
            if not text_of(text, "history").strip():
                raise DataError("a turn of the history is empty", got=pair)
            yield Turn(role=_ROLES[role], text=text_of(text, "history"))


def _asked(row: Row, *parts: str) -> tuple[Turn, ...]:
    """A prompt of one question, after the row's system text and its history where it has them."""
    question = Turn(role="user", text=JOIN.join(part for part in parts if part.strip()))
    return (*_system(row), *_history(row), question)


def _checked_prompt(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    if not turns or turns[-1].role != "user":
        raise DataError(
            "the answer follows no question", got=turns[-1].role if turns else None, expected="a user's turn"
        )
    return turns


def _says_something(value: Any) -> bool:
    return is_filled(value) and not (isinstance(value, str) and value.strip().casefold() in ("[]", "{}", "null"))


def _beyond_text(what: str, where: str) -> RowsRefused:
    return RowsRefused(
        f"rows with {what} ({where}): the answer follows from what is no text here",
        expected="text alone",
        fix=f"leave out such rows, or the {what} where the answer does not need them",
    )


def _listed(mapped: str | Sequence[str]) -> list[str]:
    return [mapped] if isinstance(mapped, str) else list(mapped)


def _one_of(part: Part) -> str:
    names = [name if isinstance(name, str) else "+".join(name) for name in part.names if name not in _BY_PLACE]
    return f"a text in column {' or '.join(names)}"


def _map_fix(name: str) -> str:
    return f"fill it, remove the row, or name the right column: columns: {{{name}: …}}"


_EARLIER = (_SYSTEM, _HISTORY)
SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape(name="messages", needs=(_MESSAGES,), may=(_SYSTEM,), instruction="none", read=_read_messages),
        Shape(
            name="question",
            needs=(_QUESTION, _ANSWER),
            may=(_CONTEXT, _CHOICES, *_EARLIER),
            instruction="may",
            read=_read_question,
        ),
        Shape(
            name="choice",
            needs=(_ASKED, _CHOICES, _RIGHT),
            may=(_SUPPORT, *_EARLIER),
            instruction="may",
            read=_read_choice,
        ),
        Shape(
            name="instruction",
            needs=(_INSTRUCTION, _OUTPUT),
            may=(_INPUT, _CHOICES, *_EARLIER),
            instruction="none",
            read=_read_instruction,
        ),
        Shape(
            name="prompt_completion",
            needs=(_PROMPT, _COMPLETION),
            may=_EARLIER,
            instruction="none",
            read=_read_prompt_completion,
        ),
        Shape(name="text_label", needs=(_TEXT, LABEL), may=_EARLIER, instruction="needed", read=_read_text_label),
        Shape(
            name="input_output",
            needs=(_ONLY_INPUT, _OUTPUT),
            may=(_CHOICES, *_EARLIER),
            instruction="needed",
            read=_read_input_output,
        ),
        Shape(name="text", needs=(_PLAIN,), may=(), instruction="none", read=_read_text),
    )
}
