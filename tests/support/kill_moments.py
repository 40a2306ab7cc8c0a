"""Kill a study at chosen operations on its store, run it again, and compare with a calm one. A process of its own.

    python kill_moments.py FOLDER all|N,N,...    prints one JSON object: {"operations": ..., "wrong": {...}}

A number below 0 counts from the end. With `all` the page is its data as text, which takes a tenth of the time.

Everything is imported once; every moment is a forked child that dies by SIGKILL, and another that runs the study again.
An operation is a write (killed after half of its bytes), an fsync, a rename, a new folder or a removal.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fake_study import calm_content, fake_prepare, page_as_text, trial_lab

Operation = Callable[..., Any]


class Counter:
    """Counts operations of this process, and ends it at the chosen one; `None` only counts."""

    def __init__(self, kill_at: int | None) -> None:
        self.kill_at, self.names = kill_at, list[str]()

    def meets(self, name: str) -> bool:
        self.names.append(name)
        return len(self.names) == self.kill_at

    def wrap(self, owner: Any, attribute: str, name: str) -> None:
        operation = getattr(owner, attribute)

        def counted(*arguments: Any, **options: Any) -> Any:
            if self.meets(name):
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*arguments, **options)

        setattr(owner, attribute, counted)

    def wrap_writes(self) -> None:
        opened, counter = Path.open, self

        class CountedFile:
            def __init__(self, file: Any) -> None:
                self.file = file

            def write(self, data: bytes) -> int:
                if counter.meets("write"):
                    self.file.write(data[: len(data) // 2])
                    self.file.flush()
                    os.kill(os.getpid(), signal.SIGKILL)
                return int(self.file.write(data))

            def __getattr__(self, name: str) -> Any:
                return getattr(self.file, name)

            def __enter__(self) -> CountedFile:
                return self

            def __exit__(self, *_: object) -> None:
                self.file.close()

        def counting_open(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            file = opened(path, mode, *arguments, **options)
            return CountedFile(file) if mode in ("wb", "ab", "a+b") else file

        Path.open = counting_open  # type: ignore[method-assign,assignment]


def study_in_child(study: Path, out: Path, kill_at: int | None, counted: Path | None = None) -> int:
    """Run the study in a forked child; its exit status as `waitpid` says it."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        from titrant.study.runner import run_study
        from titrant.study.spec import load_study

        counter = Counter(kill_at)
        if kill_at is not None or counted is not None:
            for owner, attribute, name in (
                (os, "fsync", "fsync"),
                (os, "replace", "rename"),
                (os, "mkdir", "folder"),
                (shutil, "rmtree", "removal"),
            ):
                counter.wrap(owner, attribute, name)
            counter.wrap_writes()
        run_study(load_study(study), out=out, jobs=0, lab=trial_lab())
        if counted is not None:
            counted.write_text(json.dumps(counter.names))
        os._exit(0)
    except BaseException:  # noqa: BLE001  (whatever it is, this child ends here)
        traceback.print_exc()
        os._exit(9)


def without_minutes(files: dict[str, bytes]) -> dict[str, bytes]:
    """verdict.json without what a next step would take on this machine, and so without its checksum."""
    verdict = json.loads(files["verdict.json"])
    if verdict.get("next_step"):
        del verdict["next_step"]["minutes"]
    return {**files, "verdict.json": json.dumps(verdict).encode(), "results.json": b""}


def main(folder: Path, which: str) -> dict[str, Any]:
    import titrant.report.page
    import titrant.study.bench
    import titrant.study.page
    import titrant.study.runner
    from titrant.store import Store

    titrant.study.bench.prepare = fake_prepare(folder / "prepared")
    if which == "all":
        titrant.report.page.render = page_as_text
    study, calm = folder / "study" / "study.yaml", folder / "calm"
    assert study_in_child(study, calm, None, folder / "operations.json") == 0
    wanted = without_minutes(calm_content(calm))
    operations = json.loads((folder / "operations.json").read_text())
    if which == "all":
        numbers = list(range(1, len(operations) + 1))
    else:
        numbers = [int(number) % (len(operations) + 1) for number in which.split(",")]
    wrong: dict[str, Any] = {}
    for number in numbers:
        out = folder / f"out-{number}"
        killed = study_in_child(study, out, number)
        again = study_in_child(study, out, None)
        found = without_minutes(calm_content(out)) if again == 0 else {}
        differing = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
        left = [str(path) for path in (*out.rglob(".tmp-*"), *(out / "work").glob("*"))]
        damages = [damage.path for damage in Store(out).damages()]
        if killed != signal.SIGKILL or again or differing or left or damages:
            wrong[f"{number} {operations[number - 1]}"] = [killed, again, differing, left, damages]
        shutil.rmtree(out)
    return {"operations": operations, "wrong": wrong}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2])))
