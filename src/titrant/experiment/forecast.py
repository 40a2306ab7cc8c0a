"""Before spending: what the runs will cost, from two measured steps, and what the design can find."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from titrant.engines import BackendSpec, Event, RunJob, execute
from titrant.experiment.design import Design, overlap_at, verdict_size
from titrant.experiment.prepare import TARGET_SET
from titrant.experiment.requests import EvalRequests, digest_of
from titrant.experiment.results import collect, target_tables
from titrant.experiment.runner import jobs_for
from titrant.experiment.work import OpenRun, job_of
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
from titrant.storage.manifests import TIMING
from titrant.storage.sealed import read_sealed
from titrant.storage.store import Store

_Kind = TypeVar("_Kind")
_MEASURED_STEPS = 3  # the first is not counted: it pays for what later ones find ready
_MEASURED_ITEMS = 96


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
    design: Design,
    *,
    jobs: int | Literal["auto"],
    backend: BackendSpec | None,
    left: Sequence[OpenRun],
) -> Cost:
    """The cost of what is `left` (`work.open_runs`), with speed and memory measured on a few steps and items when a
    backend is given."""
    training = sum(one.training_tokens for one in left)
    answers = sum(one.requests.tokens for one in left)
    count = jobs_for(design.prepared, jobs, max(len(left), 1))
    measured = _measured(design, backend) if backend is not None else None
    minutes = None
    if measured is not None:
        seconds = training / measured.training_rate + answers / measured.answer_rate + len(left) * measured.run_seconds
        minutes = seconds / 60 / min(count, max(len(left), 1))
    return Cost(
        runs=len(left),
        training_tokens=training,
        answer_tokens=answers,
        jobs=count,
        minutes=minutes,
        memory_bytes=None if measured is None else measured.memory_bytes,
        training_tokens_per_second=None if measured is None else measured.training_rate,
        micro_batch_tokens=None if measured is None else measured.micro_batch_tokens,
    )


def outlook(
    design: Design, model: str, target: str, *, cost: Cost | None = None, pilot: Components | None = None
) -> Outlook:
    """The power of the design at the verdict's target size, from a pilot's variances, else from assumed ones."""
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
    cheapest = cheapest_design(start, costs=costs, most_items=20 * len(groups)) if doses else None
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """Rates in tokens per second; `run_seconds` is what a run takes besides, to make ready for its first answer."""

    training_rate: float
    answer_rate: float
    run_seconds: float
    memory_bytes: int
    micro_batch_tokens: int | None = None


def _measured(design: Design, backend: BackendSpec) -> _Measured | None:
    """Speed and peak memory, in a worker of its own and a store that is thrown away.

    Measured on a few steps of the longest run with one answer, and on the untuned model with one answer and with many.
    """
    trainings = (planned for planned in design.distinct if planned.run.steps)
    longest = max(trainings, key=lambda planned: planned.run.tokens)
    whole = job_of(longest, design.prepared)
    assert whole.plan is not None
    steps = whole.plan.steps[:_MEASURED_STEPS]
    trained = _shortened(replace(whole, plan=replace(whole.plan, steps=steps)), "trained", items=1)
    few, many = (_shortened(replace(whole, plan=None), f"items-{items}", items=items) for items in (1, _MEASURED_ITEMS))
    taken: list[Event] = []
    with tempfile.TemporaryDirectory(prefix="titrant-plan-") as folder:
        root = Path(folder) / "store"
        Store.open(root)
        keep = taken.append
        execute([trained, few, many], root=root, backend=backend, processes=1, on_event=keep)
        files = [root / "runs" / job.run.run_id / TIMING for job in (trained, few, many)]
        if not all(file.is_file() for file in files):
            return None
        times = [read_sealed(file) for file in files]
    # The first step also pays for memory that is touched for the first time, and for kernels that are chosen.
    counted = [event for event in taken if event.kind == "step"][1:]
    seconds = sum(event.seconds for event in counted)
    if not seconds:
        return None
    # Many answers less one: what is left is the rate of answering, without what loading the model takes.
    first, all_of_them = (time["answering_seconds"] for time in times[1:])
    more = _asked_tokens(many) - _asked_tokens(few)
    return _Measured(
        training_rate=sum(event.tokens for event in counted) / seconds,
        answer_rate=max(more, 1) / max(all_of_them - first, 1e-3),
        run_seconds=first,
        memory_bytes=max(time["peak_memory_bytes"] for time in times),
        micro_batch_tokens=times[0].get("micro_batch_tokens"),
    )


def _shortened(job: RunJob, name: str, *, items: int) -> RunJob:
    """The run with at most so many items of each kind, spread over all there are, so that they are typical."""

    steps = 0 if job.plan is None else len(job.plan.steps)
    return replace(
        job,
        run=replace(job.run, run_id=name, recipe_id=name, steps=steps),
        questions=_some(job.questions, items),
        prompts=_some(job.prompts, items),
        losses=_some(job.losses, items),
        requests=digest_of([name]),
    )


def _some(asked: Sequence[_Kind], items: int) -> tuple[_Kind, ...]:
    return tuple(asked[:: max(1, len(asked) // items)][:items])


def _asked_tokens(job: RunJob) -> int:
    return EvalRequests(questions=job.questions, prompts=job.prompts, losses=job.losses).tokens
