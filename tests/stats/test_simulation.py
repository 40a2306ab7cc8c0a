"""Simulated studies are what they say: their true gains, their variances, how their effects hang together."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from titrant.core.errors import ScoresError
from titrant.stats import simulation
from titrant.stats.simulation import WORLDS, World, batches, item_groups, simulate, standard_error, stored_arms

MADE = [kind for kind in WORLDS if kind != "stored"]
STUDIES = 2000


def differences(world: World, dose: int = 0, studies: int = STUDIES) -> np.ndarray:
    """Arm minus baseline, B×S×I, for one dose."""
    scores = simulate(world, studies=studies, seed=3).scores
    return scores[:, world.first_dose + dose] - scores[:, 0]


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("group_items", [None, 5])
def test_gain_and_standard_error_are_the_stated_ones(kind, group_items) -> None:
    world = World(kind=kind, gains=(0.04,), seeds=3, items=30, seeds_share=0.4, group_items=group_items)
    estimates = differences(world).mean((1, 2))
    assert abs(estimates.mean() - 0.04) < 4 * estimates.std() / np.sqrt(STUDIES)
    expected = standard_error(world)
    if kind == "overlapping_draws":
        # Seeds that share rows vary together: of the seeds' 40%, n/N does not average out over the 3 seeds.
        expected *= np.sqrt(0.6 + 0.4 * (1 + 2 * 30 / 90))
    # The spread of a spread has no bound with heavy tails.
    assert estimates.std() == pytest.approx(expected, rel=0.2 if kind == "heavy_tails" else 0.07)


@pytest.mark.parametrize("kind", ["graded", "binary", "logistic_graded", "logistic_binary", "heavy_tails"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_seeds_have_the_share_of_the_variance_that_was_asked_for(kind, share) -> None:
    """What two items of one seed share, without sharing a group, is the seeds' variance."""
    world = World(kind=kind, gains=(0.0,), seeds=2, items=40, seeds_share=share)
    found = differences(world, studies=8_000)
    seeds_part = np.mean(found[..., :20].mean(-1) * found[..., 20:].mean(-1)) - np.mean(
        found[:, 0, :20].mean(-1) * found[:, 1, 20:].mean(-1)
    )
    assert seeds_part / 2 / standard_error(world) ** 2 == pytest.approx(share, abs=0.08)


def test_doses_correlate_as_asked_and_baselines_do_not() -> None:
    world = World(
        kind="graded", gains=(0.0, 0.0), matched_gain=0.0, seeds=5, items=50, seeds_share=0.5, correlation=0.9
    )
    scores = simulate(world, studies=STUDIES, seed=1).scores
    found = np.corrcoef((scores - scores.mean(1, keepdims=True))[:, :, 0].mean(-1).T)
    assert found[2, 3] > 0.5
    assert found[0, 1] < 0.1


def test_the_odd_arm_has_its_multiple_of_the_seed_variance() -> None:
    world = World(kind="graded", gains=(0.0, 0.0), seeds=5, items=50, seeds_share=0.9, odd_variance=4.0)
    first, second = (differences(world, dose).mean(-1).var(axis=-1, ddof=1).mean() for dose in (0, 1))
    assert first / second == pytest.approx((4 + 1) / 2, rel=0.1)


def test_rare_changes_go_one_way_and_are_the_same_at_every_seed() -> None:
    made = simulate(
        World(kind="rare_changes", gains=(0.03, -0.03), matched_gain=0.0, seeds=3, items=100), studies=500, seed=6
    ).scores
    assert (made == made[:, :, :1]).all()
    up, down = made[:, 2] - made[:, 0], made[:, 3] - made[:, 0]
    assert up.min() == 0
    assert down.max() == 0
    assert (made[:, 1] == made[:, 0]).all()


def test_heavy_tails_are_heavy() -> None:
    ordinary, heavy = (
        differences(World(kind=kind, seeds=5, items=20, seeds_share=0.9)).mean(-1).ravel()
        for kind in ("graded", "heavy_tails")
    )
    kurtosis = [float(np.mean(x**4) / np.mean(x**2) ** 2) for x in (ordinary, heavy)]
    assert kurtosis[0] < 3.4 < 4 < kurtosis[1]


def test_over_all_target_rows_the_truth_of_overlapping_draws_is_nearer_than_for_rows_like_these() -> None:
    world = World(kind="overlapping_draws", seeds=10, items=200, seeds_share=0.8)
    made = simulate(world, studies=STUDIES, seed=5)
    estimates = (made.scores[:, 1] - made.scores[:, 0]).mean((1, 2))
    assert np.std(estimates - made.gains_these_rows[:, 0]) < 0.8 * np.std(estimates - made.gains[:, 0])
    assert made.overlap == pytest.approx(1 / 3)


def test_logistic_effects_do_not_add_up() -> None:
    """With the same shift behind the curve, items in the middle move more than items near 0 or 1."""
    made = simulate(World(kind="logistic_graded", gains=(0.1,), seeds=10, items=200), studies=200, seed=2).scores
    base, gain = made[:, 0].mean(1).ravel(), (made[:, 1] - made[:, 0]).mean(1).ravel()
    middle = np.abs(base - 0.5) < 0.1
    edge = np.abs(base - 0.5) > 0.35
    assert gain[middle].mean() > 1.3 * gain[edge].mean()


