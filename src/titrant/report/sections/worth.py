"""What doses are worth in target rows, where they stop paying, and whether that depends on sizes or skills."""

from __future__ import annotations

from titrant.report.data import (
    ChangeRow,
    ExchangeRow,
    LawRow,
    ThresholdRow,
)
from titrant.report.sections.view import View
from titrant.stats.law import Law


def exchange_rows(view: View) -> tuple[tuple[ExchangeRow, ...], str | None]:
    """What every dose is worth in target rows, against the matched curve where there is one, and the plain one."""
    worth = view.judged.worth
    rows = tuple(
        ExchangeRow(
            target_rows=found.rate.target_rows,
            source=found.source or "",
            dose=found.rate.dose_rows,
            baseline=found.rate.against,
            rows=found.rate.value,
            interval=_interval_words(found.rate.low, found.rate.high),
            reason=found.rate.reason,
        )
        for found in worth.rates
        if found.rate.step != "none"
    )
    unread = next((found.rate.reason for found in worth.rates if found.rate.step == "none"), None)
    return rows, None if rows else worth.reason or unread or "no arm without a dose was finished"


def threshold_rows(view: View) -> tuple[ThresholdRow, ...]:
    """Where the gain of every dose falls below the smallest effect."""
    return tuple(
        ThresholdRow(
            source=found.source or "",
            dose=found.size.dose_rows,
            baseline=found.against,
            target_rows=found.size.value,
            interval=_interval_words(found.size.low, found.size.high),
            reason=found.size.reason,
        )
        for found in view.judged.worth.thresholds
    )


def change_rows(view: View) -> tuple[ChangeRow, ...]:
    """Whether the gain of a dose changes with the target size."""
    return tuple(
        ChangeRow(
            what=view.results.design.prepared.study.name,
            source=found.source or "",
            dose=found.dose_rows,
            baseline=found.against,
            change=found.change.value,
            low=found.change.low,
            high=found.change.high,
            p_adjusted=found.p_adjusted,
            reason=found.change.reason,
        )
        for found in view.judged.worth.interactions
    )


def skill_rows(view: View) -> tuple[ChangeRow, ...]:
    """Whether the gain of a dose depends on what the study's targets need, for this model."""
    return tuple(
        ChangeRow(
            what=found.change.influence,
            source=found.source or "",
            dose=found.dose_rows,
            baseline="matched",
            change=found.change.value,
            low=found.change.low,
            high=found.change.high,
            p_adjusted=found.p_adjusted,
            reason=found.change.reason,
        )
        for found in view.results.skills
        if found.model == view.judged.model
    )


def law_rows(view: View) -> tuple[LawRow, ...]:
    """The law of every source, with a reason where it may not speak."""
    return tuple(
        LawRow(
            source=found.source or "",
            baseline=found.against,
            formula=_formula(found.law) if found.law.speaks else None,
            error_law=found.law.error_law,
            error_interpolation=found.law.error_interpolation,
            worth=tuple((entry.dose_rows, entry.target_rows) for entry in found.worth),
            reason=found.law.reason,
        )
        for found in view.judged.worth.laws
    )


def _formula(law: Law) -> str:
    e, c, gamma, alpha, beta = (float(v or 0.0) for v in (law.e, law.c, law.gamma, law.alpha, law.beta))
    text = f"{e:.3f} {'+' if c >= 0 else '-'} {abs(c):.3g} · (n {'+' if gamma >= 0 else '-'} "
    text += f"{abs(gamma):.3g} · g^{alpha:.2f})^-{beta:.2f}"
    return text.replace("-", "−")


def _interval_words(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f"{_whole(low)} to {_whole(high)}"
    if low is not None:
        return f"at least {_whole(low)}"
    return "cannot be pinned down" if high is None else f"at most {_whole(high)}"


def _whole(value: float) -> str:
    return f"{round(value):,}".replace("-", "−")
