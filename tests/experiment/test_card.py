"""The card says what the study found, and whatever stands in a name stays text."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_study import fake_prepare, page_as_text, trial_backend, write_study

from titrant.api import run_study
from titrant.config.study import load_study
from titrant.experiment.results import Results, better_baseline, target_tables
from titrant.experiment.runner import recommended_arm
from titrant.report.model_card import model_card
from titrant.tokens import Renderer


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("card")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("titrant.experiment.prepare.prepare", fake_prepare(folder / "prepared"))
        patch.setattr("titrant.report.page.render", page_as_text)
        study = write_study(folder / "study", generalist={"general": {"rows": "general.jsonl", "licence": "CC-BY-4.0"}})
        return run_study(load_study(study), out=folder / "out", jobs=0, backend=trial_backend())


def test_a_card_states_the_mix_the_evidence_and_the_licences(results: Results) -> None:
    judged = results.judged[0]
    arm = next(arm for arm in results.design.arms if arm.kind == "dosed")
    card = model_card(results.design.cell(arm, 0), judged, results)
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "| general | 4 | 4 |" in card
    assert "| toy | 6 | 12 |" in card
    assert judged.verdict.sentence in card
    assert f"Verdict: **{judged.verdict.verdict}** (provisional)." in card
    assert "- base model toy-model: Apache-2.0" in card
    assert "- generalist rows general: CC-BY-4.0" in card
    assert "No dose is recommended" in card


def test_a_card_says_how_the_model_is_asked(results: Results) -> None:
    card = model_card(results.design.runs[-1], results.judged[0], results)
    code = card.partition("```python\n")[2].partition("```")[0]
    compile(code, "card", "exec")
    assert 'prompt = "Name the kind." + "\\n\\n" + text + "\\n\\nAnswer:"' in code


@pytest.mark.parametrize(
    ("template", "lines"),
    [
        (
            "{% for m in messages %}U: {{ m.content }}{% if m.role == 'assistant' %}</s>{% endif %}\n{% endfor %}",
            "+= 'U: '",
        ),
        (
            "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}"
            "{% if add_generation_prompt %}[assistant]<think>{% endif %}",
            "= prompt[:-7]",
        ),
        (
            "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}"
            "{% if add_generation_prompt %}[assistant]{% endif %}",
            "",
        ),
    ],
)
def test_a_card_makes_the_templates_generation_prompt_into_the_one_that_was_trained(
    results: Results, template: str, lines: str
) -> None:
    prepared = results.design.prepared
    model = prepared.models["toy-model"]
    prepared_model = replace(model.model, template="chat", chat_template=template)
    chat = replace(
        model, model=prepared_model, renderer=Renderer(model.renderer.tokenizer, prepared_model, add_bos=False)
    )
    design = replace(results.design, prepared=replace(prepared, models={"toy-model": chat}))
    code = model_card(results.design.runs[-1], results.judged[0], replace(results, design=design))
    code = code.partition("```python\n")[2].partition("```")[0]
    compile(code, "card", "exec")
    changed = [line for line in code.split("\n") if line.startswith("prompt ") and "apply_chat_template" not in line]
    assert len(changed) == bool(lines)
    assert lines.replace("'", '"') in "".join(changed)


def test_hostile_names_stay_text_in_a_card(results: Results) -> None:
    judged = results.judged[0]
    verdict = replace(judged.verdict, sentence='<script>alert("1")</script>\n# not a heading | not a cell')
    card = model_card(results.design.runs[-1], replace(judged, verdicts=(verdict, *judged.verdicts[1:])), results)
    assert "<script" not in card
    assert "\n# not a heading" not in card
    assert "\\| not a cell" in card


def test_without_a_verdict_for_a_mix_the_better_baseline_is_handed_over_and_the_plain_one_on_a_tie(
    results: Results,
) -> None:
    judged = results.judged[0]
    means = {
        name: [score.value for score in results.scores if score.arm == name and score.eval_set == "target"
               and score.metric == judged.metric]
        for name in (judged.verdict.baseline, judged.verdict.matched)
    }  # fmt: skip
    plain, matched = (sum(values) / len(values) for values in means.values())
    expected = judged.verdict.matched if matched > plain else judged.verdict.baseline
    assert recommended_arm(results, judged).name == expected
    told = replace(judged.verdict, arm="6+general:4")
    assert recommended_arm(results, replace(judged, verdicts=(told,))).name == "6+general:4"
    tables = target_tables(results.scores, judged.model, judged.target, judged.metric)
    alike = replace(judged.verdict, matched=judged.verdict.baseline)
    assert better_baseline(tables["target"], alike, task_weights="macro") == judged.verdict.baseline
