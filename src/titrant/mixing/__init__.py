"""Which rows an arm gets: exact counts, nested draws, keyed by content."""

from titrant.mixing.alterations import Altered, altered, false_share
from titrant.mixing.amounts import largest_remainder, rows_within_tokens
from titrant.mixing.draws import draw, draw_order

__all__ = ["Altered", "altered", "draw", "draw_order", "false_share", "largest_remainder", "rows_within_tokens"]
