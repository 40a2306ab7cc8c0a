"""One arm for another trainer: its rows as that trainer reads them, and a configuration that trains on exactly these.

The file holds every visit of every row, in the order of the arm's steps: two passes over a row are two lines. One epoch
over the file is then the arm, whatever the trainer's shuffle does, where mixing by weights or passes would be another
treatment (a weight means something else in every trainer).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from titrant.core.errors import DataError, SpecError
from titrant.core.identity import plain
from titrant.core.records import Example, TrainingSettings
from titrant.experiment.design import PlannedRun
from titrant.experiment.mix import Mix, WrittenMix, mix_of
from titrant.experiment.prepare import PreparedStudy
from titrant.storage.atomic import write_bytes

_SCHEDULES = {"linear": "linear", "constant": "constant_with_warmup", "cosine": "cosine"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """How a trainer reads rows and settings. `row` writes one visit; `settings` the keys of its configuration."""

    command: str
    row: Callable[[Example], dict[str, Any]]
    settings: Callable[[Recipe], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a configuration is made of. `model` is None where no other trainer can load the study's model."""

    model: str | None
    rows: Path
    training: TrainingSettings
    steps: int
    seed: int

    @property
    def output(self) -> str:
        return str(self.rows.with_suffix("")) + "-model"

    @property
    def warmup_steps(self) -> int:
        return round(self.training.warmup_share * self.steps)

    def adapter(self, rank: str, alpha: str, **beside: Any) -> dict[str, Any]:
        """The trainer's keys of an adapter; none where all weights are trained."""
        lora = self.training.lora
        if self.training.method != "lora" or lora is None:
            return {}
        return {rank: lora.rank, alpha: lora.alpha, **beside}

    @property
    def kind(self) -> str:
        return "parquet" if self.rows.suffix == ".parquet" else "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenForTrainer:
    """The rows, the configuration beside them, and the command that trains on it."""

    mix: WrittenMix
    config: Path
    command: str


def write_for(
    trainer: str, planned: PlannedRun, out: Path, *, prepared: PreparedStudy, model: str
) -> WrittenForTrainer:
    """Write an arm for `trainer`: every visit of its rows (JSON Lines or Parquet, by the name of `out`), the sidecar,
    and a configuration. Raises `DataError` where the trainer's reader would not give back the rows as they stand."""
    if trainer not in TRAINERS:
        raise SpecError("no such trainer", where="--for", got=trainer, expected=", ".join(TRAINERS))
    if out.suffix not in (".jsonl", ".parquet"):
        raise SpecError("no such file of rows", where="--out", got=out.name, expected="a name in .jsonl or .parquet")
    assert planned.plan is not None, "the untuned model has no rows"
    chosen = TRAINERS[trainer]
    once = mix_of(planned, prepared=prepared)
    rows = [
        {**chosen.row(planned.examples[index]), "channel": planned.examples[index].source}
        for step in planned.plan.steps
        for index in step
    ]
    sidecar = once.sidecar | {"trainer": trainer, "format": trainer, "distinct_rows": len(once.rows), "rows": len(rows)}
    written = _write_rows(Mix(rows=rows, sidecar=sidecar), out)
    recipe = Recipe(
        model=_loadable(model),
        rows=out.absolute(),
        training=planned.run.arm.training,
        steps=planned.run.steps,
        seed=planned.run.seed,
    )
    config = out.with_name(f"{out.stem}.{trainer}.yaml")
    command = chosen.command.format(config=config)
    write_bytes(config, _config_text(trainer, command, recipe, planned).encode())
    if trainer == "llamafactory":
        _write_dataset_info(out)
    return WrittenForTrainer(mix=written, config=config, command=command)


# ----------------------------------------------------------------------------------------------------------------- rows


def _write_rows(mix: Mix, out: Path) -> WrittenMix:
    if out.suffix == ".jsonl":
        written = mix.write(out)
        _check_inference(out, mix.rows)
        return written
    import pyarrow as pa
    from pyarrow import parquet

    written = mix.write(out)  # the sidecar; the rows are written over it
    parquet.write_table(pa.Table.from_pylist(mix.rows), out)
    return written


