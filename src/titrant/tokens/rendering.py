"""Turns to token ids, with the place where the answer begins.

Two templates: a model's own chat template (Jinja, rendered in a sandbox as transformers does), or the plain one for
base models, `{prompt}\\n\\nAnswer: {answer}{eos}`, which uses no control token that the model never saw in training.

With a chat template a training row holds the ids of the whole conversation, as the template writes it, up to the
answer's end mark. The prompt is what the template writes before an answer in a whole conversation, and not what it
writes with `add_generation_prompt`: the two differ where a template has no generation prompt, puts a space or an empty
think block before an answer, or opens a think block only when it asks for one. Training and answering then start from
the same ids. With the plain template prompt and answer are encoded apart and joined as ids.

An answer ends with the template's end mark, which bears loss and counts in a choice's likelihood: a model must also
learn to stop. A control token that stands inside a row's own text is text like any other: read as a control token, an
answer that mentions the end mark would end there, and a question could close its own turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from titrant.core.errors import DataError, ModelError, TemplateRefusal
from titrant.core.records import Example, Item, PreparedModel, Role, TokenPrompt, TokenQuestion, TokenRow, Turn

_SENTINEL = "titrant-answer-goes-here"
_SYSTEM_SENTINEL = "titrant-system-turn-goes-here"
# Answers that begin with a small letter, a capital, a digit, another script and a bracket: what tokenizers tell apart.
_PROBE_ANSWERS = ("positive", "No", "7", "\u042d\u0442\u043e", "(a)")
_BEHIND = "\U0010fffdbehind a control token\U0010fffd"
_PRIVATE_PLANES = (0xF0000, 0x100000, 0xE000)  # of Unicode: characters without a meaning, which no template looks for


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlToken:
    """A control token in a text: its characters from `start` to `stop`, its `token`, its `place` among the text's ids.

    A token may take the white space beside it along (`lstrip`, `rstrip` of tokenizer.json): `start` and `stop` hold it.
    """

    start: int
    stop: int
    token: int
    place: int


class Tokenizer(Protocol):
    """What rendering needs of a tokenizer. `control_tokens` are the texts of its special tokens."""

    @property
    def control_tokens(self) -> frozenset[str]: ...

    def encode(self, text: str, *, control: bool = True, behind_control: bool = False) -> list[int]:
        """The ids of `text`, none added. Control tokens that stand in it are recognised; without `control` they are
        text like any other. `behind_control`: the text stands behind a control token, and not at the start of all."""
        ...

    def find_control(self, text: str) -> list[ControlToken]:
        """The control tokens that `encode` recognises in `text`, in order."""
        ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def token_id(self, token: str) -> int | None: ...

    def starts(self, text: str) -> list[int]:
        """The character at which each token of `text` starts."""
        ...


class FastTokenizer:
    """A tokenizer.json through the tokenizers library."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer as Backend

        try:
            self._backend = Backend.from_file(str(path))
        except Exception as error:  # noqa: BLE001  (the library raises bare Exception for any fault in the file)
            raise ModelError(f"the tokenizer cannot be read: {error}", where=str(path)) from None
        self._backend.no_truncation()
        self._backend.no_padding()
        # One object for each id: a row of 200 tokens is then 1.6 kB and not 7, of which a large dose has many.
        self._shared = list(range(self._backend.get_vocab_size(with_added_tokens=True)))
        added = self._backend.get_added_tokens_decoder()
        self._control_ids = frozenset(index for index, token in added.items() if token.special)
        self.control_tokens = frozenset(added[index].content for index in self._control_ids)

    def encode(self, text: str, *, control: bool = True, behind_control: bool = False) -> list[int]:
        shared, known = self._shared, len(self._shared)
        if control:
            ids = self._backend.encode(_encodable(text), add_special_tokens=False).ids
        elif _BEHIND in text:
            raise DataError("the text holds the sign that stands for a control token here", got=_BEHIND)
        else:
            before = _BEHIND if behind_control else ""
            ids = self._without_control.encode(before + _encodable(text), add_special_tokens=False).ids
            # The stand-in for the control token was there for the sake of what follows it; it is no id of the text.
            ids = ids[1:] if behind_control else ids
        return [shared[token] if token < known else token for token in ids]

    def find_control(self, text: str) -> list[ControlToken]:
        encoding = self._backend.encode(_encodable(text), add_special_tokens=False)
        offsets = encoding.offsets
        return [
            ControlToken(start=offsets[place][0], stop=offsets[place][1], token=token, place=place)
            for place, token in enumerate(encoding.ids)
            if token in self._control_ids
        ]

    @cached_property
    def _without_control(self) -> Any:
        """A second tokenizer, for which control tokens are text: the switch is the tokenizer's, not the call's.

        `_BEHIND` is a token of its own there. Some tokenizers (SentencePiece's later form) put a space before a text
        but not before what follows a control token; what follows this one is encoded as there.
        """
        from tokenizers import AddedToken

        backend = type(self._backend).from_str(self._backend.to_str())
        backend.encode_special_tokens = True
        backend.add_tokens([AddedToken(_BEHIND, special=False, normalized=False)])
        return backend

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._backend.decode(list(ids), skip_special_tokens=True))

    def token_id(self, token: str) -> int | None:
        found = self._backend.token_to_id(token)
        return None if found is None else int(found)

    def starts(self, text: str) -> list[int]:
        encoding = self._backend.encode(_encodable(text), add_special_tokens=False)
        return [start for start, _ in encoding.offsets]

    def adds_bos(self, bos: str) -> bool:
        """Does the tokenizer itself put `bos` before a text?"""
        ids = self._backend.encode("a", add_special_tokens=True).ids
        return bool(ids) and ids[0] == self.token_id(bos)


