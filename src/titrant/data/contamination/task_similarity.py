"""How much of a pool is the target's own kind of task: a lexical estimate, made to be read and doubted.

If a general pool holds many rows of the user's own kind, a dose of it is partly more of the target, and a gain says
little about breadth. A row counts as the target's own kind when one of two things holds:

- `labels`: the target has a closed set of labels, and the row's whole answer is one of them, or its prompt names them
  all. Labels that any task may use (yes, no, true, false, single letters, numbers) never count.
- `text`: a bag-of-words classifier (TF-IDF, logistic regression, both sides weighing the same, three folds) that learns
  to tell the target's prompts from the pool's finds this row, unseen, as much like the target as the target's own rows
  are. What all of the target's prompts share (instruction, first and last lines, a label) is taken off both sides
  first, so that it learns what the tasks are about.

How much of the pool is meant by that is read off two rates. Above a threshold stand a share `recognised` of the
target's own rows and a share of the pool's; the pool's divided by the target's is the share of the pool that is the
target's own kind, were every other row below the threshold, and more than it in truth. So the threshold is the one at
which that bound is lowest, by its upper limit of one standard error, among those that keep at least half of the
target's rows (best bin estimation, Garg et al., NeurIPS 2021). A fixed threshold takes every row that a poorly taught
classifier cannot place for one of the target's: of the embedded pool, 454 rows of which none is the target's kind, it
said a tenth; this says 0.04 (0.01 to 0.06). With Yelp reviews as the target, planted shares of 0, 0.05, 0.1 and 0.25
in Alpaca rows come out within 0.03 (tests/data/contamination/test_on_real_data.py).

Only words are seen: the same kind of task in quite other words is missed, and so are rows whose wording is all the
same, as the classifier knows them by that.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from titrant.core.identity import rng_for
from titrant.core.records import Example, Origin
from titrant.data.contamination.words import frame_of, user_text, words

_GENERIC_LABELS = frozenset({"yes", "no", "true", "false", "none", "other", "maybe", "unknown"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSimilaritySettings:
    """`target_rows` and `pool_rows` bound what is compared; larger sets are sampled. With fewer than `least_rows` on
    either side nothing is learned from text."""

    target_rows: int = 1000
    pool_rows: int = 4000
    least_rows: int = 20
    nearest: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarTask:
    """A pool row that looks like the target, for reading. `probability` is the classifier's (None: by labels only)."""

    row_id: str
    row_origin: Origin | None
    probability: float | None
    by_labels: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSimilarity:
    """The share of a pool that is the target's own kind (0 to 1), and by which sign, from `pool_rows` rows.

    `by_text` is the pool's rate above the threshold divided by `recognised`, the target's, with its 95% limits
    `by_text_low` and `by_text_high`; all are None with a `reason` where there are too few rows. `share` counts rows by
    either sign. `nearest` are those to read.
    """

    share: float
    by_labels: float
    by_text: float | None
    by_text_low: float | None
    by_text_high: float | None
    recognised: float | None
    pool_rows: int
    nearest: tuple[SimilarTask, ...]
    reason: str | None = None


def own_kind_share(
    pool: Sequence[Example],
    train: Sequence[Example],
    *,
    labels: Collection[str] = (),
    settings: TaskSimilaritySettings | None = None,
    instructions: Collection[str] = (),
) -> TaskSimilarity:
    """The share of `pool` that is the kind of task of `train`; `labels` is the target's closed set, if it has one."""
    settings = settings or TaskSimilaritySettings()
    rows = _sample(pool, settings.pool_rows, "pool")
    own = _sample(train, settings.target_rows, "target")
    prompts = [user_text(row.prompt) for row in rows]
    by_labels = _uses_labels(rows, prompts, labels)
    share_labels = sum(by_labels) / max(1, len(rows))
    if min(len(rows), len(own)) < settings.least_rows:
        return TaskSimilarity(
            share=share_labels,
            by_labels=share_labels,
            by_text=None,
            by_text_low=None,
            by_text_high=None,
            recognised=None,
            pool_rows=len(rows),
            nearest=_kin(rows, by_labels, [None] * len(rows), settings.nearest, above=1.0),
            reason=f"the text comparison needs {settings.least_rows} rows on either side",
        )
    targets = [user_text(row.prompt) for row in own]
    frame = frame_of(targets, instructions=instructions)
    probabilities = _probabilities([frame.own(text) for text in (*prompts, *targets)], len(prompts))
    of_pool, of_target = probabilities[: len(rows)], probabilities[len(rows) :]
    bin_ = _best_bin(of_pool, of_target)
    # A row that counts by its labels is left out here, so that no row counts twice.
    only_text = [value >= bin_.above and not label for value, label in zip(of_pool, by_labels, strict=True)]
    return TaskSimilarity(
        share=min(1.0, share_labels + sum(only_text) / len(rows) / bin_.recognised),
        by_labels=share_labels,
        by_text=bin_.share,
        by_text_low=bin_.low,
        by_text_high=bin_.high,
        recognised=bin_.recognised,
        pool_rows=len(rows),
        nearest=_kin(rows, by_labels, of_pool, settings.nearest, above=bin_.above),
    )


