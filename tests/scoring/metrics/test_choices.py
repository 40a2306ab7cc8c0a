"""Scores from log-probabilities, worked by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titrant.scoring.metrics import (
    balanced_accuracy,
    choice_accuracy,
    chosen,
    graded,
    majority_accuracy,
    majority_label,
    token_probability,
)


def test_graded_is_the_gold_share_of_the_probability_mass() -> None:
    logs = [math.log(0.1), math.log(0.3), math.log(0.1)]
    assert graded(logs, ["a", "b", "c"], ["b"]).value == pytest.approx(0.6)
    assert graded(logs, ["a", "b", "c"], ["a", "b"]).value == pytest.approx(0.8)


def test_graded_survives_log_probabilities_far_below_what_exp_can_hold() -> None:
    assert graded([-5000.0, -5001.0], ["a", "b"], ["a"]).value == pytest.approx(1 / (1 + math.exp(-1)))
    assert graded([-math.inf, -3.0], ["a", "b"], ["a"]).value == 0.0


def test_graded_is_null_with_a_reason_where_nothing_is_possible() -> None:
    score = graded([-math.inf, -math.inf], ["a", "b"], ["a"])
    assert score.value is None
    assert "probability 0" in str(score.reason)


@pytest.mark.parametrize(
    ("logprobs", "choices", "references"),
    [([-1.0], ["a", "b"], ["a"]), ([math.nan, -1.0], ["a", "b"], ["a"]), ([-1.0, -1.0], ["a", "b"], ["c"])],
)
def test_graded_refuses_what_is_no_question(logprobs: list[float], choices: list[str], references: list[str]) -> None:
    with pytest.raises(ValueError, match=r"log-prob|reference"):
        graded(logprobs, choices, references)


@given(st.lists(st.floats(-1e4, 0), min_size=2, max_size=6))
def test_graded_scores_of_all_choices_add_up_to_one(logprobs: list[float]) -> None:
    choices = [str(index) for index in range(len(logprobs))]
    total = sum(graded(logprobs, choices, [choice]).value or 0.0 for choice in choices)
    assert total == pytest.approx(1.0)


def test_ties_go_to_the_earlier_choice() -> None:
    assert chosen([-1.0, -1.0]) == 0
    assert choice_accuracy([-1.0, -1.0], ["a", "b"], ["a"]).value == 1.0
    assert choice_accuracy([-1.0, -1.0], ["a", "b"], ["b"]).value == 0.0


def test_token_probability_is_exp_of_minus_the_loss() -> None:
    assert token_probability(math.log(4)).value == pytest.approx(0.25)
    assert token_probability(math.inf).value is None
    assert token_probability(math.nan).value is None


def test_balanced_accuracy_takes_nothing_from_the_majority() -> None:
    assert balanced_accuracy(["a"] * 9 + ["b"], [1.0] * 9 + [0.0]) == 0.5
    assert balanced_accuracy(["a", "b", "b"], [1, 1, 0]) == 0.75


def test_the_majority_line_counts_every_right_reference() -> None:
    assert majority_label(["b", "a", "b"]) == "b"
    assert majority_label(["b", "a"]) == "a"
    assert majority_accuracy(["b", "a", "b"], [("b",), ("a",), ("a", "b"), ("a",)]) == 0.5
