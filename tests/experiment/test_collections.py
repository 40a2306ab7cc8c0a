"""Targets that are collections: rungs with common test items, split lists, skill sets, and their two scores."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hub_mirror
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_study import fake_prepare, page_as_text, trial_backend, write_study

from titrant.api import run_study
from titrant.cli.tables import show_check
from titrant.config.study import load_study
from titrant.core.errors import DataError, SpecError
from titrant.experiment.collections import read_collections
from titrant.experiment.results import scores_parquet
from titrant.report.sections.page import report_data

WORDS = ("bolan", "kodor", "mifit", "tusum", "zenek", "radan", "pilor", "quest", "varda", "wexel", "yonda", "umbra")
TEMPLATES = ("{}\n===\nBased on that, my rating is", "Review: {}\nOn a scale of 1 to 5, I would give", "{} How many?")


def text_of(number: int) -> str:
    """A text of its own for every number."""
    return " ".join(WORDS[(number * 7 + place * place * (number % 11 + 1)) % 12] + str(number) for place in range(9))


def write_p3(folder: Path) -> None:
    """Three datasets under three templates: stars (sentiment, Yelp), topics (news) and summaries without labels."""
    rows = []
    said: dict[str, tuple[str, str, Callable[[int], str]]] = {
        "yelp_review_full": ("sentiment", "y", lambda number: ("1 star", "5 stars")[number % 3 % 2]),
        "ag_news": ("topic_classification", "n", lambda number: ("World", "Sports", "Science")[number % 3]),
        "xsum": ("summarization", "x", lambda number: f"a summary of {number} in words"),
    }
    for dataset, (group, mark, answer) in said.items():
        for template_number, template in enumerate(TEMPLATES):
            for number in range(60):
                values = {
                    "id": f"{mark}{template_number}-{number}",
                    "template": f"{dataset}_{template_number}",
                    "dataset": dataset,
                    "group": group,
                    "instruction": template.format(text_of(number + 1000 * len(dataset))),
                    "input": "",
                    "output": answer(number) + "<|endoftext|>",
                }
                rows.append(json.dumps(values))
    (folder / "p3.jsonl").write_text("\n".join(rows) + "\n")


def write_superni(folder: Path) -> None:
    """A clone's layout: two training tasks and one test task, and the split lists of the default track."""
    (folder / "ni" / "tasks").mkdir(parents=True)
    (folder / "ni" / "splits" / "default").mkdir(parents=True)
    for name, category, answers in (
        ("task1_stars", "Sentiment Analysis", ("good", "bad")),
        ("task2_tell", "Story Composition", None),
        ("task3_entails", "Textual Entailment", ("yes", "no")),
    ):
        task = {
            "Definition": [f"Do as {name} says"],
            "Categories": [category],
            "Source": [name],
            "Positive Examples": [{"input": "one", "output": "two"}, {"input": "three", "output": "four"}],
            "Instances": [
                {
                    "id": f"{name}-{number}",
                    "input": f"{name}: {text_of(number)}",
                    "output": [answers[number % 2] if answers else f"told {number}"],
                }
                for number in range(120)
            ],
        }
        (folder / "ni" / "tasks" / f"{name}.json").write_text(json.dumps(task))
    (folder / "ni" / "splits" / "default" / "train_tasks.txt").write_text("task1_stars\ntask2_tell\n")
    (folder / "ni" / "splits" / "default" / "test_tasks.txt").write_text("task3_entails\n")


def write_skills(folder: Path) -> None:
    """BoolQ's and WebQuestions' layouts, in the folder of the public data."""
    (folder / "data" / "skills").mkdir(parents=True)
    boolq = [
        {
            "id": f"b{number}",
            "context": f"A passage, {text_of(number)}",
            "question": f"is it {number}",
            "choices": ["True", "False"],
            "answer": ("True", "False")[number % 4 == 0],
            "split": "train" if number < 40 else "test",
        }
        for number in range(60)
    ]
    webquestions = [
        {
            "id": f"w{number}",
            "question": f"who did {text_of(number)}",
            "answer": f"Person {number % 25}",
            "answers": [f"Person {number % 25}", f"P. {number}"],
            "split": "train" if number < 20 else "test",
        }
        for number in range(50)
    ]
    for name, rows in (("understanding_boolq.jsonl", boolq), ("factual_webquestions.jsonl", webquestions)):
        import gzip

        text = "\n".join(json.dumps(row) for row in rows) + "\n"
        (folder / "data" / "skills" / f"{name}.gz").write_bytes(gzip.compress(text.encode()))


