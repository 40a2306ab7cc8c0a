"""What a staged study will cost and how often it will be firm, before its first run: its ladder, simulated.

Studies are simulated from variance components with known gains and go through the replay that judges real ones
(`decision.replay`), so looks, tails, arms that are set aside and giving up all count. One generator, so that the same
design always gets the same figures; how far they may be off is said beside them.

Array names end in shape letters: B studies, W worlds, A arms, S seeds, I items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from titrant.core.identity import rng_for
from titrant.decision.replay import Replay, StagedDesign, replay
from titrant.decision.rule import WORDS
from titrant.stats.contrasts import layout
from titrant.stats.power import Components

Floats = NDArray[np.float64]

_ARM_STUDIES = 640
"""Simulated studies in a world times arms: a mean cost is then known to about 4%, a share of studies to 5 points, and
all worlds take a second or two."""

_SIMULATED_ITEMS = 32
"""Items only enter by their mean and by how well their variance is known, so a few with the same mean do."""

AIM = 0.8
"""A gain counts as found where so many studies call it."""

WORLDS = (("no effect", 0.0), ("δ", 1.0), ("2δ", 2.0), ("4δ", 4.0), ("harm of 2δ", -2.0))
"""Names of gains in smallest effects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedLadder:
    """What studies of one design did in a world where the best dose gains `gain`. `read_BA`: seeds of each arm that the
    ladder called for. `firm_B` and `mix_B`: whether the verdict was firm, and a mix."""

    gain: float
    read_BA: NDArray[np.intp]
    firm_B: NDArray[np.bool_]
    mix_B: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldForecast:
    """One world in figures. `expected` with its simulation's own standard error; `largest` of the simulated studies.
    `firm`: the share of firm verdicts. Costs are in the unit of what each arm's run costs."""

    name: str
    gain: float
    expected: float
    expected_error: float
    largest: float
    runs: float
    firm: float


def forecast_worlds(
    design: StagedDesign,
    *,
    components: Components,
    items: int,
    costs: Sequence[float],
    studies: int | None = None,
    worlds: Sequence[tuple[str, float]] = WORLDS,
) -> tuple[WorldForecast, ...]:
    """What the ladder takes in every world. `costs`: of one run of each arm, in the order of the design's arms;
    `items`: independent items (groups).

    Where the best dose gains, those beside it gain half as much: they compete, as real doses do. The matched baseline
    gains nothing. Where doses do harm, all of them do.

    >>> from titrant.stats.looks import ladder, plan_looks
    >>> design = StagedDesign(looks=plan_looks(ladder(5), most=5, doses=1), most=5, baselines=1, rows=(48.0,),
    ...     smallest_effect=0.05)
    >>> found = forecast_worlds(design, components=Components(item=0.02, seed=0.0002, error=0.03), items=200,
    ...     costs=[100.0, 120.0], worlds=[("4δ", 4.0)])[0]
    >>> found.expected, found.expected_error, found.largest, found.runs, found.firm
    (660.0, 0.0, 660.0, 6.0, 1.0)
    """
    cost_A = np.asarray(costs, dtype=np.float64)
    gains = tuple(size * design.smallest_effect for _, size in worlds)
    made = simulated_ladder(design, components, items, gains, studies or studies_for(design))
    found = []
    for (name, _), world in zip(worlds, made, strict=True):
        cost_B = world.read_BA @ cost_A
        found.append(
            WorldForecast(
                name=name,
                gain=world.gain,
                expected=float(cost_B.mean()),
                expected_error=float(cost_B.std() / np.sqrt(len(cost_B))),
                largest=float(cost_B.max()),
                runs=float(world.read_BA.sum(-1).mean()),
                firm=float(world.firm_B.mean()),
            )
        )
    return tuple(found)


def smallest_found(
    design: StagedDesign, *, components: Components, items: int, seeds: int | None = None, studies: int | None = None
) -> float | None:
    """The smallest gain of a dose that the ladder calls a mix in 80% of studies, where it ends after the last look of
    at most `seeds` (by default all); None where it has no look by then, or finds not even a gain of 16 smallest
    effects."""
    looks = tuple(look for look in design.looks if seeds is None or look.seeds <= seeds)
    if not looks:
        return None
    sizes = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0)
    gains = tuple(size * design.smallest_effect for size in sizes)
    # More gains than worlds in a forecast, and each share is read together with its neighbours: half as many do.
    studies = studies or studies_for(design) // 2
    made = simulated_ladder(replace(design, looks=looks), components, items, gains, studies)
    share = np.maximum.accumulate([world.mix_B.mean() for world in made])
    if share[-1] < AIM:
        return None
    return float(np.interp(AIM, share, gains))


def studies_for(design: StagedDesign) -> int:
    """How many studies are simulated in a world."""
    return _ARM_STUDIES // (design.baselines + design.doses)


@lru_cache(maxsize=128)
def simulated_ladder(
    design: StagedDesign, components: Components, items: int, gains: tuple[float, ...], studies: int
) -> tuple[SimulatedLadder, ...]:
    """Every world's studies. All worlds see the same noise, so that they differ by what is gained alone."""
    noise_BASI, n_items = _noise(design, components, items, studies)
    n_arms = design.baselines + design.doses
    gain_WA = np.zeros((len(gains), n_arms))
    gain_WA[:, design.baselines :] = [_dose_gains(gain, design.doses) for gain in gains]
    # One replay for all worlds: what it does for many studies costs little more than for few.
    scores_BASI = (noise_BASI[None] + gain_WA[:, None, :, None, None]).reshape(-1, *noise_BASI.shape[1:])
    seen: Replay = replay(scores_BASI, layout(n_items), design, first_half_I=np.arange(n_items) % 2 == 0)
    shape = (len(gains), studies)
    code_WB, read_WBA = seen.code_B.reshape(shape), seen.read_BA.reshape(*shape, n_arms)
    return tuple(
        SimulatedLadder(gain=gain, read_BA=read_BA, firm_B=code_B > 0, mix_B=code_B == WORDS.index("mix"))
        for gain, read_BA, code_B in zip(gains, read_WBA, code_WB, strict=True)
    )


def _dose_gains(gain: float, doses: int) -> Floats:
    shares = np.full(doses, 1.0 if gain < 0 else 0.5)
    shares[doses // 2] = 1.0
    return gain * shares


def _noise(design: StagedDesign, components: Components, items: int, studies: int) -> tuple[Floats, int]:
    """Scores without any effect, B×A×S×I, and how many items they have. Half of a contrast's variance is each arm's."""
    rng = rng_for(0, "decision", "ladder forecast")
    n_items = min(items, _SIMULATED_ITEMS)
    arms, scale = design.baselines + design.doses, n_items / items
    shape = (studies, arms, design.looks[-1].seeds, n_items)
    # Seeds that draw from the same N rows share the luck of those rows: it is the same at every seed of an arm.
    luck = components.seed * design.overlap / (1 - design.overlap) if design.overlap < 1 else 0.0
    parts = (
        ((studies, arms, 1, n_items), components.item * scale),
        ((*shape[:3], 1), components.seed),
        (shape, components.error * scale),
        ((studies, arms, 1, 1), luck),
    )
    total = np.zeros(shape)
    for size, variance in parts:
        total += rng.standard_normal(size, dtype=np.float32) * np.float32(np.sqrt(variance / 2))
    return total, n_items
