"""A small mirror of the hub on this machine: one dataset of real layout, as much of the API as a download asks for."""

import hashlib
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from ruamel.yaml import YAML

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _parquet(*prompts: str) -> bytes:
    target = io.BytesIO()
    pq.write_table(pa.table({"prompt": list(prompts), "completion": ["010"] * len(prompts)}), target)
    return target.getvalue()


FILES = {
    "README.md": b"---\nlicense: mit\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n"
    b"    path: data/train-*\n  - split: test\n    path: data/test-*\n---\n# A card\n",
    "data/train-00000-of-00002.parquet": _parquet("a", "b"),
    "data/train-00001-of-00002.parquet": _parquet("c"),
    "data/test-00000-of-00001.parquet": _parquet("d"),
    "evil.py": b"raise SystemExit('code from the hub ran')",
}


class Mirror(BaseHTTPRequestHandler):
    """As much of the hub as a download asks for. `repositories` holds the files of each dataset, by name."""

    asked: ClassVar[list[str]] = []
    repositories: ClassVar[dict[str, dict[str, bytes]]] = {}
    branches: ClassVar[tuple[str, ...]] = ("main", "refs/convert/parquet", COMMIT)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        self.asked.append(self.path)
        content, status = self._content()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _content(self) -> tuple[bytes, int]:
        path, _, query = self.path.partition("?")
        for name, files in self.repositories.items():
            revision = unquote(path.removeprefix(f"/api/datasets/{name}/revision/"))
            if path.startswith(f"/api/datasets/{name}/") and revision in self.branches:
                return json.dumps(_info(name, files, sizes="blobs" in query)).encode(), 200
            inside = path.removeprefix(f"/datasets/{name}/resolve/{COMMIT}/")
            if inside in files:
                return files[inside], 200
        return b"{}", 404

    def log_message(self, format: str, *arguments: object) -> None:
        return None


def _info(name: str, files: dict[str, bytes], *, sizes: bool) -> dict[str, Any]:
    """What the hub's API answers: the commit, the files, and the card's header as it stands in README.md."""
    siblings = [{"rfilename": file, **({"size": len(data)} if sizes else {})} for file, data in files.items()]
    header = YAML(typ="safe", pure=True).load(files["README.md"].split(b"---")[1]) if "README.md" in files else None
    return {"id": name, "sha": COMMIT, "siblings": siblings, **({"cardData": header} if header else {})}


@contextmanager
def running(repositories: dict[str, dict[str, bytes]] | None = None) -> Iterator[str]:
    """The mirror's address while it runs."""
    Mirror.repositories = {"team/rows": FILES} if repositories is None else repositories
    Mirror.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
