"""All that the page shows of a study, from files on disk to the records of the report."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_study import undrawn_panel

from titrant.backends.fake import FakeBackend, FakeLanguageModel
from titrant.core.errors import RunFailed
from titrant.core.records import Written
from titrant.engines.job import read_training
from titrant.experiment.results import collect, read_answers
from titrant.report.data import CurvePoint, ReportData
from titrant.report.page import render
from titrant.report.sections.page import ONE_SEED_NOTE, report_data
from titrant.tokens import load_tokenizer

Make = Callable[..., Any]


def points_of(data: ReportData, measure: str, size: int, source: str = "general") -> dict[str, CurvePoint]:
    """The points of one curve by arm."""
    (curve,) = [c for c in data.curves if (c.measure, c.target_rows, c.source) == (measure, size, source)]
    return {point.arm: point for point in curve.points}


class UnstableBackend(FakeBackend):
    """A backend that fails where 12 target rows and 8 others are trained on at seed 1."""

    def train(self, plan: Any, **options: Any) -> Any:
        if plan.seed == 1 and len(plan.rows) == 20:
            raise RunFailed("non_finite", "the loss is not finite", step=2)
        return super().train(plan, **options)


class OneLabelLanguageModel(FakeLanguageModel):
    """Always finds the first choice the likeliest."""

    def loglikelihood(self, questions: Any) -> Any:
        return tuple(tuple(-1.0 - number for number in range(len(question.choices))) for question in questions)


class CollapsingBackend(FakeBackend):
    """A backend whose arm with 12 target rows, no dose and 6 steps collapses to one label."""

    def train(self, plan: Any, **options: Any) -> Any:
        trained = super().train(plan, **options)
        return OneLabelLanguageModel("one", 0.0) if (len(plan.rows), len(plan.steps)) == (12, 6) else trained


class WritingLanguageModel(FakeLanguageModel):
    """Writes "Bird." to the first 10 prompts, "a stone" to 15 and "fish" to the rest; the first 6 never end."""

    def __init__(self, folder: str) -> None:
        super().__init__("writing", 0.0)
        self.encode = load_tokenizer(Path(folder)).encode

    def generate(self, prompts: Any) -> Any:
        texts = ["Bird."] * 10 + ["a stone"] * 15 + ["fish"] * (len(prompts) - 25)
        return tuple(
            Written(ids=tuple(self.encode(text)), stop="length" if number < 6 else "end")
            for number, text in enumerate(texts)
        )


class WritingBackend(FakeBackend):
    """A backend whose untuned model writes what `WritingSpecialist` does."""

    def untuned(self, model: Any) -> Any:
        return WritingLanguageModel(model.folder)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without drawings: what they draw is made, checked and left at that."""
    monkeypatch.setattr("titrant.report.figures.drawn_panel", undrawn_panel)


# ---------------------------------------------------------------------------------------------------------- the whole


def test_a_whole_study_comes_out_as_a_page(toy_study: Any, toy_data: ReportData) -> None:
    study, data = toy_study, toy_data
    page = render(data)
    assert data.verdict.sentence.split(":")[0] in page
    assert {curve.target_rows for curve in data.curves} == {6, 12}
    assert {row.arm for row in data.fairness} == {arm.name for arm in study.design.arms}
    assert [line.kind for line in data.lines] == ["untuned", "generalist_alone", "majority_label"]
    assert [verdict.name for verdict in data.other_verdicts] == ["6 target rows"]
    assert "not known" not in page or data.retention


def test_the_same_store_gives_the_same_data(toy_study: Any, toy_data: ReportData) -> None:
    scores, failed = collect(toy_study.design, toy_study.store)
    again = replace(toy_study.results, scores=scores, failed=failed)
    assert report_data(again, toy_study.store) == toy_data


# ------------------------------------------------------------------------------------------------------------- curves


def test_points_of_curves_are_means_of_the_stored_scores(toy_study: Any, toy_data: ReportData) -> None:
    study, data = toy_study, toy_data
    results = study.results
    for measure, metric in (("score", "accuracy"), ("graded", "graded")):
        points = points_of(data, measure, 12)
        assert [(p.dose, p.kind) for p in points.values()] == [
            (0, "alone"),
            (4, "dosed"),
            (8, "dosed"),
            (8, "matched"),
        ]
        for name, point in points.items():
            by_seed: dict[int, list[float]] = {}
            for score in results.scores:
                if score.arm == name and score.eval_set == "target" and score.metric == metric:
                    assert score.value is not None
                    by_seed.setdefault(score.seed, []).append(score.value)
            means = {seed: math.fsum(values) / len(values) for seed, values in by_seed.items()}
            assert {s.seed: s.value for s in point.by_seed} == pytest.approx(means)
            assert point.mean == pytest.approx(math.fsum(means.values()) / 3)
            assert 0 <= (point.low or 0) <= point.mean <= (point.high or 0) <= 1


