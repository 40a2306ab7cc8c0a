"""The door: logs of an evaluator in, a table of scores out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from titrant.core.errors import ScoresError
from titrant.logs.samples import Asked, Log, LoggedRun, join


def read_logs(
    logs: Mapping[tuple[str, int | str], str | Path],
    *,
    evaluator: str,
    tasks: Sequence[str] = (),
    retention: Sequence[str] = (),
    metric: str | Mapping[str, str] | None = None,
    filter: str | Mapping[str, str] | None = None,
    group: str | None = None,
    drop_incomplete: bool = False,
) -> Any:
    """Scores of many logs as one pyarrow table that `titrant.judge` and `titrant.next_runs` take.

    Args:
        logs: (arm, seed) to the file or folder of its log. Seeds are trainings, not repeated answers.
        evaluator: `lm-eval` (folders of `--log_samples`) or `inspect` (`.eval` files; needs the extra `inspect`).
        tasks: only these tasks or groups of the harness; empty for all. Tasks named in `retention` come on top.
        retention: tasks that should be kept rather than learned; their eval set is `retention:TASK`.
        metric: which score decides, or which for each task; needed where a log holds several. For
            lm-eval's choices also `graded`, the probability of the right choice among the choices, worked out from the
            log-likelihoods in the log.
        filter: which of lm-eval's filters; needed where a log holds several.
        group: a field of the document (lm-eval) or of the metadata (Inspect) that says which items are one sample.
        drop_incomplete: leave out items that some log lacks, instead of refusing them.

    Returns:
        Columns `arm`, `seed`, `item`, `score` (0 to 1), `task`, `eval_set`, and `group` and `dose` where known (the
        number behind the last @ of an arm's name). What is to be told of the reading is the metadata `remarks`.

    Raises:
        ScoresError: a log that is absent, cut or not finished; items asked with other words in some logs than in others
            (paired by digests, never by order); a metric that is none, or several where one must be named.

    >>> logs = {("alone", 0): "logs/alone", ("mix@96", 0): "logs/mix"}
    >>> table = read_logs(logs, evaluator="lm-eval")  # doctest: +SKIP
    >>> judge(table, baseline="alone", smallest_effect=0.02).sentence  # doctest: +SKIP
    """
    import json

    import pyarrow as pa

    read = _reader(evaluator)
    if not logs:
        raise ScoresError("no logs", where="--arm", expected="--arm ARM:SEED=PATH for each run")
    wanted = dict.fromkeys([*tasks, *retention]) if tasks else {}
    asked = Asked(tasks=tuple(wanted), metric=metric, filter=filter, group=group)
    runs = [LoggedRun(arm=arm, seed=str(seed), path=Path(path)) for (arm, seed), path in logs.items()]
    scores = join([read(run, asked) for run in runs], retention=retention, drop_incomplete=drop_incomplete)
    table = pa.table(dict(scores.columns))
    return table.replace_schema_metadata({"remarks": json.dumps(list(scores.remarks), ensure_ascii=False)})


def _reader(evaluator: str) -> Callable[[LoggedRun, Asked], Log]:
    if evaluator == "lm-eval":
        from titrant.logs import lm_eval

        return lm_eval.read_log
    if evaluator == "inspect":
        from titrant.logs import inspect_logs

        return inspect_logs.read_log
    raise ScoresError("no such evaluator", where="--from", got=evaluator, expected="lm-eval or inspect")
