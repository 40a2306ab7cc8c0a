"""A small study's work on a store, and what of it readers see."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from titrant.core.identity import hash_file
from titrant.storage.atomic import write_bytes, write_text
from titrant.storage.json_files import write_json, write_jsonl
from titrant.storage.sealed import write_sealed
from titrant.storage.store import Store

RUNS = ("a1", "b2")
ANSWERS = [{"item": number, "text": "été \ud800" * number} for number in range(5)]


def work(root: Path, runs: Sequence[str] = RUNS) -> Store:
    """What a study does to a store: runs, each done once, then the results. May be called again after anything."""
    store = Store.open(root)
    for run_id in runs:
        if run_id in store.finished():
            continue
        with store.claim(run_id) as mine:
            assert mine
            write_bytes(store.work_folder(run_id) / "checkpoint", b"weights so far")
            folder = store.begin(run_id)
            write_json(folder / "run.json", {"id": run_id, "settings": {"rate": 0.5}})
            write_jsonl(folder / "answers.jsonl", ANSWERS)
            write_text(folder / "log" / "steps.txt", "1\n2\n")
            write_sealed(folder / "timing.json", {"seconds": 1})
            store.finish(run_id, {"status": "done"})
    write_json(root / "verdict.json", {"verdict": "mix"})
    write_sealed(root / "results.json", {"files": {"verdict.json": hash_file(root / "verdict.json")}})
    return store


def content(root: Path) -> dict[str, Any]:
    """All that readers of results see: no leftovers, no locks, no checkpoints; the ledger as the set of its records."""
    names = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    files = {
        name.as_posix(): (root / name).read_bytes()
        for name in names
        if name.parts[0] not in ("claims", "work", "ledger.jsonl")
        and not any(part.startswith(".tmp-") for part in name.parts)
    }
    records = sorted({json.dumps(record, sort_keys=True) for record in Store.open(root).records()})
    return {"files": files, "records": records}


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
