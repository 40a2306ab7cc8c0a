"""One model and target of a study's results, with what several sections of the report need worked out once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from titrant.config.fields import Place
from titrant.config.target import Target
from titrant.core.records import Arm
from titrant.engines.job import checked_training
from titrant.experiment.answers import StoredAnswers
from titrant.experiment.collections import collection_places
from titrant.experiment.design import PlannedRun, overlap_at, sizes_of
from titrant.experiment.prepare import (
    KEPT_SET,
    LEARNED_SET,
    TARGET_SET,
    ModelData,
    TargetData,
    collection_hash,
    file_hash,
)
from titrant.experiment.results import FailedCell, Judged, Results, cells
from titrant.report.data import (
    NOT_RUN,
    FileFacts,
    Measure,
)
from titrant.scoring.sheets import GRADED
from titrant.stats.means import ArmMean, arm_means
from titrant.stats.table import ScoreTable
from titrant.storage.store import Store

GRADED_WORDS = "graded: the probability of a right answer among the choices"


@dataclass(frozen=True)
class View:
    """One model and target of the results, with what several sections need worked out once."""

    results: Results
    store: Store
    judged: Judged

    @cached_property
    def answers(self) -> StoredAnswers:
        """What the runs have answered."""
        return StoredAnswers(self.store)

    @cached_property
    def finished(self) -> dict[str, dict[str, Any]]:
        """The ledger's record of every finished run."""
        return self.store.finished()

    def training(self, planned: PlannedRun) -> list[dict[str, Any]]:
        """The step reports of a finished run, checked."""
        run_id = planned.run.run_id
        return checked_training(self.store, run_id, manifest=self.finished[run_id].get("manifest"))

    @cached_property
    def prepared(self) -> ModelData:
        return self.results.design.prepared.models[self.judged.model]

    @cached_property
    def data(self) -> TargetData:
        return self.prepared.targets[self.judged.target]

    @property
    def target(self) -> Target:
        """What the study says of the target."""
        return self.results.design.prepared.study.targets[self.judged.target]

    @cached_property
    def arms(self) -> tuple[Arm, ...]:
        """The arms of this model that were trained on this target or on none, in the design's order."""
        model, target = self.judged.model, self.judged.target
        return tuple(a for a in self.results.design.arms if a.model == model and a.target in ("", target))

    @cached_property
    def runs(self) -> dict[str, tuple[PlannedRun, ...]]:
        """The finished runs of every arm, by its name."""
        finished = self.finished
        found: dict[str, list[PlannedRun]] = {arm.name: [] for arm in self.arms}
        mine = set(self.arms)
        for arm, planned in cells(self.results.design):
            if arm in mine and planned.run.run_id in finished:
                found[arm.name].append(planned)
        return {name: tuple(runs) for name, runs in found.items()}

    @cached_property
    def failed(self) -> tuple[FailedCell, ...]:
        mine = set(self.arms)
        return tuple(cell for cell in self.results.failed if cell.arm in mine)

    @cached_property
    def tables(self) -> dict[str, ScoreTable | None]:
        """The scores on the metric that decides (under its name) and the graded ones, of the test items."""
        names = (self.judged.metric, GRADED)
        return {name: self.table(TARGET_SET, name) for name in names}

    def table(self, eval_set: str, metric: str) -> ScoreTable | None:
        return self.results.scores.table(self.judged.model, self.judged.target, eval_set, metric)

    def metric_of(self, measure: Measure) -> str:
        return GRADED if measure == "graded" else self.judged.metric

    @cached_property
    def means(self) -> dict[str, dict[str, ArmMean]]:
        """The mean of every arm by metric and name."""
        return {metric: self.means_of(table) for metric, table in self.tables.items()}

    def means_of(self, table: ScoreTable | None) -> dict[str, ArmMean]:
        if table is None:
            return {}
        overlaps = [self.overlap(arm.target_rows or 0) for arm in table.arms]
        weights = self.target.task_weights
        return {found.arm.name: found for found in arm_means(table, overlaps=overlaps, task_weights=weights)}

    def overlap(self, size: int) -> float:
        """n/N where the seeds draw their target rows from what there is (*rows like these*), else 0."""
        design = self.results.design
        return (overlap_at(design.prepared, self.judged.model, self.judged.target, size) or 0.0) if size else 0.0

    @cached_property
    def files(self) -> tuple[FileFacts, ...]:
        return _files(self)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        return sizes_of(self.results.design.prepared, self.judged.model, self.judged.target)

    def at(self, size: int) -> tuple[Arm, ...]:
        return tuple(arm for arm in self.arms if arm.target_rows == size)

    def plain(self, size: int) -> Arm | None:
        """The arm without a dose; where a study holds steps or tokens equal it is the matched one too."""
        without = [arm for arm in self.at(size) if not arm.doses]
        return next((arm for arm in without if arm.kind == "alone"), without[0] if without else None)

    def matched(self, size: int) -> Arm | None:
        plain = self.plain(size)
        return next((arm for arm in self.at(size) if not arm.doses and arm is not plain), None)

    def fair(self, size: int) -> Arm | None:
        """The baseline that a gain is measured from: the matched one where there is one."""
        return self.matched(size) or self.plain(size)

    @cached_property
    def shown(self) -> Arm | None:
        """The arm that stands for the dose: the recommended one, else the largest dose at the verdict's size."""
        verdict = self.judged.verdict
        dosed = [arm for arm in self.arms if arm.kind == "dosed"]
        named = [arm for arm in dosed if arm.name == verdict.arm]
        here = [arm for arm in dosed if arm.target_rows == verdict.target_rows] or dosed
        return named[0] if named else max(here, key=lambda arm: arm.dose_rows, default=None)

    def missing(self, arm: Arm) -> str:
        """Why an arm has no scores."""
        failed = [cell.failure for cell in self.failed if cell.arm == arm]
        if not failed:
            return NOT_RUN
        return f"no run of this arm was finished: {failed[0].kind}"


