"""The order of things: the only place where it is written.

Read and check, plan, train and answer what is not done yet, choose settings on validation rows where the study asks for
it, score, judge, report, keep the recommended weights. Everything before the first training step either succeeds or
raises an error of the user's with its place; nothing is half-written.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from titrant.config.study import Study, load_study
from titrant.core.budget import Budget
from titrant.core.errors import RunFailed, SpecError, StoreDamaged, StoreMismatch
from titrant.core.identity import plain
from titrant.core.plugins import Extension, extension_of
from titrant.core.records import Arm, Run, TrainingSettings
from titrant.engines import AskingEngine, BackendSpec, Engine, Event, LocalEngine, RunJob
from titrant.engines.job import weights_folder
from titrant.engines.local import backend_spec
from titrant.engines.placement import balanced_order
from titrant.experiment.budget_words import budget_lines
from titrant.experiment.climbing import Ask, climb
from titrant.experiment.design import Design, PlannedRun, make_design, verdict_size
from titrant.experiment.prepare import DEFAULT_BACKEND_IDENTITY, PreparedStudy, numerics_of, prepare_study
from titrant.experiment.publish import publish_model
from titrant.experiment.results import (
    FailedCell,
    Judged,
    Results,
    collect,
    count_judgement,
    judge_results,
    page_name,
    record_judgement,
    scores_parquet,
    validation_means,
    verdict_bytes,
    write_results,
)
from titrant.experiment.speed import kept_speed, speed_of
from titrant.experiment.stages import family_arms, ladders_of
from titrant.experiment.standing import standing_record, standing_results
from titrant.experiment.standings import as_read
from titrant.experiment.work import OpenRun, job_of, largest_model, left_of, runs_of
from titrant.experiment.worth import skill_interactions
from titrant.scoring.sheets import Scores
from titrant.storage.folder import ABOUT, MARKER
from titrant.storage.looks import last_ladder
from titrant.storage.manifests import MANIFEST
from titrant.storage.sealed import read_sealed
from titrant.storage.store import Store

DEFAULT_BACKEND = BackendSpec(
    module="titrant.backends.hf.backend", name="HuggingFaceBackend", known_as=DEFAULT_BACKEND_IDENTITY
)
_TRAINING_COST = 5  # of a token in training, where one of a prompt costs 1: backward, weights' update, fewer shared


class Reporter(Protocol):
    """Who is told how a study gets on. Nothing that it does or says changes a result; what it raises ends the study."""

    def say(self, text: str) -> None:
        """One line about a stage, for people."""
        ...

    def stage(self, runs: Sequence[PlannedRun], done: Set[str]) -> None:
        """A stage begins: all of its runs, and the ids of those that are done already."""
        ...

    def event(self, event: Event) -> None:
        """Something happened to a run."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Callbacks:
    """A reporter made of functions; what is left out is told nobody. `Callbacks()` is silent."""

    say: Callable[[str], None] = lambda _: None
    stage: Callable[[Sequence[PlannedRun], Set[str]], None] = lambda runs, done: None
    event: Callable[[Event], None] = lambda _: None


class Presenter(Protocol):
    """How results are shown. The report package imports this one, so it is passed in."""

    def page(self, results: Results, store: Store, judged: Judged) -> str:
        """The report on one judged model and target as HTML."""
        ...

    def card(self, planned: PlannedRun, judged: Judged, results: Results) -> str:
        """The card of the model that is handed over, in Markdown."""
        ...


def run_study(
    study: Study,
    *,
    out: Path,
    presenter: Presenter,
    engine: Any = None,
    backend: BackendSpec | Extension | None = None,
    reporter: Reporter | None = None,
    budget: Budget | None = None,
) -> Results:
    """Run what is not done, then judge, report and keep the model. The same study again changes nothing.

    `budget` ends a staged study early; with a larger one it goes on where it stood.
    """
    reporter = reporter or Callbacks()
    study = as_begun(study, out, reporter.say)
    engine = engine_of(study, engine)
    spec = backend_of(study, backend)
    if budget is not None and study.until != "firm":
        fix = "until: firm in the study, or --until firm"
        raise SpecError("a budget ends a study that stops by itself, and this one is a grid", where="--budget", fix=fix)
    prepared = prepare_study(study, backend=spec.identity, say=reporter.say, answers_kept=has_answers(out))
    # Before the store is opened: a study that cannot be drawn fails here and leaves no folder behind.
    first = make_design(prepared, _candidate(study, 0) if study.needs_choosing else None)
    store = Store.open(out)
    if study.until == "firm":
        design = as_read(_run_staged(prepared, first, store, spec, engine, reporter, budget), store)
    else:
        tries = _tries(prepared) if study.needs_choosing else []
        design = _choose(prepared, tries, store, spec, engine, reporter) if tries else first
        refuse_other_numerics(store, design.distinct)
        _execute([design], store, spec, engine, reporter)
    with store.locked("results"):  # two runners on one store end together
        results = standing_results(design, store) or _judge(design, store, presenter, reporter)
        _keep_model(results, store, spec, engine, presenter, reporter)
    return results


