"""How much ground a set of rows covers: tasks, answer formats, label sets, how unlike each other the prompts are.

Every number comes with a sentence that says what it means and how it was got. Sentence vectors arrive as an argument,
so that nothing here knows a model; without them the same numbers come from words (TF-IDF), and the result says so.

Entropies are also given as an *effective number*, exp of the entropy: so many groups of equal size would be as mixed.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from titrant.core.identity import rng_for
from titrant.core.records import Example

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BreadthRung = Literal["one_dataset", "one_kind", "classification", "many"]
Vectors = Callable[[Sequence[str]], "NDArray[np.float32]"]
ClosedSet = Callable[[Iterable[str]], "tuple[str, ...] | None"]

FORMATS = ("label", "yes or no", "number", "phrase", "sentence", "paragraph", "list", "code or markup")
_RUNGS: dict[BreadthRung, str] = {
    "one_dataset": "one dataset: the same is asked of every row",
    "one_kind": "one kind of task: several tasks that ask for much the same",
    "classification": "several kinds of classification: every task has a closed set of answers",
    "many": "many kinds of task",
}
_NUMBER = re.compile(r"[-+$€£]?\d[\d.,/: ]*%?")
_LIST_LINE = re.compile(r"\s*(?:[-*•]|\d{1,3}[.)])\s+\S")
_MARKUP = re.compile(r"```|</\w+>|^\s*(?:def|class|import|function|SELECT|#include)\b|[{;]\s*$", re.MULTILINE)
_ASKED_CHARACTERS, _PROMPT_WORDS = 600, 200
_ANY_TASK = frozenset({"yes", "no", "true", "false", "none", "other", "a", "b", "c", "d", "e", "0", "1", "2", "3", "4"})
ONE_TASK = "rows without an instruction of their own: one task"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreadthSettings:
    """How prompts are compared. Larger sets are sampled, the same ones whatever the order of the file.

    `prompt_rows` bounds the rows whose prompts are looked at, `texts` the different prompts among them. A run of
    `run_words` words that stands in `run_share` of these rows (and in `run_rows` at least) is wording of a template.
    Prompts whose average cosine distance is below `apart_vectors` (for words: `apart_words`) are one cluster. The
    values were chosen on collections whose tasks are known: docs/breadth.md.
    """

    prompt_rows: int = 4000
    texts: int = 1000
    run_words: int = 5
    run_share: float = 0.002
    run_rows: int = 8
    apart_vectors: float = 0.6
    apart_words: float = 0.8
    pairs: int = 20_000
    most_shown: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class BreadthMeasure:
    """One number: `means` says what it is and how it was got. `value` is None where it cannot be had, with a reason."""

    name: str
    value: float | None
    means: str
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A task, cluster, format or opening, with its rows; `example` is one prompt of it."""

    name: str
    rows: int
    share: float
    example: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSet:
    """A closed set of answers, and how many tasks and rows have it."""

    labels: tuple[str, ...]
    tasks: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Breadth:
    """What was found in `rows` rows, a sample where there are more `rows_in_file`; of these `prompt_rows` had their
    prompts looked at.

    `features` is `embeddings` or `words`; `why_words` says why there are no embeddings. `tasks_by` says where the tasks
    come from: a column, clusters of prompts, or one task by construction. `left_out` counts rows with a fault,
    the first of which is `first_fault`.
    """

    rows: int
    rows_in_file: int
    prompt_rows: int
    features: Literal["embeddings", "words"]
    why_words: str | None
    tasks_by: str
    measures: tuple[BreadthMeasure, ...]
    tasks: tuple[Group, ...]
    formats: tuple[Group, ...]
    openings: tuple[Group, ...]
    label_sets: tuple[LabelSet, ...]
    rung: BreadthRung
    rung_words: str
    because: tuple[str, ...]
    left_out: int = 0
    first_fault: str | None = None

    def measure(self, name: str) -> float | None:
        """The value of a measure by name."""
        return next(measure.value for measure in self.measures if measure.name == name)


