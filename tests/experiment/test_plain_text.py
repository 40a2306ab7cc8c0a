"""Plain text as a source: loss on every token, doses in rows or tokens, from the file to the mix and the verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from titrant.experiment.mix import find_run, write_mix
from titrant.sampling import draw_order

WORDS = ("river", "stone", "paper", "window", "garden", "engine", "winter", "silver")


def write_web(folder: Path) -> None:
    """Thirty texts of different lengths, one of which holds a test item among other words."""
    texts = [
        " ".join(WORDS[(number * 3 + place) % 8] + str(number) for place in range(4 + number % 9))
        for number in range(30)
    ]
    texts[7] = f"Before it. thing number 25 of its sort, and so on. {texts[7]}"
    (folder / "web.jsonl").write_text("".join(json.dumps({"body": text}) + "\n" for text in texts))


@pytest.fixture
def study(make_study: Callable[..., Any]) -> Any:
    return make_study(
        also=write_web,
        generalist={
            "web": {"text": "web.jsonl", "columns": {"text": "body"}},
            "general": {"rows": "general.jsonl"},
        },
        arms={
            "target_rows": [6],
            "doses": {"web": [4, {"tokens": 700}], "general": [4]},
            "blends": [{"total": 7, "shares": {"web": 2, "general": 1}}],
            "seeds": 2,
        },
        contamination={"ngram": 5},
    )


def test_every_token_of_a_text_bears_loss_but_the_first(study: Any) -> None:
    prepared = study.prepared.models["toy-model"]
    rows = [row for (source, _), row in prepared.rows.items() if source == "web"]
    assert len(rows) == 29
    assert all(row.loss_from == 1 for row in rows)
    planned = study.design.cell(next(arm for arm in study.design.arms if arm.name == "6+web:4"), 0)
    (draw,) = [draw for draw in planned.run.draws if draw.source == "web"]
    assert (draw.asked, draw.got, draw.repeated) == (4, 4, 0)
    assert draw.loss_tokens == draw.tokens - draw.visits


def test_a_dose_in_tokens_is_the_longest_prefix_that_stays_within_them_at_every_seed(study: Any) -> None:
    prepared = study.prepared.models["toy-model"]
    (arm,) = [arm for arm in study.design.arms if arm.target_rows and any(dose.asked_tokens for dose in arm.doses)]
    rows = arm.doses[0].rows

    def tokens(seed: int, count: int) -> int:
        order = draw_order(prepared.pools["web"].rows, seed=seed, source="web")[:count]
        return sum(len(prepared.rows[("web", row.key)].ids) for row in order)

    assert rows > 4
    assert max(tokens(seed, rows) for seed in (0, 1)) <= 700 < max(tokens(seed, rows + 1) for seed in (0, 1))
    for seed in (0, 1):
        draws = study.design.cell(arm, seed).run.draws
        assert [draw.tokens for draw in draws if draw.source == "web"] == [tokens(seed, rows)]


def test_a_text_that_holds_a_test_item_is_taken_out_and_counted(study: Any) -> None:
    assert [(entry.pool, entry.rows) for entry in study.prepared.removed] == [("web", 1)]
    assert not any("thing number 25" in row.answer for row in study.prepared.models["toy-model"].pools["web"].rows)


def test_the_study_ends_in_a_verdict_and_its_mix_holds_the_text_as_text(study: Any, tmp_path: Path) -> None:
    assert study.results.judged[0].verdict.sentence
    planned = find_run(study.design, target_rows=6, doses={"general": 2, "web": 5}, seed=1, target=None, model=None)
    written = write_mix(planned, tmp_path / "arm.jsonl", prepared=study.prepared)
    rows = [json.loads(line) for line in written.path.read_text().splitlines()]
    assert [sorted(set(row) - {"source", "id"}) for row in rows if row["source"] == "web"] == [["text"]] * 5
    assert {draw["source"]: (draw["asked"], draw["got"]) for draw in written.facts["sources"]} == {
        "toy": (6, 6),
        "web": (5, 5),
        "general": (2, 2),
    }


def test_repeats_are_counted(make_study: Callable[..., Any]) -> None:
    study = make_study(
        generalist={"general": {"rows": "general.jsonl", "repeats": 2}},
        arms={"target_rows": [6], "doses": {"general": [20]}, "seeds": 1},
    )
    planned = study.design.cell(next(arm for arm in study.design.arms if arm.name == "6+general:20"), 0)
    (draw,) = [draw for draw in planned.run.draws if draw.source == "general"]
    assert (draw.got, draw.repeated, draw.visits) == (20, 4, 20)
