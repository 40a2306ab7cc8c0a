"""Data files of a hub dataset, as plain files: `hub:org/name[@revision][:[config/]split]`.

The repository's files are fetched and read by this project's own readers, not by the `datasets` library: so no code
from the hub can run, and a date or `010` in a CSV stays what it was. Splits are those that the library would find
(`layouts`).

A revision that is a full commit hash is taken from the local cache when all of the split lies there. Without network
the cached copy of the asked revision is used, if there is one; the commit that was read stands in the place of every
row. The list of a commit's files is kept beside its cached files, so that half a split is never taken for the whole.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from titrant.core.errors import DataError
from titrant.core.hub import hub_cache, hub_endpoint, hub_is_off
from titrant.core.redaction import redacted
from titrant.data.readers.class_names import ClassNames, names_in_folder
from titrant.data.readers.file_kinds import ARCHIVES, kind_of
from titrant.data.readers.layouts import choose_split, is_data, splits_of
from titrant.storage.atomic import write_text
from titrant.storage.json_files import read_json, write_json

HUB_PREFIX = "hub:"
NETWORK_SECONDS = 2.5  # the whole command is to fail within five, and it has to start first
_ADDRESS = re.compile(
    r"hub:(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?(?::(?:(?P<config>[\w.-]+)/)?(?P<split>[\w.-]+))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<rest>\.[^/]*)$")
_LARGEST_HEADER = 1 << 20  # characters
_MOST_ALIASES = 20  # each may stand for a value that holds others: they multiply
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAddress:
    """What `hub:org/name@revision:config/split` says. `revision` is `main` and the others None where unsaid."""

    repository: str
    revision: str
    config: str | None
    split: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """One data file on this machine, and its name in messages: `hub:org/name@commit/path`."""

    path: Path
    name: str


def parse_address(text: str) -> HubAddress:
    """The parts of a hub address; `DataError` where it is none."""
    match = _ADDRESS.fullmatch(text)
    if match is None or ".." in (match["revision"] or "").split("/"):
        raise DataError("this is no address of a hub dataset", got=text, expected="hub:org/name[@revision][:split]")
    return HubAddress(
        repository=match["repository"],
        revision=match["revision"] or "main",
        config=match["config"],
        split=match["split"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFacts:
    """What the hub says of one split at one commit; None where it does not say."""

    revision: str
    licence: str | None
    rows: int | None
    download_bytes: int | None


def dataset_facts(text: str) -> HubFacts:
    """Ask the hub for the commit, licence and size of an address; `DataError` where it cannot be reached.

    Rows are those that the card's header counts for the split. The cache is not asked: what it holds may be old.
    """
    address = parse_address(text)
    try:
        _refuse_offline()
        info = _dataset_info(address, text, files=True)
    except _Unreachable as error:
        raise DataError(
            f"{address.repository} cannot be looked up: the hub cannot be reached ({error})",
            where=text,
            fix="connect to the network once, or name a local file: rows: FILE",
        ) from error
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings}
    header = info.card_data.to_dict() if info.card_data is not None else {}
    chosen = choose_files(sorted(sizes), header, address, text)
    known = [size for name in chosen if (size := sizes[name]) is not None]
    return HubFacts(
        revision=info.sha,
        licence=_licence_of(header),
        rows=_rows_of(header, address),
        download_bytes=sum(known) if len(known) == len(chosen) else None,
    )


def _licence_of(header: dict[str, Any]) -> str | None:
    licence = header.get("license")
    name = header.get("license_name")
    if licence == "other" and isinstance(name, str):
        return name
    if isinstance(licence, list):
        return ", ".join(map(str, licence)) or None
    return None if licence is None else str(licence)


def _rows_of(header: dict[str, Any], address: HubAddress) -> int | None:
    """The number of rows that a card's `dataset_info` gives for the split."""
    infos = header.get("dataset_info")
    for info in infos if isinstance(infos, list) else [infos]:
        if not isinstance(info, dict) or address.config not in (None, info.get("config_name")):
            continue
        splits = [split for split in info.get("splits") or () if isinstance(split, dict)]
        for split in splits:
            if split.get("name") == (address.split or "train") and isinstance(split.get("num_examples"), int):
                return int(split["num_examples"])
    return None


def class_names_of_hub(text: str) -> ClassNames:
    """The names of classes that the card of an address has, by the cached commit; none before it was fetched."""
    address = parse_address(text)
    snapshot = _cached_snapshot(address)
    return {} if snapshot is None else names_in_folder(snapshot, _cached_header(snapshot, text), address.config)


