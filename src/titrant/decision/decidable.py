"""Whether a staged study is likely to be firm, within a budget or at all, and what it lacks where it is not.

Likely: in 80% of simulated studies where no dose does anything, and in 80% of those where one gains twice the smallest
effect. A gain of exactly the smallest effect is no such test: half of all studies fall on either side of it, however
large they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from titrant.decision.ladder_forecast import AIM, SimulatedLadder, simulated_ladder, studies_for
from titrant.decision.replay import StagedDesign
from titrant.stats.power import Components

_WORLDS = (0.0, 2.0)
_ITEM_STEPS = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0, 50.0)
_EFFECT_STEPS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chances:
    """Shares of simulated studies that are firm (within the budget): where no dose does anything, and where one gains
    twice the smallest effect. `budget_needed`: what makes the lesser of the two 80%, in the costs' unit; None where no
    budget does. `expected`: the larger of the two mean costs."""

    no_effect: float
    twice: float
    expected: float
    budget_needed: float | None

    @property
    def least(self) -> float:
        return min(self.no_effect, self.twice)

    @property
    def likely(self) -> bool:
        """Whether a firm verdict is likely."""
        return self.least >= AIM


def chances(
    design: StagedDesign,
    *,
    components: Components,
    items: int,
    costs: Sequence[float],
    budget: float | None = None,
    fixed: float = 0.0,
) -> Chances:
    """How often the design is firm. `costs` of one run of each arm, `fixed` what is spent whatever happens, and
    `budget` (None: without end) in one unit."""
    gains = tuple(size * design.smallest_effect for size in _WORLDS)
    worlds = simulated_ladder(design, components, items, gains, studies_for(design))
    cost_A = np.asarray(costs, dtype=np.float64)
    cost_WB = [np.asarray(world.read_BA @ cost_A + fixed, dtype=np.float64) for world in worlds]
    shares = [
        float((world.firm_B & (cost_B <= (np.inf if budget is None else budget))).mean())
        for world, cost_B in zip(worlds, cost_WB, strict=True)
    ]
    needed = max(_needed(world, cost_B) for world, cost_B in zip(worlds, cost_WB, strict=True))
    return Chances(
        no_effect=shares[0],
        twice=shares[1],
        expected=max(float(cost_B.mean()) for cost_B in cost_WB),
        budget_needed=None if np.isinf(needed) else float(needed),
    )


def _needed(world: SimulatedLadder, cost_B: NDArray[np.float64]) -> float:
    """The cost within which 80% of the studies are firm; infinite where fewer ever are."""
    return float(np.sort(np.where(world.firm_B, cost_B, np.inf))[int(np.ceil(AIM * len(cost_B))) - 1])


def items_needed(design: StagedDesign, *, components: Components, items: int) -> int | None:
    """The test items (about) with which a firm verdict is likely, at least `items`; None where 50 times as many are not
    enough, as seeds vary too much."""
    found = _first(_ITEM_STEPS, lambda step: _is_likely(design, components, round(items * step)))
    return None if found is None else round(items * found)


def effect_that_shows(design: StagedDesign, *, components: Components, items: int) -> float | None:
    """The smallest effect (about) on which a firm verdict is likely with these items, at least the design's own; None
    where not even ten times as much is enough."""
    delta = design.smallest_effect

    def likely(step: float) -> bool:
        return _is_likely(replace(design, smallest_effect=delta * step), components, items)

    found = _first([step for step in _EFFECT_STEPS if delta * step < 0.5], likely)
    return None if found is None else round(delta * found, 4)


def _is_likely(design: StagedDesign, components: Components, items: int) -> bool:
    costs = [1.0] * (design.baselines + design.doses)
    return chances(design, components=components, items=items, costs=costs).likely


def _first(steps: Sequence[float], holds: Callable[[float], bool]) -> float | None:
    """The first of rising steps that holds, by halving: where one holds, all after it do."""
    if not steps or not holds(steps[-1]):
        return None
    low, high = -1, len(steps) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if holds(steps[middle]):
            high = middle
        else:
            low = middle
    return steps[high]
