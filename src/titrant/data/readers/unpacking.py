"""Compressed files without the bombs: what comes out is counted, and there is an end to it.

Compression of real rows saves a factor of 3 to 30. A file that unpacks to a thousand times its size was made to fill
a disk or a memory. So a packed file may give `EXPANSION` times its bytes, and `FREE_BYTES` beside; all members of an
archive share that, since they may overlap. Going back in a gzip stream unpacks it from its start again, which is
counted as well: an archive whose members stand in no order would otherwise take time with their square.
"""

from __future__ import annotations

import io
from typing import BinaryIO

from titrant.core.errors import DataError

EXPANSION = 100
FREE_BYTES = 64 << 20
_REWINDS = 20  # how many times the allowance may be unpacked over again


class Allowance:
    """How much may still come out of one packed file."""

    def __init__(self, packed_bytes: int, name: str) -> None:
        self.name, self.packed_bytes = name, packed_bytes
        self.left = FREE_BYTES + EXPANSION * packed_bytes
        self.rewinds_left = _REWINDS * self.left

    def take(self, count: int) -> None:
        """Count bytes that came out; `DataError` when they are more than an honest file holds."""
        self.left -= count
        if self.left < 0:
            raise DataError(
                f"this file unpacks to more than {EXPANSION} times its size",
                where=f"{self.name}:1",
                got=f"{self.packed_bytes} bytes",
                expected="rows, which compression makes 3 to 30 times smaller",
                fix="unpack it yourself if you trust it, and name the plain file",
            )

    def rewind(self, count: int) -> None:
        """Count bytes that are unpacked once more; `DataError` when that has no end."""
        self.rewinds_left -= count
        if self.rewinds_left < 0:
            raise DataError(
                "the members of this archive stand in an order that takes too long to read",
                where=f"{self.name}:1",
                fix="unpack it and name the folder",
            )


class Unpacked(io.RawIOBase):
    """A stream of unpacked bytes that counts against an allowance."""

    def __init__(self, stream: BinaryIO, allowance: Allowance) -> None:
        self._stream, self._allowance = stream, allowance

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; without a size all that the allowance leaves, and one more."""
        wanted = self._allowance.left + 1
        data = self._stream.read(wanted if size is None or size < 0 else min(size, wanted))
        self._allowance.take(len(data))
        return data

    def readline(self, size: int | None = -1, /) -> bytes:
        wanted = self._allowance.left + 1
        line = self._stream.readline(wanted if size is None or size < 0 else min(size, wanted))
        self._allowance.take(len(line))
        return line

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        before = self._stream.tell()
        here = self._stream.seek(offset, whence)
        if here < before:
            self._allowance.rewind(here)
        else:
            self._allowance.take(here - before)
        return here

    def tell(self) -> int:
        return self._stream.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._stream.seekable()
