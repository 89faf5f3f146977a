"""A scripted model with tools; and a web server with pages that are normal, wrong, slow and huge, and a trap."""

import gzip
import http.server
import json
import socket
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from qianwen.agents.agent import Agent
from qianwen.agents.journal import Journal
from qianwen.agents.step import Result
from qianwen.agents.tool import CallContext, Effect, Observation, Tool
from qianwen.chat.messages import FunctionSpec, Message, ToolCall
from qianwen.chat.model import Delta, Usage

Turn = str | Sequence[ToolCall] | tuple[str, Sequence[ToolCall]] | Exception
TEXT = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}


def call(name: str, arguments: str | None = None, **values: Any) -> ToolCall:
    return ToolCall(name, json.dumps(values) if arguments is None else arguments)


class Script:
    """Replies with the turn whose number is that of the assistant's messages so far, so it can be killed and go on.

    A turn may be a function of the request. `requests` are the arguments of every `chat`.
    """

    def __init__(self, *turns: Turn | Callable[..., Turn]) -> None:
        self.turns, self.requests, self.num_open = turns, [], 0

    def chat(
        self, messages: Sequence[Message], functions: Sequence[FunctionSpec] = (), **settings: Any
    ) -> Iterator[Delta]:
        request = {"messages": list(messages), "functions": list(functions), **settings}
        self.requests.append(request)
        number = sum(message.role == "assistant" for message in messages)
        turn = self.turns[min(number, len(self.turns) - 1)]
        return self._stream(turn(request) if callable(turn) else turn)

    def _stream(self, turn: Turn) -> Iterator[Delta]:
        self.num_open += 1
        try:
            if isinstance(turn, Exception):
                raise turn
            text, calls = turn if isinstance(turn, tuple) else (turn, ()) if isinstance(turn, str) else ("", turn)
            for start in range(0, len(text), 4):
                yield Delta(text=text[start : start + 4])
            for each in calls:
                yield Delta(tool_calls=(each,))
            yield Delta(finish_reason="tool_calls" if calls else "stop", usage=Usage(10, 5))
        finally:
            self.num_open -= 1


def tool(
    name: str, effect: Effect = "none", run: Callable[..., Any] | None = None, parameters: Any = TEXT, **fields: Any
) -> Tool:
    """By default it echoes its text."""

    def echo(arguments: Any, context: CallContext) -> Observation:
        return Observation(f"{name}: {arguments.get('text', '')}")

    return Tool(spec=FunctionSpec(name, f"Does {name}.", parameters), run=run or echo, effect=effect, **fields)


