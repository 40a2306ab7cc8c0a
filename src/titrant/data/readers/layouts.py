"""Which of a dataset's files belong to which split: by the conventions of the `datasets` library, which made them.

Only names are looked at, so a repository of the hub, a folder and an archive are all read by the same rules, in this
order: the `configs` in the header of README.md; `data/NAME-00000-of-00001.*`, which is the split NAME; the words train,
validation and test (and those that mean the same) in the names of folders; then in the names of files; else all is
`train`. As there, files without such a word are no rows where others have one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from titrant.core.errors import DataError
from titrant.data.readers.class_names import ClassNames
from titrant.data.readers.file_kinds import kind_of

Splits = Mapping[str, tuple[str, ...]]

_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_EDGE = "[-._ 0-9]"  # what may stand beside such a word: `train-1.csv`, and not `training_set` for train
_NOT_ROWS = frozenset(
    [
        "README.md",
        "config.json",
        "dataset_info.json",
        "dataset_infos.json",
        "dataset_dict.json",
        "state.json",
        "dummy_data.zip",
    ]
)
_SHARDS = re.compile(r"data/(?P<split>[^/]+)-\d{5}-of-\d{5}[^/]*\.[^/]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFile:
    """One file of rows on this machine, and its name in messages: a path, or `hub:org/name@commit/path`.

    `part` is the [configuration/]split that is read of an archive; `class_names` are those of its dataset.
    """

    path: Path
    name: str
    part: str | None = None
    class_names: ClassNames = field(default_factory=dict)


def is_data(name: str) -> bool:
    """Whether a file of a dataset, by its path in it, holds rows: of a kind that can be read, and no metadata.

    >>> is_data("data/train.csv"), is_data("dataset_infos.json"), is_data(".cache/a.json"), is_data("__MACOSX/a.csv")
    (True, False, False, False)
    """
    *folders, last = name.split("/")
    hidden = last.startswith(".") or any(folder.startswith((".", "__")) for folder in folders)
    return kind_of(last) is not None and not hidden and last not in _NOT_ROWS


def choose_split(splits: Splits, split: str | None, *, of: str, where: str, fix: str) -> tuple[str, ...]:
    """The files of the split that was asked for, or of the only one; `DataError` where that has to be said.

    `of` is what has the splits ("the dataset"), `fix` how one is named, with <split> in its place.
    """
    if split is None:
        if len(splits) > 1:
            raise DataError(f"{of} has several splits", where=where, got=", ".join(sorted(splits)), fix=fix)
        return next(iter(splits.values()))
    if split not in splits:
        raise DataError("no such split", where=where, got=split, expected=", ".join(sorted(splits)))
    return splits[split]


def splits_of(data: Sequence[str], header: Mapping[str, Any], config: str | None, *, where: str, fix: str) -> Splits:
    """The files of each split of a configuration; at least one split. `data` are the names that `is_data` lets through.

    `header` is that of README.md. Without `configs` in it a configuration is a folder, as in the hub's own conversions
    to Parquet. `fix` says how a configuration is named.
    """
    configs = header.get("configs")
    if not isinstance(configs, list):
        splits = _below(_folder_of_config(data, config, where=where), data, splits_of_names)
    else:
        splits = _of_config(data, _chosen_config(configs, config, where=where, fix=fix))
    if not any(splits.values()):
        raise DataError("none of the files is one of the configuration's", where=where, got=", ".join(data[:20]))
    return {split: files for split, files in splits.items() if files}


def splits_of_names(data: Sequence[str]) -> Splits:
    """Splits by the names of files and folders alone.

    >>> splits_of_names(["train.csv", "eval.csv", "notes.csv"])
    {'train': ('train.csv',), 'test': ('eval.csv',)}
    """
    # In the order of the `datasets` library: the first convention that any file follows decides for all, and the others
    # are not tried.
    shards: dict[str, list[str]] = {}
    for name in data:
        if match := _SHARDS.fullmatch(name):
            shards.setdefault(match["split"], []).append(name)
    if shards:
        return {split: tuple(names) for split, names in shards.items()}
    # Folders before file names: `test/train_notes.csv` is of the split test.
    for has_word in (_in_folders, _in_file_name):
        found = {split: tuple(name for name in data if has_word(name, split)) for split in _WORDS}
        if any(found.values()):
            return {split: names for split, names in found.items() if names}
    return {"train": tuple(data)}


def _in_folders(name: str, split: str) -> bool:
    words = "|".join(_WORDS[split])
    return any(re.fullmatch(f"(.*{_EDGE})?({words})({_EDGE}.*)?", folder) for folder in name.split("/")[:-1])


def _in_file_name(name: str, split: str) -> bool:
    return bool(re.fullmatch(f"(.*{_EDGE})?({'|'.join(_WORDS[split])}){_EDGE}.*", name.rpartition("/")[2]))


def _chosen_config(configs: Sequence[Any], config: str | None, *, where: str, fix: str) -> Mapping[str, Any]:
    by_name = {str(entry.get("config_name", "default")): entry for entry in configs if isinstance(entry, dict)}
    wanted = config
    if wanted is None:
        # As the library has it: one marked as default, else one called "default", else the only one.
        marked = [name for name, entry in by_name.items() if entry.get("default") is True or name == "default"]
        wanted = marked[0] if marked else next(iter(by_name)) if len(by_name) == 1 else None
    if wanted is None or wanted not in by_name:
        raise DataError(
            "which configuration of the dataset?" if wanted is None else "no such configuration",
            where=where,
            got=wanted,
            expected=", ".join(sorted(by_name)),
            fix=fix,
        )
    return by_name[wanted]


def _of_config(data: Sequence[str], entry: Mapping[str, Any]) -> Splits:
    """The splits of one entry of `configs`: its patterns count from its `data_dir`, and so do names without any."""
    folder = str(entry.get("data_dir") or "")
    said = entry.get("data_files")
    if said is None:
        return _below(folder, data, splits_of_names)
    patterns = _patterns(said)
    return _below(
        folder,
        data,
        lambda names: {
            split: tuple(name for name in names if any(regex.fullmatch(name) for regex in regexes))
            for split, regexes in patterns.items()
        },
    )


def _patterns(said: Any) -> dict[str, list[re.Pattern[str]]]:
    """`data_files` as it may be written: one pattern or a list (of the split train), a mapping, or split and path."""
    pairs: list[tuple[str, Any]]
    if isinstance(said, dict):
        pairs = [(str(split), paths) for split, paths in said.items()]
    elif isinstance(said, list) and any(isinstance(part, dict) for part in said):
        pairs = [(str(part.get("split", "train")), part.get("path")) for part in said if isinstance(part, dict)]
    else:
        pairs = [("train", said)]
    found: dict[str, list[re.Pattern[str]]] = {}
    for split, paths in pairs:
        listed = paths if isinstance(paths, list) else [paths]
        found.setdefault(split, []).extend(_glob(str(path)) for path in listed)
    return found


def _glob(pattern: str) -> re.Pattern[str]:
    """A pattern of file names as the hub's file system takes it: `*` stays within a folder, `**` goes through all."""
    parts = []
    for part in pattern.removeprefix("./").strip("/").split("/"):
        if part == "**":
            # Also no folder at all: `**/a.csv` matches `a.csv`.
            parts.append("(?:.+/)?")
            continue
        pieces = re.split(r"(\*+|\?|\[[^]/]+\])", part)
        parts.append("".join(map(_piece, pieces)) + "/")
    text = "".join(parts)
    # Only a last `**` ends without a slash: it stands for every file below.
    return re.compile(text.removesuffix("/") if text.endswith("/") else text + ".*")