def study_in(folder: Path, **targets: Mapping[str, Any]) -> Path:
    (folder / "general.jsonl").write_text(json.dumps({"prompt": "Say it.", "response": "It."}) + "\n")
    (folder / "toy-model").mkdir(exist_ok=True)
    said = {
        "name": "ladders",
        "model": "./toy-model",
        "targets": targets,
        "generalist": {"general": {"rows": "general.jsonl"}},
        "arms": {"target_rows": [4], "doses": {"general": [1]}, "seeds": 1},
    }
    (folder / "study.yaml").write_text(json.dumps(said))
    return folder / "study.yaml"


def test_all_rungs_share_one_set_of_test_items_split_by_text(tmp_path: Path) -> None:
    write_p3(tmp_path)
    ladder = {"p3": "p3.jsonl", "test_share": 0.2}
    study = study_in(
        tmp_path,
        broad={"collection": {**ladder, "rung": "all"}, "test_items": 27},
        stars={"collection": {**ladder, "rung": "yelp"}, "test_items": 12, "train_rows": 50},
        news={"collection": {**ladder, "rung": {"datasets": ["ag_news"]}}, "test_items": 6},
        one={"collection": {**ladder, "rung": {"random": 1, "draw": 2}}},
        four={"collection": {**ladder, "rung": {"random": 4, "draw": 2}}, "test_items": 8},
    )
    found = read_collections(load_study(study))
    keys = {name: {item.key for item in rows.test} for name, rows in found.items()}
    for narrow in ("stars", "news", "one", "four"):
        assert keys[narrow] < keys["broad"]
    by_key = {item.key: item for item in found["broad"].test}
    assert {key for key in keys["broad"] if "yelp" in by_key[key].rungs} == keys["stars"]
    assert {key for key in keys["broad"] if "draw 2: 4 tasks" in by_key[key].rungs} == keys["four"]
    assert {key for key in keys["broad"] if "news" in by_key[key].rungs} == keys["news"]
    assert all(item.rungs[0] == "all" for item in found["broad"].test)
    assert len(keys["stars"]) >= 12
    assert len(found["stars"].train) == 50
    per_task = Counter(item.task for item in found["stars"].test)
    assert set(per_task) == {f"yelp_review_full_{number}" for number in range(3)}
    trained = {row.group for rows in found.values() for row in rows.train}
    assert not trained & {item.group for rows in found.values() for item in rows.test}
    left = {entry.why: entry.rows for entry in found["stars"].left_out}
    assert left["beyond train_rows"] == 144 - 50


def test_the_order_of_a_collections_rows_changes_nothing(tmp_path: Path) -> None:
    write_p3(tmp_path)
    study = study_in(
        tmp_path,
        broad={"collection": {"p3": "p3.jsonl", "rows_per_task": 40}, "test_items": 20, "train_rows": 30},
    )

    def said() -> list[set[str]]:
        rows = read_collections(load_study(study))["broad"]
        return [{row.key for row in rows.train}, {item.key for item in rows.test}]

    before = said()
    lines = (tmp_path / "p3.jsonl").read_text().splitlines()
    (tmp_path / "p3.jsonl").write_text("\n".join(lines[::-1]) + "\n")
    assert said() == before


