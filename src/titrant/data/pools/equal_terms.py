"""Sources on equal terms: the same prompts in both, or answers of the same lengths.

Whether people's answers or a model's serve better is not told by two pools that differ in what they ask and in how long
they answer. `prompts_also_in: FILE` keeps the rows whose prompt stands in another file too. `lengths_as: SOURCE` keeps,
of two pools, as many rows of each in every class of answer length. `prompts_as: SOURCE` keeps, of both, the rows whose
prompt the other has after all cuts, and draws both in one order, so that doses of as many rows ask the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from titrant.core.identity import hash_text
from titrant.core.records import Example, TokenRow
from titrant.data import readers

_STEPS_A_DOUBLING = 2  # classes of length: a factor of 1.4 from one to the next


def with_prompts_also_in(rows: Sequence[Example], place: str) -> tuple[Example, ...]:
    """The rows whose prompt, without case and spacing, is also the prompt of a row at `place`."""
    others = readers.load_examples(place, source="other", task="other", on_fault=lambda _: None)
    asked = {_prompt(row) for row in others}
    return tuple(row for row in rows if _prompt(row) in asked)


def of_same_prompts(pools: Sequence[Sequence[Example]]) -> tuple[tuple[Example, ...], ...]:
    """Of every pool a row for each prompt that all pools have, prompts in the same order; of several rows with one
    prompt the one whose key has the smallest hash."""
    by_prompt: list[dict[str, Example]] = []
    for rows in pools:
        found: dict[str, Example] = {}
        for row in sorted(rows, key=lambda row: hash_text(row.key)):
            found.setdefault(_prompt(row), row)
        by_prompt.append(found)
    common = sorted(set.intersection(*map(set, by_prompt)))
    return tuple(tuple(found[prompt] for prompt in common) for found in by_prompt)


def of_equal_lengths(
    one: Sequence[Example], other: Sequence[Example], tokens: Mapping[tuple[str, str], TokenRow]
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Both pools cut to as many rows in every class of answer length (tokens that bear loss).

    Which rows of the fuller pool stay goes by the hash of their key.
    """
    classes: dict[int, tuple[list[Example], list[Example]]] = defaultdict(lambda: ([], []))
    for side, rows in enumerate((one, other)):
        for row in rows:
            classes[_length_class(tokens[row.source, row.key].loss_tokens)][side].append(row)
    kept: set[tuple[str, str]] = set()
    for pair in classes.values():
        size = min(map(len, pair))
        for side_rows in pair:
            chosen = sorted(side_rows, key=lambda row: hash_text(row.key))[:size]
            kept.update((row.source, row.key) for row in chosen)
    first, second = (tuple(row for row in rows if (row.source, row.key) in kept) for rows in (one, other))
    return first, second


def _length_class(length: int) -> int:
    """0, 1, 2, … for lengths that grow by a factor; whole numbers only, so that it is the same everywhere.

    >>> [_length_class(length) for length in (1, 2, 3, 4, 6, 8, 12, 16)]
    [0, 2, 3, 4, 5, 6, 7, 8]
    """
    doubling = length.bit_length() - 1
    upper_half = 2 * length >= 3 << doubling
    return _STEPS_A_DOUBLING * doubling + upper_half


def _prompt(row: Example) -> str:
    return "\n".join(" ".join(turn.text.casefold().split()) for turn in row.prompt)
