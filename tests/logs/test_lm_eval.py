"""Logs of lm-evaluation-harness: real ones (data/, written by the harness itself), and each of their faults."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import titrant
from titrant.core.errors import ScoresError
from titrant.logs.evaluators import read_logs

REAL = Path(__file__).parent / "data" / "lm-eval"
RUNS = {(arm, seed): REAL / f"{arm.partition('@')[0]}-{seed}" for arm in ("alone", "mix@12") for seed in (0, 1)}


def samples_file(folder: Path, task: str = "triage") -> Path:
    return next(folder.rglob(f"samples_{task}_*.jsonl"))


def rewrite(file: Path, change: Callable[[list[dict]], list[dict]]) -> None:
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    file.write_text("".join(json.dumps(row) + "\n" for row in change(rows)), encoding="utf-8")


@pytest.fixture
def runs(tmp_path: Path) -> dict[tuple[str, int], Path]:
    """The real logs, where a test may spoil them."""
    shutil.copytree(REAL, tmp_path / "logs")
    return {key: tmp_path / "logs" / path.name for key, path in RUNS.items()}


def test_real_logs_are_scores_that_pair_by_what_was_asked() -> None:
    table = read_logs(RUNS, evaluator="lm-eval", tasks=["triage"], metric="acc")
    columns = table.to_pydict()
    assert len(table) == 4 * 16
    assert set(columns["arm"]) == {"alone", "mix@12"}
    assert set(columns["dose"]) == {None, "12"}
    for (arm, seed), folder in RUNS.items():
        told = json.loads(next(folder.rglob("results_*.json")).read_text())["results"]["triage"]["acc,none"]
        mine = [
            score
            for a, s, score in zip(columns["arm"], columns["seed"], columns["score"], strict=True)
            if (a, s) == (arm, str(seed))
        ]
        assert sum(mine) / len(mine) == pytest.approx(told)
    assert titrant.judge(table, baseline="alone", smallest_effect=0.05).contrasts[0].arm == "mix@12"


def test_the_order_of_a_file_decides_nothing(runs: dict[tuple[str, int], Path]) -> None:
    before = read_logs(runs, evaluator="lm-eval", metric="acc", tasks=["triage"])
    rewrite(samples_file(runs["mix@12", 0]), lambda rows: rows[::-1])
    after = read_logs(runs, evaluator="lm-eval", metric="acc", tasks=["triage"])

    def cells(table) -> dict:
        found = table.to_pydict()
        names = zip(found["arm"], found["seed"], found["item"], strict=True)
        return dict(zip(names, found["score"], strict=True))

    assert cells(before) == cells(after)


def test_graded_is_the_probability_of_the_right_choice_among_the_choices(runs: dict[tuple[str, int], Path]) -> None:
    def two_choices(rows: list[dict]) -> list[dict]:
        row = rows[0]
        prompt = row["arguments"]["gen_args_0"]["arg_0"]
        row["arguments"] = {
            "gen_args_0": {"arg_0": prompt, "arg_1": " yes"},
            "gen_args_1": {"arg_0": prompt, "arg_1": " no"},
            "gen_args_2": {"arg_0": "", "arg_1": " yes"},  # acc_mutual_info asks without the prompt too
            "gen_args_3": {"arg_0": "", "arg_1": " no"},
        }
        row["filtered_resps"] = [["-1.0", "False"], ["-2.0", "False"], ["-9.0", "False"], ["-1.0", "False"]]
        row["target"] = "1"
        return [row]

    for folder in runs.values():
        rewrite(samples_file(folder), two_choices)
        next(folder.rglob("results_*.json")).unlink()
    table = read_logs(runs, evaluator="lm-eval", tasks=["triage"], metric="graded")
    assert table.column("score").to_pylist() == pytest.approx([1 / (1 + 2.718281828459045)] * 4)


@pytest.mark.parametrize(
    ("choices", "target", "right"),
    [
        ([" yes", " no"], "no", 1),  # the text, as the real logs have it
        ([" yes", " no"], "1", 1),  # the index
        ([" 1", " 2", " 3"], "3", 2),  # a text that is no index
        ([" 0", " 1"], "1", 1),  # both, and the same
    ],
)
def test_the_right_choice_is_told_by_index_or_text(
    choices: list[str], target: str, right: int, runs: dict[tuple[str, int], Path]
) -> None:
    def one(rows: list[dict]) -> list[dict]:
        prompt = rows[0]["arguments"]["gen_args_0"]["arg_0"]
        asked = {f"gen_args_{n}": {"arg_0": prompt, "arg_1": text} for n, text in enumerate(choices)}
        found = [[str(-1.0 if n == right else -50.0), "False"] for n in range(len(choices))]
        return [rows[0] | {"arguments": asked, "filtered_resps": found, "target": target}]

    for folder in runs.values():
        rewrite(samples_file(folder), one)
        next(folder.rglob("results_*.json")).unlink()
    table = read_logs(runs, evaluator="lm-eval", tasks=["triage"], metric="graded")
    assert table.column("score").to_pylist() == pytest.approx([1.0] * 4)


def test_a_number_that_could_be_index_or_text_is_not_guessed(runs: dict[tuple[str, int], Path]) -> None:
    def numbers(rows: list[dict]) -> list[dict]:
        prompt = rows[0]["arguments"]["gen_args_0"]["arg_0"]
        asked = {f"gen_args_{n}": {"arg_0": prompt, "arg_1": f" {n + 1}"} for n in range(3)}
        return [rows[0] | {"arguments": asked, "filtered_resps": [["-1.0", "False"]] * 3, "target": "2"}]

    for folder in runs.values():
        rewrite(samples_file(folder), numbers)
        next(folder.rglob("results_*.json")).unlink()
    with pytest.raises(ScoresError, match=r"no such metric \(got 'graded'; expected acc, acc_norm\)"):
        read_logs(runs, evaluator="lm-eval", tasks=["triage"], metric="graded")


def test_each_task_may_have_a_metric_and_a_filter_of_its_own_and_one_may_be_retention() -> None:
    table = read_logs(
        RUNS,
        evaluator="lm-eval",
        metric={"triage": "acc_norm"},
        filter={"spoken": "word"},
        retention=["spoken"],
    )
    assert set(table.column("eval_set").to_pylist()) == {"target", "retention:spoken"}
    remarks = json.loads(table.schema.metadata[b"remarks"])
    assert remarks == ["spoken: judged by exact_match, filter word", "triage: judged by acc_norm"]


def test_items_of_one_text_are_one_sample() -> None:
    table = read_logs(RUNS, evaluator="lm-eval", tasks=["triage"], metric="acc", group="action")
    groups = dict(zip(table.column("item").to_pylist(), table.column("group").to_pylist(), strict=True))
    actions = [json.loads(line)["doc"]["action"] for line in samples_file(RUNS["alone", 0]).read_text().splitlines()]
    assert sorted(groups.values()) == sorted(actions)
    with pytest.raises(ScoresError, match=r"jsonl:1: no such field of a sample.*got 'book'.*expected .*action"):
        read_logs(RUNS, evaluator="lm-eval", tasks=["triage"], metric="acc", group="book")


def test_a_document_that_stands_twice_is_two_items(runs: dict[tuple[str, int], Path]) -> None:
    for folder in runs.values():
        rewrite(samples_file(folder), lambda rows: [*rows, rows[0] | {"doc_id": 99}])
        next(folder.rglob("results_*.json")).unlink()
    assert len(read_logs(runs, evaluator="lm-eval", tasks=["triage"], metric="acc")) == 4 * 17


def _prompt(rows: list[dict]) -> list[dict]:
    rows[2]["prompt_hash"] = "0" * 64
    rows[2]["arguments"]["gen_args_0"]["arg_0"] = "Two shots before the question"
    return rows


def _choice(rows: list[dict]) -> list[dict]:
    rows[2]["arguments"]["gen_args_1"]["arg_1"] = " another label"
    return rows


def _reference(rows: list[dict]) -> list[dict]:
    rows[2]["target"] = "3" if rows[2]["target"] != "3" else "2"
    return rows


def _without_digests(rows: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "doc_hash"} for row in rows]


def _loss(rows: list[dict]) -> list[dict]:
    rows[4]["acc"] = 1.5
    return rows


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_prompt, r"1 sample was .*another prompt.*'Two shots before the question' in mix@12:0"),
        (_choice, r"1 sample was .*another prompt"),
        (_reference, r"1 sample was .*another reference"),
        (_without_digests, r"jsonl:1: a sample without doc_hash.*expected a sample of lm-eval 0\.4\.3"),
        (lambda rows: rows[:-3], r"half a log \(got '13 samples'; expected 16, as results_.*json says"),
        (_loss, r"jsonl:5: acc is no score from 0 to 1 \(got 1\.5; expected acc_norm, graded"),
    ],
)
def test_a_log_that_cannot_be_compared_is_refused_with_its_place(
    runs: dict[tuple[str, int], Path], spoil: Callable[[list[dict]], list[dict]], said: str
) -> None:
    rewrite(samples_file(runs["mix@12", 0]), spoil)
    with pytest.raises(ScoresError, match="(?s)" + said):
        read_logs(runs, evaluator="lm-eval", tasks=["triage"], metric="acc")


def test_answers_that_some_log_lacks_are_named_or_left_out_and_counted(runs: dict[tuple[str, int], Path]) -> None:
    rewrite(samples_file(runs["mix@12", 0]), lambda rows: rows[:-3])
    next(runs["mix@12", 0].rglob("results_*.json")).unlink()
    rewrite(samples_file(runs["alone", 1]), lambda rows: [rows[0] | {"acc": None}, *rows[1:]])
    with pytest.raises(ScoresError, match=r"(?s)4 answers lack in some logs.*in alone:1.*in mix@12:0"):
        read_logs(runs, evaluator="lm-eval", tasks=["triage"], metric="acc")
    table = read_logs(runs, evaluator="lm-eval", tasks=["triage"], metric="acc", drop_incomplete=True)
    assert json.loads(table.schema.metadata[b"remarks"])[-1].startswith("4 items have no score in some log")
    verdict = titrant.judge(table, baseline="alone", smallest_effect=0.05, drop_incomplete=True)
    assert verdict.contrasts[0].difference.n_items == 12


def test_a_cut_line_is_half_a_log(runs: dict[tuple[str, int], Path]) -> None:
    file = samples_file(runs["alone", 0])
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ScoresError, match=r"jsonl:16: half a log: its last line is cut"):
        read_logs(runs, evaluator="lm-eval", tasks=["triage"], metric="acc")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"tasks": ["triage"]}, r"2 metrics.*got 'acc, acc_norm'.*--metric \(graded"),
        ({"tasks": ["spoken"]}, r"2 filters.*got 'strict, word'.*--filter"),
        ({"tasks": ["triage"], "metric": "f1"}, r"no such metric \(got 'f1'; expected acc, acc_norm, graded"),
        ({"tasks": ["spoken"], "filter": "word", "metric": "graded"}, r"no such metric \(got 'graded'"),
        ({"tasks": ["arc"]}, r"no such task in this log \(got 'arc'; expected one of spoken, triage"),
        ({"tasks": ["triage"], "metric": "acc", "retention": ["arc"]}, r"no such task"),
    ],
)
def test_what_only_the_user_knows_is_asked(named: dict, said: str) -> None:
    with pytest.raises(ScoresError, match=said):
        read_logs(RUNS, evaluator="lm-eval", **named)


def test_the_tasks_of_a_group_are_found_by_its_name(runs: dict[tuple[str, int], Path]) -> None:
    for folder in runs.values():
        results = next(folder.rglob("results_*.json"))
        told = json.loads(results.read_text())
        told["group_subtasks"] = {"desk": ["inner"], "inner": ["triage"]}
        results.write_text(json.dumps(told))
    assert set(read_logs(runs, evaluator="lm-eval", tasks=["desk"], metric="acc").column("task").to_pylist()) == {
        "triage"
    }


def test_folders_that_are_no_log_of_one_run_are_named(runs: dict[tuple[str, int], Path], tmp_path: Path) -> None:
    with pytest.raises(ScoresError, match=r"two logs of task spoken"):
        read_logs(runs | {("alone", 0): tmp_path / "logs"}, evaluator="lm-eval")
    with pytest.raises(ScoresError, match=r"alone:2.*no such file or folder"):
        read_logs({("alone", 2): tmp_path / "nowhere"} | runs, evaluator="lm-eval")
    for file in runs["alone", 0].rglob("samples_*"):
        file.unlink()
    with pytest.raises(ScoresError, match=r"results without samples.*--log_samples"):
        read_logs(runs, evaluator="lm-eval")
    for file in runs["mix@12", 0].rglob("samples_spoken*"):
        file.unlink()
    del runs["alone", 0]
    with pytest.raises(ScoresError, match=r"alone:1: task spoken is not in every log"):
        read_logs(runs, evaluator="lm-eval", metric={"triage": "acc"}, filter={"spoken": "word"})
