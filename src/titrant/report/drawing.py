"""What figures are drawn with: panels, lines with bands, points, scales, and the SVG that comes of them.

Altair makes the specifications and vl-convert draws them, without a browser. Colours are CSS variables of the page.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from titrant.report.wording import known, shortened, visible

PANEL_WIDTH, PANEL_HEIGHT = 316, 214  # inside the axes; with them about 370 units wide
SOURCE_COLOURS = 6  # --s0 … --s5 in the style sheet
_SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
_SVG = "http://www.w3.org/2000/svg"
_ELEMENTS = {"svg", "g", "path", "rect", "line", "text"}
_DROPPED_ATTRIBUTES = {"style", "class", "role", "font-family", "pointer-events", "aria-label", "aria-roledescription"}

Swatch = Literal["point", "mark", "line", "band"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LegendEntry:
    """A sign of the figure in words: `point` on a line, `mark` alone, `line`, or `band`.

    `colour` is a class of the style sheet, `shape` one of the six of the sources, `dash` the line's dash pattern.
    """

    label: str
    colour: str
    swatch: Swatch
    shape: str = "circle"
    dash: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One drawing: `svg` is trusted markup of our own making, `alt` says what is to be seen."""

    heading: str
    svg: str
    alt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Panels that share their scales and a legend. `left_out` says what is not drawn, and why."""

    panels: tuple[Panel, ...]
    legend: tuple[LegendEntry, ...]
    left_out: tuple[str, ...] = ()


def drawn_panel(layers: Sequence[Any], *, heading: str, alt: str, tips: Sequence[str]) -> Panel:
    """Draw the layers on top of each other. `tips[i]` is the tooltip of the mark with the code `tip-i`."""
    import altair
    import vl_convert

    chart = altair.layer(*layers).properties(width=PANEL_WIDTH, height=PANEL_HEIGHT).configure(**_CONFIG)
    drawn = vl_convert.vegalite_to_svg(chart.to_dict(validate=False))  # its parts were checked when they were made
    return Panel(heading=heading, svg=_cleaned(drawn, alt=alt, tips=tips), alt=alt)


# --------------------------------------------------------------------------------------------------------------- layers


class Colours:
    """Colours and shapes of the sources, by name; beyond six they repeat, and the tables tell them apart."""

    def __init__(self, sources: Iterable[str]) -> None:
        self.names = tuple(sorted(set(sources)))

    def _place(self, source: str) -> int:
        return self.names.index(source) % SOURCE_COLOURS

    def name(self, source: str) -> str:
        return f"s{self._place(source)}"

    def css(self, source: str) -> str:
        return f"var(--s{self._place(source)})"

    def shape(self, source: str) -> str:
        return _SHAPES[self._place(source)]

    def entry(self, source: str, *, label: str, swatch: Swatch = "point") -> LegendEntry:
        return LegendEntry(label=label, colour=self.name(source), swatch=swatch, shape=self.shape(source))


def banded_line(
    points: Sequence[tuple[int, Any]],
    x: Any,
    y: Any,
    *,
    colour: str,
    shape: str,
    tips: list[str],
    tip: Callable[[Any], str],
    dash: Sequence[int] = (1, 0),
) -> list[Any]:
    """Band, line, dots of the seeds and points with tooltips. Points have mean, low, high and perhaps by_seed."""
    import altair

    if not points:
        return []
    records = []
    for place, point in points:
        tips.append(tip(point))
        records.append({"x": place, "y": point.mean, "tip": f"tip-{len(tips) - 1}"})
    bounds = [{"x": at, "l": p.low, "h": p.high} for at, p in points if known(p.low) and known(p.high)]
    seeds = [{"x": at, "y": s.value} for at, p in points for s in getattr(p, "by_seed", ()) if known(s.value)]
    layers: list[Any] = []
    if bounds:
        band = altair.Chart(data_of(bounds))
        layers.append(
            band.mark_area(color=colour, opacity=0.14, aria=False).encode(x=x, y=same_axis("l:Q", y), y2="h:Q")
        )
        layers.append(
            band.mark_rule(color=colour, opacity=0.5, aria=False).encode(x=x, y=same_axis("l:Q", y), y2="h:Q")
        )
    line = altair.Chart(data_of(records))
    layers.append(line.mark_line(color=colour, strokeWidth=2, strokeDash=list(dash), aria=False).encode(x=x, y=y))
    if seeds:
        dots = altair.Chart(data_of(seeds)).mark_point(filled=True, size=12, color=colour, opacity=0.45, aria=False)
        layers.append(dots.encode(x=x, y=y))
    layers.append(dot(line, colour, shape).encode(x=x, y=y, description="tip:N"))
    return layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of many: its points, looks, and the code of its tooltip (None: it has none)."""

    points: Sequence[tuple[float, float]]
    colour: str
    opacity: float
    dashed: bool
    tip: int | None = None


