"""Rows from anywhere: JSON Lines, tables, folders, archives and the hub, in the shapes the field uses."""

from titrant.sources.detect import FileShape, LabelCount, detect_shape
from titrant.sources.files import read_rows
from titrant.sources.load import load_examples, load_items, stream_examples
from titrant.sources.shapes import SHAPES, ColumnMap

__all__ = [
    "SHAPES",
    "ColumnMap",
    "FileShape",
    "LabelCount",
    "detect_shape",
    "load_examples",
    "load_items",
    "read_rows",
    "stream_examples",
]
