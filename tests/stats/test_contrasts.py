"""Contrasts: hand-worked cases, agreement with a mixed model, and what must not change a number."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from titrant.core.identity import rng_for
from titrant.stats.contrasts import bounds, contrast_batch, df_of_point, layout, moments, p_values


def crossed(arms: int, seeds: int, items: int, *, name: str, seed_sd: float = 0.05) -> np.ndarray:
    """Graded scores with item, arm×item, arm×seed and error effects."""
    rng = rng_for(0, "tests", name)
    return (
        0.5
        + 0.15 * rng.standard_normal((1, 1, items))
        + 0.08 * rng.standard_normal((arms, 1, items))
        + seed_sd * rng.standard_normal((arms, seeds, 1))
        + 0.1 * rng.standard_normal((arms, seeds, items))
    )


def test_mean_squares_are_those_of_a_two_way_table() -> None:
    scores = crossed(2, 4, 30, name="two-way")
    d = scores[1] - scores[0]
    mean, by_seed, by_item = d.mean(), d.mean(1), d.mean(0)
    ms_item = 4 * ((by_item - mean) ** 2).sum() / 29
    ms_seed = 30 * ((by_seed - mean) ** 2).sum() / 3
    ms_error = ((d - by_seed[:, None] - by_item + mean) ** 2).sum() / (29 * 3)
    spread = contrast_batch(moments(scores, layout(30)), [1], 0)
    found = [float(part[0]) * 120 for part in (spread.item, spread.seed, spread.error)]
    np.testing.assert_allclose(found, [ms_item, ms_seed, ms_error])
    assert float(spread.difference[0]) == pytest.approx(mean)


def test_standard_error_agrees_with_the_mixed_model_of_statsmodels() -> None:
    import pandas as pd
    from statsmodels.regression.mixed_linear_model import MixedLM

    scores = crossed(2, 6, 24, name="mixed-model", seed_sd=0.2)
    d = scores[1] - scores[0]
    frame = pd.DataFrame(
        {"d": d.ravel(), "seed": np.repeat(np.arange(6), 24), "item": np.tile(np.arange(24), 6), "one": 1}
    )
    parts = {"item": "0 + C(item)", "seed": "0 + C(seed)"}
    fitted = MixedLM.from_formula("d ~ 1", frame, groups="one", vc_formula=parts, re_formula="0").fit(reml=True)
    spread = contrast_batch(moments(scores, layout(24)), [1], 0)
    assert float(spread.difference[0]) == pytest.approx(fitted.fe_params["Intercept"], abs=1e-6)
    assert float(spread.standard_error[0]) == pytest.approx(fitted.bse_fe["Intercept"], rel=0.01)


def test_one_seed_is_the_paired_t_test_over_items() -> None:
    scores = crossed(2, 1, 40, name="one-seed")
    d = (scores[1] - scores[0])[0]
    spread = contrast_batch(moments(scores, layout(40)), [1], 0)
    low, high = bounds(spread, 0.025)
    expected = stats.ttest_1samp(d, 0).confidence_interval(0.95)
    np.testing.assert_allclose([low[0], high[0]], [expected.low, expected.high])
    assert float(p_values(spread)[0]) == pytest.approx(stats.ttest_1samp(d, 0).pvalue)
    assert "this run only" in spread.method


def test_one_item_is_the_t_test_over_seeds() -> None:
    scores = crossed(2, 5, 1, name="one-item")
    d = (scores[1] - scores[0])[:, 0]
    spread = contrast_batch(moments(scores, layout(1)), [1], 0)
    assert float(p_values(spread)[0]) == pytest.approx(stats.ttest_1samp(d, 0).pvalue)


@pytest.mark.parametrize("seeds", [2, 4, 5, 10])
@pytest.mark.parametrize("items", [2, 3, 5])
def test_very_few_items_still_cover(items: int, seeds: int) -> None:
    """Two items whose differences agree by luck would otherwise leave the many degrees of freedom of the seeds."""
    rng = rng_for(0, "tests", "few-items", items, seeds)
    scores = 0.06 * rng.standard_normal((3000, 2, 1, items)) + 0.06 * rng.standard_normal((3000, 2, seeds, items))
    low, high = bounds(contrast_batch(moments(scores, layout(items)), [1], 0), 0.025)
    covered = ((low <= 0) & (high >= 0)).mean()
    assert covered >= 0.93 - 3 * np.sqrt(0.05 * 0.95 / 3000)


def test_one_item_at_one_seed_has_no_interval_rather_than_a_number() -> None:
    spread = contrast_batch(moments(np.array([[[0.0]], [[1.0]]]), layout(1)), [1], 0)
    low, high = bounds(spread, 0.025)
    assert np.isnan([low[0], high[0], p_values(spread)[0]]).all()


def test_many_studies_at_once_are_each_study_alone() -> None:
    values = np.stack([crossed(4, 3, 20, name=f"batch-{number}") for number in range(5)])
    plan = layout(20, groups=[str(index // 3) for index in range(20)])
    together = contrast_batch(moments(values, plan), [1, 2, 3], 0)
    for number in range(5):
        alone = contrast_batch(moments(values[number], plan), [1, 2, 3], 0)
        np.testing.assert_allclose(together.standard_error[number], alone.standard_error)
        np.testing.assert_allclose(together.df[number], alone.df)


def test_copies_of_every_item_in_a_group_add_no_information() -> None:
    scores = crossed(3, 5, 25, name="copies")
    once = contrast_batch(moments(scores, layout(25)), [1, 2], 0)
    groups = [str(index // 4) for index in range(100)]
    fourfold = contrast_batch(moments(np.repeat(scores, 4, axis=-1), layout(100, groups=groups)), [1, 2], 0)
    np.testing.assert_allclose(fourfold.standard_error, once.standard_error)
    np.testing.assert_allclose(fourfold.df, once.df)
    naive = contrast_batch(moments(np.repeat(scores, 4, axis=-1), layout(100)), [1, 2], 0)
    assert (naive.standard_error < once.standard_error).all()


def test_groups_of_unequal_size_keep_the_mean_over_items() -> None:
    scores = crossed(2, 3, 12, name="unequal")
    plan = layout(12, groups=["a"] * 6 + ["b"] * 3 + ["c", "d", "e"])
    spread = contrast_batch(moments(scores, plan), [1], 0)
    assert float(spread.difference[0]) == pytest.approx((scores[1] - scores[0]).mean())
    assert 1 <= plan.item_df < plan.n_clusters - 1


def test_macro_over_tasks_is_the_mean_of_task_means_and_its_variance_the_mean_of_theirs() -> None:
    scores = crossed(2, 1, 30, name="tasks")
    tasks = ["small"] * 10 + ["large"] * 20
    d = (scores[1] - scores[0])[0]
    spread = contrast_batch(moments(scores, layout(30, tasks=tasks)), [1], 0)
    assert float(spread.difference[0]) == pytest.approx((d[:10].mean() + d[10:].mean()) / 2)
    expected = (d[:10].var(ddof=1) / 10 + d[10:].var(ddof=1) / 20) / 4
    assert float(spread.item[0]) == pytest.approx(expected)
    by_item = contrast_batch(moments(scores, layout(30, tasks=tasks, task_weights="by_item")), [1], 0)
    assert float(by_item.difference[0]) == pytest.approx(d.mean())


def test_tasks_of_one_item_each_still_have_a_variance() -> None:
    scores = crossed(2, 2, 8, name="lone-tasks")
    spread = contrast_batch(moments(scores, layout(8, tasks=[str(index) for index in range(8)])), [1], 0)
    plain = contrast_batch(moments(scores, layout(8)), [1], 0)
    np.testing.assert_allclose(spread.standard_error, plain.standard_error)


def test_identical_arms_have_an_interval_that_shrinks_with_items() -> None:
    for items, width in ((50, 1 - 0.025 ** (1 / 50)), (1000, 1 - 0.025 ** (1 / 1000))):
        same = np.broadcast_to(crossed(1, 3, items, name="same"), (2, 3, items))
        spread = contrast_batch(moments(same, layout(items)), [1], 0)
        low, high = bounds(spread, 0.025)
        assert bool(spread.constant[0])
        assert float(spread.difference[0]) == pytest.approx(0)
        np.testing.assert_allclose([low[0], high[0]], [-width, width])
        assert float(p_values(spread)[0]) == 1.0


def few_changes(changed: int, *, items: int = 200, seeds: int = 3) -> tuple[float, float, float]:
    """The 90% bounds and p of an arm that turns so many wrong items right at every seed."""
    scores = np.zeros((2, seeds, items))
    scores[1, :, :changed] = 1.0
    spread = contrast_batch(moments(scores, layout(items)), [1], 0)
    low, high = bounds(spread, 0.05)
    return float(low[0]), float(high[0]), float(p_values(spread)[0])


def test_one_change_leaves_more_room_than_none() -> None:
    """The t interval of one change in 200 ends at 0.013, that of none at 0.015; Clopper and Pearson's at 0.0235."""
    assert few_changes(0)[1] == pytest.approx(1 - 0.05 ** (1 / 200))
    highs = [few_changes(changed)[1] for changed in range(8)]
    assert highs == sorted(highs)
    assert highs[1] > stats.beta.ppf(0.95, 2, 199)