@pytest.mark.usefixtures("undrawn")
def test_the_baselines_stand_in_the_curve_of_every_source(make_study: Make) -> None:
    def rows(folder: Path) -> None:
        from_pool = [{"prompt": f"Another word {n}?", "response": f"other {n}"} for n in range(10)]
        (folder / "other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in from_pool))

    study = make_study(
        also=rows,
        generalist={"general": {"rows": "general.jsonl"}, "other": {"rows": "other.jsonl"}},
        arms={
            "target_rows": [6],
            "doses": {"general": [4, 8], "other": [5]},
            "blends": [{"total": 6, "shares": {"general": 1, "other": 1}}],
            "seeds": 2,
        },
    )
    data = report_data(study.results, study.store)
    curves = {curve.source: curve for curve in data.curves if curve.measure == "score"}
    assert set(curves) == {"general", "other", "general+other"}
    for curve in curves.values():
        kinds = {point.kind: point for point in curve.points}
        assert (kinds["alone"].arm, kinds["alone"].dose) == ("6", 0)
        assert (kinds["matched"].arm, kinds["matched"].dose) == ("6-matched", 8)
    assert [point.dose for point in curves["general+other"].points if point.kind == "dosed"] == [6]
    render(data)


def test_the_line_of_the_commonest_label_is_its_share_of_the_test_items(toy_study: Any, toy_data: ReportData) -> None:
    study, data = toy_study, toy_data
    (line,) = [line for line in data.lines if line.kind == "majority_label"]
    labels = Counter(row.label for row in study.prepared.models["toy-model"].targets["toy"].train)
    assert labels.most_common(1)[0][0] == "bird"
    # Test rows are numbers 18 to 47, labelled by n % 4 % 3: "bird" where n % 4 is 0 or 3.
    assert line.value == sum(n % 4 in (0, 3) for n in range(18, 48)) / 30
    assert "'bird'" in line.label


@pytest.mark.parametrize("metric", ["graded", "exact_match"])
def test_the_line_of_the_commonest_label_stands_whatever_decides(make_study: Make, metric: str) -> None:
    target = {"train": "train.jsonl", "test": "test.jsonl", "instruction": "Name the kind.", "metric": metric}
    study = make_study(target={**target, "columns": {"text": "text", "label": "label"}})
    (line,) = [line for line in report_data(study.results, study.store).lines if line.kind == "majority_label"]
    assert line.value == pytest.approx(sum(n % 4 in (0, 3) for n in range(18, 48)) / 30)


def test_always_the_same_label_is_right_only_where_it_is_the_gold_choice(make_study: Make) -> None:
    """Both labels are one to exact_match, which deletes what sets them apart."""
    labels = ("-1", "1", "1")
    rows = [{"text": f"review number {n} of its sort", "label": labels[n % 3]} for n in range(48)]
    target = {"rows": "reviews.jsonl", "test_share": 0.4, "instruction": "Which?", "columns": {"label": "label"}}
    study = make_study(
        also=lambda folder: write_rows(folder / "reviews.jsonl", rows),
        target={**target, "metric": "exact_match", "answer": "choices"},
    )
    (line,) = [line for line in report_data(study.results, study.store).lines if line.kind == "majority_label"]
    assert line.value == pytest.approx(2 / 3, abs=0.05)


def test_of_several_tasks_each_has_its_own_commonest_answer(make_study: Make) -> None:
    rows = [
        {"task": task, "question": f"{task}: what is number {n} of them?", "answer": answers[n % 3]}
        for task, answers in (("colours", ("red", "red", "blue")), ("sizes", ("big", "small", "big")))
        for n in range(30)
    ]
    target = {
        "collection": {"own": "tasks.jsonl", "test_share": 0.4},
        "columns": {"task": "task"},
    }
    study = make_study(also=lambda folder: write_rows(folder / "tasks.jsonl", rows), target=target)
    (line,) = [line for line in report_data(study.results, study.store).lines if line.kind == "prior_answer"]
    by_task: dict[str, list[bool]] = {}
    for entry in study.prepared.models["toy-model"].targets["toy"].test:
        right = {"colours": "red", "sizes": "big"}
        task = "colours" if "colours" in entry.turns[-1].text else "sizes"
        by_task.setdefault(task, []).append(entry.references[0] == right[task])
    assert line.value == pytest.approx(sum(sum(right) / len(right) for right in by_task.values()) / 2)
    assert "of each task" in line.label


# ---------------------------------------------------------------------------------------------------------- fairness


def test_fairness_adds_up_what_training_did(toy_study: Any, toy_data: ReportData) -> None:
    study, data = toy_study, toy_data
    row = next(row for row in data.fairness if row.arm == "12+general:8")
    # 12 target rows twice and 8 pool rows once, 4 rows a step.
    assert (row.steps, row.target_visits_per_row, row.generalist_visits) == (8, 2, 8)
    assert row.target_share_of_rows == 24 / 32
    shares, loss_tokens = [], []
    for seed in range(3):
        planned = study.design.cell(next(a for a in study.design.arms if a.name == row.arm), seed)
        steps = read_training(study.store.run_folder(planned.run.run_id))
        own = sum(dict(step["loss_by_source"]).get("toy", 0.0) for step in steps)
        shares.append(own / sum(step["loss"] for step in steps))
        counted = Counter[str]()
        for step in planned.plan.steps:
            for index in step:
                counted[planned.plan.rows[index].source] += planned.plan.rows[index].loss_tokens
        loss_tokens.append(counted["toy"] / counted.total())
    assert row.target_share_of_loss == pytest.approx(sum(shares) / 3)
    assert row.target_share_of_loss_tokens == pytest.approx(sum(loss_tokens) / 3)


def test_training_curves_hold_every_run_on_target_rows(toy_data: ReportData) -> None:
    data = toy_data
    assert len(data.training) == 3 * 2 * 4
    curve = next(curve for curve in data.training if curve.arm == "12" and curve.seed == 2)
    assert [point.step for point in curve.points] == [1, 2, 3, 4, 5, 6]
    assert all(point.target_loss == pytest.approx(point.loss) for point in curve.points)
    dosed = next(curve for curve in data.training if curve.arm == "12+general:8")
    assert any(point.target_loss < point.loss for point in dosed.points if point.target_loss is not None)


def test_long_training_curves_are_thinned_and_keep_their_end(make_study: Make) -> None:
    study = make_study(training={"passes": 60, "batch_rows": 1, "max_tokens": 400})
    data = report_data(study.results, study.store)
    curve = next(curve for curve in data.training if curve.arm == "12")
    assert len(curve.points) <= 121
    assert curve.points[-1].step == 12 * 60


# ----------------------------------------------------------------------------------------------------- retention, gains


def test_retention_stands_beside_the_gain_over_the_fair_baseline(toy_study: Any, toy_data: ReportData) -> None:
    study, data = toy_study, toy_data
    results = study.results
    rows = {row.arm: row for row in data.retention}
    points = points_of(data, "score", 12)
    row = rows["12+general:8"]
    means = [points[name].mean or 0.0 for name in ("12+general:8", "12-matched")]
    assert row.target_gain == pytest.approx(means[0] - means[1])
    kept = [
        s.value for s in results.scores if s.arm == row.arm and s.eval_set == "retention:kept" and s.metric != "graded"
    ]
    learned = [s.value for s in results.scores if s.arm == row.arm and s.eval_set == "retention:learned"]
    assert (len(kept), len(learned)) == (3 * 8, 3 * 5)
    assert row.kept == pytest.approx(np.mean(kept))
    assert row.learned == pytest.approx(np.exp(np.log(learned).mean()))
    assert rows["untuned"].target_gain is None
    assert "no baseline" in (rows["untuned"].reason or "")


@pytest.mark.usefixtures("undrawn")
def test_without_retention_the_page_says_so(make_study: Make) -> None:
    study = make_study(retention=None)
    data = report_data(study.results, study.store)
    assert data.retention == ()
    assert "retention.kept" in (data.retention_reason or "")
    render(data)


# -------------------------------------------------------------------------------------------------------------- answers


def test_items_won_and_lost_show_the_answers_of_all_seeds(toy_study: Any, toy_data: ReportData) -> None:
    study, data = toy_study, toy_data
    results = study.results
    table = data.comparison
    assert table is not None
    assert (table.arm, table.baseline, table.total) == ("12+general:8", "12-matched", 30)
    assert [item.gain for item in table.items] == sorted((item.gain for item in table.items), reverse=True)
    assert table.won + table.lost <= 30 == len(table.items)
    item = table.items[0]
    assert [answers.role for answers in item.answers] == ["dosed", "matched", "plain"]
    cells = {(s.arm, s.seed, s.item, s.metric): s.value for s in results.scores}
    for arm in item.answers:
        assert [answer.seed for answer in arm.answers] == [0, 1, 2]
        for answer in arm.answers:
            assert answer.score == float(answer.text in item.references)
            assert answer.score == cells[(arm.arm, answer.seed, item.key, "accuracy")]
            assert answer.graded == cells[(arm.arm, answer.seed, item.key, "graded")]
    difference = [
        cells[("12+general:8", seed, item.key, "graded")] - cells[("12-matched", seed, item.key, "graded")]  # type: ignore[operator]
        for seed in range(3)
    ]
    assert item.gain == pytest.approx(sum(difference) / 3)
    assert item.prompt.startswith("Name the kind.\n\nthing number")


def test_answers_that_are_all_one_label_show_as_a_collapse(make_study: Make, backend_of: Make) -> None:
    study = make_study(backend=backend_of(CollapsingBackend))
    rows = {row.arm: row for row in report_data(study.results, study.store).collapse}
    assert (rows["12"].commonest_label, rows["12"].commonest_share, rows["12"].entropy_bits) == ("bird", 1.0, 0.0)
    assert (rows["12-matched"].commonest_share or 1) < 1
    assert rows["12"].never_ended is None


def test_shares_of_labels_are_over_items_and_seeds(toy_study: Any, toy_data: ReportData) -> None:
    said: Counter[str] = Counter()
    items = {item.key: item for item in toy_study.prepared.models["toy-model"].targets["toy"].test}
    arm = next(arm for arm in toy_study.design.arms if arm.name == "6+general:4")
    for seed in range(3):
        planned = toy_study.design.cell(arm, seed)
        answers = {answer.request: answer for answer in read_answers(toy_study.store, planned.run.run_id)}
        for key, item in items.items():
            said[item.choices[answers[planned.requests.by_item[key]].choice]] += 1
    row = next(row for row in toy_data.collapse if row.arm == arm.name)
    shares = [count / 90 for count in said.values()]
    assert said.total() == 90
    assert row.commonest_share == max(shares)
    assert row.entropy_bits == pytest.approx(-sum(share * math.log2(share) for share in shares))


@pytest.mark.usefixtures("undrawn")
def test_written_answers_are_counted_where_they_never_end_or_match_no_label(make_study: Make, backend_of: Make) -> None:
    target = {
        "train": "train.jsonl",
        "test": "test.jsonl",
        "instruction": "Name the kind.",
        "columns": {"text": "text", "label": "label"},
        "metric": "exact_match",
        "answer": "text",
    }
    study = make_study(target=target, backend=backend_of(WritingBackend))
    data = report_data(study.results, study.store)
    row = next(row for row in data.collapse if row.arm == "untuned")
    assert (row.never_ended, row.matched_no_label) == (6 / 30, 15 / 30)
    assert (row.commonest_label, row.entropy_bits, data.graded) == (None, None, None)
    assert {curve.measure for curve in data.curves} == {"score"}
    (line,) = [line for line in data.lines if line.kind == "prior_answer"]
    assert line.value == sum(n % 4 in (0, 3) for n in range(18, 48)) / 30
    assert data.comparison is not None
    assert {answer.graded for item in data.comparison.items for arm in item.answers for answer in arm.answers} == {None}
    render(data)


# ---------------------------------------------------------------------------------------------------- small, and broken


@pytest.mark.usefixtures("undrawn")
def test_a_failed_run_is_shown_and_is_in_no_number(make_study: Make, backend_of: Make) -> None:
    study = make_study(backend=backend_of(UnstableBackend))
    data = report_data(study.results, study.store)
    (failed,) = data.failures
    assert (failed.arm, failed.seed, failed.kind, failed.step) == ("12+general:8", 1, "non_finite", 2)
    point = points_of(data, "score", 12)["12+general:8"]
    assert (point.seeds, [dot.seed for dot in point.by_seed]) == (2, [0, 2])
    assert next(row for row in data.fairness if row.arm == "12+general:8").seeds == 2
    assert "non_finite" in render(data)


@pytest.mark.usefixtures("undrawn")
def test_an_arm_without_a_finished_run_has_a_reason_in_place_of_numbers(make_study: Make) -> None:
    import shutil

    study = make_study()
    arm = next(arm for arm in study.design.arms if arm.name == "12-matched")
    for seed in range(3):
        shutil.rmtree(study.store.run_folder(study.design.cell(arm, seed).run.run_id))
    data = report_data(study.results, study.store)
    point = points_of(data, "score", 12)["12-matched"]
    assert (point.mean, point.seeds) == (None, 0)
    assert "no run of this arm was finished" in (point.reason or "")
    row = next(row for row in data.fairness if row.arm == "12-matched")
    assert row.steps is None
    assert row.reason is not None
    assert {failed.kind for failed in data.failures} == {"unfinished"}
    render(data)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("arms", "shown"),
    [
        ({"target_rows": [12], "doses": {"general": [8]}, "seeds": 3}, "12+general:8"),
        ({"target_rows": [12], "doses": {"general": [8]}, "seeds": [5]}, "12+general:8"),
        ({"target_rows": [6, 12], "seeds": 2}, None),
    ],
)
def test_small_designs_have_a_page(make_study: Make, arms: dict[str, Any], shown: str | None) -> None:
    pools = {} if "doses" in arms else {"generalist": None, "retention": {"kept": "kept.jsonl"}}
    study = make_study(arms=arms, **pools)
    data = report_data(study.results, study.store)
    render(data)
    if shown is None:
        assert (data.comparison, data.comparison_reason) == (None, "the study has no arm with a dose")
        assert (data.curves, data.exchange) == ((), ())
    else:
        assert data.comparison is not None
        assert data.comparison.arm == shown
        assert data.exchange == ()
        assert "two target sizes" in (data.exchange_reason or "")
    assert (ONE_SEED_NOTE in data.notes) == (arms["seeds"] == [5])


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("held", ["steps", "tokens"])
def test_where_steps_are_held_equal_the_plain_baseline_starts_the_curve(make_study: Make, held: str) -> None:
    study = make_study(hold_equal=held)
    data = report_data(study.results, study.store)
    points = points_of(data, "score", 12)
    first = next(iter(points.values()))
    assert (first.arm, first.kind, first.dose) == ("12", "alone", 0)
    assert {p.kind for p in points.values()} == {"alone", "dosed"}
    render(data)


