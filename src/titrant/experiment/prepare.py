"""Everything a study reads, read once: models, targets, pools, eval sets; clean, and in token ids.

Rows are taken out of a pool before anything is drawn (test items found in it, rows that are too long), and counted, so
that a draw gets exactly what it asks for. A test item among the target's own training rows is an error.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from titrant import tasks
from titrant.backends.hf.models.prepare import prepare
from titrant.config.fields import Place
from titrant.config.study import Study
from titrant.config.target import Collection as TaskCollection
from titrant.config.target import Target
from titrant.core.environment import current_numerics
from titrant.core.errors import DataError, TemplateRefusal
from titrant.core.identity import fingerprint, hash_file
from titrant.core.records import Example, Item, Numerics, PreparedModel, TokenRow
from titrant.data import readers
from titrant.data.readers import FileNote, ReadingNotes
from titrant.experiment.collections import (
    CollectionRows,
    TokensOf,
    asked_as,
    collection_files,
    first_items,
    first_rows,
    read_collections,
)
from titrant.experiment.fact_rows import fact_target
from titrant.experiment.pools.cuts import ModelPools, Pool, Removed, Scan, held_pools, must_measure, scan_pool
from titrant.experiment.pools.read import PoolRows, read_pool
from titrant.experiment.template_notes import (
    TemplateFaults,
    control_token_notes,
    generation_prompt_notes,
    merged_system_note,
)
from titrant.experiment.trials import refuse_failed, target_remarks, target_trials
from titrant.scoring.sheets import GRADED
from titrant.scoring.temperature import FEWEST_TO_FIT
from titrant.tokens import Renderer, renderer_for

TARGET_SET, VALIDATION_SET = "target", "validation"
KEPT, LEARNED = "kept", "learned"
KEPT_SET, LEARNED_SET = "retention:kept", "retention:learned"


def transfer_set(target: str) -> str:
    """The eval set of another target's test items."""
    return f"transfer:{target}"


