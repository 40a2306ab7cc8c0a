"""A shorter way back through norms, and leaner ones through gated layers and embeddings.

A root-mean-square norm in bf16 leaves autograd a dozen passes over float32 copies, and those copies to keep. Here the
forward is the module's own code, to the bit; what is kept (the input alone) and the way back are ours, block by block
while the block is in the cache: about half the time, and less memory. A module is taken only when the formula,
tried on it in float64, gives its gradients; others keep autograd's way.

A gated layer, act(gate(x)) * up(x), keeps its activation for the way back; made again there instead it costs no time
that can be measured, and a seventh of all that a step keeps.

An embedding's gradient is a matrix of vocabulary size with a few rows that are not zero, and where the head is tied to
it, it is added to the head's, which is there already. Its few rows go straight into that one: no second matrix.

Shapes: R rows, T tokens, V vocabulary, E width.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

_BLOCK_ELEMENTS = 1 << 18  # in float32 a megabyte: the fastest of 2^14 to 2^22


@contextlib.contextmanager
def shortcuts(model: torch.nn.Module) -> Iterator[int]:
    """Within it, modules of `model` take the short way where that is right; gives how many do."""
    found: dict[type, Callable[[Any], Any] | None] = {}
    taken: list[torch.nn.Module] = []
    try:
        for module in model.modules():
            kind = type(module)
            if "forward" in vars(module):
                continue  # somebody else's forward
            # Tried once for each class: all modules of a class have the same formula, and trying costs a forward and
            # backward.
            if kind not in found:
                found[kind] = _short_way(module)
            make = found[kind]
            if make is not None:
                # On the instance and not the class: other models in this process keep their own.
                module.forward = make(module)
                taken.append(module)
        yield len(taken)
    finally:
        for module in taken:
            del module.forward


def _short_way(module: torch.nn.Module) -> Callable[[Any], Any] | None:
    """What makes the short forward of modules of this kind, where one is right."""
    if isinstance(module, torch.nn.Embedding):
        return _Embedding if _is_plain_embedding(module) and _same_rows(module) else None
    if _is_gated(module):
        return _Gated if _same_gradients(module, _Gated, _width_of(module)) else None
    width = _norm_width(module)
    if width is None:
        return None
    # Some models (Gemma) store the scale less 1.
    for plus in (0.0, 1.0):
        make = functools.partial(_Norm, plus=plus)
        if _same_gradients(module, make, width):
            return make
    return None


def _same_gradients(module: torch.nn.Module, make: Callable[[Any], Any], width: int) -> bool:
    """Whether the short way of a copy of `module`, in float64 and with random weights, is the module's own."""
    generator = torch.Generator().manual_seed(3)
    # In float64 two right formulas agree to the last digits, and a wrong one is off by far more than rounding. Random
    # weights, as a norm's weights of 1 would hide a factor that is missing.
    one = copy.deepcopy(module).to("cpu", torch.float64)
    inputs = torch.randn(1, 5, width, generator=generator, dtype=torch.float64)
    slopes = torch.randn(1, 5, width, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3)
    one.requires_grad_(True)
    results = []
    for forward in (one.forward, make(one)):
        given = inputs.clone().requires_grad_(True)
        try:
            out = forward(given)
            gradients = torch.autograd.grad(out, [given, *one.parameters()], slopes)
        except (RuntimeError, TypeError, ValueError, AttributeError):
            return False
        results.append([out.detach(), *gradients])
    return all(torch.allclose(theirs, ours, rtol=1e-6, atol=1e-6) for theirs, ours in zip(*results, strict=True))


# --------------------------------------------------------------------------------------------------------------- norms


def _norm_width(module: torch.nn.Module) -> int | None:
    """The width of a module that could be a root-mean-square norm: one weight vector and a small constant."""
    weights = list(module.parameters())
    if len(weights) != 1 or weights[0].ndim != 1 or _epsilon(module) is None or list(module.children()):
        return None
    return len(weights[0])


def _epsilon(module: torch.nn.Module) -> float | None:
    for name in ("variance_epsilon", "eps"):
        value = getattr(module, name, None)
        if isinstance(value, float):
            return value
    return None


