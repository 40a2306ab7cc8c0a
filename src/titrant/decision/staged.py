"""A staged study: what is fixed before its first score (`Protocol`), and what its scores say (`NextRuns`).

Ask and tell, for anyone's trainer: protocol and scores in; a verdict, or the runs to do next, out. Both are a pure
function of the two: the ladder of looks is replayed from the first seed each time (`decision.replay`), so workers,
finishing order, kills and runs done ahead of need cannot change a byte of it. Nothing here reads a clock or a disk
beyond the two files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from titrant.core.errors import ScoresError, SpecError
from titrant.core.identity import fingerprint
from titrant.core.records import Contrast, Estimate, NextStep, Verdict
from titrant.decision.judge import RETENTION, TRANSFER, check_eval_sets, read_csv, verdict_json
from titrant.decision.replay import Replay, StagedDesign, replay
from titrant.decision.rule import FEWEST_SEEDS, WORDS, decide
from titrant.stats.contrasts import Layout, TaskWeights, joined_spreads, layout, shared_seeds_contrast
from titrant.stats.crossfit import halves
from titrant.stats.evidence import (
    ROWS_LIKE_THESE,
    SAME_EVERYWHERE,
    THESE_ROWS,
    Family,
    Settings,
    notes_of,
    retention_of,
    transfer_of,
)
from titrant.stats.looks import FIRST_LOOK, MOST_SEEDS, SPENDING, Look, ladder, plan_looks
from titrant.stats.numbers import Against, DoseEvidence, Evidence
from titrant.stats.power import Costs, PowerDesign, pilot_components, ways_on
from titrant.stats.score_file import check_header
from titrant.stats.table import TARGET, ScoreTable, complete, tables_from_columns

Ended = Literal["firm", "given_up", "last_look"]
DEFAULT_MOST = 20


# ------------------------------------------------------------------------------------------------------------- records


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolArm:
    """One arm of the family. `dose` in rows, 0 for a baseline; `matched`: the baseline that takes as many steps as the
    largest dose. `cost` is that of one run, in any unit that all arms share."""

    name: str
    dose: int
    matched: bool = False
    source: str | None = None
    cost: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """What is fixed before the first score is read; the level holds only as long as none of it changes.

    `arms`: baselines first (plain, matched), then doses from the smallest to the largest. `seeds`: names, in the order
    in which they are run. `ladder`: the seeds at which the study is judged, the last at all of them. `overlap` is n/N
    where the estimand is *rows like these*, None for *these rows*.
    """

    arms: tuple[ProtocolArm, ...]
    smallest_effect: float
    seeds: tuple[str, ...]
    ladder: tuple[int, ...]
    metric: str = "the score"
    level: float = 0.95
    spending: str = "t^1.5"
    overlap: float | None = None
    task_weights: TaskWeights = "macro"
    target_rows: int | None = None

    @property
    def most(self) -> int:
        """Seeds in all."""
        return len(self.seeds)

    @property
    def baselines(self) -> tuple[ProtocolArm, ...]:
        return tuple(arm for arm in self.arms if arm.dose == 0)

    @property
    def doses(self) -> tuple[ProtocolArm, ...]:
        return tuple(arm for arm in self.arms if arm.dose > 0)

    @property
    def grid_cost(self) -> float:
        """What all arms at all seeds would cost."""
        return self.most * sum(arm.cost for arm in self.arms)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """One run to do: an arm by name, at a seed by name."""

    arm: str
    seed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NextRuns:
    """Where a staged study stands.

    `verdict` is None before the first look. `look` counts looks taken (0: none; the screen at 2 seeds is none), `seeds`
    those of the last one or of the screen, `next_seeds` those of the look that `next` is for (0: over). `runs` and
    `cost` are spent on what the ladder asked for, failed runs included; runs done ahead of need do not count.
    `waiting` may come back; `ruled_out` will not. `ended` says why it stopped.
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
    ended: Ended | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LookTaken:
    """One look, as a ledger keeps it: the scores it read (`fingerprint`), its tails, and what is claimed by then over
    all looks. `contrasts` carry the intervals as they stood."""

    look: int
    seeds: int
    fingerprint: str
    tails: Look
    verdict: str
    better: tuple[str, ...]
    ruled_out: tuple[str, ...]
    waiting: tuple[str, ...]
    contrasts: tuple[Contrast, ...]


