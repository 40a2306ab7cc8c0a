"""The full size at 1%: the study files as they are but for their numbers, and a mirror of the hub's layout."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hub_mirror
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from replication.grid import GridPlaces, progress, run_grid
from replication.kept import read_kept
from titrant.data.readers import card
from titrant.engines import BackendSpec

FULL = Path(__file__).parents[2] / "studies" / "paper" / "full"
DATA = Path(os.environ.get("TITRANT_DATA_ROOT", "../shared/data")).resolve()
FAKE_BACKEND = BackendSpec(module="titrant.backends.fake", name="FakeBackend")
SHARE = 100


def smaller(value: Any) -> Any:
    """1% of the rows, doses and items of a study; everything else as it stands."""
    counts = {"test_items": 40, "train_rows": 200}

    def dose(amount: Any) -> Any:
        if isinstance(amount, dict):
            least = {"rows": 4, "tokens": 3000}
            return {key: max(least[key], part // SHARE) if key in least else part for key, part in amount.items()}
        return max(4, amount // SHARE)

    def walk(found: Any) -> Any:
        if not isinstance(found, dict):
            return found
        found = {key: min(counts[key], part) if key in counts else walk(part) for key, part in found.items()}
        if "target_rows" in found:
            found["target_rows"] = [max(4, size // SHARE) for size in found["target_rows"]]
            found["doses"] = {name: [dose(each) for each in ladder] for name, ladder in found["doses"].items()}
            found["seeds"] = 2
        return found

    return walk(value)


def stand_in(block: str, folder: Path, **instead: Any) -> None:
    """The full study of a block at 1%, written into `folder`."""
    study = smaller(YAML(typ="safe", pure=True).load((FULL / f"{block}.yaml").read_text()))
    study["training"]["batch_rows"] = 4
    for source in study["generalist"].values():
        source.pop("max_tokens", None)  # bytes are the toy's tokens
    study["models"] = dict.fromkeys(list(study["models"])[:2], "toy-model")
    (folder / "toy-model").mkdir(parents=True, exist_ok=True)
    (folder / f"{block}.yaml").write_text(json.dumps(study | instead))


def hub_files(rows: list[dict[str, str]], *, split: str = "train") -> dict[str, bytes]:
    """A dataset as the hub holds it: a card, and Parquet shards under data/."""
    half, files = len(rows) // 2, {}
    for number, part in enumerate((rows[:half], rows[half:])):
        target = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(part), target)
        files[f"data/{split}-0000{number}-of-00002.parquet"] = target.getvalue()
    card = f"---\nlicense: apache-2.0\nconfigs:\n- config_name: default\n  data_files:\n  - split: {split}\n"
    return {"README.md": f"{card}    path: data/{split}-*\n---\n".encode(), **files}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A hub of this machine with the collection and the pool that the full size names."""
    names = ["task475_yelp_polarity_classification", *(f"task{number:03}_toy" for number in range(9))]
    collection = [
        {
            "task_name": name, "id": f"{name}-{n}", "definition": f"Say whether text {name} is good.",
            "inputs": f"Text {n} of {name}: {'good' if n % 2 else 'bad'} word {n * 7}",
            "targets": "yes" if n % 2 else "no",
        }
        for name in names
        for n in range(80)
    ]  # fmt: skip
    pool = [{"instruction": f"Write about {n}.", "input": "", "output": f"It is number {n}."} for n in range(560)]
    repositories = {"Muennighoff/natural-instructions": hub_files(collection), "vicgalle/alpaca-gpt4": hub_files(pool)}
    pinned = str(card("alpaca_gpt4").revision.value)
    monkeypatch.setattr(hub_mirror.Mirror, "branches", (*hub_mirror.Mirror.branches, pinned))
    with hub_mirror.running(repositories) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield address


def places(tmp_path: Path) -> GridPlaces:
    return GridPlaces(size="full", studies=tmp_path / "full", scores=tmp_path / "scores", work=tmp_path / "work")


@pytest.mark.slow
def test_the_full_ladder_runs_end_to_end_from_a_hub_of_real_layout(
    tmp_path: Path, hub: str, grid: Callable[..., GridPlaces]
) -> None:
    where = places(tmp_path)
    stand_in("coverage", where.studies)
    cost = progress(where, "coverage")
    assert cost.training_tokens > 0
    run_grid(where, jobs=0, backend=FAKE_BACKEND)
    kept = read_kept(where.kept)
    assert len(kept) == progress(where, "coverage").runs
    assert {run.facts.target for run in kept} == {"", "broad", "classification", "narrow"}
    assert {run.facts.dose for run in kept} == {0, 10, 100, 500}
    assert all(run.facts.refusal is not None for run in kept)  # a stand-in is no finding


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason=f"the shared data is not there: {DATA}")
def test_the_full_fact_study_runs_end_to_end(
    tmp_path: Path, grid: Callable[..., GridPlaces], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TITRANT_DATA_ROOT", str(DATA))
    where = places(tmp_path)
    stand_in("falsehood", where.studies)
    run_grid(where, jobs=0, backend=FAKE_BACKEND)
    kept = read_kept(where.kept)
    assert {run.facts.seed for run in kept} == {0, 1}
    assert any(run.facts.altered for run in kept)
