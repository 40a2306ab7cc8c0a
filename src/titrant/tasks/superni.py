"""Super-NaturalInstructions: task files to prompts as Tk-Instruct encodes them, and the metric of each category.

A task is one object: `Definition`, `Categories`, `Positive Examples` [{input, output}] and `Instances` [{id, input,
output}]. The published form is one JSON file a task (its name is the file's) and lists of task names for each split.
Copies on the hub hold a row an instance instead: `task_name`, `definition`, `inputs`, `targets`, without examples.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from titrant.core.errors import DataError
from titrant.core.identity import hash_text
from titrant.core.records import Origin, RawRow
from titrant.tasks.collection import TaskInstance, closed_set, first_of_tasks, text_of, texts_of

EXACT_MATCH_CATEGORIES = frozenset(
    {
        "textual_entailment",
        "cause_effect_classification",
        "coreference_resolution",
        "dialogue_act_recognition",
        "answerability_classification",
        "word_analogy",
    }
)
ROUGE_CATEGORIES = frozenset(
    {
        "overlap_extraction",
        "keyword_tagging",
        "question_rewriting",
        "title_generation",
        "data_to_text",
        "grammar_error_correction",
    }
)
TEST_INSTANCES = 100
"""The default track tests on the first hundred instances of a test task, which its authors have balanced by label."""


def read_superni(
    rows: Iterable[RawRow],
    *,
    tasks: Iterable[str] | None = None,
    positive_examples: int = 2,
    fits: Callable[[str], bool] | None = None,
    limit: int | None = None,
    rows_per_task: int | None = None,
) -> tuple[TaskInstance, ...]:
    """All instances of all task objects, prompted.

    `tasks` keeps the named ones only (the lines of a split list); a name that is missing is a `DataError`. `limit`
    takes the first instances of each task (`TEST_INSTANCES` for the test track), `rows_per_task` so many by content
    hash, whatever their order. `fits` says whether a source is within the model's length; examples are added only while
    it is. The category decides the metric; where it is none of the evaluation's, a closed set of outputs is scored by
    exact match, others by ROUGE-L.
    """
    wanted = None if tasks is None else list(tasks)
    instances: list[TaskInstance] = []
    seen: set[str] = set()
    for row in _task_objects(rows):
        name = task_name(row)
        if wanted is not None and name not in wanted:
            continue
        seen.add(name)
        found = _instances_of(row, name, positive_examples, fits, limit)
        instances.extend(first_of_tasks(found, rows_per_task))
    missing = [name for name in wanted or () if name not in seen]
    if missing:
        raise DataError(f"{len(missing)} tasks of the list are not there", got=", ".join(missing[:20]))
    return tuple(instances)


def read_split_list(path: Path) -> tuple[str, ...]:
    """The task names of a split list (`splits/default/train_tasks.txt`): one a line, blank lines aside."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the split list cannot be read ({error})", where=str(path)) from error
    names = tuple(line.strip() for line in text.split("\n") if line.strip())
    if not names:
        raise DataError("the split list is empty", where=f"{path}:1")
    return names


def task_name(row: RawRow) -> str:
    """The name of a task object: its `name` or `Task`, else that of its file."""
    name = row.values.get("name", row.values.get("Task"))
    return (
        name if isinstance(name, str) else PurePosixPath(row.origin.path.rpartition("!")[2]).name.removesuffix(".json")
    )


def prompt_of(
    definition: str,
    examples: Iterable[tuple[str, str]],
    text: str,
    *,
    fits: Callable[[str], bool] | None = None,
) -> str:
    """Tk-Instruct's source text: definition, numbered examples while they fit, the input, and a trailing `Output: `.

    Fields are stripped, and get a full stop where they end in none of ASCII's punctuation marks.

    >>> print(prompt_of("Add the numbers", [("1 2", "3")], "4 5") + "|")
    Definition: Add the numbers.
    <BLANKLINE>
     Positive Example 1 -
    Input: 1 2.
     Output: 3.
    <BLANKLINE>
    Now complete the following example -
    Input: 4 5.
    Output: |
    """
    head = _stopped(f"Definition: {definition.strip()}") + "\n\n"
    tail = "Now complete the following example -\n" + _stopped(f"Input: {text.strip()}") + "\nOutput: "
    shown = ""
    for number, (given, answer) in enumerate(examples, start=1):
        example = f" Positive Example {number} -\n" + _stopped(f"Input: {given.strip()}") + "\n"
        example += _stopped(f" Output: {answer.strip()}") + "\n\n"
        if fits is not None and not fits(head + shown + example + tail):
            break
        shown += example
    return head + shown + tail


