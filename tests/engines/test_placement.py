"""Workers stay where they are put, one run on each GPU, and threads never follow the number of workers."""

from __future__ import annotations

import heapq
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_jobs import make_jobs
from hypothesis import given
from hypothesis import strategies as st

from titrant.engines import BackendSpec, execute, local
from titrant.engines.placement import WorkerPlace, balanced_order, places, workers_for


@given(
    workers=st.integers(1, 9),
    threads=st.integers(1, 5),
    cores=st.lists(st.integers(0, 64), min_size=1, max_size=20, unique=True),
    gpus=st.lists(st.sampled_from("0123"), max_size=4, unique=True),
)
def test_no_core_is_given_twice_and_gpus_are_shared_evenly(
    workers: int, threads: int, cores: list[int], gpus: list[str]
) -> None:
    found = places(workers, threads=threads, cores=cores, gpus=gpus)
    assert len(found) == workers
    given_cores = [core for place in found for core in place.cores]
    assert len(given_cores) == len(set(given_cores))
    assert set(given_cores) <= set(cores)
    assert {len(place.cores) for place in found} in ({0}, {threads})
    counts = [sum(place.gpu == gpu for place in found) for gpu in gpus]
    assert not gpus or (sum(counts) == workers and max(counts) - min(counts) <= 1)


def test_workers_that_leave_a_core_free_are_not_pinned() -> None:
    assert [place.cores for place in places(2, threads=1, cores=[0, 1, 2])] == [(), ()]
    assert [place.cores for place in places(3, threads=1, cores=[4, 5, 6])] == [(4,), (5,), (6,)]
    assert [place.cores for place in places(1, threads=2, cores=[0, 1, 2])] == [(0, 1)]
    assert [place.cores for place in places(3, threads=1, cores=[0, 1])] == [(), (), ()]


def test_a_worker_a_gpu_and_one_where_memory_is_short() -> None:
    plenty = {"memory_bytes": 1 << 40, "run_bytes": 1 << 30}
    assert workers_for(20, threads=1, cores=16, gpus=4, **plenty) == 4
    assert workers_for(3, threads=1, cores=16, gpus=4, **plenty) == 3
    assert workers_for(20, threads=2, cores=5, gpus=0, **plenty) == 2
    assert workers_for(20, threads=1, cores=8, gpus=0, memory_bytes=1 << 20, run_bytes=1 << 30) == 1


def end_of(order: Sequence[int], costs: Sequence[float], workers: int) -> float:
    free = [0.0] * workers
    for run in order:
        heapq.heapreplace(free, free[0] + costs[run])
    return max(free)


@given(costs=st.lists(st.floats(0.1, 9.0), max_size=20), workers=st.integers(1, 5))
def test_every_run_is_taken_once_and_no_later_than_longest_first(costs: list[float], workers: int) -> None:
    order = balanced_order(costs, workers)
    assert sorted(order) == list(range(len(costs)))
    longest_first = sorted(range(len(costs)), key=lambda run: (-costs[run], run))
    assert end_of(order, costs, workers) <= end_of(longest_first, costs, workers) * (1 + 1e-9)
    assert workers > 1 or list(order) == longest_first


def test_twelve_trainings_in_pairs_and_an_untuned_run_end_together_on_two_workers() -> None:
    costs = [40, 40, 36, 36, 35, 35, 34, 34, 31, 31, 26, 26, 20]
    assert end_of(range(len(costs)), costs, 2) == 222  # longest first: equal pairs, and then one works alone
    assert end_of(balanced_order(costs, 2), costs, 2) == 212


def test_a_place_is_taken_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Any] = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: taken.append((pid, cores)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    WorkerPlace().take()
    assert (taken, os.environ["CUDA_VISIBLE_DEVICES"]) == ([], "0,1,2")
    WorkerPlace(cores=(3,), gpu="2").take()
    assert (taken, os.environ["CUDA_VISIBLE_DEVICES"]) == ([(0, (3,))], "2")


def test_workers_run_where_they_are_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers, told by fake places that each has a GPU and the first core of this process."""
    core = min(os.sched_getaffinity(0))
    chosen = (WorkerPlace(cores=(core,), gpu="GPU-a"), WorkerPlace(cores=(core,), gpu="GPU-b"))
    monkeypatch.setattr(local, "_places", lambda jobs, workers, device: chosen[:workers])
    told = tmp_path / "told"
    told.mkdir()
    backend = BackendSpec(module="fake_jobs", name="TellingBackend", arguments={"told": str(told), "step_seconds": 0.2})
    execute(make_jobs(tmp_path, seeds=4), root=tmp_path / "out", backend=backend, processes=2)
    found = [json.loads(path.read_text()) for path in told.iterdir()]
    assert sorted((tuple(one["cores"]), one["gpu"]) for one in found) == [((core,), "GPU-a"), ((core,), "GPU-b")]
    assert os.environ.get("CUDA_VISIBLE_DEVICES") not in ("GPU-a", "GPU-b")


def test_runs_on_gpus_are_placed_on_those_that_are_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    jobs = make_jobs(tmp_path)
    monkeypatch.setattr("titrant.core.environment.visible_gpus", lambda: ("0", "3"))
    assert {place.gpu for place in local._places(jobs, 2)} == {None}
    on_gpus = [replace(job, run=replace(job.run, numerics=replace(job.run.numerics, device="cuda"))) for job in jobs]
    assert [place.gpu for place in local._places(on_gpus, 3)] == ["0", "3", "0"]


def test_runs_on_a_gpu_that_is_named_are_all_placed_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    jobs = make_jobs(tmp_path)
    monkeypatch.setattr("titrant.core.environment._capabilities", lambda: (90, 90, 90))
    monkeypatch.setattr("titrant.core.environment._version", lambda name: "2.13.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    assert {place.gpu for place in local._places(jobs, 2, "cuda:1")} == {None}, "these runs are on the CPU"
    on_gpus = [replace(job, run=replace(job.run, numerics=replace(job.run.numerics, device="cuda"))) for job in jobs]
    assert [place.gpu for place in local._places(on_gpus, 2, "cuda:1")] == ["5", "5"]
    assert [place.gpu for place in local._places(on_gpus, 3, "cuda")] == ["4", "5", "6"]


def test_the_device_of_a_study_reaches_its_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fake_study import fake_prepare, write_study

    from titrant.config.study import load_study
    from titrant.experiment.prepare import prepare_study
    from titrant.experiment.runner import default_backend
    from titrant.experiment.work import jobs_for

    monkeypatch.setattr("titrant.core.environment._capabilities", lambda: (90, 90, 90))
    monkeypatch.setattr("titrant.core.environment._version", lambda name: "2.13.0")
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    found = []
    for device in ("cuda", "cuda:2"):
        prepared = prepare_study(load_study(write_study(tmp_path / "study", numerics={"device": device})))
        found.append((prepared.numerics.device, default_backend(prepared.study).device, jobs_for(prepared, "auto", 9)))
    assert found == [("cuda", "cuda", 3), ("cuda", "cuda:2", 1)]
