"""From the results of a study to all that its page shows: every number is worked out here, from what is stored."""

from __future__ import annotations

from titrant.core.records import Arm, Verdict
from titrant.data.readers import is_non_commercial
from titrant.experiment.measures import target_measures
from titrant.experiment.results import FailedCell, Judged, Results, page_name
from titrant.report.data import (
    FailedRun,
    MeasureRow,
    NamedVerdict,
    RemovedRows,
    ReportData,
)
from titrant.report.sections.answers import answer_variety
from titrant.report.sections.comparison import item_comparison
from titrant.report.sections.curves import dose_curves, reference_lines, size_curves
from titrant.report.sections.provenance import PACK_NOTE, provenance_of
from titrant.report.sections.retention import retention_rows
from titrant.report.sections.stages import stages_of
from titrant.report.sections.training import training_sections
from titrant.report.sections.view import GRADED_WORDS, View
from titrant.report.sections.worth import change_rows, exchange_rows, law_rows, skill_rows, threshold_rows
from titrant.scoring.sheets import GRADED, METRIC_WORDS, source_of
from titrant.storage.store import Store

ONE_SEED_NOTE = "One seed: intervals are over items only, and another seed may come out otherwise."


def report_data(results: Results, store: Store, *, judged: Judged | None = None) -> ReportData:
    """All that the page shows of one model and target: `judged`, by default the study's first.

    The other models and targets, and the other target sizes, come as further verdicts.
    """
    mine = judged or results.judged[0]
    view = View(results=results, store=store, judged=mine)
    answered = answer_variety(view)
    comparison, comparison_reason = item_comparison(view)
    retention, retention_reason = retention_rows(view)
    exchange, exchange_reason = exchange_rows(view)
    fairness, training = training_sections(view)
    return ReportData(
        study=view.results.design.prepared.study.name,
        target=mine.target,
        metric=METRIC_WORDS.get(mine.metric, mine.metric),
        graded=GRADED_WORDS if view.tables[GRADED] is not None and mine.metric != GRADED else None,
        verdict=mine.verdict,
        items=len(view.data.test),
        seeds=len(view.results.design.prepared.study.arms.seeds),
        times_judged=results.times_judged,
        curves=(*dose_curves(view, "score"), *(() if mine.metric == GRADED else dose_curves(view, "graded"))),
        sizes=size_curves(view),
        lines=reference_lines(view),
        fairness=fairness,
        provenance=provenance_of(view),
        retention=retention,
        retention_reason=retention_reason,
        training=training,
        collapse=answered,
        exchange=exchange,
        exchange_reason=exchange_reason,
        thresholds=threshold_rows(view),
        changes=change_rows(view),
        skills=skill_rows(view),
        laws=law_rows(view),
        comparison=comparison,
        comparison_reason=comparison_reason,
        failures=tuple(_failed(cell) for cell in view.failed),
        removed=_removed(view),
        other_verdicts=_others(results, mine),
        measures=_measures(view),
        stages=stages_of(view),
        notes=_notes(view),
    )


def _failed(cell: FailedCell) -> FailedRun:
    failure = cell.failure
    return FailedRun(arm=cell.arm.name, seed=cell.seed, kind=failure.kind, step=failure.step, message=failure.message)


def _removed(view: View) -> tuple[RemovedRows, ...]:
    return tuple(
        RemovedRows(pool=entry.pool, why=entry.why, rows=entry.rows)
        for entry in (*view.results.design.prepared.removed, *view.prepared.removed)
    )


def _measures(view: View) -> tuple[MeasureRow, ...]:
    """Every other measure for the untuned model, the baselines and the dose that the page shows."""
    size, shown = view.judged.verdict.target_rows or 0, view.shown
    untuned = next((arm for arm in view.arms if arm.kind == "untuned"), None)
    named: dict[str, Arm | None] = {"untuned": untuned, "without a dose": view.plain(size)}
    named |= {"as many steps": view.matched(size)} if view.matched(size) is not None else {}
    named |= {f"with {shown.dose_rows} rows of {source_of(shown)}": shown} if shown is not None else {}
    return tuple(
        MeasureRow(
            metric=measure.metric,
            of=measure.of,
            items=measure.items,
            means=tuple(
                (role, None if arm is None else dict(measure.means).get(arm.name)) for role, arm in named.items()
            ),
        )
        for measure in target_measures(view.results.scores, view.judged.model, view.judged.target)
    )


def _others(results: Results, mine: Judged) -> tuple[NamedVerdict, ...]:
    """The other target sizes of this verdict, then the verdicts of the other models and targets."""
    study = results.design.prepared.study

    def name(judged: Judged) -> str:
        parts = [judged.target] if len(study.targets) > 1 else []
        return " · ".join([*parts, *([judged.model] if len(study.models) > 1 else [])])

    def size(verdict: Verdict) -> str:
        return f"{verdict.target_rows} target rows"

    own = [NamedVerdict(name=size(verdict), verdict=verdict) for verdict in mine.verdicts[1:]]
    rest = [judged for judged in results.judged if (judged.model, judged.target) != (mine.model, mine.target)]
    further = (
        NamedVerdict(name=name(judged), verdict=judged.verdict, page=page_name(results, judged)) for judged in rest
    )
    return (*_by_accuracy(mine), *own, *further)


def _by_accuracy(mine: Judged) -> list[NamedVerdict]:
    """The verdict of accuracy beside a graded one, where the two differ."""
    if mine.check is None:
        return []
    accuracy = mine.check.accuracy
    differ = (accuracy.verdict, accuracy.arm) != (mine.verdict.verdict, mine.verdict.arm)
    return [NamedVerdict(name="by accuracy", verdict=accuracy)] if differ else []


def _notes(view: View) -> tuple[str, ...]:
    study = view.results.design.prepared.study
    notes = []
    if any(file.path.startswith("pack:") for file in view.files):
        notes.append(PACK_NOTE)
    if len(study.arms.seeds) == 1:
        notes.append(ONE_SEED_NOTE)
    licences = [("The model", view.prepared.model.licence, is_non_commercial(view.prepared.model.licence))]
    licences += [
        (f"The pool {name}", pool.licence, bool(pool.non_commercial)) for name, pool in view.prepared.pools.items()
    ]
    notes += [
        f"{what} has a non-commercial licence ({licence}), which may bind what is trained with it."
        for what, licence, non_commercial in licences
        if non_commercial
    ]
    notes += [f"How the files were read: {note.line}." for note in view.results.design.prepared.not_read]
    removed = sum(entry.rows for entry in _removed(view))
    if removed:
        rows = "1 row was" if removed == 1 else f"{removed:,} rows were"
        notes.append(f"{rows} taken out before anything was drawn; the table of removed rows says why.")
    return tuple(notes)
