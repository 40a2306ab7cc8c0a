"""Clean pools: duplicates, test items inside training rows, and how much of a pool is the target's own kind of task."""

from titrant.data.contamination.check import (
    CheckReport,
    HygieneSettings,
    PoolCheck,
    check_lines,
    check_report,
    refuse_overlap,
)
from titrant.data.contamination.control import ControlTokenUse, chat_marks, control_token_use
from titrant.data.contamination.duplicates import Duplicate, DuplicateSettings, duplicates
from titrant.data.contamination.overlap import (
    ContaminatedRow,
    ContaminationSettings,
    Overlap,
    contaminated,
    contaminated_rows,
    target_overlap,
)
from titrant.data.contamination.task_similarity import (
    SimilarTask,
    TaskSimilarity,
    TaskSimilaritySettings,
    own_kind_share,
)
from titrant.data.contamination.words import folded, own_parts, own_texts, words

__all__ = [
    "CheckReport",
    "ContaminatedRow",
    "ContaminationSettings",
    "ControlTokenUse",
    "Duplicate",
    "DuplicateSettings",
    "HygieneSettings",
    "Overlap",
    "PoolCheck",
    "SimilarTask",
    "TaskSimilarity",
    "TaskSimilaritySettings",
    "chat_marks",
    "check_lines",
    "check_report",
    "contaminated",
    "contaminated_rows",
    "control_token_use",
    "duplicates",
    "folded",
    "own_kind_share",
    "own_parts",
    "own_texts",
    "refuse_overlap",
    "target_overlap",
    "words",
]
