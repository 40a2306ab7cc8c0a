"""Where rows, models and numbers of the report come from."""

from __future__ import annotations

import titrant
from titrant.core.identity import fingerprint
from titrant.report.data import (
    ModelFacts,
    Provenance,
)
from titrant.report.sections.view import View

PACK_NOTE = "The rows are the embedded pack, written for this project: a demonstration, not a claim about the world."


def provenance_of(view: View) -> Provenance:
    prepared = view.results.design.prepared
    study, model = prepared.study, view.prepared.model
    why = f" ({model.template_reason})" if model.template_reason else ""
    return Provenance(
        titrant_version=titrant.__version__,
        model=ModelFacts(
            name=model.name,
            origin=model.origin,
            parameters=model.parameters,
            licence=model.licence,
            fingerprint=model.fingerprint,
            template=f"{model.template}{why}",
        ),
        files=view.files,
        fingerprints=(
            ("study", fingerprint(study.effective())),
            ("model", model.fingerprint),
            ("test set", prepared.facts["test_set"]),
        ),
        numerics=(prepared.numerics,),
        seeds=study.arms.seeds,
        settings=_settings(view),
        study_yaml=study.text,
    )


def _settings(view: View) -> tuple[tuple[str, str], ...]:
    """The settings of training as (name, value); where arms have their own, all values in rising order."""
    study = view.results.design.prepared.study
    settings = [arm.training for arm in view.arms if arm.kind != "untuned"]

    def every(name: str) -> str:
        values = sorted({getattr(entry, name) for entry in settings}, key=str)
        chosen = " (chosen on validation rows, arm by arm)" if len(values) > 1 else ""
        return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values) + chosen

    pairs = [
        ("What is held equal", study.hold_equal.replace("_", " ")),
        ("Presentation", study.presentation.replace("_", " ")),
        ("Weight of the loss", f"by {study.loss_weight}"),
        ("Method", every("method")),
        ("Passes over target rows", every("passes")),
        ("Passes over generalist rows", every("generalist_passes")),
        ("Learning rate", every("learning_rate")),
        ("Rows a step", every("batch_rows")),
        ("Longest row, tokens", every("max_tokens")),
        ("Longer rows", every("too_long")),
        ("Schedule", every("schedule")),
        ("Warm-up share", every("warmup_share")),
        ("Weight decay", every("weight_decay")),
        ("Largest gradient norm", every("clip_norm")),
        ("Target rows drawn", study.arms.target_draw.replace("_", " ")),
        ("Strata of the target draw", study.arms.stratify),
        ("Words in a row that a pool may not share with a test item", str(study.contamination.ngram)),
    ]
    if study.training.lora is not None:
        pairs.append(("Adapters", f"rank {study.training.lora.rank}, alpha {study.training.lora.alpha}"))
    return tuple(pairs)
