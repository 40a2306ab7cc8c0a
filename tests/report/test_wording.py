import math

import pytest

from titrant.report.wording import known, percent, probability, quantity, shortened, signed, visible


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_no_finite_number_is_not_known(value: float | None) -> None:
    assert not known(value)


def test_a_loss_carries_a_true_minus_sign_and_a_gain_a_plus() -> None:
    assert signed(-0.25) == "−0.250"
    assert signed(0.25) == "+0.250"
    assert signed(-0.0002) == "0.000"


def test_a_share_is_never_rounded_to_nothing_or_to_all() -> None:
    assert percent(0.0003) == "<0.1%"
    assert percent(0.9997) == ">99%"
    assert (percent(0.0), percent(1.0)) == ("0%", "100%")


@pytest.mark.parametrize(("value", "text"), [(0.0004, "<0.001"), (0.0321, "0.032"), (0.25, "0.25"), (0.9999, "1.0")])
def test_p_values_have_two_significant_digits(value: float, text: str) -> None:
    assert probability(value) == text


def test_means_of_counts_keep_one_decimal_only_where_they_are_small() -> None:
    assert (quantity(11.3333), quantity(4), quantity(184320.4)) == ("11.3", "4", "184,320")


def test_what_cannot_be_seen_is_shown_as_a_replacement_character() -> None:
    hidden = "a\x00b\x1bc\ud800d\u202ee"
    assert visible(hidden) == "a\ufffdb\ufffdc\ufffdd\ufffde"
    visible(hidden).encode()


def test_all_line_breaks_become_newlines_and_tabs_stay() -> None:
    assert visible("a\r\nb\rc\u2028d\u2029e\tf") == "a\nb\nc\nd\ne\tf"


def test_a_cut_text_says_how_long_it_was() -> None:
    assert shortened("x" * 5000, limit=10) == "xxxxxxxxxx … (cut: 5,000 characters in all)"
    assert shortened("short", limit=10) == "short"
