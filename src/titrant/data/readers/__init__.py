"""Rows from anywhere: JSON Lines, tables, folders, archives and the hub, in the shapes the field uses."""

from titrant.data.readers.catalogue import Card, CardFact, card, catalogue, catalogue_names, is_non_commercial
from titrant.data.readers.detect import FileShape, LabelCount, detect_shape
from titrant.data.readers.doors import door_of
from titrant.data.readers.files import missing_place, parted, read_rows, row_files, table_remarks, unread_files
from titrant.data.readers.hub import HUB_PREFIX, commit_read
from titrant.data.readers.large import RowIndex, fetch_rows, index_rows, is_large
from titrant.data.readers.layouts import RowFile
from titrant.data.readers.load import load_examples, load_items, stream_examples
from titrant.data.readers.notes import FileNote, ReadingNotes
from titrant.data.readers.parts import ColumnMap
from titrant.data.readers.pins import LOCK_NAME, Pin, lock_key, pin, pin_at_first_use, read_lock, write_lock
from titrant.data.readers.shapes import SHAPES

__all__ = [
    "HUB_PREFIX",
    "LOCK_NAME",
    "SHAPES",
    "Card",
    "CardFact",
    "ColumnMap",
    "FileNote",
    "FileShape",
    "LabelCount",
    "Pin",
    "ReadingNotes",
    "RowFile",
    "RowIndex",
    "card",
    "catalogue",
    "catalogue_names",
    "commit_read",
    "detect_shape",
    "door_of",
    "fetch_rows",
    "index_rows",
    "is_large",
    "is_non_commercial",
    "load_examples",
    "load_items",
    "lock_key",
    "missing_place",
    "parted",
    "pin",
    "pin_at_first_use",
    "read_lock",
    "read_rows",
    "row_files",
    "stream_examples",
    "table_remarks",
    "unread_files",
    "write_lock",
]
