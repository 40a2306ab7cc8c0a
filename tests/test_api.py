"""The public Python API, as the issue shows it: the same code at a prompt, in a thread and in a script."""

from __future__ import annotations

import ast
import inspect
import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from fake_study import STUDY, fake_prepare, trial_backend, undrawn_panel, write_study

import titrant
from titrant.backends.fake import FakeBackend
from titrant.core.errors import ScoresError, SpecError
from titrant.engines import Event

SUPPORT = Path(__file__).parent / "support"


@pytest.fixture(autouse=True)
def toy_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every model of these studies is the toy one, and the real backend a trial backend; nothing is drawn."""
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    monkeypatch.setattr("titrant.experiment.runner.DEFAULT_BACKEND", trial_backend())
    monkeypatch.setattr("titrant.report.figures.drawn_panel", undrawn_panel)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with `study.yaml` and its rows."""
    return write_study(tmp_path / "study").parent


def columns(*, better: int = 8) -> dict[str, list[Any]]:
    cells = [(arm, seed, item) for arm in ("alone", "mixed") for seed in range(3) for item in range(200)]
    return {
        "arm": [arm for arm, _, _ in cells],
        "seed": [seed for _, seed, _ in cells],
        "item": [item for _, _, item in cells],
        "score": [float((7 * item + seed) % 10 < (better if arm == "mixed" else 5)) for arm, seed, item in cells],
        "target_rows": [48 for _ in cells],
        "dose": [96 if arm == "mixed" else 0 for arm, _, _ in cells],
    }


def test_the_code_of_the_issue_does_what_it_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    study = titrant.load_study("study.yaml")
    plan = titrant.plan(study)
    assert [arm.arm for arm in plan.arms] == ["untuned", "general:4", "6", "6-matched", "6+general:4"]
    assert len(plan.runs) == 9
    assert plan.tokens == sum(run.tokens for run in plan.runs) > 0
    assert repr(plan).splitlines()[0].split() == (
        ["arm", "kind", "target", "rows", "dose", "steps", "tokens", "target", "visits", "generalist", "visits"]
    )
    results = titrant.run(study, out="out", engine=titrant.LocalEngine(jobs=2))
    assert results.verdict.word == "cannot_tell"
    assert results.verdict.sentence.startswith("Cannot tell yet")
    assert isinstance(results.scores, pa.Table)
    assert {"arm", "seed", "item", "metric", "value"} <= set(results.scores.to_pandas().columns)
    results.write_report("report.html")
    assert Path("report.html").read_text().lstrip().startswith("<!doctype html>")
    html = results._repr_html_()
    assert "Cannot tell yet" in html
    assert "<svg" in html
    assert "var(--ink)" in html
    assert "--ink:" in html
    table = pa.table(columns())
    assert titrant.judge(table, smallest_effect=0.02).word == "mix"
    rows = [{"id": "a", "prediction": "Paris.", "references": ["paris"]}]
    assert titrant.score(rows, metric="exact_match").score == 1.0
    assert titrant.score(rows, metric=lambda prediction, references: 0.25).score == 0.25
    rows, sidecar = titrant.mix(study, target_rows=6, dose={"general": 4}, seed=1)
    assert len(rows) == 10
    assert {source["source"]: source["got"] for source in sidecar["sources"]} == {"toy": 6, "general": 4}
    again = titrant.plan(study, out="out")
    assert all(run.done for run in again.runs)
    assert again.tokens == 0


def test_a_study_of_python_runs_like_its_file(folder: Path, tmp_path: Path) -> None:
    study = titrant.Study(folder=folder, **STUDY)
    made = titrant.run(study, out=tmp_path / "made", engine=titrant.LocalEngine(jobs=0))
    read = titrant.run(folder / "study.yaml", out=tmp_path / "read", engine=titrant.LocalEngine(jobs=0))
    assert made.scores.equals(read.scores)
    assert made.verdict.contrasts == read.verdict.contrasts  # a next step also says this machine's minutes
    assert made.model == tmp_path / "made" / "model"
    assert "6+general:4" in (tmp_path / "made" / "report.html").read_text()


