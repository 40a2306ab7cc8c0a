"""Secrets of the environment, kept out of everything that is said or stored.

A token comes in through the environment or a file of huggingface_hub and leaves in a header, to the hub alone. But
libraries put what they were handed into the text of their errors, and errors end on a terminal, in a log, in a ledger.
So every message passes through `redacted` before it goes anywhere, and a study that holds a secret is refused.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

_NAME = re.compile(r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|APIKEY|KEY)(_|$)", re.IGNORECASE)
_SHORTEST = 8  # characters; a shorter value would be found in ordinary words
_HIDDEN = "[hidden]"
# Also the marks that turn the direction of a text round: what is read would not be what is there.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def names_a_secret(variable: str) -> bool:
    """Whether an environment variable is one that holds a secret, by its name.

    >>> [names_a_secret(name) for name in ("HF_TOKEN", "OPENAI_API_KEY", "MONKEY", "TOKENIZERS_PARALLELISM")]
    [True, True, False, False]
    """
    return _NAME.search(variable) is not None


def secrets(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The secrets of this process by their value, and where each comes from. A path is none, wherever it leads."""
    environment = os.environ if environment is None else environment
    found = {value.strip(): name for name, value in environment.items() if names_a_secret(name)}
    home = environment.get("HF_HOME") or os.path.join(environment.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    file = Path(environment.get("HF_TOKEN_PATH") or os.path.join(home, "token")).expanduser()
    with contextlib.suppress(OSError, ValueError):  # there is none, or it holds no text and so no token
        found[file.read_text("utf-8").strip()] = str(file)
    return {value: name for value, name in found.items() if len(value) >= _SHORTEST and value[0] not in "/~."}


def redacted(text: str) -> str:
    """The text without any of the secrets of this process."""
    for value in sorted(secrets(), key=len, reverse=True):
        text = text.replace(value, _HIDDEN)
    return text


def sayable(text: str) -> str:
    """The text as it may go to a terminal: without secrets, and with control characters written out. A name inside a
    file can hold those that move a cursor, colour a screen or rename a window.

    >>> sayable("a\\x1b[2Jb\\n\\tc")
    'a\\\\x1b[2Jb\\n\\tc'
    """
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], redacted(text))


def guard_output() -> None:
    """From now on, what this process logs and the tracebacks it prints are redacted."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Redacting("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    sys.excepthook = _print_redacted
    threading.excepthook = lambda found: _print_redacted(found.exc_type, found.exc_value, found.exc_traceback)


class _Redacting(logging.Formatter):
    """A log's lines, redacted whole: their arguments and tracebacks too."""

    def format(self, record: logging.LogRecord) -> str:
        return sayable(super().format(record))


def _print_redacted(kind: type[BaseException], error: BaseException | None, place: TracebackType | None) -> Any:
    print(sayable("".join(traceback.format_exception(kind, error, place))), end="", file=sys.stderr)
