"""Many tasks under one roof: an instance of any collection, and how it becomes a training row or a test item."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from titrant.core.errors import DataError
from titrant.core.identity import content_keys, hash_text
from titrant.core.records import AnswerKind, Example, Item, Origin, RawRow, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInstance:
    """One question of one task, ready to be asked.

    `task` is the finest name (a template, a task file), `dataset` what its texts come from, `kind` the sort of task
    (a category, a group of templates). `group` is shared by instances on the same underlying text. `choices` is None
    where the answers are no closed set.
    """

    row_id: str
    task: str
    prompt: str
    references: tuple[str, ...]
    origin: Origin
    dataset: str = ""
    kind: str = ""
    choices: tuple[str, ...] | None = None
    metric: str = "exact_match"
    group: str | None = None
    split: str | None = None


def as_examples(instances: Sequence[TaskInstance], *, source: str) -> tuple[Example, ...]:
    """Training rows, in the same order; the first reference is the answer."""
    turns = [
        (Turn(role="user", text=instance.prompt), Turn(role="assistant", text=instance.references[0]))
        for instance in instances
    ]
    keys = content_keys(turns)
    return tuple(
        Example(
            key=key,
            row_id=instance.row_id,
            source=source,
            task=instance.task,
            turns=pair,
            label=instance.references[0] if instance.choices is not None else None,
            group=instance.group,
            origin=instance.origin,
        )
        for key, pair, instance in zip(keys, turns, instances, strict=True)
    )


def as_items(
    instances: Sequence[TaskInstance],
    *,
    eval_set: str,
    target: str,
    max_answer_tokens: int,
    rungs: Mapping[str, tuple[str, ...]] | None = None,
) -> tuple[Item, ...]:
    """Test items, in the same order: by likelihood where there are choices, else by greedy text.

    `rungs` gives for each task the rungs that it is part of.
    """
    turns = [(Turn(role="user", text=instance.prompt),) for instance in instances]
    contents = zip(turns, instances, strict=True)
    keys = content_keys([[pair, instance.references, instance.choices] for pair, instance in contents])
    answers: list[AnswerKind] = ["choices" if instance.choices is not None else "text" for instance in instances]
    return tuple(
        Item(
            key=key,
            row_id=instance.row_id,
            eval_set=eval_set,
            target=target,
            task=instance.task,
            turns=pair,
            references=instance.references,
            choices=instance.choices,
            answer=answer,
            metric=instance.metric,
            max_answer_tokens=max_answer_tokens,
            group=instance.group,
            rungs=(rungs or {}).get(instance.task, ()),
            origin=instance.origin,
        )
        for key, pair, answer, instance in zip(keys, turns, answers, instances, strict=True)
    )


def first_of_tasks(instances: Sequence[TaskInstance], count: int | None) -> tuple[TaskInstance, ...]:
    """At most `count` instances of each task (None: all), smallest content hash first, in their own order."""
    if count is None:
        return tuple(instances)
    by_task: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    for index, instance in enumerate(instances):
        by_task[instance.task].append((hash_text(f"cap\n{instance.prompt}"), instance.row_id, index))
    kept = {index for ranked in by_task.values() for *_, index in sorted(ranked)[:count]}
    return tuple(instance for index, instance in enumerate(instances) if index in kept)


def text_field(row: RawRow, name: str, *, empty: bool = False) -> str:
    """A text of a row; `DataError` with its place where it is missing, or empty and may not be."""
    return text_of(row.values.get(name), name, row.origin, empty=empty)


def text_of(value: Any, name: str, origin: Origin, *, empty: bool = False) -> str:
    """`value` as the text it must be."""
    if not isinstance(value, str) or not (empty or value.strip()):
        raise DataError(f"the {name} is missing or no text", where=str(origin), got=value)
    return value


def texts_of(value: Any, name: str, origin: Origin) -> tuple[str, ...]:
    """`value` as one text or a list of them: at least one."""
    values = value if isinstance(value, list) else [value]
    if not values:
        raise DataError(f"the {name} is empty", where=str(origin))
    return tuple(dict.fromkeys(text_of(each, name, origin, empty=True) for each in values))


def closed_set(outputs: Iterable[str]) -> tuple[str, ...] | None:
    """The sorted different outputs of a task where they form a closed set, else None.

    A rule for collections that do not say so: at least 50 outputs, 2 to 20 different ones, of at most 5 words each.

    >>> closed_set(["yes", "no"] * 25)
    ('no', 'yes')
    """
    listed = list(outputs)
    different = sorted(set(listed))
    closed = len(listed) >= _CLOSED_ROWS and 2 <= len(different) <= _CLOSED_LABELS
    return tuple(different) if closed and all(len(output.split()) <= _CLOSED_WORDS for output in different) else None


_CLOSED_ROWS, _CLOSED_LABELS, _CLOSED_WORDS = 50, 20, 5
