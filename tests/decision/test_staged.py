"""A staged study as its users see it: the same verdict in whatever order its runs came, and errors with their place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from titrant.core.errors import ScoresError, SpecError
from titrant.core.identity import canonical_json, rng_for
from titrant.decision.judge import judge
from titrant.decision.protocol import RunRequest, protocol_json, read_protocol
from titrant.decision.staged import NextRuns, judge_staged, looks_taken, next_runs, next_runs_json, read_scores
from titrant.stats.simulation import World, simulate

ITEMS = 120
Run = tuple[str, str]


def protocol(*doses: int, matched: bool = True, **more: Any) -> dict[str, Any]:
    arms: dict[str, Any] = {"plain": {"dose": 0}}
    if matched:
        arms["matched"] = {"dose": 0, "matched": True}
    arms |= {f"d{dose}": {"dose": dose} for dose in doses}
    return {"arms": arms, "smallest_effect": 0.03, "most": 10, "metric": "graded", **more}


class Trainer:
    """Somebody's trainer: it does a run, and its scores are there."""

    def __init__(self, fixed: Mapping[str, Any], *gains: float, matched: float | None = 0.0, number: int = 1) -> None:
        self.fixed = fixed
        world = World(gains=gains, matched_gain=matched, seeds=fixed["most"], items=ITEMS, seeds_share=0.5)
        self.scores = np.clip(simulate(world, studies=1, seed=number).scores[0], 0, 1)
        self.done: list[Run] = []
        self.beside: dict[str, list[Any]] = {}

    def run(self, runs: Iterable[RunRequest]) -> None:
        self.done += [(run.arm, run.seed) for run in runs]

    def columns(self, done: Iterable[Run] | None = None) -> dict[str, list[Any]]:
        names = list(self.fixed["arms"])
        seeds = [str(seed) for seed in self.fixed.get("seeds") or range(self.fixed["most"])]
        found: dict[str, list[Any]] = {"arm": [], "seed": [], "item": [], "score": []}
        for arm, seed in self.done if done is None else done:
            found["arm"] += [arm] * ITEMS
            found["seed"] += [seed] * ITEMS
            found["item"] += [f"item {number}" for number in range(ITEMS)]
            found["score"] += self.scores[names.index(arm), seeds.index(seed)].tolist()
        return found

    def grid(self) -> list[Run]:
        return [(arm, str(seed)) for arm in self.fixed["arms"] for seed in range(self.fixed["most"])]

    def finish(self) -> NextRuns:
        while not (found := next_runs(self.fixed, self.columns())).stop:
            assert found.next
            self.run(found.next)
        return found


def said(found: NextRuns) -> str:
    return canonical_json(next_runs_json(found))


def firm_trainer(number: int = 1) -> Trainer:
    return Trainer(protocol(48, 96), 0.0, 0.1, number=number)


# -------------------------------------------------------------------------------------------------------- ask and tell


def test_empty_scores_ask_for_two_seeds_of_every_arm(tmp_path: Path) -> None:
    for text in ("", "arm,seed,item,score\n", "arm,seed,item,score\n\n"):
        path = tmp_path / "scores.csv"
        path.write_text(text)
        found = next_runs_json(next_runs(protocol(96), path))
        assert found["stop"] is False
        assert found["verdict"] is None
        assert found["look"] == 0
        assert found["spent"] == {"runs": 0, "cost": 0.0}
        assert [(run["arm"], run["seed"]) for run in found["next"]] == [
            (arm, seed) for seed in (0, 1) for arm in ("plain", "matched", "d96")
        ]


def test_a_loop_that_does_what_is_asked_ends_with_a_verdict() -> None:
    trainer = firm_trainer()
    found = trainer.finish()
    assert found.verdict is not None
    assert (found.verdict.verdict, found.verdict.arm, found.ended) == ("mix", "d96", "firm")
    assert found.runs == len(trainer.done) < len(trainer.grid()) / 2
    assert found.verdict.next_step is None
    assert "96 generalist rows" in found.verdict.sentence


