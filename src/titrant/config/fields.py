"""What a scalar of a study means, decided by the field that reads it.

A text field keeps the text that was written (`no`, `010`, `12:30` stay so). A number is one only without quotes, and
only in the one way that nobody can misread: `010` is refused, since it is 10 to some readers and 8 to others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, NoReturn

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo, WithJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from titrant.config.yaml_source import Plain
from titrant.data import readers

MAX_ROWS = 10**9
PACK_PREFIX = "pack:"
REMOTE_PREFIXES = ("hub:",)
_NAME = re.compile(r"[\w](?:[\w.+-]{0,98}[\w+-])?")


def refuse(problem: str, *, got: object = None, expected: str | None = None, fix: str | None = None) -> NoReturn:
    """Raise what pydantic collects and `spec` turns into a line with its place."""
    # Plain text and no placeholders: what the user wrote may hold braces.
    raise PydanticCustomError("study", "refused", {"problem": problem, "got": got, "expected": expected, "fix": fix})


def text(value: Any) -> str:
    """A text, exactly as written."""
    if isinstance(value, str):
        if not value.strip():
            refuse("no value", expected="text", fix="give a value, or leave the key out")
        return str(value)
    return refuse("not a text", got=described(value), expected="text")


def whole(value: Any, *, low: int = 0, high: int = MAX_ROWS) -> int:
    """A whole number within bounds."""
    expected = f"a whole number, {low} to {high}"
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif not isinstance(value, Plain):
        _refuse_number(value, expected)
    elif re.fullmatch(r"[+-]?(0|[1-9][0-9]*)", value) and len(value) <= 20:
        number = int(value)
    elif re.fullmatch(r"[+-]?0[0-9]{1,18}", value):
        refuse("a number with a leading zero can be misread", got=str(value), expected=expected, fix=f"{int(value)}")
    else:
        fix = str(value).replace("_", "").replace(",", "")
        plain = re.fullmatch(r"[1-9][0-9]{0,18}", fix)
        refuse("not a whole number", got=str(value), expected=expected, fix=fix if plain and len(value) < 20 else None)
    if not low <= number <= high:
        refuse("out of range", got=number, expected=expected)
    return number


def real(value: Any, *, low: float, high: float, open_low: bool = False, open_high: bool = False) -> float:
    """A finite number within bounds; `open_low` and `open_high` leave the bound itself out."""
    lower, upper = ("above" if open_low else "from"), ("below" if open_high else "up to")
    expected = f"a number {lower} {low:g} and {upper} {high:g}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    elif not isinstance(value, Plain):
        _refuse_number(value, expected)
    elif re.fullmatch(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?", value, re.ASCII):
        number = float(value)
    else:
        refuse("not a number", got=str(value), expected=expected)
    below = number <= low if open_low else number < low
    above = number >= high if open_high else number > high
    if not math.isfinite(number) or below or above:
        refuse("out of range", got=str(value), expected=expected)
    return number


def listed(value: Any) -> tuple[Any, ...]:
    """A list, or one value in place of a list of one; not empty."""
    if isinstance(value, list | tuple):
        if not value:
            refuse("an empty list", expected="at least one value")
        return tuple(value)
    if isinstance(value, Plain) and value.is_null:
        refuse("no value", expected="a value, or a list of them")
    return (value,)


def name(value: Any) -> str:
    """A name that is safe as a file's name, on a command line and in a table."""
    found = text(value)
    if not _NAME.fullmatch(found):
        shown = re.sub(r"[^\w.+-]+", "-", found).strip("-.")[:100].rstrip("-.")
        expected = "letters, digits, and - _ . + between them; at most 100"
        refuse("not usable as a name", got=found, expected=expected, fix=shown or None)
    return found


