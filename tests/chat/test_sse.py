"""Bytes of a stream → deltas, wherever the bytes are cut."""

import json

import httpx
import pytest

from qianwen.chat import ToolCall, Usage, collect
from qianwen.chat.sse import ReplyAssembler, server_error, server_events
from qianwen.runtime.errors import RequestError


def read(chunks):
    assembler = ReplyAssembler()
    deltas = [delta for event in server_events(chunks) for delta in assembler.feed(event)]
    return deltas + list(assembler.finish())


def event(delta=None, reason=None, **fields) -> bytes:
    body = {"choices": [{"index": 0, "delta": delta or {}, "finish_reason": reason}], **fields}
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


TEXT = "a\u2028b\u0085c\x0b好🙂\r\n"  # characters that str.splitlines takes for line ends
STREAM = (
    b": waiting\n\nevent: message\nid: 7\n"
    + event({"role": "assistant", "content": ""})
    + event({"content": TEXT[:3]}).replace(b"\n", b"\r\n")
    + event({"content": TEXT[3:]})
    + b": waiting\n\n"
    + event({}, "stop")
    + b'data: {"choices": [],\ndata:"usage": {"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": '
    b'{"cached_tokens": 3}}}\n\n' + b"data: [DONE]\n\n"
)


def test_any_cut_of_the_bytes_gives_the_same():
    for size in (1, 2, 3, 7, 64, len(STREAM)):
        deltas = read(STREAM[start : start + size] for start in range(0, len(STREAM), size))
        assert collect(deltas).text == TEXT
        assert (deltas[-1].finish_reason, deltas[-1].usage) == ("stop", Usage(5, 7, 3))
    assert collect(read([STREAM.removesuffix(b"data: [DONE]\n\n").removesuffix(b"\n\n")])).text == TEXT


def test_calls_are_put_together_by_index():
    def piece(index, **fields):
        call = {"index": index} if index is not None else {}
        return {"tool_calls": [call | {key: value for key, value in fields.items() if key != "function"}
                               | {"function": fields["function"]}]}  # fmt: skip

    chunks = [
        event(piece(0, id="c0", type="function", function={"name": "add", "arguments": ""})),
        event(piece(1, id="c1", type="function", function={"name": "neg", "arguments": "{"})),
        event(piece(0, function={"arguments": '{"x": '})),
        event(piece(1, function={"name": None, "arguments": "}"})),
        event(piece(0, function={"arguments": "1}"})),
        event({"content": None}, "stop"),  # some servers send `stop` even after tool calls
    ]
    deltas = read(chunks)
    message = collect(deltas)
    assert message.tool_calls == (ToolCall("add", '{"x": 1}'), ToolCall("neg", "{}"))
    assert [call.id for call in message.tool_calls] == ["c0", "c1"]
    assert deltas[-1].finish_reason == "tool_calls" and deltas[-1].usage is None
    whole = [event(piece(None, function={"name": name, "arguments": "{}"})) for name in ("f", "g")]
    calls = collect(read([*whole, event({}, "tool_calls")])).tool_calls
    assert [call.name for call in calls] == ["f", "g"] and all(call.id.startswith("call_") for call in calls)
    cut = read([event(piece(0, id="c0", function={"name": "add", "arguments": '{"x'})), event({}, "length")])
    assert cut[-1].finish_reason == "length"


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("stop", "stop"), ("length", "length"), ("content_filter", "content_filter"), ("function_call", "tool_calls"),
     ("insufficient_system_resource", "abort")],
)  # fmt: skip
def test_finish_reasons(reason, expected):
    assert read([event({"content": "a"}, reason)])[-1].finish_reason == expected
    assert read([event({"refusal": "no"}), event({}, "content_filter")])[-1].finish_reason == "content_filter"


@pytest.mark.parametrize(
    "data",
    [b"{", b"hello", b"7", b"[]", b'{"choices": [7]}', b'{"choices": [{"delta": {"content": 7}}]}', b"\xff",
     b'{"choices": [], "usage": {"prompt_tokens": "x"}}', b'{"choices": [{"delta": {"tool_calls": [{"index": "a"}]}},'
     b' {"delta": {"tool_calls": [{"index": 0}]}, "finish_reason": "stop"}]}'],
)  # fmt: skip
def test_events_not_in_openais_format_are_errors_that_quote_the_event(data):
    with pytest.raises(RequestError, match="not in OpenAI's format"):
        read([event({"content": "a"}), b"data: " + data + b"\n\n"])


def test_an_endless_line_is_an_error():
    with pytest.raises(RequestError, match="not in OpenAI's format"):
        list(server_events(b"data: " + b"x" * 2**20 for _ in range(100)))


def test_a_stream_without_a_finish_reason_is_broken():
    for stream in ([], [event({"content": "a"})], [event({"content": "a"}), b"data: [DONE]\n\n"]):
        with pytest.raises(httpx.RemoteProtocolError, match="ended before"):
            read(stream)


def test_an_error_within_the_stream_has_the_servers_message():
    error = b'data: {"error": {"message": "the engine has stopped", "code": "engine_stopped"}}\n\n'
    with pytest.raises(RequestError, match="^the engine has stopped$") as caught:
        read([event({"content": "a"}), error])
    assert caught.value.code == "engine_stopped"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "too long", "param": "messages", "code": "c"}}', "too long"),
        (b'{"error": "no such model"}', "no such model"),
        (b'{"message": "unauthorised", "code": 401}', "unauthorised"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b"<html>Bad Gateway</html>", "the server returned status 502: <html>Bad Gateway</html>"),
        (b'{"error": {"message": 7}}', 'the server returned status 502: {"error": {"message": 7}}'),
        (b"", "the server returned status 502: "),
    ],
)
def test_error_bodies_of_many_servers(body, message):
    error = server_error(502, body, 3.0)
    assert (str(error), error.status, error.retry_after) == (message, 502, 3.0)
    assert (error.param, error.code) == (("messages", "c") if b"param" in body else (None, None))
