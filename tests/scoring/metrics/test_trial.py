"""A metric is tried on the references: 1 against itself, less against the others, and what it cannot read is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titrant.scoring.metrics import METRICS, score_text
from titrant.scoring.metrics.text import NO_ROUGE_TOKENS, normal_form
from titrant.scoring.metrics.trial import NOTHING_LEFT, try_metric

METRIC = st.sampled_from(sorted(METRICS))
TEXT = st.one_of(
    st.text(max_size=12),
    st.text(alphabet="ab 12.,-+#/ABжд北京\u00bd", max_size=10),
    st.sampled_from(["C++", "C#", "-1", "1", "the cat", "cats", "2 1/2", "2.5", "в 2008 году", "在2008年", "…"]),
)


@given(metric=METRIC, one=TEXT, other=TEXT)
def test_a_normal_form_is_what_the_metric_compares(metric: str, one: str, other: str) -> None:
    """The trial looks at forms in place of scoring all references against all: the two must say the same."""
    form = normal_form(metric, other)
    assert (score_text(metric, other, [other]).value == 1.0) == (form is not None)
    same = score_text(metric, one, [other]).value == 1.0
    if form is not None and normal_form(metric, one) is not None and metric != "rouge_l":
        assert same == (normal_form(metric, one) == form)


@pytest.mark.parametrize(
    "answers",
    [
        ("-1", "1"),
        (">50K", "<=50K"),
        ("C", "C++", "C#"),
        ("3.5", "35"),
        ("1.23", "12.3"),
        ("B-", "B+", "B"),
        ("x = 1", "x != 1"),
        ("10:30", "1030"),
    ],
)
@pytest.mark.parametrize("metric", ["exact_match", "f1"])
def test_answers_that_differ_in_a_mark_that_means_something_are_not_told_apart(
    metric: str, answers: tuple[str, ...]
) -> None:
    trial = try_metric(metric, [[answer] for answer in answers])
    assert {entry.item for entry in trial.merged} == set(range(len(answers)))
    assert not trial.passed
    assert try_metric("accuracy", [[answer] for answer in answers]).passed


@pytest.mark.parametrize("mark", ["?", "!", "+", "#", "..."])
def test_a_reference_of_nothing_but_punctuation_cannot_be_read(mark: str) -> None:
    (unread,) = try_metric("exact_match", [[mark], ["yes"]]).unread
    assert (unread.item, unread.reference, unread.reason) == (0, mark, NOTHING_LEFT)


@pytest.mark.parametrize(
    ("metric", "one", "other"),
    [
        ("exact_match", "Paris", "paris."),
        ("exact_match", "U.S.", "US"),
        ("exact_match", "don't", "dont"),
        ("exact_match", "1,000", "1000"),
        ("exact_match", "e-mail", "email"),
        ("exact_match", "COVID-19", "COVID19"),
        ("f1", "The cat", "a cat"),
        ("rouge_l", "the cats sat", "The cat sat!"),
        ("last_number", "$42", "42.0 clips"),
        ("rouge_l", "北京。", "北京"),
    ],
)
def test_what_a_metric_is_there_to_ignore_is_no_fault(metric: str, one: str, other: str) -> None:
    assert normal_form(metric, one) == normal_form(metric, other)
    assert try_metric(metric, [[one], [other]]).failed_share == 0


def test_alternatives_of_one_item_may_be_one_to_the_metric() -> None:
    assert try_metric("exact_match", [["-1", "1"], ["2"]]).failed_share == 0
    assert len(try_metric("exact_match", [["-1", "1"], ["1"]]).merged) == 1


def test_an_item_is_read_where_one_of_its_references_is() -> None:
    trial = try_metric("rouge_l", [["кошка", "a cat"], ["собака"], [""]])
    assert [(entry.item, entry.reason) for entry in trial.unread] == [(1, NO_ROUGE_TOKENS), (2, NO_ROUGE_TOKENS)]


@pytest.mark.parametrize(("failing", "passed"), [(5, True), (6, False)])
def test_one_item_in_twenty_may_fail(failing: int, passed: bool) -> None:
    texts = [[f"word number {number}"] for number in range(100 - failing)] + [["слово"]] * failing
    assert try_metric("rouge_l", texts).passed == passed


def test_dates_are_refused_by_the_last_number_and_taken_by_exact_match() -> None:
    dates = [[f"{year}-{month:02}-{day:02}"] for year in (1999, 2021) for month in (1, 2, 3) for day in (5, 6)]
    assert try_metric("last_number", dates).failed_share == 1
    assert try_metric("exact_match", dates).passed
