"""The real backend: transformers models, trained by `training`, answering by `inference`. Importing it imports torch.

What runs have in common is done once a process: the untuned weights are loaded once and copied for every
training, and whether an architecture goes without padding is found out once.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from titrant.backends.hf.inference import AnsweringModel, answering_model, generate, loglikelihood, losses
from titrant.backends.hf.models.allocator import end_run, give_back_freed_memory, hold_growth, keep_freed_memory
from titrant.backends.hf.models.load import copy_model, load_model, save_model
from titrant.backends.hf.models.ragged import ragged_refusal
from titrant.backends.hf.training import Adapter, TrainingOptions, Traits, train
from titrant.core.errors import RunFailed
from titrant.core.records import (
    LoraSettings,
    Numerics,
    PreparedModel,
    StepReport,
    TokenPrompt,
    TokenQuestion,
    TokenRow,
    TrainingPlan,
    Written,
)

if TYPE_CHECKING:
    from titrant.backends.protocol import Backend, LanguageModel

log = logging.getLogger(__name__)


class HuggingFaceLanguageModel:
    """A transformers model that answers; made by `HuggingFaceBackend`.

    `model` holds the exact float32 weights and is what is saved; answers come from a copy in the backend's dtype, made
    at the first question.
    """

    def __init__(
        self,
        model: Any,
        prepared_model: PreparedModel,
        *,
        numerics: Numerics,
        ragged: bool | None = None,
        adapter: Adapter | None = None,
        carried_out: Mapping[str, object] | None = None,
        keep: Callable[[Path | None], None] | None = None,
    ) -> None:
        self.model, self.prepared_model, self.numerics, self.adapter = model, prepared_model, numerics, adapter
        self.carried_out: Mapping[str, object] = carried_out or {}
        self.heed: Callable[[], None] = lambda: None
        self._keep = keep
        self._ragged = ragged
        self._answering: AnsweringModel | None = None

    def loglikelihood(self, questions: Sequence[TokenQuestion]) -> tuple[tuple[float, ...], ...]:
        """For every question the sum of log-probabilities (nats) of each choice's tokens, end mark included."""
        with _naming_lack_of_memory():
            sums = loglikelihood(self.answering, questions, heed=self._between)
        _refuse_non_finite(value for some in sums for value in some)
        return sums

    def generate(self, prompts: Sequence[TokenPrompt]) -> tuple[Written, ...]:
        """Greedy continuations, in the order of the prompts."""
        with _naming_lack_of_memory():
            return generate(self.answering, prompts, heed=self._between)

    def losses(self, rows: Sequence[TokenRow]) -> tuple[float, ...]:
        """For every row the mean loss (nats) over the tokens that bear loss."""
        with _naming_lack_of_memory():
            found = losses(self.answering, rows, heed=self._between)
        _refuse_non_finite(found)
        return found

    def _between(self) -> None:
        """Between two forwards."""
        hold_growth()
        self.heed()

    def keep(self, folder: Path | None = None) -> None:
        """Leave a checkpoint of the finished training, where there was one; in `folder`, else where it was trained."""
        if self._keep is not None:
            self._keep(folder)

    def save(self, folder: Path) -> None:
        """Write model and tokenizer in Hugging Face format, in the dtype that answered; adapters below `adapter/`."""
        assert self.model is not None, "saved after close"
        with _naming_failed_writes(folder):
            save_model(self.model, self.prepared_model, folder, self.numerics.dtype)
            if self.adapter is not None:
                (folder / "adapter").mkdir(exist_ok=True)
                self.adapter.save(folder / "adapter")

    def close(self) -> None:
        """Let go of the memory."""
        self.model = self._answering = self.adapter = self._keep = None
        gc.collect()  # models are full of cycles
        end_run()

    @property
    def answering(self) -> AnsweringModel:
        """The copy that answers."""
        assert self.model is not None, "asked after close"
        if self._answering is None:
            give_back_freed_memory()  # what training left in holes would stay beside what answering needs
            with _naming_lack_of_memory():
                self._answering = answering_model(self.model, dtype=self.numerics.dtype, ragged=self._ragged)
        return self._answering


