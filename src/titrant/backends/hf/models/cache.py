"""`$TITRANT_CACHE` (else `~/.cache/titrant`): hashes of big files, and prepared models, each there whole or not at all.

hashes/<name>.json     SHA-256 of a big file, valid while its size, its times and its inode stay the same
models/<key>/          one prepared model with manifest.json; published by a rename
models/<key>.lock      held with flock by the process that prepares it; a dead process holds nothing
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from titrant.core.errors import ModelError, StoreDamaged
from titrant.core.identity import hash_file, hash_text
from titrant.storage.atomic import sync_folder
from titrant.storage.json_files import read_json, write_json
from titrant.storage.manifests import MANIFEST, write_manifest

_SETTLED_SECONDS = 2.0  # a file changed in the same clock tick as its hash would look unchanged


def cache_folder(cache: Path | None = None) -> Path:
    """`cache`, else `$TITRANT_CACHE`, else `~/.cache/titrant`; made where it is missing."""
    folder = cache or Path(os.environ.get("TITRANT_CACHE") or Path.home() / ".cache" / "titrant").expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


def cached_hash(path: Path, cache: Path) -> str:
    """The SHA-256 of a file's bytes; read again only when its size, times or inode have changed."""
    real = path.resolve()
    status = real.stat()
    # Change time and inode too: copying a file back with its old date keeps size and modification time.
    state = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    memory = cache / "hashes" / f"{hash_text(str(real), length=32)}.json"
    with contextlib.suppress(StoreDamaged, KeyError, TypeError):
        entry = read_json(memory)
        if entry["state"] == state:
            return str(entry["sha256"])
    digest = hash_file(real)
    if time.time() - max(status.st_mtime, status.st_ctime) > _SETTLED_SECONDS:
        with contextlib.suppress(OSError):  # a memory that cannot be written only costs time
            write_json(memory, {"path": str(real), "state": state, "sha256": digest})
    return digest


def cached_entry(cache: Path, key: str, build: Callable[[Path], None]) -> Path:
    """The folder of the prepared model `key`; `build` fills an empty folder when it is not there or is damaged.

    Processes that ask at once wait for the one that builds. A kill leaves only a name that starts with `.tmp-`, which
    the next builder removes.
    """
    models = cache / "models"
    entry = models / key
    if entry_is_whole(entry, cache):
        return entry
    try:
        models.mkdir(parents=True, exist_ok=True)
        with _locked(models / f"{key}.lock"):
            if not entry_is_whole(entry, cache):
                _publish(entry, build)
    except OSError as error:
        raise _unwritable(models, error) from error
    return entry


def entry_is_whole(entry: Path, cache: Path) -> bool:
    """Whether every file of the manifest is there with its size and checksum (checksums by `cached_hash`)."""
    if not (entry / MANIFEST).is_file():
        return False
    try:
        listed: dict[str, Any] = read_json(entry / MANIFEST)["files"]
        return all(
            (entry / name).is_file()
            and (entry / name).stat().st_size == facts["bytes"]
            and cached_hash(entry / name, cache) == facts["sha256"]
            for name, facts in listed.items()
        )
    except (StoreDamaged, KeyError, TypeError, AttributeError):
        return False


def _publish(entry: Path, build: Callable[[Path], None]) -> None:
    """Build under a temporary name, write the manifest (which syncs every file), rename. Called under the lock."""
    for leftover in entry.parent.glob(f".tmp-*-{entry.name}"):
        shutil.rmtree(leftover)
    temporary = entry.with_name(f".tmp-{os.getpid()}-{entry.name}")
    temporary.mkdir()
    try:
        build(temporary)
        write_manifest(temporary)
        sync_folder(temporary)
        if entry.exists():
            shutil.rmtree(entry)
        os.replace(temporary, entry)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(entry.parent)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _unwritable(folder: Path, error: OSError) -> ModelError:
    return ModelError(
        "the cache of prepared models cannot be written",
        where=str(folder),
        got=error.strerror or error,
        fix="make room or rights there, or point TITRANT_CACHE to another folder",
    )