def breadth_of(
    rows: Sequence[Example],
    *,
    closed_set: ClosedSet,
    asks: bool,
    tasks_from: str | None = None,
    vectors: Vectors | None = None,
    why_words: str | None = None,
    settings: BreadthSettings | None = None,
) -> Breadth:
    """The breadth of at least one row.

    `asks` says whether rows say themselves what is asked of them; where they do not, they are one task. `tasks_from`
    names the column that `Example.task` came from, None where there was none. `closed_set` finds the closed set among
    a task's answers. `vectors` turns texts into unit vectors; None falls back to words, for the reason `why_words`.
    """
    settings = settings or BreadthSettings()
    prompts = _prompts(rows, vectors, settings)
    looked_at, asked, clusters = prompts.rows, prompts.asked, prompts.clusters
    tasks_by = "clusters of prompts" if asks else ONE_TASK
    if tasks_from is not None:
        told, tasks_by = list(rows), f"the column {tasks_from}"
        task_of = [row.task for row in told]
    elif asks:
        told = [row for row, text in zip(looked_at, asked, strict=True) if text in clusters]
        task_of = [f"cluster {clusters[text]}" for text in asked if text in clusters]
    else:
        told, task_of = list(rows), ["all rows"] * len(rows)
    answers: dict[str, list[str]] = defaultdict(list)
    for row, task in zip(told, task_of, strict=True):
        answers[task].append(row.answer.strip())
    closed = {task: found for task, given in answers.items() if (found := closed_set(given)) is not None}
    known = {label for labels in closed.values() for label in labels}
    formats = Counter(_format(row.answer, known) for row in rows)
    tasks = Counter(task_of)
    kinds = len(set(clusters.values())) if asks else None
    rung, because = _rung(tasks=tasks, closed=closed, kinds=kinds, tasks_by=tasks_by)
    examples = {row.key: text for row, text in zip(looked_at, asked, strict=True)}
    shown = {task: examples[row.key] for row, task in zip(told, task_of, strict=True) if row.key in examples}
    measures = (
        *_task_measures(tasks, tasks_by, kinds, settings, embedded=vectors is not None),
        *_prompt_measures(prompts, settings),
        *_answer_measures(rows, formats),
    )
    return Breadth(
        rows=len(rows),
        rows_in_file=len(rows),
        prompt_rows=len(looked_at),
        features="words" if vectors is None else "embeddings",
        why_words=why_words if vectors is None else None,
        tasks_by=tasks_by,
        measures=measures,
        tasks=_groups(tasks, settings.most_shown, examples=shown),
        formats=_groups(formats, len(FORMATS)),
        openings=_groups(Counter(map(_opening, asked)), settings.most_shown),
        label_sets=_label_sets(closed, tasks, settings.most_shown),
        rung=rung,
        rung_words=_RUNGS[rung],
        because=because,
    )


def cluster_prompts(
    rows: Sequence[Example], *, vectors: Vectors | None = None, settings: BreadthSettings | None = None
) -> dict[str, int]:
    """The cluster of each row's prompt by the row's key; of many rows, for a sample."""
    found = _prompts(rows, vectors, settings or BreadthSettings())
    pairs = zip(found.rows, found.asked, strict=True)
    return {row.key: found.clusters[text] for row, text in pairs if text in found.clusters}


# -------------------------------------------------------------------------------------------------------- what is asked


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prompts:
    """The rows that were looked at and what is asked of each; of the different texts those `compared`, one row of
    `space` each, with their clusters."""

    rows: list[Example]
    asked: list[str]
    compared: list[str]
    space: NDArray[np.float32]
    clusters: dict[str, int]


