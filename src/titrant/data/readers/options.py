"""Choices of a question as public sets write them, and which of them an answer is: by its text, or by its place."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from titrant.core.errors import DataError
from titrant.data.readers.cells import text_of

_PREFIXES = ("", "option", "option_", "Option ", "choice", "choice_", "op", "ending", "answer", "sol")
_SUFFIXES = (string.ascii_uppercase, string.ascii_lowercase, "123456789", "0123456789")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The choices of a row. `labels` are what the row calls them, None where they have no names but their places."""

    texts: tuple[str, ...]
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The right choice, and by what the answer named it: None where that cannot or need not be known. `column` is the
    answer's, and `number` its place where that was read as a number from 0 and nobody has said so."""

    text: str
    by: Literal["text", "place"] | None
    column: str
    number: int | None = None


def option_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """The columns that hold one choice each: A, B, C, D, or option_a …, choice1 …; none where there are none.

    >>> option_columns(["question", "A", "B", "C", "answer"]), option_columns(["question", "A"])
    (('A', 'B', 'C'), ())
    """
    for prefix in _PREFIXES:
        for suffixes in _SUFFIXES[: 1 if not prefix else None]:
            run = []
            for suffix in suffixes:
                if prefix + suffix not in columns:
                    break
                run.append(prefix + suffix)
            if len(run) > 1:
                return tuple(run)
    return ()


def options_of(value: Any, *, columns: Sequence[str] = ()) -> Options:
    """The choices that a value holds: a list of texts, `{"text": […], "label": […]}`, a list of such objects, or texts
    by their labels. `columns` are the names of the columns that the list was gathered from."""
    labels: Any = None
    texts: Any = value
    if isinstance(value, Mapping):
        texts, labels = (value["text"], value.get("label")) if "text" in value else (list(value.values()), list(value))
    elif isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
        texts = [each.get("text") for each in value]
        named = [each.get("label", each.get("key")) for each in value]
        labels = named if all(isinstance(name, str) for name in named) else None
    elif columns and option_columns(columns) == tuple(columns):
        labels = [name[-1] for name in columns]
    if not isinstance(texts, list):
        raise DataError(
            "the choices are not a list", got=value, expected='["one", "another"]', fix="columns: {choices: [A, B, C]}"
        )
    choices = tuple(text_of(choice, "choices") for choice in texts)
    if len(choices) < 2 or not all(choice.strip() for choice in choices) or len(set(choices)) < len(choices):
        raise DataError("the choices are not two or more different texts", got=value)
    if labels is not None and (not isinstance(labels, list) or len(labels) != len(choices)):
        raise DataError("the choices have not as many labels as texts", got=value)
    return Options(texts=choices, labels=None if labels is None else tuple(text_of(name, "label") for name in labels))


def chosen(answer: str, options: Options, *, name: str, column: str) -> Chosen:
    """Which choice an answer is. `name` is ours for its column: some say how the choice is named.

    `DataError` where the answer is the text of one choice and the place of another: that only its owner knows.
    """
    if name == "answer_text":
        return Chosen(text=answer, by="text", column=column)
    if name in _PLACES:
        place = _PLACES[name](answer, options)
        if place is None:
            raise _points_nowhere(answer, options, column)
        return Chosen(text=options.texts[place], by="place", column=column)
    by_text = options.texts.index(answer) if answer in options.texts else None
    place = _labelled(answer, options)
    if by_text is not None and place is not None and by_text != place:
        raise DataError(
            "the answer is the text of one choice and the place of another",
            got=f"{answer!r} among {', '.join(options.texts)}",
            expected="one or the other",
            fix=f"say which it is: {_ways_to_say(column)}",
        )
    if by_text is not None:
        return Chosen(text=answer, by=None if place is not None else "text", column=column)
    if place is not None:
        number = place if options.labels is None and _whole(answer) is not None else None
        return Chosen(text=options.texts[place], by="place", column=column, number=number)
    if (len(answer.strip()) == 1 and answer.strip() in string.ascii_uppercase) or _whole(answer) is not None:
        raise _points_nowhere(answer, options, column)
    return Chosen(text=answer, by=None, column=column)


class AnswersOfFile:
    """How the answers of one file name their choices: all by their texts, or all by their places."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._numbers = 0
        self._begins_at_0 = False
        self._column = ""

    def check(self, answer: Chosen | None, where: str) -> None:
        """`DataError` where a row names its choice otherwise than a row before. A wrong answer that happens to be the
        number of a choice would else pass for its place."""
        if answer is None or answer.by is None:
            return
        self._first.setdefault(answer.by, where)
        if len(self._first) > 1:
            other = next(place for by, place in self._first.items() if by != answer.by)
            raise DataError(
                f"answers are the text of a choice in some rows and the place of one in others (as in {other})",
                got=answer.text,
                expected="one or the other in the whole file",
                fix=f"say which it is: {_ways_to_say(answer.column)}",
            )
        if answer.number is not None:
            self._numbers += 1
            self._column = answer.column
            self._begins_at_0 |= answer.number == 0

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the numbers leave open. An answer that is the number of choices is refused, so where none is 0 either,
        they may as well count from 1."""
        if not self._numbers or self._begins_at_0:
            return ()
        return (
            f"answers in {self._column} are places that count from 0, though none of {self._numbers:,} is 0: "
            f"if they count from 1, columns: {{answer_number: {self._column}}}",
        )


def _ways_to_say(column: str) -> str:
    from_0, from_1 = f"{{answer_index: {column}}} (from 0)", f"{{answer_number: {column}}} (from 1)"
    return f"columns: {{answer_text: {column}}}, {from_0}, {from_1} or {{answer_letter: {column}}}"


def _labelled(answer: str, options: Options) -> int | None:
    """The place of the choice that the row calls so; without names, the number from 0 or the letter from A."""
    if options.labels is not None:
        names = [label.casefold() for label in options.labels]
        return names.index(answer.strip().casefold()) if answer.strip().casefold() in names else None
    index = _from(0)(answer, options)
    return index if index is not None else _lettered(answer, options)


def _whole(text: str) -> int | None:
    stripped = text.strip()
    return int(stripped) if stripped.isascii() and stripped.isdigit() and len(stripped) < 10 else None


def _from(first: int) -> Any:
    def place(answer: str, options: Options) -> int | None:
        number = _whole(answer)
        return number - first if number is not None and 0 <= number - first < len(options.texts) else None

    return place


def _lettered(answer: str, options: Options) -> int | None:
    letter = answer.strip().upper()
    place = string.ascii_uppercase.find(letter) if len(letter) == 1 else -1
    return place if 0 <= place < len(options.texts) else None


_PLACES = {"answer_index": _from(0), "answer_number": _from(1), "answer_letter": _lettered}


def _points_nowhere(answer: str, options: Options, column: str) -> DataError:
    names = ", ".join(options.labels) if options.labels else f"0 to {len(options.texts) - 1}, or a letter"
    return DataError(
        "the answer is none of the row's choices, nor the place of one",
        got=answer,
        expected=f"one of {', '.join(options.texts)}, or its place ({names})",
        fix=f"where places are counted from 1: columns: {{answer_number: {column}}}; "
        f"where it is a text: columns: {{answer_text: {column}}}",
    )
