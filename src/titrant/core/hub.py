"""Where the hub is, by the environment variables of huggingface_hub, read at every call.

`HF_ENDPOINT` must be https, or this machine: a token goes to that address, and weights and rows come from it.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from urllib.parse import urlsplit

from titrant.core.errors import UserError

_DEFAULT_ENDPOINT = "https://huggingface.co"


def hub_endpoint(error: type[UserError]) -> str:
    """The address of the hub: `HF_ENDPOINT`, https or this machine, no password in it; else an `error`."""
    endpoint = (os.environ.get("HF_ENDPOINT") or _DEFAULT_ENDPOINT).rstrip("/")
    try:
        parts = urlsplit(endpoint)
        port = parts.port
    except ValueError as problem:
        raise error("this is no address of a hub", where="HF_ENDPOINT", got=problem, fix="unset it") from None
    if parts.username or parts.password:
        shown = shown_address(endpoint)
        raise error(
            "the address of the hub carries a password", where="HF_ENDPOINT", got=shown, fix="put the token in HF_TOKEN"
        )
    safe = parts.scheme == "https" or (parts.scheme == "http" and is_this_machine(parts.hostname or ""))
    if safe and parts.hostname and port != 0:
        return endpoint
    raise error(
        "the address of the hub is not safe: anyone on the way could read the token and exchange what is fetched",
        where="HF_ENDPOINT",
        got=shown_address(endpoint),
        expected="an https address, or one of this machine",
        fix="set HF_ENDPOINT to an https address or unset it",
    )


def hub_cache() -> Path:
    """Where huggingface_hub keeps files: `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`."""
    if named := os.environ.get("HF_HUB_CACHE"):
        return Path(named).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    return Path(home).expanduser() / "hub"


def hub_is_off() -> bool:
    """Whether `HF_HUB_OFFLINE` forbids to ask the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in {"1", "true", "yes", "on"}


def shown_address(endpoint: str) -> str:
    """An address without the name and password that it may carry."""
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


def is_this_machine(host: str) -> bool:
    """Whether a host is this machine and no other can ever stand behind the name."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
