"""A study's runs one by one, for who runs a grid of their own: planned, chosen, run and scored, without a verdict.

`titrant.run` knows the order of a whole study; a `Grid` leaves the order to its user. Both work on the same folder of
results, so what one has done the other finds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from titrant.config.study import Study
from titrant.core.errors import ScoresError, SpecError
from titrant.core.plugins import extension_of, is_path_to_code, load_extension
from titrant.core.records import PreparedModel, TrainingSettings
from titrant.engines import BackendSpec, Event
from titrant.engines.job import checked_training
from titrant.experiment.answers import StoredAnswers
from titrant.experiment.design import PlannedRun, make_design
from titrant.experiment.prepare import PreparedStudy
from titrant.experiment.progress import TerminalReporter, reporter_of
from titrant.experiment.results import scores_parquet
from titrant.experiment.runner import Reporter, engine_of, execute_runs, refuse_other_numerics, replace_seeds
from titrant.experiment.work import each_once
from titrant.scoring.metrics import BATCH_METRICS, METRICS
from titrant.scoring.sheets import Scores, Sheet, SheetScorer
from titrant.storage.folder import MARKER
from titrant.storage.manifests import TIMING
from titrant.storage.sealed import read_sealed
from titrant.storage.store import Store

if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStep:
    """One optimiser step as it was logged. `loss` is in nats, before the step moved the weights; `loss_by_source` its
    parts by pool (or target), which add up to it; `tokens` those of the step."""

    step: int
    loss: float
    loss_by_source: Mapping[str, float]
    gradient_norm: float
    learning_rate: float
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLog:
    """How a finished run went: its steps in order (none for the untuned model), and its times on the machine where it
    was made. Times are of the run's first training and answers; requests that came later are not in them."""

    steps: tuple[TrainingStep, ...]
    training_seconds: float
    answering_seconds: float
    peak_memory_bytes: int


