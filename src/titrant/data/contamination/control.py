"""Rows whose own text holds control tokens: marks of a chat format that was not taken off when the rows were made.

An answer that ends with `<|endoftext|>`, or a column of text in another model's chat format, teaches a model to write
marks. What a model's own control tokens are its tokenizer knows and says through `find`; the marks of other models'
formats are few and known.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from titrant.core.records import Example, Item

# Marks of chat formats in wide use. `<s>` and `</s>` are also HTML (struck text), so they count at the edges alone.
_CHAT_MARKS = re.compile(
    r"\[/?INST\]|<</?SYS>>|<\|(?:im_start|im_end|im_sep|endoftext|eot_id|eom_id|start_header_id|end_header_id"
    r"|begin_of_text|end_of_text|system|user|assistant|end|eos)\|>|<(?:start|end)_of_turn>|<\uff5c[^<>]{3,30}\uff5c>"
    r"|\A\s*<s>|</s>\s*\Z"
)
_AROUND = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlTokenUse:
    """The rows of a source with control tokens in their text. `tokens` says for each in how many rows it stands, the
    commonest first; `place` and `snippet` are of the first such row."""

    source: str
    rows: int
    of: int
    tokens: tuple[tuple[str, int], ...]
    place: str
    snippet: str


def control_token_use(
    source: str, rows: Sequence[Example | Item], *, find: Callable[[str], Sequence[str]]
) -> ControlTokenUse | None:
    """Count the rows in whose texts `find` finds tokens; None where there are none."""
    counts: Counter[str] = Counter()
    found_rows = 0
    first: tuple[str, str] | None = None
    for row in rows:
        held = [(text, tokens) for text in _texts(row) if (tokens := find(text))]
        if not held:
            continue
        found_rows += 1
        counts.update({token for _, tokens in held for token in tokens})
        if first is None:
            text, tokens = held[0]
            first = (str(row.origin or row.row_id), _snippet(text, tokens[0]))
    if first is None:
        return None
    ordered = tuple(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))
    return ControlTokenUse(
        source=source, rows=found_rows, of=len(rows), tokens=ordered, place=first[0], snippet=first[1]
    )


def chat_marks(text: str) -> tuple[str, ...]:
    """The marks of known chat formats in a text.

    >>> chat_marks("[INST] Is <s>blue</s> red? [/INST] No.</s>")
    ('[INST]', '[/INST]', '</s>')
    """
    if "<" not in text and "[" not in text:  # nearly all texts: the pattern is slow to find nothing
        return ()
    return tuple(mark.strip() for mark in _CHAT_MARKS.findall(text))


def _texts(row: Example | Item) -> tuple[str, ...]:
    turns = tuple(turn.text for turn in row.turns)
    return turns if isinstance(row, Example) else (*turns, *row.references, *(row.choices or ()))


def _snippet(text: str, token: str) -> str:
    place = text.index(token)
    first, last = max(0, place - _AROUND), place + len(token) + _AROUND
    return ("…" if first else "") + " ".join(text[first:last].split()) + ("…" if last < len(text) else "")
