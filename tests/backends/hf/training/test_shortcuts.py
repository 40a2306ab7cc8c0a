"""The shorter ways back give autograd's gradients, or is not taken."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch

from titrant.backends.hf.training import shortcuts as module
from titrant.backends.hf.training.shortcuts import shortcuts


def gradients(model: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.requires_grad_(True)
    model.zero_grad()
    ids = torch.arange(3, 60)[None]
    logits = model(input_ids=ids, use_cache=False).logits
    logits.float().log_softmax(-1)[..., 7].sum().backward()
    return logits.detach().clone(), {name: part.grad.clone() for name, part in model.named_parameters()}


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3", "mistral", "phi3"])
def test_logits_are_the_same_bits_and_gradients_those_of_autograd(
    toy: Callable[[str], Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK_ELEMENTS", 96)  # several blocks, the last one smaller
    model = toy(name)
    logits, slopes = gradients(model)
    with shortcuts(model) as taken:
        again, ours = gradients(model)
    norms = sum("norm" in part.lower() and not list(one.children()) for part, one in model.named_modules())
    gated = sum(hasattr(one, "gate_proj") for one in model.modules())  # Phi-3 has a layer of its own for both
    assert taken == norms + gated + 1  # and the embedding
    assert gated or name == "phi3"
    assert torch.equal(again, logits)
    for part, slope in slopes.items():
        assert float((ours[part] - slope).norm() / slope.norm()) < 1e-5, part


def test_bf16_gradients_are_as_near_to_fp32_as_autograds(toy: Callable[[str], Any]) -> None:
    _, exact = gradients(toy("llama"))
    half = toy("llama").to(torch.bfloat16)
    _, theirs = gradients(half)
    with shortcuts(half):
        _, ours = gradients(half)

    def distance(found: dict[str, torch.Tensor]) -> float:
        return float(sum((found[part].float() - slope).norm() / slope.norm() for part, slope in exact.items()))

    assert distance(ours) < 1.1 * distance(theirs)


def test_a_module_of_another_formula_keeps_autograds_way() -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.eps = torch.nn.Parameter(torch.ones(8)), 1e-6

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return self.weight * hidden * torch.rsqrt(hidden.abs().mean(-1, keepdim=True) + self.eps)

    with shortcuts(torch.nn.Sequential(Twice())) as taken:
        assert taken == 0


def test_the_modules_own_forward_comes_back_also_after_an_error(toy: Callable[[str], Any]) -> None:
    model = toy("llama")

    def fail() -> None:
        with shortcuts(model):
            assert any("forward" in vars(part) for part in model.modules())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not any("forward" in vars(part) for part in model.modules())


@pytest.mark.parametrize("tied", [True, False])
def test_an_embedding_adds_its_rows_to_the_gradient_that_is_there(toy: Callable[[str], Any], tied: bool) -> None:
    """Tokens that repeat, several backward passes that add up, and a head that has its own weights or the same."""
    model = toy("llama" if tied else "mistral")
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied
    found = []
    for short in (False, True):
        model.requires_grad_(True)
        model.zero_grad()
        with shortcuts(model) if short else contextlib.nullcontext():
            for ids in ([[5, 5, 9, 5, 0]], [[9, 70, 5]]):
                model(input_ids=torch.tensor(ids), use_cache=False).logits.square().sum().backward()
        found.append(model.get_input_embeddings().weight.grad.clone())
    assert float((found[1] - found[0]).norm() / found[0].norm()) < 1e-6


def test_frozen_norms_get_no_gradient(toy: Callable[[str], Any]) -> None:
    model = toy("llama")
    with shortcuts(model):
        model.requires_grad_(False)
        model.get_input_embeddings().requires_grad_(True)
        model(input_ids=torch.arange(5)[None]).logits.sum().backward()
    assert model.get_input_embeddings().weight.grad is not None
    assert all(part.grad is None for name, part in model.named_parameters() if "norm" in name)
