"""Studies like the quickstart, made from kept runs: how often is the verdict firm, and what does it cost?

    python benchmarks/quickstart_decides.py --orders 500

`benchmarks/data/quickstart-seeds.parquet` holds the scores of the quickstart's arms at more seeds than it needs. Each
study takes as many of these seeds as the quickstart may run, in a random order and none twice, and is judged by the
quickstart's own protocol with the judge of `titrant run`. So it is known before anybody runs it, for rows and settings
that do not change, how often it decides; a fresh seed is one more draw from where the kept ones came from.
Writes benchmarks/results/quickstart-decides.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from titrant.config.study import load_study
from titrant.core.identity import rng_for
from titrant.decision.staged import judge_staged
from titrant.scoring.sheets import METRIC_WORDS

ROOT = Path(__file__).resolve().parent.parent
STUDY, SCORES = ROOT / "studies" / "quickstart.yaml", ROOT / "benchmarks" / "data" / "quickstart-seeds.parquet"
RESULT = ROOT / "benchmarks" / "results" / "quickstart-decides.json"
SEED = 20261201
UNTUNED = 1
"""The runs that the quickstart does beside its ladder: the untuned model answers once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Kept scores by arm and seed, and the tokens of one run of each arm (rounded: the mean over seeds)."""

    columns: dict[tuple[str, int], dict[str, list[Any]]]
    seeds: tuple[int, ...]
    tokens: dict[str, int]
    dose: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One study: its word, whether it is firm, and what it cost."""

    word: str
    runs: int
    tokens: int
    seeds: int


def read_kept(path: Path = SCORES) -> Kept:
    """The kept runs. Tokens stand in the file's own metadata, beside the scores."""
    file = pq.read_table(path)
    columns: dict[tuple[str, int], dict[str, list[Any]]] = {}
    for row in file.to_pylist():
        run = columns.setdefault((row["arm"], row["seed"]), {"item": [], "score": []})
        run["item"].append(row["item"])
        run["score"].append(row["value"])
    tokens = json.loads(file.schema.metadata[b"tokens"])
    dose = next(arm for arm in tokens if "+" in arm)
    return Kept(columns=columns, seeds=tuple(sorted({seed for _, seed in columns})), tokens=tokens, dose=dose)


def keep(store: Path, path: Path = SCORES) -> None:
    """Write the kept file from a finished study's folder: the graded scores of the trained arms, and their tokens."""
    columns = ["arm", "seed", "item", "value", "run_id"]
    filters = [("metric", "=", "graded"), ("eval_set", "=", "target"), ("arm_kind", "!=", "untuned")]
    table = pq.read_table(store / "scores.parquet", columns=columns, filters=filters)
    spent: dict[str, set[tuple[str, int]]] = {}
    for arm, run_id in zip(table.column("arm").to_pylist(), table.column("run_id").to_pylist(), strict=True):
        spent.setdefault(arm, set()).add((run_id, _tokens(store, run_id)))
    tokens = {arm: round(float(np.mean([count for _, count in runs]))) for arm, runs in sorted(spent.items())}
    table = table.drop_columns(["run_id"]).sort_by([("arm", "ascending"), ("seed", "ascending"), ("item", "ascending")])
    table = table.set_column(3, "value", table.column("value").cast("float32"))
    pq.write_table(table.replace_schema_metadata({"tokens": json.dumps(tokens)}), path, compression="zstd")


@lru_cache(maxsize=4096)
def _tokens(store: Path, run_id: str) -> int:
    return int(json.loads((store / "runs" / run_id / "run.json").read_bytes())["tokens"])


def protocol_of(kept: Kept, seeds: Sequence[int], *, study: Path = STUDY) -> dict[str, Any]:
    """The quickstart's protocol for these seeds, in this order: what decides comes from the study file."""
    spec = load_study(study)
    ((source, (dose,)),) = spec.arms.doses.items()
    arms: dict[str, dict[str, Any]] = {
        arm: {"dose": 0, "matched": arm.endswith("-matched")} for arm in kept.tokens if arm != kept.dose
    }
    return {
        "arms": {**arms, kept.dose: {"dose": dose, "source": source}},
        "smallest_effect": spec.smallest_effect,
        "seeds": [str(seed) for seed in seeds],
        "costs": {arm: float(tokens) for arm, tokens in kept.tokens.items()},
        "metric": METRIC_WORDS["graded"],
    }


def scores_of(kept: Kept, seeds: Sequence[int]) -> dict[str, list[Any]]:
    """The scores of these seeds as the judge takes them."""
    columns: dict[str, list[Any]] = {"arm": [], "seed": [], "item": [], "score": []}
    for arm in kept.tokens:
        for seed in seeds:
            run = kept.columns[arm, seed]
            columns["arm"] += [arm] * len(run["item"])
            columns["seed"] += [str(seed)] * len(run["item"])
            columns["item"] += run["item"]
            columns["score"] += run["score"]
    return columns


def outcome(kept: Kept, seeds: Sequence[int], *, study: Path = STUDY) -> Outcome:
    """The study that these seeds, in this order, would have made."""
    found = judge_staged(protocol_of(kept, seeds, study=study), scores_of(kept, seeds))
    assert found.verdict is not None
    return Outcome(word=found.verdict.verdict, runs=found.runs + UNTUNED, tokens=round(found.cost), seeds=found.seeds)


def outcomes(kept: Kept, *, orders: int, most: int, study: Path = STUDY) -> list[Outcome]:
    """Studies of `most` seeds each, drawn in random orders."""
    rng = rng_for(SEED, "quickstart", "orders")
    drawn_BS = rng.random((orders, len(kept.seeds))).argsort(axis=-1)[:, :most]
    return [outcome(kept, [kept.seeds[place] for place in drawn_S], study=study) for drawn_S in drawn_BS]


def summary(found: Sequence[Outcome]) -> dict[str, Any]:
    """Shares by word, and the mean and the largest of what a study takes."""
    words, n = Counter(one.word for one in found), len(found)
    runs, tokens = np.array([one.runs for one in found]), np.array([one.tokens for one in found])
    return {
        "orders": n,
        "firm_percent": round(100 * (n - words["cannot_tell"]) / n, 1),
        "percent_by_word": {word: round(100 * count / n, 1) for word, count in sorted(words.items())},
        "percent_by_seeds": {
            str(seeds): round(100 * count / n, 1)
            for seeds, count in sorted(Counter(one.seeds for one in found).items())
        },
        "runs": {"mean": round(float(runs.mean()), 1), "largest": int(runs.max())},
        "training_tokens": {"mean": round(float(tokens.mean())), "largest": int(tokens.max())},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--orders", type=int, default=500)
    parser.add_argument("--keep", type=Path, help="a finished study's folder: write the kept file from it first")
    parser.add_argument("--json", action="store_true", help="also write benchmarks/results/quickstart-decides.json")
    options = parser.parse_args()
    if options.keep is not None:
        keep(options.keep)
    most = len(load_study(STUDY).arms.seeds)
    result = {"date": date.today().isoformat(), **summary(outcomes(read_kept(), orders=options.orders, most=most))}
    json.dump(result, sys.stdout, indent=1)
    print()
    if options.json:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
