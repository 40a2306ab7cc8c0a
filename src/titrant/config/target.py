"""The user's task in the study file: rows, how they are asked, how an answer is judged; facts, collections too."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    WithJsonSchema,
)

from titrant.config import fields
from titrant.config.fields import (
    Place,
    Text,
    described,
    listed,
    real,
    refuse,
    whole,
    whole_field,
)
from titrant.config.sections import (
    WHOLE_SCHEMA,
    Columns,
    Names,
    OpenShare,
    Relations,
    Section,
    column_or_columns,
    is_number,
)
from titrant.config.tables import METRICS, SKILLS, named_or_code
from titrant.config.yaml_source import (
    Plain,
)

AnswerBy = Literal["choices", "text", "loss", "by_task"]


def _choice_list(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple) or len(value) < 2:
        refuse("not a list of choices", got=described(value), expected="a list of at least two texts")
    counts = Counter(item for item in value if isinstance(item, str))
    twice = next((item for item, count in counts.items() if count > 1), None)
    if twice is not None:
        refuse("a choice stands twice", got=twice, expected="different choices")
    return tuple(value)


def _spellings(value: Any) -> Any:
    """Labels with the spellings that stand for them: none for two labels, and none a label that is kept."""
    if not isinstance(value, dict):
        return value
    kept: dict[str, str] = {}
    for label, spelled in value.items():
        for spelling in listed(spelled):
            if not isinstance(spelling, str):
                refuse("not a text", got=described(spelling), expected="a label as it stands in the file")
            if str(spelling) in value and str(spelling) != label:
                refuse("a label that others are merged into is merged itself", got=spelling)
            if kept.setdefault(str(spelling), str(label)) != str(label):
                refuse("a label is merged into two", got=spelling, expected="one of the two")
    return value


def _file_or_share(value: Any) -> Any:
    """A number without quotes is a share; everything else is the path of a file."""
    if isinstance(value, Plain) and value[:1] in set("+-.0123456789") and is_number(value):
        return real(value, low=0, high=1, open_low=True, open_high=True)
    return value


class FactTarget(Section):
    """Facts to learn and to be asked about, parsed from sentence completions. Subjects of the test, of the training
    rows and of doses are three disjoint sets, by the hash of the subject's name."""

    rows: Annotated[Place, Field(description="rows of QA-Wikidata's form: question, answer, answers")]
    relations: Relations = ()
    choices: Annotated[
        int, *whole_field(2, 1000), Field(description="ask among so many of the relation's commonest answers")
    ] = 12


def _rung(value: Any) -> Any:
    """A word is a rung of the collection's own ladder; a mapping says what a rung is made of."""
    return {"named": value} if isinstance(value, str) else value


NAMED_RUNGS = ("all", "classification", "sentiment", "yelp")


class RungSpec(Section):
    """Which tasks of a collection a target is made of: those that meet every rule, or so many of them at random."""

    named: Annotated[Text | None, Field(description="a rung of the collection's own ladder")] = None
    kinds: Annotated[Names, Field(description="P3's groups of templates, or categories of tasks")] = ()
    datasets: Annotated[Names, Field(description="what the tasks' texts come from")] = ()
    tasks: Annotated[Names, Field(description="single tasks or templates by name")] = ()
    classification: Annotated[
        bool, *fields.flag_field(), Field(description="only tasks whose answers are a closed set")
    ] = False
    random: Annotated[
        int | None,
        BeforeValidator(lambda value: whole(value, low=1)),
        WithJsonSchema(WHOLE_SCHEMA),
        Field(description="so many of these tasks at random; a larger set of one draw holds every smaller one"),
    ] = None
    draw: Annotated[int, *whole_field(0, 10_000), Field(description="which random draw")] = 0


