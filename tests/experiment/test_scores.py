"""Scores in columns say what scores as records said, and answers that are not those asked for are refused."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from titrant.core.errors import StoreDamaged
from titrant.core.records import Item, Score, Turn
from titrant.engines.job import ANSWERS
from titrant.experiment.results import collect, count_judgement, read_answers, scores_parquet, target_tables
from titrant.scoring import metrics
from titrant.scoring.sheets import GRADED, Sheet, SheetScorer, graded_batch
from titrant.stats.table import ScoreTable, tables_from_scores


def same_tables(mine: ScoreTable, theirs: ScoreTable) -> None:
    for name in ("eval_set", "arms", "seeds", "items", "groups", "tasks"):
        assert getattr(mine, name) == getattr(theirs, name), name
    assert np.array_equal(mine.values_ASI, theirs.values_ASI)
    assert np.array_equal(mine.present_ASI, theirs.present_ASI)


def test_scores_are_those_of_the_metrics_on_every_answer(toy_study: Any) -> None:
    prepared = toy_study.prepared
    found = {(s.run_id, s.eval_set, s.item, s.metric): s for s in toy_study.results.scores}
    asked = prepared.items("toy-model", ["toy"])
    counted = 0
    for planned in toy_study.design.distinct:
        by_request = {answer.request: answer for answer in read_answers(toy_study.store, planned.run.run_id)}
        answers = {item: by_request[name] for item, name in planned.requests.by_item.items()}
        assert set(answers) == {item.key for item in asked}
        for item in asked:
            answer, key = answers[item.key], (planned.run.run_id, item.eval_set, item.key)
            if item.answer == "loss":
                assert found[(*key, item.metric)].value == pytest.approx(math.exp(-answer.loss), abs=1e-15)
                counted += 1
                continue
            said = item.choices[answer.choice]
            assert found[(*key, item.metric)].value == metrics.score_text(item.metric, said, item.references).value
            graded = metrics.graded(answer.choice_logprobs, item.choices, item.references).value
            assert found[(*key, GRADED)].value == pytest.approx(graded, abs=1e-14)
            counted += 2
    assert counted == len(toy_study.results.scores) == len(found)


def test_tables_are_those_of_the_records(toy_study: Any) -> None:
    scores = toy_study.results.scores
    tables = target_tables(scores, "toy-model", "toy", "accuracy")
    theirs = tables_from_scores([score for score in scores if score.metric != GRADED])
    assert set(tables) == set(theirs) == {"target", "retention:kept", "retention:learned"}
    for eval_set, table in tables.items():
        same_tables(table, theirs[eval_set])
    graded = scores.table("toy-model", "toy", "target", GRADED)
    assert graded is not None
    same_tables(
        graded, tables_from_scores([s for s in scores if s.metric == GRADED and s.eval_set == "target"])["target"]
    )


def test_scores_are_a_sequence_of_records(toy_study: Any) -> None:
    scores = toy_study.results.scores
    everything = list(scores)
    assert len(everything) == len(scores)
    assert all(isinstance(score, Score) for score in everything)
    assert [scores[0], scores[77], scores[-1]] == [everything[0], everything[77], everything[-1]]
    assert list(scores[3:9:2]) == everything[3:9:2]
    with pytest.raises(IndexError):
        scores[len(scores)]


def test_parquet_holds_every_score_and_equal_scores_are_equal_bytes(toy_study: Any) -> None:
    scores = toy_study.results.scores
    data = scores_parquet(scores)
    rows = pq.read_table(io.BytesIO(data)).to_pylist()
    assert rows == [
        {name: list(value) if name in ("rungs", "tags") else value for name, value in record.items()}
        for record in ({name: getattr(score, name) for name in Score.__slots__} for score in scores)
    ]
    again, _ = collect(toy_study.design, toy_study.store)
    assert scores_parquet(again) == data


def test_a_test_set_is_judged_once_more_only_when_its_scores_differ(toy_study: Any, make_study: Any) -> None:
    study = make_study(retention=None)
    scores = study.results.scores
    assert count_judgement(study.store, study.prepared, scores) == 1
    assert count_judgement(study.store, study.prepared, toy_study.results.scores) == 2
    assert count_judgement(study.store, study.prepared, scores) == 2


def item(
    key: str,
    *,
    answer: str = "choices",
    metric: str = "accuracy",
    choices: tuple[str, ...] = ("a", "b"),
    right: str = "b",
) -> Item:
    return Item(
        key=key,
        row_id=key,
        eval_set="target",
        target="toy",
        task="toy",
        turns=(Turn(role="user", text=key),),
        references=(right,),
        choices=choices if answer == "choices" else None,
        answer=answer,  # type: ignore[arg-type]
        metric=metric,
        max_answer_tokens=4,
    )


def stored(rows: list[dict[str, Any]]) -> bytes:
    schema = pa.schema(
        [
            ("request", pa.string()),
            ("text", pa.string()),
            ("choice", pa.int32()),
            ("choice_logprobs", pa.list_(pa.float64())),
            ("loss", pa.float64()),
            ("stop", pa.string()),
        ]
    )
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([{"stop": "none", **row} for row in rows], schema=schema), sink)
    return sink.getvalue()


def scored(items: list[Item], rows: list[dict[str, Any]], study: Any) -> Any:
    run = study.design.runs[0].run
    return SheetScorer(Sheet.of(items), {each.key: each.key for each in items}).score(
        [stored(rows)], arm=run.arm, run=run
    )


def test_items_with_different_numbers_of_choices_are_scored_side_by_side(toy_study: Any) -> None:
    items = [item("one"), item("two", choices=("a", "c", "b")), item("word", answer="text", metric="exact_match")]
    rows = [
        {"request": "one", "choice": 0, "choice_logprobs": [math.log(0.6), math.log(0.2)]},
        {"request": "two", "choice": 2, "choice_logprobs": [math.log(0.1), math.log(0.1), math.log(0.3)]},
        {"request": "word", "text": "B!", "stop": "end"},
    ]
    found = scored(items, rows, toy_study)
    values = {
        (found.score(line).item, found.score(line).metric): found.score(line).value for line in range(len(found.sheet))
    }
    assert values == {
        ("one", "accuracy"): 0.0,
        ("one", GRADED): pytest.approx(0.25),
        ("two", "accuracy"): 1.0,
        ("two", GRADED): pytest.approx(0.6),
        ("word", "exact_match"): 1.0,
    }


@pytest.mark.parametrize(
    "choices",
    [
        ("-1", "1"),  # the files of case 01
        (">50K", "<=50K"),
        ("C", "C++", "C#"),
        ("A", "a"),
        ("3.5", "35"),
        ("?", "!"),
        ("the end", "end"),
        ("2021-03-15", "1999-12-15"),
    ],
)
@pytest.mark.parametrize("metric", ["exact_match", "accuracy", "f1", "last_number", "rouge_l"])
def test_a_chosen_answer_is_right_only_where_it_is_the_gold_choice(
    toy_study: Any, choices: tuple[str, ...], metric: str
) -> None:
    items = [item(right, metric=metric, choices=choices, right=right) for right in choices]
    for number, chosen in enumerate(choices):
        rows = [{"request": key, "choice": number, "choice_logprobs": [-1.0] * len(choices)} for key in sorted(choices)]
        found = scored(items, rows, toy_study)
        values = {s.item: s.value for s in map(found.score, range(len(found.sheet))) if s.metric == metric}
        assert values == {right: float(right == chosen) for right in choices}


def test_what_cannot_be_scored_is_null_with_a_reason(toy_study: Any) -> None:
    items = [
        item("choice"),
        item("number", answer="text", metric="last_number"),
        item("loss", answer="loss", metric="m"),
    ]
    rows = [
        {"request": "choice", "choice": 0, "choice_logprobs": [-math.inf, -math.inf]},
        {"request": "loss", "loss": math.inf},
        {"request": "number", "text": "7"},
    ]
    found = scored(items, rows, toy_study)
    reasons = {(s.item, s.metric): (s.value, s.reason) for s in map(found.score, range(len(found.sheet)))}
    assert reasons == {
        ("choice", "accuracy"): (0.0, None),
        ("choice", GRADED): (None, "every choice has probability 0"),
        ("loss", "m"): (None, "the loss is not finite"),
        ("number", "last_number"): (None, "no reference holds a number"),
    }


@pytest.mark.parametrize(
    "rows",
    [
        [{"request": "one", "choice": 0, "choice_logprobs": [-1.0, -1.0]}],
        [{"request": key, "choice": 0, "choice_logprobs": [-1.0, -1.0]} for key in ("one", "three")],
        [{"request": key, "text": "a"} for key in ("one", "two")],
    ],
)
def test_answers_to_other_items_than_were_asked_are_refused(toy_study: Any, rows: list[dict[str, Any]]) -> None:
    with pytest.raises(StoreDamaged):
        scored([item("one"), item("two")], rows, toy_study)


def test_a_choice_in_place_of_a_text_is_refused(toy_study: Any) -> None:
    rows = [{"request": "word", "choice": 0, "choice_logprobs": [-1.0, -1.0]}]
    with pytest.raises(StoreDamaged, match="holds no text"):
        scored([item("word", answer="text", metric="exact_match")], rows, toy_study)


def test_graded_scores_of_many_items_are_those_of_one_at_a_time() -> None:
    rng = np.random.default_rng(0)
    logprobs = rng.normal(-20, 30, (50, 4))
    gold = np.eye(4, dtype=bool)[rng.integers(4, size=50)]
    values, reasons = graded_batch(logprobs, gold)
    choices = ["w", "x", "y", "z"]
    for row, value in enumerate(values):
        right = [choice for choice, is_right in zip(choices, gold[row], strict=True) if is_right]
        assert value == pytest.approx(metrics.graded(logprobs[row].tolist(), choices, right).value, abs=1e-14)
    assert reasons == {}


def test_answers_of_a_run_that_were_changed_are_refused(make_study: Any) -> None:
    study = make_study(retention=None, arms={"target_rows": [6], "doses": {"general": [4]}, "seeds": 1})
    path = study.store.run_folder(study.design.runs[0].run.run_id) / ANSWERS
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreDamaged, match="not as it was stored"):
        collect(study.design, study.store)
