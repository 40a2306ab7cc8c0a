"""Worker processes on this machine.

A job is one process that takes runs in turn, so `jobs` changes how soon a study is done and nothing else. Who works on
a run holds its claim in the store (a lock that dies with the process), so that two runners on one store share the work.
"""

from __future__ import annotations

import functools
import gc
import importlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any

from titrant.backends.protocol import Backend
from titrant.core.environment import gpus_of
from titrant.core.errors import Interrupted, RunFailed, TitrantError
from titrant.core.redaction import guard_output, redacted
from titrant.engines.job import Event, RunJob, do_run, save_trained, weights_folder
from titrant.engines.placement import Place, places
from titrant.storage.store import Ledger, Store

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 600.0  # to write a checkpoint after a signal
_HEEDED = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSpec:
    """How a worker makes its backend: a callable by module and name, and its arguments (picklable).

    `known_as` is its name in runs' names, where that is to outlast a move of the module. `device` is what the study
    says of the device: `cuda:N` places all workers on that GPU.
    """

    module: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    known_as: str = ""
    device: str = "auto"

    @property
    def identity(self) -> str:
        """What stands for this backend in the name of every run that it trains."""
        return self.known_as or f"{self.module}:{self.name}"

    def make(self) -> Backend:
        """The backend; imports what it needs."""
        backend: Backend = getattr(importlib.import_module(self.module), self.name)(**self.arguments)
        return backend


def execute(
    jobs: Sequence[RunJob],
    *,
    root: Path,
    backend: BackendSpec,
    processes: int,
    on_event: Callable[[Event], None] = lambda _: None,
    weights_only: bool = False,
) -> None:
    """Do every run that is not done yet. Returns when all are finished or have failed.

    Raises `Interrupted` on SIGINT or SIGTERM (outside the main thread: when a worker got one), after the workers have
    written their checkpoints; `RunFailed` with kind
    `worker_died` when a worker ends without a word. `processes` 0 works in this process (for tests and measurements).
    """
    if not jobs:
        return
    if processes == 0:
        _work(list(jobs), root, backend, on_event, _Signals(), weights_only, after_run=lambda: None)
        return
    workers = []
    signals = _Signals()
    with signals:
        try:
            for number, place in enumerate(_places(jobs, min(processes, len(jobs)), backend.device)):
                workers.append(_started(number, place, list(jobs), str(root), backend, weights_only))
            _watch(workers, on_event, signals)
        finally:
            for worker in workers:
                if worker.process.is_alive():
                    worker.process.kill()
                worker.process.join()
                worker.events.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worker:
    """A worker process and the end of its pipe that tells of its runs."""

    process: Any
    events: Connection


def _places(jobs: Sequence[RunJob], workers: int, device: str = "auto") -> tuple[Place, ...]:
    """Where each of the workers runs; all jobs are of the same numerics."""
    numerics = jobs[0].run.numerics
    gpus = gpus_of(device) if numerics.device == "cuda" else ()
    return places(workers, threads=numerics.threads, cores=sorted(os.sched_getaffinity(0)), gpus=gpus)


def _started(
    number: int, place: Place, jobs: list[RunJob], root: str, backend: BackendSpec, weights_only: bool
) -> _Worker:
    """A new worker. Each has a pipe of its own: one that is killed in the middle of a word disturbs no other. Signals
    wait until the worker can heed them."""
    context = multiprocessing.get_context("spawn")
    resource_tracker.ensure_running()  # which would let signals through again if it were started below
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(
        target=_worker, args=(place, jobs, root, backend, theirs, weights_only), name=f"job-{number}"
    )
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEEDED)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEEDED)
        theirs.close()
    return _Worker(process=process, events=ours)


def _watch(workers: Sequence[_Worker], on_event: Callable[[Event], None], signals: _Signals) -> None:
    """Pass events on until every worker has ended; forward a signal once, and raise what went wrong."""
    problems: list[BaseException] = []
    forwarded: float | None = None
    speaking = [worker.events for worker in workers]
    while speaking:
        for events in wait(speaking, timeout=_POLL_SECONDS):
            assert isinstance(events, Connection)
            try:
                found = events.recv()
            except (EOFError, OSError):  # the worker has ended, perhaps in the middle of a word
                speaking.remove(events)
                continue
            if isinstance(found, BaseException):
                problems.append(found)
            else:
                on_event(found)
        if signals.number is not None and forwarded is None:
            forwarded = time.monotonic()
            for worker in workers:
                if worker.process.is_alive():
                    os.kill(worker.process.pid, signals.number)
        if forwarded is not None and time.monotonic() - forwarded > _GRACE_SECONDS:
            break
    if signals.number is not None:
        raise Interrupted(signals.number)
    for problem in problems:
        raise problem
    for worker in workers:
        worker.process.join()
    codes = [worker.process.exitcode for worker in workers if worker.process.exitcode]
    if codes:
        killed = "it was killed, perhaps because memory ran out: use fewer --jobs"
        hint = killed if codes[0] == -signal.SIGKILL else f"exit code {codes[0]}"
        raise RunFailed("worker_died", f"a worker process ended without a word; {hint}")


