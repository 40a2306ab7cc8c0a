"""Names of classes that a dataset keeps beside its rows, which hold their numbers (`ClassLabel` of `datasets`).

They stand in the schema of Parquet and Arrow files, in `dataset_info` of README.md, or in dataset_infos.json. A model
that is asked for a word is not asked for `2`, so a number of a class is read as its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from titrant.core.records import RawRow
from titrant.data.readers.json_rows import parse_object

ClassNames = Mapping[str, tuple[str, ...]]
"""The names of the classes 0, 1, 2 … of each column that holds such numbers."""
_NUMBER = re.compile(r"-1|[0-9]{1,9}")
_INFO_FILES = ("dataset_info.json", "dataset_infos.json")


def with_class_names(row: RawRow, class_names: ClassNames) -> RawRow:
    """The row with the names of its classes for their numbers; -1, the number of no class, is None."""
    named: dict[str, str | None] = {}
    for column, names in class_names.items():
        value = row.values.get(column)
        if isinstance(value, str) and _NUMBER.fullmatch(value) and int(value) < len(names):
            named[column] = None if value == "-1" else names[int(value)]
    return replace(row, values={**row.values, **named}, named_columns=tuple(named)) if named else row


def told_from_numbers(class_names: ClassNames) -> ClassNames:
    """The columns whose names are no numbers. A table of text may hold names already, and where a name is a number (of
    stars, 1 to 5, whose classes are 0 to 4) nobody can tell which it holds."""
    return {column: names for column, names in class_names.items() if not any(map(_NUMBER.fullmatch, names))}


def names_in_schema(metadata: Mapping[bytes, bytes] | None) -> ClassNames:
    """The names in the schema of a Parquet or Arrow file that `datasets` wrote."""
    said = (metadata or {}).get(b"huggingface")
    return {} if said is None else _names_in_info(parse_object(said.decode("utf-8", "replace")).get("info"))


def names_in_folder(folder: Path, header: Mapping[str, Any], config: str | None) -> ClassNames:
    """The names in the files of a dataset's folder that are no rows. `header` is that of its README.md."""
    infos = header.get("dataset_info")
    listed = infos if isinstance(infos, list) else [infos]
    named = {str(info.get("config_name", "default")): info for info in listed if isinstance(info, dict)}
    names = _names_in_info(_of_config(named, config))
    for path in (folder / name for name in _INFO_FILES):
        if not names and path.is_file():
            said = parse_object(path.read_text("utf-8", "replace"))
            names = _names_in_info(said if "features" in said else _of_config(said, config))
    return names


def _of_config(infos: Mapping[str, Any], config: str | None) -> Any:
    """What is said of a configuration: where none is named, of the usual one."""
    if config is not None:
        return infos.get(config)
    return next(iter(infos.values())) if len(infos) == 1 else infos.get("default")


def _names_in_info(info: Any) -> ClassNames:
    """The names in a description of a dataset, in JSON (`_type: ClassLabel`) or as README.md has it (`class_label`)."""
    features = info.get("features") if isinstance(info, dict) else None
    if isinstance(features, list):
        dtypes = {str(feature.get("name")): feature.get("dtype") for feature in features if isinstance(feature, dict)}
        labels = {name: dtype.get("class_label") for name, dtype in dtypes.items() if isinstance(dtype, dict)}
    elif isinstance(features, dict):
        labels = {
            name: feature
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    else:
        return {}
    named = {str(name): _listed_names(label) for name, label in labels.items()}
    return {name: names for name, names in named.items() if names}


def _listed_names(label: Any) -> tuple[str, ...]:
    names = label.get("names") if isinstance(label, dict) else None
    if isinstance(names, dict):  # {"0": "negative", "1": "positive"}
        names = [names.get(str(number), names.get(number)) for number in range(len(names))]
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()
