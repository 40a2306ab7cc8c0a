"""Low-rank adapters through peft: put in, saved as peft reads them, merged into plain weights."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from titrant.core.identity import rng_for
from titrant.core.records import LoraSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """Trained adapter weights by peft's names (fp32), and their peft configuration."""

    config: Any
    weights: dict[str, torch.Tensor]

    def save(self, folder: Path) -> None:
        """Write what `peft.PeftModel.from_pretrained` reads, into an existing folder."""
        from safetensors.torch import save_file

        self.config.save_pretrained(str(folder))
        save_file(self.weights, str(folder / "adapter_model.safetensors"), metadata={"format": "pt"})


def add_adapters(model: Any, settings: LoraSettings, *, seed: int) -> Any:
    """The peft model around `model`: adapters on all linear layers but the head, the rest frozen.

    Their first values come from the stream of `weights` under `seed`; PyTorch's own stream is left as it was.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules="all-linear",
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    # peft draws from PyTorch's global stream: seeded for its call alone, and put back.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft asks transformers by a name that transformers has renamed; nothing for our users to do.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        torch.manual_seed(int(rng_for(seed, "weights").integers(2**62)))
        return get_peft_model(model, config)


def merge_adapters(peft_model: Any) -> tuple[Any, Adapter]:
    """The plain model with the adapters merged into its (fp32) weights, and the adapters by themselves."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(peft_model)
    weights = {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}
    config = peft_model.peft_config["default"]
    config.inference_mode = True
    return peft_model.merge_and_unload(), Adapter(config=config, weights=weights)