def staged_design(protocol: Protocol) -> StagedDesign:
    """The protocol as a replay takes it, with the tails of every look."""
    looks = plan_looks(
        protocol.ladder,
        most=protocol.most,
        doses=len(protocol.doses),
        level=protocol.level,
        spending=protocol.spending,
    )
    return StagedDesign(
        looks=looks,
        most=protocol.most,
        baselines=len(protocol.baselines),
        rows=tuple(float(arm.dose) for arm in protocol.doses),
        smallest_effect=protocol.smallest_effect,
        overlap=protocol.overlap or 0.0,
    )


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Runs:
    """Scores in the protocol's order of arms and seeds."""

    table: ScoreTable
    values_ASI: NDArray[np.float64]
    ran_AS: NDArray[np.bool_]
    failed_AS: NDArray[np.bool_]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Runs that are there or failed, A×S: nothing waits for them."""
        return self.ran_AS | self.failed_AS


def next_runs_of_tables(
    protocol: Protocol,
    tables: Mapping[str, ScoreTable],
    *,
    failed: Sequence[RunRequest] = (),
    shards: int = 1,
    where: str | None = None,
    finished: bool = False,
) -> NextRuns:
    """`next_runs` for callers that hold tables: of the eval set `target`, with `retention` and `transfer:NAME` reported
    beside it. `finished`: nothing runs any more, so every gap among an arm's seeds is an error."""
    if shards < 1:
        raise SpecError("not a number of workers", where="--shards", got=shards, expected="1 or more")
    check_eval_sets(tables)
    runs = _runs(protocol, tables.get(TARGET), failed, where)
    plan = _layout(protocol, runs)
    found = _replayed(protocol, runs, plan)
    over, next_seeds = bool(found.over_B[0]), int(found.next_seeds_B[0])
    _check_order(protocol, runs, found, where, finished=finished)
    # Runs beyond what the ladder has asked for were done ahead of need: they are no cost of the method, and counting
    # them would make spending depend on how fast workers are.
    asked_A = np.where(found.active_BA[0], next_seeds, found.read_BA[0])
    spent_AS = runs.known & (np.arange(protocol.most) < asked_A[:, None])
    verdict = None
    if found.look_B[0]:
        evidence = _evidence(protocol, runs, plan, found, tables)
        verdict = decide(evidence)
    return NextRuns(
        stop=over,
        verdict=verdict,
        next=() if over else tuple(_requests(protocol, runs, found, shards)),
        look=int(found.look_B[0]),
        looks=len(protocol.ladder),
        seeds=int(found.seeds_B[0]),
        next_seeds=next_seeds,
        runs=int(spent_AS.sum()),
        cost=float(sum(arm.cost * int(count) for arm, count in zip(protocol.arms, spent_AS.sum(-1), strict=True))),
        grid_cost=float(protocol.grid_cost),
        waiting=_waiting(protocol, found),
        ruled_out=tuple(arm.name for arm, out in zip(protocol.doses, found.ruled_out_BK[0], strict=True) if out),
        ended=_ended(found),
    )


def _layout(protocol: Protocol, runs: _Runs) -> Layout:
    return layout(
        max(len(runs.table.items), 1),
        groups=runs.table.groups,
        tasks=runs.table.tasks,
        task_weights=protocol.task_weights,
    )


def _replayed(protocol: Protocol, runs: _Runs, plan: Layout, *, up_to: int | None = None) -> Replay:
    """The ladder on these runs, or on their first `up_to` seeds. Before the first score there is one item of which
    nothing is known: what is asked for does not depend on it."""
    # With nothing known the screen asks for every arm, so what stands in the one made-up item cannot show.
    values_ASI, half_I = runs.values_ASI, halves(runs.table.items, runs.table.groups)
    if not runs.table.items:
        values_ASI, half_I = np.zeros((len(protocol.arms), protocol.most, 1)), np.array([True])
    seen_S = np.arange(protocol.most) < (protocol.most if up_to is None else up_to)
    return replay(
        values_ASI[None],
        plan,
        staged_design(protocol),
        first_half_I=half_I,
        ran_BAS=(runs.ran_AS & seen_S)[None],
        failed_BAS=(runs.failed_AS & seen_S)[None],
    )


