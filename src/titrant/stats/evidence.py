"""From a table of scores to the evidence for a verdict: finds the family, weighs it, and looks for the next step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from titrant.core.errors import ScoresError
from titrant.core.records import Contrast, Estimate, NextStep
from titrant.stats.contrasts import (
    Floats,
    Layout,
    Spread,
    TaskWeights,
    bounds,
    joined_spreads,
    layout,
    shared_seeds_contrast,
)
from titrant.stats.crossfit import CrossFit, cross_fitted, halves
from titrant.stats.family import simultaneous
from titrant.stats.looks import level_of_repeated_tests
from titrant.stats.numbers import Against, DoseEvidence, Evidence, Kept, LostLevel, Unscored, unknown_estimate
from titrant.stats.power import Components, Costs, PowerDesign, pilot_components, prospects, ways_on
from titrant.stats.table import Completed, ScoreTable, TableArm, complete
from titrant.stats.weigh import Weighed, gap_bounds, weigh, weighed

OUTSIDE = ("untuned", "generalist_alone")
THESE_ROWS = "these rows"
ROWS_LIKE_THESE = "rows like these"
NO_BASELINE = "no arm without a dose has scores at this target size"
SAME_EVERYWHERE = (
    "every cell shows the same difference; the interval is for the share of items on which it could be another"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a table is judged. `overlap` is n/N, the share of the available target rows that a seed draws, where the
    estimand is *rows like these* (None: *these rows*). `allow_missing_runs`: for studies,
    whose failed runs are known. `steps_matched`: all arms take as many steps. `unscored`: items that were asked and are
    not in the table, as they have no score. `lost`: why the level does not hold. `looks_ahead`: also what the design
    could have found and the cheapest next step, which are simulated."""

    smallest_effect: float = 0.01
    level: float = 0.95
    task_weights: TaskWeights = "macro"
    overlap: float | None = None
    metric: str = "the score"
    drop_incomplete: bool = False
    allow_missing_runs: bool = False
    steps_matched: bool = False
    costs: Costs = field(default_factory=Costs)
    unscored: Unscored | None = None
    looks_ahead: bool = True
    lost: LostLevel | None = None

    @property
    def estimand(self) -> str:
        return THESE_ROWS if self.overlap is None else ROWS_LIKE_THESE


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Arms of one verdict: doses in rising order, the plain baseline, and the matched one where there is one.

    `baseline` is None where only doses have scores: nothing can be told of them. Where only the matched one has scores
    it is the baseline.
    """

    doses: tuple[str, ...]
    baseline: str | None
    matched: str | None
    target_rows: int | None


# ------------------------------------------------------------------------------------------------------------- families


def families(table: ScoreTable, *, baseline: str | None = None, matched: str | None = None) -> tuple[Family, ...]:
    """The families of a table, the largest target size first.

    A named baseline makes the family of its own target size (of all arms, where sizes are unknown) the first. Other
    sizes have the arm of that size without a dose; doses of a size without such an arm are a family that cannot tell.
    """
    arms = [arm for arm in table.arms if arm.kind not in OUTSIDE and arm.target_rows != 0]
    named = {arm.name: arm for arm in table.arms}
    for name in (baseline, matched):
        if name is not None and name not in named:
            table.arm_index(name)
    # A table from elsewhere may know no sizes: then every other arm is a dose of the named baseline.
    if baseline is not None and named[baseline].target_rows is None:
        return (_family(table.arms, baseline, matched, None),)
    sizes = sorted({arm.target_rows for arm in arms if arm.target_rows is not None}, reverse=True)
    if not sizes or (baseline is None and all(arm.dose is None and arm.kind is None for arm in arms)):
        raise ScoresError(
            "no baseline",
            expected="--baseline ARM, or columns target_rows and dose with an arm of dose 0 for each target size",
        )
    if baseline is not None:
        # Stable, so the named baseline's size comes first and the others stay in falling order.
        sizes.sort(key=lambda size: size != named[baseline].target_rows)
    found = [
        family
        for size in sizes
        if (family := _sized([arm for arm in table.arms if arm.target_rows == size], baseline, matched, size))
        is not None
    ]
    known = all(arm.kind is not None for arm in arms)  # a study's arms: a baseline without scores is one that failed
    if not found or not (known or any(family.baseline for family in found)):
        raise ScoresError("no arm without a dose at any target size", expected="an arm of dose 0, or --baseline ARM")
    return tuple(found)


def _sized(arms: Sequence[TableArm], baseline: str | None, matched: str | None, size: int) -> Family | None:
    here = {arm.name for arm in arms}
    # Other sizes have a matched baseline of their own: the one named by hand belongs to its own size only.
    own_matched = matched if matched in here else next((arm.name for arm in arms if arm.kind == "matched"), None)
    if baseline in here and baseline is not None:
        return _family(arms, baseline, own_matched, size)
    alone = [arm.name for arm in arms if arm.kind in (None, "alone") and not arm.dose and arm.name != own_matched]
    if len(alone) > 1:
        raise ScoresError(
            f"{len(alone)} arms without a dose at target_rows {size}: {', '.join(alone)}",
            expected="one baseline",
            fix="name it with --baseline, and the one with as many steps as the largest dose with --matched",
        )
    if alone:
        return _family(arms, alone[0], own_matched, size)
    if own_matched is not None:
        return _family(arms, own_matched, None, size)
    return _family(arms, None, None, size) if any(arm.dose for arm in arms) else None


def _family(arms: Sequence[TableArm], baseline: str | None, matched: str | None, size: int | None) -> Family:
    if baseline is not None and baseline == matched:
        raise ScoresError("baseline and matched baseline are the same arm", got=baseline)
    doses = [arm for arm in arms if arm.name not in (baseline, matched) and arm.kind not in OUTSIDE]
    # Rising, as everywhere below ties go to the first and so to the smaller dose.
    doses.sort(key=lambda arm: (arm.dose if arm.dose is not None else 0, arm.source or "", arm.name))
    return Family(doses=tuple(arm.name for arm in doses), baseline=baseline, matched=matched, target_rows=size)


# ------------------------------------------------------------------------------------------------------------- evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class _Numbers:
    """A family weighed (one study, K doses), with why a number is unknown and how many seeds stand behind it."""

    weighed: Weighed
    reasons: tuple[tuple[str | None, ...], ...]
    n_seeds: tuple[tuple[int, ...], ...]


def gather(
    table: ScoreTable,
    family: Family,
    *,
    settings: Settings,
    retention: Sequence[ScoreTable] = (),
    transfer: Sequence[ScoreTable] = (),
) -> Evidence:
    """The evidence of one family. Raises ScoresError where scores are missing and may not be. `retention` and
    `transfer` are told beside it and decide nothing."""
    if family.baseline is None:
        return _without_baseline(table, family, settings)
    # Only the family's arms: all arms of a table lend to the moderated seed variance, and an untuned model or another
    # size varies otherwise.
    arms = [table.arm_index(name) for name in (family.baseline, *_maybe(family.matched), *family.doses)]
    whole = complete(
        table.take(arms),
        drop_incomplete=settings.drop_incomplete,
        allow_missing_runs=settings.allow_missing_runs,
    )
    cut = whole.table
    n_baselines = 1 if family.matched is None else 2
    plan = layout(len(cut.items), groups=cut.groups, tasks=cut.tasks, task_weights=settings.task_weights)
    numbers = _numbers(cut, plan, n_baselines, settings) if family.doses else None
    doses = _dose_evidence(cut, plan, numbers, n_baselines, settings) if numbers is not None else ()
    # The last baseline is the matched one where there is one: the gain is quoted against the harder of the two.
    lead = numbers.weighed.cross_fit.best[..., -1] if numbers is not None else np.array(np.nan)
    evidence = Evidence(
        doses=doses,
        baseline=family.baseline,
        matched=family.matched,
        target_rows=family.target_rows,
        metric=settings.metric,
        level=settings.level,
        smallest_effect=settings.smallest_effect,
        n_seeds=min((min(row) for row in numbers.n_seeds), default=0) if numbers is not None else len(cut.seeds),
        n_items=len(cut.items),
        n_groups=plan.n_clusters if cut.groups is not None else None,
        gain_best=_maybe_number(lead),
        gain_smallest=_maybe_number(numbers.weighed.cross_fit.smallest[..., -1]) if numbers is not None else None,
        gain_least=_maybe_number(numbers.weighed.cross_fit.best.min(-1)) if numbers is not None else None,
        smallest_detectable=None,
        estimand=settings.estimand,
        steps_matched=settings.steps_matched or table.arms[arms[0]].kind == "matched",
        kept=tuple(kept for eval_set in retention for kept in retention_of(eval_set, family, settings)),
        transfer=tuple(contrast for eval_set in transfer for contrast in transfer_of(eval_set, family, settings)),
        task_weights=settings.task_weights if cut.tasks is not None else None,
        failed_runs=whole.missing_runs,
        notes=notes_of(whole, cut, plan, settings),
        unscored=settings.unscored,
        lost=settings.lost,
    )
    return _with_prospects(evidence, numbers, plan, len(cut.seeds), settings)


def _without_baseline(table: ScoreTable, family: Family, settings: Settings) -> Evidence:
    """Doses that no arm without a dose stands beside: every number is unknown, with the reason."""
    cut = table.take([table.arm_index(name) for name in family.doses])
    unknown = unknown_estimate(
        level=settings.level, method="none", n_items=len(cut.items), n_seeds=len(cut.seeds), reason=NO_BASELINE
    )
    doses = []
    for arm in cut.arms:
        contrast = Contrast(
            arm=arm.name,
            baseline="",
            eval_set=table.eval_set,
            target_rows=arm.target_rows,
            difference=unknown,
            p=None,
            p_adjusted=None,
            dose=arm.dose,
            source=arm.source,
        )
        against = Against(contrast=contrast, low_90=None, high_90=None, high_95=None)
        doses.append(
            DoseEvidence(arm=arm.name, dose=arm.dose, source=arm.source, plain=against, matched=None, gap_high=None)
        )
    sentence = "Next: train the same target rows without a dose; there is nothing to compare the doses with."
    return Evidence(
        doses=tuple(doses),
        baseline="",
        matched=None,
        target_rows=family.target_rows,
        metric=settings.metric,
        level=settings.level,
        smallest_effect=settings.smallest_effect,
        n_seeds=len(cut.seeds),
        n_items=len(cut.items),
        n_groups=None,
        gain_best=None,
        gain_smallest=None,
        gain_least=None,
        smallest_detectable=None,
        estimand=settings.estimand,
        next_step=NextStep(kind="dose", seeds=None, items=None, tokens=None, minutes=None, sentence=sentence),
        steps_matched=True,
        unscored=settings.unscored,
        lost=settings.lost,
    )


def _numbers(table: ScoreTable, plan: Layout, n_baselines: int, settings: Settings) -> _Numbers:
    doses, baselines = list(range(n_baselines, len(table.arms))), range(n_baselines)
    told = _weighed if table.ran.size and bool(table.ran.all()) else _weighed_by_pairs
    return _Numbers(
        weighed=told(table, plan, doses, baselines, settings),
        reasons=tuple(_reasons(table, plan, doses, baseline) for baseline in baselines),
        n_seeds=tuple(tuple(len(_common(table, [dose, baseline])) for dose in doses) for baseline in baselines),
    )


def _common(table: ScoreTable, arms: Sequence[int]) -> list[int]:
    """Seeds at which all of these arms have a run."""
    return [int(seed) for seed in np.flatnonzero(table.ran[list(arms)].all(0))]


def _weighed(
    table: ScoreTable, plan: Layout, doses: Sequence[int], baselines: Sequence[int], settings: Settings
) -> Weighed:
    """As `make calibrate` weighs thousands of simulated studies, with no step of its own."""
    return weigh(
        table.values_ASI,
        plan,
        doses=doses,
        baselines=baselines,
        first_half_I=halves(table.items, table.groups),
        smallest_effect=settings.smallest_effect,
        level=settings.level,
        overlap=settings.overlap or 0.0,
    )


def _weighed_by_pairs(
    table: ScoreTable, plan: Layout, doses: Sequence[int], baselines: Sequence[int], settings: Settings
) -> Weighed:
    """Where runs are missing, every contrast takes the seeds that its two arms share, so the method is its own too, and
    the family is Holm's: correlations of contrasts over different seeds are not known."""

    def against(baseline: int) -> Spread:
        return joined_spreads([_pair(table, plan, dose, baseline, settings) for dose in doses])

    spreads = tuple(against(baseline) for baseline in baselines)
    gap_low, gap_high = np.full(len(doses), np.nan), np.full(len(doses), np.nan)
    if not bool(np.isnan(spreads[0].difference).all()):
        best = int(np.nanargmax(spreads[0].difference))
        gap_low, gap_high = gap_bounds(against(doses[best]), np.array(best), level=settings.level)
    return weighed(
        spreads,
        tuple(simultaneous(spread, None, level=settings.level) for spread in spreads),
        _fit(table, plan, doses, baselines, settings),
        (gap_low, gap_high),
        rows=range(1, len(doses) + 1),
        level=settings.level,
        methods=tuple(
            tuple(_pair(table, plan, dose, baseline, settings).method for dose in doses) for baseline in baselines
        ),
    )


