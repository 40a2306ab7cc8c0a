"""What an untuned model knows, and facts to ask it about."""

from titrant.knowledge.facts import (
    PATTERNS,
    Fact,
    FactItems,
    FactSet,
    LeftOutRelation,
    Pattern,
    common_answers,
    fact_examples,
    fact_items,
    fact_tags,
    parsed,
    read_facts,
    refuse_unknown_relations,
    role_of,
)

__all__ = [
    "PATTERNS",
    "Fact",
    "FactItems",
    "FactSet",
    "LeftOutRelation",
    "Pattern",
    "common_answers",
    "fact_examples",
    "fact_items",
    "fact_tags",
    "parsed",
    "read_facts",
    "refuse_unknown_relations",
    "role_of",
]
