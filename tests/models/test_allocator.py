"""Memory that outlives a step: used again once nothing is left in it, and never before."""

from __future__ import annotations

import errno
import mmap

import pytest

torch = pytest.importorskip("torch")

from titrant.models import allocator  # noqa: E402
from titrant.models.allocator import end_run, lasting_like  # noqa: E402

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
