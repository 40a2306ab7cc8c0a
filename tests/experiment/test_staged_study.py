"""A study that runs until its verdict is firm: what it runs, when it stops, and that nothing but its scores decide."""

from __future__ import annotations

import functools
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fake_study import calm_content, fake_prepare, page_as_text, trainings
from staged_study import teaching_backend, write_staged

import titrant
from titrant.config.study import load_study
from titrant.core.budget import parse_budget
from titrant.core.errors import RunFailed, SpecError
from titrant.core.records import Numerics, PreparedModel
from titrant.engines import BackendSpec, Event, LocalEngine, RunJob
from titrant.engines.local import execute
from titrant.experiment.design import PlannedRun
from titrant.experiment.results import Judged, Results
from titrant.experiment.runner import Callbacks, finish, run_study, stored_design
from titrant.experiment.standings import Collector
from titrant.report.presenter import StudyPresenter
from titrant.storage.json_files import read_json
from titrant.storage.store import Store

FIRM = {"4": 0.0, "8": 0.25}  # gains by generalist rows: plain after three seeds
GREY = {"4": -0.1, "8": 0.05}  # exactly the smallest effect: hard to tell
NONE: dict[str, float] = {}
ONE_DOSE = {"target_rows": [6], "doses": {"general": [8]}, "seeds": {"most": 5}, "generalist_alone": False}


@pytest.fixture(scope="module", autouse=True)
def toy_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("titrant.report.page.render", page_as_text)
        patch.setattr("titrant.experiment.prepare.prepare", fake_prepare(tmp_path_factory.mktemp("prepared")))
        # What the next step would take is told roughly: it ends no study (decision's own tests hold its numbers).
        patch.setattr("titrant.stats.power.SEARCH_STUDIES", 60)
        patch.setattr("os.fsync", lambda _: None)  # a test's store need not outlive a power cut
        yield


class Shuffled:
    """An engine of so many workers that ends its runs in any order, in this process."""

    name, revision = "shuffled", "1"

    def __init__(self, count: int, seed: int = 0) -> None:
        self.count, self.order = count, random.Random(seed)
        self.batches: list[int] = []

    def workers(self, runs: int, *, model: PreparedModel, numerics: Numerics) -> int:
        return self.count

    def execute(
        self,
        jobs: Sequence[RunJob],
        *,
        root: Path,
        backend: BackendSpec,
        on_event: Callable[[Event], None],
        weights_only: bool,
    ) -> None:
        shuffled = self.order.sample(list(jobs), len(jobs))
        self.batches.append(len(jobs))
        execute(shuffled, root=root, backend=backend, processes=0, on_event=on_event, weights_only=weights_only)


class Nothing:
    """A presenter whose pages nobody reads: drawing them would take most of these tests' time."""

    def page(self, results: Results, store: Store, judged: Judged) -> str:
        return ""

    def card(self, planned: PlannedRun, judged: Judged, results: Results) -> str:
        return ""


def run(
    study: Path,
    out: Path,
    *,
    workers: int = 1,
    seed: int = 0,
    budget: str | None = None,
    reporter: Callbacks | None = None,
    until: Any = None,
    engine: Any = None,
    presenter: Any = None,
    **backend: Any,
) -> Results:
    return run_study(
        load_study(study, until=until),
        out=out,
        presenter=presenter or Nothing(),
        engine=engine or Shuffled(workers, seed),
        backend=teaching_backend(**{"gains": FIRM, **backend}),
        budget=None if budget is None else parse_budget(budget),
        reporter=reporter,
    )


@dataclass(frozen=True, kw_only=True)
class Calm:
    """A study of one verdict that nothing disturbed: its file, what it left, and its results. Tests read it alone."""

    study: Path
    out: Path
    results: Results

    def copied(self, place: Path) -> Path:
        """Its study and its results in a folder of the test's own; the study's file."""
        shutil.copytree(self.study.parent, place / "study")
        shutil.copytree(self.out, place / "out")
        return place / "study" / self.study.name