def metric_of(category: str, *, closed: bool) -> str:
    """How the official evaluation scores a category; others by whether their outputs are a closed set.

    >>> metric_of("Textual Entailment", closed=False), metric_of("Title Generation", closed=True)
    ('exact_match', 'rouge_l')
    """
    name = "_".join(category.lower().split())
    if name in EXACT_MATCH_CATEGORIES:
        return "exact_match"
    if name in ROUGE_CATEGORIES:
        return "rouge_l"
    return "exact_match" if closed else "rouge_l"


@dataclass(slots=True)
class _Flat:
    """A task put together from rows of single instances: what it says, and the references of each input."""

    definition: Any
    origin: Origin
    references: dict[str, list[str]] = field(default_factory=dict)

    def task(self, name: str) -> RawRow:
        instances = [
            {"id": f"{name}-{number}", "input": given, "output": list(dict.fromkeys(outputs))}
            for number, (given, outputs) in enumerate(self.references.items())
        ]
        values = {"name": name, "Definition": self.definition, "Categories": ["unknown"], "Positive Examples": []}
        return RawRow(values={**values, "Instances": instances}, origin=self.origin)


def _task_objects(rows: Iterable[RawRow]) -> Iterator[RawRow]:
    """Task objects as they come, then those put together from rows of single instances, in the order of their names."""
    flat: dict[str, _Flat] = {}
    for row in rows:
        if "task_name" not in row.values or "inputs" not in row.values:
            yield row
            continue
        name = text_of(row.values["task_name"], "task_name", row.origin)
        given = text_of(row.values["inputs"], "inputs", row.origin, empty=True)
        if name not in flat:
            flat[name] = _Flat(row.values.get("definition"), row.origin)
        known = flat[name].references.setdefault(given, [])
        known.extend(texts_of(row.values.get("targets"), "targets", row.origin))
    for name in sorted(flat):
        yield flat.pop(name).task(name)


def _instances_of(
    row: RawRow, name: str, positive_examples: int, fits: Callable[[str], bool] | None, limit: int | None
) -> list[TaskInstance]:
    where = row.origin
    definition = texts_of(row.values.get("Definition"), "Definition", where)[0]
    category = texts_of(row.values.get("Categories"), "Categories", where)[0]
    sources = row.values.get("Source") or [name]
    dataset = texts_of(sources, "Source", where)[0]
    shown = [
        (
            text_of(each.get("input"), "example's input", where, empty=True),
            text_of(each.get("output"), "example's output", where, empty=True),
        )
        for each in _objects(row, "Positive Examples")[:positive_examples]
    ]
    instances = _objects(row, "instances" if "instances" in row.values else "Instances")
    outputs = [texts_of(instance.get("output"), "instance's output", where) for instance in instances]
    closed = closed_set(references[0] for references in outputs)
    found = []
    for number, (instance, references) in enumerate(zip(instances, outputs, strict=True)):
        if limit is not None and number == limit:
            break
        text = text_of(instance.get("input"), "instance's input", where, empty=True)
        found.append(
            TaskInstance(
                row_id=str(instance.get("id") or f"{name}-{number}"),
                task=name,
                dataset=dataset,
                kind="_".join(category.lower().split()),
                prompt=prompt_of(definition, shown, text, fits=fits),
                references=references,
                choices=closed if closed is not None and set(references) <= set(closed) else None,
                metric=metric_of(category, closed=closed is not None),
                group=hash_text(f"{dataset}\n{' '.join(text.casefold().split())}", length=16),
                split=instance.get("split"),
                origin=where,
            )
        )
    return found


def _objects(row: RawRow, name: str) -> list[dict[str, Any]]:
    value = row.values.get(name)
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise DataError(f"{name!r} is not a list of objects", where=str(row.origin), got=value)
    return value


def _stopped(text: str) -> str:
    return text if text[-1] in string.punctuation else f"{text}."
