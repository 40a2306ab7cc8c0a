"""Turns to token ids, with the place where the answer begins.

Prompt and answer are encoded apart and joined as ids, in training and in answering alike, so the ids of a prompt never
depend on what is answered. An answer ends with the template's end mark, which bears loss and counts in a choice's
likelihood: a model must also learn to stop.

Two templates: a model's own chat template (Jinja, rendered in a sandbox as transformers does), or the plain one for
base models, `{prompt}\\n\\nAnswer: {answer}{eos}`, which uses no control token that the model never saw in training.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from titrant.core.errors import DataError, ModelError
from titrant.core.records import Example, Item, PreparedModel, TokenPrompt, TokenQuestion, TokenRow, Turn

_SENTINEL = "titrant-answer-goes-here"


class Tokenizer(Protocol):
    """What rendering needs of a tokenizer. `encode` adds no special tokens but recognises them in the text."""

    def encode(self, text: str) -> list[int]: ...

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

    def encode(self, text: str) -> list[int]:
        shared, known = self._shared, len(self._shared)
        ids = self._backend.encode(_encodable(text), add_special_tokens=False).ids
        return [shared[token] if token < known else token for token in ids]

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
    """A prompt as text, and what an answer to it starts with (the plain template's space)."""

    text: str
    answer_prefix: str


class Renderer:
    """Renders examples and items for one model. Make it with `renderer_for`."""

    def __init__(self, tokenizer: Tokenizer, model: PreparedModel, *, add_bos: bool) -> None:
        self.tokenizer, self.model = tokenizer, model
        self._chat = _compiled(model.chat_template) if model.template == "chat" and model.chat_template else None
        self._bos = model.bos if add_bos and self._chat is None else None
        self.end_ids = model.end_ids[:1] or self._end_ids()
        eos = tokenizer.token_id(model.eos)
        self.stop_ids = tuple(dict.fromkeys((*self.end_ids, *model.end_ids, *(() if eos is None else (eos,)))))

    def row(self, example: Example, *, max_tokens: int, too_long: str) -> TokenRow | None:
        """The example in ids, or None when it is longer than `max_tokens` and `too_long` is `drop`.

        `refuse` raises `DataError`; `cut` shortens the last user's text from its start, never the answer or the marks;
        plain text (no prompt) it shortens from its end, which then has no end mark. Every row has a token to learn.
        """
        row = self._row(example)
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
        """An item with choices in ids."""
        assert item.choices is not None
        prompt = self.prompt(item.turns)
        ids = self._prompt_ids(prompt)
        return TokenQuestion(
            key=item.key,
            prompt=ids,
            choices=tuple(self._answer_ids(prompt, choice) for choice in item.choices),
        )

    def generation(self, item: Item) -> TokenPrompt:
        """An item to be answered in free text."""
        return TokenPrompt(
            key=item.key,
            ids=self._prompt_ids(self.prompt(item.turns)),
            max_new_tokens=item.max_answer_tokens,
            end_ids=self.stop_ids,
        )

    def reference_row(self, item: Item) -> TokenRow:
        """An item with its first reference as the answer, for its loss."""
        prompt = self.prompt(item.turns)
        ids = self._prompt_ids(prompt)
        return TokenRow(
            key=item.key,
            source=item.eval_set,
            ids=ids + self._answer_ids(prompt, item.references[0]),
            loss_from=len(ids),
        )

    def prompt(self, turns: Sequence[Turn]) -> RenderedPrompt:
        """The prompt up to where the answer begins."""
        if self._chat is None:
            return RenderedPrompt(text="".join(_plain_parts(turns)) + "Answer:", answer_prefix=" ")
        return RenderedPrompt(text=self._render(turns, generation=True), answer_prefix="")

    def _row(self, example: Example) -> TokenRow:
        if not example.prompt:
            text = (self.model.bos or "") if self._bos else ""
            ids = tuple(self.tokenizer.encode(text + example.answer)) + self.end_ids
            return TokenRow(key=example.key, source=example.source, ids=ids, loss_from=1)
        prompt = self.prompt(example.prompt)
        ids = self._prompt_ids(prompt)
        answer = self._answer_ids(prompt, example.answer)
        return TokenRow(key=example.key, source=example.source, ids=ids + answer, loss_from=len(ids))

    def _cut(self, example: Example, *, max_tokens: int) -> TokenRow:
        turns = list(example.turns)
        place = max((index for index, turn in enumerate(turns) if turn.role == "user"), default=None)
        while place is not None:
            excess = len(self._row(replace(example, turns=tuple(turns))).ids) - max_tokens
            if excess <= 0:
                return self._row(replace(example, turns=tuple(turns)))
            text = turns[place].text
            starts = self.tokenizer.starts(text)
            if len(starts) <= excess:
                break
            rest = text[starts[excess] :]
            turns[place] = Turn(role="user", text=rest if len(rest) < len(text) else text[1:])
        if place is None and not example.prompt and max_tokens > 1:
            row = self._row(example)
            return replace(row, ids=row.ids[:max_tokens])
        raise DataError(
            "the row does not fit even without the user's text: its answer and the template's marks are too long",
            where=str(example.origin) if example.origin else example.row_id,
            expected=f"at most {max_tokens} tokens",
            fix="raise training.max_tokens, or say training.too_long: drop",
        )

    def _prompt_ids(self, prompt: RenderedPrompt) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode((self._bos or "") + prompt.text))

    def _answer_ids(self, prompt: RenderedPrompt, answer: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(prompt.answer_prefix + answer)) + self.end_ids

    def _render(self, turns: Sequence[Turn], *, generation: bool) -> str:
        from jinja2 import TemplateError

        assert self._chat is not None
        messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        try:
            return str(
                self._chat.render(
                    messages=messages,
                    add_generation_prompt=generation,
                    bos_token=self.model.bos or "",
                    eos_token=self.model.eos,
                )
            )
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, RecursionError) as error:
            roles = ", ".join(turn.role for turn in turns)
            raise DataError(f"the model's chat template refuses a conversation of {roles}: {error}") from None

    def _end_ids(self) -> tuple[int, ...]:
        """The ids that close an answer: the first token after the answer in the chat template, or the model's eos."""
        if self._chat is not None:
            text = self._render((Turn(role="user", text="?"), Turn(role="assistant", text=_SENTINEL)), generation=False)
            after = text.partition(_SENTINEL)[2]
            ids = self.tokenizer.encode(after.strip())
            if ids:
                return (ids[0],)
        eos = self.tokenizer.token_id(self.model.eos)
        if eos is None:
            raise ModelError(
                "the model's tokenizer does not hold its own end mark", where=self.model.name, got=self.model.eos
            )
        return (eos,)


def renderer_for(model: PreparedModel, tokenizer: FastTokenizer | None = None) -> Renderer:
    """The renderer of a prepared model, its tokenizer read from the model's folder."""
    tokenizer = tokenizer or load_tokenizer(Path(model.folder))
    return Renderer(tokenizer, model, add_bos=model.bos is not None and tokenizer.adds_bos(model.bos))


def _plain_parts(turns: Sequence[Turn]) -> list[str]:
    return [(f"Answer: {turn.text}" if turn.role == "assistant" else turn.text) + "\n\n" for turn in turns]


def _encodable(text: str) -> str:
    """Lone surrogates cannot be encoded; they become the replacement character for the model, and only for it."""
    return (
        text.encode("utf-8", "replace").decode("utf-8") if any("\ud800" <= mark <= "\udfff" for mark in text) else text
    )


def _compiled(source: str) -> Any:
    """A chat template in the sandbox that transformers uses, with a fixed date: no prompt depends on today."""
    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda pattern: _FIXED_DATE.get(pattern, "26 Jul 2024")
    return environment.from_string(source)


_FIXED_DATE = {"%Y-%m-%d": "2024-07-26", "%d %b %Y": "26 Jul 2024", "%B %d, %Y": "July 26, 2024"}
