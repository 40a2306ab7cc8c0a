"""The study that init writes is one that can answer its own question, or says what it lacks."""

from __future__ import annotations

import pytest

from titrant.experiment.scaffold_size import FEWEST_STEPS, Limit, Prices, Question, Size, choose, lacks, sizes
from titrant.experiment.speed import Speed


@pytest.fixture
def fewer_simulated_studies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the usual: what a size is called and what it then does come from the same studies."""
    monkeypatch.setattr("titrant.decision.ladder_forecast._ARM_STUDIES", 160)


PRICES = Prices(visit_tokens=60.0, row_tokens={"general": 80.0}, answer_tokens=10_000.0)


def needed_by(size: Size) -> float:
    """The tokens with which this size alone is likely to be firm."""
    needed = choose([size], QUESTION, limit(1.0)).chances.budget_needed
    assert needed is not None
    return needed


QUESTION = Question(items=240, metric="graded", smallest_effect=0.05)


def limit(amount: float, unit: str = "tokens", prices: Prices = PRICES) -> Limit:
    return Limit(text=f"{amount:g}{unit}", unit=unit, amount=amount, prices=prices)  # type: ignore[arg-type]


@pytest.mark.parametrize(("rows", "pool"), [(900, 5000), (96, 300), (20, 40), (5000, 1000)])
def test_options_go_from_all_rows_and_two_doses_to_less_and_keep_their_steps(rows: int, pool: int) -> None:
    options = sizes(rows, {"general": pool}, parts=True)
    assert (options[0].target_rows, options[0].whole) == (rows, True)
    assert len(options[0].dose_rows) == 2
    assert [option.target_rows for option in options] == sorted((o.target_rows for o in options), reverse=True)
    for option in options:
        assert len(option.dose_rows) <= 2
        assert option.dose_rows[-1][0] <= pool
        assert option.steps >= FEWEST_STEPS
    assert sizes(rows, {"general": pool}, parts=False) == tuple(
        option for option in options if option.whole and option.passes == options[0].passes
    )


def test_several_pools_get_one_dose_each() -> None:
    (size,) = sizes(300, {"a": 1000, "b": 100}, parts=False)
    assert size.dose_rows == ((96, "b"), (296, "a"))


def test_with_items_enough_all_rows_are_chosen_and_the_reason_said() -> None:
    chosen = choose(sizes(900, {"general": 5000}, parts=False), QUESTION)
    assert chosen.chances.likely
    assert chosen.why[0].startswith("all 900 target rows, doses of 448 and 1800, 4 passes: firm in ")


def test_one_dose_is_asked_where_two_cannot_be_told_and_the_reason_said() -> None:
    question = Question(items=70, metric="graded", smallest_effect=0.05)
    chosen = choose(sizes(900, {"general": 5000}, parts=False), question)
    assert chosen.chances.likely
    assert chosen.size.dose_rows == ((896, "general"),)
    assert chosen.why[1].startswith("all 900 target rows, doses of 448 and 1800, 4 passes: firm in ")


@pytest.mark.usefixtures("fewer_simulated_studies")
@pytest.mark.parametrize(("items", "metric"), [(40, "graded"), (100, "exact_match"), (180, "exact_match")])
def test_with_too_few_items_the_number_needed_and_the_effect_that_shows_are_said(items: int, metric: str) -> None:
    question = Question(items=items, metric=metric, smallest_effect=0.05)
    warning = lacks(choose(sizes(900, {"general": 5000}, parts=False), question), question)
    assert warning is not None
    needed = int(warning.split("needs about ")[1].split()[0])
    shown = float(warning.split("with these about ")[1].split()[0])
    assert f"you have {items}" in warning
    assert needed > items
    assert shown > 0.05
    # What it names does do.
    options = sizes(900, {"general": 5000}, parts=False)
    assert choose(options, Question(items=needed, metric=metric, smallest_effect=0.05)).chances.likely
    assert choose(options, Question(items=items, metric=metric, smallest_effect=shown)).chances.likely


def test_a_smaller_budget_buys_a_smaller_study_that_is_likely_to_be_firm_within_it() -> None:
    options = sizes(900, {"general": 5000}, parts=True)
    sized = []
    for amount in (20e6, 5e6, 1.5e6):
        chosen = choose(options, QUESTION, limit(amount))
        assert chosen.chances.likely
        assert f"within {amount:g}tokens" in chosen.why[0]
        sized.append(chosen.size.target_rows * chosen.size.passes)
    assert sized == sorted(sized, reverse=True)
    assert sized[0] > sized[-1]
    assert chosen.why[1].startswith(
        "all 900 target rows, doses of 448 and 1800, 4 passes: firm within 1.5e+06tokens in "
    )


@pytest.mark.usefixtures("fewer_simulated_studies")
def test_a_budget_that_buys_nothing_says_how_much_is_needed_and_that_much_does() -> None:
    options = sizes(900, {"general": 5000}, parts=True)
    warning = lacks(choose(options, QUESTION, limit(100_000)), QUESTION, limit(100_000))
    assert warning is not None
    assert needed_by(options[0]) > needed_by(choose(options, QUESTION, limit(100_000)).size)
    needed = float(warning.rpartition("needs about ")[2].split()[0].replace(",", ""))
    assert choose(options, QUESTION, limit(1.1 * needed)).chances.likely


def test_budgets_in_minutes_and_runs_count_in_their_own_unit() -> None:
    options = sizes(900, {"general": 5000}, parts=True)
    speed = Speed(training_rate=1000.0, answer_rate=5000.0, run_seconds=2.0, memory_bytes=1)
    for jobs in (1, 4):
        prices = Prices(visit_tokens=60.0, row_tokens={"general": 80.0}, answer_tokens=1e4, speed=speed, jobs=jobs)
        costs = prices.of(options[0], "minutes")
        assert costs[0] == pytest.approx((60 * 900 * 4 / 1000 + 1e4 / 5000 + 2) / 60 / jobs)
        assert costs[1] == pytest.approx((60 * (900 * 4 + 1800) / 1000 + 1e4 / 5000 + 2) / 60 / jobs)
    assert PRICES.of(options[0], "runs") == [1.0] * 4
    assert choose(options, QUESTION, limit(40, "runs")).chances.likely
    assert not choose(options, QUESTION, limit(5, "runs")).chances.likely
