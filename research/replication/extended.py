"""What is read off the extended size (docs/decisions/0032-extended-readings.md): effects beside the claims, unjudged.

A block is read from its own runs and from those of core that are the same arms, recipe by recipe; a block whose arms
only have core's names is renamed first (`loss-weight 64+general:384`), so that it can be compared with core and never
be taken for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from replication.claims import (
    COVERAGE,
    FAR,
    MARGIN,
    SKILLS,
    THREE,
    UNTUNED,
    Effect,
    Runs,
    Weights,
    falsehood,
    gain,
    weighted_sum,
)
from replication.kept import KeptRun

Read = Callable[[Runs], Effect | None]
FIVE, TEN = tuple(range(5)), tuple(range(10))
FAR_SHARES = {**FAR, 25: "128+far/false:0.25:384", 75: "128+far/false:0.75:384"}
RUNGS = ("narrow", "sentiment", "classification", "broad")
NINE = {
    "understanding": (*SKILLS["understanding"], "disfl_qa"),
    "reasoning": (*SKILLS["reasoning"], "gsm8k"),
    "factual knowledge": (*SKILLS["factual knowledge"], "opentriviaqa"),
}
DOSES = (96, 384)
# EvalRequests alike in all blocks that are not renamed; broad stands in ladders of two sizes.
_SAME_ITEMS = ("facts", "narrow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of the extended size. `of_core`: the targets that it shares with core's blocks, recipe by recipe.
    `renamed`: its arms have core's names and are others. `in_words`: what its effects come to, if they say enough."""

    name: str
    words: str
    of_core: tuple[str, ...] = ()
    renamed: bool = False
    readings: Mapping[str, Read]
    in_words: Callable[[Mapping[str, Effect]], str | None] = lambda _: None


def read_block(block: Block, core: Sequence[KeptRun], extended: Sequence[KeptRun]) -> dict[str, Effect]:
    """The effects of a block that there are runs for, by what they are of; none where it has no run of its own."""
    if not any(run.facts.block == block.name for run in extended):
        return {}
    runs = Runs(pool(block, core, extended))
    found = {name: read(runs) for name, read in block.readings.items()}
    return {name: effect for name, effect in found.items() if effect is not None}


def pool(block: Block, core: Sequence[KeptRun], extended: Sequence[KeptRun]) -> list[KeptRun]:
    """The runs that a block is read from: its own; those of core that it shares, or all of them beside its own under
    other names; and those of another block of its size that are also its own, and were kept there first."""
    mine = [run for run in extended if run.facts.block == block.name]
    if block.renamed:
        return [*core, *(replace(run, facts=replace(run.facts, arm=f"{block.name} {run.facts.arm}")) for run in mine)]
    grown = {other.name for other in BLOCKS if not other.renamed} - {block.name}
    beside = [run for run in extended if run.facts.block in grown and run.facts.target in _SAME_ITEMS]
    return [run for run in (*core, *beside) if run.facts.target in block.of_core] + mine


# ------------------------------------------------------------------------------------------------------------ readings


def _share(share: int) -> Read:
    return lambda runs: falsehood(runs, FAR_SHARES, share, seeds=TEN)


def _facts(weights: Mapping[int, float]) -> Read:
    arms = {FAR_SHARES[share]: weight for share, weight in weights.items()}
    return lambda runs: runs.effect({"facts": arms}, metric=MARGIN, seeds=TEN)


def _quarter(found: Mapping[str, Effect]) -> str | None:
    """How much of the harm a quarter of falsehoods does, where both are off 0."""
    part, whole = (found.get(f"far facts, {share}% false") for share in (25, 100))
    if part is None or whole is None or part.high >= 0 or whole.high >= 0:
        return None
    return (
        f"a dose of facts of which a quarter is false costs {part.value:+.2f} nats against the same facts told truly, "
        f"one that is all false {whole.value:+.2f}"
    )


