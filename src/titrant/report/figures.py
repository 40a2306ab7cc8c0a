"""The charts: Altair specifications, drawn to SVG beforehand.

No script draws anything in the reader's browser, so the page needs neither a charting library nor a relaxed content
policy, and works on paper (docs/decisions/0004-report-charts.md). Two rules keep it safe and legible:

- No text of a study ever enters a specification. Panels, legends and tables are HTML around the drawing; a mark carries
  a code, and its tooltip is added to the finished SVG as an escaped text node.
- Colours are CSS variables, so one drawing serves light and dark screens and paper.

A figure is one or more small panels of one width, which the page puts side by side or below each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from titrant.core.records import ArmKind
from titrant.report.data import (
    NOT_RUN,
    CurvePoint,
    DoseCurve,
    Measure,
    ReferenceLine,
    RetentionRow,
    SizeCurve,
    SizePoint,
    TrainingCurve,
    TrainingPoint,
)
from titrant.report.drawing import (
    Colours,
    Figure,
    LegendEntry,
    Line,
    Panel,
    banded_line,
    count_axis,
    count_scale,
    data_of,
    dot,
    drawn_panel,
    many_lines,
    nothing,
    rule,
    same_axis,
    score_domain,
)
from titrant.report.wording import count, known, plural, score, shortened, signed

MOST_PANELS = 12
MOST_TRAINING_RUNS = 24  # a panel; above it only the means over seeds are drawn
MOST_TRAINING_ARMS = 16  # a panel
TRAINING_BINS = 50
MOST_RETENTION_MARKS = 60  # a panel
_LINE_DASHES = {
    "untuned": [1, 3],
    "generalist_alone": [7, 3, 1, 3],
    "majority_label": [3, 3],
    "prior_answer": [9, 3],
}


# -------------------------------------------------------------------------------------------------------------- figures


def dose_response(curves: Sequence[DoseCurve], *, measure: Measure) -> Figure | None:
    """The score against the dose: a panel a target size, a line with its band a source, the matched baseline across.

    None where no point has a value.
    """
    chosen = [curve for curve in curves if curve.measure == measure]
    points = [point for curve in chosen for point in curve.points]
    if not any(known(point.mean) for point in points):
        return None
    colours = Colours(curve.source for curve in chosen)
    domain = score_domain(value for point in points for value in _values(point))
    # A size that was planned and never run has nothing to show; the table says why.
    sizes = sorted({curve.target_rows for curve in chosen if any(point.reason != NOT_RUN for point in curve.points)})
    panels = tuple(
        _dose_panel([c for c in chosen if c.target_rows == size], size, colours, domain)
        for size in sizes[-MOST_PANELS:]
    )
    legend = [colours.entry(source, label=f"with rows of {source}") for source in colours.names]
    if any(point.kind == "matched" for point in points):
        legend.append(
            LegendEntry(label="matched baseline: no dose, as many steps", colour="ink", swatch="line", dash="5 4")
        )
    if any(known(point.low) for point in points):
        words = "band: interval of the difference, laid on its baseline"
        legend.append(LegendEntry(label=words, colour="muted", swatch="band"))
    if any(known(point.base) for point in points):
        words = "short bar: that baseline at the seeds that the dose has too"
        legend.append(LegendEntry(label=words, colour="ink", swatch="line"))
    if any(point.by_seed for point in points):
        legend.append(LegendEntry(label="small dots: single seeds", colour="muted", swatch="mark"))
    return Figure(panels=panels, legend=tuple(legend), left_out=_panels_left_out(len(sizes), "target size"))


def _dose_panel(curves: Sequence[DoseCurve], size: int, colours: Colours, domain: tuple[float, float]) -> Panel:
    import altair

    tips: list[str] = []
    doses = sorted({point.dose for curve in curves for point in curve.points})
    x = altair.X("x:Q", title="generalist rows (the dose)", scale=count_scale(doses), axis=count_axis(doses))
    y = altair.Y("y:Q", title="score", scale=altair.Scale(domain=list(domain), nice=False, zero=False))
    layers: list[Any] = []
    for point in {p.arm: p for curve in curves for p in curve.points if p.kind == "matched"}.values():
        layers += _across(point, doses, x, y, tips)
    for curve in curves:
        ladder = sorted((p for p in curve.points if p.kind != "matched" and known(p.mean)), key=lambda p: p.dose)
        layers += banded_line(
            [(p.dose, p) for p in ladder],
            x,
            y,
            colour=colours.css(curve.source),
            shape=colours.shape(curve.source),
            tips=tips,
            tip=partial(_dose_tip, curve.source),
        )
    layers += _bases([point for curve in curves for point in curve.points], x, y)
    heading = plural(size, "target row")
    return drawn_panel(layers or [nothing(x, y)], heading=heading, alt=_dose_alt(curves, heading), tips=tips)


def size_response(curves: Sequence[SizeCurve], lines: Sequence[ReferenceLine]) -> Figure | None:
    """The score against target rows, with and without the dose, over the lines that cost no target rows.

    None where fewer than two target sizes have a value: there is nothing to join.
    """
    import altair

    drawn = [point for curve in curves for point in curve.points if known(point.mean)]
    banded = any(known(point.low) for curve in curves if curve.role == "dosed" for point in curve.points)
    sizes = sorted({point.target_rows for point in drawn})
    if len(sizes) < 2:
        return None
    shown_lines = [line for line in lines if known(line.value)]
    domain = score_domain(
        [value for point in drawn for value in (point.mean, point.low, point.high)]
        + [line.value for line in shown_lines]
    )
    x = altair.X("x:Q", title="target rows", scale=count_scale(sizes), axis=count_axis(sizes))
    y = altair.Y("y:Q", title="score", scale=altair.Scale(domain=list(domain), nice=False, zero=False))
    tips: list[str] = []
    layers: list[Any] = []
    legend: list[LegendEntry] = []
    looks = {
        "plain": ("ink", "circle", [1, 0]),
        "matched": ("ink", "square", [5, 4]),
        "dosed": ("s0", "circle", [1, 0]),
    }
    for curve in sorted(curves, key=lambda curve: ("plain", "matched", "dosed").index(curve.role)):
        colour, shape, dash = looks[curve.role]
        layers += banded_line(
            [(p.target_rows, p) for p in sorted(curve.points, key=lambda p: p.target_rows) if known(p.mean)],
            x,
            y,
            colour=f"var(--{colour})",
            shape=shape,
            dash=dash,
            tips=tips,
            tip=partial(_size_tip, curve.label),
        )
        dashes = "5 4" if curve.role == "matched" else ""
        legend.append(LegendEntry(label=curve.label, colour=colour, swatch="point", shape=shape, dash=dashes))
    if banded:
        words = "band: interval of the difference, laid on its baseline"
        legend.append(LegendEntry(label=words, colour="muted", swatch="band"))
    for line in shown_lines:
        tips.append(f"{line.label}: {score(line.value or 0.0)}")
        data = data_of([{"x": sizes[0], "y": line.value, "tip": f"tip-{len(tips) - 1}"}])
        layers.append(
            altair.Chart(data)
            .mark_rule(color="var(--muted)", strokeDash=_LINE_DASHES[line.kind], strokeWidth=1.5)
            .encode(y=y, description="tip:N")
        )
        dashes = " ".join(map(str, _LINE_DASHES[line.kind]))
        label = f"{shortened(line.label, limit=80)}: {score(line.value or 0.0)}"
        legend.append(LegendEntry(label=label, colour="muted", swatch="line", dash=dashes))
    alt = f"Score against target rows, {len(curves)} recipes at {len(sizes)} target sizes; the table has the numbers."
    return Figure(panels=(drawn_panel(layers, heading="", alt=alt, tips=tips),), legend=tuple(legend))


def retention(rows: Sequence[RetentionRow], *, measure: Literal["kept", "learned"]) -> Figure | None:
    """What was kept (or learned from the pool) against the gain on the target: a panel a target size.

    None where no arm has both numbers.
    """
    chosen = [row for row in rows if row.target_rows > 0 and known(row.target_gain) and known(_retained(row, measure))]
    if not chosen:
        return None
    colours = Colours(row.source for row in chosen if row.source is not None)
    untuned = next((r for r in rows if r.kind == "untuned" and known(_retained(r, measure))), None)
    heights = [_retained(row, measure) for row in chosen]
    if measure == "kept":
        heights += [bound for row in chosen for bound in (row.kept_low, row.kept_high)]
    if untuned is not None:
        heights.append(_retained(untuned, measure))
    domain = score_domain(heights)
    gains = [row.target_gain or 0.0 for row in chosen] + [0.0]
    margin = 0.12 * (max(gains) - min(gains)) or 0.05
    across = (min(gains) - margin, max(gains) + 1.6 * margin)  # room for the labels at the right of the points
    sizes = sorted({row.target_rows for row in chosen})
    panels = tuple(
        _retention_panel([r for r in chosen if r.target_rows == size], untuned, measure, colours, across, domain)
        for size in sizes[-MOST_PANELS:]
    )
    legend = [
        colours.entry(name, label=f"with rows of {name} (the number is the dose)", swatch="mark")
        for name in colours.names
    ]
    kinds = {row.kind for row in chosen}
    if "alone" in kinds:
        legend.append(LegendEntry(label="plain baseline", colour="ink", swatch="mark"))
    if "matched" in kinds:
        legend.append(LegendEntry(label="matched baseline", colour="ink", swatch="mark", shape="square"))
    if untuned is not None:
        label = f"untuned model: {score(_retained(untuned, measure) or 0.0)}"
        legend.append(LegendEntry(label=label, colour="muted", swatch="line", dash="1 3"))
    crowded = sum(max(0, sum(r.target_rows == size for r in chosen) - MOST_RETENTION_MARKS) for size in sizes)
    left_out = (f"{plural(crowded, 'further arm')} not drawn; the table holds them.",) if crowded else ()
    left_out = (*left_out, *_panels_left_out(len(sizes), "target size"))
    return Figure(panels=panels, legend=tuple(legend), left_out=left_out)


def _retention_panel(
    rows: Sequence[RetentionRow],
    untuned: RetentionRow | None,
    measure: Literal["kept", "learned"],
    colours: Colours,
    across: tuple[float, float],
    domain: tuple[float, float],
) -> Panel:
    import altair

    title = "accuracy kept" if measure == "kept" else "probability of a token"
    x = altair.X("x:Q", title="gain on the target", scale=altair.Scale(domain=list(across), nice=False, zero=False))
    y = altair.Y("y:Q", title=title, scale=altair.Scale(domain=list(domain), nice=False, zero=False))
    tips: list[str] = []
    layers: list[Any] = [rule(altair.Chart(data_of([{"x": 0}])), "var(--line)").encode(x=x)]
    if untuned is not None:
        data = data_of([{"y": _retained(untuned, measure)}])
        layers.append(rule(altair.Chart(data), "var(--muted)", dash=[1, 3]).encode(y=y))
    looks: dict[tuple[str, str], list[RetentionRow]] = {}
    for row in rows[:MOST_RETENTION_MARKS]:
        looks.setdefault(_look(row, colours), []).append(row)
    for (colour, shape), alike in looks.items():
        layers += _retention_marks(alike, measure, colour, shape, x, y, tips)
    heading = plural(rows[0].target_rows, "target row")
    alt = f"{title.capitalize()} against the gain on the target, {heading}: " + "; ".join(tips) + "."
    return drawn_panel(layers, heading=heading, alt=alt, tips=tips)


def _look(row: RetentionRow, colours: Colours) -> tuple[str, str]:
    """Colour and shape of an arm's mark."""
    if row.source is not None:
        return colours.css(row.source), colours.shape(row.source)
    return "var(--ink)", "square" if row.kind == "matched" else "circle"


