"""Before any training: what the literature leads one to expect, and the cheapest pilot that would settle it here.

What is published was found with other models, other data and other targets. It is quoted as such, with its source, and
never as a measurement: the only number here that is about the user's own study is the size of the pilot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from titrant.stats.power import Components, Costs, PowerDesign, assumed_components, cheapest_design

BreadthWord = Literal["narrow", "broad"]
SkillWord = Literal["understanding", "reasoning", "facts"]
Expectation = Literal["gain", "loss_possible", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """Where a statement comes from. `arxiv` is the paper's number."""

    authors: str
    year: int
    title: str
    arxiv: str

    def __str__(self) -> str:
        return f"{self.authors} {self.year}, arXiv {self.arxiv}"


SHI = Publication(
    authors="Shi et al.",
    year=2023,
    title="Specialist or Generalist? Instruction Tuning for Specific NLP Tasks",
    arxiv="2310.15326",
)
DONG = Publication(
    authors="Dong et al.",
    year=2023,
    title="How Abilities in Large Language Models are Affected by Supervised Fine-tuning Data Composition",
    arxiv="2310.05492",
)
GEKHMAN = Publication(
    authors="Gekhman et al.",
    year=2024,
    title="Does Fine-Tuning LLMs on New Knowledge Encourage Hallucinations?",
    arxiv="2405.05904",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What one publication leads one to expect of a target like this one; it has not been measured here."""

    leads_to: Expectation
    text: str
    source: Publication


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilot:
    """The cheapest pilot: one dose against both baselines. Tokens and minutes are None where costs are unknown.

    `variances` says whether its size rests on assumed or on pilot variances.
    """

    dose_rows: int
    target_rows: int
    seeds: int
    items: int
    runs: int
    smallest_effect: float
    smallest_detectable: float | None
    variances: str
    tokens: int | None
    minutes: float | None
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What to expect, from whom, and how to find out. `pilot` is None with `pilot_reason`."""

    target_rows: int
    breadth: BreadthWord | None
    coverage: float | None
    skill: SkillWord | None
    expectation: Expectation
    sentence: str
    priors: tuple[Prior, ...]
    pilot: Pilot | None
    pilot_reason: str | None
    caution: str = (
        "None of this was measured on your study: the papers used other models, other data and other targets, and say "
        "where an effect is likelier, not how large it is here."
    )


_BREADTH: dict[BreadthWord, Prior] = {
    "broad": Prior(
        leads_to="gain",
        text="Generalist data helped consistently where a target covers much ground.",
        source=SHI,
    ),
    "narrow": Prior(
        leads_to="open",
        text="The consistent gain was reported for targets that cover much ground; a narrow one is not promised it.",
        source=SHI,
    ),
}
_ROWS = (
    Prior(
        leads_to="gain",
        text="The gain was particularly large where target rows were few.",
        source=SHI,
    ),
    Prior(
        leads_to="open",
        text="Mixed instruction data helped each ability while data were scarce, and abilities competed once they were "
        "plentiful; the amount of data mattered more than the ratio of the mix.",
        source=DONG,
    ),
)
_SKILL: dict[SkillWord, tuple[Prior, ...]] = {
    "understanding": (
        Prior(leads_to="gain", text="A target that needed understanding gained from generalist data.", source=SHI),
    ),
    "reasoning": (
        Prior(leads_to="gain", text="A target that needed reasoning gained from generalist data.", source=SHI),
    ),
    "facts": (
        Prior(
            leads_to="loss_possible",
            text="A target that needed factual knowledge could lose, which the authors put down to hallucinations in "
            "the generalist data.",
            source=SHI,
        ),
        Prior(
            leads_to="loss_possible",
            text="Rows that state facts unknown to the model are learned slowly, and once learned they raise its "
            "tendency to hallucinate.",
            source=GEKHMAN,
        ),
    ),
}


def advise(
    *,
    target_rows: int,
    doses: Sequence[int],
    smallest_effect: float,
    items: int,
    breadth: BreadthWord | None = None,
    coverage: float | None = None,
    skill: SkillWord | None = None,
    metric: str = "exact_match",
    costs: Costs | None = None,
    components: Components | None = None,
) -> Advice:
    """What to expect of `doses` (generalist rows) with so many target rows, and the cheapest pilot.

    `breadth` and `skill` are the user's words; None: not said. `coverage` is a measured breadth, which is passed on but
    not judged, as no threshold has been published. `items` is how many test items there are at most. `costs` are those
    of the pilot's three arms. `components` come from a pilot; None: assumed by the kind of metric.
    """
    priors = (*(() if breadth is None else (_BREADTH[breadth],)), *_ROWS, *(() if skill is None else _SKILL[skill]))
    expectation = _expectation(breadth, skill)
    offered = [rows for rows in doses if rows > 0]
    pilot, reason = None, "no dose is offered"
    if offered:
        pilot = _pilot(
            dose_rows=max(offered),
            target_rows=target_rows,
            items=items,
            smallest_effect=smallest_effect,
            components=components or assumed_components(metric),
            costs=costs or Costs(),
        )
        reason = (
            f"no pilot with up to {items} test items and 20 seeds can settle a difference of {smallest_effect:g}: it "
            "needs more test items or a larger smallest effect"
        )
    return Advice(
        target_rows=target_rows,
        breadth=breadth,
        coverage=coverage,
        skill=skill,
        expectation=expectation,
        sentence=_sentence(expectation, breadth, skill),
        priors=priors,
        pilot=pilot,
        pilot_reason=None if pilot is not None else reason,
    )


def _expectation(breadth: BreadthWord | None, skill: SkillWord | None) -> Expectation:
    """What the statements come to: a possible loss outweighs, and a gain needs a broad target or a fitting skill."""
    if skill == "facts":
        return "loss_possible"
    return "gain" if breadth == "broad" or skill is not None else "open"


def _sentence(expectation: Expectation, breadth: BreadthWord | None, skill: SkillWord | None) -> str:
    if expectation == "loss_possible":
        against = ", although its breadth speaks for one" if breadth == "broad" else ""
        return f"Published work warns of a loss for targets that need facts{against}; only a pilot can tell here."
    if expectation == "gain":
        but = ", although its narrowness makes that less sure" if breadth == "narrow" else ""
        return (
            f"Published work leads one to expect a gain, the more so with few target rows{but}; a pilot can tell here."
        )
    said = "a narrow target" if breadth == "narrow" else "a target of which neither breadth nor skill is said"
    return f"Published work leaves open what a dose does for {said}; only a pilot can tell here."


def _pilot(
    *,
    dose_rows: int,
    target_rows: int,
    items: int,
    smallest_effect: float,
    components: Components,
    costs: Costs,
) -> Pilot | None:
    """The largest dose against both baselines, for the fewest tokens; None where no design settles the question."""
    start = PowerDesign(
        seeds=2, items=max(items, 2), doses=1, baselines=2, components=components, smallest_effect=smallest_effect
    )
    found = cheapest_design(start, costs=costs, most_items=max(items, 2))
    if found is None:
        return None
    seeds, needed, runs = found.design.seeds, found.design.items, 3 * found.design.seeds
    price = "" if found.tokens is None else f", {found.tokens:,} tokens"
    price += "" if found.minutes is None else f", about {found.minutes:.0f} minutes"
    return Pilot(
        dose_rows=dose_rows,
        target_rows=target_rows,
        seeds=seeds,
        items=needed,
        runs=runs,
        smallest_effect=smallest_effect,
        smallest_detectable=found.prospects.smallest_detectable,
        variances=components.origin,
        tokens=found.tokens,
        minutes=found.minutes,
        sentence=(
            f"The cheapest pilot trains {target_rows} target rows alone, alone with as many steps, and with "
            f"{dose_rows} generalist rows, {seeds} seeds each ({runs} runs{price}), and scores {needed} test items; "
            f"its size rests on {components.origin} variances."
        ),
    )
