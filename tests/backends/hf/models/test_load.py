"""Models that were made to do harm, or whose parts do not belong together: refused by name, soon, with nothing left."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from clock import own_seconds

from titrant.backends.hf.models.load import load_model
from titrant.backends.hf.models.prepare import prepare
from titrant.core.errors import ModelError, StoreDamaged

CONFIGS = {
    "another width": ({"hidden_size": 64}, "cannot read this model"),
    "a larger vocabulary": ({"vocab_size": 5000}, "cannot read this model"),
    "a smaller vocabulary": ({"vocab_size": 10}, "cannot read this model"),
    "words for a number": ({"vocab_size": "x"}, "cannot read this model"),
    "no heads": ({"num_attention_heads": 0}, "cannot read this model"),
    "fewer than no heads": ({"num_attention_heads": -1}, "cannot read this model"),
    "a layer too many": ({"num_hidden_layers": 3}, "some would start at random"),
    "a layer too few": ({"num_hidden_layers": 1}, "part of the model would be left out"),
    "a billion layers": ({"num_hidden_layers": 10**9}, "fewer weights than layers"),
    "an architecture of its own": ({"model_type": "evil", "architectures": ["Evil"]}, "cannot read this model"),
    "no room for a text": ({"max_position_embeddings": -5}, "a size in the configuration is none"),
    "an empty list of layers": ({"layer_types": []}, "cannot read this model"),
}
TEMPLATES = {
    "a loop without an end": "{% for a in range(90000) %}{% for b in range(1500) %}{% endfor %}{% endfor %}",
    "a way out of the sandbox": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "a division by zero": "{{ 1/0 }}",
    "a macro that calls itself": "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "a wrong word": "{% for x in %}",
    "a text plus a number": "{{ 'a' + 1 }}",
}


@pytest.fixture(scope="module")
def honest(make_toy_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_folder(tmp_path_factory.mktemp("honest") / "model")


def refused(folder: Path, cache: Path) -> str:
    began = own_seconds()
    with pytest.raises(ModelError) as caught:
        load_model(prepare(str(folder), cache=cache))
    assert own_seconds() - began < 30
    assert not list(cache.rglob(".tmp-*"))
    return str(caught.value)


def test_one_flipped_bit_in_a_prepared_model_is_named_before_it_is_trained(tmp_path: Path, honest: Path) -> None:
    prepared_model = prepare(str(honest), cache=tmp_path)
    load_model(prepared_model)
    for path in sorted(Path(prepared_model.folder).iterdir()):
        if path.name == "manifest.json":
            continue
        data, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
        os.utime(path, ns=times)  # a disk that flips a bit says nothing of it
        with pytest.raises(StoreDamaged, match=rf"{path.name}: checksum differs.*Fix: delete"):
            load_model(prepared_model)
        path.write_bytes(data)
    load_model(prepared_model)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_that_does_not_fit_the_weights_is_refused(tmp_path: Path, honest: Path, name: str) -> None:
    changed, said = CONFIGS[name]
    folder = tmp_path / "model"
    shutil.copytree(honest, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changed}))
    assert said in refused(folder, tmp_path / "cache")


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_that_does_harm_is_refused(
    tmp_path: Path, honest: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("titrant.backends.hf.models.prepare._TEMPLATE_SECONDS", 1.0)
    folder = tmp_path / "model"
    shutil.copytree(honest, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATES[name])
    assert "the chat template of this model fails" in refused(folder, tmp_path / "cache")


@pytest.mark.parametrize(
    "text", ["{}", "[]", "[" * 100_000, '{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": [["a"]]}}']
)
def test_a_tokenizer_that_is_none_is_refused(tmp_path: Path, honest: Path, text: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(honest, folder)
    (folder / "tokenizer.json").write_text(text)
    assert "tokenizer" in refused(folder, tmp_path / "cache")