def finish(design: Design, store: Store, *, presenter: Presenter, reporter: Reporter | None = None) -> Results:
    """Score, judge and report what is stored; trains nothing. Waits while another process does."""
    with store.locked("results"):
        return _judge(as_read(design, store), store, presenter, reporter or Callbacks())


def _judge(design: Design, store: Store, presenter: Presenter, reporter: Reporter) -> Results:
    """`finish` for who holds the lock of the results: two at once would leave one's verdict beside the other's page,
    and count one judgement twice."""
    reporter.say("scoring and judging")
    scores, failed = collect(design, store)
    judged = judge_results(design, scores, store)
    if not judged:
        raise _nothing_to_judge(store, scores, failed)
    staged = design.prepared.study.until == "firm"
    names = [ladder.name for ladder in ladders_of(design)] if staged else []
    times = count_judgement(store, design.prepared, scores, protocols=names)
    record_judgement(store, design, scores, judged)
    results = Results(design, scores, failed, judged, times, skill_interactions(design.prepared, scores))
    pages = {
        page_name(results, each): presenter.page(results, store, each).encode("utf-8", "replace") for each in judged
    }
    write_results(
        store,
        {
            "verdict.json": verdict_bytes(results),
            "scores.parquet": scores_parquet(scores),
            **pages,
        },
        standing_record(results, store),
    )
    return results


def _nothing_to_judge(store: Store, scores: Scores, failed: Sequence[FailedCell]) -> SpecError:
    """Why no verdict can be given: nothing was run, or what was answered has no score by the study's metric."""
    where = str(store.root)
    if not scores.runs:
        got = f"{len(failed)} arms and seeds without answers"
        return SpecError("there is nothing to judge yet", where=where, got=got, fix="run the study first")
    reasons = Counter(reason for run in scores.runs for reason in run.reasons.values())
    return SpecError(
        "no answer to a test item has a score",
        where=where,
        got="; ".join(f"{reason} ({count} answers)" for reason, count in reasons.most_common(3)) or None,
        expected="a metric that can read the right answers",
        fix="change the metric and run `titrant report`: the answers are kept",
    )


def as_begun(study: Study, out: Path, say: Callable[[str], None]) -> Study:
    """The study as the results at `out` were begun: one that says nothing of `until` goes on to be staged where it was
    run so (`run --until firm`). Read as a grid it would run every seed, and lose its level."""
    if study.path is None or "until" in study.model_fields_set or not (out / MARKER).is_file():
        return study
    if len(last_ladder(Store.open(out), models=study.models, targets=study.targets) or ()) < 2:
        return study
    say(f"until: firm, as {out} was begun; --until grid runs and judges all seeds, whose level then no longer holds")
    return load_study(study.path, until="firm")


def has_answers(out: Path) -> bool:
    """Whether a store at `out` holds finished runs."""
    return (out / MARKER).is_file() and bool(Store.open(out).finished())


def stored_design(study: Study, *, out: Path, reporter: Reporter | None = None) -> tuple[Design, Store]:
    """The design of a study that has been run, with the settings that its stored validation scores chose."""
    reporter = reporter or Callbacks()
    study = as_begun(study, out, reporter.say)
    prepared = prepare_study(study, backend=backend_of(study).identity, say=reporter.say, answers_kept=has_answers(out))
    store = Store.open(out)
    if not study.needs_choosing:
        return make_design(prepared), store
    return make_design(prepared, _chosen(prepared, store)), store


