"""The share of the target's own kind, and the report that holds every check."""

from __future__ import annotations

import random

import pytest

from titrant.core.errors import DataError
from titrant.core.identity import content_keys
from titrant.core.records import Example, Item, Origin, Turn
from titrant.data.contamination import TaskSimilaritySettings, check_lines, check_report, own_kind_share, refuse_overlap

REVIEWS = [
    "waiter",
    "menu",
    "dessert",
    "tables",
    "portion",
    "kitchen",
    "sauce",
    "bill",
    "tip",
    "starter",
    "wine",
    "crust",
]
ERRANDS = ["ladder", "paint", "screws", "invoice", "route", "parcel", "ticket", "meeting", "budget", "printer", "cable"]
PLAIN = ["the", "was", "and", "we", "for", "a", "not", "very", "it", "with", "our", "after"]


def texts(subject: list[str], count: int, *, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(subject, k=5) + rng.choices(PLAIN, k=7)) for _ in range(count)]


def examples(prompts: list[str], *, source: str, answers: list[str] | None = None) -> list[Example]:
    given = answers or [f"Fine, number {number}." for number in range(len(prompts))]
    return [
        Example(
            key=key,
            row_id=str(number),
            source=source,
            task=source,
            turns=(Turn(role="user", text=prompt), Turn(role="assistant", text=answer)),
            origin=Origin(path=f"{source}.jsonl", line=number),
        )
        for number, (key, prompt, answer) in enumerate(zip(content_keys(prompts), prompts, given, strict=True), start=1)
    ]


def items(prompts: list[str]) -> list[Item]:
    return [
        Item(
            key=key, row_id=f"i{line}", eval_set="target", target="reviews", task="reviews",
            turns=(Turn(role="user", text=prompt),), references=("praise",), choices=("blame", "praise"),
            answer="choices", metric="accuracy", max_answer_tokens=4, origin=Origin(path="test.jsonl", line=line),
        )
        for line, (key, prompt) in enumerate(zip(content_keys(prompts), prompts, strict=True), start=1)
    ]  # fmt: skip


TRAIN = examples([f"Praise or blame?\n\n{text}" for text in texts(REVIEWS, 120, seed=1)], source="reviews")


@pytest.mark.parametrize("planted", [0, 30, 90])
def test_the_planted_share_of_own_kind_is_found_within_a_twentieth(planted: int) -> None:
    pool = examples(texts(REVIEWS, planted, seed=2) + texts(ERRANDS, 300 - planted, seed=3), source="general")
    task_similarity = own_kind_share(pool, TRAIN)
    assert task_similarity.share == pytest.approx(planted / 300, abs=0.05)
    assert task_similarity.recognised is not None
    assert task_similarity.recognised > 0.9
    assert all(int(kin.row_id) <= planted for kin in task_similarity.nearest)


def test_a_pool_of_nothing_but_the_targets_kind_is_seen_as_such() -> None:
    """The classifier can only guess then, for the pool as for the target; the correction makes up for it."""
    task_similarity = own_kind_share(examples(texts(REVIEWS, 240, seed=12), source="general"), TRAIN)
    assert task_similarity.share > 0.8


def test_rows_answered_by_a_label_or_naming_all_labels_are_own_kind() -> None:
    prompts = texts(ERRANDS, 9, seed=4)
    pool = examples([*prompts, "Is it praise, or blame?"], source="general", answers=["Blame."] + ["No."] * 9)
    task_similarity = own_kind_share(pool, TRAIN, labels={"praise", "blame"})
    assert task_similarity.by_labels == pytest.approx(0.2)
    assert task_similarity.by_text is None
    assert task_similarity.reason is not None
    assert task_similarity.share == task_similarity.by_labels


def test_labels_that_any_task_uses_say_nothing() -> None:
    pool = examples(texts(ERRANDS, 4, seed=5), source="general", answers=["Yes", "no", "A", "3"])
    assert own_kind_share(pool, TRAIN, labels={"yes", "no", "a", "3"}).by_labels == 0


def test_the_order_of_a_pool_changes_no_share_even_when_it_is_sampled() -> None:
    pool = examples(texts(REVIEWS, 40, seed=6) + texts(ERRANDS, 100, seed=7), source="general")
    settings = TaskSimilaritySettings(pool_rows=60, target_rows=50)
    assert own_kind_share(pool, TRAIN, settings=settings) == own_kind_share(pool[::-1], TRAIN[::-1], settings=settings)


def test_an_empty_pool_has_no_share() -> None:
    assert own_kind_share([], TRAIN).share == 0


def test_the_report_holds_leaks_overlaps_duplicates_and_shares_with_the_evidence() -> None:
    test_texts = [f"Praise or blame?\n\n{text}" for text in texts(REVIEWS, 20, seed=8)]
    leaked = test_texts[4].split("\n\n")[1].upper()
    pool = examples([*texts(ERRANDS, 40, seed=9), f"Proofread this: {leaked}"], source="general")
    again = examples([pool[0].turns[0].text.upper()], source="more", answers=[pool[0].answer])
    train = [*TRAIN, *examples([test_texts[7]], source="reviews")]
    report = check_report(
        train=train, items=items(test_texts), pools={"general": pool, "more": again}, labels={"praise", "blame"}
    )
    assert report.pools[0].leaked_keys == {pool[40].key}
    assert report.pools[1].leaked_keys == set()
    assert [(entry.kept.source, entry.row.source) for entry in report.duplicates] == [("general", "more")]
    assert [overlap.item_id for overlap in report.overlaps] == ["i8"]
    assert report.target_leaks == ()
    shown = "\n".join(check_lines(report))
    assert "general.jsonl:41" in shown
    assert "test.jsonl:5" in shown
    assert leaked in shown
    assert f"    row:  {again[0].turns[0].text}" in shown
    assert f"    kept: {pool[0].turns[0].text}" in shown
    with pytest.raises(DataError, match=r"^reviews\.jsonl:1: .*test\.jsonl:8"):
        refuse_overlap(report.overlaps)


def test_clean_rows_are_not_refused() -> None:
    refuse_overlap(())


def test_a_training_row_that_holds_a_test_item_in_a_longer_text_is_a_warning_and_no_error() -> None:
    test_texts = texts(REVIEWS, 6, seed=10)
    train = examples([f"Yesterday I wrote: {test_texts[0]} — that was all.", *texts(REVIEWS, 3, seed=11)], source="r")
    report = check_report(train=train, items=items(test_texts), pools={})
    assert report.overlaps == ()
    assert [leak.item_id for leak in report.target_leaks] == ["i1"]
