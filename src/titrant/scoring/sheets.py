"""The scores of a study in columns: a store of 5,000 runs has ten million of them, too many for a record each.

All runs of one model and target answer the same items, so what a score is about stands once, in a `Sheet`, and a run
adds an array of values. `Scores` is a sequence of `records.Score` that are made when they are looked at.

Array names end in shape letters: N lines of a sheet, I items, C choices, A arms, S seeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from titrant.core.errors import StoreDamaged
from titrant.core.identity import fingerprint
from titrant.core.records import Arm, Item, Run, Score
from titrant.scoring import metrics
from titrant.scoring.metrics.extension import is_batch, item_values, outside_lines
from titrant.scoring.temperature import FEWEST_TO_FIT, fitted_temperature
from titrant.stats.table import TARGET, ScoreTable, TableArm

Floats = NDArray[np.float64]
BESIDE = ("retention", "transfer")
"""Eval sets that are about no target of the run's own: their names say what they are about."""
GRADED = "graded"
CALIBRATED = "calibrated"
"""The graded score at the temperature that fits the run's validation items: see `scoring.temperature`."""
SUBJECT_GAIN = "subject_gain"
BY_TASK = "by_task"
VALIDATION = "validation"
_DERIVED = (GRADED, CALIBRATED, SUBJECT_GAIN)

METRIC_WORDS = {GRADED: "the graded score", BY_TASK: "the score by task"}
"""How sentences name a metric, where not by its own name."""


def prior_key(item: Item) -> str:
    """The key of the question that an item comes to without its subject: one for all items of a relation."""
    assert item.prior_turns is not None
    return f"prior:{fingerprint([item.prior_turns, item.choices])}"


@dataclass(frozen=True, eq=False)
class Sheet:
    """What the runs of one model and target are scored on: an item and a metric a line, in a fixed order.

    `keys` are the items' keys, with those of questions that are asked without their subject: each once, sorted.
    """

    items: tuple[Item, ...]
    metrics: tuple[str, ...]

    @classmethod
    def of(cls, items: Iterable[Item]) -> Sheet:
        """The lines of these items: the item's own metric, and beside it the graded score where there are choices (on
        test items also at a fitted temperature, where enough validation items are asked beside them), and what the
        subject adds where the question is also asked without it."""
        items = tuple(items)
        held_out = Counter(item.target for item in items if item.eval_set == VALIDATION and item.answer == "choices")
        lines = [
            (item, metric)
            for item in items
            for metric in (
                item.metric,
                *((GRADED,) if item.answer == "choices" else ()),
                *((CALIBRATED,) if _is_calibrated(item, held_out) else ()),
                *((SUBJECT_GAIN,) if item.prior_turns is not None else ()),
            )
        ]
        # One order for every run, so that values of different runs stand beside each other by place alone.
        lines.sort(key=lambda line: (line[0].target, line[0].eval_set, line[0].key, line[1]))
        return cls(tuple(item for item, _ in lines), tuple(metric for _, metric in lines))

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        priors = (prior_key(item) for item in self.items if item.prior_turns is not None)
        return tuple(sorted({item.key for item in self.items}.union(priors)))

    @cached_property
    def digest(self) -> str:
        """A hash of what the lines are about. Calibrated scores say nothing that graded ones do not, so that they stand
        beside them makes no other test set of it."""
        lines = [line for line in zip(self.items, self.metrics, strict=True) if line[1] != CALIBRATED]
        return fingerprint([[item.target, item.eval_set, item.key, metric] for item, metric in lines])

    @cached_property
    def kinds(self) -> tuple[tuple[str, str, str], ...]:
        """(target, eval set, metric) of every line."""
        lines = zip(self.items, self.metrics, strict=True)
        return tuple((item.target, item.eval_set, metric) for item, metric in lines)

    def lines(self, target: str | None, eval_set: str, metric: str) -> NDArray[np.intp]:
        """The lines of one eval set and metric; of every target where `target` is None. They are in order of keys.

        The metric `by_task` takes of every item the one that its task is judged by.
        """
        found = [
            line
            for line, (of_target, of_set, of_metric) in enumerate(self.kinds)
            if of_set == eval_set
            and target in (None, of_target)
            and of_metric == (self.items[line].metric if metric == BY_TASK else metric)
        ]
        return np.array(sorted(found, key=lambda line: self.items[line].key), dtype=np.intp)


