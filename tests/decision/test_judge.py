"""judge: scores in, a verdict out; every edge gives finite numbers, or null with a reason, or a listed error."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from titrant.core.errors import ScoresError
from titrant.core.identity import rng_for
from titrant.core.records import Score
from titrant.decision.judge import judge, judge_tables, verdict_json
from titrant.stats.evidence import Settings
from titrant.stats.looks import level_of_repeated_tests
from titrant.stats.power import Costs, Way
from titrant.stats.table import tables_from_columns, tables_from_scores

SHAPE = {
    "verdict",
    "provisional",
    "arm",
    "sentence",
    "contrasts",
    "gain_cross_fitted",
    "smallest_detectable",
    "estimand",
    "next_step",
}
CONTRAST_SHAPE = {
    "arm",
    "baseline",
    "target_rows",
    "difference",
    "low",
    "high",
    "p",
    "p_adjusted",
    "items",
    "seeds",
    "method",
}


def study(
    gains: dict[str, float], *, seeds: int = 4, items: int = 150, binary: bool = True, name: str = "study"
) -> dict[str, list[Any]]:
    """Columns of scores; every arm has its gain over "alone"."""
    rng = rng_for(0, "tests", "judge", name)
    difficulty = rng.standard_normal(items)
    columns: dict[str, list[Any]] = {"arm": [], "seed": [], "item": [], "score": []}
    for arm, gain in gains.items():
        for seed in range(seeds):
            latent = difficulty + 0.5 * rng.standard_normal(items) + 3 * gain
            score = (latent > 0).astype(float) if binary else np.clip(0.5 + 0.1 * latent, 0, 1)
            columns["arm"] += [arm] * items
            columns["seed"] += [seed] * items
            columns["item"] += [f"item {number}" for number in range(items)]
            columns["score"] += score.tolist()
    return columns


def write(path: Path, columns: dict[str, list[Any]]) -> Path:
    names = list(columns)
    lines = [",".join(names)]
    lines += [
        ",".join("" if value is None else str(value) for value in row) for row in zip(*columns.values(), strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from numbers(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from numbers(inner)
    elif isinstance(value, float):
        yield value


def test_the_object_has_the_agreed_shape_and_is_plain_json() -> None:
    found = judge(study({"alone": 0.0, "mixed": 0.2}), baseline="alone")
    assert set(found) >= SHAPE
    assert set(found["contrasts"][0]) >= CONTRAST_SHAPE
    assert (found["verdict"], found["arm"]) == ("mix", "mixed")
    assert found["contrasts"][0]["low"] > 0
    json.dumps(found, allow_nan=False)


def test_a_file_and_its_columns_are_judged_alike_in_any_order(tmp_path: Path) -> None:
    columns = study({"alone": 0.0, "mixed": 0.05})
    order = rng_for(0, "tests", "shuffle").permutation(len(columns["arm"]))
    shuffled = {name: [values[index] for index in order] for name, values in columns.items()}
    found = judge(write(tmp_path / "scores.csv", shuffled), baseline="alone")
    assert found == judge(columns, baseline="alone")


def test_names_stay_text_so_01_and_1_are_two_seeds() -> None:
    columns = study({"alone": 0.0, "mixed": 0.1}, seeds=2)
    columns["seed"] = ["1" if seed == 0 else "01" for seed in columns["seed"]]
    assert judge(columns, baseline="alone")["contrasts"][0]["seeds"] == 2


def sized(name: str = "sized", **gains: float) -> dict[str, list[Any]]:
    """Arms named n-g: target rows and dose are columns."""
    columns = study(dict(gains), name=name)
    columns["target_rows"] = [int(arm.split("_")[0][1:]) for arm in columns["arm"]]
    columns["dose"] = [int(arm.split("_")[1]) for arm in columns["arm"]]
    columns["source"] = [None if arm.endswith("_0") else "general" for arm in columns["arm"]]
    return columns


def test_with_sizes_and_doses_the_baseline_is_found_and_the_largest_size_decides() -> None:
    found = judge(sized(n48_0=0.0, n48_96=0.2, n160_0=0.1, n160_96=0.1))
    assert [part["target_rows"] for part in found["by_target_rows"]] == [48, 160]
    assert found["by_target_rows"][0]["verdict"] == "mix"
    assert found["baseline"] == "n160_0"
    assert found["verdict"] == found["by_target_rows"][1]["verdict"] != "mix"
    assert {contrast["target_rows"] for contrast in found["contrasts"]} == {160}


def test_other_sizes_never_change_the_verdict_of_the_largest() -> None:
    small = sized(n48_0=0.0, n48_96=0.2, n160_0=0.1, n160_96=0.12)
    only = {
        name: [value for value, arm in zip(values, small["arm"], strict=True) if arm.startswith("n160")]
        for name, values in small.items()
    }
    both, alone = judge(small), judge(only)
    assert both["contrasts"] == alone["contrasts"]
    assert both["sentence"] == alone["sentence"]


def test_verdict_at_chooses_the_size() -> None:
    tables = tables_from_columns(sized(n48_0=0.0, n48_96=0.2, n160_0=0.1, n160_96=0.1))
    found = judge_tables(tables, settings=Settings(), verdict_at=48)
    assert found[0].target_rows == 48
    with pytest.raises(ScoresError, match="target_rows 99"):
        judge_tables(tables, settings=Settings(), verdict_at=99)


def test_a_matched_baseline_is_compared_too_and_can_undo_a_mix() -> None:
    columns = study({"alone": 0.0, "steps": 0.25, "mixed": 0.2}, items=300)
    assert judge(columns, baseline="alone", matched="steps")["verdict"] != "mix"
    without = {
        name: [value for value, arm in zip(values, columns["arm"], strict=True) if arm != "steps"]
        for name, values in columns.items()
    }
    found = judge(without, baseline="alone")
    assert found["verdict"] == "mix"
    assert "Steps were not matched" in found["sentence"]
    held_equal = judge(without, baseline="alone", settings=Settings(steps_matched=True))
    assert held_equal["verdict"] == "mix"
    assert "not matched" not in held_equal["sentence"] + " ".join(held_equal["notes"])


def test_two_arms_without_a_dose_ask_for_a_name_rather_than_guess() -> None:
    columns = sized(n160_0=0.0, n160_96=0.1)
    extra = sized(n160_0=0.0, name="extra")
    for name, values in extra.items():
        columns[name] += ["other"] * len(values) if name == "arm" else values
    with pytest.raises(ScoresError, match="2 arms without a dose at target_rows 160: n160_0, other"):
        judge(columns)
    assert judge(columns, matched="other")["matched"] == "other"


def test_eval_sets_other_than_the_target_do_not_decide_but_retention_is_told() -> None:
    columns = study({"alone": 0.0, "mixed": 0.2})
    kept = study({"alone": 0.0, "mixed": -0.3}, name="kept")
    columns["eval_set"] = ["target"] * len(columns["arm"])
    for name, values in kept.items():
        columns[name] += values
    columns["eval_set"] += ["retention"] * len(kept["arm"])
    found = judge(columns, baseline="alone")
    assert found["verdict"] == "mix"
    assert "It buys this with general ability" in found["sentence"]


def test_transfer_is_told_for_every_dose_and_baseline_and_never_decides() -> None:
    columns = study({"alone": 0.0, "steps": 0.0, "mixed": 0.2, "more": 0.25})
    plain = judge(columns, baseline="alone", matched="steps")
    other = study({"alone": 0.0, "steps": 0.1, "mixed": -0.4, "more": -0.5}, items=80, name="other")
    columns["eval_set"] = ["target"] * len(columns["arm"]) + ["transfer:mails"] * len(other["arm"])
    for name, values in other.items():
        columns[name] += values
    found = judge(columns, baseline="alone", matched="steps")
    assert {key: value for key, value in found.items() if key != "transfer"} == {
        key: value for key, value in plain.items() if key != "transfer"
    }
    assert plain["transfer"] == []
    assert [(entry["eval_set"], entry["arm"], entry["baseline"]) for entry in found["transfer"]] == [
        ("transfer:mails", arm, baseline) for arm in ("mixed", "more") for baseline in ("alone", "steps")
    ]
    for entry in found["transfer"]:
        assert set(entry) >= CONTRAST_SHAPE
        assert entry["items"] == 80
        assert entry["low"] < entry["high"] < 0
    by_hand = judge(other, baseline="alone", matched="steps")["contrasts"]
    assert [{**entry, "eval_set": "x"} for entry in found["transfer"]] == [
        {**entry, "eval_set": "x"} for entry in by_hand
    ]


def test_an_arm_that_was_asked_no_transfer_items_is_left_out_of_them() -> None:
    columns = study({"alone": 0.0, "mixed": 0.2, "more": 0.2})
    other = study({"alone": 0.0, "mixed": 0.0}, items=40, name="other")
    columns["eval_set"] = ["target"] * len(columns["arm"]) + ["transfer:mails"] * len(other["arm"])
    for name, values in other.items():
        columns[name] += values
    assert [entry["arm"] for entry in judge(columns, baseline="alone")["transfer"]] == ["mixed"]


@pytest.mark.parametrize("eval_set", ["traget", "transfer", "transfer:", "held-out"])
def test_a_probe_that_nobody_knows_is_refused_rather_than_left_out(eval_set: str) -> None:
    columns = study({"alone": 0.0, "mixed": 0.2})
    more = study({"alone": 0.0, "mixed": 0.2}, items=10)
    columns["eval_set"] = ["target"] * len(columns["arm"]) + [eval_set] * len(more["arm"])
    for name, values in more.items():
        columns[name] += values
    with pytest.raises(ScoresError, match="no such eval set"):
        judge(columns, baseline="alone")


def test_tasks_weigh_alike_unless_items_are_asked_to_and_the_verdict_records_it() -> None:
    columns = study({"alone": 0.0, "mixed": 0.05})
    number = [int(item.split()[1]) for item in columns["item"]]
    columns["task"] = ["a" if value < 30 else "b" for value in number]
    macro, by_item = judge(columns, baseline="alone"), judge(columns, baseline="alone", task_weights="by_item")
    assert (macro["task_weights"], by_item["task_weights"]) == ("macro", "by_item")
    without_tasks = judge({k: v for k, v in columns.items() if k != "task"}, baseline="alone")
    assert without_tasks["task_weights"] is None
    assert by_item["contrasts"][0]["difference"] == pytest.approx(without_tasks["contrasts"][0]["difference"])
    assert macro["contrasts"][0]["difference"] != pytest.approx(by_item["contrasts"][0]["difference"], abs=1e-6)


def test_worth_is_read_over_target_sizes_and_has_a_reason_elsewhere() -> None:
    found = judge(sized(n48_0=0.0, n48_96=0.2, n160_0=0.1, n160_96=0.1))["worth"]
    assert found["reason"] is None
    assert {(entry["target_rows"], entry["dose"]) for entry in found["exchange_rates"]} == {(48, 96), (160, 96)}
    assert {entry["step"] for entry in found["exchange_rates"]} == {"sign_and_bound"}
    assert [entry["dose"] for entry in found["threshold_sizes"]] == [96]
    assert found["interactions"][0]["change"] < 0
    assert found["laws"][0]["speaks"] is False
    one = judge(study({"alone": 0.0, "mixed": 0.2}), baseline="alone")["worth"]
    assert (one["exchange_rates"], one["reason"]) == ([], "no target sizes are known")


def test_sizes_that_share_no_item_are_judged_and_their_worth_has_a_reason() -> None:
    columns = sized(n48_0=0.0, n48_96=0.2, n160_0=0.1, n160_96=0.1)
    columns["item"] = [f"{arm[:4]} {item}" for arm, item in zip(columns["arm"], columns["item"], strict=True)]
    found = judge(columns)
    assert len(found["by_target_rows"]) == 2
    assert {entry["reason"] for entry in found["worth"]["exchange_rates"]} == {
        "no item that all of these arms answered"
    }


# ------------------------------------------------------------------------------------------------ edge cases


def edge(scores: dict[str, np.ndarray], **more: Any) -> dict[str, Any]:
    """Judge arrays seed×item by arm."""
    rows = [
        (arm, seed, item, float(value))
        for arm, values in scores.items()
        for (seed, item), value in np.ndenumerate(values)
        if not np.isnan(value)
    ]
    columns: dict[str, list[Any]] = {
        name: [row[index] for row in rows] for index, name in enumerate(("arm", "seed", "item", "score"))
    }
    found = judge(columns, baseline="alone", **more)
    assert all(math.isfinite(number) for number in numbers(found))
    json.dumps(found, allow_nan=False)
    return found


@pytest.mark.parametrize("items", [1, 2, 150])
@pytest.mark.parametrize("seeds", [1, 2, 5])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_scores_that_never_vary_are_finite_or_null_with_a_reason(items: int, seeds: int, value: float) -> None:
    found = edge({"alone": np.full((seeds, items), value), "mixed": np.full((seeds, items), value)})
    contrast = found["contrasts"][0]
    assert contrast["difference"] == 0.0
    if contrast["low"] is None:
        assert contrast["reason"]
        assert found["verdict"] == "cannot_tell"
    else:
        assert contrast["low"] < 0 < contrast["high"]
        assert contrast["reason"]
        assert found["verdict"] == "cannot_tell"


def test_identical_arms_are_no_difference_only_with_items_enough_to_say_so() -> None:
    rng = rng_for(0, "tests", "identical")
    for items, verdict in ((100, "cannot_tell"), (500, "no_difference")):
        same = (rng.random((3, items)) < 0.6).astype(float)
        found = edge({"alone": same, "mixed": same})
        assert found["verdict"] == verdict
        assert "every cell shows the same difference" in found["contrasts"][0]["reason"]


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ({"d64": 6, "d128": 1}, {"d64": "Satterthwaite and Cochran", "d128": "items only, this run only"}),
        ({"d64": 3, "d128": 6}, {"d64": "seed variance moderated across arms", "d128": "Satterthwaite and Cochran"}),
        ({"d64": 1, "d128": 3}, {"d64": "items only, this run only", "d128": "seed variance moderated across arms"}),
        ({"d64": 6, "d128": 0, "d256": 6}, {"d64": "Satterthwaite and Cochran", "d256": "Satterthwaite and Cochran"}),
    ],
)
def test_every_contrast_is_labelled_by_the_method_that_its_own_seeds_allow(
    seeds: dict[str, int], words: dict[str, str]
) -> None:
    columns = study({"alone": 0.0, **dict.fromkeys(seeds, 0.1)}, seeds=6)
    kept = [row for row, arm in enumerate(columns["arm"]) if columns["seed"][row] < seeds.get(arm, 6)]
    columns = {name: [values[row] for row in kept] for name, values in columns.items()}
    found = {
        contrast["arm"]: contrast for contrast in judge(columns, baseline="alone", drop_incomplete=True)["contrasts"]
    }
    for arm, method in words.items():
        assert found[arm]["seeds"] == seeds[arm]
        assert method in found[arm]["method"]
        assert all(other == method or other not in found[arm]["method"] for other in words.values())


def test_one_seed_gives_an_interval_for_this_run_only() -> None:
    rng = rng_for(0, "tests", "one-seed")
    found = edge({"alone": rng.random((1, 200)), "mixed": rng.random((1, 200))})
    assert found["contrasts"][0]["low"] is not None
    assert "this run only" in found["contrasts"][0]["reason"]
    assert found["provisional"]


def test_one_item_gives_an_interval_over_seeds_and_no_cross_fitted_gain() -> None:
    rng = rng_for(0, "tests", "one-item")
    found = edge({"alone": rng.random((4, 1)), "mixed": rng.random((4, 1))})
    assert found["contrasts"][0]["low"] is not None
    assert found["gain_cross_fitted"] is None


def test_a_missing_seed_is_an_error_unless_it_may_be_dropped_and_then_is_counted() -> None:
    rng = rng_for(0, "tests", "missing-seed")
    scores = {arm: (rng.random((4, 120)) < 0.5).astype(float) for arm in ("alone", "a", "b")}
    scores["b"][3] = np.nan
    with pytest.raises(ScoresError, match="arm 'b', seed 3: all 120 items"):
        edge(scores)
    found = edge(scores, drop_incomplete=True)
    assert [contrast["seeds"] for contrast in found["contrasts"]] == [4, 3]
    assert found["provisional"]
    assert any("1 run has no scores" in note for note in found["notes"])


def test_an_arm_that_shares_no_seed_with_its_baseline_has_null_bounds_and_a_reason() -> None:
    rng = rng_for(0, "tests", "no-common-seed")
    scores = {arm: rng.random((2, 50)) for arm in ("alone", "mixed")}
    scores["alone"][0] = np.nan
    scores["mixed"][1] = np.nan
    contrast = edge(scores, drop_incomplete=True)["contrasts"][0]
    assert contrast["difference"] is None
    assert contrast["low"] is None
    assert contrast["reason"] == "no seed at which both arms ran"


def test_incomplete_items_are_dropped_only_when_asked_and_counted() -> None:
    rng = rng_for(0, "tests", "holes")
    scores = {arm: (rng.random((3, 120)) < 0.5).astype(float) for arm in ("alone", "mixed")}
    scores["mixed"][1, 7] = np.nan
    with pytest.raises(ScoresError, match="1 missing cell"):
        edge(scores)
    found = edge(scores, drop_incomplete=True)
    assert found["contrasts"][0]["items"] == 119
    assert any("1 incomplete item left out, which had 5 scores" in note for note in found["notes"])


def test_doses_without_a_baseline_are_unknown_with_the_reason_and_a_smaller_size_does_not_stand_in() -> None:
    found = judge(sized(n48_0=0.0, n48_96=0.2, n160_96=0.1, n160_352=0.2))
    assert (found["verdict"], found["arm"], found["baseline"]) == ("cannot_tell", None, None)
    assert "no arm without a dose has scores at this target size" in found["sentence"]
    assert found["next_step"]["kind"] == "dose"
    for contrast in found["contrasts"]:
        assert (contrast["difference"], contrast["low"], contrast["p"], contrast["baseline"]) == (
            None,
            None,
            None,
            None,
        )
        assert contrast["reason"] == "no arm without a dose has scores at this target size"
    assert [part["verdict"] for part in found["by_target_rows"]] == ["mix", "cannot_tell"]
    assert {entry["reason"] for entry in found["worth"]["exchange_rates"]} != {None}
    json.dumps(found, allow_nan=False)
    with pytest.raises(ScoresError, match="no arm without a dose at any target size"):
        judge(sized(n160_96=0.1, n160_352=0.2))


def test_every_open_verdict_has_a_next_step_even_of_doses_of_unknown_size() -> None:
    before = np.tile([0.0, 1.0], (3, 20))
    after = before.copy()
    for seed in range(3):
        after[seed, 4 * seed : 4 * seed + 20] = 1 - after[seed, 4 * seed : 4 * seed + 20]
    found = edge({"alone": before, "mixed": after}, smallest_effect=0.002)
    assert (found["verdict"], found["next_step"]["kind"]) == ("cannot_tell", "dose")
    assert "another dose" in found["next_step"]["sentence"]


def test_only_a_baseline_cannot_tell_and_asks_for_a_dose() -> None:
    found = edge({"alone": np.ones((2, 3))})
    assert found["verdict"] == "cannot_tell"
    assert found["next_step"]["kind"] == "dose"


def test_groups_and_tasks_enter_the_interval_and_the_notes() -> None:
    columns = study({"alone": 0.0, "mixed": 0.05})
    plain = judge(columns, baseline="alone")["contrasts"][0]
    number = [int(item.split()[1]) for item in columns["item"]]
    grouped = judge({**columns, "group": [f"text {value // 10}" for value in number]}, baseline="alone")
    assert grouped["provisional_reasons"] == ["15 groups of items, fewer than 20"]
    assert grouped["contrasts"][0]["difference"] == pytest.approx(plain["difference"])
    tasked = judge({**columns, "task": ["a" if value < 30 else "b" for value in number]}, baseline="alone")
    assert any("every task weighs the same" in note for note in tasked["notes"])
    assert tasked["contrasts"][0]["difference"] != pytest.approx(plain["difference"], abs=1e-6)


# ------------------------------------------------------------------------------------------------ errors


def wrong(tmp_path: Path, text: str, **more: Any) -> str:
    path = tmp_path / "scores.csv"
    path.write_text(text)
    with pytest.raises(ScoresError) as caught:
        judge(path, **{"baseline": "a", **more})
    return str(caught.value)


def test_errors_name_the_file_the_line_and_the_value(tmp_path: Path) -> None:
    head = "arm,seed,item,score\n"
    good = "a,0,x,1\na,0,y,0\nb,0,x,1\nb,0,y,1\n"
    assert "scores.csv:3: score '1.5' is not a number from 0 to 1" in wrong(tmp_path, head + "a,0,x,1\na,0,y,1.5\n")
    assert "scores.csv:2: score 'high' is not" in wrong(tmp_path, head + "a,0,x,high\n")
    assert "scores.csv:2: every score is empty" in wrong(tmp_path, head + "a,0,x,\n")
    assert "scores.csv:2: item is empty" in wrong(tmp_path, head + "a,0,,1\n")
    duplicate = wrong(tmp_path, head + good + "b,0,x,0\n")
    assert "scores.csv:6: a second score for arm 'b', seed '0', item 'x' (the first is at" in duplicate
    assert "scores.csv:4" in duplicate
    assert "arm 'b', seed 0, item 'y'" in wrong(tmp_path, head + "a,0,x,1\na,0,y,0\nb,0,x,1\n")
    assert "no arm 'zzz'" in wrong(tmp_path, head + good, baseline="zzz")
    assert "no baseline" in wrong(tmp_path, head + good, baseline=None)
    assert "no column item" in wrong(tmp_path, "arm,seed,score\na,0,1\n")
    assert "the file is empty" in wrong(tmp_path, "")
    assert "at least one row" in wrong(tmp_path, head)
    assert "the same arm" in wrong(tmp_path, head + good, matched="a")
    assert "not a CSV file" in wrong(tmp_path, head + "a,0,x\n")
    assert "'several' is not a whole number" in wrong(tmp_path, "arm,seed,item,score,dose\na,0,x,1,several\n")
    two = "arm,seed,item,score,target_rows\na,0,x,1,48\na,0,y,1,160\n"
    assert "scores.csv:3: arm 'a' has target_rows '160', but '48' before" in wrong(tmp_path, two)


def test_at_most_twenty_problems_are_listed(tmp_path: Path) -> None:
    text = "arm,seed,item,score\n" + "".join(f"a,0,x{number},7.{number}\n" for number in range(50))
    found = wrong(tmp_path, text)
    assert found.count("is not a number from 0 to 1") == 20
    assert "and more" in found


def test_a_smallest_effect_or_level_out_of_range_is_refused() -> None:
    columns = study({"alone": 0.0, "mixed": 0.1})
    with pytest.raises(ScoresError, match="smallest effect"):
        judge(columns, baseline="alone", smallest_effect=0.0)
    with pytest.raises(ScoresError, match="level"):
        judge(columns, baseline="alone", level=95)


# ---------------------------------------------------------------------------------------------------------- for a study


def records(arms: dict[str, tuple[str, int, float]], *, seeds: int = 3, items: int = 120) -> list[Score]:
    """Scores as a study stores them: name -> (kind, dose, gain)."""
    rng = rng_for(0, "tests", "records")
    difficulty = rng.standard_normal(items)
    return [
        Score(
            run_id=f"{name}-{seed}",
            model="m",
            target="tickets",
            target_rows=0 if kind == "untuned" else 160,
            arm=name,
            arm_kind=kind,  # type: ignore[arg-type]
            seed=seed,
            eval_set="target",
            task="tickets",
            item=f"item {item}",
            group=None,
            source="general" if dose else None,
            dose=dose,
            metric="accuracy",
            value=float(difficulty[item] + 0.5 * rng.standard_normal() + 3 * gain > 0),
        )
        for name, (kind, dose, gain) in arms.items()
        for seed in range(1 if kind == "untuned" else seeds)
        for item in range(items)
    ]


FAMILY = {
    "untuned": ("untuned", 0, -1.0),
    "n160": ("alone", 0, 0.0),
    "n160-matched": ("matched", 0, 0.0),
    "n160-g96": ("dosed", 96, 0.3),
    "n160-g352": ("dosed", 352, 0.3),
    "g352": ("generalist_alone", 352, -0.5),
}


def test_a_study_finds_its_baselines_by_kind_and_leaves_the_other_arms_out() -> None:
    found = judge_tables(tables_from_scores(records(FAMILY)), settings=Settings(metric="accuracy"))[0]
    assert (found.baseline, found.matched) == ("n160", "n160-matched")
    assert [(contrast.arm, contrast.baseline) for contrast in found.contrasts] == [
        ("n160-g96", "n160"),
        ("n160-g96", "n160-matched"),
        ("n160-g352", "n160"),
        ("n160-g352", "n160-matched"),
    ]
    assert found.verdict == "mix"
    assert found.sentence.startswith("Mix ")
    assert "accuracy is" in found.sentence


def test_a_matched_baseline_stands_in_for_a_plain_one_that_failed() -> None:
    scores = [score for score in records(FAMILY) if score.arm != "n160"]
    found = judge_tables(tables_from_scores(scores), settings=Settings(allow_missing_runs=True))[0]
    assert (found.baseline, found.matched, found.verdict) == ("n160-matched", None, "mix")
    assert "not matched" not in found.sentence
    neither = [score for score in scores if score.arm != "n160-matched"]
    found = judge_tables(tables_from_scores(neither), settings=Settings(allow_missing_runs=True))[0]
    assert (found.baseline, found.verdict) == ("", "cannot_tell")
    json.dumps(verdict_json(found), allow_nan=False)


def test_a_failed_run_leaves_its_seed_out_and_makes_it_provisional() -> None:
    scores = [score for score in records(FAMILY) if score.run_id != "n160-g96-1"]
    tables = tables_from_scores(scores)
    with pytest.raises(ScoresError, match="seed 1: all 120 items"):
        judge_tables(tables, settings=Settings())
    found = judge_tables(tables, settings=Settings(allow_missing_runs=True))[0]
    assert [contrast.difference.n_seeds for contrast in found.contrasts] == [2, 2, 3, 3]
    assert "1 run of the contrasts failed" in found.provisional_reasons
    json.dumps(verdict_json(found), allow_nan=False)


def test_an_open_verdict_names_the_cheapest_step_with_its_tokens_and_minutes() -> None:
    arms = {"n160": ("alone", 0, 0.0), "n160-g96": ("dosed", 96, 0.005)}
    costs = Costs(training_tokens_per_seed=50_000, answer_tokens_per_item=40, tokens_per_minute=20_000)
    found = judge_tables(tables_from_scores(records(arms)), settings=Settings(smallest_effect=0.05, costs=costs))[0]
    assert found.verdict == "cannot_tell"
    step = found.next_step
    assert step is not None
    assert step.kind in ("seeds", "items")
    assert step.tokens is not None
    assert step.tokens > 0
    assert step.minutes == pytest.approx(step.tokens / 20_000)
    assert "more tokens" in found.sentence


@pytest.mark.parametrize(
    ("seeds", "level", "holds"), [(5, 0.95, "91.4%, not 95%"), (2, 0.95, "%, not 95%"), (5, 0.975, "%, not 97.5%")]
)
def test_more_of_the_same_seeds_is_a_second_look_and_says_what_level_is_left(
    seeds: int, level: float, holds: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where 12 seeds in all are the advice; the sentence, the step and the object say the same."""
    way = Way(kind="seeds", seeds=12, items=120, tokens=None, minutes=None)
    monkeypatch.setattr("titrant.stats.evidence.ways_on", lambda *_, **__: [way])
    arms = {"n160": ("alone", 0, 0.0), "n160-g96": ("dosed", 96, 0.03)}
    settings = Settings(smallest_effect=0.03, level=level)
    found = judge_tables(tables_from_scores(records(arms, seeds=seeds)), settings=settings)[0]
    step = found.next_step
    assert step is not None
    assert step.holds == round(level_of_repeated_tests((seeds, 12), level=level), 4)
    assert f"Both verdicts together then hold {step.holds:.1%}, not {100 * level:g}%" in found.sentence
    assert holds in step.sentence
    assert "a staged study (until: firm) on new seeds" in step.sentence
    assert verdict_json(found)["next_step"]["holds"] == step.holds


