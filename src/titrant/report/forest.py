"""The forest beside the verdict: every dose against every baseline on one scale, with the zone that does not matter.

It is text and lines that the template draws, with places in per cent: so it follows the width of the page, its
numbers can be read aloud, and what a study calls its sources is escaped like any other text.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from titrant.core.records import Contrast, Verdict
from titrant.report.data import CurvePoint, DoseCurve, SizeCurve, SizePoint
from titrant.report.wording import count, known, shortened, signed

MOST_LINES = 24
_NAME_LIMIT = 60

IntervalShows = Literal[
    "above", "slightly_above", "below", "slightly_below", "inside", "ruled_out", "other", "open", "unread"
]
INTERVAL_WORDS: dict[IntervalShows, str] = {
    "above": "better",
    "slightly_above": "better, by less than matters",
    "below": "worse",
    "slightly_below": "worse, by less than matters",
    "inside": "no difference that matters",
    "ruled_out": "no gain that matters",
    "other": "open, and the other baseline rules the dose out",
    "open": "open",
    "unread": "no interval",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestLine:
    """One contrast. Places are per cent of the width; None where there is no interval. `low` to `high` holds for all
    doses at once, `low_90` to `high_90` for this contrast alone, and `high_95` ends its one-sided 97.5% bound."""

    name: str
    numbers: str
    standing: IntervalShows
    chosen: bool
    low: float | None = None
    value: float | None = None
    high: float | None = None
    low_90: float | None = None
    high_90: float | None = None
    high_95: float | None = None

    @property
    def words(self) -> str:
        return INTERVAL_WORDS[self.standing]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestGroup:
    """The contrasts with one baseline."""

    heading: str
    lines: tuple[ForestLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    place: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """Groups on one scale: zero, the zone, and ticks are places in per cent."""

    groups: tuple[ForestGroup, ...]
    zero: float
    zone_low: float
    zone_high: float
    ticks: tuple[Tick, ...]
    left_out: int = 0

    @property
    def has_single_bounds(self) -> bool:
        """Whether any line has the bounds of one contrast alone."""
        return any(known(line.high_90) for group in self.groups for line in group.lines)


def forest_of(verdict: Verdict) -> Forest | None:
    """The verdict's contrasts on the target; None where none has an estimate."""
    contrasts = [c for c in verdict.contrasts if c.eval_set == "target" and c.baseline]
    if not any(known(contrast.difference.value) for contrast in contrasts):
        return None
    shown = contrasts[:MOST_LINES]
    scale = _scale(shown, verdict.smallest_effect)
    ruled_out = _ruled_out(contrasts, verdict.smallest_effect)
    order = {verdict.matched: 0, verdict.baseline: 1}
    baselines = sorted({c.baseline for c in shown}, key=lambda name: (order.get(name, 2), name))
    groups = tuple(
        ForestGroup(
            heading=_heading(name, verdict),
            lines=tuple(_line(c, verdict, scale, ruled_out) for c in shown if c.baseline == name),
        )
        for name in baselines
    )
    return Forest(
        groups=groups,
        zero=_place(0.0, scale),
        zone_low=_place(-verdict.smallest_effect, scale),
        zone_high=_place(verdict.smallest_effect, scale),
        ticks=_ticks(scale),
        left_out=len(contrasts) - len(shown),
    )


def bounds_of(contrast: Contrast) -> tuple[float, float] | None:
    """Its interval; None where it has none, or one that says nothing: a staged study writes −1 to 1 of a contrast that
    no look has read."""
    low, high = contrast.difference.low, contrast.difference.high
    if not known(low) or not known(high) or (low <= -1.0 and high >= 1.0):
        return None
    return low, high


def single_bounds_of(contrast: Contrast) -> tuple[float, float] | None:
    """Its 90% interval alone, by which *no difference* is decided; None where no look has read it."""
    low, high = contrast.low_90, contrast.high_90
    if not known(low) or not known(high) or (low <= -1.0 and high >= 1.0):
        return None
    return low, high


