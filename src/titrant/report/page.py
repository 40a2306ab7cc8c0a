"""The page: one HTML file that shows all of `ReportData`, works offline and asks nothing of anybody.

Three things keep foreign text from being more than text: Jinja2 escapes every value, every value passes `visible` on
its way out, and a content security policy lets only our own style sheet and script run, by their hashes. There are no
links and no inline styles, so no value ever stands where a browser would act on it.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from titrant.core.records import Contrast, Numerics, Verdict
from titrant.report import figures, headline, tables
from titrant.report.cells import Table
from titrant.report.data import ArmAnswers, ItemComparison, ItemTable, ReportData, SeedAnswer, Stages
from titrant.report.drawing import Figure
from titrant.report.forest import banded_by_contrasts, contrasts_by_arm, forest_of, sizes_by_contrasts
from titrant.report.ladder_figure import ladder_figure, look_table
from titrant.report.wording import count, known, parameters, percent, plural, score, shortened, signed, visible

if TYPE_CHECKING:
    from jinja2 import Template

MOST_ITEMS = 400
ITEM_CHARACTERS = 1_500_000  # of all texts of the items together
PROMPT_LIMIT, SNIPPET_LIMIT, ANSWER_LIMIT, STUDY_LIMIT = 2_000, 260, 400, 20_000
VALUE_LIMIT = 40_000  # no single value on the page is longer, whatever it is

VERDICT_WORDS = {
    "mix": "Mix",
    "train_alone": "Train alone",
    "no_difference": "No difference that matters",
    "cannot_tell": "Cannot tell yet",
}


def render(data: ReportData) -> str:
    """The whole page as text that encodes as UTF-8, a few hundred kilobytes, at most about 6 MB.

    The same data give the same page: it holds no date but one that it is given.
    """
    style, script = _asset("page.css"), _asset("page.js")
    return _template().render(
        data=data,
        verdict=data.verdict,
        badge=VERDICT_WORDS[data.verdict.verdict],
        style=_trusted(style),
        script=_trusted(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        standing=_standing(data),
        headline=headline.headline(data.verdict),
        evidence_line=headline.evidence_line(data.verdict, metric=data.metric),
        forest=forest_of(data.verdict),
        level_lost=headline.level_lost(data.verdict),
        staged=None if data.stages is None else _staged(data.stages, data.verdict),
        contrasts=tables.contrast_tables(data.verdict, metric=shortened(data.metric, limit=tables.NAME_LIMIT)),
        transfers=tables.contrast_tables(data.verdict, metric="", transfer=True),
        responses=_responses(data),
        sizes=_sizes(data),
        size_table=tables.size_table(data.sizes, data.lines),
        worth=_worth(data),
        kept=figures.retention(data.retention, measure="kept"),
        learned=figures.retention(data.retention, measure="learned"),
        retention_table=tables.retention_table(data.retention),
        fairness=tables.fairness_table(data.fairness),
        losses=figures.training(data.training, part="loss"),
        target_losses=figures.training(data.training, part="target"),
        explorer=None if data.comparison is None else _explorer(data.comparison),
        collapse=tables.collapse_table(data.collapse),
        measures=tables.measure_table(data.measures) if data.measures else None,
        failures=tables.failure_table(data.failures),
        removed=tables.removed_table(data.removed),
        removed_rows=sum(row.rows for row in data.removed),
        facts=_facts(data),
        files=tables.file_table(data.provenance.files),
        study_yaml=shortened(data.provenance.study_yaml, limit=STUDY_LIMIT),
        others=[
            (other.name, VERDICT_WORDS[other.verdict.verdict], other.verdict.verdict, other.verdict, other.page)
            for other in data.other_verdicts
        ],
    )


# ------------------------------------------------------------------------------------------------------------ sections


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fact:
    """A name and a value; `note` explains a value that is not known."""

    name: str
    value: str
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Response:
    """The dose curves of one measure."""

    title: str
    figure: Figure | None
    table: Table


@dataclass(frozen=True, slots=True, kw_only=True)
class _ShownAnswer:
    seeds: str
    text: str
    mark: str
    graded: str
    ended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _ShownItem:
    outcome: str
    gain: str
    score_gain: str
    snippet: str
    prompt: str
    references: tuple[str, ...]
    columns: tuple[tuple[str, str, tuple[_ShownAnswer, ...]], ...]

    @property
    def characters(self) -> int:
        answers = sum(len(answer.text) + 80 for _, _, shown in self.columns for answer in shown)
        return len(self.prompt) + sum(map(len, self.references)) + answers


@dataclass(frozen=True, slots=True, kw_only=True)
class _Explorer:
    table: ItemTable
    items: tuple[_ShownItem, ...]
    left_out: int


def _standing(data: ReportData) -> tuple[_Fact, ...]:
    """The few facts that the verdict stands on."""
    verdict, model = data.verdict, data.provenance.model
    size = "parameters not known" if model.parameters is None else f"{parameters(model.parameters)} parameters"
    detectable = verdict.smallest_detectable
    facts = [
        _Fact(name="Model", value=f"{shortened(model.name, limit=tables.NAME_LIMIT)} ({size})"),
        _Fact(name="Target", value=shortened(data.target, limit=tables.NAME_LIMIT)),
        _Fact(
            name="Target rows",
            value="not known: the verdict names none" if verdict.target_rows is None else count(verdict.target_rows),
        ),
        _Fact(name="Test items", value=f"{count(data.items)}, judged by {shortened(data.metric, limit=60)}"),
        _Fact(name="Seeds", value=_seeds_read(data)),
        _Fact(name="Smallest effect that matters", value=score(verdict.smallest_effect)),
        _Fact(name="Speaks about", value=shortened(verdict.estimand, limit=tables.NAME_LIMIT)),
    ]
    if known(detectable):  # a staged study has none: how far it goes depends on what it finds
        facts.insert(-1, _Fact(name="Smallest effect this design detects", value=score(detectable)))
    return tuple(facts)


def _seeds_read(data: ReportData) -> str:
    """The seeds that the verdict stands on: of a staged study those that its looks have read, which differ by dose."""
    if data.stages is None:
        return count(data.seeds)
    read = [contrast.difference.n_seeds for contrast in data.verdict.contrasts if contrast.eval_set == "target"]
    fewest, most = min(read, default=data.seeds), max(read, default=data.seeds)
    words = count(most) if fewest == most else f"{count(fewest)} to {count(most)} a dose"
    return f"{words}, of at most {count(data.stages.ladder[-1])}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Staged:
    """How a staged study spent its runs, in words and drawn. `caution` is None where the ladder went to its end."""

    line: str
    figure: Figure | None
    table: Table
    aside: tuple[_Fact, ...]
    caution: str | None


def _staged(stages: Stages, verdict: Verdict) -> _Staged:
    lost = headline.level_lost(verdict)
    early = verdict.verdict == "mix" and headline.stopped_early(stages)
    return _Staged(
        line=headline.stages_line(stages, provisional=verdict.provisional, lost=lost),
        figure=ladder_figure(stages, smallest_effect=verdict.smallest_effect),
        table=look_table(stages),
        aside=tuple(
            _Fact(name=shortened(arm.arm, limit=tables.NAME_LIMIT), value=headline.aside_words(arm))
            for arm in stages.aside
        ),
        caution=headline.early_stop_caution(holds=not lost) if early else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worth:
    """A part of what a dose is worth: its table, or the one reason why nothing in it is known."""

    title: str
    words: str
    table: Table | None
    reason: str = ""


def _worth(data: ReportData) -> tuple[_Worth, ...]:
    """The parts that the study has rows for; where no row has a number, the reasons stand for the table."""
    delta = score(data.verdict.smallest_effect)
    parts = [
        (
            "What a dose is worth",
            "How many more target rows, without a dose, would have brought the same score. Negative: the dose costs as "
            "much as losing that many rows.",
            tables.exchange_table(data.exchange),
            [row.rows for row in data.exchange],
        ),
        (
            "Where a dose stops paying",
            f"The target size from which on a dose gains less than the smallest effect that matters ({delta}).",
            tables.threshold_table(data.thresholds),
            [row.target_rows for row in data.thresholds],
        ),
        (
            "Does the gain change with the target rows?",
            "The gain of a dose with each doubling of target rows, tested as one change. That a dose is firm at one "
            "size and open at another says nothing about a change. p is adjusted for all doses against the same "
            "baseline.",
            tables.change_table(data.changes, over="target_rows"),
            [value for row in data.changes for value in (row.change, row.p_adjusted)],
        ),
        (
            "A law for both",
            "One formula for target rows n and generalist rows g: score = e + c · (n + γ · g^α)^−β. It is quoted only "
            "where it predicts arms that it has not seen better than their neighbours do.",
            tables.law_table(data.laws),
            [row.error_law for row in data.laws],
        ),
        (
            "Does the gain depend on the skill?",
            "The gain of a dose over the fair baseline, compared between targets that need different skills, tested as "
            "one difference over all targets of this study.",
            tables.change_table(data.skills, over="skill"),
            [value for row in data.skills for value in (row.change, row.p_adjusted)],
        ),
    ]
    shown = []
    for title, words, table, values in parts:
        if not table.rows:
            continue
        if any(known(value) for value in values):
            shown.append(_Worth(title=title, words=words, table=table))
        else:
            shown.append(_Worth(title=title, words=words, table=None, reason="; ".join(table.notes[:3])))
    if not data.exchange:
        reason = data.exchange_reason or "the study gave no rate of exchange"
        shown.insert(0, _Worth(title="What a dose is worth", words="", table=None, reason=reason))
    return tuple(shown)


def _known_contrasts(data: ReportData) -> dict[str, Contrast]:
    """Of every arm on this page its contrast with the fair baseline, at all target sizes."""
    return contrasts_by_arm([data.verdict, *(v.verdict for v in data.other_verdicts if v.page is None)])


def _sizes(data: ReportData) -> Figure | None:
    curves = banded_by_contrasts([curve for curve in data.curves if curve.measure == "score"], _known_contrasts(data))
    return figures.size_response(sizes_by_contrasts(data.sizes, curves), data.lines)


def _responses(data: ReportData) -> tuple[_Response, ...]:
    responses = []
    known_contrasts = _known_contrasts(data)
    for measure in ("score", "graded"):
        curves = [curve for curve in data.curves if curve.measure == measure]
        if not curves and measure == "graded":
            continue
        name = data.metric if measure == "score" else data.graded or "graded score"
        # The contrasts are of the score that decides; of the other one there are none to draw.
        drawn = banded_by_contrasts(curves, known_contrasts if measure == "score" else {})
        figure = figures.dose_response(drawn, measure=measure)
        title = shortened(name, limit=tables.NAME_LIMIT)
        responses.append(_Response(title=title, figure=figure, table=tables.dose_table(curves)))
    return tuple(responses)


def _explorer(table: ItemTable) -> _Explorer:
    """The items with the largest gains and losses, as many as fit, by gain."""
    chosen: list[tuple[float, _ShownItem]] = []
    instruction = _shared_start([item.prompt for item in table.items])
    characters = 0
    for item in sorted(table.items, key=lambda item: (-abs(item.gain), item.key)):
        shown = _shown_item(item, instruction)
        characters += shown.characters
        if len(chosen) == MOST_ITEMS or characters > ITEM_CHARACTERS:
            break
        chosen.append((item.gain, shown))
    chosen.sort(key=lambda pair: -pair[0])
    return _Explorer(table=table, items=tuple(item for _, item in chosen), left_out=table.total - len(chosen))


def _shared_start(prompts: list[str]) -> int:
    """How many characters all prompts share at their start (the task's instruction), up to the end of a line or word.

    >>> _shared_start(["Name the team.\\n\\nNo invoice", "Name the team.\\n\\nNo signal"])
    16
    """
    if len(prompts) < 2:
        return 0
    first, last = min(prompts), max(prompts)  # the shared start of the extremes is that of all
    shared = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    start = first[:shared]
    cut = start.rfind("\n") + 1 or start.rfind(" ") + 1
    return cut if cut >= 12 and cut < len(first) else 0


def _shown_item(item: ItemComparison, instruction: int) -> _ShownItem:
    return _ShownItem(
        outcome="won" if item.gain > 0 else "lost" if item.gain < 0 else "even",
        gain=signed(item.gain),
        score_gain=signed(item.score_gain),
        snippet=shortened(item.prompt[instruction : instruction + SNIPPET_LIMIT], limit=SNIPPET_LIMIT),
        prompt=shortened(item.prompt, limit=PROMPT_LIMIT),
        references=tuple(shortened(text, limit=ANSWER_LIMIT) for text in item.references[:8]),
        columns=tuple(
            (shortened(arm.arm, limit=tables.NAME_LIMIT), _ROLE_WORDS[arm.role], _grouped(arm))
            for arm in sorted(item.answers, key=lambda arm: ("dosed", "matched", "plain").index(arm.role))
        ),
    )


_ROLE_WORDS = {"dosed": "with the dose", "matched": "matched baseline", "plain": "plain baseline"}


def _grouped(arm: ArmAnswers) -> tuple[_ShownAnswer, ...]:
    """Equal answers of several seeds once, with their seeds."""
    groups: dict[tuple[str, float | None, bool], list[SeedAnswer]] = {}
    for answer in arm.answers:
        groups.setdefault((answer.text, answer.score, answer.ended), []).append(answer)
    return tuple(_shown_answer(group) for group in groups.values())


def _shown_answer(group: list[SeedAnswer]) -> _ShownAnswer:
    first = group[0]
    value = first.score
    graded = [answer.graded for answer in group if known(answer.graded)]
    seeds = ", ".join(count(answer.seed) for answer in group)
    return _ShownAnswer(
        seeds=f"seed{'s' if len(group) > 1 else ''} {seeds}",
        text=shortened(first.text, limit=ANSWER_LIMIT),
        mark="not judged" if not known(value) else {1.0: "right", 0.0: "wrong"}.get(value, f"score {score(value)}"),
        graded=f"graded {score(sum(graded) / len(graded))}" if graded else "",
        ended=first.ended,
    )


def _facts(data: ReportData) -> tuple[_Fact, ...]:
    """Provenance as names and values."""
    provenance, model = data.provenance, data.provenance.model
    facts = [
        _Fact(name="Base model", value=model.name),
        _Fact(name="Model from", value=model.origin),
        _Fact(name="Model fingerprint", value=model.fingerprint),
        _Fact(name="Prompt template", value=model.template),
        _Fact(
            name="Parameters",
            value="not known: the model was not counted" if model.parameters is None else count(model.parameters),
        ),
        _Fact(name="Licence of the model", value=model.licence or "not known: the model's files name none"),
        _Fact(name="Seeds", value=", ".join(count(seed) for seed in _seeds_named(data))),
        _Fact(name="Times this test set was judged", value=count(data.times_judged)),
        _Fact(name="Titrant", value=provenance.titrant_version),
    ]
    if provenance.made is not None:
        facts.append(_Fact(name="Made", value=provenance.made))
    facts += [_Fact(name=f"Fingerprint: {name}", value=value) for name, value in provenance.fingerprints]
    facts += [_Fact(name="Numerics", value=_numerics_words(numerics)) for numerics in provenance.numerics[:20]]
    facts += [_Fact(name=name, value=value) for name, value in provenance.settings]
    return tuple(
        _Fact(name=shortened(fact.name, limit=tables.NAME_LIMIT), value=shortened(fact.value, limit=tables.TEXT_LIMIT))
        for fact in facts[:200]
    )


def _seeds_named(data: ReportData) -> tuple[int, ...]:
    """The seeds that were read: a staged study runs its seeds in order, as far as its last look."""
    seeds, stages = data.provenance.seeds, data.stages
    return seeds[: stages.looks[-1].seeds] if stages is not None and stages.looks else seeds


def _numerics_words(numerics: Numerics) -> str:
    compiled = "compiled" if numerics.compiled else "not compiled"
    versions = ", ".join(f"{name} {version}" for name, version in numerics.versions)
    threads = plural(numerics.threads, "thread")
    return f"{numerics.device}, {numerics.dtype}, {threads} a run, {compiled}, {numerics.isa}; {versions}"


# ------------------------------------------------------------------------------------------------------------ template


@cache
def _template() -> Template:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(_asset),
    )
    environment.filters.update(count=count, score=score, signed=signed, percent=percent, plural=plural, cut=_cut)
    environment.filters["drawn"] = _trusted
    return environment.get_template("page.html.j2")


def _finalized(value: Any) -> Any:
    """Every value on its way into the page: visible, bounded, and never the word None."""
    from markupsafe import Markup

    if isinstance(value, Markup):
        return value
    assert value is not None, "a value that may be unknown was not given words"
    return shortened(str(value), limit=VALUE_LIMIT) if len(str(value)) > VALUE_LIMIT else visible(str(value))


def _cut(text: str, limit: int = tables.TEXT_LIMIT) -> str:
    return shortened(text, limit=limit)


def _trusted(text: str) -> Any:
    """Markup of our own making (style sheet, script, drawings): not escaped again."""
    from markupsafe import Markup

    return Markup(text)


def _asset(name: str) -> str:
    return resources.files("titrant.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The hash by which the content security policy lets a style sheet or script run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
