"""Everything a study reads, read once: models, targets, pools, probes; clean, and in token ids.

Rows are taken out of a pool before anything is drawn (test items found in it, rows that are too long), and counted, so
that a draw gets exactly what it asks for. A test item among the target's own training rows is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from titrant import hygiene, sources, tasks
from titrant.errors import DataError, SpecError
from titrant.identity import fingerprint
from titrant.models.prepare import prepare
from titrant.numerics import current_numerics
from titrant.records import Example, Item, Numerics, PreparedModel, TokenPrompt, TokenQuestion, TokenRow
from titrant.study.facts import fact_target
from titrant.study.fields import Place
from titrant.study.pools import PoolRows, read_pool
from titrant.study.scores import prior_key
from titrant.study.spec import Study, Target
from titrant.tokens import Renderer, renderer_for

TARGET_PROBE, VALIDATION_PROBE = "target", "validation"
KEPT, LEARNED = "kept", "learned"
KEPT_PROBE, LEARNED_PROBE = "retention:kept", "retention:learned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """Rows that were taken out of a pool before the draw, and why."""

    pool: str
    why: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetData:
    """One target as read: `train` without the validation rows."""

    name: str
    train: tuple[Example, ...]
    validation: tuple[Item, ...]
    test: tuple[Item, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One source of generalist rows, clean: `rows` can be drawn, `read` counts those of the file.

    `place` is what was read; `non_commercial` is None where the licence is not known.
    """

    source: str
    rows: tuple[Example, ...]
    read: int
    licence: str | None
    place: Place
    non_commercial: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBench:
    """One model with its renderer, and rows in its token ids by (source, key)."""

    name: str
    model: PreparedModel
    renderer: Renderer
    rows: Mapping[tuple[str, str], TokenRow]
    targets: Mapping[str, TargetData]
    pools: Mapping[str, Pool]
    removed: tuple[Removed, ...]


@dataclass(frozen=True)
class Bench:
    """All that a study reads. Made by `read_bench`; it holds no torch."""

    study: Study
    models: Mapping[str, ModelBench]
    retention: tuple[Item, ...]
    numerics: Numerics
    removed: tuple[Removed, ...]
    facts: Mapping[str, str]

    @cached_property
    def probes(self) -> tuple[str, ...]:
        """The probes that every run answers."""
        chosen = (VALIDATION_PROBE,) if self.study.needs_choosing else ()
        return (TARGET_PROBE, *chosen, *dict.fromkeys(item.probe for item in self.retention))

    def items(self, model: str, targets: Sequence[str]) -> tuple[Item, ...]:
        """All items that a run on these targets answers, in a fixed order."""
        bench = self.models[model]
        asked: list[Item] = []
        for name in targets:
            asked += bench.targets[name].test
            if self.study.needs_choosing:
                asked += bench.targets[name].validation
        return (*asked, *self.retention)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Items in token ids, by how they are answered."""

    questions: tuple[TokenQuestion, ...]
    prompts: tuple[TokenPrompt, ...]
    losses: tuple[TokenRow, ...]

    @property
    def tokens(self) -> int:
        """Tokens that answering takes: a question's context once for all its choices, a text to its full length."""
        return (
            sum(len(question.prompt) + sum(map(len, question.choices)) for question in self.questions)
            + sum(len(prompt.ids) + prompt.max_new_tokens for prompt in self.prompts)
            + sum(len(row.ids) for row in self.losses)
        )


