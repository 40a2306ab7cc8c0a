"""Which rows an arm gets: exact counts, nested draws, keyed by content."""

from titrant.mixing.amounts import largest_remainder, rows_within_tokens
from titrant.mixing.draws import draw, draw_order

__all__ = ["draw", "draw_order", "largest_remainder", "rows_within_tokens"]