def load_tokenizer(folder: Path) -> FastTokenizer:
    """The tokenizer of a prepared model's folder."""
    return FastTokenizer(folder / "tokenizer.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedPrompt:
    """A prompt as text, and what an answer to it starts with (the plain template's space).

    `text` may hold characters that stand for control tokens of the row's own text: `literal` says for which.
    `opening` are the ids of its first `opening_characters`, which are the same in any text that goes on behind them.
    """

    text: str
    answer_prefix: str
    turns: tuple[Turn, ...] = ()
    literal: Mapping[str, str] = field(default_factory=dict)
    opening: tuple[int, ...] = ()
    opening_characters: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A row whose ids in training do not begin with those from which it is answered: the ends of both as text."""

    answering: str
    training: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptEdit:
    """What makes the template's own generation prompt the one that answering starts from: characters to cut off its
    end, and text to put there."""

    cut: int
    added: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Whole:
    """A conversation in ids up to its end mark. The first `shared` are those of `prompt`, from which it is answered."""

    ids: tuple[int, ...]
    prompt: tuple[int, ...]
    shared: int


class Renderer:
    """Renders examples and items for one model. Make it with `renderer_for`.

    `merge_system`: where the template has no system role, system turns at the start are put before the first user's
    text; else such a conversation is refused. `takes_system` says whether the template has the role.
    """

    def __init__(self, tokenizer: Tokenizer, model: PreparedModel, *, add_bos: bool, merge_system: bool = True) -> None:
        self.tokenizer, self.model, self.merge_system = tokenizer, model, merge_system
        self._chat = _compiled(model.chat_template) if model.template == "chat" and model.chat_template else None
        self._bos = model.bos if add_bos and self._chat is None else None
        # The longest first: a pattern takes the first alternative that fits, and one token may begin with another.
        tokens = sorted(tokenizer.control_tokens, key=lambda token: (-len(token), token))
        self._control = re.compile("|".join(map(re.escape, tokens))) if tokens else None
        self._placeholders = {token: number for number, token in enumerate(tokens)}
        # Templates are programs and say nothing of themselves: what they do is found out once by rendering sentinels.
        self.takes_system = self._chat is None or self._writes_system()
        self.end_ids = model.end_ids[:1] or self._end_ids()
        eos = tokenizer.token_id(model.eos)
        # Writing stops at any of the end marks that the model knows: one tuned to another mark would otherwise write on
        # to the limit. Training teaches the first alone.
        self.stop_ids = tuple(dict.fromkeys((*self.end_ids, *model.end_ids, *(() if eos is None else (eos,)))))
        self._end_mark = next((token for token in tokens if tokenizer.token_id(token) == self.end_ids[0]), None)
        self._ends_behind_answer, self._space = 0, 0
        if self._chat is not None:
            self._ends_behind_answer, self._space = self._answer_edges()

    def control_tokens_in(self, text: str) -> tuple[str, ...]:
        """The model's control tokens that stand in a text, in order, each time they do."""
        return () if self._control is None else tuple(self._control.findall(text))

    def row(
        self,
        example: Example,
        *,
        max_tokens: int,
        too_long: str,
        on_conflict: Callable[[Conflict], None] = lambda _: None,
    ) -> TokenRow | None:
        """The example in ids, or None when it is longer than `max_tokens` and `too_long` is `drop`.

        `refuse` raises `DataError`; `cut` shortens the last user's text from its start, never the answer or the marks;
        plain text (no prompt) it shortens from its end, which then has no end mark. Every row has a token to learn.
        `TemplateRefusal` where the template refuses the conversation. `on_conflict` hears of a row that learns from
        another beginning than the one from which it would be answered: the template, or the tokenizer where prompt and
        answer meet, looks at the answer. Its ids are still the template's; what is not the prompt's is learned.
        """
        try:
            row, conflict = self._row(example)
        except TemplateRefusal as error:
            raise error.at(str(example.origin or example.row_id)) from None
        if conflict is not None:
            on_conflict(conflict)
        if row.loss_tokens < 1:
            where = str(example.origin) if example.origin else example.row_id
            raise DataError("the row holds no token to learn", where=where, expected="a text of at least one token")
        if len(row.ids) <= max_tokens:
            return row
        if too_long == "drop":
            return None
        if too_long == "cut":
            return self._cut(example, max_tokens=max_tokens)
        raise DataError(
            "the row is longer than max_tokens",
            where=str(example.origin) if example.origin else example.row_id,
            got=f"{len(row.ids)} tokens",
            expected=f"at most {max_tokens}",
            fix="raise training.max_tokens, or say training.too_long: cut or drop",
        )

    def question(self, item: Item) -> TokenQuestion:
        """An item with choices in ids. Its prompt is what all choices begin with, at most the prompt's own ids."""
        assert item.choices is not None
        prompt = self._placed_prompt(item, beside=item.choices)
        found = [self._whole(prompt, choice) for choice in item.choices]
        # Where a tokenizer joins a choice's beginning with the prompt's end, the choices part before the prompt ends.
        shared = min(whole.shared for whole in found)
        return TokenQuestion(
            key=item.key, prompt=found[0].ids[:shared], choices=tuple(whole.ids[shared:] for whole in found)
        )

    def generation(self, item: Item) -> TokenPrompt:
        """An item to be answered in free text."""
        return TokenPrompt(
            key=item.key,
            ids=self._prompt_ids(self._placed_prompt(item)),
            max_new_tokens=item.max_answer_tokens,
            end_ids=self.stop_ids,
        )

    def reference_row(self, item: Item) -> TokenRow:
        """An item with its first reference as the answer, for its loss."""
        prompt = self._placed_prompt(item, beside=item.references[:1])
        whole = self._whole(prompt, item.references[0])
        return TokenRow(key=item.key, source=item.eval_set, ids=whole.ids, loss_from=whole.shared)

    def prompt(self, turns: Sequence[Turn], *, beside: Sequence[str] = ()) -> RenderedPrompt:
        """The prompt up to where the answer's tokens begin. `beside` are the answers that will be put behind it."""
        turns = self._with_system_merged(turns)
        literal = self._literal([*(turn.text for turn in turns), *beside])
        masked = tuple(Turn(role=turn.role, text=_masked(turn.text, literal)) for turn in turns)
        if self._chat is None:
            text = "".join(_plain_parts(masked)) + "Answer:"
            return RenderedPrompt(text=text, answer_prefix=" ", turns=masked, literal=literal)
        # From the template's whole conversation, with a sentinel for the answer: what stands before it is the prompt
        # that training rows hold.
        before = self._around_answer(masked)[0]
        cut = len(before) - self._space
        space = before[cut:]
        if space.strip():  # this conversation's prompt does not end as others do
            cut, space = len(before), ""
        text = before[:cut]
        # Everything up to the last control token is encoded once for a question, whatever its number of choices.
        opening = self._last_control_token(text)
        return RenderedPrompt(
            text=text,
            answer_prefix=space,
            turns=masked,
            literal=literal,
            opening=tuple(self._encode(text[:opening], literal)),
            opening_characters=opening,
        )

    def generation_prompt_note(self, turns: Sequence[Turn]) -> str | None:
        """How the template's own generation prompt differs from what it writes before an answer; None where it does
        not. Answering starts from the latter, for that is what training rows hold."""
        if self._chat is None:
            return None
        prompt = self.prompt(turns)
        before = prompt.text + prompt.answer_prefix
        asking = self._render(prompt.turns, generation=True)
        if asking == before:
            return None
        common = _common_length(asking, before)
        first = max(0, common - 40)
        ends = f"{asking[first:]!r} against {before[first:]!r}"
        if common == len(asking):
            return (
                f"the template writes {before[common:]!r} between its generation prompt and an answer ({ends}): "
                "it is part of the prompt"
            )
        return (
            "the template's generation prompt is no beginning of the whole conversation "
            f"({ends}): training and answering start from the second, as whole conversations have it"
        )

    def generation_prompt_edit(self, turns: Sequence[Turn]) -> PromptEdit:
        """How somebody who renders with `add_generation_prompt` gets the prompt that answering here starts from."""
        assert self._chat is not None, "the plain template has no generation prompt"
        prompt = self.prompt(turns)
        asking = self._render(prompt.turns, generation=True)
        common = _common_length(asking, prompt.text)
        return PromptEdit(cut=len(asking) - common, added=prompt.text[common:])

    def _placed_prompt(self, item: Item, *, beside: Sequence[str] = ()) -> RenderedPrompt:
        try:
            return self.prompt(item.turns, beside=beside)
        except TemplateRefusal as error:
            raise error.at(str(item.origin or item.row_id)) from None

    def _row(self, example: Example) -> tuple[TokenRow, Conflict | None]:
        if not example.prompt:
            text = (self.model.bos or "") if self._bos else ""
            literal = self._literal([example.answer])
            ids = (*self._encode(text + _masked(example.answer, literal), literal), *self.end_ids)
            return TokenRow(key=example.key, source=example.source, ids=ids, loss_from=1), None
        prompt = self.prompt(example.prompt, beside=(example.answer,))
        whole = self._whole(prompt, example.answer)
        row = TokenRow(key=example.key, source=example.source, ids=whole.ids, loss_from=whole.shared)
        if whole.shared == len(whole.prompt):
            return row, None
        decode = self.tokenizer.decode
        first = max(0, whole.shared - 12)
        return row, Conflict(
            answering=decode(whole.prompt[first:]), training=decode(whole.ids[first : whole.shared + 12])
        )

    def _cut(self, example: Example, *, max_tokens: int) -> TokenRow:
        turns = list(example.turns)
        place = max((index for index, turn in enumerate(turns) if turn.role == "user"), default=None)
        while place is not None:
            # Again and again, as ids of a shorter text need not be a suffix of the longer one's: tokenizers merge
            # across the cut.
            excess = len(self._row(replace(example, turns=tuple(turns)))[0].ids) - max_tokens
            if excess <= 0:
                return self._row(replace(example, turns=tuple(turns)))[0]
            text = turns[place].text
            starts = self.tokenizer.starts(text)
            if len(starts) <= excess:
                break
            rest = text[starts[excess] :]
            # Where offsets say that nothing would go (several tokens of one character), one character goes, so that
            # this ends.
            turns[place] = Turn(role="user", text=rest if len(rest) < len(text) else text[1:])
        if place is None and not example.prompt and max_tokens > 1:
            row, _ = self._row(example)
            return replace(row, ids=row.ids[:max_tokens])
        raise DataError(
            "the row does not fit even without the user's text: its answer and the template's marks are too long",
            where=str(example.origin) if example.origin else example.row_id,
            expected=f"at most {max_tokens} tokens",
            fix="raise training.max_tokens, or say training.too_long: drop",
        )

    # ids

    def _prompt_ids(self, prompt: RenderedPrompt) -> tuple[int, ...]:
        if self._chat is None:
            return tuple(self._encode((self._bos or "") + prompt.text, prompt.literal))
        return (*prompt.opening, *self._encode(prompt.text[prompt.opening_characters :], prompt.literal))

    def _whole(self, prompt: RenderedPrompt, answer: str) -> _Whole:
        """Prompt and answer up to the end mark."""
        own = self._prompt_ids(prompt)
        masked = _masked(answer, prompt.literal)
        if self._chat is None:
            ids = (*own, *self._encode(prompt.answer_prefix + masked, prompt.literal), *self.end_ids)
            return _Whole(ids=ids, prompt=own, shared=len(own))
        # The whole conversation is rendered with the answer in it: a template may trim or wrap what the assistant says.
        text, ends = self._up_to_the_end(prompt.turns, masked)
        # The opening is encoded once for the prompt and all its answers; a template may also look at the answer there.
        opening, after = prompt.opening, prompt.opening_characters
        if not text.startswith(prompt.text[:after]):
            opening, after = (), 0
        ids = (*opening, *self._encode(text[after:], prompt.literal), *(() if ends else self.end_ids))
        # at least one token before the first that bears loss, and one that does
        shared = min(_common_length(own, ids), len(ids) - 1)
        return _Whole(ids=ids, prompt=own, shared=max(1, shared))

    def _encode(self, text: str, literal: Mapping[str, str]) -> list[int]:
        """The ids of a rendered text, in which characters may stand for control tokens that are to be text.

        Tokenizers encode what lies between two control tokens on its own, so doing the same by hand changes nothing.
        """
        if not any(character in text for character in literal):
            return self.tokenizer.encode(text)
        encode = self.tokenizer.encode
        ids: list[int] = []
        place = 0
        for found in self.tokenizer.find_control(text):
            piece = _unmasked(text[place : found.start], literal)
            ids += [*encode(piece, control=False, behind_control=place > 0), found.token]
            place = found.stop
        return ids + encode(_unmasked(text[place:], literal), control=False, behind_control=place > 0)

    def _last_control_token(self, text: str) -> int:
        """Where the last control token of a rendered text starts, 0 where there is none. What stands before and behind
        such a place has the same ids alone as together; not so where a token takes white space before it along."""
        places = [] if self._control is None else [found.start() for found in self._control.finditer(text)]
        return next((place for place in reversed(places) if place and not text[place - 1].isspace()), 0)

    def _literal(self, texts: Sequence[str]) -> dict[str, str]:
        """A character for each control token that stands in these texts, none of which is in them already.

        The template sees the character, so what is left of control tokens in its output is its own.
        """
        if self._control is None or not any(self._control.search(text) for text in texts):
            return {}
        # A character of a private plane for each: it has no meaning that a template or a tokenizer could look for, and
        # is put back as the token's plain text when ids are made.
        tokens = {token for text in texts for token in self._control.findall(text)}
        for plane in _PRIVATE_PLANES:
            found = {chr(plane + self._placeholders[token]): token for token in tokens}
            if not any(character in text for text in texts for character in found):
                return found
        raise DataError(
            "the text holds the model's control tokens and characters of all private planes of Unicode",
            got=", ".join(sorted(tokens)),
            fix="take the private characters out of the row",
        )

    # the template

    def _with_system_merged(self, turns: Sequence[Turn]) -> tuple[Turn, ...]:
        """The turns as the template can take them: system turns at the start put before the first user's text."""
        first = next((place for place, turn in enumerate(turns) if turn.role != "system"), len(turns))
        if self.takes_system or first == 0:
            return tuple(turns)
        if not self.merge_system or first == len(turns) or turns[first].role != "user":
            roles = ", ".join(turn.role for turn in turns)
            raise TemplateRefusal(
                f"the model's chat template has no system role, and refuses a conversation of {roles}"
            )
        text = "\n\n".join(turn.text for turn in turns[: first + 1])
        return (Turn(role="user", text=text), *turns[first + 1 :])

    def trimmed_roles(self) -> frozenset[Role]:
        """The roles of whose texts the template takes outer white space away."""
        if self._chat is None:
            return frozenset()
        padded = f" \n {_SENTINEL} \n "
        asked, answered = (Turn(role="user", text="?"),), (Turn(role="assistant", text="!"),)
        conversations: dict[Role, tuple[Turn, ...]] = {
            "user": (Turn(role="user", text=padded), *answered),
            "assistant": (*asked, Turn(role="assistant", text=padded)),
        }
        if self.takes_system:
            conversations["system"] = (Turn(role="system", text=padded), *asked, *answered)
        rendered = {role: self._render(turns, generation=False) for role, turns in conversations.items()}
        return frozenset(role for role, text in rendered.items() if padded not in text)

    def _writes_system(self) -> bool:
        """Whether the template takes a system turn and writes it: some refuse it, some silently leave it out."""
        turns = (Turn(role="system", text=_SYSTEM_SENTINEL), Turn(role="user", text="?"))
        try:
            return _SYSTEM_SENTINEL in self._render(turns, generation=True)
        except TemplateRefusal:
            return False

    def _around_answer(self, turns: Sequence[Turn]) -> tuple[str, str]:
        """What the template writes before and behind an answer to these turns."""
        text = self._render((*turns, Turn(role="assistant", text=_SENTINEL)), generation=False)
        before, found, behind = text.rpartition(_SENTINEL)
        if not found:
            raise ModelError(
                "the model's chat template leaves an answer out",
                where=self.model.name,
                got=text[-80:],
                fix="set template: plain in the study",
            )
        return before, behind

    def _answer_edges(self) -> tuple[int, int]:
        """How many end marks stand behind an answer, and how many characters of white space before it belong to its
        first token: where a template writes `Assistant: yes`, tokenizers have a token ` yes`, and a prompt that ended
        with the space would begin no whole conversation."""
        asked = (Turn(role="user", text="?"),)
        before, behind = self._around_answer(asked)
        ends = 0 if self._end_mark is None else behind.count(self._end_mark)
        encode = self.tokenizer.encode
        # The fewest characters of white space to leave to the answer such that the prompt's ids begin the whole's,
        # tried on answers that tokenizers treat differently.
        for space in range(len(before) - len(before.rstrip()) + 1):
            prompt = encode(before[: len(before) - space])
            if all(encode(before + answer)[: len(prompt)] == prompt for answer in _PROBE_ANSWERS):
                return ends, space
        return ends, 0

    def _up_to_the_end(self, turns: Sequence[Turn], answer: str) -> tuple[str, bool]:
        """The whole conversation up to the answer's end mark; whether that is in it."""
        text = self._render((*turns, Turn(role="assistant", text=answer)), generation=False)
        if self._end_mark is not None and text.count(self._end_mark) >= self._ends_behind_answer > 0:
            # the answer's own is the first of those behind it; what the answer says of end marks has been masked
            last = len(text.rsplit(self._end_mark, self._ends_behind_answer)[0])
            return text[: last + len(self._end_mark)], True
        behind = self._around_answer(turns)[1]
        return text.removesuffix(behind), False

    def _render(self, turns: Sequence[Turn], *, generation: bool) -> str:
        from jinja2 import TemplateError

        assert self._chat is not None
        messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        try:
            return str(
                self._chat.render(
                    messages=messages,
                    tools=None,
                    documents=None,
                    add_generation_prompt=generation,
                    bos_token=self.model.bos or "",
                    eos_token=self.model.eos,
                )
            )
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, RecursionError) as error:
            roles = ", ".join(turn.role for turn in turns)
            raise TemplateRefusal(f"the model's chat template refuses a conversation of {roles}: {error}") from None

    def _end_ids(self) -> tuple[int, ...]:
        """The ids that close an answer: the first token after the answer in the chat template, or the model's eos."""
        if self._chat is not None:
            ids = self.tokenizer.encode(self._around_answer((Turn(role="user", text="?"),))[1].strip())
            if ids:
                return (ids[0],)
        eos = self.tokenizer.token_id(self.model.eos)
        if eos is None:
            raise ModelError(
                "the model's tokenizer does not hold its own end mark", where=self.model.name, got=self.model.eos
            )
        return (eos,)


