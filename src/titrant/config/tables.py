"""Names that a study may give: ours, each with a line of explanation, or a path to code from outside.

These are tables and not types: a closed list in a type cannot be extended. The packages that know what a name does
import this one, so a test compares each table with what its package has.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import PlainValidator, ValidationInfo, WithJsonSchema

from titrant.config.fields import Surroundings, described, refuse
from titrant.config.yaml_source import Plain
from titrant.core.errors import SpecError
from titrant.core.plugins import Extension, extension_of, is_path_to_code, load_extension

METRICS: dict[str, str] = {
    "exact_match": "the same words, whatever the case and punctuation",
    "rouge_l": "the longest common subsequence of words",
    "f1": "words in common",
    "accuracy": "the same text, byte for byte",
    "last_number": "the same value of the last number",
    "macro_f1": "the mean over classes of F1: a rare class counts like a common one",
    "graded": "the probability of the right answer",
    "subject_gain": "facts: how far the subject moves the odds of its answer",
    "by_task": "a collection: as each task says",
}
SKILLS: dict[str, str] = {
    "boolq": "understanding",
    "dream": "understanding",
    "disfl_qa": "understanding",
    "gsm8k": "reasoning",
    "strategyqa": "reasoning",
    "elementary_math": "reasoning",
    "webquestions": "facts",
    "opentriviaqa": "facts",
    "qa_wikidata": "facts",
}
_PATH_PATTERN = r"^([^:]+\.py|[A-Za-z_][\w.]*):[A-Za-z_][\w.]*$"


def named_or_code(table: Mapping[str, str], *, kind: str) -> Any:
    """The annotations of a field that takes a name of `table`, a path to code, or in Python an object."""

    def validated(value: Any, info: ValidationInfo) -> str:
        if isinstance(value, Extension):
            return value
        if not isinstance(value, str):
            if value is None or isinstance(value, dict | list | int | float):
                return _refuse_name(value, table, kind)
            return _checked(value, table, kind=kind)
        if value in table:
            return str(value)
        if not is_path_to_code(value):
            return _refuse_name(value, table, kind)
        return _loaded(str(value), info, kind=kind)

    schema: dict[str, Any] = {"anyOf": [{"enum": list(table)}, {"type": "string", "pattern": _PATH_PATTERN}]}
    if not table:
        schema = schema["anyOf"][1]
    return (PlainValidator(validated), WithJsonSchema(schema))


def _checked(value: Any, table: Mapping[str, str], *, kind: str) -> Extension:
    """An object of Python. Its name stands in results, so it may not be one of ours."""
    try:
        found = extension_of(value, kind=kind)
    except SpecError as error:
        refuse(error.problem, got=error.got, expected=error.expected, fix=error.fix)
    if str(found) in table:
        refuse(f"a {kind} of this name is there already", got=str(found), expected="a name of its own")
    return found


def _loaded(written: str, info: ValidationInfo, *, kind: str) -> Extension:
    surroundings = info.context
    assert isinstance(surroundings, Surroundings), "a study is read from its folder"
    if not surroundings.allow_code:
        refuse(
            f"this {kind} is code from outside, which can run anything, and the study does not allow it",
            got=written,
            fix="allow_code: true at the top of the study, if you trust it",
        )
    try:
        return load_extension(written, folder=surroundings.folder, kind=kind)
    except SpecError as error:
        where = f"{error.where}: " if error.where else ""
        refuse(f"{where}{error.problem}", got=error.got, expected=error.expected, fix=error.fix)


def _refuse_name(value: Any, table: Mapping[str, str], kind: str) -> str:
    near = difflib.get_close_matches(value[:60], table, n=1, cutoff=0.6) if isinstance(value, str) else []
    path = f"a path to a {kind}: my_pkg.mod:name or file.py:name"
    return refuse(
        "no such value",
        got=str(value) if isinstance(value, Plain | str) else described(value),
        expected=" | ".join([*table, path]),
        fix=f"did you mean {near[0]}?" if near else None,
    )
