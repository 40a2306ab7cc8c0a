"""What a study takes when it stops as soon as its verdict is firm: its own arms and costs on its own ladder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from titrant.core.records import Arm
from titrant.decision.ladder_forecast import WorldForecast, forecast_worlds, smallest_found, studies_for
from titrant.decision.replay import StagedDesign
from titrant.experiment.design import Design, overlap_at, verdict_size
from titrant.experiment.forecast import Outlook
from titrant.experiment.speed import Speed
from titrant.stats.looks import USUAL_MOST, ladder, plan_looks


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedWorld:
    """One world: tokens of training and answers on average (`error`: the simulation's own), the largest of the
    simulated studies, and the share of firm verdicts. Minutes are on this machine, None where its speed is unknown."""

    name: str
    gain: float
    expected_tokens: int
    error_tokens: int
    largest_tokens: int
    runs: float
    minutes: float | None
    firm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedOutlook:
    """A staged study of one model and target before it starts. `grid_tokens`: all of its arms at all of its seeds,
    which it never exceeds. `smallest_found`: the gain of a dose that is called a mix in 80% of studies.
    `beside_tokens`: of the arms that no verdict reads, at one seed."""

    model: str
    target: str
    target_rows: int
    most: int
    items: int
    origin: str
    studies: int
    worlds: tuple[StagedWorld, ...]
    grid_tokens: int
    smallest_found: float | None
    beside_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyCosts:
    """One run of each arm that the verdict reads, baselines first: tokens of training and of answers."""

    arms: tuple[Arm, ...]
    training: tuple[int, ...]
    answers: tuple[int, ...]

    @property
    def tokens(self) -> tuple[int, ...]:
        """All tokens of one run of each arm."""
        return tuple(training + answers for training, answers in zip(self.training, self.answers, strict=True))

    def seconds(self, speed: Speed) -> list[float]:
        """What one run of each arm takes in one process."""
        return [
            speed.seconds(training_tokens=training, answer_tokens=answers, runs=1)
            for training, answers in zip(self.training, self.answers, strict=True)
        ]


def family_costs(design: Design, model: str, target: str) -> FamilyCosts:
    """The arms of the verdict in the order of a ladder, with what a run of each takes at the first seed."""
    size, seed = verdict_size(design.prepared, model, target), design.prepared.study.arms.seeds[0]
    kinds = ("alone", "matched", "dosed")
    of_size = [arm for arm in design.arms if (arm.model, arm.target, arm.target_rows) == (model, target, size)]
    arms = sorted((arm for arm in of_size if arm.kind in kinds), key=lambda arm: (kinds.index(arm.kind), arm.dose_rows))
    planned = [design.cell(arm, seed) for arm in arms]
    return FamilyCosts(
        arms=tuple(arms),
        training=tuple(one.run.tokens for one in planned),
        answers=tuple(one.requests.tokens for one in planned),
    )


def ladder_design(arms: Sequence[Arm], *, most: int, smallest_effect: float, overlap: float) -> StagedDesign:
    """The ladder of these arms, baselines first."""
    doses = [float(arm.dose_rows) for arm in arms if arm.doses]
    return StagedDesign(
        looks=plan_looks(ladder(most), most=most, doses=len(doses)),
        most=most,
        baselines=len(arms) - len(doses),
        rows=tuple(doses),
        smallest_effect=smallest_effect,
        overlap=overlap,
    )


def staged_outlook(
    design: Design, entry: Outlook, *, most: int | None = None, speed: Speed | None = None, jobs: int = 1
) -> StagedOutlook:
    """What stopping when firm takes, at the variances and the smallest effect of the design's outlook. `most`: seeds in
    all; by default those of a staged study, and of a grid as many as are usual for one."""
    prepared, costs = design.prepared, family_costs(design, entry.model, entry.target)
    most = most or (len(prepared.study.arms.seeds) if prepared.study.until == "firm" else USUAL_MOST)
    overlap = overlap_at(prepared, entry.model, entry.target, entry.target_rows) or 0.0
    staged = ladder_design(
        costs.arms, most=most, smallest_effect=prepared.study.smallest_effect, overlap=min(overlap, 0.99)
    )
    tokens = forecast_worlds(staged, components=entry.components, items=entry.items, costs=costs.tokens)
    seconds = (
        None
        if speed is None
        else forecast_worlds(staged, components=entry.components, items=entry.items, costs=costs.seconds(speed))
    )
    minutes = [None] * len(tokens) if seconds is None else [world.expected / 60 / jobs for world in seconds]
    beside = [
        arm
        for arm in design.arms
        if arm.model == entry.model
        and arm.target in ("", entry.target)
        and arm.name not in {one.name for one in costs.arms}
    ]
    seed = prepared.study.arms.seeds[0]
    return StagedOutlook(
        model=entry.model,
        target=entry.target,
        target_rows=entry.target_rows,
        most=most,
        items=entry.items,
        origin=entry.components.origin,
        studies=studies_for(staged),
        worlds=tuple(_world(world, took) for world, took in zip(tokens, minutes, strict=True)),
        grid_tokens=most * sum(costs.tokens),
        smallest_found=smallest_found(staged, components=entry.components, items=entry.items),
        beside_tokens=sum(design.cell(arm, seed).run.tokens + design.cell(arm, seed).requests.tokens for arm in beside),
    )


def _world(world: WorldForecast, minutes: float | None) -> StagedWorld:
    return StagedWorld(
        name=world.name,
        gain=world.gain,
        expected_tokens=round(world.expected),
        error_tokens=round(world.expected_error),
        largest_tokens=round(world.largest),
        runs=world.runs,
        minutes=minutes,
        firm=world.firm,
    )
