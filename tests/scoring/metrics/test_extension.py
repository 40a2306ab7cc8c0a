"""Metrics from outside and over all answers: what an item contributes, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from titrant.config.tables import METRICS as NAMED
from titrant.config.tables import SKILLS
from titrant.core.errors import ScoresError
from titrant.core.identity import rng_for
from titrant.core.plugins import extension_of
from titrant.scoring.metrics import BATCH_METRICS, METRICS, MacroF1
from titrant.scoring.metrics.extension import item_values, score_batch, takes_item
from titrant.tasks import SKILL_SETS

_labels = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abc")), min_size=2, max_size=40)


def test_a_study_can_name_what_the_rooms_have() -> None:
    assert set(NAMED) == {*METRICS, *BATCH_METRICS, "graded", "subject_gain", "by_task"}
    assert set(SKILLS) == set(SKILL_SETS)
    skill = {"factual": "facts"}
    assert {name: skill.get(each.skill, each.skill) for name, each in SKILL_SETS.items()} == SKILLS


@given(pairs=_labels)
def test_macro_f1_is_that_of_scikit_learn_over_the_gold_classes(pairs: list[tuple[str, str]]) -> None:
    said, gold = zip(*pairs, strict=True)
    wanted = f1_score(gold, said, labels=sorted(set(gold)), average="macro", zero_division=0)
    assert MacroF1().over(said, [[label] for label in gold]) == pytest.approx(wanted)


@given(pairs=_labels)
def test_what_items_contribute_averages_to_the_metric(pairs: list[tuple[str, str]]) -> None:
    said, gold = zip(*pairs, strict=True)
    references = [[label] for label in gold]
    values = item_values("macro_f1", said, references)
    assert values.mean() == pytest.approx(MacroF1().over(said, references))


def test_items_of_a_mean_contribute_their_own_scores() -> None:
    class Accuracy:
        name, revision = "share_right", "1"

        def over(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
            return float(np.mean([p in r for p, r in zip(predictions, references, strict=True)]))

    metric = extension_of(Accuracy(), kind="metric")
    assert item_values(metric, list("aabc"), [["a"], ["b"], ["b"], ["c"]]) == pytest.approx([1, 0, 1, 1])


def test_the_spread_of_a_difference_in_macro_f1_is_that_of_resampled_items() -> None:
    rng = rng_for(5, "macro f1")
    gold = rng.choice(list("abc"), size=400, p=[0.6, 0.3, 0.1])
    answers = [np.where(rng.random(400) < share, gold, rng.choice(list("abc"), size=400)) for share in (0.6, 0.75)]
    references = [[label] for label in gold]
    one, other = (item_values("macro_f1", list(said), references) for said in answers)
    spread = (other - one).std(ddof=1) / np.sqrt(400)
    metric = MacroF1()
    drawn = []
    for _ in range(400):
        at = rng.integers(400, size=400)
        again = [[gold[place]] for place in at]
        drawn.append(metric.over(answers[1][at], again) - metric.over(answers[0][at], again))
    assert spread == pytest.approx(np.std(drawn), rel=0.12)


def test_equal_pairs_are_left_out_once() -> None:
    calls = []

    class Counting(MacroF1):
        name = "counting"

        def over(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
            calls.append(len(predictions))
            return super().over(predictions, references)

    item_values(extension_of(Counting(), kind="metric"), list("ab") * 100, [["a"], ["b"]] * 100)
    assert calls == [200, 199, 199]


@pytest.mark.parametrize(
    ("value", "said"),
    [(2.0, "left 0 to 1 on 2 answers (got '2.0'"), (float("nan"), "returned NaN on 2 answers"), ("x", "no number,")],
)
def test_a_value_over_all_answers_is_a_number_from_0_to_1(value: object, said: str) -> None:
    class Broken:
        name, revision = "broken", "1"

        def over(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> object:
            return value

    with pytest.raises(ScoresError) as caught:
        score_batch(extension_of(Broken(), kind="metric"), ["a", "b"], [["a"], ["b"]])
    assert f"the metric broken {said}" in str(caught.value) or said in str(caught.value)


def test_a_metric_gets_the_item_where_it_has_a_place_for_it() -> None:
    assert [
        takes_item(metric)
        for metric in (
            lambda p, r: 1.0,
            lambda p, r, item: 1.0,
            lambda p, r, item=None: 1.0,
            lambda p, r, scale=2: 1.0,
            lambda *arguments: 1.0,
        )
    ] == [False, True, True, False, True]
