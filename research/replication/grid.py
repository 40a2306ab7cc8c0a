"""Running a grid: every study of a folder, seed by seed, skipping what is kept and keeping what is done.

`run_grid` can be stopped at any moment and started again, here or elsewhere: a run in progress goes on from its
checkpoint in the local store, a finished one from its kept scores, whichever block or size kept them first: a recipe is
all that can change a run. Learning rates are chosen on validation items as the study says, from the kept scores of the
very runs that try them at one seed (`CHOOSING_SEED`), so that all machines choose alike and blocks that differ in
anything else choose apart; a block of other seeds tries none, and needs another block to have made its tries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import titrant
from replication.kept import KeptRun, Origin, facts_of, kept_recipes, read_kept, write_kept
from replication.names import KeptNames

BLOCKS = (
    *("falsehood", "falsehood-again", "coverage", "few-again", "few-again-narrow"),
    *("skill", "format", "warmup", "remedy"),
)
EXTENDED = (
    *("falsehood", "loss-weight", "remedy", "warmup", "format", "instructed"),
    *("sources", "coverage", "skill"),
)
CHOOSING_SEED = 0  # where learning rates are tried; a block without it takes what another block chose there
VALIDATION_SET, GRADED = "validation", "graded"
Stage = tuple[titrant.PlannedRun, ...]


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
    backend: Any = None,
    say: Callable[[str], None] = lambda _: None,
    on_event: Callable[[titrant.Event], None] = lambda _: None,
) -> None:
    """Run what is not kept yet, block by block; every finished run is kept at once."""
    for block in blocks or places.blocks():
        say(f"{places.size} {block}: reading")
        keeper = _Keeper(places, block, backend=backend, say=say, on_event=on_event)
        for stage in _stages(keeper.grid, places):
            keeper.run(stage, engine=titrant.LocalEngine(jobs))
            keeper.require(stage)


def progress(places: GridPlaces, block: str) -> Progress:
    """How far a block is, by its grid with the learning rates that are chosen so far (else the first candidates')."""
    grid = _grid(places, block)
    kept = places.everywhere()
    planned: dict[str, titrant.PlannedRun] = {}
    for stage in _stages(grid, places, counting=True):
        planned |= _by_name(grid, stage)
    left = [each for name, each in planned.items() if name not in kept]
    return Progress(
        block=block,
        runs=len(planned),
        kept=len(planned) - len(left),
        training_tokens=sum(each.run.tokens for each in left),
        answer_tokens=sum(each.requests.tokens for each in left),
    )


def _grid(places: GridPlaces, block: str, **how: Any) -> titrant.Grid:
    return titrant.grid(places.studies / f"{block}.yaml", out=places.work / f"{places.size}-{block}", **how)


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


def _stages(grid: titrant.Grid, places: GridPlaces, *, counting: bool = False) -> Iterator[Stage]:
    """What a block runs, stage by stage: every candidate at `CHOOSING_SEED` if that is among the block's seeds, then
    the grid itself, which depends on how the tries did and is therefore planned when it is asked for.

    A stage's runs may be done side by side. `counting`: arms that have no choice yet stand with the first candidate;
    `UserError` otherwise.
    """
    study = grid.study
    if not study.needs_choosing:
        yield grid.runs()
        return
    tries = {
        settings.learning_rate: grid.runs(seeds=(CHOOSING_SEED,), settings=settings) for settings in study.candidates()
    }
    if CHOOSING_SEED in study.arms.seeds:
        yield tuple(planned for runs in tries.values() for planned in runs)
    rates = _kept_rates(grid, tries, places)
    if not counting:
        _require_rates(study, tries.values(), rates)
    yield grid.runs(settings=_chosen(study, rates))


def _by_name(grid: titrant.Grid, stage: Stage) -> dict[str, titrant.PlannedRun]:
    """The runs of a stage by the name that their scores are kept under; one that stands there twice has one."""
    names = KeptNames(grid)
    return {names.of(planned): planned for planned in stage}


def _chosen(
    study: titrant.Study, rates: Mapping[tuple[str, str], float]
) -> Callable[[str, str, str], titrant.TrainingSettings]:
    candidates = {settings.learning_rate: settings for settings in study.candidates()}

    def settings(model: str, target: str, name: str) -> titrant.TrainingSettings:
        rate = rates.get((target if name[:1].isdigit() else "", name))
        return candidates[rate] if rate is not None else study.candidates()[0]

    return settings


def _kept_rates(grid: titrant.Grid, tries: Mapping[float, Stage], places: GridPlaces) -> dict[tuple[str, str], float]:
    """What the kept runs of these tries chose for every (target, arm) whose tries are all kept."""
    kept = {run.facts.recipe_id: run for run in read_kept(places.scores)}
    names = KeptNames(grid)
    means: dict[tuple[str, str], dict[float, float]] = {}
    for rate, stage in tries.items():
        for planned in stage:
            run = kept.get(names.of(planned))
            found = None if run is None or not planned.run.steps else _validation_mean(run)
            if found is not None:
                means.setdefault((planned.run.arm.target, planned.run.arm.name), {})[rate] = found
    return {arm: _best(tried) for arm, tried in means.items() if len(tried) == len(tries)}


def _require_rates(study: titrant.Study, tries: Iterable[Stage], rates: Mapping[tuple[str, str], float]) -> None:
    """Every arm that is trained has a learning rate."""
    runs = [planned.run for stage in tries for planned in stage if planned.run.steps]
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
        raise titrant.UserError(
            f"no learning rate of this block's candidates is chosen for {names}: {reason}",
            where=study.place,
            fix="give its targets validation items"
            if tried
            else "run the block to its end first that tries these arms",
        )


class _Keeper:
    """Runs one block and keeps the scores of its runs as they end. It is its grid's reporter, too."""

    def __init__(
        self,
        places: GridPlaces,
        block: str,
        *,
        backend: Any,
        say: Callable[[str], None],
        on_event: Callable[[titrant.Event], None],
    ) -> None:
        self.places, self.block, self.say, self._on_event = places, block, say, on_event
        self.grid = _grid(places, block, backend=backend, reporter=self)
        self.names = KeptNames(self.grid)
        self._origins: dict[str, Origin] = {}
        self._named: dict[str, list[titrant.PlannedRun]] = {}

    def run(self, stage: Stage, *, engine: titrant.LocalEngine) -> None:
        """Do what of a stage is not kept."""
        pending = self.pending(stage)
        if not pending:
            return
        self.say(f"{self.block}: {len(pending)} of {len(_by_name(self.grid, stage))} runs to do")
        self.find_origins(pending)
        self._named = {}
        for planned in pending:
            self._named.setdefault(planned.run.run_id, []).append(planned)
        self.grid.run(pending, engine=engine, reporter=self)

    def stage(self, runs: Sequence[titrant.PlannedRun], done: Set[str]) -> None:
        """A reporter's: what there is to do has been said."""

    def event(self, event: titrant.Event) -> None:
        """A reporter's: what has ended well is kept."""
        self._on_event(event)
        if event.kind == "done":
            for planned in self._named[event.run_id]:
                self.keep(planned)

    def pending(self, stage: Stage) -> list[titrant.PlannedRun]:
        """What is not kept, seed by seed, so that a grid that is stopped early is balanced; the untuned model first.
        Runs that the local store has finished are kept on the way."""
        kept = self.places.everywhere()
        absent = [planned for name, planned in _by_name(self.grid, stage).items() if name not in kept]
        left = self.grid.left(absent)
        ready = [planned for planned in absent if planned not in left]
        self.find_origins(ready)
        for planned in ready:
            self.keep(planned)
        return sorted(left, key=lambda planned: (planned.run.steps > 0, planned.run.seed))

    def require(self, stage: Stage) -> None:
        """Every run of a stage is kept; else the first failures are the error."""
        kept = self.places.everywhere()
        missing = [planned for name, planned in _by_name(self.grid, stage).items() if name not in kept]
        if missing:
            names = ", ".join(f"{planned.run.arm.name} seed {planned.run.seed}" for planned in missing[:5])
            raise titrant.TitrantError(f"grid: {len(missing)} runs of {self.block} did not finish: {names}")

    def find_origins(self, planned: Sequence[titrant.PlannedRun]) -> None:
        """What the scores come from, measured on each base model that is about to be used."""
        for name in dict.fromkeys(each.run.arm.model for each in planned):
            if name not in self._origins:
                self._origins[name] = self._origin(name)

    def keep(self, planned: titrant.PlannedRun) -> None:
        """Score a finished run and keep its scores."""
        log = self.grid.log(planned)
        facts = facts_of(
            planned,
            name=self.names.of(planned),
            size=self.places.size,
            block=self.block,
            origin=self._origins[planned.run.arm.model],
            log=log,
            dose_loss=_dose_loss(log, planned),
        )
        write_kept(self.places.kept, self.grid.scores([planned]), facts)

    def _origin(self, name: str) -> Origin:
        model = self.grid.models[name]
        return Origin(
            backend=self.grid.backend,
            model=model.name,
            model_origin=model.origin,
            fingerprint=model.fingerprint,
            base_loss=self.grid.untuned_loss(name),
            uniform_loss=math.log(model.vocabulary),
        )


def _dose_loss(log: titrant.RunLog, planned: titrant.PlannedRun) -> tuple[float, float] | None:
    """The mean loss (nats a token, rows weighing alike) on the dose's rows at their visits in the first and the last
    tenth of the steps that have any: whether what was told was also learned. Losses are those before the step moved
    the weights, so that the last is an upper bound of the loss after training. None where no such loss was weighed."""
    arm = planned.run.arm
    sources = {dose.source for dose in arm.doses}
    if not sources or planned.plan is None or arm.training.loss_weight != "row":
        return None
    found: list[float] = []
    for logged, step in zip(log.steps, planned.plan.steps, strict=True):
        count = sum(planned.plan.rows[index].source in sources for index in step)
        if count:
            found.append(math.fsum(logged.loss_by_source.get(name, 0.0) for name in sources) * len(step) / count)
    tenth = max(1, len(found) // 10)
    return math.fsum(found[:tenth]) / tenth, math.fsum(found[-tenth:]) / tenth
