"""Names that follow from content."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from titrant.core.identity import canonical_json, content_keys, fingerprint, hash_file, hash_text, plain, rng_for
from titrant.core.records import Origin, Turn

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=6), st.randoms())
def test_the_order_of_keys_changes_no_fingerprint(value: dict[str, Any], order: random.Random) -> None:
    names = order.sample(list(value), len(value))
    assert fingerprint({name: value[name] for name in names}) == fingerprint(value)


@given(VALUES, VALUES)
def test_different_values_have_different_canonical_texts(one: Any, other: Any) -> None:
    assert (canonical_json(one) == canonical_json(other)) == (repr(plain(_sorted(one))) == repr(plain(_sorted(other))))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(entry) for entry in value] if isinstance(value, list) else value


def test_records_tuples_sets_and_paths_become_plain_values() -> None:
    turn = Turn(role="user", text="hi")
    assert plain((turn, frozenset("ba"), Path("a/b"))) == [{"role": "user", "text": "hi"}, ["a", "b"], "a/b"]


def test_not_a_number_has_no_name() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        fingerprint({"rate": float("nan")})


def test_lone_surrogates_have_names_of_their_own() -> None:
    assert fingerprint("\ud800") != fingerprint("\ud801") != fingerprint("?")


@given(st.lists(st.sampled_from(["a", "b", ["a"], {"a": "b"}]), max_size=20), st.randoms())
def test_content_keys_are_all_different_and_the_same_in_any_order(contents: list[Any], order: random.Random) -> None:
    keys = content_keys(contents)
    assert len(set(keys)) == len(contents)
    assert sorted(content_keys(order.sample(contents, len(contents)))) == sorted(keys)


def test_equal_contents_are_told_apart_by_their_occurrence_alone() -> None:
    first, other, second = content_keys(["a", "b", "a"])
    assert first.split(".") == [second.split(".")[0], "0"]
    assert second.endswith(".1")
    assert other.endswith(".0")


NAMES = st.lists(st.one_of(st.text(max_size=5), st.integers(0, 9)), max_size=3)


@settings(max_examples=50)
@given(st.integers(0, 3), NAMES, st.integers(0, 3), NAMES)
def test_streams_are_equal_only_where_seed_and_names_are(
    seed: int, names: list[Any], other_seed: int, other_names: list[Any]
) -> None:
    one, other = rng_for(seed, *names).integers(2**63), rng_for(other_seed, *other_names).integers(2**63)
    assert (one == other) == ((seed, names) == (other_seed, other_names))


def test_neighbouring_seeds_give_unrelated_streams() -> None:
    draws = np.stack([rng_for(seed, "order").normal(size=2000) for seed in range(8)])
    correlations = np.corrcoef(draws)[np.triu_indices(8, 1)]
    assert np.abs(correlations).max() < 0.1  # standard deviation 0.022, 28 pairs


def test_a_stream_never_changes() -> None:
    assert rng_for(3, "order", "target").permutation(8).tolist() == [7, 2, 0, 1, 3, 6, 4, 5]


def test_names_do_not_depend_on_the_hash_seed_of_the_process() -> None:
    code = (
        "from titrant.core.identity import fingerprint, rng_for;"
        "print(fingerprint({'b': frozenset('xyz'), 'a': 1}), rng_for(1, 'x').integers(10**9))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


def test_a_file_has_the_hash_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"ab" * (1 << 20))
    assert hash_file(path) == hash_text("ab" * (1 << 20))


def test_where_a_row_was_read_is_no_part_of_its_equality() -> None:
    from titrant.core.records import Example

    @dataclass(frozen=True)
    class Made:
        line: int

        def row(self) -> Example:
            return Example(key="k", row_id="1", source="s", task="t", turns=(), origin=Origin(path="f", line=self.line))

    assert Made(1).row() == Made(2).row()
