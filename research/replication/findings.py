"""docs/findings.md, made from kept scores alone: nothing is written by hand, and nothing is read but the scores.

With nothing kept the page says "not tested" of every claim. Runs by a fake backend or by weights that are not
pretrained are refused by name, and runs of another version of the code that bears on results are left out and counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from replication.claims import CLAIMS, FACTS, Effect, Found, Runs, judge, said
from replication.extended import BLOCKS, Block, read_block
from replication.figures import figures
from replication.kept import KeptRun, current, read_kept, write_whole

SIZES = ("core", "extended", "full")
_OUTCOME = {
    "agrees": "**agrees**",
    "disagrees": "**disagrees**",
    "cannot tell": "cannot tell",
    "not tested": "not tested",
}


_INTRODUCTION = (
    "# Findings",
    "",
    "Made by `make findings` from the scores in `studies/paper/scores`; not written by hand. What was to be run, the "
    "claims, the effects and the rule were registered before any run in "
    "[decision 0025](decisions/0025-paper-studies.md); claims 5 and 6, which put 4 and 2 again to fresh seeds, before "
    "any run at those seeds in [0029](decisions/0029-falsehood-again.md) and [0030](decisions/0030-few-rows-again.md).",
    "",
    "This is a conceptual replication of published claims (EMNLP 2023, arXiv 2310.15326) **at another scale**: a base "
    "model of 270 million parameters in place of 7 billion, other pools, other collections of tasks, hundreds of rows "
    "in place of tens of thousands. Nothing below confirms or refutes the published result; it says what holds here.",
    "",
    "## In short",
    "",
    "| | claim | at this scale | effect (95% interval) | detectable | stated |",
    "| ---: | --- | --- | --- | ---: | ---: |",
)
_LEGEND = (
    "*agrees*: the interval lies on the claim's side of 0. *disagrees*: it rules out the stated effect. *cannot tell*: "
    "neither. *not tested*: a check failed, or runs are missing; an effect that is shown then is not judged. Effects "
    "are in the score's units, 0 to 1 (claims 4 and 5: nats); *detectable* is found in 80% of such studies."
)


def write_findings(scores: Path, out: Path) -> tuple[Path, ...]:
    """Write the page and its figures; the paths written. Figures that have nothing to show are taken away."""
    folder = out.parent / out.stem
    kept = {size: read_kept(scores / size) for size in SIZES}
    drawn = figures(_usable(kept["core"])[0], _usable(kept["extended"])[0])
    for path in folder.glob("*.svg"):
        if path.stem not in drawn:
            path.unlink()
    for name, svg in drawn.items():
        write_whole(folder / f"{name}.svg", svg.encode())
    write_whole(out, page(kept, figures_at={name: f"{folder.name}/{name}.svg" for name in drawn}).encode())
    return (out, *(folder / f"{name}.svg" for name in drawn))


def page(kept: dict[str, tuple[KeptRun, ...]], *, figures_at: dict[str, str] | None = None) -> str:
    """The page's Markdown."""
    core, _, _ = _usable(kept.get("core", ()))
    found = [judge(claim, Runs(core)) for claim in CLAIMS]
    extended = _usable(kept.get("extended", ()))[0]
    by_block = [(block, read_block(block, core, extended)) for block in BLOCKS]
    beyond = _extended([(block, read) for block, read in by_block if read], core, extended)
    lines = [*_INTRODUCTION, *(_short(each) for each in found), "", _LEGEND, "", *_in_words(found), ""]
    if beyond:
        lines += ["More arms and seeds, which no claim is judged by, stand under [Extended](#extended)."]
        lines += [f"There, {words}." for block, read in by_block if (words := block.in_words(read)) is not None]
        lines += [""]
    for each in found:
        lines += _claim(each)
    lines += beyond
    lines += _figures(figures_at or {})
    lines += _what_was_run(kept)
    return "\n".join(lines).rstrip() + "\n"


def _short(found: Found) -> str:
    claim, effect = found.claim, found.effect
    detectable = "" if effect is None else f"{effect.detectable:.3f}"
    shown = said(effect) if effect is not None else f"no effect yet: {found.kept} of {found.needed} runs"
    stated = f"{claim.sign * claim.delta:+g}"
    return f"| {claim.number} | {claim.title} | {_OUTCOME[found.outcome]} | {shown} | {detectable} | {stated} |"


