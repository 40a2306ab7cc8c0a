"""What is left to do of a study: runs to train, and requests that finished runs have not answered yet.

A finished run that is asked more (a new test item, another target's items) answers the new requests alone where its
adapters or weights are kept; where they are not, it has to be trained again, to the same weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from titrant.core.records import PreparedModel
from titrant.engines import LocalEngine, RunJob
from titrant.experiment.answers import StoredAnswers
from titrant.experiment.design import Design, PlannedRun
from titrant.experiment.prepare import PreparedStudy
from titrant.experiment.requests import EvalRequests
from titrant.storage.manifests import MANIFEST, check_manifest
from titrant.storage.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRun:
    """A run that lacks answers. `kind`: *train* what is not finished, *answer* from weights that are kept, or *train
    again* for answers whose weights are gone. `requests` are those without an answer."""

    planned: PlannedRun
    requests: EvalRequests
    kind: Literal["train", "answer", "train_again"]

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
        # A finished run is never written again: its answers to new requests lie beside it, so what was published stays
        # byte for byte.
        return replace(made, supplement=made.requests)


def open_runs(designs: Sequence[Design], store: Store | None) -> tuple[OpenRun, ...]:
    """All runs of these designs that lack answers in the store, each once; every run where there is no store."""
    return left_of(runs_of(designs), store)


def left_of(runs: Sequence[PlannedRun], store: Store | None) -> tuple[OpenRun, ...]:
    """Those of these runs, each there once, that lack answers in the store, in their order."""
    if store is None:
        return tuple(OpenRun(planned=planned, requests=planned.requests, kind="train") for planned in runs)
    answers = StoredAnswers(store)
    found = []
    for planned in runs:
        run_id, missing = planned.run.run_id, answers.missing(planned)
        if not missing:
            continue
        if not answers.is_finished(run_id):
            found.append(OpenRun(planned=planned, requests=planned.requests, kind="train"))
            continue
        # The untuned model is always there: nothing was trained, so nothing can have been thrown away.
        kept = planned.training_digest is None or _is_kept(store, run_id)
        requests = planned.requests.named(missing)
        kind: Literal["answer", "train_again"] = "answer" if kept else "train_again"
        found.append(OpenRun(planned=planned, requests=requests, kind=kind))
    return tuple(found)


def runs_of(designs: Sequence[Design]) -> tuple[PlannedRun, ...]:
    """Every run of these designs once, with all that any of its arms is asked."""
    return each_once([one for design in designs for one in design.runs])


def each_once(runs: Iterable[PlannedRun]) -> tuple[PlannedRun, ...]:
    """Every run once, in order of its first place, with all that any of its arms is asked."""
    # Two arms can come to one recipe (or a run serve two targets): it is trained once and asked what any of them is
    # asked.
    planned: dict[str, list[PlannedRun]] = {}
    for one in runs:
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
        # Adapters are small: kept for every run, they make another test item cost its answers alone.
        keep_training=planned.training_digest is not None
        and (planned.run.arm.training.method == "lora" or prepared.study.keep_weights == "all"),
    )


def jobs_for(prepared: PreparedStudy, jobs: int | Literal["auto"], runs: int) -> int:
    """How many worker processes: one a GPU, else as many as cores and free memory carry, unless the user said."""
    return LocalEngine(jobs).workers(
        runs, model=largest_model(prepared), numerics=prepared.numerics, device=prepared.study.numerics.device
    )


def largest_model(prepared: PreparedStudy) -> PreparedModel:
    """The model that takes the most memory."""
    return max((entry.model for entry in prepared.models.values()), key=lambda model: model.parameters)


def _is_kept(store: Store, run_id: str) -> bool:
    """Whether the checkpoint behind the run's last step is there, as it was written."""
    folder = store.kept_folder(run_id)
    return folder.is_dir() and not any(check_manifest(path.parent) for path in folder.glob(f"[!.]*/{MANIFEST}"))
