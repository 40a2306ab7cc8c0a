"""The pages that hold code are true: their blocks run, in order, beside a toy study."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fake_study import fake_prepare, write_study
from pages import blocks_of, run_page

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def beside_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a page: a study with its rows, its own modules importable."""
    folder = write_study(tmp_path / "study").parent
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    monkeypatch.setattr("titrant.experiment.runner.DEFAULT_BACKEND", ("fake_study", "TrialBackend"))
    return folder


@pytest.mark.parametrize("name", ["python.md", "extend.md"])
def test_a_page_of_code_runs_as_it_stands(name: str, beside_a_study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        run_page(DOCS / name, beside_a_study)
    finally:
        sys.modules.pop("engines", None)
    if name == "python.md":
        shown = [block.text for block in blocks_of(DOCS / name) if block.kind == ""]
        assert shown[0] in capsys.readouterr().out


def test_each_kind_of_extension_stands_in_about_ten_lines() -> None:
    files = {block.title: block.text for block in blocks_of(DOCS / "extend.md") if block.title}
    code = {name: text for name, text in files.items() if name.endswith(".py")}
    assert sorted(code) == ["backends.py", "batch.py", "engines.py", "formats.py", "metrics.py", "sums.py"]
    for name, text in code.items():
        assert len([line for line in text.splitlines() if line.strip()]) <= 12, name