def _in_words(found: Sequence[Found]) -> list[str]:
    """What every claim comes to, in a line."""
    again = {each.claim.repeats: each.claim.number for each in found if each.claim.repeats is not None}
    lines = ["In words:", ""]
    for each in found:
        claim, effect = each.claim, each.effect
        unit = " nats" if claim.number in FACTS else ""
        stated = f"{claim.sign * claim.delta:+g}{unit}"
        if effect is None or each.outcome == "not tested":
            failed = next(check for check in each.checks if not check.passed)
            words = f"is not judged. {failed.name[0].upper()}{failed.name[1:]}? No: {failed.words}"
            if claim.number in again:
                words += f"; claim {again[claim.number]} puts it again"
        else:
            span = f"{effect.value:+.3f}{unit}, with 95% confidence {effect.low:+.3f} to {effect.high:+.3f}"
            left = max((effect.low, effect.high), key=lambda end: claim.sign * end)
            smaller = f"one of {left:+.3f} is not" if claim.sign * left > 0 else "any in that direction too"
            words = {
                "agrees": f"**holds** at this scale: {claim.statement}. Effect: {span}",
                "disagrees": f"**does not show as stated** at this scale: an effect of {stated} is ruled out, "
                f"{smaller}. Effect: {span}",
                "cannot tell": f"is open: there may be no effect, or one of {stated}. Effect: {span}",
            }[each.outcome]
        lines.append(f"- Claim {claim.number} {words}.")
    return lines


def _claim(found: Found) -> list[str]:
    claim, effect = found.claim, found.effect
    lines = [f"## Claim {claim.number}: {claim.title}", "", f"At this scale: {_OUTCOME[found.outcome]}.", ""]
    lines += [f"- **What is compared.** {claim.estimand}. Stated effect: {claim.sign * claim.delta:+g}."]
    if effect is None:
        lines += [f"- **Effect.** None yet: {found.kept} of {found.needed} runs are kept."]
    else:
        reach = f"{effect.detectable:.3f} is detectable"
        lines += [
            f"- **Effect.** {said(effect)}, from {_span(effect.seeds)} seeds and {effect.items:,} items; {reach}."
        ]
    lines += [f"- **What was run.** {_run_words(found.runs)}"]
    for check in found.checks:
        mark = {True: "yes", False: "**no**", None: "not known yet"}[check.passed]
        lines += [f"- **{check.name[0].upper()}{check.name[1:]}?** {mark}: {check.words}."]
    if claim.number in FACTS:
        lines += _fitted(found.runs)
    beside = [(name, value) for name, value in found.beside if value is not None]
    missing = len(found.beside) - len(beside)
    if beside:
        lines += ["", "| beside it (registered as secondary, not judged) | effect (95% interval) |", "| --- | --- |"]
        lines += [f"| {name} | {said(value)} |" for name, value in beside]
    if missing:
        lines += ["", f"Without runs yet: {_counted(missing, 'secondary effect')}."]
    return [*lines, ""]


def _extended(
    blocks: Sequence[tuple[Block, Mapping[str, Effect]]], core: Sequence[KeptRun], extended: Sequence[KeptRun]
) -> list[str]:
    """What was read off the extended size, block by block; nothing where nothing was."""
    lines: list[str] = []
    for block, found in blocks:
        mine = [run for run in extended if run.facts.block == block.name]
        lines += [f"### {block.name[0].upper()}{block.name[1:]}", "", f"{block.words} {_added(mine, core)}", ""]
        lines += ["| | effect (95% interval) | detectable | seeds | items |", "| --- | --- | ---: | ---: | ---: |"]
        lines += [
            f"| {name} | {said(effect)} | {effect.detectable:.3f} | {_span(effect.seeds)} | {effect.items:,} |"
            for name, effect in found.items()
        ]
        lines += [""]
    if not lines:
        return []
    kept = {block.name: sum(run.facts.block == block.name for run in extended) for block in BLOCKS}
    there = {block.name for block, _ in blocks}
    open_ = [
        f"{name} ({_counted(count, 'run')})" if count else name for name, count in kept.items() if name not in there
    ]
    if open_:
        lines += [f"Not there yet: {', '.join(open_)}. `make paper-extended` goes on.", ""]
    return [
        "## Extended",
        "",
        "Registered in [decision 0032](decisions/0032-extended-readings.md) before any run of this size, and when "
        "core, whose runs it shares and adds to, had been looked at. Effects with their intervals, not judged as "
        "claims are: with so many, some stand off 0 by chance alone.",
        "",
        *lines,
    ]


