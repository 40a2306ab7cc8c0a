"""A prediction against its references: one number from 0 to 1, or null with the reason.

| metric | what counts |
| --- | --- |
| exact_match | equal after lower-casing, deleting ASCII punctuation, folding spaces (Super-NaturalInstructions' rule) |
| f1 | words in common after the same, and after deleting a, an, the (SQuAD's rule) |
| rouge_l | longest common subsequence of stemmed words, F measure (package rouge-score); of characters where a script |
|         | has no spaces |
| accuracy | the same text, byte for byte |
| last_number | the same value of the last number |

With several references the best counts.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any, Literal

NO_ROUGE_TOKENS = (
    "ROUGE reads Latin letters, digits and scripts without spaces, and every reference is mostly in others"
)
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
_LATEX_FRACTION = re.compile(
    r"(?P<whole>[0-9])?\\[dt]?frac\s?"
    r"(?:\{\s?(?P<upper>-?[0-9]{1,9})\s?\}\s?\{\s?(?P<lower>[0-9]{1,9})\s?\}|(?P<one>[0-9])(?P<other>[0-9]))"
)
_VULGAR_FRACTION = re.compile("([0-9] ?)?([\u00bc-\u00be\u2150-\u215e])")
# A whole number, one space and a proper fraction are one number; read apart, `2 1/2` would be 2, or a half.
_MIXED_NUMBER = re.compile(
    r"(?<![\w.,/])(?P<whole>[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,9}) (?P<upper>[0-9]{1,4})/(?P<lower>[0-9]{1,4})"
    r"(?![\w/]|\.[0-9])"
)
# Han, kana, Thai, Lao, Tibetan, Burmese and Khmer are written without spaces between words.
_WITHOUT_SPACES = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U000323af"
)
_UNSPACED = re.compile(f"[{_WITHOUT_SPACES}]")
ROUGE_TOKEN = re.compile("[a-z0-9]+")  # what the package's tokenizer keeps of a text in lower case
_CHARACTERS_AND_WORDS = re.compile(f"[a-z0-9]+|[{_WITHOUT_SPACES}]")


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
    >>> score_text("last_number", "three", ["three"])
    TextScore(value=None, reason='no reference holds a number', unread_references=0)
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

    The package's tokenizer keeps Latin letters and digits and silently drops the rest: a Russian text with a year in it
    becomes that year, and whoever writes the year has a full match. So a reference is read in words only where most of
    its letters are Latin; where most are of scripts without spaces (Chinese, Japanese, Thai), every such
    character is a word of its own. Other references are left out and counted; where all are such the value is None. A
    prediction without anything that can be read scores 0.

    >>> round(rouge_l("the cats sat", ["the cat sat down"]).value, 3)
    0.857
    >>> rouge_l("北京市", ["北京"]).value
    0.8
    """
    readable = [(reference, by) for reference in references if (by := rouge_reading(reference)) is not None]
    unread = len(references) - len(readable)
    if not readable:
        return TextScore(value=None, reason=NO_ROUGE_TOKENS, unread_references=unread)
    best = max(float(_rouge(by).score(reference, prediction)["rougeL"].fmeasure) for reference, by in readable)
    return TextScore(value=best, unread_references=unread)


@lru_cache(maxsize=1 << 16)  # every arm and seed is scored against the same references
def rouge_reading(text: str) -> Literal["words", "characters"] | None:
    """How ROUGE reads a text, None where it cannot: what it keeps must be most of the text's letters.

    >>> [rouge_reading(text) for text in ("the cat of 北京", "在2008年", "в 2008 году", "42")]
    ['words', 'characters', None, 'words']
    """
    latin = sum(letter.isascii() and letter.isalpha() for letter in text)
    unspaced = len(_UNSPACED.findall(text))
    letters = sum(letter.isalpha() and not _UNSPACED.match(letter) for letter in text) + unspaced
    tokens = ROUGE_TOKEN.findall(text.lower())
    if unspaced > sum(not token.isdecimal() for token in tokens):
        return "characters" if 2 * (latin + unspaced) >= letters else None
    return "words" if tokens and 2 * latin >= letters else None


def last_number(prediction: str, references: Sequence[str]) -> TextScore:
    """1 where the last number of the prediction has the value of a reference's last number, else 0.

    Thousands' commas, a sign, decimals, an exponent, a currency mark before and a unit after are understood; `3/4`,
    `2 1/2` and `\\frac{1}{2}` are one number, a date is three. Digits inside a word, and more than 300 digits, are no
    number. After the last `####` (GSM8K) the first number counts. None where no reference holds a number; 0 where only
    the prediction holds none.
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


def normal_form(metric: str, text: str) -> Hashable | None:
    """What a metric compares of a reference: two references of one form score 1 against each other. None where the
    metric cannot read it.

    >>> normal_form("exact_match", "C++") == normal_form("exact_match", "C#"), normal_form("last_number", "three")
    (True, None)
    """
    return _FORMS[metric](text)


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
    plain = _LATEX_FRACTION.sub(_latex_fraction, text) if "frac" in text else text
    plain = _VULGAR_FRACTION.sub(_vulgar_fraction, plain)
    plain = _MIXED_NUMBER.sub(_improper_fraction, plain)
    dates_apart = _DATE.sub(lambda match: match[0].replace("/", " "), plain)
    for match in _NUMBER.finditer(dates_apart):
        if max(len(match["digits"]), len(match["divisor"] or "")) > _MAX_DIGITS:
            continue
        value = Fraction(match["digits"].replace(",", "") + (match["exponent"] or "")) / int(match["divisor"] or 1)
        yield value if match["sign"] in (None, "+") else -value


def _latex_fraction(match: re.Match[str]) -> str:
    whole = "" if match["whole"] is None else f"{match['whole']} "
    return f"{whole}{match['upper'] or match['one']}/{match['lower'] or match['other']}"


def _vulgar_fraction(match: re.Match[str]) -> str:
    whole = "" if match[1] is None else f"{match[1].rstrip()} "
    return whole + unicodedata.normalize("NFKC", match[2]).replace("\u2044", "/")


def _improper_fraction(match: re.Match[str]) -> str:
    whole, upper, lower = int(match["whole"].replace(",", "")), int(match["upper"]), int(match["lower"])
    return f"{whole * lower + upper}/{lower}" if 0 < upper < lower else match[0]


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
def _rouge(by: Literal["words", "characters"]) -> Any:
    from rouge_score import rouge_scorer

    if by == "words":
        return rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
    return rouge_scorer.RougeScorer(["rougeL"], tokenizer=_Characters())


class _Characters:
    """rouge-score's protocol for a tokenizer: characters of scripts without spaces, and Latin words between them."""

    def tokenize(self, text: str) -> list[str]:
        return _CHARACTERS_AND_WORDS.findall(text.lower())


def _rouge_form(text: str) -> Hashable | None:
    by = rouge_reading(text)
    if by is None:
        return None
    from rouge_score import tokenizers

    words = tokenizers.DefaultTokenizer(use_stemmer=True).tokenize(text) if by == "words" else None
    return by, tuple(_Characters().tokenize(text) if words is None else words)


_FORMS: dict[str, Callable[[str], Hashable | None]] = {
    "exact_match": _plain_words,
    "f1": lambda text: tuple(sorted(_squad_words(text))),
    "rouge_l": _rouge_form,
    "accuracy": str,
    "last_number": number_in,
}
