"""One run, from plan to stored answers: what a worker does, the same whoever calls it.

A run is finished when its answers are stored. What is written is written whole, and equal for equal runs; times go to
timing.json, which no manifest covers.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from titrant.backends.protocol import Backend, LanguageModel
from titrant.core.errors import Interrupted, RunFailed
from titrant.core.identity import plain
from titrant.core.records import (
    Answer,
    PreparedModel,
    Run,
    StepReport,
    TokenPrompt,
    TokenQuestion,
    TokenRow,
    TrainingPlan,
    Written,
)
from titrant.core.redaction import redacted
from titrant.storage.atomic import sync_folder
from titrant.storage.folder import ABOUT, STEPS
from titrant.storage.json_files import values_of_jsonl, write_json, write_jsonl
from titrant.storage.manifests import TIMING, write_manifest
from titrant.storage.sealed import cut_torn_line, read_sealed_lines, sealed_line, write_sealed
from titrant.storage.store import Store

TRAINING, ANSWERS, RUN = "training.jsonl", "answers.parquet", "run.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunJob:
    """All that a worker needs for one run.

    `requests` names the whole set of requests. `supplement` is the same name where the run is finished and these
    requests are new to it: then it goes on from the checkpoint behind its last step where one is kept, and is trained
    again only where none is. `keep_training`: leave such a checkpoint.
    """

    run: Run
    model: PreparedModel
    plan: TrainingPlan | None
    questions: tuple[TokenQuestion, ...]
    prompts: tuple[TokenPrompt, ...]
    losses: tuple[TokenRow, ...]
    requests: str
    keep_weights: bool
    keep_training: bool = False
    supplement: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a run, for whoever shows progress. Never part of a result."""

    kind: Literal["started", "step", "answering", "done", "failed", "skipped"]
    run_id: str
    step: int = 0
    steps: int = 0
    loss: float | None = None
    tokens: int = 0
    seconds: float = 0.0
    message: str = ""


Emit = Callable[[Event], None]
Stop = Callable[[], int | None]
Decode = Callable[[Sequence[int]], str]


def do_run(job: RunJob, *, store: Store, backend: Backend, decode: Decode, emit: Emit, stop: Stop) -> None:
    """Train, answer, store. The caller holds the run's claim. A failure is recorded in the ledger and emitted."""
    run_id = job.run.run_id
    emit(Event(kind="started", run_id=run_id, steps=job.run.steps))
    started = time.monotonic()
    try:
        recalled = None if job.supplement is None else _recalled(job, store=store, backend=backend, stop=stop)
        language_model = recalled or _trained(job, store=store, backend=backend, emit=emit, stop=stop)
        trained = time.monotonic()
        carried_out = language_model.carried_out
        try:
            emit(Event(kind="answering", run_id=run_id, steps=job.run.steps, step=job.run.steps))
            try:
                answers = _answers(job, language_model, decode=decode, stop=stop)
            except Interrupted:
                # Trained and interrupted while answering: the finished training is kept, so the next attempt only
                # answers.
                language_model.keep()
                raise
            if job.keep_weights:
                _save_weights(job, language_model, store)
            if job.keep_training and recalled is None:
                language_model.keep(store.kept_folder(run_id))
        finally:
            language_model.close()
    # A run that fails is an outcome and not an error: it is recorded and the others go on.
    except RunFailed as failure:
        store.append(
            {
                "kind": "failure",
                "run_id": run_id,
                "recipe_id": job.run.recipe_id,
                "failure": {"kind": failure.kind, "step": failure.step, "message": redacted(failure.message)},
            }
        )
        emit(Event(kind="failed", run_id=run_id, step=failure.step or 0, message=redacted(str(failure))))
        return
    timing = {
        "training_seconds": round(trained - started, 3),
        "answering_seconds": round(time.monotonic() - trained, 3),
        "peak_memory_bytes": _peak_memory(),
        **carried_out,
    }
    _publish(job, answers, timing, store)
    emit(Event(kind="done", run_id=run_id, step=job.run.steps, steps=job.run.steps))


