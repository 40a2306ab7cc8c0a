"""Rows that are in memory already, as `read_rows` would hand them over: any iterable of mappings, or a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from titrant.core.errors import DataError
from titrant.core.records import Origin, RawRow
from titrant.data.readers.files import read_rows


def rows_of(rows: str | Path | Iterable[Mapping[str, Any]] | Any) -> Iterator[RawRow]:
    """The rows of a file, of an iterable of mappings, or of a table that speaks Arrow (pyarrow, pandas, polars).

    Rows in memory are called `row 1`, `row 2` …; their numbers become the text that a file would hold.

    >>> [row.values for row in rows_of([{"id": 7, "references": ["a", 1]}])]
    [{'id': '7', 'references': ['a', '1']}]
    """
    if isinstance(rows, str | Path):
        yield from read_rows(rows)
        return
    if hasattr(rows, "__arrow_c_stream__"):
        import pyarrow as pa

        rows = pa.table(rows).to_pylist()
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise DataError("not a row", where=f"row {number}", got=row, expected="a mapping of columns to values")
        yield RawRow(values={str(key): _as_read(value) for key, value in row.items()}, origin=_numbered(number))


def _numbered(number: int) -> Origin:
    return Origin(path="row", line=number)


def _as_read(value: Any) -> Any:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _as_read(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_read(item) for item in value]
    return str(value)
