"""The seam between a study and the places where its runs execute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from titrant.core.records import Numerics, PreparedModel
from titrant.engines.job import Event, RunJob
from titrant.engines.local import BackendSpec


class Engine(Protocol):
    """Who works on runs, and on how many at a time. It decides how soon a study is done and never a result, so it is no
    part of any name; `name` and `revision` are for the record."""

    @property
    def name(self) -> str: ...

    @property
    def revision(self) -> str: ...

    def workers(self, runs: int, *, model: PreparedModel, numerics: Numerics) -> int:
        """On how many of `runs` it works at a time, at least 1. `model` is the largest that they train."""
        ...

    def execute(
        self,
        jobs: Sequence[RunJob],
        *,
        root: Path,
        backend: BackendSpec,
        on_event: Callable[[Event], None],
        weights_only: bool,
    ) -> None:
        """Do every run that is not done yet in the store at `root`; return when all are finished or have failed.

        A run is done by `titrant.engines.job.do_run` under its claim; with `weights_only` by `save_trained`. Events may
        come in any order between runs. Raises `Interrupted` once a signal has been passed on, `RunFailed` where a
        worker is lost.
        """
        ...


@runtime_checkable
class AskingEngine(Protocol):
    """An engine that asks again what to run whenever a worker has nothing to do, so that no worker waits for the
    others. An engine that does not is given the runs of a staged study batch by batch."""

    def execute_asking(
        self,
        more: Callable[[], Sequence[RunJob]],
        *,
        root: Path,
        backend: BackendSpec,
        on_event: Callable[[Event], None],
    ) -> None:
        """Do the runs that `more` names until it names none. It may name runs that are under way."""
        ...
