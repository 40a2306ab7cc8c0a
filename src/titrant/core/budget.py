"""A budget: what a study may spend, as a person says it (`30m`, `3Mtok`, `40runs`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from titrant.core.errors import SpecError

_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_TOKENS = {"tok": 1, "ktok": 10**3, "mtok": 10**6, "gtok": 10**9}
_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_EXPECTED = "minutes (30m, 1.5h), training and answer tokens (3Mtok, 500ktok), or runs (40runs)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """At most so many minutes, tokens or runs of a study in all; exactly one of the three is there, above 0.

    `minutes` are those of this machine's clock at the study's number of workers, as its finished runs took them;
    `tokens` count training and answers. `text` is what was said.
    """

    text: str
    minutes: float | None = None
    tokens: int | None = None
    runs: int | None = None

    @property
    def unit(self) -> Literal["minutes", "tokens", "runs"]:
        """What it is counted in."""
        if self.minutes is not None:
            return "minutes"
        return "tokens" if self.tokens is not None else "runs"

    @property
    def amount(self) -> float:
        """How much of its unit."""
        return float(self.minutes or self.tokens or self.runs or 0)

    def __str__(self) -> str:
        return self.text


def parse_budget(text: str, *, where: str = "--budget") -> Budget:
    """The budget in a text; `SpecError` where it is none, or holds nothing.

    >>> parse_budget("90m").minutes, parse_budget("1h30m").minutes, parse_budget("2.5Mtok").tokens
    (90.0, 90.0, 2500000)
    >>> parse_budget("40 runs").runs
    40
    """
    said = re.sub(r"[\s,_]", "", text).lower()
    budget = _parsed(said, text.strip())
    if budget is None:
        raise SpecError("not a budget", where=where, got=text, expected=_EXPECTED)
    # 0.3 of a token or a run buys nothing either: both are whole.
    if not budget.amount:
        raise SpecError("a budget of nothing", where=where, got=text, expected=_EXPECTED)
    return budget


def _parsed(said: str, text: str) -> Budget | None:
    if re.fullmatch(rf"(?:{_NUMBER}(?:s|min|m|h|d))+", said):
        parts = re.findall(rf"{_NUMBER}(s|min|m|h|d)", said)
        return Budget(text=text, minutes=sum(float(number) * _SECONDS[unit] for number, unit in parts) / 60)
    if found := re.fullmatch(rf"{_NUMBER}([kmg]?tok)(?:ens?)?", said):
        return Budget(text=text, tokens=int(float(found[1]) * _TOKENS[found[2]]))
    if found := re.fullmatch(r"([0-9]+)runs?", said):
        return Budget(text=text, runs=int(found[1]))
    return None
