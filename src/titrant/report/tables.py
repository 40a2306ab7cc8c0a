"""The tables of the page: records to cells of text, with every unknown number explained below its table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from titrant.core.records import ArmKind, Contrast, Verdict
from titrant.report.cells import Cell, Column, Interval, Table
from titrant.report.data import (
    NOT_RUN,
    ChangeRow,
    CollapseRow,
    CurvePoint,
    DoseCurve,
    ExchangeRow,
    FailedRun,
    FairnessRow,
    FileFacts,
    LawRow,
    MeasureRow,
    ReferenceLine,
    RemovedRows,
    RetentionRow,
    SizeCurve,
    ThresholdRow,
)
from titrant.report.forest import bounds_of
from titrant.report.wording import count, known, percent, plural, probability, quantity, score, shortened, signed

MOST_ROWS = 1000
FEWEST_ARM_SEEDS = 3
"""With fewer seeds a single arm's interval is far wider than any difference that matters, and says nothing."""
NAME_LIMIT, TEXT_LIMIT, MOST_NAMED = 120, 600, 12
KIND_WORDS: dict[ArmKind, str] = {
    "untuned": "untuned model",
    "alone": "plain baseline",
    "matched": "matched baseline",
    "dosed": "with a dose",
    "generalist_alone": "generalist alone",
}


@dataclass(slots=True)
class _Notes:
    """Collects the reasons of unknown numbers, each once."""

    reasons: list[str] = field(default_factory=list)

    def number(self, value: float | None, form: Callable[[float], str], *, reason: str | None) -> Cell:
        """The number, or "not known" with the number of its reason."""
        if known(value):
            return Cell(text=form(value), numeric=True)
        return self.unknown(reason if value is None else "the value is not a finite number")

    def unknown(self, reason: str | None, *, numeric: bool = True) -> Cell:
        text = shortened(reason or "no reason was recorded", limit=TEXT_LIMIT)
        if text not in self.reasons:
            self.reasons.append(text)
        return Cell(text="not known", numeric=numeric, note=self.reasons.index(text) + 1)


def _table(
    caption: str, columns: Sequence[Column], rows: Iterable[Sequence[Cell]], notes: _Notes, *, remark: str | None = None
) -> Table:
    every = [tuple(row) for row in rows]
    left = len(every) - MOST_ROWS
    return Table(
        caption=caption,
        columns=tuple(columns),
        rows=tuple(every[:MOST_ROWS]),
        notes=tuple(notes.reasons),
        left_out=f"{count(left)} further rows are not shown; they are in the study's folder." if left > 0 else None,
        remark=remark,
    )


def _name(text: str) -> Cell:
    return Cell(text=shortened(text, limit=NAME_LIMIT))


def _number(text: str) -> Cell:
    return Cell(text=text, numeric=True)


def _text(*titles: str) -> list[Column]:
    return [Column(title=title) for title in titles]


def _numeric(*titles: str) -> list[Column]:
    return [Column(title=title, numeric=True) for title in titles]


def recipe_words(kind: ArmKind, source: str | None, dose: int) -> str:
    """What was added to the target rows, in words.

    >>> recipe_words("dosed", "dolly", 96), recipe_words("generalist_alone", "dolly", 96)
    ('96 rows of dolly', '96 rows of dolly, alone')
    """
    if kind == "dosed":
        return dose_words(source, dose)
    return f"{dose_words(source, dose)}, alone" if kind == "generalist_alone" else KIND_WORDS[kind]


def dose_words(source: str | None, dose: int) -> str:
    """A dose in words.

    >>> dose_words("dolly", 96), dose_words(None, 0)
    ('96 rows of dolly', 'none')
    """
    return f"{count(dose)} rows of {source}" if source is not None and dose else "none"


# ----------------------------------------------------------------------------------------------------------- contrasts


def contrast_tables(verdict: Verdict, *, metric: str, transfer: bool = False) -> tuple[Table, ...]:
    """A table a baseline, the fair one first, with all intervals drawn on one scale; with `transfer`, those of other
    targets' items."""
    order = {verdict.matched: 0, verdict.baseline: 1}
    groups: dict[tuple[str, str], list[Contrast]] = {}
    for contrast in verdict.transfer if transfer else verdict.contrasts:
        groups.setdefault((contrast.eval_set, contrast.baseline), []).append(contrast)
    keys = sorted(groups, key=lambda key: (key[0] != "target", key[0], order.get(key[1], 2), key[1]))
    scale = _difference_scale(verdict)
    return tuple(_contrast_table(key, groups[key], verdict, scale, metric) for key in keys)


