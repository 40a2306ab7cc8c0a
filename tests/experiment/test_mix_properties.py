"""Whole studies of random rows: counts add up, doses nest, the order of files changes nothing, no leak is drawn."""

from __future__ import annotations

import itertools
import json
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fake_study import fake_prepare, write_study
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from titrant.config.study import load_study
from titrant.experiment.design import Design, make_design
from titrant.experiment.mix import write_mix
from titrant.experiment.prepare import prepare_study
from titrant.sampling import largest_remainder

LABELS = ("bird", "fish", "tree")
TEST = [f"Specimen {number} was found beside the old harbour wall in spring" for number in range(8)]


@st.composite
def studies(draw: st.DrawFn) -> dict[str, Any]:
    """Rows of a target, of two pools with rows that stand twice and rows that hold a test item, and what to draw."""
    pools = {}
    for name in ("one", "two"):
        numbers = draw(st.lists(st.integers(0, 30), min_size=12, max_size=30))
        leaks = draw(
            st.lists(st.tuples(st.sampled_from(TEST), st.sampled_from(["as is", "upper", "inside"])), max_size=3)
        )
        pools[name] = [{"prompt": f"Say number {n} of {name}.", "response": f"number {n}"} for n in numbers] + [
            {"prompt": "Look.", "response": _hidden(text, how)} for text, how in leaks
        ]
    return {
        "pools": pools,
        "labels": draw(
            st.lists(st.sampled_from(LABELS), min_size=9, max_size=20).filter(lambda said: len(set(said)) == 3)
        ),
        "doses": sorted(draw(st.sets(st.integers(1, 12), min_size=2, max_size=3))),
        "tokens": draw(st.integers(120, 500)),
        "total": draw(st.integers(1, 12)),
        "shares": {"one": draw(st.integers(1, 5)), "two": draw(st.integers(1, 5))},
        "stratify": draw(st.sampled_from(["none", "label"])),
        "presentation": draw(st.sampled_from(["joint", "generalist_first"])),
    }


def _hidden(text: str, how: str) -> str:
    return {"as is": text, "upper": text.upper(), "inside": f"It is said that {text}, and more was written."}[how]


def designed(folder: Path, said: dict[str, Any], *, order: random.Random | None = None) -> Design:
    path = write_study(
        folder,
        rows=False,
        generalist={name: {"rows": f"{name}.jsonl"} for name in said["pools"]},
        arms={
            "target_rows": [5, 8],
            "doses": {"one": [*said["doses"], {"tokens": said["tokens"]}], "two": said["doses"]},
            "blends": [{"total": said["total"], "shares": said["shares"]}],
            "seeds": 2,
            "stratify": said["stratify"],
        },
        presentation=said["presentation"],
        retention=None,
    )
    train = [{"text": f"thing number {n} of its sort", "label": label} for n, label in enumerate(said["labels"])]
    test = [{"text": text, "label": LABELS[n % 3]} for n, text in enumerate(TEST)]
    for name, rows in {"train": train, "test": test, **said["pools"]}.items():
        rows = list(rows)
        if order is not None:
            order.shuffle(rows)
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return make_design(prepare_study(load_study(path)))


def texts_of(design: Design, folder: Path) -> dict[tuple[str, int], Counter[str]]:
    """The rows that every arm writes at every seed, by their source and text."""
    found = {}
    for planned in design.runs:
        if planned.plan is not None:
            written = write_mix(planned, folder / "mix.jsonl", prepared=design.prepared)
            rows = [json.loads(line) for line in written.path.read_text().splitlines()]
            said = Counter(f"{row['source']}: {json.dumps(row['messages'])}" for row in rows)
            found[(planned.run.arm.name, planned.run.seed)] = said
    return found


@given(studies(), st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_drawn_adds_up_nests_and_holds_no_test_item_whatever_the_files_order(
    said: dict[str, Any], order: random.Random
) -> None:
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        folder = Path(place)
        patch.setattr("titrant.experiment.prepare.prepare", fake_prepare(folder / "prepared"))
        patch.setattr("os.fsync", lambda _: None)
        design = designed(folder / "study", said)
        drawn = texts_of(design, folder)
        for planned in design.runs:
            arm = planned.run.arm
            for entry in planned.run.draws:
                assert entry.asked == entry.got
            if planned.plan is not None:
                assert drawn[(arm.name, planned.run.seed)].total() == arm.target_rows + arm.dose_rows
                assert sum(entry.visits for entry in planned.run.draws) == sum(map(len, planned.plan.steps))
            if arm.presentation == "generalist_first" and arm.doses and arm.target_rows and arm.visits is None:
                sources = [planned.plan.rows[index].source for step in planned.plan.steps for index in step]
                assert set(sources[sources.index("toy") :]) == {"toy"}
        blends = [arm for arm in design.arms if len(arm.doses) == 2 and arm.target_rows]
        for arm in blends:
            assert {dose.source: dose.rows for dose in arm.doses} == largest_remainder(said["total"], said["shares"])
        for seed in (0, 1):
            chains = [[f"5+{name}:{dose}" for dose in said["doses"]] for name in ("one", "two")]
            for chain in [*chains, ["5", "8"]]:
                for smaller, larger in itertools.pairwise(chain):
                    assert drawn[(smaller, seed)] <= drawn[(larger, seed)]
        everything = "\n".join(text for rows in drawn.values() for text in rows).casefold()
        assert not any(text.casefold() in everything for text in TEST)
        assert texts_of(designed(folder / "other", said, order=order), folder) == drawn
