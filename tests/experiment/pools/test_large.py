"""Pools that are not held whole: the same draws, runs and mixes as from pools that are, in two readings."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_study import fake_prepare, write_study

import titrant.data.readers.large
from titrant.config.study import load_study
from titrant.core.errors import DataError
from titrant.data.readers import ReadingNotes, fetch_rows, index_rows, load_examples
from titrant.experiment.design import make_design
from titrant.experiment.pools import cuts
from titrant.experiment.prepare import PreparedStudy, prepare_study


@pytest.fixture(autouse=True)
def _few_to_spare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    monkeypatch.setattr(cuts, "_RESERVE", 2)


def all_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(titrant.data.readers.large, "LARGE_BYTES", 0)
    monkeypatch.setattr(titrant.data.readers.large, "LARGE_PACKED_BYTES", 0)


def study_of(folder: Path, rows: list[dict[str, Any]], *, name: str = "general.jsonl", **said: Any) -> Path:
    text = "".join(json.dumps(row) + "\n" + ("\n" if number % 5 == 0 else "") for number, row in enumerate(rows))
    arms = {"target_rows": [6], "doses": {"general": [4, 9, {"tokens": 400}]}, "seeds": 3}
    said = {"generalist": {"general": {"rows": name}}, "arms": arms, **said}
    path = write_study(folder, **said)
    (folder / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def pool(count: int) -> list[dict[str, Any]]:
    """Rows with some twice, and some that are the first row's again."""
    rows = [{"prompt": f"Say the word of row {n}.", "response": f"word {n}", "id": f"p{n}"} for n in range(count)]
    return [*rows, *rows[::7], *[rows[0]] * 3]


def runs(prepared: PreparedStudy) -> list[Any]:
    return [planned.run for planned in make_design(prepared).runs]


@pytest.mark.parametrize("name", ["general.jsonl", "general.jsonl.gz"])
def test_a_pool_that_is_not_held_whole_gives_the_same_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    study = load_study(study_of(tmp_path / "study", pool(600), name=name))
    whole = prepare_study(study)
    all_large(monkeypatch)
    part = prepare_study(study)
    held = part.models["toy-model"].pools["general"]
    assert len(held.rows) < held.read == whole.models["toy-model"].pools["general"].read
    assert runs(part) == runs(whole)


@pytest.mark.parametrize("count", [12, 30])
def test_a_pool_that_is_hardly_larger_than_the_dose_gives_the_same_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    study = load_study(study_of(tmp_path / "study", pool(count)))
    whole = runs(prepare_study(study))
    all_large(monkeypatch)
    assert runs(prepare_study(study)) == whole


def test_where_most_rows_are_taken_out_more_are_read_and_the_runs_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pool(150)
    for number, row in enumerate(rows):
        if number % 6:
            row["response"] = f"{number} " * 200  # longer than max_tokens
    said = {"training": {"passes": 2, "batch_rows": 4, "max_tokens": 200, "too_long": "drop"}}
    study = load_study(study_of(tmp_path / "study", rows, **said))
    whole = runs(prepare_study(study))
    all_large(monkeypatch)
    told: list[str] = []
    assert runs(prepare_study(study, say=told.append)) == whole
    assert any("reading general again" in line for line in told)


def test_a_pool_with_fewer_clean_rows_than_the_dose_is_refused_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_large(monkeypatch)
    study = load_study(study_of(tmp_path / "study", pool(4)))
    with pytest.raises(ValueError, match="a dose of 9 rows of 'general' is larger than what is left of it: 8 of 8"):
        make_design(prepare_study(study))


def test_a_large_file_is_read_twice_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = load_study(study_of(tmp_path / "study", pool(8_000)))
    all_large(monkeypatch)
    size = (tmp_path / "study" / "general.jsonl").stat().st_size
    read = 0
    plain = titrant.data.readers.lines._read

    def counted(*arguments: Any, name: str, line: int) -> bytes:
        nonlocal read
        data = plain(*arguments, name=name, line=line)
        read += len(data) if name.endswith("general.jsonl") else 0
        return data

    monkeypatch.setattr("titrant.data.readers.lines._read", counted)
    prepared = prepare_study(study)
    assert len(prepared.models["toy-model"].pools["general"].rows) < 200
    assert size < read <= 2 * size + 1000  # a first line is looked at before each reading


def test_a_row_that_changes_between_the_readings_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"p{n}", "response": "a"}) + "\n" for n in range(5)))
    index = index_rows(path)
    keys = {line: f"{index.digests[16 * n : 16 * n + 16].hex()}.0" for n, line in enumerate(index.lines)}

    def fetched() -> Iterator[str]:
        return (row.answer for row in fetch_rows(path, {3: keys[3]}, source="pool"))

    assert list(fetched()) == ["a"]
    path.write_text(path.read_text().replace('"p2", "response": "a"', '"p2", "response": "b"'))
    with pytest.raises(DataError, match=r"rows\.jsonl:3: this row changed"):
        list(fetched())


def test_a_fault_in_a_large_file_is_told_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    all_large(monkeypatch)
    path = study_of(tmp_path / "study", pool(30))
    with (tmp_path / "study" / "general.jsonl").open("a") as file:
        file.write('{"prompt": "no answer"}\n')
    with pytest.raises(DataError, match=r"general\.jsonl:\d+: .*answer is missing|general\.jsonl:\d+:"):
        prepare_study(load_study(path))


def test_a_large_file_is_read_by_the_same_code_rows_without_loss_and_notes_included(tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    rows = [
        {"system": "s", "prompt": f"p{n}", "completion": None, "response": "c", "train": n % 3 != 0, "url": "u"}
        for n in range(9)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    notes, whole_notes = ReadingNotes(), ReadingNotes()
    index = index_rows(path, notes=notes)
    whole = load_examples(path, source="pool", task="pool", notes=whole_notes)
    keys = {line: f"{index.digests[16 * at : 16 * at + 16].hex()}.0" for at, line in enumerate(index.lines)}
    assert list(index.lines) == [2, 3, 5, 6, 8, 9]
    assert tuple(fetch_rows(path, keys, source="pool")) == whole
    assert notes.notes() == whole_notes.notes()
    assert (notes.notes()[0].not_read, list(notes.notes()[0].left_out.values())) == ({"url": 9}, [3])
