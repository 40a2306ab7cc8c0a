"""A model spec to a `PreparedModel`: resolved, checked, in one layout, kept in the cache.

GGUF weights are dequantised once, to the exact float32 values, and kept as safetensors. For a model that is in Hugging
Face layout already only the small files are copied, and the weights are linked. When the cache holds the model, neither
torch nor transformers is imported.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from titrant.backends.hf.models import control_tokens
from titrant.backends.hf.models.cache import cache_folder, cached_entry, cached_hash
from titrant.backends.hf.models.headers import read_gguf, read_safetensors
from titrant.backends.hf.models.resolve import ModelFiles, read_object, resolve, tensors_of
from titrant.core.errors import ModelError, TitrantError
from titrant.core.identity import fingerprint
from titrant.core.records import PreparedModel
from titrant.storage.json_files import read_json, write_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PREPARATION_REVISION = 1  # raise it by hand whenever the same files would be prepared differently
Template = Literal["auto", "chat", "plain"]
_FACTS = "prepared.json"
# Vocabularies whose merges were learned with every digit on its own; transformers' GGUF reader leaves that split out.
_LONE_DIGITS = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"})
_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|embed_in|word_embeddings|tok_embeddings|embeddings?)\.weight$")
log = logging.getLogger(__name__)
_TEMPLATE_SECONDS = 10.0  # a conversation of two turns takes a thousandth of one


def prepare(
    spec: str,
    *,
    base: Path | None = None,
    cache: Path | None = None,
    template: Template = "auto",
    allow_pickle: bool = False,
    allow_remote_code: bool = False,
) -> PreparedModel:
    """The model that `spec` names, ready to plan with and to load; forms and errors as in `resolve.resolve`.

    `template`: `chat` is the model's own, `plain` uses no control tokens, `auto` is `chat` where the model has a chat
    template whose control tokens it seems to know (`control_tokens`). `cache`: else `$TITRANT_CACHE`, else
    `~/.cache/titrant`.
    """
    files = resolve(spec, base=base, allow_pickle=allow_pickle, allow_remote_code=allow_remote_code)
    folder = cache_folder(cache)
    hashes = {
        "model.gguf" if files.kind == "gguf" else path.name: cached_hash(path, folder)
        for path in (*files.weights, *files.metadata, *files.code)
    }
    key = fingerprint([PREPARATION_REVISION, files.kind, hashes, files.pickled, bool(files.code), template])
    entry = cached_entry(folder, key, lambda empty: _build(files, hashes, template, empty))
    facts = read_json(entry / _FACTS)
    return PreparedModel(
        **{**facts, "end_ids": tuple(facts["end_ids"])}, name=files.name, origin=files.origin, folder=str(entry)
    )


def _build(files: ModelFiles, hashes: dict[str, str], template: Template, folder: Path) -> None:
    """Fill the empty `folder` with the model in Hugging Face layout, and what is known of it."""
    with quiet_transformers(), as_model_errors(files.origin):
        _refuse_more_layers_than_weights(files)
        if files.kind == "gguf":
            licence = _dequantise(files, folder)
        else:
            licence = _adopt(files, folder)
        tokenizer = _tokenizer(folder)
        speech = _speech(folder, files.origin, tokenizer, template)
    config = read_object(folder / "config.json")
    text_config = config.get("text_config") or {}

    def told(*keys: str) -> int | None:
        sizes = [part[key] for key in keys for part in (config, text_config) if part.get(key)]
        if any(type(size) is not int or size < 1 for size in sizes):
            raise ModelError("a size in the configuration is none", where=f"{files.origin}: {keys[0]}", got=sizes)
        return sizes[0] if sizes else None

    weights = {name: digest for name, digest in hashes.items() if _is_weight(name)}
    identity = {
        "revision": PREPARATION_REVISION,
        "weights": weights,
        "config": config,
        "tokenizer": json.loads(tokenizer.to_str()),
        "template": [speech.template, speech.chat_template, speech.bos, speech.eos, speech.end_ids],
    }
    facts = {
        "fingerprint": fingerprint(identity),
        "template": speech.template,
        "template_reason": speech.reason,
        "chat_template": speech.chat_template,
        "bos": speech.bos,
        "eos": speech.eos,
        "end_ids": speech.end_ids,
        "architecture": (config.get("architectures") or [config.get("model_type", "unknown")])[0],
        "parameters": _parameters(folder, config),
        "vocabulary": told("vocab_size") or tokenizer.get_vocab_size(),
        "context_tokens": told("max_position_embeddings", "n_positions", "max_seq_len", "seq_length") or 2048,
        "licence": licence,
    }
    write_json(folder / _FACTS, facts)


def _refuse_more_layers_than_weights(files: ModelFiles) -> None:
    """A model is put together layer by layer before anybody looks for its weights: a billion of them takes days."""
    tensors = len(tensors_of(files))
    if files.kind == "gguf" or not tensors:
        return
    config = read_object(files.path / "config.json")
    for part in (config, config.get("text_config") or {}):
        for key in ("num_hidden_layers", "n_layer", "num_layers"):
            if type(part.get(key)) is int and part[key] > tensors:
                got = f"{part[key]} layers, {tensors} tensors"
                raise ModelError("the model has fewer weights than layers", where=f"{files.origin}: {key}", got=got)


# ------------------------------------------------------------------------------------------------------------- weights


def _dequantise(files: ModelFiles, folder: Path) -> str | None:
    """A GGUF file as float32 safetensors with configuration and tokenizer; its licence."""
    header = read_gguf(files.path)
    if int(header.metadata.get("split.count", 1)) > 1:
        fix = "join the parts with llama.cpp's `gguf-split --merge`"
        raise ModelError("this GGUF file is one part of several", where=str(files.path), fix=fix)
    log.info("preparing %s (once): weights to float32", files.name)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"gguf_file": files.path.name, "local_files_only": True}
    parent = str(files.path.parent)
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that no switch of transformers turns off
        model = AutoModelForCausalLM.from_pretrained(
            parent, dtype=torch.float32, low_cpu_mem_usage=True, **where, **_dequantised()
        )
    model.config._name_or_path = files.name
    model.save_pretrained(folder, max_shard_size="20GB")
    del model
    AutoTokenizer.from_pretrained(parent, use_fast=True, **where).save_pretrained(folder)
    _split_digits(folder / "tokenizer.json", str(header.metadata.get("tokenizer.ggml.pre", "")))
    _portable_tokenizer_class(folder)
    licence = header.metadata.get("general.license")
    return str(licence) if licence else None


def _dequantised() -> dict[str, Any]:
    """How to ask for plain weights: newer transformers keep the blocks unless told otherwise, older always unpack."""
    import transformers

    config = getattr(transformers, "GgufConfig", None)
    return {} if config is None else {"quantization_config": config(dequantize=True)}


def _split_digits(path: Path, pre_tokenizer: str) -> None:
    """Make every digit a piece of its own where the vocabulary was learned so (llama.cpp's list of pre-tokenizers)."""
    content = read_object(path)
    if pre_tokenizer in _LONE_DIGITS and content["pre_tokenizer"]["type"] == "ByteLevel":
        digits = {"type": "Digits", "individual_digits": True}
        content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, content["pre_tokenizer"]]}
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _portable_tokenizer_class(folder: Path) -> None:
    """Name the tokenizer's class as every version of transformers knows it."""
    path = folder / "tokenizer_config.json"
    content = read_object(path)
    if content.get("tokenizer_class") == "TokenizersBackend":
        content["tokenizer_class"] = "PreTrainedTokenizerFast"
    for key in ("is_local", "local_files_only", "name_or_path"):
        content.pop(key, None)
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False), encoding="utf-8")


