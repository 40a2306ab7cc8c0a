"""From stored answers to scores, verdicts and the files that hold them.

Answers are what a run leaves; scores follow from answers and items here, so a changed metric trains nothing again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from titrant.core.errors import StoreDamaged
from titrant.core.identity import fingerprint, hash_file, plain
from titrant.core.records import Answer, Arm, Failure, Run, Score, Verdict
from titrant.decision.confidence import ConfidenceCheck, check_json, checked
from titrant.decision.judge import judge_tables, judged_json
from titrant.engines.job import ANSWERS
from titrant.experiment.answers import StoredAnswers
from titrant.experiment.confidence import confidence_check
from titrant.experiment.design import Design, PlannedRun, overlap_at, verdict_size
from titrant.experiment.measures import target_measures
from titrant.experiment.prepare import TARGET_SET, VALIDATION_SET, PreparedStudy, transfer_set
from titrant.experiment.stages import (
    failed_runs,
    grid_lost_level,
    ladder_of,
    ladders_of,
    record_grid,
    record_looks,
    record_protocol,
    standing_of,
)
from titrant.experiment.worth import target_worth
from titrant.scoring.sheets import CALIBRATED, GRADED, METRIC_WORDS, RunScores, Scores, Sheet, SheetScorer
from titrant.stats.contrasts import TaskWeights
from titrant.stats.evidence import Settings
from titrant.stats.means import arm_means
from titrant.stats.numbers import LostLevel, Unscored
from titrant.stats.power import Costs
from titrant.stats.table import ScoreTable
from titrant.stats.worth import SkillInteraction, Worth, skill_json
from titrant.storage.atomic import write_bytes
from titrant.storage.folder import RESULTS
from titrant.storage.looks import look_history
from titrant.storage.manifests import TIMING
from titrant.storage.sealed import read_sealed, write_sealed
from titrant.storage.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedCell:
    """An arm at a seed that has no scores."""

    arm: Arm
    seed: int
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The verdict on one model and target, then those of its other target sizes (evidence only).

    `better_baseline` is the baseline of the verdict with the higher mean; the plain one where they tie, as it costs
    less, or where it is the only one; empty where no baseline has scores. `check`: accuracy and fitted temperatures
    beside a graded verdict on choices.
    """

    model: str
    target: str
    metric: str
    verdicts: tuple[Verdict, ...]
    better_baseline: str
    worth: Worth
    check: ConfidenceCheck | None = None

    @property
    def verdict(self) -> Verdict:
        return self.verdicts[0]


@dataclass(frozen=True)
class Results:
    """All that the finished runs of a design say."""

    design: Design
    scores: Scores
    failed: tuple[FailedCell, ...]
    judged: tuple[Judged, ...]
    times_judged: int
    skills: tuple[SkillInteraction, ...] = ()


def collect(design: Design, store: Store) -> tuple[Scores, tuple[FailedCell, ...]]:
    """The scores of all finished runs of the design, and the cells that failed."""
    answers = StoredAnswers(store)
    failed = failures_by_run(store)
    runs: list[RunScores] = []
    missing: list[FailedCell] = []
    scorers = Scorers(design)
    for arm, planned in cells(design):
        run = planned.run
        open_requests = answers.missing(planned)
        if not open_requests:
            runs.append(scorers.of(arm).score(answers.of(run.run_id), arm=arm, run=run))
        else:
            record = failed.get(run.run_id)
            message = (
                f"{len(open_requests)} of {len(planned.requests.names)} requests have no answer yet"
                if answers.is_finished(run.run_id)
                else "the run has not been finished"
            )
            failure = Failure(**record["failure"]) if record else Failure(
                kind="unfinished", step=None, message=message
            )  # fmt: skip
            missing.append(FailedCell(arm=arm, seed=run.seed, failure=failure))
    return Scores(runs), tuple(missing)


