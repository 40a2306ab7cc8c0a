"""Numbers to a verdict: pure, tested by tables. The rule and its reasons are told in docs/verdict.md.

Array names end in shape letters: B studies (any leading shape), K doses, R baselines (the plain one, then the matched
one where there is one). Unknown bounds are NaN, and what is unknown never makes a verdict firm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from titrant.core.records import Verdict
from titrant.stats.numbers import Against, DoseEvidence, Evidence, RuleNumbers

Floats = NDArray[np.float64]
VerdictWord = Literal["mix", "train_alone", "no_difference", "cannot_tell"]
WORDS: tuple[VerdictWord, ...] = ("cannot_tell", "no_difference", "mix", "train_alone")

LOST_LEVEL = "its level no longer holds"
"""How the reason of a provisional verdict begins whose protocol changed after a look, or whose grid was extended."""

FEWEST_SEEDS, FEWEST_ITEMS, FEWEST_GROUPS = 3, 100, 20


# ------------------------------------------------------------------------------------------------------------ the rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """`code_B` indexes WORDS; `chosen_BK` marks at most one dose a study, none unless the verdict is mix.
    `better_BK` marks doses that are better than every baseline; `smaller_may_do_B`: the best dose is chosen though a
    smaller one is neither shown to be enough nor shown to be too little."""

    code_B: NDArray[np.intp]
    chosen_BK: NDArray[np.bool_]
    better_BK: NDArray[np.bool_]
    smaller_may_do_B: NDArray[np.bool_]


def rule(numbers: RuleNumbers, *, smallest_effect: float) -> Ruling:
    """The verdict of every study, in this order: no_difference, mix, train_alone, cannot_tell.

    One dose, one baseline, smallest effect 0.01: surely better by 0.03 to 0.05, so mix.

    >>> one = lambda x: np.full((1, 1, 1), x)
    >>> numbers = RuleNumbers(rows_BK=one(96.0)[0], difference_BK=one(0.04)[0], simultaneous_low_BKR=one(0.03),
    ...     low_90_BKR=one(0.032), high_90_BKR=one(0.048), high_95_BKR=one(0.05), gap_high_BK=one(0.0)[0],
    ...     gap_low_BK=one(0.0)[0], gain_BR=one(0.04)[0])
    >>> WORDS[rule(numbers, smallest_effect=0.01).code_B[0]]
    'mix'
    """
    delta = smallest_effect
    # Two one-sided tests at 5% (Schuirmann 1987) are one 90% interval within the limits: "no difference" is shown and
    # never concluded from the lack of a difference. NaN compares as False, so an unknown bound shows nothing.
    inside = ((numbers.low_90_BKR > -delta) & (numbers.high_90_BKR < delta)).all((-1, -2))
    better_BK: NDArray[np.bool_] = np.asarray((numbers.simultaneous_low_BKR > 0).all(-1))
    # The gain is the cross-fitted one: the best of several doses looks better than it is, and without this a lucky
    # winner of no worth would be recommended.
    mix = better_BK.any(-1) & (numbers.gain_BR >= delta).all(-1)
    # Alone is the better of two recipes, so a dose must beat both to be worth mixing, and it is ruled out by either:
    # by both bounds at 95%, or by one of them at 97.5% (Simes, as the two contrasts share an arm).
    ruled_out_BK = (numbers.high_90_BKR < delta).all(-1) | (numbers.high_95_BKR < delta).any(-1)
    alone = ruled_out_BK.all(-1)
    # The first that holds counts. A tiny effect that is sure to be positive is "no difference" before it is "mix".
    code_B = np.select([inside, mix, alone], [1, 2, 3], default=0)
    # The dose that scores best among those that are better than every baseline; ties go to the first, the smallest.
    score_BK = np.where(better_BK, numbers.difference_BK, -np.inf)
    best_BK = _first(better_BK & (score_BK == score_BK.max(-1, keepdims=True)))
    best_rows_B = np.where(best_BK, numbers.rows_BK, 0.0).sum(-1, keepdims=True)
    smaller_BK = numbers.rows_BK < best_rows_B
    # The smallest dose shown to be within the smallest effect of the best is preferred: rows cost, and more of them is
    # to be earned.
    enough_BK = smaller_BK & better_BK & (numbers.gap_high_BK <= delta)
    fewest_BK = np.where(enough_BK, numbers.rows_BK, np.inf)
    enough_BK = enough_BK & (fewest_BK == fewest_BK.min(-1, keepdims=True))
    score_BK = np.where(enough_BK, numbers.difference_BK, -np.inf)
    enough_BK = _first(enough_BK & (score_BK == score_BK.max(-1, keepdims=True)))
    known: NDArray[np.bool_] = np.asarray(enough_BK.any(-1, keepdims=True))
    mixed = (code_B == 2)[..., None]
    may_do_B = (smaller_BK & ~(numbers.gap_low_BK > delta)).any(-1) & ~known[..., 0]
    return Ruling(
        code_B=code_B,
        chosen_BK=np.where(known, enough_BK, best_BK) & mixed,
        better_BK=better_BK,
        smaller_may_do_B=(code_B == 2) & may_do_B,
    )


def _first(mask_BK: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Only the first mark of every row."""
    first: NDArray[np.bool_] = mask_BK & (np.cumsum(mask_BK, axis=-1) == 1)
    return first


