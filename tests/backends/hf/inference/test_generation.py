"""Greedy text is that of transformers, whoever shares the batch."""

from dataclasses import replace

import pytest
import torch
from transformers import GenerationConfig

from titrant.backends.hf.inference import answering_model, generate
from titrant.core.errors import RunFailed
from titrant.core.records import PreparedModel, TokenPrompt, Written


def by_transformers(model, prompt: TokenPrompt) -> Written:
    """`generate` on one prompt."""
    if prompt.max_new_tokens == 0:
        return Written(ids=(), stop="length")
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=prompt.max_new_tokens, eos_token_id=list(prompt.end_ids), pad_token_id=0
    )
    ids = torch.tensor([prompt.ids])
    out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    new = out[0, len(prompt.ids) :].tolist()
    ended = new[-1] in prompt.end_ids
    return Written(ids=tuple(new[:-1] if ended else new), stop="end" if ended else "length")


def test_greedy_tokens_are_those_of_transformers(toy_model, prompts) -> None:
    expected = tuple(by_transformers(toy_model, prompt) for prompt in prompts)
    assert {written.stop for written in expected} == {"end", "length"}
    assert len({len(written.ids) for written in expected}) > 2
    assert generate(answering_model(toy_model, dtype="fp32"), prompts) == expected


def test_prompts_that_begin_alike_write_what_each_writes_alone(toy_model, prompts) -> None:
    begin = tuple(range(30, 60))
    alike = [replace(prompt, ids=begin + prompt.ids) for prompt in prompts]
    alike += [replace(prompts[-1], key=f"short{cut}", ids=begin[:cut]) for cut in (20, 30)]
    expected = tuple(by_transformers(toy_model, prompt) for prompt in alike)
    assert generate(answering_model(toy_model, dtype="fp32"), alike) == expected


@pytest.mark.parametrize("batch_rows", [1, 3, 64])
def test_batches_and_order_change_no_text(toy_model, prompts, batch_rows: int) -> None:
    answering = answering_model(toy_model, dtype="fp32", ragged=True)
    expected = generate(answering, prompts)
    assert generate(answering, prompts[::-1], batch_rows=batch_rows)[::-1] == expected


def test_a_model_that_needs_padding_writes_the_same(toy_model, prompts) -> None:
    ragged = answering_model(toy_model, dtype="fp32", ragged=True)
    padded = answering_model(toy_model, dtype="fp32", ragged=False)
    assert generate(padded, prompts) == generate(ragged, prompts)


@pytest.mark.parametrize(
    "own",
    [
        {"repetition_penalty": 5.0},
        {"no_repeat_ngram_size": 1},
        {"suppress_tokens": list(range(3, 60))},
        {"min_new_tokens": 9},
        {"begin_suppress_tokens": list(range(3, 60)), "do_sample": True, "temperature": 9.0, "top_k": 2},
        {"num_beams": 3, "length_penalty": 3.0},
        {"eos_token_id": list(range(3, 60))},
        {"exponential_decay_length_penalty": (1, 9.0)},
    ],
    ids=lambda own: next(iter(own)),
)
def test_a_models_own_settings_of_generation_change_no_text_where_it_needs_padding(
    toy_model, prompts, monkeypatch: pytest.MonkeyPatch, own: dict
) -> None:
    prompts = [*prompts, replace(prompts[0], key="endless", end_ids=())]  # no end in common: the model's own counts not
    expected = generate(answering_model(toy_model, dtype="fp32", ragged=True), prompts)
    own_settings = GenerationConfig(**own)
    monkeypatch.setattr(toy_model, "generation_config", own_settings)
    padded = answering_model(toy_model, dtype="fp32", ragged=False)
    kept = padded.model.generation_config
    assert kept.to_dict() == own_settings.to_dict()
    assert generate(padded, prompts) == expected
    assert padded.model.generation_config is kept, "what is saved with the model is its own"


def test_parts_of_prompts_and_room_for_tokens_change_nothing(llama, prompts, monkeypatch: pytest.MonkeyPatch) -> None:
    answering = answering_model(llama, dtype="fp32", ragged=True)
    expected = generate(answering, prompts)
    monkeypatch.setattr("titrant.backends.hf.inference.generation.PREFILL_TOKENS", 25)
    monkeypatch.setattr("titrant.backends.hf.inference.generation._FREE_COLUMNS", 3)
    assert generate(answering, prompts) == expected


def test_a_long_prompt_does_not_make_room_as_long_for_all_others(llama, monkeypatch: pytest.MonkeyPatch) -> None:
    from titrant.backends.hf.inference import generation

    room: list[list[int]] = []  # of every batch: its rows, and the widest that it became
    start, next_column = generation._Kept.start, generation._Kept.next_column

    def started(kept, *, lengths, device) -> None:
        room.append([len(lengths), kept.width])
        start(kept, lengths=lengths, device=device)

    def went_on(kept, rows: int) -> None:
        next_column(kept, rows)
        room[-1][1] = kept.width
        assert {keys.shape[2] for keys, _ in kept.layers.values()} == {kept.width}

    monkeypatch.setattr(generation._Kept, "start", started)
    monkeypatch.setattr(generation._Kept, "next_column", went_on)
    monkeypatch.setattr(generation, "_FREE_COLUMNS", 5)
    monkeypatch.setattr(generation, "BATCH_TOKENS", 400)
    lengths = [(length, 2) for length in (*range(8, 38), 300)] + [(10, 33)] * 8 + [(40, 3)]
    prompts = [
        TokenPrompt(
            key=str(number), ids=tuple(1 + place % 50 for place in range(length)), max_new_tokens=most, end_ids=()
        )
        for number, (length, most) in enumerate(lengths)
    ]
    found = generate(answering_model(llama, dtype="fp32", ragged=True), prompts)
    assert [len(written.ids) for written in found] == [most for _, most in lengths]
    assert sum(rows for rows, _ in room) == len(prompts)
    assert all(rows * width <= 400 for rows, width in room)
    assert [1, 301] in room  # the last token that is written is not kept


