"""How a staged study spent its runs: its looks, what was set aside at each, and why it ended."""

from __future__ import annotations

from collections.abc import Sequence

from titrant.core.records import Contrast, LookTaken, Verdict
from titrant.experiment.stages import ladder_of
from titrant.report.data import LookAtSeeds, LookInterval, SetAside, Stages
from titrant.report.sections.view import View


def stages_of(view: View) -> Stages | None:
    """The stages of the page's verdict; None of a grid."""
    verdict = view.judged.verdict
    if verdict.grid_cost is None:
        return None
    protocol = ladder_of(view.results.design, view.judged.model, view.judged.target).protocol
    return stages_from(verdict, ladder=protocol.ladder)


def stages_from(verdict: Verdict, *, ladder: Sequence[int]) -> Stages | None:
    """The stages that a verdict tells of; None where it tells of none."""
    if verdict.grid_cost is None or verdict.spent is None:
        return None
    return Stages(
        ladder=tuple(ladder),
        looks=tuple(_look(look, verdict) for look in verdict.looks),
        runs=verdict.spent.runs,
        cost=verdict.spent.cost,
        grid_cost=verdict.grid_cost,
        ended=verdict.ended,
        aside=tuple(_aside(verdict)),
    )


def _look(look: LookTaken, verdict: Verdict) -> LookAtSeeds:
    return LookAtSeeds(
        look=look.look,
        seeds=look.seeds,
        runs=look.spent.runs,
        cost=look.spent.cost,
        intervals=tuple(_interval(contrast, verdict) for contrast in look.contrasts),
    )


def _interval(contrast: Contrast, verdict: Verdict) -> LookInterval:
    difference = contrast.difference
    low, high = difference.low, difference.high
    # Bounds of a whole score on both sides are the ladder's word for "no look has read this": no interval at all.
    read = low is not None and high is not None and not (low <= -1.0 and high >= 1.0)
    return LookInterval(
        arm=contrast.arm,
        source=contrast.source,
        dose=contrast.dose,
        baseline="matched" if contrast.baseline == verdict.matched else "plain",
        value=difference.value if read else None,
        low=low if read else None,
        high=high if read else None,
    )


def _aside(verdict: Verdict) -> list[SetAside]:
    first = {arm: look.look for look in reversed(verdict.looks) for arm in look.ruled_out}
    baselines = (verdict.baseline, verdict.matched)
    found = [SetAside(arm=arm, reason="ruled_out", look=first.get(arm, 0)) for arm in verdict.ruled_out]
    found += [
        SetAside(arm=arm, reason="baseline_not_needed" if arm in baselines else "waiting") for arm in verdict.waiting
    ]
    return found
