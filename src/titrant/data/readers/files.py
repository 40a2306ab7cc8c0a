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
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

from titrant.core.errors import DataError
from titrant.core.records import RawRow
from titrant.data.readers.class_names import ClassNames, names_in_folder, told_from_numbers, with_class_names
from titrant.data.readers.doors import door_of
from titrant.data.readers.file_kinds import ARCHIVES, EXPECTED, kind_of
from titrant.data.readers.hub import HUB_PREFIX, class_names_of_hub, front_matter, hub_files
from titrant.data.readers.json_rows import parse_object, rows_of_json, rows_of_json_lines
from titrant.data.readers.layouts import RowFile, choose_split, is_data, splits_of, splits_of_names
from titrant.data.readers.lines import CHUNK_BYTES, Report, refuse
from titrant.data.readers.tables import rows_of_arrow, rows_of_csv, rows_of_parquet, separator_of
from titrant.data.readers.unpacking import Allowance, Unpacked

_PART = re.compile(r"(?:[\w.-]+/)?[\w.-]+")


def read_rows(path: str | Path, *, report: Report = refuse, named: bool = False) -> Iterator[RawRow]:
    """Every row of `path`, in file order, with its place; at least one, or a `DataError`.

    `path` is a place as `row_files` takes it. Problems of single rows go to `report`, which raises them unless told
    otherwise. With `named`, numbers of classes are read as the names that the dataset has for them.
    """
    for file in row_files(path):
        yield from _rows_of_file(file, report=report, named=named)


def row_files(place: str | Path) -> tuple[RowFile, ...]:
    """The files that the rows of a place come from, in the order in which they are read; always at least one.

    `place` is a file (an archive of files too), a folder, `PLACE:[configuration/]split` with a folder or an archive, or
    `hub:org/name[@revision][:[configuration/]split]`. Whoever asks what a study reads asks here, so that what is hashed
    is what was read. `DataError` where there is no such place, or where it has several splits and none is named.
    """
    text = str(place)
    if text.startswith(HUB_PREFIX):
        files = hub_files(text)  # before the names: what was not in the cache is fetched here
        names = class_names_of_hub(text)
        return tuple(RowFile(path=file.path, name=file.name, class_names=names) for file in files)
    folder, part = parted(text)
    if not _is_there(str(folder)):
        raise missing_place(text)
    if folder.is_dir():
        return _files_of_folder(folder, part, text)
    return (RowFile(path=folder, name=str(folder) if part is not None else text, part=part),)


def parted(text: str) -> tuple[Path, str | None]:
    """The path of a local place, and the split that is named behind a folder's or an archive's: a path that is there is
    never cut.

    >>> parted("/tmp:en/train"), parted("/no/such:train")[1]
    ((PosixPath('/tmp'), 'en/train'), None)
    """
    # A name with a colon may be a file or folder that exists: only what is not there as it stands is cut.
    head, mark, part = text.rpartition(":")
    holds_files = Path(head).is_dir() or kind_of(head) in ARCHIVES
    if mark and _PART.fullmatch(part) and holds_files and not _is_there(text) and _is_there(head):
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
    header = _header_of(folder)
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        names = tuple(_saved(folder / "state.json", "_data_files"))
        chosen = choose_split({split or "train": names}, split, of="the folder", where=text, fix=fix)
    else:
        named = f"{folder}:<configuration>/<split>"
        known = splits_of(_names_below(folder), header, config or None, where=text, fix=named)
        chosen = choose_split(known, split, of="the folder", where=text, fix=fix)
    # What is hashed and read must lie in the folder that the study names: a link to elsewhere would be data that no
    # copy of the folder holds.
    root = folder.resolve()
    for name in chosen:
        if not (folder / name).resolve().is_relative_to(root):
            raise DataError(
                "a link leads out of the folder", where=str(folder / name), got=str((folder / name).resolve())
            )
    classes = names_in_folder(folder, header, config or None)
    return tuple(RowFile(path=folder / name, name=str(folder / name), class_names=classes) for name in chosen)


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


