"""Rows from anywhere: JSON Lines, tables, folders, archives and the hub, in the shapes the field uses."""

from titrant.data.readers.catalogue import Card, Fact, card, catalogue, catalogue_names, is_non_commercial
from titrant.data.readers.detect import FileShape, LabelCount, detect_shape
from titrant.data.readers.files import read_rows
from titrant.data.readers.large import RowIndex, fetch_rows, index_rows, is_large
from titrant.data.readers.load import load_examples, load_items, stream_examples
from titrant.data.readers.notes import FileNote, ReadingNotes
from titrant.data.readers.pins import LOCK_NAME, Pin, lock_key, pin, pin_at_first_use, read_lock, write_lock
from titrant.data.readers.shapes import SHAPES, ColumnMap

__all__ = [
    "LOCK_NAME",
    "SHAPES",
    "Card",
    "ColumnMap",
    "Fact",
    "FileNote",
    "FileShape",
    "LabelCount",
    "Pin",
    "ReadingNotes",
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
