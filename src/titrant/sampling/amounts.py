"""Exact integer amounts: shares of a total, and token budgets as row counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

from titrant.core.errors import MixError


def largest_remainder(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """`total` rows divided by `shares` (any positive scale), exactly: floors first, the rest to the largest remainders.

    Ties go to the name that sorts first, so the result does not depend on the order of the mapping.

    >>> largest_remainder(96, {"dolly": 2, "alpaca": 1})
    {'alpaca': 32, 'dolly': 64}
    >>> largest_remainder(10, {"a": 1, "b": 1, "c": 1})
    {'a': 4, 'b': 3, 'c': 3}
    """
    usable = all(math.isfinite(share) and share >= 0 for share in shares.values())
    if total < 0 or not usable or not any(shares.values()):
        raise MixError(
            "a blend needs a total of at least 0 and shares that are not negative and not all 0",
            got=f"total {total}, shares {dict(shares)}",
        )
    # Fractions: a product of floats can fall a hair below a whole number, and its floor would lose a row.
    exact = {name: Fraction(share) for name, share in sorted(shares.items())}
    whole = sum(exact.values())
    wanted = {name: total * share / whole for name, share in exact.items()}
    counts = {name: int(amount) for name, amount in wanted.items()}
    # Floor minus wanted is the remainder with its sign turned, so that the largest comes first and ties go by name.
    by_remainder = sorted(wanted, key=lambda name: (counts[name] - wanted[name], name))
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def rows_within_tokens(budget_tokens: int, tokens_in_order: Sequence[int]) -> int:
    """The longest prefix of a draw whose tokens stay within the budget, as a number of rows.

    >>> rows_within_tokens(100, [40, 50, 20, 10])
    2
    """
    used = 0
    for count, tokens in enumerate(tokens_in_order):
        used += tokens
        if used > budget_tokens:
            return count
    return len(tokens_in_order)