def _is_calibrated(item: Item, held_out: Mapping[str, int]) -> bool:
    """Whether a test item's graded score also stands at a fitted temperature. `held_out` counts validation items."""
    is_test = item.eval_set == TARGET and item.answer == "choices"
    return is_test and held_out.get(item.target, 0) >= FEWEST_TO_FIT


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class RunScores:
    """One arm at one seed: a value for every line of the sheet, NaN where there is none, with the reason by line.

    `choice_I` holds the choice made for each of the sheet's `keys`, -1 where there are no choices. `temperatures`, by
    target, are those fitted on validation items, where there are enough.
    """

    run_id: str
    arm: Arm
    seed: int
    sheet: Sheet
    values_N: Floats
    choice_I: NDArray[np.int32]
    reasons: Mapping[int, str] = field(default_factory=dict)
    temperatures: Mapping[str, float] = field(default_factory=dict)

    def score(self, line: int) -> Score:
        """One line as a record."""
        item, value, arm = self.sheet.items[line], float(self.values_N[line]), self.arm
        return Score(
            run_id=self.run_id,
            model=arm.model,
            target=item.target,
            target_rows=arm.target_rows,
            arm=arm.name,
            arm_kind=arm.kind,
            seed=self.seed,
            eval_set=item.eval_set,
            task=item.task,
            item=item.key,
            group=item.group,
            source=source_of(arm),
            dose=arm.dose_rows,
            metric=self.sheet.metrics[line],
            value=None if line in self.reasons else value,
            reason=self.reasons.get(line),
            rungs=item.rungs,
            tags=tuple(f"{name}={value}" for name, value in item.tags),
            arm_target=arm.target or None,
        )


def source_of(arm: Arm) -> str | None:
    """The arm's source; None without a dose. A blend, `dolly+general`, is a source of its own, as are altered rows."""
    return "+".join(dose.label for dose in arm.doses) or None


class Scores(Sequence[Score]):
    """The scores of many runs. `runs` are in a fixed order, so that equal stores give equal scores in equal order."""

    def __init__(self, runs: Iterable[RunScores]) -> None:
        self._make: Callable[[], Iterable[RunScores]] = lambda: runs

    @classmethod
    def later(cls, make: Callable[[], Iterable[RunScores]]) -> Scores:
        """Scores that are made when they are first looked at."""
        scores = cls(())
        scores._make = make
        return scores

    @cached_property
    def runs(self) -> tuple[RunScores, ...]:
        return tuple(sorted(self._make(), key=_place))

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum([len(run.values_N) for run in self.runs], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self.runs) else 0

    def __iter__(self) -> Iterator[Score]:
        return (run.score(line) for run in self.runs for line in range(len(run.values_N)))

    @overload
    def __getitem__(self, index: int) -> Score: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Score]: ...

    def __getitem__(self, index: int | slice) -> Score | Sequence[Score]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(index)
        number = int(np.searchsorted(self._ends, place, side="right"))
        return self.runs[number].score(place - int(self._ends[number]) + len(self.runs[number].values_N))

    def of(self, model: str, target: str) -> tuple[RunScores, ...]:
        """The runs of one model that were trained on this target, or on none."""
        return tuple(run for run in self.runs if run.arm.model == model and run.arm.target in ("", target))

    def eval_sets(self, model: str, target: str) -> dict[str, tuple[str, ...]]:
        """The eval sets of these runs with their metrics, each without the graded score beside it (may be the only)."""
        found: dict[str, dict[str, None]] = {}
        for sheet in {id(run.sheet): run.sheet for run in self.of(model, target)}.values():
            for of_target, eval_set, metric in dict.fromkeys(sheet.kinds):
                if of_target == target or eval_set.startswith(BESIDE):
                    named = {} if metric in _DERIVED else {metric: None}
                    found.setdefault(eval_set, {}).update(named)
        return {eval_set: tuple(names) for eval_set, names in found.items()}

    def table(self, model: str, target: str, eval_set: str, metric: str) -> ScoreTable | None:
        """The scores of one model, target and eval set on one metric as a table; None where there are none.

        The same as `stats.table.tables_from_scores` makes of the records: names of seeds are text, scores without a
        value are missing.
        """
        about = None if eval_set.startswith(BESIDE) else target
        runs = self.of(model, target)
        # By identity: runs share a handful of sheets, and comparing or hashing thousands of items for each run would
        # cost more than the table.
        sheets = {id(run.sheet): run.sheet for run in runs}
        lines = {at: sheet.lines(about, eval_set, metric) for at, sheet in sheets.items()}
        runs = tuple(run for run in runs if len(lines[id(run.sheet)]))
        if not runs:
            return None
        items = {sheet.items[line].key: sheet.items[line] for at, sheet in sheets.items() for line in lines[at]}
        keys = sorted(items)
        place = _numbered(keys)
        columns = {
            at: np.array([place[sheet.items[line].key] for line in lines[at]], dtype=np.intp)
            for at, sheet in sheets.items()
        }
        arms = {run.arm.name: run.arm for run in runs}
        names, seeds = sorted(arms), sorted({str(run.seed) for run in runs})
        arm_at, seed_at = _numbered(names), _numbered(seeds)
        values_ASI = np.full((len(names), len(seeds), len(keys)), np.nan)
        for run in runs:
            at = id(run.sheet)
            values_ASI[arm_at[run.arm.name], seed_at[str(run.seed)], columns[at]] = run.values_N[lines[at]]
        present_ASI = ~np.isnan(values_ASI)
        # NaN in sums would spread to every mean; what is missing is said by `present_ASI` alone.
        values_ASI[~present_ASI] = 0.0
        return _trimmed(
            ScoreTable(
                eval_set=eval_set,
                arms=tuple(_table_arm(arms[name]) for name in names),
                seeds=tuple(seeds),
                items=tuple(keys),
                groups=_some([items[key].group or None for key in keys]),
                tasks=_several([items[key].task for key in keys]),
                values_ASI=values_ASI,
                present_ASI=present_ASI,
            )
        )


