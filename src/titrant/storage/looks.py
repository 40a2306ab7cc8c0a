"""What a study was looked at, and by which rule: the ledger's records of protocols, looks and budgets.

    protocol  model, target, name, protocol: what was fixed before the first score of the family was read
    look      model, target, protocol (its name), look, seeds, scores (their fingerprint), and what was claimed
    budget    model, target, protocol, seeds, budget: a budget that ended the ladder at so many seeds

Each stands once, however often a study is run again, so equal studies have equal ledgers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from titrant.storage.store import Store

MOST = 10**9  # seeds that no look has
PROTOCOL, LOOK, BUDGET = "protocol", "look", "budget"


@dataclass(frozen=True, slots=True, kw_only=True)
class LookHistory:
    """The records of one model and target, in the order in which they came; `protocols` by name. `budget_seeds`: the
    seeds at which a budget ended a protocol's ladder, where it has not gone on since."""

    protocols: Mapping[str, Mapping[str, Any]]
    looks: tuple[Mapping[str, Any], ...]
    budget_seeds: Mapping[str, int]

    def looks_of(self, protocol: str) -> int:
        """How many looks of a protocol are written down."""
        return max((look["look"] for look in self.looks if look["protocol"] == protocol), default=0)


def look_history(store: Store, model: str, target: str) -> LookHistory:
    """All that the ledger holds of looks at one model and target."""
    mine = [
        record
        for record in store.records()
        if record.get("kind") in (PROTOCOL, LOOK, BUDGET) and (record["model"], record["target"]) == (model, target)
    ]
    return LookHistory(
        protocols={record["name"]: record["protocol"] for record in mine if record["kind"] == PROTOCOL},
        looks=tuple(record for record in mine if record["kind"] == LOOK),
        budget_seeds=_budget_seeds(mine),
    )


def last_ladder(store: Store, *, models: Collection[str], targets: Collection[str]) -> tuple[int, ...] | None:
    """The seeds of the looks of what was last begun or looked at of these models and targets: one look for a grid; None
    before the first."""
    ladders: dict[str, tuple[int, ...]] = {}
    last = None
    for record in store.records():
        if record.get("kind") == PROTOCOL:
            ladders[record["name"]] = tuple(record["protocol"]["ladder"])
        if record.get("kind") in (PROTOCOL, LOOK) and record["model"] in models and record["target"] in targets:
            last = ladders[record["name"] if record["kind"] == PROTOCOL else record["protocol"]]
    return last


def _budget_seeds(records: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    ended: dict[str, int] = {}
    for record in records:
        if record["kind"] == BUDGET:
            ended[record["protocol"]] = record["seeds"]
        elif record["kind"] == LOOK and len(record["seeds"]) > ended.get(record["protocol"], MOST):
            # A look at more seeds came after it: there was more to spend.
            del ended[record["protocol"]]
    return ended


def append_once(store: Store, record: Mapping[str, Any]) -> bool:
    """Add a record that is not in the ledger yet; whether it was added. The caller holds the lock `looks`, so that two
    who look at once do not both add it."""
    if record in store.records():
        return False
    store.append(record)
    return True
