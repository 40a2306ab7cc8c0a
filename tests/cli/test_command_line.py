"""The verbs as a user types them: what goes to stdout, what to stderr, exit codes, and errors with their places."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import hub_mirror
import pytest
from command_line import Titrant
from fake_study import fake_prepare, page_as_text, trial_backend, write_rows, write_study

from titrant.storage.json_files import read_json
from titrant.storage.store import Store

VERBS = (
    "init",
    "plan",
    "mix",
    "run",
    "report",
    "export",
    "check",
    "advise",
    "score",
    "judge",
    "next",
    "doctor",
    "sources",
    "breadth",
)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Studies run on the toy model with a backend that answers from hashes, in this process."""
    import titrant.engines.local

    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    monkeypatch.setattr("titrant.report.page.render", page_as_text)
    monkeypatch.setattr("titrant.experiment.runner.DEFAULT_BACKEND", trial_backend())
    execute = titrant.engines.local.execute

    def here(*arguments: Any, **options: Any) -> None:
        execute(*arguments, **{**options, "processes": 0})

    monkeypatch.setattr("titrant.engines.local.execute", here)
    monkeypatch.setattr("titrant.experiment.speed.execute", here)
    monkeypatch.setenv("TITRANT_CACHE", str(tmp_path / "cache"))


# ----------------------------------------------------------------------------------------------------------------- help


