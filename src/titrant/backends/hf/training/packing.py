"""Cut an optimiser step into micro-batches.

Which rows share an optimiser step is the plan's affair and part of the treatment. How the step is cut to fit in memory
is decided here, and changes nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Sequence


def first_fit_decreasing(lengths: Sequence[int], budget_tokens: int) -> tuple[tuple[int, ...], ...]:
    """Indices of rows by pack: every row once, no pack over the budget unless it holds a single longer row.

    The longest row goes first, each into the first pack with room (Johnson 1973: at most 11/9 of the best number of
    packs, and a bit). Rows of equal length keep their order, and so do the indices within a pack.

    >>> first_fit_decreasing([30, 70, 20, 60, 200], 100)
    ((4,), (0, 1), (2, 3))
    """
    packs: list[list[int]] = []
    room: list[int] = []
    # Python's sort is stable, so rows of equal length keep their order and equal steps are packed alike everywhere.
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        place = next((number for number, left in enumerate(room) if lengths[index] <= left), None)
        if place is None:
            place = len(packs)
            packs.append([])
            room.append(budget_tokens)
        packs[place].append(index)
        room[place] -= lengths[index]
    return tuple(tuple(sorted(pack)) for pack in packs)
