"""Gemma 3 270M, the base model of the core study: how it is spoken to, and that it trains and answers on our path."""

import gc
from pathlib import Path

import pytest

from titrant.core.records import (
    Item,
    Numerics,
    PreparedModel,
    StepReport,
    TokenRow,
    TrainingPlan,
    TrainingSettings,
    Turn,
)
from titrant.tokens import renderer_for

pytestmark = pytest.mark.model
CAPITALS = (("France", "Paris"), ("Japan", "Tokyo"), ("Italy", "Rome"))


def capital_of(country: str, city: str) -> Item:
    return Item(
        key=country,
        row_id=country,
        eval_set="target",
        target="capitals",
        task="capitals",
        turns=(Turn(role="user", text=f"The capital of {country} is"),),
        references=(city,),
        choices=tuple(city for _, city in CAPITALS),
        answer="choices",
        metric="accuracy",
        max_answer_tokens=4,
    )


def test_a_base_gemma_gets_the_plain_template_and_no_control_tokens_but_its_own_ends(gemma3: PreparedModel) -> None:
    assert (gemma3.template, gemma3.vocabulary, gemma3.licence) == ("plain", 262_144, "gemma")
    assert 260_000_000 < gemma3.parameters < 280_000_000
    renderer = renderer_for(gemma3)
    question = renderer.question(capital_of(*CAPITALS[0]))
    assert renderer.tokenizer.decode(question.prompt) == "The capital of France is\n\nAnswer:"
    assert question.prompt[0] == renderer.tokenizer.token_id("<bos>")
    assert {choice[-1] for choice in question.choices} == {renderer.tokenizer.token_id("<eos>")}
    assert "<start_of_turn>" not in renderer.prompt(capital_of(*CAPITALS[0]).turns).text


@pytest.mark.slow
def test_gemma_trains_two_steps_and_answers(gemma3: PreparedModel, tmp_path: Path) -> None:
    """About 10 GiB of memory and a minute of one core."""
    from titrant.backends.hf.backend import HuggingFaceBackend
    from titrant.core.environment import current_numerics

    numerics: Numerics = current_numerics("auto", 1, "cpu")
    renderer = renderer_for(gemma3)
    items = [capital_of(*pair) for pair in CAPITALS]
    rows: tuple[TokenRow, ...] = tuple(renderer.reference_row(item) for item in items)
    backend = HuggingFaceBackend(numerics)
    untuned = backend.untuned(gemma3)
    before = untuned.losses(rows)
    chosen = untuned.loglikelihood([renderer.question(item) for item in items])
    assert [max(range(3), key=lambda index: sums[index]) for sums in chosen] == [0, 1, 2]  # it knows its capitals
    reports: list[StepReport] = []
    plan = TrainingPlan(
        model=gemma3,
        rows=rows,
        steps=((0, 1, 2), (0, 1, 2)),
        settings=TrainingSettings(learning_rate=2e-5, batch_rows=3, warmup_share=0.0, schedule="constant"),
        seed=0,
    )
    tuned = backend.train(plan, checkpoints=tmp_path, on_step=reports.append, stop=lambda: None)
    after = tuned.losses(rows)
    assert [report.step for report in reports] == [1, 2]
    assert sum(after) < sum(before) - 0.3
    written = tuned.write([renderer.generation(items[0])])
    assert renderer.tokenizer.decode(written[0].ids).strip() == "Paris"
    tuned.close()
    gc.collect()
