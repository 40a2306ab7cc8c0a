"""Draws from sixteen bytes a row: the same as draws from the rows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from titrant.core.identity import content_keys, fingerprint
from titrant.core.records import Example, Turn
from titrant.sampling import draw_order, first_rows_of_draw, occurrences

TEXTS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40)


@given(TEXTS, st.integers(0, 3), st.integers(0, 45))
def test_the_first_rows_are_those_of_the_draw_order_equal_rows_included(
    texts: list[str], seed: int, count: int
) -> None:
    digests = b"".join(bytes.fromhex(fingerprint(text)) for text in texts)
    keys = content_keys(texts)
    rows = [
        Example(key=key, row_id=key, source="pool", task="pool", turns=(Turn(role="assistant", text=text),))
        for key, text in zip(keys, texts, strict=True)
    ]
    expected = {row.key for row in draw_order(rows, seed=seed, source="pool")[:count]}
    found = first_rows_of_draw(digests, occurrences(digests), count=count, seed=seed, source="pool")
    assert {keys[number] for number in found.tolist()} == expected
    assert found.tolist() == sorted(found.tolist())


@given(TEXTS)
def test_occurrences_are_those_of_content_keys(texts: list[str]) -> None:
    digests = b"".join(bytes.fromhex(fingerprint(text)) for text in texts)
    assert occurrences(digests).tolist() == [int(key.partition(".")[2]) for key in content_keys(texts)]


def test_hashes_that_agree_in_their_first_half_are_different_rows() -> None:
    digests = bytes(8) + bytes([1] * 8) + bytes(8) + bytes([2] * 8) + bytes(8) + bytes([1] * 8)
    assert occurrences(digests).tolist() == [0, 0, 1]
