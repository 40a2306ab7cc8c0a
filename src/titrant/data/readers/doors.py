"""What a name was meant as that was given as a path and is none: a dataset of the hub, a source of the catalogue, or
a page that has to be downloaded."""

from __future__ import annotations

import re
from pathlib import Path

from titrant.data.readers.catalogue import catalogue_names
from titrant.data.readers.file_kinds import kind_of

_HUB_PAGE = re.compile(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/(?:datasets/)?(?P<name>[\w.-]+/[\w.-]+)(?:/.*)?")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(?:@[\w./-]+)?(?::[\w./-]+)?")


def door_of(text: str) -> str | None:
    """How to name what `text` seems to mean, where no file has that name; None where it looks like a plain path.

    >>> door_of("tatsu-lab/alpaca")
    'hub:tatsu-lab/alpaca, if a dataset of the hub is meant'
    >>> door_of("rows.jsonl") is None
    True
    """
    if page := _HUB_PAGE.fullmatch(text):
        return f"hub:{page['name']}, if this dataset of the hub is meant"
    if "://" in text:
        return "download it, and name the file: rows are read from files and from the hub (hub:org/name)"
    written, _, part = text.partition(":")
    name = written.casefold().replace("-", "_")
    if name in catalogue_names():
        with_part = f", part: {part}" if part else ""
        return f"in a study, generalist: {{{name}: {{source: {name}{with_part}}}}} reads this source of the catalogue"
    if _HUB_NAME.fullmatch(text) and kind_of(text) is None and not Path(text).parent.exists():
        return f"hub:{text}, if a dataset of the hub is meant"
    return None
