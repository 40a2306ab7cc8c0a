"""`plan` and `mix`: what a study will do, before it does it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

from titrant.cli.output import number, print_json
from titrant.cli.run import out_folder
from titrant.config.study import Study
from titrant.core.errors import SpecError
from titrant.core.identity import plain
from titrant.core.redaction import sayable
from titrant.experiment.design import Design, PlannedRun, make_design
from titrant.experiment.forecast import Cost, Outlook, forecast_cost, outlook, pilot_variances
from titrant.experiment.knowledge_labels import label_lines
from titrant.experiment.mix import Format, find_run, write_mix
from titrant.experiment.plan import aligned, arm_plans, plan_of
from titrant.experiment.prepare import PreparedStudy, prepare_study
from titrant.experiment.runner import as_begun, backend_of
from titrant.experiment.speed import Speed, kept_speed, speed_of
from titrant.experiment.staged_forecast import StagedOutlook, staged_outlook
from titrant.experiment.stages import ladders_of, most_of
from titrant.experiment.standings import Collector, as_read
from titrant.experiment.trainers import write_for
from titrant.experiment.work import OpenRun, open_runs
from titrant.stats.power import Components
from titrant.storage.store import Store

FEWEST_STEPS = 24


def show_plan(
    study: Study, *, out: Path | None, jobs: int | Literal["auto"], measure: bool | None, as_json: bool
) -> None:
    """Print the plan: arms, cost, power. `measure`: True measures the speed anew, False leaves it out, None measures
    what is not known yet."""
    root = out_folder(study, out)
    study = as_begun(study, root, _say)
    for line in label_lines(study):
        _say(line)
    prepared = prepare_study(study, backend=backend_of(study).identity, say=_say)
    if study.needs_choosing:
        _say("settings are still to be chosen on validation items: the plan shows the first candidate")
    first = study.candidates()[0]
    design = make_design(prepared, (lambda model, target, name: first) if study.needs_choosing else None)
    left = _left(design, root)
    cost = forecast_cost(design, jobs=jobs, left=left, speed=_speed(design, left, measure=measure))
    outlooks = [
        outlook(
            design,
            model,
            target,
            cost=cost,
            pilot=_pilot(design, root, model, target),
            priced=study.until == "grid",
        )
        for model in prepared.models
        for target in study.targets
        if study.arms.doses or study.arms.blends
    ]
    staged = [staged_outlook(design, entry, speed=cost.speed, jobs=cost.jobs) for entry in outlooks if entry.doses]
    if as_json:
        print_json(
            {
                "staged": [plain(entry) for entry in staged],
                "arms": [plain(arm) for arm in arm_plans(design)],
                "cost": plain(cost),
                "outlook": [plain(entry) for entry in outlooks],
                "removed": [plain(entry) for entry in prepared.removed],
                "remarks": list(prepared.remarks),
                "not_read": [plain(note) for note in prepared.not_read],
                "notes": [note for model in prepared.models.values() for note in model.notes],
            }
        )
        return
    _print_arms(design)
    _print_further_answers(left)
    _print_cost(cost, design)
    for entry in outlooks if study.until == "grid" else ():
        for line in outlook_lines(entry, study.smallest_effect):
            print(line)
    for stages in staged:
        for line in staged_lines(stages, study):
            print(line)


def _left(design: Design, root: Path) -> tuple[OpenRun, ...]:
    """What is left to do; of a study that stops by itself at most, and nothing further once it has."""
    staged = design.prepared.study.until == "firm"
    if not (root / "store.json").is_file():
        return open_runs([most_of(design) if staged else design], None)
    store = Store.open(root)
    if staged:
        scores = Collector(design, store)
        over = all(scores.standing(ladder).over for ladder in ladders_of(design))
        design = as_read(design, store) if over else most_of(design)
    return open_runs([design], store)


def _speed(design: Design, left: Sequence[OpenRun], *, measure: bool | None) -> Speed | None:
    """The speed on this machine. With nothing left to do nothing waits for a measurement, so none is made."""
    if measure is False:
        return None
    if not left and not measure:
        return kept_speed(design)
    return speed_of(design, backend_of(design.prepared.study), anew=bool(measure), say=_say)


def _pilot(design: Design, root: Path, model: str, target: str) -> Components | None:
    if not (root / "store.json").is_file():
        return None
    return pilot_variances(design, Store.open(root), model, target)


def _print_arms(design: Design) -> None:
    rows = arm_plans(design)
    seeds = design.prepared.study.arms.seeds
    for line in plan_of(design, ()).table():
        print(line)
    print(f"\n{len(design.arms)} arms, {len(seeds)} seeds, {len(design.distinct)} runs (steps and tokens: of one run)")
    for entry in (*design.prepared.removed, *(r for m in design.prepared.models.values() for r in m.removed)):
        print(f"removed before the draw: {entry.rows} rows of {entry.pool} ({entry.why})")
    for note in design.prepared.not_read:
        print(sayable(note.line))
    smallest = min((row.steps for row in rows if row.steps and row.target_rows), default=0)
    if 0 < smallest < FEWEST_STEPS:
        little = f"under {FEWEST_STEPS} little is learned"
        print(f"warning: the smallest arm of the target takes {smallest} optimiser steps; {little}")


def _print_further_answers(left: Sequence[OpenRun]) -> None:
    """Finished runs that are asked more: which of them have to be trained again for it."""
    for kind, what in (
        ("answer", "answer what is new from the weights that are kept"),
        ("train_again", "are trained again to answer what is new, as their weights were not kept"),
    ):
        runs = [one for one in left if one.kind == kind]
        if runs:
            requests = sum(len(one.requests.names) for one in runs)
            print(f"{len(runs)} finished runs {what}: {requests} requests in all")


def _print_cost(cost: Cost, design: Design) -> None:
    if not cost.runs:
        print("everything is done: nothing to train")
        return
    most = "at most " if design.prepared.study.until == "firm" else ""
    tokens = f"{cost.training_tokens:,} training tokens, {cost.answer_tokens:,} tokens to answer"
    print(f"to do: {most}{cost.runs} runs, {tokens}")
    if cost.minutes is not None:
        memory = f", {cost.memory_bytes / 2**30:.1f} GiB each" if cost.memory_bytes else ""
        print(
            f"{most or 'about '}{max(cost.minutes, 0.1):.1f} minutes with {cost.jobs} worker processes{memory} "
            f"({_speed_words(cost.speed)}: {cost.training_tokens_per_second:.0f} training tokens a second in one)"
        )
    if cost.micro_batch_tokens is not None:
        print(f"steps of more than {cost.micro_batch_tokens:,} tokens go in parts of at most so many")


def _speed_words(speed: Speed | None) -> str:
    """Where the speed comes from; an old one may be of another day's load."""
    if speed is None:
        return "measured"
    beside = ", while the machine had other work" if speed.busy else ""
    return f"measured on {speed.measured}{beside}; --measure does it anew" if speed.kept else f"measured now{beside}"


