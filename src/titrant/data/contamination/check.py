"""Everything that is known about the cleanness of a study's rows in one record, and as text to read.

The study removes the rows named by `leaked_keys` from each pool before anything is drawn, and counts them; it never
drops a test item. Duplicates are reported and left to the user.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from titrant.core.errors import DataError
from titrant.core.records import Example, Item
from titrant.data.contamination.duplicates import Duplicate, DuplicateSettings, duplicates
from titrant.data.contamination.overlap import (
    ContaminatedRow,
    ContaminationSettings,
    Overlap,
    contaminated,
    target_overlap,
)
from titrant.data.contamination.task_similarity import TaskSimilarity, TaskSimilaritySettings, own_kind_share


@dataclass(frozen=True, slots=True, kw_only=True)
class HygieneSettings:
    """The settings of all checks together."""

    leaks: ContaminationSettings = field(default_factory=ContaminationSettings)
    duplicates: DuplicateSettings = field(default_factory=DuplicateSettings)
    task_similarity: TaskSimilaritySettings = field(default_factory=TaskSimilaritySettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolCheck:
    """One pool: its rows, the leaks in it, and how much of it is the target's own kind."""

    source: str
    rows: int
    leaks: tuple[ContaminatedRow, ...]
    task_similarity: TaskSimilarity

    @property
    def leaked_keys(self) -> frozenset[str]:
        """The keys of the rows to remove before the draw."""
        return frozenset(leak.row_key for leak in self.leaks)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """All pools, the user's own rows that are test items (an error), those that hold one nearly (a warning), and every
    duplicate within and across pools and target."""

    pools: tuple[PoolCheck, ...]
    overlaps: tuple[Overlap, ...]
    target_leaks: tuple[ContaminatedRow, ...]
    duplicates: tuple[Duplicate, ...]


def check_report(
    *,
    train: Sequence[Example],
    items: Sequence[Item],
    pools: Mapping[str, Sequence[Example]],
    labels: Collection[str] = (),
    instructions: Collection[str] = (),
    settings: HygieneSettings | None = None,
) -> CheckReport:
    """Run every check. `items` are those of all eval sets; `labels` and `instructions` those of the target."""
    settings = settings or HygieneSettings()
    overlaps = target_overlap(train, items)
    # Rows whose prompt is the item's are errors already: named a second time as near ones they would look like another
    # fault.
    equal = {(overlap.row_id, overlap.item_id) for overlap in overlaps}
    near = contaminated(train, items, settings=settings.leaks, instructions=instructions)
    everything = {**({train[0].source: train} if train else {}), **pools}
    return CheckReport(
        pools=tuple(
            PoolCheck(
                source=source,
                rows=len(rows),
                leaks=contaminated(rows, items, settings=settings.leaks, instructions=instructions),
                task_similarity=own_kind_share(
                    rows, train, labels=labels, settings=settings.task_similarity, instructions=instructions
                ),
            )
            for source, rows in pools.items()
        ),
        overlaps=overlaps,
        target_leaks=tuple(leak for leak in near if (leak.row_id, leak.item_id) not in equal),
        duplicates=duplicates(everything, settings=settings.duplicates),
    )


def refuse_overlap(overlaps: Sequence[Overlap]) -> None:
    """`DataError` naming both lines of the first test item that is among the user's own training rows."""
    if not overlaps:
        return
    first = overlaps[0]
    more = f" (and {len(overlaps) - 1} more)" if len(overlaps) > 1 else ""
    raise DataError(
        f"a test item is among the training rows: it is also {first.item_origin or first.item_id}{more}",
        where=str(first.row_origin or first.row_id),
        got=first.text,
        expected="training rows that share no text with a test item",
        fix="remove the row from one of the two files",
    )


def check_lines(report: CheckReport, *, evidence: int = 5) -> tuple[str, ...]:
    """The report as lines to print, with up to `evidence` leaks and duplicates of each pool side by side."""
    lines = []
    for overlap in report.overlaps[:evidence]:
        lines.append(f"error: training row {overlap.row_origin or overlap.row_id} is test item "
                     f"{overlap.item_origin or overlap.item_id}: {overlap.text}")  # fmt: skip
    if len(report.overlaps) > evidence:
        lines.append(f"error: {len(report.overlaps)} training rows are test items in all")
    if report.target_leaks:
        lines.append(f"target: {_rows(report.target_leaks)} training rows hold most of a test item")
        lines.extend(_leak_lines(report.target_leaks, evidence))
    for pool in report.pools:
        removed = len(pool.leaked_keys)
        lines.append(
            f"{pool.source}: {pool.rows} rows, {removed} of them hold a test item and are removed before the draw"
        )
        lines.extend(_leak_lines(pool.leaks, evidence))
        kin = pool.task_similarity
        by_text = f"not by wording: {kin.reason}"
        if kin.by_text is not None:
            by_text = f"{kin.by_text:.1%} by wording, {kin.by_text_low:.1%} to {kin.by_text_high:.1%}"
        lines.append(
            f"  {kin.share:.1%} look like the target's own kind of task "
            f"({kin.by_labels:.1%} by its labels, {by_text}; from {kin.pool_rows} rows)"
        )
        lines.extend(f"    for example {near.row_origin or near.row_id}: {near.text}" for near in kin.nearest)
    counts = Counter((entry.kind, entry.row.source, entry.kept.source) for entry in report.duplicates)
    for (kind, source, kept), count in sorted(counts.items()):
        place = "itself" if source == kept else kept
        lines.append(f"{source}: {count} {kind} duplicates of rows in {place}")
    for entry in report.duplicates[:evidence]:
        lines.append(f"  {entry.kind} ({entry.similarity:.2f}) {entry.row.origin or entry.row.row_id} = "
                     f"{entry.kept.origin or entry.kept.row_id}")  # fmt: skip
        row, kept = _side_by_side(entry.row, entry.kept)
        lines.append(f"    row:  {row}")
        lines.append(f"    kept: {kept}")
    return tuple(lines)


def _side_by_side(row: Example, kept: Example, *, most: int = 240) -> tuple[str, str]:
    """Both texts from a few words before they part, where they do."""
    texts = [" ".join(turn.text for turn in entry.turns).split() for entry in (row, kept)]
    same = next((n for n, (one, other) in enumerate(zip(*texts, strict=False)) if one != other), min(map(len, texts)))
    first = max(0, same - 12) if texts[0] != texts[1] else 0
    shown = [("… " if first else "") + " ".join(words[first:]) for words in texts]
    cut = [text if len(text) <= most else text[: most - 1] + "…" for text in shown]
    return cut[0], cut[1]


def _rows(leaks: Sequence[ContaminatedRow]) -> int:
    return len({leak.row_key for leak in leaks})


def _leak_lines(leaks: Sequence[ContaminatedRow], evidence: int) -> list[str]:
    lines = []
    for leak in leaks[:evidence]:
        lines.append(f"  {leak.kind} {leak.overlap:.0%} in the {leak.part}, row {leak.row_origin or leak.row_id}, "
                     f"{leak.eval_set} item {leak.item_origin or leak.item_id}")  # fmt: skip
        lines.append(f"    row:  {leak.row_snippet}")
        lines.append(f"    item: {leak.item_snippet}")
    return lines
