"""JSON and JSON Lines come back as they were, or are named as damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from titrant.core.errors import StoreDamaged
from titrant.storage.json_files import read_json, read_jsonl, write_json, write_jsonl


@settings(max_examples=30, deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=5), st.one_of(st.text(max_size=9), st.integers()), max_size=3)))
def test_json_lines_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, values: list[Any]) -> None:
    path = tmp_path_factory.mktemp("lines") / "rows.jsonl"
    write_jsonl(path, values)
    assert read_jsonl(path) == values


def test_not_a_number_is_refused_and_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"loss": 1.0})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert read_json(tmp_path / "a.json") == {"loss": 1.0}


def test_missing_and_unreadable_files_are_damage_with_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"a": \xff')
    for read in (read_json, read_jsonl):
        with pytest.raises(StoreDamaged, match=r"a\.json"):
            read(tmp_path / "a.json")
        with pytest.raises(StoreDamaged, match=r"b\.json: missing"):
            read(tmp_path / "b.json")


@pytest.mark.parametrize("content", [b"1,2\n", b"[1\n2]\n", b'{"a": 1}{"b": 2}\n', b"]\n["])
def test_lines_that_are_no_values_of_their_own_are_damage(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(StoreDamaged, match=r"a\.jsonl: not readable as JSON Lines"):
        read_jsonl(tmp_path / "a.jsonl")
