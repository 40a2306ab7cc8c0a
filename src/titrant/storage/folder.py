"""Where the things of a study's folder lie, and the locks on them.

    store.json            format version
    ledger.jsonl          one record a line with its own checksum; no times, no hosts
    runs/<run_id>/        finished runs, each with manifest.json (name, bytes, SHA-256 of every file)
    answers/<run_id>/<set>/  what a finished run was asked later; manifest.json as above
    kept/<run_id>/        a checkpoint behind the last step, for adapters and where all weights are kept
    work/<run_id>/        unfinished runs: checkpoints, steps.jsonl, about.json; removed when the run is finished
    claims/<run_id>.lock  held with flock by the process that works on the run; a dead process holds nothing
    verdict.json, scores.parquet, report.html, model/      what the study makes of the runs
    results.json          the checksums of the first three

The ledger knows no times, so that equal studies have equal ledgers; verdict.json may (what a next step would take), and
so its checksum stands in results.json. Small files with times in them carry their own checksum (`write_sealed`).
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

FORMAT_VERSION = 2
MARKED = {"format": FORMAT_VERSION, "made_by": "titrant"}
RESULTS, MARKER = "results.json", "store.json"
ABOUT, STEPS = "about.json", "steps.jsonl"  # of a run in the making: what it is, and its step reports


class StoreFolder:
    """The places in a study's folder, and the locks on them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def ledger_path(self) -> Path:
        return self.root / "ledger.jsonl"

    def run_folder(self, run_id: str) -> Path:
        """Where a finished run lies."""
        return self.root / "runs" / run_id

    def work_folder(self, run_id: str) -> Path:
        """Where an unfinished run keeps its checkpoints."""
        return self.root / "work" / run_id

    def answers_folder(self, run_id: str, requests: str) -> Path:
        """Where the answers of a finished run to a further set of requests lie."""
        return self.root / "answers" / run_id / requests

    def kept_folder(self, run_id: str) -> Path:
        """Where a finished run's training is kept, as a checkpoint behind its last step."""
        return self.root / "kept" / run_id

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Wait for and hold a named lock of the store; it dies with the process."""
        path = self.root / "claims" / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def claim(self, run_id: str) -> Iterator[bool]:
        """Hold the run for this process; yields False when another live process holds it. The lock dies with us."""
        path = self.root / "claims" / f"{run_id}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
