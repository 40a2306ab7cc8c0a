"""A budget as people write it, and what is none."""

from __future__ import annotations

import pytest

from titrant.core.budget import Budget, parse_budget
from titrant.core.errors import SpecError


@pytest.mark.parametrize(
    ("text", "unit", "amount"),
    [
        ("30m", "minutes", 30.0),
        ("1h", "minutes", 60.0),
        ("1h30m", "minutes", 90.0),
        ("1.5h", "minutes", 90.0),
        ("45 min", "minutes", 45.0),
        ("90s", "minutes", 1.5),
        ("3Mtok", "tokens", 3e6),
        ("500ktok", "tokens", 5e5),
        ("1_200_000 tokens", "tokens", 1.2e6),
        ("40runs", "runs", 40.0),
        ("1 run", "runs", 1.0),
    ],
)
def test_minutes_tokens_and_runs_are_read(text: str, unit: str, amount: float) -> None:
    found = parse_budget(text)
    assert (found.unit, found.amount, str(found)) == (unit, amount, text)


@pytest.mark.parametrize("text", ["", "30", "m", "-3m", "3 apples", "2.5runs", "1e9tok", "30m 3Mtok", "nan", "٣runs"])
def test_what_is_no_budget_is_refused_with_what_one_is(text: str) -> None:
    with pytest.raises(SpecError, match=r"--budget: not a budget .*30m.*3Mtok.*40runs"):
        parse_budget(text)


@pytest.mark.parametrize("text", ["0m", "0runs", "0.0Mtok", "0.3tok"])
def test_a_budget_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="budget of nothing"):
        parse_budget(text, where="budget")


def test_a_budget_has_one_unit() -> None:
    assert Budget(text="2m", minutes=2.0).tokens is None
