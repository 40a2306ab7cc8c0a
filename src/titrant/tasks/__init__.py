"""What is asked, and how an answer is judged: the user's own target, collections of tasks, and the two ladders."""

from titrant.tasks.collection import TaskInstance, as_examples, as_items, closed_set, first_of_tasks
from titrant.tasks.labels import LookAlike, look_alike_line, look_alikes, merged_examples, merged_items
from titrant.tasks.ladder import (
    P3_RUNGS,
    SUPERNI_RUNGS,
    Ladder,
    Rung,
    RungRule,
    TextSplit,
    apart,
    build_ladder,
    common_items,
    marks_of,
    random_rung,
    random_task_sets,
    rung_of,
    split_by_text,
)
from titrant.tasks.own import (
    TargetSplit,
    closed_labels,
    items_of,
    refuse_overlap,
    refuse_unseen_labels,
    split_rows,
)
from titrant.tasks.p3 import P3Collection, read_p3
from titrant.tasks.seen import ANSWER_SEEN, answer_seen, mark_answer_seen
from titrant.tasks.skills import SKILL_SETS, SkillData, SkillSet, load_skill
from titrant.tasks.superni import TEST_INSTANCES, read_split_list, read_superni

__all__ = [
    "ANSWER_SEEN",
    "P3_RUNGS",
    "SKILL_SETS",
    "SUPERNI_RUNGS",
    "TEST_INSTANCES",
    "Ladder",
    "LookAlike",
    "P3Collection",
    "Rung",
    "RungRule",
    "SkillData",
    "SkillSet",
    "TargetSplit",
    "TaskInstance",
    "TextSplit",
    "answer_seen",
    "apart",
    "as_examples",
    "as_items",
    "build_ladder",
    "closed_labels",
    "closed_set",
    "common_items",
    "first_of_tasks",
    "items_of",
    "load_skill",
    "look_alike_line",
    "look_alikes",
    "mark_answer_seen",
    "marks_of",
    "merged_examples",
    "merged_items",
    "random_rung",
    "random_task_sets",
    "read_p3",
    "read_split_list",
    "read_superni",
    "refuse_overlap",
    "refuse_unseen_labels",
    "rung_of",
    "split_by_text",
    "split_rows",
]
