"""A metric tried on the references before anything is trained: what it cannot read, and what it cannot tell apart.

A reference must score 1 against itself and less against another item's. Where it does not, every arm gets the same
score whatever it writes, and the verdict is *no difference*: nothing in the results would show that the metric failed.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from titrant.scoring.metrics.one_number import number_fault
from titrant.scoring.metrics.text import NO_ROUGE_TOKENS, normal_form

MOST_FAILED = 0.05
"""The largest share of items that a metric may fail on."""
NOTHING_LEFT = "nothing is left of it once punctuation (and, by f1, articles) is deleted"

_EDGES = "\"'()[]{},;:!?“”‘’«»"
# Between letters a hyphen, an apostrophe, a slash, an ampersand or a point joins parts of one word (e-mail, U.S.).
_JOINT = re.compile(r"(?<=\w)[-'’&/.](?=[^\W\d])|(?<=[^\W\d])[-'’&/.](?=\w)")
_THOUSANDS = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")
_MARK = re.compile(r"[-+#<>=≠*%$&^~|\\@_/\u2212]|(?<=[0-9])[.,:](?=[0-9])|(?<![0-9])\.(?=[0-9])")
_LONE_MARKS = ("-", "–", "—", "&", "/", "*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """An item (by its place among those that were tried) none of whose references the metric can read."""

    item: int
    reference: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """An item with a reference that the metric takes for `other`, another item's and by its marks another answer."""

    item: int
    reference: str
    other: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What trying a metric on the references of `items` items showed."""

    metric: str
    items: int
    unread: tuple[Unread, ...]
    merged: tuple[Merged, ...]

    @property
    def failed_share(self) -> float:
        """The share of items that the metric cannot judge, 0 to 1."""
        return (len(self.unread) + len(self.merged)) / self.items if self.items else 0.0

    @property
    def passed(self) -> bool:
        """Whether the metric may judge these items."""
        return self.failed_share <= MOST_FAILED


def try_metric(metric: str, references: Sequence[Sequence[str]]) -> Trial:
    """Try a metric of `METRICS` on the right answers of every item.

    Alternatives of one item may be one to the metric; those of two items may be so only where they differ in what the
    metric is there to ignore: case, spaces, articles, word endings, sentence punctuation. A mark that carries a meaning
    (a sign, a decimal point, the + of C++) is not among these.

    >>> trial = try_metric("exact_match", [["-1"], ["1"], ["-1"]])
    >>> trial.passed, trial.merged[0]
    (False, Merged(item=0, reference='-1', other='1'))
    >>> try_metric("exact_match", [["Paris."], ["paris"]]).passed, try_metric("accuracy", [["-1"], ["1"]]).passed
    (True, True)
    """
    unread = []
    senses: dict[Hashable, dict[Hashable, str]] = {}  # of every normal form: its different senses, with a text of each
    readable: list[tuple[int, str, Hashable]] = []
    for number, right in enumerate(references):
        faults = [_unread_reason(metric, reference) for reference in right]
        if all(fault is not None for fault in faults):
            unread.append(Unread(item=number, reference=right[0], reason=str(faults[0])))
        for reference, fault in zip(right, faults, strict=True):
            if fault is None:
                form = normal_form(metric, reference)
                readable.append((number, reference, form))
                senses.setdefault(form, {}).setdefault(_sense(reference), reference)
    merged: dict[int, Merged] = {}
    if metric not in ("accuracy", "last_number"):
        for number, reference, form in readable:
            own = {_sense(alternative) for alternative in references[number]} if len(senses[form]) > 1 else set()
            other = next((text for sense, text in senses[form].items() if sense not in own), None) if own else None
            if other is not None:
                merged.setdefault(number, Merged(item=number, reference=reference, other=other))
    return Trial(metric=metric, items=len(references), unread=tuple(unread), merged=tuple(merged.values()))


def _unread_reason(metric: str, reference: str) -> str | None:
    """Why a metric cannot read a reference; None where it can. An empty reference is one to say nothing."""
    if metric == "last_number":
        return number_fault(reference)
    form = normal_form(metric, reference)
    if form is None:
        return NO_ROUGE_TOKENS
    return NOTHING_LEFT if not form and reference.strip() else None


def _sense(text: str) -> tuple[str, ...]:
    """The words of a text that hold a mark with a meaning, sorted; what is left of `text` in them is compared.

    >>> _sense("It is -1.5%, well-known."), _sense("The U.S. e-mail"), _sense("C++"), _sense("1,000")
    (('-1.5%',), (), ('c++',), ())
    """
    found = []
    for word in text.casefold().replace("!=", "≠").split():
        stripped = word.strip(_EDGES)
        stripped = stripped.rstrip(".") if len(stripped) > 1 else stripped
        bare = _THOUSANDS.sub("", _JOINT.sub("", stripped))
        if _MARK.search(bare) and bare not in _LONE_MARKS:
            found.append(bare)
    return tuple(sorted(found))
