"""A study with nothing to do answers from what it wrote, and from nothing that has changed since."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from titrant.api import finish
from titrant.backends.fake import FakeBackend
from titrant.config.study import load_study
from titrant.core.errors import RunFailed, StoreDamaged
from titrant.experiment import standing
from titrant.experiment.design import Design, make_design
from titrant.experiment.results import Results, verdict_object
from titrant.experiment.runner import recommended_arm
from titrant.experiment.standing import standing_results
from titrant.storage.store import Store

Make = Callable[..., Any]
SMALL: dict[str, Any] = {"arms": {"target_rows": [6, 12], "doses": {"general": [8]}, "seeds": 2}, "retention": None}


class UnstableBackend(FakeBackend):
    """A backend that fails where 12 target rows and 8 others are trained on at seed 1."""

    def train(self, plan: Any, **options: Any) -> Any:
        if plan.seed == 1 and len(plan.rows) == 20:
            raise RunFailed("non_finite", "the loss is not finite", step=2)
        return super().train(plan, **options)


def standing_of(study: Any) -> Results | None:
    """What stands, as a later process would find it."""
    return standing_results(make_design(study.prepared), Store(study.store.root))


def test_results_stand_until_something_changes(make_study: Make) -> None:
    study = make_study(**SMALL)
    assert standing_of(study) is None
    results = finish(study.design, study.store)
    found = standing_of(study)
    assert found is not None
    assert (found.judged, found.failed, found.times_judged) == (results.judged, results.failed, results.times_judged)
    assert verdict_object(found) == verdict_object(results)
    assert list(found.scores) == list(results.scores)
    assert recommended_arm(found, found.judged[0]) == recommended_arm(results, results.judged[0])


class DoseOnlyBackend(FakeBackend):
    """A backend that fails wherever 12 target rows are trained on alone."""

    def train(self, plan: Any, **options: Any) -> Any:
        if len(plan.rows) == 12:
            raise RunFailed("non_finite", "the loss is not finite", step=2)
        return super().train(plan, **options)


def test_a_study_whose_baselines_all_failed_ends_in_a_report_that_says_so(make_study: Make, backend_of: Make) -> None:
    study = make_study(backend=backend_of(DoseOnlyBackend), **{**SMALL, "smallest_effect": 0.2})
    results = finish(study.design, study.store)
    judged = results.judged[0]
    assert (judged.verdict.verdict, judged.verdict.target_rows, judged.better_baseline) == ("cannot_tell", 12, "")
    assert "no arm without a dose has scores" in judged.verdict.sentence
    page = (study.store.root / "report.html").read_text()
    assert "Doses without a baseline to compare with" in page
    assert json.loads((study.store.root / "verdict.json").read_text())["baseline"] is None
    found = standing_of(study)
    assert found is not None
    assert verdict_object(found) == verdict_object(results)


def test_results_with_failed_runs_stand_too(make_study: Make, backend_of: Make) -> None:
    study = make_study(backend=backend_of(UnstableBackend), **SMALL)
    results = finish(study.design, study.store)
    found = standing_of(study)
    assert found is not None
    assert found.failed == results.failed
    assert [cell.failure.kind for cell in found.failed] == ["non_finite"]


def test_scores_are_not_read_unless_they_are_looked_at(make_study: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(**SMALL)
    finish(study.design, study.store)
    monkeypatch.setattr(standing, "collect", lambda *_: pytest.fail("scores were read"))
    found = standing_of(study)
    assert found is not None
    assert found.judged[0].verdict.sentence


def changed_report(study: Any) -> None:
    path = study.store.root / "report.html"
    path.write_bytes(path.read_bytes().replace(b"<title>", b"<title>!", 1))


def missing_scores(study: Any) -> None:
    (study.store.root / "scores.parquet").unlink()


def torn_record(study: Any) -> None:
    path = study.store.root / "results.json"
    path.write_bytes(path.read_bytes()[:-20])


def missing_run(study: Any) -> None:
    shutil.rmtree(study.store.run_folder(study.design.runs[-1].run.run_id))


def changed_test_file(study: Any) -> None:
    path = study.prepared.study.folder / "test.jsonl"
    path.write_text(path.read_text() + "\n")


def new_failure(study: Any) -> None:
    run_id = study.design.runs[-1].run.run_id
    missing_run(study)
    failure = {"kind": "non_finite", "step": 1, "message": "later"}
    study.store.append({"kind": "failure", "run_id": run_id, "recipe_id": "", "failure": failure})


@pytest.mark.parametrize(
    "change", [changed_report, missing_scores, torn_record, missing_run, changed_test_file, new_failure]
)
def test_results_do_not_stand_once_anything_has_changed(make_study: Make, change: Callable[[Any], None]) -> None:
    study = make_study(**SMALL)
    finish(study.design, study.store)
    assert standing_of(study) is not None
    change(study)
    assert standing_of(study) is None


@pytest.mark.parametrize("said", ["smallest_effect: 0.2\n", "# a remark\n"])
def test_another_study_file_is_answered_anew(make_study: Make, said: str) -> None:
    study = make_study(**SMALL)
    finish(study.design, study.store)
    path = study.prepared.study.folder / "study.yaml"
    as_yaml = [f"{key}: {json.dumps(value)}\n" for key, value in json.loads(path.read_text()).items()]
    path.write_text("".join(as_yaml) + said)
    other = replace(study.prepared, study=load_study(path))
    design: Design = make_design(other)
    assert {planned.run.run_id for planned in design.runs} == {planned.run.run_id for planned in study.design.runs}
    assert standing_results(design, study.store) is None


def test_other_references_are_judged_anew(make_study: Make) -> None:
    study = make_study(**SMALL)
    finish(study.design, study.store)
    model = study.prepared.models["toy-model"]
    target = model.targets["toy"]
    first = replace(target.test[0], references=("bird",))
    target = replace(target, test=(first, *target.test[1:]))
    model = replace(model, targets={"toy": target})
    design = make_design(replace(study.prepared, models={"toy-model": model}))
    assert standing_results(design, study.store) is None


def test_a_changed_rule_is_answered_anew(make_study: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(**SMALL)
    finish(study.design, study.store)
    monkeypatch.setattr(standing, "_code_digest", lambda: "another rule")
    assert standing_of(study) is None


def test_answers_that_were_written_to_are_read_again_and_refused(make_study: Make) -> None:
    study = make_study(**SMALL)
    finish(study.design, study.store)
    path = study.store.run_folder(study.design.runs[0].run.run_id) / "answers.parquet"
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)
    assert standing_of(study) is None
    with pytest.raises(StoreDamaged, match="not as it was stored"):
        finish(study.design, study.store)


def test_finishing_twice_writes_nothing_the_second_time(make_study: Make) -> None:
    study = make_study(**SMALL)
    finish(study.design, study.store)

    def times() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in Path(study.store.root).iterdir() if path.is_file()}

    before = times()
    record = json.loads((study.store.root / "results.json").read_bytes())
    finish(study.design, study.store)
    assert times() == before
    assert set(record) == {"files", "inputs", "judged", "failed", "times_judged", "skills", "sum"}