class Collection(Section):
    """Many tasks under one roof, in place of a file of rows; prompts, choices and metrics come with it."""

    p3: Annotated[Place | None, Field(description="P3 rows, already templated: a file, a folder or hub:org/name")] = (
        None
    )
    superni: Annotated[
        Place | None,
        Field(description="Super-NaturalInstructions: a clone's folder, a file of task objects, or hub:org/name"),
    ] = None
    skill: Annotated[
        str | None,
        *named_or_code(SKILLS, kind="task set"),
        Field(description="one of the nine skill sets, or a path to a task set of your own; its rows in rows"),
    ] = None
    rows: Annotated[Place | None, Field(description="the skill set's file, or the folder of data that holds it")] = None
    own: Annotated[
        Place | None,
        Field(
            description="rows of your own tasks, in any shape; the target's columns say which is the task, and perhaps "
            "its kind, dataset and group (rows on the same text)"
        ),
    ] = None
    rung: Annotated[
        RungSpec,
        BeforeValidator(_rung),
        WithJsonSchema({"anyOf": [{"enum": list(NAMED_RUNGS)}, RungSpec.model_json_schema()]}),
        Field(description="all | classification | sentiment | yelp, or the rules of a rung of your own"),
    ] = Field(default_factory=lambda: RungSpec(named="all"))
    test_share: Annotated[
        OpenShare, Field(description="the share of underlying texts kept for testing, of every dataset, by hash")
    ] = 0.1
    rows_per_task: Annotated[
        int | None,
        BeforeValidator(lambda value: whole(value, low=2)),
        WithJsonSchema(WHOLE_SCHEMA),
        Field(description="read at most so many rows of each task, chosen by content hash before the split"),
    ] = None
    train_tasks: Annotated[
        Place | None, Field(description="Super-NaturalInstructions: a split list, the tasks that are trained on")
    ] = None
    test_tasks: Annotated[
        Place | None,
        Field(description="a split list, the tasks that are tested, on their first 100 instances; beside train_tasks"),
    ] = None
    positive_examples: Annotated[
        int, *whole_field(0, 2), Field(description="Super-NaturalInstructions: examples shown in a prompt")
    ] = 2
    source_tokens: Annotated[
        int, *whole_field(16, 1 << 20), Field(description="examples are shown only while a prompt is within this")
    ] = 1024

    @property
    def place(self) -> Place:
        """Where its rows are."""
        found = self.p3 or self.superni or self.rows or self.own
        assert found is not None, "the study file has been checked"
        return found


def _answer_tokens(collection: Any) -> int:
    """How long a collection's written answers may be: what a skill set says, else Tk-Instruct's 128 and P3's 64."""
    from titrant.tasks import SKILL_SETS

    said = collection if isinstance(collection, dict) else {}
    skill = said.get("skill")
    if isinstance(skill, str) and skill in SKILL_SETS:
        return SKILL_SETS[skill].max_answer_tokens
    return 128 if "superni" in said else 64


def _skill_of(collection: Any) -> str | None:
    """What a public skill set needs, in the study's words."""
    from titrant.tasks import SKILL_SETS

    named = collection.get("skill") if isinstance(collection, dict) else None
    if not isinstance(named, str) or named not in SKILL_SETS:
        return None
    skill = SKILL_SETS[named].skill
    return "facts" if skill == "factual" else skill


