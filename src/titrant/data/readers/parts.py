"""The parts that rows are made of, and the names that each goes by in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

JOIN = "\n\n"
ColumnMap = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Part:
    """One part of a row: the name that a study's `columns` gives it, and the names it has in files, best first.

    Several columns in one name are one text: `("premise", "hypothesis")`.
    """

    role: str
    names: tuple[str | tuple[str, ...], ...]

    @property
    def single_names(self) -> tuple[str, ...]:
        """The names of one column, which are those that `columns` may map."""
        return tuple(dict.fromkeys((self.role, *(name for name in self.names if isinstance(name, str)))))


def _part(role: str, *others: str | tuple[str, ...]) -> Part:
    return Part(role=role, names=(role, *others))


BY_PLACE = ("answer_text", "answer_index", "answer_number", "answer_letter")
ID, ROW_ID, LABEL = _part("id"), _part("row_id"), _part("label")
TASK, GROUP, METADATA = _part("task"), _part("group"), _part("metadata")
MESSAGES = _part("messages", "conversations", "conversation", "contents")
SYSTEM = _part("system", "system_prompt", "system_message")
HISTORY = _part("history")
QUESTION = Part(role="question", names=(("premise", "question"), "question", "question_stem"))
ANSWER = _part("answer", "answers", "answerKey", "answer_key", "answer_idx", *BY_PLACE)
CONTEXT = _part("context", "passage", "article")
WRONG_CHOICES = ("distractors", "incorrect_answers", "wrong_answers")
"""Choices without the right one, which stands in a column of its own."""
CHOICES = _part("choices", "options", "endings", *WRONG_CHOICES)
"""Also columns of one choice each, whose names are families rather than words (`options`)."""
CHOSEN_FOR = Part(
    role="question",
    # What the choices of a row continue, complete or answer.
    names=(
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
    ),
)
SUPPORT = _part("context", "passage", "article", "support")
# Which choice is right, by its text, its name or its place. Only beside choices: alone, a label is a class.
RIGHT = _part(
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
    *BY_PLACE,
)
INSTRUCTION = _part("instruction")
INPUT = _part("input", "context")
ONLY_INPUT = _part("input")
OUTPUT = _part("output", "response", *BY_PLACE)
PROMPT = _part("prompt")
COMPLETION = _part("completion", "response")
PLAIN = _part("text")
_PAIR_STEMS = ("sentence", "question", "text", "sent", "premise", "passage", "document", "query", "s")
_PAIR_ENDINGS = (("1", "2"), ("_1", "_2"), ("_a", "_b"), ("_A", "_B"), ("A", "B"))
TEXT_PAIRS: tuple[tuple[str, str], ...] = (
    ("premise", "hypothesis"),
    *((stem + one, stem + other) for stem in _PAIR_STEMS for one, other in _PAIR_ENDINGS),
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
# Two texts go before one: a label of a pair is not to be learned from half of it.
TEXT = Part(role="text", names=(*TEXT_PAIRS, "text", "body", "sentence", "content"))
# Any plain name of what is asked beside any plain name of the reply, as sets mix them: question and response, prompt
# and chosen, inputs and targets. Tried after the layouts above, so that it changes the reading of none of them.
ASKED = _part("prompt", "instruction", "question", "query", "problem", "inputs")
REPLY = _part("response", "output", "completion", "answer", "solution", "targets", "chosen_response", "chosen")
MARKS = (_part("weight"), _part("train"), _part("loss"), _part("kto_tag"))
"""Columns, and fields of a turn, that say of an answer whether it is learned."""
COMMON = (ID, ROW_ID, LABEL, TASK, GROUP, METADATA, _part("source"), *MARKS)
BEYOND_TEXT = {
    "image": "images",
    "images": "images",
    "video": "videos",
    "videos": "videos",
    "audio": "audio",
    "audios": "audio",
    "tools": "tools",
    "functions": "tools",
    "tool_calls": "tools",
    "function_call": "tools",
}
"""Columns, and fields of a turn, without which the answer is not to be understood, and which no text model is shown."""


def listed(mapped: str | Sequence[str]) -> list[str]:
    """The columns that a study maps a name to."""
    return [mapped] if isinstance(mapped, str) else list(mapped)
