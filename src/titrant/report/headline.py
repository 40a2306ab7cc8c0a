"""The verdict in two lines, and what a staged study says of its spending."""

from __future__ import annotations

from titrant.core.records import Contrast, Verdict
from titrant.decision.rule import LOST_LEVEL
from titrant.report.data import SetAside, Stages
from titrant.report.forest import bounds_of
from titrant.report.wording import count, known, percent, plural, score, shortened, signed

_LIMIT = 60


def headline(verdict: Verdict) -> str:
    """The first line: what to do."""
    if verdict.verdict == "mix":
        lead = next((c for c in verdict.contrasts if c.arm == verdict.arm), None)
        return f"Mix in {_dose(lead)}" if lead is not None else "Mix"
    return {
        "train_alone": "Train alone: no dose tried is worth it",
        "no_difference": "No difference that matters: take the cheaper",
        "cannot_tell": "Cannot tell yet",
    }[verdict.verdict]


def evidence_line(verdict: Verdict, *, metric: str) -> str:
    """The second line: the number that decides, with its interval and its rival."""
    lead = _lead(verdict)
    if lead is None or not known(lead.difference.value):
        return "No dose has been compared with training alone."
    bounds = bounds_of(lead)
    interval = "no interval" if bounds is None else f"{signed(bounds[0])} to {signed(bounds[1])}"
    rival = "training alone"
    if lead.baseline == verdict.matched:
        rival += " with as many steps"
    elif verdict.target_rows is None:
        rival = shortened(lead.baseline, limit=_LIMIT)
    which = "" if verdict.verdict == "mix" else f"best dose, {_dose(lead)}: "
    return (
        f"{which}{shortened(metric, limit=_LIMIT)} {signed(lead.difference.value)} ({interval}) against {rival}; "
        f"{score(verdict.smallest_effect)} matters"
    )


def _lead(verdict: Verdict) -> Contrast | None:
    """The contrast that the lines are about: of the chosen dose, else of the best, with the fair baseline."""
    fair = verdict.matched or verdict.baseline
    mine = [c for c in verdict.contrasts if c.eval_set == "target" and known(c.difference.value)]
    mine = [c for c in mine if c.baseline == fair] or mine
    chosen = [c for c in mine if c.arm == verdict.arm]
    return next(iter(chosen), max(mine, key=lambda c: c.difference.value or 0.0, default=None))


def _dose(contrast: Contrast | None) -> str:
    if contrast is None:
        return "a dose"
    if contrast.dose is None:
        return shortened(contrast.arm, limit=_LIMIT)
    source = f" of {shortened(contrast.source, limit=_LIMIT)}" if contrast.source else ""
    return f"{plural(contrast.dose, 'row')}{source}"


# --------------------------------------------------------------------------------------------------------------- stages

# Conditional on stopping early with mix: benchmarks/early_stops.py, kept in benchmarks/results/early-stops.json. No
# way to shrink the gain that was tried there has a smaller bias without a larger error (docs/staged.md).
EARLY_STOP_CAUTION = (
    "A gain quoted at an early stop is too large on average: studies stop early when their seeds so far were lucky. "
    "Where 0.030 matters, simulated studies that stopped early with mix quoted a true gain of 0.030 as 0.049 (20% of "
    "the studies of that gain did), and one of 0.060 as 0.065 (92%)."
)


def early_stop_caution(*, holds: bool) -> str:
    """What to make of a gain that ended the ladder; `holds`: the interval's level does."""
    return EARLY_STOP_CAUTION + (" The interval allows for the looks; read its lower end." if holds else "")


def stages_line(stages: Stages, *, provisional: bool, lost: bool = False) -> str:
    """How far the ladder went and what it cost. `lost`: its protocol changed after a look.

    >>> stages_line(Stages(ladder=(3, 4, 5), looks=(), runs=6, cost=30.0, grid_cost=100.0, ended=None),
    ...     provisional=False)
    'under way, before the first of 3 looks, 6 runs, 30% of the grid’s tokens'
    """
    total, taken = len(stages.ladder), stages.looks[-1].look if stages.looks else 0
    at = f"at look {taken} of {total}" if taken else f"before the first of {plural(total, 'look')}"
    ended = {
        "firm": f"firm {at}",
        "given_up": f"given up {at}: even the last look would hardly settle it",
        "last_look": f"open after the last look, {taken} of {total}",
        "budget": f"ended by its budget {at}" if taken else "ended by its budget before the first look",
        None: f"under way, {at}",
    }[stages.ended]
    share = percent(stages.cost / stages.grid_cost) if stages.grid_cost > 0 else "none"
    held = "; provisional" if provisional else ""
    held += f": {LOST_LEVEL}" if lost else ""
    return f"{ended}, {plural(stages.runs, 'run')}, {share} of the grid’s tokens{held}"


def level_lost(verdict: Verdict) -> bool:
    """Whether its intervals no longer hold the level that they were made for: the page then promises none."""
    return any(reason.startswith(LOST_LEVEL) for reason in verdict.provisional_reasons)


def aside_words(aside: SetAside) -> str:
    """Why an arm did not go on."""
    if aside.reason == "ruled_out":
        return f"ruled out at look {count(aside.look)}" if aside.look else "ruled out"
    if aside.reason == "waiting":
        return "waiting: it lagged behind the best dose, and could have come back"
    return "baseline set aside: no open claim needed it"


def stopped_early(stages: Stages) -> bool:
    """Whether a claim ended the ladder before its last look, so that the gain in front of the interval is too large on
    average."""
    return stages.ended == "firm" and bool(stages.looks) and stages.looks[-1].look < len(stages.ladder)
