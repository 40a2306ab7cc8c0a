"""The check of a graded verdict on a study's own scores: accuracy, and temperatures fitted on validation items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from titrant.decision.confidence import ConfidenceCheck
from titrant.decision.judge import judge_tables
from titrant.experiment.design import overlap_at
from titrant.experiment.prepare import TARGET_SET, PreparedStudy
from titrant.scoring.sheets import BY_TASK, CALIBRATED, Scores
from titrant.scoring.temperature import FEWEST_TO_FIT
from titrant.stats.evidence import Settings


def confidence_check(
    prepared: PreparedStudy, scores: Scores, *, model: str, target: str, size: int
) -> ConfidenceCheck | None:
    """What stands beside the graded verdict at one target size, from the same answers; None where the target's answers
    are not chosen, so that there is no accuracy beside the probability of the right one."""
    data = prepared.models[model].targets[target]
    if not data.test or any(item.answer != "choices" for item in data.test):
        return None
    metrics = sorted({item.metric for item in data.test})
    accuracy = metrics[0] if len(metrics) == 1 else BY_TASK
    study = prepared.study
    settings = Settings(
        smallest_effect=study.smallest_effect,
        overlap=overlap_at(prepared, model, target, size),
        allow_missing_runs=True,
        steps_matched=study.hold_equal == "steps",
        task_weights=study.targets[target].task_weights,
        # Nothing is planned from a verdict that decides nothing, so no next step is simulated for it.
        looks_ahead=False,
    )
    verdicts = {}
    for metric, words in ((accuracy, "accuracy"), (CALIBRATED, "the graded score at a fitted temperature")):
        table = scores.table(model, target, TARGET_SET, metric)
        at_size = None if table is None else table.of_size(size)
        if at_size is not None:
            tables = {TARGET_SET: at_size}
            verdicts[metric] = judge_tables(tables, settings=replace(settings, metric=words), verdict_at=size)[0]
    if accuracy not in verdicts:
        return None
    calibrated = verdicts.get(CALIBRATED)
    return ConfidenceCheck(
        accuracy=verdicts[accuracy],
        calibrated=calibrated,
        temperatures=_temperatures(scores, model, target, size) if calibrated is not None else {},
        reason=None if calibrated is not None else _why_not(len(data.validation)),
    )


def _why_not(validation_items: int) -> str:
    there = "no validation rows" if not validation_items else f"{validation_items} validation rows"
    return f"the target has {there}, and {FEWEST_TO_FIT} are needed to fit a temperature (validation: 0.1)"


def _temperatures(scores: Scores, model: str, target: str, size: int) -> Mapping[str, float]:
    """The geometric mean over seeds of every arm's temperatures, as a temperature is a ratio."""
    by_arm: dict[str, list[float]] = {}
    for run in scores.of(model, target):
        if run.arm.target_rows == size and target in run.temperatures:
            by_arm.setdefault(run.arm.name, []).append(run.temperatures[target])
    return {arm: float(np.exp(np.mean(np.log(found)))) for arm, found in sorted(by_arm.items())}
