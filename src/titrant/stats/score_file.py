"""Scores from a table that people have: whatever separates its columns, however its header is written.

What was understood and is not plain CSV is told (`ScoreFile.remarks`); what cannot be understood is named with the text
that stands in the file, and its line.
"""

from __future__ import annotations

import csv
import io
import re
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from titrant.core.errors import ScoresError
from titrant.stats.table import OPTIONAL, REQUIRED, Coded, ScoreTable, build_tables, number_of, required_columns

ALIASES = {"value": "score", "arm_kind": "kind"}
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "upright bars"}
_MOST_HEADER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreFile:
    """Tables by eval set, and what to tell of how they were read."""

    tables: Mapping[str, ScoreTable]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """How a table is written: what separates its columns, their names, and the line of the header, from 1."""

    separator: str
    columns: tuple[str, ...]
    header: str
    line: int


def read_score_file(path: Path) -> ScoreFile:
    """The tables of a file with a header. Columns are read as text; only scores and counts are numbers.

    `ScoresError` names what is wrong with its line, and the text of the file where a value is.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    if not path.is_file():
        raise ScoresError("no such file", where=str(path), got=str(path.absolute()))
    if path.stat().st_size == 0:
        raise ScoresError("the file is empty", where=str(path), expected="a header and rows of scores")
    form = check_header(path)
    wanted = _ours(form)
    try:
        table = arrow_csv.read_csv(
            path,
            read_options=arrow_csv.ReadOptions(column_names=list(form.columns), skip_rows=form.line),
            parse_options=arrow_csv.ParseOptions(newlines_in_values=False, delimiter=form.separator),
            convert_options=arrow_csv.ConvertOptions(
                column_types={name: pa.dictionary(pa.int32(), pa.string()) for name in wanted},
                include_columns=wanted,
                strings_can_be_null=False,
            ),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise ScoresError("not a CSV file that can be read", where=str(path), got=str(error)) from error
    named = {name: _coded(table.column(name)) for name in wanted}
    texts = named.pop("score")
    values = np.array([number_of(name) for name in texts.names] + [np.nan])
    tables = build_tables(named, values[texts.codes], place=_places(path, form.line), texts=texts)
    return ScoreFile(tables=tables, remarks=tuple(_remarks(form, texts)))


def check_header(path: Path) -> _Form:
    """How the table is written; an error where a column that is needed lacks, or one of ours is there twice."""
    form = _form(path)
    wanted = _ours(form)
    twice = sorted(name for name, count in Counter(wanted).items() if count > 1)
    if twice:
        raise ScoresError(f"column {', '.join(twice)} is there twice", where=f"{path}:{form.line}", got=form.header)
    required_columns(form.columns, lambda row: f"{path}:{form.line}", shown=form.header)
    return form


def _ours(form: _Form) -> list[str]:
    return [name for name in form.columns if name in (*REQUIRED, *OPTIONAL)]


def _remarks(form: _Form, texts: Coded) -> list[str]:
    remarks = []
    if form.separator != ",":
        remarks.append(f"columns are separated by {_SEPARATORS[form.separator]}")
    if any("," in name for name in texts.names):
        remarks.append("the comma in a score is a decimal comma")
    if empty := int((texts.codes < 0).sum()):
        remarks.append(f"{empty} empty {'score is a missing cell' if empty == 1 else 'scores are missing cells'}")
    return remarks


def _form(path: Path) -> _Form:
    """How the table is written, by its first lines: the separator is the one that gives the most of our columns."""
    try:
        with path.open("rb") as file:
            start = file.read(_MOST_HEADER_BYTES)
        lines = start.decode("utf-8-sig", "strict" if len(start) < _MOST_HEADER_BYTES else "ignore").split("\n")
    except UnicodeDecodeError as error:
        raise ScoresError(
            "not UTF-8 text", where=f"{path}:1", got=str(error), fix="save the table as CSV UTF-8"
        ) from error
    number, told = 0, None
    for number, line in enumerate(lines, start=1):
        # Excel reads and writes a first line `sep=;`, which is no header.
        if number == 1 and (match := re.fullmatch(r"\s*sep=(.)\s*", line, re.IGNORECASE)):
            told = match[1]
        elif line.strip():
            break
    if line.lstrip().startswith("{"):
        raise ScoresError(
            "these are JSON objects, and scores are judged from a table",
            where=f"{path}:{number}",
            got=line.strip(),
            expected="columns arm, seed, item, score",
            fix="write one row for each answer: which arm and seed gave it, the item's id, and its score; logs of "
            "lm-eval are judged by --from lm-eval",
        )
    forms = [_split(line, separator, number, path) for separator in ([told] if told in _SEPARATORS else _SEPARATORS)]
    # Where no name is ours, the header is still to be shown in its columns.
    return max(forms, key=lambda form: (len({*REQUIRED, *OPTIONAL} & set(form.columns)), len(form.columns)))


def _split(header: str, separator: str, line: int, path: Path) -> _Form:
    try:
        names = next(csv.reader(io.StringIO(header), delimiter=separator), [])
    except csv.Error as error:
        raise ScoresError("not a CSV file that can be read", where=f"{path}:{line}", got=str(error)) from error
    lower = [name.strip().lower() for name in names]
    columns = tuple(
        ALIASES.get(name, name) if ALIASES.get(name, name) in (*REQUIRED, *OPTIONAL) else written
        for name, written in zip(lower, names, strict=True)
    )
    return _Form(separator=separator, columns=columns, header=header.strip(), line=line)


def _places(path: Path, header_line: int) -> Callable[[int], str]:
    """Where a row stands. Lines are counted only when somebody asks, which is when something is wrong."""

    @cache
    def lines() -> Sequence[int]:
        found = array("L")
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if number > header_line and line.rstrip(b"\r\n"):  # the reader passes over empty lines
                    found.append(number)
        return found

    def place(row: int) -> str:
        return f"{path}:{lines()[row]}" if 0 <= row < len(lines()) else str(path)

    return place


def _coded(column: Any) -> Coded:
    """A dictionary column of pyarrow as a sorted one of ours; surrounding spaces do not count."""
    joined = column.combine_chunks()
    if hasattr(joined, "unify_dictionaries"):
        joined = joined.unify_dictionaries()
    if hasattr(joined, "chunks"):
        joined = joined.chunk(0)
    raw = [str(name).strip() for name in joined.dictionary.to_pylist()]
    names = sorted({name for name in raw if name})
    index = {name: code for code, name in enumerate(names)}
    to_ours = np.array([index.get(name, -1) for name in raw] or [-1], dtype=np.int64)
    return Coded(names=tuple(names), codes=to_ours[joined.indices.to_numpy(zero_copy_only=False)])
