"""What the runs of a store have answered: whose answers are whole, and what is missing of the others."""

from __future__ import annotations

from collections.abc import Collection

from titrant.engines.job import ANSWERS
from titrant.experiment.design import PlannedRun
from titrant.storage.store import Store


class StoredAnswers:
    """The answers of a store as they were when this was made.

    A run has one set of answers from the time when it was trained and further ones of what it was asked later. A set is
    known by the digest of its requests' names, so a store of thousands of runs is looked through without opening their
    files.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._finished = store.finished()
        self._further = store.further_answers()
        self._names: dict[str, frozenset[str]] = {}

    def is_finished(self, run_id: str) -> bool:
        """Whether the run was trained and has answered something."""
        return run_id in self._finished

    def missing(self, planned: PlannedRun) -> Collection[str]:
        """The names of the requests that the run has not answered; all of them where it is not finished."""
        run_id, wanted = planned.run.run_id, planned.requests
        if run_id not in self._finished:
            return wanted.names
        sets = [self._finished[run_id]["requests"], *(record["requests"] for record in self._further.get(run_id, ()))]
        if wanted.digest in sets:
            return ()
        answered = frozenset[str]().union(*(self._names_of(run_id, digest) for digest in sets))
        return wanted.names - answered

    def of(self, run_id: str) -> tuple[bytes, ...]:
        """The bytes of the files that hold the run's answers, each compared with what was stored."""
        further = self._further.get(run_id, ())
        first = self._store.checked_bytes(run_id, ANSWERS, manifest=self._finished[run_id].get("manifest"))
        return (
            first,
            *(
                self._store.checked_bytes(run_id, ANSWERS, manifest=record["manifest"], requests=record["requests"])
                for record in further
            ),
        )

    def _names_of(self, run_id: str, digest: str) -> frozenset[str]:
        if digest not in self._names:
            import pyarrow as pa
            import pyarrow.parquet as pq

            record = self._finished[run_id]
            further = [one for one in self._further.get(run_id, ()) if one["requests"] == digest]
            data = (
                self._store.checked_bytes(run_id, ANSWERS, manifest=record.get("manifest"))
                if record["requests"] == digest
                else self._store.checked_bytes(run_id, ANSWERS, manifest=further[0]["manifest"], requests=digest)
            )
            names = pq.read_table(pa.BufferReader(data), columns=["request"]).column("request").to_pylist()
            self._names[digest] = frozenset(names)
        return self._names[digest]