def _calm(place: Path, gains: dict[str, float]) -> Calm:
    study = write_staged(place / "study", curves="never")
    return Calm(study=study, out=place / "calm", results=run(study, place / "calm", gains=gains))


@pytest.fixture(scope="module")
def firm(toy_models: None, tmp_path_factory: pytest.TempPathFactory) -> Calm:
    return _calm(tmp_path_factory.mktemp("firm"), FIRM)


@pytest.fixture(scope="module")
def grey(toy_models: None, tmp_path_factory: pytest.TempPathFactory) -> Calm:
    return _calm(tmp_path_factory.mktemp("grey"), GREY)


def runs_of(results: Results) -> Counter[str]:
    """How many seeds of each arm the results hold."""
    return Counter(found.arm.name for found in results.scores.runs)


def _looks(out: Path) -> list[int]:
    """The seeds of every look that the ledger holds."""
    return [len(record["seeds"]) for record in Store(out).records() if record["kind"] == "look"]


def verdict_bytes(out: Path) -> bytes:
    return (out / "verdict.json").read_bytes()


# -------------------------------------------------------------------------------------------------------- when it stops


def test_it_stops_when_the_verdict_is_firm_and_says_what_it_spent(tmp_path: Path) -> None:
    results = run(write_staged(tmp_path / "study"), tmp_path / "out")
    verdict = results.judged[0].verdict
    assert (verdict.word, verdict.arm, verdict.ended, verdict.provisional) == ("mix", "6+general:8", "firm", False)
    assert [look.seeds for look in verdict.looks] == [3]
    assert verdict.spent is not None
    assert verdict.grid_cost is not None
    assert verdict.spent.cost < 0.5 * verdict.grid_cost
    said = read_json(tmp_path / "out" / "verdict.json")
    assert said["failed_runs"] == []
    assert said["staged"]["ended"] == "firm"
    assert [look["seeds"] for look in said["staged"]["looks"]] == [3]


@pytest.mark.parametrize(("gains", "matched", "word"), [(NONE, 0.0, "train_alone"), (FIRM, 0.25, "train_alone")])
def test_every_firm_word_can_end_it(tmp_path: Path, gains: dict[str, float], matched: float, word: str) -> None:
    study = write_staged(tmp_path / "study", curves="never")
    verdict = run(study, tmp_path / "out", gains=gains, matched=matched).judged[0].verdict
    assert verdict.ended == "firm"
    assert verdict.word in (word, "no_difference")


def test_a_hard_question_goes_on_to_later_looks_and_drops_what_no_longer_matters(grey: Calm) -> None:
    verdict, runs = grey.results.judged[0].verdict, runs_of(grey.results)
    assert len(verdict.looks) > 1
    assert "6+general:4" in verdict.ruled_out
    assert runs["6+general:4"] < runs["6+general:8"]
    assert [look.spent.runs for look in verdict.looks] == sorted(look.spent.runs for look in verdict.looks)


def test_its_report_and_its_card_can_be_drawn(tmp_path: Path) -> None:
    study = write_staged(tmp_path / "study")
    results = run(study, tmp_path / "out", presenter=StudyPresenter())
    assert (tmp_path / "out" / "report.html").is_file()
    assert (tmp_path / "out" / "model" / "README.md").is_file()
    assert results.failed == ()


