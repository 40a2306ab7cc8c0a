"""Targets that are collections of tasks: a rung of P3 or Super-NaturalInstructions, or a public skill set.

All targets of one study on the same collection stand on one ladder: it is read once, split once by underlying text,
and has one common set of test items, of which each target is asked those on its rung. So models trained on
many tasks and on few are compared on the same items, and no model has seen a test text in any template.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from titrant import tasks
from titrant.config.fields import Place
from titrant.config.study import Study
from titrant.config.target import Collection, RungSpec, Target
from titrant.core.errors import DataError
from titrant.core.identity import fingerprint, hash_text
from titrant.core.plugins import Extension
from titrant.core.records import Example, Item, RawRow
from titrant.data import readers
from titrant.data.readers import ReadingNotes
from titrant.scoring.sheets import GRADED
from titrant.tasks import Rung, RungRule, TaskInstance
from titrant.tasks.sets import load_task_set

TokensOf = Callable[[str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Rows of a collection that are neither trained on nor asked, and why."""

    why: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionRows:
    """What one target gets of its collection. `beside` are items that are asked for their second score."""

    train: tuple[Example, ...]
    validation: tuple[Item, ...]
    test: tuple[Item, ...]
    beside: tuple[Item, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedAs:
    """Items as they decide, and those that are asked for a second score beside it."""

    deciding: tuple[Item, ...]
    beside: tuple[Item, ...]


def read_collections(
    study: Study, *, tokens_of: TokensOf | None = None, notes: ReadingNotes | None = None
) -> dict[str, CollectionRows]:
    """The rows of every target that is a collection, by name; a collection that several share is read once.

    `tokens_of` is how long a prompt is for the study's models (the longest); without it every example is shown. What
    was not read of rows of the user's own goes to `notes`.
    """
    ladders: dict[str, dict[str, Target]] = {}
    for name, target in study.targets.items():
        if target.collection is not None:
            ladders.setdefault(_ladder_of(target), {})[name] = target
    found: dict[str, CollectionRows] = {}
    for members in ladders.values():
        found |= _read_ladder(members, tokens_of=tokens_of, notes=notes)
    return {name: found[name] for name in study.targets if name in found}


def asked_as(items: Sequence[Item], target: Target) -> AskedAs:
    """The items as the study asks them: answered and judged as it says, where it does not leave that to each task.

    `metric: graded` asks what would be written for the probability of its right answer too: that decides, and the
    written answer stands beside it. With `answer: loss` nothing is written; choices are chosen from all the same.
    """
    deciding: list[Item] = []
    beside: list[Item] = []
    for item in items:
        own = item if target.metric in ("by_task", GRADED) else replace(item, metric=target.metric)
        if target.answer == "choices" and own.choices is None:
            raise DataError(
                "this task has no choices to choose from", where=str(own.origin or own.row_id), fix="answer: by_task"
            )
        if target.answer == "text" and own.answer == "choices":
            own = replace(own, answer="text", key=f"text:{own.key}")
        if target.metric == GRADED and own.answer == "text":
            deciding.append(replace(own, answer="loss", metric=GRADED, key=f"loss:{own.key}"))
            if target.answer != "loss":
                beside.append(own)
        else:
            deciding.append(own)
    return AskedAs(deciding=tuple(deciding), beside=tuple(beside))


def first_items(items: Sequence[Item], count: int | None) -> tuple[Item, ...]:
    """At most `count` items, smallest content hash first, in their own order."""
    if count is None or len(items) <= count:
        return tuple(items)
    kept = {item.key for item in sorted(items, key=lambda item: hash_text(f"items\n{item.key}"))[:count]}
    return tuple(item for item in items if item.key in kept)


def first_rows(rows: Sequence[Example], count: int | None) -> tuple[Example, ...]:
    """At most `count` rows, smallest content hash first, in their own order."""
    if count is None or len(rows) <= count:
        return tuple(rows)
    kept = {row.key for row in sorted(rows, key=lambda row: hash_text(f"rows\n{row.key}"))[:count]}
    return tuple(row for row in rows if row.key in kept)


def collection_places(collection: Collection) -> list[Place]:
    """What is read of a collection: its file or folder of tasks, then the split lists."""
    place = Path(str(collection.place))
    inner = place
    if collection.skill is not None:
        inner = _skill_file(place, collection.skill)
    elif (place / "tasks").is_dir():
        inner = place / "tasks"
    written = collection.place.written
    if inner != place:
        written = f"{written.rstrip('/')}/{inner.relative_to(place)}"
    lists = (collection.train_tasks, collection.test_tasks)
    return [Place(str(inner), written=written), *(place for place in lists if place is not None)]


def collection_files(collection: Collection, place: Place) -> tuple[readers.RowFile, ...] | None:
    """The files that a place of `collection_places` is read from, where that is a folder of tasks; else None."""
    folder = Path(str(place))
    return _task_files(folder) if collection.superni is not None and folder.is_dir() else None


# ------------------------------------------------------------------------------------------------------------- ladders


def _ladder_of(target: Target) -> str:
    """Equal for targets that stand on one ladder: all but the rung is the same."""
    assert target.collection is not None
    said = target.collection.model_dump(mode="json", exclude={"rung"})
    return fingerprint([said, str(target.collection.place), target.columns, target.instruction])


def _read_ladder(
    members: Mapping[str, Target], *, tokens_of: TokensOf | None, notes: ReadingNotes | None
) -> dict[str, CollectionRows]:
    collection = next(iter(members.values())).collection
    assert collection is not None
    if collection.skill is not None:
        return {name: _read_skill(name, target) for name, target in members.items()}
    read = _Reading(collection, members, tokens_of, notes)
    # Items for all targets of the ladder at once: chosen one by one, a broad and a narrow target would not share
    # theirs.
    test = tasks.common_items(read.held_out, read.wanted_items)
    read.leave_out("on a test text, beyond the number of test items", read.held_out)
    read.leave_out("on a test text, beyond the number of test items", test, sign=-1)
    marks = tasks.marks_of(read.marking)
    found = {}
    for name, target in members.items():
        rung = set(read.rungs[name].tasks)
        mine = [instance for instance in read.train if instance.task in rung]
        validation: tuple[TaskInstance, ...] = ()
        if isinstance(target.validation, float):
            split = tasks.split_by_text(mine, share=target.validation, name="validation")
            mine, validation = list(split.train), split.held_out
            validation = tasks.common_items(validation, {read.rungs[name]: target.test_items})
        if not mine:
            raise DataError("no training row is left on this rung", where=str(collection.place), got=f"target {name}")
        found[name] = _rows_of(
            name,
            target,
            train=tasks.as_examples(mine, source=name),
            test=_items(test, name=name, target=target, eval_set="target", marks=marks, rung=rung),
            validation=_items(validation, name=name, target=target, eval_set="validation", marks=marks, rung=rung),
            left_out=read.left_out_of(read.rungs[name]),
        )
    return found


def _rows_of(
    name: str,
    target: Target,
    *,
    train: tuple[Example, ...],
    test: tuple[Item, ...],
    validation: tuple[Item, ...],
    left_out: Sequence[LeftOut],
) -> CollectionRows:
    """Marked, asked as the study says, and no more rows than it wants."""
    kept = first_rows(train, target.train_rows)
    # Against all training rows and not those kept: a target size must not change which items are marked.
    marked = tasks.mark_answer_seen(test, (row.answer for row in train))
    asked = asked_as(marked, target)
    dropped = [LeftOut(why="beyond train_rows", rows=len(train) - len(kept))] if len(kept) < len(train) else []
    return CollectionRows(
        train=kept,
        validation=asked_as(validation, target).deciding,
        test=asked.deciding,
        beside=asked.beside,
        left_out=(*left_out, *dropped),
    )


def _items(
    instances: Sequence[TaskInstance],
    *,
    name: str,
    target: Target,
    eval_set: str,
    marks: Mapping[str, tuple[str, ...]],
    rung: set[str],
) -> tuple[Item, ...]:
    """The common items that lie on a rung. Keys are counted over all of them, so they are the same on every rung."""
    items = tasks.as_items(
        instances, eval_set=eval_set, target=name, max_answer_tokens=target.max_answer_tokens, rungs=marks
    )
    return tuple(item for item in items if item.task in rung)


class _Reading:
    """A ladder as read: its instances in two parts, and the rungs of its targets."""

    def __init__(
        self,
        collection: Collection,
        members: Mapping[str, Target],
        tokens_of: TokensOf | None,
        notes: ReadingNotes | None,
    ) -> None:
        self.collection, self.members, self.tokens_of = collection, members, tokens_of
        self.rungs: dict[str, Rung] = {}
        self.marking: tuple[Rung, ...] = ()
        self._left_out: Counter[tuple[str, str]] = Counter()
        if collection.p3 is not None:
            found = tasks.read_p3(
                readers.read_rows(collection.p3), wanted=self._tasks_of, rows_per_task=collection.rows_per_task
            )
            self._left_out.update({(left.reason, left.template): left.rows for left in found.left_out})
            self._split(found.instances)
        elif collection.own is not None:
            self._split_needed(_own_instances(next(iter(members.values())), notes))
        elif collection.train_tasks is not None:
            self._read_lists()
        else:
            self._split_needed(self._superni(_task_rows(Path(str(collection.place)), None)))

    @cached_property
    def rules(self) -> Mapping[str, RungRule]:
        """The ladder that every such collection has."""
        rules = tasks.P3_RUNGS if self.collection.p3 is not None else tasks.SUPERNI_RUNGS
        return {rule.name: rule for rule in rules}

    @property
    def wanted_items(self) -> dict[Rung, int | None]:
        """How many test items each rung asks for; the larger number where two targets share a rung."""
        wanted: dict[Rung, int | None] = {}
        for name, rung in self.rungs.items():
            count = self.members[name].test_items
            before = wanted.get(rung, 0)
            wanted[rung] = None if count is None or before is None else max(count, before)
        return wanted

    def leave_out(self, why: str, instances: Iterable[TaskInstance], *, sign: int = 1) -> None:
        """Count instances that are in neither part."""
        for instance in instances:
            self._left_out[(why, instance.task)] += sign

    def left_out_of(self, rung: Rung) -> list[LeftOut]:
        """What was left out of the tasks of a rung; of all tasks for the rung of all."""
        tasks_of_rung = set(rung.tasks)
        return _counted(
            (why, rows)
            for (why, task), rows in self._left_out.items()
            if task in tasks_of_rung or rung.name == tasks.P3_RUNGS[0].name
        )

    def _tasks_of(self, instances: Sequence[TaskInstance]) -> frozenset[str]:
        """The tasks that are needed; finds the rungs on the way."""
        return self._find_rungs(instances, ())

    def _find_rungs(self, train: Sequence[TaskInstance], test: Sequence[TaskInstance]) -> frozenset[str]:
        """The rungs of all targets, and the collection's own for the marks. Random sets are of training tasks; tasks
        of a test list are on a rung where they meet its rules."""
        for name, target in self.members.items():
            assert target.collection is not None
            self.rungs[name] = _rung(name, target.collection.rung, self.rules, train, test)
        everything = [*train, *test]
        tasks_by_rule = {
            rule: {instance.task for instance in everything if rule.holds(instance)} for rule in self.rules.values()
        }
        own = [Rung(name=rule.name, tasks=tuple(sorted(found))) for rule, found in tasks_by_rule.items()]
        self.marking = tuple(dict.fromkeys([*own, *self.rungs.values()]))
        return frozenset(task for rung in self.rungs.values() for task in rung.tasks)

    def _split_needed(self, instances: Sequence[TaskInstance]) -> None:
        needed = self._tasks_of(instances)
        self._split([instance for instance in instances if instance.task in needed])

    def _split(self, instances: Sequence[TaskInstance]) -> None:
        self._part(tasks.split_by_text(instances, share=self.collection.test_share))

    def _part(self, split: tasks.TextSplit) -> None:
        self.train, self.held_out = split.train, split.held_out
        self.leave_out("asks what a test item asks", split.overlapping)

    def _read_lists(self) -> None:
        """The split lists' own tasks: nothing of a test task is trained on."""
        said = self.collection
        assert said.train_tasks is not None
        assert said.test_tasks is not None
        lists = [tasks.read_split_list(Path(str(place))) for place in (said.train_tasks, said.test_tasks)]
        both = sorted(set(lists[0]) & set(lists[1]))
        if both:
            raise DataError("tasks stand in both split lists", where=str(said.test_tasks), got=", ".join(both[:5]))
        place = Path(str(said.place))
        train = self._superni(_task_rows(place, lists[0]), only=lists[0])
        test = self._superni(_task_rows(place, lists[1]), only=lists[1], limit=tasks.TEST_INSTANCES)
        needed = self._find_rungs(train, test)
        mine, asked = ([each for each in part if each.task in needed] for part in (train, test))
        self._part(tasks.apart(mine, tuple(asked)))

    def _superni(
        self, rows: Iterator[RawRow], *, only: Sequence[str] | None = None, limit: int | None = None
    ) -> tuple[TaskInstance, ...]:
        said, tokens_of = self.collection, self.tokens_of
        return tasks.read_superni(
            rows,
            tasks=only,
            positive_examples=said.positive_examples,
            fits=None if tokens_of is None else lambda text: tokens_of(text) <= said.source_tokens,
            limit=limit,
            rows_per_task=said.rows_per_task if limit is None else None,
        )


def _rung(
    name: str,
    spec: RungSpec,
    rules: Mapping[str, RungRule],
    train: Sequence[TaskInstance],
    test: Sequence[TaskInstance],
) -> Rung:
    """The rung that a target asks for: a named one, one by rule (then called after the target), or a random set."""
    own = RungRule(
        name=name, kinds=spec.kinds, datasets=spec.datasets, tasks=spec.tasks, classification=spec.classification
    )
    ruled = any((spec.kinds, spec.datasets, spec.tasks, spec.classification))
    named = rules[spec.named or "all"]
    missing = sorted(set(spec.tasks) - {instance.task for instance in (*train, *test)})
    if missing:
        raise DataError("no such task in the collection", where=f"targets.{name}.collection.rung.tasks", got=missing[0])

    def meeting(instances: Sequence[TaskInstance]) -> list[str]:
        return sorted({each.task for each in instances if named.holds(each) and own.holds(each)})

    asked = meeting(test)
    if spec.random is not None:
        drawn = tasks.random_rung(meeting(train), size=spec.random, draw=spec.draw)
        among = f" of {name}" if ruled else f" of {named.name}" if named.name != "all" else ""
        return Rung(name=drawn.name + among, tasks=tuple(sorted({*drawn.tasks, *asked})))
    found = meeting(train)
    if not found or (test and not asked):
        raise DataError(
            "no task of the collection meets the rules of this rung",
            where=f"targets.{name}.collection.rung",
            got=str(own if ruled else named),
        )
    called = f"{name} (by rule)" if name in rules else name  # no mark means two sets of tasks
    return Rung(name=called if ruled else named.name, tasks=tuple(sorted({*found, *asked})))


def _own_instances(target: Target, notes: ReadingNotes | None) -> tuple[TaskInstance, ...]:
    """Rows of the user's own tasks. A task whose answers form a closed set, or whose rows bring choices, is chosen from
    and scored by exact match; the others are written and scored by ROUGE-L."""
    assert target.collection is not None
    assert target.columns is not None
    place = target.collection.place
    columns = {name: said for name, said in target.columns.items() if name not in ("kind", "dataset")}
    named = {name: str(said) for name, said in target.columns.items() if name in ("kind", "dataset")}
    items = readers.load_items(
        place,
        eval_set="target",
        target="own",
        task="own",
        metric="exact_match",
        answer="text",
        max_answer_tokens=target.max_answer_tokens,
        columns=columns,
        instruction=target.instruction,
        notes=notes,
    )
    values = {str(row.origin): row.values for row in readers.read_rows(place)} if named else {}
    outputs: dict[str, list[str]] = {}
    for item in items:
        outputs.setdefault(item.task, []).append(item.references[0])
    closed = {task: tasks.closed_set(said) for task, said in outputs.items()}
    return tasks.first_of_tasks(
        [_own_instance(item, closed[item.task], named, values) for item in items], target.collection.rows_per_task
    )


def _own_instance(
    item: Item,
    closed: tuple[str, ...] | None,
    named: Mapping[str, str],
    values: Mapping[str, Mapping[str, Any]],
) -> TaskInstance:
    where = str(item.origin)
    if len(item.turns) != 1:
        raise DataError("a row of a collection asks one thing, not a conversation", where=where)
    if closed is not None and not set(item.references) <= set(closed):
        closed = None
    choices = item.choices or closed
    assert item.origin is not None
    said = {name: str(values[where].get(column, "")) for name, column in named.items()}
    return TaskInstance(
        row_id=item.row_id,
        task=item.task,
        dataset=said.get("dataset", "own"),
        kind=said.get("kind", ""),
        prompt=item.turns[0].text,
        references=item.references,
        choices=choices,
        metric="rouge_l" if choices is None else "exact_match",
        group=item.group,
        split=None,
        origin=item.origin,
    )


def _task_rows(place: Path, wanted: Sequence[str] | None) -> Iterator[RawRow]:
    """The task objects at a place: a file, a folder of task files, a clone that has them under `tasks`, or the hub.

    Of a folder, the files of wanted tasks alone are opened.
    """
    text = str(place)
    if text.startswith("hub:") or not place.is_dir():
        return readers.read_rows(text)
    folder = place / "tasks" if (place / "tasks").is_dir() else place
    if wanted is None:
        return chain.from_iterable(readers.read_rows(file.path) for file in _task_files(folder))
    missing = [name for name in wanted if not (folder / f"{name}.json").is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} tasks of the list are not there", where=str(folder), got=", ".join(missing[:20])
        )
    return chain.from_iterable(readers.read_rows(folder / f"{name}.json") for name in wanted)