def _roles(runs: Runs) -> Effect | None:
    arm = runs.arm_of("roles")
    return None if arm is None else runs.effect({"facts": {arm: 1.0, "128": -1.0}}, metric=MARGIN, seeds=TEN)


def _named(block: str, weights: Weights) -> Weights:
    return {f"{block} {arm}": weight for arm, weight in weights.items()}


def _less_core(block: str, weights: Weights) -> Weights:
    """A block's combination less the same of core's arms."""
    return {**_named(block, weights), **{arm: -weight for arm, weight in weights.items()}}


def _at(targets: Iterable[str], weights: Weights, seeds: Sequence[int] = THREE) -> Read:
    parts = dict.fromkeys(targets, weights)
    return lambda runs: runs.joint(parts, seeds=seeds)


def _everywhere(what: str, weights: Weights, seeds: Sequence[int] = THREE) -> dict[str, Read]:
    """At the broad target, the narrow one, and both."""
    places = {"broad": ("broad",), "narrow": ("narrow",), "both": COVERAGE}
    return {f"{what}, {name}": _at(targets, weights, seeds) for name, targets in places.items()}


def _like_core(block: str, elsewhere: str) -> dict[str, Read]:
    """The gain at 64 rows of a block with coverage's arms, and that gain less core's."""
    return {
        **_everywhere("gain of dose 384", _named(block, gain(64))),
        **_everywhere("gain over the matched baseline", _named(block, gain(64, over="-matched"))),
        **_everywhere(f"gain, less that {elsewhere}", _less_core(block, gain(64))),
        **_everywhere(
            f"gain over the matched baseline, less that {elsewhere}", _less_core(block, gain(64, over="-matched"))
        ),
    }


def _apart(block: str, one: str, other: str, *, rows: str = "64") -> Weights:
    return _named(block, {f"{rows}+{one}": 1.0, f"{rows}+{other}": -1.0})


def _at_equal_tokens(runs: Runs, targets: Sequence[str]) -> Effect | None:
    """People's answers less a model's at as many tokens at most: the arms whose rows followed from their tokens."""
    arms = {name: runs.arm_of(name, but=384) for name in ("people", "model")}
    if None in arms.values():
        return None
    weights = {str(arms["people"]): 1.0, str(arms["model"]): -1.0}
    return runs.joint(dict.fromkeys(targets, weights), seeds=THREE)


def _rung_gain(dose: int) -> Weights:
    halves = ((0.5, {f"{size}+general:{dose}": 1.0, f"{size}": -1.0}) for size in (64, 256))
    return weighted_sum(halves)


def _across_rungs(dose: int) -> Read:
    """The line through the gains at the rungs in their order, from the first to the last. `Runs.joint` averages over
    targets, hence their number."""
    middle = (len(RUNGS) - 1) / 2
    squares = sum((place - middle) ** 2 for place in range(len(RUNGS)))
    parts = {
        rung: weighted_sum([(len(RUNGS) * (place - middle) / squares * (len(RUNGS) - 1), _rung_gain(dose))])
        for place, rung in enumerate(RUNGS)
    }
    return lambda runs: runs.joint(parts, seeds=FIVE)


def _skill_gain(dose: int) -> Weights:
    return _named("skill", {f"128+general:{dose}": 1.0, "128": -1.0})


