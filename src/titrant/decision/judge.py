"""Judge anyone's scores: a CSV (or columns) in, a verdict as a plain object out.

Columns `arm, seed, item, score`, and where known `group, task, target_rows, source, dose, eval set, kind`. Names stay
text: "1" and "01" are two seeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from titrant.core.errors import ScoresError
from titrant.core.records import Contrast, Spent, Verdict
from titrant.decision.rule import decide
from titrant.stats.contrasts import TaskWeights
from titrant.stats.evidence import Settings, families, gather
from titrant.stats.score_file import ALIASES, read_score_file
from titrant.stats.table import (
    OPTIONAL,
    TARGET,
    ScoreTable,
    required_columns,
    tables_from_columns,
)
from titrant.stats.worth import Worth, worth_json, worth_of

RETENTION, TRANSFER, VALIDATION = "retention", "transfer", "validation"


def judge(
    scores: str | Path | Mapping[str, Sequence[Any]],
    *,
    baseline: str | None = None,
    matched: str | None = None,
    smallest_effect: float = 0.01,
    level: float = 0.95,
    drop_incomplete: bool = False,
    task_weights: TaskWeights = "macro",
    settings: Settings | None = None,
) -> dict[str, Any]:
    """The verdict on a file of scores (or on columns), as the object that `titrant judge --json` prints.

    `read_as` is in it where the file is no plain CSV, or has empty scores: how it was read.

    `settings` replaces the last four for callers that know more (costs, metric, estimand). Raises ScoresError.

    >>> cells = [(arm, seed, item) for arm in ("alone", "mixed") for seed in range(3) for item in range(200)]
    >>> found = judge({
    ...     "arm": [arm for arm, _, _ in cells], "seed": [seed for _, seed, _ in cells],
    ...     "item": [item for _, _, item in cells],
    ...     "score": [int((7 * item + seed) % 10 < (8 if arm == "mixed" else 5)) for arm, seed, item in cells],
    ... }, baseline="alone")
    >>> found["verdict"], found["arm"], round(found["contrasts"][0]["difference"], 3)
    ('mix', 'mixed', 0.3)
    """
    chosen = settings or Settings(
        smallest_effect=smallest_effect, level=level, drop_incomplete=drop_incomplete, task_weights=task_weights
    )
    _check_settings(chosen)
    remarks: tuple[str, ...] = ()
    if isinstance(scores, str | Path):
        file = read_score_file(Path(scores))
        tables, remarks = file.tables, file.remarks
        check_eval_sets(tables)
    else:
        tables = read_scores(scores)
    verdicts = judge_tables(tables, baseline=baseline, matched=matched, settings=chosen)
    worth = worth_of(
        tables[TARGET],
        families(tables[TARGET], baseline=baseline, matched=matched),
        smallest_effect=chosen.smallest_effect,
        level=chosen.level,
        task_weights=chosen.task_weights,
        overlap=chosen.overlap or 0.0,
    )
    found = judged_json(verdicts, worth=worth)
    return found | {"read_as": list(remarks)} if remarks else found


def verdict_on(
    scores: str | Path | Mapping[str, Sequence[Any]] | ArrowStream,
    *,
    baseline: str | None = None,
    matched: str | None = None,
    target_rows: int | None = None,
    settings: Settings,
) -> Verdict:
    """The verdict alone, at the largest target size or at `target_rows`; what stands behind `titrant.judge`."""
    _check_settings(settings)
    tables = read_scores(scores)
    return judge_tables(tables, baseline=baseline, matched=matched, settings=settings, verdict_at=target_rows)[0]


@runtime_checkable
class ArrowStream(Protocol):
    """A table in memory that speaks Arrow: of pyarrow, pandas 2.2 and later, polars, duckdb."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


