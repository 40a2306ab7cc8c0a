"""Greedy text, or text drawn at a temperature.

Prompts go through the model end to end without padding, what they begin with in common once. Their keys and values
are kept, and then all rows of a batch take one step at a time as one sequence of B tokens, each with its own position.
The attention function of a step lets every token see the kept keys of its own row. A row that has ended leaves at once:
the last row takes its place.

Kept keys lie right-aligned, so that a step writes one column for all rows, and a sliding window is a slice.

Shapes: B rows, H query heads, K key heads, D head width, L kept columns, T tokens of a prefill, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from titrant.backends.hf.inference.batches import Load, padded_batches
from titrant.backends.hf.inference.model import AnsweringModel
from titrant.backends.hf.inference.screening import HeadScreen, head_screen
from titrant.backends.hf.models.prefixes import lay_out
from titrant.backends.hf.models.ragged import ATTENTION_NAME, ragged_attention
from titrant.core.errors import RunFailed
from titrant.core.identity import hash_text
from titrant.core.records import TokenPrompt, Written

BATCH_ROWS = 512  # a step's products read all weights once for so many tokens
BATCH_TOKENS = 32_768  # columns of kept keys of a batch, for every row as many as the longest prompt and text take
PREFILL_TOKENS = 4096
_FREE_COLUMNS = 32  # room for new tokens that is made at a time, at most
_PREFILL, _STEP = "titrant_prefill", "titrant_step"


def generate(
    answering: AnsweringModel,
    prompts: Sequence[TokenPrompt],
    *,
    batch_rows: int = BATCH_ROWS,
    heed: Callable[[], None] = lambda: None,
) -> tuple[Written, ...]:
    """Continuations in the order of the prompts, up to the first end id or `max_new_tokens`: greedy, or drawn where a
    prompt has a temperature. `heed` is called before every forward; what it raises ends all."""
    assert all(prompt.ids for prompt in prompts), "a prompt has tokens"
    loads = [
        Load(tokens=len(prompt.ids), logits=1, name=(prompt.key, prompt.ids), written=prompt.max_new_tokens)
        for prompt in prompts
    ]
    found: dict[int, Written] = {}
    with torch.inference_mode():
        screen = head_screen(answering)
    budgets = {"tokens": BATCH_TOKENS, "logits": answering.logit_rows, "rows": batch_rows}
    for batch in padded_batches(loads, **budgets):
        some = [prompts[index] for index in batch]
        with torch.inference_mode():
            if answering.ragged:
                written = _write_together(answering, some, screen, heed)
            else:
                written = _write_padded(answering, some, heed)
        found.update(zip(batch, written, strict=True))
    return tuple(found[index] for index in range(len(prompts)))


def _write_together(
    answering: AnsweringModel, prompts: Sequence[TokenPrompt], screen: HeadScreen | None, heed: Callable[[], None]
) -> list[Written]:
    """The continuations of one batch."""
    rows = [_Row(prompt=prompt, position=len(prompt.ids)) for prompt in prompts]
    most = max(prompt.max_new_tokens for prompt in prompts)
    kept = _Kept(columns=max(len(prompt.ids) for prompt in prompts), more=max(0, most - 1))  # a prefill writes one
    if any(prompt.temperature > 0 for prompt in prompts):
        screen = None  # a draw needs all logits
    tokens = _prefill(answering, prompts, kept, screen, heed)
    active = list(rows)
    while True:
        # From the back, so that the row that is moved into a gap has already taken its token.
        for place in reversed(range(len(active))):
            if active[place].takes(tokens[place]):
                # Swap with the last row: rows stay packed without moving all that follow, and the order within a batch
                # means nothing.
                kept.leave(place, last=len(active) - 1)
                active[place], tokens[place] = active[-1], tokens[-1]
                active.pop(), tokens.pop()
        if not active:
            return [row.written() for row in rows]
        heed()
        tokens = _step(answering, active, tokens, kept, screen)


@dataclass(slots=True, kw_only=True)
class _Row:
    """One prompt and what has been written behind it. `position` is where the next token stands in the text."""

    prompt: TokenPrompt
    position: int
    ids: list[int] = field(default_factory=list)
    ended: bool = False

    def takes(self, token: int) -> bool:
        """Add a token; whether the row is finished."""
        if self.prompt.max_new_tokens == 0:
            return True
        self.ended = token in self.prompt.end_ids
        if not self.ended:
            self.ids.append(token)
        return self.ended or len(self.ids) >= self.prompt.max_new_tokens

    def written(self) -> Written:
        return Written(ids=tuple(self.ids), stop="end" if self.ended else "length")


def _prefill(
    answering: AnsweringModel,
    prompts: Sequence[TokenPrompt],
    kept: _Kept,
    screen: HeadScreen | None,
    heed: Callable[[], None],
) -> list[int]:
    """Keep the keys and values of all prompts, what they begin with in common computed once; the first token behind
    each."""
    device, model = answering.device, answering.model
    kept.start(lengths=[len(prompt.ids) for prompt in prompts], device=device)
    tokens: list[int] = []
    for first, last in _slices([len(prompt.ids) for prompt in prompts], PREFILL_TOKENS):
        heed()
        # On a GPU the kernels for rows of many lengths know nothing of shared beginnings.
        laid = lay_out([prompt.ids for prompt in prompts[first:last]], share=device.type == "cpu")
        kept.begin(first, laid.places)
        inputs = _inputs(laid.ids, laid.layout.positions(), device)
        ends_B = torch.tensor([int(place[-1]) for place in laid.places], device=device)
        rows = [(prompt, len(prompt.ids)) for prompt in prompts[first:last]]
        with ragged_attention(model, laid.layout), _attending(model, _PREFILL, kept):
            if screen is None:
                tokens.extend(_next_tokens(model(**inputs, logits_to_keep=ends_B).logits[0], rows))
            else:
                tokens.extend(_screened(model.base_model(**inputs).last_hidden_state[0, ends_B], screen))
    return tokens


def _step(
    answering: AnsweringModel, rows: Sequence[_Row], tokens: Sequence[int], kept: _Kept, screen: HeadScreen | None
) -> list[int]:
    """Put the newest token of every row behind it; the next token of each."""
    model = answering.model
    # One column for all rows: right-aligned, they all end at the same place, whatever their lengths.
    kept.next_column(len(rows))
    inputs = _inputs(tokens, [row.position for row in rows], answering.device)
    for row in rows:
        row.position += 1
    with _attending(model, _STEP, kept):
        if screen is None:
            return _next_tokens(model(**inputs).logits[0], [(row.prompt, row.position) for row in rows])
        return _screened(model.base_model(**inputs).last_hidden_state[0], screen)


def _inputs(ids: Sequence[int], positions: Sequence[int], device: torch.device) -> dict[str, Any]:
    """The arguments of a forward over one sequence; no mask, for the attention functions know the rows."""
    ids_T, positions_T = torch.tensor(list(ids), device=device), torch.tensor(list(positions), device=device)
    return {"input_ids": ids_T[None], "position_ids": positions_T[None], "use_cache": False}


def _screened(hidden_BE: torch.Tensor, screen: HeadScreen) -> list[int]:
    """The likeliest token of every row behind these hidden states."""
    tokens, logits_B = screen.likeliest(hidden_BE.contiguous())
    _refuse_non_finite(logits_B)
    return tokens


def _next_tokens(logits_BV: torch.Tensor, rows: Sequence[tuple[TokenPrompt, int]]) -> list[int]:
    """The next token of every row: the likeliest, or one drawn at its temperature. The draw depends on the prompt's
    stream and the position alone, so that no batch changes it."""
    tokens = _likeliest(logits_BV)
    for place, (prompt, position) in enumerate(rows):
        if prompt.temperature > 0:
            # Noise by prompt and position, made on the CPU in float64: the same draw in any batch, on any device.
            stream = torch.Generator().manual_seed(int(hash_text(f"{prompt.stream}\x1f{position}", length=15), 16))
            noise_V = -torch.empty(logits_BV.shape[1], dtype=torch.float64).exponential_(generator=stream).log()
            scaled_V = logits_BV[place].double().cpu() / prompt.temperature
            tokens[place] = int((scaled_V + noise_V).argmax())  # the Gumbel trick: a draw from the softmax
    return tokens


def _likeliest(logits_BV: torch.Tensor) -> list[int]:
    """The likeliest token of every row."""
    best_B = logits_BV.argmax(-1)  # which takes a NaN for the largest
    _refuse_non_finite(logits_BV.gather(-1, best_B[:, None]))
    likeliest: list[int] = best_B.tolist()
    return likeliest


def _refuse_non_finite(logits: torch.Tensor) -> None:
    """A model that diverged would write token after token out of NaN, and score 0 as if it had been wrong."""
    if not logits.isfinite().all():
        raise RunFailed("non_finite", "the model's logits are not finite")


def _slices(lengths: Sequence[int], budget: int) -> Iterator[tuple[int, int]]:
    """Ranges of consecutive rows within the budget of tokens, at least one row each."""
    first = used = 0
    for index, length in enumerate(lengths):
        if index > first and used + length > budget:
            yield first, index
            first, used = index, 0
        used += length
    yield first, len(lengths)


# ----------------------------------------------------------------------------------------------------------- kept keys


class _Kept:
    """The keys and values of a batch, a pair of tensors [B, K, L, D] a layer, rows right-aligned at column `columns`.

    Columns left of a row's prompt, and the few that are still free, are masked. Layers attend over the free ones too,
    for a product on a CPU copies all of a tensor that is cut out of another.
    """

    def __init__(self, *, columns: int, more: int) -> None:
        """Prompts of at most `columns` tokens, behind which at most so many `more` are kept."""
        self.columns, self.rows, self.limit = columns, 0, columns + more
        self.width = self._wider(columns)
        self.layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        # the first prompt of a prefill in progress, and for each of its prompts [b, columns] where its tokens lie
        self.prefilling: tuple[int, torch.Tensor] | None = None
        self._empty_B = torch.zeros(0, dtype=torch.long)
        self._masks: dict[int, torch.Tensor] = {}

    def _wider(self, width: int) -> int:
        return min(width + _FREE_COLUMNS, self.limit)

    def start(self, *, lengths: Sequence[int], device: torch.device) -> None:
        """Make ready for rows of these lengths."""
        self.rows = len(lengths)
        self._empty_B = torch.tensor([self.columns - length for length in lengths], device=device)

    def begin(self, first: int, places: Sequence[NDArray[np.intp]]) -> None:
        """The next prefill is of the prompts from `first` on, whose tokens lie at these places of it. A column without
        a token takes that of place 0: it is masked, and only has to be finite."""
        # From the tree of shared beginnings to one right-aligned row a prompt: shared keys are copied to each of their
        # rows, as a step needs them side by side.
        index_bL = np.zeros((len(places), self.columns), dtype=np.int64)
        for row_L, place in zip(index_bL, places, strict=True):
            row_L[self.columns - len(place) :] = place
        self.prefilling = (first, torch.from_numpy(index_bL).to(self._empty_B.device))

    def keep(self, layer: int, key_1KTD: torch.Tensor, value_1KTD: torch.Tensor) -> None:
        """Keep what a layer made of the prompts in progress."""
        assert self.prefilling is not None
        first, index_bL = self.prefilling
        if layer not in self.layers:
            self.layers[layer] = (
                key_1KTD.new_zeros(self.rows, key_1KTD.shape[1], self.width, key_1KTD.shape[3]),
                value_1KTD.new_zeros(self.rows, value_1KTD.shape[1], self.width, value_1KTD.shape[3]),
            )
        rows = slice(first, first + len(index_bL))
        for kept, made in zip(self.layers[layer], (key_1KTD, value_1KTD), strict=True):
            found_KND = made[0].index_select(1, index_bL.flatten())
            kept[rows, :, : self.columns] = found_KND.unflatten(1, index_bL.shape).transpose(0, 1)

    def next_column(self, rows: int) -> None:
        """Open a column for the next token of the rows that are left; make room when all columns are full."""
        self.rows = rows
        # In steps of a few columns: room for the longest text from the start would be attended over at every step.
        if self.columns == self.width:
            self.width = self._wider(self.width)
            for layer, (keys, values) in self.layers.items():
                self.layers[layer] = (self._widened(keys), self._widened(values))
        self.columns += 1
        self._masks.clear()

    def _widened(self, kept: torch.Tensor) -> torch.Tensor:
        wide = kept.new_zeros(self.rows, kept.shape[1], self.width, kept.shape[3])
        wide[:, :, : self.columns] = kept[: self.rows, :, : self.columns]
        return wide

    def add(self, layer: int, key_1KBD: torch.Tensor, value_1KBD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep a layer's newest keys and values; all of its rows', free columns included: views, each [B * K, L, D]."""
        pair = []
        for kept, newest in zip(self.layers[layer], (key_1KBD, value_1KBD), strict=True):
            # Written into place: stacking old and new keys would copy all of them at every step.
            kept[: self.rows, :, self.columns - 1] = newest[0].transpose(0, 1)
            pair.append(kept[: self.rows].flatten(0, 1))
        return pair[0], pair[1]

    def mask(self, start: int) -> torch.Tensor:
        """What is added to scores [B, K, G, L] of the columns from `start` on."""
        if start not in self._masks:
            columns = torch.arange(start, self.width, device=self._empty_B.device)
            hidden_BL = (columns[None] < self._empty_B[: self.rows, None]) | (columns[None] >= self.columns)
            mask_BL = torch.zeros(hidden_BL.shape, device=columns.device).masked_fill_(hidden_BL, -torch.inf)
            self._masks[start] = mask_BL[:, None, None]
        return self._masks[start]

    def leave(self, place: int, *, last: int) -> None:
        """Let the row at `place` go; the row at `last` takes its place."""
        if place == last:
            return
        self._empty_B[place] = self._empty_B[last]
        for keys, values in self.layers.values():
            keys[place, :, : self.columns] = keys[last, :, : self.columns]
            values[place, :, : self.columns] = values[last, :, : self.columns]


