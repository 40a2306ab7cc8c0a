"""Where a pool of a study comes from, and under which licence: the user's own files, or a source of the catalogue.

A catalogue source without a file of the user's is read from the hub at the commit in the lock file beside the study,
and put into that file when it is first used. The rows of public pools have faults that are known and that nobody here
can mend, so such a row is left out and counted; in the user's own pools it is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from titrant.config.fields import Place
from titrant.config.study import Study
from titrant.core.errors import DataError
from titrant.data import readers
from titrant.data.readers import LOCK_NAME, Card, ColumnMap, ReadingNotes
from titrant.experiment.fact_rows import fact_pool
from titrant.experiment.pools.large import HeldRows, PoolFile, RowsInFile


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRows:
    """A pool and how its rows are had. `place` is what is read, as the study wrote it or as the lock file has it.

    `licence` is what the study says, else what the hub or the card says; `non_commercial` is None where nobody knows.
    """

    file: PoolFile
    place: Place
    licence: str | None
    non_commercial: bool | None


def read_pool(study: Study, name: str, *, notes: ReadingNotes | None = None) -> PoolRows:
    """The pool `name`, not yet cleaned of anything; `DataError` where it cannot be had. Rows that fit into memory are
    read here and now, those of a file too large for it when they are cut (`cuts`). `notes` take what is left."""
    said = study.generalist[name]
    path = said.rows if said.rows is not None else said.text
    if said.facts is not None:
        rows, words = fact_pool(said.facts, name=name), said.licence
        non_commercial = None if words is None else readers.is_non_commercial(words)
        return PoolRows(file=HeldRows(rows), place=said.facts.rows, licence=words, non_commercial=non_commercial)
    if said.source is None:
        assert path is not None, "the study file has been checked"
        shape = said.format if said.rows is not None else "text"
        return PoolRows(
            file=_file(study, name, path, columns=said.columns, shape=shape, leaves_out_faults=False, notes=notes),
            place=path,
            licence=said.licence,
            non_commercial=None if said.licence is None else readers.is_non_commercial(said.licence),
        )
    card = readers.card(said.source)
    licence = said.licence or card.licence.value
    if path is None:
        pin = readers.pin_at_first_use(card, study.folder / LOCK_NAME, part=said.part)
        path, licence = Place(pin.place), said.licence or _both(pin.licence, card)
    words_of_licence = readers.is_non_commercial(licence)
    return PoolRows(
        file=_file(
            study,
            name,
            path,
            columns=None if said.format is not None else said.columns or _fitting(card, path),
            shape=said.format,
            leaves_out_faults=True,
            notes=notes,
        ),
        place=path,
        licence=licence,
        non_commercial=words_of_licence if said.licence is not None else words_of_licence or card.non_commercial,
    )


def _both(of_hub: str | None, card: Card) -> str | None:
    """What the hub says of a licence; where its one word hides what the card knows of commercial use, both."""
    if of_hub is None:
        return card.licence.value
    hides = card.non_commercial and not readers.is_non_commercial(of_hub)
    return f"{of_hub} ({card.licence.value})" if hides else of_hub


def _file(
    study: Study,
    name: str,
    path: str,
    *,
    columns: ColumnMap | None,
    shape: str | None,
    leaves_out_faults: bool,
    notes: ReadingNotes | None,
) -> PoolFile:
    """The rows of a file, in memory unless it is too large. Rows that are selected by labels are compared with one
    another one by one, so such a pool is always held."""
    said = study.generalist[name]
    if said.select == "random" and readers.is_large(path):
        return RowsInFile(
            path,
            source=name,
            columns=columns,
            instruction=said.instruction,
            shape=shape,
            leaves_out_faults=leaves_out_faults,
            notes=notes,
        )
    faults: list[DataError] = []
    rows = readers.load_examples(
        path,
        source=name,
        task=name,
        columns=columns,
        instruction=said.instruction,
        shape=shape,
        on_fault=faults.append if leaves_out_faults else None,
        notes=notes,
    )
    return HeldRows(rows, tuple(faults))


def _fitting(card: Card, path: Place) -> ColumnMap | None:
    """The card's columns where the file has them; a copy in another form is read by its own columns."""
    mapping: Mapping[str, str] = dict(card.columns)
    first = next(iter(readers.read_rows(path, report=lambda _: None)), None)
    fits = first is not None and all(column in first.values for column in mapping.values())
    return mapping if mapping and fits else None
