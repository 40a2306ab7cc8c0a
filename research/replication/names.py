"""The names under which scores are kept: those of the store's first format, which named a run by what it was asked too.

345 score tables were kept under these names before trainings and answers were told apart. They are evidence that took
days, so the names stay as they were; a kept name still follows from the study alone, on any machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from titrant.core.identity import fingerprint
from titrant.core.records import Item
from titrant.core.revisions import revisions_of
from titrant.experiment.design import PlannedRun
from titrant.experiment.prepare import PreparedStudy
from titrant.scoring.sheets import prior_key

_FIRST_FORMAT = {"identity": 1}


class KeptNames:
    """The kept names of a prepared study's runs; what runs of one target are asked is hashed once."""

    def __init__(self, prepared: PreparedStudy) -> None:
        self._prepared = prepared
        self._asked: dict[tuple[str, str], str] = {}

    def of(self, planned: PlannedRun) -> str:
        """The name of a run by its training and by what it is asked, in the ids of its model."""
        arm = planned.run.arm
        content = {
            "revisions": kept_revisions(writes=bool(planned.requests.prompts)),
            "model": self._prepared.models[arm.model].model.fingerprint,
            "asked": self._asked_digest(arm.model, arm.target),
            "training": planned.training_digest,
        }
        return fingerprint(content)[:24]

    def _asked_digest(self, model: str, target: str) -> str:
        if (model, target) not in self._asked:
            targets = [target] if target else list(self._prepared.study.targets)
            renderer = self._prepared.models[model].renderer
            distinct: dict[str, Item] = {}
            for item in self._prepared.items(model, targets):
                distinct.setdefault(item.key, item)
            items = tuple(distinct.values())
            priors = {
                prior_key(item): replace(item, key=prior_key(item), turns=item.prior_turns)
                for item in items
                if item.prior_turns is not None
            }
            asked = [*(item for item in items if item.answer == "choices"), *(priors[key] for key in sorted(priors))]
            questions = [renderer.question(item) for item in asked]
            prompts = [renderer.generation(item) for item in items if item.answer == "text"]
            losses = [renderer.reference_row(item) for item in items if item.answer == "loss"]
            self._asked[(model, target)] = fingerprint(
                [
                    [[question.prompt, question.choices] for question in questions],
                    [[prompt.ids, prompt.max_new_tokens, prompt.end_ids] for prompt in prompts],
                    [[row.ids, row.loss_from] for row in losses],
                    [question.key for question in questions],
                ]
            )
        return self._asked[(model, target)]


def kept_revisions(*, writes: bool) -> Mapping[str, int]:
    """The numbers of the code that bears on a run's scores; the format of names is none of them."""
    return {**revisions_of(writes=writes), **_FIRST_FORMAT}