def looks_taken(
    protocol: Protocol, tables: Mapping[str, ScoreTable], *, failed: Sequence[RunRequest] = ()
) -> tuple[LookTaken, ...]:
    """Every look that these scores allow, in order: what a ledger keeps of each, and a report draws."""
    runs = _runs(protocol, tables.get(TARGET), failed, None)
    plan, taken = _layout(protocol, runs), []
    for seeds, tails in zip(protocol.ladder, staged_design(protocol).looks, strict=True):
        # Cut to the seeds of this look, the replay sees what was known then, and so gives the look as it stood.
        found = _replayed(protocol, runs, plan, up_to=seeds)
        if found.seeds_B[0] != seeds:
            break
        better_K = (found.low_BKR[0] > 0).all(-1)
        doses = [_dose(protocol, runs, found, index) for index in range(len(protocol.doses))]
        taken.append(
            LookTaken(
                look=int(found.look_B[0]),
                seeds=seeds,
                fingerprint=_fingerprint(protocol, runs, found),
                tails=tails,
                verdict=WORDS[int(found.code_B[0])],
                better=tuple(arm.name for arm, is_better in zip(protocol.doses, better_K, strict=True) if is_better),
                ruled_out=tuple(
                    arm.name for arm, out in zip(protocol.doses, found.ruled_out_BK[0], strict=True) if out
                ),
                waiting=_waiting(protocol, found),
                contrasts=tuple(
                    side.contrast for dose in doses for side in (dose.plain, dose.matched) if side is not None
                ),
            )
        )
    return tuple(taken)


def _fingerprint(protocol: Protocol, runs: _Runs, found: Replay) -> str:
    """Of all scores that the ladder has read, and whose they are."""
    read = [
        [arm.name, protocol.seeds[seed], hashlib.sha256(runs.values_ASI[place, seed].tobytes()).hexdigest()]
        for place, arm in enumerate(protocol.arms)
        for seed in np.flatnonzero(runs.ran_AS[place, : found.read_BA[0, place]])
    ]
    return fingerprint([runs.table.items, read])


def _ended(found: Replay) -> Ended | None:
    if not found.over_B[0]:
        return None
    if found.code_B[0]:
        return "firm"
    return "given_up" if found.given_up_B[0] else "last_look"


def _waiting(protocol: Protocol, found: Replay) -> tuple[str, ...]:
    """Arms that are not ruled out and did not take part in the last look (or, while it goes on, do not in the next)."""
    ruled_A = np.concatenate([np.zeros(len(protocol.baselines), dtype=bool), found.ruled_out_BK[0]])
    # Once it is over nothing is active any more, so who waited is told by how far each arm was read.
    part_A = found.read_BA[0] == found.seeds_B[0] if found.over_B[0] else found.active_BA[0]
    return tuple(
        arm.name for arm, waits in zip(protocol.arms, ~part_A & ~ruled_A, strict=True) if waits and found.seeds_B[0]
    )


def _requests(protocol: Protocol, runs: _Runs, found: Replay, shards: int) -> Iterator[RunRequest]:
    """Runs that the next look lacks, seed by seed, so that pairs are complete early; then runs of the look after it
    until every worker has one."""
    active, needed, given = np.flatnonzero(found.active_BA[0]), int(found.next_seeds_B[0]), 0
    # No further than the look after the next one: which arms take part beyond it is not known, and runs of an arm that
    # is then set aside would be wasted.
    for seed in range(_asked_ahead(protocol, needed)):
        for arm in active:
            if runs.known[arm, seed]:
                continue
            # Runs that the look needs are always given out; those ahead of need only as far as workers would idle.
            if seed >= needed and given >= shards:
                return
            given += 1
            yield RunRequest(arm=protocol.arms[arm].name, seed=protocol.seeds[seed])


def _asked_ahead(protocol: Protocol, needed: int) -> int:
    """Seeds up to which `next` gives runs out: those of the look after the one that waits, and no further."""
    return next((seeds for seeds in protocol.ladder if seeds > needed), protocol.most)


