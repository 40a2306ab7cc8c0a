"""A staged study replayed from its scores: which looks were taken, what each claimed, which arms go on.

Numbers only, for one study or thousands at once: the code that `make calibrate` tries is the code that judges a study.
Everything follows from the scores of the seeds that the ladder calls for, in the seeds' own order. Scores beyond them
(a worker ran ahead, a table is the finished grid) are never read, so they cannot change a verdict.

What holds the error: each claim has a tail at each look, fixed before the first score (`looks`), and stands once made.
Which arms go on, wait or stop is free to follow the scores, because a look that an arm does not take can only lose a
claim. So the policy here is about cost, and only about cost.

Array names end in shape letters: B studies, A arms (baselines first, then doses rising), S seeds, I items, K doses,
R baselines, H halves of the items.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from titrant.decision.rule import Ruling, rule
from titrant.stats.contrasts import (
    FEW_SEEDS,
    Floats,
    Layout,
    Spread,
    as_seen,
    bounds,
    contrast_batch,
    joined_spreads,
    layout,
    moments,
    overlap_factor,
    shared_seeds_contrast,
)
from titrant.stats.crossfit import cross_fitted
from titrant.stats.looks import SCREEN_SEEDS, Look
from titrant.stats.numbers import RuleNumbers

Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]

BEHIND = 0.5
"""Where the leader looks worth the smallest effect, doses further behind it than so many standard errors wait."""

CLEARLY_STRONGER = 1.0
"""Where nothing looks worth mixing and one baseline leads by so many standard errors, it alone rules doses out."""

GIVE_UP_BELOW = 0.05
"""A study stops where the chance that its last look settles it is smaller: see `_chance_of_firm`. Simulated, this
costs at most one verdict in a hundred, and saves up to a third of what studies cost that are too weak for their
question (docs/decisions/0035-staged-looks.md)."""

FEWEST_TO_CLAIM = 3
"""A contrast claims nothing from fewer seeds that both arms have."""

FEWEST_TO_GIVE_UP = 5
"""With fewer seeds their variance is too uncertain to tell that the last look will not do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedDesign:
    """All that a replay needs to know beside scores. `looks` carry the tails; `rows` are the sizes of the doses.
    `most` seeds is where the last look lies (a budget may cut `looks` short and changes no tail).
    `set_aside` False keeps every arm to the end (for comparison)."""

    looks: tuple[Look, ...]
    most: int
    baselines: int
    rows: tuple[float, ...]
    smallest_effect: float
    overlap: float = 0.0
    behind: float = BEHIND
    give_up_below: float = GIVE_UP_BELOW
    set_aside: bool = True

    @property
    def doses(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What the ladder says of every study.

    `code_B` indexes advice.WORDS. `look_B` counts the looks taken (0: only the screen, or not even that), `seeds_B` are
    the seeds of the last one, the screen counted (0: none). `over_B`: firm, given up (`given_up_B`) or at the end.
    `active_BA`: the arms that the next look needs, and `next_seeds_B` its seeds (0: over). `read_BA` are the seeds of
    each arm that the ladder called for, up to the last look taken. `ruled_out_BK` as the rule has it, over all looks.

    Bounds are the tightest over the looks so far, each at its look's tail: they hold over all looks at once. Before the
    first look they are -1 and 1, as scores lie within 0 and 1. `difference_BKR` is of the last look at which both arms
    took part, `common_BKR` its seeds. Gains and gaps are of the last look.
    """

    code_B: Ints
    chosen_BK: Bools
    look_B: Ints
    seeds_B: Ints
    over_B: Bools
    given_up_B: Bools
    active_BA: Bools
    next_seeds_B: Ints
    read_BA: Ints
    ruled_out_BK: Bools
    difference_BKR: Floats
    common_BKR: Ints
    low_BKR: Floats
    high_BKR: Floats
    low_single_BKR: Floats
    high_single_BKR: Floats
    high_strict_BKR: Floats
    gap_low_BK: Floats
    gap_high_BK: Floats
    gain_best_BR: Floats
    gain_smallest_BR: Floats
    method: str


def replay(
    values_BASI: NDArray[np.floating[Any]],
    plan: Layout,
    design: StagedDesign,
    *,
    first_half_I: Bools,
    ran_BAS: Bools | None = None,
    failed_BAS: Bools | None = None,
) -> Replay:
    """The ladder on these scores. `ran_BAS` says which runs have scores (None: all), `failed_BAS` which have none and
    never will. A look whose runs are not all known is not taken: the replay ends there, and `active_BA` says what it
    waits for.

    Two doses over one baseline, scores that differ by a firm 0.2 from the first seed on:

    >>> from titrant.stats.looks import ladder, plan_looks
    >>> items = np.linspace(0.2, 0.6, 400)
    >>> seed = np.array([0.0, 0.02, -0.02, 0.01, -0.01])[:, None]
    >>> scores = np.stack([items + seed, items - seed, items + 0.2 + 0.5 * seed])[None]
    >>> design = StagedDesign(looks=plan_looks(ladder(5), most=5, doses=2), most=5, baselines=1, rows=(48, 96),
    ...     smallest_effect=0.05)
    >>> found = replay(scores, layout(400), design, first_half_I=np.arange(400) % 2 == 0)
    >>> int(found.code_B[0]), found.chosen_BK[0].tolist(), int(found.seeds_B[0]), found.read_BA[0].tolist()
    (2, [False, True], 3, [3, 2, 3])
    """
    studies, arms, _, _ = values_BASI.shape
    assert arms == design.baselines + design.doses
    ran = np.ones(values_BASI.shape[:3], dtype=bool) if ran_BAS is None else ran_BAS
    known = ran if failed_BAS is None else ran | failed_BAS
    sums = _Sums.of(values_BASI, ran, plan, first_half_I)
    # Looks are taken one after the other from the first, never only the last: claims stand once they are made, and
    # which arms a look saw depends on the looks before it.
    state = _State.start(studies, design)
    number = {look.seeds: index for index, look in enumerate(design.looks, start=1)}
    for seeds in (SCREEN_SEEDS, *number):
        look = design.looks[number[seeds] - 1] if seeds in number else None
        _hold_what_lacks_runs(state, known, seeds)
        live = np.flatnonzero(~state.over_B & ~state.held_B)
        if not len(live):
            break
        state.read_BA[live] = np.where(state.active_BA[live], seeds, state.read_BA[live])
        seen = _seen(values_BASI, ran, plan, design, state, sums, live=live, seeds=seeds)
        # In this order: bounds, then the rule on them, then what to run next. The policy sees what the rule ruled out.
        _update(state, seen, design, look, live)
        if look is not None:
            _settle(state, seen, design, look, live, number=number[seeds])
        _choose_arms(state, seen, design, sums, live)
        state.seeds_B[live] = seeds
        later = [other for other in number if other > seeds]
        state.next_seeds_B[live] = later[0] if later else 0
        state.over_B[live] |= not later
    return state.result()


# --------------------------------------------------------------------------------------------------------------- state


@dataclass(slots=True, kw_only=True)
class _State:
    """What is known of each study so far; filled look by look. Shapes as in `Replay`.

    `final_variance_BKR` is the variance that a difference will have at all seeds; `drift_variance_BKR` that of the way
    from its present value to the one at all seeds; `df_BKR` the degrees of freedom behind them. `gap_error_BK` is the
    standard error of leader minus dose.
    """

    code_B: Ints
    chosen_BK: Bools
    look_B: Ints
    seeds_B: Ints
    over_B: Bools
    held_B: Bools
    given_up_B: Bools
    active_BA: Bools
    next_seeds_B: Ints
    read_BA: Ints
    ruled_out_BK: Bools
    difference_BKR: Floats
    common_BKR: Ints
    low_BKR: Floats
    high_BKR: Floats
    low_single_BKR: Floats
    high_single_BKR: Floats
    high_strict_BKR: Floats
    error_BKR: Floats
    final_variance_BKR: Floats
    drift_variance_BKR: Floats
    df_BKR: Floats
    gap_error_BK: Floats
    gap_low_BK: Floats
    gap_high_BK: Floats
    gain_best_BR: Floats
    gain_smallest_BR: Floats
    method: str = "no look yet"

    @classmethod
    def start(cls, studies: int, design: StagedDesign) -> _State:
        sides = (studies, design.doses, design.baselines)
        unknown, whole = np.full(sides, np.nan), np.ones(sides)
        arms = design.doses + design.baselines
        return cls(
            code_B=np.zeros(studies, dtype=np.intp),
            chosen_BK=np.zeros(sides[:2], dtype=bool),
            look_B=np.zeros(studies, dtype=np.intp),
            seeds_B=np.zeros(studies, dtype=np.intp),
            over_B=np.zeros(studies, dtype=bool),
            held_B=np.zeros(studies, dtype=bool),
            given_up_B=np.zeros(studies, dtype=bool),
            active_BA=np.ones((studies, arms), dtype=bool),
            next_seeds_B=np.full(studies, SCREEN_SEEDS, dtype=np.intp),
            read_BA=np.zeros((studies, arms), dtype=np.intp),
            ruled_out_BK=np.zeros(sides[:2], dtype=bool),
            difference_BKR=unknown.copy(),
            common_BKR=np.zeros(sides, dtype=np.intp),
            low_BKR=-whole,
            high_BKR=whole.copy(),
            low_single_BKR=-whole,
            high_single_BKR=whole.copy(),
            high_strict_BKR=whole.copy(),
            error_BKR=unknown.copy(),
            final_variance_BKR=unknown.copy(),
            drift_variance_BKR=unknown.copy(),
            df_BKR=unknown.copy(),
            gap_error_BK=np.zeros(sides[:2]),
            gap_low_BK=np.full(sides[:2], np.nan),
            gap_high_BK=np.full(sides[:2], np.nan),
            gain_best_BR=np.full((studies, design.baselines), np.nan),
            gain_smallest_BR=np.full((studies, design.baselines), np.nan),
        )

    def result(self) -> Replay:
        ended = self.over_B
        return Replay(
            code_B=self.code_B,
            chosen_BK=self.chosen_BK,
            look_B=self.look_B,
            seeds_B=self.seeds_B,
            over_B=ended,
            given_up_B=self.given_up_B,
            active_BA=self.active_BA & ~ended[:, None],
            next_seeds_B=np.where(ended, 0, self.next_seeds_B),
            read_BA=self.read_BA,
            ruled_out_BK=self.ruled_out_BK,
            difference_BKR=self.difference_BKR,
            common_BKR=self.common_BKR,
            low_BKR=self.low_BKR,
            high_BKR=self.high_BKR,
            low_single_BKR=self.low_single_BKR,
            high_single_BKR=self.high_single_BKR,
            high_strict_BKR=self.high_strict_BKR,
            gap_low_BK=self.gap_low_BK,
            gap_high_BK=self.gap_high_BK,
            gain_best_BR=self.gain_best_BR,
            gain_smallest_BR=self.gain_smallest_BR,
            method=self.method,
        )


def _hold_what_lacks_runs(state: _State, known_BAS: Bools, seeds: int) -> None:
    """Studies of which some needed run is neither there nor failed stay where they are."""
    if seeds > known_BAS.shape[-1]:
        state.held_B[:] = True
        return
    lacking_BA = state.active_BA & ~known_BAS[..., :seeds].all(-1)
    state.held_B |= ~state.over_B & lacking_BA.any(-1)


# ------------------------------------------------------------------------------------------------------- what is seen


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sums:
    """Weighted means over the items of each half, and over all, summed over seeds up to each: any number of seeds is a
    difference away. P counts the halves of seeds: each arm's first, third, fifth run, and those between."""

    half_BAPSH: Floats
    half_runs_BAPS: Ints
    whole_BAS: Floats
    runs_BAS: Ints

    @classmethod
    def of(cls, values_BASI: NDArray[np.floating[Any]], ran_BAS: Bools, plan: Layout, first_half_I: Bools) -> _Sums:
        # Running sums over seeds are made once, so that each look takes its means by one subscript and not by reading
        # all scores again.
        weights_IH = np.stack([plan.weight_I * first_half_I, plan.weight_I * ~first_half_I], axis=-1)
        total_H = weights_IH.sum(0)
        # A half without items has no mean, and the cross-fitted gain is then unknown.
        with np.errstate(invalid="ignore", divide="ignore"):
            half = (np.asarray(values_BASI, dtype=np.float64) @ weights_IH) / np.where(total_H > 0, total_H, np.nan)
        whole = np.asarray(values_BASI, dtype=np.float64) @ plan.weight_I
        # By an arm's own runs and not by seeds, so that a failed run never empties a half.
        turn_BAS = ran_BAS.cumsum(-1) % 2
        part_BAPS = np.stack([ran_BAS & (turn_BAS == turn) for turn in (1, 0)], axis=-2)
        return cls(
            half_BAPSH=(half[:, :, None] * part_BAPS[..., None]).cumsum(-2),
            half_runs_BAPS=part_BAPS.cumsum(-1),
            whole_BAS=(whole * ran_BAS).cumsum(-1),
            runs_BAS=ran_BAS.cumsum(-1),
        )

    def halves(self, live: Ints, seeds_b: Ints) -> Floats:
        """Means of each half of the items over each half of the first so many seeds of each study, b×A×P×H."""
        place = (seeds_b - 1)[:, None, None, None]
        total = np.take_along_axis(self.half_BAPSH[live], place[..., None], axis=3)[:, :, :, 0]
        runs = np.take_along_axis(self.half_runs_BAPS[live], place, axis=3)
        found: Floats = total / np.where(runs > 0, runs, np.nan)
        return found

    def means(self, live: Ints, seeds_bA: Ints) -> Floats:
        """Means over the first so many seeds of each arm, b×A; NaN where none ran."""
        place = np.maximum(seeds_bA - 1, 0)[..., None]
        total = np.take_along_axis(self.whole_BAS[live], place, axis=2)[..., 0]
        runs = np.take_along_axis(self.runs_BAS[live], place, axis=2)[..., 0]
        found: Floats = total / np.where((runs > 0) & (seeds_bA > 0), runs, np.nan)
        return found


_PARTS = ("difference", "standard_error", "df", "item", "seed", "error", "unseen")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """One look at the live studies (b of them): spreads against each baseline and against the leader, b×K, with df 0
    where an arm takes no part; `common_bKR` are the seeds that both arms have; `on_bK`, `base_bR` who takes part."""

    seeds: int
    spreads: tuple[Spread, ...]
    gap: Spread
    leader_b: Ints
    common_bKR: Ints
    on_bK: Bools
    base_bR: Bools
    gain_best_bR: Floats
    gain_smallest_bR: Floats
    method: str


def _seen(
    values_BASI: NDArray[np.floating[Any]],
    ran_BAS: Bools,
    plan: Layout,
    design: StagedDesign,
    state: _State,
    sums: _Sums,
    *,
    live: Ints,
    seeds: int,
) -> _Seen:
    n_bases, n_doses = design.baselines, design.doses
    on_bA = state.active_BA[live]
    ran_bAS = ran_BAS[live, :, :seeds]
    means_bA = sums.means(live, np.where(on_bA, seeds, 0))
    # A dose none of whose runs is there leads only where no other takes part; scores lie within 0 and 1.
    score_bK = np.nan_to_num(means_bA[:, n_bases:], nan=-1.0)
    leader_b = np.where(on_bA[:, n_bases:], score_bK, -np.inf).argmax(-1) + n_bases
    shape = (len(live), n_doses, n_bases + 1)
    parts = {name: np.full(shape, np.nan) for name in _PARTS}
    parts["df"], parts["unseen"] = np.zeros(shape), np.zeros(shape)
    constant, common = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=np.intp)
    method = ""
    for group in _groups(on_bA, ran_bAS, leader_b):
        members, arms = group.members, group.arms
        doses = arms[arms >= n_bases]
        scores = values_BASI[live[members]][:, arms if len(arms) < on_bA.shape[-1] else slice(None), :seeds]
        found = moments(scores, plan) if group.ran_AS is None else None
        for side in (*arms[arms < n_bases], n_bases):
            base_b = leader_b[members] if side == n_bases else np.full(len(members), side)
            local, base = np.searchsorted(arms, doses), np.searchsorted(arms, base_b)
            if found is not None:
                spread = contrast_batch(found, list(local), base, overlap=design.overlap)
            else:
                spread = _over_shared_seeds(scores, group, plan, local, int(base[0]), design)
            takes_part = on_bA[np.ix_(members, doses)] & on_bA[members, base_b][:, None]
            cell = np.ix_(members, doses - n_bases, np.array([side]))
            for name in _PARTS:
                nothing = 0.0 if name in ("df", "unseen") else np.nan
                parts[name][cell] = np.where(takes_part, getattr(spread, name), nothing)[..., None]
            constant[cell] = (takes_part & spread.constant)[..., None]
            shared_bK = (ran_bAS[np.ix_(members, doses)] & ran_bAS[members, base_b][:, None]).sum(-1)
            common[cell] = np.where(takes_part, shared_bK, 0)[..., None]
            method = max(method, spread.method, key=len)
    seen_seeds = int(common[common > 0].min()) if (common > 0).any() else 0
    spreads = [
        Spread(
            **{name: parts[name][..., side] for name in _PARTS},
            constant=constant[..., side],
            n_clusters=plan.n_clusters,
            n_seeds=seen_seeds,
            method=method,
        )
        for side in range(n_bases + 1)
    ]
    best, smallest = _gains(design, state, sums, live, on_bA, seeds)
    return _Seen(
        seeds=seeds,
        spreads=tuple(spreads[:-1]),
        gap=spreads[-1],
        leader_b=leader_b - n_bases,
        common_bKR=common[..., :-1],
        on_bK=on_bA[:, n_bases:],
        base_bR=on_bA[:, :n_bases],
        gain_best_bR=best,
        gain_smallest_bR=smallest,
        method=method,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Studies that are computed at once: `members` among the live ones, the `arms` to look at, and which of their runs
    are there (None: all)."""

    members: Ints
    arms: Ints
    ran_AS: Bools | None


def _groups(on_bA: Bools, ran_bAS: Bools, leader_b: Ints) -> Iterator[_Group]:
    """With few seeds, arms lend to each other's variance, so only those that take part in a study may be there. Later a
    contrast knows its own two arms only: all studies go at once, and what takes no part is left out afterwards."""
    there_bAS = ran_bAS & on_bA[..., None]
    whole_b = (there_bAS == on_bA[..., None]).all((-1, -2))
    together = ran_bAS.shape[-1] > FEW_SEEDS
    if together and whole_b.any():
        yield _Group(members=np.flatnonzero(whole_b), arms=np.arange(on_bA.shape[-1]), ran_AS=None)
    # Studies with the same arms, the same runs and (where runs are missing) the same leader have the same formulas.
    key = np.concatenate(
        [on_bA, there_bAS.reshape(len(on_bA), -1), np.where(whole_b, 0, leader_b)[:, None]], axis=-1, dtype=np.int64
    )
    left = np.flatnonzero(~whole_b) if together else np.arange(len(on_bA))
    if not len(left):
        return
    _, first, kind_b = np.unique(key[left], axis=0, return_index=True, return_inverse=True)
    for kind, place in enumerate(first):
        study, arms = left[place], np.flatnonzero(on_bA[left[place]])
        members = left[kind_b.reshape(-1) == kind]
        yield _Group(members=members, arms=arms, ran_AS=None if whole_b[study] else ran_bAS[study, arms])


def _over_shared_seeds(
    scores_bASI: NDArray[np.floating[Any]],
    group: _Group,
    plan: Layout,
    doses: Ints,
    baseline: int,
    design: StagedDesign,
) -> Spread:
    """Where runs are missing, each contrast takes the seeds that its two arms have (such a group has one leader)."""
    assert group.ran_AS is not None
    return joined_spreads(
        [
            shared_seeds_contrast(
                scores_bASI, group.ran_AS, plan, arm=int(dose), baseline=baseline, overlap=design.overlap
            )
            for dose in doses
        ]
    )


def _gains(
    design: StagedDesign, state: _State, sums: _Sums, live: Ints, on_bA: Bools, seeds: int
) -> tuple[Floats, Floats]:
    """Cross-fitted gains over each baseline, of the doses that take part and are not ruled out, over the seeds that the
    baseline has (one that stopped has fewer). Two means of halves of the items are two
    items to the cross-fit, and those of halves of the seeds two seeds."""
    n_bases = design.baselines
    best, smallest = (np.full((len(live), n_bases), np.nan) for _ in range(2))
    candidate_bK = on_bA[:, n_bases:] & ~state.ruled_out_BK[live]
    for baseline in range(n_bases):
        # Dose and baseline over the same seeds, or the gain would hold the luck of seeds that only one of them has.
        has_b = np.minimum(state.read_BA[live, baseline], seeds)
        half_bAPH = sums.halves(live, has_b)
        may_bK = candidate_bK & ~np.isnan(half_bAPH[:, n_bases:]).any((-1, -2))
        fit = cross_fitted(
            np.nan_to_num(half_bAPH),
            layout(2),
            np.array([True, False]),
            doses=list(range(n_bases, n_bases + design.doses)),
            baselines=[baseline],
            smallest_effect=design.smallest_effect,
            candidate_BK=may_bK,
        )
        without = np.isnan(half_bAPH[:, baseline]).any((-1, -2))
        best[:, baseline] = np.where(without, np.nan, fit.best[:, 0])
        smallest[:, baseline] = np.where(without, np.nan, fit.smallest[:, 0])
    return best, smallest


# ----------------------------------------------------------------------------------------------------------- one look


def _update(state: _State, seen: _Seen, design: StagedDesign, look: Look | None, live: Ints) -> None:
    """Latest differences and variances; and, at a look, bounds, which only ever tighten."""
    for side, spread in enumerate(seen.spreads):
        cell = (live, slice(None), side)
        fresh = seen.common_bKR[..., side] > 0
        # Kept from the last look in which both arms took part: an arm that waits keeps what it has shown.
        final, drift = _variances_ahead(spread, seen.seeds, design)
        for array, value in (
            (state.difference_BKR, spread.difference),
            (state.error_BKR, spread.standard_error),
            (state.final_variance_BKR, final),
            (state.drift_variance_BKR, drift),
            (state.df_BKR, np.full_like(drift, seen.seeds - 1.0)),
            (state.common_BKR, seen.common_bKR[..., side]),
        ):
            array[cell] = np.where(fresh, value, array[cell])
        if look is None:
            continue
        claims = seen.common_bKR[..., side] >= FEWEST_TO_CLAIM
        for lows, highs, tail in (
            (state.low_BKR, state.high_BKR, look.better),
            (state.low_single_BKR, state.high_single_BKR, look.single),
            (None, state.high_strict_BKR, look.strict),
        ):
            low, high = bounds(spread, tail)
            # fmin and fmax pass over NaN: a look in which the contrast took no part leaves its bound as it was.
            highs[cell] = np.fmin(highs[cell], np.where(claims, high, np.nan))
            if lows is not None:
                lows[cell] = np.fmax(lows[cell], np.where(claims, low, np.nan))
    state.gap_error_BK[live] = np.where(seen.on_bK, seen.gap.standard_error, state.gap_error_BK[live])
    state.gain_best_BR[live], state.gain_smallest_BR[live] = seen.gain_best_bR, seen.gain_smallest_bR
    state.method = seen.method


def _variances_ahead(spread: Spread, seeds: int, design: StagedDesign) -> tuple[Floats, Floats]:
    """The variance of a difference at all seeds, and that of the way there. Items stay the same, so their own part does
    not shrink; what seeds and the error bring shrinks with the seeds."""
    share = seeds / design.most
    own = as_seen(spread.seed, spread.error, design.overlap, seeds)
    # A variance of the mean over s seeds falls to s / most of it at all seeds.
    last_error = spread.error * share
    rows = np.maximum(own * share - last_error / 2, 0.0) * (overlap_factor(design.overlap, design.most) - 1)
    final = np.maximum(spread.item - spread.error, 0.0) + own * share + rows
    return final, own * (1 - share)


def _settle(state: _State, seen: _Seen, design: StagedDesign, look: Look, live: Ints, *, number: int) -> None:
    """The rule on what is known now; firm studies are over, and so are those that the last look will not settle."""
    delta = design.smallest_effect
    low_gap, high_gap = bounds(seen.gap, look.single)
    itself = np.arange(design.doses) == seen.leader_b[:, None]
    # The contrast is dose minus leader; the gap is leader minus dose.
    state.gap_low_BK[live] = np.where(itself, 0.0, -high_gap)
    state.gap_high_BK[live] = np.where(itself, 0.0, -low_gap)
    ruled: Bools = np.asarray(
        (state.high_single_BKR[live] < delta).all(-1) | (state.high_strict_BKR[live] < delta).any(-1)
    )
    state.ruled_out_BK[live] = ruled
    # A dose that is not worth the smallest effect is no candidate, though it may be better than nothing: its lower
    # bound is quoted at 0 at most.
    capped = np.minimum(state.low_BKR[live], 0.0)
    state.low_BKR[live] = np.where(ruled[..., None], capped, state.low_BKR[live])
    found = _ruling(state, design, live)
    state.code_B[live], state.chosen_BK[live] = found.code_B, found.chosen_BK
    state.look_B[live] = number
    firm = found.code_B > 0
    state.over_B[live] |= firm
    if FEWEST_TO_GIVE_UP <= look.seeds < design.looks[-1].seeds:
        # Stopping for lack of hope makes no claim, so it needs no share of the error and costs none.
        hopeless = ~firm & (_chance_of_firm(state, design, live) < design.give_up_below)
        state.given_up_B[live] |= hopeless
        state.over_B[live] |= hopeless


def _ruling(state: _State, design: StagedDesign, live: Ints) -> Ruling:
    """The rule of every verdict, on the bounds of these studies."""
    difference_BK = state.difference_BKR[live][..., 0]
    return rule(
        RuleNumbers(
            rows_BK=np.broadcast_to(np.asarray(design.rows, dtype=np.float64), difference_BK.shape),
            difference_BK=difference_BK,
            simultaneous_low_BKR=state.low_BKR[live],
            low_90_BKR=state.low_single_BKR[live],
            high_90_BKR=state.high_single_BKR[live],
            high_95_BKR=state.high_strict_BKR[live],
            gap_high_BK=state.gap_high_BK[live],
            gap_low_BK=state.gap_low_BK[live],
            gain_BR=state.gain_best_BR[live],
        ),
        smallest_effect=design.smallest_effect,
    )


def _chance_of_firm(state: _State, design: StagedDesign, live: Ints) -> Floats:
    """Roughly the chance, given what is seen, that the last look makes the verdict firm: some dose is found better, or
    all doses are ruled out. Differences wander to their last value by what seeds vary (t, as seeds are few)."""
    last, delta = design.looks[-1], design.smallest_effect
    error = np.sqrt(state.final_variance_BKR[live])
    drift = np.sqrt(np.maximum(state.drift_variance_BKR[live], 1e-12))
    now, df = state.difference_BKR[live], state.df_BKR[live]

    def reached(needed: Floats) -> Floats:
        found: Floats = np.nan_to_num(special.stdtr(df, (now - needed) / drift))
        return found

    def point(tail: float) -> float:
        return float(-special.ndtri(tail))

    is_better = state.low_BKR[live] > 0
    # A dose that was found better at an earlier look stays so, and only its gain has yet to hold at the last one.
    better = reached(np.where(is_better, delta, np.maximum(delta, point(last.better) * error)))
    # Better than every baseline: the least likely of the two. By any dose: the likeliest. Rough, but it needs no
    # correlations.
    mix = np.where(state.ruled_out_BK[live], 0.0, better.min(-1)).max(-1)
    both = np.where(state.high_single_BKR[live] < delta, 1.0, 1 - reached(delta - point(last.single) * error)).min(-1)
    one = (1 - reached(delta - point(last.strict) * error)).max(-1)
    out = np.where(state.ruled_out_BK[live], 1.0, np.maximum(both, one)).min(-1)
    chance: Floats = mix + out
    return chance


# -------------------------------------------------------------------------------------------------------------- policy


def _choose_arms(state: _State, seen: _Seen, design: StagedDesign, sums: _Sums, live: Ints) -> None:
    """Which arms the next look needs: cost only, no claim hangs on it."""
    if not design.set_aside:
        return
    delta, n_bases = design.smallest_effect, design.baselines
    open_bK = ~state.ruled_out_BK[live]
    difference = state.difference_BKR[live]
    worst_bK = np.nan_to_num(difference.min(-1), nan=-np.inf)
    lead_b1 = np.where(open_bK, worst_bK, -np.inf).max(-1, keepdims=True)
    promising_b1 = lead_b1 >= delta
    # While a dose that looks worth mixing leads, one behind it is less likely to be chosen, so its runs are saved. If
    # the leader falls back, it is taken up again.
    near_bK = worst_bK >= lead_b1 - design.behind * np.nan_to_num(state.gap_error_BK[live])
    doses_bK: Bools = np.asarray(open_bK & (near_bK | ~promising_b1))
    # Mixing: a baseline is needed until every dose that goes on is better than it, and the gain over it is enough.
    open_claim = (doses_bK[..., None] & ~(state.low_BKR[live] > 0)).any(-2)
    needed_bR: Bools = np.asarray(open_claim | ~(state.gain_best_BR[live] >= delta))
    if n_bases == 2:
        mean_bA = sums.means(live, state.read_BA[live])
        apart = mean_bA[:, 1] - mean_bA[:, 0]
        error = np.nanmean(np.where(np.isnan(state.error_BKR[live]), 0.0, state.error_BKR[live]).max(-1), axis=-1)
        # A dose is ruled out by either baseline alone, and the stronger one does it sooner.
        weaker_bR = np.stack([apart, -apart], axis=-1) > CLEARLY_STRONGER * error[:, None]
        needed_bR = np.asarray(np.where(promising_b1, needed_bR, ~weaker_bR))
    else:
        needed_bR = np.ones_like(needed_bR)
    # Without any baseline there is no contrast, so all stay where none seemed needed.
    needed_bR[~np.asarray(needed_bR.any(-1))] = True
    state.active_BA[live] = np.concatenate([needed_bR, doses_bK], axis=-1)
