"""The house keeps its own rules: no circle of imports, one meaning a name, nothing private imported, research by the
public door."""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

import titrant

ROOT = Path(titrant.__file__).parent
# What a reader may meet under one name in two places, and why that is one meaning.
ONE_MEANING = {
    "Floats": "an array of floats, wherever arrays are",
    "Bools": "an array of truth values",
    "Ints": "an array of whole numbers",
}


@cache
def trees() -> dict[str, ast.Module]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(tree: ast.Module, *, everywhere: bool) -> list[tuple[str, str]]:
    """(module, name) of every import from the package: at import time, or also inside functions."""
    nodes = ast.walk(tree) if everywhere else iter(tree.body)
    return [
        (node.module, alias.name)
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "titrant"
        for alias in node.names
    ]


def test_no_modules_import_each_other_in_a_circle() -> None:
    arrows = {
        name: {
            target
            for module, alias in imported(tree, everywhere=False)
            for target in [f"{module}.{alias}" if f"{module}.{alias}" in trees() else module]
            if target != name
        }
        for name, tree in trees().items()
    }
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done:
            return
        for target in sorted(arrows.get(name, ())):
            walk(target, (*path, name))
        done.add(name)

    for name in arrows:
        walk(name, ())


def test_a_class_or_type_name_has_one_meaning() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for module, tree in trees().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(module)
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript):
                for target in node.targets:
                    if isinstance(target, ast.Name) and target.id[:1].isupper() and not target.id.isupper():
                        places[target.id].append(module)
    twice = {
        name: modules
        for name, modules in places.items()
        if len(modules) > 1 and not name.startswith("_") and name not in ONE_MEANING
    }
    assert not twice, twice


def test_nothing_private_is_imported_from_another_module() -> None:
    taken = [
        f"{name}: {module}.{alias}"
        for name, tree in trees().items()
        for module, alias in imported(tree, everywhere=True)
        if alias.startswith("_") and not alias.startswith("__")
    ]
    assert not taken, "\n".join(taken)


RESEARCH = Path(__file__).parents[1] / "research"


def beyond_the_door(source: str) -> list[str]:
    """What a module takes of titrant that is no public name."""
    taken = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            # Under another name the package's modules would be reached where no check looks.
            renamed = [f"titrant as {alias.asname}" for alias in node.names if alias.name == "titrant" and alias.asname]
            taken += [*renamed, *(alias.name for alias in node.names if alias.name.startswith("titrant."))]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "titrant":
            public = titrant.__all__ if node.module == "titrant" else ()
            taken += [f"{node.module}.{alias.name}" for alias in node.names if alias.name not in public]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "titrant":
            taken += [f"titrant.{node.attr}"] if node.attr not in titrant.__all__ else []
    return taken


def test_research_uses_public_names_only() -> None:
    modules = sorted(RESEARCH.rglob("*.py"))
    assert modules
    found = {path.name: beyond_the_door(path.read_text(encoding="utf-8")) for path in modules}
    assert not {name: taken for name, taken in found.items() if taken}


def test_the_check_of_research_sees_every_way_in() -> None:
    ways = {
        "import titrant.core.records": ["titrant.core.records"],
        "import titrant as t": ["titrant as t"],
        "from titrant.storage.store import Store": ["titrant.storage.store.Store"],
        "from titrant import api, judge": ["titrant.api"],
        "def late():\n    from titrant.core import errors": ["titrant.core.errors"],
        "import titrant\ntitrant.stats.contrasts.layout(3)": ["titrant.stats"],
        "import titrant\ntitrant.judge({})": [],
    }
    assert {source: beyond_the_door(source) for source in ways} == ways
