"""All that the page shows, as frozen records that a study fills in.

The page computes nothing of substance: it shows numbers that it was given. A number that is None is shown as "not
known", with the `reason` of its record, and never as 0. Empty tuples stand for "the study has none of this"; their
section is left out or says so in one line. Texts may be anything: they are shown as text, and cut where they are long.

Scores, shares and probabilities are 0 to 1; losses are in nats; tokens and visits count all of training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from titrant.core.records import ArmKind, Numerics, Tags, Verdict

NOT_RUN = "no run of this arm has a score"
"""The reason of an arm that was planned and neither ran nor failed, as those that a staged study does not need."""

Measure = Literal["score", "graded"]
ArmRole = Literal["plain", "matched", "dosed"]
LineKind = Literal["untuned", "generalist_alone", "majority_label", "prior_answer"]


# -------------------------------------------------------------------------------------------------------------- curves


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedValue:
    """The mean over items of one run."""

    seed: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """One arm's mean over items and seeds, with its interval.

    `kind` is `alone` at dose 0, `dosed` elsewhere, and `matched` for the matched baseline, whose `dose` is the one
    whose steps it takes. `by_seed` is optional: the small dots behind the mean. `base` is for drawing: the mean of the
    baseline that the interval is laid on, at the seeds that both have; None where that is its own mean.
    """

    arm: str
    kind: ArmKind
    dose: int
    mean: float | None
    low: float | None
    high: float | None
    seeds: int
    by_seed: tuple[SeedValue, ...] = ()
    reason: str | None = None
    base: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseCurve:
    """The response to the doses of one source at one target size, for one measure.

    `points` hold dose 0 (the plain baseline), every dose, and the matched baseline where there is one. Dose 0 and the
    matched baseline are repeated in the curve of every source.
    """

    measure: Measure
    target_rows: int
    source: str
    points: tuple[CurvePoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SizePoint:
    """The score at one target size, of `arm`."""

    arm: str
    target_rows: int
    mean: float | None
    low: float | None
    high: float | None
    seeds: int
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeCurve:
    """Score against target rows: without a dose (`plain`, `matched`), or with one (`dosed`: the recommended dose where
    there is one, else the largest). `label` is shown as it is, e.g. "with 352 rows of dolly"."""

    role: ArmRole
    label: str
    points: tuple[SizePoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceLine:
    """What costs no target rows: the untuned model, generalist alone, always the commonest label, the prior answer."""

    kind: LineKind
    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPoint:
    """The step's weighted loss and the target's part of it (None where the arm has no target rows)."""

    step: int
    loss: float
    target_loss: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCurve:
    """One run's training. Points may be all steps or every so many; the page thins them further."""

    arm: str
    kind: ArmKind
    target_rows: int
    source: str | None
    dose: int
    seed: int
    points: tuple[TrainingPoint, ...]


# -------------------------------------------------------------------------------------------------------------- tables


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRow:
    """What an arm kept of general ability, beside what it gained on the target.

    `target_gain` is over the fair baseline (matched where there is one). `kept` is accuracy on items that are
    independent of the pool; `learned` the geometric mean token probability, exp(−mean answer loss), on held-out rows of
    the pool's own kind.
    """

    arm: str
    kind: ArmKind
    target_rows: int
    source: str | None
    dose: int
    target_gain: float | None
    kept: float | None
    kept_low: float | None = None
    kept_high: float | None = None
    learned: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FairnessRow:
    """What an arm's training really did, as means over its runs.

    `target_visits_per_row`: how often each target row was seen. `generalist_visits`: all visits of generalist rows.
    `target_share_of_rows`, `_of_loss_tokens`, `_of_loss` are the target's shares of row visits, of the tokens that bear
    loss, and of the loss itself.
    """

    arm: str
    kind: ArmKind
    target_rows: int
    source: str | None
    dose: int
    seeds: int
    steps: float | None
    tokens: float | None
    target_visits_per_row: float | None
    generalist_visits: float | None
    target_share_of_rows: float | None
    target_share_of_loss_tokens: float | None
    target_share_of_loss: float | None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CollapseRow:
    """How varied an arm's answers are: a model that always says one label can still score.

    `commonest_share` and `entropy_bits` are of the labels answered, over items and seeds; None without choices.
    `never_ended` and `matched_no_label` are shares of answers; None where they cannot occur.
    """

    arm: str
    kind: ArmKind
    commonest_label: str | None
    commonest_share: float | None
    entropy_bits: float | None
    never_ended: float | None
    matched_no_label: float | None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeRow:
    """What a dose is worth in target rows at one target size, read against one baseline's curve.

    `interval` is the interval in words, e.g. "at least 37" or "12 to 90". `rows` may be negative: the dose hurts.
    """

    target_rows: int
    source: str
    dose: int
    baseline: ArmRole
    rows: float | None
    interval: str
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdRow:
    """The target size at which the gain of a dose over one baseline falls below the smallest effect; `interval` in
    words, as in ExchangeRow."""

    source: str
    dose: int
    baseline: ArmRole
    target_rows: float | None
    interval: str
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRow:
    """How the gain of a dose changes: with each doubling of target rows, or from one skill of targets to another.

    `what` names what is set against what ("facts against reasoning": the second minus the first). `change` is None with
    a reason where there is no one number; `p_adjusted` may be known then (more than two groups).
    """

    what: str
    source: str
    dose: int
    baseline: ArmRole
    change: float | None
    low: float | None
    high: float | None
    p_adjusted: float | None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LawRow:
    """The law of one source; `formula` is None with a reason where it may not speak. The errors are those of predicting
    arms that were left out. `worth` are (dose, its worth in target rows)."""

    source: str
    baseline: ArmRole
    formula: str | None
    error_law: float | None
    error_interpolation: float | None
    worth: tuple[tuple[int, float], ...] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRun:
    """A run without scores. It is in no number on the page."""

    arm: str
    seed: int
    kind: str
    step: int | None
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedRows:
    """Rows that were taken out of a pool before anything was drawn, and why."""

    pool: str
    why: str
    rows: int


