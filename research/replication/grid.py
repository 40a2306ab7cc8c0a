"""Running a grid: every study of a folder, seed by seed, skipping what is kept and keeping what is done.

`run_grid` can be stopped at any moment and started again, here or elsewhere: a run in progress goes on from its
checkpoint in the local store, a finished one from its kept scores, whichever block or size kept them first: a recipe is
all that can change a run. Learning rates are chosen on validation items as the study says, from the kept scores of the
very runs that try them at one seed (`CHOOSING_SEED`), so that all machines choose alike and blocks that differ in
anything else choose apart; a block of other seeds tries none, and needs another block to have made its tries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from replication.kept import KeptRun, Origin, facts_of, kept_recipes, read_kept, write_kept
from replication.names import KeptNames
from titrant.config.study import Study, load_study
from titrant.core.errors import RunFailed, SpecError
from titrant.core.records import TrainingSettings
from titrant.engines import BackendSpec, Event, execute
from titrant.engines.job import read_training
from titrant.experiment.answers import StoredAnswers
from titrant.experiment.design import Design, PlannedRun, SettingsOf, make_design
from titrant.experiment.prepare import VALIDATION_SET, PreparedStudy, prepare_study
from titrant.experiment.runner import default_backend, jobs_for, replace_seeds
from titrant.experiment.work import open_runs
from titrant.scoring.sheets import GRADED, Sheet, SheetScorer
from titrant.storage.manifests import TIMING
from titrant.storage.sealed import read_sealed
from titrant.storage.store import Store

BLOCKS = (
    *("falsehood", "falsehood-again", "coverage", "few-again", "few-again-narrow"),
    *("skill", "format", "warmup", "remedy"),
)
EXTENDED = (
    *("falsehood", "loss-weight", "remedy", "warmup", "format", "instructed"),
    *("sources", "coverage", "skill"),
)
CHOOSING_SEED = 0  # where learning rates are tried; a block without it takes what another block chose there
_LOSS_ROWS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a block is: runs of its grid, those kept, and the training and answering tokens that are left."""

    block: str
    runs: int
    kept: int
    training_tokens: int
    answer_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GridPlaces:
    """`studies` holds a YAML file a block, `scores` the kept scores, `work` the local stores."""

    size: str
    studies: Path
    scores: Path
    work: Path

    @property
    def kept(self) -> Path:
        """Where this size's runs are kept."""
        return self.scores / self.size

    def everywhere(self) -> frozenset[str]:
        """The recipes that any size has kept."""
        return kept_recipes(self.scores)

    def blocks(self) -> list[str]:
        """The blocks of this size, those first that cost least for what they say."""
        order = EXTENDED if self.size == "extended" else BLOCKS
        found = {path.stem for path in self.studies.glob("*.yaml")}
        return [name for name in order if name in found] + sorted(found.difference(order))


def run_grid(
    places: GridPlaces,
    *,
    blocks: Sequence[str] = (),
    jobs: int | Literal["auto"] = "auto",
    backend: BackendSpec | None = None,
    say: Callable[[str], None] = lambda _: None,
    on_event: Callable[[Event], None] = lambda _: None,
) -> None:
    """Run what is not kept yet, block by block; every finished run is kept at once."""
    for block in blocks or places.blocks():
        study = load_study(places.studies / f"{block}.yaml")
        say(f"{places.size} {block}: reading")
        prepared = prepare_study(study, say=say)
        keeper = _Keeper(places, block, prepared, backend or default_backend(prepared.study), say)
        for designs in _stages(prepared, places):
            _run(designs, keeper, jobs, on_event)
            keeper.require(designs)


def progress(places: GridPlaces, block: str) -> Progress:
    """How far a block is, by its grid with the learning rates that are chosen so far (else the first candidates')."""
    prepared = prepare_study(load_study(places.studies / f"{block}.yaml"))
    kept = places.everywhere()
    planned: dict[str, PlannedRun] = {}
    for designs in _stages(prepared, places, counting=True):
        planned |= _by_name(prepared, designs)
    left = [each for name, each in planned.items() if name not in kept]
    return Progress(
        block=block,
        runs=len(planned),
        kept=len(planned) - len(left),
        training_tokens=sum(each.run.tokens for each in left),
        answer_tokens=sum(each.requests.tokens for each in left),
    )


def chosen_rates(runs: Sequence[KeptRun], seed: int) -> dict[tuple[str, str], float]:
    """The learning rate of every (target, arm) that is kept at this seed: the one with the best mean validation score,
    the smaller one where two tie."""
    means: dict[tuple[str, str], dict[float, float]] = {}
    for run in runs:
        facts = run.facts
        if facts.seed != seed or not facts.steps:
            continue
        found = _validation_mean(run)
        if found is not None:
            means.setdefault((facts.target, facts.arm), {})[facts.learning_rate] = found
    return {arm: _best(tried) for arm, tried in means.items()}


def _best(tried: Mapping[float, float]) -> float:
    return min(tried, key=lambda rate: (-tried[rate], rate))


