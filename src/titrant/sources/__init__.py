"""Rows from anywhere: JSON Lines, tables, folders, archives and the hub, in the shapes the field uses."""

from titrant.sources.catalogue import Card, Fact, card, catalogue, catalogue_names, is_non_commercial
from titrant.sources.detect import FileShape, LabelCount, detect_shape
from titrant.sources.files import read_rows
from titrant.sources.large import RowIndex, fetch_rows, index_rows, is_large
from titrant.sources.load import load_examples, load_items, stream_examples
from titrant.sources.pins import LOCK_NAME, Pin, lock_key, pin, pin_at_first_use, read_lock, write_lock
from titrant.sources.shapes import SHAPES, ColumnMap

__all__ = [
    "LOCK_NAME",
    "SHAPES",
    "Card",
    "ColumnMap",
    "Fact",
    "FileShape",
    "LabelCount",
    "Pin",
    "RowIndex",
    "card",
    "catalogue",
    "catalogue_names",
    "detect_shape",
    "fetch_rows",
    "index_rows",
    "is_large",
    "is_non_commercial",
    "load_examples",
    "load_items",
    "lock_key",
    "pin",
    "pin_at_first_use",
    "read_lock",
    "read_rows",
    "stream_examples",
    "write_lock",
]