def described(value: Any) -> str:
    """A value as it would be written on one line, for messages.

    >>> described({"total": "96", "shares": ["a", "b"]})
    '{total: 96, shares: [a, b]}'
    """
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {described(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(described(item) for item in value) + "]"
    return str(value)


def _refuse_number(value: Any, expected: str) -> NoReturn:
    if isinstance(value, str):
        refuse("a text in quotes, not a number", got=value, expected=expected, fix="leave the quotes out")
    refuse("not a number", got=described(value), expected=expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What paths of a study are relative to, and whether they may lead to code that is then run."""

    folder: Path
    allow_code: bool = False


class Place(str):
    """Where rows are: the text is the full path (or `hub:…`), `written` what stood in the study.

    Serialised as written, so that a study says the same in another folder.
    """

    written: str

    def __new__(cls, path: str, *, written: str | None = None) -> Place:
        place = super().__new__(cls, path)
        place.written = path if written is None else written
        return place

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            cls._validated,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda place: getattr(place, "written", place)
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}

    @classmethod
    def _validated(cls, value: Any, info: ValidationInfo) -> Place:
        if isinstance(value, Place):
            return value
        written = text(value)
        if isinstance(info.context, Surroundings):
            return cls.resolved(written, info.context.folder)
        return cls(written)

    @classmethod
    def resolved(cls, written: str, folder: Path) -> Place:
        """What `written` names, seen from the study's folder; pydantic's error when there is no such file."""
        return resolve_place(written, folder)


class ModelPlace(Place):
    """A model: `package:…` and hub ids stay what they are, a local folder or .gguf file becomes a full path."""

    @classmethod
    def resolved(cls, written: str, folder: Path) -> Place:
        local = written.startswith((".", "/", "~")) or (written.endswith(".gguf") and ":" not in written)
        if local or (not written.startswith("package:") and "\0" not in written and _exists(folder / written)):
            return resolve_place(written, folder)
        return cls(written)


def resolve_place(written: str, folder: Path) -> Place:
    """The place that `written` names, seen from the study's folder; pydantic's error when there is no such file.

    Where the study is started from never counts: it would read other rows from one folder than from another.
    """
    if "\0" in written:
        refuse("no path", got=written)
    if written.startswith(REMOTE_PREFIXES):
        return Place(written)
    if written.startswith(PACK_PREFIX):
        return _in_pack(written)
    try:
        path = folder / Path(written).expanduser()
    except RuntimeError as error:
        refuse(f"no usable path ({error})", got=written)
    if not _exists(path) and readers.parted(str(path))[1] is None:
        fix = _near(path) or readers.door_of(written)
        refuse("no such file or folder", got=written, expected="a path relative to the study file", fix=fix)
    return Place(str(path.resolve()), written=written)


def _in_pack(written: str) -> Place:
    inner = written.removeprefix(PACK_PREFIX)
    pack = Path(str(resources.files("titrant"))) / "pack"
    names = sorted(path.name for path in pack.glob("*.jsonl"))
    if inner not in names:
        refuse("no such file in the embedded pack", got=written, expected=", ".join(names))
    return Place(str(pack / inner), written=written)


def _near(path: Path) -> str | None:
    import difflib

    try:
        names = [sibling.name for sibling in path.parent.iterdir()][:1000]
    except OSError:
        return None
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.75)
    return f"did you mean {near[0]}?" if near else None


def _exists(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have has none."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _whole_within(low: int, high: int) -> Callable[[Any], int]:
    return lambda value: whole(value, low=low, high=high)


def whole_field(low: int, high: int = MAX_ROWS) -> Any:
    """The annotations of a whole number within bounds."""
    return (
        BeforeValidator(_whole_within(low, high)),
        WithJsonSchema({"type": "integer", "minimum": low, "maximum": high}),
    )


def flag(value: Any) -> bool:
    """true or false, written so: `yes`, `no` and quotes are refused, since readers of YAML disagree about them."""
    if isinstance(value, bool):
        return value
    if isinstance(value, Plain) and value in ("true", "false"):
        return value == "true"
    return refuse("not true or false", got=described(value), expected="true or false")


def flag_field() -> Any:
    """The annotations of a true-or-false field."""
    return (BeforeValidator(flag), WithJsonSchema({"type": "boolean"}))


Text = Annotated[str, BeforeValidator(text)]
Name = Annotated[str, BeforeValidator(name)]
