"""The metric of a study is tried on its test items before anything is trained, and what it cannot judge is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from titrant.api import finish
from titrant.cli.tables import show_check
from titrant.config.study import load_study
from titrant.core.errors import DataError, SpecError
from titrant.experiment.prepare import prepare_study
from titrant.experiment.results import verdict_object
from titrant.experiment.runner import has_answers
from titrant.scoring.metrics.text import METRICS, NO_ROUGE_TOKENS, TextScore

Make = Callable[..., Any]
RUSSIAN = "погода очень важна для людей потому что она меняет нашу жизнь"


def written(folder: Path, answers: list[str], metric: str) -> dict[str, Any]:
    """The target of a file of questions with these answers."""
    rows = [{"question": f"What is entry number {n} of this list?", "answer": text} for n, text in enumerate(answers)]
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "asked.jsonl").write_text(lines)
    (folder / "taught.jsonl").write_text(lines.replace("What is", "Tell me"))
    return {"train": "taught.jsonl", "test": "asked.jsonl", "metric": metric, "answer": "text"}


@pytest.mark.parametrize(
    ("metric", "answers", "shown", "fix"),
    [
        (
            "last_number",
            [f"{1990 + n}-03-15" for n in range(30)],
            "'1990-03-15': it holds several numbers",
            "exact_match",
        ),
        ("last_number", [f"{n % 12 + 1}/5/2021" for n in range(30)], "it holds several numbers", "exact_match"),
        ("last_number", [f"{n % 12:02}:30" for n in range(30)], "it holds several numbers", "exact_match"),
        ("last_number", [f"F{n}" for n in range(30)], "it holds no number (30)", "exact_match"),
        ("last_number", [f"intent_{n}" for n in range(30)], "it holds no number (30)", "exact_match"),
        ("rouge_l", [f"{RUSSIAN} {n}" for n in range(30)], NO_ROUGE_TOKENS, "f1"),
        ("exact_match", ["-1", "1"] * 15, "'-1' and '1'", "accuracy"),
        ("exact_match", ["C", "C++", "C#"] * 10, "'C' and 'C++'", "accuracy"),
        ("f1", [">50K", "<=50K"] * 15, "'<=50K' and '>50K'", "accuracy"),
        ("exact_match", ["?", "!"] * 15, "nothing is left of it", "accuracy"),
    ],
)
def test_a_metric_that_cannot_judge_the_answers_is_refused_before_training(
    make_study: Make, tmp_path: Path, metric: str, answers: list[str], shown: str, fix: str
) -> None:
    target = written(tmp_path / "study", answers, metric)
    with pytest.raises(DataError) as refused:
        make_study(target=target)
    said = str(refused.value)
    assert "cannot judge 30 of 30 test items" in said
    assert shown in said
    assert "target.metric" in said
    assert f"metric: {fix}" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("failing", "refused"), [(1, False), (2, True)])
def test_a_share_above_five_in_a_hundred_is_refused_and_one_below_is_said(
    make_study: Make, tmp_path: Path, failing: int, refused: bool
) -> None:
    answers = [f"the weather of day {n} is fine" for n in range(30 - failing)] + [RUSSIAN] * failing
    target = written(tmp_path / "study", answers, "rouge_l")
    if refused:
        with pytest.raises(DataError, match="cannot judge 2 of 30"):
            make_study(target=target)
        return
    study = make_study(target=target)
    (remark,) = study.prepared.remarks
    assert "rouge_l cannot read the right answers of 1 of 30 test items, such as" in remark
    assert f"asked.jsonl:30 '{RUSSIAN[:40]}" in remark
    (judged,) = study.results.judged
    note = f"1 of 30 test items has no score and is in no number: {NO_ROUGE_TOKENS} (1)."
    assert judged.verdict.notes[0] == note
    assert "1 of 30 test items has no score and is in no number." in judged.verdict.sentence
    assert note in verdict_object(study.results)["notes"]


def test_the_page_says_how_many_items_have_no_score(make_study: Make, tmp_path: Path) -> None:
    target = written(tmp_path / "study", [f"day {n} is fine" for n in range(29)] + [RUSSIAN], "rouge_l")
    study = make_study(target=target)
    finish(study.design, study.store)
    page = (study.store.root / "report.html").read_text(encoding="utf-8")
    assert "1 of 30 test items has no score and is in no number: ROUGE reads" in page


def test_after_training_the_message_is_to_change_the_metric(
    make_study: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that holds answers needs another metric only, and says so in place of "run the study first"."""
    target = written(tmp_path / "study", [f"{1990 + n}-03-15" for n in range(30)], "exact_match")
    make_study(target=target)
    path = tmp_path / "study" / "study.yaml"
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, "target": {**said["target"], "metric": "last_number"}}))
    changed = load_study(path)
    monkeypatch.setattr("titrant.experiment.prepare.prepare", lambda spec, **_: None)
    with pytest.raises(DataError, match="the answers are kept") as refused:
        prepare_study(changed, answers_kept=has_answers(tmp_path / "out"))
    assert "change the metric" in str(refused.value)
    assert "titrant report" in str(refused.value)


