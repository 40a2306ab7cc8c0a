"""What a replayed ladder found, as the rule's evidence: the bounds of all looks so far in the place of one look's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from titrant.core.records import Contrast, Estimate, NextStep
from titrant.decision.climb import FamilyRuns, runs_needed, waiting_arms
from titrant.decision.judge import RETENTION, TRANSFER
from titrant.decision.protocol import Protocol
from titrant.decision.replay import Replay
from titrant.decision.rule import FEWEST_SEEDS
from titrant.stats.contrasts import Layout, joined_spreads, shared_seeds_contrast
from titrant.stats.evidence import (
    SAME_EVERYWHERE,
    Family,
    Settings,
    notes_of,
    retention_of,
    transfer_of,
)
from titrant.stats.looks import MOST_SEEDS
from titrant.stats.numbers import Against, DoseEvidence, Evidence
from titrant.stats.power import Costs, PowerDesign, pilot_components, ways_on
from titrant.stats.table import TARGET, ScoreTable, complete


def staged_evidence(
    protocol: Protocol,
    runs: FamilyRuns,
    plan: Layout,
    found: Replay,
    tables: Mapping[str, ScoreTable],
    *,
    budget_ended: bool = False,
) -> Evidence:
    """What the replay found, as the rule's evidence: the bounds of all looks so far in the place of one look's."""
    settings = Settings(
        smallest_effect=protocol.smallest_effect,
        level=protocol.level,
        task_weights=protocol.task_weights,
        overlap=protocol.overlap,
        metric=protocol.metric,
        allow_missing_runs=True,
    )
    plain, *rest = protocol.baselines
    family = Family(
        doses=tuple(arm.name for arm in protocol.doses),
        baseline=plain.name,
        matched=rest[0].name if rest else None,
        target_rows=protocol.target_rows,
    )
    beside = {name: _as_read(protocol, table, found) for name, table in tables.items() if name != TARGET}
    failed_runs = int((runs.failed_AS & (np.arange(protocol.most) < found.read_BA[0][:, None])).sum())
    whole = replace(complete(runs.table, allow_missing_runs=True), missing_runs=failed_runs)
    best, smallest = found.gain_best_BR[0], found.gain_smallest_BR[0]
    evidence = Evidence(
        doses=tuple(dose_evidence(protocol, runs, found, index) for index in range(len(protocol.doses))),
        baseline=plain.name,
        matched=family.matched,
        target_rows=protocol.target_rows,
        metric=protocol.metric,
        level=protocol.level,
        smallest_effect=protocol.smallest_effect,
        n_seeds=int(found.common_BKR[0].max()),
        n_items=len(runs.table.items),
        n_groups=plan.n_clusters if runs.table.groups is not None else None,
        gain_best=_finite(best[-1]),
        gain_smallest=_finite(smallest[-1]),
        gain_least=_finite(best.min()),
        smallest_detectable=None,
        estimand=settings.estimand,
        steps_matched=plain.matched,
        kept=tuple(
            kept
            for name, table in beside.items()
            if name.split(":")[0] == RETENTION
            for kept in retention_of(table, family, settings)
        ),
        transfer=tuple(
            contrast
            for name, table in beside.items()
            if name.split(":")[0] == TRANSFER
            for contrast in transfer_of(table, family, settings)
        ),
        task_weights=protocol.task_weights if runs.table.tasks is not None else None,
        failed_runs=failed_runs,
        notes=(*notes_of(whole, runs.table, plan, settings), *_staged_notes(protocol, found)),
    )
    return replace(evidence, next_step=_next_step(protocol, runs, plan, found, budget_ended=budget_ended))


def _as_read(protocol: Protocol, table: ScoreTable, found: Replay) -> ScoreTable:
    """The arms of the family at the seeds that the ladder has read: what was run ahead of need stays out."""
    names = [arm.name for arm in protocol.arms]
    kept = table.take([index for index, arm in enumerate(table.arms) if arm.name in names])
    read_A = np.array([found.read_BA[0][names.index(arm.name)] for arm in kept.arms], dtype=np.intp)
    place_S = np.array([protocol.seeds.index(seed) if seed in protocol.seeds else MOST_SEEDS for seed in kept.seeds])
    present = kept.present_ASI & (place_S < read_A[:, None])[..., None]
    return replace(kept, present_ASI=present, values_ASI=np.where(present, kept.values_ASI, 0.0))


def dose_evidence(protocol: Protocol, runs: FamilyRuns, found: Replay, index: int) -> DoseEvidence:
    arm = protocol.doses[index]
    sides = [_against(protocol, runs, found, index, side) for side in range(len(protocol.baselines))]
    return DoseEvidence(
        arm=arm.name,
        dose=arm.dose,
        source=arm.source,
        plain=sides[0],
        matched=sides[1] if len(sides) == 2 else None,
        gap_high=_finite(found.gap_high_BK[0, index]),
        gap_low=_finite(found.gap_low_BK[0, index]),
    )


def _against(protocol: Protocol, runs: FamilyRuns, found: Replay, index: int, side: int) -> Against:
    arm, cell = protocol.doses[index], (0, index, side)
    low, high, seeds = float(found.low_BKR[cell]), float(found.high_BKR[cell]), int(found.common_BKR[cell])
    reason = None
    if seeds < FEWEST_SEEDS:
        reason = f"{seeds} seeds that both arms have: nothing is claimed before {FEWEST_SEEDS}"
    elif low == high:
        reason = SAME_EVERYWHERE
    doses = len(protocol.doses)
    family = "one contrast" if doses == 1 else f"Dunnett over {doses} doses"
    estimate = Estimate(
        value=_finite(found.difference_BKR[cell]),
        low=low,
        # Two looks can contradict each other by luck; the interval is then a point, not turned inside out.
        high=max(low, high),
        level=protocol.level,
        method=f"{found.method}; {family}; tightest of the looks so far, error spent as {protocol.spending}",
        n_items=len(runs.table.items),
        n_seeds=seeds,
        reason=reason,
    )
    contrast = Contrast(
        arm=arm.name,
        baseline=protocol.baselines[side].name,
        eval_set=TARGET,
        target_rows=protocol.target_rows,
        difference=estimate,
        # A p-value holds for one look only.
        p=None,
        p_adjusted=None,
        dose=arm.dose,
        source=arm.source,
    )
    return Against(
        contrast=contrast,
        low_90=float(found.low_single_BKR[cell]),
        high_90=float(found.high_single_BKR[cell]),
        high_95=float(found.high_strict_BKR[cell]),
    )


def _staged_notes(protocol: Protocol, found: Replay) -> tuple[str, ...]:
    look, seeds = int(found.look_B[0]), int(found.seeds_B[0])
    notes = [f"Look {look} of {len(protocol.ladder)}, at {seeds} seeds; the level holds over all looks together."]
    waiting = waiting_arms(protocol, found)
    bases = {arm.name for arm in protocol.baselines}
    if found.over_B[0]:
        words = {
            "Set aside and not ruled out": [arm for arm in waiting if arm not in bases],
            "Stopped, as no open claim needed it": [arm for arm in waiting if arm in bases],
        }
        notes += [f"{text}: {', '.join(arms)}." for text, arms in words.items() if arms]
    if found.given_up_B[0]:
        notes.append(f"Stopped early: the look at {protocol.most} seeds would hardly have settled it.")
    if not found.over_B[0]:
        notes.append(f"The ladder goes on to {protocol.most} seeds.")
    return tuple(notes)


def _next_look(protocol: Protocol, runs: FamilyRuns, found: Replay, *, budget_ended: bool) -> NextStep:
    """The runs of the next look; where a budget has ended the ladder, what they cost, and what all that may follow."""
    seeds = int(found.next_seeds_B[0])
    lacking = int((found.active_BA[0][:, None] & ~runs.known[:, :seeds]).sum())
    text = f"Next: {lacking} {'run' if lacking == 1 else 'runs'}, for the look at {seeds} seeds."
    if not budget_ended:
        return NextStep(kind="seeds", seeds=seeds, items=None, tokens=None, minutes=None, sentence=text)
    # Counted from what the looks have read: a run that somebody did ahead of need is no reason to say less.
    needed = runs_needed(protocol, found)
    cost = {arm.name: arm.cost for arm in protocol.arms}
    next_cost = int(sum(cost[run.arm] for run in needed))
    left = protocol.most - int(found.seeds_B[0])
    rest = int(left * sum(arm.cost for arm, on in zip(protocol.arms, found.active_BA[0], strict=True) if on))
    text = (
        f"The budget ended it at {int(found.seeds_B[0])} seeds. Next: {len(needed)} "
        f"{'run' if len(needed) == 1 else 'runs'} ({next_cost:,} tokens) for the look at {seeds} seeds; all looks up "
        f"to {protocol.most} seeds take about {rest:,} at most."
    )
    return NextStep(kind="seeds", seeds=seeds, items=None, tokens=next_cost, minutes=None, sentence=text)


def _next_step(
    protocol: Protocol, runs: FamilyRuns, plan: Layout, found: Replay, *, budget_ended: bool
) -> NextStep | None:
    """While the ladder goes on, its next look; when it has ended open, more items or a larger dose in another study."""
    if found.code_B[0]:
        return None
    if not found.over_B[0]:
        return _next_look(protocol, runs, found, budget_ended=budget_ended)
    items = _items_that_would_do(protocol, runs, plan, found)
    if items is not None:
        text = f"Next: another study with {items} test items in all, which would probably settle it."
        return NextStep(kind="items", seeds=None, items=items, tokens=None, minutes=None, sentence=text)
    largest = 2 * protocol.doses[-1].dose
    text = (
        f"Nor would 50 times the items settle it. Next: another study with a dose of {largest} rows, whose effect may "
        "be plainer, or a larger smallest effect."
    )
    return NextStep(kind="dose", seeds=None, items=None, tokens=None, minutes=None, sentence=text)


def _items_that_would_do(protocol: Protocol, runs: FamilyRuns, plan: Layout, found: Replay) -> int | None:
    """How many items in all would settle it at as many seeds, going by what was seen; None where none would."""
    n_bases, overlap = len(protocol.baselines), protocol.overlap or 0.0
    read_AS = runs.ran_AS & (np.arange(protocol.most) < found.read_BA[0][:, None])
    doses = [index + n_bases for index in np.flatnonzero(~found.ruled_out_BK[0])]
    spread = joined_spreads(
        [
            shared_seeds_contrast(runs.values_ASI, read_AS, plan, arm=int(dose), baseline=n_bases - 1, overlap=overlap)
            for dose in doses
        ]
    )
    components = pilot_components(spread, overlap=overlap)
    # The weaker gain of each dose over its baselines: that is the one that keeps the verdict open.
    gains = found.difference_BKR[0].min(-1)
    gains = gains[np.isfinite(gains)]
    if components is None or not len(gains):
        return None
    design = PowerDesign(
        seeds=int(found.seeds_B[0]),
        items=plan.n_clusters,
        doses=len(protocol.doses),
        baselines=n_bases,
        components=components,
        smallest_effect=protocol.smallest_effect,
        level=protocol.level,
        overlap=overlap,
    )
    ways = ways_on(design, gains=gains, costs=Costs(), items_each=plan.n_items / plan.n_clusters)
    return next((way.items for way in ways if way.kind == "items"), None)


def _finite(value: float | np.floating[Any]) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None