def cells(design: Design) -> Iterator[tuple[Arm, PlannedRun]]:
    """Every arm with each of its runs, once (the untuned model has one run, whatever the seed)."""
    for arm in design.arms:
        seen: set[int] = set()
        for seed in design.prepared.study.arms.seeds:
            planned = design.cell(arm, seed)
            if planned.run.seed not in seen and design.calls(arm, planned.run.seed):
                seen.add(planned.run.seed)
                yield arm, planned


def read_answers(store: Store, run_id: str) -> tuple[Answer, ...]:
    """The answers of a finished run, by item key."""
    import pyarrow.parquet as pq

    table = pq.read_table(store.run_folder(run_id) / ANSWERS)
    rows = table.to_pylist()
    return tuple(
        Answer(
            run_id=run_id,
            request=row["request"],
            text=row["text"],
            choice=row["choice"],
            choice_logprobs=None if row["choice_logprobs"] is None else tuple(row["choice_logprobs"]),
            loss=row["loss"],
            stop=row["stop"],
        )
        for row in rows
    )


def judge_results(design: Design, scores: Scores, store: Store) -> tuple[Judged, ...]:
    """The verdicts of every model and target of the study."""
    prepared = design.prepared
    judged = []
    for model in prepared.models:
        for target in prepared.study.targets:
            said = prepared.study.targets[target]
            tables = target_tables(scores, model, target, said.metric, others=_metrics(prepared))
            verdicts = _verdicts_of(design, scores, store, tables, model, target) if TARGET_SET in tables else []
            if not verdicts:
                continue
            checks = [_check_of(prepared, scores, verdict, model=model, target=target) for verdict in verdicts]
            told = [
                verdict if check is None else checked(verdict, check)
                for verdict, check in zip(verdicts, checks, strict=True)
            ]
            judged.append(
                Judged(
                    model=model,
                    target=target,
                    metric=said.metric,
                    verdicts=tuple(told),
                    better_baseline=better_baseline(tables[TARGET_SET], told[0], task_weights=said.task_weights),
                    worth=target_worth(prepared, tables[TARGET_SET], model=model, target=target),
                    check=checks[0],
                )
            )
    return tuple(judged)


def _verdicts_of(
    design: Design, scores: Scores, store: Store, tables: Mapping[str, ScoreTable], model: str, target: str
) -> list[Verdict]:
    """The verdict on one model and target, then those of its other target sizes (evidence beside it)."""
    prepared = design.prepared
    metric = prepared.study.targets[target].metric
    verdicts: list[Verdict] = []
    unscored = unscored_items(scores, model, target, metric)
    at = verdict_size(prepared, model, target)
    sizes = sorted({arm.target_rows for arm in tables[TARGET_SET].arms if arm.target_rows})
    if prepared.study.until == "firm":
        verdicts += _staged_verdicts(design, scores, store, model, target)
        sizes = [size for size in sizes if size != at] if verdicts else []
    lost = _lost_by_a_grid(design, store, model, target)
    # The size that the verdict is about comes first (False sorts before True); the others are evidence beside it.
    for size in sorted(sizes, key=lambda size: size != at):
        costs = _costs(design, store, model, target, size)
        if prepared.study.until == "firm":
            # Minutes are this machine's: a staged study says the same to the byte whoever ran it.
            costs = replace(costs, tokens_per_minute=None)
        settings = Settings(
            smallest_effect=prepared.study.smallest_effect,
            metric=METRIC_WORDS.get(metric, metric),
            overlap=overlap_at(prepared, model, target, size),
            allow_missing_runs=True,
            steps_matched=prepared.study.hold_equal == "steps",
            task_weights=prepared.study.targets[target].task_weights,
            costs=costs,
            unscored=unscored,
            lost=lost if size == at else None,
        )
        verdicts += judge_tables(_at_size(tables, size), settings=settings, verdict_at=size)[:1]
    return verdicts


