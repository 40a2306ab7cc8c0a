"""Where the rows of a pool are: in memory, or in a file too large for it. The cuts and the draws are the same for both.

Cuts and draws go by columns of a few bytes a row (the key's hash, and what the study's cuts need besides), so the rows
themselves are needed only once it is known which of them a dose takes. `HeldRows` has them at hand; `RowsInFile` reads
the file once for the columns and once more for the rows that are wanted.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from titrant import sampling
from titrant.core.errors import DataError
from titrant.core.records import Example
from titrant.data import readers
from titrant.data.readers import ColumnMap

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DIGEST_BYTES = 16


class PoolFile(Protocol):
    """The rows of a pool, numbered in the order of its file. They are streamed first, and asked for after that."""

    @property
    def in_memory(self) -> bool:
        """Whether asking for a row costs nothing."""
        ...

    def stream(self, on_fault: Callable[[DataError], None]) -> Iterator[Example]:
        """Every row that can be used, once. Keys may lack their occurrence until the stream has ended."""
        ...

    def keys(self, numbers: NDArray[np.intp]) -> Iterator[str]:
        """The keys of these rows."""
        ...

    def fetch(self, numbers: NDArray[np.intp]) -> tuple[Example, ...]:
        """These rows with their keys; `numbers` rise."""
        ...


@dataclass(frozen=True, eq=True, slots=True)
class HeldRows:
    """A pool in memory. `faults` are those of rows that were left out when it was read."""

    rows: tuple[Example, ...]
    faults: tuple[DataError, ...] = field(default=(), compare=False)

    in_memory = True

    def stream(self, on_fault: Callable[[DataError], None]) -> Iterator[Example]:
        for fault in self.faults:
            on_fault(fault)
        yield from self.rows

    def keys(self, numbers: NDArray[np.intp]) -> Iterator[str]:
        return (self.rows[number].key for number in numbers.tolist())

    def fetch(self, numbers: NDArray[np.intp]) -> tuple[Example, ...]:
        return tuple(self.rows[number] for number in numbers.tolist())


class RowsInFile:
    """A pool that stays in its file of JSON Lines. Of each row twenty bytes are kept: the hash of its content, from
    which and from how many equal contents came before it its key follows, and its line."""

    in_memory = False

    def __init__(
        self,
        path: str,
        *,
        source: str,
        columns: ColumnMap | None,
        instruction: str | None,
        shape: str | None,
        leaves_out_faults: bool,
        notes: readers.ReadingNotes | None = None,
    ) -> None:
        self.path, self.source, self.columns = path, source, columns
        self.instruction, self.shape = instruction, shape
        self.leaves_out_faults, self.notes = leaves_out_faults, notes
        self._digests, self._lines = bytearray(), array("I")
        self._occurrence_N: NDArray[np.uint32] | None = None

    def stream(self, on_fault: Callable[[DataError], None]) -> Iterator[Example]:
        self._digests, self._lines, self._occurrence_N = bytearray(), array("I"), None
        for example in readers.stream_examples(
            self.path,
            source=self.source,
            task=self.source,
            columns=self.columns,
            instruction=self.instruction,
            shape=self.shape,
            on_fault=on_fault if self.leaves_out_faults else None,
            numbered=False,
            notes=self.notes,
        ):
            # Without `numbered`, a key is the bare hash: how many equal contents came before is counted once all are
            # known.
            assert example.origin is not None
            self._digests += bytes.fromhex(example.key)
            self._lines.append(example.origin.line)
            yield example
        self._occurrence_N = sampling.occurrences(self._digests)

    def keys(self, numbers: NDArray[np.intp]) -> Iterator[str]:
        assert self._occurrence_N is not None, "the stream has been read to its end"
        occurrences = self._occurrence_N[numbers].tolist()
        return (
            f"{self._digests[number * _DIGEST_BYTES : (number + 1) * _DIGEST_BYTES].hex()}.{occurrence}"
            for number, occurrence in zip(numbers.tolist(), occurrences, strict=True)
        )

    def fetch(self, numbers: NDArray[np.intp]) -> tuple[Example, ...]:
        lines = [self._lines[number] for number in numbers.tolist()]
        keys_by_line = dict(zip(lines, self.keys(numbers), strict=True))
        if not keys_by_line:
            return ()
        return tuple(
            readers.fetch_rows(
                self.path,
                keys_by_line,
                source=self.source,
                columns=self.columns,
                instruction=self.instruction,
                shape=self.shape,
            )
        )
