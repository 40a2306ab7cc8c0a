"""Texts that begin alike are laid out as a tree, and every text can be read off it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_models import CONFIGS, random_ids, relative, toy

from titrant.backends.hf.models.prefixes import common_beginning, lay_out
from titrant.backends.hf.models.ragged import ragged_logits

BEGINNINGS = st.sampled_from([(1,) * 17, (1,) * 20 + (2,), tuple(range(30)), (5,), ()])
TEXTS = st.lists(
    st.tuples(BEGINNINGS, BEGINNINGS, st.lists(st.integers(0, 3), min_size=1, max_size=6).map(tuple)).map(
        lambda parts: parts[0] + parts[1] + parts[2]
    ),
    min_size=1,
    max_size=12,
)


@given(TEXTS)
def test_every_text_is_read_off_its_places_at_its_positions(texts: list[tuple[int, ...]]) -> None:
    laid = lay_out(texts)
    positions = np.array(laid.layout.positions())
    for text, place in zip(texts, laid.places, strict=True):
        assert tuple(laid.ids[index] for index in place) == text
        assert positions[place].tolist() == list(range(len(text)))


@given(TEXTS)
def test_nothing_is_laid_out_that_no_text_needs(texts: list[tuple[int, ...]]) -> None:
    laid = lay_out(texts)
    assert len(laid.ids) <= sum(map(len, texts))
    assert {index for place in laid.places for index in place.tolist()} == set(range(len(laid.ids)))


@given(TEXTS, st.randoms())
def test_the_order_of_texts_changes_nothing(texts: list[tuple[int, ...]], random) -> None:  # type: ignore[no-untyped-def]
    moved = list(texts)
    random.shuffle(moved)
    assert lay_out(moved).ids == lay_out(texts).ids


def test_a_common_beginning_is_laid_out_once() -> None:
    opening, instruction = tuple(range(100, 124)), tuple(range(200, 220))
    rows = [(*opening, *instruction, 1, 2), (*opening, *instruction, 3), (*opening, 9, 9, 9)]
    laid = lay_out(rows)
    assert len(laid.ids) == len(opening) + len(instruction) + 3 + 3
    assert max(laid.layout.depths) == len(opening) + len(instruction)


def test_beginnings_too_short_to_pay_stay_where_they_are() -> None:
    texts = [(7, 7, 7, 1), (7, 7, 7, 2)]
    assert lay_out(texts).layout.plain
    assert len(lay_out(texts).ids) == 8


def test_texts_that_begin_with_one_another_end_in_the_same_segment() -> None:
    whole = tuple(range(40))
    laid = lay_out([whole, whole[:20], whole])
    assert len(laid.ids) == 40
    assert [len(place) for place in laid.places] == [40, 20, 40]


def test_without_sharing_texts_lie_end_to_end() -> None:
    text = tuple(range(30))
    laid = lay_out([text, text], share=False)
    assert laid.layout.plain
    assert laid.ids == text + text


def test_a_long_chain_of_beginnings_needs_no_deep_stack() -> None:
    texts = [(1,) * length for length in range(1, 3000)]
    laid = lay_out(texts)
    assert [len(place) for place in laid.places] == [len(text) for text in texts]


def test_common_beginning_of_texts() -> None:
    assert common_beginning((1, 2, 3), (1, 2, 4, 5)) == 2
    assert common_beginning((1, 2), (1, 2, 4)) == 2
    assert common_beginning((), (1,)) == 0


@pytest.mark.parametrize("name", CONFIGS)
def test_losses_and_gradients_behind_a_shared_beginning_are_those_of_texts_alone(name: str) -> None:
    """Three families of rows below one opening; each text's last logits weighted, in fp32."""
    model = toy(name)
    opening, first, second, *ends = (tuple(part.tolist()) for part in random_ids(53).split((18, 12, 11, 3, 5, 2, 2)))
    texts = [opening + first + ends[0], opening + first + ends[1], opening + second + ends[2], opening + ends[3]]
    weights = torch.randn(len(texts), 97, generator=torch.Generator().manual_seed(2))
    laid = lay_out(texts)
    assert len(laid.ids) < sum(map(len, texts)) - 50
    last = torch.tensor([int(place[-1]) for place in laid.places])
    shared = ragged_logits(model, torch.tensor(laid.ids), laid.layout, last)
    (shared * weights).sum().backward()
    ours = {key: value.grad.clone() for key, value in model.named_parameters()}
    model.zero_grad()
    alone = torch.stack([model(input_ids=torch.tensor(text)[None]).logits[0, -1] for text in texts])
    (alone * weights).sum().backward()
    assert relative(shared.detach(), alone.detach()) < 1e-5
    for key, value in model.named_parameters():
        assert relative(ours[key], value.grad) < 1e-4, key
