"""Are the statistics right about what they do not know? Studies whose truth is known hold them to their bars.

    python benchmarks/calibrate.py                      everything; writes docs/calibration.md
    python benchmarks/calibrate.py --only coverage      one part, no page
    python benchmarks/calibrate.py --quick              few cells and studies, no page
    python benchmarks/calibrate.py --method always-cannot-tell    a method that must fail
    python benchmarks/calibrate.py --only sequential --method uncorrected-looks    another one

The exit code is 1 when a bar is missed.

Every cell's result is kept in a folder under the fingerprint of the cell and of the code that was tried, so a run that
was stopped goes on where it was, and a changed method is measured afresh.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calibration_cells import Cell

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("coverage", "wrong", "firm", "exchange", "sequential")
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(8 << 30)}
"""For the worker processes: arrays come and go by the thousand, and giving their memory back each time took the system
as long as the sums took us."""
SEED = 20260730
STORED = ROOT / "benchmarks" / "data" / "six-seeds.parquet"
TRIED = (
    "src/titrant/stats/simulation.py",
    "src/titrant/decision/rule.py",
    "src/titrant/decision/replay.py",
    *(
        f"src/titrant/stats/{name}.py"
        for name in ("contrasts", "family", "crossfit", "weigh", "power", "exchange", "looks")
    ),
    *(
        f"benchmarks/{name}.py"
        for name in ("calibration_cells", "calibration_exchange", "calibration_sequential", "rivals")
    ),
)
"""The code that a cell's numbers depend on: when one of these changes, every cell is measured afresh."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One cell to measure, and where its result goes."""

    cell: Cell
    studies: int
    method: str
    path: Path


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; 0 when every bar is met, 1 when one is missed."""
    for name in ONE_THREAD:
        os.environ[name] = "1"
    for name, value in KEEP_MEMORY.items():
        os.environ.setdefault(name, value)
    options = _options(arguments)
    from calibration_report import print_table, write_page

    tasks = list(_tasks(options))
    results = _measured(tasks, jobs=options.jobs)
    rows = [{"name": task.cell.name, "purpose": task.cell.purpose, **results[task.path]} for task in tasks]
    print_table(rows)
    if options.page is not None:
        write_page(rows, Path(options.page), studies=options.studies, stored=options.stored)
    if options.record is not None:
        _record(rows, options)
    missed = [row["name"] for row in rows if any(share["passed"] is False for share in row["shares"].values())]
    for name in missed:
        print(f"MISSED: {name}")
    print(f"{len(rows)} cells, {len(missed)} missed")
    return 1 if missed else 0


def _record(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """All numbers, and how they came about."""
    import json
    from datetime import date

    parts = "".join(f" --only {part}" for part in options.only or ()) + (
        f' --match "{options.match}"' if options.match else ""
    )
    command = f"python benchmarks/calibrate.py{parts} --studies {options.studies}"
    result = {"date": date.today().isoformat(), "command": command, "studies": options.studies, "rows": rows}
    options.record.parent.mkdir(parents=True, exist_ok=True)
    options.record.write_text(json.dumps(result, indent=1) + "\n")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append", help="only this part (may be repeated)")
    parser.add_argument("--match", default="", help="only cells whose name holds this text")
    parser.add_argument("--quick", action="store_true", help="one cell in thirteen, 400 studies each")
    parser.add_argument("--studies", type=int, default=4000, help="studies in a cell")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes, one thread each")
    parser.add_argument("--method", default="titrant", help="titrant | always-cannot-tell | uncorrected-looks")
    parser.add_argument(
        "--stored", default=str(STORED), help="a scores.parquet of real runs, to resample (default: ours; none: none)"
    )
    parser.add_argument("--folder", default=str(ROOT / "build" / "calibration"), help="where results are kept")
    parser.add_argument(
        "--record", type=Path, help="write every cell's numbers here too, as JSON with date and command"
    )
    parser.add_argument("--page", help="where the page goes (default: docs/calibration.md, when everything is run)")
    options = parser.parse_args(arguments)
    if options.stored == "none":
        options.stored = None
    if options.quick:
        options.studies = min(options.studies, 400)
    whole = not (options.only or options.match or options.quick) and options.method == "titrant"
    if options.page is None and whole:
        options.page = str(ROOT / "docs" / "calibration.md")
    return options


def _tasks(options: argparse.Namespace) -> Iterator[Task]:
    from calibration_cells import coverage_cells, firm_cells, wrong_cells
    from calibration_exchange import exchange_cells
    from calibration_sequential import sequential_cells

    from titrant.core.identity import fingerprint, hash_file

    makers = {
        "coverage": lambda: coverage_cells(options.stored),
        "wrong": lambda: wrong_cells(options.stored),
        "firm": firm_cells,
        "exchange": exchange_cells,
        "sequential": lambda: sequential_cells(options.stored),
    }
    code = [hash_file(ROOT / name) for name in TRIED]
    if options.stored is not None:
        code.append(hash_file(Path(options.stored)))
    for part in options.only or PARTS:
        cells = [cell for cell in makers[part]() if options.match in cell.name]
        for cell in cells[::13] if options.quick else cells:
            key = fingerprint([_placeless(cell), options.studies, options.method, SEED, code], length=24)
            path = Path(options.folder) / f"{part}-{key}.json"
            yield Task(cell=cell, studies=options.studies, method=options.method, path=path)


def _placeless(cell: Cell) -> Cell:
    """The cell whatever folder its file of scores lies in; what the file holds is hashed beside it."""
    path = cell.world.stored_path
    return cell if path is None else replace(cell, world=replace(cell.world, stored_path=Path(path).name))


def _measured(tasks: list[Task], *, jobs: int) -> dict[Path, dict[str, Any]]:
    """Every task's result, from its file where it has one."""
    from titrant.core.identity import canonical_json

    waiting = [task for task in tasks if not task.path.exists()]
    # The long ones first, so that no process is left alone with one at the end.
    waiting.sort(key=lambda task: -task.cell.world.seeds * task.cell.world.items * len(task.cell.world.arm_means))
    done = len(tasks) - len(waiting)
    for task, result in _results(waiting, jobs=jobs):
        task.path.parent.mkdir(parents=True, exist_ok=True)
        partial = task.path.with_suffix(".partial")
        partial.write_text(canonical_json(result))
        partial.replace(task.path)
        done += 1
        print(f"[{done}/{len(tasks)}] {task.cell.name}", file=sys.stderr, flush=True)
    return {task.path: _read(task.path) for task in tasks}


def _results(tasks: list[Task], *, jobs: int) -> Iterator[tuple[Task, dict[str, Any]]]:
    if jobs == 1 or len(tasks) < 2:
        yield from ((task, _measure(task)) for task in tasks)
        return
    # Spawned, not forked: each process reads the one-thread environment before it loads numpy.
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(_with_task, tasks)


def _with_task(task: Task) -> tuple[Task, dict[str, Any]]:
    return task, _measure(task)


def _measure(task: Task) -> dict[str, Any]:
    from calibration_cells import measure

    return measure(task.cell, studies=task.studies, seed=SEED, method=task.method)


def _read(path: Path) -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads(path.read_text())
    return found


if __name__ == "__main__":
    sys.exit(main())
