"""Pinning a public pool: against a small mirror of the hub, from the card, and without network."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import hub_mirror
import pytest
from clock import own_seconds

from titrant.core.errors import DataError
from titrant.data.readers import Card, card, lock_key, pin, pin_at_first_use, read_lock, read_rows, write_lock

DOLLY = {
    "README.md": b"---\nlicense: cc-by-sa-3.0\ndataset_info:\n  splits:\n  - name: train\n    num_examples: 2\n---\n",
    "rows.jsonl": b'{"instruction": "a", "context": "", "response": "010"}\n'
    b'{"instruction": "b", "context": "c", "response": "no"}\n',
}
SCRIPTED = {
    "self_instruct/train/0000.parquet": hub_mirror.FILES["data/test-00000-of-00001.parquet"],
    "human_eval/train/0000.parquet": hub_mirror.FILES["data/train-00001-of-00002.parquet"],
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    repositories = {"databricks/databricks-dolly-15k": DOLLY, "yizhongw/self_instruct": SCRIPTED}
    with hub_mirror.running(repositories) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        yield


def test_a_pin_holds_what_the_hub_says_and_is_read_at_that_commit(hub: None, tmp_path: Path) -> None:
    found = pin(card("dolly"))
    assert (found.revision, found.licence, found.rows) == (hub_mirror.COMMIT, "cc-by-sa-3.0", 2)
    assert found.download_bytes == len(DOLLY["rows.jsonl"])
    assert not found.from_card
    assert [row.values["response"] for row in read_rows(found.place)] == ["010", "no"]


def test_what_the_hub_does_not_say_is_null(hub: None) -> None:
    found = pin(card("self_instruct"))
    assert (found.licence, found.rows) == (None, None)
    assert found.place == f"hub:yizhongw/self_instruct@{hub_mirror.COMMIT}:self_instruct/train"
    assert [row.values["prompt"] for row in read_rows(found.place)] == ["d"]


def test_a_source_is_pinned_when_it_is_first_used_and_never_asked_for_again(hub: None, tmp_path: Path) -> None:
    lock = tmp_path / "sources.lock.json"
    first = pin_at_first_use(card("dolly"), lock)
    hub_mirror.Mirror.asked.clear()
    assert pin_at_first_use(card("dolly"), lock) == first
    assert hub_mirror.Mirror.asked == []
    assert json.loads(lock.read_text())["sources"]["dolly"]["revision"] == hub_mirror.COMMIT


def test_a_commit_on_the_card_is_locked_without_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    found = pin_at_first_use(card("alpaca"), tmp_path / "lock.json")
    assert (found.revision, found.from_card, found.rows) == (card("alpaca").revision.value, True, 52002)


def test_two_parts_of_one_source_are_two_entries(tmp_path: Path) -> None:
    entry, lock = card("p3"), tmp_path / "lock.json"
    for part in ("one/train", "two/train"):
        assert pin_at_first_use(entry, lock, part=part).part == part
    assert sorted(read_lock(lock)) == ["p3:one/train", "p3:two/train"]
    assert lock_key(card("alpaca"), "train") == "alpaca"


def test_a_source_of_many_parts_wants_one_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="which part of p3"):
        pin_at_first_use(card("p3"), tmp_path / "lock.json")
    assert not (tmp_path / "lock.json").exists()


def test_without_network_the_error_names_what_is_missing_within_five_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "https://no.such.host.invalid")
    began = own_seconds()
    with pytest.raises(DataError, match=r"databricks/databricks-dolly-15k .*cannot be reached.*rows: FILE"):
        pin_at_first_use(card("dolly"), tmp_path / "lock.json")
    assert own_seconds() - began < 5
    assert not (tmp_path / "lock.json").exists()


def test_a_hub_that_is_switched_off_is_not_asked(hub: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match="HF_HUB_OFFLINE is set"):
        pin(card("dolly"))
    assert hub_mirror.Mirror.asked == []


@pytest.mark.parametrize(
    "content", ["", "[]", '{"format": 1}', '{"format": 9, "sources": {}}', '{"format": 1, "sources": {"a": {"x": 1}}}']
)
def test_a_damaged_lock_file_is_named(content: str, tmp_path: Path) -> None:
    lock = tmp_path / "sources.lock.json"
    lock.write_text(content)
    with pytest.raises(DataError, match=r"sources\.lock\.json: .*(no lock file|another version)"):
        read_lock(lock)


def test_a_lock_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    lock = tmp_path / "lock.json"
    entry: Card = card("alpaca")
    found = pin_at_first_use(entry, lock)
    write_lock(lock, {"b": replace(found, licence=None), "a": found})
    assert read_lock(lock) == {"a": found, "b": replace(found, licence=None)}
    assert lock.read_text().index('"a"') < lock.read_text().index('"b"')