def outlook_lines(entry: Outlook, smallest_effect: float) -> list[str]:
    """What the design can find, in words."""
    found = entry.prospects
    head = (
        f"power at {entry.target_rows} target rows of {entry.target}, {entry.seeds} seeds, {entry.items} items, "
        f"{entry.components.origin} variances:"
    )
    if found.smallest_detectable is None:
        return [head, f"  nothing can be found: {found.reason}"]
    lines = [
        head,
        f"  a gain of {number(found.smallest_detectable)} is found in 80% of studies; your smallest effect is "
        f"{smallest_effect:g}",
        "  no difference can be shown" if found.no_difference_reachable else "  no difference cannot be shown",
    ]
    if entry.cheapest is None:
        lines.append("  no design within 20 seeds and 20 times the items settles your smallest effect")
        return lines
    best = entry.cheapest
    cost = "" if best.minutes is None else f", about {best.minutes:.0f} minutes in all"
    lines.append(
        f"  the cheapest design for it: {best.design.seeds} seeds and {best.design.items} items"
        + (f" ({best.tokens:,} tokens{cost})" if best.tokens is not None else "")
    )
    return lines


def staged_lines(entry: StagedOutlook, study: Study) -> list[str]:
    """What stopping when firm takes, a line a world."""
    has_minutes = any(world.minutes is not None for world in entry.worlds)
    rows = [["if the truth is", "tokens, on average", "largest", *(["minutes"] if has_minutes else []), "firm"]]
    for world in entry.worlds:
        minutes = [] if not has_minutes else [f"{world.minutes or 0:.1f}"]
        spread = f"{world.expected_tokens:,} ± {world.error_tokens:,}"
        rows.append([world.name, spread, f"{world.largest_tokens:,}", *minutes, f"{100 * world.firm:.0f}%"])
    where = f"at {entry.target_rows} target rows of {entry.target}"
    if study.until == "firm":
        head = f"until firm {where}"
    else:
        head = f"the same with until: firm, {where}"
    gain = "no gain is" if entry.smallest_found is None else f"a gain of {entry.smallest_found:.2g} is"
    lines = [
        f"{head}, at most {entry.most} seeds, δ = {study.smallest_effect:g}, {entry.items} items, {entry.origin} "
        "variances:",
        *(f"  {line}" for line in aligned(rows, left=1)),
        f"  ({entry.studies} simulated studies a line, ± their own error; at most {entry.grid_tokens:,} tokens; {gain} "
        "found in 80% of studies)",
    ]
    if entry.beside_tokens and study.until == "firm" and study.curves != "never":
        told = f"{entry.beside_tokens:,} tokens a seed (curves: {study.curves})"
        lines.append(f"  beside it arms that no verdict reads: {told}")
    return lines


