"""Splits and shards of folders, repositories and archives: a table of layouts, held to `datasets` itself."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from titrant.config.fields import resolve_place
from titrant.core.errors import DataError
from titrant.data.readers import read_rows, row_files
from titrant.data.readers.layouts import splits_of, splits_of_names
from titrant.experiment.prepare import file_hash

CASES = Path(os.environ.get("TITRANT_CASES", Path(__file__).parents[4] / "shared" / "cases"))
_DATA_DIRS = "configs:\n- {config_name: new, data_dir: v2, default: true}\n- {config_name: old, data_dir: v1}\n"
_STARS = (
    "configs:\n- config_name: default\n  data_files:\n  - {split: train, path: 'a/*.jsonl'}\n"
    "  - {split: extra, path: ['b/**', 'c/x-?.jsonl']}\n"
)

# The layout (names of files), the header of README.md, the configuration, and the files of each split.
LAYOUTS: dict[str, tuple[list[str], str, str | None, dict[str, set[str]]]] = {
    "one file": (["rows.jsonl"], "", None, {"train": {"rows.jsonl"}}),
    "eval is a word of test": (
        ["train.jsonl", "eval.jsonl"],
        "",
        None,
        {"train": {"train.jsonl"}, "test": {"eval.jsonl"}},
    ),
    "evaluation and valid": (
        ["my-evaluation.jsonl", "my-valid_2.jsonl"],
        "",
        None,
        {"validation": {"my-valid_2.jsonl"}, "test": {"my-evaluation.jsonl"}},
    ),
    "testing, training, dev": (
        ["data/training.1.jsonl", "data/testing.jsonl", "data/dev 0.jsonl"],
        "",
        None,
        {"train": {"data/training.1.jsonl"}, "validation": {"data/dev 0.jsonl"}, "test": {"data/testing.jsonl"}},
    ),
    "a word inside another is none": (
        ["contest.jsonl", "trainer.jsonl", "devices.jsonl"],
        "",
        None,
        {"train": {"contest.jsonl", "trainer.jsonl", "devices.jsonl"}},
    ),
    "capitals are no such words": (["Train.jsonl", "TEST.jsonl"], "", None, {"train": {"Train.jsonl", "TEST.jsonl"}}),
    "folders before file names": (
        ["train/test.jsonl", "val_a/x.jsonl", "x-test/train.jsonl"],
        "",
        None,
        {"train": {"train/test.jsonl"}, "validation": {"val_a/x.jsonl"}, "test": {"x-test/train.jsonl"}},
    ),
    "a file without a word beside others": (
        ["train.jsonl", "notes.jsonl"],
        "",
        None,
        {"train": {"train.jsonl"}},
    ),
    "shards of any name under data": (
        [
            *("data/train_sft-00000-of-00002.jsonl", "data/train_sft-00001-of-00002.jsonl"),
            *("data/test_gen-00000-of-00001.jsonl", "other.jsonl"),
        ],
        "",
        None,
        {
            "train_sft": {"data/train_sft-00000-of-00002.jsonl", "data/train_sft-00001-of-00002.jsonl"},
            "test_gen": {"data/test_gen-00000-of-00001.jsonl"},
        },
    ),
    "shards elsewhere go by their words": (
        ["train_sft-00000-of-00001.jsonl", "test_gen-00000-of-00001.jsonl"],
        "",
        None,
        {"train": {"train_sft-00000-of-00001.jsonl"}, "test": {"test_gen-00000-of-00001.jsonl"}},
    ),
    "hidden folders and metadata": (
        ["train.jsonl", ".cache/test.jsonl", "__pycache__/test.jsonl", "dataset_infos.json", "config.json"],
        "",
        None,
        {"train": {"train.jsonl"}},
    ),
    "configurations with data_dir": (
        ["v1/train.jsonl", "v2/train.jsonl", "v2/eval.jsonl"],
        _DATA_DIRS,
        "old",
        {"train": {"v1/train.jsonl"}},
    ),
    "the default configuration": (
        ["v1/train.jsonl", "v2/train.jsonl", "v2/eval.jsonl"],
        _DATA_DIRS,
        None,
        {"train": {"v2/train.jsonl"}, "test": {"v2/eval.jsonl"}},
    ),
    "data_dir with shards": (
        ["v1/data/part-00000-of-00001.jsonl", "v2/x.jsonl"],
        _DATA_DIRS,
        "old",
        {"part": {"v1/data/part-00000-of-00001.jsonl"}},
    ),
    "patterns": (
        ["a/1.jsonl", "a/deep/2.jsonl", "b/deep/3.jsonl", "c/x-1.jsonl", "c/x-10.jsonl"],
        _STARS,
        None,
        {"train": {"a/1.jsonl"}, "extra": {"b/deep/3.jsonl", "c/x-1.jsonl"}},
    ),
    "data_files as one pattern": (
        ["a/1.jsonl", "b/2.jsonl"],
        "configs:\n- config_name: default\n  data_files: 'b/*'\n",
        None,
        {"train": {"b/2.jsonl"}},
    ),
    "patterns from data_dir": (
        ["v1/a.jsonl", "a.jsonl"],
        "configs:\n- {config_name: default, data_dir: v1, data_files: '*.jsonl'}\n",
        None,
        {"train": {"v1/a.jsonl"}},
    ),
}


@pytest.fixture
def written(tmp_path: Path) -> Callable[[list[str], str], Path]:
    """A folder with these files, each with one row that holds the file's own name."""

    def write(names: list[str], header: str) -> Path:
        folder = tmp_path / "layout"
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}" if name.endswith(".json") else json.dumps({"text": name}) + "\n")
        if header:
            (folder / "README.md").write_text(f"---\n{header}---\n# A card\n")
        return folder

    return write


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_s_splits_are_read_by_name(layout: str, written: Callable[[list[str], str], Path]) -> None:
    names, header, config, expected = LAYOUTS[layout]
    folder = written(names, header)
    for split, files in expected.items():
        place = f"{folder}:{config}/{split}" if config else f"{folder}:{split}"
        assert {row.values["text"] for row in read_rows(place)} == files
    if len(expected) == 1 and config is None:
        assert {row.values["text"] for row in read_rows(folder)} == next(iter(expected.values()))


