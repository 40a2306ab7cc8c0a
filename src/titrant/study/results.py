"""From stored answers to scores, verdicts and the files that hold them.

Answers are what a run leaves; scores follow from answers and items here, so a changed metric trains nothing again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from titrant import metrics
from titrant.engines.job import ANSWERS
from titrant.engines.local import failures
from titrant.identity import fingerprint, hash_file, plain
from titrant.records import Answer, Arm, Failure, Item, Score, Verdict
from titrant.stats.evidence import Settings
from titrant.stats.judge import judge_tables, judged_json
from titrant.stats.power import Costs
from titrant.stats.table import ScoreTable, tables_from_scores
from titrant.store import Store, read_json, write_bytes, write_json
from titrant.study.bench import TARGET_PROBE, VALIDATION_PROBE, Bench
from titrant.study.design import Design, PlannedRun, items_by_key, overlap_at, verdict_size

GRADED = "graded"


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedCell:
    """An arm at a seed that has no scores."""

    arm: Arm
    seed: int
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The verdict on one model and target, then those of its other target sizes (evidence only)."""

    model: str
    target: str
    metric: str
    verdicts: tuple[Verdict, ...]

    @property
    def verdict(self) -> Verdict:
        return self.verdicts[0]


@dataclass(frozen=True)
class Results:
    """All that the finished runs of a design say."""

    design: Design
    scores: tuple[Score, ...]
    failed: tuple[FailedCell, ...]
    judged: tuple[Judged, ...]
    times_judged: int


def collect(design: Design, store: Store) -> tuple[tuple[Score, ...], tuple[FailedCell, ...]]:
    """The scores of all finished runs of the design, and the cells that failed."""
    finished, failed = store.finished(), failures(store)
    scores: list[Score] = []
    missing: list[FailedCell] = []
    seen: set[tuple[str, str, str, int]] = set()
    judge = _Scorer(design.bench)
    for arm in design.arms:
        for seed in design.bench.study.arms.seeds:
            planned = design.cell(arm, seed)
            cell = (arm.model, arm.target, arm.name, planned.run.seed)
            if cell in seen:
                continue
            seen.add(cell)
            if planned.run.run_id in finished:
                scores += judge.scores(planned, arm, read_answers(store, planned.run.run_id))
            else:
                record = failed.get(planned.run.run_id) or _last_failure(store, planned.run.run_id)
                failure = Failure(**record["failure"]) if record else Failure(
                    kind="unfinished", step=None, message="the run has not been finished"
                )  # fmt: skip
                missing.append(FailedCell(arm=arm, seed=planned.run.seed, failure=failure))
    return tuple(scores), tuple(missing)


def read_answers(store: Store, run_id: str) -> tuple[Answer, ...]:
    """The answers of a finished run, by item key."""
    import pyarrow.parquet as pq

    table = pq.read_table(store.run_folder(run_id) / ANSWERS)
    rows = table.to_pylist()
    return tuple(
        Answer(
            run_id=run_id,
            item_key=row["item_key"],
            text=row["text"],
            choice=row["choice"],
            choice_logprobs=None if row["choice_logprobs"] is None else tuple(row["choice_logprobs"]),
            loss=row["loss"],
            stop=row["stop"],
        )
        for row in rows
    )


def judge_results(design: Design, scores: Sequence[Score], store: Store) -> tuple[Judged, ...]:
    """The verdicts of every model and target of the study."""
    bench = design.bench
    judged = []
    for model in bench.models:
        for target in bench.study.targets:
            metric = bench.study.targets[target].metric
            tables = target_tables(scores, model, target, metric)
            if TARGET_PROBE not in tables:
                continue
            verdicts: list[Verdict] = []
            at = verdict_size(bench, model, target)
            sizes = sorted({arm.target_rows for arm in tables[TARGET_PROBE].arms if arm.target_rows})
            for size in sorted(sizes, key=lambda size: size != at):
                costs = _costs(design, store, model, target, size)
                settings = Settings(
                    smallest_effect=bench.study.smallest_effect,
                    metric=metric,
                    overlap=overlap_at(bench, model, target, size),
                    allow_missing_runs=True,
                    costs=costs,
                )
                found = judge_tables(_at_size(tables, size), settings=settings, verdict_at=size)
                verdicts += found[:1]
            if verdicts:
                judged.append(Judged(model=model, target=target, metric=metric, verdicts=tuple(verdicts)))
    return tuple(judged)


