"""Spellings of one label: what differs in case, spaces or Unicode form only, and which spelling is the clean one."""

from __future__ import annotations

import json
import unicodedata

# Compatibility forms that are the same character in another width. Others (², ½, ﬁ) may be meant as they stand.
_WIDTHS = ("<wide>", "<narrow>", "<noBreak>")


def clean_spelling(text: str) -> str:
    """The text as it was most likely meant: composed letters, plain spaces, none outside, nothing invisible.

    >>> clean_spelling(" New\\u00a0 York "), clean_spelling("cafe\\u0301"), clean_spelling("\\uff39es")
    ('New York', 'café', 'Yes')
    """
    plain = "".join(_plain(character) for character in text)
    return unicodedata.normalize("NFC", " ".join(plain.split()))


def same_spelling(text: str) -> str:
    """What spellings of one label have in common: the clean spelling without its case."""
    return unicodedata.normalize("NFC", clean_spelling(text).casefold())


def shown_spelling(text: str) -> str:
    """The text in quotes, so that what cannot be seen in it is seen, and YAML reads it back as it is.

    >>> print(shown_spelling("cafe\\u0301"), shown_spelling("no\\u00a0"), shown_spelling("café"))
    "cafe\\u0301" "no\\u00a0" "café"
    """
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(_escaped(character) if _is_unseen(character) else character for character in quoted)


def _plain(character: str) -> str:
    if unicodedata.category(character) == "Cf":
        return ""
    width, _, code = unicodedata.decomposition(character).partition(" ")
    return chr(int(code, 16)) if width in _WIDTHS and " " not in code else character


def _is_unseen(character: str) -> bool:
    return not character.isprintable() or unicodedata.combining(character) != 0


def _escaped(character: str) -> str:
    return f"\\u{ord(character):04x}" if ord(character) < 1 << 16 else f"\\U{ord(character):08x}"
