"""A screened head names the token that float32 logits name."""

from dataclasses import replace

import pytest
import torch

from titrant.backends.hf.inference import answering_model, generate
from titrant.backends.hf.inference.screening import HeadScreen, head_screen
from titrant.core.errors import RunFailed

pytestmark = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bf16 products to screen with"
)


def screen_of(weight_VE: torch.Tensor, bias_V: torch.Tensor | None = None) -> HeadScreen:
    return HeadScreen(packed=torch.ops.mkldnn._reorder_linear_weight(weight_VE, 64), weight_VE=weight_VE, bias_V=bias_V)


@pytest.mark.parametrize("size", [0.01, 1.0, 20.0])
@pytest.mark.parametrize("vocabulary", [64, 1000, 4099])
def test_the_token_is_that_of_float32_logits(vocabulary: int, size: float) -> None:
    generator = torch.Generator().manual_seed(vocabulary)
    hidden_BE = torch.randn(33, 96, generator=generator).bfloat16()
    weight_VE = (torch.randn(vocabulary, 96, generator=generator) * size / 10).bfloat16()
    exact = hidden_BE.double() @ weight_VE.double().t()
    tokens, logits_B = screen_of(weight_VE).likeliest(hidden_BE)
    assert tokens == exact.argmax(-1).tolist()
    assert torch.allclose(logits_B.double(), exact.amax(-1), rtol=1e-5)


def test_logits_that_bf16_cannot_tell_apart_are_told_apart() -> None:
    """Token 5 leads by a hundredth of a step of bf16; tokens that tie go to the first."""
    weight_VE = torch.zeros(300, 8).bfloat16()
    weight_VE[3:8, 0] = 20.0
    weight_VE[5, 1] = 0.00125
    hidden_BE = torch.ones(1, 8).bfloat16()
    assert len(set((hidden_BE @ weight_VE.t())[0, 3:8].tolist())) == 1
    assert screen_of(weight_VE).likeliest(hidden_BE)[0] == [5]
    weight_VE[5, 1] = 0.0
    assert screen_of(weight_VE).likeliest(hidden_BE)[0] == [3]


def test_a_rough_logit_may_be_a_step_of_bf16_off_either_way() -> None:
    """Sums in bf16 products come in an order of their own. Here the rough logit of the likeliest is a step low."""
    weight_VE = torch.zeros(300, 8).bfloat16()
    weight_VE[:, 0] = 18.0
    weight_VE[7, 0], weight_VE[90, 0] = 20.0, 19.875
    rough_VE = weight_VE.clone()
    rough_VE[7, 0], rough_VE[90, 0] = 19.875, 20.0
    screen = replace(screen_of(weight_VE), packed=torch.ops.mkldnn._reorder_linear_weight(rough_VE, 64))
    tokens, logits_B = screen.likeliest(torch.eye(8)[:1].bfloat16())
    assert tokens == [7]
    assert logits_B.tolist() == [20.0]


def test_a_bias_counts_and_negative_logits_too() -> None:
    weight_VE, bias_V = torch.zeros(70, 4).bfloat16(), torch.full((70,), -9.0).bfloat16()
    bias_V[68] = -8.0
    tokens, logits_B = screen_of(weight_VE, bias_V).likeliest(torch.ones(2, 4).bfloat16())
    assert tokens == [68, 68]
    assert logits_B.tolist() == [-8.0, -8.0]


def test_text_is_that_of_all_logits(toy_model, prompts, monkeypatch: pytest.MonkeyPatch) -> None:
    answering = answering_model(toy_model, dtype="bf16", ragged=True)
    with torch.inference_mode():
        assert head_screen(answering) is not None
        assert head_screen(answering_model(toy_model, dtype="fp32", ragged=True)) is None
    screened = generate(answering, prompts)

    def by_all_logits(screen: HeadScreen, hidden_BE: torch.Tensor) -> tuple[list[int], torch.Tensor]:
        logits_BV = hidden_BE.float() @ screen.weight_VE.float().t()
        return logits_BV.argmax(-1).tolist(), logits_BV.amax(-1)

    monkeypatch.setattr(HeadScreen, "likeliest", by_all_logits)
    assert generate(answering, prompts) == screened


def test_a_model_that_diverged_is_named_under_a_screen_too(llama, prompts) -> None:
    answering = answering_model(llama, dtype="bf16", ragged=True)
    broken = answering.model.get_input_embeddings().weight
    before = broken.data.clone()
    broken.data.fill_(torch.nan)
    try:
        with pytest.raises(RunFailed, match="not finite"):
            generate(answering, [replace(prompts[-1], max_new_tokens=3)])
    finally:
        broken.data.copy_(before)
