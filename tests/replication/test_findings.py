"""Findings from kept scores: planted effects are found, and nothing is said that the checks do not carry."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from replication.claims import AGAIN, CLAIMS, FACTS, FAR, FEW_AGAIN, NEAR, Claim, Effect, Found, Runs, judge
from replication.extended import BLOCKS, RUNGS, read_block
from replication.figures import figures
from replication.findings import page, write_findings
from replication.grid import GridPlaces
from replication.kept import REAL_BACKENDS, KeptRun, Origin, RunFacts
from replication.names import kept_revisions
from titrant.core.identity import rng_for

NOW = kept_revisions(writes=True)
ORIGIN = Origin(
    backend=REAL_BACKENDS[0], model="toy", model_origin="here", fingerprint="f" * 32, base_loss=3.0, uniform_loss=12.5
)
Mean = Callable[[str, str], float]
ITEMS = 60


def kept(target: str, arm: str, seed: int, mean: float, *, spread: float = 0.01, origin: Origin = ORIGIN) -> KeptRun:
    """A run whose items score around `mean`; an item is as hard in every run, and seeds differ by a little."""
    metrics = ("subject_gain", "accuracy") if target == "facts" else ("graded",)
    hard = rng_for(0, "item", target).normal(0, 0.08, ITEMS)
    noise = rng_for(seed, "noise", target, arm).normal(0, spread, ITEMS) + rng_for(seed, "run", target, arm).normal(
        0, spread / 4
    )
    values = np.clip(mean + hard + noise, 0.0, 1.0)
    lines = [(metric, item) for metric in metrics for item in range(ITEMS)]
    columns: dict[str, Any] = {
        "target": [target] * len(lines),
        "eval_set": ["target"] * len(lines),
        "task": ["task"] * len(lines),
        "item": [f"{target}{item}" for _, item in lines],
        "group": [None] * len(lines),
        "metric": [metric for metric, _ in lines],
        "value": np.array(
            [values[item] if metric != "accuracy" else float(values[item] > 0.6) for metric, item in lines]
        ),
    }
    rows, _, _ = arm.partition("+")
    facts = RunFacts(
        size="core", block="block", recipe_id=f"{target}{arm}{seed}", run_id="r", arm=arm,
        kind="untuned" if arm == "untuned" else "alone", target="" if arm == "untuned" else target,
        target_rows=int(rows.split("-")[0]) if rows[:1].isdigit() else 0, source=arm.partition("+")[2] or None, dose=0,
        altered=None, seed=seed, learning_rate=3e-5, passes=2, steps=0 if arm == "untuned" else 9, tokens=1000,
        loss_tokens=100, draws=(), numerics={"device": "cpu", "dtype": "bf16"}, revisions=dict(NOW),
        origin=origin, training_seconds=60.0, answering_seconds=60.0,
        dose_loss=(3.0, 1.0) if "+" in arm else None,
    )  # fmt: skip
    return KeptRun(facts, columns)


def grid_of(mean: Mean, *, claims: Sequence[Claim] = CLAIMS, **how: Any) -> tuple[KeptRun, ...]:
    """All runs that these claims need, at the means that `mean(target, arm)` says."""

    def runs() -> Iterator[KeptRun]:
        cells: dict[tuple[str, str], set[int]] = {}
        for claim in claims:
            for cell in claim.cells:
                cells.setdefault((cell.target, cell.arm), set()).update(cell.seeds)
        for target in dict.fromkeys(target for target, _ in cells):
            yield kept(target, "untuned", 0, mean(target, "untuned"), **how)
        for (target, arm), seeds in cells.items():
            for seed in sorted(seeds):
                yield kept(target, arm, seed, mean(target, arm), **how)

    return tuple(runs())


def helpful(target: str, arm: str) -> float:
    """The dose helps the broad, the few-rowed and the reasoning; falsehoods hurt, near ones most."""
    if target == "facts":
        return {FAR[100]: 0.60, FAR[50]: 0.65, NEAR[100]: 0.50}.get(arm, 0.70)
    if arm == "untuned":
        return 0.30
    size = int(arm.split("+")[0].split("-")[0])
    gains = {("broad", 64): 0.16, ("broad", 256): 0.08, ("narrow", 64): 0.06, ("narrow", 256): 0.0}
    return 0.45 + (gains.get((target, size), 0.07) if "general" in arm else 0.0)


def found_of(runs: Sequence[KeptRun], number: int) -> Found:
    return judge(next(claim for claim in CLAIMS if claim.number == number), Runs(runs))


def test_planted_effects_are_found_and_agree() -> None:
    runs = grid_of(helpful)
    planted = {1: 0.09, 2: 0.07, 3: 0.07, 4: -0.45, 5: -0.45, 6: 0.07}
    for number, value in planted.items():
        found = found_of(runs, number)
        assert all(check.passed for check in found.checks), found.checks
        assert found.outcome == "agrees"
        assert found.effect is not None
        assert found.effect.value == pytest.approx(value, abs=0.05 if number in FACTS else 0.01)
        assert found.kept == found.needed


def test_no_effect_where_one_of_the_stated_size_would_show_disagrees() -> None:
    flat = grid_of(
        lambda target, arm: 0.55 if arm == NEAR[100] else 0.3 if arm == "untuned" and target != "facts" else 0.66
    )
    for number in (1, 2, 3, 4, 5, 6):
        found = found_of(flat, number)
        assert found.effect is not None
        assert abs(found.effect.value) < (0.05 if number in FACTS else 0.01)
        assert found.outcome == "disagrees"


def test_an_effect_that_the_design_could_not_detect_is_not_tested() -> None:
    noisy = grid_of(helpful, spread=0.4)
    found = found_of(noisy, 3)
    assert found.effect is not None
    assert found.effect.detectable > found.claim.delta
    assert found.outcome == "not tested"


def test_missing_runs_leave_a_claim_untested_and_its_interim_effect_unjudged() -> None:
    runs = grid_of(helpful)
    some = [run for run in runs if (run.facts.arm, run.facts.seed) != (FAR[100], 4)]
    found = found_of(some, 4)
    assert (found.kept, found.needed, found.outcome) == (29, 30, "not tested")
    assert found.effect is not None
    assert found.effect.seeds == (4, 4)
    assert found_of([], 4).effect is None
    assert found_of([], 4).outcome == "not tested"


def test_the_claim_that_was_tested_again_is_judged_by_its_own_seeds_alone() -> None:
    def other_seeds(runs: Sequence[KeptRun], seeds: Sequence[int], arm: str, mean: float) -> list[KeptRun]:
        return [
            kept("facts", arm, run.facts.seed, mean) if run.facts.arm == arm and run.facts.seed in seeds else run
            for run in runs
        ]

    runs = other_seeds(grid_of(helpful), AGAIN, FAR[100], helpful("facts", FAR[0]))
    first, again = found_of(runs, 4), found_of(runs, 5)
    assert first.effect is not None
    assert again.effect is not None
    assert first.effect.value == pytest.approx(-0.45, abs=0.05)
    assert again.effect.value == pytest.approx(0, abs=0.05)
    assert (first.outcome, again.outcome) == ("agrees", "disagrees")
    assert (first.effect.seeds, again.effect.seeds) == ((5, 5), (8, 8))
    no_control = other_seeds(runs, AGAIN, NEAR[100], helpful("facts", NEAR[0]))
    assert [found_of(no_control, number).checks[2].passed for number in (4, 5)] == [True, False]


def test_few_rows_again_is_judged_by_its_own_seeds_of_which_targets_have_different_numbers() -> None:
    def without_gain(run: KeptRun) -> KeptRun:
        facts = run.facts
        fresh = facts.seed in FEW_AGAIN["narrow"] and facts.arm == "64+general:384"
        return kept(facts.target, facts.arm, facts.seed, helpful(facts.target, "256+general:384")) if fresh else run

    runs = [without_gain(run) for run in grid_of(helpful)]
    first, again = found_of(runs, 2), found_of(runs, 6)
    assert first.effect is not None
    assert again.effect is not None
    assert first.effect.value == pytest.approx(0.07, abs=0.01)
    assert again.effect.value == pytest.approx(0, abs=0.01)
    assert (first.outcome, again.outcome) == ("agrees", "disagrees")
    assert (first.effect.seeds, again.effect.seeds) == ((3, 3), (3, 10))
    assert (again.kept, again.needed) == (52, 52)
    text = page({"core": runs})
    assert "from 3 to 10 seeds" in text
    assert "from 3 seeds" in text
    assert "six at broad and thirteen at narrow" in text
    fewer = [run for run in runs if (run.facts.target, run.facts.seed) != ("broad", 6)]
    assert "six at broad and thirteen at narrow" not in page({"core": fewer})
    later = [*runs, *(kept("broad", arm, 9, 0.9) for arm in ("64", "64+general:384", "256", "256+general:384"))]
    assert found_of(later, 6).effect == again.effect


def test_a_claim_is_not_tested_without_its_positive_control() -> None:
    def no_control(target: str, arm: str) -> float:
        return helpful(target, NEAR[0] if arm == NEAR[100] else arm)

    found = found_of(grid_of(no_control), 4)
    assert [check.passed for check in found.checks] == [True, True, False, True]
    assert found.outcome == "not tested"


def test_the_control_is_the_largest_baseline_that_a_claim_runs_matched_where_it_can() -> None:
    def untaught(arm: str) -> list[bool | None]:
        runs = grid_of(lambda target, name: helpful(target, "untuned" if name == arm else name))
        return [found_of(runs, number).checks[2].passed for number in (1, 2, 3, 6)]

    assert untaught("256-matched") == [False, False, True, True]
    assert untaught("128-matched") == [True, True, False, True]
    assert untaught("256") == [True, True, True, False]


@pytest.mark.parametrize("mean", [-0.3, 1.3])
def test_a_claim_is_not_tested_on_floor_or_ceiling(mean: float) -> None:
    found = found_of(grid_of(lambda target, arm: mean if arm == "untuned" else helpful(target, arm)), 3)
    assert not found.checks[1].passed
    assert "boolq untuned" in found.checks[1].words
    assert found.outcome == "not tested"
    floor = found_of(grid_of(lambda target, arm: 0.3 if arm == "untuned" else helpful(target, arm)), 4)
    assert not floor.checks[1].passed  # hardly a choice is right


@pytest.mark.parametrize(
    ("origin", "reason"),
    [
        (replace(ORIGIN, backend="titrant.backends.fake.FakeBackend"), "no real backend"),
        (replace(ORIGIN, base_loss=12.4), "not pretrained"),
        (replace(ORIGIN, base_loss=float("nan")), "not pretrained"),
    ],
)
def test_runs_of_a_fake_or_of_random_weights_are_refused(origin: Origin, reason: str) -> None:
    runs = grid_of(helpful, origin=origin)
    assert reason in str(runs[0].facts.refusal)
    for number in (1, 2, 3, 4, 5, 6):
        assert found_of(runs, number).effect is None
    written = page({"core": runs})
    assert written.count("not tested") >= 8
    assert f"{len(runs)} runs are refused" in written
    assert reason in written


def test_runs_of_another_version_are_left_out_and_counted() -> None:
    runs = grid_of(helpful, claims=CLAIMS[3:5])
    old = tuple(KeptRun(replace(run.facts, revisions={**NOW, "training": 0}), run.columns) for run in runs)
    written = page({"core": old})
    assert "0 of 30 runs" in written
    assert "0 of 40 runs" in written
    assert f"| core | block | 0 | 0 | {len(old)} | 0 | 0 |" in written


def test_the_rate_that_validation_chose_is_the_one_that_is_judged() -> None:
    def tried(rate: float, validation: float, mean: float) -> KeptRun:
        run = kept("boolq", "128", 0, mean)
        columns = {name: [*values, *values] for name, values in run.columns.items()}
        columns["eval_set"] = ["target"] * ITEMS + ["validation"] * ITEMS
        columns["value"] = np.array([*run.columns["value"], *[validation] * ITEMS])
        return KeptRun(replace(run.facts, learning_rate=rate), columns)

    runs = Runs([tried(1e-5, 0.4, 0.2), tried(3e-5, 0.6, 0.8), tried(9e-5, 0.5, 0.5)])
    chosen = runs.run("boolq", "128", 0)
    assert chosen is not None
    assert chosen.facts.learning_rate == 3e-5


def test_the_untuned_model_is_the_one_that_was_asked_what_the_arms_were_asked() -> None:
    def untuned(block: str, items: str) -> KeptRun:
        run = kept("narrow", "untuned", 0, 0.3)
        columns = {**run.columns, "item": [f"{items}{item}" for item in run.columns["item"]]}
        return KeptRun(replace(run.facts, block=block, recipe_id=block), columns)

    runs = Runs([untuned("warmup", "other "), untuned("coverage", "")])
    found = runs.run("narrow", "untuned", 2)
    assert found is not None
    assert found.facts.block == "coverage"


def test_the_page_says_in_words_what_every_claim_comes_to() -> None:
    text = page({"core": grid_of(helpful, spread=0.4)})
    assert "- Claim 3 is not judged. The stated effect is detectable? No: " in text
    assert "0.05 was stated.\n" in text
    full = grid_of(helpful)
    some = [run for run in full if (run.facts.arm, run.facts.seed) != ("64+general:384", 1)]
    text = page({"core": some})
    assert "- Claim 2 is not judged. All runs? No: 34 of 36 runs are kept; claim 6 puts it again.\n" in text
    assert "- Claim 6 **holds** at this scale: the gain of the same dose is larger at 64 target rows than" in text

    def flat_mean(target: str, arm: str) -> float:
        return 0.3 if arm == "untuned" and target != "facts" else 0.66

    flat = grid_of(flat_mean)
    assert "- Claim 1 **does not show as stated** at this scale: an effect of +0.05 is ruled out, one of +0.0" in page(
        {"core": flat}
    )
    worse = grid_of(lambda target, arm: 0.5 if target == "broad" and "+" in arm else flat_mean(target, arm))
    assert "+0.05 is ruled out, any in that direction too. Effect: -0.1" in page({"core": worse})


def extended(block: str, target: str, arm: str, seeds: Sequence[int], mean: float) -> list[KeptRun]:
    """Runs of a block of the extended size."""
    runs = (kept(target, arm, seed, mean) for seed in seeds)
    return [
        KeptRun(
            replace(run.facts, size="extended", block=block, recipe_id=f"{block}{run.facts.recipe_id}"), run.columns
        )
        for run in runs
    ]


def reading(block: str, runs: Sequence[KeptRun], core: Sequence[KeptRun]) -> dict[str, Effect]:
    return read_block(next(each for each in BLOCKS if each.name == block), core, runs)


def test_a_block_that_grows_from_core_is_read_with_core_s_runs() -> None:
    core = grid_of(helpful)
    quarters = [
        *extended("falsehood", "facts", "128+far/false:0.25:384", range(10), 0.67),
        *extended("falsehood", "facts", "128+far/false:0.75:384", range(10), 0.62),
    ]
    half = extended("falsehood", "facts", FAR[50], range(5, 10), helpful("facts", FAR[50]))
    found = reading("falsehood", [*quarters, *half], core)
    shares = [found[f"far facts, {share}% false"] for share in (25, 50, 75, 100)]
    assert [effect.seeds for effect in shares] == [(10, 10)] * 4
    assert sorted((effect.value for effect in shares), reverse=True) == [effect.value for effect in shares]
    assert shares[-1].value == pytest.approx(-0.45, abs=0.05)
    line = found["the line through the five shares, from none false to all"]
    assert line.value == pytest.approx(0.8 * shares[3].value + 0.4 * (shares[2].value - shares[0].value))
    assert reading("falsehood", quarters, core)["far facts, 50% false"].seeds == (5, 5)
    assert reading("falsehood", [], core) == {}
    text = page({"core": core, "extended": [*quarters, *half]})
    words = (
        f"a quarter is false costs {shares[0].value:+.2f} nats against the same facts told truly, one that is all false"
    )
    assert words in text
    assert "Not there yet: loss-weight, remedy, " in text
    few = extended("loss-weight", "broad", "64", (0,), 0.4)
    assert "Not there yet: loss-weight (1 run), remedy, " in page({"core": core, "extended": [*quarters, *few]})
    harmless = extended("falsehood", "facts", "128+far/false:0.25:384", range(10), helpful("facts", FAR[0]))
    assert "a quarter is false costs" not in page({"core": core, "extended": harmless})


def test_a_block_that_only_has_core_s_names_is_compared_with_core_and_never_taken_for_it() -> None:
    core = grid_of(helpful)
    own = [
        run
        for target, gained in (("broad", 0.2), ("narrow", 0.0))
        for arm, mean in (("64", 0.4), ("64-matched", 0.45), ("64+general:384", 0.4 + gained))
        for run in extended("loss-weight", target, arm, (0, 1, 2), mean)
    ]
    found = reading("loss-weight", own, core)
    at = {name: effect.value for name, effect in found.items()}
    assert at["gain of dose 384, broad"] == pytest.approx(0.2, abs=0.01)
    assert at["gain of dose 384, both"] == pytest.approx(0.1, abs=0.01)
    assert at["gain over the matched baseline, narrow"] == pytest.approx(-0.05, abs=0.01)
    assert at["gain, less that with rows weighing alike, broad"] == pytest.approx(0.2 - 0.16, abs=0.01)
    assert at["no dose, less no dose with rows weighing alike, broad"] == pytest.approx(-0.05, abs=0.01)
    before, after = page({"core": core}), page({"core": core, "extended": own})
    assert "## Extended" not in before
    assert "### Loss-weight" in after
    assert [line for line in before.splitlines() if line.startswith("| 1 |")] == [
        line for line in after.splitlines() if line.startswith("| 1 |")
    ]


def test_every_block_of_the_extended_size_is_read_in_the_order_in_which_it_runs() -> None:
    studies = Path(__file__).parents[2] / "studies" / "paper" / "extended"
    places = GridPlaces(size="extended", studies=studies, scores=Path("nowhere"), work=Path("nowhere"))
    assert [block.name for block in BLOCKS] == places.blocks()


def test_targets_that_share_items_are_not_counted_as_independent() -> None:
    runs = grid_of(helpful)
    weights = {"64+general:384": 1.0, "64": -1.0}
    alone = Runs(runs)
    for target in ("broad", "narrow"):
        assert alone.joint({target: weights}, seeds=(0, 1, 2)) == alone.effect({target: weights}, seeds=(0, 1, 2))
    both = dict.fromkeys(("broad", "narrow"), weights)
    joint, apart = alone.joint(both, seeds=(0, 1, 2)), alone.effect(both, seeds=(0, 1, 2))
    assert joint is not None
    assert apart is not None
    assert joint.value == pytest.approx(apart.value)
    assert joint.items == apart.items

    def as_narrow(run: KeptRun) -> KeptRun:
        columns = {**run.columns, "target": ["narrow"] * len(run.columns["target"])}
        return KeptRun(replace(run.facts, target="narrow"), columns)

    broad = [run for run in runs if run.facts.target == "broad"]
    twice = Runs([*broad, *map(as_narrow, broad)])
    once, joint, apart = (
        twice.joint({"broad": weights}, seeds=(0, 1, 2)), twice.joint(both, seeds=(0, 1, 2)),
        twice.effect(both, seeds=(0, 1, 2)),
    )  # fmt: skip
    assert once is not None
    assert joint is not None
    assert apart is not None
    assert joint.value == pytest.approx(once.value)
    assert joint.items == once.items
    assert joint.detectable == pytest.approx(once.detectable, rel=0.05)
    assert apart.detectable < 0.8 * once.detectable


def test_generalist_alone_of_two_blocks_is_chosen_for_apart() -> None:
    def alone(block: str, target: str, rate: float, validation: float, seed: int = 0) -> KeptRun:
        run = kept(target, "general:384", seed, 0.5)
        columns = {name: [*values, *values] for name, values in run.columns.items()}
        columns["eval_set"] = ["target"] * ITEMS + ["validation"] * ITEMS
        columns["value"] = np.array([*run.columns["value"], *[validation] * ITEMS])
        facts = replace(run.facts, block=block, target="", learning_rate=rate, recipe_id=f"{block}{rate}{seed}")
        return KeptRun(facts, columns)

    runs = Runs([
        alone("coverage", "broad", 1e-5, 0.9), alone("coverage", "broad", 3e-5, 0.1),
        alone("skill", "boolq", 1e-5, 0.1), alone("skill", "boolq", 3e-5, 0.9),
        alone("coverage", "broad", 1e-5, 0.5, seed=1), alone("skill", "boolq", 3e-5, 0.5, seed=1),
    ])  # fmt: skip
    for seed in (0, 1):
        found = {target: runs.run(target, "general:384", seed) for target in ("broad", "boolq")}
        rates = {target: None if run is None else run.facts.learning_rate for target, run in found.items()}
        assert rates == {"broad": 1e-5, "boolq": 3e-5}


def test_a_run_that_two_extended_blocks_have_serves_both() -> None:
    core = grid_of(helpful)
    more = [
        *extended("format", "narrow", "64+general/shuffled:384", range(5), 0.5),
        *extended("coverage", "narrow", "64", (3, 4), 0.45),
        *extended("coverage", "broad", "64", (3, 4), 0.99),  # of another ladder: other items
        *extended("format", "broad", "64+general/shuffled:384", range(5), 0.5),
    ]
    found = reading("format", more, core)
    assert found["gain, narrow"].seeds == (5, 5)
    assert found["gain, broad"].seeds == (3, 3)
    assert found["gain, narrow"].value == pytest.approx(0.05, abs=0.01)


def test_the_line_through_the_rungs_goes_from_the_first_to_the_last() -> None:
    gains = dict(zip(RUNGS, (0.0, 0.03, 0.06, 0.09), strict=True))
    runs = [
        run
        for target, gained in gains.items()
        for size in (64, 256)
        for arm, mean in ((f"{size}", 0.4), (f"{size}+general:96", 0.4 + gained))
        for run in extended("coverage", target, arm, range(5), mean)
    ]
    found = reading("coverage", runs, ())
    assert found["gain of dose 96, the line through the rungs"].value == pytest.approx(0.09, abs=0.01)
    assert "gain of dose 384, the line through the rungs" not in found


def test_answers_of_people_and_of_a_model_are_compared_at_equal_tokens_too() -> None:
    runs = [
        run
        for target in ("broad", "narrow")
        for arm, mean in (
            ("64+people:384", 0.5), ("64+model:384", 0.4), ("64+people:319", 0.5), ("64+model:317", 0.45),
            ("64+gpt4:64", 0.5), ("64+older:64", 0.52),
        )
        for run in extended("sources", target, arm, (0, 1, 2), mean)
    ]  # fmt: skip
    at = {name: effect.value for name, effect in reading("sources", runs, grid_of(helpful)).items()}
    assert at["people's answers less a model's, 384 rows, both"] == pytest.approx(0.1, abs=0.01)
    assert at["people's answers less a model's, at most 20,000 tokens, both"] == pytest.approx(0.05, abs=0.01)
    assert at["GPT-4's answers less an older model's, 64 rows, broad"] == pytest.approx(-0.02, abs=0.01)


def test_the_instructed_model_s_control_is_its_own_untuned_model() -> None:
    core = grid_of(helpful)
    runs = [run for target in ("broad", "narrow") for run in extended("instructed", target, "64", (0, 1, 2), 0.6)] + [
        run for target in ("broad", "narrow") for run in extended("instructed", target, "untuned", (0,), 0.4)
    ]
    found = reading("instructed", runs, core)
    assert found["training on 64 rows against untuned (the control), both"].value == pytest.approx(0.2, abs=0.01)


def test_a_page_of_nothing_says_not_tested_of_every_claim(tmp_path: Path) -> None:
    (written,) = write_findings(tmp_path / "scores", tmp_path / "docs" / "findings.md")
    text = written.read_text()
    assert [text.count(f"| {claim.number} | {claim.title} | not tested |") for claim in CLAIMS] == [1] * 6
    assert "None yet." in text
    assert "refutes the published result" in text
    assert "![" not in text


def test_a_full_page_has_its_figures_and_stands_by_the_published_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = grid_of(helpful)
    monkeypatch.setattr("replication.findings.read_kept", lambda folder: runs if folder.name == "core" else ())
    paths = write_findings(tmp_path / "scores", tmp_path / "docs" / "findings.md")
    assert [path.name for path in paths] == ["findings.md", "size.svg", "skill.svg", "falsehood.svg"]
    for path in paths[1:]:
        assert path.read_text().startswith("<svg")
    text = paths[0].read_text()
    assert text.count("**agrees**") >= 8
    assert "Were the doses fitted?" in text
    assert "another scale" in text
    assert (tmp_path / "docs" / "findings.md").read_text() == text
    before = paths[0].read_bytes()
    assert write_findings(tmp_path / "scores", tmp_path / "docs" / "findings.md")[0].read_bytes() == before


def places_of(svg: str, mark: str) -> dict[str, float]:
    """Where points stand across, by the value that their label begins with and the one it ends with."""
    found = re.findall(
        rf'aria-label="{mark}: ([^;]+);[^"]*: ([^";]+)"[^>]*"point" transform="translate\(([\d.]+),', svg
    )
    return {f"{x} {by}": float(place) for x, by, place in found}


def test_points_stand_over_their_name_and_beside_each_other_only_where_two_share_one() -> None:
    drawn = figures(grid_of(helpful))
    skill = places_of(drawn["skill"], "target")
    assert len(skill) == 4  # the targets of claim 3
    for name, place in skill.items():
        tick = re.search(rf'translate\(([\d.]+),15\)"[^>]*>{name.split()[0]}<', drawn["skill"])
        assert tick is not None
        assert place == pytest.approx(float(tick[1]), abs=1)
    falsehood = places_of(drawn["falsehood"], "false facts in the dose")
    assert len(falsehood) == 5
    assert len(set(falsehood.values())) == 5
