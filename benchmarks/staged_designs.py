"""What a verdict costs, by design: the fixed grid, staged, and what else is done or could be.

    python benchmarks/staged_designs.py --studies 1000

Writes benchmarks/results/staged-designs.json, which docs/staged.md quotes. Simulated studies of four doses and two
baselines, whose truth is known; all designs see the same studies. Costs are rows trained on plus what answering costs,
as a share of the grid of 20 seeds: of the family's own, and of a study that also has the same arms at half the target
rows, which no verdict reads.

Array names end in their axes: B studies, A arms, S seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from titrant.decision import rule
from titrant.decision.replay import StagedDesign, replay
from titrant.stats.contrasts import layout
from titrant.stats.crossfit import halves
from titrant.stats.looks import Look, dunnett_tail, ladder, plan_looks
from titrant.stats.simulation import SimulatedStudies, World, batches

RESULT = Path(__file__).resolve().parent / "results" / "staged-designs.json"
SEED, MOST, LEVEL, ITEMS = 20261201, 20, 0.95, 200
TARGET_ROWS, PASSES, ANSWERING = 96, 4, 110
DOSES = (24, 48, 96, 192)
SHAPE = (0.25, 0.5, 1.0, 0.5)
"""What each dose gains, as a share of the best: a middle one is."""

WORLD = World(seeds=MOST, items=ITEMS, seeds_share=0.5)
SETTINGS = {"all variance": 0.03, "a quarter of the variance": 0.06}
"""The smallest effect. Twice the effect at the same variance is the same effect at a quarter of it: what a graded score
is worth beside right or wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a design said, what it cost as a share of the family's grid, and by how much the gain that it quotes for a
    mix is more than the chosen arm's true one, over plain training (NaN elsewhere)."""

    code_B: NDArray[np.intp]
    cost_B: NDArray[np.float64]
    error_B: NDArray[np.float64]


def worlds(delta: float) -> dict[str, tuple[World, tuple[str, ...], tuple[str, ...]]]:
    """Each world with the verdicts that are right and those that are wrong in it."""
    gaining = {
        f"gain of {size} smallest effects": replace(
            WORLD, gains=tuple(size * delta * share for share in SHAPE), matched_gain=0.0
        )
        for size in (2, 4)
    }
    open_ones = {
        "gain of exactly the smallest effect": replace(
            WORLD, gains=tuple(delta * share for share in SHAPE), matched_gain=0.0
        ),
    }
    nothing, something = ("train_alone", "no_difference"), ("mix",)
    return {
        "no effect": (replace(WORLD, gains=(0.0,) * 4, matched_gain=0.0), nothing, something),
        "only steps gain": (replace(WORLD, gains=(2 * delta,) * 4, matched_gain=2 * delta), nothing, something),
        "harm of 2 smallest effects": (replace(WORLD, gains=(-2 * delta,) * 4, matched_gain=0.0), nothing, something),
        **{name: (world, something, nothing) for name, world in (*gaining.items(), *open_ones.items())},
    }


def costs(target_rows: int) -> NDArray[np.float64]:
    """The cost of one run of each arm: plain, matched, doses."""
    visits = [PASSES * target_rows, PASSES * target_rows + DOSES[-1], *(PASSES * target_rows + dose for dose in DOSES)]
    return np.array(visits, dtype=np.float64) + ANSWERING