def _recalled(job: RunJob, *, store: Store, backend: Backend, stop: Stop) -> LanguageModel | None:
    """The model of a finished run from what is kept of it; None where nothing is.

    A checkpoint and not the weights that are handed over: those are rounded to the dtype that answers, and a head that
    computes in float32 would answer otherwise in the last bits.
    """
    if job.plan is None:
        return backend.untuned(job.model)
    kept = store.kept_folder(job.run.run_id)
    if not kept.is_dir():
        return None
    return backend.train(job.plan, checkpoints=kept, on_step=lambda _: None, stop=stop)


def save_trained(job: RunJob, *, store: Store, backend: Backend, emit: Emit, stop: Stop) -> None:
    """Train a run again for its weights alone: they come out as they were."""
    language_model = _trained(job, store=store, backend=backend, emit=emit, stop=stop)
    try:
        _save_weights(job, language_model, store)
    finally:
        language_model.close()
    shutil.rmtree(store.work_folder(job.run.run_id), ignore_errors=True)


def weights_folder(store: Store, run_id: str) -> Path:
    """Where a run's weights wait until the verdict says whose are kept."""
    return store.root / "weights" / run_id


def checked_training(store: Store, run_id: str, *, manifest: str | None) -> list[dict[str, Any]]:
    """`read_training` of a run in the store, every byte compared with what was stored; `StoreDamaged` otherwise."""
    path = store.run_folder(run_id) / TRAINING
    return values_of_jsonl(store.checked_bytes(run_id, TRAINING, manifest=manifest), path)


def read_training(folder: Path) -> list[dict[str, Any]]:
    """The step reports of a finished run: step, loss, loss_by_source, gradient_norm, learning_rate, tokens."""
    from titrant.storage.json_files import read_jsonl

    path = folder / TRAINING
    return read_jsonl(path) if path.exists() else []


def _trained(job: RunJob, *, store: Store, backend: Backend, emit: Emit, stop: Stop) -> LanguageModel:
    if job.plan is None:
        return backend.untuned(job.model)
    work = store.work_folder(job.run.run_id)
    about = {"run_id": job.run.run_id, **_about(job.run)}
    # Steps are reported to a journal that is flushed and not synced, checkpoints are synced. After a power cut a
    # checkpoint can therefore be ahead of the journal.
    for attempt in ("resumed", "anew"):
        write_sealed(work / ABOUT, about)
        journal = _Journal(work / STEPS)

        def on_step(report: StepReport, journal: _Journal = journal) -> None:
            journal.add(report)
            emit(
                Event(
                    kind="step",
                    run_id=job.run.run_id,
                    step=report.step,
                    steps=job.run.steps,
                    loss=report.loss,
                    tokens=report.tokens,
                    seconds=report.seconds,
                )
            )

        with journal:
            language_model = backend.train(job.plan, checkpoints=work, on_step=on_step, stop=stop)
        if journal.whole(len(job.plan.steps)) or attempt == "anew":
            return language_model
        # A power cut lost reports that a checkpoint had passed: train again, so that the curve is whole.
        language_model.close()
        shutil.rmtree(work)
    raise AssertionError("unreachable")


