"""What the package does for those who call it, with the house's own report: every door opens here.

`experiment` knows the order of things and is handed how results are shown; this module hands it over.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from titrant.config.study import Study
from titrant.engines import BackendSpec
from titrant.experiment import runner
from titrant.experiment.design import Design
from titrant.experiment.results import Results
from titrant.experiment.runner import Watcher
from titrant.report.presenter import StudyPresenter
from titrant.storage.store import Store


def run_study(
    study: Study,
    *,
    out: Path,
    jobs: int | Literal["auto"] = "auto",
    backend: BackendSpec | None = None,
    watcher: Watcher | None = None,
) -> Results:
    """Run what is not done, then judge, report and keep the model. The same study again changes nothing."""
    return runner.run_study(study, out=out, presenter=StudyPresenter(), jobs=jobs, backend=backend, watcher=watcher)


def finish(design: Design, store: Store, *, watcher: Watcher | None = None) -> Results:
    """Score, judge and report what is stored; trains nothing."""
    return runner.finish(design, store, presenter=StudyPresenter(), watcher=watcher)


def export_arm(
    study: Study, *, out: Path, to: Path, arm: str | None, seed: int | None, watcher: Watcher | None = None
) -> None:
    """Put an arm's model at `to`, trained again to the same bits where its weights were not kept."""
    runner.export_arm(study, out=out, to=to, presenter=StudyPresenter(), arm=arm, seed=seed, watcher=watcher)
