"""The curves over doses and over target sizes, and the lines of reference beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from titrant.core.records import Arm, Example, Item
from titrant.report.data import (
    ArmRole,
    CurvePoint,
    DoseCurve,
    Measure,
    ReferenceLine,
    SeedValue,
    SizeCurve,
    SizePoint,
)
from titrant.report.sections.view import View
from titrant.scoring import metrics
from titrant.scoring.sheets import GRADED, SUBJECT_GAIN, source_of
from titrant.stats.contrasts import layout
from titrant.stats.means import ArmMean

UNTUNED = "the untuned model is one whatever the seed: the interval is over items"


def dose_curves(view: View, measure: Measure) -> tuple[DoseCurve, ...]:
    """A curve for each target size and source; the baselines stand in all of a size."""
    means = view.means[view.metric_of(measure)]
    curves = []
    for size in view.sizes if means else ():
        arms = view.at(size)
        plain, matched = view.plain(size), view.matched(size)
        for source in dict.fromkeys(source_of(arm) for arm in arms if arm.doses):
            assert source is not None
            points = [] if plain is None else [_point(view, plain, means, dose=0, plain=True)]
            dosed = sorted((arm for arm in arms if source_of(arm) == source), key=lambda arm: arm.dose_rows)
            points += [_point(view, arm, means, dose=arm.dose_rows) for arm in dosed]
            if matched is not None:
                points.append(_point(view, matched, means, dose=_matched_dose(matched, arms)))
            curves.append(DoseCurve(measure=measure, target_rows=size, source=source, points=tuple(points)))
    return tuple(curves)


def _point(view: View, arm: Arm, means: Mapping[str, ArmMean], *, dose: int, plain: bool = False) -> CurvePoint:
    found = means.get(arm.name)
    estimate = None if found is None else found.estimate
    return CurvePoint(
        arm=arm.name,
        kind="alone" if plain else arm.kind,
        dose=dose,
        mean=None if estimate is None else estimate.value,
        low=None if estimate is None else estimate.low,
        high=None if estimate is None else estimate.high,
        seeds=0 if estimate is None else estimate.n_seeds,
        by_seed=() if found is None else _by_seed(found),
        reason=view.missing(arm) if estimate is None else UNTUNED if arm.kind == "untuned" else estimate.reason,
    )


def _by_seed(found: ArmMean) -> tuple[SeedValue, ...]:
    pairs = sorted((int(seed), value) for seed, value in zip(found.seeds, found.by_seed, strict=True))
    return tuple(SeedValue(seed=seed, value=value) for seed, value in pairs)


def _matched_dose(matched: Arm, arms: Sequence[Arm]) -> int:
    """The dose whose visits the matched baseline takes."""
    visits = {arm.dose_rows: _visits(arm) for arm in arms if arm.doses}
    return max((dose for dose, count in visits.items() if count == matched.visits), default=max(visits, default=0))


def _visits(arm: Arm) -> int:
    return arm.target_rows * arm.training.passes + arm.dose_rows * arm.training.generalist_passes


def size_curves(view: View) -> tuple[SizeCurve, ...]:
    """Score against target rows: without a dose, matched, and with the dose that the page shows."""
    shown = view.shown
    by_role: dict[ArmRole, tuple[str, list[Arm]]] = {
        "plain": ("without a dose", [arm for size in view.sizes if (arm := view.plain(size)) is not None]),
        "matched": ("without a dose, as many steps", [a for s in view.sizes if (a := view.matched(s)) is not None]),
    }
    if shown is not None:
        same = [arm for arm in view.arms if arm.doses == shown.doses and arm.target_rows]
        by_role["dosed"] = (f"with {shown.dose_rows} rows of {source_of(shown)}", same)
    return tuple(
        SizeCurve(role=role, label=label, points=tuple(_size_point(view, arm) for arm in arms))
        for role, (label, arms) in by_role.items()
        if arms
    )


def _size_point(view: View, arm: Arm) -> SizePoint:
    point = _point(view, arm, view.means[view.judged.metric], dose=arm.dose_rows)
    return SizePoint(
        arm=arm.name,
        target_rows=arm.target_rows,
        mean=point.mean,
        low=point.low,
        high=point.high,
        seeds=point.seeds,
        reason=point.reason,
    )


def reference_lines(view: View) -> tuple[ReferenceLine, ...]:
    """What costs no target rows."""
    lines = []
    for arm in view.arms:
        if arm.target_rows == 0:
            point = _point(view, arm, view.means[view.judged.metric], dose=arm.dose_rows)
            alone = f"generalist alone: {arm.dose_rows} rows of {source_of(arm)}"
            lines.append(
                ReferenceLine(
                    kind="generalist_alone" if arm.doses else "untuned",
                    label=alone if arm.doses else "untuned model",
                    value=point.mean,
                    low=point.low,
                    high=point.high,
                    reason=point.reason,
                )
            )
    if view.judged.metric == SUBJECT_GAIN:  # a difference of log-odds: no fixed answer has one
        return tuple(lines)
    return (*lines, _always(view))


def _always(view: View) -> ReferenceLine:
    """The score of giving every test item the commonest label, or answer, of the training rows (of its task's, where
    there are several tasks)."""
    test = view.data.test
    closed = all(item.answer == "choices" for item in test)
    commonest = _commonest_answers(view.data.train, closed=closed)
    tasks = {item.task for item in test}
    plan = layout(len(test), tasks=[item.task for item in test], task_weights=view.target.task_weights)
    found = [_worth_of(commonest.get(item.task, commonest[""]), item, view.judged.metric) for item in test]
    weights = [(w, f.value) for w, f in zip(plan.weight_I.tolist(), found, strict=True) if f.value is not None]
    total = sum(weight for weight, _ in weights)
    word = "label" if closed else "answer"
    of_each = f"always the commonest {word} of each task's training rows"
    return ReferenceLine(
        kind="majority_label" if closed else "prior_answer",
        label=of_each if len(tasks) > 1 else f"always {commonest['']!r}, the commonest {word} of the training rows",
        value=sum(weight * value for weight, value in weights) / total if total else None,
        reason=None if total else next((f.reason for f in found if f.reason), "no item could be scored"),
    )


def _commonest_answers(train: Sequence[Example], *, closed: bool) -> dict[str, str]:
    """The commonest label (or answer) of every task's rows, and under "" of all rows, for tasks without any."""
    answers: dict[str, list[str]] = {"": []}
    for row in train:
        answer = row.label if row.label is not None and closed else row.answer
        answers[""].append(answer)
        answers.setdefault(row.task, []).append(answer)
    return {task: metrics.majority_label(given) for task, given in answers.items()}


def _worth_of(answer: str, item: Item, metric: str) -> metrics.TextScore:
    """What always giving one answer scores. Graded, all probability is on it; a chosen answer is right or wrong."""
    if item.answer == "loss":
        return metrics.TextScore(value=None, reason="nothing is written, so no answer is given")
    if metric == GRADED or item.answer == "choices":
        return metrics.accuracy(answer, item.references)
    return metrics.score_text(item.metric, answer, item.references)
