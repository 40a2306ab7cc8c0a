"""Rows from CSV, TSV, Parquet and Arrow; a cell of a text table stays exactly the string that it was."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, BinaryIO

from titrant.core.errors import DataError
from titrant.core.records import Origin, RawRow
from titrant.data.readers.class_names import ClassNames, names_in_schema, with_class_names
from titrant.data.readers.lines import MAX_LINE_BYTES, Report, TextLine, refuse, text_lines

_BATCH_ROWS = 1024
_SEPARATOR_LINE = re.compile(r"(?P<quote>[\"']?)[Ss][Ee][Pp]=(?P<mark>[,;|\t])(?P=quote)\s*")


def rows_of_csv(stream: BinaryIO, name: str, *, delimiter: str, report: Report = refuse) -> Iterator[RawRow]:
    """Rows of a table with a header, in the usual quoting (RFC 4180). The line of a row is where its record begins.

    `delimiter` is what usually separates columns; what does in this table, `separator_of` says.

    A record with too few or too many cells is reported; a quote that never closes is raised.
    """
    # The csv module's limit is one number for the whole process, 128 KiB at first: too small for long documents.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    lines = text_lines(stream, name)
    before = list(_up_to_header(lines))
    delimiter = separator_of([line.text for line in before], usual=delimiter)
    # Excel's own line is no row; what is left out here still counts as a line of the file.
    left_out = 1 if before and _SEPARATOR_LINE.fullmatch(before[0].text) else 0
    texts = (line.text for line in chain(before[left_out:], lines))
    reader = csv.reader(texts, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        # Before the record is read: a quoted cell may hold line feeds, and the reader then stands lines further on.
        start = reader.line_num + 1 + left_out
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _broken_record(error, f"{name}:{start}") from error
        if not record:
            continue
        if header is None:
            header = _checked_header(record, f"{name}:{start}", delimiter)
        elif len(record) != len(header):
            report(
                DataError(
                    f"{len(record)} cells in a table of {len(header)} columns",
                    where=f"{name}:{start}",
                    got=delimiter.join(record),
                    expected=", ".join(header),
                    fix="quote a cell that holds the separator, a quote or a line feed",
                )
            )
        else:
            yield RawRow(values=dict(zip(header, record, strict=True)), origin=Origin(path=name, line=start))


def separator_of(lines: Sequence[str], *, usual: str) -> str:
    """What separates the columns of a table, by its first lines: the mark that Excel's line `sep=;` names, else the
    usual one; where that gives one column only, another that gives several.

    >>> separator_of(["text;label"], usual=","), separator_of(["text,label;x"], usual=",")
    (';', ',')
    """
    if lines and (match := _SEPARATOR_LINE.fullmatch(lines[0])):
        return match["mark"]
    header = next((line for line in lines if line.strip()), "")
    for mark in (usual, ";", "\t", ",", "|"):
        try:
            columns = next(csv.reader([header], delimiter=mark), [])
        except csv.Error:
            continue
        if len(columns) > 1 and all(column.strip() for column in columns):
            return mark
    return usual


def _up_to_header(lines: Iterator[TextLine]) -> Iterator[TextLine]:
    """The lines of a table up to the first that is neither blank nor Excel's `sep=` line."""
    for line in lines:
        yield line
        if line.text.strip() and not (line.number == 1 and _SEPARATOR_LINE.fullmatch(line.text)):
            return


def rows_of_parquet(
    stream: BinaryIO,
    name: str,
    *,
    unpacked: Callable[[int], None] = lambda count: None,
    class_names: ClassNames | None = None,
) -> Iterator[RawRow]:
    """Rows of a Parquet file, a batch at a time; the line of a row is its number, from 1. `unpacked` is told of the
    bytes that come out: a value that stands once in the file may stand in a million rows. With `class_names`, numbers
    of classes become their names, those of the file's own schema before the dataset's.

    Numbers, dates and times become text (ISO 8601, shortest decimal); bytes are refused, since they are no text.
    """
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        file = pyarrow.parquet.ParquetFile(stream)
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, use_threads=False):
            # Beside its bytes a row costs an object, so a column of nulls is not free either.
            unpacked(batch.nbytes + 8 * batch.num_rows)
            for row in _rows_of_batch(batch, name, number, class_names):
                number += 1
                yield row
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"this Parquet file cannot be read ({reason})", where=f"{name}:{number + 1}") from error


def rows_of_arrow(
    stream: BinaryIO,
    name: str,
    *,
    unpacked: Callable[[int], None] = lambda count: None,
    class_names: ClassNames | None = None,
) -> Iterator[RawRow]:
    """Rows of an Arrow file, as `datasets` writes them with `save_to_disk`; values and lines as in Parquet."""
    import pyarrow
    import pyarrow.ipc

    number = 0
    try:
        for batch in _arrow_batches(stream):
            # Offsets into the file are taken on trust otherwise, and a damaged one leads anywhere in memory.
            batch.validate(full=True)
            unpacked(batch.nbytes + 8 * batch.num_rows)
            for start in range(0, batch.num_rows, _BATCH_ROWS):
                for row in _rows_of_batch(batch.slice(start, _BATCH_ROWS), name, number, class_names):
                    number += 1
                    yield row
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"this Arrow file cannot be read ({reason})", where=f"{name}:{number + 1}") from error