def asked(renderer: Renderer, items: Sequence[Item]) -> Asked:
    """The items in one model's ids. A key that stands twice (the same item in two probes) is asked once, and so is the
    question that several items come to without their subjects."""
    distinct = {item.key: item for item in items}.values()
    priors = {prior_key(item): item for item in distinct if item.prior_turns is not None}
    return Asked(
        questions=(
            *(renderer.question(item) for item in distinct if item.answer == "choices"),
            *(
                renderer.question(replace(item, key=key, turns=item.prior_turns or ()))
                for key, item in sorted(priors.items())
            ),
        ),
        prompts=tuple(renderer.generation(item) for item in distinct if item.answer == "text"),
        losses=tuple(renderer.reference_row(item) for item in distinct if item.answer == "loss"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRows:
    """The rows of a study as its files hold them, pools not yet cleaned."""

    targets: Mapping[str, TargetData]
    retention: tuple[Item, ...]
    pools: Mapping[str, PoolRows]


def raw_rows(study: Study) -> RawRows:
    """Read every file of rows; every fault of theirs is raised here."""
    return RawRows(
        targets={name: _read_target(name, target) for name, target in study.targets.items()},
        retention=_read_retention(study),
        pools={name: read_pool(study, name) for name in study.generalist},
    )


def read_bench(study: Study, *, say: Callable[[str], None] = lambda _: None) -> Bench:
    """Read and check everything, before any training: every fault of the user's files is raised here."""
    numerics = current_numerics(
        study.numerics.dtype,
        study.numerics.threads,
        study.numerics.device,  # type: ignore[arg-type]
    )
    raw = raw_rows(study)
    targets, retention = raw.targets, raw.retention
    pools, removed = _clean_pools(study, raw)
    models = {}
    for name, spec in study.models.items():
        say(f"preparing the model {name}")
        prepared = prepare(
            str(spec),
            base=study.folder,
            template=study.template,
            allow_pickle=study.allow_pickle,
            allow_remote_code=study.allow_remote_code,
        )
        models[name] = _in_tokens(study, name, prepared, targets, pools)
    items = [item for target in targets.values() for item in target.test]
    facts = {"test_set": fingerprint(sorted([item.key, *item.references] for item in items))}
    return Bench(
        study=study, models=models, retention=retention, numerics=numerics, removed=tuple(removed), facts=facts
    )


# ------------------------------------------------------------------------------------------------------------- targets


def _read_target(name: str, target: Target) -> TargetData:
    """The target's rows: test items never among the training rows, labels known, validation parted off."""
    if target.facts is not None:
        tokens = target.max_answer_tokens
        train, items = fact_target(target.facts, name=name, probe=TARGET_PROBE, max_answer_tokens=tokens)
        return TargetData(name=name, train=train, validation=(), test=items, labels=())
    path = target.train if target.train is not None else target.rows
    assert path is not None, "the study file has been checked"
    rows = _examples(path, target, source=name)
    labels = target.choices or (tasks.closed_labels(rows) if target.answer == "choices" and _labelled(rows) else ())
    if target.rows is not None:
        assert target.test_share is not None
        split = tasks.split_rows(rows, share=target.test_share, name="test")
        everything = _items(path, target, name=name, probe=TARGET_PROBE, labels=labels)
        test = tasks.items_of(split.held_out, examples=rows, items=everything)
        rows = split.train
    else:
        assert target.test is not None
        test = _items(target.test, target, name=name, probe=TARGET_PROBE, labels=labels)
    validation: tuple[Item, ...] = ()
    if isinstance(target.validation, float):
        part = tasks.split_rows(rows, share=target.validation, name="validation")
        everything = _items(path, target, name=name, probe=VALIDATION_PROBE, labels=labels)
        chosen = {row.row_id for row in part.held_out}
        validation = tuple(item for item in everything if item.row_id in chosen)
        rows = part.train
    elif target.validation is not None:
        validation = _items(target.validation, target, name=name, probe=VALIDATION_PROBE, labels=labels)
        tasks.refuse_overlap(rows, validation)
    tasks.refuse_overlap(rows, test)
    if labels and target.choices is None:
        tasks.refuse_unseen_labels(test, labels)
    return TargetData(name=name, train=rows, validation=_apart(validation), test=test, labels=labels)


def _labelled(rows: Sequence[Example]) -> bool:
    return bool(rows) and rows[0].label is not None


def _apart(items: Sequence[Item]) -> tuple[Item, ...]:
    """Validation items under keys of their own, so that equal content in two probes is scored twice."""
    return tuple(replace(item, key=f"validation:{item.key}") for item in items)


def _examples(path: str, said: Target, *, source: str) -> tuple[Example, ...]:
    rows = sources.load_examples(path, source=source, task=source, columns=said.columns, instruction=said.instruction)
    if not rows:
        raise DataError("the file holds no rows", where=path, expected="at least one row")
    return rows


def _items(path: str, target: Target, *, name: str, probe: str, labels: Sequence[str]) -> tuple[Item, ...]:
    if target.metric == "by_task" or target.answer == "by_task":
        raise SpecError(
            "by_task needs a collection of tasks, and this target is one file of rows",
            where=f"{target.train or target.rows}",
            fix="name a metric and an answer",
        )
    items = sources.load_items(
        path,
        probe=probe,
        target=name,
        task=name,
        metric=target.metric,
        answer=target.answer,
        max_answer_tokens=target.max_answer_tokens,
        choices=tuple(labels) or None,
        columns=target.columns,
        instruction=target.instruction,
    )
    if not items:
        raise DataError("the file holds no rows", where=path, expected="at least one test item")
    return items


# --------------------------------------------------------------------------------------------------- probes and pools


def _read_retention(study: Study) -> tuple[Item, ...]:
    items: list[Item] = []
    if study.retention.kept is not None:
        items += sources.load_items(
            study.retention.kept,
            probe=KEPT_PROBE,
            target=KEPT,
            task=KEPT,
            metric="accuracy",
            answer="choices",
            max_answer_tokens=32,
        )
    if study.retention.learned is not None:
        items += sources.load_items(
            study.retention.learned,
            probe=LEARNED_PROBE,
            target=LEARNED,
            task=LEARNED,
            metric="token_probability",
            answer="loss",
            max_answer_tokens=32,
        )
    return tuple(items)


def _clean_pools(study: Study, raw: RawRows) -> tuple[dict[str, Pool], list[Removed]]:
    """Every pool without the rows that hold a test or retention item."""
    items = [item for target in raw.targets.values() for item in (*target.test, *target.validation)]
    items += raw.retention
    settings = hygiene.LeakSettings(run_words=study.contamination.ngram)
    instructions = [target.instruction for target in study.targets.values() if target.instruction]
    pools, removed = {}, []
    for name, read in raw.pools.items():
        rows = read.rows
        if read.left_out:
            removed.append(Removed(pool=name, why=f"cannot be used, the first: {read.first_fault}", rows=read.left_out))
        leaks = hygiene.contaminated(rows, items, settings=settings, instructions=instructions)
        leaked = {leak.row_key for leak in leaks}
        clean = tuple(row for row in rows if row.key not in leaked)
        in_test = {leak.row_key for leak in leaks if leak.probe == TARGET_PROBE}
        for why, keys in (("holds a test item", in_test), ("holds another probe's item", leaked - in_test)):
            if keys:
                removed.append(Removed(pool=name, why=why, rows=len(keys)))
        if not clean:
            raise DataError(
                "nothing is left of the pool once rows that hold test items are removed",
                where=f"generalist.{name}",
                got=f"{len(rows)} rows read, {len(leaked)} removed",
            )
        pools[name] = Pool(
            source=name,
            rows=clean,
            read=len(rows) + read.left_out,
            licence=read.licence,
            place=read.place,
            non_commercial=read.non_commercial,
        )
    return pools, removed


# -------------------------------------------------------------------------------------------------------------- tokens


def _in_tokens(
    study: Study,
    name: str,
    prepared: PreparedModel,
    targets: Mapping[str, TargetData],
    pools: Mapping[str, Pool],
) -> ModelBench:
    """All training rows in the model's ids; rows that are too long go where the study says."""
    renderer = renderer_for(prepared)
    training = study.training
    rows: dict[tuple[str, str], TokenRow] = {}
    removed: list[Removed] = []

    def fitting(source: str, examples: Sequence[Example], most: int | None = None) -> tuple[Example, ...]:
        kept = []
        for example in examples:
            row = renderer.row(example, max_tokens=training.max_tokens, too_long=training.too_long)
            if row is not None and (most is None or len(row.ids) <= most):
                rows[(source, example.key)] = row
                kept.append(example)
        if len(kept) < len(examples):
            why = f"longer than {min(training.max_tokens, most or training.max_tokens)} tokens"
            removed.append(Removed(pool=source, why=why, rows=len(examples) - len(kept)))
        return tuple(kept)

    fit_targets = {key: replace(target, train=fitting(key, target.train)) for key, target in targets.items()}
    fit_pools = {
        key: replace(pool, rows=fitting(key, pool.rows, study.generalist[key].max_tokens))
        for key, pool in pools.items()
    }
    return ModelBench(
        name=name,
        model=prepared,
        renderer=renderer,
        rows=rows,
        targets=fit_targets,
        pools=fit_pools,
        removed=tuple(removed),
    )


def file_hash(path: str) -> str:
    """A short hash of a local file's bytes; of a folder's names and bytes; the name itself for the hub."""
    from titrant.identity import hash_file

    place = Path(path)
    if place.is_file():
        return hash_file(place)[:16]
    if place.is_dir():
        return fingerprint([[str(file.relative_to(place)), hash_file(file)] for file in sorted(place.rglob("*.*"))])[
            :16
        ]
    return fingerprint(path)[:16]
