"""The seam between a study and the machine that trains: two small protocols, in token ids only.

`experiment` plans in ids and asks a `Backend` for language models; it never sees torch. `fake.FakeBackend` answers
without weights, so that a whole study runs in a second; `hf.backend.HuggingFaceBackend` is the real one and is imported
lazily.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from titrant.core.records import (
    PreparedModel,
    StepReport,
    TokenPrompt,
    TokenQuestion,
    TokenRow,
    TrainingPlan,
    Written,
)


class LanguageModel(Protocol):
    """A model, tuned or not, that answers. `carried_out`: how it was trained (micro-batches, steps that had to be tried
    again), for the record and never part of a result; empty where it was not. `heed` is called between batches of
    answers: what it raises ends them."""

    carried_out: Mapping[str, object]
    heed: Callable[[], None]

    def loglikelihood(self, questions: Sequence[TokenQuestion]) -> tuple[tuple[float, ...], ...]:
        """For every question the sum of log-probabilities (nats) of each choice's tokens, end mark included."""
        ...

    def generate(self, prompts: Sequence[TokenPrompt]) -> tuple[Written, ...]:
        """Greedy continuations, in the order of the prompts."""
        ...

    def losses(self, rows: Sequence[TokenRow]) -> tuple[float, ...]:
        """For every row the mean loss (nats) over the tokens that bear loss."""
        ...

    def keep(self, folder: Path | None = None) -> None:
        """Leave a checkpoint of the finished training (in `folder`, by default where it was trained), so that a run
        that is stopped here, or that is asked more later, need not train again."""
        ...

    def save(self, folder: Path) -> None:
        """Write the weights in Hugging Face format into an existing empty folder (tokenizer included)."""
        ...

    def close(self) -> None:
        """Let go of the memory."""
        ...


class Backend(Protocol):
    """A place that trains and hands out language models."""

    def untuned(self, model: PreparedModel) -> LanguageModel:
        """The model as it came."""
        ...

    def train(
        self,
        plan: TrainingPlan,
        *,
        checkpoints: Path,
        on_step: Callable[[StepReport], None],
        stop: Callable[[], int | None],
    ) -> LanguageModel:
        """Train as planned, from the newest good checkpoint in `checkpoints` if there is one.

        `stop` is asked after every step; a signal number makes the backend write a checkpoint and raise `Interrupted`.
        Raises `RunFailed` on a non-finite loss or gradient, or when memory does not suffice.
        """
        ...
