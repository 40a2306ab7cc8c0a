"""Which cores and which GPU each worker process gets, and in what order runs are taken.

With one run a GPU, and as many workers as the cores carry, processes that the system moves about lose their caches and
wait for each other; so each stays where it is put. Where workers leave cores free nothing is pinned: another runner may
share the machine, and would be pinned to the same cores.
"""

from __future__ import annotations

import bisect
import heapq
import os
from collections.abc import Sequence
from dataclasses import dataclass

_MOST_SWAPS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlace:
    """Where a worker runs. `cores` empty: wherever the system puts it. `gpu`: the only one that it may see."""

    cores: tuple[int, ...] = ()
    gpu: str | None = None

    def take(self) -> None:
        """Put this process here; before anything starts a thread or looks for a GPU."""
        if self.cores:
            # Threads inherit the affinity of the one that starts them, and libraries count cores when they are
            # imported.
            os.sched_setaffinity(0, self.cores)
        if self.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu


def places(workers: int, *, threads: int, cores: Sequence[int], gpus: Sequence[str] = ()) -> tuple[WorkerPlace, ...]:
    """A place for each worker: GPUs in turn; `threads` cores each where the workers use all of `cores`.

    >>> [place.cores for place in places(2, threads=1, cores=[0, 1])]
    [(0,), (1,)]
    >>> [place.gpu for place in places(3, threads=1, cores=[0, 1, 2, 3, 4], gpus=["0", "1"])]
    ['0', '1', '0']
    """
    # Pinned only where the workers fill the machine: no core short, and not room for one more.
    fits = workers * threads <= len(cores) < (workers + 1) * threads
    return tuple(
        WorkerPlace(
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


def balanced_order(costs: Sequence[float], workers: int) -> tuple[int, ...]:
    """The order in which workers, each taking the next run when it is free, end as nearly at once as can be.

    Long runs come first, so that a wrong estimate does little harm; where few runs are left over for many workers, runs
    change places until that helps no more.

    >>> balanced_order([4, 5, 4, 3, 5, 3, 2], workers=2)  # 5 + 5 + 3 beside 4 + 4 + 3 + 2: longest first ends at 14
    (1, 0, 2, 4, 3, 5, 6)
    """
    longest_first = sorted(range(len(costs)), key=lambda run: (-costs[run], run))
    # Longest first onto the emptiest worker ends within a third of the best; exchanges between the fullest and the
    # emptiest then even out what is left.
    parts: list[list[int]] = [[] for _ in range(workers)]
    sums = [(0.0, worker) for worker in range(workers)]
    for run in longest_first:
        total, worker = sums[0]
        parts[worker].append(run)
        heapq.heapreplace(sums, (total + costs[run], worker))
    for _ in range(_MOST_SWAPS):
        if not _evened(parts, costs):
            break
    # Workers take runs from one list, so the parts are merged by when each run would start.
    starts = []
    for part in parts:
        start = 0.0
        for run in sorted(part, key=lambda run: (-costs[run], run)):
            starts.append((start, -costs[run], run))
            start += costs[run]
    return tuple(run for _, _, run in sorted(starts))


def _evened(parts: list[list[int]], costs: Sequence[float]) -> bool:
    """Let the fullest part give the emptiest a run, for a shorter one or for none, so that they are as even as one such
    change makes them; False where none helps."""
    by_sum = sorted(parts, key=lambda part: sum(costs[run] for run in part))
    emptiest, fullest = by_sum[0], by_sum[-1]
    gap = sum(costs[run] for run in fullest) - sum(costs[run] for run in emptiest)
    others: list[int | None] = [None, *sorted(emptiest, key=lambda run: costs[run])]
    values = [0.0 if run is None else costs[run] for run in others]
    best, change = abs(gap), None
    for run in fullest:
        # Moving a run of cost c for one of cost v closes the gap by 2 (c - v), which is best at v = c - gap / 2: only
        # its two neighbours in sorted order can be the best partner.
        near = bisect.bisect_left(values, costs[run] - gap / 2)
        for place in (near - 1, near):
            if 0 <= place < len(values):
                left = abs(gap - 2 * (costs[run] - values[place]))
                # A gain within rounding is none: two parts would else hand the same runs back and forth.
                if left < best * (1 - 1e-9):
                    best, change = left, (run, others[place])
    if change is None:
        return False
    given, taken = change
    fullest.remove(given)
    emptiest.append(given)
    if taken is not None:
        emptiest.remove(taken)
        fullest.append(taken)
    return True
