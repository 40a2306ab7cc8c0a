"""Worker processes on this machine.

A job is one process that takes runs in turn, so `jobs` changes how soon a study is done and nothing else. Who works on
a run holds its claim in the store (a lock that dies with the process), so that two runners on one store share the work.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import inspect
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, Literal

from titrant.backends.protocol import Backend
from titrant.core.environment import gpus_of
from titrant.core.errors import Interrupted, RunFailed, SpecError, TitrantError
from titrant.core.plugins import Extension, extension_of, import_file, load_extension
from titrant.core.records import Numerics, PreparedModel
from titrant.core.redaction import guard_output, redacted
from titrant.engines.job import Event, RunJob, do_run, save_trained, weights_folder
from titrant.engines.placement import WorkerPlace, places, workers_for
from titrant.storage.ledger import Ledger
from titrant.storage.store import Store

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 600.0  # to write a checkpoint after a signal
_HEEDED = (signal.SIGINT, signal.SIGTERM)
_MOST_JOBS = 1024
_BYTES_PER_PARAMETER = 24  # fp32: base, masters, two moments, a step's sum; bf16: copy that computes, its gradients
_BYTES_PER_PROCESS = 7 << 28  # libraries, the activations of a micro-batch, logits of a chunk
_STARTING = threading.Lock()  # one worker is started at a time, whichever thread asks: see `_without_main`


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSpec:
    """How a worker makes its backend: a callable by module (or `.py` file) and name, and its arguments (picklable).

    `known_as` is its name in runs' names, where that is to outlast a move of the module. `device` is what the study
    says of the device: `cuda:N` places all workers on that GPU. `made`: a backend that is there already, for one given
    as an object. `revision`: what changes with the code, where it comes from outside.
    """

    module: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    known_as: str = ""
    device: str = "auto"
    made: Any = None
    revision: str = ""

    @property
    def identity(self) -> str:
        """What stands for this backend in the name of every run that it trains: equal where the same code trains.

        >>> BackendSpec(module="titrant.backends.fake", name="FakeBackend").identity
        'titrant.backends.fake:FakeBackend'
        """
        place = Path(self.module).name if self.module.endswith(".py") else self.module
        return (self.known_as or f"{place}:{self.name}") + (f"@{self.revision}" if self.revision else "")

    def make(self) -> Backend:
        """The backend; imports what it needs."""
        if self.made is not None:
            ready: Backend = self.made
            return ready
        if self.module.endswith(".py"):
            found: Any = import_file(Path(self.module))[0]
        else:
            found = importlib.import_module(self.module)
        for part in self.name.split("."):
            found = getattr(found, part)
        is_made = isinstance(getattr(found, "train", None), types.MethodType)  # an object, not a class or a function
        backend: Backend = found if is_made else found(**self.arguments)
        return backend


def backend_spec(backend: Any, *, folder: Path, numerics: Numerics | None = None) -> BackendSpec:
    """The spec of a backend from outside: a path to code, a class, or an object that is made already. A class or
    function that has a parameter `numerics` gets what runs compute with, others get nothing.

    Worker processes make a class anew and unpickle an object, so either has to be importable there: not defined at a
    prompt or in the script that runs, unless `LocalEngine(jobs=0)` works in this process.
    """
    if isinstance(backend, BackendSpec):
        return backend
    if isinstance(backend, str) and not isinstance(backend, Extension):
        backend = load_extension(backend, folder=folder, kind="backend")
    found = backend if isinstance(backend, Extension) else extension_of(backend, kind="backend")
    revision = "+".join(filter(None, (found.revision, found.digest[:16])))
    makes = callable(found.made) and not isinstance(getattr(found.made, "train", None), types.MethodType)
    wants = makes and "numerics" in inspect.signature(found.made).parameters
    arguments = {"numerics": numerics} if wants else {}
    if found.folder is None:
        made = found.made(**arguments) if makes else found.made
        return BackendSpec(module="python", name=str(found), made=made, revision=revision)
    place, _, name = str(found).rpartition(":")
    module = str((found.folder / Path(place).expanduser()).resolve()) if place.endswith(".py") else place
    return BackendSpec(module=module, name=name, arguments=arguments, revision=revision)


@dataclass(frozen=True, slots=True)
class LocalEngine:
    """Worker processes on this machine: one a GPU, else as many as cores and free memory carry, unless `jobs` says.

    `jobs`: how many processes, "auto", or 0 to work in this process (a debugger and a backend made in a notebook need
    that). It changes how soon a study is done and never a result. Works in a notebook, in a thread, and in a script
    without an `if __name__ == "__main__":`, since workers do not import the caller's main module.

    >>> LocalEngine(jobs=2)
    LocalEngine(jobs=2)
    """

    name: ClassVar[str] = "local"
    revision: ClassVar[str] = "1"
    jobs: int | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        if self.jobs != "auto" and (not isinstance(self.jobs, int) or not 0 <= self.jobs <= _MOST_JOBS):
            expected = f'"auto", or a whole number, 0 to {_MOST_JOBS}'
            raise SpecError("not a number of jobs", where="LocalEngine.jobs", got=self.jobs, expected=expected)

    def workers(self, runs: int, *, model: PreparedModel, numerics: Numerics, device: str = "auto") -> int:
        """How many processes `runs` get, at least 1. `device`: what the study says of it (`cuda:1` is one GPU)."""
        if self.jobs != "auto":
            return max(1, self.jobs)
        return workers_for(
            runs,
            threads=numerics.threads,
            cores=len(os.sched_getaffinity(0)),
            gpus=max(1, len(gpus_of(device))) if numerics.device == "cuda" else 0,
            memory_bytes=_available_bytes(),
            run_bytes=model.parameters * _BYTES_PER_PARAMETER + _BYTES_PER_PROCESS,
        )

    def execute(
        self,
        jobs: Sequence[RunJob],
        *,
        root: Path,
        backend: BackendSpec,
        on_event: Callable[[Event], None] = lambda _: None,
        weights_only: bool = False,
    ) -> None:
        """Do every run that is not done yet; see `Engine.execute`."""
        if not jobs:
            return
        model = max((job.model for job in jobs), key=lambda model: model.parameters)
        # By the largest model: workers are placed once for all runs.
        count = (
            0
            if self.jobs == 0
            else self.workers(len(jobs), model=model, numerics=jobs[0].run.numerics, device=backend.device)
        )
        execute(jobs, root=root, backend=backend, processes=count, on_event=on_event, weights_only=weights_only)

    def execute_asking(
        self,
        more: Callable[[], Sequence[RunJob]],
        *,
        root: Path,
        backend: BackendSpec,
        on_event: Callable[[Event], None] = lambda _: None,
    ) -> None:
        """Do the runs that `more` names until it names none; see `AskingEngine.execute_asking`."""
        jobs = more()
        if not jobs:
            return
        model = max((job.model for job in jobs), key=lambda model: model.parameters)
        count = (
            0
            if self.jobs == 0
            else self.workers(len(jobs), model=model, numerics=jobs[0].run.numerics, device=backend.device)
        )
        execute(jobs, root=root, backend=backend, processes=count, on_event=on_event, more=more)


def _available_bytes() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 8 << 30
    found = {line.split(":")[0]: line.split()[1] for line in lines if ":" in line}
    return int(found.get("MemAvailable", 8 << 20)) * 1024


def execute(
    jobs: Sequence[RunJob],
    *,
    root: Path,
    backend: BackendSpec,
    processes: int,
    on_event: Callable[[Event], None] = lambda _: None,
    weights_only: bool = False,
    more: Callable[[], Sequence[RunJob]] | None = None,
) -> None:
    """Do every run that is not done yet. Returns when all are finished or have failed.

    `more` is asked whenever a worker has nothing left to do; it may name runs that others work on, and ends the work
    when it names none.

    Raises `Interrupted` on SIGINT or SIGTERM (outside the main thread: when a worker got one), after the workers have
    written their checkpoints; `RunFailed` with kind `worker_died` when a worker ends without reporting why. `processes`
    0 works in this process (for tests and measurements).
    """
    if not jobs:
        return
    if processes == 0:
        _work(list(jobs), root, backend, on_event, _Signals(), weights_only, after_run=lambda: None, more=more)
        return
    _refuse_what_stays_here(backend)
    workers = []
    signals = _Signals()
    with signals:
        try:
            for number, place in enumerate(_places(jobs, min(processes, len(jobs)), backend.device)):
                asks = more is not None
                workers.append(_started(number, place, list(jobs), str(root), backend, weights_only, asks))
            _watch(workers, on_event, signals, more or (lambda: ()))
        finally:
            for worker in workers:
                if worker.process.is_alive():
                    worker.process.kill()
                worker.process.join()
                worker.events.close()


def _refuse_what_stays_here(backend: BackendSpec) -> None:
    """A backend made at a prompt or in the running script cannot be made again in a worker, which imports neither."""
    if backend.made is None:
        return
    try:
        sent = pickle.dumps(backend)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        reason = str(error)
    else:
        if b"__main__" not in sent:
            return
        reason = "it is defined in the script that runs, or at a prompt"
    raise SpecError(
        f"the backend {backend.name} cannot be sent to worker processes ({reason})",
        where="backend",
        fix="LocalEngine(jobs=0), which works in this process; or define it in a module or a file, and name its path",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worker:
    """A worker process and the end of its pipe that tells of its runs."""

    process: Any
    events: Connection


def _places(jobs: Sequence[RunJob], workers: int, device: str = "auto") -> tuple[WorkerPlace, ...]:
    """Where each of the workers runs; all jobs are of the same numerics."""
    numerics = jobs[0].run.numerics
    gpus = gpus_of(device) if numerics.device == "cuda" else ()
    return places(workers, threads=numerics.threads, cores=sorted(os.sched_getaffinity(0)), gpus=gpus)


def _started(
    number: int,
    place: WorkerPlace,
    jobs: list[RunJob],
    root: str,
    backend: BackendSpec,
    weights_only: bool,
    asks: bool,
) -> _Worker:
    """A new worker. Each has a pipe of its own: one that is killed in the middle of a message disturbs no other.
    Signals wait until the worker can heed them."""
    # Spawned and not forked: a fork copies locks of threads that do not exist in the child (torch and Arrow start some)
    # and cannot use CUDA.
    context = multiprocessing.get_context("spawn")
    resource_tracker.ensure_running()  # which would let signals through again if it were started below
    ours, theirs = context.Pipe(duplex=True)  # events come up, and what a worker asks for goes down
    process = context.Process(
        target=_worker, args=(place, jobs, root, backend, theirs, weights_only, asks), name=f"job-{number}"
    )
    # Ctrl-C goes to the whole process group: a worker that is still importing would die of it before it can write
    # anything. A mask is inherited, so signals wait until the worker unblocks them.
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEEDED)
    try:
        with _without_main():
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEEDED)
        # With the parent's copy open the pipe would never end, and a dead worker would look like a silent one.
        theirs.close()
    return _Worker(process=process, events=ours)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Start processes that do not import this one's main module.

    A spawned process runs the main script again, so that classes defined there can be unpickled. A script that calls
    `titrant.run` at its top would start a study in every worker, and multiprocessing ends that with an error about an
    `if __name__` that nobody expects to need. Workers need nothing of the script: what they get is ours, or is named by
    a module or a file. multiprocessing finds the script through `sys.modules`, where a nameless module stands
    meanwhile.
    """
    with _STARTING:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


