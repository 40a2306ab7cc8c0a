"""The pages that hold code are true: their blocks run, in order, beside a toy study; the notebook with a tiny model."""

from __future__ import annotations

import gc
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from fake_study import fake_prepare, trial_backend, write_study
from notebooks import run_notebook
from pages import blocks_of, run_page

import titrant

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def beside_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a page: a study with its rows, its own modules importable."""
    folder = write_study(tmp_path / "study").parent
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    monkeypatch.setattr("titrant.experiment.runner.DEFAULT_BACKEND", trial_backend())
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


def test_the_notebook_runs_and_shows_what_stands_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from transformers.models.llama import modeling_llama

    notebook = DOCS / "notebooks" / "first-study.ipynb"
    monkeypatch.setenv("TITRANT_CACHE", str(tmp_path / "cache"))
    assert torch.nn
    assert modeling_llama.LlamaForCausalLM
    gc.freeze()  # each of its runs looks for garbage when it closes: not among a million objects of these imports
    (tmp_path / "work").mkdir()
    done = run_notebook(notebook, tmp_path / "work")
    stored = json.loads(notebook.read_text())
    shown = [[kind for output in cell.get("outputs", []) for kind in kinds(output)] for cell in done["cells"]]
    assert shown == [[kind for output in cell.get("outputs", []) for kind in kinds(output)] for cell in stored["cells"]]
    assert any("text/html" in of_cell for of_cell in shown)
    plans = [plain_text(cell) for cell in (done["cells"][6], stored["cells"][6])]
    assert plans[0] == plans[1]  # exact on every machine; scores may differ in their last digits
    assert "16+general:16  dosed" in plans[0]


def kinds(output: dict[str, Any]) -> list[str]:
    return sorted(output["data"]) if "data" in output else [output["output_type"]]


def plain_text(cell: dict[str, Any]) -> str:
    return "".join(cell["outputs"][0]["data"]["text/plain"])


def test_the_site_names_every_page_and_no_page_that_is_not_there() -> None:
    named = {line.strip().removeprefix("- ") for line in (DOCS.parent / "mkdocs.yml").read_text().splitlines()}
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.glob("*.md")}
    assert pages == {name for name in named if name.endswith(".md")}


def test_the_package_is_typed_for_those_who_install_it() -> None:
    assert (Path(titrant.__file__).parent / "py.typed").is_file()
    settings = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())
    assert settings["tool"]["hatch"]["build"]["targets"]["wheel"] == {"packages": ["src/titrant"]}  # all files of it
