"""Averaging weights over the last part of training: does it make seeds vary less?

    python benchmarks/average_last.py benchmarks/data/quickstart-seeds.yaml --seeds 12 --out titrations/average-last

Every run answers twice, with the weights of its last step and with the mean of its weights over the last 30% of the
steps, so the two are paired run by run and the training is paid once. The first study trains; the second is the same
study whose backend hands out the averaged weights' answers that the first one kept. Then, for each arm, the variance
of the seeds' scores: the ratio averaged / last with its 95% interval, by Pitman and Morgan's test for paired variances
(E. J. G. Pitman, Biometrika 31, 1939). Nothing of the product changes: the training loop's optimiser is watched.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy import stats

import titrant
from titrant.backends.hf.backend import HuggingFaceBackend, HuggingFaceLanguageModel
from titrant.backends.hf.training.weights import TrainableWeights
from titrant.core.identity import fingerprint
from titrant.core.records import Numerics, PreparedModel, StepReport, TokenQuestion, TrainingPlan
from titrant.engines.local import LocalEngine

DATA = Path(__file__).resolve().parent / "data"
RESULT = Path(__file__).resolve().parent / "results" / "average-last.json"
SHARE = 0.3
FOLDER = "TITRANT_AVERAGES"
"""Names the folder in which workers keep the averaged weights' answers."""


# ------------------------------------------------------------------------------------------------------------ training


class Averages:
    """The mean of all trained weights after each of the last steps."""

    def __init__(self, first_step: int) -> None:
        self.first_step, self.count = first_step, 0
        self.mean: dict[str, Any] = {}

    def add(self, weights: TrainableWeights) -> None:
        if weights.steps_taken < self.first_step:
            return
        self.count += 1
        for name, master in weights.masters.items():
            if name not in self.mean:
                self.mean[name] = master.detach().clone()
            else:
                self.mean[name].lerp_(master.detach(), 1 / self.count)


@contextmanager
def watched(averages: Averages) -> Iterator[None]:
    """Within, every optimiser step adds its weights."""
    step = TrainableWeights.step

    def step_and_add(self: TrainableWeights, *, learning_rate: float, gradient_norm: float) -> None:
        step(self, learning_rate=learning_rate, gradient_norm=gradient_norm)
        averages.add(self)

    TrainableWeights.step = step_and_add  # type: ignore[method-assign]
    try:
        yield
    finally:
        TrainableWeights.step = step  # type: ignore[method-assign]


@contextmanager
def exchanged(model: Any, mean: dict[str, Any]) -> Iterator[None]:
    """Within, the model's weights are `mean`."""
    parameters = dict(model.named_parameters())
    last = {name: parameters[name].data for name in mean}
    for name, value in mean.items():
        parameters[name].data = value
    try:
        yield
    finally:
        for name, value in last.items():
            parameters[name].data = value


class _Model:
    """What both backends hand out: answers to choices, and nothing else that a study could ask for."""

    def __init__(self, answer: Callable[[Sequence[TokenQuestion]], Any], close: Callable[[], None]) -> None:
        self.carried_out: dict[str, object] = {}
        self.heed: Callable[[], None] = lambda: None
        self._answer, self._close = answer, close

    def loglikelihood(self, questions: Sequence[TokenQuestion]) -> Any:
        return self._answer(questions)

    def keep(self, folder: Path | None = None) -> None:
        pass

    def close(self) -> None:
        self._close()


def kept_path(plan: TrainingPlan) -> Path:
    """Where the averaged weights' answers of a training lie, by all that decides it."""
    name = fingerprint(
        {"rows": plan.rows, "steps": plan.steps, "settings": plan.settings, "seed": plan.seed, "share": SHARE}
    )
    return Path(os.environ[FOLDER]) / f"{name}.json"


class LastWeights:
    """The usual backend, which also keeps what the averaged weights answer."""

    def __init__(self, numerics: Numerics) -> None:
        self.numerics, self.backend = numerics, HuggingFaceBackend(numerics)

    def untuned(self, model: PreparedModel) -> Any:
        return self.backend.untuned(model)

    def train(
        self,
        plan: TrainingPlan,
        *,
        checkpoints: Path,
        on_step: Callable[[StepReport], None],
        stop: Callable[[], int | None],
    ) -> _Model:
        last_steps = max(1, round(SHARE * len(plan.steps)))
        averages = Averages(first_step=len(plan.steps) - last_steps + 1)
        with watched(averages):
            last = self.backend.train(plan, checkpoints=checkpoints, on_step=on_step, stop=stop)
        # A training that went on from a checkpoint inside the last part would average fewer steps.
        assert averages.count == last_steps, f"{averages.count} of {last_steps} steps were averaged: train it anew"

        def answer(questions: Sequence[TokenQuestion]) -> Any:
            answers = last.loglikelihood(questions)
            with exchanged(last.model, averages.mean):
                averaged = HuggingFaceLanguageModel(last.model, plan.model, numerics=self.numerics)
                found = averaged.loglikelihood(questions)
            by_key = {question.key: list(value) for question, value in zip(questions, found, strict=True)}
            path = kept_path(plan)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(by_key))
            return answers

        return _Model(answer, last.close)