def export_arm(
    study: Study,
    *,
    out: Path,
    to: Path,
    presenter: Presenter,
    arm: str | None,
    seed: int | None,
    reporter: Reporter | None = None,
) -> None:
    """Put an arm's model at `to`, trained again to the same bits where its weights were not kept."""
    design, store = stored_design(study, out=out, reporter=reporter)
    # whoever judges also lets weights go that its verdict does not need, so nobody may until these are copied
    with store.locked("results"):
        _export(design, store, to=to, presenter=presenter, arm=arm, seed=seed, reporter=reporter or Callbacks())


def _export(
    design: Design,
    store: Store,
    *,
    to: Path,
    presenter: Presenter,
    arm: str | None,
    seed: int | None,
    reporter: Reporter,
) -> None:
    study = design.prepared.study
    results = _judge(as_read(design, store), store, presenter, reporter)
    judged = results.judged[0]
    chosen = recommended_arm(results, judged)
    if arm is not None:
        named = [entry for entry in design.arms if entry.name == arm and entry.kind != "untuned"]
        if not named:
            names = ", ".join(entry.name for entry in design.arms if entry.kind != "untuned")
            raise SpecError("no such arm", where="--arm", got=arm, expected=f"one of {names}")
        chosen = named[0]
    # The first seed and not the best one: which seed scores best on the test items is luck, and choosing it would spend
    # the test set.
    chosen_seed = study.arms.seeds[0] if seed is None else seed
    if chosen_seed not in study.arms.seeds:
        raise SpecError("not one of the study's seeds", where="--seed", got=seed, expected=str(study.arms.seeds))
    planned = design.cell(chosen, chosen_seed)
    if not weights_folder(store, planned.run.run_id).is_dir():
        backend = backend_of(study)
        job = job_of(planned, design.prepared, keep_weights=True)
        LocalEngine(1).execute([job], root=store.root, backend=backend, weights_only=True)
    card = presenter.card(planned, judged, results)
    publish_model(to, planned, store, card=card, only_check=False)
    # Weights that were trained or kept for this export alone go again; a study that keeps all keeps these too.
    if study.keep_weights != "all":
        shutil.rmtree(weights_folder(store, planned.run.run_id), ignore_errors=True)


def backend_of(study: Study, given: BackendSpec | Extension | None = None) -> BackendSpec:
    """What trains and answers: what was given, else the study's own, else Hugging Face models on this machine."""
    own = given if given is not None else study.backend
    if own is not None:
        return backend_spec(own, folder=study.folder, numerics=numerics_of(study))
    return default_backend(study)


def default_backend(study: Study) -> BackendSpec:
    """What trains where nobody said otherwise, with the study's numerics and on the device that it names."""
    arguments = {**DEFAULT_BACKEND.arguments, "numerics": numerics_of(study)}
    return replace(DEFAULT_BACKEND, arguments=arguments, device=study.numerics.device)


def engine_of(study: Study, given: Any = None) -> Engine:
    """Who works on runs: who was given, else the study's own engine, else workers on this machine."""
    if isinstance(given, LocalEngine):
        return given
    own = study.engine if given is None else extension_of(given, kind="engine")
    if not isinstance(own, Extension):
        return LocalEngine()
    engine: Engine = own.made
    return engine


# -------------------------------------------------------------------------------------------------------------- stages


def _execute(designs: Sequence[Design], store: Store, backend: BackendSpec, engine: Engine, reporter: Reporter) -> None:
    """Do what is not done of designs of one prepared study."""
    prepared = designs[0].prepared
    # Whose weights will be wanted is known only after the verdict, and training again costs a run: so the first seed of
    # every arm that can win is kept until then.
    keep = set[str]().union(*(_candidates_for_the_model(design, store) for design in designs))

    def balanced(left: Sequence[OpenRun]) -> list[OpenRun]:
        # The order decides when the study is done and never what it finds: long runs first, balanced over the workers.
        workers = engine.workers(max(1, len(left)), model=largest_model(prepared), numerics=prepared.numerics)
        return [left[place] for place in balanced_order([_cost(one, prepared) for one in left], workers)]

    execute_runs(
        runs_of(designs), prepared, store=store, backend=backend, engine=engine, reporter=reporter, keep=keep,
        in_order=balanced,
    )  # fmt: skip


