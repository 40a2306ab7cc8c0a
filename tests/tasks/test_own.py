"""The user's own target: labels, splits, and no test item among the training rows."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from titrant.core.errors import DataError
from titrant.core.identity import content_keys
from titrant.core.records import Example, Item, Origin, Turn
from titrant.tasks import closed_labels, items_of, refuse_overlap, refuse_unseen_labels, split_rows


def examples(*rows: tuple[str, str | None], groups: tuple[str | None, ...] | None = None) -> tuple[Example, ...]:
    keys = content_keys(rows)
    return tuple(
        Example(
            key=key,
            row_id=str(line),
            source="t",
            task="t",
            turns=(Turn(role="user", text=text), Turn(role="assistant", text=label or "answer")),
            label=label,
            group=groups[line - 1] if groups else None,
            origin=Origin(path="train.jsonl", line=line),
        )
        for line, (key, (text, label)) in enumerate(zip(keys, rows, strict=True), start=1)
    )


def items(*rows: tuple[str, str]) -> tuple[Item, ...]:
    return tuple(
        Item(
            key=f"{text}{line}",
            row_id=str(line),
            eval_set="target",
            target="t",
            task="t",
            turns=(Turn(role="user", text=text),),
            references=(label,),
            choices=None,
            answer="text",
            metric="exact_match",
            max_answer_tokens=4,
            origin=Origin(path="test.jsonl", line=line),
        )
        for line, (text, label) in enumerate(rows, start=1)
    )


def test_the_closed_set_is_the_sorted_labels_of_the_whole_file() -> None:
    assert closed_labels(examples(("x", "b"), ("y", "a"), ("z", "b"))) == ("a", "b")


def test_one_label_is_no_question() -> None:
    with pytest.raises(DataError, match="at least two labels"):
        closed_labels(examples(("x", "b"), ("y", "b")))


def test_a_split_takes_its_share_from_every_label() -> None:
    rows = examples(*[(f"text {n}", "common" if n % 10 else "rare") for n in range(200)])
    split = split_rows(rows, share=0.2, name="test")
    assert len(split.held_out) == 40
    assert sum(row.label == "rare" for row in split.held_out) == 4
    assert set(split.train) | set(split.held_out) == set(rows)
    assert not set(split.train) & set(split.held_out)


def test_a_label_with_a_single_text_stays_in_training() -> None:
    rows = examples(*[(f"text {n}", "common") for n in range(9)], ("once", "single"))
    for share in (0.1, 0.5, 0.9):
        assert "single" in {row.label for row in split_rows(rows, share=share, name="test").train}


def test_a_larger_share_contains_a_smaller_one_and_other_names_split_otherwise() -> None:
    rows = examples(*[(f"text {n}", "ab"[n % 2]) for n in range(100)])
    small, large = (set(split_rows(rows, share=share, name="test").held_out) for share in (0.1, 0.4))
    assert small < large
    assert set(split_rows(rows, share=0.4, name="validation").held_out) != large


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefghijkl"), st.sampled_from(["x", "y", None])), min_size=4, max_size=40),
    st.sampled_from([0.1, 0.25, 0.5]),
    st.randoms(use_true_random=False),
)
def test_order_of_the_file_changes_nothing_and_texts_stay_on_one_side(
    rows: list[tuple[str, str | None]], share: float, shuffler: random.Random
) -> None:
    def parts(rows: list[tuple[str, str | None]]) -> tuple[set[str], set[str]] | str:
        try:
            split = split_rows(examples(*rows), share=share, name="test")
        except DataError as error:
            return str(error)
        return {row.turns[0].text for row in split.train}, {row.turns[0].text for row in split.held_out}

    first = parts(rows)
    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    assert parts(shuffled) == first
    if not isinstance(first, str):
        assert not first[0] & first[1]


def test_case_spaces_and_groups_keep_rows_together() -> None:
    texts = [(f"Text  number {n}", None) for n in range(20)] + [(f"text NUMBER {n} ", None) for n in range(20)]
    split = split_rows(examples(*texts), share=0.5, name="test")
    folded = [
        {" ".join(row.turns[0].text.casefold().split()) for row in part} for part in (split.train, split.held_out)
    ]
    assert len(split.held_out) == 20
    assert not folded[0] & folded[1]
    groups = tuple(f"review {n % 5}" for n in range(20))
    split = split_rows(examples(*texts[:20], groups=groups), share=0.4, name="test")
    assert len({row.group for row in split.held_out}) == 2
    assert not {row.group for row in split.held_out} & {row.group for row in split.train}


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 0.01])
def test_a_share_that_leaves_a_side_empty_is_refused(share: float) -> None:
    with pytest.raises(DataError, match="test_share"):
        split_rows(examples(*[(f"text {n}", "a") for n in range(10)]), share=share, name="test")


def test_rows_held_out_are_the_same_rows_as_items() -> None:
    rows = [(f"text {n}", "ab"[n % 2]) for n in range(20)]
    train = examples(*rows)
    as_items = items(*[(text, label) for text, label in rows])
    held = split_rows(train, share=0.3, name="test").held_out
    found = items_of(held, examples=train, items=as_items)
    assert [item.turns[-1].text for item in found] == [row.turns[0].text for row in held]
    with pytest.raises(DataError, match="not the same file"):
        items_of(held, examples=train, items=as_items[:-1])


@pytest.mark.parametrize("text", ["Where is my parcel?", " where is  MY parcel?\n", "WHERE IS MY PARCEL?"])
def test_a_test_item_among_the_training_rows_names_both_lines(text: str) -> None:
    train = examples(("Other.", "a"), ("Where is my parcel?", "b"))
    with pytest.raises(DataError, match=r"test\.jsonl:2: .* train\.jsonl:2"):
        refuse_overlap(train, items(("Something new", "a"), (text, "a")))


def test_every_overlap_is_counted_and_twenty_are_named() -> None:
    train = examples(*[(f"t{n}", "a") for n in range(30)])
    with pytest.raises(DataError, match="30 test items") as caught:
        refuse_overlap(train, items(*[(f"T{n}", "a") for n in range(30)]))
    assert str(caught.value).count("test.jsonl:") == 20
    assert "and 10 more" in str(caught.value)


def test_different_texts_are_no_overlap() -> None:
    refuse_overlap(examples(("one", "a")), items(("one two", "a"), ("on e", "a")))


def test_unseen_labels_are_named_with_their_lines() -> None:
    refuse_unseen_labels(items(("x", "a")), ("a", "b"))
    with pytest.raises(DataError, match=r"(?s)2 labels.*test\.jsonl:2.*'c'.*test\.jsonl:3.*'A'"):
        refuse_unseen_labels(items(("x", "a"), ("y", "c"), ("z", "A")), ("a", "b"))
