"""Log-probabilities of given continuations: choices of a question, answers of a row.

The choices of a question are branches behind its prompt, so the prompt is computed once, and many questions share a
forward, with what their prompts begin with in common computed once too. Logits are made only where a token of a choice
is predicted.

Shapes: T tokens of a forward, P positions with logits, V vocabulary, N predicted tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from titrant.backends.hf.inference.batches import Load, fixed_batches, shared_batches
from titrant.backends.hf.inference.model import AnsweringModel
from titrant.backends.hf.models.prefixes import LaidOut, lay_out
from titrant.backends.hf.models.ragged import ragged_logits
from titrant.core.records import TokenQuestion, TokenRow

FORWARD_TOKENS = 4096
_BLOCK_ELEMENTS = 1 << 20  # the softmax works on blocks of logits that stay in the cache
_NO_LIMIT = 1 << 62


def loglikelihood(
    answering: AnsweringModel,
    questions: Sequence[TokenQuestion],
    *,
    forward_tokens: int = FORWARD_TOKENS,
    heed: Callable[[], None] = lambda: None,
) -> tuple[tuple[float, ...], ...]:
    """For every question the sum of log-probabilities (nats) of each choice's tokens, end mark included. `heed` is
    called before every batch; what it raises ends all."""
    for question in questions:
        assert question.prompt, f"{question.key}: a question has a prompt"
        assert all(question.choices), f"{question.key}: a choice has tokens"
    if not answering.ragged:
        return _choose_padded(answering, questions, forward_tokens, heed)
    loads = [
        Load(
            tokens=len(question.prompt) + sum(len(choice) - 1 for choice in question.choices),
            logits=1 + sum(len(choice) - 1 for choice in question.choices),
            name=(question.key, question.prompt),
        )
        for question in questions
    ]
    found: dict[int, tuple[float, ...]] = {}
    for batch in shared_batches(loads, tokens=forward_tokens, logits=answering.logit_rows):
        heed()
        sums = _tree_sums(answering, [questions[index] for index in batch])
        found.update(zip(batch, sums, strict=True))
    return tuple(found[index] for index in range(len(questions)))


def losses(
    answering: AnsweringModel,
    rows: Sequence[TokenRow],
    *,
    forward_tokens: int = FORWARD_TOKENS,
    heed: Callable[[], None] = lambda: None,
) -> tuple[float, ...]:
    """For every row the mean loss (nats) over the tokens that bear loss. `heed` as in `loglikelihood`."""
    sums = _answer_sums(answering, rows, forward_tokens, heed)
    return tuple(-total / row.loss_tokens for total, row in zip(sums, rows, strict=True))


# ---------------------------------------------------------------------------------------------------------------- tree


def _tree_sums(answering: AnsweringModel, questions: Sequence[TokenQuestion]) -> list[tuple[float, ...]]:
    """The choices' sums of some questions, in one forward.

    Every choice without its last token, behind its prompt, is a text; prompts, and what prompts have in common, are
    computed once. The last token of a prompt predicts the first token of every choice.
    """
    # The last token of a choice predicts nothing that is asked, so it is left off; a choice of one token costs no token
    # at all behind its prompt.
    asked = [(question.prompt, choice) for question in questions for choice in question.choices]
    laid = lay_out([prompt + choice[:-1] for prompt, choice in asked])
    # From the prompt's last token on: the token at position t predicts the one at t + 1.
    places = [place[len(prompt) - 1 :] for place, (prompt, _) in zip(laid.places, asked, strict=True)]
    logprobs = iter(_laid_out_logprobs(answering, laid, places, [token for _, choice in asked for token in choice]))
    return [
        tuple(sum(next(logprobs) for _ in choice) for choice in question.choices)  # in double precision, in order
        for question in questions
    ]


def _laid_out_logprobs(
    answering: AnsweringModel, laid: LaidOut, places: Sequence[NDArray[np.intp]], targets: Sequence[int]
) -> list[float]:
    """The log-probability of each target behind the token at its place; a shared place has its logits made once."""
    # All choices of a question share its last prompt token, so its logits, a row as wide as the vocabulary, are made
    # once.
    positions_P, sources_N = np.unique(np.concatenate(places), return_inverse=True)
    device = answering.device
    with torch.inference_mode():
        logits_PV = ragged_logits(
            answering.model,
            torch.tensor(laid.ids, device=device),
            laid.layout,
            torch.from_numpy(positions_P).to(device),
        )
        return _logprobs(logits_PV, sources_N.tolist(), targets)


def _choose_padded(
    answering: AnsweringModel, questions: Sequence[TokenQuestion], forward_tokens: int, heed: Callable[[], None]
) -> tuple[tuple[float, ...], ...]:
    """The same for a model that needs padding: every choice is a row with its own copy of the prompt."""
    rows = [
        TokenRow(key=question.key, source="", ids=question.prompt + choice, loss_from=len(question.prompt))
        for question in questions
        for choice in question.choices
    ]
    sums = iter(_answer_sums(answering, rows, forward_tokens, heed))
    return tuple(tuple(next(sums) for _ in question.choices) for question in questions)


# ---------------------------------------------------------------------------------------------------------------- rows


def _answer_sums(
    answering: AnsweringModel, rows: Sequence[TokenRow], forward_tokens: int, heed: Callable[[], None]
) -> list[float]:
    """For every row the sum of log-probabilities of its loss tokens."""
    loads = [
        Load(
            tokens=len(row.ids),
            logits=row.loss_tokens if answering.ragged else len(row.ids),
            name=(row.key, row.ids),
        )
        for row in rows
    ]
    if answering.ragged:
        batches = shared_batches(loads, tokens=forward_tokens, logits=answering.logit_rows)
    else:
        batches = fixed_batches(loads, tokens=forward_tokens, logits=answering.logit_rows, rows=_NO_LIMIT)
    found: dict[int, float] = {}
    for batch in batches:
        heed()
        some = [rows[index] for index in batch]
        logprobs = iter((_ragged_answers if answering.ragged else _padded_answers)(answering, some))
        found.update({index: sum(next(logprobs) for _ in range(rows[index].loss_tokens)) for index in batch})
    return [found[index] for index in range(len(rows))]


def _ragged_answers(answering: AnsweringModel, rows: Sequence[TokenRow]) -> list[float]:
    """The log-probabilities of all loss tokens, row after row. A row's last token predicts nothing and is left out."""
    laid = lay_out([row.ids[:-1] for row in rows])
    places = [place[row.loss_from - 1 :] for place, row in zip(laid.places, rows, strict=True)]
    return _laid_out_logprobs(answering, laid, places, _targets(rows))