def _runs(protocol: Protocol, table: ScoreTable | None, failed: Sequence[RunRequest], where: str | None) -> _Runs:
    """The table of scores in the protocol's order. Whatever does not fit is refused by name."""
    names, shape = [arm.name for arm in protocol.arms], (len(protocol.arms), protocol.most)
    failed_AS = np.zeros(shape, dtype=bool)
    for run in failed:
        _check_known("arm", run.arm, names, "--failed")
        _check_known("seed", run.seed, protocol.seeds, "--failed")
        failed_AS[names.index(run.arm), protocol.seeds.index(run.seed)] = True
    if table is None:
        empty = ScoreTable(
            eval_set=TARGET, arms=(), seeds=(), items=(), groups=None, tasks=None,
            values_ASI=np.zeros((0, 0, 0)), present_ASI=np.zeros((0, 0, 0), dtype=bool),
        )  # fmt: skip
        return _Runs(
            table=empty, values_ASI=np.zeros((*shape, 0)), ran_AS=np.zeros(shape, dtype=bool), failed_AS=failed_AS
        )
    for arm in table.arms:
        _check_known("arm", arm.name, names, where)
    for seed in table.seeds:
        _check_known("seed", seed, protocol.seeds, where)
    # Runs may still be missing, but a run that is there must have a score for every item: half a run would make its
    # seed look better or worse than it is.
    whole = complete(table, allow_missing_runs=True).table
    values_ASI, ran_AS = np.zeros((*shape, len(whole.items))), np.zeros(shape, dtype=bool)
    cells = np.ix_([names.index(arm.name) for arm in whole.arms], [protocol.seeds.index(seed) for seed in whole.seeds])
    values_ASI[cells], ran_AS[cells] = whole.values_ASI, whole.ran
    # One of the two is wrong, and each would give another verdict.
    for place, seed in np.argwhere(ran_AS & failed_AS):
        raise ScoresError(
            f"arm {names[place]!r} has scores at seed {protocol.seeds[seed]}, which is reported as failed",
            where=where,
            fix="leave its scores out, or the report",
        )
    return _Runs(table=whole, values_ASI=values_ASI, ran_AS=ran_AS, failed_AS=failed_AS)


def _check_known(word: str, name: str, known: Sequence[str], where: str | None) -> None:
    if name in known:
        return
    fix = "leave these rows out, or name the arm in the protocol before the first score is read"
    if word == "seed":
        fix = "run the protocol's seeds in their order, or name yours as `seeds` before the first score is read"
    raise ScoresError(
        f"{word} {name!r} is not in the protocol", where=where, expected="one of " + ", ".join(known), fix=fix
    )


def _check_order(protocol: Protocol, runs: _Runs, found: Replay, where: str | None, *, finished: bool) -> None:
    """An arm with a seed that nobody asked for yet, while one before it is missing: the ladder would wait for ever.
    Workers may finish in any order within what `next` can have given them: the next look and the one after it."""
    needed = int(found.next_seeds_B[0])
    given = _asked_ahead(protocol, needed)
    for arm in np.flatnonzero(found.active_BA[0]):
        missing = np.flatnonzero(~runs.known[arm, :needed])
        if not len(missing):
            continue
        beyond = np.flatnonzero(runs.ran_AS[arm, (missing[0] if finished else given) :])
        if len(beyond):
            first = beyond[0] + (missing[0] if finished else given)
            name, lacks = protocol.arms[arm].name, protocol.seeds[missing[0]]
            raise ScoresError(
                f"arm {name!r} has scores at seed {protocol.seeds[first]}, but none at seed {lacks}, which comes first",
                where=where,
                expected=f"seeds in the protocol's order ({', '.join(protocol.seeds[:4])}, …)",
                fix=f"run {name} at seed {lacks}, or report that it failed with --failed {name}={lacks}",
            )


# ------------------------------------------------------------------------------------------------------------ evidence


