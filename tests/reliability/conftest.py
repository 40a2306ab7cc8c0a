"""Studies that are broken in a process of their own, and what torture counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_study import write_study

SUPPORT = Path(__file__).parents[1] / "support"
REAL = {
    "model": "../model",
    "arms": {"target_rows": [6], "doses": {"general": [4]}, "seeds": 1},
    "training": {"passes": 4, "batch_rows": 4, "max_tokens": 400, "learning_rate": 1e-3},
    "numerics": {"dtype": "fp32", "device": "cpu"},
    "retention": None,
    "keep_weights": "all",
    "test": 6,
}


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: hundreds of fsyncs cost nothing there, and mean the same."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture
def break_study(
    make_toy_folder: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Break a study at moments (see support/kill_moments.py); what came of it. `real` trains a toy model; `said` are
    keys of the study."""

    def start(how: str, folder: Path, which: str, *, real: bool = False, **said: Any) -> dict[str, Any]:
        if real:
            monkeypatch.setenv("TITRANT_CACHE", str(folder / "cache"))
            make_toy_folder(folder / "model")
        write_study(folder / "study", **{**(REAL if real else {}), **said})
        command = [sys.executable, str(SUPPORT / "kill_moments.py"), how, str(folder), which]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return start
