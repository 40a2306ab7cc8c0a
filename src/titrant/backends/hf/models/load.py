"""A `PreparedModel` to a transformers model, and a trained model to a folder that plain transformers loads."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from titrant.backends.hf.models.allocator import lasting_like
from titrant.backends.hf.models.prepare import as_model_errors, quiet_transformers
from titrant.core.errors import ModelError, StoreDamaged
from titrant.core.records import PreparedModel
from titrant.storage.json_files import write_json
from titrant.storage.manifests import check_manifest

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
                    "chat_template.jinja", "chat_template.json", "generation_config.json")  # fmt: skip

# A layer of the language model; what else a checkpoint brings (a vision tower, say) is rightly left out.
_LAYER = re.compile(r"^(?!.*(vision|visual|audio|mtp))(.*\.)?(layers|h|blocks)\.\d+\.(?!.*(inv_freq|masked_bias)$)")


def load_model(prepared_model: PreparedModel, *, device: str = "cpu") -> PreTrainedModel:
    """The model with its exact values in float32, in evaluation mode, on `device`.

    `ModelError` when the stored weights are not those of the architecture: transformers would start the rest at random.
    `StoreDamaged` when a byte is not as it was prepared; every one is read for that, as loading does anyway, for a disk
    that flips a bit changes neither size nor time.
    """
    import torch
    from transformers import AutoModelForCausalLM

    folder = Path(prepared_model.folder)
    if problems := check_manifest(folder):
        fix = f"delete {folder} and run again: the model is prepared anew"
        raise StoreDamaged(f"the prepared model is not as it was written: {'; '.join(problems)}. Fix: {fix}")
    with quiet_transformers(), as_model_errors(prepared_model.origin):
        model, told = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            low_cpu_mem_usage=True,
            trust_remote_code=any(folder.glob("*.py")),
            output_loading_info=True,
        )
    problems = sorted(map(str, [*told["missing_keys"], *told["mismatched_keys"]]))
    if problems:
        raise ModelError(
            "the weights do not fit the architecture: some would start at random",
            where=prepared_model.origin,
            got=", ".join(problems[:5]),
            expected=prepared_model.architecture,
            fix="use the whole model, not a part of it",
        )
    left_over = sorted(key for key in map(str, told["unexpected_keys"]) if _LAYER.search(key))
    if left_over:
        raise ModelError(
            "the weights hold layers that the configuration does not know: part of the model would be left out",
            where=prepared_model.origin,
            got=", ".join(left_over[:5]),
            fix="fetch config.json and the weights again, from one place",
        )
    loaded: PreTrainedModel = model.to(device).eval()
    return loaded


def load_tokenizer(prepared_model: PreparedModel) -> PreTrainedTokenizerBase:
    """The transformers tokenizer of the model."""
    from transformers import AutoTokenizer

    folder = Path(prepared_model.folder)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=any(folder.glob("*.py"))
    )
    return tokenizer


def save_model(
    model: PreTrainedModel, prepared_model: PreparedModel, folder: Path, dtype: Literal["bf16", "fp32"] = "fp32"
) -> None:
    """Write `model` with the tokenizer of `prepared` into `folder`, so that
    `AutoModelForCausalLM.from_pretrained(folder)` gives it back. The model in memory is not changed."""
    import torch

    wanted = torch.bfloat16 if dtype == "bf16" else torch.float32
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        model.save_pretrained(folder, state_dict=_converted(model, wanted), max_shard_size="20GB")
    config = folder / "config.json"
    write_json(config, {**_object(config), "dtype": str(wanted).removeprefix("torch.")})
    origin = Path(prepared_model.folder)
    for path in [origin / name for name in _TOKENIZER_FILES] + sorted(origin.glob("*.py")):
        if path.is_file():
            shutil.copyfile(path, folder / path.name)


def _converted(model: PreTrainedModel, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The state of the model on the CPU in `dtype`; tensors that share memory still do, so that ties stay ties."""
    seen: dict[tuple[Any, ...], torch.Tensor] = {}
    state = {}
    for name, tensor in model.state_dict().items():
        memory = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
        if memory not in seen:
            plain = tensor.detach().cpu()
            seen[memory] = plain.to(dtype) if plain.is_floating_point() else plain
        state[name] = seen[memory]
    return state


def _object(path: Path) -> dict[str, Any]:
    from titrant.backends.hf.models.resolve import read_object

    return read_object(path)


def copy_model(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """Another model with the same weights in `dtype`, ties kept; the first is not changed and shares nothing with it.

    Without a second copy in between. Buffers (rotary frequencies) keep their type, as when transformers loads in
    `dtype`.
    """
    import copy

    import torch

    originals = {id(parameter): parameter.detach() for parameter in model.parameters()}
    copies: dict[int, Any] = {
        key: torch.nn.Parameter(part.copy_(originals[key]), requires_grad=False)
        for key, part in lasting_like(originals, dtype).items()
    }
    return copy.deepcopy(model, copies)
