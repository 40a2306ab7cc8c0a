"""`next` and `judge --staged`: the commands of a staged study, for any trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from titrant.cli.output import print_json
from titrant.core.errors import SpecError
from titrant.core.redaction import sayable
from titrant.decision.judge import verdict_json
from titrant.decision.protocol import RunRequest, read_protocol
from titrant.decision.staged import NextRuns, judge_staged, next_runs, next_runs_json


def show_next(
    scores: Path,
    *,
    protocol: Path | None,
    study: Path | None,
    model: str | None,
    target: str | None,
    shards: int,
    failed: Sequence[str],
    as_json: bool,
) -> None:
    """The runs to do next, or stop with the verdict."""
    if (protocol is None) == (study is None):
        raise SpecError(
            "what is fixed before the first score is said once",
            where="titrant next",
            expected="--protocol protocol.json, or --study study.yaml",
        )
    fixed = read_protocol(protocol) if protocol is not None else None
    if fixed is None:
        from titrant.api import study_protocol

        assert study is not None
        fixed = study_protocol(study, model=model, target=target)
    found = next_runs(fixed, scores, failed=_failed(failed), shards=shards)
    if as_json:
        print_json(next_runs_json(found))
        return
    for line in _lines(found):
        print(sayable(line))


def show_staged_judgements(
    files: Sequence[Path],
    *,
    protocol: Path | None,
    failed: Sequence[str],
    others: Mapping[str, bool],
    as_json: bool,
) -> None:
    """Judge each finished table by the protocol; one line a file."""
    if protocol is None:
        raise SpecError("failed runs are known to a protocol only", where="--failed", fix="add --staged protocol.json")
    for name, given in others.items():
        if given:
            raise SpecError(
                f"{name} and --staged do not go together", where=name, fix="the protocol says it: leave the option out"
            )
    fixed = read_protocol(protocol)
    for path in files:
        found = judge_staged(fixed, path, failed=_failed(failed))
        assert found.verdict is not None
        if as_json:
            beside = {key: value for key, value in next_runs_json(found).items() if key not in ("verdict", "next")}
            print_json({**verdict_json(found.verdict), **beside})
            continue
        verdict = found.verdict
        provisional = " (provisional)" if verdict.provisional else ""
        name = f"{path}: " if len(files) > 1 else ""
        print(sayable(f"{name}{verdict.verdict.replace('_', ' ')}{provisional}: {verdict.sentence} {_spent(found)}"))


def _failed(texts: Sequence[str]) -> list[RunRequest]:
    """ARM=SEED pairs; an arm's name may hold an equals sign, a seed's may not."""
    found = []
    for text in texts:
        arm, equals, seed = text.rpartition("=")
        if not (arm and equals and seed):
            raise SpecError("not a run", where="--failed", got=text, expected="ARM=SEED, such as d96=3")
        found.append(RunRequest(arm=arm, seed=seed))
    return found


def _lines(found: NextRuns) -> list[str]:
    lines = [_spent(found)]
    if found.verdict is not None:
        provisional = " (provisional)" if found.verdict.provisional else ""
        lines.append(f"{found.verdict.verdict.replace('_', ' ')}{provisional}: {found.verdict.sentence}")
    for word, names in (("waiting", found.waiting), ("ruled out", found.ruled_out)):
        if names:
            lines.append(f"{word}: {', '.join(names)}")
    if found.stop:
        lines.append("stop: nothing is left to run")
    else:
        runs = ", ".join(f"{run.arm} at seed {run.seed}" for run in found.next)
        lines.append(f"next, for the look at {found.next_seeds} seeds: {runs}")
    return lines


def _spent(found: NextRuns) -> str:
    """What was spent, as one sentence."""
    share = 100 * found.cost / found.grid_cost if found.grid_cost else 0.0
    runs = f"{found.runs} {'run' if found.runs == 1 else 'runs'}, {share:.0f}% of the grid's cost"
    if not found.look:
        return f"No look yet: {runs}."
    return f"Look {found.look} of {found.looks}, at {found.seeds} seeds: {runs}."
