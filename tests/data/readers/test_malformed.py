"""Malformed files, each made here: either file:line and the cause, or the bytes survive."""

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from titrant.core.errors import DataError
from titrant.data.readers import load_examples, read_rows
from titrant.data.readers.tables import rows_of_arrow

GOOD = b'{"prompt": "p", "completion": "c"}\n'


def _zip_of(*names: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in names:
            archive.writestr(name, GOOD)
    return target.getvalue()


def _zip_with_link() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        entry = zipfile.ZipInfo("rows.jsonl")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    return target.getvalue()


def _tar_of(name: str, *, link: str | None = None) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        entry = tarfile.TarInfo(name)
        if link is not None:
            entry.type, entry.linkname = tarfile.SYMTYPE, link
            archive.addfile(entry)
        else:
            entry.size = len(GOOD)
            archive.addfile(entry, io.BytesIO(GOOD))
    return target.getvalue()


def _parquet(**columns: object) -> bytes:
    target = io.BytesIO()
    pq.write_table(pa.table(columns), target)
    return target.getvalue()


REFUSED: dict[str, tuple[str, bytes, str, str]] = {
    # name: (file name, bytes, the place, the cause)
    "truncated JSON": ("a.jsonl", GOOD + b'{"prompt": "p", "compl', "a.jsonl:2", "ends too early"),
    "truncated after a key": ("a.jsonl", GOOD + b'{"prompt":', "a.jsonl:2", "ends too early"),
    "a bare line feed inside a text": ("a.jsonl", b'{"prompt": "p\nq"}\n', "a.jsonl:1", "ends too early"),
    "two objects on a line": ("a.jsonl", GOOD.strip() + GOOD, "a.jsonl:1", "one object a line"),
    "single quotes": ("a.jsonl", b"{'prompt': 'p'}\n", "a.jsonl:1", "no JSON"),
    "a trailing comma": ("a.jsonl", b'{"prompt": "p",}\n', "a.jsonl:1", "no JSON"),
    "a duplicate key": ("a.jsonl", b'{"prompt": "p", "prompt": "q"}\n', "a.jsonl:1", "'prompt' stands twice"),
    "a duplicate key inside": ("a.jsonl", b'{"prompt": {"x": 1, "x": 1}}\n', "a.jsonl:1", "'x' stands twice"),
    "a NUL byte": ("a.jsonl", GOOD + b'{"prompt": "p\0"}\n', "a.jsonl:2", "NUL byte"),
    "a control character": ("a.jsonl", b'{"prompt": "p\x01"}\n', "a.jsonl:1", "control character"),
    "latin-1": ("a.jsonl", GOOD + '{"prompt": "café"}\n'.encode("latin-1"), "a.jsonl:2", "0xe9 at byte 16"),
    "a surrogate in the bytes": ("a.jsonl", b'{"prompt": "\xed\xa0\x80"}\n', "a.jsonl:1", "not UTF-8"),
    "a lone high surrogate": ("a.jsonl", b'{"prompt": "\\ud83d"}\n', "a.jsonl:1", "half a surrogate pair"),
    "a lone low surrogate in a key": ("a.jsonl", b'{"\\ude00": "p"}\n', "a.jsonl:1", "half a surrogate pair"),
    "UTF-16 with a mark": ("a.jsonl", GOOD.decode().encode("utf-16"), "a.jsonl:1", "UTF-16"),
    "UTF-16 without a mark": ("a.jsonl", GOOD.decode().encode("utf-16-le"), "a.jsonl:1", "UTF-16 without a mark"),
    "a list": ("a.jsonl", b'["p", "c"]\n', "a.jsonl:1", "not an object"),
    "a number": ("a.jsonl", b"3\n", "a.jsonl:1", "not an object"),
    "an array over lines, named .jsonl": ("a.jsonl", b"[\n" + GOOD + b"]\n", "a.jsonl:1", "named .json"),
    "nested too deeply": ("a.jsonl", b'{"a":' + b"[" * 200_000 + b"\n", "a.jsonl:1", "nested too deeply|no JSON"),
    "carriage returns alone": ("a.jsonl", GOOD.strip() + b"\r" + GOOD.strip(), "a.jsonl:1", "one object a line"),
    "an empty file": ("a.jsonl", b"", "a.jsonl:1", "empty"),
    "blank lines only": ("a.jsonl", b"\n \n", "a.jsonl:1", "no rows"),
    "an empty gzip": ("a.jsonl.gz", gzip.compress(b""), "a.jsonl.gz:1", "no rows"),
    "gzip in name only": ("a.jsonl.gz", GOOD, "a.jsonl.gz:1", "not a gzip file"),
    "gzip without the name": ("a.jsonl", gzip.compress(GOOD), "a.jsonl:1", "gzip-compressed"),
    "gzip cut off": ("a.jsonl.gz", gzip.compress(GOOD * 50)[:-12], "a.jsonl.gz:", "too early|damaged"),
    "gzip with a flipped byte": (
        "a.jsonl.gz",
        (lambda raw: raw[:-6] + bytes([raw[-6] ^ 255]) + raw[-5:])(gzip.compress(GOOD * 50)),
        "a.jsonl.gz:",
        "CRC|damaged",
    ),
    "a Git LFS pointer": ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\n", "a.jsonl:1", "git lfs pull"),
    "an unknown kind": ("a.xlsx", b"PK", "a.xlsx", "not known"),
    "an array cut off": ("a.json", b"[\n" + GOOD + b",\n" + GOOD, "a.json:5", "cut off"),
    "an array without a comma": ("a.json", b"[" + GOOD + GOOD + b"]", "a.json:2", "no comma"),
    "an array with a trailing comma": ("a.json", b"[" + GOOD + b",]", "a.json:2", "not an object"),
    "text after an array": ("a.json", b"[" + GOOD + b"]\nx", "a.json:3", "after the end"),
    "an array of texts": ("a.json", b'["p"]', "a.json:1", "not an object"),
    "a row of an array cut off": ("a.json", b'[\n{"prompt": "p', "a.json:2", "no JSON: Unterminated"),
    "latin-1 in an array": ("a.json", b'[\n{"prompt": "\xe9"}]', "a.json:2", "not UTF-8"),
    "a duplicate key in an array": ("a.json", b'[\n\n{"a": "1", "a": "2"}]', "a.json:3", "stands twice"),
    "a header alone": ("a.csv", b"prompt,completion\n", "a.csv:1", "no rows"),
    "a cell too many": ("a.csv", b"prompt,completion\np,c\np,c,d\n", "a.csv:3", "3 cells in a table of 2"),
    "a cell too few": ("a.csv", b'prompt,completion\n"p\nq",c\np\n', "a.csv:4", "1 cells in a table of 2"),
    "a quote that never closes": ("a.csv", b'prompt,completion\np,c\n"p,c\np,c\n', "a.csv:3", "never closes"),
    "a quote inside a quoted cell": ("a.csv", b'prompt,completion\n"p"q",c\n', "a.csv:2", "no CSV"),
    "a column twice": ("a.csv", b"prompt,prompt\np,c\n", "a.csv:1", "same name"),
    "semicolons": ("a.csv", b"prompt;\np\n", "a.csv:1", "one column only"),
    "latin-1 in a table": ("a.csv", b"prompt,completion\np,c\np,\xe9\n", "a.csv:3", "not UTF-8"),
    "NUL in a table": ("a.csv", b"prompt,completion\np,\0\n", "a.csv:2", "NUL byte"),
    "carriage returns in a table": ("a.csv", b"prompt,completion\rp,c\r", "a.csv:1", "carriage return"),
    "no Parquet": ("a.parquet", GOOD, "a.parquet:1", "cannot be read"),
    "Parquet cut off": ("a.parquet", _parquet(prompt=["p"], completion=["c"])[:-9], "a.parquet:1", "cannot be read"),
    "bytes in Parquet": ("a.parquet", _parquet(prompt=[b"p"], completion=["c"]), "a.parquet:1", "bytes"),
    "a zip that leads out": ("a.zip", _zip_of("good.jsonl", "../evil.jsonl"), "a.zip:1", "leads out of it"),
    "a zip from the root": ("a.zip", _zip_of("/etc/evil.jsonl"), "a.zip:1", "leads out of it"),
    "a zip that leads out on Windows": ("a.zip", _zip_of("..\\evil.jsonl"), "a.zip:1", "leads out of it"),
    "a zip with a link": ("a.zip", _zip_with_link(), "a.zip:1", "a link"),
    "a zip that is none": ("a.zip", b"PK\x03\x04nonsense", "a.zip:1", "cannot be read"),
    "a zip without rows": ("a.zip", _zip_of("README.md"), "a.zip:1", "no rows"),
    "a tar that leads out": ("a.tar.gz", _tar_of("x/../../evil.jsonl"), "a.tar.gz:1", "leads out of it"),
    "a tar with a link": ("a.tar.gz", _tar_of("rows.jsonl", link="/etc/passwd"), "a.tar.gz:1", "a link"),
    "a tar cut off": ("a.tgz", _tar_of("rows.jsonl")[:110], "a.tgz:1", "cannot be read|cut off"),
    "an answer missing": (
        "a.jsonl",
        GOOD + b'{"prompt": "p"}\n',
        "a.jsonl:2",
        "the completion is missing.*columns prompt",
    ),
    "an empty answer": ("a.csv", b"prompt,completion\np,c\np,\n", "a.csv:3", "the completion is empty"),
    "mixed types": ("a.jsonl", GOOD + b'{"prompt": {"x": 1}, "completion": "c"}\n', "a.jsonl:2", "is an object"),
    "a bare NaN": (
        "a.jsonl",
        GOOD + b'{"prompt": "p", "completion": NaN}\n',
        "a.jsonl:2",
        "the completion is NaN, a missing value",
    ),
    "a bare infinity": (
        "a.jsonl",
        GOOD + b'{"prompt": "p", "completion": -Infinity}\n',
        "a.jsonl:2",
        "the completion is an infinite number.*got -inf",
    ),
    "a missing column": ("a.csv", b"question,reply\np,c\n", "a.csv:2", "question is read as.*columns: {answer: …"),
    "a null prompt in Parquet": (
        "a.parquet",
        _parquet(prompt=["p", None], completion=["c", "d"]),
        "a.parquet:2",
        "the prompt is missing",
    ),
}

SURVIVES: dict[str, tuple[str, bytes, str]] = {
    # name: (file name, bytes, the completion of the last row)
    "a byte order mark": ("a.jsonl", b"\xef\xbb\xbf" + GOOD, "c"),
    "a byte order mark before a header": ("a.csv", b"\xef\xbb\xbfprompt,completion\np,c\n", "c"),
    "no line feed at the end": ("a.jsonl", GOOD.strip(), "c"),
    "CRLF": ("a.jsonl", GOOD.replace(b"\n", b"\r\n"), "c"),
    "CRLF in a table": ("a.csv", b"prompt,completion\r\np,c\r\n", "c"),
    "blank lines between": ("a.jsonl", GOOD + b"\n\n" + GOOD, "c"),
    "line separators of Unicode": (
        "a.jsonl",
        '{"prompt": "p", "completion": "a\u2028b\u2029c\u0085d\x7f"}\n'.encode(),
        "a\u2028b\u2029c\u0085d\x7f",
    ),
    "a line of 5 MB": ("a.jsonl", b'{"prompt": "p", "completion": "' + b"x" * 5_000_000 + b'"}\n', "x" * 5_000_000),
    "a cell of 5 MB": ("a.csv", b"prompt,completion\np," + b"x" * 5_000_000 + b"\n", "x" * 5_000_000),
    "a row of 5 MB in an array": (
        "a.json",
        b'[{"prompt": "p", "completion": "' + b"x" * 5_000_000 + b'"}]',
        "x" * 5_000_000,
    ),
    "NaN in quotes": ("a.jsonl", b'{"prompt": "p", "completion": "NaN"}\n', "NaN"),
    "infinity in quotes": ("a.jsonl", b'{"prompt": "p", "completion": "-Infinity"}\n', "-Infinity"),
    "a number with zeros": ("a.jsonl", b'{"prompt": "p", "completion": 1.50e-0}\n', "1.50e-0"),
    "a number of 5,000 digits": ("a.jsonl", b'{"prompt": "p", "completion": ' + b"7" * 5000 + b"}\n", "7" * 5000),
    "a date in a table": ("a.csv", b"prompt,completion\np,2024-01-02\n", "2024-01-02"),
    "010 in a table": ("a.csv", b"prompt,completion\np,010\n", "010"),
    "no in a table": ("a.csv", b"prompt,completion\np,no\n", "no"),
    "NaN in a table": ("a.csv", b"prompt,completion\np,NaN\n", "NaN"),
    "spaces in a table": ("a.csv", b"prompt,completion\np,  c \n", "  c "),
    "an escaped NUL": ("a.jsonl", b'{"prompt": "p", "completion": "a\\u0000b"}\n', "a\0b"),
    "a whole surrogate pair": ("a.jsonl", b'{"prompt": "p", "completion": "\\ud83d\\ude00"}\n', "\U0001f600"),
    "quotes, commas and line feeds in a cell": (
        "a.csv",
        b'prompt,completion\np,"a ""b"", c\r\nd\n"\n',
        'a "b", c\r\nd\n',
    ),
    "tabs": ("a.tsv", b"prompt\tcompletion\np\ta, b\n", "a, b"),
    "a table in gzip": ("a.csv.gz", gzip.compress(b"prompt,completion\np,c\n"), "c"),
    "a zip": ("a.zip", _zip_of("x/rows.jsonl", "x/README.md"), "c"),
    "a tar": ("a.tar.gz", _tar_of("x/rows.jsonl"), "c"),
    "objects one after the other in .json": ("a.json", GOOD + b"\n" + GOOD.strip(), "c"),
    "whole numbers in Parquet": ("a.parquet", _parquet(prompt=["p"], completion=[10]), "10"),
    "single precision in Parquet": (
        "a.parquet",
        _parquet(prompt=["p"], completion=pa.array([0.1], pa.float32())),
        "0.1",
    ),
    "a date in Parquet": (
        "a.parquet",
        _parquet(prompt=["p"], completion=pa.array([19724], pa.date32())),
        "2024-01-02",
    ),
    "true in Parquet": ("a.parquet", _parquet(prompt=["p"], completion=[True]), "true"),
}


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(REFUSED) + len(SURVIVES) >= 40


@pytest.mark.parametrize("name", REFUSED)
def test_a_malformed_file_is_refused_with_place_and_cause(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_name, content, place, cause = REFUSED[name]
    (tmp_path / file_name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"(?si){cause}") as caught:
        load_examples(file_name, source="s", task="t")
    told = [line.strip() for line in str(caught.value).splitlines()]
    assert any(line.startswith(place) for line in told[:2]), told
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("name", SURVIVES)
def test_an_odd_file_survives_byte_for_byte(name: str, tmp_path: Path) -> None:
    file_name, content, completion = SURVIVES[name]
    (tmp_path / file_name).write_bytes(content)
    assert load_examples(tmp_path / file_name, source="s", task="t")[-1].answer == completion


def test_a_missing_path_is_named() -> None:
    with pytest.raises(DataError, match=r"nowhere/rows\.jsonl: no such file"):
        load_examples("nowhere/rows.jsonl", source="s", task="t")


def test_a_folder_gives_its_files_by_name_and_leaves_others_alone(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"prompt": "b", "completion": "c"}\n')
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.csv").write_text("prompt,completion\na,c\n")
    (tmp_path / "README.md").write_text("# rows")
    (tmp_path / ".hidden.jsonl").write_text("not rows")
    assert [row.values["prompt"] for row in read_rows(tmp_path)] == ["a", "b"]


def test_a_folder_with_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside.jsonl").write_bytes(GOOD)
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "in.jsonl").symlink_to(tmp_path / "outside.jsonl")
    with pytest.raises(DataError, match="leads out of the folder"):
        list(read_rows(folder))


def test_a_folder_without_rows_says_what_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"\.jsonl, "):
        list(read_rows(tmp_path))


