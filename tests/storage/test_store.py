"""The store under failing writes, kills, flipped bits and company."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import titrant.storage.store
from titrant.core.errors import StoreDamaged, StoreMismatch
from titrant.core.identity import hash_file
from titrant.storage.store import (
    Store,
    check_manifest,
    read_json,
    read_jsonl,
    sealed_line,
    write_bytes,
    write_json,
    write_jsonl,
    write_manifest,
    write_sealed,
    write_text,
)

RUNS = ("a1", "b2")
ANSWERS = [{"item": number, "text": "été \ud800" * number} for number in range(5)]


def work(root: Path, runs: Sequence[str] = RUNS) -> Store:
    """What a study does to a store: runs, each done once, then the results. May be called again after anything."""
    store = Store.open(root)
    for run_id in runs:
        if run_id in store.finished():
            continue
        with store.claim(run_id) as mine:
            assert mine
            write_bytes(store.work_folder(run_id) / "checkpoint", b"weights so far")
            folder = store.begin(run_id)
            write_json(folder / "run.json", {"id": run_id, "settings": {"rate": 0.5}})
            write_jsonl(folder / "answers.jsonl", ANSWERS)
            write_text(folder / "log" / "steps.txt", "1\n2\n")
            write_sealed(folder / "timing.json", {"seconds": 1})
            store.finish(run_id, {"status": "done"})
    write_json(root / "verdict.json", {"verdict": "mix"})
    write_sealed(root / "results.json", {"files": {"verdict.json": hash_file(root / "verdict.json")}})
    return store


def content(root: Path) -> dict[str, Any]:
    """All that readers of results see: no leftovers, no locks, no checkpoints; the ledger as the set of its records."""
    names = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    files = {
        name.as_posix(): (root / name).read_bytes()
        for name in names
        if name.parts[0] not in ("claims", "work", "ledger.jsonl")
        and not any(part.startswith(".tmp-") for part in name.parts)
    }
    records = sorted({json.dumps(record, sort_keys=True) for record in Store.open(root).records()})
    return {"files": files, "records": records}


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


def test_a_file_is_durable_before_it_has_its_name_and_the_name_before_the_call_returns(
    tmp_path: Path, inject: Any
) -> None:
    counted = inject(None)
    write_bytes(tmp_path / "a", b"x")
    assert counted.names == ["write", "fsync", "rename", "fsync"]


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
import test_store
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
        test_store.work(Path(sys.argv[2]) / str(number), ["a1"])
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 137), status
print(number)
"""


def test_killed_before_any_fsync_or_rename_the_store_is_readable_and_goes_on(roomy: Path) -> None:
    work(roomy / "calm", ["a1"])
    calm = content(roomy / "calm")
    arguments = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(roomy)]
    moments = int(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)
    assert moments > 20
    for number in range(1, moments):
        root = roomy / str(number)
        assert {damage.problem for damage in Store.open(root).damages()} <= {"the last line is cut short"}
        work(root, ["a1"])
        assert content(root) == calm, f"operation {number}"


def test_a_torn_last_line_is_no_record_and_is_cut_off_by_the_next(roomy: Path) -> None:
    store = work(roomy)
    before = store.records()
    whole = store.ledger_path.read_bytes()
    line = whole.splitlines(keepends=True)[-1]
    for length in range(1, len(line)):
        store.ledger_path.write_bytes(whole + line[:length])
        assert store.records() == before
        assert [damage.problem for damage in store.damages()] == ["the last line is cut short"]
    store.append({"kind": "note"})
    assert store.records() == [*before, {"kind": "note"}]
    assert store.damages() == []


def test_a_record_keeps_every_text_that_python_can_hold(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    record = {"kind": "note", "text": "\ud800 \u2028 é \x00", "number": 0.1}
    store.append(record)
    assert store.records() == [record]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=5), st.one_of(st.text(max_size=9), st.integers()), max_size=3)))
def test_json_lines_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, values: list[Any]) -> None:
    path = tmp_path_factory.mktemp("lines") / "rows.jsonl"
    write_jsonl(path, values)
    assert read_jsonl(path) == values


def test_not_a_number_is_refused_and_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"loss": 1.0})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert read_json(tmp_path / "a.json") == {"loss": 1.0}


