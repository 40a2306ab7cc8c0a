"""Pools too large for memory: only the rows that a dose could draw are held, and the draw is the same.

A dose is a prefix of the draw order, so the first rows of that order at every seed, and a reserve for those that are
taken out (test items, too long), are all that a study can need. They are found in one reading of the file and fetched
in a second; only where more than the reserve has to be taken out the file is read again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from titrant import sampling
from titrant.config.study import Study, TokenDose
from titrant.core.errors import DataError
from titrant.core.records import Example, TokenRow
from titrant.data import readers
from titrant.data.readers import ColumnMap

_RESERVE = 256
_BYTES_A_TOKEN = 6  # many, so that a dose in tokens fetches rather more rows than it needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The largest doses of a pool: in rows, and in tokens."""

    rows: int
    tokens: int


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class LargePool:
    """The part of a pool that is held. `first` are for each seed the keys of the rows that it draws first.

    `whole` where they are all rows of the file; `rows_in_file` counts those.
    """

    rows: tuple[Example, ...]
    first: Mapping[int, frozenset[str]]
    rows_in_file: int
    whole: bool

    def suffices(self, wanted: Wanted, *, left: Collection[str], tokens_of: Callable[[str], int]) -> bool:
        """Whether what is left of the rows that each seed draws first holds the largest doses."""
        if self.whole:
            return True
        for keys in self.first.values():
            mine = [key for key in keys if key in left]
            if len(mine) < wanted.rows:
                return False
            if wanted.tokens and sum(map(tokens_of, mine)) <= wanted.tokens:
                return False
        return True


def wanted_of(study: Study, name: str) -> Wanted:
    """The largest doses of a pool that the study asks for."""
    arms = study.arms
    doses = arms.doses.get(name, ())
    rows = [dose for dose in doses if isinstance(dose, int)]
    for blend in arms.blends:
        if name in blend.shares:
            rows.append(sampling.largest_remainder(blend.total, blend.shares)[name])
    tokens = [dose.tokens for dose in doses if isinstance(dose, TokenDose)]
    return Wanted(rows=max(rows, default=0), tokens=max(tokens, default=0))


def read_large_pool(
    study: Study,
    name: str,
    path: str,
    *,
    columns: ColumnMap | None,
    instruction: str | None,
    shape: str | None,
    on_fault: Callable[[DataError], None] | None = None,
    reserve: int = 1,
) -> LargePool:
    """The rows of a large file that the study can draw. `reserve` is raised where what is held did not suffice."""
    index = readers.index_rows(path, columns=columns, instruction=instruction, shape=shape, on_fault=on_fault)
    occurrence_N = sampling.occurrences(index.digests)
    wanted = wanted_of(study, name)
    mean_bytes = max(1, Path(path).stat().st_size // max(len(index), 1)) * (4 if path.lower().endswith(".gz") else 1)
    in_rows = max(wanted.rows, wanted.tokens * _BYTES_A_TOKEN // mean_bytes)
    count = in_rows + reserve * (in_rows // 4 + _RESERVE)
    keys_by_line: dict[int, str] = {}
    first: dict[int, frozenset[str]] = {}
    for seed in study.arms.seeds:
        numbers = sampling.first_rows_of_draw(index.digests, occurrence_N, count=count, seed=seed, source=name)
        keys = [f"{index.digests[16 * row : 16 * row + 16].hex()}.{occurrence_N[row]}" for row in numbers.tolist()]
        keys_by_line.update(zip((index.lines[row] for row in numbers.tolist()), keys, strict=True))
        first[seed] = frozenset(keys)
    total = len(index)
    del index, occurrence_N  # hundreds of megabytes, and the rows are about to come
    rows = tuple(
        readers.fetch_rows(path, keys_by_line, source=name, columns=columns, instruction=instruction, shape=shape)
    )
    return LargePool(rows=rows, first=first, rows_in_file=total, whole=count >= total)


def tokens_by_key(rows: Mapping[tuple[str, str], TokenRow], source: str) -> Callable[[str], int]:
    """How many tokens a row of the source has, by its key."""
    return lambda key: len(rows[(source, key)].ids)