def _contrast_table(
    key: tuple[str, str],
    contrasts: Sequence[Contrast],
    verdict: Verdict,
    scale: tuple[float, float],
    metric: str,
) -> Table:
    eval_set, baseline = key
    notes = _Notes()
    common = len({_evidence(contrast) for contrast in contrasts}) == 1  # then it is said once, below the caption
    with_p = any(known(contrast.difference.value) and known(contrast.p_adjusted) for contrast in contrasts)
    rows = []
    for contrast in contrasts:
        difference = contrast.difference
        reason = difference.reason
        row = [
            Cell(text=shortened(contrast.arm, limit=NAME_LIMIT), below=_dose_below(contrast)),
            notes.number(difference.value, signed, reason=reason),
            _bounds(contrast, notes),
            _interval_cell(contrast, verdict.smallest_effect, scale),
        ]
        if with_p:  # a staged study has no p values: its claims are made look by look
            row.append(notes.number(contrast.p_adjusted, probability, reason=reason or "no p value for this contrast"))
        rows.append(row if common else [*row, Cell(text=_evidence(contrast))])
    columns = [*_text("arm"), *_numeric("difference", "interval"), *_text("interval, drawn")]
    columns += [*(_numeric("p, adjusted") if with_p else []), *([] if common else _text("from"))]
    role = {verdict.baseline: "plain baseline, ", verdict.matched: "matched baseline, "}.get(baseline, "")
    rival = f"from the {role}{shortened(baseline, limit=NAME_LIMIT)}"
    caption = f"Difference in {metric} {rival}"
    if not baseline:
        caption = "Doses without a baseline to compare with"
    kind, _, other = eval_set.partition(":")
    if kind == "transfer":
        caption = f"On the test items of {shortened(other, limit=NAME_LIMIT)}: difference {rival}"
    elif eval_set != "target":
        caption = f"{shortened(eval_set, limit=NAME_LIMIT)}: {caption}"
    return _table(caption, columns, rows, notes, remark=_evidence(contrasts[0]) if common else None)


def _dose_below(contrast: Contrast) -> str | None:
    return None if contrast.dose is None else shortened(dose_words(contrast.source, contrast.dose), limit=60)


def _evidence(contrast: Contrast) -> str:
    """What a contrast was estimated from, and how."""
    difference = contrast.difference
    sample = f"{plural(difference.n_items, 'item')}, {plural(difference.n_seeds, 'seed')}"
    return f"{sample}; {shortened(difference.method, limit=TEXT_LIMIT)}"


def _bounds(contrast: Contrast, notes: _Notes) -> Cell:
    bounds = bounds_of(contrast)
    if bounds is not None:
        return _number(f"{signed(bounds[0])} to {signed(bounds[1])}")
    unread = "set aside before a look read it" if known(contrast.difference.low) else contrast.difference.reason
    return notes.unknown(unread)


def _difference_scale(verdict: Verdict) -> tuple[float, float]:
    """The ends of the scale on which all intervals are drawn: all bounds and the zone that does not matter."""
    ends = [-1.4 * verdict.smallest_effect, 1.4 * verdict.smallest_effect]
    for contrast in (*verdict.contrasts, *verdict.transfer):
        ends += [v for v in (*(bounds_of(contrast) or ()), contrast.difference.value) if known(v)]
    margin = 0.05 * (max(ends) - min(ends)) or 0.01
    return min(ends) - margin, max(ends) + margin


def _interval_cell(contrast: Contrast, smallest_effect: float, scale: tuple[float, float]) -> Cell:
    difference, bounds = contrast.difference, bounds_of(contrast)
    if bounds is None or not known(difference.value):
        return Cell(text="")

    def place(value: float) -> float:
        return round(100 * (value - scale[0]) / (scale[1] - scale[0]), 2)

    drawn = Interval(
        low=place(bounds[0]),
        value=place(difference.value),
        high=place(bounds[1]),
        zero=place(0.0),
        zone_low=place(-smallest_effect),
        zone_high=place(smallest_effect),
    )
    return Cell(text="", interval=drawn)


# -------------------------------------------------------------------------------------------------------------- curves


