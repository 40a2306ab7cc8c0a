"""The scores of a staged study in its protocol's order, and how far its ladder of looks has come on them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from titrant.core.errors import ScoresError
from titrant.core.identity import fingerprint
from titrant.core.records import Spent, StagedEnd
from titrant.decision.protocol import Protocol, RunRequest
from titrant.decision.replay import Replay, StagedDesign, replay
from titrant.stats.contrasts import Layout, layout
from titrant.stats.crossfit import halves
from titrant.stats.looks import plan_looks
from titrant.stats.table import TARGET, ScoreTable, complete


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyRuns:
    """Scores in the protocol's order of arms and seeds."""

    table: ScoreTable
    values_ASI: NDArray[np.float64]
    ran_AS: NDArray[np.bool_]
    failed_AS: NDArray[np.bool_]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Runs that are there or failed, A×S: nothing waits for them."""
        return self.ran_AS | self.failed_AS


def layout_of(protocol: Protocol, runs: FamilyRuns) -> Layout:
    """How items weigh and group; one item of its own before the first score."""
    return layout(
        max(len(runs.table.items), 1),
        groups=runs.table.groups,
        tasks=runs.table.tasks,
        task_weights=protocol.task_weights,
    )


def replayed(protocol: Protocol, runs: FamilyRuns, plan: Layout, *, up_to: int | None = None) -> Replay:
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


def scores_fingerprint(protocol: Protocol, runs: FamilyRuns, found: Replay) -> str:
    """Of all scores that the ladder has read, and whose they are."""
    read = [
        [arm.name, protocol.seeds[seed], hashlib.sha256(runs.values_ASI[place, seed].tobytes()).hexdigest()]
        for place, arm in enumerate(protocol.arms)
        for seed in np.flatnonzero(runs.ran_AS[place, : found.read_BA[0, place]])
    ]
    return fingerprint([runs.table.items, read])


def spent_on(protocol: Protocol, runs: FamilyRuns, asked_A: NDArray[np.intp]) -> Spent:
    """What the first so many seeds of each arm have taken, failed runs included. Runs beyond what the ladder has asked
    for were done ahead of need: they are no cost of the method, and counting them would make spending depend on how
    fast workers are."""
    spent_AS = runs.known & (np.arange(protocol.most) < asked_A[:, None])
    counts_A = spent_AS.sum(-1)
    cost = sum(arm.cost * int(count) for arm, count in zip(protocol.arms, counts_A, strict=True))
    return Spent(runs=int(counts_A.sum()), cost=float(cost))


def runs_read(protocol: Protocol, found: Replay) -> tuple[RunRequest, ...]:
    """Every run that the looks so far (and the screen) have read or done without, arm by arm: all that a verdict may
    depend on."""
    return tuple(
        RunRequest(arm=arm.name, seed=seed)
        for arm, count in zip(protocol.arms, found.read_BA[0], strict=True)
        for seed in protocol.seeds[:count]
    )


def failed_runs(protocol: Protocol, runs: FamilyRuns, found: Replay) -> tuple[str, ...]:
    """The failed runs that a look did without, as "arm seed"."""
    read_AS = np.arange(protocol.most) < found.read_BA[0][:, None]
    return tuple(
        f"{protocol.arms[arm].name} {protocol.seeds[seed]}" for arm, seed in np.argwhere(runs.failed_AS & read_AS)
    )


def runs_needed(protocol: Protocol, found: Replay) -> tuple[RunRequest, ...]:
    """Every run that the next look will read and no look before it has; none once it is over."""
    return tuple(
        RunRequest(arm=arm.name, seed=seed)
        for arm, count, active in zip(protocol.arms, found.read_BA[0], found.active_BA[0], strict=True)
        for seed in protocol.seeds[count : found.next_seeds_B[0]]
        if active
    )


def ended_by(found: Replay) -> StagedEnd | None:
    """Why the ladder is over; None while it goes on."""
    if not found.over_B[0]:
        return None
    if found.code_B[0]:
        return "firm"
    return "given_up" if found.given_up_B[0] else "last_look"


def waiting_arms(protocol: Protocol, found: Replay) -> tuple[str, ...]:
    """Arms that are not ruled out and did not take part in the last look (or, while it goes on, do not in the next)."""
    ruled_A = np.concatenate([np.zeros(len(protocol.baselines), dtype=bool), found.ruled_out_BK[0]])
    # Once it is over nothing is active any more, so who waited is told by how far each arm was read.
    part_A = found.read_BA[0] == found.seeds_B[0] if found.over_B[0] else found.active_BA[0]
    return tuple(
        arm.name for arm, waits in zip(protocol.arms, ~part_A & ~ruled_A, strict=True) if waits and found.seeds_B[0]
    )


def requests_of(protocol: Protocol, runs: FamilyRuns, found: Replay, shards: int) -> Iterator[RunRequest]:
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


def family_runs(
    protocol: Protocol, table: ScoreTable | None, failed: Sequence[RunRequest], where: str | None
) -> FamilyRuns:
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
        return FamilyRuns(
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
    return FamilyRuns(table=whole, values_ASI=values_ASI, ran_AS=ran_AS, failed_AS=failed_AS)


def _check_known(word: str, name: str, known: Sequence[str], where: str | None) -> None:
    if name in known:
        return
    fix = "leave these rows out, or name the arm in the protocol before the first score is read"
    if word == "seed":
        fix = "run the protocol's seeds in their order, or name yours as `seeds` before the first score is read"
    raise ScoresError(
        f"{word} {name!r} is not in the protocol", where=where, expected="one of " + ", ".join(known), fix=fix
    )


def check_order(protocol: Protocol, runs: FamilyRuns, found: Replay, where: str | None, *, finished: bool) -> None:
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
