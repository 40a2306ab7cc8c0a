"""The model that is handed over: Hugging Face format, with a card that states the mix and the evidence."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from titrant import __version__
from titrant.engines.job import weights_folder
from titrant.store import MANIFEST, Store, read_json, sync_folder, write_json, write_manifest, write_text
from titrant.study.design import PlannedRun
from titrant.study.results import Judged, Results

FACTS = "titrant.json"


def publish_model(
    folder: Path, planned: PlannedRun, judged: Judged, results: Results, store: Store, *, only_check: bool
) -> bool:
    """Make `folder` the model of a run, whole or not at all. With `only_check`, say whether it is so already."""
    card = model_card(planned, judged, results)
    facts = {"run_id": planned.run.run_id, "arm": planned.run.arm.name, "seed": planned.run.seed}
    if only_check:
        same_run = (folder / FACTS).is_file() and read_json(folder / FACTS) == facts
        if same_run and (folder / "README.md").read_text("utf-8") != card:
            write_text(folder / "README.md", card)
            write_manifest(folder)
        return same_run and (folder / MANIFEST).is_file()
    temporary = folder.with_name(f".tmp-{folder.name}")
    if temporary.exists():
        shutil.rmtree(temporary)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(weights_folder(store, planned.run.run_id), temporary, copy_function=_linked)
    (temporary / MANIFEST).unlink(missing_ok=True)
    write_text(temporary / "README.md", card)
    write_json(temporary / FACTS, facts)
    write_manifest(temporary)
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(temporary, folder)
    sync_folder(folder.parent)
    return True


def _linked(source: str, destination: str) -> str:
    """A hard link where the file system has them, else a copy."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copy2(source, destination)
    return destination


def model_card(planned: PlannedRun, judged: Judged, results: Results) -> str:
    """The card: what the model was trained on, what the study found, and under which licences."""
    bench, run = results.design.bench, planned.run
    arm, training = run.arm, run.arm.training
    prepared = bench.models[arm.model].model
    draws = "\n".join(
        f"| {_cell(draw.source)} | {draw.got} | {draw.visits} | {draw.tokens} | {draw.loss_tokens} |"
        for draw in run.draws
    )
    licences = [f"- base model {_cell(prepared.name)}: {_cell(prepared.licence or 'not known')}"]
    for dose in arm.doses:
        licence = bench.models[arm.model].pools[dose.source].licence
        licences.append(f"- generalist rows {_cell(dose.source)}: {_cell(licence or 'not known')}")
    provisional = " (provisional)" if judged.verdict.provisional else ""
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "pipeline_tag: text-generation",
            "---",
            "",
            f"# {_cell(bench.study.name)}: {_cell(arm.target)}, arm {_cell(arm.name)}, seed {run.seed}",
            "",
            f"Trained by titrant {__version__} from {_cell(prepared.name)} "
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
            "## Licences",
            "",
            *licences,
            "- target rows: the owner's",
            "",
            f"Prompts were put in the {prepared.template} template. Run `{run.run_id}`.",
            "",
        ]
    )


def _why(arm: str, judged: Judged) -> str:
    if judged.verdict.arm == arm:
        return "This is the recommended arm."
    return "No dose is recommended, so this is the better of the arms without generalist rows."


def _cell(text: str) -> str:
    """Text that stays text in Markdown tables and paragraphs."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\r", " ").replace("\n", " ")
