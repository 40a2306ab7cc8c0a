"""Everything a study reads, read once: models, targets, pools, eval sets; clean, and in token ids.

Rows are taken out of a pool before anything is drawn (test items found in it, rows that are too long), and counted, so
that a draw gets exactly what it asks for. A test item among the target's own training rows is an error.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from titrant import tasks
from titrant.backends.hf.models.prepare import prepare
from titrant.config.fields import Place
from titrant.config.study import Study, Target
from titrant.core.environment import current_numerics
from titrant.core.errors import DataError
from titrant.core.identity import fingerprint
from titrant.core.records import Example, Item, Numerics, PreparedModel, TokenRow
from titrant.data import contamination, readers
from titrant.data.knowledge import matched_rows
from titrant.data.knowledge.rows import fact_target
from titrant.data.pools.equal_terms import of_equal_lengths, of_same_prompts, with_prompts_also_in
from titrant.data.pools.large import tokens_by_key, wanted_of
from titrant.data.pools.read import PoolRows, read_pool
from titrant.experiment.knowledge_labels import labels_for
from titrant.sampling import draw_order
from titrant.scoring.sheets import GRADED
from titrant.tasks.targets import CollectionRows, TokensOf, asked_as, first_items, first_rows, read_collections
from titrant.tokens import Renderer, renderer_for

TARGET_SET, VALIDATION_SET = "target", "validation"
KEPT, LEARNED = "kept", "learned"
KEPT_SET, LEARNED_SET = "retention:kept", "retention:learned"


def transfer_set(target: str) -> str:
    """The eval set of another target's test items."""
    return f"transfer:{target}"