@dataclass(frozen=True)
class _Norm:
    """x / rms(x) * (weight + plus)."""

    module: Any
    plus: float

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        weight_E = next(self.module.parameters())
        epsilon = _epsilon(self.module)
        assert epsilon is not None, "a norm that was tried has a constant"
        own = type(self.module).forward
        out: torch.Tensor = _NormFunction.apply(hidden, weight_E, own, self.module, epsilon, self.plus)
        return out


class _NormFunction(torch.autograd.Function):  # type: ignore[misc]
    """With n = x / rms(x), s the scale and g the slope of the output: the slope of the scale is the sum of g n over
    rows, that of x is (g s - n mean(g s n)) / rms(x)."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight_E: torch.Tensor, own: Any, module: Any, epsilon: float, plus: float
    ) -> torch.Tensor:
        ctx.save_for_backward(hidden, weight_E)
        ctx.epsilon, ctx.plus = epsilon, plus
        out: torch.Tensor = own(module, hidden)
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, weight_E = ctx.saved_tensors
        width = hidden.shape[-1]
        wide = torch.promote_types(hidden.dtype, torch.float32)
        scale_E = weight_E.to(wide) + ctx.plus
        grad_weight = torch.zeros_like(scale_E) if ctx.needs_input_grad[1] else None
        grad_hidden = torch.empty_like(hidden, memory_format=torch.contiguous_format)
        rows = max(1, _BLOCK_ELEMENTS // width)
        parts = (part.reshape(-1, width).split(rows) for part in (hidden, grad, grad_hidden))
        for inputs_RE, slopes_RE, out_RE in zip(*parts, strict=True):
            # n and 1 / rms(x) are made again from the input, the only thing kept: cheaper than storing both in float32
            # for every layer.
            normal = inputs_RE.to(wide, copy=True)
            inverse_R1 = (normal.square().mean(-1, keepdim=True) + ctx.epsilon).rsqrt_()
            normal *= inverse_R1
            slopes = slopes_RE.to(wide)
            product = slopes * normal
            if grad_weight is not None:
                grad_weight += product.sum(0)
            # mean(g s n): the part of the slope along n, which the division by rms(x) cancels.
            mean_R1 = (product @ scale_E)[:, None].div_(width)
            torch.mul(slopes, scale_E, out=product)
            product.addcmul_(normal, mean_R1, value=-1.0).mul_(inverse_R1)
            out_RE.copy_(product)
        weight_slope = None if grad_weight is None else grad_weight.to(weight_E.dtype)
        return grad_hidden, weight_slope, None, None, None, None


# --------------------------------------------------------------------------------------------------------- gated layers


def _is_gated(module: torch.nn.Module) -> bool:
    """Whether a module could be act(gate(x)) * up(x), brought down again."""
    parts = dict(module.named_children())
    return all(name in parts for name in ("gate_proj", "up_proj", "down_proj")) and hasattr(module, "act_fn")


def _width_of(module: Any) -> int:
    return int(module.gate_proj.in_features)


@dataclass(frozen=True)
class _Gated:
    """down(act(gate(x)) * up(x)), through the module's own layers."""

    module: Any

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        one = self.module
        between: torch.Tensor = _GatedFunction.apply(one.gate_proj(hidden), one.up_proj(hidden), one.act_fn)
        out: torch.Tensor = one.down_proj(between)
        return out


