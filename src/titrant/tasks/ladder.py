"""The coverage ladder: sets of tasks from all to one dataset, tested on one common set of items.

A model trained on many tasks and one trained on few can only be compared on the same items; `rungs` on an item says
which sets hold its task. The split is by underlying text before anything else, so that no model has seen a test text in
any template.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from titrant.core.errors import DataError
from titrant.core.identity import hash_text, rng_for
from titrant.core.records import Example, Item
from titrant.tasks.collection import TaskInstance, as_examples, as_items


@dataclass(frozen=True, slots=True, kw_only=True)
class RungRule:
    """Which tasks stand on a rung: all that meet every rule given (empty: no rule).

    `kinds` and `datasets` go by the collection's metadata; `classification` asks for a closed set of answers.
    """

    name: str
    kinds: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    classification: bool = False

    def holds(self, instance: TaskInstance) -> bool:
        """Whether an instance of a task meets every rule given."""
        return (
            (not self.kinds or instance.kind in self.kinds)
            and (not self.datasets or instance.dataset in self.datasets)
            and (not self.tasks or instance.task in self.tasks)
            and (not self.classification or instance.choices is not None)
        )


P3_RUNGS = (
    RungRule(name="all"),
    RungRule(
        name="classification",
        kinds=("sentiment", "topic_classification", "paraphrase_identification"),
        classification=True,
    ),
    RungRule(name="sentiment", kinds=("sentiment",), classification=True),
    RungRule(name="yelp", kinds=("sentiment",), datasets=("yelp_review_full",), classification=True),
)
"""The chain in P3's T0 training templates: all, classification, sentiment, Yelp."""

