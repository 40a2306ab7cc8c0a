"""Weights, their gradients and the optimiser.

Masters are fp32 and start from the stored or dequantised values, never from a bf16 copy: a start on the bf16 grid was
measured to cost 0.07 nats of held-out loss in 50 steps. In bf16 the model computes with a copy that is made again from
the masters after every step, block by block while the block is in the cache: gradient to fp32, AdamW, copy to bf16.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch.optim.adamw import adamw

from titrant.backends.hf.models.allocator import lasting_like
from titrant.core.records import TrainingSettings

_BLOCK = {"cpu": 1 << 18, "cuda": 1 << 26}  # elements that the optimiser works on at a time: 1 MiB each in the cache


class TrainableWeights:
    """The weights of a model that are trained: masters, moments, gradients of a step, and the copy it computes with.

    In fp32 the masters are the model's own parameters. Tied weights are one parameter, and stay so.
    """

    def __init__(self, model: torch.nn.Module, *, dtype: Literal["bf16", "fp32"], settings: TrainingSettings) -> None:
        self.settings = settings
        self.steps_taken = 0
        self._frozen: list[tuple[torch.nn.Parameter, torch.Tensor]] = []
        self.parameters: dict[str, torch.nn.Parameter] = {}
        self.masters: dict[str, torch.Tensor] = {}
        named = dict(model.named_parameters())
        copies = lasting_like(named, torch.bfloat16) if dtype == "bf16" else {}
        for name, parameter in named.items():
            assert parameter.dtype == torch.float32, f"{name} is {parameter.dtype}: masters start from fp32 weights"
            master = parameter.data
            if dtype == "bf16":
                # The model computes with the bf16 copy; the master keeps the steps that are smaller than bf16 can show,
                # which are most of them at usual learning rates.
                parameter.data = copies[name].copy_(master)
            if parameter.requires_grad:
                self.parameters[name] = parameter
                self.masters[name] = master
            else:
                self._frozen.append((parameter, master))
        self.first = lasting_like(self.masters, torch.float32)
        self.second = lasting_like(self.masters, torch.float32)
        for moment in (*self.first.values(), *self.second.values()):
            moment.zero_()
        self._sums: dict[str, torch.Tensor] = {}  # kept from step to step once a step needed them
        self._summed: set[str] = set()

    def clear_gradients(self) -> None:
        """Forget the gradients of a step, also of one that broke."""
        self._summed.clear()
        for parameter in self.parameters.values():
            parameter.grad = None

    def add_micro_batch(self) -> None:
        """Move the gradients of a micro-batch into the step's sum, in fp32: needed when a step has several."""
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            if name in self._summed:
                # In blocks: added whole, all of a gradient in bf16 is first copied into fp32.
                size = _BLOCK.get(parameter.grad.device.type, 1 << 22)
                blocks = (part.reshape(-1).split(size) for part in (self._sums[name], parameter.grad))
                for total, more in zip(*blocks, strict=True):
                    # fp32 sums: in bf16 (8 bits) what a late micro-batch adds to a sum of many would be rounded away.
                    total.add_(more)
            else:
                self._sums = self._sums or lasting_like(self.masters, torch.float32)
                self._sums[name].copy_(parameter.grad)
                self._summed.add(name)
            parameter.grad = None

    def gradient_norm(self) -> float:
        """The norm of the whole step's gradient, over all weights."""
        norms = [
            torch.linalg.vector_norm(block, dtype=torch.float32)  # which makes a copy in fp32 first: a small one
            for _, gradient in self._gradients()
            for block in gradient.reshape(-1).split(_BLOCK.get(gradient.device.type, 1 << 22))
        ]
        return float(torch.linalg.vector_norm(torch.stack(norms)))

    def step(self, *, learning_rate: float, gradient_norm: float) -> None:
        """One AdamW step with the gradient clipped to `clip_norm`, then new copies. Decay is decoupled, on matrices."""
        # Clipping comes after the whole step is summed, so it does not depend on how the step was cut.
        clip = min(1.0, self.settings.clip_norm / (gradient_norm + 1e-6))
        for name, gradient in self._gradients():
            self._step_parameter(name, gradient, learning_rate=learning_rate, clip=clip)
        self.steps_taken += 1
        self.clear_gradients()

    def state(self) -> dict[str, torch.Tensor]:
        """All tensors that a checkpoint needs, by name."""
        parts = {"master": self.masters, "first": self.first, "second": self.second}
        return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}

    def final_state(self) -> dict[str, torch.Tensor]:
        """The tensors that a checkpoint behind the last step needs; also there after `release`."""
        return {f"master.{name}": tensor for name, tensor in self.masters.items()}

    def load_state(self, tensors: Mapping[str, torch.Tensor], *, steps_taken: int) -> None:
        """Go on from a checkpoint; names and shapes must be those of `state`, or of `final_state`."""
        own = self.state()
        assert tensors.keys() in (own.keys(), self.final_state().keys()), "a checkpoint of other weights"
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
        for name, parameter in self.parameters.items():
            if parameter.data is not self.masters[name]:
                parameter.data.copy_(self.masters[name])
        self.steps_taken = steps_taken

    def release(self) -> None:
        """Give the model its fp32 masters back, and let go of moments, gradients and copies."""
        self.clear_gradients()
        for name, parameter in self.parameters.items():
            parameter.data = self.masters[name]
        for parameter, master in self._frozen:
            parameter.data = master
        self.first, self.second, self._sums = {}, {}, {}

    def _gradients(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, parameter in self.parameters.items():
            if name in self._summed:
                yield name, self._sums[name]
            elif parameter.grad is not None:
                yield name, parameter.grad

    def _step_parameter(self, name: str, gradient: torch.Tensor, *, learning_rate: float, clip: float) -> None:
        settings, parameter, master = self.settings, self.parameters[name], self.masters[name]
        # Norm scales and biases are not decayed: drawn to 0 they would switch a layer off.
        decay = settings.weight_decay if master.ndim >= 2 else 0.0
        flat = [part.view(-1) for part in (master, self.first[name], self.second[name])]
        copy = parameter.data.view(-1) if parameter.dtype != master.dtype else None
        size = _BLOCK.get(master.device.type, 1 << 22)
        # The kernel counts the step up in the tensor that it gets, so every block gets a copy: bias correction must be
        # the same for all.
        before = torch.tensor(float(self.steps_taken), device=master.device)
        # Five arrays a parameter pass through memory once, a block at a time, and not once for each of the optimiser's
        # operations: memory bandwidth is what a step costs on a CPU.
        for start in range(0, master.numel(), size):
            part = slice(start, start + size)
            weights, first, second = (tensor[part] for tensor in flat)
            slopes = gradient.reshape(-1)[part].to(torch.float32)
            if clip < 1.0:
                slopes = slopes * clip
            adamw(
                [weights],
                [slopes],
                [first],
                [second],
                [],
                [before.clone()],
                fused=True,
                amsgrad=False,
                beta1=settings.beta1,
                beta2=settings.beta2,
                lr=learning_rate,
                weight_decay=decay,
                eps=settings.epsilon,
                maximize=False,
            )
            if copy is not None:
                # While the block is in the cache; rounding to nearest, always from the master and never from an earlier
                # copy.
                copy[part].copy_(weights)