# --------------------------------------------------------------------------------------------------------- the verdict


def decide(evidence: Evidence) -> Verdict:
    """The verdict with its sentence. A study without any dose, or without any interval, cannot tell."""
    ruling = rule(rule_numbers(evidence), smallest_effect=evidence.smallest_effect) if evidence.doses else None
    word = WORDS[int(ruling.code_B)] if ruling is not None else "cannot_tell"
    chosen = None
    if ruling is not None and ruling.chosen_BK.any():
        chosen = evidence.doses[int(ruling.chosen_BK.argmax())]
    if evidence.lost is not None:
        # More of the same seeds would not bring the level back, whatever else they settled.
        evidence = replace(evidence, next_step=evidence.lost.next_step)
    best = _best(evidence)
    gain = evidence.gain_best
    if chosen is not None and chosen is not best:
        # The quoted gain belongs to the dose that is chosen: the smallest one has its own, cross-fitted by the same
        # rule.
        gain = evidence.gain_smallest
    reasons = provisional_reasons(evidence)
    notes = list(evidence.notes)
    if evidence.unscored is not None:
        notes.insert(0, evidence.unscored.note)
    if word == "mix" and ruling is not None and bool(ruling.smaller_may_do_B):
        notes.append(
            "A smaller dose may do: none is shown to come within the smallest effect of the best, nor to miss it."
        )
    if evidence.matched is None and not evidence.steps_matched:
        notes.append("Steps were not matched: a dose also adds steps, and part of a difference may be theirs.")
    if any(not _known(dose) for dose in evidence.doses):
        notes.append("A contrast without an interval keeps the verdict open.")
    return Verdict(
        verdict=word,
        provisional=bool(reasons),
        provisional_reasons=reasons,
        arm=chosen.arm if chosen is not None else None,
        sentence=_sentence(word, evidence, chosen=chosen, best=best, gain=gain, reasons=reasons, ruling=ruling),
        contrasts=tuple(
            against.told for dose in evidence.doses for against in (dose.plain, dose.matched) if against is not None
        ),
        gain_cross_fitted=gain,
        smallest_effect=evidence.smallest_effect,
        smallest_detectable=evidence.smallest_detectable,
        estimand=evidence.estimand,
        next_step=evidence.next_step if word == "cannot_tell" or evidence.lost is not None else None,
        target_rows=evidence.target_rows,
        baseline=evidence.baseline,
        matched=evidence.matched,
        level=evidence.level,
        notes=tuple(notes),
        transfer=evidence.transfer,
        task_weights=evidence.task_weights,
    )


def rule_numbers(evidence: Evidence) -> RuleNumbers:
    """Evidence as the arrays of the rule, one study."""

    def of(pick: str) -> Floats:
        rows = []
        for dose in evidence.doses:
            sides = (dose.plain,) if dose.matched is None else (dose.plain, dose.matched)
            rows.append(
                [_number(side.contrast.difference.low if pick == "low" else getattr(side, pick)) for side in sides]
            )
        return np.array(rows, dtype=np.float64)

    return RuleNumbers(
        rows_BK=np.array([_number(dose.dose) for dose in evidence.doses]),
        difference_BK=np.array([_number(dose.plain.contrast.difference.value) for dose in evidence.doses]),
        simultaneous_low_BKR=of("low"),
        low_90_BKR=of("low_90"),
        high_90_BKR=of("high_90"),
        high_95_BKR=of("high_95"),
        gap_high_BK=np.array([_number(dose.gap_high) for dose in evidence.doses]),
        gap_low_BK=np.array([_number(dose.gap_low) for dose in evidence.doses]),
        gain_BR=np.array([_number(evidence.gain_least)]),
    )


