"""Code from outside the package: a dotted path (`my_pkg.mod:name`), a file (`metrics.py:name`), or an object of Python.

Nothing registers itself. A study names what it uses, and it is loaded here, once, with the hash of the source file that
it stands in: what it computes can change with that file. What the file imports is its own affair, which is why such an
object may also carry a `revision`: raise it when the answer changes for a reason that the file does not show.

A file is imported under a name of its own, made from its content, and its folder is not put on `sys.path`: two studies
with a `metrics.py` each do not meet, and a file that imports its neighbour is refused rather than left out of the hash.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import re
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from titrant.core.errors import SpecError
from titrant.core.identity import hash_file, hash_text

_FORM = re.compile(r"(?P<place>[^:]+\.py|[A-Za-z_][\w.]*):(?P<name>[A-Za-z_][\w.]*)")
_LOADING = threading.RLock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One sort of thing that can come from outside: `needs` are the methods of which it must have every one of a
    group. `expected` says so to people. A class is called without arguments where `made`."""

    word: str
    needs: tuple[tuple[str, ...], ...]
    expected: str
    made: bool = True


KINDS: dict[str, Kind] = {
    kind.word: kind
    for kind in (
        Kind(
            word="metric",
            needs=(("over",), ("__call__",)),
            expected="a function (prediction, references[, item]) -> 0 to 1, or an object with "
            "over(predictions, references) -> 0 to 1",
        ),
        Kind(word="row format", needs=(("__call__",),), expected="a function (row) -> a row of a known shape"),
        Kind(
            word="task set",
            needs=(("instances",),),
            expected="an object with name, revision and instances(rows) -> TaskInstance, TaskInstance, …",
        ),
        Kind(
            word="backend",
            needs=(("untuned", "train"), ("__call__",)),
            expected="a class or an object with untuned(model) and train(plan, …)",
            made=False,
        ),
        Kind(
            word="engine",
            needs=(("workers", "execute"),),
            expected="an object with workers(runs, …) and execute(jobs, …)",
        ),
    )
}


class Extension(str):
    """Something from outside. As text it is its name in results: the path that the study wrote, or an object's own
    name.

    `made` is the object, `revision` what it says of itself, `digest` the hash of the source that it stands in (of a
    function or class made at a prompt, of its own source; empty where there is none).
    """

    made: Any
    revision: str
    digest: str
    folder: Path | None
    kind: str

    def __new__(
        cls, name: str, *, made: Any, revision: str, digest: str, kind: str, folder: Path | None = None
    ) -> Extension:
        found = super().__new__(cls, name)
        found.made, found.revision, found.digest, found.kind, found.folder = made, revision, digest, kind, folder
        return found

    @property
    def identity(self) -> list[str]:
        """What enters a fingerprint: name, revision and source."""
        return [str(self), self.revision, self.digest]

    def __reduce__(self) -> tuple[Any, ...]:
        # A file's objects live in a module that another process does not have: it loads the file again.
        if self.folder is not None:
            return _loaded_again, (str(self), self.folder, self.kind)
        return _made_again, (str(self), self.made, self.revision, self.digest, self.kind)


def _loaded_again(written: str, folder: Path, kind: str) -> Extension:
    return load_extension(written, folder=folder, kind=kind)


def _made_again(name: str, made: Any, revision: str, digest: str, kind: str) -> Extension:
    return Extension(name, made=made, revision=revision, digest=digest, kind=kind)


def is_path_to_code(text: str) -> bool:
    """Whether a text names code: `my_pkg.mod:name` or `metrics.py:name`.

    >>> [is_path_to_code(text) for text in ("my_pkg.mod:bleu", "sub/metrics.py:bleu", "f1", "hub:org/name")]
    [True, True, False, False]
    """
    matched = _FORM.fullmatch(text)
    return matched is not None and not (matched["place"] == "hub" and "/" in text)


def load_extension(written: str, *, folder: Path, kind: str) -> Extension:
    """What `written` names, seen from `folder`; `SpecError` says what is missing, where, and what was expected.

    This runs the code: the caller has asked whether it may.
    """
    matched = _FORM.fullmatch(written)
    if matched is None:
        expected = "my_pkg.module:name, or a file beside the study: file.py:name"
        raise SpecError(f"this names no {kind}", got=written, expected=expected)
    place, name = matched["place"], matched["name"]
    with _LOADING:  # a module under construction is nobody else's business
        if place.endswith(".py"):
            module, digest = import_file(folder / Path(place).expanduser())
        else:
            module, digest = _import_module(place)
    found = _attribute(module, name, written=written, kind=kind)
    made = _checked(found, kind=kind, where=_place_of(found, module), written=written)
    return Extension(written, made=made, revision=_revision(made), digest=digest, kind=kind, folder=folder)


