"""Nested draws keyed by content.

The order in which a pool is drawn is the order of the hashes of (seed, source, key), and a key is the content's hash
with its occurrence. A draw is a prefix of that order. So a larger dose contains every smaller one, the order of the
file changes nothing, and a row that is added elsewhere in the pool moves no other row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from titrant.errors import MixError
from titrant.identity import hash_text
from titrant.records import Example


def draw_order(
    rows: Sequence[Example], *, seed: int, source: str, stratum: Callable[[Example], str] | None = None
) -> tuple[Example, ...]:
    """All rows in the order in which they are drawn at `seed`.

    With `stratum`, every prefix holds the strata in proportion (within one row), and prefixes stay nested: a row's
    place is its rank within its stratum, scaled to the stratum's share of the pool.
    """
    ranked = sorted(rows, key=lambda row: (_rank(seed, source, row.key), row.key))
    if stratum is None:
        return tuple(ranked)
    members: dict[str, list[Example]] = defaultdict(list)
    for row in ranked:
        members[stratum(row)].append(row)
    placed = [
        ((rank + 0.5) / len(group), _rank(seed, source, row.key), row)
        for group in members.values()
        for rank, row in enumerate(group)
    ]
    placed.sort(key=lambda entry: (entry[0], entry[1]))
    return tuple(row for _, _, row in placed)


def draw(
    rows: Sequence[Example],
    count: int,
    *,
    seed: int,
    source: str,
    stratum: Callable[[Example], str] | None = None,
    where: str | None = None,
) -> tuple[Example, ...]:
    """The first `count` rows of the draw order: exactly that many, or `MixError` with both numbers."""
    if count > len(rows):
        raise MixError(
            f"{count} rows of {source!r} were asked, {len(rows)} are left",
            where=where,
            got=count,
            expected=f"at most {len(rows)}",
            fix=f"ask for at most {len(rows)} rows, or give {source!r} more rows (rows that were removed before the "
            "draw are listed by `titrant plan`)",
        )
    return draw_order(rows, seed=seed, source=source, stratum=stratum)[:count]


def _rank(seed: int, source: str, key: str) -> str:
    return hash_text(f"{seed}\x1f{source}\x1f{key}")
