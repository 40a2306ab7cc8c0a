"""Which names are files of rows."""

from __future__ import annotations

from pathlib import PurePosixPath

READABLE = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow")
_COLUMNAR = (".parquet", ".arrow")  # compressed within: nobody packs them again
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
EXPECTED = f"{', '.join(READABLE)} (text also with .gz), {', '.join(ARCHIVES)}, a folder, or hub:org/name"


def kind_of(name: str) -> str | None:
    """The suffix that says how a file is read, `.gz` included; None when it is not one of ours.

    >>> kind_of("a/Train.JSONL.gz"), kind_of("README.md")
    ('.jsonl.gz', None)
    """
    lower = PurePosixPath(name).name.lower()
    for suffix in (*ARCHIVES, *READABLE):
        if lower.endswith(suffix):
            return suffix
        if suffix in READABLE and suffix not in _COLUMNAR and lower.endswith(f"{suffix}.gz"):
            return f"{suffix}.gz"
    return None