def test_the_same_seed_gives_the_same_studies_and_another_seed_others() -> None:
    world = World(kind="binary", seeds=2, items=10)
    again = [simulate(world, studies=5, seed=seed).scores for seed in (1, 1, 2)]
    assert np.array_equal(again[0], again[1])
    assert not np.array_equal(again[0], again[2])


def test_batches_hold_all_studies_and_no_study_twice() -> None:
    world = World(kind="graded", seeds=2, items=10)
    found = list(batches(world, studies=10, seed=1, cells=2 * 2 * 10 * 4))
    assert [len(batch.scores) for batch in found] == [4, 4, 2]
    assert len(np.unique(np.concatenate([batch.scores[:, 0, 0, 0] for batch in found]))) == 10


def test_groups_vary_in_size_and_items_of_a_group_are_alike() -> None:
    groups = item_groups(200, 6)
    sizes = np.bincount(groups)
    assert sizes[:-1].min() == 3
    assert sizes.max() == 9
    found = differences(World(kind="graded", seeds=2, items=200, seeds_share=0.0, group_items=6)).mean(1)
    assert np.mean(found[:, 0] * found[:, 1]) > 5 * abs(np.mean(found[:, 0] * found[:, -1]))


@pytest.mark.parametrize("kind", MADE)
def test_scores_are_numbers_and_right_or_wrong_ones_are_0_or_1(kind) -> None:
    scores = simulate(
        World(kind=kind, gains=(0.02, -0.02), matched_gain=0.01, seeds=2, items=20), studies=20, seed=1
    ).scores
    assert scores.shape == (20, 4, 2, 20)
    assert np.isfinite(scores).all()
    if kind.endswith("binary"):
        assert set(np.unique(scores)) == {0.0, 1.0}


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Scores of four arms as a real run would store them; one arm lacks a cell."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    scores = simulate(
        World(kind="binary", gains=(0.1, 0.0, 0.0), seeds=3, items=40, seeds_share=0.5), studies=1, seed=9
    ).scores[0]
    rows = [
        {
            "arm": f"arm{arm}",
            "seed": seed,
            "item": f"i{item}",
            "eval_set": "target",
            "metric": "exact_match",
            "value": float(scores[arm, seed, item]),
        }
        for arm in range(4)
        for seed in range(3)
        for item in range(40)
        if (arm, seed, item) != (3, 0, 0)
    ]
    path = tmp_path / "scores.parquet"
    beside = [{**row, "metric": "graded", "value": 0.3 + 0.4 * row["value"]} for row in rows]
    parquet.write_table(pa.Table.from_pylist([*rows, *beside, {**rows[0], "eval_set": "retention"}]), path)
    return path


def test_stored_scores_are_resampled_with_the_shift_imposed(stored: Path) -> None:
    assert sorted(stored_arms(str(stored))) == ["arm0", "arm1", "arm2"]
    assert set(np.unique(stored_arms(str(stored), metric="graded")["arm0"])) == {0.3, 0.7}
    world = World(kind="stored", stored_path=str(stored), gains=(0.05, -0.05), seeds=3, items=60)
    made = simulate(world, studies=2000, seed=4)
    assert set(np.unique(made.scores)) == {0.0, 1.0}
    for dose, gain in enumerate(world.gains):
        estimates = (made.scores[:, 1 + dose] - made.scores[:, 0]).mean((1, 2))
        assert abs(estimates.mean() - gain) < 4 * estimates.std() / np.sqrt(2000)


REAL = Path(__file__).resolve().parents[2] / "benchmarks" / "data" / "six-seeds.parquet"


def test_scores_of_real_runs_are_kept_and_each_metric_is_a_world_of_its_own() -> None:
    right, graded = (stored_arms(str(REAL), metric=metric) for metric in ("exact_match", "graded"))
    assert sorted(right) == sorted(graded) == ["32", "32+general:32", "32-matched", "general:32"]
    assert {arm.shape for arm in (*right.values(), *graded.values())} == {(6, 270)}
    assert set(np.unique(right["32"])) == {0.0, 1.0}
    assert len(np.unique(graded["32"])) > 500


def test_a_stored_world_draws_the_same_wherever_its_file_lies(tmp_path: Path) -> None:
    copied = tmp_path / REAL.name
    copied.write_bytes(REAL.read_bytes())
    world = World(kind="stored", stored_path=str(REAL), seeds=2, items=20)
    here, there = (simulate(replace(world, stored_path=str(path)), studies=3, seed=1).scores for path in (REAL, copied))
    assert np.array_equal(here, there)


def test_stored_scores_of_one_arm_are_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    path = tmp_path / "scores.parquet"
    rows = [
        {"arm": "alone", "seed": seed, "item": "i", "eval_set": "target", "metric": "exact_match", "value": 1.0}
        for seed in (0, 1)
    ]
    parquet.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(ScoresError, match="two arms"):
        stored_arms(str(path))


def test_the_generator_knows_nothing_of_the_analysis() -> None:
    tree = ast.parse(Path(simulation.__file__).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in names if name.startswith("titrant")} == {"titrant.core.errors", "titrant.core.identity"}


def test_a_share_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="share"):
        simulate(replace(World(), seeds_share=1.0), studies=1, seed=0)