@pytest.fixture
def journal() -> Iterator[Journal]:
    """In memory, if there is a folder that is: to wait for the disk takes most of the time of a small run."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        journal = Journal(folder)
        yield journal
        journal.close()


@pytest.fixture
def ask(journal):
    """Run a question to its end: the steps."""

    def run(model, tools=(), question="What?", **options):
        agent = Agent(model, tools, journal=journal, **options)
        return [event for event in agent.run(question, journal.create_run("agent")) if not isinstance(event, Delta)]

    return run


def texts(steps):
    return [step.observation.text for step in steps if isinstance(step, Result)]


PAGE = """<html><head><title>Tea</title></head><body><nav><a href="/">Home</a></nav><main><h1>Tea</h1>
<p>茶 (tea) was first drunk in <a href="/china?x=1">China</a>.</p></main><script>alert(1)</script></body></html>"""


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path. Every request is kept in `server.requests`."""

    protocol_version = "HTTP/1.1"
    server: "Web"

    def log_message(self, *arguments: object) -> None:
        pass

    def reply(self, body: bytes, kind: str = "text/html; charset=utf-8", status: int = 200, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def chunks(self, pieces: Iterator[bytes], pause: float = 0.0) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            time.sleep(pause)
        self.wfile.write(b"0\r\n\r\n")

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:  # the client has gone: it had read enough
            self.close_connection = True

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.server.requests.append((self.command, self.path, dict(self.headers), self.rfile.read(length)))
        path, _, query = self.path.partition("?")
        name = path.strip("/").split("/")[0]
        if page := getattr(self, f"page_{name}", None):
            page(path, query)
        elif name in self.server.pages:
            self.reply(*self.server.pages[name])
        else:
            self.reply(b"<h1>not there</h1>", status=404)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET

    def page_redirect(self, path: str, query: str) -> None:
        self.reply(b"moved", status=302, Location=query)

    def page_away(self, path: str, query: str) -> None:
        self.reply(b"moved", status=307, Location=self.server.away)

    def page_hops(self, path: str, query: str) -> None:
        left = int(query)
        self.reply(b"moved", status=301, Location=f"/hops?{left - 1}") if left else self.reply(b"<p>arrived</p>")

    def page_gzip(self, path: str, query: str) -> None:
        self.reply(gzip.compress(PAGE.encode()), Content_Encoding="gzip")

    def page_deflate(self, path: str, query: str) -> None:
        raw = zlib.compressobj(wbits=-15)
        self.reply(raw.compress(PAGE.encode()) + raw.flush(), Content_Encoding="deflate")

    def page_bomb(self, path: str, query: str) -> None:
        self.reply(gzip.compress(bytes(20_000_000), 1), Content_Encoding="gzip")

    def page_members(self, path: str, query: str) -> None:
        self.reply(gzip.compress(b"") * 100_000, Content_Encoding="gzip")

    def page_huge(self, path: str, query: str) -> None:
        self.reply(bytes(6_000_000), "text/plain")

    def page_endless(self, path: str, query: str) -> None:
        self.chunks(bytes(100_000) for _ in range(1000))

    def page_slow(self, path: str, query: str) -> None:
        self.chunks((b"x" for _ in range(40)), 0.05)

    def page_silent(self, path: str, query: str) -> None:
        time.sleep(1)
        self.reply(b"late")

    def page_headers(self, path: str, query: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(40):
            self.wfile.write(b"X-%d: 1\r\n" % number)
            time.sleep(0.05)
        self.wfile.write(b"\r\n")

    def page_cut(self, path: str, query: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"short")
        self.close_connection = True

    def page_damaged(self, path: str, query: str) -> None:
        self.reply(gzip.compress(PAGE.encode())[:-20], Content_Encoding="gzip")

    def page_odd(self, path: str, query: str) -> None:
        self.reply(b"???", Content_Encoding="br")

    def page_junk(self, path: str, query: str) -> None:
        self.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        self.close_connection = True

    def page_echo(self, path: str, query: str) -> None:
        method, path, headers, body = self.server.requests[-1]
        record = {"method": method, "path": path, "headers": headers, "body": body.decode()}
        self.reply(json.dumps(record).encode(), "application/json")

    def page_cookie(self, path: str, query: str) -> None:
        self.reply(b"<p>welcome</p>", Set_Cookie="session=1")


class Web(http.server.ThreadingHTTPServer):
    """The server; `pages` are more answers: name → body, type, status."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.pages: dict[str, tuple[bytes, str]] = {"tea": (PAGE.encode(), "text/html; charset=utf-8")}
        self.away = "/tea"  # where /away redirects to
        self.host = f"127.0.0.1:{self.server_port}"
        self.url = f"http://{self.host}"


@pytest.fixture
def web() -> Iterator[Web]:
    with Web() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Trap:
    """Listens on every address of this machine."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        self.port: int = self._socket.getsockname()[1]
        self.hello = b""  # what the last client sent first

    def connections(self) -> int:
        """How many connections were made since the last call. The kernel keeps them in order; the last one is ours."""
        with socket.create_connection(("127.0.0.1", self.port)) as own:
            for count in range(1000):
                connection, peer = self._socket.accept()
                with connection:
                    if peer[1] == own.getsockname()[1]:
                        return count
                    connection.settimeout(1)
                    self.hello = connection.recv(4096)
        raise AssertionError("the trap does not count")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def trap() -> Iterator[Trap]:
    trap = Trap()
    yield trap
    trap.close()
