"""Choices of a question as public sets write them, and which of them an answer is: by its text, or by its place."""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from titrant.core.errors import DataError
from titrant.data.readers.cells import text_of

_MARKS = (string.ascii_uppercase, string.ascii_lowercase, "123456789", "0123456789")
_OPTION = re.compile(
    r"(?:opt(?:ion)?|op|choice|ending|ans(?:wer)?|sol(?:ution)?|alt(?:ernative)?|candidate|hyp(?:othesis)?)[ _-]?",
    re.IGNORECASE,
)
_WRONG = re.compile(r"(?:distractor|(?:incorrect|wrong)(?:[ _-]?(?:answer|option|choice))?)[ _-]?", re.IGNORECASE)
_MARKED = re.compile(r"[(\[]?([A-Za-z]|[0-9]{1,9})[)\]]?[.:]?|([0-9]{1,9})\.0+")
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?")
FEWEST_TO_COUNT = 30
"""Of so many answers that are numbers one would be the first place or the last, whatever they are counted from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The choices of a row. `labels` are what the row calls them, None where they have no names but their places.

    `by_columns`: the names are the ends of the columns that hold the choices (`option1`), which need not be what the
    answers count: PIQA calls `sol1` 0, WinoGrande calls `option1` 1.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...] | None = None
    by_columns: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceNumber:
    """An answer that is the number of one of so many `choices`, where nobody has said from where it counts. `read_from`
    is where the reader takes it to count from, None where it takes it for no place."""

    value: int
    choices: int
    read_from: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The right choice, and by what the answer named it: None where that cannot or need not be known. `column` is the
    answer's, and `number` what it was read from where that is a number and nobody has said how it counts."""

    text: str
    by: Literal["text", "place"] | None
    column: str
    number: ChoiceNumber | None = None


def option_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """The columns that hold one choice each: A, B, C, D, or option_a …, choice1 …; none where there are none.

    >>> option_columns(["question", "A", "B", "C", "answer"]), option_columns(["question", "A"])
    (('A', 'B', 'C'), ())
    >>> option_columns(["goal", "sol1", "sol2", "label"]), option_columns(["sentence1", "sentence2"])
    (('sol1', 'sol2'), ())
    """
    return _longest_run(columns, _OPTION, bare=True)


def wrong_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """The columns that hold one wrong choice each, beside the right one: distractor1, distractor2 ….

    >>> wrong_columns(["question", "distractor1", "distractor2", "correct_answer"])
    ('distractor1', 'distractor2')
    """
    return _longest_run(columns, _WRONG, bare=False)


def _longest_run(columns: Sequence[str], stem: re.Pattern[str], *, bare: bool) -> tuple[str, ...]:
    """The columns that are one stem and letters from A or numbers from 0 or 1, in this order. `bare`: capital letters
    may stand without a stem."""
    stems = dict.fromkeys(column[:-1] for column in columns if column and stem.fullmatch(column[:-1]))
    runs = [_run(columns, prefix, marks) for prefix in stems for marks in _MARKS]
    runs += [_run(columns, "", string.ascii_uppercase)] if bare else []
    longest = max(runs, key=len, default=())
    return longest if len(longest) > 1 else ()


def _run(columns: Sequence[str], prefix: str, marks: str) -> tuple[str, ...]:
    return tuple(itertools.takewhile(lambda column: column in columns, (prefix + mark for mark in marks)))


def options_of(value: Any, *, columns: Sequence[str] = ()) -> Options:
    """The choices that a value holds: a list of texts, `{"text": […], "label": […]}`, a list of such objects, or texts
    by their labels. `columns` are the names of the columns that the list was gathered from."""
    labels: Any = None
    texts: Any = value
    by_columns = False
    if isinstance(value, Mapping):
        texts, labels = (value["text"], value.get("label")) if "text" in value else (list(value.values()), list(value))
    elif isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
        texts = [each.get("text") for each in value]
        named = [each.get("label", each.get("key")) for each in value]
        labels = named if all(isinstance(name, str) for name in named) else None
    elif by_columns := bool(columns) and option_columns(columns) == tuple(columns):
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
    names = None if labels is None else tuple(text_of(name, "label") for name in labels)
    return Options(texts=choices, labels=names, by_columns=by_columns)


