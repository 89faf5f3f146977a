"""The process: readiness, draining on SIGTERM, refusal to be open to the world without a key, stubborn clients."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from qianwen.cli.serve import ServeOptions, door_for
from qianwen.runtime.errors import ConfigError
from qianwen.serve import app
from qianwen.serve.admission import Limits
from qianwen.serve.store import Store

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
SERVER = """
import sys
sys.path.insert(0, {tests!r})
import conftest
import torch
from qianwen.serve.app import serve
torch.set_num_threads(1)
engine = conftest.LLMEngine(conftest.tiny_model(), conftest.tiny_tokenizer(), conftest.EngineConfig(num_blocks=256))
served = conftest.Served("tiny", conftest.Bridge(engine), engine.tokenizer, engine.max_model_len)
service = conftest.Service([served], conftest.Admission(conftest.Limits(drain_seconds=20)))
listener = conftest.listen("127.0.0.1", 0)
print(listener.getsockname()[1], flush=True)
serve(conftest.create_app(service, conftest.Door()), service, "127.0.0.1", 0, [listener])
print("stopped", flush=True)
"""


def test_state_routes(server):
    with server.client() as client:
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/ready").status_code == 200
        client.post("/v1/chat/completions", json=CHAT)
        lines = client.get("/metrics").text.splitlines()
        assert any(re.match(r"qianwen_completion_tokens_total [1-9]", line) for line in lines)
        assert 'qianwen_http_requests_total{route="/v1/chat/completions",status="200"} 1' in lines
        assert client.get("/nowhere").json()["error"]["message"]
        assert client.get("/v1/chat/completions").status_code == 405


def test_draining_takes_nobody_in(start):
    with start() as server, server.client() as client:
        server.service.admission.draining = True
        assert client.get("/ready").status_code == 503
        assert client.get("/health").status_code == 200
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 503


def test_what_we_did_not_foresee_is_a_500_without_the_prompt_in_the_log(start, caplog, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("my secret prompt")

    with start() as server, server.client() as client:
        monkeypatch.setattr(type(server.service), "model", broken)
        response = client.post("/v1/chat/completions", json=CHAT)
    assert response.status_code == 500 and "secret" not in response.text
    assert "RuntimeError" in caplog.text and "secret" not in caplog.text


def test_a_slow_head_and_a_slow_body_are_hung_up_on(start, monkeypatch):
    """R35: neither keeps others waiting."""
    monkeypatch.setattr(app, "HEADER_SECONDS", 0.5)
    with start(limits=Limits(body_timeout=0.5)) as server, server.client() as client:
        port = int(server.url.rpartition(":")[2])
        with (
            socket.create_connection(("127.0.0.1", port)) as head,
            socket.create_connection(("127.0.0.1", port)) as body,
        ):
            head.sendall(b"POST /tokenize HTTP/1.1\r\nHost: local")
            body.sendall(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
            started = time.monotonic()
            assert client.get("/health").status_code == 200
            assert time.monotonic() - started < 2
            head.settimeout(10)
            body.settimeout(10)
            assert head.recv(100) == b""
            assert b"408" in body.recv(1000)


def test_sigterm_lets_a_running_answer_finish(tmp_path):
    """R38."""
    script = SERVER.format(tests=str(Path(__file__).parent))
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        url, got, began = f"http://127.0.0.1:{port}", [], threading.Event()
        body = {"model": "tiny", "prompt": "x", "max_tokens": 600, "ignore_eos": True, "stream": True}

        def ask() -> None:
            with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=60, trust_env=False) as response:
                for line in response.iter_lines():
                    began.set()
                    got.extend([line] if line.startswith("data: ") else [])

        thread = threading.Thread(target=ask)
        thread.start()
        assert began.wait(60)
        process.send_signal(signal.SIGTERM)
        thread.join(60)
        assert got[-1] == "data: [DONE]"
        assert json.loads(got[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
        assert process.stdout.readline() == "stopped\n"
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_the_world_is_let_in_only_with_a_key():
    store = Store(":memory:")
    with pytest.raises(ConfigError, match="keys add"):
        door_for(ServeOptions(("m",), host="0.0.0.0"), store)
    assert not door_for(ServeOptions(("m",)), store).keys_required
    store.add_key("ann")
    assert door_for(ServeOptions(("m",), host="0.0.0.0"), store).keys_required
    assert door_for(ServeOptions(("m",), require_key=True), store).keys_required
    store.close()
