"""What a manifest lists."""

from __future__ import annotations

from pathlib import Path

from titrant.storage.atomic import write_bytes
from titrant.storage.json_files import read_json
from titrant.storage.manifests import check_manifest, write_manifest


def test_a_manifest_lists_every_file_but_itself_the_timing_and_leftovers(tmp_path: Path) -> None:
    for name in ("a", "deep/b", "timing.json", ".tmp-1-c", ".tmp-folder/d"):
        write_bytes(tmp_path / name, b"x")
    digest = write_manifest(tmp_path)
    assert set(read_json(tmp_path / "manifest.json")["files"]) == {"a", "deep/b"}
    assert check_manifest(tmp_path, expected=digest) == []
    assert check_manifest(tmp_path, expected="0" * 64) == [
        f"{tmp_path}/manifest.json: checksum differs from the ledger's"
    ]