def options_beside(wrong: Any, right: Sequence[str]) -> Options:
    """The choices of a row that holds the wrong ones apart from the right one. Sorted, so that the place of a choice
    says nothing of it; they have no names."""
    if not isinstance(wrong, list):
        raise DataError("the wrong choices are not a list", got=wrong, expected='["one", "another"]')
    texts = [text_of(choice, "wrong choice") for choice in wrong]
    return replace(options_of(sorted((*texts, *right))), labels=())


def chosen(answer: str, options: Options, *, name: str, column: str) -> Chosen:
    """Which choice an answer is. `name` is ours for its column: some say how the choice is named.

    `DataError` where the answer is the text of one choice and the place of another: that only its owner knows.
    """
    if name == "answer_text":
        return Chosen(text=answer, by="text", column=column)
    if name in _PLACES:
        place = _PLACES[name](answer, options)
        if place is None:
            raise _points_nowhere(answer, options, column, name=name)
        return Chosen(text=options.texts[place], by="place", column=column)
    by_text = next((options.texts.index(text) for text in (answer, _bare(answer)) if text in options.texts), None)
    place = _labelled(answer, options)
    if by_text is not None and place is not None and by_text != place:
        raise DataError(
            "the answer is the text of one choice and the place of another",
            got=f"{answer!r} among {', '.join(options.texts)}",
            expected="one or the other",
            fix=f"say which it is: {_ways_to_say(column)}",
        )
    if by_text is not None:
        return Chosen(text=options.texts[by_text], by=None if place is not None else "text", column=column)
    if place is not None:
        number = number_of(answer, options)
        return Chosen(text=options.texts[place], by="place", column=column, number=number)
    bare = _bare(answer)
    if (len(bare) == 1 and bare in string.ascii_uppercase) or _NUMBER.fullmatch(bare):
        raise _points_nowhere(answer, options, column, name=name)
    return Chosen(text=answer, by=None, column=column)


def number_of(answer: str, options: Options) -> ChoiceNumber | None:
    """The answer where it is a number that may count from 0 or from 1. None where it is the text of a choice, or the
    row has names for its choices."""
    value = _whole(answer)
    named = options.labels is not None and not options.by_columns
    if value is None or named or answer in options.texts:
        return None
    place = _labelled(answer, options)
    return ChoiceNumber(value=value, choices=len(options.texts), read_from=None if place is None else value - place)


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """The answers of a file that are numbers of choices: how many there are, and which ends of the choices they reach.

    `first` counts the rows whose answer is 0, `last` those whose answer is the number of choices.
    """

    rows: int = 0
    first: int = 0
    last: int = 0
    read_from: int | None = None

    def add(self, number: ChoiceNumber) -> Numbers:
        """With one more answer."""
        return Numbers(
            rows=self.rows + 1,
            first=self.first + (number.value == 0),
            last=self.last + (number.value == number.choices),
            read_from=number.read_from,
        )

    @property
    def counted_from(self) -> int | None:
        """0 or 1, whichever alone fits every answer; None where both do, or neither.

        >>> Numbers(rows=9, first=3).counted_from, Numbers(rows=9, last=3).counted_from, Numbers(rows=9).counted_from
        (0, 1, None)
        """
        if (self.first > 0) == (self.last > 0):
            return None
        return 0 if self.first else 1

    def question(self, column: str) -> DataError | None:
        """What only the user can say, with the study's key for each reading: how numbers count that are too many to
        reach neither end of the choices by chance, or that reach both."""
        if self.counted_from is not None or (not self.last and self.rows < FEWEST_TO_COUNT):
            return None
        if self.last:
            seen = f"{self.first:,} of {self.rows:,} answers are 0, and {self.last:,} the number of choices"
            problem = "the numbers of the right choices are counted neither from 0 nor from 1"
        else:
            seen = f"{self.rows:,} numbers, none of them 0 and none the number of choices"
            problem = "the right choices are numbers that may be counted from 0 or from 1"
        return DataError(problem, got=f"{column}: {seen}", expected="one or the other", fix=_ways_to_count(column))

    def remark(self, column: str) -> str | None:
        """What is to be known of how a few numbers were read that may count from 0 as well as from 1."""
        if not self.rows or self.counted_from is not None or self.question(column) is not None:
            return None
        ends = "is 0" if self.read_from == 0 else "is the number of choices"
        other = 1 if self.read_from == 0 else 0
        return (
            f"answers in {column} are places that count from {self.read_from}, though none of {self.rows:,} {ends}: "
            f"if they count from {other}, columns: {{{COUNTED_FROM[other]}: {column}}}"
        )


