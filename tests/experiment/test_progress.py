"""What people see of a run: bars in a terminal, lines in a file, nothing where nobody asked."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from titrant.core.records import Arm, TrainingSettings
from titrant.engines import Event
from titrant.experiment.progress import LineReporter, TerminalReporter, reporter_of
from titrant.experiment.runner import Callbacks


@dataclass
class ToyRun:
    run_id: str
    seed: int
    tokens: int = 100
    arm: Arm = field(
        default_factory=lambda: Arm(
            name="6+general:4", model="m", target="toy", target_rows=6, doses=(), training=TrainingSettings()
        )
    )


@dataclass
class Planned:
    run: ToyRun
    requests: Any = field(default_factory=lambda: type("Requests", (), {"tokens": 10}))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


RUNS: Any = [Planned(ToyRun(f"r{seed}", seed)) for seed in range(3)]
EVENTS = [
    Event(kind="started", run_id="r0", steps=2),
    Event(kind="started", run_id="r1", steps=2),
    Event(kind="step", run_id="r0", step=1, steps=2, loss=2.0, tokens=50, seconds=0.5),
    Event(kind="answering", run_id="r0", step=2, steps=2),
    Event(kind="done", run_id="r0", step=2, steps=2),
    Event(kind="failed", run_id="r1", message="[bold]non_finite[/bold]: the loss"),
    Event(kind="done", run_id="never begun"),
]


def told(reporter: Any) -> None:
    reporter.say("preparing [the] model")
    reporter.stage(RUNS, {"r2"})
    for event in EVENTS:
        reporter.event(event)
    reporter.close()


def test_lines_say_what_begins_and_how_it_ends() -> None:
    stream = io.StringIO()
    told(LineReporter(stream))
    lines = [re.sub(r"\d+ s,", "0 s,", line) for line in stream.getvalue().splitlines()]
    assert lines == [
        "titrant: preparing [the] model",
        "titrant: 2 of 3 runs to do, 1 done before",
        "[2/3] toy 6+general:4 seed 0: done in 0 s, last loss 2.000, 100 tokens/s",
        "[3/3] toy 6+general:4 seed 1: FAILED ([bold]non_finite[/bold]: the loss) in 0 s",
    ]


def test_a_run_under_way_when_the_next_are_named_counts_in_their_stage() -> None:
    stream = io.StringIO()
    reporter = LineReporter(stream)
    reporter.stage(RUNS[:1], set())
    reporter.event(Event(kind="started", run_id="r0", steps=2))
    reporter.stage(RUNS[1:], set())
    reporter.event(Event(kind="done", run_id="r0", step=2, steps=2))
    for run_id in ("r1", "r2"):
        reporter.event(Event(kind="started", run_id=run_id, steps=2))
        reporter.event(Event(kind="done", run_id=run_id, step=2, steps=2))
    reporter.close()
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["titrant: 1 of 1 runs to do", "titrant: 3 of 3 runs to do"]
    assert [line.split("]")[0] for line in lines[2:]] == ["[1/3", "[2/3", "[3/3"]


def test_a_terminal_shows_the_same_lines_above_bars_and_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    told(TerminalReporter(stream))
    written = stream.getvalue()
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written)
    for line in (
        "titrant: preparing [the] model",
        "[2/3] toy 6+general:4 seed 0: done in",
        "FAILED ([bold]non_finite[/bold]: the loss)",
    ):
        assert line in plain
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1  # the cursor is hidden, and shown again


def test_a_caller_is_heard_and_a_pipe_hears_nothing() -> None:
    heard: list[Event] = []
    reporter_of(heard.append).event(EVENTS[0])
    assert heard == EVENTS[:1]
    own = LineReporter(io.StringIO())
    assert reporter_of(own) is own
    assert isinstance(reporter_of(None, stream=io.StringIO()), Callbacks)
    assert isinstance(reporter_of(None, stream=Terminal()), TerminalReporter)
