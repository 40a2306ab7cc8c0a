"""A run's weights as a folder that others can load: copied whole or not at all, with a card and a manifest."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from titrant.core.errors import StoreDamaged
from titrant.engines.job import weights_folder
from titrant.experiment.design import PlannedRun
from titrant.storage.atomic import sync_folder, write_text
from titrant.storage.json_files import read_json, write_json
from titrant.storage.manifests import MANIFEST, check_manifest, write_manifest
from titrant.storage.store import Store

FACTS, CARD = "titrant.json", "README.md"


def publish_model(folder: Path, planned: PlannedRun, store: Store, *, card: str, only_check: bool) -> bool:
    """Make `folder` the model of a run with its `card`, whole or not at all. With `only_check`, say whether it is so
    already."""
    facts = {"run_id": planned.run.run_id, "arm": planned.run.arm.name, "seed": planned.run.seed}
    if only_check:
        stands = all((folder / name).is_file() for name in (FACTS, MANIFEST)) and read_json(folder / FACTS) == facts
        if stands:
            _keep_card(folder, card)
        return stands

    def finish(temporary: Path) -> None:
        (temporary / MANIFEST).unlink()
        write_text(temporary / CARD, card)
        write_json(temporary / FACTS, facts)
        write_manifest(temporary)

    copy_whole(weights_folder(store, planned.run.run_id), folder, finish=finish, copy=_linked)
    return True


def copy_whole(
    source: Path,
    folder: Path,
    *,
    finish: Callable[[Path], None] = lambda _: None,
    copy: Callable[[str, str], object] = shutil.copy2,
) -> None:
    """Make `folder` a copy of the folder `source`, whole or not at all, replacing what is there.

    `finish` changes the copy before it is seen. `StoreDamaged` where `source` does not match its manifest.
    """
    temporary = folder.with_name(f".tmp-{folder.name}")
    if temporary.exists():
        shutil.rmtree(temporary)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copytree(source, temporary, copy_function=copy)
        problems = check_manifest(temporary)
        if problems:
            raise StoreDamaged(
                f"{source} is not as it was written ({Path(problems[0]).name}). Fix: delete it and run the study again"
            )
        finish(temporary)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(folder.parent)


def _keep_card(folder: Path, card: str) -> None:
    """Write the card anew where the evidence has changed, with its line in the manifest; the weights' lines stay as
    they are, so that damage is never taken for what was written."""
    data = card.encode("utf-8", "surrogatepass")
    listed = read_json(folder / MANIFEST)["files"]
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    if listed.get(CARD) != entry or not (folder / CARD).is_file() or (folder / CARD).read_bytes() != data:
        write_text(folder / CARD, card)
        write_json(folder / MANIFEST, {"files": {**listed, CARD: entry}})


def _linked(source: str, destination: str) -> str:
    """A hard link where the file system has them, else a copy."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copy2(source, destination)
    return destination
