"""What is chosen by a mean is chosen with the weights of the verdict: the baseline handed over, the learning rate."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from fake_study import fake_prepare, write_rows, write_study

from titrant.api import run_study
from titrant.config.study import load_study
from titrant.core.records import Verdict
from titrant.engines import BackendSpec
from titrant.experiment import results
from titrant.experiment.results import better_baseline, weighed_means
from titrant.stats.contrasts import TaskWeights
from titrant.stats.table import ScoreTable, TableArm


def table(sizes: dict[str, int], plain: dict[str, float], matched: dict[str, float], *, seeds: int = 2) -> ScoreTable:
    """Scores of two baselines that are the same for all items of a task."""
    tasks = tuple(task for task, size in sizes.items() for _ in range(size))
    values = [np.array([means[task] for task in tasks]) for means in (plain, matched)]
    values_ASI = np.stack([np.stack([each] * seeds) for each in values])
    return ScoreTable(
        eval_set="target",
        arms=(
            TableArm(name="64", kind="alone", target_rows=64, dose=0),
            TableArm(name="64-matched", kind="matched", target_rows=64, dose=0),
        ),
        seeds=tuple(map(str, range(seeds))),
        items=tuple(map(str, range(len(tasks)))),
        groups=None,
        tasks=tasks,
        values_ASI=values_ASI,
        present_ASI=np.ones(values_ASI.shape, bool),
    )


def verdict(matched: str | None = "64-matched") -> Verdict:
    return cast("Verdict", SimpleNamespace(baseline="64", matched=matched))


@pytest.mark.parametrize(
    ("sizes", "plain", "matched", "macro", "by_item"),
    [
        ({"a": 90, "b": 10}, {"a": 0.5, "b": 1.0}, {"a": 0.6, "b": 0.2}, "64", "64-matched"),
        ({"a": 5, "b": 45}, {"a": 0.2, "b": 0.6}, {"a": 0.9, "b": 0.5}, "64-matched", "64"),
        ({"a": 60, "b": 6, "c": 6}, {"a": 0.7, "b": 0.1, "c": 0.1}, {"a": 0.5, "b": 0.4, "c": 0.4}, "64-matched", "64"),
        ({"a": 7, "b": 3}, {"a": 0.1, "b": 0.7}, {"a": 0.7, "b": 0.1}, "64", "64-matched"),  # a tie by macro
    ],
)
def test_the_better_baseline_is_the_one_that_the_verdicts_weights_make_better(
    sizes: dict[str, int], plain: dict[str, float], matched: dict[str, float], macro: str, by_item: str
) -> None:
    scores = table(sizes, plain, matched)
    assert better_baseline(scores, verdict(), task_weights="macro") == macro
    assert better_baseline(scores, verdict(), task_weights="by_item") == by_item
    assert better_baseline(scores, verdict(None), task_weights="macro") == "64"


def test_means_by_macro_weigh_tasks_and_not_their_items() -> None:
    scores = table({"a": 90, "b": 10}, {"a": 0.5, "b": 1.0}, {"a": 0.6, "b": 0.2})
    assert weighed_means(scores, task_weights="macro") == {"64": 0.75, "64-matched": 0.4}
    assert weighed_means(scores, task_weights="by_item") == {"64": 0.55, "64-matched": 0.56}


@pytest.mark.parametrize("weights", ["macro", "by_item"])
def test_a_studys_choices_are_made_with_its_own_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: TaskWeights
) -> None:
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    asked: list[tuple[str, str]] = []

    def weighed(scores: ScoreTable, *, task_weights: TaskWeights) -> dict[str, float]:
        asked.append((scores.eval_set, task_weights))
        return weighed_means(scores, task_weights=task_weights)

    monkeypatch.setattr(results, "weighed_means", weighed)
    path = write_study(
        tmp_path / "study",
        target={
            "collection": {"own": "own.jsonl", "test_share": 0.3},
            "columns": {"question": "text", "answer": "label", "task": "task"},
            "validation": 0.3,
            "metric": "exact_match",
            "answer": "text",
            "task_weights": weights,
        },
        training={"passes": 1, "batch_rows": 4, "max_tokens": 400, "learning_rate": [1e-4, 2e-4]},
        retention=None,
    )
    rows: list[dict[str, Any]] = [
        {"text": f"What is thing {n} of {task}?", "label": f"word {n % 3}", "task": task}
        for task, count in (("a", 40), ("b", 12))
        for n in range(count)
    ]
    write_rows(tmp_path / "study" / "own.jsonl", rows)
    run_study(
        load_study(path),
        out=tmp_path / "out",
        jobs=0,
        backend=BackendSpec(module="titrant.backends.fake", name="FakeBackend"),
    )
    assert {eval_set for eval_set, _ in asked} == {"validation", "target"}
    assert {used for _, used in asked} == {weights}