def test_one_seed_asks_for_three_and_says_what_they_cost() -> None:
    arms = {"n160": ("alone", 0, 0.0), "n160-g96": ("dosed", 96, 0.005)}
    costs = Costs(training_tokens_per_seed=50_000, answer_tokens_per_item=40, tokens_per_minute=20_000)
    tables = tables_from_scores(records(arms, seeds=1))
    step = judge_tables(tables, settings=Settings(smallest_effect=0.02, costs=costs))[0].next_step
    assert step is not None
    assert (step.kind, step.seeds) == ("seeds", 3)
    assert step.tokens == 2 * (50_000 + 120 * 40)
    assert step.minutes == pytest.approx(step.tokens / 20_000)
    assert "109,600 more tokens, about 5 minutes" in step.sentence


def test_a_larger_dose_as_the_next_step_has_its_price_too() -> None:
    """Half of the items change, as many up as down, differently at each seed: nothing within reach settles 0.002."""
    before = np.tile([0.0, 1.0], (3, 20))
    after = before.copy()
    for seed in range(3):
        after[seed, 4 * seed : 4 * seed + 20] = 1 - after[seed, 4 * seed : 4 * seed + 20]
    rows = [
        (arm, dose, seed, item, values[seed, item])
        for arm, dose, values in (("alone", 0, before), ("mixed", 352, after))
        for seed in range(3)
        for item in range(40)
    ]
    names = ("arm", "dose", "seed", "item", "score")
    columns = {name: [row[index] for row in rows] for index, name in enumerate(names)} | {
        "target_rows": [9] * len(rows)
    }
    costs = Costs(
        training_tokens_per_seed=50_000,
        answer_tokens_per_item=40,
        tokens_per_minute=20_000,
        double_dose_tokens_per_seed=70_000,
    )
    step = judge(columns, settings=Settings(smallest_effect=0.002, costs=costs))["next_step"]
    assert (step["kind"], step["tokens"], step["minutes"]) == ("dose", 210_000, 10.5)
    assert "a dose of 704 rows" in step["sentence"]
    assert "(210,000 more tokens, about 10 minutes)" in step["sentence"]


