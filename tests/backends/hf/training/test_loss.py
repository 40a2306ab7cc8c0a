"""The chunked loss is the plain loss, and weighting follows hand-worked numbers."""

import pytest
import torch

from titrant.backends.hf.training import loss
from titrant.backends.hf.training.loss import answer_losses, token_weights
from titrant.core.records import TokenRow


def plain_losses(hidden, head, bias, targets, softcap):
    logits = torch.nn.functional.linear(hidden, head, bias)
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("chunk_bytes", [1 << 20, 7 * 5 * 4, 1])
def test_chunks_change_neither_losses_nor_gradients(
    softcap: float | None, with_bias: bool, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "KEPT_BYTES", chunk_bytes)
    monkeypatch.setattr(loss, "CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr(loss, "BLOCK_ELEMENTS", 64)
    generator = torch.Generator().manual_seed(0)
    hidden, head, bias = (torch.randn(shape, generator=generator) for shape in ((7, 6), (31, 6), (31,)))
    targets = torch.randint(31, (7,), generator=generator)
    weights = torch.rand(7, generator=generator)
    results = []
    for function in (lambda *four: answer_losses(*four, softcap=softcap), lambda *four: plain_losses(*four, softcap)):
        leaves = [part.clone().requires_grad_() for part in (hidden, head, bias)]
        losses = function(leaves[0], leaves[1], leaves[2] if with_bias else None, targets)
        (losses * weights).sum().backward()
        results.append((losses, leaves[0].grad, leaves[1].grad, *([leaves[2].grad] if with_bias else [])))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_certain_target_in_bf16_still_has_a_slope() -> None:
    """With p = 0.9990 the probability rounds to 1 in bf16; the slope must not vanish with it."""
    hidden = torch.tensor([[1.0]], dtype=torch.bfloat16, requires_grad=True)
    head = torch.tensor([[7.0], [0.0]], dtype=torch.bfloat16)
    answer_losses(hidden, head, None, torch.tensor([0])).sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.item() == pytest.approx(-7.0 * torch.sigmoid(torch.tensor(-7.0)).item(), rel=0.1)


def test_huge_logits_give_finite_losses() -> None:
    losses = answer_losses(torch.tensor([[1.0]]), torch.tensor([[1e4], [0.0]]), None, torch.tensor([1]))
    assert losses.item() == pytest.approx(1e4)


def row(loss_tokens: int) -> TokenRow:
    return TokenRow(key=str(loss_tokens), source="s", ids=(1,) * (loss_tokens + 2), loss_from=2)


def test_row_weighting_by_hand() -> None:
    """Losses 2 and 4 in the first row, 9 in the second: means 3 and 9, so 6."""
    first, second = token_weights([row(2), row(1)], "row")
    assert first * (2 + 4) + second * 9 == pytest.approx(6.0)


def test_token_weighting_by_hand() -> None:
    """The same three losses, each weighing a third: 5."""
    first, second = token_weights([row(2), row(1)], "token")
    assert first * (2 + 4) + second * 9 == pytest.approx(5.0)
