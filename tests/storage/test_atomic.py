"""Files under failing writes, writers that die, and company."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from titrant.storage.atomic import write_bytes


def test_a_file_is_durable_before_it_has_its_name_and_the_name_before_the_call_returns(
    tmp_path: Path, inject: Any
) -> None:
    counted = inject(None)
    write_bytes(tmp_path / "a", b"x")
    assert counted.names == ["write", "fsync", "rename", "fsync"]


WRITER = """
import os, sys, time
from pathlib import Path
import titrant.storage.atomic as atomic
def stop(*_):
    print("writing", flush=True)
    time.sleep(60)
os.replace = stop
atomic.write_bytes(Path(sys.argv[1]), b"half")
"""


def writer_of(path: Path) -> subprocess.Popen[str]:
    """A process in the middle of writing `path`, with its temporary file on the disk."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def temporaries(folder: Path) -> list[Path]:
    return sorted(folder.glob(".tmp-*"))


def aged(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_what_a_dead_writer_left_is_removed_by_the_next_and_a_living_ones_is_not(tmp_path: Path) -> None:
    writer = writer_of(tmp_path / "verdict.json")
    other = writer_of(tmp_path / "report.html")
    try:
        mine, its = temporaries(tmp_path)
        write_bytes(tmp_path / "verdict.json", b"whole")
        assert temporaries(tmp_path) == [mine, its], "both writers live"
        for each in (mine, its):
            aged(each, 10 * 24 * 3600)
        write_bytes(tmp_path / "verdict.json", b"whole")
        assert temporaries(tmp_path) == [mine, its], "a writer that sleeps for days is still not dead"
    finally:
        for process in (writer, other):
            process.kill()
            process.communicate()
    write_bytes(tmp_path / "verdict.json", b"whole again")
    (left,) = temporaries(tmp_path)
    assert left.name.endswith("-report.html"), "each file's writer looks after its own"
    assert (tmp_path / "verdict.json").read_bytes() == b"whole again"


@pytest.mark.parametrize("mark", ["999999", "1", "deadbeef0123456789abcdef", "0" * 40, "other-host-17"])
def test_a_writer_that_is_not_seen_from_here_is_given_up_after_a_day_and_not_before(tmp_path: Path, mark: str) -> None:
    # in another container a process number is another's, and over NFS a lock may not be seen
    left = tmp_path / f".tmp-{mark}-verdict.json"
    left.write_bytes(b"half")
    write_bytes(tmp_path / "verdict.json", b"whole")
    assert left.exists()
    aged(left, 23 * 3600)
    write_bytes(tmp_path / "verdict.json", b"whole")
    assert left.exists()
    aged(left, 25 * 3600)
    write_bytes(tmp_path / "verdict.json", b"whole")
    assert not left.exists()


def test_two_writers_never_share_a_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the first process of every container has the number 1
    monkeypatch.setattr(os, "getpid", lambda: 1)
    seen = []
    monkeypatch.setattr(os, "replace", lambda source, target: seen.append(Path(source)))
    for _ in range(3):
        write_bytes(tmp_path / "verdict.json", b"whole")
    assert len({path.name for path in seen}) == 3


def test_a_temporary_file_that_was_taken_for_abandoned_at_its_birth_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, taken = fcntl.flock, []

    def late(file: Any, kind: int) -> None:
        if not taken:
            taken.extend(temporaries(tmp_path))
            taken[0].unlink()
        lock(file, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    write_bytes(tmp_path / "verdict.json", b"whole")
    assert len(taken) == 1
    assert (tmp_path / "verdict.json").read_bytes() == b"whole"
    assert temporaries(tmp_path) == []