def _arrow_batches(stream: BinaryIO) -> Iterator[Any]:
    """The batches of a stream of them (what `datasets` writes), or of Arrow's file format, which begins with a mark."""
    import pyarrow.ipc

    start = stream.read(6)
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    bounded = _WithinFile(stream, size)
    if start != b"ARROW1":
        yield from pyarrow.ipc.open_stream(bounded)
        return
    file = pyarrow.ipc.open_file(bounded)
    for number in range(file.num_record_batches):
        yield file.get_batch(number)


class _WithinFile(io.RawIOBase):
    """A stream that is never asked for more than it holds: a damaged length of 2**60 bytes would be set aside first."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._size = stream, size

    def read(self, size: int = -1, /) -> bytes:
        left = max(0, self._size - self._stream.tell())
        return self._stream.read(left if size is None or size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def _rows_of_batch(batch: Any, name: str, before: int, class_names: ClassNames | None) -> Iterator[RawRow]:
    """The rows of a batch, which follow `before` others."""
    import pyarrow

    names = batch.schema.names
    if len(set(names)) < len(names):
        raise DataError("two columns have the same name", where=f"{name}:1", got=", ".join(names))
    columns = [_cells(column) for column in batch.columns]
    named = {**class_names, **names_in_schema(batch.schema.metadata)} if class_names is not None else {}
    may_be_nan = [
        name for name, column in zip(names, batch.columns, strict=True) if pyarrow.types.is_floating(column.type)
    ]
    for number, cells in enumerate(zip(*columns, strict=True), start=before + 1):
        origin = Origin(path=name, line=number)
        raw = dict(zip(names, cells, strict=True))
        values = {column: _as_text(cell, column, origin) for column, cell in raw.items()}
        nan = tuple(column for column in may_be_nan if raw[column] is not None and values[column] is None)
        yield with_class_names(RawRow(values=values, origin=origin, nan_columns=nan), named)


def _checked_header(header: list[str], where: str, delimiter: str) -> list[str]:
    twice = sorted(column for column, count in Counter(header).items() if count > 1)
    if twice:
        raise DataError("two columns have the same name", where=where, got=", ".join(twice), fix="rename one of them")
    if len(header) == 1:
        others = [mark for mark in (";", "\t", ",", "|") if mark != delimiter and mark in header[0]]
        if others:
            raise DataError(
                f"the header has one column only, with {others[0]!r} in its name",
                where=where,
                got=header[0],
                expected=f"columns separated by {delimiter!r}",
                fix=".csv is read with commas, .tsv with tabs: save the table so, or rename it",
            )
    return header


def _broken_record(error: csv.Error, where: str) -> DataError:
    cause = str(error)
    if "unexpected end" in cause:
        return DataError(
            "a quote that opens in this record never closes", where=where, fix='write " inside a cell as ""'
        )
    if "new-line character" in cause:
        return DataError("a bare carriage return in this record", where=where, fix="end lines with a line feed")
    return DataError(
        f"this record is no CSV: {cause}", where=where, fix='write " inside a cell as "", in a quoted cell'
    )


def _cells(column: Any) -> list[Any]:
    """The values of a column, of types that Python would widen or cut (nanoseconds, single precision) as text."""
    import pyarrow

    kind = column.type
    if pyarrow.types.is_temporal(kind):
        return list(column.cast(pyarrow.string()).to_pylist())
    cells: list[Any] = column.to_pylist()
    if not pyarrow.types.is_float32(kind) and not pyarrow.types.is_float16(kind):
        return cells
    # What is no finite number stays one, as it does in double precision: as text it would pass for a value.
    texts = column.cast(pyarrow.string()).to_pylist()
    return [text if cell is None or math.isfinite(cell) else cell for cell, text in zip(cells, texts, strict=True)]


_STORED_FILE = {"bytes", "path"}
"""How `datasets` stores an image or a sound. It is read as far as its size, so that such rows are counted and named."""


def _as_text(value: Any, column: str, origin: Origin) -> Any:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int | decimal.Decimal):
        return str(value)
    if isinstance(value, float):  # NaN is how pandas and numpy write a missing value; an infinite one is no text
        return None if math.isnan(value) else repr(value) if math.isfinite(value) else value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [_as_text(part, column, origin) for part in value]
    if isinstance(value, dict):
        if set(value) == _STORED_FILE and isinstance(value["bytes"], bytes):
            value = {**value, "bytes": f"{len(value['bytes'])} bytes"}
        return {key: _as_text(part, column, origin) for key, part in value.items()}
    raise DataError(
        f"column {column!r} holds {type(value).__name__}, which is no text",
        where=str(origin),
        expected="text or numbers",
    )