def target_tables(scores: Sequence[Score], model: str, target: str, metric: str) -> dict[str, ScoreTable]:
    """The tables of one model and target by probe, on the metric that decides (retention on its own)."""
    mine = [
        score
        for score in scores
        if score.model == model
        and score.metric == (metric if score.probe == TARGET_PROBE else _decides(score))
        and (score.target == target if score.probe in (TARGET_PROBE, VALIDATION_PROBE) else True)
        and (score.arm_kind in ("untuned", "generalist_alone") or score.arm_target == target)
    ]
    return tables_from_scores(mine)


def validation_means(design: Design, store: Store) -> dict[tuple[str, str, str], float]:
    """The mean validation score of every arm by (model, target, arm): graded where there are choices, since small
    differences count when a learning rate is chosen."""
    sums: dict[tuple[str, str, str], list[float]] = {}
    for score in collect(design, store)[0]:
        if score.probe == VALIDATION_PROBE and score.value is not None and score.metric == _finest(design, score):
            sums.setdefault((score.model, score.target, score.arm), []).append(score.value)
    return {key: sum(values) / len(values) for key, values in sums.items()}


def count_judgement(store: Store, bench: Bench, scores: Sequence[Score]) -> int:
    """How often these test items have been judged with differing scores, this time included; kept in the ledger."""
    shown = fingerprint([[s.arm, s.seed, s.item, s.metric, s.value] for s in scores if s.probe == TARGET_PROBE])
    record = {"kind": "judged", "test_set": bench.facts["test_set"], "scores": shown}
    before = [entry for entry in store.records() if entry.get("kind") == "judged"]
    mine = [entry["scores"] for entry in before if entry["test_set"] == record["test_set"]]
    if shown not in mine:
        store.append(record)
        mine.append(shown)
    return len(dict.fromkeys(mine))


def verdict_object(results: Results) -> dict[str, Any]:
    """What verdict.json holds: `judge`'s object, plus study, retention and provenance; further models and targets
    under `others`."""
    bench = results.design.bench
    first, *others = [
        {"model": judged.model, "target": judged.target, "metric": judged.metric, **judged_json(judged.verdicts)}
        for judged in results.judged
    ]
    return {
        **first,
        "study": bench.study.name,
        "retention": retention_summary(results),
        "failed_runs": [{"arm": cell.arm.name, "seed": cell.seed, **plain(cell.failure)} for cell in results.failed],
        "times_judged": results.times_judged,
        "removed": [plain(entry) for entry in removed_rows(bench)],
        "provenance": {
            "models": {name: entry.model.fingerprint for name, entry in bench.models.items()},
            "numerics": plain(bench.numerics),
            "seeds": list(bench.study.arms.seeds),
            "study_fingerprint": fingerprint(bench.study.effective()),
            "test_set": bench.facts["test_set"],
        },
        **({"others": others} if others else {}),
    }


def retention_summary(results: Results) -> list[dict[str, Any]]:
    """Mean of every retention probe by arm, over items and seeds."""
    sums: dict[tuple[str, str, str, str], list[float]] = {}
    for score in results.scores:
        if score.probe.startswith("retention") and score.metric != GRADED and score.value is not None:
            sums.setdefault((score.model, score.arm, score.probe, score.metric), []).append(score.value)
    return [
        {"model": model, "arm": arm, "probe": probe, "metric": metric, "mean": sum(values) / len(values)}
        for (model, arm, probe, metric), values in sums.items()
    ]


def removed_rows(bench: Bench) -> tuple[Any, ...]:
    """All rows that were taken out of pools, for every model."""
    return (*bench.removed, *(entry for model in bench.models.values() for entry in model.removed))


def write_results(store: Store, files: Mapping[str, bytes]) -> None:
    """Write result files whole, and their checksums to the ledger when they changed."""
    for name, data in files.items():
        path = store.root / name
        if not path.is_file() or path.read_bytes() != data:
            write_bytes(path, data)
    hashes = {name: hash_file(store.root / name) for name in files}
    last = [entry for entry in store.records() if entry.get("kind") == "results"][-1:]
    if not last or last[0]["files"] != hashes:
        store.append({"kind": "results", "files": hashes})