DEFAULT_BACKEND_IDENTITY = "hf"  # said here, since a design is named before anything that trains is imported


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
class ModelData:
    """One model with its renderer, and rows in its token ids by (source, key). `notes` say what its template and
    tokenizer make of the rows where it is not what their files say."""

    name: str
    model: PreparedModel
    renderer: Renderer
    rows: Mapping[tuple[str, str], TokenRow]
    targets: Mapping[str, TargetData]
    pools: Mapping[str, Pool]
    removed: tuple[Removed, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PreparedStudy:
    """All that a study reads. Made by `prepare_study`; it holds no torch.

    `not_read`: columns and rows of the files that are in none of this. `dose_seeds`: the seeds at which a dose in
    tokens must fit, where they are not the study's own. `remarks`: what the user should know of the targets' rows.
    """

    study: Study
    models: Mapping[str, ModelData]
    retention: tuple[Item, ...]
    numerics: Numerics
    removed: tuple[Removed, ...]
    facts: Mapping[str, str]
    backend: str = DEFAULT_BACKEND_IDENTITY
    not_read: tuple[FileNote, ...] = ()
    dose_seeds: tuple[int, ...] | None = None
    remarks: tuple[str, ...] = ()

    def items(self, model: str, targets: Sequence[str]) -> tuple[Item, ...]:
        """All items that a run on these targets answers, in a fixed order."""
        prepared = self.models[model]
        found: list[Item] = []
        for name in targets:
            found += (*prepared.targets[name].test, *prepared.targets[name].beside)
            found += self._asked_validation(name, prepared.targets[name].validation)
        for name in self._others(targets):
            found += (replace(item, eval_set=transfer_set(name)) for item in prepared.targets[name].test)
        return (*found, *self.retention)

    def _asked_validation(self, target: str, items: Sequence[Item]) -> Sequence[Item]:
        """Validation items that every run answers: all where settings are to be chosen; else those with choices where
        the target is graded, to tell a gain in probability from one in confidence alone."""
        if self.study.needs_choosing:
            return items
        chosen = [item for item in items if item.answer == "choices"]
        is_of_use = self.study.targets[target].metric == GRADED and len(chosen) >= FEWEST_TO_FIT
        return chosen if is_of_use else ()

    def _others(self, targets: Sequence[str]) -> list[str]:
        """The targets whose items are asked of runs on `targets` for transfer. A run on none answers all targets'."""
        if not self.study.transfer or not targets:
            return []
        return [name for name in self.study.targets if name not in targets]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRows:
    """The rows of a study as its files hold them, pools not yet cleaned, and what of the files is in no row.

    `notes` grow while pools that stay in their files are streamed. `written`: places as the study wrote them.
    """

    targets: Mapping[str, TargetData]
    retention: tuple[Item, ...]
    pools: Mapping[str, PoolRows]
    notes: ReadingNotes
    written: Mapping[str, str]

    @property
    def not_read(self) -> tuple[FileNote, ...]:
        """What of the files that were read so far is in no row."""
        return tuple(replace(note, place=self.written.get(note.place, note.place)) for note in self.notes.notes())


def raw_rows(study: Study, *, tokens_of: TokensOf | None = None) -> RawRows:
    """Read every file of rows; every fault of theirs is raised here. `tokens_of`: see `read_collections`."""
    notes = readers.ReadingNotes()
    collected = read_collections(study, tokens_of=tokens_of, notes=notes)
    targets = {
        name: _of_collection(name, collected[name]) if name in collected else _read_target(name, target, notes)
        for name, target in study.targets.items()
    }
    retention = _read_retention(study, notes)
    pools = {name: read_pool(study, name, notes=notes) for name in study.generalist}
    return RawRows(targets=targets, retention=retention, pools=pools, notes=notes, written=_as_written(study))


def _as_written(study: Study) -> dict[str, str]:
    """The places of a study's files as the study wrote them: a published report names no folder of a machine."""
    places = [
        *(
            each
            for target in study.targets.values()
            for each in (target.train, target.rows, target.test, target.validation)
        ),
        *(each for source in study.generalist.values() for each in (source.rows, source.text)),
        study.retention.kept,
        study.retention.learned,
    ]
    return {str(place): place.written for place in places if isinstance(place, Place)}


def own_rows_as_pools(
    targets: Mapping[str, TargetData], pools: Mapping[str, Sequence[Example]], study: Study
) -> list[str]:
    """What to say of pools that are most of a target's own training rows: a dose of those is more target, not general
    data. One line each; `pools` are the rows that a dose can draw."""
    told = []
    for name, target in targets.items():
        own = {row.turns for row in target.train}
        for pool, rows in pools.items():
            shared = sum(row.turns in own for row in rows)
            if 2 * shared > len(rows):
                place = study.generalist[pool].rows
                told.append(
                    f"{shared} of {len(rows)} rows of the pool {pool}{f' ({place.written})' if place else ''} are "
                    f"training rows of {name}: a dose of them only repeats the target"
                )
    return told


def unread_files(study: Study) -> list[str]:
    """What to say of folders that hold files of no split, which are not read. One line a folder."""
    places = [place for target in study.targets.values() for place in (target.train, target.test, target.rows)]
    places += [place for source in study.generalist.values() for place in (source.rows, source.text)]
    said = []
    for place in dict.fromkeys(place for place in places if place is not None):
        if names := readers.unread_files(place):
            shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
            count = "1 file belongs" if len(names) == 1 else f"{len(names)} files belong"
            said.append(f"{place.written}: {count} to no split and will not be read: {shown}")
    return said


def numerics_of(study: Study) -> Numerics:
    """What the study's runs compute with on this machine."""
    return current_numerics(study.numerics.dtype, study.numerics.threads, study.numerics.device)


def prepare_study(
    study: Study,
    *,
    backend: str = DEFAULT_BACKEND_IDENTITY,
    say: Callable[[str], None] = lambda _: None,
    answers_kept: bool = False,
) -> PreparedStudy:
    """Read and check everything, before any training: every fault of the user's files is raised here.

    `backend` is the identity of what will train (`engines.BackendSpec.identity`): a part of every run's name.
    `answers_kept`: the study has been run, so that another metric needs no training.
    """
    # Prepared at the first use: a fault in a file of rows is then told before a model of gigabytes is fetched. Only
    # collections that show examples need token counts this early.
    model = functools.cache(functools.partial(_prepared_model, study, say))
    tokens_of = longest_in([renderer_for(model(name)) for name in study.models]) if _shows_examples(study) else None
    raw = raw_rows(study, tokens_of=tokens_of)
    for line in unread_files(study):
        say(line)
    targets, retention = raw.targets, raw.retention
    for name, target in targets.items():
        refuse_failed(target_trials(name, target.test, study=study), study=study, answers_kept=answers_kept)
    remarks = [line for name in targets for line in remarks_on(study, targets[name])]
    for line in remarks:
        say(line)
    if study.transfer:
        _refuse_shared_items(targets)
    made = {
        name: (model(name), renderer_for(model(name), merge_system=study.refused_turns == "merge"))
        for name in study.models
    }
    models, removed = _data_of_models(study, raw, made, say)
    # A remark for the user, so the first model's pools stand for all: models differ little in which rows are left.
    drawn = {name: pool.rows for name, pool in next(iter(models.values())).pools.items()}
    for line in own_rows_as_pools(targets, drawn, study):
        say(line)
    for note in dict.fromkeys(note for each in models.values() for note in each.notes):
        say(note)
    removed += [entry for target in targets.values() for entry in target.removed]
    items = [item for target in targets.values() for item in target.test]
    # Sorted, so that a test file in another order is the same test set; references are in it, as a corrected one is
    # another.
    facts = {"test_set": fingerprint(sorted([item.key, *item.references] for item in items))}
    return PreparedStudy(
        study=study,
        models=models,
        retention=retention,
        numerics=numerics_of(study),
        removed=tuple(removed),
        facts=facts,
        backend=backend,
        remarks=tuple(remarks),
        not_read=raw.not_read,
    )


def _prepared_model(study: Study, say: Callable[[str], None], name: str) -> PreparedModel:
    say(f"preparing the model {name}")
    return prepare(
        str(study.models[name]),
        base=study.folder,
        template=study.template,
        allow_pickle=study.allow_pickle,
        allow_remote_code=study.allow_remote_code,
    )


def _data_of_models(
    study: Study, raw: RawRows, made: Mapping[str, tuple[PreparedModel, Renderer]], say: Callable[[str], None]
) -> tuple[dict[str, ModelData], list[Removed]]:
    """Every model's rows in its own tokens, and the pools' rows that none of them may draw, with the reason."""
    fitting = {name: _fitting_targets(study, name, renderer, raw.targets) for name, (_, renderer) in made.items()}
    pools, removed = _pools_in_tokens(study, raw, made, say)
    models = {
        name: ModelData(
            name=name,
            model=model,
            renderer=renderer,
            rows={**fitting[name].rows, **pools[name].rows},
            targets=fitting[name].targets,
            pools=pools[name].pools,
            removed=(*fitting[name].removed, *pools[name].removed),
            notes=(
                *_template_notes(study, name, renderer, raw.targets, pools[name]),
                *fitting[name].notes,
                *pools[name].notes,
            ),
        )
        for name, (model, renderer) in made.items()
    }
    return models, removed


def remarks_on(study: Study, target: TargetData) -> list[str]:
    """What is to be said of a target before anything is trained: labels that look alike, answers without a score."""
    return target_remarks(
        target.name,
        train=target.train,
        items=(*target.test, *target.beside),
        labels=target.labels if any(item.answer == "choices" for item in target.test) else (),
        study=study,
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


def _read_target(name: str, target: Target, notes: ReadingNotes) -> TargetData:
    """The target's rows: test items never among the training rows, labels known, validation parted off."""
    if target.facts is not None:
        tokens = target.max_answer_tokens
        train, items = fact_target(target.facts, name=name, eval_set=TARGET_SET, max_answer_tokens=tokens)
        train, items = first_rows(train, target.train_rows), first_items(items, target.test_items)
        return TargetData(name=name, train=train, validation=(), test=items, labels=())
    path = target.train if target.train is not None else target.rows
    assert path is not None, "the study file has been checked"
    in_file, spellings = _examples(path, target, source=name, notes=notes), target.merged_spellings
    # Spellings are merged before labels are gathered, or one label in two spellings would be two choices.
    rows = tasks.merged_examples(in_file, spellings)
    labels = tasks.merged_texts(target.choices or (), spellings) or (
        tasks.closed_labels(rows) if target.answer == "choices" and _labelled(rows) else ()
    )
    if target.rows is not None:
        assert target.test_share is not None
        split = tasks.split_rows(rows, share=target.test_share, name="test")
        everything = _items(path, target, name=name, eval_set=TARGET_SET, labels=labels, notes=notes)
        test = tasks.items_of(split.held_out, examples=rows, items=everything)
        rows = split.train
    else:
        assert target.test is not None
        test = _items(target.test, target, name=name, eval_set=TARGET_SET, labels=labels, notes=notes)
    validation: tuple[Item, ...] = ()
    if isinstance(target.validation, float):
        part = tasks.split_rows(rows, share=target.validation, name="validation")
        everything = _items(path, target, name=name, eval_set=VALIDATION_SET, labels=labels, notes=notes)
        # Items are read from the file a second time, as items; which of them are held out is told by the rows they came
        # from.
        chosen = {row.row_id for row in part.held_out}
        validation = tuple(item for item in everything if item.row_id in chosen)
        rows = part.train
    elif target.validation is not None:
        validation = _items(target.validation, target, name=name, eval_set=VALIDATION_SET, labels=labels, notes=notes)
        tasks.refuse_overlap(rows, validation)
    tasks.refuse_overlap(rows, test)
    tasks.refuse_unused_spellings(spellings, in_file, (*test, *validation))
    test, validation = tasks.merged_items(test, spellings), tasks.merged_items(validation, spellings)
    if labels and target.choices is None:
        tasks.refuse_unseen_labels(test, labels)
    # Where answers come from a closed set, every answer has been seen in training: the mark would be on all items.
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


def _examples(path: str, said: Target, *, source: str, notes: ReadingNotes) -> tuple[Example, ...]:
    rows = readers.load_examples(
        path,
        source=source,
        task=source,
        columns=said.columns,
        instruction=said.instruction,
        shape=said.format,
        notes=notes,
    )
    if not rows:
        raise DataError("the file holds no rows", where=path, expected="at least one row")
    return rows


def _items(
    path: str, target: Target, *, name: str, eval_set: str, labels: Sequence[str], notes: ReadingNotes
) -> tuple[Item, ...]:
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
        choices=tuple(dict.fromkeys((*labels, *target.merged_spellings))) if labels else None,
        columns=target.columns,
        instruction=target.instruction,
        notes=notes,
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


def _read_retention(study: Study, notes: ReadingNotes) -> tuple[Item, ...]:
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
            notes=notes,
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
            notes=notes,
        )
        items += _apart(learned, LEARNED)
    return tuple(items)


def probe_items(raw: RawRows) -> list[Item]:
    """All items that no pool may hold: test, validation and retention items."""
    items = [item for target in raw.targets.values() for item in (*target.test, *target.validation)]
    return [*items, *raw.retention]


def scanned_pools(study: Study, raw: RawRows) -> dict[str, Scan]:
    """Every pool read once for what is in it; no test items are sought and nothing is measured."""
    return {
        name: scan_pool(study, name, pool, items=(), test_set=TARGET_SET, renderers={})
        for name, pool in raw.pools.items()
    }


# -------------------------------------------------------------------------------------------------------------- tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class _FittingTargets:
    """The targets' training rows that fit a model, in its ids by (target, key)."""

    targets: Mapping[str, TargetData]
    rows: Mapping[tuple[str, str], TokenRow]
    removed: tuple[Removed, ...]
    notes: tuple[str, ...]


def _fitting_targets(
    study: Study, model: str, renderer: Renderer, targets: Mapping[str, TargetData]
) -> _FittingTargets:
    """The targets' training rows in a model's ids; rows that are too long, or that its template refuses, go where the
    study says."""
    training = study.training
    rows: dict[tuple[str, str], TokenRow] = {}
    removed: list[Removed] = []
    notes: list[str] = []
    fitting = {}
    for name, target in targets.items():
        kept, faults, total = [], TemplateFaults(), len(target.train)
        for example in target.train:
            try:
                row = renderer.row(
                    example, max_tokens=training.max_tokens, too_long=training.too_long, on_conflict=faults.conflict
                )
            except TemplateRefusal as error:
                faults.refuse(error)
                continue
            if row is not None:
                rows[(name, example.key)] = row
                kept.append(example)
        why = faults.taken_out(name, of=total, drop=study.refused_turns == "drop")
        if why is not None:
            removed.append(Removed(pool=name, why=why, rows=faults.refused))
        too_long = total - len(kept) - faults.refused
        if too_long:
            removed.append(Removed(pool=name, why=f"longer than {training.max_tokens} tokens", rows=too_long))
        notes += faults.notes(model, name, total)
        fitting[name] = replace(target, train=tuple(kept))
    return _FittingTargets(targets=fitting, rows=rows, removed=tuple(removed), notes=tuple(notes))


def _template_notes(
    study: Study, model: str, renderer: Renderer, targets: Mapping[str, TargetData], pools: ModelPools
) -> tuple[str, ...]:
    """What the model's template and tokenizer make of the rows where it is not what their files say."""
    texts = texts_of(targets, {name: pool.rows for name, pool in pools.pools.items()})
    return (
        *merged_system_note(model, renderer, texts),
        *generation_prompt_notes(model, renderer, texts),
        *control_token_notes(model, renderer.control_tokens_in, texts, control_tokens=study.control_tokens),
    )


def _pools_in_tokens(
    study: Study,
    raw: RawRows,
    models: Mapping[str, tuple[PreparedModel, Renderer]],
    say: Callable[[str], None],
) -> tuple[dict[str, ModelPools], list[Removed]]:
    """Every pool, all cuts made, for every model; and what was taken out for all models alike."""
    items = probe_items(raw)
    renderers = {name: renderer for name, (_, renderer) in models.items()}

    def scan(name: str, *, measured: bool) -> Scan:
        pool = raw.pools[name]
        used = renderers if measured and not pool.file.in_memory else {}
        return scan_pool(study, name, pool, items=items, test_set=TARGET_SET, renderers=used)

    scans = {name: scan(name, measured=must_measure(study, name)) for name in raw.pools}
    # First without measuring every row of a large file; only pools whose drawn rows were too often too long are read
    # again and measured.
    found = held_pools(study, scans, models)
    short = list(dict.fromkeys(name for pools in found.values() for name in pools.short))
    if short:
        say(f"reading {', '.join(short)} again: too many of the rows that were drawn are too long")
        found = held_pools(study, {**scans, **{name: scan(name, measured=True) for name in short}}, models)
    return found, [entry for each in scans.values() for entry in each.removed]


def texts_of(
    targets: Mapping[str, TargetData], pools: Mapping[str, Sequence[Example]]
) -> dict[str, Sequence[Example | Item]]:
    """All rows and items of a study by what they are called in messages."""
    found: dict[str, Sequence[Example | Item]] = {}
    for name, target in targets.items():
        found[name] = target.train
        found[f"{name}'s test items"] = (*target.test, *target.validation)
    return {**found, **pools}


def file_hash(place: str) -> str:
    """A short hash of what a place's rows were read from: a file's bytes; of a folder the names and bytes of the files
    that are read; of a hub dataset the commit, which stands for both."""
    if place.startswith(readers.HUB_PREFIX):
        return fingerprint([place, readers.commit_read(place)])[:16]
    if Path(place).is_file():
        return hash_file(Path(place))[:16]
    return hash_of_files(readers.row_files(place))


def collection_hash(collection: TaskCollection, place: Place) -> str:
    """`file_hash` of a place of `collection_places`: of a folder of tasks, of all its task files."""
    files = collection_files(collection, place)
    return file_hash(str(place)) if files is None else hash_of_files(files)


def hash_of_files(files: Sequence[readers.RowFile]) -> str:
    """A short hash of files' names, without the folders above them all, their bytes, and the names that their dataset
    has for its classes."""
    # Without the folders above them: the same files elsewhere have the same hash.
    root = os.path.commonpath([file.path.parent for file in files])
    named = [[sorted(file.class_names.items())] if file.class_names else [] for file in files]
    return fingerprint(
        [
            [file.path.relative_to(root).as_posix(), hash_file(file.path), *names]
            for file, names in zip(files, named, strict=True)
        ]
    )[:16]
