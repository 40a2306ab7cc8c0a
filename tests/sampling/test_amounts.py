"""Exact integer amounts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titrant.core.errors import MixError
from titrant.sampling import largest_remainder, rows_within_tokens

SHARES = st.dictionaries(
    st.sampled_from("abcdef"), st.one_of(st.integers(0, 100), st.floats(0, 100)), min_size=1
).filter(lambda shares: sum(shares.values()) > 0)


@given(st.integers(0, 10_000), SHARES)
def test_the_parts_add_up_to_the_total_and_miss_their_share_by_less_than_a_row(
    total: int, shares: dict[str, float]
) -> None:
    parts = largest_remainder(total, shares)
    assert sum(parts.values()) == total
    assert set(parts) == set(shares)
    whole = sum(shares.values())
    assert all(abs(parts[name] - total * shares[name] / whole) < 1 + 1e-6 for name in shares)


@given(st.integers(0, 1000), SHARES, st.randoms())
def test_the_order_of_the_shares_changes_nothing(total: int, shares: dict[str, float], order) -> None:
    names = order.sample(sorted(shares), len(shares))
    assert largest_remainder(total, {name: shares[name] for name in names}) == largest_remainder(total, shares)


@pytest.mark.parametrize(
    ("total", "shares", "parts"),
    [
        (96, {"dolly": 2, "alpaca": 1}, {"dolly": 64, "alpaca": 32}),
        (10, {"a": 0.55, "b": 0.25, "c": 0.2}, {"a": 6, "b": 2, "c": 2}),  # 5.5, 2.5, 2: a's tie with b goes by name
        (7, {"a": 1, "b": 0}, {"a": 7, "b": 0}),
        (1, {"a": 1, "b": 2}, {"a": 0, "b": 1}),
        (0, {"a": 1}, {"a": 0}),
    ],
)
def test_worked_cases(total: int, shares: dict[str, float], parts: dict[str, int]) -> None:
    assert largest_remainder(total, shares) == parts


@pytest.mark.parametrize(
    ("total", "shares"),
    [
        (-1, {"a": 1}),
        (5, {}),
        (5, {"a": 0}),
        (5, {"a": -1, "b": 2}),
        (5, {"a": float("nan")}),
        (5, {"a": float("inf"), "b": 1}),
    ],
)
def test_shares_that_mean_nothing_are_refused(total: int, shares: dict[str, float]) -> None:
    with pytest.raises(MixError):
        largest_remainder(total, shares)


@given(st.integers(0, 500), st.lists(st.integers(1, 60), max_size=40))
def test_a_token_budget_takes_the_longest_prefix_that_fits(budget: int, tokens: list[int]) -> None:
    count = rows_within_tokens(budget, tokens)
    assert sum(tokens[:count]) <= budget
    assert count == len(tokens) or sum(tokens[: count + 1]) > budget


@given(st.integers(0, 500), st.integers(0, 500), st.lists(st.integers(1, 60), max_size=40))
def test_a_larger_budget_never_takes_fewer_rows(one: int, other: int, tokens: list[int]) -> None:
    small, large = sorted((one, other))
    assert rows_within_tokens(small, tokens) <= rows_within_tokens(large, tokens)


def test_a_long_row_ends_the_prefix_even_where_a_later_one_would_fit() -> None:
    assert rows_within_tokens(100, [40, 70, 10]) == 1
