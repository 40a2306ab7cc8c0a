"""Before spending: what the runs will cost, and what the design can find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from titrant.experiment.design import Design, overlap_at, verdict_size
from titrant.experiment.prepare import TARGET_SET
from titrant.experiment.results import collect, target_tables
from titrant.experiment.speed import Speed
from titrant.experiment.work import OpenRun, jobs_for
from titrant.stats.contrasts import contrast_batch, layout, moments
from titrant.stats.power import (
    Components,
    Costs,
    PowerDesign,
    PricedDesign,
    Prospects,
    assumed_components,
    cheapest_design,
    pilot_components,
    prospects,
)
from titrant.stats.table import complete
from titrant.storage.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What all runs that are not done cost. Minutes are wall time with `jobs` processes; memory is of one process."""

    runs: int
    training_tokens: int
    answer_tokens: int
    jobs: int
    minutes: float | None
    memory_bytes: int | None
    training_tokens_per_second: float | None
    micro_batch_tokens: int | None = None
    speed: Speed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What the design of one model and target can find, and the cheapest one that would settle the user's question."""

    model: str
    target: str
    target_rows: int
    seeds: int
    items: int
    doses: int
    components: Components
    prospects: Prospects
    cheapest: PricedDesign | None


def forecast_cost(
    design: Design, *, jobs: int | Literal["auto"], left: Sequence[OpenRun], speed: Speed | None = None
) -> Cost:
    """The cost of what is `left` (`work.open_runs`); minutes and memory where the speed is known."""
    training = sum(one.training_tokens for one in left)
    answers = sum(one.requests.tokens for one in left)
    count = jobs_for(design.prepared, jobs, max(len(left), 1))
    minutes = None
    if speed is not None:
        seconds = speed.seconds(training_tokens=training, answer_tokens=answers, runs=len(left))
        minutes = seconds / 60 / min(count, max(len(left), 1))
    return Cost(
        runs=len(left),
        training_tokens=training,
        answer_tokens=answers,
        jobs=count,
        minutes=minutes,
        memory_bytes=None if speed is None else speed.memory_bytes,
        training_tokens_per_second=None if speed is None else speed.training_rate,
        micro_batch_tokens=None if speed is None else speed.micro_batch_tokens,
        speed=speed,
    )


def outlook(
    design: Design,
    model: str,
    target: str,
    *,
    cost: Cost | None = None,
    pilot: Components | None = None,
    priced: bool = True,
) -> Outlook:
    """The power of the design at the verdict's target size, from a pilot's variances, else from assumed ones.
    `priced`: with the cheapest grid that settles the question, which is searched for."""
    prepared = design.prepared
    size = verdict_size(prepared, model, target)
    arms = [arm for arm in design.arms if arm.model == model and arm.target == target and arm.target_rows == size]
    doses = sum(arm.kind == "dosed" for arm in arms)
    test = prepared.models[model].targets[target].test
    groups = {item.group or item.key for item in test}
    components = pilot or assumed_components(prepared.study.targets[target].metric)
    start = PowerDesign(
        seeds=len(prepared.study.arms.seeds),
        items=len(groups),
        doses=doses,
        baselines=1 + any(arm.kind == "matched" for arm in arms),
        components=components,
        smallest_effect=prepared.study.smallest_effect,
        overlap=overlap_at(prepared, model, target, size) or 0.0,
    )
    found = prospects(start)
    seeds = prepared.study.arms.seeds
    first = [design.cell(arm, seeds[0]) for arm in arms]
    of_items = sum(planned.requests.of_items({item.key for item in test}).tokens for planned in first)
    # What runs answer beside the target's own items costs the same however many of those there are.
    tokens = sum(planned.run.tokens + planned.requests.tokens for planned in first) - of_items
    per_item = of_items // max(len(test), 1)
    rate = None if cost is None or not cost.minutes else (cost.training_tokens + cost.answer_tokens) / cost.minutes
    costs = Costs(training_tokens_per_seed=tokens, answer_tokens_per_item=per_item, tokens_per_minute=rate)
    cheapest = cheapest_design(start, costs=costs, most_items=20 * len(groups)) if doses and priced else None
    return Outlook(
        model=model,
        target=target,
        target_rows=size,
        seeds=len(seeds),
        items=len(groups),
        doses=doses,
        components=components,
        prospects=found,
        cheapest=cheapest,
    )


def pilot_variances(design: Design, store: Store, model: str, target: str) -> Components | None:
    """Variances of a contrast as the runs that are stored show them, at the verdict's target size.

    None where there is no pilot in the store: fewer than two seeds that a baseline and a dose have in common.
    """
    scores, _ = collect(design, store)
    said = design.prepared.study.targets[target]
    table = target_tables(scores, model, target, said.metric).get(TARGET_SET)
    size = verdict_size(design.prepared, model, target)
    arms = [] if table is None else [i for i, arm in enumerate(table.arms) if arm.target_rows == size]
    kinds = [table.arms[index].kind for index in arms] if table is not None else []
    if table is None or not {"alone", "matched"}.intersection(kinds) or "dosed" not in kinds:
        return None
    # The fairer baseline first, then the doses; only seeds that all of them have.
    arms.sort(key=lambda index: ("matched", "alone", "dosed").index(str(table.arms[index].kind)))
    chosen = [arms[0], *(index for index in arms if table.arms[index].kind == "dosed")]
    seeds = [seed for seed in range(len(table.seeds)) if table.ran[chosen, seed].all()]
    if len(seeds) < 2:
        return None
    cut = table.cut(chosen, seeds, range(len(table.items)))
    whole = complete(cut, drop_incomplete=True).table
    plan = layout(len(whole.items), groups=whole.groups, tasks=whole.tasks, task_weights=said.task_weights)
    overlap = overlap_at(design.prepared, model, target, size) or 0.0
    spread = contrast_batch(moments(whole.values_ASI[None], plan), list(range(1, len(chosen))), 0, overlap=overlap)
    return pilot_components(spread, overlap=overlap)
