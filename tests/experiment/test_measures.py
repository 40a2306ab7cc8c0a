"""What stands beside the deciding score, worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from titrant.core.records import Arm, Item, TrainingSettings, Turn
from titrant.experiment.measures import TargetMeasure, target_measures
from titrant.scoring.sheets import RunScores, Scores, Sheet


def item(key: str, *, right: str = "yes", task: str = "one", **said: Any) -> Item:
    defaults: dict[str, Any] = {
        "row_id": key,
        "eval_set": "target",
        "target": "mine",
        "turns": (Turn(role="user", text=key),),
        "references": (right,),
        "choices": ("no", "yes"),
        "answer": "choices",
        "metric": "accuracy",
        "max_answer_tokens": 4,
    }
    return Item(key=key, task=task, **{**defaults, **said})


def scores_of(items: list[Item], *seeds: dict[tuple[str, str], float]) -> Scores:
    """One arm at as many seeds, with these values by (item, metric); the others have none."""
    sheet = Sheet.of(items)
    settings = TrainingSettings()
    arm = Arm(name="8", model="m", target="mine", target_rows=8, doses=(), training=settings)
    runs = [
        RunScores(
            run_id=str(seed),
            arm=arm,
            seed=seed,
            sheet=sheet,
            values_N=np.array(
                [values.get((of.key, metric), np.nan) for of, metric in zip(sheet.items, sheet.metrics, strict=True)]
            ),
            choice_I=np.zeros(len(sheet.keys), dtype=np.int32),
        )
        for seed, values in enumerate(seeds)
    ]
    return Scores(runs)


def found(measures: tuple[TargetMeasure, ...], metric: str, of: str = "all items") -> tuple[int, float]:
    for measure in measures:
        if (measure.metric, measure.of) == (metric, of):
            return measure.items, dict(measure.means)["8"]
    raise AssertionError(f"{metric} of {of} is not among {[(each.metric, each.of) for each in measures]}")


def test_balanced_accuracy_gives_the_majority_nothing() -> None:
    items = [item("a"), item("b"), item("c"), item("d", right="no")]
    always_yes = {(key, "accuracy"): value for key, value in zip("abcd", (1.0, 1.0, 1.0, 0.0), strict=True)}
    measures = target_measures(scores_of(items, always_yes), "m", "mine")
    assert found(measures, "accuracy") == (4, 0.75)
    assert found(measures, "balanced_accuracy") == (4, 0.5)


def test_no_balanced_accuracy_where_choices_differ_between_items() -> None:
    items = [item("a"), item("b", choices=("yes", "perhaps"))]
    measures = target_measures(scores_of(items, {("a", "accuracy"): 1.0, ("b", "accuracy"): 1.0}), "m", "mine")
    assert "balanced_accuracy" not in {measure.metric for measure in measures}


def test_means_are_over_seeds_then_tasks_of_equal_weight_and_by_rung_and_answer_seen() -> None:
    seen = (("answer_seen", "yes"),)
    items = [
        item("a", rungs=("all", "narrow")),
        item("b", rungs=("all", "narrow")),
        item("c", task="two", rungs=("all",), tags=seen),
    ]
    values = [
        {("a", "accuracy"): 1.0, ("b", "accuracy"): 0.0, ("c", "accuracy"): 1.0},
        {("a", "accuracy"): 0.0, ("b", "accuracy"): 0.0, ("c", "accuracy"): 1.0},
    ]
    measures = target_measures(scores_of(items, *values), "m", "mine")
    assert found(measures, "accuracy") == (3, pytest.approx((0.25 + 1) / 2))
    assert found(measures, "accuracy", "rung narrow") == (2, 0.25)
    assert found(measures, "accuracy", "answer seen in training") == (1, 1.0)
    assert found(measures, "accuracy", "answer not seen") == (2, 0.25)
    assert "rung all" not in {measure.of for measure in measures}


def test_tasks_judged_in_several_ways_have_a_mean_by_task_without_what_is_only_graded() -> None:
    text: dict[str, Any] = {"choices": None, "answer": "text", "metric": "rouge_l", "task": "two"}
    items = [item("a"), item("b", **text), item("loss:b", **{**text, "answer": "loss", "metric": "graded"})]
    values = {("a", "accuracy"): 1.0, ("a", "graded"): 0.8, ("b", "rouge_l"): 0.5, ("loss:b", "graded"): 0.2}
    measures = target_measures(scores_of(items, values), "m", "mine")
    assert found(measures, "by_task") == (2, 0.75)
    assert found(measures, "graded") == (2, 0.5)
    assert found(measures, "rouge_l") == (1, 0.5)
