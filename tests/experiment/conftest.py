"""Whole studies without a model: toy rows, bytes as tokens, and a backend that answers from hashes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytest
from fake_study import toy_model, write_rows

import titrant.backends.fake
from titrant.config.study import load_study
from titrant.core.records import PreparedModel
from titrant.engines.local import BackendSpec, execute
from titrant.experiment.design import Design, make_design
from titrant.experiment.prepare import PreparedStudy, prepare_study
from titrant.experiment.results import Results, collect, count_judgement, judge_results
from titrant.experiment.work import job_of
from titrant.report.data import ReportData
from titrant.report.sections.page import report_data
from titrant.storage.store import Store

FAKE_BACKEND = BackendSpec(module="titrant.backends.fake", name="FakeBackend")
LABELS = ("bird", "fish", "tree")
STUDY: dict[str, Any] = {
    "name": "toy",
    "model": "toy-model",
    "target": {
        "train": "train.jsonl",
        "test": "test.jsonl",
        "instruction": "Name the kind.",
        "columns": {"text": "text", "label": "label"},
        "metric": "accuracy",
    },
    "generalist": {"general": {"rows": "general.jsonl"}},
    "arms": {"target_rows": [6, 12], "doses": {"general": [4, 8]}, "seeds": 3},
    "training": {"passes": 2, "batch_rows": 4, "max_tokens": 400},
    "retention": {"kept": "kept.jsonl", "learned": "learned.jsonl"},
}


def write_toy_rows(folder: Path, *, train: int = 18, test: int = 30, pool: int = 16) -> None:
    """Labelled target rows, a pool, items of general ability, and held-out rows of the pool's kind; no text twice."""
    labelled = [{"text": f"thing number {n} of its sort", "label": LABELS[n % 4 % 3]} for n in range(train + test)]
    write_rows(folder / "train.jsonl", labelled[:train])
    write_rows(folder / "test.jsonl", labelled[train:])
    pools = [{"prompt": f"Say the word of row {n}.", "response": f"word {n}"} for n in range(pool + 5)]
    write_rows(folder / "general.jsonl", pools[:pool])
    write_rows(folder / "learned.jsonl", pools[pool:])
    kept = [
        {"question": f"Which of two is question {n}?", "choices": ["this", "that"], "answer": ["this", "that"][n % 2]}
        for n in range(8)
    ]
    write_rows(folder / "kept.jsonl", kept)


@dataclass(frozen=True)
class FakeStudy:
    """A study that FakeBackend has run."""

    prepared: PreparedStudy
    design: Design
    store: Store

    @cached_property
    def results(self) -> Results:
        scores, failed = collect(self.design, self.store)
        judged = judge_results(self.design, scores, self.store)
        times = count_judgement(self.store, self.prepared, scores)
        return Results(self.design, scores, failed, judged, times)


def run_toy_study(
    place: Path,
    *,
    rows: Callable[[Path], None] = write_toy_rows,
    also: Callable[[Path], None] = lambda _: None,
    backend: BackendSpec = FAKE_BACKEND,
    **said: Any,
) -> FakeStudy:
    """Make and run a study: `STUDY` with the given keys in place of its own (None takes a key out).

    `rows` writes the files in place of `write_toy_rows`, `also` adds to them; `backend` is the backend that runs it.
    """
    folder = place / "study"
    folder.mkdir(parents=True, exist_ok=True)
    rows(folder)
    also(folder)
    merged = {key: value for key, value in {**STUDY, **said}.items() if value is not None}
    (folder / "study.yaml").write_text(json.dumps(merged, indent=1))  # JSON is YAML
    (folder / "toy-model").mkdir(exist_ok=True)
    prepared_model = toy_model(place / "prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "titrant.experiment.prepare.prepare", lambda spec, **_: replace(prepared_model, name=Path(spec).name)
        )
        patch.setattr("os.fsync", lambda _: None)  # a test's store need not outlive a power cut
        prepared = prepare_study(load_study(folder / "study.yaml"))
        design = make_design(prepared)
        store = Store.open(place / "out")
        execute(
            [job_of(planned, prepared) for planned in design.distinct], root=store.root, backend=backend, processes=0
        )
    return FakeStudy(prepared, design, store)


@pytest.fixture(scope="session")
def toy_study(tmp_path_factory: pytest.TempPathFactory) -> FakeStudy:
    """The study that `STUDY` says, run once for all tests that only read it."""
    return run_toy_study(tmp_path_factory.mktemp("toy_study"))


@pytest.fixture(scope="session")
def toy_data(toy_study: FakeStudy) -> ReportData:
    """All that the page shows of `toy_study`."""
    return report_data(toy_study.results, toy_study.store)


@pytest.fixture(scope="session")
def run_study_at() -> Callable[..., FakeStudy]:
    """`run_toy_study`, for fixtures of a module that keep a study of their own."""
    return run_toy_study


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., FakeStudy]:
    """`run_toy_study` in the test's own folder."""
    return partial(run_toy_study, tmp_path)


@pytest.fixture(scope="module")
def make_study_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., FakeStudy]:
    """`run_toy_study` for all tests of a module that only read it."""
    return partial(run_toy_study, tmp_path_factory.mktemp("study"))


@pytest.fixture
def toy_prepared(tmp_path: Path) -> PreparedModel:
    """A prepared model that is a tokenizer and nothing else."""
    return toy_model(tmp_path / "prepared")


@pytest.fixture
def backend_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[type], BackendSpec]:
    """How a worker in this process finds a backend that a test has written."""

    def spec(backend: type) -> BackendSpec:
        monkeypatch.setattr(titrant.backends.fake, backend.__name__, backend, raising=False)
        return BackendSpec(module="titrant.backends.fake", name=backend.__name__)

    return spec
