"""Keep freed memory in the process, and what lasts out of its way.

A training step frees and asks for the same large tensors again. The C library gives each back to the operating system
and gets it again page by page, every page zeroed by the kernel: measured on a 135M-parameter model, a third of the
time of forward and backward. Kept in the process, a step costs that once.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import platform
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

Key = TypeVar("Key")

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # the parameters' numbers in glibc's malloc.h
_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
_GROWTH_BYTES = 1 << 30  # a trim costs the first touch of what the next step needs
_SETTLING = 4  # forwards after a trim; their largest need is what growth counts from
_LASTING_BYTES = 16 << 20  # smaller blocks come from torch: new pages cost little there


def keep_freed_memory() -> bool:
    """Tell glibc to serve large blocks from its own heap and not to give them back; False where there is no glibc.

    Holds for the whole process, from now on. The process keeps the size of its peak; it does not grow beyond it.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    # No block by mmap of its own (those go back when freed), no trimming at the top, and growth in steps of 64 MiB.
    mallopt = ctypes.CDLL(None).mallopt
    largest = 2**31 - 1
    return all(mallopt(*pair) == 1 for pair in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, largest), (_TOP_PAD, 64 << 20)))


def give_back_freed_memory() -> None:
    """Between two runs: hand what is free to the operating system, so that holes of one run do not add to the next."""
    _growth.settle()
    if platform.libc_ver()[0] == "glibc":
        # Also gives back free pages in the middle of the heap, which the thresholds above do not touch.
        ctypes.CDLL(None).malloc_trim(0)


def hold_growth() -> None:
    """After a step or a forward: give freed memory back where the process has grown by more than `_GROWTH_BYTES` since
    it last did so.

    Tensors of ever other sizes leave holes that later ones do not fit into, and a kept heap grows by them: on a model
    with 262k entries of vocabulary by several GiB a run. Values do not change.
    """
    if _growth.is_too_much(_resident_bytes()):
        give_back_freed_memory()


class _Growth:
    """The size of the process against what it needed in the first forwards after memory was last given back."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.settle()

    def settle(self) -> None:
        """Memory was given back: the next forwards say what they need."""
        self._needed, self._seen = 0, 0

    def is_too_much(self, size: int) -> bool:
        """Whether the process, of `size` bytes now, is to give memory back."""
        self._seen += 1
        # The first forwards after a trim fill memory that is needed anyhow; only what comes on top of their largest is
        # growth by holes.
        if self._seen <= _SETTLING:
            self._needed = max(self._needed, size)
        return size > self._needed + self._most


_growth = _Growth(_GROWTH_BYTES)


def _resident_bytes() -> int:
    """What this process has in memory, without pages of files; 0 where the system does not tell."""
    try:
        _, resident, of_files, *_ = map(int, Path("/proc/self/statm").read_text(encoding="ascii").split())
    except OSError:
        return 0
    return (resident - of_files) * mmap.PAGESIZE


class _Blocks:
    """Blocks of memory with pages of their own, used again once no tensor is left in them.

    The first touch of a page costs more than the work on it: for the copies and moments of a 135M-parameter model about
    a second of every run.
    """

    def __init__(self) -> None:
        self._idle: dict[int, list[mmap.mmap]] = {}
        self._asked: set[int] = set()

    def take(self, size: int) -> torch.Tensor:
        """`size` bytes of any values. Raises MemoryError."""
        import numpy as np
        import torch

        self._asked.add(size)
        idle = self._idle.setdefault(size, [])
        memory = idle.pop() if idle else self._new(size)
        array = np.frombuffer(memory, dtype=np.uint8)
        # Every tensor in the block holds the array, which dies with the last of them.
        weakref.finalize(array, idle.append, memory).atexit = False
        return torch.from_numpy(array)

    def _new(self, size: int) -> mmap.mmap:
        with contextlib.suppress(OSError):
            return mmap.mmap(-1, size, **_PRIVATE)
        # No room: idle blocks of other sizes are let go, and it is tried once more.
        for idle in self._idle.values():
            idle.clear()
        try:
            return mmap.mmap(-1, size, **_PRIVATE)
        except OSError as error:
            raise MemoryError(f"{error.strerror}: a block of {size} bytes") from None

    def forget_unasked(self) -> None:
        """Let go of idle blocks of sizes that nobody asked for since the last call."""
        for size in self._idle.keys() - self._asked:
            self._idle[size].clear()
        self._asked.clear()

    def idle_bytes(self) -> int:
        """What waits to be used again."""
        return sum(size * len(idle) for size, idle in self._idle.items())


_blocks = _Blocks()


def end_run() -> None:
    """After a run, all of whose tensors are gone: give freed memory back. Lasting blocks stay for the next run, which
    asks for the same ones as a rule; those that this run did not ask for go."""
    _blocks.forget_unasked()
    give_back_freed_memory()


def lasting_like(tensors: Mapping[Key, torch.Tensor], dtype: torch.dtype) -> dict[Key, torch.Tensor]:
    """Memory for such tensors in `dtype`, with any values, as parts of one block with pages of its own: for weights,
    moments and other things that outlive a step.

    Many lasting tensors among those that come and go at every step cut the heap into holes that nothing fits into.
    """
    import torch

    devices = {tensor.device for tensor in tensors.values()}
    if len(devices) != 1:
        return {key: torch.empty_like(tensor, dtype=dtype) for key, tensor in tensors.items()}
    # One block and not one for each tensor: a run then asks for few sizes, and the next run finds the same ones idle.
    starts, total = [], 0
    for tensor in tensors.values():
        starts.append(total)
        total += -(-tensor.numel() // 64) * 64  # every part starts at a cache line
    device, size = devices.pop(), total * dtype.itemsize
    if device.type == "cpu" and size >= _LASTING_BYTES:
        block = _blocks.take(size).view(dtype)
    else:
        block = torch.empty(total, dtype=dtype, device=device)
    parts = zip(tensors.items(), starts, strict=True)
    return {key: block[start : start + like.numel()].view(like.shape) for (key, like), start in parts}