class AveragedWeights:
    """Trains nothing: hands out the answers that `LastWeights` kept."""

    def __init__(self, numerics: Numerics) -> None:
        self.backend = HuggingFaceBackend(numerics)

    def untuned(self, model: PreparedModel) -> Any:
        return self.backend.untuned(model)

    def train(
        self,
        plan: TrainingPlan,
        *,
        checkpoints: Path,
        on_step: Callable[[StepReport], None],
        stop: Callable[[], int | None],
    ) -> _Model:
        by_key = json.loads(kept_path(plan).read_text())
        for step, rows in enumerate(plan.steps, start=1):
            tokens = sum(len(plan.rows[row].ids) for row in rows)
            on_step(
                StepReport(
                    step=step,
                    loss=0.0,
                    loss_by_source=(),
                    gradient_norm=0.0,
                    learning_rate=0.0,
                    tokens=tokens,
                    seconds=0.0,
                )
            )
        return _Model(lambda questions: tuple(tuple(by_key[one.key]) for one in questions), lambda: None)


# ---------------------------------------------------------------------------------------------------------- statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class VarianceRatio:
    """The variance of `averaged` over that of `last`, of the same runs, with its interval and p of equality."""

    ratio: float
    low: float
    high: float
    p: float
    difference: float
    difference_low: float
    difference_high: float


def pitman_morgan(
    last_S: NDArray[np.float64], averaged_S: NDArray[np.float64], *, level: float = 0.95
) -> VarianceRatio:
    """Paired variances by Pitman and Morgan: sum and difference of the two are uncorrelated where variances are equal.

    The interval inverts the same test: var(averaged) = λ·var(last) is kept where sum and difference of averaged and
    √λ·last are uncorrelated. Its ends are known in closed form.

    >>> last = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    >>> found = pitman_morgan(last, 0.5 * last + np.array([0.1, -0.1, 0.1, 0.1, -0.1, 0.0]))
    >>> round(found.ratio, 2), found.low < 0.25 < found.high, found.p < 0.001
    (0.25, True, True)
    """
    n = len(last_S)
    ratio = averaged_S.var(ddof=1) / last_S.var(ddof=1)
    r = np.corrcoef(last_S, averaged_S)[0, 1]
    sums = np.corrcoef(averaged_S + last_S, averaged_S - last_S)[0, 1]
    t = sums * np.sqrt((n - 2) / max(1 - sums**2, 1e-300))
    quantile = stats.t.ppf((1 + level) / 2, n - 2)
    k = 1 + 2 * (1 - r**2) * quantile**2 / (n - 2)
    spread = np.sqrt(k**2 - 1)
    mean = stats.ttest_rel(averaged_S, last_S)
    interval = mean.confidence_interval(level)
    return VarianceRatio(
        ratio=float(ratio),
        low=float(ratio * (k - spread)),
        high=float(ratio * (k + spread)),
        p=float(2 * stats.t.sf(abs(t), n - 2)),
        difference=float((averaged_S - last_S).mean()),
        difference_low=float(interval.low),
        difference_high=float(interval.high),
    )


# ------------------------------------------------------------------------------------------------------------- command


def seed_means(path: Path, *, seeds: int) -> dict[str, NDArray[np.float64]]:
    """The graded score of every run of a scores.parquet by arm, for its first so many seeds."""
    means = (
        pq.read_table(path, filters=[("metric", "=", "graded"), ("eval_set", "=", "target"), ("seed", "<", seeds)])
        .group_by(["arm", "seed"])
        .aggregate([("value", "mean")])
        .sort_by("seed")
    )
    arms = means.column("arm").to_numpy(zero_copy_only=False)
    return {str(arm): means.column("value_mean").to_numpy()[arms == arm] for arm in np.unique(arms)}


def compared(last: Path, averaged: Path, *, seeds: int) -> dict[str, dict[str, Any]]:
    """What averaging changes, by arm and for the contrast of the dose with each baseline."""
    lasts, averages = seed_means(last, seeds=seeds), seed_means(averaged, seeds=seeds)
    pairs = {arm: (lasts[arm], averages[arm]) for arm in averages if len(averages[arm]) == seeds}
    for dose in [arm for arm in pairs if "+" in arm]:
        for base in [arm for arm in pairs if "+" not in arm]:
            pairs[f"{dose} minus {base}"] = (lasts[dose] - lasts[base], averages[dose] - averages[base])
    return {
        name: {
            "last": {"mean": round(float(last_S.mean()), 4), "seeds_sd": round(float(last_S.std(ddof=1)), 4)},
            "averaged": {"mean": round(float(mean_S.mean()), 4), "seeds_sd": round(float(mean_S.std(ddof=1)), 4)},
            **{key: round(value, 4) for key, value in asdict(pitman_morgan(last_S, mean_S)).items()},
        }
        for name, (last_S, mean_S) in pairs.items()
    }


def run(study: Path, *, seeds: int, out: Path) -> dict[str, Any]:
    """Both studies, one after the other; what is done already is not done again."""
    os.environ[FOLDER] = str((out / "answers").resolve())
    scores = {}
    for backend in (LastWeights, AveragedWeights):
        # In this process: the class may stand in the script that runs, where no worker could import it from.
        titrant.run(study, out=out / backend.__name__, backend=backend, engine=LocalEngine(jobs=0))
        scores[backend] = out / backend.__name__ / "scores.parquet"
    return compared(scores[LastWeights], scores[AveragedWeights], seeds=seeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("study", type=Path, nargs="?", default=DATA / "quickstart-seeds.yaml")
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    result = {
        "date": date.today().isoformat(),
        "share": SHARE,
        "seeds": options.seeds,
        "arms": run(options.study, seeds=options.seeds, out=options.out),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    json.dump(result, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
