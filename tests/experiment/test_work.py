"""What a change of a study's files costs: finished trainings are kept, and only what is new is done."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_study import STUDY, fake_prepare, page_as_text, trial_backend, write_rows, write_study

from titrant.api import run_study
from titrant.config.study import load_study
from titrant.core.errors import StoreMismatch
from titrant.experiment.design import make_design
from titrant.experiment.prepare import prepare_study
from titrant.experiment.results import Results
from titrant.experiment.work import open_runs
from titrant.storage.store import Store

LORA = {"method": "lora", "lora": {"rank": 2}, "passes": 2, "batch_rows": 4, "max_tokens": 400}


@pytest.fixture(autouse=True)
def toy_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("titrant.report.page.render", page_as_text)
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    monkeypatch.setattr("titrant.experiment.runner.DEFAULT_BACKEND", trial_backend())


class Trial:
    """A study in a folder that is run again and again, with what each time trained and loaded."""

    def __init__(self, folder: Path, **said: Any) -> None:
        self.folder, self.log = folder, folder / "log"
        self.path = write_study(folder / "study", **said)
        self.rows: list[dict[str, Any]] = [
            json.loads(line) for line in (folder / "study" / "test.jsonl").read_text().splitlines()
        ]

    def run(self) -> Results:
        self.log.unlink(missing_ok=True)
        backend = trial_backend(log=str(self.log))
        return run_study(load_study(self.path), out=self.folder / "out", jobs=0, backend=backend)

    def test_rows(self, rows: list[dict[str, Any]]) -> None:
        write_rows(self.folder / "study" / "test.jsonl", rows)

    def kinds_left(self) -> Counter[str]:
        """What is left to do, by kind, as `plan` counts it."""
        design = make_design(prepare_study(load_study(self.path), backend=trial_backend().identity))
        return Counter(one.kind for one in open_runs([design], Store.open(self.folder / "out")))

    @property
    def done(self) -> Counter[str]:
        """Trainings begun, steps taken and weights loaded the last time."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return Counter("step" if line.startswith("step") else line.split()[0] for line in lines)


@pytest.fixture(params=["choices", "text"])
def trial(request: pytest.FixtureRequest, tmp_path: Path) -> Trial:
    found = Trial(tmp_path, target={**STUDY["target"], "answer": request.param, "metric": "exact_match"})
    found.run()
    assert found.done["start"]
    return found


def scores(results: Results) -> list[tuple[str, int, str, str, float | None]]:
    return sorted((s.arm, s.seed, s.item, s.metric, s.value) for s in results.scores)


@pytest.mark.parametrize(
    "change", [lambda rows: rows[::-1], lambda rows: sorted(rows, key=str), lambda rows: rows[7:] + rows[:7]]
)
def test_reordering_the_test_file_does_nothing(trial: Trial, change: Callable[[Any], Any]) -> None:
    verdict = (trial.folder / "out" / "verdict.json").read_bytes()
    before = (trial.folder / "out" / "scores.parquet").read_bytes()
    trial.test_rows(change(trial.rows))
    assert not trial.kinds_left()
    trial.run()
    assert not trial.done
    assert (trial.folder / "out" / "scores.parquet").read_bytes() == before
    assert (trial.folder / "out" / "verdict.json").read_bytes() == verdict


@pytest.mark.parametrize("line", [0, 3, 19])
def test_a_corrected_reference_costs_scoring_alone(trial: Trial, line: int) -> None:
    before = scores(trial.run())
    rows = [dict(row) for row in trial.rows]
    rows[line]["label"] = "fish" if rows[line]["label"] != "fish" else "bird"
    trial.test_rows(rows)
    assert not trial.kinds_left()
    after = scores(trial.run())
    assert not trial.done
    assert len(after) == len(before)
    assert after != before


def test_one_more_item_trains_again_what_kept_no_weights_and_says_so_first(trial: Trial) -> None:
    kept = dict(Store.open(trial.folder / "out").finished())
    first = {key[:-1]: key[-1] for key in scores(trial.run())}
    trial.test_rows([*trial.rows, {"text": "one more thing entirely", "label": "bird"}])
    left = trial.kinds_left()
    assert set(left) == {"train_again", "answer"}
    assert left["answer"] == 1, "the untuned model"
    after = {key[:-1]: key[-1] for key in scores(trial.run())}
    assert trial.done["start"] == left["train_again"]
    assert Store.open(trial.folder / "out").finished() == kept, "runs are named as they were"
    assert {key: after[key] for key in first} == first
    assert len(after) > len(first)
    assert not trial.kinds_left()


def test_one_more_item_costs_its_answers_alone_where_adapters_are_kept(tmp_path: Path) -> None:
    trial = Trial(tmp_path, training=LORA)
    trial.run()
    trial.test_rows([*trial.rows, {"text": "one more thing entirely", "label": "bird"}])
    assert set(trial.kinds_left()) == {"answer"}
    incremental = scores(trial.run())
    assert trial.done["step"] == 0
    afresh = Trial(tmp_path / "afresh", training=LORA)
    afresh.test_rows([*trial.rows, {"text": "one more thing entirely", "label": "bird"}])
    assert scores(afresh.run()) == incremental


def test_weights_that_are_kept_answer_what_is_new(tmp_path: Path) -> None:
    trial = Trial(tmp_path, keep_weights="all")
    trial.run()
    trial.test_rows([*trial.rows, {"text": "one more thing entirely", "label": "bird"}])
    assert set(trial.kinds_left()) == {"answer"}
    trial.run()
    assert trial.done["step"] == 0
    damaged = next((tmp_path / "out" / "kept").glob("[!.]*/step.json"))
    damaged.unlink()
    damaged.parent.rmdir()
    trial.test_rows([*trial.rows, {"text": "and yet another", "label": "fish"}])
    assert trial.kinds_left()["train_again"] == 1


def test_a_changed_metric_a_comment_and_a_name_cost_nothing(trial: Trial) -> None:
    said = json.loads(trial.path.read_text())
    for change in (
        {"smallest_effect": 0.1},
        {"target": {**said["target"], "metric": "f1" if said["target"]["answer"] == "text" else "accuracy"}},
    ):
        trial.path.write_text("# a comment\n" + json.dumps({**said, **change}))
        assert not trial.kinds_left()
        trial.run()
        assert not trial.done


def test_items_of_the_same_prompt_are_asked_once(trial: Trial) -> None:
    names = make_design(prepare_study(load_study(trial.path))).runs[0].requests.names
    twice = [dict(row, label="fish" if row["label"] != "fish" else "bird") for row in trial.rows[:3]]
    trial.test_rows([*trial.rows, *twice])
    assert make_design(prepare_study(load_study(trial.path))).runs[0].requests.names == names
    assert not trial.kinds_left()


def test_another_backend_is_told_from_the_one_that_filled_the_store(tmp_path: Path) -> None:
    from titrant.engines import BackendSpec

    path = write_study(tmp_path / "study")
    fake = BackendSpec(module="titrant.backends.fake", name="FakeBackend")
    run_study(load_study(path), out=tmp_path / "out", jobs=0, backend=fake)
    log = tmp_path / "log"
    with pytest.raises(
        StoreMismatch, match=r"backend titrant\.backends\.fake:FakeBackend then, fake_study:TrialBackend"
    ):
        run_study(load_study(path), out=tmp_path / "out", jobs=0, backend=trial_backend(log=str(log)))
    assert not log.exists()
