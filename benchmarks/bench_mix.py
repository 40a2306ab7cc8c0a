"""Choosing rows of a file too large for memory: rows a second and peak memory, beside the `datasets` library.

A file of JSON Lines of the asked size is written to a temporary folder, after a look at the free disk. Each contestant
is a process of its own that chooses so many rows at random and writes them as JSON Lines:

- titrant: one reading keeps sixteen bytes a row, the draw is the order of hashes of the contents, a second reading
  fetches the rows drawn: what a study does with a large pool. The draw does not depend on the file's order.
- datasets: load_dataset("json"), shuffle, select, to_json: the usual way. It keeps a copy in Arrow on disk. It runs
  where the library is installed (pip install '.[bench]'), else the reason is printed.

    python benchmarks/bench_mix.py --gib 1 --choose 100000 --json mix.json
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WORDS = 4096
DISK_FACTOR = 3.5  # the file, a copy in Arrow with its cache, and the rows chosen


def main() -> int:
    """Write the file, run the contestants, print a table, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=1.0)
    parser.add_argument("--row-bytes", type=int, default=600)
    parser.add_argument("--choose", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--contestant", choices=["titrant", "datasets"], help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        print(json.dumps(run_contestant(options.contestant, options.file, choose=options.choose)))
        return 0
    free, needed = shutil.disk_usage(options.folder).free, int(options.gib * DISK_FACTOR * 2**30)
    if free < needed:
        free_gib, needed_gib = f"{free / 2**30:.1f} GiB", f"{needed / 2**30:.1f}"
        print(f"{free_gib} are free in {options.folder}, {needed_gib} are needed: nothing was measured")
        return 1
    with tempfile.TemporaryDirectory(prefix="bench-mix-", dir=options.folder) as place:
        file = Path(place) / "rows.jsonl"
        rows = write_rows(file, size=int(options.gib * 2**30), row_bytes=options.row_bytes)
        result: dict[str, Any] = {
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
            "machine": platform.platform(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "rows": rows,
            "bytes": file.stat().st_size,
            "chosen": min(options.choose, rows),
            "contestants": {},
        }
        for name in ("titrant", "datasets"):
            result["contestants"][name] = measured(name, file, choose=options.choose)
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def write_rows(file: Path, *, size: int, row_bytes: int) -> int:
    """Instruction rows of about `row_bytes` each, one in a hundred of them an earlier row again; how many there are."""
    import numpy as np

    rng = np.random.default_rng(0)
    words = ["".join(chr(97 + letter) for letter in rng.integers(0, 26, size=rng.integers(2, 9))) for _ in range(WORDS)]
    per_row = max(4, (row_bytes - 60) // 6)
    rows = written = 0
    kept = ""
    with file.open("w", encoding="ascii") as out:
        while written < size:
            for picked in rng.integers(0, WORDS, size=(2000, per_row)).tolist():
                said = " ".join(words[word] for word in picked)
                cut = len(said) // 3
                line = f'{{"instruction": "{rows} {said[:cut]}", "input": "", "output": "{said[cut:]}"}}\n'
                if rows % 100 == 99:
                    line = kept
                kept = line if rows % 100 == 50 else kept
                out.write(line)
                written += len(line)
                rows += 1
    return rows


def measured(name: str, file: Path, *, choose: int) -> dict[str, Any]:
    """What one contestant took, in a process of its own; the reason where it cannot run."""
    if name == "datasets" and importlib.util.find_spec("datasets") is None:
        return {"skipped": "the library datasets is not installed: pip install '.[bench]'"}
    command = [sys.executable, __file__, "--contestant", name, "--file", str(file), "--choose", str(choose)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        return {"skipped": f"it failed: {found.stderr.strip().splitlines()[-1] if found.stderr.strip() else '?'}"}
    return dict(json.loads(found.stdout.splitlines()[-1]))


def run_contestant(name: str, file: Path, *, choose: int) -> dict[str, Any]:
    """Choose and write, and what it took; `times_read` is what was read of any file over the size of this one."""
    started = time.perf_counter()
    rows, version = (choose_titrant if name == "titrant" else choose_datasets)(file, choose=choose)
    seconds = time.perf_counter() - started
    usage = resource.getrusage(resource.RUSAGE_SELF)
    read = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return {
        "version": version,
        "rows_written": rows,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_memory_mib": round(usage.ru_maxrss / 1024, 1),
        "times_read": round(int(read["rchar"]) / file.stat().st_size, 2),
    }


def choose_titrant(file: Path, *, choose: int) -> tuple[int, str]:
    """As a study chooses of a large pool; rows are written in the order of the draw."""
    from titrant import __version__, sampling
    from titrant.data import readers

    index = readers.index_rows(file)
    occurrence_N = sampling.occurrences(index.digests)
    numbers = sampling.first_rows_of_draw(index.digests, occurrence_N, count=choose, seed=0, source="pool").tolist()
    keys = {index.lines[row]: f"{index.digests[16 * row : 16 * row + 16].hex()}.{occurrence_N[row]}" for row in numbers}
    del index, occurrence_N
    drawn = sampling.draw(tuple(readers.fetch_rows(file, keys, source="pool")), len(keys), seed=0, source="pool")
    with (file.parent / "chosen.titrant.jsonl").open("w") as out:
        for row in drawn:
            out.write(json.dumps({"prompt": row.prompt[0].text, "completion": row.answer, "id": row.row_id}) + "\n")
    return len(drawn), __version__


def choose_datasets(file: Path, *, choose: int) -> tuple[int, str]:
    """Load, shuffle, select, write."""
    import datasets

    datasets.disable_progress_bars()
    cache = str(file.parent / "cache")
    loaded = datasets.load_dataset("json", data_files=str(file), split="train", cache_dir=cache)
    chosen = loaded.shuffle(seed=0).select(range(min(choose, len(loaded))))
    chosen.to_json(str(file.parent / "chosen.datasets.jsonl"))
    return len(chosen), importlib.metadata.version("datasets")


def show(result: dict[str, Any]) -> None:
    """The figures as a table."""
    gib = result["bytes"] / 2**30
    print(f"{result['chosen']:,} of {result['rows']:,} rows, {gib:.2f} GiB, Python {result['python']}")
    print(f"{'':16} {'rows/s':>10} {'seconds':>9} {'CPU s':>9} {'peak MiB':>9} {'times read':>10}")
    for name, found in result["contestants"].items():
        if "skipped" in found:
            print(f"{name:16} skipped: {found['skipped']}")
            continue
        rate = result["rows"] / found["seconds"]
        print(
            f"{name + ' ' + found['version']:16} {rate:>10,.0f} {found['seconds']:>9.1f} {found['cpu_seconds']:>9.1f} "
            f"{found['peak_memory_mib']:>9.0f} {found['times_read']:>10.2f}"
        )


if __name__ == "__main__":
    sys.exit(main())
