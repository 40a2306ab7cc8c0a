"""What a study shows of its results: the report and the card of the model, as `experiment` asks for them."""

from __future__ import annotations

from titrant.experiment.design import PlannedRun
from titrant.experiment.results import Judged, Results
from titrant.report import page
from titrant.report.model_card import model_card
from titrant.report.sections.page import report_data
from titrant.storage.store import Store


class StudyPresenter:
    """Titrant's own report and card; `experiment.runner.Presenter` says what is asked of one."""

    def page(self, results: Results, store: Store, judged: Judged) -> str:
        """The report on one model and target: an HTML page that needs no network."""
        return page.render(report_data(results, store, judged=judged))

    def card(self, planned: PlannedRun, judged: Judged, results: Results) -> str:
        """The model card: the mix, the evidence, the licences."""
        return model_card(planned, judged, results)
