"""Weight files are read without torch, and damage is found before anything is trained."""

import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from safetensors.numpy import save_file

from titrant.backends.hf.models.headers import read_gguf, read_safetensors
from titrant.core.errors import ModelError


def small_gguf(path: Path) -> Path:
    writer = GGUFWriter(str(path), "llama")
    writer.add_string("general.license", "mit")
    writer.add_array("tokenizer.ggml.tokens", ["a", "b", "é"])
    writer.add_array("tokenizer.ggml.token_type", [1, 1, 3])
    writer.add_tensor("token_embd.weight", np.arange(64, dtype=np.float32).reshape(2, 32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_gguf_metadata_and_tensors_are_read(tmp_path: Path) -> None:
    header = read_gguf(small_gguf(tmp_path / "small.gguf"))
    assert header.metadata["general.license"] == "mit"
    assert header.metadata["tokenizer.ggml.tokens"] == ("a", "b", "é")
    assert header.metadata["tokenizer.ggml.token_type"] == (1, 1, 3)
    assert [(tensor.name, tensor.shape, tensor.elements) for tensor in header.tensors] == [
        ("token_embd.weight", (2, 32), 64)
    ]


def test_a_gguf_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = small_gguf(tmp_path / "whole.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in [0, 3, 20, 24, 60, 120, 200, len(whole) - 64, len(whole) - 1]:
        cut.write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"cut\.gguf") as caught:
            read_gguf(cut)
        assert "Fix" in str(caught.value)


def test_a_gguf_array_longer_than_the_file_is_refused_without_taking_memory(tmp_path: Path) -> None:
    path = tmp_path / "lies.gguf"
    key = b"x"
    field = struct.pack("<Q", len(key)) + key + struct.pack("<IIQ", 9, 4, 1 << 60)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + field)
    with pytest.raises(ModelError, match="damaged"):
        read_gguf(path)


def test_something_else_is_no_gguf(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ModelError, match="not a GGUF file"):
        read_gguf(tmp_path / "a.gguf")
    (tmp_path / "b.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 1, 0, 0))
    with pytest.raises(ModelError, match="unknown GGUF version"):
        read_gguf(tmp_path / "b.gguf")


def test_safetensors_header_is_read(tmp_path: Path) -> None:
    save_file({"b": np.zeros((2, 3), np.float16), "a": np.zeros(4, np.float32)}, tmp_path / "m.safetensors")
    tensors = read_safetensors(tmp_path / "m.safetensors")
    assert [(tensor.name, tensor.shape, tensor.dtype) for tensor in tensors] == [
        ("a", (4,), "F32"),
        ("b", (2, 3), "F16"),
    ]


def test_a_safetensors_file_that_does_not_add_up_is_refused(tmp_path: Path) -> None:
    save_file({"a": np.zeros((8, 8), np.float32)}, tmp_path / "m.safetensors")
    whole = (tmp_path / "m.safetensors").read_bytes()
    broken = tmp_path / "broken.safetensors"
    wrong_shape = whole.replace(b"[8,8]", b"[8,9]")
    wrong_type = whole.replace(b'"F32"', b'"Q32"')
    assert len({whole, wrong_shape, wrong_type}) == 3
    huge = struct.pack("<Q", 1 << 62) + whole[8:]
    for content in [b"", whole[:7], whole[:30], whole[:-1], whole + b"\0", wrong_shape, wrong_type, huge]:
        broken.write_bytes(content)
        with pytest.raises(ModelError, match=r"broken\.safetensors"):
            read_safetensors(broken)