@pytest.mark.parametrize(
    ("gains", "word"), [((0.0, 0.1), "mix"), ((-0.1, -0.1), "train_alone"), ((0.1, 0.1, 0.1), "mix")]
)
def test_the_object_has_the_agreed_keys_and_is_plain_json(gains: tuple[float, ...], word: str) -> None:
    trainer = Trainer(protocol(*(48 * (index + 1) for index in range(len(gains)))), *gains)
    found = next_runs_json(trainer.finish())
    assert list(found) == ["stop", "verdict", "next", "look", "spent", "grid_cost", "waiting", "ruled_out"]
    assert found["verdict"]["verdict"] == word
    assert found["next"] == []
    json.dumps(found, allow_nan=False)
    shape = judge(trainer.columns(), baseline="plain", matched="matched", drop_incomplete=True)
    assert set(found["verdict"]) == set(shape) - {"worth"}
    assert set(found["verdict"]["contrasts"][0]) <= {*shape["contrasts"][0], "reason"}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_one_worker_or_four_in_any_order_and_a_whole_grid_say_the_same_bytes(number: int) -> None:
    alone = firm_trainer(number)
    wanted = said(alone.finish())
    order = rng_for(number, "tests", "workers")
    four = firm_trainer(number)
    while not (found := next_runs(four.fixed, four.columns(), shards=4)).stop:
        # One of the runs that workers hold ends first; a kill loses the others, which are asked for again.
        four.run([found.next[int(order.integers(min(4, len(found.next))))]])
    assert said(found) == wanted
    grid = alone.grid()
    shuffled = [grid[place] for place in order.permutation(len(grid))]
    assert said(next_runs(alone.fixed, alone.columns(shuffled))) == wanted
    assert said(judge_staged(alone.fixed, alone.columns(shuffled))) == wanted


def test_more_workers_than_runs_are_given_runs_of_later_looks() -> None:
    trainer = firm_trainer()
    found = next_runs(trainer.fixed, trainer.columns(), shards=12)
    assert len(found.next) == 12
    assert {run.seed for run in found.next} == {"0", "1", "2"}
    assert len(next_runs(trainer.fixed, trainer.columns(), shards=1000).next) == 12  # one look ahead, and no further
    trainer.run(run for run in found.next if run.seed != "1" or run.arm != "d96")
    # What ran ahead of need is not the ladder's, so it is not counted as spent before its look.
    assert next_runs(trainer.fixed, trainer.columns()).runs == 7


def test_a_run_in_hand_is_not_asked_for_twice_once_it_is_there() -> None:
    trainer = firm_trainer()
    first = next_runs(trainer.fixed, trainer.columns()).next
    trainer.run(first[:3])
    assert next_runs(trainer.fixed, trainer.columns()).next == first[3:]


def test_costs_are_counted_in_the_unit_they_are_given_in() -> None:
    fixed = protocol(96, costs={"plain": 1, "matched": 1.5, "d96": 1.25})
    trainer = Trainer(fixed, 0.1)
    found = next_runs(fixed, trainer.columns())
    assert found.grid_cost == 37.5
    trainer.run(found.next)
    assert next_runs(fixed, trainer.columns()).cost == 7.5


def test_waiting_and_ruled_out_arms_are_named() -> None:
    trainer = Trainer(protocol(48, 96, 192), 0.0, 0.1, -0.15)
    found = trainer.finish()
    assert found.verdict is not None
    assert found.verdict.arm == "d96"
    assert set(found.waiting) | set(found.ruled_out) >= {"d48", "d192"}
    assert not set(found.waiting) & set(found.ruled_out)
    assert "d96" not in (*found.waiting, *found.ruled_out)


