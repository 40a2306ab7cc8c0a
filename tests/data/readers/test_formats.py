"""Every layout is read as `docs/formats.md` says, and what of a row was not read is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from format_examples import FORMATS, FormatExample, table

from titrant.core.errors import DataError
from titrant.data.readers import SHAPES, FileNote, ReadingNotes, load_examples, load_items

DOCS = Path(__file__).parents[3] / "docs" / "formats.md"


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def turns_of(path: Path, **options: Any) -> list[list[tuple[str, str]]]:
    return [
        [(turn.role, turn.text) for turn in row.turns] for row in load_examples(path, source="s", task="t", **options)
    ]


def noted(path: Path, **options: Any) -> FileNote | None:
    notes = ReadingNotes()
    load_examples(path, source="s", task="t", notes=notes, **options)
    return next(iter(notes.notes()), None)


def items_of(
    path: Path, answer: str = "choices", **options: Any
) -> list[tuple[tuple[str, ...] | None, tuple[str, ...]]]:
    items = load_items(
        path, eval_set="p", target="t", task="t", metric="accuracy", answer=answer, max_answer_tokens=8, **options
    )
    return [(item.choices, item.references) for item in items]


def test_the_table_of_the_documentation_is_what_the_reader_makes_of_each_layout(tmp_path: Path) -> None:
    assert table(tmp_path) in DOCS.read_text(encoding="utf-8")


def test_every_shape_has_an_example() -> None:
    assert {example.name.partition(",")[0] for example in FORMATS} == set(SHAPES)


@pytest.mark.parametrize("example", FORMATS, ids=lambda example: example.name)
def test_nothing_of_an_example_goes_unread(example: FormatExample, tmp_path: Path) -> None:
    example.read(tmp_path)
    note = noted(tmp_path / "rows.jsonl", columns=example.columns, instruction=example.instruction)
    assert note is None or not note.not_read


# ----------------------------------------------------------------------------------------------------- what is not read


@pytest.mark.parametrize(
    ("rows", "options", "line"),
    [
        (
            [{"prompt": "p", "completion": "c", "hint": "h"}, {"prompt": "q", "completion": "c", "hint": ""}],
            {},
            "not read: hint (1 of 2 rows)",
        ),
        ([{"text": "a", "second": "b", "label": "x"}], {"instruction": "?"}, "not read: second"),
        (
            [{"instruction": "a", "output": "b", "response": "c", "source": "d", "id": "e"}],
            {},
            "not read: response, source",
        ),
        (
            [{"messages": [{"role": "user", "content": "a", "name": "Ann"}, {"role": "assistant", "content": "b"}]}],
            {},
            "not read: messages[].name",
        ),
        ([{"q": "a", "a": "b", "c": "d"}], {"columns": {"question": "q", "answer": "a"}}, "not read: c"),
        ([{"question": "a", "answers": {"text": ["b"], "page": [3]}}], {}, "not read: answer.page"),
    ],
)
def test_columns_and_fields_that_were_not_read_are_said_in_one_line(
    tmp_path: Path, rows: list[dict[str, Any]], options: dict[str, Any], line: str
) -> None:
    path = jsonl(tmp_path / "rows.jsonl", *rows)
    note = noted(path, **options)
    assert note is not None
    assert note.line == f"{path}: {line}"


def test_a_file_that_was_read_whole_has_no_note(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", {"id": "1", "prompt": "p", "completion": "c", "extra": None, "more": []})
    assert noted(path) is None


def test_many_columns_are_cut_to_twelve() -> None:
    note = FileNote(place="f", rows=1, not_read={f"c{n}": 1 for n in range(15)}, left_out={})
    assert note.line.endswith("c11 and 3 more")


# ------------------------------------------------------------------------------------------- fields that change the row


def answer(**marks: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", **marks}]}


@pytest.mark.parametrize(
    "row",
    [
        answer(weight=0),
        answer(weight="0.0"),
        answer(train=False),
        {"instruction": "q", "output": "bad", "kto_tag": False},
        {"prompt": "q", "completion": "bad", "weight": 0},
        {"question": "q", "answer": "bad", "train": False},
    ],
)
def test_an_answer_that_is_marked_as_not_to_be_learned_is_left_out_and_counted(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    good = {name: value for name, value in row.items() if name not in ("weight", "train", "kto_tag")}
    if "messages" in row:
        good = answer(weight=1, train=True)
    path = jsonl(tmp_path / "rows.jsonl", row, good)
    assert len(turns_of(path)) == 1
    note = noted(path)
    assert note is not None
    assert list(note.left_out.values()) == [1]
    assert "1 of 2 rows are left out: " in note.line


def test_a_mark_on_an_earlier_answer_changes_nothing_since_only_the_last_bears_loss(tmp_path: Path) -> None:
    row = answer()
    row["messages"] = [*answer(weight=0)["messages"], *row["messages"]]
    assert len(turns_of(jsonl(tmp_path / "rows.jsonl", row))[0]) == 4


def test_a_weight_between_nought_and_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"weight other than 0 and 1 \(2 rows, this is the first.*got '0.5'"):
        turns_of(jsonl(tmp_path / "rows.jsonl", answer(weight=0.5), answer(weight=0.5), answer(weight=1)))


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"tools": '[{"name": "lookup"}]', **answer()}, "tools"),
        ({"prompt": "p", "completion": "c", "images": ["a.png"]}, "images"),
        ({"instruction": "a", "output": "b", "audios": ["a.wav"]}, "audio"),
        (answer(tool_calls=[{"name": "f"}]), "tools"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": "x"}],
                    },
                    {"role": "assistant", "content": "b"},
                ]
            },
            "parts that are no text",
        ),
    ],
)
def test_rows_with_more_than_text_are_refused_once_with_their_count(
    tmp_path: Path, row: dict[str, Any], what: str
) -> None:
    with pytest.raises(DataError, match=rf"rows\.jsonl:1: rows with {what} .*\(30 rows, this is the first") as caught:
        turns_of(jsonl(tmp_path / "rows.jsonl", *[row] * 30))
    assert str(caught.value).count("rows.jsonl:") == 1


def test_images_as_datasets_stores_them_are_counted_where_they_matter_and_told_where_they_may_not(
    tmp_path: Path,
) -> None:
    stored = [{"bytes": b"\x89PNG", "path": "a.png"}] * 30
    texts = {"instruction": [f"What is {n}?" for n in range(30)], "output": ["a cat"] * 30}
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({**texts, "image": stored}), path)
    with pytest.raises(DataError, match=r"rows\.parquet:1: rows with images \(image\).*\(30 rows, this is the first"):
        turns_of(path)
    pq.write_table(pa.table({**texts, "picture": stored}), path)
    notes = ReadingNotes()
    assert len(load_examples(str(path), source="rows", task="rows", notes=notes)) == 30
    assert notes.notes()[0].not_read == {"picture": 30}
    pq.write_table(pa.table({**texts, "instruction": stored}), path)
    with pytest.raises(DataError, match="the instruction is an object"):
        turns_of(path)


def test_empty_tools_and_images_are_nothing(tmp_path: Path) -> None:
    row = {**answer(), "tools": "[]", "images": [], "functions": None}
    assert len(turns_of(jsonl(tmp_path / "rows.jsonl", row))) == 1


def test_a_system_column_that_repeats_the_system_turn_stands_once_and_another_is_refused(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be brief."}, *answer()["messages"]]
    path = jsonl(tmp_path / "rows.jsonl", {"system": "Be brief.", "messages": turns})
    assert [role for role, _ in turns_of(path)[0]] == ["system", "user", "assistant"]
    with pytest.raises(DataError, match="two system texts"):
        turns_of(jsonl(tmp_path / "rows.jsonl", {"system": "Be long.", "messages": turns}))


@pytest.mark.parametrize(
    ("history", "earlier"),
    [
        ([], []),
        ([["a", "b"], ["c", "d"]], ["a", "b", "c", "d"]),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], ["a", "b"]),
        ('[["a", "b"]]', ["a", "b"]),
    ],
)
def test_a_history_is_earlier_turns(tmp_path: Path, history: Any, earlier: list[str]) -> None:
    path = jsonl(tmp_path / "rows.jsonl", {"instruction": "q", "output": "z", "history": history})
    assert [text for _, text in turns_of(path)[0]] == [*earlier, "q", "z"]


@pytest.mark.parametrize("history", ["earlier", [["a"]], [["a", ""]], [1]])
def test_a_history_that_is_none_is_refused(tmp_path: Path, history: Any) -> None:
    with pytest.raises(DataError, match="history"):
        turns_of(jsonl(tmp_path / "rows.jsonl", {"instruction": "q", "output": "z", "history": history}))


# ------------------------------------------------------------------------------------------------------------ synonyms


@pytest.mark.parametrize(
    ("row", "prompt", "reply"),
    [
        ({"instruction": "q", "input": None, "context": "c", "output": "a"}, "q\n\nc", "a"),
        ({"instruction": "q", "input": "", "context": "c", "output": None, "response": "b"}, "q\n\nc", "b"),
        ({"prompt": "q", "completion": None, "response": "b"}, "q", "b"),
        ({"question": "q", "answer": None, "answers": ["b"], "context": None, "passage": "p"}, "p\n\nq", "b"),
        ({"messages": None, "prompt": "q", "completion": "b"}, "q", "b"),
    ],
)
def test_a_null_gives_way_to_the_next_name(tmp_path: Path, row: dict[str, Any], prompt: str, reply: str) -> None:
    assert turns_of(jsonl(tmp_path / "rows.jsonl", row)) == [[("user", prompt), ("assistant", reply)]]


def test_a_column_that_the_study_names_does_not_give_way(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", {"instruction": "q", "mine": None, "output": "a"})
    with pytest.raises(DataError, match="the output is missing"):
        turns_of(path, columns={"output": "mine"})


# ----------------------------------------------------------------------------------------------------- multiple choice


@pytest.mark.parametrize(
    ("row", "gold"),
    [
        ({"question": "q", "choices": ["w", "x", "y"], "answer": 2}, "y"),
        ({"question": "q", "choices": ["w", "x", "y"], "answer": "b"}, "x"),
        ({"question": "q", "choices": ["10", "20", "30"], "answer": 1}, "20"),
        ({"question": "q", "choices": {"text": ["w", "x"], "label": ["1", "2"]}, "answerKey": "1"}, "w"),
        ({"question": "q", "options": {"A": "w", "B": "x"}, "answer": "x", "answer_idx": "B"}, "x"),
        ({"question": "q", "choices": [{"label": "A", "text": "w"}, {"label": "B", "text": "x"}], "answer": "B"}, "x"),
        ({"question": "q", "option1": "w", "option2": "x", "answer": "2"}, "x"),
        ({"question": "q", "option_a": "w", "option_b": "x", "option_c": None, "answer": "B"}, "x"),
        ({"question": "q", "choices": '["w", "x"]', "answer": "A"}, "w"),
        ({"question": "q", "choices": ["0", "1"], "answer": 1}, "1"),
    ],
)
def test_an_answer_may_be_the_place_of_a_choice(tmp_path: Path, row: dict[str, Any], gold: str) -> None:
    path = jsonl(tmp_path / "rows.jsonl", row)
    (choices, references), *_ = items_of(path)
    assert references == (gold,)
    assert gold in (choices or ())
    assert turns_of(path)[0][-1] == ("assistant", gold)


@pytest.mark.parametrize(
    ("name", "gold"), [("answer_text", "0"), ("answer_index", "1"), ("answer_letter", None), ("answer_number", None)]
)
def test_an_answer_that_may_be_text_or_place_is_asked_for_and_the_study_can_say(
    tmp_path: Path, name: str, gold: str | None
) -> None:
    row = {"question": "q", "choices": ["1", "2", "3", "0"], "answer": 0}
    path = jsonl(tmp_path / "rows.jsonl", *[row] * 40)
    with pytest.raises(DataError, match=r"text of one choice and the place of another \(40 rows.*answer_index: answer"):
        items_of(path)
    if gold is None:
        with pytest.raises(DataError, match="nor the place of one"):
            items_of(path, columns={name: "answer"})
    else:
        assert items_of(path, columns={name: "answer"})[0] == (("1", "2", "3", "0"), (gold,))


@pytest.mark.parametrize(
    ("answer", "gold"),
    [(1.0, "ash"), ("2.0", "elm"), ("(B)", "ash"), ("c)", "elm"), ("A.", "oak"), (" b: ", "ash"), ("[C]", "elm")],
)
def test_a_place_is_read_in_any_usual_writing(tmp_path: Path, answer: Any, gold: str) -> None:
    row = {"question": "q", "choices": ["oak", "ash", "elm"], "answer": answer}
    path = jsonl(tmp_path / "rows.jsonl", row)
    assert turns_of(path) == [[("user", "q"), ("assistant", gold)]]
    assert items_of(path) == [(("oak", "ash", "elm"), (gold,))]


@pytest.mark.parametrize("answer", [-1, 7.0, "(D)", 1.5, "1e0", "+1", "Z."])
def test_a_place_of_no_choice_is_never_learned_as_a_text(tmp_path: Path, answer: Any) -> None:
    path = jsonl(tmp_path / "rows.jsonl", {"question": "q", "choices": ["oak", "ash", "elm"], "answer": answer})
    with pytest.raises(DataError, match="none of the row's choices, nor the place of one"):
        load_examples(path, source="s", task="t")


def test_a_text_of_a_choice_that_looks_like_a_place_is_the_choice(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", {"question": "q", "choices": ["1.5", "-1", "(D)"], "answer": "-1"})
    assert turns_of(path) == [[("user", "q"), ("assistant", "-1")]]


def test_places_from_one_are_refused_until_the_study_says_so(tmp_path: Path) -> None:
    rows = [{"question": "q", "choices": ["x", "y"], "answer": place} for place in (1, 2)]
    path = jsonl(tmp_path / "rows.jsonl", *rows)
    with pytest.raises(DataError, match=r"rows\.jsonl:2: .*nor the place of one .*answer_number"):
        items_of(path)
    assert [gold for _, gold in items_of(path, columns={"answer_number": "answer"})] == [("x",), ("y",)]


def test_a_file_names_its_choices_in_one_way(tmp_path: Path) -> None:
    rows = [{"question": "q", "choices": ["3", "5", "7", "9"], "answer": text} for text in ("9", "5", "2")]
    with pytest.raises(DataError, match=r"rows\.jsonl:3: answers are the text .*rows\.jsonl:1"):
        items_of(jsonl(tmp_path / "rows.jsonl", *rows))


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"question": "q", "choices": "['w', 'x']", "answer": "w"}, "choices"),
        ({"question": "q", "choices": "['w' 'x']", "answer": "w"}, "choices"),
        ({"question": "q", "answers": "{'text': array(['a'], dtype=object)}"}, "answer"),
        ({"messages": "[{'role': 'user', 'content': 'a'}]"}, "messages"),
    ],
)
def test_a_list_in_the_writing_of_python_is_named_as_such(tmp_path: Path, row: dict[str, Any], name: str) -> None:
    with pytest.raises(DataError, match=f"the {name} are a list in Python's writing.*to_json"):
        turns_of(jsonl(tmp_path / "rows.jsonl", row))


def test_a_question_without_an_answer_is_left_out_and_counted(tmp_path: Path) -> None:
    rows = [{"question": "q", "context": "c", "answers": {"text": texts, "answer_start": []}} for texts in ([], ["a"])]
    path = jsonl(tmp_path / "rows.jsonl", *rows, {"question": "q", "context": "c", "answers": []})
    assert [references for _, references in items_of(path, "text")] == [("a",)]
    note = noted(path)
    assert note is not None
    assert note.left_out == {"the question has no answer": 2}


# --------------------------------------------------------------------------------------------------------------- roles


@pytest.mark.parametrize("role", ["tool", "Narrator", ""])
def test_an_unknown_role_is_told_once_with_its_count(tmp_path: Path, role: Any) -> None:
    row = {"messages": [{"role": role, "content": "a"}, {"role": "assistant", "content": "b"}]}
    with pytest.raises(DataError, match=r"unknown role.*\(300 rows, this is the first.*developer") as caught:
        turns_of(jsonl(tmp_path / "rows.jsonl", answer(), *[row] * 300))
    assert str(caught.value).count("rows.jsonl:") == 1


@pytest.mark.parametrize(
    "turn",
    [
        {"sender": "human", "text": "q"},
        {"input": "q", "output": "a"},
        {"author": {"role": "user"}, "text": "q"},
        {"role": None, "content": "q"},
    ],
)
def test_a_turn_without_a_role_is_told_with_the_fields_that_it_has(tmp_path: Path, turn: dict[str, Any]) -> None:
    path = jsonl(tmp_path / "rows.jsonl", *[{"messages": [turn, {"role": "assistant", "content": "a"}]}] * 3)
    with pytest.raises(DataError, match=r"a turn has no role \(3 rows.*expected role or from") as caught:
        load_examples(path, source="s", task="t")
    assert ", ".join(turn) in str(caught.value)
    assert "None" not in str(caught.value)


def test_refused_rows_stand_beside_other_faults(tmp_path: Path) -> None:
    odd = {"messages": [{"role": "x", "content": "a"}]}
    with pytest.raises(DataError, match="2 problems") as caught:
        turns_of(jsonl(tmp_path / "rows.jsonl", odd, odd, {"messages": []}, odd))
    assert "(3 rows, this is the first; next lines 2, 4)" in str(caught.value)


@pytest.mark.parametrize("columns", ["url", ["url", "date"], ["date", "kind", "url"]])
def test_columns_that_the_study_calls_metadata_are_not_named(columns: Any, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", {"prompt": "p", "completion": "c", "url": "u", "date": "d", "kind": "k"})
    note = noted(path, columns={"metadata": columns})
    told = [columns] if isinstance(columns, str) else columns
    assert list(note.not_read if note else {}) == [name for name in ("url", "date", "kind") if name not in told]
    assert turns_of(path, columns={"metadata": columns}) == turns_of(path)
