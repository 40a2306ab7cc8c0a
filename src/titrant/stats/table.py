"""Scores as a table y[arm, seed, item] in 0 to 1, from records or from columns; every problem is listed at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from titrant.core.errors import ScoresError
from titrant.core.records import Score
from titrant.stats.contrasts import Floats

MOST_PROBLEMS = 20
REQUIRED = ("arm", "seed", "item", "score")
OPTIONAL = ("group", "task", "target_rows", "source", "dose", "eval_set", "kind")
TARGET = "target"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableArm:
    """An arm as a table of scores knows it. `kind` as in `records.ArmKind`; None where the table does not say.

    `doses` are (source, rows) for each source; `dose` is their sum, None where the table has no doses at all.
    """

    name: str
    kind: str | None = None
    target_rows: int | None = None
    dose: int | None = None
    source: str | None = None
    doses: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreTable:
    """Scores of one eval set. `values_ASI` is 0 where `present_ASI` is False, so no NaN can slip in anywhere."""

    eval_set: str
    arms: tuple[TableArm, ...]
    seeds: tuple[str, ...]
    items: tuple[str, ...]
    groups: tuple[str | None, ...] | None
    tasks: tuple[str, ...] | None
    values_ASI: Floats
    present_ASI: NDArray[np.bool_]

    def arm_index(self, name: str) -> int:
        """Where the arm is; an error that lists the arms where it is not."""
        for index, arm in enumerate(self.arms):
            if arm.name == name:
                return index
        raise ScoresError(
            f"no arm {name!r} among the scores of eval set {self.eval_set!r}",
            expected="one of " + ", ".join(arm.name for arm in self.arms[:MOST_PROBLEMS]),
        )

    def take(self, arms: Sequence[int]) -> ScoreTable:
        """These arms only, with the seeds and items that any of them has; items whose every cell is empty stay."""
        index = list(arms)
        present = self.present_ASI[index]
        # An item that no arm has a score for would vanish here, and nobody would count it as left out.
        nobodys_I = ~self.present_ASI.any((0, 1))
        seeds, items = np.flatnonzero(present.any((0, 2))), np.flatnonzero(present.any((0, 1)) | nobodys_I)
        return self.cut(index, seeds, items)

    def of_size(self, target_rows: int) -> ScoreTable | None:
        """Only the arms of one target size; None where it has none."""
        arms = [index for index, arm in enumerate(self.arms) if arm.target_rows == target_rows]
        return self.take(arms) if arms else None

    def cut(self, arms: Sequence[int], seeds: Iterable[int], items: Iterable[int]) -> ScoreTable:
        """These arms, seeds and items, in this order."""
        arm_index, seed_index, item_index = list(arms), list(seeds), list(items)
        cells = np.ix_(arm_index, seed_index, item_index)
        return replace(
            self,
            arms=tuple(self.arms[index] for index in arm_index),
            seeds=tuple(self.seeds[index] for index in seed_index),
            items=tuple(self.items[index] for index in item_index),
            groups=None if self.groups is None else tuple(self.groups[index] for index in item_index),
            tasks=None if self.tasks is None else tuple(self.tasks[index] for index in item_index),
            values_ASI=self.values_ASI[cells],
            present_ASI=self.present_ASI[cells],
        )

    @property
    def ran(self) -> NDArray[np.bool_]:
        """Which runs have any score."""
        return np.asarray(self.present_ASI.any(-1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A table whose runs are all complete. `missing_runs` counts arm×seed pairs without scores, `dropped_items` items
    that some run lacked, `dropped_cells` the scores that went with them."""

    table: ScoreTable
    missing_runs: int
    dropped_items: int
    dropped_cells: int


def complete(table: ScoreTable, *, drop_incomplete: bool = False, allow_missing_runs: bool = False) -> Completed:
    """The table without holes inside runs; an error lists the missing cells unless they may be dropped.

    `drop_incomplete` drops items that any run lacks and counts absent runs. `allow_missing_runs` takes absent runs as
    they are (a failed run has no scores) but still refuses a run with some items missing.
    """
    runs_AS = table.ran
    lacking = runs_AS[..., None] & ~table.present_ASI
    missing_runs = int((~runs_AS).sum())
    if not drop_incomplete:
        holes = lacking if allow_missing_runs else ~table.present_ASI
        if holes.any():
            raise _holes_error(table, holes, whole_runs=allow_missing_runs)
    whole_I = ~lacking.any((0, 1))
    if not whole_I.any():
        raise ScoresError(
            f"no item of eval set {table.eval_set!r} was answered by every run, so nothing is left to compare",
            fix="score the same items for every arm and seed",
        )
    dropped = int((~whole_I).sum())
    kept = table.cut(range(len(table.arms)), range(len(table.seeds)), np.flatnonzero(whole_I)) if dropped else table
    return Completed(
        table=kept,
        missing_runs=missing_runs,
        dropped_items=dropped,
        dropped_cells=int(table.present_ASI[..., ~whole_I].sum()),
    )


