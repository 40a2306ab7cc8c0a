"""Cuts and draws do not know how large a file is: any threshold between memory and file gives the same rows."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_study import fake_prepare, write_rows, write_study
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import titrant.data.readers.large
from titrant.config.study import load_study
from titrant.experiment.design import make_design
from titrant.experiment.doses import largest_dose
from titrant.experiment.pools import cuts
from titrant.experiment.prepare import PreparedStudy, prepare_study

COMMON = "every letter that reaches this office before noon on a working day is read"  # 14 words
RARE = "aloud twice by somebody who has never met the person that wrote it down there"  # 15 words
SIZES = (0, 15_000, 1 << 40)
"""Thresholds in bytes: every file stays on disk; only the larger ones do; none does."""


@pytest.fixture(autouse=True)
def _no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    monkeypatch.setattr(cuts, "_RESERVE", 2)
    plain = titrant.data.readers.large.LARGE_BYTES
    yield
    titrant.data.readers.large.LARGE_BYTES = plain


def rows_of(name: str, *, count: int, seed: int) -> list[dict[str, Any]]:
    """Rows with answers of many lengths, some of them twice, some prompts more than once, and rows that hold test items
    or a passage that a test item shares with many rows."""
    rng = random.Random(f"{name} {seed}")
    rows = []
    for n in range(count):
        prompt = f"Say the  word of row {rng.randrange(count)}."
        if n % 9 == 0:
            prompt = f"{COMMON} {n}"  # so many rows hold it that it is evidence of nothing
        if n % 31 == 0:
            prompt = f"{COMMON} {' '.join(RARE.split()[:4])} {n}"
        if n % 37 == 0:
            prompt = f"{COMMON} {RARE} {n}"
        if n % 23 == 0:
            prompt = f"What is thing number {n % 20} of its sort?"
        rows.append({"instruction": prompt, "input": "", "output": f"{name[0]}{n} " + "w " * rng.choice([1, 3, 9, 30])})
    return [*rows, *rows[::11], *[rows[1]] * 3]


def write(folder: Path, *, cuts: dict[str, Any], seed: int = 0) -> Path:
    """A study with three pools and these cuts; the pools' files are of different sizes."""
    generalist: dict[str, dict[str, Any]] = {
        name: {"rows": f"{name}.jsonl", **cuts.get(name, {})} for name in ("small", "large", "public")
    }
    generalist["public"]["source"] = "alpaca"
    path = write_study(
        folder,
        generalist=generalist,
        arms={"target_rows": [6], "seeds": 2, **cuts["arms"]},
        training={"passes": 2, "batch_rows": 4, "max_tokens": 400, **cuts.get("training", {})},
        retention=None,
    )
    test = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    write_rows(folder / "test.jsonl", [*test, {"text": f"{COMMON} {RARE}", "label": "bird"}])
    write_rows(folder / "small.jsonl", rows_of("small", count=90, seed=seed))
    write_rows(folder / "large.jsonl", rows_of("large", count=400, seed=seed))
    write_rows(folder / "also.jsonl", rows_of("small", count=90, seed=seed + 1))
    faulty = [{"instruction": f"Say nothing {n}.", "input": "", "output": ""} for n in range(3)]
    write_rows(folder / "public.jsonl", [*rows_of("public", count=250, seed=seed), *faulty])
    return path


def outcome(path: Path, threshold: int) -> Any:
    """The keys of every run's rows by source, in the order of the draw, with its name; or what planning refuses."""
    titrant.data.readers.large.LARGE_BYTES = threshold
    try:
        prepared = prepare_study(load_study(path))
        runs = make_design(prepared).runs
    except ValueError as error:
        return type(error).__name__, str(error)
    return [
        (planned.run.run_id, planned.run.arm.name, planned.run.seed, [row.key for row in planned.examples])
        for planned in runs
    ]