def test_a_study_that_does_not_become_firm_ends_with_what_would_help() -> None:
    trainer = Trainer(protocol(48, 96, most=5, smallest_effect=0.02), 0.01, 0.02)
    found = trainer.finish()
    assert found.verdict is not None
    assert (found.verdict.verdict, found.ended) == ("cannot_tell", "last_look")
    assert found.verdict.next_step is not None
    assert found.verdict.next_step.kind in ("items", "dose")
    assert "another study" in found.verdict.sentence


def test_until_then_the_next_step_is_the_next_look() -> None:
    trainer = Trainer(protocol(96), 0.04)
    for _ in range(2):
        trainer.run(next_runs(trainer.fixed, trainer.columns()).next)
    found = next_runs(trainer.fixed, trainer.columns())
    assert found.verdict is not None
    assert found.verdict.verdict == "cannot_tell"
    assert found.verdict.next_step is not None
    assert (found.verdict.next_step.kind, found.verdict.next_step.seeds) == ("seeds", 4)
    assert "The ladder goes on to 10 seeds." in found.verdict.notes


def test_no_p_value_is_quoted_that_holds_for_one_look_only() -> None:
    found = firm_trainer().finish()
    assert found.verdict is not None
    assert all(contrast.p is None and contrast.p_adjusted is None for contrast in found.verdict.contrasts)
    assert "holds over all looks" in " ".join(found.verdict.notes)


def test_every_look_is_told_as_it_stood() -> None:
    trainer = Trainer(protocol(48, 96, 192), 0.0, 0.06, -0.15)
    found = trainer.finish()
    fixed, tables = read_protocol(trainer.fixed), read_scores(trainer.columns())
    looks = looks_taken(fixed, tables)
    assert [look.look for look in looks] == list(range(1, found.look + 1))
    assert [look.seeds for look in looks] == list(fixed.ladder[: found.look])
    assert [look.verdict for look in looks[:-1]] == ["cannot_tell"] * (found.look - 1)
    assert found.verdict is not None
    assert looks[-1].verdict == found.verdict.verdict
    assert looks[-1].contrasts == found.verdict.contrasts
    assert (looks[-1].waiting, looks[-1].ruled_out) == (found.waiting, found.ruled_out)
    assert len({look.fingerprint for look in looks}) == len(looks)
    # The same looks, to the bit, while the study was under way and from the finished grid.
    assert looks_taken(fixed, read_scores(trainer.columns(trainer.grid()))) == looks
    early = [run for run in trainer.done if int(run[1]) < 4]
    assert looks_taken(fixed, read_scores(trainer.columns(early))) == looks[:2]


def test_another_score_gives_a_look_another_fingerprint() -> None:
    trainer = firm_trainer()
    trainer.finish()
    fixed, before = (
        read_protocol(trainer.fixed),
        looks_taken(read_protocol(trainer.fixed), read_scores(trainer.columns())),
    )
    trainer.scores[0, 0, 0] = 1 - trainer.scores[0, 0, 0]
    assert looks_taken(fixed, read_scores(trainer.columns()))[0].fingerprint != before[0].fingerprint


# ----------------------------------------------------------------------------------------------------- kinds of studies


@pytest.mark.parametrize("doses", [1, 2, 12])
@pytest.mark.parametrize("matched", [True, False])
def test_one_to_twelve_doses_and_one_or_two_baselines(doses: int, matched: bool) -> None:
    fixed = protocol(*(16 * (index + 1) for index in range(doses)), matched=matched)
    trainer = Trainer(fixed, *(0.0,) * (doses - 1), 0.12, matched=0.0 if matched else None)
    found = trainer.finish()
    assert found.verdict is not None
    assert (found.verdict.verdict, found.verdict.arm) == ("mix", f"d{16 * doses}")
    assert ("Steps were not matched" in found.verdict.sentence) != matched


def test_a_matched_baseline_alone_is_a_baseline_whose_steps_are_matched() -> None:
    fixed = protocol(96)
    del fixed["arms"]["plain"]
    found = Trainer(fixed, 0.12, matched=None).finish()
    assert found.verdict is not None
    assert (found.verdict.verdict, found.verdict.baseline) == ("mix", "matched")
    assert "Steps were not matched" not in found.verdict.sentence


