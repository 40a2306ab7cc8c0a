"""Every shape the field uses, from a file to turns."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from titrant.core.errors import DataError
from titrant.data.readers import detect_shape, load_examples, load_items


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def turns_of(path: Path, **options: Any) -> list[tuple[str, str]]:
    example = load_examples(path, source="s", task="t", **options)[0]
    return [(turn.role, turn.text) for turn in example.turns]


@pytest.mark.parametrize(
    ("row", "options", "expected"),
    [
        (
            {"instruction": "Add.", "input": "1 2", "output": "3"},
            {},
            [("user", "Add.\n\n1 2"), ("assistant", "3")],
        ),
        ({"instruction": "Say hi.", "input": "", "output": "hi"}, {}, [("user", "Say hi."), ("assistant", "hi")]),
        ({"instruction": "Say hi.", "output": "hi"}, {}, [("user", "Say hi."), ("assistant", "hi")]),
        (
            {"instruction": "Who?", "context": "Ann came.", "response": "Ann", "category": "closed_qa"},
            {},
            [("user", "Who?\n\nAnn came."), ("assistant", "Ann")],
        ),
        (
            {
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "Hi"},
                    {"role": "assistant", "content": "Hello"},
                    {"role": "user", "content": "Bye"},
                    {"role": "assistant", "content": " Bye\n"},
                ]
            },
            {},
            [
                ("system", "Be brief."),
                ("user", "Hi"),
                ("assistant", "Hello"),
                ("user", "Bye"),
                ("assistant", " Bye\n"),
            ],
        ),
        (
            {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
            {},
            [("user", "Hi"), ("assistant", "Hello")],
        ),
        ({"prompt": "1+1=", "completion": " 2"}, {}, [("user", "1+1="), ("assistant", " 2")]),
        (
            {
                "prompt": [{"role": "user", "content": "1+1"}],
                "completion": [{"role": "assistant", "content": "2"}],
            },
            {},
            [("user", "1+1"), ("assistant", "2")],
        ),
        (
            {"text": "My light is out", "label": "repair"},
            {"instruction": "Route it."},
            [("user", "Route it.\n\nMy light is out"), ("assistant", "repair")],
        ),
        (
            {"body": "My light is out", "team": "repair"},
            {"instruction": "Route it.", "columns": {"text": "body", "label": "team"}},
            [("user", "Route it.\n\nMy light is out"), ("assistant", "repair")],
        ),
        (
            {"input": "good", "output": "pos"},
            {"instruction": "Judge."},
            [("user", "Judge.\n\ngood"), ("assistant", "pos")],
        ),
        (
            {"context": "Ann came.", "question": "Who?", "choices": ["Ann", "Bob"], "answer": "Ann"},
            {},
            [("user", "Ann came.\n\nWho?"), ("assistant", "Ann")],
        ),
        ({"question": "Who?", "answers": ["Ann", "Anna"]}, {}, [("user", "Who?"), ("assistant", "Ann")]),
        ({"text": "Once upon a time"}, {}, [("assistant", "Once upon a time")]),
        ({"text": "Once", "url": "x"}, {"shape": "text"}, [("assistant", "Once")]),
        ({"body": "Once", "url": "x"}, {"columns": {"text": "body"}}, [("assistant", "Once")]),
    ],
)
def test_a_row_of_each_shape_becomes_these_turns(
    tmp_path: Path, row: dict[str, Any], options: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert turns_of(jsonl(tmp_path / "rows.jsonl", row), **options) == expected


def test_a_label_is_kept_beside_the_answer(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", {"text": "a", "label": 1}, {"text": "b", "label": True})
    assert [row.label for row in load_examples(path, source="s", task="t", instruction="?")] == ["1", "true"]


def test_key_follows_content_and_nothing_else(tmp_path: Path) -> None:
    first = jsonl(
        tmp_path / "a.jsonl", {"id": "x", "prompt": "p", "completion": "c"}, {"prompt": "q", "completion": "c"}
    )
    second = jsonl(
        tmp_path / "b.jsonl",
        {"question": "q", "answer": "c", "id": "y"},
        {"question": "p", "answer": "c"},
        {"question": "p", "answer": "c"},
    )
    one = load_examples(first, source="s", task="t")
    other = load_examples(second, source="other", task="u")
    assert [one[0].key, one[1].key] == [other[1].key, other[0].key]
    assert other[1].key.endswith(".0")
    assert other[2].key == other[1].key.removesuffix(".0") + ".1"
    assert [row.row_id for row in one] == ["x", "2"]


def test_items_have_their_own_choices_or_the_labels_of_the_target(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "eval_set": "target",
        "target": "t",
        "task": "t",
        "metric": "accuracy",
        "answer": "choices",
        "max_answer_tokens": 8,
    }
    own = jsonl(tmp_path / "own.jsonl", {"question": "Who?", "choices": ["Ann", "Bob"], "answer": "Bob"})
    item = load_items(own, **settings)[0]
    assert (item.choices, item.references, item.turns[-1].role) == (("Ann", "Bob"), ("Bob",), "user")
    labelled = jsonl(tmp_path / "labelled.jsonl", {"text": "x", "label": "b"})
    item = load_items(labelled, **settings, choices=("a", "b"), instruction="Which?")[0]
    assert (item.choices, item.references) == (("a", "b"), ("b",))


def test_a_test_label_never_seen_in_training_is_named_with_its_line(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "test.jsonl", {"text": "x", "label": "a"}, {"text": "y", "label": "B"})
    with pytest.raises(DataError, match=r"test\.jsonl:2: a label that was never seen in training.*got 'B'"):
        load_items(
            path,
            eval_set="target",
            target="t",
            task="t",
            metric="exact_match",
            answer="choices",
            max_answer_tokens=8,
            choices=("a", "b"),
            instruction="Which?",
        )


def test_choices_of_a_table_are_a_json_list_or_columns_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "quiz.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["question", "A", "B", "answer"], ["Who?", "010", "1", "010"]])
    settings: dict[str, Any] = {"eval_set": "p", "target": "t", "task": "t", "metric": "accuracy", "answer": "choices"}
    item = load_items(path, **settings, max_answer_tokens=8, columns={"choices": ["A", "B"]})[0]
    assert item.choices == ("010", "1")
    path.write_text('question,choices,answer\nWho?,"[""a"", ""b""]",b\n')
    assert load_items(path, **settings, max_answer_tokens=8)[0].choices == ("a", "b")


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        ({"text": "a", "label": "b"}, {}, "an instruction"),
        ({"text": "a", "team": "b"}, {}, "no known shape.*text, team.*columns: "),
        ({"message": "a", "team": "b"}, {"columns": {"text": "mesage"}}, "columns: {text: message}"),
        ({"message": "a", "team": "b"}, {"columns": {"message": "text"}}, "columns: {text: message}"),
        ({"instruction": "a", "output": "b"}, {"instruction": "c"}, "leave instruction out"),
        ({"instruction": "a", "output": ""}, {}, "the output is empty"),
        ({"instruction": "a", "output": " \n"}, {}, "the output is empty"),
        ({"instruction": "a", "output": None}, {}, "the output is missing"),
        ({"instruction": "a", "output": {"b": 1}}, {}, "the output is an object"),
        ({"instruction": "", "output": "b"}, {}, "the instruction is empty"),
        ({"text": "a", "label": ["b"]}, {"instruction": "?"}, "the label is a list"),
        ({"messages": []}, {}, "not a list of turns"),
        ({"messages": [{"role": "user", "content": "a"}]}, {}, "does not end with an answer"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, {}, "follows no question"),
        ({"messages": [{"role": "tool", "content": "a"}]}, {}, "unknown role"),
        ({"messages": [{"role": "user", "content": None}]}, {}, "has no text"),
        ({"question": "a", "answer": "b", "choices": "b, c"}, {}, "not a list"),
        ({"question": "a", "answer": "b", "choices": ["b", "b"]}, {}, "different"),
        ({"text": "a"}, {"shape": "parquet"}, "no such shape"),
    ],
)
def test_a_row_that_cannot_be_read_says_why(
    tmp_path: Path, row: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=f"(?s){message}"):
        load_examples(jsonl(tmp_path / "rows.jsonl", row), source="s", task="t", **options)


def test_each_fault_is_told_once_with_its_count_and_its_first_places(tmp_path: Path) -> None:
    good = '{"prompt": "p", "completion": "c"}\n'
    bad = '{"prompt": "p"}\n{"prompt": "p", "completion": 3,}\n{"prompt": "p"}{}\n'
    path = tmp_path / "rows.jsonl"
    path.write_text(good + bad * 15 + '{"prompt": "pp", "completion": 3,}\n')
    with pytest.raises(DataError, match="3 problems:") as caught:
        load_examples(path, source="s", task="t")
    told = str(caught.value)
    assert told.count("rows.jsonl:") == 3
    assert "rows.jsonl:2: the completion is missing (15 rows, this is the first; next lines 5, 8, 11, 14 …)" in told
    assert (
        "rows.jsonl:3: this is no JSON: Expecting property name enclosed in double quotes at column 33 (16 rows" in told
    )
    assert "rows.jsonl:4: this is no JSON: Extra data at column 16 (15 rows" in told


def test_up_to_twenty_kinds_of_faults_are_told_at_once(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": f"{letter}{letter}", "content": "a"}]} for letter in "abcdefghijklmnopqrstuvwxyz"]
    with pytest.raises(DataError, match=r"20 problems \(there may be more\)") as caught:
        load_examples(jsonl(tmp_path / "rows.jsonl", *rows), source="s", task="t")
    assert str(caught.value).count("rows.jsonl:") == 20


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("prompt,completion\na,b,c\na,b\na,b,c,d\n", "3 cells in a table of 2 columns (2 rows"),
        ("prompt,completion\na,\na,b\nc,\n", "the completion is empty (2 rows"),
        ("prompt,completion\n,b\n,b\n,b\n", "the prompt is empty (3 rows"),
    ],
)
def test_faults_of_a_table_are_told_once(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        load_examples(path, source="s", task="t")
    assert fault in str(caught.value)
    assert str(caught.value).count("rows.csv:") == 1


def test_faults_can_be_taken_and_counted_instead(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "pool.jsonl", {"prompt": "a", "completion": ""}, {"prompt": "b", "completion": "c"})
    faults: list[DataError] = []
    rows = load_examples(path, source="s", task="t", on_fault=faults.append)
    assert [row.answer for row in rows] == ["c"]
    assert [fault.where for fault in faults] == [f"{path}:1"]


def test_detection_proposes_columns_and_an_instruction_for_a_labelled_table(tmp_path: Path) -> None:
    path = tmp_path / "tickets.csv"
    lines = [f"{n},A long text about matter number {n},{'billing' if n % 3 else 'repair'}" for n in range(30)]
    path.write_text("\n".join(["id,body,team", *lines]) + "\n")
    found = detect_shape(path)
    assert (found.shape, found.columns, found.rows) == ("text_label", ("id", "body", "team"), 30)
    assert dict(found.suggested_columns) == {"text": "body", "label": "team"}
    assert [(count.label, count.rows) for count in found.labels] == [("billing", 20), ("repair", 10)]
    assert found.suggested_instruction == "Read the text and answer with one of: billing, repair."
    rows = load_examples(
        path,
        source="s",
        task="t",
        columns=dict(found.suggested_columns),
        instruction=found.suggested_instruction,
    )
    assert len(rows) == 30


def test_detection_knows_the_shapes_by_name_and_proposes_nothing_it_cannot_see(tmp_path: Path) -> None:
    found = detect_shape(jsonl(tmp_path / "a.jsonl", {"instruction": "a", "input": "", "output": "b"}))
    assert (found.shape, found.labels, found.suggested_columns) == ("instruction", (), ())
    found = detect_shape(jsonl(tmp_path / "b.jsonl", {"a": "x"}, {"a": "y"}))
    assert (found.shape, found.suggested_columns, found.suggested_instruction) == (None, (), None)


@pytest.mark.parametrize("answer", ['["a", "b"]', '[{"plant": "carrots"}]', "[1, 2]"])
def test_an_answer_that_looks_like_a_json_list_stays_the_text_it_was(tmp_path: Path, answer: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"instruction": "Give me JSON.", "input": "", "output": answer}) + "\n")
    (example,) = load_examples(path, source="general", task="general")
    assert example.answer == answer