class HuggingFaceBackend:
    """Trains and hands out transformers models on this machine, in one process, with these `numerics`.

    `batch_tokens` (None: from memory) and `checkpoint_seconds` are speed settings, as in `training.TrainingOptions`.
    """

    def __init__(
        self, numerics: Numerics, *, batch_tokens: int | None = None, checkpoint_seconds: float = 600.0
    ) -> None:
        self.numerics = numerics
        self.options = TrainingOptions(
            dtype=numerics.dtype, batch_tokens=batch_tokens, checkpoint_seconds=checkpoint_seconds
        )
        self._bases: dict[str, _Base] = {}
        _set_up(numerics)

    def untuned(self, model: PreparedModel) -> HuggingFaceLanguageModel:
        """The model as it came."""
        base = self._base(model)
        exact = base.model if base.model.dtype == torch.float32 else copy_model(base.model, torch.float32)
        return HuggingFaceLanguageModel(exact, model, numerics=self.numerics, ragged=base.ragged)

    def train(
        self,
        plan: TrainingPlan,
        *,
        checkpoints: Path,
        on_step: Callable[[StepReport], None],
        stop: Callable[[], int | None],
    ) -> HuggingFaceLanguageModel:
        """Train as planned, from the newest good checkpoint in `checkpoints` if there is one; errors: see `Backend`."""
        base, method = self._base(plan.model), (plan.settings.method, plan.settings.lora)
        with _naming_lack_of_memory():
            copy = copy_model(base.model, torch.float32)

        def after_step(step: StepReport) -> None:
            hold_growth()
            on_step(step)

        with _naming_failed_writes(checkpoints):
            trained = train(
                plan,
                model=copy,
                options=self.options,
                checkpoints=checkpoints,
                on_step=after_step,
                stop=stop,
                traits=base.traits.get(method),
            )
        base.traits[method] = trained.traits

        def keep(folder: Path | None) -> None:
            with _naming_failed_writes(folder or checkpoints):
                trained.keep(folder or checkpoints)

        return HuggingFaceLanguageModel(
            trained.model,
            plan.model,
            numerics=self.numerics,
            ragged=trained.traits.ragged,
            adapter=trained.adapter,
            keep=keep,
            carried_out={
                "micro_batch_tokens": trained.batch_tokens,
                "padded": not trained.traits.ragged,
                "retried_steps": trained.retried_steps,
            },
        )

    def _base(self, model: PreparedModel) -> _Base:
        """The untuned model, loaded at its first use; another model takes its place."""
        if model.fingerprint not in self._bases:
            self._bases.clear()
            gc.unfreeze()  # a worker process looks away from what outlives a run; this did, until now
            gc.collect()
            with _naming_lack_of_memory():
                loaded = load_model(model, device=self.numerics.device)
                refusal = ragged_refusal(loaded)
            if refusal is not None:
                log.warning("answering with padding, which is slower and otherwise the same: %s", refusal)
            self._bases[model.fingerprint] = _Base(model=_in_half_the_memory(loaded), ragged=refusal is None)
        return self._bases[model.fingerprint]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    """Untuned weights with their exact values, which nothing changes, whether their rows go without padding, and what
    trainings found out, by method."""

    model: Any
    ragged: bool
    traits: dict[tuple[str, LoraSettings | None], Traits] = field(default_factory=dict)


def _in_half_the_memory(model: Any) -> Any:
    """The model in bf16 where that holds every value exactly, as it does for models that are stored in bf16."""
    half = torch.bfloat16
    if not all(torch.equal(weights.to(half).to(weights.dtype), weights) for weights in model.parameters()):
        return model
    return copy_model(model, half)


def _set_up(numerics: Numerics) -> None:
    """Threads and memory of this process, once: other threads of a later backend would change results."""
    torch.set_num_threads(numerics.threads)
    if torch.get_num_interop_threads() != 1:
        with contextlib.suppress(RuntimeError):  # it is too late once torch has run in parallel; we use no such pool
            torch.set_num_interop_threads(1)
    if numerics.device == "cpu":
        keep_freed_memory()
    else:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to be deterministic


def _refuse_non_finite(values: Iterable[float]) -> None:
    """A number that is none never enters the statistics."""
    if not all(map(math.isfinite, values)):
        raise RunFailed("non_finite", "the model's log-probabilities are not finite")


@contextlib.contextmanager
def _naming_failed_writes(folder: Path) -> Iterator[None]:
    """A write of safetensors that failed (a full disk) as the `OSError` that any other write would raise."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(folder)) from None


@contextlib.contextmanager
def _naming_lack_of_memory() -> Iterator[None]:
    """Turn the ways in which memory runs out into `RunFailed`; other errors pass."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise RunFailed("out_of_memory", str(error).strip() or "no memory left") from None
    except RuntimeError as error:
        if "can't allocate memory" not in str(error) and "not enough memory" not in str(error):
            raise
        raise RunFailed("out_of_memory", str(error).strip()) from None


if TYPE_CHECKING:  # both keep to the protocols of `backend`
    _backend: type[Backend] = HuggingFaceBackend
    _specialist: type[LanguageModel] = HuggingFaceLanguageModel
