"""A model of the hub, in the local cache of huggingface_hub: what is there already is used without asking the network.

Where the network does not answer, the error comes within five seconds. No token is ever put into a message.
"""

from __future__ import annotations

import http.client
import importlib
import importlib.util
import logging
import threading
import urllib.error
import urllib.request
from pathlib import Path

from titrant.core.errors import ModelError
from titrant.core.hub import hub_cache, hub_endpoint, hub_is_off, shown_address

_ANSWER_SECONDS = 2.0
_LONGEST_WAIT_SECONDS = 2.5  # the whole command is to fail within five, and it has to start first
log = logging.getLogger(__name__)


def hub_snapshot(repository: str, revision: str | None, *, allow_pickle: bool, allow_remote_code: bool) -> Path:
    """The folder of `repository` at `revision` (its main branch when None) in the hub's cache; fetched when it is not.

    `ModelError` when it is not cached and the hub does not answer, does not have it, or does not let us.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    endpoint = hub_endpoint(ModelError)
    patterns = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt", "README.md"]
    patterns += ["*.bin"] * allow_pickle + ["*.py"] * allow_remote_code
    wanted: dict[str, object] = {
        "revision": revision,
        "cache_dir": hub_cache(),
        "endpoint": endpoint,
        "allow_patterns": patterns,
        "ignore_patterns": ["*/*", "consolidated*"],
        "etag_timeout": _ANSWER_SECONDS,
    }
    name = f"{repository}@{revision}" if revision else repository
    try:
        folder = Path(snapshot_download(repository, local_files_only=True, **wanted))
        if snapshot_is_whole(folder, allow_pickle):
            return folder
    except LocalEntryNotFoundError:
        pass
    if hub_is_off():
        raise _not_here(name, "HF_HUB_OFFLINE is set", endpoint)
    _wait_for_answer(name, endpoint, repository)
    log.info("fetching %s from %s", name, shown_address(endpoint))
    return _fetched(name, repository, endpoint, wanted)


def snapshot_is_whole(folder: Path, allow_pickle: bool) -> bool:
    """Whether a cached snapshot holds a configuration, a tokenizer and all its weights."""
    from titrant.backends.hf.models.resolve import folder_files

    try:
        folder_files(folder, allow_pickle=allow_pickle, allow_remote_code=True)
    except ModelError:
        return False
    return True


def _fetched(name: str, repository: str, endpoint: str, wanted: dict[str, object]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return Path(snapshot_download(repository, **wanted))
    except GatedRepoError as error:
        fix = "accept its terms on the hub, then log in with `hf auth login`"
        raise ModelError("this model is open only to those who accepted its terms", where=name, fix=fix) from error
    except RevisionNotFoundError as error:
        raise ModelError("the hub has no such revision of this model", where=name, fix="check it") from error
    except RepositoryNotFoundError as error:
        fix = "check the name; for a private model log in with `hf auth login`"
        raise ModelError(f"{shown_address(endpoint)} has no such model", where=name, fix=fix) from error
    except _transport_errors() as error:
        raise _not_here(name, type(error).__name__, endpoint) from error


def _transport_errors() -> tuple[type[Exception], ...]:
    """What a fetch can fail with: the disk, the hub's answers, and the HTTP client that huggingface_hub brings."""
    clients = [client for client in ("httpx2", "httpx") if importlib.util.find_spec(client)]
    return (OSError, ValueError, *(importlib.import_module(client).HTTPError for client in clients))


def _wait_for_answer(name: str, endpoint: str, repository: str) -> None:
    """Return when the hub answers anything at all; `ModelError` when it does not in time.

    In a thread, because looking up an address can hang for longer than any timeout of a socket.
    """
    outcome: list[str] = []

    def ask() -> None:
        request = urllib.request.Request(f"{endpoint}/api/models/{repository}", method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS):
                outcome.append("")
        except urllib.error.HTTPError as error:
            error.close()
            outcome.append("")
        except (OSError, http.client.HTTPException) as error:
            outcome.append(str(getattr(error, "reason", None) or type(error).__name__))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_LONGEST_WAIT_SECONDS)
    problem = outcome[0] if outcome else f"no answer in {_LONGEST_WAIT_SECONDS:.0f} seconds"
    if problem:
        raise _not_here(name, problem, endpoint)


def _not_here(name: str, problem: str, endpoint: str) -> ModelError:
    repository, _, revision = name.partition("@")
    command = f"hf download {repository}" + (f" --revision {revision}" if revision else "")
    return ModelError(
        f"this model is not in the local cache and could not be fetched from {shown_address(endpoint)}",
        where=name,
        got=problem,
        expected=f"a whole copy in {hub_cache()}",
        fix=f"run `{command}` where there is a network, or name a local folder or a .gguf file",
    )
