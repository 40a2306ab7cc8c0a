"""Code from outside: loaded once, by its content; what is missing or broken is said with its file and line."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from titrant.core.errors import SpecError
from titrant.core.plugins import Extension, extension_of, import_file, load_extension

METRICS = '''\
"""My metrics."""


def length(prediction, references):
    return min(1.0, len(prediction) / 10)


class Named:
    name, revision = "named", "7"

    def __call__(self, prediction, references, item):
        return 1.0


class Needs:
    def __init__(self, scale):
        self.scale = scale

    def __call__(self, prediction, references):
        return self.scale


ready = Needs(0.5)
number = 3
'''

MARKING = """\
with open({count!r}, "a") as file:
    file.write("x")


def one(p, r):
    return {value}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "metrics.py").write_text(METRICS)
    return tmp_path


def load(folder: Path, written: str, kind: str = "metric") -> Extension:
    return load_extension(written, folder=folder, kind=kind)


def test_a_function_a_class_and_an_object_are_loaded_from_a_file(folder: Path) -> None:
    found = load(folder, "metrics.py:length")
    assert (found, found.revision, found.made("abcde", ["x"])) == ("metrics.py:length", "", 0.5)
    named = load(folder, "metrics.py:Named")
    assert (named.revision, named.made("a", ["b"], None)) == ("7", 1.0)
    assert load(folder, "metrics.py:ready").made("a", ["b"]) == 0.5
    assert found.digest == named.digest
    assert named.identity == ["metrics.py:Named", "7", found.digest]


def test_an_installed_module_is_named_by_a_dotted_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = folder / "my_own_pkg"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "more.py").write_text(METRICS)
    monkeypatch.syspath_prepend(folder)
    found = load(folder, "my_own_pkg.more:length")
    assert found.made("abcde", []) == 0.5
    assert found.digest == load(folder, "metrics.py:length").digest


def test_a_file_is_run_once_until_its_content_changes(folder: Path) -> None:
    count = folder / "count"
    (folder / "m.py").write_text(MARKING.format(count=str(count), value=1.0))
    first = load(folder, "m.py:one")
    assert load(folder, "m.py:one").made is first.made
    assert count.read_text() == "x"
    (folder / "m.py").write_text(MARKING.format(count=str(count), value=0.5))
    second = load(folder, "m.py:one")
    assert (second.made("", []), count.read_text()) == (0.5, "xx")
    assert second.digest != first.digest


def test_two_files_of_one_name_do_not_meet(folder: Path) -> None:
    other = folder / "other"
    other.mkdir()
    (other / "metrics.py").write_text("def length(p, r): return 0.25\n")
    assert load(folder, "metrics.py:length").made("abcde", []) == 0.5
    assert load(other, "metrics.py:length").made("abcde", []) == 0.25
    assert not {"metrics", "length"} & set(sys.modules)


def test_an_extension_of_a_file_is_loaded_again_where_it_is_unpickled(folder: Path) -> None:
    found = load(folder, "metrics.py:Named")
    del sys.modules[import_file(folder / "metrics.py")[0].__name__]
    again = pickle.loads(pickle.dumps(found))
    assert again == found
    assert again.identity == found.identity


# One entry: the file's content (None: METRICS), what is named, the beginning of what is said, and what else it holds.
BROKEN: list[tuple[str | None, str, str, str]] = [
    (
        None,
        "metrics.py",
        "this names no metric",
        "expected my_pkg.module:name, or a file beside the study: file.py:name",
    ),
    (None, "metrics.py:", "this names no metric", "got 'metrics.py:'"),
    (None, "metric.py:length", "{}/metric.py: no such file", "Fix: did you mean metrics.py?"),
    (None, "metrics.py:lenght", "{}/metrics.py: there is no 'lenght' in it", "Fix: did you mean length?"),
    (None, "metrics.py:Named.over", "{}/metrics.py: there is no 'over' in it", "it defines name, revision"),
    (
        None,
        "metrics.py:number",
        "{}/metrics.py: this is no metric",
        "expected a function (prediction, references[, item])",
    ),
    (
        None,
        "metrics.py:Needs",
        "{}/metrics.py:15: making this metric raised TypeError:",
        "Fix: give its arguments defaults",
    ),
    ("x = 1\ndef one(:\n", "metrics.py:one", "{}/metrics.py:2: this is no Python:", "got 'def one(:'"),
    (
        "\n\nimport json\njson.loads('{')\n",
        "metrics.py:one",
        "{}/metrics.py:4: importing it raised JSONDecodeError:",
        "got ",
    ),
    ("import no_such_module_here\n", "metrics.py:one", "{}/metrics.py:1: importing it raised ModuleNotFoundError:", ""),
    (
        "import neighbour\n",
        "metrics.py:one",
        "{}/metrics.py:1: importing it raised",
        "Fix: put what it needs of neighbour.py",
    ),
    (None, "no_such_package.mod:f", "no module 'no_such_package' can be imported", "or name a file beside the study"),
    (None, "titrant.core.errors:no", "{core}/errors.py: there is no 'no' in it", "it defines annotations, Self"),
]


@pytest.mark.parametrize(("text", "written", "said", "more"), BROKEN)
def test_what_is_missing_or_broken_is_said_with_its_place(
    folder: Path, text: str | None, written: str, said: str, more: str
) -> None:
    (folder / "neighbour.py").write_text("")
    if text is not None:
        (folder / "metrics.py").write_text(text)
    with pytest.raises(SpecError) as caught:
        load(folder, written)
    core = Path(sys.modules["titrant.core.errors"].__file__ or "").parent
    assert str(caught.value).startswith(said.replace("{core}", str(core)).replace("{}", str(folder))), caught.value
    assert more in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("row format", 3, "a function (row)"),
        ("task set", object(), "an object with name, revision and instances(rows)"),
        ("backend", b"x", "a class or an object with untuned(model) and train(plan"),
        ("engine", [], "an object with workers(runs, …) and execute(jobs, …)"),
    ],
)
def test_an_object_of_another_kind_is_refused(kind: str, value: Any, expected: str) -> None:
    with pytest.raises(SpecError, match=f"this is no {kind} ") as caught:
        extension_of(value, kind=kind)
    assert expected in str(caught.value)


def test_an_object_is_called_by_its_own_name() -> None:
    def mine(prediction: str, references: Any) -> float:
        return 1.0

    class Mine:
        name, revision = "other", "2"

        def __call__(self, prediction: str, references: Any) -> float:
            return 1.0

    assert extension_of(mine, kind="metric").identity[:2] == ["mine", ""]
    assert extension_of(Mine(), kind="metric").identity[:2] == ["other", "2"]
    assert extension_of(Mine, kind="metric") == "other"
    assert len(extension_of(mine, kind="metric").digest) == 64
    assert extension_of(len, kind="row format").identity == ["len", "", ""]  # built in: no source
