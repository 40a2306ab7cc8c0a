"""Running a study until its verdict is firm: ask what the next look lacks, run it, ask again.

What is asked for follows from the stored scores and the protocol alone (`stages`). Workers that the next look would
leave idle run seeds of the look after it, of arms that go on; a verdict never reads them before their turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from titrant.core.budget import Budget
from titrant.core.errors import SpecError
from titrant.decision.protocol import RunRequest
from titrant.experiment.design import Design, PlannedRun
from titrant.experiment.stages import (
    Cell,
    Standing,
    StudyLadder,
    curve_cells,
    ladders_of,
    record_budget,
    record_looks,
    record_protocol,
    tokens_of,
)
from titrant.experiment.standings import Collector
from titrant.storage.store import TIMING, Store, read_sealed

Execute = Callable[[Design], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Runs to do now, and what they lead to."""

    cells: tuple[Cell, ...]
    standings: tuple[Standing, ...]


def climb(
    design: Design,
    store: Store,
    *,
    execute: Execute,
    workers: Callable[[int], int],
    say: Callable[[str], None],
    budget: Budget | None = None,
    before: Iterable[PlannedRun] = (),
) -> tuple[Standing, ...]:
    """Run the study's ladders until each is over, or the budget is spent; where they stand then.

    `execute` does all runs of a design and returns; `workers` says how many it does at a time. `before` are runs that
    were done to choose settings: a budget counts them too.
    """
    ladders = ladders_of(design)
    with store.locked("looks"):
        for ladder in ladders:
            record_protocol(store, ladder)
    scores = Collector(design, store)
    purse = _Purse(design=design, store=store, budget=budget, workers=workers, before=tuple(before))
    purse.refuse_too_small(ladders)
    tried: set[str] = set()
    said: dict[tuple[str, str], int] = {}
    while True:
        asked = _ask(design, store, scores, ladders, purse, tried, workers)
        for standing in asked.standings:
            _tell(standing, said, say)
        if not asked.cells:
            return asked.standings
        execute(design.called((cell.arm, cell.seed) for cell in asked.cells))
        # A run that fails in this sitting is not tried again and again: the ladder goes on without it.
        tried |= {design.cell(cell.arm, cell.seed).run.run_id for cell in asked.cells}


def _ask(
    design: Design,
    store: Store,
    scores: Collector,
    ladders: Sequence[StudyLadder],
    purse: _Purse,
    tried: set[str],
    workers: Callable[[int], int],
) -> _Asked:
    """Where the ladders stand, and what to run next: for their next looks, as far as the budget goes."""
    # Under a lock: several who run one study ask after each other, so that each look is written down once, and by one
    # who saw every run that had ended.
    with store.locked("looks"):
        scores.refresh()
        standings = tuple(scores.standing(ladder, tried=tried) for ladder in ladders)
        for standing in standings:
            record_looks(store, standing)
        going = [standing for standing in standings if not standing.found.stop]
        if going and not purse.pays_for_next_look(standings):
            for standing in going:
                if standing.verdict is not None:
                    record_budget(store, standing, str(purse.budget))
            standings = tuple(scores.standing(ladder, tried=tried) for ladder in ladders)
            return _Asked(cells=(), standings=standings)
        cells = _next_cells(design, scores, going, tried, workers)
        beside = _beside(design, standings)
        # A budget that the verdict has used up buys no curves after it; the untuned model is counted from the start.
        if going or purse.pays_for([design.cell(cell.arm, cell.seed) for cell in beside], standings):
            cells += [cell for cell in beside if not scores.known(cell, tried=tried)]
    return _Asked(cells=tuple(cells), standings=standings)


def _beside(design: Design, standings: Sequence[Standing]) -> list[Cell]:
    """The untuned models, which are only asked, and arms that no verdict reads, when their turn has come."""
    first = design.prepared.study.arms.seeds[0]
    untuned = [Cell(arm=arm, seed=first) for arm in design.arms if arm.kind == "untuned"]
    return [*untuned, *curve_cells(design, standings)]


def _next_cells(
    design: Design,
    scores: Collector,
    going: Sequence[Standing],
    tried: set[str],
    workers: Callable[[int], int],
) -> list[Cell]:
    """What the next looks lack, and as many runs of the looks after them as keep every worker busy."""
    found = [_cells(design, standing.ladder, standing.found.next) for standing in going]
    needed = sum(map(len, found))
    if not needed:
        return []
    count = workers(needed)
    idle = -needed % count
    if idle:
        # All of them from one ladder: which one runs ahead changes no verdict.
        most = max(range(len(going)), key=lambda place: len(found[place]))
        ladder = going[most].ladder
        ahead = scores.standing(ladder, tried=tried, shards=len(found[most]) + idle)
        found[most] = _cells(design, ladder, ahead.found.next)
    return [cell for cells in found for cell in cells]


def _cells(design: Design, ladder: StudyLadder, runs: Iterable[RunRequest]) -> list[Cell]:
    arms = {arm.name: arm for arm in design.arms if (arm.model, arm.target) == (ladder.model, ladder.target)}
    return [Cell(arm=arms[run.arm], seed=int(run.seed)) for run in runs]


