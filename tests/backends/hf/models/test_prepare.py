"""A prepared model is what its files say, is made once, and warm needs neither torch nor transformers."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from titrant.backends.hf.models.load import load_model, load_tokenizer, save_model
from titrant.backends.hf.models.prepare import prepare
from titrant.core.errors import ModelError
from titrant.core.records import PreparedModel

WARM = """
import sys
from pathlib import Path
from titrant.backends.hf.models.prepare import prepare
print(prepare(sys.argv[1], cache=Path(sys.argv[2]) if sys.argv[2] else None).fingerprint)
heavy = {"torch", "transformers", "numpy", "tokenizers", "huggingface_hub", "safetensors"} & set(sys.modules)
assert not heavy, heavy
"""


def warm(spec: str, cache: Path | str) -> str:
    done = subprocess.run([sys.executable, "-c", WARM, spec, str(cache)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def toy_folder(make_toy_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_folder(tmp_path_factory.mktemp("models") / "toy")


def test_a_folder_is_prepared_without_copying_its_weights(toy_folder: Path, tmp_path: Path) -> None:
    model = prepare(str(toy_folder), cache=tmp_path)
    weights = Path(model.folder) / "model.safetensors"
    assert weights.is_symlink()
    assert weights.resolve() == toy_folder / "model.safetensors"
    assert (model.name, model.architecture, model.licence) == ("toy", "LlamaForCausalLM", None)
    assert (model.vocabulary, model.context_tokens) == (272, 512)
    assert model.parameters == sum(p.numel() for p in load_model(model).parameters())
    assert (model.bos, model.eos, model.end_ids) == (None, "<|end|>", (3,))


def test_warm_needs_neither_torch_nor_transformers(toy_folder: Path, tmp_path: Path) -> None:
    model = prepare(str(toy_folder), cache=tmp_path)
    assert warm(str(toy_folder), tmp_path) == model.fingerprint


def test_the_fingerprint_follows_content_and_not_place(toy_folder: Path, tmp_path: Path) -> None:
    here = prepare(str(toy_folder), cache=tmp_path / "one")
    moved = tmp_path / "other name"
    shutil.copytree(toy_folder, moved)
    there = prepare(str(moved), cache=tmp_path / "two")
    assert (here.fingerprint, here.name, there.name) == (there.fingerprint, "toy", "other name")
    assert prepare(str(moved), cache=tmp_path / "one").fingerprint == here.fingerprint


def changed_weights(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def changed_config(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "rms_norm_eps": 1e-4}))


def changed_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace("<unused3>", "<unusedX>"))


def changed_template(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text() + " ")


@pytest.mark.parametrize("change", [changed_weights, changed_config, changed_tokenizer, changed_template])
def test_every_part_changes_the_fingerprint(toy_folder: Path, tmp_path: Path, change: Callable[[Path], None]) -> None:
    before = prepare(str(toy_folder), cache=tmp_path / "cache").fingerprint
    other = tmp_path / "toy"
    shutil.copytree(toy_folder, other)
    change(other)
    assert prepare(str(other), cache=tmp_path / "cache").fingerprint != before


def test_a_chat_template_whose_tokens_were_never_learned_is_not_used(
    make_toy_folder: Callable[..., Path], toy_folder: Path, tmp_path: Path
) -> None:
    base = make_toy_folder(tmp_path / "base", untrained=True)
    learned, unlearned = prepare(str(toy_folder), cache=tmp_path), prepare(str(base), cache=tmp_path)
    assert (learned.template, unlearned.template) == ("chat", "plain")
    assert unlearned.chat_template is None
    assert "unused" in unlearned.template_reason
    forced = prepare(str(base), cache=tmp_path, template="chat")
    assert (forced.template, forced.template_reason) == ("chat", "asked for")
    assert prepare(str(toy_folder), cache=tmp_path, template="plain").template == "plain"
    assert len({model.fingerprint for model in (learned, unlearned, forced)}) == 3


def test_a_model_without_a_chat_template_is_plain(toy_folder: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(toy_folder, bare)
    (bare / "chat_template.jinja").unlink()
    assert prepare(str(bare), cache=tmp_path / "c").template == "plain"
    with pytest.raises(ModelError, match="no chat template"):
        prepare(str(bare), cache=tmp_path / "c", template="chat")


def test_the_mark_that_closes_a_turn_comes_first(toy_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "toy"
    shutil.copytree(toy_folder, other)
    (other / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}<unused2>{% endfor %}")
    (other / "generation_config.json").write_text(json.dumps({"eos_token_id": [3, 5]}))
    model = prepare(str(other), cache=tmp_path / "c", template="chat")
    assert model.end_ids == (6, 3, 5)


def test_a_template_that_fails_says_what_to_do(toy_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "toy"
    shutil.copytree(toy_folder, other)
    (other / "chat_template.jinja").write_text("{{ raise_exception('not like this') }}")
    with pytest.raises(ModelError, match="template: plain"):
        prepare(str(other), cache=tmp_path / "c")
    assert prepare(str(other), cache=tmp_path / "c", template="plain").template == "plain"


def test_an_unknown_architecture_is_the_users_error_and_leaves_nothing(toy_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "toy"
    shutil.copytree(toy_folder, other)
    path = other / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(ModelError, match="tokenizer"):
        prepare(str(other), cache=tmp_path / "c")
    assert [entry.suffix for entry in (tmp_path / "c" / "models").iterdir()] == [".lock"]


def test_pickled_weights_become_safetensors(toy_folder: Path, tmp_path: Path) -> None:
    pickled = tmp_path / "pickled"
    shutil.copytree(toy_folder, pickled)
    (pickled / "model.safetensors").unlink()
    original = prepare(str(toy_folder), cache=tmp_path / "c")
    state = load_model(original).state_dict()
    torch.save(state, pickled / "pytorch_model.bin")
    model = prepare(str(pickled), cache=tmp_path / "c", allow_pickle=True)
    assert not (Path(model.folder) / "model.safetensors").is_symlink()
    again = load_model(model).state_dict()
    assert all(torch.equal(again[name], state[name]) for name in state)


def test_weights_that_do_not_fit_are_refused(toy_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "toy"
    shutil.copytree(toy_folder, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(ModelError, match="start at random"):
        load_model(prepare(str(other), cache=tmp_path / "c"))


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_saved_model_is_loaded_by_plain_transformers(
    make_toy_folder: Callable[..., Path], tmp_path: Path, family: str, dtype: str
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    prepared_model = prepare(str(make_toy_folder(tmp_path / "toy", family=family)), cache=tmp_path / "c")
    model = load_model(prepared_model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    save_model(model, prepared_model, tmp_path / "saved", dtype)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert again.dtype == (torch.bfloat16 if dtype == "bf16" else torch.float32)
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value.to(again.dtype)), name
    assert again.config.tie_word_embeddings == model.config.tie_word_embeddings
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert tokenizer.chat_template == prepared_model.chat_template == load_tokenizer(prepared_model).chat_template


@pytest.mark.model
def test_smollm2_is_prepared_with_its_exact_values(smollm2: PreparedModel, smollm2_spec: str) -> None:
    import gguf
    from safetensors import safe_open

    from titrant.backends.hf.models.resolve import resolve

    assert (smollm2.template, smollm2.licence, smollm2.parameters) == ("chat", "apache-2.0", 134_515_008)
    assert (smollm2.bos, smollm2.eos, smollm2.end_ids, smollm2.context_tokens) == (None, "<|im_end|>", (2,), 8192)
    assert warm(smollm2_spec, "") == smollm2.fingerprint
    tensor = next(
        tensor
        for tensor in gguf.GGUFReader(str(resolve(smollm2_spec).path)).tensors
        if tensor.name == "blk.3.ffn_down.weight"
    )
    exact = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type))
    with safe_open(Path(smollm2.folder) / "model.safetensors", framework="pt") as weights:
        assert torch.equal(weights.get_tensor("model.layers.3.mlp.down_proj.weight"), exact)


@pytest.mark.model
def test_smollm2_reads_every_digit_alone(smollm2: PreparedModel) -> None:
    tokenizer = Tokenizer.from_file(os.path.join(smollm2.folder, "tokenizer.json"))
    assert tokenizer.encode("a  2024").tokens == ["a", "ĠĠ", "2", "0", "2", "4"]
    assert tokenizer.decode(tokenizer.encode("Café  2024 ok").ids) == "Café  2024 ok"
