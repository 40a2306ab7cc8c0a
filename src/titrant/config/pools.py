"""Pools of generalist rows in the study file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Field,
    WithJsonSchema,
)

from titrant.config.fields import (
    Place,
    Text,
    whole,
    whole_field,
)
from titrant.config.sections import Columns, Relations, Section
from titrant.config.tables import named_or_code


class FactSource(Section):
    """Facts as a pool of doses: subjects of which neither the test nor the target's rows say anything."""

    rows: Annotated[Place, Field(description="rows of QA-Wikidata's form: question, answer, answers")]
    relations: Relations = ()
    form: Annotated[
        Literal["completion", "instruction"],
        Field(description="completion: as the file asks; instruction: a question, as in generalist data"),
    ] = "completion"


class Source(Section):
    """A pool of generalist rows."""

    rows: Annotated[Place | None, Field(description="instruction rows: a file, a folder or hub:org/name")] = None
    text: Annotated[
        Place | None, Field(description="plain text in place of rows: loss on every token, doses in rows or tokens")
    ] = None
    source: Annotated[
        Text | None,
        Field(
            description="a source of the catalogue (titrant sources), from the hub, or from rows where that is given"
        ),
    ] = None
    part: Annotated[
        Text | None, Field(description="[configuration/]split of a catalogue source, where not the usual one")
    ] = None
    facts: Annotated[FactSource | None, Field(description="facts in place of rows; they can be made false")] = None
    columns: Annotated[Columns | None, Field(description="what the file calls the columns")] = None
    format: Annotated[
        str | None,
        *named_or_code({}, kind="row format"),
        Field(description="a path to code that turns a row of the file into one of a known shape; beside no columns"),
    ] = None
    instruction: Annotated[Text | None, Field(description="what is asked of each row, where rows do not say")] = None
    select: Annotated[
        Literal["random", "known", "unknown"],
        Field(description="which rows of the pool a dose takes; known and unknown are what labels say of the model"),
    ] = "random"
    labels: Annotated[
        Text | None,
        Field(description="labels of the pool's facts, written by titrant eval set; a path from the study file"),
    ] = None
    prompts_also_in: Annotated[
        Place | None, Field(description="only rows whose prompt also stands in this file, so that two pools ask alike")
    ] = None
    lengths_as: Annotated[
        Text | None,
        Field(description="another source: both keep as many rows in every class of answer length"),
    ] = None
    prompts_as: Annotated[
        Text | None,
        Field(
            description="another source: both keep the prompts that both have, and doses of as many rows ask the same"
        ),
    ] = None
    max_tokens: Annotated[
        int | None,
        BeforeValidator(lambda value: whole(value, low=8)),
        WithJsonSchema({"type": "integer", "minimum": 8}),
        Field(description="longer rows of this pool are left out before the draw; at most training.max_tokens"),
    ] = None
    repeats: Annotated[
        int, *whole_field(1, 1000), Field(description="how often one row may be drawn when a dose exceeds the pool")
    ] = 1
    licence: Annotated[Text | None, Field(description="the licence of the rows, for the report and model card")] = None
