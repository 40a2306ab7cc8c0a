"""Runs a page of the docs: what its code blocks say is done, in order, in one folder and one namespace."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BLOCK = re.compile(r'^```(?P<kind>\w*)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that it is, and the line on which its text begins."""

    kind: str
    title: str | None
    text: str
    line: int


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in _BLOCK.finditer(text):
        yield Block(found["kind"], found["title"], found["text"], text.count("\n", 0, found.start("text")) + 1)


def run_page(page: Path, folder: Path) -> dict[str, Any]:
    """Write every block with a title into `folder`, then run the Python blocks without one; what they defined."""
    blocks = list(blocks_of(page))
    for block in blocks:
        if block.title is not None:
            (folder / block.title).write_text(block.text)
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks:
        if block.kind == "python" and block.title is None:
            # Lines of errors are those of the page.
            exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)
    return names
