"""Which rows of a file too large for memory are drawn first, from sixteen bytes a row.

The draw order is that of `draws`: the hash of (seed, source, key), a key being the hash of the content and how many
equal contents came before it. So the rows themselves are not needed until it is known which of them are wanted.

Array names end in shape letters: N rows of the file.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

DIGEST_BYTES = 16


def occurrences(digests: bytes | bytearray) -> NDArray[np.uint32]:
    """For every row how many rows of equal content came before it; `digests` are the rows' hashes one after the other.

    >>> occurrences(bytes([1] * 16 + [2] * 16 + [1] * 16)).tolist()
    [0, 0, 1]
    """
    # Half of each hash finds the few rows that may be equal; only those are compared whole and counted in a dictionary,
    # which for every row of the file would take gigabytes.
    head_N = np.frombuffer(digests, dtype=np.uint64)[::2]
    ordered = np.sort(head_N)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    found_N = np.zeros(len(head_N), dtype=np.uint32)
    if len(twice):
        place_N = np.minimum(np.searchsorted(twice, head_N), len(twice) - 1)
        seen: Counter[bytes] = Counter()
        for row in np.flatnonzero(twice[place_N] == head_N).tolist():
            digest = bytes(digests[row * DIGEST_BYTES : (row + 1) * DIGEST_BYTES])
            found_N[row] = seen[digest]
            seen[digest] += 1
    return found_N


def first_rows_of_draw(
    digests: bytes | bytearray, occurrence_N: NDArray[np.uint32], *, count: int, seed: int, source: str
) -> NDArray[np.intp]:
    """The numbers of the rows that `draws.draw_order` puts first at `seed`, in rising order: `count` of them, or all.

    Rows whose hashes agree in the first eight bytes count as one place, so there can be a few more.
    """
    if count >= len(occurrence_N):
        return np.arange(len(occurrence_N), dtype=np.intp)
    if count <= 0:
        return np.zeros(0, dtype=np.intp)
    keys = (
        f"{digests[row * DIGEST_BYTES : (row + 1) * DIGEST_BYTES].hex()}.{number}"
        for row, number in enumerate(occurrence_N.tolist())
    )
    rank_N = draw_ranks(keys, seed=seed, source=source)
    # A partition and no sort: only where the prefix ends matters here, and the rows are put in order once they are in
    # memory.
    last = np.partition(rank_N, count - 1)[count - 1]
    return np.flatnonzero(rank_N <= last)


def draw_ranks(keys: Iterable[str], *, seed: int, source: str) -> NDArray[np.uint64]:
    """For each key the first eight bytes of the hash by which `draws.draw_order` ranks it at `seed`.

    >>> ranks_N = draw_ranks(["a.0", "b.0"], seed=0, source="pool")
    >>> (ranks_N == draw_ranks(["a.0", "b.0"], seed=1, source="pool")).any()
    np.False_
    """
    before = f"{seed}\x1f{source}\x1f".encode("utf-8", "surrogatepass")
    ranks = array("Q")
    sha256, append = hashlib.sha256, ranks.append
    for key in keys:
        append(int.from_bytes(sha256(before + key.encode("utf-8", "surrogatepass")).digest()[:8], "big"))
    return np.frombuffer(ranks, dtype=np.uint64) if ranks else np.zeros(0, dtype=np.uint64)