def _prompts(rows: Sequence[Example], vectors: Vectors | None, settings: BreadthSettings) -> _Prompts:
    looked_at = _sample_rows(rows, settings.prompt_rows)
    asked = _asked(looked_at, settings)
    compared = _sample(sorted(set(asked)), settings.texts)
    space = _space(compared, vectors)
    apart = settings.apart_words if vectors is None else settings.apart_vectors
    clusters = _clusters(space, compared, apart)
    return _Prompts(rows=looked_at, asked=asked, compared=compared, space=space, clusters=clusters)


def _asked(rows: Sequence[Example], settings: BreadthSettings) -> list[str]:
    """What is asked of each row: the wording that its prompt shares with others, where there is any (a template,
    without what was filled in); else the first paragraph of three words, else all of it.

    Of a conversation the last question counts, which the trained answer answers: many open with the same greeting."""
    prompts = [next((turn.text for turn in row.turns[::-1] if turn.role == "user"), row.turns[-1].text) for row in rows]
    split = [re.findall(r"[^\W_]+", prompt.casefold())[:_PROMPT_WORDS] for prompt in prompts]
    length = settings.run_words
    # A run of words that many prompts have is template, and the rest of a prompt is what was filled in: two prompts of
    # one template ask the same thing of different texts.
    counts = Counter(run for words in split for run in {*_runs(words, length)})
    needed = max(settings.run_rows, settings.run_share * len(rows))
    asked = []
    for prompt, words in zip(prompts, split, strict=True):
        shared: set[int] = set()
        for start, run in enumerate(_runs(words, length)):
            if counts[run] >= needed:
                shared.update(range(start, start + length))
        text = " ".join(words[place] for place in sorted(shared))
        if not text:
            text = next((part for part in prompt.split("\n\n") if len(part.split()) >= 3), prompt)
        asked.append(" ".join(text.split())[:_ASKED_CHARACTERS])
    return asked


def _runs(words: Sequence[str], length: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + length]) for start in range(len(words) - length + 1)]


def _opening(text: str) -> str:
    """The first two words, folded."""
    return " ".join(re.findall(r"[^\W_]+", text.casefold())[:2]) or "(no word)"


def _sample_rows(rows: Sequence[Example], most: int) -> list[Example]:
    ordered = sorted(rows, key=lambda row: row.key)
    if len(ordered) <= most:
        return ordered
    return [ordered[place] for place in sorted(rng_for(0, "breadth", "rows").permutation(len(ordered))[:most])]


def _sample(texts: Sequence[str], most: int) -> list[str]:
    if len(texts) <= most:
        return list(texts)
    return [texts[place] for place in sorted(rng_for(0, "breadth").permutation(len(texts))[:most])]


def _space(texts: Sequence[str], vectors: Vectors | None) -> NDArray[np.float32]:
    """Unit vectors, one row a text; words are projected so that both kinds are dense."""
    import numpy as np

    if vectors is not None:
        return np.asarray(vectors(texts), dtype=np.float32)
    from sklearn.feature_extraction.text import TfidfVectorizer

    # One more text, so that a vocabulary is never empty; its row is cut off again.
    found: Any = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)[^\W_]+").fit_transform([*texts, "vocabulary"])
    return np.asarray(found[:-1].toarray(), dtype=np.float32)


def _clusters(space: NDArray[np.float32], texts: Sequence[str], apart: float) -> dict[str, int]:
    """The cluster of each text: average linkage, cut at an average cosine distance of `apart`."""
    if len(texts) < 2:
        return dict.fromkeys(texts, 0)
    import numpy as np
    from sklearn.cluster import AgglomerativeClustering

    # Rounding leaves cosines just above 1 and the diagonal just off 0, which the clustering refuses.
    distances = np.clip(1.0 - space @ space.T, 0.0, 2.0)
    np.fill_diagonal(distances, 0.0)
    model = AgglomerativeClustering(n_clusters=None, metric="precomputed", linkage="average", distance_threshold=apart)
    return dict(zip(texts, map(int, model.fit(distances).labels_), strict=True))


# -------------------------------------------------------------------------------------------------------------- answers


