"""The whole error tree.

    TitrantError
    ├── UserError (ValueError)       what the user brought cannot be used; exit code 2
    │   ├── SpecError                the study file
    │   ├── DataError                rows, files, archives
    │   │   └── TemplateRefusal      a conversation that the model's chat template refuses
    │   ├── MixError                 a mix that cannot be drawn as asked
    │   ├── ModelError               a model that cannot be resolved, read or trusted
    │   ├── ScoresError              tables of scores and predictions
    │   └── StoreMismatch            a store of another format, or finished under other numerics
    ├── RunFailed                    a run broke (non-finite loss, out of memory …); exit code 1
    ├── StoreDamaged                 stored files do not match their checksums; exit code 1
    └── Interrupted                  a signal arrived; exit code 130 or 143

An error says what was wrong, where, the value got, what was expected and the usual fix. Context is added once, on the
way up, by `UserError.at`.
"""

from __future__ import annotations

from typing import Self


class TitrantError(Exception):
    """Root of everything that Titrant raises on purpose."""

    exit_code = 1


class UserError(TitrantError, ValueError):
    """Something the user brought cannot be used.

    `where` is `file:line`, `file:line:column: key.path` or a key path. `got` is shortened to 200 characters when shown.
    """

    exit_code = 2

    def __init__(
        self,
        problem: str,
        *,
        where: str | None = None,
        got: object = None,
        expected: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.problem, self.where, self.got, self.expected, self.fix = problem, where, got, expected, fix
        super().__init__(str(self))

    def at(self, where: str) -> Self:
        """The same error, with its place added when it had none."""
        if self.where is None:
            self.where = where
            self.args = (str(self),)
        return self

    def __str__(self) -> str:
        text = f"{self.where}: {self.problem}" if self.where else self.problem
        details = []
        if self.got is not None:
            details.append(f"got {_shortened(self.got)}")
        if self.expected is not None:
            details.append(f"expected {_shortened_to(self.expected, 1000)}")
        if details:
            text += f" ({'; '.join(details)})"
        if self.fix:
            text += f". Fix: {self.fix}"
        return text


class SpecError(UserError):
    """The study file: every problem at once, one a line."""


class DataError(UserError):
    """Rows or files that cannot be read as what they should be."""


class TemplateRefusal(DataError):
    """A conversation that the model's chat template refuses: a system turn, say, where it has no such role."""


class MixError(UserError):
    """A mix that cannot be drawn exactly as asked."""


class ModelError(UserError):
    """A model that cannot be resolved, read or trusted."""


class ScoresError(UserError):
    """A table of scores or predictions that cannot be judged."""


class StoreMismatch(UserError):
    """A store of another format version, or one whose runs were made under other numerics."""


class RunFailed(TitrantError):
    """A run broke. `kind` is a stable word (non_finite, out_of_memory, …); `step` counts optimiser steps from 1."""

    def __init__(self, kind: str, message: str, *, step: int | None = None) -> None:
        self.kind, self.message, self.step = kind, message, step
        place = f" at step {step}" if step is not None else ""
        super().__init__(f"{kind}{place}: {message}")

    def __reduce__(self) -> tuple[object, ...]:
        return _run_failed, (self.kind, self.message, self.step)  # it comes out of workers by pickle


class StoreDamaged(TitrantError):
    """Stored files are missing or do not match their checksums."""


class Interrupted(TitrantError):
    """SIGINT (exit code 130) or SIGTERM (143) arrived; what could be kept has been kept."""

    def __init__(self, signal_number: int) -> None:
        self.signal_number, self.exit_code = signal_number, 128 + signal_number
        super().__init__(f"stopped by signal {signal_number}")

    def __reduce__(self) -> tuple[object, ...]:
        return Interrupted, (self.signal_number,)


def _run_failed(kind: str, message: str, step: int | None) -> RunFailed:
    return RunFailed(kind, message, step=step)


def _shortened(value: object) -> str:
    if isinstance(value, str):
        return _shortened_to(repr(value[:300]), 200)
    try:
        return _shortened_to(str(value), 200)
    except ValueError:  # a whole number of thousands of digits
        return f"{type(value).__name__} of thousands of digits"


def _shortened_to(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
