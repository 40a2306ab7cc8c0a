"""The options on SmolLM2-135M with real text."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import titrant
from titrant.backends.hf.training import TrainingOptions, train
from titrant.backends.hf.training.forward import forward_for
from titrant.core.records import PreparedModel, StepReport, TokenRow, TrainingPlan, TrainingSettings

pytestmark = pytest.mark.model


def load(prepared_model: PreparedModel) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(prepared_model.folder, dtype=torch.float32).eval()


def real_rows(prepared_model: PreparedModel, name: str, number: int) -> tuple[TokenRow, ...]:
    """Rows of the embedded pack as plain text: instruction, blank line, answer."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(prepared_model.folder)
    lines = (Path(titrant.__file__).parent / "pack" / name).read_text(encoding="utf-8").splitlines()[:number]
    rows = []
    for line in map(json.loads, lines):
        prompt = tokenizer(f"{line['instruction']}\n{line['input']}\n\n")["input_ids"]
        answer = tokenizer(line["output"])["input_ids"] + [tokenizer.eos_token_id]
        rows.append(TokenRow(key=line["id"], source="general", ids=tuple(prompt + answer), loss_from=len(prompt)))
    return tuple(rows)


def held_out_loss(model: Any, rows: Sequence[TokenRow]) -> float:
    forward = forward_for(model)
    with torch.no_grad():
        return sum(forward.losses([row]).mean().item() for row in rows) / len(rows)


def plan_of(prepared_model: PreparedModel, rows: tuple[TokenRow, ...], steps: int, batch_rows: int) -> TrainingPlan:
    return TrainingPlan(
        model=prepared_model,
        rows=rows,
        steps=tuple(
            tuple((step * batch_rows + place) % len(rows) for place in range(batch_rows)) for step in range(steps)
        ),
        settings=TrainingSettings(learning_rate=2e-5, batch_rows=batch_rows),
        seed=0,
    )


def trained_in(
    dtype: Any, prepared_model: PreparedModel, plan: TrainingPlan, folder: Path
) -> tuple[Any, list[StepReport]]:
    torch.set_num_threads(1)
    reports: list[StepReport] = []
    trained = train(
        plan,
        model=load(prepared_model),
        options=TrainingOptions(dtype=dtype),
        checkpoints=folder,
        on_step=reports.append,
        stop=lambda: None,
    )
    assert trained.traits.ragged
    return trained.model, reports


def test_the_loss_of_packed_rows_is_that_of_each_alone(smollm2: PreparedModel) -> None:
    rows = real_rows(smollm2, "general.jsonl", 3)
    with torch.no_grad():
        model = load(smollm2)
        row = rows[0]
        logits = model(input_ids=torch.tensor([row.ids])).logits[0, row.loss_from - 1 : -1]
        plain = torch.nn.functional.cross_entropy(logits, torch.tensor(row.ids[row.loss_from :]))
        ours = forward_for(model).losses(rows)[: row.loss_tokens].mean()
    assert ours.item() == pytest.approx(plain.item(), rel=1e-5)


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bf16 products: minutes for three steps"
)
def test_three_steps_in_bf16_lower_the_loss_of_the_same_rows(smollm2: PreparedModel, tmp_path: Path) -> None:
    rows = real_rows(smollm2, "general.jsonl", 3)
    _, reports = trained_in("bf16", smollm2, plan_of(smollm2, rows, 3, 3), tmp_path)
    assert reports[-1].loss < reports[0].loss


@pytest.mark.slow
def test_bf16_ends_where_fp32_ends(smollm2: PreparedModel, tmp_path: Path) -> None:
    """Held-out loss after 50 steps within 0.01 nats, and both have learned something."""
    held_out = real_rows(smollm2, "general.heldout.jsonl", 16)
    plan = plan_of(smollm2, real_rows(smollm2, "general.jsonl", 160), 50, 4)
    before = held_out_loss(load(smollm2), held_out)
    after = {
        dtype: held_out_loss(trained_in(dtype, smollm2, plan, tmp_path / dtype)[0], held_out)
        for dtype in ("bf16", "fp32")
    }
    assert after["fp32"] < before - 0.02
    assert abs(after["bf16"] - after["fp32"]) < 0.01
