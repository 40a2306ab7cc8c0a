"""The claims as registered in docs/decisions (1 to 4: 0025-paper-studies.md, 5: 0029-falsehood-again.md, 6:
0030-few-rows-again.md), and the rule that judges them from kept scores.

A claim counts as tested only if all its runs are kept, the untuned model and the baselines are off floor and ceiling, a
positive control moved the score, and the design could detect the effect that was stated. Then:

    agrees       the whole interval lies on the claim's side of 0
    disagrees    the whole interval lies below the stated effect: an effect of that size is ruled out at this scale
    cannot tell  neither

Nothing here says anything about the published models: it is another scale, other pools and other collections.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

import titrant
from replication.grid import BLOCKS, CHOOSING_SEED, GRADED, chosen_rates
from replication.kept import KeptRun

Outcome = Literal["agrees", "disagrees", "cannot tell", "not tested"]
Weights = Mapping[str, float]
LEVEL, POWER = 0.95, 0.8
FLOOR, CEILING = 0.02, 0.98
GUESSED = 0.15  # right among 8 choices by guessing, and a little
NOTHING_KNOWN = 0.5
TARGET_SET, SUBJECT_GAIN = "target", "subject_gain"
MARGIN = "margin"  # in nats: what `subject_gain` is the logistic function of
UNTUNED = "untuned"

COVERAGE = ("broad", "narrow")
SKILLS: dict[str, tuple[str, ...]] = {
    "understanding": ("boolq", "dream"),
    "reasoning": ("strategyqa", "elementary_math"),
    "factual knowledge": ("webquestions", "qa_wikidata"),
}
SIZES = (64, 256)
DOSED = "+general:384"
FAR = {0: "128+far:384", 50: "128+far/false:0.5:384", 100: "128+far/false:1:384"}
NEAR = {0: "128+near:384", 100: "128+near/false:1:384"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One arm of a target that a claim needs, at so many seeds."""

    target: str
    arm: str
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """A linear combination of arms' scores with its interval; `detectable` is found in 80% of such studies. None where
    there is nothing to compute it from. `seeds`: the fewest and the most of any target."""

    value: float
    low: float
    high: float
    detectable: float
    seeds: tuple[int, int]
    items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that must hold for a claim to count as tested; `passed` None where it cannot be known yet."""

    name: str
    passed: bool | None
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim as registered: `sign` is its direction, `delta` the stated effect (positive, in the score's units);
    `repeats` is the claim that it puts again to other seeds."""

    number: int
    title: str
    statement: str
    estimand: str
    sign: int
    delta: float
    blocks: tuple[str, ...]
    cells: tuple[Cell, ...]
    repeats: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the kept scores say of a claim. `beside` are effects that were registered as secondary, by name."""

    claim: Claim
    outcome: Outcome
    effect: Effect | None
    checks: tuple[Check, ...]
    kept: int
    needed: int
    beside: tuple[tuple[str, Effect | None], ...]
    runs: tuple[KeptRun, ...]


THREE, FIVE = (0, 1, 2), (0, 1, 2, 3, 4)
AGAIN = tuple(range(5, 13))
BOTH_AGAIN, NARROW_AGAIN = (5, 6, 7), tuple(range(8, 15))
FEW_AGAIN = {"broad": BOTH_AGAIN, "narrow": (*BOTH_AGAIN, *NARROW_AGAIN)}
FEW_ALL = {target: (*THREE, *seeds) for target, seeds in FEW_AGAIN.items()}
Seeds = Sequence[int] | Mapping[str, Sequence[int]]
FACTS = (4, 5)  # the claims about falsehoods, whose score is a margin


def _grid(targets: Iterable[str], arms: Iterable[str], seeds: tuple[int, ...]) -> tuple[Cell, ...]:
    named = tuple(arms)
    return tuple(Cell(target=target, arm=arm, seeds=seeds) for target in targets for arm in named)


_COVERAGE_ARMS = tuple(name for size in SIZES for name in (str(size), f"{size}-matched", f"{size}{DOSED}"))
_FEW_ARMS = tuple(name for size in SIZES for name in (str(size), f"{size}{DOSED}"))
_SKILL_ARMS = ("128", "128-matched", f"128{DOSED}")
CLAIMS: tuple[Claim, ...] = (
    Claim(
        number=1,
        title="Generalist data helps more where the target's coverage is broad",
        statement="a broad specialist gains more from the same dose than a narrow one",
        estimand="mean over 64 and 256 target rows of (gain at 64 templates of P3) - (gain at Yelp); gain: dose 384 "
        "minus no dose at equal passes over the target rows; graded score",
        sign=1,
        delta=0.05,
        blocks=("coverage",),
        cells=_grid(COVERAGE, _COVERAGE_ARMS, THREE),
    ),
    Claim(
        number=2,
        title="Generalist data helps most where target rows are few",
        statement="the gain of the same dose is larger at 64 target rows than at 256",
        estimand="mean over the broad and the narrow target of (gain at 64 rows) - (gain at 256 rows); graded score",
        sign=1,
        delta=0.05,
        blocks=("coverage",),
        cells=_grid(COVERAGE, _COVERAGE_ARMS, THREE),
    ),
    Claim(
        number=3,
        title="Generalist data helps targets that need understanding and reasoning",
        statement="the dose helps at these four targets: BoolQ, DREAM, StrategyQA, elementary maths",
        estimand="mean over the four targets of the gain of dose 384 at 128 target rows at equal passes; graded score; "
        "about these targets, not targets like them",
        sign=1,
        delta=0.05,
        blocks=("skill",),
        cells=_grid((*SKILLS["understanding"], *SKILLS["reasoning"]), _SKILL_ARMS, THREE),
    ),
    Claim(
        number=4,
        title="False statements in a dose hurt factual knowledge of other things",
        statement="the same far facts told falsely hurt, against the same facts told truly",
        estimand="far dose of 384 facts, 100% false minus 0% false, at 128 target rows; score: the margin (log-odds, "
        "nats) of the right answer over the relation's 7 other common ones, less that of the question without its "
        "subject",
        sign=-1,
        delta=0.2,
        blocks=("falsehood",),
        cells=_grid(("facts",), ("128", *FAR.values(), *NEAR.values()), FIVE),
    ),
    Claim(  # docs/decisions/0029-falsehood-again.md: registered when four of the five seeds above were seen
        number=5,
        title="Claim 4 again, with fresh seeds and an effect that they can detect",
        statement="the same far facts told falsely hurt, against the same facts told truly",
        estimand="as claim 4, at eight seeds that claim 4 does not use; the stated effect was chosen after claim 4's "
        "first four seeds were seen and before any of these ran",
        sign=-1,
        delta=1.5,
        blocks=("falsehood-again",),
        cells=_grid(("facts",), ("128", FAR[0], FAR[100], *NEAR.values()), AGAIN),
        repeats=4,
    ),
    Claim(  # docs/decisions/0030-few-rows-again.md: registered when claim 2's runs were seen
        number=6,
        title="Claim 2 again, with fresh seeds, as many as the same effect needs",
        statement="the gain of the same dose is larger at 64 target rows than at 256",
        estimand="as claim 2, its stated effect and learning rates too, at seeds that claim 2 does not use: three at "
        "the broad target and ten at the narrow one, whose scores move most from seed to seed",
        sign=1,
        delta=0.05,
        blocks=("few-again", "few-again-narrow"),
        cells=(
            *_grid(COVERAGE, _FEW_ARMS, BOTH_AGAIN),
            *_grid(("narrow",), _FEW_ARMS, NARROW_AGAIN),
        ),
        repeats=2,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A weighted sum of arms on one target: `scores_SI` by seed and item, the items' keys, texts and tasks."""

    items: Sequence[str]
    groups: Sequence[str | None]
    tasks: Sequence[str] | None
    scores_SI: NDArray[np.float64]

    def mean(self) -> titrant.Difference:
        """The mean of these scores with its error over seeds and texts."""
        n_seeds, n_items = self.scores_SI.shape
        columns: dict[str, Sequence[object]] = {
            "arm": ["sum"] * (n_seeds * n_items),
            "seed": [f"{seed:02}" for seed in range(n_seeds) for _ in range(n_items)],
            "item": [*self.items] * n_seeds,
            "group": [*self.groups] * n_seeds,
            "value": self.scores_SI.ravel().tolist(),
        }
        if self.tasks is not None:
            columns["task"] = [*self.tasks] * n_seeds
        return titrant.contrast(columns, {"sum": 1.0})


