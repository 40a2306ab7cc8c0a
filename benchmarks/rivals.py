"""The same studies, judged as others judge them: for the side by side of `make calibrate`.

None of these has a word for "cannot tell". A difference that is not significant is read as none, as it is in practice.
Array names end in their axes: B studies, A arms, S seeds, I items, K doses.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

from titrant.decision.rule import WORDS

Codes = NDArray[np.intp]
Floats = NDArray[np.float64]
LEVEL = 0.95


def best_mean_wins(scores_BASI: Floats, *, doses: list[int], baselines: list[int]) -> Codes:
    """Mix when any dose has a higher mean than every baseline."""
    mean_BA = scores_BASI.mean((-1, -2))
    best = mean_BA[:, doses].max(-1)
    return np.where(best > mean_BA[:, baselines].max(-1), WORDS.index("mix"), WORDS.index("train_alone"))


def pooled_z(scores_BASI: Floats, *, doses: list[int], baselines: list[int]) -> Codes:
    """An unpaired z-test per dose, all answers of all seeds taken as independent."""
    cells = scores_BASI.reshape(*scores_BASI.shape[:2], -1)
    variance_BA = cells.var(-1, ddof=1) / cells.shape[-1]
    point = float(special.ndtri((1 + LEVEL) / 2))
    return _significant(cells.mean(-1), variance_BA, np.full(len(cells), point), doses=doses, baselines=baselines)


def seed_means_t(scores_BASI: Floats, *, doses: list[int], baselines: list[int]) -> Codes:
    """An unpaired t-test per dose over the means of the seeds: these test items are taken as all there are."""
    mean_BAS = scores_BASI.mean(-1)
    seeds = mean_BAS.shape[-1]
    variance_BA = mean_BAS.var(-1, ddof=1) / seeds
    point = float(special.stdtrit(2 * (seeds - 1), (1 + LEVEL) / 2))
    return _significant(mean_BAS.mean(-1), variance_BA, np.full(len(mean_BAS), point), doses=doses, baselines=baselines)


def _significant(
    mean_BA: Floats, variance_BA: Floats, point_B: Floats, *, doses: list[int], baselines: list[int]
) -> Codes:
    """Mix when some dose is significantly better than every baseline; alone when every dose is significantly worse than
    some; else "no difference"."""
    difference_BKR = mean_BA[:, doses, None] - mean_BA[:, None, baselines]
    width_BKR = point_B[:, None, None] * np.sqrt(variance_BA[:, doses, None] + variance_BA[:, None, baselines])
    better = (difference_BKR > width_BKR).all(-1).any(-1)
    worse = (difference_BKR < -width_BKR).any(-1).all(-1)
    words = [WORDS.index(word) for word in ("mix", "train_alone", "no_difference")]
    return np.select([better, worse], words[:2], default=words[2])


RIVALS: dict[str, Callable[..., Codes]] = {
    "best mean wins": best_mean_wins,
    "unpaired z, pooled": pooled_z,
    "t over seed means": seed_means_t,
}
