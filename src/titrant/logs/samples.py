"""Samples of many logs, held against each other, as the columns of a table of scores.

Runs can be compared only where they answered the same items, asked with the same words and marked against the same
references. Evaluators number items by their place in a file, so a log of another version of the task would pair without
an error and mean nothing: every sample carries what it was asked, and all runs are held to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from titrant.core.errors import ScoresError

MOST_SHOWN = 5
_SHOWN_TEXT = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRun:
    """One arm at one seed, and the file or folder that holds its log.

    >>> logged_run("mix@96:0=out/mix")
    LoggedRun(arm='mix@96', seed='0', path=PosixPath('out/mix'))
    """

    arm: str
    seed: str
    path: Path

    @property
    def name(self) -> str:
        return f"{self.arm}:{self.seed}"

    @property
    def dose(self) -> int | None:
        """The number behind the last @ of the arm's name; None where there is none."""
        match = re.fullmatch(r".+@(\d{1,9})", self.arm)
        return int(match[1]) if match else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What of a log is judged: tasks (empty: all), metric, filter, and the field that says which items are one sample
    (`passage_id`, `meta.article`). A metric or filter is one name for all tasks, or one for each; None: the only one
    there is."""

    tasks: Sequence[str] = ()
    metric: str | Mapping[str, str] | None = None
    filter: str | Mapping[str, str] | None = None
    group: str | None = None

    def metric_of(self, task: str) -> str | None:
        return _of_task(self.metric, task)

    def filter_of(self, task: str) -> str | None:
        return _of_task(self.filter, task)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One answered item. `item` is its name within `task`; `asked` and `reference` are equal in all runs or the runs
    cannot be compared; `shown` is the start of the prompt, for people. `score` is None where the log has none."""

    task: str
    item: str
    asked: str
    reference: str
    shown: str
    score: float | None
    group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What one run answered, and what is to be told of how it was read."""

    run: LoggedRun
    samples: Sequence[Sample]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LogScores:
    """Columns as `judge` takes them, and how they were read."""

    columns: Mapping[str, Sequence[str | float | None]]
    remarks: tuple[str, ...]


def _of_task(asked: str | Mapping[str, str] | None, task: str) -> str | None:
    return asked if asked is None or isinstance(asked, str) else asked.get(task)


def logged_run(text: str) -> LoggedRun:
    """ARM:SEED=PATH. A path may hold anything, an arm's name no equals sign."""
    name, equals, path = text.partition("=")
    arm, colon, seed = name.rpartition(":")
    if not (arm.strip() and colon and seed.strip() and equals and path):
        raise ScoresError(
            "not a run and its log", where="--arm", got=text, expected="ARM:SEED=PATH, such as mix@96:0=logs/mix-0"
        )
    return LoggedRun(arm=arm.strip(), seed=seed.strip(), path=Path(path))


def baseline_of(runs: Sequence[LoggedRun], matched: str | None) -> str | None:
    """The one arm whose name says no dose (`@96`), where others do; None where that does not single out an arm."""
    without = {run.arm: None for run in runs if run.dose is None and run.arm != matched}
    return next(iter(without)) if len(without) == 1 else None


def join(logs: Sequence[Log], *, retention: Sequence[str] = (), drop_incomplete: bool = False) -> LogScores:
    """One table from all logs.

    `retention` names tasks that should be kept rather than learned: they are eval sets of their own. Raises
    `ScoresError` where a task is not in every log, an item was asked differently or has another reference, or (unless
    `drop_incomplete`) is lacking or without a score in some log.
    """
    _same_tasks(logs)
    _same_questions(logs)
    empty = _holes(logs, refuse=not drop_incomplete)
    known = {sample.task for log in logs for sample in log.samples}
    for name in retention:
        if name not in known:
            raise ScoresError("no such task", where="--retention", got=name, expected=", ".join(sorted(known)))
    columns: dict[str, list[str | float | None]] = {
        name: [] for name in ("arm", "seed", "item", "score", "task", "group", "eval_set", "dose")
    }
    for log in logs:
        for sample in log.samples:
            if sample.score is None:
                continue
            kept = sample.task in retention
            columns["arm"].append(log.run.arm)
            columns["seed"].append(log.run.seed)
            columns["item"].append(f"{sample.task}/{sample.item}")
            columns["score"].append(sample.score)
            columns["task"].append(sample.task)
            columns["group"].append(sample.group)
            columns["eval_set"].append(f"retention:{sample.task}" if kept else "target")
            columns["dose"].append(None if log.run.dose is None else str(log.run.dose))
    remarks = list(dict.fromkeys(remark for log in logs for remark in log.remarks))
    if empty:
        remarks.append(f"{empty} {'item has' if empty == 1 else 'items have'} no score in some log and are left out")
    # A column without a value would be read as one that is there.
    filled = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    return LogScores(columns=filled, remarks=tuple(remarks))


