"""How fast a model is on this machine: measured once, kept, and measured anew on request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_study import fake_prepare, trial_backend, write_study

import titrant.experiment.speed
from titrant.config.study import load_study
from titrant.experiment.design import Design, make_design
from titrant.experiment.prepare import prepare_study
from titrant.experiment.speed import kept_speed, speed_of

Planned = Callable[..., Design]


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planned:
    """A small study's design with keys of its own; measuring happens in this process."""
    monkeypatch.setenv("TITRANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    execute = titrant.experiment.speed.execute

    def here(*arguments: Any, **options: Any) -> None:
        execute(*arguments, **{**options, "processes": 0})

    monkeypatch.setattr("titrant.experiment.speed.execute", here)
    return lambda **said: make_design(prepare_study(load_study(write_study(tmp_path / "study", **said))))


def _steps(log: Path) -> list[str]:
    return [line.split()[0] for line in log.read_text().splitlines()] if log.is_file() else []


def test_measuring_takes_three_steps_of_the_longest_run_and_leaves_nothing(
    planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    log = tmp_path / "log"
    found = speed_of(planned(), trial_backend(log=str(log)))
    assert _steps(log) == ["start", "step1", "step2", "step3", "end"]
    assert found is not None
    assert found.memory_bytes > 0
    assert not found.kept
    assert not list((tmp_path / "tmp").iterdir())


def test_a_speed_is_measured_once_and_then_known(planned: Planned, tmp_path: Path) -> None:
    design, log = planned(), tmp_path / "log"
    assert kept_speed(design) is None
    first = speed_of(design, trial_backend(log=str(log)))
    again = speed_of(design, trial_backend(log=str(log)))
    assert first is not None
    assert again == replace(first, kept=True) == kept_speed(design)
    assert _steps(log).count("start") == 1
    assert len(first.measured) == len("2026-12-01")


def test_it_is_measured_anew_where_it_is_asked_for(planned: Planned, tmp_path: Path) -> None:
    design, log = planned(), tmp_path / "log"
    for anew in (False, True):
        found = speed_of(design, trial_backend(log=str(log)), anew=anew)
        assert found is not None
        assert not found.kept
    assert _steps(log).count("start") == 2


@pytest.mark.parametrize(
    "said",
    [
        {"arms": {"target_rows": [6], "doses": {"general": [4]}, "seeds": 5}},
        {"arms": {"target_rows": [6], "doses": {"general": [4, 3]}, "seeds": 2}},
        {"smallest_effect": 0.2},
    ],
)
def test_seeds_doses_and_the_smallest_effect_need_no_new_measurement(planned: Planned, said: dict[str, Any]) -> None:
    speed_of(planned(), trial_backend())
    assert kept_speed(planned(**said)) is not None


@pytest.mark.parametrize(
    "said",
    [
        {"numerics": {"threads": 2}},
        {"training": {"passes": 2, "batch_rows": 4, "max_tokens": 400, "method": "lora"}},
        {"training": {"passes": 2, "batch_rows": 1, "max_tokens": 400}},
        {"retention": None, "target": {"train": "train.jsonl", "test": "test.jsonl", "metric": "rouge_l",
         "instruction": "Name the kind.", "columns": {"text": "text", "label": "label"}, "answer": "text"}},
    ],
    ids=["threads", "method", "rows of a step", "kind of answer"],
)  # fmt: skip
def test_what_decides_the_speed_is_measured_anew(planned: Planned, said: dict[str, Any]) -> None:
    speed_of(planned(), trial_backend())
    assert kept_speed(planned(**said)) is None


def test_another_model_or_machine_has_a_speed_of_its_own(planned: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    design = planned()
    speed_of(design, trial_backend())
    ((name, entry),) = design.prepared.models.items()
    other = replace(entry, model=replace(entry.model, fingerprint="another"))
    assert kept_speed(replace(design, prepared=replace(design.prepared, models={name: other}))) is None
    monkeypatch.setattr("titrant.experiment.speed.machine_name", lambda device: "another machine")
    assert kept_speed(design) is None


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"speed": {"training_rate": 1}}'])
def test_a_damaged_memory_is_measured_anew(planned: Planned, tmp_path: Path, damage: bytes) -> None:
    design = planned()
    speed_of(design, trial_backend())
    (kept,) = (tmp_path / "cache" / "speeds").iterdir()
    kept.write_bytes(damage)
    found = speed_of(design, trial_backend())
    assert found is not None
    assert not found.kept
    assert kept_speed(design) is not None