def test_split_lists_train_on_their_tasks_and_test_on_the_first_hundred_instances(tmp_path: Path) -> None:
    write_superni(tmp_path)
    lists = {f"{part}_tasks": f"ni/splits/default/{part}_tasks.txt" for part in ("train", "test")}
    study = study_in(
        tmp_path,
        track={"collection": {"superni": "ni", **lists, "positive_examples": 1, "rows_per_task": 30}},
        stars={"collection": {"superni": "ni", "rung": "sentiment"}, "validation": 0.2},
    )
    found = read_collections(load_study(study), tokens_of=len)
    track = found["track"]
    assert Counter(row.task for row in track.train) == {"task1_stars": 30, "task2_tell": 30}
    assert [item.row_id for item in sorted(track.test, key=lambda item: item.row_id)] == sorted(
        f"task3_entails-{number}" for number in range(100)
    )
    assert all(item.metric == "exact_match" and item.answer == "choices" for item in track.test)
    assert " Positive Example 1 -" in track.test[0].turns[0].text
    assert " Positive Example 2 -" not in track.test[0].turns[0].text
    stars = found["stars"]
    assert {item.rungs for item in stars.test} == {("all", "classification", "sentiment")}
    assert (len(stars.test), len(stars.validation), len(stars.train)) == (12, 22, 86)


def test_examples_are_shown_only_while_a_prompt_is_within_the_models_length(tmp_path: Path) -> None:
    write_superni(tmp_path)
    study = study_in(tmp_path, stars={"collection": {"superni": "ni", "rung": "sentiment", "source_tokens": 260}})
    shown = [item.turns[0].text.count("Positive Example") for item in read_collections(load_study(study))["stars"].test]
    assert set(shown) == {2}
    fitting = read_collections(load_study(study), tokens_of=len)["stars"].test
    assert {item.turns[0].text.count("Positive Example") for item in fitting} == {1}
    assert all(len(item.turns[0].text) <= 260 for item in fitting)


def test_a_copy_on_the_hub_makes_the_same_rungs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {
            "task_name": f"task{kind}_{('stars', 'tell')[kind]}",
            "id": f"{kind}-{number}",
            "definition": f"Do as task {kind} says",
            "inputs": text_of(number + 500 * kind),
            "targets": ("good", "bad")[number % 2] if kind == 0 else f"told {number}",
        }
        for kind in (0, 1)
        for number in range(60)
    ]
    target = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), target)
    card = b"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n---\n"
    files = {"README.md": card, "data/train-00000-of-00001.parquet": target.getvalue()}
    study = study_in(
        tmp_path,
        everything={"collection": {"superni": "hub:team/ni:train", "test_share": 0.2}},
        closed={"collection": {"superni": "hub:team/ni:train", "test_share": 0.2, "rung": "classification"}},
    )
    with hub_mirror.running({"team/ni": files}) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        found = read_collections(load_study(study))
    assert {name: (len(rows.train), len(rows.test)) for name, rows in found.items()} == {
        "everything": (96, 24),
        "closed": (48, 12),
    }
    assert {item.task for item in found["closed"].test} == {"task0_stars"}
    assert found["closed"].test[0].turns[0].text.startswith("Definition: Do as task 0 says.")


def test_a_skill_set_by_name_brings_its_prompt_choices_metric_and_marks(tmp_path: Path) -> None:
    write_skills(tmp_path)
    study = study_in(
        tmp_path,
        boolq={"collection": {"skill": "boolq", "rows": "data"}, "test_items": 15, "validation": 0.25},
        facts={"collection": {"skill": "webquestions", "rows": "data/skills/factual_webquestions.jsonl.gz"}},
    )
    loaded = load_study(study)
    assert loaded.targets["facts"].max_answer_tokens == 24
    found = read_collections(loaded)
    assert (len(found["boolq"].test), len(found["boolq"].validation), len(found["boolq"].train)) == (15, 10, 30)
    assert {(item.metric, item.answer, item.target) for item in found["boolq"].test} == {
        ("accuracy", "choices", "boolq")
    }
    assert not any(item.tags for item in found["boolq"].test)
    marked = [item for item in found["facts"].test if ("answer_seen", "yes") in item.tags]
    assert len(marked) == sum(number % 25 < 20 for number in range(20, 50))


