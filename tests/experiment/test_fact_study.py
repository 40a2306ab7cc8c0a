"""A study of facts, some of them false: whose subjects are whose, what is altered, and what the scores are."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from titrant.config.study import load_study
from titrant.core.errors import DataError, SpecError
from titrant.core.records import PreparedModel
from titrant.data.knowledge import parsed, role_of
from titrant.experiment.mix import find_run, write_mix
from titrant.scoring.sheets import SUBJECT_GAIN, prior_key

FakeStudy = Any  # of conftest.py, which no test imports
DOSES = [20, {"rows": 20, "alter": {"false": 0.5}}, {"rows": 20, "alter": {"false": 1}}]
FACTS: dict[str, Any] = {
    "target": {"facts": {"rows": "facts.jsonl", "relations": ["capital"], "choices": 4}, "max_answer_tokens": 8},
    "generalist": {
        "far": {"facts": {"rows": "facts.jsonl", "relations": ["is located in"]}},
        "asked": {"facts": {"rows": "facts.jsonl", "relations": ["is located in"], "form": "instruction"}},
    },
    "arms": {
        "target_rows": [6],
        "doses": {"far": DOSES, "asked": [{"rows": 8, "alter": "shuffled"}]},
        "seeds": 2,
        "generalist_alone": False,
        "matched": False,
    },
    "retention": None,
}


def write_facts(folder: Path) -> None:
    rows = [
        {"id": f"f{n}", "question": question, "answer": f"{answer} {n % 6}"}
        for n in range(120)
        for question, answer in ((f"The capital of Land {n} is", "Town"), (f"Hill {n} is located in", "Valley"))
    ]
    (folder / "facts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def facts(make_study_once: Callable[..., FakeStudy]) -> FakeStudy:
    return make_study_once(rows=write_facts, **FACTS)


def subject_of(text: str) -> str:
    found = parsed(text)
    assert found is not None, text
    return found[1]


def test_no_dose_tells_of_a_subject_of_the_test_or_of_the_target(facts: FakeStudy) -> None:
    prepared = facts.prepared.models["toy-model"]
    data = prepared.targets["toy"]
    tested = {subject_of(item.turns[0].text) for item in data.test}
    taught = {subject_of(row.prompt[0].text) for row in data.train}
    dosed = {subject_of(row.prompt[0].text) for row in prepared.pools["far"].rows}
    assert len(tested) > 20
    assert tested.isdisjoint(taught | dosed)
    assert taught.isdisjoint(dosed)
    assert {role_of(name) for name in dosed} == {"dose"}
    assert {row.task for row in prepared.pools["far"].rows} == {"is located in"}


def test_the_arms_are_those_asked_for_and_no_others(facts: FakeStudy) -> None:
    names = [arm.name for arm in facts.design.arms]
    assert names == [
        "untuned", "6", "6+far:20", "6+far/false:0.5:20", "6+far/false:1:20", "6+asked/shuffled:8",
    ]  # fmt: skip


def test_the_same_facts_are_told_truly_and_falsely(facts: FakeStudy) -> None:
    def rows(name: str) -> dict[str, str]:
        arm = next(arm for arm in facts.design.arms if arm.name == name)
        planned = facts.design.cell(arm, 1)
        return {row.prompt[0].text: row.answer for row in planned.examples if row.source == "far"}

    true, half, false = rows("6+far:20"), rows("6+far/false:0.5:20"), rows("6+far/false:1:20")
    assert true.keys() == half.keys() == false.keys()
    assert sum(true[key] != false[key] for key in true) == 20
    changed = {key for key in true if true[key] != half[key]}
    assert len(changed) == 10


def test_a_run_says_how_many_of_its_rows_were_altered(facts: FakeStudy) -> None:
    counts = {
        planned.run.arm.name: [draw.altered for draw in planned.run.draws if draw.source != "toy"]
        for planned in facts.design.runs
    }
    assert counts["6+far:20"] == [None]
    assert counts["6+far/false:0.5:20"] == [10]
    assert counts["6+far/false:1:20"] == [20]
    assert counts["6+asked/shuffled:8"] == [8]
    runs = {planned.run.arm.name: planned.run.recipe_id for planned in facts.design.runs if planned.run.seed == 0}
    assert len(set(runs.values())) == len(runs)


def test_an_altered_dose_is_a_ladder_of_its_own_in_the_scores(facts: FakeStudy) -> None:
    sources = {(score.source, score.dose) for score in facts.results.scores}
    assert ("far", 20) in sources
    assert ("far/false:1", 20) in sources
    assert ("asked/shuffled", 8) in sources


def test_the_score_is_what_the_subject_adds_to_the_odds_of_the_right_answers(facts: FakeStudy) -> None:
    from titrant.experiment.results import read_answers

    scored = [score for score in facts.results.scores if score.metric == SUBJECT_GAIN]
    data = facts.prepared.models["toy-model"].targets["toy"]
    assert len(scored) == len(facts.design.runs) * len(data.test)
    planned = facts.design.runs[0]
    answers = {answer.request: answer.choice_logprobs for answer in read_answers(facts.store, planned.run.run_id)}
    said = {item: answers[name] for item, name in planned.requests.by_item.items()}
    assert sum(key.startswith("prior:") for key in said) == 1  # one relation, so one question without a subject
    item = data.test[0]

    def margin(logprobs: tuple[float, ...]) -> float:
        pairs = list(zip(item.choices or (), logprobs, strict=True))
        odds = [sum(math.exp(x) for choice, x in pairs if (choice in item.references) == right) for right in (1, 0)]
        return math.log(odds[0]) - math.log(odds[1])

    asked, prior = said[item.key], said[prior_key(item)]
    assert asked is not None
    assert prior is not None
    expected = 1 / (1 + math.exp(margin(prior) - margin(asked)))
    found = next(score for score in scored if score.run_id == planned.run.run_id and score.item == item.key)
    assert found.value == pytest.approx(expected)
    assert facts.results.judged[0].metric == SUBJECT_GAIN


def test_a_mix_marks_every_row_whose_answer_is_not_its_own(facts: FakeStudy, tmp_path: Path) -> None:
    planned = find_run(facts.design, target_rows=6, doses={"far/false:0.5": 20}, seed=0, target=None, model=None)
    written = write_mix(planned, tmp_path / "arm.jsonl", prepared=facts.design.prepared)
    rows = [json.loads(line) for line in written.path.read_text().splitlines()]
    assert [row.get("altered") for row in rows].count("false") == 10
    assert next(draw for draw in written.facts["sources"] if draw["source"] == "far")["altered"] == 10


def test_the_report_and_the_card_say_what_was_altered(facts: FakeStudy) -> None:
    from titrant.report.model_card import model_card
    from titrant.report.page import render
    from titrant.report.sections.page import report_data

    page = render(report_data(facts.results, facts.store))
    assert "far/false:0.5" in page
    planned = find_run(facts.design, target_rows=6, doses={"far/false:1": 20}, seed=0, target=None, model=None)
    card = model_card(planned, facts.results.judged[0], facts.results)
    assert "| far, 20 answers altered (false:1) | 20 |" in card


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"arms": {"doses": {"far": [{"rows": 4, "alter": {"false": 2}}]}}}, "up to 1"),
        ({"arms": {"doses": {"far": [{"rows": 4, "alter": "reversed"}]}}}, "no such alteration"),
        ({"generalist": {"far": {"rows": "facts.jsonl"}}}, "no facts, so they cannot be made false"),
        ({"target": {**FACTS["target"], "train": "facts.jsonl"}}, "train has no place"),
        ({"generalist": {"far": {"facts": {"rows": "facts.jsonl"}, "select": "known"}}}, "labels"),
        (
            {"target": {"train": "facts.jsonl", "test": "facts.jsonl", "metric": "subject_gain"}},
            "without their subject",
        ),
    ],
)
def test_what_makes_no_sense_is_said_with_its_place(tmp_path: Path, said: dict[str, Any], problem: str) -> None:
    write_facts(tmp_path)
    (tmp_path / "toy-model").mkdir()
    study = {"name": "toy", "model": "toy-model", **FACTS, **said}
    study["arms"] = {"target_rows": [6], "doses": {"far": DOSES}, **said.get("arms", {})}
    study.pop("retention")
    (tmp_path / "study.yaml").write_text(json.dumps(study))
    with pytest.raises(SpecError, match=problem):
        load_study(tmp_path / "study.yaml")


def test_altered_doses_can_be_written_and_read_again(tmp_path: Path) -> None:
    write_facts(tmp_path)
    (tmp_path / "toy-model").mkdir()
    study = {key: value for key, value in {"name": "toy", "model": "toy-model", **FACTS}.items() if value is not None}
    (tmp_path / "study.yaml").write_text(json.dumps(study))
    said = load_study(tmp_path / "study.yaml").effective()
    again = tmp_path / "again.yaml"
    arms = {key: value for key, value in said["arms"].items() if key != "blends"}  # which is none, and empty
    again.write_text(json.dumps({**said, "arms": arms}))
    assert load_study(again).effective()["arms"] == said["arms"]
    assert said["arms"]["doses"]["far"][1] == {"rows": 20, "alter": "false:0.5"}


def test_facts_of_a_dose_can_be_cut_by_length(make_study: Callable[..., FakeStudy]) -> None:
    generalist = {"far": {**FACTS["generalist"]["far"], "max_tokens": 40}}
    arms = {"target_rows": [6], "doses": {"far": [2]}, "seeds": 1}
    found = make_study(rows=write_facts, **{**FACTS, "generalist": generalist, "arms": arms})
    prepared = found.prepared.models["toy-model"]
    assert {len(prepared.rows["far", row.key].ids) for row in prepared.pools["far"].rows} <= set(range(41))
    assert any("longer than 40 tokens" in removed.why for removed in prepared.removed)


def labels_of(folder: Path, *, model: str = "f" * 32) -> None:
    """Labels of the toy's facts, as `titrant eval set` writes them: hills of even numbers are known."""
    rows = [json.loads(line) for line in (folder / "facts.jsonl").read_text().splitlines()]
    lines = [
        {
            "id": row["id"], "relation": "is located in",
            "label": "highly" if int(row["id"][1:]) % 4 < 2 else "unknown",
            "greedy_rate": float(int(row["id"][1:]) % 4 < 2), "sample_rate": None, "prior_rate": 0.0,
        }
        for row in rows
        if "Hill" in row["question"]
    ]  # fmt: skip
    (folder / "labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    cost = {"facts": len(lines), "left_out": 0, "prompts": 10 * len(lines), "tokens": 9000}
    sidecar = {"model": {"name": "toy-model", "fingerprint": model}, "cost": cost}
    (folder / "labels.jsonl.probe.json").write_text(json.dumps(sidecar))


def selecting(select: str) -> dict[str, Any]:
    far = {**FACTS["generalist"]["far"], "select": select, "labels": "labels.jsonl"}
    arms = {**FACTS["arms"], "doses": {"far": [4]}, "seeds": 1}
    return {**FACTS, "generalist": {"far": far}, "arms": arms}


@pytest.mark.parametrize(("select", "remainders"), [("known", {0, 1}), ("unknown", {2, 3})])
def test_a_dose_can_be_of_what_the_model_knows_or_does_not(
    make_study: Callable[..., FakeStudy], select: str, remainders: set[int]
) -> None:
    found = make_study(rows=write_facts, also=labels_of, **selecting(select))
    rows = found.prepared.models["toy-model"].pools["far"].rows
    assert {int(row.row_id[1:]) % 4 for row in rows} == remainders
    assert any("known and unknown" in removed.why for removed in found.prepared.models["toy-model"].removed)
    assert next(arm for arm in found.design.arms if arm.doses).doses[0].selection == select


def test_labels_of_another_model_are_refused(make_study: Callable[..., FakeStudy]) -> None:
    with pytest.raises(DataError, match="another model"):
        make_study(rows=write_facts, also=lambda folder: labels_of(folder, model="0" * 32), **selecting("known"))


def test_labels_that_are_missing_are_asked_for_by_name(make_study: Callable[..., FakeStudy]) -> None:
    with pytest.raises(DataError, match="titrant probe"):
        make_study(rows=write_facts, **selecting("known"))


def test_probing_writes_labels_that_a_study_takes(tmp_path: Path, toy_prepared: PreparedModel) -> None:
    from titrant.data.knowledge import ProbeSettings, read_labels
    from titrant.data.readers import read_rows
    from titrant.engines import BackendSpec
    from titrant.experiment.knowledge_labels import labels_for, write_labels

    write_facts(tmp_path)
    report = write_labels(
        tmp_path / "facts.jsonl",
        model="toy-model",
        out=tmp_path / "out.jsonl",
        settings=ProbeSettings(prompts=2, shots=2, samples=1),
        role="dose",
        relations=["capital"],
        backend=BackendSpec(module="titrant.backends.fake", name="FakeBackend"),
        prepared_model=toy_prepared,
    )
    labels = read_labels(read_rows(tmp_path / "out.jsonl"))
    assert labels == labels_for(tmp_path / "out.jsonl", toy_prepared)
    assert len(labels) == report.cost.facts == sum(report.counts.values())
    assert report.cost.prompts == len(labels) * 2 * 2
    said = json.loads((tmp_path / "out.jsonl.probe.json").read_text())
    assert said["settings"] == {"prompts": 2, "shots": 2, "samples": 1, "temperature": 0.5, "seed": 0}
    assert said["backend"] == "titrant.backends.fake.FakeBackend"


def test_a_probe_that_was_stopped_goes_on_with_what_it_had(
    tmp_path: Path, toy_prepared: PreparedModel, backend_of: Callable[[type], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from titrant.backends.fake import FakeBackend, FakeLanguageModel
    from titrant.data.knowledge import ProbeSettings
    from titrant.experiment.knowledge_labels import write_labels

    asked: list[str] = []

    class Stopping(FakeBackend):
        """Stops once, at its third batch."""

        def untuned(self, model: PreparedModel) -> FakeLanguageModel:
            found = super().untuned(model)
            generate = found.generate

            def counted(prompts: Any) -> Any:
                if len(asked) == 80:
                    asked.append("stop")
                    raise KeyboardInterrupt
                asked.extend(prompt.key for prompt in prompts)
                return generate(prompts)

            found.generate = counted  # type: ignore[method-assign]
            return found

    monkeypatch.setattr("titrant.experiment.knowledge_labels._AT_ONCE", 40)
    write_facts(tmp_path)
    said = {
        "model": "toy-model",
        "settings": ProbeSettings(prompts=2, shots=2),
        "role": "dose",
        "prepared_model": toy_prepared,
    }

    def labels(name: str) -> bytes:
        write_labels(tmp_path / "facts.jsonl", out=tmp_path / name, backend=backend_of(Stopping), **said)  # type: ignore[arg-type]
        return (tmp_path / name).read_bytes()

    with pytest.raises(KeyboardInterrupt):
        labels("out.jsonl")
    assert (tmp_path / "out.jsonl.part").is_file()
    first = labels("out.jsonl")
    answered = [key for key in asked if key != "stop"]
    assert len(answered) == len(set(answered)) > 80
    assert not (tmp_path / "out.jsonl.part").is_file()
    assert labels("calm.jsonl") == first


def test_a_plan_says_what_labels_cost_whether_they_are_there_or_not(
    tmp_path: Path, toy_prepared: PreparedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from titrant.data.knowledge import ProbeSettings
    from titrant.experiment.knowledge_labels import facts_to_probe, label_lines, probe_cost
    from titrant.tokens import renderer_for

    monkeypatch.setattr("titrant.experiment.knowledge_labels.prepare", lambda spec, **_: toy_prepared)
    write_facts(tmp_path)
    (tmp_path / "toy-model").mkdir()
    said = {key: value for key, value in {"name": "toy", "model": "toy-model", **selecting("known")}.items() if value}
    (tmp_path / "study.yaml").write_text(json.dumps(said))
    study = load_study(tmp_path / "study.yaml")
    (missing,) = label_lines(study)
    facts = facts_to_probe(tmp_path / "facts.jsonl", role="dose", relations=["is located in"])
    cost = probe_cost(facts, renderer_for(toy_prepared), ProbeSettings())
    assert cost.prompts == 10 * cost.facts == 10 * len(facts)
    assert f"{cost.prompts} prompts, {cost.tokens:,} tokens" in missing
    assert "titrant probe" in missing
    labels_of(tmp_path)
    assert label_lines(study) == ["labels of far: 120 facts, 1200 prompts, 9,000 tokens"]