# --------------------------------------------------------------------------------------------------------------- items


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedAnswer:
    """One run's answer to one item. `graded` is the graded score (for choices the probability of a right one)."""

    seed: int
    text: str
    score: float | None
    graded: float | None = None
    ended: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmAnswers:
    """What one arm answered to one item, by seed."""

    arm: str
    role: ArmRole
    answers: tuple[SeedAnswer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemComparison:
    """One test item: the answers of the arm and of its baselines. `gain` is the graded gain over the fair baseline,
    mean over seeds; `score_gain` the same for the score proper. Without a graded score the two are equal."""

    key: str
    prompt: str
    references: tuple[str, ...]
    gain: float
    score_gain: float
    answers: tuple[ArmAnswers, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemTable:
    """The items that `arm` won and lost against `baseline`.

    `total` counts all items of the contrast; `items` may hold fewer (the largest gains and losses). The page embeds at
    most some 400 and says how many it leaves out.
    """

    arm: str
    baseline: str
    total: int
    won: int
    lost: int
    items: tuple[ItemComparison, ...]


# ---------------------------------------------------------------------------------------------------------- provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """The base model."""

    name: str
    origin: str
    parameters: int | None
    licence: str | None
    fingerprint: str
    template: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """A file of rows or items that the study read. `use` is e.g. "target, training" or "pool general"."""

    use: str
    path: str
    rows: int
    fingerprint: str
    licence: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Everything needed to do it again. `settings` are (name, value) as text; `made` is a date, only if it is given."""

    titrant_version: str
    model: ModelFacts
    files: tuple[FileFacts, ...]
    fingerprints: Tags
    numerics: tuple[Numerics, ...]
    seeds: tuple[int, ...]
    settings: Tags
    study_yaml: str
    made: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedVerdict:
    """Another verdict of the same study: a further target or model, or another target size (evidence only).

    `page`: the file in the results' folder that shows its evidence; None where it has no page of its own.
    """

    name: str
    verdict: Verdict
    page: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LookInterval:
    """A dose against a baseline as one look left it: the tightest bounds so far. Bounds are None where no look has read
    this contrast yet, as of a baseline that only the screen has seen."""

    arm: str
    source: str | None
    dose: int | None
    baseline: ArmRole
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAtSeeds:
    """One look of a staged study; `runs` and `cost` are all that was spent by then."""

    look: int
    seeds: int
    runs: int
    cost: float
    intervals: tuple[LookInterval, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """An arm that did not go on to the last look. `look` is the one that ruled it out; 0: the screen, or not said."""

    arm: str
    reason: Literal["ruled_out", "waiting", "baseline_not_needed"]
    look: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """How a staged study spent its runs. `ladder`: the seeds of all looks, taken or not; costs are in tokens of
    training and answers, `grid_cost` that of every arm at every seed. `ended` is None while it goes on."""

    ladder: tuple[int, ...]
    looks: tuple[LookAtSeeds, ...]
    runs: int
    cost: float
    grid_cost: float
    ended: Literal["firm", "given_up", "last_look", "budget"] | None
    aside: tuple[SetAside, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureRow:
    """The mean of one metric over some of the test items (`of`), for the arms that the page compares: (role, mean)."""

    metric: str
    of: str
    items: int
    means: tuple[tuple[str, float | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """The whole page.

    `metric` is the metric's name, `graded` what the graded score is in words (None: there is none). `times_judged`
    counts how often this test set has been judged, this time included. `retention_reason` says why there is no
    retention, where there is none; likewise the other `*_reason`.
    """

    study: str
    target: str
    metric: str
    graded: str | None
    verdict: Verdict
    items: int
    seeds: int
    times_judged: int
    curves: tuple[DoseCurve, ...]
    sizes: tuple[SizeCurve, ...]
    lines: tuple[ReferenceLine, ...]
    fairness: tuple[FairnessRow, ...]
    provenance: Provenance
    retention: tuple[RetentionRow, ...] = ()
    retention_reason: str | None = None
    training: tuple[TrainingCurve, ...] = ()
    collapse: tuple[CollapseRow, ...] = ()
    exchange: tuple[ExchangeRow, ...] = ()
    exchange_reason: str | None = None
    thresholds: tuple[ThresholdRow, ...] = ()
    changes: tuple[ChangeRow, ...] = ()
    skills: tuple[ChangeRow, ...] = ()
    laws: tuple[LawRow, ...] = ()
    comparison: ItemTable | None = None
    comparison_reason: str | None = None
    failures: tuple[FailedRun, ...] = ()
    removed: tuple[RemovedRows, ...] = ()
    other_verdicts: tuple[NamedVerdict, ...] = ()
    measures: tuple[MeasureRow, ...] = ()
    stages: Stages | None = None
    notes: tuple[str, ...] = ()
