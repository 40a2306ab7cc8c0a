"""Weighted sums of arms as numbers: what they are worth by hand, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import special

import titrant
from titrant.core.errors import ScoresError
from titrant.stats.contrasts import contrast_batch, layout, moments

ARMS = ("a", "b", "c")


def table(values_ASI: np.ndarray, **more: Any) -> dict[str, list[Any]]:
    cells = [(arm, seed, item) for arm, seed, item in np.ndindex(values_ASI.shape)]
    return {
        "arm": [ARMS[arm] for arm, _, _ in cells],
        "seed": [seed for _, seed, _ in cells],
        "item": [f"i{item:03}" for _, _, item in cells],
        "value": [float(values_ASI[cell]) for cell in cells],
        **{name: [values[item] for _, _, item in cells] for name, values in more.items()},
    }


def some(arms: int = 3, seeds: int = 4, items: int = 30) -> np.ndarray:
    return np.random.default_rng(0).random((arms, seeds, items))


def test_a_contrast_is_worked_by_hand() -> None:
    scores = np.array([[[0, 0, 0], [0, 0, 0]], [[0, 1, 2], [1, 2, 3]]]) / 4
    found = titrant.contrast(table(scores), {"b": 1, "a": -1})
    assert found.value == 1.5 / 4
    assert (found.items, found.seeds) == (3, 2)
    assert found.standard_error == pytest.approx(np.sqrt(1 / 3 + 1 / 4) / 4)


def test_two_arms_are_the_contrast_that_a_verdict_takes() -> None:
    values = some()
    groups = [f"g{n // 2}" for n in range(30)]
    tasks = ["x" if n < 10 else "y" for n in range(30)]
    found = titrant.contrast(table(values, group=groups, task=tasks), {"b": 1, "a": -1})
    difference = (values[1] - values[0])[None]
    plan = layout(30, groups=groups, tasks=tasks)
    expected = contrast_batch(moments(np.concatenate([np.zeros_like(difference), difference]), plan), [1], 0)
    # To the last digit: pages of kept scores are compared byte by byte.
    assert found.value == float(expected.difference[0])
    assert found.standard_error == float(expected.standard_error[0])
    assert found.df == float(expected.df[0])
    low, high = found.interval() or (0.0, 0.0)
    half = special.stdtrit(found.df, 0.975) * found.standard_error
    assert (low, high) == pytest.approx((found.value - half, found.value + half))


def test_weights_of_several_arms_add_up_and_the_order_of_rows_does_not_matter() -> None:
    values = some()
    columns = table(values)
    found = titrant.contrast(columns, {"c": 1, "a": -0.5, "b": -0.5})
    assert found.value == pytest.approx(float((values[2] - values[:2].mean(0)).mean()))
    frame = pd.DataFrame(columns).sample(frac=1, random_state=1)
    for given in (frame, pa.table(columns), pa.Table.from_pandas(frame)):
        assert titrant.contrast(given, {"c": 1, "a": -0.5, "b": -0.5}) == found


def test_scores_need_not_be_0_to_1() -> None:
    values = 20 * some() - 10
    assert titrant.contrast(table(values), {"b": 1}).value == pytest.approx(float(values[1].mean()))


def test_arms_are_compared_at_the_seeds_that_all_of_them_ran() -> None:
    columns = table(some())
    keep = [(arm, seed) != ("b", 3) for arm, seed in zip(columns["arm"], columns["seed"], strict=True)]
    fewer = {
        name: [value for value, kept in zip(values, keep, strict=True) if kept] for name, values in columns.items()
    }
    assert titrant.contrast(fewer, {"b": 1, "a": -1}).seeds == 3
    assert titrant.contrast(fewer, {"c": 1, "a": -1}).seeds == 4


def test_the_mean_of_independent_differences_has_satterthwaites_freedom() -> None:
    one = titrant.contrast(table(some()), {"b": 1, "a": -1})
    assert titrant.Difference.mean_of([one]).standard_error == pytest.approx(one.standard_error)
    both = titrant.Difference.mean_of([one, one])
    assert both.value == pytest.approx(one.value)
    assert both.standard_error == pytest.approx(one.standard_error / np.sqrt(2))
    assert both.df == pytest.approx(2 * one.df)
    assert (both.items, both.seeds) == (60, 4)


def test_where_no_cell_differs_there_is_no_interval() -> None:
    found = titrant.contrast(table(np.stack([np.zeros((2, 3)), np.ones((2, 3))])), {"b": 1, "a": -1})
    assert (found.value, found.interval()) == (1.0, None)


def _without(columns: dict[str, list[Any]], row: int) -> dict[str, list[Any]]:
    return {name: values[:row] + values[row + 1 :] for name, values in columns.items()}


@pytest.mark.parametrize(
    ("columns", "weights", "problem"),
    [
        (table(some()), {"d": 1, "a": -1}, r"no arm 'd' .*expected one of a, b, c"),
        (table(some()), {}, "no arm is weighed"),
        (_without(table(some()), 5), {"a": 1, "b": -1}, r"arm 'a', seed 0 has no score of 1 item .*i005"),
        ({**table(some()), "item": ["i"] * 360}, {"a": 1}, r"arm 'a', seed 0, item 'i' stands there twice"),
        ({**table(some()), "metric": ["f1", "accuracy"] * 180}, {"a": 1}, "scores of several metrics stand together"),
        ({**table(some()), "eval_set": ["target", "retention"] * 180}, {"a": 1}, "of several eval_sets stand together"),
        ({**table(some()), "value": ["x"] * 360}, {"a": 1}, r"row 0: not a number \(got 'x';"),
        ({**table(some()), "value": [float("inf")] * 360}, {"a": 1}, r"row 0: not a number \(got inf;"),
        ({"arm": ["a"], "seed": [0], "item": ["i"]}, {"a": 1}, r"no column value .*got 'arm, seed, item'"),
        (table(some(3, 1, 1)), {"a": 1, "b": -1}, "one item at one seed shows no variance"),
        ({**table(some()), "seed": [0]}, {"a": 1}, "columns are of unequal length"),
        (7, {"a": 1}, r"these are no scores \(got 'int'"),
    ],
)
def test_scores_that_cannot_be_contrasted_are_refused(columns: Any, weights: dict[str, float], problem: str) -> None:
    with pytest.raises(ScoresError, match=problem):
        titrant.contrast(columns, weights)


def test_a_null_score_is_a_missing_cell_that_may_be_left_out_with_its_item() -> None:
    columns = table(some())
    columns["value"][5] = None
    with pytest.raises(ScoresError, match="drop_incomplete"):
        titrant.contrast(columns, {"a": 1, "b": -1})
    found = titrant.contrast(columns, {"a": 1, "b": -1}, drop_incomplete=True)
    assert found.items == 29
    assert found == titrant.contrast(
        {
            name: [v for v, item in zip(values, columns["item"], strict=True) if item != "i005"]
            for name, values in columns.items()
        },
        {"a": 1, "b": -1},
    )


def test_a_task_weighs_as_much_as_another_or_an_item_does() -> None:
    values = some()
    columns = table(values, task=["x"] * 10 + ["y"] * 20)
    by_task = (values[1, :, :10].mean() + values[1, :, 10:].mean()) / 2
    assert titrant.contrast(columns, {"b": 1}).value == pytest.approx(float(by_task))
    assert titrant.contrast(columns, {"b": 1}, task_weights="by_item").value == pytest.approx(float(values[1].mean()))
