"""By how much a gain is quoted too high where a staged study stops early with *mix*, and whether shrinking it helps.

    python benchmarks/early_stops.py --studies 1000

Writes benchmarks/results/early-stops.json, which the report's caution, docs/read-the-report.md and docs/staged.md
quote. Studies of two doses (half the gain, and the gain), a matched baseline and at most 20 seeds, whose truth is
known; the ladder is the one that judges real studies. What is quoted is the cross-fitted gain of the best dose over the
matched baseline. All numbers are conditional on studies that said *mix* before their last look; their share is beside.

Four ways to quote it are compared. `quoted`: as it stands. `stagewise`: the median-unbiased estimate of one contrast
under stagewise ordering (Tsiatis, Rosner and Mehta 1984), as if the boundary of the chosen dose's own claim had been
the only reason to stop. `conditional`: the quoted gain less the bias that Whitehead's (1986) fixed point gives it,
conditional on crossing that boundary at that look. `one_step`: less the bias that a true gain of the quoted size would
have had, so that a gain far beyond its boundary is left alone. All are of Brownian motion with the standard error that
was seen.

Array names end in their axes: B studies, K doses, R baselines.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from titrant.decision import rule
from titrant.decision.replay import Replay, StagedDesign, replay
from titrant.stats.contrasts import layout
from titrant.stats.crossfit import halves
from titrant.stats.looks import ladder, plan_looks
from titrant.stats.simulation import World, batches

RESULT = Path(__file__).resolve().parent / "results" / "early-stops.json"
SEED, MOST, ITEMS, DELTA = 20261201, 20, 100, 0.03
GAINS = (0.03, 0.045, 0.06, 0.09)
MIX = rule.WORDS.index("mix")
LOOKS = plan_looks(ladder(MOST), most=MOST, doses=2)
DESIGN = StagedDesign(looks=LOOKS, most=MOST, baselines=2, rows=(48.0, 96.0), smallest_effect=DELTA)
BOUNDARY = np.array([-special.ndtri(look.better) for look in LOOKS])
SEEDS = np.array([float(look.seeds) for look in LOOKS])
Floats = NDArray[np.float64]


def studies_of(gain: float, studies: int) -> tuple[Replay, Floats, Floats]:
    """Replayed studies, the true gain of each one's chosen dose (NaN without), and the standard error at 20 seeds."""
    world = World(gains=(gain / 2, gain), matched_gain=0.0, seeds=MOST, items=ITEMS, seeds_share=0.5)
    half_I = halves([f"item {number}" for number in range(ITEMS)])
    found, truth, errors = [], [], []
    for made in batches(world, studies=studies, seed=SEED):
        played = replay(made.scores, layout(ITEMS), DESIGN, first_half_I=half_I)
        found.append(played)
        truth.append(np.where(played.chosen_BK, made.gains, 0.0).sum(-1))
        # What a study itself sees of its error: seeds' differences of the chosen dose, at the seeds of its last look.
        errors.append(_seen_error(made.scores, played))
    return joined(found), np.concatenate(truth), np.concatenate(errors)


def joined(parts: list[Replay]) -> Replay:
    names = [name for name in Replay.__dataclass_fields__ if name != "method"]
    arrays: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Replay(**arrays, method=parts[0].method)


def _seen_error(scores_BASI: NDArray[np.floating[Any]], played: Replay) -> Floats:
    """The standard error of one seed's difference between the best dose and the matched baseline, items included: the
    spread over items is divided by their number, that over seeds by the seeds so far."""
    best_B = played.difference_BKR[..., 0].argmax(-1)
    errors = np.full(len(scores_BASI), np.nan)
    for study, best in enumerate(best_B):
        seeds = max(int(played.seeds_B[study]), 2)
        apart_SI = (scores_BASI[study, 2 + best, :seeds] - scores_BASI[study, 1, :seeds]).astype(np.float64)
        over_seeds = apart_SI.mean(1).var(ddof=1) / seeds
        over_items = apart_SI.mean(0).var(ddof=1) / apart_SI.shape[1]
        errors[study] = np.sqrt(max(over_seeds, 0.0) + over_items)
    return errors


# ------------------------------------------------------------------------------------------------------------ shrinking


def tail_of(theta_B: Floats, looks_B: NDArray[np.intp], value_B: Floats, error_B: Floats) -> tuple[Floats, Floats]:
    """P(stop earlier, or at this look with more than what was seen) and P(stop at this look) for each study, if the
    true gain is theta: the ladder as Brownian motion in time n/N, on a grid of its value.

    `error_B` is the standard error at the look itself, so the information at look k is (n_k / n_look) / error².
    """
    later, here = np.zeros_like(theta_B), np.zeros_like(theta_B)
    for study in range(len(theta_B)):
        look, error, theta = int(looks_B[study]), error_B[study], theta_B[study]
        information = SEEDS[:look] / SEEDS[look - 1] / error**2
        later[study], here[study] = _walk(theta, information, BOUNDARY[:look], value_B[study] / error)
    return later, here


