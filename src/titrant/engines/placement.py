"""Which cores and which GPU each worker process gets.

With one run a GPU, and as many workers as the cores carry, processes that the system moves about lose their caches and
wait for each other; so each stays where it is put. Where workers leave cores free nothing is pinned: another runner may
share the machine, and would be pinned to the same cores.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a worker runs. `cores` empty: wherever the system puts it. `gpu`: the only one that it may see."""

    cores: tuple[int, ...] = ()
    gpu: str | None = None

    def take(self) -> None:
        """Put this process here; before anything starts a thread or looks for a GPU."""
        if self.cores:
            os.sched_setaffinity(0, self.cores)
        if self.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu


def places(workers: int, *, threads: int, cores: Sequence[int], gpus: Sequence[str] = ()) -> tuple[Place, ...]:
    """A place for each worker: GPUs in turn; `threads` cores each where the workers use all of `cores`.

    >>> [place.cores for place in places(2, threads=1, cores=[0, 1])]
    [(0,), (1,)]
    >>> [place.gpu for place in places(3, threads=1, cores=[0, 1, 2, 3, 4], gpus=["0", "1"])]
    ['0', '1', '0']
    """
    fits = workers * threads <= len(cores) < (workers + 1) * threads
    return tuple(
        Place(
            cores=tuple(cores[number * threads : (number + 1) * threads]) if fits else (),
            gpu=gpus[number % len(gpus)] if gpus else None,
        )
        for number in range(workers)
    )


def workers_for(runs: int, *, threads: int, cores: int, gpus: int, memory_bytes: int, run_bytes: int) -> int:
    """How many workers: one a GPU where there are any, else as many as cores and memory carry; never more than runs.

    >>> workers_for(9, threads=1, cores=8, gpus=0, memory_bytes=10, run_bytes=3)
    3
    >>> workers_for(9, threads=4, cores=8, gpus=2, memory_bytes=10, run_bytes=3)
    2
    """
    most = gpus or min(cores // threads, memory_bytes // max(run_bytes, 1))
    return max(1, min(most, runs))
