"""A backend without weights: a whole study in a second, for tests of everything around the training."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from titrant.core.errors import Interrupted
from titrant.core.identity import hash_text
from titrant.core.records import (
    Numerics,
    PreparedModel,
    StepReport,
    TokenPrompt,
    TokenQuestion,
    TokenRow,
    TrainingPlan,
    Written,
)
from titrant.storage.json_files import read_json, write_json


def _do_nothing() -> None:
    return None


class FakeLanguageModel:
    """Answers from hashes of what it was trained on; losses fall with `skill`, so that there is something to find."""

    def __init__(self, salt: str, skill: float, keep: Callable[[Path | None], None] = lambda _: None) -> None:
        self.salt, self.skill = salt, skill
        self.carried_out: Mapping[str, object] = {}
        self.heed: Callable[[], None] = _do_nothing
        self._keep = keep

    def _noise(self, *parts: object) -> float:
        """A number in (0, 1) that depends on the model and the parts alone."""
        return (int(hash_text(json.dumps([self.salt, *map(str, parts)]), length=12), 16) + 1) / (16**12 + 2)

    def loglikelihood(self, questions: Sequence[TokenQuestion]) -> tuple[tuple[float, ...], ...]:
        self.heed()
        return tuple(
            tuple(math.log(self._noise(question.key, ids)) - 0.1 * len(ids) for ids in question.choices)
            for question in questions
        )

    def generate(self, prompts: Sequence[TokenPrompt]) -> tuple[Written, ...]:
        self.heed()
        return tuple(
            Written(
                ids=prompt.ids[: min(3, prompt.max_new_tokens)],
                stop="end" if self._noise(prompt.key) < 0.9 else "length",
            )
            for prompt in prompts
        )

    def losses(self, rows: Sequence[TokenRow]) -> tuple[float, ...]:
        self.heed()
        return tuple(0.5 + self._noise(row.key) / (1 + self.skill) for row in rows)

    def keep(self, folder: Path | None = None) -> None:
        self._keep(folder)

    def save(self, folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps({"model_type": "fake", "salt": self.salt, "skill": self.skill}))

    def close(self) -> None:
        return None


class FakeBackend:
    """A backend without a model: deterministic, instant, and refused by everything that publishes findings.

    It keeps the whole promise of `Backend`: asked to stop, it leaves a checkpoint and raises; started again, it reports
    the steps that were missing and no others, and its language model is the one of a calm run.
    """

    def untuned(self, model: PreparedModel) -> FakeLanguageModel:
        return FakeLanguageModel(model.fingerprint, 0.0)

    def train(
        self,
        plan: TrainingPlan,
        *,
        checkpoints: Path,
        on_step: Callable[[StepReport], None],
        stop: Callable[[], int | None],
    ) -> FakeLanguageModel:
        checkpoint = checkpoints / "step.json"
        done = int(read_json(checkpoint)["step"]) if checkpoint.is_file() else 0
        digest = hashlib.sha256(repr((plan.settings, plan.seed)).encode())
        for number, indices in enumerate(plan.steps, start=1):
            for index in indices:
                digest.update(plan.rows[index].key.encode())
            if number <= done:
                continue
            loss = 2.0 / math.sqrt(number)
            sources = sorted({plan.rows[index].source for index in indices})
            on_step(
                StepReport(
                    step=number,
                    loss=loss,
                    loss_by_source=tuple((source, loss / len(sources)) for source in sources),
                    gradient_norm=1.0,
                    learning_rate=plan.settings.learning_rate,
                    tokens=sum(len(plan.rows[index].ids) for index in indices),
                    seconds=0.0,
                )
            )
            signal_number = stop()
            if signal_number is not None:
                write_json(checkpoint, {"step": number})
                raise Interrupted(signal_number)
        return FakeLanguageModel(
            digest.hexdigest(),
            len(plan.steps) / 100,
            keep=lambda folder: write_json((folder or checkpoints) / checkpoint.name, {"step": len(plan.steps)}),
        )


FAKE_NUMERICS = Numerics(device="fake", dtype="fp32", threads=1, compiled=False, isa="fake", versions=())
