"""Train a model as planned: the same rows in the same optimiser steps, however fast and in however small pieces.

Deterministic: no dropout, no sampling, all that is drawn (the adapters' first values) comes from the plan's seed. A
training that was killed and goes on from its checkpoint ends in the same bits as one that never stopped.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from titrant.backends.hf.models.allocator import give_back_freed_memory, keep_freed_memory
from titrant.backends.hf.training.adapters import Adapter, add_adapters, merge_adapters
from titrant.backends.hf.training.checkpoints import Checkpoint, newest_good_checkpoint, write_checkpoint
from titrant.backends.hf.training.forward import Forward, Traits, activation_bytes_per_token, forward_for
from titrant.backends.hf.training.loss import token_weights
from titrant.backends.hf.training.packing import first_fit_decreasing
from titrant.backends.hf.training.schedule import learning_rate_at
from titrant.backends.hf.training.shortcuts import shortcuts
from titrant.backends.hf.training.weights import TrainableWeights
from titrant.core.errors import Interrupted, RunFailed
from titrant.core.identity import fingerprint
from titrant.core.records import LoraSettings, StepReport, TokenRow, TrainingPlan
from titrant.core.revisions import REVISIONS

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """How training is carried out; nothing here changes what is learned beyond rounding.

    `batch_tokens` is the size of a micro-batch in tokens; None takes what `activation_bytes` hold by a count of what
    one token keeps alive, which is the same on every machine. `checkpoint_seconds` is the time between checkpoints.
    """

    dtype: Literal["bf16", "fp32"] = "bf16"
    batch_tokens: int | None = None
    activation_bytes: int = 9 << 27
    checkpoint_seconds: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A trained model: plain fp32 weights (adapters merged), the adapters by themselves, and how it was done.

    `retried_steps` are those that ran out of memory once and went through in smaller micro-batches. `keep` writes a
    checkpoint into a folder, from which the same training ends at once; for as long as the model's weights are those it
    ended with.
    """

    model: Any
    adapter: Adapter | None
    traits: Traits
    batch_tokens: int
    retried_steps: tuple[int, ...]
    keep: Callable[[Path], None]