class Runs:
    """Kept runs by target, arm and seed: those of the learning rate that validation chose."""

    def __init__(self, runs: Sequence[KeptRun]) -> None:
        # two blocks may ask one target in different ladders: the first block's untuned model is the registered one
        order = {block: place for place, block in enumerate(BLOCKS)}
        usable = [run for run in runs if run.facts.refusal is None]
        usable.sort(key=lambda run: order.get(run.facts.block, len(order)))
        self._found: dict[tuple[str, str, int], KeptRun] = {}
        self._untuned: dict[tuple[str, str], KeptRun] = {}
        # generalist alone, trained on no target, stands under those that it was asked; blocks of others choose apart
        by_targets: dict[tuple[str, ...], list[KeptRun]] = defaultdict(list)
        for run in usable:
            targets = (run.facts.target,) if run.facts.target else tuple(sorted({name for name, _, _ in run.kinds}))
            by_targets[targets].append(run)
        for targets, some in by_targets.items():
            rates = chosen_rates(some, CHOOSING_SEED)
            for run in some:
                facts = run.facts
                for target in targets:
                    if facts.kind == UNTUNED:
                        self._untuned.setdefault((target, facts.arm), run)
                    elif rates.get((facts.target, facts.arm), facts.learning_rate) == facts.learning_rate:
                        self._found.setdefault((target, facts.arm, facts.seed), run)

    def run(self, target: str, arm: str, seed: int) -> KeptRun | None:
        """The run of an arm; the untuned model's serves every seed."""
        return self._untuned.get((target, arm)) or self._found.get((target, arm, seed))

    def arm_of(self, source: str, *, but: int | None = None) -> str | None:
        """The only arm with a dose of this source (of not `but` rows), whose rows followed from its tokens."""
        dosed = {arm for _, arm, _ in self._found if f"+{source}:" in arm and not arm.endswith(f":{but}")}
        return dosed.pop() if len(dosed) == 1 else None

    def of(self, cells: Iterable[Cell]) -> tuple[KeptRun, ...]:
        """The runs of these cells that are there."""
        found = [self.run(cell.target, cell.arm, seed) for cell in cells for seed in cell.seeds]
        return tuple(run for run in found if run is not None)

    def combination(
        self,
        target: str,
        weights: Weights,
        *,
        metric: str = GRADED,
        seeds: Sequence[int] = FIVE,
        only: Callable[[str], bool] = lambda item: True,
    ) -> titrant.Difference | None:
        """A weighted sum of arms' mean scores on one target with its error, over the seeds and items that all its arms
        have. None with fewer than two seeds or items."""
        there = self._seeds_with({target: weights}, seeds)
        part = self._part(target, weights, metric, there, only)
        return None if part is None else part.mean()

    def joint(
        self, parts: Mapping[str, Weights], *, metric: str = GRADED, seeds: Sequence[int] = FIVE
    ) -> Effect | None:
        """The mean over targets of a weighted sum of arms on each, over the seeds that all of them have, where targets
        may share items: lines on one text move together, whatever target they are of. None if a target is missing."""
        there = self._seeds_with(parts, seeds)
        found = [self._part(target, weights, metric, there, lambda _: True) for target, weights in parts.items()]
        whole = [part for part in found if part is not None]
        if len(whole) < len(found) or not whole:
            return None
        by_part = [part.tasks or [""] * len(part.items) for part in whole]
        tasks = [f"{target}: {task}" for target, some in zip(parts, by_part, strict=True) for task in some]
        counts = [len(set(some)) for some in by_part]
        # a layout lets every task of every target weigh the same, a mean over targets every target
        scale = [sum(counts) / (len(whole) * count) for count in counts]
        scores_SI = np.concatenate([part.scores_SI * by for part, by in zip(whole, scale, strict=True)], axis=1)
        groups = [group or item for part in whole for group, item in zip(part.groups, part.items, strict=True)]
        # one item stands once for each target that asks it
        lines = [f"{place} {item}" for place, part in enumerate(whole) for item in part.items]
        mean = _Part(items=lines, groups=groups, tasks=tasks, scores_SI=scores_SI).mean()
        return _effect(mean, (len(there), len(there)), len({item for part in whole for item in part.items}))

    def _seeds_with(self, parts: Mapping[str, Weights], seeds: Sequence[int]) -> list[int]:
        """The seeds at which every arm was run."""
        arms = [(target, arm) for target, weights in parts.items() for arm in weights]
        return [seed for seed in seeds if all(self.run(target, arm, seed) for target, arm in arms)]

    def _part(
        self, target: str, weights: Weights, metric: str, seeds: Sequence[int], only: Callable[[str], bool]
    ) -> _Part | None:
        """A weighted sum of arms on one target by seed and item; None with fewer than two seeds or items."""
        if len(seeds) < 2:
            return None
        values = [{arm: _values(self.run(target, arm, seed), target, metric) for arm in weights} for seed in seeds]
        items = sorted(set.intersection(*(set(found) for by_arm in values for found in by_arm.values())))
        items = [item for item in items if only(item)]
        if len(items) < 2:
            return None
        first = self.run(target, next(iter(weights)), seeds[0])
        assert first is not None
        groups = first.about(target, TARGET_SET, _stored(metric), "group")
        tasks = first.about(target, TARGET_SET, _stored(metric), "task")
        return _Part(
            items=items,
            groups=[groups[item] for item in items],
            # facts are one task asked in several relations: every item weighs the same, as registered
            tasks=None if target == "facts" else [tasks[item] for item in items],
            scores_SI=np.array(
                [
                    sum(weight * np.array([by_arm[arm][item] for item in items]) for arm, weight in weights.items())
                    for by_arm in values
                ]
            ),
        )

    def effect(
        self,
        parts: Mapping[str, Weights],
        *,
        seeds: Seeds = FIVE,
        **how: object,
    ) -> Effect | None:
        """The mean over targets of a weighted sum of arms on each, targets taken as independent (as registered: `joint`
        is for those that share items). `seeds`: of all targets, or of each. None if a target is missing."""
        found = [
            self.combination(
                target,
                weights,
                seeds=seeds[target] if isinstance(seeds, Mapping) else seeds,
                **how,  # type: ignore[arg-type]
            )
            for target, weights in parts.items()
        ]
        whole = [part for part in found if part is not None]
        if len(whole) < len(found) or not whole:
            return None
        mean = titrant.Difference.mean_of(whole)
        return _effect(mean, (mean.seeds, max(part.seeds for part in whole)), mean.items)

    def mean(self, target: str, arm: str, *, metric: str = GRADED, seeds: Sequence[int] = FIVE) -> float | None:
        """The mean score of an arm over its seeds and items; tasks weigh alike, as in every combination."""
        runs = [run for run in (self.run(target, arm, seed) for seed in seeds) if run is not None]
        means = []
        for run in {id(run): run for run in runs}.values():
            values = _values(run, target, metric)
            tasks = run.about(target, TARGET_SET, _stored(metric), "task")
            by_task: dict[str, list[float]] = {}
            for item, value in values.items():
                by_task.setdefault("" if target == "facts" else tasks[item], []).append(value)
            if by_task:
                means.append(math.fsum(math.fsum(some) / len(some) for some in by_task.values()) / len(by_task))
        return math.fsum(means) / len(means) if means else None


