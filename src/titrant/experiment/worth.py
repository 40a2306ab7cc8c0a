"""What doses are worth over the target sizes of a study, and whether their gain depends on what a target needs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from titrant.experiment.design import overlap_at, sizes_of, verdict_size
from titrant.experiment.prepare import TARGET_SET, PreparedStudy
from titrant.scoring.sheets import Scores
from titrant.stats.contrasts import TaskWeights
from titrant.stats.evidence import families
from titrant.stats.exchange import GroupGain, Interaction, group_interaction, mean_gain
from titrant.stats.family import holm
from titrant.stats.table import ScoreTable, TableArm
from titrant.stats.worth import SkillInteraction, Worth, gain_of, worth_of

LEVEL = 0.95
ONE_SKILL = "the targets need one skill: it takes targets of two (targets.NAME.skill)"
OTHER_METRICS = "the targets are scored by different metrics, so their gains cannot be compared"
NO_VARIANCE = "a target whose gain has no interval cannot be weighed against others"


def target_worth(prepared: PreparedStudy, table: ScoreTable, *, model: str, target: str) -> Worth:
    """The worth of all doses of one model and target."""
    overlaps = [overlap_at(prepared, model, target, size) or 0.0 for size in sizes_of(prepared, model, target)]
    return worth_of(
        table,
        families(table),
        smallest_effect=prepared.study.smallest_effect,
        level=LEVEL,
        task_weights=prepared.study.targets[target].task_weights,
        overlap=max(overlaps, default=0.0),
    )


def skill_interactions(prepared: PreparedStudy, scores: Scores) -> tuple[SkillInteraction, ...]:
    """For every model and dose that targets of a said skill share: does its gain differ between skills? Gains are over
    the fair baseline at each target's verdict size; several targets of one skill count as their mean."""
    skilled = {name: target.skill for name, target in prepared.study.targets.items() if target.skill is not None}
    if len(skilled) < 2:
        return ()
    found: list[SkillInteraction] = []
    for model in prepared.models:
        gains = {target: _gains(prepared, scores, model, target) for target in skilled}
        doses = sorted({dose for known in gains.values() for dose in known}, key=lambda dose: (dose[0] or "", dose[1]))
        tested = []
        for dose in doses:
            here = {target: known[dose] for target, known in gains.items() if dose in known}
            tested.append((dose, here, _tested(prepared, here, skilled)))
        adjusted = holm(np.array([np.nan if change.p is None else change.p for *_, change in tested]))
        found += (
            SkillInteraction(
                model=model,
                source=source,
                dose_rows=rows,
                targets=tuple((target, skilled[target]) for target in here),
                change=change,
                p_adjusted=None if np.isnan(p) else float(p),
            )
            for ((source, rows), here, change), p in zip(tested, adjusted, strict=True)
        )
    return tuple(found)


def _tested(prepared: PreparedStudy, gains: Mapping[str, GroupGain | None], skilled: Mapping[str, str]) -> Interaction:
    names = sorted({skilled[target] for target in gains})
    if len(names) < 2:
        return _untested(names, ONE_SKILL)
    if len({prepared.study.targets[target].metric for target in gains}) > 1:
        return _untested(names, OTHER_METRICS)
    if any(gain is None for gain in gains.values()):
        return _untested(names, NO_VARIANCE)
    by_skill = {
        name: [gain for target, gain in gains.items() if skilled[target] == name and gain is not None] for name in names
    }
    return group_interaction([mean_gain(name, parts) for name, parts in by_skill.items()], level=LEVEL)


def _untested(names: list[str], reason: str) -> Interaction:
    return Interaction(
        influence=" against ".join(names), value=None, low=None, high=None, p=None, level=LEVEL, reason=reason
    )


def _gains(
    prepared: PreparedStudy, scores: Scores, model: str, target: str
) -> dict[tuple[str | None, int], GroupGain | None]:
    """The gain of every dose at the target's verdict size, over the fair baseline."""
    said = prepared.study.targets[target]
    table = scores.table(model, target, TARGET_SET, said.metric)
    if table is None:
        return {}
    size = verdict_size(prepared, model, target)
    family = next((family for family in families(table) if family.target_rows == size), None)
    if family is None or family.baseline is None:
        return {}
    overlap = overlap_at(prepared, model, target, size) or 0.0
    arms = {arm.name: arm for arm in table.arms}
    return {
        (arms[name].source, arms[name].dose or 0): _gain(
            table,
            family.matched or family.baseline,
            arms[name],
            target=target,
            task_weights=said.task_weights,
            overlap=overlap,
        )
        for name in family.doses
    }


def _gain(
    table: ScoreTable, fair: str, arm: TableArm, *, target: str, task_weights: TaskWeights, overlap: float
) -> GroupGain | None:
    return gain_of(table, arm=arm.name, baseline=fair, name=target, task_weights=task_weights, overlap=overlap)
