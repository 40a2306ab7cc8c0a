"""Files that are written whole or not at all.

Everything that must survive a crash goes through `write_bytes` (write, fsync, rename, fsync of the folder). A reader
therefore sees the old state or the new one. What a crash can leave are names that start with `.tmp-`; they are ignored
by every reader, and removed by a later writer of the same file once it is certain that nobody writes them
(`_remove_abandoned`).
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import glob
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from titrant.core.identity import hash_text

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # the same in all containers of a machine, another after each start
_MARK_LENGTH = 8
_ABANDONED_SECONDS = 24 * 3600.0


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


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text. Lone surrogates are kept as their three bytes."""
    write_bytes(path, text.encode("utf-8", "surrogatepass"))


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


def bytes_of(path: Path) -> bytes | None:
    """The bytes of a file; None where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


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
