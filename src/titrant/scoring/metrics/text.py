"""A prediction against its references: one number from 0 to 1, or null with the reason.

| metric | what counts |
| --- | --- |
| exact_match | equal after lower-casing, deleting ASCII punctuation, folding spaces (Super-NaturalInstructions' rule) |
| f1 | words in common after the same, and after deleting a, an, the (SQuAD's rule) |
| rouge_l | longest common subsequence of stemmed words, F measure (package rouge-score) |
| accuracy | the same text, byte for byte |
| last_number | the same value of the last number |

With several references the best counts.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

NO_ROUGE_TOKENS = "ROUGE knows Latin letters and digits only, and finds none in any reference"
NO_NUMBER = "no reference holds a number"

_DELETE_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_MAX_DIGITS = 300
_DATE = re.compile(r"(?<![0-9])[0-9]+(?:/[0-9]+){2,}")  # begun at every digit of a long number, it takes minutes
# Digits inside a word are no number. A sign right after a word, digit or bracket is a dash, or a minus between terms.
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.])[$€£¥]?(?:(?<![\w)\]])(?P<sign>[-+\u2212]))?[$€£¥]?"
    r"(?P<digits>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
    r"(?P<exponent>[eE][+-]?[0-9]{1,3}(?!\w|\.[0-9]))?"
    r"(?:\s?/\s?(?P<divisor>0*[1-9][0-9]*)(?!\w|\.[0-9]))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextScore:
    """A score from 0 to 1, or None with the reason why there is none.

    `unread_references` counts references that the metric could not read and that were left out of the best.
    """

    value: float | None
    reason: str | None = None
    unread_references: int = 0


def score_text(metric: str, prediction: str, references: Sequence[str]) -> TextScore:
    """`prediction` against the best of `references` (at least one) by a metric of `METRICS`.

    >>> score_text("exact_match", "The answer!", ["the  answer"]).value
    1.0
    >>> score_text("rouge_l", "北京", ["北京"])
    TextScore(value=None, reason='ROUGE knows Latin letters and digits only, and finds none in any reference',
              unread_references=1)
    """
    if metric not in METRICS:
        raise KeyError(f"no metric {metric!r}: {', '.join(METRICS)}")
    if not references:
        raise ValueError("no reference to compare with")
    return METRICS[metric](prediction, references)


def exact_match(prediction: str, references: Sequence[str]) -> TextScore:
    """1 where a reference is the same in Super-NaturalInstructions' normal form, else 0.

    >>> exact_match("A cat.", ["cat"]).value
    0.0
    """
    given = _plain_words(prediction)
    return TextScore(value=float(any(given == _plain_words(reference) for reference in references)))


def accuracy(prediction: str, references: Sequence[str]) -> TextScore:
    """1 where a reference is the same text, byte for byte, else 0."""
    return TextScore(value=float(prediction in references))


def f1(prediction: str, references: Sequence[str]) -> TextScore:
    """The harmonic mean of precision and recall of words in SQuAD's normal form; two empty texts are equal.

    >>> round(f1("the cat sat", ["cat sat down"]).value, 3)
    0.8
    """
    return TextScore(value=max(_word_f1(prediction, reference) for reference in references))


def rouge_l(prediction: str, references: Sequence[str]) -> TextScore:
    """ROUGE-L's F measure with Porter stemming, best over the references that it can read.

    References without any Latin letter or digit (Chinese, Russian) tokenise to nothing and would score 0 whatever is
    said, so they are left out and counted; where all are such the value is None. A prediction without such a token
    scores 0 against one that has some.

    >>> round(rouge_l("the cats sat", ["the cat sat down"]).value, 3)
    0.857
    """
    readable = [reference for reference in references if _rouge_tokens(reference)]
    unread = len(references) - len(readable)
    if not readable:
        return TextScore(value=None, reason=NO_ROUGE_TOKENS, unread_references=unread)
    scorer = _rouge()
    best = max(float(scorer.score(reference, prediction)["rougeL"].fmeasure) for reference in readable)
    return TextScore(value=best, unread_references=unread)


def last_number(prediction: str, references: Sequence[str]) -> TextScore:
    """1 where the last number of the prediction has the value of a reference's last number, else 0.

    Thousands' commas, a sign, decimals, an exponent, a currency mark before and a unit after are understood; `3/4` is
    one number, a date is three. Digits inside a word, and more than 300 digits, are no number. After the last `####`
    (GSM8K) the first number counts. None where no reference holds a number; 0 where only the prediction holds none.
    """
    wanted = {value for reference in references if (value := number_in(reference)) is not None}
    if not wanted:
        return TextScore(value=None, reason=NO_NUMBER)
    return TextScore(value=float(number_in(prediction) in wanted))


METRICS: dict[str, Callable[[str, Sequence[str]], TextScore]] = {
    "exact_match": exact_match,
    "f1": f1,
    "rouge_l": rouge_l,
    "accuracy": accuracy,
    "last_number": last_number,
}


def number_in(text: str) -> Fraction | None:
    """The number that a text ends on, exactly; None where it holds none.

    >>> number_in("48/2 = 24, so 1,024.50 dollars"), number_in("#### -7 apples"), number_in("none")
    (Fraction(2049, 2), Fraction(-7, 1), None)
    """
    _, mark, after = text.rpartition("####")
    if mark:
        first = next(_numbers(after), None)
        if first is not None:
            return first
    last: Fraction | None = None
    for number in _numbers(text):
        last = number
    return last


def _numbers(text: str) -> Iterator[Fraction]:
    dates_apart = _DATE.sub(lambda match: match[0].replace("/", " "), text)
    for match in _NUMBER.finditer(dates_apart):
        if max(len(match["digits"]), len(match["divisor"] or "")) > _MAX_DIGITS:
            continue
        value = Fraction(match["digits"].replace(",", "") + (match["exponent"] or "")) / int(match["divisor"] or 1)
        yield value if match["sign"] in (None, "+") else -value


def _plain_words(text: str) -> str:
    return " ".join(text.lower().translate(_DELETE_PUNCTUATION).split())


def _word_f1(prediction: str, reference: str) -> float:
    given, wanted = _squad_words(prediction), _squad_words(reference)
    if not given or not wanted:
        return float(given == wanted)
    common = sum((Counter(given) & Counter(wanted)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(given), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def _squad_words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_DELETE_PUNCTUATION)).split()


@cache
def _rouge() -> Any:
    from rouge_score import rouge_scorer

    return rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)


def _rouge_tokens(text: str) -> list[str]:
    from rouge_score import tokenize

    return list(tokenize.tokenize(text, None))
