"""What a table of the page is made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A drawn interval on the scale of its table, 0 to 100: where it lies, zero, and the zone that does not matter."""

    low: float
    value: float
    high: float
    zero: float
    zone_low: float
    zone_high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Text (with a line in smaller type below), or an unknown number with its note, or a drawn interval."""

    text: str
    below: str | None = None
    numeric: bool = False
    note: int | None = None
    interval: Interval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A heading; `numeric` columns are set flush right."""

    title: str
    numeric: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Columns, rows of as many cells, and notes that the cells refer to by number from 1."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    left_out: str | None = None
    remark: str | None = None