def read_scores(scores: str | Path | Mapping[str, Sequence[Any]] | ArrowStream) -> Mapping[str, ScoreTable]:
    """Tables by eval set from a CSV file, from columns, or from a table in memory; `ScoresError` names every fault.

    A column may be called as in scores.parquet (`value`, `arm_kind`). Rows without a score there say so by a reason,
    and are left out; where rows of several metrics stand together, keep those of one before.
    """
    if isinstance(scores, str | Path):
        tables: Mapping[str, ScoreTable] = read_csv(Path(scores))
    elif isinstance(scores, Mapping):
        tables = tables_from_columns({ALIASES.get(name, name): column for name, column in scores.items()})
    elif isinstance(scores, ArrowStream):
        tables = tables_from_columns(_columns_of(scores))
    else:
        expected = "the path of a CSV file, a dict of columns, or a table of pyarrow, pandas or polars"
        raise ScoresError("these are no scores", got=type(scores).__name__, expected=expected)
    check_eval_sets(tables)
    return tables


def _columns_of(stream: ArrowStream) -> dict[str, Sequence[Any]]:
    import pyarrow as pa

    try:
        table = pa.table(stream)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError) as error:
        raise ScoresError("a table whose columns cannot be read", got=str(error)) from error
    twice = sorted(name for name, count in Counter(table.column_names).items() if count > 1)
    if twice:
        raise ScoresError(f"column {', '.join(twice)} is there twice")
    if "reason" in table.column_names and "value" in table.column_names:  # scores.parquet: null with a reason
        table = table.filter(table.column("value").is_valid())
    _refuse_several_metrics(table)
    required_columns([ALIASES.get(name, name) for name in table.column_names], "row {}".format)
    wanted = [
        name for name in table.column_names if ALIASES.get(name, name) in ("arm", "seed", "item", "score", *OPTIONAL)
    ]
    columns = {ALIASES.get(name, name): table.column(name).to_pylist() for name in wanted}
    # pandas holds whole numbers as floats where one is missing: 0.0 is the seed 0.
    for name in ("seed", "target_rows", "dose"):
        columns[name] = [int(v) if isinstance(v, float) and v.is_integer() else v for v in columns.get(name, ())]
    return {name: values for name, values in columns.items() if values or name in wanted}


def _refuse_several_metrics(table: Any) -> None:
    """A run's own scores hold a row for every metric: which of them decides, only the caller knows."""
    if "metric" not in table.column_names:
        return
    named: dict[Any, dict[Any, None]] = {}
    sets = table.column("eval_set").to_pylist() if "eval_set" in table.column_names else [TARGET] * len(table)
    for eval_set, metric in zip(sets, table.column("metric").to_pylist(), strict=True):
        named.setdefault(eval_set, {})[metric] = None
    for eval_set, metrics in named.items():
        if len(metrics) > 1:
            raise ScoresError(
                f"scores of several metrics stand together in eval set {eval_set!r}",
                got=", ".join(map(str, metrics)),
                expected="the rows of one metric",
                fix='keep one: table.filter(pyarrow.compute.field("metric") == "accuracy")',
            )


def judge_tables(
    tables: Mapping[str, ScoreTable],
    *,
    baseline: str | None = None,
    matched: str | None = None,
    settings: Settings,
    verdict_at: int | None = None,
) -> tuple[Verdict, ...]:
    """The verdict at the largest target size (or at `verdict_at`, or at the named baseline's), then those of the other
    sizes. Eval sets named retention, or retention:NAME, enter the sentences; transfer:NAME stands beside them."""
    table = tables.get(TARGET)
    if table is None:
        raise ScoresError(
            "no scores of eval set target", got=", ".join(tables), expected="eval set target (or no column eval_set)"
        )
    found = list(families(table, baseline=baseline, matched=matched))
    if verdict_at is not None:
        if all(family.target_rows != verdict_at for family in found):
            sizes = ", ".join(str(family.target_rows) for family in found)
            raise ScoresError(f"no family of arms at target_rows {verdict_at}", expected=f"one of {sizes}")
        found.sort(key=lambda family: family.target_rows != verdict_at)
    retention, transfer = (
        [other for name, other in tables.items() if name.split(":")[0] == eval_set]
        for eval_set in (RETENTION, TRANSFER)
    )
    return tuple(
        decide(gather(table, family, settings=settings, retention=retention, transfer=transfer)) for family in found
    )


def _check_settings(settings: Settings) -> None:
    if not 0 < settings.smallest_effect < 1:
        raise ScoresError("the smallest effect must lie between 0 and 1", got=settings.smallest_effect)
    if not 0.5 < settings.level < 1:
        raise ScoresError("the level must lie between 0.5 and 1", got=settings.level, fix="0.95 is usual")


