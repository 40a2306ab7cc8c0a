"""The names that the parts of a row go by in public sets, where these are families rather than a few words."""

from __future__ import annotations

_STEMS = ("sentence", "question", "text", "sent", "premise", "passage", "document", "query", "s")
_ENDINGS = (("1", "2"), ("_1", "_2"), ("_a", "_b"), ("_A", "_B"), ("A", "B"))

TEXT_PAIRS: tuple[tuple[str, str], ...] = (
    ("premise", "hypothesis"),
    *((stem + one, stem + other) for stem in _STEMS for one, other in _ENDINGS),
    ("question", "passage"),
    ("question", "context"),
    ("question", "sentence"),
    ("query", "passage"),
    ("query", "document"),
    ("query", "text"),
    ("claim", "evidence"),
    ("title", "body"),
    ("title", "text"),
    ("title", "content"),
    ("text", "aspect"),
    ("sentence", "aspect"),
)
"""Two columns that a label is about together."""

ASKED: tuple[str | tuple[str, str], ...] = (
    ("premise", "question"),
    "question",
    "question_stem",
    "stem",
    "ctx",
    ("ctx_a", "ctx_b"),
    "goal",
    ("obs1", "obs2"),
    "premise",
    "sentence",
    "query",
)
"""What the choices of a row continue, complete or answer."""

RIGHT_CHOICE = (
    "answer",
    "answers",
    "answerKey",
    "answer_key",
    "answer_idx",
    "label",
    "gold",
    "gold_label",
    "cop",
    "correct",
    "correct_answer",
    "correct_option",
    "correct_choice",
    "correct_index",
    "target",
)
"""Which choice is right, by its text, its name or its place. Only beside choices: alone, a label is a class."""

WRONG_CHOICES = ("distractors", "incorrect_answers", "wrong_answers")
"""Choices without the right one, which stands in a column of its own."""
