"""One temperature for the choices of a run, fitted on validation items: graded scores without the run's own confidence.

Two runs that rank every item's choices alike can still differ in the graded score, as one of them is surer of all it
says, right or wrong. Divided by the temperature at which each fits validation items best (Guo et al. 2017), their
log-probabilities are as sure as they have reason to be, and what is left of the difference is knowledge.

Array names end in shape letters: I items, C choices.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEWEST_TO_FIT = 20
"""With fewer validation items a temperature is mostly luck."""
_BOUND = 32.0  # where all validation items are right (or none is), ever lower (or higher) would fit better still
_HALVINGS = 40


def fitted_temperature(logprobs_IC: Floats, gold_IC: NDArray[np.bool_]) -> float | None:
    """The temperature, 1/32 to 32, that gives the right choices of these items the least log-loss.

    `logprobs_IC` are minus infinity where an item has fewer choices. Items whose log-probabilities are missing, and
    those all or none of whose choices are right, say nothing; None where fewer than `FEWEST_TO_FIT` are left.

    A run that is right on three items of four and says so at odds of 9 to 1 is too sure by the factor log 9 / log 3:

    >>> logprobs = np.log(np.tile([[0.9, 0.1]], (20, 1)))
    >>> gold = np.array([[True, False]] * 15 + [[False, True]] * 5)
    >>> round(fitted_temperature(logprobs, gold), 3)
    2.0
    """
    finite_IC = np.isfinite(logprobs_IC)
    broken_I = np.isnan(logprobs_IC).any(-1) | (logprobs_IC == np.inf).any(-1)
    gold_IC = gold_IC & finite_IC
    told_I = ~broken_I & gold_IC.any(-1) & (finite_IC & ~gold_IC).any(-1)
    if told_I.sum() < FEWEST_TO_FIT:
        return None
    logprobs_IC, gold_IC = logprobs_IC[told_I], gold_IC[told_I]
    # The slope of the log-loss over 1 / T rises with 1 / T (the loss is convex where one choice is right), so its sign
    # tells on which side the best temperature lies.
    low, high = -math.log(_BOUND), math.log(_BOUND)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _slope(logprobs_IC, gold_IC, math.exp(-middle)) > 0:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


def _slope(logprobs_IC: Floats, gold_IC: NDArray[np.bool_], inverse: float) -> float:
    """How the mean log-loss changes with 1 / T: the mean log-probability that is expected less that of right ones."""
    return float((_expected(logprobs_IC, inverse) - _expected(np.where(gold_IC, logprobs_IC, -np.inf), inverse)).mean())


def _expected(logprobs_IC: Floats, inverse: float) -> Floats:
    """The mean of the log-probabilities under the distribution that they give at this temperature."""
    scaled_IC = logprobs_IC * inverse
    weight_IC = np.exp(scaled_IC - scaled_IC.max(-1, keepdims=True))
    known_IC = np.where(np.isfinite(logprobs_IC), logprobs_IC, 0.0)
    found: Floats = (weight_IC * known_IC).sum(-1) / weight_IC.sum(-1)
    return found
