"""What every dose of a study is worth, from its scores at all target sizes: exchange rates, the size at which a dose
stops paying, whether the gain changes with the target size, and the law where it may speak.

Each reading is made twice where it can be: against the matched curve and against the plain one. None of it enters a
verdict. What the design does not hold is said as a reason, never filled in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from titrant.stats.contrasts import TaskWeights, contrast_batch, layout, moments
from titrant.stats.evidence import Family
from titrant.stats.exchange import (
    ExchangeRate,
    GainAt,
    GroupGain,
    Interaction,
    Reader,
    SizedArm,
    TurningSize,
    exchange_rate,
    reader,
    size_interaction,
    turning_size,
)
from titrant.stats.family import holm
from titrant.stats.law import Law, LawPoint, fit_law, silent_law
from titrant.stats.table import ScoreTable, TableArm, complete

Curve = Literal["matched", "plain"]
NO_SIZES = "no target sizes are known"
ONE_SIZE = "one target size: it needs arms without a dose at two target sizes or more"
NO_DOSE = "no arm with a dose stands beside an arm without one"
NO_SEED = "no seed at which all of these arms ran"
NO_ITEM = "no item that all of these arms answered"
TWO_ARMS = "two arms of one size have this source and dose, and nothing tells which belong together"


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseRate:
    """What one dosed arm is worth in target rows."""

    arm: str
    source: str | None
    rate: ExchangeRate


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseThreshold:
    """The target size at which the gain of one dose falls below the smallest effect."""

    source: str | None
    against: Curve
    size: TurningSize


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseInteraction:
    """How the gain of one dose changes with each doubling of target rows. `p_adjusted` allows for all doses that were
    looked at against this baseline (Holm)."""

    source: str | None
    dose_rows: int
    against: Curve
    change: Interaction
    p_adjusted: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LawWorth:
    """What a dose is worth in target rows, by the law."""

    dose_rows: int
    target_rows: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLaw:
    """The law of one source over target rows and doses. `worth` is empty where it may not speak."""

    source: str | None
    against: Curve
    law: Law
    worth: tuple[LawWorth, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """All readings of one table of scores. `reason` says why there are none, where there are none."""

    rates: tuple[DoseRate, ...] = ()
    thresholds: tuple[DoseThreshold, ...] = ()
    interactions: tuple[DoseInteraction, ...] = ()
    laws: tuple[SourceLaw, ...] = ()
    reason: str | None = None


def worth_of(
    table: ScoreTable,
    families: Sequence[Family],
    *,
    smallest_effect: float,
    level: float = 0.95,
    task_weights: TaskWeights = "macro",
    overlap: float = 0.0,
) -> Worth:
    """The worth of all doses of these families, one for each target size. `overlap` is the largest n/N of them."""
    sized = sorted((family for family in families if family.target_rows), key=lambda family: family.target_rows or 0)
    if not sized:
        return Worth(reason=NO_SIZES)
    grid = _Grid(
        table=table,
        families=tuple(sized),
        level=level,
        task_weights=task_weights,
        overlap=overlap,
        delta=smallest_effect,
    )
    if len(sized) < 2:
        return Worth(reason=ONE_SIZE)
    if not any(family.doses for family in sized):
        return Worth(reason=NO_DOSE)
    curves: tuple[Curve, ...] = ("matched", "plain")
    return Worth(
        rates=tuple(rate for curve in curves for rate in grid.rates(curve)),
        thresholds=tuple(found for curve in curves for found in grid.thresholds(curve)),
        interactions=tuple(found for curve in curves for found in grid.interactions(curve)),
        laws=tuple(found for curve in curves for found in grid.laws(curve)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """The reader of some arms, by their names; None with a reason where no seed or no item is common to all of them."""

    read: Reader | None
    place: dict[str, int]
    mean: dict[str, float]
    reason: str = ""


def _unread(reason: str) -> _Reading:
    return _Reading(read=None, place={}, mean={}, reason=reason)


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """The arms of all sizes. Every reading takes only the arms that it needs, so that a run that failed elsewhere costs
    it nothing."""

    table: ScoreTable
    families: tuple[Family, ...]
    level: float
    task_weights: TaskWeights
    overlap: float
    delta: float

    def baseline(self, family: Family, curve: Curve) -> str | None:
        return family.matched if curve == "matched" else family.baseline

    def arm(self, name: str) -> TableArm:
        return self.table.arms[self.table.arm_index(name)]

    def curve(self, curve: Curve) -> list[tuple[int, str]]:
        """Sizes and arms without a dose, in rising order; empty unless there are two."""
        found = [(family.target_rows or 0, self.baseline(family, curve)) for family in self.families]
        here = [(size, name) for size, name in found if name is not None]
        return here if len(here) >= 2 or curve == "plain" else []

    def doses(self) -> list[tuple[str | None, int]]:
        """Source and rows of every dose that some size has, in rising order."""
        arms = [self.arm(name) for family in self.families for name in family.doses]
        found = {(arm.source, arm.dose) for arm in arms if arm.dose}
        return sorted(((source, rows or 0) for source, rows in found), key=lambda dose: (dose[0] or "", dose[1]))

    def dosed(self, source: str | None, rows: int) -> list[tuple[Family, str]]:
        """The arms of one dose, in rising order of target rows."""
        return [
            (family, name)
            for family in self.families
            for name in family.doses
            if (self.arm(name).source, self.arm(name).dose) == (source, rows)
        ]

    def reading(self, names: Sequence[str]) -> _Reading:
        wanted = list(dict.fromkeys(names))
        cut = self.table.take([self.table.arm_index(name) for name in wanted])
        # Contrasts over sizes are paired: all of their arms at the same seeds and on the same items, or differences of
        # seeds and items would pass for gains.
        seeds = np.flatnonzero(cut.ran.all(0))
        if not len(seeds):
            return _unread(NO_SEED)
        if not cut.present_ASI[:, seeds].all((0, 1)).any():
            return _unread(NO_ITEM)
        whole = complete(cut.cut(range(len(cut.arms)), seeds, range(len(cut.items))), drop_incomplete=True).table
        place = {arm.name: index for index, arm in enumerate(whole.arms)}
        plan = layout(len(whole.items), groups=whole.groups, tasks=whole.tasks, task_weights=self.task_weights)
        found = moments(whole.values_ASI, plan)
        mean = {name: float(found.mean_BAS[index].mean()) for name, index in place.items()}
        return _Reading(read=reader(found, level=self.level, overlap=self.overlap), place=place, mean=mean)

    # ----------------------------------------------------------------------------------------------------- readings

    def rates(self, curve: Curve) -> list[DoseRate]:
        points = self.curve(curve)
        found = []
        for source, rows in self.doses() if points else ():
            for family, name in self.dosed(source, rows):
                at = self.reading([*(arm for _, arm in points), name])
                size = family.target_rows or 0
                rate = (
                    _unread_rate(size, rows, curve, self.level, at.reason)
                    if at.read is None
                    else exchange_rate(
                        at.read,
                        n_arms=len(at.place),
                        curve=[SizedArm(target_rows=n, arm=at.place[arm]) for n, arm in points],
                        dosed=SizedArm(target_rows=size, arm=at.place[name]),
                        dose_rows=rows,
                        against=curve,
                        level=self.level,
                    )
                )
                found.append(DoseRate(arm=name, source=source, rate=rate))
        return found

    def gains(self, source: str | None, rows: int, curve: Curve) -> tuple[_Reading, list[GainAt]]:
        """The dose and its baseline at every size that has both."""
        pairs = [
            (family.target_rows or 0, name, base)
            for family, name in self.dosed(source, rows)
            if (base := self.baseline(family, curve)) is not None
        ]
        if len({size for size, *_ in pairs}) < len(pairs):
            return _unread(TWO_ARMS), []
        at = self.reading([name for _, *both in pairs for name in both]) if pairs else _unread("")
        if at.read is None:
            return at, []
        return at, [GainAt(target_rows=n, arm=at.place[arm], baseline=at.place[base]) for n, arm, base in pairs]

    def thresholds(self, curve: Curve) -> list[DoseThreshold]:
        found = []
        for source, rows in self.doses():
            at, points = self.gains(source, rows, curve)
            if not points and not at.reason:
                continue
            size = (
                _unread_size(rows, self.delta, self.level, at.reason)
                if at.read is None
                else turning_size(
                    at.read,
                    n_arms=len(at.place),
                    gains=points,
                    dose_rows=rows,
                    smallest_effect=self.delta,
                    level=self.level,
                )
            )
            found.append(DoseThreshold(source=source, against=curve, size=size))
        return found

    def interactions(self, curve: Curve) -> list[DoseInteraction]:
        tested = []
        for source, rows in self.doses():
            at, points = self.gains(source, rows, curve)
            if points or at.reason:
                change = (
                    _unread_change(self.level, at.reason)
                    if at.read is None
                    else size_interaction(at.read, n_arms=len(at.place), gains=points, level=self.level)
                )
                tested.append((source, rows, change))
        # Doses are looked at together, so the smallest of several p-values is no longer what it says.
        adjusted = holm(np.array([np.nan if change.p is None else change.p for *_, change in tested]))
        return [
            DoseInteraction(
                source=source,
                dose_rows=rows,
                against=curve,
                change=change,
                p_adjusted=None if np.isnan(p) else float(p),
            )
            for (source, rows, change), p in zip(tested, adjusted, strict=True)
        ]

    def laws(self, curve: Curve) -> list[SourceLaw]:
        """A law for each source. Where no seed is common to all arms there are no means to fit it to."""
        points = self.curve(curve)
        found = []
        for source in dict.fromkeys(source for source, _ in self.doses()) if points else ():
            rows = [rows for other, rows in self.doses() if other == source]
            dosed = [
                (family.target_rows or 0, dose, name) for dose in rows for family, name in self.dosed(source, dose)
            ]
            arms = [*((size, 0, name) for size, name in points), *dosed]
            at = self.reading([name for *_, name in arms])
            law = (
                silent_law(at.reason)
                if at.read is None
                else fit_law([LawPoint(target_rows=n, dose_rows=dose, mean=at.mean[name]) for n, dose, name in arms])
            )
            worth = [(dose, law.worth(dose)) for dose in rows]
            found.append(
                SourceLaw(
                    source=source,
                    against=curve,
                    law=law,
                    worth=tuple(
                        LawWorth(dose_rows=dose, target_rows=value) for dose, value in worth if value is not None
                    ),
                )
            )
        return found


def _unread_rate(size: int, rows: int, curve: Curve, level: float, reason: str) -> ExchangeRate:
    return ExchangeRate(
        target_rows=size,
        dose_rows=rows,
        against=curve,
        step="none",
        sign=None,
        value=None,
        low=None,
        high=None,
        level=level,
        reason=reason,
    )


def _unread_size(rows: int, delta: float, level: float, reason: str) -> TurningSize:
    return TurningSize(
        dose_rows=rows,
        smallest_effect=delta,
        step="none",
        value=None,
        low=None,
        high=None,
        level=level,
        reason=reason,
    )


def _unread_change(level: float, reason: str) -> Interaction:
    return Interaction(influence="target rows", value=None, low=None, high=None, p=None, level=level, reason=reason)


# --------------------------------------------------------------------------------------------------------------- skills


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillInteraction:
    """Whether the gain of one dose depends on what targets need, tested as one. `targets` are (name, skill)."""

    model: str
    source: str | None
    dose_rows: int
    targets: tuple[tuple[str, str], ...]
    change: Interaction
    p_adjusted: float | None


def gain_of(
    table: ScoreTable, *, arm: str, baseline: str, name: str, task_weights: TaskWeights, overlap: float
) -> GroupGain | None:
    """The gain of one arm over its baseline as a group of its own, `name`; None where no variance can be had."""
    cut = table.take([table.arm_index(baseline), table.arm_index(arm)])
    seeds = np.flatnonzero(cut.ran.all(0))
    if not len(seeds) or not cut.present_ASI[:, seeds].all((0, 1)).any():
        return None
    whole = complete(cut.cut(range(2), seeds, range(len(cut.items))), drop_incomplete=True).table
    order = [whole.arm_index(baseline), whole.arm_index(arm)]
    plan = layout(len(whole.items), groups=whole.groups, tasks=whole.tasks, task_weights=task_weights)
    spread = contrast_batch(moments(whole.values_ASI[order], plan), [1], 0, overlap=overlap)
    error, df = float(spread.standard_error[0]), float(spread.df[0])
    if not (error > 0 and df > 0):
        return None
    return GroupGain(name=name, value=float(spread.difference[0]), standard_error=error, df=df)


# ----------------------------------------------------------------------------------------------------------------- JSON


def worth_json(worth: Worth) -> dict[str, Any]:
    """The worth as plain JSON: numbers are finite or null, and what is null has a reason."""
    return {
        "exchange_rates": [_rate_json(found) for found in worth.rates],
        "threshold_sizes": [_threshold_json(found) for found in worth.thresholds],
        "interactions": [_interaction_json(found) for found in worth.interactions],
        "laws": [_law_json(found) for found in worth.laws],
        "reason": worth.reason,
    }


def _rate_json(found: DoseRate) -> dict[str, Any]:
    rate = found.rate
    return {
        "arm": found.arm,
        "target_rows": rate.target_rows,
        "source": found.source,
        "dose": rate.dose_rows,
        "against": rate.against,
        "step": rate.step,
        "sign": rate.sign,
        "rows": rate.value,
        "low": rate.low,
        "high": rate.high,
        "level": rate.level,
        "reason": rate.reason,
        "sentence": rate.sentence,
    }


def _threshold_json(found: DoseThreshold) -> dict[str, Any]:
    size = found.size
    return {
        "source": found.source,
        "dose": size.dose_rows,
        "against": found.against,
        "smallest_effect": size.smallest_effect,
        "step": size.step,
        "target_rows": size.value,
        "low": size.low,
        "high": size.high,
        "level": size.level,
        "reason": size.reason,
        "sentence": size.sentence,
    }


def _interaction_json(found: DoseInteraction) -> dict[str, Any]:
    return {
        "influence": found.change.influence,
        "source": found.source,
        "dose": found.dose_rows,
        "against": found.against,
        **_change_json(found),
    }


def skill_json(found: SkillInteraction) -> dict[str, Any]:
    """A test over skills as plain JSON."""
    return {
        "influence": found.change.influence,
        "model": found.model,
        "source": found.source,
        "dose": found.dose_rows,
        "targets": [{"target": target, "skill": skill} for target, skill in found.targets],
        **_change_json(found),
    }


def _change_json(found: DoseInteraction | SkillInteraction) -> dict[str, Any]:
    change = found.change
    return {
        "change": change.value,
        "low": change.low,
        "high": change.high,
        "p": change.p,
        "p_adjusted": found.p_adjusted,
        "level": change.level,
        "reason": change.reason,
    }


def _law_json(found: SourceLaw) -> dict[str, Any]:
    law = found.law
    return {
        "source": found.source,
        "against": found.against,
        "speaks": law.speaks,
        **{
            name: getattr(law, name)
            for name in ("e", "c", "gamma", "alpha", "beta", "error_law", "error_interpolation")
        },
        "worth": [{"dose": entry.dose_rows, "target_rows": entry.target_rows} for entry in found.worth],
        "reason": law.reason,
    }
