"""A whole store under failing writes, kills and company."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import stores
from stores import RUNS, content, work

from titrant.core.errors import StoreMismatch
from titrant.storage.atomic import write_bytes
from titrant.storage.json_files import write_json
from titrant.storage.sealed import write_sealed
from titrant.storage.store import Store


def test_whichever_write_fsync_or_rename_fails_the_store_is_readable_and_a_retry_succeeds(
    roomy: Path, inject: Any
) -> None:
    counted = inject(None)
    work(roomy / "calm", ["a1"])
    inject.stop()
    calm = content(roomy / "calm")
    assert {"write", "fsync", "rename"} <= set(counted.names)
    assert counted.count > 30
    for number in range(1, counted.count + 1):
        root = roomy / str(number)
        inject(number)
        with pytest.raises(OSError):
            work(root, ["a1"])
        inject.stop()
        store = Store.open(root)
        assert set(store.finished()) <= {"a1"}
        assert store.damages() == []
        work(root, ["a1"])
        assert content(root) == calm, f"operation {number}, {counted.names[number - 1]}"
        assert Store.open(root).damages() == []


KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import stores
done = 0
def counted(real, last):
    def call(*arguments, **options):
        global done
        done += 1
        if done == last:
            os._exit(137)
        return real(*arguments, **options)
    return call
number, status = 0, None
while status != 0:
    number += 1
    child = os.fork()
    if not child:
        os.fsync, os.replace = counted(os.fsync, number), counted(os.replace, number)
        stores.work(Path(sys.argv[2]) / str(number), ["a1"])
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 137), status
print(number)
"""


def test_killed_before_any_fsync_or_rename_the_store_is_readable_and_goes_on(roomy: Path) -> None:
    work(roomy / "calm", ["a1"])
    calm = content(roomy / "calm")
    arguments = [sys.executable, "-c", KILLED, str(Path(stores.__file__).parent), str(roomy)]
    moments = int(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)
    assert moments > 20
    for number in range(1, moments):
        root = roomy / str(number)
        assert {damage.problem for damage in Store.open(root).damages()} <= {"the last line is cut short"}
        work(root, ["a1"])
        assert content(root) == calm, f"operation {number}"


def test_equal_runs_have_equal_manifests_whatever_their_timing(tmp_path: Path) -> None:
    one, other = work(tmp_path / "one"), work(tmp_path / "other")
    write_sealed(other.run_folder("a1") / "timing.json", {"seconds": 99})
    assert one.finished() == other.finished()
    assert other.damages() == []


def test_a_store_of_another_format_version_is_refused_by_name(tmp_path: Path) -> None:
    Store.open(tmp_path)
    write_json(tmp_path / "store.json", {"format": 99, "made_by": "titrant"})
    with pytest.raises(StoreMismatch, match=r"store\.json: .*got 'format 99'; expected format 2"):
        Store.open(tmp_path)


def test_a_foreign_folder_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(StoreMismatch, match="not a titration"):
        Store.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(StoreMismatch):
        Store.open(tmp_path / "thesis.tex")


def test_what_a_crash_left_before_the_first_file_is_no_foreign_folder(tmp_path: Path) -> None:
    (tmp_path / ".tmp-1-store.json").write_text("{")
    assert Store.open(tmp_path).records() == []


HOLDER = """
import sys, time
from pathlib import Path
from titrant.storage.store import Store
with Store.open(Path(sys.argv[1])).claim("a1") as mine:
    print(mine, flush=True)
    time.sleep(60)
"""


def test_a_claim_is_held_by_one_process_and_taken_over_when_that_one_dies(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with store.claim("a1") as mine:
            assert not mine
        with store.claim("b2") as mine:
            assert mine
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with store.claim("a1") as mine:
        assert mine
    with store.claim("a1") as mine:
        assert mine, "a claim that was let go can be taken again"


def test_beginning_again_starts_from_an_empty_folder_and_finishing_again_replaces(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    write_bytes(store.begin("a1") / "half", b"x")
    assert list(store.begin("a1").iterdir()) == []
    write_bytes(store.begin("a1") / "answers", b"first")
    store.finish("a1", {"status": "done"})
    write_bytes(store.begin("a1") / "answers", b"second")
    store.finish("a1", {"status": "done"})
    assert (store.run_folder("a1") / "answers").read_bytes() == b"second"
    assert set(store.finished()) == {"a1"}


def test_a_run_folder_that_the_ledger_does_not_know_is_not_finished(tmp_path: Path) -> None:
    store = work(tmp_path)
    write_bytes(store.run_folder("c3") / "answers", b"x")
    assert set(store.finished()) == set(RUNS)


def test_a_finished_run_keeps_no_checkpoints(tmp_path: Path) -> None:
    store = work(tmp_path)
    assert not any(store.work_folder(run_id).exists() for run_id in RUNS)
