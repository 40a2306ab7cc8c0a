"""What a model knows: classes from answers, priors, matched sets, and labels that are about one model."""

import re
from collections import Counter
from collections.abc import Sequence

import pytest

from titrant.core.errors import DataError
from titrant.core.records import Origin, RawRow
from titrant.data.knowledge import (
    Fact,
    Label,
    ProbeSettings,
    Probing,
    fact_examples,
    label_row,
    matched_rows,
    probe_facts,
    probings,
    read_labels,
)
from titrant.data.knowledge.probe import folded

ORIGIN = Origin(path="facts", line=1)


def capital(number: int, answer: str | None = None, *more: str) -> Fact:
    answers = (answer or f"Town {number}", *more)
    return Fact(row_id=f"r{number}", relation="capital", subject=f"Land {number}", answers=answers, origin=ORIGIN)


def subject_of(probing: Probing) -> int:
    found = re.fullmatch(r"The capital of Land (\d+) is", probing.turns[-1].text)
    assert found is not None
    return int(found[1])


def test_a_prompt_shows_other_facts_of_the_relation_and_ends_with_the_question() -> None:
    facts = [capital(number) for number in range(12)]
    asked, left_out = probings(facts, ProbeSettings(prompts=3, shots=4, samples=2))
    assert left_out == ()
    assert len(asked) == 12 * 3 * 3
    for probing in asked:
        assert [turn.role for turn in probing.turns] == ["user", "assistant"] * 4 + ["user"]
        shown = {turn.text for turn in probing.turns[:-1] if turn.role == "user"}
        assert len(shown) == 4
        assert probing.turns[-1].text not in shown
    prompts = {probing.turns for probing in asked if probing.fact == 0}
    assert len(prompts) == 3  # greedy and samples share a prompt
    assert probings(facts, ProbeSettings(prompts=3, shots=4, samples=2))[0] == asked
    assert probings(facts, ProbeSettings(prompts=3, shots=4, seed=1))[0] != asked


def test_a_relation_with_too_few_facts_is_left_out() -> None:
    lone = Fact(row_id="x", relation="is capital of", subject="Rome", answers=("Italy",), origin=ORIGIN)
    asked, left_out = probings([*map(capital, range(5)), lone], ProbeSettings(prompts=1, shots=4))
    assert left_out == (5,)
    assert {probing.fact for probing in asked} == set(range(5))


def test_classes_are_those_of_the_answers_by_hand() -> None:
    """Land 0: right in all prompts; 1: in one of two; 2: only when sampled; 3: never; the others say Nowhere."""
    facts = [capital(number) for number in range(8)]

    def answer(asked: Sequence[Probing]) -> list[str]:
        said = []
        for probing in asked:
            land, drawn = subject_of(probing), probing.sample is not None
            right = {0: not drawn, 1: not drawn and probing.prompt == 0, 2: probing.sample == 1}.get(land, False)
            said.append(f" the town {land}!\nThe capital of" if right else "Nowhere")
        return said

    labels = probe_facts(facts, answer, ProbeSettings(prompts=2, shots=3, samples=2))
    assert [label.label for label in labels] == ["highly", "maybe", "weakly"] + ["unknown"] * 5
    assert [label.greedy_rate for label in labels[:4]] == [1.0, 0.5, 0.0, 0.0]
    assert labels[2].sample_rate == 0.5
    assert [label.known for label in labels[:3]] == [True, True, False]
    greedy = probe_facts(facts, answer, ProbeSettings(prompts=2, shots=3))
    assert [label.label for label in greedy[:4]] == ["highly", "maybe", "unknown", "unknown"]
    assert {label.sample_rate for label in greedy} == {None}


def test_an_answer_that_the_model_gives_to_everybody_is_not_known_beyond_its_prior() -> None:
    """Paris is said of all ten lands and true of three: right in every prompt, and yet nothing is known."""
    facts = [capital(number, "Paris" if number < 3 else f"Town {number}") for number in range(10)]
    labels = probe_facts(facts, lambda asked: ["Paris"] * len(asked), ProbeSettings(prompts=2, shots=4))
    assert [label.label for label in labels[:4]] == ["highly", "highly", "highly", "unknown"]
    assert [label.prior_rate for label in labels[:4]] == [1.0, 1.0, 1.0, 0.0]
    assert not any(label.known for label in labels)
    half = probe_facts(
        facts,
        lambda asked: ["Paris" if subject_of(each) in (0, 1, 2, 9) else "?" for each in asked],
        ProbeSettings(prompts=1, shots=4),
    )
    assert half[0].prior_rate == pytest.approx(1 / 7)  # of the seven lands of which it is not true, one is told so
    assert half[0].known


def labelled(row_id: str, *, known: bool) -> Label:
    return Label(
        id=row_id,
        relation="capital",
        label="highly" if known else "unknown",
        greedy_rate=float(known),
        sample_rate=None,
        prior_rate=0.0,
    )


def test_known_and_unknown_sets_agree_in_relation_and_answer_frequency() -> None:
    facts = [capital(number, f"Big {number % 2}") for number in range(60)]
    facts += [capital(number, f"Small {number}") for number in range(60, 120)]
    rows = fact_examples(facts, source="near", role="dose")
    labels = [labelled(fact.row_id, known=number % 3 == 0 or number < 40) for number, fact in enumerate(facts)]
    known, unknown = matched_rows(rows, labels)
    assert len(known) == len(unknown) > 5
    frequency = Counter(row.answer for row in rows)

    def cells(some: Sequence[object]) -> Counter[tuple[str, int]]:
        return Counter((row.task, frequency[row.answer].bit_length()) for row in some)  # type: ignore[attr-defined]

    assert cells(known) == cells(unknown)
    assert not {row.key for row in known} & {row.key for row in unknown}
    assert matched_rows(rows[::-1], labels)[0] == known[::-1]
    assert matched_rows(rows, labels[:0]) == ((), ())


def test_labels_come_back_as_they_were_written_and_nothing_else_passes_for_one() -> None:
    label = labelled("r1", known=True)
    written = {key: str(value) if isinstance(value, float) else value for key, value in label_row(label).items()}
    assert read_labels([RawRow(values=written, origin=ORIGIN)]) == (label,)
    for broken in ({**written, "label": "sure"}, {"id": "r1"}, {**written, "greedy_rate": "often"}):
        with pytest.raises(DataError, match="no label"):
            read_labels([RawRow(values=broken, origin=ORIGIN)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", ""), ("\n\nx", "x"), ("U.S.A.", "usa"), ("an Owl \n b", "owl"), ("São  Paulo", "são paulo")],
)
def test_answers_are_compared_by_their_first_line(text: str, expected: str) -> None:
    assert folded(text) == expected
