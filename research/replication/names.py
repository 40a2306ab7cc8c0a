"""The names under which scores are kept: those of the store's first format, which named a run by what it was asked too.

345 score tables were kept under these names before trainings and answers were told apart. They are evidence that took
days, so the names stay as they were; a kept name still follows from the study alone, on any machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import titrant

_FIRST_FORMAT = {"identity": 1}
_WITHOUT_SUBJECT = "prior:"  # how the key of a question begins that is asked without its subject


class KeptNames:
    """The kept names of a grid's runs; what runs of one target are asked is hashed once."""

    def __init__(self, grid: titrant.Grid) -> None:
        self._fingerprints = {name: model.fingerprint for name, model in grid.models.items()}
        self._asked: dict[tuple[str, str], str] = {}

    def of(self, planned: titrant.PlannedRun) -> str:
        """The name of a run by its training and by what it is asked, in the ids of its model."""
        arm = planned.run.arm
        if (arm.model, arm.target) not in self._asked:
            self._asked[(arm.model, arm.target)] = _asked_digest(planned)
        content = {
            "revisions": kept_revisions(writes=bool(planned.requests.prompts)),
            "model": self._fingerprints[arm.model],
            "asked": self._asked[(arm.model, arm.target)],
            "training": planned.training_digest,
        }
        return _digest(content)[:24]


def _asked_digest(planned: titrant.PlannedRun) -> str:
    """A hash of what is asked: items in the order of their files, then the questions without a subject by their keys,
    as the first format had them. Requests know that order; they themselves are in another."""
    requests = planned.requests
    by_item = requests.by_item.items()
    question = {one.key: one for one in requests.questions}
    prompt = {one.key: one for one in requests.prompts}
    loss = {one.key: one for one in requests.losses}
    asked = [(item, question[name]) for item, name in by_item if name in question]
    asked.sort(key=lambda pair: (True, pair[0]) if pair[0].startswith(_WITHOUT_SUBJECT) else (False, ""))
    prompts = [prompt[name] for _, name in by_item if name in prompt]
    losses = [loss[name] for _, name in by_item if name in loss]
    return _digest(
        [
            [[one.prompt, one.choices] for _, one in asked],
            [[one.ids, one.max_new_tokens, one.end_ids] for one in prompts],
            [[one.ids, one.loss_from] for one in losses],
            [item for item, _ in asked],
        ]
    )


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def kept_revisions(*, writes: bool) -> Mapping[str, int]:
    """The numbers of the code that bears on a run's scores; the format of names is none of them."""
    return {**titrant.revisions_of(writes=writes), **_FIRST_FORMAT}