def _evidence(
    protocol: Protocol, runs: _Runs, plan: Layout, found: Replay, tables: Mapping[str, ScoreTable]
) -> Evidence:
    """What the replay found, as the rule's evidence: the bounds of all looks so far in the place of one look's."""
    settings = Settings(
        smallest_effect=protocol.smallest_effect,
        level=protocol.level,
        task_weights=protocol.task_weights,
        overlap=protocol.overlap,
        metric=protocol.metric,
        allow_missing_runs=True,
    )
    plain, *rest = protocol.baselines
    family = Family(
        doses=tuple(arm.name for arm in protocol.doses),
        baseline=plain.name,
        matched=rest[0].name if rest else None,
        target_rows=protocol.target_rows,
    )
    beside = {name: _as_read(protocol, table, found) for name, table in tables.items() if name != TARGET}
    failed_runs = int((runs.failed_AS & (np.arange(protocol.most) < found.read_BA[0][:, None])).sum())
    whole = replace(complete(runs.table, allow_missing_runs=True), missing_runs=failed_runs)
    best, smallest = found.gain_best_BR[0], found.gain_smallest_BR[0]
    evidence = Evidence(
        doses=tuple(_dose(protocol, runs, found, index) for index in range(len(protocol.doses))),
        baseline=plain.name,
        matched=family.matched,
        target_rows=protocol.target_rows,
        metric=protocol.metric,
        level=protocol.level,
        smallest_effect=protocol.smallest_effect,
        n_seeds=int(found.common_BKR[0].max()),
        n_items=len(runs.table.items),
        n_groups=plan.n_clusters if runs.table.groups is not None else None,
        gain_best=_finite(best[-1]),
        gain_smallest=_finite(smallest[-1]),
        gain_least=_finite(best.min()),
        smallest_detectable=None,
        estimand=settings.estimand,
        steps_matched=plain.matched,
        kept=tuple(
            kept
            for name, table in beside.items()
            if name.split(":")[0] == RETENTION
            for kept in retention_of(table, family, settings)
        ),
        transfer=tuple(
            contrast
            for name, table in beside.items()
            if name.split(":")[0] == TRANSFER
            for contrast in transfer_of(table, family, settings)
        ),
        task_weights=protocol.task_weights if runs.table.tasks is not None else None,
        failed_runs=failed_runs,
        notes=(*notes_of(whole, runs.table, plan, settings), *_staged_notes(protocol, found)),
    )
    return replace(evidence, next_step=_next_step(protocol, runs, plan, found))


def _as_read(protocol: Protocol, table: ScoreTable, found: Replay) -> ScoreTable:
    """The arms of the family at the seeds that the ladder has read: what was run ahead of need stays out."""
    names = [arm.name for arm in protocol.arms]
    kept = table.take([index for index, arm in enumerate(table.arms) if arm.name in names])
    read_A = np.array([found.read_BA[0][names.index(arm.name)] for arm in kept.arms], dtype=np.intp)
    place_S = np.array([protocol.seeds.index(seed) if seed in protocol.seeds else MOST_SEEDS for seed in kept.seeds])
    present = kept.present_ASI & (place_S < read_A[:, None])[..., None]
    return replace(kept, present_ASI=present, values_ASI=np.where(present, kept.values_ASI, 0.0))


def _dose(protocol: Protocol, runs: _Runs, found: Replay, index: int) -> DoseEvidence:
    arm = protocol.doses[index]
    sides = [_against(protocol, runs, found, index, side) for side in range(len(protocol.baselines))]
    return DoseEvidence(
        arm=arm.name,
        dose=arm.dose,
        source=arm.source,
        plain=sides[0],
        matched=sides[1] if len(sides) == 2 else None,
        gap_high=_finite(found.gap_high_BK[0, index]),
        gap_low=_finite(found.gap_low_BK[0, index]),
    )


