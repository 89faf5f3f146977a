"""`ChatClient` against our own server, where it must answer as `LLM.chat` does, and against a server with faults."""

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

import pytest

from qianwen.chat import ChatModel, FunctionSpec, ImagePart, Message, TextPart, ToolCall, collect
from qianwen.chat import client as client_module
from qianwen.chat.client import ChatClient
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.engine.sampling import Sampler
from qianwen.engine.sampling_params import SamplingParams
from qianwen.runtime.errors import ConfigError, RequestError
from qianwen.serve.admission import Limits

from ..serve.conftest import model, start, tokenizer

__all__ = ["model", "start", "tokenizer"]
SCHEMA = {
    "type": "object",
    "properties": {"x": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["x"],
    "additionalProperties": False,
}
ADD, NEG = FunctionSpec("add", "Adds.", SCHEMA), FunctionSpec("neg", "Negates.", SCHEMA)
HELLO = [Message("user", "hello")]
RESULT = [
    *HELLO,
    Message("assistant", "I add.", tool_calls=(ToolCall("add", '{"x": 1}', "c1"),)),
    Message("tool", "好 1", tool_call_id="c1"),
]
CONFIG = EngineConfig(num_blocks=256, batch_invariant=True)

# ---- our own server -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llm(model, tokenizer) -> LLM:
    return LLM(model, tokenizer, CONFIG, defaults=SamplingParams(temperature=0))


@pytest.fixture(scope="module")
def server(start) -> Iterator:
    with start(config=CONFIG) as running:
        yield running


@pytest.fixture(scope="module")
def remote(server) -> Iterator[ChatClient]:
    with ChatClient(f"{server.url}/v1", "tiny") as client:
        yield client


CONVERSATIONS: dict[str, dict[str, Any]] = {
    "hello": {},
    "system": {"messages": [Message("system", "Be brief."), *HELLO, Message("assistant", "好\n"), *HELLO]},
    "parts": {"messages": [Message("user", [TextPart("hel"), TextPart("lo")])]},
    "length": {"ignore_eos": True, "max_tokens": 5},
    "stop": {"stop": ("a", "zz"), "logit_bias": {98: 20.0, 97: 20.0}, "temperature": 1.0, "seed": 4},
    "one stop": {"stop": "aa", "logit_bias": {97: 20.0}},
    "sampling": {"temperature": 1.3, "seed": 5, "top_p": 0.9, "top_k": 40, "min_p": 0.01, "ignore_eos": True},
    "penalties": {"presence_penalty": 1.0, "frequency_penalty": 0.5, "repetition_penalty": 1.2, "seed": None},
    "end token": {"logit_bias": {258: 100.0}},
    "stop token": {"logit_bias": {97: 100.0}, "stop_token_ids": [97]},
    "auto": {"functions": [ADD, NEG]},
    "none": {"functions": [ADD, NEG], "tool_choice": "none"},
    "result": {"messages": RESULT, "functions": [ADD]},
    "required": {"functions": [ADD, NEG], "tool_choice": "required", "max_tokens": 200},
    "named": {"functions": [ADD, NEG], "tool_choice": "neg", "max_tokens": 200},
    "truncated call": {"functions": [ADD], "tool_choice": "required", "max_tokens": 12},
    "json": {"response_format": "json_object", "max_tokens": 20},
    "schema": {"response_format": SCHEMA, "max_tokens": 60},
    "schema beside functions": {"response_format": SCHEMA, "functions": [ADD], "tool_choice": "none"},
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_same_model_answers_the_same_through_a_url(llm, remote, name):
    options = {"messages": HELLO, "max_tokens": 30} | CONVERSATIONS[name]
    if options.keys() & {"response_format", "tool_choice"}:
        pytest.importorskip("llguidance", reason="constrained output needs llguidance")

    def ask(model: ChatModel) -> tuple:
        deltas = list(model.chat(**options))
        assert not any(delta.finish_reason or delta.usage for delta in deltas[:-1])
        usage = deltas[-1].usage
        assert usage is not None
        return collect(deltas), deltas[-1].finish_reason, usage.prompt_tokens, usage.completion_tokens

    answer = ask(llm)
    assert ask(remote) == answer
    if name in ("required", "named"):
        assert answer[1] == "tool_calls" and answer[0].tool_calls[0].name in ("add", "neg")


class Scripted(Sampler):
    """Writes a given text, whatever the model computes."""

    script: list[int] = []

    def choose(self, scores):
        return self.script.pop(0)


CALL = "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"x\": 1}}\n</tool_call>"  # fmt: skip


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (f"I add\u2028.\n{CALL}\n{CALL}", "tool_calls"),
        (CALL + CALL[:20], "length"),  # a complete call, then one cut at the limit
        ("no call\u0085at all", "stop"),
    ],
)
def test_a_written_reply_is_read_the_same(start, model, tokenizer, monkeypatch, reply, reason):
    monkeypatch.setattr("qianwen.engine.llm_engine.Sampler", Scripted)
    ids = tokenizer.encode(reply)
    script = [*ids, tokenizer.im_end_id] if reason != "length" else ids
    answers = []
    with start(config=CONFIG) as server, ChatClient(f"{server.url}/v1", "tiny") as client:
        for chat_model in (LLM(model, tokenizer, CONFIG), client):
            Scripted.script = list(script)
            deltas = list(chat_model.chat(HELLO, [ADD], max_tokens=len(script)))
            answers.append((collect(deltas), deltas[-1].finish_reason, deltas[-1].usage))
    assert answers[0][:2] == answers[1][:2] and answers[0][1] == reason
    assert len(answers[0][0].tool_calls) == reply.count("</tool_call>")


