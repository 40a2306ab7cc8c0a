"""The coverage ladder: nested sets of tasks, from all to one dataset, tested on one common set of items.

A broad and a narrow specialist can only be compared on the same items; `rungs` on an item says which sets hold its
task. The split is by underlying text before anything else, so that no specialist has seen a test text in any template.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from titrant.errors import DataError
from titrant.identity import hash_text, rng_for
from titrant.records import Example, Item
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Rungs from broad to narrow with their tasks, training instances, and test instances of all rungs.

    `parted` counts instances that are in neither part because the test set takes at most so many of a task.
    """

    rungs: tuple[Rung, ...]
    train: tuple[TaskInstance, ...]
    test: tuple[TaskInstance, ...]
    parted: int

    def examples(self, rung: str, *, source: str) -> tuple[Example, ...]:
        """The training rows of a rung's tasks."""
        tasks = self._rung(rung).tasks
        return as_examples([instance for instance in self.train if instance.task in tasks], source=source)

    def items(self, *, probe: str, target: str, max_answer_tokens: int) -> tuple[Item, ...]:
        """The common test items, each with the rungs that hold its task."""
        tasks = {instance.task for instance in self.test}
        rungs = {task: tuple(rung.name for rung in self.rungs if task in rung.tasks) for task in tasks}
        return as_items(self.test, probe=probe, target=target, max_answer_tokens=max_answer_tokens, rungs=rungs)

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


def build_ladder(
    instances: Sequence[TaskInstance],
    rules: Sequence[RungRule],
    *,
    test_share: float = 0.1,
    test_items_per_task: int = 50,
) -> Ladder:
    """Rungs by rule, and one split by underlying text: `test_share` of the texts, by their hash.

    Every task of a rung must stand on the rung before it. Of a task's instances on test texts at most
    `test_items_per_task` are asked (smallest content hash first); the others are left out of both parts.
    """
    if not 0 < test_share < 1:
        raise DataError("a share must lie between 0 and 1", where="test_share", got=test_share)
    rungs = tuple(Rung(name=rule.name, tasks=_tasks_of(instances, rule)) for rule in rules)
    for broad, narrow in itertools.pairwise(rungs):
        stray = sorted(set(narrow.tasks) - set(broad.tasks))
        if stray:
            raise DataError(f"the rung {narrow.name} is not part of {broad.name}", got=", ".join(stray[:5]))
    groups = {instance.group or instance.prompt for instance in instances}
    ranked = sorted(groups, key=lambda group: hash_text(f"ladder\n{group}"))
    held = set(ranked[: max(1, round(test_share * len(ranked)))])
    on_rungs = {task for rung in rungs for task in rung.tasks}
    train, by_task = [], {task: list[TaskInstance]() for task in sorted(on_rungs)}
    for instance in instances:
        if instance.task not in on_rungs:
            continue
        if (instance.group or instance.prompt) in held:
            by_task[instance.task].append(instance)
        else:
            train.append(instance)
    test = []
    for candidates in by_task.values():
        chosen = sorted(candidates, key=lambda instance: (hash_text(instance.prompt), instance.row_id))
        test.extend(chosen[:test_items_per_task])
    parted = sum(map(len, by_task.values())) - len(test)
    return Ladder(rungs=rungs, train=tuple(train), test=tuple(test), parted=parted)


def random_task_sets(
    tasks: Sequence[str], *, sizes: Sequence[int] = (1, 4, 16, 64), draws: int = 3, seed: int = 0
) -> tuple[tuple[Rung, ...], ...]:
    """For each draw a chain of nested random sets of tasks, largest first, so that breadth is not one chain.

    Sizes larger than the number of tasks are refused. The order of `tasks` changes nothing.
    """
    pool = sorted(set(tasks))
    if max(sizes) > len(pool) or min(sizes) < 1:
        raise DataError(f"sets of {max(sizes)} tasks from {len(pool)}", where="sizes", expected=f"1 to {len(pool)}")
    chains = []
    for draw in range(draws):
        order = [pool[index] for index in rng_for(seed, "task sets", draw).permutation(len(pool))]
        chain = (
            Rung(name=f"draw {draw}: {size} tasks", tasks=tuple(sorted(order[:size])))
            for size in sorted(sizes, reverse=True)
        )
        chains.append(tuple(chain))
    return tuple(chains)


def _tasks_of(instances: Sequence[TaskInstance], rule: RungRule) -> tuple[str, ...]:
    tasks = {
        instance.task
        for instance in instances
        if (not rule.kinds or instance.kind in rule.kinds)
        and (not rule.datasets or instance.dataset in rule.datasets)
        and (not rule.tasks or instance.task in rule.tasks)
        and (not rule.classification or instance.choices is not None)
    }
    if not tasks:
        raise DataError(f"no task meets the rule of the rung {rule.name}", got=str(rule))
    return tuple(sorted(tasks))
