"""A staged study replayed: what is read, what stands, what stops; alone and among thousands alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from titrant.core.identity import rng_for
from titrant.decision import rule
from titrant.decision.replay import Replay, StagedDesign, replay
from titrant.stats.contrasts import layout
from titrant.stats.looks import Look, ladder, plan_looks
from titrant.stats.simulation import World, simulate
from titrant.stats.weigh import weigh

ITEMS = 100
HALF = np.arange(ITEMS) % 2 == 0


def design(doses: int, *, most: int = 8, baselines: int = 2, delta: float = 0.03, **more: Any) -> StagedDesign:
    return StagedDesign(
        looks=plan_looks(ladder(most), most=most, doses=doses),
        most=most,
        baselines=baselines,
        rows=tuple(float(48 * (index + 1)) for index in range(doses)),
        smallest_effect=delta,
        **more,
    )


def scores(*gains: float, matched: float | None = 0.0, studies: int = 20, seeds: int = 8, **more: Any) -> np.ndarray:
    world = World(gains=gains, matched_gain=matched, seeds=seeds, items=ITEMS, seeds_share=0.5, **more)
    return simulate(world, studies=studies, seed=1).scores


def played(values: np.ndarray, plan: StagedDesign, **more: Any) -> Replay:
    return replay(values, layout(ITEMS), plan, first_half_I=HALF, **more)


def one_of(found: Replay, study: int) -> dict[str, Any]:
    names = [name for name in Replay.__dataclass_fields__ if name != "method"]
    return {name: getattr(found, name)[study] for name in names}


def same(one: dict[str, Any], other: dict[str, Any], *, exactly: bool = True) -> None:
    for name, value in one.items():
        if exactly:
            np.testing.assert_array_equal(value, other[name], err_msg=name)
        else:
            np.testing.assert_allclose(value, other[name], err_msg=name, atol=1e-9)


def test_a_study_is_judged_alike_alone_and_among_others() -> None:
    values, plan = scores(0.0, 0.06, 0.03), design(3)
    together = played(values, plan)
    for study in range(len(values)):
        same(one_of(played(values[study : study + 1], plan), 0), one_of(together, study), exactly=False)
    assert len(set(together.code_B.tolist())) > 1
    assert len(set(together.seeds_B.tolist())) > 2


@pytest.mark.parametrize("gains", [(0.0, 0.06), (-0.08, -0.08), (0.02, 0.02)])
def test_scores_beyond_what_the_ladder_asks_for_are_never_read(gains: tuple[float, ...]) -> None:
    values, plan = scores(*gains), design(2)
    found = played(values, plan)
    spoiled = values.copy()
    for study, arm in np.ndindex(found.read_BA.shape):
        spoiled[study, arm, found.read_BA[study, arm] :] = 1 - spoiled[study, arm, found.read_BA[study, arm] :]
    assert (found.read_BA < 8).any()
    again = played(spoiled, plan)
    for study in range(len(values)):
        same(one_of(found, study), one_of(again, study))


def test_a_study_without_those_runs_says_the_same() -> None:
    """Finished grid or only what was asked for: the same verdict, to the bit."""
    values, plan = scores(0.06, 0.0), design(2)
    for study in range(6):
        whole = played(values[study : study + 1], plan)
        ran = np.arange(8) < whole.read_BA[0][:, None]
        part = np.where(ran[..., None], values[study], 0.0)[None]
        same(one_of(played(part, plan, ran_BAS=ran[None]), 0), one_of(whole, 0))


def test_one_look_at_all_seeds_is_the_ordinary_verdict_of_one_dose() -> None:
    """One dose has no family to allow for, so the replay's bounds are those of `weigh`."""
    values = np.concatenate([scores(gain, studies=40) for gain in (0.0, 0.05, -0.05)])
    look = Look(seeds=8, better=0.025, single=0.05, strict=0.025)
    found = played(values, replace(design(1), looks=(look,), set_aside=False))
    numbers = weigh(
        values, layout(ITEMS), doses=[2], baselines=[0, 1], first_half_I=HALF, smallest_effect=0.03
    ).rule_numbers
    np.testing.assert_array_equal(found.code_B, rule.rule(numbers, smallest_effect=0.03).code_B)
    np.testing.assert_allclose(found.low_BKR, numbers.simultaneous_low_BKR)
    np.testing.assert_allclose(found.high_strict_BKR, numbers.high_95_BKR)
    assert len(set(found.code_B.tolist())) >= 3