def test_a_dose_that_only_adds_steps_is_not_mixed() -> None:
    found = Trainer(protocol(96), 0.12, matched=0.12).finish()
    assert found.verdict is not None
    assert found.verdict.verdict in ("train_alone", "cannot_tell")


def test_groups_and_tasks_are_allowed_for() -> None:
    trainer = firm_trainer()
    plain = trainer.finish()
    columns = trainer.columns(trainer.grid())
    number = [int(item.split()[1]) for item in columns["item"]]
    grouped = judge_staged(trainer.fixed, {**columns, "group": [f"text {place // 6}" for place in number]})
    tasks = judge_staged(trainer.fixed, {**columns, "task": ["a" if place < 20 else "b" for place in number]})
    assert grouped.verdict is not None
    assert tasks.verdict is not None
    assert plain.verdict is not None
    assert any("20 groups" in note for note in grouped.verdict.notes)
    assert tasks.verdict.task_weights == "macro"
    assert plain.verdict.task_weights is None
    assert tasks.verdict.contrasts[1].difference != plain.verdict.contrasts[1].difference


def test_rows_like_these_are_less_sure_than_these_rows() -> None:
    fixed = protocol(48, 96)
    like = {**fixed, "estimand": "rows like these", "overlap": 0.5}
    trainer = Trainer(fixed, 0.0, 0.1)
    these, those = trainer.finish(), judge_staged(like, trainer.columns(trainer.grid()))
    assert these.verdict is not None
    assert those.verdict is not None
    assert (these.verdict.estimand, those.verdict.estimand) == ("these rows", "rows like these")
    assert those.seeds > these.seeds


def test_retention_and_transfer_stand_beside_the_verdict_over_the_seeds_it_read() -> None:
    trainer = firm_trainer()
    trainer.finish()
    target = trainer.columns()
    other = trainer.columns(trainer.grid())
    columns = {name: target[name] + other[name] * 2 for name in target}
    columns["eval_set"] = ["target"] * len(target["arm"]) + ["retention"] * len(other["arm"])
    columns["eval_set"] += ["transfer:mail"] * len(other["arm"])
    both = next_runs(trainer.fixed, columns).verdict
    assert both is not None
    assert "general ability" in both.sentence.lower()
    assert {contrast.eval_set for contrast in both.transfer} == {"transfer:mail"}
    seeds = {contrast.arm: contrast.difference.n_seeds for contrast in both.transfer}
    assert seeds["d96"] < trainer.fixed["most"]


# --------------------------------------------------------------------------------------------------------- failed runs


def test_a_failed_run_is_reported_and_holds_nothing_up() -> None:
    trainer = firm_trainer()
    failed = [RunRequest(arm="d96", seed="1")]
    while not (found := next_runs(trainer.fixed, trainer.columns(), failed=failed)).stop:
        assert failed[0] not in found.next
        trainer.run(found.next)
    assert found.verdict is not None
    assert found.verdict.verdict == "mix"
    assert found.verdict.provisional_reasons == ("1 run of the contrasts failed",)
    assert found.runs == len(trainer.done) + 1
    seeds = {contrast.arm: contrast.difference.n_seeds for contrast in found.verdict.contrasts}
    assert seeds["d96"] == found.seeds - 1


@pytest.mark.parametrize(
    ("failed", "message"),
    [
        (RunRequest(arm="d97", seed="1"), "arm 'd97' is not in the protocol"),
        (RunRequest(arm="d96", seed="77"), "seed '77' is not in the protocol"),
        (RunRequest(arm="d96", seed="0"), "has scores at seed 0, which is reported as failed"),
    ],
)
def test_a_failed_run_that_cannot_be_is_refused(failed: RunRequest, message: str) -> None:
    trainer = firm_trainer()
    trainer.run(next_runs(trainer.fixed, trainer.columns()).next)
    with pytest.raises(ScoresError, match=message):
        next_runs(trainer.fixed, trainer.columns(), failed=[failed])