def _padded_answers(answering: AnsweringModel, rows: Sequence[TokenRow]) -> list[float]:
    with torch.inference_mode():
        logits_PV = _padded_answer_logits(answering, rows)
        targets = _targets(rows)
        return _logprobs(logits_PV, range(len(targets)), targets)


def _targets(rows: Sequence[TokenRow]) -> list[int]:
    return [token for row in rows for token in row.ids[row.loss_from :]]


def _padded_answer_logits(answering: AnsweringModel, rows: Sequence[TokenRow]) -> torch.Tensor:
    longest = max(len(row.ids) for row in rows)
    device = answering.device
    ids = torch.tensor([row.ids + (0,) * (longest - len(row.ids)) for row in rows], device=device)
    lengths = torch.tensor([len(row.ids) for row in rows], device=device)
    mask = (torch.arange(longest, device=device)[None] < lengths[:, None]).long()
    logits = answering.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    parts = [logits[number, row.loss_from - 1 : len(row.ids) - 1] for number, row in enumerate(rows)]
    return torch.cat(parts)


def _logprobs(logits_PV: torch.Tensor, sources: Sequence[int], targets: Sequence[int]) -> list[float]:
    """The log-probability of each of N targets under the row of logits that predicts it, by a softmax in float32."""
    width = max(1, _BLOCK_ELEMENTS // logits_PV.shape[1])
    normaliser_P = torch.cat([_log_sum_exp(block.float()) for block in logits_PV.split(width)])
    source_N = torch.tensor(list(sources), device=logits_PV.device)
    target_N = torch.tensor(list(targets), device=logits_PV.device)
    found: list[float] = (logits_PV[source_N, target_N].float() - normaliser_P[source_N]).tolist()
    return found


def _log_sum_exp(logits_PV: torch.Tensor) -> torch.Tensor:
    """The log of the sum of exponentials, from the largest down: the softmax kernel is faster than `logsumexp`."""
    largest_P = logits_PV.amax(1)
    return largest_P - torch.softmax(logits_PV, 1).amax(1).log()