def check_eval_sets(tables: Mapping[str, ScoreTable]) -> None:
    """A misspelt eval set would be left out unnoticed."""
    for name in tables:
        kind, _, rest = name.partition(":")
        if name in (TARGET, RETENTION, VALIDATION) or (kind in (RETENTION, TRANSFER) and rest):
            continue
        raise ScoresError("no such eval set", got=name, expected="target, retention, retention:NAME or transfer:NAME")


# ----------------------------------------------------------------------------------------------------------------- JSON


def judged_json(verdicts: Sequence[Verdict], *, worth: Worth) -> dict[str, Any]:
    """The first verdict as an object, with `by_target_rows` (in rising order) where there are several sizes, and what
    doses are worth over them."""
    found = {**verdict_json(verdicts[0]), "worth": worth_json(worth)}
    if len(verdicts) > 1:
        rising = sorted(verdicts, key=lambda verdict: verdict.target_rows or 0)
        found["by_target_rows"] = [{"target_rows": verdict.target_rows, **verdict_json(verdict)} for verdict in rising]
    return found


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain JSON: numbers are finite or null."""
    step = verdict.next_step
    return {
        "verdict": verdict.verdict,
        "provisional": verdict.provisional,
        "arm": verdict.arm,
        "sentence": verdict.sentence,
        "contrasts": [_contrast_json(contrast) for contrast in verdict.contrasts],
        "gain_cross_fitted": verdict.gain_cross_fitted,
        "smallest_detectable": verdict.smallest_detectable,
        "estimand": verdict.estimand,
        "next_step": None
        if step is None
        else {
            "kind": step.kind,
            "seeds": step.seeds,
            "items": step.items,
            "tokens": step.tokens,
            "minutes": step.minutes,
            "sentence": step.sentence,
            "holds": step.holds,
        },
        "smallest_effect": verdict.smallest_effect,
        "level": verdict.level,
        "baseline": verdict.baseline or None,
        "matched": verdict.matched,
        "provisional_reasons": list(verdict.provisional_reasons),
        "notes": list(verdict.notes),
        "task_weights": verdict.task_weights,
        "transfer": [{"eval_set": contrast.eval_set, **_contrast_json(contrast)} for contrast in verdict.transfer],
        **({"staged": _staged_json(verdict)} if verdict.grid_cost is not None else {}),
    }


def _staged_json(verdict: Verdict) -> dict[str, Any]:
    """How a staged verdict came about: each look as it stood, what was spent, and why it ended."""
    return {
        "ended": verdict.ended,
        "spent": _spent_json(verdict.spent),
        "grid_cost": verdict.grid_cost,
        "waiting": list(verdict.waiting),
        "ruled_out": list(verdict.ruled_out),
        "looks": [
            {
                "look": look.look,
                "seeds": look.seeds,
                "verdict": look.verdict,
                "better": list(look.better),
                "ruled_out": list(look.ruled_out),
                "waiting": list(look.waiting),
                "failed": list(look.failed),
                "spent": _spent_json(look.spent),
                "tails": {"better": look.tails.better, "single": look.tails.single, "strict": look.tails.strict},
                "scores": look.fingerprint,
                "contrasts": [_contrast_json(contrast) for contrast in look.contrasts],
            }
            for look in verdict.looks
        ],
    }


def _spent_json(spent: Spent | None) -> dict[str, Any] | None:
    return None if spent is None else {"runs": spent.runs, "cost": spent.cost}


def _contrast_json(contrast: Contrast) -> dict[str, Any]:
    estimate = contrast.difference
    found = {
        "arm": contrast.arm,
        "baseline": contrast.baseline or None,
        "target_rows": contrast.target_rows,
        "difference": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "p": contrast.p,
        "p_adjusted": contrast.p_adjusted,
        "items": estimate.n_items,
        "seeds": estimate.n_seeds,
        "method": estimate.method,
    }
    if estimate.reason is not None:
        found["reason"] = estimate.reason
    return found


# ------------------------------------------------------------------------------------------------------------------ CSV


def read_csv(path: Path) -> Mapping[str, ScoreTable]:
    """Tables by eval set from a CSV file with a header. Columns are text; only scores and counts are numbers."""
    return read_score_file(path).tables