def hub_files(text: str) -> tuple[HubFile, ...]:
    """The data files of the addressed split, downloaded where they are not in the cache yet."""
    address = parse_address(text)
    snapshot = _cached_snapshot(address)
    if snapshot is not None and _COMMIT.fullmatch(address.revision):
        chosen = _listed_in(snapshot, address, text)
        if chosen is not None and all((snapshot / name).is_file() for name in chosen):
            return _named(snapshot, chosen, address)
    try:
        _refuse_offline()
        return _download(address, text)
    except _Unreachable as error:
        why = str(error)
    if snapshot is not None:
        return _files_in(snapshot, address, text)
    raise DataError(
        f"the dataset {address.repository} at revision {address.revision} is not in the cache, "
        f"and the hub cannot be reached ({why})",
        where=text,
        got=str(hub_cache()),
        fix="connect to the network once, or give a local file in its place",
    )


class _Unreachable(Exception):
    """The hub did not answer."""


def _refuse_offline() -> None:
    if hub_is_off():
        raise _Unreachable("HF_HUB_OFFLINE is set")


def _repository_folder(address: HubAddress) -> Path:
    return hub_cache() / f"datasets--{address.repository.replace('/', '--')}"


def _remember_commit(address: HubAddress, commit: str) -> None:
    """Keep which commit a branch or tag was, where huggingface_hub keeps it: it does so only for files that are asked
    for by that name, and without it the cache has no answer once the network is gone."""
    if not _COMMIT.fullmatch(address.revision):
        write_text(_repository_folder(address) / "refs" / address.revision, commit)


def commit_read(text: str) -> str:
    """The commit of an address that was read last, by the cache alone; `DataError` where nothing was."""
    snapshot = _cached_snapshot(parse_address(text))
    if snapshot is None:
        raise DataError("the dataset is no longer in the cache", where=text, got=str(hub_cache()))
    return snapshot.name


def _cached_snapshot(address: HubAddress) -> Path | None:
    """The folder of the cached commit that the address means, if any."""
    folder = _repository_folder(address)
    reference = folder / "refs" / address.revision
    commit = reference.read_text().strip() if reference.is_file() else address.revision
    snapshot = folder / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None


def _files_in(snapshot: Path, address: HubAddress, text: str) -> tuple[HubFile, ...]:
    """The files of the split in a cached commit; `DataError` where some are not there, as far as that can be told."""
    chosen = _listed_in(snapshot, address, text)
    if chosen is None:
        names = [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()]
        chosen = choose_files(sorted(names), _cached_header(snapshot, text), address, text)
        _refuse_missing_shards(chosen, text)
    missing = [name for name in chosen if not (snapshot / name).is_file()]
    if missing:
        raise _incomplete(f"{len(chosen) - len(missing)} of {len(chosen)} files", missing[0], text)
    return _named(snapshot, chosen, address)


def _named(snapshot: Path, names: Sequence[str], address: HubAddress) -> tuple[HubFile, ...]:
    prefix = f"hub:{address.repository}@{snapshot.name}"
    return tuple(HubFile(path=snapshot / name, name=f"{prefix}/{name}") for name in names)


def _listed_in(snapshot: Path, address: HubAddress, text: str) -> tuple[str, ...] | None:
    """The files of the split by the list of all files of the commit, where that was kept: the cache itself holds only
    what was fetched, which may be another split, or half of this one."""
    listing = _listing(snapshot)
    if not listing.is_file():
        return None
    return choose_files(read_json(listing), _cached_header(snapshot, text), address, text)


def _listing(snapshot: Path) -> Path:
    return snapshot.parent.parent / "listings" / f"{snapshot.name}.json"


def _cached_header(snapshot: Path, text: str) -> dict[str, Any]:
    card = snapshot / "README.md"
    return front_matter(card.read_text("utf-8"), text) if card.is_file() else {}


def _download(address: HubAddress, text: str) -> tuple[HubFile, ...]:
    import huggingface_hub

    info = _dataset_info(address, text, files=False)

    def fetched(name: str) -> Path:
        return Path(
            huggingface_hub.hf_hub_download(
                address.repository,
                name,
                repo_type="dataset",
                revision=info.sha,
                cache_dir=hub_cache(),
                endpoint=hub_endpoint(DataError),
            )
        )

    names = sorted(sibling.rfilename for sibling in info.siblings)
    write_json(_listing(_repository_folder(address) / "snapshots" / info.sha), names)
    card = _asked(lambda: fetched("README.md").read_text("utf-8"), address, text) if "README.md" in names else ""
    chosen = choose_files(names, front_matter(card, text), address, text)
    prefix = f"hub:{address.repository}@{info.sha}"
    paths = _asked(lambda: [fetched(name) for name in chosen], address, text)
    _remember_commit(address, info.sha)
    return tuple(HubFile(path=path, name=f"{prefix}/{name}") for path, name in zip(paths, chosen, strict=True))


