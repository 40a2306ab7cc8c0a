"""A study that stops when its verdict is firm: its protocols, where they stand, and what its verdict may read.

One ladder a model and target (`StudyLadder`). Its protocol follows from the study before the first score is read, and
where it stands from the stored scores alone: workers, finishing order and kills change nothing. What was run ahead of
need, or is still under way, is no part of the results (`Design.called`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from titrant.core.identity import fingerprint, plain
from titrant.core.records import Arm, LookTaken, NextStep, Verdict
from titrant.decision.protocol import Protocol, ProtocolArm, RunRequest, in_order, protocol_json
from titrant.decision.staged import NextRuns, looks_taken, next_runs_of_tables, told_with_looks
from titrant.experiment.design import Design, PlannedRun, overlap_at, verdict_size
from titrant.scoring.sheets import METRIC_WORDS, source_of
from titrant.stats.looks import FIRST_LOOK, ladder, level_of_repeated_tests
from titrant.stats.numbers import LostLevel, Unscored
from titrant.stats.table import ScoreTable
from titrant.storage.looks import BUDGET, LOOK, PROTOCOL, LookHistory, append_once, look_history
from titrant.storage.store import Store

CURVE_SEEDS = FIRST_LOOK
"""Arms that no verdict reads run at so many seeds once it is there: a curve over target sizes is no claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyLadder:
    """The protocol of one model and target of a study. `name` is that of all in it that holds the level: everything
    but costs, and the test items."""

    model: str
    target: str
    protocol: Protocol
    test_set: str

    @property
    def name(self) -> str:
        return fingerprint(self.fixed, length=24)

    @property
    def fixed(self) -> dict[str, Any]:
        """What must not change once a score was read. Costs decide nothing."""
        said = {key: value for key, value in protocol_json(self.protocol).items() if key != "costs"}
        return {**said, "test_set": self.test_set}


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderStanding:
    """Where a ladder stands. `verdict` is None before the first look, and where nobody asked for it."""

    ladder: StudyLadder
    found: NextRuns
    looks: tuple[LookTaken, ...]
    verdict: Verdict | None

    @property
    def over(self) -> bool:
        """Whether nothing more is run for it: it has ended by itself or by its budget."""
        return self.found.stop or self.found.ended == "budget"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmAtSeed:
    """An arm at a seed."""

    arm: Arm
    seed: int


# ----------------------------------------------------------------------------------------------------------- protocols


def ladders_of(design: Design) -> tuple[StudyLadder, ...]:
    """The ladders of a study, one a model and target, in the study's order."""
    prepared = design.prepared
    return tuple(ladder_of(design, model, target) for model in prepared.models for target in prepared.study.targets)


def ladder_of(design: Design, model: str, target: str) -> StudyLadder:
    """The ladder of one model and target."""
    prepared, study = design.prepared, design.prepared.study
    size, seeds = verdict_size(prepared, model, target), study.arms.seeds
    metric = study.targets[target].metric
    return StudyLadder(
        model=model,
        target=target,
        test_set=prepared.facts["test_set"],
        protocol=Protocol(
            arms=in_order(_protocol_arm(design, arm) for arm in family_arms(design, model, target)),
            smallest_effect=study.smallest_effect,
            seeds=tuple(map(str, seeds)),
            ladder=ladder(len(seeds)) if study.until == "firm" else (len(seeds),),
            metric=METRIC_WORDS.get(metric, metric),
            overlap=overlap_at(prepared, model, target, size),
            task_weights=study.targets[target].task_weights,
            target_rows=size,
        ),
    )


def family_arms(design: Design, model: str, target: str) -> tuple[Arm, ...]:
    """The arms that a verdict reads: the doses and baselines of its target size."""
    size = verdict_size(design.prepared, model, target)
    return tuple(
        arm for arm in design.arms if (arm.model, arm.target, arm.target_rows) == (model, target, size) and size
    )


def _protocol_arm(design: Design, arm: Arm) -> ProtocolArm:
    planned = design.cell(arm, design.prepared.study.arms.seeds[0])
    return ProtocolArm(
        name=arm.name,
        dose=arm.dose_rows,
        # Where all arms take as many steps, the arm without a dose is the matched baseline, and the only one.
        matched=arm.kind == "matched" or (not arm.doses and design.prepared.study.hold_equal == "steps"),
        source=source_of(arm),
        cost=float(tokens_of(planned)),
    )


def tokens_of(planned: PlannedRun) -> int:
    """What a run costs: tokens of training and of answers."""
    return planned.run.tokens + planned.requests.tokens


# ------------------------------------------------------------------------------------------------------------ standing


