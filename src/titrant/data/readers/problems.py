"""Faults of a file's rows, gathered until its end: each is told once, with a count, its first places and an example."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from titrant.core.errors import DataError

MAX_PROBLEMS = 20
_MOST_PLACES = 5
# What differs from row to row within one fault: which turn, how many cells, which byte. What stands in quotes is the
# file's own, and tells faults apart: which role, which label.
_QUOTED_OR_NUMBER = re.compile(r"(?P<quoted>'[^']*')|0x[0-9a-f]+|\\u[0-9a-f]{4}|\d+")


@dataclass(slots=True, kw_only=True)
class _Kind:
    """One fault: its first row, how many rows have it, and where the next ones are."""

    first: DataError
    rows: int = 1
    next_places: list[str] = field(default_factory=list)

    def add(self, error: DataError) -> None:
        self.rows += 1
        if error.where is not None and len(self.next_places) < _MOST_PLACES - 1:
            self.next_places.append(error.where)

    @property
    def told(self) -> DataError:
        first = self.first
        if self.rows == 1:
            return first
        path = f"{(first.where or '').rpartition(':')[0]}:"
        places = [place.removeprefix(path) for place in self.next_places]
        if places:
            lines = "line" if len(places) == 1 else "lines"
            more = " …" if self.rows > 1 + len(places) else ""
            problem = f"{first.problem} ({self.rows:,} rows, this is the first; next {lines} {', '.join(places)}{more})"
        else:
            problem = f"{first.problem} ({self.rows:,} rows, this is the first)"
        return DataError(problem, where=first.where, got=first.got, expected=first.expected, fix=first.fix)


class Problems:
    """The faults so far; the twentieth kind, or the end of the file, raises them together.

    Rows with the same fault, whatever its numbers are, count as one, and are counted to the end of the file.
    """

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def __bool__(self) -> bool:
        return bool(self._kinds)

    def __call__(self, error: DataError) -> None:
        key = _QUOTED_OR_NUMBER.sub(lambda match: match["quoted"] or "#", error.problem)
        known = self._kinds.get(key)
        if known is not None:
            known.add(error)
            return
        self._kinds[key] = _Kind(first=error)
        if len(self._kinds) == MAX_PROBLEMS:
            self.raise_any()

    def raise_any(self) -> None:
        """Raise what was found, if anything was."""
        told = [kind.told for kind in self._kinds.values()]
        if len(told) == 1:
            raise told[0]
        if told:
            more = " (there may be more)" if len(told) == MAX_PROBLEMS else ""
            lines = "".join(f"\n  {error}" for error in told)
            raise DataError(f"{len(told)} problems{more}:{lines}")
