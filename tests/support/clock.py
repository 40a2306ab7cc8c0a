"""A clock for tests of how long something may take, on a machine that also does other things."""

from __future__ import annotations

import time
from pathlib import Path

_SCHEDULED = Path("/proc/thread-self/schedstat")  # nanoseconds on a processor, ready and waiting for one, and turns


def own_seconds() -> float:
    """Seconds that pass for this thread: at work or waiting for something, but not ready and without a processor.

    A wall clock would make a limit of five seconds a question of what else runs; time on the processor would not see a
    wait for a network that never answers. Where the kernel does not say, it is the wall clock.
    """
    wall = time.monotonic()
    try:
        return wall - int(_SCHEDULED.read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return wall
