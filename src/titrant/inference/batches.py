"""Which rows share a forward. The composition follows from the rows alone, never from their order or from memory that
happens to be free: in bf16 the neighbours of a row can move its last bits, and a rerun must give the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a row adds to a batch: tokens in the forward and logit rows at its end; `name` breaks ties of length."""

    tokens: int
    logits: int
    name: tuple[str, tuple[int, ...]]


def fixed_batches(loads: Sequence[Load], *, tokens: int, logits: int, rows: int) -> tuple[tuple[int, ...], ...]:
    """Indices by batch: rows of like length together, every batch within the budgets unless a single row exceeds them.

    >>> loads = [Load(tokens=length, logits=1, name=(str(length), ())) for length in (5, 2, 4, 9)]
    >>> fixed_batches(loads, tokens=9, logits=9, rows=9)
    ((1, 2), (0,), (3,))
    """
    batches: list[list[int]] = []
    used_tokens = used_logits = 0
    for index in sorted(range(len(loads)), key=lambda index: (loads[index].tokens, loads[index].name)):
        load = loads[index]
        full = not batches or len(batches[-1]) >= rows
        if full or used_tokens + load.tokens > tokens or used_logits + load.logits > logits:
            batches.append([])
            used_tokens = used_logits = 0
        batches[-1].append(index)
        used_tokens += load.tokens
        used_logits += load.logits
    return tuple(map(tuple, batches))
