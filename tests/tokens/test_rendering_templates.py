"""Training rows hold what the model's own chat template writes for the whole conversation, to the id.

The reference is transformers' `apply_chat_template`, over templates of the families that people bring, written small,
and over two kinds of tokenizer: one that keeps bytes apart at white space, one that puts it before words.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from titrant.core.errors import ModelError, TemplateRefusal
from titrant.core.records import Example, Item, Origin, PreparedModel, Turn
from titrant.tokens import Renderer, renderer_for
from titrant.tokens.rendering import Conflict

MARKS = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>", "<|endoftext|>")
CORPUS = [
    "Is it positive or negative? It is positive. No, it is negative: 7 of 12 say so.",
    "User: Assistant: assistant user system model [INST] [/INST] think answer the question with a label",
    "The film was good, the weather was not. Refund or invoice? Yes and no.",
    "one\n\ntwo\n\n\nthree\n\n\n\nfour  five   six\n    seven",
] * 20

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHATML_WITHOUT = CHATML.partition("{% if add_generation_prompt")[0]
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
LLAMA2 = MISTRAL.replace("message['content'] + eos_token", "message['content'] | trim + ' ' + eos_token")
DEEPSEEK = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ 'User: ' + message['content'] + '\n\n' }}{% elif message['role'] == 'assistant' %}"
    "{{ 'Assistant: ' + message['content'] + eos_token }}{% else %}{{ message['content'] + '\n\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
QWEN3 = (
    "{%- for message in messages %}{%- if message.role == 'assistant' and loop.last %}"
    "{{- '<|im_start|>assistant\n<think>\n\n</think>\n\n' + message.content + '<|im_end|>\n' }}{%- else %}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
REASONER = QWEN3.replace("<think>\n\n</think>\n\n", "").replace(
    "assistant\n' }}{%- endif", "assistant\n<think>\n' }}{%- endif"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"  # noqa: E501
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' "
    "+ message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
GENERATION = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}"
    "{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SILENT = CHATML.replace("{% for message in messages %}", "{% for message in messages if message.role != 'system' %}")
# template, the end mark of an answer
FAMILIES = {
    "chatml": (CHATML, "<|im_end|>"),
    "chatml without a generation prompt": (CHATML_WITHOUT, "<|im_end|>"),
    "mistral": (MISTRAL, "</s>"),
    "llama 2": (LLAMA2, "</s>"),
    "deepseek": (DEEPSEEK, "</s>"),
    "qwen3": (QWEN3, "<|im_end|>"),
    "reasoner": (REASONER, "<|im_end|>"),
    "gemma": (GEMMA, "<end_of_turn>"),
    "generation blocks": (GENERATION, "<|im_end|>"),
}
CONVERSATIONS = {
    "one question": ("Is it positive?", "positive"),
    "several turns": ("Hi.", "Hello, what is it?", "Label the film.", "negative"),
    "a digit": ("How many say so?", "7"),
    "another script": ("Это хорошо?", "Да, это так."),
    "white space around the answer": ("Answer with a space.", " positive \n"),
    "lines": ("Answer in lines.", "one\n\n  two\n\nthree\n"),
    "white space around the question": ("  Is it so? \n", "No."),
    "lines before the answer": ("Leave lines out.", "\n\n\nNo."),
}


def _bytes() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, pre_tokenizers.ByteLevel.alphabet()


def _metaspace() -> Any:
    """As Llama's and Mistral's: a mark for each space, and one before the text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first", split=False)
    return tokenizer, [*string.printable, *"Этохршдак"]


@pytest.fixture(scope="module", params=["bytes", "metaspace", "bytes that strip"])
def tokenizer_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import AddedToken, trainers

    tokenizer, alphabet = _metaspace() if request.param == "metaspace" else _bytes()
    strips = request.param.endswith("strip")  # as Phi-3's: a mark takes the white space beside it along
    marks = [AddedToken(mark, special=True, lstrip=strips, rstrip=strips) for mark in MARKS]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=marks, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    folder = tmp_path_factory.mktemp(request.param.replace(" ", "_"))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


Make = Callable[..., Renderer]


@pytest.fixture
def make(tokenizer_folder: Path, fake_model: Callable[..., PreparedModel]) -> Make:
    """The renderer of a family."""
    from dataclasses import replace

    def made(family: str, **options: bool) -> Renderer:
        template, end = FAMILIES.get(family, (family, "<|im_end|>"))
        model = fake_model(chat_template=template, folder=str(tokenizer_folder), eos="</s>")
        end_id = renderer_for(fake_model(chat_template=None, folder=str(tokenizer_folder))).tokenizer.token_id(end)
        assert end_id is not None
        return renderer_for(replace(model, end_ids=(end_id,)), **options)

    return made


