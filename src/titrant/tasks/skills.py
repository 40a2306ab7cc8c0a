"""The skill ladder: nine public sets, three for each of understanding, reasoning and factual knowledge.

Rows have the fields `id`, `question`, `answer` and `split`, and `context`, `choices`, `answers` where the set has them.
An item whose answer is also the answer of a training row carries the tag `answer_seen`: more than half of WebQuestions
is such, and a model may have learned the answer rather than the skill.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from titrant.core.errors import DataError
from titrant.core.identity import hash_text
from titrant.core.records import Example, Item, Origin, RawRow
from titrant.tasks.collection import TaskInstance, as_examples, as_items, text_field, text_of, texts_of
from titrant.tasks.ladder import split_by_text
from titrant.tasks.seen import mark_answer_seen

Skill = Literal["understanding", "reasoning", "factual"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillSet:
    """One set: what it is asked with and how it is judged.

    `prompt` has {context}, {question} and {options} where the set has them. `file` is its name in the shared data.
    `balanced`: labels are lopsided, so balanced accuracy belongs beside accuracy.
    """

    name: str
    skill: Skill
    file: str
    prompt: str
    metric: str
    max_answer_tokens: int
    train_splits: tuple[str, ...] = ("train",)
    test_splits: tuple[str, ...] = ("test",)
    balanced: bool = False


_PASSAGE = "{context}\n\nQuestion: {question}\n"
_OPTIONS = "Options:\n{options}\n\nAnswer with one of the options."

SKILL_SETS: dict[str, SkillSet] = {
    each.name: each
    for each in (
        SkillSet(
            name="boolq",
            skill="understanding",
            file="skills/understanding_boolq.jsonl.gz",
            prompt=_PASSAGE + "Answer with True or False.",
            metric="accuracy",
            max_answer_tokens=4,
            balanced=True,
        ),
        SkillSet(
            name="dream",
            skill="understanding",
            file="skills/understanding_dream.jsonl.gz",
            prompt=_PASSAGE + _OPTIONS,
            metric="accuracy",
            max_answer_tokens=32,
        ),
        SkillSet(
            name="disfl_qa",
            skill="understanding",
            file="skills/understanding_disfl_qa.jsonl.gz",
            prompt=_PASSAGE + "Answer with words from the passage, or with unknown if it does not say.",
            metric="f1",
            max_answer_tokens=48,
        ),
        SkillSet(
            name="gsm8k",
            skill="reasoning",
            file="skills/reasoning_gsm8k.jsonl.gz",
            prompt="{question}\n\nSolve the problem step by step and end with #### and the number.",
            metric="last_number",
            max_answer_tokens=256,
        ),
        SkillSet(
            name="strategyqa",
            skill="reasoning",
            file="skills/reasoning_strategyqa.jsonl.gz",
            prompt="{question}\nAnswer with yes or no.",
            metric="accuracy",
            max_answer_tokens=4,
            test_splits=("dev", "test"),
            balanced=True,
        ),
        SkillSet(
            name="elementary_math",
            skill="reasoning",
            file="skills/reasoning_elementary_math_qa.jsonl.gz",
            prompt="{question}\n\n" + _OPTIONS,
            metric="accuracy",
            max_answer_tokens=16,
        ),
        SkillSet(
            name="webquestions",
            skill="factual",
            file="skills/factual_webquestions.jsonl.gz",
            prompt="{question}\nAnswer with a name, a place, a date or a few words.",
            metric="exact_match",
            max_answer_tokens=24,
        ),
        SkillSet(
            name="opentriviaqa",
            skill="factual",
            file="skills/factual_opentriviaqa.jsonl.gz",
            prompt="{question}\n\n" + _OPTIONS,
            metric="accuracy",
            max_answer_tokens=24,
        ),
        SkillSet(
            name="qa_wikidata",
            skill="factual",
            file="skills/factual_qa_wikidata.jsonl.gz",
            prompt="Complete the sentence with a name or a few words.\n\n{question}",
            metric="exact_match",
            max_answer_tokens=24,
        ),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillData:
    """A skill set, ready. `removed` counts training rows left out because they repeat a test prompt.

    `unreadable` are rows of the source without a question or an answer (Disfl-QA has some): they ask nothing.
    """

    train: tuple[Example, ...]
    validation: tuple[Item, ...]
    test: tuple[Item, ...]
    removed: int
    unreadable: tuple[Origin, ...]


def load_skill(rows: Iterable[RawRow], name: str, *, validation_share: float | None = None) -> SkillData:
    """The rows of one skill set as training rows and test items; rows of other splits are left alone.

    With `validation_share`, validation items are parted off the training rows by their underlying text.
    """
    if name not in SKILL_SETS:
        raise DataError("no such skill set", got=name, expected=", ".join(SKILL_SETS))
    skill_set = SKILL_SETS[name]
    train: list[TaskInstance] = []
    test: list[TaskInstance] = []
    unreadable: list[Origin] = []
    for row in rows:
        split = text_field(row, "split")
        if split not in (*skill_set.train_splits, *skill_set.test_splits):
            continue
        if not all(text_field(row, name, empty=True).strip() for name in ("question", "answer")):
            unreadable.append(row.origin)
        elif split in skill_set.train_splits:
            train.append(_instance(row, skill_set))
        else:
            test.append(_instance(row, skill_set))
    return skill_data(
        name,
        train,
        test,
        validation_share=validation_share,
        max_answer_tokens=skill_set.max_answer_tokens,
        unreadable=tuple(unreadable),
    )


def skill_data(
    name: str,
    train: Sequence[TaskInstance],
    test: Sequence[TaskInstance],
    *,
    validation_share: float | None,
    max_answer_tokens: int,
    unreadable: tuple[Origin, ...],
) -> SkillData:
    """Training rows that ask nothing that a test item asks, and items marked where a training row has their answer."""
    if not train or not test:
        raise DataError(f"{name} has {len(train)} training rows and {len(test)} test items")
    asked = {_folded(instance.prompt) for instance in test}
    kept = [instance for instance in train if _folded(instance.prompt) not in asked]
    removed = len(train) - len(kept)
    validation: tuple[TaskInstance, ...] = ()
    if validation_share is not None:
        parted = split_by_text(kept, share=validation_share, name="validation")
        kept, validation = list(parted.train), parted.held_out
    items = as_items(test, eval_set="target", target=name, max_answer_tokens=max_answer_tokens)
    tagged = mark_answer_seen(items, (reference for instance in kept for reference in instance.references))
    return SkillData(
        train=as_examples(kept, source=name),
        validation=as_items(validation, eval_set="validation", target=name, max_answer_tokens=max_answer_tokens),
        test=tagged,
        removed=removed,
        unreadable=unreadable,
    )


def _instance(row: RawRow, skill_set: SkillSet) -> TaskInstance:
    question = text_field(row, "question")
    fields = {"question": question}
    context = None
    if "{context}" in skill_set.prompt:
        context = fields["context"] = text_field(row, "context")
    choices = None
    if "choices" in row.values:
        choices = texts_of(row.values["choices"], "choices", row.origin)
        fields["options"] = "\n".join(f"- {choice}" for choice in choices)
    answer = text_of(row.values.get("answer"), "answer", row.origin)
    others = texts_of(row.values["answers"], "answers", row.origin) if "answers" in row.values else ()
    references = tuple(dict.fromkeys((answer, *others)))
    if choices is not None and not set(references) <= set(choices):
        raise DataError("the answer is not among the choices", where=str(row.origin), got=answer)
    return TaskInstance(
        row_id=text_field(row, "id"),
        task=skill_set.name,
        dataset=skill_set.name,
        kind=skill_set.skill,
        prompt=_filled(skill_set.prompt, fields),
        references=references,
        choices=choices,
        metric=skill_set.metric,
        group=hash_text(" ".join((context or question).casefold().split()), length=16),
        split=text_field(row, "split"),
        origin=row.origin,
    )


def _filled(template: str, fields: dict[str, str]) -> str:
    """The template with its fields; braces in a text stay what they are."""
    return re.sub(r"\{(context|question|options)\}", lambda match: fields[match[1]], template)


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
