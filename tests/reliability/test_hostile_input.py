"""Files that were made to do harm: each is refused by name, soon, and in little memory."""

from __future__ import annotations

import csv
import gzip
import io
import json
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from titrant.backends.hf.models.headers import read_gguf, read_safetensors
from titrant.backends.hf.models.resolve import read_object
from titrant.core.errors import DataError, ModelError, ScoresError, StoreDamaged, UserError
from titrant.data.readers import load_examples, read_rows
from titrant.data.readers.hub import front_matter
from titrant.decision.judge import judge
from titrant.scoring.metrics import METRICS, score_text
from titrant.storage.json_files import read_json

ROW = b'{"prompt": "p", "completion": "c"}\n'
LONG_ROW = b'{"prompt": "p", "completion": "' + b"c" * 4000 + b'"}\n'


@contextmanager
def soon(seconds: float = 5.0) -> Iterator[None]:
    """Seconds of the processor, which a busy machine does not stretch."""
    began = time.process_time()
    yield
    assert time.process_time() - began < seconds


# ---------------------------------------------------------------------------------------------------------------- bombs


def _gzip_bomb() -> bytes:
    return gzip.compress(LONG_ROW * 2_000, 9) * 10  # a gzip file may have any number of parts


def _zip_bomb() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(20):
            archive.writestr(f"{number}.jsonl", LONG_ROW * 1_000)
    return target.getvalue()


def _tar_bomb() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for number in range(20):
            entry = tarfile.TarInfo(f"{number}.jsonl")
            entry.size = len(LONG_ROW) * 1_000
            archive.addfile(entry, io.BytesIO(LONG_ROW * 1_000))
    return target.getvalue()


def _tar_with_a_long_header() -> bytes:
    entry = tarfile.TarInfo("header")
    entry.type, entry.size = tarfile.XHDTYPE, 400 << 20
    return gzip.compress(entry.tobuf() + bytes(400 << 20), 1)


def _parquet_bomb() -> bytes:
    target = io.BytesIO()
    prompts = pa.DictionaryArray.from_arrays(pa.array([0] * 30_000, pa.int32()), pa.array(["x" * 10_000]))
    pq.write_table(pa.table({"prompt": prompts, "completion": prompts}), target, store_schema=False)
    return target.getvalue()


BOMBS: dict[str, Callable[[], bytes]] = {
    "a.jsonl.gz": _gzip_bomb,
    "a.zip": _zip_bomb,
    "a.tar.gz": _tar_bomb,
    "a.tgz": _tar_with_a_long_header,
    "a.parquet": _parquet_bomb,
}
# The peak is read from /proc: what getrusage says of a process starts at the memory of the one that started it.
READING = """
import sys
from titrant.core.errors import DataError
from titrant.data.readers import read_rows, unpacking
unpacking.FREE_BYTES = 8 << 20
try:
    count = sum(1 for _ in read_rows(sys.argv[1]))
except DataError as error:
    count = error
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(count, int(peak.split()[1]) // 1024, sep="\\n")
"""


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_unpacks_to_a_thousand_times_its_size_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(BOMBS[name]())
    assert path.stat().st_size < 3 << 20
    done = subprocess.run([sys.executable, "-c", READING, str(path)], capture_output=True, text=True, check=True)
    said, mebibytes = done.stdout.splitlines()
    assert f"{name}:1: this file unpacks to more than 100 times its size" in said
    assert int(mebibytes) < 600


def test_rows_that_compress_well_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(ROW * 100_000))
    assert sum(1 for _ in read_rows(path)) == 100_000


def test_an_archive_that_would_be_unpacked_from_its_start_for_every_member_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("titrant.data.readers.unpacking.FREE_BYTES", 1 << 20)
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for number in reversed(range(400)):
            entry = tarfile.TarInfo(f"{number:06d}.jsonl")
            entry.size = len(ROW) * 20
            archive.addfile(entry, io.BytesIO(ROW * 20))
    path = tmp_path / "a.tar.gz"
    path.write_bytes(target.getvalue())
    with soon(), pytest.raises(DataError, match="unpack it and name the folder"):
        list(read_rows(path))
    monkeypatch.undo()
    assert sum(1 for _ in read_rows(path)) == 8000  # with the usual allowance so small an archive is no trouble


def test_a_card_of_the_hub_with_an_alias_bomb_is_refused() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    card = "---\n" + "\n".join(rows) + "\nconfigs: [{config_name: *a11}]\n---\n"
    with soon(), pytest.raises(DataError, match="no honest one"):
        front_matter(card, "hub:a/b")
    assert front_matter("---\na: &x [1]\nb: *x\n---\n", "hub:a/b") == {"a": [1], "b": [1]}
    for broken in ("[" * 1200, "a: !!python/object/apply:os.system [x]", "? !!binary é"):
        with soon(), pytest.raises(DataError, match="README"):
            front_matter(f"---\n{broken}\n---\n", "hub:a/b")


