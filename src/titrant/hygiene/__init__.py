"""Clean pools: duplicates, test items inside training rows, and how much of a pool is the target's own kind of task."""

from titrant.hygiene.check import CheckReport, HygieneSettings, PoolCheck, check_lines, check_report, refuse_overlap
from titrant.hygiene.duplicates import Duplicate, DuplicateSettings, duplicates
from titrant.hygiene.kinship import Kin, Kinship, KinshipSettings, own_kind_share
from titrant.hygiene.leaks import Leak, LeakSettings, Overlap, contaminated, target_overlap
from titrant.hygiene.words import folded, own_parts, own_texts, words

__all__ = [
    "CheckReport",
    "Duplicate",
    "DuplicateSettings",
    "HygieneSettings",
    "Kin",
    "Kinship",
    "KinshipSettings",
    "Leak",
    "LeakSettings",
    "Overlap",
    "PoolCheck",
    "check_lines",
    "check_report",
    "contaminated",
    "duplicates",
    "folded",
    "own_kind_share",
    "own_parts",
    "own_texts",
    "refuse_overlap",
    "target_overlap",
    "words",
]
