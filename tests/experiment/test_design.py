"""What a study holds equal: every arm gets the same budget, and every arm sees its target rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_study import fake_prepare, write_rows, write_study

from titrant.config.study import load_study
from titrant.core.errors import MixError
from titrant.core.records import Draw
from titrant.experiment.design import Design, make_design, refuse_unvisited_target
from titrant.experiment.prepare import PreparedStudy, prepare_study
from titrant.tokens import plan_visits


@pytest.fixture(autouse=True)
def _no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))


def bench_of(folder: Path, words: dict[str, int], arms: dict[str, Any]) -> PreparedStudy:
    """A study that holds tokens equal, with a source of 30 rows for each name, its answers of so many words."""
    path = write_study(
        folder,
        generalist={name: {"rows": f"{name}.jsonl"} for name in words},
        arms=arms,
        hold_equal="tokens",
        training={"passes": 2, "batch_rows": 4, "max_tokens": 1200},
        retention=None,
    )
    for name, count in words.items():
        write_rows(
            folder / f"{name}.jsonl",
            [{"prompt": f"Tell of {name} {n}.", "response": f"{name} {n}" + " and on" * count} for n in range(30)],
        )
    return prepare_study(load_study(path))


def target_draws(design: Design) -> dict[tuple[str, int], Draw]:
    return {
        (planned.run.arm.name, planned.run.seed): planned.run.draws[0]
        for planned in design.runs
        if planned.run.arm.target_rows
    }


CASES = [
    pytest.param({"short": 1, "long": 60}, {"short": [20], "long": [10]}, (), id="few-long-rows-beside-many-short"),
    pytest.param({"a": 2, "b": 90, "c": 1}, {"a": [30], "b": [5, 20], "c": [30]}, (), id="three-sources"),
    pytest.param(
        {"a": 1, "b": 80}, {"a": [30]}, ({"total": 12, "shares": {"a": 1, "b": 5}},), id="a-blend-is-the-longest"
    ),
    pytest.param({"a": 1, "b": 70}, {"a": [25], "b": [{"tokens": 9000}]}, (), id="a-dose-in-tokens"),
]


@pytest.mark.parametrize(("words", "doses", "blends"), CASES)
def test_the_budget_is_the_largest_token_count_over_all_dosed_arms(
    tmp_path: Path, words: dict[str, int], doses: dict[str, Any], blends: tuple[Any, ...]
) -> None:
    arms = {"target_rows": [6, 12], "doses": doses, "seeds": 3, **({"blends": list(blends)} if blends else {})}
    prepared = bench_of(tmp_path / "study", words, arms)
    design = make_design(prepared)
    longest_target_row = max(
        len(row.ids) for (source, _), row in prepared.models["toy-model"].rows.items() if source == "toy"
    )
    budgets = {(arm.target_rows, arm.tokens) for arm in design.arms if arm.target_rows}
    assert sorted(size for size, _ in budgets) == [6, 12]  # one budget at each target size
    for planned in design.runs:
        if planned.run.arm.target_rows:
            budget = planned.run.arm.tokens
            assert budget is not None
            assert budget - longest_target_row < planned.run.tokens <= budget
    passes = prepared.study.training_settings().passes
    for draw in target_draws(design).values():
        assert draw.visits >= passes * draw.got


def test_an_arm_that_cannot_visit_its_target_rows_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = bench_of(tmp_path / "study", {"short": 1}, {"target_rows": [6], "doses": {"short": [20]}, "seeds": 1})
    run = next(planned.run for planned in make_design(prepared).runs if planned.run.arm.name == "6+short:20")
    refuse_unvisited_target(run)
    short = replace(run, draws=(replace(run.draws[0], visits=5), *run.draws[1:]))
    with pytest.raises(MixError, match=r"6\+short:20 cannot visit each of its 6 target rows .*got .5 visits"):
        refuse_unvisited_target(short)

    def without_the_target(**said: Any) -> Any:
        return plan_visits(**{**said, "target": ()} if said["generalist"] and said["target"] else said)

    monkeypatch.setattr("titrant.experiment.design.plan_visits", without_the_target)
    with pytest.raises(MixError, match=r"6\+short:20 cannot visit each of its 6 target rows .*got .0 visits"):
        make_design(prepared)
