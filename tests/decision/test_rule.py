"""The rule of the verdict, as a table: bounds in, one word and one arm out; and the sentences that people read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from titrant.core.records import Contrast, Estimate, NextStep, Verdict
from titrant.decision.rule import decide
from titrant.stats.numbers import Against, DoseEvidence, Evidence, Kept

DELTA = 0.02


def against(
    arm: str, baseline: str, value: float, half: float, *, simultaneous: float | None = None, rows: int | None = None
) -> Against:
    """A contrast of `value` whose 95% interval is ± `half` (90%: five sixths of it), simultaneous ± `simultaneous`."""
    wide = half * 1.2 if simultaneous is None else simultaneous
    estimate = Estimate(
        value=value, low=value - wide, high=value + wide, level=0.95, method="table", n_items=200, n_seeds=5
    )
    contrast = Contrast(
        arm=arm,
        baseline=baseline,
        eval_set="target",
        target_rows=160,
        difference=estimate,
        p=0.5,
        p_adjusted=0.5,
        dose=rows,
        source="general",
    )
    return Against(contrast=contrast, low_90=value - half * 5 / 6, high_90=value + half * 5 / 6, high_95=value + half)


def dose(
    rows: int, plain: float, half: float, *, matched: float | None = None, gap_low: float = 0.0, gap_high: float = 0.0
) -> DoseEvidence:
    name = f"dose-{rows}"
    return DoseEvidence(
        arm=name,
        dose=rows,
        source="general",
        plain=against(name, "alone", plain, half, rows=rows),
        matched=None if matched is None else against(name, "alone-matched", matched, half, rows=rows),
        gap_high=gap_high,
        gap_low=gap_low,
    )


def evidence(*doses: DoseEvidence, gain: float | None = None, **more: object) -> Evidence:
    best = max(dose.plain.contrast.difference.value or 0.0 for dose in doses) if doses else None
    start = Evidence(
        doses=doses,
        baseline="alone",
        matched="alone-matched" if doses and doses[0].matched is not None else None,
        target_rows=160,
        metric="accuracy",
        level=0.95,
        smallest_effect=DELTA,
        n_seeds=5,
        n_items=200,
        n_groups=None,
        gain_best=best if gain is None else gain,
        gain_smallest=best if gain is None else gain,
        gain_least=best if gain is None else gain,
        smallest_detectable=0.03,
        estimand="these rows",
    )
    return replace(start, **more)  # type: ignore[arg-type]


STEP = NextStep(kind="seeds", seeds=8, items=None, tokens=1000, minutes=2.0, sentence="Next: 8 seeds in all.")

TABLE = [
    # name, evidence, verdict, arm
    ("all inside", evidence(dose(96, 0.002, 0.01), dose(352, -0.004, 0.01)), "no_difference", None),
    ("one dose reaches out below", evidence(dose(96, 0.002, 0.01), dose(352, -0.014, 0.01)), "train_alone", None),
    ("surely better", evidence(dose(96, 0.05, 0.02)), "mix", "dose-96"),
    ("no difference comes before mix", evidence(dose(96, 0.012, 0.006), gain=0.03), "no_difference", None),
    ("better but the gain was luck", evidence(dose(96, 0.05, 0.02), gain=0.01), "cannot_tell", None),
    ("gain exactly the smallest effect", evidence(dose(96, 0.05, 0.02), gain=DELTA), "mix", "dose-96"),
    ("gain unknown", replace(evidence(dose(96, 0.05, 0.02)), gain_least=None), "cannot_tell", None),
    ("surely worse", evidence(dose(96, -0.05, 0.02), dose(352, -0.09, 0.02)), "train_alone", None),
    ("one dose is open", evidence(dose(96, -0.05, 0.02), dose(352, 0.01, 0.05)), "cannot_tell", None),
    ("single interval is not enough", evidence(dose(96, 0.022, 0.02)), "cannot_tell", None),
    ("no dose", evidence(), "cannot_tell", None),
    # both baselines
    ("plain yes, matched no", evidence(dose(96, 0.09, 0.02, matched=-0.07)), "train_alone", None),
    ("plain no, matched yes", evidence(dose(96, -0.07, 0.02, matched=0.09)), "train_alone", None),
    ("both yes", evidence(dose(96, 0.09, 0.02, matched=0.05)), "mix", "dose-96"),
    ("plain yes, matched open", evidence(dose(96, 0.09, 0.02, matched=0.015)), "cannot_tell", None),
    ("both barely below at 95% one-sided", evidence(dose(96, -0.004, 0.0285, matched=-0.004)), "train_alone", None),
    (
        "one barely below at 95%, the other open",
        evidence(dose(96, 0.09, 0.021, matched=0.002)),
        "cannot_tell",
        None,
    ),
    # which dose
    (
        "a smaller dose is enough",
        evidence(dose(96, 0.05, 0.02, gap_high=0.015), dose(352, 0.055, 0.02)),
        "mix",
        "dose-96",
    ),
    (
        "a smaller dose is not shown to be enough",
        evidence(dose(96, 0.05, 0.02, gap_low=-0.02, gap_high=0.03), dose(352, 0.055, 0.02)),
        "mix",
        "dose-352",
    ),
    (
        "close but not itself better",
        evidence(dose(96, 0.02, 0.03, gap_high=0.015), dose(352, 0.055, 0.02)),
        "mix",
        "dose-352",
    ),
    (
        "a larger dose never replaces the best",
        evidence(dose(96, 0.06, 0.02), dose(352, 0.055, 0.02, gap_high=0.015)),
        "mix",
        "dose-96",
    ),
]


@pytest.mark.parametrize(("given", "verdict", "arm"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_rule_says(given: Evidence, verdict: str, arm: str | None) -> None:
    found = decide(given)
    assert (found.verdict, found.arm) == (verdict, arm)


def test_a_contrast_without_interval_never_makes_a_verdict_firm() -> None:
    known = dose(96, -0.05, 0.02)
    unknown = replace(
        dose(352, 0.0, 0.0),
        plain=Against(
            contrast=replace(
                known.plain.contrast,
                difference=Estimate(
                    value=None, low=None, high=None, level=0.95, method="none", n_items=0, n_seeds=0, reason="no seed"
                ),
            ),
            low_90=None,
            high_90=None,
            high_95=None,
        ),
    )
    assert decide(evidence(known)).verdict == "train_alone"
    found = decide(evidence(known, unknown))
    assert found.verdict == "cannot_tell"
    assert any("without an interval" in note for note in found.notes)


def test_doses_of_unknown_size_are_never_called_smaller() -> None:
    first = replace(dose(96, 0.05, 0.02, gap_high=0.001), dose=None)
    second = replace(dose(352, 0.055, 0.02), dose=None)
    found = decide(evidence(first, second))
    assert found.arm == "dose-352"
    assert not any("smaller dose" in note for note in found.notes)


def test_a_smaller_dose_may_do_is_said_only_where_it_may() -> None:
    best = dose(352, 0.055, 0.02)
    may = decide(evidence(dose(96, 0.05, 0.02, gap_low=-0.02, gap_high=0.03), best))
    cannot = decide(evidence(dose(96, 0.0, 0.02, gap_low=0.03, gap_high=0.08), best))
    assert any("smaller dose may do" in note for note in may.notes)
    assert not any("smaller dose" in note for note in cannot.notes)


def reasons(**more: object) -> Verdict:
    return decide(evidence(dose(96, 0.05, 0.02), **more))


def test_few_seeds_items_groups_or_failed_runs_make_it_provisional() -> None:
    assert not reasons().provisional
    assert reasons(n_seeds=2).provisional_reasons == ("2 seeds, fewer than 3",)
    assert reasons(n_items=99).provisional_reasons == ("99 test items, fewer than 100",)
    assert reasons(n_groups=19).provisional_reasons == ("19 groups of items, fewer than 20",)
    assert reasons(failed_runs=1).provisional_reasons == ("1 run of the contrasts failed",)
    assert not reasons(n_seeds=3, n_items=100, n_groups=20).provisional
    assert "Provisional: 2 seeds" in reasons(n_seeds=2).sentence


def test_sentence_of_mix_without_and_with_a_matched_baseline() -> None:
    plain = decide(evidence(dose(96, 0.041, 0.0242), gain=0.041))
    assert plain.sentence == (
        "Mix 96 rows of general into 160 target rows: accuracy is 0.041 higher (0.012 to 0.070) than training alone. "
        "Steps were not matched."
    )
    both = decide(evidence(dose(96, 0.06, 0.02, matched=0.041), gain=0.041))
    assert both.sentence == (
        "Mix 96 rows of general into 160 target rows: accuracy is 0.041 higher (0.017 to 0.065) than training alone "
        "with as many steps, and +0.060 (+0.036 to +0.084) against training alone for the usual number of steps."
    )


def test_sentence_where_the_baselines_disagree_names_the_steps() -> None:
    found = decide(evidence(dose(352, 0.09, 0.02, matched=-0.07)))
    assert found.sentence == (
        "Train alone, with as many steps as the largest dose takes: the dose tried lowers accuracy; the best, 352 rows "
        "of general, is -0.070 (-0.094 to -0.046) against training alone with as many steps, and +0.090 (+0.066 to "
        "+0.114) against training alone for the usual number of steps."
    )


def bounded(side: Against, low: float, high: float) -> Against:
    estimate = replace(side.contrast.difference, low=low, high=high)
    return replace(side, contrast=replace(side.contrast, difference=estimate))


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (-1.0, 1.0, "+0.062 (no interval)"),
        (-1.0, 0.2, "+0.062 (-1.000 to +0.200)"),
        (-0.05, 1.0, "+0.062 (-0.050 to +1.000)"),
    ],
)
def test_bounds_that_hold_for_any_scores_are_not_shown_as_an_interval(low: float, high: float, shown: str) -> None:
    # Of a staged study's baseline that only the screen has read nothing is claimed: its bounds are those of all scores.
    given = dose(24, 0.062, 0.01, matched=-0.11)
    found = decide(evidence(replace(given, plain=bounded(given.plain, low, high))))
    assert f"{shown} against training alone for the usual number of steps" in found.sentence


def test_sentence_of_no_difference_and_of_cannot_tell() -> None:
    same = decide(evidence(dose(96, 0.002, 0.012), dose(352, -0.004, 0.012)))
    assert same.sentence == (
        "The 2 doses tried make no difference that matters to 160 target rows: accuracy changes by -0.014 to +0.012, "
        "all within 0.020 of training alone. Steps were not matched."
    )
    still_open = decide(evidence(dose(96, 0.02, 0.05), next_step=STEP))
    assert still_open.sentence == (
        "Cannot tell yet: the best dose, 96 rows of general, is +0.020 (-0.040 to +0.080) against training alone. "
        "Next: 8 seeds in all."
    )
    assert still_open.next_step == STEP
    assert decide(evidence(dose(96, 0.05, 0.02), next_step=STEP)).next_step is None


def test_retention_enters_the_sentence_as_price_or_as_profit() -> None:
    def kept(difference: float, half: float) -> Kept:
        return Kept(
            arm="dose-96", eval_set="retention", difference=difference, low=difference - half, high=difference + half
        )

    price = decide(evidence(dose(96, 0.05, 0.02), kept=(kept(-0.04, 0.01),)))
    assert "It buys this with general ability: retention -0.040 (-0.050 to -0.030)." in price.sentence
    free = decide(evidence(dose(96, 0.002, 0.01), kept=(kept(0.04, 0.01),)))
    assert free.verdict == "no_difference"
    assert "It does keep more general ability: retention +0.040" in free.sentence
    other = replace(kept(-0.04, 0.01), arm="dose-352")
    assert "general ability" not in decide(evidence(dose(96, 0.05, 0.02), kept=(other,))).sentence


def test_a_contrast_that_no_look_has_read_has_no_interval_in_the_sentence() -> None:
    found = decide(evidence(dose(96, 0.02, 1.5)))
    assert "+0.020 (no interval)" in found.sentence
