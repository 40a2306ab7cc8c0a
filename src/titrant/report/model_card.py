"""The model that is handed over: Hugging Face format, with a card that states the mix and the evidence."""

from __future__ import annotations

import json

from titrant import __version__
from titrant.core.records import Dose, Draw, Turn
from titrant.data.readers.parts import JOIN
from titrant.experiment.design import PlannedRun
from titrant.experiment.results import Judged, Results

FACTS, CARD = "titrant.json", "README.md"


def model_card(planned: PlannedRun, judged: Judged, results: Results) -> str:
    """The card: what the model was trained on, what the study found, and under which licences."""
    prepared, run = results.design.prepared, planned.run
    arm, training = run.arm, run.arm.training
    prepared_model = prepared.models[arm.model].model
    doses = {dose.source: dose for dose in arm.doses}
    draws = "\n".join(
        f"| {_cell(_drawn(draw, doses.get(draw.source)))} | {draw.got} | {draw.visits} | {draw.tokens} "
        f"| {draw.loss_tokens} |"
        for draw in run.draws
    )
    licences = [f"- base model {_cell(prepared_model.name)}: {_cell(prepared_model.licence or 'not known')}"]
    for dose in arm.doses:
        licence = prepared.models[arm.model].pools[dose.source].licence
        licences.append(f"- generalist rows {_cell(dose.source)}: {_cell(licence or 'not known')}")
    provisional = " (provisional)" if judged.verdict.provisional else ""
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "pipeline_tag: text-generation",
            "---",
            "",
            f"# {_cell(prepared.study.name)}: {_cell(arm.target)}, arm {_cell(arm.name)}, seed {run.seed}",
            "",
            f"Trained by titrant {__version__} from {_cell(prepared_model.name)} "
            f"({training.method} fine-tuning, learning rate {training.learning_rate:g}, {run.steps} steps).",
            "",
            "## The mix",
            "",
            "| source | rows | row visits | tokens | loss tokens |",
            "| --- | ---: | ---: | ---: | ---: |",
            draws,
            "",
            "## The evidence",
            "",
            f"Verdict: **{judged.verdict.verdict}**{provisional}. {_cell(judged.verdict.sentence)}",
            "",
            _why(arm.name, judged),
            "",
            "## How to ask it",
            "",
            *_how_to_ask(planned, results),
            "",
            "## Licences",
            "",
            *licences,
            "- target rows: the owner's",
            "",
            f"Run `{run.run_id}`.",
            "",
        ]
    )


def _drawn(draw: Draw, dose: Dose | None) -> str:
    """The source, and what was done to its rows."""
    if dose is None or dose.alteration is None:
        return draw.source
    return f"{draw.source}, {draw.altered} answers altered ({dose.alteration})"


def _how_to_ask(planned: PlannedRun, results: Results) -> list[str]:
    """Code that puts a prompt as the study did; the answers of the study came from these ids."""
    prepared, arm = results.design.prepared, planned.run.arm
    target, prepared_model = prepared.study.targets.get(arm.target), prepared.models[arm.model].model
    told = (target.instruction or "") if target is not None else ""
    question = f"{_python_text(told)} + {_python_text(JOIN)} + text" if told else "text"
    if prepared_model.template == "chat":
        prompt = [
            f'messages = [{{"role": "user", "content": {question}}}]',
            "prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)",
        ]
        edit = prepared.models[arm.model].renderer.generation_prompt_edit((Turn(role="user", text="…"),))
        if edit.cut:
            prompt.append(f"prompt = prompt[:-{edit.cut}]  # answers do not go on from this end")
        if edit.added:
            prompt.append(f"prompt += {_python_text(edit.added)}  # the template writes it before an answer")
    else:
        prompt = [f'prompt = {question} + "\\n\\nAnswer:"']
    return [
        f"Prompts were put in the {prepared_model.template} template. Where answers are choices the study took "
        "the likeliest of them, end mark included; what the model writes is nearly always the same.",
        "",
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'tokenizer = AutoTokenizer.from_pretrained(".")',
        'model = AutoModelForCausalLM.from_pretrained(".")',
        'text = "…"  # one row, as the study\'s file has it',
        *prompt,
        'inputs = tokenizer(prompt, return_tensors="pt"'
        + (", add_special_tokens=False" if prepared_model.template == "chat" else "")
        + ")",
        "out = model.generate(**inputs, do_sample=False, max_new_tokens=32)",
        'print(tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))',
        "```",
    ]


def _python_text(text: str) -> str:
    """A literal that cannot end the block of code that it stands in."""
    return json.dumps(text).replace("`", "\\u0060")


def _why(arm: str, judged: Judged) -> str:
    if judged.verdict.arm == arm:
        return "This is the recommended arm."
    return "No dose is recommended, so this is the better of the arms without generalist rows."


def _cell(text: str) -> str:
    """Text that stays text in Markdown tables and paragraphs."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\r", " ").replace("\n", " ")
