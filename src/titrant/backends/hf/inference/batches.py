"""Which rows share a forward. The composition follows from the rows alone, never from their order or from memory that
happens to be free: in bf16 the neighbours of a row can move its last bits, and a rerun must give the same bits."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from titrant.backends.hf.models.prefixes import common_beginning


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a row adds to a batch: tokens in the forward, logit rows at its end, and tokens that may be written behind
    it; `name` breaks ties of length."""

    tokens: int
    logits: int
    name: tuple[str, tuple[int, ...]]
    written: int = 0


def fixed_batches(loads: Sequence[Load], *, tokens: int, logits: int, rows: int) -> tuple[tuple[int, ...], ...]:
    """Indices by batch: rows of like length together, every batch within the budgets unless a single row exceeds them.

    >>> loads = [Load(tokens=length, logits=1, name=(str(length), ())) for length in (5, 2, 4, 9)]
    >>> fixed_batches(loads, tokens=9, logits=9, rows=9)
    ((1, 2), (0,), (3,))
    """
    order = sorted(range(len(loads)), key=lambda index: (loads[index].tokens, loads[index].name))
    costs = [loads[index].tokens for index in order]
    return _filled(order, costs, costs, [load.logits for load in loads], budget_tokens=tokens, logits=logits, rows=rows)


def padded_batches(loads: Sequence[Load], *, tokens: int, logits: int, rows: int) -> tuple[tuple[int, ...], ...]:
    """The same where every row takes the room of the longest of its batch, and of the longest that may be written.

    >>> loads = [Load(tokens=length, logits=1, name=(str(length), ())) for length in (5, 2, 4, 9)]
    >>> padded_batches(loads, tokens=9, logits=9, rows=9)
    ((1, 2), (0,), (3,))
    >>> padded_batches(loads, tokens=7, logits=9, rows=9)
    ((1,), (2,), (0,), (3,))
    """
    batches: list[list[int]] = []
    used_logits = longest = most = 0
    lengths = [(load.tokens + load.written, load.name) for load in loads]
    for index in sorted(range(len(loads)), key=lengths.__getitem__):
        load = loads[index]
        full = not batches or len(batches[-1]) >= rows or used_logits + load.logits > logits
        # A rectangle: prompts are padded to the longest, and every row gets the columns of the longest that may be
        # written.
        room = max(longest, load.tokens) + max(most, load.written)
        if full or (len(batches[-1]) + 1) * room > tokens:
            batches.append([])
            used_logits = longest = most = 0
        batches[-1].append(index)
        used_logits += load.logits
        longest, most = max(longest, load.tokens), max(most, load.written)
    return tuple(map(tuple, batches))


def shared_batches(loads: Sequence[Load], *, tokens: int, logits: int) -> tuple[tuple[int, ...], ...]:
    """The same for rows whose common beginnings are computed once a batch: rows that begin alike stand together, and a
    row counts with the tokens that the row before it does not have. The ids are those of the `name`.

    >>> loads = [Load(tokens=4, logits=1, name=("", ids)) for ids in ((1, 2, 3, 4), (7, 7, 7, 7), (1, 2, 3, 5))]
    >>> shared_batches(loads, tokens=5, logits=9)
    ((0, 2), (1,))
    """
    # By ids first: texts that begin alike stand side by side, and the common beginning of two neighbours is all that
    # has to be looked at.
    order = sorted(range(len(loads)), key=lambda index: loads[index].name[::-1])
    alone = [loads[index].tokens for index in order]
    texts = [loads[index].name[1] for index in order]
    beginnings = [0, *(common_beginning(left, right) for left, right in itertools.pairwise(texts))]
    added = [cost - begun for cost, begun in zip(alone, beginnings, strict=True)]
    limit = len(loads)
    return _filled(
        order, alone, added, [load.logits for load in loads], budget_tokens=tokens, logits=logits, rows=limit
    )


def _filled(
    order: Sequence[int],
    alone: Sequence[int],
    added: Sequence[int],
    logits_of: Sequence[int],
    *,
    budget_tokens: int,
    logits: int,
    rows: int,
) -> tuple[tuple[int, ...], ...]:
    """Batches filled in this order: the first row of a batch counts with its tokens `alone`, others with `added`."""
    batches: list[list[int]] = []
    used_tokens = used_logits = 0
    for place, index in enumerate(order):
        full = not batches or len(batches[-1]) >= rows
        if full or used_tokens + added[place] > budget_tokens or used_logits + logits_of[index] > logits:
            batches.append([])
            used_tokens, used_logits = alone[place], logits_of[index]
        else:
            used_tokens += added[place]
            used_logits += logits_of[index]
        batches[-1].append(index)
    return tuple(map(tuple, batches))