@dataclass(frozen=True, slots=True)
class _NothingToDo:
    """What a worker sends to be told of more runs."""


def _watch(
    workers: Sequence[_Worker],
    on_event: Callable[[Event], None],
    signals: _Signals,
    more: Callable[[], Sequence[RunJob]],
) -> None:
    """Pass events on until every worker has ended, and tell those that ask what is next; forward a signal once, and
    raise what went wrong."""
    problems: list[BaseException] = []
    forwarded: float | None = None
    speaking = [worker.events for worker in workers]
    while speaking:
        for events in wait(speaking, timeout=_POLL_SECONDS):
            assert isinstance(events, Connection)
            try:
                found = events.recv()
            except (EOFError, OSError):  # the worker has ended, perhaps in the middle of a message
                speaking.remove(events)
                continue
            if isinstance(found, BaseException):
                problems.append(found)
            elif isinstance(found, _NothingToDo):
                # After a signal, or an error of another worker, nothing new is begun.
                stopped = signals.number is not None or problems
                with contextlib.suppress(OSError):
                    events.send([] if stopped else list(more()))
            else:
                on_event(found)
        # Once: a worker takes a second signal as the first. Those that got Ctrl-C from the terminal already remember
        # it.
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
    # A worker that raised has sent its error through the pipe; one that was killed leaves an exit code alone.
    codes = [worker.process.exitcode for worker in workers if worker.process.exitcode]
    if codes:
        killed = "it was killed, perhaps because memory ran out: use fewer --jobs"
        hint = killed if codes[0] == -signal.SIGKILL else f"exit code {codes[0]}"
        raise RunFailed("worker_died", f"a worker process ended without a word; {hint}")