class AnswersOfFile:
    """How the answers of one file name their choices: all by their texts, or all by their places."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._numbers, self._column = Numbers(), ""

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
            self._numbers, self._column = self._numbers.add(answer.number), answer.column

    @property
    def question(self) -> DataError | None:
        """What is to be asked of the file as a whole: from where its many numbers count."""
        return self._numbers.question(self._column)

    @property
    def remark(self) -> str | None:
        """What its few numbers leave open."""
        return self._numbers.remark(self._column)


COUNTED_FROM = ("answer_index", "answer_number")
"""The names that `columns` has for answers that count from 0, and from 1."""


def _ways_to_count(column: str) -> str:
    from_0, from_1 = (f"columns: {{{name}: {column}}} where {n} is" for n, name in enumerate(COUNTED_FROM))
    return f"say which in the study: {from_0} the first choice, or {from_1}"


def _ways_to_say(column: str) -> str:
    from_0, from_1 = f"{{answer_index: {column}}} (from 0)", f"{{answer_number: {column}}} (from 1)"
    return f"columns: {{answer_text: {column}}}, {from_0}, {from_1} or {{answer_letter: {column}}}"


def _labelled(answer: str, options: Options) -> int | None:
    """The place of the choice that the row calls so; without names, the number from 0 or the letter from A."""
    if options.labels is not None:
        names, name = [_bare(label).casefold() for label in options.labels], _bare(answer).casefold()
        return names.index(name) if name in names else None
    index = _from(0)(answer, options)
    return index if index is not None else _lettered(answer, options)


def _bare(text: str) -> str:
    """A letter or number without what is written around it, `(B)` or `c.`, and a number without the fraction of nought
    that pandas gives to whole numbers beside missing ones; any other text as it is, but for outer space.

    >>> _bare("(B)"), _bare("c."), _bare("2.0"), _bare("2.5"), _bare(" oak ")
    ('B', 'c', '2', '2.5', 'oak')
    """
    stripped = text.strip()
    marked = _MARKED.fullmatch(stripped)
    return (marked[1] or marked[2]) if marked else stripped


def _whole(text: str) -> int | None:
    bare = _bare(text)
    return int(bare) if bare.isascii() and bare.isdigit() and len(bare) < 10 else None


def _from(first: int) -> Any:
    def place(answer: str, options: Options) -> int | None:
        number = _whole(answer)
        return number - first if number is not None and 0 <= number - first < len(options.texts) else None

    return place


def _lettered(answer: str, options: Options) -> int | None:
    letter = _bare(answer).upper()
    place = string.ascii_uppercase.find(letter) if len(letter) == 1 else -1
    return place if 0 <= place < len(options.texts) else None


_PLACES = {"answer_index": _from(0), "answer_number": _from(1), "answer_letter": _lettered}


def _points_nowhere(answer: str, options: Options, column: str, *, name: str) -> DataError:
    ways = {
        "answer_index": "the first choice is 0",
        "answer_number": "the first choice is 1",
        "answer_text": "it is a text",
    }
    said = [f"where {meant}: columns: {{{way}: {column}}}" for way, meant in ways.items() if way != name]
    names = ", ".join(options.labels) if options.labels else f"0 to {len(options.texts) - 1}, or a letter"
    return DataError(
        "the answer is none of the row's choices, nor the place of one",
        got=answer,
        expected=f"one of {', '.join(options.texts)}, or its place ({names})",
        fix="; ".join(said),
    )