def test_a_large_file_takes_seconds(tmp_path: Path) -> None:
    """A fifth of the size that must take under 10 seconds; a loop over rows would miss even this."""
    rng = rng_for(0, "tests", "large")
    path = tmp_path / "large.csv"
    with path.open("w") as file:
        file.write("arm,seed,item,score\n")
        for arm in range(25):
            for seed in range(4):
                values = rng.integers(0, 2, 1000).tolist()
                file.writelines(f"arm{arm},{seed},item{item},{value}\n" for item, value in enumerate(values))
    start = time.process_time()
    found = judge(path, baseline="arm0")
    assert len(found["contrasts"]) == 24
    assert time.process_time() - start < 5


def test_a_hundred_files_in_one_call_give_a_line_each_in_their_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from titrant.cli.tables import show_judgements

    files = [
        write(
            tmp_path / f"{number:03}.csv",
            study({"alone": 0.0, "mixed": 0.1 + 0.001 * number}, seeds=2, items=20, name=f"file {number}"),
        )
        for number in range(100)
    ]
    show_judgements(
        files,
        baseline="alone",
        matched=None,
        smallest_effect=0.01,
        level=0.95,
        drop_incomplete=False,
        by_item=False,
        as_json=True,
    )
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 100
    for number in (0, 57, 99):
        assert lines[number] == json.loads(json.dumps(judge(files[number], baseline="alone")))


@pytest.mark.slow
def test_fifty_arms_five_seeds_and_two_thousand_items_take_ten_seconds_and_a_gibibyte(tmp_path: Path) -> None:
    import resource
    import subprocess
    import sys

    rng = rng_for(0, "tests", "whole-size")
    path = tmp_path / "whole.csv"
    with path.open("w") as file:
        file.write("arm,seed,item,score,target_rows,dose\n")
        for arm in range(50):
            for seed in range(5):
                values = rng.integers(0, 2, 2000).tolist()
                head = f"arm{arm},{seed},item"
                file.writelines(f"{head}{item},{value},100,{arm}\n" for item, value in enumerate(values))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", "from titrant.cli import main; main()", "judge", str(path), "--json"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert len(json.loads(found.stdout)["contrasts"]) == 49
    assert used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime < 10
    assert used.ru_maxrss * 1024 < 1 << 30
