"""What the benchmarks share: facts of the machine, peak memory, the rate of products, and the file of figures."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import re
import time
from pathlib import Path
from typing import Any

PACKAGES = ("titrant", "torch", "transformers", "trl", "accelerate", "peft", "lm_eval", "datasets")
# SmolLM2-135M: weights of its linear layers, and of its head, which runs at answer tokens only (82 of 166).
LAYER_WEIGHTS, HEAD_WEIGHTS, ANSWER_SHARE = 106_168_320, 28_311_552, 82 / 166


def machine() -> dict[str, Any]:
    """What a figure depends on, and the day."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name)) is not None},
        "date": datetime.date.today().isoformat(),
    }


def forget_peak_memory() -> None:
    """Let the peak of this process start again from what it holds now (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> float:
    """The most resident memory of this process since `forget_peak_memory`."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def share_of_products(threads: int, tokens_per_second: float) -> dict[str, float]:
    """The rate of bf16 products at the sizes of the model's layers, and the share of it that a training rate needs.

    A token costs 6 operations a weight (2 forward, 4 backward); attention, norms and the optimiser count nothing.
    """
    import torch

    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    rates = []
    for rows, inputs, outputs in ((1328, 576, 1536), (1328, 1536, 576), (1328, 576, 576)):
        left = torch.randn(rows, inputs).bfloat16()
        right = torch.randn(outputs, inputs).bfloat16()
        times = []
        for _ in range(7):
            started = clock()
            for _ in range(40):
                torch.nn.functional.linear(left, right)
            times.append((clock() - started) / 40)
        rates.append(2 * rows * inputs * outputs / sorted(times)[3])
    rate = sum(rates) / len(rates)
    needed = 6 * (LAYER_WEIGHTS + HEAD_WEIGHTS * ANSWER_SHARE) * tokens_per_second
    return {"tera_per_second": rate / 1e12, "share": needed / rate}


def add_section(path: Path | None, name: str, section: dict[str, Any]) -> None:
    """Put the figures of one benchmark into the file of figures, in place of older ones; other sections stay."""
    if path is None:
        return
    whole = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    older = whole.get(name, {})
    if "rivals" in section and older.get("facts") == section["facts"]:
        section = {**section, "rivals": {**older["rivals"], **section["rivals"]}}  # a race of the same day goes on
    whole[name] = section
    path.write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"model name\s*:\s*(.+)", text)
    return found[1] if found else platform.machine()