def of_transformers(renderer: Renderer, turns: tuple[Turn, ...]) -> tuple[int, ...]:
    """The ids of the whole conversation up to its last end mark, by transformers."""
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(
        tokenizer_file=str(Path(renderer.model.folder) / "tokenizer.json"), bos_token="<s>", eos_token="</s>"
    )
    fast.chat_template = renderer.model.chat_template
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    ids = fast.apply_chat_template(messages, tokenize=True, return_dict=False)
    last = len(ids) - 1 - ids[::-1].index(renderer.end_ids[0])
    return tuple(ids[: last + 1])


def conversation(*texts: str, system: str | None = None) -> Example:
    first = (Turn(role="system", text=system),) if system is not None else ()
    roles = ["assistant" if (len(texts) - place) % 2 else "user" for place in range(len(texts))]
    turns = first + tuple(Turn(role=role, text=text) for role, text in zip(roles, texts, strict=True))  # type: ignore[arg-type]
    return Example(key="k", row_id="7", source="general", task="general", turns=turns,
                   origin=Origin(path="general.jsonl", line=7))  # fmt: skip


def item(turns: tuple[Turn, ...], *, choices: tuple[str, ...] | None = None, reference: str = "yes") -> Item:
    return Item(key="i", row_id="1", eval_set="target", target="t", task="t", turns=turns, references=(reference,),
                choices=choices, answer="choices" if choices else "text", metric="accuracy",
                max_answer_tokens=5)  # fmt: skip


@pytest.mark.parametrize("texts", CONVERSATIONS.values(), ids=CONVERSATIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_rows_ids_are_those_of_the_template_over_the_whole_conversation(
    make: Make, family: str, texts: tuple[str, ...]
) -> None:
    renderer = make(family)
    example = conversation(*texts)
    row = renderer.row(example, max_tokens=1000, too_long="refuse")
    assert row is not None
    assert row.ids == of_transformers(renderer, example.turns)


@pytest.mark.parametrize("family", ["chatml", "deepseek", "qwen3", "generation blocks"])
def test_system_turns_stand_where_the_template_has_them(make: Make, family: str) -> None:
    renderer = make(family)
    example = conversation("Is it so?", "No.", system="Be terse.")
    row = renderer.row(example, max_tokens=1000, too_long="refuse")
    assert row is not None
    assert row.ids == of_transformers(renderer, example.turns)


@pytest.mark.parametrize("family", FAMILIES)
def test_answering_starts_from_what_training_rows_begin_with(make: Make, family: str) -> None:
    renderer = make(family)
    example = conversation("Is the film good?", "positive")
    row = renderer.row(example, max_tokens=1000, too_long="refuse")
    assert row is not None
    begun = row.ids[: row.loss_from]
    written = renderer.generation(item(example.prompt))
    question = renderer.question(item(example.prompt, choices=("negative", "positive", "7")))
    reference = renderer.reference_row(item(example.prompt, reference="positive"))
    assert written.ids == question.prompt == begun
    assert begun + question.choices[1] == row.ids
    assert (reference.ids, reference.loss_from) == (row.ids, row.loss_from)
    assert "positive" in renderer.tokenizer.decode(row.ids[row.loss_from :])
    assert "good" not in renderer.tokenizer.decode(row.ids[row.loss_from :])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_choice_is_the_whole_conversation_with_it(make: Make, family: str) -> None:
    renderer = make(family)
    choices = ("positive", " negative", "\n\n\nNo", "No")
    asked = (Turn(role="user", text="Which?"),)
    question = renderer.question(item(asked, choices=choices))
    for choice, ids in zip(choices, question.choices, strict=True):
        turns = (*asked, Turn(role="assistant", text=choice))
        assert question.prompt + ids == of_transformers(renderer, turns)


TEXT = st.text(alphabet="ab Ñ\n.7", min_size=1, max_size=20)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=15
)
@given(question=TEXT, answer=TEXT)
def test_no_text_moves_a_row_away_from_the_template(make: Make, question: str, answer: str) -> None:
    for family in ("chatml", "qwen3", "gemma"):
        renderer = make(family)
        if family == "gemma" and not answer.strip():
            continue
        example = conversation(question, answer)
        row = renderer.row(example, max_tokens=1000, too_long="refuse")
        assert row is not None
        assert row.ids == of_transformers(renderer, example.turns)
        assert 1 <= row.loss_from < len(row.ids)


