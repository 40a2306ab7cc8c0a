"""The worth of doses from a table of scores: each reading where the design holds it, and a reason where not."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from titrant.core.identity import rng_for
from titrant.stats.contrasts import contrast_batch, layout, moments
from titrant.stats.evidence import families
from titrant.stats.exchange import GainAt, SizedArm, exchange_rate, reader, size_interaction
from titrant.stats.table import ScoreTable, tables_from_columns
from titrant.stats.worth import Worth, gain_of, worth_json, worth_of

SIZES = (64, 128, 256, 512)
DOSES = (0, 50, 100, 200)


def score_of(rows: float) -> float:
    return 0.9 - 1.2 * rows**-0.35


def columns(
    sizes: tuple[int, ...] = SIZES,
    doses: tuple[int, ...] = DOSES,
    *,
    worth: float = 0.5,
    noise: float = 0.03,
    seeds: int = 5,
    items: int = 60,
    matched: float | None = None,
) -> dict[str, list[Any]]:
    """Graded scores of a grid: a dose is worth so many target rows a row; `matched`: steps alone are worth as many."""
    rng = rng_for(0, "tests", "worth")
    item = 0.05 * rng.standard_normal(items)
    found: dict[str, list[Any]] = {
        name: [] for name in ("arm", "seed", "item", "score", "target_rows", "dose", "source", "kind")
    }
    arms = [(f"{n}+{g}", n, g, "dosed" if g else "alone", score_of(n + worth * g)) for n in sizes for g in doses]
    if matched is not None:
        arms += [(f"{n}-matched", n, 0, "matched", score_of(n + matched)) for n in sizes]
    for name, n, g, kind, mean in arms:
        for seed in range(seeds):
            values = mean + item + noise * rng.standard_normal(items) + 0.1 * noise * rng.standard_normal()
            found["arm"] += [name] * items
            found["seed"] += [seed] * items
            found["item"] += [f"i{number}" for number in range(items)]
            found["score"] += np.clip(values, 0, 1).tolist()
            found["target_rows"] += [n] * items
            found["dose"] += [g] * items
            found["source"] += ["general" if g else None] * items
            found["kind"] += [kind] * items
    return found


def read(said: dict[str, list[Any]], delta: float = 0.02) -> tuple[ScoreTable, Worth]:
    table = tables_from_columns(said)["target"]
    return table, worth_of(table, families(table), smallest_effect=delta)


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


def test_every_dose_at_every_size_has_its_rate_and_it_is_that_of_the_reading_by_hand() -> None:
    table, worth = read(columns())
    assert [(found.rate.target_rows, found.rate.dose_rows) for found in worth.rates] == [
        (n, g) for g in (50, 100, 200) for n in SIZES
    ]
    names = [f"{n}+0" for n in SIZES] + ["128+100"]
    order = [table.arm_index(name) for name in names]
    found = moments(table.values_ASI[order], layout(60))
    by_hand = exchange_rate(
        reader(found),
        n_arms=5,
        curve=[SizedArm(target_rows=n, arm=place) for place, n in enumerate(SIZES)],
        dosed=SizedArm(target_rows=128, arm=4),
        dose_rows=100,
    )
    mine = next(found.rate for found in worth.rates if found.arm == "128+100")
    assert mine.value == pytest.approx(by_hand.value)
    assert (mine.low, mine.high) == (pytest.approx(by_hand.low), pytest.approx(by_hand.high))
    assert mine.low < 50 < mine.high
    assert mine.step == "interpolated"


def test_the_matched_curve_is_read_first_and_the_plain_one_beside_it() -> None:
    _, worth = read(columns(matched=50.0))
    assert [found.rate.against for found in worth.rates] == ["matched"] * 12 + ["plain"] * 12
    value = {(found.rate.against, found.arm): found.rate.value for found in worth.rates if found.rate.value is not None}
    assert value["plain", "128+200"] == pytest.approx(100, abs=25)
    assert value["matched", "128+200"] == pytest.approx(50, abs=25)
    assert {found.against for found in worth.thresholds} == {"matched", "plain"}


def test_the_gain_falls_below_the_smallest_effect_where_the_curves_say() -> None:
    """The gain of 200 rows, worth 100, is 0.02 at about 250 target rows."""
    truth = min(range(64, 512), key=lambda n: abs(score_of(n + 100) - score_of(n) - 0.02))
    _, worth = read(columns())
    found = next(found.size for found in worth.thresholds if found.size.dose_rows == 200)
    assert found.low < truth < found.high
    assert found.value == pytest.approx(truth, rel=0.15)


def test_the_change_of_the_gain_is_one_contrast_over_all_sizes_adjusted_for_the_doses() -> None:
    table, worth = read(columns())
    rows = [name for n in SIZES for name in (f"{n}+200", f"{n}+0")]
    found = moments(table.values_ASI[[table.arm_index(name) for name in rows]], layout(60))
    gains = [GainAt(target_rows=n, arm=2 * place, baseline=2 * place + 1) for place, n in enumerate(SIZES)]
    by_hand = size_interaction(reader(found), n_arms=8, gains=gains)
    mine = next(found for found in worth.interactions if found.dose_rows == 200)
    assert mine.change.value == pytest.approx(by_hand.value)
    assert mine.change.value < 0
    assert mine.change.p <= mine.p_adjusted <= 3 * mine.change.p + 1e-12


def test_the_law_speaks_where_it_made_the_scores_and_says_what_a_dose_is_worth() -> None:
    _, worth = read(columns(noise=0.001))
    found = worth.laws[0]
    assert found.law.speaks
    assert found.law.error_law < found.law.error_interpolation
    assert {entry.dose_rows: entry.target_rows for entry in found.worth}[100] == pytest.approx(50, rel=0.2)


def test_a_law_that_interpolation_beats_is_silent_with_its_errors() -> None:
    said = columns(noise=0.001)
    said["score"] = [  # straight over the logarithms, as interpolation has it
        0.05 * math.log2(n) + 0.03 * math.log2(1 + g) + 0.001 * score
        for score, n, g in zip(said["score"], said["target_rows"], said["dose"], strict=True)
    ]
    found = read(said)[1].laws[0]
    assert not found.law.speaks
    assert found.law.error_law >= found.law.error_interpolation
    assert found.worth == ()
    assert "interpolation predicts" in found.law.reason


def test_a_law_at_the_edge_of_its_parameters_is_silent_even_where_it_predicts_better() -> None:
    said = columns(noise=0.001)
    said["score"] = [  # a step over the sizes and one dose that hurts: interpolation is bad, the law absurd
        0.5 + (0.2 if n >= 256 else 0.0) - (0.1 if g == 100 else 0.0) + 0.001 * score
        for score, n, g in zip(said["score"], said["target_rows"], said["dose"], strict=True)
    ]
    found = read(said)[1].laws[0].law
    assert found.error_law < found.error_interpolation
    assert not found.speaks
    assert "edge" in found.reason


def test_readings_degrade_in_steps_and_say_why() -> None:
    one = read(columns(sizes=(64,)))[1]
    assert (one.rates, one.thresholds, one.laws) == ((), (), ())
    assert "two target sizes" in one.reason
    two = read(columns(sizes=(64, 256)))[1]
    assert {found.rate.step for found in two.rates} == {"sign_and_bound"}
    assert all(found.rate.value is None and found.rate.reason for found in two.rates)
    assert "fewer than 4" in two.laws[0].law.reason
    assert two.interactions[0].change.value is not None
    three = read(columns(sizes=(64, 128, 256)))[1]
    assert {found.rate.step for found in three.rates} == {"interpolated"}
    assert not three.laws[0].law.speaks
    few_doses = read(columns(doses=(0, 50, 100)))[1]
    assert "2 doses" in few_doses.laws[0].law.reason


@pytest.mark.parametrize("sizes", [(64,), (64, 256), SIZES])
@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_the_json_is_finite_or_null_with_a_reason(sizes: tuple[int, ...], seeds: int) -> None:
    _, worth = read(columns(sizes=sizes, doses=(0, 50), seeds=seeds, items=20, matched=10.0))
    found = worth_json(worth)
    json.dumps(found, allow_nan=False)
    assert all(math.isfinite(leaf) for leaf in leaves(found) if isinstance(leaf, float))
    for entry in found["exchange_rates"]:
        assert entry["sentence"]
        assert entry["rows"] is not None or entry["reason"]
    for entry in (*found["threshold_sizes"], *found["interactions"]):
        value = entry.get("target_rows", entry.get("change"))
        assert value is not None or entry["reason"]


def test_scores_that_never_vary_give_reasons_and_no_nan() -> None:
    said = columns(sizes=(64, 128, 256), doses=(0, 50))
    said["score"] = [0.5] * len(said["score"])
    found = worth_json(read(said)[1])
    assert all(math.isfinite(leaf) for leaf in leaves(found) if isinstance(leaf, float))
    assert all(entry["rows"] is None and entry["reason"] for entry in found["exchange_rates"])


def without(said: dict[str, list[Any]], drop: Any) -> dict[str, list[Any]]:
    keep = [not drop(arm, seed) for arm, seed in zip(said["arm"], said["seed"], strict=True)]
    return {name: [value for value, kept in zip(values, keep, strict=True) if kept] for name, values in said.items()}


def test_a_run_that_failed_costs_only_the_readings_that_need_it() -> None:
    said = columns(sizes=(64, 128, 256))
    whole = read(said)[1]
    holed = read(without(said, lambda arm, seed: arm == "64+50" and seed < 2))[1]
    by_arm = {found.arm: found.rate for found in holed.rates}
    for found in whole.rates:
        if found.arm != "64+50":
            assert by_arm[found.arm] == found.rate
    assert by_arm["64+50"] != next(found.rate for found in whole.rates if found.arm == "64+50")


def test_no_seed_in_common_is_a_reason() -> None:
    said = without(columns(sizes=(64, 128, 256), seeds=2), lambda arm, seed: (arm == "64+50") == (seed == 0))
    worth = read(said)[1]
    found = next(found.rate for found in worth.rates if found.arm == "64+50")
    assert (found.step, found.reason) == ("none", "no seed at which all of these arms ran")
    assert "no seed" in next(found.change.reason for found in worth.interactions if found.dose_rows == 50)


def test_two_arms_that_cannot_be_told_apart_are_not_paired_over_sizes() -> None:
    said = columns(sizes=(64, 128), doses=(0, 50))
    twin = without(said, lambda arm, seed: arm != "64+50")
    for name, values in twin.items():
        said[name] += ["twin"] * len(values) if name == "arm" else values
    worth = read(said)[1]
    assert "two arms of one size" in worth.interactions[0].change.reason
    assert "two arms of one size" in worth.thresholds[0].size.reason
    assert {found.arm for found in worth.rates} == {"64+50", "128+50", "twin"}


def test_the_threshold_holds_the_truth_in_nine_of_ten_studies() -> None:
    from dataclasses import replace

    from titrant.stats.exchange import turning_size
    from titrant.stats.simulation import World, simulate

    sizes = (64, 128, 256, 512)
    bases = [score_of(n) for n in sizes]
    dosed = [score_of(n + 100) for n in sizes]
    truth = min(np.arange(64, 512, 0.5), key=lambda n: abs(score_of(n + 100) - score_of(n) - 0.03))
    means = [*bases, *dosed]
    world = World(
        kind="graded",
        base_score=means[0],
        gains=tuple(mean - means[0] for mean in means[1:]),
        seeds=5,
        items=100,
        seeds_share=0.3,
    )
    made = moments(simulate(world, studies=300, seed=5).scores, layout(100))
    held = 0
    for study in range(300):
        one = replace(
            made, mean_BAS=made.mean_BAS[study], item_BAA=made.item_BAA[study], error_BAA=made.error_BAA[study]
        )
        seen = turning_size(
            reader(one),
            n_arms=8,
            gains=[GainAt(target_rows=n, arm=4 + place, baseline=place) for place, n in enumerate(sizes)],
            dose_rows=200,
            smallest_effect=0.03,
        )
        held += (seen.low is None or seen.low <= truth) and (seen.high is None or truth <= seen.high)
    assert held / 300 >= 0.90 - 3 * np.sqrt(0.9 * 0.1 / 300)


def test_the_gain_of_one_arm_is_its_contrast_at_the_seeds_that_both_have() -> None:
    said = without(columns(sizes=(64,), doses=(0, 50), seeds=6), lambda arm, seed: arm == "64+50" and seed == 5)
    table = tables_from_columns(said)["target"]
    found = gain_of(table, arm="64+50", baseline="64+0", name="here", task_weights="macro", overlap=0.0)
    order = [table.arm_index("64+0"), table.arm_index("64+50")]
    spread = contrast_batch(moments(table.values_ASI[order][:, :5], layout(60)), [1], 0)
    assert found is not None
    assert found.value == pytest.approx(float(spread.difference[0]))
    assert found.standard_error == pytest.approx(float(spread.standard_error[0]))