def provisional_reasons(evidence: Evidence) -> tuple[str, ...]:
    """Why a verdict is only provisional, in plain words; empty where it is not."""
    reasons = []
    if evidence.n_seeds < FEWEST_SEEDS:
        reasons.append(f"{evidence.n_seeds} {_plural('seed', evidence.n_seeds)}, fewer than {FEWEST_SEEDS}")
    if evidence.n_items < FEWEST_ITEMS:
        reasons.append(f"{evidence.n_items} test {_plural('item', evidence.n_items)}, fewer than {FEWEST_ITEMS}")
    if evidence.n_groups is not None and evidence.n_groups < FEWEST_GROUPS:
        reasons.append(
            f"{evidence.n_groups} {_plural('group', evidence.n_groups)} of items, fewer than {FEWEST_GROUPS}"
        )
    if evidence.failed_runs:
        reasons.append(f"{evidence.failed_runs} {_plural('run', evidence.failed_runs)} of the contrasts failed")
    if evidence.lost is not None:
        reasons.append(f"{LOST_LEVEL}: {evidence.lost.reason}")
    return tuple(reasons)


# ------------------------------------------------------------------------------------------------------------ sentences


def _sentence(
    word: VerdictWord,
    evidence: Evidence,
    *,
    chosen: DoseEvidence | None,
    best: DoseEvidence | None,
    gain: float | None,
    reasons: tuple[str, ...],
    ruling: Ruling | None,
) -> str:
    if word == "mix" and chosen is not None:
        parts = [_mix_sentence(evidence, chosen, gain)]
    elif word == "train_alone" and best is not None:
        parts = _alone_sentences(evidence, best)
    elif word == "no_difference" and best is not None:
        parts = [_no_difference_sentence(evidence)]
    else:
        parts = _open_sentences(evidence, best, ruling)
    parts += _kept_sentences(evidence, chosen or (best if word == "no_difference" else None), costs=word == "mix")
    if evidence.matched is None and not evidence.steps_matched and word != "cannot_tell":
        parts.append("Steps were not matched.")
    if evidence.unscored is not None:
        parts.append(evidence.unscored.sentence)
    if reasons and word != "cannot_tell":
        parts.append(f"Provisional: {'; '.join(reasons)}.")
    return " ".join(parts)


def _mix_sentence(evidence: Evidence, chosen: DoseEvidence, gain: float | None) -> str:
    lead = chosen.matched or chosen.plain
    rival = _rival(evidence, matched=chosen.matched is not None)
    value = gain if gain is not None else lead.contrast.difference.value
    text = (
        f"Mix {_dose_words(chosen)}{_into(evidence)}: {evidence.metric} is {_size(value)} higher "
        f"({_interval(lead)}) than {rival}"
    )
    if chosen.matched is not None:
        text += f", and {_signed(chosen.plain)} against training alone for the usual number of steps"
    return text + "."


def _alone_sentences(evidence: Evidence, best: DoseEvidence) -> list[str]:
    lead = best.matched or best.plain
    worse = all(_below_zero(dose.matched or dose.plain) for dose in evidence.doses)
    recipe = ""
    if best.matched is not None and _above(best.plain, evidence.smallest_effect):
        recipe = ", with as many steps as the largest dose takes"
    head = "Train alone" + recipe
    tried = "the dose tried" if len(evidence.doses) == 1 else f"each of the {len(evidence.doses)} doses tried"
    if worse:
        reason = f"{tried} lowers {evidence.metric}"
    else:
        reason = f"no dose tried is worth {_size(evidence.smallest_effect)} of {evidence.metric}"
    text = (
        f"{head}: {reason}; the best, {_dose_words(best)}, is {_signed(lead)} against "
        f"{_rival(evidence, matched=best.matched is not None)}"
    )
    if best.matched is not None:
        text += f", and {_signed(best.plain)} against training alone for the usual number of steps"
    return [text + "."]


def _no_difference_sentence(evidence: Evidence) -> str:
    sides = [side for dose in evidence.doses for side in (dose.plain, dose.matched) if side is not None]
    # The widest of all intervals, since the sentence speaks of all doses and baselines at once.
    low = min(_number(side.low_90) for side in sides)
    high = max(_number(side.high_90) for side in sides)
    tried = "The dose tried makes" if len(evidence.doses) == 1 else f"The {len(evidence.doses)} doses tried make"
    return (
        f"{tried} no difference that matters{_into(evidence, ' to')}: {evidence.metric} changes by {low:+.3f} to "
        f"{high:+.3f}, all within {_size(evidence.smallest_effect)} of training alone."
    )


