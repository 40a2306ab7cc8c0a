"""Durable files: written whole or not at all, checksummed, and an append-only ledger.

A store is a folder:

    store.json            format version
    ledger.jsonl          one record a line with its own checksum; no times, no hosts
    runs/<run_id>/        finished runs, each with manifest.json (name, bytes, SHA-256 of every file)
    work/<run_id>/        unfinished runs: checkpoints; removed when the run is finished
    claims/<run_id>.lock  held with flock by the process that works on the run; a dead process holds nothing
    verdict.json, scores.parquet, report.html, model/      what the study makes of the runs

Everything that must survive a crash goes through `write_bytes` (write, fsync, rename, fsync of the folder) or through
`Store.finish`, which renames a whole folder. A reader therefore sees the old state or the new one. What a crash can
leave are names that start with `.tmp-`; they are ignored by every reader and removed by the next writer.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from titrant.errors import StoreDamaged, StoreMismatch
from titrant.identity import canonical_json, hash_file, hash_text

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
UNLISTED = frozenset({MANIFEST, "timing.json"})  # never part of a manifest: timing differs between equal runs


# --------------------------------------------------------------------------------------------------------------- files


def write_bytes(path: Path, data: bytes) -> None:
    """Put `data` at `path` whole or not at all; durable when the call returns. Makes the folder where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text. Lone surrogates are kept as their three bytes."""
    write_bytes(path, text.encode("utf-8", "surrogatepass"))


def write_json(path: Path, value: Any) -> None:
    """Readable JSON with sorted keys, so that equal values are equal bytes. NaN is refused."""
    from titrant.identity import plain

    text = json.dumps(plain(value), sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False)
    write_bytes(path, (text + "\n").encode("ascii"))


def write_jsonl(path: Path, values: Iterable[Any]) -> None:
    """One canonical JSON value a line (ASCII, so that every text survives)."""
    from titrant.identity import plain

    lines = [
        json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
        for value in values
    ]
    write_bytes(path, ("\n".join(lines) + "\n" if lines else "").encode("ascii"))


def read_json(path: Path) -> Any:
    """The value in a JSON file of ours; `StoreDamaged` names the file when it is missing or torn."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise StoreDamaged(f"{path}: missing") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StoreDamaged(f"{path}: not readable as JSON ({error})") from None


def read_jsonl(path: Path) -> list[Any]:
    """The values of a JSON Lines file of ours."""
    try:
        return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
    except FileNotFoundError:
        raise StoreDamaged(f"{path}: missing") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StoreDamaged(f"{path}: not readable as JSON Lines ({error})") from None


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a file's bytes durable, whoever wrote them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ----------------------------------------------------------------------------------------------------------- manifests


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One thing that is wrong with a store, and what can be done about it."""

    path: str
    problem: str
    remedy: str


def write_manifest(folder: Path) -> str:
    """List every file below `folder` with its size and checksum in manifest.json; the manifest's own checksum."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name in UNLISTED or any(part.startswith(".tmp-") for part in path.relative_to(folder).parts):
            continue
        sync_file(path)
        files[name] = {"bytes": path.stat().st_size, "sha256": hash_file(path)}
    write_json(folder / MANIFEST, {"files": files})
    return hash_file(folder / MANIFEST)


def check_manifest(folder: Path, *, expected: str | None = None) -> list[str]:
    """What is wrong in `folder` by its manifest (empty when nothing is); `expected` is the manifest's own checksum."""
    path = folder / MANIFEST
    if not path.is_file():
        return [f"{path}: missing"]
    if expected is not None and hash_file(path) != expected:
        return [f"{path}: checksum differs from the ledger's"]
    try:
        listed: Mapping[str, Any] = read_json(path)["files"]
    except (StoreDamaged, KeyError, TypeError) as error:
        return [f"{path}: {error}"]
    problems = []
    for name, entry in listed.items():
        file = folder / name
        if not file.is_file():
            problems.append(f"{file}: missing")
        elif file.stat().st_size != entry["bytes"]:
            problems.append(f"{file}: {file.stat().st_size} bytes, {entry['bytes']} expected")
        elif hash_file(file) != entry["sha256"]:
            problems.append(f"{file}: checksum differs")
    return problems


# ------------------------------------------------------------------------------------------------------------- a store