def _check_of(
    prepared: PreparedStudy, scores: Scores, verdict: Verdict, *, model: str, target: str
) -> ConfidenceCheck | None:
    """What tells a graded verdict from one on confidence alone; None for every other metric."""
    if prepared.study.targets[target].metric != GRADED or verdict.target_rows is None:
        return None
    return confidence_check(prepared, scores, model=model, target=target, size=verdict.target_rows)


def _staged_verdicts(design: Design, scores: Scores, store: Store, model: str, target: str) -> list[Verdict]:
    """The verdict of a staged study's ladder; none before its first look."""
    ladder = ladder_of(design, model, target)
    finished = store.finished()
    failures = {
        run_id: record["failure"]["kind"] for run_id, record in failures_by_run(store).items() if run_id not in finished
    }
    history = look_history(store, model, target)
    standing = standing_of(
        ladder,
        family_tables(scores, design.prepared, model, target, size=ladder.protocol.target_rows),
        store,
        failed=failed_runs(design, ladder, history, failures),
        budget_seeds=history.budget_seeds.get(ladder.name),
        unscored=unscored_items(scores, model, target, design.prepared.study.targets[target].metric),
    )
    return [] if standing.verdict is None else [standing.verdict]


def _lost_by_a_grid(design: Design, store: Store, model: str, target: str) -> LostLevel | None:
    """Why the level of a grid does not hold, where other seeds were judged before it."""
    if design.prepared.study.until == "firm":
        return None
    return grid_lost_level(ladder_of(design, model, target), look_history(store, model, target))


def family_tables(
    scores: Scores, prepared: PreparedStudy, model: str, target: str, *, size: int | None
) -> dict[str, ScoreTable]:
    """The tables that one verdict reads, by eval set: the arms of one target size, on the metric that decides."""
    metric = prepared.study.targets[target].metric
    tables = target_tables(scores, model, target, metric, others=_metrics(prepared))
    return _at_size(tables, size) if size is not None else tables


def unscored_items(scores: Scores, model: str, target: str, metric: str) -> Unscored | None:
    """The target's test items that no run has a score for, with the first run's reason; None where all have one."""
    scored: dict[str, bool] = {}
    reasons: dict[str, str] = {}
    lines: dict[int, Any] = {}
    for run in scores.of(model, target):
        if id(run.sheet) not in lines:
            lines[id(run.sheet)] = run.sheet.lines(target, TARGET_SET, metric)
        for line in lines[id(run.sheet)].tolist():
            key = run.sheet.items[line].key
            scored[key] = scored.get(key, False) or line not in run.reasons
            if line in run.reasons:
                reasons.setdefault(key, run.reasons[line])
    without = [key for key, known in scored.items() if not known]
    if not without:
        return None
    counts = Counter(reasons[key] for key in without)
    return Unscored(items=len(without), asked=len(scored), reasons=tuple(counts.most_common()))


def _metrics(prepared: PreparedStudy) -> dict[str, str]:
    """The metric that decides on each target's items, by the eval set under which other targets answer them."""
    return {transfer_set(name): target.metric for name, target in prepared.study.targets.items()}


PAGES = "reports"
"""The folder of the pages of further models and targets."""


def page_name(results: Results, judged: Judged) -> str:
    """The file with the report of one model and target, from the results' folder: report.html for the first, which
    names the others."""
    first = results.judged[0]
    same = (judged.model, judged.target) == (first.model, first.target)
    return "report.html" if same else f"{PAGES}/{judged.model}/{judged.target}.html"


def weighed_means(table: ScoreTable, *, task_weights: TaskWeights) -> dict[str, float]:
    """The mean of every arm by name, with tasks weighed as the verdict weighs them, so that whatever is chosen by a
    mean is chosen by the score that is judged. Rounded where sums of floats end, so that equal means tie."""
    means: dict[str, float] = {}
    for found in arm_means(table, task_weights=task_weights):
        assert found.estimate.value is not None, "an arm that has a run has a mean"
        means[found.arm.name] = round(found.estimate.value, 12)
    return means


