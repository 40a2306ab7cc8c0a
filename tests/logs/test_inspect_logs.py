"""Logs of Inspect, as it wrote them (data/): read by its own reader where it is installed."""

import json
import shutil
from pathlib import Path

import pytest

import titrant
from titrant.core.errors import ScoresError
from titrant.logs.evaluators import read_logs

REAL = Path(__file__).parent / "data" / "inspect"
RUNS = {(arm, seed): REAL / f"{arm.partition('@')[0]}-{seed}" for arm in ("alone", "mix@12") for seed in (0, 1)}


def test_without_the_extra_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ScoresError, match=r"inspect_ai is not installed.*pip install 'titrant\[inspect\]'"):
        read_logs(RUNS, evaluator="inspect")


class TestRealLogs:
    @pytest.fixture(autouse=True)
    def _reader(self) -> None:
        pytest.importorskip("inspect_ai", reason="the extra `inspect` is not installed")

    def test_epochs_are_averaged_within_an_item_and_are_no_seeds(self) -> None:
        table = read_logs(RUNS, evaluator="inspect", metric="includes", group="desk.shift")
        assert len(table) == 4 * 6
        assert set(table.column("seed").to_pylist()) == {"0", "1"}
        assert set(table.column("group").to_pylist()) == {"s0", "s1"}
        remarks = json.loads(table.schema.metadata[b"remarks"])
        assert "triage: 2 epochs are averaged within each item: they are no training seeds" in remarks
        assert titrant.judge(table, baseline="alone", smallest_effect=0.05).contrasts[0].difference.n_items == 6

    def test_scores_are_those_of_the_log(self) -> None:
        from inspect_ai.log import read_eval_log

        table = read_logs(RUNS, evaluator="inspect", metric="match").to_pydict()
        log = read_eval_log(str(next(RUNS["alone", 0].glob("*.eval"))))
        told = next(s for s in log.results.scores if s.name == "match").metrics["accuracy"].value
        mine = [
            v for a, s, v in zip(table["arm"], table["seed"], table["score"], strict=True) if (a, s) == ("alone", "0")
        ]
        assert sum(mine) / len(mine) == pytest.approx(told)

    def test_what_only_the_user_knows_is_asked(self) -> None:
        with pytest.raises(ScoresError, match=r"2 scorers.*got 'match, includes'.*--metric"):
            read_logs(RUNS, evaluator="inspect")
        with pytest.raises(ScoresError, match=r"Inspect has no filters"):
            read_logs(RUNS, evaluator="inspect", metric="match", filter="strict")
        with pytest.raises(ScoresError, match=r"no such task.*got 'arc'; expected triage"):
            read_logs(RUNS, evaluator="inspect", metric="match", tasks=["arc"])

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"input": "Another question"}, r"(?s)1 sample was .*another prompt.*'Another question' in mix@12:0"),
            ({"target": "nothing"}, r"(?s)1 sample was .*another reference.*nothing in mix@12:0"),
            ({"id": "m77"}, r"(?s)\d answers lack in some logs.*triage/m77"),
        ],
    )
    def test_samples_that_differ_are_named(self, change: dict, said: str, tmp_path: Path) -> None:
        from inspect_ai.log import read_eval_log, write_eval_log

        log = read_eval_log(str(next(RUNS["mix@12", 0].glob("*.eval"))))
        for sample in log.samples[:1] + [s for s in log.samples[1:] if s.id == log.samples[0].id]:
            for name, value in change.items():
                setattr(sample, name, value)
        write_eval_log(log, str(tmp_path / "changed.eval"))
        with pytest.raises(ScoresError, match=said):
            read_logs(RUNS | {("mix@12", 0): tmp_path}, evaluator="inspect", metric="match")

    def test_a_log_that_was_not_finished_is_refused(self, tmp_path: Path) -> None:
        from inspect_ai.log import read_eval_log, write_eval_log

        log = read_eval_log(str(next(RUNS["mix@12", 0].glob("*.eval"))))
        log.status = "cancelled"
        write_eval_log(log, str(tmp_path / "half.eval"))
        with pytest.raises(
            ScoresError, match=r"half\.eval: half a log: its status is cancelled.*eval-retry half\.eval"
        ):
            read_logs(RUNS | {("mix@12", 0): tmp_path}, evaluator="inspect", metric="match")

    def test_a_file_that_is_no_log_is_named(self, tmp_path: Path) -> None:
        whole = next(RUNS["mix@12", 0].glob("*.eval"))
        shutil.copy(whole, tmp_path / "cut.eval")
        (tmp_path / "cut.eval").write_bytes(whole.read_bytes()[:500])
        with pytest.raises(ScoresError, match=r"cut\.eval: no log that Inspect can read"):
            read_logs(RUNS | {("mix@12", 0): tmp_path}, evaluator="inspect", metric="match")
