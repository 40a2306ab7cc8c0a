"""Texts laid out so that what they begin with in common is computed once.

The rows of a narrow task begin alike: the chat template's opening, the instruction. In a causal model the states of a
common beginning are the same for every text behind it, so texts become a tree: a shared beginning is one segment, and
what follows it hangs below. Losses, gradients and answers are those of the texts laid out one by one; only their
number of tokens in the forward is smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from titrant.backends.hf.models.ragged import RaggedLayout, Segment

_WORTH_TOKENS = 16  # tokens that a shared segment must save: below, the smaller blocks of attention cost more


@dataclass(frozen=True, slots=True, kw_only=True)
class LaidOut:
    """Texts as one sequence: `ids` [T] in the order of `layout`, and for every text where each of its tokens lies.

    Two texts name the same place for a token that they share.
    """

    ids: tuple[int, ...]
    layout: RaggedLayout
    places: tuple[NDArray[np.intp], ...]


def lay_out(texts: Sequence[tuple[int, ...]], *, share: bool = True) -> LaidOut:
    """Lay out texts, none of them empty; with `share`, beginnings that at least two have in common once.

    >>> begin = tuple(range(20))
    >>> laid = lay_out([(*begin, 30, 31), (50,), (*begin, 40)])
    >>> len(laid.ids), [segment.parent for segment in laid.layout.segments]
    (24, [None, 0, 0, None])
    >>> [laid.ids[place] for place in laid.places[2]] == [*begin, 40]
    True
    """
    assert all(texts), "a text has tokens"
    if not share:
        return _end_to_end(texts)
    # Sorted, texts with a common beginning stand side by side, and what the first and the last of a run share is shared
    # by all between.
    order = sorted(range(len(texts)), key=lambda index: texts[index])
    segments: list[Segment] = []
    ids: list[int] = []
    deepest: list[int | None] = [None] * len(texts)  # the last segment of every text

    def add(text: tuple[int, ...], first: int, last: int, parent: int | None) -> int | None:
        if first == last:
            return parent
        segments.append(Segment(length=last - first, parent=parent))
        ids.extend(text[first:last])
        return len(segments) - 1

    # (first, last) of a run of `order`, tokens already laid out, tokens known to be common, the segment above
    waiting: list[tuple[int, int, int, int, int | None]] = [(0, len(order), 0, 0, None)]
    while waiting:
        first, last, done, common, parent = waiting.pop()
        text = texts[order[first]]
        if last - first == 1:
            deepest[order[first]] = add(text, done, len(text), parent)
            continue
        common = _common(text, texts[order[last - 1]], common)  # in sorted order it is common to all between
        # All texts but one are spared these tokens. Where that is too little, they stay with each text, and a deeper
        # branch may still be worth it.
        if (common - done) * (last - first - 1) >= _WORTH_TOKENS:
            parent, done = add(text, done, common, parent), common
        runs = _runs([texts[index] for index in order[first:last]], common)
        # Reversed onto a stack, so that the tree comes out depth first and in order, as `RaggedLayout` wants it.
        waiting.extend((first + start, first + stop, done, common, parent) for start, stop in reversed(runs))
    layout = RaggedLayout(segments=tuple(segments))
    return LaidOut(ids=tuple(ids), layout=layout, places=_places(layout, deepest))


def common_beginning(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two texts have in common before they part."""
    return _common(left, right, 0)


def _common(left: Sequence[int], right: Sequence[int], known: int) -> int:
    shorter = min(len(left), len(right))
    while known < shorter and left[known] == right[known]:
        known += 1
    return known


def _runs(texts: Sequence[tuple[int, ...]], common: int) -> list[tuple[int, int]]:
    """Ranges of sorted texts that go on with the same token behind `common`; a text that ends there stands alone."""
    edges = [0]
    for index in range(1, len(texts)):
        before, here = texts[index - 1], texts[index]
        if len(before) == common or before[common] != here[common]:
            edges.append(index)
    return list(zip(edges, [*edges[1:], len(texts)], strict=True))


def _places(layout: RaggedLayout, deepest: Sequence[int | None]) -> tuple[NDArray[np.intp], ...]:
    whole: list[NDArray[np.intp]] = []  # for every segment, where the tokens of all segments above it and its own lie
    for start, segment in zip(layout.starts, layout.segments, strict=True):
        own = np.arange(start, start + segment.length)
        whole.append(own if segment.parent is None else np.concatenate([whole[segment.parent], own]))
    found = []
    for segment_index in deepest:
        assert segment_index is not None, "a text has tokens"
        found.append(whole[segment_index])
    return tuple(found)


def _end_to_end(texts: Sequence[tuple[int, ...]]) -> LaidOut:
    layout = RaggedLayout.of_lengths([len(text) for text in texts])
    places = tuple(np.arange(start, start + len(text)) for start, text in zip(layout.starts, texts, strict=True))
    return LaidOut(ids=tuple(token for text in texts for token in text), layout=layout, places=places)
