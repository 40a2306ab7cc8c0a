"""The ledger: torn lines, company, and who follows it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from stores import flipped, work

import titrant.storage.sealed
from titrant.core.errors import StoreDamaged
from titrant.storage.store import Store


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
    plain = titrant.storage.sealed._checked_record
    monkeypatch.setattr("titrant.storage.sealed._checked_record", lambda line: checked.append(line) or plain(line))
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


def canonical_line(record: dict[str, Any]) -> bytes:
    """A record as the ledger holds it."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder))
        store.append(record)
        return store.ledger_path.read_bytes()


def test_a_line_is_added_without_reading_a_long_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(tmp_path)
    line = canonical_line({"kind": "note", "text": "x" * 300})
    store.ledger_path.write_bytes(line * 2000 + line[:200])
    monkeypatch.setattr("titrant.storage.sealed._BLOCK_BYTES", 100)  # many blocks back to the last whole line
    store.append({"kind": "note", "text": "last"})
    monkeypatch.undo()
    records = store.records()
    assert len(records) == 2001
    assert records[-1]["text"] == "last"
