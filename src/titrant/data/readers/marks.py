"""What a row or a turn says of an answer: that it is to be learned, or not."""

from __future__ import annotations

from typing import Any

from titrant.core.errors import RowsRefused


def is_learned(value: Any, mark: str) -> bool | None:
    """What a mark says of an answer: a weight of 1 or 0, or true or false as JSON or a table writes it; else None."""
    if isinstance(value, str) and value.strip().casefold() in ("true", "false"):
        value = value.strip().casefold() == "true"
    if isinstance(value, bool):
        return value
    return {0.0: False, 1.0: True}.get(number) if mark == "weight" and (number := _number(value)) is not None else None


def refuse_part_weight(value: Any) -> None:
    """`RowsRefused` for a weight between 0 and 1: an answer is learned or it is not."""
    if value is not None and _number(value) not in (0, 1):
        raise RowsRefused(
            "an answer has a weight other than 0 and 1", got=value, expected="0 (not learned) or 1", fix="round it"
        )


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, str | int | float) else None
    except ValueError:
        return None
