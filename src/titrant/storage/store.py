"""A study's folder, to open, to add runs to, and to look after. What lies where, `folder` tells.

A finished run becomes one by a rename of its whole folder (`Store.finish`), as a file does in `atomic`: a reader sees
the old state or the new one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from titrant.core.errors import StoreDamaged, StoreMismatch
from titrant.core.identity import hash_bytes
from titrant.storage.atomic import bytes_of, sync_folder
from titrant.storage.damages import Damage, damages_of, train_anew
from titrant.storage.folder import FORMAT_VERSION, MARKED, MARKER, StoreFolder
from titrant.storage.json_files import read_json, write_json
from titrant.storage.ledger import Ledger, append_record, finished_runs, further_answers, records_of
from titrant.storage.manifests import MANIFEST, write_manifest


class Store(StoreFolder):
    """A study's folder. Open it with `Store.open`; several processes may hold it open at once."""

    @classmethod
    def open(cls, root: Path) -> Store:
        """The store at `root`, made when the folder is missing or empty. `StoreMismatch` for another format version."""
        marker = root / MARKER
        if marker.is_file():
            _check_format(marker)
        else:
            # A folder with other things in it is not taken: a mistyped --out must not mix a store into somebody's
            # files.
            foreign = root.exists() and (not root.is_dir() or any(not _is_leftover(path) for path in root.iterdir()))
            if foreign and not marker.is_file():  # another process may have made the store in this moment
                raise StoreMismatch(
                    "this folder holds something that is not a titration",
                    where=str(root),
                    expected="an empty or new folder, or one with store.json",
                    fix="choose another --out folder",
                )
            write_json(marker, MARKED)
        return cls(root)

    # the ledger

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record to the ledger, durably. A torn last line of an earlier crash is cut off first."""
        append_record(self, record)

    def records(self) -> list[dict[str, Any]]:
        """All whole records of the ledger, in the order they came. A torn last line is not a record; a damaged line
        in the middle raises `StoreDamaged` with its number."""
        return records_of(self)

    def follow(self) -> Ledger:
        """The ledger for a process that looks at it again and again: each look reads only what was added."""
        return Ledger(self)

    # runs

    def finished(self) -> dict[str, dict[str, Any]]:
        """The ledger's record of every finished run whose folder is there, by run id."""
        return finished_runs(self)

    def further_answers(self) -> dict[str, list[dict[str, Any]]]:
        """The ledger's records of sets of requests that finished runs answered later, by run id."""
        return further_answers(self)

    def begin(self, run_id: str) -> Path:
        """An empty folder to write the run's artefacts in; `finish` makes it the run's folder."""
        folder = self.root / "runs" / f".tmp-{run_id}"
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        return folder

    def finish(self, run_id: str, record: Mapping[str, Any]) -> str:
        """Publish what `begin` gave: manifest, rename, ledger line. Returns the manifest's checksum.

        A crash between the rename and the ledger line leaves a run folder that the ledger does not know: it counts as
        not done and is replaced by the next attempt, whose bytes are the same.
        """
        folder, final = self.root / "runs" / f".tmp-{run_id}", self.run_folder(run_id)
        manifest = _publish(folder, final)
        self.append({**record, "kind": "run", "run_id": run_id, "manifest": manifest})
        shutil.rmtree(self.work_folder(run_id), ignore_errors=True)
        return manifest

    def begin_answers(self, run_id: str, requests: str) -> Path:
        """An empty folder for a finished run's answers to further requests; `finish_answers` publishes it."""
        folder = self.answers_folder(run_id, f".tmp-{requests}")
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        return folder

    def finish_answers(self, run_id: str, requests: str) -> None:
        """Publish what `begin_answers` gave, as `finish` does."""
        final = self.answers_folder(run_id, requests)
        manifest = _publish(self.answers_folder(run_id, f".tmp-{requests}"), final)
        self.append({"kind": "answers", "run_id": run_id, "requests": requests, "manifest": manifest})
        shutil.rmtree(self.work_folder(run_id), ignore_errors=True)

    def checked_bytes(self, run_id: str, name: str, *, manifest: str | None, requests: str | None = None) -> bytes:
        """The bytes of a file of a finished run, read once and compared with what was stored; `manifest` is the
        ledger's checksum of the manifest beside it. `requests`: of the answers to that further set. `StoreDamaged`
        says what to do."""
        folder = self.run_folder(run_id) if requests is None else self.answers_folder(run_id, requests)
        # The bytes that are checked are the bytes that are returned: reading the file a second time could give others.
        listing, data = bytes_of(folder / MANIFEST), bytes_of(folder / name)
        problem = None
        if listing is None or hash_bytes(listing) != manifest:
            problem = folder / MANIFEST
        elif data is None or hash_bytes(data) != json.loads(listing)["files"].get(name, {}).get("sha256"):
            problem = folder / name
        if problem is not None:
            raise StoreDamaged(f"{problem}: missing, or not as it was stored. Fix: {train_anew(folder)}")
        assert data is not None
        return data

    # health

    def damages(self) -> list[Damage]:
        """Every file that is missing or does not match its checksum, with what can be recomputed."""
        return damages_of(self)


def _publish(folder: Path, final: Path) -> str:
    """Give a finished folder its manifest and its name; the manifest's checksum."""
    # Every file is synced while it is hashed, then the folder that names them, and only then does the rename make them
    # a run: a run folder that can be seen is whole.
    manifest = write_manifest(folder)
    sync_folder(folder)
    # Only where a crash came between rename and ledger line: what lies there was never recorded, and its bytes are the
    # same.
    if final.exists():
        shutil.rmtree(final)
    os.replace(folder, final)
    sync_folder(final.parent)
    return manifest


_WHY_NOT_FORMAT_1 = ": format 1 named runs by what they were asked, so that what they trained cannot be told from it"


def _check_format(marker: Path) -> None:
    said = read_json(marker)
    version = said.get("format") if isinstance(said, dict) else None
    if version != FORMAT_VERSION:
        raise StoreMismatch(
            "this store has another format" + (_WHY_NOT_FORMAT_1 if version == 1 else ""),
            where=str(marker),
            got=f"format {version}",
            expected=f"format {FORMAT_VERSION}",
            fix="use the version of titrant that made it, or another --out folder",
        )


def _is_leftover(path: Path) -> bool:
    return path.name.startswith(".tmp-") or path.name == "claims"