def _against(protocol: Protocol, runs: _Runs, found: Replay, index: int, side: int) -> Against:
    arm, cell = protocol.doses[index], (0, index, side)
    low, high, seeds = float(found.low_BKR[cell]), float(found.high_BKR[cell]), int(found.common_BKR[cell])
    reason = None
    if seeds < FEWEST_SEEDS:
        reason = f"{seeds} seeds that both arms have: nothing is claimed before {FEWEST_SEEDS}"
    elif low == high:
        reason = SAME_EVERYWHERE
    doses = len(protocol.doses)
    family = "one contrast" if doses == 1 else f"Dunnett over {doses} doses"
    estimate = Estimate(
        value=_finite(found.difference_BKR[cell]),
        low=low,
        # Two looks can contradict each other by luck; the interval is then a point, not turned inside out.
        high=max(low, high),
        level=protocol.level,
        method=f"{found.method}; {family}; tightest of the looks so far, error spent as {protocol.spending}",
        n_items=len(runs.table.items),
        n_seeds=seeds,
        reason=reason,
    )
    contrast = Contrast(
        arm=arm.name,
        baseline=protocol.baselines[side].name,
        eval_set=TARGET,
        target_rows=protocol.target_rows,
        difference=estimate,
        # A p-value holds for one look only.
        p=None,
        p_adjusted=None,
        dose=arm.dose,
        source=arm.source,
    )
    return Against(
        contrast=contrast,
        low_90=float(found.low_single_BKR[cell]),
        high_90=float(found.high_single_BKR[cell]),
        high_95=float(found.high_strict_BKR[cell]),
    )


def _staged_notes(protocol: Protocol, found: Replay) -> tuple[str, ...]:
    look, seeds = int(found.look_B[0]), int(found.seeds_B[0])
    notes = [f"Look {look} of {len(protocol.ladder)}, at {seeds} seeds; the level holds over all looks together."]
    waiting = _waiting(protocol, found)
    if waiting and found.over_B[0]:
        notes.append(f"Set aside and not ruled out: {', '.join(waiting)}.")
    if found.given_up_B[0]:
        notes.append(f"Stopped early: the look at {protocol.most} seeds would hardly have settled it.")
    if not found.over_B[0]:
        notes.append(f"The ladder goes on to {protocol.most} seeds.")
    return tuple(notes)


def _next_step(protocol: Protocol, runs: _Runs, plan: Layout, found: Replay) -> NextStep | None:
    """While the ladder goes on, its next look; when it has ended open, more items or a larger dose in another study."""
    if found.code_B[0]:
        return None
    if not found.over_B[0]:
        seeds = int(found.next_seeds_B[0])
        lacking = int((found.active_BA[0][:, None] & ~runs.known[:, :seeds]).sum())
        text = f"Next: {lacking} {'run' if lacking == 1 else 'runs'}, for the look at {seeds} seeds."
        return NextStep(kind="seeds", seeds=seeds, items=None, tokens=None, minutes=None, sentence=text)
    items = _items_that_would_do(protocol, runs, plan, found)
    if items is not None:
        text = f"Next: another study with {items} test items in all, which would probably settle it."
        return NextStep(kind="items", seeds=None, items=items, tokens=None, minutes=None, sentence=text)
    largest = 2 * protocol.doses[-1].dose
    text = (
        f"Nor would 50 times the items settle it. Next: another study with a dose of {largest} rows, whose effect may "
        "be plainer, or a larger smallest effect."
    )
    return NextStep(kind="dose", seeds=None, items=None, tokens=None, minutes=None, sentence=text)


def _items_that_would_do(protocol: Protocol, runs: _Runs, plan: Layout, found: Replay) -> int | None:
    """How many items in all would settle it at as many seeds, going by what was seen; None where none would."""
    n_bases, overlap = len(protocol.baselines), protocol.overlap or 0.0
    read_AS = runs.ran_AS & (np.arange(protocol.most) < found.read_BA[0][:, None])
    doses = [index + n_bases for index in np.flatnonzero(~found.ruled_out_BK[0])]
    spread = joined_spreads(
        [
            shared_seeds_contrast(runs.values_ASI, read_AS, plan, arm=int(dose), baseline=n_bases - 1, overlap=overlap)
            for dose in doses
        ]
    )
    components = pilot_components(spread, overlap=overlap)
    # The weaker gain of each dose over its baselines: that is the one that keeps the verdict open.
    gains = found.difference_BKR[0].min(-1)
    gains = gains[np.isfinite(gains)]
    if components is None or not len(gains):
        return None
    design = PowerDesign(
        seeds=int(found.seeds_B[0]),
        items=plan.n_clusters,
        doses=len(protocol.doses),
        baselines=n_bases,
        components=components,
        smallest_effect=protocol.smallest_effect,
        level=protocol.level,
        overlap=overlap,
    )
    ways = ways_on(design, gains=gains, costs=Costs(), items_each=plan.n_items / plan.n_clusters)
    return next((way.items for way in ways if way.kind == "items"), None)