def _adopt(files: ModelFiles, folder: Path) -> str | None:
    """A model in Hugging Face layout: small files copied, weights linked (pickles converted); its licence."""
    for path in (*files.metadata, *files.code):
        shutil.copyfile(path, folder / path.name)
    if files.pickled:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(
            files.path, dtype="auto", use_safetensors=False, local_files_only=True, trust_remote_code=bool(files.code)
        )
        model.save_pretrained(folder, max_shard_size="20GB")
    else:
        for path in files.weights:
            # Linked: weights are gigabytes, and their hash is in the entry's manifest all the same.
            os.symlink(path.resolve(), folder / path.name)
        index = files.path / "model.safetensors.index.json"
        if len(files.weights) > 1 or index.is_file():
            shutil.copyfile(index, folder / index.name)
    if not (folder / "tokenizer.json").is_file():
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(
            files.path, use_fast=True, local_files_only=True, trust_remote_code=bool(files.code)
        )
        if not tokenizer.is_fast:
            fix = "convert its tokenizer to a tokenizer.json"
            raise ModelError("this model has only a slow tokenizer", where=files.origin, fix=fix)
        tokenizer.save_pretrained(folder)
    card = folder / "README.md"
    return _card_licence(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else None


def _card_licence(card: str) -> str | None:
    """The licence in the front matter of a model card."""
    front = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", card, re.DOTALL)
    found = front and re.search(r"^license:\s*[\"']?([\w.+-]+)", front[1], re.MULTILINE)
    return found[1] if found else None


def _is_weight(name: str) -> bool:
    return name.endswith((".safetensors", ".gguf", ".bin", ".pt", ".pth"))


def _parameters(folder: Path, config: dict[str, Any]) -> int:
    """How many numbers the weights are; a head that is tied to the embedding and stored twice counts once."""
    tensors = {
        tensor.name: tensor for path in sorted(folder.glob("*.safetensors")) for tensor in read_safetensors(path)
    }
    if config.get("tie_word_embeddings") and any(_EMBEDDING.search(name) for name in tensors):
        tensors.pop("lm_head.weight", None)
    return sum(tensor.elements for tensor in tensors.values())


# -------------------------------------------------------------------------------------------------------------- speech


@dataclass(frozen=True, slots=True, kw_only=True)
class _Speech:
    """How the model is spoken to. `end_ids`: the mark that closes an answer first, then every other end."""

    template: Literal["chat", "plain"]
    chat_template: str | None
    bos: str | None
    eos: str
    end_ids: tuple[int, ...]
    reason: str


def _tokenizer(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing more precise
        raise ModelError("this tokenizer cannot be read", where=str(path), got=error) from error


def _speech(folder: Path, origin: str, tokenizer: Tokenizer, asked: Template) -> _Speech:
    """Template and marks, from the tokenizer's files and the rows of its control tokens."""
    settings = read_object(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    chat = _chat_template(folder, settings)
    ends = _stated_ends(folder)
    eos = _token_text(settings.get("eos_token")) or next(filter(None, map(tokenizer.id_to_token, ends)), None)
    eos_id = None if eos is None else tokenizer.token_to_id(eos)
    if eos is None or eos_id is None:
        fix = "name eos_token in tokenizer_config.json"
        raise ModelError("this model has no end token", where=origin, got=eos, fix=fix)
    bos = _token_text(settings.get("bos_token"))
    template: Literal["chat", "plain"] = "plain"
    closing: tuple[int, ...] = ()
    reason = "asked for" if asked != "auto" else "the model has no chat template"
    if asked == "chat" and chat is None:
        raise ModelError("this model has no chat template", where=origin, expected="template: auto or plain")
    if chat is not None and asked != "plain":
        rendered = _conversation(folder, origin)
        special = frozenset(index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special)
        closing = _closing(tokenizer, rendered.after_answer, special)
        template = "chat"
        if asked == "auto":
            judged = _judge_control_tokens(folder, tokenizer, rendered.text, special, bos)
            template = "plain" if judged.judgement == "untrained" else "chat"
            reason = judged.reason
    if not _prepends(tokenizer, bos) and "bos_token" not in (chat or ""):
        bos = None
    marks: list[int] = [*(closing[:1] if template == "chat" else ()), eos_id, *ends]
    return _Speech(
        template=template,
        chat_template=chat if template == "chat" else None,
        bos=bos,
        eos=eos,
        end_ids=tuple(dict.fromkeys(marks)),
        reason=reason,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rendered:
    text: str
    after_answer: str


def _conversation(folder: Path, origin: str) -> _Rendered:
    """A short conversation in the model's own template."""
    from jinja2 import TemplateError
    from transformers import AutoTokenizer

    question, answer = "What is the answer?", "ItIsThisAnswer"
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    allowed = any(folder.glob("*.py"))
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=allowed)
    try:
        text = _in_time(lambda: str(tokenizer.apply_chat_template(turns, tokenize=False)))
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, RecursionError, TimeoutError) as error:
        fix = "set template: plain in the study"
        raise ModelError("the chat template of this model fails", where=origin, got=error, fix=fix) from error
    return _Rendered(text=text, after_answer=text.rpartition(answer)[2])


def _in_time(render: Callable[[], str]) -> str:
    """What `render` gives; `TimeoutError` when a template, which is a program of a stranger's, comes to no end."""
    results: list[str] = []
    failures: list[Exception] = []

    def work() -> None:
        try:
            results.append(render())
        except Exception as error:  # noqa: BLE001 (carried to the calling thread, which raises it)
            failures.append(error)

    # A thread cannot be killed; as a daemon it at least does not keep the process alive.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(_TEMPLATE_SECONDS)
    if failures:
        raise failures[0]
    if not results:
        raise TimeoutError(f"it does not come to an end in {_TEMPLATE_SECONDS:g} seconds")
    return results[0]


def _closing(tokenizer: Tokenizer, suffix: str, special: frozenset[int]) -> tuple[int, ...]:
    """The special tokens that follow an answer."""
    return tuple(index for index in tokenizer.encode(suffix, add_special_tokens=False).ids if index in special)


def _judge_control_tokens(
    folder: Path, tokenizer: Tokenizer, text: str, special: frozenset[int], bos: str | None
) -> control_tokens.ControlTokens:
    """Whether the special tokens of a rendered conversation look learned. A token that only opens the text is not one
    of the template's: base models know it too."""
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    if bos is not None and ids[:1] == [tokenizer.token_to_id(bos)]:
        ids = ids[1:]
    control = sorted(special & set(ids))
    place = next(
        (
            (path, tensor)
            for path in sorted(folder.glob("*.safetensors"))
            for tensor in read_safetensors(path)
            if _EMBEDDING.search(tensor.name) and len(tensor.shape) == 2 and tensor.dtype in ("F32", "F16", "BF16")
        ),
        None,
    )
    if place is None or max(control, default=0) >= place[1].shape[0]:
        return control_tokens.ControlTokens(judgement="undecided", reason="no embedding found; the template is trusted")
    path, tensor = place
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    rows = tensor.shape[0]
    from safetensors import safe_open

    with safe_open(path, framework="pt") as opened:
        matrix = opened.get_slice(tensor.name)

        def rows_of(ids: tuple[int, ...]) -> Any:
            import numpy as np

            kept = [matrix[index : index + 1].double().numpy() for index in ids]
            return np.concatenate(kept) if kept else np.zeros((0, tensor.shape[1]))

        return control_tokens.judge(
            rows_of(tuple(control)),
            rows_of(control_tokens.unused_ids(vocabulary, rows)),
            rows_of(control_tokens.ordinary_ids(vocabulary, special, rows)),
        )


def _chat_template(folder: Path, settings: dict[str, Any]) -> str | None:
    """The Jinja source of the chat template, wherever the versions of transformers have put it."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    found = settings.get("chat_template")
    if (folder / "chat_template.json").is_file():
        found = read_object(folder / "chat_template.json").get("chat_template", found)
    if isinstance(found, list):
        found = next((entry["template"] for entry in found if entry.get("name") == "default"), None)
    return str(found) if found else None


def _stated_ends(folder: Path) -> tuple[int, ...]:
    """The end ids that generation_config.json and config.json state."""
    found: list[int] = []
    for name in ("generation_config.json", "config.json"):
        stated = read_object(folder / name).get("eos_token_id") if (folder / name).is_file() else None
        found += stated if isinstance(stated, list) else [stated] if stated is not None else []
    return tuple(dict.fromkeys(found))


def _token_text(token: object) -> str | None:
    """A token of tokenizer_config.json, which writes it as text or as an object with `content`."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) and token else None


def _prepends(tokenizer: Tokenizer, bos: str | None) -> bool:
    """Whether the tokenizer by itself begins every text with `bos`."""
    return bos is not None and tokenizer.encode("a").ids[:1] == [tokenizer.token_to_id(bos)]


# -------------------------------------------------------------------------------------------------------- transformers


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and no remarks of transformers while weights are read: stderr is ours."""
    from transformers.utils import logging as messages

    level, bars = messages.get_verbosity(), messages.is_progress_bar_enabled()
    messages.set_verbosity_error()
    messages.disable_progress_bar()
    try:
        yield
    finally:
        messages.set_verbosity(level)
        if bars:
            messages.enable_progress_bar()


@contextlib.contextmanager
def as_model_errors(origin: str) -> Iterator[None]:
    """What transformers says about a model it cannot read, as an error of the user's model."""
    try:
        yield
    except TitrantError:
        raise
    except OSError as error:
        if error.errno is not None:  # the disk's, not transformers'
            raise
        raise ModelError("transformers cannot read this model", where=origin, got=error) from error
    except Exception as error:  # a hostile configuration makes it raise anything
        if isinstance(error, MemoryError) or "memory" in str(error):  # the machine's fault, and somebody else's to name
            raise
        raise ModelError(
            "transformers cannot read this model",
            where=origin,
            got=f"{type(error).__name__}: {error}",
            fix="use a causal language model of an architecture that the installed transformers knows",
        ) from error
