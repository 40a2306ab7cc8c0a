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
TASK, GROUP = _part("task"), _part("group")
MESSAGES = _part("messages", "conversations", "conversation", "contents")
SYSTEM = _part("system", "system_prompt", "system_message")
HISTORY = _part("history")
QUESTION = _part("question", "question_stem")
ANSWER = _part("answer", "answers", "answerKey", "answer_key", "answer_idx", *BY_PLACE)
CONTEXT = _part("context", "passage", "article")
CHOICES = _part("choices", "options")
INSTRUCTION = _part("instruction")
INPUT = _part("input", "context")
ONLY_INPUT = _part("input")
OUTPUT = _part("output", "response", *BY_PLACE)
PROMPT = _part("prompt")
COMPLETION = _part("completion", "response")
PLAIN = _part("text")
TEXT = Part(
    role="text",
    # Two texts go before one: a label of a pair is not to be learned from half of it.
    names=(
        ("premise", "hypothesis"),
        ("sentence1", "sentence2"),
        ("question1", "question2"),
        ("question", "passage"),
        ("question", "context"),
        ("question", "sentence"),
        ("title", "body"),
        ("title", "text"),
        ("title", "content"),
        ("text", "aspect"),
        ("sentence", "aspect"),
        "text",
        "body",
        "sentence",
        "content",
    ),
)
# Any plain name of what is asked beside any plain name of the reply, as sets mix them: question and response, prompt
# and chosen, inputs and targets. Tried after the layouts above, so that it changes the reading of none of them.
ASKED = _part("prompt", "instruction", "question", "query", "problem", "inputs")
REPLY = _part("response", "output", "completion", "answer", "solution", "targets", "chosen_response", "chosen")
MARKS = (_part("weight"), _part("train"), _part("loss"), _part("kto_tag"))
"""Columns, and fields of a turn, that say of an answer whether it is learned."""
COMMON = (ID, ROW_ID, LABEL, TASK, GROUP, _part("source"), *MARKS)
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
