"""Worker processes on this machine.

A job is one process that takes runs in turn, so `jobs` changes how soon a study is done and nothing else. Who works on
a run holds its claim in the store (a lock that dies with the process), so that two runners on one store share the work.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from titrant.engines.job import Event, RunJob, do_run, save_trained, weights_folder
from titrant.errors import Interrupted, RunFailed, TitrantError
from titrant.lab import Lab
from titrant.store import Store

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 600.0  # to write a checkpoint after a signal


@dataclass(frozen=True, slots=True, kw_only=True)
class LabSpec:
    """How a worker makes its lab: a callable by module and name, and its arguments (picklable)."""

    module: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def make(self) -> Lab:
        """The lab; imports what it needs."""
        lab: Lab = getattr(importlib.import_module(self.module), self.name)(**self.arguments)
        return lab


def execute(
    jobs: Sequence[RunJob],
    *,
    root: Path,
    lab: LabSpec,
    processes: int,
    on_event: Callable[[Event], None] = lambda _: None,
    weights_only: bool = False,
) -> None:
    """Do every run that is not done yet. Returns when all are finished or have failed.

    Raises `Interrupted` on SIGINT or SIGTERM, after the workers have written their checkpoints; `RunFailed` with kind
    `worker_died` when a worker ends without a word. `processes` 0 works in this process (for tests and measurements).
    """
    if not jobs:
        return
    if processes == 0:
        _work(list(jobs), root, lab, on_event, _Signals(), weights_only)
        return
    context = multiprocessing.get_context("spawn")
    events: multiprocessing.Queue[Event | BaseException] = context.Queue()
    count = min(processes, len(jobs))
    workers = [
        context.Process(target=_worker, args=(list(jobs), str(root), lab, events, weights_only), name=f"job-{number}")
        for number in range(count)
    ]
    signals = _Signals()
    with signals:
        for worker in workers:
            worker.start()
        try:
            _watch(workers, events, on_event, signals)
        finally:
            for worker in workers:
                if worker.is_alive():
                    worker.kill()
                worker.join()


def _watch(workers: Sequence[Any], events: Any, on_event: Callable[[Event], None], signals: _Signals) -> None:
    """Pass events on until every worker has ended; forward a signal once, and raise what went wrong."""
    problems: list[BaseException] = []
    forwarded: float | None = None
    while True:
        alive = any(worker.is_alive() for worker in workers)
        try:
            while True:
                found = events.get(timeout=_POLL_SECONDS if alive else 0.05)
                if isinstance(found, BaseException):
                    problems.append(found)
                else:
                    on_event(found)
        except queue.Empty:
            pass
        if signals.number is not None and forwarded is None:
            forwarded = time.monotonic()
            for worker in workers:
                if worker.is_alive() and worker.pid is not None:
                    os.kill(worker.pid, signals.number)
        if forwarded is not None and time.monotonic() - forwarded > _GRACE_SECONDS:
            break
        if not alive:
            break
    if signals.number is not None:
        raise Interrupted(signals.number)
    for problem in problems:
        raise problem
    dead = [worker for worker in workers if worker.exitcode not in (0, None)]
    if dead:
        code = dead[0].exitcode
        hint = "it was killed, perhaps because memory ran out: use fewer --jobs" if code == -9 else f"exit code {code}"
        raise RunFailed("worker_died", f"a worker process ended without a word; {hint}")


def _worker(jobs: list[RunJob], root: str, lab: LabSpec, events: Any, weights_only: bool) -> None:
    """The main function of a worker process."""
    signals = _Signals()
    with signals:
        try:
            _work(jobs, Path(root), lab, events.put, signals, weights_only)
        except Interrupted:
            pass
        except TitrantError as error:
            events.put(error)
        except Exception as error:  # noqa: BLE001  (it is passed on whole to the parent, which raises)
            import traceback

            events.put(RunFailed("unexpected", f"{type(error).__name__}: {error}\n{traceback.format_exc()}"))


def _work(
    jobs: list[RunJob], root: Path, spec: LabSpec, emit: Callable[[Event], None], signals: _Signals, weights_only: bool
) -> None:
    """Take runs in turn until none is left that another process does not hold."""
    store = Store.open(root)
    lab: Lab | None = None
    pending = list(jobs)
    while pending:
        held_elsewhere: list[RunJob] = []
        done = _done(pending, store, weights_only)
        for job in pending:
            if signals.number is not None:
                raise Interrupted(signals.number)
            if job.run.run_id in done:
                continue
            with store.claim(job.run.run_id) as ours:
                if not ours:
                    held_elsewhere.append(job)
                    continue
                if job.run.run_id in _done([job], store, weights_only):
                    continue
                if lab is None:
                    lab = spec.make()
                if weights_only:
                    save_trained(job, store=store, lab=lab, emit=emit, stop=signals.current)
                else:
                    do_run(job, store=store, lab=lab, decode=_decoder(job), emit=emit, stop=signals.current)
        pending = held_elsewhere
        if pending:
            time.sleep(_POLL_SECONDS)


def _done(jobs: Sequence[RunJob], store: Store, weights_only: bool) -> set[str]:
    """Which of the runs need nothing more."""
    if weights_only:
        return {job.run.run_id for job in jobs if weights_folder(store, job.run.run_id).is_dir()}
    return set(store.finished()) | set(failures(store))


def failures(store: Store) -> dict[str, dict[str, Any]]:
    """Runs that failed and would fail again (a non-finite loss), by run id; others are tried again."""
    lasting = {}
    for record in store.records():
        if record.get("kind") == "failure" and record["failure"]["kind"] == "non_finite":
            lasting[record["run_id"]] = record
    return lasting


def _decoder(job: RunJob) -> Callable[[Sequence[int]], str]:
    if not job.prompts:
        return lambda ids: ""
    from titrant.tokens import load_tokenizer

    return load_tokenizer(Path(job.model.folder)).decode


class _Signals:
    """Remembers the first SIGINT or SIGTERM in place of dying of it; puts the old handlers back on leaving."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._old: dict[int, Any] = {}

    def current(self) -> int | None:
        return self.number

    def __enter__(self) -> _Signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._old[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _: FrameType | None) -> None:
        if self.number is None:
            self.number = number