class Grid:
    """A study that has been read, and the folder of its results. Made by `titrant.grid`.

    `study` is the study; `models` holds its models by name, as they were prepared; `out` is the folder; `backend` the
    name of what trains, as it stands in every run's name.
    """

    def __init__(self, prepared: PreparedStudy, *, out: Path, spec: BackendSpec) -> None:
        self._prepared, self._spec = prepared, spec
        self._scorers: dict[tuple[str, str], SheetScorer] = {}
        self.out = out
        self.backend = spec.identity

    @property
    def study(self) -> Study:
        """The study as it was read."""
        return self._prepared.study

    @property
    def models(self) -> Mapping[str, PreparedModel]:
        """The study's models by name."""
        return {name: entry.model for name, entry in self._prepared.models.items()}

    def runs(
        self,
        *,
        seeds: Sequence[int] | None = None,
        settings: TrainingSettings | Callable[[str, str, str], TrainingSettings] | None = None,
    ) -> tuple[PlannedRun, ...]:
        """Every arm at every seed, the untuned model once; nothing is trained or written.

        `seeds`: in place of the study's; arms stay as they are (a dose in tokens keeps the rows that fit at the study's
        seeds). `settings`: of all arms, or a function of (model, target, arm name), whose target is empty for arms that
        serve every target; by default the study's. `SpecError` where the study leaves several settings to choice
        (`grid.study.candidates()`) and none is given; `MixError` for an arm that cannot be drawn.
        """
        study = self.study
        if settings is None and study.needs_choosing:
            raise SpecError(
                f"{len(study.candidates())} settings stand to choice, and a grid chooses none by itself",
                where=study.place,
                fix="grid.runs(settings=one of grid.study.candidates(), or a function of model, target and arm)",
            )
        prepared = self._prepared if seeds is None else replace_seeds(self._prepared, tuple(seeds))
        if isinstance(settings, TrainingSettings):
            of_all = settings
            return make_design(prepared, lambda model, target, arm: of_all).runs
        return make_design(prepared, settings).runs

    def left(self, runs: Iterable[PlannedRun]) -> tuple[PlannedRun, ...]:
        """Those of these runs that lack answers in the folder, in their order."""
        if not (self.out / MARKER).is_file():
            return tuple(runs)
        answers = StoredAnswers(Store.open(self.out))
        return tuple(planned for planned in runs if answers.missing(planned))

    def run(
        self,
        runs: Sequence[PlannedRun],
        *,
        engine: Any = None,
        reporter: Reporter | Callable[[Event], None] | None = None,
    ) -> tuple[PlannedRun, ...]:
        """Train and answer those of these runs that are not done, in their order; returns those that failed.

        `engine` and `reporter` as in `titrant.run`. Work that was interrupted goes on where it was. Raises
        `Interrupted` on a signal, `StoreMismatch` where the folder holds these runs by another backend or under other
        numerics.
        """
        worker = engine_of(self.study, engine)
        told = reporter_of(reporter)
        store = Store.open(self.out)
        refuse_other_numerics(store, runs)
        every = {planned.run.run_id for planned in runs if planned.run.steps}
        try:
            execute_runs(
                each_once(runs),
                self._prepared,
                store=store,
                backend=self._spec,
                engine=worker,
                reporter=told,
                keep=every if self.study.keep_weights == "all" else frozenset(),
            )
        finally:
            if isinstance(told, TerminalReporter):
                told.close()
        return self.left(runs)

    def scores(self, runs: Sequence[PlannedRun], *, metric: Any = None) -> pyarrow.Table:
        """The scores of these runs, one a row: the columns of `results.scores` (docs/python.md names them).

        `metric`: in place of the study's on every item that is answered by a text or a choice: a name, a path to code,
        or a function, as in `titrant.score`. Nothing is trained or asked again. `SpecError` names a run that lacks
        answers, `ScoresError` a metric that there is not.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        scorer = self._scorers_for(None if metric is None else self._metric(metric))
        answers = self._answers(runs)
        scores = [
            scorer(planned).score(answers.of(planned.run.run_id), arm=planned.run.arm, run=planned.run)
            for planned in runs
        ]
        return pq.read_table(pa.BufferReader(scores_parquet(Scores(scores))))

    def log(self, planned: PlannedRun) -> RunLog:
        """The training log and the times of a run that is done; `SpecError` where it is not, `StoreDamaged` where what
        is stored is not what was written."""
        self._answers([planned])
        store, run_id = Store.open(self.out), planned.run.run_id
        manifest = store.finished()[run_id].get("manifest")
        times = read_sealed(store.run_folder(run_id) / TIMING)
        steps = checked_training(store, run_id, manifest=manifest) if planned.run.steps else []
        return RunLog(
            steps=tuple(TrainingStep(**{**step, "loss_by_source": dict(step["loss_by_source"])}) for step in steps),
            training_seconds=float(times["training_seconds"]),
            answering_seconds=float(times["answering_seconds"]),
            peak_memory_bytes=int(times["peak_memory_bytes"]),
        )

    def untuned_loss(self, model: str, *, rows: int = 32) -> float:
        """The mean loss (nats a token) of a model as it came, on the answers of some rows of the study's pools.

        Pretrained weights are far below the logarithm of the vocabulary (`models[model].vocabulary`), which guessing
        has; random ones are near it. Loads the model.
        """
        entry = self._prepared.models.get(model)
        if entry is None:
            raise SpecError("no such model", where=self.study.place, got=model, expected=", ".join(self.models))
        some = [row for (source, _), row in sorted(entry.rows.items()) if source in entry.pools][:rows]
        if not some:
            raise SpecError("a study without a generalist pool has no rows for this", where=self.study.place)
        untuned = self._spec.make().untuned(entry.model)
        try:
            losses = untuned.losses(some)
        finally:
            untuned.close()
        tokens = [row.loss_tokens for row in some]
        return math.fsum(loss * count for loss, count in zip(losses, tokens, strict=True)) / sum(tokens)

    def __repr__(self) -> str:
        return f"Grid({self.study.name!r}, out={str(self.out)!r})"

    def _answers(self, runs: Sequence[PlannedRun]) -> StoredAnswers:
        """What is stored of these runs; `SpecError` where one of them lacks answers."""
        left = self.left(runs)
        if left:
            run = left[0].run
            more = f", and {len(left) - 1} more" if len(left) > 1 else ""
            raise SpecError(
                f"without answers: {run.arm.name} seed {run.seed}{more}",
                where=str(self.out),
                fix="run it first: grid.run(runs)",
            )
        return StoredAnswers(Store.open(self.out))

    def _metric(self, metric: Any) -> str:
        """The metric that a caller means: the caller's own words, so no study has to allow them."""
        if not isinstance(metric, str):
            return extension_of(metric, kind="metric")
        if metric in METRICS or metric in BATCH_METRICS:
            return metric
        if not is_path_to_code(metric):
            known = ", ".join((*METRICS, *BATCH_METRICS))
            raise ScoresError("no such metric", where="metric", got=metric, expected=known)
        return load_extension(metric, folder=self.study.folder, kind="metric")

    def _scorers_for(self, metric: str | None) -> Callable[[PlannedRun], SheetScorer]:
        """The scorer of every model and target, made once. Those of the study's own metric last as long as the grid;
        others are made anew, since two functions may have one name."""
        scorers = self._scorers if metric is None else {}

        def of(planned: PlannedRun) -> SheetScorer:
            arm = planned.run.arm
            key = (arm.model, arm.target)
            if key not in scorers:
                items = self._prepared.items(arm.model, [arm.target] if arm.target else list(self.study.targets))
                if metric is not None:
                    items = tuple(item if item.answer == "loss" else replace(item, metric=metric) for item in items)
                scorers[key] = SheetScorer(Sheet.of(items), planned.requests.by_item)
            return scorers[key]

        return of
