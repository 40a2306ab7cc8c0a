"""Which rows share an optimiser step, in which order: part of the treatment, so it is planned here and nowhere else.

Target rows are visited in whole shuffled passes; generalist rows likewise. A joint presentation spreads the generalist
visits evenly at random among the target's. The target's own order depends on the seed alone, never on the dose, so
that arms of one seed differ in what was added and in nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from titrant.core.identity import rng_for
from titrant.core.records import Presentation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Visits = NDArray[np.intp]
    """Indices of rows in the order in which they are visited."""


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
    """The steps, each the indices of its rows: `plan_visits`, cut at `step_edges`."""
    visits = plan_visits(target=target, generalist=generalist, lengths=lengths, schedule=schedule, seed=seed)
    return cut_steps(visits, schedule.batch_rows)


def plan_visits(
    *,
    target: Sequence[int],
    generalist: Mapping[str, Sequence[int]],
    lengths: Sequence[int],
    schedule: Schedule,
    seed: int,
) -> Visits:
    """The indices of rows in the order in which they are visited.

    `target` and the values of `generalist` are indices of rows in draw order; `lengths` are tokens by row index.
    """
    import numpy as np

    # By name, or the order in which a study lists its sources would change what is trained.
    pool = [index for _, rows in sorted(generalist.items()) for index in rows]
    added = _passes(pool, schedule.generalist_passes, seed=seed, stream="generalist")
    held = schedule.visits is not None or schedule.tokens is not None
    if not target:
        own = np.zeros(0, dtype=np.intp)
        if held:
            added = _until(pool, schedule, own, lengths, seed=seed, stream="generalist")
    elif held:
        # Generalist visits are fixed by the dose; the target fills what is left of the total, so that arms are equal in
        # all.
        own = _until(target, schedule, added, lengths, seed=seed, stream="target")
    else:
        own = _passes(target, schedule.passes, seed=seed, stream="target")
    if schedule.presentation == "generalist_first":
        return np.concatenate([added, own])
    return _interleaved(own, added, seed=seed)


def step_edges(visits: int, batch_rows: int) -> list[int]:
    """Where the steps lie among the visits V: step k is from edge k to edge k + 1.

    There are ceil(V / batch_rows) steps, whose sizes differ by one at most, so that no row weighs much more than
    another in a short last step.

    >>> step_edges(10, 4)
    [0, 3, 6, 10]
    """
    count = -(-visits // batch_rows)
    return [visits * number // count for number in range(count + 1)] if count else [0]


def cut_steps(visits: Visits, batch_rows: int) -> tuple[tuple[int, ...], ...]:
    """The visits of every step."""
    listed: list[int] = visits.tolist()
    return tuple(tuple(listed[start:stop]) for start, stop in pairwise(step_edges(len(listed), batch_rows)))


def _passes(rows: Sequence[int], passes: int, *, seed: int, stream: str) -> Visits:
    """`passes` whole shuffles of the rows, one after the other."""
    import numpy as np

    rng = rng_for(seed, "order", stream)
    rows_N = np.asarray(rows, dtype=np.intp)
    # The empty slice in front keeps the result an index array where there are no passes.
    return np.concatenate([rows_N[:0], *(rows_N[rng.permutation(len(rows_N))] for _ in range(passes))])


def _until(
    rows: Sequence[int], schedule: Schedule, before: Visits, lengths: Sequence[int], *, seed: int, stream: str
) -> Visits:
    """Whole shuffled passes over the rows until the schedule's visits or tokens are reached, `before` counted in."""
    import numpy as np

    rng = rng_for(seed, "order", stream)
    rows_N, tokens_of = np.asarray(rows, dtype=np.intp), np.asarray(lengths, dtype=np.int64)
    chosen = [rows_N[:0]]
    visits, tokens = len(before), int(tokens_of[before].sum())
    whole = len(rows_N) > 0
    while whole:
        shuffled = rows_N[rng.permutation(len(rows_N))]
        fit = len(shuffled)
        if schedule.visits is not None:
            fit = min(fit, max(schedule.visits - visits, 0))
        if schedule.tokens is not None:
            # Whole rows only: the prefix of the pass that stays within the budget.
            so_far = tokens + np.cumsum(tokens_of[shuffled])
            fit = min(fit, int(np.searchsorted(so_far, schedule.tokens, side="right")))
        chosen.append(shuffled[:fit])
        visits, tokens = visits + fit, tokens + int(tokens_of[shuffled[:fit]].sum())
        # A pass that was cut has reached the total.
        whole = fit == len(shuffled)
    return np.concatenate(chosen)


def _interleaved(own: Visits, added: Visits, *, seed: int) -> Visits:
    """Both sequences in their own order, merged at places drawn uniformly."""
    import numpy as np

    merged = np.concatenate([own, added])
    if not len(added) or not len(own):
        return merged
    is_added = np.zeros(len(merged), dtype=bool)
    # Which places are the pool's is drawn uniformly; within both sequences order stays, so that a dose changes between
    # which target rows others stand and never the order of the target rows.
    is_added[rng_for(seed, "order", "merge").permutation(len(merged))[: len(added)]] = True
    merged[is_added], merged[~is_added] = added, own
    return merged
