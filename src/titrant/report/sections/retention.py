"""What is kept of general ability, beside what the target gains."""

from __future__ import annotations

import numpy as np

from titrant.core.records import Arm
from titrant.experiment.prepare import (
    KEPT_SET,
    LEARNED_SET,
)
from titrant.report.data import (
    RetentionRow,
)
from titrant.report.sections.view import View
from titrant.scoring.sheets import source_of
from titrant.stats.table import ScoreTable


def retention_rows(view: View) -> tuple[tuple[RetentionRow, ...], str | None]:
    kept, learned = view.means_of(view.table(KEPT_SET, "accuracy")), view.table(LEARNED_SET, "token_probability")
    if not kept and learned is None:
        return (), "the study names no retention items (retention.kept, retention.learned)"
    probabilities = {} if learned is None else _token_probabilities(learned)
    rows = []
    for arm in view.arms:
        estimate = kept[arm.name].estimate if arm.name in kept else None
        gain, reason = _gain(view, arm)
        if estimate is None and kept:
            reason = view.missing(arm)
        elif not kept:
            reason = reason or "the study names no items of general ability (retention.kept)"
        elif learned is None:
            reason = reason or "the study names no held-out rows of the pool's kind (retention.learned)"
        rows.append(
            RetentionRow(
                arm=arm.name,
                kind=arm.kind,
                target_rows=arm.target_rows,
                source=source_of(arm),
                dose=arm.dose_rows,
                target_gain=gain,
                kept=None if estimate is None else estimate.value,
                kept_low=None if estimate is None else estimate.low,
                kept_high=None if estimate is None else estimate.high,
                learned=probabilities.get(arm.name),
                reason=reason or (None if estimate is None else estimate.reason),
            )
        )
    return tuple(rows), None


def _token_probabilities(table: ScoreTable) -> dict[str, float]:
    """exp(mean log probability) over items and seeds, by arm."""
    found = {}
    for index, arm in enumerate(table.arms):
        values = table.values_ASI[index][table.present_ASI[index]]
        if len(values):
            found[arm.name] = float(np.exp(np.log(values).mean())) if (values > 0).all() else 0.0
    return found


def _gain(view: View, arm: Arm) -> tuple[float | None, str | None]:
    """The arm's mean over the fair baseline's at the seeds that both have, or why there is none."""
    fair = view.fair(arm.target_rows)
    if arm.target_rows == 0 or fair is None:
        return None, "it has no target rows, so no baseline to gain over"
    means = view.means[view.judged.metric]
    if arm.name not in means or fair.name not in means:
        return None, view.missing(arm if arm.name not in means else fair)
    mine, theirs = (dict(zip(m.seeds, m.by_seed, strict=True)) for m in (means[arm.name], means[fair.name]))
    both = [mine[seed] - theirs[seed] for seed in mine if seed in theirs]
    return (sum(both) / len(both), None) if both else (None, "no seed at which both arms ran")
