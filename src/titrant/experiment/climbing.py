"""Running a study until its verdict is firm: ask what the next look lacks, run it, ask again.

What is asked for follows from the stored scores and the protocol alone (`stages`). Workers that the next look would
leave idle run seeds of the look after it, of arms that go on; a verdict never reads them before their turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from titrant.core.budget import Budget
from titrant.core.errors import SpecError
from titrant.core.records import Spent
from titrant.decision.protocol import RunRequest
from titrant.experiment.design import Design, PlannedRun
from titrant.experiment.stages import (
    ArmAtSeed,
    LadderStanding,
    StudyLadder,
    curve_cells,
    ladders_of,
    record_budget,
    record_looks,
    record_protocol,
    tokens_of,
)
from titrant.experiment.standings import Collector
from titrant.storage.looks import look_history
from titrant.storage.manifests import TIMING
from titrant.storage.sealed import read_sealed
from titrant.storage.store import Store

Ask = Callable[[], Design]
"""What to run now: a design whose runs are all that is asked for, in order of need; none when the study is over. It may
name runs that are under way."""


def climb(
    design: Design,
    store: Store,
    *,
    drive: Callable[[Ask], None],
    workers: Callable[[int], int],
    say: Callable[[str], None],
    budget: Budget | None = None,
    before: Iterable[PlannedRun] = (),
    curves: bool = True,
) -> tuple[LadderStanding, ...]:
    """Run the study's ladders until each is over, or the budget is spent; where they stand then.

    `drive` does what it is told to by asking, again and again, until nothing is named; `workers` says how many runs it
    does at a time. `before` are runs that were done to choose settings: a budget counts them too. `curves` False leaves
    out arms that no verdict reads.
    """
    ladders = ladders_of(design)
    with store.locked("looks"):
        for ladder in ladders:
            record_protocol(store, ladder)
    purse = _Purse(design=design, store=store, budget=budget, workers=workers, before=tuple(before))
    purse.refuse_too_small(ladders)
    climber = _Climber(
        design=design, store=store, ladders=ladders, purse=purse, workers=workers, say=say, curves=curves
    )
    drive(climber.ask)
    return climber.standings


class _Climber:
    """Whoever asks what to run: it remembers what it has said, and nothing that decides."""

    def __init__(
        self,
        *,
        design: Design,
        store: Store,
        ladders: Sequence[StudyLadder],
        purse: _Purse,
        workers: Callable[[int], int],
        say: Callable[[str], None],
        curves: bool,
    ) -> None:
        self._design, self._store, self._ladders, self._purse = design, store, ladders, purse
        self._workers, self._say, self._curves = workers, say, curves
        self._scores = Collector(design, store)
        self._told: dict[tuple[str, str], int] = {}
        self._asked: tuple[int, Design] | None = None
        self.standings: tuple[LadderStanding, ...] = ()

    def ask(self) -> Design:
        """What is to be run now."""
        # Under a lock: several who run one study ask after each other, so that each look is written down once, and by
        # one who saw every run that had ended.
        with self._store.locked("looks"):
            # A worker that waits asks five times a second; nothing changes but by a line of the ledger.
            length = self._store.ledger_path.stat().st_size
            if self._asked is None or self._asked[0] != length:
                # The length of before: a run that ends meanwhile may not have been seen, and is worth naming anew.
                self._asked = (length, self._named())
            return self._asked[1]

    def _named(self) -> Design:
        self._scores.refresh()
        self.standings = self._ended_by_the_budget([self._scores.standing(ladder) for ladder in self._ladders])
        for standing in self.standings:
            record_looks(self._store, standing.ladder, standing.looks)
            if standing.found.ended == "budget":
                record_budget(self._store, standing, str(self._purse.budget))
            self._tell(standing)
        going = [standing for standing in self.standings if not standing.over]
        cells = self._next_cells(going)
        beside = _untuned(self._design) + (list(curve_cells(self._design, self.standings)) if self._curves else [])
        # A budget that the verdict has used up buys no curves after it; the untuned model is counted from the start.
        if going or self._purse.pays_for_all(beside, self.standings):
            cells += [cell for cell in beside if not self._scores.known(cell)]
        return self._design.called((cell.arm, cell.seed) for cell in cells)

    def _ended_by_the_budget(self, reached: Sequence[LadderStanding]) -> tuple[LadderStanding, ...]:
        """The same, but that none goes further than the budget: who ran ahead must not decide where it ends."""
        return tuple(
            standing
            if end is None
            else self._scores.standing(standing.ladder, budget_seeds=standing.looks[end - 1].seeds)
            for standing, end in zip(reached, self._purse.ends(reached), strict=True)
        )

    def _next_cells(self, going: Sequence[LadderStanding]) -> list[ArmAtSeed]:
        """What the next looks lack, and as many runs of the looks after them as keep every worker busy."""
        found = [_cells(self._design, standing.ladder, standing.found.next) for standing in going]
        needed = sum(map(len, found))
        if not needed:
            return []
        idle = -needed % self._workers(needed)
        if not idle:
            return [cell for cells in found for cell in cells]
        # All that run ahead are of one ladder: which one it is changes no verdict.
        most = max(range(len(going)), key=lambda place: len(found[place]))
        ladder = going[most].ladder
        ahead = self._scores.standing(ladder, shards=len(found[most]) + idle)
        extra = _cells(self._design, ladder, ahead.found.next)[len(found[most]) :]
        return [*(cell for cells in found for cell in cells), *extra]

    def _tell(self, standing: LadderStanding) -> None:
        """A line for every look when it has been taken."""
        place = (standing.ladder.model, standing.ladder.target)
        for look in standing.looks[self._told.get(place, 0) :]:
            share = 100 * look.spent.cost / standing.found.grid_cost
            out = f", ruled out: {', '.join(look.ruled_out)}" if look.ruled_out else ""
            waits = f", waiting: {', '.join(look.waiting)}" if look.waiting else ""
            self._say(
                f"look {look.look} of {standing.found.looks}, {look.seeds} seeds: {look.verdict.replace('_', ' ')} "
                f"after {look.spent.runs} runs, {share:.0f}% of the grid{out}{waits}"
            )
        self._told[place] = len(standing.looks)


def _untuned(design: Design) -> list[ArmAtSeed]:
    """The untuned models, which are only asked: once each, and cheap."""
    first = design.prepared.study.arms.seeds[0]
    return [ArmAtSeed(arm=arm, seed=first) for arm in design.arms if arm.kind == "untuned"]


def _cells(design: Design, ladder: StudyLadder, runs: Iterable[RunRequest]) -> list[ArmAtSeed]:
    arms = {arm.name: arm for arm in design.arms if (arm.model, arm.target) == (ladder.model, ladder.target)}
    return [ArmAtSeed(arm=arms[run.arm], seed=int(run.seed)) for run in runs]


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
        firsts = [
            Spent(
                runs=len(ladder.protocol.arms) * ladder.protocol.ladder[0],
                cost=sum(arm.cost for arm in ladder.protocol.arms) * ladder.protocol.ladder[0],
            )
            for ladder in ladders
        ]
        self._refuse_before_the_first_look(self._amount([self._fixed(), *firsts]), "at least")

    def ends(self, reached: Sequence[LadderStanding]) -> tuple[int | None, ...]:
        """At which look the budget ends each ladder; None for those that go on or have ended by themselves.

        Ladders take their looks in rounds, each its next one, and a round that does not fit in is the end for all. So
        the end follows from what looks cost, and not from who ran ahead. Looks that are written down stay: they have
        been paid for.
        """
        last = self._last_round(reached)
        if last is None:
            return (None,) * len(reached)
        ends: list[int | None] = []
        for standing in reached:
            ladder = standing.ladder
            written = look_history(self.store, ladder.model, ladder.target).looks_of(ladder.name)
            end = max(last, written)
            if not end:
                needed = self._amount(
                    [self._fixed(), *(self._up_to(one, 1) or Spent(runs=0, cost=0.0) for one in reached)]
                )
                self._refuse_before_the_first_look(needed, "about")
            # Where the ladder has not come to that look yet it goes on; where it ended before, it needs no budget.
            over = standing.found.stop and len(standing.looks) <= end
            ends.append(None if over or len(standing.looks) < end else end)
        return tuple(ends)

    def pays_for_all(self, cells: Sequence[ArmAtSeed], standings: Sequence[LadderStanding]) -> bool:
        """Whether these runs fit in beside what the ladders have spent."""
        if self.budget is None:
            return True
        planned = {id(one): one for one in (self.design.cell(cell.arm, cell.seed) for cell in cells)}
        untuned = {id(one) for one in self._untuned()}
        beside = _sum(one for key, one in planned.items() if key not in untuned)
        spent = [standing.looks[-1].spent for standing in standings if standing.looks]
        return self._amount([self._fixed(), beside, *spent]) <= self.budget.amount

    def _last_round(self, reached: Sequence[LadderStanding]) -> int | None:
        """The last round of looks that fits in; None where all that are known, and the next one, do."""
        if self.budget is None:
            return None
        for number in range(1, 1 + max(standing.found.looks for standing in reached)):
            spent = [self._up_to(standing, number) for standing in reached]
            if any(one is None for one in spent):
                return None
            if self._amount([self._fixed(), *(one for one in spent if one is not None)]) > self.budget.amount:
                return number - 1
        return None

    def _up_to(self, standing: LadderStanding, number: int) -> Spent | None:
        """What a ladder has spent by its look of this number, taken or the next; None where nobody knows yet."""
        looks = standing.looks
        if number <= len(looks):
            return looks[number - 1].spent
        if standing.found.stop:
            return looks[-1].spent
        if number > len(looks) + 1:
            return None
        before = looks[-1].spent if looks else Spent(runs=0, cost=0.0)
        cost = {arm.name: arm.cost for arm in standing.ladder.protocol.arms}
        # Before the first look the screen has to be bought too, and whoever it sets aside is not known yet: all arms.
        needed = [run.arm for run in standing.found.needed]
        if not looks:
            seeds = standing.ladder.protocol.ladder[0]
            needed = [arm for arm in cost for _ in range(seeds)]
        return Spent(runs=before.runs + len(needed), cost=before.cost + sum(cost[arm] for arm in needed))

    def _refuse_before_the_first_look(self, needed: float, word: str) -> None:
        assert self.budget is not None
        if needed <= self.budget.amount:
            return
        raise SpecError(
            "the budget ends before the first look",
            where="--budget",
            got=str(self.budget),
            expected=f"{word} {needed:,.{1 if self.budget.unit == 'minutes' else 0}f} {self.budget.unit}",
            fix="a larger budget (what was run is kept), or fewer doses",
        )

    def _untuned(self) -> list[PlannedRun]:
        return [planned for planned in self.design.distinct if planned.run.arm.kind == "untuned"]

    def _fixed(self) -> Spent:
        """The untuned models, and the runs that chose the settings."""
        return _sum([*self._untuned(), *self.before])

    def _amount(self, spent: Sequence[Spent]) -> float:
        """What comes together, in the budget's unit."""
        assert self.budget is not None
        if self.budget.unit == "runs":
            return float(sum(one.runs for one in spent))
        tokens = sum(one.cost for one in spent)
        return tokens if self.budget.unit == "tokens" else tokens * self._minutes_a_token()

    def _minutes_a_token(self) -> float:
        """Minutes of the clock for a token, as the runs that are finished took; 0 before the first."""
        seconds = tokens = 0.0
        for planned in self.design.distinct:
            timing = self.store.run_folder(planned.run.run_id) / TIMING
            if timing.is_file():
                times = read_sealed(timing)
                seconds += times["training_seconds"] + times["answering_seconds"]
                tokens += tokens_of(planned)
        return seconds / 60 / max(tokens, 1.0) / self.workers(len(self.design.distinct))


def _sum(runs: Iterable[PlannedRun]) -> Spent:
    """What runs take, each once."""
    distinct = {planned.run.run_id: planned for planned in runs}.values()
    return Spent(runs=len(distinct), cost=float(sum(map(tokens_of, distinct))))