DEFAULT_BACKEND_IDENTITY = "hf"  # said here, since a design is named before anything that trains is imported


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """Rows that were taken out of a pool before the draw, and why."""

    pool: str
    why: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetData:
    """One target as read: `train` without the validation rows.

    `test` is what decides; items of `beside` are asked for a second score of the same questions (what was written,
    beside how probable the right answer was).
    """

    name: str
    train: tuple[Example, ...]
    validation: tuple[Item, ...]
    test: tuple[Item, ...]
    labels: tuple[str, ...]
    beside: tuple[Item, ...] = ()
    removed: tuple[Removed, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One source of generalist rows, clean: `rows` can be drawn, `read` counts those of the file.

    `place` is what was read; `non_commercial` is None where the licence is not known. `drawn_as`: another source, in
    whose order the pool is drawn, and by key its row of the same prompt.
    """

    source: str
    rows: tuple[Example, ...]
    read: int
    licence: str | None
    place: Place
    non_commercial: bool | None
    drawn_as: tuple[str, Mapping[str, str]] | None = None

    def order(self, seed: int) -> tuple[Example, ...]:
        """All rows in the order in which they are drawn at a seed."""
        if self.drawn_as is None:
            return draw_order(self.rows, seed=seed, source=self.source)
        source, keys = self.drawn_as
        return draw_order(self.rows, seed=seed, source=source, key=lambda row: keys[row.key])


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelData:
    """One model with its renderer, and rows in its token ids by (source, key)."""

    name: str
    model: PreparedModel
    renderer: Renderer
    rows: Mapping[tuple[str, str], TokenRow]
    targets: Mapping[str, TargetData]
    pools: Mapping[str, Pool]
    removed: tuple[Removed, ...]


@dataclass(frozen=True)
class PreparedStudy:
    """All that a study reads. Made by `prepare_study`; it holds no torch.

    `dose_seeds`: the seeds at which a dose in tokens must fit, where they are not the study's own.
    """

    study: Study
    models: Mapping[str, ModelData]
    retention: tuple[Item, ...]
    numerics: Numerics
    removed: tuple[Removed, ...]
    facts: Mapping[str, str]
    backend: str = DEFAULT_BACKEND_IDENTITY
    dose_seeds: tuple[int, ...] | None = None

    def items(self, model: str, targets: Sequence[str]) -> tuple[Item, ...]:
        """All items that a run on these targets answers, in a fixed order."""
        prepared = self.models[model]
        found: list[Item] = []
        for name in targets:
            found += (*prepared.targets[name].test, *prepared.targets[name].beside)
            if self.study.needs_choosing:
                found += prepared.targets[name].validation
        for name in self._others(targets):
            found += (replace(item, eval_set=transfer_set(name)) for item in prepared.targets[name].test)
        return (*found, *self.retention)

    def _others(self, targets: Sequence[str]) -> list[str]:
        """The targets whose items are asked of runs on `targets` for transfer. A run on none answers all targets'."""
        if not self.study.transfer or not targets:
            return []
        return [name for name in self.study.targets if name not in targets]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRows:
    """The rows of a study as its files hold them, pools not yet cleaned."""

    targets: Mapping[str, TargetData]
    retention: tuple[Item, ...]
    pools: Mapping[str, PoolRows]


def raw_rows(study: Study, *, tokens_of: TokensOf | None = None) -> RawRows:
    """Read every file of rows; every fault of theirs is raised here. `tokens_of`: see `read_collections`."""
    collected = read_collections(study, tokens_of=tokens_of)
    targets = {
        name: _of_collection(name, collected[name]) if name in collected else _read_target(name, target)
        for name, target in study.targets.items()
    }
    return RawRows(
        targets=targets,
        retention=_read_retention(study),
        pools={name: read_pool(study, name) for name in study.generalist},
    )


def numerics_of(study: Study) -> Numerics:
    """What the study's runs compute with on this machine."""
    return current_numerics(
        study.numerics.dtype,
        study.numerics.threads,
        study.numerics.device,  # type: ignore[arg-type]
    )


def prepare_study(
    study: Study, *, backend: str = DEFAULT_BACKEND_IDENTITY, say: Callable[[str], None] = lambda _: None
) -> PreparedStudy:
    """Read and check everything, before any training: every fault of the user's files is raised here.

    `backend` is the identity of what will train (`engines.BackendSpec.identity`): a part of every run's name.
    """
    numerics = numerics_of(study)
    prepared_model: dict[str, PreparedModel] = {}

    def model(name: str) -> PreparedModel:
        if name not in prepared_model:
            say(f"preparing the model {name}")
            prepared_model[name] = prepare(
                str(study.models[name]),
                base=study.folder,
                template=study.template,
                allow_pickle=study.allow_pickle,
                allow_remote_code=study.allow_remote_code,
            )
        return prepared_model[name]

    tokens_of = longest_in([renderer_for(model(name)) for name in study.models]) if _shows_examples(study) else None
    raw = raw_rows(study, tokens_of=tokens_of)
    targets, retention = raw.targets, raw.retention
    pools, removed = _clean_pools(study, raw)
    if study.transfer:
        _refuse_shared_items(targets)
    models = {name: _in_tokens(study, name, model(name), targets, pools) for name in study.models}
    reserve = 1
    while short := [name for name, read in raw.pools.items() if _is_short(study, name, read, models)]:
        reserve *= 8
        say(f"reading more of {', '.join(short)}: too many of the rows that were drawn had to be taken out")
        raw = replace(raw, pools={**raw.pools, **{name: read_pool(study, name, reserve=reserve) for name in short}})
        pools, removed = _clean_pools(study, raw)
        models = {name: _in_tokens(study, name, model(name), targets, pools) for name in study.models}
    removed += [entry for target in targets.values() for entry in target.removed]
    items = [item for target in targets.values() for item in target.test]
    facts = {"test_set": fingerprint(sorted([item.key, *item.references] for item in items))}
    return PreparedStudy(
        study=study,
        models=models,
        retention=retention,
        numerics=numerics,
        removed=tuple(removed),
        facts=facts,
        backend=backend,
    )


# ------------------------------------------------------------------------------------------------------------- targets


def _refuse_shared_items(targets: Mapping[str, TargetData]) -> None:
    """Where targets answer each other's items, no target may train on another's."""
    for target in targets.values():
        others = [item for other in targets.values() if other is not target for item in other.test]
        tasks.refuse_overlap(target.train, others)


def _shows_examples(study: Study) -> bool:
    """Whether prompts depend on how long they are for the study's models."""
    said = [target.collection for target in study.targets.values() if target.collection is not None]
    return any(collection.superni is not None and collection.positive_examples for collection in said)


def longest_in(renderers: Sequence[Renderer]) -> TokensOf:
    """How many tokens a text has at most, in any of the models."""
    return lambda text: max(len(renderer.tokenizer.encode(text)) for renderer in renderers)


def _of_collection(name: str, rows: CollectionRows) -> TargetData:
    tasks.refuse_overlap(rows.train, (*rows.test, *rows.validation))
    return TargetData(
        name=name,
        train=rows.train,
        validation=_apart(rows.validation),
        test=rows.test,
        labels=_only_labels(rows.test),
        beside=rows.beside,
        removed=tuple(Removed(pool=name, why=entry.why, rows=entry.rows) for entry in rows.left_out),
    )


def _only_labels(items: Sequence[Item]) -> tuple[str, ...]:
    """The choices of all items where they are the same for all."""
    offered = {item.choices or () for item in items}
    closed = len(offered) == 1 and all(item.answer == "choices" for item in items)
    return next(iter(offered)) if closed else ()


def _read_target(name: str, target: Target) -> TargetData:
    """The target's rows: test items never among the training rows, labels known, validation parted off."""
    if target.facts is not None:
        tokens = target.max_answer_tokens
        train, items = fact_target(target.facts, name=name, eval_set=TARGET_SET, max_answer_tokens=tokens)
        train, items = first_rows(train, target.train_rows), first_items(items, target.test_items)
        return TargetData(name=name, train=train, validation=(), test=items, labels=())
    path = target.train if target.train is not None else target.rows
    assert path is not None, "the study file has been checked"
    rows = _examples(path, target, source=name)
    labels = target.choices or (tasks.closed_labels(rows) if target.answer == "choices" and _labelled(rows) else ())
    if target.rows is not None:
        assert target.test_share is not None
        split = tasks.split_rows(rows, share=target.test_share, name="test")
        everything = _items(path, target, name=name, eval_set=TARGET_SET, labels=labels)
        test = tasks.items_of(split.held_out, examples=rows, items=everything)
        rows = split.train
    else:
        assert target.test is not None
        test = _items(target.test, target, name=name, eval_set=TARGET_SET, labels=labels)
    validation: tuple[Item, ...] = ()
    if isinstance(target.validation, float):
        part = tasks.split_rows(rows, share=target.validation, name="validation")
        everything = _items(path, target, name=name, eval_set=VALIDATION_SET, labels=labels)
        chosen = {row.row_id for row in part.held_out}
        validation = tuple(item for item in everything if item.row_id in chosen)
        rows = part.train
    elif target.validation is not None:
        validation = _items(target.validation, target, name=name, eval_set=VALIDATION_SET, labels=labels)
        tasks.refuse_overlap(rows, validation)
    tasks.refuse_overlap(rows, test)
    if labels and target.choices is None:
        tasks.refuse_unseen_labels(test, labels)
    if not labels:
        test = tasks.mark_answer_seen(test, (row.answer for row in rows))
    asked = asked_as(first_items(test, target.test_items), target)
    return TargetData(
        name=name,
        train=first_rows(rows, target.train_rows),
        validation=_apart(asked_as(validation, target).deciding),
        test=asked.deciding,
        labels=labels,
        beside=asked.beside,
    )


def _labelled(rows: Sequence[Example]) -> bool:
    return bool(rows) and rows[0].label is not None


def _apart(items: Sequence[Item], part: str = "validation") -> tuple[Item, ...]:
    """Items under keys of their own, so that content that stands in two eval sets is asked and scored in both."""
    return tuple(replace(item, key=f"{part}:{item.key}") for item in items)


def _examples(path: str, said: Target, *, source: str) -> tuple[Example, ...]:
    rows = readers.load_examples(
        path, source=source, task=source, columns=said.columns, instruction=said.instruction, shape=said.format
    )
    if not rows:
        raise DataError("the file holds no rows", where=path, expected="at least one row")
    return rows


def _items(path: str, target: Target, *, name: str, eval_set: str, labels: Sequence[str]) -> tuple[Item, ...]:
    assert target.answer != "by_task", "the study file has been checked"
    answer = "text" if target.answer == "loss" else target.answer
    items = readers.load_items(
        path,
        eval_set=eval_set,
        target=name,
        task=name,
        metric=_own_metric(target),
        answer=answer,
        max_answer_tokens=target.max_answer_tokens,
        choices=tuple(labels) or None,
        columns=target.columns,
        instruction=target.instruction,
        shape=target.format,
    )
    if not items:
        raise DataError("the file holds no rows", where=path, expected="at least one test item")
    return items


def _own_metric(target: Target) -> str:
    """How an answer is right or wrong; beside a graded score too."""
    if target.metric != GRADED:
        return target.metric
    return "accuracy" if target.answer == "choices" else "exact_match"


# ----------------------------------------------------------------------------------------------- eval sets and pools


def _read_retention(study: Study) -> tuple[Item, ...]:
    items: list[Item] = []
    if study.retention.kept is not None:
        kept = readers.load_items(
            study.retention.kept,
            eval_set=KEPT_SET,
            target=KEPT,
            task=KEPT,
            metric="accuracy",
            answer="choices",
            max_answer_tokens=32,
        )
        items += _apart(kept, KEPT)
    if study.retention.learned is not None:
        learned = readers.load_items(
            study.retention.learned,
            eval_set=LEARNED_SET,
            target=LEARNED,
            task=LEARNED,
            metric="token_probability",
            answer="loss",
            max_answer_tokens=32,
        )
        items += _apart(learned, LEARNED)
    return tuple(items)


def _clean_pools(study: Study, raw: RawRows) -> tuple[dict[str, Pool], list[Removed]]:
    """Every pool without the rows that hold a test or retention item."""
    items = [item for target in raw.targets.values() for item in (*target.test, *target.validation)]
    items += raw.retention
    settings = contamination.ContaminationSettings(run_words=study.contamination.ngram)
    instructions = [target.instruction for target in study.targets.values() if target.instruction]
    pools, removed = {}, []
    for name, read in raw.pools.items():
        rows = read.rows
        if read.left_out:
            removed.append(Removed(pool=name, why=f"cannot be used, the first: {read.first_fault}", rows=read.left_out))
        other = study.generalist[name].prompts_also_in
        if other is not None:
            rows = with_prompts_also_in(rows, other)
            gone = len(read.rows) - len(rows)
            removed.append(Removed(pool=name, why=f"its prompt is not in {other.written}", rows=gone))
        leaks = contamination.contaminated(rows, items, settings=settings, instructions=instructions)
        leaked = {leak.row_key for leak in leaks}
        clean = tuple(row for row in rows if row.key not in leaked)
        in_test = {leak.row_key for leak in leaks if leak.eval_set == TARGET_SET}
        for why, keys in (("holds a test item", in_test), ("holds another probe's item", leaked - in_test)):
            if keys:
                removed.append(Removed(pool=name, why=why + _of_large(read), rows=len(keys)))
        if not clean:
            raise DataError(
                "nothing is left of the pool once rows that hold test items are removed",
                where=f"generalist.{name}",
                got=f"{len(rows)} rows read, {len(leaked)} removed",
            )
        pools[name] = Pool(
            source=name,
            rows=clean,
            read=(len(read.rows) if read.large is None else read.large.rows_in_file) + read.left_out,
            licence=read.licence,
            place=read.place,
            non_commercial=read.non_commercial,
        )
    return pools, removed


def _of_large(read: PoolRows) -> str:
    """What was looked at of a pool that is not held whole."""
    held = read.large is not None and not read.large.whole
    return f", of the {len(read.rows):,} rows that a dose could draw" if held else ""


def _is_short(study: Study, name: str, read: PoolRows, models: Mapping[str, ModelData]) -> bool:
    """Whether a large pool's rows in memory, once cleaned, are fewer than a dose needs at some seed."""
    if read.large is None:
        return False
    wanted = wanted_of(study, name)
    return not all(
        read.large.suffices(
            wanted,
            left=frozenset(row.key for row in prepared.pools[name].rows),
            tokens_of=tokens_by_key(prepared.rows, name),
        )
        for prepared in models.values()
    )


# -------------------------------------------------------------------------------------------------------------- tokens


def _in_tokens(
    study: Study,
    name: str,
    prepared_model: PreparedModel,
    targets: Mapping[str, TargetData],
    pools: Mapping[str, Pool],
) -> ModelData:
    """All training rows in the model's ids; rows that are too long go where the study says."""
    renderer = renderer_for(prepared_model)
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
    pools = {key: _selected(study, pool, prepared_model, removed) for key, pool in pools.items()}
    fit_pools = {
        key: replace(pool, rows=fitting(key, pool.rows, study.generalist[key].max_tokens))
        for key, pool in pools.items()
    }
    for key, source in study.generalist.items():
        if source.lengths_as is not None:
            other = source.lengths_as
            cut = of_equal_lengths(fit_pools[key].rows, fit_pools[other].rows, rows)
            for pool, partner, left in ((key, other, cut[0]), (other, key, cut[1])):
                gone = len(fit_pools[pool].rows) - len(left)
                removed.append(Removed(pool=pool, why=f"answers of lengths that {partner} has not", rows=gone))
                fit_pools[pool] = replace(fit_pools[pool], rows=left)
    _pair(study, fit_pools, removed)
    return ModelData(
        name=name,
        model=prepared_model,
        renderer=renderer,
        rows=rows,
        targets=fit_targets,
        pools=fit_pools,
        removed=tuple(removed),
    )


def _pair(study: Study, pools: dict[str, Pool], removed: list[Removed]) -> None:
    """Sources that are to ask the same prompts as another: each keeps a row for every prompt that all of them have, and
    is drawn in the other's order."""
    named: dict[str, list[str]] = defaultdict(list)
    for name, source in study.generalist.items():
        if source.prompts_as is not None:
            named[source.prompts_as].append(name)
    for first, others in named.items():
        together = (first, *others)
        paired = of_same_prompts([pools[name].rows for name in together])
        if not paired[0]:
            raise DataError(
                f"no prompt is in all of {', '.join(together)} once rows that are too long or hold test items are gone",
                where=" and ".join(f"generalist.{name}.prompts_as" for name in others),
                got=", ".join(f"{len(pools[name].rows)} rows of {name}" for name in together),
                fix="leave prompts_as out, raise max_tokens, or name a source that asks the same",
            )
        for name, rows in zip(together, paired, strict=True):
            if len(rows) < len(pools[name].rows):
                partners = " and ".join(other for other in together if other != name)
                why = f"its prompt, cuts made, is not in {partners}, or a second time in {name}"
                removed.append(Removed(pool=name, why=why, rows=len(pools[name].rows) - len(rows)))
            pools[name] = replace(pools[name], rows=rows)
        for name in others:
            keys = {row.key: like.key for row, like in zip(pools[name].rows, pools[first].rows, strict=True)}
            pools[name] = replace(pools[name], drawn_as=(first, keys))


def _selected(study: Study, pool: Pool, prepared_model: PreparedModel, removed: list[Removed]) -> Pool:
    """The rows of a pool that the study selects by what the model knows; all of them otherwise."""
    said = study.generalist[pool.source]
    if said.select == "random":
        return pool
    assert said.labels is not None, "the study file has been checked"
    known, unknown = matched_rows(pool.rows, labels_for(study.folder / said.labels, prepared_model))
    rows = known if said.select == "known" else unknown
    if not rows:
        raise DataError(
            f"the labels leave no {said.select} row of the pool",
            where=f"generalist.{pool.source}",
            got=f"{len(pool.rows)} rows",
            expected="known and unknown facts of the same relations and answer frequencies",
        )
    why = f"not among as many known and unknown facts of like relation and answer frequency ({said.select} taken)"
    removed.append(Removed(pool=pool.source, why=why, rows=len(pool.rows) - len(rows)))
    return replace(pool, rows=rows)


def file_hash(path: str) -> str:
    """A short hash of a local file's bytes; of a folder's names and bytes; the name itself for the hub."""
    from titrant.core.identity import hash_file

    place = Path(path)
    if place.is_file():
        return hash_file(place)[:16]
    if place.is_dir():
        return fingerprint([[str(file.relative_to(place)), hash_file(file)] for file in sorted(place.rglob("*.*"))])[
            :16
        ]
    return fingerprint(path)[:16]