def _holes_error(table: ScoreTable, holes_ASI: NDArray[np.bool_], *, whole_runs: bool) -> ScoresError:
    total = int(holes_ASI.sum())
    lines = []
    for arm, seed in np.argwhere(holes_ASI.any(-1)):
        missing = np.flatnonzero(holes_ASI[arm, seed])
        place = f"arm {table.arms[arm].name!r}, seed {table.seeds[seed]}"
        if len(missing) == len(table.items):
            lines.append(f"{place}: all {len(missing)} items")
        else:
            lines += [f"{place}, item {table.items[item]!r}" for item in missing[:MOST_PROBLEMS]]
        if len(lines) >= MOST_PROBLEMS:
            break
    shown = "\n  ".join([*lines[:MOST_PROBLEMS], *_seeds_written_twice(table.seeds)])
    return ScoresError(
        f"{total} missing {'cell' if total == 1 else 'cells'} in eval set {table.eval_set!r} "
        f"({'every run needs the same items' if whole_runs else 'every arm needs every seed and the same items'}):"
        f"\n  {shown}\n",
        fix="score these items too, or leave out all scores of the run until it is whole"
        if whole_runs
        else "add the scores, or say --drop-incomplete to leave out incomplete items and count them",
    )


def _seeds_written_twice(seeds: Sequence[str]) -> list[str]:
    """Seeds are names, so `0` and `0.0` are two: most likely not what was meant, where cells are missing."""
    by_number: dict[float, list[str]] = {}
    for seed in seeds:
        by_number.setdefault(number_of(seed), []).append(seed)
    return [
        f"seeds {' and '.join(same)} are two names: write them alike" for same in by_number.values() if len(same) > 1
    ]


# ------------------------------------------------------------------------------------------------------------- columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """A column of names: `names` in sorted order, and for each row its index in them (-1: empty)."""

    names: tuple[str, ...]
    codes: NDArray[np.int64]

    def at(self, row: int) -> str | None:
        code = int(self.codes[row])
        return None if code < 0 else self.names[code]


def coded(values: Iterable[Any]) -> Coded:
    """Names from any values; None and empty text are empty.

    >>> coded(["b", "a", None, "b"]).codes.tolist()
    [1, 0, -1, 1]
    """
    texts = ["" if value is None else str(value) for value in values]
    names = sorted({text for text in texts if text})
    index = {name: code for code, name in enumerate(names)}
    return Coded(names=tuple(names), codes=np.array([index.get(text, -1) for text in texts], dtype=np.int64))


def tables_from_scores(scores: Sequence[Score]) -> dict[str, ScoreTable]:
    """A table for each eval set. Scores without a value (they carry a reason) count as missing."""
    kept = [score for score in scores if score.value is not None]
    columns: dict[str, Sequence[Any]] = {
        "arm": [score.arm for score in kept],
        "seed": [score.seed for score in kept],
        "item": [score.item for score in kept],
        "score": [score.value for score in kept],
        "group": [score.group for score in kept],
        "task": [score.task for score in kept],
        "target_rows": [score.target_rows for score in kept],
        "source": [score.source for score in kept],
        "dose": [score.dose for score in kept],
        "eval_set": [score.eval_set for score in kept],
        "kind": [score.arm_kind for score in kept],
    }
    return tables_from_columns(columns)


def tables_from_columns(
    columns: Mapping[str, Sequence[Any]], *, place: Callable[[int], str] = "row {}".format
) -> dict[str, ScoreTable]:
    """A table for each eval set, from plain columns of equal length. `place` names a row in errors."""
    required_columns(columns, place)
    texts = coded(columns["score"])
    score = np.array([_as_number(value) for value in columns["score"]], dtype=np.float64)
    named = {name: coded(values) for name, values in columns.items() if name != "score" and values is not None}
    if len({len(score), *(len(column.codes) for column in named.values())}) > 1:
        raise ScoresError("columns are of unequal length")
    return build_tables(named, score, place=place, texts=texts)


def required_columns(columns: Iterable[str], place: Callable[[int], str], *, shown: str | None = None) -> None:
    """`ScoresError` where one is lacking, with the header as it stands in the file (`shown`), if it is from one."""
    found = list(columns)
    lacking = [name for name in REQUIRED if name not in found]
    if lacking:
        raise ScoresError(
            f"no column {', '.join(lacking)}",
            where=place(-1),
            got=shown if shown is not None else ", ".join(found) or "nothing",
            expected="columns arm, seed, item, score; where known group, task, target_rows, source, dose, eval_set",
        )


