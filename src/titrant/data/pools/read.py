"""Where a pool of a study comes from, and under which licence: the user's own files, or a source of the catalogue.

A catalogue source without a file of the user's is read from the hub at the commit in the lock file beside the study,
and put into that file when it is first used. The rows of public pools have faults that are known and that nobody here
can mend, so such a row is left out and counted; in the user's own pools it is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from titrant.config.fields import Place
from titrant.config.study import Study
from titrant.core.errors import DataError
from titrant.core.records import Example
from titrant.data import readers
from titrant.data.knowledge.rows import fact_pool
from titrant.data.pools.large import LargePool, read_large_pool
from titrant.data.readers import LOCK_NAME, Card, ColumnMap


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRows:
    """A pool as read. `place` is what was read, as the study wrote it or as the lock file has it.

    `licence` is what the study says, else what the hub or the card says; `non_commercial` is None where nobody knows.
    `left_out` counts rows with a fault, `first_fault` is the first of them. `large` is set where the file holds more
    rows than these: those that the study's doses can draw.
    """

    rows: tuple[Example, ...]
    place: Place
    licence: str | None
    non_commercial: bool | None
    left_out: int = 0
    first_fault: str | None = None
    large: LargePool | None = None

    @property
    def facts(self) -> dict[str, str | int | bool | None]:
        """Where the rows come from and how many were read, without the rows."""
        return {
            "place": self.place.written,
            "licence": self.licence,
            "non_commercial": self.non_commercial,
            "rows": len(self.rows),
            "rows_in_file": (len(self.rows) if self.large is None else self.large.rows_in_file) + self.left_out,
            "left_out": self.left_out,
            "first_fault": self.first_fault,
        }


def read_pool(study: Study, name: str, *, reserve: int = 1) -> PoolRows:
    """The rows of the pool `name`, not yet cleaned of test items; `DataError` where they cannot be had.

    Of a file too large for memory, the rows that the study's doses can draw: `reserve` says how many to spare.
    """
    said = study.generalist[name]
    path = said.rows if said.rows is not None else said.text
    if said.facts is not None:
        rows, words = fact_pool(said.facts, name=name), said.licence
        non_commercial = None if words is None else readers.is_non_commercial(words)
        return PoolRows(rows=rows, place=said.facts.rows, licence=words, non_commercial=non_commercial)
    if said.source is None:
        assert path is not None, "the study file has been checked"
        shape = said.format if said.rows is not None else "text"
        large = _large(study, name, path, columns=said.columns, shape=shape, reserve=reserve)
        rows = (
            readers.load_examples(
                path, source=name, task=name, columns=said.columns, instruction=said.instruction, shape=shape
            )
            if large is None
            else large.rows
        )
        return PoolRows(
            large=large,
            rows=_some(rows, path),
            place=path,
            licence=said.licence,
            non_commercial=None if said.licence is None else readers.is_non_commercial(said.licence),
        )
    card = readers.card(said.source)
    licence = said.licence or card.licence.value
    if path is None:
        pin = readers.pin_at_first_use(card, study.folder / LOCK_NAME, part=said.part)
        path, licence = Place(pin.place), said.licence or _both(pin.licence, card)
    return _of_catalogue(study, name, card, path, licence, reserve=reserve)


def _both(of_hub: str | None, card: Card) -> str | None:
    """What the hub says of a licence; where its one word hides what the card knows of commercial use, both."""
    if of_hub is None:
        return card.licence.value
    hides = card.non_commercial and not readers.is_non_commercial(of_hub)
    return f"{of_hub} ({card.licence.value})" if hides else of_hub


def _large(
    study: Study,
    name: str,
    path: str,
    *,
    columns: ColumnMap | None,
    shape: str | None,
    reserve: int,
    on_fault: Callable[[DataError], None] | None = None,
) -> LargePool | None:
    """The part of a large file that the study can draw; None where the file is held whole."""
    said = study.generalist[name]
    if said.select != "random" or not readers.is_large(path):
        return None
    return read_large_pool(
        study,
        name,
        path,
        columns=columns,
        instruction=said.instruction,
        shape=shape,
        on_fault=on_fault,
        reserve=reserve,
    )


def _of_catalogue(study: Study, name: str, card: Card, path: Place, licence: str | None, *, reserve: int) -> PoolRows:
    said = study.generalist[name]
    faults: list[DataError] = []
    columns = None if said.format is not None else said.columns or _fitting(card, path)
    large = _large(study, name, path, columns=columns, shape=said.format, reserve=reserve, on_fault=faults.append)
    rows = (
        readers.load_examples(
            path,
            source=name,
            task=name,
            columns=columns,
            instruction=said.instruction,
            shape=said.format,
            on_fault=faults.append,
        )
        if large is None
        else large.rows
    )
    words = readers.is_non_commercial(licence)
    return PoolRows(
        large=large,
        rows=_some(rows, path),
        place=path,
        licence=licence,
        non_commercial=words if said.licence is not None else words or card.non_commercial,
        left_out=len(faults),
        first_fault=str(faults[0]) if faults else None,
    )


def _fitting(card: Card, path: Place) -> ColumnMap | None:
    """The card's columns where the file has them; a copy in another form is read by its own columns."""
    mapping: Mapping[str, str] = dict(card.columns)
    first = next(iter(readers.read_rows(path, report=lambda _: None)), None)
    fits = first is not None and all(column in first.values for column in mapping.values())
    return mapping if mapping and fits else None


def _some(rows: tuple[Example, ...], path: str) -> tuple[Example, ...]:
    if not rows:
        raise DataError("the file holds no rows", where=path, expected="at least one row")
    return rows
