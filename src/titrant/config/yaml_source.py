"""YAML as its writer meant it: text, lists and mappings with the place of each, and nothing else.

A study is read from parser events (ruamel.yaml, YAML 1.2), not from constructed objects: no tag ever makes a Python
object, an alias is refused where it stands, and every scalar keeps the text that was written. What a scalar *means*
(`010`, `no`, `12:30`, `1e-4`) is decided by the field that reads it, never by the reader.
"""

from __future__ import annotations

import json
import numbers
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from titrant.core.errors import SpecError, UserError
from titrant.core.redaction import names_a_secret, secrets

MAX_BYTES = 1 << 20
MAX_NODES = 20_000
MAX_DEPTH = 24
MAX_PROBLEMS = 50

KeyPath = tuple[str | int, ...]


class Plain(str):
    """A scalar that was written without quotes. In quotes it is an ordinary `str`: text, never a number."""

    __slots__ = ()

    @property
    def is_null(self) -> bool:
        """True for nothing at all, `~` and `null`."""
        return str(self) in ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A place in the file; line and column count from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with a study, at a key path; `position` only where it is not the key's own.

    `spoils` says that the value at the path is only a stand-in, so that nothing more is to be said of it.
    """

    path: KeyPath
    problem: str
    got: object = None
    expected: str | None = None
    fix: str | None = None
    position: Position | None = None
    spoils: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A parsed file: `value` of dicts, lists and scalars (`Plain` or `str`), and where each key and item stands."""

    name: str
    text: str
    value: Any
    positions: Mapping[KeyPath, Position]
    problems: tuple[Problem, ...]
    placed: bool = True  # False where the value was made in Python: then a key path is all the place there is

    def position(self, path: KeyPath) -> Position:
        """Where the key or item at `path` stands; of its nearest parent, when it does not stand in the file."""
        while path and path not in self.positions:
            path = path[:-1]
        return self.positions.get(path, Position(line=1, column=1))

    def error(self, problems: list[Problem]) -> SpecError:
        """All problems as one error, in the order of the file, one a line."""
        placed = sorted(
            ((problem.position or self.position(problem.path), problem) for problem in problems),
            key=lambda pair: (pair[0].line, pair[0].column, dotted(pair[1].path)),
        )
        errors = [_as_error(self.name, position if self.placed else None, problem) for position, problem in placed]
        if len(errors) == 1:
            return errors[0]
        lines = list(dict.fromkeys(str(error) for error in errors))
        more = len(lines) - MAX_PROBLEMS
        return SpecError("\n".join(lines[:MAX_PROBLEMS] + ([f"{self.name}: and {more} more problems"] * (more > 0))))


def dotted(path: KeyPath) -> str:
    """A key path as people write it.

    >>> dotted(("arms", "doses", "general", 1))
    'arms.doses.general[1]'
    """
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = part if re.fullmatch(r"[\w.+-]+|<<", part) else repr(part[:60])
            text += f".{shown}" if text else shown
    return text


def read_document(path: Path, *, name: str) -> Document:
    """The YAML in a file. `SpecError` when it cannot be read, is too large, no UTF-8, or no YAML at all."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SpecError(f"the study file cannot be read ({error.strerror or error})", where=name) from error
    if len(data) > MAX_BYTES:
        raise SpecError("the study file is too large", where=name, expected=f"at most {MAX_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SpecError("the study file is not UTF-8", where=f"{name}:{line}", fix="save it as UTF-8") from error
    _refuse_secrets(text, name)
    return parse_document(text, name=name)


def _refuse_secrets(text: str, name: str) -> None:
    """A study is stored and shown beside its results, so a token must not stand in it."""
    for value, source in secrets().items():
        if value in text:
            line = text.count("\n", 0, text.index(value)) + 1
            fix = "take it out: tokens are read from the environment, and a study is stored"
            raise SpecError(f"the study holds the secret of {source}", where=f"{name}:{line}", fix=fix)


def parse_document(text: str, *, name: str) -> Document:
    """The one YAML document in `text`. Faults that leave the rest readable are kept in `problems`."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    builder = _Builder(name=name)
    try:
        value = builder.document(iter(YAML(typ="safe", pure=True).parse(text)))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = _position(mark) if mark is not None else Position(line=1, column=1)
        reason = " ".join(part for part in (error.context, error.problem) if part) or "it cannot be parsed"
        raise SpecError(f"this is no YAML: {reason}", where=f"{name}:{position}") from error
    except YAMLError as error:
        reason = getattr(error, "reason", None) or "it cannot be parsed"
        line = text.count("\n", 0, getattr(error, "position", 0) or 0) + 1
        raise SpecError(f"this is no YAML: {reason}", where=f"{name}:{line}") from error
    except (ValueError, OverflowError, IndexError, AttributeError, NotImplementedError) as error:
        if isinstance(error, UserError):
            raise
        # ruamel.yaml lets these escape on a few malformed inputs (an escape beyond Unicode, a damaged directive).
        raise SpecError(f"this is no YAML: {error or type(error).__name__}", where=name) from error
    if value is None:
        raise SpecError("the study file is empty", where=f"{name}:1:1", fix="titrant init writes one")
    return Document(name=name, text=text, value=value, positions=builder.positions, problems=tuple(builder.problems))


