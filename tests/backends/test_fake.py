"""The fake backend keeps the promises of the seam, so that a study tested with it is tested on the seam."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from titrant.backends.fake import FakeBackend
from titrant.backends.protocol import Backend, LanguageModel
from titrant.core.errors import Interrupted
from titrant.core.records import (
    PreparedModel,
    StepReport,
    TokenPrompt,
    TokenQuestion,
    TokenRow,
    TrainingPlan,
    TrainingSettings,
)

MODEL = PreparedModel(
    name="fake", folder="none", fingerprint="0" * 32, template="plain", chat_template=None, bos=None, eos="</s>",
    architecture="fake", parameters=0, vocabulary=260, context_tokens=512, licence=None, origin="tests",
)  # fmt: skip
ROWS = tuple(
    TokenRow(key=f"k{number}", source="general" if number % 3 else "target", ids=tuple(range(4 + number)), loss_from=2)
    for number in range(9)
)
PLAN = TrainingPlan(
    model=MODEL, rows=ROWS, steps=((0, 1), (2, 3), (4, 5), (6, 7, 8)), settings=TrainingSettings(), seed=1
)
QUESTIONS = tuple(
    TokenQuestion(key=f"q{number}", prompt=(1, 2), choices=((3, 9), (4, 9), (5, 6, 9))) for number in range(40)
)
PROMPTS = tuple(TokenPrompt(key=f"p{number}", ids=(1, 2, 3, 4), max_new_tokens=2, end_ids=(9,)) for number in range(40))


def train(plan: TrainingPlan, folder: Path, *, stop_at: int | None = None) -> tuple[LanguageModel, list[StepReport]]:
    backend: Backend = FakeBackend()
    reports: list[StepReport] = []
    language_model = backend.train(
        plan,
        checkpoints=folder,
        on_step=reports.append,
        stop=lambda: 15 if stop_at is not None and reports[-1].step == stop_at else None,
    )
    return language_model, reports


def test_every_step_is_reported_once_with_its_tokens_and_parts_that_add_up(tmp_path: Path) -> None:
    _, reports = train(PLAN, tmp_path)
    assert [report.step for report in reports] == [1, 2, 3, 4]
    assert [report.tokens for report in reports] == [9, 13, 17, 33]
    for report in reports:
        assert sum(part for _, part in report.loss_by_source) == pytest.approx(report.loss)
    assert [name for name, _ in reports[0].loss_by_source] == ["general", "target"]


def test_equal_plans_make_equal_specialists_and_anything_else_another(tmp_path: Path) -> None:
    def answers(plan: TrainingPlan) -> object:
        return train(plan, tmp_path)[0].loglikelihood(QUESTIONS)

    assert answers(PLAN) == answers(PLAN)
    others = [
        replace(PLAN, seed=2),
        replace(PLAN, steps=PLAN.steps[::-1]),
        replace(PLAN, steps=PLAN.steps[:3]),
        replace(PLAN, settings=replace(PLAN.settings, learning_rate=1.0)),
    ]
    assert len({str(answers(plan)) for plan in [PLAN, *others]}) == 5


def test_each_question_prompt_and_row_is_answered_once_in_order_whatever_the_company(tmp_path: Path) -> None:
    language_model, _ = train(PLAN, tmp_path)
    chosen, written, losses = (
        language_model.loglikelihood(QUESTIONS),
        language_model.generate(PROMPTS),
        language_model.losses(ROWS),
    )
    assert [len(entry) for entry in chosen] == [3] * 40
    assert all(value < 0 for entry in chosen for value in entry)
    assert len(written) == 40
    assert all(len(entry.ids) <= 2 for entry in written)
    assert {entry.stop for entry in written} == {"end", "length"}
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)
    assert language_model.loglikelihood(QUESTIONS[::-1]) == chosen[::-1]
    assert language_model.generate(PROMPTS[5:6]) == written[5:6]
    assert language_model.losses(ROWS[3:]) == losses[3:]


def test_training_lowers_the_loss_of_the_untuned_model(tmp_path: Path) -> None:
    long = replace(PLAN, steps=PLAN.steps * 50)
    untuned, tuned = FakeBackend().untuned(MODEL), train(long, tmp_path)[0]
    assert sum(tuned.losses(ROWS)) < sum(untuned.losses(ROWS))


def test_asked_to_stop_it_leaves_a_checkpoint_and_goes_on_to_the_same_specialist(tmp_path: Path) -> None:
    calm, _ = train(PLAN, tmp_path / "calm")
    with pytest.raises(Interrupted) as caught:
        train(PLAN, tmp_path / "killed", stop_at=2)
    assert caught.value.exit_code == 143
    resumed, reports = train(PLAN, tmp_path / "killed")
    assert [report.step for report in reports] == [3, 4]
    assert resumed.loglikelihood(QUESTIONS) == calm.loglikelihood(QUESTIONS)


def test_a_specialist_saves_into_the_folder_it_is_given(tmp_path: Path) -> None:
    language_model, _ = train(PLAN, tmp_path / "work")
    (tmp_path / "model").mkdir()
    language_model.save(tmp_path / "model")
    language_model.close()
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["config.json"]


def test_the_seam_is_imported_without_torch_or_numpy() -> None:
    code = "import sys, titrant.backends.fake; assert not {'torch', 'numpy', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