def _place(run: RunScores) -> tuple[str, str, int, str, int]:
    return run.arm.model, run.arm.target, run.arm.target_rows, run.arm.name, run.seed


def _numbered(names: Sequence[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def _some(groups: list[str | None]) -> tuple[str | None, ...] | None:
    return tuple(groups) if any(group is not None for group in groups) else None


def _several(tasks: list[str]) -> tuple[str, ...] | None:
    return tuple(tasks) if len(set(tasks)) > 1 else None


def _table_arm(arm: Arm) -> TableArm:
    source = source_of(arm)
    return TableArm(
        name=arm.name,
        kind=arm.kind,
        target_rows=arm.target_rows,
        dose=arm.dose_rows,
        source=source,
        doses=((source, arm.dose_rows),) if source is not None else (),
    )


def _trimmed(table: ScoreTable) -> ScoreTable | None:
    """Without arms, seeds and items that have no score at all."""
    present = table.present_ASI
    if present.all():
        return table
    arms, seeds, items = (np.flatnonzero(present.any(axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    return table.cut(arms.tolist(), seeds, items) if len(arms) else None


# ------------------------------------------------------------------------------------------------------------- scoring


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class AnswerColumns:
    """The answers of one run in columns, in the order of their keys; -1 and NaN where an answer is of another kind.

    `logprobs` are the log-probabilities of all choices one after the other, `counts_I` how many each item has.
    """

    keys: Any
    choice_I: NDArray[np.int64]
    counts_I: NDArray[np.int64]
    logprobs: Floats
    loss_I: Floats
    text: Sequence[str | None] | None
    ended_I: NDArray[np.bool_]

    def written(self, place: int) -> str:
        """The text of one answer; `StoreDamaged` where the answer is not a text."""
        text = None if self.text is None else self.text[place]
        if text is None:
            raise StoreDamaged(f"the answer to request {self.keys[place]} holds no text, but one was asked for")
        return text


def answer_columns(stored: Sequence[bytes], requests: Sequence[str]) -> AnswerColumns:
    """The answers to these requests, in their order, from the bytes of a run's Parquet files, without a record for
    each. A file may hold answers to others too. `StoreDamaged` where one of them has no answer."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    tables = []
    for data in stored:
        with pq.ParquetFile(pa.BufferReader(data)) as file:
            tables.append(file.read(use_threads=False))
    table = pa.concat_tables(tables).combine_chunks()
    wanted = pa.chunked_array([pa.array(requests, pa.string())])
    if not table.column("request").equals(wanted):
        # Most stores hold exactly these requests in this order, and then nothing has to be looked up or copied.
        place = pc.index_in(wanted, value_set=table.column("request"))
        if place.null_count:
            raise StoreDamaged(f"{place.null_count} of {len(requests)} requests have no answer")
        table = table.take(place).combine_chunks()
    logprobs = table.column("choice_logprobs").combine_chunks()
    if isinstance(logprobs, pa.ChunkedArray):
        logprobs = pa.concat_arrays(logprobs.chunks) if logprobs.num_chunks else pa.array([], logprobs.type)
    text = table.column("text")
    return AnswerColumns(
        keys=table.column("request"),
        choice_I=pc.fill_null(table.column("choice"), -1).to_numpy().astype(np.int64),
        counts_I=pc.fill_null(pc.list_value_length(logprobs), 0).to_numpy(zero_copy_only=False).astype(np.int64),
        logprobs=logprobs.flatten().to_numpy(zero_copy_only=False).astype(np.float64),
        loss_I=table.column("loss").to_numpy().astype(np.float64),
        text=None if text.null_count == len(text) else text.to_pylist(),
        ended_I=pc.not_equal(table.column("stop"), "length").to_numpy(),
    )


class SheetScorer:
    """Answers of runs to the values of one sheet. What is right on an item, and what a text is worth, is found once.

    `requests` names, by the key of an item, the request that it came to: answers are stored under that name.
    """

    def __init__(self, sheet: Sheet, requests: Mapping[str, str]) -> None:
        self.sheet = sheet
        self.requests = tuple(requests[key] for key in sheet.keys)
        place = _numbered(sheet.keys)
        self._answer_N = np.array([place[item.key] for item in sheet.items], dtype=np.intp)
        outside = outside_lines(sheet.items, sheet.metrics)
        self._outside = [line for lines in outside.values() for line in lines]
        self._batches = [lines for (metric, *_), lines in outside.items() if is_batch(metric)]
        own = set(self._outside)
        chosen = [line for line, item in enumerate(sheet.items) if item.answer == "choices" and line not in own]
        self._graded = np.array([line for line in chosen if sheet.metrics[line] == GRADED], dtype=np.intp)
        self._gains = np.array([line for line in chosen if sheet.metrics[line] == SUBJECT_GAIN], dtype=np.intp)
        self._chosen = np.array([line for line in chosen if sheet.metrics[line] not in _DERIVED], dtype=np.intp)
        self._prior_N = np.array([place[prior_key(sheet.items[line])] for line in self._gains], dtype=np.intp)
        self._texts = [line for line, item in enumerate(sheet.items) if item.answer == "text" and line not in own]
        self._losses = np.array([line for line, item in enumerate(sheet.items) if item.answer == "loss"], dtype=np.intp)
        self._right = self._right_choices(self._chosen)
        self._gold = self._right_choices(self._graded)
        self._gold_of_gains = self._right_choices(self._gains)
        self._fits = tuple(self._fit_of(target) for target in dict.fromkeys(item.target for item in sheet.items))
        self._text_worth: dict[tuple[int, str], metrics.TextScore] = {}

    def score(self, stored: Sequence[bytes], *, arm: Arm, run: Run) -> RunScores:
        """The scores of one run from the bytes of its answers; unknown values are NaN, with a reason.

        `StoreDamaged` where an item of the sheet has no answer among them.
        """
        try:
            answers = answer_columns(stored, self.requests)
        except StoreDamaged as error:
            raise StoreDamaged(f"run {run.run_id}: {error}") from None
        values_N = np.full(len(self.sheet), np.nan)
        reasons: dict[int, str] = {}
        self._score_choices(answers, values_N, reasons)
        temperatures = self._score_calibrated(answers, values_N, reasons)
        self._score_outside(answers, values_N)
        for line in self._texts:
            found = self._text(line, answers.written(self._answer_N[line]))
            if found.value is None:
                reasons[line] = found.reason or "no value"
            else:
                values_N[line] = found.value
        if len(self._losses):
            loss = answers.loss_I[self._answer_N[self._losses]]
            finite = np.isfinite(loss)
            # exp(-mean loss) is the geometric mean of the answer tokens' probabilities: 0 to 1, and higher is better,
            # as every other metric.
            values_N[self._losses] = np.where(finite, np.exp(-np.where(finite, loss, 0.0)), np.nan)
            reasons |= {int(line): "the loss is not finite" for line in self._losses[~finite]}
        return RunScores(
            run_id=run.run_id,
            arm=arm,
            seed=run.seed,
            sheet=self.sheet,
            values_N=values_N,
            choice_I=answers.choice_I.astype(np.int32),
            reasons=reasons,
            temperatures=temperatures,
        )

    def _fit_of(self, target: str) -> _Fit:
        """The lines of one target whose temperature is fitted, and those of the validation items that it is fitted on.

        Calibrated lines exist only where there are enough of the latter."""
        of_target = [line for line, item in enumerate(self.sheet.items) if item.target == target]
        lines = [line for line in of_target if self.sheet.metrics[line] == CALIBRATED]
        graded = [line for line in of_target if self.sheet.metrics[line] == GRADED] if lines else []
        fitted_on = [line for line in graded if self.sheet.items[line].eval_set == VALIDATION]
        return _Fit(
            target=target,
            lines=np.array(lines, dtype=np.intp),
            gold_IC=self._right_choices(np.array(lines, dtype=np.intp)),
            fitted_on=np.array(fitted_on, dtype=np.intp),
            fitted_gold_IC=self._right_choices(np.array(fitted_on, dtype=np.intp)),
        )

    def _score_calibrated(self, answers: AnswerColumns, values_N: Floats, reasons: dict[int, str]) -> dict[str, float]:
        """The graded score at each target's fitted temperature; the temperatures by target."""
        found: dict[str, float] = {}
        for fit in self._fits:
            if not len(fit.lines):
                continue
            width = fit.fitted_gold_IC.shape[1]
            logprobs = _logprobs_at(answers, self._answer_N[fit.fitted_on], width)
            temperature = fitted_temperature(logprobs, fit.fitted_gold_IC)
            if temperature is None:
                reasons |= {int(line): "too few validation items for a temperature" for line in fit.lines}
                continue
            found[fit.target] = temperature
            logprobs = _logprobs_at(answers, self._answer_N[fit.lines], fit.gold_IC.shape[1])
            values_N[fit.lines], unknown = graded_batch(logprobs / temperature, fit.gold_IC)
            reasons |= {int(fit.lines[line]): reason for line, reason in unknown.items()}
        return found

    def _score_choices(self, answers: AnswerColumns, values_N: Floats, reasons: dict[int, str]) -> None:
        for lines in (self._chosen, self._graded, self._gains):
            if len(lines) and (answers.choice_I[self._answer_N[lines]] < 0).any():
                raise StoreDamaged("an item with choices has an answer without a choice")
        if len(self._chosen):
            choice = answers.choice_I[self._answer_N[self._chosen]]
            values_N[self._chosen] = self._right[np.arange(len(choice)), choice]
        if len(self._graded):
            logprobs = _logprobs_at(answers, self._answer_N[self._graded], self._gold.shape[1])
            values_N[self._graded], unknown = graded_batch(logprobs, self._gold)
            reasons |= {int(self._graded[line]): reason for line, reason in unknown.items()}
        if len(self._gains):
            width = self._gold_of_gains.shape[1]
            asked = _logprobs_at(answers, self._answer_N[self._gains], width)
            prior = _logprobs_at(answers, self._prior_N, width)
            values_N[self._gains], unknown = subject_gain_batch(asked, prior, self._gold_of_gains)
            reasons |= {int(self._gains[line]): reason for line, reason in unknown.items()}

    def _score_outside(self, answers: AnswerColumns, values_N: Floats) -> None:
        """Lines of metrics from outside, and of those over all answers of a run."""
        said = {line: self._said(answers, line) for line in self._outside}
        for lines in self._batches:
            values_N[lines] = item_values(
                self.sheet.metrics[lines[0]],
                [said.pop(line) for line in lines],
                [self.sheet.items[line].references for line in lines],
            )
        for line, text in said.items():
            values_N[line] = self._text(line, text).value

    def _said(self, answers: AnswerColumns, line: int) -> str:
        """What was answered to a line's item: the text that was written, or that of the choice that was made."""
        item, place = self.sheet.items[line], int(self._answer_N[line])
        if item.answer == "text":
            return answers.written(place)
        choice = int(answers.choice_I[place])
        if item.choices is None or choice < 0:
            raise StoreDamaged("an item with choices has an answer without a choice")
        return item.choices[choice]

    def _text(self, line: int, text: str) -> metrics.TextScore:
        key = (line, text)
        if key not in self._text_worth:
            item = self.sheet.items[line]
            self._text_worth[key] = metrics.score_answer(item, text)
        return self._text_worth[key]

    def _right_choices(self, lines: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which choices of every item are right ones; False beyond its choices.

        Choices are identities and compared as they stand, whatever the metric: the normal form that a metric gives
        written answers makes one of C, C++ and C#, and then no choice among them is ever wrong.
        """
        items = [self.sheet.items[line] for line in lines]
        gold = np.zeros((len(items), max((len(item.choices or ()) for item in items), default=0)), dtype=bool)
        for row, item in enumerate(items):
            gold[row, : len(item.choices or ())] = [choice in item.references for choice in item.choices or ()]
        return gold


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class _Fit:
    """The calibrated lines of one target, the validation lines behind their temperature, and what is right on both."""

    target: str
    lines: NDArray[np.intp]
    gold_IC: NDArray[np.bool_]
    fitted_on: NDArray[np.intp]
    fitted_gold_IC: NDArray[np.bool_]


def _logprobs_at(answers: AnswerColumns, place: NDArray[np.intp], width: int) -> Floats:
    """The log-probabilities of the choices of some answers, minus infinity beyond an answer's choices."""
    # The choices of all answers lie in one flat array; a rectangle is cut out of it, as wide as the item with the most
    # choices.
    starts = np.concatenate([[0], np.cumsum(answers.counts_I)[:-1]])
    number = np.arange(width)
    within = number < answers.counts_I[place, None]
    at = np.where(within, starts[place, None] + number, 0)
    return np.where(within, answers.logprobs[at], -np.inf)


def subject_gain_batch(asked_IC: Floats, prior_IC: Floats, gold_IC: NDArray[np.bool_]) -> tuple[Floats, dict[int, str]]:
    """How far the subject moves the odds of the right answers against the other choices, as 0 to 1.

    The margin is the log-odds of the right choices; the score is the logistic function of the margin less the same
    margin of the question without its subject. 0.5: the subject changes nothing; the answer is only what the relation
    suggests. NaN with a reason by item.

    >>> even, third = np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])
    >>> gold = np.array([[True, False]])
    >>> [subject_gain_batch(asked, third, gold)[0].round(2).tolist() for asked in (third, even)]
    [[0.5], [0.75]]
    """
    asked_I, unknown = _margins(asked_IC, gold_IC)
    prior_I, without = _margins(prior_IC, gold_IC)
    reasons = {**{row: f"without its subject: {reason}" for row, reason in without.items()}, **unknown}
    # Clipped where exp would overflow; the score is 0 or 1 to all digits by then.
    values_I = 1 / (1 + np.exp(np.clip(prior_I - asked_I, -700, 700)))
    return values_I, reasons


def _margins(logprobs_IC: Floats, gold_IC: NDArray[np.bool_]) -> tuple[Floats, dict[int, str]]:
    """The log-odds of the right choices against the others; NaN with a reason where they are not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        # Sums of probabilities in logarithms: choices of long answers have probabilities far below what a float can
        # hold.
        right_I = np.logaddexp.reduce(np.where(gold_IC, logprobs_IC, -np.inf), axis=-1)
        wrong_I = np.logaddexp.reduce(np.where(gold_IC, -np.inf, logprobs_IC), axis=-1)
        margin_I = right_I - wrong_I
    finite_I = np.isfinite(margin_I)
    reasons = {int(row): "no finite margin between right and other choices" for row in np.flatnonzero(~finite_I)}
    return np.where(finite_I, margin_I, np.nan), reasons


def graded_batch(logprobs_IC: Floats, gold_IC: NDArray[np.bool_]) -> tuple[Floats, dict[int, str]]:
    """`metrics.graded` of many items; minus infinity where an item has fewer choices. NaN with a reason by item.

    >>> values, reasons = graded_batch(np.array([[-1.0, -1.0], [-np.inf, -np.inf]]), np.array([[True, False]] * 2))
    >>> values.tolist(), reasons
    ([0.5, nan], {1: 'every choice has probability 0'})
    """
    broken_I = np.isnan(logprobs_IC).any(-1) | (logprobs_IC == np.inf).any(-1)
    # Only ratios of probabilities count, so the largest is taken off first: no exponential overflows, and not all
    # vanish.
    peak_I = np.where(broken_I, 0.0, logprobs_IC.max(-1))
    empty_I = np.isneginf(peak_I)
    known_I = ~broken_I & ~empty_I
    weights_IC = np.exp(np.where(known_I[:, None], logprobs_IC - np.where(known_I, peak_I, 0.0)[:, None], 0.0))
    values_I = np.where(known_I, (weights_IC * gold_IC).sum(-1) / weights_IC.sum(-1), np.nan)
    reasons = {int(row): "every choice has probability 0" for row in np.flatnonzero(empty_I)}
    reasons |= {int(row): "log-probabilities are missing or not numbers" for row in np.flatnonzero(broken_I)}
    return values_I, reasons
