"""Tables of scores as people have them: read and told, or named with the text of the file and its line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from titrant.core.errors import ScoresError
from titrant.decision.judge import judge
from titrant.stats.score_file import read_score_file

CASES = Path(os.environ.get("TITRANT_CASES", Path(__file__).parents[3] / "shared" / "cases")) / "16-messages-of-judge"
CELLS = [(arm, seed, item) for arm in ("alone", "mixed") for seed in range(3) for item in range(40)]


def right(arm: str, seed: int, item: int) -> bool:
    return (7 * item + seed) % 10 < (8 if arm == "mixed" else 5)


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    def write(*, header: str = "arm,seed,item,score", separator: str = ",", one: str = "1", zero: str = "0") -> Path:
        rows = [
            separator.join((arm, str(seed), f"q{item}", one if right(arm, seed, item) else zero))
            for arm, seed, item in CELLS
        ]
        path = tmp_path / "scores.csv"
        path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
        return path

    return write


def without(found: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in keys}


@pytest.mark.parametrize(
    ("said", "remarks"),
    [
        ({"header": "Arm,SEED, Item ,Score"}, []),
        ({"header": "\ufeffarm,seed,item,value"}, []),
        ({"header": "arm;seed;item;score", "separator": ";"}, ["columns are separated by semicolons"]),
        (
            {"header": "Arm;Seed;Item;Score", "separator": ";", "one": "1,0", "zero": "0,000"},
            ["columns are separated by semicolons", "the comma in a score is a decimal comma"],
        ),
        (
            {"header": "arm\tseed\titem\tscore", "separator": "\t", "one": "1,0"},
            ["columns are separated by tabs", "the comma in a score is a decimal comma"],
        ),
        ({"one": '"1,0"', "zero": '"0,0"'}, ["the comma in a score is a decimal comma"]),
        ({"header": "sep=|\narm|seed|item|score", "separator": "|"}, ["columns are separated by upright bars"]),
        ({"header": "sep=,\n\narm,seed,item,score"}, []),
    ],
)
def test_a_table_says_the_same_however_it_is_written(
    said: dict[str, str], remarks: list[str], table: Callable[..., Path]
) -> None:
    plain = judge(table(), baseline="alone")
    found = judge(table(**said), baseline="alone")
    assert without(found, "read_as") == plain
    assert found.get("read_as", []) == remarks


@pytest.mark.parametrize(
    ("one", "zero", "text", "advice"),
    [
        ("True", "False", "'True'", "write 1 for a right answer and 0 for a wrong one"),
        ("C", "I", "'C'", "write 1 for a right answer and 0 for a wrong one"),
        ("100%", "0%", "'100%'", "write 1, if it is a percentage"),
        ("87,5", "12,5", "'87,5'", "write 0.875, if it is a percentage"),
        ("1", "NaN", "'NaN'", "leave the cell empty where there is no score"),
        ("1", "0_1", "'0_1'", ""),
    ],
)
def test_a_score_that_is_no_number_is_named_once_as_it_stands_in_the_file(
    one: str, zero: str, text: str, advice: str, table: Callable[..., Path]
) -> None:
    with pytest.raises(ScoresError) as caught:
        judge(table(one=one, zero=zero, header="arm;seed;item;score", separator=";"), baseline="alone")
    (line,) = [line for line in str(caught.value).splitlines() if f"score {text}" in line]
    assert line.endswith(f"is not a number from 0 to 1: {advice}" if advice else "is not a number from 0 to 1")
    assert "more)" in line
    assert "nan is not" not in str(caught.value)


@pytest.mark.parametrize("header", ["arm;seed;question;score", "Model,Seed,Item,Score", "arm seed item score"])
def test_a_missing_column_is_told_with_the_header_as_it_stands(header: str, table: Callable[..., Path]) -> None:
    with pytest.raises(ScoresError, match=r"scores\.csv:1: no column ") as caught:
        judge(table(header=header))
    assert f"got {header!r}" in str(caught.value)


def test_an_empty_score_is_a_missing_cell(table: Callable[..., Path]) -> None:
    path = table()
    lines = path.read_text().splitlines()
    holes = {3: "alone,0,q2,", 50: "alone,1,q9, "}
    path.write_text("\n".join(holes.get(number, line) for number, line in enumerate(lines)) + "\n")
    with pytest.raises(ScoresError, match="2 missing cells") as caught:
        judge(path, baseline="alone")
    assert "arm 'alone', seed 0, item 'q2'" in str(caught.value)
    found = judge(path, baseline="alone", drop_incomplete=True)
    assert found["contrasts"][0]["items"] == 38
    assert found["read_as"] == ["2 empty scores are missing cells"]
    assert any("2 incomplete items left out" in note for note in found["notes"]), found["notes"]


def test_an_item_that_nobody_has_a_score_for_is_missing_and_not_forgotten(table: Callable[..., Path]) -> None:
    path = table()
    lines = [line[:-1] if ",q7," in line else line for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ScoresError, match="6 missing cells"):
        judge(path, baseline="alone")
    assert judge(path, baseline="alone", drop_incomplete=True)["contrasts"][0]["items"] == 39


def test_columns_with_none_for_a_score_have_a_missing_cell_too() -> None:
    columns: dict[str, list[Any]] = {
        "arm": [arm for arm, _, _ in CELLS],
        "seed": [seed for _, seed, _ in CELLS],
        "item": [item for _, _, item in CELLS],
        "score": [int(right(*cell)) for cell in CELLS],
    }
    columns["score"][5] = None
    with pytest.raises(ScoresError, match="1 missing cell"):
        judge(columns, baseline="alone")
    assert judge(columns, baseline="alone", drop_incomplete=True)["contrasts"][0]["items"] == 39


@pytest.mark.parametrize("blank", [(1,), (2, 5, 5), (3, 100)])
def test_blank_lines_do_not_shift_the_place_of_a_fault(blank: tuple[int, ...], table: Callable[..., Path]) -> None:
    lines = table().read_text().splitlines()
    lines[200] = lines[200][:-1] + "7e"
    for at in blank:
        lines.insert(at, "")
    path = table()
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ScoresError, match=f"scores.csv:{201 + len(blank)}: score '7e' is not"):
        judge(path)


@pytest.mark.parametrize(("one", "other"), [("0", "0.0"), ("1", "01"), ("2", "2.")])
def test_seeds_that_are_one_number_in_two_writings_are_named(one: str, other: str, table: Callable[..., Path]) -> None:
    path = table()
    path.write_text(path.read_text().replace(f"mixed,{one},", f"mixed,{other},"))
    with pytest.raises(ScoresError, match="seeds") as caught:
        judge(path, baseline="alone")
    named = f"seeds {' and '.join(sorted((one, other)))} are two names: write them alike"
    assert named in str(caught.value)


def test_predictions_in_json_are_no_table(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text('\n{"doc_id": 0, "exact_match": 1.0}\n')
    with pytest.raises(ScoresError, match=r"samples\.jsonl:2: these are JSON objects"):
        read_score_file(path)


@pytest.mark.skipif(not CASES.is_dir(), reason=f"no cases at {CASES}: set TITRANT_CASES")
def test_the_tables_that_were_reported_are_read_or_explained() -> None:
    found = [judge(CASES / name, baseline="alone") for name in ("caps_head.csv", "semicolon_comma.csv")]
    assert [entry["verdict"] for entry in found] == ["mix", "mix"]
    with pytest.raises(ScoresError, match=r"bool\.csv:2 \(and 348 more\): score 'True' is not a number"):
        judge(CASES / "bool.csv", baseline="alone")
    with pytest.raises(ScoresError, match="these are JSON objects"):
        judge(CASES / "samples_gsm8k.jsonl")


@pytest.mark.parametrize(
    ("header", "fix"),
    [
        (
            "model,example_id,acc",
            "rename model to arm; rename example_id to item; rename acc to score; "
            "add a column seed (0 in every row, where each arm was trained once)",
        ),
        ("Model;Run;Question_ID;Correct", "rename Model to arm; rename Run to seed; rename Question_ID to item; "
         "rename Correct to score"),
        ("arm,random_seed,doc_id,exact_match", "rename random_seed to seed; rename doc_id to item; "
         "rename exact_match to score"),
        ("arm,seed,idx,points", "rename idx to item; no column looks like score"),
    ],
)  # fmt: skip
def test_a_header_of_other_tools_is_answered_with_which_columns_to_rename(
    header: str, fix: str, table: Callable[..., Path]
) -> None:
    with pytest.raises(ScoresError, match=r"scores\.csv:1: no column") as caught:
        read_score_file(table(header=header, separator=";" if ";" in header else ","))
    assert caught.value.fix == fix
    assert header in str(caught.value)


@pytest.mark.parametrize("columns", [["model", "seed", "item", "acc"], ["system", "trial", "qid", "f1"]])
def test_a_table_in_memory_is_answered_alike(columns: list[str]) -> None:
    import pyarrow as pa

    data = {name: ["0"] for name in columns}
    for scores in (data, pa.table(data)):
        with pytest.raises(ScoresError, match="no column") as caught:
            judge(scores)
        assert str(caught.value.fix).startswith(f"rename {columns[0]} to arm")


@pytest.mark.parametrize(("one", "zero"), [("Y", "N"), ("yes", "no"), ("PASS", "fail"), ("T", "F"), ("✓", "✗")])
def test_words_for_right_and_wrong_are_explained_as_they_stand(one: str, zero: str, table: Callable[..., Path]) -> None:
    with pytest.raises(ScoresError) as caught:
        read_score_file(table(one=one, zero=zero))
    for word in (one, zero):
        assert f"score {word!r} is not a number from 0 to 1: write 1 for a right answer and 0 for a wrong one" in str(
            caught.value
        )
