"""The short version of `make calibrate`: a few cells at fewer studies, and proof that the bars can be missed."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from titrant.stats.simulation import World

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def cells(monkeypatch):
    """The module of cells; it lies beside the command."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("calibration_cells")
    for name in [name for name in sys.modules if name.startswith("calibrat") or name in ("rivals", "staged_designs")]:
        del sys.modules[name]


def passed(result) -> bool:
    return all(share["passed"] for share in result["shares"].values())


@pytest.mark.parametrize("kind", ["graded", "binary", "heavy_tails"])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_cover(cells, kind, seeds) -> None:
    world = World(kind=kind, gains=(0.03, 0.0, 0.06), seeds=seeds, items=100, seeds_share=0.5, correlation=0.3)
    result = cells.measure(
        cells.Cell(name="short", purpose="coverage", world=world), studies=600, seed=1, method="titrant"
    )
    assert passed(result), result["shares"]
    assert result["median_width"] > 0


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("kind", ["graded", "binary"])
def test_verdicts_are_seldom_wrong(cells, kind, seeds) -> None:
    world = World(kind=kind, seeds=seeds, items=100, seeds_share=0.3, correlation=0.5)
    for cell in cells._truths(world, doses=3, matched=True):
        result = cells.measure(cell, studies=250, seed=1, method="titrant")
        assert passed(result), (cell.name, result["shares"])


def test_best_mean_wins_is_wrong_far_more_often(cells) -> None:
    cell = cells.Cell(name="null", purpose="wrong", world=World(gains=(0.0,) * 3, seeds=3, items=100))
    result = cells.measure(cell, studies=300, seed=1, method="titrant")
    assert result["rivals"]["best mean wins"]["value"] > 0.5
    assert result["shares"]["wrong"]["value"] < 0.06


def test_what_plan_promises_is_kept(cells) -> None:
    world = World(kind="graded", seeds=3, items=100, seeds_share=0.3, gains=(0.0,) * 2, matched_gain=0.0)
    found = list(cells._promised(world))
    assert {cell.wanted for cell in found} == {"mix", "train_alone", "no_difference"}
    for cell in found:
        result = cells.measure(cell, studies=300, seed=1, method="titrant")
        assert passed(result), (cell.name, result["shares"])


def test_a_method_that_always_says_cannot_tell_fails_the_command(cells, tmp_path, capsys) -> None:
    """It is never wrong, so only the demand to be firm catches it."""
    calibrate = importlib.import_module("calibrate")
    arguments = [
        "--only",
        "firm",
        "--match",
        "graded, 2 seeds, 200 items, seeds' share 30%, 1 dose",
        "--studies",
        "200",
    ]
    arguments += ["--jobs", "1", "--folder", str(tmp_path), "--page", str(tmp_path / "page.md")]
    assert calibrate.main([*arguments, "--method", "always-cannot-tell"]) == 1
    assert "3 cells, 3 missed" in capsys.readouterr().out
    assert calibrate.main(arguments) == 0
    page = (tmp_path / "page.md").read_text()
    assert "3 cells, 0 missed" in page
    assert "best mean wins" in page


def test_finished_cells_are_not_measured_again(cells, tmp_path, capsys) -> None:
    calibrate = importlib.import_module("calibrate")
    arguments = ["--only", "coverage", "--match", "graded, 2 seeds, 50 items, seeds' share 0%", "--studies", "50"]
    arguments += ["--jobs", "1", "--folder", str(tmp_path)]
    calibrate.main(arguments)
    first = capsys.readouterr()
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    calibrate.main(arguments)
    second = capsys.readouterr()
    assert first.out == second.out
    assert "[2/2]" in first.err
    assert second.err == ""
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written


def test_a_bar_is_missed_only_beyond_three_monte_carlo_errors(cells) -> None:
    share = cells.Share(value=0.92, error=0.004, low=0.935, high=0.97)
    assert not share.passed
    assert replace(share, error=0.006).passed
    assert not replace(share, value=0.99).passed
    assert replace(share, low=None, high=None).passed is None


def test_a_dose_is_worth_its_gain_over_the_better_baseline(cells) -> None:
    cell = cells.Cell(
        name="steps", purpose="wrong", world=World(gains=(0.05,), matched_gain=0.05), smallest_effect=0.02
    )
    assert cells.wrong_words(cell) == ("mix",)
    assert cells.wrong_words(replace(cell, world=World(gains=(0.05,)))) == ("train_alone", "no_difference")
    assert cells.wrong_words(replace(cell, world=World(gains=(0.01,)))) == ()


def test_the_grid_holds_every_cell_that_is_asked_for(cells) -> None:
    grid = [cell.world for cell in cells.coverage_cells(None)]
    asked = {
        (kind, seeds, items, share, grouped)
        for kind in ("graded", "binary")
        for seeds in (2, 3, 5, 10)
        for items in (50, 200, 1000)
        for share in (0.0, 0.1, 0.5)
        for grouped in (None, 5)
    }
    assert asked <= {(w.kind, w.seeds, w.items, w.seeds_share, w.group_items) for w in grid}
    assert any(world.odd_variance == 4 for world in grid)
    names = [cell.name for cell in cells.coverage_cells(None)]
    assert len(set(names)) == len(names)