def _format(answer: str, labels: set[str]) -> str:
    """Which of `FORMATS` an answer has.

    >>> [_format(text, {"refund"}) for text in ("refund", "No.", "-3.5 %", "on Friday", "It rained on us all day.")]
    ['label', 'yes or no', 'number', 'phrase', 'sentence']
    """
    text = answer.strip()
    if text.casefold().rstrip(".!") in ("yes", "no", "true", "false"):
        return "yes or no"
    if text in labels:
        return "label"
    if _NUMBER.fullmatch(text):
        return "number"
    if _MARKUP.search(text):
        return "code or markup"
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) >= 2 and 2 * sum(_LIST_LINE.match(line) is not None for line in lines) >= len(lines):
        return "list"
    words = len(text.split())
    if words <= 5:
        return "phrase"
    ends = len(re.findall(r"[.!?](?=\s+[^\W\da-z_])", text))
    return "sentence" if ends == 0 and len(lines) == 1 and words <= 40 else "paragraph"


def _label_sets(closed: dict[str, tuple[str, ...]], tasks: Counter[str], most: int) -> tuple[LabelSet, ...]:
    by_set: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for task, labels in closed.items():
        by_set[tuple(sorted(labels))].append(task)
    found = [
        LabelSet(labels=labels, tasks=len(names), rows=sum(tasks[name] for name in names))
        for labels, names in by_set.items()
    ]
    return tuple(sorted(found, key=lambda entry: (-entry.rows, entry.labels))[:most])


# -------------------------------------------------------------------------------------------------------------- numbers


def entropy_bits(counts: Iterable[int]) -> float:
    """The Shannon entropy of counts, in bits.

    >>> entropy_bits([1, 1, 1, 1]), entropy_bits([5])
    (2.0, 0.0)
    """
    given = [count for count in counts if count > 0]
    total = sum(given)
    return abs(-sum(count / total * math.log2(count / total) for count in given)) if len(given) > 1 else 0.0


def _task_measures(
    tasks: Counter[str], tasks_by: str, kinds: int | None, settings: BreadthSettings, *, embedded: bool
) -> tuple[BreadthMeasure, ...]:
    apart = settings.apart_vectors if embedded else settings.apart_words
    cut = f"prompts whose average cosine distance is below {apart:g} are one cluster"
    by_clusters = tasks_by == "clusters of prompts"
    found = [
        BreadthMeasure(name="tasks", value=float(len(tasks)), means=f"{tasks_by}: {cut}" if by_clusters else tasks_by),
        BreadthMeasure(
            name="effective_tasks",
            value=2 ** entropy_bits(tasks.values()),
            means="so many tasks of equal size would be as mixed (exp of the entropy of their sizes)",
        ),
    ]
    if not by_clusters:
        value, reason = (None, ONE_TASK) if kinds is None else (float(kinds), None)
        found.append(BreadthMeasure(name="clusters", value=value, means=f"clusters of prompts: {cut}", reason=reason))
    return tuple(found)


def _prompt_measures(prompts: _Prompts, settings: BreadthSettings) -> tuple[BreadthMeasure, ...]:
    asked, compared, space = prompts.asked, prompts.compared, prompts.space
    openings = Counter(map(_opening, asked))
    return (
        BreadthMeasure(
            name="different_prompts",
            value=len(set(asked)) / len(asked),
            means="the share of rows that would be left if each wording stood once (a template counts as one wording)",
        ),
        BreadthMeasure(
            name="mean_distance",
            value=_mean_distance(asked, compared, space, settings.pairs),
            means="the mean cosine distance between the prompts of two rows drawn at random: 0 the same, 1 unrelated",
        ),
        BreadthMeasure(
            name="effective_prompts",
            value=_effective_prompts(space),
            means=f"so many wholly different prompts would be as diverse as {min(len(compared), _VENDI_TEXTS)} of "
            "these (Vendi score: exp of the entropy of the eigenvalues of their similarities)",
        ),
        BreadthMeasure(
            name="opening_entropy_bits",
            value=entropy_bits(openings.values()),
            means="the entropy of the first two words of prompts: 0 where all begin alike",
        ),
    )


