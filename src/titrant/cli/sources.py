"""`titrant sources`: the catalogue of public pools."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from titrant.cli.output import print_json, print_table
from titrant.data import readers
from titrant.data.readers import Card, CardFact, Pin


def show_sources(*, as_json: bool) -> None:
    """All cards, a line each."""
    cards = readers.catalogue()
    if as_json:
        print_json([_as_json(card) for card in cards])
        return
    rows = [(card.name, _said(card.licence), _said(card.rows), _said(card.answers)) for card in cards]
    print_table(
        ("source", "licence", "rows", "answers by"), [tuple(_short(cell) for cell in row) for row in rows], left=4
    )
    named = [card.name for card in cards if card.non_commercial]
    print(f"\nnot for commercial use, in whole or in part: {', '.join(named)}")
    print("titrant sources show NAME says where each fact was read; in a study: generalist: {NAME: {source: NAME}}")


def show_card(name: str, *, lock: Path, as_json: bool) -> None:
    """One card as it stands in its file, and what the lock file says of it."""
    card = readers.card(name)
    pins = {key: pin for key, pin in readers.read_lock(lock).items() if key.partition(":")[0] == name}
    if as_json:
        print_json({**_as_json(card), "pinned": {key: asdict(pin) for key, pin in pins.items()}})
        return
    print(card.text, end="")
    for key, pin in pins.items():
        print(f"# {lock}: {key} is pinned: {_line(pin)}")


def pin_and_print(name: str, *, lock: Path, part: str | None, revision: str | None, as_json: bool) -> None:
    """Ask the hub, and write the lock file."""
    card = readers.card(name)
    found = readers.pin(card, part=part, revision=revision)
    key = readers.lock_key(card, found.part)
    pins = readers.read_lock(lock)
    before = pins.get(key)
    readers.write_lock(lock, {**pins, key: found})
    if as_json:
        print_json({"name": key, **asdict(found)})
        return
    print(f"{key}: {_line(found)}")
    if before is not None and before.revision != found.revision:
        print(f"before: {_line(before)}")
    if readers.is_non_commercial(found.licence) or card.non_commercial:
        print("its licence, or that of a part of it, rules out commercial use")
    if None not in (found.licence, card.licence.value) and not _alike(str(found.licence), str(card.licence.value)):
        print(f"the card says {card.licence.value}, the hub {found.licence}: read the dataset's own page")
    print(f"locked in {lock}")


def _as_json(card: Card) -> dict[str, object]:
    said = asdict(card)
    said.pop("text")
    return said | {"columns": dict(card.columns)}


def _line(pin: Pin) -> str:
    size = "unknown size" if pin.download_bytes is None else f"{pin.download_bytes / 1e6:.1f} MB"
    rows = "rows unknown" if pin.rows is None else f"{pin.rows:,} rows"
    by = "by the card" if pin.from_card else "by the hub"
    return f"{pin.place}, licence {pin.licence or 'unknown'}, {rows}, {size} ({by}, {pin.pinned})"


def _said(fact: CardFact) -> str:
    return fact.value if fact.value is not None else "unknown: pin it"


def _short(text: str) -> str:
    return text if len(text) <= 44 else text[:43] + "…"


def _alike(one: str, other: str) -> bool:
    """Whether two names of a licence mean the same, by letters and digits, one beginning the other."""
    kept = [[letter for letter in name.lower() if letter.isalnum()] for name in (one, other)]
    shorter, longer = sorted(kept, key=len)
    return longer[: len(shorter)] == shorter