@pytest.mark.parametrize("layout", [layout for layout, case in LAYOUTS.items() if len(case[3]) > 1 and case[2] is None])
def test_several_splits_without_a_choice_are_refused(layout: str, written: Callable[[list[str], str], Path]) -> None:
    names, header, _, expected = LAYOUTS[layout]
    folder = written(names, header)
    with pytest.raises(DataError, match="the folder has several splits") as caught:
        list(read_rows(folder))
    assert ", ".join(sorted(expected)) in str(caught.value)
    with pytest.raises(DataError, match="no such split"):
        list(read_rows(f"{folder}:nothing"))


_BY_DATASETS = """
import json, sys
from datasets import load_dataset
for line in sys.stdin:
    folder, config = json.loads(line)
    found = load_dataset(folder, *([config] if config else []))
    print(json.dumps({split: sorted(found[split]["text"]) for split in found}))
"""


def test_datasets_itself_reads_each_layout_so(tmp_path: Path) -> None:
    python = _python_with_datasets()
    asked = []
    for number, (names, header, config, _) in enumerate(LAYOUTS.values()):
        folder = tmp_path / f"layout-{number}"
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}" if name.endswith(".json") else json.dumps({"text": name}) + "\n")
        if header:
            (folder / "README.md").write_text(f"---\n{header}---\n# A card\n")
        asked.append(json.dumps([str(folder), config]))
    done = subprocess.run(
        [python, "-c", _BY_DATASETS],
        input="\n".join(asked),
        capture_output=True,
        text=True,
        check=False,
        env={"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for layout, found in zip(LAYOUTS, answers, strict=True):
        expected = {split: sorted(files) for split, files in LAYOUTS[layout][3].items()}
        assert found == expected, layout


def _python_with_datasets() -> str:
    """A Python that has `datasets`: this one, or the one that TITRANT_DATASETS_PYTHON names."""
    if named := os.environ.get("TITRANT_DATASETS_PYTHON"):
        return named
    if importlib.util.find_spec("datasets") is None:
        pytest.skip("datasets is not installed: pip install titrant[dev]")
    return sys.executable


def test_a_repository_is_read_by_the_same_rules_as_a_folder() -> None:
    for names, header, config, expected in LAYOUTS.values():
        if header or config:
            continue
        data = [
            name for name in names if not name.startswith((".", "__")) and "_infos" not in name and "config" not in name
        ]
        found = splits_of(data, {}, None, where="hub:a/b", fix="")
        assert {split: set(files) for split, files in found.items()} == expected


@pytest.mark.parametrize(
    "configs", [[{"config_name": "x", "data_files": "nothing/*"}], [{"config_name": "x", "data_dir": "no"}]]
)
def test_a_configuration_without_files_is_refused(configs: list[Mapping[str, str]]) -> None:
    with pytest.raises(DataError, match="none of the files is one of the configuration's"):
        splits_of(["a.csv"], {"configs": configs}, None, where="hub:a/b", fix="")


def test_a_pattern_that_is_no_pattern_matches_nothing() -> None:
    header = {"configs": [{"config_name": "x", "data_files": ["[z-a].csv", "(", "a[!b].csv"]}]}
    assert splits_of(["ac.csv", "ab.csv"], header, None, where="hub:a/b", fix="") == {"train": ("ac.csv",)}
    assert splits_of_names([]) == {"train": ()}


# -------------------------------------------------------------------------------------------------------- save_to_disk


def arrow(path: Path, *texts: str, stream: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"prompt": list(texts), "completion": ["010"] * len(texts), "number": [0.1] * len(texts)})
    with path.open("wb") as target, (pa.ipc.new_stream if stream else pa.ipc.new_file)(target, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def saved(folder: Path, *shards: tuple[str, ...]) -> Path:
    """A folder as `Dataset.save_to_disk` leaves it, and a file that `map` put there since."""
    names = [f"data-{number:05d}-of-{len(shards):05d}.arrow" for number in range(len(shards))]
    for name, texts in zip(names, shards, strict=True):
        arrow(folder / name, *texts)
    (folder / "dataset_info.json").write_text('{"features": {}, "citation": ""}')
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    arrow(folder / "cache-0123456789abcdef.arrow", "of the cache")
    return folder


def prompts(place: str | Path) -> list[str]:
    return [row.values["prompt"] for row in read_rows(place)]


def test_a_folder_of_save_to_disk_gives_the_rows_that_its_state_lists(tmp_path: Path) -> None:
    folder = saved(tmp_path / "saved", ("a", "b", "c"), ("d",))
    assert prompts(folder) == ["a", "b", "c", "d"]
    rows = list(read_rows(folder))
    assert rows[2].values == {"prompt": "c", "completion": "010", "number": "0.1"}
    assert [row.origin.line for row in rows] == [1, 2, 3, 1]
    assert [file.path.name for file in row_files(folder)] == ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]


def test_a_saved_dictionary_of_splits_wants_one_named(tmp_path: Path) -> None:
    for split in ("train", "held_out"):
        saved(tmp_path / "both" / split, (split,))
    (tmp_path / "both" / "dataset_dict.json").write_text('{"splits": ["train", "held_out"]}')
    with pytest.raises(DataError, match=r"several splits .*held_out, train"):
        prompts(tmp_path / "both")
    assert prompts(f"{tmp_path / 'both'}:held_out") == ["held_out"]
    with pytest.raises(DataError, match="no such split"):
        prompts(f"{tmp_path / 'both'}:test")


@pytest.mark.parametrize("said", ['{"_data_files": [{"filename": "../x.arrow"}]}', '{"_data_files": []}', "{}"])
def test_a_state_that_lists_no_files_of_its_folder_is_refused(said: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / "saved", ("a",))
    (folder / "state.json").write_text(said)
    with pytest.raises(DataError, match=r"state\.json:1: this is no list of saved files"):
        prompts(folder)


def test_a_saved_selection_of_rows_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "saved", ("a", "b"))
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(state | {"_indices_data_files": [{"filename": "indices.arrow"}]}))
    with pytest.raises(DataError, match="only a selection of the rows was saved"):
        prompts(folder)


