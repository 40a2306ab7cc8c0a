"""Results that still stand: a study that is run again with nothing to do answers from what it wrote, in seconds.

Beside the checksums of the result files, results.json holds what they were made from, in one fingerprint, and what was
decided. Where both still hold, nothing is scored, judged or drawn again. `titrant report` always does all of it anew,
and `titrant doctor` checks the bytes of every run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

import titrant
from titrant.config.fields import Place
from titrant.core.errors import StoreDamaged
from titrant.core.identity import fingerprint, hash_file, plain
from titrant.core.records import Failure
from titrant.core.revisions import REVISIONS
from titrant.engines.job import ANSWERS, TRAINING
from titrant.experiment.collections import collection_places
from titrant.experiment.design import Design
from titrant.experiment.prepare import PreparedStudy, collection_hash, file_hash
from titrant.experiment.results import FailedCell, Judged, Results, cells, collect, failures_by_run
from titrant.scoring.sheets import Scores
from titrant.stats.worth import SkillInteraction
from titrant.storage.folder import RESULTS
from titrant.storage.manifests import MANIFEST
from titrant.storage.sealed import read_sealed
from titrant.storage.store import Store

_Record = TypeVar("_Record")
_DECIDING = ("config", "data", "decision", "experiment", "report", "scoring", "stats", "tasks", "tokens")


def standing_results(design: Design, store: Store) -> Results | None:
    """The results as they were written, where nothing that they were made from has changed and every file is as it was
    written; else None. Scores are read from the runs only when they are looked at."""
    try:
        record = read_sealed(store.root / RESULTS)
    except StoreDamaged:
        return None
    if record.get("inputs") != inputs_digest(design, store) or not _files_stand(store, record["files"]):
        return None
    arms = {(arm.model, arm.target, arm.name): arm for arm in design.arms}
    return Results(
        design,
        Scores.later(partial(_runs, design, store)),
        tuple(
            FailedCell(
                arm=arms[(cell["model"], cell["target"], cell["arm"])],
                seed=cell["seed"],
                failure=Failure(**cell["failure"]),
            )
            for cell in record["failed"]
        ),
        _decoded(tuple[Judged, ...], record["judged"]),
        record["times_judged"],
        _decoded(tuple[SkillInteraction, ...], record["skills"]),
    )


def standing_record(results: Results, store: Store) -> dict[str, Any]:
    """What results.json holds so that these results can stand."""
    return {
        "inputs": inputs_digest(results.design, store),
        "judged": [plain(judged) for judged in results.judged],
        "failed": [
            {
                "model": cell.arm.model,
                "target": cell.arm.target,
                "arm": cell.arm.name,
                "seed": cell.seed,
                "failure": plain(cell.failure),
            }
            for cell in results.failed
        ],
        "times_judged": results.times_judged,
        "skills": [plain(found) for found in results.skills],
    }


def inputs_digest(design: Design, store: Store) -> str:
    """A fingerprint of all that results are made from: the study as written, its files, items and arms, the stored runs
    and failures, and the code that judges and draws."""
    prepared = design.prepared
    finished, further, failed = store.finished(), store.further_answers(), failures_by_run(store)
    runs = []
    # A run that is not finished stands with its failure: tried again with success, or failed otherwise, the results are
    # others.
    for arm, planned in cells(design):
        run_id = planned.run.run_id
        if run_id in finished:
            state = [finished[run_id]["manifest"], *_stamps(store.run_folder(run_id))]
            for record in further.get(run_id, ()):
                folder = store.answers_folder(run_id, record["requests"])
                state += [record["manifest"], *_stamps(folder)]
        else:
            state = [failed.get(run_id, {}).get("failure")]
        runs.append([arm.model, arm.target, arm.name, planned.run.seed, run_id, state])
    return fingerprint(
        {
            "titrant": [titrant.__version__, REVISIONS, _code_digest()],
            "study": [prepared.study.text, prepared.study.effective()],
            "code": [extension.identity for extension in prepared.study.code],
            "files": [*_file_hashes(prepared)],
            "prompts": [
                file_hash(str(source.prompts_also_in))
                for source in prepared.study.generalist.values()
                if source.prompts_also_in is not None
            ],
            "labels": [
                file_hash(str(prepared.study.folder / source.labels))
                for source in prepared.study.generalist.values()
                if source.labels is not None
            ],
            "items": _items_digest(prepared),
            "models": [[name, plain(entry.model)] for name, entry in prepared.models.items()],
            "numerics": prepared.numerics,
            "runs": runs,
        }
    )


def _stamps(folder: Path) -> Iterator[int]:
    """Sizes and times of change of what is read of a run. A file that anybody has written to since is read again, and
    then its bytes are checked; bytes that changed on the disk while size and time stayed, `titrant doctor` finds."""
    for name in (MANIFEST, ANSWERS, TRAINING):
        try:
            found = (folder / name).stat()
        except FileNotFoundError:
            continue
        yield found.st_size
        yield found.st_mtime_ns


def _file_hashes(prepared: PreparedStudy) -> Iterator[list[str]]:
    """Every place of rows that the study names, as it is written, with a hash of what is read from it."""
    study = prepared.study
    places: list[Place | None] = []
    for target in study.targets.values():
        places += [target.train, target.test, target.rows, None if target.facts is None else target.facts.rows]
        places += [target.validation if isinstance(target.validation, Place) else None]
        if target.collection is not None:
            yield from (
                [place.written, collection_hash(target.collection, place)]
                for place in collection_places(target.collection)
            )
    for source in study.generalist.values():
        places += [source.rows, source.text, None if source.facts is None else source.facts.rows]
    places += [study.retention.kept, study.retention.learned]
    yield from ([place.written, file_hash(str(place))] for place in places if place is not None)


def _items_digest(prepared: PreparedStudy) -> str:
    """A hash of every item with its references, as read: rows may also come from places without a file's bytes."""
    digest = hashlib.sha256()
    for name in prepared.models:
        for item in prepared.items(name, list(prepared.study.targets)):
            said = (
                item.key,
                item.eval_set,
                item.target,
                item.task,
                item.turns,
                item.references,
                item.choices,
                item.group,
            )
            # Fed item by item: a list of a hundred thousand items as one JSON text would take more memory than the
            # items.
            digest.update(
                repr((said, item.metric, item.answer, item.rungs, item.tags)).encode("utf-8", "surrogatepass")
            )
    return digest.hexdigest()


def _code_digest() -> str:
    """A hash of the code that turns answers into results, so that a changed rule is never hidden by an old page."""
    root = Path(titrant.__file__).parent
    files = sorted(file for name in _DECIDING for file in (root / name).rglob("*.*") if "__pycache__" not in file.parts)
    return fingerprint([[str(file.relative_to(root)), hash_file(file)] for file in files if file.is_file()])


def _files_stand(store: Store, files: Mapping[str, str]) -> bool:
    return all((store.root / name).is_file() and hash_file(store.root / name) == sum_ for name, sum_ in files.items())


def _runs(design: Design, store: Store) -> Any:
    return collect(design, store)[0].runs


def _decoded(kind: type[_Record], stored: Any) -> _Record:
    """The records that `plain` made into JSON."""
    return TypeAdapter(kind).validate_python(stored)
