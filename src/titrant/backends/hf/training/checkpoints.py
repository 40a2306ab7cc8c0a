"""Checkpoints of a training: written whole or not at all, trusted only when every byte is as it was written.

    <folder>/step-00000120/   weights.safetensors   masters and both moments, fp32 (behind the last step: masters)
                              state.json            fingerprint of the training, step, micro-batch size
                              manifest.json         size and SHA-256 of the others

At most two are kept. A checkpoint of another training, or one that is damaged, is logged, passed over, and replaced.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from titrant.storage.atomic import sync_file, sync_folder
from titrant.storage.json_files import write_json
from titrant.storage.manifests import check_manifest, write_manifest

log = logging.getLogger(__name__)

KEPT = 2
_WRITING = ".tmp-checkpoint-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Where a training stood after `step` steps. `tensors` are those of `TrainableWeights.state` or, after
    the last step, of `final_state`."""

    step: int
    batch_tokens: int
    tensors: Mapping[str, torch.Tensor]


def write_checkpoint(folder: Path, checkpoint: Checkpoint, *, fingerprint: str) -> None:
    """Durably add a checkpoint, then remove all but the newest two, and what killed writers left."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(f"{_WRITING}*"):
        shutil.rmtree(leftover)
    name = f"step-{checkpoint.step:08d}"
    temporary = folder / f"{_WRITING}{name}"
    temporary.mkdir()
    try:
        tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in checkpoint.tensors.items()}
        save_file(tensors, str(temporary / "weights.safetensors"))
        sync_file(temporary / "weights.safetensors")
        state = {"fingerprint": fingerprint, "step": checkpoint.step, "batch_tokens": checkpoint.batch_tokens}
        write_json(temporary / "state.json", state)
        write_manifest(temporary)
        if (folder / name).exists():  # damaged or foreign, or this step would not have been taken again
            shutil.rmtree(folder / name)
        os.rename(temporary, folder / name)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(folder)
    # Only after the new one is durable, so that a whole checkpoint is there at every moment; two, in case the newest is
    # found damaged.
    for older in _by_age(folder)[KEPT:]:
        shutil.rmtree(older)


def newest_good_checkpoint(folder: Path, *, fingerprint: str) -> Checkpoint | None:
    """The checkpoint with the most steps that is whole and of this training; None when there is none."""
    from safetensors.torch import load_file

    for path in _by_age(folder):
        problems = check_manifest(path)
        # Damaged ones are passed over and not an error: an older checkpoint, or the beginning, gives the same bits
        # later.
        if problems:
            log.warning("checkpoint passed over: %s", "; ".join(problems))
            continue
        state = json.loads((path / "state.json").read_text())
        if state["fingerprint"] != fingerprint:
            log.warning("checkpoint passed over: %s is of another training", path)
            continue
        tensors = load_file(str(path / "weights.safetensors"))
        return Checkpoint(step=state["step"], batch_tokens=state["batch_tokens"], tensors=tensors)
    return None


def _by_age(folder: Path) -> list[Path]:
    """Finished checkpoint folders, the most steps first."""
    return sorted((path for path in folder.glob("step-*") if path.is_dir()), reverse=True)