def dose_table(curves: Sequence[DoseCurve]) -> Table:
    """All points of the dose curves of one measure."""
    notes = _Notes()
    rows = []
    seen: set[tuple[int, str]] = set()  # the baselines stand in the curve of every source
    for curve in sorted(curves, key=lambda curve: (curve.target_rows, curve.source)):
        for point in sorted(curve.points, key=lambda p: (p.kind != "alone", p.kind != "matched", p.dose)):
            if point.kind != "dosed" and (curve.target_rows, point.arm) in seen:
                continue
            seen.add((curve.target_rows, point.arm))
            recipe = recipe_words(point.kind, curve.source, point.dose)
            rows.append((_number(count(curve.target_rows)), _name(recipe), *_estimate_cells(point, notes)))
    columns = [*_numeric("target rows"), *_text("dose"), *_numeric("mean", "interval", "seeds")]
    return _table("The numbers of this figure", columns, rows, notes)


def size_table(curves: Sequence[SizeCurve], lines: Sequence[ReferenceLine]) -> Table:
    """All points of the curves over target sizes, and the lines that need no target rows."""
    notes = _Notes()
    rows = []
    for line in lines:
        value = notes.number(line.value, score, reason=line.reason)
        bounds = f"{score(line.low)} to {score(line.high)}" if known(line.low) and known(line.high) else ""
        rows.append((_name(line.label), _number("0"), value, _number(bounds)))
    for curve in curves:
        for point in sorted(curve.points, key=lambda point: point.target_rows):
            value = notes.number(point.mean, score, reason=point.reason)
            few = point.seeds < FEWEST_ARM_SEEDS
            bounds = "" if few or not (known(point.low) and known(point.high)) else _between(point.low, point.high)
            rows.append((_name(curve.label), _number(count(point.target_rows)), value, _number(bounds)))
    columns = [*_text("recipe"), *_numeric("target rows", "mean score", "interval")]
    return _table("The numbers of this figure", columns, rows, notes)


def _between(low: float, high: float) -> str:
    return f"{score(low)} to {score(high)}"


def _estimate_cells(point: CurvePoint, notes: _Notes) -> tuple[Cell, ...]:
    mean = notes.number(point.mean, score, reason=point.reason)
    if known(point.low) and known(point.high):
        bounds = _number(f"{score(point.low)} to {score(point.high)}")
    else:
        bounds = notes.unknown(point.reason)
    return mean, bounds, _number(count(point.seeds))


# ---------------------------------------------------------------------------------------------------------- other ones


def fairness_table(rows: Sequence[FairnessRow]) -> Table:
    """What every arm's training did. Arms without any run are a remark, not a row of unknowns each."""
    notes = _Notes()
    body = []
    unrun = [row for row in rows if row.reason == NOT_RUN and not row.seeds]
    for row in (row for row in rows if row not in unrun):
        cells = [_name(row.arm), _name(recipe_words(row.kind, row.source, row.dose))]
        cells += [_number(count(row.target_rows)), _number(count(row.seeds))]
        of_target = row.target_rows > 0
        cells.append(notes.number(row.steps, quantity, reason=row.reason))
        cells.append(notes.number(row.tokens, quantity, reason=row.reason))
        cells.append(_where(of_target, row.target_visits_per_row, quantity, row.reason, notes))
        cells.append(notes.number(row.generalist_visits, quantity, reason=row.reason))
        for value in (row.target_share_of_rows, row.target_share_of_loss_tokens, row.target_share_of_loss):
            cells.append(_where(of_target, value, percent, row.reason, notes))
        body.append(cells)
    columns = [*_text("arm", "recipe"), *_numeric("target rows", "seeds", "steps", "tokens")]
    columns += _numeric("visits of a target row", "generalist visits")
    columns += _numeric("target's share of rows", "… of loss tokens", "… of loss")
    names = ", ".join(shortened(row.arm, limit=60) for row in unrun[:MOST_NAMED])
    if len(unrun) > MOST_NAMED:
        names += f" and {count(len(unrun) - MOST_NAMED)} more"
    remark = shortened(f"Without a run: {names} ({NOT_RUN})", limit=TEXT_LIMIT) if unrun else None
    return _table("What training really did, mean over seeds", columns, body, notes, remark=remark)