def _retention_marks(
    rows: Sequence[RetentionRow],
    measure: Literal["kept", "learned"],
    colour: str,
    shape: str,
    x: Any,
    y: Any,
    tips: list[str],
) -> list[Any]:
    """Whiskers, points and dose labels of arms that look alike."""
    import altair

    records, whiskers = [], []
    for row in rows:
        tips.append(_retention_tip(row, measure))
        label = count(row.dose) if row.kind == "dosed" else ""
        records.append({"x": row.target_gain, "y": _retained(row, measure), "tip": f"tip-{len(tips) - 1}", "d": label})
        if measure == "kept" and known(row.kept_low) and known(row.kept_high):
            whiskers.append({"x": row.target_gain, "l": row.kept_low, "h": row.kept_high})
    layers: list[Any] = []
    if whiskers:
        lines = altair.Chart(data_of(whiskers)).mark_rule(color=colour, opacity=0.45, aria=False)
        layers.append(lines.encode(x=x, y=same_axis("l:Q", y), y2="h:Q"))
    base = altair.Chart(data_of(records))
    layers.append(dot(base, colour, shape).encode(x=x, y=y, description="tip:N"))
    text = base.mark_text(align="left", dx=8, color="var(--muted)", aria=False)
    return [*layers, text.encode(x=x, y=y, text="d:N")]