COSTS = costs(TARGET_ROWS)
FAMILY_SHARE = float(COSTS.sum() / (COSTS.sum() + costs(TARGET_ROWS // 2).sum()))


# ------------------------------------------------------------------------------------------------------------- designs


def _replayed(made: SimulatedStudies, looks: tuple[Look, ...], delta: float) -> Found:
    design = StagedDesign(
        looks=looks,
        most=MOST,
        baselines=2,
        rows=tuple(float(dose) for dose in DOSES),
        smallest_effect=delta,
        set_aside=len(looks) > 1,
    )
    half_I = halves([f"item {number}" for number in range(ITEMS)])
    found = replay(made.scores, layout(ITEMS), design, first_half_I=half_I)
    off_BK = np.where(found.chosen_BK, found.difference_BKR[..., 0] - made.gains, np.nan)
    error_B = np.nansum(off_BK, axis=-1)
    error_B[~found.chosen_BK.any(-1)] = np.nan
    return Found(code_B=found.code_B, cost_B=found.read_BA @ COSTS / COSTS.sum() / MOST, error_B=error_B)


def _looks(tail: Callable[[float, float], float]) -> tuple[Look, ...]:
    """Looks whose tails follow from the tail that one look may have, and the time."""
    one = (1 - LEVEL) / 2
    return tuple(
        Look(
            seeds=seeds,
            better=dunnett_tail(tail(one, seeds / MOST), len(DOSES)),
            single=tail(2 * one, seeds / MOST),
            strict=tail(one, seeds / MOST),
        )
        for seeds in ladder(MOST)
    )


def _mixture_tail(tail: float, time: float) -> float:
    """Robbins' normal mixture (1970), tightest at 0.4 of all seeds: it holds at any number of looks."""

    def bound(at: float, spread: float) -> float:
        return float(np.sqrt((at + spread) / at * np.log((at + spread) / (spread * (2 * tail) ** 2))))

    best = optimize.minimize_scalar(lambda log: bound(0.4, np.exp(log)), bounds=(-12, 6), method="bounded").x
    return float(special.ndtr(-bound(time, float(np.exp(best)))))


def _halving(made: SimulatedStudies, looks: tuple[Look, ...], delta: float) -> Found:
    """Successive halving by mean, as tuners do: 2 seeds of all doses, 4 of the better half, 8 of the best one, which is
    mixed if its mean is above both baselines'."""
    mean_BAS = made.scores.mean(-1)
    left_BK = np.ones((len(mean_BAS), len(DOSES)), dtype=bool)
    runs_BA = np.zeros((len(mean_BAS), 2 + len(DOSES)))
    for seeds, keep in ((2, 2), (4, 1), (8, 1)):
        runs_BA[:, :2] = seeds
        runs_BA[:, 2:] = np.where(left_BK, seeds, runs_BA[:, 2:])
        over_BA = mean_BAS[..., :seeds].mean(-1)
        score_BK = np.where(left_BK, over_BA[:, 2:], -np.inf)
        worst = np.sort(score_BK, axis=-1)[:, -keep][:, None]
        left_BK = score_BK >= worst
    better_B = score_BK.max(-1) > over_BA[:, :2].max(-1)
    code_B = np.where(better_B, rule.WORDS.index("mix"), rule.WORDS.index("train_alone"))
    best_BK = score_BK == score_BK.max(-1, keepdims=True)
    off_B = np.where(best_BK, over_BA[:, 2:] - over_BA[:, :1] - made.gains, 0.0).sum(-1)
    error_B = np.where(better_B, off_B, np.nan)
    return Found(code_B=code_B, cost_B=runs_BA @ COSTS / COSTS.sum() / MOST, error_B=error_B)


DESIGNS: dict[str, tuple[Callable[..., Found], tuple[Look, ...]]] = {
    "fixed grid of 20 seeds": (_replayed, _looks(lambda tail, time: tail)[-1:]),
    "staged": (_replayed, plan_looks(ladder(MOST), most=MOST, doses=len(DOSES), level=LEVEL)),
    "uncorrected looks": (_replayed, _looks(lambda tail, time: tail)),
    "confidence sequence": (_replayed, _looks(_mixture_tail)),
    "successive halving by mean": (_halving, ()),
}


# ------------------------------------------------------------------------------------------------------------ measuring


def measured(studies: int) -> list[dict[str, Any]]:
    """One row for each setting, world and design."""
    rows = []
    for setting, delta in SETTINGS.items():
        for name, (world, right, wrong) in worlds(delta).items():
            found: dict[str, list[Found]] = {design: [] for design in DESIGNS}
            for made in batches(world, studies=studies, seed=SEED, cells=12_000_000):
                for design, (way, looks) in DESIGNS.items():
                    found[design].append(way(made, looks, delta))
            for design, parts in found.items():
                word_B = np.array(rule.WORDS)[np.concatenate([part.code_B for part in parts])]
                cost = float(np.concatenate([part.cost_B for part in parts]).mean())
                errors = np.concatenate([part.error_B for part in parts])
                row = {
                    "setting": setting,
                    "world": name,
                    "design": design,
                    "right": float(np.isin(word_B, right).mean()),
                    "wrong": float(np.isin(word_B, wrong).mean()),
                    "open": float((word_B == "cannot_tell").mean()),
                    "gain_quoted_too_high_by": float(np.nanmean(errors)) if "mix" in right else None,
                    "cost_of_one_size": cost,
                    "cost_of_two_sizes": cost * FAMILY_SHARE if "grid" not in design else 1.0,
                }
                rows.append(row)
                shown = ", ".join(f"{key} {value:.3f}" for key, value in row.items() if isinstance(value, float))
                print(f"{setting}; {name}; {design}: {shown}", flush=True)
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000, help="studies in a world")
    parser.add_argument("--out", type=Path, default=RESULT, help="the file to write")
    options = parser.parse_args(arguments)
    rows = measured(options.studies)
    result = {
        "date": date.today().isoformat(),
        "command": f"python benchmarks/staged_designs.py --studies {options.studies}",
        "studies": options.studies,
        "world": "graded, 4 doses and a matched baseline, up to 20 seeds, 200 items, seeds' share 50% at 20 seeds",
        "smallest_effect": SETTINGS,
        "share_of_the_family_in_two_sizes": FAMILY_SHARE,
        "rows": rows,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
