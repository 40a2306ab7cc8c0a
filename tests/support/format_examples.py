"""One row of every layout that is read: what `docs/formats.md` shows, and what the tests hold the reader to."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from titrant.core.records import Example
from titrant.data.readers import load_examples

INSTRUCTION = "Decide."


@dataclass(frozen=True, kw_only=True)
class FormatExample:
    """A layout, a row of it, and what the study has to say so that it can be read."""

    name: str
    row: dict[str, Any]
    instruction: str | None = None
    columns: dict[str, Any] | None = field(default=None)

    def read(self, folder: Path) -> tuple[Example, ...]:
        """What the reader makes of a file of this one row."""
        path = folder / "rows.jsonl"
        path.write_text(json.dumps(self.row, ensure_ascii=False) + "\n", encoding="utf-8")
        return load_examples(path, source="s", task="t", columns=self.columns, instruction=self.instruction)


def _turns(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(contents)]


def _labelled(name: str, **row: Any) -> FormatExample:
    return FormatExample(name=name, row=row, instruction=INSTRUCTION)


FORMATS = (
    FormatExample(name="messages", row={"messages": _turns("Hi", "Hello", "Bye", "Goodbye")}),
    FormatExample(
        name="messages, system column",
        row={
            "system": "Be brief.",
            "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
        },
    ),
    FormatExample(
        name="messages, content in parts",
        row={
            "messages": [
                {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
                {"role": "User", "content": [{"type": "text", "text": "Hi "}, {"type": "text", "text": "there"}]},
                {"role": "chatgpt", "content": [{"type": "text", "text": "Hello"}]},
            ]
        },
    ),
    FormatExample(
        name="messages, content in texts",
        row={
            "system_message": "Be brief.",
            "messages": [{"role": "user", "content": ["Hi ", "there"]}, {"role": "assistant", "content": ["Hello"]}],
        },
    ),
    FormatExample(name="messages, texts by turns", row={"conversations": ["Hi", "Hello"]}),
    FormatExample(
        name="messages, answer without loss",
        row={"messages": [_turns("Hi")[0], {"role": "assistant", "content": "Hello", "weight": 0}]},
    ),
    FormatExample(name="instruction", row={"instruction": "Add.", "input": "1 2", "output": "3"}),
    FormatExample(
        name="instruction, null input",
        row={"instruction": "Who?", "input": None, "context": "Ann came.", "response": "Ann"},
    ),
    FormatExample(
        name="instruction, history",
        row={"instruction": "And 3?", "input": "", "output": "6", "system": "Be brief.", "history": [["1 + 2?", "3"]]},
    ),
    FormatExample(name="prompt_completion", row={"prompt": "1 + 1 =", "completion": "2"}),
    FormatExample(
        name="prompt_completion, turns",
        row={"prompt": _turns("Hi"), "completion": [{"role": "assistant", "content": "Hello"}]},
    ),
    FormatExample(name="prompt_completion, liked (KTO)", row={"prompt": "1 + 1 =", "completion": "2", "label": True}),
    FormatExample(
        name="prompt_completion, not liked (KTO)", row={"prompt": "1 + 1 =", "completion": "3", "label": False}
    ),
    FormatExample(name="question", row={"question": "Who?", "context": "Ann came.", "answer": "Ann"}),
    FormatExample(name="question, passage", row={"question": "Did Ann come?", "passage": "Ann came.", "answer": True}),
    FormatExample(
        name="question, SQuAD",
        row={"question": "Who?", "context": "Ann came.", "answers": {"text": ["Ann", "Ann"], "answer_start": [0, 0]}},
    ),
    FormatExample(
        name="question, SQuAD without an answer",
        row={"question": "Who?", "context": "Rain.", "answers": {"text": [], "answer_start": []}},
    ),
    FormatExample(name="question, choices", row={"question": "Who?", "choices": ["Ann", "Bob"], "answer": "Bob"}),
    FormatExample(
        name="question, place in choices (MMLU)", row={"question": "Who?", "choices": ["Ann", "Bob"], "answer": 1}
    ),
    FormatExample(
        name="question, letter in options (RACE)",
        row={"article": "Bob came.", "question": "Who?", "options": ["Ann", "Bob"], "answer": "B"},
    ),
    FormatExample(
        name="question, labelled choices (ARC)",
        row={"question": "Who?", "choices": {"text": ["Ann", "Bob"], "label": ["A", "B"]}, "answerKey": "B"},
    ),
    FormatExample(name="question, option columns", row={"question": "Who?", "A": "Ann", "B": "Bob", "answer": "B"}),
    FormatExample(
        name="question, place said by the study",
        row={"question": "How many?", "choices": ["1", "0"], "answer": 1},
        columns={"answer_index": "answer"},
    ),
    _labelled("text_label", text="My light is out", label="repair"),
    _labelled("text_label, two texts (premise, hypothesis)", premise="Ann came.", hypothesis="Nobody came.", label=2),
    _labelled("text_label, two texts (sentence1, sentence2)", sentence1="Ann came.", sentence2="Ann arrived.", label=1),
    _labelled("text_label, two texts (question, passage)", question="Did Ann come?", passage="Ann came.", label=1),
    _labelled("text_label, two texts (title, body)", title="Light", body="It is out.", label="repair"),
    _labelled("text_label, aspect", text="Good food, slow staff.", aspect="staff", label="negative"),
    FormatExample(
        name="text_label, columns said by the study",
        row={"subject": "Light", "mail": "It is out.", "team": "repair", "tone": "Be brief."},
        instruction=INSTRUCTION,
        columns={"text": ["subject", "mail"], "label": "team", "system": "tone"},
    ),
    _labelled("input_output", input="good", output="positive"),
    FormatExample(
        name="prompt_response, OpenOrca",
        row={"system_prompt": "Be brief.", "question": "1 + 1?", "response": "2"},
    ),
    FormatExample(name="prompt_response, FLAN", row={"inputs": "1 + 1?", "targets": "2"}),
    FormatExample(
        name="prompt_response, chosen of a pair",
        row={"instruction": "1 + 1?", "chosen_response": "2", "rejected": None},
    ),
    FormatExample(
        name="prompt_response, chosen in turns",
        row={"prompt": "1 + 1?", "chosen": _turns("1 + 1?", "2")},
    ),
    FormatExample(name="text", row={"text": "Once upon a time"}),
)
"""Every layout; OpenAssistant's trees of messages, which are several rows, are `tests/data/readers/test_trees.py`."""


def table(folder: Path) -> str:
    """The layouts as a Markdown table, each read by the reader."""
    lines = ["| layout | a row | becomes |", "| --- | --- | --- |"]
    for example in FORMATS:
        said = json.dumps(example.row, ensure_ascii=False)
        given = [f"instruction: {example.instruction}"] if example.instruction else []
        if example.columns:
            given.append("columns: " + json.dumps(example.columns, ensure_ascii=False).replace('"', ""))
        with_study = f"<br>study: `{'; '.join(given)}`" if given else ""
        rows = example.read(folder)
        became = "<br>".join(f"{turn.role}: `{_line(turn.text)}`" for row in rows for turn in row.turns)
        lines.append(f"| {example.name} | `{said}`{with_study} | {became or 'left out, and counted'} |")
    return "\n".join(lines) + "\n"


def _line(text: str) -> str:
    return text.replace("\n", "↵")