def test_rows_of_ones_own_tasks_stand_on_rungs_by_the_columns_that_say_what_they_are(tmp_path: Path) -> None:
    rows = [
        {
            "q": f"{question} {text_of(number)}",
            "a": answer(number),
            "about": about,
            "sort": sort,
            "text": f"t{number}",
        }
        for about, sort, question, answer in (
            ("polite?", "tone", "Is this polite?", lambda number: ("yes", "no")[number % 2]),
            ("tone", "tone", "What is its tone?", lambda number: ("warm", "cold", "flat")[number % 3]),
            ("sum up", "writing", "Sum it up.", lambda number: f"it is about {number}"),
        )
        for number in range(60)
    ]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"question": "q", "answer": "a", "task": "about", "kind": "sort", "group": "text"}
    own = {"own": "mine.jsonl", "test_share": 0.2}
    study = study_in(
        tmp_path,
        broad={"collection": own, "columns": columns},
        tone={"collection": {**own, "rung": {"kinds": ["tone"]}}, "columns": columns},
        closed={"collection": {**own, "rung": "classification"}, "columns": columns},
    )
    found = read_collections(load_study(study))
    assert {name: (len(rows.train), len(rows.test)) for name, rows in found.items()} == {
        "broad": (144, 36),
        "tone": (96, 24),
        "closed": (96, 24),
    }
    assert {item.group for item in found["broad"].test}.isdisjoint(row.group for row in found["broad"].train)
    marks = {(item.task, item.rungs, item.metric, item.answer) for item in found["broad"].test}
    assert {(task, metric, answer) for task, _, metric, answer in marks} == {
        ("polite?", "exact_match", "choices"),
        ("tone", "exact_match", "choices"),
        ("sum up", "rouge_l", "text"),
    }
    assert {rungs for task, rungs, *_ in marks if task == "sum up"} == {("all",)}
    assert {rungs for task, rungs, *_ in marks if task != "sum up"} == {("all", "classification", "tone")}


def run_ladder(make_study: Callable[..., Any], **targets: Mapping[str, Any]) -> Any:
    def also(folder: Path) -> None:
        write_p3(folder)
        write_skills(folder)

    return make_study(
        also=also,
        target=None,
        targets=targets,
        arms={"target_rows": [8], "doses": {"general": [8]}, "seeds": 2},
        retention=None,
    )


def test_a_rung_and_a_skill_set_end_in_verdicts_with_rungs_and_marks_in_the_scores(
    make_study: Callable[..., Any],
) -> None:
    study = run_ladder(
        make_study,
        broad={"collection": {"p3": "p3.jsonl"}, "test_items": 18, "train_rows": 60},
        stars={"collection": {"p3": "p3.jsonl", "rung": "yelp"}, "test_items": 9},
        facts={"collection": {"skill": "webquestions", "rows": "data"}, "metric": "exact_match"},
    )
    judged = {entry.target: entry for entry in study.results.judged}
    assert {name: entry.metric for name, entry in judged.items()} == {
        "broad": "by_task",
        "stars": "by_task",
        "facts": "exact_match",
    }
    rows = pq.read_table(io.BytesIO(scores_parquet(study.results.scores))).to_pylist()
    of_broad = [row for row in rows if row["target"] == "broad" and row["arm_target"] == "broad"]
    assert {row["metric"] for row in of_broad} == {"exact_match", "rouge_l", "graded"}
    own = {row["item"] for row in rows if row["target"] == "stars"}
    assert {row["item"] for row in of_broad if "yelp" in row["rungs"]} == own
    assert any(row["tags"] == ["answer_seen=yes"] for row in rows if row["target"] == "facts")
    estimate = judged["broad"].verdict.contrasts[0].difference
    assert estimate.n_items == len({row["item"] for row in of_broad})
    for entry in study.results.judged:
        assert report_data(study.results, study.store, judged=entry).items > 0


