"""Whole studies that are killed, stopped, or run out of disk, in processes of their own: nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_study import calm_content, fake_prepare, page_as_text, trainings, trial_backend, without_times, write_study

from titrant import api
from titrant.config.study import load_study
from titrant.storage.store import Store

SUPPORT = Path(__file__).parents[1] / "support"
BreakStudy = Callable[..., dict[str, Any]]
SMALL = {"arms": {"target_rows": [6], "doses": {"general": [4]}, "seeds": 1}, "train": 6, "test": 6, "pool": 6}
HALF = {"passes": 2, "batch_rows": 4, "max_tokens": 400, "learning_rate": 1e-3}


def wait_for(condition: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


# ---------------------------------------------------------------------------------------------------------------- kills


def test_killed_while_training_tidying_up_and_reporting_a_study_ends_as_a_calm_one(
    roomy: Path, break_study: BreakStudy
) -> None:
    # first file; training; tidying up; results
    found = break_study("kill", roomy, "write:1,40,removal:1,-8", **SMALL)
    assert {"write", "fsync", "rename", "folder", "removal"} == set(found["operations"])
    assert len(found["operations"]) > 200
    assert found["wrong"] == {}
    assert found["broken"] == 4


def test_killed_in_a_real_training_the_weights_come_out_the_same_bit_for_bit(
    roomy: Path, break_study: BreakStudy
) -> None:
    found = break_study(
        "kill", roomy, "31,-50,0.4", real=True, training=HALF
    )  # at a checkpoint; at a model's weights; at any time
    assert found["wrong"] == {}
    assert found["broken"] == 3
    assert sum(name.startswith("weights/") and name.endswith("model.safetensors") for name in found["files"]) == 4


def test_an_operation_that_fails_in_a_study_loses_nothing(roomy: Path, break_study: BreakStudy) -> None:
    found = break_study("fail", roomy, "spread:4,rename:3,fsync:-1,removal:1,write:-1,write:-3,write:-6", **SMALL)
    assert found["wrong"] == {}
    assert found["broken"] == 10


# -------------------------------------------------------------------------------------------------------------- signals


@pytest.fixture
def run_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Run a study to its end in this process, as `Process` would in another; its folder of results."""
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    monkeypatch.setattr("titrant.report.page.render", page_as_text)

    def run(study: Path, out: Path, **backend: Any) -> Path:
        results = api.run_study(load_study(study), out=out, jobs=0, backend=trial_backend(**backend))
        assert results.failed == ()
        return out

    return run


