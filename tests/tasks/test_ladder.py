"""The coverage ladder: rungs, one split by underlying text, common test items."""

import itertools
import random
from collections import Counter
from dataclasses import replace

import pytest

from titrant.core.errors import DataError
from titrant.core.records import Origin, RawRow
from titrant.tasks import P3_RUNGS, P3Collection, RungRule, build_ladder, random_task_sets, read_p3, split_by_text
from titrant.tasks.underlying import TemplatedText, groups_by_text

WORDS = [
    f"{head}{tail}" for head in ("ba", "ko", "mi", "tu", "ze", "ra") for tail in ("lan", "dor", "fit", "sum", "nek")
]
TEMPLATES = (
    "{}\n===\nBased on that, my rating is",
    "Review: {}\nOn a scale of 1 to 5, I would give",
    "{} How many stars?",
)


def review(number: int) -> str:
    words = random.Random(number)
    return " ".join(words.choice(WORDS) for _ in range(words.randint(8, 60)))


def p3_rows(*, dataset: str, kind: str, reviews: range, outputs: tuple[str, ...]) -> list[RawRow]:
    rows = []
    for template_number, template in enumerate(TEMPLATES):
        for number in reviews:
            name = f"{dataset}_{template_number}"
            values = {
                "id": f"{name}-{number}",
                "template": name,
                "dataset": dataset,
                "group": kind,
                "instruction": template.format(review(number)),
                "input": "",
                "output": outputs[number % len(outputs)].replace("#", str(number)) + "<|endoftext|>",
            }
            rows.append(RawRow(values=values, origin=Origin(path="p3.jsonl", line=len(rows) + 1)))
    return rows


def collection() -> P3Collection:
    return read_p3(
        p3_rows(dataset="yelp_review_full", kind="sentiment", reviews=range(60), outputs=("1 star", "5 stars"))
        + p3_rows(dataset="imdb", kind="sentiment", reviews=range(100, 160), outputs=("negative",))
        + p3_rows(dataset="rotten", kind="sentiment", reviews=range(200, 260), outputs=("good", "bad"))
        + p3_rows(dataset="trec", kind="topic_classification", reviews=range(300, 360), outputs=("",))
        + p3_rows(dataset="news", kind="topic_classification", reviews=range(400, 460), outputs=("a", "b", "c"))
        + p3_rows(dataset="xsum", kind="summarization", reviews=range(500, 560), outputs=("summary # of it",))
    )


def test_the_end_mark_goes_and_the_metric_follows_the_answers() -> None:
    by_dataset = {each.dataset: each for each in collection().instances}
    assert by_dataset["yelp_review_full"].references == ("5 stars",)
    assert by_dataset["yelp_review_full"].choices == ("1 star", "5 stars")
    assert by_dataset["yelp_review_full"].metric == "exact_match"
    assert by_dataset["xsum"].choices is None
    assert by_dataset["xsum"].metric == "rouge_l"


def test_templates_that_ask_nothing_are_left_out_and_counted() -> None:
    left = collection().left_out
    assert {(each.template, each.reason) for each in left} == {
        *((f"imdb_{number}", "one output only") for number in range(3)),
        *((f"trec_{number}", "empty output") for number in range(3)),
    }
    assert sum(each.rows for each in left) == 360


def test_one_text_under_several_templates_is_one_group() -> None:
    groups = Counter(each.group for each in collection().instances if each.dataset == "yelp_review_full")
    assert sorted(groups.values()) == [3] * 60


def test_groups_do_not_depend_on_the_order_and_unlike_texts_stay_apart() -> None:
    texts = [
        TemplatedText(dataset="d", template=str(number), text=template.format(review(item)))
        for number, template in enumerate(TEMPLATES)
        for item in range(40)
    ]
    names = groups_by_text(texts)
    order = list(range(len(texts)))
    random.Random(1).shuffle(order)
    shuffled = groups_by_text([texts[index] for index in order])
    assert [shuffled[order.index(index)] for index in range(len(texts))] == list(names)
    assert len(set(names)) == 40
    assert names[:40] == names[40:80] == names[80:]


def test_rungs_nest_and_no_test_text_is_trained_on_in_any_template() -> None:
    ladder = build_ladder(collection().instances, P3_RUNGS, test_share=0.2)
    assert [len(rung.tasks) for rung in ladder.rungs] == [12, 9, 6, 3]
    trained = {each.group for each in ladder.train}
    assert not trained & {each.group for each in ladder.test}
    rows = [len(ladder.examples(rung.name, source="p3")) for rung in ladder.rungs]
    assert rows == sorted(rows, reverse=True)
    assert rows[-1] > 0
    items = ladder.items(eval_set="target", target="p3", max_answer_tokens=8)
    yelp = [item for item in items if item.task.startswith("yelp")]
    assert yelp
    assert all(item.rungs == ("all", "classification", "sentiment", "yelp") for item in yelp)
    assert all(item.rungs == ("all",) for item in items if item.task.startswith("xsum"))
    assert len({item.key for item in items}) == len(items)


def test_the_split_does_not_depend_on_the_order() -> None:
    instances = list(collection().instances)
    first = {each.row_id for each in build_ladder(instances, P3_RUNGS, test_items_per_task=5).test}
    random.Random(2).shuffle(instances)
    assert {each.row_id for each in build_ladder(instances, P3_RUNGS, test_items_per_task=5).test} == first


def test_every_instance_is_trained_on_tested_or_counted() -> None:
    instances = collection().instances
    ladder = build_ladder(instances, P3_RUNGS, test_share=0.5, test_items_per_task=3)
    assert len(ladder.train) + len(ladder.test) + ladder.parted == len(instances)
    assert ladder.parted > 0
    assert max(Counter(each.task for each in ladder.test).values()) == 3


def test_a_rung_that_is_no_part_of_the_one_before_is_refused() -> None:
    rules = (RungRule(name="topics", kinds=("topic_classification",)), RungRule(name="yelp", kinds=("sentiment",)))
    with pytest.raises(DataError, match="yelp is not part of topics"):
        build_ladder(collection().instances, rules)
    with pytest.raises(DataError, match="no task meets"):
        build_ladder(collection().instances, (RungRule(name="none", kinds=("poetry",)),))


def test_random_sets_nest_within_a_draw_and_differ_between_draws() -> None:
    tasks = [f"task{number}" for number in range(80)]
    chains = random_task_sets(tasks, draws=3, seed=1)
    assert chains == random_task_sets(tasks[::-1], draws=3, seed=1)
    for chain in chains:
        assert [len(rung.tasks) for rung in chain] == [64, 16, 4, 1]
        for broad, narrow in itertools.pairwise(chain):
            assert set(narrow.tasks) < set(broad.tasks)
    assert len({chain[1].tasks for chain in chains}) == 3
    with pytest.raises(DataError, match="64 tasks from 10"):
        random_task_sets(tasks[:10])


def test_a_training_row_that_asks_what_a_test_item_asks_is_left_out_though_their_texts_were_told_apart() -> None:
    same = [
        replace(each, prompt=f"Rate  THIS: {number // 2}", group=f"text {number}")
        if number % 2
        else replace(each, prompt=f"rate this: {number // 2}", group=f"text {number}")
        for number, each in enumerate(collection().instances[:40])
    ]
    split = split_by_text(same, share=0.5)
    asked = {each.prompt.casefold().split()[-1] for each in split.held_out}
    assert split.overlapping
    assert not asked & {each.prompt.casefold().split()[-1] for each in split.train}
    assert len(split.train) + len(split.held_out) + len(split.overlapping) == len(same)
