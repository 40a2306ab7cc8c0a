"""A folder's manifest: the name, size and SHA-256 of every file in it."""

from __future__ import annotations

from pathlib import Path

from titrant.core.errors import StoreDamaged
from titrant.core.identity import hash_file
from titrant.storage.atomic import sync_file
from titrant.storage.json_files import read_json, write_json

MANIFEST, TIMING = "manifest.json", "timing.json"
UNLISTED = frozenset({MANIFEST, TIMING})  # never part of a manifest: timing differs between equal runs


def write_manifest(folder: Path) -> str:
    """List every file below `folder` with its size and checksum in manifest.json; the manifest's own checksum."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        # Not times, which differ between equal runs, and not what another writer has not finished.
        if name in UNLISTED or any(part.startswith(".tmp-") for part in path.relative_to(folder).parts):
            continue
        sync_file(path)
        files[name] = {"bytes": path.stat().st_size, "sha256": hash_file(path)}
    write_json(folder / MANIFEST, {"files": files})
    return hash_file(folder / MANIFEST)


def check_manifest(folder: Path, *, expected: str | None = None) -> list[str]:
    """What is wrong in `folder` by its manifest (empty when nothing is); `expected` is the manifest's own checksum."""
    path = folder / MANIFEST
    if not path.is_file():
        return [f"{path}: missing"]
    if expected is not None and hash_file(path) != expected:
        return [f"{path}: checksum differs from the ledger's"]
    try:
        listed = _listed(path)
    except StoreDamaged as error:
        return [str(error)]
    problems = []
    for name, (size, checksum) in listed.items():
        file = folder / name
        if not file.is_file():
            problems.append(f"{file}: missing")
        elif file.stat().st_size != size:
            problems.append(f"{file}: {file.stat().st_size} bytes, {size} expected")
        elif hash_file(file) != checksum:
            problems.append(f"{file}: checksum differs")
    return problems


def _listed(manifest: Path) -> dict[str, tuple[int, str]]:
    """Size and checksum by name in a manifest; `StoreDamaged` when it does not say them."""
    try:
        return {name: (entry["bytes"], entry["sha256"]) for name, entry in read_json(manifest)["files"].items()}
    except (KeyError, TypeError, AttributeError):
        raise StoreDamaged(f"{manifest}: not a manifest") from None
