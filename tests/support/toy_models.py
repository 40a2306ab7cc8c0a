"""Causal models of five families at toy size, with random weights."""

import torch
import transformers

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.2,
}
LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]
CONFIGS = {
    "llama": ("LlamaConfig", {}),
    "qwen3": ("Qwen3Config", {"head_dim": 8}),
    "gemma3": ("Gemma3TextConfig", {"head_dim": 8, "sliding_window": 4, "layer_types": LAYERS}),
    "mistral": ("MistralConfig", {"sliding_window": 4}),
    "phi3": ("Phi3Config", {}),
    "gemma2": ("Gemma2Config", {"head_dim": 8, "sliding_window": 4, "attn_logit_softcapping": 2.0}),
}


def toy(name: str, **changes: int) -> torch.nn.Module:
    config_class, extra = CONFIGS[name]
    torch.manual_seed(7)
    config = getattr(transformers, config_class)(**{**SIZES, **extra, **changes})
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def random_ids(total: int) -> torch.Tensor:
    return torch.randint(3, 97, (total,), generator=torch.Generator().manual_seed(1))


def relative(left: torch.Tensor, right: torch.Tensor) -> float:
    return float((left - right).abs().max() / right.abs().max())