def standing_of(
    ladder: StudyLadder,
    tables: Mapping[str, ScoreTable],
    store: Store,
    *,
    failed: Sequence[RunRequest] = (),
    unscored: Unscored | None = None,
    shards: int = 1,
    budget_seeds: int | None = None,
    with_verdict: bool = True,
) -> LadderStanding:
    """Where a ladder stands on these tables of its family's arms, by eval set. `budget_seeds`: a budget ends it at so
    many seeds. `with_verdict` False leaves the verdict out."""
    history = look_history(store, ladder.model, ladder.target)
    found = next_runs_of_tables(
        ladder.protocol,
        tables,
        failed=failed,
        shards=shards,
        unscored=unscored,
        ordered=False,
        lost=lost_level(ladder, history),
        budget_seeds=budget_seeds,
        with_verdict=with_verdict,
    )
    looks = looks_taken(ladder.protocol, tables, failed=failed, budget_seeds=budget_seeds)
    verdict = None if found.verdict is None else told_with_looks(found.verdict, found, looks)
    return LadderStanding(ladder=ladder, found=found, looks=looks, verdict=verdict)


def failed_runs(
    design: Design,
    ladder: StudyLadder,
    history: LookHistory,
    failures: Mapping[str, str],
    *,
    tried: Collection[str] = (),
) -> list[RunRequest]:
    """Runs of the family that have no scores and never will: `failures` are the kinds of failure by run, of runs that
    are not finished. A loss that is no number would be none again; any other failure is tried again (once: `tried`
    were), unless a look has done without the run: scores that came later would change what was claimed."""
    done_without = {name for record in history.looks if record["protocol"] == ladder.name for name in record["failed"]}
    found = []
    for arm in family_arms(design, ladder.model, ladder.target):
        for seed in design.prepared.study.arms.seeds:
            run_id = design.cell(arm, seed).run.run_id
            kind = failures.get(run_id)
            final = kind == "non_finite" or run_id in tried or f"{arm.name} {seed}" in done_without
            if kind is not None and final:
                found.append(RunRequest(arm=arm.name, seed=str(seed)))
    return found


# -------------------------------------------------------------------------------------------------------------- ledger


def record_protocol(store: Store, ladder: StudyLadder) -> None:
    """Write down what is fixed, before the first score is read."""
    record = {
        "kind": PROTOCOL,
        "model": ladder.model,
        "target": ladder.target,
        "name": ladder.name,
        "protocol": ladder.fixed,
    }
    append_once(store, record)


def record_looks(store: Store, ladder: StudyLadder, looks: Iterable[LookTaken]) -> None:
    """Write down every look that is not in the ledger yet."""
    for look in looks:
        append_once(
            store,
            {
                "kind": LOOK,
                "model": ladder.model,
                "target": ladder.target,
                "protocol": ladder.name,
                "look": look.look,
                "seeds": list(ladder.protocol.seeds[: look.seeds]),
                "scores": look.fingerprint,
                "tails": plain(look.tails),
                "verdict": look.verdict,
                "better": list(look.better),
                "ruled_out": list(look.ruled_out),
                "waiting": list(look.waiting),
                "failed": list(look.failed),
            },
        )


def record_budget(store: Store, standing: LadderStanding, budget: str) -> None:
    """Write down that a budget ended the ladder where it stands."""
    ladder = standing.ladder
    append_once(
        store,
        {
            "kind": BUDGET,
            "model": ladder.model,
            "target": ladder.target,
            "protocol": ladder.name,
            "seeds": standing.found.seeds,
            "budget": budget,
        },
    )


def lost_level(ladder: StudyLadder, history: LookHistory) -> LostLevel | None:
    """Why the level no longer holds: another protocol was looked at first, on seeds that this one reads too. The one
    that was looked at first keeps its level, and so does one on seeds that nobody has looked at."""
    seeds = set(ladder.protocol.seeds)
    first = next((look for look in history.looks if seeds.intersection(look["seeds"])), None)
    if first is None or first["protocol"] == ladder.name:
        return None
    return LostLevel(
        reason=f"{_changes(history.protocols[first['protocol']], ladder.fixed)} after a look at "
        f"{len(first['seeds'])} seeds",
        next_step=fresh_seeds(ladder.protocol, history),
    )


