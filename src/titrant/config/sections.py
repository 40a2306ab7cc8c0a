"""What every section of the study file is made of: frozen, closed to unknown keys, with bounds that say themselves."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from titrant.config import fields
from titrant.config.fields import (
    Text,
    listed,
    real,
    whole_field,
)
from titrant.config.yaml_source import (
    Plain,
)


def number_schema(**bounds: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "number", **bounds})


def list_or_one(items: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [items, {"type": "array", "items": items, "minItems": 1}]})


WHOLE_SCHEMA = {"type": "integer", "minimum": 1, "maximum": fields.MAX_ROWS}


RATE_SCHEMA = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}


OpenShare = Annotated[
    float,
    BeforeValidator(lambda value: real(value, low=0, high=1, open_low=True, open_high=True)),
    number_schema(exclusiveMinimum=0, exclusiveMaximum=1),
]


Rate = Annotated[float, BeforeValidator(lambda value: real(value, low=0, high=1, open_low=True))]


Passes = Annotated[int, *whole_field(1, 1000)]


class Section(BaseModel):
    """A mapping of the study file: frozen, and without keys that it does not know."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _prepared(cls, value: Any) -> Any:
        """Known keys without a value (`~`, `null`, nothing) are taken as left out; then defaults that depend."""
        if not isinstance(value, dict):
            return value
        given = {
            key: item
            for key, item in value.items()
            if not (isinstance(item, Plain) and item.is_null and key in cls.model_fields)
        }
        cls._fill(given)
        return given

    @classmethod
    def _fill(cls, given: dict[str, Any]) -> None:
        """Add defaults that depend on other keys."""


def column_or_columns(value: Any) -> str | tuple[str, ...]:
    return tuple(text_of(item) for item in listed(value)) if isinstance(value, list | tuple) else fields.text(value)


def text_of(value: Any) -> str:
    """One text of a list of texts."""
    return fields.text(value)


def is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


Columns = Annotated[
    dict[Text, Annotated[str | tuple[str, ...], BeforeValidator(column_or_columns)]],
    Field(min_length=1, description="what the file calls the columns: our name: the file's, or a list of the file's"),
]


Relations = Annotated[
    tuple[Text, ...],
    BeforeValidator(listed),
    list_or_one({"type": "string"}),
    Field(description="relations by name, such as capital; default: all that no single answer dominates"),
]


def _names(value: Any) -> tuple[str, ...]:
    return tuple(text_of(item) for item in listed(value))


Names = Annotated[tuple[str, ...], BeforeValidator(_names), list_or_one({"type": "string", "minLength": 1})]
