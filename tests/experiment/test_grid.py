"""A grid of one's own over a study: chosen runs are done, scored and read, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_study import STUDY, FailsAlone, fake_prepare, trial_backend, write_study

import titrant
from titrant.core.errors import ScoresError, SpecError, StoreMismatch
from titrant.engines import BackendSpec, Event

HERE = titrant.LocalEngine(jobs=0)


@pytest.fixture(autouse=True)
def toy_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    monkeypatch.setattr("titrant.experiment.runner.DEFAULT_BACKEND", trial_backend())
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path / "study")


def named(runs: Any) -> list[tuple[str, int]]:
    return [(planned.run.arm.name, planned.run.seed) for planned in runs]


def test_only_the_chosen_runs_are_done_and_in_their_order(study: Path, tmp_path: Path) -> None:
    grid = titrant.grid(study, out=tmp_path / "out")
    runs = grid.runs()
    assert len(runs) == 9
    assert grid.left(runs) == runs
    chosen = [planned for planned in reversed(runs) if planned.run.arm.kind in ("alone", "dosed")]
    ended: list[str] = []
    failed = grid.run(
        chosen, engine=HERE, reporter=lambda event: ended.append(event.run_id) if event.kind == "done" else None
    )
    assert failed == ()
    assert ended == [planned.run.run_id for planned in chosen]
    assert set(named(runs)) - set(named(grid.left(runs))) == set(named(chosen))
    assert grid.run(chosen, engine=HERE, reporter=lambda event: pytest.fail("all is done")) == ()


def test_a_grid_that_only_looks_makes_no_folder(study: Path, tmp_path: Path) -> None:
    grid = titrant.grid(study, out=tmp_path / "out")
    grid.left(grid.runs())
    assert not (tmp_path / "out").exists()


def test_what_a_grid_has_run_the_study_finds_and_the_other_way_round(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", keep_weights="none")  # weights to hand over would be trained again

    def no_event(event: Event) -> None:
        pytest.fail("everything is done")

    grid = titrant.grid(study, out=tmp_path / "out")
    grid.run(grid.runs(), engine=HERE)
    results = titrant.run(study, out=tmp_path / "out", engine=HERE, reporter=no_event)
    by_run = ("run_id", "item", "metric", "eval_set", "target")
    ours = grid.scores(grid.runs()).sort_by([(name, "ascending") for name in by_run])
    assert ours.equals(results.scores.sort_by([(name, "ascending") for name in by_run]))
    later = titrant.grid(study, out=tmp_path / "out")
    assert later.left(later.runs()) == ()


def test_runs_are_planned_with_seeds_and_settings_of_ones_own(study: Path, tmp_path: Path) -> None:
    grid = titrant.grid(study, out=tmp_path / "out")
    settings = grid.study.candidates()[0]

    def faster_where_dosed(model: str, target: str, arm: str) -> titrant.TrainingSettings:
        return replace(settings, learning_rate=1e-3) if "+" in arm else settings

    runs = grid.runs(seeds=(7, 8, 9), settings=faster_where_dosed)
    assert {planned.run.seed for planned in runs if planned.run.steps} == {7, 8, 9}
    rates = {planned.run.arm.name: planned.run.arm.training.learning_rate for planned in runs}
    assert rates["6+general:4"] == 1e-3
    assert rates["6"] == settings.learning_rate
    one = grid.runs(seeds=(7,), settings=replace(settings, learning_rate=1e-3))
    assert {planned.run.arm.training.learning_rate for planned in one} == {1e-3}
    assert {p.run.run_id for p in one if p.run.arm.kind == "dosed"} <= {p.run.run_id for p in runs}


def test_a_study_that_tries_several_rates_wants_to_be_told_which(tmp_path: Path) -> None:
    training = {"passes": 2, "batch_rows": 4, "max_tokens": 400, "learning_rate": [1e-5, 3e-5]}
    path = write_study(tmp_path / "study", training=training, target={**STUDY["target"], "validation": 0.25}, train=20)
    study = titrant.load_study(path)
    assert study.needs_choosing
    grid = titrant.grid(study, out=tmp_path / "out")
    with pytest.raises(SpecError, match=r"2 settings stand to choice.*Fix: grid\.runs\(settings="):
        grid.runs()
    tries = [grid.runs(seeds=(0,), settings=settings) for settings in study.candidates()]
    names = [{planned.run.run_id for planned in runs if planned.run.steps} for runs in tries]
    assert not names[0] & names[1]


def test_two_studies_share_a_folder_and_what_is_the_same_is_trained_once(study: Path, tmp_path: Path) -> None:
    again = write_study(tmp_path / "other", name="other", arms={"target_rows": [6, 8], "doses": {"general": [4]}})
    started: list[str] = []
    for path in (study, again):
        grid = titrant.grid(path, out=tmp_path / "out")
        grid.run(
            grid.runs(),
            engine=HERE,
            reporter=lambda event: started.append(event.run_id) if event.kind == "started" else None,
        )
    assert len(started) == len(set(started))


def test_scores_come_by_any_metric_without_training(study: Path, tmp_path: Path) -> None:
    grid = titrant.grid(study, out=tmp_path / "out")
    runs = [planned for planned in grid.runs() if planned.run.arm.name == "6"]
    grid.run(runs, engine=HERE)
    own = grid.scores(runs)
    assert set(own.column("metric").to_pylist()) == {"accuracy", "graded", "token_probability"}
    assert set(own.column("seed").to_pylist()) == {0, 1}

    def length(prediction: str, references: Any) -> float:
        return len(prediction) / 100

    other = grid.scores(runs, metric=length).to_pylist()
    theirs = [row["value"] for row in other if row["metric"] == "length" and row["eval_set"] == "target"]
    assert len(theirs) == 2 * 20
    assert set(theirs) == {0.04}  # bird, fish, tree
    with pytest.raises(ScoresError, match="no such metric"):
        grid.scores(runs, metric="bleu")


def test_scores_of_a_run_that_lacks_answers_name_it(study: Path, tmp_path: Path) -> None:
    grid = titrant.grid(study, out=tmp_path / "out")
    dosed = [planned for planned in grid.runs() if planned.run.arm.kind == "dosed"]
    with pytest.raises(SpecError, match=r"6\+general:4 seed 0.*Fix: run it first"):
        grid.scores(dosed)
    grid.run(dosed[:1], engine=HERE)
    with pytest.raises(SpecError, match=r"6\+general:4 seed 1"):
        grid.scores(dosed)
    with pytest.raises(SpecError, match=r"6\+general:4 seed 1"):
        grid.log(dosed[1])


def test_the_log_of_a_run_holds_its_steps_and_times(study: Path, tmp_path: Path) -> None:
    grid = titrant.grid(study, out=tmp_path / "out")
    dosed = next(planned for planned in grid.runs() if planned.run.arm.kind == "dosed")
    untuned = next(planned for planned in grid.runs() if planned.run.arm.kind == "untuned")
    grid.run([dosed, untuned], engine=HERE)
    log = grid.log(dosed)
    assert [step.step for step in log.steps] == list(range(1, dosed.run.steps + 1))
    assert sum(step.tokens for step in log.steps) == dosed.run.tokens
    for step in log.steps:
        assert sum(step.loss_by_source.values()) == pytest.approx(step.loss)
    assert log.training_seconds >= 0
    assert log.answering_seconds >= 0
    assert grid.log(untuned).steps == ()


def test_a_run_that_fails_is_handed_back_and_the_others_are_done(study: Path, tmp_path: Path) -> None:
    backend = BackendSpec(module="fake_study", name="FailsAlone", arguments={"rows": 6})
    assert FailsAlone
    grid = titrant.grid(study, out=tmp_path / "out", backend=backend)
    runs = grid.runs()
    failed = grid.run(runs, engine=HERE)
    assert set(named(failed)) == {("6", 0), ("6", 1), ("6-matched", 0), ("6-matched", 1)}
    assert grid.left(runs) == failed


def test_runs_of_another_backend_in_the_folder_are_refused_and_not_mixed(study: Path, tmp_path: Path) -> None:
    first = titrant.grid(study, out=tmp_path / "out")
    first.run(first.runs()[:2], engine=HERE)
    other = titrant.grid(
        study, out=tmp_path / "out", backend=BackendSpec(module="titrant.backends.fake", name="FakeBackend")
    )
    with pytest.raises(StoreMismatch, match="by another backend"):
        other.run(other.runs()[:2], engine=HERE)


def test_the_loss_of_the_untuned_model_is_the_mean_over_answer_tokens_of_the_pool(study: Path, tmp_path: Path) -> None:
    grid = titrant.grid(study, out=tmp_path / "out")
    loss = grid.untuned_loss("toy-model")
    assert 0 < loss < 10
    assert grid.untuned_loss("toy-model") == loss
    assert grid.untuned_loss("toy-model", rows=2) != loss
    with pytest.raises(SpecError, match="no such model"):
        grid.untuned_loss("gpt")


def test_an_engine_that_is_none_is_refused_before_anything_is_run(study: Path, tmp_path: Path) -> None:
    grid = titrant.grid(study, out=tmp_path / "out")
    with pytest.raises(SpecError, match="this is no engine"):
        grid.run(grid.runs(), engine=3)
    assert not (tmp_path / "out").exists()
