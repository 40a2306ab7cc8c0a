"""Values that readers like to reinterpret stay the strings that they were, through every door."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import hub_mirror
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from titrant.data.readers import load_examples

VALUES = (
    "2024-01-02",
    "010",
    "NaN",
    "no",
    "yes",
    "null",
    "1e5",
    "0.10",
    "+7",
    "1_000",
    "12:30",
    "-0",
    "Infinity",
    "True",
)
LITERALS = ("10", "0.10", "1e5", "-0", "1E+2", "123456789012345678901234567890", "true")
HEADER = b"---\nlicense: mit\n---\n"


def as_json_lines(values: tuple[str, ...]) -> bytes:
    return "".join(json.dumps({"prompt": "p", "completion": value}) + "\n" for value in values).encode()


def as_json(values: tuple[str, ...]) -> bytes:
    return json.dumps([{"prompt": "p", "completion": value} for value in values]).encode()


def as_csv(values: tuple[str, ...]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([("prompt", "completion"), *(("p", value) for value in values)])
    return text.getvalue().encode()


def as_parquet(values: tuple[str, ...]) -> bytes:
    target = io.BytesIO()
    pq.write_table(pa.table({"prompt": ["p"] * len(values), "completion": list(values)}), target)
    return target.getvalue()


DOORS: dict[str, Callable[[tuple[str, ...]], bytes]] = {
    "rows.jsonl": as_json_lines,
    "rows.json": as_json,
    "rows.csv": as_csv,
    "rows.parquet": as_parquet,
}


@pytest.mark.parametrize("name", DOORS)
def test_texts_stay_what_they_are_in_a_file(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(DOORS[name](VALUES))
    assert tuple(row.answer for row in load_examples(tmp_path / name, source="s", task="t")) == VALUES


@pytest.mark.parametrize("name", DOORS)
def test_texts_stay_what_they_are_from_the_hub(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with hub_mirror.running({"team/values": {"README.md": HEADER, name: DOORS[name](VALUES)}}) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        assert tuple(row.answer for row in load_examples("hub:team/values", source="s", task="t")) == VALUES


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_a_number_keeps_its_literal_text_in_answers_and_lists(name: str, tmp_path: Path) -> None:
    rows = [f'{{"question": "q", "choices": [{value}, "x"], "answer": {value}}}' for value in LITERALS]
    text = "\n".join(rows) if name.endswith("l") else f"[{','.join(rows)}]"
    (tmp_path / name).write_text(text)
    assert tuple(row.answer for row in load_examples(tmp_path / name, source="s", task="t")) == LITERALS