def _finite(value: float | np.floating[Any]) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None


# ------------------------------------------------------------------------------------------------------------ protocol


def protocol_json(protocol: Protocol) -> dict[str, Any]:
    """The protocol as a plain object that `read_protocol` takes back: what a ledger keeps before the first score."""
    return {
        "arms": {
            arm.name: {"dose": arm.dose}
            | ({"matched": True} if arm.matched else {})
            | ({"source": arm.source} if arm.source is not None else {})
            for arm in protocol.arms
        },
        "smallest_effect": protocol.smallest_effect,
        "most": protocol.most,
        "metric": protocol.metric,
        "level": protocol.level,
        "costs": {arm.name: arm.cost for arm in protocol.arms},
        "seeds": list(protocol.seeds),
        "ladder": list(protocol.ladder),
        "spending": protocol.spending,
        "estimand": THESE_ROWS if protocol.overlap is None else ROWS_LIKE_THESE,
        "overlap": protocol.overlap,
        "task_weights": protocol.task_weights,
        "target_rows": protocol.target_rows,
    }


class _ArmFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    dose: int = Field(ge=0)
    matched: bool = False
    source: str | None = None


class _ProtocolFile(BaseModel):
    """protocol.json as it is written."""

    model_config = ConfigDict(extra="forbid", strict=True)

    arms: dict[str, _ArmFile]
    smallest_effect: float = Field(gt=0, lt=1)
    most: int | None = Field(default=None, ge=FIRST_LOOK, le=MOST_SEEDS)
    metric: str = "the score"
    level: float = Field(default=0.95, gt=0.5, lt=1)
    costs: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] | None = None
    seeds: list[int | str] | None = None
    ladder: list[int] | None = None
    spending: str = "t^1.5"
    estimand: Literal["these rows", "rows like these"] = "these rows"
    overlap: float | None = Field(default=None, ge=0, lt=1)
    task_weights: TaskWeights = "macro"
    target_rows: int | None = Field(default=None, ge=1)


def read_protocol(source: str | Path | Mapping[str, Any]) -> Protocol:
    """A protocol from its file or object; every problem at once, each with its place. Raises SpecError."""
    where = str(source) if isinstance(source, str | Path) else "protocol"
    value = _read_object(Path(source)) if isinstance(source, str | Path) else source
    try:
        file = _ProtocolFile.model_validate(value)
    except ValidationError as error:
        raise SpecError("\n".join(_told(problem, where) for problem in error.errors())) from None
    problems = [f"{where}: {problem}" for problem in _problems(file)]
    if problems:
        raise SpecError("\n".join(problems))
    costs = file.costs or {}
    arms = [
        ProtocolArm(name=name, dose=arm.dose, matched=arm.matched, source=arm.source, cost=costs.get(name, 1.0))
        for name, arm in file.arms.items()
    ]
    # A fixed order, as ties between doses go to the first: a file that lists the same arms otherwise must not change a
    # verdict.
    arms.sort(key=lambda arm: (arm.dose > 0, arm.matched, arm.dose, arm.source or "", arm.name))
    most = _most(file)
    return Protocol(
        arms=tuple(arms),
        smallest_effect=file.smallest_effect,
        seeds=tuple(str(seed) for seed in (file.seeds or range(most))),
        ladder=tuple(file.ladder) if file.ladder is not None else ladder(most),
        metric=file.metric,
        level=file.level,
        spending=file.spending,
        overlap=file.overlap if file.estimand == ROWS_LIKE_THESE else None,
        task_weights=file.task_weights,
        target_rows=file.target_rows,
    )


