"""Facts: relation and subject from the question, who is asked about, and what may be asked."""

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titrant.core.errors import DataError
from titrant.core.records import Origin, RawRow
from titrant.data.knowledge import (
    PATTERNS,
    common_answers,
    fact_examples,
    fact_items,
    parsed,
    read_facts,
    refuse_unknown_relations,
    role_of,
)

WIKIDATA = Path(os.environ.get("TITRANT_DATA_ROOT", "../shared/data")) / "skills" / "factual_qa_wikidata.jsonl.gz"


def rows_of(*facts: tuple[str, list[str]]) -> list[RawRow]:
    return [
        RawRow(
            values={"id": f"r{line}", "question": question, "answer": answers[0], "answers": answers},
            origin=Origin(path="facts", line=line),
        )
        for line, (question, answers) in enumerate(facts, start=1)
    ]


def capitals(count: int) -> list[RawRow]:
    return rows_of(*[(f"The capital of Land {number} is", [f"Town {number % 7}"]) for number in range(count)])


@pytest.mark.parametrize(
    ("question", "relation", "subject"),
    [
        ("The country of citizenship of A. D. Hope is", "country of citizenship", "A. D. Hope"),
        ("The country of Amsterdam Metro is", "country", "Amsterdam Metro"),
        ("The country for sport played by Kevin Keegan is", "country for sport played by", "Kevin Keegan"),
        (
            "The languages spoken, written or signed by Al-Biruni is",
            "languages spoken, written or signed by",
            "Al-Biruni",
        ),
        ("The color of the flag of Dominica is", "color of the flag", "Dominica"),
        ("The official language of Duchy of Milan is", "official language", "Duchy of Milan"),
        ("Gunma Prefecture is located in", "is located in", "Gunma Prefecture"),
        ("Rome is located in or next to body of water", "is located in or next to body of water", "Rome"),
        ("The Hague is capital of", "is capital of", "The Hague"),
        ("Stéphane Breitwieser convicted of", "convicted of", "Stéphane Breitwieser"),
    ],
)
def test_the_longest_pattern_names_the_relation_and_the_rest_is_the_subject(
    question: str, relation: str, subject: str
) -> None:
    assert parsed(question) == (relation, subject)


@pytest.mark.parametrize("question", ["", "Who wrote it?", "The capital of  is", "The capital of is", " is capital of"])
def test_a_question_of_no_pattern_is_left_out_and_counted(question: str) -> None:
    assert parsed(question) is None
    assert read_facts([*capitals(8), *rows_of((question or "-", ["x"]))]).unparsed == 1


@given(st.sampled_from(PATTERNS), st.text(alphabet="abcdé 'X-", min_size=1).map(str.strip).filter(bool))
def test_every_pattern_finds_the_subject_that_was_put_into_it(pattern, subject: str) -> None:  # type: ignore[no-untyped-def]
    assert pattern.subject_of(pattern.question.replace("{}", subject)) == subject
    assert pattern.stand_in in pattern.question.replace("{}", pattern.stand_in)
    assert "{}" in pattern.instruction


def test_two_rows_on_one_subject_are_one_fact_with_all_answers() -> None:
    rows = rows_of(
        ("The instrument of D'Angelo is", ["guitar"]),
        ("The instrument of  D'ANGELO is", ["piano", "guitar"]),
        *[(f"The instrument of Player {number} is", [f"thing {number}"]) for number in range(8)],
    )
    facts = read_facts(rows).facts
    assert [fact.answers for fact in facts if fact.subject.startswith("D")] == [("guitar", "piano")]


def test_a_relation_that_one_answer_dominates_is_left_out_with_its_share() -> None:
    rows = rows_of(
        *[(f"The currency of Land {number} is", ["euro" if number < 3 else f"{number}"]) for number in range(10)]
    )
    found = read_facts([*rows, *capitals(14)])
    assert [(left.relation, left.facts, left.answer, left.share) for left in found.dominated] == [
        ("currency", 10, "euro", 0.3)
    ]
    assert found.relations == ("capital",)
    with pytest.raises(DataError, match="dominates"):
        refuse_unknown_relations(found, ["currency"], where="here")
    with pytest.raises(DataError, match="no such relation"):
        refuse_unknown_relations(found, ["height"], where="here")


def test_a_subject_has_one_role_in_every_relation_and_roles_share_no_subject() -> None:
    rows = rows_of(
        *[(f"The capital of Land {number} is", [f"Town {number % 9}"]) for number in range(400)],
        *[(f"LAND {number} is capital of", [f"Realm {number % 9}"]) for number in range(400)],
    )
    facts = read_facts(rows).facts
    subjects = {
        role: {dict(row.tags)["subject"].casefold() for row in fact_examples(facts, source="s", role=role)}
        for role in ("test", "target", "dose")
    }
    assert sum(map(len, subjects.values())) == len(set().union(*subjects.values())) == 400
    shares = [len(subjects[role]) / 400 for role in ("test", "target", "dose")]
    assert shares == pytest.approx([0.55, 0.12, 0.33], abs=0.06)
    assert role_of("Land 7") == role_of(" land  7 ")


def test_items_are_asked_among_the_commonest_answers_and_once_more_without_the_subject() -> None:
    facts = read_facts(capitals(700)).facts
    found = fact_items(facts, eval_set="target", target="t", metric="accuracy", choices=3, max_answer_tokens=8)
    assert common_answers(facts, 3) == {"capital": ("Town 0", "Town 1", "Town 2")}
    assert {item.choices for item in found.items} == {("Town 0", "Town 1", "Town 2")}
    assert {item.prior_turns[0].text for item in found.items if item.prior_turns} == {"The capital of something is"}
    assert all(set(item.references) < set(item.choices or ()) for item in found.items)
    tests = [fact for fact in facts if role_of(fact.subject) == "test"]
    assert len(found.items) + found.rare_answer == len(tests)
    assert found.rare_answer == sum(fact.answers[0] not in ("Town 0", "Town 1", "Town 2") for fact in tests)


def test_an_instruction_asks_for_the_same_fact_in_other_words() -> None:
    facts = read_facts(capitals(8)).facts
    told = [fact_examples(facts, source="s", role=role, form="instruction") for role in ("test", "target", "dose")]
    assert {row.prompt[0].text for rows in told for row in rows} == {
        f"What is the capital of Land {number}?" for number in range(8)
    }


@pytest.mark.skipif(not WIKIDATA.is_file(), reason=f"the shared data is not there: {WIKIDATA}")
def test_qa_wikidata_gives_over_a_thousand_test_items_in_relations_that_no_answer_dominates() -> None:
    from titrant.data.readers import read_rows

    found = read_facts(read_rows(WIKIDATA))
    assert found.unparsed == 575
    assert {"native language", "religion", "language"} <= {left.relation for left in found.dominated}
    assert {"country of citizenship", "country", "capital", "is located in"} <= set(found.relations)
    near = ("country of citizenship", "original country", "country for sport played by", "residence")
    items = fact_items(
        found.facts, eval_set="target", target="t", metric="accuracy", choices=12, max_answer_tokens=8, relations=near
    ).items
    assert len(items) >= 1000
    assert max(Counter(item.references[0] for item in items).values()) < len(items) / 4
