"""Access control by Host, Origin and key, and a log without secrets."""

import asyncio
import base64
import logging

import pytest

from qianwen.serve.gate import AccessRules, Gate, is_loopback
from qianwen.serve.prometheus import Metrics
from qianwen.serve.store import Store

HOST = (b"host", b"localhost:8000")


async def inner(scope, receive, send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"in"})


def send_to_gate(
    access: AccessRules, *headers: tuple[bytes, bytes], path: str = "/v1/models", method: str = "GET"
) -> tuple[int, dict]:
    """Status and headers of one request through the gate."""
    sent = []

    async def send(message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": list(headers)}
    asyncio.run(Gate(inner, access=access, metrics=Metrics())(scope, None, send))
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.fixture(scope="module")
def locked():
    store = Store(":memory:")
    secret = store.add_key("ann")
    yield AccessRules(keys_required=True, store=store), secret.encode()
    store.close()


def test_without_keys_a_loopback_server_is_open():
    assert send_to_gate(AccessRules(), HOST)[0] == 200


@pytest.mark.parametrize(
    "host", [b"evil.example", b"evil.example:8000", b"localhost.evil.example", b"", b"[", b"10.0.0.1"]
)
def test_an_unknown_host_is_refused(host):
    assert send_to_gate(AccessRules(), (b"host", host))[0] == 403


def test_exactly_one_host_header_is_needed():
    assert send_to_gate(AccessRules())[0] == 403
    assert send_to_gate(AccessRules(), HOST, (b"host", b"evil.example"))[0] == 403


@pytest.mark.parametrize(
    "origin", [b"http://evil.example", b"null", b"https://localhost.evil.example", b"http://localhost:9"]
)
def test_a_page_of_another_site_is_refused(origin):
    assert send_to_gate(AccessRules(), HOST, (b"origin", origin))[0] == 403


def test_own_pages_and_allowed_origins_are_accepted():
    assert send_to_gate(AccessRules(), HOST, (b"origin", b"http://localhost:8000"))[0] == 200
    access = AccessRules(origins=frozenset({"https://chat.example"}))
    status, headers = send_to_gate(access, HOST, (b"origin", b"https://chat.example"))
    assert status == 200 and headers[b"access-control-allow-origin"] == b"https://chat.example"
    assert b"access-control-allow-credentials" not in headers
    assert send_to_gate(access, HOST, (b"origin", b"https://chat.example"), method="OPTIONS")[0] == 204


@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/chat/completions", "/metrics", "/ready", "/", "/ui", "/docs", "/nowhere"]
)
def test_every_route_needs_the_key(locked, path):
    access, secret = locked
    wrong = [
        [], [(b"authorization", b"")], [(b"authorization", b"Bearer wrong")], [(b"authorization", b"Bearer  ")],
        [(b"authorization", b"Bearer " + secret.swapcase())], [(b"authorization", secret)],
        [(b"authorization", b"Bearer " + secret)] * 2, [(b"authorization", b"Bearer " + b"x" * 2**20)],
        [(b"authorization", b"Basic ???")], [(b"authorization", b"Basic " + base64.b64encode(b"ann:wrong"))],
        [(b"x-api-key", secret)],
    ]  # fmt: skip
    for headers in wrong:
        assert send_to_gate(access, HOST, *headers, path=path)[0] == 401, headers
    assert send_to_gate(access, HOST, (b"authorization", b"Bearer " + secret), path=path)[0] == 200
    assert (
        send_to_gate(access, HOST, (b"authorization", b"Basic " + base64.b64encode(b"ann:" + secret)), path=path)[0]
        == 200
    )


def test_health_needs_no_key_but_a_known_host(locked):
    assert send_to_gate(locked[0], HOST, path="/health")[0] == 200
    assert send_to_gate(locked[0], (b"host", b"evil.example"), path="/health")[0] == 403


def test_the_log_has_one_line_per_request_and_no_key(locked, caplog):
    access, secret = locked
    with caplog.at_level(logging.INFO, "qianwen.serve"):
        send_to_gate(access, HOST, (b"authorization", b"Bearer " + secret), path="/v1/\r\nforged\x1b[31m")
    assert len(caplog.messages) == 1
    line = caplog.messages[0]
    assert '"key": "ann"' in line and secret.decode() not in line and "forged" not in line


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_loopback(host, loopback):
    assert is_loopback(host) is loopback


def test_the_key_in_a_cookie_and_the_redirect_to_the_login_page(tmp_path):
    store = Store(tmp_path / "s.sqlite")
    secret = store.add_key("ann").encode()
    access = AccessRules(keys_required=True, store=store, login="/login")
    cookie = b"theme=dark; qianwen_key=" + secret
    assert send_to_gate(access, HOST, (b"cookie", cookie))[0] == 200
    assert send_to_gate(access, HOST, (b"cookie", cookie + b"x"))[0] == 401
    assert send_to_gate(access, HOST, (b"cookie", cookie + b"; qianwen_key=" + secret))[0] == 401
    assert send_to_gate(access, HOST, (b"cookie", cookie), (b"authorization", b"Bearer wrong"))[0] == 401
    assert send_to_gate(access, HOST, (b"cookie", cookie), (b"origin", b"http://localhost:9"))[0] == 403

    status, headers = send_to_gate(access, HOST, (b"accept", b"text/html,*/*"), path="/")
    assert status == 303 and headers[b"location"] == b"/login"
    assert send_to_gate(access, HOST, path="/login")[0] == 200
    assert send_to_gate(access, HOST, (b"accept", b"text/html"), path="/", method="POST")[0] == 401
    assert b"Bearer" in send_to_gate(access, HOST, path="/")[1][b"www-authenticate"], (
        "Basic would open a dialog over the page"
    )
    store.close()
