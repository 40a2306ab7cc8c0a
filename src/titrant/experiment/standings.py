"""The scores of a study while it runs, and where its ladders stand on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from titrant.core.records import Arm
from titrant.experiment.answers import StoredAnswers
from titrant.experiment.design import Design
from titrant.experiment.results import Scorers, cells, failures_by_run, family_tables, unscored_items
from titrant.experiment.stages import (
    ArmAtSeed,
    LadderStanding,
    StudyLadder,
    cells_read,
    failed_runs,
    ladders_of,
    standing_of,
)
from titrant.scoring.sheets import RunScores, Scores
from titrant.storage.looks import look_history
from titrant.storage.store import Store

_Key = tuple[str, str, str, int]


class Collector:
    """The scores of a store's finished runs, each made once: a finished run never changes, and a study that stops by
    itself is looked at after every few."""

    def __init__(self, design: Design, store: Store) -> None:
        self._design, self._store = design, store
        self._scorers = Scorers(design)
        self._runs: dict[_Key, RunScores] = {}
        self._failures: Mapping[str, str] = {}
        self._tried: Collection[str] = ()
        self._failed_before = _times_failed(store)
        self.refresh()

    def refresh(self) -> None:
        """Read what has ended since the last time."""
        answers = StoredAnswers(self._store)
        for arm, planned in cells(self._design):
            key = _key(arm, planned.run.seed)
            if key not in self._runs and not answers.missing(planned):
                self._runs[key] = self._scorers.of(arm).score(answers.of(planned.run.run_id), arm=arm, run=planned.run)
        self._failures = {
            run_id: record["failure"]["kind"]
            for run_id, record in failures_by_run(self._store).items()
            if not answers.is_finished(run_id)
        }
        self._tried = {
            run_id for run_id, times in _times_failed(self._store).items() if times > self._failed_before.get(run_id, 0)
        }

    def standing(
        self,
        ladder: StudyLadder,
        *,
        shards: int = 1,
        budget_seeds: int | None = None,
    ) -> LadderStanding:
        """Where a ladder stands, without its verdict. `budget_seeds` are those at which a budget ends it."""
        scores, prepared = Scores(self._runs.values()), self._design.prepared
        metric = prepared.study.targets[ladder.target].metric
        return standing_of(
            ladder,
            family_tables(scores, prepared, ladder.model, ladder.target, size=ladder.protocol.target_rows),
            self._store,
            failed=failed_runs(
                self._design,
                ladder,
                look_history(self._store, ladder.model, ladder.target),
                self._failures,
                tried=self._tried,
            ),
            unscored=unscored_items(scores, ladder.model, ladder.target, metric),
            shards=shards,
            budget_seeds=budget_seeds,
            with_verdict=False,
        )

    def known(self, cell: ArmAtSeed) -> bool:
        """Whether a run is done, or has failed for good."""
        run_id = self._design.cell(cell.arm, cell.seed).run.run_id
        kind = self._failures.get(run_id)
        return (
            _key(cell.arm, cell.seed) in self._runs
            or kind == "non_finite"
            or (kind is not None and run_id in self._tried)
        )


def as_read(design: Design, store: Store) -> Design:
    """The design with the runs that its results may read: of a grid all; of a staged study those that its looks have
    read, and what stands beside them."""
    if design.prepared.study.until != "firm":
        return design
    scores = Collector(design, store)
    standings = [
        scores.standing(
            ladder, budget_seeds=look_history(store, ladder.model, ladder.target).budget_seeds.get(ladder.name)
        )
        for ladder in ladders_of(design)
    ]
    return design.called((cell.arm, cell.seed) for cell in cells_read(design, standings, there=scores.known))


def _times_failed(store: Store) -> Counter[str]:
    return Counter(record["run_id"] for record in store.records() if record.get("kind") == "failure")


def _key(arm: Arm, seed: int) -> _Key:
    return arm.model, arm.target, arm.name, seed
