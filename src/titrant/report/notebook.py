"""Results as a notebook shows them: the verdict, its sentence and the dose curve, without a style of anyone else's."""

from __future__ import annotations

from functools import cache
from html import escape
from importlib import resources

from titrant.core.records import Verdict
from titrant.experiment.results import Results
from titrant.report import figures
from titrant.report.forest import banded_by_contrasts, contrasts_by_arm
from titrant.report.page import VERDICT_WORDS
from titrant.report.sections.page import report_data
from titrant.report.wording import shortened, visible
from titrant.storage.store import Store

_SENTENCE_LIMIT = 2_000


def results_html(results: Results, store: Store) -> str:
    """The study's first verdict with its figure, and the words of the others."""
    data = report_data(results, store)
    known_contrasts = contrasts_by_arm([data.verdict, *(v.verdict for v in data.other_verdicts if v.page is None)])
    figure = figures.dose_response(banded_by_contrasts(data.curves, known_contrasts), measure="score")
    panels = () if figure is None else figure.panels
    drawn = "".join(f'<div style="flex:1 1 20rem;max-width:30rem">{panel.svg}</div>' for panel in panels)
    others = "".join(
        f"<li>{escape(shortened(other.name, limit=200))}: {VERDICT_WORDS[other.verdict.verdict]}</li>"
        for other in data.other_verdicts
    )
    return (
        f'<div class="titrant-results" style="{_colours()};background:var(--card);color:var(--ink);padding:1rem">'
        f"{verdict_html(data.verdict)}"
        f'<div style="display:flex;flex-wrap:wrap;gap:1rem">{drawn}</div>'
        f"{f'<ul>{others}</ul>' if others else ''}</div>"
    )


def verdict_html(verdict: Verdict) -> str:
    """A verdict in words. What a study calls its pools is text and nothing else."""
    provisional = ", provisional" if verdict.provisional else ""
    sentence = escape(shortened(visible(verdict.sentence), limit=_SENTENCE_LIMIT))
    return f"<p><strong>{VERDICT_WORDS[verdict.verdict]}</strong>{provisional}</p><p>{sentence}</p>"


@cache
def _colours() -> str:
    """The page's colours as variables: drawings name them, and a notebook has no style sheet of ours."""
    sheet = resources.files("titrant.report").joinpath("page.css").read_text(encoding="utf-8")
    first = sheet[sheet.index("{") + 1 : sheet.index("}")]
    return ";".join(part.strip() for part in first.split(";") if part.strip().startswith("--"))
