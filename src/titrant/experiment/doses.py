"""What doses a study asks for, in one place: whoever draws them and whoever reads pools for them goes by the same list.

A dose is asked in rows, in tokens, or in rows that are altered once they are drawn; a blend asks rows of several pools.
How many rows a dose in tokens comes to is known once the rows are in a model's tokens (`design`).
"""

from __future__ import annotations

from dataclasses import dataclass

from titrant import sampling
from titrant.config.arms import AlteredDose, TokenDose
from titrant.config.study import Study


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedDose:
    """One dose as asked: a number of rows, altered or not, or a number of tokens."""

    rows: int | None = None
    tokens: int | None = None
    alteration: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LargestDose:
    """The most that any dose takes of a pool: in rows, and in tokens. 0 where none is asked that way."""

    rows: int
    tokens: int


def asked_doses(study: Study, source: str) -> tuple[AskedDose, ...]:
    """The doses of one pool, as they stand in the study."""
    return tuple(_asked(amount) for amount in study.arms.doses.get(source, ()))


def _asked(amount: int | TokenDose | AlteredDose) -> AskedDose:
    if isinstance(amount, TokenDose):
        return AskedDose(tokens=amount.tokens)
    if isinstance(amount, AlteredDose):
        return AskedDose(rows=amount.rows, alteration=amount.alter)
    return AskedDose(rows=amount)


def blend_rows(study: Study) -> tuple[dict[str, int], ...]:
    """The rows of each pool in every blend; a pool of which a blend takes none is not named."""
    divided = (sampling.largest_remainder(blend.total, blend.shares) for blend in study.arms.blends)
    return tuple({name: rows for name, rows in sorted(counts.items()) if rows} for counts in divided)


def largest_dose(study: Study, source: str) -> LargestDose:
    """The largest doses of a pool, blends and altered doses among them."""
    asked = asked_doses(study, source)
    rows = [dose.rows for dose in asked if dose.rows is not None]
    rows += [counts[source] for counts in blend_rows(study) if source in counts]
    tokens = [dose.tokens for dose in asked if dose.tokens is not None]
    return LargestDose(rows=max(rows, default=0), tokens=max(tokens, default=0))
