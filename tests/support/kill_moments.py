"""Break a study at chosen operations on its store, run it again, and compare with a calm one. A process of its own.

    python kill_moments.py kill|fail FOLDER all|MOMENT,MOMENT,...    prints one JSON object

FOLDER holds study/study.yaml. With FOLDER/model, a model in Hugging Face layout, it is a real training in float32 with
a checkpoint after every step; else everything is fake. A moment is an operation by number (below 0 from the end) or
by kind and number (`removal:1`), or with a point a share of the time that a calm run takes; `all` is every operation,
`spread:60` sixty of them, evenly spread, `random:40` forty random times (killing only).

Everything is imported once; every moment is a forked child that dies by SIGKILL (`kill`), or whose operation fails as
on a full or broken disk (`fail`), and another that runs the study again. An operation is a write (half of its bytes are
written first), an fsync, a rename, a new folder or a removal.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute
import pyarrow.parquet
from fake_study import calm_content, fake_prepare, page_as_text, trial_backend, without_times

from titrant import api
from titrant.config.study import load_study
from titrant.core.identity import rng_for
from titrant.engines import BackendSpec
from titrant.experiment import prepare
from titrant.report import page
from titrant.storage.damages import Damage
from titrant.storage.store import Store

Operation = Callable[..., Any]


class Counter:
    """Counts operations of this process, and ends it at the chosen one, or makes that one fail; None only counts."""

    def __init__(self, break_at: int | None, *, kills: bool) -> None:
        self.break_at, self.kills, self.names = break_at, kills, list[str]()

    def meets(self, name: str) -> bool:
        self.names.append(name)
        return len(self.names) == self.break_at

    def strike(self) -> None:
        """The end of this process, or a disk that is full."""
        if self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def wrap(self, owner: Any, attribute: str, name: str) -> None:
        operation = getattr(owner, attribute)

        def counted(*arguments: Any, **options: Any) -> Any:
            if self.meets(name):
                self.strike()
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
                    counter.strike()
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When a study is killed: at an operation (counted from 1), or after some seconds."""

    operation: int | None = None
    after_seconds: float | None = None


def in_child(action: Callable[[], object], *, killed_after: float | None = None) -> int:
    """Do something in a forked child; its exit status as `waitpid` says it."""
    child = os.fork()
    if child:
        if killed_after is not None:
            time.sleep(killed_after)
            os.kill(child, signal.SIGKILL)
        return os.waitpid(child, 0)[1]
    try:
        action()
        os._exit(0)
    except BaseException:  # noqa: BLE001  (whatever it is, this child ends here)
        traceback.print_exc()
        os._exit(9)


def study_in_child(
    study: Path,
    out: Path,
    backend: BackendSpec,
    moment: Moment | None,
    *,
    kills: bool = True,
    counted: Path | None = None,
) -> int:
    """Run the study in a forked child that breaks at the moment, or says in a file which operations it did."""
    counter = Counter(None if moment is None else moment.operation, kills=kills)

    def work() -> None:
        if counter.break_at is not None or counted is not None:
            for owner, attribute, name in (
                (os, "fsync", "fsync"),
                (os, "replace", "rename"),
                (os, "rename", "rename"),
                (os, "mkdir", "folder"),
                (shutil, "rmtree", "removal"),
            ):
                counter.wrap(owner, attribute, name)
            counter.wrap_writes()
        api.run_study(load_study(study), out=out, jobs=0, backend=backend)
        if counted is not None:
            counted.write_text(json.dumps(counter.names))

    return in_child(work, killed_after=None if moment is None else moment.after_seconds)


def real_backend() -> BackendSpec:
    """The real backend in float32 with a checkpoint after every step; everything it needs is imported here, once."""
    import torch
    from transformers.models.auto import tokenization_auto
    from transformers.models.llama import modeling_llama

    from titrant.backends.hf import backend
    from titrant.core.environment import current_numerics

    assert backend.HuggingFaceBackend
    assert modeling_llama.LlamaForCausalLM
    assert tokenization_auto.AutoTokenizer
    torch.set_num_threads(1)
    arguments = {"numerics": current_numerics("fp32", 1, "cpu"), "checkpoint_seconds": 0.0}
    return BackendSpec(module="titrant.backends.hf.backend", name="HuggingFaceBackend", arguments=arguments)