def test_both_forms_of_arrow_are_read_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    arrow(tmp_path / "file.arrow", "a", "b", "c", stream=False)
    assert prompts(tmp_path / "file.arrow") == ["a", "b", "c"]
    arrow(tmp_path / "cut.arrow", "a", "b", "c")
    (tmp_path / "cut.arrow").write_bytes((tmp_path / "cut.arrow").read_bytes()[:-300])
    with pytest.raises(DataError, match=r"cut\.arrow:\d+: this Arrow file cannot be read"):
        prompts(tmp_path / "cut.arrow")


@pytest.mark.skipif(not CASES.is_dir(), reason=f"no cases at {CASES}: set TITRANT_CASES")
def test_the_folders_that_were_reported_are_read() -> None:
    folder = CASES / "15-folders-as-datasets-writes-them"
    assert len(list(read_rows(folder / "saved"))) == 300
    with pytest.raises(DataError, match="several splits"):
        list(read_rows(folder / "splitfolder"))
    assert [len(list(read_rows(f"{folder / 'splitfolder'}:{split}"))) for split in ("train", "test")] == [200, 100]


# ------------------------------------------------------------------------------------------------------------ archives


def test_an_archive_with_several_splits_is_refused_and_its_metadata_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.zip"
    for names, message in ((["train.jsonl", "eval.jsonl"], "the archive has several splits"), (["a/x.jsonl"], None)):
        with zipfile.ZipFile(path, "w") as archive:
            for name in (*names, "dataset_infos.json", "__MACOSX/._x.jsonl"):
                archive.writestr(name, json.dumps({"prompt": name}) + "\n")
        if message is None:
            assert prompts(path) == names
            continue
        with pytest.raises(DataError, match=message):
            prompts(path)


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["rows.zip", "rows.tar", "rows.tar.gz", "rows.tgz"])
@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["train.jsonl", "eval.jsonl"], {"train": ["train.jsonl"], "test": ["eval.jsonl"]}),
        (
            ["set/train/a.jsonl", "set/train/b.jsonl", "set/dev/a.jsonl"],
            {"train": ["set/train/a.jsonl", "set/train/b.jsonl"], "validation": ["set/dev/a.jsonl"]},
        ),
        (
            ["data/sft-00000-of-00001.jsonl", "data/gen-00000-of-00001.jsonl"],
            {"sft": ["data/sft-00000-of-00001.jsonl"], "gen": ["data/gen-00000-of-00001.jsonl"]},
        ),
        (["en/train.jsonl", "de/train.jsonl", "de/test.jsonl"], {"de/train": ["de/train.jsonl"]}),
    ],
)
def test_a_split_of_an_archive_is_read_where_it_is_named(
    tmp_path: Path, name: str, names: list[str], wanted: dict[str, list[str]]
) -> None:
    files = {each: json.dumps({"prompt": each}).encode() + b"\n" for each in names}
    path = (zipped if name.endswith(".zip") else tarred)(tmp_path / name, files)
    with pytest.raises(DataError, match="the archive has several splits") as caught:
        prompts(path)
    assert f"Fix: {path}:<split>" in str(caught.value)
    for split, there in wanted.items():
        assert prompts(f"{path}:{split}") == there
        assert next(iter(read_rows(f"{path}:{split}"))).origin.path == f"{path}!{there[0]}"
    with pytest.raises(DataError, match="no such split"):
        prompts(f"{path}:nothing")


def test_a_study_may_name_the_split_of_an_archive(tmp_path: Path) -> None:
    path = zipped(tmp_path / "rows.zip", {f"{split}.jsonl": b'{"prompt": "p"}\n' for split in ("train", "test")})
    assert resolve_place("rows.zip:test", tmp_path) == f"{path}:test"
    assert file_hash(f"{path}:test")
    with pytest.raises(ValueError, match="refused"):
        resolve_place("rows.jsonl:test", tmp_path)


def test_a_path_with_a_colon_that_is_there_is_no_split(tmp_path: Path) -> None:
    (tmp_path / "rows:train").mkdir()
    (tmp_path / "rows").mkdir()
    for folder in ("rows", "rows:train"):
        pq.write_table(pa.table({"prompt": [folder]}), tmp_path / folder / "x.parquet")
    assert prompts(tmp_path / "rows:train") == ["rows:train"]