def _rows_of_file(file: RowFile, *, report: Report, named: bool) -> Iterator[RawRow]:
    path, name = file.path, file.name
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
            read = _Reader(report=noting, allowance=allowance, class_names=file.class_names if named else None)
            if kind in ARCHIVES:
                rows = _rows_of_archive(stream, name, kind, read, part=file.part)
            else:
                rows = _rows_of_stream(stream, name, kind, read)
            for row in rows:
                empty = False
                yield row
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", where=name) from error
    if empty:
        report(DataError("the file holds no rows", where=f"{name}:1"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """What the reading of one file needs to its last member: who is told of faults, how much may be unpacked, and the
    names of classes; None where numbers stay numbers."""

    report: Report
    allowance: Allowance
    class_names: ClassNames | None


def _rows_of_stream(stream: BinaryIO, name: str, kind: str, read: _Reader) -> Iterator[RawRow]:
    if kind.endswith(".gz"):
        with gzip.open(stream, "rb") as packed:
            unpacked = cast("BinaryIO", Unpacked(cast("BinaryIO", packed), read.allowance))
            yield from _rows_of_stream(unpacked, name, kind.removesuffix(".gz"), read)
    elif kind in (".parquet", ".arrow"):
        rows_of = rows_of_parquet if kind == ".parquet" else rows_of_arrow
        yield from rows_of(stream, name, unpacked=read.allowance.take, class_names=read.class_names)
    else:
        rows = _rows_of_text(stream, name, kind, read.report)
        names = told_from_numbers(read.class_names or {})
        yield from (with_class_names(row, names) for row in rows) if names else rows


def _rows_of_text(stream: BinaryIO, name: str, kind: str, report: Report) -> Iterator[RawRow]:
    if kind == ".json":
        return rows_of_json(stream, name)
    if kind in (".csv", ".tsv"):
        return rows_of_csv(stream, name, delimiter="," if kind == ".csv" else "\t", report=report)
    return rows_of_json_lines(stream, name, report=report)


def _rows_of_archive(stream: BinaryIO, name: str, kind: str, read: _Reader, *, part: str | None) -> Iterator[RawRow]:
    """Rows of the readable members of one split, sorted by name, read in place: nothing is ever written to disk.

    Members that point out of the archive (absolute, `..`, links) are refused all the same: such a file is not honest.
    """
    try:
        members = (
            _zip_members(stream, name, read.allowance, part)
            if kind == ".zip"
            else _tar_members(stream, name, kind, read.allowance, part)
        )
        for member, opened in members:
            member_kind = kind_of(member)
            if member_kind is None:
                continue
            with opened as inner:
                yield from _rows_of_stream(cast("BinaryIO", inner), f"{name}!{member}", member_kind, read)
    except (zipfile.BadZipFile, tarfile.TarError, NotImplementedError, RuntimeError, UnicodeDecodeError) as error:
        raise DataError(f"this archive cannot be read ({error})", where=f"{name}:1") from error
    except (EOFError, zlib.error, lzma.LZMAError, struct.error, OverflowError) as error:
        raise DataError(f"this archive is cut off or damaged ({error})", where=f"{name}:1") from error


def _zip_members(
    stream: BinaryIO, name: str, allowance: Allowance, part: str | None
) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(stream) as archive:
        # Sorted by name: the order inside an archive depends on the tool that packed it.
        members = sorted(archive.infolist(), key=lambda member: member.filename)
        for member in members:
            _refuse_outside(member.filename, name, link=stat.S_ISLNK(member.external_attr >> 16))
        chosen = _members_of_rows([member.filename for member in members if not member.is_dir()], name, part)
        for member in members:
            if member.filename in chosen:
                yield member.filename, cast("IO[bytes]", Unpacked(cast("BinaryIO", archive.open(member)), allowance))


def _tar_members(
    stream: BinaryIO, name: str, kind: str, allowance: Allowance, part: str | None
) -> Iterator[tuple[str, IO[bytes]]]:
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
        chosen = _members_of_rows([member.name for member in members if member.isfile()], name, part)
        for member in members:
            opened = archive.extractfile(member) if member.name in chosen else None
            if opened is not None:
                yield member.name, opened


def _members_of_rows(members: Sequence[str], name: str, part: str | None) -> Collection[str]:
    """The members that hold the rows of a split, as in a folder: of several splits one has to be named."""
    data = [member for member in members if is_data(member) and kind_of(member) not in ARCHIVES]
    if not data:
        return ()
    config, _, split = part.rpartition("/") if part is not None else ("", "", None)
    fix = f"{name}:<configuration>/<split>"
    splits = splits_of(data, {}, config or None, where=f"{name}:1", fix=fix)
    return choose_split(splits, split, of="the archive", where=f"{name}:1", fix=f"{name}:<split>")


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