def test_every_forward_heeds(toy_model, prompts, monkeypatch: pytest.MonkeyPatch) -> None:
    from titrant.backends.hf.inference import generation

    monkeypatch.setattr(generation, "PREFILL_TOKENS", 25)
    forwards = heeded = 0

    def counted(*_, **__) -> None:
        nonlocal forwards
        forwards += 1

    def heed() -> None:
        nonlocal heeded
        heeded += 1

    toy_model.base_model.register_forward_pre_hook(counted)
    for ragged in (True, False):
        answering = answering_model(toy_model, dtype="fp32", ragged=ragged)
        forwards = heeded = 0
        generate(answering, prompts, heed=heed)
        assert heeded >= forwards > 2


def test_the_attention_is_put_back(llama, prompts) -> None:
    before = llama.config._attn_implementation
    generate(answering_model(llama, dtype="fp32", ragged=True), prompts)
    assert llama.config._attn_implementation == before


def test_bf16_writes_the_same_again(toy_model, prompts) -> None:
    answering = answering_model(toy_model, dtype="bf16", ragged=True)
    assert generate(answering, prompts) == generate(answering, prompts[::-1])[::-1]


@pytest.mark.model
def test_smollm2_answers_as_transformers_does(smollm2: PreparedModel) -> None:
    from titrant.backends.hf.inference import loglikelihood
    from titrant.backends.hf.models.load import load_model, load_tokenizer
    from titrant.core.records import TokenQuestion

    model, tokenizer = load_model(smollm2), load_tokenizer(smollm2)
    asked = ["Name a colour.", "What is 2 + 3?", "Who wrote Hamlet?", "Translate 'cat' to French.", "Say hello."]
    asked += [
        "List three fruits and say where each of them grows.",
        "Is the sky blue? Answer yes or no.",
        "Why do we sleep?",
    ]
    chats = [
        tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False)
        for text in asked
    ]
    ids = [tuple(tokenizer.encode(chat, add_special_tokens=False)) for chat in chats]
    prompts = [
        TokenPrompt(key=str(number), ids=prompt, max_new_tokens=10, end_ids=smollm2.end_ids)
        for number, prompt in enumerate(ids)
    ]
    answering = answering_model(model, dtype="fp32")
    assert answering.ragged
    tokenizer.padding_side = "left"
    batch = tokenizer(chats, return_tensors="pt", padding=True, add_special_tokens=False)
    settings = GenerationConfig(do_sample=False, max_new_tokens=10, eos_token_id=list(smollm2.end_ids), pad_token_id=2)
    new = model.generate(**batch, generation_config=settings)[:, batch["input_ids"].shape[1] :].tolist()
    for written, expected in zip(generate(answering, prompts), new, strict=True):
        ended = 2 in expected
        assert written.ids == tuple(expected[: expected.index(2)] if ended else expected)
        assert written.stop == ("end" if ended else "length")

    choices = tuple((*tokenizer.encode(text), 2) for text in ("Yes", "No", "Blue", "Yes, it is"))
    question = TokenQuestion(key="q", prompt=ids[6], choices=choices)
    for choice, found in zip(choices, loglikelihood(answering, [question])[0], strict=True):
        with torch.no_grad():
            logprobs = torch.log_softmax(model(input_ids=torch.tensor([ids[6] + choice])).logits[0].double(), -1)
        expected = sum(float(logprobs[len(ids[6]) - 1 + place, token]) for place, token in enumerate(choice))
        assert found == pytest.approx(expected, abs=1e-4)


def test_a_draw_goes_by_its_stream_alone_and_a_low_temperature_is_greedy(toy_model, prompts) -> None:
    answering = answering_model(toy_model, dtype="fp32", ragged=True)
    drawn = tuple(replace(prompt, temperature=1.0, stream=number) for number, prompt in enumerate(prompts))
    found = generate(answering, drawn)
    assert generate(answering, drawn[::-1], batch_rows=2)[::-1] == found
    assert generate(answering, tuple(replace(prompt, stream=prompt.stream + 99) for prompt in drawn)) != found
    mixed = generate(answering, (*drawn[:2], *prompts[2:]))
    assert mixed == (*found[:2], *generate(answering, prompts)[2:])
    cold = tuple(replace(prompt, temperature=1e-6, stream=7) for prompt in prompts)
    assert generate(answering, cold) == generate(answering, prompts)


def test_draws_come_as_often_as_the_softmax_says(toy_model, prompts) -> None:
    """The first token of 400 draws at temperature 0.5 against the probabilities of the logits over 0.5."""
    prompt = replace(prompts[0], max_new_tokens=1, end_ids=())
    answering = answering_model(toy_model, dtype="fp32", ragged=True)
    drawn = generate(answering, [replace(prompt, temperature=0.5, stream=number) for number in range(400)])
    with torch.no_grad():
        logits = toy_model(input_ids=torch.tensor([prompt.ids])).logits[0, -1]
    likely = torch.softmax(logits / 0.5, -1)
    token = int(likely.argmax())
    share = sum(written.ids == (token,) for written in drawn) / 400
    spread = float(likely[token] * (1 - likely[token]) / 400) ** 0.5
    assert abs(share - float(likely[token])) < 4 * spread


def test_sampling_is_refused_where_rows_need_padding(toy_model, prompts) -> None:
    answering = answering_model(toy_model, dtype="fp32", ragged=False)
    with pytest.raises(RunFailed, match="padding"):
        generate(answering, [replace(prompts[0], temperature=0.5)])