def _piece(piece: str) -> str:
    if piece.startswith("["):
        # A class of characters goes on as one; what is special in a regular expression and not in a glob is escaped.
        inside = piece[1:-1].replace("\\", "\\\\").replace("[", "\\[")
        try:
            re.compile(f"[{inside}]")
        except re.error:  # such as [z-a], which no name can match
            return "(?!)"
        return f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"
    if piece.startswith("*"):
        return "[^/]*" if piece == "*" else ".*"
    return "[^/]" if piece == "?" else re.escape(piece)


def _below(folder: str, data: Iterable[str], splits: Callable[[Sequence[str]], Splits]) -> Splits:
    """The splits of the files in a folder of the dataset: words in the folder's own name are none of theirs."""
    inside = folder.removeprefix("./").strip("/")
    # Cut off while splits are sought: a folder called `test-data` would make every file below it a test file.
    prefix = f"{inside}/" if inside not in ("", ".") else ""
    found = splits([name.removeprefix(prefix) for name in data if name.startswith(prefix)])
    return {split: tuple(prefix + name for name in names) for split, names in found.items()}


def _folder_of_config(data: Sequence[str], config: str | None, *, where: str) -> str:
    if config is None:
        return ""
    for name in data:
        folders = name.split("/")[:-1]
        if config in folders:
            return "/".join(folders[: folders.index(config) + 1])
    known = sorted({folder for name in data for folder in name.split("/")[:-1]})
    raise DataError("no such configuration", where=where, got=config, expected=", ".join(known[:40]) or "none")