def _pair(table: ScoreTable, plan: Layout, arm: int, baseline: int, settings: Settings) -> Spread:
    return shared_seeds_contrast(
        table.values_ASI, table.ran, plan, arm=arm, baseline=baseline, overlap=settings.overlap or 0.0
    )


def _fit(
    table: ScoreTable, plan: Layout, doses: Sequence[int], baselines: Sequence[int], settings: Settings
) -> CrossFit:
    # All arms at the same seeds, or a dose would win by the seeds that another one lacks.
    seeds = _common(table, range(len(table.arms)))
    if not seeds:
        nothing = np.full(len(baselines), np.nan)
        return CrossFit(best=nothing, smallest=nothing)
    return cross_fitted(
        table.values_ASI[:, seeds],
        plan,
        halves(table.items, table.groups),
        doses=doses,
        baselines=baselines,
        smallest_effect=settings.smallest_effect,
    )


def _reasons(table: ScoreTable, plan: Layout, doses: Sequence[int], baseline: int) -> tuple[str | None, ...]:
    """Why a contrast has no interval, or what its interval does not cover."""
    found: list[str | None] = []
    for dose in doses:
        n_seeds = len(_common(table, [dose, baseline]))
        if n_seeds == 0:
            found.append("no seed at which both arms ran")
        elif n_seeds == 1 and plan.item_df == 0:
            found.append("one item (or one group of items) at one seed shows no variance")
        elif n_seeds == 1:
            found.append("one seed: the interval is over items only and holds for this run only")
        elif plan.item_df == 0:
            found.append("one item (or one group of items): the interval is over seeds only and holds for it only")
        else:
            found.append(None)
    return tuple(found)