_ACTIVE: ContextVar[_Kept | None] = ContextVar("titrant_kept", default=None)


@contextmanager
def _attending(model: Any, name: str, kept: _Kept) -> Iterator[None]:
    """Within it, the model's layers attend by the function of that name."""
    before = model.config._attn_implementation
    token = _ACTIVE.set(kept)
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = before
        _ACTIVE.reset(token)


def _prefill_attention(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any, **options: Any
) -> tuple[torch.Tensor, None]:
    """The attention of rows without padding, keeping keys and values."""
    kept = _ACTIVE.get()
    assert kept is not None
    kept.keep(int(module.layer_idx), key, value)
    out: tuple[torch.Tensor, None] = _registered(ATTENTION_NAME)(module, query, key, value, *rest, **options)
    return out


def _step_attention(
    module: torch.nn.Module,
    query_1HBD: torch.Tensor,
    key_1KBD: torch.Tensor,
    value_1KBD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """One new token a row, which sees its row; scores and softmax in float32. Returns [1, B, H, D]."""
    kept = _ACTIVE.get()
    assert kept is not None
    keys, values = kept.add(int(module.layer_idx), key_1KBD, value_1KBD)
    # Right-aligned rows end at one column, so a window is the same slice for all of them.
    start = 0 if sliding_window is None else max(0, kept.columns - sliding_window)
    rows, key_heads, width = kept.rows, key_1KBD.shape[1], key_1KBD.shape[3]
    # [B * K, G, D]: the G query heads of a key head go through one product with its keys, which are never repeated.
    queries = query_1HBD[0].transpose(0, 1).reshape(rows * key_heads, -1, width)
    scores = torch.bmm(queries, keys[:, start:].transpose(1, 2)).float()
    scores *= width**-0.5 if scaling is None else scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    # One mask for all heads of a row: columns before its prompt, and free ones behind the newest.
    scores.view(rows, key_heads, *scores.shape[1:]).add_(kept.mask(start))
    weights = torch.softmax(scores, -1).to(values.dtype)
    return torch.bmm(weights, values[:, start:]).reshape(1, rows, -1, values.shape[-1]), None


def _registered(name: str) -> Any:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    return ALL_ATTENTION_FUNCTIONS[name]


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """Transformers needs no mask for us: the attention functions know the rows."""


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface

    for name, function in ((_PREFILL, _prefill_attention), (_STEP, _step_attention)):
        AttentionInterface.register(name, function)
        AttentionMaskInterface.register(name, _no_mask)


_register()


# -------------------------------------------------------------------------------------------------------------- padded


def _write_padded(answering: AnsweringModel, prompts: Sequence[TokenPrompt], heed: Callable[[], None]) -> list[Written]:
    """The continuations of one batch by transformers' own loop, for a model that needs padding."""
    from transformers import GenerationConfig

    if any(prompt.temperature > 0 for prompt in prompts):
        raise RunFailed("not_supported", "sampling needs a model whose rows go without padding")

    def checked(_: torch.Tensor, scores_BV: torch.Tensor) -> torch.Tensor:
        heed()
        _refuse_non_finite(scores_BV.amax(-1))
        return scores_BV

    heed()
    device = answering.device
    longest = max(len(prompt.ids) for prompt in prompts)
    # Padded on the left, so that all rows write their next token at the same column.
    ids = torch.tensor([(0,) * (longest - len(prompt.ids)) + prompt.ids for prompt in prompts], device=device)
    empty = torch.tensor([longest - len(prompt.ids) for prompt in prompts], device=device)
    mask = (torch.arange(longest, device=device)[None] >= empty[:, None]).long()
    # transformers takes one set of end marks for a whole batch: only those of all rows end it, and each row is cut at
    # its own marks afterwards.
    common_ends = set.intersection(*(set(prompt.end_ids) for prompt in prompts))
    settings = GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=max(1, *(prompt.max_new_tokens for prompt in prompts)),
        eos_token_id=sorted(common_ends) or None,
        pad_token_id=0,
    )
    with _own_settings_put_aside(answering.model):
        out = answering.model.generate(
            input_ids=ids, attention_mask=mask, generation_config=settings, logits_processor=[checked]
        )
    written = []
    for prompt, tokens in zip(prompts, out[:, longest:].tolist(), strict=True):
        row = _Row(prompt=prompt, position=0)
        for token in tokens:
            if row.takes(token):
                break
        written.append(row.written())
    return written


@contextmanager
def _own_settings_put_aside(model: Any) -> Iterator[None]:
    """Within it, the model has no settings of its own for generation.

    `generate` takes what it was not told from the model's generation_config.json: a penalty on repetition, suppressed
    tokens, other ends. Then text would not be greedy, and not what the same weights write without padding.
    """
    from transformers import GenerationConfig

    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own