def better_baseline(table: ScoreTable, verdict: Verdict, *, task_weights: TaskWeights) -> str:
    """The baseline of the verdict with the higher mean; the plain one where they tie or it is the only one. Over the
    seeds that both have: of a staged study one may have stopped early, and seeds differ by more than baselines do."""
    places = [index for index, arm in enumerate(table.arms) if arm.name in (verdict.baseline, verdict.matched)]
    if verdict.matched is None or len(places) < 2:
        return verdict.baseline
    both = [seed for seed in range(len(table.seeds)) if table.ran[places, seed].all()]
    if not both:
        return verdict.baseline
    means = weighed_means(table.cut(places, both, range(len(table.items))), task_weights=task_weights)
    return verdict.matched if means[verdict.matched] > means.get(verdict.baseline, 0.0) else verdict.baseline


def target_tables(
    scores: Scores, model: str, target: str, metric: str, *, others: Mapping[str, str] | None = None
) -> dict[str, ScoreTable]:
    """The tables of one model and target by eval set, on the metric that decides (retention on its own, items of other
    targets on that of `others`, by eval set)."""
    found = {}
    for eval_set, names in scores.eval_sets(model, target).items():
        own = (others or {}).get(eval_set, names[0] if names else metric)
        decides = metric if eval_set == TARGET_SET else own
        table = scores.table(model, target, eval_set, decides)
        if table is not None:
            found[eval_set] = table
    return found


def validation_means(design: Design, store: Store) -> dict[tuple[str, str, str], float]:
    """The mean validation score of every arm by (model, target, arm), tasks weighed as in the verdict: graded where
    there are choices, since small differences count when a learning rate is chosen."""
    scores = collect(design, store)[0]
    means: dict[tuple[str, str, str], float] = {}
    for model in design.prepared.models:
        for target in design.prepared.study.targets:
            table = scores.table(model, target, VALIDATION_SET, _finest(design, target))
            if table is None:
                continue
            weights = design.prepared.study.targets[target].task_weights
            means |= {(model, target, arm): mean for arm, mean in weighed_means(table, task_weights=weights).items()}
    return means


def count_judgement(store: Store, prepared: PreparedStudy, scores: Scores, *, protocols: Sequence[str] = ()) -> int:
    """How often these test items have been judged with differing scores, this time included; kept in the ledger. All
    looks of a staged study are one judgement, named by its `protocols`, which allow for them."""
    shown = fingerprint(list(protocols) or _shown(scores))
    record = {"kind": "judged", "test_set": prepared.facts["test_set"], "scores": shown}
    before = [entry for entry in store.records() if entry.get("kind") == "judged"]
    mine = [entry["scores"] for entry in before if entry["test_set"] == record["test_set"]]
    if shown not in mine:
        store.append(record)
        mine.append(shown)
    return len(dict.fromkeys(mine))


def _shown(scores: Scores) -> list[list[Any]]:
    """What every run says of the test items, in short: what it is about, and a hash of its values."""
    lines: dict[int, list[int]] = {}
    found = []
    for run in scores.runs:
        if id(run.sheet) not in lines:
            # Calibrated scores follow from graded ones: they make no other judgement of it.
            lines[id(run.sheet)] = [
                line
                for line, (_, eval_set, metric) in enumerate(run.sheet.kinds)
                if eval_set == TARGET_SET and metric != CALIBRATED
            ]
        values = hashlib.sha256(run.values_N[lines[id(run.sheet)]].tobytes()).hexdigest()
        found.append([run.arm.model, run.arm.target, run.arm.name, run.seed, run.sheet.digest, values])
    return found


