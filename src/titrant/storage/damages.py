"""What is wrong with a store, file by file, and what can be done about it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from titrant.core.errors import StoreDamaged
from titrant.core.identity import hash_file
from titrant.storage.folder import ABOUT, MARKED, MARKER, RESULTS, STEPS, StoreFolder
from titrant.storage.json_files import read_json
from titrant.storage.ledger import further_answers, records_of
from titrant.storage.manifests import MANIFEST, TIMING, check_manifest
from titrant.storage.sealed import SEALED_REMEDY, read_sealed, read_sealed_lines, whole_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One thing that is wrong with a store, and what can be done about it."""

    path: str
    problem: str
    remedy: str


def damages_of(place: StoreFolder) -> list[Damage]:
    """Every file that is missing or does not match its checksum, with what can be recomputed."""
    # Goes on after each fault, so that one look tells all of them.
    found = _marker_damages(place.root / MARKER)
    try:
        records = records_of(place)
    except StoreDamaged as error:
        problem, _, remedy = str(error).partition(". Fix: ")
        return [*found, Damage(path=str(place.ledger_path), problem=problem, remedy=remedy)]
    if place.ledger_path.exists() and _torn(place.ledger_path.read_bytes()):
        remedy = "run the study again: the record is written anew"
        found.append(Damage(path=str(place.ledger_path), problem="the last line is cut short", remedy=remedy))
    runs = {record["run_id"]: record for record in records if record.get("kind") == "run"}
    for run_id, record in sorted(runs.items()):
        folder = place.run_folder(run_id)
        problems = check_manifest(folder, expected=record.get("manifest"))
        found += [_damage(problem, train_anew(folder)) for problem in problems]
        found += _sealed_damages(folder / TIMING)
    for further in further_answers(place).values():
        for record in further:
            folder = place.answers_folder(record["run_id"], record["requests"])
            problems = check_manifest(folder, expected=record.get("manifest"))
            found += [_damage(problem, train_anew(folder)) for problem in problems]
            found += _sealed_damages(folder / TIMING)
    found += _work_damages(place)
    found += _result_damages(place)
    for manifest in _manifests(place.root / "model"):
        remedy = f"delete {place.root / 'model'} and run the study again"
        found += [_damage(problem, remedy) for problem in check_manifest(manifest.parent)]
    for manifest in sorted(place.root.glob("kept/[!.]*/[!.]*/" + MANIFEST)):
        remedy = f"delete {manifest.parent}; the run is trained again, to the same bits, when it is asked more"
        found += [_damage(problem, remedy) for problem in check_manifest(manifest.parent)]
    for manifest in sorted(place.root.glob("weights/[!.]*/" + MANIFEST)):
        remedy = f"delete {manifest.parent}; export trains the arm again, to the same bits"
        found += [_damage(problem, remedy) for problem in check_manifest(manifest.parent)]
    return found


def train_anew(folder: Path) -> str:
    return f"delete {folder} and run the study again: the run is trained anew"


def _work_damages(place: StoreFolder) -> list[Damage]:
    """What is wrong with checkpoints and step reports of unfinished runs; the next attempt does without them."""
    remedy = "run the study again: the run goes on from an older checkpoint, or from its beginning"
    found = []
    for manifest in sorted(place.root.glob("work/[!.]*/[!.]*/" + MANIFEST)):
        found += [_damage(problem, remedy) for problem in check_manifest(manifest.parent)]
    for folder in sorted(place.root.glob("work/[!.]*")):
        _, damaged = read_sealed_lines(folder / STEPS)
        problem = "not as it was written in line " + ", ".join(map(str, damaged))
        found += [Damage(path=str(folder / STEPS), problem=problem, remedy=remedy)] if damaged else []
        found += _sealed_damages(folder / ABOUT)
    return found


def _result_damages(place: StoreFolder) -> list[Damage]:
    path = place.root / RESULTS
    found = _sealed_damages(path)
    if found or not path.exists():
        return found
    for name, checksum in read_sealed(path)["files"].items():
        file = place.root / name
        problem = "checksum differs" if file.is_file() else "missing"
        if not file.is_file() or hash_file(file) != checksum:
            found.append(Damage(path=str(file), problem=problem, remedy="run `titrant report` to write it again"))
    return found


def _damage(problem: str, remedy: str) -> Damage:
    """`path: what is wrong`, as problems are said, with what can be done."""
    path, _, what = problem.partition(": ")
    return Damage(path=path, problem=what, remedy=remedy)


def _sealed_damages(path: Path) -> list[Damage]:
    """What is wrong with a sealed file; one that is not there is not missed."""
    try:
        if path.exists():
            read_sealed(path)
    except StoreDamaged:
        return [Damage(path=str(path), problem="not as it was written", remedy=SEALED_REMEDY)]
    return []


def _marker_damages(marker: Path) -> list[Damage]:
    try:
        as_written = read_json(marker) == MARKED
    except StoreDamaged:
        as_written = False
    if as_written:
        return []
    remedy = f"write {json.dumps(MARKED)} into it"
    return [Damage(path=str(marker), problem="not as it was written", remedy=remedy)]


def _manifests(folder: Path) -> list[Path]:
    """The manifests of the models below `folder`: of the folder itself, or of its parts where a study has several."""
    if not folder.is_dir():
        return []
    found = [path for path in sorted(folder.rglob(MANIFEST)) if ".tmp-" not in path.as_posix()]
    return found or [folder / MANIFEST]


def _torn(data: bytes) -> bool:
    return whole_lines(data) != len(data)
