"""Runs in worker processes: equal results however many, failures that stay failures, and deaths that lose nothing."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_jobs import make_jobs
from fake_study import trainings, trial_backend

from titrant.backends.fake import FakeLanguageModel
from titrant.core.errors import Interrupted, RunFailed
from titrant.engines import BackendSpec, Event, execute
from titrant.engines.job import do_run, read_training
from titrant.storage.json_files import read_json
from titrant.storage.store import Store

FORKS = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # Python 3.12 and up


def run_files(root: Path) -> dict[str, bytes]:
    """Every file of the run folders but the times, and the ledger as a set of lines."""
    found = {
        str(path.relative_to(root)): path.read_bytes()
        for path in (root / "runs").rglob("*")
        if path.is_file() and path.name != "timing.json"
    }
    lines = (root / "ledger.jsonl").read_bytes().split(b"\n")
    return found | {"ledger": b"\n".join(sorted(lines))}


@pytest.mark.parametrize("processes", [1, 2])
def test_workers_leave_what_a_run_in_this_process_leaves_byte_for_byte(tmp_path: Path, processes: int) -> None:
    jobs = make_jobs(tmp_path)
    execute(jobs, root=tmp_path / "inline", backend=trial_backend(), processes=0)
    execute(jobs, root=tmp_path / "spawned", backend=trial_backend(), processes=processes)
    inline = run_files(tmp_path / "inline")
    assert run_files(tmp_path / "spawned") == inline
    assert len(inline) == 1 + 4 * 3 + 3  # ledger; run, answers, manifest of four runs; three training curves
    assert Store.open(tmp_path / "spawned").damages() == []


def test_a_run_tells_of_its_steps_and_stores_what_it_answered(tmp_path: Path) -> None:
    jobs, events = make_jobs(tmp_path, seeds=1), list[Event]()
    backend = BackendSpec(module="titrant.backends.fake", name="FakeBackend")
    execute(jobs, root=tmp_path / "out", backend=backend, processes=0, on_event=events.append)
    mine = [event for event in events if event.run_id == jobs[1].run.run_id]
    assert [event.kind for event in mine] == ["started", *["step"] * 4, "answering", "done"]
    folder = tmp_path / "out" / "runs" / jobs[1].run.run_id
    steps = read_training(folder)
    assert [step["step"] for step in steps] == [1, 2, 3, 4]
    assert all("seconds" not in step for step in steps)
    assert read_json(folder / "run.json")["steps"] == 4
    import pyarrow.parquet

    answers = pyarrow.parquet.read_table(folder / "answers.parquet").to_pylist()
    assert [row["request"] for row in answers] == ["l", "p", "q0", "q1", "q2", "q3", "q4"]
    for row in answers[2:]:
        assert row["choice"] == max((0, 1), key=lambda choice, row=row: row["choice_logprobs"][choice])
    assert not (tmp_path / "out" / "work" / jobs[1].run.run_id).exists()


def test_a_run_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    jobs, log = make_jobs(tmp_path), tmp_path / "log"
    for _ in range(2):
        execute(jobs, root=tmp_path / "out", backend=trial_backend(log=str(log)), processes=0)
    assert trainings(log) == ["task/0", "task/1", "task/2"]


def test_a_run_whose_folder_is_there_but_not_in_the_ledger_is_done_again(tmp_path: Path) -> None:
    jobs, log = make_jobs(tmp_path, seeds=1), tmp_path / "log"
    execute(jobs, root=tmp_path / "out", backend=trial_backend(), processes=0)
    calm = run_files(tmp_path / "out")
    (tmp_path / "out" / "ledger.jsonl").unlink()
    execute(jobs, root=tmp_path / "out", backend=trial_backend(log=str(log)), processes=0)
    assert trainings(log) == ["task/0"]
    assert run_files(tmp_path / "out") == calm


# ------------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize("processes", [0, 1])
def test_a_loss_that_is_no_number_is_a_failure_with_a_reason_and_is_not_tried_again(
    tmp_path: Path, processes: int
) -> None:
    jobs, log, events = make_jobs(tmp_path), tmp_path / "log", list[Event]()
    backend = trial_backend(log=str(log), fails={"kind": "non_finite", "seed": 1})
    for count in (processes, 0):
        execute(jobs, root=tmp_path / "out", backend=backend, processes=count, on_event=events.append)
    store = Store.open(tmp_path / "out")
    broken = jobs[2].run.run_id
    failures = [record for record in store.records() if record["kind"] == "failure"]
    assert [(record["run_id"], record["failure"]) for record in failures] == [
        (broken, {"kind": "non_finite", "step": 2, "message": "as the test asked"})
    ]
    assert set(store.finished()) == {job.run.run_id for job in jobs} - {broken}
    assert not store.run_folder(broken).exists()
    assert trainings(log, "start") == ["task/0", "task/1", "task/2"]
    assert [event.message for event in events if event.kind == "failed"] == ["non_finite at step 2: as the test asked"]


@pytest.mark.parametrize("asked", ["loglikelihood", "losses"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_answers_that_are_no_numbers_fail_the_run_whatever_the_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, value: float
) -> None:
    jobs = make_jobs(tmp_path, seeds=1)
    plain = getattr(FakeLanguageModel, asked)

    def diverged(self: FakeLanguageModel, asked_of_it: Any) -> Any:
        found = list(plain(self, asked_of_it))
        found[-1] = (value, value) if asked == "loglikelihood" else value
        return tuple(found)

    monkeypatch.setattr(FakeLanguageModel, asked, diverged)
    execute(jobs, root=tmp_path / "out", backend=trial_backend(), processes=0)
    store = Store.open(tmp_path / "out")
    assert store.finished() == {}
    assert {record["failure"]["kind"] for record in store.records()} == {"non_finite"}


@pytest.mark.parametrize("asked", ["loglikelihood", "generate", "losses"])
@pytest.mark.parametrize("change", [lambda found: found[:-1], lambda found: (*found, found[-1])])
def test_a_run_with_an_answer_too_few_or_too_many_is_not_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, change: Callable[[Any], Any]
) -> None:
    jobs = make_jobs(tmp_path, seeds=1)
    plain = getattr(FakeLanguageModel, asked)
    monkeypatch.setattr(FakeLanguageModel, asked, lambda self, asked_of_it: change(plain(self, asked_of_it)))
    with pytest.raises(ValueError, match="zip"):
        execute(jobs, root=tmp_path / "out", backend=trial_backend(), processes=0)
    assert Store.open(tmp_path / "out").records() == []


def test_a_step_report_that_is_not_as_it_was_written_is_made_anew_and_never_shown(tmp_path: Path) -> None:
    jobs, log = make_jobs(tmp_path, seeds=1)[1:], tmp_path / "log"
    execute(jobs, root=tmp_path / "calm", backend=trial_backend(), processes=0)
    backend = trial_backend(log=str(log), dies={"how": "exit", "once": str(tmp_path / "died")})
    with pytest.raises(RunFailed, match="worker_died"):
        execute(jobs, root=tmp_path / "out", backend=backend, processes=1)
    reports = tmp_path / "out" / "work" / jobs[0].run.run_id / "steps.jsonl"
    whole = reports.read_bytes()
    assert whole.count(b"\n") == 2
    place = whole.index(b'"loss":') + 9
    reports.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] + b'{"record":{"torn')
    execute(jobs, root=tmp_path / "out", backend=backend, processes=0)
    assert run_files(tmp_path / "out") == run_files(tmp_path / "calm")


def test_a_run_that_ran_out_of_memory_is_tried_again(tmp_path: Path) -> None:
    jobs, log, room = make_jobs(tmp_path), tmp_path / "log", tmp_path / "room"
    backend = trial_backend(log=str(log), fails={"kind": "out_of_memory", "seed": 1, "unless": str(room)})
    execute(jobs, root=tmp_path / "out", backend=backend, processes=0)
    assert len(Store.open(tmp_path / "out").finished()) == 3
    room.touch()
    execute(jobs, root=tmp_path / "out", backend=backend, processes=0)
    assert len(Store.open(tmp_path / "out").finished()) == 4
    assert trainings(log) == ["task/0", "task/1", "task/2"]


def test_an_error_of_a_worker_comes_out_as_it_was(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path, seeds=1)
    with pytest.raises(RunFailed, match="unexpected: ModuleNotFoundError: No module named 'no_lab'") as caught:
        execute(jobs, root=tmp_path / "out", backend=BackendSpec(module="no_lab", name="Backend"), processes=1)
    assert (caught.value.kind, caught.value.step) == ("unexpected", None)
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    with pytest.raises(OSError, match="Not a directory"):
        execute(jobs, root=in_the_way / "out", backend=trial_backend(), processes=1)


# --------------------------------------------------------------------------------------------------------------- deaths


@pytest.mark.parametrize(("how", "hint"), [("exit", "exit code 7"), ("kill", "perhaps because memory ran out")])
def test_a_worker_that_dies_is_named_and_the_next_attempt_completes(tmp_path: Path, how: str, hint: str) -> None:
    jobs, log = make_jobs(tmp_path), tmp_path / "log"
    execute(jobs, root=tmp_path / "calm", backend=trial_backend(), processes=0)
    backend = trial_backend(log=str(log), dies={"how": how, "once": str(tmp_path / "died")})
    with pytest.raises(RunFailed, match=f"worker_died: .*{hint}"):
        execute(jobs, root=tmp_path / "out", backend=backend, processes=1)
    assert Store.open(tmp_path / "out").damages() == []
    execute(jobs, root=tmp_path / "out", backend=backend, processes=0)
    assert run_files(tmp_path / "out") == run_files(tmp_path / "calm")
    assert trainings(log) == ["task/0", "task/1", "task/2"]


def test_the_other_worker_takes_over_what_a_dead_one_held(tmp_path: Path) -> None:
    jobs, log = make_jobs(tmp_path), tmp_path / "log"
    execute(jobs, root=tmp_path / "calm", backend=trial_backend(), processes=0)
    backend = trial_backend(log=str(log), step_seconds=0.05, dies={"how": "kill", "once": str(tmp_path / "died")})
    with pytest.raises(RunFailed, match="worker_died"):
        execute(jobs, root=tmp_path / "out", backend=backend, processes=2)
    assert run_files(tmp_path / "out") == run_files(tmp_path / "calm")
    assert trainings(log) == ["task/0", "task/1", "task/2"]


@pytest.fixture
def fork() -> Iterator[Callable[[Callable[[], None]], int]]:
    """Do something in a forked child of this process; its process id. Children that are left are ended."""
    children: list[int] = []

    def start(action: Callable[[], None]) -> int:
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                action()
                os._exit(0)
            os._exit(9)
        children.append(child)
        return child

    yield start
    for child in children:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


@FORKS
def test_two_runners_on_one_store_do_each_run_once(tmp_path: Path, fork: Callable[..., int]) -> None:
    jobs, log = make_jobs(tmp_path, seeds=5), tmp_path / "log"
    backend = trial_backend(log=str(log), step_seconds=0.01)
    execute(jobs, root=tmp_path / "calm", backend=trial_backend(), processes=0)
    orders = (jobs, jobs[::-1])  # so that each comes to runs that the other has done in the meantime
    children = [
        fork(lambda order=order: execute(order, root=tmp_path / "out", backend=backend, processes=0))
        for order in orders
    ]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert Counter(trainings(log, "start")) == {f"task/{seed}": 1 for seed in range(5)}
    assert run_files(tmp_path / "out") == run_files(tmp_path / "calm")


@FORKS
def test_the_claim_of_a_living_process_is_waited_for_and_that_of_a_dead_one_taken_over(
    tmp_path: Path, fork: Callable[..., int]
) -> None:
    jobs, log = make_jobs(tmp_path, seeds=1)[1:], tmp_path / "log"
    slow = trial_backend(log=str(log), step_seconds=60)
    holder = fork(lambda: execute(jobs, root=tmp_path / "out", backend=slow, processes=0))
    wait_for(lambda: trainings(log, "step1"))
    other = fork(lambda: execute(jobs, root=tmp_path / "out", backend=trial_backend(log=str(log)), processes=0))
    time.sleep(0.6)
    assert trainings(log, "start") == ["task/0"]
    os.kill(holder, signal.SIGKILL)
    assert os.waitpid(other, 0)[1] == 0
    assert trainings(log, "start") == ["task/0", "task/0"]
    assert trainings(log, "step1") == ["task/0"]  # the other went on from the first one's checkpoint
    assert len(Store.open(tmp_path / "out").finished()) == 1


# -------------------------------------------------------------------------------------------------------------- signals


def wait_for(condition: Callable[[], object], seconds: float = 120.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_a_checkpoint_and_the_next_attempt_goes_on_from_it(
    tmp_path: Path, number: signal.Signals
) -> None:
    jobs, log = make_jobs(tmp_path), tmp_path / "log"
    execute(jobs, root=tmp_path / "calm", backend=trial_backend(), processes=0)
    kept = signal.getsignal(number)

    def stop_at_step_two(event: Event) -> None:
        if event.kind == "step" and event.step == 2:
            os.kill(os.getpid(), number)

    backend = trial_backend(log=str(log), step_seconds=0.3, checkpoints=False)
    with pytest.raises(Interrupted) as caught:
        execute(jobs, root=tmp_path / "out", backend=backend, processes=1, on_event=stop_at_step_two)
    assert caught.value.exit_code == 128 + number
    assert signal.getsignal(number) is kept
    store = Store.open(tmp_path / "out")
    begun = [job.run.run_id for job in jobs if (store.work_folder(job.run.run_id) / "step.json").exists()]
    assert len(begun) == 1
    assert begun[0] not in store.finished()
    with store.claim(begun[0]) as free:
        assert free
    execute(jobs, root=tmp_path / "out", backend=trial_backend(log=str(log)), processes=0)
    assert run_files(tmp_path / "out") == run_files(tmp_path / "calm")
    assert trainings(log, "step2") == ["task/0", "task/1", "task/2"]  # no step was taken twice


@pytest.mark.parametrize("kind", ["questions", "prompts", "losses"])
def test_a_signal_while_a_run_answers_leaves_its_training_done(tmp_path: Path, kind: str) -> None:
    job = make_jobs(tmp_path, seeds=1)[1]
    job = replace(job, **{other: () for other in ("questions", "prompts", "losses") if other != kind})
    store, log, told = Store.open(tmp_path / "out"), tmp_path / "log", list[Event]()
    run = {
        "store": store,
        "backend": trial_backend(log=str(log), checkpoints=False).make(),
        "decode": str,
        "emit": told.append,
    }
    with pytest.raises(Interrupted):
        do_run(job, **run, stop=lambda: 15 if told[-1].kind == "answering" else None)
    assert (trainings(log, "step4"), list(store.finished())) == (["task/0"], [])
    do_run(job, **run, stop=lambda: None)
    assert trainings(log, "step4") == ["task/0"]
    do_run(job, **{**run, "store": Store.open(tmp_path / "calm")}, stop=lambda: None)
    assert run_files(tmp_path / "out") == run_files(tmp_path / "calm")


# ---------------------------------------------------------------------------------------- outside the main thread


def in_a_thread(work: Callable[[], object]) -> BaseException | None:
    """Do it in another thread; what it raised."""
    raised: list[BaseException] = []

    def go() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  (handed back to the test)
            raised.append(error)

    thread = threading.Thread(target=go)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    return raised[0] if raised else None


@pytest.mark.parametrize("processes", [0, 1, 2])
def test_runs_are_done_outside_the_main_thread_too(tmp_path: Path, processes: int) -> None:
    jobs = make_jobs(tmp_path)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    execute(jobs, root=tmp_path / "calm", backend=trial_backend(), processes=0)

    def work() -> None:
        execute(jobs, root=tmp_path / "out", backend=trial_backend(), processes=processes)

    assert in_a_thread(work) is None
    assert run_files(tmp_path / "out") == run_files(tmp_path / "calm")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_signal_to_a_worker_of_a_thread_is_an_interruption_and_not_an_end(tmp_path: Path) -> None:
    jobs, log = make_jobs(tmp_path), tmp_path / "log"

    def stop_the_worker(event: Event) -> None:
        if event.kind == "step" and event.step == 2:
            for child in multiprocessing.active_children():
                os.kill(int(child.pid or 0), signal.SIGTERM)

    def work() -> None:
        backend = trial_backend(log=str(log), step_seconds=0.3, checkpoints=False)
        execute(jobs, root=tmp_path / "out", backend=backend, processes=1, on_event=stop_the_worker)

    raised = in_a_thread(work)
    assert isinstance(raised, Interrupted)
    assert raised.signal_number == signal.SIGTERM
    execute(jobs, root=tmp_path / "out", backend=trial_backend(log=str(log)), processes=0)
    assert trainings(log, "step2") == ["task/0", "task/1", "task/2"]  # no step was taken twice
