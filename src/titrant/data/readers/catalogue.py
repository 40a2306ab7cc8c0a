"""Public pools of instruction rows, one readable card each: what is known of them, and where it was read.

A card is a YAML file in `cards/`. Each fact on it either names the page that it was read from and the day, or is null
with `verified: false`; nothing is filled in from memory. What is null (and everything else that may have moved since)
is asked of the hub by `titrant sources pin` and kept in a lock file (`pins`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from titrant.core.errors import DataError
from titrant.data.readers.hub import HUB_PREFIX

_FOLDER = Path(__file__).with_name("cards")
_FACTS = ("revision", "licence", "rows", "download", "answers")
_NON_COMMERCIAL = re.compile(r"\bnc\b|non[- ]?commercial", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFact:
    """One thing that a card says. Where `verified`, `source` is the public page and `read` the day (ISO 8601)."""

    value: str | None
    verified: bool
    source: str | None = None
    read: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """A known fault of a pool, and where it is told."""

    says: str
    source: str
    read: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What is known of one public pool.

    `hub` and `branch` say where it is, `part` which `[configuration/]split` of it is meant (None: the study has to
    say). `columns` maps our names of columns to its own. `rows` and `download` are its size; `answers` says who wrote
    them. `non_commercial` is what the words of the licence come to; None where the licence is not known. `text` is the
    card as it stands in its file.
    """

    name: str
    title: str
    summary: str
    hub: str
    branch: str
    part: str | None
    columns: tuple[tuple[str, str], ...]
    revision: CardFact
    licence: CardFact
    rows: CardFact
    download: CardFact
    answers: CardFact
    non_commercial: bool | None
    flaws: tuple[Flaw, ...]
    text: str

    @property
    def facts(self) -> tuple[tuple[str, CardFact], ...]:
        """All facts by name, in the order of the card."""
        return tuple((name, getattr(self, name)) for name in _FACTS)


def catalogue_names() -> tuple[str, ...]:
    """The names of all cards, sorted; no card is read."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def catalogue() -> tuple[Card, ...]:
    """Every card, by name."""
    return tuple(card(name) for name in catalogue_names())


@cache
def card(name: str) -> Card:
    """The card of that name; `DataError` names those there are."""
    if name not in catalogue_names():
        near = difflib.get_close_matches(name[:60], catalogue_names(), n=1, cutoff=0.6)
        raise DataError(
            "no such source in the catalogue",
            got=name,
            expected=", ".join(catalogue_names()),
            fix=f"did you mean {near[0]}?" if near else None,
        )
    text = (_FOLDER / f"{name}.yaml").read_text("utf-8")
    return _read(_loaded(text), text)


def hub_place(hub: str, *, revision: str, part: str | None) -> str:
    """The address of a part of a hub dataset, as `read_rows` takes it.

    >>> hub_place("org/name", revision="main", part="all/train")
    'hub:org/name@main:all/train'
    """
    return f"{HUB_PREFIX}{hub}@{revision}" + (f":{part}" if part else "")


def is_non_commercial(licence: str | None) -> bool:
    """Whether the words of a licence rule out commercial use.

    >>> is_non_commercial("cc-by-nc-4.0"), is_non_commercial("Apache-2.0"), is_non_commercial(None)
    (True, False, False)
    """
    return licence is not None and _NON_COMMERCIAL.search(licence) is not None


def _loaded(text: str) -> Mapping[str, Any]:
    from ruamel.yaml import YAML

    value = YAML(typ="safe", pure=True).load(text)
    assert isinstance(value, dict), "a card is a mapping"
    return value


def _read(value: Mapping[str, Any], text: str) -> Card:
    """The cards ship with the package, so a fault in one is ours: a key too many or too few is an error of Python's."""
    known = {"name", "title", "summary", "hub", "branch", "part", "columns", "non_commercial", "flaws", *_FACTS}
    assert value.keys() <= known, f"a card has keys that nobody reads: {value.keys() - known}"
    return Card(
        name=value["name"],
        title=value["title"],
        summary=value["summary"],
        hub=value["hub"],
        branch=value["branch"],
        part=value["part"],
        columns=tuple((value.get("columns") or {}).items()),
        revision=_fact(value["revision"]),
        licence=_fact(value["licence"]),
        rows=_fact(value["rows"]),
        download=_fact(value["download"]),
        answers=_fact(value["answers"]),
        non_commercial=value["non_commercial"],
        flaws=tuple(Flaw(**flaw) for flaw in value["flaws"]),
        text=text,
    )


def _fact(value: Mapping[str, Any]) -> CardFact:
    known = value["value"]
    return CardFact(**{**value, "value": None if known is None else str(known)})
