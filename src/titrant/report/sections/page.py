"""From the results of a study to all that its page shows: every number is worked out here, from what is stored."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

import titrant
from titrant.config.fields import Place
from titrant.config.study import Target
from titrant.core.identity import fingerprint
from titrant.core.records import Arm, Draw, Example, Item, Verdict
from titrant.data.readers import is_non_commercial
from titrant.engines.job import checked_training
from titrant.experiment.answers import StoredAnswers
from titrant.experiment.collections import collection_places
from titrant.experiment.design import PlannedRun, overlap_at, sizes_of
from titrant.experiment.measures import target_measures
from titrant.experiment.prepare import (
    KEPT_SET,
    LEARNED_SET,
    TARGET_SET,
    ModelData,
    TargetData,
    collection_hash,
    file_hash,
)
from titrant.experiment.results import METRIC_WORDS, FailedCell, Judged, Results, cells, page_name
from titrant.report.data import (
    ArmAnswers,
    ChangeRow,
    CollapseRow,
    CurvePoint,
    DoseCurve,
    ExchangeRow,
    FailedRun,
    FairnessRow,
    FileFacts,
    ItemComparison,
    ItemTable,
    LawRow,
    Measure,
    MeasureRow,
    ModelFacts,
    NamedVerdict,
    Provenance,
    ReferenceLine,
    RemovedRows,
    ReportData,
    RetentionRow,
    Role,
    SeedAnswer,
    SeedValue,
    SizeCurve,
    SizePoint,
    ThresholdRow,
    TrainingCurve,
    TrainingPoint,
)
from titrant.scoring import metrics
from titrant.scoring.sheets import GRADED, SUBJECT_GAIN, answer_columns, source_of
from titrant.stats.contrasts import layout
from titrant.stats.law import Law
from titrant.stats.means import ArmMean, arm_means
from titrant.stats.table import ScoreTable
from titrant.storage.store import Store

MOST_ITEMS = 400
MOST_TRAINING_POINTS = 120  # a run: the page thins them further
GRADED_WORDS = "graded: the probability of a right answer among the choices"
NOT_WRITTEN = "nothing was written: the score is the probability of the right answer"
PACK_NOTE = "The rows are the embedded pack, written for this project: a demonstration, not a claim about the world."
ONE_SEED_NOTE = "One seed: intervals are over items only, and another seed may come out otherwise."
UNTUNED = "the untuned model is one whatever the seed: the interval is over items"


def report_data(results: Results, store: Store, *, judged: Judged | None = None) -> ReportData:
    """All that the page shows of one model and target: `judged`, by default the study's first.

    The other models and targets, and the other target sizes, come as further verdicts.
    """
    mine = judged or results.judged[0]
    view = _View(results=results, store=store, judged=mine)
    answered = _answered(view)
    comparison, comparison_reason = _comparison(view)
    retention, retention_reason = _retention(view)
    exchange, exchange_reason = _exchange(view)
    fairness, training = _trainings(view)
    return ReportData(
        study=view.results.design.prepared.study.name,
        target=mine.target,
        metric=METRIC_WORDS.get(mine.metric, mine.metric),
        graded=GRADED_WORDS if view.tables[GRADED] is not None and mine.metric != GRADED else None,
        verdict=mine.verdict,
        items=len(view.data.test),
        seeds=len(view.results.design.prepared.study.arms.seeds),
        times_judged=results.times_judged,
        curves=(*_dose_curves(view, "score"), *(() if mine.metric == GRADED else _dose_curves(view, "graded"))),
        sizes=_size_curves(view),
        lines=_lines(view),
        fairness=fairness,
        provenance=_provenance(view),
        retention=retention,
        retention_reason=retention_reason,
        training=training,
        collapse=answered,
        exchange=exchange,
        exchange_reason=exchange_reason,
        thresholds=_thresholds(view),
        changes=_changes(view),
        skills=_skills(view),
        laws=_laws(view),
        comparison=comparison,
        comparison_reason=comparison_reason,
        failures=tuple(_failed(cell) for cell in view.failed),
        removed=_removed(view),
        other_verdicts=_others(results, mine),
        measures=_measures(view),
        notes=_notes(view),
    )


# ---------------------------------------------------------------------------------------------------------------- view


@dataclass(frozen=True)
class _View:
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
            return "no run of this arm has a score"
        return f"no run of this arm was finished: {failed[0].kind}"


# -------------------------------------------------------------------------------------------------------------- curves


def _dose_curves(view: _View, measure: Measure) -> tuple[DoseCurve, ...]:
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


def _point(view: _View, arm: Arm, means: Mapping[str, ArmMean], *, dose: int, plain: bool = False) -> CurvePoint:
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


def _size_curves(view: _View) -> tuple[SizeCurve, ...]:
    """Score against target rows: without a dose, matched, and with the dose that the page shows."""
    shown = view.shown
    by_role: dict[Role, tuple[str, list[Arm]]] = {
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


def _size_point(view: _View, arm: Arm) -> SizePoint:
    point = _point(view, arm, view.means[view.judged.metric], dose=arm.dose_rows)
    return SizePoint(
        target_rows=arm.target_rows,
        mean=point.mean,
        low=point.low,
        high=point.high,
        seeds=point.seeds,
        reason=point.reason,
    )


def _lines(view: _View) -> tuple[ReferenceLine, ...]:
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


def _always(view: _View) -> ReferenceLine:
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


# ---------------------------------------------------------------------------------------------------- retention


def _retention(view: _View) -> tuple[tuple[RetentionRow, ...], str | None]:
    kept, learned = view.means_of(view.table(KEPT_SET, "accuracy")), view.table(LEARNED_SET, "token_probability")
    if not kept and learned is None:
        return (), "the study names no retention items (retention.kept, retention.learned)"
    probabilities = {} if learned is None else _token_probabilities(learned)
    rows = []
    for arm in view.arms:
        estimate = kept[arm.name].estimate if arm.name in kept else None
        gain, reason = _gain(view, arm)
        if estimate is None and kept:
            reason = view.missing(arm)
        elif not kept:
            reason = reason or "the study names no items of general ability (retention.kept)"
        elif learned is None:
            reason = reason or "the study names no held-out rows of the pool's kind (retention.learned)"
        rows.append(
            RetentionRow(
                arm=arm.name,
                kind=arm.kind,
                target_rows=arm.target_rows,
                source=source_of(arm),
                dose=arm.dose_rows,
                target_gain=gain,
                kept=None if estimate is None else estimate.value,
                kept_low=None if estimate is None else estimate.low,
                kept_high=None if estimate is None else estimate.high,
                learned=probabilities.get(arm.name),
                reason=reason or (None if estimate is None else estimate.reason),
            )
        )
    return tuple(rows), None


def _token_probabilities(table: ScoreTable) -> dict[str, float]:
    """exp(mean log probability) over items and seeds, by arm."""
    found = {}
    for index, arm in enumerate(table.arms):
        values = table.values_ASI[index][table.present_ASI[index]]
        if len(values):
            found[arm.name] = float(np.exp(np.log(values).mean())) if (values > 0).all() else 0.0
    return found


def _gain(view: _View, arm: Arm) -> tuple[float | None, str | None]:
    """The arm's mean over the fair baseline's at the seeds that both have, or why there is none."""
    fair = view.fair(arm.target_rows)
    if arm.target_rows == 0 or fair is None:
        return None, "it has no target rows, so no baseline to gain over"
    means = view.means[view.judged.metric]
    if arm.name not in means or fair.name not in means:
        return None, view.missing(arm if arm.name not in means else fair)
    mine, theirs = (dict(zip(m.seeds, m.by_seed, strict=True)) for m in (means[arm.name], means[fair.name]))
    both = [mine[seed] - theirs[seed] for seed in mine if seed in theirs]
    return (sum(both) / len(both), None) if both else (None, "no seed at which both arms ran")


# ------------------------------------------------------------------------------------------------------------- training


def _trainings(view: _View) -> tuple[tuple[FairnessRow, ...], tuple[TrainingCurve, ...]]:
    """What every arm's training did, and the loss of every run on target rows, from the stored step reports."""
    fairness, curves = [], []
    for arm in view.arms:
        runs = view.runs[arm.name]
        shares = []
        for planned in runs if arm.kind != "untuned" else ():
            steps = view.training(planned)
            if arm.target_rows:
                shares.append(_share_of_loss(steps, arm.target))
                curves.append(_training_curve(arm, planned.run.seed, steps))
        fairness.append(_fairness(view, arm, runs, [share for share in shares if share is not None]))
    return tuple(fairness), tuple(curves)