def test_bounds_only_tighten_from_look_to_look() -> None:
    values, plan = scores(0.02, 0.03), design(2)
    before = None
    for seeds in range(3, 9):
        known = np.broadcast_to(np.arange(8) < seeds, values.shape[:3])
        found = played(values, plan, ran_BAS=known)
        if before is not None:
            assert (found.low_BKR >= np.minimum(before.low_BKR, 0)).all()
            assert (found.high_single_BKR <= before.high_single_BKR).all()
            assert (found.ruled_out_BK >= before.ruled_out_BK).all()
            firm = before.code_B > 0
            np.testing.assert_array_equal(found.code_B[firm], before.code_B[firm])
        before = found
    assert before is not None
    assert before.over_B.all()


def test_a_claim_stands_though_later_seeds_speak_against_it() -> None:
    """The first dose is ruled out at the first look; wonderful seeds afterwards do not bring it back."""
    values, plan = scores(-0.2, 0.03, studies=10), design(2)
    early = played(values, plan, ran_BAS=np.broadcast_to(np.arange(8) < 3, values.shape[:3]))
    out = early.ruled_out_BK[:, 0]
    assert out.sum() > 5
    values[:, 2, 3:] = 1.0
    late = played(values, replace(plan, set_aside=False))
    assert late.ruled_out_BK[out, 0].all()
    assert (late.difference_BKR[out & (late.seeds_B > 5), 0] > 0).all()


def test_a_look_waits_for_its_runs_and_takes_no_part_of_them() -> None:
    values, plan = scores(0.03, 0.03, studies=1), design(2)
    known = np.ones((1, 4, 8), dtype=bool)
    known[0, 3, 3:] = False  # the second dose is late: it has three seeds
    found = played(np.where(known[..., None], values, 0.0), plan, ran_BAS=known)
    assert (int(found.look_B[0]), int(found.seeds_B[0]), int(found.next_seeds_B[0])) == (1, 3, 4)
    assert found.active_BA[0, 3]
    known[0, :, 3:] = False
    same(one_of(found, 0), one_of(played(np.where(known[..., None], values, 0.0), plan, ran_BAS=known), 0))


def test_nothing_is_claimed_at_the_screen() -> None:
    values = scores(0.3, -0.3, studies=5)
    found = played(values, design(2), ran_BAS=np.broadcast_to(np.arange(8) < 2, values.shape[:3]))
    assert (found.seeds_B == 2).all()
    assert (found.look_B == 0).all()
    assert not found.over_B.any()
    assert (found.low_BKR == -1).all()
    assert not found.ruled_out_BK.any()
    # But a dose that lags far behind a promising one waits from here on.
    assert not found.active_BA[:, 3].any()
    assert found.active_BA[:, 2].all()


def test_ruled_out_doses_stop_and_lagging_ones_may_come_back() -> None:
    values, plan = scores(0.03, 0.03, -0.1, studies=60, seeds=20), design(3, most=20)
    found = played(values, plan)
    early = played(values, plan, ran_BAS=np.broadcast_to(np.arange(20) < 5, values.shape[:3]))
    out = early.ruled_out_BK[:, 2] & ~early.over_B
    assert out.sum() > 20
    assert (found.read_BA[out, 4] <= 5).all()
    waited = {seeds: _waits(values, plan, seeds) for seeds in (3, 4, 5, 6, 8)}
    came_back = [
        waited[early][:, dose] & ~waited[late][:, dose] & (found.read_BA[:, dose + 2] > early)
        for early, late in ((3, 4), (4, 5), (5, 6), (6, 8))
        for dose in (0, 1)
    ]
    assert np.any(came_back)


def _waits(values: np.ndarray, plan: StagedDesign, seeds: int) -> np.ndarray:
    found = played(values, plan, ran_BAS=np.broadcast_to(np.arange(20) < seeds, values.shape[:3]))
    return (found.next_seeds_B[:, None] > 0) & ~found.active_BA[:, 2:] & ~found.ruled_out_BK


def test_a_dose_that_waits_counts_until_it_is_ruled_out() -> None:
    """A middle dose set aside early keeps `train_alone` from being said: nobody knows yet that it is worth nothing."""
    values, plan = scores(0.02, 0.0, -0.02, studies=80, seeds=20), design(3, most=20)
    found = played(values, plan)
    alone = found.code_B == rule.WORDS.index("train_alone")
    assert alone.sum() > 10
    assert found.ruled_out_BK[alone].all()
    some_wait = (found.read_BA[:, 2:] < found.seeds_B[:, None]) & ~found.ruled_out_BK
    assert some_wait.any()
    assert not alone[some_wait.any(-1)].any()