def training(curves: Sequence[TrainingCurve], *, part: Literal["loss", "target"]) -> Figure | None:
    """The loss of the step, or the target's part of it, against the step: a panel a target size, a thick line an arm.

    Thin lines are single runs, where there are few. None where nothing was recorded.
    """
    series = [(curve, _binned(curve.points, part)) for curve in curves]
    series = [(curve, points) for curve, points in series if points]
    if not series:
        return None
    series, left_out = _first_arms(series)
    sizes = sorted({curve.target_rows for curve, _ in series})
    colours = Colours(c.source for c, _ in series if c.source is not None)
    steps = max(step for _, points in series for step, _ in points)
    top = 1.04 * max(value for _, points in series for _, value in points)
    doses = sorted({(c.source or "", c.dose) for c, _ in series if c.source is not None})
    panels = tuple(
        _training_panel([(c, p) for c, p in series if c.target_rows == size], part, colours, doses, (steps, top))
        for size in sizes[-MOST_PANELS:]
    )
    kinds = {curve.kind for curve, _ in series}
    legend = [LegendEntry(label="plain baseline", colour="ink", swatch="line")] if "alone" in kinds else []
    if "matched" in kinds:
        legend.append(LegendEntry(label="matched baseline", colour="ink", swatch="line", dash="5 4"))
    legend += [
        LegendEntry(
            label=f"with rows of {name} (stronger colour: larger dose)", colour=colours.name(name), swatch="line"
        )
        for name in colours.names
    ]
    return Figure(
        panels=panels, legend=tuple(legend), left_out=(*left_out, *_panels_left_out(len(sizes), "target size"))
    )


