"""What a budget can tell, said before it is spent; and what the user's own question would cost at all target rows."""

from __future__ import annotations

from titrant.core.budget import Budget
from titrant.decision.decidable import chances
from titrant.decision.ladder_forecast import smallest_found
from titrant.decision.replay import StagedDesign
from titrant.experiment.design import Design, overlap_at
from titrant.experiment.forecast import Outlook, outlook
from titrant.experiment.speed import Speed
from titrant.experiment.staged_forecast import FamilyCosts, family_costs, ladder_design
from titrant.stats.power import Components


def budget_lines(
    design: Design,
    budget: Budget,
    *,
    speed: Speed | None,
    jobs: int,
    pilots: dict[tuple[str, str], Components | None] | None = None,
) -> tuple[str, ...]:
    """A few sentences for every model and target of a staged study. `speed` has to be known for a budget in minutes;
    `pilots`: variances that stored runs show."""
    prepared, lines = design.prepared, []
    pairs = [(model, target) for model in prepared.models for target in prepared.study.targets]
    for model, target in pairs:
        entry = outlook(design, model, target, pilot=(pilots or {}).get((model, target)), priced=False)
        head = f"{model} · {target}: " if len(pairs) > 1 else ""
        lines.append(head + _within(design, entry, budget, speed=speed, jobs=jobs, share=len(pairs)))
        lines.append(head + _at_all_rows(design, entry, speed=speed, jobs=jobs))
    return tuple(lines)


def _within(design: Design, entry: Outlook, budget: Budget, *, speed: Speed | None, jobs: int, share: int) -> str:
    """How far the budget goes, and what it tells. Several ladders of one study share it evenly here."""
    costs = family_costs(design, entry.model, entry.target)
    overlap = overlap_at(design.prepared, entry.model, entry.target, entry.target_rows) or 0.0
    staged = _ladder(design, costs, overlap=overlap)
    each = _in_unit(costs, budget, speed=speed, jobs=jobs)
    fixed = _untuned(design, entry.model, budget, speed=speed, jobs=jobs)
    amount = budget.amount / share
    seeds = min(int((amount - fixed) / sum(each)), staged.most)
    looks = [look.seeds for look in staged.looks if look.seeds <= seeds]
    if not looks:
        needed = fixed + staged.looks[0].seeds * sum(each)
        digits = 1 if budget.unit == "minutes" else 0
        return f"{budget} ends before the first look, which takes about {needed:,.{digits}f} {budget.unit}"
    gain = smallest_found(staged, components=entry.components, items=entry.items, seeds=looks[-1])
    found = chances(staged, components=entry.components, items=entry.items, costs=each, budget=amount, fixed=fixed)
    told = "no gain that matters to you" if gain is None else f"a gain of {gain:.2g}"
    return (
        f"{budget} pays for {looks[-1]} seeds of every arm and tells {told} at {entry.target_rows} target rows (found "
        f"in 80% of simulated studies); firm within it in {found.no_effect:.0%} where no dose does anything, in "
        f"{found.twice:.0%} where one gains {2 * staged.smallest_effect:g} ({entry.components.origin} variances)"
    )


def _at_all_rows(design: Design, entry: Outlook, *, speed: Speed | None, jobs: int) -> str:
    """What the smallest effect costs at all target rows there are: with it, a firm verdict is likely."""
    rows = len(design.prepared.models[entry.model].targets[entry.target].train)
    costs = _with_rows(design, family_costs(design, entry.model, entry.target), entry, rows)
    staged, delta = _ladder(design, costs, overlap=0.0), design.prepared.study.smallest_effect
    found = chances(staged, components=entry.components, items=entry.items, costs=costs.tokens)
    if found.budget_needed is None:
        what = f"an effect of {delta:g} at all {rows} target rows"
        return f"{what} is not likely to be settled by {staged.most} seeds, whatever is spent"
    minutes = ""
    if speed is not None:
        seconds = chances(staged, components=entry.components, items=entry.items, costs=costs.seconds(speed))
        minutes = f", about {(seconds.budget_needed or 0) / 60 / jobs:,.1f} minutes on this machine"
    tokens = f"{_rounded(found.budget_needed):,} tokens"
    return f"an effect of {delta:g} at all {rows} target rows would take about {tokens}{minutes}"


def _with_rows(design: Design, costs: FamilyCosts, entry: Outlook, rows: int) -> FamilyCosts:
    """The same arms with so many target rows: every arm visits each further row as often."""
    plain = design.cell(costs.arms[0], design.prepared.study.arms.seeds[0]).run
    own = next(draw for draw in plain.draws if draw.source == entry.target)
    further = (rows - entry.target_rows) * own.tokens / max(entry.target_rows, 1)
    return FamilyCosts(
        arms=costs.arms,
        training=tuple(round(training + further) for training in costs.training),
        answers=costs.answers,
    )


def _ladder(design: Design, costs: FamilyCosts, *, overlap: float) -> StagedDesign:
    study, most = design.prepared.study, len(design.prepared.study.arms.seeds)
    return ladder_design(costs.arms, most=most, smallest_effect=study.smallest_effect, overlap=overlap)


def _in_unit(costs: FamilyCosts, budget: Budget, *, speed: Speed | None, jobs: int) -> list[float]:
    if budget.unit == "runs":
        return [1.0] * len(costs.arms)
    if budget.unit == "tokens":
        return [float(tokens) for tokens in costs.tokens]
    assert speed is not None, "minutes need a measured speed"
    return [seconds / 60 / jobs for seconds in costs.seconds(speed)]


def _untuned(design: Design, model: str, budget: Budget, *, speed: Speed | None, jobs: int) -> float:
    """What the untuned model's answers take."""
    arms = tuple(arm for arm in design.arms if arm.kind == "untuned" and arm.model == model)
    seed = design.prepared.study.arms.seeds[0]
    answers = tuple(design.cell(arm, seed).requests.tokens for arm in arms)
    costs = FamilyCosts(arms=arms, training=(0,) * len(arms), answers=answers)
    return sum(_in_unit(costs, budget, speed=speed, jobs=jobs))


def _rounded(tokens: float) -> int:
    """To two digits: it comes from a simulation."""
    return int(float(f"{tokens:.2g}"))