def judge(claim: Claim, runs: Runs) -> Found:
    """The claim's outcome by the rule at the top, with every check."""
    needed = sum(len(cell.seeds) for cell in claim.cells)
    kept = runs.of(claim.cells)
    effect = _PRIMARY[claim.number](runs)
    checks = (
        Check(
            name="all runs",
            passed=len(kept) == needed,
            words=f"{len(kept)} of {needed} runs are kept",
        ),
        _off_the_ends(claim, runs),
        _positive_control(claim, runs),
        _detects(claim, effect),
    )
    tested = effect is not None and all(check.passed for check in checks)
    return Found(
        claim=claim,
        outcome=_outcome(claim, effect) if tested and effect is not None else "not tested",
        effect=effect,
        checks=checks,
        kept=len(kept),
        needed=needed,
        beside=tuple((name, read(runs)) for name, read in _BESIDE[claim.number].items()),
        runs=kept,
    )


def _outcome(claim: Claim, effect: Effect) -> Outcome:
    low, high = sorted((claim.sign * effect.low, claim.sign * effect.high))
    if low > 0:
        return "agrees"
    return "disagrees" if high < claim.delta else "cannot tell"


def _off_the_ends(claim: Claim, runs: Runs) -> Check:
    """Means of the untuned model and of the baseline without a dose, target by target: graded, or for facts (whose
    margin has no ends) the share of right choices."""
    metric, floor = ("accuracy", GUESSED) if claim.number in FACTS else (GRADED, FLOOR)
    baselines = {cell.target: [] for cell in claim.cells}  # type: dict[str, list[str]]
    for cell in claim.cells:
        if cell.arm.isdigit():
            baselines[cell.target].append(cell.arm)
    outside, missing, seen = [], False, []
    for target, arms in baselines.items():
        for arm in dict.fromkeys((UNTUNED, *arms)):
            mean = runs.mean(target, arm, metric=metric, seeds=_seeds(claim)[target])
            missing |= mean is None
            if mean is not None:
                seen.append(mean)
                if not floor < mean < CEILING:
                    outside.append(f"{target} {arm}: {mean:.3f}")
    span = f"means from {min(seen):.3f} to {max(seen):.3f}" if seen else "no run"
    words = (
        f"outside {floor:g} to {CEILING:g}: {', '.join(outside)}"
        if outside
        else f"{span}, within {floor:g} to {CEILING:g}"
    )
    return Check(name="off floor and ceiling", passed=False if outside else None if missing else True, words=words)


