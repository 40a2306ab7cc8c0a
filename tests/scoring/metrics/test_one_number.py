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
    are_amounts,
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


AMOUNTS = (
    "{n}",
    "-{n}",
    "{n}.75",
    "${n},024.50",
    "£{n}",
    "{n}€",
    "USD {n}",
    "{n}%",
    "{n} km/h",
    "{n} apples",
    "{n}°C",
    "({n})",
    "{n} 1/2 cups",
    "{n}.02e23",
    "#### {n}",
    "First {n}, then that.\n#### {n}",
    "It is {n}.",
    "x = {n}",
    "~{n} kg",
)
NAMES = (
    "{n}/2",
    "1/{n}",
    "{n} / 7",
    "{n}e0",
    "{n}e5",
    "97831614841{n}",
    "978-3-16-1484{n}-0",
    "00{n}",
    "555-12{n}",
    "+49 711 58{n}",
    "123456{n}",
    "{n}1234567",
    "101{n}",
    "1.2.{n}",
    "v1.{n}",
    "{n}-20%",
    "{n}–20%",
    "{n} to 90",
    "{n} of 200",
    "{n}:30",
    "2021-03-{n}",
    "3/25/20{n}",
    "{n}th",
    "19{n}s",
    "{n}k",
    "{n} million",
    "{n}M",
    "{n}, 2",
    "{n} x 4",
    "192.168.0.{n}",
    "0x{n}",
    "A{n}",
    "No. {n}",
    ">{n}",
    "{n}+",
    "12 34 56 {n}",
)


@pytest.mark.parametrize("form", AMOUNTS)
def test_a_number_with_its_unit_currency_or_mark_is_an_amount(form: str) -> None:
    assert are_amounts([form.replace("{n}", str(n)) for n in range(8, 60)])


@pytest.mark.parametrize("form", NAMES)
def test_digits_that_name_something_or_are_several_numbers_are_no_amount(form: str) -> None:
    assert not are_amounts([form.replace("{n}", str(n)) for n in range(10, 60)])


@pytest.mark.parametrize(
    ("answers", "amounts"),
    [
        (["3.8", "3.9", "3.10", "3.1", "2.7"], False),  # versions: one number, two answers
        (["5", "5.0", "7.25"], True),
        (["10115", "90210", "75001"], False),
        (["10115", "9021", "75001"], True),
        (["1999", "2004", "2012"], True),
        (["5"] * 19 + ["5/7"], True),
        (["5"] * 18 + ["5/7"] * 2, False),
    ],
)
def test_whether_answers_are_amounts_is_told_by_all_of_them(answers: list[str], amounts: bool) -> None:
    assert are_amounts(answers) is amounts
