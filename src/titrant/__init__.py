"""Titrant: how much generalist instruction data should a specialist be trained with?

    study = titrant.load_study("study.yaml")
    results = titrant.run(study, out="out")
    results.verdict.word

The public names below are imported when they are first used, so that `import titrant` and `titrant --help` are quick:
numpy, pyarrow and torch are loaded by what needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from titrant.api import contrast, grid, judge, mix, next_runs, plan, run, score
    from titrant.config.study import Study, load_study
    from titrant.core.errors import TitrantError, UserError
    from titrant.core.records import Item, TrainingSettings, Verdict
    from titrant.core.revisions import revisions_of
    from titrant.decision.staged import NextRuns
    from titrant.engines import Event, LocalEngine
    from titrant.experiment.design import PlannedRun
    from titrant.experiment.grid import Grid, RunLog
    from titrant.experiment.mix import Mix
    from titrant.experiment.plan import Plan
    from titrant.experiment.runner import Reporter
    from titrant.logs.evaluators import read_logs
    from titrant.report.study_results import StudyResults
    from titrant.scoring.metrics import ScoreReport
    from titrant.stats.effects import Difference
    from titrant.tasks.collection import TaskInstance

__version__ = "0.1.0"

# One line a public name: where it lives. The imports above say the same to editors and type checkers; a test holds the
# two together.
_HOMES = {
    "Difference": "titrant.stats.effects",
    "Event": "titrant.engines",
    "Grid": "titrant.experiment.grid",
    "Item": "titrant.core.records",
    "LocalEngine": "titrant.engines",
    "Mix": "titrant.experiment.mix",
    "NextRuns": "titrant.decision.staged",
    "Plan": "titrant.experiment.plan",
    "PlannedRun": "titrant.experiment.design",
    "Reporter": "titrant.experiment.runner",
    "RunLog": "titrant.experiment.grid",
    "ScoreReport": "titrant.scoring.metrics",
    "Study": "titrant.config.study",
    "StudyResults": "titrant.report.study_results",
    "TaskInstance": "titrant.tasks.collection",
    "TitrantError": "titrant.core.errors",
    "TrainingSettings": "titrant.core.records",
    "UserError": "titrant.core.errors",
    "Verdict": "titrant.core.records",
    "contrast": "titrant.api",
    "grid": "titrant.api",
    "judge": "titrant.api",
    "load_study": "titrant.config.study",
    "mix": "titrant.api",
    "next_runs": "titrant.api",
    "plan": "titrant.api",
    "read_logs": "titrant.logs.evaluators",
    "revisions_of": "titrant.core.revisions",
    "run": "titrant.api",
    "score": "titrant.api",
}

__all__ = [
    "Difference",
    "Event",
    "Grid",
    "Item",
    "LocalEngine",
    "Mix",
    "NextRuns",
    "Plan",
    "PlannedRun",
    "Reporter",
    "RunLog",
    "ScoreReport",
    "Study",
    "StudyResults",
    "TaskInstance",
    "TitrantError",
    "TrainingSettings",
    "UserError",
    "Verdict",
    "__version__",
    "contrast",
    "grid",
    "judge",
    "load_study",
    "mix",
    "next_runs",
    "plan",
    "read_logs",
    "revisions_of",
    "run",
    "score",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'titrant' has no attribute {name!r}")
    found = getattr(importlib.import_module(home), name)
    globals()[name] = found  # looked up once
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
