"""Sources on equal terms: the same prompts in both, or answers of the same lengths.

Whether people's answers or a model's serve better is not told by two pools that differ in what they ask and in how long
they answer. `prompts_also_in: FILE` keeps the rows whose prompt stands in another file too. `lengths_as: SOURCE` keeps,
of two pools, as many rows of each in every class of answer length. `prompts_as: SOURCE` keeps, of both, the rows whose
prompt the other has after all cuts, and draws both in one order, so that doses of as many rows ask the same.

Which rows these are depends on whole pools, and a pool may be larger than memory. So the functions here see columns and
no rows: hashes of prompts and of keys, and lengths.

Array names end in shape letters: N rows of a pool, M prompts that several pools share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from titrant.core.identity import hash_text
from titrant.core.records import Example
from titrant.data import readers

PROMPT_BYTES = 16
_STEPS_A_DOUBLING = 2  # classes of length: a factor of 1.4 from one to the next


def prompt_digest(row: Example) -> bytes:
    """A hash of the row's prompt without case and spacing."""
    prompt = "\n".join(" ".join(turn.text.casefold().split()) for turn in row.prompt)
    return bytes.fromhex(hash_text(prompt, length=2 * PROMPT_BYTES))


def prompts_at(place: str) -> frozenset[bytes]:
    """The hashes of all prompts at `place`; rows there that cannot be read ask nothing."""
    rows = readers.stream_examples(
        place, source="other", task="other", on_fault=lambda _: None, numbered=False, prompts_only=True
    )
    return frozenset(map(prompt_digest, rows))


def key_hashes(keys: Iterable[str]) -> NDArray[np.bytes_]:
    """The SHA-256 of every key: whoever has to choose among rows takes those that come first by it, so that the order
    of a file changes nothing."""
    joined = b"".join(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest() for key in keys)
    return np.frombuffer(joined, dtype="S32") if joined else np.zeros(0, dtype="S32")


def of_same_prompts(
    pools: Sequence[tuple[NDArray[np.bytes_], NDArray[np.bytes_]]],
) -> tuple[NDArray[np.intp], ...]:
    """Of every pool, given as the hashes of its rows' prompts and keys, a row for each prompt that all pools have: M
    places in the columns, prompts in the same order. Of several rows with one prompt it is the first by hash of key."""
    prompts, rows = [], []
    for prompt_N, hash_N in pools:
        # Sorted by prompt, then by hash of key: the first row of each run of equal prompts is the one that stays,
        # whatever the file's order.
        order_N = np.lexsort((hash_N, prompt_N))
        sorted_N = prompt_N[order_N]
        is_first_N = np.ones(len(order_N), dtype=bool)
        is_first_N[1:] = sorted_N[1:] != sorted_N[:-1]
        prompts.append(sorted_N[is_first_N])
        rows.append(order_N[is_first_N])
    # Sorted and distinct in every pool, so place m of each result is the same prompt.
    common_M = reduce(lambda one, other: np.intersect1d(one, other, assume_unique=True), prompts)
    return tuple(row[np.searchsorted(prompt, common_M)] for prompt, row in zip(prompts, rows, strict=True))


def of_equal_lengths(
    one: tuple[NDArray[np.int32], NDArray[np.bytes_]], other: tuple[NDArray[np.int32], NDArray[np.bytes_]]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The places, in rising order, of the rows that stay where two pools are cut to as many in every class of length.

    A pool is given as the lengths of its answers (tokens that bear loss) and the hashes of its keys; of the fuller one
    the rows stay that come first by hash of key.
    """
    classes = [_length_classes(length_N) for length_N, _ in (one, other)]
    most = 1 + max((int(class_N.max()) for class_N in classes if len(class_N)), default=0)
    room = np.minimum(*(np.bincount(class_N, minlength=most) for class_N in classes))
    kept = []
    for class_N, (_, hash_N) in zip(classes, (one, other), strict=True):
        order_N = np.lexsort((hash_N, class_N))
        sorted_N = class_N[order_N]
        # The rank of a row within its class: its place less that of the first row of the class.
        place_in_class_N = np.arange(len(sorted_N)) - np.searchsorted(sorted_N, sorted_N)
        kept.append(np.sort(order_N[place_in_class_N < room[sorted_N]]))
    return kept[0], kept[1]


def _length_classes(length_N: NDArray[np.int32]) -> NDArray[np.intp]:
    lengths, number_N = np.unique(length_N, return_inverse=True)
    return np.array([_length_class(length) for length in lengths.tolist()], dtype=np.intp)[number_N]


def _length_class(length: int) -> int:
    """0, 1, 2, … for lengths that grow by a factor; whole numbers only, so that it is the same everywhere.

    >>> [_length_class(length) for length in (1, 2, 3, 4, 6, 8, 12, 16)]
    [0, 2, 3, 4, 5, 6, 7, 8]
    """
    doubling = length.bit_length() - 1
    upper_half = 2 * length >= 3 << doubling
    return _STEPS_A_DOUBLING * doubling + upper_half
