"""What a study will do, before it does it: arms, runs and tokens as plain records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from titrant.core.records import ArmKind
from titrant.experiment.design import Design
from titrant.experiment.work import OpenRun


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmPlan:
    """One arm, and what a run of it does (the first seed's). Tokens count all visits of training."""

    model: str
    target: str | None
    arm: str
    kind: ArmKind
    target_rows: int
    dose_rows: int
    steps: int
    tokens: int
    loss_tokens: int
    target_visits: int
    generalist_visits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """One run: an arm at a seed, its name in the store, and what is left to do of it.

    `left`: *train* what is not finished, *answer* new requests from weights that are kept, *train_again* where they are
    not, or *nothing*. `tokens` are those of its training, `answer_tokens` of all that it is asked.
    """

    run_id: str
    model: str
    target: str | None
    arm: str
    seed: int
    steps: int
    tokens: int
    answer_tokens: int
    left: Literal["train", "answer", "train_again", "nothing"]

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.left == "nothing"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Plan:
    """All that a study will do. Prints as a table.

    `arms` and `runs` are records in the order in which the study makes them; a run that two arms share stands once.
    `tokens` are those of all training that is left, `answer_tokens` those of all answers that are.
    """

    study: str
    arms: tuple[ArmPlan, ...]
    runs: tuple[RunPlan, ...]
    tokens: int
    answer_tokens: int

    def __repr__(self) -> str:
        return "\n".join((*self.table(), *self._footer()))

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(repr(self))}</pre>"

    def table(self) -> list[str]:
        """The arms as lines of a plain table, a header first."""
        several = len({(arm.model, arm.target) for arm in self.arms if arm.target}) > 1
        header = ["arm", "kind", "target rows", "dose", "steps", "tokens", "target visits", "generalist visits"]
        rows = [header]
        for arm in self.arms:
            name = f"{arm.model} {arm.target or ''} {arm.arm}" if several else arm.arm
            counts = (
                arm.target_rows,
                arm.dose_rows,
                arm.steps,
                arm.tokens,
                arm.target_visits,
                arm.generalist_visits,
            )
            rows.append([name, arm.kind.replace("_", " "), *map(str, counts)])
        return aligned(rows, left=2)

    def _footer(self) -> list[str]:
        seeds = len({run.seed for run in self.runs})
        done = sum(run.done for run in self.runs)
        told = f", {done} of them done" if done else ""
        return [
            "",
            f"{len(self.arms)} arms, {seeds} seeds, {len(self.runs)} runs{told} (steps and tokens: of one run)",
            f"{self.tokens:,} training tokens, {self.answer_tokens:,} tokens to answer",
        ]


def plan_of(design: Design, left: Sequence[OpenRun]) -> Plan:
    """The plan of a design of which this is left to do (`work.open_runs`)."""
    kinds = {one.planned.run.run_id: one.kind for one in left}
    runs = tuple(
        RunPlan(
            run_id=planned.run.run_id,
            model=planned.run.arm.model,
            target=planned.run.arm.target or None,
            arm=planned.run.arm.name,
            seed=planned.run.seed,
            steps=planned.run.steps,
            tokens=planned.run.tokens,
            answer_tokens=planned.requests.tokens,
            left=kinds.get(planned.run.run_id, "nothing"),
        )
        for planned in design.distinct
    )
    return Plan(
        study=design.prepared.study.name,
        arms=arm_plans(design),
        runs=runs,
        tokens=sum(one.training_tokens for one in left),
        answer_tokens=sum(one.requests.tokens for one in left),
    )


def arm_plans(design: Design) -> tuple[ArmPlan, ...]:
    """Every arm with what a run of it does."""
    found = []
    for arm in design.arms:
        run = design.cell(arm, design.prepared.study.arms.seeds[0]).run
        visits = {draw.source: draw.visits for draw in run.draws}
        found.append(
            ArmPlan(
                model=arm.model,
                target=arm.target or None,
                arm=arm.name,
                kind=arm.kind,
                target_rows=arm.target_rows,
                dose_rows=arm.dose_rows,
                steps=run.steps,
                tokens=run.tokens,
                loss_tokens=run.loss_tokens,
                target_visits=visits.get(arm.target, 0),
                generalist_visits=sum(visits.values()) - visits.get(arm.target, 0),
            )
        )
    return tuple(found)


def aligned(rows: list[list[str]], *, left: int) -> list[str]:
    """Lines of a plain table: the first `left` columns to the left, numbers to the right.

    >>> aligned([["arm", "steps"], ["48+general:96", "36"]], left=1)
    ['arm            steps', '48+general:96     36']
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
