"""What is hashed of a study's places is what was read of them, and nothing beside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_study
import hub_mirror
import pytest

from titrant.api import run_study
from titrant.config.study import load_study
from titrant.core.errors import DataError
from titrant.data.readers import read_rows
from titrant.engines import BackendSpec
from titrant.experiment import prepare
from titrant.experiment.prepare import file_hash

ROW = '{"prompt": "p", "completion": "c"}\n'


def git(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("ref: refs/heads/main")


def version_folder(folder: Path) -> None:
    (folder / "v1.0").mkdir()
    (folder / "v1.0" / "notes.txt").write_text("x")


def metadata(folder: Path) -> None:
    (folder / "dataset_infos.json").write_text("{}")
    (folder / ".cache.d").mkdir()


BESIDE = {"git": git, "a version's folder": version_folder, "metadata": metadata}


@pytest.mark.parametrize("beside", BESIDE)
def test_what_lies_beside_the_rows_of_a_folder_is_neither_read_nor_hashed(beside: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(ROW)
    before = file_hash(str(tmp_path))
    BESIDE[beside](tmp_path)
    assert file_hash(str(tmp_path)) == before
    assert len(list(read_rows(tmp_path))) == 1


@pytest.mark.parametrize("change", ["bytes", "name", "another file"])
def test_a_folder_s_hash_is_of_the_names_and_bytes_that_are_read(change: str, tmp_path: Path) -> None:
    for copy in ("one", "two"):
        (tmp_path / copy / "v1.0").mkdir(parents=True)
        (tmp_path / copy / "v1.0" / "rows.jsonl").write_text(ROW)
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    assert file_hash(one) == file_hash(two)
    rows = tmp_path / "two" / "v1.0" / "rows.jsonl"
    if change == "bytes":
        rows.write_text(ROW.replace("c", "d"))
    elif change == "name":
        rows.rename(rows.with_name("others.jsonl"))
    else:
        (rows.parent / "more.jsonl").write_text(ROW)
    assert file_hash(one) != file_hash(two)


def test_a_split_s_hash_is_of_its_own_files_alone(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(ROW)
    before = file_hash(f"{tmp_path}:train")
    (tmp_path / "test.jsonl").write_text(ROW * 2)
    assert file_hash(f"{tmp_path}:train") == before
    (tmp_path / "train.jsonl").write_text(ROW * 2)
    assert file_hash(f"{tmp_path}:train") != before


def test_a_hub_dataset_s_hash_is_of_the_commit_that_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    hashes = {}
    for commit, prompt in (("a" * 40, "old"), ("b" * 40, "new")):
        monkeypatch.setattr(hub_mirror, "COMMIT", commit)
        row = json.dumps({"prompt": prompt, "completion": "c"}).encode() + b"\n"
        with hub_mirror.running({"team/rows": {"rows.jsonl": row}}) as endpoint:
            monkeypatch.setenv("HF_ENDPOINT", endpoint)
            assert [row.values["prompt"] for row in read_rows("hub:team/rows")] == [prompt]
            hub_mirror.Mirror.asked.clear()
            hashes[commit] = file_hash("hub:team/rows")
            assert hub_mirror.Mirror.asked == [], "a report must not fail for want of a network"
    assert len(set(hashes.values())) == 2
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert [row.values["prompt"] for row in read_rows("hub:team/rows")] == ["new"]
    assert file_hash("hub:team/rows") == hashes["b" * 40]
    with pytest.raises(DataError, match="no longer in the cache"):
        file_hash("hub:team/others")


@pytest.mark.parametrize("beside", BESIDE)
def test_a_pool_in_a_folder_with_other_things_is_trained_and_reported(
    beside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "prepare", fake_study.fake_prepare(tmp_path / "tokenizer"))
    path = fake_study.write_study(tmp_path / "study")
    pool = tmp_path / "study" / "pool"
    pool.mkdir()
    (tmp_path / "study" / "general.jsonl").rename(pool / "general.jsonl")
    BESIDE[beside](pool)
    said: dict[str, Any] = json.loads(path.read_text())
    said["generalist"] = {"general": {"rows": "pool"}}
    path.write_text(json.dumps(said))
    run_study(
        load_study(path),
        out=tmp_path / "out",
        jobs=0,
        backend=BackendSpec(module="titrant.backends.fake", name="FakeBackend"),
    )
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_folder_of_tasks_is_hashed_as_it_is_read(tmp_path: Path, task_study: Callable[..., Path]) -> None:
    from titrant.experiment.collections import collection_places
    from titrant.experiment.prepare import collection_hash

    collection = load_study(task_study(tmp_path)).targets["s"].collection
    assert collection is not None
    (place, *_) = collection_places(collection)
    before = collection_hash(collection, place)
    (tmp_path / "tasks" / "v1.0").mkdir()
    assert collection_hash(collection, place) == before
    (tmp_path / "tasks" / "task1_test_x.json").write_text("{}")
    assert collection_hash(collection, place) != before


@pytest.fixture
def task_study() -> Callable[..., Path]:
    def write(folder: Path) -> Path:
        (folder / "tasks").mkdir()
        for name in ("task1_train_x", "task1_test_x"):
            (folder / "tasks" / f"{name}.json").write_text('{"Definition": "d"}')
        path = folder / "study.yaml"
        path.write_text(
            "name: s\nmodel: org/name\ntarget: {collection: {superni: ., test_share: 0.5}, metric: by_task, "
            "answer: by_task}\n"
        )
        return path

    return write
