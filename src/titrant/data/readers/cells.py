"""The values of cells: what is empty, what is text, and lists that a table holds as text."""

from __future__ import annotations

import ast
from typing import Any

from titrant.core.errors import DataError, RowsRefused
from titrant.data.readers.json_rows import parse_json

_LONGEST_LITERAL = 100_000


def is_filled(value: Any) -> bool:
    """Whether a value says anything: not null, blank text, or an empty list or object."""
    if isinstance(value, str):
        return bool(value.strip())
    return value is not None and value not in ([], {}, ())


def text_of(value: Any, name: str) -> str:
    """A value as text: text as it is, true and false by their names; `DataError` for all else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    kind = {type(None): "null", list: "a list", dict: "an object"}.get(type(value), type(value).__name__)
    raise DataError(f"the {name} is {kind}", got=value, expected="text or a number")


def parsed_cell(value: Any, name: str) -> Any:
    """A cell of a table that holds a JSON list or object, as that; everything else as it is.

    `RowsRefused` for a list in Python's writing, which is what pandas writes into a CSV file.
    """
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        parsed = parse_json(value)
    except DataError:
        if _is_python(value):
            raise RowsRefused(
                f"the {name} are a list in Python's writing, not JSON, as pandas writes them with to_csv",
                got=value,
                expected='["one", "another"]',
                fix="save it with to_json(orient='records', lines=True) or to_parquet",
            ) from None
        return value
    return parsed if isinstance(parsed, list | dict) else value


def _is_python(text: str) -> bool:
    if "array(" in text:  # as numpy shows itself, within a dict of pandas
        return True
    if len(text) > _LONGEST_LITERAL:
        return False
    try:
        return isinstance(ast.literal_eval(text.strip()), list | dict)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False