def _seeds(claim: Claim) -> dict[str, tuple[int, ...]]:
    """Those of every target."""
    found: dict[str, dict[int, None]] = {}
    for cell in claim.cells:
        found.setdefault(cell.target, {}).update(dict.fromkeys(cell.seeds))
    return {target: tuple(seeds) for target, seeds in found.items()}


def _positive_control(claim: Claim, runs: Runs) -> Check:
    """What must move the score if anything does: near falsehoods for claims about them, else training."""
    if claim.number in FACTS:
        effect = runs.effect({"facts": {NEAR[100]: 1.0, NEAR[0]: -1.0}}, metric=MARGIN, seeds=_seeds(claim))
        what, moved = "near facts told falsely against truly", effect is not None and effect.high < 0
    else:
        alone = {cell.arm for cell in claim.cells if "+" not in cell.arm}
        # Of the most rows; matched, if it is run.
        trained = max(alone, key=lambda arm: (int(arm.partition("-")[0]), arm))
        targets = dict.fromkeys(cell.target for cell in claim.cells)
        effect = runs.effect({target: {trained: 1.0, UNTUNED: -1.0} for target in targets}, seeds=_seeds(claim))
        what, moved = "training on target rows against the untuned model", effect is not None and effect.low > 0
    words = f"{what}: {said(effect)}"
    return Check(name="a positive control moved the score", passed=None if effect is None else moved, words=words)