# -------------------------------------------------------------------------------------------------------------- records


def _dose_evidence(
    table: ScoreTable, plan: Layout, numbers: _Numbers, n_baselines: int, settings: Settings
) -> tuple[DoseEvidence, ...]:
    sides = [_againsts(table, numbers, baseline, n_baselines, settings) for baseline in range(n_baselines)]
    return tuple(
        DoseEvidence(
            arm=arm.name,
            dose=arm.dose,
            source=arm.source,
            plain=sides[0][index],
            matched=sides[1][index] if n_baselines == 2 else None,
            gap_high=_maybe_number(numbers.weighed.rule_numbers.gap_high_BK[index]),
            gap_low=_maybe_number(numbers.weighed.rule_numbers.gap_low_BK[index]),
        )
        for index, arm in enumerate(table.arms[n_baselines:])
    )


def _againsts(
    table: ScoreTable, numbers: _Numbers, baseline: int, n_baselines: int, settings: Settings
) -> list[Against]:
    weighed = numbers.weighed
    spread, family, bound = weighed.spreads[baseline], weighed.families[baseline], weighed.rule_numbers
    found = []
    for index, arm in enumerate(table.arms[n_baselines:]):
        reason = numbers.reasons[baseline][index]
        if spread.constant[index]:
            reason = SAME_EVERYWHERE
        estimate = Estimate(
            value=_maybe_number(spread.difference[index]),
            low=_maybe_number(family.low[index]),
            high=_maybe_number(family.high[index]),
            level=settings.level,
            method=f"{weighed.methods[baseline][index]}; {family.method}",
            n_items=len(table.items),
            n_seeds=numbers.n_seeds[baseline][index],
            reason=reason,
        )
        contrast = Contrast(
            arm=arm.name,
            baseline=table.arms[baseline].name,
            eval_set=table.eval_set,
            target_rows=arm.target_rows,
            difference=estimate,
            p=_maybe_number(family.p[index]),
            p_adjusted=_maybe_number(family.p_adjusted[index]),
            dose=arm.dose,
            source=arm.source,
        )
        found.append(
            Against(
                contrast=contrast,
                low_90=_maybe_number(bound.low_90_BKR[index, baseline]),
                high_90=_maybe_number(bound.high_90_BKR[index, baseline]),
                high_95=_maybe_number(bound.high_95_BKR[index, baseline]),
            )
        )
    return found


