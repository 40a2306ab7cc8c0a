"""Staged studies without a model: a backend whose answers get better by what it was trained on, as a test says."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fake_study import LABELS, TrialBackend, TrialLanguageModel, write_study
from tokenizers import pre_tokenizers

from titrant.backends.fake import FakeLanguageModel
from titrant.core.records import StepReport, TokenQuestion, TrainingPlan
from titrant.engines import BackendSpec

_LETTERS = ["", *sorted(pre_tokenizers.ByteLevel.alphabet())]
STAGED: dict[str, Any] = {
    "arms": {"target_rows": [4, 6], "doses": {"general": [4, 8]}, "seeds": {"most": 8}},
    "smallest_effect": 0.05,
    "until": "firm",
    "retention": None,
}


def write_staged(folder: Path, *, test: int = 120, **said: Any) -> Path:
    """A staged study of two doses at two target sizes, and its rows."""
    target = {
        "train": "train.jsonl",
        "test": "test.jsonl",
        "instruction": "Name the kind.",
        "columns": {"text": "text", "label": "label"},
        "metric": "graded",
        "answer": "choices",
    }
    return write_study(folder, test=test, **{"target": target, **STAGED, **said})


def _text(ids: Sequence[int]) -> str:
    return "".join(_LETTERS[token] for token in ids).replace("Ġ", " ")


class TaughtLanguageModel(TrialLanguageModel):
    """Gives the right choice a probability of about `rate`, moved by the run's own luck and the item's."""

    rate = 0.4

    def loglikelihood(self, questions: Sequence[TokenQuestion]) -> tuple[tuple[float, ...], ...]:
        found = []
        for question in questions:
            number = re.search(r"number (\d+) of", _text(question.prompt))
            right = LABELS[int(number[1]) % 4 % 3] if number else None
            share = self.rate + 0.03 * (self._noise("luck") - 0.5) + 0.1 * (self._noise(question.key) - 0.5)
            share = min(max(share, 0.05), 0.95)
            said = [
                "".join(_LETTERS[token] for token in choice).replace("Ġ", " ").strip() for choice in question.choices
            ]
            rest = (1 - share) / max(len(said) - 1, 1)
            found.append(tuple(math.log(share if label == right else rest) for label in said))
        return tuple(found)


class TeachingBackend(TrialBackend):
    """`TrialBackend` whose trainings teach: `gains` by the number of generalist rows; `matched` for long baselines."""

    def __init__(self, *, gains: Mapping[str, float], matched: float = 0.0, **more: Any) -> None:
        super().__init__(**more)
        self.gains, self.matched = gains, matched

    def train(
        self,
        plan: TrainingPlan,
        *,
        checkpoints: Path,
        on_step: Callable[[StepReport], None],
        stop: Callable[[], int | None],
    ) -> FakeLanguageModel:
        trained = super().train(plan, checkpoints=checkpoints, on_step=on_step, stop=stop)
        taught = TaughtLanguageModel(trained.salt, trained.skill, keep=trained._keep)
        taught.saved_bytes = self.saved_bytes
        rows = sum(row.source == "general" for row in plan.rows)
        visits = sum(len(step) for step in plan.steps)
        long = not rows and visits > plan.settings.passes * len(plan.rows)
        taught.rate = 0.4 + (self.matched if long else self.gains.get(str(rows), 0.0))
        return taught


def teaching_backend(**arguments: Any) -> BackendSpec:
    """The spec of a `TeachingBackend`."""
    return BackendSpec(module="staged_study", name="TeachingBackend", arguments=arguments)
