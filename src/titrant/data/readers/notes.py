"""What of a file of rows was not read: columns and fields that nobody takes, and rows without anything to learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from titrant.data.readers.shapes import Reading

_MOST_COLUMNS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class FileNote:
    """What was not read of the rows at one place. `not_read` counts for each column (and each field within one) the
    rows in which it holds something; `left_out` counts by the reason the rows that are no example."""

    place: str
    rows: int
    not_read: Mapping[str, int]
    left_out: Mapping[str, int]

    @property
    def line(self) -> str:
        """The note as one line to print; empty where everything was read.

        >>> FileNote(place="a.csv", rows=3, not_read={"url": 2, "topic": 3}, left_out={}).line
        'a.csv: not read: url (2 of 3 rows), topic'
        """
        parts = []
        if self.not_read:
            named = [
                name if count == self.rows else f"{name} ({count:,} of {self.rows:,} rows)"
                for name, count in self.not_read.items()
            ]
            more = f" and {len(named) - _MOST_COLUMNS} more" if len(named) > _MOST_COLUMNS else ""
            parts.append("not read: " + ", ".join(named[:_MOST_COLUMNS]) + more)
        parts += [f"{count:,} of {self.rows:,} rows are left out: {why}" for why, count in self.left_out.items()]
        return f"{self.place}: {'; '.join(parts)}" if parts else ""


@dataclass(slots=True, kw_only=True)
class Tally:
    """The counts of one place while it is read."""

    rows: int = 0
    not_read: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, reading: Reading) -> None:
        """Count one row."""
        self.rows += 1
        self.not_read.update(reading.unread)
        if reading.left_out is not None:
            self.left_out[reading.left_out] += 1


class ReadingNotes:
    """Gathers the notes of all files that one reading goes through. A place that is read again is noted anew."""

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}

    def begin(self, place: str) -> Tally:
        """A fresh count for the rows at a place."""
        self._tallies[place] = Tally()
        return self._tallies[place]

    def notes(self) -> tuple[FileNote, ...]:
        """One note for every place of which something was not read, in the order of reading."""
        return tuple(
            FileNote(place=place, rows=tally.rows, not_read=dict(tally.not_read), left_out=dict(tally.left_out))
            for place, tally in self._tallies.items()
            if tally.not_read or tally.left_out
        )
