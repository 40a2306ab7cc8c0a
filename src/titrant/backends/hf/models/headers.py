"""What weight files say of themselves, read without torch: GGUF metadata and tensors, safetensors headers.

A file that is cut short or is something else is found here, before anything is trained. The layouts are those of the
GGUF specification (ggml/docs/gguf.md, versions 2 and 3) and of the safetensors README.
"""

from __future__ import annotations

import json
import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from titrant.core.errors import ModelError

FETCH_AGAIN = "fetch the file again and compare its size with the source's"
_LARGEST_HEADER_BYTES = 100_000_000
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_MOST_DIMENSIONS = 8
_DTYPE_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16,
    "U16": 16, "I8": 8, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6,
    "F6_E3M2": 6,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorHeader:
    """One tensor. `shape` has the outermost dimension first; `dtype` is safetensors' word or GGUF's number."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def elements(self) -> int:
        """How many numbers the tensor holds."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """The metadata (arrays of strings included) and the tensors of a GGUF file."""

    metadata: dict[str, Any]
    tensors: tuple[TensorHeader, ...]


def read_gguf(path: Path) -> GgufHeader:
    """The header of a GGUF file, checked against the file's length. `ModelError` when it is cut short or no GGUF."""
    with path.open("rb") as file:
        if path.stat().st_size < 24:
            raise ModelError("not a GGUF file", where=str(path), got=f"{path.stat().st_size} bytes", fix=FETCH_AGAIN)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as blob:
            try:
                return _parse_gguf(blob, path)
            except (struct.error, ValueError, IndexError, OverflowError, MemoryError, RecursionError) as error:
                if isinstance(error, ModelError):
                    raise
                raise ModelError(
                    "this GGUF file ends inside its header or is damaged", where=str(path), got=error, fix=FETCH_AGAIN
                ) from error


def read_safetensors(path: Path) -> tuple[TensorHeader, ...]:
    """The tensors of a safetensors file, checked against the file's length. `ModelError` when that does not add up."""

    def broken(problem: str, got: object) -> ModelError:
        return ModelError(problem, where=str(path), got=got, expected="a whole safetensors file", fix=FETCH_AGAIN)

    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise broken("this safetensors file is too short to have a header", f"{size} bytes")
        length = int.from_bytes(start, "little")
        if length > min(size - 8, _LARGEST_HEADER_BYTES):
            raise broken("this safetensors file is shorter than its own header says", f"{size} bytes")
        try:
            header = json.loads(file.read(length))
            tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
            found = tuple(
                TensorHeader(name=name, shape=tuple(entry["shape"]), dtype=entry["dtype"])
                for name, entry in sorted(tensors.items())
            )
            ends = [_safetensors_end(tensor, tensors[tensor.name]["data_offsets"]) for tensor in found]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise broken("the header of this safetensors file cannot be read", error) from error
    if (expected := 8 + length + max(ends, default=0)) != size:
        raise broken("this safetensors file has not the length that its header says", f"{size} bytes, not {expected}")
    return found


def _safetensors_end(tensor: TensorHeader, offsets: list[int]) -> int:
    begin, end = offsets
    _refuse_odd_shape(tensor)
    if (end - begin) * 8 != tensor.elements * _DTYPE_BITS[tensor.dtype]:
        raise ValueError(f"{tensor.name} has {end - begin} bytes for {tensor.elements} numbers of {tensor.dtype}")
    return end


def _refuse_odd_shape(tensor: TensorHeader) -> None:
    """A product of thousands of large numbers would take hours, and no tensor has such a shape."""
    sizes = tensor.shape
    if len(sizes) > _MOST_DIMENSIONS or not all(type(size) is int and 0 <= size < 1 << 48 for size in sizes):
        raise ValueError(f"{tensor.name} has no shape of a tensor")


def _parse_gguf(blob: mmap.mmap, path: Path) -> GgufHeader:
    if blob[:4] != b"GGUF":
        raise ModelError("not a GGUF file", where=str(path), got=blob[:4], expected="b'GGUF'", fix=FETCH_AGAIN)
    version, tensor_count, field_count = struct.unpack_from("<IQQ", blob, 4)
    if version not in (2, 3):
        fix = "convert the model again with a current llama.cpp"
        raise ModelError("unknown GGUF version", where=str(path), got=version, expected="2 or 3", fix=fix)
    reader = _GgufReader(blob, 24)
    metadata = {}
    for _ in range(field_count):
        key = reader.text()
        metadata[key] = reader.value(reader.scalar("<I"))
    tensors, ends = [], []
    for _ in range(tensor_count):
        name, dimensions = reader.text(), reader.scalar("<I")
        if dimensions > _MOST_DIMENSIONS:
            raise IndexError(f"a tensor of {dimensions} dimensions at byte {reader.position}")
        shape = tuple(int(reader.scalar("<Q")) for _ in range(dimensions))
        kind, offset = int(reader.scalar("<I")), int(reader.scalar("<Q"))
        tensors.append(TensorHeader(name=name, shape=shape[::-1], dtype=str(kind)))
        ends.append(offset + _gguf_bytes(tensors[-1], kind, path))
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 0 < alignment <= 1 << 20:
        raise IndexError(f"an alignment of {alignment}")
    data_start = -(-reader.position // alignment) * alignment
    if tensors and data_start + max(ends) > len(blob):
        raise ModelError(
            "this GGUF file is cut short",
            where=str(path),
            got=f"{len(blob)} bytes",
            expected=f"at least {data_start + max(ends)}",
            fix=FETCH_AGAIN,
        )
    return GgufHeader(metadata=metadata, tensors=tuple(tensors))


def _gguf_bytes(tensor: TensorHeader, kind: int, path: Path) -> int:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        block_elements, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (ValueError, KeyError) as error:
        fix = "install a newer `gguf`, or use another quantisation of the model"
        raise ModelError(f"tensor {tensor.name} has an unknown type", where=str(path), got=kind, fix=fix) from error
    return tensor.elements // int(block_elements) * int(block_bytes)


class _GgufReader:
    """Reads values one after another."""

    def __init__(self, blob: mmap.mmap, position: int) -> None:
        self.blob, self.position = blob, position

    def scalar(self, layout: str) -> Any:
        (value,) = struct.unpack_from(layout, self.blob, self.position)
        self.position += struct.calcsize(layout)
        return value

    def text(self) -> str:
        length = self.scalar("<Q")
        if self.position + length > len(self.blob):
            raise IndexError(f"a text of {length} bytes at byte {self.position}")
        data = self.blob[self.position : self.position + length]
        self.position += length
        return data.decode("utf-8", "surrogateescape")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            if kind not in _SCALARS:
                raise IndexError(f"value type {kind} at byte {self.position}")
            return self.scalar(_SCALARS[kind])
        item_kind, count = self.scalar("<I"), self.scalar("<Q")
        if item_kind in _SCALARS:
            layout = f"<{count}{_SCALARS[item_kind][1]}"
            if count > len(self.blob):
                raise IndexError(f"an array of {count} values at byte {self.position}")
            values = struct.unpack_from(layout, self.blob, self.position)
            self.position += struct.calcsize(layout)
            return values
        if item_kind not in (_STRING, _ARRAY):
            raise IndexError(f"value type {item_kind} at byte {self.position}")
        return tuple(self.value(item_kind) for _ in range(count))
