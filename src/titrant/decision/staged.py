"""A staged study: what its scores say, and what to run next.

Ask and tell, for anyone's trainer: protocol and scores in; a verdict, or the runs to do next, out. Both are a pure
function of the two: the ladder of looks is replayed from the first seed each time (`decision.replay`), so workers,
finishing order, kills and runs done ahead of need cannot change a byte of it. Nothing here reads a clock or a disk
beyond the two files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from titrant.core.errors import ScoresError, SpecError
from titrant.core.records import LookTails, LookTaken, Spent, StagedEnd, Verdict
from titrant.decision.climb import (
    check_order,
    ended_by,
    failed_runs,
    family_runs,
    layout_of,
    replayed,
    requests_of,
    runs_needed,
    runs_read,
    scores_fingerprint,
    spent_on,
    staged_design,
    waiting_arms,
)
from titrant.decision.judge import check_eval_sets, read_csv, verdict_json
from titrant.decision.protocol import Protocol, RunRequest, read_protocol
from titrant.decision.rule import WORDS, decide
from titrant.decision.staged_evidence import dose_evidence, staged_evidence
from titrant.stats.numbers import LostLevel, Unscored
from titrant.stats.score_file import check_header
from titrant.stats.table import TARGET, ScoreTable, tables_from_columns


@dataclass(frozen=True, slots=True, kw_only=True)
class NextRuns:
    """Where a staged study stands.

    `verdict` is None before the first look. `look` counts looks taken (0: none; the screen at 2 seeds is none), `seeds`
    those of the last one or of the screen, `next_seeds` those of the look that `next` is for (0: over). `runs` and
    `cost` are spent on what the ladder asked for, failed runs included; runs done ahead of need do not count.
    `waiting` may come back; `ruled_out` will not. `ended` says why it stopped. `read` are the runs that the
    screen and the looks so far have read or done without: nothing else enters the verdict. `needed` are those that the
    next look reads beside them, whether they are done or not.
    """

    stop: bool
    verdict: Verdict | None
    next: tuple[RunRequest, ...]
    look: int
    looks: int
    seeds: int
    next_seeds: int
    runs: int
    cost: float
    grid_cost: float
    waiting: tuple[str, ...]
    ruled_out: tuple[str, ...]
    ended: StagedEnd | None = None
    read: tuple[RunRequest, ...] = ()
    needed: tuple[RunRequest, ...] = ()


# --------------------------------------------------------------------------------------------------------------- doors


def next_runs(
    protocol: Protocol | str | Path | Mapping[str, Any],
    scores: str | Path | Mapping[str, Sequence[Any]] | None = None,
    *,
    failed: Sequence[RunRequest] = (),
    shards: int = 1,
) -> NextRuns:
    """What to run next, or the verdict. `scores` is a CSV as `judge` reads it, or columns; it may be empty. `failed`
    runs have no scores and never will. With more `shards` than runs that the next look lacks, runs of the look after it
    are added, of the same arms, so that no worker idles. Raises SpecError and ScoresError.

    >>> protocol = {"arms": {"plain": {"dose": 0}, "d96": {"dose": 96}}, "smallest_effect": 0.05, "most": 10}
    >>> found = next_runs(protocol)
    >>> found.stop, found.verdict, [(run.arm, run.seed) for run in found.next]
    (False, None, [('plain', '0'), ('d96', '0'), ('plain', '1'), ('d96', '1')])
    """
    fixed = protocol if isinstance(protocol, Protocol) else read_protocol(protocol)
    where = str(scores) if isinstance(scores, str | Path) else None
    return next_runs_of_tables(fixed, read_scores(scores), failed=failed, shards=shards, where=where)


def judge_staged(
    protocol: Protocol | str | Path | Mapping[str, Any],
    scores: str | Path | Mapping[str, Sequence[Any]],
    *,
    failed: Sequence[RunRequest] = (),
) -> NextRuns:
    """A finished table judged by its protocol: the verdict of the ladder, whatever runs the table holds beyond it. A
    table that ends before the ladder does leaves the verdict open. Raises ScoresError where the first look is not
    there, or an arm lacks a seed before one that it has."""
    fixed = protocol if isinstance(protocol, Protocol) else read_protocol(protocol)
    where = str(scores) if isinstance(scores, str | Path) else None
    found = next_runs_of_tables(fixed, read_scores(scores), failed=failed, where=where, finished=True)
    if found.verdict is None:
        lacking = ", ".join(f"{run.arm} at seed {run.seed}" for run in found.next[:5])
        more = f" and {len(found.next) - 5} more" if len(found.next) > 5 else ""
        raise ScoresError(
            f"the first look, at {fixed.ladder[0]} seeds, is not there",
            where=where,
            got=f"no scores of {lacking}{more}",
            expected="every arm that the look needs, at each of its seeds",
            fix="run them (`titrant next` lists all), or report a run that failed with --failed ARM=SEED",
        )
    return found


def read_scores(scores: str | Path | Mapping[str, Sequence[Any]] | None) -> Mapping[str, ScoreTable]:
    """Tables by eval set; none where a file, or columns, hold a header and nothing else."""
    if scores is None:
        return {}
    if isinstance(scores, str | Path):
        path = Path(scores)
        if not path.is_file():
            raise ScoresError("no such file", where=str(path), fix="begin with an empty file, or one with a header")
        return read_csv(path) if _has_rows(path) else {}
    return tables_from_columns(scores) if any(len(column) for column in scores.values()) else {}


def _has_rows(path: Path) -> bool:
    """Whether anything stands below the header. A header alone must be one: else the first scores would be refused."""
    with path.open("rb") as file:
        header = file.readline()
        if any(line.strip() for line in file):
            return True
    if header.strip():
        check_header(path)
    return False


def next_runs_json(found: NextRuns) -> dict[str, Any]:
    """The object that `titrant next --json` prints. A seed that is a whole number stands as one."""
    return {
        "stop": found.stop,
        "verdict": None if found.verdict is None else verdict_json(found.verdict),
        "next": [{"arm": run.arm, "seed": _seed_json(run.seed)} for run in found.next],
        "look": found.look,
        "spent": {"runs": found.runs, "cost": found.cost},
        "grid_cost": found.grid_cost,
        "waiting": list(found.waiting),
        "ruled_out": list(found.ruled_out),
    }


def _seed_json(seed: str) -> int | str:
    return int(seed) if seed.isascii() and seed.isdecimal() and str(int(seed)) == seed else seed


# -------------------------------------------------------------------------------------------------------------- replay


def next_runs_of_tables(
    protocol: Protocol,
    tables: Mapping[str, ScoreTable],
    *,
    failed: Sequence[RunRequest] = (),
    shards: int = 1,
    where: str | None = None,
    finished: bool = False,
    unscored: Unscored | None = None,
    lost: LostLevel | None = None,
    budget_seeds: int | None = None,
    ordered: bool = True,
    with_verdict: bool = True,
) -> NextRuns:
    """`next_runs` for callers that hold tables: of the eval set `target`, with `retention` and `transfer:NAME` reported
    beside it. `finished`: nothing runs any more, so every gap among an arm's seeds is an error.
    `unscored`: items that were asked and have no score. `lost`: why the level does not hold. `budget_seeds`: a budget
    ended the ladder at so many seeds, and what ran beyond them is not read. `ordered` False: runs may
    be there in any order, as of a grid that was not finished; what the ladder needs before them is asked for.
    `with_verdict` False: only what to run is wanted, which costs less."""
    if shards < 1:
        raise SpecError("not a number of workers", where="--shards", got=shards, expected="1 or more")
    check_eval_sets(tables)
    runs = family_runs(protocol, tables.get(TARGET), failed, where)
    plan = layout_of(protocol, runs)
    found = replayed(protocol, runs, plan, up_to=budget_seeds)
    over, next_seeds = bool(found.over_B[0]), int(found.next_seeds_B[0])
    if ordered:
        check_order(protocol, runs, found, where, finished=finished)
    spent = spent_on(protocol, runs, np.where(found.active_BA[0], next_seeds, found.read_BA[0]))
    budget_ended = budget_seeds is not None and not over
    verdict = None
    if found.look_B[0] and with_verdict:
        evidence = staged_evidence(protocol, runs, plan, found, tables, budget_ended=budget_ended)
        verdict = decide(replace(evidence, unscored=unscored, lost=lost))
    return NextRuns(
        stop=over,
        verdict=verdict,
        next=() if over else tuple(requests_of(protocol, runs, found, shards)),
        look=int(found.look_B[0]),
        looks=len(protocol.ladder),
        seeds=int(found.seeds_B[0]),
        next_seeds=next_seeds,
        runs=spent.runs,
        cost=spent.cost,
        grid_cost=float(protocol.grid_cost),
        waiting=waiting_arms(protocol, found),
        ruled_out=tuple(arm.name for arm, out in zip(protocol.doses, found.ruled_out_BK[0], strict=True) if out),
        ended="budget" if budget_ended else ended_by(found),
        read=runs_read(protocol, found),
        needed=runs_needed(protocol, found),
    )


def looks_taken(
    protocol: Protocol,
    tables: Mapping[str, ScoreTable],
    *,
    failed: Sequence[RunRequest] = (),
    budget_seeds: int | None = None,
) -> tuple[LookTaken, ...]:
    """Every look that these scores allow, in order: what a ledger keeps of each, and a report draws. None beyond
    `budget_seeds`."""
    runs = family_runs(protocol, tables.get(TARGET), failed, None)
    plan, taken = layout_of(protocol, runs), []
    for seeds, tails in zip(protocol.ladder, staged_design(protocol).looks, strict=True):
        # Cut to the seeds of this look, the replay sees what was known then, and so gives the look as it stood.
        if budget_seeds is not None and seeds > budget_seeds:
            break
        found = replayed(protocol, runs, plan, up_to=seeds)
        if found.seeds_B[0] != seeds:
            break
        better_K = (found.low_BKR[0] > 0).all(-1)
        doses = [dose_evidence(protocol, runs, found, index) for index in range(len(protocol.doses))]
        taken.append(
            LookTaken(
                look=int(found.look_B[0]),
                seeds=seeds,
                fingerprint=scores_fingerprint(protocol, runs, found),
                tails=LookTails(better=tails.better, single=tails.single, strict=tails.strict),
                verdict=WORDS[int(found.code_B[0])],
                better=tuple(arm.name for arm, is_better in zip(protocol.doses, better_K, strict=True) if is_better),
                ruled_out=tuple(
                    arm.name for arm, out in zip(protocol.doses, found.ruled_out_BK[0], strict=True) if out
                ),
                waiting=waiting_arms(protocol, found),
                contrasts=tuple(side.told for dose in doses for side in (dose.plain, dose.matched) if side is not None),
                spent=spent_on(protocol, runs, found.read_BA[0]),
                failed=failed_runs(protocol, runs, found),
            )
        )
    return tuple(taken)


def told_with_looks(verdict: Verdict, found: NextRuns, looks: Sequence[LookTaken]) -> Verdict:
    """The verdict with its way there: every look, what was spent, and why it ended."""
    return replace(
        verdict,
        looks=tuple(looks),
        spent=Spent(runs=found.runs, cost=found.cost),
        grid_cost=found.grid_cost,
        ended=found.ended,
        waiting=found.waiting,
        ruled_out=found.ruled_out,
    )