class Process:
    """A `titrant` with the toy model and a trial backend."""

    def __init__(self, folder: Path, *arguments: str, **trial: Any) -> None:
        said = json.dumps({"prepared": str(folder / "prepared"), **trial})
        self.process = subprocess.Popen(
            [sys.executable, str(SUPPORT / "titrant_with_fakes.py"), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TITRANT_TRIAL": said},
            cwd=folder,
            start_new_session=True,
        )

    def stop(self, number: signal.Signals) -> None:
        """Send a signal as it comes: SIGTERM to the process, Ctrl-C to all of its group."""
        if number == signal.SIGINT:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def ended(self) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        out, err = self.process.communicate(timeout=120)
        return self.process.returncode, out, err


def steps_taken(log: Path) -> int:
    return sum(line.startswith("step") for line in log.read_text().splitlines()) if log.exists() else 0


def test_stopped_twice_a_study_leaves_checkpoints_and_then_ends_as_a_calm_one(
    tmp_path: Path, run_here: Callable[..., Path]
) -> None:
    study, log, out = write_study(tmp_path / "study"), tmp_path / "log", tmp_path / "out"
    run = ("run", str(study), "--out", str(out), "--jobs", "1")
    held = tmp_path / "held"
    held.touch()  # so that the signal comes inside a training, however long it takes to arrive
    backend = {"log": str(log), "checkpoints": False, "holds": str(held)}
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        before = steps_taken(log)
        started = Process(tmp_path, *run, backend=backend)
        wait_for(lambda before=before: steps_taken(log) > before)
        started.stop(number)
        ended, printed, said = started.ended()
        assert ended == code, said
        assert printed == ""
        assert f"stopped by signal {int(number)}" in said
        assert "Traceback" not in said
        assert not (out / "verdict.json").exists()
        begun = [path.parent.name for path in (out / "work").glob("*/step.json")]
        assert begun
        store = Store.open(out)
        assert store.damages() == []
        for run_id in begun:
            assert run_id not in store.finished()
            with store.claim(run_id) as free:
                assert free
    run_here(study, out, log=str(log), checkpoints=False)
    assert steps_taken(log) == 2 * (3 + 4 + 4 + 1), (
        "a step was taken twice or not at all"
    )  # plain, matched, dosed, general
    calm = run_here(study, tmp_path / "calm")
    assert without_times(calm_content(out)) == without_times(calm_content(calm))


def test_a_worker_whose_parent_was_killed_stops_and_the_next_attempt_takes_over(
    tmp_path: Path, run_here: Callable[..., Path]
) -> None:
    study, log, out = write_study(tmp_path / "study"), tmp_path / "log", tmp_path / "out"
    run = ("run", str(study), "--out", str(out), "--jobs", "1")
    killed = Process(tmp_path, *run, backend={"log": str(log), "step_seconds": 0.2})
    wait_for(lambda: trainings(log, "step2"))
    killed.process.kill()
    run_here(study, out, log=str(log))  # at once, while the orphan may still work
    assert "Traceback" not in killed.ended()[2]
    done = trainings(log)
    assert done == sorted(["general/0", "general/1", "general+toy/0", "general+toy/1", *["toy/0", "toy/1"] * 2])
    assert Store(out).damages() == []


def test_a_signal_while_a_worker_starts_up_ends_without_a_traceback(tmp_path: Path) -> None:
    study, out = write_study(tmp_path / "study"), tmp_path / "out"
    started = Process(tmp_path, "run", str(study), "--out", str(out), "--jobs", "1", backend={})
    children = Path(f"/proc/{started.process.pid}/task/{started.process.pid}/children")
    wait_for(lambda: len(children.read_text().split()) == 2)  # multiprocessing's own, and a worker that is starting up
    worker = children.read_text().split()[-1]
    status = Path(f"/proc/{worker}/status").read_text()
    blocked = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk")), 16)
    for number in (signal.SIGINT, signal.SIGTERM):
        assert blocked >> (number - 1) & 1, "a signal now would kill the worker in the middle of its imports"
    started.stop(signal.SIGINT)
    code, printed, said = started.ended()
    assert (code, printed) == (130, ""), said
    assert "Traceback" not in said


def test_two_command_lines_on_one_folder_share_the_work(tmp_path: Path) -> None:
    study, log, out = write_study(tmp_path / "study"), tmp_path / "log", tmp_path / "out"
    run = ("run", str(study), "--out", str(out), "--jobs", "1")
    both = [Process(tmp_path, *run, backend={"log": str(log), "step_seconds": 0.05}) for _ in range(2)]
    ends = [process.ended() for process in both]
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert ends[0][1] == ends[1][1]
    assert trainings(log) == sorted(
        ["general/0", "general/1", "general+toy/0", "general+toy/1", *["toy/0", "toy/1"] * 2]
    )
    assert Store(out).damages() == []


# ------------------------------------------------------------------------------------------------------------ disk full

LIMITS = {
    "answers": (2_000, {}, "answers.parquet"),
    "weights": (60_000, {"saved_bytes": 200_000}, "model.safetensors"),
    "report": (12_000, {}, "report.html"),
}


@pytest.mark.parametrize("what", LIMITS)
def test_a_full_disk_is_said_leaves_nothing_half_and_is_got_over(
    tmp_path: Path, run_here: Callable[..., Path], what: str
) -> None:
    limit, backend, named = LIMITS[what]
    study, out = write_study(tmp_path / "study"), tmp_path / "out"
    run = ("run", str(study), "--out", str(out), "--jobs", "1")
    code, printed, said = Process(tmp_path, *run, backend=backend, file_bytes=limit).ended()
    assert (code, printed) == (1, ""), said
    assert "titrant: File too large" in said
    assert "Traceback" not in said
    store = Store.open(out)
    assert store.damages() == []
    assert not list(out.rglob(named))
    assert not (out / "model").exists()
    assert not [path for path in out.rglob(".tmp-*") if path.is_file() and path.stat().st_size > 1000]
    assert len(store.finished()) == {"answers": 0, "weights": 0, "report": 9}[what]
    run_here(study, out, **backend)
    assert store.damages() == []
    assert not list(out.rglob(".tmp-*"))
