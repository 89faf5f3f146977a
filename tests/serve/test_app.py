"""The application: state routes, draining, unexpected errors, and keys for servers that other machines can reach."""

import re

import pytest

from qianwen.cli.serve import ServeOptions, access_rules
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


def test_a_draining_server_refuses_requests(start):
    with start() as server, server.client() as client:
        server.service.admission.draining = True
        assert client.get("/ready").status_code == 503
        assert client.get("/health").status_code == 200
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 503


def test_an_unexpected_error_is_a_500_and_its_text_is_not_logged(start, caplog, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("my secret prompt")

    with start() as server, server.client() as client:
        monkeypatch.setattr(type(server.service), "model", broken)
        response = client.post("/v1/chat/completions", json=CHAT)
    assert response.status_code == 500 and "secret" not in response.text
    assert f"search the server log for request {response.headers['x-request-id']}" in response.text
    assert "RuntimeError" in caplog.text and "secret" not in caplog.text


def test_a_server_that_others_can_reach_needs_a_key():
    store = Store(":memory:")
    with pytest.raises(ConfigError, match="keys add"):
        access_rules(ServeOptions(("m",), host="0.0.0.0"), store)
    assert not access_rules(ServeOptions(("m",)), store).keys_required
    store.add_key("ann")
    assert access_rules(ServeOptions(("m",), host="0.0.0.0"), store).keys_required
    assert access_rules(ServeOptions(("m",), require_key=True), store).keys_required
    store.close()
