"""How every arm is trained, what is asked beside the target, with which numerics, and how leaks are looked for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
)

from titrant.config import fields
from titrant.config.fields import (
    Place,
    listed,
    real,
    refuse,
    whole_field,
)
from titrant.config.sections import RATE_SCHEMA, Passes, Rate, Section, list_or_one, number_schema
from titrant.config.yaml_source import (
    Plain,
)
from titrant.core.records import Method

_LEARNING_RATES: dict[str, str] = {"full": "2.0e-5", "lora": "2.0e-4"}


class Lora(Section):
    """Low-rank adapters on all linear layers but the head."""

    rank: Annotated[int, *whole_field(1, 4096), Field(description="rank of the adapters")] = 16
    alpha: Annotated[int, *whole_field(1, 65536), Field(description="scale of the adapters; divided by the rank")] = 32


class Training(Section):
    """How every arm is trained. `learning_rate` and `passes` are tuples of candidates after loading."""

    method: Annotated[Method, Field(description="full: all weights; lora: adapters")] = "full"
    passes: Annotated[
        tuple[Passes, ...],
        BeforeValidator(listed),
        list_or_one({"type": "integer", "minimum": 1, "maximum": 1000}),
        Field(description="how often each target row is seen; a list is chosen from on validation rows"),
    ] = (4,)
    generalist_passes: Annotated[int, *whole_field(1, 1000), Field(description="how often each dosed row is seen")] = 1
    learning_rate: Annotated[
        tuple[Rate, ...],
        BeforeValidator(listed),
        list_or_one(RATE_SCHEMA),
        Field(
            description="the highest learning rate; a list is chosen from on validation rows. "
            "Default: 2e-5 for full, 2e-4 for lora"
        ),
    ] = (2.0e-5,)
    batch_rows: Annotated[int, *whole_field(1, 4096), Field(description="rows that share an optimiser step")] = 8
    max_tokens: Annotated[int, *whole_field(8, 1 << 20), Field(description="the longest training row, in tokens")] = 512
    too_long: Annotated[
        Literal["refuse", "cut", "drop"], Field(description="what happens to longer rows, before the draw")
    ] = "refuse"
    schedule: Annotated[
        Literal["linear", "constant", "cosine"], Field(description="how the learning rate falls after the warm-up")
    ] = "linear"
    warmup_share: Annotated[
        float,
        BeforeValidator(lambda value: real(value, low=0, high=1, open_high=True)),
        number_schema(minimum=0, exclusiveMaximum=1),
        Field(description="the share of steps in which the learning rate rises"),
    ] = 0.03
    weight_decay: Annotated[
        float,
        BeforeValidator(lambda value: real(value, low=0, high=10)),
        number_schema(minimum=0, maximum=10),
        Field(description="AdamW's decay"),
    ] = 0.0
    clip_norm: Annotated[
        float,
        BeforeValidator(lambda value: real(value, low=0, high=1e6, open_low=True)),
        number_schema(exclusiveMinimum=0, maximum=1e6),
        Field(description="gradients above this norm are scaled down to it"),
    ] = 1.0
    lora: Annotated[Lora | None, Field(description="the adapters, with method: lora")] = None

    @classmethod
    def _fill(cls, given: dict[str, Any]) -> None:
        method = given.get("method", "full")
        if isinstance(method, str) and method in _LEARNING_RATES:
            given.setdefault("learning_rate", Plain(_LEARNING_RATES[method]))
        if method == "lora":
            given.setdefault("lora", {})


class Retention(Section):
    """What is asked beside the target, to see what was kept."""

    learned: Annotated[
        Place | None, Field(description="held-out rows of the pool's own kind, judged by the loss of the answer")
    ] = None
    kept: Annotated[
        Place | None, Field(description="items of general ability, independent of the pool: choices by likelihood")
    ] = None


def _device(value: Any) -> str:
    found = fields.text(value)
    name, _, number = found.partition(":")
    if name not in ("auto", "cpu", "cuda") or (found != name and not (name == "cuda" and number.isdecimal())):
        untried = "Apple's GPUs are not supported: use cpu" if name == "mps" else None
        refuse("no device", got=found, expected="auto, cpu, cuda or cuda:N", fix=untried)
    return found


class NumericsSpec(Section):
    """What can change the last bits of a result without being part of the recipe."""

    dtype: Annotated[
        Literal["auto", "bf16", "fp32"], Field(description="what is computed in; master weights are fp32 in any case")
    ] = "auto"
    threads: Annotated[int, *whole_field(1, 1024), Field(description="threads of one run")] = 1
    device: Annotated[str, BeforeValidator(_device), Field(description="auto, cpu, cuda or cuda:N")] = "auto"


class Contamination(Section):
    """How test items are looked for in pools."""

    ngram: Annotated[
        int, *whole_field(3, 100), Field(description="words in a row that a pool may not share with a test item")
    ] = 8
