"""Facts from sentence completions: relation and subject parsed from the question by the patterns below.

QA-Wikidata asks `The capital of Illinois is` or `Ulaanbaatar is capital of`. Each pattern names a relation, how the
question is put with a subject in it, and what stands in the subject's place when the subject is left out. The longest
pattern wins, so that `The country of citizenship of …` is never a `country` of `citizenship of …`. Questions that fit
none are left out and counted, and so are relations in which one answer covers more than a quarter of the subjects: a
model that always says it would seem to know them.

Who is asked about is decided by the subject alone: the hash of its name makes it a subject of the test, of the target's
rows or of doses, in every relation and every file. So a dose never tells anything about a subject of the test.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from titrant.core.errors import DataError
from titrant.core.identity import content_keys, hash_text
from titrant.core.records import Example, Item, Origin, RawRow, Turn

FactRole = Literal["test", "target", "dose"]
Form = Literal["completion", "instruction"]
LARGEST_SHARE = 0.25
_SHARES: tuple[tuple[FactRole, float], ...] = (("test", 0.55), ("target", 0.12), ("dose", 0.33))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """How one relation is asked. `{}` is the subject's place; `stand_in` is said there when the subject is left out."""

    relation: str
    question: str
    instruction: str
    stand_in: str = "something"

    def subject_of(self, question: str) -> str | None:
        """The subject of a question of this form, else None."""
        before, after = self.question.split("{}")
        inner = question[len(before) : len(question) - len(after)]
        fits = question.startswith(before) and question.endswith(after) and len(question) > len(before) + len(after)
        return inner.strip() or None if fits else None


def _the(relation: str, link: str = " of ", *, stand_in: str = "something", asks: str = "What") -> Pattern:
    """`The capital of {} is`, and as an instruction `What is the capital of {}?`"""
    said = f"the {relation}{link}{{}}"
    return Pattern(relation=relation, question=f"T{said[1:]} is", instruction=f"{asks} is {said}?", stand_in=stand_in)


def _said(relation: str, instruction: str, *, stand_in: str = "something") -> Pattern:
    """`{} is capital of`: the subject comes first."""
    return Pattern(relation=relation, question=f"{{}} {relation}", instruction=instruction, stand_in=stand_in)


