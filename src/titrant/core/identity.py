"""Names that follow from content: canonical JSON, fingerprints, content keys, and the only source of randomness.

Everything that is named here is named by a hash of what it is, so that the order of a file, the time of day and the
machine never change a draw, a key or a run's name.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


_PLAIN = frozenset({str, int, float, bool, type(None)})
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, no NaN; dataclasses become objects, tuples arrays.

    >>> canonical_json({"b": (1, 2), "a": "é"})
    '{"a":"é","b":[1,2]}'
    """
    return _ENCODER.encode(plain(value))


def plain(value: Any) -> Any:
    """Dataclasses, mappings and tuples as the plain dicts and lists that JSON knows; `Path` as text."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is list or kind is tuple:
        return [item if type(item) in _PLAIN else plain(item) for item in value]
    if hasattr(kind, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in kind.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, frozenset | set):
        return sorted(plain(item) for item in value)
    if isinstance(value, Path):
        return str(value)
    return value


def fingerprint(value: Any, *, length: int = 32) -> str:
    """The first `length` hex digits of the SHA-256 of the canonical JSON. Lone surrogates hash like any other text."""
    return hash_text(canonical_json(value), length=length)


def hash_text(text: str, *, length: int = 64) -> str:
    """The first `length` hex digits of the SHA-256 of `text` in UTF-8."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]


def hash_bytes(data: bytes) -> str:
    """The SHA-256 of bytes, in hex, as `hash_file` gives it."""
    return hashlib.sha256(data).hexdigest()


def hash_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def content_keys(contents: Iterable[Any]) -> list[str]:
    """A key for each content: its hash and how many equal contents came before it, so equal rows stay distinct.

    >>> [key[-2:] for key in content_keys(["a", "b", "a"])]
    ['.0', '.0', '.1']
    """
    seen: Counter[str] = Counter()
    keys = []
    for content in contents:
        # By content and occurrence, never by line number: moving a row must not move its key, and with it draws and run
        # names.
        digest = fingerprint(content)
        keys.append(f"{digest}.{seen[digest]}")
        seen[digest] += 1
    return keys


def rng_for(seed: int, *names: str | int) -> np.random.Generator:
    """The generator of the stream that `names` name under `seed`: independent streams for independent names.

    >>> int(rng_for(0, "order").integers(1000)) == int(rng_for(0, "order").integers(1000))
    True
    >>> int(rng_for(0, "order").integers(10**9)) == int(rng_for(0, "weights").integers(10**9))
    False
    """
    import numpy as np

    # Seed and names hashed together: `seed + 1` of one stream would be the next seed's stream of another.
    digest = hashlib.sha256(canonical_json([seed, *names]).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))