def train(
    plan: TrainingPlan,
    *,
    model: Any,
    options: TrainingOptions,
    checkpoints: Path,
    on_step: Callable[[StepReport], None],
    stop: Callable[[], int | None],
    traits: Traits | None = None,
) -> Trained:
    """Train `model` (fp32, changed in place) as planned, from the newest good checkpoint in `checkpoints` if any.

    `traits` are those of an earlier training of this model by this method and in this dtype; None finds them out.

    `stop` is asked after every step; on a signal number a checkpoint is written and `Interrupted` raised. Raises
    `RunFailed`: `non_finite` before a step with such a loss or gradient is taken; `out_of_memory` when a step does not
    fit in half the micro-batch either. Threads are the caller's.
    """
    keep_freed_memory()
    give_back_freed_memory()  # what loading left: it would stay beside what training needs
    model.eval()  # no dropout: a rerun gives the same bits
    adapted = None
    if plan.settings.method == "lora":
        adapted = add_adapters(model, plan.settings.lora or LoraSettings(), seed=plan.seed)
        model = adapted.get_base_model()
    else:
        model.requires_grad_(True)
    with _reproducible(next(model.parameters()).device), shortcuts(model):
        forward = forward_for(model, traits)
        with _naming_lack_of_memory(step=None):
            weights = TrainableWeights(model, dtype=options.dtype, settings=plan.settings)
            batch_tokens, token_bytes = options.batch_tokens, traits.token_bytes if traits is not None else None
            if batch_tokens is None:
                token_bytes = token_bytes or activation_bytes_per_token(forward)
                batch_tokens = max(1, options.activation_bytes // token_bytes)
                log.info("micro-batches of %d tokens: %.2f MiB of activations each", batch_tokens, token_bytes / 2**20)
        training = _Training(plan, forward, weights, batch_tokens)
        training.run(options, checkpoints=checkpoints, on_step=on_step, stop=stop)
    # Masters back into the model before adapters are merged: merged in bf16, what an adapter adds would be rounded
    # away.
    weights.release()
    adapter = None
    if adapted is not None:
        model, adapter = merge_adapters(adapted)
    model.requires_grad_(False)
    return Trained(
        model=model,
        adapter=adapter,
        traits=Traits(ragged=forward.ragged, plain_head=forward.plain_head, token_bytes=token_bytes),
        batch_tokens=training.batch_tokens,
        retried_steps=tuple(training.retried_steps),
        keep=functools.partial(training.keep_final, name=training_fingerprint(plan, options)),
    )


def training_fingerprint(plan: TrainingPlan, options: TrainingOptions) -> str:
    """Names all that decides the bits of a training, so that it never goes on from another's checkpoint."""
    parts = {
        "revision": REVISIONS["training"],
        "model": plan.model.fingerprint,
        "rows": plan.rows,
        "steps": plan.steps,
        "settings": plan.settings,
        "seed": plan.seed,
        "dtype": options.dtype,
        "batch_tokens": options.batch_tokens,
        "activation_bytes": options.activation_bytes,
    }
    return fingerprint(parts)


class _Training:
    """A training in progress: where it stands, and how to take the next step."""

    def __init__(self, plan: TrainingPlan, forward: Forward, weights: TrainableWeights, batch_tokens: int) -> None:
        self.plan, self.forward, self.weights, self.batch_tokens = plan, forward, weights, batch_tokens
        self.retried_steps: list[int] = []

    def run(
        self,
        options: TrainingOptions,
        *,
        checkpoints: Path,
        on_step: Callable[[StepReport], None],
        stop: Callable[[], int | None],
    ) -> None:
        """Take all steps that are left, with checkpoints by time and on a signal."""
        name = training_fingerprint(self.plan, options)
        found = newest_good_checkpoint(checkpoints, fingerprint=name)
        if found is not None:
            self.weights.load_state(found.tensors, steps_taken=found.step)
            # With the micro-batches that it had come to: cut otherwise, sums are rounded otherwise, and the bits would
            # differ from a training that never stopped.
            self.batch_tokens = found.batch_tokens
            log.info("going on after step %d", found.step)
        written_at = time.monotonic()
        for step in range(self.weights.steps_taken + 1, len(self.plan.steps) + 1):
            on_step(self.take(step))
            signal_number = stop()
            # None after the last step: the run ends there anyhow, and `keep_final` writes what is to be kept.
            due = time.monotonic() - written_at >= options.checkpoint_seconds and step < len(self.plan.steps)
            if due or signal_number is not None:
                state = Checkpoint(step=step, batch_tokens=self.batch_tokens, tensors=self.weights.state())
                write_checkpoint(checkpoints, state, fingerprint=name)
                written_at = time.monotonic()
            if signal_number is not None:
                raise Interrupted(signal_number)

    def keep_final(self, folder: Path, name: str) -> None:
        """Write a checkpoint behind the last step."""
        state = Checkpoint(
            step=len(self.plan.steps), batch_tokens=self.batch_tokens, tensors=self.weights.final_state()
        )
        write_checkpoint(folder, state, fingerprint=name)

    def take(self, step: int) -> StepReport:
        """One optimiser step; its loss and gradient are checked before any weight moves."""
        started = time.monotonic()
        rows = [self.plan.rows[index] for index in self.plan.steps[step - 1]]
        # The whole gradient first, in as many micro-batches as memory needs; weights move once, when loss and norm are
        # known to be finite.
        losses = self._gradients_or_smaller(rows, step)
        loss = sum(losses)
        norm = self.weights.gradient_norm()
        if not torch.isfinite(torch.tensor([loss, norm])).all():
            raise RunFailed("non_finite", f"the loss is {loss} and the gradient's norm {norm}", step=step)
        learning_rate = learning_rate_at(step, len(self.plan.steps), self.plan.settings)
        self.weights.step(learning_rate=learning_rate, gradient_norm=norm)
        parts: dict[str, float] = {}
        for row, part in zip(rows, losses, strict=True):
            parts[row.source] = parts.get(row.source, 0.0) + part
        return StepReport(
            step=step,
            loss=loss,
            loss_by_source=tuple(sorted(parts.items())),
            gradient_norm=norm,
            learning_rate=learning_rate,
            tokens=sum(len(row.ids) for row in rows),
            seconds=time.monotonic() - started,
        )

    def _gradients_or_smaller(self, rows: Sequence[TokenRow], step: int) -> list[float]:
        """`_gradients`, with one more try in micro-batches of half the size when memory does not suffice."""
        try:
            with _naming_lack_of_memory(step=step):
                return self._gradients(rows, step)
        except RunFailed as failure:
            if failure.kind != "out_of_memory":
                raise
            # Half of what the step really took: half of a budget larger than the step would cut nothing.
            largest = min(self.batch_tokens, sum(len(row.ids) for row in rows))
            self.batch_tokens = max(1, largest // 2)
            self.retried_steps.append(step)
            log.warning("out of memory at step %d: again with micro-batches of %d tokens", step, self.batch_tokens)
        self.weights.clear_gradients()
        with _naming_lack_of_memory(step=step):
            return self._gradients(rows, step)

    def _gradients(self, rows: Sequence[TokenRow], step: int) -> list[float]:
        """Put the whole step's gradient into the weights; every row's weighted part of the loss, in the rows' order."""
        self.weights.clear_gradients()
        # Weights of the whole step, before it is cut: a mean over each micro-batch would make a row count by the rows
        # that it happens to share memory with.
        weights = token_weights(rows, self.plan.settings.loss_weight)
        packs = first_fit_decreasing([len(row.ids) for row in rows], self.batch_tokens)
        parts = [0.0] * len(rows)
        for pack in packs:
            losses_P = self.forward.losses([rows[index] for index in pack])
            counts = [rows[index].loss_tokens for index in pack]
            # A weight a row, repeated for each of its answer tokens, as the losses come.
            weights_P = torch.tensor([weights[index] for index in pack]).repeat_interleave(torch.tensor(counts))
            weighted_P = losses_P * weights_P.to(losses_P.device)
            # Reported losses are summed in float64 and row by row, so that how the step was cut hardly moves them.
            sums = torch.stack([part.sum() for part in weighted_P.detach().double().split(counts)]).tolist()
            for index, part in zip(pack, sums, strict=True):
                parts[index] = part
            # Gradients of micro-batches add up to that of the step, as weights are already those of the step: nothing
            # is divided here.
            weighted_P.sum().backward()
            if len(packs) > 1:
                self.weights.add_micro_batch()
        return parts


@contextlib.contextmanager
def _naming_lack_of_memory(*, step: int | None) -> Iterator[None]:
    """Turn the ways in which memory runs out into `RunFailed`; other errors pass."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise RunFailed("out_of_memory", str(error).strip() or "no memory left", step=step) from None
    except RuntimeError as error:
        if "can't allocate memory" not in str(error) and "not enough memory" not in str(error):
            raise
        raise RunFailed("out_of_memory", str(error).strip(), step=step) from None


@contextlib.contextmanager
def _reproducible(device: torch.device) -> Iterator[None]:
    """Deterministic kernels, and no time lost on numbers too small for fp32's normal range; set back afterwards."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")
    torch.utils.deterministic.fill_uninitialized_memory = False  # we read nothing that we did not write
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.utils.deterministic.fill_uninitialized_memory = filled
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
