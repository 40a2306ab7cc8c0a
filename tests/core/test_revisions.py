"""A raised revision of any room gives every run, and every checkpoint of a training, another name."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_study import STUDY, fake_prepare, write_study

from titrant.config.study import load_study
from titrant.core.revisions import REVISIONS
from titrant.experiment.design import make_design
from titrant.experiment.prepare import prepare_study


@pytest.mark.parametrize("room", sorted(REVISIONS))
def test_a_raised_revision_renames_every_run_or_every_request(
    room: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    target = {**STUDY["target"], "answer": "text"}
    prepared = prepare_study(load_study(write_study(tmp_path / "study", target=target, retention=None)))
    before = make_design(prepared).runs
    monkeypatch.setitem(REVISIONS, room, REVISIONS[room] + 1)
    after = make_design(prepared).runs
    answers = room in ("inference", "generation")
    runs = {planned.run.run_id for planned in before} & {planned.run.run_id for planned in after}
    assert len(runs) == (len({planned.run.run_id for planned in before}) if answers else 0)
    assert bool(before[0].requests.names & after[0].requests.names) != answers


@pytest.mark.parametrize(("answer", "renames"), [("text", True), ("choices", False)])
def test_a_raised_revision_of_generation_renames_requests_for_text_alone(
    answer: str, renames: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    prepared = prepare_study(
        load_study(write_study(tmp_path / "study", target={**STUDY["target"], "answer": answer}, retention=None))
    )
    assert bool(make_design(prepared).runs[0].requests.prompts) == renames
    before = make_design(prepared).runs[0].requests.names
    monkeypatch.setitem(REVISIONS, "generation", REVISIONS["generation"] + 1)
    after = make_design(prepared).runs[0].requests.names
    assert bool(before & after) != renames
    assert (before == after) != renames


def test_a_raised_revision_of_training_renames_its_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    from titrant.backends.hf.training import TrainingOptions, training_fingerprint
    from titrant.core.records import PreparedModel, TokenRow, TrainingPlan, TrainingSettings

    model = PreparedModel(
        name="toy", folder="", fingerprint="toy", template="plain", chat_template=None, bos=None, eos="",
        architecture="toy", parameters=0, vocabulary=9, context_tokens=9, licence=None, origin="toy",
    )  # fmt: skip
    row = TokenRow(key="a", source="s", ids=(1, 2), loss_from=1)
    plan = TrainingPlan(model=model, rows=(row,), steps=((0,),), settings=TrainingSettings(learning_rate=0.1), seed=0)
    before = training_fingerprint(plan, TrainingOptions())
    monkeypatch.setitem(REVISIONS, "training", REVISIONS["training"] + 1)
    assert training_fingerprint(plan, TrainingOptions()) != before
