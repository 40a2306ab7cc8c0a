"""Labels that look alike, and rows whose labels are merged because the study says so.

A label is an identity: `Positive` and `positive` are two answers to choose from, and a model that gives the other one
is wrong. Most often they are one label typed in two ways, which only the user can say; nothing is merged by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from titrant.core.errors import DataError
from titrant.core.records import Example, Item, Turn
from titrant.data.spelling import clean_spelling, same_spelling, shown_spelling

MOST_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAlike:
    """Spellings that differ in case, spaces or Unicode form only, with how many rows have each, the commonest first.

    One spelling stands alone where it is no clean one.
    """

    spellings: tuple[tuple[str, int], ...]

    @property
    def label(self) -> str:
        """The spelling to merge into: the commonest of the clean ones, cleaned where none is."""
        texts = [text for text, _ in self.spellings]
        return next((text for text in texts if text == clean_spelling(text)), clean_spelling(texts[0]))


def look_alikes(labels: Iterable[str]) -> tuple[LookAlike, ...]:
    """Which of these labels (one a row) differ from another, or from a clean spelling, in case, spaces or Unicode form.

    >>> [found.spellings for found in look_alikes(["Yes", "yes", "yes", "no", "no "])]
    [(('yes', 2), ('Yes', 1)), (('no', 1), ('no ', 1))]
    """
    counts = Counter(labels)
    alike: dict[str, list[str]] = {}
    for label in counts:
        alike.setdefault(same_spelling(label), []).append(label)
    return tuple(
        LookAlike(
            spellings=tuple((label, counts[label]) for label in sorted(same, key=lambda one: (-counts[one], one)))
        )
        for same in alike.values()
        if len(same) > 1 or same[0] != clean_spelling(same[0])
    )


def look_alike_line(found: Sequence[LookAlike]) -> str:
    """What to tell the user: the spellings with their counts, and how to merge them in the study."""
    named = "; ".join(
        " and ".join(f"{shown_spelling(text)} ({rows} rows)" for text, rows in one.spellings)
        for one in found[:MOST_NAMED]
    )
    more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return (
        f"labels are taken as they stand, where they differ in case, spaces or Unicode form only, too: {named}{more}. "
        f"To merge them: {merge_setting(found[:MOST_NAMED])} in the target"
    )


def contradiction_line(rows: Iterable[Example | Item]) -> str | None:
    """What to tell of texts that stand with different labels; None where there are none.

    No model can be right on all of such rows, and which of them are held out decides what is measured.
    """
    first: dict[tuple[Turn, ...], tuple[str, str]] = {}
    against: dict[tuple[Turn, ...], str] = {}
    for row in rows:
        prompt, label = (row.prompt, row.answer) if isinstance(row, Example) else (row.turns, row.references[0])
        place = str(row.origin) if row.origin is not None else f"row {row.row_id}"
        known, where = first.setdefault(prompt, (label, place))
        if known != label:
            against.setdefault(prompt, f"{where} ({shown_spelling(known)}) and {place} ({shown_spelling(label)})")
    if not against:
        return None
    texts = "1 text stands" if len(against) == 1 else f"{len(against):,} texts stand"
    return f"{texts} with different labels, such as {next(iter(against.values()))}: no model can be right on both"


def merge_setting(found: Sequence[LookAlike]) -> str:
    """The study's key that merges look-alikes, in YAML.

    >>> merge_setting(look_alikes(["Yes", "yes", "yes", "no ", " no"]))
    'merge_labels: {"yes": ["Yes"], "no": [" no", "no "]}'
    """
    parts = (
        f"{shown_spelling(one.label)}: "
        f"[{', '.join(shown_spelling(text) for text, _ in one.spellings if text != one.label)}]"
        for one in found
    )
    return f"merge_labels: {{{', '.join(parts)}}}"


def merged_examples(rows: Sequence[Example], spellings: Mapping[str, str]) -> tuple[Example, ...]:
    """Rows with their labels merged: `spellings` says for each spelling which label it stands for.

    An answer that is the spelling is written as the label. Keys stay those of the file's rows.
    """
    return tuple(_merged_row(row, spellings) for row in rows) if spellings else tuple(rows)


def _merged_row(row: Example, spellings: Mapping[str, str]) -> Example:
    answer = spellings.get(row.answer, row.answer)
    label = row.label if row.label is None else spellings.get(row.label, row.label)
    return replace(row, turns=(*row.turns[:-1], Turn(role="assistant", text=answer)), label=label)


def merged_items(items: Sequence[Item], spellings: Mapping[str, str]) -> tuple[Item, ...]:
    """Items with their right answers and choices merged as `merged_examples` merges rows; each choice stands once."""
    return tuple(
        replace(
            item,
            references=merged_texts(item.references, spellings),
            choices=None if item.choices is None else merged_texts(item.choices, spellings),
        )
        for item in items
    )


def refuse_unused_spellings(spellings: Mapping[str, str], rows: Sequence[Example], items: Sequence[Item]) -> None:
    """`DataError` where neither a row nor an item, as they stand in the file, has a label that is to be merged."""
    known = {text for row in rows for text in (row.label or row.answer, row.answer)}
    known.update(reference for item in items for reference in item.references)
    unused = [text for text in spellings if text not in known]
    if unused:
        labels = sorted({row.label or row.answer for row in rows})[:20]
        raise DataError(
            "merge_labels names a label that no row has",
            got=repr(unused[0]),
            expected="one of " + ", ".join(map(repr, labels)),
            fix="write it as it stands in the file, outer spaces too, or leave it out",
        )


def merged_texts(texts: Sequence[str], spellings: Mapping[str, str]) -> tuple[str, ...]:
    """Labels with those merged that `spellings` names, each once, in their order."""
    return tuple(dict.fromkeys(spellings.get(text, text) for text in texts))
