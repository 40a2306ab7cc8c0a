"""How fast a model trains and answers on this machine: measured on a few steps once, and kept.

`$TITRANT_CACHE/speeds/<key>.json` holds one measurement. The key names all that decides the speed: the model, the
compute environment and the machine, the training settings that cost time, and how long rows and requests are. So a
measurement is never taken for another model's, and a study that only changes its doses or seeds need not wait again.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from titrant import __version__
from titrant.backends.hf.models.cache import cache_folder
from titrant.core.environment import machine_name
from titrant.core.errors import ModelError, StoreDamaged
from titrant.core.identity import fingerprint, plain
from titrant.engines import BackendSpec, Event, RunJob, execute
from titrant.experiment.design import Design, PlannedRun
from titrant.experiment.requests import EvalRequests, digest_of
from titrant.experiment.work import job_of
from titrant.storage.manifests import TIMING
from titrant.storage.sealed import read_sealed, write_sealed
from titrant.storage.store import Store

_Kind = TypeVar("_Kind")
_MEASURED_STEPS = 3  # the first is not counted: it pays for what later ones find ready
_MEASURED_ITEMS = 48
_BUSY = 0.5  # of the cores at work on something else: what is measured then is too slow


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Rates in tokens per second of one process; `run_seconds` is what a run takes besides, to make ready for its first
    answer. `measured` is a date (ISO 8601). `busy`: the machine had other work then. `kept`: not measured just now."""

    training_rate: float
    answer_rate: float
    run_seconds: float
    memory_bytes: int
    micro_batch_tokens: int | None = None
    measured: str = ""
    busy: bool = False
    kept: bool = False

    def seconds(self, *, training_tokens: float, answer_tokens: float, runs: float) -> float:
        """What so much work takes in one process."""
        return training_tokens / self.training_rate + answer_tokens / self.answer_rate + runs * self.run_seconds


def kept_speed(design: Design) -> Speed | None:
    """The speed of the design's longest run as it was measured on this machine before; None where it was not."""
    with contextlib.suppress(StoreDamaged, ModelError, KeyError, TypeError):
        return replace(_speed(read_sealed(_place(design))), kept=True)
    return None


def speed_of(
    design: Design, backend: BackendSpec, *, anew: bool = False, say: Callable[[str], None] = lambda _: None
) -> Speed | None:
    """The kept speed, else (or `anew`) one measured now and kept. None where the measured run failed."""
    known = None if anew else kept_speed(design)
    if known is not None:
        return known
    say("measuring a few steps of the longest run: once for this model, machine and length of rows")
    busy = os.getloadavg()[0] > _BUSY * len(os.sched_getaffinity(0))
    measured = measure(design, backend)
    if measured is None:
        return None
    dated = replace(measured, measured=date.today().isoformat(), busy=busy)
    with contextlib.suppress(OSError, ModelError):  # a memory that cannot be written only costs time
        write_sealed(_place(design), {"about": _about(design), "speed": asdict(dated)})
    return dated


def _speed(entry: dict[str, Any]) -> Speed:
    return Speed(**entry["speed"])


def _place(design: Design) -> Path:
    return cache_folder() / "speeds" / f"{fingerprint(_about(design), length=32)}.json"


def _about(design: Design) -> dict[str, Any]:
    """All that decides the speed of the design's longest run."""
    longest = _longest(design)
    run, settings = longest.run, longest.run.arm.training
    requests = longest.requests
    asked = [part for part in (requests.questions, requests.prompts, requests.losses) if part]
    return {
        "model": design.prepared.models[run.arm.model].model.fingerprint,
        "numerics": plain(run.numerics),
        "machine": machine_name(run.numerics.device),
        "backend": run.backend,
        "titrant": __version__,
        "method": settings.method,
        "lora": plain(settings.lora),
        # Speed hardly moves while lengths stay within a factor of two, and exact figures would measure every dose anew.
        "step_tokens": _size_class(run.tokens / run.steps),
        "longest_row": _size_class(max(len(row.ids) for row in longest.plan.rows) if longest.plan else 1),
        "asked": [type(part[0]).__name__ for part in asked],
        "request_tokens": _size_class(requests.tokens / max(len(requests.names), 1)),
    }


def _size_class(tokens: float) -> int:
    """The nearest power of two, as its exponent.

    >>> _size_class(60), _size_class(70), _size_class(120)
    (6, 6, 7)
    """
    return round(math.log2(max(tokens, 1.0)))


def _longest(design: Design) -> PlannedRun:
    trainings = (planned for planned in design.distinct if planned.run.steps)
    return max(trainings, key=lambda planned: planned.run.tokens)


# ----------------------------------------------------------------------------------------------------------- measuring


def measure(design: Design, backend: BackendSpec) -> Speed | None:
    """Speed and peak memory, in a worker of its own and a store that is thrown away.

    Measured on a few steps of the longest run with one answer, and on the untuned model with one answer and with many.
    """
    whole = job_of(_longest(design), design.prepared)
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
    return Speed(
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