def write_arm(
    study: Study,
    *,
    out: Path,
    target_rows: int,
    doses: Sequence[str],
    seed: int,
    form: str,
    target: str | None,
    model: str | None,
    trainer: str | None = None,
    matched: bool = False,
) -> None:
    """Write one arm's rows; for a trainer, every visit of them and its configuration."""
    if matched and trainer is None:
        fix = "leave it out: the matched baseline has the rows of the plain one, visited more often"
        raise SpecError("visits are written for a trainer only", where="--matched", fix=fix)
    if form not in ("messages", "alpaca", "prompt-completion"):
        raise SpecError("no such format", where="--format", got=form, expected="messages, alpaca or prompt-completion")
    if seed not in study.arms.seeds:
        seeds = ", ".join(map(str, study.arms.seeds))
        raise SpecError("not one of the study's seeds", where="--seed", got=seed, expected=f"one of {seeds}")
    prepared = prepare_study(study, backend=backend_of(study).identity, say=_say)
    for note in prepared.not_read:
        _say(sayable(note.line))
    first = study.candidates()[0]
    design = make_design(prepared, lambda model, target, name: first)
    planned = find_run(
        design,
        target_rows=target_rows,
        doses=dict(map(_dose, doses)),
        seed=seed,
        target=target,
        model=model,
        matched=matched,
    )
    if trainer is not None:
        _write_for(trainer, planned, out, prepared)
        return
    written = write_mix(planned, out, prepared=prepared, form=cast(Format, form))
    counts = ", ".join(f"{draw.source} {draw.got} of {draw.asked}" for draw in planned.run.draws)
    print(f"{written.path}: {written.rows} rows ({counts}); {written.sidecar.name} says what was asked and got")


def _write_for(trainer: str, planned: PlannedRun, out: Path, prepared: PreparedStudy) -> None:
    model = str(prepared.study.models[planned.run.arm.model])
    done = write_for(trainer, planned, out, prepared=prepared, model=model)
    distinct = done.mix.facts["distinct_rows"]
    print(
        f"{done.mix.path}: {done.mix.rows} visits of {distinct} rows; {done.mix.sidecar.name} says what was asked and"
        " got"
    )
    print(f"{done.config}: {done.command}")


def _dose(text: str) -> tuple[str, int]:
    source, _, rows = text.rpartition("=")
    if not source or not rows.isdecimal():
        raise SpecError("not a dose", where="--dose", got=text, expected="SOURCE=ROWS, such as general=96")
    return source, int(rows)


def _say(text: str) -> None:
    print(f"titrant: {text}", file=sys.stderr)
