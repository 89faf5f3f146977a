"""The process: readiness, draining on SIGTERM, refusal to be open to the world without a key, stubborn clients."""

import re

import pytest

from qianwen.cli.serve import ServeOptions, door_for
from qianwen.runtime.errors import ConfigError
from qianwen.serve.store import Store

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}


def test_state_routes(server):
    with server.client() as client:
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/ready").status_code == 200
        client.post("/v1/chat/completions", json=CHAT)
        lines = client.get("/metrics").text.splitlines()
        assert any(re.match(r'qianwen_completion_tokens_total\{model="tiny"\} [1-9]', line) for line in lines)
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


def test_the_world_is_let_in_only_with_a_key():
    store = Store(":memory:")
    with pytest.raises(ConfigError, match="keys add"):
        door_for(ServeOptions(("m",), host="0.0.0.0"), store)
    assert not door_for(ServeOptions(("m",)), store).keys_required
    store.add_key("ann")
    assert door_for(ServeOptions(("m",), host="0.0.0.0"), store).keys_required
    assert door_for(ServeOptions(("m",), require_key=True), store).keys_required
    store.close()
