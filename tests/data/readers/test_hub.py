"""Hub datasets: from a small mirror of the hub on this machine, from the cache, and without either."""

from collections.abc import Iterator
from pathlib import Path

import hub_mirror
import pytest
from clock import own_seconds

from titrant.core.errors import DataError
from titrant.data.readers import load_examples
from titrant.data.readers.hub import HubAddress, choose_files, front_matter, parse_address

COMMIT, FILES = hub_mirror.COMMIT, hub_mirror.FILES


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    with hub_mirror.running() as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        yield str(tmp_path / "hub")


def cached(root: Path, files: dict[str, bytes]) -> Path:
    """A dataset in the layout that huggingface_hub keeps."""
    folder = root / "datasets--team--rows"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    for name, content in files.items():
        path = folder / "snapshots" / COMMIT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def test_a_split_is_fetched_and_its_values_stay_what_they_were(mirror: str) -> None:
    rows = load_examples("hub:team/rows:train", source="s", task="t")
    assert [(row.turns[0].text, row.answer) for row in rows] == [("a", "010"), ("b", "010"), ("c", "010")]
    assert str(rows[2].origin) == f"hub:team/rows@{COMMIT}/data/train-00001-of-00002.parquet:1"
    assert not any("evil.py" in path for path in hub_mirror.Mirror.asked)


def test_a_pinned_commit_that_lies_in_the_cache_needs_no_network(mirror: str, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"hub:team/rows@{COMMIT}:test"
    first = load_examples(address, source="s", task="t")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert load_examples(address, source="s", task="t") == first


def test_another_split_of_a_pinned_commit_is_fetched_and_not_taken_for_missing(mirror: str) -> None:
    for split, prompts in (("test", ["d"]), ("train", ["a", "b", "c"])):
        rows = load_examples(f"hub:team/rows@{COMMIT}:{split}", source="s", task="t")
        assert [row.turns[0].text for row in rows] == prompts


def test_a_download_that_was_cut_off_is_never_read_as_the_whole_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"data/{name}.jsonl": b'{"prompt": "p", "completion": "c"}\n' for name in ("one", "two")}
    address = f"hub:team/rows@{COMMIT}"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with hub_mirror.running({"team/rows": files}) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        assert len(load_examples(address, source="s", task="t")) == 2
        (lost,) = tmp_path.rglob("snapshots/*/data/two.jsonl")
        lost.unlink()
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(DataError, match=r"incomplete .*1 of 2 files'; expected data/two\.jsonl"):
            load_examples(address, source="s", task="t")
        monkeypatch.delenv("HF_HUB_OFFLINE")
        assert len(load_examples(address, source="s", task="t")) == 2


def test_a_dataset_that_the_hub_does_not_have_is_named(mirror: str) -> None:
    with pytest.raises(DataError, match=r"hub:team/nothing: .*(no such dataset|cannot be reached)"):
        load_examples("hub:team/nothing", source="s", task="t")


def test_without_network_the_cached_copy_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(cached(tmp_path, FILES)))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert [row.turns[0].text for row in load_examples("hub:team/rows:test", source="s", task="t")] == ["d"]
    with pytest.raises(DataError, match=r"several splits .*test, train"):
        load_examples("hub:team/rows", source="s", task="t")
    with pytest.raises(DataError, match=r"no such split .*dev"):
        load_examples("hub:team/rows:dev", source="s", task="t")


def test_half_a_split_in_the_cache_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = {name: content for name, content in FILES.items() if "train-00000" not in name}
    monkeypatch.setenv("HF_HUB_CACHE", str(cached(tmp_path, half)))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match="incomplete"):
        load_examples("hub:team/rows:train", source="s", task="t")


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "https://no.such.host.invalid"])
def test_without_network_or_cache_the_error_names_what_is_missing_within_five_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    began = own_seconds()
    with pytest.raises(DataError, match=r"(?s)team/rows at revision v1 is not in the cache.*cannot be reached"):
        load_examples("hub:team/rows@v1:train", source="s", task="t")
    assert own_seconds() - began < 5


