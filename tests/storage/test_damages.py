"""Flipped bits, missing and changed files are named."""

from __future__ import annotations

from pathlib import Path

from stores import flipped, work

from titrant.storage.atomic import write_bytes
from titrant.storage.manifests import write_manifest
from titrant.storage.sealed import sealed_line, write_sealed
from titrant.storage.store import Store


def with_model(root: Path) -> Store:
    store = work(root)
    write_bytes(root / "model" / "weights.bin", b"\x01\x02\x03\x04")
    write_manifest(root / "model")
    return store


def test_one_flipped_bit_in_any_file_is_named(tmp_path: Path) -> None:
    store = with_model(tmp_path)
    assert store.damages() == []
    files = [path for path in tmp_path.rglob("*") if path.is_file() and "claims" not in path.parts]
    checked = [path for path in files if path != tmp_path / "model" / "manifest.json"]
    assert len(checked) == 15
    for path in checked:
        data = path.read_bytes()
        for place in {0, len(data) // 2, len(data) - 1}:
            path.write_bytes(flipped(data, place))
            named = store.damages()
            assert [damage.path for damage in named] == [str(path)], f"{path} at {place}"
            assert named[0].remedy
        path.write_bytes(data)
    assert store.damages() == []


def test_damaged_checkpoints_and_step_reports_are_named_and_a_line_in_the_making_is_not(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    folder = store.work_folder("a1")
    write_sealed(folder / "about.json", {"run_id": "a1"})
    write_bytes(folder / "step-00000001" / "weights", b"\x01\x02")
    write_manifest(folder / "step-00000001")
    (folder / "steps.jsonl").write_bytes(sealed_line({"step": 1}) + sealed_line({"step": 2}) + b'{"record":')
    (folder / ".tmp-checkpoint-2").mkdir()
    assert store.damages() == []
    for path in (folder / "about.json", folder / "step-00000001" / "weights", folder / "steps.jsonl"):
        data = path.read_bytes()
        path.write_bytes(flipped(data, len(data) // 3))
        assert [damage.path for damage in store.damages()] == [str(path)]
        path.write_bytes(data)


def test_a_flip_anywhere_in_a_manifest_without_a_checksum_of_its_own_is_found(roomy: Path) -> None:
    store = with_model(roomy)
    manifest = roomy / "model" / "manifest.json"
    data = manifest.read_bytes()
    for place in range(len(data)):
        for bit in range(8):
            manifest.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
            assert store.damages(), (place, bit)
    manifest.unlink()
    assert [(damage.path, damage.problem) for damage in store.damages()] == [(str(manifest), "missing")]


def test_a_flip_anywhere_in_the_ledger_is_found(roomy: Path) -> None:
    store = work(roomy)
    data = store.ledger_path.read_bytes()
    for place in range(len(data)):
        store.ledger_path.write_bytes(flipped(data, place))
        assert [damage.path for damage in store.damages()] == [str(store.ledger_path)], place


def test_a_missing_a_shortened_and_a_lengthened_file_are_named(tmp_path: Path) -> None:
    store = work(tmp_path)
    path = store.run_folder("a1") / "answers.jsonl"
    data = path.read_bytes()
    for changed in (data[:-1], data + b"\n", b""):
        path.write_bytes(changed)
        assert [damage.path for damage in store.damages()] == [str(path)]
    path.unlink()
    assert [(damage.path, damage.problem) for damage in store.damages()] == [(str(path), "missing")]