def _kin(
    rows: Sequence[Example],
    by_labels: Sequence[bool],
    probabilities: Sequence[float | None],
    most: int,
    *,
    above: float,
) -> tuple[SimilarTask, ...]:
    """The rows that count, most telling first."""
    counted = [
        SimilarTask(
            row_id=row.row_id,
            row_origin=row.origin,
            probability=probability,
            by_labels=label,
            text=" ".join(user_text(row.prompt).split())[:320],
        )
        for row, label, probability in zip(rows, by_labels, probabilities, strict=True)
        if label or (probability is not None and probability >= above)
    ]
    return tuple(sorted(counted, key=lambda kin: (-(kin.probability or 0.0), not kin.by_labels, kin.row_id))[:most])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bin:
    """The rows with a probability of at least `above`: the pool's share that they bound, with 95% limits."""

    above: float
    recognised: float
    share: float
    low: float
    high: float


def _best_bin(pool: Sequence[float], target: Sequence[float]) -> _Bin:
    """The bin whose bound on the pool's share is lowest by its upper limit of one standard error.

    Both rates are counts; half a row is added to each so that no row found is not the same as certainty.
    """
    ordered = sorted(target, reverse=True)
    found: list[tuple[float, _Bin]] = []
    for percent in range(50, 98, 3):
        # Thresholds at quantiles of the target's own probabilities, from a half of its rows to nearly all.
        above = ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]
        hits, known = sum(value >= above for value in pool), sum(value >= above for value in target)
        rate, recognised = hits / len(pool), known / len(target)
        smooth, weight = (hits + 0.5) / (len(pool) + 1), (known + 0.5) / (len(target) + 1)
        # To first order var(p / w) = (var p + (p / w)^2 var w) / w^2 for two independent rates; the division by w^2
        # follows below.
        variance = smooth * (1 - smooth) / len(pool) + (smooth / weight) ** 2 * weight * (1 - weight) / len(target)
        error, share = math.sqrt(variance) / weight, rate / recognised
        limits = _Bin(
            above=above,
            recognised=recognised,
            share=min(1.0, share),
            low=min(1.0, max(0.0, share - 1.96 * error)),
            high=min(1.0, share + 1.96 * error),
        )
        found.append((share + error, limits))
    return min(found, key=lambda entry: entry[0])[1]


def _sample(rows: Sequence[Example], most: int, name: str) -> list[Example]:
    """At most `most` rows, the same ones whatever the order of the file."""
    ordered = sorted(rows, key=lambda row: row.key)
    if len(ordered) <= most:
        return ordered
    return [ordered[place] for place in sorted(rng_for(0, "kinship", name).permutation(len(ordered))[:most])]


def _uses_labels(rows: Sequence[Example], prompts: Sequence[str], labels: Collection[str]) -> list[bool]:
    # Yes and no are labels of a thousand tasks: they would make every yes-or-no question the target's kind.
    telling = {label for label in map(_spaced, labels) if _tells(label.strip())}
    if not telling:
        return [False] * len(rows)
    named = [len(telling) > 1 and all(label in text for label in telling) for text in map(_spaced, prompts)]
    return [name or _spaced(row.answer) in telling for row, name in zip(rows, named, strict=True)]


def _spaced(text: str) -> str:
    """The words of a text with a space on every side, so that a phrase can be found by containment."""
    return f" {' '.join(words(text))} "


def _tells(label: str) -> bool:
    return len(label) > 1 and not label.isdigit() and label not in _GENERIC_LABELS


def _probabilities(texts: Sequence[str], pool_rows: int) -> list[float]:
    """For each text the probability that it is the target's, from the two folds that do not hold it."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    # One more text, so that a vocabulary is never empty; its row is cut off again.
    features = TfidfVectorizer(analyzer=words, sublinear_tf=True).fit_transform([*texts, "vocabulary"])[:-1]
    is_target = np.arange(len(texts)) >= pool_rows
    # Folds drawn within each side, so that every fold has rows of both.
    fold = np.concatenate(
        [
            rng_for(0, "kinship", "folds", side).permutation(count) % 3
            for side, count in (("pool", pool_rows), ("target", len(texts) - pool_rows))
        ]
    )
    probabilities = np.zeros(len(texts))
    for held_out in range(3):
        # Balanced: a pool of thousands beside a hundred target rows would make "pool" the best guess for everything.
        model = LogisticRegression(class_weight="balanced", max_iter=1000)
        model.fit(features[fold != held_out], is_target[fold != held_out])
        probabilities[fold == held_out] = model.predict_proba(features[fold == held_out])[:, 1]
    return [float(probability) for probability in probabilities]
