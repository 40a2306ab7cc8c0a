"""Nested draws keyed by content.

The order in which a pool is drawn is the order of the hashes of (seed, source, key), and a key is the content's hash
with its occurrence. A draw is a prefix of that order. So a larger dose contains every smaller one, the order of the
file changes nothing, and a row that is added elsewhere in the pool moves no other row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heappop, heappush

from titrant.core.errors import MixError
from titrant.core.identity import hash_text
from titrant.core.records import Example


def draw_order(
    rows: Sequence[Example],
    *,
    seed: int,
    source: str,
    stratum: Callable[[Example], str] | None = None,
    key: Callable[[Example], str] = lambda row: row.key,
) -> tuple[Example, ...]:
    """All rows in the order in which they are drawn at `seed`. `key`: what a row is ranked by, if not its own key.

    With `stratum`, every prefix holds each stratum in proportion to its share of the pool, off by less than one row,
    and prefixes stay nested. Within a stratum the order is that of the hashes.
    """
    # By hash and not by a shuffle with a generator: a shuffle moves every row when one is added, a hash moves none.
    ranked = sorted(rows, key=lambda row: (_rank(seed, source, key(row)), row.key))
    if stratum is None:
        return tuple(ranked)
    members: dict[str, list[Example]] = defaultdict(list)
    for row in ranked:
        members[stratum(row)].append(row)
    names = sorted(members, key=lambda name: _rank(seed, source, name))
    return tuple(members[names[place]][rank] for place, rank in _in_proportion([len(members[name]) for name in names]))


def _in_proportion(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(stratum, rank) in an order whose every prefix of t has each stratum within 1 - 1/(2k - 2) of t · size / total.

    The chairman assignment of Tijdeman (Discrete Mathematics 32, 1980): at each place, of the strata that lag enough to
    be due, the one whose last possible place comes first. Whole numbers only. Simple roundings of the shares do not
    keep within one row when there are many small strata.
    """
    # Row number r of a stratum of n may come no earlier than its share allows and no later than it demands; with 2k - 2
    # as the unit of lateness, all windows can be met at once (Tijdeman). `-(-a // b)` is the quotient rounded up.
    total, parts = sum(sizes), max(1, 2 * len(sizes) - 2)
    slack = 1 if len(sizes) > 1 else 0
    waiting = [(-(-slack * total // (size * parts)), stratum, 0) for stratum, size in enumerate(sizes)]
    heapify(waiting)
    due: list[tuple[int, int, int]] = []
    for place in range(1, total + 1):
        # Rows whose window has opened move to those that are due; of these the one whose window closes first is taken.
        while waiting and waiting[0][0] <= place:
            _, stratum, rank = heappop(waiting)
            last = ((rank + 1) * parts - slack) * total // (sizes[stratum] * parts)
            heappush(due, (last, stratum, rank))
        _, stratum, rank = heappop(due)
        yield stratum, rank
        if rank + 1 < sizes[stratum]:
            # A stratum waits with its next row alone, so the heaps never hold more than k entries.
            first = -(-((rank + 1) * parts + slack) * total // (sizes[stratum] * parts))
            heappush(waiting, (first, stratum, rank + 1))


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
    assert count >= 0, "the study file has been checked"
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
