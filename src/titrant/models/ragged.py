"""Forward passes without padding, through transformers' own modules.

Rows of different lengths lie end to end in one sequence of T tokens, positions start again in every row, and attention
cannot cross from one row to the next. Linear layers then see real tokens only. This works for any causal language model
that takes a registered attention function and has no other way for tokens to see each other; `ragged_refusal` finds out
by trying, and says why not.

A row may also be a tree: a context followed by branches, each of which sees the context and itself. The choices of a
question are scored that way in one pass, the context computed once.

Shapes: T tokens of all rows, P chosen positions, V vocabulary, H query heads, K key heads,
D head width, G query heads of a key head, L queries of one block.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch

ATTENTION_NAME = "titrant_ragged"


@dataclass(frozen=True, slots=True, kw_only=True)
class RaggedRow:
    """One row: `context` tokens that see their past, then branches that each see the context and their own past."""

    context: int
    branches: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        assert self.context >= 1, "a row has at least one token"
        assert all(length >= 1 for length in self.branches), "a branch has at least one token"

    @property
    def tokens(self) -> int:
        """All tokens of the row, branches included."""
        return self.context + sum(self.branches)

    def positions(self) -> list[int]:
        """The position of every token in its own text: every branch goes on where the context ends."""
        branches = (range(self.context, self.context + length) for length in self.branches)
        return list(itertools.chain(range(self.context), *branches))


@dataclass(frozen=True, slots=True, kw_only=True)
class RaggedLayout:
    """How rows lie in one sequence.

    >>> layout = RaggedLayout(rows=(RaggedRow(context=3), RaggedRow(context=2, branches=(2, 1))))
    >>> layout.tokens, layout.starts, layout.positions()
    (8, (0, 3), [0, 1, 2, 0, 1, 2, 3, 2])
    """

    rows: tuple[RaggedRow, ...]

    @classmethod
    def of_lengths(cls, lengths: Sequence[int]) -> RaggedLayout:
        """Plain rows, without branches."""
        return cls(rows=tuple(RaggedRow(context=length) for length in lengths))

    @property
    def tokens(self) -> int:
        """T, all tokens of all rows."""
        return sum(row.tokens for row in self.rows)

    @property
    def starts(self) -> tuple[int, ...]:
        """The index of the first token of every row."""
        return tuple(itertools.accumulate((row.tokens for row in self.rows[:-1]), initial=0))

    def positions(self) -> list[int]:
        """The position of every token in its own text, length T."""
        return [position for row in self.rows for position in row.positions()]


def ragged_logits(
    model: Any, ids_T: torch.Tensor, layout: RaggedLayout, positions_P: torch.Tensor | None = None
) -> torch.Tensor:
    """Logits [P, V] at the chosen indices of the sequence (all T when None), as the model itself makes them.

    The head runs at the chosen positions only where the model's forward can do that (`logits_to_keep`); soft-capping
    and scaling of logits are the model's own.
    """
    with ragged_attention(model, layout):
        keep = {} if positions_P is None else {"logits_to_keep": positions_P.to(ids_T.device)}
        logits_PV: torch.Tensor = model(**_inputs(ids_T, layout), **keep).logits[0]
    return logits_PV


def ragged_hidden(model: Any, ids_T: torch.Tensor, layout: RaggedLayout) -> torch.Tensor:
    """The last hidden states [T, hidden], which the model's head would turn into logits."""
    with ragged_attention(model, layout):
        hidden_TE: torch.Tensor = model.base_model(**_inputs(ids_T, layout)).last_hidden_state[0]
    return hidden_TE


def supports_ragged(model: Any) -> bool:
    """Whether rows of this model can go without padding; see `ragged_refusal` for the reason when not."""
    return ragged_refusal(model) is None