def record_judgement(store: Store, design: Design, scores: Scores, judged: Sequence[Judged]) -> None:
    """Write down what these verdicts have looked at, of a grid and of a staged study that somebody reports on between
    two runs: whoever changes or extends it afterwards is told what that costs its level."""
    shown = fingerprint(_shown(scores))
    with store.locked("looks"):
        if design.prepared.study.until != "firm":
            for ladder in ladders_of(design):
                record_grid(store, ladder, shown)
            return
        for one in judged:
            ladder = ladder_of(design, one.model, one.target)
            record_protocol(store, ladder)
            record_looks(store, ladder, one.verdict.looks)


def verdict_object(results: Results) -> dict[str, Any]:
    """What verdict.json holds: `judge`'s object, plus study, retention and provenance; further models and targets
    under `others`."""
    prepared = results.design.prepared
    first, *others = [
        {
            "model": judged.model,
            "target": judged.target,
            "metric": judged.metric,
            **judged_json(judged.verdicts, worth=judged.worth),
            "confidence": None if judged.check is None else check_json(judged.verdict, judged.check),
            "measures": [
                {"metric": measure.metric, "of": measure.of, "items": measure.items, "means": dict(measure.means)}
                for measure in target_measures(results.scores, judged.model, judged.target)
            ],
        }
        for judged in results.judged
    ]
    return {
        **first,
        "study": prepared.study.name,
        "retention": retention_summary(results),
        "skill_interactions": [skill_json(found) for found in results.skills],
        "failed_runs": [{"arm": cell.arm.name, "seed": cell.seed, **plain(cell.failure)} for cell in results.failed],
        "times_judged": results.times_judged,
        "removed": [plain(entry) for entry in removed_rows(prepared)],
        "provenance": {
            "models": {name: entry.model.fingerprint for name, entry in prepared.models.items()},
            "numerics": plain(prepared.numerics),
            "seeds": list(prepared.study.arms.seeds),
            "study_fingerprint": fingerprint(prepared.study.effective()),
            "test_set": prepared.facts["test_set"],
        },
        **({"others": others} if others else {}),
    }


def retention_summary(results: Results) -> list[dict[str, Any]]:
    """Mean of every retention eval set by arm, over items and seeds."""
    import numpy as np

    values: dict[tuple[str, str, str, str], list[Any]] = {}
    lines: dict[int, dict[tuple[str, str, str], Any]] = {}
    for run in results.scores.runs:
        if id(run.sheet) not in lines:
            kept = [kind for kind in dict.fromkeys(run.sheet.kinds) if kind[1].startswith("retention")]
            lines[id(run.sheet)] = {kind: run.sheet.lines(*kind) for kind in kept if kind[2] != GRADED}
        for (_, eval_set, metric), at in lines[id(run.sheet)].items():
            values.setdefault((run.arm.model, run.arm.name, eval_set, metric), []).append(run.values_N[at])
    means = {key: np.concatenate(parts) for key, parts in values.items()}
    return [
        {"model": model, "arm": arm, "eval_set": eval_set, "metric": metric, "mean": float(np.nanmean(found))}
        for (model, arm, eval_set, metric), found in means.items()
        if not np.isnan(found).all()
    ]


def removed_rows(prepared: PreparedStudy) -> tuple[Any, ...]:
    """All rows that were taken out of pools, for every model."""
    return (*prepared.removed, *(entry for model in prepared.models.values() for entry in model.removed))


def write_results(store: Store, files: Mapping[str, bytes], record: Mapping[str, Any]) -> None:
    """Write result files whole, then results.json with their checksums and `record`, where anything changed. Pages of
    pairs that the study no longer judges go, as nothing would ever correct them."""
    for name, data in files.items():
        path = store.root / name
        if not path.is_file() or path.read_bytes() != data:
            write_bytes(path, data)
    for page in sorted(store.root.glob(f"{PAGES}/*/*.html")):
        if page.relative_to(store.root).as_posix() not in files:
            page.unlink()
    wanted = {**record, "files": {name: hash_file(store.root / name) for name in files}}
    try:
        known = read_sealed(store.root / RESULTS)
    except StoreDamaged:
        known = None
    if known != plain(wanted):
        write_sealed(store.root / RESULTS, wanted)


