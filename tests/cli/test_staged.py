"""`titrant next` and `judge --staged` as a shell loop types them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Titrant
from fake_study import fake_prepare, page_as_text
from staged_study import teaching_backend, write_staged

from titrant.core.identity import rng_for
from titrant.engines import LocalEngine, local

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


# ------------------------------------------------------------------------------------------------- a study in the shell

ONE_DOSE = {"target_rows": [6], "doses": {"general": [4, 8]}, "generalist_alone": False}


@pytest.fixture
def taught(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Studies run in this process, on a model that 8 generalist rows teach exactly the smallest effect."""
    backend = teaching_backend(gains={"4": -0.1, "8": 0.05})
    execute = local.execute

    def here(*arguments: Any, **options: Any) -> None:
        execute(*arguments, **{**options, "processes": 0})

    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    monkeypatch.setattr("titrant.report.page.render", page_as_text)
    monkeypatch.setattr("titrant.experiment.runner.DEFAULT_BACKEND", backend)
    monkeypatch.setattr("titrant.engines.local.execute", here)
    monkeypatch.setattr(LocalEngine, "execute_asking", in_batches)
    monkeypatch.setenv("TITRANT_CACHE", str(tmp_path / "cache"))


def in_batches(engine: LocalEngine, more: Any, **options: Any) -> None:
    """What an engine that asks comes to with one worker, in this process."""
    while jobs := more():
        local.execute(jobs, weights_only=False, **options)


def silent(folder: Path, seeds: int = 5) -> Path:
    """A study that says nothing of `until`."""
    return write_staged(folder, until=None, arms={**ONE_DOSE, "seeds": seeds})


def test_what_was_begun_with_until_firm_goes_on_so_without_it(titrant: Titrant, taught: None, tmp_path: Path) -> None:
    study, out = silent(tmp_path / "study"), tmp_path / "out"
    begun = titrant("run", study, "--out", out, "--until", "firm", "--budget", "13runs")
    assert begun.code == 0, begun.err
    assert "The budget ended it at 3 seeds" in begun.out
    reported = titrant("report", study, "--out", out)
    assert reported.out == begun.out
    assert f"until: firm, as {out} was begun; --until grid" in reported.err
    assert "until firm at 6 target rows" in titrant("plan", study, "--out", out, "--no-measure").out
    exported = titrant("export", study, "--out", out, "--arm", "6", "--to", tmp_path / "model")
    assert (exported.code, "until: firm" in exported.err) == (0, True)
    gone_on = titrant("run", study, "--out", out, "--json")
    assert json.loads(gone_on.out)["staged"]["looks"][1]["seeds"] == 4
    assert not json.loads(gone_on.out)["provisional"]


def test_until_grid_is_taken_at_its_word(titrant: Titrant, taught: None, tmp_path: Path) -> None:
    study, out = silent(tmp_path / "study"), tmp_path / "out"
    titrant("run", study, "--out", out, "--until", "firm", "--budget", "13runs")
    said = titrant("run", study, "--out", out, "--until", "grid")
    assert "its level no longer holds: judged at 3 seeds before, and now at 5" in said.out
    assert "until: firm" not in titrant("report", study, "--out", out).err


def test_a_grid_stays_a_grid(titrant: Titrant, taught: None, tmp_path: Path) -> None:
    study, out = silent(tmp_path / "study", seeds=3), tmp_path / "out"
    titrant("run", study, "--out", out)
    said = titrant("report", study, "--out", out)
    assert "until: firm" not in said.err
    assert "Look" not in said.out


def test_a_budget_in_minutes_goes_by_the_minutes_that_its_runs_took(
    titrant: Titrant, taught: None, tmp_path: Path
) -> None:
    study, out = write_staged(tmp_path / "study", arms={**ONE_DOSE, "seeds": {"most": 5}}, curves="never"), tmp_path
    enough = titrant("run", study, "--out", out / "enough", "--budget", "5h", "--json")
    assert json.loads(enough.out)["staged"]["ended"] in ("firm", "given_up", "last_look")
    said = titrant("run", study, "--out", out / "little", "--budget", "0.000001m")
    assert said.code == 2
    assert "--budget: the budget ends before the first look (got '0.000001m'; expected about " in said.err
    assert "minutes)" in said.err


def test_no_run_changes_its_name_by_how_a_study_ends(titrant: Titrant, taught: None, tmp_path: Path) -> None:
    out = tmp_path / "out"
    titrant("run", silent(tmp_path / "study"), "--out", out)
    done = sorted(path.name for path in (out / "runs").iterdir())
    for said in (
        {"until": "firm", "curves": "never"},
        {"until": "firm", "curves": "with"},
        {"until": "firm", "arms": {**ONE_DOSE, "seeds": {"most": 4}}},
        {"until": "firm", "arms": {**ONE_DOSE, "seeds": [0, 1, 2]}},
    ):
        study = write_staged(tmp_path / "study", **{"until": None, "arms": {**ONE_DOSE, "seeds": 5}, **said})
        assert titrant("run", study, "--out", out).code == 0
        assert sorted(path.name for path in (out / "runs").iterdir()) == done


def test_next_of_a_study_names_the_runs_that_its_own_run_would_do(
    titrant: Titrant, taught: None, tmp_path: Path
) -> None:
    study = write_staged(tmp_path / "study", arms={**ONE_DOSE, "seeds": {"most": 5}}, curves="never")
    scores = tmp_path / "scores.csv"
    scores.write_text("arm,seed,item,score\n")
    rounds = 0
    while True:
        said = titrant("next", "--study", study, "--scores", scores, "--json")
        assert said.code == 0, said.err
        if (found := json.loads(said.out))["stop"]:
            break
        rounds += 1
        with scores.open("a") as file:
            for run in found["next"]:
                level = 0.7 if run["arm"] == "6+general:8" else 0.4
                file.writelines(
                    f"{run['arm']},{run['seed']},item {k},{level + 0.01 * ((7 * k + int(run['seed'])) % 10)}\n"
                    for k in range(110)
                )
    assert (rounds, found["verdict"]["verdict"], found["verdict"]["arm"]) == (2, "mix", "6+general:8")
    assert found["spent"]["runs"] == 12 - len(found["waiting"])
    words = titrant("next", "--study", study, "--scores", scores)
    assert words.out.endswith("stop: nothing is left to run\n")


@pytest.mark.parametrize(("curves", "runs"), [("never", 19), ("after", 31), ("with", 43)])
def test_plan_counts_no_run_that_the_study_would_never_ask_for(
    titrant: Titrant, taught: None, tmp_path: Path, curves: str, runs: int
) -> None:
    arms = {"target_rows": [4, 6], "doses": {"general": [4, 8]}, "seeds": {"most": 6}, "matched": False}
    study = write_staged(tmp_path / "study", arms=arms, curves=curves)
    said = titrant("plan", study, "--out", tmp_path / "out", "--no-measure")
    assert f"to do: at most {runs} runs, " in said.out, said.out
