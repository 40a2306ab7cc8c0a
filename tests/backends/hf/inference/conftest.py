"""Toy models of several families, and rows for them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from titrant.backends.hf.models.load import load_model
from titrant.backends.hf.models.prepare import prepare
from titrant.core.identity import rng_for
from titrant.core.records import TokenPrompt, TokenQuestion, TokenRow

FAMILIES = ("llama", "qwen3", "gemma3", "mistral", "phi3")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", params=FAMILIES)
def toy_model(request, make_toy_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory):
    place = tmp_path_factory.mktemp(request.param)
    folder = make_toy_folder(place / request.param, family=request.param)
    return load_model(prepare(str(folder), cache=place / "cache", template="plain"))


@pytest.fixture(scope="session")
def llama(make_toy_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory):
    place = tmp_path_factory.mktemp("llama")
    return load_model(prepare(str(make_toy_folder(place / "llama")), cache=place / "cache", template="plain"))


def _ids(*name: str | int, low: int, high: int) -> tuple[int, ...]:
    rng = rng_for(3, *name)
    return tuple(int(token) for token in rng.integers(20, 270, rng.integers(low, high + 1)))


@pytest.fixture(scope="session")
def questions() -> tuple[TokenQuestion, ...]:
    """Questions of different lengths; among their choices are single tokens and choices with a common beginning."""
    made = []
    for number in range(7):
        choices = [_ids("choice", number, choice, low=1, high=5) for choice in range(2 + number % 3)]
        choices.append((*choices[0], 3))
        made.append(
            TokenQuestion(key=f"q{number}", prompt=_ids("prompt", number, low=1, high=40), choices=tuple(choices))
        )
    return tuple(made)


@pytest.fixture(scope="session")
def rows() -> tuple[TokenRow, ...]:
    made = []
    for number in range(9):
        ids = _ids("row", number, low=2, high=50)
        made.append(TokenRow(key=f"r{number}", source="s", ids=ids, loss_from=1 + number % (len(ids) - 1)))
    return tuple(made)


@pytest.fixture(scope="session")
def prompts() -> tuple[TokenPrompt, ...]:
    """Prompts of different lengths and allowances; every fourth token ends, so that rows leave all the time."""
    ends = tuple(range(0, 272, 8))
    return tuple(
        TokenPrompt(
            key=f"p{number}",
            ids=_ids("text", number, low=1, high=30),
            max_new_tokens=(0, 1, 12)[min(number, 2)],
            end_ids=ends,
        )
        for number in range(11)
    )
