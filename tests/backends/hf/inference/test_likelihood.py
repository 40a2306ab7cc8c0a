"""Choices and answers have the likelihoods that plain forwards give them."""

import math
from dataclasses import replace

import pytest
import torch

from titrant.backends.hf.inference import answering_model, generate, loglikelihood, losses
from titrant.core.records import TokenQuestion


def plain_sum(model, prompt: tuple[int, ...], answer: tuple[int, ...]) -> float:
    """One forward of transformers' own, one row."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + answer])).logits[0].double()
    logprobs = torch.log_softmax(logits, -1)
    return sum(float(logprobs[len(prompt) - 1 + place, token]) for place, token in enumerate(answer))


def test_choices_equal_one_forward_each(toy_model, questions) -> None:
    answering = answering_model(toy_model, dtype="fp32")
    assert answering.ragged
    for question, sums in zip(questions, loglikelihood(answering, questions), strict=True):
        for choice, found in zip(question.choices, sums, strict=True):
            assert math.isclose(found, plain_sum(toy_model, question.prompt, choice), rel_tol=1e-5, abs_tol=1e-5)


def test_losses_equal_one_forward_each(toy_model, rows) -> None:
    answering = answering_model(toy_model, dtype="fp32")
    for row, found in zip(rows, losses(answering, rows), strict=True):
        answer = row.ids[row.loss_from :]
        expected = -plain_sum(toy_model, row.ids[: row.loss_from], answer) / len(answer)
        assert math.isclose(found, expected, rel_tol=1e-5, abs_tol=1e-5)


@pytest.mark.parametrize("forward_tokens", [1, 60, 10_000])
def test_batches_and_order_change_no_likelihood(toy_model, questions, rows, forward_tokens: int) -> None:
    answering = answering_model(toy_model, dtype="fp32", ragged=True)
    small = replace(answering, logit_rows=3)
    expected = loglikelihood(answering, questions)
    found = loglikelihood(small, questions[::-1], forward_tokens=forward_tokens)[::-1]
    assert (
        max(abs(a - b) for one, other in zip(expected, found, strict=True) for a, b in zip(one, other, strict=True))
        < 1e-4
    )
    expected = losses(answering, rows)
    found = losses(small, rows[::-1], forward_tokens=forward_tokens)[::-1]
    assert max(abs(a - b) for a, b in zip(expected, found, strict=True)) < 1e-5


def test_a_model_that_needs_padding_gives_the_same(toy_model, questions, rows) -> None:
    ragged = answering_model(toy_model, dtype="fp32", ragged=True)
    padded = answering_model(toy_model, dtype="fp32", ragged=False)
    for one, other in zip(
        loglikelihood(ragged, questions), loglikelihood(padded, questions, forward_tokens=150), strict=True
    ):
        assert one == pytest.approx(other, abs=1e-4)
    assert losses(ragged, rows) == pytest.approx(losses(padded, rows, forward_tokens=100), abs=1e-5)


def test_probabilities_of_all_single_tokens_add_up_to_one(toy_model) -> None:
    question = TokenQuestion(key="q", prompt=(30, 40, 50), choices=tuple((token,) for token in range(272)))
    (sums,) = loglikelihood(answering_model(toy_model, dtype="fp32", ragged=True), [question])
    assert math.fsum(map(math.exp, sums)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_same_rows_give_the_same_bits_in_any_order(toy_model, questions, rows, dtype: str) -> None:
    answering = answering_model(toy_model, dtype=dtype, ragged=True)
    assert loglikelihood(answering, questions) == loglikelihood(answering, questions[::-1])[::-1]
    assert losses(answering, rows) == losses(answering, rows[::-1])[::-1]


def test_bf16_is_near_and_leaves_the_model_alone(toy_model, questions) -> None:
    before = {name: value.clone() for name, value in toy_model.state_dict().items()}
    answering = answering_model(toy_model, dtype="bf16")
    assert (answering.ragged, answering.model.dtype, toy_model.dtype) == (True, torch.bfloat16, torch.float32)
    exact = loglikelihood(answering_model(toy_model, dtype="fp32"), questions)
    for one, other in zip(exact, loglikelihood(answering, questions), strict=True):
        assert one == pytest.approx(other, rel=0.05, abs=0.05)
    assert all(torch.equal(value, before[name]) for name, value in toy_model.state_dict().items())


def test_bf16_logits_are_summed_in_float32(toy_model) -> None:
    answering = answering_model(toy_model, dtype="bf16")
    with torch.no_grad():
        logits = answering.model(input_ids=torch.arange(20, 60)[None]).logits
        hidden = answering.model.base_model(input_ids=torch.arange(20, 60)[None]).last_hidden_state.double()
        exact = hidden @ toy_model.get_output_embeddings().weight.bfloat16().double().t()
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())
    assert float((logits - exact).abs().max()) < 0.01 * float(exact.abs().max())


def test_the_precision_of_products_is_put_back(llama, questions) -> None:
    before = torch.get_float32_matmul_precision()
    loglikelihood(answering_model(llama, dtype="bf16", ragged=True), questions)
    assert torch.get_float32_matmul_precision() == before


def test_packed_layers_give_the_bits_of_plain_ones(toy_model, questions, prompts, monkeypatch) -> None:
    packed = answering_model(toy_model, dtype="bf16", ragged=True)
    monkeypatch.setattr("titrant.backends.hf.inference.model._pack_linear_layers", lambda model: None)
    plain = answering_model(toy_model, dtype="bf16", ragged=True)
    assert loglikelihood(packed, questions) == loglikelihood(plain, questions)
    assert generate(packed, prompts) == generate(plain, prompts)
