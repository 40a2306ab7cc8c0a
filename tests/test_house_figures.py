"""What benchmarks/house_figures.py counts, on sources counted by hand."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "house_figures.py"


@pytest.fixture(scope="module")
def house_figures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("house_figures", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["house_figures"] = module
    spec.loader.exec_module(module)
    return module


def test_functions_comments_rooms_and_repeats_are_counted(house_figures: ModuleType) -> None:
    seven = "".join(f"    x{number} = {number}\n" for number in range(7))
    imports = "from os import (\n    a,\n    b,\n    c,\n    d,\n    e,\n    f,\n)\n"
    files = {
        "room/one.py": f'"""Doc."""\n{imports}\ndef one():\n    """Doc."""\n    # why\n{seven}',
        "two.py": f"{imports}def two():\n{seven}    return 1\n",
    }
    found = house_figures.figures_of(files)
    assert (found.modules, found.functions, found.lines, found.code_lines) == (2, 2, 37, 33)
    assert found.largest_functions == [("room/one.py:11 one", 10), ("two.py:9 two", 9)]
    assert found.comments_per_code_line == round(1 / 33, 3)
    assert found.docstrings_per_code_line == round(2 / 33, 3)
    assert found.room_lines == {"room": 20, "two.py": 17}
    assert found.repeats == 1, "one run of seven lines; imports are none"