def _validation_mean(run: KeptRun) -> float | None:
    """The mean over targets of the mean validation score, graded where there is such."""
    found = []
    for target in sorted({name for name, eval_set, _ in run.kinds if eval_set == VALIDATION_SET}):
        names = run.metrics(target, VALIDATION_SET)
        values = run.values(target, VALIDATION_SET, GRADED if GRADED in names else names[0]).values()
        if values:
            found.append(math.fsum(values) / len(values))
    return math.fsum(found) / len(found) if found else None


# -------------------------------------------------------------------------------------------------------------- stages


def _stages(prepared: PreparedStudy, places: GridPlaces, *, counting: bool = False) -> Iterator[tuple[Design, ...]]:
    """What a block runs, stage by stage: every candidate's design at `CHOOSING_SEED` if that is among the block's
    seeds, then the grid itself, which depends on how the tries did and is therefore made when it is asked for.

    A stage's designs may run side by side. `counting`: arms that have no choice yet stand with the first candidate;
    `SpecError` otherwise.
    """
    study = prepared.study
    if not study.needs_choosing:
        yield (make_design(prepared),)
        return
    one_seed = replace_seeds(prepared, (CHOOSING_SEED,))
    tries = {settings.learning_rate: make_design(one_seed, _fixed(settings)) for settings in study.candidates()}
    if CHOOSING_SEED in study.arms.seeds:
        yield tuple(tries.values())
    rates = _kept_rates(prepared, tries, places)
    if not counting:
        _require_rates(study, tries.values(), rates)
    yield (make_design(prepared, _chosen(study, rates)),)


def _by_name(prepared: PreparedStudy, designs: Iterable[Design]) -> dict[str, PlannedRun]:
    """The runs of a stage by the name that their scores are kept under; one that several designs have stands once."""
    names = KeptNames(prepared)
    return {names.of(planned): planned for design in designs for planned in design.runs}


def _fixed(settings: TrainingSettings) -> SettingsOf:
    return lambda model, target, name: settings


def _chosen(study: Study, rates: Mapping[tuple[str, str], float]) -> SettingsOf:
    candidates = {settings.learning_rate: settings for settings in study.candidates()}

    def settings(model: str, target: str, name: str) -> TrainingSettings:
        rate = rates.get((target if name[:1].isdigit() else "", name))
        return candidates[rate] if rate is not None else study.candidates()[0]

    return settings


def _kept_rates(
    prepared: PreparedStudy, tries: Mapping[float, Design], places: GridPlaces
) -> dict[tuple[str, str], float]:
    """What the kept runs of these tries chose for every (target, arm) whose tries are all kept."""
    kept = {run.facts.recipe_id: run for run in read_kept(places.scores)}
    names = KeptNames(prepared)
    means: dict[tuple[str, str], dict[float, float]] = {}
    for rate, design in tries.items():
        for planned in design.runs:
            run = kept.get(names.of(planned))
            found = None if run is None or not planned.run.steps else _validation_mean(run)
            if found is not None:
                means.setdefault((planned.run.arm.target, planned.run.arm.name), {})[rate] = found
    return {arm: _best(tried) for arm, tried in means.items() if len(tried) == len(tries)}


def _require_rates(study: Study, tries: Iterable[Design], rates: Mapping[tuple[str, str], float]) -> None:
    """Every arm that is trained has a learning rate."""
    runs = [planned.run for design in tries for planned in design.runs if planned.run.steps]
    arms = {(run.arm.target, run.arm.name) for run in runs}
    missing = sorted(arms.difference(rates))
    if missing:
        names = ", ".join(f"{target} {name}".strip() for target, name in missing)
        tried = CHOOSING_SEED in study.arms.seeds
        reason = (
            "its tries have no score on validation items"
            if tried
            else (f"none of its seeds is {CHOOSING_SEED}, where rates are tried")
        )
        raise SpecError(
            f"no learning rate of this block's candidates is chosen for {names}: {reason}",
            where=study.place,
            fix="give its targets validation items"
            if tried
            else "run the block to its end first that tries these arms",
        )


def _run(
    designs: Sequence[Design], keeper: _Keeper, jobs: int | Literal["auto"], on_event: Callable[[Event], None]
) -> None:
    pending = keeper.pending(designs)
    if not pending:
        return
    keeper.say(f"{keeper.block}: {len(pending)} of {len(_by_name(keeper.prepared, designs))} runs to do")
    keeper.find_origins(pending)
    named: dict[str, list[PlannedRun]] = {}
    for planned in pending:
        named.setdefault(planned.run.run_id, []).append(planned)
    left = {one.planned.run.run_id: one for one in open_runs(designs, keeper.store)}

    def heard(event: Event) -> None:
        on_event(event)
        if event.kind == "done":
            for planned in named[event.run_id]:
                keeper.keep(planned)

    execute(
        [left[run_id].job(keeper.prepared) for run_id in named],
        root=keeper.store.root,
        backend=keeper.backend,
        processes=0 if jobs == 0 else jobs_for(keeper.prepared, jobs, len(pending)),
        on_event=heard,
    )