def _added(runs: Sequence[KeptRun], core: Sequence[KeptRun]) -> str:
    """How many runs a block added to core's, and where they were made if that was elsewhere."""
    machines, of_core = _machines(runs), _machines(core)
    elsewhere = "" if machines == of_core else f" on {machines}, where core's are on {of_core or 'nothing'}"
    return f"{_counted(len(runs), 'run')} of its own{elsewhere}."


def _machines(runs: Sequence[KeptRun]) -> str:
    return ", ".join(sorted({f"{run.facts.numerics['device']} {run.facts.numerics['dtype']}" for run in runs}))


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun if number == 1 else noun + 's'}"


def _span(seeds: tuple[int, int]) -> str:
    """`3`, or `3 to 10` where targets have different numbers of seeds."""
    return " to ".join(str(count) for count in dict.fromkeys(seeds))


def _fitted(runs: Sequence[KeptRun]) -> list[str]:
    """Whether false rows were learned: their loss at their visits in the first and the last tenth of training."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for run in runs:
        if run.facts.dose_loss is not None and run.facts.source is not None:
            found[run.facts.source].append(run.facts.dose_loss)
    if not found:
        return []
    import math

    words = []
    for source, pairs in sorted(found.items()):
        first, last = (sum(pair[place] for pair in pairs) / len(pairs) for place in (0, 1))
        words.append(
            f"{source} {first:.2f} to {last:.2f} (probability a token {math.exp(-first):.2f} to {math.exp(-last):.2f})"
        )
    return [f"- **Were the doses fitted?** Loss on their rows, first to last tenth of training: {'; '.join(words)}."]


def _run_words(runs: Sequence[KeptRun]) -> str:
    if not runs:
        return "Nothing yet."
    models = ", ".join(sorted({run.facts.origin.model for run in runs}))
    seeds = len({run.facts.seed for run in runs})
    rows = ", ".join(str(size) for size in sorted({run.facts.target_rows for run in runs}))
    tokens = sum(run.facts.tokens for run in runs)
    minutes = sum(run.facts.training_seconds + run.facts.answering_seconds for run in runs) / 60
    return (
        f"{_counted(len(runs), 'run')} of {models}, {rows} target rows, {_counted(seeds, 'seed')}, {tokens:,} training "
        f"tokens, {minutes:,.0f} minutes ({_machines(runs)}). Held equal: passes over the target rows, rows a "
        "step, the learning rates tried."
    )


def _figures(at: dict[str, str]) -> list[str]:
    if not at:
        return []
    words = {
        "size": "Score against target rows, without a dose, without a dose in as many steps, and with the dose",
        "skill": "Gain of the dose by target and skill, with its 95% interval",
        "falsehood": "Margin of the right answer that its subject adds, by the share of false facts in the dose",
    }
    lines = ["## Figures", ""]
    for name, path in at.items():
        lines += [f"![{words[name]}]({path})", "", f"*{words[name]}.*", ""]
    return lines


def _what_was_run(kept: dict[str, tuple[KeptRun, ...]]) -> list[str]:
    lines = ["## All kept runs", ""]
    if not any(kept.values()):
        return [*lines, "None yet. `make paper-core` runs what is missing; it can be stopped and goes on."]
    lines += [
        "| size | block | runs | refused | other versions | training tokens | minutes |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    reasons: dict[str, int] = defaultdict(int)
    for size, runs in kept.items():
        usable, refused, others = _usable(runs)
        for run in refused:
            reasons[str(run.facts.refusal)] += 1
        for block in sorted({run.facts.block for run in runs}):
            mine = [run for run in usable if run.facts.block == block]
            tokens = sum(run.facts.tokens for run in mine)
            minutes = sum(run.facts.training_seconds + run.facts.answering_seconds for run in mine) / 60
            counts = [sum(run.facts.block == block for run in some) for some in (refused, others)]
            lines.append(
                f"| {size} | {block} | {len(mine)} | {counts[0]} | {counts[1]} | {tokens:,} | {minutes:,.0f} |"
            )
    lines += ["", "Runs include every learning rate that was tried at the first seed.", ""]
    lines += [f"{count} runs are refused: {reason}." for reason, count in sorted(reasons.items())]
    return lines


def _usable(
    runs: Sequence[KeptRun],
) -> tuple[tuple[KeptRun, ...], tuple[KeptRun, ...], tuple[KeptRun, ...]]:
    """(what may be concluded from, what is refused, what another version of the code made)."""
    ours, others = current(runs)
    usable = tuple(run for run in ours if run.facts.refusal is None)
    return usable, tuple(run for run in ours if run.facts.refusal is not None), others
