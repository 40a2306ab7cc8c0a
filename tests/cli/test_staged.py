"""`titrant next` and `judge --staged` as a shell loop types them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Titrant

from titrant.core.identity import rng_for

ITEMS = 110
PROTOCOL = {
    "arms": {"plain": {"dose": 0}, "matched": {"dose": 0, "matched": True}, "d96": {"dose": 96}},
    "smallest_effect": 0.03,
    "most": 8,
    "metric": "graded",
    "level": 0.95,
    "costs": {"plain": 1.0, "matched": 1.5, "d96": 1.5},
}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A folder with protocol.json and scores.csv, which has a header only."""
    (tmp_path / "protocol.json").write_text(json.dumps(PROTOCOL))
    (tmp_path / "scores.csv").write_text("arm,seed,item,score\n")
    return tmp_path


def train(study: Path, runs: list[dict[str, Any]], *, gain: float = 0.15) -> None:
    """Somebody's trainer: it appends the scores of these runs."""
    with (study / "scores.csv").open("a", newline="") as file:
        writer = csv.writer(file)
        for run in runs:
            rng = rng_for(run["seed"], "tests", "train", run["arm"])
            level = 0.4 + (gain if run["arm"] == "d96" else 0.0) + 0.02 * rng.standard_normal()
            values = np.clip(level + 0.1 * rng.standard_normal(ITEMS), 0, 1)
            writer.writerows([run["arm"], run["seed"], f"item {k}", value] for k, value in enumerate(values))


def ask(titrant: Titrant, study: Path, *more: str) -> dict[str, Any]:
    said = titrant("next", "--protocol", study / "protocol.json", "--scores", study / "scores.csv", "--json", *more)
    assert said.code == 0, said.err
    found: dict[str, Any] = json.loads(said.out)
    return found


def test_a_loop_of_next_ends_in_a_verdict_and_the_same_input_gives_the_same_bytes(
    titrant: Titrant, study: Path
) -> None:
    while not (found := ask(titrant, study))["stop"]:
        assert found["next"]
        train(study, found["next"])
    assert found["verdict"]["verdict"] == "mix"
    assert found["verdict"]["arm"] == "d96"
    assert found["spent"]["cost"] < found["grid_cost"] == 32.0
    again = [titrant("next", "--protocol", study / "protocol.json", "--scores", study / "scores.csv", "--json").out]
    again.append(titrant("next", "--protocol", study / "protocol.json", "--scores", study / "scores.csv", "--json").out)
    assert again[0] == again[1]
    assert json.loads(again[0]) == found


def test_an_empty_file_is_where_a_study_begins(titrant: Titrant, study: Path) -> None:
    (study / "scores.csv").write_text("")
    found = ask(titrant, study, "--shards", "8")
    assert found["next"][0] == {"arm": "plain", "seed": 0}
    assert len(found["next"]) == 8
    assert (found["verdict"], found["look"], found["waiting"], found["ruled_out"]) == (None, 0, [], [])


def test_in_words_it_says_what_was_spent_and_what_is_next(titrant: Titrant, study: Path) -> None:
    said = titrant("next", "--protocol", study / "protocol.json", "--scores", study / "scores.csv")
    assert said.out.startswith("No look yet: 0 runs, 0% of the grid's cost.\n")
    assert "next, for the look at 2 seeds: plain at seed 0, matched at seed 0, d96 at seed 0" in said.out
    while not (found := ask(titrant, study))["stop"]:
        train(study, found["next"])
    said = titrant("next", "--protocol", study / "protocol.json", "--scores", study / "scores.csv")
    assert "mix: Mix 96 generalist rows" in said.out
    assert said.out.endswith("stop: nothing is left to run\n")


def test_a_finished_table_is_judged_by_its_protocol(titrant: Titrant, study: Path) -> None:
    train(study, [{"arm": arm, "seed": seed} for arm in PROTOCOL["arms"] for seed in range(8)])  # type: ignore[attr-defined]
    asked = ask(titrant, study)
    said = titrant("judge", study / "scores.csv", "--staged", study / "protocol.json", "--json")
    found = json.loads(said.out)
    assert {key: found[key] for key in asked["verdict"]} == asked["verdict"]
    assert found["look"] == asked["look"] < 5
    assert "next" not in found
    line = titrant("judge", study / "scores.csv", "--staged", study / "protocol.json").out
    assert line.startswith("mix: Mix 96 generalist rows")
    assert f"Look {asked['look']} of 5" in line


def test_a_failed_run_is_said_by_name(titrant: Titrant, study: Path) -> None:
    found = ask(titrant, study, "--failed", "d96=1")
    assert {"arm": "d96", "seed": 1} not in found["next"]
    assert found["spent"] == {"runs": 1, "cost": 1.5}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--failed", "d96"), "--failed: not a run (got 'd96'; expected ARM=SEED"),
        (("--failed", "d96=99"), "--failed: seed '99' is not in the protocol"),
        (("--shards", "0"), "--shards: not a number of workers (got 0"),
    ],
)
def test_options_that_make_no_sense_are_named(
    titrant: Titrant, study: Path, arguments: tuple[str, ...], message: str
) -> None:
    said = titrant("next", "--protocol", study / "protocol.json", "--scores", study / "scores.csv", *arguments)
    assert (said.code, said.out) == (2, "")
    assert message in said.err


@pytest.mark.parametrize(
    "options",
    [("--baseline", "plain"), ("--matched", "m"), ("--smallest-effect", "0.1"), ("--level", "0.9"), ("--by-item",)],
)
def test_judge_takes_from_the_protocol_what_the_protocol_says(
    titrant: Titrant, study: Path, options: tuple[str, ...]
) -> None:
    said = titrant("judge", study / "scores.csv", "--staged", study / "protocol.json", *options)
    assert said.code == 2
    assert f"{options[0]} and --staged do not go together" in said.err


def test_failed_runs_belong_to_a_protocol(titrant: Titrant, study: Path) -> None:
    said = titrant("judge", study / "scores.csv", "--failed", "d96=1")
    assert said.code == 2
    assert "add --staged protocol.json" in said.err


def test_a_faulty_protocol_and_faulty_scores_are_named_with_their_place(titrant: Titrant, study: Path) -> None:
    train(study, [{"arm": "d48", "seed": 0}])
    said = titrant("next", "--protocol", study / "protocol.json", "--scores", study / "scores.csv")
    assert said.code == 2
    assert f"{study / 'scores.csv'}: arm 'd48' is not in the protocol" in said.err
    (study / "protocol.json").write_text(json.dumps({**PROTOCOL, "most": 1}))
    said = titrant("next", "--protocol", study / "protocol.json", "--scores", study / "scores.csv")
    assert said.code == 2
    assert f"{study / 'protocol.json'}: most: " in said.err