class _Keeper:
    """Keeps the scores of one block's runs."""

    def __init__(
        self, places: GridPlaces, block: str, prepared: PreparedStudy, backend: BackendSpec, say: Callable[[str], None]
    ) -> None:
        self.places, self.block, self.prepared, self.backend, self.say = places, block, prepared, backend, say
        self.store = Store.open(places.work / f"{places.size}-{block}")
        self.names = KeptNames(prepared)
        self._origins: dict[str, Origin] = {}
        self._scorers: dict[tuple[str, str], SheetScorer] = {}

    def pending(self, designs: Sequence[Design]) -> list[PlannedRun]:
        """What is not kept, seed by seed, so that a grid that is stopped early is balanced; the untuned model first.
        Runs that the local store has finished are kept on the way."""
        kept, answers = self.places.everywhere(), StoredAnswers(self.store)
        left = [planned for name, planned in _by_name(self.prepared, designs).items() if name not in kept]
        ready = [planned for planned in left if not answers.missing(planned)]
        if ready:
            self.find_origins(ready)
            for planned in ready:
                self.keep(planned)
        left = [planned for planned in left if answers.missing(planned)]
        return sorted(left, key=lambda planned: (planned.run.steps > 0, planned.run.seed))

    def require(self, designs: Sequence[Design]) -> None:
        """Every run of a stage is kept; else the first failure is the error."""
        kept = self.places.everywhere()
        missing = [planned for name, planned in _by_name(self.prepared, designs).items() if name not in kept]
        if missing:
            names = ", ".join(f"{planned.run.arm.name} seed {planned.run.seed}" for planned in missing[:5])
            failure = f"{len(missing)} runs of {self.block} did not finish: {names}"
            raise RunFailed("grid", failure)

    def find_origins(self, planned: Sequence[PlannedRun]) -> None:
        """What the scores come from, measured on each base model that is about to be used."""
        for name in dict.fromkeys(each.run.arm.model for each in planned):
            if name not in self._origins:
                self._origins[name] = self._origin(name)

    def keep(self, planned: PlannedRun) -> None:
        """Score a finished run and keep its scores."""
        run = planned.run
        stored = StoredAnswers(self.store).of(run.run_id)
        scores = self._scorer(planned).score(stored, arm=run.arm, run=run)
        folder = self.store.run_folder(run.run_id)
        facts = facts_of(
            planned,
            name=self.names.of(planned),
            size=self.places.size,
            block=self.block,
            model=self.prepared.models[run.arm.model].model,
            origin=self._origins[run.arm.model],
            timing=read_sealed(folder / TIMING),
            dose_loss=_dose_loss(folder, planned),
        )
        write_kept(self.places.kept, scores, facts)

    def _scorer(self, planned: PlannedRun) -> SheetScorer:
        arm = planned.run.arm
        key = (arm.model, arm.target)
        if key not in self._scorers:
            targets = [arm.target] if arm.target else list(self.prepared.study.targets)
            sheet = Sheet.of(self.prepared.items(arm.model, targets))
            self._scorers[key] = SheetScorer(sheet, planned.requests.by_item)
        return self._scorers[key]

    def _origin(self, name: str) -> Origin:
        entry = self.prepared.models[name]
        rows = [row for (source, _), row in sorted(entry.rows.items()) if source in entry.pools][:_LOSS_ROWS]
        if not rows:
            raise SpecError("a grid needs a generalist pool", where=self.prepared.study.place)
        language_model = self.backend.make().untuned(entry.model)
        try:
            losses = language_model.losses(rows)
        finally:
            language_model.close()
        tokens = [row.loss_tokens for row in rows]
        mean = math.fsum(loss * count for loss, count in zip(losses, tokens, strict=True)) / sum(tokens)
        return Origin(
            backend=f"{self.backend.module}.{self.backend.name}",
            model=entry.model.name,
            model_origin=entry.model.origin,
            fingerprint=entry.model.fingerprint,
            base_loss=mean,
            uniform_loss=math.log(entry.model.vocabulary),
        )


def _dose_loss(folder: Path, planned: PlannedRun) -> tuple[float, float] | None:
    """The mean loss (nats a token, rows weighing alike) on the dose's rows at their visits in the first and the last
    tenth of the steps that have any: whether what was told was also learned. Losses are those before the step moved
    the weights, so that the last is an upper bound of the loss after training. None where no such loss was weighed."""
    arm = planned.run.arm
    sources = {dose.source for dose in arm.doses}
    if not sources or planned.plan is None or arm.training.loss_weight != "row":
        return None
    found: list[float] = []
    for report, step in zip(read_training(folder), planned.plan.steps, strict=True):
        count = sum(planned.plan.rows[index].source in sources for index in step)
        if count:
            parts: Mapping[str, float] = dict(report["loss_by_source"])
            found.append(math.fsum(parts.get(name, 0.0) for name in sources) * len(step) / count)
    tenth = max(1, len(found) // 10)
    return math.fsum(found[:tenth]) / tenth, math.fsum(found[-tenth:]) / tenth
