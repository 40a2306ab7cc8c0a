"""`python -m titrant` is the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import titrant


def test_the_package_runs_as_the_command_line() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(titrant.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-m", "titrant", "run", "no-such-study.yaml"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("titrant: no-such-study.yaml: ")
