"""Prompt, answer and marks in tokens, seen through a tokenizer of bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from titrant.core.errors import DataError, ModelError
from titrant.core.records import Example, Item, Origin, PreparedModel, Turn
from titrant.tokens import Renderer, load_tokenizer, renderer_for

FIXTURES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
Model = Callable[..., PreparedModel]


def example(*texts: str, system: str | None = None) -> Example:
    """A conversation of user and assistant in turn; the last text is the answer."""
    first = (Turn(role="system", text=system),) if system is not None else ()
    roles = ["assistant" if (len(texts) - place) % 2 else "user" for place in range(len(texts))]
    turns = first + tuple(Turn(role=role, text=text) for role, text in zip(roles, texts, strict=True))
    return Example(key="k", row_id="7", source="general", task="general", turns=turns,
                   origin=Origin(path="general.jsonl", line=7))  # fmt: skip


def item(prompt: str, *, references: tuple[str, ...] = ("yes",), choices: tuple[str, ...] | None = None) -> Item:
    return Item(key="i", row_id="1", eval_set="target", target="t", task="t", turns=(Turn(role="user", text=prompt),),
                references=references, choices=choices, answer="choices" if choices else "text", metric="accuracy",
                max_answer_tokens=5)  # fmt: skip


@pytest.fixture
def plain(byte_tokenizer: Any, fake_model: Model) -> Renderer:
    return Renderer(byte_tokenizer, fake_model(chat_template=None), add_bos=True)


@pytest.fixture
def chat(byte_tokenizer: Any, fake_model: Model) -> Renderer:
    return Renderer(byte_tokenizer, fake_model(), add_bos=True)


def parts(renderer: Renderer, row: Any) -> tuple[str, str]:
    """A row's text before and after the place where loss begins, with the marks."""
    shown = renderer.tokenizer.shown  # type: ignore[attr-defined]
    return shown(row.ids[: row.loss_from]), shown(row.ids[row.loss_from :])


def test_the_plain_template_is_prompt_blank_line_answer_and_end(plain: Renderer) -> None:
    row = plain.row(example("Is it wet?", "Yes."), max_tokens=100, too_long="refuse")
    assert parts(plain, row) == ("<s>Is it wet?\n\nAnswer:", " Yes.</s>")


def test_the_chat_template_gives_its_own_marks_and_ends_the_answer_with_its_own_end(chat: Renderer) -> None:
    row = chat.row(example("Is it wet?", "Yes."), max_tokens=100, too_long="refuse")
    assert parts(chat, row) == ("<|user|>Is it wet?<|end|><|assistant|>", "Yes.<|end|>")


def test_earlier_turns_are_prompt_and_only_the_last_answer_bears_loss(chat: Renderer, plain: Renderer) -> None:
    conversation = example("Hi.", "Hello.", "Is it wet?", "Yes.")
    before, answer = parts(chat, chat.row(conversation, max_tokens=200, too_long="refuse"))
    assert before == "<|user|>Hi.<|end|><|assistant|>Hello.<|end|><|user|>Is it wet?<|end|><|assistant|>"
    assert answer == "Yes.<|end|>"
    before, answer = parts(plain, plain.row(conversation, max_tokens=200, too_long="refuse"))
    assert before == "<s>Hi.\n\nAnswer: Hello.\n\nIs it wet?\n\nAnswer:"
    assert answer == " Yes.</s>"


def test_without_a_mark_of_its_own_the_tokenizer_starts_no_text(byte_tokenizer: Any, fake_model: Model) -> None:
    renderer = Renderer(byte_tokenizer, fake_model(chat_template=None), add_bos=False)
    row = renderer.row(example("Wet?", "Yes."), max_tokens=100, too_long="refuse")
    assert parts(renderer, row)[0] == "Wet?\n\nAnswer:"


def test_plain_text_bears_loss_on_every_token_but_the_first(plain: Renderer) -> None:
    row = plain.row(example("Rain fell."), max_tokens=100, too_long="refuse")
    assert parts(plain, row) == ("<s>", "Rain fell.</s>")


@FIXTURES
@given(prompt=st.text(max_size=30), answer=st.text(max_size=30))
def test_a_prompt_has_the_same_tokens_in_training_choosing_writing_and_loss(
    chat: Renderer, plain: Renderer, prompt: str, answer: str
) -> None:
    for renderer in (chat, plain):
        row = renderer.row(example(prompt, answer), max_tokens=10_000, too_long="refuse")
        assert row is not None
        question = renderer.question(item(prompt, choices=(answer, "no")))
        written = renderer.generation(item(prompt))
        reference = renderer.reference_row(item(prompt, references=(answer, "other")))
        assert row.ids[: row.loss_from] == question.prompt == written.ids
        assert row.ids[row.loss_from :] == question.choices[0]
        assert (reference.ids, reference.loss_from) == (row.ids, row.loss_from)


