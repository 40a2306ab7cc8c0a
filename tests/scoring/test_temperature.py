"""A temperature takes a run's own confidence out of its graded scores."""

from __future__ import annotations

import numpy as np
import pytest

from titrant.core.identity import rng_for
from titrant.scoring.sheets import graded_batch
from titrant.scoring.temperature import FEWEST_TO_FIT, fitted_temperature


def calibrated_items(items: int, choices: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities that are as sure as they have reason to be: the right choice is drawn from them."""
    rng = rng_for(0, "tests", "temperature")
    logits_IC = rng.standard_normal((items, choices)) * 1.5
    logprobs_IC = logits_IC - np.logaddexp.reduce(logits_IC, axis=-1)[:, None]
    right_I = (rng.random((items, 1)) > np.exp(logprobs_IC).cumsum(-1)).sum(-1)
    return logprobs_IC, np.arange(choices) == right_I[:, None]


@pytest.mark.parametrize("choices", [2, 3, 7])
@pytest.mark.parametrize("too_sure", [0.4, 1.0, 3.0])
def test_the_factor_by_which_a_run_is_too_sure_is_found(choices: int, too_sure: float) -> None:
    logprobs_IC, gold_IC = calibrated_items(4000, choices)
    assert fitted_temperature(logprobs_IC * too_sure, gold_IC) == pytest.approx(too_sure, rel=0.08)


def test_no_other_temperature_has_less_log_loss() -> None:
    logprobs_IC, gold_IC = calibrated_items(60, 3)
    best = fitted_temperature(logprobs_IC * 2, gold_IC)
    assert best is not None

    def loss(temperature: float) -> float:
        return float(-np.log(graded_batch(logprobs_IC * 2 / temperature, gold_IC)[0]).mean())

    assert loss(best) <= min(loss(best * factor) for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0))


def test_scaling_all_log_probabilities_changes_no_calibrated_score() -> None:
    logprobs_IC, gold_IC = calibrated_items(200, 4)
    values = []
    for factor in (0.3, 1.0, 2.5):
        temperature = fitted_temperature(logprobs_IC[:80] * factor, gold_IC[:80])
        assert temperature is not None
        values.append(graded_batch(logprobs_IC[80:] * factor / temperature, gold_IC[80:])[0])
    assert np.allclose(values[0], values[1], atol=1e-6)
    assert np.allclose(values[1], values[2], atol=1e-6)


def test_a_run_that_is_always_right_or_always_wrong_ends_at_a_bound_and_not_beyond() -> None:
    sure = np.log(np.tile([[0.8, 0.2]], (30, 1)))
    right, wrong = np.tile([[True, False]], (30, 1)), np.tile([[False, True]], (30, 1))
    assert fitted_temperature(sure, right) == pytest.approx(1 / 32)
    assert fitted_temperature(sure, wrong) == pytest.approx(32)


def test_fewer_choices_long_answers_and_broken_ones_do_no_harm() -> None:
    logprobs_IC, gold_IC = calibrated_items(400, 3)
    wider = np.concatenate([logprobs_IC, np.full((400, 2), -np.inf)], axis=-1)
    gold = np.concatenate([gold_IC, np.zeros((400, 2), bool)], axis=-1)
    broken, no_gold = np.full((5, 5), np.nan), np.full((5, 5), False)
    found = fitted_temperature(np.concatenate([wider - 5000, broken]), np.concatenate([gold, no_gold]))
    assert found == pytest.approx(fitted_temperature(logprobs_IC, gold_IC), rel=1e-6)


def test_too_few_items_have_no_temperature() -> None:
    logprobs_IC, gold_IC = calibrated_items(FEWEST_TO_FIT - 1, 3)
    assert fitted_temperature(logprobs_IC, gold_IC) is None
    all_right = np.ones((FEWEST_TO_FIT, 3), bool)
    assert fitted_temperature(calibrated_items(FEWEST_TO_FIT, 3)[0], all_right) is None
