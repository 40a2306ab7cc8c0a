"""Several targets: each other's items as transfer eval sets, and whether a gain depends on what a target needs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from titrant.api import finish
from titrant.cli.run import verdict_lines
from titrant.core.errors import DataError, SpecError
from titrant.experiment.design import make_design
from titrant.experiment.results import verdict_object
from titrant.experiment.standing import standing_results
from titrant.experiment.worth import skill_interactions
from titrant.report.page import render
from titrant.report.sections.page import report_data
from titrant.storage.store import Store

Make = Callable[..., Any]
TARGET: dict[str, Any] = {
    "train": "train.jsonl",
    "test": "test.jsonl",
    "instruction": "Name the kind.",
    "columns": {"text": "text", "label": "label"},
    "metric": "accuracy",
}
TWO: dict[str, Any] = {
    "target": None,
    "targets": {
        "kinds": {**TARGET, "skill": "understanding"},
        "sizes": {**TARGET, "train": "sizes.jsonl", "test": "sizes.test.jsonl", "skill": "reasoning"},
    },
}


def second_target(folder: Path) -> None:
    rows = [{"text": f"a measure of {n} and then some", "label": ("small", "large")[n % 2]} for n in range(40)]
    for name, part in (("sizes.jsonl", rows[:18]), ("sizes.test.jsonl", rows[18:])):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in part))


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, run_study_at: Make) -> Any:
    return run_study_at(tmp_path_factory.mktemp("transfer"), also=second_target, **TWO, transfer=True)


@pytest.fixture(scope="module")
def unasked(tmp_path_factory: pytest.TempPathFactory, run_study_at: Make) -> Any:
    return run_study_at(tmp_path_factory.mktemp("no-transfer"), also=second_target, **TWO)


def test_every_arm_on_a_target_answers_the_other_ones_items_once_it_is_asked_to(asked: Any, unasked: Any) -> None:
    found = {(score.arm_target, score.target, score.eval_set) for score in asked.results.scores}
    assert ("kinds", "sizes", "transfer:sizes") in found
    assert ("sizes", "kinds", "transfer:kinds") in found
    assert (None, "kinds", "target") in found
    assert not any(eval_set.startswith("transfer") and target is None for target, _, eval_set in found)
    own, more = (
        next(planned for planned in study.design.runs if planned.run.arm.target == "kinds").requests.names
        for study in (unasked, asked)
    )
    assert own < more
    assert not any(score.eval_set.startswith("transfer") for score in unasked.results.scores)


def test_transfer_stands_in_the_verdict_and_changes_nothing_else(asked: Any, unasked: Any) -> None:
    with_it, without = verdict_object(asked.results), verdict_object(unasked.results)
    entries = with_it["transfer"]
    family = [(entry["arm"], entry["baseline"]) for entry in with_it["contrasts"]]
    assert [(entry["arm"], entry["baseline"]) for entry in entries] == family
    assert {entry["eval_set"] for entry in entries} == {"transfer:sizes"}
    assert {entry["items"] for entry in entries} == {22}
    assert with_it["others"][0]["transfer"][0]["eval_set"] == "transfer:kinds"
    assert without["transfer"] == []
    for key in ("verdict", "contrasts", "gain_cross_fitted", "provisional_reasons", "worth"):
        assert with_it[key] == without[key], key
    json.dumps(with_it, allow_nan=False)


def test_runs_are_named_alike_whether_they_also_answer_other_targets_items(asked: Any, unasked: Any) -> None:
    names = {planned.run.run_id for planned in unasked.design.distinct}
    assert names == {planned.run.run_id for planned in asked.design.distinct}


def test_the_page_shows_transfer_and_the_skills_in_words(asked: Any, unasked: Any) -> None:
    page = render(report_data(asked.results, asked.store))
    assert "On other targets" in page
    assert "On the test items of sizes: difference from" in page
    assert "On other targets" not in render(report_data(unasked.results, unasked.store))


def test_an_item_of_one_target_among_the_rows_of_another_is_refused(make_study: Make) -> None:
    def leaking(folder: Path) -> None:
        second_target(folder)
        held_out = json.loads((folder / "test.jsonl").read_text().splitlines()[0])
        with (folder / "sizes.jsonl").open("a") as file:
            file.write(json.dumps({"text": held_out["text"], "label": "small"}) + "\n")

    with pytest.raises(DataError, match="this test item is also the training row"):
        make_study(also=leaking, **TWO, transfer=True)


def test_transfer_needs_another_target(make_study: Make) -> None:
    with pytest.raises(SpecError, match="transfer is from one target to another"):
        make_study(transfer=True)


def test_a_mix_is_printed_with_what_its_dose_is_worth_and_where_it_stops_paying(asked: Any) -> None:
    judged = asked.results.judged[0]
    chosen = replace(judged.verdict, verdict="mix", arm="12+general:8")
    mix = replace(judged, verdicts=(chosen, *judged.verdicts[1:]))
    worth = [line for line in verdict_lines(asked.results, mix) if line.startswith("worth: ")]
    assert len(worth) == 2
    assert "8 generalist rows at 12 target rows" in worth[0]
    assert "the gain of 8 generalist rows falls below 0.05" in worth[1].lower()
    assert not any(line.startswith("worth: ") for line in verdict_lines(asked.results, judged))


# -------------------------------------------------------------------------------------------------------------- skills


def test_the_gain_of_each_dose_is_compared_between_skills_as_one_test(unasked: Any) -> None:
    found = skill_interactions(unasked.prepared, unasked.results.scores)
    assert [(entry.source, entry.dose_rows) for entry in found] == [("general", 4), ("general", 8)]
    for entry in found:
        assert entry.targets == (("kinds", "understanding"), ("sizes", "reasoning"))
        assert entry.change.influence == "reasoning against understanding"
        assert entry.change.low < entry.change.value < entry.change.high
        assert entry.change.p <= entry.p_adjusted


def test_one_skill_or_other_metrics_give_a_reason(tmp_path: Path, run_study_at: Make) -> None:
    alike = {**TWO["targets"], "sizes": {**TWO["targets"]["sizes"], "skill": "understanding"}}
    study = run_study_at(tmp_path / "alike", also=second_target, target=None, targets=alike)
    found = skill_interactions(study.prepared, study.results.scores)
    assert {entry.change.value for entry in found} == {None}
    assert "one skill" in found[0].change.reason
    mixed = {**TWO["targets"], "sizes": {**TWO["targets"]["sizes"], "metric": "exact_match"}}
    study = run_study_at(tmp_path / "mixed", also=second_target, target=None, targets=mixed)
    found = skill_interactions(study.prepared, study.results.scores)
    assert "different metrics" in found[0].change.reason
    unsaid = {name: {k: v for k, v in said.items() if k != "skill"} for name, said in TWO["targets"].items()}
    study = run_study_at(tmp_path / "unsaid", also=second_target, target=None, targets=unsaid)
    assert skill_interactions(study.prepared, study.results.scores) == ()


# ------------------------------------------------------------------------------------------------------ from end to end


def test_a_study_that_is_read_again_still_tells_worth_transfer_and_skills(make_study: Make) -> None:
    study = make_study(also=second_target, **TWO, transfer=True)
    first = finish(study.design, study.store)
    again = standing_results(make_design(study.prepared), Store(study.store.root))
    assert again is not None
    assert again.skills == first.skills
    assert again.skills
    assert verdict_object(again) == verdict_object(first)
    page = (study.store.root / "report.html").read_text()
    for heading in (
        "Where a dose stops paying",
        "Does the gain change with the target rows?",
        "A law for both",
        "Does the gain depend on the skill?",
        "On other targets",
    ):
        assert heading in page


def test_every_judged_model_and_target_has_a_page_of_its_own(unasked: Any) -> None:
    results = finish(unasked.design, unasked.store)
    root = unasked.store.root
    first, second = results.judged
    pages = {"report.html": first, f"reports/{second.model}/{second.target}.html": second}
    for name, judged in pages.items():
        data = report_data(results, unasked.store, judged=judged)
        assert (root / name).read_text() == render(data)
        assert data.target == judged.target
        (other,) = [each for each in pages if each != name]
        assert f"<bdi>{other}</bdi> in the folder" in (root / name).read_text()
    assert standing_results(unasked.design, unasked.store) is not None
    (root / f"reports/{second.model}/{second.target}.html").unlink()
    assert standing_results(unasked.design, unasked.store) is None
    gone = root / "reports" / "toy-model" / "no-longer-judged.html"
    gone.write_text("of another day")
    finish(unasked.design, unasked.store)
    assert not gone.exists()
    assert (root / f"reports/{second.model}/{second.target}.html").is_file()
