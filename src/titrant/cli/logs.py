"""`judge --from`: logs that other evaluators wrote."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from titrant.cli.output import print_json
from titrant.core.errors import ScoresError, SpecError
from titrant.core.redaction import sayable


class LogOptions(NamedTuple):
    """What is typed about logs, as it was typed."""

    arm: Sequence[str]
    task: Sequence[str]
    retention: Sequence[str]
    metric: Sequence[str]
    filter: Sequence[str]
    group: str | None

    def files_instead(self, scores: Sequence[Path] | None) -> Sequence[Path]:
        """The files of scores, without `--from`: then these options mean nothing, and a file is needed."""
        for name, given in self._asdict().items():
            if given:
                fix = "add --from lm-eval (or inspect)"
                raise SpecError(f"--{name} is about logs of an evaluator", where=f"--{name}", fix=fix)
        if not scores:
            expected = "a CSV file, or --from lm-eval with --arm ARM:SEED=PATH"
            raise SpecError("no scores", where="scores", expected=expected)
        return scores


def show_judged_logs(
    evaluator: str,
    said: LogOptions,
    *,
    baseline: str | None,
    matched: str | None,
    smallest_effect: float | None,
    level: float | None,
    drop_incomplete: bool,
    by_item: bool,
    beside: Mapping[str, bool],
    as_json: bool,
) -> None:
    """Read the logs, hold them against each other, judge them: one line."""
    from titrant.decision.judge import judge
    from titrant.logs.evaluators import read_logs
    from titrant.logs.samples import baseline_of, logged_run

    for name, given in beside.items():
        if given:
            raise SpecError(f"{name} and --from do not go together", where=name, fix="the logs hold the scores")
    runs = [logged_run(text) for text in said.arm]
    names = [run.name for run in runs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ScoresError("two logs of one run", where="--arm", got=", ".join(twice), expected="one log for each run")
    alone = baseline or baseline_of(runs, matched)
    if runs and alone is None:
        raise ScoresError(
            "no baseline",
            got=", ".join(dict.fromkeys(run.arm for run in runs)),
            expected="the arm without a dose",
            fix="name it with --baseline ARM, or write each dose behind an @ (mix@96), and only the baseline without",
        )
    table = read_logs(
        {(run.arm, run.seed): run.path for run in runs},
        evaluator=evaluator,
        tasks=said.task,
        retention=said.retention,
        metric=_by_task("--metric", said.metric),
        filter=_by_task("--filter", said.filter),
        group=said.group,
        drop_incomplete=drop_incomplete,
    )
    remarks: list[str] = json.loads(table.schema.metadata[b"remarks"])
    found = judge(
        table.to_pydict(),
        baseline=alone,
        matched=matched,
        smallest_effect=0.01 if smallest_effect is None else smallest_effect,
        level=0.95 if level is None else level,
        drop_incomplete=drop_incomplete,
        task_weights="by_item" if by_item else "macro",
    )
    if as_json:
        print_json(found | {"read_as": remarks})
        return
    for remark in remarks:
        print(sayable(f"titrant: {remark}"), file=sys.stderr)
    provisional = " (provisional)" if found["provisional"] else ""
    print(sayable(f"{found['verdict'].replace('_', ' ')}{provisional}: {found['sentence']}"))


def _by_task(option: str, texts: Sequence[str]) -> str | Mapping[str, str] | None:
    """NAME, or TASK=NAME for each task that has its own."""
    if not texts:
        return None
    if len(texts) == 1 and "=" not in texts[0]:
        return texts[0]
    found = {}
    for text in texts:
        task, equals, name = text.partition("=")
        if not (task and equals and name):
            raise SpecError("not a task and its name", where=option, got=text, expected="NAME alone, or TASK=NAME each")
        found[task] = name
    return found
