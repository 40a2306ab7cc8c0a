"""Duplicates within and across pools."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from titrant.core.identity import content_keys
from titrant.core.records import Example, Turn
from titrant.data.contamination import Duplicate, duplicates
from titrant.data.contamination.words import shingles

TEXT = (
    "The tide table on the harbour office wall is printed once a year, and the harbour master corrects it by hand "
    "whenever a storm has moved the sand bank, so that the ferry knows how long it can wait for the late train."
)


def rows(texts: list[str], *, source: str = "general", answer: str = "Noted.") -> list[Example]:
    return [
        Example(
            key=key,
            row_id=str(number),
            source=source,
            task=source,
            turns=(Turn(role="user", text=text), Turn(role="assistant", text=answer)),
        )
        for number, (key, text) in enumerate(zip(content_keys(texts), texts, strict=True), start=1)
    ]


def summary(found: tuple[Duplicate, ...]) -> list[tuple[str, str, str]]:
    return sorted((entry.kind, *sorted((entry.kept.row_id, entry.row.row_id))) for entry in found)


def test_rows_that_differ_in_case_and_white_space_are_exact_duplicates() -> None:
    found = duplicates({"general": rows([TEXT, "Something else.", TEXT.upper().replace(" ", "\n")])})
    assert summary(found) == [("exact", "1", "3")]


def test_rows_that_differ_in_one_word_are_near_duplicates_with_their_true_similarity() -> None:
    changed = TEXT.replace("late", "evening")
    (entry,) = duplicates({"general": rows([TEXT, changed])})
    one, other = shingles(f"{TEXT}\nNoted.", length=5), shingles(f"{changed}\nNoted.", length=5)
    assert entry.kind == "near"
    assert entry.similarity == len(one & other) / len(one | other)


def test_rows_just_below_the_similarity_are_not_duplicates_and_just_above_it_are() -> None:
    """Forty of w words are shared: the runs of five in both, 36, over those in either."""
    for number in range(20):
        shared = " ".join(f"w{number}x{place}" for place in range(40))
        for own, found in ((7, 0), (3, 1)):  # 36 / (36 + 2 * 7) = 0.72 and 36 / (36 + 2 * 3) = 0.86
            one, other = (shared + "".join(f" {mark}{place}" for place in range(own)) for mark in "ab")
            pool = [*rows([one], answer=""), *rows([other], answer="")]
            assert len(duplicates({"general": pool})) == found


def test_rows_that_share_half_their_text_are_not_duplicates() -> None:
    half = " ".join(TEXT.split()[:20])
    assert duplicates({"general": rows([TEXT, f"{half} and that is all there is to say about it on a Sunday."])}) == ()


def test_equal_prompts_with_other_answers_are_not_exact_duplicates() -> None:
    pools = {"a": rows(["2 + 2?"], source="a", answer="Four, of course."), "b": rows(["2 + 2?"], source="b")}
    assert duplicates(pools) == ()


def test_short_sums_with_other_operators_are_not_duplicates() -> None:
    assert duplicates({"general": rows(["Work out 12 + 7.", "Work out 12 - 7."])}) == ()


def test_a_row_of_an_earlier_pool_is_the_one_that_is_kept() -> None:
    (entry,) = duplicates({"tickets": rows([TEXT], source="tickets"), "general": rows([TEXT.lower()])})
    assert (entry.kept.source, entry.row.source, entry.across) == ("tickets", "general", True)


def test_a_cluster_names_each_repeated_row_once() -> None:
    found = duplicates({"general": rows([f"{TEXT} {number}" for number in range(30)])})
    assert len(found) == 29
    assert len({entry.row.key for entry in found}) == 29
    assert len({entry.kept.key for entry in found}) == 1


def test_rows_without_words_are_compared_exactly_only() -> None:
    assert summary(duplicates({"general": [*rows(["?!", "…"], answer=""), *rows(["?!"], answer="")]})) == [
        ("exact", "1", "1")
    ]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=4, max_size=9).map(" ".join), min_size=2, max_size=12),
    st.randoms(),
)
def test_the_order_of_a_file_changes_nothing(texts: list[str], order: random.Random) -> None:
    pool = rows(texts)
    shuffled = order.sample(pool, len(pool))

    def keys(found: tuple[Duplicate, ...]) -> set[tuple[str, str, str]]:
        return {(entry.kind, entry.kept.key, entry.row.key) for entry in found}

    assert keys(duplicates({"general": pool})) == keys(duplicates({"general": shuffled}))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=8).map(" ".join), min_size=2, max_size=10))
def test_what_is_left_holds_no_pair_that_is_alike(texts: list[str]) -> None:
    pool = rows(texts)
    repeated = {entry.row.key for entry in duplicates({"general": pool})}
    left = [shingles(f"{row.prompt[0].text}\nNoted.", length=5) for row in pool if row.key not in repeated]
    for place, one in enumerate(left):
        for other in left[:place]:
            assert len(one & other) / len(one | other) < 0.8
