"""P3: prompts already templated, several templates a dataset (fields template, dataset, group, instruction, output)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from titrant.core.records import RawRow
from titrant.tasks.collection import TaskInstance, closed_set, first_of_tasks, text_field
from titrant.tasks.underlying import TemplatedText, groups_by_text

END_MARK = "<|endoftext|>"


@dataclass(frozen=True, slots=True, kw_only=True)
class P3Collection:
    """Instances in file order, and the rows left out with the reason: (reason, template, rows)."""

    instances: tuple[TaskInstance, ...]
    left_out: tuple[LeftOutTemplate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOutTemplate:
    """Rows of one template that ask nothing that can be scored."""

    reason: str
    template: str
    rows: int


def read_p3(
    rows: Iterable[RawRow],
    *,
    wanted: Callable[[Sequence[TaskInstance]], Collection[str]] | None = None,
    rows_per_task: int | None = None,
) -> P3Collection:
    """P3 rows as instances. The task is the template, its kind P3's group of templates.

    `wanted` says which templates are needed, given all instances (their `group` not known yet); `rows_per_task` keeps
    the first so many rows of each, by content hash. What is needed alone is compared for its underlying texts.

    The literal end-of-text mark of the source is taken off the output, the prompt stands as it is. A template whose
    outputs form a closed set is answered among them; the others are scored by ROUGE-L. Rows with an empty output, and
    templates of 50 rows or more with one output only, are left out and counted: a constant teaches and tests nothing.
    """
    kept: list[tuple[RawRow, str]] = []
    dropped: Counter[tuple[str, str]] = Counter()
    outputs: dict[str, list[str]] = {}
    for row in rows:
        template = text_field(row, "template")
        output = text_field(row, "output", empty=True).removesuffix(END_MARK)
        if not output.strip():
            dropped["empty output", template] += 1
            continue
        outputs.setdefault(template, []).append(output)
        kept.append((row, output))
    constant = {template for template, texts in outputs.items() if len(texts) >= 50 and len(set(texts)) == 1}
    for template in constant:
        dropped["one output only", template] += len(outputs[template])
    kept = [(row, output) for row, output in kept if row.values["template"] not in constant]
    choices = {template: closed_set(texts) for template, texts in outputs.items()}
    found = [
        TaskInstance(
            row_id=text_field(row, "id"),
            task=text_field(row, "template"),
            dataset=text_field(row, "dataset"),
            kind=text_field(row, "group"),
            prompt=text_field(row, "instruction"),
            references=(output,),
            choices=choices[row.values["template"]],
            metric="rouge_l" if choices[row.values["template"]] is None else "exact_match",
            group=None,
            split=None,
            origin=row.origin,
        )
        for row, output in kept
    ]
    tasks = None if wanted is None else frozenset(wanted(found))
    needed = first_of_tasks([each for each in found if tasks is None or each.task in tasks], rows_per_task)
    groups = groups_by_text(
        [
            TemplatedText(dataset=each.dataset, template=each.task, text=f"{each.prompt} {each.references[0]}")
            for each in needed
        ]
    )
    instances = tuple(replace(each, group=group) for each, group in zip(needed, groups, strict=True))
    left_out = (
        LeftOutTemplate(reason=reason, template=template, rows=count) for (reason, template), count in dropped.items()
    )
    return P3Collection(instances=instances, left_out=tuple(sorted(left_out, key=lambda left: left.template)))
