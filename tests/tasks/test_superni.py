"""Super-NaturalInstructions: prompts and metrics against cases worked by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from titrant.core.errors import DataError
from titrant.data.readers import read_rows
from titrant.tasks import read_split_list, read_superni
from titrant.tasks.superni import metric_of, prompt_of


def clone(folder: Path, **tasks: dict[str, Any]) -> Path:
    """A folder in the layout of the published repository."""
    (folder / "tasks").mkdir()
    for name, task in tasks.items():
        (folder / "tasks" / f"{name}.json").write_text(json.dumps(task, indent=4), encoding="utf-8")
    return folder / "tasks"


def task(category: str, *answers: str | list[str]) -> dict[str, Any]:
    return {
        "Definition": ["Say whether the numbers are equal"],
        "Categories": [category],
        "Source": ["made"],
        "Positive Examples": [
            {"input": "1 1", "output": "yes", "explanation": "…"},
            {"input": "1 2?", "output": " no\n", "explanation": "…"},
            {"input": "3 3", "output": "yes", "explanation": "…"},
        ],
        "Negative Examples": [],
        "Instances": [
            {
                "id": f"x-{number}",
                "input": f" case {number} ",
                "output": answer if isinstance(answer, list) else [answer],
            }
            for number, answer in enumerate(answers)
        ],
    }


def test_a_prompt_is_encoded_as_tk_instruct_does(tmp_path: Path) -> None:
    folder = clone(tmp_path, task1_equal=task("Textual Entailment", "yes"))
    assert read_superni(read_rows(folder))[0].prompt == (
        "Definition: Say whether the numbers are equal.\n"
        "\n"
        " Positive Example 1 -\n"
        "Input: 1 1.\n"
        " Output: yes.\n"
        "\n"
        " Positive Example 2 -\n"
        "Input: 1 2?\n"
        " Output: no.\n"
        "\n"
        "Now complete the following example -\n"
        "Input: case 0.\n"
        "Output: "
    )


def test_examples_are_added_only_while_the_source_fits() -> None:
    examples = [("a", "b"), ("c" * 500, "d"), ("e", "f")]
    prompt = prompt_of("Do it!", examples, "x", fits=lambda text: len(text) < 300)
    assert " Positive Example 1 -" in prompt
    assert "Positive Example 2" not in prompt  # it is too long, and nothing after it is tried
    assert "Input: e" not in prompt
    assert (
        prompt_of("Do it!", [], "x")
        == "Definition: Do it!\n\nNow complete the following example -\nInput: x.\nOutput: "
    )


@pytest.mark.parametrize("ending", list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"))
def test_no_full_stop_after_any_ascii_punctuation(ending: str) -> None:
    assert f"Input: x{ending}\nOutput: " in prompt_of("Do.", [], f"x{ending}")


def test_a_full_stop_after_punctuation_that_is_not_ascii() -> None:
    assert "Input: 好。.\nOutput: " in prompt_of("Do.", [], "好。")


@pytest.mark.parametrize(
    ("category", "closed", "metric"),
    [
        ("Textual Entailment", False, "exact_match"),
        ("Cause Effect Classification", False, "exact_match"),
        ("Grammar Error Correction", True, "rouge_l"),
        ("Overlap Extraction", True, "rouge_l"),
        ("Sentiment Analysis", True, "exact_match"),
        ("Summarization", False, "rouge_l"),
    ],
)
def test_the_category_decides_the_metric(category: str, closed: bool, metric: str) -> None:
    assert metric_of(category, closed=closed) == metric


def test_split_lists_limits_and_several_references(tmp_path: Path) -> None:
    folder = clone(
        tmp_path,
        task1_equal=task("Textual Entailment", *["yes", "no"] * 30),
        task2_title=task("Title Generation", ["A title", "Another", "A title"], "B"),
    )
    listed = tmp_path / "test_tasks.txt"
    listed.write_text("task2_title\n\n")
    found = read_superni(read_rows(folder), tasks=read_split_list(listed))
    assert [(each.task, each.references, each.choices) for each in found] == [
        ("task2_title", ("A title", "Another"), None),
        ("task2_title", ("B",), None),
    ]
    limited = read_superni(read_rows(folder), limit=10)
    assert [each.task for each in limited] == ["task1_equal"] * 10 + ["task2_title"] * 2
    assert limited[0].choices == ("no", "yes")
    assert (limited[0].kind, limited[0].row_id) == ("textual_entailment", "x-0")
    with pytest.raises(DataError, match="task9"):
        read_superni(read_rows(folder), tasks=["task9"])


@pytest.mark.parametrize("broken", ["Definition", "Categories", "Positive Examples", "Instances"])
def test_a_task_without_a_field_is_named(tmp_path: Path, broken: str) -> None:
    content = task("Title Generation", "a")
    del content[broken]
    with pytest.raises(DataError, match=rf"task1\.json:1: .*{broken}"):
        read_superni(read_rows(clone(tmp_path, task1=content)))


def test_rows_of_single_instances_make_the_same_tasks(tmp_path: Path) -> None:
    rows = [
        {"task_name": "task1_equal", "id": f"i{n}", "definition": "Say it", "inputs": f"case {n // 2}", "targets": said}
        for n, said in enumerate(["yes", "yes!", "no", "no"] * 30)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_superni(read_rows(tmp_path / "rows.jsonl"), positive_examples=2)
    assert len(found) == 60
    assert (found[0].task, found[0].references) == ("task1_equal", ("yes", "yes!"))
    assert found[0].prompt.startswith("Definition: Say it.\n\nNow complete the following example -\nInput: case 0.")
    assert found[1].references == ("no",)


def test_an_empty_input_is_encoded_as_the_rest(tmp_path: Path) -> None:
    content = task("Title Generation", "a")
    content["Instances"][0]["input"] = " "
    found = read_superni(read_rows(clone(tmp_path, task1=content)), positive_examples=0)
    assert found[0].prompt.endswith("Now complete the following example -\nInput: .\nOutput: ")


def test_so_many_rows_of_a_task_are_chosen_by_content_and_not_by_their_order(tmp_path: Path) -> None:
    content = task("Title Generation", *[f"title {n}" for n in range(30)])
    first = {each.prompt for each in read_superni(read_rows(clone(tmp_path, task1=content)), rows_per_task=7)}
    content["Instances"] = content["Instances"][::-1]
    (tmp_path / "tasks" / "task1.json").write_text(json.dumps(content))
    again = {each.prompt for each in read_superni(read_rows(tmp_path / "tasks"), rows_per_task=7)}
    assert first == again
    assert len(first) == 7