def test_many_threads_share_one_client(llm, remote):
    expected = {text: collect(llm.chat([Message("user", text)], max_tokens=9)) for text in map(str, range(12))}
    answers: dict[str, Message] = {}

    def ask(text: str) -> None:
        answers[text] = collect(remote.chat([Message("user", text)], max_tokens=9))

    threads = [threading.Thread(target=ask, args=(text,)) for text in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == expected


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_closing_the_iterator_cancels_the_request(server, remote):
    blocks = server.engine.blocks
    for leave in (lambda deltas: deltas.close(), lambda deltas: None):
        deltas = remote.chat(HELLO, ignore_eos=True, max_tokens=1500)
        assert next(deltas).text
        assert server.service.admission.requests == 1
        leave(deltas)
        del deltas  # which alone is enough, too
        assert wait_for(lambda: not server.service.admission.requests and not server.engine.has_work)
        assert blocks.num_free_blocks == blocks.num_blocks
    unread = remote.chat(HELLO, max_tokens=5)
    unread.close()
    assert not server.service.admission.requests


def test_the_servers_own_message_is_the_error(server, remote):
    for options, status, message in (
        ({"temperature": 9.0}, 400, "temperature"),
        ({"messages": [Message("user", "x" * 3000)]}, 400, "context is 2048 tokens"),
        ({"messages": [Message("user", [ImagePart("https://example.org/a.png")])]}, 400, "reads text only"),
        ({"response_format": SCHEMA, "functions": [ADD]}, 400, "tool_choice 'none' when there are tools"),
    ):
        with pytest.raises(RequestError, match=message) as error:
            list(remote.chat(**{"messages": HELLO, **options}))
        assert error.value.status == status
    with (
        ChatClient(f"{server.url}/v1/", "gpt") as other,
        pytest.raises(RequestError, match="no model 'gpt'") as error,
    ):
        list(other.chat(HELLO))
    assert (error.value.status, error.value.code, error.value.param) == (404, "model_not_found", "model")


def test_a_full_queue_is_waited_for(start):
    with start(limits=Limits(max_requests=1)) as server, ChatClient(f"{server.url}/v1", "tiny") as client:
        first = client.chat(HELLO, ignore_eos=True, max_tokens=1500)
        next(first)
        threading.Timer(0.5, first.close).start()
        began = time.monotonic()
        assert list(client.chat(HELLO, max_tokens=3))[-1].finish_reason
        assert time.monotonic() - began >= 2  # the server's Retry-After


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tool_choice": "sub", "functions": [ADD]}, "tool_choice names 'sub'"),
        ({"tool_choice": "required"}, "needs tools"),
        ({"tool_choice": None, "functions": [ADD]}, "tool_choice must be"),
        ({"response_format": "xml"}, "response_format must be"),
        ({"temprature": 1}, "did you mean temperature"),
        ({"grammar": "x"}, "no sampling parameter 'grammar'"),
        ({"n": 2}, "no sampling parameter 'n'"),
    ],
)
def test_bad_values_are_refused_before_anything_is_sent(options, message):
    with ChatClient("http://127.0.0.1:9", "m") as client, pytest.raises(RequestError, match=message):
        client.chat(HELLO, **options)


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://host/v1", "http://", "http://user:pass@host/v1", "http://host:port/v1"]
)
def test_a_url_that_is_none_is_refused(url):
    with pytest.raises(ConfigError, match="is not a URL such as"):
        ChatClient(url, "m")


# ---- a server with faults -------------------------------------------------------------------------------------------

Answer = Callable[[BaseHTTPRequestHandler], None]


class FaultyServer(ThreadingHTTPServer):
    """Answers each request with the next of `answers`, and remembers what it received and when."""

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
        """A broken connection is what these tests are about."""


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
    """A stream of events; `end` is how it ends: `close`, `reset`, or `hold` until the client is gone."""

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
    """Short waits; what a server asks for is still waited."""
    monkeypatch.setattr(client_module, "FIRST_WAIT", 0.02)


def ask(server: FaultyServer, **options: Any) -> list:
    with ChatClient(server.url, "m", **options) as client:
        return list(client.chat(HELLO, temperature=0.5))


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(no_pause, code):
    with faulty(status(code), status(code), GOOD) as server:
        deltas = ask(server)
    assert collect(deltas).text == "hello" and deltas[-1].finish_reason == "stop" and deltas[-1].usage is None
    assert len(server.received) == 3
    assert server.received[0][2] == server.received[2][2] == {
        "model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": True,
        "stream_options": {"include_usage": True}, "temperature": 0.5,
    }  # fmt: skip


