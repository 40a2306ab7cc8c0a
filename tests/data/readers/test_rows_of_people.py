"""Rows as people and their tools write them: sets put together, NaN, parts, places from 1, KTO, plain pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from titrant.core.errors import DataError
from titrant.data.readers import ReadingNotes, detect_shape, load_examples, load_items, read_rows


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def turns_of(path: Path, **options: Any) -> list[list[str]]:
    return [
        [f"{turn.role}: {turn.text}" for turn in row.turns]
        for row in load_examples(path, source="s", task="t", **options)
    ]


def line_of(path: Path, **options: Any) -> str:
    """What is told of a file beside its rows."""
    notes = ReadingNotes()
    load_examples(path, source="s", task="t", notes=notes, **options)
    return "; ".join(note.line.removeprefix(f"{path}: ") for note in notes.notes())


def fault_of(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        load_examples(path, source="s", task="t", **options)
    return str(caught.value)


def items_of(path: Path, **options: Any) -> list[str]:
    items = load_items(
        path, eval_set="p", target="t", task="t", metric="accuracy", answer="choices", max_answer_tokens=8, **options
    )
    return [item.references[0] for item in items]


def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


TALK = [said("user", "q"), said("assistant", "a")]
NO_TALK = {"messages": None, "conversations": None}


# --------------------------------------------------------------------------------------------------- sets put together


@pytest.mark.parametrize(
    ("one", "other", "line", "instruction"),
    [
        (
            {"messages": None, "instruction": "i", "output": "o"},
            {"messages": TALK, "instruction": None, "output": None},
            "rows without instruction and output are read in the layout messages (3 of 6 rows)",
            None,
        ),
        (
            {"conversations": TALK},
            {"conversations": None, "prompt": "i", "completion": "o"},
            "rows without messages are read in the layout prompt_completion (3 of 6 rows)",
            None,
        ),
        (
            {"question": "q", "answer": "a", "messages": None},
            {"question": None, "answer": None, "messages": TALK},
            "rows without question and answer are read in the layout messages (3 of 6 rows)",
            None,
        ),
        (
            {"text": "q", "label": "a", "input": None, "output": None},
            {"text": None, "label": None, "input": "i", "output": "o"},
            "rows without text and label are read in the layout input_output (3 of 6 rows)",
            "Decide.",
        ),
        (
            {"messages": [], "text": "a story"},
            {"messages": TALK, "text": None},
            "rows without text are read in the layout messages (3 of 6 rows)",
            None,
        ),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_a_row_that_lacks_a_part_is_read_in_the_layout_that_it_fills(
    tmp_path: Path, one: dict[str, Any], other: dict[str, Any], line: str, instruction: str | None, turned: bool
) -> None:
    rows = [other, one] * 3 if turned else [one, other] * 3
    path = jsonl(tmp_path / "rows.jsonl", *rows)
    assert len(turns_of(path, instruction=instruction)) == 6
    told = line_of(path, instruction=instruction)
    assert "(3 of 6 rows)" in told
    assert turned or line == told


def test_a_parquet_of_two_sets_is_read_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    table = pa.table({"messages": [TALK, None, TALK], "instruction": [None, "i", None], "response": [None, "o", None]})
    pq.write_table(table, path)
    assert [turns[-1] for turns in turns_of(path)] == ["assistant: a", "assistant: o", "assistant: a"]


def test_messages_of_two_writings_in_one_schema_are_read_by_the_fields_that_they_fill(tmp_path: Path) -> None:
    empty = {"role": None, "content": None, "from": None, "value": None}
    rows = [
        {"messages": [{**empty, "from": "human", "value": "q"}, {**empty, "from": "gpt", "value": "a"}]},
        {"messages": [{**empty, **turn} for turn in TALK]},
    ]
    path = jsonl(tmp_path / "rows.jsonl", *rows)
    assert turns_of(path) == [["user: q", "assistant: a"]] * 2
    assert line_of(path) == ""


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        # No row is read otherwise than the study says, or than its instruction allows.
        (
            [{"a": "x", "b": "y", "messages": None}, {"a": None, "b": None, "messages": TALK}],
            {"columns": {"prompt": "a", "completion": "b"}},
        ),
        (
            [{"text": "x", "label": "y", "messages": None}, {"text": None, "label": None, "messages": TALK}],
            {"instruction": "Decide."},
        ),
        ([{"instruction": "a", "output": "b", "text": "a b"}, {"instruction": "a", "output": "", "text": "a"}], {}),
    ],
)
def test_a_row_is_not_read_otherwise_than_the_study_says(
    tmp_path: Path, rows: list[dict[str, Any]], options: dict[str, Any]
) -> None:
    assert "rows.jsonl:2: the " in fault_of(jsonl(tmp_path / "rows.jsonl", *rows), **options)


# -------------------------------------------------------------------------------------------------- faults, told once


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"messages": "q and a"}, "the messages are not a list of turns (40 rows, this is the first; next lines 2, 3"),
        ({"messages": [said("user", "q")]}, "the conversation does not end with an answer (40 rows"),
        ({"messages": [said("user", ""), said("assistant", "a")]}, "turn 1 (user) has no text (40 rows"),
        ({"messages": [said("assistant", "a")]}, "the answer follows no question (40 rows"),
        ({"question": "q", "choices": ["a", "b"], "answer": 2}, "nor the place of one (40 rows"),
        ({"question": "q", "choices": ["a"], "answer": 0}, "not two or more different texts (40 rows"),
        ({"question": "q", "answers": [""]}, "the answer is empty (40 rows"),
        ({"instruction": "q", "output": "a", "history": "b"}, "the history is not a list (40 rows"),
        (
            {"prompt": TALK[:1], "completion": [*TALK, *TALK]},
            "the completion is not one turn of the assistant (40 rows",
        ),
    ],
)
def test_a_fault_of_every_row_is_told_once(tmp_path: Path, row: dict[str, Any], fault: str) -> None:
    told = fault_of(jsonl(tmp_path / "rows.jsonl", *[row] * 40))
    assert fault in told
    assert told.count("rows.jsonl:") == 1


def test_turns_with_the_same_fault_at_other_places_are_one_fault(tmp_path: Path) -> None:
    rows = [{"messages": [*TALK * n, said("user", " "), said("assistant", "a")]} for n in range(5)]
    assert "turn 1 (user) has no text (5 rows" in fault_of(jsonl(tmp_path / "rows.jsonl", *rows))


def test_labels_that_training_never_showed_are_each_told(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", *[{"text": "x", "label": f"x{n % 3}"} for n in range(30)])
    with pytest.raises(DataError, match="3 problems") as caught:
        items_of(path, choices=["y", "z"], instruction="?")
    assert "never seen in training, 'x2' (10 rows, this is the first; next lines 6, 9, 12, 15 …)" in str(caught.value)


# ------------------------------------------------------------------------------------------------------------------ NaN


@pytest.mark.parametrize(
    ("row", "turns", "columns"),
    [
        (
            '{"instruction": "i", "input": NaN, "context": "c", "output": "o"}',
            ["user: i\n\nc", "assistant: o"],
            "input",
        ),
        ('{"prompt": "p", "completion": NaN, "response": "r"}', ["user: p", "assistant: r"], "completion"),
        ('{"messages": NaN, "question": "q", "answer": "a", "note": NaN}', ["user: q", "assistant: a"], "messages"),
        (
            '{"system": "s", "messages": [{"role": "user", "content": "q", "name": NaN}, '
            '{"role": "assistant", "content": "a"}]}',
            ["system: s", "user: q", "assistant: a"],
            "messages",
        ),
    ],
)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_a_bare_nan_is_null_and_counted(tmp_path: Path, name: str, row: str, turns: list[str], columns: str) -> None:
    path = tmp_path / name
    rows = [row, row, row.replace("NaN", "null")]
    path.write_text("\n".join(rows) if name.endswith("l") else f"[{','.join(rows)}]")
    assert turns_of(path) == [turns] * 3
    assert f"NaN in {columns} is read as null (2 of 3 rows)" in line_of(path)


def test_a_label_of_nan_is_a_missing_label(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = ['{"text": "x", "label": "a"}', '{"text": "y", "label": NaN}'] * 20
    path.write_text("\n".join(reversed(rows)))
    assert "rows.jsonl:1: the label is NaN, a missing value (20 rows" in fault_of(path, instruction="?")
    path.write_text("\n".join(rows))
    assert "rows.jsonl:2: the label is NaN, a missing value (20 rows" in fault_of(path, instruction="?")
    assert [label.label for label in detect_shape(path).labels] == ["a"]


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.float16()])
def test_a_nan_of_a_table_is_null_and_an_infinity_unreadable(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "rows.parquet"
    numbers = pa.array([1.5, float("nan"), None], pa.float64()).cast(kind)
    pq.write_table(pa.table({"instruction": ["i"] * 3, "input": numbers, "output": ["o"] * 3}), path)
    assert [row.values["input"] for row in read_rows(path)] == ["1.5", None, None]
    assert line_of(path) == "NaN in input is read as null (1 of 3 rows)"
    endless = pa.array([1.5, float("inf")], pa.float64()).cast(kind)
    pq.write_table(pa.table({"prompt": ["p"] * 2, "completion": ["a", "b"], "perplexity": endless}), path)
    assert "not read: perplexity" in line_of(path)
    pq.write_table(pa.table({"prompt": ["p"] * 2, "completion": endless}), path)
    assert "rows.parquet:2: the completion is an infinite number (got inf" in fault_of(path)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "nan"])
def test_the_word_in_quotes_or_in_a_table_of_text_is_a_text(tmp_path: Path, value: str) -> None:
    assert turns_of(jsonl(tmp_path / "rows.jsonl", {"prompt": "p", "completion": value}))[0][1] == f"assistant: {value}"
    path = tmp_path / "rows.csv"
    path.write_text(f"prompt,completion\np,{value}\n")
    assert turns_of(path)[0][1] == f"assistant: {value}"
    assert line_of(path) == ""


def test_a_bare_infinity_that_nobody_reads_hinders_nobody(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "p", "completion": "c", "loss_before": Infinity}\n')
    assert line_of(path) == "not read: loss_before"
    path.write_text('{"prompt": "p", "completion": "c"}\n' + '{"prompt": Infinity, "completion": "c"}\n' * 3)
    assert "rows.jsonl:2: the prompt is an infinite number (3 rows" in fault_of(path)


# ---------------------------------------------------------------------------------------------------------------- parts


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (["a", "b"], "ab"),
        (["a ", {"type": "text", "text": "b"}], "a b"),
        ([{"text": "a"}, " ", {"type": "input_text", "text": "b"}], "a b"),
        ({"type": "text", "text": "a"}, "a"),
        ([{"type": "text", "text": "a", "image": None}], "a"),
    ],
)
def test_content_in_texts_and_parts_is_their_text(tmp_path: Path, content: Any, text: str) -> None:
    path = jsonl(tmp_path / "rows.jsonl", {"messages": [said("user", content), said("assistant", "z")]})
    assert turns_of(path) == [[f"user: {text}", "assistant: z"]]
    assert line_of(path) == ""


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        ({"type": "image"}, "parts that are no text (a part of type 'image')"),
        (
            {"type": "input_audio", "input_audio": {"data": "x"}},
            "parts that are no text (a part of type 'input_audio')",
        ),
        ({"type": "video_url", "video_url": "x"}, "parts that are no text (a part of type 'video_url')"),
        ({"type": "file", "file": {"file_id": "x"}}, "parts that are no text (a part of type 'file')"),
        ({"text": "see", "image": "a.png"}, "images (messages[].content[].image)"),
        ({"image_url": "x"}, "a part of a turn has no text"),
        ({"type": "text", "text": None}, "a part of a turn has no text"),
        ({"type": "text", "text": {"value": "x"}}, "a part of a turn has no text"),
        (None, "a part of a turn is neither text nor an object"),
    ],
)
def test_a_part_that_is_no_text_is_refused_once_with_its_count(tmp_path: Path, part: Any, fault: str) -> None:
    row = {"messages": [said("user", ["look", part]), said("assistant", "z")]}
    told = fault_of(jsonl(tmp_path / "rows.jsonl", {"messages": TALK}, *[row] * 30))
    assert told.startswith(f"{tmp_path}/rows.jsonl:2: ")
    assert fault in told
    assert "(30 rows, this is the first; next lines 3, 4, 5, 6 …)" in told


def test_fields_of_a_part_that_nobody_reads_are_said(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "q", "cache_control": {"type": "ephemeral"}}]
    path = jsonl(tmp_path / "rows.jsonl", {"messages": [said("user", parts), said("assistant", "z")]})
    assert line_of(path) == "not read: messages[].content[].cache_control"


# -------------------------------------------------------------------------------------------------------- places from 1


def questions(path: Path, choices: list[str], answers: list[Any], column: str = "answer") -> Path:
    return jsonl(path, *[{"question": "q", "choices": choices, column: answer} for answer in answers])


@pytest.mark.parametrize(
    ("choices", "answers", "column"),
    [
        (["a", "b", "c", "d"], [1, 2, 4, 3, 4] * 8, "answer"),
        (["a", "b"], [1, 2, 2, 1, 2] * 8, "answerKey"),
        (["x", "y", "z"], ["3", "1", "3", "2", "2"] * 8, "answer_index"),
    ],
)
def test_places_from_1_are_told_once_with_the_columns_that_mend_it(
    tmp_path: Path, choices: list[str], answers: list[Any], column: str
) -> None:
    path = questions(tmp_path / "rows.jsonl", choices, answers, column)
    told = fault_of(path)
    last = sum(int(answer) == len(choices) for answer in answers)
    assert f"nor the place of one ({last} rows, this is the first" in told
    assert told.count("rows.jsonl:") == 1
    assert f"columns: {{answer_number: {column}}}" in told
    assert items_of(path, columns={"answer_number": column}) == [choices[int(answer) - 1] for answer in answers]


def test_places_among_choices_that_are_numbers_can_be_read_in_every_way_that_is_offered(tmp_path: Path) -> None:
    choices = ["2", "3", "4", "5"]
    path = questions(tmp_path / "rows.jsonl", choices, [2, 3, 4] * 20)
    told = fault_of(path)
    assert told.count("rows.jsonl:") == told.count("\n") or "problems" not in told
    for name, gold in (("answer_text", ["2", "3", "4"]), ("answer_number", ["3", "4", "5"])):
        assert f"{{{name}: answer}}" in told
        assert items_of(path, columns={name: "answer"}) == gold * 20


@pytest.mark.parametrize("answers", [["5", "9", "5"], [7, 3, 9]])
def test_answers_by_text_and_by_place_name_the_column_in_the_fix(tmp_path: Path, answers: list[Any]) -> None:
    path = questions(tmp_path / "rows.jsonl", ["3", "5", "7", "9"], [*answers, 2, 2], "gold_answer")
    told = fault_of(path, columns={"answer": "gold_answer"})
    assert "rows.jsonl:4: answers are the text" in told
    assert "(2 rows, this is the first; next line 5)" in told
    assert "{answer_number: gold_answer} (from 1)" in told


@pytest.mark.parametrize(
    ("answers", "open_to_doubt"),
    [([1, 2, 1], True), ([1], True), ([2, 1, 0], False), (["b", "c"], False), ([0], False)],
)
def test_places_of_which_none_is_0_are_noted(tmp_path: Path, answers: list[Any], open_to_doubt: bool) -> None:
    path = questions(tmp_path / "rows.jsonl", ["x", "y", "z"], answers)
    told = line_of(path)
    assert ("count from 0" in told and "columns: {answer_number: answer}" in told) == open_to_doubt
    name = "answer_letter" if answers == ["b", "c"] else "answer_index"
    assert line_of(path, columns={name: "answer"}) == ""


# ------------------------------------------------------------------------------------------------------------------ KTO


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "p", "completion": "c"},
        {"prompt": [said("user", "p")], "completion": [said("assistant", "c")]},
        {"messages": TALK},
        {"instruction": "p", "chosen_response": "c"},
    ],
)
@pytest.mark.parametrize("marks", [(True, False), ("True", "False"), ("true", "false")])
def test_answers_that_kto_marks_false_are_left_out_and_counted(
    tmp_path: Path, row: dict[str, Any], marks: tuple[Any, Any]
) -> None:
    path = jsonl(tmp_path / "rows.jsonl", {**row, "label": marks[0]}, *[{**row, "label": marks[1]}] * 3)
    assert len(turns_of(path)) == 1
    told = line_of(path)
    assert "3 of 4 rows are left out: label is false: the answer is not to be learned" in told
    assert "as KTO has it (if it is a class: columns: {label: label})" in told
    assert len(turns_of(path, columns={"label": "label"})) == 4


@pytest.mark.parametrize(
    "rows",
    [
        [{"prompt": "p", "completion": "c", "label": label} for label in ("spam", "ham")],
        [{"prompt": "p", "completion": "c", "label": label} for label in (0, 1)],
        [{"prompt": "is it so?", "completion": label, "label": label} for label in ("true", "false")],
        [{"prompt": "is it so?", "completion": label, "label": label} for label in (True, False)],
    ],
)
def test_a_label_that_is_a_class_is_no_mark_and_is_said(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    path = jsonl(tmp_path / "rows.jsonl", *rows)
    assert len(turns_of(path)) == 2
    assert line_of(path) == "not read: label"


def test_a_label_of_true_and_false_of_a_text_is_its_class(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", *[{"text": "t", "label": label} for label in (True, False)])
    assert [turns[-1] for turns in turns_of(path, instruction="?")] == ["assistant: true", "assistant: false"]


@pytest.mark.parametrize(
    ("row", "turns"),
    [
        ({"prompt": "p", "chosen": "a", "rejected": "b"}, ["user: p", "assistant: a"]),
        ({"prompt": "q", "chosen": TALK, "rejected": TALK}, ["user: q", "assistant: a"]),
        ({"prompt": TALK[:1], "chosen": TALK[1:], "rejected": TALK[1:]}, ["user: q", "assistant: a"]),
        ({"question": "p", "chosen": {"from": "gpt", "value": "a"}, "rejected": "b"}, ["user: p", "assistant: a"]),
    ],
)
def test_of_a_preference_the_chosen_answer_is_read_and_the_other_is_said(
    tmp_path: Path, row: dict[str, Any], turns: list[str]
) -> None:
    path = jsonl(tmp_path / "rows.jsonl", row)
    assert turns_of(path) == [turns]
    assert line_of(path) == "not read: rejected"


def test_a_preference_without_a_prompt_is_refused_with_what_reads_it(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", {"chosen": TALK, "rejected": TALK})
    assert "there is no prompt" in (told := fault_of(path))
    assert "Fix: columns: {messages: chosen}" in told
    assert turns_of(path, columns={"messages": "chosen"}) == [["user: q", "assistant: a"]]


# ---------------------------------------------------------------------------------------------------------- plain roles


@pytest.mark.parametrize("name", ["system", "system_prompt", "system_message"])
@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        {"question": "q", "response": "a"},
        {"instruction": "q", "chosen_response": "a"},
        {"inputs": "q", "targets": "a"},
        {"query": "q", "response": "a"},
        {"problem": "q", "solution": "a"},
        {"prompt": "q", "answer": "a"},
        {"question": "q", "answer": "a"},
        {"instruction": "q", "response": "a"},
    ],
)
def test_a_system_column_of_any_name_is_a_system_turn_before_any_plain_pair(
    tmp_path: Path, name: str, row: dict[str, Any]
) -> None:
    path = jsonl(tmp_path / "rows.jsonl", {name: "s", **row})
    assert turns_of(path) == [["system: s", "user: q", "assistant: a"]]
    assert line_of(path) == ""


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ({"question": "q", "reply": "a"}, ("question is read as the question", "there is no answer (answer, answers,")),
        ({"output": "q", "who": "a"}, ("output is read as the output", "there is no instruction (instruction)")),
        ({"premise": "q", "hypothesis": "a"}, ("premise+hypothesis is read as the text", "there is no label (label)")),
        ({"chosen": "q", "rejected": "a"}, ("chosen is read as the response", "there is no prompt (prompt, instruct")),
    ],
)
def test_columns_of_no_layout_are_told_by_what_was_there_and_what_is_lacking(
    tmp_path: Path, row: dict[str, Any], parts: tuple[str, ...]
) -> None:
    told = fault_of(jsonl(tmp_path / "rows.jsonl", row))
    assert all(part in told for part in parts), told


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"Question": "q", "Answer": "a"}, {"question": "Question", "answer": "Answer"}),
        ({"Instruction": "q", "Response": "a"}, {"instruction": "Instruction", "response": "Response"}),
        ({"PROMPT": "q", "completion": "a"}, {"prompt": "PROMPT"}),
    ],
)
def test_columns_in_other_case_are_offered_and_found(
    tmp_path: Path, row: dict[str, Any], columns: dict[str, str]
) -> None:
    path = jsonl(tmp_path / "rows.jsonl", row)
    fix = ", ".join(f"{name}: {column}" for name, column in columns.items())
    assert f"Fix: columns: {{{fix}}}" in fault_of(path)
    assert turns_of(path, columns=columns) == [["user: q", "assistant: a"]]
    assert dict(detect_shape(path).suggested_columns) == columns


def test_parts_within_a_column_are_pointed_out(tmp_path: Path) -> None:
    told = fault_of(jsonl(tmp_path / "rows.jsonl", {"custom_id": "1", "body": {"model": "m", "messages": TALK}}))
    assert "the parts stand within body" in told
    assert "jq -c .body" in told