def test_the_same_study_again_trains_nothing_and_changes_no_byte(tmp_path: Path) -> None:
    study, log = write_staged(tmp_path / "study"), tmp_path / "log"
    run(study, tmp_path / "out", log=str(log))
    before, trained = calm_content(tmp_path / "out"), trainings(log)
    run(study, tmp_path / "out", log=str(log))
    assert trainings(log) == trained
    assert calm_content(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("curves", "seeds"), [("after", {"4": 3, "4+general:8": 3}), ("with", {"4": 3, "4+general:8": 3}), ("never", {})]
)
def test_arms_that_no_verdict_reads_run_as_curves_says(tmp_path: Path, curves: str, seeds: dict[str, int]) -> None:
    results = run(write_staged(tmp_path / "study", curves=curves), tmp_path / "out")
    runs = runs_of(results)
    assert {arm: runs[arm] for arm in ("4", "4+general:8") if runs[arm]} == seeds
    assert runs["general:8"] == seeds.get("4", 0)
    assert runs["untuned"] == 1
    assert results.failed == ()


def test_curves_after_run_only_once_the_verdict_is_there(tmp_path: Path) -> None:
    study, log = write_staged(tmp_path / "study"), tmp_path / "log"
    run(study, tmp_path / "out", log=str(log))
    lines = log.read_text().split("\n")
    alone = [place for place, line in enumerate(lines) if line.startswith("start general/")]
    judged = [place for place, line in enumerate(lines) if line.startswith("start general+toy/2")]
    assert min(alone) > min(judged)


# ------------------------------------------------------------------------------------------- nothing but scores decides


def test_one_worker_or_four_in_any_order_give_the_same_bytes(tmp_path: Path, grey: Calm) -> None:
    run(grey.study, tmp_path / "four", gains=GREY, workers=4, seed=1)
    same_verdict_and_scores(tmp_path / "four", grey.out)


def test_one_worker_or_four_give_the_same_bytes_with_curves_too(tmp_path: Path) -> None:
    study = write_staged(tmp_path / "study", test=60)
    run(study, tmp_path / "one")
    run(study, tmp_path / "four", workers=4, seed=1)
    same_verdict_and_scores(tmp_path / "four", tmp_path / "one")


def same_verdict_and_scores(out: Path, calm: Path) -> None:
    for name in ("verdict.json", "scores.parquet"):
        assert (out / name).read_bytes() == (calm / name).read_bytes()


def test_minutes_of_this_machine_are_no_part_of_what_it_says(tmp_path: Path) -> None:
    run(write_staged(tmp_path / "study", test=20, smallest_effect=0.01), tmp_path / "out", gains=GREY)
    said = read_json(tmp_path / "out" / "verdict.json")
    steps = [one["next_step"] for one in said["by_target_rows"] if one["next_step"] is not None]
    assert steps
    assert [step["minutes"] for step in steps] == [None] * len(steps)


def test_idle_workers_run_ahead_and_what_they_ran_is_not_read_before_its_turn(tmp_path: Path) -> None:
    study = write_staged(tmp_path / "study", curves="never")
    results = run(study, tmp_path / "out", workers=7)
    trained = len(Store(tmp_path / "out").finished())
    assert trained > sum(runs_of(results).values())
    assert max(run.seed for run in results.scores.runs) == 2


def test_an_engine_that_asks_again_gives_the_same_bytes_and_leaves_no_worker_idle(tmp_path: Path, grey: Calm) -> None:
    run(grey.study, tmp_path / "asking", gains=GREY, engine=LocalEngine(jobs=0))
    assert verdict_bytes(tmp_path / "asking") == verdict_bytes(grey.out)


def test_workers_that_are_killed_are_begun_again_and_change_no_byte(tmp_path: Path, firm: Calm) -> None:
    study = firm.study
    dies = {"how": "kill", "once": str(tmp_path / "died")}
    with pytest.raises(RunFailed, match="a worker process ended"):
        run(study, tmp_path / "out", engine=LocalEngine(jobs=2), dies=dies)
    run(study, tmp_path / "out", engine=LocalEngine(jobs=2), dies=dies)
    assert verdict_bytes(tmp_path / "out") == verdict_bytes(firm.out)


