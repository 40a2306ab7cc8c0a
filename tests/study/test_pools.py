"""Pools of a study: files of the user's, and sources of the catalogue from a file or from the hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hub_mirror
import pytest

from titrant.errors import DataError
from titrant.sources import card
from titrant.study.bench import raw_rows
from titrant.study.card import model_card
from titrant.study.page import report_data
from titrant.study.spec import load_study

Make = Callable[..., Any]
ROWS = [
    {"instruction": "Say the word of row 1.", "context": "", "response": "word 1"},
    {"instruction": "Say the word of row 2.", "context": "of a list", "response": "010"},
    {"instruction": "Say nothing.", "context": "", "response": ""},
]
HEADER = b"---\nlicense: cc-by-sa-3.0\n---\n"


def lines(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def study_with(folder: Path, pool: dict[str, Any]) -> Path:
    (folder / "rows.jsonl").write_text(lines([{"text": f"thing {n}", "label": "ab"[n % 2]} for n in range(12)]))
    (folder / "toy-model").mkdir()
    said = {
        "name": "toy",
        "model": "./toy-model",
        "target": {"rows": "rows.jsonl", "test_share": 0.3, "instruction": "Which?", "columns": {"label": "label"}},
        "generalist": {"pool": pool},
        "arms": {"target_rows": [4], "doses": {"pool": [2]}, "seeds": 2},
    }
    path = folder / "study.yaml"
    path.write_text(json.dumps(said))
    return path


def test_a_local_copy_is_read_with_the_card_and_its_faults_are_counted(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(lines(ROWS))
    study = load_study(study_with(tmp_path, {"source": "dolly", "rows": "mine.jsonl"}))
    pool = raw_rows(study).pools["pool"]
    assert [(row.turns[0].text, row.answer) for row in pool.rows] == [
        ("Say the word of row 1.", "word 1"),
        ("Say the word of row 2.\n\nof a list", "010"),
    ]
    assert (pool.licence, pool.non_commercial, pool.left_out) == ("CC-BY-SA-3.0", False, 1)
    assert "mine.jsonl:3: the output is empty" in str(pool.first_fault)
    assert not (tmp_path / "sources.lock.json").exists()


def test_in_a_pool_of_the_users_own_the_same_fault_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(lines(ROWS))
    with pytest.raises(DataError, match=r"mine\.jsonl:3: the output is empty"):
        raw_rows(load_study(study_with(tmp_path, {"rows": "mine.jsonl"})))


def test_a_source_of_the_catalogue_comes_from_the_hub_and_is_locked_beside_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"README.md": HEADER, "rows.jsonl": lines(ROWS).encode()}
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    study = load_study(study_with(tmp_path, {"source": "dolly"}))
    with hub_mirror.running({card("dolly").hub: files}) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        first = raw_rows(study).pools["pool"]
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert raw_rows(study).pools["pool"] == first
    assert first.place == f"hub:databricks/databricks-dolly-15k@{hub_mirror.COMMIT}:train"
    assert (len(first.rows), first.left_out, first.licence) == (2, 1, "cc-by-sa-3.0")
    assert json.loads((tmp_path / "sources.lock.json").read_text())["sources"]["dolly"]["revision"] == hub_mirror.COMMIT


def test_the_columns_of_a_card_are_used_where_a_copy_has_them(tmp_path: Path) -> None:
    original = [{"inputs": "x", "inputs_pretokenized": "Is it?", "targets_pretokenized": "yes"}]
    renamed = [{"prompt": "Is it?", "completion": "yes"}]
    for rows in (original, renamed):
        folder = tmp_path / rows[0]["prompt" if "prompt" in rows[0] else "inputs"][:1]
        folder.mkdir()
        (folder / "p3.jsonl").write_text(lines(rows))
        pool = raw_rows(load_study(study_with(folder, {"source": "p3", "rows": "p3.jsonl"}))).pools["pool"]
        assert [(row.turns[0].text, row.answer) for row in pool.rows] == [("Is it?", "yes")]


def test_a_non_commercial_licence_of_a_card_is_said_in_the_report_and_the_model_card(make_study: Make) -> None:
    study = make_study(generalist={"general": {"source": "alpaca", "rows": "general.jsonl"}})
    data = report_data(study.results, study.store)
    (note,) = [note for note in data.notes if "non-commercial" in note]
    assert "The pool general" in note
    assert "CC-BY-NC-4.0" in note
    dosed = next(arm for arm in study.design.arms if arm.kind == "dosed")
    card_text = model_card(study.design.cell(dosed, 0), study.results.judged[0], study.results)
    assert "- generalist rows general: CC-BY-NC-4.0" in card_text


def test_what_the_study_says_of_a_licence_counts_before_the_card(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(lines(ROWS))
    study = load_study(
        study_with(tmp_path, {"source": "alpaca", "rows": "mine.jsonl", "licence": "bought, contract 7"})
    )
    pool = raw_rows(study).pools["pool"]
    assert (pool.licence, pool.non_commercial) == ("bought, contract 7", False)
