"""The page on performance says what its file of figures says."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("performance_page", ROOT / "benchmarks" / "performance_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_is_written_from_the_figures(
    page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "performance.json").write_bytes((ROOT / "docs" / "performance.json").read_bytes())
    monkeypatch.setattr(page, "DOCS", tmp_path)
    page.main()
    assert (tmp_path / "performance.md").read_text() == (ROOT / "docs" / "performance.md").read_text()


def test_a_bar_that_is_missed_is_named(page: ModuleType) -> None:
    facts = {"date": "d", "cpu": "c", "cores": 2, "python": "3", "versions": {}, "threads": 1, "rounds": 5}
    own = {"tokens_per_second": 400.0, "peak_mib": 4096.0, "mean_loss": 1.0}
    rivals = {
        name: {"tokens_per_second": rate, "ours_is_faster": ratio, "peak_mib": 1.0, "mean_loss": 1.0, "ours": own}
        for name, rate, ratio in (("TRL default", 100.0, 3.99), ("TRL packed", 140.0, 2.71))
    }
    products = {"tera_per_second": 0.5, "share": 0.6}
    section = {
        "facts": {**facts, "steps_a_round": 20},
        "rivals": rivals,
        "products": products,
        "real_tokens_in_a_padded_batch": 0.55,
    }
    text = "\n".join(page._page({"training.instructions.threads_1": section}))
    assert "| TRL default | 100 | 400 | 3.99 | 4 **missed** |" in text
    assert "| TRL packed (best of TRL) | 140 | 400 | 2.71 | 2.7 met |" in text


def test_figures_of_a_race_that_goes_on_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from performance import add_section

    path = tmp_path / "performance.json"
    add_section(path, "training", {"facts": {"date": "1"}, "rivals": {"a": 1}})
    add_section(path, "training", {"facts": {"date": "1"}, "rivals": {"b": 2}})
    assert json.loads(path.read_text())["training"]["rivals"] == {"a": 1, "b": 2}
    add_section(path, "training", {"facts": {"date": "2"}, "rivals": {"c": 3}})
    assert json.loads(path.read_text())["training"]["rivals"] == {"c": 3}