@pytest.mark.parametrize(
    ("name", "make", "before", "after"),
    [
        ("a.zip", _zip_bomb, b"0.jsonl", b"\x86.jsonl"),  # in the name of a member
        ("a.parquet", _parquet_bomb, b"prompt", b"prom\xe9t"),  # in the name of a column
    ],
)
def test_a_name_inside_a_file_that_is_no_text_makes_it_unreadable(
    tmp_path: Path, name: str, make: Callable[[], bytes], before: bytes, after: bytes
) -> None:
    content = make().replace(before, after)
    if name == "a.zip":  # say of every member that its name is UTF-8
        content = content.replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x00\x08")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}:1: this .* cannot be read"):
        list(read_rows(tmp_path / name))


# ------------------------------------------------------------------------------------------------------ depth and size


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5_000, '{"a": ' + "9" * 5_000 + "}"])
def test_depth_and_numbers_without_end_are_no_json_of_ours(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ModelError, match=r"config\.json"):
        read_object(path)
    if text.startswith(("[[", '{"a":{')):
        with pytest.raises(StoreDamaged, match=r"config\.json"):
            read_json(path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text.encode())
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        read_safetensors(path)


def test_shapes_that_no_tensor_has_are_refused_without_multiplying_them(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for shape in ([10**4000] * 3000, [-1, -4], [2.0, 2], ["2", 2], [True, 4], [1] * 9):
        header = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 16]}}).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
        with soon(), pytest.raises(ModelError, match=r"model\.safetensors"):
            read_safetensors(path)


def _gguf(*fields: bytes, tensors: bytes = b"", count: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, count, len(fields)) + b"".join(fields) + tensors


def _text(said: bytes) -> bytes:
    return struct.pack("<Q", len(said)) + said


def test_gguf_headers_that_lie_are_refused(tmp_path: Path) -> None:
    many = 300_000
    hostile = {
        "alignment 0": _gguf(_text(b"general.alignment") + struct.pack("<II", 4, 0)),
        "alignment in words": _gguf(_text(b"general.alignment") + struct.pack("<I", 8) + _text(b"32")),
        "arrays in arrays": _gguf(_text(b"a") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 5000),
        "a tensor of many dimensions": _gguf(
            tensors=_text(b"t") + struct.pack("<I", many) + b"\xff" * 8 * many + bytes(12), count=1
        ),
    }
    path = tmp_path / "model.gguf"
    for content in hostile.values():
        path.write_bytes(content)
        with soon(), pytest.raises(ModelError, match=r"model\.gguf.*damaged"):
            read_gguf(path)


# -------------------------------------------------------------------------------------------- time that grows too fast


def test_a_row_with_a_hundred_thousand_keys_is_refused_in_linear_time(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    keys = [f'"k{number}": 1' for number in range(100_000)]
    path.write_text("{" + ", ".join([*keys, keys[-1]]) + "}\n")
    with soon(), pytest.raises(DataError, match="'k99999' stands twice"):
        list(read_rows(path))


def test_a_table_with_a_hundred_thousand_columns_is_refused_in_linear_time(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    names = [f"c{number}" for number in range(100_000)]
    path.write_text(",".join([*names, "c5"]) + "\n")
    with soon(), pytest.raises(DataError, match=r"same name.*c5"):
        list(read_rows(path))
    path.write_text(",".join(names) + "\n" + ",".join(names[1:]) + "\n")
    with soon(), pytest.raises(DataError) as caught:
        load_examples(path, source="s", task="t")
    assert len(str(caught.value)) < 5000
    path.write_text(",".join(["arm"] * 100_000 + ["seed", "item", "score"]) + "\n")
    with soon(), pytest.raises(ScoresError, match="arm is there twice"):
        judge(path, smallest_effect=0.01)
    path.write_text(f"{'x' * 200_000},arm\n")
    csv.field_size_limit(131_072)  # as it is in a process that has read no table of rows
    with pytest.raises(ScoresError, match=r"a\.csv:1: not a CSV file"):
        judge(path, smallest_effect=0.01)


@pytest.mark.parametrize("metric", METRICS)
def test_no_text_makes_a_metric_slow(metric: str) -> None:
    for piece in ("1", "1/", " ", "(", "-", "1,", "1.", "the ", "é", "\n", "-1,234", "1 / ", "$", "1e"):
        with soon():
            score_text(metric, piece * 60_000, ("12", "the end"))


def test_an_error_never_repeats_a_file(tmp_path: Path) -> None:
    class Odd(UserError):
        pass

    said = str(Odd("odd", got="x" * 10**7, expected="y" * 10**7))
    assert len(said) < 1500
    assert "thousands of digits" in str(Odd("odd", got=10**5000))