def _where(applies: bool, value: float | None, form: Callable[[float], str], reason: str | None, notes: _Notes) -> Cell:
    """The number, or a dash where there is nothing to have a number of."""
    return notes.number(value, form, reason=reason) if applies or value is not None else _number("–")


def retention_table(rows: Sequence[RetentionRow]) -> Table:
    """What every arm kept. What is unknown for every arm has no column; a remark says why."""
    notes = _Notes()
    with_kept = any(known(row.kept) for row in rows)
    with_learned = any(known(row.learned) for row in rows)
    body = [
        (
            _name(row.arm),
            _name(recipe_words(row.kind, row.source, row.dose)),
            notes.number(row.target_gain, signed, reason=row.reason),
            *(_kept_cells(row, notes) if with_kept else ()),
            *((notes.number(row.learned, score, reason=row.reason),) if with_learned else ()),
        )
        for row in rows
    ]
    columns = [*_text("arm", "recipe"), *_numeric("gain on the target")]
    columns += [*_numeric(*(("kept", "interval") if with_kept else ()))]
    columns += [*_numeric(*(("learned from the pool",) if with_learned else ()))]
    missing = [] if with_kept else ["what was kept (the study has no answers on items of general ability)"]
    missing += [] if with_learned else ["what was learned (no answers on held-out rows of the pool's kind)"]
    remark = f"Not known for any arm: {', '.join(missing)}" if missing else None
    return _table("The numbers of this figure", columns, body, notes, remark=remark)


def _kept_cells(row: RetentionRow, notes: _Notes) -> tuple[Cell, Cell]:
    between = known(row.kept_low) and known(row.kept_high)
    bounds = _number(_between(row.kept_low or 0.0, row.kept_high or 0.0)) if between else notes.unknown(row.reason)
    return notes.number(row.kept, score, reason=row.reason), bounds


def collapse_table(rows: Sequence[CollapseRow]) -> Table:
    """How varied every arm's answers are. What is unknown for every arm has no column; a remark says why."""
    notes = _Notes()
    measures: list[tuple[str, Callable[[CollapseRow], float | None], Callable[[float], str]]] = [
        ("its share", lambda row: row.commonest_share, percent),
        ("entropy (bits)", lambda row: row.entropy_bits, lambda bits: f"{bits:.2f}"),
        ("never ended", lambda row: row.never_ended, percent),
        ("matched no label", lambda row: row.matched_no_label, percent),
    ]
    dropped = [title for title, value, _ in measures if all(value(row) is None for row in rows)]
    kept = [measure for measure in measures if measure[0] not in dropped]
    body = []
    for row in rows:
        label = row.commonest_label
        cells = [_name(row.arm), Cell(text=KIND_WORDS[row.kind])]
        cells.append(notes.unknown(row.reason, numeric=False) if label is None else _name(label))
        cells += [notes.number(value(row), form, reason=row.reason) for _, value, form in kept]
        body.append(cells)
    reasons = sorted({shortened(row.reason or "no reason was recorded", limit=TEXT_LIMIT) for row in rows})[:3]
    remark = f"Not known for any arm: {', '.join(dropped)} ({'; '.join(reasons)})" if dropped else None
    columns = [*_text("arm", "recipe", "commonest answer"), *_numeric(*(title for title, _, _ in kept))]
    return _table("How varied the answers are", columns, body, notes, remark=remark)


def measure_table(rows: Sequence[MeasureRow]) -> Table:
    """What stands beside the deciding score, for the arms that are compared."""
    notes = _Notes()
    roles = list(dict.fromkeys(role for row in rows for role, _ in row.means))
    body = [
        (
            _name(row.metric.replace("_", " ")),
            _name(row.of),
            _number(count(row.items)),
            *(
                notes.number(dict(row.means).get(role), score, reason="no run of this arm has a score")
                for role in roles
            ),
        )
        for row in rows
    ]
    columns = [*_text("measure", "over"), *_numeric("items", *roles)]
    return _table("Other measures of the same answers", columns, body, notes)


def exchange_table(rows: Sequence[ExchangeRow]) -> Table:
    """What a dose is worth in target rows."""
    notes = _Notes()
    body = [
        (
            _number(count(row.target_rows)),
            _name(dose_words(row.source, row.dose)),
            Cell(text=_BASELINE_WORDS[row.baseline]),
            notes.number(row.rows, count, reason=row.reason),
            _name(row.interval),
        )
        for row in sorted(rows, key=lambda row: (row.baseline != "matched", row.target_rows, row.source, row.dose))
    ]
    columns = [*_numeric("target rows"), *_text("dose", "read against"), *_numeric("worth, in target rows")]
    return _table("What a dose is worth", [*columns, *_text("interval")], body, notes)


