"""The order of things, with a backend that answers from hashes: nothing twice, nothing lost, the same choice again."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_study import (
    LABELS,
    calm_content,
    fake_prepare,
    page_as_text,
    trainings,
    trial_backend,
    without_times,
    write_rows,
    write_study,
)

from titrant.api import export_arm, finish, run_study
from titrant.cli.run import export_model
from titrant.config.study import load_study
from titrant.core.errors import SpecError, StoreDamaged, StoreMismatch
from titrant.engines import BackendSpec, Event
from titrant.experiment.design import make_design
from titrant.experiment.prepare import prepare_study
from titrant.experiment.publish import copy_whole
from titrant.experiment.results import Results
from titrant.experiment.runner import Callbacks, _candidate, _tries, replace_seeds, stored_design
from titrant.storage.json_files import read_json
from titrant.storage.manifests import write_manifest
from titrant.storage.sealed import write_sealed
from titrant.storage.store import Store

ONCE = ["general+toy/0", "general+toy/1", "general/0", "general/1", "toy/0", "toy/0", "toy/1", "toy/1"]


@pytest.fixture(autouse=True)
def toy_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every model of these studies is the toy one, the real backend a trial backend, and a page its data as text."""
    monkeypatch.setattr("titrant.report.page.render", page_as_text)
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    monkeypatch.setattr("titrant.experiment.runner.DEFAULT_BACKEND", trial_backend())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study, `study/study.yaml`, that has been run into `out`; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("titrant.experiment.prepare.prepare", fake_prepare(folder / "prepared"))
        patch.setattr("titrant.report.page.render", page_as_text)
        run(write_study(folder / "study"), folder / "out")
    return folder


def run(study: Path, out: Path, reporter: Callbacks | None = None, **backend: Any) -> Results:
    return run_study(load_study(study), out=out, jobs=0, backend=trial_backend(**backend), reporter=reporter)


