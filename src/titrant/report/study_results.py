"""What `titrant.run` hands back: a study's results as a person at a prompt or in a notebook wants them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from titrant.core.errors import SpecError
from titrant.core.records import Verdict
from titrant.experiment.results import Results, scores_parquet
from titrant.report.notebook import results_html
from titrant.report.presenter import StudyPresenter
from titrant.storage.atomic import write_bytes
from titrant.storage.store import Store

if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True)
class StudyResults:
    """The results of a study that has been run. A notebook shows the verdict with its figure.

    `out` is the folder with everything that came out: `verdict.json`, `report.html`, `scores.parquet`, `runs/`, and
    `model/` where weights are kept.
    """

    results: Results
    store: Store

    @property
    def out(self) -> Path:
        return self.store.root

    @property
    def verdict(self) -> Verdict:
        """The verdict on the study's first model and target: `.word`, `.sentence`, `.arm`, `.contrasts` …"""
        return self.results.judged[0].verdict

    @property
    def verdicts(self) -> Mapping[tuple[str, str], Verdict]:
        """Every verdict by (model, target)."""
        return {(judged.model, judged.target): judged.verdict for judged in self.results.judged}

    @cached_property
    def scores(self) -> pyarrow.Table:
        """Every score, one a row: the columns of scores.parquet (docs/python.md names them).

        `value` is 0 to 1, null with a `reason` where there is none. Names are dictionary columns. `.to_pandas()` makes
        a DataFrame where pandas is installed.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        return pq.read_table(pa.BufferReader(scores_parquet(self.results.scores)))

    @property
    def failed(self) -> tuple[str, ...]:
        """The runs without scores, as `arm seed N: why`; empty where all went well."""
        return tuple(f"{cell.arm.name} seed {cell.seed}: {cell.failure.message}" for cell in self.results.failed)

    @property
    def model(self) -> Path | None:
        """The folder of the model that is handed over, in Hugging Face format; None where no weights are kept."""
        folder = self.out / "model"
        return folder if folder.is_dir() else None

    def write_report(self, path: str | Path, *, model: str | None = None, target: str | None = None) -> Path:
        """Write the report, one HTML file that needs no network, to `path`; returns it.

        It is on the study's first model and target, or on those that are named. `ValueError` where none was judged.
        """
        judged = next(
            (one for one in self.results.judged if model in (None, one.model) and target in (None, one.target)), None
        )
        if judged is None:
            there = ", ".join(f"{one.model} on {one.target}" for one in self.results.judged)
            raise SpecError("no such model and target", got=f"{model} on {target}", expected=f"one of {there}")
        page = StudyPresenter().page(self.results, self.store, judged)
        write_bytes(Path(path), page.encode("utf-8", "replace"))
        return Path(path)

    def __repr__(self) -> str:
        lines = [f"{self.results.design.prepared.study.name}: {self.verdict}"]
        lines += [f"{model} · {target}: {verdict}" for (model, target), verdict in list(self.verdicts.items())[1:]]
        lines += [f"failed: {line}" for line in self.failed]
        return "\n".join([*lines, f"report: {self.out / 'report.html'}"])

    def _repr_html_(self) -> Any:
        return results_html(self.results, self.store)