def _worker(
    place: WorkerPlace,
    jobs: list[RunJob],
    root: str,
    backend: BackendSpec,
    events: Connection,
    weights_only: bool,
    asks: bool,
) -> None:
    """The main function of a worker process."""
    # First of all: threads inherit where the process may run, and CUDA reads its variable once.
    place.take()
    signals = _Signals()
    with signals:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEEDED)
        guard_output()
        try:
            more = functools.partial(_told_more, events) if asks else None
            _work(jobs, Path(root), backend, events.send, signals, weights_only, after_run=_look_away, more=more)
        except (BrokenPipeError, EOFError):
            pass  # nobody listens any more: the process that started this one is dead, and its successor goes on
        except (TitrantError, OSError) as error:  # `Interrupted` too: the process that started this one may be deaf
            events.send(error)
        except Exception as error:  # noqa: BLE001  (it is passed on whole to the parent, which raises)
            import traceback

            said = redacted(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
            events.send(RunFailed("unexpected", said))


def _told_more(events: Connection) -> Sequence[RunJob]:
    """What the process that started this one says is next."""
    events.send(_NothingToDo())
    jobs: list[RunJob] = events.recv()
    return jobs


def _work(
    jobs: list[RunJob],
    root: Path,
    spec: BackendSpec,
    emit: Callable[[Event], None],
    signals: _Signals,
    weights_only: bool,
    after_run: Callable[[], None],
    more: Callable[[], Sequence[RunJob]] | None,
) -> None:
    """Take runs in turn until none is left that another process does not hold, and `more` names no others."""
    store = Store.open(root)
    ledger = store.follow()
    backend: Backend | None = None
    pending = list(jobs)
    while pending:
        # Runs that others hold are tried again at the end: whoever holds one may die, and its lock with it.
        held_elsewhere: list[RunJob] = []
        ledger.refresh()
        for job in pending:
            if signals.number is not None:
                raise Interrupted(signals.number)
            if _is_done(job, store, ledger, weights_only):
                continue
            # Claims and no queue: runners on one store need not know of each other, and a kill frees what it held.
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
        if held_elsewhere:
            time.sleep(_POLL_SECONDS)
        # Where there is somebody to ask, whoever waits asks too: another's run may have made work for it, or may have
        # ended the study.
        pending = held_elsewhere if more is None else list(more())


def _look_away() -> None:
    """Take what is alive between two runs (libraries, untuned weights) out of the garbage collector's sight: it stays
    anyhow, and looking through its 400,000 objects again and again was 4% of a short run."""
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
