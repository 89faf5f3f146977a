"""Slow, idle, half-closed, endless or invalid connections do not disturb other clients (R35)."""

import asyncio
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager

import psutil
import pytest

from qianwen.serve import app, exchange
from qianwen.serve.admission import Limits

from .conftest import full, percentile

HEAD = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BODY = {"model": "tiny", "prompt": "x", "max_tokens": 4}


@pytest.fixture(scope="module")
def server(start):
    with start(limits=Limits(body_timeout=3)) as running:
        yield running


def connect(server) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))
    connection.settimeout(20)
    return connection


def received(connection: socket.socket) -> bytes:
    """All data from the server until it closes or resets the connection."""
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except ConnectionError:
        pass
    return data


def normal_requests(server, count: int = 30) -> list[float]:
    seconds = []
    with server.client() as client:
        for _ in range(count):
            started = time.perf_counter()
            assert client.post("/v1/completions", json=BODY).status_code == 200
            seconds.append(time.perf_counter() - started)
    return seconds


@contextmanager
def dripping(server, first: bytes, pieces: Iterator[bytes], count: int, pause: float) -> Iterator[None]:
    """`count` connections that send a piece every `pause` seconds."""
    stop = threading.Event()
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(server)) for _ in range(count)]
        for connection in connections:
            connection.sendall(first)

        def drip() -> None:
            while not stop.wait(pause):
                piece = next(pieces)
                for connection in connections:
                    try:
                        connection.sendall(piece)
                    except OSError:  # hung up on
                        connections.remove(connection)

        thread = threading.Thread(target=drip)
        thread.start()
        yield
        stop.set()
        thread.join()


def endless(*pieces: bytes) -> Iterator[bytes]:
    while True:
        yield from pieces


@contextmanager
def slow_readers(server, count: int) -> Iterator[None]:
    """Streams whose clients never read beyond a byte."""
    body = b'{"model":"tiny","prompt":"x","max_tokens":1500,"ignore_eos":true,"stream":true}'
    with ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            connection.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
            head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
            connection.sendall(head + body)
            connection.recv(1)
        yield


@contextmanager
def idle(server, count: int) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(connect(server))
        yield


@contextmanager
def half_closed(server, count: int) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(connect(server))
            connection.sendall(HEAD + b"Content-Length: 12\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
        yield


@pytest.mark.parametrize("is_full", [False, full(True)])
def test_other_clients_are_answered_while_some_misbehave(server, is_full, report):
    """R35: idle, dripping heads, dripping bodies, half closed, never reading."""
    crowd = 1000 if is_full else 50
    few = 100 if is_full else 5
    rudeness: dict[str, Callable] = {
        "idle": lambda: idle(server, crowd),
        "slow_heads": lambda: dripping(server, b"GET / HT", endless(b"x", b"y"), few, 0.2),
        "slow_bodies": lambda: dripping(server, HEAD + b"Content-Length: 1000\r\n\r\n", endless(b" "), few, 0.2),
        "half_closed": lambda: half_closed(server, few),
        "slow_readers": lambda: slow_readers(server, few // 10 + 1),  # fewer than seats: answers are what holds a seat
    }
    others = 300 if is_full else 30
    normal_requests(server, 5)
    memory = psutil.Process().memory_info().rss
    seen = {"baseline_p99_ms": percentile(normal_requests(server, others), 0.99)}
    for name, rude in rudeness.items():
        with rude():
            seen[f"{name}_p99_ms"] = percentile(normal_requests(server, others), 0.99)
    deadline = time.monotonic() + 60
    while server.service.admission.requests:
        assert time.monotonic() < deadline, "a slot is still held by a client that is gone"
        time.sleep(0.05)
    growth = psutil.Process().memory_info().rss - memory
    assert growth < 200 * 2**20
    report(**seen, rss_growth_mb=growth >> 20)


def test_a_connection_without_complete_headers_is_closed(start, monkeypatch):
    """Both for the first request of a connection and for a later one."""
    monkeypatch.setattr(app, "HEADER_SECONDS", 0.5)
    with start() as server, connect(server) as first, connect(server) as second:
        first.sendall(b"GET /health HT")
        second.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):
            answer += second.recv(4096)
        second.sendall(b"GET /health HT")
        for connection in (first, second):
            assert received(connection) == b""


def test_a_client_that_does_not_read_is_disconnected(monkeypatch):
    """Its resources are released, although its connection is still open."""
    monkeypatch.setattr(exchange, "SEND_SECONDS", 0.2)
    given_back = threading.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"data: x\n\n"

    async def forever(*_: object) -> dict:
        await asyncio.sleep(60)
        return {}

    held = ExitStack()
    held.callback(given_back.set)
    asyncio.run(asyncio.wait_for(exchange.EventStream(pieces(), held)({}, forever, forever), 10))
    assert given_back.is_set()


@pytest.mark.parametrize("size", [5 * 2**20, 100 * 2**20])
def test_a_body_too_large_is_refused_and_not_stored(server, size):
    """R35: with Content-Length, and in endless chunks."""
    memory = psutil.Process().memory_info().rss
    with server.client() as client:
        assert client.post("/tokenize", content=b" " * size).status_code == 413
    with connect(server) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        try:
            for _ in range(size // 65536):
                connection.sendall(chunk)
        except OSError:
            pass
        assert b" 413 " in connection.recv(4096)
    assert psutil.Process().memory_info().rss - memory < 3 * size + 50 * 2**20  # our own bytes are in there


@pytest.mark.parametrize("count", [60, full(1000)])
def test_noise_is_a_client_error_or_a_closed_connection(server, count, report):
    """R35: chunked garbage, and whatever else is not HTTP."""
    rng = random.Random(7)
    for number in range(count):
        kinds = [
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + rng.randbytes(rng.randint(1, 200)),
            HEAD + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n" + rng.randbytes(50),
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\nzz\r\n",
            HEAD + b"Content-Length: -5\r\n\r\n{}",
            HEAD + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\n{}12345",
            HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            rng.randbytes(rng.randint(1, 300)) + b"\r\n\r\n",
            b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
            b"GET /health HTTP/1.1\r\n" + b"X: y\r\n" * 20000 + b"\r\n",
        ]
        with connect(server) as connection:
            try:
                connection.sendall(kinds[number % len(kinds)])
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                continue
            answer = received(connection)
            assert not answer or answer.split(b" ", 2)[1][:1] in b"24", answer[:100]
    assert len(normal_requests(server, 3)) == 3
    report(R35_noise=count)