SUPERNI_RUNGS = (
    RungRule(name="all"),
    RungRule(name="classification", classification=True),
    RungRule(name="sentiment", kinds=("sentiment_analysis", "basic_sentiment_analysis"), classification=True),
    RungRule(
        name="yelp",
        kinds=("sentiment_analysis", "basic_sentiment_analysis"),
        datasets=("yelp_review_full", "yelp_polarity", "yelp"),
        classification=True,
    ),
)
"""The same chain in Super-NaturalInstructions, whose categories name sentiment and whose sources name Yelp."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Rungs with their tasks, training instances, and test instances of all rungs.

    `parted` counts instances that are in neither part because the test set takes at most so many of a task, or because
    a training row asks what a test item asks.
    """

    rungs: tuple[Rung, ...]
    train: tuple[TaskInstance, ...]
    test: tuple[TaskInstance, ...]
    parted: int

    def examples(self, rung: str, *, source: str) -> tuple[Example, ...]:
        """The training rows of a rung's tasks."""
        tasks = set(self._rung(rung).tasks)
        return as_examples([instance for instance in self.train if instance.task in tasks], source=source)

    def items(self, *, eval_set: str, target: str, max_answer_tokens: int) -> tuple[Item, ...]:
        """The common test items, each with the rungs that hold its task."""
        marks = marks_of(self.rungs)
        return as_items(self.test, eval_set=eval_set, target=target, max_answer_tokens=max_answer_tokens, rungs=marks)

    def _rung(self, name: str) -> Rung:
        for rung in self.rungs:
            if rung.name == name:
                return rung
        raise DataError("no such rung", got=name, expected=", ".join(rung.name for rung in self.rungs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One rung and the tasks on it, sorted."""

    name: str
    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSplit:
    """Instances parted by underlying text. `overlapping` were taken out of the training part, since they ask word for
    word what a held-out one asks."""

    train: tuple[TaskInstance, ...]
    held_out: tuple[TaskInstance, ...]
    overlapping: tuple[TaskInstance, ...]


def build_ladder(
    instances: Sequence[TaskInstance],
    rules: Sequence[RungRule],
    *,
    test_share: float = 0.1,
    test_items_per_task: int = 50,
) -> Ladder:
    """Rungs by rule, from broad to narrow, and one split by underlying text.

    Every task of a rung must stand on the rung before it. Of a task's instances on test texts at most
    `test_items_per_task` are asked (smallest content hash first); the others are left out of both parts.
    """
    rungs = tuple(rung_of(instances, rule) for rule in rules)
    for broad, narrow in itertools.pairwise(rungs):
        stray = sorted(set(narrow.tasks) - set(broad.tasks))
        if stray:
            raise DataError(f"the rung {narrow.name} is not part of {broad.name}", got=", ".join(stray[:5]))
    on_rungs = {task for rung in rungs for task in rung.tasks}
    split = split_by_text([instance for instance in instances if instance.task in on_rungs], share=test_share)
    test = common_items(split.held_out, dict.fromkeys(rungs), per_task=test_items_per_task)
    parted = len(split.held_out) - len(test) + len(split.overlapping)
    return Ladder(rungs=rungs, train=split.train, test=test, parted=parted)


def rung_of(instances: Iterable[TaskInstance], rule: RungRule) -> Rung:
    """The tasks that meet a rule; `DataError` where there are none."""
    tasks = {instance.task for instance in instances if rule.holds(instance)}
    if not tasks:
        raise DataError(f"no task meets the rule of the rung {rule.name}", got=str(rule))
    return Rung(name=rule.name, tasks=tuple(sorted(tasks)))


def marks_of(rungs: Iterable[Rung]) -> dict[str, tuple[str, ...]]:
    """For each task the names of the rungs that hold it, in the order of the rungs."""
    marks: dict[str, list[str]] = {}
    for rung in rungs:
        for task in rung.tasks:
            marks.setdefault(task, []).append(rung.name)
    return {task: tuple(dict.fromkeys(names)) for task, names in marks.items()}


def split_by_text(instances: Sequence[TaskInstance], *, share: float, name: str = "ladder") -> TextSplit:
    """Hold out `share` of the underlying texts of every dataset, by the hash of their names; at least one text of the
    whole, and never all of a dataset that has two.

    The order of the instances changes nothing, and neither does what other datasets there are.
    """
    if not 0 < share < 1:
        raise DataError("a share must lie between 0 and 1", where=f"{name}_share", got=share)
    texts: dict[str, set[str]] = {}
    for instance in instances:
        texts.setdefault(instance.dataset, set()).add(_text_of(instance))
    ranked = {key: sorted(found, key=lambda text: hash_text(f"{name}\n{text}")) for key, found in texts.items()}
    # Within each dataset, so that adding one leaves the held-out texts of the others as they are.
    held = {text for found in ranked.values() for text in found[: min(round(share * len(found)), len(found) - 1)]}
    if not held:
        single = sorted((text for found in ranked.values() for text in found), key=lambda text: hash_text(text))
        if len(single) < 2:
            raise DataError("there is one text only, so none can be held out", where=f"{name}_share")
        held = {single[0]}
    held_out = tuple(instance for instance in instances if _text_of(instance) in held)
    rest = tuple(instance for instance in instances if _text_of(instance) not in held)
    return apart(rest, held_out)


def apart(train: Sequence[TaskInstance], held_out: tuple[TaskInstance, ...]) -> TextSplit:
    """The split, with the training instances that ask what is held out set apart, case and spaces aside."""
    prompts = {_folded(instance.prompt) for instance in held_out}
    overlapping = [_folded(instance.prompt) in prompts for instance in train]
    return TextSplit(
        train=tuple(instance for instance, over in zip(train, overlapping, strict=True) if not over),
        held_out=held_out,
        overlapping=tuple(instance for instance, over in zip(train, overlapping, strict=True) if over),
    )


def common_items(
    held_out: Sequence[TaskInstance], wanted: Mapping[Rung, int | None], *, per_task: int | None = None
) -> tuple[TaskInstance, ...]:
    """One set of test instances for several rungs: of each rung the first so many (None: all), spread evenly over its
    tasks, smallest content hash first; at most `per_task` of a task.

    What two rungs share is chosen once, so every rung is asked all of the common set that lies on it.
    """
    places = _places_in_task(held_out)
    chosen: set[int] = set()
    for rung, count in wanted.items():
        tasks = set(rung.tasks)
        mine = [index for index, instance in enumerate(held_out) if instance.task in tasks]
        mine = [index for index in mine if per_task is None or places[index][0] < per_task]
        # Rank within the task first: the first items of all tasks come before the second of any, so a cut spreads over
        # tasks.
        chosen.update(sorted(mine, key=lambda index: places[index])[:count])
    return tuple(held_out[index] for index in sorted(chosen, key=lambda index: (held_out[index].task, places[index])))


def random_task_sets(
    tasks: Sequence[str], *, sizes: Sequence[int] = (1, 4, 16, 64), draws: int = 3, seed: int = 0
) -> tuple[tuple[Rung, ...], ...]:
    """For each draw a chain of nested random sets of tasks, largest first, so that breadth is not one chain.

    Sizes larger than the number of tasks are refused. The order of `tasks` changes nothing.
    """
    return tuple(
        tuple(random_rung(tasks, size=size, draw=draw, seed=seed) for size in sorted(sizes, reverse=True))
        for draw in range(draws)
    )


def random_rung(tasks: Iterable[str], *, size: int, draw: int, seed: int = 0) -> Rung:
    """`size` tasks at random: a larger set of the same draw holds every smaller one."""
    pool = sorted(set(tasks))
    if not 1 <= size <= len(pool):
        raise DataError(f"sets of {size} tasks from {len(pool)}", where="sizes", expected=f"1 to {len(pool)}")
    order = [pool[index] for index in rng_for(seed, "task sets", draw).permutation(len(pool))]
    return Rung(name=f"draw {draw}: {size} tasks", tasks=tuple(sorted(order[:size])))


def _places_in_task(instances: Sequence[TaskInstance]) -> list[tuple[int, str, str]]:
    """For each instance its rank within its task by content hash, and what breaks ties between tasks."""
    ranked = sorted(
        range(len(instances)), key=lambda index: (hash_text(instances[index].prompt), instances[index].row_id)
    )
    counts: Counter[str] = Counter()
    places = [(0, "", "")] * len(instances)
    for index in ranked:
        instance = instances[index]
        places[index] = (counts[instance.task], hash_text(instance.task + instance.prompt), instance.row_id)
        counts[instance.task] += 1
    return places


def _text_of(instance: TaskInstance) -> str:
    return instance.group or instance.prompt


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