def execute_runs(
    runs: Sequence[PlannedRun],
    prepared: PreparedStudy,
    *,
    store: Store,
    backend: BackendSpec,
    engine: Engine,
    reporter: Reporter,
    keep: Set[str] = frozenset(),
    in_order: Callable[[Sequence[OpenRun]], Sequence[OpenRun]] = lambda left: left,
) -> None:
    """Do what is not done of these runs, each there once. `keep`: whose weights are kept beside their answers."""
    left = left_of(runs, store)
    again = [one for one in left if one.kind == "train_again"]
    if again:
        reporter.say(
            f"{len(again)} finished runs are asked more and their weights were not kept: they are trained again, to "
            "the same weights, and answer what is new"
        )
    reporter.stage(runs, {planned.run.run_id for planned in runs} - {one.planned.run.run_id for one in left})
    engine.execute(
        [one.job(prepared, keep_weights=one.planned.run.run_id in keep) for one in in_order(left)],
        root=store.root,
        backend=backend,
        on_event=reporter.event,
        weights_only=False,
    )
    _tidy(store)


def _tidy(store: Store) -> None:
    """Remove what a process left that died between a run's end and its tidying up."""
    unfinished = [path.name for path in (store.root / "work").glob("[!.]*")]
    finished = store.finished() if unfinished else {}
    for run_id in unfinished:
        if run_id in finished:
            shutil.rmtree(store.work_folder(run_id), ignore_errors=True)


def _climb(
    design: Design,
    store: Store,
    backend: BackendSpec,
    engine: Engine,
    reporter: Reporter,
    *,
    budget: Budget | None,
    tries: Sequence[Design],
    curves: bool,
) -> bool:
    """Run a staged study until it is over; False where its budget ended it."""
    prepared = design.prepared

    def drive(ask: Ask) -> None:
        if isinstance(engine, AskingEngine):
            _execute_asking(ask, store, backend, engine, reporter)
            return
        while (part := ask()).runs:
            before = len(store.records())
            _execute([part], store, backend, engine, reporter)
            if len(store.records()) == before:
                raise RunFailed("no_result", f"the engine {engine.name} returned, and no run was finished or failed")

    standings = climb(
        design,
        store,
        drive=drive,
        workers=lambda runs: engine.workers(max(1, runs), model=largest_model(prepared), numerics=prepared.numerics),
        say=reporter.say,
        budget=budget,
        before=runs_of(tries) if tries else (),
        curves=curves,
    )
    return all(standing.found.ended != "budget" for standing in standings)


def _execute_asking(ask: Ask, store: Store, backend: BackendSpec, engine: AskingEngine, reporter: Reporter) -> None:
    """Let the engine ask what is next, whenever one of its workers has nothing to do."""
    told: set[str] = set()

    def more() -> list[RunJob]:
        part = ask()
        left = left_of(runs_of([part]), store)
        ids = {one.planned.run.run_id for one in left}
        if not ids <= told:
            reporter.stage(runs_of([part]), set())
            told.update(ids)
        keep = _candidates_for_the_model(part, store)
        return [one.job(part.prepared, keep_weights=one.planned.run.run_id in keep) for one in left]

    engine.execute_asking(more, root=store.root, backend=backend, on_event=reporter.event)
    _tidy(store)


def _told_of_budget(
    design: Design, backend: BackendSpec, engine: Engine, reporter: Reporter, budget: Budget | None
) -> tuple[str, ...]:
    """What the budget can tell, before it is spent. Only one in minutes is worth measuring the speed for."""
    if budget is None:
        return ()
    prepared = design.prepared
    measured = speed_of(design, backend, say=reporter.say) if budget.unit == "minutes" else kept_speed(design)
    if measured is None and budget.unit == "minutes":
        return ()  # the measured run failed, and so will the first one, with its reason
    jobs = engine.workers(len(design.distinct), model=largest_model(prepared), numerics=prepared.numerics)
    return budget_lines(design, budget, speed=measured, jobs=jobs)


def _cost(left: OpenRun, prepared: PreparedStudy) -> float:
    """How long a run takes beside others, in no unit: it decides who works on what, never a result."""
    tokens = _TRAINING_COST * left.training_tokens + left.requests.tokens
    return float(tokens) * prepared.models[left.planned.run.arm.model].model.parameters


def _candidate(study: Study, index: int) -> Callable[[str, str, str], TrainingSettings]:
    settings = study.candidates()[index]
    return lambda model, target, name: settings