def test_a_study_runs_outside_the_main_thread(folder: Path, tmp_path: Path) -> None:
    found: list[titrant.StudyResults | BaseException] = []

    def work() -> None:
        try:
            found.append(titrant.run(folder / "study.yaml", out=tmp_path / "out", engine=titrant.LocalEngine(jobs=1)))
        except BaseException as error:  # noqa: BLE001  (a thread's error would be lost)
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert isinstance(found[0], titrant.StudyResults), found
    assert found[0].failed == ()


def test_a_script_without_a_main_guard_runs_with_workers(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys
            from pathlib import Path
            import titrant
            from fake_study import fake_prepare, page_as_text, trial_backend
            from titrant.experiment import prepare
            from titrant.report import page
            print("the script begins")
            page.render = page_as_text
            prepare.prepare = fake_prepare(Path({str(tmp_path / "prepared")!r}))
            results = titrant.run({str(folder / "study.yaml")!r}, out={str(tmp_path / "out")!r},
                                  engine=titrant.LocalEngine(jobs=1), backend=trial_backend())
            print(results.verdict.word)
            """
        )
    )
    paths = os.pathsep.join([str(SUPPORT), str(Path(titrant.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["the script begins", "cannot_tell"]
    assert done.stderr == ""  # nothing is shown where stderr is no terminal


def test_a_function_hears_every_event_and_an_object_every_line(folder: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    engine = titrant.LocalEngine(jobs=0)
    titrant.run(folder / "study.yaml", out=tmp_path / "out", engine=engine, reporter=events.append)
    assert sum(event.kind == "done" for event in events) == 9
    assert {event.kind for event in events} >= {"started", "step", "answering", "done"}

    class Listener:
        def __init__(self) -> None:
            self.said: list[str] = []
            self.stages: list[tuple[int, int]] = []

        def say(self, text: str) -> None:
            self.said.append(text)

        def stage(self, runs: Any, done: Any) -> None:
            self.stages.append((len(runs), len(done)))

        def event(self, event: Event) -> None:
            raise AssertionError("everything is done")

    listener = Listener()
    titrant.run(folder / "study.yaml", out=tmp_path / "out", engine=engine, reporter=listener)
    assert listener.stages == [(9, 9)]
    assert "preparing the model toy-model" in listener.said


def test_a_failed_run_is_named_in_the_results(folder: Path, tmp_path: Path) -> None:
    backend = trial_backend(fails={"kind": "non_finite", "seed": 1})
    results = titrant.run(
        folder / "study.yaml", out=tmp_path / "out", engine=titrant.LocalEngine(jobs=0), backend=backend
    )
    assert any(line.startswith("6+general:4 seed 1: as the test asked") for line in results.failed)
    assert "failed: 6+general:4 seed 1" in repr(results)


def test_a_backend_that_a_worker_cannot_make_is_refused_before_anything_starts(folder: Path, tmp_path: Path) -> None:
    class Here(FakeBackend):
        name, revision = "here", "1"

    workers, engine = titrant.LocalEngine(jobs=1), titrant.LocalEngine(jobs=0)
    with pytest.raises(SpecError, match=r"backend: the backend here cannot be sent .* Fix: LocalEngine\(jobs=0\)"):
        titrant.run(folder / "study.yaml", out=tmp_path / "out", engine=workers, backend=Here)
    assert titrant.run(folder / "study.yaml", out=tmp_path / "out", engine=engine, backend=Here()).failed == ()
    made = titrant.run(folder / "study.yaml", out=tmp_path / "other", engine=workers, backend=FakeBackend())
    assert made.failed == ()


# ---------------------------------------------------------------------------------------------------------------- judge


def test_a_verdict_is_the_same_from_a_file_columns_arrow_and_pandas(tmp_path: Path) -> None:
    frame = pd.DataFrame(columns())
    frame.to_csv(tmp_path / "scores.csv", index=False)
    found = [
        titrant.judge(scores, smallest_effect=0.02)
        for scores in (columns(), pa.table(columns()), frame, tmp_path / "scores.csv", str(tmp_path / "scores.csv"))
    ]
    assert all(verdict == found[0] for verdict in found)
    assert found[0].word == "mix"
    assert str(found[0]).startswith("mix: Mix 96 generalist rows into 48 target rows: ")


def test_seeds_and_rows_that_pandas_made_floats_are_whole_numbers_again() -> None:
    frame = pd.DataFrame(columns()).astype({"seed": float, "target_rows": float, "dose": float})
    assert titrant.judge(frame, smallest_effect=0.02) == titrant.judge(columns(), smallest_effect=0.02)


def test_the_scores_of_a_run_are_judged_as_they_are(folder: Path, tmp_path: Path) -> None:
    results = titrant.run(folder / "study.yaml", out=tmp_path / "out", engine=titrant.LocalEngine(jobs=0))
    frame = results.scores.to_pandas()
    mine = frame[(frame.eval_set == "target") & (frame.metric == "accuracy") & (frame.target == "toy")]
    with pytest.raises(ScoresError, match=r"scores of several metrics stand together .*got 'accuracy, graded'"):
        titrant.judge(results.scores)
    verdict = titrant.judge(mine, smallest_effect=0.05)
    assert verdict.word == results.verdict.word
    assert [each.difference.value for each in verdict.contrasts] == pytest.approx(
        [each.difference.value for each in results.verdict.contrasts]
    )


@pytest.mark.parametrize(
    ("scores", "problem"),
    [
        (7, "these are no scores (got 'int'; expected the path of a CSV file, a dict of columns, or a table of"),
        ({"arm": ["a"], "seed": [0], "item": [0]}, "no column score"),
        (pa.table({"arm": ["a"], "seed": [0], "item": [0], "score": [1.5]}), "score '1.5' is not a number from 0 to 1"),
        ("absent.csv", "absent.csv: no such file"),
    ],
)
def test_scores_that_cannot_be_judged_are_refused(scores: Any, problem: str) -> None:
    with pytest.raises(ScoresError) as caught:
        titrant.judge(scores)
    assert problem in str(caught.value)


# ---------------------------------------------------------------------------------------------------------------- score


def test_predictions_come_as_dicts_tables_and_files(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "prediction": "4", "references": ["4"]},
        {"id": 2, "prediction": "5", "references": ["4", "6"]},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = pa.table({"id": ["1", "2"], "prediction": ["4", "5"], "references": [["4"], ["4", "6"]]})
    for given in (rows, iter(rows), table, table.to_pandas(), tmp_path / "rows.jsonl"):
        report = titrant.score(given, metric="accuracy")
        assert (report.score, report.n, [item.id for item in report.items]) == (0.5, 2, ["1", "2"])


def test_a_function_of_three_arguments_gets_the_item() -> None:
    seen: list[titrant.Item] = []

    def metric(prediction: str, references: Any, item: titrant.Item) -> float:
        seen.append(item)
        return np.float32(0.5)

    report = titrant.score([{"id": "x", "prediction": "", "references": ["a", "b"]}], metric=metric)
    assert (report.metric, report.score) == ("metric", 0.5)
    assert (seen[0].row_id, seen[0].references) == ("x", ("a", "b"))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (float("nan"), "the metric broken returned NaN on item b (row:2) (got 'nan'; expected a number from 0 to 1)"),
        (1.01, "the metric broken left 0 to 1 on item b (row:2) (got '1.01'; expected a number from 0 to 1)"),
        (-0.5, "the metric broken left 0 to 1 on item b (row:2) (got '-0.5'; expected a number from 0 to 1)"),
        (None, "the metric broken returned NoneType, no number, on item b (row:2) (got 'None'; expected a number"),
        (KeyError("team"), "the metric broken raised KeyError: 'team' on item b (row:2) (got 'B'; expected a number"),
    ],
)
def test_a_metric_that_goes_wrong_names_item_and_value(value: Any, problem: str) -> None:
    def broken(prediction: str, references: Any) -> Any:
        if prediction == "B" and isinstance(value, Exception):
            raise value
        return value if prediction == "B" else 1.0

    rows = [{"id": name, "prediction": name.upper(), "references": ["A"]} for name in ("a", "b")]
    with pytest.raises(ScoresError) as caught:
        titrant.score(rows, metric=broken)
    assert problem in str(caught.value)
    if isinstance(value, Exception):
        assert str(caught.value).startswith(f"{__file__}:")


def test_no_such_metric_is_said_with_those_there_are() -> None:
    with pytest.raises(ScoresError, match=r"no such metric \(got 'bleu'; expected exact_match, f1, .*macro_f1\)"):
        titrant.score([], metric="bleu")
    with pytest.raises(SpecError, match=r"this is no metric \(got .*; expected a function \(prediction, references"):
        titrant.score([], metric=3)


# ------------------------------------------------------------------------------------------------------------ mix, plan


def test_a_mix_that_the_study_has_not_is_refused_with_its_arms(folder: Path) -> None:
    with pytest.raises(SpecError, match=r"the study has no such arm .*expected one of general:4, 6, 6-matched"):
        titrant.mix(folder / "study.yaml", target_rows=6, dose={"general": 5})
    with pytest.raises(SpecError, match=r"seed: not one of the study's seeds \(got 7; expected one of 0, 1\)"):
        titrant.mix(folder / "study.yaml", target_rows=6, seed=7)
    with pytest.raises(SpecError, match="no such format"):
        titrant.mix(folder / "study.yaml", target_rows=6, form="csv")  # type: ignore[arg-type]


def test_a_mix_is_written_as_the_command_line_writes_it(folder: Path, tmp_path: Path) -> None:
    mix = titrant.mix(folder / "study.yaml", target_rows=6, dose={"general": 4}, form="alpaca")
    written = mix.write(tmp_path / "arm.jsonl")
    assert [json.loads(line) for line in written.path.read_text().splitlines()] == mix.rows
    assert json.loads(written.sidecar.read_text())["arm"] == mix.sidecar["arm"] == "6+general:4"


@pytest.mark.parametrize("jobs", [-1, 1.5, "two", 5000])
def test_an_impossible_number_of_workers_is_refused(jobs: Any) -> None:
    with pytest.raises(SpecError, match=r"LocalEngine\.jobs: not a number of jobs"):
        titrant.LocalEngine(jobs=jobs)


# -------------------------------------------------------------------------------------------------------------- imports


def modules_after(code: str) -> set[str]:
    """The modules that a fresh interpreter has imported after `code`, its own beginnings left out."""
    script = f"import sys; before = set(sys.modules); {code}; print(*sorted(set(sys.modules) - before))"
    environment = {**os.environ, "PYTHONPATH": str(Path(titrant.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    return set(done.stdout.split("\n")[-2].split())


HEAVY = ("numpy", "pydantic", "pyarrow", "torch", "transformers", "ruamel", "scipy", "altair", "pandas")


def test_importing_titrant_imports_nothing_but_its_own_door() -> None:
    # A tenth of a second is hundreds of modules: what stays is importlib, typing and what they need.
    found = modules_after("import titrant")
    assert {name.partition(".")[0] for name in found} - set(sys.stdlib_module_names) == {"titrant"}
    assert {name for name in found if name.startswith("titrant")} == {"titrant"}
    assert len(found) < 40


def test_help_imports_only_the_command_line() -> None:
    found = _modules_of_help()
    assert not {name.partition(".")[0] for name in found} & set(HEAVY)
    assert {name for name in found if name.startswith("titrant")} <= {
        "titrant",
        "titrant.cli",
        "titrant.core",
        "titrant.core.errors",
        "titrant.core.redaction",
    }


def _modules_of_help() -> set[str]:
    script = (
        "import contextlib, io, sys\n"
        "import titrant.cli\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    titrant.cli.app(['--help'])\n"
        "print(*sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(titrant.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    return set(done.stdout.split())


def test_every_public_name_is_there_and_seen_by_editors() -> None:
    source = ast.parse(inspect.getsource(titrant))
    guarded = next(node for node in source.body if isinstance(node, ast.If))
    imported = {
        alias.name: node.module for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported == titrant._HOMES
    assert sorted(titrant.__all__) == sorted([*titrant._HOMES, "__version__"])
    for name in titrant.__all__:
        assert name in dir(titrant)
        assert getattr(titrant, name) is not None
    with pytest.raises(AttributeError, match="module 'titrant' has no attribute 'judgement'"):
        titrant.judgement  # noqa: B018


@pytest.mark.parametrize("name", sorted(titrant._HOMES))
def test_every_public_name_says_what_it_is(name: str) -> None:
    said = inspect.getdoc(getattr(titrant, name)) or ""
    assert len(said) > 30, name
