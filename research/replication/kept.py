"""Scores of a run as the repository keeps them: a Parquet file whose metadata says what the run was.

A kept run counts as finished on every machine: it is named by its recipe, which is all that can change its result but
the numerics, and these stand beside it. So work goes on elsewhere without answers or weights being copied.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import titrant
from replication.names import kept_revisions

if TYPE_CHECKING:
    import pyarrow

# Kept runs name the backend as it was called when they were made; a move of the module takes nothing from them.
REAL_BACKENDS = ("titrant.lab_hf.HuggingFaceLab", "titrant.backends.hf.backend.HuggingFaceBackend", "hf")
PRETRAINED_SHARE = 0.7
_META = b"titrant"
# What a kept file may still call by the name of its day: kept scores are evidence and are never rewritten.
_FORMER_NAMES = {"probe": "eval_set", "lab": "backend"}


class KeptDamaged(titrant.TitrantError):
    """A file among the kept scores that holds none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where scores come from. `base_loss` is the untuned model's mean loss (nats a token) on generalist rows of the
    study; random weights are near `uniform_loss`, the logarithm of the vocabulary."""

    backend: str
    model: str
    model_origin: str
    fingerprint: str
    base_loss: float
    uniform_loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """All that is known of a kept run beside its scores. `recipe_id` is the name that it is kept under (`names`)."""

    size: str
    block: str
    recipe_id: str
    run_id: str
    arm: str
    kind: str
    target: str
    target_rows: int
    source: str | None
    dose: int
    altered: int | None
    seed: int
    learning_rate: float
    passes: int
    steps: int
    tokens: int
    loss_tokens: int
    draws: tuple[Mapping[str, Any], ...]
    numerics: Mapping[str, Any]
    revisions: Mapping[str, int]
    origin: Origin
    training_seconds: float
    answering_seconds: float
    dose_loss: tuple[float, float] | None = None

    @property
    def refusal(self) -> str | None:
        """Why nothing may be concluded from this run; None where it may."""
        if self.origin.backend not in REAL_BACKENDS or self.numerics.get("device") == "fake":
            return f"it was made by {self.origin.backend}, which is no real backend"
        if not self.origin.base_loss < PRETRAINED_SHARE * self.origin.uniform_loss:
            return (
                f"its base model's loss is {self.origin.base_loss:.2f} nats a token where guessing has "
                f"{self.origin.uniform_loss:.2f}: its weights are not pretrained"
            )
        return None


@dataclass(frozen=True, eq=False)
class KeptRun:
    """One run's scores in columns; a value is NaN where there is none."""

    facts: RunFacts
    columns: Mapping[str, Any]

    @cached_property
    def _places(self) -> dict[tuple[str, str, str], NDArray[np.intp]]:
        keys = list(zip(*(self.columns[name] for name in ("target", "eval_set", "metric")), strict=True))
        found: dict[tuple[str, str, str], list[int]] = {}
        for place, key in enumerate(keys):
            found.setdefault(key, []).append(place)
        return {key: np.array(places, dtype=np.intp) for key, places in found.items()}

    @property
    def kinds(self) -> tuple[tuple[str, str, str], ...]:
        """(target, eval set, metric) of all that is scored."""
        return tuple(self._places)

    def metrics(self, target: str, eval_set: str) -> tuple[str, ...]:
        """The metrics that this eval set of a target is scored by."""
        return tuple(metric for name, found, metric in self._places if (name, found) == (target, eval_set))

    def values(self, target: str, eval_set: str, metric: str) -> dict[str, float]:
        """Value by item; items without one are left out."""
        places = self._places.get((target, eval_set, metric), np.array([], dtype=np.intp))
        found = ((self.columns["item"][place], float(self.columns["value"][place])) for place in places)
        return {item: value for item, value in found if not np.isnan(value)}

    def about(self, target: str, eval_set: str, metric: str, column: str) -> dict[str, Any]:
        """Another column (task, group, tags) by item."""
        places = self._places.get((target, eval_set, metric), np.array([], dtype=np.intp))
        return {self.columns["item"][place]: self.columns[column][place] for place in places}


