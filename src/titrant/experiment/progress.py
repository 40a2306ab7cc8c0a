"""Reporters for people: which run of how many, the loss, tokens per second, the time left.

`LineReporter` writes plain lines, for a pipe or a file; `TerminalReporter` draws a bar a worker with rich.
"""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Any, TextIO, cast

from titrant.engines import Event
from titrant.experiment.design import PlannedRun
from titrant.experiment.runner import Callbacks, Reporter

_QUIET_SECONDS = 15.0
_ANSWER_WEIGHT = 0.3  # a token that is only read costs about this much of one that is trained on


def reporter_of(reporter: Reporter | Callable[[Event], None] | None, *, stream: TextIO | None = None) -> Reporter:
    """What a caller means: their own reporter; their function, which gets every event; by default bars where stderr is
    a terminal, and silence where it is not."""
    if reporter is None:
        return TerminalReporter(stream) if (stream or sys.stderr).isatty() else Callbacks()
    if not hasattr(reporter, "event"):
        return Callbacks(event=reporter)
    return cast("Reporter", reporter)


@dataclass(slots=True)
class _Running:
    """What is known of one run in the making."""

    label: str
    started: float
    work: float
    step: int = 0
    steps: int = 0
    trained: float = 0.0
    loss: float | None = None
    rate: float = 0.0
    said: float = 0.0


class _Tally:
    """What a stage holds and how far it is: the same arithmetic for lines and for bars."""

    def __init__(self) -> None:
        self.running: dict[str, _Running] = {}
        self.total = self.done = 0
        self._labels: dict[str, str] = {}
        self._work: dict[str, float] = {}
        self._training: dict[str, float] = {}
        self._work_done = self._work_left = 0.0
        self._started: float | None = None

    def begin(self, runs: Sequence[PlannedRun], done: Set[str]) -> str:
        """Count a stage; what to say of it."""
        for planned in runs:
            run = planned.run
            seed = "" if run.arm.kind == "untuned" else f" seed {run.seed}"
            target = f"{run.arm.target} " if run.arm.target and run.arm.target not in run.arm.name else ""
            self._labels[run.run_id] = f"{target}{run.arm.name}{seed}"
            self._training[run.run_id] = float(run.tokens)
            self._work[run.run_id] = run.tokens + _ANSWER_WEIGHT * planned.requests.tokens
        # A staged study names its next runs while some are under way: these end in the new stage, and count in it.
        named = {planned.run.run_id for planned in runs}
        before = [running for run_id, running in self.running.items() if run_id not in named]
        self.total = len(runs) + len(before)
        self.done = sum(planned.run.run_id in done for planned in runs)
        self._work_done, self._started = 0.0, None
        self._work_left = sum(self._work[planned.run.run_id] for planned in runs if planned.run.run_id not in done)
        self._work_left += sum(running.work for running in before)
        left = self.total - self.done
        if not left:
            return f"all {self.total} runs are done"
        return f"{left} of {self.total} runs to do" + (f", {self.done} done before" if self.done else "")

    def take(self, event: Event, now: float) -> tuple[_Running, str | None] | None:
        """Count an event: the run that it is about, and where that has ended, the line that says so."""
        if self._started is None:
            self._started = now
        label = self._labels.get(event.run_id, event.run_id)
        if event.kind == "started":
            self.running[event.run_id] = _Running(
                label=label, started=now, work=self._work.get(event.run_id, 0.0), steps=event.steps, said=now
            )
        running = self.running.get(event.run_id)
        if running is None:
            return None
        if event.kind == "step":
            running.step, running.loss = event.step, event.loss
            running.trained += event.tokens
            rate = event.tokens / event.seconds if event.seconds else 0.0
            running.rate = rate if not running.rate else 0.9 * running.rate + 0.1 * rate
        elif event.kind == "answering":
            running.trained = self._training.get(event.run_id, 0.0)
        elif event.kind in ("done", "failed"):
            self.done += 1
            self._work_done += running.work
            del self.running[event.run_id]
            took = f"{now - running.started:.0f} s"
            loss = "" if running.loss is None else f", last loss {running.loss:.3f}, {running.rate:.0f} tokens/s"
            how = "done" if event.kind == "done" else f"FAILED ({event.message})"
            return running, f"[{self.done}/{self.total}] {label}: {how} in {took}{loss}{self.left(now)}"
        return running, None

    def step_line(self, running: _Running, now: float) -> str:
        place = f"[{self.done + 1}/{self.total}] {running.label}: step {running.step}/{running.steps}"
        loss = "" if running.loss is None else f", loss {running.loss:.3f}, {running.rate:.0f} tokens/s"
        return f"{place}{loss}{self.left(now)}"

    def left(self, now: float) -> str:
        """The time left, once something is known of the speed."""
        under_way = sum(min(running.trained, running.work) for running in self.running.values())
        worked = self._work_done + under_way
        elapsed = now - (now if self._started is None else self._started)
        if worked <= 0 or elapsed < 5:
            return ""
        seconds = elapsed * max(self._work_left - worked, 0.0) / worked
        return f", about {seconds / 60:.0f} min left" if seconds > 90 else f", about {seconds:.0f} s left"