def _run_staged(
    prepared: PreparedStudy,
    first: Design,
    store: Store,
    backend: BackendSpec,
    engine: Engine,
    reporter: Reporter,
    budget: Budget | None,
) -> Design:
    """Run a study until its verdict is firm; its design, with the settings that were chosen."""
    study = prepared.study
    for line in _told_of_budget(first, backend, engine, reporter, budget):
        reporter.say(line)
    if not study.needs_choosing:
        refuse_other_numerics(store, first.distinct)
        _climb(first, store, backend, engine, reporter, budget=budget, tries=(), curves=True)
        return first
    # Settings of arms that no verdict reads are chosen when these arms are run, and never where they are not.
    tries = _tries(prepared)
    first_tries = tries if study.curves == "with" else [_of_families(design) for design in tries]
    design = _choose(prepared, first_tries, store, backend, engine, reporter)
    refuse_other_numerics(store, design.distinct)
    with_curves = study.curves == "with"
    over = _climb(design, store, backend, engine, reporter, budget=budget, tries=first_tries, curves=with_curves)
    if study.curves == "after" and over:
        design = _choose(prepared, tries, store, backend, engine, reporter)
        _climb(design, store, backend, engine, reporter, budget=budget, tries=tries, curves=True)
    return design


def _of_families(design: Design) -> Design:
    """Only the arms that verdicts read."""
    prepared = design.prepared
    pairs = [(model, target) for model in prepared.models for target in prepared.study.targets]
    arms = [arm for model, target in pairs for arm in family_arms(design, model, target)]
    return design.called((arm, seed) for arm in arms for seed in prepared.study.arms.seeds)


def _choose(
    prepared: PreparedStudy,
    designs: Sequence[Design],
    store: Store,
    backend: BackendSpec,
    engine: Engine,
    reporter: Reporter,
) -> Design:
    """Try every learning rate and number of passes for every arm of these designs at the first seed, and keep each
    arm's best on the validation items. Every arm has as many tries; the tries that are kept are runs of the study."""
    for design in designs:
        refuse_other_numerics(store, design.distinct)
    settings = prepared.study.candidates()
    tried = ", ".join(f"learning rate {one.learning_rate:g} and {one.passes} passes" for one in settings)
    reporter.say(f"trying on validation items: {tried}")
    _execute(designs, store, backend, engine, reporter)
    return make_design(prepared, _chosen(prepared, store))


def _chosen(prepared: PreparedStudy, store: Store) -> Callable[[str, str, str], TrainingSettings]:
    """The best candidate of every arm by its mean validation score; ties go to the candidate written first."""
    means = [validation_means(design, store) for design in _tries(prepared)]

    seen = dict.fromkeys(key for mean in means for key in mean)

    def settings(model: str, target: str, name: str) -> TrainingSettings:
        # Arms that serve every target (no target of their own) are chosen by the sum over all targets.
        where = [key for key in seen if key[0] == model and key[2] == name and target in ("", key[1])]
        # a candidate that failed has no score, and is never the best
        values = [sum(mean.get(key, -math.inf) for key in where) for mean in means]
        best = max(range(len(values)), key=lambda index: (values[index], -index))
        return prepared.study.candidates()[best]

    return settings


def _tries(prepared: PreparedStudy) -> list[Design]:
    """The study at its first seed with each candidate."""
    # One seed for all tries, and a seed of the study: the chosen try is then a run that is done already.
    one_seed = replace_seeds(prepared, prepared.study.arms.seeds[:1])
    return [
        make_design(one_seed, _candidate(prepared.study, index)) for index in range(len(prepared.study.candidates()))
    ]


def replace_seeds(prepared: PreparedStudy, seeds: tuple[int, ...]) -> PreparedStudy:
    """The same prepared study for other seeds, with the same arms: a dose in tokens keeps the rows that fit at all
    seeds."""
    arms = prepared.study.arms.model_copy(update={"seeds": seeds})
    study, dose_seeds = (
        prepared.study.model_copy(update={"arms": arms}),
        prepared.dose_seeds or prepared.study.arms.seeds,
    )
    return replace(prepared, study=study, dose_seeds=dose_seeds)


