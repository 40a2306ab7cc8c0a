"""Files of JSON and JSON Lines: equal values are equal bytes, every text survives, and a torn file is named."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from titrant.core.errors import StoreDamaged
from titrant.core.identity import plain
from titrant.storage.atomic import write_bytes


def write_json(path: Path, value: Any) -> None:
    """Readable JSON with sorted keys, so that equal values are equal bytes. NaN is refused."""
    text = json.dumps(plain(value), sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False)
    write_bytes(path, (text + "\n").encode("ascii"))


def write_jsonl(path: Path, values: Iterable[Any]) -> None:
    """One canonical JSON value a line (ASCII, so that every text survives)."""
    lines = [
        json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
        for value in values
    ]
    write_bytes(path, ("\n".join(lines) + "\n" if lines else "").encode("ascii"))


def read_json(path: Path) -> Any:
    """The value in a JSON file of ours; `StoreDamaged` names the file when it is missing or torn."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise StoreDamaged(f"{path}: missing") from None
    except (ValueError, RecursionError) as error:
        raise StoreDamaged(f"{path}: not readable as JSON ({error})") from None


def read_jsonl(path: Path) -> list[Any]:
    """The values of a JSON Lines file of ours."""
    try:
        return values_of_jsonl(path.read_bytes(), path)
    except FileNotFoundError:
        raise StoreDamaged(f"{path}: missing") from None


def values_of_jsonl(data: bytes, path: Path) -> list[Any]:
    """The values in the bytes of a JSON Lines file of ours; `path` is for messages."""
    lines = [line for line in data.split(b"\n") if line]
    try:
        values: list[Any] = json.loads(b"[" + b",".join(lines) + b"]")  # at once: a call for each line costs far more
    except (ValueError, RecursionError) as error:
        raise StoreDamaged(f"{path}: not readable as JSON Lines ({error})") from None
    # A line that holds `1,2` would pass as two values of the joined array.
    if len(values) != len(lines):
        raise StoreDamaged(f"{path}: not readable as JSON Lines ({len(values)} values in {len(lines)} lines)")
    return values