# ----------------------------------------------------------------------------------------------------------- provenance


def test_provenance_names_every_file_with_its_rows_and_licence(make_study: Make) -> None:
    study = make_study(generalist={"general": {"rows": "general.jsonl", "licence": "CC-BY-NC-4.0"}})
    data = report_data(study.results, study.store)
    files = {file.use: file for file in data.provenance.files}
    assert {use: file.rows for use, file in files.items()} == {
        "target, training": 18,
        "target, test": 30,
        "pool general": 16,
        "retention, kept": 8,
        "retention, learned": 5,
    }
    assert files["pool general"].licence == "CC-BY-NC-4.0"
    assert any("non-commercial" in note and "CC-BY-NC-4.0" in note for note in data.notes)
    assert data.provenance.study_yaml == study.prepared.study.text
    assert dict(data.provenance.settings)["Passes over target rows"] == "2"


def test_rows_that_hold_test_items_are_counted_and_said(make_study: Make) -> None:
    def rows(folder: Path) -> None:
        with (folder / "general.jsonl").open("a") as file:
            file.write(
                json.dumps({"prompt": "Name the kind.\n\nthing number 20 of its sort", "response": "bird"}) + "\n"
            )

    study = make_study(also=rows)
    data = report_data(study.results, study.store)
    assert sum(entry.rows for entry in data.removed) == 1
    assert "1 row was taken out before anything was drawn; the table of removed rows says why." in data.notes


@pytest.mark.usefixtures("undrawn")
def test_the_report_says_what_of_the_files_was_not_read(make_study: Make, tmp_path: Path) -> None:
    def with_topics(folder: Path) -> None:
        rows = [json.loads(line) for line in (folder / "general.jsonl").read_text().splitlines()]
        text = "".join(json.dumps({**row, "topic": "x"}) + "\n" for row in rows)
        (folder / "general.jsonl").write_text(text)

    made = make_study(also=with_topics)
    data = report_data(made.results, made.store)
    assert "How the files were read: general.jsonl: not read: topic." in data.notes
    assert "general.jsonl: not read: topic" in render(data)
