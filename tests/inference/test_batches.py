"""Which rows share a forward follows from the rows alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titrant.inference.batches import Load, fixed_batches, padded_batches

loads = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 9), st.integers(0, 30)), max_size=30).map(
    lambda rows: [
        Load(tokens=tokens, logits=logits, name=(f"row{number}", ()), written=written)
        for number, (tokens, logits, written) in enumerate(rows)
    ]
)


@given(loads, st.integers(1, 60), st.integers(1, 20), st.integers(1, 6))
def test_every_row_is_in_one_batch_and_no_batch_exceeds_its_budget(some, tokens, logits, rows) -> None:
    batches = fixed_batches(some, tokens=tokens, logits=logits, rows=rows)
    assert sorted(index for batch in batches for index in batch) == list(range(len(some)))
    for batch in batches:
        assert len(batch) <= rows
        if len(batch) > 1:
            assert sum(some[index].tokens for index in batch) <= tokens
            assert sum(some[index].logits for index in batch) <= logits


@given(loads, st.integers(1, 60), st.integers(1, 20), st.integers(1, 6))
def test_padded_batches_hold_every_row_once_and_the_room_of_their_longest_for_each(some, tokens, logits, rows) -> None:
    batches = padded_batches(some, tokens=tokens, logits=logits, rows=rows)
    assert sorted(index for batch in batches for index in batch) == list(range(len(some)))
    for batch in batches:
        assert len(batch) <= rows
        if len(batch) > 1:
            longest, most = (max(getattr(some[index], part) for index in batch) for part in ("tokens", "written"))
            assert len(batch) * (longest + most) <= tokens
            assert sum(some[index].logits for index in batch) <= logits


@pytest.mark.parametrize("batches", [fixed_batches, padded_batches])
@given(loads, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_no_batch(batches, some, random) -> None:
    shuffled = list(some)
    random.shuffle(shuffled)
    budget = {"tokens": 40, "logits": 12, "rows": 5}
    first = [[some[index].name for index in batch] for batch in batches(some, **budget)]
    second = [[shuffled[index].name for index in batch] for batch in batches(shuffled, **budget)]
    assert first == second
