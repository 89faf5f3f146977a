"""Hub names, with small local servers that implement the protocols of the two hubs."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import pytest

from qianwen.checkpoints.hub import fetch_model, is_hub_name
from qianwen.runtime.errors import CheckpointError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"model_type": "qwen2"}',
    "model.safetensors": bytes(range(256)) * 4096,
    "qwen.tiktoken": b"IQ== 0\n",
    "pytorch_model.bin": b"a pickle nobody asked for",
    "modeling_qwen.py": b"raise SystemExit('code from a hub ran')",
    "original/params.json": b"{}",
}
WANTED = ["config.json", "model.safetensors", "qwen.tiktoken"]


class HubServer(BaseHTTPRequestHandler):
    """Both hubs for one model, `Org/Model`; `Org/Gated` asks for terms; anything else is not there."""

    cut_at: int | None = None  # the next download breaks off after so many bytes
    corrupt = False
    requests: list[tuple[str, str, str | None]]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        url = urlparse(self.path)
        cls = type(self)
        cls.requests.append((self.command, self.path, self.headers.get("Range")))
        if url.path.startswith("/api/v1/models/"):
            return self._modelscope(url.path.removeprefix("/api/v1/models/"), parse_qs(url.query), body)
        parts = url.path.removeprefix("/api/models/").strip("/").split("/")
        repo = "/".join(parts[:2])
        if repo == "Org/Gated":
            return self._send(403, b"{}", {"X-Error-Code": "GatedRepo"}, body)
        if repo != "Org/Model":
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)
        if parts[2] == "revision":
            if parts[3] not in ("main", COMMIT):
                return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body)
            return self._json({"id": repo, "modelId": repo, "sha": COMMIT, "siblings": []}, body)
        if parts[2] == "tree":
            tree = [{"type": "file", "path": k, "size": len(v), "oid": _sha(v)[:40]} for k, v in FILES.items()]
            return self._json(tree, body)
        name = "/".join(parts[4:])
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{_sha(FILES[name])[:40]}"'}
        self._send(200, FILES[name], headers, body)

    def _modelscope(self, path: str, query: dict[str, list[str]], body: bool) -> None:
        if not path.startswith("Org/Model/"):
            return self._json({"Code": 10010205001, "Message": "not found"}, body, status=404)
        if path.endswith("/repo/files"):
            listed = [{"Path": k, "Size": len(v), "Sha256": _sha(v), "Type": "blob"} for k, v in FILES.items()]
            escape = {"Path": "../escape.json", "Size": 1, "Sha256": _sha(b"x"), "Type": "blob"}
            folder = {"Path": "original", "Size": 0, "Sha256": "", "Type": "tree"}
            return self._json({"Code": 200, "Data": {"Files": [*listed, escape, folder]}}, body)
        data = FILES[query["FilePath"][0]]
        if type(self).corrupt:
            data = data[::-1]
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self._send(206 if start else 200, data[start:], {}, body)

    def _json(self, value: object, body: bool, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"}, body)

    def _send(self, status: int, data: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            cut = None
            if len(data) > 100_000:
                cut, type(self).cut_at = type(self).cut_at, None
            self.wfile.write(data[:cut])
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Quiet."""


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def serving() -> Iterator[tuple[str, type[HubServer]]]:
    handler = type("Handler", (HubServer,), {"requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def hub() -> Iterator[tuple[str, type[HubServer]]]:
    with serving() as started:
        yield started


def hugging_face(name: str, endpoint: str, home: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Fetch in a separate process, because `huggingface_hub` reads its variables when it is imported."""
    code = f"from qianwen.checkpoints.hub import fetch_model; print(fetch_model({name!r}))"
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    env = clean | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), **variables}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=100)


def test_hub_names_differ_from_paths() -> None:
    names = ["Qwen/Qwen2.5-0.5B-Instruct", "modelscope:Qwen/Qwen-7B-Chat", "Org/Model@v1.0", "modelscope:a/b@master"]
    assert all(map(is_hub_name, names))
    paths = ["model.gguf", "./runs/x", "/a/b", "a/b/c", "../a", "runs/", "a/../b", "a/.git", ""]
    assert not any(map(is_hub_name, paths))


def test_hugging_face_fetches_weights_config_and_vocabulary_only(hub, tmp_path) -> None:
    endpoint, handler = hub
    done = hugging_face("Org/Model", endpoint, tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "hub" / "models--Org--Model" / "snapshots" / COMMIT
    assert done.stdout.strip() == str(folder)
    assert sorted(file.name for file in folder.iterdir()) == WANTED
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    handler.requests.clear()
    offline = hugging_face("Org/Model", endpoint, tmp_path, HF_HUB_OFFLINE="1")
    assert offline.stdout == done.stdout
    assert handler.requests == []


@pytest.mark.parametrize(
    ("name", "variables", "said"),
    [
        ("Org/Nothing", {}, "has no model Org/Nothing"),
        ("Org/Gated", {}, "accept its terms"),
        ("Org/Model@nope", {}, "has no revision nope"),
        ("Org/Model", {"HF_HUB_OFFLINE": "1"}, "is not in the local cache"),
    ],
)
def test_hugging_face_errors_name_the_cause(hub, tmp_path, name: str, variables: dict[str, str], said: str) -> None:
    done = hugging_face(name, hub[0], tmp_path, **variables)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert "CheckpointError" in last and said in last


@pytest.fixture
def modelscope(hub, monkeypatch, tmp_path):
    monkeypatch.setenv("MODELSCOPE_DOMAIN", hub[0])
    monkeypatch.setenv("QIANWEN_CACHE", str(tmp_path))
    return hub[1]


def test_modelscope_downloads_are_checked_and_cached(modelscope, tmp_path) -> None:
    folder = fetch_model("modelscope:Org/Model")
    held = sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))
    assert held == sorted([*WANTED, "listing.json"])
    assert not (tmp_path / "escape.json").exists() and not (folder.parent / "escape.json").exists()
    modelscope.requests.clear()
    assert fetch_model("modelscope:Org/Model") == folder
    assert len(modelscope.requests) == 1  # only the listing


def test_modelscope_continues_a_broken_download(modelscope) -> None:
    modelscope.cut_at = 300_000
    folder = fetch_model("modelscope:Org/Model")
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    ranges = [asked for _, path, asked in modelscope.requests if "model.safetensors" in path]
    assert ranges[0] is None and ranges[1] is not None and int(ranges[1].removeprefix("bytes=").rstrip("-")) > 0


def test_modelscope_refuses_other_bytes_than_listed(modelscope) -> None:
    modelscope.corrupt = True
    with pytest.raises(CheckpointError, match="another SHA-256"):
        fetch_model("modelscope:Org/Model")
    modelscope.corrupt = False
    assert (fetch_model("modelscope:Org/Model") / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_modelscope_without_the_model_or_the_network(modelscope, monkeypatch) -> None:
    with pytest.raises(CheckpointError, match="no public model Org/Nothing"):
        fetch_model("modelscope:Org/Nothing")
    folder = fetch_model("modelscope:Org/Model")
    monkeypatch.setenv("MODELSCOPE_DOMAIN", "http://127.0.0.1:1")
    assert fetch_model("modelscope:Org/Model") == folder
    with pytest.raises(CheckpointError, match="cannot be reached"):
        fetch_model("modelscope:Org/Other")