class Store:
    """A study's folder. Open it with `Store.open`; several processes may hold it open at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def open(cls, root: Path) -> Store:
        """The store at `root`, made when the folder is missing or empty. `StoreMismatch` for another format version."""
        marker = root / "store.json"
        if marker.is_file():
            version = read_json(marker).get("format")
            if version != FORMAT_VERSION:
                raise StoreMismatch(
                    "this store has another format",
                    where=str(marker),
                    got=f"format {version}",
                    expected=f"format {FORMAT_VERSION}",
                    fix="use the version of titrant that made it, or another --out folder",
                )
        else:
            if root.exists() and (not root.is_dir() or any(not _is_leftover(path) for path in root.iterdir())):
                raise StoreMismatch(
                    "this folder holds something that is not a titration",
                    where=str(root),
                    expected="an empty or new folder, or one with store.json",
                    fix="choose another --out folder",
                )
            write_json(marker, {"format": FORMAT_VERSION, "made_by": "titrant"})
        return cls(root)

    # paths

    @property
    def ledger_path(self) -> Path:
        return self.root / "ledger.jsonl"

    def run_folder(self, run_id: str) -> Path:
        """Where a finished run lies."""
        return self.root / "runs" / run_id

    def work_folder(self, run_id: str) -> Path:
        """Where an unfinished run keeps its checkpoints."""
        return self.root / "work" / run_id

    # the ledger

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record to the ledger, durably. A torn last line of an earlier crash is cut off first."""
        body = canonical_json(record)
        line = canonical_json({"record": record, "sum": hash_text(body, length=16)}).encode("utf-8", "surrogatepass")
        self.root.mkdir(parents=True, exist_ok=True)
        with self._locked("ledger"), self.ledger_path.open("a+b") as file:
            file.seek(0)
            whole = _whole_lines(file.read())
            file.truncate(whole)
            file.seek(whole)
            try:
                file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                with contextlib.suppress(OSError):
                    os.ftruncate(file.fileno(), whole)
                raise
        sync_folder(self.root)

    def records(self) -> list[dict[str, Any]]:
        """All whole records of the ledger, in the order they came. A torn last line is not a record; a damaged line
        in the middle raises `StoreDamaged` with its number."""
        if not self.ledger_path.exists():
            return []
        data = self.ledger_path.read_bytes()
        records = []
        for number, line in enumerate(data[: _whole_lines(data)].split(b"\n")[:-1], start=1):
            record = _checked_record(line)
            if record is None:
                raise StoreDamaged(f"{self.ledger_path}:{number}: the record does not match its checksum")
            records.append(record)
        return records

    # runs

    def finished(self) -> dict[str, dict[str, Any]]:
        """The ledger's record of every finished run whose folder is there, by run id."""
        return {
            record["run_id"]: record
            for record in self.records()
            if record.get("kind") == "run" and self.run_folder(record["run_id"]).is_dir()
        }

    @contextlib.contextmanager
    def claim(self, run_id: str) -> Iterator[bool]:
        """Hold the run for this process; yields False when another live process holds it. The lock dies with us."""
        path = self.root / "claims" / f"{run_id}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

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
        manifest = write_manifest(folder)
        sync_folder(folder)
        if final.exists():
            shutil.rmtree(final)
        os.replace(folder, final)
        sync_folder(final.parent)
        self.append({**record, "kind": "run", "run_id": run_id, "manifest": manifest})
        shutil.rmtree(self.work_folder(run_id), ignore_errors=True)
        return manifest

    # health

    def damages(self) -> list[Damage]:
        """Every file that is missing or does not match its checksum, with what can be recomputed."""
        found = []
        try:
            records = self.records()
        except StoreDamaged as error:
            return [Damage(path=str(self.ledger_path), problem=str(error), remedy="restore the ledger from a copy")]
        if self.ledger_path.exists() and _torn(self.ledger_path.read_bytes()):
            remedy = "run the study again: the record is written anew"
            found.append(Damage(path=str(self.ledger_path), problem="the last line is cut short", remedy=remedy))
        runs = {record["run_id"]: record for record in records if record.get("kind") == "run"}
        for run_id, record in sorted(runs.items()):
            for problem in check_manifest(self.run_folder(run_id), expected=record.get("manifest")):
                path, _, what = problem.partition(": ")
                remedy = f"delete {self.run_folder(run_id)} and run the study again: the run is trained anew"
                found.append(Damage(path=path, problem=what, remedy=remedy))
        results = [record for record in records if record.get("kind") == "results"]
        for name, entry in (results[-1]["files"] if results else {}).items():
            path = self.root / name
            if not path.is_file():
                found.append(Damage(path=str(path), problem="missing", remedy="run `titrant report` to write it again"))
            elif hash_file(path) != entry:
                found.append(
                    Damage(path=str(path), problem="checksum differs", remedy="run `titrant report` to write it again")
                )
        model = self.root / "model"
        if (model / MANIFEST).is_file():
            for problem in check_manifest(model):
                path, _, what = problem.partition(": ")
                found.append(Damage(path=path, problem=what, remedy=f"delete {model} and run the study again"))
        return found

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        path = self.root / "claims" / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _whole_lines(data: bytes) -> int:
    """How many leading bytes of a ledger are whole lines: a crash inside a write leaves a last line without its end."""
    return data.rfind(b"\n") + 1


def _torn(data: bytes) -> bool:
    return _whole_lines(data) != len(data)


def _checked_record(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
        record = entry["record"]
        whole = isinstance(record, dict) and hash_text(canonical_json(record), length=16) == entry["sum"]
    except (ValueError, KeyError, TypeError):
        return None
    return record if whole else None


def _is_leftover(path: Path) -> bool:
    return path.name.startswith(".tmp-") or path.name == "claims"
