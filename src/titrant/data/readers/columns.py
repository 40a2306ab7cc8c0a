"""Where rows have their parts: a row seen through a study's column map."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from titrant.core.errors import DataError
from titrant.core.records import RawRow
from titrant.data.readers.cells import is_filled, text_of
from titrant.data.readers.options import option_columns
from titrant.data.readers.parts import BEYOND_TEXT, BY_PLACE, JOIN, ColumnMap, Part, listed

Found = tuple[str, tuple[str, ...]]
"""The name under which rows have a part, and the file's columns that hold it."""
_MOST_LAYOUTS = 64


class ColumnPlaces:
    """A study's column map, and where rows of the same columns have their parts: worked out once for all of them."""

    def __init__(self, said: ColumnMap) -> None:
        self.said = said
        self.taken = {column for mapped in said.values() for column in listed(mapped)}
        self._layouts: dict[tuple[str, ...], _Layout] = {}

    def layout(self, names: tuple[str, ...]) -> _Layout:
        """What is known of rows with these columns."""
        known = self._layouts.get(names)
        if known is None:
            if len(self._layouts) == _MOST_LAYOUTS:  # rows of JSON may each have columns of their own
                self._layouts.clear()
            known = self._layouts[names] = _Layout(self, names)
        return known


class _Layout:
    """Rows that have the same columns."""

    def __init__(self, columns: ColumnPlaces, names: tuple[str, ...]) -> None:
        self._columns, self._names = columns, names
        self._found: dict[Part, tuple[Found, ...]] = {}
        self.options = option_columns(names)
        self.beyond_text = tuple(name for name in names if name in BEYOND_TEXT and name not in columns.taken)

    def found(self, part: Part) -> tuple[Found, ...]:
        """Every way in which these rows may have the part, best first; where the study names columns, these alone."""
        known = self._found.get(part)
        if known is None:
            known = self._found[part] = tuple(self._ways(part))
        return known

    def _ways(self, part: Part) -> Iterator[Found]:
        said, taken = self._columns.said, self._columns.taken
        for name in part.single_names:
            if name in said:
                mapped = tuple(listed(said[name]))
                if all(column in self._names for column in mapped):
                    yield name, mapped
                return
        for names in part.names:
            columns = (names,) if isinstance(names, str) else names
            if all(column in self._names and column not in taken for column in columns):
                yield (names if isinstance(names, str) else part.role), columns


class Row:
    """A raw row seen through the study's column map. `used` are the file's columns that were read so far, and
    `beside` the fields within them that were not."""

    def __init__(self, raw: RawRow, columns: ColumnMap | ColumnPlaces) -> None:
        known = columns if isinstance(columns, ColumnPlaces) else ColumnPlaces(columns)
        self.raw, self.columns = raw, known.said
        self.layout = known.layout(tuple(raw.values))
        self.used: set[str] = set()
        self.beside: dict[str, None] = {}

    def find(self, part: Part) -> Found | None:
        """The name under which the row has the part, and the file's columns: a mapped name, else the first that holds
        something, else the first that is there. Sets that were put together hold nulls where one of them had no such
        column, so a null gives way to the next name."""
        there = self.layout.found(part)
        if len(there) < 2:
            return there[0] if there else None
        values = self.raw.values
        for found in there:  # plain loops here and in `holds`: every row is asked for every part
            for column in found[1]:
                if not is_filled(values[column]):
                    break
            else:
                return found
        return there[0]

    def holds(self, part: Part) -> bool:
        """Whether the row says anything in a part."""
        values = self.raw.values
        for _, columns in self.layout.found(part):
            for column in columns:
                if is_filled(values[column]):
                    return True
        return False

    def value(self, part: Part) -> Any:
        """The value of a part; several mapped columns give a list of theirs. None when absent."""
        found = self.find(part)
        if found is None:
            return None
        self.used.update(found[1])
        values = [self.raw.values[column] for column in found[1]]
        return values[0] if len(values) == 1 and not self._is_list(found[0]) else values

    def text(self, part: Part) -> str:
        """The text of a part: never empty."""
        text = self.optional_text(part)
        if not text.strip():
            raise DataError(
                f"the {part.role} {self._absence(part)}",
                got=self.present,
                expected=_one_of(part),
                fix=f"fill it, remove the row, or name the right column: columns: {{{part.role}: …}}",
            )
        return text

    def optional_text(self, part: Part) -> str:
        """The text of a part, empty when there is none; of several columns each that is not empty, under its name."""
        found = self.find(part)
        if found is None:
            return ""
        self.used.update(found[1])
        texts = {
            column: text_of(value, part.role) for column in found[1] if (value := self.raw.values[column]) is not None
        }
        if len(found[1]) == 1:
            return "".join(texts.values())
        return JOIN.join(f"{column}: {text}" for column, text in texts.items() if text.strip())

    def is_listed(self, part: Part) -> bool:
        """Whether the row has the part under a name that says that it is a list (`answers`)."""
        found = self.find(part)
        return found is not None and "answers" in (found[0], *found[1])

    @property
    def present(self) -> str:
        """The columns of the row, for messages."""
        return "columns " + (", ".join(self.raw.values) or "none")

    @property
    def unread(self) -> tuple[str, ...]:
        """The columns and fields that hold something and were not read."""
        columns = (name for name, value in self.raw.values.items() if name not in self.used and is_filled(value))
        return (*columns, *self.beside)

    def _absence(self, part: Part) -> str:
        if self.value(part) is not None:
            return "is empty"
        found = self.find(part)
        return "is NaN, a missing value" if found and found[1][0] in self.raw.nan_columns else "is missing"

    def _is_list(self, name: str) -> bool:
        return not isinstance(self.columns.get(name, ""), str)


def _one_of(part: Part) -> str:
    names = [name if isinstance(name, str) else "+".join(name) for name in part.names if name not in BY_PLACE]
    return f"a text in column {' or '.join(names)}"
