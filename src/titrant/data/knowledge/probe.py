"""What an untuned model knows of each fact, after Gekhman et al. 2024 (arXiv 2405.05904).

A fact is asked several times, each time behind a few other facts of the same relation, drawn at random. Every prompt
gets one greedy answer and, where asked for, samples at a temperature. The classes are theirs:

    highly    every greedy answer is right
    maybe     some greedy answers are
    weakly    only samples are
    unknown   nothing is

Without samples nothing can be weakly known, and the labels say with which settings they were made. A small model also
"knows" whatever a relation's usual answer is: it says it of everybody. So each label holds the *prior rate*, how often
the model gives the fact's answers greedily for other subjects of the relation, of which they are not true. Known beyond
its prior is a fact whose rate of right greedy answers exceeds that by `BEYOND`.
"""

from __future__ import annotations

import json
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from titrant.core.errors import DataError
from titrant.core.identity import hash_text, rng_for
from titrant.core.records import Example, RawRow, Turn
from titrant.data.knowledge.facts import Fact

Knowledge = Literal["highly", "maybe", "weakly", "unknown"]
CLASSES: tuple[Knowledge, ...] = ("highly", "maybe", "weakly", "unknown")
BEYOND = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """How a fact is probed. Gekhman et al.: 10 prompts of 4 shots, 16 samples at temperature 0.5."""

    prompts: int = 10
    shots: int = 4
    samples: int = 0
    temperature: float = 0.5
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Probing:
    """One prompt: which fact, the conversation, and whether its answer is greedy (`sample` None) or the how-manieth
    sample."""

    fact: int
    prompt: int
    turns: tuple[Turn, ...]
    sample: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What the model knows of one fact. Rates are shares of answers that are right; None without samples. The words of
    the fact stay where they are: labels can be kept where the data may not be copied."""

    id: str
    relation: str
    label: Knowledge
    greedy_rate: float
    sample_rate: float | None
    prior_rate: float

    @property
    def known(self) -> bool:
        """Known beyond what the relation alone suggests."""
        return self.greedy_rate - self.prior_rate >= BEYOND


Answerer = Callable[[Sequence[Probing]], Sequence[str]]
"""Texts for probings, in their order; the caller brings the model."""


def probings(facts: Sequence[Fact], settings: ProbeSettings) -> tuple[tuple[Probing, ...], tuple[int, ...]]:
    """All prompts of all facts, and the places of facts that were left out: their relation has too few others."""
    by_relation: dict[str, list[int]] = defaultdict(list)
    for place, fact in enumerate(facts):
        by_relation[fact.relation].append(place)
    found: list[Probing] = []
    left_out = []
    for place, fact in enumerate(facts):
        others = [other for other in by_relation[fact.relation] if other != place]
        if len(others) < settings.shots:
            left_out.append(place)
            continue
        for number in range(settings.prompts):
            rng = rng_for(settings.seed, "probe", fact.relation, fact.subject, number)
            shots = [facts[others[int(at)]] for at in rng.choice(len(others), settings.shots, replace=False)]
            turns = tuple(turn for shot in shots for turn in _asked(shot)) + _asked(fact)[:1]
            for sample in (None, *range(settings.samples)):
                found.append(Probing(fact=place, prompt=number, turns=turns, sample=sample))
    return tuple(found), tuple(left_out)


def probe_facts(facts: Sequence[Fact], answer: Answerer, settings: ProbeSettings) -> tuple[Label, ...]:
    """A label for every fact whose relation has enough others to make prompts of, in the order of the facts."""
    asked, left_out = probings(facts, settings)
    texts = answer(asked)
    greedy: dict[int, list[str]] = defaultdict(list)
    sampled: dict[int, list[str]] = defaultdict(list)
    for probing, text in zip(asked, texts, strict=True):
        (greedy if probing.sample is None else sampled)[probing.fact].append(folded(text))
    said: dict[str, Counter[str]] = defaultdict(Counter)
    for place, answers in greedy.items():
        said[facts[place].relation].update(answers)
    gone = set(left_out)
    return tuple(
        _label(fact, greedy[place], sampled[place], _prior_rate(place, facts, greedy, said), settings)
        for place, fact in enumerate(facts)
        if place not in gone
    )


def folded(text: str) -> str:
    """The first line of an answer for comparing: without case, punctuation, articles and double spaces.

    >>> folded(" The  United States.\\nThe capital of")
    'united states'
    """
    lines = text.strip().splitlines()
    bare = (lines[0] if lines else "").casefold().translate(_NO_PUNCTUATION)
    return " ".join(word for word in bare.split() if word not in ("a", "an", "the"))


def matched_rows(rows: Sequence[Example], labels: Sequence[Label]) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """(known, unknown) rows of a pool, as many of each in every cell of relation and answer frequency.

    Known: beyond the relation's prior. Unknown: no answer was right. Which rows of the fuller side of a cell stay goes
    by the hash of their key. Frequency is how often the row's answer stands in the pool, in powers of two.
    """
    by_id = {label.id: label for label in labels}
    counts = Counter((row.task, row.answer) for row in rows)
    cells: dict[tuple[str, int], tuple[list[Example], list[Example]]] = defaultdict(lambda: ([], []))
    for row in rows:
        label = by_id.get(row.row_id)
        if label is None:
            continue
        cell = cells[row.task, counts[row.task, row.answer].bit_length()]
        if label.known:
            cell[0].append(row)
        elif label.label == "unknown":
            cell[1].append(row)
    known: set[str] = set()
    unknown: set[str] = set()
    for yes, no in cells.values():
        size = min(len(yes), len(no))
        for side, chosen in ((yes, known), (no, unknown)):
            chosen.update(row.key for row in sorted(side, key=lambda row: hash_text(row.key))[:size])
    return tuple(row for row in rows if row.key in known), tuple(row for row in rows if row.key in unknown)


def read_labels(rows: Iterable[RawRow]) -> tuple[Label, ...]:
    """Labels as `titrant probe` wrote them; `DataError` with its place for a row that is none."""
    return tuple(_read_label(row) for row in rows)


def label_row(label: Label) -> dict[str, Any]:
    """A label as a row of the output, with the verdict on the prior beside it."""
    fields = {name: getattr(label, name) for name in Label.__slots__}
    return {**fields, "known": label.known}


_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _asked(fact: Fact) -> tuple[Turn, Turn]:
    question = fact.pattern.question.replace("{}", fact.subject)
    return Turn(role="user", text=question), Turn(role="assistant", text=fact.answers[0])


def _prior_rate(
    place: int, facts: Sequence[Fact], greedy: dict[int, list[str]], said: dict[str, Counter[str]]
) -> float:
    """How often the fact's answers are given greedily to the relation's other subjects of which they are not true."""
    fact = facts[place]
    own = {folded(answer) for answer in fact.answers}
    total = said[fact.relation].total() - len(greedy[place])
    hits = sum(said[fact.relation][answer] for answer in own) - sum(text in own for text in greedy[place])
    for other, texts in greedy.items():
        shared = own & {folded(answer) for answer in facts[other].answers}
        if other != place and facts[other].relation == fact.relation and shared:
            total -= len(texts)
            hits -= sum(text in own for text in texts)
    return hits / total if total else 0.0


def _label(fact: Fact, greedy: list[str], sampled: list[str], prior: float, settings: ProbeSettings) -> Label:
    accepted = {folded(answer) for answer in fact.answers}
    right = sum(text in accepted for text in greedy)
    drawn = sum(text in accepted for text in sampled)
    found: Knowledge = "highly" if right == len(greedy) else "maybe" if right else "weakly" if drawn else "unknown"
    return Label(
        id=fact.row_id,
        relation=fact.relation,
        label=found,
        greedy_rate=right / len(greedy),
        sample_rate=drawn / len(sampled) if settings.samples else None,
        prior_rate=prior,
    )


def _read_label(row: RawRow) -> Label:
    said = row.values
    try:
        label = str(said["label"])
        if label not in CLASSES:
            raise ValueError(label)
        sample = said.get("sample_rate")
        return Label(
            id=str(said["id"]),
            relation=str(said["relation"]),
            label=label,
            greedy_rate=float(said["greedy_rate"]),
            sample_rate=None if sample is None else float(sample),
            prior_rate=float(said["prior_rate"]),
        )
    except (KeyError, TypeError, ValueError):
        got = json.dumps({key: str(value)[:40] for key, value in said.items()})[:200]
        fix = "write it with titrant probe"
        raise DataError("this is no label of a fact", where=str(row.origin), got=got, fix=fix) from None