def test_an_array_of_many_rows_is_read_in_pieces_with_right_lines(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{n}\n", "completion": "é" * (n % 97 * 50)} for n in range(1, 3000)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
    read = list(read_rows(path))
    assert [row.values for row in read] == rows
    assert [row.origin.line for row in read] == [2 + 4 * n for n in range(len(rows))]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "json"])
def test_reading_holds_a_bounded_amount_however_long_the_file(tmp_path: Path, suffix: str) -> None:
    import tracemalloc

    text = "x" * 1000
    path = tmp_path / f"long.{suffix}"
    writers: dict[str, Callable[[int], str]] = {
        "jsonl": lambda n: f'{{"prompt": "{n}", "completion": "{text}"}}\n',
        "csv": lambda n: f"{n},{text}\n",
        "json": lambda n: f'{"," if n else "["}{{"prompt": "{n}", "completion": "{text}"}}\n',
    }
    with path.open("w") as file:
        file.write("prompt,completion\n" if suffix == "csv" else "")
        file.writelines(writers[suffix](n) for n in range(12_000))
        file.write("]" if suffix == "json" else "")
    tracemalloc.start()
    count = sum(1 for _ in read_rows(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 12_000
    assert peak < 6 << 20, f"{peak / 2**20:.1f} MiB for a file of {path.stat().st_size / 2**20:.0f} MiB"


@pytest.mark.parametrize("stream", [True, False])
def test_no_damaged_byte_of_an_arrow_file_leads_out_of_it(stream: bool) -> None:
    target = io.BytesIO()
    table = pa.table({"prompt": ["p", "q"], "completion": ["c", "d"], "list": [[1], []]})
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(target, table.schema) as writer:
        writer.write_table(table)
    honest = target.getvalue()
    refused = 0
    for at in range(0, len(honest), 3):
        for byte in (b"\xff", b"\x7f"):
            damaged = io.BytesIO(honest[:at] + byte + honest[at + 1 :])
            try:
                assert len(list(rows_of_arrow(damaged, "x.arrow"))) <= 2
            except DataError:
                refused += 1
    assert refused > 100
