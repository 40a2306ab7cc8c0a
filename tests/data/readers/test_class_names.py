"""Numbers of classes are read as the names that the dataset has for them, and that is said."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import hub_mirror
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from titrant.data.readers import ReadingNotes, detect_shape, load_examples, load_items, read_rows
from titrant.experiment.prepare import file_hash

NAMES = ["negative", "neutral", "positive"]
FEATURES = {"text": {"dtype": "string", "_type": "Value"}, "label": {"names": NAMES, "_type": "ClassLabel"}}
CARD = """---
dataset_info:
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': negative
          '1': neutral
          '2': positive
---
"""
SAID = "the numbers in label are read as the names that the dataset has for them"


def features(names: list[str]) -> dict[str, Any]:
    return {**FEATURES, "label": {"names": names, "_type": "ClassLabel"}}


def table(labels: list[int | None], names: list[str] | None = None) -> pa.Table:
    """A table; with `names`, its schema names the classes as `datasets` writes it."""
    rows = pa.table({"text": [f"t{n}" for n in range(len(labels))], "label": pa.array(labels, pa.int64())})
    info = json.dumps({"info": {"features": features(names)}}) if names else None
    return rows.replace_schema_metadata({"huggingface": info}) if info else rows


def labels_of(path: Path | str) -> list[str | None]:
    return [row.label for row in load_examples(path, source="s", task="t", instruction="?")]


def lines_of(path: Path | str) -> list[str]:
    notes = ReadingNotes()
    load_examples(path, source="s", task="t", instruction="?", notes=notes)
    return [note.line.removeprefix(f"{path}: ") for note in notes.notes()]


def as_parquet(folder: Path) -> Path:
    pq.write_table(table([0, 2, 1], NAMES), folder / "rows.parquet")
    return folder / "rows.parquet"


def as_saved(folder: Path) -> Path:
    with pa.ipc.new_stream(folder / "data-00000-of-00001.arrow", table([0, 2, 1]).schema) as stream:
        stream.write_table(table([0, 2, 1]))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))
    return folder


def as_arrow(folder: Path) -> Path:
    rows = table([0, 2, 1], NAMES)
    with pa.ipc.new_stream(folder / "rows.arrow", rows.schema) as stream:
        stream.write_table(rows)
    return folder / "rows.arrow"


def as_folder_with_card(folder: Path) -> Path:
    (folder / "README.md").write_text(CARD)
    (folder / "train.csv").write_text("text,label\nt0,0\nt1,2\nt2,1\n")
    return folder


def as_folder_with_infos(folder: Path) -> Path:
    (folder / "dataset_infos.json").write_text(json.dumps({"default": {"features": FEATURES}}))
    (folder / "train.jsonl").write_text("".join(f'{{"text": "t", "label": {n}}}\n' for n in (0, 2, 1)))
    return folder


def as_parquet_in_zip(folder: Path) -> Path:
    inner = as_parquet(folder)
    with zipfile.ZipFile(folder / "rows.zip", "w") as archive:
        archive.write(inner, "rows.parquet")
    return folder / "rows.zip"


@pytest.mark.parametrize(
    "written", [as_parquet, as_arrow, as_saved, as_folder_with_card, as_folder_with_infos, as_parquet_in_zip]
)
def test_classes_go_by_the_names_that_the_dataset_has(tmp_path: Path, written: Any) -> None:
    place = written(tmp_path)
    assert labels_of(place) == ["negative", "positive", "neutral"]
    assert lines_of(place) == [SAID]


def test_the_instruction_that_is_proposed_lists_the_names(tmp_path: Path) -> None:
    pq.write_table(table([0, 1, 2] * 10, NAMES), tmp_path / "rows.parquet")
    assert "one of: negative, neutral, positive" in (
        detect_shape(tmp_path / "rows.parquet").suggested_instruction or ""
    )


def test_the_card_of_a_dataset_of_the_hub_names_its_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    files = {"README.md": CARD.encode(), "train.csv": b"text,label\na,0\nb,2\n"}
    with hub_mirror.running({"team/moods": files}) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        assert labels_of("hub:team/moods") == ["negative", "positive"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert labels_of("hub:team/moods") == ["negative", "positive"]


@pytest.mark.parametrize("config", ["stars", "moods"])
def test_a_configuration_has_its_own_names(tmp_path: Path, config: str) -> None:
    infos = {"stars": {"features": features(["bad", "good"])}, "moods": {"features": features(["sad", "glad"])}}
    (tmp_path / "dataset_infos.json").write_text(json.dumps(infos))
    for name in infos:
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.csv").write_text("text,label\na,0\nb,1\n")
    assert labels_of(f"{tmp_path}:{config}/train") == {"stars": ["bad", "good"], "moods": ["sad", "glad"]}[config]


def test_names_that_are_numbers_are_taken_only_where_the_file_holds_whole_numbers(tmp_path: Path) -> None:
    stars = ["1", "2", "3"]
    pq.write_table(table([0, 1, 2], stars), tmp_path / "rows.parquet")
    assert labels_of(tmp_path / "rows.parquet") == stars
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "dataset_infos.json").write_text(json.dumps({"default": {"features": features(stars)}}))
    (folder / "train.csv").write_text("text,label\na,1\nb,2\n")
    assert labels_of(folder) == ["1", "2"]
    assert lines_of(folder) == []


def test_a_table_that_holds_the_names_keeps_them(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(CARD)
    (tmp_path / "train.csv").write_text("text,label\na,neutral\nb,positive\n")
    assert labels_of(tmp_path) == ["neutral", "positive"]
    assert lines_of(tmp_path) == []


@pytest.mark.parametrize("number", [-1, None])
def test_the_number_of_no_class_is_a_missing_label(tmp_path: Path, number: int | None) -> None:
    pq.write_table(table([0, number, number], NAMES), tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match=r"rows\.parquet:2: the label is missing \(2 rows"):
        labels_of(tmp_path / "rows.parquet")


def test_a_letter_that_names_the_place_of_a_choice_is_read_as_that(tmp_path: Path) -> None:
    """As MMLU has it: `answer` is a class whose names are A, B, C and D."""
    info = {"info": {"features": {"answer": {"names": ["A", "B", "C", "D"], "_type": "ClassLabel"}}}}
    rows = pa.table({"question": ["q"] * 3, "choices": [["4", "3", "2", "1"]] * 3, "answer": [1, 2, 3]})
    pq.write_table(rows.replace_schema_metadata({"huggingface": json.dumps(info)}), tmp_path / "rows.parquet")
    items = load_items(
        tmp_path / "rows.parquet",
        eval_set="p",
        target="t",
        task="t",
        metric="accuracy",
        answer="choices",
        max_answer_tokens=8,
    )
    assert [item.references[0] for item in items] == ["3", "2", "1"]


def test_rows_that_are_no_examples_keep_their_numbers(tmp_path: Path) -> None:
    assert [row.values["label"] for row in read_rows(as_parquet(tmp_path))] == ["0", "2", "1"]


def test_the_names_are_part_of_what_was_read(tmp_path: Path) -> None:
    before = file_hash(str(as_folder_with_card(tmp_path)))
    (tmp_path / "README.md").write_text(CARD.replace("neutral", "mixed"))
    assert file_hash(str(tmp_path)) != before
