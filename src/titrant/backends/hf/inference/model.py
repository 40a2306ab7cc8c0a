"""A model to answer with.

In bf16 a logit has 8 bits of mantissa: near 20 it moves in steps of 1/8, and close choices tie or swap. Hidden states
stay bf16, but the head's product is summed and given in float32. It is the model's own head module that does so, and
whatever the model does with its logits afterwards (soft-capping, scaling) is its own code, now on float32.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from titrant.backends.hf.models.ragged import ragged_refusal

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LOGIT_BYTES = 256 << 20  # float32 logits of one forward
_TYPICAL_ROWS = 64  # tokens of a product that packed weights are laid out for
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweringModel:
    """`ragged`: rows go end to end without padding, else padded. `logit_rows`: how many rows of logits a forward may
    have at once."""

    model: Any
    ragged: bool
    logit_rows: int

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        device: torch.device = next(self.model.parameters()).device
        return device


def answering_model(
    model: PreTrainedModel, *, dtype: Literal["bf16", "fp32"], ragged: bool | None = None
) -> AnsweringModel:
    """`model` (float32, left as it is) as one that answers in `dtype`. In fp32 it is the same model, not a copy.

    `ragged`: whether rows of this architecture go without padding, where that is known; None finds out by trying.
    """
    from titrant.backends.hf.models.load import copy_model

    answering: Any = model
    if dtype == "bf16":
        answering = copy_model(model, torch.bfloat16)
        head, wide = answering.get_output_embeddings(), model.get_output_embeddings()
        # Only the head's product is summed and given in float32: 8 bits of mantissa in a logit cannot tell close
        # choices apart.
        if isinstance(head, torch.nn.Linear):
            head.forward = functools.partial(_wide_logits, wide)
        _pack_linear_layers(answering)
    answering.eval()
    if ragged is None:
        refusal = ragged_refusal(answering)
        ragged = refusal is None
        if refusal is not None:
            log.warning("answering with padding, which is slower and otherwise the same: %s", refusal)
    vocabulary = int(answering.get_input_embeddings().num_embeddings)
    return AnsweringModel(model=answering, ragged=ragged, logit_rows=max(1, LOGIT_BYTES // (4 * vocabulary)))


def _pack_linear_layers(model: torch.nn.Module) -> None:
    """Put the weights of linear layers, but the head's, into the order that oneDNN's products read (a CPU's bf16 only).

    A plain product reorders them at every call, which costs a step of 64 tokens a tenth to a third of its time. The
    same products, the same bits. The layers keep a weight of the right shape and type that holds no memory.
    """
    if next(model.parameters()).device.type != "cpu" or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return
    head = model.get_output_embeddings()
    for layer in model.modules():
        if type(layer) is torch.nn.Linear and layer is not head:
            packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.data, _TYPICAL_ROWS)
            layer.forward = functools.partial(_packed_linear, packed, layer.bias)
            layer.weight.data = layer.weight.new_zeros(1).expand(layer.weight.shape)


def _packed_linear(packed: torch.Tensor, bias: torch.Tensor | None, hidden: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(hidden, packed, bias, "none", [], "")
    return out


def _wide_logits(head: torch.nn.Linear, hidden: torch.Tensor) -> torch.Tensor:
    """The logits in float32 of bf16 hidden states. `head` holds float32 weights; on a CPU with bf16 products they are
    rounded inside the product, whose sums are float32: twice the speed, and the weights that a bf16 copy would have."""
    shape = hidden.shape
    with _bf16_products(hidden.device):
        logits = torch.mm(hidden.reshape(-1, shape[-1]).float(), head.weight.t())
    if head.bias is not None:
        logits = logits + head.bias
    return logits.view(*shape[:-1], -1)


@contextlib.contextmanager
def _bf16_products(device: torch.device) -> Iterator[None]:
    """Within it, float32 products on a CPU may round their factors to bf16."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cpu":
        torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