def number_of(text: str) -> float:
    """The number that a text is, with a decimal point or a decimal comma; NaN where it is none.

    >>> number_of("0.5"), number_of("0,5"), number_of("True")
    (0.5, 0.5, nan)
    """
    if re.fullmatch(r"[+-]?\d+,\d+", text, re.ASCII):
        text = text.replace(",", ".")
    return _as_number(text) if "_" not in text else float("nan")  # Python takes 0_1 for 1, and nobody else does


def _as_number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def build_tables(
    columns: Mapping[str, Coded], score: Floats, *, place: Callable[[int], str], texts: Coded
) -> dict[str, ScoreTable]:
    """Tables by eval set, the target's first. All problems of the rows are one error with up to 20 lines.

    `texts` are the scores as they were written: they stand in messages, and an empty one is a missing cell.
    """
    if len(score) == 0:
        raise ScoresError("no scores", where=place(-1), expected="at least one row")
    if (texts.codes < 0).all():
        raise ScoresError("every score is empty", where=place(0), expected="a number from 0 to 1 in the column score")
    problems = _row_problems(columns, score, texts, place)
    if problems:
        raise _listed(problems)
    eval_sets = columns.get("eval_set")
    if eval_sets is None:
        groups = [(TARGET, np.arange(len(score)))]
    else:
        codes = eval_sets.codes
        groups = [(name, np.flatnonzero(codes == code)) for code, name in enumerate(eval_sets.names)]
        blank = np.flatnonzero(codes < 0)
        if len(blank):
            groups = [
                (name, np.sort(np.concatenate([rows, blank])) if name == TARGET else rows) for name, rows in groups
            ]
            if not any(name == TARGET for name, _ in groups):
                groups.append((TARGET, blank))
    groups.sort(key=lambda pair: (pair[0] != TARGET, pair[0]))
    # NaN from here on is a cell without a score; every other one has been refused.
    score = np.where(texts.codes < 0, np.nan, score)
    return {name: _table(name, columns, score, rows, place) for name, rows in groups}


def _row_problems(columns: Mapping[str, Coded], score: Floats, texts: Coded, place: Callable[[int], str]) -> list[str]:
    problems = []
    bad = np.flatnonzero(~((score >= 0) & (score <= 1)) & (texts.codes >= 0))
    # One line for each text: a column of True and False is one mistake, whatever its length.
    kinds, first, counts = np.unique(texts.codes[bad], return_index=True, return_counts=True)
    for code, row, count in sorted(zip(kinds, bad[first], counts, strict=True), key=lambda found: int(found[1])):
        others = f" (and {count - 1} more)" if count > 1 else ""
        text = texts.names[code]
        problems.append(f"{place(int(row))}{others}: score {text!r} is not a number from 0 to 1{_advice(text)}")
        if len(problems) > MOST_PROBLEMS:
            break
    for name in ("arm", "seed", "item"):
        for row in np.flatnonzero(columns[name].codes < 0)[: MOST_PROBLEMS + 1]:
            problems.append(f"{place(int(row))}: {name} is empty")
    for name in ("target_rows", "dose"):
        if name not in columns:
            continue
        column = columns[name]
        wrong = [code for code, text in enumerate(column.names) if _count(text) is None]
        for row in np.flatnonzero(np.isin(column.codes, wrong))[: MOST_PROBLEMS + 1]:
            problems.append(f"{place(int(row))}: {name} {column.at(int(row))!r} is not a whole number")
    return problems


def _advice(text: str) -> str:
    """What a score that is no number from 0 to 1 was probably meant to be."""
    word = text.strip().lower()
    if word in ("true", "false", "yes", "no", "c", "i", "correct", "incorrect", "right", "wrong", "pass", "fail"):
        return ": write 1 for a right answer and 0 for a wrong one"
    if word in ("nan", "na", "n/a", "none", "null", "-", "?"):
        return ": leave the cell empty where there is no score"
    percent = number_of(word.removesuffix("%").strip())
    if word.endswith("%") or 1 < percent <= 100:
        return f": write {percent / 100:g}, if it is a percentage" if 0 <= percent <= 100 else ""
    return ""


def _count(text: str) -> int | None:
    matched = re.fullmatch(r"\s*(\d+)(?:\.0*)?\s*", text)
    return int(matched.group(1)) if matched else None


def _listed(problems: list[str]) -> ScoresError:
    shown = problems[:MOST_PROBLEMS]
    more = f"\n  … and more (the first {MOST_PROBLEMS} are shown)" if len(problems) > MOST_PROBLEMS else ""
    return ScoresError("scores that cannot be judged:\n  " + "\n  ".join(shown) + more)


