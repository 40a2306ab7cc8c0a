"""Facts of a study: the rows to learn from, the items to be asked, and the pools of doses, out of one kind of file."""

from __future__ import annotations

from collections.abc import Sequence

from titrant.config.pools import FactSource
from titrant.config.target import FactTarget
from titrant.core.errors import DataError
from titrant.core.records import Example, Item
from titrant.data import knowledge, readers


def fact_target(
    said: FactTarget, *, name: str, eval_set: str, max_answer_tokens: int
) -> tuple[tuple[Example, ...], tuple[Item, ...]]:
    """Facts on some subjects to learn from, and on others to be asked about."""
    known = _facts(said.rows, said.relations)
    relations = said.relations or known.relations
    train = knowledge.fact_examples(known.facts, source=name, role="target", relations=relations)
    found = knowledge.fact_items(
        known.facts,
        eval_set=eval_set,
        target=name,
        metric="accuracy",
        choices=said.choices,
        max_answer_tokens=max_answer_tokens,
        relations=relations,
    )
    if not train or not found.items:
        raise DataError("too few facts", where=str(said.rows), got=f"{len(train)} rows and {len(found.items)} items")
    return train, found.items


def fact_pool(said: FactSource, *, name: str) -> tuple[Example, ...]:
    """Facts for doses, on subjects of which neither the test nor the target's rows tell."""
    known = _facts(said.rows, said.relations)
    relations = said.relations or known.relations
    rows = knowledge.fact_examples(known.facts, source=name, role="dose", relations=relations, form=said.form)
    if not rows:
        raise DataError("no facts in these relations", where=str(said.rows), got=", ".join(relations))
    return rows


def _facts(path: str, relations: Sequence[str]) -> knowledge.FactSet:
    known = knowledge.read_facts(readers.read_rows(path))
    knowledge.refuse_unknown_relations(known, relations, where=str(path))
    return known
