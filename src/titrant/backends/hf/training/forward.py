"""From rows to the losses of their answer tokens, by the fastest way that is right for the model.

Two questions are asked of every model once, and answered by trying: can its rows go without padding, and is its head a
plain matrix (soft-capped or not) over its last hidden states? A no costs speed, never the treatment, and is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from titrant.backends.hf.models.heads import head_is_plain
from titrant.backends.hf.models.prefixes import LaidOut, lay_out
from titrant.backends.hf.models.ragged import ragged_hidden, ragged_logits, ragged_refusal
from titrant.backends.hf.training.loss import answer_losses
from titrant.core.records import TokenRow

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """How one model is run. `ragged`: rows end to end, else padded. `plain_head`: loss in chunks, else own logits."""

    model: Any
    ragged: bool
    plain_head: bool
    softcap: float | None

    def losses(self, rows: Sequence[TokenRow]) -> torch.Tensor:
        """The losses (nats, fp32) of all answer tokens of these rows, row after row, with their gradient."""
        device = next(self.model.parameters()).device
        targets_P = torch.tensor([token for row in rows for token in row.ids[row.loss_from :]], device=device)
        if self.plain_head:
            hidden_PE = self._hidden(rows, device)
            head = self.model.get_output_embeddings()
            return answer_losses(hidden_PE, head.weight, head.bias, targets_P, softcap=self.softcap)
        logits_PV = self._logits(rows, device)
        return torch.nn.functional.cross_entropy(logits_PV.float(), targets_P, reduction="none")

    def _hidden(self, rows: Sequence[TokenRow], device: torch.device) -> torch.Tensor:
        """Last hidden states in front of all answer tokens."""
        if self.ragged:
            # On a GPU the kernels for rows of many lengths know nothing of shared beginnings.
            laid, positions_P = _end_to_end(rows, share=device.type == "cpu")
            hidden_TE = ragged_hidden(self.model, torch.tensor(laid.ids, device=device), laid.layout)
            return hidden_TE.index_select(0, positions_P.to(device))
        ids, positions_P = _padded(rows)
        hidden: torch.Tensor = self.model.base_model(**_padded_inputs(ids.to(device), rows)).last_hidden_state
        return hidden.flatten(0, 1).index_select(0, positions_P.to(device))

    def _logits(self, rows: Sequence[TokenRow], device: torch.device) -> torch.Tensor:
        """The model's own logits in front of all answer tokens."""
        if self.ragged:
            laid, positions_P = _end_to_end(rows, share=device.type == "cpu")
            return ragged_logits(self.model, torch.tensor(laid.ids, device=device), laid.layout, positions_P.to(device))
        ids, positions_P = _padded(rows)
        logits: torch.Tensor = self.model(**_padded_inputs(ids.to(device), rows)).logits
        return logits.flatten(0, 1).index_select(0, positions_P.to(device))


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What was found out about a model by trying: the same for every training of it by one method, whatever its
    weights. `token_bytes`: what a token's activations keep alive, by `activation_bytes_per_token`, where counted."""

    ragged: bool
    plain_head: bool
    token_bytes: int | None


def forward_for(model: Any, traits: Traits | None = None) -> Forward:
    """How the model can be run; what is not known from an earlier training is tried out, and logged where it cannot."""
    softcap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    if traits is not None:
        return Forward(model=model, ragged=traits.ragged, plain_head=traits.plain_head, softcap=softcap)
    refusal = ragged_refusal(model)
    if refusal is not None:
        log.warning("training with padding, which is slower and otherwise the same: %s", refusal)
    plain_head = head_is_plain(model, softcap)
    if not plain_head:
        log.warning("%s makes its logits in its own way: the loss is not cut into chunks", type(model).__name__)
    return Forward(model=model, ragged=refusal is None, plain_head=plain_head, softcap=softcap)


def activation_bytes_per_token(forward: Forward, *, probe_tokens: int = 128) -> int:
    """Bytes that one token's activations keep alive between forward and backward, counted in a forward of one row.

    Counted from what autograd saves, weights left out, so the number is the same on every run and machine.
    """
    vocabulary = forward.model.get_input_embeddings().num_embeddings
    ids = tuple((index * 7919 + 11) % vocabulary for index in range(probe_tokens))
    row = TokenRow(key="eval_set", source="eval_set", ids=ids, loss_from=probe_tokens - 1)
    weights = {parameter.untyped_storage().data_ptr() for parameter in forward.model.parameters()}
    # By storage, as several saved tensors can be views of one.
    saved: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        # A hook that returns the tensor itself makes a reference cycle through the graph that the garbage collector
        # does not see: the whole model would never be freed.
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        losses = forward.losses([row])
    del losses
    return max(1, sum(saved.values()) // probe_tokens)


# ------------------------------------------------------------------------------------------------------------- helpers


def _end_to_end(rows: Sequence[TokenRow], *, share: bool) -> tuple[LaidOut, torch.Tensor]:
    """Rows without padding, and where in the sequence the tokens in front of answer tokens are, row after row.

    The last token of a row predicts nothing and is left out.
    """
    laid = lay_out([row.ids[:-1] for row in rows], share=share)
    places = [place[row.loss_from - 1 :] for place, row in zip(laid.places, rows, strict=True)]
    return laid, torch.from_numpy(np.concatenate(places))


def _padded(rows: Sequence[TokenRow]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids [rows, longest], and the flat indices of the tokens in front of answer tokens, row after row."""
    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + (0,) * (longest - len(row.ids)) for row in rows])
    starts = range(0, longest * len(rows), longest)
    places = [
        torch.arange(start + row.loss_from - 1, start + len(row.ids) - 1)
        for start, row in zip(starts, rows, strict=True)
    ]
    return ids, torch.cat(places)


def _padded_inputs(ids: torch.Tensor, rows: Sequence[TokenRow]) -> dict[str, Any]:
    lengths = torch.tensor([len(row.ids) for row in rows], device=ids.device)
    mask = (torch.arange(ids.shape[1], device=ids.device)[None] < lengths[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask, "use_cache": False}