def _share_of_loss(steps: Sequence[Mapping[str, Any]], target: str) -> float | None:
    """The target's part of all steps' loss together; the parts of a step add up to its loss."""
    total = math.fsum(step["loss"] for step in steps)
    own = math.fsum(part for step in steps for source, part in step["loss_by_source"] if source == target)
    return own / total if total > 0 else None


def _training_curve(arm: Arm, seed: int, steps: Sequence[Mapping[str, Any]]) -> TrainingCurve:
    stride = max(1, -(-len(steps) // MOST_TRAINING_POINTS))
    kept = [*steps[:-1:stride], *steps[-1:]]
    return TrainingCurve(
        arm=arm.name,
        kind=arm.kind,
        target_rows=arm.target_rows,
        source=source_of(arm),
        dose=arm.dose_rows,
        seed=seed,
        points=tuple(
            TrainingPoint(
                step=step["step"],
                loss=step["loss"],
                target_loss=sum(part for source, part in step["loss_by_source"] if source == arm.target),
            )
            for step in kept
        ),
    )


def _fairness(view: _View, arm: Arm, runs: Sequence[PlannedRun], shares: Sequence[float]) -> FairnessRow:
    """Means over the arm's finished runs. A row's visits are counted as planned, which is how they were made."""
    target_visits, pool_visits, rows, loss = [], [], [], []
    for planned in runs:
        own, pools = _parts(planned.run.draws, arm.target if arm.target_rows else None)
        target_visits.append(own.visits / own.got if own is not None else 0.0)
        pool_visits.append(float(sum(draw.visits for draw in pools)))
        if own is not None:
            rows.append(own.visits / (own.visits + sum(draw.visits for draw in pools)))
            loss.append(own.loss_tokens / (own.loss_tokens + sum(draw.loss_tokens for draw in pools)))
    return FairnessRow(
        arm=arm.name,
        kind=arm.kind,
        target_rows=arm.target_rows,
        source=source_of(arm),
        dose=arm.dose_rows,
        seeds=len(runs),
        steps=_mean([float(planned.run.steps) for planned in runs]),
        tokens=_mean([float(planned.run.tokens) for planned in runs]),
        target_visits_per_row=_mean(target_visits) if arm.target_rows else None,
        generalist_visits=_mean(pool_visits),
        target_share_of_rows=_mean(rows),
        target_share_of_loss_tokens=_mean(loss),
        target_share_of_loss=_mean(shares),
        reason=None if runs else view.missing(arm),
    )


def _parts(draws: Sequence[Draw], target: str | None) -> tuple[Draw | None, list[Draw]]:
    own = next((draw for draw in draws if draw.source == target), None)
    return own, [draw for draw in draws if draw is not own]


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


# -------------------------------------------------------------------------------------------------------------- answers


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answers:
    """The answers of one run to the target's test items, in their order. Texts are those of the choices, or written."""

    choice_I: NDArray[np.int64]
    text: Sequence[str | None] | None
    ended_I: NDArray[np.bool_]


class _Reader:
    """Reads stored answers to the target's test items, in the order of their keys."""

    def __init__(self, view: _View) -> None:
        self.view = view
        self.items: tuple[Item, ...] = tuple(sorted(view.data.test, key=lambda item: item.key))

    def read(self, planned: PlannedRun) -> _Answers:
        by_item = planned.requests.by_item
        found = answer_columns(self.view.answers.of(planned.run.run_id), [by_item[item.key] for item in self.items])
        return _Answers(
            choice_I=found.choice_I,
            text=None if found.text is None else list(found.text),
            ended_I=found.ended_I,
        )


def _answered(view: _View) -> tuple[CollapseRow, ...]:
    """How varied every arm's answers are, over items and seeds."""
    items = sorted(view.data.test, key=lambda item: item.key)
    choices = [item.choices or () for item in items]
    same = len(set(choices)) == 1
    said: dict[str, Counter[str]] = {arm.name: Counter() for arm in view.arms}
    places: dict[int, NDArray[np.intp]] = {}
    for run in view.results.scores.of(view.judged.model, view.judged.target):
        if id(run.sheet) not in places:
            at = {key: number for number, key in enumerate(run.sheet.keys)}
            places[id(run.sheet)] = np.array([at[item.key] for item in items], dtype=np.intp)
        said[run.arm.name] += _said(run.choice_I[places[id(run.sheet)]], choices, same=same)
    written = _written(view) if any(item.answer == "text" for item in items) else {}
    return tuple(_collapse(view, arm, said[arm.name], written.get(arm.name)) for arm in view.arms)


@dataclass(slots=True, kw_only=True)
class _Written:
    """Counts of written answers: all, those that never ended, those that match no label (None: there are none)."""

    answers: int = 0
    unended: int = 0
    unmatched: int | None = None


def _written(view: _View) -> dict[str, _Written]:
    """What every arm wrote, read from the stored answers."""
    reading, labels = _Reader(view), _labels(view.data)
    matches: dict[str, bool] = {}
    found = {}
    for arm in view.arms:
        counts = _Written(unmatched=0 if labels else None)
        for planned in view.runs[arm.name]:
            answers = reading.read(planned)
            texts = [text for text in answers.text or () if text is not None]
            counts.answers += len(texts)
            counts.unended += int((~answers.ended_I).sum())
            if counts.unmatched is not None:
                counts.unmatched += sum(not _matches(text, labels, matches) for text in texts)
        found[arm.name] = counts
    return found


def _said(choice_I: NDArray[np.int32], choices: Sequence[tuple[str, ...]], *, same: bool) -> Counter[str]:
    if same:
        counts = np.bincount(choice_I[choice_I >= 0], minlength=len(choices[0])).tolist()
        return Counter({label: count for label, count in zip(choices[0], counts, strict=True) if count})
    return Counter(choices[row][number] for row, number in enumerate(choice_I.tolist()) if number >= 0)


def _labels(data: TargetData) -> tuple[str, ...]:
    """The closed set of answers that a written answer should be one of; empty where rows have no labels."""
    if data.labels:
        return data.labels
    found = {row.label for row in data.train}
    return tuple(sorted(label for label in found if label is not None)) if None not in found else ()


def _matches(text: str, labels: Sequence[str], known: dict[str, bool]) -> bool:
    if text not in known:
        known[text] = metrics.score_text("exact_match", text, labels).value == 1.0
    return known[text]


def _collapse(view: _View, arm: Arm, said: Counter[str], written: _Written | None) -> CollapseRow:
    total = said.total()
    wrote = written if written is not None and written.answers else None
    commonest = min(said, key=lambda label: (-said[label], label)) if said else None
    if not total and wrote is None:
        reason = view.missing(arm)
    elif not total:
        reason = "answers are written freely, so there are no choices to count"
    else:
        reason = "answers are chosen from a closed set, so they always end and match a label"
    if wrote is not None and wrote.unmatched is None:
        reason += "; the target's rows have no labels"
    unmatched = None if wrote is None else wrote.unmatched
    return CollapseRow(
        arm=arm.name,
        kind=arm.kind,
        commonest_label=commonest,
        commonest_share=said[commonest] / total if commonest is not None else None,
        entropy_bits=_entropy(list(said.values())) if total else None,
        never_ended=None if wrote is None else wrote.unended / wrote.answers,
        matched_no_label=None if wrote is None or unmatched is None else unmatched / wrote.answers,
        reason=reason,
    )


def _entropy(counts: Sequence[int]) -> float:
    """Entropy in bits of a distribution given by counts.

    >>> _entropy([2, 1, 1])
    1.5
    """
    total = sum(counts)
    return abs(-math.fsum(count / total * math.log2(count / total) for count in counts if count))


def _comparison(view: _View) -> tuple[ItemTable | None, str | None]:
    """The items that the shown dose won and lost against the fair baseline, with all seeds' answers."""
    arm = view.shown
    if arm is None:
        return None, "the study has no arm with a dose"
    fair, plain = view.fair(arm.target_rows), view.plain(arm.target_rows)
    if fair is None or plain is None:
        return None, "there is no baseline at the verdict's target size"
    trio: dict[Role, Arm] = {"dosed": arm}
    trio |= {"matched": fair} if fair is not plain else {}
    trio["plain"] = plain
    scores, graded = view.tables[view.judged.metric], view.tables[GRADED]
    wanted = (arm.name, fair.name)
    if scores is None or any(name not in view.means[view.judged.metric] for name in wanted):
        return None, view.missing(arm)
    score_gain = _item_gains(scores, *wanted)
    gain = score_gain if graded is None else _item_gains(graded, *wanted)
    if not score_gain:
        return None, "no seed at which both arms ran"
    gain = score_gain | {key: value for key, value in gain.items() if key in score_gain}
    chosen = sorted(gain, key=lambda key: (-abs(gain[key]), key))[:MOST_ITEMS]
    chosen.sort(key=lambda key: (-gain[key], key))
    answers = _side_by_side(view, trio, chosen)
    items = {item.key: item for item in view.data.test}
    return (
        ItemTable(
            arm=arm.name,
            baseline=fair.name,
            total=len(gain),
            won=sum(value > 0 for value in gain.values()),
            lost=sum(value < 0 for value in gain.values()),
            items=tuple(
                ItemComparison(
                    key=key,
                    prompt=items[key].turns[-1].text,
                    references=items[key].references,
                    gain=gain[key],
                    score_gain=score_gain[key],
                    answers=answers[key],
                )
                for key in chosen
            ),
        ),
        None,
    )


def _item_gains(table: ScoreTable, arm: str, baseline: str) -> dict[str, float]:
    """The gain of every item, mean over the seeds that both arms have; items without a score are left out."""
    index = {found.name: number for number, found in enumerate(table.arms)}
    if arm not in index or baseline not in index:
        return {}
    present_SI = table.present_ASI[index[arm]] & table.present_ASI[index[baseline]]
    difference_SI = np.where(present_SI, table.values_ASI[index[arm]] - table.values_ASI[index[baseline]], 0.0)
    count_I = present_SI.sum(0)
    mean_I = difference_SI.sum(0) / np.maximum(count_I, 1)
    return {key: float(mean_I[place]) for place, key in enumerate(table.items) if count_I[place]}


def _side_by_side(view: _View, trio: Mapping[Role, Arm], keys: Iterable[str]) -> dict[str, tuple[ArmAnswers, ...]]:
    reading = _Reader(view)
    place = {item.key: number for number, item in enumerate(reading.items)}
    wanted = [(key, place[key], reading.items[place[key]]) for key in keys]
    found: dict[str, list[ArmAnswers]] = {key: [] for key, _, _ in wanted}
    scores = [_cells_of(view.tables[name]) for name in (view.judged.metric, GRADED)]
    for role, arm in trio.items():
        by_item: dict[str, list[SeedAnswer]] = {key: [] for key, _, _ in wanted}
        for planned in view.runs[arm.name]:
            answers = reading.read(planned)
            seed = planned.run.seed
            for key, at, item in wanted:
                written = None if answers.text is None else answers.text[at]
                text = item.choices[int(answers.choice_I[at])] if item.answer == "choices" and item.choices else written
                score, graded = (cell(arm.name, seed, key) for cell in scores)
                if item.answer == "loss":
                    text = NOT_WRITTEN
                ended = bool(answers.ended_I[at])
                by_item[key].append(SeedAnswer(seed=seed, text=text or "", score=score, graded=graded, ended=ended))
        for key, said in by_item.items():
            found[key].append(ArmAnswers(arm=arm.name, role=role, answers=tuple(said)))
    return {key: tuple(arms) for key, arms in found.items()}


def _cells_of(table: ScoreTable | None) -> Any:
    """A function from (arm, seed, item) to the score there, None where there is none."""
    if table is None:
        return lambda arm, seed, item: None
    arms = {found.name: number for number, found in enumerate(table.arms)}
    seeds = {name: number for number, name in enumerate(table.seeds)}
    items = {name: number for number, name in enumerate(table.items)}

    def cell(arm: str, seed: int, item: str) -> float | None:
        if arm not in arms or str(seed) not in seeds or item not in items:
            return None
        at = (arms[arm], seeds[str(seed)], items[item])
        return float(table.values_ASI[at]) if table.present_ASI[at] else None

    return cell


# ------------------------------------------------------------------------------------------------------------- exchange


def _exchange(view: _View) -> tuple[tuple[ExchangeRow, ...], str | None]:
    """What every dose is worth in target rows, against the matched curve where there is one, and the plain one."""
    worth = view.judged.worth
    rows = tuple(
        ExchangeRow(
            target_rows=found.rate.target_rows,
            source=found.source or "",
            dose=found.rate.dose_rows,
            baseline=found.rate.against,
            rows=found.rate.value,
            interval=_interval_words(found.rate.low, found.rate.high),
            reason=found.rate.reason,
        )
        for found in worth.rates
        if found.rate.step != "none"
    )
    unread = next((found.rate.reason for found in worth.rates if found.rate.step == "none"), None)
    return rows, None if rows else worth.reason or unread or "no arm without a dose was finished"


def _thresholds(view: _View) -> tuple[ThresholdRow, ...]:
    """Where the gain of every dose falls below the smallest effect."""
    return tuple(
        ThresholdRow(
            source=found.source or "",
            dose=found.size.dose_rows,
            baseline=found.against,
            target_rows=found.size.value,
            interval=_interval_words(found.size.low, found.size.high),
            reason=found.size.reason,
        )
        for found in view.judged.worth.thresholds
    )


def _changes(view: _View) -> tuple[ChangeRow, ...]:
    """Whether the gain of a dose changes with the target size."""
    return tuple(
        ChangeRow(
            what=view.results.design.prepared.study.name,
            source=found.source or "",
            dose=found.dose_rows,
            baseline=found.against,
            change=found.change.value,
            low=found.change.low,
            high=found.change.high,
            p_adjusted=found.p_adjusted,
            reason=found.change.reason,
        )
        for found in view.judged.worth.interactions
    )


def _skills(view: _View) -> tuple[ChangeRow, ...]:
    """Whether the gain of a dose depends on what the study's targets need, for this model."""
    return tuple(
        ChangeRow(
            what=found.change.influence,
            source=found.source or "",
            dose=found.dose_rows,
            baseline="matched",
            change=found.change.value,
            low=found.change.low,
            high=found.change.high,
            p_adjusted=found.p_adjusted,
            reason=found.change.reason,
        )
        for found in view.results.skills
        if found.model == view.judged.model
    )


def _laws(view: _View) -> tuple[LawRow, ...]:
    """The law of every source, with a reason where it may not speak."""
    return tuple(
        LawRow(
            source=found.source or "",
            baseline=found.against,
            formula=_formula(found.law) if found.law.speaks else None,
            error_law=found.law.error_law,
            error_interpolation=found.law.error_interpolation,
            worth=tuple((entry.dose_rows, entry.target_rows) for entry in found.worth),
            reason=found.law.reason,
        )
        for found in view.judged.worth.laws
    )


def _formula(law: Law) -> str:
    e, c, gamma, alpha, beta = (float(v or 0.0) for v in (law.e, law.c, law.gamma, law.alpha, law.beta))
    text = f"{e:.3f} {'+' if c >= 0 else '-'} {abs(c):.3g} · (n {'+' if gamma >= 0 else '-'} "
    text += f"{abs(gamma):.3g} · g^{alpha:.2f})^-{beta:.2f}"
    return text.replace("-", "−")


def _interval_words(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f"{_whole(low)} to {_whole(high)}"
    if low is not None:
        return f"at least {_whole(low)}"
    return "cannot be pinned down" if high is None else f"at most {_whole(high)}"


def _whole(value: float) -> str:
    return f"{round(value):,}".replace("-", "−")


# ----------------------------------------------------------------------------------------------------------- provenance


def _provenance(view: _View) -> Provenance:
    prepared = view.results.design.prepared
    study, model = prepared.study, view.prepared.model
    why = f" ({model.template_reason})" if model.template_reason else ""
    return Provenance(
        titrant_version=titrant.__version__,
        model=ModelFacts(
            name=model.name,
            origin=model.origin,
            parameters=model.parameters,
            licence=model.licence,
            fingerprint=model.fingerprint,
            template=f"{model.template}{why}",
        ),
        files=view.files,
        fingerprints=(
            ("study", fingerprint(study.effective())),
            ("model", model.fingerprint),
            ("test set", prepared.facts["test_set"]),
        ),
        numerics=(prepared.numerics,),
        seeds=study.arms.seeds,
        settings=_settings(view),
        study_yaml=study.text,
    )


def _files(view: _View) -> tuple[FileFacts, ...]:
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


def _settings(view: _View) -> tuple[tuple[str, str], ...]:
    """The settings of training as (name, value); where arms have their own, all values in rising order."""
    study = view.results.design.prepared.study
    settings = [arm.training for arm in view.arms if arm.kind != "untuned"]

    def every(name: str) -> str:
        values = sorted({getattr(entry, name) for entry in settings}, key=str)
        chosen = " (chosen on validation rows, arm by arm)" if len(values) > 1 else ""
        return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values) + chosen

    pairs = [
        ("What is held equal", study.hold_equal.replace("_", " ")),
        ("Presentation", study.presentation.replace("_", " ")),
        ("Weight of the loss", f"by {study.loss_weight}"),
        ("Method", every("method")),
        ("Passes over target rows", every("passes")),
        ("Passes over generalist rows", every("generalist_passes")),
        ("Learning rate", every("learning_rate")),
        ("Rows a step", every("batch_rows")),
        ("Longest row, tokens", every("max_tokens")),
        ("Longer rows", every("too_long")),
        ("Schedule", every("schedule")),
        ("Warm-up share", every("warmup_share")),
        ("Weight decay", every("weight_decay")),
        ("Largest gradient norm", every("clip_norm")),
        ("Target rows drawn", study.arms.target_draw.replace("_", " ")),
        ("Strata of the target draw", study.arms.stratify),
        ("Words in a row that a pool may not share with a test item", str(study.contamination.ngram)),
    ]
    if study.training.lora is not None:
        pairs.append(("Adapters", f"rank {study.training.lora.rank}, alpha {study.training.lora.alpha}"))
    return tuple(pairs)


def _failed(cell: FailedCell) -> FailedRun:
    failure = cell.failure
    return FailedRun(arm=cell.arm.name, seed=cell.seed, kind=failure.kind, step=failure.step, message=failure.message)


def _removed(view: _View) -> tuple[RemovedRows, ...]:
    return tuple(
        RemovedRows(pool=entry.pool, why=entry.why, rows=entry.rows)
        for entry in (*view.results.design.prepared.removed, *view.prepared.removed)
    )


def _measures(view: _View) -> tuple[MeasureRow, ...]:
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
    return (*own, *further)


def _notes(view: _View) -> tuple[str, ...]:
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
    notes += [f"Not everything in the files was used: {note.line}." for note in view.results.design.prepared.not_read]
    removed = sum(entry.rows for entry in _removed(view))
    if removed:
        rows = "1 row was" if removed == 1 else f"{removed:,} rows were"
        notes.append(f"{rows} taken out before anything was drawn; the table of removed rows says why.")
    return tuple(notes)
