"""A model of the hub: from a mirror on this machine that answers as it does, from the cache, without a network."""

import hashlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from clock import own_seconds

from titrant.backends.hf.models.hub import hub_cache, hub_endpoint
from titrant.backends.hf.models.prepare import prepare
from titrant.backends.hf.models.resolve import resolve
from titrant.core.errors import ModelError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "maker/toy"


class Mirror(ThreadingHTTPServer):
    """The parts of the hub's API that a download uses: model info, tree, resolve with etags."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), MirrorHandler)
        self.files, self.asked = files, list[str]()
        self.tokens: list[str | None] = []
        self.elsewhere = ""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class MirrorHandler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        self.server.tokens.append(self.headers.get("Authorization"))
        api, resolved = f"/api/models/{REPOSITORY}", f"/{REPOSITORY}/resolve/{COMMIT}/"
        if path == f"{api}/tree/{COMMIT}":
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in self.server.files.items()
            ]
            self.answer(200, json.dumps(entries).encode())
        elif path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
            siblings = [{"rfilename": name} for name in self.server.files]
            self.answer(200, json.dumps({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings}).encode())
        elif path.startswith(f"{api}/revision/"):
            self.answer(404, b'{"error":"Invalid rev id"}', **{"X-Error-Code": "RevisionNotFound"})
        elif path.startswith(resolved) and (name := path.removeprefix(resolved)) in self.server.files:
            data = self.server.files[name]
            if self.server.elsewhere and name.endswith(".safetensors"):
                here = {"X-Linked-Etag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Linked-Size": str(len(data))}
                location = f"{self.server.elsewhere}{self.path}"
                self.answer(302, b"", **here, Location=location, **{"X-Repo-Commit": COMMIT})
                return
            etag = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
            self.answer(200, data, **etag)
        else:
            self.answer(404, b'{"error":"Repository not found"}', **{"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def answer(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), "Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        return


@pytest.fixture
def mirror(make_toy_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    folder = make_toy_folder(tmp_path / "toy")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Toy\n")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    server = Mirror({**files, "pytorch_model.bin": b"never fetched", "onnx/model.json": b"never fetched"})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def error_of(spec: str) -> str:
    began = own_seconds()
    with pytest.raises(ModelError) as caught:
        resolve(spec)
    assert own_seconds() - began < 5
    return str(caught.value)


def test_a_model_is_fetched_once_and_then_found_without_the_network(mirror: Mirror, tmp_path: Path) -> None:
    model = prepare(REPOSITORY, cache=tmp_path / "cache")
    assert (model.name, model.origin, model.licence) == (REPOSITORY, f"{REPOSITORY}@{COMMIT[:12]}", "apache-2.0")
    fetched = {line.rpartition("/")[2] for line in mirror.asked if line.startswith("GET /maker")}
    assert "model.safetensors" in fetched
    assert not fetched & {"pytorch_model.bin", "model.json"}
    mirror.asked.clear()
    assert prepare(REPOSITORY, cache=tmp_path / "cache") == model
    assert mirror.asked == []


def test_the_token_goes_to_the_hub_and_not_where_it_sends_us(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = Mirror(mirror.files)
    thread = threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    mirror.elsewhere = other.address.replace("127.0.0.1", "localhost")
    monkeypatch.setenv("HF_TOKEN", "hf_for_the_hub_alone")
    try:
        resolve(REPOSITORY)
    finally:
        other.shutdown()
        other.server_close()
        thread.join()
    assert "Bearer hf_for_the_hub_alone" in mirror.tokens
    assert other.asked, "the weights came from elsewhere"
    assert set(other.tokens) == {None}


def test_a_revision_is_part_of_the_spec(mirror: Mirror) -> None:
    assert resolve(f"{REPOSITORY}@{COMMIT}").path.name == COMMIT
    assert "no such revision" in error_of(f"{REPOSITORY}@nothing")


def test_a_cached_model_with_a_part_missing_is_completed(mirror: Mirror) -> None:
    files = resolve(REPOSITORY)
    blob = files.weights[0].resolve()
    files.weights[0].unlink()
    blob.unlink()
    assert resolve(REPOSITORY).weights[0].is_file()


def test_an_unknown_model_is_named(mirror: Mirror) -> None:
    assert "maker/nothing" in error_of("maker/nothing")


def test_pickles_of_the_hub_are_not_even_fetched(mirror: Mirror) -> None:
    del mirror.files["model.safetensors"]
    assert "no weights" in error_of(REPOSITORY)
    assert not any("pytorch_model.bin" in line for line in mirror.asked)


def test_without_a_network_the_error_comes_soon_and_names_the_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        message = error_of("maker/toy@v1")
    assert message.startswith("maker/toy@v1: this model is not in the local cache")
    assert "hf download maker/toy --revision v1" in message


def test_a_hub_that_never_answers_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "maker/toy" in error_of("maker/toy")


def test_offline_asks_nobody(monkeypatch: pytest.MonkeyPatch, mirror: Mirror) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in error_of(REPOSITORY)
    assert mirror.asked == []


@pytest.mark.parametrize(
    "endpoint", ["http://hub.example", "ftp://127.0.0.1", "file:///etc", "http://127.0.0.1.evil.example", "nonsense"]
)
def test_an_endpoint_is_https_or_this_machine(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert "not safe" in error_of("maker/toy")


def test_safe_endpoints_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    for endpoint in ["https://mirror.example/hub", "http://localhost:8080", "http://[::1]:80", "http://127.0.0.1"]:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        assert hub_endpoint(ModelError) == endpoint


@pytest.mark.parametrize("endpoint", ["http://name:hidden@hub.example", "https://name:hidden@127.0.0.1:9"])
def test_secrets_are_in_no_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, endpoint: str) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "hf_hidden")
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert "hidden" not in error_of("maker/toy")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "hidden" not in error_of("maker/toy")


def test_the_cache_of_the_hub_is_found_as_huggingface_hub_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "/h")
    assert hub_cache() == Path("/h/hub")
    monkeypatch.setenv("HF_HUB_CACHE", "/c")
    assert hub_cache() == Path("/c")
