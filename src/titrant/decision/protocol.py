"""The protocol of a staged study: what is fixed before its first score is read, and how it is read from a file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from titrant.core.errors import SpecError
from titrant.stats.contrasts import TaskWeights
from titrant.stats.evidence import ROWS_LIKE_THESE, THESE_ROWS
from titrant.stats.looks import FIRST_LOOK, MOST_SEEDS, SPENDING, USUAL_MOST, ladder


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolArm:
    """One arm of the family. `dose` in rows, 0 for a baseline; `matched`: the baseline that takes as many steps as the
    largest dose. `cost` is that of one run, in any unit that all arms share."""

    name: str
    dose: int
    matched: bool = False
    source: str | None = None
    cost: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """What is fixed before the first score is read; the level holds only as long as none of it changes.

    `arms`: baselines first (plain, matched), then doses from the smallest to the largest. `seeds`: names, in the order
    in which they are run. `ladder`: the seeds at which the study is judged, the last at all of them. `overlap` is n/N
    where the estimand is *rows like these*, None for *these rows*.
    """

    arms: tuple[ProtocolArm, ...]
    smallest_effect: float
    seeds: tuple[str, ...]
    ladder: tuple[int, ...]
    metric: str = "the score"
    level: float = 0.95
    spending: str = "t^1.5"
    overlap: float | None = None
    task_weights: TaskWeights = "macro"
    target_rows: int | None = None

    @property
    def most(self) -> int:
        """Seeds in all."""
        return len(self.seeds)

    @property
    def baselines(self) -> tuple[ProtocolArm, ...]:
        return tuple(arm for arm in self.arms if arm.dose == 0)

    @property
    def doses(self) -> tuple[ProtocolArm, ...]:
        return tuple(arm for arm in self.arms if arm.dose > 0)

    @property
    def grid_cost(self) -> float:
        """What all arms at all seeds would cost."""
        return self.most * sum(arm.cost for arm in self.arms)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """One run to do: an arm by name, at a seed by name."""

    arm: str
    seed: str


# ------------------------------------------------------------------------------------------------------------ protocol


def in_order(arms: Iterable[ProtocolArm]) -> tuple[ProtocolArm, ...]:
    """Baselines first, then doses from the smallest to the largest. Fixed, as ties between doses go to the first: the
    same arms listed otherwise must not change a verdict."""
    return tuple(sorted(arms, key=lambda arm: (arm.dose > 0, arm.matched, arm.dose, arm.source or "", arm.name)))


def protocol_json(protocol: Protocol) -> dict[str, Any]:
    """The protocol as a plain object that `read_protocol` takes back: what a ledger keeps before the first score."""
    return {
        "arms": {
            arm.name: {"dose": arm.dose}
            | ({"matched": True} if arm.matched else {})
            | ({"source": arm.source} if arm.source is not None else {})
            for arm in protocol.arms
        },
        "smallest_effect": protocol.smallest_effect,
        "most": protocol.most,
        "metric": protocol.metric,
        "level": protocol.level,
        "costs": {arm.name: arm.cost for arm in protocol.arms},
        "seeds": list(protocol.seeds),
        "ladder": list(protocol.ladder),
        "spending": protocol.spending,
        "estimand": THESE_ROWS if protocol.overlap is None else ROWS_LIKE_THESE,
        "overlap": protocol.overlap,
        "task_weights": protocol.task_weights,
        "target_rows": protocol.target_rows,
    }


class _ArmFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    dose: int = Field(ge=0)
    matched: bool = False
    source: str | None = None


class _ProtocolFile(BaseModel):
    """protocol.json as it is written."""

    model_config = ConfigDict(extra="forbid", strict=True)

    arms: dict[str, _ArmFile]
    smallest_effect: float = Field(gt=0, lt=1)
    most: int | None = Field(default=None, ge=FIRST_LOOK, le=MOST_SEEDS)
    metric: str = "the score"
    level: float = Field(default=0.95, gt=0.5, lt=1)
    costs: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] | None = None
    seeds: list[int | str] | None = None
    ladder: list[int] | None = None
    spending: str = "t^1.5"
    estimand: Literal["these rows", "rows like these"] = "these rows"
    overlap: float | None = Field(default=None, ge=0, lt=1)
    task_weights: TaskWeights = "macro"
    target_rows: int | None = Field(default=None, ge=1)


def read_protocol(source: str | Path | Mapping[str, Any]) -> Protocol:
    """A protocol from its file or object; every problem at once, each with its place. Raises SpecError."""
    where = str(source) if isinstance(source, str | Path) else "protocol"
    value = _read_object(Path(source)) if isinstance(source, str | Path) else source
    try:
        file = _ProtocolFile.model_validate(value)
    except ValidationError as error:
        raise SpecError("\n".join(_told(problem, where) for problem in error.errors())) from None
    problems = [f"{where}: {problem}" for problem in _problems(file)]
    if problems:
        raise SpecError("\n".join(problems))
    costs = file.costs or {}
    arms = [
        ProtocolArm(name=name, dose=arm.dose, matched=arm.matched, source=arm.source, cost=costs.get(name, 1.0))
        for name, arm in file.arms.items()
    ]
    most = _most(file)
    return Protocol(
        arms=in_order(arms),
        smallest_effect=file.smallest_effect,
        seeds=tuple(str(seed) for seed in (file.seeds or range(most))),
        ladder=tuple(file.ladder) if file.ladder is not None else ladder(most),
        metric=file.metric,
        level=file.level,
        spending=file.spending,
        overlap=file.overlap if file.estimand == ROWS_LIKE_THESE else None,
        task_weights=file.task_weights,
        target_rows=file.target_rows,
    )


def _read_object(path: Path) -> Any:
    if not path.is_file():
        raise SpecError("no such file", where=str(path), expected="a protocol (JSON)")
    try:
        return json.loads(path.read_bytes(), object_pairs_hook=_once_each)
    except json.JSONDecodeError as error:
        raise SpecError(
            "not JSON",
            where=f"{path}:{error.lineno}:{error.colno}",
            got=error.doc[error.pos :][:40],
            expected=error.msg,
        ) from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise SpecError("not JSON", where=str(path), got=str(error)) from None
    except SpecError as error:
        raise error.at(str(path)) from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys stand once: json keeps the last of two, and an arm would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise SpecError(f"key {twice!r} is there twice", fix="give each arm a name of its own")
    return found


def _told(problem: Any, where: str) -> str:
    """One of pydantic's problems in our words."""
    key = ".".join(str(part) for part in problem["loc"] if part not in ("int", "str"))
    kind, got = problem["type"], problem["input"]
    text = f"{where}: {key or 'the whole'}: "
    if kind == "missing":
        fix = "the difference that matters to you, as 0.03" if key == "smallest_effect" else f"say {key}"
        return f"{text}missing. Fix: {fix}"
    if kind == "extra_forbidden":
        known = _ArmFile.model_fields if key.startswith("arms.") else _ProtocolFile.model_fields
        return f"{text}no such key (expected one of {', '.join(known)})"
    return f"{text}{problem['msg'][0].lower()}{problem['msg'][1:]} (got {got!r})"


