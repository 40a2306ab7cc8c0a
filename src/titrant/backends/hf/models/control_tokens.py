"""Whether a model ever saw the control tokens of its chat template in training, judged by its input embeddings.

A base model often ships the template of its chat sibling: the tokens that open and close a turn then have rows in the
embedding matrix that nothing was ever learned for, and a prompt made of them is noise. Such rows look like the rows
that are known to be unused: reserved tokens (`<unused7>`, `<|reserved_special_token_3|>` …) and rows beyond the
tokenizer's vocabulary. Where embeddings are tied, unused rows are pushed together by the softmax and lie in one tight
cluster; where they are not, they stay at their random start, in a shell of one radius. In both cases the distance to
the other unused rows tells: an unused row is as far from them as they are from each other, a learned row is farther.

The judgement is `undecided` without at least 8 unused rows to compare with, or when ordinary tokens do not differ from
them either; the template is then trusted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FEWEST_UNUSED_ROWS = 8
MOST_UNUSED_ROWS = 256
ORDINARY_ROWS = 512
TOLERANCE = 1.05  # how much farther than an unused row a row may lie and still count as one
_UNUSED_NAME = re.compile(
    r"<unused_?\d+>|\[unused_?\d+\]|<\|?reserved_special_token_\d+\|?>|<\|?reserved_?\d+\|?>|<\|extra_\d+\|>"
    r"|<\|dummy_\d+\|>|<SPECIAL_\d+>|\[control_\d+\]|\[PAD\d+\]|<\|placeholder\d*\|>|<\|unused_?\d+\|>",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlTokens:
    """The judgement, and why in words. `untrained` are the rows (by position) that look unused."""

    judgement: Literal["trained", "untrained", "undecided"]
    reason: str
    untrained: tuple[int, ...] = ()


def unused_ids(vocabulary: Mapping[str, int], rows: int) -> tuple[int, ...]:
    """Ids that no text ever has: reserved names, and rows of the matrix beyond the tokenizer. At most 256 of them."""
    named = sorted(index for token, index in vocabulary.items() if _UNUSED_NAME.fullmatch(token) and index < rows)
    beyond = range(max(vocabulary.values(), default=-1) + 1, rows)
    return _spread([*named, *beyond], MOST_UNUSED_ROWS)


def ordinary_ids(vocabulary: Mapping[str, int], special: frozenset[int], rows: int) -> tuple[int, ...]:
    """512 ids of ordinary tokens, spread evenly over the vocabulary."""
    ids = sorted(
        index
        for token, index in vocabulary.items()
        if index < rows and index not in special and not _UNUSED_NAME.fullmatch(token)
    )
    return _spread(ids, ORDINARY_ROWS)


def judge(
    control_CD: npt.NDArray[np.float64], unused_UD: npt.NDArray[np.float64], ordinary_OD: npt.NDArray[np.float64]
) -> ControlTokens:
    """Whether the control rows look learned, by the rows of unused and of ordinary tokens (C, U, O rows of width D)."""
    import numpy as np

    if len(control_CD) == 0:
        return ControlTokens(judgement="trained", reason="the template uses no control tokens")
    typical = float(np.median(np.linalg.norm(ordinary_OD, axis=1)))
    empty = tuple(int(row) for row in np.flatnonzero(np.linalg.norm(control_CD, axis=1) < 1e-3 * typical))
    if empty:
        return ControlTokens(judgement="untrained", reason="embedding rows are empty", untrained=empty)
    if len(unused_UD) < FEWEST_UNUSED_ROWS:
        reason = f"only {len(unused_UD)} unused rows to compare with; the template is trusted"
        return ControlTokens(judgement="undecided", reason=reason)
    between_UU = _distances(unused_UD, unused_UD)
    np.fill_diagonal(between_UU, np.nan)
    radius = TOLERANCE * float(np.quantile(np.nanmedian(between_UU, axis=1), 0.9))
    control_C = np.median(_distances(control_CD, unused_UD), axis=1)
    ordinary_share = float(np.mean(np.median(_distances(ordinary_OD, unused_UD), axis=1) <= radius))
    if ordinary_share > 0.1:
        reason = f"{ordinary_share:.0%} of ordinary tokens look unused too; the template is trusted"
        return ControlTokens(judgement="undecided", reason=reason)
    untrained = tuple(int(row) for row in np.flatnonzero(control_C <= radius))
    if untrained:
        reason = "embedding rows lie among those of unused tokens"
        return ControlTokens(judgement="untrained", reason=reason, untrained=untrained)
    return ControlTokens(judgement="trained", reason="embedding rows lie apart from those of unused tokens")


def _distances(left_ND: npt.NDArray[np.float64], right_MD: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Euclidean distances, N by M."""
    import numpy as np

    squares_NM: npt.NDArray[np.float64] = (
        (left_ND**2).sum(1)[:, None] + (right_MD**2).sum(1)[None, :] - 2 * left_ND @ right_MD.T
    )
    distances_NM: npt.NDArray[np.float64] = np.sqrt(np.maximum(squares_NM, 0.0))
    return distances_NM


def _spread(ids: list[int], count: int) -> tuple[int, ...]:
    """At most `count` of the ids, evenly spaced."""
    if len(ids) <= count:
        return tuple(ids)
    return tuple(ids[position * len(ids) // count] for position in range(count))
