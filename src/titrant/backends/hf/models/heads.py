"""What a model's head is: where one matrix turns last hidden states into logits, it can be run by other ways than the
model's own forward."""

from __future__ import annotations

from typing import Any

import torch


def head_is_plain(model: Any, softcap: float | None) -> bool:
    """Whether the head's matrix over the last hidden states gives the model's logits, soft-capping included: tried."""
    head = model.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        return False
    ids = (torch.arange(8, device=head.weight.device) * 7919 + 11)[None] % model.get_input_embeddings().num_embeddings
    with torch.no_grad():
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        logits = head(hidden)
        if softcap is not None:
            logits = torch.tanh(logits / softcap) * softcap
        theirs = model(input_ids=ids, use_cache=False).logits
    tolerance = 1e-4 if head.weight.dtype == torch.float32 else 2e-2
    return bool(torch.allclose(logits.float(), theirs.float(), rtol=tolerance, atol=tolerance, equal_nan=True))