class Target(Section):
    """The user's task: its rows, how it is asked, and how an answer is judged."""

    collection: Annotated[
        Collection | None,
        Field(description="a collection of tasks or a public skill set, in place of files of rows"),
    ] = None
    train: Annotated[Place | None, Field(description="the training rows: a file, a folder or hub:org/name")] = None
    test: Annotated[Place | None, Field(description="the test items, beside train")] = None
    rows: Annotated[Place | None, Field(description="one file for both, in place of train and test")] = None
    facts: Annotated[
        FactTarget | None, Field(description="facts in place of files; the score is what the subject adds")
    ] = None
    test_share: Annotated[
        OpenShare | None,
        Field(description="the share of rows kept for testing, by content hash, stratified by label; beside rows"),
    ] = None
    validation: Annotated[
        float | Place | None,
        BeforeValidator(_file_or_share),
        Field(description="a file, or a share of the training rows; learning rates and passes are chosen on it"),
    ] = None
    instruction: Annotated[
        Text | None, Field(description="what is asked of each row; needed for text/label and input/output rows")
    ] = None
    columns: Annotated[Columns | None, Field(description="what the file calls the columns")] = None
    format: Annotated[
        str | None,
        *named_or_code({}, kind="row format"),
        Field(description="a path to code that turns a row of the file into one of a known shape; beside no columns"),
    ] = None
    test_items: Annotated[
        int | None,
        BeforeValidator(lambda value: whole(value, low=1)),
        WithJsonSchema(WHOLE_SCHEMA),
        Field(description="ask at most so many test items, chosen by content hash, evenly over the tasks"),
    ] = None
    train_rows: Annotated[
        int | None,
        BeforeValidator(lambda value: whole(value, low=1)),
        WithJsonSchema(WHOLE_SCHEMA),
        Field(description="keep at most so many training rows, chosen by content hash, before anything is drawn"),
    ] = None
    metric: Annotated[
        str,
        *named_or_code(METRICS, kind="metric"),
        Field(
            description="how an answer is scored, 0 to 1. graded: the probability of the right choices, or of the "
            "tokens of an answer that is written; by_task: as each task of a collection says (the default there); "
            "or a path to a metric of your own, my_pkg.mod:name or metrics.py:name"
        ),
    ] = "exact_match"
    answer: Annotated[
        AnswerBy,
        Field(
            description="choices: the likeliest of a closed set; text: written greedily; loss: nothing is "
            "written, the probability of the right answer's tokens counts (metric: graded); by_task: as a task says. "
            "Default: by_task in a collection; choices where choices or columns.label are given or the metric is "
            "accuracy, else text"
        ),
    ] = "text"
    choices: Annotated[
        tuple[Text, ...] | None,
        BeforeValidator(_choice_list),
        WithJsonSchema({"type": "array", "items": {"type": "string"}, "minItems": 2, "uniqueItems": True}),
        Field(description="the closed set of answers; default: each item's own, or the sorted labels of train"),
    ] = None
    merge_labels: Annotated[
        dict[Text, Annotated[str | tuple[str, ...], BeforeValidator(column_or_columns)]] | None,
        BeforeValidator(_spellings),
        Field(
            description="labels of the file that stand for one label: {positive: [Positive, POSITIVE]}; labels are "
            "different wherever they are not the same text"
        ),
    ] = None
    max_answer_tokens: Annotated[
        int, *whole_field(1, 8192), Field(description="where a written answer is cut off, in tokens")
    ] = 32
    task_weights: Annotated[
        Literal["macro", "by_item"],
        Field(description="how several tasks weigh: macro: every task the same; by_item: every item the same"),
    ] = "macro"
    skill: Annotated[
        Literal["understanding", "reasoning", "facts"] | None,
        Field(
            description="what the target mostly needs, in your word: for titrant advise, and to test whether the gain "
            "of a dose depends on it. Default: facts for facts, a public skill set's own"
        ),
    ] = None

    @property
    def merged_spellings(self) -> dict[str, str]:
        """Which label each spelling of `merge_labels` stands for."""
        merged = (self.merge_labels or {}).items()
        return {text: label for label, texts in merged for text in listed(texts) if text != label}

    @classmethod
    def _fill(cls, given: dict[str, Any]) -> None:
        if given.get("facts") is not None:
            given.setdefault("metric", "subject_gain")
            given.setdefault("answer", "choices")
            given.setdefault("skill", "facts")
        collection = given.get("collection")
        if collection is not None and (skill := _skill_of(collection)) is not None:
            given.setdefault("skill", skill)
        if collection is not None:
            given.setdefault("metric", "by_task")
            given.setdefault("answer", "by_task")
            given.setdefault("max_answer_tokens", _answer_tokens(collection))
        if "answer" not in given:
            columns = given.get("columns")
            labelled = isinstance(columns, dict) and "label" in columns
            closed = labelled or "choices" in given or given.get("metric") == "accuracy"
            given["answer"] = "choices" if closed else "text"
