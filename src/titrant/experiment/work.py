"""What is left to do of a study: runs to train, and requests that finished runs have not answered yet.

A finished run that is asked more (a new test item, another target's items) answers the new requests alone where its
weights or adapters are kept; where they are not, it has to be trained again, to the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from titrant.core.errors import StoreDamaged
from titrant.engines import RunJob
from titrant.engines.job import weights_folder
from titrant.experiment.answers import StoredAnswers
from titrant.experiment.design import Design, PlannedRun
from titrant.experiment.prepare import PreparedStudy
from titrant.experiment.publish import FACTS
from titrant.experiment.requests import EvalRequests
from titrant.storage.store import MANIFEST, Store, check_manifest, read_json


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRun:
    """A run that lacks answers. `kind`: *train* what is not finished, *answer* from weights that are kept, or *train
    again* for answers whose weights are gone. `requests` are those without an answer."""

    planned: PlannedRun
    requests: EvalRequests
    kind: Literal["train", "answer", "train_again"]
    kept_weights: Path | None = None

    @property
    def training_tokens(self) -> int:
        """Tokens that are trained on before the answers."""
        return 0 if self.kind == "answer" else self.planned.run.tokens

    @property
    def tokens(self) -> int:
        """Tokens of training and of answers."""
        return self.training_tokens + self.requests.tokens

    def job(self, prepared: PreparedStudy, *, keep_weights: bool = False) -> RunJob:
        """What a worker needs to do it."""
        asked = replace(self.planned, requests=self.requests)
        made = job_of(asked, prepared, keep_weights=keep_weights)
        if self.kind == "train":
            return made
        return replace(made, supplement=made.requests, kept_weights=self.kept_weights)


def open_runs(designs: Sequence[Design], store: Store | None) -> tuple[OpenRun, ...]:
    """All runs of these designs that lack answers in the store, each once; every run where there is no store."""
    runs = runs_of(designs)
    if store is None:
        return tuple(OpenRun(planned=planned, requests=planned.requests, kind="train") for planned in runs)
    answers = StoredAnswers(store)
    handed_over = _handed_over(store)
    found = []
    for planned in runs:
        run_id, missing = planned.run.run_id, answers.missing(planned)
        if not missing:
            continue
        if not answers.is_finished(run_id):
            found.append(OpenRun(planned=planned, requests=planned.requests, kind="train"))
            continue
        weights = next(
            (folder for folder in (weights_folder(store, run_id), handed_over.get(run_id)) if _whole(folder)), None
        )
        kept = planned.training_digest is None or weights is not None or store.adapter_folder(run_id).is_dir()
        requests = planned.requests.named(missing)
        kind: Literal["answer", "train_again"] = "answer" if kept else "train_again"
        found.append(OpenRun(planned=planned, requests=requests, kind=kind, kept_weights=weights))
    return tuple(found)


def runs_of(designs: Sequence[Design]) -> tuple[PlannedRun, ...]:
    """Every run of these designs once, with all that any of its arms is asked."""
    planned: dict[str, list[PlannedRun]] = {}
    for design in designs:
        for one in design.runs:
            planned.setdefault(one.run.run_id, []).append(one)
    return tuple(
        replace(same[0], requests=EvalRequests.union([one.requests for one in same])) for same in planned.values()
    )


def job_of(planned: PlannedRun, prepared: PreparedStudy, *, keep_weights: bool = False) -> RunJob:
    """A planned run as a worker takes it."""
    return RunJob(
        run=planned.run,
        model=prepared.models[planned.run.arm.model].model,
        plan=planned.plan,
        questions=planned.requests.questions,
        prompts=planned.requests.prompts,
        losses=planned.requests.losses,
        requests=planned.requests.digest,
        keep_weights=keep_weights,
    )


def _whole(folder: Path | None) -> bool:
    """Whether a folder holds weights that are as they were written."""
    return folder is not None and folder.is_dir() and not check_manifest(folder)


def _handed_over(store: Store) -> dict[str, Path]:
    """Where the models that were handed over lie, by the run that made them."""
    found = {}
    for facts in sorted((store.root / "model").rglob(FACTS)):
        if (facts.parent / MANIFEST).is_file():
            try:
                found[str(read_json(facts)["run_id"])] = facts.parent
            except StoreDamaged:
                continue  # a model that cannot say which run made it serves none
    return found
