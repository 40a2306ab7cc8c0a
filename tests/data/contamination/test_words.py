"""What counts as the same text, and what of a prompt is an item's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titrant.core.records import Item, Turn
from titrant.data.contamination import folded, own_parts, own_texts, words
from titrant.data.contamination.words import shingles


def item(text: str, *, task: str = "t", eval_set: str = "target") -> Item:
    return Item(
        key=text, row_id="1", eval_set=eval_set, target="t", task=task, turns=(Turn(role="user", text=text),),
        references=("x",), choices=None, answer="text", metric="f1", max_answer_tokens=4,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other"),
    [("Straße", "STRASSE"), ("ﬁne", "fine"), ("a\u00a0 b\n", "a b"), ("é", "e\u0301"), ("Ａ", "a")],
)
def test_folding_makes_spellings_of_one_text_equal(one: str, other: str) -> None:
    assert folded(one) == folded(other)


def test_folding_keeps_punctuation() -> None:
    assert folded("2+3") != folded("2-3")


@given(st.text())
def test_folding_twice_changes_nothing_more(text: str) -> None:
    assert folded(folded(text)) == folded(text)


@given(st.text())
def test_words_are_whatever_the_case_and_the_white_space(text: str) -> None:
    assert words(f" {folded(text)}\n") == words(text)


def test_words_of_scripts_without_spaces_are_their_characters() -> None:
    assert words("今天 ok") == ["今", "天", "ok"]


def test_words_know_a_minus_from_a_plus_but_not_a_dash_in_prose() -> None:
    assert words("12 − 7") == words("12-7") != words("12+7")
    assert words("well-known - and good") == ["well", "known", "and", "good"]


def test_shingles_of_a_short_text_are_the_text() -> None:
    assert shingles("one two", length=5) == {"one two"}
    assert shingles("…", length=5) == frozenset()


LINES = [f"Definition: sort it.\nBe brief.\n\nInput: case {name}\nmore of {name}\n\nOutput:" for name in "abcdef"]


def test_shared_first_and_last_lines_and_a_shared_label_are_stripped() -> None:
    assert own_parts(LINES)[0] == "case a\nmore of a"


def test_few_prompts_keep_their_first_lines_which_may_be_a_shared_passage() -> None:
    assert own_parts(LINES[:4]) == tuple(LINES[:4])


def test_a_known_instruction_is_stripped_from_any_number_of_prompts() -> None:
    assert own_parts(["Route it.\n\nhello there"], instructions=["Route", "Route it."]) == ("hello there",)


def test_an_instruction_alone_is_not_stripped_to_nothing() -> None:
    assert own_parts(["Route it."], instructions=["Route it."]) == ("Route it.",)


def test_equal_prompts_are_left_whole() -> None:
    assert own_parts(["same\ntext"] * 7) == ("same\ntext",) * 7


@given(st.lists(st.text(alphabet="ab\n: ", max_size=12), min_size=5, max_size=9))
def test_an_own_part_is_always_a_piece_of_its_text(texts: list[str]) -> None:
    for text, own in zip(texts, own_parts(texts), strict=True):
        assert own in text


def test_own_texts_look_at_each_task_apart_and_keep_the_order() -> None:
    first = [item(f"Sort.\n{name}", task="sort") for name in "abcde"]
    second = [item(f"Name.\n{name}", task="name") for name in "vwxyz"]
    mixed = [entry for pair in zip(first, second, strict=True) for entry in pair]
    assert own_texts(mixed) == tuple("avbwcxdyez")


def test_only_what_the_user_says_is_an_own_text() -> None:
    turns = (Turn(role="system", text="Be kind."), Turn(role="user", text="Why is it wet?"))
    (own,) = own_texts([Item(
        key="k", row_id="1", eval_set="target", target="t", task="t", turns=turns, references=("x",), choices=None,
        answer="text", metric="f1", max_answer_tokens=4,
    )])  # fmt: skip
    assert own == "Why is it wet?"