def extension_of(value: Any, *, kind: str) -> Extension:
    """An object of Python as an extension; its name is its `name`, or that of its function or class."""
    made = _checked(value, kind=kind, where=None, written=None)
    name = getattr(made, "name", None) or getattr(made, "__name__", None) or type(made).__name__
    digest = _digest_of(made)
    return Extension(str(name), made=made, revision=_revision(made), digest=digest, kind=kind)


def import_file(path: Path) -> tuple[ModuleType, str]:
    """The module in a file, and the hash of its bytes. The same bytes are imported once in a process."""
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [each.name for each in path.parent.glob("*.py")], n=1)
        fix = f"did you mean {near[0]}?" if near else None
        raise SpecError("no such file", where=str(path), expected="a file beside the study", fix=fix)
    digest = hash_file(path)
    # Path and content in the name: a changed file is another module, and two studies' `metrics.py` do not replace each
    # other.
    name = f"titrant_code_{hash_text(str(path.resolve()), length=8)}_{digest[:16]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None, "a .py file has a loader"
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # before it runs: dataclasses look their module up
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[name]
            raise _import_error(error, path) from error
    return sys.modules[name], digest


def _import_module(name: str) -> tuple[ModuleType, str]:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            fix = "install it into this environment, or name a file beside the study: file.py:name"
            raise SpecError(f"no module {error.name!r} can be imported", got=name, fix=fix) from error
        raise _import_error(error, None) from error
    except Exception as error:
        raise _import_error(error, None) from error
    file = getattr(module, "__file__", None)
    return module, hash_file(Path(file)) if file and Path(file).is_file() else ""


def _import_error(error: BaseException, path: Path | None) -> BaseException:
    """What running a module raised, as the user's error, at the line of theirs that it came from."""
    if not isinstance(error, Exception) or isinstance(error, SpecError):
        return error  # KeyboardInterrupt and the like are not about the file
    if isinstance(error, SyntaxError):
        where = f"{error.filename}:{error.lineno}"
        return SpecError(f"this is no Python: {error.msg}", where=where, got=(error.text or "").strip() or None)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if path is None or frame.filename == str(path)]
    last = own[-1] if own else frames[-1]
    fix = None
    if isinstance(error, ModuleNotFoundError) and path is not None and (path.parent / f"{error.name}.py").is_file():
        fix = f"put what it needs of {error.name}.py into {path.name}: a file beside the study stands alone"
    problem = f"importing it raised {type(error).__name__}: {error}"
    return SpecError(problem, where=f"{last.filename}:{last.lineno}", got=last.line or None, fix=fix)


def _attribute(module: ModuleType, name: str, *, written: str, kind: str) -> Any:
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            names = [each for each in vars(found) if not each.startswith("_")]
            near = difflib.get_close_matches(part, names, n=1)
            raise SpecError(
                f"there is no {part!r} in it",
                where=str(getattr(module, "__file__", module.__name__)),
                got=written,
                expected=f"a {kind}; it defines {', '.join(names[:20]) or 'nothing'}",
                fix=f"did you mean {near[0]}?" if near else None,
            )
        found = getattr(found, part)
    return found


def _checked(found: Any, *, kind: str, where: str | None, written: str | None) -> Any:
    """The object, made where it is a class; `SpecError` where it is not of its kind."""
    said = KINDS[kind]
    if said.made and inspect.isclass(found):
        try:
            found = found()
        except Exception as error:
            problem = f"making this {kind} raised {type(error).__name__}: {error}"
            fix = "give its arguments defaults, or name an object that is made already"
            raise SpecError(problem, where=where, got=written, fix=fix) from error
    if not any(all(callable(getattr(found, name, None)) for name in group) for group in said.needs):
        got = written or f"{type(found).__name__} {found!r}"
        raise SpecError(f"this is no {kind}", where=where, got=got, expected=said.expected)
    return found


def _revision(made: Any) -> str:
    return str(getattr(made, "revision", ""))


def _place_of(found: Any, module: ModuleType) -> str:
    """The file and line where an object is defined, as far as Python knows them."""
    file = getattr(module, "__file__", None) or module.__name__
    try:
        return f"{file}:{inspect.getsourcelines(found)[1]}"
    except (OSError, TypeError):
        return str(file)


def _digest_of(made: Any) -> str:
    """The hash of the source of a function or of an object's class; empty where it has none (built in, compiled)."""
    try:
        return hash_text(inspect.getsource(made if inspect.isfunction(made) or inspect.isclass(made) else type(made)))
    except (OSError, TypeError):
        return ""


def line_of(error: BaseException, function: Callable[..., Any]) -> str | None:
    """Where in a function's own file an exception came from, as file:line; None where it did not."""
    method = function if inspect.isroutine(function) else type(function).__call__
    code = getattr(inspect.unwrap(method), "__code__", None)
    file = code.co_filename if code is not None else None
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None


def code_of(values: Mapping[str, Extension | str | None]) -> list[list[str]]:
    """The identities of those values that are extensions, sorted: for fingerprints."""
    return sorted(value.identity for value in values.values() if isinstance(value, Extension))