_WORDS = {
    "smallest_effect": "the smallest effect",
    "level": "the level",
    "metric": "the metric",
    "task_weights": "the weights of tasks",
    "target_rows": "the target size",
    "estimand": "what the verdict is about",
    "overlap": "the share of target rows that a seed draws",
    "spending": "how error is spent",
    "ladder": "the looks",
    "seeds": "the seeds",
    "arms": "the arms",
    "test_set": "the test items",
}


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two protocols, in words; the most telling first."""
    if then["most"] != now["most"]:
        return f"at most {then['most']} seeds became {now['most']}"
    changed = [word for key, word in _WORDS.items() if then.get(key) != now.get(key)]
    numbers = [key for key in ("smallest_effect", "level", "metric") if then.get(key) != now.get(key)]
    if numbers:
        key = numbers[0]
        return f"{_WORDS[key]} changed from {then[key]} to {now[key]}"
    return f"{' and '.join(changed[:2])} changed"


def fresh_seeds(protocol: Protocol, history: LookHistory) -> NextStep:
    """As many seeds that nobody has looked at: on them the level holds again."""
    looked = {seed for look in history.looks for seed in look["seeds"]} | set(protocol.seeds)
    start = 1 + max((int(seed) for seed in looked if seed.isdecimal()), default=-1)
    names = [start, start + 1, "…", start + protocol.most - 1] if protocol.most > 3 else [*range(start, start + 3)]
    text = (
        f"Next: seeds that nobody has looked at, arms.seeds: [{', '.join(map(str, names))}]; on them the level holds."
    )
    return NextStep(kind="seeds", seeds=protocol.most, items=None, tokens=None, minutes=None, sentence=text)


# ------------------------------------------------------------------------------------------------------------ a grid


def grid_lost_level(ladder: StudyLadder, history: LookHistory) -> LostLevel | None:
    """Why a grid's level does not hold: other seeds were judged first, some of which it reads again. Where it grew from
    look to look, the level that does hold is known: that of so many tests at full tails on Brownian motion."""
    seeds = set(ladder.protocol.seeds)
    before: dict[frozenset[str], None] = {}
    for look in history.looks:
        read = frozenset(look["seeds"])
        if read == seeds:
            break
        if read & seeds:
            before[read] = None
    if not before:
        return None
    grew = [*before, frozenset(seeds)]
    counts = [len(read) for read in grew]
    text = f"judged at {' and '.join(map(str, counts[:-1]))} seeds before, and now at {counts[-1]}"
    alone = all(len(history.protocols[look["protocol"]]["ladder"]) == 1 for look in history.looks)
    if alone and all(one < other for one, other in pairwise(grew)):
        held = level_of_repeated_tests(tuple(counts), level=ladder.protocol.level)
        text += f"; so many tests together hold {held:.1%}, not {100 * ladder.protocol.level:g}%"
    return LostLevel(reason=text, next_step=fresh_seeds(ladder.protocol, history))


def record_grid(store: Store, ladder: StudyLadder, scores: str) -> None:
    """Write down that a grid was judged, once for the same seeds and scores."""
    record_protocol(store, ladder)
    append_once(
        store,
        {
            "kind": LOOK,
            "model": ladder.model,
            "target": ladder.target,
            "protocol": ladder.name,
            "look": 1,
            "seeds": list(ladder.protocol.seeds),
            "scores": scores,
            "failed": [],
        },
    )


# ------------------------------------------------------------------------------------------------- what may be read


def cells_read(
    design: Design, standings: Sequence[LadderStanding], *, there: Callable[[ArmAtSeed], bool]
) -> Iterator[ArmAtSeed]:
    """The arms and seeds that results may read: what the looks have read, the untuned model, and arms that no verdict
    reads, as `curves` says. `there`: whether such a run is done or has failed; nobody waits for it."""
    arms = {(arm.model, arm.target, arm.name): arm for arm in design.arms}
    for standing in standings:
        ladder = standing.ladder
        for run in standing.found.read:
            yield ArmAtSeed(arm=arms[(ladder.model, ladder.target, run.arm)], seed=int(run.seed))
    first = design.prepared.study.arms.seeds[0]
    yield from (ArmAtSeed(arm=arm, seed=first) for arm in design.arms if arm.kind == "untuned")
    yield from (cell for cell in curve_cells(design, standings) if there(cell))


def most_of(design: Design) -> Design:
    """The design with every run that a staged study may ask for: its families to the last look, the untuned models, and
    as many seeds of the arms that no verdict reads as `curves` gives them at most."""
    study = design.prepared.study
    judged = {arm for ladder in ladders_of(design) for arm in family_arms(design, ladder.model, ladder.target)}
    beside = {"never": 0, "after": CURVE_SEEDS, "with": len(study.arms.seeds)}[study.curves]
    return design.called(
        (arm, seed)
        for arm in design.arms
        for seed in study.arms.seeds[: 1 if arm.kind == "untuned" else None if arm in judged else beside]
    )


def curve_cells(design: Design, standings: Sequence[LadderStanding]) -> Iterator[ArmAtSeed]:
    """Arms that no verdict reads, at the seeds that `curves` gives them by now."""
    study = design.prepared.study
    judged = {
        (arm.model, arm.target, arm.name)
        for one in standings
        for arm in family_arms(design, one.ladder.model, one.ladder.target)
    }
    for arm in design.arms:
        if arm.kind == "untuned" or (arm.model, arm.target, arm.name) in judged:
            continue
        # An arm without a target of its own stands beside all targets of its model.
        mine = [one for one in standings if one.ladder.model == arm.model and arm.target in ("", one.ladder.target)]
        if study.curves == "with":
            count = max((one.found.next_seeds or one.found.seeds for one in mine), default=0)
        else:
            count = CURVE_SEEDS if study.curves == "after" and all(one.over for one in mine) else 0
        yield from (ArmAtSeed(arm=arm, seed=seed) for seed in study.arms.seeds[:count])