def document_of(value: Any, *, name: str) -> Document:
    """A value that was made in Python (of dicts, lists and `as_written` scalars) in a document's place."""
    return Document(name=name, text="", value=value, positions={}, problems=(), placed=False)


def as_written(value: Any) -> Any:
    """A scalar of Python as a file would hold it: numbers, true, false and nothing without quotes, text in quotes.

    >>> [as_written(value) for value in (3, 2e-5, True, None, "3")]
    ['3', '2e-05', 'true', 'null', '3']
    >>> [type(as_written(value)).__name__ for value in (3, "3")]
    ['Plain', 'str']
    """
    if isinstance(value, bool) or value is None:
        return Plain({True: "true", False: "false", None: "null"}[value])
    if isinstance(value, numbers.Integral):  # numpy's count as well
        return Plain(int(value))
    if isinstance(value, numbers.Real):
        return Plain(repr(float(value)))
    return str(value) if isinstance(value, PurePath) else value


def as_yaml(value: Mapping[str, Any]) -> str:
    """A study's keys as a file would hold them, a line each.

    >>> print(as_yaml({"name": "tickets", "arms": {"seeds": Plain("3"), "doses": {"general": [Plain("96")]}}}), end="")
    name: "tickets"
    arms: {"seeds": 3, "doses": {"general": [96]}}
    """
    return "".join(f"{key if key.isidentifier() else _flow(key)}: {_flow(value[key])}\n" for key in value)


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(str(key))}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    # In a file `${` would name an environment variable.
    return str(value) if isinstance(value, Plain) else json.dumps(str(value), ensure_ascii=False).replace("${", "$${")