def mean_of(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def labels_of(data: TargetData) -> tuple[str, ...]:
    """The closed set of answers that a written answer should be one of; empty where rows have no labels."""
    if data.labels:
        return data.labels
    found = {row.label for row in data.train}
    return tuple(sorted(label for label in found if label is not None)) if None not in found else ()


def _files(view: View) -> tuple[FileFacts, ...]:
    """The files that this model and target were trained and asked with."""
    prepared = view.results.design.prepared
    study, data = prepared.study, view.data
    said = study.targets[view.judged.target]
    listed: list[tuple[str, Place | None, int, str | None]] = [
        ("target, training", said.train, len(data.train), None),
        ("target, test", said.test, len(data.test), None),
        ("target, facts", None if said.facts is None else said.facts.rows, len(data.train) + len(data.test), None),
        ("target, training and test", said.rows, len(data.train) + len(data.test) + len(data.validation), None),
    ]
    if said.collection is not None:
        rows = len(data.train) + len(data.test) + len(data.validation)
        listed += [("target, collection", place, rows, None) for place in collection_places(said.collection)[:1]]
    if isinstance(said.validation, Place):
        listed.append(("target, validation", said.validation, len(data.validation), None))
    for name in study.generalist:
        pool = view.prepared.pools[name]
        listed.append((f"pool {name}", pool.place, pool.read, pool.licence))
    for use, place, eval_set in (
        ("retention, kept", study.retention.kept, KEPT_SET),
        ("retention, learned", study.retention.learned, LEARNED_SET),
    ):
        listed.append((use, place, sum(item.eval_set == eval_set for item in prepared.retention), None))
    return tuple(
        FileFacts(
            use=use,
            path=place.written,
            rows=rows,
            fingerprint=collection_hash(said.collection, place)
            if said.collection is not None and use == "target, collection"
            else file_hash(str(place)),
            licence=licence,
        )
        for use, place, rows, licence in listed
        if place is not None
    )
