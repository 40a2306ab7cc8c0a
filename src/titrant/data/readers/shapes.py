"""What the columns of a row mean: the shapes the field uses, told apart by their column names.

| shape | columns | the prompt |
| --- | --- | --- |
| messages | `messages` [{role, content}] or `conversations` [{from, value}] | all turns before the last answer |
| question | `question`, `answer` or `answers`, and maybe `context`, `choices` | context, then question |
| instruction | `instruction`, `output` or `response`, and maybe `input` or `context` | instruction, then input |
| prompt_completion | `prompt`, `completion` or `response` | the prompt |
| text_label | `text`, `label` | the study's instruction, then the text |
| input_output | `input`, `output` | the study's instruction, then the input |
| text | `text` alone | none: loss on every token |

Parts of a prompt that are not empty are joined by one blank line, and are otherwise taken as they stand. A study's
`columns: {text: body}` says that what is called `text` here is called `body` in the file. Messages may also be a list
of texts, of which the user has the first. Files whose rows are single messages are put together before (`trees`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from titrant.core.errors import DataError
from titrant.core.plugins import Extension, line_of
from titrant.core.records import RawRow, Role, Turn
from titrant.data.readers.json_rows import parse_json

JOIN = "\n\n"
ColumnMap = Mapping[str, str | Sequence[str]]
_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}
_COMMON = ("id", "group", "task", "label", "source")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One row, understood: the prompt's turns (none for plain text), right answers, and what else it says."""

    prompt: tuple[Turn, ...]
    references: tuple[str, ...]
    choices: tuple[str, ...] | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A shape: for each part that it needs the names it may have, and how a row becomes a `Reading`.

    `instruction` says whether the study's instruction is needed, may stand before the prompt, or has no place.
    """

    name: str
    needs: tuple[tuple[str, ...], ...]
    may: tuple[str, ...]
    instruction: str
    read: Callable[[Row, str | None], Reading]

    @property
    def names(self) -> frozenset[str]:
        """Every column name that the shape knows."""
        return frozenset(self.may).union(*self.needs)


class Row:
    """A raw row seen through the study's column map."""

    def __init__(self, raw: RawRow, columns: ColumnMap) -> None:
        self.raw, self.columns = raw, columns

    def column(self, names: Iterable[str]) -> str | Sequence[str] | None:
        """The file's column for the first of `names` that the row has; a mapped name wins."""
        for name in names:
            mapped = self.columns.get(name)
            if isinstance(mapped, str):
                if mapped in self.raw.values:
                    return mapped
            elif mapped is not None:
                if all(column in self.raw.values for column in mapped):
                    return mapped
            elif name in self.raw.values and (not self.columns or name not in self._taken()):
                return name
        return None

    def _taken(self) -> set[str]:
        return {column for mapped in self.columns.values() for column in _listed(mapped)}

    def value(self, *names: str) -> Any:
        """The value under the first of `names`; several mapped columns give a list of theirs. None when absent."""
        column = self.column(names)
        if column is None:
            return None
        if isinstance(column, str):
            return self.raw.values[column]
        return [self.raw.values[part] for part in column]

    def text(self, *names: str) -> str:
        """The text under the first of `names`: never empty."""
        text = self.optional_text(*names)
        if not text.strip():
            state = "is missing" if self.value(*names) is None else "is empty"
            raise DataError(
                f"the {names[0]} {state}", got=self.present, expected=_one_of(names), fix=_map_fix(names[0])
            )
        return text

    def optional_text(self, *names: str) -> str:
        """The text under the first of `names`, empty when there is none."""
        value = self.value(*names)
        return "" if value is None else _text(value, names[0])

    def texts(self, *names: str) -> tuple[str, ...]:
        """One text, or a list of texts; at least one and none empty.

        A text that looks like a JSON list stays a text: an answer may well be `["a", "b"]`. Only a column that is
        called `answers` holds lists by its name, so there a cell of a table is read as one.
        """
        value = self.value(*names)
        if self.column(names) == "answers":
            value = _parsed_cell(value)
        if not isinstance(value, list):
            return (self.text(*names),)
        texts = tuple(_text(part, names[0]) for part in value)
        if not texts or not all(text.strip() for text in texts):
            raise DataError(f"the {names[0]} is empty", got=value, expected="at least one text")
        return tuple(dict.fromkeys(texts))

    @property
    def present(self) -> str:
        """The columns of the row, for messages."""
        return "columns " + (", ".join(self.raw.values) or "none")


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
        mapped = set(row.columns) - set(_COMMON)
        candidates = [each for each in SHAPES.values() if mapped <= each.names]
    fitting = [each for each in candidates if all(row.column(names) is not None for names in each.needs)]
    if fitting and fitting[0].name == "text" and shape is None and not row.columns:
        # A forgotten `columns: {label: …}` must not turn a labelled table into text to be continued.
        fitting = fitting if set(raw.values) <= {"text", "id", "row_id"} else []
    if not fitting:
        raise DataError(
            "the columns are of no known shape" if shape is None else f"the columns are not of the shape {shape}",
            where=str(raw.origin),
            got=row.present,
            expected=" | ".join("+".join(names[0] for names in each.needs) for each in candidates or SHAPES.values()),
            fix="say which is which in the study: columns: {text: body, label: team}, or {text: body} for plain text",
        )
    found = fitting[0]
    if found.instruction == "needed" and not (instruction or "").strip():
        raise DataError(
            f"rows of {' and '.join(names[0] for names in found.needs)} do not say what is asked",
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
    known = sorted({name for shape in SHAPES.values() for name in shape.names} | set(_COMMON))
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
    turns = _turns(row.value("messages", "conversations"), "messages")
    if turns[-1].role != "assistant":
        raise DataError("the conversation does not end with an answer", got=turns[-1].role, expected="assistant")
    return Reading(prompt=_checked_prompt(turns[:-1]), references=(turns[-1].text,))


def _read_question(row: Row, instruction: str | None) -> Reading:
    prompt = _joined(instruction or "", row.optional_text("context"), row.text("question"))
    return Reading(prompt=prompt, references=row.texts("answer", "answers"), choices=_choices(row))


def _read_instruction(row: Row, instruction: str | None) -> Reading:
    prompt = _joined(row.text("instruction"), row.optional_text("input", "context"))
    return Reading(prompt=prompt, references=row.texts("output", "response"), choices=_choices(row))


def _read_prompt_completion(row: Row, instruction: str | None) -> Reading:
    prompt, completion = row.value("prompt"), row.value("completion", "response")
    if isinstance(prompt, list) or isinstance(completion, list):
        answer = _turns(completion, "completion")
        if len(answer) != 1 or answer[0].role != "assistant":
            raise DataError("the completion is not one turn of the assistant", got=completion)
        return Reading(prompt=_checked_prompt(_turns(prompt, "prompt")), references=(answer[0].text,))
    return Reading(prompt=_joined(row.text("prompt")), references=(row.text("completion", "response"),))


def _read_text_label(row: Row, instruction: str | None) -> Reading:
    label = row.text("label")
    return Reading(prompt=_joined(instruction or "", row.text("text")), references=(label,), label=label)


def _read_input_output(row: Row, instruction: str | None) -> Reading:
    prompt = _joined(instruction or "", row.text("input"))
    return Reading(prompt=prompt, references=row.texts("output"), choices=_choices(row))


def _read_text(row: Row, instruction: str | None) -> Reading:
    return Reading(prompt=(), references=(row.text("text"),))


def _choices(row: Row) -> tuple[str, ...] | None:
    value = _parsed_cell(row.value("choices"))
    if value is None:
        return None
    if not isinstance(value, list):
        raise DataError(
            "the choices are not a list", got=value, expected='["one", "another"]', fix="columns: {choices: [A, B, C]}"
        )
    choices = tuple(_text(choice, "choices") for choice in value)
    if len(choices) < 2 or not all(choice.strip() for choice in choices) or len(set(choices)) < len(choices):
        raise DataError("the choices are not two or more different texts", got=value)
    return choices


def _turns(value: Any, name: str) -> tuple[Turn, ...]:
    """The turns of a conversation, in any of the three forms in use; in a list of texts the user has the first word."""
    value = _parsed_cell(value)
    if not isinstance(value, list) or not value:
        raise DataError(f"the {name} are not a list of turns", got=value, expected='[{"role": …, "content": …}, …]')
    if all(isinstance(message, str) for message in value):
        value = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(value)]
    turns = []
    for number, message in enumerate(value, start=1):
        if not isinstance(message, Mapping):
            raise DataError(f"turn {number} is not an object", got=message, expected='{"role": …, "content": …}')
        role = message.get("role", message.get("from"))
        content = message.get("content", message.get("value"))
        if not isinstance(role, str) or role not in _ROLES:
            raise DataError(f"turn {number} has an unknown role", got=role, expected=", ".join(_ROLES))
        if not isinstance(content, str) or not content.strip():
            raise DataError(f"turn {number} ({role}) has no text", got=content, expected="text")
        turns.append(Turn(role=_ROLES[role], text=content))
    return tuple(turns)


