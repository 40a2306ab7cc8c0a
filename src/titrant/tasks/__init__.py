"""What is asked, and how an answer is judged."""

from titrant.tasks.own import (
    TargetSplit,
    closed_labels,
    items_of,
    refuse_overlap,
    refuse_unseen_labels,
    split_rows,
)

__all__ = [
    "TargetSplit",
    "closed_labels",
    "items_of",
    "refuse_overlap",
    "refuse_unseen_labels",
    "split_rows",
]