def _table(
    eval_set: str, columns: Mapping[str, Coded], score: Floats, rows: NDArray[np.intp], place: Callable[[int], str]
) -> ScoreTable:
    axes, names = [], []
    for column in (columns["arm"], columns["seed"], columns["item"]):
        used, codes = np.unique(column.codes[rows], return_inverse=True)
        axes.append(codes)
        names.append([column.names[code] for code in used])
    shape = tuple(len(axis) for axis in names)
    # A table is a full array of arms, seeds and items: a file whose arms answer different items would need memory far
    # beyond its rows.
    cells = int(np.prod(shape, dtype=np.float64))
    if cells > 20 * len(rows) + 1_000_000:
        raise ScoresError(
            f"{len(rows)} scores fill less than a twentieth of {shape[0]} arms × {shape[1]} seeds × {shape[2]} items",
            where=place(int(rows[0])),
            expected="the same items for every arm and seed",
        )
    flat = np.ravel_multi_index(tuple(axes), shape)
    _no_duplicates(columns, rows, flat, cells, place)
    values, present = np.zeros(cells), np.zeros(cells, dtype=bool)
    given = ~np.isnan(score[rows])
    values[flat], present[flat] = np.where(given, score[rows], 0.0), given
    groups = _constant(columns.get("group"), rows, axes[2], names[2], "item", "group", place)
    tasks = _constant(columns.get("task"), rows, axes[2], names[2], "item", "task", place)
    meta = {
        name: _constant(columns.get(name), rows, axes[0], names[0], "arm", name, place)
        for name in ("kind", "target_rows", "source", "dose")
    }
    return ScoreTable(
        eval_set=eval_set,
        arms=tuple(
            _arm(name, {key: column[index] if column else None for key, column in meta.items()}, meta)
            for index, name in enumerate(names[0])
        ),
        seeds=tuple(names[1]),
        items=tuple(names[2]),
        groups=tuple(groups) if groups is not None and any(group is not None for group in groups) else None,
        tasks=tuple(task or "" for task in tasks) if tasks is not None and len(set(tasks)) > 1 else None,
        values_ASI=values.reshape(shape),
        present_ASI=present.reshape(shape),
    )


def _arm(name: str, told: Mapping[str, str | None], meta: Mapping[str, list[str | None] | None]) -> TableArm:
    target_rows = _count(told["target_rows"]) if told["target_rows"] is not None else None
    dose = _count(told["dose"]) if told["dose"] is not None else None
    if dose is None and meta["dose"] is not None and any(meta["dose"]):
        dose = 0
    return TableArm(
        name=name,
        kind=told["kind"],
        target_rows=target_rows,
        dose=dose,
        source=told["source"],
        doses=((told["source"] or "", dose),) if dose else (),
    )


def _no_duplicates(
    columns: Mapping[str, Coded],
    rows: NDArray[np.intp],
    flat: NDArray[np.intp],
    cells: int,
    place: Callable[[int], str],
) -> None:
    counts = np.bincount(flat, minlength=cells)
    if counts.max() < 2:
        return
    problems = []
    for cell in np.flatnonzero(counts > 1)[: MOST_PROBLEMS + 1]:
        twice = rows[np.flatnonzero(flat == cell)]
        first, second = int(twice[0]), int(twice[1])
        told = ", ".join(f"{name} {columns[name].at(second)!r}" for name in ("arm", "seed", "item"))
        problems.append(f"{place(second)}: a second score for {told} (the first is at {place(first)})")
    raise _listed(problems)


def _constant(
    column: Coded | None,
    rows: NDArray[np.intp],
    owner: NDArray[np.intp],
    owners: list[str],
    owner_word: str,
    word: str,
    place: Callable[[int], str],
) -> list[str | None] | None:
    """The one value of a column for each arm or item; an error where it has two."""
    if column is None:
        return None
    codes = column.codes[rows]
    first = np.full(len(owners), -2, dtype=np.int64)
    # Written backwards, the first row of each owner is written last and stands.
    first[owner[::-1]] = codes[::-1]
    wrong = np.flatnonzero(first[owner] != codes)
    if len(wrong):
        raise _listed(
            [
                f"{place(int(rows[row]))}: {owner_word} {owners[owner[row]]!r} has {word} "
                f"{column.at(int(rows[row]))!r}, "
                f"but {None if first[owner[row]] < 0 else column.names[first[owner[row]]]!r} before"
                for row in wrong[: MOST_PROBLEMS + 1]
            ]
        )
    return [None if code < 0 else column.names[code] for code in first]
