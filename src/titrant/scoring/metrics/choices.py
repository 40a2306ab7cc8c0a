"""Scores from log-probabilities of choices and from losses, and the lines to compare accuracy with."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from titrant.scoring.metrics.text import TextScore


def graded(logprobs: Sequence[float], choices: Sequence[str], references: Sequence[str]) -> TextScore:
    """The probability of the right choices among all choices, 0 to 1: right and wrong with resolution.

    `logprobs` are in nats, one for each choice; several right choices add up. Chance is the share of right choices.

    >>> round(graded([-1.0, -1.0], ["yes", "no"], ["yes"]).value, 3)
    0.5
    """
    _check(logprobs, choices, references)
    peak = max(logprobs)
    if peak == -math.inf:
        return TextScore(value=None, reason="every choice has probability 0")
    weights = [math.exp(logprob - peak) for logprob in logprobs]
    gold = sum(weight for weight, choice in zip(weights, choices, strict=True) if choice in references)
    return TextScore(value=gold / sum(weights))


def chosen(logprobs: Sequence[float]) -> int:
    """The index of the likeliest choice; ties go to the earlier.

    >>> chosen([-2.0, -1.0, -1.0])
    1
    """
    if not logprobs or any(math.isnan(logprob) for logprob in logprobs):
        raise ValueError("log-probabilities are missing or not numbers")
    return max(range(len(logprobs)), key=lambda index: (logprobs[index], -index))


def choice_accuracy(logprobs: Sequence[float], choices: Sequence[str], references: Sequence[str]) -> TextScore:
    """1 where the likeliest choice is a right one, else 0."""
    _check(logprobs, choices, references)
    return TextScore(value=float(choices[chosen(logprobs)] in references))


def token_probability(loss: float) -> TextScore:
    """The geometric mean probability of an answer's tokens, from their mean loss in nats.

    >>> token_probability(0.0).value
    1.0
    """
    if not math.isfinite(loss):
        return TextScore(value=None, reason="the loss is not finite")
    return TextScore(value=math.exp(-loss))


def balanced_accuracy(labels: Sequence[str], right: Sequence[float]) -> float:
    """The mean over labels of the share that was right: always saying the majority label scores 1 / labels.

    `labels` holds the gold label of each item, `right` its accuracy (0 or 1, or a mean over seeds).

    >>> balanced_accuracy(["a", "a", "a", "b"], [1, 1, 1, 0])
    0.5
    """
    if len(labels) != len(right) or not labels:
        raise ValueError(f"{len(labels)} labels for {len(right)} items")
    totals: Counter[str] = Counter(labels)
    sums = dict.fromkeys(totals, 0.0)
    for label, value in zip(labels, right, strict=True):
        sums[label] += value
    return sum(sums[label] / totals[label] for label in totals) / len(totals)


def majority_label(training_labels: Sequence[str]) -> str:
    """The commonest label of the training rows; ties go to the first in sorted order.

    >>> majority_label(["b", "a", "b", "a"])
    'a'
    """
    counts = Counter(training_labels)
    if not counts:
        raise ValueError("no labels")
    return min(counts, key=lambda label: (-counts[label], label))


def majority_accuracy(training_labels: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """The accuracy on test items of always giving the majority label of the training rows.

    >>> majority_accuracy(["a", "a", "b"], [("a",), ("b",)])
    0.5
    """
    if not references:
        raise ValueError("no test items")
    label = majority_label(training_labels)
    return sum(label in right for right in references) / len(references)


def _check(logprobs: Sequence[float], choices: Sequence[str], references: Sequence[str]) -> None:
    if len(logprobs) != len(choices) or len(choices) < 2:
        raise ValueError(f"{len(logprobs)} log-probabilities for {len(choices)} choices")
    if any(math.isnan(logprob) or logprob == math.inf for logprob in logprobs):
        raise ValueError("log-probabilities are not numbers")
    if not any(reference in choices for reference in references):
        raise ValueError("no reference is among the choices")
