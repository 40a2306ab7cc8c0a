"""The loss of answer tokens, with the head run at their positions only and full logits never all alive.

`token_weights` says what every answer token counts for in a step; `answer_losses` gives their losses from the hidden
states in front of them. Between hidden states and loss lie a matrix of vocabulary size and its softmax, which dominate
memory at 262k entries: they are made in chunks of the vocabulary, and made again in the backward pass.

Shapes: P answer positions, E hidden width, V vocabulary, C one chunk of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from titrant.backends.hf.models.allocator import lasting_like
from titrant.core.records import LossWeight, TokenRow

KEPT_BYTES = 256 << 20  # probabilities up to this size are kept for the backward pass instead of made again
CHUNK_BYTES = 32 << 20  # logits of one chunk of the vocabulary
OWN_PAGES_BYTES = 128 << 20  # a gradient of the head of this size and more lies outside the heap
BLOCK_ELEMENTS = 1 << 20  # the softmax works on blocks of rows that stay in the cache


def token_weights(rows: Sequence[TokenRow], loss_weight: LossWeight) -> tuple[float, ...]:
    """What each answer token of each row counts for in the loss of one optimiser step that these rows share.

    `row`: every row's mean answer loss weighs 1 / rows. `token`: every answer token of the step weighs the same. The
    step's loss is the weighted sum, over all its micro-batches, and is never divided again.

    >>> rows = [TokenRow(key=k, source="s", ids=(1,) * 9, loss_from=f) for k, f in (("a", 8), ("b", 6))]
    >>> token_weights(rows, "row"), token_weights(rows, "token")
    ((0.5, 0.16666666666666666), (0.25, 0.25))
    """
    if loss_weight == "row":
        return tuple(1.0 / (len(rows) * row.loss_tokens) for row in rows)
    total = sum(row.loss_tokens for row in rows)
    return tuple(1.0 / total for _ in rows)


def answer_losses(
    hidden_PE: torch.Tensor,
    head_VE: torch.Tensor,
    bias_V: torch.Tensor | None,
    targets_P: torch.Tensor,
    *,
    softcap: float | None = None,
) -> torch.Tensor:
    """The loss [P] in nats (fp32) of every target under the head's logits, soft-capped where the model does so."""
    losses_P: torch.Tensor = _AnswerLosses.apply(hidden_PE, head_VE, bias_V, targets_P, softcap)
    return losses_P