def test_answers_that_no_metric_can_score_are_not_said_to_be_missing(
    make_study: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = written(tmp_path / "study", [f"day {n}" for n in range(30)], "exact_match")
    study = make_study(target=target)
    nothing = TextScore(value=None, reason="nothing can be read")
    monkeypatch.setitem(METRICS, "exact_match", lambda prediction, references: nothing)
    with pytest.raises(SpecError) as refused:
        finish(study.design, study.store)
    assert "no answer to a test item has a score" in str(refused.value)
    assert "the answers are kept" in str(refused.value)
    assert "run the study first" not in str(refused.value)


LABELLED = {
    "train": "taught.jsonl",
    "test": "asked.jsonl",
    "instruction": "Which?",
    "columns": {"text": "text", "label": "label"},
    "metric": "exact_match",
}


def labelled(folder: Path) -> None:
    """Rows of three labels, one of them in three spellings."""
    spelled = ("good", "bad", "fair", "good", "Good", "bad", "fair", "good ")
    for name, first in (("taught", 0), ("asked", 1000)):
        rows = [{"text": f"review number {first + n}", "label": spelled[n % len(spelled)]} for n in range(32)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_labels_that_look_alike_are_named_with_counts(
    make_study: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = make_study(also=labelled, target=LABELLED)
    (remark,) = study.prepared.remarks
    assert '"good" (16 rows) and "Good" (8 rows) and "good " (8 rows)' in remark
    assert 'merge_labels: {"good": ["Good", "good "]}' in remark
    assert study.prepared.models["toy-model"].targets["toy"].labels == ("Good", "bad", "fair", "good", "good ")
    show_check(load_study(tmp_path / "study" / "study.yaml"), as_json=False)
    assert remark in capsys.readouterr().out


def test_merge_labels_makes_one_of_them(make_study: Make) -> None:
    study = make_study(also=labelled, target={**LABELLED, "merge_labels": {"good": ["Good", "good "]}})
    data = study.prepared.models["toy-model"].targets["toy"]
    assert study.prepared.remarks == ()
    assert data.labels == ("bad", "fair", "good")
    assert {row.label for row in data.train} == {row.answer for row in data.train} == set(data.labels)
    assert {item.choices for item in data.test} == {data.labels}
    assert {item.references for item in data.test} == {(label,) for label in data.labels}


@pytest.mark.parametrize(
    ("merge", "problem"),
    [
        ({"good": ["Good"], "bad": ["Good"]}, "a label is merged into two"),
        ({"good": ["bad"], "bad": ["Bad"]}, "a label that others are merged into is merged itself"),
        ({"good": [1.5, {}]}, "not a text"),
    ],
)
def test_labels_are_merged_into_one_label_each(make_study: Make, merge: dict[str, Any], problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        make_study(also=labelled, target={**LABELLED, "merge_labels": merge})


def test_a_test_label_in_another_spelling_is_answered_with_the_key_that_merges_it(make_study: Make) -> None:
    def files(folder: Path) -> None:
        labelled(folder)
        path = folder / "asked.jsonl"
        path.write_text(path.read_text().replace('"bad"', '"BAD"'))

    with pytest.raises(DataError, match="never seen in training") as refused:
        make_study(also=files, target=LABELLED)
    assert 'merge_labels: {"bad": ["BAD"]}' in str(refused.value)
    merge = {"good": ["Good", "good "], "bad": "BAD"}
    study = make_study(also=files, target={**LABELLED, "merge_labels": merge})
    assert study.prepared.models["toy-model"].targets["toy"].labels == ("bad", "fair", "good")


def test_a_label_to_merge_that_no_row_has_is_refused(make_study: Make) -> None:
    with pytest.raises(DataError, match="merge_labels names a label that no row has"):
        make_study(also=labelled, target={**LABELLED, "merge_labels": {"good": ["goood"]}})


def test_merged_labels_hold_in_a_file_that_is_split_and_in_its_validation_rows(make_study: Make) -> None:
    target = {key: value for key, value in LABELLED.items() if key not in ("train", "test")}
    target |= {
        "rows": "taught.jsonl",
        "test_share": 0.3,
        "validation": 0.3,
        "merge_labels": {"good": ["Good", "good "]},
    }
    data = make_study(also=labelled, target=target).prepared.models["toy-model"].targets["toy"]
    assert {item.choices for item in (*data.test, *data.validation)} == {("bad", "fair", "good")}
    assert {item.references[0] for item in (*data.test, *data.validation)} <= {"bad", "fair", "good"}


def test_choices_of_the_study_are_merged_too(make_study: Make) -> None:
    choices = ["Good", "bad", "fair", "good", "good "]
    merge = {"good": ["Good", "good "]}
    study = make_study(also=labelled, target={**LABELLED, "choices": choices, "merge_labels": merge})
    data = study.prepared.models["toy-model"].targets["toy"]
    assert data.labels == ("good", "bad", "fair")
    assert {item.choices for item in data.test} == {data.labels}