_PERSON = "someone"
PATTERNS: tuple[Pattern, ...] = tuple(
    sorted(
        (
            _the("country of citizenship", stand_in=_PERSON),
            _the("country for sport played by", " ", stand_in=_PERSON),
            _the("country"),
            _the("original country"),
            _the("native language", stand_in=_PERSON),
            _the("languages spoken, written or signed by", " ", stand_in=_PERSON),
            _the("language used in", " "),
            _the("official language"),
            _the("language"),
            _the("official religion"),
            _the("religion", stand_in=_PERSON),
            _the("instrument", stand_in=_PERSON),
            _the("sport played by", " ", stand_in=_PERSON),
            _the("team position", stand_in=_PERSON),
            _the("eye color", stand_in=_PERSON),
            _the("blood type", stand_in=_PERSON),
            _the("ethnic group", stand_in=_PERSON),
            _the("residence", stand_in=_PERSON),
            _the("military rank", stand_in=_PERSON),
            _the("noble title", stand_in=_PERSON),
            _the("voice type", stand_in=_PERSON),
            _the("academic degree", stand_in=_PERSON),
            _the("record label", stand_in=_PERSON),
            _the("capital"),
            _the("continent"),
            _the("genre"),
            _the("color of the flag"),
            _the("color"),
            _the("emergency phone number"),
            _the("headquarters location"),
            _the("material used in", " "),
            _the("basic form"),
            _the("main subject"),
            _the("basin country"),
            _the("historic county"),
            _the("currency"),
            _said("is located in or next to body of water", "Which body of water is {} located in or next to?"),
            _said("is located in", "Where is {} located?"),
            _said("shares a border with", "What does {} share a border with?"),
            _said("is capital of", "What is {} the capital of?"),
            _said("is indigenous to", "Where is {} indigenous to?"),
            _said("convicted of", "What was {} convicted of?", stand_in=_PERSON),
            _said("writing languages", "Which languages does {} write in?", stand_in=_PERSON),
        ),
        key=lambda pattern: (-len(pattern.question), pattern.question),
    )
)
_BY_RELATION = {pattern.relation: pattern for pattern in PATTERNS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One subject in one relation, with every answer that any row of the file accepts for it."""

    row_id: str
    relation: str
    subject: str
    answers: tuple[str, ...]
    origin: Origin

    @property
    def pattern(self) -> Pattern:
        return _BY_RELATION[self.relation]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOutRelation:
    """A relation that one answer dominates."""

    relation: str
    facts: int
    answer: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FactSet:
    """The facts of a file in its order, and what was left out: rows that fit no pattern, relations with one answer."""

    facts: tuple[Fact, ...]
    unparsed: int
    dominated: tuple[LeftOutRelation, ...]

    @property
    def relations(self) -> tuple[str, ...]:
        """The relations that are left, the most frequent first."""
        counts = Counter(fact.relation for fact in self.facts)
        return tuple(sorted(counts, key=lambda name: (-counts[name], name)))


def parsed(question: str) -> tuple[str, str] | None:
    """(relation, subject) of a question, by the longest pattern that fits; None where none does.

    >>> parsed("Ulaanbaatar is capital of"), parsed("The capital of Illinois is"), parsed("Who is it?")
    (('is capital of', 'Ulaanbaatar'), ('capital', 'Illinois'), None)
    """
    for pattern in PATTERNS:
        subject = pattern.subject_of(question.strip())
        if subject is not None:
            return pattern.relation, subject
    return None


def read_facts(rows: Iterable[RawRow], *, largest_share: float = LARGEST_SHARE) -> FactSet:
    """Rows with `question`, `answer` and, where there are several, `answers`, as facts.

    Two rows on one subject and relation are one fact with all their answers.
    """
    known: dict[tuple[str, str], Fact] = {}
    unparsed = 0
    for row in rows:
        found = parsed(_text(row, "question"))
        if found is None:
            unparsed += 1
            continue
        answers = _answers(row)
        # A subject may have several right answers in several rows. Kept apart, each would count the others as wrong.
        before = known.get((found[0], _folded(found[1])))
        known[found[0], _folded(found[1])] = Fact(
            row_id=before.row_id if before else _text(row, "id", row.origin.line),
            relation=found[0],
            subject=before.subject if before else found[1],
            answers=tuple(dict.fromkeys((*(before.answers if before else ()), *answers))),
            origin=before.origin if before else row.origin,
        )
    dominated = tuple(_dominated(tuple(known.values()), largest_share))
    gone = {left.relation for left in dominated}
    facts = tuple(fact for fact in known.values() if fact.relation not in gone)
    return FactSet(facts=facts, unparsed=unparsed, dominated=dominated)


def role_of(subject: str) -> FactRole:
    """What a subject is for, by its name alone: 55% test, 12% target rows, 33% doses."""
    # By the subject alone: all facts on one subject have one role, so none of its facts is trained on while another is
    # asked.
    place = int(hash_text(f"subject\x1f{_folded(subject)}", length=12), 16) / 16**12
    for role, share in _SHARES:
        place -= share
        if place < 0:
            return role
    return "dose"


def common_answers(facts: Sequence[Fact], most: int) -> dict[str, tuple[str, ...]]:
    """For every relation its `most` commonest answers, sorted by text: the closed set its items are asked with."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for fact in facts:
        counts[fact.relation].update(fact.answers)
    return {
        relation: tuple(sorted(sorted(found, key=lambda text: (-found[text], text))[:most]))
        for relation, found in counts.items()
    }


def fact_examples(
    facts: Sequence[Fact],
    *,
    source: str,
    role: FactRole,
    relations: Collection[str] | None = None,
    form: Form = "completion",
) -> tuple[Example, ...]:
    """Training rows of the facts whose subjects have this role, in these relations (None: all)."""
    chosen = [
        fact for fact in facts if role_of(fact.subject) == role and (relations is None or fact.relation in relations)
    ]
    turns = [
        (Turn(role="user", text=_asked(fact, form)), Turn(role="assistant", text=fact.answers[0])) for fact in chosen
    ]
    return tuple(
        Example(
            key=key,
            row_id=fact.row_id,
            source=source,
            task=fact.relation,
            turns=pair,
            group=_group(fact),
            tags=fact_tags(fact),
            origin=fact.origin,
        )
        for key, pair, fact in zip(content_keys(turns), turns, chosen, strict=True)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FactItems:
    """Test items, and how many facts were left out because no accepted answer is among the relation's common ones."""

    items: tuple[Item, ...]
    rare_answer: int


def fact_items(
    facts: Sequence[Fact],
    *,
    eval_set: str,
    target: str,
    metric: str,
    choices: int,
    max_answer_tokens: int,
    relations: Collection[str] | None = None,
    role: FactRole = "test",
) -> FactItems:
    """Test items with the relation's commonest answers as choices, and the same question without its subject beside
    each, so that what the subject adds can be told from what the relation alone suggests."""
    closed = common_answers(facts, choices)
    chosen = [
        fact for fact in facts if role_of(fact.subject) == role and (relations is None or fact.relation in relations)
    ]
    kept = [
        (fact, tuple(answer for answer in fact.answers if answer in closed[fact.relation]))
        for fact in chosen
        if len(closed[fact.relation]) > 1
    ]
    kept = [(fact, right) for fact, right in kept if 0 < len(right) < len(closed[fact.relation])]
    turns = [(Turn(role="user", text=_asked(fact, "completion")),) for fact, _ in kept]
    keys = content_keys([[pair, right, closed[fact.relation]] for pair, (fact, right) in zip(turns, kept, strict=True)])
    items = tuple(
        Item(
            key=key,
            row_id=fact.row_id,
            eval_set=eval_set,
            target=target,
            task=fact.relation,
            turns=pair,
            references=right,
            choices=closed[fact.relation],
            answer="choices",
            metric=metric,
            max_answer_tokens=max_answer_tokens,
            group=_group(fact),
            tags=fact_tags(fact),
            prior_turns=(Turn(role="user", text=fact.pattern.question.replace("{}", fact.pattern.stand_in)),),
            origin=fact.origin,
        )
        for key, pair, (fact, right) in zip(keys, turns, kept, strict=True)
    )
    return FactItems(items=items, rare_answer=len(chosen) - len(kept))


def fact_tags(fact: Fact) -> tuple[tuple[str, str], ...]:
    """relation, subject, and every accepted answer as a JSON list: what an alteration and a label need to know."""
    accepted = json.dumps(list(fact.answers), ensure_ascii=False)
    return (("relation", fact.relation), ("subject", fact.subject), ("accepted", accepted))


def refuse_unknown_relations(facts: FactSet, wanted: Iterable[str], *, where: str) -> None:
    """`DataError` for a relation that the file does not hold, or that one answer dominates."""
    for name in wanted:
        left = next((left for left in facts.dominated if left.relation == name), None)
        if left is not None:
            got = f"{left.answer!r} is the answer of {left.share:.0%} of its {left.facts} facts"
            raise DataError(f"one answer dominates the relation {name!r}", where=where, got=got, fix="leave it out")
        if name not in facts.relations:
            raise DataError("no such relation", where=where, got=name, expected="one of " + ", ".join(facts.relations))


def _asked(fact: Fact, form: Form) -> str:
    template = fact.pattern.question if form == "completion" else fact.pattern.instruction
    return template.replace("{}", fact.subject)


def _group(fact: Fact) -> str:
    """Facts about one subject lean on the same knowledge."""
    return hash_text(_folded(fact.subject), length=16)


def _dominated(facts: Sequence[Fact], largest_share: float) -> Iterable[LeftOutRelation]:
    by_relation: Mapping[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        by_relation[fact.relation].append(fact)
    for relation, some in sorted(by_relation.items()):
        answer, count = Counter(answer for fact in some for answer in set(fact.answers)).most_common(1)[0]
        if count / len(some) > largest_share:
            yield LeftOutRelation(relation=relation, facts=len(some), answer=answer, share=count / len(some))


def _answers(row: RawRow) -> tuple[str, ...]:
    listed = row.values.get("answers")
    several = listed if isinstance(listed, list) else []
    found = tuple(
        dict.fromkeys(each for each in (row.values.get("answer"), *several) if isinstance(each, str) and each.strip())
    )
    if not found:
        raise DataError("the fact has no answer", where=str(row.origin), expected="answer, or answers")
    return found


def _text(row: RawRow, name: str, default: object = None) -> str:
    value = row.values.get(name)
    if isinstance(value, str) and value.strip():
        return value
    if default is not None:
        return str(default)
    raise DataError(f"the {name} is missing or no text", where=str(row.origin), got=value)


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