class _AnswerLosses(torch.autograd.Function):  # type: ignore[misc]
    """Losses by chunks of the vocabulary.

    A chunk's share of the head's gradient is one whole product, so nothing of vocabulary size is added up; only the
    hidden states' gradient is, in fp32. With few positions there is one chunk, and its probabilities are kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_PE: torch.Tensor,
        head_VE: torch.Tensor,
        bias_V: torch.Tensor | None,
        targets_P: torch.Tensor,
        softcap: float | None,
    ) -> torch.Tensor:
        chunks = _chunks(len(hidden_PE), len(head_VE), hidden_PE.element_size(), softcap)
        normaliser_P = torch.full(targets_P.shape, -torch.inf, dtype=torch.float32, device=hidden_PE.device)
        target_P = torch.zeros_like(normaliser_P)
        kept = None
        # The softmax over all of the vocabulary in one pass over its chunks: the running log of the sum of
        # exponentials, and the target's logit from the chunk that holds it.
        for start, stop in chunks:
            logits_PC = _logits(hidden_PE, head_VE, bias_V, start, stop, softcap)
            inside_P = (targets_P >= start) & (targets_P < stop)
            # Targets of other chunks are clamped to a valid index and thrown away by `where`: no data-dependent shapes.
            local_P = (targets_P - start).clamp(0, stop - start - 1)
            target_P = torch.where(inside_P, logits_PC.gather(1, local_P[:, None])[:, 0].float(), target_P)
            normaliser_P = torch.logaddexp(normaliser_P, _softmax_(logits_PC))
            kept = logits_PC
        losses_P = normaliser_P - target_P
        # `_softmax_` has turned logits into probabilities in place, so with one chunk the last buffer holds all that
        # the backward needs. A soft cap needs the capped logits too, so those are made again.
        single = len(chunks) == 1 and softcap is None
        ctx.save_for_backward(hidden_PE, head_VE, bias_V, targets_P, normaliser_P, losses_P, kept if single else None)
        ctx.chunks, ctx.softcap = chunks, softcap
        return losses_P

    @staticmethod
    def backward(ctx: Any, grad_P: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden_PE, head_VE, bias_V, targets_P, normaliser_P, losses_P, kept = ctx.saved_tensors
        grad_head = _like_head(head_VE) if ctx.needs_input_grad[1] else None
        grad_bias = torch.empty_like(bias_V) if bias_V is not None and ctx.needs_input_grad[2] else None
        grad_hidden = torch.zeros_like(hidden_PE, dtype=torch.promote_types(hidden_PE.dtype, torch.float32))
        for start, stop in ctx.chunks:
            scale_P, capped = grad_P, None
            if kept is None:
                logits_PC = _logits(hidden_PE, head_VE, bias_V, start, stop, ctx.softcap)
                capped = None if ctx.softcap is None else logits_PC.clone()
                # Probabilities within the chunk times the chunk's share of the whole sum are those of the whole
                # softmax.
                scale_P = grad_P * torch.exp(_softmax_(logits_PC) - normaliser_P)
            else:
                logits_PC = kept
            slope_PC = logits_PC.mul_(scale_P[:, None].to(logits_PC.dtype))
            # The target's slope is (p - 1) * grad; from the loss in fp32, for p may round to 1 in bf16.
            inside = ((targets_P >= start) & (targets_P < stop)).nonzero()[:, 0]
            at_target = torch.expm1(-losses_P[inside]) * grad_P[inside]
            slope_PC[inside, targets_P[inside] - start] = at_target.to(slope_PC.dtype)
            if capped is not None:
                # The slope of softcap * tanh(x / softcap) is 1 - tanh(x / softcap)^2, and the capped logit is softcap *
                # tanh already.
                slope_PC.mul_(1 - (capped / ctx.softcap).square_())
            if grad_head is not None:
                torch.mm(slope_PC.t(), hidden_PE, out=grad_head[start:stop])
            if grad_bias is not None:
                grad_bias[start:stop] = slope_PC.sum(0)
            grad_hidden += slope_PC @ head_VE[start:stop]
        return grad_hidden.to(hidden_PE.dtype), grad_head, grad_bias, None, None


def _like_head(head_VE: torch.Tensor) -> torch.Tensor:
    """Memory for the head's gradient. A large one has pages of its own: it comes and goes with every micro-batch, and
    by the next one smaller things have moved into the hole that it left in the heap."""
    if head_VE.nbytes < OWN_PAGES_BYTES:
        return torch.empty_like(head_VE)
    return lasting_like({"head": head_VE}, head_VE.dtype)["head"]


def _chunks(positions: int, vocabulary: int, element_bytes: int, softcap: float | None) -> list[tuple[int, int]]:
    """Ranges of the vocabulary, each small enough; one range where the probabilities may be kept."""
    # One product over the whole vocabulary is fastest and spares making logits a second time, as long as it fits;
    # beyond that, pieces that stay near the cache.
    total_bytes = positions * vocabulary * element_bytes
    if total_bytes <= (KEPT_BYTES if softcap is None else CHUNK_BYTES):
        return [(0, vocabulary)]
    width = max(1, CHUNK_BYTES // (positions * element_bytes))
    return [(start, min(start + width, vocabulary)) for start in range(0, vocabulary, width)]


def _logits(
    hidden_PE: torch.Tensor,
    head_VE: torch.Tensor,
    bias_V: torch.Tensor | None,
    start: int,
    stop: int,
    softcap: float | None,
) -> torch.Tensor:
    bias_C = None if bias_V is None else bias_V[start:stop]
    logits_PC = torch.nn.functional.linear(hidden_PE, head_VE[start:stop], bias_C)
    return logits_PC if softcap is None else logits_PC.div_(softcap).tanh_().mul_(softcap)


def _softmax_(logits_PC: torch.Tensor) -> torch.Tensor:
    """Turn logits into probabilities within the chunk, in place; the log of the sum of exponentials [P] in fp32.

    The likeliest entry has a probability of at least 1 / C, so its logarithm is safe, and gives the sum.
    """
    sums = []
    for block in logits_PC.split(max(1, BLOCK_ELEMENTS // logits_PC.shape[1])):
        wide = block.float() if block.dtype in (torch.bfloat16, torch.float16) else block
        probabilities = torch.softmax(wide, dim=1)
        # log sum exp = largest logit - log of its probability: one softmax kernel gives both.
        sums.append(wide.amax(1).float() - probabilities.amax(1).float().log())
        block.copy_(probabilities)
    return torch.cat(sums)
