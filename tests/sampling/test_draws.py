"""Draws are exact, nested and keyed by content."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from titrant.core.errors import MixError
from titrant.core.identity import content_keys
from titrant.core.records import Example, Turn
from titrant.sampling import draw, draw_order


def rows(texts: list[str], *, source: str = "general", labels: list[str] | None = None) -> list[Example]:
    return [
        Example(
            key=key,
            row_id=str(number),
            source=source,
            task=source,
            turns=(Turn(role="user", text=text), Turn(role="assistant", text="ok")),
            label=labels[number] if labels else None,
        )
        for number, (key, text) in enumerate(zip(content_keys(texts), texts, strict=True))
    ]


def by_label(row: Example) -> str:
    return row.label or ""


# Few different texts, so that equal rows (told apart by their occurrence) are common.
TEXTS = st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=40)
LABELLED = st.lists(st.tuples(st.sampled_from("abcdefghij"), st.sampled_from("uvwxyz")), min_size=1, max_size=60)


@given(TEXTS, st.integers(0, 3), st.data())
def test_a_draw_holds_exactly_as_many_different_rows_as_asked(texts: list[str], seed: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(texts)))
    drawn = draw(rows(texts), count, seed=seed, source="general")
    assert len(drawn) == len({row.key for row in drawn}) == count


@given(TEXTS, st.integers(0, 3), st.booleans(), st.data())
def test_larger_dose_contains_smaller_dose(texts: list[str], seed: int, stratified: bool, data: st.DataObject) -> None:
    small, large = sorted(data.draw(st.lists(st.integers(0, len(texts)), min_size=2, max_size=2)))
    pool = rows(texts, labels=[chr(ord("u") + ord(text) % 3) for text in texts])
    stratum = by_label if stratified else None
    drawn = draw(pool, large, seed=seed, source="general", stratum=stratum)
    assert draw(pool, small, seed=seed, source="general", stratum=stratum) == drawn[:small]


@given(TEXTS, st.booleans(), st.randoms())
def test_permuted_files_give_the_same_draw(texts: list[str], stratified: bool, order: random.Random) -> None:
    shuffled = order.sample(texts, len(texts))

    def drawn(given_texts: list[str]) -> list[str]:
        pool = rows(given_texts, labels=[chr(ord("u") + ord(text) % 3) for text in given_texts])
        stratum = by_label if stratified else None
        return [row.key for row in draw_order(pool, seed=1, source="general", stratum=stratum)]

    assert drawn(texts) == drawn(shuffled)


@given(TEXTS, TEXTS)
def test_rows_added_to_a_pool_move_no_other_row(texts: list[str], added: list[str]) -> None:
    before = [row.key for row in draw_order(rows(texts), seed=1, source="general")]
    after = [row.key for row in draw_order(rows(texts + added), seed=1, source="general")]
    assert [key for key in after if key in set(before)] == before


def test_seeds_and_sources_draw_differently() -> None:
    pool = rows([str(number) for number in range(50)])
    orders = {
        tuple(row.key for row in draw_order(pool, seed=seed, source=source))
        for seed in (0, 1)
        for source in ("general", "other")
    }
    assert len(orders) == 4


def test_every_row_comes_first_about_equally_often() -> None:
    pool = rows([str(number) for number in range(10)])
    first = Counter(draw(pool, 1, seed=seed, source="general")[0].row_id for seed in range(2000))
    assert len(first) == 10
    assert all(140 <= count <= 260 for count in first.values())  # 200 expected, standard deviation 13.4


@settings(max_examples=200)
@given(LABELLED, st.integers(0, 3))
def test_every_prefix_holds_the_strata_in_proportion_within_one_row(pairs: list[tuple[str, str]], seed: int) -> None:
    pool = rows([text for text, _ in pairs], labels=[label for _, label in pairs])
    ordered = draw_order(pool, seed=seed, source="general", stratum=by_label)
    assert sorted(row.key for row in ordered) == sorted(row.key for row in pool)
    sizes, held = Counter(by_label(row) for row in pool), Counter[str]()
    for place, row in enumerate(ordered, start=1):
        held[by_label(row)] += 1
        for label, size in sizes.items():
            assert abs(held[label] - place * size / len(pool)) < 1


@pytest.mark.parametrize("sizes", [[90] + [1] * 10, [1] * 7, [50, 49, 1], [3], [1000, 1], [7] * 40 + [300]])
def test_many_small_strata_do_not_push_the_large_one_out(sizes: list[int]) -> None:
    labels = [str(place) for place, size in enumerate(sizes) for _ in range(size)]
    pool = rows([str(number) for number in range(len(labels))], labels=labels)
    held = Counter[str]()
    for place, row in enumerate(draw_order(pool, seed=0, source="general", stratum=by_label), start=1):
        held[by_label(row)] += 1
        assert all(abs(held[str(n)] - place * size / len(pool)) < 1 for n, size in enumerate(sizes))


def test_within_a_stratum_the_order_is_that_of_the_plain_draw() -> None:
    pool = rows([str(number) for number in range(60)], labels=["uvw"[number % 3] for number in range(60)])
    plain = draw_order(pool, seed=4, source="general")
    stratified = draw_order(pool, seed=4, source="general", stratum=by_label)
    for label in "uvw":
        assert [row for row in stratified if row.label == label] == [row for row in plain if row.label == label]


def test_a_dose_larger_than_what_is_left_is_refused_with_both_numbers() -> None:
    with pytest.raises(MixError, match=r"^arms\.doses\.general: 4 rows of 'general' were asked, 3 are left"):
        draw(rows(["a", "b", "c"]), 4, seed=0, source="general", where="arms.doses.general")


def test_nothing_can_be_drawn_from_nothing() -> None:
    assert draw([], 0, seed=0, source="general") == ()
