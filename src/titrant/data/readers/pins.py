"""Which commit of a public pool a study reads: asked once, then kept in a lock file that can be read and shared.

`sources.lock.json` lies beside the study. A pool that is in it is read at the commit that stands there, on every
machine and for as long as the hub keeps it; a pool that is not is pinned when it is first used.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from titrant.core.errors import DataError
from titrant.data.readers.catalogue import Card, hub_place
from titrant.data.readers.hub import dataset_facts
from titrant.storage.atomic import write_text

LOCK_NAME = "sources.lock.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One pool at one commit. What the hub did not say is None; `pinned` is the day, `from_card` says that the commit
    is the card's own and the hub was not asked."""

    hub: str
    part: str | None
    revision: str
    licence: str | None
    rows: int | None
    download_bytes: int | None
    pinned: str
    from_card: bool

    @property
    def place(self) -> str:
        """The address, as `read_rows` takes it."""
        return hub_place(self.hub, revision=self.revision, part=self.part)


def pin(card: Card, *, part: str | None = None, revision: str | None = None) -> Pin:
    """Ask the hub which commit `revision` is (by default the card's branch), and its licence and size."""
    part = part or card.part
    asked = hub_place(card.hub, revision=revision or card.branch, part=part)
    facts = dataset_facts(asked)
    return Pin(
        hub=card.hub,
        part=part,
        revision=facts.revision,
        licence=facts.licence,
        rows=facts.rows,
        download_bytes=facts.download_bytes,
        pinned=_today(),
        from_card=False,
    )


def pin_at_first_use(card: Card, lock: Path, *, part: str | None = None) -> Pin:
    """The pin in the lock file, or a new one that is put there: the card's own commit where it has one, else the hub's.

    `DataError` where no part is known, or where the hub has to be asked and cannot be reached.
    """
    part = part or card.part
    if part is None:
        raise DataError(
            f"which part of {card.name}?",
            expected="a configuration and a split of the dataset",
            fix=f"part: <configuration>/train (titrant sources show {card.name})",
        )
    pins = read_lock(lock)
    key = lock_key(card, part)
    if key in pins:
        return pins[key]
    if card.revision.value is not None:
        found = Pin(
            hub=card.hub,
            part=part,
            revision=card.revision.value,
            licence=card.licence.value,
            rows=int(card.rows.value) if card.rows.value is not None and card.rows.value.isdecimal() else None,
            download_bytes=None,
            pinned=_today(),
            from_card=True,
        )
    else:
        found = pin(card, part=part)
    write_lock(lock, {**pins, key: found})
    return found


def lock_key(card: Card, part: str | None) -> str:
    """What a pool is called in the lock file: its name, with the part where that is not the card's own."""
    return card.name if part in (None, card.part) else f"{card.name}:{part}"


def read_lock(path: Path) -> dict[str, Pin]:
    """The pins in a lock file; none where there is no file. `DataError` where it is not one."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text("utf-8"))
        if value["format"] != _FORMAT:
            raise DataError("a lock file of another version", where=str(path), got=value["format"])
        return {name: Pin(**entry) for name, entry in value["sources"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            "this is no lock file of sources", where=str(path), fix="delete it, and the sources are pinned anew"
        ) from error


def write_lock(path: Path, pins: Mapping[str, Pin]) -> None:
    """Put the pins there, whole or not at all, sorted by name."""
    entries = {name: asdict(pins[name]) for name in sorted(pins)}
    write_text(path, json.dumps({"format": _FORMAT, "sources": entries}, indent=2, ensure_ascii=False) + "\n")


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()
