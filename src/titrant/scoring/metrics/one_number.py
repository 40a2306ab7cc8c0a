"""Whether a text is one number and nothing else: what `last_number` may be trusted with.

The last number of a date is its day or year, that of a list its last member, that of a code whatever stands at its end:
two different answers then share it, and a wrong one counts as right.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from titrant.scoring.metrics.text import number_in

SEVERAL_NUMBERS = "it holds several numbers, of which only the last would count"
NOT_A_QUANTITY = "its digits are part of a code, a date or a time"
NO_NUMBER_IN_IT = "it holds no number"
LONG_ANSWER_WORDS = 6
"""An answer of so many words is a working-out that ends on its result, not a result."""

_FINAL_MARK = "####"
_NUMBER = (
    r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?(?:\s?/\s?[0-9]+| [0-9]+/[0-9]+)?"
    "|\\.[0-9]+|(?:[0-9]+ ?)?[\u00bc-\u00be\u2150-\u215e]"
)
_CURRENCY = r"(?:[$€£¥₹]|US\$|USD|EUR|GBP|INR|Rs\.?)"
_ATTACHED_UNIT = r"(?:[a-z]{1,4}[²³]?(?:/[a-z]{1,4})?|[KMGT]B|[kMG]?Hz|[kMG]?Wh?|k?V|mA|A|K)"
_UNIT_WORD = r"[^\W\d_][^\W\d_.'/²³-]*[²³.]?(?:[/'-][^\W\d_]+[²³]?)*"
_ONE_NUMBER = re.compile(
    rf"\(?[~≈]?{_CURRENCY}?\s?[-+\u2212]?{_CURRENCY}?\s?(?P<number>{_NUMBER})"
    rf"(?:{_ATTACHED_UNIT}(?![\w])|\s?(?:[%€£¥]|°[CF]?))?(?:\s{_UNIT_WORD}){{0,3}}\)?[.!]?"
)
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\b"
)
_DATE_OR_TIME = re.compile(
    rf"\b{_MONTH}\.?,?\s+[0-9]|[0-9](?:st|nd|rd|th)?\.?\s+(?:of\s+)?{_MONTH}"
    r"|[0-9]\s?(?:[ap]\.?m\b|o'clock|uhr\b|b\.?c\b|a\.?d\b|b?ce\b)",
    re.IGNORECASE,
)
# "It is", "The answer is", "Total:", "x ="
_LEAD = re.compile(r"[^\W\d_][\w' ]{0,40}?(?:\b(?:is|are|was|were|equals)\b|[=:])\s*")


def is_one_number(text: str) -> bool:
    """Whether the whole text is one number, perhaps with its sign, currency and unit, or marks one by `####` (GSM8K).

    >>> [is_one_number(text) for text in ("$1,024.50", "5 km/h", "2 1/2 cups", "so 8.\\n#### 8")]
    [True, True, True, True]
    >>> [is_one_number(text) for text in ("2021-03-15", "11:43", "INV-0045", "x = 6, y = 2", "9 am", "0045")]
    [False, False, False, False, False, False]
    """
    _, mark, after = text.rpartition(_FINAL_MARK)
    whole = (after if mark else text).strip()
    match = _ONE_NUMBER.fullmatch(whole)
    if match is None or _DATE_OR_TIME.search(whole):
        return False
    padded = re.match(r"0[0-9]", match["number"]) is not None  # 0045 is a code: as a number it is 45
    return not padded and number_in(whole) is not None


def states_one_number(text: str) -> bool:
    """Whether a text is one number, or a short sentence that says one.

    >>> states_one_number("It is 41."), states_one_number("x = 5"), states_one_number("x = 6, y = 2")
    (True, True, False)
    """
    whole = text.strip()
    lead = _LEAD.match(whole)
    return is_one_number(whole) or (lead is not None and is_one_number(whole[lead.end() :]))


_MAGNITUDE = re.compile(
    r"[0-9] ?(?:k|K|M|B|mn|bn|hundred|thousand|million|billion|trillion|dozen|lakh|crore)\b"
    r"|[0-9](?:st|nd|rd|th|s)\b"  # the first, the nineties
)
_SMALL_EXPONENT = re.compile(r"(?<![0-9.])[0-9]+[eE]")
_RATIO = re.compile(r"(?<![0-9] )(?<![0-9])[0-9]+\s?/\s?[0-9]")
_LONG_DIGITS = re.compile(r"(?<![0-9.])[0-9]{8,}")
_CODE_DIGITS = 5


def are_amounts(answers: Sequence[str]) -> bool:
    """Whether answers are amounts, which their last number stands for: nearly all are one number, written as amounts
    are, and different ones are different numbers.

    Not so a fraction or score (1/2), digits that name something (ISBNs, telephone numbers, 0045, 1e5), an order (3rd),
    a magnitude in words (5 million), versions (3.1 and 3.10) and whole numbers that all have one length (90210).

    >>> are_amounts(["$1,024", "5 km", "so 8.\\n#### 8"]), are_amounts(["90210", "10115", "75001"])
    (True, False)
    """
    numbers = [text for text in map(_amount_in, answers) if text is not None]
    if len(numbers) < 0.95 * len(answers):
        return False
    bare = {text for text in numbers if re.fullmatch(r"[-+]?[0-9]+(?:\.[0-9]+)?", text)}
    whole = {text for text in bare if text.isdigit()}
    if len(whole) > 1 and len(whole) == len(set(numbers)) and {len(text) for text in whole} <= {max(map(len, whole))}:
        return max(map(len, whole)) < _CODE_DIGITS
    # 3.1 and 3.10 are one number and two versions; 5 and 5.0 are the same amount.
    fractions = {text for text in bare if "." in text and text.rpartition(".")[2].strip("0")}
    return len({float(text) for text in fractions}) == len(fractions)


def _amount_in(text: str) -> str | None:
    """What a text says where it is one amount, without what leads to it; None where it is none."""
    whole = text.rpartition(_FINAL_MARK)[2].strip()
    if not is_one_number(whole):
        lead = _LEAD.match(whole)
        whole = whole[lead.end() :] if lead is not None else ""
        if not is_one_number(whole):
            return None
    if any(pattern.search(whole) for pattern in (_MAGNITUDE, _SMALL_EXPONENT, _RATIO, _LONG_DIGITS)):
        return None
    return whole.rstrip(".!")


def number_fault(reference: str) -> str | None:
    """Why a reference's last number does not stand for the reference; None where it does.

    Beside one number alone, a sentence around one ("The answer is 12"), an equation ("48 + 24 = 72") and a longer
    working-out are taken.

    >>> number_fault("The answer is 12"), number_fault("48 + 24 = 72"), number_fault("three")
    (None, None, 'it holds no number')
    >>> number_fault("A-113")
    'its digits are part of a code, a date or a time'
    """
    if number_in(reference) is None:
        return NO_NUMBER_IN_IT
    if _FINAL_MARK in reference or states_one_number(reference):
        return None
    if len(re.findall(r"[^\W\d_]{2,}", reference)) >= LONG_ANSWER_WORDS:
        # A working-out is trusted to end on its result, unless what it ends on is a date or time.
        ends_on_a_date = _DATE_OR_TIME.search(" ".join(reference.split()[-4:]))
        return NOT_A_QUANTITY if ends_on_a_date else None
    result = reference.rpartition("=")[2] if reference.count("=") == 1 else reference
    if is_one_number(result):
        return None
    found = re.findall(_NUMBER, result)
    if len(found) != 1:
        return SEVERAL_NUMBERS
    standing = [word for word in result.split() if re.search(r"[0-9]", word)]
    alone = len(standing) == 1 and is_one_number(standing[0].strip("\"'()[]{},;:.!?$"))
    return None if alone and not _DATE_OR_TIME.search(result) else NOT_A_QUANTITY