def expand_environment(value: Any, environment: Mapping[str, str], *, path: KeyPath = ()) -> tuple[Any, list[Problem]]:
    """`value` with `${NAME}` and `${NAME:-default}` replaced in every scalar, and what could not be.

    As in a shell, the default also stands in for an empty variable. `$${` is a plain `${`. A scalar that is one
    reference and nothing else counts as unquoted: between brackets YAML lets it stand in no other way.
    """
    if isinstance(value, dict):
        parts = {key: expand_environment(item, environment, path=(*path, key)) for key, item in value.items()}
        return {key: part for key, (part, _) in parts.items()}, [
            problem for _, problems in parts.values() for problem in problems
        ]
    if isinstance(value, list):
        items = [expand_environment(item, environment, path=(*path, index)) for index, item in enumerate(value)]
        return [item for item, _ in items], [problem for _, problems in items for problem in problems]
    if not isinstance(value, str) or "${" not in value:
        return value, []
    problems: list[Problem] = []

    def replacement(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "${"
        found, problem = _variable(match, environment)
        if problem is not None:
            problems.append(Problem(path=path, problem=problem[0], got=match[0], fix=problem[1], spoils=True))
        return found

    expanded = _VARIABLE.sub(replacement, value)
    unquoted = isinstance(value, Plain) or _VARIABLE.fullmatch(value) is not None
    return (Plain(expanded) if unquoted else expanded), problems


_VARIABLE = re.compile(r"(?P<escaped>\$\$\{)|\$\{(?P<name>[^}:]*)(?P<rest>:-(?P<default>[^}]*)|[^}]*)\}?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _variable(match: re.Match[str], environment: Mapping[str, str]) -> tuple[str, tuple[str, str] | None]:
    """What a `${…}` stands for; and when it cannot be said, why not and the fix."""
    name, default = match["name"], match["default"]
    if not match[0].endswith("}") or not _NAME.fullmatch(name) or (match["rest"] and default is None):
        fix = "${NAME} or ${NAME:-default}; $${ is a plain ${"
        return "", ("this is no reference to an environment variable", fix)
    if names_a_secret(name):  # all that a study says is stored beside its results
        return "", (f"the environment variable {name} looks like a secret", "a study is stored: keep secrets out of it")
    found = environment.get(name)
    if found or (found is not None and default is None):
        return found, None
    if default is not None:
        return default, None
    return "", (f"the environment variable {name} is not set", f"set it, or write ${{{name}:-default}}")


def _as_error(name: str, position: Position | None, problem: Problem) -> SpecError:
    where = name if position is None else f"{name}:{position}"
    if problem.path:
        where += f": {dotted(problem.path)}"
    return SpecError(problem.problem, where=where, got=problem.got, expected=problem.expected, fix=problem.fix)


def _position(mark: Any) -> Position:
    return Position(line=mark.line + 1, column=mark.column + 1)


@dataclass(slots=True, kw_only=True)
class _Builder:
    """Builds values from events, noting the place of every key and item on the way."""

    name: str
    positions: dict[KeyPath, Position] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    nodes: int = 0

    def document(self, events: Iterator[Any]) -> Any:
        """The value of the only document, None when there is none."""
        from ruamel.yaml import events as kinds

        value = None
        documents = 0
        for event in events:
            if isinstance(event, kinds.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise SpecError("a second document begins here", where=f"{self.name}:{_position(event.start_mark)}")
                if event.version is not None and tuple(event.version) != (1, 2):
                    shown = ".".join(str(part) for part in event.version)
                    where = f"{self.name}:{_position(event.start_mark)}"
                    raise SpecError("another version of YAML", where=where, got=shown, expected="1.2")
            elif isinstance(event, kinds.NodeEvent):
                value = self.node(event, events, ())
        if isinstance(value, Plain) and value.is_null:
            return None
        return value

    def node(self, event: Any, events: Iterator[Any], path: KeyPath) -> Any:
        """The value that begins with `event`."""
        from ruamel.yaml import events as kinds

        here = _position(event.start_mark)
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise SpecError("too many values", where=f"{self.name}:{here}", expected=f"at most {MAX_NODES}")
        if len(path) > MAX_DEPTH:
            raise SpecError("nested too deeply", where=f"{self.name}:{here}", expected=f"at most {MAX_DEPTH} levels")
        if isinstance(event, kinds.AliasEvent):
            self.refuse(path, here, "an alias", f"*{event.anchor}", "write the value out")
            return Plain("")
        if event.tag is not None:
            self.refuse(path, here, "a tag", str(event.tag), "leave the tag out; put text in quotes where that matters")
        if isinstance(event, kinds.ScalarEvent):
            return self.scalar(event, path, here)
        if isinstance(event, kinds.SequenceStartEvent):
            return self.sequence(events, path)
        return self.mapping(events, path)

    def scalar(self, event: Any, path: KeyPath, here: Position) -> str:
        text = str(event.value)
        if any("\ud800" <= character <= "\udfff" for character in text):
            problem = "half a surrogate pair: no character"
            self.problems.append(Problem(path=path, problem=problem, got=ascii(text), position=here, spoils=True))
            return ""
        return Plain(text) if event.style in (None, "") else text

    def sequence(self, events: Iterator[Any], path: KeyPath) -> list[Any]:
        from ruamel.yaml import events as kinds

        items: list[Any] = []
        for event in events:
            if isinstance(event, kinds.SequenceEndEvent):
                break
            place = (*path, len(items))
            self.positions.setdefault(place, _position(event.start_mark))
            items.append(self.node(event, events, place))
        return items

    def mapping(self, events: Iterator[Any], path: KeyPath) -> dict[str, Any]:
        from ruamel.yaml import events as kinds

        entries: dict[str, Any] = {}
        for event in events:
            if isinstance(event, kinds.MappingEndEvent):
                break
            here = _position(event.start_mark)
            if not isinstance(event, kinds.ScalarEvent):
                self.node(event, events, (*path, "?"))
                self.node(next(events), events, (*path, "?"))
                self.refuse(path, here, "a key that is no text", None, "a key is a plain word")
                continue
            key = str(self.node(event, events, (*path, str(event.value))))
            place = (*path, key)
            if key in entries:
                self.node(next(events), events, place)
                problem = f"the key stands twice, first at {self.positions[place]}"
                self.problems.append(Problem(path=place, problem=problem, position=here, fix="keep one of the two"))
                continue
            # The first of two equal keys keeps its place, and what is below it too.
            self.positions.setdefault(place, here)
            entries[key] = self.node(next(events), events, place)
        return entries

    def refuse(self, path: KeyPath, here: Position, what: str, got: str | None, fix: str) -> None:
        problem = f"{what} is not allowed"
        self.problems.append(Problem(path=path, problem=problem, got=got, fix=fix, position=here, spoils=True))