_VENDI_TEXTS = 500


def _mean_distance(asked: Sequence[str], compared: Sequence[str], space: NDArray[np.float32], pairs: int) -> float:
    """Over pairs of rows, so that a prompt that stands often weighs as often."""
    place = {text: number for number, text in enumerate(compared)}
    places = [place[text] for text in asked if text in place]
    if len(places) < 2:
        return 0.0
    rng = rng_for(0, "breadth", "pairs")
    one = rng.integers(0, len(places), size=pairs)
    # Shifted by at least one place, so that no row is paired with itself.
    other = (one + rng.integers(1, len(places), size=pairs)) % len(places)
    left, right = space[[places[number] for number in one]], space[[places[number] for number in other]]
    return float(max(0.0, 1.0 - (left * right).sum(axis=1).mean()))


def _effective_prompts(space: NDArray[np.float32]) -> float:
    """The Vendi score (Friedman and Dieng 2022, arXiv 2210.02410) with the cosine as similarity, of at most 500."""
    import numpy as np

    order = rng_for(0, "breadth", "vendi").permutation(len(space))[:_VENDI_TEXTS]
    part = space[order].astype(np.float64)
    # The eigenvalues of the similarities over n add up to 1, so their entropy is that of a distribution: one eigenvalue
    # for equal texts, n equal ones for unrelated texts.
    values = np.linalg.eigvalsh(part @ part.T / len(part))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def _answer_measures(rows: Sequence[Example], formats: Counter[str]) -> tuple[BreadthMeasure, ...]:
    words = sorted(len(row.answer.split()) for row in rows)
    return (
        BreadthMeasure(
            name="format_entropy_bits",
            value=entropy_bits(formats.values()),
            means=f"the entropy of answer formats, of {math.log2(len(FORMATS)):g} possible: 0 where all have one",
        ),
        BreadthMeasure(
            name="effective_formats",
            value=2 ** entropy_bits(formats.values()),
            means="so many formats in equal parts would be as mixed",
        ),
        BreadthMeasure(
            name="median_answer_words", value=float(words[len(words) // 2]), means="words in the middle answer"
        ),
        BreadthMeasure(
            name="long_answer_words", value=float(words[len(words) * 9 // 10]), means="nine in ten have fewer words"
        ),
    )


def _groups(counts: Counter[str], most: int, examples: dict[str, str] | None = None) -> tuple[Group, ...]:
    total = sum(counts.values())
    return tuple(
        Group(name=name, rows=count, share=count / total, example=(examples or {}).get(name))
        for name, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
    )


# --------------------------------------------------------------------------------------------------------------- ladder


def _rung(
    *, tasks: Counter[str], closed: dict[str, tuple[str, ...]], kinds: int | None, tasks_by: str
) -> tuple[BreadthRung, tuple[str, ...]]:
    """Where the rows stand on the ladder all ⊃ classification ⊃ one kind ⊃ one dataset, and why."""
    if len(tasks) == 1:
        return "one_dataset", (tasks_by,)
    told = f"{len(tasks)} tasks ({tasks_by})"
    if kinds == 1:
        return "one_kind", (told, "their prompts are one cluster")
    if len(closed) < len(tasks):
        return "many", (told, f"{len(tasks) - len(closed)} of them have no closed set of answers")
    sets = [{label.casefold() for label in labels} for labels in closed.values()]
    common = set.intersection(*sets) - _ANY_TASK
    if len(common) >= 2:
        return "one_kind", (told, f"all have closed sets of answers that share {', '.join(sorted(common)[:5])}")
    different = len({frozenset(labels) for labels in sets})
    return "classification", (told, f"all have closed sets of answers, {different} different ones")
