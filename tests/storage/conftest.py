"""Faults for files, and a folder in memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


class Faults:
    """Counts writes, fsyncs and renames under a folder, and makes the chosen one fail, a write after half its bytes."""

    def __init__(self, fail_at: int | None) -> None:
        self.fail_at, self.count, self.names = fail_at, 0, list[str]()

    def meets(self, name: str) -> bool:
        self.count += 1
        self.names.append(name)
        return self.count == self.fail_at


class FaultyFile:
    """A file whose writes are counted; everything else is the file's own."""

    def __init__(self, file: Any, faults: Faults) -> None:
        self._file, self._faults = file, faults

    def write(self, data: bytes) -> int:
        if self._faults.meets("write"):
            self._file.write(data[: len(data) // 2])
            self._file.flush()
            raise OSError(28, "No space left on device")
        return int(self._file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> FaultyFile:
        return self

    def __exit__(self, *details: object) -> None:
        self._file.close()


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: hundreds of fsyncs cost nothing there, and mean the same."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture
def inject() -> Iterator[Callable[[int | None], Faults]]:
    """Makes the N-th write, fsync or rename from now on fail; None only counts."""
    with pytest.MonkeyPatch.context() as patch:

        def start(fail_at: int | None) -> Faults:
            patch.undo()
            faults = Faults(fail_at)
            fsync, replace, opened = os.fsync, os.replace, Path.open

            def faulty_fsync(descriptor: int) -> None:
                if faults.meets("fsync"):
                    raise OSError(5, "Input/output error")
                fsync(descriptor)

            def faulty_replace(source: Any, target: Any) -> None:
                if faults.meets("rename"):
                    raise OSError(5, "Input/output error")
                replace(source, target)

            def faulty_open(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
                file = opened(self, mode, *arguments, **options)
                return FaultyFile(file, faults) if mode in ("wb", "a+b") else file

            patch.setattr(os, "fsync", faulty_fsync)
            patch.setattr(os, "replace", faulty_replace)
            patch.setattr(Path, "open", faulty_open)
            return faults

        start.stop = patch.undo  # type: ignore[attr-defined]
        yield start
