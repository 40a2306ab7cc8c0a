"""Records with their own checksum in them: small files (`write_sealed`) and lines of a file that only grows
(`sealed_line`), such as the ledger and the step reports of a run in the making."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from titrant.core.errors import StoreDamaged
from titrant.core.identity import canonical_json, fingerprint, hash_bytes, hash_text
from titrant.storage.atomic import bytes_of
from titrant.storage.json_files import read_json, write_json

SEALED_REMEDY = "delete it and run the study again: nothing but its own figures is lost"
_BEFORE, _BETWEEN, _AFTER = b'{"record":', b',"sum":"', b'"}'
_SUM_LENGTH = 16
_BLOCK_BYTES = 1 << 16


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """`write_json` of an object with its own checksum in it."""
    write_json(path, {**value, "sum": fingerprint(value, length=16)})


def read_sealed(path: Path) -> dict[str, Any]:
    """The object that `write_sealed` wrote; `StoreDamaged` names the file when it is not as it was written."""
    value = read_json(path)
    if not isinstance(value, dict) or value.pop("sum", None) != fingerprint(value, length=16):
        raise StoreDamaged(f"{path}: the file does not match its checksum. Fix: {SEALED_REMEDY}")
    return value


def sealed_line(record: Mapping[str, Any]) -> bytes:
    """A record as a line of a file that only grows, with its own checksum and its line feed."""
    body = canonical_json(record)
    sealed = {"record": record, "sum": hash_text(body, length=_SUM_LENGTH)}
    return canonical_json(sealed).encode("utf-8", "surrogatepass") + b"\n"


def cut_torn_line(file: BinaryIO) -> int:
    """Cut off what a crash left of a last line; the length of the file then, which is where it ends now."""
    whole = _end_of_whole_lines(file)
    file.truncate(whole)
    return file.seek(whole)


def read_sealed_lines(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """The records that `sealed_line` wrote to a file, and the numbers of the lines that are not as they were written.
    A torn last line is neither."""
    data = bytes_of(path) or b""
    records, damaged = [], []
    for number, line in enumerate(data[: whole_lines(data)].split(b"\n")[:-1], start=1):
        record = _checked_record(line)
        if record is None:
            damaged.append(number)
        else:
            records.append(record)
    return records, damaged


def checked_records(data: bytes, path: Path, *, before: int) -> list[dict[str, Any]]:
    """The records in whole lines of a ledger, `before` lines into it; `StoreDamaged` names a line that is not whole."""
    records = []
    for number, line in enumerate(data.split(b"\n")[:-1], start=before + 1):
        record = _checked_record(line)
        if record is None:
            raise StoreDamaged(
                f"{path}:{number}: the record does not match its checksum. Fix: delete that line and "
                "run the study again: what it recorded is done anew"
            )
        records.append(record)
    return records


def whole_lines(data: bytes) -> int:
    """How many leading bytes of a ledger are whole lines: a crash inside a write leaves a last line without its end."""
    return data.rfind(b"\n") + 1


def _end_of_whole_lines(file: BinaryIO) -> int:
    """`whole_lines` of an open ledger, found from its end: a long ledger is not read for every line that is added."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _checked_record(line: bytes) -> dict[str, Any] | None:
    """The record of a line that is as `append` wrote it, byte for byte; None for any other."""
    # Cut at fixed places and compared with how `sealed_line` would write it, so that a line that says the same in other
    # bytes is damaged too: nobody else writes here.
    body, checksum = line[len(_BEFORE) : -_SUM_LENGTH - len(_BETWEEN + _AFTER)], line[-_SUM_LENGTH - len(_AFTER) :]
    whole = line == _BEFORE + body + _BETWEEN + checksum[:_SUM_LENGTH] + _AFTER
    if not whole or hash_bytes(body)[:_SUM_LENGTH].encode() != checksum[:_SUM_LENGTH]:
        return None
    try:
        record = json.loads(body.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
