"""What the arms did in training: curves of the loss, and steps, tokens and visits side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from titrant.core.records import Arm, Draw
from titrant.experiment.design import PlannedRun
from titrant.report.data import (
    FairnessRow,
    TrainingCurve,
    TrainingPoint,
)
from titrant.report.sections.view import View, mean_of
from titrant.scoring.sheets import source_of

MOST_TRAINING_POINTS = 120  # a run: the page thins them further


def training_sections(view: View) -> tuple[tuple[FairnessRow, ...], tuple[TrainingCurve, ...]]:
    """What every arm's training did, and the loss of every run on target rows, from the stored step reports."""
    fairness, curves = [], []
    for arm in view.arms:
        runs = view.runs[arm.name]
        shares = []
        for planned in runs if arm.kind != "untuned" else ():
            steps = view.training(planned)
            if arm.target_rows:
                shares.append(_share_of_loss(steps, arm.target))
                curves.append(_training_curve(arm, planned.run.seed, steps))
        fairness.append(_fairness(view, arm, runs, [share for share in shares if share is not None]))
    return tuple(fairness), tuple(curves)


def _share_of_loss(steps: Sequence[Mapping[str, Any]], target: str) -> float | None:
    """The target's part of all steps' loss together; the parts of a step add up to its loss."""
    total = math.fsum(step["loss"] for step in steps)
    own = math.fsum(part for step in steps for source, part in step["loss_by_source"] if source == target)
    return own / total if total > 0 else None


def _training_curve(arm: Arm, seed: int, steps: Sequence[Mapping[str, Any]]) -> TrainingCurve:
    stride = max(1, -(-len(steps) // MOST_TRAINING_POINTS))
    kept = [*steps[:-1:stride], *steps[-1:]]
    return TrainingCurve(
        arm=arm.name,
        kind=arm.kind,
        target_rows=arm.target_rows,
        source=source_of(arm),
        dose=arm.dose_rows,
        seed=seed,
        points=tuple(
            TrainingPoint(
                step=step["step"],
                loss=step["loss"],
                target_loss=sum(part for source, part in step["loss_by_source"] if source == arm.target),
            )
            for step in kept
        ),
    )


def _fairness(view: View, arm: Arm, runs: Sequence[PlannedRun], shares: Sequence[float]) -> FairnessRow:
    """Means over the arm's finished runs. A row's visits are counted as planned, which is how they were made."""
    target_visits, pool_visits, rows, loss = [], [], [], []
    for planned in runs:
        own, pools = _parts(planned.run.draws, arm.target if arm.target_rows else None)
        target_visits.append(own.visits / own.got if own is not None else 0.0)
        pool_visits.append(float(sum(draw.visits for draw in pools)))
        if own is not None:
            rows.append(own.visits / (own.visits + sum(draw.visits for draw in pools)))
            loss.append(own.loss_tokens / (own.loss_tokens + sum(draw.loss_tokens for draw in pools)))
    return FairnessRow(
        arm=arm.name,
        kind=arm.kind,
        target_rows=arm.target_rows,
        source=source_of(arm),
        dose=arm.dose_rows,
        seeds=len(runs),
        steps=mean_of([float(planned.run.steps) for planned in runs]),
        tokens=mean_of([float(planned.run.tokens) for planned in runs]),
        target_visits_per_row=mean_of(target_visits) if arm.target_rows else None,
        generalist_visits=mean_of(pool_visits),
        target_share_of_rows=mean_of(rows),
        target_share_of_loss_tokens=mean_of(loss),
        target_share_of_loss=mean_of(shares),
        reason=None if runs else view.missing(arm),
    )


def _parts(draws: Sequence[Draw], target: str | None) -> tuple[Draw | None, list[Draw]]:
    own = next((draw for draw in draws if draw.source == target), None)
    return own, [draw for draw in draws if draw is not own]
