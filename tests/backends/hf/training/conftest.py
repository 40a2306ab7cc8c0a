"""Toy models with random weights and plans of random rows, small enough for hundreds of steps a second."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers

from titrant.core.records import PreparedModel, TokenRow, TrainingPlan, TrainingSettings

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.2,
    "tie_word_embeddings": True,
}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "qwen3": ("Qwen3Config", {"head_dim": 8}),
    "gemma3": ("Gemma3TextConfig", {"head_dim": 8, "sliding_window": 4, "initializer_range": 0.05}),
    "mistral": ("MistralConfig", {"sliding_window": 4, "tie_word_embeddings": False}),
    "phi3": ("Phi3Config", {}),
    "gemma2": ("Gemma2Config", {"head_dim": 8, "sliding_window": 4, "final_logit_softcapping": 3.0}),
    "bloom": ("BloomConfig", {"n_layer": 2, "n_head": 4}),
    "granite": ("GraniteConfig", {"logits_scaling": 4.0}),
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def toy() -> Callable[[str], Any]:
    """Makes a toy model of a family, always the same."""

    def make(name: str = "llama") -> Any:
        config_class, extra = CONFIGS[name]
        torch.manual_seed(7)
        config = getattr(transformers, config_class)(**{**SIZES, **extra})
        return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()

    return make


@pytest.fixture
def rows() -> tuple[TokenRow, ...]:
    """Twelve rows of 3 to 30 tokens from two sources."""
    generator = torch.Generator().manual_seed(5)
    made = []
    for number in range(12):
        length = int(torch.randint(3, 31, (1,), generator=generator))
        ids = tuple(torch.randint(3, 97, (length,), generator=generator).tolist())
        loss_from = int(torch.randint(1, length, (1,), generator=generator))
        made.append(
            TokenRow(key=str(number), source="general" if number % 3 else "target", ids=ids, loss_from=loss_from)
        )
    return tuple(made)


@pytest.fixture
def plan_of(rows: tuple[TokenRow, ...]) -> Callable[..., TrainingPlan]:
    """Makes a plan: three steps of four rows unless told otherwise, then settings by name."""
    model = PreparedModel(
        name="toy",
        folder="",
        fingerprint="toy",
        template="plain",
        chat_template=None,
        bos=None,
        eos="",
        architecture="toy",
        parameters=0,
        vocabulary=97,
        context_tokens=128,
        licence=None,
        origin="toy",
    )
    defaults = TrainingSettings(learning_rate=1e-2, batch_rows=4, warmup_share=0.0)

    def make(
        steps: Sequence[Sequence[int]] = ((0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11)), **changes: Any
    ) -> TrainingPlan:
        return TrainingPlan(
            model=model,
            rows=rows,
            steps=tuple(tuple(step) for step in steps),
            settings=replace(defaults, **changes),
            seed=3,
        )

    return make
