"""Which rows share a forward follows from the rows alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titrant.backends.hf.inference.batches import Load, fixed_batches, padded_batches

loads = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 9), st.integers(0, 30)), max_size=30).map(
    lambda rows: [
        Load(tokens=tokens, logits=logits, name=(f"row{number}", ()), written=written)
        for number, (tokens, logits, written) in enumerate(rows)
    ]
)


def end_to_end(batch: list[Load]) -> int:
    return sum(load.tokens for load in batch)


def each_as_the_longest(batch: list[Load]) -> int:
    return len(batch) * (max(load.tokens for load in batch) + max(load.written for load in batch))


@pytest.mark.parametrize(("batches", "room"), [(fixed_batches, end_to_end), (padded_batches, each_as_the_longest)])
@given(loads, st.integers(1, 60), st.integers(1, 20), st.integers(1, 6))
def test_every_row_is_in_one_batch_and_no_batch_exceeds_its_budget(batches, room, some, tokens, logits, rows) -> None:
    found = batches(some, tokens=tokens, logits=logits, rows=rows)
    assert sorted(index for batch in found for index in batch) == list(range(len(some)))
    for batch in found:
        together = [some[index] for index in batch]
        assert len(together) <= rows
        if len(together) > 1:
            assert room(together) <= tokens
            assert sum(load.logits for load in together) <= logits


@pytest.mark.parametrize("batches", [fixed_batches, padded_batches])
@given(loads, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_no_batch(batches, some, random) -> None:
    shuffled = list(some)
    random.shuffle(shuffled)
    budget = {"tokens": 40, "logits": 12, "rows": 5}
    first = [[some[index].name for index in batch] for batch in batches(some, **budget)]
    second = [[shuffled[index].name for index in batch] for batch in batches(shuffled, **budget)]
    assert first == second
