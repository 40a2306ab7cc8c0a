"""Weights in training: where their memory lies, and what adding a micro-batch takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from titrant.backends.hf.models.allocator import lasting_like
from titrant.backends.hf.training.weights import TrainableWeights
from titrant.core.records import TrainingSettings

PEAK = Path("/proc/self/clear_refs")


def test_lasting_tensors_are_parts_of_one_block_that_do_not_touch() -> None:
    like = {"a": torch.zeros(3, 5), "b": torch.zeros(()), "c": torch.zeros(130), "d": torch.zeros(2, 64)}
    found = lasting_like(like, torch.bfloat16)
    for number, (name, tensor) in enumerate(found.items()):
        assert tensor.shape == like[name].shape
        assert tensor.dtype == torch.bfloat16
        assert tensor.is_contiguous()
        tensor.fill_(number)
    assert [tensor.unique().tolist() for tensor in found.values()] == [[0], [1], [2], [3]]
    assert len({tensor.untyped_storage().data_ptr() for tensor in found.values()}) == 1
    assert all(tensor.data_ptr() % 64 == 0 for tensor in found.values())


def test_micro_batches_are_summed_in_fp32_and_a_new_step_starts_from_nothing() -> None:
    model = torch.nn.Linear(3, 2, bias=False)
    weights = TrainableWeights(model, dtype="bf16", settings=TrainingSettings())
    for parts in ((1.0, 2**-9, 2**-9), (2.0, 2.0)):  # bf16 cannot hold 1 + 2^-9
        weights.clear_gradients()
        for part in parts:
            model.weight.grad = torch.full((2, 3), part, dtype=torch.bfloat16)
            weights.add_micro_batch()
        assert weights.gradient_norm() == pytest.approx(6**0.5 * sum(parts), rel=1e-6)


@pytest.mark.skipif(not PEAK.exists(), reason="needs Linux to tell the peak of memory")
def test_adding_a_micro_batch_takes_no_memory_of_the_gradients_size() -> None:
    model = torch.nn.Linear(4096, 8192, bias=False)  # 64 MiB in bf16
    weights = TrainableWeights(model, dtype="bf16", settings=TrainingSettings())

    def add() -> float:
        model.weight.grad = torch.ones(8192, 4096, dtype=torch.bfloat16)
        PEAK.write_text("5")
        before = _status("VmRSS")
        weights.add_micro_batch()
        return _status("VmHWM") - before

    add()  # the step's sum, which stays
    assert add() < 32


def _status(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024
