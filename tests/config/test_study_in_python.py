"""A study made in Python is the study of the file: the same keys, the same bounds, the same words for what is wrong."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from titrant.config.study import Study, load_study, study_of
from titrant.config.yaml_source import parse_document
from titrant.core.errors import SpecError

FILE = """\
name: tickets
model: org/name
target: {train: train.jsonl, test: test.jsonl, validation: 0.1, columns: {text: body, label: team}}
generalist: {general: {rows: general.jsonl}, web: {text: web.jsonl, repeats: 3}}
arms: {target_rows: [48, all], doses: {general: [0, 96], web: {tokens: 2000}}, seeds: 2}
training: {learning_rate: [1e-5, 2.0e-5], method: lora}
transfer: false
smallest_effect: 0.05
"""
SAID: dict[str, Any] = {
    "name": "tickets",
    "model": "org/name",
    "target": {
        "train": Path("train.jsonl"),
        "test": "test.jsonl",
        "validation": 0.1,
        "columns": {"text": "body", "label": "team"},
    },
    "generalist": {"general": {"rows": "general.jsonl"}, "web": {"text": "web.jsonl", "repeats": 3}},
    "arms": {"target_rows": (48, "all"), "doses": {"general": [0, np.int64(96)], "web": {"tokens": 2000}}, "seeds": 2},
    "training": {"learning_rate": [1e-5, 2e-5], "method": "lora"},
    "transfer": False,
    "smallest_effect": 0.05,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("study")
    for name in ("train", "test", "general", "web"):
        (made / f"{name}.jsonl").write_text('{"body": "a", "team": "b"}\n')
    (made / "study.yaml").write_text(FILE)
    return made


def test_python_and_the_file_say_the_same_study(folder: Path) -> None:
    made, read = Study(folder=folder, **SAID), load_study(folder / "study.yaml")
    assert made.effective() == read.effective()
    assert made.targets["tickets"].train == read.targets["tickets"].train == str(folder / "train.jsonl")
    assert made.candidates() == read.candidates()
    assert (made.path, made.place, made.folder) == (None, "titrant.Study", folder)
    assert (read.path, read.place, read.folder) == (folder / "study.yaml", str(folder / "study.yaml"), folder)


def test_paths_are_relative_to_the_working_directory_where_no_folder_is_given(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert Study(**SAID).effective() == Study(folder=folder, **SAID).effective()
    monkeypatch.chdir(folder.parent)
    with pytest.raises(SpecError, match=r"titrant\.Study: target\.train: no such file or folder \(got 'train\.jsonl'"):
        Study(**SAID)


def test_what_a_study_of_python_says_can_be_written_to_a_file_and_read(folder: Path) -> None:
    made = Study(folder=folder, **SAID)
    again = study_of(parse_document(made.text, name="x"), path=folder / "x.yaml", environment={})
    assert again.effective() == made.effective()
    assert pickle.loads(pickle.dumps(made)) == made


def test_parts_of_one_study_make_another(folder: Path) -> None:
    one = Study(folder=folder, **SAID)
    other = Study(folder=folder, **{**SAID, "arms": one.arms, "generalist": one.generalist, "training": one.training})
    assert other.effective() == one.effective()


# One entry: what is said beside `SAID`, and the one line that it gets.
PROBLEMS: list[tuple[dict[str, Any], str]] = [
    ({"nmae": "x"}, "nmae: unknown key (expected one of name, model, "),
    ({"arms": {"doses": {"general": 4}, "sedes": 3}}, "arms.sedes: unknown key"),
    ({"smallest_effect": "0.05"}, "smallest_effect: a text in quotes, not a number (got '0.05'; expected a number"),
    ({"smallest_effect": 2}, "smallest_effect: out of range (got '2'; expected a number above 0 and below 1)"),
    ({"smallest_effect": float("nan")}, "smallest_effect: not a number (got 'nan'"),
    ({"arms": {"doses": {"genral": [96]}}}, "arms.doses.genral: this source is not declared under generalist"),
    ({"arms": {"doses": {"general": [96, -5]}}}, "arms.doses.general[1]: out of range (got -5"),
    ({"arms": {"doses": {"general": [96, 97.0]}}}, "arms.doses.general[1]: not a whole number (got '97.0'"),
    ({"transfer": "yes"}, "transfer: not true or false (got 'yes'"),
    ({"hold_equal": "step"}, "hold_equal: no such value (got 'step'; expected target_passes | steps | tokens)"),
    ({"models": ["org/name"]}, "models: both model and models are given"),
    ({"target": "rows.jsonl"}, "target: not a mapping (got 'rows.jsonl'; expected keys and values)"),
    ({"name": None}, "name: a key is missing"),
    ({"verdict_at": 7}, "verdict_at: not one of arms.target_rows (got '7'; expected 48 | largest)"),
]


@pytest.mark.parametrize(("said", "line"), PROBLEMS)
def test_a_mistake_in_python_is_named_as_in_a_file(folder: Path, said: dict[str, Any], line: str) -> None:
    with pytest.raises(SpecError) as caught:
        Study(folder=folder, **{**SAID, **said})
    lines = str(caught.value).split("\n")
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"titrant.Study: {line}")


def test_all_mistakes_are_told_at_once(folder: Path) -> None:
    with pytest.raises(SpecError) as caught:
        Study(folder=folder, name="a b", model="org/name", target={"metric": "f2"}, arms={"seeds": 0})
    assert [line.partition(" (")[0] for line in str(caught.value).split("\n")] == [
        "titrant.Study: arms.seeds: out of range",
        "titrant.Study: name: not usable as a name",
        "titrant.Study: target: the target has no rows",
        "titrant.Study: target.metric: no such value",
    ]


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(key=st.sampled_from([*SAID, "models", "targets", "numerics", "retention"]), value=_values)
def test_no_value_breaks_a_study_in_python(folder: Path, key: str, value: Any) -> None:
    said = "titrant.Study"
    try:
        Study(folder=folder, **{**SAID, key: value})
    except SpecError as error:
        said = str(error)
    assert said.startswith("titrant.Study")