def _read_object(path: Path) -> Any:
    if not path.is_file():
        raise SpecError("no such file", where=str(path), expected="a protocol (JSON)")
    try:
        return json.loads(path.read_bytes(), object_pairs_hook=_once_each)
    except json.JSONDecodeError as error:
        raise SpecError(
            "not JSON",
            where=f"{path}:{error.lineno}:{error.colno}",
            got=error.doc[error.pos :][:40],
            expected=error.msg,
        ) from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise SpecError("not JSON", where=str(path), got=str(error)) from None
    except SpecError as error:
        raise error.at(str(path)) from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys stand once: json keeps the last of two, and an arm would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise SpecError(f"key {twice!r} is there twice", fix="give each arm a name of its own")
    return found


def _told(problem: Any, where: str) -> str:
    """One of pydantic's problems in our words."""
    key = ".".join(str(part) for part in problem["loc"] if part not in ("int", "str"))
    kind, got = problem["type"], problem["input"]
    text = f"{where}: {key or 'the whole'}: "
    if kind == "missing":
        fix = "the difference that matters to you, as 0.03" if key == "smallest_effect" else f"say {key}"
        return f"{text}missing. Fix: {fix}"
    if kind == "extra_forbidden":
        known = _ArmFile.model_fields if key.startswith("arms.") else _ProtocolFile.model_fields
        return f"{text}no such key (expected one of {', '.join(known)})"
    return f"{text}{problem['msg'][0].lower()}{problem['msg'][1:]} (got {got!r})"


def _most(file: _ProtocolFile) -> int:
    if file.most is not None:
        return file.most
    return len(file.seeds) if file.seeds is not None else DEFAULT_MOST


def _problems(file: _ProtocolFile) -> Iterator[str]:
    """What no single key shows: a family that cannot be judged, seeds and looks that do not fit."""
    plain = [name for name, arm in file.arms.items() if arm.dose == 0 and not arm.matched]
    matched = [name for name, arm in file.arms.items() if arm.dose == 0 and arm.matched]
    for name, arm in file.arms.items():
        if not name.strip() or name != name.strip():
            yield f"arms: an arm's name is empty or has spaces around it (got {name!r})"
        if arm.matched and arm.dose:
            yield f"arms.{name}.matched: a dose is no baseline (got dose {arm.dose}). Fix: leave out matched"
    if not any(arm.dose for arm in file.arms.values()):
        yield "arms: no dose (expected one arm or more with a dose above 0)"
    for found, word in ((plain, "plain"), (matched, "matched")):
        if len(found) > 1:
            yield f"arms: {len(found)} {word} baselines (got {', '.join(found)}; expected one)"
    if not plain and not matched:
        yield 'arms: no baseline (expected an arm of dose 0). Fix: "plain": {"dose": 0}'
    for name in file.arms if file.costs is not None else ():
        if name not in (file.costs or {}):
            yield f"costs: arm {name!r} has none. Fix: name the cost of every arm, or leave out costs"
    for name in file.costs or {}:
        if name not in file.arms:
            yield f"costs.{name}: no such arm (expected one of {', '.join(file.arms)})"
    most, names = _most(file), [str(seed) for seed in file.seeds or ()]
    if file.seeds is not None and len(names) < FIRST_LOOK:
        yield f"seeds: {len(names)} {'seed' if len(names) == 1 else 'seeds'}; a staged study is first judged at 3"
    elif file.seeds is not None and len(names) != most:
        yield f"seeds: {len(names)} names for most {most}. Fix: leave out most, or name {most} seeds"
    if len(set(names)) < len(names):
        yield f"seeds: a seed is there twice (got {', '.join(names)})"
    looks = file.ladder
    if looks is not None and (not looks or looks[0] < FIRST_LOOK or looks[-1] != most or looks != sorted(set(looks))):
        yield f"ladder: looks rise from {FIRST_LOOK} seeds or more to most, {most} (got {looks})"
    if file.spending not in SPENDING:
        yield f"spending: no such spending (got {file.spending!r}; expected one of {', '.join(SPENDING)})"
    if (file.estimand == ROWS_LIKE_THESE) != (file.overlap is not None):
        yield (
            f"overlap: got {file.overlap} for estimand {file.estimand!r}. Fix: the share of the target rows that each "
            f"seed draws, for {ROWS_LIKE_THESE!r} and for nothing else"
        )
