"""Logs of Inspect (`inspect_ai`): `.eval` and `.json` files, read by its own reader.

A sample's `id` pairs. An `epoch` is the same model asked again: it says nothing of what another training seed would
give, so the epochs of an item are averaged into one score and never taken for seeds.
"""

from __future__ import annotations

import importlib.util
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from titrant.core.errors import ScoresError
from titrant.core.identity import fingerprint
from titrant.logs.samples import Asked, Log, LoggedRun, Sample, choose, group_of, once, shortened

_SUFFIXES = (".eval", ".json")


def read_log(run: LoggedRun, asked: Asked) -> Log:
    """The samples of one run. The metric is a scorer's name, or SCORER/KEY where it gives several values; the group a
    field of the samples' metadata. `ScoresError` names what cannot be read; a log that was not finished is refused."""
    if importlib.util.find_spec("inspect_ai") is None:
        raise ScoresError(
            "inspect_ai is not installed, and its logs are read by its own reader",
            where="--from inspect",
            fix="pip install 'titrant[inspect]'",
        )
    if asked.filter is not None:
        raise ScoresError("Inspect has no filters", where="--filter", got=str(asked.filter), fix="leave it out")
    files = _files(run)
    chosen = _chosen(run, asked.tasks, files)
    samples: list[Sample] = []
    remarks: list[str] = []
    for task in chosen:
        log = _whole_log(files[task])
        by_item: dict[str, list[Any]] = defaultdict(list)
        for sample in log.samples:
            by_item[str(sample.id)].append(sample)
        name = _scorer(log.samples, asked.metric_of(task), files[task])
        samples += [_sample(task, item, epochs, name, asked.group, files[task]) for item, epochs in by_item.items()]
        remarks.append(f"{task}: judged by {name}")
        if (most := max(map(len, by_item.values()))) > 1:
            remarks.append(f"{task}: {most} epochs are averaged within each item: they are no training seeds")
    return Log(run=run, samples=samples, remarks=tuple(remarks))


def _files(run: LoggedRun) -> dict[str, Path]:
    path = run.path
    if not path.exists():
        raise ScoresError("no such file or folder", where=f"--arm {run.name}", got=str(path))
    here = sorted(file for file in path.rglob("*") if file.suffix in _SUFFIXES) if path.is_dir() else [path]
    found = [(str(_read(file, header_only=True).eval.task), file) for file in here if file.name != "logs.json"]
    if not found:
        raise ScoresError("no log of Inspect", where=f"--arm {run.name}={path}", expected="a file DATE_TASK_ID.eval")
    return once(path if path.is_dir() else path.parent, found, run=run)


def _chosen(run: LoggedRun, asked: Sequence[str], files: dict[str, Path]) -> list[str]:
    for name in asked:
        if name not in files:
            raise ScoresError(
                "no such task in this log", where=f"--arm {run.name}={run.path}", got=name, expected=", ".join(files)
            )
    return list(asked) or list(files)


def _read(path: Path, *, header_only: bool = False) -> Any:
    import zipfile

    from inspect_ai.log import read_eval_log
    from pydantic import ValidationError

    try:
        return read_eval_log(str(path), header_only=header_only, resolve_attachments=not header_only)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, ValidationError) as error:
        first = str(error).strip().splitlines()
        raise ScoresError("no log that Inspect can read", where=str(path), got=first[0] if first else "") from error


def _whole_log(path: Path) -> Any:
    log = _read(path)
    if log.status != "success":
        told = log.error.message.splitlines()[0] if log.error is not None and log.error.message else log.status
        raise ScoresError(
            f"half a log: its status is {log.status}",
            where=str(path),
            got=told,
            expected="a log that was finished",
            fix=f"inspect eval-retry {path.name}",
        )
    if not log.samples:
        raise ScoresError("a log without samples", where=str(path), fix="evaluate without --no-log-samples")
    return log


def _scorer(samples: Sequence[Any], asked: str | None, path: Path) -> str:
    """The scorer that decides, among those whose values are from 0 to 1."""
    names = list(
        dict.fromkeys(
            name
            for sample in samples
            for scorer, score in (sample.scores or {}).items()
            for name in ([f"{scorer}/{key}" for key in score.value] if isinstance(score.value, dict) else [scorer])
        )
    )
    usable = [name for name in names if all(_is_score(_value(sample, name)) for sample in samples)]
    if asked is not None and asked in names and asked not in usable:
        odd = next(sample for sample in samples if not _is_score(_value(sample, asked)))
        raise ScoresError(
            f"{asked} is no score from 0 to 1",
            where=f"{path}, sample {odd.id}",
            got=_value(odd, asked),
            expected=", ".join(usable) or None,
        )
    return choose("scorer", "--metric", usable, asked, where=str(path))


def _value(sample: Any, name: str) -> Any:
    """What the scorer gave; None where it gave none, as for a sample that ended in an error."""
    scorer, slash, key = name.partition("/")
    score = (sample.scores or {}).get(scorer)
    if score is None:
        return None
    value = score.value
    return value.get(key) if slash and isinstance(value, dict) else value


def _is_score(value: Any) -> bool:
    number = _number(value)
    return number is None or math.isnan(number) or 0 <= number <= 1


def _number(value: Any) -> float | None:
    """Inspect's own reading of a value (C, P, I, N, yes, true, 0.5); infinity where it is none."""
    from inspect_ai.scorer import value_to_float

    if value is None or isinstance(value, list | dict):
        return None if value is None else math.inf
    if isinstance(value, str) and value.strip().lower() not in _WORDS and not _is_number(value):
        return math.inf  # value_to_float would warn and say 0
    return float(value_to_float()(value))


_WORDS = frozenset(("c", "i", "p", "n", "yes", "no", "true", "false"))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _sample(task: str, item: str, epochs: Sequence[Any], scorer: str, group: str | None, path: Path) -> Sample:
    values = [_number(_value(sample, scorer)) for sample in epochs]
    known = [value for value in values if value is not None and not math.isnan(value)]
    first = epochs[0]
    return Sample(
        task=task,
        item=item,
        asked=fingerprint([_asked(first), list(first.choices or [])]),
        reference=str(first.target),
        shown=shortened(_asked(first)),
        # An item that some epoch left without a score has none: the mean of the rest would be of easier answers.
        score=sum(known) / len(known) if len(known) == len(values) else None,
        group=group_of(first.metadata, group, where=f"{path}, sample {first.id}"),
    )


def _asked(sample: Any) -> str:
    """The input as text: messages carry ids that differ from log to log."""
    if isinstance(sample.input, str):
        return sample.input
    return "\n".join(f"{message.role}: {message.text}" for message in sample.input)
