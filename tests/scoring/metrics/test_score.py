"""The engine behind `titrant score`."""

from pathlib import Path
from typing import Any

import pytest

from titrant.core.errors import ScoresError
from titrant.core.records import Origin, RawRow
from titrant.data.readers import read_rows, table_remarks
from titrant.scoring.metrics import score_rows


def rows(*values: dict[str, Any]) -> list[RawRow]:
    return [RawRow(values=each, origin=Origin(path="p.jsonl", line=line)) for line, each in enumerate(values, start=1)]


def test_the_score_is_the_mean_over_items() -> None:
    report = score_rows(
        rows(
            {"id": "a", "prediction": "Yes.", "references": ["yes"]},
            {"id": "b", "prediction": "", "references": ["yes", "no"]},
        ),
        "exact_match",
    )
    assert (report.metric, report.score, report.n, report.unscored) == ("exact_match", 0.5, 2, ())
    assert [(item.id, item.value) for item in report.items] == [("a", 1.0), ("b", 0.0)]


def test_references_that_rouge_cannot_read_are_counted_and_not_scored() -> None:
    report = score_rows(
        rows(
            {"id": "1", "prediction": "a cat", "references": ["a cat"]},
            {"id": "2", "prediction": "Москва", "references": ["Москва"]},
        ),
        "rouge_l",
    )
    assert (report.score, report.n) == (1.0, 1)
    assert [count for _, count in report.unscored] == [1]
    assert report.items[1].value is None
    assert report.items[1].reason


def test_a_reference_that_rouge_cannot_read_is_counted_even_beside_one_that_it_can() -> None:
    report = score_rows(
        rows(
            {"id": "1", "prediction": "a cat", "references": ["a cat", "кошка", "고양이"]},
            {"id": "2", "prediction": "a dog", "references": ["a dog"]},
            {"id": "3", "prediction": "x", "references": ["собака"]},
        ),
        "rouge_l",
    )
    assert (report.score, report.n, report.unread_references) == (1.0, 2, 3)
    assert [item.unread_references for item in report.items] == [2, 0, 1]


def test_no_scored_item_means_no_score() -> None:
    report = score_rows(rows({"prediction": "да", "references": ["да"]}), "rouge_l")
    assert (report.score, report.n) == (None, 0)


def test_an_id_that_is_missing_is_the_line() -> None:
    report = score_rows(rows({"prediction": "a", "references": ["a"]}), "accuracy")
    assert report.items[0].id == "1"


def test_every_broken_row_is_named_at_once() -> None:
    broken = rows(
        {"id": "a", "references": ["x"]},
        {"id": "b", "prediction": "x", "references": []},
        {"id": "c", "prediction": "x", "references": {"text": "x"}},
        {"id": "d", "prediction": None, "references": ["x"]},
        {"id": "e", "prediction": "x", "references": ["x"]},
        {"id": "e", "prediction": "x", "references": ["x"]},
    )
    with pytest.raises(ScoresError) as caught:
        score_rows(broken, "f1")
    message = str(caught.value)
    for line in (1, 2, 3, 4, 6):
        assert f"p.jsonl:{line}: " in message
    assert "stands in p.jsonl:5 already" in message


def test_an_unknown_metric_lists_those_there_are() -> None:
    with pytest.raises(ScoresError, match="rouge_l"):
        score_rows([], "bleu")


@pytest.mark.parametrize(
    ("references", "expected"),
    [
        ("paris", ["paris"]),
        ('["y"]', ["y"]),
        ('["y", "paris"]', ["y", "paris"]),
        ("[Applause]", ["[Applause]"]),
        (True, ["true"]),
        ([""], [""]),
        ("[1, 2.50]", ["1", "2.50"]),
    ],
)
def test_one_reference_is_a_text_and_a_cell_may_hold_a_list(references: Any, expected: list[str]) -> None:
    for prediction in (*expected, "x"):
        row = {"id": "1", "prediction": prediction, "references": references}
        as_list = {"id": "1", "prediction": prediction, "references": expected}
        assert score_rows(rows(row), "exact_match").items == score_rows(rows(as_list), "exact_match").items


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prediction": "a", "references": []}, r'no references \(got \[\].*where no answer is right, write \[""\]'),
        ({"prediction": "a", "references": "['y']"}, r"a list as Python writes it.*json\.dumps"),
        ({"prediction": "a", "references": [{"text": "y"}]}, "references that are no texts"),
        ({"prediction": "a", "Target": "y"}, "rename the column Target to references"),
        ({"pred": "a", "references": "y"}, "rename the column pred to prediction"),
    ],
)
def test_a_row_that_cannot_be_scored_is_told_with_a_fix(row: dict[str, Any], message: str) -> None:
    with pytest.raises(ScoresError, match=message):
        score_rows(rows(row), "f1")


@pytest.mark.parametrize(
    "text",
    [
        "id,prediction,references\n1,a,\n",
        "id;prediction;references\n1;a;a\n2;;\n",
        "id\tprediction\treferences\n1\ta\t  \n",
    ],
)
def test_an_empty_cell_is_no_reference(text: str, tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(text)
    with pytest.raises(ScoresError, match=r"no references.*where no answer is right, write \[\"\"\]"):
        score_rows(read_rows(path), "exact_match")


def test_a_cell_may_say_that_no_answer_is_right(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text('id,prediction,references\n1,,"[""""]"\n2,paris,"[""""]"\n')
    assert score_rows(read_rows(path), "f1").score == 0.5


def test_headers_are_read_in_any_case() -> None:
    report = score_rows(rows({"ID": "7", "Prediction": "a", " References ": "a"}), "exact_match")
    assert (report.score, report.items[0].id) == (1.0, "7")


@pytest.mark.parametrize(
    "text",
    [
        'id,prediction,references\n1,Paris,paris\n2,x,"[""y""]"\n',
        "ID;Prediction;References\n1;Paris;paris\n2;x;y\n",
        "sep=,\nid,prediction,references\n1,Paris,paris\n2,x,y\n",
    ],
)
def test_a_table_of_predictions_is_scored(text: str, tmp_path: Path) -> None:
    path = tmp_path / "pred.csv"
    path.write_text(text)
    report = score_rows(read_rows(path), "exact_match")
    assert [(item.id, item.value) for item in report.items] == [("1", 1.0), ("2", 0.0)]
    assert table_remarks(path) == (("columns are separated by ';'",) if ";" in text else ())
