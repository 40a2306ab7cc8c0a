"""Raw rows from a file, a folder, an archive or the hub, as a stream: the place where every row enters.

`read_rows` knows nothing of what columns mean; `shapes` does.
"""

from __future__ import annotations

import contextlib
import gzip
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Container, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

from titrant.core.errors import DataError
from titrant.core.records import RawRow
from titrant.data.readers.doors import door_of
from titrant.data.readers.file_kinds import ARCHIVES, EXPECTED, kind_of
from titrant.data.readers.hub import HUB_PREFIX, front_matter, hub_files
from titrant.data.readers.json_rows import parse_object, rows_of_json, rows_of_json_lines
from titrant.data.readers.layouts import RowFile, choose_split, is_data, splits_of, splits_of_names
from titrant.data.readers.lines import CHUNK_BYTES, Report, refuse
from titrant.data.readers.tables import rows_of_arrow, rows_of_csv, rows_of_parquet, separator_of
from titrant.data.readers.unpacking import Allowance, Unpacked

_PART = re.compile(r"(?:[\w.-]+/)?[\w.-]+")


def read_rows(path: str | Path, *, report: Report = refuse) -> Iterator[RawRow]:
    """Every row of `path`, in file order, with its place; at least one, or a `DataError`.

    `path` is a place as `row_files` takes it. Problems of single rows go to `report`, which raises them unless told
    otherwise.
    """
    for file in row_files(path):
        yield from _rows_of_file(file.path, file.name, report=report)


def row_files(place: str | Path) -> tuple[RowFile, ...]:
    """The files that the rows of a place come from, in the order in which they are read; always at least one.

    `place` is a file (an archive of files too), a folder, `FOLDER:[configuration/]split`, or
    `hub:org/name[@revision][:[configuration/]split]`. Whoever asks what a study reads asks here, so that what is hashed
    is what was read. `DataError` where there is no such place, or where it has several splits and none is named.
    """
    text = str(place)
    if text.startswith(HUB_PREFIX):
        return tuple(RowFile(path=file.path, name=file.name) for file in hub_files(text))
    folder, part = parted(text)
    if not _is_there(str(folder)):
        raise missing_place(text)
    if folder.is_dir():
        return _files_of_folder(folder, part, text)
    return (RowFile(path=folder, name=text),)


def parted(text: str) -> tuple[Path, str | None]:
    """The path of a local place, and the split that is named behind a folder's: a path that is there is never cut.

    >>> parted("/tmp:en/train"), parted("/no/such:train")[1]
    ((PosixPath('/tmp'), 'en/train'), None)
    """
    # A name with a colon may be a file or folder that exists: only what is not there as it stands is cut.
    head, mark, part = text.rpartition(":")
    if mark and _PART.fullmatch(part) and not _is_there(text) and _is_there(head) and Path(head).is_dir():
        return Path(head), part
    return Path(text), None


def _is_there(text: str) -> bool:
    """Whether a path leads to something; a name that no file can have (too long, a NUL) leads nowhere."""
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False


def missing_place(text: str) -> DataError:
    """The error for a place that is not there: how such a name should be written (`doors`), or where a path was looked
    for."""
    return DataError(
        "no such file or folder",
        where=text,
        got=str(Path(text).absolute()),
        fix=door_of(text) or "a relative path starts at the working folder, and in a study at the study's own folder",
    )


def table_remarks(path: Path) -> tuple[str, ...]:
    """What to tell of how a table on this machine is read: what separates its columns, where that is not usual."""
    usual = {".csv": ",", ".tsv": "\t"}.get(kind_of(path.name) or "")
    if usual is None or not path.is_file():
        return ()
    with path.open("rb") as stream:
        lines = [stream.readline(CHUNK_BYTES).decode("utf-8-sig", "replace") for _ in range(3)]
    found = separator_of([line for line in lines if line], usual=usual)
    return (f"columns are separated by {found!r}",) if found != usual else ()


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


def _files_of_folder(folder: Path, part: str | None, text: str) -> tuple[RowFile, ...]:
    """The files of one split of a folder: as `save_to_disk` lists them, else as `layouts` finds them, by path."""
    config, _, split = part.rpartition("/") if part is not None else ("", "", None)
    fix = f"{folder}:<split>"
    if (folder / "dataset_dict.json").is_file():
        listed = _saved(folder / "dataset_dict.json", "splits")
        inner = (
            folder / choose_split({name: (name,) for name in listed}, split, of="the folder", where=text, fix=fix)[0]
        )
        return _files_of_folder(inner, None, str(inner))
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        names = tuple(_saved(folder / "state.json", "_data_files"))
        chosen = choose_split({split or "train": names}, split, of="the folder", where=text, fix=fix)
    else:
        named = f"{folder}:<configuration>/<split>"
        known = splits_of(_names_below(folder), _header_of(folder), config or None, where=text, fix=named)
        chosen = choose_split(known, split, of="the folder", where=text, fix=fix)
    # What is hashed and read must lie in the folder that the study names: a link to elsewhere would be data that no
    # copy of the folder holds.
    root = folder.resolve()
    for name in chosen:
        if not (folder / name).resolve().is_relative_to(root):
            raise DataError(
                "a link leads out of the folder", where=str(folder / name), got=str((folder / name).resolve())
            )
    return tuple(RowFile(path=folder / name, name=str(folder / name)) for name in chosen)


def _header_of(folder: Path) -> dict[str, Any]:
    card = folder / "README.md"
    return front_matter(card.read_text("utf-8", "replace"), str(card)) if card.is_file() else {}


