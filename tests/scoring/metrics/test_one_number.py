"""Which answers the last number may stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titrant.scoring.metrics import number_in
from titrant.scoring.metrics.one_number import (
    NO_NUMBER_IN_IT,
    NOT_A_QUANTITY,
    SEVERAL_NUMBERS,
    is_one_number,
    number_fault,
    states_one_number,
)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "42",
            "-3",
            "+7",
            "\u22124",
            "3.5",
            ".5",
            "1,024.50",
            "1e6",
            "3/4",
            "2 1/2",
            "8 1/4",
            "2\u00bd",
            "50%",
            "20 %",
        ),
        *("$5", "-$3", "$-3", "€1.50", "5 €", "US$ 20", "Rs. 500", "USD 12", "~40", "5 km", "10kg", "60 km/h", "12 m²"),
        *("3rd", "16GB", "72 clips", "3.5 million dollars", "12 square metres.", "(7)", "90°", "21 °C", "5 years old"),
        *("48/2=24, 48+24=72\n#### 72", "#### -7 apples", "100,000", "0", "0.25", "1984"),
    ],
)
def test_a_number_with_its_unit_is_one_number(text: str) -> None:
    assert is_one_number(text)
    assert number_fault(text) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        *((text, SEVERAL_NUMBERS) for text in ("2005-10-18", "11/25/2013", "11:43", "INV-2024-0017", "x = 6, y = 2")),
        *((text, SEVERAL_NUMBERS) for text in ("1, 2, 3", "[4, 5]", "+49 711 5828", "March 3, 2021", "3-5", "1.2.3.4")),
        *((text, NO_NUMBER_IN_IT) for text in ("F9", "intent_12", "H2O", "three", "")),
        *((text, NOT_A_QUANTITY) for text in ("A-113", "12 June", "9 am", "0045", "B-2", "7a/C", "12B")),
        (r"\frac{x}{2} + 1", SEVERAL_NUMBERS),
    ],
)
def test_dates_times_codes_and_lists_are_not(text: str, fault: str) -> None:
    assert not is_one_number(text)
    assert number_fault(text) == fault


@pytest.mark.parametrize("text", ["It is 41.", "The answer is $5", "Total: 12 km", "x = 3/4", "42"])
def test_a_short_sentence_says_one_number(text: str) -> None:
    assert states_one_number(text)


@pytest.mark.parametrize(
    "text",
    [
        "She came on the 5th of May 2021 and left on the 7th of June 2021",
        "1, 2, 3, 4, 5, 6, 7, 8, 9, 10",
        "The first of these meetings will begin at 9 am",
    ],
)
def test_a_long_answer_that_ends_on_a_date_or_is_a_list_is_not_read_by_its_last_number(text: str) -> None:
    assert number_fault(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "The answer is 12.",
        "48 + 24 = 72",
        "x = 5",
        "about 30 of them, I think",
        "She has 3 and then buys 2 more, so she has 5.",
    ],
)
def test_a_sentence_an_equation_or_a_working_out_that_ends_on_a_number_is_no_fault(text: str) -> None:
    assert number_fault(text) is None
    assert not is_one_number(text)


@given(st.one_of(st.text(max_size=20), st.text(alphabet="0123456789.,-/ $%aB=:#\u00bd", max_size=16)))
def test_what_is_one_number_is_read_as_one(text: str) -> None:
    if is_one_number(text):
        assert states_one_number(text)
        assert number_fault(text) is None
        assert number_in(text) is not None