def _tell(standing: Standing, said: dict[tuple[str, str], int], say: Callable[[str], None]) -> None:
    """A line for every look when it has been taken."""
    place = (standing.ladder.model, standing.ladder.target)
    for look in standing.looks[said.get(place, 0) :]:
        share = 100 * look.spent.cost / standing.found.grid_cost
        out = f", ruled out: {', '.join(look.ruled_out)}" if look.ruled_out else ""
        waits = f", waiting: {', '.join(look.waiting)}" if look.waiting else ""
        say(
            f"look {look.look} of {standing.found.looks}, {look.seeds} seeds: {look.verdict.replace('_', ' ')} after "
            f"{look.spent.runs} runs, {share:.0f}% of the grid{out}{waits}"
        )
    said[place] = len(standing.looks)


# -------------------------------------------------------------------------------------------------------------- budget


@dataclass(frozen=True, slots=True, kw_only=True)
class _Purse:
    """What may be spent, and what was. Counted are the runs that the ladders asked for, and never runs done ahead of
    need: so a budget in tokens or runs ends a study at the same look, however many workers there are."""

    design: Design
    store: Store
    budget: Budget | None
    workers: Callable[[int], int]
    before: tuple[PlannedRun, ...]

    def refuse_too_small(self, ladders: Sequence[StudyLadder]) -> None:
        """A budget that ends before the first look buys no verdict, and is refused before it is spent. One in minutes
        cannot be told before something has run."""
        if self.budget is None or self.budget.unit == "minutes":
            return
        seeds = self.design.prepared.study.arms.seeds
        runs = [
            self.design.cell(cell.arm, cell.seed)
            for ladder in ladders
            for seed in seeds[: ladder.protocol.ladder[0]]
            for cell in _cells(
                self.design, ladder, [RunRequest(arm=arm.name, seed=str(seed)) for arm in ladder.protocol.arms]
            )
        ]
        needed = self._amount([*self._fixed(), *runs])
        if needed > self.budget.amount:
            raise SpecError(
                "the budget ends before the first look",
                where="--budget",
                got=str(self.budget),
                expected=f"at least {needed:,.0f} {self.budget.unit}, for every arm at {ladders[0].protocol.ladder[0]} "
                "seeds",
                fix="a larger budget, or fewer doses",
            )

    def pays_for_next_look(self, standings: Sequence[Standing]) -> bool:
        """Whether the next look of every ladder that goes on fits in."""
        if self.budget is None:
            return True
        going = [standing for standing in standings if not standing.found.stop]
        # The screen and the first look are bought together: before it there is no verdict to end with.
        if any(not standing.found.look for standing in going) and self.budget.unit != "minutes":
            return True
        runs = [
            self.design.cell(cell.arm, cell.seed)
            for standing in going
            for cell in _cells(self.design, standing.ladder, standing.found.needed)
        ]
        fits = self.pays_for(runs, standings)
        if not fits and any(standing.verdict is None for standing in standings):
            raise SpecError(
                "the budget ended before the first look",
                where="--budget",
                got=str(self.budget),
                expected=f"about {self._amount([*self._spent(standings), *runs]):.1f} minutes",
                fix="the same command with a larger budget: what was run is kept",
            )
        return fits

    def pays_for(self, runs: Sequence[PlannedRun], standings: Sequence[Standing]) -> bool:
        """Whether these runs fit into what is left."""
        return self.budget is None or self._amount([*self._spent(standings), *runs]) <= self.budget.amount

    def _fixed(self) -> list[PlannedRun]:
        untuned = [planned for planned in self.design.distinct if planned.run.arm.kind == "untuned"]
        return [*untuned, *self.before]

    def _spent(self, standings: Sequence[Standing]) -> list[PlannedRun]:
        return [
            *self._fixed(),
            *(
                self.design.cell(cell.arm, cell.seed)
                for standing in standings
                for cell in _cells(self.design, standing.ladder, standing.found.read)
            ),
        ]

    def _amount(self, runs: Sequence[PlannedRun]) -> float:
        """What runs come to in the budget's unit, each once."""
        distinct = {planned.run.run_id: planned for planned in runs}
        assert self.budget is not None
        if self.budget.unit == "runs":
            return float(len(distinct))
        if self.budget.unit == "tokens":
            return float(sum(map(tokens_of, distinct.values())))
        took = {run_id: self._seconds(run_id) for run_id in distinct}
        known = [(seconds, tokens_of(distinct[run_id])) for run_id, seconds in took.items() if seconds is not None]
        rate = sum(seconds for seconds, _ in known) / max(sum(tokens for _, tokens in known), 1)
        total = sum(
            rate * tokens_of(distinct[run_id]) if seconds is None else seconds for run_id, seconds in took.items()
        )
        return total / 60 / self.workers(max(len(distinct), 1))

    def _seconds(self, run_id: str) -> float | None:
        """What a run took; None where it is not finished."""
        timing = self.store.run_folder(run_id) / TIMING
        if not timing.is_file():
            return None
        times = read_sealed(timing)
        return float(times["training_seconds"] + times["answering_seconds"])
