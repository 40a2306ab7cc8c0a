"""Memory that outlives a step: used again once nothing is left in it, and never before."""

from __future__ import annotations

import errno
import mmap
import platform
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from titrant.backends.hf.models import allocator  # noqa: E402
from titrant.backends.hf.models.allocator import end_run, lasting_like  # noqa: E402

LIKE = {"matrix": torch.zeros(300, 7), "vector": torch.zeros(3)}


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> allocator._Blocks:
    fresh = allocator._Blocks()
    monkeypatch.setattr(allocator, "_blocks", fresh)
    monkeypatch.setattr(allocator, "_LASTING_BYTES", 1)
    return fresh


def test_parts_have_the_shapes_asked_for_and_a_cache_line_of_their_own(blocks: allocator._Blocks) -> None:
    parts = lasting_like(LIKE, torch.bfloat16)
    assert {key: part.shape for key, part in parts.items()} == {key: part.shape for key, part in LIKE.items()}
    assert all(part.dtype == torch.bfloat16 and part.data_ptr() % 64 == 0 for part in parts.values())
    parts["matrix"].fill_(1.0)
    parts["vector"].fill_(2.0)
    assert float(parts["matrix"].float().sum()) == 2100.0


def test_a_block_is_used_again_once_no_tensor_is_left_in_it(blocks: allocator._Blocks) -> None:
    parts = lasting_like(LIKE, torch.float32)
    place = parts["matrix"].data_ptr()
    kept = torch.nn.Parameter(parts["matrix"].view(-1)[5:9])  # a view of a view holds the block as well
    kept.data.fill_(3.0)
    del parts
    assert blocks.idle_bytes() == 0
    other = lasting_like(LIKE, torch.float32)
    other["matrix"].fill_(7.0)
    assert other["matrix"].data_ptr() != place
    assert kept.tolist() == [3.0] * 4
    del kept
    assert blocks.idle_bytes() > 0
    assert lasting_like(LIKE, torch.float32)["matrix"].data_ptr() == place


def test_what_a_run_did_not_ask_for_goes_at_its_end(blocks: allocator._Blocks) -> None:
    lasting_like(LIKE, torch.float32)
    lasting_like(LIKE, torch.bfloat16)
    end_run()
    both = blocks.idle_bytes()
    lasting_like(LIKE, torch.bfloat16)
    end_run()
    assert 0 < blocks.idle_bytes() < both


def test_where_no_block_can_be_had_idle_ones_go_and_then_it_is_a_lack_of_memory(
    blocks: allocator._Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    lasting_like(LIKE, torch.float32)
    assert blocks.idle_bytes() > 0
    real, refused = mmap.mmap, [1]

    def scarce(*arguments: int, **flags: int) -> mmap.mmap:
        if refused[0]:
            refused[0] -= 1
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return real(*arguments, **flags)

    monkeypatch.setattr(allocator.mmap, "mmap", scarce)
    parts = lasting_like(LIKE, torch.bfloat16)
    assert parts["vector"].shape == (3,)
    assert blocks.idle_bytes() == 0
    refused[0] = 2
    with pytest.raises(MemoryError, match="Cannot allocate memory"):
        lasting_like(LIKE, torch.float64)


def test_growth_counts_from_the_largest_need_of_the_first_forwards_after_memory_was_given_back() -> None:
    growth = allocator._Growth(most=10)
    needs = [50, 70, 60] + [0] * (allocator._SETTLING - 3)
    assert not any(growth.is_too_much(size) for size in (*needs, 80, 80))
    assert growth.is_too_much(81)
    growth.settle()
    assert not growth.is_too_much(200)  # what is needed now may be more
    assert not growth.is_too_much(210)


_FRAGMENTING = """
import torch
from titrant.backends.hf.models import allocator

allocator._growth = allocator._Growth(64 << 20)
assert allocator.keep_freed_memory()
pins, sizes = [], []
for step in range(40):
    passing = torch.ones((8 + step) << 18)  # 8 MiB, and 1 MiB more every time: no hole fits
    # Never written, so no page of it is resident; larger than every hole, so it lies above what passes.
    pins.append(torch.empty((8 + step) << 18))
    del passing
    if GIVEN_BACK:
        allocator.hold_growth()
    sizes.append(allocator._resident_bytes() >> 20)
print(max(sizes) - sizes[0], sizes[0])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's memory is kept and given back")
def test_a_heap_of_holes_does_not_grow_without_end() -> None:
    def grown(given_back: bool) -> int:
        code = _FRAGMENTING.replace("GIVEN_BACK", str(given_back))
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        growth, size = map(int, found.stdout.split())
        assert size > 0
        return growth

    assert grown(given_back=False) > 800
    assert grown(given_back=True) < 300