# ------------------------------------------------------------------------------------------- scores that do not fit


def test_an_unknown_arm_or_seed_is_named_with_what_is_known(tmp_path: Path) -> None:
    trainer = firm_trainer()
    trainer.run(next_runs(trainer.fixed, trainer.columns()).next)
    columns = trainer.columns()
    for column, old, new in (("arm", "d48", "d49"), ("seed", "1", "11")):
        wrong = {**columns, column: [new if value == old else value for value in columns[column]]}
        with pytest.raises(ScoresError, match=f"{column} '{new}' is not in the protocol.*expected one of.*Fix: "):
            next_runs(trainer.fixed, wrong)


@pytest.mark.parametrize(("have", "lacks"), [((0, 1, 2, 3, 9), 4), ((1, 2, 3, 4, 5), 0), ((0, 2, 3, 4), 1)])
def test_a_seed_out_of_order_is_named_with_the_one_that_comes_first(have: tuple[int, ...], lacks: int) -> None:
    """What no worker can have been given: seeds beyond the look after the next."""
    trainer = Trainer(protocol(96), 0.03)
    done = [(arm, str(seed)) for arm in trainer.fixed["arms"] for seed in (range(10) if arm != "d96" else have)]
    with pytest.raises(ScoresError, match=f"'d96' has scores at seed .*none at seed {lacks}.*--failed d96={lacks}"):
        next_runs(trainer.fixed, trainer.columns(done))
    with pytest.raises(ScoresError, match=f"none at seed {lacks}"):
        judge_staged(trainer.fixed, trainer.columns(done))


def test_workers_may_finish_out_of_order_within_what_they_were_given() -> None:
    trainer = Trainer(protocol(96), 0.03)
    done = [(arm, str(seed)) for arm in trainer.fixed["arms"] for seed in (0, 1, 2)]
    found = next_runs(trainer.fixed, trainer.columns([run for run in done if run != ("d96", "1")]), shards=4)
    assert found.next[0] == RunRequest(arm="d96", seed="1")


def test_a_table_that_lacks_the_first_look_is_refused_with_what_is_missing() -> None:
    trainer = firm_trainer()
    trainer.run(next_runs(trainer.fixed, trainer.columns()).next)
    with pytest.raises(ScoresError, match=r"the first look, at 3 seeds, is not there.*plain at seed 2"):
        judge_staged(trainer.fixed, trainer.columns())


def test_a_ladder_that_a_budget_ended_leaves_the_verdict_open_and_says_where_it_stands() -> None:
    trainer = Trainer(protocol(48, 96), 0.01, 0.02)
    for _ in range(3):
        trainer.run(next_runs(trainer.fixed, trainer.columns()).next)
    found = judge_staged(trainer.fixed, trainer.columns())
    assert found.verdict is not None
    assert (found.stop, found.look, found.verdict.verdict) == (False, 2, "cannot_tell")


def test_a_run_with_some_items_missing_is_refused_by_name() -> None:
    trainer = firm_trainer()
    trainer.run(next_runs(trainer.fixed, trainer.columns()).next)
    columns = {name: values[:-1] for name, values in trainer.columns().items()}
    with pytest.raises(ScoresError, match=r"1 missing cell.*every run needs the same items(.|\n)*until it is whole"):
        next_runs(trainer.fixed, columns)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScoresError, match=r"none\.csv: no such file"):
        next_runs(protocol(96), tmp_path / "none.csv")
    with pytest.raises(SpecError, match=r"none\.json: no such file"):
        next_runs(tmp_path / "none.json")
    with pytest.raises(SpecError, match="no such file"):
        next_runs(tmp_path)


