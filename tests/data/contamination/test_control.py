"""Control tokens and marks of chat formats inside rows."""

from __future__ import annotations

import pytest

from titrant.core.records import Example, Item, Origin, Turn
from titrant.data.contamination import chat_marks, control_token_use


def row(number: int, question: str, answer: str) -> Example:
    turns = (Turn(role="user", text=question), Turn(role="assistant", text=answer))
    return Example(key=str(number), row_id=str(number), source="g", task="g", turns=turns,
                   origin=Origin(path="g.jsonl", line=number))  # fmt: skip


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("[INST] <<SYS>>Be kind.<</SYS>> Hi. [/INST]", ("[INST]", "<<SYS>>", "<</SYS>>", "[/INST]")),
        (
            "<|start_header_id|>user<|end_header_id|>\n\nHi.<|eot_id|>",
            ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        ),
        ("<start_of_turn>user\nHi.<end_of_turn>", ("<start_of_turn>", "<end_of_turn>")),
        ("<\uff5cUser\uff5c>Hi.", ("<\uff5cUser\uff5c>",)),
        ("<s>Hi.</s>", ("<s>", "</s>")),
        ("price <s>12</s> 10, a[0] < b[1], <b>bold</b>, [INSTALL]", ()),
        ("", ()),
    ],
)
def test_marks_of_chat_formats_are_told_from_html_and_code(text: str, marks: tuple[str, ...]) -> None:
    assert chat_marks(text) == marks


def test_rows_are_counted_once_and_tokens_by_the_rows_that_hold_them() -> None:
    rows = [row(1, "Hi.", "Hello."), row(2, "a [INST] b [INST]", "c"), row(3, "x", "long text " * 9 + "[INST][/INST]")]
    use = control_token_use("g", rows, find=chat_marks)
    assert use is not None
    assert (use.rows, use.of, use.tokens) == (2, 3, (("[INST]", 2), ("[/INST]", 1)))
    assert (use.place, use.snippet) == ("g.jsonl:2", "a [INST] b [INST]")
    assert control_token_use("g", rows[:1], find=chat_marks) is None


def test_references_and_choices_of_test_items_are_looked_at() -> None:
    item = Item(key="i", row_id="4", eval_set="target", target="t", task="t", turns=(Turn(role="user", text="?"),),
                references=("yes</s>",), choices=("yes</s>", "no"), answer="choices", metric="accuracy",
                max_answer_tokens=4)  # fmt: skip
    use = control_token_use("t", [item], find=chat_marks)
    assert use is not None
    assert (use.place, use.tokens) == ("4", (("</s>", 1),))