def scores_parquet(scores: Scores) -> bytes:
    """Scores as Parquet: the columns of `records.Score`, in the order of `scores`, so equal scores are equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, _score_schema(), compression="zstd", store_schema=False) as writer:
        for start in range(0, len(scores.runs), _RUNS_A_GROUP):
            writer.write_table(_score_rows(scores.runs[start : start + _RUNS_A_GROUP]))
    return bytes(sink.getvalue().to_pybytes())


_RUNS_A_GROUP = 500


def _score_schema() -> Any:
    import pyarrow as pa

    kinds = {"target_rows": pa.int64(), "seed": pa.int64(), "dose": pa.int64(), "value": pa.float64()}
    names = pa.dictionary(pa.int32(), pa.string())
    return pa.schema(
        [
            (name, pa.list_(pa.string()) if name in ("rungs", "tags") else kinds.get(name, names))
            for name in Score.__slots__
        ]
    )


def _score_rows(runs: Sequence[RunScores]) -> Any:
    """The scores of some runs as a table; names are dictionaries, so that each stands once."""
    import numpy as np
    import pyarrow as pa

    sizes = [len(run.values_N) for run in runs]
    heads = [run.score(0) for run in runs]
    columns: dict[str, Any] = {}
    for name in ("run_id", "model", "target_rows", "arm", "arm_kind", "seed", "source", "dose", "arm_target"):
        said = [getattr(head, name) for head in heads]
        if name in ("target_rows", "seed", "dose"):
            columns[name] = pa.array(np.repeat(np.array(said, dtype=np.int64), sizes))
        else:
            columns[name] = _dictionary(said, np.repeat(np.arange(len(said)), sizes))
    sheets = {id(run.sheet): run.sheet for run in runs}
    starts, lines = {}, 0
    for key, sheet in sheets.items():
        starts[key], lines = lines, lines + len(sheet)
    at = np.concatenate([starts[id(run.sheet)] + np.arange(size) for run, size in zip(runs, sizes, strict=True)])
    items = [item for sheet in sheets.values() for item in sheet.items]
    for name in ("target", "eval_set", "task", "group"):
        columns[name] = _dictionary([getattr(item, name) for item in items], at)
    columns["item"] = _dictionary([item.key for item in items], at)
    columns["metric"] = _dictionary([metric for sheet in sheets.values() for metric in sheet.metrics], at)
    said_of = {
        "rungs": [list(item.rungs) for item in items],
        "tags": [[f"{name}={value}" for name, value in item.tags] for item in items],
    }
    for name, lists in said_of.items():
        columns[name] = pa.array(lists, pa.list_(pa.string())).take(pa.array(at))
    values = np.concatenate([run.values_N for run in runs])
    columns["value"] = pa.array(values, mask=np.isnan(values))
    reasons: list[str | None] = [None] * len(values)
    for run, end in zip(runs, np.cumsum(sizes), strict=True):
        for line, reason in run.reasons.items():
            reasons[int(end) - len(run.values_N) + line] = reason
    columns["reason"] = pa.array(reasons, pa.string()).dictionary_encode()
    return pa.table([columns[name] for name in Score.__slots__], schema=_score_schema())


def _dictionary(said: Sequence[str | None], at: Any) -> Any:
    """The texts at these places, each distinct text stored once."""
    import numpy as np
    import pyarrow as pa

    names = list(dict.fromkeys(text for text in said if text is not None))
    number = {name: code for code, name in enumerate(names)}
    codes = np.array([-1 if text is None else number[text] for text in said], dtype=np.int32)[at]
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), pa.array(names, pa.string()))


def verdict_bytes(results: Results) -> bytes:
    """verdict.json's bytes."""
    import json

    text = json.dumps(verdict_object(results), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8", "replace")


# -------------------------------------------------------------------------------------------------------------- scores


class Scorers:
    """The scorer of every model and target, made once."""

    def __init__(self, design: Design) -> None:
        self.design = design
        self._found: dict[tuple[str, str], SheetScorer] = {}

    def of(self, arm: Arm) -> SheetScorer:
        key = (arm.model, arm.target)
        if key not in self._found:
            prepared = self.design.prepared
            targets = [arm.target] if arm.target else list(prepared.study.targets)
            requests = self.design.cell(arm, prepared.study.arms.seeds[0]).requests
            self._found[key] = SheetScorer(Sheet.of(prepared.items(arm.model, targets)), requests.by_item)
        return self._found[key]


def _finest(design: Design, target: str) -> str:
    said = design.prepared.study.targets[target]
    items = [item for prepared in design.prepared.models.values() for item in prepared.targets[target].validation]
    return GRADED if all(item.answer == "choices" for item in items) else said.metric


def _at_size(tables: Mapping[str, ScoreTable], size: int) -> dict[str, ScoreTable]:
    """Only the arms of one target size."""
    found = {eval_set: table.of_size(size) for eval_set, table in tables.items()}
    return {eval_set: table for eval_set, table in found.items() if table is not None}


def _costs(design: Design, store: Store, model: str, target: str, size: int) -> Costs:
    """What a further seed or item would cost, from the plan and the times of finished runs."""
    planned = [
        entry
        for entry in design.distinct
        if entry.run.arm.model == model and entry.run.arm.target == target and entry.run.arm.target_rows == size
    ]
    seeds = {entry.run.seed for entry in planned}
    if not planned:
        return Costs()
    own = design.prepared.models[model].targets[target].test
    keys = {item.key for item in own}
    arms = {entry.run.arm.name: entry for entry in planned}
    per_run = planned[0].requests.of_items(keys).tokens
    # What a run answers beside the target's own items costs the same however many of those there are.
    beside = planned[0].requests.tokens - per_run
    training = sum(entry.run.tokens for entry in planned) // max(len(seeds), 1)
    tokens, seconds = 0, 0.0
    for entry in planned:
        timing = store.run_folder(entry.run.run_id) / TIMING
        if timing.is_file():
            times = read_sealed(timing)
            tokens += entry.run.tokens + entry.requests.tokens
            seconds += times["training_seconds"] + times["answering_seconds"]
    return Costs(
        training_tokens_per_seed=training + len(arms) * beside,
        answer_tokens_per_item=len(arms) * per_run // max(len(own), 1),
        tokens_per_minute=60 * tokens / seconds if seconds else None,
        double_dose_tokens_per_seed=_double_dose_tokens(
            [entry.run for entry in arms.values()], planned[0].requests.tokens
        ),
    )


def _double_dose_tokens(runs: Sequence[Run], answer_tokens: int) -> int | None:
    """What an arm with twice the largest dose takes at one seed, and the matched baseline that goes with it: as many
    visits again of generalist rows, and in the baseline of target rows."""
    dosed = [run for run in runs if run.arm.doses]
    if not dosed:
        return None
    largest = max(dosed, key=lambda run: run.arm.dose_rows)
    of_pool = sum(draw.tokens for draw in largest.draws if draw.source != largest.arm.target)
    tokens = largest.tokens + of_pool + answer_tokens
    matched = next((run for run in runs if run.arm.kind == "matched"), None)
    if matched is not None:
        visits = sum(draw.visits for draw in matched.draws)
        more = sum(draw.visits for draw in largest.draws if draw.source != largest.arm.target)
        tokens += matched.tokens * (visits + more) // max(visits, 1) + answer_tokens
    return tokens


def failures_by_run(store: Store) -> dict[str, dict[str, Any]]:
    """The last failure of every run that has one, whatever its kind."""
    return {entry["run_id"]: entry for entry in store.records() if entry.get("kind") == "failure"}
