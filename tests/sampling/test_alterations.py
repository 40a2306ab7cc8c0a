"""Altered doses: what changes, what must not, and how much of it was realised."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from titrant.core.errors import DataError, MixError
from titrant.core.records import Example, Turn
from titrant.sampling import altered, false_share


def fact(number: int, answer: str, *, relation: str = "capital", accepted: tuple[str, ...] = ()) -> Example:
    known = json.dumps([answer, *accepted])
    return Example(
        key=f"k{number}",
        row_id=str(number),
        source="far",
        task=relation,
        turns=(Turn(role="user", text=f"The {relation} of {number} is"), Turn(role="assistant", text=answer)),
        tags=(("relation", relation), ("subject", str(number)), ("accepted", known)),
    )


def said(rows: tuple[Example, ...]) -> list[str]:
    return [row.answer for row in rows]


def test_false_rows_hold_another_answer_of_their_relation_that_none_of_their_own_accepts() -> None:
    rows = [fact(n, f"town {n % 5}") for n in range(40)] + [
        fact(n, f"king {n}", relation="ruler") for n in range(40, 48)
    ]
    found = altered(rows, "false:1", seed=3)
    assert found.changed == 48
    assert found.share == 1.0
    for row, before in zip(found.rows, rows, strict=True):
        assert row.answer != before.answer
        assert row.answer.startswith("town") == before.answer.startswith("town")
        assert row.prompt == before.prompt
        assert dict(row.tags)["altered"] == "false"
    assert Counter(said(found.rows)) == Counter(said(tuple(rows)))  # answers are dealt out, so all stay as frequent


def test_a_larger_false_share_alters_all_rows_that_a_smaller_one_does() -> None:
    rows = [fact(n, f"town {n % 8}") for n in range(64)]
    few, many = altered(rows, "false:0.25", seed=1), altered(rows, "false:0.75", seed=1)
    changed = [
        {row.row_id for row in found.rows if row.key.startswith("k") and "/" in row.key} for found in (few, many)
    ]
    assert (few.changed, many.changed) == (16, 48)
    assert changed[0] < changed[1]
    assert altered(rows, "false:0.25", seed=2).rows != few.rows


def test_answers_that_are_also_true_are_never_dealt_and_what_cannot_be_made_false_is_counted() -> None:
    rows = [
        fact(0, "piano", accepted=("guitar",)),
        fact(1, "guitar", accepted=("piano",)),
        fact(2, "piano", accepted=("guitar",)),
    ]
    found = altered(rows, "false:1", seed=0)
    assert (found.changed, said(found.rows)) == (0, ["piano", "guitar", "piano"])
    lone = altered([fact(0, "Oslo"), fact(1, "Karl", relation="ruler")], "false:1", seed=0)
    assert lone.changed == 0
    partly = altered([*rows, fact(3, "drums")], "false:1", seed=0)
    assert said(partly.rows)[3] != "drums"
    assert partly.share == partly.changed / 4


def test_a_broken_link_deals_all_answers_out_anew() -> None:
    rows = [fact(n, f"answer {n}") for n in range(30)]
    found = altered(rows, "shuffled", seed=5)
    assert found.changed == 30
    assert sorted(said(found.rows)) == sorted(said(tuple(rows)))
    assert all(row.answer != before.answer for row, before in zip(found.rows, rows, strict=True))
    assert len({row.key for row in found.rows}) == 30


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from("abcdef"), min_size=1, max_size=40),
    st.floats(0.05, 1.0),
    st.integers(0, 5),
)
def test_no_row_gets_an_answer_that_it_accepts_and_unaltered_rows_are_untouched(
    answers: list[str], share: float, seed: int
) -> None:
    rows = [fact(n, answer, relation="one" if n % 3 else "two") for n, answer in enumerate(answers)]
    found = altered(rows, f"false:{share}", seed=seed)
    assert len(found.rows) == len(rows)
    differ = [before.answer != row.answer for row, before in zip(found.rows, rows, strict=True)]
    assert sum(differ) == found.changed <= round(share * len(rows))
    assert all(row == before for row, before, changed in zip(found.rows, rows, differ, strict=True) if not changed)


def test_rows_that_are_no_facts_cannot_be_made_false() -> None:
    plain = Example(
        key="k", row_id="7", source="s", task="t", turns=(Turn(role="user", text="q"), Turn(role="assistant", text="a"))
    )
    with pytest.raises(DataError, match="no fact"):
        altered([plain], "false:1", seed=0)
    for wrong in ("false", "false:0", "false:1.5", "true:1", "false:x", ""):
        with pytest.raises(MixError, match="no such alteration"):
            false_share(wrong)