def _worker(
    place: Place, jobs: list[RunJob], root: str, backend: BackendSpec, events: Connection, weights_only: bool
) -> None:
    """The main function of a worker process."""
    place.take()
    signals = _Signals()
    with signals:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEEDED)
        guard_output()
        try:
            _work(jobs, Path(root), backend, events.send, signals, weights_only, after_run=_look_away)
        except BrokenPipeError:
            pass  # nobody listens any more: the process that started this one is dead, and its successor goes on
        except (TitrantError, OSError) as error:  # `Interrupted` too: the process that started this one may be deaf
            events.send(error)
        except Exception as error:  # noqa: BLE001  (it is passed on whole to the parent, which raises)
            import traceback

            said = redacted(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
            events.send(RunFailed("unexpected", said))


def _work(
    jobs: list[RunJob],
    root: Path,
    spec: BackendSpec,
    emit: Callable[[Event], None],
    signals: _Signals,
    weights_only: bool,
    after_run: Callable[[], None],
) -> None:
    """Take runs in turn until none is left that another process does not hold."""
    store = Store.open(root)
    ledger = store.follow()
    backend: Backend | None = None
    pending = list(jobs)
    while pending:
        held_elsewhere: list[RunJob] = []
        ledger.refresh()
        for job in pending:
            if signals.number is not None:
                raise Interrupted(signals.number)
            if _is_done(job, store, ledger, weights_only):
                continue
            with store.claim(job.run.run_id) as ours:
                if not ours:
                    held_elsewhere.append(job)
                    continue
                # whoever held the run a moment ago may have finished it
                if _is_done(job, store, ledger.refresh(), weights_only):
                    continue
                if backend is None:
                    backend = spec.make()
                if weights_only:
                    save_trained(job, store=store, backend=backend, emit=emit, stop=signals.current)
                else:
                    do_run(job, store=store, backend=backend, decode=_decoder(job), emit=emit, stop=signals.current)
                after_run()
        pending = held_elsewhere
        if pending:
            time.sleep(_POLL_SECONDS)


def _look_away() -> None:
    """What is there between two runs (libraries, untuned weights) stays: to look through its 400,000 objects again and
    again was 4% of a short run."""
    gc.collect()  # what a failed run left, first
    gc.freeze()


def _is_done(job: RunJob, store: Store, ledger: Ledger, weights_only: bool) -> bool:
    """Whether a run needs nothing more: finished, or failed in a way in which it would fail again (a non-finite loss);
    other failures are tried again."""
    run_id = job.run.run_id
    if weights_only:
        return weights_folder(store, run_id).is_dir()
    if job.supplement is not None:
        return ledger.has_answers(run_id, job.supplement)
    return ledger.is_finished(run_id) or any(
        record.get("kind") == "failure" and record["failure"]["kind"] == "non_finite"
        for record in ledger.of_run(run_id)
    )


def _decoder(job: RunJob) -> Callable[[Sequence[int]], str]:
    return _tokenizer_decode(job.model.folder) if job.prompts else lambda ids: ""


@functools.lru_cache(maxsize=1)
def _tokenizer_decode(folder: str) -> Callable[[Sequence[int]], str]:
    from titrant.tokens import load_tokenizer

    return load_tokenizer(Path(folder)).decode


class _Signals:
    """Remembers the first SIGINT or SIGTERM in place of dying of it; puts the old handlers back on leaving.

    Outside the main thread (a notebook's executor, a server) it remembers none: Python runs handlers in the main thread
    alone and lets no other set them. What a signal does is then the business of whoever owns that thread; a worker
    process that is signalled still writes its checkpoint and says that it was interrupted.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._old: dict[int, Any] = {}

    def current(self) -> int | None:
        return self.number

    def __enter__(self) -> _Signals:
        if threading.current_thread() is threading.main_thread():
            for number in _HEEDED:
                self._old[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _: FrameType | None) -> None:
        if self.number is None:
            self.number = number
