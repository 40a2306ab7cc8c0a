"""The learning rate of every optimiser step."""

from __future__ import annotations

import math

from titrant.core.records import TrainingSettings


def learning_rate_at(step: int, steps: int, settings: TrainingSettings) -> float:
    """The learning rate of step `step` (from 1) of `steps`; no step has a rate of zero.

    With W = ceil(warmup_share * steps) warm-up steps and peak rate r, step s <= W takes r * (s / W). After that, with
    p = (s - 1 - W) / (steps - W), the share of the decay that lies behind: constant r, linear r * (1 - p), cosine
    r * (1 + cos(pi * p)) / 2. So the first step after warm-up has the peak rate.

    >>> from titrant.core.records import TrainingSettings
    >>> settings = TrainingSettings(learning_rate=1.0, warmup_share=0.2)
    >>> [round(learning_rate_at(step, 6, settings), 2) for step in range(1, 7)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    assert 1 <= step <= steps, "steps count from 1"
    warmup_steps = math.ceil(settings.warmup_share * steps)
    if step <= warmup_steps:
        return settings.learning_rate * (step / warmup_steps)
    passed = (step - 1 - warmup_steps) / (steps - warmup_steps)
    if settings.schedule == "constant":
        return settings.learning_rate
    if settings.schedule == "linear":
        return settings.learning_rate * (1 - passed)
    return settings.learning_rate * (1 + math.cos(math.pi * passed)) / 2
