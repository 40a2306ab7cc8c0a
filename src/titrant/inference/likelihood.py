"""Log-probabilities of given continuations: choices of a question, answers of a row.

The choices of a question are branches behind its prompt in one row, so the prompt is computed once, and many questions
share a forward. Logits are made only where a token of a choice is predicted.

Shapes: T tokens of a forward, P positions with logits, V vocabulary, N predicted tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from titrant.inference.batches import Load, fixed_batches
from titrant.inference.model import AnsweringModel
from titrant.models.ragged import RaggedLayout, RaggedRow, ragged_logits
from titrant.records import TokenQuestion, TokenRow

FORWARD_TOKENS = 4096
_BLOCK_ELEMENTS = 1 << 20  # the softmax works on blocks of logits that stay in the cache
_NO_LIMIT = 1 << 62


def choose(
    answering: AnsweringModel, questions: Sequence[TokenQuestion], *, forward_tokens: int = FORWARD_TOKENS
) -> tuple[tuple[float, ...], ...]:
    """For every question the sum of log-probabilities (nats) of each choice's tokens, end mark included."""
    for question in questions:
        assert question.prompt, f"{question.key}: a question has a prompt"
        assert all(question.choices), f"{question.key}: a choice has tokens"
    if not answering.ragged:
        return _choose_padded(answering, questions, forward_tokens)
    loads = [
        Load(
            tokens=len(question.prompt) + sum(len(choice) - 1 for choice in question.choices),
            logits=1 + sum(len(choice) - 1 for choice in question.choices),
            name=(question.key, question.prompt),
        )
        for question in questions
    ]
    found: dict[int, tuple[float, ...]] = {}
    for batch in fixed_batches(loads, tokens=forward_tokens, logits=answering.logit_rows, rows=_NO_LIMIT):
        sums = _tree_sums(answering, [questions[index] for index in batch])
        found.update(zip(batch, sums, strict=True))
    return tuple(found[index] for index in range(len(questions)))


def losses(
    answering: AnsweringModel, rows: Sequence[TokenRow], *, forward_tokens: int = FORWARD_TOKENS
) -> tuple[float, ...]:
    """For every row the mean loss (nats) over the tokens that bear loss."""
    sums = _answer_sums(answering, rows, forward_tokens)
    return tuple(-total / row.loss_tokens for total, row in zip(sums, rows, strict=True))


# ---------------------------------------------------------------------------------------------------------------- tree


def _tree_sums(answering: AnsweringModel, questions: Sequence[TokenQuestion]) -> list[tuple[float, ...]]:
    """The choices' sums of some questions, in one forward.

    The last token of a prompt predicts the first token of every choice; a branch holds a choice without its last token
    and predicts the rest of it.
    """
    ids: list[int] = []
    rows: list[RaggedRow] = []
    positions: list[int] = []  # P: where in the sequence logits are made
    sources: list[int] = []  # N: which of the P rows of logits predicts the token
    targets: list[int] = []  # N
    for question in questions:
        ids.extend(question.prompt)
        positions.append(len(ids) - 1)
        shared = len(positions) - 1
        for choice in question.choices:
            sources.extend([shared, *range(len(positions), len(positions) + len(choice) - 1)])
            targets.extend(choice)
            positions.extend(range(len(ids), len(ids) + len(choice) - 1))
            ids.extend(choice[:-1])
        branches = tuple(len(choice) - 1 for choice in question.choices if len(choice) > 1)
        rows.append(RaggedRow(context=len(question.prompt), branches=branches))
    device = answering.device
    with torch.inference_mode():
        logits_PV = ragged_logits(
            answering.model,
            torch.tensor(ids, device=device),
            RaggedLayout(rows=tuple(rows)),
            torch.tensor(positions, device=device),
        )
        logprobs = iter(_logprobs(logits_PV, sources, targets))
    return [
        tuple(sum(next(logprobs) for _ in choice) for choice in question.choices)  # in double precision, in order
        for question in questions
    ]


def _choose_padded(
    answering: AnsweringModel, questions: Sequence[TokenQuestion], forward_tokens: int
) -> tuple[tuple[float, ...], ...]:
    """The same for a model that needs padding: every choice is a row with its own copy of the prompt."""
    rows = [
        TokenRow(key=question.key, source="", ids=question.prompt + choice, loss_from=len(question.prompt))
        for question in questions
        for choice in question.choices
    ]
    sums = iter(_answer_sums(answering, rows, forward_tokens))
    return tuple(tuple(next(sums) for _ in question.choices) for question in questions)


# ---------------------------------------------------------------------------------------------------------------- rows


def _answer_sums(answering: AnsweringModel, rows: Sequence[TokenRow], forward_tokens: int) -> list[float]:
    """For every row the sum of log-probabilities of its loss tokens."""
    loads = [
        Load(
            tokens=len(row.ids),
            logits=row.loss_tokens if answering.ragged else len(row.ids),
            name=(row.key, row.ids),
        )
        for row in rows
    ]
    found: dict[int, float] = {}
    for batch in fixed_batches(loads, tokens=forward_tokens, logits=answering.logit_rows, rows=_NO_LIMIT):
        some = [rows[index] for index in batch]
        with torch.inference_mode():
            logits_PV = (_ragged_answer_logits if answering.ragged else _padded_answer_logits)(answering, some)
            targets = [token for row in some for token in row.ids[row.loss_from :]]
            logprobs = iter(_logprobs(logits_PV, range(len(targets)), targets))
        found.update({index: sum(next(logprobs) for _ in range(rows[index].loss_tokens)) for index in batch})
    return [found[index] for index in range(len(rows))]


def _ragged_answer_logits(answering: AnsweringModel, rows: Sequence[TokenRow]) -> torch.Tensor:
    layout = RaggedLayout.of_lengths([len(row.ids) for row in rows])
    ids_T = torch.tensor([token for row in rows for token in row.ids], device=answering.device)
    positions = [
        start + place
        for start, row in zip(layout.starts, rows, strict=True)
        for place in range(row.loss_from - 1, len(row.ids) - 1)
    ]
    return ragged_logits(answering.model, ids_T, layout, torch.tensor(positions, device=answering.device))


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