def test_help_takes_little_and_loads_none_of_the_heavy_packages() -> None:
    script = (
        "import sys; sys.argv = ['titrant', '--help']\n"
        "from titrant.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'transformers', 'pyarrow', 'altair', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert all(verb in done.stdout for verb in VERBS)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_has_an_example(titrant: Titrant, verb: str) -> None:
    said = titrant(verb, "--help")
    assert said.code == 0
    assert f"Example: titrant {verb}" in said.out


def test_the_version_is_printed_and_an_unknown_verb_is_the_users_error(titrant: Titrant) -> None:
    from titrant import __version__

    assert titrant("--version").out.strip() == f"titrant {__version__}"
    said = titrant("tirtate")
    assert (said.code, said.out) == (2, "")
    assert "tirtate" in said.err


# -------------------------------------------------------------------------------------------------------------- studies


def test_run_report_and_doctor_print_results_on_stdout_and_progress_on_stderr(
    titrant: Titrant, fakes: None, tmp_path: Path
) -> None:
    study, out = write_study(tmp_path / "study"), tmp_path / "out"
    said = titrant("run", study, "--out", out)
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[0].startswith("verdict: ")
    assert f"report: {out / 'report.html'}" in lines
    assert f"model:  {out / 'model'}" in lines
    assert "9 of 9 runs to do" in said.err
    assert "untuned: done" in said.err
    assert "[9/9]" in said.err
    assert "runs" not in said.out

    as_json = titrant("run", study, "--out", out, "--json")
    assert as_json.out.count("\n") == 1
    verdict = json.loads(as_json.out)
    assert verdict == read_json(out / "verdict.json")
    assert "all 9 runs are done" in as_json.err

    reported = titrant("report", study, "--out", out)
    assert (reported.code, reported.out) == (0, said.out)
    healthy = titrant("doctor", "--store", out)
    assert (healthy.code, healthy.out) == (0, f"{out}: every file matches its checksum\n")

    answers = next((out / "runs").glob("*/answers.parquet"))
    answers.write_bytes(answers.read_bytes()[:-1])
    damaged = titrant("doctor", "--store", out)
    assert damaged.code == 1
    assert f"damaged: {answers}: " in damaged.out
    assert "trained anew" in damaged.out
    again = titrant("report", study, "--out", out)
    assert (again.code, again.out) == (1, "")
    assert f"titrant: {answers}: " in again.err
    assert "Fix: delete" in again.err


def test_a_failed_run_makes_exit_code_1_beside_the_verdict(
    titrant: Titrant, fakes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = trial_backend(fails={"kind": "non_finite", "seed": 1})
    monkeypatch.setattr("titrant.experiment.runner.DEFAULT_BACKEND", fails)
    study = write_study(tmp_path / "study", arms={"target_rows": [6], "doses": {"general": [4]}, "seeds": 3})
    said = titrant("run", study, "--out", tmp_path / "out")
    assert said.code == 1
    assert "verdict: " in said.out
    assert "failed: 3 runs have no scores" in said.out
    assert "FAILED (non_finite at step 2: as the test asked)" in said.err


def test_results_go_to_titrations_and_the_studys_name_where_nothing_is_said(
    titrant: Titrant, fakes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_study(tmp_path / "study", keep_weights="none")
    monkeypatch.chdir(tmp_path)
    said = titrant("run", study)
    assert said.code == 0
    assert (tmp_path / "titrations" / "toy" / "verdict.json").is_file()
    assert "model:" not in said.out


def test_plan_counts_and_prices_without_leaving_anything(titrant: Titrant, fakes: None, tmp_path: Path) -> None:
    study, out = write_study(tmp_path / "study"), tmp_path / "out"
    said = titrant("plan", study, "--out", out)
    assert said.code == 0, said.err
    assert "5 arms, 2 seeds, 9 runs" in said.out
    assert "to do: 9 runs" in said.out
    assert "warning: the smallest arm of the target takes 3 optimiser steps" in said.out
    assert "power at 6 target rows" in said.out
    assert not out.exists()
    plan = json.loads(titrant("plan", study, "--out", out, "--json", "--no-measure").out)
    matched = next(arm for arm in plan["arms"] if arm["kind"] == "matched")
    dosed = next(arm for arm in plan["arms"] if arm["kind"] == "dosed")
    assert (matched["steps"], matched["target_visits"]) == (dosed["steps"], 16)
    assert (dosed["target_visits"], dosed["generalist_visits"]) == (12, 4)
    assert plan["cost"]["minutes"] is None
    assert plan["cost"]["runs"] == 9


def test_plan_measures_a_speed_once_says_of_which_day_it_is_and_measures_anew_on_request(
    titrant: Titrant, fakes: None, tmp_path: Path
) -> None:
    study = write_study(tmp_path / "study")
    first, second, third = (titrant("plan", study, *more) for more in ((), (), ("--measure",)))
    measuring = "measuring a few steps of the longest run"
    assert [measuring in said.err for said in (first, second, third)] == [True, False, True]
    assert "(measured now" in first.out
    assert f"(measured on {date.today().isoformat()}" in second.out
    assert "--measure does it anew" in second.out
    assert "(measured now" in third.out
    assert json.loads(titrant("plan", study, "--json").out)["cost"]["speed"]["kept"] is True


def test_plan_measures_nothing_where_nothing_is_left_to_do(titrant: Titrant, fakes: None, tmp_path: Path) -> None:
    study, out = write_study(tmp_path / "study"), tmp_path / "out"
    titrant("run", study, "--out", out)
    said = titrant("plan", study, "--out", out)
    assert "everything is done: nothing to train" in said.out
    assert "measuring" not in said.err
    assert not (tmp_path / "cache" / "speeds").exists()


def test_export_copies_the_model_into_a_new_folder_only(titrant: Titrant, fakes: None, tmp_path: Path) -> None:
    study, out = write_study(tmp_path / "study"), tmp_path / "out"
    early = titrant("export", study, "--out", out, "--to", tmp_path / "mine")
    assert early.code == 2
    assert "there are no results here" in early.err
    titrant("run", study, "--out", out)
    said = titrant("export", study, "--out", out, "--to", tmp_path / "mine")
    assert said.code == 0, said.err
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {path.name for path in (out / "model").iterdir()}
    again = titrant("export", study, "--out", out, "--to", tmp_path / "mine")
    assert again.code == 2
    assert "the folder is not empty" in again.err
    other = titrant("export", study, "--out", out, "--to", tmp_path / "other", "--arm", "6+general:4", "--seed", 1)
    assert other.code == 0, other.err
    assert read_json(tmp_path / "other" / "titrant.json")["arm"] == "6+general:4"


# ------------------------------------------------------------------------------------------------------------------ mix

LARGE = {"arms": {"target_rows": [48], "doses": {"general": [96, 352]}, "seeds": 2}, "train": 60, "pool": 400}


def mixed(titrant: Titrant, study: Path, out: Path, *more: object) -> list[dict[str, Any]]:
    said = titrant("mix", study, "--target-rows", 48, "--seed", 1, "--out", out, *more)
    assert said.code == 0, said.err
    assert said.out.startswith(f"{out}: ")
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_mix_writes_exactly_the_rows_of_an_arm_in_three_formats(titrant: Titrant, fakes: None, tmp_path: Path) -> None:
    study, out = write_study(tmp_path / "study", **LARGE), tmp_path / "arm.jsonl"
    rows = mixed(titrant, study, out, "--dose", "general=96")
    assert [sum(row["source"] == name for row in rows) for name in ("toy", "general")] == [48, 96]
    assert len({(row["source"], row["id"]) for row in rows}) == 144
    pool = {row["id"]: row for row in map(json.loads, (tmp_path / "study" / "general.jsonl").read_text().splitlines())}
    train = (tmp_path / "study" / "train.jsonl").read_text().splitlines()
    for row in rows:
        user, assistant = row["messages"]
        assert (user["role"], assistant["role"]) == ("user", "assistant")
        if row["source"] == "general":
            assert (user["content"], assistant["content"]) == (pool[row["id"]]["prompt"], pool[row["id"]]["response"])
        else:
            original = json.loads(train[int(row["id"]) - 1])
            assert original["text"] in user["content"]
            assert "Name the kind." in user["content"]
            assert assistant["content"] == original["label"]

    facts = read_json(tmp_path / "arm.jsonl.mix.json")
    assert {draw["source"]: (draw["asked"], draw["got"]) for draw in facts["sources"]} == {
        "toy": (48, 48),
        "general": (96, 96),
    }
    assert facts["rows"] == 144
    assert facts["arm"] == "48+general:96"
    assert facts["seed"] == 1

    for form, keys in (("alpaca", ("instruction", "output")), ("prompt-completion", ("prompt", "completion"))):
        other = mixed(titrant, study, tmp_path / form, "--dose", "general=96", "--format", form)
        assert [(row[keys[0]], row[keys[1]]) for row in other] == [
            (row["messages"][0]["content"], row["messages"][1]["content"]) for row in rows
        ]
        assert [(row["source"], row["id"]) for row in other] == [(row["source"], row["id"]) for row in rows]
        assert read_json(tmp_path / f"{form}.mix.json")["fingerprint"] == facts["fingerprint"]


def test_doses_are_nested_and_target_rows_do_not_move_with_the_dose(
    titrant: Titrant, fakes: None, tmp_path: Path
) -> None:
    study = write_study(tmp_path / "study", **LARGE)
    small, large, none = (
        mixed(titrant, study, tmp_path / f"{dose}.jsonl", *(("--dose", f"general={dose}") if dose else ()))
        for dose in (96, 352, 0)
    )

    def ids(rows: list[dict[str, Any]], source: str) -> set[str]:
        return {row["id"] for row in rows if row["source"] == source}

    assert ids(small, "general") < ids(large, "general")
    assert (len(ids(small, "general")), len(ids(large, "general")), len(ids(none, "general"))) == (96, 352, 0)
    assert ids(small, "toy") == ids(large, "toy") == ids(none, "toy")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--dose", "general=97"), "no such arm"),
        (("--dose", "general"), "not a dose"),
        (("--dose", "other=96"), "no such arm"),
        (("--seed", "7"), "not one of the study's seeds"),
        (("--format", "chatml"), "no such format"),
    ],
)
def test_a_mix_that_the_study_does_not_have_is_refused(
    titrant: Titrant, fakes: None, tmp_path: Path, arguments: tuple[str, ...], problem: str
) -> None:
    study, out = write_study(tmp_path / "study", **LARGE), tmp_path / "arm.jsonl"
    said = titrant("mix", study, "--target-rows", 48, "--out", out, *arguments)
    assert (said.code, said.out) == (2, "")
    assert problem in said.err
    assert "expected" in said.err
    assert not out.exists()


# ----------------------------------------------------------------------------------------------- doors without training


def write_scores(path: Path, *, gain: float) -> Path:
    lines = ["arm,seed,item,score"]
    for arm in ("alone", "dosed"):
        for seed in range(5):
            for item in range(200):
                right = (item * 7919 + seed * 104729) % 1000 < 500 + (1000 * gain if arm == "dosed" else 0)
                lines.append(f"{arm},{seed},i{item},{int(right)}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_judge_prints_a_line_a_file_or_one_object(titrant: Titrant, tmp_path: Path) -> None:
    better, worse = write_scores(tmp_path / "b.csv", gain=0.3), write_scores(tmp_path / "w.csv", gain=-0.3)
    said = titrant("judge", better, worse, "--baseline", "alone")
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [str(better), str(worse)]
    one = titrant("judge", better, "--baseline", "alone", "--json")
    found = json.loads(one.out)
    assert one.out.count("\n") == 1
    assert (found["arm"], found["contrasts"][0]["difference"] > 0.2) == ("dosed", True)
    missing = titrant("judge", tmp_path / "none.csv")
    assert (missing.code, missing.out) == (2, "")
    assert "none.csv" in missing.err


def test_a_name_in_a_file_never_reaches_the_terminal_as_a_command_to_it(titrant: Titrant, tmp_path: Path) -> None:
    scores = tmp_path / "scores.csv"
    baseline = "\x1b]0;owned\x07\x1b[2Ja"
    arms = {"b": 1, baseline: 0}
    rows = [
        f"{arm},{seed},{item},{value},{32 * value}" for arm, value in arms.items() for seed in (0, 1) for item in "xyz"
    ]
    scores.write_text("\n".join(["arm,seed,item,score,dose", *rows]))
    judged = titrant("judge", scores, "--baseline", baseline)
    assert judged.code == 0, judged.err
    scores.write_text("arm,seed,item,score,dose\n\x1b[2J,0,x,9,0\n\x1b[2J,0,x,0.5,\u202e\n")
    refused = titrant("judge", scores)
    assert refused.code == 2
    said = judged.out + judged.err + refused.out + refused.err
    assert not {"\x1b", "\x07", "\u202e"} & set(said)
    assert "\\x1b]0;owned\\x07\\x1b[2Ja" in judged.out


def test_score_prints_the_mean_and_can_write_every_item(titrant: Titrant, tmp_path: Path) -> None:
    rows = [
        {"id": "a", "prediction": "Paris", "references": ["paris"]},
        {"id": "b", "prediction": "Rome", "references": ["Oslo"]},
    ]
    write_rows(tmp_path / "p.jsonl", rows)
    said = titrant("score", tmp_path / "p.jsonl", "--metric", "exact_match", "--per-item", tmp_path / "items.jsonl")
    assert (said.code, said.out) == (0, "exact_match: 0.5000 over 2 items\n")
    items = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    assert [(item["id"], item["score"]) for item in items] == [("a", 1.0), ("b", 0.0)]
    as_json = titrant("score", tmp_path / "p.jsonl", "--metric", "exact_match", "--json")
    assert json.loads(as_json.out) == {"metric": "exact_match", "score": 0.5, "n": 2}
    write_rows(tmp_path / "q.jsonl", [rows[0], {"id": "b", "prediction": "Рим", "references": ["Рим"]}])
    said = titrant("score", tmp_path / "q.jsonl", "--metric", "rouge_l")
    assert "rouge_l: 1.0000 over 1 items\nnot scored: 1 items (" in said.out
    assert "references that rouge_l cannot read: 1" in said.out
    counted = json.loads(titrant("score", tmp_path / "q.jsonl", "--metric", "rouge_l", "--json").out)
    assert (counted["n"], counted["unread_references"], list(counted["unscored"].values())) == (1, 1, [1])
    unknown = titrant("score", tmp_path / "p.jsonl", "--metric", "bleu")
    assert (unknown.code, unknown.out) == (2, "")
    assert "bleu" in unknown.err


def test_check_and_advise_need_no_model(titrant: Titrant, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    checked = titrant("check", study)
    assert checked.code == 0, checked.err
    assert checked.out
    found = json.loads(titrant("check", study, "--json").out)
    assert (found["target"], found["read"]["general"]["rows"]) == ("toy", 12)
    assert "general: licence not known" in checked.out
    advice = titrant("advise", study, "--breadth", "narrow", "--skill", "facts")
    assert advice.code == 0, advice.err
    assert advice.out.count("\n") >= 3
    assert json.loads(titrant("advise", study, "--json").out)["target"] == "toy"
    wrong = titrant("advise", study, "--breadth", "wide")
    assert wrong.code == 2
    assert "--breadth: no such breadth (got 'wide'; expected narrow or broad)" in wrong.err


def test_sources_lists_shows_and_pins_public_pools(
    titrant: Titrant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = titrant("sources")
    assert listed.code == 0, listed.err
    assert [line.split()[0] for line in listed.out.splitlines()[1:3]] == ["alpaca", "alpaca_gpt4"]
    assert "not for commercial use, in whole or in part: alpaca, alpaca_gpt4, lima" in listed.out
    assert len(json.loads(titrant("sources", "--json").out)) == 11
    shown = titrant("sources", "show", "dolly", "--lock", tmp_path / "lock.json")
    assert "hub: databricks/databricks-dolly-15k" in shown.out
    assert "  verified: false" in shown.out
    unknown = titrant("sources", "show", "doly")
    assert (unknown.code, unknown.out) == (2, "")
    assert "did you mean dolly?" in unknown.err

    files = {"README.md": b"---\nlicense: mit\n---\n", "rows.jsonl": b'{"prompt": "p", "completion": "c"}\n'}
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with hub_mirror.running({"databricks/databricks-dolly-15k": files}) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        pinned = titrant("sources", "pin", "dolly", "--lock", tmp_path / "lock.json")
    assert pinned.code == 0, pinned.err
    assert f"dolly: hub:databricks/databricks-dolly-15k@{hub_mirror.COMMIT}:train, licence mit" in pinned.out
    assert "the card says CC-BY-SA-3.0, the hub mit" in pinned.out
    shown = titrant("sources", "show", "dolly", "--lock", tmp_path / "lock.json")
    assert f"is pinned: hub:databricks/databricks-dolly-15k@{hub_mirror.COMMIT}" in shown.out


def test_breadth_prints_text_or_json_and_advice_takes_it(titrant: Titrant, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    said = titrant("breadth", tmp_path / "study" / "train.jsonl", "--words")
    assert said.code == 0, said.err
    assert "on the ladder   one dataset" in said.out
    found = json.loads(titrant("breadth", tmp_path / "study" / "train.jsonl", "--words", "--json").out)
    assert (found["rung"], found["rows"], found["features"]) == ("one_dataset", 12, "words")
    advice = titrant("advise", study)
    assert advice.out.startswith("breadth: narrow, measured (one dataset")
    assert json.loads(titrant("advise", study, "--json").out)["breadth_measured"]["rung"] == "one_dataset"
    wrong = titrant("breadth", tmp_path / "study" / "train.jsonl", "--column", "text")
    assert (wrong.code, wrong.out) == (2, "")
    assert "--column: not a column" in wrong.err


def test_doctor_prints_the_schema_and_what_this_machine_computes_with(titrant: Titrant, tmp_path: Path) -> None:
    schema = json.loads(titrant("doctor", "--schema").out)
    assert schema["title"] == "Titrant study"
    assert {"model", "target", "arms", "training"} <= set(schema["properties"])
    said = titrant("doctor")
    assert said.code == 0
    assert "torch " in said.out
    nowhere = titrant("doctor", "--store", tmp_path)
    assert nowhere.code == 2
    assert "not a folder of results" in nowhere.err


def test_doctor_says_of_a_store_of_another_format_what_it_is(titrant: Titrant, tmp_path: Path) -> None:
    Store.open(tmp_path)
    (tmp_path / "store.json").write_text('{"format": 99}')
    said = titrant("doctor", "--store", tmp_path)
    assert said.code != 0
    assert "format 99" in said.out + said.err


# ------------------------------------------------------------------------------------------------------------ bad input


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def missing_file(folder: Path) -> str:
    (folder / "train.jsonl").unlink()
    return r"study\.yaml:\d+:\d+: target\.train: .*train\.jsonl"


def empty_file(folder: Path) -> str:
    (folder / "train.jsonl").write_text("")
    return r"train\.jsonl:1: the file is empty"


def no_json(folder: Path) -> str:
    append(folder / "train.jsonl", "thing, bird\n")
    return r"train\.jsonl:13: .*JSON"


def no_answer(folder: Path) -> str:
    append(folder / "general.jsonl", '{"prompt": "Say the last word.", "id": "p99"}\n')
    return r"general\.jsonl:13: .*(response|answer)"


def item_among_training_rows(folder: Path) -> str:
    first = (folder / "train.jsonl").read_text().splitlines()[3]
    append(folder / "test.jsonl", first + "\n")
    return r"test\.jsonl:21.*train\.jsonl:4|train\.jsonl:4.*test\.jsonl:21"


def unseen_label(folder: Path) -> str:
    append(folder / "test.jsonl", '{"text": "a thing never met", "label": "rock"}\n')
    return r"test\.jsonl:21: .*'rock'"


def too_large_a_dose(folder: Path) -> str:
    write_study(folder, rows=False, arms={"target_rows": [6], "doses": {"general": [4, 13]}, "seeds": 2})
    return r"arms\.doses\.general: .*13 rows .*12 of 12 rows"


def too_large_a_target(folder: Path) -> str:
    write_study(folder, rows=False, arms={"target_rows": [6, 13], "doses": {"general": [4]}, "seeds": 2})
    return r"arms\.target_rows: .*13.*12"


def unreadable_model(folder: Path) -> str:
    (folder / "toy-model" / "config.json").write_text("{}")
    return r"toy-model"


def no_model(folder: Path) -> str:
    (folder / "toy-model").rmdir()
    return r"model"


def typo(folder: Path) -> str:
    said = json.loads((folder / "study.yaml").read_text())
    write_study(folder, rows=False, trainin=said["training"], training=None)
    return r"study\.yaml:\d+:\d+: trainin: unknown key .*did you mean training\?"


BAD = (missing_file, empty_file, no_json, no_answer, item_among_training_rows, unseen_label, too_large_a_dose,
       too_large_a_target, unreadable_model, no_model, typo)  # fmt: skip


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_bad_input_is_named_with_its_place_before_anything_is_written(
    titrant: Titrant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], str]
) -> None:
    if "model" not in spoil.__name__:
        monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    monkeypatch.setenv("TITRANT_CACHE", str(tmp_path / "cache"))
    study, out = write_study(tmp_path / "study"), tmp_path / "out"
    expected = spoil(tmp_path / "study")
    for verb in (("run",), ("plan", "--no-measure")):
        said = titrant(verb[0], study, *verb[1:], "--out", out)
        assert (said.code, said.out) == (2, ""), said
        (message,) = [line for line in said.err.splitlines() if "preparing" not in line]
        assert re.search(expected, message), message
        assert not out.exists()
    assert not list((tmp_path / "cache").glob("models/[!.]*/config.json"))


def test_a_test_item_in_a_pool_is_removed_and_counted(titrant: Titrant, fakes: None, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    item = json.loads((tmp_path / "study" / "test.jsonl").read_text().splitlines()[0])
    leaked = {"prompt": f"Name the kind.\n\n{item['text']}", "response": item["label"], "id": "leak"}
    append(tmp_path / "study" / "general.jsonl", json.dumps(leaked) + "\n")
    said = titrant("plan", study, "--no-measure", "--out", tmp_path / "out")
    assert said.code == 0, said.err
    assert "removed before the draw: 1 rows of general (holds a test item)" in said.out


def test_a_wrong_number_of_jobs_is_the_users_error(titrant: Titrant, fakes: None, tmp_path: Path) -> None:
    for jobs in ("0", "-1", "two"):
        said = titrant("run", write_study(tmp_path / "study"), "--out", tmp_path / "out", f"--jobs={jobs}")
        assert (said.code, said.out) == (2, "")
        assert "--jobs: not a number of jobs" in said.err
    assert not (tmp_path / "out").exists()


def test_plan_check_and_mix_say_what_was_not_read_in_one_line_a_file(
    titrant: Titrant, fakes: None, tmp_path: Path
) -> None:
    study = write_study(tmp_path / "study")
    pool = tmp_path / "study" / "general.jsonl"
    rows = [json.loads(line) for line in pool.read_text().splitlines()]
    rows = [{**row, "topic": "x", "url": "u" if n else None} for n, row in enumerate(rows)]
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = "general.jsonl: not read: topic, url (11 of 12 rows)"
    out = tmp_path / "out"
    assert titrant("plan", study, "--out", out, "--no-measure").out.splitlines().count(line) == 1
    assert titrant("check", study).out.splitlines().count(line) == 1
    notes = json.loads(titrant("check", study, "--json").out)["not_read"]
    assert {note["place"]: note["not_read"] for note in notes}["general.jsonl"] == {"topic": 12, "url": 11}
    assert json.loads(titrant("plan", study, "--out", out, "--no-measure", "--json").out)["not_read"] == notes
    mixed = titrant("mix", study, "--target-rows", 6, "--dose", "general=4", "--out", tmp_path / "arm.jsonl")
    assert f"titrant: {line}" in mixed.err
    assert json.loads((tmp_path / "arm.jsonl.mix.json").read_text())["not_read"] == notes


def test_judge_and_score_say_on_stderr_how_a_table_was_read(titrant: Titrant, tmp_path: Path) -> None:
    cells = [(arm, seed, item) for arm in ("alone", "mixed") for seed in range(3) for item in range(20)]
    lines = [f"{arm};{seed};{item};{'1,0' if (item + seed) % 3 else '0,0'}" for arm, seed, item in cells]
    (tmp_path / "scores.csv").write_text("Arm;Seed;Item;Score\n" + "\n".join(lines) + "\n")
    said = titrant("judge", tmp_path / "scores.csv", "--baseline", "alone", "--json")
    remarks = ["columns are separated by semicolons", "the comma in a score is a decimal comma"]
    assert json.loads(said.out)["read_as"] == remarks
    said = titrant("judge", tmp_path / "scores.csv", "--baseline", "alone")
    assert [line.rpartition(": ")[2] for line in said.err.splitlines()] == remarks
    (tmp_path / "predictions.csv").write_text("id;Prediction;References\n1;Paris;paris\n2;x;y\n")
    said = titrant("score", tmp_path / "predictions.csv", "--metric", "exact_match")
    assert said.out == "exact_match: 0.5000 over 2 items\n"
    assert "columns are separated by ';'" in said.err
    said = titrant("score", "no-such.csv", "--metric", "exact_match")
    assert said.code == 2
    assert "a relative path starts at the working folder" in said.err
