"""Durable files: written whole or not at all, checksummed, and an append-only ledger.

A store is a folder:

    store.json            format version
    ledger.jsonl          one record a line with its own checksum; no times, no hosts
    runs/<run_id>/        finished runs, each with manifest.json (name, bytes, SHA-256 of every file)
    answers/<run_id>/<set>/  what a finished run was asked later; manifest.json as above
    kept/<run_id>/        a checkpoint behind the last step, for adapters and where all weights are kept
    work/<run_id>/        unfinished runs: checkpoints, steps.jsonl, about.json; removed when the run is finished
    claims/<run_id>.lock  held with flock by the process that works on the run; a dead process holds nothing
    verdict.json, scores.parquet, report.html, model/      what the study makes of the runs
    results.json          the checksums of the first three

The ledger knows no times, so that equal studies have equal ledgers; verdict.json may (what a next step would take), and
so its checksum stands in results.json. Small files with times in them carry their own checksum (`write_sealed`).

Everything that must survive a crash goes through `write_bytes` (write, fsync, rename, fsync of the folder) or through
`Store.finish`, which renames a whole folder. A reader therefore sees the old state or the new one. What a crash can
leave are names that start with `.tmp-`; they are ignored by every reader, and removed by a later writer of the same
file once it is certain that nobody writes them (`_remove_abandoned`).
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import glob
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from titrant.core.errors import StoreDamaged, StoreMismatch
from titrant.core.identity import canonical_json, fingerprint, hash_file, hash_text

FORMAT_VERSION = 2
_MARKED = {"format": FORMAT_VERSION, "made_by": "titrant"}
MANIFEST, TIMING, RESULTS, MARKER = "manifest.json", "timing.json", "results.json", "store.json"
ABOUT, STEPS = "about.json", "steps.jsonl"  # of a run in the making: what it is, and its step reports
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # the same in all containers of a machine, another after each start
_MARK_LENGTH = 8
_ABANDONED_SECONDS = 24 * 3600.0
UNLISTED = frozenset({MANIFEST, TIMING})  # never part of a manifest: timing differs between equal runs


# --------------------------------------------------------------------------------------------------------------- files


def write_bytes(path: Path, data: bytes) -> None:
    """Put `data` at `path` whole or not at all; durable when the call returns. Makes the folder where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_beside(path) as (file, temporary):
        # The age of leftovers is taken by the clock that stamps them, the file system's: a network drive's may differ
        # from ours by more than minutes.
        _remove_abandoned(path, now=os.fstat(file.fileno()).st_mtime, ours=temporary)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        # Synced before the rename: else a power cut may keep the new name and lose the bytes, and the file is empty.
        # The folder is synced after it, or the name itself may be lost.
        os.replace(temporary, path)
    sync_folder(path.parent)


