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


def test_what_is_said_of_them_holds_counts_and_the_key_that_merges_them() -> None:
    found = look_alikes(["no"] * 3 + ["No "] + ["ja"] * 2 + ["Ja"])
    line = look_alike_line(found)
    assert "'no' (3 rows) and 'No ' (1 rows)" in line
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
