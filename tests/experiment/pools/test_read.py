"""Pools of a study: files of the user's, and sources of the catalogue from a file or from the hub."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hub_mirror
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_study import write_study

from titrant.config.study import Study, load_study
from titrant.core.errors import DataError, SpecError
from titrant.core.records import Example
from titrant.data.readers import card, catalogue_names
from titrant.experiment.pools.cuts import first_examples
from titrant.experiment.prepare import raw_rows, scanned_pools
from titrant.report.model_card import model_card
from titrant.report.sections.page import report_data

Make = Callable[..., Any]
ROWS = [
    {"instruction": "Say the word of row 1.", "context": "", "response": "word 1"},
    {"instruction": "Say the word of row 2.", "context": "of a list", "response": "010"},
    {"instruction": "Say nothing.", "context": "", "response": ""},
]
HEADER = b"---\nlicense: cc-by-sa-3.0\n---\n"


CONVERSATION = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]
LAYOUTS: dict[str, list[dict[str, Any]]] = {
    # One row or more in the columns that each pool has on the hub, all saying the same.
    "alpaca": [{"instruction": "Why?", "input": "", "output": "Because.", "text": "Below is one. Why? Because."}],
    "alpaca_gpt4": [{"instruction": "Why?", "input": "", "output": "Because.", "text": "Below is one. Why? Because."}],
    "dolly": [{"instruction": "Why?", "context": "", "response": "Because.", "category": "open_qa"}],
    "flan": [{"id": "flan_0", "messages": CONVERSATION, "source": "flan_v2"}],
    "lima": [{"conversations": ["Why?", "Because."], "source": "stackexchange"}],
    "no_robots": [{"prompt": "Why?", "prompt_id": "a1", "messages": CONVERSATION, "category": "Open QA"}],
    "openassistant": [
        {"message_id": "m1", "parent_id": None, "role": "prompter", "text": "Why?", "rank": None, "deleted": False,
         "detoxify": {"toxicity": 0.5}, "labels": {"name": ["spam"], "value": [0.0]}, "message_tree_id": "m1"},
        {"message_id": "m2", "parent_id": "m1", "role": "assistant", "text": "Because.", "rank": 0, "deleted": False,
         "detoxify": {"toxicity": 0.5}, "labels": {"name": ["spam"], "value": [0.0]}, "message_tree_id": "m1"},
    ],
    "p3": [{"inputs": [5, 6], "inputs_pretokenized": "Why?", "targets": [7], "targets_pretokenized": "Because."}],
    "self_instruct": [{"prompt": "Why?", "completion": "Because."}],
    "smoltalk": [{"messages": CONVERSATION, "source": "everyday-conversations"}],
    "tulu3": [{"id": "x0", "messages": CONVERSATION, "source": "ai2-adapt-dev/oasst1_converted"}],
}  # fmt: skip


def lines(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def study_with(folder: Path, pool: dict[str, Any]) -> Path:
    (folder / "rows.jsonl").write_text(lines([{"text": f"thing {n}", "label": "ab"[n % 2]} for n in range(12)]))
    (folder / "toy-model").mkdir()
    said = {
        "name": "toy",
        "model": "./toy-model",
        "target": {"rows": "rows.jsonl", "test_share": 0.3, "instruction": "Which?", "columns": {"label": "label"}},
        "generalist": {"pool": pool},
        "arms": {"target_rows": [4], "doses": {"pool": [2]}, "seeds": 2},
    }
    path = folder / "study.yaml"
    path.write_text(json.dumps(said))
    return path


@dataclass(frozen=True)
class Read:
    """What is read of a pool before any cut."""

    rows: tuple[Example, ...]
    place: str
    licence: str | None
    non_commercial: bool | None
    left_out: int
    first_fault: str | None


def read(study: Study) -> Read:
    scan = scanned_pools(study, raw_rows(study))["pool"]
    pool = scan.pool
    return Read(
        first_examples(study, scan), pool.place, pool.licence, pool.non_commercial, scan.left_out, scan.first_fault
    )


def test_a_local_copy_is_read_with_the_card_and_its_faults_are_counted(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(lines(ROWS))
    study = load_study(study_with(tmp_path, {"source": "dolly", "rows": "mine.jsonl"}))
    pool = read(study)
    assert [(row.turns[0].text, row.answer) for row in pool.rows] == [
        ("Say the word of row 1.", "word 1"),
        ("Say the word of row 2.\n\nof a list", "010"),
    ]
    assert (pool.licence, pool.non_commercial, pool.left_out) == ("CC-BY-SA-3.0", False, 1)
    assert "mine.jsonl:3: the output is empty" in str(pool.first_fault)
    assert not (tmp_path / "sources.lock.json").exists()


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("name", catalogue_names())
def test_the_loader_reads_a_local_file_of_every_source(name: str, kind: str, tmp_path: Path) -> None:
    if kind == "jsonl":
        (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in LAYOUTS[name]))
    else:
        pq.write_table(pa.Table.from_pylist(LAYOUTS[name]), tmp_path / "mine.parquet")
    pool = read(load_study(study_with(tmp_path, {"source": name, "rows": f"mine.{kind}"})))
    assert [tuple((turn.role, turn.text) for turn in row.turns) for row in pool.rows] == [
        (("user", "Why?"), ("assistant", "Because."))
    ]
    assert (pool.left_out, pool.licence) == (0, card(name).licence.value)


def test_in_a_pool_of_the_users_own_the_same_fault_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(lines(ROWS))
    with pytest.raises(DataError, match=r"mine\.jsonl:3: the output is empty"):
        read(load_study(study_with(tmp_path, {"rows": "mine.jsonl"})))


def test_a_source_of_the_catalogue_comes_from_the_hub_and_is_locked_beside_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"README.md": HEADER, "rows.jsonl": lines(ROWS).encode()}
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    study = load_study(study_with(tmp_path, {"source": "dolly"}))
    with hub_mirror.running({card("dolly").hub: files}) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        first = read(study)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert read(study) == first
    assert first.place == f"hub:databricks/databricks-dolly-15k@{hub_mirror.COMMIT}:train"
    assert (len(first.rows), first.left_out, first.licence) == (2, 1, "cc-by-sa-3.0")
    assert json.loads((tmp_path / "sources.lock.json").read_text())["sources"]["dolly"]["revision"] == hub_mirror.COMMIT


def test_a_licence_of_the_hub_does_not_hide_that_parts_are_not_for_commercial_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"README.md": b"---\nlicense: odc-by\n---\n", "rows.jsonl": json.dumps(LAYOUTS["tulu3"][0]).encode()}
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with hub_mirror.running({card("tulu3").hub: files}) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        pool = read(load_study(study_with(tmp_path, {"source": "tulu3"})))
    assert pool.non_commercial
    assert str(pool.licence).startswith("odc-by (ODC-BY-1.0 as a collection; parts have licences of their own")


def test_the_columns_of_a_card_are_used_where_a_copy_has_them(tmp_path: Path) -> None:
    original = [{"inputs": "x", "inputs_pretokenized": "Is it?", "targets_pretokenized": "yes"}]
    renamed = [{"prompt": "Is it?", "completion": "yes"}]
    for rows in (original, renamed):
        folder = tmp_path / rows[0]["prompt" if "prompt" in rows[0] else "inputs"][:1]
        folder.mkdir()
        (folder / "p3.jsonl").write_text(lines(rows))
        pool = read(load_study(study_with(folder, {"source": "p3", "rows": "p3.jsonl"})))
        assert [(row.turns[0].text, row.answer) for row in pool.rows] == [("Is it?", "yes")]


def test_a_non_commercial_licence_of_a_card_is_said_in_the_report_and_the_model_card(make_study: Make) -> None:
    study = make_study(generalist={"general": {"source": "alpaca", "rows": "general.jsonl"}})
    data = report_data(study.results, study.store)
    (note,) = [note for note in data.notes if "non-commercial" in note]
    assert "The pool general" in note
    assert "CC-BY-NC-4.0" in note
    dosed = next(arm for arm in study.design.arms if arm.kind == "dosed")
    card_text = model_card(study.design.cell(dosed, 0), study.results.judged[0], study.results)
    assert "- generalist rows general: CC-BY-NC-4.0" in card_text


def test_what_the_study_says_of_a_licence_counts_before_the_card(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(lines(ROWS))
    study = load_study(
        study_with(tmp_path, {"source": "alpaca", "rows": "mine.jsonl", "licence": "bought, contract 7"})
    )
    pool = read(study)
    assert (pool.licence, pool.non_commercial) == ("bought, contract 7", False)


def test_sources_on_equal_terms_ask_the_same_prompts_or_answer_at_the_same_lengths(make_study) -> None:  # type: ignore[no-untyped-def]
    def pools(folder: Path) -> None:
        rows = {
            "old.jsonl": [{"prompt": f"Ask  {n}.", "response": "word " * (1 + n % 8)} for n in range(40)],
            "new.jsonl": [{"prompt": f"ask {n}.", "response": "word " * (4 + n % 8)} for n in range(20, 60)],
        }
        for name, some in rows.items():
            (folder / name).write_text("".join(json.dumps(row) + "\n" for row in some))

    def prepared(**said: object) -> Any:
        generalist = {name: {"rows": f"{name}.jsonl", **said.get(name, {})} for name in ("old", "new")}  # type: ignore[dict-item]
        found = make_study(
            also=pools, generalist=generalist, arms={"target_rows": [6], "doses": {"old": [2]}, "seeds": 1}
        )
        return found.prepared

    alike = prepared(old={"prompts_also_in": "new.jsonl"}, new={"prompts_also_in": "old.jsonl"})
    rows = alike.models["toy-model"].pools
    prompts = {
        name: {row.prompt[0].text.lower().replace("  ", " ") for row in pool.rows} for name, pool in rows.items()
    }
    assert prompts["old"] == prompts["new"] == {f"ask {n}." for n in range(20, 40)}
    assert {(entry.pool, entry.rows) for entry in alike.removed} == {("old", 20), ("new", 20)}

    equal = prepared(old={"lengths_as": "new"}).models["toy-model"]
    assert equal.name == "toy-model"
    old, new = (
        sorted(equal.rows[name, row.key].loss_tokens for row in equal.pools[name].rows) for name in ("old", "new")
    )
    assert len(old) == len(new) > 4
    assert all(2 / 3 < one / other < 3 / 2 for one, other in zip(old, new, strict=True))
    assert any("lengths that new has not" in entry.why for entry in equal.removed if entry.pool == "old")


def test_paired_sources_ask_the_same_prompts_in_every_dose_whatever_was_cut_before(make_study) -> None:  # type: ignore[no-untyped-def]
    def pools(folder: Path) -> None:
        rows = {
            "old": [{"prompt": f"Ask  {n}.", "response": f"word {n}"} for n in (*range(40), 7)],
            "new": [
                {"prompt": f"ask {n}.", "response": "word " * (40 if n % 3 else 4) + str(n)} for n in range(20, 60)
            ],
            "third": [{"prompt": f"ask {n}.", "response": f"so {n}"} for n in range(18, 36)],
        }
        for name, some in rows.items():
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))

    said: dict[str, dict[str, Any]] = {
        "new": {"max_tokens": 60},
        "old": {"prompts_as": "new"},
        "third": {"prompts_as": "new"},
    }
    study = make_study(
        also=pools,
        generalist={name: {"rows": f"{name}.jsonl", **each} for name, each in said.items()},
        arms={"target_rows": [6], "doses": {name: [2, 4] for name in said}, "seeds": 3},
    )
    found = study.prepared.models["toy-model"].pools

    def asked(rows: Sequence[Any]) -> list[str]:
        return [row.prompt[0].text.lower().replace("  ", " ") for row in rows]

    prompts = {name: asked(pool.rows) for name, pool in found.items()}
    expected = {f"ask {n}." for n in range(20, 36) if n % 3 == 0}
    assert set(prompts["new"]) == expected
    assert len(prompts["new"]) == len(expected)
    assert prompts["old"] == prompts["new"] == prompts["third"]
    orders = {seed: asked(found["new"].order(seed)) for seed in (0, 1, 2)}
    assert len({tuple(order) for order in orders.values()}) > 1
    for name in ("old", "third"):
        assert {seed: asked(found[name].order(seed)) for seed in (0, 1, 2)} == orders
    gone = {
        entry.pool: entry
        for entry in study.prepared.models["toy-model"].removed
        if "its prompt, cuts made" in entry.why
    }
    assert gone["old"].why.endswith("is not in new and third, or a second time in old")
    for seed in (0, 1, 2):
        drawn = {
            name: {
                row.key
                for row in study.design.cell(dosed(study.design, f"{name}:4"), seed).plan.rows
                if row.source == name
            }
            for name in said
        }
        by_key = {name: {row.key: asked([row])[0] for row in pool.rows} for name, pool in found.items()}
        assert len({frozenset(by_key[name][key] for key in keys) for name, keys in drawn.items()}) == 1


def dosed(design: Any, label: str) -> Any:
    """The arm of 6 target rows with this dose."""
    return next(arm for arm in design.arms if arm.name == f"6+{label}")


def test_pools_without_a_common_prompt_cannot_be_paired(make_study) -> None:  # type: ignore[no-untyped-def]
    def pools(folder: Path) -> None:
        for name in ("old", "new"):
            rows = [{"prompt": f"Ask {name} {n}.", "response": f"word {n}"} for n in range(9)]
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    generalist = {"new": {"rows": "new.jsonl"}, "old": {"rows": "old.jsonl", "prompts_as": "new"}}
    with pytest.raises(DataError, match=r"no prompt is in all of new, old .*9 rows of new, 9 rows of old"):
        make_study(also=pools, generalist=generalist, arms={"target_rows": [6], "doses": {"old": [2]}, "seeds": 1})


ROWS_OF_BOTH: dict[str, dict[str, Any]] = {"one": {"rows": "one.jsonl"}, "other": {"rows": "other.jsonl"}}


@pytest.mark.parametrize(
    ("one", "other", "also", "words"),
    [
        ({"prompts_as": "nobody"}, {}, {}, "no other source of this name"),
        ({"prompts_as": "one"}, {}, {}, "no other source of this name"),
        ({"lengths_as": "one"}, {}, {}, "no other source of this name"),
        ({"prompts_as": "other"}, {"prompts_as": "one"}, {}, "takes its prompts from another itself"),
        ({"prompts_as": "other"}, {"rows": None, "text": "other.jsonl"}, {}, "plain text, which has no prompts"),
        ({"rows": None, "text": "one.jsonl", "prompts_as": "other"}, {}, {}, "plain text has no prompts"),
        ({"rows": None, "text": "one.jsonl", "prompts_also_in": "x.jsonl"}, {}, {}, "plain text has no prompts"),
        ({"prompts_as": "other", "lengths_as": "other"}, {}, {}, "each cut would undo the other"),
        ({"prompts_as": "other"}, {}, {"third": {"rows": "x.jsonl", "lengths_as": "other"}}, "each cut would undo"),
    ],
)
def test_sources_that_cannot_be_on_equal_terms_are_refused_by_name(
    tmp_path: Path, one: dict[str, Any], other: dict[str, Any], also: dict[str, Any], words: str
) -> None:
    pools = {"one": {**ROWS_OF_BOTH["one"], **one}, "other": {**ROWS_OF_BOTH["other"], **other}, **also}
    for name in ("one", "other", "x"):
        (tmp_path / f"{name}.jsonl").write_text(lines(ROWS))
    generalist = {
        name: {key: value for key, value in said.items() if value is not None} for name, said in pools.items()
    }
    path = write_study(tmp_path, generalist=generalist, arms={"target_rows": [6], "doses": {"one": [2]}, "seeds": 1})
    with pytest.raises(SpecError, match=words):
        load_study(path)