def main(how: str, folder: Path, which: str) -> dict[str, Any]:
    """Break at every moment that `which` names, and say what came out other than in a calm run."""
    with_model, kills = (folder / "model").is_dir(), how == "kill"
    backend = real_backend() if with_model else trial_backend()
    if not with_model:
        prepare.prepare = fake_prepare(folder / "prepared")
    assert pyarrow.compute.equal
    assert pyarrow.parquet.read_table
    page.render = page_as_text  # equal data make equal pages (tests/report), and drawing takes longer than the study
    study, calm = folder / "study" / "study.yaml", folder / "calm"
    if with_model:  # prepared once, before the clock runs
        assert in_child(lambda: prepare.prepare_study(load_study(study))) == 0
    gc.freeze()  # no child looks for garbage among what all of them share
    started = time.monotonic()
    assert study_in_child(study, calm, backend, None, counted=folder / "operations.json") == 0
    seconds = time.monotonic() - started
    wanted = without_times(calm_content(calm))
    operations = json.loads((folder / "operations.json").read_text())
    wrong: dict[str, Any] = {}
    broken = 0
    for moment in moments(which, operations, seconds):
        out = folder / "out"
        first = broken_in_child(study, out, backend, moment, kills=kills)
        unreadable = (
            [damage.path for damage in Store(out).damages() if not _to_be_expected(damage)] if out.exists() else []
        )
        again = study_in_child(study, out, backend, None)
        found = without_times(calm_content(out)) if again == 0 else {}
        differing = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
        left = [str(path) for path in (*out.rglob(".tmp-*"), *(out / "work").glob("*"))]
        damages = [damage.path for damage in Store(out).damages()]
        broken += first == signal.SIGKILL if kills else 1
        if (kills and first != signal.SIGKILL) or unreadable or again or differing or left or damages:
            wrong[str(moment)] = [first, unreadable, again, differing, left, damages]
        shutil.rmtree(out)
    return {"operations": operations, "broken": broken, "wrong": wrong, "files": sorted(wanted)}


def broken_in_child(study: Path, out: Path, backend: BackendSpec, moment: Moment, *, kills: bool) -> int:
    """The exit status of a child that was to break. A random time may come after its end: then half of that time."""
    status = study_in_child(study, out, backend, moment, kills=kills)
    while status == 0 and moment.after_seconds is not None and moment.after_seconds > 0.01:
        shutil.rmtree(out)
        moment = Moment(after_seconds=moment.after_seconds / 2)
        status = study_in_child(study, out, backend, moment, kills=kills)
    return status


def _to_be_expected(damage: Damage) -> bool:
    """A line in the making, and a store whose first file has not been written yet, are what a kill leaves."""
    return damage.problem == "the last line is cut short" or damage.path.endswith("store.json")


def moments(which: str, operations: Sequence[str], seconds: float) -> list[Moment]:
    """The moments that a list such as `40,-8,removal:1,0.25,spread:60` names, or every operation."""
    if which == "all":
        return [Moment(operation=number) for number in range(1, len(operations) + 1)]
    found: list[Moment] = []
    for word in which.split(","):
        name, _, count = word.partition(":")
        if name == "spread":
            step = len(operations) / int(count)
            found += [Moment(operation=1 + int(step * number)) for number in range(int(count))]
        elif name == "random":
            shares = rng_for(0, "moments").uniform(0.0, 1.0, int(count))
            found += [Moment(after_seconds=float(share) * seconds) for share in shares]
        else:
            found.append(_moment(word, operations, seconds))
    return found


def _moment(word: str, operations: Sequence[str], seconds: float) -> Moment:
    name, _, count = word.rpartition(":")
    if name:
        places = [number for number, operation in enumerate(operations, start=1) if operation == name]
        return Moment(operation=places[int(count) - 1])
    if "." in word:
        return Moment(after_seconds=float(word) * seconds)
    return Moment(operation=int(word) % (len(operations) + 1))


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])))
