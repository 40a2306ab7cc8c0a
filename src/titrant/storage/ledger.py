"""The ledger of a store: an append-only file of records, one a line with its own checksum."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any, BinaryIO

from titrant.storage.atomic import sync_folder
from titrant.storage.folder import StoreFolder
from titrant.storage.sealed import checked_records, cut_torn_line, sealed_line, whole_lines


def append_record(place: StoreFolder, record: Mapping[str, Any]) -> None:
    """Add one record to the ledger, durably. A torn last line of an earlier crash is cut off first."""
    line = sealed_line(record)
    place.root.mkdir(parents=True, exist_ok=True)
    # Appends of two processes can mix on some file systems (NFS), and a torn line may only be cut while nobody
    # writes: so writers take turns.
    with place.locked("ledger"), place.ledger_path.open("a+b") as file:
        whole = cut_torn_line(file)
        try:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                # A full disk leaves half a line behind; the next writer would cut it off, but readers until then
                # need not see it.
                os.ftruncate(file.fileno(), whole)
            raise
    sync_folder(place.root)


def records_of(place: StoreFolder) -> list[dict[str, Any]]:
    """All whole records of the ledger, in the order they came. A torn last line is not a record; a damaged line
    in the middle raises `StoreDamaged` with its number."""
    if not place.ledger_path.exists():
        return []
    data = place.ledger_path.read_bytes()
    return checked_records(data[: whole_lines(data)], place.ledger_path, before=0)


def finished_runs(place: StoreFolder) -> dict[str, dict[str, Any]]:
    """The ledger's record of every finished run whose folder is there, by run id."""
    try:
        with os.scandir(place.root / "runs") as entries:  # one listing, where asking for each takes long for thousands
            there = {entry.name for entry in entries if entry.is_dir()}
    except FileNotFoundError:
        return {}
    return {
        record["run_id"]: record
        for record in records_of(place)
        if record.get("kind") == "run" and record["run_id"] in there
    }


def further_answers(place: StoreFolder) -> dict[str, list[dict[str, Any]]]:
    """The ledger's records of sets of requests that finished runs answered later, by run id."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in records_of(place):
        if record.get("kind") == "answers":
            folder = place.answers_folder(record["run_id"], record["requests"])
            if folder.is_dir() and record not in found.setdefault(record["run_id"], []):
                found[record["run_id"]].append(record)
    return found


class Ledger:
    """The records of each run, as they were at the last `refresh`. A worker asks after every run of a study: reading
    the whole ledger each time would take time with the square of the runs."""

    def __init__(self, place: StoreFolder) -> None:
        self._place = place
        self._file: tuple[int, int] | None = None
        self._end = self._lines = 0
        self._by_run: dict[str, list[dict[str, Any]]] = {}

    def refresh(self) -> Ledger:
        """Read what was added since the last time; all of it where the file is no longer the one that was read."""
        try:
            with self._place.ledger_path.open("rb") as file:
                found = os.fstat(file.fileno())
                # Another inode is another file (a copy put back from a backup); a line that no longer ends where
                # reading stopped was rewritten in place. Both are read from the start.
                if (found.st_dev, found.st_ino) != self._file or not _continues(file, self._end, found.st_size):
                    self._forget()
                    self._file = (found.st_dev, found.st_ino)
                file.seek(self._end)
                data = file.read()
        except FileNotFoundError:
            self._forget()
            return self
        whole = whole_lines(data)
        for record in checked_records(data[:whole], self._place.ledger_path, before=self._lines):
            self._lines += 1
            if "run_id" in record:
                self._by_run.setdefault(record["run_id"], []).append(record)
        self._end += whole
        return self

    def of_run(self, run_id: str) -> tuple[dict[str, Any], ...]:
        """What is recorded of a run, in the order it came."""
        return tuple(self._by_run.get(run_id, ()))

    def is_finished(self, run_id: str) -> bool:
        """Whether the run is recorded as done and its folder is there."""
        return (
            any(record.get("kind") == "run" for record in self.of_run(run_id))
            and self._place.run_folder(run_id).is_dir()
        )

    def has_answers(self, run_id: str, requests: str) -> bool:
        """Whether the run's answers to this further set of requests are recorded and there."""
        return (
            any(record.get("kind") == "answers" and record["requests"] == requests for record in self.of_run(run_id))
            and self._place.answers_folder(run_id, requests).is_dir()
        )

    def _forget(self) -> None:
        self._file = None
        self._end = self._lines = 0
        self._by_run = {}


def _continues(file: BinaryIO, end: int, size: int) -> bool:
    """Whether a line still ends where reading stopped, so that what follows is what was added."""
    if end == 0:
        return True
    file.seek(end - 1)
    return size >= end and file.read(1) == b"\n"