_Series = list[tuple[TrainingCurve, list[tuple[float, float]]]]


def _first_arms(series: _Series) -> tuple[_Series, tuple[str, ...]]:
    """The first `MOST_TRAINING_ARMS` arms of every target size, and words on how many are not drawn."""
    arms: dict[int, dict[str, None]] = {}
    for curve, _ in series:
        arms.setdefault(curve.target_rows, {})[curve.arm] = None
    shown = {size: set(list(names)[:MOST_TRAINING_ARMS]) for size, names in arms.items()}
    left = sum(len(names) - len(shown[size]) for size, names in arms.items())
    words = (f"{plural(left, 'further arm')} not drawn, to keep the lines apart.",) if left else ()
    return [(curve, points) for curve, points in series if curve.arm in shown[curve.target_rows]], words


def _training_panel(
    series: _Series,
    part: Literal["loss", "target"],
    colours: Colours,
    doses: Sequence[tuple[str, int]],
    ends: tuple[float, float],
) -> Panel:
    import altair

    title = "loss of the step" if part == "loss" else "the target's part of it"
    x = altair.X("x:Q", title="optimiser step", scale=altair.Scale(domain=[0, ends[0]], nice=False))
    y = altair.Y("y:Q", title=title, scale=altair.Scale(domain=[0, ends[1] or 1.0], nice=False))
    thin: list[Line] = []
    thick: list[Line] = []
    tips: list[str] = []
    few = len(series) <= MOST_TRAINING_RUNS
    for arm in dict.fromkeys(curve.arm for curve, _ in series):
        mine = [(curve, points) for curve, points in series if curve.arm == arm]
        curve = mine[0][0]
        ladder = [dose for source, dose in doses if source == curve.source]
        colour = colours.css(curve.source) if curve.source is not None else "var(--ink)"
        opacity = 0.4 + 0.6 * (ladder.index(curve.dose) + 1) / len(ladder) if ladder else 1.0
        dashed = curve.kind == "matched"
        tips.append(f"{_arm_words(curve.kind, curve.source, curve.dose)}, mean of {plural(len(mine), 'seed')}")
        mean = _mean_line([points for _, points in mine])
        thick.append(Line(points=mean, colour=colour, opacity=opacity, dashed=dashed, tip=len(tips) - 1))
        if few and len(mine) > 1:
            thin += [Line(points=points, colour=colour, opacity=0.28, dashed=dashed) for _, points in mine]
    layers = [*many_lines(thin, x, y, width=0.8), *many_lines(thick, x, y, width=2.0)]
    size = series[0][0].target_rows
    heading = plural(size, "target row") if size else "no target rows (generalist alone)"
    return drawn_panel(layers, heading=heading, alt=f"{title.capitalize()} by step, {heading}.", tips=tips)


# ---------------------------------------------------------------------------------------------------------------- lines


