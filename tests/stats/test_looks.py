"""Looks: the boundaries are those of the literature, and all looks together spend what one may."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from scipy import special

from titrant.core.identity import rng_for
from titrant.stats.looks import (
    LADDER,
    SPENDING,
    crossing_probability,
    dunnett_tail,
    ladder,
    nominal_tails,
    plan_looks,
)

FIVE = (0.2, 0.4, 0.6, 0.8, 1.0)


@pytest.mark.parametrize(("looks", "constant"), [(2, 2.178), (3, 2.289), (4, 2.361), (5, 2.413), (10, 2.555)])
def test_pocock_s_constants_cross_in_their_level(looks: int, constant: float) -> None:
    """Jennison and Turnbull, Group Sequential Methods, table 2.1: two-sided 5%, so 2.5% on one side."""
    times = tuple((look + 1) / looks for look in range(looks))
    assert crossing_probability(times, (constant,) * looks) == pytest.approx(0.025, abs=5e-5)


@pytest.mark.parametrize(("looks", "constant"), [(2, 1.977), (3, 2.004), (4, 2.024), (5, 2.040), (10, 2.087)])
def test_obrien_and_fleming_s_constants_cross_in_their_level(looks: int, constant: float) -> None:
    """The same book, table 2.3: the point of look k is the constant times √(K / k)."""
    times = tuple((look + 1) / looks for look in range(looks))
    points = tuple(constant * np.sqrt(looks / (look + 1)) for look in range(looks))
    assert crossing_probability(times, points) == pytest.approx(0.025, abs=5e-5)


@pytest.mark.parametrize(
    ("spending", "published"),
    [
        ("obrien_fleming", (4.877, 3.357, 2.680, 2.290, 2.031)),
        ("pocock", (2.438, 2.427, 2.410, 2.397, 2.386)),
    ],
)
def test_boundaries_of_error_spending_are_those_of_lan_and_demets(spending: str, published: tuple[float, ...]) -> None:
    """Five equal looks, 2.5% on one side (Lan and DeMets 1983; Reboussin and others 2000)."""
    tails = nominal_tails((1, 2, 3, 4, 5), most=5, tail=0.025, spending=spending)
    assert -special.ndtri(tails) == pytest.approx(published, abs=1e-3)


@pytest.mark.parametrize("spending", SPENDING)
@pytest.mark.parametrize("looks", [ladder(20), (3, 4, 5), (5, 20), (2, 3, 4, 6, 8)])
def test_all_looks_together_spend_the_tail(looks: tuple[int, ...], spending: str) -> None:
    most = looks[-1]
    tails = nominal_tails(looks, most=most, tail=0.05, spending=spending)
    times = tuple(seeds / most for seeds in looks)
    assert crossing_probability(times, tuple(-special.ndtri(tails))) == pytest.approx(0.05, abs=1e-7)


def test_a_ladder_that_ends_early_has_spent_less_and_the_same_tails() -> None:
    whole = nominal_tails(ladder(20), most=20, tail=0.05)
    cut = nominal_tails(ladder(20)[:4], most=20, tail=0.05)
    assert cut == whole[:4]


def test_a_look_left_out_leaves_its_error_to_the_next() -> None:
    whole, fewer = nominal_tails((3, 4, 5), most=20, tail=0.05), nominal_tails((3, 5), most=20, tail=0.05)
    assert fewer[0] == whole[0]
    assert fewer[1] > whole[2]


def test_every_pair_of_looks_spends_the_tail_and_no_more() -> None:
    for first, last in combinations(range(3, 11), 2):
        tails = nominal_tails((first, last), most=last, tail=0.05)
        points = tuple(-special.ndtri(tails))
        assert crossing_probability((first / last, 1.0), points) == pytest.approx(0.05, abs=1e-6)


def test_tails_hold_for_simulated_seeds() -> None:
    """Means over independent normal seeds are Brownian motion at the looks."""
    looks = ladder(12)
    points = -special.ndtri(nominal_tails(looks, most=12, tail=0.05))
    sums = rng_for(0, "tests", "looks").standard_normal((200_000, 12)).cumsum(-1)
    crossed = np.zeros(len(sums), dtype=bool)
    for seeds, point in zip(looks, points, strict=True):
        crossed |= sums[:, seeds - 1] / np.sqrt(seeds) > point
    assert crossed.mean() == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / len(sums)))


@pytest.mark.parametrize(("doses", "published"), [(2, 1.92), (3, 2.06), (4, 2.16), (5, 2.23), (9, 2.42)])
def test_dunnett_s_points_are_those_of_his_table(doses: int, published: float) -> None:
    """Dunnett 1955, table 1a: one-sided 5%, infinite degrees of freedom, equal groups."""
    assert -special.ndtri(dunnett_tail(0.05, doses)) == pytest.approx(published, abs=0.006)


@pytest.mark.parametrize("tail", [0.05, 1e-3, 1e-5, 1e-7])
def test_dunnett_lies_between_bonferroni_and_a_single_test(tail: float) -> None:
    tails = [dunnett_tail(tail, doses) for doses in range(1, 13)]
    assert all(tail / doses <= one <= tail for doses, one in enumerate(tails, start=1))
    assert all(more < fewer for fewer, more in pairwise(tails))


@pytest.mark.parametrize(
    ("most", "looks"), [(3, (3,)), (4, (3, 4)), (7, (3, 4, 5, 6, 7)), (20, LADDER), (24, (*LADDER, 24))]
)
def test_the_ladder_ends_at_all_seeds(most: int, looks: tuple[int, ...]) -> None:
    assert ladder(most) == looks


@pytest.mark.parametrize("looks", [(), (3, 3), (5, 4), (3, 21), (0, 3)])
def test_looks_that_do_not_rise_to_the_end_are_refused(looks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must rise"):
        nominal_tails(looks, most=20, tail=0.05)


def test_claims_over_doses_get_smaller_tails_and_single_ones_do_not() -> None:
    one, twelve = (plan_looks(ladder(20), most=20, doses=doses) for doses in (1, 12))
    assert all(few.better == few.strict for few in one)
    assert all(many.better < few.better for many, few in zip(twelve, one, strict=True))
    assert [look.single for look in one] == [look.single for look in twelve]
