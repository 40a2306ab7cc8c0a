"""The metric of every target tried on its test items before anything is trained, and labels that look alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from titrant.config.study import Study
from titrant.core.errors import DataError
from titrant.core.plugins import Extension
from titrant.core.records import Example, Item
from titrant.scoring.metrics.extension import is_batch, score_answer
from titrant.scoring.metrics.text import METRICS
from titrant.scoring.metrics.trial import MOST_FAILED, Trial, Unread, try_metric
from titrant.tasks.labels import contradiction_line, look_alike_line, look_alikes

_OTHER_METRICS = {
    "last_number": "exact_match, or accuracy where punctuation matters",
    "rouge_l": "f1 where words stand apart, or exact_match",
    "exact_match": "accuracy",
    "f1": "accuracy",
}
_MOST_SHOWN = 3
_SHOWN_LETTERS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetTrial:
    """A metric tried on the written answers of one target that it judges: `items` in the trial's order.

    `by_task`: a published collection says which metric judges which of its tasks, and what that metric cannot tell
    apart is its rule; only what it cannot read counts against it.
    """

    target: str
    trial: Trial
    items: tuple[Item, ...]
    by_task: bool

    @property
    def failed(self) -> int:
        """How many items the metric cannot judge."""
        return len(self.trial.unread) + (0 if self.by_task else len(self.trial.merged))


def target_trials(name: str, items: Sequence[Item], *, study: Study) -> tuple[TargetTrial, ...]:
    """Each metric tried on those of a target's test items that are answered in writing and that it judges."""
    collection = study.targets[name].collection
    by_task = collection is not None and collection.own is None
    found = []
    for metric in dict.fromkeys(item.metric for item in items if item.answer == "text" and item.metric in METRICS):
        judged = tuple(item for item in items if item.answer == "text" and item.metric == metric)
        trial = try_metric(metric, [item.references for item in judged])
        found.append(TargetTrial(target=name, trial=trial, items=judged, by_task=by_task))
    outside = [item for item in items if item.answer == "text" and isinstance(item.metric, Extension)]
    for metric in dict.fromkeys(item.metric for item in outside if not is_batch(item.metric)):
        judged = tuple(item for item in outside if item.metric == metric)
        found.append(TargetTrial(target=name, trial=_own_answers(metric, judged), items=judged, by_task=by_task))
    return tuple(found)


def _own_answers(metric: str, items: Sequence[Item]) -> Trial:
    """A metric from outside, of which nothing is known but what it says: a right answer has to be worth 1 to it."""
    unread = []
    for number, item in enumerate(items):
        scored = score_answer(item, item.references[0])
        if scored.value != 1.0:
            told = scored.reason if scored.value is None else f"its own right answer scores {scored.value:g}, not 1"
            unread.append(Unread(item=number, reference=item.references[0], reason=told or "no value"))
    return Trial(metric=metric, items=len(items), unread=tuple(unread), merged=())


def trial_lines(entry: TargetTrial) -> list[str]:
    """What a trial found, each with how many items, and the first by name."""
    trial, lines = entry.trial, []
    if trial.unread:
        first = trial.unread[0]
        counts = Counter(unread.reason for unread in trial.unread)
        reasons = "; ".join(f"{reason} ({count})" for reason, count in counts.most_common())
        lines.append(
            f"{entry.target}: {trial.metric} cannot read the right answers of {len(trial.unread)} of {trial.items} "
            f"test items, such as {_place(entry.items[first.item])} {_cut(first.reference)}: {reasons}"
        )
    if trial.merged:
        pairs = dict.fromkeys(tuple(sorted((merged.reference, merged.other))) for merged in trial.merged)
        shown = ", ".join(f"{_cut(one)} and {_cut(other)}" for one, other in list(pairs)[:_MOST_SHOWN])
        first_place = _place(entry.items[trial.merged[0].item])
        lines.append(
            f"{entry.target}: {trial.metric} takes different right answers for one, in {len(trial.merged)} of "
            f"{trial.items} test items: {shown} (the first {first_place})"
        )
    return lines


def refuse_failed(trials: Sequence[TargetTrial], *, study: Study, answers_kept: bool) -> None:
    """`DataError` where a target's metrics cannot judge more than 5% of the test items that they judge together."""
    failed, judged = sum(entry.failed for entry in trials), sum(entry.trial.items for entry in trials)
    if failed <= MOST_FAILED * judged:
        return
    worst = max(trials, key=lambda entry: entry.failed)
    fix = f"metric: {_OTHER_METRICS.get(worst.trial.metric, 'another metric')}"
    if answers_kept:
        fix = f"change the metric ({fix}) and run `titrant report`: the answers are kept"
    path = f"targets.{worst.target}" if len(study.targets) > 1 else "target"
    raise DataError(
        f"the metric cannot judge {failed} of {judged} test items, so the verdict would say nothing:\n  "
        + "\n  ".join(line for entry in trials for line in trial_lines(entry)),
        where=f"{study.path}: {path}.metric",
        got=worst.trial.metric,
        expected=f"a metric by which each right answer scores 1, and another item's less, in all but {MOST_FAILED:.0%}",
        fix=fix,
    )


def label_lines_of(name: str, train: Sequence[Example], items: Sequence[Item]) -> list[str]:
    """The labels of a target that are most likely one label spelled in several ways, with how many rows have each."""
    labels = [row.label if row.label is not None else row.answer for row in train]
    found = look_alikes([*labels, *(item.references[0] for item in items)])
    return [f"{name}: {look_alike_line(found)}"] if found else []


def target_remarks(
    name: str, *, train: Sequence[Example], items: Sequence[Item], labels: Sequence[str], study: Study
) -> list[str]:
    """All that is to be said of one target before training, a line each."""
    lines = label_lines_of(name, train, items) if labels else []
    if labels and (line := contradiction_line([*train, *items])):
        lines.append(f"{name}: {line}")
    return lines + [line for entry in target_trials(name, items, study=study) for line in trial_lines(entry)]


def _place(item: Item) -> str:
    return str(item.origin) if item.origin is not None else f"row {item.row_id}"


def _cut(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_LETTERS else text[: _SHOWN_LETTERS - 1] + "…")