def test_a_few_changes_that_all_go_one_way_are_seldom_ruled_out() -> None:
    """Shares of changed items at which the t interval alone is wrong in one study of five."""
    from titrant.stats.simulation import World, simulate

    for gain in (0.0135, 0.025):
        found = simulate(World(kind="rare_changes", gains=(gain,), seeds=2, items=200), studies=1000, seed=1)
        _, high = bounds(contrast_batch(moments(found.scores, layout(200)), [1], 0), 0.05)
        assert (high < gain).mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)


def test_the_p_value_of_rare_changes_is_where_a_bound_touches_zero() -> None:
    scores = np.zeros((2, 3, 200))
    scores[1, :, :9] = 1.0
    spread = contrast_batch(moments(scores, layout(200)), [1], 0)
    p = float(p_values(spread)[0])
    assert 0 < p < 1
    assert float(bounds(spread, p / 2)[0][0]) == pytest.approx(0.0, abs=1e-9)
    assert p > float(stats.binomtest(9, 9, 0.5).pvalue)


def test_changes_that_most_items_show_are_left_to_the_t_interval() -> None:
    scores = crossed(2, 3, 60, name="not-rare")
    assert (contrast_batch(moments(scores, layout(60)), [1], 0).unseen == 0).all()
    scores[1, :, :40] = scores[0, :, :40]
    assert (contrast_batch(moments(scores, layout(60)), [1], 0).unseen > 0).all()
    groups = [str(item // 3) for item in range(60)]
    scores[1, :, ::3] += 0.01
    assert (contrast_batch(moments(scores, layout(60, groups=groups)), [1], 0).unseen == 0).all()


def test_many_changes_that_go_both_ways_add_next_to_nothing_and_those_of_one_way_all_of_it() -> None:
    scores = np.zeros((3, 2, 200))
    scores[0, :, :40] = 1.0
    scores[1, :, 40:80] = 1.0  # 40 lost, 40 won
    scores[2, :, :120] = 1.0  # 80 won
    both, one_way = contrast_batch(moments(scores, layout(200)), [1, 2], 0).unseen
    assert both == pytest.approx(0.7 * 6 / 80)
    assert one_way == pytest.approx(0.7)
    few = scores.copy()
    few[1] = few[0]
    few[1, :, :2], few[1, :, 40:42] = 0.0, 1.0
    assert contrast_batch(moments(few, layout(200)), [1], 0).unseen[0] == pytest.approx(0.7)


def test_all_wrong_against_all_right_is_surely_different_and_stays_within_one() -> None:
    scores = np.stack([np.zeros((3, 40)), np.ones((3, 40))])
    spread = contrast_batch(moments(scores, layout(40)), [1], 0)
    low, high = bounds(spread, 0.025)
    assert float(high[0]) == pytest.approx(1.0)
    assert 0.7 < float(low[0]) < 1
    assert float(p_values(spread)[0]) < 1e-6


def test_a_difference_that_varies_by_seed_alone_is_the_t_test_over_seeds() -> None:
    scores = np.zeros((2, 5, 20))
    scores[1] = np.array([0.1, 0.2, 0.15, 0.3, 0.25])[:, None]
    spread = contrast_batch(moments(scores, layout(20)), [1], 0)
    expected = stats.ttest_1samp([0.1, 0.2, 0.15, 0.3, 0.25], 0).pvalue
    assert float(p_values(spread)[0]) == pytest.approx(expected, rel=1e-3)


def test_overlapping_draws_widen_the_seeds_part_only() -> None:
    scores = crossed(2, 6, 50, name="overlap", seed_sd=0.2)
    found = moments(scores, layout(50))
    these, like_these = contrast_batch(found, [1], 0), contrast_batch(found, [1], 0, overlap=0.5)
    draws = float(these.seed[0] - these.error[0] / 2)  # half of the error stays: see decision 27
    assert float(like_these.seed[0]) == pytest.approx(float(these.error[0] / 2) + 7 * draws)
    assert float(like_these.item[0]) == float(these.item[0])
    with pytest.raises(ValueError, match="overlap"):
        contrast_batch(found, [1], 0, overlap=1.0)


def test_other_arms_lend_one_degree_of_freedom_with_few_seeds_and_none_with_many() -> None:
    few = crossed(4, 2, 400, name="lend", seed_sd=0.3)
    pair, family = moments(few[:2], layout(400)), moments(few, layout(400))
    assert float(contrast_batch(pair, [1], 0).df[0]) == pytest.approx(1, abs=0.05)
    assert float(contrast_batch(family, [1], 0).df[0]) == pytest.approx(2, abs=0.1)
    many = crossed(4, 5, 50, name="lend-many")
    alone = contrast_batch(moments(many[:2], layout(50)), [1], 0)
    among = contrast_batch(moments(many, layout(50)), [1], 0)
    np.testing.assert_allclose(alone.standard_error, among.standard_error)


def test_seeds_that_agree_by_luck_do_not_make_a_difference_certain() -> None:
    scores = np.zeros((2, 2, 4))
    scores[1] = [[1, 1, 0, 0], [0, 0, 1, 1]]
    spread = contrast_batch(moments(scores, layout(4)), [1], 0)
    assert not bool(spread.constant[0])
    assert float(spread.standard_error[0]) > 0.05
    scores[1] = [[1, 1, 0, 0], [1, 0, 1, 0]]
    spread = contrast_batch(moments(scores, layout(4)), [1], 0)
    assert float(spread.seed[0]) == 0.0
    assert float(spread.standard_error[0]) > 0.05


def test_scores_that_do_not_vary_never_give_nan() -> None:
    for value in (0.0, 1.0):
        for seeds, items in ((1, 1), (1, 5), (3, 1), (3, 5)):
            spread = contrast_batch(moments(np.full((3, seeds, items), value), layout(items)), [1, 2], 0)
            assert (spread.difference == 0).all()
            assert np.isfinite(spread.standard_error).all()


def test_degrees_of_freedom_are_found_again_from_their_point() -> None:
    for df in (1.0, 2.5, 7.0, 100.0):
        assert float(df_of_point(np.array([stats.t.ppf(0.975, df)]))[0]) == pytest.approx(df, rel=1e-3)