def retention_of(table: ScoreTable, family: Family, settings: Settings) -> list[Kept]:
    """Retention of every dose against the plain baseline, with single intervals."""
    known = {arm.name for arm in table.arms}
    doses = [name for name in family.doses if name in known]
    if family.baseline is None or family.baseline not in known or not doses:
        return []
    whole = complete(
        table.take([table.arm_index(family.baseline), *(table.arm_index(name) for name in doses)]),
        drop_incomplete=settings.drop_incomplete,
        allow_missing_runs=settings.allow_missing_runs,
    ).table
    plan = layout(len(whole.items), groups=whole.groups, tasks=whole.tasks, task_weights=settings.task_weights)
    found = []
    for index, name in enumerate(doses, start=1):
        pair = _pair(whole, plan, index, 0, settings)
        low, high = bounds(pair, (1 - settings.level) / 2)
        difference = _maybe_number(pair.difference[0])
        if difference is not None:
            found.append(
                Kept(
                    arm=name,
                    eval_set=table.eval_set,
                    difference=difference,
                    low=_maybe_number(low[0]),
                    high=_maybe_number(high[0]),
                )
            )
    return found


def transfer_of(table: ScoreTable, family: Family, settings: Settings) -> list[Contrast]:
    """The family's contrasts on another target's items, simultaneous over the doses, against each baseline that was
    asked them."""
    known = {arm.name for arm in table.arms}
    baselines = [name for name in (*_maybe(family.baseline), *_maybe(family.matched)) if name in known]
    doses = [name for name in family.doses if name in known]
    if not baselines or not doses:
        return []
    cut = complete(
        table.take([table.arm_index(name) for name in (*baselines, *doses)]),
        drop_incomplete=settings.drop_incomplete,
        allow_missing_runs=settings.allow_missing_runs,
    ).table
    plan = layout(len(cut.items), groups=cut.groups, tasks=cut.tasks, task_weights=settings.task_weights)
    numbers = _numbers(cut, plan, len(baselines), settings)
    sides = [_againsts(cut, numbers, baseline, len(baselines), settings) for baseline in range(len(baselines))]
    return [side[dose].contrast for dose in range(len(doses)) for side in sides]