def test_waits_grow_and_vary():
    import httpx

    request = httpx.Request("POST", "http://host")
    error = httpx.HTTPStatusError("", request=request, response=httpx.Response(503, request=request))
    for attempt, longest in enumerate((0.5, 1.0, 2.0, 4.0, 8.0, 8.0)):
        waits = [client_module._wait(error, attempt) for _ in range(50)]
        assert longest / 2 <= min(waits) < max(waits) <= longest


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured(no_pause, form):
    value = "1" if form == "seconds" else email.utils.formatdate(time.time() + 3, usegmt=True)
    with faulty(status(429, Retry_After=value), GOOD) as server:
        assert collect(ask(server)).text == "hello"
    assert server.received[1][0] - server.received[0][0] >= 1.0


def test_a_long_retry_after_is_an_error_that_tells_it(no_pause):
    answer = status(429, {"error": {"message": "quota used", "code": "insufficient_quota"}}, Retry_After="3600")
    with faulty(answer) as server, pytest.raises(RequestError, match="^quota used$") as error:
        ask(server)
    assert (error.value.status, error.value.code, error.value.retry_after) == (429, "insufficient_quota", 3600)
    assert len(server.received) == 1


def test_retries_end(no_pause):
    with faulty(*[status(503)] * 3) as server, pytest.raises(RequestError, match="^status 503$") as error:
        ask(server, retries=2)
    assert len(server.received) == 3 and error.value.status == 503


@pytest.mark.parametrize("code", [400, 401, 403, 404, 413, 422])
def test_a_refused_request_is_not_repeated(no_pause, code):
    with faulty(status(code)) as server, pytest.raises(RequestError, match=f"^status {code}$") as error:
        ask(server)
    assert len(server.received) == 1 and error.value.status == code


def test_a_connection_lost_before_the_first_delta_is_tried_again(no_pause):
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
        with pytest.raises(RequestError, match="broke within an answer") as error:
            next(deltas)
    assert error.value.code == "connection_error" and len(server.received) == 1


def test_a_closed_port_is_an_error_after_all_attempts(no_pause):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        with ChatClient(url, "m", retries=2) as client, pytest.raises(RequestError, match=f"{url}.* cannot be reached"):
            list(client.chat(HELLO))


@pytest.mark.parametrize("events", [(), (content("hel"),)], ids=["first byte", "second delta"])
def test_a_silent_server_is_left_after_the_time_out(no_pause, events):
    """Not tried again: it may be computing still."""
    with faulty(stream(*events, delay=0.0 if events else 1.0, end="hold"), GOOD) as server:
        began = time.monotonic()
        with pytest.raises(RequestError, match=r"sent nothing for 0\.3 s") as error:
            ask(server, timeout=0.3)
        assert 0.3 <= time.monotonic() - began < 1.0 and error.value.status == 504
    assert len(server.received) == 1


def test_a_slow_first_byte_within_the_time_out_is_an_answer():
    with faulty(stream(content("hello", "stop"), delay=0.4)) as server:
        assert collect(ask(server, timeout=2.0, connect_timeout=0.2)).text == "hello"


@pytest.mark.parametrize("bad", [b"data: {\n\n", b"data: hello\n\n", b'data: {"choices": [7]}\n\n'])
@pytest.mark.parametrize("start_events", [(), (content("hel"),)])
def test_malformed_events_are_an_error(no_pause, bad, start_events):
    with faulty(stream(*start_events, bad), GOOD) as server, pytest.raises(RequestError, match="not OpenAI's format"):
        ask(server)
    assert len(server.received) == 1


def test_an_answer_that_is_no_stream_is_an_error(no_pause):
    with (
        faulty(stream(b"{}", content_type="application/json"), GOOD) as server,
        pytest.raises(RequestError, match="'application/json' and not with a stream of events"),
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


def test_the_key_goes_to_its_url_and_nowhere_else(no_pause, monkeypatch):
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
def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(key):
    with pytest.raises(ConfigError, match="API key has characters") as error:
        ChatClient("http://host/v1", "m", key)
    assert "sk-" not in str(error.value) and "sk-" not in repr(ChatClient("http://host/v1", "m", "sk-secret"))


def test_the_key_opens_our_own_server(start, tmp_path):
    from qianwen.serve.gate import Door
    from qianwen.serve.store import Store

    with contextlib.closing(Store(tmp_path / "serve.db")) as store:
        key = store.add_key("ann")
        with start(store=store, door=Door(keys_required=True, store=store)) as server:
            for given, is_open in ((key, True), (None, False), ("wrong", False)):
                with ChatClient(f"{server.url}/v1", "tiny", given) as client:
                    if is_open:
                        assert list(client.chat(HELLO, max_tokens=2))[-1].finish_reason
                    else:
                        with pytest.raises(RequestError, match="key") as error:
                            list(client.chat(HELLO, max_tokens=2))
                        assert error.value.status == 401
