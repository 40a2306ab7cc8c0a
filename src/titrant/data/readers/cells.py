"""The values of cells: what is empty, what is text, and lists that a table holds as text."""

from __future__ import annotations

import re
from typing import Any

from titrant.core.errors import DataError
from titrant.data.readers.json_rows import parse_json

# What opens a list or dict in Python and no JSON: a quoted text, a constant or an array of numpy. Told by its look, as
# parsing a stranger's text as Python can exhaust the stack.
_PYTHON_OPENS = re.compile(r"""\s*[\[{][\s\[{]*(['"\d-]|array\(|True\b|False\b|None\b)""")


def is_filled(value: Any) -> bool:
    """Whether a value says anything: not null, blank text, or an empty list or object."""
    if isinstance(value, str):
        return value != "" and not value.isspace()  # which, unlike strip, copies no long text
    return value is not None and value not in ([], {}, ())


def text_of(value: Any, name: str) -> str:
    """A value as text: text as it is, true and false by their names; `DataError` for all else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):  # every number that can be read is text by now
        raise DataError(f"the {name} is an infinite number", got=value, expected="text or a number")
    kind = {type(None): "null", list: "a list", dict: "an object"}.get(type(value), type(value).__name__)
    raise DataError(f"the {name} is {kind}", got=value, expected="text or a number")


def parsed_cell(value: Any, name: str) -> Any:
    """A cell of a table that holds a JSON list or object, as that; everything else as it is.

    `DataError` for a list in Python's writing, which is what pandas writes into a CSV file.
    """
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        parsed = parse_json(value)
    except DataError:
        if _PYTHON_OPENS.match(value) and value.rstrip().endswith(("]", "}")):
            raise DataError(
                f"the {name} are a list in Python's writing, not JSON, as pandas writes them with to_csv",
                got=value,
                expected='["one", "another"]',
                fix="save it with to_json(orient='records', lines=True) or to_parquet",
            ) from None
        return value
    return parsed if isinstance(parsed, list | dict) else value