def test_stored_scores_of_real_runs_are_a_world_of_their_own(cells) -> None:
    path = str(BENCHMARKS / "data" / "six-seeds.parquet")
    made = [cell for cell in [*cells.coverage_cells(path), *cells.wrong_cells(path)] if cell.world.kind == "stored"]
    assert {(cell.purpose, cell.world.stored_metric) for cell in made} == {
        (purpose, metric) for purpose in ("coverage", "wrong") for metric in ("exact_match", "graded")
    }
    for cell in (made[1], made[-1]):
        result = cells.measure(cell, studies=150, seed=1, method="titrant")
        assert passed(result), (cell.name, result["shares"])


def test_real_runs_are_part_of_the_calibration_unless_left_out(cells) -> None:
    calibrate = importlib.import_module("calibrate")
    with_them, without = (calibrate._options(arguments) for arguments in ([], ["--stored", "none"]))
    assert Path(with_them.stored).is_file()
    assert without.stored is None


def sequential(doses: int, *, matched: bool, text: str):
    """One sequential cell of the plain worlds, by a part of its name."""
    found = importlib.import_module("calibration_sequential")
    world = World(seeds=20, items=100, seeds_share=0.5)
    return found, next(cell for cell in found._truths(world, doses=doses, matched=matched) if text in cell.name)


@pytest.mark.parametrize(
    ("doses", "matched", "text"),
    [
        (1, True, "only steps gain"),
        (4, True, "of 2 errors"),
        pytest.param(1, False, "of 4 errors", marks=pytest.mark.slow),
        pytest.param(12, False, "no gain", marks=pytest.mark.slow),
    ],
)
def test_staged_studies_are_seldom_wrong(cells, doses, matched, text) -> None:
    _, cell = sequential(doses, matched=matched, text=text)
    result = cells.measure(cell, studies=300, seed=1, method="titrant")
    assert passed(result), (cell.name, result["shares"])
    assert 0 < result["runs"] < 0.9


def test_looks_without_correction_fail_the_calibration(cells) -> None:
    _, cell = sequential(1, matched=False, text="of 4 errors")
    result = cells.measure(cell, studies=600, seed=1, method="uncorrected-looks")
    assert not passed(result)
    assert result["shares"]["wrong"]["value"] > 0.1
    assert result["shares"]["wrong"]["value"] == result["rivals"]["uncorrected looks"]["value"]


@pytest.mark.slow
def test_a_staged_study_costs_less_than_the_grid_and_is_nearly_as_often_right(cells, tmp_path) -> None:
    designs = importlib.import_module("staged_designs")
    assert designs.main(["--studies", "150", "--out", str(tmp_path / "designs.json")]) == 0
    rows = json.loads((tmp_path / "designs.json").read_text())["rows"]
    found = {(row["setting"], row["world"], row["design"]): row for row in rows}
    worlds = [world for world in dict.fromkeys(row["world"] for row in rows) if "exactly" not in world]
    for setting, most, mean in (("all variance", 0.62, 0.37), ("a quarter of the variance", 0.35, 0.25)):
        staged = [found[setting, world, "staged"] for world in worlds]
        assert max(row["cost_of_one_size"] for row in staged) < most
        assert sum(row["cost_of_one_size"] for row in staged) / len(staged) < mean
        for world in worlds:
            grid, ours = (found[setting, world, design] for design in ("fixed grid of 20 seeds", "staged"))
            assert ours["right"] >= grid["right"] - 0.06 - 3 * 0.04
            assert ours["wrong"] <= 0.05
    assert found["all variance", "no effect", "successive halving by mean"]["wrong"] > 0.3


def test_the_sequential_grid_holds_every_edge_that_is_asked_for(cells) -> None:
    found = importlib.import_module("calibration_sequential")
    path = str(BENCHMARKS / "data" / "six-seeds.parquet")
    grid = list(found.sequential_cells(path))
    names = [cell.name for cell in grid]
    assert len(set(names)) == len(names)
    assert {len(cell.world.gains) for cell in grid} >= {1, 2, 3, 4, 12}
    assert {cell.world.correlation for cell in grid} >= {0.0, 0.3, 0.5, 0.9}
    kinds = {cell.world.kind for cell in grid}
    assert kinds >= {"graded", "binary", "heavy_tails", "overlapping_draws", "rare_changes", "stored"}
    assert any(cell.world.group_items for cell in grid)
    assert any(dict(cell.details).get("failed") for cell in grid)
    assert any(cell.estimand == "these rows" for cell in grid)
    for text in ("only steps gain", "exactly the smallest effect", "smallest effect of 0.05 errors"):
        assert any(text in name for name in names)


def test_rare_changes_do_not_make_a_verdict_firm(cells) -> None:
    for items in (50, 200):
        result = cells.measure(cells._rare(items, 5), studies=1000, seed=1, method="titrant")
        assert passed(result), result["shares"]
        assert result["rivals"]["best mean wins"]["value"] < 0.05
