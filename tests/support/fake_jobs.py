"""Runs for the tests of engines."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fake_study import TrialBackend, toy_model

from titrant.core.identity import fingerprint
from titrant.core.records import (
    Arm,
    Numerics,
    Run,
    TokenPrompt,
    TokenQuestion,
    TokenRow,
    TrainingPlan,
    TrainingSettings,
)
from titrant.engines import RunJob

NUMERICS = Numerics(device="cpu", dtype="fp32", threads=1, compiled=False, isa="generic", versions=())
ROWS = tuple(TokenRow(key=f"k{n}", source="task", ids=(1, 2, 3 + n), loss_from=1) for n in range(6))
STEPS = ((0, 1), (2, 3), (4, 5), (0, 5))


def make_jobs(folder: Path, *, seeds: int = 3, keep_weights: bool = False) -> list[RunJob]:
    """The untuned model, and an arm of four steps at each seed, asked in all three ways."""
    model = toy_model(folder / "prepared")
    jobs = []
    for seed in range(-1, seeds):
        plan = None
        if seed >= 0:
            plan = TrainingPlan(model=model, rows=ROWS, steps=STEPS, settings=TrainingSettings(), seed=seed)
        arm = Arm(
            name="6" if plan else "untuned",
            model="toy",
            target="task" if plan else "",
            target_rows=6 if plan else 0,
            doses=(),
            training=TrainingSettings(),
        )
        run_id = fingerprint(["run", seed])[:24]
        run = Run(
            run_id=run_id,
            recipe_id=run_id,
            arm=arm,
            seed=max(seed, 0),
            draws=(),
            steps=len(STEPS) if plan else 0,
            tokens=0,
            loss_tokens=0,
            numerics=NUMERICS,
            backend="fake",
        )
        jobs.append(
            RunJob(
                run=run,
                model=model,
                plan=plan,
                questions=tuple(TokenQuestion(key=f"q{n}", prompt=(1, n), choices=((3,), (4, 5))) for n in range(5)),
                prompts=(TokenPrompt(key="p", ids=(70, 71, 72), max_new_tokens=2, end_ids=(0,)),),
                losses=(TokenRow(key="l", source="task", ids=(1, 2), loss_from=1),),
                requests="asked",
                keep_weights=keep_weights,
            )
        )
    return jobs


class TellingBackend(TrialBackend):
    """A trial backend that writes down where its process runs."""

    def __init__(self, *, told: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        seen = {"cores": sorted(os.sched_getaffinity(0)), "gpu": os.environ.get("CUDA_VISIBLE_DEVICES")}
        (Path(told) / f"{os.getpid()}.json").write_text(json.dumps(seen))
