"""Rows from JSON Lines and JSON files, with every number kept as the text that stood there.

`010`, `1e5` and `0.10` mean something to their owner; a reader that turns them into floats and back loses it. A bare
`NaN`, which is no JSON, is how Python's json and pandas write a missing value: it is null, and counted. A bare
`Infinity` is no value at all: it stays a float, which no text is read from. Duplicate keys are refused, since two
readers would take two different values.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Container, Iterator
from typing import Any, BinaryIO, NoReturn

from titrant.core.errors import DataError
from titrant.core.records import Origin, RawRow
from titrant.data.readers.lines import CHUNK_BYTES, MAX_LINE_BYTES, Report, refuse, text_chunks, text_lines

_WHITESPACE = " \t\n\r"


def rows_of_json_lines(
    stream: BinaryIO, name: str, *, report: Report = refuse, only: Container[int] | None = None
) -> Iterator[RawRow]:
    """One row for every line that is not blank, or those of the lines `only`. What is no JSON object is reported."""
    for line in text_lines(stream, name, report=report, only=only):
        if line.text.strip(_WHITESPACE):
            try:
                values = _object_of(_parsed(line.text), line.text)
                row = _row(values, line.text, Origin(path=name, line=line.number))
            except DataError as error:
                report(error.at(f"{name}:{line.number}"))
                continue
            yield row


def parse_object(text: str) -> dict[str, Any]:
    """The object that `text` is, numbers as their literal text; `DataError` without a place otherwise.

    >>> parse_object('{"a": 010}')
    Traceback (most recent call last):
    ...
    titrant.core.errors.DataError: this is no JSON: Expecting ',' delimiter at column 8 (got '{"a": 010}'; ...
    >>> parse_object('{"a": 1.10, "b": NaN}')
    {'a': '1.10', 'b': None}
    """
    return _object_of(parse_json(text), text)


def parse_json(text: str) -> Any:
    """Any JSON value, numbers as their literal text and NaN as None; `DataError` without a place where it is none."""
    value = _parsed(text)
    try:
        return _without_nan(value) if "NaN" in text else value
    except RecursionError as error:
        raise DataError("the JSON is nested too deeply", got=text) from error


def _parsed(text: str) -> Any:
    """`parse_json` with NaN as a float, so that it can be counted."""
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        _refuse_syntax(error, text)
    except RecursionError as error:
        raise DataError("the JSON is nested too deeply", got=text) from error
    _refuse_surrogates(value, text)
    return value


def rows_of_json(stream: BinaryIO, name: str) -> Iterator[RawRow]:
    """Rows of a .json file: an array of objects, one object, or objects one after the other.

    Read in pieces; no more than one object and two pieces are held. The line of a row is where its object begins.
    """
    text = _Window(text_chunks(stream, name), name)
    # The first character tells an array from objects one after the other; both are then read object by object, never as
    # a whole.
    in_array = text.skip_space() == "["
    if in_array:
        text.advance(1)
    count = 0
    while True:
        here = text.skip_space()
        if in_array and here == "]":
            text.advance(1)
            if text.skip_space():
                raise DataError("text after the end of the array", where=text.where)
            return
        if not here:
            if in_array:
                raise DataError("the array is not closed: the file was cut off", where=text.where, expected="]")
            return
        if in_array and count:
            if here != ",":
                raise DataError("no comma between two rows", where=text.where, got=here)
            text.advance(1)
            here = text.skip_space()
        if here != "{":
            raise DataError("a row is not an object", where=text.where, got=here, expected='{"column": value, …}')
        origin = Origin(path=name, line=text.line)
        values, literal = text.take_object()
        yield _row(values, literal, origin)
        count += 1


def _row(values: dict[str, Any], literal: str, origin: Origin) -> RawRow:
    """The row of an object that stands in the file as `literal`."""
    if "NaN" not in literal:  # which spares nearly all rows the search
        return RawRow(values=values, origin=origin)
    try:
        cleaned = {name: _without_nan(value) for name, value in values.items()}
    except RecursionError as error:
        raise DataError("the JSON is nested too deeply", where=str(origin)) from error
    # Values without a NaN are built anew as they were, so a difference is one that a NaN made.
    names = tuple(name for name, value in cleaned.items() if value != values[name])
    return RawRow(values=cleaned, origin=origin, nan_columns=names)


def _without_nan(value: Any) -> Any:
    """The value with None wherever a NaN is."""
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value


class _Window:
    """A moving view on decoded text: what has been read and not yet used, and the line it begins on."""

    def __init__(self, chunks: Iterator[str], name: str) -> None:
        self._chunks, self._name = chunks, name
        self._text, self._at, self._ended = "", 0, False
        self.line = 1

    @property
    def where(self) -> str:
        return f"{self._name}:{self.line}"

    def skip_space(self) -> str:
        """The next character that is no white space, without taking it; empty at the end."""
        while True:
            while self._at < len(self._text):
                character = self._text[self._at]
                if character not in _WHITESPACE:
                    return character
                self.advance(1)
            if not self._more():
                return ""

    def advance(self, count: int) -> None:
        self.line += self._text.count("\n", self._at, self._at + count)
        self._at += count
        # Dropped a MiB at a time: cutting the text after each object would copy the rest of the window every time.
        if self._at > CHUNK_BYTES:
            self._text, self._at = self._text[self._at :], 0

    def take_object(self) -> tuple[dict[str, Any], str]:
        """The object that begins here, and its text. More is read while the fault may be that it is cut by the window's
        edge."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                # The decoder cannot say "more please". A fault at the window's edge may be half a literal (`fal`,
                # `-1.`, `\u00`), and a string without its end has its fault where it began; anything else is a fault
                # whatever follows.
                cut_off = error.msg.startswith("Unterminated string") or error.pos > len(self._text) - 16
                if cut_off and len(self._text) < 2 * MAX_LINE_BYTES and self._more():
                    continue
                place = f"{self._name}:{self.line + self._text.count(chr(10), self._at, error.pos)}"
                raise DataError(
                    f"this is no JSON: {error.msg}", where=place, got=self._text[error.pos :][:80]
                ) from error
            except RecursionError as error:
                raise DataError("the JSON is nested too deeply", where=self.where) from error
            except DataError as error:
                raise error.at(self.where) from None
            literal = self._text[self._at : end]
            try:
                _refuse_surrogates(value, literal)
            except DataError as error:
                raise error.at(self.where) from None
            self.advance(end - self._at)
            return _object_of(value, ""), literal

    def _more(self) -> bool:
        """Double what is in view, so that a long object costs linear time."""
        wanted = max(len(self._text) - self._at, 1)
        pieces = [self._text[self._at :]]
        self._at = 0
        got = 0
        while got < wanted and not self._ended:
            piece = next(self._chunks, None)
            if piece is None:
                self._ended = True
            else:
                pieces.append(piece)
                got += len(piece)
        self._text = "".join(pieces)
        return got > 0


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise DataError(f"the key {twice!r} stands twice in one object", fix="keep one of the two")
    return values


# Numbers as their own text: the decoder calls these with the literal that stands in the file. `parse_constant` is for
# NaN and the infinite ones, which are no JSON.
_DECODER = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_int=str, parse_float=str, parse_constant=float)


