"""Rows that stand more than once, within a pool and across pools.

*Exact*: the same folded text, turn by turn, prompt and answer (case and white space do not count, punctuation does).
*Near*: the sets of five-word runs of the two conversations have a Jaccard similarity of at least 0.8. Candidates come
from MinHash (datasketch; 120 permutations with a fixed seed, 20 bands of 6) and every candidate is then compared
exactly, so each pair that is named is one; of pairs right at the threshold 99.8% are found, at 0.9 all but one in a
million. Rows of fewer than five words have one run, so they are near duplicates only of rows with the same words.

Rows are looked at in the order of their keys, each against the rows that were kept before: the result does not depend
on the order of a file, and a cluster of thousands costs no more than its rows.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from titrant.core.records import Example
from titrant.data.contamination.words import folded, shingles


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateSettings:
    """How alike two rows must be. `bands` × `band_rows` permutations decide which pairs are compared."""

    near: bool = True
    run_words: int = 5
    similarity: float = 0.8
    bands: int = 20
    band_rows: int = 6
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """`row` says again what `kept` says. `similarity` is the Jaccard similarity, 1 for exact ones."""

    kind: Literal["exact", "near"]
    similarity: float
    kept: Example
    row: Example

    @property
    def across(self) -> bool:
        """Do the two rows come from different pools?"""
        return self.kept.source != self.row.source


def duplicates(
    pools: Mapping[str, Sequence[Example]], *, settings: DuplicateSettings | None = None
) -> tuple[Duplicate, ...]:
    """Every row that repeats another, named once, with the row that is kept. Pools are looked at in the mapping's
    order, so a row of an earlier pool is the one that is kept."""
    settings = settings or DuplicateSettings()
    kept_by_text: dict[str, Example] = {}
    found: list[Duplicate] = []
    once: list[Example] = []
    for rows in pools.values():
        for row in sorted(rows, key=lambda row: row.key):
            text = "\x1f".join(f"{turn.role}\x1e{folded(turn.text)}" for turn in row.turns)
            kept = kept_by_text.setdefault(text, row)
            if kept is row:
                once.append(row)
            else:
                found.append(Duplicate(kind="exact", similarity=1.0, kept=kept, row=row))
    if settings.near:
        found.extend(_near(once, settings))
    return tuple(found)


def _near(rows: Sequence[Example], settings: DuplicateSettings) -> list[Duplicate]:
    from datasketch import MinHash, MinHashLSH

    # A pair of similarity s shares a band with probability 1 - (1 - s^6)^20: 0.998 at s = 0.8, 0.005 at 0.25. The
    # parameters are given, as datasketch would choose others.
    permutations = settings.bands * settings.band_rows
    index = MinHashLSH(num_perm=permutations, params=(settings.bands, settings.band_rows))
    blank = MinHash(num_perm=permutations, seed=settings.seed, hashfunc=zlib.crc32)
    runs_of: dict[int, frozenset[str]] = {}
    found = []
    for place, row in enumerate(rows):
        runs = shingles("\n".join(turn.text for turn in row.turns), length=settings.run_words)
        if not runs:
            continue
        signature = blank.copy()
        signature.update_batch([run.encode("utf-8", "surrogatepass") for run in runs])
        # Signatures only propose; what is named has been compared in full. Ties go to the row kept first.
        likest = max(((_jaccard(runs, runs_of[other]), -other) for other in index.query(signature)), default=(0.0, 0))
        if likest[0] >= settings.similarity:
            found.append(Duplicate(kind="near", similarity=likest[0], kept=rows[-likest[1]], row=row))
        else:
            runs_of[place] = runs
            index.insert(place, signature, check_duplication=False)
    return found


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)