class Late:
    """An engine whose last run of every part ends while somebody else is being told what is next."""

    name, revision = "late", "1"

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.under_way: list[Callable[[], None]] = []
        refresh = Collector.refresh

        def refresh_then_end(collector: Collector) -> None:
            refresh(collector)
            while self.under_way:
                self.under_way.pop()()

        monkeypatch.setattr(Collector, "refresh", refresh_then_end)

    def workers(self, runs: int, *, model: PreparedModel, numerics: Numerics) -> int:
        return 2

    def execute(self, jobs: Sequence[RunJob], **options: Any) -> None:
        execute(jobs, processes=0, **options)

    def execute_asking(self, more: Callable[[], Sequence[RunJob]], **options: Any) -> None:
        def end(job: RunJob) -> None:
            execute([job], processes=0, weights_only=False, **options)

        while jobs := more():
            if len(jobs) > 1:  # what another has ended makes it worth naming anew, and meanwhile the last one ends
                self.under_way.append(functools.partial(end, jobs[-1]))
            for job in jobs[:-1] or jobs:
                end(job)


def test_a_run_that_ends_while_somebody_asks_is_seen_by_whoever_asks_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_staged(tmp_path / "study", curves="never")
    run(study, tmp_path / "calm", gains=GREY)
    run(study, tmp_path / "late", gains=GREY, engine=Late(monkeypatch))
    assert verdict_bytes(tmp_path / "late") == verdict_bytes(tmp_path / "calm")
    said = read_json(tmp_path / "late" / "verdict.json")["staged"]
    assert _looks(tmp_path / "late") == [look["seeds"] for look in said["looks"]]


class Stopped(Exception):
    """What a test raises in the place of a kill."""


def test_a_stop_after_every_run_gives_the_same_bytes(tmp_path: Path) -> None:
    study = write_staged(tmp_path / "study", curves="never", arms=ONE_DOSE)
    run(study, tmp_path / "calm")

    def stop(event: Event) -> None:
        if event.kind == "done":
            raise Stopped

    stops = 0
    while True:
        try:
            run(study, tmp_path / "out", workers=3, seed=stops, reporter=Callbacks(event=stop))
        except Stopped:
            stops += 1
            continue
        break
    assert stops > 8
    assert verdict_bytes(tmp_path / "out") == verdict_bytes(tmp_path / "calm")


def test_a_report_on_the_way_judges_what_the_looks_have_read(tmp_path: Path, grey: Calm) -> None:
    study, done = grey.study, 0

    def stop(event: Event) -> None:
        nonlocal done
        done += event.kind == "done"
        if done == 15:
            raise Stopped

    with pytest.raises(Stopped):
        run(study, tmp_path / "out", gains=GREY, reporter=Callbacks(event=stop))
    design, store = _stored(study, tmp_path / "out")
    verdict = finish(design, store, presenter=Nothing()).judged[0].verdict
    assert verdict.ended is None
    assert verdict.looks == grey.results.judged[0].verdict.looks[: len(verdict.looks)]
    assert _looks(tmp_path / "out") == [look.seeds for look in verdict.looks]
    run(study, tmp_path / "out", gains=GREY)
    assert verdict_bytes(tmp_path / "out") == verdict_bytes(grey.out)


