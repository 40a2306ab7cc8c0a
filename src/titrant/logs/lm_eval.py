"""Logs of EleutherAI's lm-evaluation-harness: `samples_TASK_DATE.jsonl`, as `lm_eval --log_samples` writes them.

Read as JSON Lines: the harness itself is not needed. A sample is known by the digests that the harness writes of its
document, prompt and reference (versions from 0.4.3 on).
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from titrant.core.errors import ScoresError
from titrant.logs.samples import Asked, Log, LoggedRun, Sample, choose, group_of, once, shortened

_FILE = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)\.jsonl")
GRADED = "graded"
_NO_METRICS = frozenset(
    ("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash", "prompt_hash",
     "target_hash")
)  # fmt: skip


def read_log(run: LoggedRun, asked: Asked) -> Log:
    """The samples of one run; `ScoresError` names file and line of what cannot be read."""
    files = _files(run)
    tasks = _tasks(run, asked.tasks, files)
    samples: list[Sample] = []
    remarks: list[str] = []
    for task in tasks:
        rows = _rows(files[task])
        _check_whole(files[task], task, rows)
        metric = _metric(task, rows, asked.metric_of(task), files[task])
        chosen = _filtered(rows, asked.filter_of(task), files[task])
        samples += _samples(task, chosen, metric, asked.group, files[task])
        remarks.append(
            f"{task}: judged by {metric}" + (f", filter {chosen[0]['filter']}" if _filters(rows)[1:] else "")
        )
    return Log(run=run, samples=samples, remarks=tuple(remarks))


# ---------------------------------------------------------------------------------------------------------------- files


def _files(run: LoggedRun) -> dict[str, Path]:
    path = run.path
    if not path.exists():
        raise ScoresError("no such file or folder", where=f"--arm {run.name}", got=str(path))
    here = sorted(path.rglob("samples_*.jsonl")) if path.is_dir() else [path]
    named = [(match["task"], file) for file in here if (match := _FILE.fullmatch(file.name))]
    if not named:
        alone = path.is_dir() and any(path.rglob("results_*.json"))
        raise ScoresError(
            "results without samples: means cannot be paired" if alone else "no log of lm-eval",
            where=f"--arm {run.name}={path}",
            expected="samples_TASK_DATE.jsonl, as `lm_eval --log_samples --output_path DIR` writes it",
            fix="evaluate again with --log_samples" if alone else None,
        )
    return once(path if path.is_dir() else path.parent, named, run=run)


def _tasks(run: LoggedRun, asked: Sequence[str], files: Mapping[str, Path]) -> list[str]:
    """The tasks asked for, groups of the harness written out; all where none was asked for."""
    if not asked:
        return list(files)
    members = _groups(files)
    found: dict[str, None] = {}
    for name in asked:
        inside = [name] if name in files else [task for task in _leaves(name, members) if task in files]
        if not inside:
            raise ScoresError(
                "no such task in this log",
                where=f"--arm {run.name}={run.path}",
                got=name,
                expected=f"one of {', '.join([*files, *members])}",
            )
        found |= dict.fromkeys(inside)
    return list(found)


def _groups(files: Mapping[str, Path]) -> dict[str, list[str]]:
    """Group to its tasks and groups, from the results beside the samples; empty where they are not there."""
    found: dict[str, list[str]] = {}
    for folder in {file.parent for file in files.values()}:
        for results in folder.glob("results_*.json"):
            groups = _results(results).get("group_subtasks")
            found |= {name: tasks for name, tasks in groups.items() if tasks} if isinstance(groups, dict) else {}
    return found


def _leaves(name: str, members: Mapping[str, list[str]]) -> list[str]:
    return [leaf for inner in members[name] for leaf in _leaves(inner, members)] if name in members else [name]


def _results(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise ScoresError("results that cannot be read", where=str(path), got=str(error)) from error
    return found if isinstance(found, dict) else {}


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
            except ValueError as error:
                cut = not line.endswith(b"\n")
                raise ScoresError(
                    "half a log: its last line is cut" if cut else "not a line of JSON",
                    where=f"{path}:{number}",
                    got=str(error),
                    fix="evaluate this task again" if cut else None,
                ) from error
            if not isinstance(row, dict) or "doc_hash" not in row or "prompt_hash" not in row:
                raise ScoresError(
                    "a sample without doc_hash and prompt_hash",
                    where=f"{path}:{number}",
                    got=", ".join(row) if isinstance(row, dict) else type(row).__name__,
                    expected="a sample of lm-eval 0.4.3 or later",
                    fix="evaluate again with a later lm-eval: without them only the order of the file would pair",
                )
            rows.append(row | {"line": number, "filter": row.get("filter", "none")})
    if not rows:
        raise ScoresError("an empty log", where=str(path), expected="a line for each sample")
    return rows


def _check_whole(path: Path, task: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """The results written beside it say how many samples there were."""
    date = _FILE.fullmatch(path.name)
    results = path.parent / f"results_{date['date']}.json" if date else path
    if not results.is_file():
        return
    counts = _results(results).get("n-samples", {}).get(task, {})
    told, found = counts.get("effective"), len({row["doc_id"] for row in rows})
    if isinstance(told, int) and told != found:
        raise ScoresError(
            "half a log", where=str(path), got=f"{found} samples", expected=f"{told}, as {results.name} says"
        )


# --------------------------------------------------------------------------------------------------- metric and filter


def _filters(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["filter"] for row in rows))


def _filtered(rows: Sequence[dict[str, Any]], asked: str | None, path: Path) -> list[dict[str, Any]]:
    name = choose("filter", "--filter", _filters(rows), asked, where=str(path))
    return [row for row in rows if row["filter"] == name]


def _metric(task: str, rows: Sequence[Mapping[str, Any]], asked: str | None, path: Path) -> str:
    """A metric whose every value lies in 0 to 1, or none at all (perplexities are no score of an item)."""
    names = [name for name in rows[0] if name not in _NO_METRICS | {"line"}]
    usable = [name for name in names if all(_is_score(row.get(name)) for row in rows)]
    graded = [GRADED] if all(_gold(row) is not None for row in rows) else []
    if asked is not None and asked in names and asked not in usable:
        odd = next(row for row in rows if not _is_score(row.get(asked)))
        raise ScoresError(
            f"{asked} is no score from 0 to 1",
            where=f"{path}:{odd['line']}",
            got=odd.get(asked),
            expected=", ".join([*usable, *graded]) or "another task: this one has no such metric",
        )
    if asked is None:
        # The graded score is offered, never taken unasked: it is not in the log's own table.
        offered = f"{GRADED}, the probability of the right choice, can be had as well" if graded else None
        return choose("metric", "--metric", usable, None, where=f"task {task} in {path}", beside=offered)
    return choose("metric", "--metric", [*usable, *graded], asked, where=f"task {task} in {path}")


def _is_score(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, int | float) and (math.isnan(value) or 0 <= value <= 1)


# -------------------------------------------------------------------------------------------------------------- samples


def _samples(task: str, rows: Sequence[Mapping[str, Any]], metric: str, group: str | None, path: Path) -> list[Sample]:
    """Documents that stand twice in a task are paired by prompt, then by place: they are the same question."""
    by_document: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_document[row["doc_hash"]].append(row)
    samples = []
    for digest, same in by_document.items():
        for place, row in enumerate(sorted(same, key=lambda row: (row["prompt_hash"], row["line"]))):
            samples.append(
                Sample(
                    task=task,
                    item=digest[:16] + (f"-{place + 1}" if place else ""),
                    asked="\n".join((row["prompt_hash"], *_continuations(row))),
                    reference=str(row.get("target")),
                    shown=shortened(_prompt(row)),
                    score=_score(row, metric),
                    group=group_of(row.get("doc"), group, where=f"{path}:{row['line']}"),
                )
            )
    return samples


def _score(row: Mapping[str, Any], metric: str) -> float | None:
    if metric == GRADED and GRADED not in row:
        return _graded(row)
    value = row.get(metric)
    return None if value is None or math.isnan(value) else float(value)


def _graded(row: Mapping[str, Any]) -> float | None:
    """The probability of the right choice among the choices, from the log-likelihoods that stand in the log."""
    gold, logprobs = _gold(row), np.array(_logprobs(row))
    if gold is None or not np.isfinite(logprobs).any():
        return None
    weights = np.exp(logprobs - logprobs.max())
    return float(weights[gold] / weights.sum())


def _gold(row: Mapping[str, Any]) -> int | None:
    """The index of the right choice; None where the sample is no choice among log-likelihoods.

    The harness writes the reference as the task gives it: as the index of the choice, or as its text. Where a number
    could be both and they name different choices, neither is taken.
    """
    asked, target = _choices(row), str(row.get("target"))
    if len(asked) < 2:
        return None
    found = {place for place, (text, _) in enumerate(asked) if text.strip() == target.strip()}
    if target.isdecimal() and int(target) < len(asked):
        found.add(int(target))
    return found.pop() if len(found) == 1 else None


def _logprobs(row: Mapping[str, Any]) -> list[float]:
    return [logprob for _, logprob in _choices(row)]


def _choices(row: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Text and log-likelihood of each choice given its prompt; none where the answer is no choice. Requests without a
    prompt are left out where others have one: the harness adds them for `acc_mutual_info`, and they are no answers."""
    arguments = [one if isinstance(one, dict) else {} for one in row.get("arguments", {}).values()]
    contexts = [str(one.get("arg_0", "")) for one in arguments]
    found = row.get("filtered_resps", [])
    if len(found) != len(contexts):
        return []
    wanted = [n for n, context in enumerate(contexts) if context or not any(contexts)]
    if not all(isinstance(found[n], list) and len(found[n]) == 2 for n in wanted):
        return []
    try:
        return [(str(arguments[n].get("arg_1", "")), float(found[n][0])) for n in wanted]
    except (TypeError, ValueError):
        return []


def _continuations(row: Mapping[str, Any]) -> list[str]:
    """The choices as they were written: part of the question, and not of the prompt's digest."""
    found = [arguments.get("arg_1") for arguments in row.get("arguments", {}).values() if isinstance(arguments, dict)]
    return [text for text in found if isinstance(text, str)]


def _prompt(row: Mapping[str, Any]) -> str:
    first: Any = next(iter(row.get("arguments", {}).values()), {})
    return str(first.get("arg_0", "")) if isinstance(first, dict) else str(first)
