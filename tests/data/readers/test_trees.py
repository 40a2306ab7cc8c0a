"""Files of single messages that reply to one another, and conversations that are lists of texts."""

import json
from pathlib import Path
from typing import Any

import pytest

from titrant.core.errors import DataError
from titrant.data.readers import load_examples

Message = dict[str, Any]


def message(name: str, parent: str | None, role: str, text: str, **more: Any) -> Message:
    return {"message_id": name, "parent_id": parent, "role": role, "text": text, "message_tree_id": "t", **more}


FOREST = [
    message("q1", None, "prompter", "Why is it wet?", lang="en"),
    message("a1", "q1", "assistant", "It rained.", rank=1),
    message("q2", None, "prompter", "Say hello."),
    message("a2", "q1", "assistant", "It rained all night, so the street is wet.", rank=0),
    message("b1", "a2", "prompter", "And tomorrow?", rank=None),
    message("c1", "b1", "assistant", "Nobody knows.", rank=None),
    message("d1", "c1", "prompter", "Thanks."),
    message("a3", "q2", "assistant", "Hello!", rank=None),
    message("a4", "q2", "assistant", "no", rank=0, deleted=True),
    message("q3", None, "prompter", "Is anybody there?"),
]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_thread_of_best_ranked_replies_is_one_conversation_a_tree(tmp_path: Path) -> None:
    faults: list[DataError] = []
    rows = load_examples(write(tmp_path / "m.jsonl", FOREST), source="s", task="t", on_fault=faults.append)
    assert [[turn.text for turn in row.turns] for row in rows] == [
        ["Why is it wet?", "It rained all night, so the street is wet.", "And tomorrow?", "Nobody knows."],
        ["Say hello.", "Hello!"],
    ]
    assert [row.row_id for row in rows] == ["q1", "q2"]
    assert [row.turns[-1].role for row in rows] == ["assistant", "assistant"]
    (fault,) = faults
    assert "m.jsonl:10: a tree of messages without an answer" in str(fault)


def test_the_order_of_messages_changes_no_conversation(tmp_path: Path) -> None:
    def texts(rows: list[Message]) -> set[tuple[str, ...]]:
        found = load_examples(write(tmp_path / "m.jsonl", rows), source="s", task="t", on_fault=lambda _: None)
        return {tuple(turn.text for turn in row.turns) for row in found}

    assert texts(FOREST) == texts(FOREST[::-1])


@pytest.mark.parametrize(
    ("change", "cause"),
    [({"role": "narrator"}, "unknown role"), ({"text": None}, "no text"), ({"parent_id": 3.5, "text": []}, "no text")],
)
def test_a_message_that_cannot_be_used_is_named(tmp_path: Path, change: Message, cause: str) -> None:
    path = write(tmp_path / "m.jsonl", [*FOREST[:4], {**FOREST[4], **change}])
    with pytest.raises(DataError, match=rf"m\.jsonl:5: .*{cause}"):
        load_examples(path, source="s", task="t")


def test_a_conversation_may_be_a_list_of_texts_where_the_user_begins(tmp_path: Path) -> None:
    path = write(tmp_path / "lima.jsonl", [{"conversations": ["Why?", "Because."], "source": "wiki"}])
    (row,) = load_examples(path, source="s", task="t")
    assert [(turn.role, turn.text) for turn in row.turns] == [("user", "Why?"), ("assistant", "Because.")]
    with pytest.raises(DataError, match="does not end with an answer"):
        load_examples(write(tmp_path / "test.jsonl", [{"conversations": ["Why?"]}]), source="s", task="t")
