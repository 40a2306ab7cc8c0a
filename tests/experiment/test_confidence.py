"""A gain in confidence alone is told from one in knowledge: on simulated runs whose truth is known."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_study import fake_prepare, write_rows, write_study

from titrant.config.study import load_study
from titrant.core.identity import rng_for
from titrant.core.records import Arm, Dose, Item, Run, TrainingSettings, Turn, Verdict
from titrant.decision.confidence import ConfidenceCheck, check_json, checked
from titrant.decision.judge import judge_tables
from titrant.experiment.confidence import confidence_check
from titrant.experiment.prepare import PreparedStudy, prepare_study
from titrant.experiment.results import verdict_object
from titrant.report.sections.page import report_data
from titrant.scoring.sheets import CALIBRATED, GRADED, RunScores, Scores, Sheet, SheetScorer
from titrant.stats.evidence import Settings

LABELS = ("a", "b", "c")
SETTINGS = Settings(smallest_effect=0.03, metric="the graded score", allow_missing_runs=True)
TRUE = {"plain": 1.0, "matched": 1.0, "dosed": 1.0}


def make_items(test: int, validation: int) -> tuple[Item, ...]:
    return tuple(
        Item(
            key=f"{eval_set}:{number}",
            row_id=f"{eval_set}:{number}",
            eval_set=eval_set,
            target="toy",
            task="toy",
            turns=(Turn(role="user", text=f"{eval_set} {number}"),),
            references=(LABELS[number % 3],),
            choices=LABELS,
            answer="choices",
            metric="accuracy",
            max_answer_tokens=4,
        )
        for eval_set, count in (("target", test), ("validation", validation))
        for number in range(count)
    )


def make_arm(name: str) -> Arm:
    kind = {"plain": "alone", "matched": "matched", "dosed": "dosed"}[name]
    doses = (Dose(source="general", rows=96),) if kind == "dosed" else ()
    visits = 50 if kind == "matched" else None
    return Arm(
        name=name, model="toy-model", target="toy", target_rows=48, doses=doses, training=TrainingSettings(),
        visits=visits,
    )  # fmt: skip


def simulate(
    items: tuple[Item, ...], *, confidence: dict[str, float], knowledge: dict[str, float], seeds: int = 5
) -> Scores:
    """Runs that see the right choice through noise: `knowledge` moves the right choice's log-odds, `confidence` scales
    all of them. Items differ, seeds and arms have noise of their own."""
    rng = rng_for(7, "tests", "confidence")
    item_IC = rng.standard_normal((len(items), 3)) * 1.5
    right_IC = np.array([[label in item.references for label in LABELS] for item in items])
    runs = []
    scorer = SheetScorer(Sheet.of(items), {item.key: item.key for item in items})
    for name in confidence:
        for seed in range(seeds):
            noise_IC = rng.standard_normal(item_IC.shape) * 0.4
            logits_IC = item_IC + noise_IC + (1.5 + knowledge[name]) * right_IC
            logprobs_IC = confidence[name] * logits_IC
            logprobs_IC -= np.logaddexp.reduce(logprobs_IC, axis=-1)[:, None]
            runs.append(_scored(scorer, items, logprobs_IC, name, seed))
    return Scores(runs)


def _scored(scorer: SheetScorer, items: tuple[Item, ...], logprobs_IC: Any, name: str, seed: int) -> RunScores:
    rows = [
        {"request": item.key, "text": None, "choice": int(row.argmax()), "choice_logprobs": row.tolist(), "loss": None,
         "stop": "none"}
        for item, row in zip(items, logprobs_IC, strict=True)
    ]  # fmt: skip
    schema = pa.schema(
        [("request", pa.string()), ("text", pa.string()), ("choice", pa.int32()),
         ("choice_logprobs", pa.list_(pa.float64())), ("loss", pa.float64()), ("stop", pa.string())]
    )  # fmt: skip
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink)
    run = cast("Run", SimpleNamespace(run_id=f"{name}-{seed}", seed=seed))
    return scorer.score([sink.getvalue()], arm=make_arm(name), run=run)


def judged(scores: Scores, items: tuple[Item, ...]) -> tuple[Verdict, ConfidenceCheck]:
    """The graded verdict with its check."""
    data = SimpleNamespace(
        train=[None] * 96,
        test=[item for item in items if item.eval_set == "target"],
        validation=[item for item in items if item.eval_set == "validation"],
    )
    study = SimpleNamespace(
        smallest_effect=0.03,
        hold_equal="target_passes",
        targets={"toy": SimpleNamespace(task_weights="macro")},
        arms=SimpleNamespace(target_draw="fixed"),
    )
    prepared = SimpleNamespace(models={"toy-model": SimpleNamespace(targets={"toy": data})}, study=study)
    table = scores.table("toy-model", "toy", "target", GRADED)
    assert table is not None
    graded = judge_tables({"target": table}, settings=SETTINGS)[0]
    check = confidence_check(cast("PreparedStudy", prepared), scores, model="toy-model", target="toy", size=48)
    assert check is not None
    return checked(graded, check), check


def test_arms_that_differ_by_confidence_alone_are_said_to() -> None:
    items = make_items(400, 120)
    verdict, check = judged(
        simulate(items, confidence={**TRUE, "dosed": 2.5}, knowledge=dict.fromkeys(TRUE, 0.0)), items
    )
    assert verdict.verdict == "mix"  # what is asked is the graded score, and that did rise
    assert "this is confidence, not knowledge" in verdict.sentence
    assert check.contradicts(verdict)
    assert check.calibrated is not None
    assert check.calibrated.verdict == "no_difference"
    assert check.temperatures["dosed"] == pytest.approx(2.5 * check.temperatures["plain"], rel=0.15)
    found = check_json(verdict, check)
    assert (found["accuracy_contradicts"], found["calibrated_contradicts"]) == (True, True)


def test_without_validation_rows_accuracy_alone_warns_and_the_reason_is_said() -> None:
    items = make_items(400, 0)
    verdict, check = judged(
        simulate(items, confidence={**TRUE, "dosed": 2.5}, knowledge=dict.fromkeys(TRUE, 0.0)), items
    )
    assert "But accuracy firmly says otherwise" in verdict.sentence
    assert "the target has no validation rows" in verdict.sentence
    assert check.calibrated is None
    assert check_json(verdict, check)["calibrated"] is None


@pytest.mark.parametrize("confidence", [2.0, 5.0])
def test_where_accuracy_is_too_coarse_the_fitted_temperature_tells(confidence: float) -> None:
    items = make_items(100, 300)
    knowledge = dict.fromkeys(TRUE, 0.0)
    verdict, check = judged(
        simulate(items, confidence={**TRUE, "dosed": confidence}, knowledge=knowledge, seeds=4), items
    )
    assert verdict.verdict == "mix"
    assert check.accuracy.verdict == "cannot_tell"
    assert "part of it, or all, is confidence" in verdict.sentence


@pytest.mark.parametrize("confidence", [1.0, 0.8, 1.25])
def test_a_gain_in_knowledge_stands_whatever_the_confidence(confidence: float) -> None:
    items = make_items(400, 120)
    knowledge = {"plain": 0.0, "matched": 0.0, "dosed": 1.2}
    verdict, check = judged(simulate(items, confidence={**TRUE, "dosed": confidence}, knowledge=knowledge), items)
    assert verdict.verdict == check.accuracy.verdict == "mix"
    assert "otherwise" not in verdict.sentence
    assert check.calibrated is not None
    assert check.calibrated.verdict == "mix"
    assert any(note.startswith("By accuracy: mix dosed (dosed against matched: +0.") for note in verdict.notes)
    assert any(note.startswith("At temperatures fitted on validation rows: mix dosed") for note in verdict.notes)


def test_knowledge_behind_less_confidence_is_what_accuracy_shows_and_the_graded_score_does_not() -> None:
    items = make_items(400, 120)
    knowledge = {"plain": 0.0, "matched": 0.0, "dosed": 1.2}
    verdict, check = judged(simulate(items, confidence={**TRUE, "dosed": 0.35}, knowledge=knowledge), items)
    assert verdict.verdict == "train_alone"
    assert "But accuracy firmly says otherwise: mix dosed" in verdict.sentence
    assert check.contradicts(verdict)


def test_calibrated_scores_need_twenty_validation_items() -> None:
    for validation, there in ((19, False), (20, True)):
        sheet = Sheet.of(make_items(30, validation))
        assert (CALIBRATED in sheet.metrics) is there


@pytest.mark.parametrize(
    ("metric", "validation", "asked"),
    [("graded", 0.5, 20), ("graded", 0.2, 0), ("accuracy", 0.5, 0), ("graded", None, 0)],
)
def test_runs_answer_validation_items_where_a_graded_target_has_enough_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: str, validation: float | None, asked: int
) -> None:
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    said = {"train": "train.jsonl", "test": "test.jsonl", "instruction": "Name the kind.", "metric": metric}
    target = {**said, "columns": {"text": "text", "label": "label"}, "answer": "choices"}
    if validation is not None:
        target["validation"] = validation
    prepared = prepare_study(load_study(write_study(tmp_path / "study", train=40, target=target)))
    items = prepared.items("toy-model", ["toy"])
    assert sum(item.eval_set == "validation" for item in items) == asked


def test_a_graded_study_says_what_accuracy_says_in_its_files_and_on_its_page(make_study: Any) -> None:
    study = make_study(
        also=lambda folder: write_rows(
            folder / "held.jsonl",
            [{"text": f"held out {n}", "label": ("bird", "fish", "tree")[n % 3]} for n in range(24)],
        ),
        target={"train": "train.jsonl", "test": "test.jsonl", "instruction": "Name the kind.", "metric": "graded",
                "columns": {"text": "text", "label": "label"}, "answer": "choices", "validation": "held.jsonl"},
    )  # fmt: skip
    found = verdict_object(study.results)
    assert found["metric"] == "graded"
    assert set(found["confidence"]["temperatures"]) == {"12", "12-matched", "12+general:4", "12+general:8"}
    assert [note.split(":")[0] for note in found["notes"]][-2:] == [
        "By accuracy",
        "At temperatures fitted on validation rows",
    ]
    assert {"accuracy", "graded", "calibrated"} <= {measure["metric"] for measure in found["measures"]}
    page = report_data(study.results, study.store)
    assert "calibrated" in {row.metric for row in page.measures}
    accuracy = study.results.judged[0].check.accuracy
    differ = (accuracy.verdict, accuracy.arm) != (page.verdict.verdict, page.verdict.arm)
    assert ("by accuracy" in {other.name for other in page.other_verdicts}) is differ
