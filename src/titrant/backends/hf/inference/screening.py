"""The likeliest next token without float32 logits of the whole vocabulary.

A bf16 product with the head's weights packed once is twice as fast as one with float32 results, but its logits are
rounded: near 20 in steps of 1/8. So it only screens. Every token whose rounded logit lies so near the largest that it
could be the likeliest has its logit made again in float32, and the largest of those is taken.

Shapes: B rows, E hidden width, V vocabulary, C candidates of all rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from titrant.backends.hf.inference.model import AnsweringModel
from titrant.backends.hf.models.heads import head_is_plain

_RELATIVE, _ABSOLUTE = 1 / 64, 0.01  # two steps of bf16 at the size of the largest logit, and sums in another order
_AT_ONCE = 1 << 15  # candidates: where logits are flat, nearly every token is one
_BLOCK = 64  # the vocabulary is searched in blocks: few hold a candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadScreen:
    """A head that can be screened: its weights packed for bf16 products, and as they are for the candidates."""

    packed: torch.Tensor
    weight_VE: torch.Tensor
    bias_V: torch.Tensor | None

    def likeliest(self, hidden_BE: torch.Tensor) -> tuple[list[int], torch.Tensor]:
        """The likeliest token of every row, and its logit [B] in float32."""
        rows, vocabulary = len(hidden_BE), len(self.weight_VE)
        rough_BV = torch.ops.mkldnn._linear_pointwise(hidden_BE, self.packed, self.bias_V, "none", [], "")
        spare = -vocabulary % _BLOCK
        if spare:
            rough_BV = torch.nn.functional.pad(rough_BV, (0, spare), value=-torch.inf)
        blocks = rough_BV.view(rows, -1, _BLOCK)
        largest_of_blocks = blocks.amax(-1)
        largest_B1 = largest_of_blocks.amax(-1, keepdim=True).float()
        # Whatever lies below by more than rounding can explain cannot be the likeliest; all above is made again.
        floor_B1 = largest_B1 - largest_B1.abs() * _RELATIVE - _ABSOLUTE
        # First by the largest of each block: comparing every token of the vocabulary would cost more than the product
        # saves.
        row_N, block_N = (largest_of_blocks >= floor_B1).nonzero(as_tuple=True)
        where_N, inside = (blocks[row_N, block_N] >= floor_B1[row_N]).nonzero(as_tuple=True)
        row_C, token_C = row_N[where_N], block_N[where_N] * _BLOCK + inside
        parts = zip(row_C.split(_AT_ONCE), token_C.split(_AT_ONCE), strict=True)
        exact_C = torch.cat([self._exact(hidden_BE, rows, tokens) for rows, tokens in parts])
        best_B = torch.full((rows,), -torch.inf).scatter_reduce_(0, row_C, exact_C, "amax")
        is_best = exact_C >= best_B[row_C]
        # Of equal ones the first, as argmax has it. A row of NaN has no candidate, and keeps a token out of range.
        tokens_B = torch.full((rows,), vocabulary).scatter_reduce_(0, row_C[is_best], token_C[is_best], "amin")
        return tokens_B.tolist(), best_B

    def _exact(self, hidden_BE: torch.Tensor, row_C: torch.Tensor, token_C: torch.Tensor) -> torch.Tensor:
        """The logits [C] of these tokens in these rows, in float32."""
        exact_C = (hidden_BE[row_C].float() * self.weight_VE[token_C].to(hidden_BE.dtype).float()).sum(-1)
        return exact_C if self.bias_V is None else exact_C + self.bias_V[token_C].float()


def head_screen(answering: AnsweringModel) -> HeadScreen | None:
    """The screen of a bf16 model on a CPU whose head is one matrix without soft-capping; None for others."""
    model = answering.model
    head = model.get_output_embeddings()
    softcap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    if answering.device.type != "cpu" or not answering.ragged or softcap is not None or not _is_half(head):
        return None
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported() or not head_is_plain(model, softcap):
        return None
    packed = torch.ops.mkldnn._reorder_linear_weight(head.weight.data, 64)
    return HeadScreen(packed=packed, weight_VE=head.weight.data, bias_V=head.bias)


def _is_half(head: object) -> bool:
    return isinstance(head, torch.nn.Linear) and head.weight.dtype == torch.bfloat16
