"""The turns of a conversation, in the forms in use: lists of messages, pairs of texts, content in parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from titrant.core.errors import DataError
from titrant.core.records import Role, Turn
from titrant.data.readers.cells import is_filled, parsed_cell, text_of
from titrant.data.readers.columns import Row
from titrant.data.readers.parts import BEYOND_TEXT, HISTORY, JOIN, MARKS, SYSTEM, Part

ROLES: dict[str, Role] = {
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
_PART_TYPES = ("text", "input_text", "output_text")
ROLE_FIELDS = ("role", "from")
"""The fields of a message that say who speaks."""
_TEXT_FIELDS = ("content", "value", "parts", "text")
_MARK_FIELDS = tuple(mark.role for mark in MARKS)


def turns_of(row: Row, part: Part) -> tuple[tuple[Turn, ...], bool]:
    """The turns of a conversation, in any of the forms in use, and whether the last of them is to be learned.

    In a list of texts the user has the first word.
    """
    value = parsed_cell(row.value(part), part.role)
    if isinstance(value, Mapping):  # one turn alone
        value = [value]
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
            if name in BEYOND_TEXT and says_something(content):
                raise beyond_text(BEYOND_TEXT[name], f"{part.role}[].{name}")
        turn, read = _turn(row, message, number, place=f"{part.role}[]")
        turns.append(turn)
        learned = all(is_learned(message.get(mark), mark) is not False for mark in _MARK_FIELDS)
        if turn.role == "assistant" and "weight" in message and number == len(value):
            _refuse_part_weight(message["weight"])
        for name, content in message.items():
            if name not in read and name not in _MARK_FIELDS and is_filled(content):
                row.beside[f"{part.role}[].{name}"] = None
    return tuple(turns), learned


def _turn(row: Row, message: Mapping[str, Any], number: int, *, place: str) -> tuple[Turn, tuple[str, str]]:
    """A message as a turn, and the two fields that it was read from."""
    role_field, text_field = _filled(message, ROLE_FIELDS), _filled(message, _TEXT_FIELDS)
    if message.get(role_field) is None:
        raise DataError(
            "a turn has no role",
            got=", ".join(message),
            expected=" or ".join(ROLE_FIELDS),
            fix='write its fields as {"role": "user", "content": "…"}',
        )
    role = _role(message[role_field])
    text = _content(row, message.get(text_field), place=f"{place}.{text_field}")
    if not text.strip():
        got = ", ".join(message) if message.get(text_field) is None else message[text_field]
        raise DataError(f"turn {number} ({role}) has no text", got=got, expected=f"text in {' or '.join(_TEXT_FIELDS)}")
    return Turn(role=role, text=text), (role_field, text_field)


def _filled(message: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """The first of these fields that holds something, as messages of sets that were put together have nulls; else the
    first."""
    return next((name for name in names if is_filled(message.get(name))), names[0])


def _role(role: Any) -> Role:
    known = ROLES.get(role.strip().casefold()) if isinstance(role, str) else None
    if known is None:
        raise DataError(
            f"a turn has an unknown role, {str(role)[:60]!r}",
            expected=", ".join(ROLES),
            fix="rename the role, or leave out such rows",
        )
    return known


def _content(row: Row, content: Any, *, place: str) -> str:
    """The text of a turn, maybe blank. Of a list of parts (texts, or objects with a text) the texts, one after the
    other, as chat templates write them."""
    if content is None or isinstance(content, str):
        return content or ""
    parts = content if isinstance(content, list) else [content]
    return "".join(part if isinstance(part, str) else _part_text(row, part, f"{place}[]") for part in parts)


def _part_text(row: Row, part: Any, place: str) -> str:
    if not isinstance(part, Mapping):
        raise DataError("a part of a turn is neither text nor an object", got=part, expected='{"type": "text", …}')
    kind = part.get("type")
    if kind is not None and kind not in _PART_TYPES:
        raise beyond_text("parts that are no text", f"a part of type {str(kind)[:60]!r}")
    for name, value in part.items():
        if name in BEYOND_TEXT and says_something(value):
            raise beyond_text(BEYOND_TEXT[name], f"{place}.{name}")
    text = part.get("text")
    if not isinstance(text, str):  # passed over, the turn would say less than the file
        raise DataError("a part of a turn has no text", got=part, expected='{"type": "text", "text": "…"}')
    for name, value in part.items():
        if name not in ("type", "text") and is_filled(value):
            row.beside[f"{place}.{name}"] = None
    return text


def system_turns(row: Row) -> tuple[Turn, ...]:
    """The turn of the row's system column, where it has one."""
    text = row.optional_text(SYSTEM)
    return (Turn(role="system", text=text),) if text.strip() else ()


def history_turns(row: Row) -> Iterator[Turn]:
    """Earlier turns: pairs of question and answer, or turns."""
    value = parsed_cell(row.value(HISTORY), "history")
    if not is_filled(value):
        return
    if not isinstance(value, list):
        raise DataError("the history is not a list", got=value, expected='[["question", "answer"], …], or turns')
    if all(isinstance(pair, Mapping) for pair in value):
        yield from turns_of(row, HISTORY)[0]
        return
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2:
            raise DataError("the history is not pairs of question and answer", got=pair, expected='["a", "b"]')
        for role, text in zip(("user", "assistant"), pair, strict=True):
            if not text_of(text, "history").strip():
                raise DataError("a turn of the history is empty", got=pair)
            yield Turn(role=ROLES[role], text=text_of(text, "history"))


def asked(row: Row, *parts: str) -> tuple[Turn, ...]:
    """A prompt of one question, after the row's system text and its history where it has them."""
    question = Turn(role="user", text=JOIN.join(part for part in parts if part.strip()))
    return (*system_turns(row), *history_turns(row), question)


def checked_prompt(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The turns before an answer, which end with a question."""
    if not turns or turns[-1].role != "user":
        raise DataError(
            "the answer follows no question", got=turns[-1].role if turns else None, expected="a user's turn"
        )
    return turns


def is_learned(value: Any, mark: str) -> bool | None:
    """What a mark says of an answer: a weight of 1 or 0, or true or false as JSON or a table writes it; else None."""
    if isinstance(value, str) and value.strip().casefold() in ("true", "false"):
        value = value.strip().casefold() == "true"
    if isinstance(value, bool):
        return value
    return {0.0: False, 1.0: True}.get(number) if mark == "weight" and (number := _number(value)) is not None else None


def _refuse_part_weight(value: Any) -> None:
    if value is not None and _number(value) not in (0, 1):
        raise DataError(
            "an answer has a weight other than 0 and 1", got=value, expected="0 (not learned) or 1", fix="round it"
        )


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, str | int | float) else None
    except ValueError:
        return None


def says_something(value: Any) -> bool:
    """Whether a column of images or tools is filled: a table writes an empty list as text."""
    return is_filled(value) and not (isinstance(value, str) and value.strip().casefold() in ("[]", "{}", "null"))


def beyond_text(what: str, where: str) -> DataError:
    """The error for a row whose answer follows from more than text."""
    return DataError(
        f"rows with {what} ({where}): the answer follows from what is no text here",
        expected="text alone",
        fix=f"leave out such rows, or the {what} where the answer does not need them",
    )
