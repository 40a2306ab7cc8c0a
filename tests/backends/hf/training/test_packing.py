"""Micro-batches hold every row once and stay within their budget."""

from hypothesis import given
from hypothesis import strategies as st

from titrant.backends.hf.training.packing import first_fit_decreasing

LENGTHS = st.lists(st.integers(1, 300), max_size=60)


@given(LENGTHS, st.integers(1, 400))
def test_every_row_is_in_exactly_one_pack(lengths: list[int], budget: int) -> None:
    packs = first_fit_decreasing(lengths, budget)
    assert sorted(index for pack in packs for index in pack) == list(range(len(lengths)))
    assert all(packs)


@given(LENGTHS, st.integers(1, 400))
def test_no_pack_is_over_budget_unless_one_row_is(lengths: list[int], budget: int) -> None:
    for pack in first_fit_decreasing(lengths, budget):
        assert sum(lengths[index] for index in pack) <= budget or len(pack) == 1


@given(LENGTHS, st.integers(1, 400))
def test_no_two_packs_would_fit_in_one(lengths: list[int], budget: int) -> None:
    """First fit leaves no waste that a person would see at a glance."""
    totals = sorted(sum(lengths[index] for index in pack) for pack in first_fit_decreasing(lengths, budget))
    assert len(totals) < 2 or totals[0] + totals[1] > budget


def test_rows_that_fit_together_stay_in_their_order() -> None:
    assert first_fit_decreasing([5, 9, 5, 7], 100) == ((0, 1, 2, 3),)
