"""Tables as spreadsheets write them: Excel's own first line, other separators, Windows' encoding."""

from __future__ import annotations

import gzip
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from titrant.core.errors import DataError
from titrant.data.readers import detect_shape, read_rows

CASES = Path(os.environ.get("TITRANT_CASES", Path(__file__).parents[4] / "shared" / "cases")) / "20-first-steps"


@pytest.mark.parametrize(
    ("text", "first_line"),
    [
        ("\ufeffsep=,\ntext,label\na,b\n", 3),
        ("SEP=;\r\ntext;label\r\na;b\r\n", 3),
        ('"sep=;"\ntext;label\na;b\n', 3),
        ('\ufeff"Sep=,"\r\n"text","label"\r\n"a","b"\r\n', 3),
        ("'sep=|'\ntext|label\na|b\n", 3),
        ("sep=\t\n\n\ntext\tlabel\n\na\tb\n", 6),
        ("text;label\na;b\n", 2),
        ("\ntext|label\na|b\n", 3),
        ('"text";"label"\n"a";b\n', 2),
    ],
)
@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
def test_a_table_says_or_shows_what_separates_its_columns(
    name: str, text: str, first_line: int, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    (row,) = read_rows(path)
    assert row.values == {"text": "a", "label": "b"}
    assert row.origin.line == first_line


@pytest.mark.parametrize(
    ("text", "columns"), [("text;x,label\na,b\n", ["text;x", "label"]), ("a;\n1\n", ["a;"]), ("sep=.\nx\n", ["sep=."])]
)
def test_a_mark_inside_a_name_separates_nothing(text: str, columns: list[str], tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    if columns == ["a;"]:
        with pytest.raises(DataError, match="one column only"):
            list(read_rows(path))
    else:
        assert [list(row.values) for row in read_rows(path)] == [columns]


@pytest.mark.parametrize("text", ["\u201ccaf\u00e9\u201d", "10 \u20ac \u2013 na\u00efve", "it\u2019s \u00fcber"])
def test_the_fix_for_another_encoding_gives_the_text_back(text: str, tmp_path: Path) -> None:
    path = tmp_path / "my rows.csv"
    path.write_bytes(f"text,label\n{text},a\n".encode("cp1252"))
    with pytest.raises(DataError, match=r"my rows\.csv:2: the text is not UTF-8") as caught:
        list(read_rows(path))
    command = (caught.value.fix or "").partition(" (")[0]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    (row,) = read_rows(tmp_path / "my rows.utf8.csv")
    assert row.values["text"] == text


def test_a_byte_that_windows_does_not_know_is_taken_for_latin_1(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"text,label\n\x81,a\n")
    with pytest.raises(DataError, match="iconv -f latin1"):
        list(read_rows(path))


@pytest.mark.skipif(not CASES.is_dir(), reason=f"no cases at {CASES}: set TITRANT_CASES")
def test_the_tables_that_were_reported_are_read_or_explained() -> None:
    found = detect_shape(CASES / "excel_utf8sig.csv")
    assert (found.shape, found.columns) == ("text_label", ("text", "label"))
    with pytest.raises(DataError, match="iconv -f cp1252 -t utf-8"):
        list(read_rows(CASES / "cp1252.csv"))


WORDS = {
    ".csv": "prompt,completion\np,é\n",
    ".jsonl": '{"prompt": "p", "completion": "é"}\n',
    ".json": '[{"prompt": "p"}]',
}


@pytest.mark.parametrize("suffix", WORDS)
@pytest.mark.parametrize(
    ("codec", "encoding"),
    [("utf-16", "utf-16"), ("utf-32", "utf-32"), ("utf-16-le", "utf-16le"), ("utf-16-be", "utf-16be")],
)
def test_the_fix_for_another_encoding_is_a_command_that_names_the_file_and_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, codec: str, encoding: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(f"my rows{suffix}")
    path.write_bytes(WORDS[suffix].encode(codec))
    command = f"iconv -f {encoding} -t utf-8 'my rows{suffix}' > 'my rows.utf8{suffix}'"
    with pytest.raises(DataError) as caught:
        list(read_rows(path))
    assert command in str(caught.value)
    assert path.read_bytes().decode(encoding).removeprefix("\ufeff") == WORDS[suffix]


def test_the_fix_for_a_packed_file_of_another_encoding_unpacks_it_first(tmp_path: Path) -> None:
    packed = tmp_path / "rows.csv.gz"
    packed.write_bytes(gzip.compress(WORDS[".csv"].encode("utf-16")))
    with pytest.raises(
        DataError, match=r"Fix: unpack \S*rows\.csv\.gz, and then iconv -f utf-16 -t utf-8 rows\.csv > rows"
    ):
        list(read_rows(packed))
    with zipfile.ZipFile(tmp_path / "rows.zip", "w") as archive:
        archive.writestr("in/rows.csv", WORDS[".csv"].encode("cp1252"))
    with pytest.raises(
        DataError, match=r"Fix: unpack \S*rows\.zip, and then iconv -f cp1252 -t utf-8 rows\.csv > rows"
    ):
        list(read_rows(tmp_path / "rows.zip"))
