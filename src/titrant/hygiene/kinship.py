"""How much of a pool is the target's own kind of task: a lexical estimate, made to be read and doubted.

If a general pool holds many rows of the user's own kind, a dose of it is partly more of the target, and a gain says
little about breadth. A row counts as the target's own kind when one of two things holds:

- `labels`: the target has a closed set of labels, and the row's whole answer is one of them, or its prompt names them
  all. Labels that any task may use (yes, no, true, false, single letters, numbers) never count.
- `text`: its prompt is as near to some training row of the target as the target's rows typically are to one another:
  the TF-IDF cosine (words, sublinear counts, English stop words left out) to the nearest target text is at least the
  median of that number inside the target, and at least `least_cosine`. Shared instructions are taken off first
  (`own_parts`), so that what is compared is what the tasks are about.

Only words are seen: the same kind of task in other words is missed, and a pool on the target's topic is counted though
its tasks differ.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from titrant.hygiene.words import own_parts, user_text, words
from titrant.identity import rng_for
from titrant.records import Example, Origin

_GENERIC_LABELS = frozenset({"yes", "no", "true", "false", "none", "other", "maybe", "unknown"})


@dataclass(frozen=True, slots=True, kw_only=True)
class KinshipSettings:
    """`target_rows` and `pool_rows` bound what is compared; larger sets are sampled. Cosines are 0 to 1."""

    target_rows: int = 1000
    pool_rows: int = 20_000
    least_cosine: float = 0.2
    nearest: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Kin:
    """A pool row of the target's own kind, for reading. `cosine` is to the nearest target row."""

    row_id: str
    row_origin: Origin | None
    cosine: float
    by_labels: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinship:
    """The share of a pool that is the target's own kind, by which sign, from how many rows; 0 to 1.

    `cosine_at_least` is the threshold that the target itself set; `nearest` the pool rows most like it.
    """

    share: float
    by_labels: float
    by_text: float
    pool_rows: int
    cosine_at_least: float
    nearest: tuple[Kin, ...]


def own_kind_share(
    pool: Sequence[Example],
    train: Sequence[Example],
    *,
    labels: Collection[str] = (),
    settings: KinshipSettings | None = None,
    instructions: Collection[str] = (),
) -> Kinship:
    """The share of `pool` that is the kind of task of `train`; `labels` is the target's closed set, if it has one."""
    settings = settings or KinshipSettings()
    rows = _sample(pool, settings.pool_rows, "pool")
    own = _sample(train, settings.target_rows, "target")
    if not rows or not own:
        return Kinship(share=0.0, by_labels=0.0, by_text=0.0, pool_rows=len(rows), cosine_at_least=1.0, nearest=())
    prompts = [user_text(row.prompt) for row in rows]
    targets = own_parts([user_text(row.prompt) for row in own], instructions=instructions)
    cosines, threshold = _cosines(prompts, targets, settings.least_cosine)
    by_text = [cosine >= threshold for cosine in cosines]
    by_labels = _uses_labels(rows, prompts, labels)
    order = sorted(range(len(rows)), key=lambda place: (-cosines[place], rows[place].key))
    count = len(rows)
    return Kinship(
        share=sum(text or label for text, label in zip(by_text, by_labels, strict=True)) / count,
        by_labels=sum(by_labels) / count,
        by_text=sum(by_text) / count,
        pool_rows=count,
        cosine_at_least=threshold,
        nearest=tuple(
            Kin(
                row_id=rows[place].row_id,
                row_origin=rows[place].origin,
                cosine=cosines[place],
                by_labels=by_labels[place],
                text=" ".join(prompts[place].split())[:320],
            )
            for place in order[: settings.nearest]
            if cosines[place] > 0
        ),
    )


def _sample(rows: Sequence[Example], most: int, name: str) -> list[Example]:
    """At most `most` rows, the same ones whatever the order of the file."""
    ordered = sorted(rows, key=lambda row: row.key)
    if len(ordered) <= most:
        return ordered
    return [ordered[place] for place in sorted(rng_for(0, "kinship", name).permutation(len(ordered))[:most])]


def _uses_labels(rows: Sequence[Example], prompts: Sequence[str], labels: Collection[str]) -> list[bool]:
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


def _cosines(prompts: Sequence[str], targets: Sequence[str], least: float) -> tuple[list[float], float]:
    """For each prompt the cosine to its nearest target, and the threshold: the median of the same inside the target."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectoriser = TfidfVectorizer(analyzer=_content_words, sublinear_tf=True)
    both = vectoriser.fit_transform([*prompts, *targets, "vocabulary"])
    pool, own = both[: len(prompts)], both[len(prompts) : -1]
    inside = _nearest(own, own, skip_same=True)
    threshold = max(least, float(np.median(inside))) if len(targets) > 1 else 1.0
    return [float(cosine) for cosine in _nearest(pool, own, skip_same=False)], threshold


def _nearest(rows: Any, others: Any, *, skip_same: bool) -> Any:
    """The largest cosine of each row to any of the others, in blocks; `skip_same` leaves out a row's own place."""
    import numpy as np

    best = np.zeros(rows.shape[0])
    for first in range(0, rows.shape[0], 2000):
        block = (rows[first : first + 2000] @ others.T).toarray()
        if skip_same:
            places = np.arange(block.shape[0])
            block[places, first + places] = 0.0
        best[first : first + block.shape[0]] = block.max(axis=1)
    return np.round(np.minimum(best, 1.0), 12)


def _content_words(text: str) -> list[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return [word for word in words(text) if word not in ENGLISH_STOP_WORDS]