def _task_files(folder: Path) -> tuple[readers.RowFile, ...]:
    """The task files of a folder, by name: each is a task, whatever its name says of training or testing."""
    found = tuple(path for path in sorted(folder.glob("*.json*")) if path.is_file())
    if not found:
        raise DataError("the folder holds no task files", where=str(folder), expected="task*.json")
    return tuple(readers.RowFile(path=path, name=str(path)) for path in found)


def _counted(pairs: Iterable[tuple[str, int]]) -> list[LeftOut]:
    counts: dict[str, int] = {}
    for why, rows in pairs:
        counts[why] = counts.get(why, 0) + rows
    return [LeftOut(why=why, rows=rows) for why, rows in counts.items() if rows]


# -------------------------------------------------------------------------------------------------------------- skills


def _read_skill(name: str, target: Target) -> CollectionRows:
    """A skill set under the target's name: its own split, its prompts, its metric."""
    said = target.collection
    assert said is not None
    assert said.skill is not None
    share = target.validation if isinstance(target.validation, float) else None
    path = _skill_file(Path(str(said.place)), said.skill)
    if isinstance(said.skill, Extension):
        data = load_task_set(
            readers.read_rows(path),
            said.skill,
            test_share=said.test_share,
            validation_share=share,
            max_answer_tokens=target.max_answer_tokens,
        )
    else:
        data = tasks.load_skill(readers.read_rows(path), said.skill, validation_share=share)
    rows = tuple(replace(row, source=name) for row in data.train)

    def mine(items: Sequence[Item]) -> tuple[Item, ...]:
        first = first_items(items, target.test_items)
        return tuple(replace(item, target=name, max_answer_tokens=target.max_answer_tokens) for item in first)

    left_out = [("asks what a test item asks", data.removed), ("has no question or no answer", len(data.unreadable))]
    kept = first_rows(rows, target.train_rows)
    asked = asked_as(mine(data.test), target)
    return CollectionRows(
        train=kept,
        validation=asked_as(mine(data.validation), target).deciding,
        test=asked.deciding,
        beside=asked.beside,
        left_out=tuple(_counted([*left_out, ("beyond train_rows", len(rows) - len(kept))])),
    )


def _skill_file(place: Path, skill: str) -> Path:
    """The set's file: the place itself, or where the public data keep it in a folder."""
    if not place.is_dir() or isinstance(skill, Extension):
        return place
    file = tasks.SKILL_SETS[skill].file
    found = [path for path in (place / file, place / Path(file).name) if path.is_file()]
    if not found:
        raise DataError("the folder does not hold the set's rows", where=str(place), expected=file)
    return found[0]
