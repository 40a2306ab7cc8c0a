"""What is asked, and how an answer is judged: the user's own target, collections of tasks, and the two ladders."""

from titrant.tasks.collection import TaskInstance, as_examples, as_items
from titrant.tasks.ladder import P3_RUNGS, Ladder, Rung, RungRule, build_ladder, random_task_sets
from titrant.tasks.own import (
    TargetSplit,
    closed_labels,
    items_of,
    refuse_overlap,
    refuse_unseen_labels,
    split_rows,
)
from titrant.tasks.p3 import P3Collection, read_p3
from titrant.tasks.skills import ANSWER_SEEN, SKILL_SETS, SkillData, SkillSet, load_skill
from titrant.tasks.superni import TEST_INSTANCES, read_split_list, read_superni

__all__ = [
    "ANSWER_SEEN",
    "P3_RUNGS",
    "SKILL_SETS",
    "TEST_INSTANCES",
    "Ladder",
    "P3Collection",
    "Rung",
    "RungRule",
    "SkillData",
    "SkillSet",
    "TargetSplit",
    "TaskInstance",
    "as_examples",
    "as_items",
    "build_ladder",
    "closed_labels",
    "items_of",
    "load_skill",
    "random_task_sets",
    "read_p3",
    "read_split_list",
    "read_superni",
    "refuse_overlap",
    "refuse_unseen_labels",
    "split_rows",
]
