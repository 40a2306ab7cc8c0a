"""Target sizes, doses, blends and seeds in the study file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    WithJsonSchema,
)

from titrant.config import fields
from titrant.config.fields import (
    Text,
    described,
    listed,
    real,
    refuse,
    whole,
    whole_field,
)
from titrant.config.sections import WHOLE_SCHEMA, Section, is_number, list_or_one, number_schema
from titrant.config.yaml_source import (
    Plain,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDose:
    """A dose asked for in tokens: as many rows of the draw as stay within `tokens`."""

    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AlteredDose:
    """A dose whose rows are altered once they are drawn: `alter` is what `Dose.alteration` will be."""

    rows: int
    alter: str


class Blend(Section):
    """One dose made of several sources."""

    total: Annotated[int, *whole_field(1), Field(description="generalist rows in all")]
    shares: Annotated[
        dict[
            Text,
            Annotated[
                float,
                BeforeValidator(lambda value: real(value, low=0, high=1e9, open_low=True)),
                number_schema(exclusiveMinimum=0),
            ],
        ],
        Field(min_length=1, description="source: share, on any scale; divided by largest remainder"),
    ]


def _size(value: Any) -> int | str:
    if isinstance(value, str) and value == "all":
        return "all"
    if isinstance(value, Plain) and not is_number(value):
        refuse("not a number of rows", got=str(value), expected="a whole number of at least 1, or all")
    return whole(value, low=1)


def _dose(value: Any) -> int | TokenDose | AlteredDose:
    if isinstance(value, dict):
        if set(value) == {"rows", "alter"}:
            return AlteredDose(rows=whole(value["rows"], low=1), alter=_alteration(value["alter"]))
        if set(value) != {"tokens"}:
            expected = "a number of rows, {tokens: N}, or {rows: N, alter: …}"
            refuse("not a dose", got=described(value), expected=expected)
        return TokenDose(tokens=whole(value["tokens"], low=1, high=10**12))
    return value if isinstance(value, TokenDose | AlteredDose) else whole(value, low=0)


_ALTERATION = re.compile(r"shuffled|false:(1|0\.\d*[1-9]\d*|[1-9](\.\d+)?e-\d\d)")  # as `Dose.alteration` has it


def _alteration(value: Any) -> str:
    """`shuffled`, or `{false: SHARE}`, as `Dose.alteration` writes it (`false:SHARE`, which is understood too)."""
    if isinstance(value, str) and _ALTERATION.fullmatch(value):
        return str(value)
    if isinstance(value, dict) and set(value) == {"false"}:
        return f"false:{real(value['false'], low=0, high=1, open_low=True):g}"
    return refuse("no such alteration", got=described(value), expected="shuffled, or {false: SHARE}")


def _ladder(value: Any) -> tuple[Any, ...]:
    """Dose 0 is always there, so it may be written and need not be."""
    return tuple(item for item in listed(value) if not (isinstance(item, Plain) and item == "0"))


def _seeds(value: Any) -> tuple[Any, ...]:
    if isinstance(value, list | tuple):
        return listed(value)
    if isinstance(value, dict):
        if set(value) != {"most"}:
            refuse("not seeds", got=described(value), expected="a number, a list of seeds, or {most: 20}")
        value = value["most"]
    return tuple(range(whole(value, low=1, high=1000)))


_DOSE_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": fields.MAX_ROWS},
        {
            "type": "object",
            "properties": {"tokens": WHOLE_SCHEMA},
            "required": ["tokens"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {
                "rows": WHOLE_SCHEMA,
                "alter": {
                    "anyOf": [
                        {"const": "shuffled"},
                        {
                            "type": "object",
                            "properties": {"false": {"type": "number", "exclusiveMinimum": 0, "maximum": 1}},
                            "required": ["false"],
                            "additionalProperties": False,
                        },
                    ]
                },
            },
            "required": ["rows", "alter"],
            "additionalProperties": False,
        },
    ]
}


DoseLadder = Annotated[
    tuple[Annotated[int | TokenDose | AlteredDose, BeforeValidator(_dose)], ...],
    BeforeValidator(_ladder),
    list_or_one(_DOSE_SCHEMA),
]


class Arms(Section):
    """The grid: target sizes × doses × seeds. Untuned, generalist-alone and matched arms come by themselves."""

    target_rows: Annotated[
        tuple[Annotated[int | Literal["all"], BeforeValidator(_size)], ...],
        BeforeValidator(listed),
        list_or_one({"anyOf": [WHOLE_SCHEMA, {"const": "all"}]}),
        Field(description="how many target rows to train on, each a row of the grid; all: every training row"),
    ] = ("all",)
    doses: Annotated[
        dict[Text, DoseLadder],
        Field(
            description="one ladder a source: numbers of rows, {tokens: N}, or {rows: N, alter: shuffled | {false: "
            "SHARE}}; dose 0 is always there"
        ),
    ] = Field(default_factory=dict)
    blends: Annotated[
        tuple[Blend, ...],
        BeforeValidator(lambda value: listed(value)),
        Field(description="doses of several sources at once: [{total: 96, shares: {dolly: 2, alpaca: 1}}]"),
    ] = ()
    seeds: Annotated[
        tuple[Annotated[int, *whole_field(0, 2**32 - 1)], ...],
        BeforeValidator(_seeds),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "integer", "minimum": 1, "maximum": 1000},
                    {
                        "type": "object",
                        "properties": {"most": {"type": "integer", "minimum": 3, "maximum": 200}},
                        "required": ["most"],
                        "additionalProperties": False,
                    },
                    {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}, "minItems": 1},
                ]
            }
        ),
        Field(
            description="3 means 0, 1 and 2; a list means exactly those; with until: firm they are the most that may "
            "run, in this order, by default {most: 20}"
        ),
    ] = (0, 1, 2)
    stratify: Annotated[
        Literal["none", "label", "task"], Field(description="keep the shares of labels or tasks in a target draw")
    ] = "none"
    target_draw: Annotated[
        Literal["per_seed", "fixed"],
        Field(
            description="per_seed: every seed draws its own target rows; fixed: all seeds share the first seed's. "
            "The same thing where target_rows is all there are"
        ),
    ] = "per_seed"
    generalist_alone: Annotated[
        bool,
        *fields.flag_field(),
        Field(description="also train on the largest dose of each source without the target"),
    ] = True
    matched: Annotated[
        bool,
        *fields.flag_field(),
        Field(description="also train a baseline with as many steps as the largest dose; without it no mix is firm"),
    ] = True
