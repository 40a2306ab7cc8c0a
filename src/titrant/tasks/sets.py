"""Task sets from outside: rows of any file to questions, split as their author says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from titrant.core.errors import DataError
from titrant.core.plugins import Extension, extension_of, line_of
from titrant.core.records import RawRow
from titrant.tasks.collection import TaskInstance
from titrant.tasks.ladder import split_by_text
from titrant.tasks.skills import SkillData, skill_data


class TaskSet(Protocol):
    """Rows to questions. `TaskInstance.split` says `train` or `test`; where no instance says, a tenth of the underlying
    texts is kept for testing, by their hash."""

    name: str
    revision: str

    def instances(self, rows: Iterable[RawRow]) -> Iterable[TaskInstance]:
        """A question for each row that asks one. `row.values` are the row's columns, numbers as the text that stood in
        the file; `row.origin` is its place, for errors."""
        ...


def load_task_set(
    rows: Iterable[RawRow],
    task_set: Extension,
    *,
    test_share: float,
    validation_share: float | None,
    max_answer_tokens: int,
) -> SkillData:
    """The rows of a task set from outside as training rows and test items; `DataError` where it raises or is empty."""
    found: list[TaskInstance] = []
    try:
        for instance in task_set.made.instances(rows):
            if not isinstance(instance, TaskInstance):
                problem = f"the task set {task_set} gave no question"
                raise DataError(problem, got=instance, expected="titrant.TaskInstance(…)")
            found.append(_with_metric(instance))
    except DataError:
        raise
    except Exception as error:
        problem = f"the task set {task_set} raised {type(error).__name__}: {error} after {len(found)} questions"
        raise DataError(problem, where=line_of(error, task_set.made.instances)) from error
    if not found:
        expected = "a titrant.TaskInstance for each row that asks something"
        raise DataError(f"the task set {task_set} gave no question", expected=expected)
    if any(instance.split for instance in found):
        train, test = ([one for one in found if one.split == part] for part in ("train", "test"))
    else:
        parted = split_by_text(found, share=test_share)
        train, test = list(parted.train), list(parted.held_out)
    return skill_data(
        task_set, train, test, validation_share=validation_share, max_answer_tokens=max_answer_tokens, unreadable=()
    )


def _with_metric(instance: TaskInstance) -> TaskInstance:
    """A metric may be an object here too."""
    if isinstance(instance.metric, str):
        return instance
    return replace(instance, metric=extension_of(instance.metric, kind="metric"))
