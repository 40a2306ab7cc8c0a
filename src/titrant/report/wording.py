"""Numbers and foreign texts as the page writes them: sensible digits, a true minus sign, nothing invisible.

Numbers that are not finite are as unknown as None: every formatter here expects a finite number, `known` decides.
"""

from __future__ import annotations

import math
import re
from typing import TypeGuard

MINUS = "−"

# C0 controls but tab and newline, DEL, C1, lone surrogates, non-characters, and the marks that override the direction
# of the text around them: none of these belongs to what a reader sees, and some break a page or deceive its reader.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]")
_LINE_BREAKS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")


def known(value: float | None) -> TypeGuard[float]:
    """Whether there is a number to show.

    >>> known(0.0), known(None), known(float("nan"))
    (True, False, False)
    """
    return value is not None and math.isfinite(value)


def visible(text: str) -> str:
    """The text with line breaks as newlines and with what cannot be seen shown as U+FFFD.

    >>> visible("a\\x00b\\u2028c")
    'a\\ufffdb\\nc'
    """
    return _UNSEEN.sub("\ufffd", _LINE_BREAKS.sub("\n", text))


def shortened(text: str, *, limit: int) -> str:
    """The text, visible, and with its length said where it was cut to `limit` characters.

    >>> shortened("abcdef", limit=3)
    'abc … (cut: 6 characters in all)'
    """
    if len(text) <= limit:
        return visible(text)
    return f"{visible(text[:limit])} … (cut: {count(len(text))} characters in all)"


def count(value: float) -> str:
    """A whole number with thousands separated.

    >>> count(1234567), count(-3)
    ('1,234,567', '−3')
    """
    return f"{value:,.0f}".replace("-", MINUS)


def quantity(value: float) -> str:
    """A mean of counts: one decimal where it is not whole, none from 1,000 on.

    >>> quantity(4.0), quantity(3.96), quantity(18324.5)
    ('4', '4.0', '18,324')
    """
    if abs(value) >= 1000 or value == round(value):
        return count(value)
    return f"{value:.1f}".replace("-", MINUS)


def score(value: float) -> str:
    """A score, share or probability with three decimals.

    >>> score(0.71249)
    '0.712'
    """
    return _without_negative_zero(f"{value:.3f}")


def signed(value: float) -> str:
    """A difference with three decimals and its sign.

    >>> signed(0.0941), signed(-0.0713), signed(-0.0001)
    ('+0.094', '−0.071', '0.000')
    """
    text = _without_negative_zero(f"{value:+.3f}")
    return "0.000" if text == "+0.000" else text


def percent(value: float) -> str:
    """A share in per cent: whole from 10% on, one decimal below; never 0% or 100% for what is not.

    >>> percent(0.1234), percent(0.051), percent(0.0), percent(0.0002), percent(0.9999)
    ('12%', '5.1%', '0%', '<0.1%', '>99%')
    """
    if value in (0.0, 1.0):
        return f"{value:.0%}"
    if 0 < value < 0.001:
        return "<0.1%"
    if 0.99 < value < 1:
        return ">99%"
    return (f"{value:.0%}" if abs(value) >= 0.0995 else f"{value:.1%}").replace("-", MINUS)


def probability(value: float) -> str:
    """A p value with two significant digits.

    >>> probability(0.0321), probability(0.00002), probability(1.0)
    ('0.032', '<0.001', '1.0')
    """
    if value < 0.001:
        return "<0.001"
    return f"{value:.2f}" if value < 0.995 and value >= 0.1 else f"{value:.2g}" if value < 0.1 else "1.0"


def parameters(value: float) -> str:
    """A count of parameters in millions or billions.

    >>> parameters(134515008), parameters(1711376384)
    ('135 million', '1.7 billion')
    """
    if value >= 1e9:
        return f"{value / 1e9:.1f} billion"
    return f"{value / 1e6:.0f} million" if value >= 1e6 else count(value)


def plural(number: float, noun: str, many: str | None = None) -> str:
    """The number with its noun.

    >>> plural(1, "seed"), plural(3, "seed"), plural(2, "loss", "losses")
    ('1 seed', '3 seeds', '2 losses')
    """
    return f"{count(number)} {noun if number == 1 else many or noun + 's'}"


def _without_negative_zero(text: str) -> str:
    stripped = text.replace("-", MINUS)
    return "0.000" if stripped == MINUS + "0.000" else stripped
