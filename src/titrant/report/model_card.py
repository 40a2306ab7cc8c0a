"""The model that is handed over: Hugging Face format, with a card that states the mix and the evidence."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from titrant import __version__
from titrant.core.errors import StoreDamaged
from titrant.core.records import Dose, Draw
from titrant.data.readers.shapes import JOIN
from titrant.engines.job import weights_folder
from titrant.experiment.design import PlannedRun
from titrant.experiment.results import Judged, Results
from titrant.storage.store import (
    MANIFEST,
    Store,
    check_manifest,
    read_json,
    sync_folder,
    write_json,
    write_manifest,
    write_text,
)

FACTS, CARD = "titrant.json", "README.md"


def publish_model(
    folder: Path, planned: PlannedRun, judged: Judged, results: Results, store: Store, *, only_check: bool
) -> bool:
    """Make `folder` the model of a run, whole or not at all. With `only_check`, say whether it is so already."""
    card = model_card(planned, judged, results)
    facts = {"run_id": planned.run.run_id, "arm": planned.run.arm.name, "seed": planned.run.seed}
    if only_check:
        stands = all((folder / name).is_file() for name in (FACTS, MANIFEST)) and read_json(folder / FACTS) == facts
        if stands:
            _keep_card(folder, card)
        return stands

    def finish(temporary: Path) -> None:
        (temporary / MANIFEST).unlink()
        write_text(temporary / CARD, card)
        write_json(temporary / FACTS, facts)
        write_manifest(temporary)

    copy_whole(weights_folder(store, planned.run.run_id), folder, finish=finish, copy=_linked)
    return True


def copy_whole(
    source: Path,
    folder: Path,
    *,
    finish: Callable[[Path], None] = lambda _: None,
    copy: Callable[[str, str], object] = shutil.copy2,
) -> None:
    """Make `folder` a copy of the folder `source`, whole or not at all, replacing what is there.

    `finish` changes the copy before it is seen. `StoreDamaged` where `source` does not match its manifest.
    """
    temporary = folder.with_name(f".tmp-{folder.name}")
    if temporary.exists():
        shutil.rmtree(temporary)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copytree(source, temporary, copy_function=copy)
        problems = check_manifest(temporary)
        if problems:
            raise StoreDamaged(
                f"{source} is not as it was written ({Path(problems[0]).name}). Fix: delete it and run the study again"
            )
        finish(temporary)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(folder.parent)


def _keep_card(folder: Path, card: str) -> None:
    """Write the card anew where the evidence has changed, with its line in the manifest; the weights' lines stay as
    they are, so that damage is never taken for what was written."""
    data = card.encode("utf-8", "surrogatepass")
    listed = read_json(folder / MANIFEST)["files"]
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    if listed.get(CARD) != entry or not (folder / CARD).is_file() or (folder / CARD).read_bytes() != data:
        write_text(folder / CARD, card)
        write_json(folder / MANIFEST, {"files": {**listed, CARD: entry}})


def _linked(source: str, destination: str) -> str:
    """A hard link where the file system has them, else a copy."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copy2(source, destination)
    return destination


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
    else:
        prompt = [f'prompt = {question} + "\\n\\nAnswer:"']
    return [
        f"Prompts were put in the {prepared_model.template} template. Where answers are choices the study took the likeliest "
        "of them, end mark included; what the model writes is nearly always the same.",
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
