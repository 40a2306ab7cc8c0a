"""Numerics are found without torch, and name what can move the last bits."""

import ctypes
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from titrant.core import environment
from titrant.core.environment import cpu_instruction_set, current_numerics, package_versions
from titrant.core.errors import SpecError


@pytest.fixture
def cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make this machine one without a GPU, whose CPU has the given flags."""

    def with_flags(flags: str, *, machine: str = "x86_64") -> None:
        (tmp_path / "cpuinfo").write_text(f"processor : 0\nmodel name : x\nflags\t\t: {flags}\nflags : other\n")
        monkeypatch.setattr(environment, "_CPU_FLAGS", tmp_path / "cpuinfo")
        monkeypatch.setattr(environment, "_gpu_capability", lambda: None)
        monkeypatch.setattr(environment.platform, "machine", lambda: machine)

    return with_flags


@pytest.mark.parametrize(
    ("flags", "isa", "dtype"),
    [
        ("fpu avx2 avx512f avx512_bf16 amx_bf16", "amx_bf16", "bf16"),
        ("fpu avx2 avx512f avx512_bf16", "avx512_bf16", "bf16"),
        ("fpu avx2 avx512f", "avx512f", "fp32"),
        ("fpu avx2", "avx2", "fp32"),
        ("fpu", "generic", "fp32"),
    ],
)
def test_bf16_only_where_the_cpu_multiplies_it(cpu, flags: str, isa: str, dtype: str) -> None:
    cpu(flags)
    found = current_numerics()
    assert (found.device, found.isa, found.dtype, found.threads, found.compiled) == ("cpu", isa, dtype, 1, False)
    assert current_numerics(dtype="fp32").dtype == "fp32"
    assert current_numerics(dtype="bf16", threads=3).threads == 3


def test_arm_and_unknown_systems(cpu, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu("fp asimd bf16", machine="aarch64")
    assert (cpu_instruction_set(), current_numerics().dtype) == ("bf16", "bf16")
    monkeypatch.setattr(environment, "_CPU_FLAGS", Path("/nowhere"))
    assert cpu_instruction_set() == "neon"


@pytest.mark.parametrize(("capability", "dtype"), [(90, "bf16"), (75, "fp32")])
def test_a_gpu_is_taken_when_torch_is_built_for_it(cpu, monkeypatch, capability: int, dtype: str) -> None:
    cpu("avx2")
    monkeypatch.setattr(environment, "_gpu_capability", lambda: capability)
    monkeypatch.setattr(environment, "_version", lambda name: "2.13.0")
    assert (current_numerics().device, current_numerics().isa, current_numerics().dtype) == (
        "cuda",
        f"sm_{capability}",
        dtype,
    )
    assert current_numerics(device="cpu").device == "cpu"
    monkeypatch.setattr(environment, "_version", lambda name: "2.13.0+cpu")
    assert current_numerics().device == "cpu"


def test_the_driver_is_asked_for_its_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    class Driver:
        """Three GPUs: 8.6, 9.0 and 8.6."""

        state = 0

        def cuInit(self, flags: int) -> int:  # noqa: N802
            return self.state

        def cuDeviceGetCount(self, found) -> int:  # noqa: N802
            found._obj.value = 3
            return 0

        def cuDeviceGet(self, device, number: int) -> int:  # noqa: N802
            device._obj.value = number
            return 0

        def cuDeviceGetAttribute(self, found, attribute: int, device) -> int:  # noqa: N802
            found._obj.value = {75: 9 if device.value == 1 else 8, 76: 0 if device.value == 1 else 6}[attribute]
            return 0

    environment._capabilities.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    monkeypatch.setattr(environment, "_version", lambda name: "2.13.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert environment._gpu_capability() == 86
    assert environment.visible_gpus() == ("0", "2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, GPU-x,7")
    assert environment.visible_gpus() == ("5", "7")
    monkeypatch.setattr(environment, "_version", lambda name: "2.13.0+cpu")
    assert environment.visible_gpus() == ()
    environment._capabilities.cache_clear()
    monkeypatch.setattr(Driver, "state", 100)
    assert environment._gpu_capability() is None
    environment._capabilities.cache_clear()


def test_impossible_wishes_are_errors(cpu) -> None:
    cpu("avx2")
    with pytest.raises(SpecError, match="device: no GPU"):
        current_numerics(device="cuda")
    with pytest.raises(SpecError, match="threads"):
        current_numerics(threads=0)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the driver show GPUs of these compute capabilities to a torch that is built for them."""

    def shown(*capabilities: int) -> None:
        monkeypatch.setattr(environment, "_capabilities", lambda: capabilities)
        monkeypatch.setattr(environment, "_version", lambda name: "2.13.0")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return shown


def test_a_gpu_that_is_named_by_its_number_is_the_one_that_is_used(gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(86, 90, 86)
    assert [current_numerics(device=name).isa for name in ("cuda", "cuda:0", "cuda:1", "cuda:2")] == [
        "sm_86",
        "sm_86",
        "sm_90",
        "sm_86",
    ]
    assert {current_numerics(device=name).device for name in ("cuda", "cuda:1", "auto")} == {"cuda"}
    assert environment.gpus_of("cuda:1") == ("1",)
    assert environment.gpus_of("cuda") == environment.gpus_of("auto") == ("0", "2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-x,7")
    assert environment.gpus_of("cuda:1") == ("GPU-x",)
    assert environment.gpus_of("cuda:2") == ("7",)


def test_the_number_of_a_gpu_is_no_part_of_the_numerics(gpus) -> None:
    gpus(90, 90)
    assert current_numerics(device="cuda:1") == current_numerics(device="cuda:0") == current_numerics(device="cuda")


@pytest.mark.parametrize(
    ("there", "device", "words"),
    [
        ((90, 90), "cuda:2", r"no such GPU here \(got 'cuda:2'; expected cuda:0 to cuda:1"),
        ((90,), "cuda:7", r"no such GPU here \(got 'cuda:7'; expected cuda:0\)"),
        ((), "cuda:0", "no GPU can be used here"),
        ((), "cuda", "no GPU can be used here"),
        ((), "mps", r"cannot compute on this device \(got 'mps'; expected auto, cpu, cuda or cuda:N\)"),
        ((90,), "mps", "cannot compute on this device"),
        ((90,), "cpu:0", "cannot compute on this device"),
        ((90,), "cuda:x", "cannot compute on this device"),
        ((90,), "rocm", "cannot compute on this device"),
    ],
)
def test_a_device_that_is_not_there_or_not_known_is_refused_by_name(gpus, there, device: str, words: str) -> None:
    gpus(*there)
    with pytest.raises(SpecError, match=words):
        current_numerics(device=device)


def test_versions_are_those_installed_and_torch_stays_out() -> None:
    code = (
        "import sys; from titrant.core.environment import current_numerics; print(current_numerics(device='cpu'));"
        "assert not {'torch', 'numpy', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    import torch

    assert dict(package_versions())["torch"] == torch.__version__
    assert torch.__version__ in done.stdout
