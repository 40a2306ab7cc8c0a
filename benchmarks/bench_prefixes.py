"""What computing common beginnings once is worth: the quickstart's questions and steps, with and without, in turn.

Both ways answer and train with the same code on texts of the same lengths. In the other way every text has a first
token of its own, so that nothing but a question's prompt, for its choices, can be shared.
Figures are medians of rounds, ratios medians of each round's ratio, of CPU seconds with one thread.

    python benchmarks/bench_prefixes.py --study studies/quickstart.yaml --rounds 5 --json prefixes.json
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from titrant.core.records import TokenQuestion, TokenRow


def main() -> None:
    """Measure, print a table, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=Path("studies/quickstart.yaml"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--questions", type=int, default=96)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = {
        "machine": platform.platform(),
        "date": datetime.date.today().isoformat(),
        "rounds": options.rounds,
        **measured(options),
    }
    for name in ("choices", "training"):
        print(f"{name}: {json.dumps(result[name])}")
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Tokens and CPU seconds of both ways, for choices and for the gradients of training steps."""
    import torch

    from titrant.backends.hf.inference import answering_model, loglikelihood
    from titrant.backends.hf.models.load import copy_model, load_model
    from titrant.backends.hf.training.forward import forward_for
    from titrant.backends.hf.training.weights import TrainableWeights
    from titrant.config.study import load_study
    from titrant.experiment.design import make_design
    from titrant.experiment.prepare import prepare_study
    from titrant.experiment.work import job_of

    torch.set_num_threads(1)
    prepared = prepare_study(load_study(options.study))
    design = make_design(prepared)
    job = job_of(max(design.distinct, key=lambda planned: planned.run.tokens), prepared)
    assert job.plan is not None
    model = load_model(job.model)
    answering = answering_model(model, dtype="bf16")
    questions = job.questions[: options.questions]
    trained = copy_model(model, torch.float32)
    trained.requires_grad_(True)
    weights = TrainableWeights(trained, dtype="bf16", settings=job.plan.settings)
    forward = forward_for(trained)
    steps = [[job.plan.rows[index] for index in step] for step in job.plan.steps[: options.steps]]

    def train(steps: list[list[TokenRow]]) -> None:
        for rows in steps:
            forward.losses(rows).sum().backward()
            weights.clear_gradients()

    apart = [replace(question, prompt=_own_start(question.prompt, at)) for at, question in enumerate(questions)]
    apart_steps = [[replace(row, ids=_own_start(row.ids, at)) for at, row in enumerate(rows)] for rows in steps]
    return {
        "numerics": dict(prepared.numerics.versions) | {"isa": prepared.numerics.isa},
        "choices": _raced(
            lambda: loglikelihood(answering, questions), lambda: loglikelihood(answering, apart), options.rounds
        )
        | {"tokens": _asked_tokens(apart), "tokens_shared": _asked_tokens(questions)},
        "training": _raced(lambda: train(steps), lambda: train(apart_steps), options.rounds)
        | {"tokens": _trained_tokens(apart_steps), "tokens_shared": _trained_tokens(steps)},
    }


def _own_start(ids: tuple[int, ...], number: int) -> tuple[int, ...]:
    """The same text but for its first token, which no other text has: there is nothing to share."""
    return (1000 + number, *ids[1:])


def _asked_tokens(questions: Sequence[TokenQuestion]) -> int:
    return _laid([question.prompt + choice[:-1] for question in questions for choice in question.choices])


def _trained_tokens(steps: Sequence[Sequence[TokenRow]]) -> int:
    return sum(_laid([row.ids[:-1] for row in rows]) for rows in steps)


def _laid(texts: list[tuple[int, ...]]) -> int:
    from titrant.backends.hf.models.prefixes import lay_out

    return len(lay_out(texts).ids)


def _raced(shared: Callable[[], object], apart: Callable[[], object], rounds: int) -> dict[str, float]:
    seconds: dict[Callable[[], object], list[float]] = {shared: [], apart: []}
    for turn in range(rounds + 1):
        for work, taken in seconds.items():
            started = time.process_time()
            work()
            if turn:  # the first turn is a warm-up
                taken.append(time.process_time() - started)
    ratios = [slow / fast for slow, fast in zip(seconds[apart], seconds[shared], strict=True)]
    return {
        "cpu_seconds": round(statistics.median(seconds[apart]), 3),
        "cpu_seconds_shared": round(statistics.median(seconds[shared]), 3),
        "times_faster": round(statistics.median(ratios), 3),
    }


if __name__ == "__main__":
    main()