def test_a_look_that_only_a_report_has_taken_counts_as_one(tmp_path: Path) -> None:
    study = write_staged(tmp_path / "study", curves="never")
    run(study, tmp_path / "out", gains=GREY)
    lines = (tmp_path / "out" / "ledger.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if '"kind":"look"' not in line and '"kind":"judged"' not in line]
    (tmp_path / "out" / "ledger.jsonl").write_text("".join(kept))  # as after a kill behind the last run
    design, store = _stored(study, tmp_path / "out")
    finish(design, store, presenter=Nothing())
    study = write_staged(tmp_path / "study", curves="never", smallest_effect=0.02)
    assert run(study, tmp_path / "out", gains=GREY).judged[0].verdict.provisional


def _stored(study: Path, out: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("titrant.experiment.runner.DEFAULT_BACKEND", teaching_backend(gains=GREY))
        return stored_design(load_study(study), out=out)


# ---------------------------------------------------------------------------------------------------------- the ledger


def test_the_protocol_is_written_before_the_first_run_and_a_look_each_time(grey: Calm) -> None:
    verdict = grey.results.judged[0].verdict
    records = Store(grey.out).records()
    kinds = [record["kind"] for record in records]
    assert kinds.index("protocol") < kinds.index("run")
    protocol = records[kinds.index("protocol")]
    assert sorted(protocol["protocol"]["arms"]) == ["6", "6+general:4", "6+general:8", "6-matched"]
    assert protocol["protocol"]["smallest_effect"] == 0.05
    assert protocol["protocol"]["ladder"] == [3, 4, 5, 6, 8]
    looks = [record for record in records if record["kind"] == "look"]
    assert [look["scores"] for look in looks] == [look.fingerprint for look in verdict.looks]
    assert [len(look["seeds"]) for look in looks] == [look.seeds for look in verdict.looks]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"smallest_effect": 0.02}, "the smallest effect changed from 0.05 to 0.02 after a look at 3 seeds"),
        (
            {"arms": {"target_rows": [4, 6], "doses": {"general": [4, 8]}, "seeds": {"most": 9}}},
            "at most 8 seeds became 9 after a look at 3 seeds",
        ),
        (
            {"arms": {"target_rows": [4, 6], "doses": {"general": [8]}, "seeds": {"most": 8}}},
            "the arms changed after a look at 3 seeds",
        ),
        ({"until": "grid"}, "judged at 3 seeds before, and now at 8"),
    ],
)
def test_a_protocol_that_changed_after_a_look_is_provisional_and_offers_fresh_seeds(
    tmp_path: Path, firm: Calm, said: dict[str, Any], reason: str
) -> None:
    firm.copied(tmp_path)
    if said.get("until") == "grid":
        said = {**said, "curves": None, "arms": {"target_rows": [6], "doses": {"general": [4, 8]}, "seeds": 8}}
    else:
        said = {**said, "curves": "never"}
    verdict = run(write_staged(tmp_path / "study", **said), tmp_path / "out").judged[0].verdict
    assert verdict.provisional
    assert any(f"its level no longer holds: {reason}" in found for found in verdict.provisional_reasons)
    assert verdict.next_step is not None
    assert "seeds that nobody has looked at" in verdict.next_step.sentence


def test_the_protocol_that_was_looked_at_first_keeps_its_level_and_so_do_fresh_seeds(
    tmp_path: Path, firm: Calm
) -> None:
    firm.copied(tmp_path)
    run(write_staged(tmp_path / "study", curves="never", smallest_effect=0.02), tmp_path / "out")
    run(write_staged(tmp_path / "study", curves="never"), tmp_path / "out")
    assert not read_json(tmp_path / "out" / "verdict.json")["provisional"]
    arms = {"target_rows": [4, 6], "doses": {"general": [4, 8]}, "seeds": [10, 11, 12, 13]}
    fresh = run(write_staged(tmp_path / "study", curves="never", arms=arms), tmp_path / "out")
    assert not fresh.judged[0].verdict.provisional


def test_a_grid_that_is_extended_after_it_was_judged_says_what_level_it_holds(tmp_path: Path) -> None:
    said = {"until": None, "arms": {"target_rows": [6], "doses": {"general": [4, 8]}}}

    def grid(seeds: int) -> Results:
        study = write_staged(tmp_path / "study", **{**said, "arms": {**said["arms"], "seeds": seeds}})  # type: ignore[dict-item]
        return run(study, tmp_path / "out")

    assert not grid(5).judged[0].verdict.provisional
    verdict = grid(12).judged[0].verdict
    (reason,) = verdict.provisional_reasons
    assert reason.startswith("its level no longer holds: judged at 5 seeds before, and now at 12; ")
    assert reason.endswith("so many tests together hold 91.4%, not 95%")
    assert grid(5).judged[0].verdict.provisional_reasons == ()