def _dataset_info(address: HubAddress, text: str, *, files: bool) -> Any:
    """What the hub says of a dataset; `files` asks for the size of each file too."""
    import huggingface_hub

    endpoint = hub_endpoint(DataError)
    return _within(
        lambda: huggingface_hub.HfApi(endpoint=endpoint).dataset_info(
            address.repository, revision=address.revision, timeout=NETWORK_SECONDS, files_metadata=files
        ),
        address,
        text,
    )


def _asked(call: Callable[[], _Result], address: HubAddress, text: str) -> _Result:
    """The result of a call to the hub; what it answers becomes a `DataError`, its silence `_Unreachable`."""
    from huggingface_hub import errors

    try:
        return call()
    except errors.GatedRepoError as error:
        raise DataError(
            f"the dataset {address.repository} wants its terms accepted", where=text, fix="huggingface-cli login"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise DataError(f"{address.repository} has no such revision", where=text, got=address.revision) from error
    except errors.RepositoryNotFoundError as error:
        raise DataError("the hub has no such dataset", where=text, got=address.repository) from error
    except errors.HfHubHTTPError as error:
        raise _Unreachable(redacted(str(error).splitlines()[0])) from error


def _within(call: Callable[[], _Result], address: HubAddress, text: str) -> _Result:
    """`_asked`, within `NETWORK_SECONDS`: name look-ups and retries know no time limit of their own."""
    results: list[_Result] = []
    failures: list[Exception] = []

    def work() -> None:
        try:
            results.append(_asked(call, address, text))
        except Exception as error:  # noqa: BLE001 (carried to the calling thread, which raises it)
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(NETWORK_SECONDS)
    if results:
        return results[0]
    if not failures:
        raise _Unreachable(f"no answer within {NETWORK_SECONDS:g} s")
    if isinstance(failures[0], DataError | _Unreachable):
        raise failures[0]
    raise _Unreachable(redacted(f"{type(failures[0]).__name__}: {failures[0]}")) from failures[0]


def choose_files(names: Sequence[str], header: dict[str, Any], address: HubAddress, text: str) -> tuple[str, ...]:
    """The data files of one split among a repository's files; always at least one.

    `header` is that of its card: its `configs` decide, else the folders and names of the files.
    """
    data = [name for name in names if is_data(name) and kind_of(name) not in ARCHIVES]
    if not data:
        scripts = [name for name in names if name.endswith(".py")]
        if scripts:
            raise DataError(
                "the dataset is a loading script, and code from the hub is never run",
                where=text,
                got=", ".join(scripts),
                fix="choose a revision with data files, such as @refs/convert/parquet",
            )
        raise DataError("the dataset has no data files that can be read", where=text, got=", ".join(names[:20]))
    fix = f"hub:{address.repository}:<configuration>/<split>"
    splits = splits_of(data, header, address.config, where=text, fix=fix)
    return choose_split(splits, address.split, of="the dataset", where=text, fix=f"{text}:<split>")


def front_matter(card: str, text: str) -> dict[str, Any]:
    """The YAML between the two `---` at the top of a dataset card."""
    match = re.match(r"---\r?\n(.*?)\r?\n---", card, re.DOTALL)
    if match is None:
        return {}
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.events import AliasEvent

    try:
        aliases = sum(isinstance(event, AliasEvent) for event in YAML(typ="safe", pure=True).parse(match[1]))
        if len(match[1]) > _LARGEST_HEADER or aliases > _MOST_ALIASES:
            raise DataError(
                "the header of the dataset's README.md is no honest one", where=text, got=f"{aliases} aliases"
            )
        value = YAML(typ="safe", pure=True).load(match[1])
    except (YAMLError, ValueError, TypeError, AttributeError, IndexError, RecursionError, NotImplementedError) as error:
        # ruamel.yaml lets more than its own errors escape on malformed input
        if isinstance(error, DataError):
            raise
        raise DataError("the header of the dataset's README.md is no YAML", where=text) from error
    return value if isinstance(value, dict) else {}


def _refuse_missing_shards(names: Sequence[str], text: str) -> None:
    """A cache can hold half a split; its shards say how many they are."""
    for name in names:
        match = _SHARD.match(name)
        if match is None:
            continue
        count = int(match["count"])
        wanted = [f"{match['stem']}-{number:05d}-of-{count:05d}{match['rest']}" for number in range(count)]
        missing = [other for other in wanted if other not in names]
        if missing:
            raise _incomplete(f"{count - len(missing)} of {count} files", missing[0], text)


def _incomplete(got: str, missing: str, text: str) -> DataError:
    return DataError(
        "the cached copy is incomplete", where=text, got=got, expected=missing, fix="connect to the network once"
    )
