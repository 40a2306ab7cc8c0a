"""How much ground rows cover: each number by hand on small sets, and the rungs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from titrant.core.identity import content_keys
from titrant.core.records import Example, Turn
from titrant.data.breadth import Breadth, BreadthSettings, breadth_of, entropy_bits
from titrant.tasks import closed_set

PLACES = ("kitchen", "garden", "street", "harbour", "school", "market", "station", "library", "office", "theatre")


def rows_of(pairs: Sequence[tuple[str, str]], *, tasks: Sequence[str] | None = None) -> list[Example]:
    return [
        Example(
            key=key,
            row_id=str(number),
            source="rows",
            task=tasks[number] if tasks else "rows",
            turns=(Turn(role="user", text=prompt), Turn(role="assistant", text=answer)),
        )
        for number, (key, (prompt, answer)) in enumerate(zip(content_keys(pairs), pairs, strict=True))
    ]


def looked_at(rows: Sequence[Example], **said: object) -> Breadth:
    return breadth_of(rows, closed_set=closed_set, **{"asks": True, **said})  # type: ignore[arg-type]


def reviews(count: int, *, labels: Sequence[str] = ("good", "bad"), seed: int = 0) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    return [(f"r{n} {' '.join(rng.choices(PLACES, k=7))}", labels[n % len(labels)]) for n in range(count)]


def templated(wording: str, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(f"{wording}\n\n{prompt}", answer) for prompt, answer in pairs]


SENTIMENT = "Read the review below and tell whether its writer was pleased with the visit"
TOPIC = "Which newspaper section would print the following piece of text on its pages"


def test_rows_without_an_instruction_of_their_own_are_one_dataset() -> None:
    found = looked_at(rows_of(reviews(60)), asks=False)
    assert found.rung == "one_dataset"
    assert found.measure("tasks") == found.measure("effective_tasks") == 1
    assert [(entry.labels, entry.tasks, entry.rows) for entry in found.label_sets] == [(("bad", "good"), 1, 60)]
    assert [(group.name, group.rows) for group in found.formats] == [("label", 60)]
    assert found.measure("format_entropy_bits") == 0


def test_one_template_over_many_texts_is_one_wording_and_one_dataset() -> None:
    found = looked_at(rows_of(templated(SENTIMENT, reviews(60))))
    assert found.rung == "one_dataset"
    assert found.measure("different_prompts") == pytest.approx(1 / 60)
    assert found.measure("mean_distance") == pytest.approx(0, abs=1e-6)
    assert found.measure("effective_prompts") == pytest.approx(1)
    assert found.tasks[0].example == SENTIMENT.lower()


def test_two_templates_are_two_tasks_and_their_label_sets_decide_the_rung() -> None:
    topics = reviews(60, labels=("sport", "politics"), seed=1)
    found = looked_at(rows_of([*templated(SENTIMENT, reviews(60)), *templated(TOPIC, topics)]))
    assert found.rung == "classification"
    assert (found.measure("tasks"), found.measure("effective_tasks")) == (2, pytest.approx(2))
    assert len(found.label_sets) == 2


def test_tasks_of_a_column_that_share_their_labels_are_one_kind() -> None:
    pairs = [*reviews(60), *reviews(60, labels=("good", "bad", "mixed"), seed=2)]
    found = looked_at(rows_of(pairs, tasks=["films"] * 60 + ["meals"] * 60), asks=False, tasks_from="dataset")
    assert found.rung == "one_kind"
    assert "bad, good" in found.because[1]


@pytest.mark.parametrize("labels", [("yes", "no"), ("A", "B")])
def test_labels_that_any_task_uses_make_no_kind(labels: tuple[str, str]) -> None:
    pairs = [*reviews(60, labels=labels), *reviews(60, labels=labels, seed=2)]
    found = looked_at(rows_of(pairs, tasks=["one"] * 60 + ["other"] * 60), asks=False, tasks_from="dataset")
    assert found.rung == "classification"


def test_instructions_of_many_kinds_with_written_answers_are_many() -> None:
    pairs = [(f"Please {verb} the {place} {verb}ly", f"It is {verb} there, as anyone can see for themselves.")
             for verb in ("paint", "sell", "praise", "measure") for place in PLACES]  # fmt: skip
    found = looked_at(rows_of(pairs))
    assert found.rung == "many"
    assert found.label_sets == ()
    assert [group.name for group in found.formats] == ["sentence"]


def test_formats_are_told_apart_and_their_entropy_is_that_of_their_shares() -> None:
    answers = ["Yes", "12.5 %", "a red door", "It rained all day. Then it stopped.", "- one\n- two", "```\nx = 1\n```",
               "It rained until the evening of that day.", "no"]  # fmt: skip
    found = looked_at(rows_of([(f"question {n}", answer) for n, answer in enumerate(answers)]), asks=False)
    assert {group.name: group.rows for group in found.formats} == {
        "yes or no": 2, "number": 1, "phrase": 1, "paragraph": 1, "list": 1, "code or markup": 1, "sentence": 1,
    }  # fmt: skip
    assert found.measure("format_entropy_bits") == pytest.approx(entropy_bits([2, 1, 1, 1, 1, 1, 1]))
    assert found.measure("effective_formats") == pytest.approx(2 ** entropy_bits([2, 1, 1, 1, 1, 1, 1]))


def test_with_vectors_the_diversity_is_that_of_the_vectors() -> None:
    """Four prompts on two axes: two at right angles are worth two, equal ones one; half of all pairs are unrelated."""
    axis = {"north": (1.0, 0.0), "up": (1.0, 0.0), "east": (0.0, 1.0), "right": (0.0, 1.0)}
    rows = rows_of([(f"{word} {word} {word}", "x") for word in axis])
    found = looked_at(rows, vectors=lambda texts: np.array([axis[text.split()[0]] for text in texts], dtype=np.float32))
    assert (found.features, found.why_words) == ("embeddings", None)
    assert found.measure("effective_prompts") == pytest.approx(2)
    assert found.measure("mean_distance") == pytest.approx(2 / 3, abs=0.02)
    assert found.measure("tasks") == 2


def test_without_vectors_the_result_says_that_words_were_compared_and_why() -> None:
    found = looked_at(rows_of(reviews(5)), why_words="no model is installed")
    assert (found.features, found.why_words) == ("words", "no model is installed")


def test_the_order_of_rows_changes_nothing_even_where_they_are_sampled() -> None:
    rows = rows_of([*templated(SENTIMENT, reviews(90)), *reviews(40, seed=3)])
    settings = BreadthSettings(prompt_rows=60, texts=20)
    one, other = (looked_at(given, settings=settings) for given in (rows, rows[::-1]))
    assert one.measures == other.measures
    assert (one.rung, one.prompt_rows, one.rows) == (other.rung, 60, 130)


def test_every_number_says_what_it_means_and_one_that_cannot_be_had_says_why() -> None:
    found = looked_at(rows_of(reviews(12)), asks=False)
    assert all(len(measure.means) > 10 for measure in found.measures)
    assert [measure.name for measure in found.measures if measure.value is None] == ["clusters"]
    assert all((measure.value is None) == (measure.reason is not None) for measure in found.measures)


@pytest.mark.parametrize("text", ["", "?!", "今天"])
def test_a_single_row_of_any_text_has_a_breadth(text: str) -> None:
    found = looked_at(rows_of([(text, "x")]))
    assert (found.rows, found.rung) == (1, "one_dataset")


@given(st.lists(st.integers(min_value=0, max_value=50), max_size=12))
def test_entropy_lies_between_none_and_that_of_equal_shares(counts: list[int]) -> None:
    groups = sum(count > 0 for count in counts)
    assert 0 <= entropy_bits(counts) <= (np.log2(groups) if groups else 0) + 1e-9


# --------------------------------------------------------------------------------------------- conversations of turns

GREETINGS = ("Hello there, how are you doing today my friend?", "I am fine. What can I do for you?")


def conversations(rows: Sequence[Example], *before: str, system: str | None = None) -> list[Example]:
    """The rows with these turns, user's and assistant's, before their question."""
    roles = ("user", "assistant") * len(before)
    first = tuple(Turn(role=role, text=text) for role, text in zip(roles, before, strict=False))
    told = () if system is None else (Turn(role="system", text=system),)
    return [replace(row, turns=(*told, *first, *row.turns)) for row in rows]


@pytest.mark.parametrize(
    ("before", "system"),
    [
        (GREETINGS, None),
        (("Hi.", "Hello."), "You are a kind and very helpful assistant of our house."),
        ((*GREETINGS, "I would like to ask you about a text of mine.", "Of course."), None),
    ],
)
def test_a_conversation_is_what_its_last_question_asks_and_not_its_greeting(
    before: tuple[str, ...], system: str | None
) -> None:
    topics = reviews(60, labels=("sport", "politics"), seed=1)
    rows = rows_of([*templated(SENTIMENT, reviews(60)), *templated(TOPIC, topics)])
    bare, found = looked_at(rows), looked_at(conversations(rows, *before, system=system))
    assert found.rung == bare.rung == "classification"
    assert found.measures == bare.measures
    assert found.tasks == bare.tasks
    assert found.openings == bare.openings
