"""What a dose is worth: hand-worked curves, the steps by which the reading degrades, and coverage by simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from titrant.stats.contrasts import layout, moments
from titrant.stats.exchange import (
    GainAt,
    GroupGain,
    Reader,
    Readings,
    SizedArm,
    exchange_rate,
    group_interaction,
    mean_gain,
    reader,
    size_interaction,
    turning_size,
)
from titrant.stats.simulation import World, simulate


def fixed_reader(means: list[float], half: float) -> Reader:
    """A reader that knows the means, with intervals of one width."""

    def read(weights: np.ndarray) -> Readings:
        value = weights @ np.array(means)
        return Readings(value=value, low=value - half, high=value + half, p=np.full(len(value), 0.5))

    return read


def rate(curve: list[float], dosed: float, *, at: int = 0, half: float = 0.001, sizes=(64, 128, 256, 512)):
    """The rate of one dosed arm at the size number `at`."""
    points = [SizedArm(target_rows=rows, arm=arm) for arm, rows in enumerate(sizes[: len(curve)])]
    return exchange_rate(
        fixed_reader([*curve, dosed], half),
        n_arms=len(curve) + 1,
        curve=points,
        dosed=SizedArm(target_rows=sizes[at], arm=len(curve)),
        dose_rows=384,
    )


def test_halfway_between_two_sizes_is_their_geometric_mean() -> None:
    found = rate([0.5, 0.6, 0.7, 0.8], 0.65)
    assert found.value == pytest.approx(np.sqrt(128 * 256) - 64)
    assert found.low < found.value < found.high
    assert found.sign == 1
    assert found.step == "interpolated"


def test_a_dose_that_hurts_is_worth_less_than_nothing() -> None:
    found = rate([0.5, 0.6, 0.7, 0.8], 0.65, at=3)
    assert found.value == pytest.approx(np.sqrt(128 * 256) - 512)
    assert found.sign == -1
    assert found.high < 0


def test_beyond_the_largest_size_there_is_only_a_lower_bound() -> None:
    found = rate([0.5, 0.6, 0.7, 0.8], 0.9)
    assert (found.value, found.low, found.high) == (None, pytest.approx(512 - 64), None)
    assert "at least 448" in found.sentence
    assert "outside" in found.reason


def test_below_the_smallest_size_there_is_only_an_upper_bound() -> None:
    found = rate([0.5, 0.6, 0.7, 0.8], 0.4)
    assert (found.value, found.low, found.high) == (None, None, pytest.approx(0.0))


def test_an_interval_that_reaches_the_largest_size_is_open() -> None:
    found = rate([0.5, 0.6, 0.7, 0.8], 0.78, half=0.05)
    assert found.low is not None
    assert found.high is None
    assert "at least" in found.sentence


def test_nothing_is_said_where_the_curve_does_not_surely_rise() -> None:
    found = rate([0.6, 0.6, 0.6, 0.6], 0.605, half=0.01)
    assert (found.value, found.low, found.high) == (None, None, None)
    assert "cannot be pinned down" in found.sentence


def test_one_size_gives_no_rate_and_two_give_sign_and_bounds() -> None:
    alone = rate([0.5], 0.6)
    assert (alone.step, alone.value, alone.low, alone.high, alone.sign) == ("none", None, None, None, None)
    assert alone.reason
    two = rate([0.5, 0.6], 0.55)
    assert (two.step, two.value, two.sign) == ("sign_and_bound", None, 1)
    assert (two.low, two.high) == (pytest.approx(0), pytest.approx(64))


def test_with_two_sizes_a_bound_lies_at_a_size_and_never_between() -> None:
    """Nothing is known of the curve between two sizes, so no line may be drawn there."""
    found = rate([0.5, 0.6], 0.59, half=0.03)
    assert (found.low, found.high) == (pytest.approx(0), None)
    assert found.sentence == "384 generalist rows at 64 target rows are worth at least 0 target rows."
    worse = rate([0.5, 0.6], 0.51, at=1, half=0.03)
    assert (worse.low, worse.high) == (None, pytest.approx(0))


def test_a_bent_curve_widens_the_interval_and_a_straight_one_does_not() -> None:
    straight = rate([0.5, 0.6, 0.7, 0.8], 0.55, half=1e-6)
    bent = rate([0.5, 0.6, 0.64, 0.656], 0.55, half=1e-6)
    assert straight.high - straight.low < 0.1
    assert bent.high - bent.low > 3


def test_readings_without_intervals_rule_nothing_out() -> None:
    found = rate([0.5, 0.6, 0.7, 0.8], 0.65, half=float("nan"))
    assert (found.low, found.high) == (None, None)
    assert found.reason


def test_the_reader_agrees_with_a_contrast_of_two_arms() -> None:
    from titrant.stats.contrasts import bounds, contrast_batch

    scores = simulate(
        World(kind="binary", gains=(0.05,), seeds=5, items=100, seeds_share=0.4), studies=1, seed=3
    ).scores[0]
    found = moments(scores, layout(100))
    spread = contrast_batch(found, [1], 0)
    low, high = bounds(spread, 0.025)
    seen = reader(found)(np.array([[-1.0, 1.0]]))
    assert seen.value[0] == pytest.approx(spread.difference[0])
    assert (seen.low[0], seen.high[0]) == (pytest.approx(low[0]), pytest.approx(high[0]))


@pytest.mark.parametrize(
    ("kind", "at", "worth"), [("graded", 0, 60.0), ("binary", 1, -40.0), ("heavy_tails", 2, 100.0)]
)
def test_the_interval_holds_the_true_rate_in_nine_of_ten_studies(kind, at, worth) -> None:
    sizes = (64, 128, 256, 512)
    means = [0.8 - 1.6 * rows**-0.4 for rows in (*sizes, sizes[at] + worth)]
    world = World(
        kind=kind, base_score=means[0], gains=tuple(mean - means[0] for mean in means[1:]), seeds=5, seeds_share=0.3
    )
    found = moments(simulate(world, studies=200, seed=8).scores, layout(world.items))
    held = 0
    for study in range(200):
        one = replace(
            found, mean_BAS=found.mean_BAS[study], item_BAA=found.item_BAA[study], error_BAA=found.error_BAA[study]
        )
        seen = exchange_rate(
            reader(one),
            n_arms=5,
            curve=[SizedArm(target_rows=rows, arm=arm) for arm, rows in enumerate(sizes)],
            dosed=SizedArm(target_rows=sizes[at], arm=4),
            dose_rows=384,
        )
        held += (seen.low is None or seen.low <= worth) and (seen.high is None or worth <= seen.high)
    assert held / 200 >= 0.90 - 3 * np.sqrt(0.9 * 0.1 / 200)


def gains(means: list[float]) -> tuple[Reader, list[GainAt]]:
    """A dosed arm and its baseline at sizes that double, with these gains."""
    arms = [score for gain in means for score in (0.5 + gain, 0.5)]
    points = [GainAt(target_rows=64 * 2**k, arm=2 * k, baseline=2 * k + 1) for k in range(len(means))]
    return fixed_reader(arms, 0.005), points


def test_the_gain_falls_below_the_smallest_effect_between_the_right_sizes() -> None:
    read, points = gains([0.08, 0.06, 0.02, 0.0])
    found = turning_size(read, n_arms=8, gains=points, dose_rows=384, smallest_effect=0.04)
    assert found.value == pytest.approx(128 * np.sqrt(2))
    assert 128 < found.low < found.value < found.high < 256


def test_a_gain_above_the_smallest_effect_everywhere_turns_beyond_the_sizes_run() -> None:
    read, points = gains([0.08, 0.07, 0.06])
    found = turning_size(read, n_arms=6, gains=points, dose_rows=384, smallest_effect=0.02)
    assert (found.value, found.low, found.high) == (None, pytest.approx(256), None)


def test_one_size_has_no_turning_and_no_interaction() -> None:
    read, points = gains([0.08])
    assert turning_size(read, n_arms=2, gains=points, dose_rows=1, smallest_effect=0.02).step == "none"
    assert size_interaction(read, n_arms=2, gains=points).p is None
    assert size_interaction(read, n_arms=2, gains=[]).reason


def test_a_gain_that_shrinks_by_four_points_a_doubling_is_found_as_one_contrast() -> None:
    read, points = gains([0.10, 0.06, 0.02])
    assert size_interaction(read, n_arms=6, gains=points).value == pytest.approx(-0.04)


def test_equal_gains_of_two_skills_interact_in_one_of_twenty_studies() -> None:
    rng = np.random.default_rng(4)
    found = [
        group_interaction(
            [GroupGain(name=name, value=float(rng.normal(0.03, 0.01)), standard_error=0.01, df=400) for name in "abc"]
        ).p
        for _ in range(1500)
    ]
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.05, abs=0.02)


def test_two_groups_of_targets_agree_with_welch() -> None:
    from scipy import stats

    rng = np.random.default_rng(1)
    samples = [rng.normal(size=8), rng.normal(1.0, 3.0, size=12)]
    found = group_interaction(
        [
            GroupGain(
                name=str(k), value=float(x.mean()), standard_error=float(x.std(ddof=1) / len(x) ** 0.5), df=len(x) - 1
            )
            for k, x in enumerate(samples)
        ]
    )
    expected = stats.ttest_ind(samples[0], samples[1], equal_var=False)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)


def test_the_mean_gain_of_two_targets_has_half_the_summed_variance() -> None:
    part = GroupGain(name="one", value=0.02, standard_error=0.01, df=10)
    found = mean_gain("skill", [part, replace(part, value=0.04)])
    assert found.value == pytest.approx(0.03)
    assert found.standard_error == pytest.approx(0.01 / np.sqrt(2))
    assert found.df == pytest.approx(20)


def test_a_group_without_variance_is_not_weighed() -> None:
    still = GroupGain(name="still", value=0.0, standard_error=0.0, df=10)
    found = group_interaction([still, replace(still, standard_error=0.01)])
    assert found.p is None
    assert found.reason
