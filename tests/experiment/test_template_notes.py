"""What a study says of rows that the model's template refuses or writes otherwise, and of control tokens in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_study import toy_model, write_rows, write_study

from titrant.config.study import load_study
from titrant.core.errors import DataError, TemplateRefusal
from titrant.core.records import PreparedModel
from titrant.experiment.prepare import PreparedStudy, prepare_study
from titrant.experiment.requests import eval_requests

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% if message.role == 'assistant' and "
    "'<think>' not in message.content %}<think>\n\n</think>\n\n{% endif %}{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
Read = Callable[..., PreparedStudy]


def chat_model(folder: Path, template: str) -> PreparedModel:
    """A prepared model that is a tokenizer of bytes with the marks of ChatML, and a template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    marks = ["</s>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: n for n, token in enumerate([*marks, *alphabet])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in marks])
    model = toy_model(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return replace(model, template="chat", chat_template=template, end_ids=(2, 0))


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Reads a study of these pool rows under a template; what it said goes to `told`."""

    def reading(
        pool: list[dict[str, Any]], template: str = CHATML, told: list[str] | None = None, **said: Any
    ) -> PreparedStudy:
        path = write_study(tmp_path, **said)
        write_rows(path.parent / "general.jsonl", pool)
        prepared_model = chat_model(tmp_path / "prepared", template)
        monkeypatch.setattr(
            "titrant.experiment.prepare.prepare", lambda spec, **_: replace(prepared_model, name=Path(spec).name)
        )
        return prepare_study(load_study(tmp_path / "study.yaml"), say=(lambda _: None) if told is None else told.append)

    return reading


def conversation(*turns: str) -> dict[str, Any]:
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return {"messages": [{"role": roles[turn[0]], "content": turn[2:]} for turn in turns]}


PLAIN_ROWS = [conversation(f"u:Tell me the name of entry {n}, please.", f"a:entry {n}") for n in range(14)]
SYSTEM_ROWS = [conversation("s:Be terse.", f"u:Tell its name {n}.", f"a:only {n}") for n in range(3)]
TWICE = conversation("u:Say a word.", "u:Any word.", "a:blue")


# ------------------------------------------------------------------------------------------------------- refused turns


def test_system_turns_are_merged_where_there_is_no_system_role_and_it_is_said_once(read: Read) -> None:
    told: list[str] = []
    prepared = read([*PLAIN_ROWS, *SYSTEM_ROWS], GEMMA, told)
    said = [line for line in told if "no system role" in line]
    assert len(said) == 1
    assert "3 of 17 rows of general" in said[0]
    assert "refused_turns: drop" in said[0]
    model = prepared.models["toy-model"]
    row = next(row for row in model.pools["general"].rows if row.turns[0].role == "system")
    shown = model.renderer.tokenizer.decode(model.rows["general", row.key].ids)
    assert shown.startswith("user\nBe terse.\n\nTell its name ")


def test_nothing_is_said_of_system_turns_where_the_template_has_the_role(read: Read) -> None:
    told: list[str] = []
    read([*PLAIN_ROWS, *SYSTEM_ROWS], CHATML, told)
    assert told == ["preparing the model toy-model"]


def test_refused_rows_stop_the_study_with_file_line_count_and_ways_out(read: Read) -> None:
    with pytest.raises(
        TemplateRefusal, match=r"general\.jsonl:15: .*user, user, assistant: roles must alternate"
    ) as caught:
        read([*PLAIN_ROWS, TWICE, conversation("a:Hello.", "u:Hi.", "a:Hello again.")], GEMMA)
    text = str(caught.value)
    assert "2 of 16 rows of general are refused" in text
    assert "refused_turns: drop" in text
    assert "template: plain" in text


def test_refused_rows_are_left_out_and_counted_where_the_study_says_so(read: Read) -> None:
    prepared = read([*PLAIN_ROWS, *SYSTEM_ROWS, TWICE], GEMMA, refused_turns="drop")
    model = prepared.models["toy-model"]
    assert len(model.pools["general"].rows) == 14
    (removed,) = [entry for entry in model.removed if entry.pool == "general"]
    assert removed.rows == 4
    assert "general.jsonl:15" in removed.why
    assert "no system role" in removed.why


def test_a_pool_of_which_nothing_is_left_is_refused_even_so(read: Read) -> None:
    with pytest.raises(TemplateRefusal, match="3 of 3 rows of general"):
        read(SYSTEM_ROWS, GEMMA, refused_turns="drop")


def test_a_test_item_that_the_template_refuses_is_named_and_never_left_out(read: Read, tmp_path: Path) -> None:
    prepared = read(PLAIN_ROWS, GEMMA)
    items = prepared.items("toy-model", ["toy"])
    renderer = prepared.models["toy-model"].renderer
    twice = replace(items[0], key="twice", turns=(items[0].turns[0], items[0].turns[0]))
    with pytest.raises(TemplateRefusal, match=r"test\.jsonl:\d+: .*user, user") as caught:
        eval_requests(renderer, (*items, twice))
    assert f"1 of {len(items) + 1} test items" in str(caught.value)


# ------------------------------------------------------------------------------------- what stands before an answer


def test_what_stands_between_generation_prompt_and_answer_is_said_once(read: Read) -> None:
    told: list[str] = []
    read([*PLAIN_ROWS, *SYSTEM_ROWS], THINKING, told)
    assert [line for line in told if r"<think>\n\n</think>\n\n" in line and "part of the prompt" in line] == told[1:]
    assert len(told) == 2


def test_rows_that_do_not_begin_as_they_are_answered_are_counted_with_both_texts(read: Read) -> None:
    told: list[str] = []
    thoughts = [conversation(f"u:Think of {n}.", f"a:<think>\nIt is {n}.\n</think>\n\n{n}") for n in range(2)]
    prepared = read([*PLAIN_ROWS, *thoughts], THINKING, told)
    (said,) = [line for line in told if "do not begin" in line]
    assert said.startswith("general: 2 of 16 rows do not begin as toy-model is asked")
    assert "It is 0." in said
    assert prepared.models["toy-model"].notes


# ------------------------------------------------------------------------------------------------------ control tokens

MARKED = {
    "an answer with an end mark": (conversation("u:Name a city.", "a:Paris<|endoftext|>"), "<|endoftext|> in 1"),
    "a question about a mark": (conversation("u:What is <|im_end|>?", "a:A mark."), "<|im_end|> in 1"),
    "a whole conversation": (
        {"messages": conversation("u:<|im_start|>user\nHi.<|im_end|>", "a:Hello.")["messages"]},
        "<|im_end|> in 1, <|im_start|> in 1",
    ),
}


@pytest.mark.parametrize(("row", "counted"), MARKED.values(), ids=MARKED)
def test_control_tokens_in_rows_are_counted_with_an_example(read: Read, row: dict[str, Any], counted: str) -> None:
    told: list[str] = []
    read([*PLAIN_ROWS, row], told=told)
    (said,) = told[1:]
    assert said.startswith("general: 1 of 15 rows hold control tokens of toy-model")
    assert counted in said
    assert "general.jsonl:15: " in said


@pytest.mark.parametrize(("row", "counted"), MARKED.values(), ids=MARKED)
def test_control_tokens_are_refused_where_the_study_says_so(read: Read, row: dict[str, Any], counted: str) -> None:
    with pytest.raises(DataError, match=r"general\.jsonl:15: .*control tokens of toy-model.*1 of 15") as caught:
        read([*PLAIN_ROWS, row], control_tokens="refuse")
    assert "control_tokens: text" in str(caught.value)
    read(PLAIN_ROWS, control_tokens="refuse")


def test_marks_of_another_models_format_are_counted_too(read: Read) -> None:
    told: list[str] = []
    llama = [conversation(f"u:Row {n}.", f"a:<s>[INST] Is it {n}? [/INST] It is. </s>") for n in range(2)]
    read([*PLAIN_ROWS, *llama], told=told)
    (own, foreign) = told[1:]
    assert "control tokens of toy-model" in own
    assert foreign.startswith("general: 2 of 16 rows hold marks of a chat format (<s> in 2, [/INST] in 2, [INST] in 2")


def test_check_counts_control_tokens_without_a_model(
    read: Read, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from titrant.cli.tables import show_check

    read([*PLAIN_ROWS, conversation("u:Name a city.", "a:Paris<|endoftext|>")])
    study = load_study(tmp_path / "study.yaml")
    show_check(study, as_json=False)
    out = capsys.readouterr().out
    assert "toy-model: its own control tokens are not looked for" in out
    assert "general: 1 of 15 rows hold marks of a chat format (<|endoftext|> in 1)" in out
    show_check(study, as_json=True)
    assert len(json.loads(capsys.readouterr().out)["control_tokens"]) == 2


def test_check_knows_the_tokens_of_a_model_that_is_here(
    read: Read, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from titrant.cli.tables import show_check

    read([*PLAIN_ROWS, conversation("u:Name a city.", "a:Paris<|endoftext|>")])
    prepared_model = chat_model(tmp_path / "prepared", CHATML)
    monkeypatch.setattr("titrant.experiment.template_notes.prepare", lambda spec, **_: prepared_model)
    show_check(load_study(tmp_path / "study.yaml"), as_json=False)
    assert "general: 1 of 15 rows hold control tokens of toy-model in their text (<|endoftext|> in 1)" in (
        capsys.readouterr().out
    )


# ------------------------------------------------------------------------------------ white space, and where it is told


def trimming(*roles: str) -> str:
    """ChatML that trims the texts of these roles, as Gemma does of all."""
    trimmed = " or ".join(f"message.role == '{role}'" for role in roles)
    return CHATML.replace(
        "{{ message.content }}", f"{{{{ message.content | trim if {trimmed} else message.content }}}}"
    )


@pytest.mark.parametrize(
    ("roles", "rows", "said"),
    [
        (("user",), [conversation("u: Two?", "a:2"), conversation("u:Three?", "a: 3")], "user turns; 1 of 16 rows"),
        (("user", "assistant"), [conversation("u: Two?", "a:2"), conversation("u:Three?", "a: 3\n")],
         "user and assistant turns; 2 of 16 rows"),
        (("system",), [conversation("s:Be terse.\n", "u:Two?", "a:2")], "system turns; 1 of 15 rows"),
        (("assistant",), [conversation("u: Two?", "a:2")], None),
        ((), [conversation("u: Two?", "a: 2")], None),
    ],
)  # fmt: skip
def test_a_template_that_trims_texts_is_named_with_the_rows_that_it_changes(
    roles: tuple[str, ...], rows: list[dict[str, Any]], said: str | None, read: Read
) -> None:
    told: list[str] = []
    read([*PLAIN_ROWS, *rows], trimming(*roles) if roles else CHATML, told)
    (line,) = [line for line in told if "trims the texts" in line] or [None]
    assert line is None if said is None else f"{said} of general" in str(line)


@pytest.mark.parametrize(
    ("template", "rows", "said", "note"),
    [
        (GEMMA, SYSTEM_ROWS, {}, "no system role"),
        (trimming("user"), [conversation("u: Two?", "a:2")], {}, "trims the texts of user turns"),
        (THINKING, [], {}, "<think>"),
        (CHATML, [conversation("u:What is <|im_end|>?", "a:a mark")], {}, "control tokens"),
        (GEMMA, [TWICE], {"refused_turns": "drop"}, "roles must alternate"),
    ],
)
def test_what_the_template_did_stands_in_the_sidecar_of_a_mix(
    template: str, rows: list[dict[str, Any]], said: dict[str, Any], note: str, read: Read, tmp_path: Path
) -> None:
    from titrant.experiment.design import make_design
    from titrant.experiment.mix import find_run, write_mix

    arms = {"target_rows": [6], "doses": {"general": [4]}, "seeds": 1}
    prepared = read([*PLAIN_ROWS, *rows], template, arms=arms, **said)
    planned = find_run(make_design(prepared), target_rows=6, doses={"general": 4}, seed=0, target=None, model=None)
    sidecar = json.loads(write_mix(planned, tmp_path / "arm.jsonl", prepared=prepared).sidecar.read_text())
    assert [text for text in (*sidecar["notes"], *(entry["why"] for entry in sidecar["removed"])) if note in text]


@pytest.mark.parametrize(
    "template",
    [
        CHATML.replace("{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}", ""),
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ '<|im_end|>' if m.role == 'assistant' else '|' }}"
        "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}",
        THINKING,
    ],
)
def test_what_stands_between_prompt_and_answer_is_said_once_whatever_the_conversation(
    template: str, read: Read
) -> None:
    told: list[str] = []
    longer = conversation("u:One?", "a:1", "u:Two?", "a:2")
    read([*PLAIN_ROWS, *SYSTEM_ROWS, longer], template, told)
    assert len([line for line in told if "generation prompt" in line]) == 1