def test_a_row_that_does_not_begin_as_it_is_answered_is_told_with_both_texts(make: Make) -> None:
    # Templates of models that reason take an answer's own thoughts in place of the empty block.
    template = QWEN3.replace(
        "message.content + '<|im_end|>\n' }}{%- else", "message.content + '<|im_end|>\n' }}{%- else"
    )
    template = template.replace(
        "'<|im_start|>assistant\n<think>\n\n</think>\n\n' + message.content",
        "'<|im_start|>assistant\n' + ('' if '<think>' in message.content else '<think>\n\n</think>\n\n') "
        "+ message.content",
    )
    renderer = make(template)
    told: list[Conflict] = []
    for answer in ("Yes.", "<think>\nIt rains.\n</think>\n\nYes."):
        example = conversation("Wet?", answer)
        row = renderer.row(example, max_tokens=1000, too_long="refuse", on_conflict=told.append)
        assert row is not None
        assert row.ids == of_transformers(renderer, example.turns)
    (conflict,) = told
    assert conflict.answering.rstrip().endswith("</think>")
    assert "It rains." in conflict.training


# ------------------------------------------------------------------------------------------ what plan says of templates


@pytest.mark.parametrize("family", ["chatml", "gemma", "generation blocks"])
def test_nothing_is_said_of_a_generation_prompt_that_begins_the_answer(make: Make, family: str) -> None:
    assert make(family).generation_prompt_note((Turn(role="user", text="Wet?"),)) is None


@pytest.mark.parametrize(
    ("family", "between"),
    [
        ("chatml without a generation prompt", r"<|im_start|>assistant\n"),
        ("qwen3", r"<think>\n\n</think>\n\n"),
        ("deepseek", "' '"),
    ],
)
def test_what_stands_between_generation_prompt_and_answer_is_named(make: Make, family: str, between: str) -> None:
    note = make(family).generation_prompt_note((Turn(role="user", text="Wet?"),))
    assert note is not None
    assert between in note
    assert "part of the prompt" in note


@pytest.mark.parametrize("family", FAMILIES)
def test_the_generation_prompt_can_be_made_into_the_prompt_that_is_answered(make: Make, family: str) -> None:
    from transformers import PreTrainedTokenizerFast

    renderer = make(family)
    turns = (Turn(role="user", text="Is it so?"),)
    edit = renderer.generation_prompt_edit((Turn(role="user", text="…"),))
    fast = PreTrainedTokenizerFast(
        tokenizer_file=str(Path(renderer.model.folder) / "tokenizer.json"), bos_token="<s>", eos_token="</s>"
    )
    fast.chat_template = renderer.model.chat_template
    messages = [{"role": "user", "content": "Is it so?"}]
    text = fast.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    text = text[: len(text) - edit.cut] + edit.added
    assert tuple(fast(text, add_special_tokens=False)["input_ids"]) == renderer.generation(item(turns)).ids


def test_a_generation_prompt_that_begins_no_conversation_is_told_with_both_texts(make: Make) -> None:
    note = make("reasoner").generation_prompt_note((Turn(role="user", text="Wet?"),))
    assert note is not None
    assert r"<|im_start|>assistant\n<think>\n' against" in note
    assert r"<|im_start|>assistant\n')" in note


def test_a_template_that_leaves_the_answer_out_is_refused(make: Make) -> None:
    with pytest.raises(ModelError, match="leaves an answer out"):
        make("{% for message in messages if message.role == 'user' %}{{ message.content }}<|im_end|>{% endfor %}")


# ------------------------------------------------------------------------------------------------------- system turns


@pytest.mark.parametrize("family", ["gemma", "mistral", SILENT])
def test_without_a_system_role_the_system_turn_stands_before_the_first_question(make: Make, family: str) -> None:
    renderer = make(family)
    assert not renderer.takes_system
    row = renderer.row(conversation("Wet?", "No.", system="Be terse."), max_tokens=1000, too_long="refuse")
    merged = conversation("Be terse.\n\nWet?", "No.")
    assert row is not None
    assert row.ids == of_transformers(renderer, merged.turns)


@pytest.mark.parametrize("family", ["gemma", "mistral", SILENT])
def test_where_system_turns_are_not_to_be_merged_the_row_is_refused_with_its_place(make: Make, family: str) -> None:
    renderer = make(family, merge_system=False)
    with pytest.raises(TemplateRefusal, match=r"^general\.jsonl:7: .*no system role.*system, user"):
        renderer.row(conversation("Wet?", "No.", system="Be terse."), max_tokens=1000, too_long="refuse")


def test_other_refusals_name_the_row_too(make: Make) -> None:
    twice = (Turn(role="user", text="Wet?"), Turn(role="user", text="Say."), Turn(role="assistant", text="No."))
    example = Example(key="k", row_id="7", source="g", task="g", turns=twice, origin=Origin(path="g.jsonl", line=3))
    with pytest.raises(TemplateRefusal, match=r"^g\.jsonl:3: .*user, user.*must alternate"):
        make("gemma").row(example, max_tokens=1000, too_long="refuse")


