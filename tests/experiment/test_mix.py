"""One arm's rows as a file: order, names, and what cannot be written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_study import fake_prepare, write_rows, write_study

from titrant.config.study import load_study
from titrant.core.errors import DataError, SpecError
from titrant.experiment.design import Design, make_design
from titrant.experiment.mix import find_run, write_mix
from titrant.experiment.prepare import prepare_study


@pytest.fixture
def design(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Design:
    """A small study's design, with one row of the pool a conversation of two questions."""
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    path = write_study(tmp_path / "study", arms={"target_rows": [6], "doses": {"general": [4, 12]}, "seeds": 2})
    rows = [json.loads(line) for line in (tmp_path / "study" / "general.jsonl").read_text().splitlines()]
    talks = [[row["prompt"], row["response"]] for row in rows]
    talks[3] = ["Say one.", "one", "Say two.", "two"]
    messages = [
        [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(talk)] for talk in talks
    ]
    named = [{"messages": said, "id": f"p{n}" if n != 3 else "talk"} for n, said in enumerate(messages)]
    write_rows(tmp_path / "study" / "general.jsonl", named)
    return make_design(prepare_study(load_study(path)))


def found(design: Design, doses: dict[str, int], seed: int = 0, target_rows: int = 6):
    return find_run(design, target_rows=target_rows, doses=doses, seed=seed, target=None, model=None)


def test_rows_stand_in_the_order_of_their_first_visit(design: Design, tmp_path: Path) -> None:
    planned = found(design, {"general": 4})
    written = write_mix(planned, tmp_path / "arm.jsonl", prepared=design.prepared)
    rows = [json.loads(line) for line in written.path.read_text().splitlines()]
    visited = [index for step in planned.plan.steps for index in step]
    first = list(dict.fromkeys(visited))
    assert [row["id"] for row in rows] == [planned.examples[index].row_id for index in first]
    assert written.rows == len(rows) == 10
    assert len(visited) == 6 * 2 + 4  # the file holds a row once, whatever its passes


def test_generalist_alone_and_a_target_alone_can_be_had_and_the_matched_baseline_is_the_plain_ones_rows(
    design: Design, tmp_path: Path
) -> None:
    alone = write_mix(found(design, {}), tmp_path / "alone.jsonl", prepared=design.prepared)
    general = write_mix(
        found(design, {"general": 12}, target_rows=0), tmp_path / "general.jsonl", prepared=design.prepared
    )
    assert (alone.facts["arm"], alone.rows) == ("6", 6)
    assert (general.facts["arm"], general.rows) == ("general:12", 12)
    with pytest.raises(SpecError, match=r"no such arm .*6\+general:4, 6\+general:12"):
        found(design, {"general": 5})
    with pytest.raises(SpecError, match="0 target rows with no dose"):
        found(design, {}, target_rows=0)  # the untuned model has no rows


def test_the_fingerprint_is_of_the_rows_and_no_two_seeds_or_doses_share_it(design: Design, tmp_path: Path) -> None:
    prints, drawn = {}, {}
    for seed in (0, 1):
        for doses in ({}, {"general": 4}):
            written = write_mix(found(design, doses, seed), tmp_path / "arm.jsonl", prepared=design.prepared)
            prints[(seed, len(doses))] = written.facts["fingerprint"]
            rows = [json.loads(line) for line in written.path.read_text().splitlines()]
            drawn[(seed, len(doses))] = {source: {row["id"] for row in rows if row["source"] == source}
                                         for source in ("toy", "general")}  # fmt: skip
            assert (
                write_mix(found(design, doses, seed), tmp_path / "again.jsonl", prepared=design.prepared).facts
                == written.facts
            )
            assert (tmp_path / "arm.jsonl").read_bytes() == (tmp_path / "again.jsonl").read_bytes()
    assert len(set(prints.values())) == 4
    assert drawn[(0, 1)]["general"] != drawn[(1, 1)]["general"]
    assert drawn[(0, 1)]["toy"] == drawn[(0, 0)]["toy"] != drawn[(1, 1)]["toy"]


def test_a_conversation_is_messages_only_and_the_refusal_names_its_line(design: Design, tmp_path: Path) -> None:
    planned = found(design, {"general": 12})
    rows = [
        json.loads(line)
        for line in write_mix(planned, tmp_path / "arm.jsonl", prepared=design.prepared).path.read_text().splitlines()
    ]
    (talk,) = [row for row in rows if row["id"] == "talk"]
    assert [turn["content"] for turn in talk["messages"]] == ["Say one.", "one", "Say two.", "two"]
    for form in ("alpaca", "prompt-completion"):
        with pytest.raises(DataError, match=rf"general\.jsonl:4: .*as {form}.*--format messages"):
            write_mix(planned, tmp_path / "other.jsonl", prepared=design.prepared, form=form)
    assert not (tmp_path / "other.jsonl").exists()


def test_every_text_survives_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    path = write_study(tmp_path / "study", arms={"target_rows": [6], "doses": {"general": [12]}, "seeds": 1})
    text = 'été \u2028 </script> "quoted"\n\tand 2020-01-01'
    write_rows(tmp_path / "study" / "general.jsonl", [{"prompt": f"row {n}", "response": text} for n in range(12)])
    design = make_design(prepare_study(load_study(path)))
    write_mix(found(design, {"general": 12}), tmp_path / "arm.jsonl", prepared=design.prepared)
    lines = (tmp_path / "arm.jsonl").read_bytes().split(b"\n")
    assert len(lines) == 6 + 12 + 1
    rows = [json.loads(line) for line in lines[:-1]]
    assert {row["messages"][-1]["content"] for row in rows if row["source"] == "general"} == {text}


def test_the_sidecar_says_which_columns_of_which_file_are_in_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    path = write_study(tmp_path / "study", arms={"target_rows": [6], "doses": {"general": [4]}, "seeds": 1})
    for name, extra in (("general.jsonl", {"topic": "x"}), ("train.jsonl", {"second": "y"})):
        rows = [json.loads(line) for line in (tmp_path / "study" / name).read_text().splitlines()]
        write_rows(tmp_path / "study" / name, [{**row, **extra} for row in rows])
    prepared = prepare_study(load_study(path))
    written = write_mix(found(make_design(prepared), {"general": 4}), tmp_path / "arm.jsonl", prepared=prepared)
    sidecar = json.loads(written.sidecar.read_text())
    said = {note["place"]: note["not_read"] for note in sidecar["not_read"]}
    assert (said["general.jsonl"], said["train.jsonl"]) == ({"topic": 12}, {"second": 12})
