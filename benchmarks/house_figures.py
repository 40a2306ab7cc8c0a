"""The shape of the code in numbers: functions, modules, rooms, comments, repeats.

    python benchmarks/house_figures.py                      the working tree's src/titrant
    python benchmarks/house_figures.py 2b091e9 main         commits, side by side
    python benchmarks/house_figures.py --json figures.json main

A function's lines are those from `def` to its end, with its docstring; nested functions count in both. Code lines are
lines that hold a token other than a comment or a docstring. A repeat is a run of six or more code lines that stands,
spaces at both ends aside, in two places; imports and lines without a letter are left out.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import statistics
import subprocess
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
REPEATED_LINES = 6
LARGEST = 5
_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What is counted of a tree of sources; names with their lines, the largest first."""

    modules: int
    lines: int
    code_lines: int
    comments_per_code_line: float
    docstrings_per_code_line: float
    functions: int
    function_lines_median: float
    function_lines_p90: float
    largest_functions: list[tuple[str, int]]
    largest_modules: list[tuple[str, int]]
    room_lines: dict[str, int]
    repeats: int
    repeat_places: list[str]


def sources(commit: str | None, folder: str) -> dict[str, str]:
    """The Python files below `folder` by their path there, of a commit or of the working tree."""
    if commit is None:
        base = ROOT / folder
        return {path.relative_to(base).as_posix(): path.read_text("utf-8") for path in sorted(base.rglob("*.py"))}
    names = _git("ls-tree", "-r", "--name-only", commit, folder).splitlines()
    found = [name for name in names if name.endswith(".py")]
    return {name.removeprefix(folder + "/"): _git("show", f"{commit}:{name}") for name in found}


def _git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True).stdout


def figures_of(files: dict[str, str]) -> Figures:
    """Count everything."""
    functions, code = dict[str, int](), dict[str, list[tuple[int, str]]]()
    comments = docstrings = code_lines = 0
    for name, text in files.items():
        tree = ast.parse(text)
        functions |= {f"{name}:{function}": lines for function, lines in _functions(tree)}
        documented = _docstring_lines(tree)
        docstrings += len(documented)
        spoken, holding = _comments_and_code(text)
        comments += len(spoken)
        lines = text.splitlines()
        code_lines += len(holding - documented)
        compared = sorted(holding - documented - _import_lines(tree))
        code[name] = [(number, lines[number - 1].strip()) for number in compared]
    sizes = {name: len(text.splitlines()) for name, text in files.items()}
    rooms: Counter[str] = Counter()
    for name, size in sizes.items():
        rooms[name.partition("/")[0]] += size
    repeats = _repeats(code)
    return Figures(
        modules=len(files),
        lines=sum(sizes.values()),
        code_lines=code_lines,
        comments_per_code_line=round(comments / code_lines, 3),
        docstrings_per_code_line=round(docstrings / code_lines, 3),
        functions=len(functions),
        function_lines_median=statistics.median(functions.values()),
        function_lines_p90=statistics.quantiles(functions.values(), n=10)[-1],
        largest_functions=Counter(functions).most_common(LARGEST),
        largest_modules=Counter(sizes).most_common(LARGEST),
        room_lines=dict(sorted(rooms.items())),
        repeats=len(repeats),
        repeat_places=repeats,
    )


def _functions(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every function by `name:line` with its lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{node.lineno} {node.name}", int(node.end_lineno or 0) - node.lineno + 1


def _docstring_of(node: ast.AST) -> range:
    """The lines of a node's docstring."""
    if not isinstance(node, _WITH_DOCSTRING) or ast.get_docstring(node, clean=False) is None:
        return range(0)
    return range(node.body[0].lineno, int(node.body[0].end_lineno or 0) + 1)


def _docstring_lines(tree: ast.Module) -> set[int]:
    return {line for node in ast.walk(tree) for line in _docstring_of(node)}


def _import_lines(tree: ast.Module) -> set[int]:
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return {line for node in imports for line in range(node.lineno, int(node.end_lineno or 0) + 1)}


def _comments_and_code(text: str) -> tuple[set[int], set[int]]:
    """The lines that hold a comment, and those that hold any other token."""
    comments, code = set[int](), set[int]()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.type not in _NO_CODE:
            code.update(range(token.start[0], token.end[0] + 1))
    return comments, code


def _repeats(code: dict[str, list[tuple[int, str]]]) -> list[str]:
    """Where six lines of code stand that stand elsewhere too: `file:line = file:line`, each run once."""
    places: dict[tuple[str, ...], list[tuple[str, int]]] = defaultdict(list)
    kept = {
        name: [line for line in lines if any(letter.isalpha() for letter in line[1])] for name, lines in code.items()
    }
    for name, lines in kept.items():
        for start in range(len(lines) - REPEATED_LINES + 1):
            places[tuple(text for _, text in lines[start : start + REPEATED_LINES])].append((name, start))
    found = []
    for (name, start), *others in places.values():
        for other, place in others:
            # a run that is longer than six lines is said where it begins
            begins = start == 0 or place == 0 or kept[name][start - 1][1] != kept[other][place - 1][1]
            if begins:
                found.append(f"{name}:{kept[name][start][0]} = {other}:{kept[other][place][0]}")
    return found


def shown(figures: Figures) -> str:
    """The figures in lines of text."""
    largest = [f"  {lines:5} {name}" for name, lines in figures.largest_functions]
    modules = [f"  {lines:5} {name}" for name, lines in figures.largest_modules]
    rooms = ", ".join(f"{name} {lines:,}" for name, lines in figures.room_lines.items())
    return "\n".join(
        [
            f"{figures.modules} modules, {figures.lines:,} lines, {figures.code_lines:,} of code",
            f"for a line of code: {figures.comments_per_code_line} lines with a comment, "
            f"{figures.docstrings_per_code_line} of docstring",
            f"{figures.functions:,} functions, lines: median {figures.function_lines_median:g}, "
            f"p90 {figures.function_lines_p90:g}; the largest:",
            *largest,
            "the largest modules:",
            *modules,
            f"rooms: {rooms}",
            f"repeats of {REPEATED_LINES} lines: {figures.repeats}",
            *(f"  {place}" for place in figures.repeat_places),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("commits", nargs="*", help="commits; the working tree where none is named")
    parser.add_argument("--folder", default="src/titrant", help="the sources that are counted")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    found = {
        commit or "working tree": figures_of(sources(commit, options.folder)) for commit in options.commits or [None]
    }
    for commit, figures in found.items():
        print(f"== {commit}\n{shown(figures)}\n")
    if options.json:
        options.json.write_text(json.dumps({name: asdict(each) for name, each in found.items()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