def _across(point: CurvePoint, doses: Sequence[int], x: Any, y: Any, tips: list[str]) -> list[Any]:
    """The matched baseline: a dashed line with its band over the whole width."""
    import altair

    if not known(point.mean):
        return []
    layers: list[Any] = []
    if known(point.low) and known(point.high):
        ends = [{"x": dose, "l": point.low, "h": point.high} for dose in (0, max(doses))]
        band = altair.Chart(data_of(ends)).mark_area(color="var(--ink)", opacity=0.07, aria=False)
        layers.append(band.encode(x=x, y=same_axis("l:Q", y), y2="h:Q"))
    tips.append(f"matched baseline, {plural(point.seeds, 'seed')}: {_with_interval(point)}")
    data = data_of([{"x": dose, "y": point.mean, "tip": f"tip-{len(tips) - 1}"} for dose in (0, max(doses))])
    line = altair.Chart(data).mark_line(color="var(--ink)", strokeDash=[5, 4], strokeWidth=1.6)
    return [*layers, line.encode(x=x, y=y, description="tip:N")]


def _bases(points: Sequence[CurvePoint], x: Any, y: Any) -> list[Any]:
    """Short bars where a band is laid on its baseline at fewer seeds than the baseline's own line has."""
    import altair

    bases = [{"x": point.dose, "y": point.base} for point in points if known(point.base)]
    if not bases:
        return []
    bars = altair.Chart(data_of(bases)).mark_tick(
        orient="horizontal", size=14, thickness=2, color="var(--ink)", opacity=1, aria=False
    )
    return [bars.encode(x=x, y=y)]


def _binned(points: Sequence[TrainingPoint], part: Literal["loss", "target"]) -> list[tuple[float, float]]:
    """At most `TRAINING_BINS` means of neighbouring steps: single steps are too noisy to be read."""
    values = [
        (point.step, value)
        for point in points
        if (value := point.loss if part == "loss" else point.target_loss) is not None and math.isfinite(value)
    ]
    width = max(1, math.ceil(len(values) / TRAINING_BINS))
    bins = [values[start : start + width] for start in range(0, len(values), width)]
    return [(sum(s for s, _ in b) / len(b), round(sum(v for _, v in b) / len(b), 5)) for b in bins]


def _mean_line(lines: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """The mean of lines over the same steps; lines that stop early (failed runs) drop out where they stop."""
    heights: dict[float, list[float]] = {}
    for line in lines:
        for place, value in line:
            heights.setdefault(place, []).append(value)
    return [(place, sum(values) / len(values)) for place, values in sorted(heights.items())]


def _values(point: CurvePoint) -> list[float | None]:
    return [point.mean, point.low, point.high, point.base, *(seed.value for seed in point.by_seed)]


def _retained(row: RetentionRow, measure: Literal["kept", "learned"]) -> float | None:
    return row.kept if measure == "kept" else row.learned


# ---------------------------------------------------------------------------------------------------------------- words


def _with_interval(point: Any) -> str:
    text = score(point.mean)
    if known(point.low) and known(point.high):
        text += f" ({score(point.low)} to {score(point.high)})"
    return text


def _size_tip(label: str, point: SizePoint) -> str:
    return f"{shortened(label, limit=60)}, {plural(point.target_rows, 'target row')}: {_with_interval(point)}"


def _dose_tip(source: str, point: CurvePoint) -> str:
    name = f"{count(point.dose)} rows of {shortened(source, limit=60)}" if point.dose else "no dose"
    return f"{name}, {plural(point.seeds, 'seed')}: {_with_interval(point)}"


def _dose_alt(curves: Sequence[DoseCurve], heading: str) -> str:
    parts = [_dose_tip(c.source, p) for c in curves for p in c.points if known(p.mean) and p.kind != "matched"][:24]
    return f"Score by dose, {heading}: " + "; ".join(parts) + "."


def _retention_tip(row: RetentionRow, measure: Literal["kept", "learned"]) -> str:
    value, gain = _retained(row, measure) or 0.0, row.target_gain or 0.0
    return f"{_arm_words(row.kind, row.source, row.dose)}: gain {signed(gain)}, {measure} {score(value)}"


def _arm_words(kind: ArmKind, source: str | None, dose: int) -> str:
    if kind == "alone":
        return "plain baseline"
    if kind == "matched":
        return "matched baseline"
    if kind == "untuned":
        return "untuned model"
    rows = f"{count(dose)} rows of {shortened(source or 'a pool', limit=60)}"
    return f"{rows} alone" if kind == "generalist_alone" else rows


def _panels_left_out(sizes: int, noun: str) -> tuple[str, ...]:
    left = sizes - MOST_PANELS
    return (f"{plural(left, noun)} not drawn (the smallest); the table holds them.",) if left > 0 else ()
