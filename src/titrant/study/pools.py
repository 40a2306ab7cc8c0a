"""Where a pool of a study comes from, and under which licence: the user's own files, or a source of the catalogue.

A catalogue source without a file of the user's is read from the hub at the commit in the lock file beside the study,
and put into that file when it is first used. The rows of public pools have faults that are known and that nobody here
can mend, so such a row is left out and counted; in the user's own pools it is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from titrant import sources
from titrant.errors import DataError
from titrant.records import Example
from titrant.sources import LOCK_NAME, Card, ColumnMap
from titrant.study.facts import fact_pool
from titrant.study.fields import Place
from titrant.study.spec import Source, Study


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRows:
    """A pool as read. `place` is what was read, as the study wrote it or as the lock file has it.

    `licence` is what the study says, else what the hub or the card says; `non_commercial` is None where nobody knows.
    `left_out` counts rows with a fault, `first_fault` is the first of them.
    """

    rows: tuple[Example, ...]
    place: Place
    licence: str | None
    non_commercial: bool | None
    left_out: int = 0
    first_fault: str | None = None


def read_pool(study: Study, name: str) -> PoolRows:
    """The rows of the pool `name`, not yet cleaned of test items; `DataError` where they cannot be had."""
    said = study.generalist[name]
    path = said.rows if said.rows is not None else said.text
    if said.facts is not None:
        rows, words = fact_pool(said.facts, name=name), said.licence
        non_commercial = None if words is None else sources.is_non_commercial(words)
        return PoolRows(rows=rows, place=said.facts.rows, licence=words, non_commercial=non_commercial)
    if said.source is None:
        assert path is not None, "the study file has been checked"
        rows = sources.load_examples(
            path,
            source=name,
            task=name,
            columns=said.columns,
            instruction=said.instruction,
            shape=None if said.rows is not None else "text",
        )
        return PoolRows(
            rows=_some(rows, path),
            place=path,
            licence=said.licence,
            non_commercial=None if said.licence is None else sources.is_non_commercial(said.licence),
        )
    card = sources.card(said.source)
    licence = said.licence or card.licence.value
    if path is None:
        pin = sources.pin_at_first_use(card, study.folder / LOCK_NAME, part=said.part)
        path, licence = Place(pin.place), said.licence or pin.licence or card.licence.value
    return _of_catalogue(name, said, card, path, licence)


def _of_catalogue(name: str, said: Source, card: Card, path: Place, licence: str | None) -> PoolRows:
    faults: list[DataError] = []
    rows = sources.load_examples(
        path,
        source=name,
        task=name,
        columns=said.columns or _fitting(card, path),
        instruction=said.instruction,
        on_fault=faults.append,
    )
    words = sources.is_non_commercial(licence)
    return PoolRows(
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
    first = next(iter(sources.read_rows(path, report=lambda _: None)), None)
    fits = first is not None and all(column in first.values for column in mapping.values())
    return mapping if mapping and fits else None


def _some(rows: tuple[Example, ...], path: str) -> tuple[Example, ...]:
    if not rows:
        raise DataError("the file holds no rows", where=path, expected="at least one row")
    return rows