def _most(file: _ProtocolFile) -> int:
    if file.most is not None:
        return file.most
    return len(file.seeds) if file.seeds is not None else USUAL_MOST


def _problems(file: _ProtocolFile) -> Iterator[str]:
    """What no single key shows: a family that cannot be judged, seeds and looks that do not fit."""
    plain = [name for name, arm in file.arms.items() if arm.dose == 0 and not arm.matched]
    matched = [name for name, arm in file.arms.items() if arm.dose == 0 and arm.matched]
    for name, arm in file.arms.items():
        if not name.strip() or name != name.strip():
            yield f"arms: an arm's name is empty or has spaces around it (got {name!r})"
        if arm.matched and arm.dose:
            yield f"arms.{name}.matched: a dose is no baseline (got dose {arm.dose}). Fix: leave out matched"
    if not any(arm.dose for arm in file.arms.values()):
        yield "arms: no dose (expected one arm or more with a dose above 0)"
    for found, word in ((plain, "plain"), (matched, "matched")):
        if len(found) > 1:
            yield f"arms: {len(found)} {word} baselines (got {', '.join(found)}; expected one)"
    if not plain and not matched:
        yield 'arms: no baseline (expected an arm of dose 0). Fix: "plain": {"dose": 0}'
    for name in file.arms if file.costs is not None else ():
        if name not in (file.costs or {}):
            yield f"costs: arm {name!r} has none. Fix: name the cost of every arm, or leave out costs"
    for name in file.costs or {}:
        if name not in file.arms:
            yield f"costs.{name}: no such arm (expected one of {', '.join(file.arms)})"
    most, names = _most(file), [str(seed) for seed in file.seeds or ()]
    if file.seeds is not None and len(names) < FIRST_LOOK:
        yield f"seeds: {len(names)} {'seed' if len(names) == 1 else 'seeds'}; a staged study is first judged at 3"
    elif file.seeds is not None and len(names) != most:
        yield f"seeds: {len(names)} names for most {most}. Fix: leave out most, or name {most} seeds"
    if len(set(names)) < len(names):
        yield f"seeds: a seed is there twice (got {', '.join(names)})"
    looks = file.ladder
    if looks is not None and (not looks or looks[0] < FIRST_LOOK or looks[-1] != most or looks != sorted(set(looks))):
        yield f"ladder: looks rise from {FIRST_LOOK} seeds or more to most, {most} (got {looks})"
    if file.spending not in SPENDING:
        yield f"spending: no such spending (got {file.spending!r}; expected one of {', '.join(SPENDING)})"
    if (file.estimand == ROWS_LIKE_THESE) != (file.overlap is not None):
        yield (
            f"overlap: got {file.overlap} for estimand {file.estimand!r}. Fix: the share of the target rows that each "
            f"seed draws, for {ROWS_LIKE_THESE!r} and for nothing else"
        )
