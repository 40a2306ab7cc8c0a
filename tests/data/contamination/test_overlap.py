"""Leaks: planted ones are found wherever they stand, unrelated rows raise no alarm."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from titrant.core.identity import content_keys
from titrant.core.records import Example, Item, Origin, Turn
from titrant.data.contamination import ContaminationSettings, contaminated, target_overlap

INSTRUCTION = "Route the message. Answer with one of: repair, refund, none."
LONG = (
    "The third shower on the left in the ladies' changing room has been dripping since the weekend, and the floor "
    "around it is so slippery that my daughter nearly fell"
)
SHORT = "Who keeps the key to hall two?"
BEFORE = "Thank you for the long letter, to which I reply point by point. You wrote to us:"
AFTER = "We have passed this on to the caretaker, who will look at it as soon as the parts arrive."


def example(prompt: str, answer: str, *, source: str = "general", row: int = 1) -> Example:
    turns = (Turn(role="user", text=prompt), Turn(role="assistant", text=answer))
    return Example(
        key=content_keys([[prompt, answer]])[0],
        row_id=str(row),
        source=source,
        task=source,
        turns=turns,
        origin=Origin(path=f"{source}.jsonl", line=row),
    )


def item(text: str, *, row: int = 1, reference: str = "repair", task: str = "triage") -> Item:
    return Item(
        key=content_keys([[text, row]])[0],
        row_id=f"i{row}",
        eval_set="target",
        target="triage",
        task=task,
        turns=(Turn(role="user", text=text),),
        references=(reference,),
        choices=None,
        answer="text",
        metric="exact_match",
        max_answer_tokens=4,
        origin=Origin(path="test.jsonl", line=row),
    )


def instructed(texts: list[str]) -> list[Item]:
    return [item(f"{INSTRUCTION}\n\n{text}", row=row) for row, text in enumerate(texts, start=1)]


VOCABULARY = [first + second for first in "bdfgklmnprst" for second in ("ale", "ino", "ur", "esk", "ody", "ant", "ilt")]


def unrelated_rows(count: int, *, seed: int, source: str = "general") -> list[Example]:
    """Rows of words drawn at random, with a shared instruction in every tenth."""
    rng = random.Random(seed)
    rows = []
    for row in range(1, count + 1):
        text = " ".join(rng.choices(VOCABULARY, k=rng.randint(3, 60)))
        prompt = f"{INSTRUCTION}\n\n{text}" if row % 10 == 0 else text
        rows.append(example(prompt, " ".join(rng.choices(VOCABULARY, k=rng.randint(1, 80))), source=source, row=row))
    return rows


ITEMS = instructed([LONG, SHORT, *(row.answer for row in unrelated_rows(30, seed=1))])

DISGUISES = {
    "verbatim": lambda text: text,
    "in capitals": lambda text: text.upper(),
    "other white space": lambda text: text.replace(" ", "\n  "),
    "other punctuation": lambda text: text.replace(",", " —").replace("'", "’").rstrip("?") + "!",
    "in markup": lambda text: f"**{text}**",
}


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("text", [LONG, SHORT], ids=["long", "short"])
@pytest.mark.parametrize("place", ["prompt", "prompt after an instruction", "answer", "inside a longer answer"])
def test_a_planted_item_is_found_in_every_disguise_and_place(disguise: str, text: str, place: str) -> None:
    planted = DISGUISES[disguise](text)
    row = {
        "prompt": example(planted, "None of our business.", row=500),
        "prompt after an instruction": example(f"Translate into French.\n\n{planted}", "Non.", row=500),
        "answer": example("Invent a message.", planted, row=500),
        "inside a longer answer": example("Write a letter.", f"{BEFORE} {planted} {AFTER}", row=500),
    }[place]
    pool = [*unrelated_rows(200, seed=2), row]
    leaks = contaminated(pool, ITEMS)
    assert [(leak.row_id, leak.item_id) for leak in leaks] == [("500", "i1" if text is LONG else "i2")]
    assert leaks[0].row_key == row.key
    assert leaks[0].overlap == 1.0
    assert leaks[0].part == ("prompt" if place.startswith("prompt") else "answer")
    assert str(leaks[0].item_origin) == f"test.jsonl:{1 if text is LONG else 2}"


def test_two_thousand_unrelated_rows_raise_no_alarm() -> None:
    assert contaminated(unrelated_rows(2000, seed=3), ITEMS) == ()


def test_a_row_with_the_same_instruction_but_another_text_is_no_leak() -> None:
    other = "My locker swallowed the coin and does not open any more, though I pushed as hard as I could manage today"
    assert contaminated([example(f"{INSTRUCTION}\n\n{other}", "repair")], ITEMS) == ()


def test_an_item_with_a_changed_word_at_its_end_is_still_found() -> None:
    (leak,) = contaminated([example(LONG.replace("fell", "slipped"), "repair")], ITEMS)
    assert leak.kind == "overlap"
    assert 0.5 <= leak.overlap < 1


def test_a_quarter_of_an_item_is_not_a_leak() -> None:
    quarter = " ".join(LONG.split()[:10])
    assert contaminated([example(quarter, "repair")], ITEMS) == ()


def test_a_short_question_that_differs_in_its_last_word_is_not_a_leak() -> None:
    items = [item("What is the capital city of the state of Texas?")]
    assert contaminated([example("What is the capital city of the state of Ohio?", "Columbus")], items) == ()
    assert len(contaminated([example("What is the capital city of the state of texas", "Austin")], items)) == 1


def test_sums_with_another_operator_are_not_the_same_sum() -> None:
    items = [item("Please compute the value of 12 + 7 for me now.")]
    assert contaminated([example("Please compute the value of 12 - 7 for me now.", "5")], items) == ()
    assert len(contaminated([example("Please compute the value of 12+7 for me now.", "19")], items)) == 1


def test_very_short_items_are_found_only_as_a_whole_turn_or_last_paragraph() -> None:
    items = [item("Great food!")]
    assert len(contaminated([example("great  FOOD!", "positive")], items)) == 1
    assert len(contaminated([example("Is this kind?\n\nGreat food!", "yes")], items)) == 1
    assert contaminated([example("We had great food! And wine.", "positive")], items) == ()
    assert contaminated([example("Praise the cook.", "Great food!")], items) == ()


def test_single_words_are_never_looked_for() -> None:
    assert contaminated([example("happy", "glad")], [item("happy")]) == ()


def test_a_template_that_many_pool_rows_share_is_no_evidence() -> None:
    template = (
        "Read the following statement with care, decide what the writer of it wanted to say to the reader, and give "
        "your answer in a single word. The statement is: "
    )
    items = [item(template + "gulls sleep on masts when storms come near", reference="calm")]
    pool = [example(template + " ".join(row.answer.split()[:6]), "x", row=row_number)
            for row_number, row in enumerate(unrelated_rows(200, seed=4), start=1)]  # fmt: skip
    assert contaminated(pool, items) == ()
    leaked = example(template + "gulls sleep on masts when storms come near", "calm", row=999)
    assert [leak.row_id for leak in contaminated([*pool, leaked], items)] == ["999"]


def test_a_leak_that_stands_a_hundred_times_in_the_pool_is_found_each_time() -> None:
    pool = [example(LONG, f"answer {number}", row=number) for number in range(100)]
    assert len(contaminated(pool, ITEMS)) == 100


def test_wording_that_a_fifth_of_the_items_share_is_not_their_own() -> None:
    frame = (
        "Consider the claim that {} and say whether a careful reader should believe it, doubt it or reject it outright"
    )
    subjects = [
        "old gulls dance",
        "grey cats sing",
        "tall oaks fall",
        "wet stones burn",
        "blue bees swim",
        "red ants fly",
    ]
    items = [item(frame.format(subject), row=row) for row, subject in enumerate(subjects, start=1)]
    assert contaminated([example(frame.format("pale moths read"), "doubt")], items) == ()
    assert [leak.item_id for leak in contaminated([example(frame.format("wet stones burn"), "doubt")], items)] == ["i4"]


def test_the_answer_in_the_row_is_noticed() -> None:
    (with_answer,) = contaminated([example(SHORT, "That is the repair desk.")], ITEMS)
    (without,) = contaminated([example(SHORT, "That is the porter.")], ITEMS)
    assert with_answer.answer_too
    assert not without.answer_too


def test_snippets_show_the_rows_own_wording_around_the_match() -> None:
    (leak,) = contaminated([example("Write a letter.", f"{BEFORE} {SHORT} {AFTER}")], ITEMS)
    assert SHORT in leak.row_snippet
    assert leak.item_snippet == SHORT


def test_a_text_in_a_script_without_spaces_is_found_inside_an_answer() -> None:
    text = "今天下午游泳池的更衣室没有热水而且地板非常滑请派人来看一下"
    (leak,) = contaminated([example("写一封信", f"您好，{text}，谢谢。")], [item(text)])
    assert leak.overlap == 1.0


@pytest.mark.parametrize(("pool", "items"), [([], ITEMS), (unrelated_rows(3, seed=5), []), ([], [])])
def test_nothing_to_compare_is_nothing_found(pool: list[Example], items: list[Item]) -> None:
    assert contaminated(pool, items) == ()


def test_texts_without_any_word_are_never_found() -> None:
    assert contaminated([example("?!", "…"), example("", "")], [item("?!"), item(" ", row=2)]) == ()


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(st.lists(st.sampled_from(VOCABULARY[:12]), min_size=1, max_size=30), min_size=1, max_size=8),
    rows=st.lists(st.lists(st.sampled_from(VOCABULARY[:12]), min_size=1, max_size=40), min_size=1, max_size=8),
)
def test_the_index_finds_exactly_what_a_direct_comparison_finds(texts: list[list[str]], rows: list[list[str]]) -> None:
    chosen = ContaminationSettings(run_words=4, long_words=8, short_words=2, short_bytes=6, common_rows=1000)
    items = [item(" ".join(text), row=number, task=str(number)) for number, text in enumerate(texts)]
    pool = [example("x", " ".join(row), row=number) for number, row in enumerate(rows)]
    expected = {
        (row_number, item_number)
        for (row_number, row), (item_number, text) in itertools.product(enumerate(rows), enumerate(texts))
        if _direct(["x", *row], text)
    }
    found = contaminated(pool, items, settings=chosen)
    assert {(int(leak.row_id), int(leak.item_id[1:])) for leak in found} == expected


def _direct(row: list[str], text: list[str]) -> bool:
    def runs(found: list[str], length: int) -> set[tuple[str, ...]]:
        return {tuple(found[start : start + length]) for start in range(len(found) - length + 1)}

    own = runs(text, 4)
    if len(text) >= 8 and 2 * len(own) > 4:
        return len(own & runs(row, 4)) >= 0.5 * len(own)
    return len(text) >= 2 and tuple(text) in runs(row, len(text))


def test_own_rows_that_are_test_items_are_named_with_both_lines() -> None:
    train = [
        example(f"{INSTRUCTION}\n\nA new text.", "none", source="triage", row=1),
        example(f"{INSTRUCTION}\n\n{SHORT.upper()}", "refund", source="triage", row=2),
    ]
    (overlap,) = target_overlap(train, ITEMS)
    assert (str(overlap.row_origin), str(overlap.item_origin)) == ("triage.jsonl:2", "test.jsonl:2")
    assert not overlap.same_answer


def test_own_rows_that_differ_in_punctuation_only_are_not_called_equal() -> None:
    assert target_overlap([example("2+3", "5")], [item("2-3")]) == ()


def test_an_item_shorter_than_a_run_is_looked_for_as_a_whole() -> None:
    settings = ContaminationSettings(run_words=20)
    text = " ".join(LONG.split()[:16])
    (leak,) = contaminated([example(f"Yes: {text}", "ok")], [item(text)], settings=settings)
    assert leak.kind == "contained"