@pytest.mark.parametrize("lost", [(2,), (3,), (2, 3), (0,), (1,), (0, 1, 2, 3)])
def test_arms_none_of_whose_runs_is_there_do_not_break_it(lost: tuple[int, ...]) -> None:
    values, plan = scores(0.1, 0.0, studies=4), design(2)
    failed = np.zeros(values.shape[:3], dtype=bool)
    failed[:, list(lost)] = True
    found = played(np.where(failed[..., None], 0.0, values), plan, ran_BAS=~failed, failed_BAS=failed)
    assert found.over_B.all()
    assert (found.code_B != rule.WORDS.index("mix")).all() or lost == (3,)
    assert np.isfinite(found.low_BKR).all()


def test_a_baseline_that_no_open_claim_needs_stops() -> None:
    """The dose is far above the plain baseline and near the matched one: only the matched one is still a question."""
    values = scores(0.24, matched=0.21, studies=30, seeds=20)
    found = played(values, design(1, most=20))
    late = found.seeds_B >= 6
    assert late.sum() > 5
    stopped = found.read_BA[late, 0] < found.read_BA[late, 1]
    assert stopped.mean() > 0.8
    # It comes back where only it stands between the dose and a verdict: nothing was claimed against it before.
    assert (found.read_BA[late, 0][~stopped] == found.seeds_B[late][~stopped]).all()


def test_without_setting_aside_every_arm_goes_to_the_last_look() -> None:
    found = played(scores(0.06, 0.0, -0.1), design(3, set_aside=False))
    assert (found.read_BA == found.seeds_B[:, None]).all()


def test_a_hopeless_study_is_given_up_and_a_hopeful_one_is_not() -> None:
    """Three items' worth of evidence for a hundredth: no number of seeds will do."""
    weak = scores(0.0, 0.01, seeds=20, studies=60, group_items=30)
    plan = design(2, most=20, delta=0.01)
    groups = [f"group {item // 30}" for item in range(ITEMS)]
    found = replay(weak, layout(ITEMS, groups=groups), plan, first_half_I=np.arange(ITEMS) < 60)
    assert found.given_up_B.mean() > 0.3
    assert (found.code_B[found.given_up_B] == 0).all()
    assert (found.seeds_B[found.given_up_B] >= 5).all()
    never = replay(
        weak, layout(ITEMS, groups=groups), replace(plan, give_up_below=0.0), first_half_I=np.arange(ITEMS) < 60
    )
    assert not never.given_up_B.any()
    assert not played(scores(0.08, 0.0), design(2)).given_up_B.any()


def test_failed_runs_leave_their_pairs_out_and_hold_nothing_up() -> None:
    values, plan = scores(0.06, studies=10), design(1)
    failed = np.zeros(values.shape[:3], dtype=bool)
    failed[:, 2, 1] = True
    lost = np.where(failed[..., None], 0.0, values)
    found = played(lost, plan, ran_BAS=~failed, failed_BAS=failed)
    assert (found.over_B).all()
    assert (found.common_BKR[..., 0] <= found.seeds_B[:, None] - 1).all()
    without = np.delete(values, 1, axis=2)
    shorter = played(without, plan, ran_BAS=np.ones((10, 3, 7), dtype=bool))
    some = (shorter.seeds_B == found.seeds_B - 1) & (found.seeds_B > 4)
    np.testing.assert_allclose(found.difference_BKR[some], shorter.difference_BKR[some])


@pytest.mark.parametrize("failures", [6, 7, 8])
def test_an_arm_that_hardly_ever_runs_claims_nothing(failures: int) -> None:
    values, plan = scores(0.3, 0.0, studies=3), design(2)
    failed = np.zeros(values.shape[:3], dtype=bool)
    failed[:, 2, :failures] = True
    found = played(np.where(failed[..., None], 0.0, values), plan, ran_BAS=~failed, failed_BAS=failed)
    assert (found.low_BKR[:, 0] == -1).all()
    assert (found.high_BKR[:, 0] == 1).all()
    assert (found.code_B != rule.WORDS.index("mix")).all()
    assert found.over_B.all()


def test_seeds_that_agree_to_the_last_digit_do_not_break_it() -> None:
    items = np.linspace(0.2, 0.8, ITEMS)
    values = np.broadcast_to(items, (1, 3, 8, ITEMS)).copy()
    values[:, 2] += 0.1
    found = played(values, design(1))
    assert np.isfinite(found.low_BKR).all()
    assert found.over_B.all()
    assert played(np.broadcast_to(items, (1, 3, 8, ITEMS)), design(1)).over_B.all()


def test_the_order_of_items_changes_nothing() -> None:
    values, plan = scores(0.03, 0.05), design(2)
    order = rng_for(0, "tests", "order").permutation(ITEMS)
    found = replay(values, layout(ITEMS), plan, first_half_I=HALF)
    moved = replay(values[..., order], layout(ITEMS), plan, first_half_I=HALF[order])
    for study in range(len(values)):
        same(one_of(found, study), one_of(moved, study), exactly=False)