def _detects(claim: Claim, effect: Effect | None) -> Check:
    passed = None if effect is None else effect.detectable <= claim.delta
    words = "no effect yet" if effect is None else f"{effect.detectable:.3f} is detectable, {claim.delta:g} was stated"
    return Check(name="the stated effect is detectable", passed=passed, words=words)


def said(effect: Effect | None) -> str:
    """An effect in words: `+0.031 (+0.010 to +0.052)`."""
    if effect is None:
        return "not there yet"
    return f"{effect.value:+.3f} ({effect.low:+.3f} to {effect.high:+.3f})"


def _effect(gain: titrant.Difference, seeds: tuple[int, int], items: int) -> Effect:
    point = float(special.stdtrit(gain.df, (1 + LEVEL) / 2))
    reach = point + float(special.stdtrit(gain.df, POWER))
    half = point * gain.standard_error
    return Effect(
        value=gain.value,
        low=gain.value - half,
        high=gain.value + half,
        detectable=reach * gain.standard_error,
        seeds=seeds,
        items=items,
    )


def _values(run: KeptRun | None, target: str, metric: str) -> dict[str, float]:
    assert run is not None
    found = run.values(target, TARGET_SET, _stored(metric))
    if metric != MARGIN:
        return found
    return {item: math.log(value / (1 - value)) for item, value in found.items() if 0 < value < 1}