_BASELINE_WORDS = {"matched": "matched baseline", "plain": "plain baseline", "dosed": "with a dose"}


def threshold_table(rows: Sequence[ThresholdRow]) -> Table:
    """Where a dose stops paying."""
    notes = _Notes()
    body = [
        (
            _name(dose_words(row.source, row.dose)),
            Cell(text=_BASELINE_WORDS[row.baseline]),
            notes.number(row.target_rows, count, reason=row.reason),
            _name(row.interval),
        )
        for row in rows
    ]
    columns = [*_text("dose", "gain over"), *_numeric("falls below at, target rows"), *_text("interval")]
    return _table("Where the gain falls below the smallest effect", columns, body, notes)


def change_table(rows: Sequence[ChangeRow], *, over: str) -> Table:
    """Whether a gain changes; `over` is target_rows or skill."""
    notes = _Notes()
    skills = over == "skill"
    body = []
    for row in rows:
        bounds = (
            _number(f"{signed(row.low)} to {signed(row.high)}")
            if known(row.low) and known(row.high)
            else notes.unknown(row.reason)
        )
        body.append(
            (
                _name(dose_words(row.source, row.dose)),
                _name(row.what) if skills else Cell(text=_BASELINE_WORDS[row.baseline]),
                notes.number(row.change, signed, reason=row.reason),
                bounds,
                notes.number(row.p_adjusted, probability, reason=row.reason),
            )
        )
    change = "change of the gain" if skills else "change per doubling"
    columns = [*_text("dose", "skills" if skills else "gain over"), *_numeric(change, "interval", "p, adjusted")]
    caption = "Does the gain depend on the skill?" if skills else "Does the gain change with the target rows?"
    return _table(caption, columns, body, notes)


def law_table(rows: Sequence[LawRow]) -> Table:
    """What the law says, where it may speak."""
    notes = _Notes()
    body = []
    for row in rows:
        worth = "; ".join(f"{count(dose)} rows: {count(value)}" for dose, value in row.worth)
        silent = notes.unknown(row.reason, numeric=False) if row.formula is None else None
        body.append(
            (
                _name(row.source or "all doses"),
                Cell(text=_BASELINE_WORDS[row.baseline]),
                silent or _name(row.formula or ""),
                silent or _name(worth),
                notes.number(row.error_law, score, reason=row.reason),
                notes.number(row.error_interpolation, score, reason=row.reason),
            )
        )
    columns = [*_text("source", "curve", "score", "doses are worth, in target rows")]
    columns += _numeric("error of the law", "error of interpolation")
    return _table("The law", columns, body, notes)


def failure_table(rows: Sequence[FailedRun]) -> Table:
    """Runs without scores."""
    body = [
        (
            _name(row.arm),
            _number(count(row.seed)),
            _name(row.kind),
            _number("" if row.step is None else count(row.step)),
            Cell(text=shortened(row.message, limit=TEXT_LIMIT)),
        )
        for row in rows
    ]
    columns = [*_text("arm"), *_numeric("seed"), *_text("what"), *_numeric("at step"), *_text("message")]
    return _table("Runs that failed", columns, body, _Notes())


def removed_table(rows: Sequence[RemovedRows]) -> Table:
    """Rows taken out before anything was drawn."""
    body = [
        (_name(row.pool), Cell(text=shortened(row.why, limit=TEXT_LIMIT)), _number(count(row.rows))) for row in rows
    ]
    return _table("Rows removed before the draw", [*_text("pool", "why"), *_numeric("rows")], body, _Notes())


def file_table(rows: Sequence[FileFacts]) -> Table:
    """The files that were read."""
    notes = _Notes()
    body = [
        (
            _name(row.use),
            Cell(text=shortened(row.path, limit=300)),
            _number(count(row.rows)),
            notes.unknown("no licence was given", numeric=False) if row.licence is None else _name(row.licence),
            Cell(text=shortened(row.fingerprint, limit=NAME_LIMIT)),
        )
        for row in rows
    ]
    columns = [*_text("use", "file"), *_numeric("rows"), *_text("licence", "fingerprint")]
    return _table("Files", columns, body, notes)
