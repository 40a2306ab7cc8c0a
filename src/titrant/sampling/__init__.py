"""Which rows an arm gets: exact counts, nested draws, keyed by content."""

from titrant.sampling.alterations import Altered, altered, false_share
from titrant.sampling.amounts import largest_remainder, rows_within_tokens
from titrant.sampling.draws import draw, draw_order
from titrant.sampling.large import draw_ranks, first_rows_of_draw, occurrences

__all__ = [
    "Altered",
    "altered",
    "draw",
    "draw_order",
    "draw_ranks",
    "false_share",
    "first_rows_of_draw",
    "largest_remainder",
    "occurrences",
    "rows_within_tokens",
]
