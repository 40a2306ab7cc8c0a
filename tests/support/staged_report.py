"""A staged study's page from simulated scores: the ladder is replayed by the decision's own code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from titrant.core.identity import rng_for
from titrant.decision.protocol import read_protocol
from titrant.decision.staged import looks_taken, next_runs_of_tables, read_scores, told_with_looks
from titrant.report.data import ReportData
from titrant.report.sections.stages import stages_from

ITEMS = 120


def staged_report(
    base: ReportData, *, gains: dict[int, float], matched: float, number: int = 1, spread: float = 0.018
) -> ReportData:
    """`base` with the verdict and stages of simulated scores: gains over the plain baseline by dose;
    `spread` is what seeds vary by."""
    names: dict[str, dict[str, Any]] = {"160": {"dose": 0}, "160-matched": {"dose": 0, "matched": True}}
    names |= {f"160+general-{dose}": {"dose": dose, "source": "general"} for dose in gains}
    worth = {"160": 0.0, "160-matched": matched} | {f"160+general-{dose}": gain for dose, gain in gains.items()}
    said = {"arms": names, "smallest_effect": 0.03, "most": 20, "metric": "graded score", "target_rows": 160}
    protocol = read_protocol(said)
    columns: dict[str, list[Any]] = {"arm": [], "seed": [], "item": [], "score": []}
    rng = rng_for(number, "staged report")
    level = rng.uniform(0.4, 0.8, ITEMS)
    for seed in range(20):
        for arm, gain in worth.items():
            shift = gain + rng.normal(0, spread)
            columns["arm"] += [arm] * ITEMS
            columns["seed"] += [str(seed)] * ITEMS
            columns["item"] += [f"item {n}" for n in range(ITEMS)]
            columns["score"] += (level + shift + rng.normal(0, 0.05, ITEMS)).clip(0, 1).tolist()
    tables = read_scores(columns)
    found = next_runs_of_tables(protocol, tables)
    assert found.verdict is not None
    verdict = told_with_looks(found.verdict, found, looks_taken(protocol, tables))
    stages = stages_from(verdict, ladder=protocol.ladder)
    return replace(base, verdict=verdict, stages=stages, metric="graded score", graded=None)
