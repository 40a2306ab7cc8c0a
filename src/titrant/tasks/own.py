"""The user's own target: its closed set of labels, its split, and the promise that no test item was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from titrant.core.errors import DataError
from titrant.core.identity import hash_text
from titrant.core.records import Example, Item, Turn
from titrant.data.readers import are_quantities

_MAX_PROBLEMS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSplit:
    """Rows of one file, parted: those that are trained on, and those held out (both in file order)."""

    train: tuple[Example, ...]
    held_out: tuple[Example, ...]


def closed_labels(examples: Iterable[Example]) -> tuple[str, ...]:
    """The closed set of answers of a target: the sorted labels of its whole training file.

    Rows without a label (question and answer, say) give their answer. An arm of 48 rows chooses among the same labels
    as one of 160, so that a target size does not change the question.
    """
    labels = tuple(sorted({example.label if example.label is not None else example.answer for example in examples}))
    if len(labels) < 2:
        raise DataError(
            "a target with one label asks nothing", got=", ".join(labels) or "no rows", expected="at least two labels"
        )
    return labels


def split_rows(examples: Sequence[Example], *, share: float, name: str) -> TargetSplit:
    """Hold out `share` (0 to 1) of the rows: by content hash, in proportion within each label.

    Deterministic and independent of the rows' order. Rows on the same text (case and spaces aside), or of the same
    group, stay on one side; a label with a single text stays in training, so that every label held out was trained on.
    Labels that are amounts do not divide the rows.
    `name` (`test`, `validation`) makes independent splits. The parts are as near to the share as whole texts allow.
    """
    if not 0 < share < 1:
        raise DataError("a share must lie between 0 and 1", where=f"{name}_share", got=share)
    texts = _units(examples)
    # Amounts (similarities from 0 to 5) are no classes: most stand once, and would all stay in training.
    classes = not are_quantities(row.label or "" for row in examples)
    strata: dict[str, list[str]] = {}
    for text, rows in texts.items():
        strata.setdefault(min(row.label or "" for row in rows) if classes else "", []).append(text)
    held: set[str] = set()
    counts = _largest_remainders({label: len(units) for label, units in strata.items()}, share)
    for label, units in strata.items():
        ranked = sorted(units, key=lambda text: hash_text(f"{name}\n{text}"))
        held.update(ranked[: counts[label]])
    if not held or len(held) == len(texts):
        raise DataError(
            f"a share of {share:g} leaves one side empty", where=f"{name}_share", got=f"{len(texts)} different texts"
        )
    held_keys = {row.key for text in held for row in texts[text]}
    return TargetSplit(
        train=tuple(row for row in examples if row.key not in held_keys),
        held_out=tuple(row for row in examples if row.key in held_keys),
    )


def items_of(held_out: Sequence[Example], *, examples: Sequence[Example], items: Sequence[Item]) -> tuple[Item, ...]:
    """The rows held out, as items: `examples` and `items` are the same file read as the one and as the other."""
    if [example.row_id for example in examples] != [item.row_id for item in items]:
        raise DataError(f"{len(examples)} training rows and {len(items)} items are not the same file's")
    keys = {example.key for example in held_out}
    return tuple(item for example, item in zip(examples, items, strict=True) if example.key in keys)


def refuse_overlap(examples: Iterable[Example], items: Iterable[Item]) -> None:
    """`DataError` naming both lines where a test item's prompt stands among the target's own training rows.

    Prompts are compared without case and with spaces folded; the answer does not matter.
    """
    trained: dict[str, Example] = {}
    for example in examples:
        trained.setdefault(_folded(example.prompt), example)
    found = [(item, trained[text]) for item in items if (text := _folded(item.turns)) in trained]
    if not found:
        return
    lines = [
        f"{_place(item.origin, item.row_id)}: this test item is also the training row "
        f"{_place(example.origin, example.row_id)}"
        for item, example in found[:_MAX_PROBLEMS]
    ]
    fix = "remove it from one of the two, or give rows: and test_share: and let Titrant split"
    if len(found) == 1:
        raise DataError(lines[0], got=found[0][0].turns[-1].text, fix=fix)
    more = f"\n  and {len(found) - _MAX_PROBLEMS} more" if len(found) > _MAX_PROBLEMS else ""
    head = f"{len(found)} test items stand in the training rows"
    raise DataError(f"{head}:\n  " + "\n  ".join(lines) + more, fix=fix)


def refuse_unseen_labels(items: Iterable[Item], labels: Sequence[str]) -> None:
    """`DataError` naming every item (up to 20) none of whose references training ever showed."""
    known = set(labels)
    lines = [
        f"{_place(item.origin, item.row_id)}: the label {item.references[0]!r} was never seen in training"
        for item in items
        if not known.intersection(item.references)
    ]
    if lines:
        head = lines[0] if len(lines) == 1 else f"{len(lines)} labels:\n  " + "\n  ".join(lines[:_MAX_PROBLEMS])
        raise DataError(
            head, expected="one of " + ", ".join(labels), fix="add training rows with it, or correct the label"
        )


def _units(examples: Sequence[Example]) -> dict[str, list[Example]]:
    """Rows that must stay together, under a name that depends on their content alone.

    Two rows belong together when they share a text or a group, directly or through others.
    """
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    # A union of sets that share a member: texts and groups are both names in one forest, told apart by their prefix.
    texts = [f"text\n{_folded(example.prompt or example.turns)}" for example in examples]
    for example, text in zip(examples, texts, strict=True):
        if example.group is not None:
            # The smaller name leads, so that the name of a unit does not depend on the order of rows.
            one, other = sorted((find(text), find(f"group\n{example.group}")))
            leader[other] = one
    units: dict[str, list[Example]] = {}
    for example, text in zip(examples, texts, strict=True):
        units.setdefault(find(text), []).append(example)
    return units


def _largest_remainders(sizes: dict[str, int], share: float) -> dict[str, int]:
    """How many units each stratum gives, so that the total is the nearest whole number; never all of a stratum.

    >>> _largest_remainders({"a": 7, "b": 3, "c": 1}, 0.2)
    {'a': 1, 'b': 1, 'c': 0}
    """
    # From the share as it is written: 0.1 as a float is a little more than a tenth.
    exact = {label: Fraction(str(share)) * size for label, size in sizes.items()}
    counts = {label: int(part) for label, part in exact.items()}
    missing = round(sum(exact.values())) - sum(counts.values())
    by_remainder = sorted(exact, key=lambda label: (counts[label] - exact[label], label))
    for label in by_remainder:
        if missing <= 0:
            break
        if counts[label] < sizes[label] - 1:
            counts[label] += 1
            missing -= 1
    return counts


def _folded(turns: Sequence[Turn]) -> str:
    """A text for comparing: every turn, without case and with white space folded."""
    return "\n".join(f"{turn.role}: {' '.join(turn.text.casefold().split())}" for turn in turns)


def _place(origin: object, row_id: str) -> str:
    return str(origin) if origin is not None else f"row {row_id}"
