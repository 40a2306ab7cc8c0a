"""What there is to know of how a file of rows was read: columns and fields that nobody takes, rows without anything to
learn, and values that were not taken as they stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from titrant.core.records import RawRow
from titrant.data.readers.shapes import Reading

_MOST_COLUMNS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class FileNote:
    """What was not read of the rows at one place. `not_read` counts for each column (and each field within one) the
    rows in which it holds something; `left_out` counts by the reason the rows that are no example; `remarks` counts by
    what there is to know of how they were read the rows that it is about."""

    place: str
    rows: int
    not_read: Mapping[str, int]
    left_out: Mapping[str, int]
    remarks: Mapping[str, int] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """The note as one line to print; empty where everything was read, as it stands.

        >>> FileNote(place="a.csv", rows=3, not_read={"url": 2, "topic": 3}, left_out={}).line
        'a.csv: not read: url (2 of 3 rows), topic'
        """
        parts = []
        if self.not_read:
            named = [self._counted(name, count) for name, count in self.not_read.items()]
            more = f" and {len(named) - _MOST_COLUMNS} more" if len(named) > _MOST_COLUMNS else ""
            parts.append("not read: " + ", ".join(named[:_MOST_COLUMNS]) + more)
        parts += [f"{count:,} of {self.rows:,} rows are left out: {why}" for why, count in self.left_out.items()]
        parts += [self._counted(remark, count) for remark, count in self.remarks.items()]
        return f"{self.place}: {'; '.join(parts)}" if parts else ""

    def _counted(self, text: str, count: int) -> str:
        return text if count == self.rows else f"{text} ({count:,} of {self.rows:,} rows)"


@dataclass(slots=True, kw_only=True)
class Tally:
    """The counts of one place while it is read."""

    rows: int = 0
    not_read: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)

    def add(self, raw: RawRow, reading: Reading) -> None:
        """Count one row, and what was read of it."""
        self.rows += 1
        self.not_read.update(reading.unread)
        self.remarks.update(reading.remarks)
        self.remarks.update(f"NaN in {name} is read as null" for name in raw.nan_columns)
        self.remarks.update(
            f"the numbers in {name} are read as the names that the dataset has for them" for name in raw.named_columns
        )
        if reading.left_out is not None:
            self.left_out[reading.left_out] += 1

    def remark(self, text: str) -> None:
        """What there is to know of the file as a whole."""
        self.remarks[text] = self.rows


class ReadingNotes:
    """Gathers the notes of all files that one reading goes through. A place that is read again is noted anew."""

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}

    def begin(self, place: str) -> Tally:
        """A fresh count for the rows at a place."""
        self._tallies[place] = Tally()
        return self._tallies[place]

    def notes(self) -> tuple[FileNote, ...]:
        """One note for every place of which there is something to know, in the order of reading."""
        return tuple(
            FileNote(
                place=place,
                rows=tally.rows,
                not_read=dict(tally.not_read),
                left_out=dict(tally.left_out),
                remarks=dict(tally.remarks),
            )
            for place, tally in self._tallies.items()
            if tally.not_read or tally.left_out or tally.remarks
        )
