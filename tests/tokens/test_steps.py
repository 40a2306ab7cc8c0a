"""Which rows share a step, in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titrant.tokens import Schedule, plan_steps

SEEDS = st.integers(0, 5)
TARGETS = st.integers(0, 20)
POOLS = st.integers(0, 25)
BATCHES = st.integers(1, 9)


def planned(
    target: int,
    pool: int,
    *,
    seed: int = 0,
    lengths: Sequence[int] | None = None,
    passes: int = 3,
    generalist_passes: int = 1,
    batch_rows: int = 4,
    **schedule,
) -> list[list[int]]:
    """Steps over target rows 0 … and pool rows 100 …, in two sources."""
    half = pool // 2
    steps = plan_steps(
        target=range(target),
        generalist={"b": range(100 + half, 100 + pool), "a": range(100, 100 + half)},
        lengths=lengths or [1] * 200,
        schedule=Schedule(passes=passes, generalist_passes=generalist_passes, batch_rows=batch_rows, **schedule),
        seed=seed,
    )
    return [list(step) for step in steps]


def flat(steps: list[list[int]], *, own: bool | None = None) -> list[int]:
    return [row for step in steps for row in step if own is None or (row < 100) == own]


@given(TARGETS, POOLS, st.integers(1, 4), st.integers(1, 3), SEEDS)
def test_every_row_is_visited_once_in_each_pass_and_every_pass_is_whole(
    target: int, pool: int, passes: int, generalist_passes: int, seed: int
) -> None:
    steps = planned(target, pool, passes=passes, generalist_passes=generalist_passes, seed=seed)
    own, added = flat(steps, own=True), flat(steps, own=False)
    assert len(own) == target * passes
    assert len(added) == pool * generalist_passes
    for start in range(0, len(own), max(1, target)):
        assert sorted(own[start : start + target]) == list(range(target))
    for start in range(0, len(added), max(1, pool)):
        assert sorted(added[start : start + pool]) == list(range(100, 100 + pool))


@given(TARGETS, POOLS, BATCHES, SEEDS)
def test_steps_hold_every_visit_and_their_sizes_differ_by_one_at_most(
    target: int, pool: int, batch_rows: int, seed: int
) -> None:
    steps = planned(target, pool, batch_rows=batch_rows, seed=seed)
    visits = 3 * target + pool
    assert len(steps) == -(-visits // batch_rows)
    assert sum(map(len, steps)) == visits
    assert all(0 < len(step) <= batch_rows for step in steps)
    assert not steps or max(map(len, steps)) - min(map(len, steps)) <= 1


@given(TARGETS, POOLS, POOLS, SEEDS)
def test_the_targets_order_depends_on_the_seed_and_never_on_the_dose(
    target: int, pool: int, other: int, seed: int
) -> None:
    assert flat(planned(target, pool, seed=seed), own=True) == flat(planned(target, other, seed=seed), own=True)


def test_seeds_order_differently() -> None:
    assert flat(planned(12, 0, seed=0)) != flat(planned(12, 0, seed=1))


def test_passes_are_shuffled_each_anew() -> None:
    own = flat(planned(12, 0, passes=2))
    assert own[:12] != own[12:]


def test_target_and_generalist_rows_are_shuffled_by_streams_of_their_own() -> None:
    steps = planned(12, 12, passes=1)
    assert flat(steps, own=True) != [row - 100 for row in flat(steps, own=False)]


@given(st.integers(1, 20), st.integers(1, 25), SEEDS)
def test_joint_and_generalist_first_hold_the_same_two_orders(target: int, pool: int, seed: int) -> None:
    joint = planned(target, pool, seed=seed)
    staged = planned(target, pool, seed=seed, presentation="generalist_first")
    for own in (True, False):
        assert flat(joint, own=own) == flat(staged, own=own)
    assert flat(staged) == flat(staged, own=False) + flat(staged, own=True)


def test_a_joint_presentation_spreads_the_dose_over_the_whole_training() -> None:
    places = Counter[int]()
    for seed in range(200):
        visits = flat(planned(20, 20, passes=1, seed=seed))
        places.update(place * 4 // 40 for place, row in enumerate(visits) if row >= 100)
    assert all(900 <= places[quarter] <= 1100 for quarter in range(4))  # 1,000 expected, standard deviation 19


@given(st.integers(1, 20), POOLS, st.integers(0, 90), SEEDS)
def test_a_budget_of_visits_is_met_exactly(target: int, pool: int, visits: int, seed: int) -> None:
    steps = planned(target, pool, seed=seed, visits=visits)
    assert len(flat(steps)) == max(visits, pool)
    assert len(flat(steps, own=False)) == pool


@given(st.integers(1, 20), st.integers(0, 90), SEEDS)
def test_target_rows_cycle_in_whole_passes_until_the_budget(target: int, visits: int, seed: int) -> None:
    own = flat(planned(target, 0, seed=seed, visits=visits))
    counts = Counter(own)
    assert all(visits // target <= counts[row] <= -(-visits // target) for row in range(target))


@given(st.integers(1, 90), SEEDS)
def test_generalist_rows_cycle_where_there_are_no_target_rows(visits: int, seed: int) -> None:
    rows = flat(planned(0, 9, seed=seed, visits=visits))
    assert len(rows) == visits
    assert max(Counter(rows).values()) == -(-visits // 9)


@given(st.integers(1, 12), st.integers(0, 12), st.integers(0, 900), SEEDS, st.data())
def test_a_budget_of_tokens_is_kept_and_leaves_no_room_for_the_next_row(
    target: int, pool: int, tokens: int, seed: int, data: st.DataObject
) -> None:
    lengths = data.draw(st.lists(st.integers(1, 30), min_size=120, max_size=120))
    added = sum(lengths[100 : 100 + pool])
    steps = planned(target, pool, seed=seed, lengths=lengths, tokens=tokens)
    used = sum(lengths[row] for row in flat(steps))
    assert flat(steps, own=False) == flat(planned(target, pool, seed=seed, lengths=lengths), own=False)
    assert used <= max(tokens, added)
    assert used + max(lengths[:target]) > tokens


@given(st.integers(1, 20), st.integers(1, 20), st.integers(20, 60), SEEDS)
def test_a_matched_baseline_takes_the_steps_of_the_dosed_arm(target: int, pool: int, visits: int, seed: int) -> None:
    dosed = planned(target, pool, seed=seed, visits=visits)
    matched = planned(target, 0, seed=seed, visits=visits)
    assert [len(step) for step in dosed] == [len(step) for step in matched]
    own = flat(dosed, own=True)
    assert flat(matched)[: len(own)] == own


@pytest.mark.parametrize("presentation", ["joint", "generalist_first"])
def test_no_rows_are_no_steps(presentation: str) -> None:
    assert planned(0, 0, presentation=presentation) == []