def scores_parquet(scores: Sequence[Score]) -> bytes:
    """Scores as Parquet: the columns of `records.Score`, sorted, so that equal scores are equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = sorted(scores, key=lambda s: (s.model, s.target, s.target_rows, s.arm, s.seed, s.probe, s.item, s.metric))
    kinds: dict[str, Any] = {
        "target_rows": pa.int64(),
        "seed": pa.int64(),
        "dose": pa.int64(),
        "value": pa.float64(),
        "rungs": pa.list_(pa.string()),
    }
    names = list(Score.__slots__)
    table = pa.table(
        {
            name: pa.array(
                [list(row.rungs) if name == "rungs" else getattr(row, name) for row in rows],
                kinds.get(name, pa.string()),
            )
            for name in names
        }
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def verdict_bytes(results: Results) -> bytes:
    """verdict.json's bytes."""
    import json

    text = json.dumps(verdict_object(results), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8", "replace")


def write_study_record(store: Store, bench: Bench) -> None:
    """The study as it was last run, beside its results."""
    write_json(store.root / "study.json", {"name": bench.study.name, "said": bench.study.effective()})


# -------------------------------------------------------------------------------------------------------------- scores


class _Scorer:
    """Answers to scores; what an answer is worth on an item is worked out once."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._items: dict[tuple[str, str], dict[str, Item]] = {}
        self._worth: dict[tuple[str, str], metrics.TextScore] = {}

    def scores(self, planned: PlannedRun, arm: Arm, answers: Sequence[Answer]) -> list[Score]:
        key = (arm.model, arm.target)
        if key not in self._items:
            targets = [arm.target] if arm.target else list(self.bench.study.targets)
            self._items[key] = items_by_key(self.bench, arm.model, targets)
        items = self._items[key]
        found = []
        for answer in answers:
            item = items[answer.item_key]
            for metric, worth in self._measures(item, answer):
                found.append(_score(planned, arm, item, metric, worth))
        return found

    def _measures(self, item: Item, answer: Answer) -> list[tuple[str, metrics.TextScore]]:
        if answer.loss is not None:
            return [(item.metric, metrics.token_probability(answer.loss))]
        if answer.choice is None:
            assert answer.text is not None
            return [(item.metric, self._text(item, answer.text))]
        assert item.choices is not None
        assert answer.choice_logprobs is not None
        return [
            (item.metric, self._text(item, item.choices[answer.choice])),
            (GRADED, metrics.graded(answer.choice_logprobs, item.choices, item.references)),
        ]

    def _text(self, item: Item, text: str) -> metrics.TextScore:
        key = (item.key, text)
        if key not in self._worth:
            self._worth[key] = metrics.score_text(item.metric, text, item.references)
        return self._worth[key]


def _score(planned: PlannedRun, arm: Arm, item: Item, metric: str, worth: metrics.TextScore) -> Score:
    return Score(
        run_id=planned.run.run_id,
        model=arm.model,
        target=item.target,
        target_rows=arm.target_rows,
        arm=arm.name,
        arm_kind=arm.kind,
        seed=planned.run.seed,
        probe=item.probe,
        task=item.task,
        item=item.key,
        group=item.group,
        source="+".join(dose.source for dose in arm.doses) or None,
        dose=arm.dose_rows,
        metric=metric,
        value=worth.value,
        reason=worth.reason,
        rungs=item.rungs,
        arm_target=arm.target or None,
    )


def _decides(score: Score) -> str:
    """The metric on which a probe other than the target is judged: its own, never the graded one beside it."""
    return score.metric if score.metric != GRADED else ""


def _finest(design: Design, score: Score) -> str:
    answer = design.bench.study.targets[score.target].answer
    return GRADED if answer == "choices" else design.bench.study.targets[score.target].metric


def _at_size(tables: Mapping[str, ScoreTable], size: int) -> dict[str, ScoreTable]:
    """Only the arms of one target size."""
    found = {}
    for probe, table in tables.items():
        arms = [index for index, arm in enumerate(table.arms) if arm.target_rows == size]
        if arms:
            found[probe] = table.take(arms)
    return found


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
    training = sum(entry.run.tokens for entry in planned) // max(len(seeds), 1)
    tokens, seconds = 0, 0.0
    for entry in planned:
        timing = store.run_folder(entry.run.run_id) / "timing.json"
        if timing.is_file():
            times = read_json(timing)
            tokens += entry.run.tokens + _answer_tokens(entry)
            seconds += times["training_seconds"] + times["answering_seconds"]
    items = max(len(design.bench.models[model].targets[target].test), 1)
    arms = len({entry.run.arm.name for entry in planned})
    return Costs(
        training_tokens_per_seed=training,
        answer_tokens_per_item=arms * _answer_tokens(planned[0]) // items,
        tokens_per_minute=60 * tokens / seconds if seconds else None,
    )


def _answer_tokens(planned: PlannedRun) -> int:
    """Tokens that answering takes, context computed once for all choices of a question."""
    asked = planned.asked
    return (
        sum(len(question.prompt) + sum(map(len, question.choices)) for question in asked.questions)
        + sum(len(prompt.ids) + prompt.max_new_tokens for prompt in asked.prompts)
        + sum(len(row.ids) for row in asked.losses)
    )


def _last_failure(store: Store, run_id: str) -> dict[str, Any] | None:
    mine = [entry for entry in store.records() if entry.get("kind") == "failure" and entry["run_id"] == run_id]
    return mine[-1] if mine else None