class _TallyReporter(ABC):
    """What lines and bars have in common: a tally that every event goes through, and one place where lines go."""

    def __init__(self) -> None:
        self._tally = _Tally()

    def say(self, text: str) -> None:
        self._print(f"titrant: {text}")

    def stage(self, runs: Sequence[PlannedRun], done: Set[str]) -> None:
        self.say(self._tally.begin(runs, done))

    def event(self, event: Event) -> None:
        now = time.monotonic()
        taken = self._tally.take(event, now)
        if taken is not None:
            running, ended = taken
            self._show(event, running, ended, now)

    @abstractmethod
    def _show(self, event: Event, running: _Running, ended: str | None, now: float) -> None:
        """Show an event of a run; `ended` is the line that says how it ended, where it has."""

    @abstractmethod
    def _print(self, text: str) -> None:
        """Write one line."""


class LineReporter(_TallyReporter):
    """Plain lines on a stream: when a run starts a stage, ends, and every so often between."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream or sys.stderr

    def close(self) -> None:
        """Nothing is held."""

    def _show(self, event: Event, running: _Running, ended: str | None, now: float) -> None:
        if ended is not None:
            self._print(ended)
        elif event.kind == "step" and now - running.said > _QUIET_SECONDS:
            running.said = now
            self._print(self._tally.step_line(running, now))

    def _print(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


class TerminalReporter(_TallyReporter):
    """A bar a worker while runs are in the making, above it a line for every run that has ended."""

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich.console import Console

        super().__init__()
        self._console = Console(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        self._bars: dict[str, Any] = {}
        self._progress: Any = None

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            self._bars.clear()

    def _show(self, event: Event, running: _Running, ended: str | None, now: float) -> None:
        if ended is not None:
            if event.run_id in self._bars:
                self._progress.remove_task(self._bars.pop(event.run_id))
            self._print(ended)
            if not self._tally.running:
                self.close()
            return
        if self._progress is None:
            self._progress = self._started()
        if event.run_id not in self._bars:
            self._bars[event.run_id] = self._progress.add_task(running.label, total=max(running.steps, 1), said="")
        said = f"answering{self._tally.left(now)}" if event.kind == "answering" else self._said(running, now)
        self._progress.update(self._bars[event.run_id], completed=running.step, said=said)

    def _said(self, running: _Running, now: float) -> str:
        if running.loss is None:
            return ""
        return f"{running.step}/{running.steps}  loss {running.loss:.3f}  {running.rate:.0f} tokens/s" + (
            self._tally.left(now).replace(", ", "  ", 1)
        )

    def _started(self) -> Any:
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24))
        bars = Progress(
            *columns, TextColumn("{task.fields[said]}", markup=False), console=self._console, transient=True
        )
        bars.start()
        return bars

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False)
