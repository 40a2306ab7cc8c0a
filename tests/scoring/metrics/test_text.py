"""Metrics against cases worked by hand."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titrant.scoring.metrics import METRICS, number_in, score_text
from titrant.scoring.metrics.text import NO_NUMBER, NO_ROUGE_TOKENS, ROUGE_TOKEN


def value(metric: str, prediction: str, *references: str) -> float | None:
    return score_text(metric, prediction, references).value


@pytest.mark.parametrize(
    ("prediction", "references", "expected"),
    [
        ("Positive", ("positive",), 1.0),
        (" positive.\n", ("POSITIVE",), 1.0),
        ("two  words", ("two words",), 1.0),
        ("don't", ("dont",), 1.0),
        ("a cat", ("cat",), 0.0),  # articles stay
        ("the cat", ("The cat!",), 1.0),
        ("well-known", ("well known",), 0.0),  # punctuation is deleted, not turned into a space
        ("", ("yes",), 0.0),
        ("", ("...",), 1.0),
        ("two", ("one", "two", "three"), 1.0),
        ("ÉCOLE", ("école",), 1.0),
        ("«да»", ("да",), 0.0),  # only ASCII punctuation is deleted
    ],
)
def test_exact_match_follows_super_natural_instructions(
    prediction: str, references: tuple[str, ...], expected: float
) -> None:
    assert value("exact_match", prediction, *references) == expected


@pytest.mark.parametrize(
    ("prediction", "references", "expected"),
    [
        ("the cat", ("A cat!",), 1.0),  # articles go
        ("cat sat", ("cat sat down there",), 2 / 3),  # precision 1, recall 1/2
        ("cat cat", ("cat",), 2 / 3),  # a word counts as often as it stands in both: precision 1/2, recall 1
        ("dog", ("cat",), 0.0),
        ("dog", ("cat", "dog house"), 2 / 3),  # the best of two
        ("", ("cat",), 0.0),
        ("the", ("a",), 1.0),  # both are empty once articles are gone
        ("Padmé  Amidala", ("padmé amidala",), 1.0),
    ],
)
def test_f1_follows_squad(prediction: str, references: tuple[str, ...], expected: float) -> None:
    assert value("f1", prediction, *references) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("prediction", "references", "expected"),
    [
        ("the cat sat", ("the cat sat",), 1.0),
        ("running", ("runs",), 1.0),  # Porter: both are run
        ("a b c d", ("a c",), 2 / 3),  # common subsequence of 2: precision 1/2, recall 1
        ("b a", ("a b",), 1 / 2),  # order counts
        ("", ("cat",), 0.0),
        ("dog", ("cat", "the dog"), 2 / 3),
        ("北京", ("Beijing",), 0.0),
        ("Beijing", ("北京", "Beijing"), 1.0),
    ],
)
def test_rouge_l_is_the_best_f_over_references(prediction: str, references: tuple[str, ...], expected: float) -> None:
    assert value("rouge_l", prediction, *references) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("北京", "北京", 1.0),
        ("北京市", "北京", 4 / 5),  # common subsequence of 2: precision 2/3, recall 1
        ("在2008年", "2008", 1.0),  # the reference is a number
        ("2008", "在2008年", 1 / 2),  # precision 1, recall 1/3: the year alone is no match
        ("NBA", "NBA 总决赛", 2 / 5),
        ("สวัสดี", "สวัสดี", 1.0),
        ("東京タワー", "東京", 4 / 7),
        ("the cat of 北京", "the cat of 上海", 1.0),  # most of it is Latin: read as rouge-score does
    ],
)
def test_rouge_l_goes_by_characters_in_scripts_without_spaces(prediction: str, reference: str, expected: float) -> None:
    assert value("rouge_l", prediction, reference) == pytest.approx(expected)


@given(text=st.text(max_size=30))
def test_tokens_are_counted_as_the_package_makes_them(text: str) -> None:
    from rouge_score import tokenize

    assert ROUGE_TOKEN.findall(text.lower()) == list(tokenize.tokenize(text, None))


def test_a_shared_year_is_no_match_of_texts_that_rouge_cannot_read() -> None:
    russian = "погода очень важна для людей с 2000 года"
    assert score_text("rouge_l", "2000", [russian]).reason == NO_ROUGE_TOKENS
    assert value("rouge_l", "2000", "2000 год") is None
    assert value("rouge_l", "NBA", "финал NBA сегодня") is None
    both = score_text("rouge_l", "2000", [russian, "in the year 2000"])
    assert (both.value, both.unread_references) == (pytest.approx(2 / 5), 1)


@pytest.mark.parametrize("reference", ["서울 타워", "Москва", "…", "ⅷ", "Ελλάδα 2004"])
def test_rouge_l_says_so_where_it_cannot_read_the_reference(reference: str) -> None:
    score = score_text("rouge_l", reference, [reference])
    assert score.value is None
    assert score.reason == NO_ROUGE_TOKENS


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [("yes", "yes", 1.0), ("Yes", "yes", 0.0), ("yes ", "yes", 0.0), ("é", "e\u0301", 0.0), ("", "x", 0.0)],
)
def test_accuracy_is_byte_for_byte(prediction: str, reference: str, expected: float) -> None:
    assert value("accuracy", prediction, reference) == expected


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("48/2 = 24 clips", 24),
        ("<<48+24=72>>72 clips.\n#### 72", 72),
        ("#### 1,234\nThe year was 1999.", 1234),
        ("$1,024.50", Fraction(2049, 2)),
        ("-$3", -3),
        ("it is -5.", -5),
        ("\u22124", -4),
        ("pages 3-5", 5),
        ("10 - 5", 5),
        ("1,2", 2),
        ("3/4.", Fraction(3, 4)),
        ("on 5/6/2020", 2020),
        (".5", Fraction(1, 2)),
        ("1.50", Fraction(3, 2)),
        ("1e3", 1000),
        ("50%", 50),
        ("7/0", 0),
        ("2 1/2", Fraction(5, 2)),
        ("#### 2 1/2 cups", Fraction(5, 2)),
        ("-8 1/4", Fraction(-33, 4)),
        ("1,000 1/2", Fraction(2001, 2)),
        ("2\u00bd", Fraction(5, 2)),
        ("\u00be cup", Fraction(3, 4)),
        ("24 toys, and \u00bc of them", Fraction(1, 4)),
        ("5 10/2", 5),  # no proper fraction, so no mixed number
        ("2.5 1/2", Fraction(1, 2)),
        (r"\frac{1}{2}", Fraction(1, 2)),
        (r"$-\dfrac{3}{4}$", Fraction(-3, 4)),
        (r"2\frac{1}{2}", Fraction(5, 2)),
        (r"\frac12", Fraction(1, 2)),
        ("H2O", None),
        ("", None),
        ("####", None),
        ("9" * 5000, None),
    ],
)
def test_the_last_number_is_read_as_people_write_it(text: str, number: int | Fraction | None) -> None:
    assert number_in(text) == number


def test_last_number_compares_values_not_digits() -> None:
    assert value("last_number", "So she sold 72.0 clips.", "48+24=72\n#### 72") == 1.0
    assert value("last_number", "1,000", "1000") == 1.0
    assert value("last_number", "72 or 73", "72") == 0.0
    assert value("last_number", "no idea", "72") == 0.0


def test_last_number_says_so_where_the_reference_has_none() -> None:
    score = score_text("last_number", "3", ["three"])
    assert score.value is None
    assert score.reason == NO_NUMBER


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_every_metric_gives_one_to_a_reference_and_zero_to_silence(metric: str) -> None:
    assert value(metric, "the answer is 42", "something else 7", "the answer is 42") == 1.0
    assert value(metric, "", "the answer is 42") == 0.0


def test_an_unknown_metric_or_no_reference_is_our_own_mistake() -> None:
    with pytest.raises(KeyError, match="bleu"):
        score_text("bleu", "a", ["a"])
    with pytest.raises(ValueError, match="no reference"):
        score_text("f1", "a", [])