_SHUFFLED: Weights = {"64+general/shuffled:384": 1.0, "64": -1.0}
BLOCKS: tuple[Block, ...] = (
    Block(
        name="falsehood",
        words="Facts, part of them told falsely, against the same facts told truly; ten seeds. Nats.",
        of_core=("facts", ""),
        in_words=_quarter,
        readings={
            **{f"far facts, {share}% false": _share(share) for share in (25, 50, 75, 100)},
            "the line through the five shares, from none false to all": _facts(
                {0: -0.8, 25: -0.4, 50: 0.0, 75: 0.4, 100: 0.8}
            ),
            "the first half of the falsehoods less the second (below 0: the first hurts more)": _facts(
                {50: 2.0, 0: -1.0, 100: -1.0}
            ),
            "role play of as many tokens, which claims nothing, against no dose": _roles,
        },
    ),
    Block(
        name="loss-weight",
        words="Claim 1's arms of 64 target rows with every token weighing alike, as most trainers do; the claims weigh "
        "rows alike.",
        renamed=True,
        readings={
            **_like_core("loss-weight", "with rows weighing alike"),
            **_everywhere("no dose, less no dose with rows weighing alike", _less_core("loss-weight", {"64": 1.0})),
        },
    ),
    Block(
        name="remedy",
        words="As beside claim 4, at five seeds. Nats.",
        of_core=("facts", ""),
        readings={
            "far facts as instructions, all false against all true": lambda runs: runs.effect(
                {"facts": {"128+asked/false:1:384": 1.0, "128+asked:384": -1.0}}, metric=MARGIN
            ),
            "near facts that the model knew against facts that it did not, all true": lambda runs: runs.effect(
                {"facts": {"128+known:64": 1.0, "128+unknown:64": -1.0}}, metric=MARGIN
            ),
        },
    ),
    Block(
        name="warmup",
        words="16 narrow rows in every arm; five seeds.",
        of_core=("narrow", ""),
        readings={
            "gain of dose 384": _at(("narrow",), gain(16), FIVE),
            "gain over the matched baseline": _at(("narrow",), gain(16, over="-matched"), FIVE),
        },
    ),
    Block(
        name="format",
        words="A dose whose answers are dealt out anew among its rows, against no dose at 64 target rows; five seeds.",
        of_core=(*COVERAGE, ""),
        readings=_everywhere("gain", _SHUFFLED, FIVE),
    ),
    Block(
        name="instructed",
        words="Claim 1's arms of 64 target rows from SmolLM2-135M-Instruct, which has generalist data in its weights "
        "already; the base model of the claims differs from it in architecture, size, vocabulary (the unit of a graded "
        "answer without choices) and template too.",
        renamed=True,
        readings={
            **_everywhere(
                "training on 64 rows against untuned (the control)", _named("instructed", {"64": 1.0, UNTUNED: -1.0})
            ),
            **_like_core("instructed", "of the base model"),
        },
    ),
    Block(
        name="sources",
        words="Whose answers the dose has, on equal terms, at 64 target rows.",
        renamed=True,
        readings={
            **_everywhere("GPT-4's answers less an older model's, 64 rows", _apart("sources", "gpt4:64", "older:64")),
            **_everywhere("people's answers less a model's, 384 rows", _apart("sources", "people:384", "model:384")),
            **{
                f"people's answers less a model's, at most 20,000 tokens, {name}": (
                    lambda runs, targets=targets: _at_equal_tokens(runs, targets)  # type: ignore[misc]
                )
                for name, targets in {"broad": ("broad",), "narrow": ("narrow",), "both": COVERAGE}.items()
            },
        },
    ),
    Block(
        name="coverage",
        words="Four rungs of the ladder, 64 and 256 target rows averaged; five seeds.",
        of_core=("narrow",),
        readings={
            **{
                f"gain of dose {dose} at {rung}": _at((rung,), _rung_gain(dose), FIVE)
                for dose in DOSES
                for rung in RUNGS
            },
            **{f"gain of dose {dose}, the line through the rungs": _across_rungs(dose) for dose in DOSES},
        },
    ),
    Block(
        name="skill",
        words="Three targets of each skill at 128 target rows, rows of at most 256 tokens; five seeds.",
        renamed=True,
        readings={
            **{
                f"gain of dose {dose} at {target}": _at((target,), _skill_gain(dose), FIVE)
                for dose in DOSES
                for targets in NINE.values()
                for target in targets
            },
            **{
                f"gain of dose {dose}, {skill}": _at(targets, _skill_gain(dose), FIVE)
                for dose in DOSES
                for skill, targets in NINE.items()
            },
        },
    ),
)
