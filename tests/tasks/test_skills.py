"""The nine skill sets: prompts, splits, and answers that training has shown."""

from typing import Any

import pytest

from titrant.core.errors import DataError
from titrant.core.records import Origin, RawRow
from titrant.tasks import ANSWER_SEEN, SKILL_SETS, load_skill


def rows(*values: dict[str, Any]) -> list[RawRow]:
    return [
        RawRow(values={"id": f"r{line}", **each}, origin=Origin(path="s.jsonl", line=line))
        for line, each in enumerate(values, start=1)
    ]


def test_there_are_three_sets_for_each_skill() -> None:
    assert [each.skill for each in SKILL_SETS.values()] == ["understanding"] * 3 + ["reasoning"] * 3 + ["factual"] * 3


def test_a_prompt_shows_passage_question_and_options_as_they_stand() -> None:
    data = load_skill(
        rows(
            {"context": "A {x}.", "question": "Who?", "choices": ["a", "{b}"], "answer": "{b}", "split": "train"},
            {"context": "B.", "question": "Why?", "choices": ["c", "d"], "answer": "c", "split": "test"},
        ),
        "dream",
    )
    assert data.train[0].turns[0].text == (
        "A {x}.\n\nQuestion: Who?\nOptions:\n- a\n- {b}\n\nAnswer with one of the options."
    )
    assert (data.train[0].answer, data.test[0].choices, data.test[0].answer) == ("{b}", ("c", "d"), "choices")


def test_answers_that_training_has_shown_are_marked() -> None:
    data = load_skill(
        rows(
            {"question": "where?", "answer": "New York", "answers": ["New York", "NYC"], "split": "train"},
            {"question": "where not?", "answer": "new york.", "split": "test"},
            {"question": "who?", "answer": "Ann", "answers": ["Ann", "nyc"], "split": "test"},
            {"question": "what?", "answer": "York", "split": "test"},
            {"question": "what else?", "answer": "left alone", "split": "dev"},
        ),
        "webquestions",
    )
    assert [item.tags for item in data.test] == [((ANSWER_SEEN, "yes"),), ((ANSWER_SEEN, "yes"),), ()]
    assert data.test[1].references == ("Ann", "nyc")


def test_a_fixed_set_of_answers_is_not_marked() -> None:
    one = {"question": "a?", "choices": ["yes", "no"], "answer": "yes", "split": "train"}
    data = load_skill(rows(one, {**one, "question": "b?", "split": "dev"}), "strategyqa")
    assert data.test[0].tags == ()


def test_a_training_row_that_repeats_a_test_prompt_is_removed_and_counted() -> None:
    one = {"question": "a?", "answer": "x", "split": "train"}
    data = load_skill(
        rows(one, {**one, "question": "b?"}, {**one, "question": " A? ", "split": "test"}), "webquestions"
    )
    assert (len(data.train), len(data.test), data.removed) == (1, 1, 1)


def test_a_row_that_asks_nothing_is_named_and_left_out() -> None:
    one = {"question": "a?", "answer": "x", "split": "train"}
    data = load_skill(rows(one, {**one, "question": ""}, {**one, "question": "b?", "split": "test"}), "webquestions")
    assert [str(origin) for origin in data.unreadable] == ["s.jsonl:2"]


def test_an_answer_that_is_no_choice_is_refused() -> None:
    with pytest.raises(DataError, match=r"s\.jsonl:1: the answer is not among the choices"):
        load_skill(rows({"question": "a?", "choices": ["x", "y"], "answer": "z", "split": "train"}), "opentriviaqa")
    with pytest.raises(DataError, match="boolq"):
        load_skill([], "chess")