def _walk(theta: float, information: Floats, bound: Floats, z_seen: float) -> tuple[float, float]:
    """One study: densities of the score B = z·√information on a grid, look by look, above no boundary before."""
    stopped, grid, mass = 0.0, np.zeros(1), np.ones(1)
    before = 0.0
    for index, now in enumerate(information):
        step, last = now - before, index == len(information) - 1
        top = bound[index] * np.sqrt(now)
        mean, spread = grid + theta * step, np.sqrt(step)
        if last:
            here = float((mass * special.ndtr((mean - top) / spread)).sum())
            seen = max(z_seen, bound[index]) * np.sqrt(now)
            return stopped + float((mass * special.ndtr((mean - seen) / spread)).sum()), here
        stopped += float((mass * special.ndtr((mean - top) / spread)).sum())
        low = min(grid.min() + theta * step, top) - 6 * spread
        edges = np.linspace(low, top, 161)
        inside = special.ndtr((edges[None, :] - mean[:, None]) / spread)
        mass, grid = (mass[:, None] * np.diff(inside, axis=1)).sum(0), (edges[1:] + edges[:-1]) / 2
        before = now
    raise AssertionError("a study that stopped has a look")


def stagewise(value_B: Floats, looks_B: NDArray[np.intp], error_B: Floats) -> Floats:
    """The gain at which what was seen, or anything that orders before it, has probability one half."""
    low_B, high_B = value_B - 6 * error_B, value_B + 2 * error_B
    for _ in range(22):
        middle_B = (low_B + high_B) / 2
        more_B = tail_of(middle_B, looks_B, value_B, error_B)[0] > 0.5
        low_B, high_B = np.where(more_B, low_B, middle_B), np.where(more_B, middle_B, high_B)
    return (low_B + high_B) / 2


def conditional(value_B: Floats, looks_B: NDArray[np.intp], error_B: Floats) -> Floats:
    """theta with E(estimate | its look's boundary is crossed, theta) = estimate: the mean of a normal cut at the
    boundary (Whitehead's fixed point, at the one look that stopped it), never below zero."""
    bound_B = BOUNDARY[looks_B - 1] * error_B
    low_B, high_B = np.zeros_like(value_B), np.maximum(value_B, 0.0)
    for _ in range(40):
        middle_B = (low_B + high_B) / 2
        too_high_B = middle_B + bias_of(middle_B, bound_B, error_B) > value_B
        low_B, high_B = np.where(too_high_B, low_B, middle_B), np.where(too_high_B, middle_B, high_B)
    return (low_B + high_B) / 2


def one_step(value_B: Floats, looks_B: NDArray[np.intp], error_B: Floats) -> Floats:
    """The quoted gain less its bias if it were the true one."""
    return value_B - bias_of(value_B, BOUNDARY[looks_B - 1] * error_B, error_B)


def bias_of(gain_B: Floats, bound_B: Floats, error_B: Floats) -> Floats:
    """By how much a normal estimate of this gain is too high on average where it lies above the bound."""
    z_B = (bound_B - gain_B) / error_B
    return error_B * np.exp(-(z_B**2) / 2) / np.sqrt(2 * np.pi) / special.ndtr(-z_B)


# -------------------------------------------------------------------------------------------------------------- figures


def measured(gain: float, studies: int) -> dict[str, Any]:
    """What studies of one true gain quote, of those that said *mix* before their last look."""
    found, truth_B, error_B = studies_of(gain, studies)
    early_B = (found.code_B == MIX) & (found.seeds_B < MOST)
    quoted_B = found.gain_best_BR[early_B][:, 1]
    looks_B, seen_B = found.look_B[early_B], error_B[early_B]
    ways = {
        "quoted": quoted_B,
        "stagewise": stagewise(quoted_B, looks_B, seen_B),
        "conditional": conditional(quoted_B, looks_B, seen_B),
        "one_step": one_step(quoted_B, looks_B, seen_B),
    }
    truth = truth_B[early_B]
    return {
        "gain": gain,
        "studies": studies,
        "early": round(float(early_B.mean()), 4),
        "seeds": round(float(found.seeds_B[early_B].mean()), 1),
        "true": round(float(truth.mean()), 4),
        "ways": {
            name: {
                "mean": round(float(value_B.mean()), 4),
                "error": round(float(value_B.std() / np.sqrt(len(value_B))), 4),
                "bias": round(float((value_B - truth).mean()), 4),
                "rmse": round(float(np.sqrt(((value_B - truth) ** 2).mean())), 4),
            }
            for name, value_B in ways.items()
        },
    }


def main(arguments: list[str] | None = None) -> int:
    """Write the figures."""
    parser = argparse.ArgumentParser(description="How much an early stop overstates its gain.")
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=RESULT)
    said = parser.parse_args(arguments)
    rows = [measured(gain, said.studies) for gain in GAINS]
    for row in rows:
        print(f"true {row['gain']}: {row['early']:.1%} stop early with mix, at {row['seeds']} seeds")
        for name, way in row["ways"].items():
            print(f"  {name}: {way['mean']} ± {way['error']}, bias {way['bias']:+}, rmse {way['rmse']}")
    result = {
        "date": date.today().isoformat(),
        "command": f"python benchmarks/early_stops.py --studies {said.studies}",
        "world": "graded, 2 doses and a matched baseline, up to 20 seeds, 100 items, seeds' share 50% at 20 seeds",
        "smallest_effect": DELTA,
        "rows": rows,
    }
    said.out.parent.mkdir(parents=True, exist_ok=True)
    said.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
