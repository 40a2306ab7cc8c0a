"""Whatever text a table holds, it comes back the same."""

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from titrant.data.readers.json_rows import parse_object, rows_of_json, rows_of_json_lines
from titrant.data.readers.tables import rows_of_csv, rows_of_parquet

# Text as UTF-8 can hold it, with the ones that have hurt before made likely.
TEXT = st.one_of(
    st.sampled_from(
        ["010", "NaN", "no", "2024-01-02", "1e5", "null", "", " ", '"', ",", "\t", "\u2028", "\ufeff", "é"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
)
ROWS = st.lists(st.fixed_dictionaries({"a": TEXT, 'b, "c"': TEXT}), min_size=1, max_size=5)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(ROWS)
def test_json_lines_give_back_what_was_written(rows: list[dict[str, str]]) -> None:
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    assert [row.values for row in rows_of_json_lines(io.BytesIO(content), "x")] == rows


@QUICK
@given(ROWS, st.sampled_from([None, 2]))
def test_json_arrays_give_back_what_was_written(rows: list[dict[str, str]], indent: int | None) -> None:
    content = json.dumps(rows, indent=indent).encode()
    assert [row.values for row in rows_of_json(io.BytesIO(content), "x")] == rows


@QUICK
@given(ROWS, st.sampled_from([",", "\t"]), st.sampled_from(["\n", "\r\n"]))
def test_tables_give_back_what_was_written(rows: list[dict[str, str]], delimiter: str, end: str) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    read = list(rows_of_csv(io.BytesIO(text.getvalue().encode()), "x", delimiter=delimiter))
    assert [row.values for row in read] == rows


@QUICK
@given(ROWS)
def test_parquet_gives_back_what_was_written(rows: list[dict[str, str]]) -> None:
    target = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), target)
    assert [row.values for row in rows_of_parquet(io.BytesIO(target.getvalue()), "x")] == rows


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?", fullmatch=True))
def test_a_json_number_keeps_its_literal_text(number: str) -> None:
    assert parse_object(f'{{"a": {number}, "b": [{number}]}}') == {"a": number, "b": [number]}


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_the_line_of_a_csv_row_is_where_its_record_begins(tmp_path: Path, end: bytes) -> None:
    content = b'a,b\n"one\n\n\nline",x\ntwo,y\n\nthree,"z\n"\nfour,z\n'.replace(b"\n", end)
    lines = [row.origin.line for row in rows_of_csv(io.BytesIO(content), "x", delimiter=",")]
    assert lines == [2, 6, 8, 10]