def _checked_prompt(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    if not turns or turns[-1].role != "user":
        raise DataError(
            "the answer follows no question", got=turns[-1].role if turns else None, expected="a user's turn"
        )
    return turns


def _joined(*parts: str) -> tuple[Turn, ...]:
    return (Turn(role="user", text=JOIN.join(part for part in parts if part.strip())),)


def _parsed_cell(value: Any) -> Any:
    """A cell of a table that holds a JSON list, as that list; everything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            parsed = parse_json(value)
        except DataError:
            return value
        return parsed if isinstance(parsed, list) else value
    return value


def _text(value: Any, name: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    kind = {type(None): "null", list: "a list", dict: "an object"}.get(type(value), type(value).__name__)
    raise DataError(f"the {name} is {kind}", got=value, expected="text or a number")


def _listed(mapped: str | Sequence[str]) -> list[str]:
    return [mapped] if isinstance(mapped, str) else list(mapped)


def _one_of(names: Sequence[str]) -> str:
    return f"a text in column {' or '.join(names)}"


def _map_fix(name: str) -> str:
    return f"fill it, remove the row, or name the right column: columns: {{{name}: …}}"


SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape(name="messages", needs=(("messages", "conversations"),), may=(), instruction="none", read=_read_messages),
        Shape(
            name="question",
            needs=(("question",), ("answer", "answers")),
            may=("context", "choices"),
            instruction="may",
            read=_read_question,
        ),
        Shape(
            name="instruction",
            needs=(("instruction",), ("output", "response")),
            may=("input", "context", "choices"),
            instruction="none",
            read=_read_instruction,
        ),
        Shape(
            name="prompt_completion",
            needs=(("prompt",), ("completion", "response")),
            may=(),
            instruction="none",
            read=_read_prompt_completion,
        ),
        Shape(name="text_label", needs=(("text",), ("label",)), may=(), instruction="needed", read=_read_text_label),
        Shape(
            name="input_output",
            needs=(("input",), ("output",)),
            may=("choices",),
            instruction="needed",
            read=_read_input_output,
        ),
        Shape(name="text", needs=(("text",),), may=(), instruction="none", read=_read_text),
    )
}