# --------------------------------------------------------------------------------------------------------- failed runs


def test_a_run_that_fails_leaves_its_pair_out_and_the_ladder_goes_on(tmp_path: Path) -> None:
    study = write_staged(tmp_path / "study", curves="never")
    results = run(study, tmp_path / "out", fails={"kind": "non_finite", "seed": 1})
    verdict = results.judged[0].verdict
    assert verdict.ended == "firm"
    assert any("of the contrasts failed" in reason for reason in verdict.provisional_reasons)
    assert {cell.seed for cell in results.failed} == {1}
    assert verdict.looks[-1].failed


def test_a_run_that_a_look_did_without_is_not_tried_again(tmp_path: Path) -> None:
    study, fixed = write_staged(tmp_path / "study", curves="never"), tmp_path / "fixed"
    fails = {"kind": "out_of_memory", "seed": 1, "unless": str(fixed)}
    run(study, tmp_path / "out", fails=fails)
    before = verdict_bytes(tmp_path / "out")
    fixed.touch()
    run(study, tmp_path / "out", fails=fails)
    assert verdict_bytes(tmp_path / "out") == before


# -------------------------------------------------------------------------------------------------------------- budgets


def test_a_budget_ends_it_early_says_so_and_more_of_it_goes_on(tmp_path: Path, grey: Calm) -> None:
    study = grey.study
    results = run(study, tmp_path / "out", gains=GREY, budget="17runs")
    verdict = results.judged[0].verdict
    assert (verdict.word, verdict.ended) == ("cannot_tell", "budget")
    assert verdict.spent is not None
    assert verdict.spent.runs <= 17
    assert verdict.next_step is not None
    assert "budget" in verdict.sentence
    assert verdict.next_step.tokens
    before = verdict_bytes(tmp_path / "out")
    run(study, tmp_path / "out", gains=GREY, budget="17runs")
    assert verdict_bytes(tmp_path / "out") == before
    run(study, tmp_path / "out", gains=GREY, budget="500runs")
    assert verdict_bytes(tmp_path / "out") == verdict_bytes(grey.out)


def test_a_budget_in_tokens_or_runs_ends_at_the_same_look_however_many_workers(tmp_path: Path) -> None:
    study = write_staged(tmp_path / "study", curves="never")
    for budget in ("17runs", "150ktok"):
        run(study, tmp_path / f"one-{budget}", gains=GREY, budget=budget)
        run(study, tmp_path / f"five-{budget}", gains=GREY, budget=budget, workers=5)
        assert verdict_bytes(tmp_path / f"one-{budget}") == verdict_bytes(tmp_path / f"five-{budget}")


def test_a_budget_that_ends_before_the_first_look_is_refused_before_it_is_spent(tmp_path: Path) -> None:
    study, log = write_staged(tmp_path / "study"), tmp_path / "log"
    with pytest.raises(SpecError, match=r"--budget: the budget ends before the first look .*at least 13 runs"):
        run(study, tmp_path / "out", budget="9runs", log=str(log))
    assert trainings(log, "start") == []


def test_a_grid_takes_no_budget(tmp_path: Path) -> None:
    arms = {"target_rows": [6], "doses": {"general": [4]}, "seeds": 2}
    study = write_staged(tmp_path / "study", until=None, arms=arms)
    with pytest.raises(SpecError, match=r"--budget: .*a grid.*until: firm"):
        run(study, tmp_path / "out", budget="9runs")


# ------------------------------------------------------------------------------------------------------ studies' shapes


