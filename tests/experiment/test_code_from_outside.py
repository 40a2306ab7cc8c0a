"""Studies that name code: nothing runs unless the study allows it, and no changed file hides behind old results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_study import STUDY, fake_prepare, trainings, trial_backend, write_study

import titrant
from titrant.config.study import Study, load_study
from titrant.core.errors import DataError, ScoresError, SpecError

HERE = titrant.LocalEngine(jobs=0)
NEAR = """\
def near(prediction, references, item):
    return {right} if prediction in references else {wrong}
"""


@pytest.fixture(autouse=True)
def toy_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    monkeypatch.setattr("titrant.experiment.runner.DEFAULT_BACKEND", trial_backend())


def with_metric(folder: Path, metric: Any = "metrics.py:near", **said: Any) -> Path:
    target = {**STUDY["target"], "metric": metric}
    path = write_study(folder, **{"allow_code": True, "target": target, **said})
    (folder / "metrics.py").write_text(NEAR.format(right=1.0, wrong=0.25))
    return path


def values(results: titrant.StudyResults, metric: str) -> list[float]:
    frame = results.scores.to_pandas()
    return frame[(frame.metric == metric) & (frame.eval_set == "target")].value.tolist()


# -------------------------------------------------------------------------------------------------------------- consent


@pytest.mark.parametrize("allowed", [None, False, "true", 1])
def test_no_code_is_run_for_a_study_that_does_not_allow_it(tmp_path: Path, allowed: Any) -> None:
    path = with_metric(tmp_path / "study", allow_code=allowed)
    mark = tmp_path / "mark"
    (path.parent / "metrics.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\n")
    with pytest.raises(SpecError) as caught:
        load_study(path)
    assert not mark.exists()
    said = "target.metric: this metric is code from outside, which can run anything, and the study does not allow it"
    assert said in str(caught.value)
    assert "Fix: allow_code: true at the top of the study, if you trust it" in str(caught.value)


def test_a_dotted_path_needs_leave_as_well(tmp_path: Path) -> None:
    path = with_metric(tmp_path / "study", "subprocess:getoutput", allow_code=False)
    with pytest.raises(SpecError, match="this metric is code from outside"):
        load_study(path)


def test_an_object_of_the_callers_needs_no_leave(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study").parent
    study = Study(folder=folder, **{**STUDY, "target": {**STUDY["target"], "metric": lambda p, r: 1.0}})
    assert study.allow_code is False
    assert study.targets["toy"].metric == "<lambda>"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def near(:\n", "metrics.py:1: this is no Python:"),
        ("\nraise KeyError('x')\n", "metrics.py:2: importing it raised KeyError: 'x'"),
        ("def nearer(p, r): return 1\n", "metrics.py: there is no 'near' in it"),
        ("near = 3\n", "metrics.py: this is no metric"),
    ],
)
def test_a_broken_file_is_named_where_the_study_names_it(tmp_path: Path, text: str, said: str) -> None:
    path = with_metric(tmp_path / "study")
    (path.parent / "metrics.py").write_text(text)
    with pytest.raises(SpecError) as caught:
        load_study(path)
    line = next(n for n, each in enumerate(path.read_text().splitlines(), start=1) if "metrics.py:near" in each)
    assert str(caught.value).startswith(f"{path}:{line}:")
    assert f"target.metric: {path.parent}/{said}" in str(caught.value)


def test_a_name_that_is_neither_ours_nor_a_path_is_refused_with_both(tmp_path: Path) -> None:
    path = with_metric(tmp_path / "study", "metrics.py")
    with pytest.raises(
        SpecError, match=r"no such value \(got 'metrics.py'; expected exact_match .* a path to a metric"
    ):
        load_study(path)


# -------------------------------------------------------------------------------------------------------------- metrics


def test_an_edited_metric_scores_anew_and_trains_nothing(tmp_path: Path) -> None:
    path, log = with_metric(tmp_path / "study"), tmp_path / "log"
    backend = trial_backend(log=str(log))
    first = titrant.run(path, out=tmp_path / "out", engine=HERE, backend=backend)
    assert set(values(first, "metrics.py:near")) == {1.0, 0.25}
    before, written = trainings(log), (tmp_path / "out" / "scores.parquet").read_bytes()
    (path.parent / "metrics.py").write_text(NEAR.format(right=0.75, wrong=0.5))
    second = titrant.run(path, out=tmp_path / "out", engine=HERE, backend=backend)
    assert set(values(second, "metrics.py:near")) == {0.75, 0.5}
    assert (tmp_path / "out" / "scores.parquet").read_bytes() != written
    assert trainings(log) == before


def test_a_raised_revision_scores_anew(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study").parent

    class Mine:
        name, revision, value = "mine", "1", 0.5

        def __call__(self, prediction: str, references: Sequence[str]) -> float:
            return self.value

    mine = Mine()
    said = {**STUDY, "target": {**STUDY["target"], "metric": mine}}
    first = titrant.run(Study(folder=folder, **said), out=tmp_path / "out", engine=HERE)
    mine.value = 0.75
    stale = titrant.run(Study(folder=folder, **said), out=tmp_path / "out", engine=HERE)
    assert first.verdict.contrasts == stale.verdict.contrasts  # nothing said that it is another metric
    mine.revision = "2"
    written = (tmp_path / "out" / "scores.parquet").read_bytes()
    titrant.run(Study(folder=folder, **said), out=tmp_path / "out", engine=HERE)
    assert (tmp_path / "out" / "scores.parquet").read_bytes() != written


@pytest.mark.parametrize(("body", "said"), [("1 / 0", "raised ZeroDivisionError"), ("7", "left 0 to 1")])
def test_a_metric_that_goes_wrong_names_the_item_and_loses_no_run(tmp_path: Path, body: str, said: str) -> None:
    path, log = with_metric(tmp_path / "study"), tmp_path / "log"
    (path.parent / "metrics.py").write_text(f"def near(prediction, references):\n    return {body}\n")
    backend = trial_backend(log=str(log))
    with pytest.raises(ScoresError) as caught:
        titrant.run(path, out=tmp_path / "out", engine=HERE, backend=backend)
    assert f"the metric metrics.py:near {said}" in str(caught.value)
    assert f"({path.parent}/test.jsonl:" in str(caught.value)
    before = trainings(log)
    (path.parent / "metrics.py").write_text(NEAR.format(right=1.0, wrong=0.0))
    assert titrant.run(path, out=tmp_path / "out", engine=HERE, backend=backend).failed == ()
    assert trainings(log) == before


def test_macro_f1_of_a_study_is_that_of_its_answers(tmp_path: Path) -> None:
    path = with_metric(tmp_path / "study", "macro_f1")
    results = titrant.run(path, out=tmp_path / "out", engine=HERE)
    frame = results.scores.to_pandas()
    mine = frame[(frame.metric == "macro_f1") & (frame.eval_set == "target")]
    means = mine.groupby(["arm", "seed"], observed=True).value.mean()
    assert ((means >= 0) & (means <= 1)).all()
    assert len(means) == 2 * 4 + 1
    for contrast in results.verdict.contrasts:
        wanted = means[contrast.arm].mean() - means[contrast.baseline].mean()
        assert contrast.difference.value == pytest.approx(wanted)


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "graded"])
def test_a_metric_from_outside_does_not_pass_for_one_of_ours(tmp_path: Path, name: str) -> None:
    def mine(prediction: str, references: Sequence[str]) -> float:
        return 1.0

    mine.__name__ = name
    folder = write_study(tmp_path / "study").parent
    with pytest.raises(SpecError, match=rf"target\.metric: a metric of this name is there already \(got '{name}'"):
        Study(folder=folder, **{**STUDY, "target": {**STUDY["target"], "metric": mine}})


# ------------------------------------------------------------------------------------------------ formats, sets, places


def test_a_format_that_goes_wrong_names_the_row_and_its_own_line(tmp_path: Path) -> None:
    folder = write_study(
        tmp_path / "study", allow_code=True, generalist={"general": {"rows": "general.jsonl", "format": "f.py:form"}}
    ).parent
    for text, said in (
        ("def form(row):\n    return row['no']\n", "the format f.py:form raised KeyError: 'no'"),
        (
            "def form(row):\n    return 3\n",
            "the format f.py:form gave no row (12 rows, this is the first; next lines 2, 3, 4, 5 …) (got 3",
        ),
        ("def form(row):\n    return {'a': 'b'}\n", "the columns are of no known shape"),
    ):
        (folder / "f.py").write_text(text)
        with pytest.raises(DataError) as caught:
            titrant.plan(folder / "study.yaml")
        assert f"{folder}/general.jsonl:1: {said}" in str(caught.value)


def test_a_format_stands_beside_no_columns(tmp_path: Path) -> None:
    path = write_study(tmp_path / "study", allow_code=True, target={**STUDY["target"], "format": "f.py:form"})
    (path.parent / "f.py").write_text("def form(row):\n    return row\n")
    with pytest.raises(SpecError, match=r"target\.columns: a format reads the rows of a file by itself"):
        load_study(path)


def test_a_task_set_that_goes_wrong_is_named(tmp_path: Path) -> None:
    collection = {"skill": "s.py:Set", "rows": "general.jsonl"}
    folder = write_study(tmp_path / "study", allow_code=True, target={"collection": collection}).parent
    for text, said in (
        ("yield 3", "the task set s.py:Set gave no question (got 3; expected titrant.TaskInstance"),
        ("yield from [1 / 0]", "s.py:3: the task set s.py:Set raised ZeroDivisionError: division by zero after 0"),
        ("return []", "the task set s.py:Set gave no question (expected a titrant.TaskInstance for each row"),
    ):
        (folder / "s.py").write_text(f"class Set:\n    def instances(self, rows):\n        {text}\n")
        with pytest.raises(DataError) as caught:
            titrant.plan(folder / "study.yaml")
        assert said in str(caught.value)


def test_a_backend_and_an_engine_of_the_study_do_its_runs(tmp_path: Path) -> None:
    path = write_study(tmp_path / "study", allow_code=True, backend="b.py:Mine", engine="e.py:Mine")
    folder = path.parent
    (folder / "b.py").write_text(
        "from titrant.backends.fake import FakeBackend\n\n"
        "class Mine(FakeBackend):\n"
        "    def __init__(self, numerics):\n        self.numerics = numerics\n"
        "    def train(self, plan, **how):\n"
        f"        __import__('pathlib').Path({str(folder / 'threads')!r}).write_text(str(self.numerics.threads))\n"
        "        return super().train(plan, **how)\n"
    )
    (folder / "e.py").write_text(
        "from titrant import LocalEngine\n\n"
        "class Mine:\n"
        "    def workers(self, runs, *, model, numerics):\n        return 3\n"
        "    def execute(self, jobs, **how):\n"
        f"        __import__('pathlib').Path({str(folder / 'jobs')!r}).write_text(str(len(jobs)))\n"
        "        LocalEngine(0).execute(jobs, **how)\n"
    )
    titrant.run(path, out=tmp_path / "out")
    assert (folder / "threads").read_text() == "1"
    assert (folder / "jobs").read_text() == "9"
    assert [each.kind for each in load_study(path).code] == ["backend", "engine"]


def test_what_a_study_with_code_says_is_plain_text(tmp_path: Path) -> None:
    study = load_study(with_metric(tmp_path / "study"))
    assert study.effective()["targets"]["toy"]["metric"] == "metrics.py:near"
    assert type(study.effective()["targets"]["toy"]["metric"]) is str
    assert json.loads(json.dumps(study.effective()))["allow_code"] is True
