"""`run`, `report` and `export`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from titrant.api import finish, run_study
from titrant.cli.output import print_json
from titrant.config.study import Study
from titrant.core.budget import parse_budget
from titrant.core.errors import SpecError
from titrant.experiment.progress import LineReporter, TerminalReporter
from titrant.experiment.publish import copy_whole
from titrant.experiment.results import Judged, Results, verdict_object
from titrant.experiment.runner import stored_design
from titrant.storage.store import Store


def out_folder(study: Study, out: Path | None) -> Path:
    """Where everything goes: beside the current folder unless the user said."""
    return out if out is not None else Path("titrations") / study.name


def run_and_print(
    study: Study, *, out: Path | None, jobs: int | Literal["auto"], budget: str | None, as_json: bool
) -> int:
    """Run the study; the exit code."""
    limit = None if budget is None else parse_budget(budget)
    reporter = _reporter()
    root = out_folder(study, out)
    try:
        results = run_study(study, out=root, jobs=jobs, reporter=reporter, budget=limit)
    finally:
        reporter.close()
    return _print_results(results, root, as_json=as_json)


def report_and_print(study: Study, *, out: Path | None, as_json: bool) -> int:
    """Judge and report what is stored; the exit code."""
    root = out_folder(study, out)
    if not (root / "store.json").is_file():
        raise SpecError("there are no results here", where=str(root), fix=f"titrant run {study.place}")
    reporter = _reporter()
    design, store = stored_design(study, out=root, reporter=reporter)
    return _print_results(finish(design, store, reporter=reporter), root, as_json=as_json)


def export_model(study: Study, *, to: Path, arm: str | None, seed: int | None, out: Path | None) -> None:
    """Copy the recommended model, or train another arm's weights again and put them at `to`."""
    from titrant.api import export_arm

    root = out_folder(study, out)
    if not (root / "store.json").is_file():
        raise SpecError("there are no results here", where=str(root), fix=f"titrant run {study.place}")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise SpecError("the folder is not empty", where=str(to), fix="name a new folder")
    model = root / "model"
    copied = False
    if arm is None and seed is None:
        with Store.open(root).locked("results"):  # a run that ends now may put another model in its place
            if (model / "titrant.json").is_file():
                copy_whole(model, to)
                copied = True
    if not copied:
        reporter = _reporter()
        try:
            export_arm(study, out=root, to=to, arm=arm, seed=seed, reporter=reporter)
        finally:
            reporter.close()
    print(f"{to}: the model in Hugging Face format, with its card (README.md)")


def _reporter() -> LineReporter | TerminalReporter:
    """Bars in a terminal; in a pipe or a file plain lines, since whoever runs a command there reads its log."""
    return TerminalReporter() if sys.stderr.isatty() else LineReporter()


def _print_results(results: Results, root: Path, *, as_json: bool) -> int:
    if as_json:
        print_json(verdict_object(results))
    else:
        for judged in results.judged:
            for line in verdict_lines(results, judged):
                print(line)
        print(f"report: {root / 'report.html'}")
        if (root / "model").is_dir():
            print(f"model:  {root / 'model'}")
    return 1 if results.failed else 0


def _worth_of_arm(judged: Judged) -> list[str]:
    """What the recommended dose is worth at its target size, and where it stops paying; against the fair curve."""
    rates = [found for found in judged.worth.rates if found.arm == judged.verdict.arm and found.rate.step != "none"]
    if not rates:
        return []
    first = rates[0]
    dose = (first.source, first.rate.dose_rows, first.rate.against)
    sizes = [found for found in judged.worth.thresholds if (found.source, found.size.dose_rows, found.against) == dose]
    return [first.rate.sentence, *(found.size.sentence for found in sizes)]


def verdict_lines(results: Results, judged: Judged) -> list[str]:
    """The verdict as a person reads it on a terminal."""
    verdict = judged.verdict
    lines = []
    if len(results.judged) > 1:
        lines.append(f"{judged.model} · {judged.target}")
    provisional = f" (provisional: {'; '.join(verdict.provisional_reasons)})" if verdict.provisional else ""
    lines.append(f"verdict: {verdict.verdict.replace('_', ' ')}{provisional}")
    lines.append(verdict.sentence)
    lines += [f"worth: {sentence}" for sentence in _worth_of_arm(judged)]
    lines += [f"note: {note}" for note in verdict.notes]
    if verdict.next_step is not None and verdict.next_step.sentence not in verdict.sentence:
        lines.append(verdict.next_step.sentence)
    if results.failed:
        lines.append(f"failed: {len(results.failed)} runs have no scores; the report names them")
    if results.times_judged > 1:
        lines.append(f"note: these test items have now been judged {results.times_judged} times")
    return lines
