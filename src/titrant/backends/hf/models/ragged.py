"""Forward passes without padding, through transformers' own modules.

Rows of different lengths lie end to end in one sequence of T tokens, positions start again in every row, and attention
cannot cross from one row to the next. Linear layers then see real tokens only. This works for any causal language model
that takes a registered attention function and has no other way for tokens to see each other; `ragged_refusal` finds out
by trying, and says why not.

Rows may also be a tree of segments: what several texts begin with is one segment, computed once, and what follows it in
each hangs below and sees it. The choices of a question are scored that way behind one copy of the question, and rows
with the same instruction are trained behind one copy of the instruction (`models.prefixes` finds the tree).

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
from functools import cached_property
from typing import Any

import torch

ATTENTION_NAME = "titrant_ragged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """`length` tokens behind those of the segment `parent` (its index; None: at the start of a text). A token sees the
    segments above its own, and its past in its own."""

    length: int
    parent: int | None = None


@dataclass(frozen=True, kw_only=True)
class RaggedLayout:
    """How segments lie in one sequence: depth first, each followed by all that hangs from it.

    >>> three, two = Segment(length=3), Segment(length=2)
    >>> layout = RaggedLayout(segments=(three, two, Segment(length=2, parent=1), Segment(length=1, parent=1)))
    >>> layout.tokens, layout.starts, layout.positions()
    (8, (0, 3, 5, 7), [0, 1, 2, 0, 1, 2, 3, 2])
    """

    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        path: list[int] = []  # the segments above the next one, if it hangs from the last
        for index, segment in enumerate(self.segments):
            assert segment.length >= 1, "a segment has at least one token"
            while path and path[-1] != segment.parent:
                path.pop()
            assert path or segment.parent is None, f"segment {index} does not lie behind its parent"
            path.append(index)

    @classmethod
    def of_lengths(cls, lengths: Sequence[int]) -> RaggedLayout:
        """Plain rows, with nothing in common."""
        return cls(segments=tuple(Segment(length=length) for length in lengths))

    @cached_property
    def tokens(self) -> int:
        """T, all tokens of all segments."""
        return sum(segment.length for segment in self.segments)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The index of the first token of every segment."""
        return tuple(itertools.accumulate((segment.length for segment in self.segments[:-1]), initial=0))

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """How many tokens stand above every segment."""
        found: list[int] = []
        for segment in self.segments:
            above = segment.parent
            found.append(0 if above is None else found[above] + self.segments[above].length)
        return tuple(found)

    @property
    def plain(self) -> bool:
        """Whether no segment hangs from another."""
        return all(segment.parent is None for segment in self.segments)

    def positions(self) -> list[int]:
        """The position of every token in its own text, length T."""
        places = zip(self.depths, self.segments, strict=True)
        return [position for depth, segment in places for position in range(depth, depth + segment.length)]


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
    # Unequal rows: of equal ones a wrong offset could go unseen.
    lengths = (6, 9)
    device = next(model.parameters()).device
    vocabulary = model.get_input_embeddings().num_embeddings
    ids_T = (torch.arange(sum(lengths), device=device) * 7919 + 11) % vocabulary
    # The first row changed and the second not: if the second's logits move, it has seen the first.
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
    # Two ways through the same weights round differently, most of all in bf16; the same way taken twice (below) hardly
    # at all.
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
_TOGETHER = 48  # short segments below the same one share a block: fewer products outweigh what they hide of each other
_KEPT_KEYS = (
    1024  # blocks with at most so many keys keep their probabilities for the backward pass; longer ones recompute
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """A block of attention: queries `start` to `stop` see the tokens of `keys`, ranges in order, through an additive
    mask [queries, keys]."""

    start: int
    stop: int
    keys: tuple[tuple[int, int], ...]
    mask: torch.Tensor

    @property
    def key_tokens(self) -> int:
        return int(self.mask.shape[1])


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
            self.made[key] = tuple(_Pieces(self.layout, window, dtype, device))
        return self.made[key]


_ACTIVE: ContextVar[_Packing | None] = ContextVar("titrant_ragged_packing", default=None)


class _Pieces:
    """Cuts a layout into blocks.

    A segment with all that hangs from it is one block where it is short; else its own tokens go in blocks, and then
    what hangs from it, short neighbours together.
    """

    def __init__(self, layout: RaggedLayout, window: int | None, dtype: torch.dtype, device: torch.device) -> None:
        self.layout, self.window, self.device = layout, window, device
        # One causal triangle for all: the mask of any plain row is a corner of it, so short rows cost no mask of their
        # own.
        longest = max(segment.length for segment in layout.segments)
        self.causal = torch.full((longest, longest), -torch.inf, dtype=dtype).triu_(1)
        self.positions = torch.tensor(layout.positions())
        lengths = torch.tensor([segment.length for segment in layout.segments])
        self.segment_of = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        self.below = [segment.length for segment in layout.segments]  # tokens of a segment and all that hangs from it
        self.children: dict[int | None, list[int]] = {}
        for index, segment in enumerate(layout.segments):
            self.children.setdefault(segment.parent, []).append(index)
        # Children lie behind their parents, so from the back every count is complete before it is added to the one
        # above.
        for index, segment in reversed(list(enumerate(layout.segments))):
            if segment.parent is not None:
                self.below[segment.parent] += self.below[index]

    def __iter__(self) -> Iterator[_Piece]:
        # segments below the same one, with the ranges of tokens that all of them see
        waiting: list[tuple[list[int], tuple[tuple[int, int], ...]]] = [(self.children[None], ())]
        while waiting:
            siblings, seen = waiting.pop()
            index = siblings[0]
            start = self.layout.starts[index]
            taken, rest = 1, siblings[1:]
            # A long segment: its own tokens in blocks of queries, each seeing keys up to its own end only (the future
            # is never computed), then what hangs from it, which sees all of it.
            if self.below[index] > _QUERY_BLOCK:
                stop = start + self.layout.segments[index].length
                for first in range(start, stop, _QUERY_BLOCK):
                    yield self._piece(first, min(first + _QUERY_BLOCK, stop), start, seen)
                if rest:
                    waiting.append((rest, seen))
                if self.children.get(index):
                    waiting.append((self.children[index], (*seen, (start, stop))))
                continue
            tokens = self.below[index]
            # Short choices behind one question share a block, and the question's keys with it: one product of useful
            # size for a dozen tiny ones. A mask hides them from each other.
            while seen and taken < len(siblings) and tokens + self.below[siblings[taken]] <= _TOGETHER:
                tokens += self.below[siblings[taken]]
                taken += 1
            yield self._piece(start, start + tokens, start, seen)
            if siblings[taken:]:
                waiting.append((siblings[taken:], seen))

    def _piece(self, first: int, last: int, low: int, seen: tuple[tuple[int, int], ...]) -> _Piece:
        """Queries `first` to `last`: they see all of `seen`, and of `low` to `last` what is above or before them."""
        one = int(self.segment_of[low]) == int(self.segment_of[last - 1])
        if self.window is not None:
            # Whole ranges that no query of the block can see any more are left out; the mask does the rest.
            oldest = int(self.positions[first:last].min()) - self.window + 1  # the first position that the window shows
            seen = tuple((start, stop) for start, stop in seen if int(self.positions[stop - 1]) >= oldest)
            if one:
                low += max(0, oldest - int(self.positions[low]))
            mask = self._mask(first, last, low, seen)
        elif one:
            own = self.causal[first - low : last - low, : last - low]
            shared = sum(stop - start for start, stop in seen)
            mask = torch.nn.functional.pad(own, (shared, 0)) if shared else own
        else:
            mask = self._mask(first, last, low, seen)
        return _Piece(start=first, stop=last, keys=(*seen, (low, last)), mask=mask.to(self.device))

    def _mask(self, first: int, last: int, low: int, seen: tuple[tuple[int, int], ...]) -> torch.Tensor:
        keys = torch.cat([torch.arange(start, stop) for start, stop in (*seen, (low, last))])
        # By positions and not by places in the sequence: siblings lie one behind the other and start at the same
        # position.
        back = self.positions[first:last, None] - self.positions[keys][None]
        visible = back >= 0
        if self.window is not None:
            visible &= back < self.window
        begin, end = int(self.segment_of[low]), int(self.segment_of[last - 1]) + 1
        # A segment sees itself and what its parent in the block sees; rows are filled parents first.
        above = torch.eye(end - begin, dtype=torch.bool)  # [a segment of the block, one that it sees]
        for index in range(begin, end):
            parent = self.layout.segments[index].parent
            if parent is not None and parent >= begin:
                above[index - begin] |= above[parent - begin]
        own = above[self.segment_of[first:last] - begin][:, self.segment_of[low:last] - begin]
        visible[:, visible.shape[1] - (last - low) :] &= own
        return torch.zeros(visible.shape, dtype=self.causal.dtype).masked_fill_(~visible, -torch.inf)


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
    # Refused and not ignored: an attention that leaves out a sink or a bias gives plausible numbers of another model.
    changes = [name for name in ("s_aux", "position_bias", "sinks") if kwargs.get(name) is not None]
    if changes or dropout or attention_mask is not None:
        raise NotImplementedError(f"attention with {', '.join(changes) or 'dropout or a mask of its own'}")
    if query_1HTD.shape[0] != 1 or query_1HTD.shape[2] != packing.layout.tokens:
        raise NotImplementedError("attention over another sequence than the rows'")
    packing.windows.append(sliding_window)
    scale = query_1HTD.shape[-1] ** -0.5 if scaling is None else scaling
    # GPU kernels for rows of many lengths know rows and no trees, and no fp32.
    if query_1HTD.is_cuda and packing.layout.plain and query_1HTD.dtype in (torch.bfloat16, torch.float16):
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
            values = _seen(value_TKD, piece).transpose(0, 1)
            out_THD[piece.start : piece.stop] = _ungrouped(torch.bmm(probabilities, values), heads)
            if keep:
                # Probabilities of all layers live until the backward: kept where they are small, made again where they
                # would fill memory.
                small = softcap is None and piece.key_tokens <= _KEPT_KEYS
                kept.append(probabilities if small else None)
        ctx.save_for_backward(query_THD, key_TKD, value_TKD, *kept)
        ctx.pieces, ctx.scale, ctx.softcap = pieces, scale, softcap
        return out_THD

    @staticmethod
    def backward(ctx: Any, grad_THD: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query_THD, key_TKD, value_TKD, *kept = ctx.saved_tensors
        grad_query = torch.empty_like(query_THD)
        wide = _score_dtype(query_THD)
        # Keys of a long row, and shared ones, are seen by several blocks: their gradients add up, in fp32.
        grad_key = torch.zeros(key_TKD.shape, dtype=wide, device=key_TKD.device)
        grad_value = torch.zeros(value_TKD.shape, dtype=wide, device=key_TKD.device)
        heads, key_heads = query_THD.shape[1], key_TKD.shape[1]
        for piece, probabilities in zip(ctx.pieces, kept, strict=True):
            queries, keys = _block(query_THD, key_TKD, piece)
            capped = None
            if probabilities is None:
                capped, probabilities = _probabilities(queries, keys, piece, ctx.scale, ctx.softcap)
            grads = _grouped(grad_THD[piece.start : piece.stop], key_heads)
            grad_probabilities = torch.bmm(grads, _seen(value_TKD, piece).permute(1, 2, 0))
            # p * (g - sum(g * p)), by the kernel that autograd uses.
            grad_scores = torch._softmax_backward_data(grad_probabilities, probabilities, -1, probabilities.dtype)
            if capped is not None and ctx.softcap is not None:
                grad_scores = grad_scores * (1 - (capped / ctx.softcap).square()).to(grad_scores.dtype)
            grad_queries = torch.bmm(grad_scores, keys).mul_(ctx.scale)
            grad_query[piece.start : piece.stop] = _ungrouped(grad_queries, heads)
            _add(grad_key, torch.bmm(grad_scores.transpose(1, 2), queries).mul_(ctx.scale), piece)
            _add(grad_value, torch.bmm(probabilities.transpose(1, 2), grads), piece)
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
    return queries, _seen(key_TKD, piece).transpose(0, 1)


def _seen(all_TKD: torch.Tensor, piece: _Piece) -> torch.Tensor:
    """Of all tokens those that the block sees, [keys, K, D]."""
    parts = [all_TKD[start:stop] for start, stop in piece.keys]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _add(sums_TKD: torch.Tensor, more: torch.Tensor, piece: _Piece) -> None:
    """Add [K, keys, D] to the tokens that the block sees."""
    lengths = [stop - start for start, stop in piece.keys]
    for (start, stop), part in zip(piece.keys, more.transpose(0, 1).split(lengths), strict=True):
        sums_TKD[start:stop] += part


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
    # The G query heads of a key head lie one behind the other, and one mask serves them all.
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
    lengths = [segment.length for segment in packing.layout.segments]
    ends = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=query_1HTD.device)
    query, key, value = (part[0].transpose(0, 1) for part in (query_1HTD, key_1KTD, value_1KTD))
    # To the left window - 1 tokens beside its own, to the right none; -1 is no limit.
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