CUTS = st.fixed_dictionaries(
    {
        "small": st.fixed_dictionaries(
            {},
            optional={
                "prompts_also_in": st.just("also.jsonl"),
                "max_tokens": st.sampled_from([80, 120]),
                "repeats": st.just(3),
            },
        ),
        "large": st.one_of(
            st.just({}),
            st.just({"lengths_as": "small"}),
            st.just({"lengths_as": "public", "max_tokens": 100}),
            st.just({"prompts_as": "small"}),
            st.just({"prompts_as": "public", "max_tokens": 100}),
        ),
        "public": st.fixed_dictionaries(
            {}, optional={"prompts_also_in": st.just("small.jsonl"), "max_tokens": st.just(110)}
        ),
        "arms": st.fixed_dictionaries(
            {
                "doses": st.fixed_dictionaries(
                    {
                        "small": st.sampled_from([[3], [3, 40], [{"tokens": 700}]]),
                        "large": st.sampled_from([[5], [8, {"rows": 12, "alter": "shuffled"}], [{"tokens": 900}]]),
                        "public": st.sampled_from([[4], [{"rows": 20, "alter": "shuffled"}, {"tokens": 500}]]),
                    }
                )
            },
            optional={"blends": st.just([{"total": 30, "shares": {"small": 1, "large": 2}}])},
        ),
        "training": st.fixed_dictionaries(
            {"max_tokens": st.sampled_from([90, 130, 400]), "too_long": st.sampled_from(["drop", "cut", "refuse"])}
        ),
    }
)


# a failing combination is small enough to read as it is, and shrinking it takes minutes
_PHASES = (Phase.explicit, Phase.reuse, Phase.generate)


@settings(max_examples=6, deadline=None, phases=_PHASES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=CUTS, seed=st.integers(0, 50))
def test_any_threshold_gives_the_same_rows_for_every_combination_of_cuts(
    tmp_path: Path, cuts: dict[str, Any], seed: int
) -> None:
    path = write(tmp_path / "study", cuts=cuts, seed=seed)
    found = [outcome(path, threshold) for threshold in SIZES]
    assert found[0] == found[2]
    assert found[1] == found[2]


def plain_cuts(**said: Any) -> dict[str, Any]:
    return {"arms": {"doses": {"large": [10]}}, "training": {"too_long": "drop"}, **said}


def both(path: Path) -> tuple[PreparedStudy, PreparedStudy]:
    """The study with all pools in memory, and with all pools in their files."""
    benches = []
    for threshold in (SIZES[-1], SIZES[0]):
        titrant.data.readers.large.LARGE_BYTES = threshold
        benches.append(prepare_study(load_study(path)))
    return benches[0], benches[1]


def test_a_passage_of_many_rows_is_no_evidence_wherever_the_rows_are(tmp_path: Path) -> None:
    held, in_file = both(write(tmp_path / "study", cuts=plain_cuts()))
    assert held.removed == in_file.removed
    assert {entry.why for entry in in_file.removed if entry.pool == "large"} == {"holds a test item"}
    keys = {row.key for row in held.models["toy-model"].pools["large"].rows}
    assert {row.key for row in in_file.models["toy-model"].pools["large"].rows} < keys


@pytest.mark.parametrize(
    "large",
    [{"lengths_as": "small"}, {"prompts_as": "small"}, {"prompts_also_in": "small.jsonl"}, {"max_tokens": 80}],
)
def test_what_is_left_of_a_pool_is_counted_alike(tmp_path: Path, large: dict[str, Any]) -> None:
    cuts = plain_cuts(large=large, training={"too_long": "refuse", "max_tokens": 900})
    held, in_file = both(write(tmp_path / "study", cuts=cuts))
    for name in ("small", "large", "public"):
        pools = [prepared.models["toy-model"].pools[name] for prepared in (held, in_file)]
        assert [pool.left for pool in pools] == [len(pools[0].rows)] * 2
        assert pools[0].read == pools[1].read
    assert held.models["toy-model"].removed == in_file.models["toy-model"].removed
    assert len(in_file.models["toy-model"].pools["large"].rows) < held.models["toy-model"].pools["large"].left


def test_a_pool_that_is_held_in_part_is_not_drawn_at_a_seed_that_was_not_read(tmp_path: Path) -> None:
    held, in_file = both(write(tmp_path / "study", cuts=plain_cuts()))
    assert held.models["toy-model"].pools["large"].order(7)
    with pytest.raises(AssertionError, match="seed 7 was not read"):
        in_file.models["toy-model"].pools["large"].order(7)


def test_the_largest_dose_counts_altered_doses_blends_and_tokens(tmp_path: Path) -> None:
    arms = {
        "doses": {"small": [3, {"rows": 17, "alter": "shuffled"}], "large": [4, {"tokens": 900}]},
        "blends": [{"total": 30, "shares": {"public": 1, "large": 2}}],
    }
    study = load_study(write(tmp_path / "study", cuts={"arms": arms}))
    found = {name: largest_dose(study, name) for name in ("small", "large", "public")}
    assert {name: (dose.rows, dose.tokens) for name, dose in found.items()} == {
        "small": (17, 0),
        "large": (20, 900),
        "public": (10, 0),
    }
