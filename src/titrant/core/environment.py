"""What this machine will compute with, found without importing torch: part of the name of every run.

Two machines whose `Numerics` differ may differ in the last bits of a result, so their runs are never confused.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
from functools import cache
from pathlib import Path
from typing import Literal

from titrant.core.errors import SpecError
from titrant.core.records import Numerics, Tags

# The widest first; a name of the kernel's, or of the CPU's flags.
_INSTRUCTION_SETS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
_NATIVE_BF16 = frozenset({"amx_bf16", "avx512_bf16", "bf16"})
_PACKAGES = ("numpy", "peft", "tokenizers", "torch", "transformers")
_CPU_FLAGS = Path("/proc/cpuinfo")
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # attributes of a device in cuda.h


def current_numerics(
    dtype: Literal["auto", "bf16", "fp32"] = "auto",
    threads: int = 1,
    device: str = "auto",
) -> Numerics:
    """The numerics of a run on this machine. `threads` are those of one run.

    `device` is `auto`, `cpu`, `cuda` or `cuda:N`, the N-th GPU that this process sees. `auto`: a GPU where there is one
    and torch is built for it; bf16 where the device multiplies it natively, else fp32. Which of several equal GPUs is
    used is no part of the numerics: `gpus_of` says it.
    `SpecError` for another device, when a GPU is asked for that is not there, or threads are fewer than one.
    """
    if threads < 1:
        raise SpecError("a run needs a thread", where="threads", got=threads, expected="at least 1")
    number = _gpu_number(device)
    capability = _gpu_capability() if device != "cpu" and not _torch_is_cpu_only() else None
    if device not in ("auto", "cpu") and capability is None:
        fix = "use device: cpu, or install the driver and a torch that is built for CUDA"
        raise SpecError("no GPU can be used here", where="device", got=device, fix=fix)
    if number is not None:
        there = _capabilities()
        if number >= len(there):
            expected = "cuda:0" if len(there) == 1 else f"cuda:0 to cuda:{len(there) - 1}"
            raise SpecError("there is no such GPU here", where="device", got=device, expected=expected)
        capability = there[number]
    isa = f"sm_{capability}" if capability is not None else cpu_instruction_set()
    native = capability >= 80 if capability is not None else isa in _NATIVE_BF16
    return Numerics(
        device="cpu" if capability is None else "cuda",
        dtype=dtype if dtype != "auto" else "bf16" if native else "fp32",
        threads=threads,
        compiled=False,
        isa=isa,
        versions=package_versions(),
    )


def cpu_instruction_set() -> str:
    """The widest instruction set that matters: amx_bf16, avx512_bf16, avx512f, avx2, bf16 (Arm), or generic."""
    flags = _cpu_flags()
    found = next((name for name in _INSTRUCTION_SETS if name in flags), None)
    if found is None and platform.machine() in ("aarch64", "arm64"):
        found = "bf16" if "bf16" in flags else "neon"
    return found or "generic"


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that a run may be placed on, as `CUDA_VISIBLE_DEVICES` names them: those of the first one's kind, for
    runs on another kind would be others in their last bits. Empty without a driver or a GPU, or with a torch for CPUs.
    """
    if _torch_is_cpu_only():
        return ()
    return _alike(_named_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"), len(_capabilities())), _capabilities())


def gpus_of(device: str) -> tuple[str, ...]:
    """The GPUs for runs where the study says `device`: all of `visible_gpus`, or the one that it names."""
    number = _gpu_number(device)
    if number is None:
        return visible_gpus()
    names = () if _torch_is_cpu_only() else _named_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"), len(_capabilities()))
    return names[number : number + 1]


def _gpu_number(device: str) -> int | None:
    """The N of `cuda:N`, None for a device without a number; `SpecError` for a device that nothing here computes on.

    >>> _gpu_number("cuda:1"), _gpu_number("cuda"), _gpu_number("cpu")
    (1, None, None)
    """
    name, colon, number = device.partition(":")
    if name == "cuda" and colon and number.isdecimal():
        return int(number)
    if device not in ("auto", "cpu", "cuda"):
        raise SpecError(
            "runs cannot compute on this device",
            where="device",
            got=device,
            expected="auto, cpu, cuda or cuda:N",
            fix="use device: cpu" if name == "mps" else None,
        )
    return None


def _named_gpus(named: str | None, count: int) -> tuple[str, ...]:
    """The names of the `count` GPUs that the driver shows.

    >>> _named_gpus(None, 2), _named_gpus("GPU-1f,3", 2), _named_gpus("", 0)
    (('0', '1'), ('GPU-1f', '3'), ())
    """
    if named is None:
        return tuple(str(number) for number in range(count))
    return tuple(name.strip() for name in named.split(",") if name.strip())[:count]


def _alike(names: tuple[str, ...], capabilities: tuple[int, ...]) -> tuple[str, ...]:
    """Those of the first one's compute capability.

    >>> _alike(("0", "1", "2"), (90, 80, 90))
    ('0', '2')
    """
    return tuple(name for name, found in zip(names, capabilities, strict=False) if found == capabilities[0])


def machine_name(device: str) -> str:
    """What decides how fast this machine is, in words: its GPUs, or its processor and the cores that we may use."""
    if device == "cuda" and (gpus := _gpu_names()):
        return ", ".join(gpus)
    lines = _cpu_lines("model name") or [platform.processor() or platform.machine()]
    return f"{lines[0]}, {len(os.sched_getaffinity(0))} cores"


def package_versions() -> Tags:
    """(package, version) of what can change the bits of a result; `absent` where a package is not installed."""
    return tuple((name, _version(name)) for name in _PACKAGES)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _torch_is_cpu_only() -> bool:
    version = _version("torch")
    return version == "absent" or version.endswith("+cpu")


def _cpu_flags() -> frozenset[str]:
    return frozenset(next(iter(_cpu_lines("flags", "features")), "").split())


def _cpu_lines(*names: str) -> list[str]:
    """What the kernel says of the processor under these names; nothing where it is not Linux."""
    try:
        text = _CPU_FLAGS.read_text(encoding="ascii", errors="replace")
    except OSError:
        return []
    return [line.partition(":")[2].strip() for line in text.splitlines() if line.lower().startswith(names)]


@cache
def _gpu_names() -> tuple[str, ...]:
    """The name of every GPU that the driver shows this process; empty without one."""
    count = len(_capabilities())  # the driver is ready after this
    driver = ctypes.CDLL("libcuda.so.1") if count else None
    names = []
    for number in range(count):
        device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
        assert driver is not None
        if not driver.cuDeviceGet(ctypes.byref(device), number) and not driver.cuDeviceGetName(name, 256, device):
            names.append(name.value.decode("ascii", "replace"))
    return tuple(names)


def _gpu_capability() -> int | None:
    """The compute capability of the first GPU as a number like 90; None without a driver or a GPU."""
    found = _capabilities()
    return found[0] if found else None


@cache
def _capabilities() -> tuple[int, ...]:
    """The compute capability of every GPU that the driver shows this process."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ()
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    found = []
    for number in range(count.value):
        device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        states = (
            driver.cuDeviceGet(ctypes.byref(device), number),
            driver.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device),
            driver.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device),
        )
        if any(states):
            return ()
        found.append(10 * major.value + minor.value)
    return tuple(found)