class _GatedFunction(torch.autograd.Function):  # type: ignore[misc]
    """act(gate) * up."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor, act: Any) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        ctx.act = act
        out: torch.Tensor = act(gate) * up
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gate, up = ctx.saved_tensors
        grad_gate, grad_up = torch.empty_like(gate), torch.empty_like(up)
        width = gate.shape[-1]
        rows = max(1, _BLOCK_ELEMENTS // width)
        parts = (part.reshape(-1, width).split(rows) for part in (gate, up, grad, grad_gate, grad_up))
        for gates, ups, slopes, out_gate, out_up in zip(*parts, strict=True):
            with torch.enable_grad():
                inputs = gates.detach().requires_grad_(True)
                # The activation's slope by autograd, a block at a time, so that any activation works and only a block
                # of its intermediates lives.
                active = ctx.act(inputs)
            torch.mul(slopes, active.detach(), out=out_up)
            out_gate.copy_(torch.autograd.grad(active, inputs, slopes * ups)[0])
        return grad_gate, grad_up, None


# ---------------------------------------------------------------------------------------------------------- embeddings


def _is_plain_embedding(module: torch.nn.Embedding) -> bool:
    special = module.max_norm is not None or module.scale_grad_by_freq or module.sparse
    return not special and module.weight.device.type == "cpu" and len(list(module.parameters())) == 1


def _same_rows(module: torch.nn.Embedding) -> bool:
    """Whether what the short way makes of a few rows of the module, in float64, is what autograd makes of them."""
    rows = module.weight.detach()[:16].to(torch.float64, copy=True)
    ids = torch.arange(9)[None] * 5 % len(rows)
    slopes = torch.linspace(-1, 1, ids.numel() * rows.shape[1], dtype=torch.float64).view(*ids.shape, -1)
    found = []
    for short in (False, True):
        one = _with_weight(module, torch.nn.Parameter(rows.clone()))
        try:
            (_Embedding(one)(ids) if short else type(module).forward(one, ids)).backward(slopes)
        except (RuntimeError, TypeError, ValueError, AttributeError):
            return False
        found.append(one.weight.grad)
    return found[0] is not None and found[1] is not None and torch.allclose(*found)


def _with_weight(module: torch.nn.Embedding, weight: torch.Tensor) -> torch.nn.Embedding:
    """The same module with another weight, sharing all else."""
    other = copy.copy(module)
    other.__dict__ = {**module.__dict__, "_parameters": {"weight": weight}, "padding_idx": None}
    other.__dict__.pop("forward", None)
    return other


@dataclass(frozen=True)
class _Embedding:
    """The module's own forward; the gradient of its rows goes into the weight's, whoever else adds to that."""

    module: torch.nn.Embedding

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        weight = self.module.weight
        if not (torch.is_grad_enabled() and weight.requires_grad):
            out: torch.Tensor = type(self.module).forward(self.module, ids)
            return out
        # The weight itself is no input, so that nothing waits for its gradient from here; this one asks to be called.
        asking = torch.zeros((), dtype=weight.dtype, requires_grad=True)
        short: torch.Tensor = _EmbeddingFunction.apply(asking, ids, self.module)
        return short


class _EmbeddingFunction(torch.autograd.Function):  # type: ignore[misc]
    """Rows of a matrix, as a module gives them."""

    @staticmethod
    def forward(ctx: Any, asking: torch.Tensor, ids: torch.Tensor, module: torch.nn.Embedding) -> torch.Tensor:
        ctx.ids, ctx.module = ids, module
        out: torch.Tensor = type(module).forward(module, ids)
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        module, weight = ctx.module, ctx.module.weight
        ids_T, grad_TE = ctx.ids.reshape(-1), grad.reshape(-1, grad.shape[-1])
        # As torch does: the padding row gets no gradient.
        if module.padding_idx is not None:
            used = ids_T != module.padding_idx
            ids_T, grad_TE = ids_T[used], grad_TE[used]
        # A token may stand in many places: its rows add up in fp32 at least, and are rounded once.
        wide = torch.promote_types(weight.dtype, torch.float32)
        tokens, place_T = torch.unique(ids_T, return_inverse=True)
        # The module's own forward over the few rows, as it may scale or cast them: its slope is then right whatever it
        # does.
        with torch.enable_grad():
            rows = weight.detach()[tokens].to(wide).requires_grad_(True)
            again = type(module).forward(_with_weight(module, rows), place_T)
        (slopes,) = torch.autograd.grad(again, rows, grad_TE.to(again.dtype))
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        weight.grad[tokens] = (weight.grad[tokens].to(wide) + slopes).to(weight.dtype)
        return None, None, None
