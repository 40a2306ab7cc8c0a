"""Keep freed memory in the process, and what lasts out of its way.

A training step frees and asks for the same large tensors again. The C library gives each back to the operating system
and gets it again page by page, every page zeroed by the kernel: measured on a 135M-parameter model, a third of the
time of forward and backward. Kept in the process, a step costs that once.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

Key = TypeVar("Key")

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # the parameters' numbers in glibc's malloc.h
_MMAP_MAX_DEFAULT = 65_536
_kept = [False]  # whether freed memory is kept from now on


def keep_freed_memory() -> bool:
    """Tell glibc to serve large blocks from its own heap and not to give them back; False where there is no glibc.

    Holds for the whole process, from now on. The process keeps the size of its peak; it does not grow beyond it.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    largest = 2**31 - 1
    _kept[0] = True
    return all(mallopt(*pair) == 1 for pair in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, largest), (_TOP_PAD, 64 << 20)))


def give_back_freed_memory() -> None:
    """Between two runs: hand what is free to the operating system, so that holes of one run do not add to the next."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def lasting_like(tensors: Mapping[Key, torch.Tensor], dtype: torch.dtype) -> dict[Key, torch.Tensor]:
    """Memory for such tensors in `dtype`, with any values, as parts of one block with pages of its own: for weights,
    moments and other things that outlive a step.

    Many lasting tensors among those that come and go at every step cut the heap into holes that nothing fits into.
    """
    import torch

    devices = {tensor.device for tensor in tensors.values()}
    if len(devices) != 1:
        return {key: torch.empty_like(tensor, dtype=dtype) for key, tensor in tensors.items()}
    starts, total = [], 0
    for tensor in tensors.values():
        starts.append(total)
        total += -(-tensor.numel() // 64) * 64  # every part starts at a cache line
    if _kept[0]:
        ctypes.CDLL(None).mallopt(_MMAP_MAX, _MMAP_MAX_DEFAULT)
    try:
        block = torch.empty(total, dtype=dtype, device=devices.pop())
    finally:
        if _kept[0]:
            keep_freed_memory()
    parts = zip(tensors.items(), starts, strict=True)
    return {key: block[start : start + like.numel()].view(like.shape) for (key, like), start in parts}