def ragged_refusal(model: Any) -> str | None:
    """Why this model cannot go without padding, or None when it can: found by a tiny forward of two rows.

    Two rows together must give what each gives alone through the model's ordinary attention; changing the tokens of
    one must not move the other; every layer must attend through our function, sliding layers with their window.
    """
    if not getattr(model, "_supports_attention_backend", False):
        return f"{type(model).__name__} does not take a registered attention function"
    lengths = (6, 9)
    device = next(model.parameters()).device
    vocabulary = model.get_input_embeddings().num_embeddings
    ids_T = (torch.arange(sum(lengths), device=device) * 7919 + 11) % vocabulary
    other_T = torch.cat([(ids_T[: lengths[0]] + vocabulary // 2 + 1) % vocabulary, ids_T[lengths[0] :]])
    layout = RaggedLayout.of_lengths(lengths)
    with torch.no_grad():
        try:
            with ragged_attention(model, layout) as packing:
                together = model(**_inputs(ids_T, layout)).logits[0].float()
        except (NotImplementedError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            return f"{type(model).__name__} broke in a forward without padding: {error}"
        apart = [model(input_ids=part[None], use_cache=False).logits[0].float() for part in ids_T.split(lengths)]
        moved = ragged_logits(model, other_T, layout).float()
    tolerance = 1e-3 if next(model.parameters()).dtype == torch.float32 else 5e-2
    if _distance(together, torch.cat(apart)) > tolerance:
        return f"{type(model).__name__} gives other logits without padding"
    if _distance(together[lengths[0] :], moved[lengths[0] :]) > 1e-5:
        return f"{type(model).__name__} lets a row see its neighbour"
    return _windows_refusal(model, packing)


@contextmanager
def ragged_attention(model: Any, layout: RaggedLayout) -> Iterator[_Packing]:
    """Within it, forwards of `model` attend along `layout`."""
    config = model.config
    before = config._attn_implementation
    packing = _Packing(layout)
    token = _ACTIVE.set(packing)
    config._attn_implementation = ATTENTION_NAME
    try:
        yield packing
    finally:
        config._attn_implementation = before
        _ACTIVE.reset(token)


# ------------------------------------------------------------------------------------------------------------- pieces

_QUERY_BLOCK = 128  # queries of one block: long rows skip most of the future, short rows stay whole
_KEPT_KEYS = (
    1024  # blocks with at most so many keys keep their probabilities for the backward pass; longer ones recompute
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """A block of attention: these queries see these keys through an additive mask [queries, keys]."""

    start: int
    stop: int
    key_start: int
    key_stop: int
    mask: torch.Tensor


@dataclass(slots=True)
class _Packing:
    """The layout of the forward in progress, with its masks made once for all layers, and what the layers asked for."""

    layout: RaggedLayout
    windows: list[int | None] = field(default_factory=list)
    made: dict[tuple[int | None, torch.dtype, torch.device], tuple[_Piece, ...]] = field(default_factory=dict)

    def pieces(self, window: int | None, *, dtype: torch.dtype, device: torch.device) -> tuple[_Piece, ...]:
        """The blocks of attention under a sliding window; they cover every query exactly once, in order."""
        key = (window, dtype, device)
        if key not in self.made:
            longest = max(row.tokens for row in self.layout.rows)
            causal = torch.full((longest, longest), -torch.inf, dtype=dtype).triu_(1)
            pieces: list[_Piece] = []
            for start, row in zip(self.layout.starts, self.layout.rows, strict=True):
                pieces.extend(_pieces_of_row(row, start, window, causal, device))
            self.made[key] = tuple(pieces)
        return self.made[key]


_ACTIVE: ContextVar[_Packing | None] = ContextVar("titrant_ragged_packing", default=None)


def _pieces_of_row(
    row: RaggedRow, start: int, window: int | None, causal: torch.Tensor, device: torch.device
) -> Iterator[_Piece]:
    """Blocks of the context first, then all branches as one block; keys that no query of a block sees are left out."""
    edges = [*range(0, row.context, _QUERY_BLOCK), row.context]
    blocks = list(itertools.pairwise(edges))
    if row.branches:
        blocks.append((row.context, row.tokens))
    position = torch.tensor(row.positions())
    branch = torch.repeat_interleave(torch.arange(-1, len(row.branches)), torch.tensor([row.context, *row.branches]))
    for first, last in blocks:
        is_branch = first == row.context
        low = 0 if window is None or is_branch else max(0, first - window + 1)
        if window is None and not is_branch:
            mask = causal[first:last, :last]
        else:
            seen = position[first:last, None] >= position[None, low:last]
            seen &= (branch[None, low:last] == -1) | (branch[first:last, None] == branch[None, low:last])
            if window is not None:
                seen &= position[first:last, None] - position[None, low:last] < window
            mask = torch.zeros(seen.shape, dtype=causal.dtype).masked_fill_(~seen, -torch.inf)
        yield _Piece(
            start=start + first, stop=start + last, key_start=start + low, key_stop=start + last, mask=mask.to(device)
        )


# ---------------------------------------------------------------------------------------------------------- attention


def _ragged_attention_forward(
    module: torch.nn.Module,
    query_1HTD: torch.Tensor,
    key_1KTD: torch.Tensor,
    value_1KTD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """The attention function that transformers calls in every layer; returns [1, T, H, D]."""
    packing = _ACTIVE.get()
    assert packing is not None, f"{ATTENTION_NAME} outside ragged_attention"
    changes = [name for name in ("s_aux", "position_bias", "sinks") if kwargs.get(name) is not None]
    if changes or dropout or attention_mask is not None:
        raise NotImplementedError(f"attention with {', '.join(changes) or 'dropout or a mask of its own'}")
    if query_1HTD.shape[0] != 1 or query_1HTD.shape[2] != packing.layout.tokens:
        raise NotImplementedError("attention over another sequence than the rows'")
    packing.windows.append(sliding_window)
    scale = query_1HTD.shape[-1] ** -0.5 if scaling is None else scaling
    plain = not any(row.branches for row in packing.layout.rows)
    if query_1HTD.is_cuda and plain and query_1HTD.dtype in (torch.bfloat16, torch.float16):
        out = _varlen_attention(query_1HTD, key_1KTD, value_1KTD, packing, scale, sliding_window, softcap)
        if out is not None:
            return out, None
    pieces = packing.pieces(sliding_window, dtype=_score_dtype(query_1HTD), device=query_1HTD.device)
    query_THD, key_TKD, value_TKD = (part[0].transpose(0, 1) for part in (query_1HTD, key_1KTD, value_1KTD))
    out_THD: torch.Tensor = _BlockAttention.apply(query_THD, key_TKD, value_TKD, pieces, scale, softcap)
    return out_THD[None], None


class _BlockAttention(torch.autograd.Function):  # type: ignore[misc]
    """Attention in blocks, written out in matrix products.

    PyTorch's fused kernel for CPUs is made for long rows: on rows of 60 to 300 tokens its forward takes twice and its
    backward seven times as long as these products. Scores and softmax are fp32 also where the rest is bf16, and query
    heads that share a key head go through one product, so that keys are never repeated.

    In the products a block's queries are [K, G * L, D]: key heads, then the G queries heads of each with L queries.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query_THD: torch.Tensor,
        key_TKD: torch.Tensor,
        value_TKD: torch.Tensor,
        pieces: tuple[_Piece, ...],
        scale: float,
        softcap: float | None,
    ) -> torch.Tensor:
        tokens, heads, _ = query_THD.shape
        out_THD = query_THD.new_empty(tokens, heads, value_TKD.shape[-1])
        keep = query_THD.requires_grad or key_TKD.requires_grad or value_TKD.requires_grad
        kept = []
        for piece in pieces:
            queries, keys = _block(query_THD, key_TKD, piece)
            _, probabilities = _probabilities(queries, keys, piece, scale, softcap)
            values = value_TKD[piece.key_start : piece.key_stop].transpose(0, 1)
            out_THD[piece.start : piece.stop] = _ungrouped(torch.bmm(probabilities, values), heads)
            if keep:
                small = softcap is None and piece.key_stop - piece.key_start <= _KEPT_KEYS
                kept.append(probabilities if small else None)
        ctx.save_for_backward(query_THD, key_TKD, value_TKD, *kept)
        ctx.pieces, ctx.scale, ctx.softcap = pieces, scale, softcap
        return out_THD

    @staticmethod
    def backward(ctx: Any, grad_THD: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query_THD, key_TKD, value_TKD, *kept = ctx.saved_tensors
        grad_query = torch.empty_like(query_THD)
        wide = _score_dtype(query_THD)
        # Keys of a long row are seen by several blocks: their gradients add up, in fp32.
        grad_key = torch.zeros(key_TKD.shape, dtype=wide, device=key_TKD.device)
        grad_value = torch.zeros(value_TKD.shape, dtype=wide, device=key_TKD.device)
        heads, key_heads = query_THD.shape[1], key_TKD.shape[1]
        for piece, probabilities in zip(ctx.pieces, kept, strict=True):
            queries, keys = _block(query_THD, key_TKD, piece)
            capped = None
            if probabilities is None:
                capped, probabilities = _probabilities(queries, keys, piece, ctx.scale, ctx.softcap)
            seen = slice(piece.key_start, piece.key_stop)
            grads = _grouped(grad_THD[piece.start : piece.stop], key_heads)
            grad_probabilities = torch.bmm(grads, value_TKD[seen].permute(1, 2, 0))
            grad_scores = torch._softmax_backward_data(grad_probabilities, probabilities, -1, probabilities.dtype)
            if capped is not None and ctx.softcap is not None:
                grad_scores = grad_scores * (1 - (capped / ctx.softcap).square()).to(grad_scores.dtype)
            grad_queries = torch.bmm(grad_scores, keys).mul_(ctx.scale)
            grad_query[piece.start : piece.stop] = _ungrouped(grad_queries, heads)
            grad_key[seen] += torch.bmm(grad_scores.transpose(1, 2), queries).mul_(ctx.scale).transpose(0, 1)
            grad_value[seen] += torch.bmm(probabilities.transpose(1, 2), grads).transpose(0, 1)
        return grad_query, grad_key.to(key_TKD.dtype), grad_value.to(value_TKD.dtype), None, None, None


def _score_dtype(like: torch.Tensor) -> torch.dtype:
    return torch.promote_types(like.dtype, torch.float32)


def _grouped(block_LHD: torch.Tensor, key_heads: int) -> torch.Tensor:
    """[L, H, D] as [K, G * L, D]: the queries of all heads that share a key head, one after the other."""
    length, heads, width = block_LHD.shape
    groups = heads // key_heads
    return block_LHD.view(length, key_heads, groups, width).permute(1, 2, 0, 3).reshape(key_heads, -1, width)


def _ungrouped(block: torch.Tensor, heads: int) -> torch.Tensor:
    """The way back of `_grouped`: [K, G * L, D] as [L, H, D]."""
    key_heads, rows, width = block.shape
    groups = heads // key_heads
    return block.view(key_heads, groups, rows // groups, width).permute(2, 0, 1, 3).reshape(-1, heads, width)


def _block(query_THD: torch.Tensor, key_TKD: torch.Tensor, piece: _Piece) -> tuple[torch.Tensor, torch.Tensor]:
    """The block's queries [K, G * L, D] and keys [K, keys, D]."""
    queries = _grouped(query_THD[piece.start : piece.stop], key_TKD.shape[1])
    return queries, key_TKD[piece.key_start : piece.key_stop].transpose(0, 1)


def _probabilities(
    queries: torch.Tensor, keys: torch.Tensor, piece: _Piece, scale: float, softcap: float | None
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """The soft-capped scores before the mask (None without soft-capping), and probabilities in the queries' dtype."""
    wide = piece.mask.dtype
    scores = torch.bmm(queries.to(wide).mul(scale), keys.to(wide).transpose(1, 2))
    capped = None
    if softcap is not None:
        capped = torch.tanh(scores / softcap) * softcap
        scores = capped.clone()
    shape = scores.shape
    scores.view(shape[0], -1, *piece.mask.shape).add_(piece.mask)
    return capped, torch.softmax(scores, dim=-1).to(queries.dtype)


def _varlen_attention(
    query_1HTD: torch.Tensor,
    key_1KTD: torch.Tensor,
    value_1KTD: torch.Tensor,
    packing: _Packing,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor | None:
    """All rows in one kernel on a GPU: flash-attn where it is installed, else torch's own; None where neither can."""
    lengths = [row.tokens for row in packing.layout.rows]
    ends = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=query_1HTD.device)
    query, key, value = (part[0].transpose(0, 1) for part in (query_1HTD, key_1KTD, value_1KTD))
    sides = (-1 if window is None else window - 1, 0)
    longest = max(lengths)
    if importlib.util.find_spec("flash_attn") is not None:
        flash_attn_varlen_func = importlib.import_module("flash_attn").flash_attn_varlen_func

        capping = {} if softcap is None else {"softcap": softcap}
        options = {"softmax_scale": scale, "causal": True, "window_size": sides if window else (-1, -1), **capping}
        out: torch.Tensor = flash_attn_varlen_func(query, key, value, ends, ends, longest, longest, **options)
        return out[None]
    if softcap is not None or importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return None
    from torch.nn.attention.varlen import varlen_attn

    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    own: torch.Tensor = varlen_attn(query, key, value, ends, ends, longest, longest, scale=scale, window_size=sides)
    return own[None]


# ------------------------------------------------------------------------------------------------------------- helpers


def _inputs(ids_T: torch.Tensor, layout: RaggedLayout) -> dict[str, Any]:
    """The arguments of a forward over all rows; no mask, for the attention function knows the rows."""
    assert ids_T.shape == (layout.tokens,), "as many ids as the layout has tokens"
    positions = torch.tensor(layout.positions(), device=ids_T.device)
    return {"input_ids": ids_T[None], "position_ids": positions[None], "use_cache": False}


def _distance(left: torch.Tensor, right: torch.Tensor) -> float:
    """The relative distance of two tensors, by their norms."""
    return float((left - right).norm() / right.norm().clamp_min(1e-30))


def _windows_refusal(model: Any, packing: _Packing) -> str | None:
    """A layer that attends by its own ways, or that keeps its window from us, would be silently wrong on long rows."""
    config = model.config.get_text_config()
    if len(packing.windows) < config.num_hidden_layers:
        return f"{type(model).__name__} attends outside the registered function in some layers"
    types = list(getattr(config, "layer_types", None) or [])
    if any(kind not in ("full_attention", "sliding_attention") for kind in types):
        return f"{type(model).__name__} has layers of the kinds {sorted(set(types))}"
    if types.count("sliding_attention") > sum(window is not None for window in packing.windows):
        return f"{type(model).__name__} does not tell the attention function its sliding window"
    return None


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """Transformers needs no mask for us: the attention function knows the rows."""


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTION_NAME, _ragged_attention_forward)
    AttentionMaskInterface.register(ATTENTION_NAME, _no_mask)


_register()
