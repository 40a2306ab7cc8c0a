"""Multiple choice as public sets write it: which columns are choices, and from where their numbers are counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from titrant.core.errors import DataError
from titrant.data.readers import ReadingNotes, detect_shape, load_examples, load_items, stream_examples
from titrant.experiment.breadth import breadth_of_file
from titrant.experiment.pools.equal_terms import prompts_at


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def lines_of(path: Path, places: list[Any], key: str, **row: Any) -> Path:
    """A row for each place; `{n}` in a text is its number."""
    made = [json.loads(json.dumps(row).replace("{n}", str(n))) | {key: place} for n, place in enumerate(places)]
    return jsonl(path, made)


def read(path: Path, **columns: str) -> list[tuple[str, str, tuple[str, ...] | None]]:
    """Prompt, right answer and choices of every row, by the columns that `init` would write, or by these."""
    said = columns or dict(detect_shape(path).suggested_columns)
    items = load_items(
        path, eval_set="p", target="t", task="t", metric="accuracy", answer="choices", max_answer_tokens=8, columns=said
    )
    return [(item.turns[-1].text, item.references[0], item.choices) for item in items]


FOUR = {"opa": "w{n}", "opb": "x{n}", "opc": "y{n}", "opd": "z{n}"}


@pytest.mark.parametrize(
    ("row", "key", "places", "prompt", "right"),
    [
        ({"question": "q{n}", **FOUR}, "cop", [0, 3, 2], "q0", ["w0", "z1", "y2"]),
        ({"question": "q{n}", **FOUR}, "cop", [1, 4, 3], "q0", ["w0", "z1", "y2"]),
        ({"ctx": "c{n}", "endings": ["w{n}", "x{n}", "y{n}"]}, "label", ["2", "0", "1"], "c0", ["y0", "w1", "x2"]),
        (
            {"ctx_a": "c{n}", "ctx_b": "he", "endings": ["w{n}", "x{n}"]},
            "label",
            ["1", "0"],
            "ctx_a: c0\n\nctx_b: he",
            ["x0", "w1"],
        ),
        ({"goal": "g{n}", "sol1": "w{n}", "sol2": "x{n}"}, "label", [1, 0, 1], "g0", ["x0", "w1", "x2"]),
        ({"sentence": "s{n} _", "option1": "w{n}", "option2": "x{n}"}, "answer", ["1", "2"], "s0 _", ["w0", "x1"]),
        (
            {"context": "c{n}", "question": "q{n}", "answerA": "w{n}", "answerB": "x{n}", "answerC": "y{n}"},
            "label",
            ["3", "1"],
            "c0\n\nq0",
            ["y0", "w1"],
        ),
        (
            {"context": "c{n}", "question": "q{n}", "answerA": "w{n}", "answerB": "x{n}", "answerC": "y{n}"},
            "label",
            ["C", "A"],
            "c0\n\nq0",
            ["y0", "w1"],
        ),
        (
            {"premise": "p{n}", "question": "effect", "choice1": "w{n}", "choice2": "x{n}"},
            "label",
            [0, 1],
            "premise: p0\n\nquestion: effect",
            ["w0", "x1"],
        ),
        (
            {"obs1": "o{n}", "obs2": "u", "hyp1": "w{n}", "hyp2": "x{n}"},
            "label",
            ["2", "1"],
            "obs1: o0\n\nobs2: u",
            ["x0", "w1"],
        ),
        ({"question": "q{n}", "choices": ["w{n}", "x{n}", "y{n}"]}, "answer", [1, 3], "q0", ["w0", "y1"]),
        ({"query": "q{n}", "options": ["w{n}", "x{n}"]}, "correct_option", [1, 0], "q0", ["x0", "w1"]),
        ({"question": "q{n}", "Option A": "w{n}", "Option B": "x{n}"}, "correct", ["B", "A"], "q0", ["x0", "w1"]),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else None,
)
def test_choices_of_public_sets_are_read_as_they_count(
    row: dict[str, Any], key: str, places: list[Any], prompt: str, right: list[str], tmp_path: Path
) -> None:
    found = read(lines_of(tmp_path / "rows.jsonl", places, key, **row))
    assert [answer for _, answer, _ in found] == right
    assert found[0][0] == prompt
    assert detect_shape(tmp_path / "rows.jsonl").has_choices


@pytest.mark.parametrize(
    ("key", "row"),
    [
        ("correct_answer", {"question": "q{n}", "distractor2": "b{n}", "distractor1": "z{n}", "distractor3": "2"}),
        ("correct_answer", {"question": "q{n}", "incorrect_answers": ["z{n}", "b{n}", "2"]}),
        ("answer", {"question": "q{n}", "distractors": ["2", "z{n}", "b{n}"]}),
    ],
)
def test_wrong_choices_apart_from_the_right_one_are_sorted_among_it(
    key: str, row: dict[str, Any], tmp_path: Path
) -> None:
    # The right answer is a text also where it looks like the place of another.
    found = read(lines_of(tmp_path / "rows.jsonl", ["c", "1"], key, **row))
    assert [(answer, choices) for _, answer, choices in found] == [
        ("c", ("2", "b0", "c", "z0")),
        ("1", ("1", "2", "b1", "z1")),
    ]


@pytest.mark.parametrize(
    ("key", "places", "row"),
    [
        ("cop", [1, 2, 3], {"question": "q{n}", **FOUR}),
        ("label", ["1", "1", "1"], {"goal": "g{n}", "sol1": "w{n}", "sol2": "x{n}"}),
        ("answer", [1, 2, 1], {"question": "q{n}", "choices": ["w{n}", "x{n}", "y{n}"]}),
    ],
)
def test_numbers_that_may_count_from_0_or_1_are_asked_about_with_both_readings(
    key: str, places: list[Any], row: dict[str, Any], tmp_path: Path
) -> None:
    path = lines_of(tmp_path / "rows.jsonl", places * 10, key, **row)
    with pytest.raises(DataError, match=r"counted from 0 or from 1|nor the place of one") as caught:
        list(stream_examples(path, source="s", task="t"))
    assert "counted from 0 or from 1" in str(detect_shape(path).question)
    for asked in (detect_shape(path).question, caught.value):
        assert "{answer_index: " in str(asked)
        assert "{answer_number: " in str(asked)
    second = read(path, answer_index=key)
    assert [answer for _, answer, _ in second][:2] == ["x0", "y1" if len(set(places)) > 1 else "x1"]
    assert read(path, answer_number=key)[0][1] == "w0"


@pytest.mark.parametrize(
    ("key", "places", "row", "said", "answers"),
    [
        (
            "answer",
            [1, 2, 1],
            {"question": "q{n}", "choices": ["w{n}", "x{n}", "y{n}"]},
            "answers in answer are places that count from 0, though none of 3 is 0: if they count from 1, "
            "columns: {answer_number: answer}",
            ["x0", "y1", "x2"],
        ),
        (
            "label",
            ["1", "1"],
            {"goal": "g{n}", "sol1": "w{n}", "sol2": "x{n}"},
            "answers in label are places that count from 1, though none of 2 is the number of choices: if they count "
            "from 0, columns: {answer_index: label}",
            ["w0", "w1"],
        ),
        (
            "correct",
            [1],
            {"query": "q{n}", "candidate0": "w{n}", "candidate1": "x{n}"},
            "answers in correct are places that count from 0, though none of 1 is 0: if they count from 1, "
            "columns: {answer_number: correct}",
            ["x0"],
        ),
    ],
)
def test_a_few_numbers_that_may_count_from_0_or_1_are_read_and_noted(
    key: str, places: list[Any], row: dict[str, Any], said: str, answers: list[str], tmp_path: Path
) -> None:
    path = lines_of(tmp_path / "rows.jsonl", places, key, **row)
    notes = ReadingNotes()
    assert [each.answer for each in load_examples(path, source="s", task="t", notes=notes)] == answers
    assert [note.line for note in notes.notes()] == [f"{path}: {said}"]
    assert detect_shape(path).question is None


@pytest.mark.parametrize("columns", [("opa", "opb"), ("choice1", "choice2"), ("A", "B")])
def test_numbers_that_show_how_they_count_are_refused_row_by_row_until_the_study_says_it(
    columns: tuple[str, str], tmp_path: Path
) -> None:
    path = lines_of(tmp_path / "rows.jsonl", [0, 1] * 40, "answer", question="q{n}", **dict.fromkeys(columns, "x{n}"))
    path = jsonl(path, [json.loads(line) | {columns[1]: "y"} for line in path.read_text().splitlines()])
    with pytest.raises(DataError, match="nor the place of one") as caught:
        list(stream_examples(path, source="s", task="t"))
    assert "problems" not in str(caught.value)
    assert "where the first choice is 0: columns: {answer_index: answer}" in str(caught.value)
    assert dict(detect_shape(path).suggested_columns) == {"answer_index": "answer"}
    assert [answer for _, answer, _ in read(path)][:2] == ["x0", "y"]


@pytest.mark.parametrize(
    ("row", "places", "columns", "right"),
    [
        (
            {"Question": "q{n}", "choices": ["w{n}", "x{n}"]},
            [1, 2],
            {"question": "Question", "answer_number": "Answer"},
            ["w0", "x1"],
        ),
        (
            {"Question": "q{n}", "A": "w{n}", "B": "x{n}"},
            [0, 1],
            {"question": "Question", "answer_index": "Answer"},
            ["w0", "x1"],
        ),
        (
            {"Question": "q{n}", "choices": ["w{n}", "x{n}"]},
            [0, 1],
            {"question": "Question", "answer": "Answer"},
            ["w0", "x1"],
        ),
    ],
)
def test_columns_in_other_case_are_counted_as_well(
    row: dict[str, Any], places: list[int], columns: dict[str, str], right: list[str], tmp_path: Path
) -> None:
    path = lines_of(tmp_path / "rows.jsonl", places * 20, "Answer", **row)
    assert dict(detect_shape(path).suggested_columns) == columns
    assert [answer for _, answer, _ in read(path)][:2] == right


def test_who_looks_at_prompts_alone_is_not_asked_how_answers_count(tmp_path: Path) -> None:
    path = lines_of(tmp_path / "rows.jsonl", [1] * 40, "answer", question="q{n}", choices=["a", "b", "c"])
    assert len(prompts_at(str(path))) == 40
    assert breadth_of_file(str(path)).left_out == 0
    with pytest.raises(DataError, match="counted from 0 or from 1"):
        list(stream_examples(path, source="s", task="t"))


@pytest.mark.parametrize("empty", [None, [], ""])
def test_choices_are_those_of_the_columns_that_are_filled(empty: Any, tmp_path: Path) -> None:
    in_columns = {"question": "q", "choices": empty, "A": "w", "B": "x", "C": empty, "answer": "x"}
    in_list = {"question": "q", "choices": ["u", "v"], "A": empty, "B": empty, "C": empty, "answer": "v"}
    path = jsonl(tmp_path / "rows.jsonl", [in_columns, in_list])
    assert read(path, question="question") == [("q", "x", ("w", "x")), ("q", "v", ("u", "v"))]


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"text": "t", "label": ""}, {}),
        ({"text": "t", "label": None}, {}),
        ({"text": "t", "target": None}, {}),
        ({"text": "t", "team": ""}, {"text": "text", "label": "team"}),
    ],
)
def test_a_row_whose_label_is_empty_is_no_text_to_be_continued(
    row: dict[str, Any], columns: dict[str, str], tmp_path: Path
) -> None:
    label = "target" if "target" in row else "team" if "team" in row else "label"
    path = jsonl(tmp_path / "rows.jsonl", [row, *[{**row, label: "a"}] * 3])
    with pytest.raises(DataError, match=r"rows\.jsonl:1: the (label|columns)"):
        list(stream_examples(path, source="s", task="t", columns=columns, instruction="?"))


@pytest.mark.parametrize("places", [[0, 4, 1], [4, 0], [0, 1, 2, 3, 4]])
def test_numbers_that_count_in_both_ways_are_refused_with_how_often(places: list[int], tmp_path: Path) -> None:
    path = lines_of(tmp_path / "rows.jsonl", places, "cop", question="q{n}", **FOUR)
    asked = str(detect_shape(path).question)
    assert "neither from 0 nor from 1" in asked
    assert f"cop: 1 of {len(places)} answers are 0, and 1 the number of choices" in asked


@pytest.mark.parametrize("columns", [("sentence1", "sentence2"), ("text_a", "text_b"), ("question1", "question2")])
def test_a_pair_of_texts_is_no_pair_of_choices(columns: tuple[str, str], tmp_path: Path) -> None:
    path = lines_of(tmp_path / "rows.jsonl", [0, 1] * 5, "label", **{columns[0]: "a{n}", columns[1]: "b{n}"})
    assert (detect_shape(path).shape, detect_shape(path).has_choices) == ("text_label", False)