def test_missing_and_unreadable_files_are_damage_with_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"a": \xff')
    for read in (read_json, read_jsonl):
        with pytest.raises(StoreDamaged, match=r"a\.json"):
            read(tmp_path / "a.json")
        with pytest.raises(StoreDamaged, match=r"b\.json: missing"):
            read(tmp_path / "b.json")


@pytest.mark.parametrize("content", [b"1,2\n", b"[1\n2]\n", b'{"a": 1}{"b": 2}\n', b"]\n["])
def test_lines_that_are_no_values_of_their_own_are_damage(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(StoreDamaged, match=r"a\.jsonl: not readable as JSON Lines"):
        read_jsonl(tmp_path / "a.jsonl")


WRITER = """
import os, sys, time
from pathlib import Path
import titrant.storage.store as store
def stop(*_):
    print("writing", flush=True)
    time.sleep(60)
os.replace = stop
store.write_bytes(Path(sys.argv[1]), b"half")
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


# ------------------------------------------------------------------------------------------------------------ checksums


def canonical_line(record: dict[str, Any]) -> bytes:
    """A record as the ledger holds it."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder))
        store.append(record)
        return store.ledger_path.read_bytes()


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def with_model(root: Path) -> Store:
    store = work(root)
    write_bytes(root / "model" / "weights.bin", b"\x01\x02\x03\x04")
    write_manifest(root / "model")
    return store


def test_one_flipped_bit_in_any_file_is_named(tmp_path: Path) -> None:
    store = with_model(tmp_path)
    assert store.damages() == []
    files = [path for path in tmp_path.rglob("*") if path.is_file() and "claims" not in path.parts]
    checked = [path for path in files if path != tmp_path / "model" / "manifest.json"]
    assert len(checked) == 15
    for path in checked:
        data = path.read_bytes()
        for place in {0, len(data) // 2, len(data) - 1}:
            path.write_bytes(flipped(data, place))
            named = store.damages()
            assert [damage.path for damage in named] == [str(path)], f"{path} at {place}"
            assert named[0].remedy
        path.write_bytes(data)
    assert store.damages() == []


def test_damaged_checkpoints_and_step_reports_are_named_and_a_line_in_the_making_is_not(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    folder = store.work_folder("a1")
    write_sealed(folder / "about.json", {"run_id": "a1"})
    write_bytes(folder / "step-00000001" / "weights", b"\x01\x02")
    write_manifest(folder / "step-00000001")
    (folder / "steps.jsonl").write_bytes(sealed_line({"step": 1}) + sealed_line({"step": 2}) + b'{"record":')
    (folder / ".tmp-checkpoint-2").mkdir()
    assert store.damages() == []
    for path in (folder / "about.json", folder / "step-00000001" / "weights", folder / "steps.jsonl"):
        data = path.read_bytes()
        path.write_bytes(flipped(data, len(data) // 3))
        assert [damage.path for damage in store.damages()] == [str(path)]
        path.write_bytes(data)


def test_a_flip_anywhere_in_a_manifest_without_a_checksum_of_its_own_is_found(roomy: Path) -> None:
    store = with_model(roomy)
    manifest = roomy / "model" / "manifest.json"
    data = manifest.read_bytes()
    for place in range(len(data)):
        for bit in range(8):
            manifest.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
            assert store.damages(), (place, bit)
    manifest.unlink()
    assert [(damage.path, damage.problem) for damage in store.damages()] == [(str(manifest), "missing")]


def test_a_flip_anywhere_in_the_ledger_is_found(roomy: Path) -> None:
    store = work(roomy)
    data = store.ledger_path.read_bytes()
    for place in range(len(data)):
        store.ledger_path.write_bytes(flipped(data, place))
        assert [damage.path for damage in store.damages()] == [str(store.ledger_path)], place


def test_a_missing_a_shortened_and_a_lengthened_file_are_named(tmp_path: Path) -> None:
    store = work(tmp_path)
    path = store.run_folder("a1") / "answers.jsonl"
    data = path.read_bytes()
    for changed in (data[:-1], data + b"\n", b""):
        path.write_bytes(changed)
        assert [damage.path for damage in store.damages()] == [str(path)]
    path.unlink()
    assert [(damage.path, damage.problem) for damage in store.damages()] == [(str(path), "missing")]


def test_a_manifest_lists_every_file_but_itself_the_timing_and_leftovers(tmp_path: Path) -> None:
    for name in ("a", "deep/b", "timing.json", ".tmp-1-c", ".tmp-folder/d"):
        write_bytes(tmp_path / name, b"x")
    digest = write_manifest(tmp_path)
    assert set(read_json(tmp_path / "manifest.json")["files"]) == {"a", "deep/b"}
    assert check_manifest(tmp_path, expected=digest) == []
    assert check_manifest(tmp_path, expected="0" * 64) == [
        f"{tmp_path}/manifest.json: checksum differs from the ledger's"
    ]


def test_equal_runs_have_equal_manifests_whatever_their_timing(tmp_path: Path) -> None:
    one, other = work(tmp_path / "one"), work(tmp_path / "other")
    write_sealed(other.run_folder("a1") / "timing.json", {"seconds": 99})
    assert one.finished() == other.finished()
    assert other.damages() == []


# ---------------------------------------------------------------------------------------------------------- whose it is


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


APPENDER = """
import sys
from pathlib import Path
from titrant.storage.store import Store
store = Store.open(Path(sys.argv[1]))
for number in range(40):
    store.append({"kind": "note", "from": sys.argv[2], "number": number})
"""


def test_two_processes_append_without_losing_a_record(tmp_path: Path) -> None:
    Store.open(tmp_path)
    writers = [subprocess.Popen([sys.executable, "-c", APPENDER, str(tmp_path), name]) for name in "xy"]
    assert [writer.wait() for writer in writers] == [0, 0]
    records = Store.open(tmp_path).records()
    for name in "xy":
        assert [record["number"] for record in records if record["from"] == name] == list(range(40))


def test_who_follows_the_ledger_sees_what_others_add_and_reads_no_line_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, checked = Store.open(tmp_path), list[bytes]()
    ledger = store.follow()
    assert ledger.refresh().of_run("a1") == ()
    plain = titrant.storage.store._checked_record
    monkeypatch.setattr("titrant.storage.store._checked_record", lambda line: checked.append(line) or plain(line))
    for number in range(30):
        store.run_folder(f"r{number}").mkdir(parents=True)
        store.append({"kind": "run", "run_id": f"r{number}"})
        ledger.refresh()
        assert ledger.is_finished(f"r{number}")
        assert not ledger.is_finished(f"r{number + 1}")
    assert len(checked) == 30
    store.run_folder("r3").rmdir()
    assert not ledger.refresh().is_finished("r3")


def test_who_follows_the_ledger_starts_anew_where_it_is_no_longer_the_file_that_was_read(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    for run_id in ("a1", "b2", "c3"):
        store.append({"kind": "failure", "run_id": run_id})
    ledger = store.follow().refresh()
    lines = store.ledger_path.read_bytes().splitlines(keepends=True)
    store.ledger_path.write_bytes(lines[0] + lines[2])
    assert [len(ledger.refresh().of_run(run_id)) for run_id in ("a1", "b2", "c3")] == [1, 0, 1]
    with store.ledger_path.open("ab") as file:
        file.write(b'{"record":')  # a line in the making is no record yet
    assert len(ledger.refresh().of_run("a1")) == 1
    store.ledger_path.unlink()
    assert ledger.refresh().of_run("a1") == ()
    store.ledger_path.write_bytes(flipped(lines[0], 20))
    with pytest.raises(StoreDamaged, match=r"ledger\.jsonl:1"):
        ledger.refresh()


def test_a_line_is_added_without_reading_a_long_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(tmp_path)
    line = canonical_line({"kind": "note", "text": "x" * 300})
    store.ledger_path.write_bytes(line * 2000 + line[:200])
    monkeypatch.setattr("titrant.storage.store._BLOCK_BYTES", 100)  # many blocks back to the last whole line
    store.append({"kind": "note", "text": "last"})
    monkeypatch.undo()
    records = store.records()
    assert len(records) == 2001
    assert records[-1]["text"] == "last"


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