def _object_of(value: Any, text: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    fix = "a file that is one JSON array is named .json" if isinstance(value, list) or text.strip() == "[" else None
    raise DataError("a row is not an object", got=text.strip(), expected='{"column": value, …}', fix=fix)


def _refuse_syntax(error: json.JSONDecodeError, text: str) -> NoReturn:
    if text.strip(_WHITESPACE) == "[":
        _object_of([], text)
    fix = "one object a line, and nothing else"
    if error.pos >= len(text.rstrip(_WHITESPACE)) or error.msg.startswith("Unterminated"):
        fix = "the line ends too early: was the file cut off, or does a text hold a bare line feed?"
    raise DataError(
        f"this is no JSON: {error.msg} at column {error.pos + 1}",
        got=text.strip(_WHITESPACE),
        expected="a JSON object",
        fix=fix,
    ) from error


def _refuse_surrogates(value: Any, text: str) -> None:
    """Half a surrogate pair is no character: it cannot be written as UTF-8 nor tokenised."""
    # UTF-8 that decoded holds no surrogates, so only escapes can bring one in: nearly all rows are spared the check.
    if "\\u" not in text:
        return
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(error.object[error.start])
        raise DataError(
            f"half a surrogate pair, \\u{code:04x}: no character",
            got=text.strip(_WHITESPACE),
            fix="the text was cut inside an emoji or the like: repair or remove the row",
        ) from error
