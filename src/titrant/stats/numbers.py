"""What statistics hand to the rule: numbers and where they come from, no decision and no sentence.

Array names end in shape letters: B studies (any leading shape), K doses, R baselines (the plain one, then the matched
one where there is one). Unknown bounds are NaN in arrays and None in records.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from titrant.core.records import Contrast, Estimate, NextStep

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleNumbers:
    """What the rule looks at. Doses are in rising order of rows. Bounds at the usual level of 95%:

    `rows_BK`: how large a dose is; NaN where nobody said. `difference_BK`: arm minus plain baseline.
    `simultaneous_low_BKR`: lower bound, simultaneous over doses, against each baseline. `low_90_BKR`, `high_90_BKR`:
    the 90% interval of one contrast, whose upper end is the one-sided 95% bound. `high_95_BKR`: the upper end of the
    95% interval. `gap_high_BK`, `gap_low_BK`: one-sided 95% bounds of best minus dose, 0 for the best itself.
    `gain_BR`: the cross-fitted gain against each baseline.
    """

    rows_BK: Floats
    difference_BK: Floats
    simultaneous_low_BKR: Floats
    low_90_BKR: Floats
    high_90_BKR: Floats
    high_95_BKR: Floats
    gap_high_BK: Floats
    gap_low_BK: Floats
    gain_BR: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """One dose against one baseline. `contrast` carries the simultaneous interval; the others are of the contrast alone
    (see RuleNumbers). None: unknown, with the contrast's reason."""

    contrast: Contrast
    low_90: float | None
    high_90: float | None
    high_95: float | None

    @property
    def told(self) -> Contrast:
        """The contrast with all bounds that a rule reads of it: what a reader must see to follow a verdict."""
        return replace(self.contrast, low_90=self.low_90, high_90=self.high_90, high_95=self.high_95)


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseEvidence:
    """What is known about one dose: against the plain baseline, the matched one, and the best dose."""

    arm: str
    dose: int | None
    source: str | None
    plain: Against
    matched: Against | None
    gap_high: float | None
    gap_low: float | None = None
    failed_runs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Retention of one dose against the plain baseline: the difference of one retention eval set, with its interval."""

    arm: str
    eval_set: str
    difference: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unscored:
    """Test items without a score in any run, of `asked` in all: they are in no number. `reasons` count them."""

    items: int
    asked: int
    reasons: tuple[tuple[str, int], ...]

    @property
    def sentence(self) -> str:
        """How many items, as the verdict's sentence says it.

        >>> Unscored(items=1, asked=48, reasons=()).sentence
        '1 of 48 test items has no score and is in no number.'
        """
        verbs = "has no score and is" if self.items == 1 else "have no score and are"
        return f"{self.items} of {self.asked} test items {verbs} in no number."

    @property
    def note(self) -> str:
        """The sentence with the reasons."""
        reasons = "; ".join(f"{reason} ({count})" for reason, count in self.reasons)
        return self.sentence.removesuffix(".") + (f": {reasons}." if reasons else ".")


@dataclass(frozen=True, slots=True, kw_only=True)
class LostLevel:
    """Why a verdict is wrong more often than its level says (a protocol that changed after a look, a grid that was
    extended), and what would hold it again."""

    reason: str
    next_step: NextStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that `decide` needs. `doses` in rising order of rows. Gains are cross-fitted, against the baseline
    that leads (the matched one where there is one) and, as `gain_least`, the smaller of those against both. `lost` says
    why the level does not hold, None where it does."""

    doses: tuple[DoseEvidence, ...]
    baseline: str
    matched: str | None
    target_rows: int | None
    metric: str
    level: float
    smallest_effect: float
    n_seeds: int
    n_items: int
    n_groups: int | None
    gain_best: float | None
    gain_smallest: float | None
    gain_least: float | None
    smallest_detectable: float | None
    estimand: str
    next_step: NextStep | None = None
    kept: tuple[Kept, ...] = ()
    failed_runs: int = 0
    notes: tuple[str, ...] = ()
    steps_matched: bool = False
    transfer: tuple[Contrast, ...] = ()
    task_weights: Literal["macro", "by_item"] | None = None
    unscored: Unscored | None = None
    lost: LostLevel | None = None


def unknown_estimate(*, level: float, method: str, n_items: int, n_seeds: int, reason: str) -> Estimate:
    """An estimate that cannot be had, and why."""
    return Estimate(
        value=None, low=None, high=None, level=level, method=method, n_items=n_items, n_seeds=n_seeds, reason=reason
    )