def _check_inference(out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """The trainers read JSON by pyarrow, which takes a column of nothing but dates for times: other text is learned."""
    import pyarrow as pa
    from pyarrow import json as arrow_json

    read = arrow_json.read_json(out, read_options=arrow_json.ReadOptions(block_size=max(1 << 20, out.stat().st_size)))
    if read.to_pylist() != [dict(row) for row in rows]:
        odd = [field.name for field in read.schema if "timestamp" in str(field.type)]
        raise DataError(
            "rows that a trainer would read as something else",
            where=str(out),
            got=f"column {', '.join(odd) or '?'} of {pa.__name__} is a time, and the rows hold text",
            fix="write Parquet, which says what is text: --out " + out.with_suffix(".parquet").name,
        )


def _messages(example: Example, flag: str | None = None) -> dict[str, Any]:
    """The conversation; `flag` says of each turn whether it is learned, where the trainer knows such a key."""
    if not example.prompt:
        raise DataError(
            "plain text has no conversation to write",
            where=str(example.origin or example.row_id),
            fix="export this pool with --format messages, and train on its texts as your trainer reads plain text",
        )
    turns = [{"role": turn.role, "content": turn.text} for turn in example.turns]
    if flag is None:
        return {"messages": turns}
    last = len(turns) - 1
    return {"messages": [turn | {flag: number == last} for number, turn in enumerate(turns)]}


def _prompt_completion(example: Example) -> dict[str, Any]:
    """TRL learns the completion alone: earlier answers of a conversation stay in the prompt, as in Titrant."""
    turns = _messages(example)["messages"]
    return {"prompt": turns[:-1], "completion": turns[-1:]}


def _loadable(model: str) -> str | None:
    return None if model.startswith("package:") or model.endswith(".gguf") else model


# ------------------------------------------------------------------------------------------------------------ settings


def _config_text(trainer: str, command: str, recipe: Recipe, planned: PlannedRun) -> str:
    """YAML by hand: PyYAML, which all of them read it with, takes 5e-05 for text."""
    head = [
        f"# {command}",
        f"# Arm {planned.run.arm.name} at seed {recipe.seed}: a line for every visit of its rows, so one epoch.",
    ]
    if recipe.model is None:
        head.append("# The study's model is a GGUF file, which is no model to train from elsewhere: name its original.")
    if recipe.training.loss_weight == "row":
        head.append("# The study weighs each row the same; this trainer weighs each token of a batch the same.")
    lines = [f"{key}: {_yaml(value)}" for key, value in TRAINERS[trainer].settings(recipe).items() if value is not None]
    return "\n".join([*head, *lines]) + "\n"


def _yaml(value: Any) -> str:
    if isinstance(value, float):
        return str(np.format_float_positional(value, trim="0"))
    return json.dumps(plain(value), ensure_ascii=False)


def _shared(recipe: Recipe) -> dict[str, Any]:
    """The keys that are transformers' own, which three of the four trainers pass on."""
    return {
        "num_train_epochs": 1,
        "per_device_train_batch_size": recipe.training.batch_rows,
        "lr_scheduler_type": _SCHEDULES[recipe.training.schedule],
        **_everywhere(recipe),
    }


def _everywhere(recipe: Recipe) -> dict[str, Any]:
    """The keys that all four trainers have in the same words."""
    training = recipe.training
    return {
        "gradient_accumulation_steps": 1,
        "learning_rate": training.learning_rate,
        "warmup_steps": recipe.warmup_steps,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.clip_norm,
        "adam_beta1": training.beta1,
        "adam_beta2": training.beta2,
        "adam_epsilon": training.epsilon,
        "seed": recipe.seed,
        "output_dir": recipe.output,
    }


def _trl(recipe: Recipe) -> dict[str, Any]:
    data = {"path": recipe.kind, "data_files": str(recipe.rows), "split": "train", "columns": ["prompt", "completion"]}
    return {
        "model_name_or_path": recipe.model,
        "datasets": [data],
        "completion_only_loss": True,
        "packing": False,
        "max_length": recipe.training.max_tokens,
        **_shared(recipe),
        **recipe.adapter("lora_r", "lora_alpha", use_peft=True, lora_target_modules=["all-linear"]),
    }


def _llamafactory(recipe: Recipe) -> dict[str, Any]:
    return {
        "model_name_or_path": recipe.model,
        "stage": "sft",
        "do_train": True,
        "finetuning_type": recipe.training.method,
        **recipe.adapter("lora_rank", "lora_alpha", lora_target="all"),
        "dataset": recipe.rows.stem,
        "dataset_dir": str(recipe.rows.parent),
        "mix_strategy": "concat",
        "mask_history": True,
        "packing": False,
        "cutoff_len": recipe.training.max_tokens,
        **_shared(recipe),
    }


def _axolotl(recipe: Recipe) -> dict[str, Any]:
    training = recipe.training
    data = {
        "path": str(recipe.rows),
        "ds_type": recipe.kind,
        "type": "chat_template",
        "field_messages": "messages",
        "message_field_training": "train",
        "roles_to_train": [],
        "train_on_eos": "turn",
    }
    return {
        "base_model": recipe.model,
        "datasets": [data],
        "dataset_exact_deduplication": False,
        "val_set_size": 0,
        "sample_packing": False,
        "sequence_len": training.max_tokens,
        "num_epochs": 1,
        "micro_batch_size": training.batch_rows,
        "optimizer": "adamw_torch",
        "lr_scheduler": _SCHEDULES[training.schedule],
        **_everywhere(recipe),
        **recipe.adapter("lora_r", "lora_alpha", adapter="lora", lora_target_linear=True),
    }


def _swift(recipe: Recipe) -> dict[str, Any]:
    return {
        "model": recipe.model,
        "tuner_type": recipe.training.method,
        **recipe.adapter("lora_rank", "lora_alpha", target_modules="all-linear"),
        "dataset": [str(recipe.rows)],
        "split_dataset_ratio": 0,  # otherwise rows of the arm may be taken away for validation
        "packing": False,
        "max_length": recipe.training.max_tokens,
        **_shared(recipe),
    }


def _write_dataset_info(out: Path) -> None:
    """LLaMA-Factory knows its files from one list in their folder: what others put there stays."""
    path = out.with_name("dataset_info.json")
    known = json.loads(path.read_bytes()) if path.is_file() else {}
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    known[out.stem] = {
        "file_name": out.name,
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": tags | {"system_tag": "system"},
    }
    write_bytes(path, (json.dumps(known, indent=2, ensure_ascii=False) + "\n").encode())


TRAINERS: Mapping[str, Trainer] = {
    "trl": Trainer(command="trl sft --config {config}", row=_prompt_completion, settings=_trl),
    "llamafactory": Trainer(command="llamafactory-cli train {config}", row=_messages, settings=_llamafactory),
    "axolotl": Trainer(
        command="axolotl train {config}", row=lambda example: _messages(example, "train"), settings=_axolotl
    ),
    "swift": Trainer(command="swift sft {config}", row=lambda example: _messages(example, "loss"), settings=_swift),
}