def notes_of(whole: Completed, table: ScoreTable, plan: Layout, settings: Settings) -> tuple[str, ...]:
    notes = []
    if table.tasks is not None:
        told = "every task weighs the same" if settings.task_weights == "macro" else "every item weighs the same"
        notes.append(f"{len(set(table.tasks))} tasks: {told}.")
    if plan.grouped:
        notes.append(f"{plan.n_items} items in {plan.n_clusters} groups: intervals are over groups.")
    if whole.dropped_items:
        found = "1 incomplete item" if whole.dropped_items == 1 else f"{whole.dropped_items} incomplete items"
        notes.append(f"{found} left out, which had {whole.dropped_cells} scores.")
    if whole.missing_runs:
        found = "1 run has" if whole.missing_runs == 1 else f"{whole.missing_runs} runs have"
        notes.append(f"{found} no scores: contrasts take the seeds that both arms have.")
    return tuple(notes)


# ------------------------------------------------------------------------------------------------------------ prospects


def _with_prospects(
    evidence: Evidence, numbers: _Numbers | None, plan: Layout, n_seeds: int, settings: Settings
) -> Evidence:
    """The evidence with what the design could have detected, from its own variances, and the cheapest way on."""
    if not settings.looks_ahead:
        return evidence
    # From the contrasts with the last baseline, which is the matched one where there is one.
    components = (
        pilot_components(numbers.weighed.spreads[-1], overlap=settings.overlap or 0.0) if numbers is not None else None
    )
    if components is None or numbers is None or not n_seeds:
        return replace(evidence, next_step=_first_step(evidence, n_seeds, settings.costs))
    design = PowerDesign(
        seeds=n_seeds,
        items=plan.n_clusters,
        doses=len(evidence.doses),
        baselines=1 if evidence.matched is None else 2,
        components=_rounded(components),
        smallest_effect=settings.smallest_effect,
        level=settings.level,
        overlap=settings.overlap or 0.0,
    )
    found = prospects(design)
    return replace(
        evidence,
        smallest_detectable=found.smallest_detectable,
        next_step=_next_step(evidence, design, numbers, plan, settings),
    )


def _rounded(components: Components) -> Components:
    """To six digits, so that equal studies share one simulation."""
    return replace(
        components,
        item=float(f"{components.item:.6g}"),
        seed=float(f"{components.seed:.6g}"),
        error=float(f"{components.error:.6g}"),
    )


