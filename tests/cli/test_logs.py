"""`titrant judge --from`: what is typed and what is printed."""

import json
from pathlib import Path

import pytest

REAL = Path(__file__).parents[1] / "logs" / "data" / "lm-eval"
ARMS = [f"--arm={arm}:{seed}={REAL}/{arm.partition('@')[0]}-{seed}" for arm in ("alone", "mix@12") for seed in (0, 1)]


def test_two_folders_and_a_metric_are_a_verdict_in_one_command(titrant) -> None:
    said = titrant(
        "judge", "--from", "lm-eval", *ARMS, "--task", "triage", "--metric", "graded", "--smallest-effect", 0.05
    )
    assert said.code == 0
    assert said.out.startswith("no difference (provisional): ")
    assert "triage: judged by graded" in said.err
    found = json.loads(
        titrant("judge", "--from", "lm-eval", *ARMS, "--metric", "triage=acc", "--filter", "spoken=word", "--json").out
    )
    assert found["baseline"] == "alone"
    assert found["read_as"] == ["spoken: judged by exact_match, filter word", "triage: judged by acc"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--from", "helm", *ARMS], "no such evaluator (got 'helm'; expected lm-eval or inspect)"),
        (["--from", "lm-eval"], "no logs"),
        (["--from", "lm-eval", "--arm", "alone=x"], "not a run and its log (got 'alone=x'; expected ARM:SEED=PATH"),
        (["--from", "lm-eval", ARMS[0], ARMS[0]], "two logs of one run (got 'alone:0'"),
        (["--from", "lm-eval", ARMS[0], ARMS[0].replace("alone:", "mix:")], "no baseline (got 'alone, mix'"),
        (["--from", "lm-eval", *ARMS, "scores.csv"], "scores and --from do not go together"),
        (
            ["--from", "lm-eval", *ARMS, "--metric", "acc", "--metric", "spoken=word"],
            "not a task and its name (got 'acc'",
        ),
        (["scores.csv", "--task", "triage"], "--task is about logs of an evaluator"),
        ([], "no scores"),
    ],
)
def test_what_is_typed_wrong_is_named_in_one_line(titrant, typed: list[str], said: str) -> None:
    found = titrant("judge", *typed)
    assert found.code == 2
    assert found.out == ""
    assert said in found.err
    assert found.err.count("\n") == 1
