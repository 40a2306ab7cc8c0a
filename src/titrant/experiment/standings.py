"""The scores of a study while it runs, and where its ladders stand on them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from titrant.core.records import Arm
from titrant.experiment.answers import StoredAnswers
from titrant.experiment.design import Design
from titrant.experiment.results import Scorers, cells, failures_by_run, family_tables, unscored_items
from titrant.experiment.stages import ArmAtSeed, Standing, StudyLadder, cells_read, failed_runs, ladders_of, standing_of
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

    def standing(
        self,
        ladder: StudyLadder,
        *,
        tried: Collection[str] = (),
        shards: int = 1,
        budget_seeds: int | None = None,
    ) -> Standing:
        """Where a ladder stands. `tried` are runs that failed in this sitting, whatever the kind; `budget_seeds` those
        at which a budget ends it."""
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
                tried=tried,
            ),
            unscored=unscored_items(scores, ladder.model, ladder.target, metric),
            shards=shards,
            budget_seeds=budget_seeds,
        )

    def known(self, cell: ArmAtSeed, *, tried: Collection[str] = ()) -> bool:
        """Whether a run is done, or has failed for good."""
        run_id = self._design.cell(cell.arm, cell.seed).run.run_id
        kind = self._failures.get(run_id)
        return _key(cell.arm, cell.seed) in self._runs or kind == "non_finite" or (kind is not None and run_id in tried)


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


def _key(arm: Arm, seed: int) -> _Key:
    return arm.model, arm.target, arm.name, seed