def test_plain_text_with_nothing_to_learn_is_refused(byte_tokenizer: Any, fake_model: Model) -> None:
    renderer = Renderer(byte_tokenizer, fake_model(chat_template=None, bos=None), add_bos=False)
    with pytest.raises(DataError, match=r"^general\.jsonl:7: "):
        renderer.row(example(""), max_tokens=100, too_long="refuse")
    with pytest.raises(DataError, match=r"^general\.jsonl:7: "):
        renderer.row(example("Rain"), max_tokens=1, too_long="cut")


@FIXTURES
@given(prompt=st.text(max_size=30), answer=st.text(max_size=30))
def test_no_row_is_without_answer_tokens_and_each_ends_with_the_end_mark(
    chat: Renderer, plain: Renderer, prompt: str, answer: str
) -> None:
    for renderer in (chat, plain):
        row = renderer.row(example(prompt, answer), max_tokens=10_000, too_long="refuse")
        assert row is not None
        assert row.loss_tokens >= 1
        assert row.loss_from >= 1
        assert row.ids[-1:] == renderer.end_ids


def test_writing_stops_at_the_answers_end_mark_and_at_the_models(chat: Renderer, plain: Renderer) -> None:
    token = chat.tokenizer.token_id
    assert set(chat.stop_ids) == {token("<|end|>"), token("</s>")}
    assert plain.stop_ids == (token("</s>"),)
    assert chat.generation(item("?")).max_new_tokens == 5


def test_a_model_whose_tokenizer_lacks_its_end_mark_is_refused(byte_tokenizer: Any, fake_model: Model) -> None:
    with pytest.raises(ModelError, match="end mark"):
        Renderer(byte_tokenizer, fake_model(chat_template=None, eos="<nowhere>"), add_bos=True)


def test_a_conversation_that_the_template_refuses_is_the_rows_fault_and_says_so(
    byte_tokenizer: Any, fake_model: Model
) -> None:
    template = (
        "{% for message in messages %}{% if message['content'] == 'Hi.' %}{{ raise_exception('no greeting here') }}"
        "{% endif %}{{ message['content'] }}<|end|>{% endfor %}"
    )
    renderer = Renderer(byte_tokenizer, fake_model(chat_template=template), add_bos=False)
    with pytest.raises(DataError, match=r"general\.jsonl:7: .*system, user, assistant: no greeting here"):
        renderer.row(example("Hi.", "Hello.", system="Be kind."), max_tokens=100, too_long="refuse")


def test_a_template_reads_no_clock(byte_tokenizer: Any, fake_model: Model) -> None:
    template = "{{ strftime_now('%d %b %Y') }}{% for message in messages %}{{ message['content'] }}<|end|>{% endfor %}"
    renderer = Renderer(byte_tokenizer, fake_model(chat_template=template), add_bos=False)
    assert renderer.prompt((Turn(role="user", text="!"),)).text == "26 Jul 2024!<|end|>"


def test_a_template_cannot_reach_out_of_its_sandbox(byte_tokenizer: Any, fake_model: Model) -> None:
    from jinja2.exceptions import SecurityError

    template = "{{ messages.__class__.__mro__ }}<|end|>"
    with pytest.raises((SecurityError, DataError)):
        Renderer(byte_tokenizer, fake_model(chat_template=template), add_bos=False)


# ------------------------------------------------------------------------------------------------------------ too long


def test_a_row_that_fits_exactly_is_left_alone(chat: Renderer) -> None:
    row = chat.row(example("Wet?", "Yes."), max_tokens=1000, too_long="refuse")
    assert row is not None
    for too_long in ("refuse", "cut", "drop"):
        assert chat.row(example("Wet?", "Yes."), max_tokens=len(row.ids), too_long=too_long) == row


def test_a_row_that_is_too_long_is_refused_with_its_line_and_both_numbers(chat: Renderer) -> None:
    with pytest.raises(DataError, match=r"^general\.jsonl:7: .*got '\d+ tokens'; expected at most 11") as caught:
        chat.row(example("Wet?", "Yes."), max_tokens=11, too_long="refuse")
    assert "too_long" in str(caught.value)