def _open_sentences(evidence: Evidence, best: DoseEvidence | None, ruling: Ruling | None) -> list[str]:
    if best is None:
        reason = next((dose.plain.contrast.difference.reason for dose in evidence.doses), None)
        return [f"Cannot tell: {reason or 'no dose has been compared with training alone'}."]
    lead = best.matched or best.plain
    rival = _rival(evidence, matched=best.matched is not None)
    text = f"Cannot tell yet: the best dose, {_dose_words(best)}, is {_signed(lead)} against {rival}"
    if best.matched is not None:
        text += f", and {_signed(best.plain)} against training alone for the usual number of steps"
    parts = [text + "."]
    if ruling is not None and bool(ruling.better_BK.any()):
        parts.append(
            f"A dose is better, but its gain where it was not chosen, {_size(evidence.gain_least)}, is below the "
            f"{_size(evidence.smallest_effect)} that matter."
        )
    elif best.matched is not None and _above(best.plain, 0.0) and not _above(best.matched, 0.0):
        parts.append("It beats the plain baseline, but not one that takes as many steps, so steps may be all it adds.")
    if evidence.next_step is not None:
        parts.append(evidence.next_step.sentence)
    return parts


def _kept_sentences(evidence: Evidence, dose: DoseEvidence | None, *, costs: bool) -> list[str]:
    """General ability, for the dose that the sentence is about."""
    if dose is None:
        return []
    parts = []
    for kept in evidence.kept:
        if kept.arm != dose.arm:
            continue
        found = f"{kept.eval_set} {_change(kept.difference, kept.low, kept.high)}"
        if kept.high is not None and kept.high < 0:
            opening = "It buys this with general ability" if costs else "But it costs general ability"
        elif kept.low is not None and kept.low > 0:
            opening = "It also keeps more general ability" if costs else "It does keep more general ability"
        else:
            opening = "General ability shows no clear change"
        parts.append(f"{opening}: {found}.")
    return parts


def _best(evidence: Evidence) -> DoseEvidence | None:
    known = [dose for dose in evidence.doses if dose.plain.contrast.difference.value is not None]
    return max(known, key=lambda dose: _number(dose.plain.contrast.difference.value), default=None)


def _known(dose: DoseEvidence) -> bool:
    return all(side.high_90 is not None for side in (dose.plain, dose.matched) if side is not None)


def _rival(evidence: Evidence, *, matched: bool) -> str:
    if matched:
        return "training alone with as many steps"
    # A baseline that the user named by hand need not be "alone": its name is safer than our word for it.
    return "training alone" if evidence.target_rows is not None else evidence.baseline


def _dose_words(dose: DoseEvidence) -> str:
    if dose.dose is None:
        return dose.arm
    return f"{dose.dose} rows of {dose.source}" if dose.source else f"{dose.dose} generalist rows"


def _into(evidence: Evidence, word: str = " into") -> str:
    return f"{word} {evidence.target_rows} target rows" if evidence.target_rows is not None else ""


def _signed(side: Against) -> str:
    estimate = side.contrast.difference
    # Scores lie within 0 and 1, so any difference lies within these bounds: a staged study has them where a baseline
    # was set aside before anything was claimed of it.
    if estimate.low == -1 and estimate.high == 1:
        return _change(estimate.value, None, None)
    return _change(estimate.value, estimate.low, estimate.high)


def _change(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "unknown"
    # Bounds of a whole score on both sides say nothing: no look has read this contrast.
    if low is None or high is None or (low <= -1.0 and high >= 1.0):
        return f"{value:+.3f} (no interval)"
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"


def _interval(side: Against) -> str:
    estimate = side.contrast.difference
    if estimate.low is None or estimate.high is None:
        return "no interval"
    return f"{estimate.low:.3f} to {estimate.high:.3f}"


def _size(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _below_zero(side: Against) -> bool:
    high = side.contrast.difference.high
    return high is not None and high < 0


def _above(side: Against, bound: float) -> bool:
    low = side.contrast.difference.low
    return low is not None and low > bound


def _plural(word: str, count: int) -> str:
    return word if count == 1 else word + "s"


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
