"""Eval requests: what a run is asked, in token ids, each under a name that follows from those ids alone.

Answers belong to (training, request). A request knows no reference, no metric, no item and no file, so a corrected
reference, a reordered test file, a renamed target or another metric finds every answer where it was.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

from titrant.core.errors import SpecError, TemplateRefusal
from titrant.core.identity import fingerprint
from titrant.core.records import Item, TokenPrompt, TokenQuestion, TokenRow
from titrant.core.revisions import request_revisions
from titrant.scoring.sheets import prior_key
from titrant.tokens import Renderer

_Kind = TypeVar("_Kind", TokenQuestion, TokenPrompt, TokenRow)


@dataclass(frozen=True, kw_only=True)
class EvalRequests:
    """Requests by how they are answered, each once and in the order of their names; `key` of each is its name.

    `by_item`: the name of the request by the item's key (by `prior_key` for the question without its subject). Several
    items may come to one request.
    """

    questions: tuple[TokenQuestion, ...] = ()
    prompts: tuple[TokenPrompt, ...] = ()
    losses: tuple[TokenRow, ...] = ()
    by_item: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of all requests."""
        parts: Sequence[Sequence[TokenQuestion | TokenPrompt | TokenRow]] = (self.questions, self.prompts, self.losses)
        return frozenset(one.key for part in parts for one in part)

    @cached_property
    def digest(self) -> str:
        """One name for the whole set, whatever its order."""
        return digest_of(self.names)

    def named(self, names: Collection[str]) -> EvalRequests:
        """Those of these names."""
        return EvalRequests(
            questions=tuple(question for question in self.questions if question.key in names),
            prompts=tuple(prompt for prompt in self.prompts if prompt.key in names),
            losses=tuple(row for row in self.losses if row.key in names),
            by_item={item: name for item, name in self.by_item.items() if name in names},
        )

    @classmethod
    def union(cls, parts: Sequence[EvalRequests]) -> EvalRequests:
        """All requests of several sets, each once."""
        if len({part.digest for part in parts}) == 1:
            return parts[0]
        return cls(
            questions=_once([one for part in parts for one in part.questions]),
            prompts=_once([one for part in parts for one in part.prompts]),
            losses=_once([one for part in parts for one in part.losses]),
            by_item={item: name for part in parts for item, name in part.by_item.items()},
        )

    def of_items(self, keys: Collection[str]) -> EvalRequests:
        """Those that items of these keys come to."""
        return self.named({name for item, name in self.by_item.items() if item in keys})

    @cached_property  # thousands of runs are asked the same
    def tokens(self) -> int:
        """Tokens that answering takes: a question's context once for all its choices, a text to its full length."""
        return (
            sum(len(question.prompt) + sum(map(len, question.choices)) for question in self.questions)
            + sum(len(prompt.ids) + prompt.max_new_tokens for prompt in self.prompts)
            + sum(len(row.ids) for row in self.losses)
        )


def digest_of(names: Collection[str]) -> str:
    """The name of a set of requests."""
    return fingerprint(sorted(names), length=24)


def eval_requests(renderer: Renderer, items: Sequence[Item]) -> EvalRequests:
    """The requests of items in one model's ids. `TemplateRefusal` where its template refuses one: none is left out."""
    distinct = _distinct(items)
    _refuse_refused(renderer, distinct)
    priors = {
        prior_key(item): replace(item, key=prior_key(item), turns=item.prior_turns or ())
        for item in distinct
        if item.prior_turns is not None
    }
    choices = [renderer.question(item) for item in (*distinct, *priors.values()) if item.answer == "choices"]
    texts = [renderer.generation(item) for item in distinct if item.answer == "text"]
    losses = [renderer.reference_row(item) for item in distinct if item.answer == "loss"]
    by_item = (
        {one.key: _name("choices", one.prompt, one.choices) for one in choices}
        | {one.key: _name("text", one.ids, one.max_new_tokens, one.end_ids) for one in texts}
        | {one.key: _name("loss", one.ids, one.loss_from) for one in losses}
    )
    return EvalRequests(
        questions=_once([replace(one, key=by_item[one.key]) for one in choices]),
        prompts=_once([replace(one, key=by_item[one.key]) for one in texts]),
        losses=_once([replace(one, key=by_item[one.key], source="") for one in losses]),
        by_item=by_item,
    )


def _refuse_refused(renderer: Renderer, items: Sequence[Item]) -> None:
    """`TemplateRefusal` for the first item that the template refuses, with how many there are: an item is never left
    out. Conversations of the same roles are refused alike, so one of each kind is tried."""
    kinds: dict[tuple[str, ...], TemplateRefusal | None] = {}
    refusals = []
    for item in items:
        roles = tuple(turn.role for turn in item.turns)
        if roles not in kinds:
            try:
                renderer.prompt(item.turns)
                kinds[roles] = None
            except TemplateRefusal as error:
                kinds[roles] = error.at(str(item.origin or item.row_id))
        if (refusal := kinds[roles]) is not None:
            refusals.append(refusal)
    if refusals:
        raise TemplateRefusal(
            refusals[0].problem,
            where=refusals[0].where,
            got=f"{len(refusals)} of {len(items)} test items are refused",
            expected="conversations that the template takes: test items are never left out",
            fix="refused_turns: merge where it is the system turn, template: plain, or another model",
        )


def _distinct(items: Sequence[Item]) -> tuple[Item, ...]:
    """Every key once, in order; `SpecError` where two targets ask one item in two ways."""
    distinct: dict[str, Item] = {}
    for item in items:
        known = distinct.setdefault(item.key, item)
        if (known.answer, known.max_answer_tokens) != (item.answer, item.max_answer_tokens):
            raise SpecError(
                "two targets ask the same item in different ways",
                where=f"targets.{item.target}",
                got=f"{item.answer}, at most {item.max_answer_tokens} tokens",
                expected=f"{known.answer}, at most {known.max_answer_tokens} tokens, as in {known.target}",
                fix="give both the same answer and max_answer_tokens, or put them in two studies",
            )
    return tuple(distinct.values())


def _name(kind: str, *ids: object) -> str:
    """The name of a request. The code that answers is part of it, so that new answers are never taken for old ones; the
    part that writes text has a number of its own (`core.revisions`)."""
    return fingerprint([kind, request_revisions(writes=kind == "text"), *ids], length=24)


def _once(requests: Sequence[_Kind]) -> tuple[_Kind, ...]:
    """Each name once, in the order of names: what shares a batch then never depends on the order of a file."""
    return tuple({one.key: one for one in sorted(requests, key=lambda one: one.key)}.values())