def _heading(baseline: str, verdict: Verdict) -> str:
    if baseline == verdict.matched:
        return "against training alone with as many steps"
    if baseline == verdict.baseline and verdict.target_rows is not None:
        return "against training alone"
    return f"against {shortened(baseline, limit=_NAME_LIMIT)}"


def _line(contrast: Contrast, verdict: Verdict, scale: tuple[float, float], ruled_out: Collection[str]) -> ForestLine:
    value, bounds = contrast.difference.value, bounds_of(contrast)
    name = shortened(contrast.arm, limit=_NAME_LIMIT)
    if contrast.dose is not None:
        source = f" of {shortened(contrast.source, limit=_NAME_LIMIT)}" if contrast.source else ""
        name = f"{count(contrast.dose)} {'row' if contrast.dose == 1 else 'rows'}{source}"
    chosen = verdict.arm is not None and contrast.arm == verdict.arm
    if bounds is None or not known(value):
        numbers = "not known" if not known(value) else f"{signed(value)} (no interval)"
        place = None if not known(value) else _place(value, scale)
        return ForestLine(name=name, numbers=numbers, standing="unread", chosen=chosen, value=place)
    low, high = bounds
    single = single_bounds_of(contrast)
    strict = contrast.high_95 if single is not None else None
    return ForestLine(
        name=name,
        numbers=f"{signed(value)} ({signed(low)} to {signed(high)})",
        standing=_standing(contrast, bounds, verdict.smallest_effect, ruled_out=contrast.arm in ruled_out),
        chosen=chosen,
        low=_place(low, scale),
        value=_place(value, scale),
        high=_place(high, scale),
        low_90=None if single is None else _place(single[0], scale),
        high_90=None if single is None else _place(single[1], scale),
        high_95=_place(strict, scale) if known(strict) else None,
    )


def _standing(
    contrast: Contrast, together: tuple[float, float], smallest_effect: float, *, ruled_out: bool
) -> IntervalShows:
    """What a line shows, by the bounds that the rule reads: better or worse for all doses at once, the zone and what
    is ruled out by the contrast alone."""
    low, high = single_bounds_of(contrast) or together
    inside = -smallest_effect < low and high < smallest_effect
    if together[0] > 0:
        return "slightly_above" if inside else "above"
    if together[1] < 0:
        return "slightly_below" if inside else "below"
    if inside or not ruled_out:
        return "inside" if inside else "open"
    under = _under(contrast.high_90, smallest_effect) or _under(contrast.high_95, smallest_effect)
    return "ruled_out" if under else "other"


def _ruled_out(contrasts: Sequence[Contrast], smallest_effect: float) -> set[str]:
    """Arms that the rule rules out: worth less than matters by both baselines at 95%, or by one of them at 97.5%."""
    arms: dict[str, list[Contrast]] = {}
    for contrast in contrasts:
        arms.setdefault(contrast.arm, []).append(contrast)
    return {
        arm
        for arm, sides in arms.items()
        if all(_under(side.high_90, smallest_effect) for side in sides)
        or any(_under(side.high_95, smallest_effect) for side in sides)
    }


def _under(bound: float | None, smallest_effect: float) -> bool:
    return known(bound) and bound < smallest_effect


def _scale(contrasts: Sequence[Contrast], smallest_effect: float) -> tuple[float, float]:
    """All bounds and estimates, and the zone with a margin."""
    ends = [-1.4 * smallest_effect, 1.4 * smallest_effect]
    ends += [bound for contrast in contrasts for bound in bounds_of(contrast) or ()]
    ends += [bound for contrast in contrasts for bound in single_bounds_of(contrast) or ()]
    ends += [c.difference.value for c in contrasts if known(c.difference.value)]
    margin = 0.04 * (max(ends) - min(ends)) or 0.01
    return min(ends) - margin, max(ends) + margin


def _place(value: float, scale: tuple[float, float]) -> float:
    return round(100 * (value - scale[0]) / (scale[1] - scale[0]), 2)


