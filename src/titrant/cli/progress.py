"""Progress on stderr: which run of how many, the loss, tokens per second, the time left.

A terminal gets one live line a worker; a pipe or file gets a plain line when a run starts and ends and every so often.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TextIO

_QUIET_SECONDS = 15.0
_ANSWER_WEIGHT = 0.3  # a token that is only read costs about this much of one that is trained on


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


class Progress:
    """Takes a study's stages and events and keeps the reader informed. `label` names a run, `work` weighs it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self._labels: dict[str, str] = {}
        self._work: dict[str, float] = {}
        self._training: dict[str, float] = {}
        self._number: dict[str, int] = {}
        self._running: dict[str, _Running] = {}
        self._total = self._done = 0
        self._work_done = self._work_left = 0.0
        self._started: float | None = None

    def say(self, text: str) -> None:
        """One line of its own."""
        self._print(f"titrant: {text}")

    def stage(self, runs: Sequence[Any], done: set[str]) -> None:
        """The planned runs of a stage, and the ids of those that are done."""
        for number, planned in enumerate(runs, start=1):
            run = planned.run
            seed = "" if run.arm.kind == "untuned" else f" seed {run.seed}"
            target = f"{run.arm.target} " if run.arm.target and run.arm.target not in run.arm.name else ""
            self._labels[run.run_id] = f"{target}{run.arm.name}{seed}"
            self._training[run.run_id] = float(run.tokens)
            self._work[run.run_id] = run.tokens + _ANSWER_WEIGHT * planned.requests.tokens
            self._number[run.run_id] = number
        self._total = len(runs)
        self._done = sum(planned.run.run_id in done for planned in runs)
        self._work_done, self._started = 0.0, None
        self._work_left = sum(self._work[planned.run.run_id] for planned in runs if planned.run.run_id not in done)
        left = self._total - self._done
        if left:
            self.say(f"{left} of {self._total} runs to do" + (f", {self._done} done before" if self._done else ""))
        else:
            self.say(f"all {self._total} runs are done")

    def event(self, event: Any) -> None:
        """Something that happened to a run."""
        now = time.monotonic()
        if self._started is None:
            self._started = now
        label = self._labels.get(event.run_id, event.run_id)
        if event.kind == "started":
            self._running[event.run_id] = _Running(
                label=label, started=now, work=self._work.get(event.run_id, 0.0), steps=event.steps, said=now
            )
        running = self._running.get(event.run_id)
        if running is None:
            return
        if event.kind == "step":
            running.step, running.loss = event.step, event.loss
            running.trained += event.tokens
            rate = event.tokens / event.seconds if event.seconds else 0.0
            running.rate = rate if not running.rate else 0.9 * running.rate + 0.1 * rate
            if self.live or now - running.said > _QUIET_SECONDS:
                running.said = now
                self._show(self._line(running, now))
        elif event.kind == "answering":
            running.trained = self._training.get(event.run_id, 0.0)
            if self.live:
                self._show(f"{running.label}: answering{self._left(now)}")
        elif event.kind in ("done", "failed"):
            self._done += 1
            self._work_done += running.work
            del self._running[event.run_id]
            took = f"{now - running.started:.0f} s"
            loss = "" if running.loss is None else f", last loss {running.loss:.3f}, {running.rate:.0f} tokens/s"
            how = "done" if event.kind == "done" else f"FAILED ({event.message})"
            self._print(f"[{self._done}/{self._total}] {label}: {how} in {took}{loss}{self._left(now)}")

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.live:
            self.stream.write("\r\x1b[K")
            self.stream.flush()

    def _line(self, running: _Running, now: float) -> str:
        place = f"[{self._done + 1}/{self._total}] {running.label}: step {running.step}/{running.steps}"
        return f"{place}, loss {running.loss:.3f}, {running.rate:.0f} tokens/s{self._left(now)}"

    def _left(self, now: float) -> str:
        """The time left, once something is known of the speed."""
        assert self._started is not None
        under_way = sum(min(running.trained, running.work) for running in self._running.values())
        worked = self._work_done + under_way
        elapsed = now - self._started
        if worked <= 0 or elapsed < 5:
            return ""
        seconds = elapsed * max(self._work_left - worked, 0.0) / worked
        return f", about {seconds / 60:.0f} min left" if seconds > 90 else f", about {seconds:.0f} s left"

    def _show(self, text: str) -> None:
        if self.live:
            self.stream.write(f"\r\x1b[K{text[:140]}")
            self.stream.flush()
        else:
            self._print(text)

    def _print(self, text: str) -> None:
        self.stream.write(("\r\x1b[K" if self.live else "") + text + "\n")
        self.stream.flush()
