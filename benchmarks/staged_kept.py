"""Real runs replayed: would a staged study have said what all seeds say, and for how much of their time?

    PYTHONPATH=research python benchmarks/staged_kept.py --orders 200

Takes the kept runs of the paper's arms that have most seeds, puts their seeds in random orders, and judges each order
by stages and all seeds at once. Writes benchmarks/results/staged-kept.json.

Array names end in their axes: B orders, A arms, S seeds, I items.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replication.kept import KeptRun, read_kept
from titrant.core.identity import rng_for
from titrant.decision import rule
from titrant.decision.replay import StagedDesign, replay
from titrant.stats.contrasts import layout
from titrant.stats.crossfit import halves
from titrant.stats.looks import Look, dunnett_tail, ladder, plan_looks

ROOT = Path(__file__).resolve().parent.parent
SCORES, RESULT = ROOT / "studies" / "paper" / "scores", ROOT / "benchmarks" / "results" / "staged-kept.json"
FEWEST_SEEDS = 10
EFFECTS = (0.01, 0.02, 0.03, 0.05)
SEED = 20261201


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One family on one metric: arms are the baseline and doses of one size, or of one amount from several sources."""

    name: str
    values_ASI: NDArray[np.float64]
    items: tuple[str, ...]
    groups: tuple[str | None, ...]
    rows: tuple[float, ...]
    seconds_A: NDArray[np.float64]


def settings() -> Iterator[Setting]:
    """Every baseline with ten seeds or more, each of its doses alone and all of them together, on each metric."""
    sizes: dict[tuple[str, int], dict[str, dict[int, KeptRun]]] = defaultdict(lambda: defaultdict(dict))
    for run in read_kept(SCORES):
        facts = run.facts
        if facts.size == "core" and facts.kind in ("alone", "dosed"):
            # One arm may have been run at several learning rates: the one that most seeds have is the arm's own.
            sizes[facts.target, facts.target_rows].setdefault(f"{facts.arm} @{facts.learning_rate:g}", {})[
                facts.seed
            ] = run
    for (target, rows), arms in sorted(sizes.items()):
        many = {name: found for name, found in sorted(arms.items()) if len(found) >= FEWEST_SEEDS}
        alone = [name for name, found in many.items() if next(iter(found.values())).facts.kind == "alone"]
        doses = [name for name in many if name not in alone]
        if len(alone) != 1 or not doses:
            continue
        families = [(dose,) for dose in doses] + list(combinations(doses, 2)) * (len(doses) > 2)
        families += [tuple(doses)] * (len(doses) > 1)
        for family in families:
            yield from _on_each_metric(target, rows, {name: many[name] for name in (alone[0], *family)})


def _on_each_metric(target: str, rows: int, arms: dict[str, dict[int, KeptRun]]) -> Iterator[Setting]:
    seeds = sorted(set.intersection(*(set(found) for found in arms.values())))
    runs = [[found[seed] for seed in seeds] for found in arms.values()]
    for metric in runs[0][0].metrics(target, "target"):
        values = [[run.values(target, "target", metric) for run in of_arm] for of_arm in runs]
        items = sorted(set.intersection(*(set(found) for of_arm in values for found in of_arm)))
        if len(seeds) < FEWEST_SEEDS or not items:
            continue
        group = runs[0][0].about(target, "target", metric, "group")
        yield Setting(
            name=f"{target}, {rows} rows, {metric}: {', '.join(list(arms)[1:])}",
            values_ASI=np.array([[[found[item] for item in items] for found in of_arm] for of_arm in values]),
            items=tuple(items),
            groups=tuple(group[item] for item in items),
            rows=tuple(float(index + 1) for index in range(len(arms) - 1)),
            seconds_A=np.array(
                [
                    np.mean([run.facts.training_seconds + run.facts.answering_seconds for run in of_arm])
                    for of_arm in runs
                ]
            ),
        )


def measured(setting: Setting, *, orders: int, effect: float) -> dict[str, Any]:
    """How often stages and all seeds say the same, or the opposite, and the time that stages take."""
    arms, most = setting.values_ASI.shape[:2]
    rng = rng_for(SEED, "staged", "kept", setting.name)
    order_BS = rng.random((orders, most)).argsort(axis=-1)
    values_BASI = setting.values_ASI[:, order_BS].transpose(1, 0, 2, 3)
    one = Look(seeds=most, better=dunnett_tail(0.025, arms - 1), single=0.05, strict=0.025)
    codes, read = {}, np.zeros((orders, arms))
    for name, looks in (("all", (one,)), ("staged", plan_looks(ladder(most), most=most, doses=arms - 1))):
        design = StagedDesign(
            looks=looks,
            most=most,
            baselines=1,
            rows=setting.rows,
            smallest_effect=effect,
            set_aside=name == "staged",
        )
        found = replay(
            np.ascontiguousarray(values_BASI),
            layout(len(setting.items), groups=setting.groups),
            design,
            first_half_I=halves(setting.items, setting.groups),
        )
        codes[name], read = np.array(rule.WORDS)[found.code_B], found.read_BA
    # Nothing to mix may be said in two words.
    plain = {name: np.where(word_B == "no_difference", "train_alone", word_B) for name, word_B in codes.items()}
    firm = (plain["all"] != "cannot_tell") & (plain["staged"] != "cannot_tell")
    return {
        "setting": setting.name,
        "smallest_effect": effect,
        "seeds": most,
        "all_seeds_say": str(codes["all"][0]),
        "same": float((plain["all"] == plain["staged"]).mean()),
        "opposite": float((firm & (plain["all"] != plain["staged"])).mean()),
        "firm_early": float(((plain["all"] == "cannot_tell") & (plain["staged"] != "cannot_tell")).mean()),
        "seconds": float((read @ setting.seconds_A).mean() / (most * setting.seconds_A.sum())),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=200, help="random orders of the seeds in each setting")
    parser.add_argument("--out", type=Path, default=RESULT, help="the file to write")
    options = parser.parse_args(arguments)
    rows = []
    for setting in settings():
        for effect in EFFECTS:
            rows.append(measured(setting, orders=options.orders, effect=effect))
            print(json.dumps(rows[-1]), flush=True)
    means = {
        name: float(np.mean([row[name] for row in rows])) for name in ("same", "opposite", "firm_early", "seconds")
    }
    print(len(rows), "settings:", means)
    command = f"PYTHONPATH=research python benchmarks/staged_kept.py --orders {options.orders}"
    result = {"date": date.today().isoformat(), "command": command, "settings": len(rows), "mean": means, "rows": rows}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