def _first_step(evidence: Evidence, n_seeds: int, costs: Costs) -> NextStep | None:
    """Where variances cannot be told, two seeds more make them known."""

    def step(kind: Literal["seeds", "items"], *, seeds: int, items: int, text: str) -> NextStep:
        holds = _level_with(seeds, n_seeds, level=evidence.level) if kind == "seeds" else None
        tokens = costs.more_tokens(seeds=(n_seeds, seeds), items=(evidence.n_items, items))
        minutes = costs.minutes(tokens)
        return NextStep(
            kind=kind,
            seeds=seeds if kind == "seeds" else None,
            items=items if kind == "items" else None,
            tokens=tokens,
            minutes=minutes,
            sentence=f"{text}{_price(tokens, minutes)}.{_what_it_holds(holds, evidence.level)}",
            holds=holds,
        )

    if not evidence.doses:
        sentence = "Next: run a dose; there is none to compare with training alone."
        return NextStep(kind="dose", seeds=None, items=None, tokens=None, minutes=None, sentence=sentence)
    if n_seeds >= 3:
        more = max(100, 2 * evidence.n_items)
        text = f"Next: {more} test items in all, as {evidence.n_items} show too little variation to go by"
        return step("items", seeds=n_seeds, items=more, text=text)
    few = "1 seed does" if n_seeds == 1 else f"{n_seeds or 'no'} seeds do"
    text = f"Next: 3 seeds in all, as {few} not show how much seeds vary"
    return step("seeds", seeds=3, items=evidence.n_items, text=text)


def _next_step(
    evidence: Evidence, design: PowerDesign, numbers: _Numbers, plan: Layout, settings: Settings
) -> NextStep | None:
    # A dose has to beat every baseline, so its weaker gain is the one to settle.
    gains = np.min([spread.difference for spread in numbers.weighed.spreads], axis=0)
    gains = gains[~np.isnan(gains)]
    if not len(gains):
        return None
    # The power of a design counts independent clusters; a user counts items.
    each = plan.n_items / plan.n_clusters
    ways = ways_on(design, gains=gains, costs=settings.costs, items_each=each)
    if ways:
        way = ways[0]
        count = f"{way.seeds} seeds" if way.kind == "seeds" else f"{way.items} test items"
        holds = _level_with(way.seeds, design.seeds, level=design.level) if way.kind == "seeds" else None
        return NextStep(
            kind="seeds" if way.kind == "seeds" else "items",
            seeds=way.seeds if way.kind == "seeds" else None,
            items=way.items if way.kind == "items" else None,
            tokens=way.tokens,
            minutes=way.minutes,
            sentence=f"Next: {count} in all would probably settle it{_price(way.tokens, way.minutes)}."
            + _what_it_holds(holds, design.level),
            holds=holds,
        )
    # No number of seeds or items settles an effect as small as the one that matters: a larger dose may have a larger
    # effect.
    largest = evidence.doses[-1]
    if largest.dose:
        each_seed = settings.costs.double_dose_tokens_per_seed
        tokens = None if each_seed is None else design.seeds * each_seed
        minutes = settings.costs.minutes(tokens)
        sentence = (
            f"Neither 20 seeds nor 50 times the items would settle it as it stands. Next: a dose of {2 * largest.dose} "
            f"rows, whose effect may be plainer{_price(tokens, minutes)}, or a larger smallest effect."
        )
        return NextStep(kind="dose", seeds=None, items=None, tokens=tokens, minutes=minutes, sentence=sentence)
    sentence = (
        "Neither 20 seeds nor 50 times the items would settle it as it stands. Next: another dose, whose effect may be "
        "plainer, or a larger smallest effect."
    )
    return NextStep(kind="dose", seeds=None, items=None, tokens=None, minutes=None, sentence=sentence)


def _level_with(seeds: int, judged: int, *, level: float) -> float | None:
    """What a grid that was judged now holds together with the same grid at so many seeds; None where it was not."""
    return round(level_of_repeated_tests((judged, seeds), level=level), 4) if 0 < judged < seeds else None


def _what_it_holds(holds: float | None, level: float) -> str:
    """More of the same seeds is a second look, and costs level; what costs none."""
    if holds is None:
        return ""
    usual = f"{100 * level:g}%"
    return (
        f" Both verdicts together then hold {holds:.1%}, not {usual}; a staged study (until: firm) on new seeds holds "
        f"{usual}."
    )


def _price(tokens: int | None, minutes: float | None) -> str:
    if tokens is None:
        return ""
    time = "" if minutes is None else f", about {max(minutes, 0.1):.0f} minutes" if minutes >= 1 else ", under a minute"
    return f" ({tokens:,} more tokens{time})"


def _maybe(name: str | None) -> tuple[str, ...]:
    return () if name is None else (name,)


def _maybe_number(value: np.floating | Floats | float) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None