def _ticks(scale: tuple[float, float]) -> tuple[Tick, ...]:
    """Three to seven round values, zero among them, none so near an end that its label would be cut."""
    width = scale[1] - scale[0]
    power = 10.0 ** math.floor(math.log10(width / 4))
    step = next(power * factor for factor in (1, 2, 5, 10) if width / (power * factor) <= 7)
    values = (step * n for n in range(math.ceil(scale[0] / step), math.floor(scale[1] / step) + 1))
    places = [(value, _place(value, scale)) for value in values]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return tuple(Tick(place=p, label=_tick_label(v, digits)) for v, p in places if 4 <= p <= 96)


def _tick_label(value: float, digits: int) -> str:
    text = f"{value:+.{digits}f}" if abs(value) > 1e-12 else "0"
    return text.replace("-", "−")


def contrasts_by_arm(verdicts: Iterable[Verdict]) -> dict[str, Contrast]:
    """Of every dosed arm its contrast with the fair baseline: the matched one where there is one."""
    found: dict[str, Contrast] = {}
    for verdict in verdicts:
        for contrast in verdict.contrasts:
            fair = contrast.baseline == (verdict.matched or verdict.baseline)
            if contrast.eval_set == "target" and fair:
                found.setdefault(contrast.arm, contrast)
    return found


def banded_by_contrasts(curves: Sequence[DoseCurve], contrasts: Mapping[str, Contrast]) -> tuple[DoseCurve, ...]:
    """The curves with bands of differences in the place of bands of single arms.

    A single arm's interval says how its score would vary, not whether it differs from the baseline, which shares its
    items and seeds: overlapping bands of arms hide firm differences. So a dose has its contrast's interval, laid on the
    baseline that it was set against, and a baseline has none. Dose and baseline are both taken at the seeds that both
    have, as the contrast takes them: in a staged study arms have run at different seeds.
    """
    return tuple(
        replace(curve, points=tuple(_banded(point, curve, contrasts) for point in curve.points)) for curve in curves
    )


def _banded(point: CurvePoint, curve: DoseCurve, contrasts: Mapping[str, Contrast]) -> CurvePoint:
    contrast = contrasts.get(point.arm)
    bounds = None if contrast is None else bounds_of(contrast)
    against = None if contrast is None else next((p for p in curve.points if p.arm == contrast.baseline), None)
    if bounds is None or against is None:
        return replace(point, low=None, high=None)
    mine, base = _at_shared_seeds(point, against), _at_shared_seeds(against, point)
    if not known(base.mean):
        return replace(point, low=None, high=None)
    return replace(
        mine,
        low=base.mean + bounds[0],
        high=base.mean + bounds[1],
        base=None if base is against else base.mean,
    )


def _at_shared_seeds(point: CurvePoint, other: CurvePoint) -> CurvePoint:
    """The point over the seeds that the other one has too; itself where that is all of its seeds, or none are named."""
    theirs = {one.seed for one in other.by_seed}
    shared = tuple(one for one in point.by_seed if one.seed in theirs)
    if not shared or len(shared) == len(point.by_seed):
        return point
    return replace(point, mean=math.fsum(one.value for one in shared) / len(shared), by_seed=shared, seeds=len(shared))


def sizes_by_contrasts(curves: Sequence[SizeCurve], banded: Sequence[DoseCurve]) -> tuple[SizeCurve, ...]:
    """Curves over target sizes with the same points and bands as the dose curves: no intervals of single arms."""
    points = {point.arm: point for curve in banded for point in curve.points}
    return tuple(
        replace(curve, points=tuple(_sized(point, points.get(point.arm)) for point in curve.points)) for curve in curves
    )


def _sized(point: SizePoint, banded: CurvePoint | None) -> SizePoint:
    if banded is None:
        return replace(point, low=None, high=None)
    return replace(point, mean=banded.mean, low=banded.low, high=banded.high, seeds=banded.seeds)
