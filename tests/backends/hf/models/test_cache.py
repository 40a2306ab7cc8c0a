"""Prepared models are there whole or not at all, whoever is killed and however many ask at once."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from titrant.backends.hf.models.cache import cache_folder, cached_entry, cached_hash
from titrant.core.errors import ModelError
from titrant.core.identity import hash_file


def write_file(text: str):
    def build(folder: Path) -> None:
        (folder / "file").write_text(text)

    return build


def refuse(folder: Path) -> None:
    raise AssertionError("built although it was there")


def test_an_entry_is_built_once(tmp_path: Path) -> None:
    entry = cached_entry(tmp_path, "k", write_file("x"))
    assert (entry / "file").read_text() == "x"
    assert cached_entry(tmp_path, "k", refuse) == entry


@pytest.mark.parametrize("damage", ["other", "xy", None])
def test_a_damaged_entry_is_built_again(tmp_path: Path, damage: str | None) -> None:
    entry = cached_entry(tmp_path, "k", write_file("whole"))
    (entry / "file").unlink()
    if damage is not None:
        (entry / "file").write_text(damage)
    assert (cached_entry(tmp_path, "k", write_file("whole")) / "file").read_text() == "whole"


def test_a_build_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("")
        raise ModelError("no")

    with pytest.raises(ModelError, match="no"):
        cached_entry(tmp_path, "k", fail)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["k.lock"]


WORKER = """
import os, sys, time
from pathlib import Path
from titrant.backends.hf.models.cache import cached_entry
def build(folder):
    (folder / "file").write_text("x")
    with open(sys.argv[2], "a") as log: log.write("built\\n")
    if sys.argv[3] == "die": os.kill(os.getpid(), 9)
    time.sleep(0.5)
cached_entry(Path(sys.argv[1]), "k", build)
"""


def worker(tmp_path: Path, what: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path / "c"), str(tmp_path / "log"), what])


def test_a_kill_while_building_leaves_nothing_half_made(tmp_path: Path) -> None:
    assert worker(tmp_path, "die").wait() == -9
    assert not (tmp_path / "c" / "models" / "k").exists()
    entry = cached_entry(tmp_path / "c", "k", write_file("x"))
    assert (entry / "file").read_text() == "x"
    assert sorted(path.name for path in entry.parent.iterdir()) == ["k", "k.lock"]


def test_two_processes_at_once_build_once(tmp_path: Path) -> None:
    both = [worker(tmp_path, "live") for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert (tmp_path / "log").read_text() == "built\n"


def test_a_hash_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_text("one")
    old = time.time() - 60
    os.utime(path, (old, old))
    first = cached_hash(path, tmp_path / "c")
    assert first == hash_file(path)
    path.write_text("two")
    os.utime(path, (old, old))  # same size, same modification time: the change time still tells
    assert cached_hash(path, tmp_path / "c") == hash_file(path) != first


def test_a_remembered_hash_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "big"
    path.write_text("one")
    monkeypatch.setattr("titrant.backends.hf.models.cache._SETTLED_SECONDS", -1.0)
    first = cached_hash(path, tmp_path / "c")
    memory = next((tmp_path / "c" / "hashes").iterdir())
    memory.write_text(json.dumps({**json.loads(memory.read_text()), "sha256": "remembered"}))
    assert cached_hash(path, tmp_path / "c") == "remembered" != first


def test_a_file_changed_this_very_moment_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_text("one")
    cached_hash(path, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TITRANT_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("TITRANT_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "titrant"


def test_a_cache_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="TITRANT_CACHE"):
        cache_folder(tmp_path / "file" / "cache")