@pytest.mark.parametrize("header", [b"arm,seed,item\n", b"arm,seed,item,score,score\n", b"\xff\xfe"])
def test_a_header_that_could_never_hold_scores_is_refused_before_the_first(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "scores.csv"
    path.write_bytes(header)
    with pytest.raises(ScoresError, match=r"scores\.csv:1: "):
        next_runs(protocol(96), path)


def test_no_workers_are_refused() -> None:
    with pytest.raises(SpecError, match="--shards: not a number of workers"):
        next_runs(protocol(96), shards=0)


# ------------------------------------------------------------------------------------------------------------ protocol


def test_a_protocol_comes_back_from_its_json(tmp_path: Path) -> None:
    fixed = protocol(
        192, 48, estimand="rows like these", overlap=0.25, ladder=[3, 5, 10], level=0.9,
        costs={"plain": 1, "matched": 2, "d192": 3, "d48": 2}, target_rows=96, seeds=list(range(7, 17)),
    )  # fmt: skip
    path = tmp_path / "protocol.json"
    path.write_text(json.dumps(fixed))
    found = read_protocol(path)
    assert [arm.name for arm in found.arms] == ["plain", "matched", "d48", "d192"]
    assert found.seeds[0] == "7"
    assert found.ladder == (3, 5, 10)
    assert read_protocol(protocol_json(found)) == found
    assert protocol_json(read_protocol(protocol_json(found))) == protocol_json(found)
    assert hash(found) == hash(replace(found))


def test_a_ladder_of_the_user_s_own_is_looked_at_and_nothing_else() -> None:
    fixed = protocol(96, ladder=[4, 10])
    trainer = Trainer(fixed, 0.1)
    asked = []
    while not (found := next_runs(fixed, trainer.columns())).stop:
        asked.append(found.next_seeds)
        trainer.run(found.next)
    assert asked[:2] == [2, 4]
    assert set(asked) <= {2, 4, 10}
    assert found.looks == 2


def test_seeds_have_the_names_and_the_order_that_the_protocol_gives_them() -> None:
    fixed = protocol(96, seeds=["b", "a", *(str(seed) for seed in range(8))])
    trainer = Trainer(fixed, 0.1)
    assert [run.seed for run in next_runs(fixed, trainer.columns()).next] == ["b"] * 3 + ["a"] * 3
    trainer.finish()
    assert {seed for _, seed in trainer.done} >= {"b", "a", "0"}


BAD: dict[str, tuple[Mapping[str, Any], str]] = {
    "no smallest effect": ({"smallest_effect": None}, "smallest_effect: .*(number|missing)"),
    "an effect of nothing": ({"smallest_effect": 0}, r"smallest_effect: .*greater than 0 \(got 0\)"),
    "one seed": ({"most": 1}, r"most: .*3 \(got 1\)"),
    "two named seeds": ({"most": None, "seeds": [0, 1]}, "seeds: 2 seeds; a staged study is first judged at 3"),
    "fewer names than seeds": ({"seeds": [0, 1, 2]}, "seeds: 3 names for most 10"),
    "a seed twice": ({"most": 3, "seeds": [0, 1, 1]}, "seeds: a seed is there twice"),
    "a look at two seeds": ({"ladder": [2, 10]}, "ladder: looks rise from 3"),
    "a ladder that ends early": ({"ladder": [3, 5]}, "ladder: .*to most, 10"),
    "a ladder that falls": ({"ladder": [5, 3, 10]}, "ladder: looks rise"),
    "no arms": ({"arms": {}}, "arms: no dose(.|\n)*arms: no baseline"),
    "no baseline": ({"arms": {"d96": {"dose": 96}}}, "arms: no baseline .*Fix: \"plain\": {\"dose\": 0}"),
    "two plain baselines": (
        {"arms": {"a": {"dose": 0}, "b": {"dose": 0}, "c": {"dose": 9}}}, "arms: 2 plain baselines .got a, b",
    ),
    "a matched dose": (
        {"arms": {"a": {"dose": 0}, "c": {"dose": 9, "matched": True}}}, "arms.c.matched: a dose is no baseline",
    ),
    "a dose below nothing": ({"arms": {"a": {"dose": -1}, "c": {"dose": 9}}}, r"arms.a.dose: .*\(got -1\)"),
    "half a row": ({"arms": {"a": {"dose": 0}, "c": {"dose": 9.5}}}, r"arms.c.dose: .*\(got 9.5\)"),
    "an arm without a name": ({"arms": {"": {"dose": 0}, "c": {"dose": 9}}}, "arms: an arm's name is empty"),
    "a cost for nobody": (
        {"costs": {"plain": 1, "matched": 1, "d96": 1, "d97": 1}}, "costs.d97: no such arm",
    ),
    "a cost that is lacking": ({"costs": {"plain": 1}}, "costs: arm 'd96' has none"),
    "a cost below nothing": ({"costs": {"plain": -1, "matched": 1, "d96": 1}}, "costs.plain: .*got -1"),
    "rows like these without overlap": ({"estimand": "rows like these"}, "overlap: got None for estimand"),
    "overlap of these rows": ({"overlap": 0.5}, "overlap: got 0.5 for estimand 'these rows'"),
    "spending nobody knows": ({"spending": "t^9"}, r"spending: no such spending \(got 't\^9'; expected one of t\^1.5"),
    "a misspelt key": ({"smalest_effect": 0.1}, "smalest_effect: no such key .expected one of arms, smallest_effect"),
    "a misspelt key of an arm": ({"arms": {"a": {"dose": 0, "rows": 3}}}, "arms.a.rows: no such key .*dose, matched"),
    "a level of no use": ({"level": 0.3}, "level: .*greater than 0.5"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_protocol_that_cannot_be_is_refused_with_place_and_fix(name: str) -> None:
    changes, message = BAD[name]
    fixed = {**protocol(96), **changes}
    with pytest.raises(SpecError, match=message) as error:
        read_protocol(fixed)
    assert str(error.value).startswith("protocol: ")


def test_what_is_missing_is_asked_for() -> None:
    fixed = protocol(96)
    del fixed["smallest_effect"]
    with pytest.raises(SpecError, match=r"smallest_effect: missing\. Fix: the difference that matters to you"):
        read_protocol(fixed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"protocol\.json:1:2: not JSON"),
        ('{\n"arms": {},\n}', r"protocol\.json:[23]:\d+: not JSON"),
        ('{"arms": {"a": {"dose": 0}, "a": {"dose": 4}}}', r"protocol\.json: key 'a' is there twice"),
        ("[]", r"protocol\.json: the whole: "),
        ('{"arms": {"a": {"dose": 0}, "b": {"dose": 4}}, "smallest_effect": NaN}', r"smallest_effect: .*got nan"),
    ],
)
def test_a_protocol_that_is_not_readable_is_named_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "protocol.json"
    path.write_text(text)
    with pytest.raises(SpecError, match=message):
        read_protocol(path)


def test_every_problem_of_a_protocol_is_told_at_once() -> None:
    fixed = {**protocol(96), "most": 1, "level": 2, "surprise": True}
    with pytest.raises(SpecError) as error:
        read_protocol(fixed)
    assert all(word in str(error.value) for word in ("most: ", "level: ", "surprise: "))


def test_columns_without_rows_are_no_scores() -> None:
    assert read_scores(None) == read_scores({"arm": [], "seed": [], "item": [], "score": []}) == {}


def test_the_tails_of_a_ladder_are_those_of_its_protocol() -> None:
    """The last look is the only one: its tail is the ordinary one, so the bound is where one test would put it."""
    fixed = protocol(96, matched=False, ladder=[10])
    trainer = Trainer(fixed, 0.02, matched=None)
    found = judge_staged(fixed, trainer.columns(trainer.grid()))
    assert found.verdict is not None
    plain = judge(trainer.columns(trainer.grid()), baseline="plain", smallest_effect=0.03)["contrasts"][0]
    mine = found.verdict.contrasts[0].difference
    assert (mine.low, mine.high) == pytest.approx((plain["low"], plain["high"]))
