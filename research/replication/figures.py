"""The three figures of the findings as SVG: score by target rows, gain by skill, and the falsehood dose-response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from replication.claims import COVERAGE, DOSED, MARGIN, NEAR, SIZES, SKILLS, Runs, skill_gain
from replication.extended import BLOCKS, FAR_SHARES, FIVE, TEN, pool
from replication.kept import KeptRun

_WIDTH, _HEIGHT = 280, 200
_COLOURS = ["#1b6ca8", "#d1495b", "#3a7d44"]


def figures(core: Sequence[KeptRun], extended: Sequence[KeptRun] = ()) -> dict[str, str]:
    """SVG by name; a figure without a point is left out. Falsehoods are drawn with the arms and seeds that the extended
    size adds, once they are all there: points of other seeds would stand on other levels."""
    known = Runs(core)
    block = next(block for block in BLOCKS if block.name == "falsehood")
    grown = Runs(pool(block, core, extended))
    whole = all(grown.run("facts", arm, seed) for arm in FAR_SHARES.values() for seed in TEN)
    falsehood = _by_falsehood(grown, TEN) if whole else _by_falsehood(known, FIVE)
    drawn = {"size": _by_size(known), "skill": _by_skill(known), "falsehood": falsehood}
    return {name: svg for name, svg in drawn.items() if svg is not None}


def _by_size(runs: Runs) -> str | None:
    points = [
        {"panel": target, "x": size, "arm": words, "y": mean}
        for target in COVERAGE
        for size in SIZES
        for arm, words in (
            (f"{size}", "no dose"),
            (f"{size}-matched", "no dose, as many steps"),
            (f"{size}{DOSED}", "dose 384"),
        )
        if (mean := runs.mean(target, arm)) is not None
    ]
    if not points:
        return None
    import altair

    base = altair.Chart(altair.Data(values=points)).encode(
        x=altair.X("x:O", title="target rows", axis=altair.Axis(labelAngle=0)),
        y=altair.Y("y:Q", title="graded score", scale=altair.Scale(zero=False)),
        color=altair.Color("arm:N", title=None, scale=altair.Scale(range=_COLOURS)),
        shape=altair.Shape("arm:N", title=None),
    )
    chart = altair.layer(base.mark_line(), base.mark_point(filled=True, size=60))
    return _svg(chart.properties(width=_WIDTH, height=_HEIGHT).facet(altair.Column("panel:N", title=None)))


def _by_skill(runs: Runs) -> str | None:
    points: list[dict[str, Any]] = []
    for skill, targets in SKILLS.items():
        for target in targets:
            effect = skill_gain(runs, (target,))
            if effect is not None:
                points.append({"skill": skill, "x": target, "y": effect.value, "low": effect.low, "high": effect.high})
    if not points:
        return None
    return _with_intervals(points, x="x", title="target", y="gain of dose 384", by="skill", across=0.0)


def _by_falsehood(runs: Runs, seeds: Sequence[int]) -> str | None:
    points: list[dict[str, Any]] = []
    for name, arms in (("other relations (far)", FAR_SHARES), ("the test's relations (near)", NEAR)):
        for share, arm in sorted(arms.items()):
            effect = runs.effect({"facts": {arm: 1.0}}, metric=MARGIN, seeds=seeds)
            if effect is not None:
                point = {"facts": name, "x": f"{share}%", "y": effect.value, "low": effect.low, "high": effect.high}
                points.append(point)
    if not points:
        return None
    alone = runs.mean("facts", "128", metric=MARGIN, seeds=seeds)
    title = "false facts in the dose"
    return _with_intervals(points, x="x", title=title, y="margin, nats", by="facts", across=alone)


def _with_intervals(points: list[dict[str, Any]], *, x: str, title: str, y: str, by: str, across: float | None) -> str:
    import altair

    place = altair.X(f"{x}:N", title=title, sort=None, axis=altair.Axis(labelAngle=0))
    colour = altair.Color(f"{by}:N", title=None, scale=altair.Scale(range=_COLOURS))
    beside = {"xOffset": altair.XOffset(f"{by}:N")} if len({point[x] for point in points}) < len(points) else {}
    base = altair.Chart(altair.Data(values=points))
    layers = [
        base.mark_rule(strokeWidth=2).encode(
            x=place,
            color=colour,
            y=altair.Y("low:Q", title=y, scale=altair.Scale(zero=False)),
            y2="high:Q",
            **beside,
        ),
        base.mark_point(filled=True, size=70).encode(x=place, color=colour, y="y:Q", **beside),
    ]
    if across is not None:
        line = altair.Chart(altair.Data(values=[{"y": across}]))
        layers.append(line.mark_rule(strokeDash=[4, 4], color="#666").encode(y="y:Q"))
    return _svg(altair.layer(*layers).properties(width=2 * _WIDTH, height=_HEIGHT))


def _svg(chart: Any) -> str:
    import vl_convert

    return str(vl_convert.vegalite_to_svg(chart.to_dict(validate=False)))
