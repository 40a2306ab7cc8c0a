"""Labels that look alike are named and merged only where the study says so."""

from __future__ import annotations

import pytest

from titrant.config.yaml_source import parse_document
from titrant.core.errors import DataError
from titrant.core.records import Example, Turn
from titrant.tasks import look_alike_line, look_alikes, merged_examples, refuse_unused_spellings
from titrant.tasks.labels import merge_setting


def row(label: str, number: int = 0, *, own: bool = True) -> Example:
    turns = (Turn(role="user", text=f"text {number}"), Turn(role="assistant", text=label))
    return Example(
        key=f"k{number}", row_id=str(number), source="t", task="t", turns=turns, label=label if own else None
    )


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (["yes", "Yes", "yes", "no"], [(("yes", 2), ("Yes", 1))]),
        (["a ", "a", "b"], [(("a", 1), ("a ", 1))]),
        (["A", "a", " a", "B", "b"], [((" a", 1), ("A", 1), ("a", 1)), (("B", 1), ("b", 1))]),
        (["-1", "1", "C", "C++", "C#", "?", "!"], []),
    ],
)
def test_labels_that_differ_in_case_or_outer_space_only_are_found(
    labels: list[str], found: list[tuple[tuple[str, int], ...]]
) -> None:
    assert [entry.spellings for entry in look_alikes(labels)] == found


@pytest.mark.parametrize(
    "spellings",
    [
        ("caf\u00e9", "cafe\u0301"),
        ("New York", "New\u00a0York", "New  York"),
        ("Yes", "\uff39\uff45\uff53"),
        ("ja", "ja\u200b", "\ufeffja"),
        ("\ud55c\uad6d", "\u1112\u1161\u11ab\u1100\u116e\u11a8"),
    ],
)
def test_labels_that_differ_in_unicode_form_only_are_found_and_seen_apart(spellings: tuple[str, ...]) -> None:
    (found,) = look_alikes([text for number, text in enumerate(spellings) for _ in range(number + 1)])
    assert dict(found.spellings) == {text: number + 1 for number, text in enumerate(spellings)}
    assert found.label == spellings[0]  # the clean one, though the others are more
    document = parse_document(merge_setting([found]), name="study.yaml")
    assert document.value == {"merge_labels": {spellings[0]: [text for text, _ in found.spellings[:-1]]}}
    shown = look_alike_line([found]).partition(": ")[2].split(" rows)")
    assert len({text.rpartition('"')[0] for text in shown[: len(spellings)]}) == len(spellings)


@pytest.mark.parametrize(("label", "clean"), [("neg ", "neg"), ("\u00a0neg", "neg"), ("cafe\u0301", "caf\u00e9")])
def test_a_label_that_has_no_clean_spelling_is_named_too(label: str, clean: str) -> None:
    (found,) = look_alikes([label, label, "other"])
    assert (found.spellings, found.label) == (((label, 2),), clean)
    assert parse_document(merge_setting([found]), name="s").value == {"merge_labels": {clean: [label]}}


@pytest.mark.parametrize(
    ("labels", "label"),
    [
        (["pos "] * 5 + ["pos"], "pos"),
        (["Pos "] * 5 + ["pos"] * 2 + ["Pos"], "pos"),
        ([" pos"] * 5 + ["pos "], "pos"),
        (["no\u00a0"] * 3 + ["No"] * 2 + ["no"], "No"),
    ],
)
def test_the_label_to_merge_into_is_the_commonest_of_the_clean_spellings(labels: list[str], label: str) -> None:
    (found,) = look_alikes(labels)
    assert found.label == label
    others = {text for text in labels if text != label}
    merged = parse_document(merge_setting([found]), name="study.yaml").value["merge_labels"]
    assert {key: set(texts) for key, texts in merged.items()} == {label: others}


@pytest.mark.parametrize("labels", [["m\u00b2", "m2"], ["\u00bd", "1/2"], ["stra\u00dfe", "strase"], ["e", "\u00e9"]])
def test_characters_that_mean_something_else_are_no_other_form(labels: list[str]) -> None:
    assert look_alikes(labels) == ()


def test_what_is_said_of_them_holds_counts_and_the_key_that_merges_them() -> None:
    found = look_alikes(["no"] * 3 + ["No "] + ["ja"] * 2 + ["Ja"])
    line = look_alike_line(found)
    assert '"no" (3 rows) and "No " (1 rows)' in line
    document = parse_document(merge_setting(found), name="study.yaml")
    assert document.value == {"merge_labels": {"no": ["No "], "ja": ["Ja"]}}


@pytest.mark.parametrize("own", [True, False])
def test_merged_rows_have_one_label_and_answer_with_it(own: bool) -> None:
    rows = [row("Yes", 0, own=own), row("yes", 1, own=own), row("no", 2, own=own)]
    merged = merged_examples(rows, {"Yes": "yes"})
    assert [entry.answer for entry in merged] == ["yes", "yes", "no"]
    assert [entry.label for entry in merged] == (["yes", "yes", "no"] if own else [None] * 3)
    assert [entry.key for entry in merged] == ["k0", "k1", "k2"]


def test_a_spelling_that_no_row_has_is_refused() -> None:
    with pytest.raises(DataError, match="no row has") as refused:
        refuse_unused_spellings({"Yess": "yes"}, [row("yes"), row("no", 1)], [])
    assert "'Yess'" in str(refused.value)
    assert "'no', 'yes'" in str(refused.value)