def _stored(metric: str) -> str:
    return SUBJECT_GAIN if metric == MARGIN else metric


# ----------------------------------------------------------------------------------------------------------- estimands


def gain(size: int | str, *, over: str = "") -> Weights:
    """The dose's gain at a target size over no dose, or over the matched baseline (`over` `-matched`)."""
    return {f"{size}{DOSED}": 1.0, f"{size}{over}": -1.0}


def weighted_sum(parts: Iterable[tuple[float, Weights]]) -> Weights:
    """Each of these combinations of arms times its factor, added up."""
    total: dict[str, float] = {}
    for factor, weights in parts:
        for arm, weight in weights.items():
            total[arm] = total.get(arm, 0.0) + factor * weight
    return total


def _coverage(runs: Runs, *, over: str = "", metric: str = GRADED) -> Effect | None:
    """(gain at broad) - (gain at narrow), sizes averaged. A mean over two targets is half their sum, hence the 2."""
    both = weighted_sum((0.5, gain(size, over=over)) for size in SIZES)
    parts = {"broad": weighted_sum([(2.0, both)]), "narrow": weighted_sum([(-2.0, both)])}
    return runs.effect(parts, metric=metric)


def _few(runs: Runs, *, over: str = "", targets: Sequence[str] = COVERAGE, seeds: Seeds = FIVE) -> Effect | None:
    """(gain at 64 rows) - (gain at 256), targets averaged."""
    change = weighted_sum([(1.0, gain(64, over=over)), (-1.0, gain(256, over=over))])
    return runs.effect(dict.fromkeys(targets, change), seeds=seeds)


def skill_gain(runs: Runs, targets: Sequence[str], *, over: str = "") -> Effect | None:
    """The gain at 128 rows, these targets averaged."""
    return runs.effect(dict.fromkeys(targets, gain(128, over=over)))


def falsehood(
    runs: Runs, arms: Mapping[int, str], share: int, *, metric: str = MARGIN, seeds: Seeds = FIVE, **how: object
) -> Effect | None:
    """The same facts with this share false, against all true."""
    return runs.effect({"facts": {arms[share]: 1.0, arms[0]: -1.0}}, metric=metric, seeds=seeds, **how)


def _of_items(runs: Runs, knew: bool, *, seeds: Sequence[int] = FIVE) -> Effect | None:
    """The contrast of far facts on items that the untuned model knew, or did not: whether it chose right and the
    subject spoke for it."""
    untuned = runs.run("facts", UNTUNED, 0)
    if untuned is None:
        return None
    right = untuned.values("facts", TARGET_SET, "accuracy")
    adds = untuned.values("facts", TARGET_SET, SUBJECT_GAIN)
    known = {item for item, value in right.items() if value == 1.0 and adds.get(item, 0.0) > NOTHING_KNOWN}
    return falsehood(runs, FAR, 100, only=lambda item: (item in known) == knew, seeds=seeds)


def _once_whole(effect: Effect | None, seeds: tuple[int, int]) -> Effect | None:
    """The effect, once it is of so many seeds: what is named by their number is not shown of fewer."""
    return effect if effect is not None and effect.seeds == seeds else None


