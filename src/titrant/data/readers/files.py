"""Raw rows from a file, a folder, an archive or the hub, as a stream: the first door of every row.

`read_rows` knows nothing of what columns mean; `shapes` does.
"""

from __future__ import annotations

import contextlib
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Container, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast

from titrant.core.errors import DataError
from titrant.core.records import RawRow
from titrant.data.readers.file_kinds import ARCHIVES, EXPECTED, kind_of
from titrant.data.readers.hub import HUB_PREFIX, hub_files
from titrant.data.readers.json_rows import rows_of_json, rows_of_json_lines
from titrant.data.readers.lines import Report, refuse
from titrant.data.readers.tables import rows_of_csv, rows_of_parquet
from titrant.data.readers.unpacking import Allowance, Unpacked


def read_rows(path: str | Path, *, report: Report = refuse) -> Iterator[RawRow]:
    """Every row of `path`, in file order, with its place; at least one, or a `DataError`.

    `path` is a file, a folder (all readable files below it, by name), a zip or tar of such files, or
    `hub:org/name[@revision][:split]`. Problems of single rows go to `report`, which raises them unless told otherwise.
    """
    text = str(path)
    if text.startswith(HUB_PREFIX):
        for file in hub_files(text):
            yield from _rows_of_file(file.path, file.name, report=report)
        return
    path = Path(path)
    if not path.exists():
        raise DataError("no such file or folder", where=text, fix="paths in a study are relative to the study file")
    if path.is_dir():
        for file_path in _files_below(path):
            yield from _rows_of_file(file_path, str(file_path), report=report)
    else:
        yield from _rows_of_file(path, text, report=report)


def rows_at_lines(path: Path, lines: Container[int]) -> Iterator[RawRow]:
    """The rows on these lines of a file of JSON Lines, in file order; the other lines are passed over unread."""
    try:
        with path.open("rb") as stream:
            if path.name.lower().endswith(".gz"):
                with gzip.open(stream, "rb") as packed:
                    unpacked = Unpacked(cast("BinaryIO", packed), Allowance(path.stat().st_size, str(path)))
                    yield from rows_of_json_lines(cast("BinaryIO", unpacked), str(path), only=lines)
            else:
                yield from rows_of_json_lines(stream, str(path), only=lines)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", where=str(path)) from error


def _files_below(folder: Path) -> list[Path]:
    """Readable files in a folder, sorted by path. Hidden ones are left out; a link that leads out of it is refused."""
    root = folder.resolve()
    found = []
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or path.is_dir() or kind_of(path.name) is None:
            continue
        if not path.resolve().is_relative_to(root):
            raise DataError("a link leads out of the folder", where=str(path), got=str(path.resolve()))
        found.append(path)
    if not found:
        raise DataError("the folder holds no file that can be read", where=str(folder), expected=EXPECTED)
    return found


def _rows_of_file(path: Path, name: str, *, report: Report) -> Iterator[RawRow]:
    kind = kind_of(path.name)
    if kind is None:
        raise DataError("this kind of file is not known", where=name, got=path.suffix, expected=EXPECTED)
    empty = True

    def noting(error: DataError) -> None:
        nonlocal empty
        empty = False
        report(error)

    try:
        if path.stat().st_size == 0:
            raise DataError("the file is empty", where=f"{name}:1")
        allowance = Allowance(path.stat().st_size, name)
        with path.open("rb") as stream:
            if kind in ARCHIVES:
                rows = _rows_of_archive(stream, name, kind, allowance, report=noting)
            else:
                rows = _rows_of_stream(stream, name, kind, allowance, report=noting)
            for row in rows:
                empty = False
                yield row
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", where=name) from error
    if empty:
        report(DataError("the file holds no rows", where=f"{name}:1"))


def _rows_of_stream(
    stream: BinaryIO, name: str, kind: str, allowance: Allowance, *, report: Report
) -> Iterator[RawRow]:
    if kind.endswith(".gz"):
        with gzip.open(stream, "rb") as packed:
            unpacked = cast("BinaryIO", Unpacked(cast("BinaryIO", packed), allowance))
            yield from _rows_of_stream(unpacked, name, kind.removesuffix(".gz"), allowance, report=report)
    elif kind == ".json":
        yield from rows_of_json(stream, name)
    elif kind == ".csv":
        yield from rows_of_csv(stream, name, delimiter=",", report=report)
    elif kind == ".tsv":
        yield from rows_of_csv(stream, name, delimiter="\t", report=report)
    elif kind == ".parquet":
        yield from rows_of_parquet(stream, name, unpacked=allowance.take)
    else:
        yield from rows_of_json_lines(stream, name, report=report)


def _rows_of_archive(
    stream: BinaryIO, name: str, kind: str, allowance: Allowance, *, report: Report
) -> Iterator[RawRow]:
    """Rows of the readable members, sorted by name, read in place: nothing is ever written to disk.

    Members that point out of the archive (absolute, `..`, links) are refused all the same: such a file is not honest.
    """
    try:
        members = (
            _zip_members(stream, name, allowance) if kind == ".zip" else _tar_members(stream, name, kind, allowance)
        )
        for member, opened in members:
            member_kind = kind_of(member)
            if member_kind is None or member_kind in ARCHIVES:
                continue
            with opened as inner:
                yield from _rows_of_stream(
                    cast("BinaryIO", inner), f"{name}!{member}", member_kind, allowance, report=report
                )
    except (zipfile.BadZipFile, tarfile.TarError, NotImplementedError, RuntimeError, UnicodeDecodeError) as error:
        raise DataError(f"this archive cannot be read ({error})", where=f"{name}:1") from error
    except (EOFError, zlib.error, lzma.LZMAError, struct.error, OverflowError) as error:
        raise DataError(f"this archive is cut off or damaged ({error})", where=f"{name}:1") from error


def _zip_members(stream: BinaryIO, name: str, allowance: Allowance) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(stream) as archive:
        for member in sorted(archive.infolist(), key=lambda member: member.filename):
            link = stat.S_ISLNK(member.external_attr >> 16)
            _refuse_outside(member.filename, name, link=link)
            if not member.is_dir():
                yield member.filename, cast("IO[bytes]", Unpacked(cast("BinaryIO", archive.open(member)), allowance))


def _tar_members(stream: BinaryIO, name: str, kind: str, allowance: Allowance) -> Iterator[tuple[str, IO[bytes]]]:
    with contextlib.ExitStack() as opened_files:
        if kind != ".tar":
            stream = cast("BinaryIO", opened_files.enter_context(gzip.open(stream, "rb")))
        # Headers count too: one of them may claim to be as long as all that a bomb unpacks to.
        unpacked = cast("BinaryIO", Unpacked(stream, allowance))
        archive = opened_files.enter_context(tarfile.open(fileobj=unpacked, mode="r:"))
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            _refuse_outside(member.name, name, link=not (member.isfile() or member.isdir()))
            opened = archive.extractfile(member)
            if opened is not None:
                yield member.name, opened


def _refuse_outside(member: str, archive: str, *, link: bool) -> None:
    if not member:
        raise DataError("the archive holds a member without a name", where=f"{archive}:1")
    path = PurePosixPath(member.replace("\\", "/"))
    drive = len(member) > 1 and member[1] == ":"
    if path.is_absolute() or drive or ".." in path.parts:
        raise DataError("a path in the archive leads out of it", where=f"{archive}:1", got=member)
    if link:
        raise DataError(
            "the archive holds a link or a device", where=f"{archive}:1", got=member, expected="plain files"
        )