# ------------------------------------------------------------------------------------------- control tokens in the rows


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "texts",
    [
        ("Is it so?", "Paris<|endoftext|>"),
        ("The <|im_end|> token", "ends a turn: <|im_end|> </s> <end_of_turn>, does it not?"),
        ("<|im_start|>user\nHi.<|im_end|>", "<s>[INST] Hi. [/INST] No.</s>"),
    ],
)
def test_control_tokens_inside_a_row_are_text(make: Make, family: str, texts: tuple[str, str]) -> None:
    renderer = make(family)
    control = {renderer.tokenizer.token_id(mark) for mark in MARKS}
    example = conversation(*texts)
    row = renderer.row(example, max_tokens=1000, too_long="refuse")
    bare = renderer.row(conversation("Hi.", "No."), max_tokens=1000, too_long="refuse")
    assert row is not None
    assert bare is not None
    assert [token for token in row.ids if token in control] == [token for token in bare.ids if token in control]
    assert row.ids[-1] == renderer.end_ids[0]
    assert row.ids[: row.loss_from] == renderer.generation(item(example.prompt)).ids
    question = renderer.question(item(example.prompt, choices=(texts[1], "No")))
    assert question.prompt + question.choices[0] == row.ids


def test_text_of_control_tokens_is_kept(make: Make) -> None:
    renderer = make("chatml")
    answer = "say <|im_end|> twice"
    row = renderer.row(conversation("Wet?", answer), max_tokens=1000, too_long="refuse")
    assert row is not None
    shown = renderer.tokenizer.decode(row.ids[row.loss_from :])
    assert shown == answer
    assert renderer.control_tokens_in(answer) == ("<|im_end|>",)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_surrounds_a_control_token_of_a_row_has_its_usual_ids(make: Make, family: str) -> None:
    renderer = make(family)
    row = renderer.row(conversation("Wet?", "No. <|im_end|>"), max_tokens=1000, too_long="refuse")
    usual = renderer.row(conversation("Wet?", "No."), max_tokens=1000, too_long="refuse")
    assert row is not None
    assert usual is not None
    assert row.ids[: row.loss_from + 1] == usual.ids[: usual.loss_from + 1]


def test_plain_text_and_the_plain_template_hold_no_control_token_of_a_row(
    tokenizer_folder: Path, fake_model: Callable[..., PreparedModel]
) -> None:
    renderer = renderer_for(fake_model(chat_template=None, folder=str(tokenizer_folder)))
    end = renderer.tokenizer.token_id("</s>")
    for example in (conversation("Wet?</s>", "No.</s>"), conversation("Rain</s> fell.")):
        row = renderer.row(example, max_tokens=1000, too_long="refuse")
        assert row is not None
        assert [place for place, token in enumerate(row.ids) if token == end] == [len(row.ids) - 1]


@pytest.mark.parametrize("planes", [(0xF0000,), (0xF0000, 0x100000)])
def test_private_characters_of_a_row_stay_what_they_are(make: Make, planes: tuple[int, ...]) -> None:
    renderer = make("chatml")
    private = "".join(chr(plane + number) for plane in planes for number in range(len(MARKS)))
    texts = (f"Wet {private}?", "<|im_end|>" + private)
    row = renderer.row(conversation(*texts), max_tokens=1000, too_long="refuse")
    assert row is not None
    if "bytes" in renderer.model.folder:
        assert renderer.tokenizer.decode(row.ids[row.loss_from :]) == texts[1]


def test_control_tokens_beside_all_private_characters_are_refused_and_not_confused(make: Make) -> None:
    from titrant.core.errors import DataError

    everything = "".join(chr(plane + n) for plane in (0xE000, 0xF0000, 0x100000) for n in range(len(MARKS)))
    with pytest.raises(DataError, match="private"):
        make("chatml").row(conversation("Wet?", "<|im_end|>" + everything), max_tokens=1000, too_long="refuse")


@pytest.mark.parametrize("place", ["at the start", "in the question"])
def test_a_template_may_look_at_the_answer_long_before_it(make: Make, place: str) -> None:
    length = "{{ 'An answer of ' + (messages[-1]['content'] | length | string) + ' letters.\n' }}"
    asks = "<|im_start|>user\n" if place == "in the question" else ""
    renderer = make((asks + length + ("<|im_end|>\n" if asks else "")) + CHATML)
    told: list[Conflict] = []
    example = conversation("Wet?", "No.")
    row = renderer.row(example, max_tokens=1000, too_long="refuse", on_conflict=told.append)
    assert row is not None
    assert row.ids == of_transformers(renderer, example.turns)
    assert len(told) == 1
