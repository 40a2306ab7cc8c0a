"""The public verbs: plan, run, judge, next_runs, score, mix, grid, contrast. `titrant` itself hands them on, lazily.

`experiment` knows the order of things and is handed how results are shown; this module hands it titrant's own report.
What a function here returns is defined in the package that makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from titrant.config.study import Study, load_study
from titrant.core.budget import Budget, parse_budget
from titrant.core.errors import ScoresError, SpecError
from titrant.core.plugins import Extension, extension_of, load_extension
from titrant.core.records import Verdict
from titrant.data.readers.memory import rows_of
from titrant.decision import staged
from titrant.decision.judge import ArrowStream, verdict_on
from titrant.decision.protocol import Protocol, RunRequest
from titrant.decision.staged import NextRuns
from titrant.engines import BackendSpec, Engine, Event, LocalEngine
from titrant.experiment import runner
from titrant.experiment.design import Design, make_design
from titrant.experiment.grid import Grid
from titrant.experiment.mix import Format, Mix, find_run, mix_of
from titrant.experiment.plan import Plan, plan_of
from titrant.experiment.prepare import prepare_study
from titrant.experiment.progress import TerminalReporter, reporter_of
from titrant.experiment.results import Results
from titrant.experiment.runner import Reporter
from titrant.experiment.stages import ladder_of
from titrant.experiment.work import open_runs
from titrant.report.presenter import StudyPresenter
from titrant.report.study_results import StudyResults
from titrant.scoring.metrics.score import ScoreReport, score_rows
from titrant.stats.contrasts import TaskWeights
from titrant.stats.effects import Difference, weighted_difference
from titrant.stats.evidence import Settings
from titrant.storage.store import Store

Report = Reporter | Callable[[Event], None]


def plan(
    study: Study | str | Path,
    *,
    out: str | Path | None = None,
    backend: Any = None,
    reporter: Report | None = None,
) -> Plan:
    """What the study will do: its arms, runs and tokens. Reads every file of rows; trains nothing, writes nothing.

    `out` and `backend` as in `run`: finished runs in that folder, by that backend, are not counted again. Where
    learning rates or passes are still to be chosen, the plan shows the first candidate. Raises `UserError`
    (`SpecError`, `DataError`, `MixError`, `ModelError`) with file, line and the usual fix.

    >>> plan = titrant.plan(study)
    >>> plan
    arm          kind              target rows  dose  steps  tokens  target visits  generalist visits
    untuned      untuned                     0     0      0       0              0                  0
    general:4    generalist alone            0     4      1     158              0                  4
    6            alone                       6     0      3     686             12                  0
    6-matched    matched                     6     0      4     915             16                  0
    6+general:4  dosed                       6     4      4     844             12                  4
    <BLANKLINE>
    5 arms, 2 seeds, 9 runs (steps and tokens: of one run)
    5,195 training tokens, 15,435 tokens to answer
    >>> len(plan.runs), plan.arms[-1].steps
    (9, 4)
    """
    study = _study(study)
    reporter = reporter_of(reporter)
    identity = runner.backend_of(study, _checked_backend(backend, study)).identity
    prepared = prepare_study(study, backend=identity, say=reporter.say)
    root = _root(study, out)
    design = make_design(prepared, _first_candidate(study))
    return plan_of(design, open_runs([design], Store.open(root) if (root / "store.json").is_file() else None))


def run(
    study: Study | str | Path,
    *,
    out: str | Path | None = None,
    engine: Engine | None = None,
    backend: Any = None,
    reporter: Report | None = None,
    budget: Budget | str | None = None,
) -> StudyResults:
    """Train what is not done, answer, judge, report, and keep the model. The same study again changes nothing.

    `out`: the folder of results, by default `titrations/<name>`. `engine`: who works on runs, by default the study's,
    else `LocalEngine()`: a worker a core. `backend`: what trains (docs/extend.md), by default the study's, else Hugging
    Face models on this machine. `reporter`: a function that gets every `Event`, or an object with `say`, `stage` and
    `event`; by default bars where stderr is a terminal, and silence elsewhere. `budget` (`"30m"`, `"3Mtok"`,
    `"40runs"`) ends a study with `until: firm` early; with a larger one it goes on where it stood.

    Works in a notebook and in a thread. In the main thread SIGINT and SIGTERM leave checkpoints behind and raise
    `Interrupted`; run it again and it goes on. Raises `UserError` before the first training step where something cannot
    be used; a run that fails is in `.failed`, and the verdict says that it is provisional.

    >>> results = titrant.run(study, out=folder / "out", engine=titrant.LocalEngine(jobs=0))
    >>> results.verdict.word, results.scores.num_rows, results.failed
    ('cannot_tell', 459, ())
    >>> results.write_report(folder / "copy.html").name
    'copy.html'
    """
    study = _study(study)
    told = reporter_of(reporter)
    try:
        results = runner.run_study(
            study,
            out=_root(study, out),
            presenter=StudyPresenter(),
            engine=engine,
            backend=_checked_backend(backend, study),
            reporter=told,
            budget=parse_budget(budget, where="budget") if isinstance(budget, str) else budget,
        )
    finally:
        if isinstance(told, TerminalReporter):
            told.close()
    return StudyResults(results, Store.open(_root(study, out)))


def judge(
    scores: str | Path | Mapping[str, Sequence[Any]] | ArrowStream,
    *,
    baseline: str | None = None,
    matched: str | None = None,
    smallest_effect: float = 0.01,
    target_rows: int | None = None,
    level: float = 0.95,
    drop_incomplete: bool = False,
    task_weights: TaskWeights = "macro",
) -> Verdict:
    """The verdict on anyone's scores: the path of a CSV file, a dict of columns, or a table of pyarrow, pandas, polars.

    Columns `arm`, `seed`, `item`, `score` (0 to 1), one row for each arm, seed and item, and where known `group`,
    `task`, `target_rows`, `dose`, `source`, `eval_set` (docs/judge.md). `smallest_effect`: the difference that matters
    to you, 0 to 1. `baseline` and `matched` name the arms without a dose, where `dose` does not say. `target_rows`: the
    size that the verdict is about, by default the largest. Raises `ScoresError` that lists missing, double and
    impossible scores.

    >>> cells = [(arm, seed, item) for arm in ("alone", "mixed") for seed in range(3) for item in range(200)]
    >>> verdict = titrant.judge({
    ...     "arm": [arm for arm, _, _ in cells], "seed": [seed for _, seed, _ in cells],
    ...     "item": [item for _, _, item in cells],
    ...     "score": [int((7 * item + seed) % 10 < (8 if arm == "mixed" else 5)) for arm, seed, item in cells],
    ... }, baseline="alone", smallest_effect=0.02)
    >>> verdict.word, verdict.arm, round(verdict.contrasts[0].difference.value, 3)
    ('mix', 'mixed', 0.3)
    """
    settings = Settings(
        smallest_effect=smallest_effect, level=level, drop_incomplete=drop_incomplete, task_weights=task_weights
    )
    return verdict_on(scores, baseline=baseline, matched=matched, target_rows=target_rows, settings=settings)


def next_runs(
    scores: str | Path | Mapping[str, Sequence[Any]] | None = None,
    *,
    protocol: str | Path | Mapping[str, Any] | None = None,
    study: Study | str | Path | None = None,
    model: str | None = None,
    target: str | None = None,
    failed: Iterable[tuple[str, int | str]] = (),
    shards: int = 1,
    reporter: Report | None = None,
) -> NextRuns:
    """What to run next of a staged study, or stop and the verdict (docs/staged.md): for any trainer and scheduler.

    `protocol` says what is fixed before the first score (the path of a JSON file, or a dict); or it is derived from
    `study`, as `run` does with `until: firm`: arms by the names that `plan` gives them, of `model` and `target` where
    there are several. `scores`: a CSV or columns as in `judge`, None before the first. `failed`: runs as (arm, seed)
    that have no scores and never will. `shards`: workers; at least so many runs are named, while there are any. The
    same arguments give the same answer. Raises `SpecError` and `ScoresError`.

    >>> protocol = {"arms": {"plain": {"dose": 0}, "d96": {"dose": 96}}, "smallest_effect": 0.05}
    >>> found = titrant.next_runs(protocol=protocol)
    >>> found.stop, [(run.arm, run.seed) for run in found.next]
    (False, [('plain', '0'), ('d96', '0'), ('plain', '1'), ('d96', '1')])
    """
    if (protocol is None) == (study is None):
        raise SpecError("one of protocol and study says what is fixed", expected="protocol=… or study=…")
    runs = [RunRequest(arm=arm, seed=str(seed)) for arm, seed in failed]
    if study is None:
        assert protocol is not None
        return staged.next_runs(protocol, scores, failed=runs, shards=shards)
    fixed = study_protocol(study, model=model, target=target, reporter=reporter)
    return staged.next_runs(fixed, scores, failed=runs, shards=shards)


def study_protocol(
    study: Study | str | Path, *, model: str | None = None, target: str | None = None, reporter: Report | None = None
) -> Protocol:
    """The protocol that a study with `until: firm` comes to, of one of its models and targets."""
    study = load_study(study, until="firm") if not isinstance(study, Study) else study
    if study.until != "firm":
        raise SpecError("this study is a grid", where="study", got=f"until: {study.until}", expected="until: firm")
    prepared = prepare_study(study, backend=runner.backend_of(study).identity, say=reporter_of(reporter).say)
    chosen = {"model": model, "target": target}
    for word, names in (("model", list(prepared.models)), ("target", list(prepared.study.targets))):
        if chosen[word] is None and len(names) == 1:
            chosen[word] = names[0]
        if chosen[word] not in names:
            fix = f"name one of its {word}s"
            raise SpecError(
                f"which {word}?", where=word, got=chosen[word], expected=f"one of {', '.join(names)}", fix=fix
            )
    return ladder_of(
        make_design(prepared, _first_candidate(study)), str(chosen["model"]), str(chosen["target"])
    ).protocol


def score(rows: str | Path | Iterable[Mapping[str, Any]] | ArrowStream, *, metric: Any = "exact_match") -> ScoreReport:
    """Score predictions, 0 to 1: rows `{"id", "prediction", "references": [...]}`, as a file, dicts or a table.

    `metric`: a name (`exact_match`, `f1`, `rouge_l`, `accuracy`, `last_number`, `macro_f1`), or a function
    `(prediction, references)` or `(prediction, references, item)` that returns 0 to 1. The report holds `score` (None
    where no item has one), `n`, `unscored` by reason, and `items`. Raises `ScoresError` that names each row which
    cannot be scored, and each value of a function that is no number from 0 to 1.

    >>> rows = [{"id": "a", "prediction": "Paris.", "references": ["paris"]},
    ...         {"id": "b", "prediction": "Rome", "references": ["Milan", "Turin"]}]
    >>> titrant.score(rows, metric="exact_match").score
    0.5
    >>> titrant.score(rows, metric=lambda prediction, references: float(len(prediction) > 4)).score
    0.5
    """
    if not isinstance(metric, str):
        metric = extension_of(metric, kind="metric")
    return score_rows(rows_of(rows), metric)


def mix(
    study: Study | str | Path,
    *,
    target_rows: int,
    dose: Mapping[str, int] | None = None,
    seed: int = 0,
    target: str | None = None,
    model: str | None = None,
    form: Format = "messages",
    reporter: Report | None = None,
) -> Mix:
    """One arm's exact rows, for any trainer, and what was asked and got: `rows, sidecar = titrant.mix(...)`.

    `target_rows` and `dose` (source: rows) name an arm of the study, `seed` one of its seeds; 0 target rows is
    generalist alone. `form`: `messages`, `alpaca` or `prompt-completion`. `.write(path)` writes JSON Lines and the
    sidecar. Raises `SpecError` that lists the study's arms where there is no such arm.

    >>> mix = titrant.mix(study, target_rows=6, dose={"general": 4}, seed=1)
    >>> len(mix.rows), mix.sidecar["arm"], sorted(mix.rows[0])
    (10, '6+general:4', ['id', 'messages', 'source'])
    """
    study = _study(study)
    if seed not in study.arms.seeds:
        seeds = ", ".join(map(str, study.arms.seeds))
        raise SpecError("not one of the study's seeds", where="seed", got=seed, expected=f"one of {seeds}")
    identity = runner.backend_of(study).identity
    prepared = prepare_study(study, backend=identity, say=reporter_of(reporter).say)
    design = make_design(prepared, _first_candidate(study))
    planned = find_run(design, target_rows=target_rows, doses=dict(dose or {}), seed=seed, target=target, model=model)
    return mix_of(planned, form=form)


def grid(
    study: Study | str | Path,
    *,
    out: str | Path | None = None,
    backend: Any = None,
    reporter: Report | None = None,
) -> Grid:
    """A study whose runs you choose yourself: `.runs()`, `.left(runs)`, `.run(runs)`, `.scores(runs)`, `.log(run)`.

    Reads every file of rows; trains nothing, writes nothing. `out`, `backend` and `reporter` as in `run`: what stands
    in that folder is done, and `run` finds there what a grid has done. Several studies may share a folder: what is the
    same in them is trained once. Raises `UserError` as `plan` does.

    >>> grid = titrant.grid(study, out=folder / "grid")
    >>> first = [planned for planned in grid.runs() if planned.run.arm.name in ("6", "6+general:4")]
    >>> [(planned.run.arm.name, planned.run.seed, planned.run.steps) for planned in first]
    [('6', 0, 3), ('6', 1, 3), ('6+general:4', 0, 4), ('6+general:4', 1, 4)]
    >>> grid.run(first, engine=titrant.LocalEngine(jobs=0))
    ()
    >>> len(grid.left(grid.runs())), grid.scores(first).num_rows, len(grid.log(first[0]).steps)
    (5, 204, 3)
    """
    study, root = _study(study), _root(study, out)
    told = reporter_of(reporter)
    spec = runner.backend_of(study, _checked_backend(backend, study))
    prepared = prepare_study(study, backend=spec.identity, say=told.say, answers_kept=runner.has_answers(root))
    return Grid(prepared, out=root, spec=spec)


def contrast(
    scores: Mapping[str, Sequence[Any]] | ArrowStream,
    weights: Mapping[str, float],
    *,
    task_weights: TaskWeights = "macro",
    drop_incomplete: bool = False,
) -> Difference:
    """A weighted sum of arms, paired item by item and seed by seed, as numbers: value, standard error, interval.

    `scores`: a dict of columns, or a table of pyarrow, pandas or polars, a row for each arm, seed and item; columns
    `arm`, `seed`, `item`, `value` (any finite number; none is a missing score), and where known `group` (items of one
    text) and `task`. Other columns are not read, but rows of several metrics, eval sets, targets or models are refused.
    `weights`: by arm; `{"48+general:96": 1, "48": -1}` is the gain of a dose. Seeds are those that all of them
    ran. `task_weights`: every task weighs the same (`macro`), or every item does (`by_item`). `drop_incomplete` leaves
    out items that a run lacks. Raises `ScoresError`.

    >>> cells = [(arm, seed, item) for arm in ("alone", "mixed") for seed in range(3) for item in range(200)]
    >>> columns = {
    ...     "arm": [arm for arm, _, _ in cells], "seed": [seed for _, seed, _ in cells],
    ...     "item": [item for _, _, item in cells],
    ...     "value": [int((7 * item + seed) % 10 < (8 if arm == "mixed" else 5)) for arm, seed, item in cells],
    ... }
    >>> gain = titrant.contrast(columns, {"mixed": 1, "alone": -1})
    >>> round(gain.value, 3), round(gain.standard_error, 3), gain.items, gain.seeds
    (0.3, 0.02, 200, 3)
    """
    columns = scores if isinstance(scores, Mapping) else _columns(scores)
    return weighted_difference(columns, weights, task_weights=task_weights, drop_incomplete=drop_incomplete)


# ------------------------------------------------------------------------------------------- for the command line


def run_study(
    study: Study,
    *,
    out: Path,
    jobs: int | Literal["auto"] = "auto",
    backend: BackendSpec | None = None,
    reporter: Reporter | None = None,
    budget: Budget | None = None,
) -> Results:
    """`run` for the command line: with a number of jobs, and the results as `experiment` returns them."""
    engine = None if jobs == "auto" else LocalEngine(jobs)
    return runner.run_study(
        study,
        out=out,
        presenter=StudyPresenter(),
        engine=engine,
        backend=backend,
        reporter=reporter,
        budget=budget,
    )


def finish(design: Design, store: Store, *, reporter: Reporter | None = None) -> Results:
    """Score, judge and report what is stored; trains nothing."""
    return runner.finish(design, store, presenter=StudyPresenter(), reporter=reporter)


def export_arm(
    study: Study, *, out: Path, to: Path, arm: str | None, seed: int | None, reporter: Reporter | None = None
) -> None:
    """Put an arm's model at `to`, trained again to the same bits where its weights were not kept."""
    runner.export_arm(study, out=out, to=to, presenter=StudyPresenter(), arm=arm, seed=seed, reporter=reporter)


def _columns(scores: Any) -> dict[str, Sequence[Any]]:
    import pyarrow as pa

    if not isinstance(scores, ArrowStream):
        expected = "a dict of columns, or a table of pyarrow, pandas or polars"
        raise ScoresError("these are no scores", got=type(scores).__name__, expected=expected)
    table = pa.table(scores)
    wanted = {"arm", "seed", "item", "value", "group", "task", "metric", "eval_set", "target", "model"}
    return {name: table.column(name).to_pylist() for name in table.column_names if name in wanted}


def _study(study: Study | str | Path) -> Study:
    return study if isinstance(study, Study) else load_study(study)


def _root(study: Study, out: str | Path | None) -> Path:
    return Path("titrations") / study.name if out is None else Path(out)


def _first_candidate(study: Study) -> Any:
    first = study.candidates()[0]
    return (lambda model, target, name: first) if study.needs_choosing else None


def _checked_backend(backend: Any, study: Study) -> BackendSpec | Extension | None:
    if backend is None or isinstance(backend, BackendSpec):
        return backend
    if isinstance(backend, str):  # the caller's own words: no study has to allow them
        return load_extension(backend, folder=study.folder, kind="backend")
    return extension_of(backend, kind="backend")