def test_no_token_goes_to_an_address_that_is_neither_https_nor_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reached(*_: object, **__: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "hf_hidden_from_all")
    for endpoint in (
        "http://hub.example",
        "ftp://127.0.0.1",
        "http://127.0.0.1.evil.example",
        "https://a:b@hub.example",
    ):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        with monkeypatch.context() as patch:
            patch.setattr("socket.getaddrinfo", reached)
            patch.setattr("socket.socket.connect", reached)
            with pytest.raises(DataError, match="HF_ENDPOINT"):
                load_examples("hub:team/rows", source="s", task="t")


def test_what_a_library_says_of_a_failure_is_told_without_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_hidden\x01_from_all")  # which no header can hold, and the client says so
    with pytest.raises(DataError, match="cannot be reached") as caught:
        load_examples("hub:team/rows", source="s", task="t")
    assert "hf_hidden" not in str(caught.value)


def test_a_hub_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr("titrant.data.readers.hub.NETWORK_SECONDS", 0.5)
        began = own_seconds()
        with pytest.raises(DataError, match="cannot be reached"):
            load_examples("hub:team/rows", source="s", task="t")
        assert own_seconds() - began < 5


@pytest.mark.parametrize("address", ["hub:rows", "hub:", "hub:a/b/c", "hub:a/b@", "hub:a/b:x:y", "hub:a/b@../../x"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(DataError, match="hub:org/name"):
        parse_address(address)


def test_an_address_says_repository_revision_configuration_and_split() -> None:
    assert parse_address("hub:a/b@refs/convert/parquet:en/test") == HubAddress(
        repository="a/b", revision="refs/convert/parquet", config="en", split="test"
    )
    assert parse_address("hub:a/b") == HubAddress(repository="a/b", revision="main", config=None, split=None)


@pytest.mark.parametrize(
    ("names", "card", "address", "expected"),
    [
        (["train.jsonl", "test.jsonl"], "", "hub:a/b:test", ("test.jsonl",)),
        (["data/dev.csv", "data/train.csv"], "", "hub:a/b:validation", ("data/dev.csv",)),
        (["rows.jsonl.gz", "README.md", "dataset_infos.json"], "", "hub:a/b", ("rows.jsonl.gz",)),
        (["contest/rows.csv"], "", "hub:a/b:train", ("contest/rows.csv",)),
        (
            ["en/x.csv", "de/x.csv"],
            "---\nconfigs:\n- config_name: en\n  data_files: en/*\n- config_name: de\n  data_files: de/*\n---\n",
            "hub:a/b:de/train",
            ("de/x.csv",),
        ),
        (["en/train/0000.parquet", "de/train/0000.parquet"], "", "hub:a/b:de/train", ("de/train/0000.parquet",)),
        (["train.jsonl", "eval.jsonl"], "", "hub:a/b:test", ("eval.jsonl",)),
        (
            ["data/train_sft-00000-of-00001.parquet", "data/test_sft-00000-of-00001.parquet"],
            "",
            "hub:a/b:train_sft",
            ("data/train_sft-00000-of-00001.parquet",),
        ),
        (
            ["v1/train.jsonl", "v2/train.jsonl", "v2/test.jsonl"],
            "---\nconfigs:\n- {config_name: old, data_dir: v1}\n- {config_name: new, data_dir: v2}\n---\n",
            "hub:a/b:old/train",
            ("v1/train.jsonl",),
        ),
    ],
)
def test_splits_are_found_as_the_hub_finds_them(
    names: list[str], card: str, address: str, expected: tuple[str, ...]
) -> None:
    assert choose_files(names, front_matter(card, address), parse_address(address), address) == expected


@pytest.mark.parametrize(
    ("names", "card", "message"),
    [
        (["rows.py"], "", "code from the hub is never run"),
        (["README.md", "model.bin"], "", "no data files"),
        (["x.csv"], "---\nconfigs:\n- config_name: en\n- config_name: de\n---\n", "which configuration"),
        (["x.csv"], "---\na: [\n---\n", "no YAML"),
        (["train.jsonl", "eval.jsonl"], "", r"several splits \(got 'test, train'\)"),
        (["data/a-00000-of-00001.csv", "data/b-00000-of-00001.csv"], "", r"several splits \(got 'a, b'\)"),
    ],
)
def test_a_dataset_that_cannot_be_read_without_guessing_is_refused(names: list[str], card: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        choose_files(names, front_matter(card, "hub:a/b"), parse_address("hub:a/b"), "hub:a/b")