@pytest.mark.parametrize(
    "said",
    [
        {"arms": {"target_rows": [6], "doses": {"general": [8]}, "seeds": {"most": 4}, "matched": False}},
        {"arms": {"target_rows": [6], "doses": {"general": [8]}, "seeds": {"most": 4}}, "hold_equal": "steps"},
        {"arms": {"target_rows": ["all"], "doses": {"general": [8]}, "seeds": [5, 3, 9, 1]}},
        {"arms": {"target_rows": [6], "doses": {"general": list(range(1, 13))}, "seeds": {"most": 3}}},
        {"verdict_at": 4},
    ],
    ids=["one baseline", "steps", "these rows, named seeds", "twelve doses", "the smaller size"],
)
def test_every_shape_of_study_comes_to_its_end(tmp_path: Path, said: dict[str, Any]) -> None:
    results = run(write_staged(tmp_path / "study", **said), tmp_path / "out")
    verdict = results.judged[0].verdict
    assert verdict.ended is not None
    assert verdict.target_rows == results.judged[0].verdicts[0].target_rows
    assert results.failed == ()


def test_several_targets_each_climb_their_own_ladder(tmp_path: Path) -> None:
    one = write_staged(tmp_path / "study")
    import json

    target = json.loads(one.read_text())["target"]
    study = write_staged(
        tmp_path / "study",
        target=None,
        targets={"easy": target, "other": {**target, "instruction": "Say the kind."}},
        curves="never",
    )
    results = run(study, tmp_path / "out")
    assert [judged.target for judged in results.judged] == ["easy", "other"]
    assert all(judged.verdict.ended for judged in results.judged)


def test_settings_that_are_chosen_are_tried_for_the_family_first(tmp_path: Path) -> None:
    one = write_staged(tmp_path / "study")
    import json

    target = {**json.loads(one.read_text())["target"], "validation": 0.3}
    study = write_staged(
        tmp_path / "study",
        target=target,
        train=12,
        training={"passes": [1, 2], "batch_rows": 4, "max_tokens": 400},
        arms={"target_rows": [3, 6], "doses": {"general": [4, 8]}, "seeds": {"most": 5}},
        curves="never",
    )
    results = run(study, tmp_path / "out")
    assert results.judged[0].verdict.ended is not None


# ------------------------------------------------------------------------------------------------ for anyone's trainer


def test_the_next_runs_of_a_study_are_those_that_it_would_run_itself(grey: Calm) -> None:
    study, results = grey.study, grey.results
    columns: dict[str, list[Any]] = {"arm": [], "seed": [], "item": [], "score": []}
    found = titrant.next_runs(study=study)
    assert [look.seeds for look in results.judged[0].verdict.looks]
    by_cell = {(score.arm, str(score.seed)): [] for score in results.scores}  # type: ignore[var-annotated]
    for score in results.scores:
        if score.metric == "graded" and score.eval_set == "target":
            by_cell[(score.arm, str(score.seed))].append((score.item, score.value))
    while not found.stop:
        for wanted in found.next:
            for item, value in by_cell[(wanted.arm, wanted.seed)]:
                for name, said in zip(columns, (wanted.arm, wanted.seed, item, value), strict=True):
                    columns[name].append(said)
        found = titrant.next_runs(columns, study=study)
    assert found.verdict is not None
    assert found.verdict.word == results.judged[0].verdict.word
    assert [one.difference for one in found.verdict.contrasts] == [
        one.difference for one in results.judged[0].verdict.contrasts
    ]


def test_next_runs_wants_a_protocol_or_a_study_and_a_target_where_there_are_several(tmp_path: Path) -> None:
    study = write_staged(tmp_path / "study")
    with pytest.raises(SpecError, match="one of protocol and study"):
        titrant.next_runs()
    with pytest.raises(SpecError, match=r"target: which target\? \(got 'nobody'; expected one of toy\)"):
        titrant.next_runs(study=study, target="nobody")
    grid = load_study(write_staged(tmp_path / "grid", until=None, arms={"target_rows": [6], "doses": {"general": [4]}}))
    with pytest.raises(SpecError, match="this study is a grid"):
        titrant.next_runs(study=grid)
