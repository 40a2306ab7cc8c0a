"""Which rows share an optimiser step, in which order: part of the treatment, so it is planned here and nowhere else.

Target rows are visited in whole shuffled passes; generalist rows likewise. A joint presentation spreads the generalist
visits evenly at random among the target's. The target's own order depends on the seed alone, never on the dose, so
that arms of one seed differ in what was added and in nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from titrant.identity import rng_for
from titrant.records import Presentation


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How often rows are visited. `visits` or `tokens`, when given, fix the total over all rows: target rows then cycle
    (generalist rows, where there are no target rows) until it is reached."""

    passes: int
    generalist_passes: int
    batch_rows: int
    presentation: Presentation = "joint"
    visits: int | None = None
    tokens: int | None = None


def plan_steps(
    *,
    target: Sequence[int],
    generalist: Mapping[str, Sequence[int]],
    lengths: Sequence[int],
    schedule: Schedule,
    seed: int,
) -> tuple[tuple[int, ...], ...]:
    """The steps, each the indices of its rows.

    `target` and the values of `generalist` are indices of rows in draw order; `lengths` are tokens by row index. The
    visits V are cut into ceil(V / batch_rows) steps whose sizes differ by one at most, so that no row weighs much more
    than another in a short last step.
    """
    pool = tuple(index for _, rows in sorted(generalist.items()) for index in rows)
    added = _passes(pool, schedule.generalist_passes, seed=seed, stream="generalist")
    if not target:
        own: tuple[int, ...] = ()
        if schedule.visits is not None or schedule.tokens is not None:
            added = _until(pool, schedule, (), lengths, seed=seed, stream="generalist")
    elif schedule.visits is not None or schedule.tokens is not None:
        own = _until(target, schedule, added, lengths, seed=seed, stream="target")
    else:
        own = _passes(target, schedule.passes, seed=seed, stream="target")
    visits = added + own if schedule.presentation == "generalist_first" else _interleaved(own, added, seed=seed)
    return _cut(visits, schedule.batch_rows)


def _passes(rows: Sequence[int], passes: int, *, seed: int, stream: str) -> tuple[int, ...]:
    """`passes` whole shuffles of the rows, one after the other."""
    rng = rng_for(seed, "order", stream)
    return tuple(int(rows[place]) for _ in range(passes) for place in rng.permutation(len(rows)))


def _until(
    rows: Sequence[int], schedule: Schedule, before: Sequence[int], lengths: Sequence[int], *, seed: int, stream: str
) -> tuple[int, ...]:
    """Whole shuffled passes over the rows until the schedule's visits or tokens are reached, `before` counted in."""
    rng = rng_for(seed, "order", stream)
    chosen: list[int] = []
    visits, tokens = len(before), sum(lengths[index] for index in before)
    while rows:
        for place in rng.permutation(len(rows)):
            index = int(rows[place])
            if schedule.visits is not None and visits >= schedule.visits:
                return tuple(chosen)
            if schedule.tokens is not None and tokens + lengths[index] > schedule.tokens:
                return tuple(chosen)
            chosen.append(index)
            visits, tokens = visits + 1, tokens + lengths[index]
    return tuple(chosen)


def _interleaved(own: Sequence[int], added: Sequence[int], *, seed: int) -> tuple[int, ...]:
    """Both sequences in their own order, merged at places drawn uniformly."""
    import numpy as np

    if not added or not own:
        return tuple(own) + tuple(added)
    is_added = np.zeros(len(own) + len(added), dtype=bool)
    is_added[rng_for(seed, "order", "merge").permutation(len(is_added))[: len(added)]] = True
    own_rows, added_rows = iter(own), iter(added)
    return tuple(next(added_rows) if flag else next(own_rows) for flag in is_added)


def _cut(visits: Sequence[int], batch_rows: int) -> tuple[tuple[int, ...], ...]:
    """Nearly equal steps of at most `batch_rows` visits."""
    count = -(-len(visits) // batch_rows)
    edges = [len(visits) * number // count for number in range(count + 1)] if count else [0]
    return tuple(tuple(visits[start:stop]) for start, stop in pairwise(edges))
