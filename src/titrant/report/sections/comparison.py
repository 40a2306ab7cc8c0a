"""The items that a dose wins and loses, with the answers of all seeds side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from titrant.core.records import Arm
from titrant.report.data import (
    ArmAnswers,
    ArmRole,
    ItemComparison,
    ItemTable,
    SeedAnswer,
)
from titrant.report.sections.answers import NOT_WRITTEN, AnswerReader
from titrant.report.sections.view import View
from titrant.scoring.sheets import GRADED
from titrant.stats.table import ScoreTable

MOST_ITEMS = 400


def item_comparison(view: View) -> tuple[ItemTable | None, str | None]:
    """The items that the shown dose won and lost against the fair baseline, with all seeds' answers."""
    arm = view.shown
    if arm is None:
        return None, "the study has no arm with a dose"
    fair, plain = view.fair(arm.target_rows), view.plain(arm.target_rows)
    if fair is None or plain is None:
        return None, "there is no baseline at the verdict's target size"
    trio: dict[ArmRole, Arm] = {"dosed": arm}
    trio |= {"matched": fair} if fair is not plain else {}
    trio["plain"] = plain
    scores, graded = view.tables[view.judged.metric], view.tables[GRADED]
    wanted = (arm.name, fair.name)
    if scores is None or any(name not in view.means[view.judged.metric] for name in wanted):
        return None, view.missing(arm)
    score_gain = _item_gains(scores, *wanted)
    gain = score_gain if graded is None else _item_gains(graded, *wanted)
    if not score_gain:
        return None, "no seed at which both arms ran"
    gain = score_gain | {key: value for key, value in gain.items() if key in score_gain}
    chosen = sorted(gain, key=lambda key: (-abs(gain[key]), key))[:MOST_ITEMS]
    chosen.sort(key=lambda key: (-gain[key], key))
    answers = _side_by_side(view, trio, chosen)
    items = {item.key: item for item in view.data.test}
    return (
        ItemTable(
            arm=arm.name,
            baseline=fair.name,
            total=len(gain),
            won=sum(value > 0 for value in gain.values()),
            lost=sum(value < 0 for value in gain.values()),
            items=tuple(
                ItemComparison(
                    key=key,
                    prompt=items[key].turns[-1].text,
                    references=items[key].references,
                    gain=gain[key],
                    score_gain=score_gain[key],
                    answers=answers[key],
                )
                for key in chosen
            ),
        ),
        None,
    )


def _item_gains(table: ScoreTable, arm: str, baseline: str) -> dict[str, float]:
    """The gain of every item, mean over the seeds that both arms have; items without a score are left out."""
    index = {found.name: number for number, found in enumerate(table.arms)}
    if arm not in index or baseline not in index:
        return {}
    present_SI = table.present_ASI[index[arm]] & table.present_ASI[index[baseline]]
    difference_SI = np.where(present_SI, table.values_ASI[index[arm]] - table.values_ASI[index[baseline]], 0.0)
    count_I = present_SI.sum(0)
    mean_I = difference_SI.sum(0) / np.maximum(count_I, 1)
    return {key: float(mean_I[place]) for place, key in enumerate(table.items) if count_I[place]}


def _side_by_side(view: View, trio: Mapping[ArmRole, Arm], keys: Iterable[str]) -> dict[str, tuple[ArmAnswers, ...]]:
    reading = AnswerReader(view)
    place = {item.key: number for number, item in enumerate(reading.items)}
    wanted = [(key, place[key], reading.items[place[key]]) for key in keys]
    found: dict[str, list[ArmAnswers]] = {key: [] for key, _, _ in wanted}
    scores = [_cells_of(view.tables[name]) for name in (view.judged.metric, GRADED)]
    for role, arm in trio.items():
        by_item: dict[str, list[SeedAnswer]] = {key: [] for key, _, _ in wanted}
        for planned in view.runs[arm.name]:
            answers = reading.read(planned)
            seed = planned.run.seed
            for key, at, item in wanted:
                written = None if answers.text is None else answers.text[at]
                text = item.choices[int(answers.choice_I[at])] if item.answer == "choices" and item.choices else written
                score, graded = (cell(arm.name, seed, key) for cell in scores)
                if item.answer == "loss":
                    text = NOT_WRITTEN
                ended = bool(answers.ended_I[at])
                by_item[key].append(SeedAnswer(seed=seed, text=text or "", score=score, graded=graded, ended=ended))
        for key, said in by_item.items():
            found[key].append(ArmAnswers(arm=arm.name, role=role, answers=tuple(said)))
    return {key: tuple(arms) for key, arms in found.items()}


def _cells_of(table: ScoreTable | None) -> Any:
    """A function from (arm, seed, item) to the score there, None where there is none."""
    if table is None:
        return lambda arm, seed, item: None
    arms = {found.name: number for number, found in enumerate(table.arms)}
    seeds = {name: number for number, name in enumerate(table.seeds)}
    items = {name: number for number, name in enumerate(table.items)}

    def cell(arm: str, seed: int, item: str) -> float | None:
        if arm not in arms or str(seed) not in seeds or item not in items:
            return None
        at = (arms[arm], seeds[str(seed)], items[item])
        return float(table.values_ASI[at]) if table.present_ASI[at] else None

    return cell
