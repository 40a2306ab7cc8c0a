"""What may be done to the rows of a dose once they are drawn, to learn what in them does the work.

`shuffled` deals the answers of the dose out among its rows, so that format, length and wording stay and the link
between what is asked and what is answered is broken. `false:SHARE` gives that share of a dose's facts the answer of
another fact of the same relation, dealt out among them, so that every answer stays as frequent as it was; it is never
one of the row's accepted answers. Who is altered goes by the hash of seed and row, so a larger share alters all rows
that a smaller one does. A row for which no other answer can be had stays as it is and is counted as unaltered.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from titrant.core.errors import DataError, MixError
from titrant.core.identity import hash_text, rng_for
from titrant.core.records import Example, Turn

SHUFFLED, FALSE = "shuffled", "false"
_ROUNDS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Altered:
    """Rows in the order of the draw, and how many of them have another answer than they came with."""

    rows: tuple[Example, ...]
    changed: int

    @property
    def share(self) -> float:
        """The share that was realised."""
        return self.changed / len(self.rows) if self.rows else 0.0


def false_share(alteration: str) -> float | None:
    """The share of a `false:SHARE` alteration; None for `shuffled`; `MixError` for anything else.

    >>> false_share("false:0.5"), false_share("shuffled")
    (0.5, None)
    """
    if alteration == SHUFFLED:
        return None
    name, _, written = alteration.partition(":")
    try:
        share = float(written) if name == FALSE else math.nan
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise MixError("no such alteration", got=alteration, expected="shuffled, or false:SHARE with a share up to 1")
    return share


def altered(rows: Sequence[Example], alteration: str, *, seed: int) -> Altered:
    """The rows of one dose, altered. `DataError` where false statements are asked of rows that are no facts."""
    share = false_share(alteration)
    if share is None:
        everything = range(len(rows))
        partner = _dealt([row.answer for row in rows], [{row.answer} for row in rows], everything, seed, alteration)
        return _with_answers(rows, partner, alteration)
    facts = [_fact(row) for row in rows]
    # A prefix of one order for every share, so that a larger share alters all that a smaller one does.
    ranked = sorted(range(len(rows)), key=lambda place: hash_text(f"{seed}\x1f{FALSE}\x1f{rows[place].key}"))
    chosen = set(ranked[: round(share * len(rows))])
    by_relation: dict[str, list[int]] = defaultdict(list)
    for place, (relation, _) in enumerate(facts):
        by_relation[relation].append(place)
    answers, accepted = [row.answer for row in rows], [known for _, known in facts]
    partner = {}
    # Within a relation: an answer of another kind (a city for a year) would be false by its form, and could be told
    # without any knowledge.
    for relation in sorted(by_relation):
        members = by_relation[relation]
        wanted = [place for place in members if place in chosen]
        dealt = _dealt(answers, accepted, wanted, seed, f"{FALSE} {relation}")
        # Where there is none to trade with among the false, any fact of the relation in the dose may lend its answer.
        for place in (place for place in wanted if place not in dealt):
            lenders = [other for other in members if answers[other] not in accepted[place]]
            if lenders:
                dealt[place] = min(
                    lenders, key=lambda other: hash_text(f"{seed}\x1f{rows[place].key}\x1f{rows[other].key}")
                )
        partner |= dealt
    return _with_answers(rows, partner, FALSE)


def _dealt(
    answers: Sequence[str], refused: Sequence[set[str]], places: Sequence[int], seed: int, name: str
) -> dict[int, int]:
    """For each place the one whose answer it gets: a random dealing-out in which none gets an answer that it refuses.

    A conflict is resolved by trading with a random other for whom the trade is no conflict either. Places for which
    none is found are left out.
    """
    rng = rng_for(seed, "alteration", name)
    # A permutation deals every answer out once, so how often each occurs stays as it was.
    order = [places[index] for index in rng.permutation(len(places))]
    gets = dict(zip(places, order, strict=True))

    def clashes(place: int, lender: int) -> bool:
        return answers[lender] in refused[place]

    for _ in range(_ROUNDS):
        bad = [place for place in places if clashes(place, gets[place])]
        if not bad:
            break
        for place in bad:
            if not clashes(place, gets[place]):
                continue  # an earlier trade has settled it
            for index in rng.permutation(len(places)):
                other = places[int(index)]
                # The trade must be good for both, or the number of conflicts need not fall and trading could go round
                # for ever.
                if not clashes(place, gets[other]) and not clashes(other, gets[place]):
                    gets[place], gets[other] = gets[other], gets[place]
                    break
    return {place: lender for place, lender in gets.items() if not clashes(place, lender)}


def _with_answers(rows: Sequence[Example], partner: dict[int, int], mark: str) -> Altered:
    """The rows with their partners' answers, under keys and with a tag that say so."""
    found = list(rows)
    for place, lender in partner.items():
        row, answer = rows[place], rows[lender].answer
        found[place] = replace(
            row,
            key=f"{row.key}/{hash_text(answer, length=12)}",
            turns=(*row.prompt, Turn(role="assistant", text=answer)),
            label=None if row.label is None else answer,
            tags=(*row.tags, ("altered", mark)),
        )
    return Altered(rows=tuple(found), changed=len(partner))


def _fact(row: Example) -> tuple[str, set[str]]:
    """The relation of a fact and the answers that are true of its subject."""
    tags = dict(row.tags)
    if "relation" not in tags or "accepted" not in tags:
        raise DataError(
            "this row is no fact, so it cannot be made false",
            where=str(row.origin or row.row_id),
            expected="rows of a source with facts: FILE",
        )
    return tags["relation"], {row.answer, *json.loads(tags["accepted"])}
