"""Control tokens that a model never saw are told from those that it did."""

import numpy as np
import pytest

from titrant.backends.hf.models.control_tokens import judge, ordinary_ids, unused_ids
from titrant.core.identity import rng_for

WIDTH = 64


def tied(count: int, *names: str) -> np.ndarray:
    """Rows that only the softmax has moved: one direction, almost no spread."""
    direction = rng_for(0, "direction").normal(size=WIDTH)
    return direction + 0.05 * rng_for(0, *names).normal(size=(count, WIDTH))


def random_start(count: int, *names: str) -> np.ndarray:
    return 0.02 * rng_for(0, *names).normal(size=(count, WIDTH))


def learned(count: int, *names: str) -> np.ndarray:
    return rng_for(0, *names).normal(size=(count, WIDTH))


@pytest.mark.parametrize("unused", [tied, random_start])
@pytest.mark.parametrize("count", [8, 40])
def test_rows_like_unused_ones_are_untrained_and_learned_ones_are_not(unused, count: int) -> None:
    reference, ordinary = unused(count, "reference"), learned(200, "ordinary")
    assert judge(learned(3, "control"), reference, ordinary).judgement == "trained"
    control = np.concatenate([learned(1, "control"), unused(1, "control")])
    judged = judge(control, reference, ordinary)
    assert (judged.judgement, judged.untrained) == ("untrained", (1,))


def test_empty_rows_are_untrained_without_any_reference() -> None:
    control = np.stack([learned(1, "control")[0], np.zeros(WIDTH)])
    judged = judge(control, np.zeros((0, WIDTH)), learned(100, "ordinary"))
    assert (judged.judgement, judged.untrained) == ("untrained", (1,))


def test_too_few_unused_rows_leave_it_undecided() -> None:
    judged = judge(random_start(2, "control"), random_start(7, "reference"), learned(100, "ordinary"))
    assert judged.judgement == "undecided"


def test_a_model_whose_every_row_looks_unused_is_undecided() -> None:
    judged = judge(learned(2, "control"), learned(40, "reference"), learned(100, "ordinary"))
    assert judged.judgement == "undecided"


def test_a_template_without_control_tokens_is_fine() -> None:
    assert judge(np.zeros((0, WIDTH)), tied(40, "r"), learned(9, "o")).judgement == "trained"


def test_unused_rows_are_reserved_names_and_rows_beyond_the_tokenizer() -> None:
    names = ["a", "<unused0>", "<|reserved_special_token_12|>", "<SPECIAL_3>", "unused", "<|im_start|>"]
    vocabulary = {name: index for index, name in enumerate(names)}
    assert unused_ids(vocabulary, 8) == (1, 2, 3, 6, 7)
    assert ordinary_ids(vocabulary, frozenset({5}), 8) == (0, 4)
    assert len(unused_ids({"a": 0}, 5000)) == 256
