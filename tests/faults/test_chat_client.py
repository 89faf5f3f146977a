"""`ChatClient` against a server that is busy, slow, disconnects, sends malformed data, or redirects."""

import contextlib
import email.utils
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from qianwen.chat import Message, collect
from qianwen.chat import client as client_module
from qianwen.chat.client import ChatClient
from qianwen.runtime.errors import ConfigError, RequestError

HELLO = [Message("user", "hello")]
Answer = Callable[[BaseHTTPRequestHandler], None]


class FaultyServer(ThreadingHTTPServer):
    """Answers each request with the next of `answers`, and records what it received and when."""

    daemon_threads = True

    def __init__(self, answers: list[Answer]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = list(answers)
        self.received: list[tuple[float, dict[str, str], dict[str, Any]]] = []
        self.cancelled = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are expected in these tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received.append((time.monotonic(), dict(self.headers), body))
        assert self.path == "/v1/chat/completions"
        self.server.answers.pop(0)(self)

    def log_message(self, *_: Any) -> None:
        pass


def status(code: int, body: dict[str, Any] | None = None, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        data = json.dumps(body or {"error": {"message": f"status {code}"}}).encode()
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def content(text: str, reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def stream(*events: bytes, delay: float = 0.0, end: str = "close", content_type: str = "text/event-stream") -> Answer:
    """A stream of events; `end` is how it ends: `close`, `reset`, or `hold` until the client disconnects."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(delay)
        handler.send_response(200)
        handler.send_header("Content-Type", content_type)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for event in events:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            handler.wfile.flush()
        if end == "close":
            handler.wfile.write(b"0\r\n\r\n")
        elif end == "reset":
            time.sleep(0.1)  # what was sent must arrive before the reset
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.rfile.close()  # else it holds the socket open
            handler.connection.close()
        elif not handler.connection.recv(1):
            handler.server.cancelled.set()  # type: ignore[attr-defined]

    return answer


GOOD = stream(content("hello"), content("", "stop"), b"data: [DONE]\n\n")


@contextlib.contextmanager
def faulty(*answers: Answer) -> Iterator[FaultyServer]:
    server = FaultyServer(list(answers))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def no_pause(monkeypatch):
    """Short pauses between retries; a Retry-After of the server still applies."""
    monkeypatch.setattr(client_module, "FIRST_WAIT", 0.02)


def ask(server: FaultyServer, **options: Any) -> list:
    with ChatClient(server.url, "m", **options) as client:
        return list(client.chat(HELLO, temperature=0.5))


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_a_request_to_a_busy_server_is_retried(no_pause, code):
    with faulty(status(code), status(code), GOOD) as server:
        deltas = ask(server)
    assert collect(deltas).text == "hello" and deltas[-1].finish_reason == "stop" and deltas[-1].usage is None
    assert len(server.received) == 3
    assert server.received[0][2] == server.received[2][2] == {
        "model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": True,
        "stream_options": {"include_usage": True}, "temperature": 0.5,
    }  # fmt: skip


def test_pauses_grow_and_vary():
    request = httpx.Request("POST", "http://host")
    error = httpx.HTTPStatusError("", request=request, response=httpx.Response(503, request=request))
    for attempt, longest in enumerate((0.5, 1.0, 2.0, 4.0, 8.0, 8.0)):
        waits = [client_module._wait(error, attempt) for _ in range(50)]
        assert longest / 2 <= min(waits) < max(waits) <= longest


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_respected(no_pause, form):
    value = "1" if form == "seconds" else email.utils.formatdate(time.time() + 3, usegmt=True)
    with faulty(status(429, Retry_After=value), GOOD) as server:
        assert collect(ask(server)).text == "hello"
    assert server.received[1][0] - server.received[0][0] >= 1.0


def test_a_long_retry_after_is_an_error_with_its_value(no_pause):
    answer = status(429, {"error": {"message": "quota used", "code": "insufficient_quota"}}, Retry_After="3600")
    with faulty(answer) as server, pytest.raises(RequestError, match="^quota used$") as error:
        ask(server)
    assert (error.value.status, error.value.code, error.value.retry_after) == (429, "insufficient_quota", 3600)
    assert len(server.received) == 1


def test_the_number_of_retries_is_limited(no_pause):
    with faulty(*[status(503)] * 3) as server, pytest.raises(RequestError, match="^status 503$") as error:
        ask(server, retries=2)
    assert len(server.received) == 3 and error.value.status == 503


@pytest.mark.parametrize("code", [400, 401, 403, 404, 413, 422])
def test_a_refused_request_is_not_retried(no_pause, code):
    with faulty(status(code)) as server, pytest.raises(RequestError, match=f"^status {code}$") as error:
        ask(server)
    assert len(server.received) == 1 and error.value.status == code


def test_a_connection_lost_before_the_first_delta_is_retried(no_pause):
    opening = b'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}\n\n'
    for end in ("reset", "close"):
        with faulty(stream(end=end), stream(opening, end=end), GOOD) as server:
            assert collect(ask(server)).text == "hello"
        assert len(server.received) == 3


@pytest.mark.parametrize("end", ["reset", "close"])
def test_a_connection_lost_within_an_answer_is_an_error(no_pause, end):
    with faulty(stream(content("hel"), end=end), GOOD) as server, ChatClient(server.url, "m") as client:
        deltas = client.chat(HELLO)
        assert next(deltas).text == "hel"
        with pytest.raises(RequestError, match="was lost during the answer") as error:
            next(deltas)
    assert error.value.code == "connection_error" and len(server.received) == 1


def test_a_closed_port_is_an_error_after_all_attempts(no_pause):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        with ChatClient(url, "m", retries=2) as client, pytest.raises(RequestError, match=f"cannot connect to {url}"):
            list(client.chat(HELLO))


@pytest.mark.parametrize("events", [(), (content("hel"),)], ids=["first byte", "second delta"])
def test_a_server_without_data_is_an_error_after_the_timeout(no_pause, events):
    """No retry, because the server may still be computing."""
    with faulty(stream(*events, delay=0.0 if events else 1.0, end="hold"), GOOD) as server:
        began = time.monotonic()
        with pytest.raises(RequestError, match=r"sent no data for 0\.3 s") as error:
            ask(server, timeout=0.3)
        assert 0.3 <= time.monotonic() - began < 1.0 and error.value.status == 504
    assert len(server.received) == 1


def test_a_slow_first_byte_within_the_timeout_is_accepted():
    with faulty(stream(content("hello", "stop"), delay=0.4)) as server:
        assert collect(ask(server, timeout=2.0, connect_timeout=0.2)).text == "hello"


@pytest.mark.parametrize("bad", [b"data: {\n\n", b"data: hello\n\n", b'data: {"choices": [7]}\n\n'])
@pytest.mark.parametrize("start_events", [(), (content("hel"),)])
def test_malformed_events_are_an_error(no_pause, bad, start_events):
    with (
        faulty(stream(*start_events, bad), GOOD) as server,
        pytest.raises(RequestError, match="not in OpenAI's format"),
    ):
        ask(server)
    assert len(server.received) == 1


def test_an_answer_that_is_not_a_stream_is_an_error(no_pause):
    with (
        faulty(stream(b"{}", content_type="application/json"), GOOD) as server,
        pytest.raises(RequestError, match="must answer with an event stream .* got content type 'application/json'"),
    ):
        ask(server)


def test_an_error_event_has_the_servers_message(no_pause):
    error = b'data: {"error": {"message": "out of memory"}}\n\n'
    with faulty(stream(content("a"), error)) as server, pytest.raises(RequestError, match="^out of memory$"):
        ask(server)


def test_the_connection_is_closed_when_the_iterator_is(no_pause):
    with faulty(stream(content("hel"), end="hold")) as server, ChatClient(server.url, "m") as client:
        deltas = client.chat(HELLO)
        next(deltas)
        deltas.close()
        assert server.cancelled.wait(5)


# ---- the key --------------------------------------------------------------------------------------------------------


def test_the_key_is_sent_to_its_url_only(no_pause, monkeypatch):
    with faulty(GOOD) as other:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{other.server_port}")
        for code in (301, 302, 307, 308):
            location = f"{other.url}/chat/completions"
            with (
                faulty(status(code, Location=location)) as server,
                pytest.raises(RequestError, match="redirects to http") as error,
            ):
                ask(server, api_key="sk-secret")
            assert "sk-secret" not in str(error.value)
        with faulty(GOOD) as server:
            ask(server, api_key="sk-secret")
            assert server.received[0][1]["Authorization"] == "Bearer sk-secret"
        assert other.received == []


def test_without_a_key_there_is_no_header():
    with faulty(GOOD) as server:
        ask(server)
    assert "Authorization" not in server.received[0][1]


@pytest.mark.parametrize("key", ["sk-secret\n", "sk-sécret", "sk-\x00"])
def test_an_invalid_key_is_refused_and_not_shown(key):
    with pytest.raises(ConfigError, match="API key contains characters") as error:
        ChatClient("http://host/v1", "m", key)
    assert "sk-" not in str(error.value) and "sk-" not in repr(ChatClient("http://host/v1", "m", "sk-secret"))
