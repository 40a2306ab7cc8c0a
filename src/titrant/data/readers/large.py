"""Files of JSON Lines too large for memory: a first reading keeps twenty bytes a row, a second fetches some rows."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from titrant.core.errors import DataError
from titrant.core.records import Example
from titrant.data.readers.file_kinds import kind_of
from titrant.data.readers.files import read_rows
from titrant.data.readers.lines import Report
from titrant.data.readers.load import stream_examples
from titrant.data.readers.notes import ReadingNotes
from titrant.data.readers.parts import ColumnMap
from titrant.data.readers.trees import holds_messages

LARGE_BYTES = 64 << 20
LARGE_PACKED_BYTES = 16 << 20


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class RowIndex:
    """The content hashes of a file's rows, sixteen bytes each, and the line on which each stands."""

    digests: bytearray
    lines: array[int]

    def __len__(self) -> int:
        return len(self.lines)


def is_large(path: str | Path) -> bool:
    """Whether a file is better read twice than held: JSON Lines of 64 MiB or more (packed: 16 MiB), a row a line."""
    place = Path(path)
    kind = kind_of(place.name)
    if kind not in (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz") or not place.is_file():
        return False
    if place.stat().st_size < (LARGE_PACKED_BYTES if kind.endswith(".gz") else LARGE_BYTES):
        return False
    first = next(iter(read_rows(place, report=lambda _: None)), None)
    return first is not None and not holds_messages(first)


def index_rows(
    path: str | Path,
    *,
    columns: ColumnMap | None = None,
    instruction: str | None = None,
    shape: str | None = None,
    on_fault: Report | None = None,
    notes: ReadingNotes | None = None,
) -> RowIndex:
    """Read every row once, as `load_examples` would (with its faults), and keep what a draw goes by."""
    digests, lines = bytearray(), array("I")
    for example in stream_examples(
        path,
        source="indexed",
        task="indexed",
        columns=columns,
        instruction=instruction,
        shape=shape,
        on_fault=on_fault,
        notes=notes,
        numbered=False,
    ):
        assert example.origin is not None
        digests += bytes.fromhex(example.key)
        lines.append(example.origin.line)
    return RowIndex(digests=digests, lines=lines)


def fetch_rows(
    path: str | Path,
    keys_by_line: Mapping[int, str],
    *,
    source: str,
    columns: ColumnMap | None = None,
    instruction: str | None = None,
    shape: str | None = None,
) -> Iterator[Example]:
    """The rows on these lines with their keys; `DataError` where a line no longer holds what it held."""
    for example in stream_examples(
        path,
        source=source,
        task=source,
        columns=columns,
        instruction=instruction,
        shape=shape,
        numbered=False,
        lines=keys_by_line,
    ):
        assert example.origin is not None
        key = keys_by_line[example.origin.line]
        if key.partition(".")[0] != example.key:
            raise DataError(
                "this row changed while the file was read",
                where=str(example.origin),
                fix="start again when it is quiet",
            )
        yield replace(example, key=key)
