"""Whether a graded verdict is about knowledge or about confidence alone: accuracy and fitted temperatures beside it.

The graded score is the probability of the right choice. An arm that is surer of everything it says gains on it where
most answers are right, without one more right answer. Two things cannot gain in that way: accuracy, and the graded
score at the temperature that fits each run's validation items. Where one of them firmly says otherwise than the graded
score, the verdict says so. Its word stays: the metric that the study names decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from titrant.core.records import Contrast, Verdict

_WORDS = {"mix": "mix", "train_alone": "train alone", "no_difference": "no difference", "cannot_tell": "cannot tell"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceCheck:
    """The verdicts that stand beside a graded one. `calibrated` is that of the graded score at fitted temperatures;
    None with a `reason`. `temperatures` by arm, the geometric mean over seeds: above 1 where a run was too sure."""

    accuracy: Verdict
    calibrated: Verdict | None
    temperatures: Mapping[str, float]
    reason: str | None = None

    def __post_init__(self) -> None:
        assert (self.calibrated is None) == (self.reason is not None), "a reason stands in for a missing verdict"

    def contradicts(self, graded: Verdict) -> bool:
        """Whether accuracy firmly says otherwise."""
        return _otherwise(graded, self.accuracy)


def checked(graded: Verdict, check: ConfidenceCheck) -> Verdict:
    """The graded verdict with what accuracy and fitted temperatures say: in its notes, and in its sentence where one of
    them firmly says otherwise."""
    notes = [f"By accuracy: {_in_short(graded, check.accuracy)}."]
    if check.calibrated is not None:
        notes.append(f"At temperatures fitted on validation rows: {_in_short(graded, check.calibrated)}.")
    else:
        notes.append(f"Only accuracy tells this from a change in confidence alone: {check.reason}.")
    warning = _warning(graded, check)
    return replace(
        graded,
        sentence=f"{graded.sentence} {warning}" if warning else graded.sentence,
        notes=(*graded.notes, *notes),
    )


def check_json(graded: Verdict, check: ConfidenceCheck) -> dict[str, Any]:
    """What verdict.json holds of the check."""
    return {
        "accuracy": _short_json(check.accuracy),
        "accuracy_contradicts": check.contradicts(graded),
        "calibrated": None if check.calibrated is None else _short_json(check.calibrated),
        "calibrated_contradicts": None if check.calibrated is None else _otherwise(graded, check.calibrated),
        "temperatures": dict(check.temperatures),
        "reason": check.reason,
    }


def _short_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "verdict": verdict.verdict,
        "provisional": verdict.provisional,
        "arm": verdict.arm,
        "contrasts": [
            {
                "arm": contrast.arm,
                "baseline": contrast.baseline or None,
                "difference": contrast.difference.value,
                "low": contrast.difference.low,
                "high": contrast.difference.high,
            }
            for contrast in verdict.contrasts
        ],
    }


def _otherwise(graded: Verdict, other: Verdict) -> bool:
    """Whether the other verdict firmly says otherwise on whether to mix. Two firm words that both say not to (train
    alone, no difference) do not contradict each other; nor does an open verdict, unless it rules out the very dose."""
    if graded.verdict == "cannot_tell":
        return False
    if graded.verdict != "mix":
        return other.verdict == "mix"
    if other.verdict in ("train_alone", "no_difference"):
        return True
    # Bounds are simultaneous, so stricter than what rules a dose out in the rule itself.
    return any(
        contrast.difference.high is not None and contrast.difference.high < graded.smallest_effect
        for contrast in _of_arm(other, graded.arm)
    )


def _warning(graded: Verdict, check: ConfidenceCheck) -> str | None:
    by_accuracy = check.contradicts(graded)
    by_temperature = check.calibrated is not None and _otherwise(graded, check.calibrated)
    if graded.verdict != "mix":
        return f"But accuracy firmly says otherwise: {_in_short(graded, check.accuracy)}." if by_accuracy else None
    if by_accuracy and by_temperature:
        return (
            f"But this is confidence, not knowledge: accuracy ({_numbers(graded, check.accuracy)}) and the graded "
            f"score at fitted temperatures ({_numbers(graded, check.calibrated)}) firmly say otherwise."
        )
    if by_accuracy:
        told = (
            f"validation rows would tell whether it is confidence alone ({check.reason})"
            if check.calibrated is None
            else f"at fitted temperatures the gain is {_numbers(graded, check.calibrated)}"
        )
        return f"But accuracy firmly says otherwise ({_numbers(graded, check.accuracy)}); {told}."
    if by_temperature:
        numbers = _numbers(graded, check.calibrated)
        return (
            f"But at temperatures fitted on validation rows this is firmly not so ({numbers}): part of it, or all, is "
            "confidence."
        )
    return None


def _in_short(graded: Verdict, other: Verdict) -> str:
    """A verdict in a few words, with the numbers of the dose that it or the graded one names."""
    words = _WORDS[other.verdict]
    dose = f" {other.arm}" if other.arm is not None else ""
    numbers = _numbers(graded, other)
    return f"{words}{dose}" + (f" ({numbers})" if numbers else "")


def _numbers(graded: Verdict, other: Verdict | None) -> str:
    """The dose that is named against the last baseline, which is the matched one where there is one."""
    if other is None:
        return ""
    arm = graded.arm or other.arm or _best_arm(graded)
    found = _of_arm(other, arm)
    if not found or found[-1].difference.value is None:
        return ""
    last = found[-1]
    interval = last.difference
    bounds = "" if interval.low is None or interval.high is None else f", {interval.low:+.3f} to {interval.high:+.3f}"
    return f"{last.arm} against {last.baseline}: {interval.value:+.3f}{bounds}"


def _of_arm(verdict: Verdict, arm: str | None) -> list[Contrast]:
    return [contrast for contrast in verdict.contrasts if contrast.arm == arm]


def _best_arm(verdict: Verdict) -> str | None:
    known = [contrast for contrast in verdict.contrasts if contrast.difference.value is not None]
    return max(known, key=lambda contrast: contrast.difference.value or 0.0).arm if known else None
