"""One way to look at text for every comparison: folded text, words, shingles, and what of a prompt is an item's own.

*Folded text* (for equality): Unicode NFKC, case folded, every run of white space one space; punctuation is kept, so
`2+3` and `2-3` stay different. *Words* (for overlap): folded text cut at everything that is neither letter nor digit;
apostrophes vanish (`don't` is `dont`), an operator between two numbers is a word of its own, and each character of a
script that writes no spaces (Chinese, Japanese, Thai …) is a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from titrant.core.records import Item, Turn

# Below this many prompts of one task, equal first lines may be a shared passage and not an instruction.
SHARED_BY_AT_LEAST = 5

_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_SPACELESS}]|[^\W_{_SPACELESS}]+")
_ASCII_WORD = re.compile(r"[a-z0-9]+")
_APOSTROPHES = str.maketrans("", "", "'’ʼ`")
_OPERATOR = re.compile(r"(?<=[0-9)])\s*([-+*/=<>^%×÷−–])\s*(?=[0-9(])")
_LABEL = re.compile(r"\s*[^\n:]{1,40}:\s")


def folded(text: str) -> str:
    """The text for comparisons of equality: NFKC, case folded, white space folded, punctuation kept.

    >>> folded("  Is THIS\\n\\nthe same? ")
    'is this the same?'
    """
    if text.isascii():
        return " ".join(text.lower().split())
    # Case folding can leave forms that NFKC would join, so it is done on both sides of it.
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())


def words(text: str) -> list[str]:
    """The words of a text, for overlap.

    >>> words("Don't panic: 12 + 7 is nineteen_ok")
    ['dont', 'panic', '12', 'op43', '7', 'is', 'nineteen', 'ok']
    """
    flat = folded(text).translate(_APOSTROPHES)
    # Else `12 + 7` and `12 - 7` would be the same words, and two sums of one exercise the same item.
    flat = _OPERATOR.sub(lambda found: f" op{ord('-' if found[1] in '−–' else found[1])} ", flat)
    return (_ASCII_WORD if flat.isascii() else _WORD).findall(flat)


def shingles(text: str, *, length: int) -> frozenset[str]:
    """The set of runs of `length` words; of a shorter text, its words as one run (nothing for a text without words).

    >>> sorted(shingles("a b c d", length=3))
    ['a b c', 'b c d']
    """
    found = words(text)
    if not found:
        return frozenset()
    return frozenset(" ".join(found[start : start + length]) for start in range(max(1, len(found) - length + 1)))


def user_text(turns: Sequence[Turn]) -> str:
    """What the user says in a prompt, over all turns."""
    return "\n".join(turn.text for turn in turns if turn.role == "user")


def own_texts(items: Sequence[Item], *, instructions: Collection[str] = ()) -> tuple[str, ...]:
    """For every item its own text: what the user says, without the instruction that all items of its task share.

    Items are grouped by eval set, target and task; see `own_parts`. The order is that of `items`.
    """
    groups: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        groups[(item.eval_set, item.target, item.task)].append(place)
    own = [""] * len(items)
    for places in groups.values():
        parts = own_parts([user_text(items[place].turns) for place in places], instructions=instructions)
        for place, part in zip(places, parts, strict=True):
            own[place] = part
    return tuple(own)


def own_parts(texts: Sequence[str], *, instructions: Collection[str] = ()) -> tuple[str, ...]:
    """The texts without what they all share: known instructions at the start, then the longest common first lines, the
    longest common last lines, and a label such as `Input: ` before the first line that is left.

    Common lines are looked for only among at least `SHARED_BY_AT_LEAST` texts that are not all equal (fewer could share
    a passage by chance), and never take the last line of any text.

    >>> own_parts([f"Route it.\\n\\nText: {word}\\nTeam:" for word in ("a", "b", "c", "d", "e")])
    ('a', 'b', 'c', 'd', 'e')
    """
    frame = frame_of(texts, instructions=instructions)
    return tuple(frame.own(text) for text in texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What all prompts of a task share: known instructions, first and last lines, and a label before the rest."""

    instructions: tuple[str, ...]
    head: tuple[str, ...]
    tail: tuple[str, ...]
    label: str

    def own(self, text: str) -> str:
        """The text without as much of the frame as it has, one of the task's or of another; never nothing."""
        text = _without_instruction(text, self.instructions)
        lines = text.split("\n")
        if self.head and len(lines) > len(self.head) and tuple(lines[: len(self.head)]) == self.head:
            lines = lines[len(self.head) :]
        if self.tail and len(lines) > len(self.tail) and tuple(lines[-len(self.tail) :]) == self.tail:
            lines = lines[: -len(self.tail)]
        if self.head or self.tail or self.label:
            text = "\n".join(lines).strip()
        return text.removeprefix(self.label).strip() if self.label else text


def frame_of(texts: Sequence[str], *, instructions: Collection[str] = ()) -> Frame:
    """What the texts share, by the rules of `own_parts`."""
    kept = [_without_instruction(text, instructions) for text in texts]
    bare = Frame(instructions=tuple(instructions), head=(), tail=(), label="")
    if len(set(kept)) < 2 or len(kept) < SHARED_BY_AT_LEAST:
        return bare
    lines = [text.split("\n") for text in kept]
    # At least one line is left of every text: a frame may never swallow an item whole.
    head = _common(lines, most=min(map(len, lines)) - 1)
    lines = [entry[head:] for entry in lines]
    tail = _common([entry[::-1] for entry in lines], most=min(map(len, lines)) - 1)
    rest = ["\n".join(entry[: len(entry) - tail]).strip() for entry in lines]
    label = _LABEL.match(rest[0])
    shared = label[0] if label is not None and all(text.startswith(label[0]) for text in rest) else ""
    first = kept[0].split("\n")
    return replace(bare, head=tuple(first[:head]), tail=tuple(first[len(first) - tail :]), label=shared)


def _without_instruction(text: str, instructions: Collection[str]) -> str:
    # The longest first, as one instruction may begin with another.
    for instruction in sorted(instructions, key=len, reverse=True):
        if instruction and text.startswith(instruction) and text[len(instruction) :].strip():
            return text[len(instruction) :].strip()
    return text


def _common(sequences: Sequence[Sequence[str]], *, most: int) -> int:
    """How many leading elements all sequences share, at most `most`."""
    first = sequences[0]
    for count in range(most):
        if any(sequence[count] != first[count] for sequence in sequences):
            return count
    return most