def unread_files(place: str | Path) -> tuple[str, ...]:
    """Files of a folder that could be read and belong to none of its splits, by path; none for any other place, and
    where the folder's README.md or a configuration says what is read."""
    text = str(place)
    folder, part = parted(text)
    saved = any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))
    if text.startswith(HUB_PREFIX) or saved or not folder.is_dir() or "/" in (part or ""):
        return ()
    if isinstance(_header_of(folder).get("configs"), list):
        return ()
    names = _names_below(folder)
    read = {name for files in splits_of_names(names).values() for name in files}
    return tuple(name for name in names if name not in read)


def _names_below(folder: Path) -> list[str]:
    """The paths in a folder of files that hold rows, sorted; hidden ones, metadata and folders with a dot are none."""
    below = ((path, path.relative_to(folder).as_posix()) for path in folder.rglob("*"))
    found = sorted(name for path, name in below if is_data(name) and not path.is_dir())
    if not found:
        raise DataError("the folder holds no file that can be read", where=str(folder), expected=EXPECTED)
    return found


def _saved(path: Path, key: str) -> list[str]:
    """The names that a file of `save_to_disk` lists under `key`: of splits, or of Arrow files beside it."""
    said = parse_object(path.read_text("utf-8", "replace"))
    entries = said.get(key)
    listed = entries if isinstance(entries, list) else []
    names = [entry.get("filename") if isinstance(entry, dict) else entry for entry in listed]
    # A name with folders in it could lead anywhere; the library writes none.
    if not names or not all(isinstance(name, str) and _is_plain(name) for name in names):
        raise DataError("this is no list of saved files", where=f"{path}:1", got=said, expected=f"{key} with names")
    if said.get("_indices_data_files") or said.get("_indices_files"):
        raise DataError(
            "only a selection of the rows was saved, by an old version of `datasets`",
            where=f"{path}:1",
            fix="load it with datasets.load_from_disk, and save it again with to_parquet",
        )
    return [str(name) for name in names]


def _is_plain(name: str) -> bool:
    """Whether a name is that of an entry in its folder."""
    return Path(name).name == name and name not in ("", "..")


def _rows_of_file(path: Path, name: str, *, report: Report) -> Iterator[RawRow]:
    kind = kind_of(path.name)
    if kind is None:
        raise DataError("this kind of file is not known", where=name, got=path.suffix, expected=EXPECTED)
    empty = True

    # A file whose rows are all faulty is not empty: each fault is told already, and "no rows" would hide them.
    def noting(error: DataError) -> None:
        nonlocal empty
        empty = False
        report(error)

    try:
        if path.stat().st_size == 0:
            raise DataError("the file is empty", where=f"{name}:1")
        # A few kilobytes can unpack to terabytes; what one file may unpack to is bounded by its own size.
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
    elif kind == ".arrow":
        yield from rows_of_arrow(stream, name, unpacked=allowance.take)
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
            if member_kind is None:
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
        # Sorted by name: the order inside an archive depends on the tool that packed it.
        members = sorted(archive.infolist(), key=lambda member: member.filename)
        for member in members:
            _refuse_outside(member.filename, name, link=stat.S_ISLNK(member.external_attr >> 16))
        chosen = _members_of_rows([member.filename for member in members if not member.is_dir()], name)
        for member in members:
            if member.filename in chosen:
                yield member.filename, cast("IO[bytes]", Unpacked(cast("BinaryIO", archive.open(member)), allowance))


def _tar_members(stream: BinaryIO, name: str, kind: str, allowance: Allowance) -> Iterator[tuple[str, IO[bytes]]]:
    with contextlib.ExitStack() as opened_files:
        if kind != ".tar":
            # Unpacked by us and not by tarfile, so that the allowance sees every byte.
            stream = cast("BinaryIO", opened_files.enter_context(gzip.open(stream, "rb")))
        # Headers count too: one of them may claim to be as long as all that a bomb unpacks to.
        unpacked = cast("BinaryIO", Unpacked(stream, allowance))
        archive = opened_files.enter_context(tarfile.open(fileobj=unpacked, mode="r:"))
        members = sorted(archive.getmembers(), key=lambda member: member.name)
        for member in members:
            _refuse_outside(member.name, name, link=not (member.isfile() or member.isdir()))
        chosen = _members_of_rows([member.name for member in members if member.isfile()], name)
        for member in members:
            opened = archive.extractfile(member) if member.name in chosen else None
            if opened is not None:
                yield member.name, opened


def _members_of_rows(members: Sequence[str], name: str) -> Collection[str]:
    """The members that hold rows. An archive has no way to name a split, so one with several is refused."""
    data = [member for member in members if is_data(member) and kind_of(member) not in ARCHIVES]
    if not data:
        return ()
    fix = "unpack it, and name FOLDER:<split>"
    return choose_split(splits_of_names(data), None, of="the archive", where=f"{name}:1", fix=fix)


def _refuse_outside(member: str, archive: str, *, link: bool) -> None:
    if not member:
        raise DataError("the archive holds a member without a name", where=f"{archive}:1")
    # Archives made on Windows hold backslashes and drive letters, which a POSIX path takes for parts of a name.
    path = PurePosixPath(member.replace("\\", "/"))
    drive = len(member) > 1 and member[1] == ":"
    if path.is_absolute() or drive or ".." in path.parts:
        raise DataError("a path in the archive leads out of it", where=f"{archive}:1", got=member)
    if link:
        raise DataError(
            "the archive holds a link or a device", where=f"{archive}:1", got=member, expected="plain files"
        )
