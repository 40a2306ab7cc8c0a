"""The worked examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path
from typing import Any

import pytest
from fake_study import fake_prepare, trial_backend, write_study

import titrant

ROOT = Path(titrant.__file__).resolve().parent
WITH_EXAMPLES = sorted(
    ".".join(("titrant", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_worked_examples_come_out_as_written(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    if name == "titrant.api":  # its examples are about a small study with a toy model
        monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
        monkeypatch.setattr("titrant.experiment.runner.DEFAULT_BACKEND", trial_backend())
        study = titrant.load_study(write_study(tmp_path / "study"))
        given = {"study": study, "folder": tmp_path, "titrant": titrant}
    found = doctest.testmod(importlib.import_module(name), optionflags=FLAGS, extraglobs=given)
    assert found.attempted
    assert not found.failed
