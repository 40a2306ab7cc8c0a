"""Small fakes of our own: rendering needs no model, and a tokenizer whose work can be seen by eye."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from titrant.core.records import PreparedModel
from titrant.tokens.rendering import ControlToken


class ByteTokenizer:
    """One token a byte of UTF-8, and one for each control mark: what any text is in tokens can be seen by eye."""

    def __init__(self, marks: Sequence[str] = ("<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>")) -> None:
        self.marks = tuple(marks)
        self.control_tokens = frozenset(marks)

    def encode(self, text: str, *, control: bool = True, behind_control: bool = False) -> list[int]:
        return [token for _, token in self._pieces(text)] if control else list(text.encode("utf-8", "replace"))

    def find_control(self, text: str) -> list[ControlToken]:
        return [
            ControlToken(start=start, stop=start + len(self.marks[token - 256]), token=token, place=place)
            for place, (start, token) in enumerate(self._pieces(text))
            if token >= 256
        ]

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(token for token in ids if token < 256).decode("utf-8", "replace")

    def token_id(self, token: str) -> int | None:
        return 256 + self.marks.index(token) if token in self.marks else None

    def starts(self, text: str) -> list[int]:
        return [place for place, _ in self._pieces(text)]

    def shown(self, ids: Sequence[int]) -> str:
        """The ids as text with the marks in it."""
        text, rest = "", list(ids)
        while rest:
            plain = rest[: next((place for place, token in enumerate(rest) if token >= 256), len(rest))]
            text += bytes(plain).decode("utf-8", "replace")
            rest = rest[len(plain) :]
            if rest:
                text += self.marks[rest.pop(0) - 256]
        return text

    def _pieces(self, text: str) -> list[tuple[int, int]]:
        pieces, place = [], 0
        while place < len(text):
            mark = next((mark for mark in self.marks if text.startswith(mark, place)), None)
            if mark is not None:
                pieces.append((place, 256 + self.marks.index(mark)))
                place += len(mark)
            else:
                pieces.extend((place, byte) for byte in text[place].encode("utf-8", "replace"))
                place += 1
        return pieces


CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def _model(
    *, chat_template: str | None = CHAT_TEMPLATE, bos: str | None = "<s>", eos: str = "</s>", folder: str = "none"
) -> PreparedModel:
    """A prepared model without weights: with a chat template, or (None) the plain one."""
    return PreparedModel(
        name="fake",
        folder=folder,
        fingerprint="0" * 32,
        template="plain" if chat_template is None else "chat",
        chat_template=chat_template,
        bos=bos,
        eos=eos,
        architecture="fake",
        parameters=0,
        vocabulary=261,
        context_tokens=4096,
        licence=None,
        origin="tests",
    )


@pytest.fixture
def byte_tokenizer() -> ByteTokenizer:
    return ByteTokenizer()


@pytest.fixture
def fake_model() -> Callable[..., PreparedModel]:
    """Makes a prepared model that has no weights; see `_model`."""
    return _model
