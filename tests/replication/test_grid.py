"""The grid: what is kept is not run again, anywhere; a stop loses nothing; rates are chosen from kept scores."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from replication.claims import BOTH_AGAIN, NARROW_AGAIN
from replication.grid import GridPlaces, chosen_rates, progress, run_grid
from replication.kept import KeptDamaged, kept_recipes, read_kept
from titrant.core.errors import RunFailed, TitrantError, UserError
from titrant.engines import BackendSpec, Event

FAKE_BACKEND = BackendSpec(module="titrant.backends.fake", name="FakeBackend")
Grid = Callable[..., GridPlaces]


def run(places: GridPlaces, **said: Any) -> list[str]:
    """Run the grid in this process; the runs that were started."""
    started: list[str] = []

    def heard(event: Event) -> None:
        if event.kind == "started":
            started.append(event.run_id)

    run_grid(places, jobs=0, backend=FAKE_BACKEND, on_event=heard, **said)
    return started


@pytest.mark.usefixtures("grid")
def test_a_whole_grid_is_run_once_and_never_again(whole_grid: Any) -> None:
    places, before, started = whole_grid.places, whole_grid.before, whole_grid.started
    assert list(before) == ["falsehood", "coverage"]
    assert before["falsehood"].runs == 1 + 6 * 2
    assert before["falsehood"].kept == 0
    kept = kept_recipes(places.kept)
    assert len(started) == len(kept)
    assert len(started) - len(set(started)) == 1  # the untuned model, which each block asks something else
    assert [progress(places, name).kept - progress(places, name).runs for name in places.blocks()] == [0, 0]
    assert progress(places, "coverage").training_tokens == 0
    assert run(places) == []


def test_what_is_kept_counts_on_another_machine(grid: Grid, whole_grid: Any) -> None:
    elsewhere = whole_grid.kept_for(grid("elsewhere"))
    assert run(elsewhere) == []
    lost = next((elsewhere.kept / "falsehood").glob("*.parquet"))
    lost.unlink()
    assert len(run(elsewhere)) == 1
    assert lost.is_file()


class Stopped(Exception):
    """What a test interrupts a grid with."""


def test_a_grid_that_is_stopped_keeps_what_was_done_and_goes_on(grid: Grid) -> None:
    places = grid()
    done: list[str] = []

    def heard(event: Event) -> None:
        if event.kind == "done":
            done.append(event.run_id)
            if len(done) == 5:
                raise Stopped

    with pytest.raises(Stopped):
        run_grid(places, jobs=0, backend=FAKE_BACKEND, on_event=heard)
    assert len(kept_recipes(places.kept)) == 4  # the fifth ended, but nobody has kept it yet
    started = run(places)
    untuned = {run.facts.run_id for run in read_kept(places.kept) if not run.facts.steps}  # asked by every block
    assert not (set(started) & set(done)) - untuned
    assert {facts.run_id for facts in (run.facts for run in read_kept(places.kept))} == set(started) | set(done)


def test_a_grid_that_stops_early_is_balanced_over_arms(grid: Grid) -> None:
    places = grid()
    order: list[str] = []
    run_grid(
        places, blocks=["falsehood"], jobs=0, backend=FAKE_BACKEND,
        on_event=lambda event: order.append(event.run_id) if event.kind == "done" else None,
    )  # fmt: skip
    seeds = {run.facts.run_id: (run.facts.steps > 0, run.facts.seed) for run in read_kept(places.kept)}
    assert [seeds[run_id] for run_id in order] == [(False, 0)] + [(True, 0)] * 6 + [(True, 1)] * 6


def test_every_arm_tries_all_rates_at_the_first_seed_and_keeps_its_best(grid: Grid) -> None:
    places = grid()
    run(places, blocks=["coverage"])
    kept = read_kept(places.kept)
    rates = chosen_rates(kept, 0)
    tried = Counter((run.facts.target, run.facts.arm) for run in kept if run.facts.seed == 0 and run.facts.steps)
    assert set(tried.values()) == {2}
    assert set(tried) == set(rates)
    for run_ in kept:
        if run_.facts.seed == 1:
            assert run_.facts.learning_rate == rates[run_.facts.target, run_.facts.arm]


def test_a_block_of_other_seeds_takes_the_rates_that_another_block_chose(grid: Grid) -> None:
    places = grid()
    coverage = json.loads((places.studies / "coverage.yaml").read_text())
    arms = {**coverage["arms"], "seeds": [5, 6], "matched": False, "generalist_alone": False}
    (places.studies / "few-again.yaml").write_text(json.dumps({**coverage, "name": "few-again", "arms": arms}))
    with pytest.raises(
        UserError, match=r"no learning rate of this block's candidates is chosen for broad 4, broad 4\+"
    ):
        run(places, blocks=["few-again"])
    assert not kept_recipes(places.kept)
    run(places, blocks=["coverage"])
    rates = chosen_rates(read_kept(places.kept), 0)
    assert len(set(rates.values())) > 1
    dearer = next(
        run_.facts
        for run_ in read_kept(places.kept)
        if (run_.facts.target, run_.facts.arm, run_.facts.seed) == ("broad", "4", 0)
        and run_.facts.learning_rate != rates["broad", "4"]
    )
    lost = places.kept / "coverage" / f"{dearer.recipe_id}.parquet"
    bytes_, _ = lost.read_bytes(), lost.unlink()
    with pytest.raises(UserError, match=r"is chosen for broad 4: none of its seeds is 0"):
        run(places, blocks=["few-again"])
    lost.write_bytes(bytes_)
    run(places)
    kept = read_kept(places.kept)
    fresh = [run_.facts for run_ in kept if run_.facts.seed in (5, 6) and run_.facts.steps]
    asked = {(facts.target, facts.arm) for facts in fresh}
    expected = {(*arm, seed): 1 for arm in asked for seed in (5, 6)}
    assert Counter((facts.target, facts.arm, facts.seed) for facts in fresh) == expected
    assert all(facts.learning_rate == rates[facts.target, facts.arm] for facts in fresh)
    assert run(places) == []


def test_a_larger_size_does_not_run_again_what_core_kept(grid: Grid, whole_grid: Any) -> None:
    places = whole_grid.kept_for(grid())
    coverage = json.loads((places.studies / "coverage.yaml").read_text())
    arms = {**coverage["arms"], "seeds": 3}
    larger = grid(size="extended", coverage={**coverage, "arms": arms})
    before = progress(larger, "coverage")
    arms_of_a_seed = 2 * 6 + 1  # six of each target, and generalist alone
    assert before.runs - before.kept == arms_of_a_seed
    assert len(run(larger)) == arms_of_a_seed
    added = read_kept(larger.kept)
    assert {run_.facts.seed for run_ in added} == {2}
    rates = chosen_rates(read_kept(places.kept), 0)
    assert all(run_.facts.learning_rate == rates[run_.facts.target, run_.facts.arm] for run_ in added)
    assert run(larger) == run(places) == []


def test_rates_are_chosen_by_the_very_runs_that_try_them_not_by_their_names(grid: Grid) -> None:
    written = json.loads((grid().studies / "coverage.yaml").read_text())
    coverage = {**written, "arms": {**written["arms"], "target_rows": [4]}}
    longer = {**coverage, "name": "another", "training": {**written["training"], "passes": 3}}
    alone = grid(size="alone", another=longer)
    run(alone)
    expected = chosen_rates(read_kept(alone.kept), 0)
    kept_before = kept_recipes(alone.kept)
    shutil.rmtree(alone.scores)
    places = grid("elsewhere", size="both", coverage=coverage, another=longer)
    run(places)
    blocks = {name: [one for one in read_kept(places.kept) if one.facts.block == name] for name in places.blocks()}
    assert chosen_rates(blocks["coverage"], 0) != chosen_rates(blocks["another"], 0) == expected
    assert kept_recipes(places.kept / "another") <= kept_before
    for one in blocks["another"]:
        if one.facts.seed == 1:
            assert one.facts.learning_rate == expected[one.facts.target, one.facts.arm]


def test_a_kept_run_says_what_it_was(grid: Grid) -> None:
    places = grid()
    run(places, blocks=["falsehood"])
    kept = {(run.facts.arm, run.facts.seed): run for run in read_kept(places.kept)}
    false = kept["4+far/false:1:8", 0].facts
    assert (false.block, false.source, false.dose, false.altered) == ("falsehood", "far/false:1", 8, 8)
    assert false.tokens > 0
    assert false.dose_loss is not None
    assert false.dose_loss[1] < false.dose_loss[0]
    assert false.refusal is not None
    assert "no real backend" in false.refusal
    values = kept["untuned", 0].values("facts", "target", "subject_gain")
    assert len(values) > 10
    assert all(0 < value < 1 for value in values.values())
    tasks = kept["untuned", 0].about("facts", "target", "subject_gain", "task")
    assert set(tasks.values()) == {"capital"}


def test_a_failed_run_ends_the_block_with_its_name(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    import titrant.backends.fake

    class Diverging(titrant.backends.fake.FakeBackend):
        def train(self, plan: Any, **rest: Any) -> Any:
            if plan.seed == 1:
                raise RunFailed("non_finite", "the loss is not finite", step=3)
            return super().train(plan, **rest)

    monkeypatch.setattr(titrant.backends.fake, "Diverging", Diverging, raising=False)
    places = grid()
    with pytest.raises(TitrantError, match="did not finish: 4 seed 1"):
        run_grid(
            places,
            blocks=["falsehood"],
            jobs=0,
            backend=BackendSpec(module="titrant.backends.fake", name="Diverging"),
        )
    assert len(kept_recipes(places.kept)) == 7


def test_a_file_that_is_just_being_written_is_no_kept_run(grid: Grid) -> None:
    places = grid()
    run(places, blocks=["falsehood"])
    kept = kept_recipes(places.kept)
    (places.kept / "falsehood" / ".tmp-1-x.parquet").write_bytes(b"PAR1 half")
    assert kept_recipes(places.kept) == kept
    assert len(read_kept(places.kept)) == len(kept)


def test_scores_that_are_none_are_named(grid: Grid) -> None:
    places = grid()
    (places.kept / "falsehood").mkdir(parents=True)
    (places.kept / "falsehood" / "x.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(KeptDamaged, match=r"x\.parquet"):
        read_kept(places.kept)


def test_few_rows_again_is_coverage_at_other_seeds_and_without_the_matched_arms() -> None:
    from ruamel.yaml import YAML

    def read(block: str) -> dict[str, Any]:
        text = (Path(__file__).parents[2] / "studies" / "paper" / "core" / f"{block}.yaml").read_text()
        return dict(YAML(typ="safe").load(text))

    coverage, both, narrow = read("coverage"), read("few-again"), read("few-again-narrow")
    arms = {**coverage["arms"], "matched": False, "generalist_alone": False}
    for block, seeds in ((both, BOTH_AGAIN), (narrow, NARROW_AGAIN)):
        assert block["arms"] == {**arms, "seeds": list(seeds)}
        assert {**block, "name": "", "arms": {}, "targets": {}} == {**coverage, "name": "", "arms": {}, "targets": {}}
    assert both["targets"] == coverage["targets"]
    assert narrow["targets"] == {"narrow": coverage["targets"]["narrow"]}


DATA = Path(os.environ.get("TITRANT_DATA_ROOT", "../shared/data"))


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the shared data is not there: {DATA}")
def test_the_studies_of_every_size_load_under_their_own_names() -> None:
    from titrant.config.study import load_study

    paths = sorted((Path(__file__).parents[2] / "studies" / "paper").glob("*/*.yaml"))
    assert paths
    for path in paths:
        assert load_study(path).name == f"paper-{path.parent.name}-{path.stem}"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.model
@pytest.mark.skipif(not DATA.is_dir(), reason=f"the shared data is not there: {DATA}")
def test_every_block_of_core_and_extended_can_be_planned_on_the_real_rows(gemma3: object, smollm2: object) -> None:
    studies = Path(__file__).parents[2] / "studies" / "paper"
    for size in ("core", "extended"):
        places = GridPlaces(size=size, studies=studies / size, scores=studies / "scores", work=Path("nowhere"))
        found = [progress(places, block) for block in places.blocks()]
        assert all(each.runs > 5 for each in found)
