"""Rows without padding give what each row gives alone, for five families of models."""

import pytest
import torch
import transformers
from toy_models import CONFIGS, random_ids, relative, toy

from titrant.backends.hf.models import ragged
from titrant.backends.hf.models.ragged import (
    RaggedLayout,
    Segment,
    ragged_attention,
    ragged_hidden,
    ragged_logits,
    ragged_refusal,
    supports_ragged,
)

LENGTHS = (5, 1, 13, 8)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("name", CONFIGS)
def test_rows_together_give_the_logits_of_each_row_alone(name: str) -> None:
    model, ids = toy(name), random_ids(sum(LENGTHS))
    with torch.no_grad():
        together = ragged_logits(model, ids, RaggedLayout.of_lengths(LENGTHS))
        apart = torch.cat([model(input_ids=row[None]).logits[0] for row in ids.split(LENGTHS)])
    assert relative(together, apart) < 1e-5


def tree(*, context: int, branches: tuple[int, ...], first: int = 0) -> tuple[Segment, ...]:
    """A segment and its branches, when it is the layout's segment number `first`."""
    return (Segment(length=context), *(Segment(length=length, parent=first) for length in branches))


@pytest.mark.parametrize("name", CONFIGS)
def test_segments_see_what_they_hang_from_and_themselves_only(name: str) -> None:
    model = toy(name)
    deep = (Segment(length=3, parent=1), Segment(length=6, parent=2), Segment(length=2, parent=1))
    layout = RaggedLayout(
        segments=(Segment(length=4), Segment(length=7, parent=0), *deep, Segment(length=5, parent=0), Segment(length=3))
    )
    ids = random_ids(layout.tokens)
    spans = [
        list(range(start, start + segment.length))
        for start, segment in zip(layout.starts, layout.segments, strict=True)
    ]
    with torch.no_grad():
        together = ragged_logits(model, ids, layout)
        for index, segment in enumerate(layout.segments):
            path, above = spans[index], segment.parent
            while above is not None:
                path, above = spans[above] + path, layout.segments[above].parent
            alone = model(input_ids=ids[path][None]).logits[0]
            assert relative(together[path], alone) < 1e-5


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_equal_those_of_rows_alone(name: str) -> None:
    model, ids = toy(name), random_ids(sum(LENGTHS))
    layout = RaggedLayout.of_lengths(LENGTHS)
    weights = torch.randn(sum(LENGTHS), 97, generator=torch.Generator().manual_seed(2))
    (ragged_logits(model, ids, layout) * weights).sum().backward()
    ours = {key: value.grad.clone() for key, value in model.named_parameters()}
    model.zero_grad()
    apart = torch.cat([model(input_ids=row[None]).logits[0] for row in ids.split(LENGTHS)])
    (apart * weights).sum().backward()
    for key, value in model.named_parameters():
        assert relative(ours[key], value.grad) < 1e-4, key


@pytest.mark.parametrize("name", CONFIGS)
def test_a_row_does_not_depend_on_its_neighbours(name: str) -> None:
    model, layout = toy(name), RaggedLayout.of_lengths((6, 9))
    left, right, other = random_ids(24).split((6, 9, 9))
    with torch.no_grad():
        first = ragged_logits(model, torch.cat([left, right]), layout)[:6]
        second = ragged_logits(model, torch.cat([left, other]), layout)[:6]
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", CONFIGS)
def test_chosen_positions_are_rows_of_all_logits(name: str) -> None:
    model, ids, layout = toy(name), random_ids(sum(LENGTHS)), RaggedLayout.of_lengths(LENGTHS)
    positions = torch.tensor([0, 4, 11, 26])
    with torch.no_grad():
        everything = ragged_logits(model, ids, layout)
        chosen = ragged_logits(model, ids, layout, positions)
        hidden = ragged_hidden(model, ids, layout)
    assert chosen.shape == (4, 97)
    assert hidden.shape == (sum(LENGTHS), 32)
    torch.testing.assert_close(chosen, everything[positions])


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_families_are_found_to_go_without_padding(name: str, dtype: torch.dtype) -> None:
    assert ragged_refusal(toy(name).to(dtype)) is None


def test_a_model_whose_tokens_mix_outside_attention_is_refused() -> None:
    model = toy("llama")
    mlp = model.model.layers[0].mlp
    mlp.register_forward_hook(lambda _module, _inputs, out: out + out.roll(1, dims=1))
    assert "other logits" in (ragged_refusal(model) or "")