def _same_tasks(logs: Sequence[Log]) -> None:
    held = {log.run.name: {sample.task for sample in log.samples} for log in logs}
    everywhere = set.intersection(*held.values())
    for name, tasks in held.items():
        if odd := sorted(tasks - everywhere):
            lacking = [other for other, theirs in held.items() if odd[0] not in theirs]
            raise ScoresError(
                f"task {odd[0]} is not in every log",
                where=name,
                got=f"none in {_listed(lacking)}",
                expected="the same tasks in all logs",
                fix="run it for all, or name with --task those to judge"
                if everywhere
                else "run the same tasks for all",
            )


def _same_questions(logs: Sequence[Log]) -> None:
    """The first log that has an item says what was asked; everybody else is held to it."""
    first: dict[tuple[str, str], tuple[Sample, LoggedRun]] = {}
    faults: dict[str, list[str]] = {"with another prompt": [], "against another reference": []}
    for log in logs:
        for sample in log.samples:
            told, run = first.setdefault((sample.task, sample.item), (sample, log.run))
            if told.asked != sample.asked:
                shown = f"{told.shown!r} in {run.name}, {sample.shown!r} in {log.run.name}"
                faults["with another prompt"].append(f"{sample.task}/{sample.item}: {shown}")
            elif told.reference != sample.reference:
                shown = (
                    f"{told.reference[:_SHOWN_TEXT]} in {run.name}, {sample.reference[:_SHOWN_TEXT]} in {log.run.name}"
                )
                faults["against another reference"].append(f"{sample.task}/{sample.item}: {shown}")
    for what, places in faults.items():
        if places:
            raise ScoresError(
                f"{len(places)} {'sample was' if len(places) == 1 else 'samples were'} asked or marked {what} in some "
                f"runs than in others:\n  " + "\n  ".join(places[:MOST_SHOWN]) + "\n ",
                expected="every run answers the same items, asked with the same words",
                fix="evaluate all arms with the same task files, number of shots and chat template",
            )


def _holes(logs: Sequence[Log], *, refuse: bool) -> int:
    """How many items lack a score in some log; an error that names them where they must not."""
    scored = {log.run.name: {(s.task, s.item) for s in log.samples if s.score is not None} for log in logs}
    everything = {(sample.task, sample.item): sample for log in logs for sample in log.samples}
    holes = [(name, sample) for name, have in scored.items() for key, sample in everything.items() if key not in have]
    if holes and refuse:
        lines = [f"{s.task}/{s.item} ({s.shown!r}) in {name}" for name, s in holes[:MOST_SHOWN]]
        raise ScoresError(
            f"{len(holes)} {'answer lacks' if len(holes) == 1 else 'answers lack'} in some logs:\n  "
            + "\n  ".join(lines)
            + "\n ",
            expected="a scored answer to every item in every log",
            fix="evaluate again without a limit, or leave these items out with --drop-incomplete",
        )
    return len({(sample.task, sample.item) for _, sample in holes})


def once(path: Path, found: Iterable[tuple[str, Path]], *, run: LoggedRun) -> dict[str, Path]:
    """Task to its one log; an error where a folder holds two of the same task."""
    logs: dict[str, Path] = {}
    for task, file in found:
        if task in logs:
            raise ScoresError(
                f"two logs of task {task}",
                where=f"{run.name}={path}",
                got=f"{logs[task].relative_to(path)} and {file.relative_to(path)}",
                expected="one log of a task for each arm and seed",
                fix="name the folder or the file of one of them",
            )
        logs[task] = file
    return logs


def choose(
    what: str, option: str, found: Sequence[str], asked: str | None, *, where: str, beside: str | None = None
) -> str:
    """The one that was asked for, or the only one there is. `beside` is what else could be named."""
    if asked is not None:
        if asked not in found:
            raise ScoresError(f"no such {what}", where=where, got=asked, expected=_listed(found) or f"a {what}")
        return asked
    if len(found) != 1:
        raise ScoresError(
            f"{len(found)} {what}s, and only you know which decides" if found else f"no {what} from 0 to 1",
            where=where,
            got=_listed(found) or None,
            fix=f"name one with {option}" + (f" ({beside})" if beside else "") if found else None,
        )
    return found[0]


def group_of(value: Any, field: str | None, *, where: str) -> str | None:
    """What `field` (`passage_id`, `meta.article`) holds in a sample's own fields; None where no field was asked for."""
    if field is None:
        return None
    for part in field.split("."):
        if not isinstance(value, dict) or part not in value:
            raise ScoresError(
                "no such field of a sample",
                where=where,
                got=field,
                expected=", ".join(value) if isinstance(value, dict) else None,
            )
        value = value[part]
    return str(value)


def shortened(text: str) -> str:
    """The start of a prompt on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_TEXT else line[: _SHOWN_TEXT - 3] + "..."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_SHOWN]) + (f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else "")
