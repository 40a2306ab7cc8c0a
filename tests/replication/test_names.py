"""Kept scores are found under the names of the store's first format."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_study import STUDY, fake_prepare, write_study

import titrant
from replication.names import KeptNames
from titrant.core.revisions import REVISIONS

# As version 0.1.0 (2b091e9) named them, before what is asked and what is trained were told apart.
NAMED = {
    ("choices", "accuracy"): {
        ("untuned", 0): "b6d1d0b8e7e1379d6a186961",
        ("6+general:4", 0): "4046fdfdcef2c60557bff71e",
    },
    ("text", "exact_match"): {("6-matched", 0): "7229e40f372cac601397f577"},
    ("loss", "graded"): {("6", 0): "94d88097c673bbdc4db5f07a"},
}


@pytest.mark.parametrize(("answer", "metric"), sorted(NAMED))
def test_a_run_is_kept_under_the_name_that_it_had_in_the_first_format(
    answer: str, metric: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    monkeypatch.setitem(REVISIONS, "generation", 1)  # that of the first format; a raised one names text anew
    target = {**STUDY["target"], "answer": answer, "metric": metric}
    grid = titrant.grid(write_study(tmp_path / "study", target=target), out=tmp_path / "out")
    names = KeptNames(grid)
    found = {(planned.run.arm.name, planned.run.seed): names.of(planned) for planned in grid.runs()}
    assert NAMED[answer, metric].items() <= found.items()