def renderer_for(
    model: PreparedModel, tokenizer: FastTokenizer | None = None, *, merge_system: bool = True
) -> Renderer:
    """The renderer of a prepared model, its tokenizer read from the model's folder."""
    tokenizer = tokenizer or load_tokenizer(Path(model.folder))
    add_bos = model.bos is not None and tokenizer.adds_bos(model.bos)
    return Renderer(tokenizer, model, add_bos=add_bos, merge_system=merge_system)


def _common_length(left: Sequence[object], right: Sequence[object]) -> int:
    """How many entries two sequences have in common before they part."""
    pairs = zip(left, right, strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(left), len(right)))


def _masked(text: str, literal: Mapping[str, str]) -> str:
    """The text with a character in place of each control token. The longest first, as tokenizers find them."""
    for character, token in sorted(literal.items(), key=lambda entry: -len(entry[1])):
        text = text.replace(token, character)
    return text


def _unmasked(text: str, literal: Mapping[str, str]) -> str:
    for character, token in literal.items():
        text = text.replace(character, token)
    return text


def _plain_parts(turns: Sequence[Turn]) -> list[str]:
    return [(f"Answer: {turn.text}" if turn.role == "assistant" else turn.text) + "\n\n" for turn in turns]


def _encodable(text: str) -> str:
    """Lone surrogates cannot be encoded; they become the replacement character for the model, and only for it."""
    if text.isascii() or not any("\ud800" <= mark <= "\udfff" for mark in text):
        return text
    return text.encode("utf-8", "replace").decode("utf-8")


def _compiled(source: str) -> Any:
    """A chat template in the sandbox that transformers uses, with a fixed date: no prompt depends on today."""
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks what an assistant wrote for transformers' loss masks; the text is its inside."""

        tags = {"generation"}  # noqa: RUF012  (jinja2 reads it from the class)

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def as_json(value: Any, **options: Any) -> str:
        return json.dumps(value, **{"ensure_ascii": False, **options})

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = as_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda pattern: _FIXED_DATE.get(pattern, "26 Jul 2024")
    return environment.from_string(source)


_FIXED_DATE = {"%Y-%m-%d": "2024-07-26", "%d %b %Y": "26 Jul 2024", "%B %d, %Y": "July 26, 2024"}