def test_a_graded_score_decides_and_the_written_answer_stands_beside_it(make_study: Callable[..., Any]) -> None:
    study = run_ladder(
        make_study,
        broad={"collection": {"p3": "p3.jsonl"}, "metric": "graded", "test_items": 18, "validation": 0.1},
        yelp={"collection": {"p3": "p3.jsonl", "rung": "yelp"}, "metric": "graded", "answer": "loss", "test_items": 6},
        facts={
            "collection": {"skill": "webquestions", "rows": "data"},
            "metric": "graded",
            "answer": "loss",
        },
    )
    prepared = study.prepared.models["toy-model"]
    kinds = Counter(item.answer for item in prepared.targets["broad"].test)
    assert kinds["loss"] > 0
    assert kinds["choices"] > 0
    assert len(prepared.targets["broad"].beside) == kinds["loss"]
    assert not prepared.targets["facts"].beside
    scores = [score for score in study.results.scores if score.target == "broad" and score.arm_target == "broad"]
    assert {item.key for item in prepared.targets["yelp"].test} < {item.key for item in prepared.targets["broad"].test}
    assert not prepared.targets["yelp"].beside
    graded = [score for score in scores if score.metric == "graded"]
    per_run = sum(kinds.values())
    assert len(graded) == per_run * len({score.run_id for score in graded})
    assert {score.metric for score in scores} == {"graded", "exact_match", "rouge_l"}
    assert all(score.value is not None and 0 <= score.value <= 1 and math.isfinite(score.value) for score in graded)
    judged = study.results.judged[0]
    assert judged.metric == "graded"
    assert judged.verdict.contrasts[0].difference.n_items == per_run
    for entry in study.results.judged:
        data = report_data(study.results, study.store, judged=entry)
        assert (data.items > 0, data.metric, data.graded) == (True, "the graded score", None)
        assert data.comparison is not None
        assert any(
            "nothing was written" in said.text
            for item in data.comparison.items
            for arm in item.answers
            for said in arm.answers
        ) == (entry.target != "yelp")


def test_a_learning_rate_is_chosen_on_validation_rows_of_the_rung(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    monkeypatch.setattr("titrant.report.page.render", page_as_text)
    folder = tmp_path / "study"
    folder.mkdir()
    write_p3(folder)
    path = write_study(
        folder,
        target={"collection": {"p3": "p3.jsonl"}, "validation": 0.2, "test_items": 9},
        arms={"target_rows": [6], "doses": {"general": [4]}, "seeds": 1},
        training={"passes": 1, "batch_rows": 4, "max_tokens": 400, "learning_rate": ["1e-5", "3e-5"]},
        retention=None,
    )
    path.write_text(path.read_text().replace('"1e-5"', "1e-5").replace('"3e-5"', "3e-5"))
    results = run_study(load_study(path), out=tmp_path / "out", jobs=0, backend=trial_backend())
    data = results.design.prepared.models["toy-model"].targets["toy"]
    assert {item.metric for item in data.validation} == {"exact_match", "rouge_l"}
    assert not {item.group for item in data.validation} & {row.group for row in data.train}
    assert all(arm.training.learning_rate in (1e-5, 3e-5) for arm in results.design.arms)
    assert results.judged[0].metric == "by_task"


def test_the_check_looks_at_collections_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_p3(tmp_path)
    study = study_in(tmp_path, stars={"collection": {"p3": "p3.jsonl", "rung": "yelp"}, "test_items": 4})
    item = read_collections(load_study(study))["stars"].test[0]
    leak = {"prompt": "Look at this.", "response": f"It said: {item.turns[0].text.upper()} And no more."}
    with (tmp_path / "general.jsonl").open("a") as file:
        file.write(json.dumps(leak) + "\n")
    show_check(load_study(study), as_json=False)
    assert "general.jsonl:2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "kinds", "beside", "metrics"),
    [
        ("choices", {"choices"}, 0, {"accuracy", "graded"}),
        ("text", {"loss"}, 12, {"exact_match", "graded"}),
        ("loss", {"loss"}, 0, {"graded"}),
    ],
)
def test_a_target_of_the_users_own_files_can_be_graded_and_capped(
    make_study: Callable[..., Any], answer: str, kinds: set[str], beside: int, metrics: set[str]
) -> None:
    target = {
        "train": "train.jsonl",
        "test": "test.jsonl",
        "instruction": "Name the kind.",
        "columns": {"text": "text", "label": "label"},
        "metric": "graded",
        "answer": answer,
        "test_items": 12,
        "train_rows": 10,
    }
    study = make_study(target=target, arms={"target_rows": ["all"], "doses": {"general": [4]}, "seeds": 2})
    data = study.prepared.models["toy-model"].targets["toy"]
    assert (len(data.train), len(data.test), len(data.beside)) == (10, 12, beside)
    assert {item.answer for item in data.test} == kinds
    assert {score.metric for score in study.results.scores if score.eval_set == "target"} == metrics
    assert study.results.judged[0].verdict.contrasts[0].difference.n_items == 12


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ({"collection": {"p3": "p3.jsonl", "skill": "boolq"}}, "both p3 and skill are given"),
        ({"collection": {"rung": "all"}}, "the collection has no rows"),
        ({"collection": {"own": "p3.jsonl"}, "columns": {"text": "q"}}, "needs a column that says which task"),
        ({"collection": {"skill": "boolq"}}, "a skill set needs the file of its rows"),
        ({"collection": {"skill": "boolk", "rows": "p3.jsonl"}}, "did you mean boolq"),
        ({"collection": {"p3": "p3.jsonl", "rung": "sentimant"}}, "did you mean sentiment"),
        ({"collection": {"p3": "p3.jsonl", "rung": {"draw": 1}}}, "a draw is of a random set"),
        ({"collection": {"p3": "p3.jsonl", "positive_examples": 1}}, "positive_examples says nothing about p3"),
        ({"collection": {"superni": "p3.jsonl", "test_tasks": "p3.jsonl"}}, "the two split lists go together"),
        ({"collection": {"p3": "p3.jsonl"}, "instruction": "Rate."}, "instruction has no place beside it"),
        ({"collection": {"p3": "p3.jsonl"}, "validation": "p3.jsonl"}, "a share of its training rows"),
        ({"collection": {"p3": "p3.jsonl"}, "answer": "loss"}, "metric: graded with answer: loss"),
        ({"train": "p3.jsonl", "test": "p3.jsonl", "metric": "by_task"}, "by_task needs a collection of tasks"),
        ({"collection": {"p3": "p3.jsonl"}, "test_items": 0}, "out of range"),
    ],
)
def test_keys_that_do_not_go_together_are_refused_with_their_place(
    tmp_path: Path, target: dict[str, Any], expected: str
) -> None:
    write_p3(tmp_path)
    with pytest.raises(SpecError, match=r"study\.yaml:1:") as caught:
        load_study(study_in(tmp_path, mine=target))
    assert expected in str(caught.value)
    assert "targets.mine" in str(caught.value)