class _Journal:
    """Step reports of a run in the making, kept across interruptions; the last report of a step counts. One that is
    not as it was written counts as lost."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reports: dict[int, dict[str, Any]] = {report["step"]: report for report in read_sealed_lines(path)[0]}
        self._file = path.open("a+b")
        cut_torn_line(self._file)

    def add(self, report: StepReport) -> None:
        # Seconds differ between equal runs, and training.jsonl must not.
        entry = plain(report)
        del entry["seconds"]
        self.reports[report.step] = entry
        self._file.write(sealed_line(entry))
        self._file.flush()

    def whole(self, steps: int) -> bool:
        return all(step in self.reports for step in range(1, steps + 1))

    def __enter__(self) -> _Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _answers(job: RunJob, language_model: LanguageModel, *, decode: Decode, stop: Stop) -> list[Answer]:
    """Every item asked is answered once; a signal is heeded between batches of answers."""
    run_id = job.run.run_id
    answers: list[Answer] = []

    def heed() -> None:
        signal_number = stop()
        if signal_number is not None:
            raise Interrupted(signal_number)

    language_model.heed = heed
    if job.questions:
        for question, logprobs in zip(job.questions, language_model.loglikelihood(job.questions), strict=True):
            assert len(logprobs) == len(question.choices)
            _refuse_what_is_no_number(question.key, logprobs, best=max(logprobs))
            # Of equal choices the first: `max` over pairs, where a smaller index counts as more.
            best = max(range(len(logprobs)), key=lambda index: (logprobs[index], -index))
            answers.append(Answer(run_id=run_id, request=question.key, choice=best, choice_logprobs=tuple(logprobs)))
    if job.prompts:
        written: Sequence[Written] = language_model.generate(job.prompts)
        for prompt, said in zip(job.prompts, written, strict=True):
            answers.append(Answer(run_id=run_id, request=prompt.key, text=decode(said.ids).strip(), stop=said.stop))
    if job.losses:
        for row, loss in zip(job.losses, language_model.losses(job.losses), strict=True):
            _refuse_what_is_no_number(row.key, [loss], best=loss)
            answers.append(Answer(run_id=run_id, request=row.key, loss=loss))
    heed()
    return answers


def _refuse_what_is_no_number(key: str, values: Sequence[float], *, best: float) -> None:
    """A model that diverged in its last step answers too, with NaN: the first of them would pass as a choice. That some
    choice has no probability at all is an answer; that none has, or that a loss is infinite, is not."""
    if any(math.isnan(value) for value in values) or not math.isfinite(best):
        raise RunFailed("non_finite", f"the answer to request {key} rests on {', '.join(map(str, values))}")


def _save_weights(job: RunJob, language_model: LanguageModel, store: Store) -> None:
    final = weights_folder(store, job.run.run_id)
    folder = final.with_name(f".tmp-{job.run.run_id}")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    try:
        language_model.save(folder)
        for path in folder.rglob("*"):
            if path.is_file():
                path.chmod(0o644)  # weights come out readable by their owner alone, and a model is handed on
        write_manifest(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # half a model would take up the disk space that is missing
        raise
    if final.exists():
        shutil.rmtree(final)
    # The rename is what makes the weights be there: whoever looks sees none of them or all.
    os.replace(folder, final)
    sync_folder(final.parent)


def _about(run: Run) -> dict[str, Any]:
    """What tells runs of one recipe apart."""
    return {"recipe_id": run.recipe_id, "backend": run.backend, "numerics": plain(run.numerics)}


def _publish(job: RunJob, answers: Sequence[Answer], timing: dict[str, Any], store: Store) -> None:
    if job.supplement is not None:
        folder = store.begin_answers(job.run.run_id, job.supplement)
        write_answers(folder / ANSWERS, answers)
        write_sealed(folder / TIMING, timing)
        store.finish_answers(job.run.run_id, job.supplement)
        return
    work = store.work_folder(job.run.run_id)
    folder = store.begin(job.run.run_id)
    run = plain(job.run)
    # Two arms of different names can come to one run, and which of them ran first must not be in its bytes.
    run["arm"] = {key: value for key, value in run["arm"].items() if key != "name"}
    write_json(folder / RUN, run)
    if job.plan is not None:
        journal = _Journal(work / STEPS)
        with journal:
            write_jsonl(folder / TRAINING, (journal.reports[step] for step in range(1, len(job.plan.steps) + 1)))
    write_answers(folder / ANSWERS, answers)
    write_sealed(folder / TIMING, timing)
    store.finish(job.run.run_id, {**_about(job.run), "requests": job.requests})


def write_answers(path: Path, answers: Sequence[Answer]) -> None:
    """Answers as Parquet, sorted by request: request, text, choice, choice_logprobs, loss, stop."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from titrant.storage.atomic import write_bytes

    # Sorted and from one buffer: equal answers are equal bytes, whatever the order in which batches gave them.
    rows = sorted(answers, key=lambda answer: answer.request)
    table = pa.table(
        {
            "request": pa.array([row.request for row in rows], pa.string()),
            "text": pa.array([_storable(row.text) for row in rows], pa.string()),
            "choice": pa.array([row.choice for row in rows], pa.int32()),
            "choice_logprobs": pa.array(
                [None if row.choice_logprobs is None else list(row.choice_logprobs) for row in rows],
                pa.list_(pa.float64()),
            ),
            "loss": pa.array([row.loss for row in rows], pa.float64()),
            "stop": pa.array([row.stop for row in rows], pa.string()),
        }
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_bytes(path, sink.getvalue().to_pybytes())


def _storable(text: str | None) -> str | None:
    return None if text is None else text.encode("utf-8", "replace").decode()


def _peak_memory() -> int:
    import resource

    # Linux counts this in kibibytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