def many_lines(lines: Sequence[Line], x: Any, y: Any, *, width: float) -> list[Any]:
    """All lines in at most two layers, the solid and the dashed ones: a layer a line would take seconds a panel."""
    import altair

    layers = []
    for dashed in (False, True):
        records = [
            {"x": place, "y": value, "line": number, "c": line.colour, "o": line.opacity, "tip": _code(line.tip)}
            for number, line in enumerate(lines)
            if line.dashed == dashed
            for place, value in line.points
        ]
        if not records:
            continue
        told = any(line.tip is not None for line in lines)
        chart = altair.Chart(data_of(records)).mark_line(strokeWidth=width, strokeDash=_dash(dashed), aria=told)
        chart = chart.encode(
            x=x,
            y=y,
            detail="line:N",
            color=altair.Color("c:N", scale=None),
            opacity=altair.Opacity("o:Q", scale=None),
        )
        layers.append(chart.encode(description="tip:N") if told else chart)
    return layers


def _code(tip: int | None) -> str:
    return "" if tip is None else f"tip-{tip}"


def _dash(dashed: bool) -> list[int]:
    return [5, 4] if dashed else [1, 0]


def dot(chart: Any, colour: str, shape: str) -> Any:
    return chart.mark_point(
        filled=True, size=58, color=colour, shape=shape, opacity=1, stroke="var(--card)", strokeWidth=1
    )


def rule(chart: Any, colour: str, *, dash: Sequence[int] = (1, 0)) -> Any:
    return chart.mark_rule(color=colour, strokeDash=list(dash), strokeWidth=1.5, aria=False)


def nothing(x: Any, y: Any) -> Any:
    """Axes without marks: every run of this panel failed."""
    import altair

    return altair.Chart(data_of([{"x": 0, "y": None}])).mark_point(aria=False).encode(x=x, y=y)


def data_of(values: list[Any]) -> Any:
    import altair

    return altair.Data(values=values)


def same_axis(field: str, like: Any) -> Any:
    """The vertical axis `like`, for another field."""
    import altair

    return altair.Y(field, title=like["title"], scale=like["scale"])


# --------------------------------------------------------------------------------------------------------------- scales


def score_domain(values: Iterable[float | None]) -> tuple[float, float]:
    """The ends of an axis of scores: what is there with a margin, never outside 0 to 1, never narrower than 0.1."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    low, high = min(finite), max(finite)
    margin = max(0.06 * (high - low), (0.1 - (high - low)) / 2, 0.01)
    return max(0.0, low - margin), min(1.0, high + margin)


def _spreads(counts: Sequence[int]) -> bool:
    """Whether counts span so much that a straight axis would press the small ones together."""
    positive = [value for value in counts if value > 0]
    return bool(positive) and max(positive) > 12 * min(positive)


def count_scale(counts: Sequence[int]) -> Any:
    import altair

    ends = [0 if 0 in counts else min(counts), max(max(counts), 1)]
    if not _spreads(counts):
        return altair.Scale(domain=ends, nice=False, zero=False, padding=10)
    if 0 not in counts:
        return altair.Scale(type="log", domain=ends, nice=False, padding=10)
    smallest = min(value for value in counts if value > 0)
    return altair.Scale(type="symlog", constant=smallest / 2, domain=ends, nice=False, padding=10)


def count_axis(counts: Sequence[int]) -> Any:
    import altair

    return altair.Axis(values=list(counts), format=",d", grid=False, labelOverlap="greedy", labelSeparation=4)


# ------------------------------------------------------------------------------------------------------------------ svg

_CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "gridColor": "var(--grid)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "tickSize": 4,
        "tickCount": 5,
        "domain": False,
    },
    "axisX": {"domain": True, "grid": False},
    "text": {"fontSize": 11},
}


def _cleaned(drawn: str, *, alt: str, tips: Sequence[str]) -> str:
    """The drawing with an accessible name and tooltips, and without anything that was not expected.

    Ids would be shared by all drawings of the page, and styles are forbidden by its policy: there are neither.
    """
    ElementTree.register_namespace("", _SVG)
    root = ElementTree.fromstring(drawn)
    for element in list(root.iter()):
        name = element.tag.removeprefix(f"{{{_SVG}}}")
        assert name in _ELEMENTS, f"the drawing holds an unexpected <{name}>"
        code = element.attrib.get("aria-label", "")
        for attribute in list(element.attrib):
            if attribute in _DROPPED_ATTRIBUTES:
                del element.attrib[attribute]
        assert "id" not in element.attrib, "a drawing with ids cannot share a page with others"
        if code.startswith("tip-"):
            title = ElementTree.Element(f"{{{_SVG}}}title")
            title.text = visible(tips[int(code.removeprefix("tip-"))])
            element.insert(0, title)
    for size in ("width", "height"):
        root.attrib.pop(size, None)  # the view box gives the shape, the page the size
    root.set("role", "img")
    root.set("aria-label", shortened(alt, limit=1500))
    return ElementTree.tostring(root, encoding="unicode")