def test_a_row_that_is_too_long_is_dropped_when_asked(chat: Renderer) -> None:
    assert chat.row(example("Wet?", "Yes."), max_tokens=11, too_long="drop") is None


@FIXTURES
@given(
    prompt=st.text(alphabet="ab é😀\n", min_size=1, max_size=40),
    answer=st.text(alphabet="xy ü", max_size=6),
    limit=st.integers(20, 60),
)
def test_cutting_takes_from_the_start_of_the_users_text_and_never_from_answer_or_marks(
    chat: Renderer, plain: Renderer, prompt: str, answer: str, limit: int
) -> None:
    for renderer in (chat, plain):
        whole = renderer.row(example(prompt, answer), max_tokens=10_000, too_long="refuse")
        try:
            cut = renderer.row(example(prompt, answer), max_tokens=limit, too_long="cut")
        except DataError:
            continue  # what cannot be cut is tested below
        assert whole is not None
        assert cut is not None
        assert len(cut.ids) <= limit
        (before, kept_answer), (whole_before, whole_answer) = parts(renderer, cut), parts(renderer, whole)
        assert kept_answer == whole_answer
        left = len(whole_before) - len(before)
        start = whole_before.index(prompt)
        assert before == whole_before[:start] + prompt[left:] + whole_before[start + len(prompt) :]
        if len(whole.ids) > limit:
            longer = prompt[left - 1 :]
            with_one_more = renderer.row(example(longer, answer), max_tokens=10_000, too_long="refuse")
            assert with_one_more is not None
            assert len(with_one_more.ids) > limit, "no more is cut than must be"


def test_the_last_users_text_is_the_one_that_is_cut(chat: Renderer) -> None:
    row = chat.row(example("First.", "One.", "abcdefgh", "Two."), max_tokens=28, too_long="cut")
    before, answer = parts(chat, row)
    assert before.startswith("<|user|>First.<|end|><|assistant|>One.<|end|><|user|>")
    assert before.endswith("h<|end|><|assistant|>")
    assert answer == "Two.<|end|>"


def test_what_does_not_fit_without_the_users_text_is_refused_even_when_cutting(chat: Renderer) -> None:
    with pytest.raises(DataError, match=r"^general\.jsonl:7: .*answer"):
        chat.row(example("Wet?", "A very long answer."), max_tokens=12, too_long="cut")


def test_plain_text_is_cut_at_its_end(plain: Renderer) -> None:
    row = plain.row(example("Rain fell."), max_tokens=5, too_long="cut")
    assert parts(plain, row) == ("<s>", "Rain")


# -------------------------------------------------------------------------------------------------- a tokenizer's file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tokenizer.json with word pieces, an end mark, and a start mark that it adds by itself."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {
        token: place for place, token in enumerate(["<s>", "</s>", "<|end|>", *alphabet, "Ġy", "Ġye", "Ġyes"])
    }
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ġ", "y"), ("Ġy", "e"), ("Ġye", "s")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in ("<s>", "</s>", "<|end|>")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_a_tokenizer_file_that_truncates_and_pads_does_neither_here(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    assert len(tokenizer.encode("abcdefgh")) == 8
    assert len(tokenizer.encode("a")) == 1


def test_the_start_mark_is_added_once_where_the_tokenizer_adds_it_itself(folder: Path, fake_model: Model) -> None:
    renderer = renderer_for(fake_model(chat_template=None, folder=str(folder)))
    row = renderer.row(example("Wet?", "yes"), max_tokens=100, too_long="refuse")
    assert row is not None
    assert [place for place, token in enumerate(row.ids) if token == 0] == [0]
    assert row.ids[row.loss_from :] == (renderer.tokenizer.token_id("Ġyes"), renderer.tokenizer.token_id("</s>"))


def test_marks_in_a_template_are_single_tokens_and_do_not_come_back_in_text(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    assert tokenizer.encode("<|end|>") == [tokenizer.token_id("<|end|>")]
    assert tokenizer.decode([*tokenizer.encode(" yes"), *tokenizer.encode("<|end|>")]) == " yes"


@FIXTURES
@given(text=st.text(max_size=20))
def test_any_text_is_encoded_even_with_lone_surrogates(folder: Path, text: str) -> None:
    tokenizer = load_tokenizer(folder)
    assert tokenizer.encode(f"{text}\ud800") == tokenizer.encode(f"{text}?")
    assert len(tokenizer.starts(text)) == len(tokenizer.encode(text))


def test_a_broken_tokenizer_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)