@contextlib.contextmanager
def _temporary_beside(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file beside `path` that no other writer can have, locked until it is closed; removed on an error."""
    while True:
        temporary = path.with_name(f".tmp-{_kernel_mark()}{secrets.token_hex(8)}-{path.name}")
        with temporary.open("wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                # Between the opening and the lock another writer may have taken it for abandoned: then make another.
                if os.fstat(file.fileno()).st_nlink == 0:
                    continue
                yield file, temporary
                return
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise


def _remove_abandoned(path: Path, *, now: float, ours: Path) -> None:
    """Remove what writers of `path` left that cannot go on. `now` is the file system's clock, which may be another
    machine's.

    A process number says nothing of a writer in another container or on another machine, so writers hold a lock on
    their temporary file, which dies with them. A lock that is free proves a writer dead only under one kernel (which
    its mark in the name tells): several kinds of shared file system (NFS mounted with `nolock` or `local_lock`, and
    some that run in user space) keep locks to each machine. A writer elsewhere, or one that made its name by another
    rule, is given up only when its file has not changed for a day: no write here takes minutes.
    """
    for leftover in path.parent.glob(f".tmp-*-{glob.escape(path.name)}"):
        if leftover == ours:
            continue
        mark = leftover.name.removeprefix(".tmp-").removesuffix(f"-{path.name}")
        one_kernel = len(mark) == _MARK_LENGTH + 16 and mark.startswith(_kernel_mark())
        try:
            # an exclusive lock needs a file that is open for writing where NFS makes it a lock of a range
            with leftover.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if one_kernel or now - os.fstat(file.fileno()).st_mtime > _ABANDONED_SECONDS:
                    leftover.unlink(missing_ok=True)
        except OSError:  # its writer lives, or is somebody else's, or another process has just removed it
            continue


@functools.cache
def _kernel_mark() -> str:
    """A short word for the kernel that this process runs under; one of its own where the kernel has no name."""
    try:
        name = _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        name = secrets.token_hex(16)
    return hash_text(name, length=_MARK_LENGTH)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text. Lone surrogates are kept as their three bytes."""
    write_bytes(path, text.encode("utf-8", "surrogatepass"))


def write_json(path: Path, value: Any) -> None:
    """Readable JSON with sorted keys, so that equal values are equal bytes. NaN is refused."""
    from titrant.core.identity import plain

    text = json.dumps(plain(value), sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False)
    write_bytes(path, (text + "\n").encode("ascii"))


def write_jsonl(path: Path, values: Iterable[Any]) -> None:
    """One canonical JSON value a line (ASCII, so that every text survives)."""
    from titrant.core.identity import plain

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
    except (ValueError, RecursionError) as error:
        raise StoreDamaged(f"{path}: not readable as JSON ({error})") from None


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """`write_json` of an object with its own checksum in it."""
    write_json(path, {**value, "sum": fingerprint(value, length=16)})


_SEALED_REMEDY = "delete it and run the study again: nothing but its own figures is lost"


def read_sealed(path: Path) -> dict[str, Any]:
    """The object that `write_sealed` wrote; `StoreDamaged` names the file when it is not as it was written."""
    value = read_json(path)
    if not isinstance(value, dict) or value.pop("sum", None) != fingerprint(value, length=16):
        raise StoreDamaged(f"{path}: the file does not match its checksum. Fix: {_SEALED_REMEDY}")
    return value


def read_jsonl(path: Path) -> list[Any]:
    """The values of a JSON Lines file of ours."""
    try:
        return values_of_jsonl(path.read_bytes(), path)
    except FileNotFoundError:
        raise StoreDamaged(f"{path}: missing") from None


def values_of_jsonl(data: bytes, path: Path) -> list[Any]:
    """The values in the bytes of a JSON Lines file of ours; `path` is for messages."""
    lines = [line for line in data.split(b"\n") if line]
    try:
        values: list[Any] = json.loads(b"[" + b",".join(lines) + b"]")  # at once: a call for each line costs far more
    except (ValueError, RecursionError) as error:
        raise StoreDamaged(f"{path}: not readable as JSON Lines ({error})") from None
    # A line that holds `1,2` would pass as two values of the joined array.
    if len(values) != len(lines):
        raise StoreDamaged(f"{path}: not readable as JSON Lines ({len(values)} values in {len(lines)} lines)")
    return values


def sealed_line(record: Mapping[str, Any]) -> bytes:
    """A record as a line of a file that only grows, with its own checksum and its line feed."""
    body = canonical_json(record)
    sealed = {"record": record, "sum": hash_text(body, length=_SUM_LENGTH)}
    return canonical_json(sealed).encode("utf-8", "surrogatepass") + b"\n"


def cut_torn_line(file: BinaryIO) -> int:
    """Cut off what a crash left of a last line; the length of the file then, which is where it ends now."""
    whole = _end_of_whole_lines(file)
    file.truncate(whole)
    return file.seek(whole)


def read_sealed_lines(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """The records that `sealed_line` wrote to a file, and the numbers of the lines that are not as they were written.
    A torn last line is neither."""
    data = _bytes_of(path) or b""
    records, damaged = [], []
    for number, line in enumerate(data[: _whole_lines(data)].split(b"\n")[:-1], start=1):
        record = _checked_record(line)
        if record is None:
            damaged.append(number)
        else:
            records.append(record)
    return records, damaged


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
        # Not times, which differ between equal runs, and not what another writer has not finished.
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
        listed = _listed(path)
    except StoreDamaged as error:
        return [str(error)]
    problems = []
    for name, (size, checksum) in listed.items():
        file = folder / name
        if not file.is_file():
            problems.append(f"{file}: missing")
        elif file.stat().st_size != size:
            problems.append(f"{file}: {file.stat().st_size} bytes, {size} expected")
        elif hash_file(file) != checksum:
            problems.append(f"{file}: checksum differs")
    return problems


def _bytes_of(path: Path) -> bytes | None:
    """The bytes of a file; None where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _checksum(data: bytes) -> str:
    """The SHA-256 of bytes, as `hash_file` gives it."""
    return hashlib.sha256(data).hexdigest()


def _listed(manifest: Path) -> dict[str, tuple[int, str]]:
    """Size and checksum by name in a manifest; `StoreDamaged` when it does not say them."""
    try:
        return {name: (entry["bytes"], entry["sha256"]) for name, entry in read_json(manifest)["files"].items()}
    except (KeyError, TypeError, AttributeError):
        raise StoreDamaged(f"{manifest}: not a manifest") from None


# ------------------------------------------------------------------------------------------------------------- a store


class Store:
    """A study's folder. Open it with `Store.open`; several processes may hold it open at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

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
            write_json(marker, _MARKED)
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

    def answers_folder(self, run_id: str, requests: str) -> Path:
        """Where the answers of a finished run to a further set of requests lie."""
        return self.root / "answers" / run_id / requests

    def kept_folder(self, run_id: str) -> Path:
        """Where a finished run's training is kept, as a checkpoint behind its last step."""
        return self.root / "kept" / run_id

    # the ledger

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record to the ledger, durably. A torn last line of an earlier crash is cut off first."""
        line = sealed_line(record)
        self.root.mkdir(parents=True, exist_ok=True)
        # Appends of two processes can mix on some file systems (NFS), and a torn line may only be cut while nobody
        # writes: so writers take turns.
        with self.locked("ledger"), self.ledger_path.open("a+b") as file:
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
        sync_folder(self.root)

    def records(self) -> list[dict[str, Any]]:
        """All whole records of the ledger, in the order they came. A torn last line is not a record; a damaged line
        in the middle raises `StoreDamaged` with its number."""
        if not self.ledger_path.exists():
            return []
        data = self.ledger_path.read_bytes()
        return _checked_records(data[: _whole_lines(data)], self.ledger_path, before=0)

    def follow(self) -> Ledger:
        """The ledger for a process that looks at it again and again: each look reads only what was added."""
        return Ledger(self)

    # runs

    def finished(self) -> dict[str, dict[str, Any]]:
        """The ledger's record of every finished run whose folder is there, by run id."""
        try:
            with os.scandir(
                self.root / "runs"
            ) as entries:  # one listing, where asking for each takes long for thousands
                there = {entry.name for entry in entries if entry.is_dir()}
        except FileNotFoundError:
            return {}
        return {
            record["run_id"]: record
            for record in self.records()
            if record.get("kind") == "run" and record["run_id"] in there
        }

    def further_answers(self) -> dict[str, list[dict[str, Any]]]:
        """The ledger's records of sets of requests that finished runs answered later, by run id."""
        found: dict[str, list[dict[str, Any]]] = {}
        for record in self.records():
            if record.get("kind") == "answers":
                folder = self.answers_folder(record["run_id"], record["requests"])
                if folder.is_dir() and record not in found.setdefault(record["run_id"], []):
                    found[record["run_id"]].append(record)
        return found

    @contextlib.contextmanager
    def claim(self, run_id: str) -> Iterator[bool]:
        """Hold the run for this process; yields False when another live process holds it. The lock dies with us."""
        path = self.root / "claims" / f"{run_id}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
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
        listing, data = _bytes_of(folder / MANIFEST), _bytes_of(folder / name)
        problem = None
        if listing is None or _checksum(listing) != manifest:
            problem = folder / MANIFEST
        elif data is None or _checksum(data) != json.loads(listing)["files"].get(name, {}).get("sha256"):
            problem = folder / name
        if problem is not None:
            raise StoreDamaged(f"{problem}: missing, or not as it was stored. Fix: {_train_anew(folder)}")
        assert data is not None
        return data

    # health

    def damages(self) -> list[Damage]:
        """Every file that is missing or does not match its checksum, with what can be recomputed."""
        # Goes on after each fault, so that one look tells all of them.
        found = _marker_damages(self.root / MARKER)
        try:
            records = self.records()
        except StoreDamaged as error:
            problem, _, remedy = str(error).partition(". Fix: ")
            return [*found, Damage(path=str(self.ledger_path), problem=problem, remedy=remedy)]
        if self.ledger_path.exists() and _torn(self.ledger_path.read_bytes()):
            remedy = "run the study again: the record is written anew"
            found.append(Damage(path=str(self.ledger_path), problem="the last line is cut short", remedy=remedy))
        runs = {record["run_id"]: record for record in records if record.get("kind") == "run"}
        for run_id, record in sorted(runs.items()):
            folder = self.run_folder(run_id)
            problems = check_manifest(folder, expected=record.get("manifest"))
            found += [_damage(problem, _train_anew(folder)) for problem in problems]
            found += _sealed_damages(folder / TIMING)
        for further in self.further_answers().values():
            for record in further:
                folder = self.answers_folder(record["run_id"], record["requests"])
                problems = check_manifest(folder, expected=record.get("manifest"))
                found += [_damage(problem, _train_anew(folder)) for problem in problems]
                found += _sealed_damages(folder / TIMING)
        found += self._work_damages()
        found += self._result_damages()
        for manifest in _manifests(self.root / "model"):
            remedy = f"delete {self.root / 'model'} and run the study again"
            found += [_damage(problem, remedy) for problem in check_manifest(manifest.parent)]
        for manifest in sorted(self.root.glob("kept/[!.]*/[!.]*/" + MANIFEST)):
            remedy = f"delete {manifest.parent}; the run is trained again, to the same bits, when it is asked more"
            found += [_damage(problem, remedy) for problem in check_manifest(manifest.parent)]
        for manifest in sorted(self.root.glob("weights/[!.]*/" + MANIFEST)):
            remedy = f"delete {manifest.parent}; export trains the arm again, to the same bits"
            found += [_damage(problem, remedy) for problem in check_manifest(manifest.parent)]
        return found

    def _work_damages(self) -> list[Damage]:
        """What is wrong with checkpoints and step reports of unfinished runs; the next attempt does without them."""
        remedy = "run the study again: the run goes on from an older checkpoint, or from its beginning"
        found = []
        for manifest in sorted(self.root.glob("work/[!.]*/[!.]*/" + MANIFEST)):
            found += [_damage(problem, remedy) for problem in check_manifest(manifest.parent)]
        for folder in sorted(self.root.glob("work/[!.]*")):
            _, damaged = read_sealed_lines(folder / STEPS)
            problem = "not as it was written in line " + ", ".join(map(str, damaged))
            found += [Damage(path=str(folder / STEPS), problem=problem, remedy=remedy)] if damaged else []
            found += _sealed_damages(folder / ABOUT)
        return found

    def _result_damages(self) -> list[Damage]:
        path = self.root / RESULTS
        found = _sealed_damages(path)
        if found or not path.exists():
            return found
        for name, checksum in read_sealed(path)["files"].items():
            file = self.root / name
            problem = "checksum differs" if file.is_file() else "missing"
            if not file.is_file() or hash_file(file) != checksum:
                found.append(Damage(path=str(file), problem=problem, remedy="run `titrant report` to write it again"))
        return found

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Wait for and hold a named lock of the store; it dies with the process."""
        path = self.root / "claims" / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


class Ledger:
    """The records of each run, as they were at the last `refresh`. A worker asks after every run of a study: reading
    the whole ledger each time would take time with the square of the runs."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._file: tuple[int, int] | None = None
        self._end = self._lines = 0
        self._by_run: dict[str, list[dict[str, Any]]] = {}

    def refresh(self) -> Ledger:
        """Read what was added since the last time; all of it where the file is no longer the one that was read."""
        try:
            with self._store.ledger_path.open("rb") as file:
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
        whole = _whole_lines(data)
        for record in _checked_records(data[:whole], self._store.ledger_path, before=self._lines):
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
            and self._store.run_folder(run_id).is_dir()
        )

    def has_answers(self, run_id: str, requests: str) -> bool:
        """Whether the run's answers to this further set of requests are recorded and there."""
        return (
            any(record.get("kind") == "answers" and record["requests"] == requests for record in self.of_run(run_id))
            and self._store.answers_folder(run_id, requests).is_dir()
        )

    def _forget(self) -> None:
        self._file = None
        self._end = self._lines = 0
        self._by_run = {}


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


def _train_anew(folder: Path) -> str:
    return f"delete {folder} and run the study again: the run is trained anew"


def _damage(problem: str, remedy: str) -> Damage:
    """`path: what is wrong`, as problems are said, with what can be done."""
    path, _, what = problem.partition(": ")
    return Damage(path=path, problem=what, remedy=remedy)


def _sealed_damages(path: Path) -> list[Damage]:
    """What is wrong with a sealed file; one that is not there is not missed."""
    try:
        if path.exists():
            read_sealed(path)
    except StoreDamaged:
        return [Damage(path=str(path), problem="not as it was written", remedy=_SEALED_REMEDY)]
    return []


def _marker_damages(marker: Path) -> list[Damage]:
    try:
        as_written = read_json(marker) == _MARKED
    except StoreDamaged:
        as_written = False
    if as_written:
        return []
    remedy = f"write {json.dumps(_MARKED)} into it"
    return [Damage(path=str(marker), problem="not as it was written", remedy=remedy)]


def _manifests(folder: Path) -> list[Path]:
    """The manifests of the models below `folder`: of the folder itself, or of its parts where a study has several."""
    if not folder.is_dir():
        return []
    found = [path for path in sorted(folder.rglob(MANIFEST)) if ".tmp-" not in path.as_posix()]
    return found or [folder / MANIFEST]


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


def _whole_lines(data: bytes) -> int:
    """How many leading bytes of a ledger are whole lines: a crash inside a write leaves a last line without its end."""
    return data.rfind(b"\n") + 1


def _end_of_whole_lines(file: BinaryIO) -> int:
    """`_whole_lines` of an open ledger, found from its end: a long ledger is not read for every line that is added."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _continues(file: BinaryIO, end: int, size: int) -> bool:
    """Whether a line still ends where reading stopped, so that what follows is what was added."""
    if end == 0:
        return True
    file.seek(end - 1)
    return size >= end and file.read(1) == b"\n"


def _torn(data: bytes) -> bool:
    return _whole_lines(data) != len(data)


_BEFORE, _BETWEEN, _AFTER = b'{"record":', b',"sum":"', b'"}'
_SUM_LENGTH = 16
_BLOCK_BYTES = 1 << 16


def _checked_records(data: bytes, path: Path, *, before: int) -> list[dict[str, Any]]:
    """The records in whole lines of a ledger, `before` lines into it; `StoreDamaged` names a line that is not whole."""
    records = []
    for number, line in enumerate(data.split(b"\n")[:-1], start=before + 1):
        record = _checked_record(line)
        if record is None:
            raise StoreDamaged(
                f"{path}:{number}: the record does not match its checksum. Fix: delete that line and "
                "run the study again: what it recorded is done anew"
            )
        records.append(record)
    return records


def _checked_record(line: bytes) -> dict[str, Any] | None:
    """The record of a line that is as `append` wrote it, byte for byte; None for any other."""
    # Cut at fixed places and compared with how `sealed_line` would write it, so that a line that says the same in other
    # bytes is damaged too: nobody else writes here.
    body, checksum = line[len(_BEFORE) : -_SUM_LENGTH - len(_BETWEEN + _AFTER)], line[-_SUM_LENGTH - len(_AFTER) :]
    whole = line == _BEFORE + body + _BETWEEN + checksum[:_SUM_LENGTH] + _AFTER
    if not whole or _checksum(body)[:_SUM_LENGTH].encode() != checksum[:_SUM_LENGTH]:
        return None
    try:
        record = json.loads(body.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _is_leftover(path: Path) -> bool:
    return path.name.startswith(".tmp-") or path.name == "claims"