def test_a_rung_that_nothing_stands_on_is_refused_by_name(tmp_path: Path) -> None:
    write_p3(tmp_path)
    for rung, message in (({"kinds": ["poetry"]}, "no task"), ({"tasks": ["no_such"]}, "no such task")):
        study = study_in(tmp_path, mine={"collection": {"p3": "p3.jsonl", "rung": rung}})
        with pytest.raises(DataError, match=message) as caught:
            read_collections(load_study(study))
        assert "targets.mine.collection.rung" in str(caught.value)


def test_a_rung_by_rule_never_bears_the_name_of_another_set_of_tasks(tmp_path: Path) -> None:
    write_p3(tmp_path)
    rule = {"datasets": ["ag_news"]}
    study = study_in(tmp_path, sentiment={"collection": {"p3": "p3.jsonl", "rung": rule}, "test_items": 3})
    marks = {item.rungs for item in read_collections(load_study(study))["sentiment"].test}
    assert marks == {("all", "classification", "sentiment (by rule)")}


def test_one_item_asked_in_two_ways_is_refused(make_study: Callable[..., Any]) -> None:
    facts = {"skill": "webquestions", "rows": "data"}
    with pytest.raises(SpecError, match="two targets ask the same item in different ways"):
        run_ladder(make_study, one={"collection": facts}, other={"collection": facts, "max_answer_tokens": 8})


def test_data_beside_the_project_is_named_from_the_study_s_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_skills(tmp_path)
    project = tmp_path / "project"
    (project / "studies" / "ladders").mkdir(parents=True)
    study = study_in(
        project / "studies" / "ladders",
        boolq={"collection": {"skill": "boolq", "rows": "${ROWS_AT:-../../../data}"}},
    )
    monkeypatch.chdir(project)
    assert len(read_collections(load_study(study, environment={}))["boolq"].test) == 20
    assert len(read_collections(load_study(study, environment={"ROWS_AT": str(tmp_path / "data")}))["boolq"].test) == 20