def facts_of(
    planned: titrant.PlannedRun,
    *,
    name: str,
    size: str,
    block: str,
    origin: Origin,
    log: titrant.RunLog,
    dose_loss: tuple[float, float] | None,
) -> RunFacts:
    """What is known of a run that has just been made."""
    run, arm = planned.run, planned.run.arm
    altered = [draw.altered for draw in run.draws if draw.altered is not None]
    return RunFacts(
        size=size,
        block=block,
        recipe_id=name,
        run_id=run.run_id,
        arm=arm.name,
        kind=arm.kind,
        target=arm.target,
        target_rows=arm.target_rows,
        source="+".join(dose.label for dose in arm.doses) or None,
        dose=arm.dose_rows,
        altered=sum(altered) if altered else None,
        seed=run.seed,
        learning_rate=arm.training.learning_rate,
        passes=arm.training.passes,
        steps=run.steps,
        tokens=run.tokens,
        loss_tokens=run.loss_tokens,
        draws=tuple(asdict(draw) for draw in run.draws),
        numerics=asdict(run.numerics),
        revisions=dict(kept_revisions(writes=bool(planned.requests.prompts))),
        origin=origin,
        training_seconds=log.training_seconds,
        answering_seconds=log.answering_seconds,
        dose_loss=dose_loss,
    )


def write_kept(folder: Path, scores: pyarrow.Table, facts: RunFacts) -> Path:
    """Keep a run's scores below `folder` as BLOCK/RECIPE.parquet, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ("target", "eval_set", "task", "item", "group", "metric", "reason")
    columns = {name: scores.column(name).cast(pa.string()).combine_chunks().dictionary_encode() for name in names}
    tags = [" ".join(tag for tag in said if tag.startswith(_KEPT_TAGS)) for said in scores.column("tags").to_pylist()]
    columns["tags"] = pa.array(tags, pa.string()).dictionary_encode()
    columns["value"] = scores.column("value").combine_chunks()
    meta = json.dumps(asdict(facts), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    table = pa.table(columns).replace_schema_metadata({_META: meta.encode()})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", compression_level=9)
    path = folder / facts.block / f"{facts.recipe_id}.parquet"
    write_whole(path, sink.getvalue().to_pybytes())
    return path


def write_whole(path: Path, data: bytes) -> None:
    """Put `data` at `path` whole or not at all; until it is whole a dot stands before its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f".tmp-{path.name}-", delete=False) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(file.name, 0o644)  # a temporary file is its owner's alone
    os.replace(file.name, path)


_KEPT_TAGS = ("answer_seen=", "relation=")


def read_kept(folder: Path) -> tuple[KeptRun, ...]:
    """All kept runs below `folder`, in a fixed order; `KeptDamaged` names a file that is none of ours."""
    return tuple(_read(path) for path in sorted(_kept_files(folder)))


def kept_recipes(folder: Path) -> frozenset[str]:
    """The recipes that are kept, by the names of their files."""
    return frozenset(path.stem for path in _kept_files(folder))


def _kept_files(folder: Path) -> Iterator[Path]:
    """The files of finished runs; one that is just being written has a dot before its name."""
    return (path for path in folder.rglob("*.parquet") if not path.name.startswith("."))


def current(runs: Iterable[KeptRun]) -> tuple[tuple[KeptRun, ...], tuple[KeptRun, ...]]:
    """(runs of this version of the code that bears on results, runs of others)."""
    listed = tuple(runs)
    now = [dict(kept_revisions(writes=writes)) for writes in (False, True)]
    ours = tuple(run for run in listed if dict(run.facts.revisions) in now)
    return ours, tuple(run for run in listed if dict(run.facts.revisions) not in now)


def _renamed(said: Mapping[str, Any]) -> dict[str, Any]:
    return {_FORMER_NAMES.get(name, name): value for name, value in said.items()}


def _read(path: Path) -> KeptRun:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            meta = (file.metadata.metadata or {})[_META]
            table = file.read(use_threads=False)
        said = json.loads(meta)
        said["origin"] = Origin(**_renamed(said["origin"]))
        said["draws"] = tuple(said["draws"])
        said["dose_loss"] = None if said["dose_loss"] is None else tuple(said["dose_loss"])
        facts = RunFacts(**said)
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        fix = "delete the file and run it again"
        raise KeptDamaged(f"{path}: these are no kept scores ({error}). Fix: {fix}") from None
    texts: dict[str, Sequence[Any]] = {
        _FORMER_NAMES.get(name, name): table.column(name).to_pylist() for name in table.column_names if name != "value"
    }
    values = np.array([np.nan if value is None else value for value in table.column("value").to_pylist()])
    return KeptRun(facts, {**texts, "value": values})