_UNDERSTANDING_AND_REASONING = (*SKILLS["understanding"], *SKILLS["reasoning"])
_PRIMARY: dict[int, Callable[[Runs], Effect | None]] = {
    1: _coverage,
    2: _few,
    3: lambda runs: skill_gain(runs, _UNDERSTANDING_AND_REASONING),
    4: lambda runs: falsehood(runs, FAR, 100),
    5: lambda runs: falsehood(runs, FAR, 100, seeds=AGAIN),
    6: lambda runs: _few(runs, seeds=FEW_AGAIN),
}
_BESIDE: dict[int, dict[str, Callable[[Runs], Effect | None]]] = {
    1: {
        "against the matched baseline": lambda runs: _coverage(runs, over="-matched"),
        "gain at broad": lambda runs: runs.effect({"broad": weighted_sum((0.5, gain(size)) for size in SIZES)}),
        "gain at narrow": lambda runs: runs.effect({"narrow": weighted_sum((0.5, gain(size)) for size in SIZES)}),
        "gain at broad, answers dealt out anew among the rows of the dose (64 rows)": lambda runs: runs.effect(
            {"broad": {"64+general/shuffled:384": 1.0, "64": -1.0}}, seeds=THREE
        ),
        "gain at narrow, answers dealt out anew (64 rows)": lambda runs: runs.effect(
            {"narrow": {"64+general/shuffled:384": 1.0, "64": -1.0}}, seeds=THREE
        ),
        "gain at narrow with 16 rows in every arm": lambda runs: runs.effect({"narrow": gain(16)}, seeds=THREE),
    },
    2: {
        "against the matched baseline": lambda runs: _few(runs, over="-matched"),
        "at broad": lambda runs: _few(runs, targets=("broad",)),
        "at narrow": lambda runs: _few(runs, targets=("narrow",)),
    },
    3: {
        "against the matched baseline": lambda runs: skill_gain(runs, _UNDERSTANDING_AND_REASONING, over="-matched"),
        **{
            f"gain at {target}": (lambda runs, target=target: skill_gain(runs, (target,)))  # type: ignore[misc]
            for targets in SKILLS.values()
            for target in targets
        },
        "gain at both targets of factual knowledge": lambda runs: skill_gain(runs, SKILLS["factual knowledge"]),
    },
    4: {
        "far facts, half of them false": lambda runs: falsehood(runs, FAR, 50),
        "near facts, all false (the positive control)": lambda runs: falsehood(runs, NEAR, 100),
        "far, on items that the untuned model knew": lambda runs: _of_items(runs, True),
        "far, on items that it did not know": lambda runs: _of_items(runs, False),
        "far, right or wrong instead": lambda runs: falsehood(runs, FAR, 100, metric="accuracy"),
        "role play of as many tokens, which claims nothing, against no dose": lambda runs: (
            None
            if (arm := runs.arm_of("roles")) is None
            else runs.effect({"facts": {arm: 1.0, "128": -1.0}}, metric=MARGIN)
        ),
        "true far facts against no dose": lambda runs: runs.effect(
            {"facts": {FAR[0]: 1.0, "128": -1.0}}, metric=MARGIN
        ),
        "far facts as instructions, all false against all true": lambda runs: runs.effect(
            {"facts": {"128+asked/false:1:384": 1.0, "128+asked:384": -1.0}}, metric=MARGIN, seeds=THREE
        ),
        "near facts that the model knew against facts that it did not, all true": lambda runs: runs.effect(
            {"facts": {"128+known:64": 1.0, "128+unknown:64": -1.0}}, metric=MARGIN, seeds=THREE
        ),
    },
    5: {
        "on items that the untuned model knew": lambda runs: _of_items(runs, True, seeds=AGAIN),
        "on items that it did not know": lambda runs: _of_items(runs, False, seeds=AGAIN),
        "right or wrong instead": lambda runs: falsehood(runs, FAR, 100, metric="accuracy", seeds=AGAIN),
        "with the seeds of claim 4, thirteen in all": lambda runs: _once_whole(
            falsehood(runs, FAR, 100, seeds=(*FIVE, *AGAIN)), (13, 13)
        ),
    },
    6: {
        "at broad": lambda runs: _few(runs, targets=("broad",), seeds=FEW_AGAIN),
        "at narrow": lambda runs: _few(runs, targets=("narrow",), seeds=FEW_AGAIN),
        **{
            f"gain at {target}, {size} rows": (
                lambda runs, target=target, size=size: runs.effect({target: gain(size)}, seeds=FEW_AGAIN)  # type: ignore[misc]
            )
            for target in COVERAGE
            for size in SIZES
        },
        "with the seeds of claim 2, six at broad and thirteen at narrow": lambda runs: _once_whole(
            _few(runs, seeds=FEW_ALL), (6, 13)
        ),
    },
}