def refuse_other_numerics(store: Store, runs: Iterable[PlannedRun]) -> None:
    """Finished work of the same recipe under other numerics would be confused with what comes now: say what differs."""
    wanted = {planned.run.recipe_id: planned.run for planned in runs}
    fix = "use the same versions and settings, or another --out folder"
    begun = {record["run_id"]: record for record in _unfinished(store)}
    # Same recipe, other run id: only backend or numerics can differ. Results of the two must not stand in one table.
    for run_id, record in {**begun, **store.finished()}.items():
        run = wanted.get(record["recipe_id"])
        if run is not None and run.run_id != run_id:
            if run_id in begun:
                fix += f", or delete {store.work_folder(run_id)} to train that run anew"
            raise StoreMismatch(
                "this store holds runs of the same study by another backend or under other numerics",
                where=str(store.root),
                got=_differences(record, run),
                expected="the backend and the numerics that its runs were made with",
                fix=fix,
            )


def _unfinished(store: Store) -> Iterator[dict[str, Any]]:
    """What is said of every run that has a checkpoint; one that is damaged is of no use to anybody."""
    for about in sorted(store.root.glob(f"work/[!.]*/{ABOUT}")):
        if any(about.parent.glob("[!.]*/" + MANIFEST)):
            with contextlib.suppress(StoreDamaged):
                yield read_sealed(about)


def _differences(record: Mapping[str, Any], run: Run) -> str:
    before, after = dict(record["numerics"]), dict(plain(run.numerics))
    by = [] if record["backend"] == run.backend else [f"backend {record['backend']} then, {run.backend} now"]
    old_versions, new_versions = dict(before.pop("versions")), dict(after.pop("versions"))
    found = by + [
        f"{name} {before.get(name)} then, {after[name]} now" for name in after if before.get(name) != after[name]
    ]
    found += [
        f"{name} {old_versions.get(name, 'absent')} then, {version} now"
        for name, version in new_versions.items()
        if old_versions.get(name) != version
    ]
    return "; ".join([*by, *found])


# --------------------------------------------------------------------------------------------------------------- model


def _candidates_for_the_model(design: Design, store: Store) -> set[str]:
    """Runs whose weights the verdict may ask for: the first seed of every arm at the verdict's target size."""
    study = design.prepared.study
    if study.keep_weights == "none":
        return set()
    seed = study.arms.seeds[0]
    keep = set()
    for arm in design.arms:
        if study.keep_weights == "all" and arm.kind != "untuned":
            keep |= {design.cell(arm, each).run.run_id for each in study.arms.seeds}
        elif arm.target_rows and arm.target_rows == verdict_size(design.prepared, arm.model, arm.target):
            keep.add(design.cell(arm, seed).run.run_id)
    return keep


def _keep_model(
    results: Results,
    store: Store,
    backend: BackendSpec,
    engine: Engine,
    presenter: Presenter,
    reporter: Reporter,
) -> None:
    """Put the recommended arm's model at model/ (model/<model>/<target>/ for several), and let the other weights go."""
    study = results.design.prepared.study
    if study.keep_weights == "none":
        return
    finished = store.finished()
    for judged in results.judged:
        # Where neither the verdict nor a mean names an arm there is nothing to hand over.
        named = judged.verdict.arm is not None or judged.better_baseline
        runs = [results.design.cell(recommended_arm(results, judged), seed) for seed in study.arms.seeds if named]
        # The first seed that was finished: the first one may have failed.
        planned = next((run for run in runs if run.run.run_id in finished), None)
        if planned is None:
            reporter.say("no model is handed over: no run of a baseline was finished")
            continue
        folder = store.root / "model"
        if len(results.judged) > 1:
            folder = folder / judged.model / judged.target
        card = presenter.card(planned, judged, results)
        # The same verdict again finds the model as it was handed over, and writes nothing.
        if publish_model(folder, planned, store, card=card, only_check=True):
            continue
        if not weights_folder(store, planned.run.run_id).is_dir():
            reporter.say(f"training the recommended arm {planned.run.arm.name} again for its weights")
            job = job_of(planned, results.design.prepared, keep_weights=True)
            engine.execute([job], root=store.root, backend=backend, on_event=reporter.event, weights_only=True)
        publish_model(folder, planned, store, card=card, only_check=False)
    if study.keep_weights == "recommended":
        shutil.rmtree(store.root / "weights", ignore_errors=True)


def recommended_arm(results: Results, judged: Judged) -> Arm:
    """The arm whose model is handed over: the verdict's where it says mix; else the better baseline, since nothing
    generalist has earned its place (the plain one where they tie, as it costs less)."""
    verdict = judged.verdict
    arms = {arm.name: arm for arm in results.design.arms if arm.model == judged.model and arm.target == judged.target}
    return arms[verdict.arm if verdict.arm is not None else judged.better_baseline]
