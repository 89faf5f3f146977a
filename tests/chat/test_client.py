"""`ChatClient` against our own server gives the same answers as `LLM.chat`. Faults: `faults/test_chat_client.py`."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qianwen.chat import ChatModel, FunctionSpec, ImagePart, Message, TextPart, ToolCall, collect
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
    """Generates a fixed text and ignores the logits of the model."""

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
def test_a_prepared_reply_gives_the_same_deltas(start, model, tokenizer, monkeypatch, reply, reason):
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
        del deltas  # deleting the iterator is enough to cancel
        assert wait_for(lambda: not server.service.admission.requests and not server.engine.has_work)
        assert blocks.num_free_blocks == blocks.num_blocks
    unread = remote.chat(HELLO, max_tokens=5)
    unread.close()
    assert not server.service.admission.requests


def test_the_servers_own_message_is_the_error(server, remote):
    for options, status, message in (
        ({"temperature": 9.0}, 400, "temperature"),
        ({"messages": [Message("user", "x" * 3000)]}, 400, "context length is 2048 tokens"),
        ({"messages": [Message("user", [ImagePart("https://example.org/a.png")])]}, 400, "reads text only"),
        ({"response_format": SCHEMA, "functions": [ADD]}, 400, "response_format with tools needs tool_choice 'none'"),
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
        ({"tool_choice": "sub", "functions": [ADD]}, "tool_choice names the function 'sub'"),
        ({"tool_choice": "required"}, "at least one function in tools"),
        ({"tool_choice": None, "functions": [ADD]}, "tool_choice must be"),
        ({"response_format": "xml"}, "response_format must be"),
        ({"temprature": 1}, "did you mean temperature"),
        ({"grammar": "x"}, "unknown sampling parameter 'grammar'"),
        ({"n": 2}, "unknown sampling parameter 'n'"),
    ],
)
def test_bad_values_are_refused_before_anything_is_sent(options, message):
    with ChatClient("http://127.0.0.1:9", "m") as client, pytest.raises(RequestError, match=message):
        client.chat(HELLO, **options)


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://host/v1", "http://", "http://user:pass@host/v1", "http://host:port/v1"]
)
def test_an_invalid_url_is_refused(url):
    with pytest.raises(ConfigError, match="is not a URL such as"):
        ChatClient(url, "m")


def test_the_key_opens_our_own_server(start, tmp_path):
    from qianwen.serve.gate import AccessRules
    from qianwen.serve.store import Store

    with contextlib.closing(Store(tmp_path / "serve.db")) as store:
        key = store.add_key("ann")
        with start(store=store, access=AccessRules(keys_required=True, store=store)) as server:
            for given, is_open in ((key, True), (None, False), ("wrong", False)):
                with ChatClient(f"{server.url}/v1", "tiny", given) as client:
                    if is_open:
                        assert list(client.chat(HELLO, max_tokens=2))[-1].finish_reason
                    else:
                        with pytest.raises(RequestError, match="key") as error:
                            list(client.chat(HELLO, max_tokens=2))
                        assert error.value.status == 401
