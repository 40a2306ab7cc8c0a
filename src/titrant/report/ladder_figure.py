"""The looks of a staged study: for every dose its intervals against the seeds, narrowing until a claim is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from titrant.report.cells import Cell, Column, Table
from titrant.report.data import LookInterval, Stages
from titrant.report.drawing import Figure, LegendEntry, Panel, data_of, dot, drawn_panel, nothing, rule
from titrant.report.wording import count, known, plural, shortened, signed

MOST_PANELS = 12
_LOOKS = {"matched": ("var(--s0)", "square", 0.16), "plain": ("var(--muted)", "circle", -0.16)}


def ladder_figure(stages: Stages, *, smallest_effect: float) -> Figure | None:
    """A panel a dose, an interval a look and baseline, over the zone that does not matter; None before the first look
    with an interval."""
    read = [line for look in stages.looks for line in look.intervals if known(line.low) and known(line.high)]
    if not read:
        return None
    ends = [bound for line in read for bound in (line.low, line.high) if bound is not None]
    ends += [-1.3 * smallest_effect, 1.3 * smallest_effect]
    margin = 0.05 * (max(ends) - min(ends))
    domain = (min(ends) - margin, max(ends) + margin)
    doses = list(dict.fromkeys(line.arm for line in sorted(read, key=lambda line: line.dose or 0)))
    panels = tuple(_panel(stages, arm, domain, smallest_effect) for arm in doses[:MOST_PANELS])
    roles = {line.baseline for line in read}
    legend = []
    if "matched" in roles:
        legend.append(
            LegendEntry(label="against training alone with as many steps", colour="s0", swatch="mark", shape="square")
        )
    if "plain" in roles:
        legend.append(LegendEntry(label="against training alone", colour="muted", swatch="mark"))
    legend.append(LegendEntry(label="shaded: differences that do not matter", colour="muted", swatch="band"))
    left = len(doses) - MOST_PANELS
    return Figure(
        panels=panels,
        legend=tuple(legend),
        left_out=(f"{plural(left, 'dose')} not drawn; the table holds them.",) if left > 0 else (),
    )


def look_table(stages: Stages) -> Table:
    """Every look: what was spent by then, and each contrast as the look left it."""
    rows = []
    for look in stages.looks:
        for line in look.intervals:
            if not (known(line.value) and known(line.low) and known(line.high)):
                continue  # no look has read this contrast: the list of arms set aside tells why
            numbers = [Cell(text=count(number), numeric=True) for number in (look.look, look.seeds, look.runs)]
            words = [Cell(text=_heading(line)), Cell(text=f"{line.baseline} baseline")]
            bounds = f"{signed(line.low)} to {signed(line.high)}"
            rows.append((*numbers, *words, *(Cell(text=t, numeric=True) for t in (signed(line.value), bounds))))
    titles = (("look", True), ("seeds", True), ("runs by then", True), ("dose", False), ("against", False))
    columns = tuple(Column(title=title, numeric=numeric) for title, numeric in titles)
    columns += (Column(title="difference", numeric=True), Column(title="interval", numeric=True))
    return Table(caption="The numbers of this figure", columns=columns, rows=tuple(rows))


def _panel(stages: Stages, arm: str, domain: tuple[float, float], smallest_effect: float) -> Panel:
    import altair

    seeds = [look.seeds for look in stages.looks]
    ladder = [n for n in stages.ladder if n <= max(max(seeds), stages.ladder[min(3, len(stages.ladder) - 1)])]
    across = altair.Scale(domain=[min(ladder) - 0.6, max(ladder) + 0.6], nice=False, zero=False)
    axis = altair.Axis(values=ladder, format="d", grid=False, labelOverlap="greedy")
    x = altair.X("x:Q", title="seeds at each look", scale=across, axis=axis)
    y = altair.Y("y:Q", title="difference", scale=altair.Scale(domain=list(domain), nice=False, zero=False))
    layers: list[Any] = [_zone(x, domain, smallest_effect, (min(ladder) - 0.6, max(ladder) + 0.6))]
    layers.append(rule(altair.Chart(data_of([{"y": 0}])), "var(--line)").encode(y=y))
    tips: list[str] = []
    told = [line for look in stages.looks for line in look.intervals if line.arm == arm]
    for baseline in ("plain", "matched"):
        layers += _series(stages, arm, baseline, x, y, tips)
    heading = _heading(told[0])
    alt = f"Intervals of {heading} at each look: " + "; ".join(tips) + "."
    return drawn_panel(layers or [nothing(x, y)], heading=heading, alt=alt, tips=tips)


def _zone(x: Any, domain: tuple[float, float], smallest_effect: float, across: tuple[float, float]) -> Any:
    import altair

    data = data_of([{"x": across[0], "x2": across[1], "l": -smallest_effect, "h": smallest_effect}])
    scale = altair.Scale(domain=list(domain), nice=False, zero=False)
    zone = altair.Chart(data).mark_rect(color="var(--zone)", opacity=1, aria=False)
    return zone.encode(x=x, x2="x2:Q", y=altair.Y("l:Q", title="difference", scale=scale), y2="h:Q")


def _series(stages: Stages, arm: str, baseline: str, x: Any, y: Any, tips: list[str]) -> list[Any]:
    """The intervals against one baseline, beside those against the other."""
    import altair

    colour, shape, beside = _LOOKS[baseline]
    records = []
    for look in stages.looks:
        for line in _of(look.intervals, arm, baseline):
            tips.append(
                f"look {look.look}, {plural(look.seeds, 'seed')}, {_RIVAL[baseline]}: "
                f"{signed(line.value or 0.0)} ({signed(line.low or 0.0)} to {signed(line.high or 0.0)})"
            )
            place = {"x": look.seeds + beside, "y": line.value, "l": line.low, "h": line.high}
            records.append({**place, "tip": f"tip-{len(tips) - 1}"})
    if not records:
        return []
    chart = altair.Chart(data_of(records))
    bounds = altair.Y("l:Q", title=y["title"], scale=y["scale"])
    spans = chart.mark_rule(color=colour, strokeWidth=2, aria=False).encode(x=x, y=bounds, y2="h:Q")
    return [spans, dot(chart, colour, shape).encode(x=x, y=y, description="tip:N")]


_RIVAL = {"plain": "against training alone", "matched": "against as many steps alone"}


def _of(intervals: Sequence[LookInterval], arm: str, baseline: str) -> list[LookInterval]:
    mine = [line for line in intervals if line.arm == arm and line.baseline == baseline]
    return [line for line in mine if known(line.value) and known(line.low) and known(line.high)]


def _heading(line: LookInterval) -> str:
    if line.dose is None:
        return shortened(line.arm, limit=60)
    return f"{plural(line.dose, 'row')}{f' of {shortened(line.source, limit=60)}' if line.source else ''}"