def test_a_leak_that_hides_in_the_rounding_of_bf16_is_refused() -> None:
    model = toy("llama").to(torch.bfloat16)
    model.model.layers[0].mlp.register_forward_hook(lambda _module, _inputs, out: out + out.roll(1, dims=1) / 256)
    assert "neighbour" in (ragged_refusal(model) or "")


def test_a_model_that_ignores_the_attention_function_is_refused() -> None:
    config = transformers.BloomConfig(vocab_size=97, hidden_size=32, n_layer=2, n_head=4)
    model = transformers.BloomForCausalLM(config).eval()
    assert not supports_ragged(model)


def test_a_model_that_keeps_its_window_to_itself_is_refused() -> None:
    model = toy("gemma3", sliding_window=50)  # wider than the eval set, which therefore cannot see it in the logits
    for layer in model.model.layers:
        layer.self_attn.sliding_window = None
    assert "window" in (ragged_refusal(model) or "")


def test_the_attention_setting_comes_back_also_after_an_error() -> None:
    model = toy("llama")
    before = model.config._attn_implementation
    with pytest.raises(ZeroDivisionError), ragged_attention(model, RaggedLayout.of_lengths((3,))):
        raise ZeroDivisionError
    assert model.config._attn_implementation == before


def test_positions_start_again_in_rows_and_go_on_in_branches() -> None:
    layout = RaggedLayout(segments=(*tree(context=2, branches=(2, 3)), Segment(length=1)))
    assert layout.positions() == [0, 1, 2, 3, 2, 3, 4, 0]
    assert layout.starts == (0, 2, 4, 7)
    assert layout.tokens == 8


def test_a_segment_away_from_its_parent_is_refused() -> None:
    with pytest.raises(AssertionError, match="behind its parent"):
        RaggedLayout(segments=(Segment(length=1), Segment(length=1), Segment(length=2, parent=0)))


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("together", [1, 3])
def test_blocks_attend_as_one(
    window: int | None, softcap: float | None, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segments longer than a block, and trees, whole or in parts; some blocks kept for the backward pass and some
    computed again, in double precision."""
    monkeypatch.setattr(ragged, "_QUERY_BLOCK", 4)
    monkeypatch.setattr(ragged, "_TOGETHER", together)
    monkeypatch.setattr(ragged, "_KEPT_KEYS", 7)
    generator = torch.Generator().manual_seed(3)
    layout = RaggedLayout(
        segments=(
            *tree(context=3, branches=()),
            *tree(context=11, branches=(1, 2, 6, 1), first=1),
            *tree(context=2, branches=(1, 1), first=6),
        )
    )
    query, key, value, weights = (
        torch.randn(layout.tokens, heads, 6, dtype=torch.float64, generator=generator) for heads in (4, 2, 2, 4)
    )
    pieces = ragged._Packing(layout).pieces(window, dtype=torch.float64, device=query.device)
    assert [(piece.start, piece.stop) for piece in pieces][:4] == [(0, 3), (3, 7), (7, 11), (11, 14)]
    assert [query for piece in pieces for query in range(piece.start, piece.stop)] == list(range(layout.tokens))
    assert len(pieces) == {1: 10, 3: 9}[together]
    seen = torch.zeros(layout.tokens, layout.tokens, dtype=torch.bool)
    position = torch.tensor(layout.positions())
    spans = [
        range(start, start + segment.length) for start, segment in zip(layout.starts, layout.segments, strict=True)
    ]
    for index, segment in enumerate(layout.segments):
        for above in {index, segment.parent} - {None}:
            for place in spans[index]:
                back = position[place] - position[list(spans[above])]
                seen[place, list(spans[above])] = (back >= 0) & (back < (window or 99))

    def reference(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        scores = torch.einsum("thd,shd->hts", query, key.repeat_interleave(2, 1)) * 0.4
        scores = scores if softcap is None else torch.tanh(scores / softcap) * softcap
        chances = torch.softmax(scores.masked_fill(~seen, -torch.inf), -1)
        return torch.einsum("hts,shd->thd", chances, value.repeat_interleave(2, 1))

    results = []
    for function in (lambda *three: ragged._BlockAttention.apply(*three, pieces, 0.4, softcap), reference):
        leaves = [part.clone().requires_grad_() for part in (query, key, value)]
        out = function(*leaves)
        (out * weights).sum().backward()
        results.append((out, *(leaf.grad for leaf in leaves)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)
