"""Lines of text from a stream of bytes, or a `DataError` that names the line and the cause.

Lines end with LF and nothing else: texts of real data hold U+2028, form feeds and lone CRs, and none of these ends a
row. Memory is bounded by the longest line.
"""

from __future__ import annotations

import codecs
import gzip
import shlex
import zlib
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from titrant.core.errors import DataError

MAX_LINE_BYTES = 64 << 20
CHUNK_BYTES = 1 << 20
_NOT_IN_CP1252 = (0x81, 0x8D, 0x8F, 0x90, 0x9D)

Report = Callable[[DataError], None]
"""Called with a problem that concerns one row only, so that reading can go on and more problems can be told at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLine:
    """One line with its LF, and its number from 1."""

    number: int
    text: str


def refuse(error: DataError) -> None:
    """The plain way to report a problem: raise it."""
    raise error


def text_lines(
    stream: BinaryIO, name: str, *, report: Report = refuse, only: Container[int] | None = None
) -> Iterator[TextLine]:
    """All lines of a UTF-8 stream; a byte order mark at the start is dropped. `name` is the path in messages.

    A line that is not UTF-8 or holds a NUL byte is reported; damage that goes beyond its line is raised. With `only`,
    lines of other numbers are passed over unread.
    """
    number = 0
    # One byte more than allowed, so that a line too long is known without being read to its end.
    while raw := _read(stream.readline, MAX_LINE_BYTES + 1, name=name, line=number + 1):
        number += 1
        if number == 1:
            raw = _checked_start(raw, name)
        if only is not None and number not in only:
            continue
        if len(raw) > MAX_LINE_BYTES:
            raise DataError(
                f"a line is longer than {MAX_LINE_BYTES >> 20} MiB",
                where=f"{name}:{number}",
                expected="rows that end with a line feed",
            )
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            report(_not_utf8(error, name, number))
            continue
        if "\0" in text:
            report(_nul(text, name, number))
            continue
        yield TextLine(number=number, text=text)


def text_chunks(stream: BinaryIO, name: str) -> Iterator[str]:
    """The decoded text of a UTF-8 stream in pieces of about a MiB, for formats whose rows are not lines."""
    # Incremental: a piece may end within a character of several bytes.
    decoder = codecs.getincrementaldecoder("utf-8")()
    line, first = 1, True
    while raw := _read(stream.read, CHUNK_BYTES, name=name, line=line):
        if first:
            raw, first = _checked_start(raw, name), False
        text = _decoded(decoder, raw, name, line, final=False)
        line += text.count("\n")
        yield text
    _decoded(decoder, b"", name, line, final=True)


def _decoded(decoder: codecs.IncrementalDecoder, raw: bytes, name: str, line: int, *, final: bool) -> str:
    try:
        text = decoder.decode(raw, final)
    except UnicodeDecodeError as error:
        # The decoder's object holds bytes left from the piece before, so line feeds are counted in it and not in `raw`.
        raise _not_utf8(error, name, line + bytes(error.object[: error.start]).count(b"\n")) from error
    if "\0" in text:
        before = text[: text.index("\0")]
        raise _nul(text[before.rfind("\n") + 1 :], name, line + before.count("\n"))
    return text


def _read(read: Callable[[int], bytes], size: int, *, name: str, line: int) -> bytes:
    """`read(size)`, with the errors of a damaged gzip or disk turned into ours."""
    where = f"{name}:{line}"
    try:
        return read(size)
    except gzip.BadGzipFile as error:
        raise DataError(
            f"this is not a gzip file, though its name says so ({error})",
            where=where,
            fix="rename it without .gz, or download it again",
        ) from error
    except EOFError as error:
        raise DataError(
            "the gzip file ends too early", where=where, fix="it was cut off: download or compress it again"
        ) from error
    except zlib.error as error:
        raise DataError(f"the gzip file is damaged ({error})", where=where, fix="download it again") from error
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", where=where) from error


def _checked_start(raw: bytes, name: str) -> bytes:
    """The first bytes of a file without a UTF-8 byte order mark; what is plainly another kind of file is refused."""
    where = f"{name}:1"
    if raw.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):  # its mark begins as that of UTF-16 does
        raise DataError("the file is UTF-32", where=where, expected="UTF-8", fix=_recode(name, "utf-32"))
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError("the file is UTF-16", where=where, expected="UTF-8", fix=_recode(name, "utf-16"))
    if encoding := _utf16_without_mark(raw[:64]):
        raise DataError("the file is UTF-16 without a mark", where=where, expected="UTF-8", fix=_recode(name, encoding))
    if raw.startswith(b"\x1f\x8b"):
        fix = f"rename it: {Path(name).name}.gz"
        raise DataError("the file is gzip-compressed, but its name does not end in .gz", where=where, fix=fix)
    if raw.startswith(b"version https://git-lfs.github.com/spec/"):
        raise DataError("this is a Git LFS pointer, not the data", where=where, fix="git lfs pull")
    return raw.removeprefix(codecs.BOM_UTF8)


def _utf16_without_mark(start: bytes) -> str | None:
    """The kind of UTF-16 that the start of a file looks like: headers and keys are ASCII, so every second byte is 0."""
    for encoding, zeros, letters in (("utf-16le", start[1::2], start[::2]), ("utf-16be", start[::2], start[1::2])):
        if len(start) > 3 and not any(zeros) and all(letters):
            return encoding
    return None


def _not_utf8(error: UnicodeDecodeError, name: str, line: int) -> DataError:
    data = bytes(error.object)
    start = data.rfind(b"\n", 0, error.start) + 1
    # Bytes that Windows-1252 uses for quotes and dashes are control characters in Latin-1: converted by that name, the
    # text would look whole and be spoilt.
    encoding = "cp1252" if error.object[error.start] not in _NOT_IN_CP1252 else "latin1"
    return DataError(
        f"the text is not UTF-8: byte 0x{error.object[error.start]:02x} at byte {error.start - start + 1} of the line",
        where=f"{name}:{line}",
        expected="UTF-8",
        fix=f"{_recode(name, encoding)} (or whatever its encoding is; Excel: save as CSV UTF-8)",
    )


def _recode(name: str, encoding: str) -> str:
    archive, _, member = name.rpartition("!")
    packed, remote = bool(archive) or name.endswith(".gz"), name.startswith("hub:")
    # What is packed or elsewhere is first to be had as a file, under its own name.
    plain = Path(member.removesuffix(".gz"))
    source = plain.name if packed or remote else name
    command = f"iconv -f {encoding} -t utf-8 {shlex.quote(source)} > {shlex.quote(f'{plain.stem}.utf8{plain.suffix}')}"
    if remote:
        return f"download the dataset, and then {command}"
    return f"unpack {shlex.quote(archive or name)}, and then {command}" if packed else command


def _nul(text: str, name: str, line: int) -> DataError:
    return DataError(
        f"a NUL byte at character {text.index(chr(0)) + 1} of the line",
        where=f"{name}:{line}",
        expected="text in UTF-8",
        fix="the file is damaged or binary",
    )