def snapshot(root: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below `root` with its time of change and bytes."""
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in root.rglob("*") if path.is_file()}


# ------------------------------------------------------------------------------------------------------- once and again


def test_a_study_leaves_its_files_and_no_leftovers(finished: Path) -> None:
    out = finished / "out"
    names = {path.name for path in out.iterdir()}
    assert {"verdict.json", "report.html", "scores.parquet", "runs", "model", "ledger.jsonl"} <= names
    assert len(list((out / "runs").iterdir())) == 9
    assert not list(out.rglob(".tmp-*"))
    assert not list((out / "work").iterdir())
    assert not (out / "weights").exists()
    assert Store(out).damages() == []
    verdict = read_json(out / "verdict.json")
    assert verdict["study"] == "toy"
    assert verdict["failed_runs"] == []


def test_the_second_run_trains_nothing_and_changes_no_file(tmp_path: Path) -> None:
    study, log = write_study(tmp_path / "study"), tmp_path / "log"
    run(study, tmp_path / "out", log=str(log))
    assert trainings(log) == ONCE
    before, events = snapshot(tmp_path / "out"), list[Event]()
    run(study, tmp_path / "out", Callbacks(event=events.append), log=str(log))
    assert trainings(log) == ONCE
    assert events == []
    assert snapshot(tmp_path / "out") == before


def test_the_same_study_in_two_folders_has_equal_scores(finished: Path, tmp_path: Path) -> None:
    run(write_study(tmp_path / "elsewhere"), tmp_path / "out")
    one, other = calm_content(finished / "out"), calm_content(tmp_path / "out")
    for name in ("scores.parquet", "ledger.jsonl"):
        assert one[name] == other[name]
    assert without_times(one) == without_times(other)


def test_other_doses_train_only_what_they_change(tmp_path: Path) -> None:
    study, log = write_study(tmp_path / "study"), tmp_path / "log"
    run(study, tmp_path / "out")
    write_study(tmp_path / "study", arms={"target_rows": [6], "doses": {"general": [2, 4, 8]}, "seeds": 2})
    results = run(study, tmp_path / "out", log=str(log))
    assert Counter(trainings(log)) == Counter(
        {"general+toy/0": 2, "general+toy/1": 2, "general/0": 1, "general/1": 1, "toy/0": 1, "toy/1": 1}
    )  # the new doses, generalist alone at the largest dose, and the baseline that is as long as the largest
    assert {"6+general:2", "6+general:4", "6+general:8"} <= {score.arm for score in results.scores}


def test_another_metric_and_another_smallest_effect_train_nothing(tmp_path: Path) -> None:
    study, log = write_study(tmp_path / "study"), tmp_path / "log"
    first = run(study, tmp_path / "out")
    said = json.loads(study.read_text())
    target = {**said["target"], "metric": "exact_match", "answer": "choices"}
    write_study(tmp_path / "study", target=target, smallest_effect=0.2)
    second = run(study, tmp_path / "out", log=str(log))
    assert trainings(log, "start") == []
    assert (first.judged[0].metric, second.judged[0].metric) == ("accuracy", "exact_match")


def test_jobs_change_no_result(finished: Path, tmp_path: Path) -> None:
    run_study(load_study(write_study(tmp_path / "study")), out=tmp_path / "out", jobs=2, backend=trial_backend())
    assert without_times(calm_content(tmp_path / "out")) == without_times(calm_content(finished / "out"))


def test_two_runners_that_end_together_judge_and_publish_one_after_the_other(tmp_path: Path) -> None:
    study, out = write_study(tmp_path / "study"), tmp_path / "out"
    store = Store.open(out)
    with store.locked("results"):
        runner = threading.Thread(target=run, args=(study, out))
        runner.start()
        end = time.monotonic() + 60
        while len(store.finished()) < 9:
            assert time.monotonic() < end
            time.sleep(0.02)
        time.sleep(0.3)
        assert not (out / "verdict.json").exists()
    runner.join()
    assert (out / "model" / "README.md").exists()


def report(path: Path, out: Path) -> None:
    design, store = stored_design(load_study(path), out=out)
    finish(design, store)


def export_again(path: Path, out: Path) -> None:
    export_arm(load_study(path), out=out, to=out.parent / "mine", arm="6+general:4", seed=1)


def export_as_it_stands(path: Path, out: Path) -> None:
    export_model(load_study(path), to=out.parent / "mine", arm=None, seed=None, out=out)


@pytest.mark.parametrize("door", [report, export_again, export_as_it_stands])
def test_whoever_judges_or_takes_a_model_waits_for_the_one_who_judges(
    finished: Path, tmp_path: Path, door: Callable[[Path, Path], None]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished / "out", out)
    for name in ("verdict.json", "report.html"):
        (out / name).unlink()
    path = write_study(tmp_path / "study")
    held, seen = threading.Event(), list[bool]()

    def judges() -> None:
        with Store.open(out).locked("results"):
            held.set()
            time.sleep(3)
            seen.extend(place.exists() for place in (out / "verdict.json", tmp_path / "mine"))

    other = threading.Thread(target=judges)
    other.start()
    assert held.wait(10)
    door(path, out)
    other.join()
    assert seen == [False, False]
    assert (out / "verdict.json").exists() == (door is not export_as_it_stands)
    assert (tmp_path / "mine").exists() == (door is not report)


# ------------------------------------------------------------------------------------------------------------- failures


def test_a_failed_run_is_named_has_no_scores_and_is_not_tried_again(tmp_path: Path) -> None:
    study, log = (
        write_study(tmp_path / "study", arms={"target_rows": [6], "doses": {"general": [4]}, "seeds": 3}),
        (tmp_path / "log"),
    )
    backend = {"log": str(log), "fails": {"kind": "non_finite", "seed": 2}}
    for _ in range(2):
        results = run(study, tmp_path / "out", **backend)
        assert {(cell.arm.name, cell.seed) for cell in results.failed} == {
            (name, 2) for name in ("6", "6-matched", "6+general:4")
        }  # generalist alone takes one step, and this backend fails at the second
        assert {score.seed for score in results.scores if score.arm == "6"} == {0, 1}
    assert Counter(trainings(log, "start"))["general+toy/2"] == 1
    verdict = read_json(tmp_path / "out" / "verdict.json")
    assert {(failed["kind"], failed["step"]) for failed in verdict["failed_runs"]} == {("non_finite", 2)}
    assert "as the test asked" in (tmp_path / "out" / "report.html").read_text()


def test_the_model_is_that_of_a_seed_that_was_finished(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", arms={"target_rows": [6], "doses": {"general": [4]}, "seeds": 3})
    run(study, tmp_path / "out", fails={"kind": "non_finite", "seed": 0})
    assert read_json(tmp_path / "out" / "model" / "titrant.json")["seed"] == 1


def test_a_study_whose_baselines_all_failed_ends_without_a_model_and_says_why(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", arms={"target_rows": [6], "doses": {"general": [4]}, "seeds": 2})
    said: list[str] = []
    backend = BackendSpec(module="fake_study", name="FailsAlone", arguments={"rows": 6})
    results = run_study(
        load_study(study), out=tmp_path / "out", jobs=0, backend=backend, reporter=Callbacks(say=said.append)
    )
    assert results.judged[0].verdict.verdict == "cannot_tell"
    assert "no model is handed over: no run of a baseline was finished" in said
    assert not (tmp_path / "out" / "model").exists()


def test_nothing_is_judged_where_nothing_was_scored(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "study"))
    design, store = stored_design(study, out=tmp_path / "out")
    with pytest.raises(SpecError, match="nothing to judge yet"):
        finish(design, store)
    assert not (tmp_path / "out" / "verdict.json").exists()


# ------------------------------------------------------------------------------------------------------------ integrity


def test_damaged_answers_never_enter_a_verdict(tmp_path: Path) -> None:
    run(write_study(tmp_path / "study"), tmp_path / "out")
    before = snapshot(tmp_path / "out")
    study = write_study(tmp_path / "study", smallest_effect=0.02)  # judged anew, from the same answers

    def refused(names: str) -> None:
        with pytest.raises(StoreDamaged, match=names + r": .*Fix: delete .*trained anew"):
            run(study, tmp_path / "out")
        design, store = stored_design(load_study(study), out=tmp_path / "out")
        with pytest.raises(StoreDamaged, match=names):
            finish(design, store)

    for path in sorted((tmp_path / "out" / "runs").glob("*/answers.parquet"))[:2]:
        data = path.read_bytes()
        for place in (len(data) // 3, len(data) - 30):
            path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
            refused(r"answers\.parquet")
        path.unlink()
        refused(r"answers\.parquet")
        path.write_bytes(data)
    manifest = next((tmp_path / "out" / "runs").glob("*/manifest.json"))
    manifest.write_bytes(manifest.read_bytes().replace(b'"bytes"', b'"byteS"'))
    refused(r"manifest\.json")
    after = snapshot(tmp_path / "out")
    for name in ("verdict.json", "report.html", "scores.parquet"):
        assert after[f"{tmp_path}/out/{name}"] == before[f"{tmp_path}/out/{name}"]


def test_damaged_step_reports_never_enter_a_report(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "out", tmp_path / "out")
    reports = next(path for path in sorted((tmp_path / "out" / "runs").glob("*/training.jsonl")))
    data = reports.read_bytes()
    place = data.index(b'"loss":') + 9
    reports.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    design, store = stored_design(load_study(finished / "study" / "study.yaml"), out=tmp_path / "out")
    with pytest.raises(StoreDamaged, match=r"training\.jsonl: missing, or not as it was stored\. Fix: delete"):
        finish(design, store)


def test_the_remedy_for_a_damaged_run_restores_it(finished: Path, tmp_path: Path) -> None:
    import shutil

    study, log = write_study(tmp_path / "study"), tmp_path / "log"
    shutil.copytree(finished / "out", tmp_path / "out")
    damaged = next((tmp_path / "out" / "runs").glob("*/training.jsonl")).parent
    shutil.rmtree(damaged)
    run(study, tmp_path / "out", log=str(log))
    assert len(trainings(log)) == 1
    assert Store(tmp_path / "out").damages() == []
    assert (tmp_path / "out" / "scores.parquet").read_bytes() == (finished / "out" / "scores.parquet").read_bytes()


def test_one_flipped_bit_in_any_file_of_a_finished_study_is_named(finished: Path) -> None:
    out = finished / "out"
    store = Store(out)
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and path.parent.name != "claims"]
    assert len(files) > 40
    for number, path in enumerate(files):
        data, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
        place, bit = (number * 7919) % len(data), number % 8
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
        named = [damage.path for damage in store.damages()]
        path.write_bytes(data)
        os.utime(path, ns=times)
        beside = path.name == "manifest.json" and path.parent.name == "model"
        assert any(name.startswith(str(path.parent if beside else path)) for name in named), (path, place, bit, named)
    assert store.damages() == []


def test_a_question_that_stands_in_two_probes_is_asked_and_scored_in_both(tmp_path: Path) -> None:
    target = {
        "train": "train.jsonl", "test": "test.jsonl", "metric": "exact_match", "answer": "text", "max_answer_tokens": 4,
        "columns": {"prompt": "prompt", "completion": "response"},
    }  # fmt: skip
    study = write_study(tmp_path / "study", target=target)
    rows = [{"prompt": f"Say word {n} of ours.", "response": f"word {n}"} for n in range(18)]
    write_rows(study.parent / "train.jsonl", rows[:12])
    write_rows(study.parent / "test.jsonl", rows[12:])
    write_rows(study.parent / "learned.jsonl", rows[12:15])
    results = run(study, tmp_path / "out")
    counts = Counter(score.eval_set for score in results.scores if score.arm == results.judged[0].verdict.baseline)
    assert (counts["target"], counts["retention:learned"]) == (6 * 2, 3 * 2)
    assert all(score.value is not None for score in results.scores)


def test_other_numerics_are_refused_with_what_differs(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "out", tmp_path / "out")
    used = Store(tmp_path / "out").records()[0]["numerics"]["dtype"]
    other = {"bf16": "fp32", "fp32": "bf16"}[used]
    study = write_study(tmp_path / "study", numerics={"dtype": other, "threads": 2})
    before = snapshot(tmp_path / "out")
    with pytest.raises(StoreMismatch) as caught:
        run(study, tmp_path / "out")
    assert f"dtype {used} then, {other} now; threads 1 then, 2 now" in str(caught.value)
    assert "another --out folder" in str(caught.value)
    assert snapshot(tmp_path / "out") == before


def test_a_checkpoint_of_other_numerics_is_not_passed_over_in_silence(finished: Path, tmp_path: Path) -> None:
    record = next(record for record in Store(finished / "out").records() if record["kind"] == "run")
    store = Store.open(tmp_path / "out")
    work = store.work_folder("0" * 12)
    about = {"run_id": "0" * 12, "recipe_id": record["recipe_id"], "backend": record["backend"]}
    about["numerics"] = {**record["numerics"], "threads": 7}
    write_sealed(work / "about.json", about)
    study = write_study(tmp_path / "study")
    run(study, tmp_path / "without", log=str(tmp_path / "log"))
    (work / "step-00000001").mkdir()
    write_manifest(work / "step-00000001")
    with pytest.raises(StoreMismatch, match=r"threads 7 then, 1 now.*or delete .*/work/000000000000 to train"):
        run(study, tmp_path / "out")
    shutil.rmtree(work)
    run(study, tmp_path / "out")


def test_other_versions_are_refused_by_name(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("titrant.core.environment.package_versions", lambda: (("numpy", "0.1"), ("newcomer", "2")))
    with pytest.raises(StoreMismatch, match=r"numpy [0-9.]+ then, 0\.1 now; newcomer absent then, 2 now"):
        run(write_study(tmp_path / "study"), finished / "out")


def test_a_folder_of_another_format_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    out.mkdir()
    (out / "store.json").write_text('{"format": 99}')
    with pytest.raises(StoreMismatch, match="format 99'; expected format 2"):
        run(write_study(tmp_path / "study"), out, log=str(log))
    assert not log.exists()
    assert [path.name for path in out.iterdir()] == ["store.json"]


# ------------------------------------------------------------------------------------------------------------- settings

CHOOSING = {"passes": 2, "batch_rows": 4, "max_tokens": 400, "learning_rate": [1e-5, 5e-5, 1e-4]}


def choosing_study(folder: Path) -> Path:
    study = write_study(folder, train=24)
    target = {**json.loads(study.read_text())["target"], "validation": 0.4}
    return write_study(folder, train=24, target=target, training=CHOOSING)


def test_every_arm_tries_as_many_settings_and_keeps_the_best_for_all_seeds(tmp_path: Path) -> None:
    study, log = choosing_study(tmp_path / "study"), tmp_path / "log"
    results = run(study, tmp_path / "out", log=str(log))
    done = Counter(trainings(log))
    assert (done["general/0"], done["general+toy/0"], done["toy/0"]) == (3, 3, 6)  # plain and matched
    assert (done["general/1"], done["general+toy/1"], done["toy/1"]) == (1, 1, 2)
    prepared = results.design.prepared
    for arm in results.design.arms:
        if arm.kind == "untuned":
            continue
        tries = {}
        for rate in CHOOSING["learning_rate"]:
            settings = prepared.study.training_settings(learning_rate=rate)
            design = make_design(prepared, lambda model, target, name, settings=settings: settings)
            mine = next(entry for entry in design.arms if entry.name == arm.name)
            tries[rate] = validation_mean(tmp_path / "out", design.cell(mine, 0), prepared)
        best = max(tries.values())
        assert arm.training.learning_rate == next(rate for rate in tries if tries[rate] == best), tries
    rates = {arm.training.learning_rate for arm in results.design.arms if arm.kind != "untuned"}
    assert len(rates) > 1, "all arms chose the same: this study shows nothing"


def test_all_settings_are_tried_in_one_stage(tmp_path: Path) -> None:
    study, stages = choosing_study(tmp_path / "study"), list[tuple[int, int]]()
    reporter = Callbacks(stage=lambda runs, done: stages.append((len(runs), len(done))))
    run_study(load_study(study), out=tmp_path / "out", jobs=0, backend=trial_backend(), reporter=reporter)
    tried = 3 * 4 + 1  # rates; general, plain, matched and dosed; untuned
    assert stages == [(tried, 0), (9, 5)]  # the tries of the chosen rates are runs of the study


def test_a_dose_in_tokens_is_tried_with_the_rows_that_all_seeds_give_it(tmp_path: Path) -> None:
    study = choosing_study(tmp_path / "study")
    said = json.loads(study.read_text())
    general = tmp_path / "study" / "general.jsonl"
    rows = ({"prompt": f"Say row {n}.", "response": "word " * (1 + n * n % 37)} for n in range(40))
    general.write_text("".join(json.dumps(row) + "\n" for row in rows))
    differ = 0
    for tokens in (900, 1500, 2100):
        arms = {**said["arms"], "target_rows": [4], "doses": {"general": [{"tokens": tokens}]}, "seeds": 6}
        study.write_text(json.dumps({**said, "arms": arms}))
        prepared = prepare_study(load_study(study))
        alone = replace(replace_seeds(prepared, (0,)), dose_seeds=None)
        (whole,), (first,) = (
            {dose.rows for arm in make_design(some, _candidate(some.study, 0)).arms for dose in arm.doses}
            for some in (prepared, alone)
        )
        assert {dose.rows for design in _tries(prepared) for arm in design.arms for dose in arm.doses} == {whole}
        differ += first != whole
    assert differ, "the first seed gives the fewest rows everywhere: this shows nothing"


def validation_mean(root: Path, planned: Any, prepared: Any) -> float:
    """The mean probability of the right choice over validation items, from the stored answers alone."""
    import math

    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(root / "runs" / planned.run.run_id / "answers.parquet").to_pylist()
    answers = {row["request"]: row for row in rows}
    (target,) = prepared.models["toy-model"].targets.values()
    values = []
    for item in target.validation:
        masses = [math.exp(value) for value in answers[planned.requests.by_item[item.key]]["choice_logprobs"]]
        values.append(masses[item.choices.index(item.references[0])] / sum(masses))
    return round(sum(values) / len(values), 12)


def test_validation_rows_are_neither_trained_on_nor_part_of_the_verdict(tmp_path: Path) -> None:
    prepared = prepare_study(load_study(choosing_study(tmp_path / "study")))
    (target,) = prepared.models["toy-model"].targets.values()
    assert len(target.validation) + len(target.train) == 24
    held_out = {item.turns[-1].text for item in target.validation}
    assert held_out
    assert not held_out & {row.turns[-2].text for row in target.train}
    assert not held_out & {item.turns[-1].text for item in target.test}


def test_report_and_export_find_the_same_choice_again(tmp_path: Path) -> None:
    study, log = choosing_study(tmp_path / "study"), tmp_path / "log"
    results = run(study, tmp_path / "out", log=str(log))
    trained, before = trainings(log), snapshot(tmp_path / "out")
    design, store = stored_design(load_study(study), out=tmp_path / "out")
    assert design.arms == results.design.arms
    finish(design, store)
    assert snapshot(tmp_path / "out") == before
    run(study, tmp_path / "out", log=str(log))
    assert trainings(log) == trained
    assert snapshot(tmp_path / "out") == before


def test_a_candidate_that_failed_is_not_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = choosing_study(tmp_path / "study")
    fails = BackendSpec(module="fake_study", name="FailsAtOneRate", arguments={"rate": 1e-5})
    results = run_study(load_study(study), out=tmp_path / "out", jobs=0, backend=fails)
    assert {arm.training.learning_rate for arm in results.design.arms if arm.kind != "untuned"} <= {5e-5, 1e-4}
    assert results.failed == ()


# ---------------------------------------------------------------------------------------------------------------- model


def test_the_model_handed_over_is_the_recommended_arms_and_its_card_says_so(finished: Path) -> None:
    model = finished / "out" / "model"
    facts, verdict = read_json(model / "titrant.json"), read_json(finished / "out" / "verdict.json")
    card = (model / "README.md").read_text()
    assert verdict["arm"] is None
    assert facts["arm"] in (verdict["baseline"], verdict["matched"])
    assert f"arm {facts['arm']}, seed {facts['seed']}" in card
    assert verdict["verdict"] in card
    assert "Apache-2.0" in card
    stored = read_json(model / "config.json")
    assert stored["model_type"] == "fake"


def test_export_copies_the_model_or_trains_another_arm_again(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "out", tmp_path / "out")
    study = load_study(write_study(tmp_path / "study"))
    export_arm(study, out=tmp_path / "out", to=tmp_path / "mine", arm="6+general:4", seed=1)
    facts = read_json(tmp_path / "mine" / "titrant.json")
    assert (facts["arm"], facts["seed"]) == ("6+general:4", 1)
    assert not (tmp_path / "out" / "weights" / facts["run_id"]).exists()
    with pytest.raises(SpecError, match=r"no such arm .*expected one of .*6\+general:4"):
        export_arm(study, out=tmp_path / "out", to=tmp_path / "no", arm="7", seed=None)
    with pytest.raises(SpecError, match="not one of the study's seeds"):
        export_arm(study, out=tmp_path / "out", to=tmp_path / "no", arm=None, seed=9)
    assert not (tmp_path / "no").exists()


def test_a_damaged_model_is_not_copied_and_not_relabelled(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", keep_weights="recommended")
    run(study, tmp_path / "out", saved_bytes=1000)
    model = tmp_path / "out" / "model"
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes().replace(b"a", b"b", 1))
    with pytest.raises(StoreDamaged, match="not as it was written"):
        copy_whole(model, tmp_path / "mine")
    assert not list(tmp_path.glob("*mine*"))
    write_study(tmp_path / "study", smallest_effect=0.3)  # a changed study changes the card
    run(study, tmp_path / "out", saved_bytes=1000)
    assert [damage.path for damage in Store(tmp_path / "out").damages()] == [str(weights)]


def test_weights_are_kept_as_the_study_says(tmp_path: Path) -> None:
    run(write_study(tmp_path / "all", keep_weights="all"), tmp_path / "out-all")
    assert len(list((tmp_path / "out-all" / "weights").iterdir())) == 8
    run(write_study(tmp_path / "none", keep_weights="none"), tmp_path / "out-none")
    assert not (tmp_path / "out-none" / "weights").exists()
    assert not (tmp_path / "out-none" / "model").exists()


def test_several_targets_have_a_model_each(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    study = write_study(folder)
    other = [{"text": f"{n} of another sort, a {LABELS[n % 2]}?", "label": LABELS[n % 2]} for n in range(32)]
    write_rows(folder / "other.jsonl", other)
    first = json.loads(study.read_text())["target"]
    targets = {"one": first, "two": {**first, "train": None, "test": None, "rows": "other.jsonl", "test_share": 0.5}}
    targets["two"] = {key: value for key, value in targets["two"].items() if value is not None}
    write_study(folder, target=None, targets=targets)
    results = run(study, tmp_path / "out")
    assert [judged.target for judged in results.judged] == ["one", "two"]
    for name in ("one", "two"):
        assert (tmp_path / "out" / "model" / "toy-model" / name / "README.md").is_file()
    card = tmp_path / "out" / "model" / "toy-model" / "two" / "README.md"
    card.write_bytes(card.read_bytes() + b" ")
    assert [damage.path for damage in Store(tmp_path / "out").damages()] == [str(card)]
    assert [entry["target"] for entry in read_json(tmp_path / "out" / "verdict.json")["others"]] == ["two"]
