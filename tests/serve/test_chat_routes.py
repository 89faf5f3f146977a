"""OpenAI's routes over a real socket."""

import base64
import json
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import openai
import pytest

from qianwen.checkpoints.adapter_folder import write_adapter
from qianwen.engine.llm_engine import EngineConfig
from qianwen.model.linears.lora import LoraConfig, attach
from qianwen.model.long_context import LongContext
from qianwen.serve.admission import Limits

from .conftest import running, tiny_model

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 12}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "the weather of a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "maxLength": 8}},
                "required": ["city"],
            },
        },
    }
]


@pytest.fixture(scope="module")
def client(server):
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def sdk(server):
    with httpx.Client(trust_env=False) as http:
        yield openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, http_client=http)


def events(client: httpx.Client, path: str, body: dict) -> list[dict]:
    """The objects of a streamed answer; checks that it ends in [DONE]."""
    with client.stream("POST", path, json={**body, "stream": True}) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


@pytest.mark.parametrize("extra", [{}, {"n": 3, "seed": 5, "temperature": 1.0}, {"logprobs": True, "top_logprobs": 2}])
def test_a_stream_has_the_text_of_the_unstreamed_answer(client, extra):
    answer = client.post("/v1/chat/completions", json={**CHAT, **extra}).json()
    chunks = events(client, "/v1/chat/completions", {**CHAT, **extra, "stream_options": {"include_usage": True}})
    for choice in answer["choices"]:
        pieces = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
        assert "".join(piece["delta"].get("content", "") for piece in pieces) == choice["message"]["content"]
        assert [p["finish_reason"] for p in pieces if p["finish_reason"]] == [choice["finish_reason"]]
        entries = [entry for piece in pieces for entry in (piece["logprobs"] or {"content": []})["content"]]
        assert entries == (choice["logprobs"] or {"content": []})["content"]
    assert (
        chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == answer["usage"]["completion_tokens"]
    )


@pytest.mark.parametrize("extra", [{}, {"logprobs": 2}, {"logprobs": 0, "echo": True}, {"echo": True, "n": 2}])
def test_a_text_stream_has_the_text_of_the_unstreamed_answer(client, extra):
    body = {"model": "tiny", "prompt": ["one", "two"], "max_tokens": 6, "temperature": 0, **extra}
    answer = client.post("/v1/completions", json=body).json()["choices"]
    pieces = [choice for chunk in events(client, "/v1/completions", body) for choice in chunk["choices"]]
    for choice in answer:
        own = [piece for piece in pieces if piece["index"] == choice["index"]]
        assert "".join(piece["text"] for piece in own) == choice["text"]
        if choice["logprobs"]:
            for name, values in choice["logprobs"].items():
                assert [value for piece in own for value in piece["logprobs"][name]] == values


def test_echo_with_logprobs_scores_the_prompt(client):
    body = {"model": "tiny", "prompt": "abc", "max_tokens": 0, "echo": True, "logprobs": 1}
    [choice] = client.post("/v1/completions", json=body).json()["choices"]
    logprobs = choice["logprobs"]
    assert choice["text"] == "abc" and logprobs["tokens"] == ["a", "b", "c"] and logprobs["text_offset"] == [0, 1, 2]
    assert logprobs["token_logprobs"][0] is None and all(value < 0 for value in logprobs["token_logprobs"][1:])


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_forced_tool_is_called_with_valid_arguments(client, choice):
    pytest.importorskip("llguidance", reason="constrained output needs llguidance")
    body = {**CHAT, "max_tokens": 400, "tools": TOOLS, "tool_choice": choice, "temperature": 1.0, "seed": 3}
    [answer] = client.post("/v1/chat/completions", json=body).json()["choices"]
    assert answer["finish_reason"] == "tool_calls"
    [call] = answer["message"]["tool_calls"]
    assert call["function"]["name"] == "weather" and "city" in json.loads(call["function"]["arguments"])
    pieces = [c for chunk in events(client, "/v1/chat/completions", body) for c in chunk["choices"]]
    streamed = [call for piece in pieces for call in piece["delta"].get("tool_calls", ())]
    assert [c["function"] for c in streamed] == [call["function"]]
    assert pieces[-1]["finish_reason"] == "tool_calls"


def test_functions_are_written_in_the_style_of_the_request_or_of_the_server(server, client):
    def prompt_tokens(**kwargs: object) -> int:
        answer = client.post("/v1/chat/completions", json={**CHAT, "max_tokens": 1, "tools": TOOLS, **kwargs})
        return answer.json()["usage"]["prompt_tokens"]

    own, tools = prompt_tokens(), prompt_tokens(chat_template_kwargs={"function_style": "react_tools"})
    assert own != tools
    base = server.service.models["tiny"]
    server.service.models["tiny"] = replace(base, function_style="react_tools")
    try:
        assert prompt_tokens() == tools
        assert prompt_tokens(chat_template_kwargs={"function_style": "tool_call"}) == own
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 200  # without functions it has no effect
    finally:
        server.service.models["tiny"] = base
    refused = client.post(
        "/v1/chat/completions", json={**CHAT, "tools": TOOLS, "chat_template_kwargs": {"function_style": "xml"}}
    )
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "function_style"


def test_an_answer_follows_its_schema(client):
    pytest.importorskip("llguidance", reason="constrained output needs llguidance")
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    body = {**CHAT, "max_tokens": 100, "response_format": wanted}
    [choice] = client.post("/v1/chat/completions", json=body).json()["choices"]
    assert json.loads(choice["message"]["content"])["ok"] in (True, False)


def test_embeddings_in_both_encodings_and_poolings(client):
    def vector(**fields: object) -> list[float] | str:
        body = {"model": "tiny", "input": "some text", **fields}
        return client.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]

    floats, packed = vector(), vector(encoding_format="base64")
    assert struct.unpack(f"<{len(floats)}f", base64.b64decode(packed)) == pytest.approx(floats)
    assert vector(pooling="mean") != floats


def test_tokenize_counts_the_prompt_tokens_of_a_chat(client):
    text = client.post("/tokenize", json={"text": "ab"}).json()
    assert (text["count"], text["tokens"]) == (2, [97, 98])
    chat = client.post("/tokenize", json={"messages": CHAT["messages"]}).json()
    used = client.post("/v1/chat/completions", json=CHAT).json()["usage"]["prompt_tokens"]
    assert chat["count"] == used


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": [999_999]}),
        ("/v1/completions", {"prompt": "a", "logit_bias": {"9999": 1}}),
        ("/v1/completions", {"prompt": "a", "stop_token_ids": [300], "stream": True}),
        ("/v1/chat/completions", {"messages": CHAT["messages"], "logit_bias": {"9999": 1}, "stream": True}),
        ("/v1/embeddings", {"input": [999_999]}),
    ],
)
def test_token_ids_outside_the_vocabulary_are_refused_before_anything_is_sent(client, path, body):
    response = client.post(path, json={"model": "tiny", **body})
    assert response.status_code == 400 and "vocabulary" in response.json()["error"]["message"]


def test_a_body_too_large_is_refused(client):
    assert client.post("/tokenize", content=b" " * (5 * 2**20)).status_code == 413
    chunks = (b" " * 2**16 for _ in range(100))
    assert client.post("/tokenize", content=chunks).status_code == 413


def test_a_full_queue_is_a_429_with_retry_after(start):
    with start(limits=Limits(max_requests=1)) as server, server.client() as client:
        body = {"model": "tiny", "prompt": "x", "max_tokens": 1500, "ignore_eos": True}
        started = threading.Event()

        def occupy() -> None:
            with (
                server.client() as other,
                other.stream("POST", "/v1/completions", json={**body, "stream": True}) as reply,
            ):
                lines = reply.iter_lines()
                next(lines)
                started.set()
                time.sleep(0.5)

        thread = threading.Thread(target=occupy)
        thread.start()
        assert started.wait(20)
        response = client.post("/v1/completions", json=body)
        assert response.status_code == 429 and int(response.headers["retry-after"]) >= 1
        thread.join()


def test_the_guard_checks_prompts_and_answers(start):
    def guard(text: str) -> str | None:
        return "no secrets" if "secret" in text else None

    with start(guard=guard) as server, server.client() as client:
        refused = client.post(
            "/v1/chat/completions", json={**CHAT, "messages": [{"role": "user", "content": "a secret"}]}
        )
        assert refused.status_code == 400 and refused.json()["error"]["code"] == "content_filter"
        assert "no secrets" in refused.json()["error"]["message"]
        assert client.post("/v1/chat/completions", json=CHAT).json()["choices"][0]["finish_reason"] != "content_filter"

    with start(guard=lambda text: "too long" if len(text) > 10 else None) as server, server.client() as client:
        body = {**CHAT, "max_tokens": 60, "ignore_eos": True}
        body |= {"logprobs": True}
        [choice] = client.post("/v1/chat/completions", json=body).json()["choices"]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("content_filter", "")
        assert (choice["message"]["refusal"], choice["logprobs"]) == ("too long", None)
        pieces = [c for event in events(client, "/v1/chat/completions", body) for c in event["choices"]]
        assert not any(piece["delta"].get("content") or piece["logprobs"] for piece in pieces)
        assert pieces[-1]["delta"] == {"refusal": "too long"}
        ids = {"model": "tiny", "prompt": [97] * 20, "max_tokens": 1}
        assert client.post("/v1/completions", json=ids).json()["error"]["code"] == "content_filter"


def test_after_an_engine_failure_health_is_503_and_requests_get_errors(start):
    with start() as server, server.client() as client:

        def broken(*_: object) -> None:
            raise MemoryError("out")

        server.engine.runner.run = broken
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 503
        assert client.get("/health").status_code == 503
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 503


def test_adapters_are_served_by_name_over_one_base_model(tokenizer, tmp_path):
    """Each adapter is a model in the list, in answers and in embeddings, in one batch with the base model."""
    lora = LoraConfig(rank=4, alpha=64)
    adapted = attach(tiny_model(), lora)
    for weight in adapted.parameters():
        if weight.requires_grad:
            weight.data.normal_(0, 0.3)
    write_adapter(adapted, tmp_path, lora, "tiny")
    with running(tiny_model(), tokenizer) as server, server.client() as client:
        server.engine.add_adapter("tuned", tmp_path)
        base = server.service.model(None)
        server.service.models["tuned"] = replace(base, name="tuned", adapter="tuned", parent="tiny")
        cards = {card["id"]: card["parent"] for card in client.get("/v1/models").json()["data"]}
        assert cards == {"tiny": None, "tuned": "tiny"}

        def text(model: str) -> str:
            body = {"model": model, "prompt": "abc", "max_tokens": 12, "temperature": 0, "ignore_eos": True}
            return client.post("/v1/completions", json=body).json()["choices"][0]["text"]

        with ThreadPoolExecutor(6) as pool:
            texts = list(pool.map(text, ["tiny", "tuned"] * 3))
        assert len({*texts[::2]}) == len({*texts[1::2]}) == 1 and texts[0] != texts[1]
        vectors = [
            client.post("/v1/embeddings", json={"model": model, "input": "abc"}).json()["data"][0]["embedding"]
            for model in ("tiny", "tuned")
        ]
        assert vectors[0] != vectors[1]
        tokens = [line for line in client.get("/metrics").text.splitlines() if "completion_tokens_total{" in line]
        assert any('model="tuned"' in line for line in tokens) and any('model="tiny"' in line for line in tokens)


# ---- texts beyond the trained length ----


@pytest.fixture(scope="module")
def extended(model, tokenizer):
    """A server that reads 4,096 tokens with a model that was trained on 2,048."""
    config = EngineConfig(max_model_len=4096, num_blocks=300, extension=LongContext(rope="dynamic_ntk"))
    with running(model, tokenizer, config=config) as server, server.client() as client:
        yield client


def test_the_card_of_a_model_shows_its_lengths_and_its_method(client, extended):
    (card,) = client.get("/v1/models").json()["data"]
    assert (card["max_model_len"], card["train_len"], card["rope"]) == (2048, 2048, "none")
    (card,) = extended.get("/v1/models").json()["data"]
    assert (card["max_model_len"], card["train_len"], card["rope"]) == (4096, 2048, "dynamic_ntk")


def test_a_request_chooses_how_a_long_prompt_is_read(extended):
    body = {"model": "tiny", "prompt": [97, 98] * 1100, "max_tokens": 1, "logprobs": 3}
    ropes = (None, "dynamic_ntk", "yarn", {"method": "yarn", "factor": 2}, {"method": "linear"}, {"logn": True})
    answers = [extended.post("/v1/completions", json={**body, "rope": rope}).json()["choices"][0] for rope in ropes]
    assert answers[0] == answers[1]
    assert len({json.dumps(answer["logprobs"]) for answer in answers}) == 5
    chat = {**CHAT, "messages": [{"role": "user", "content": "x" * 2100}]}
    assert extended.post("/v1/chat/completions", json={**chat, "rope": "yarn"}).json()["usage"]["prompt_tokens"] > 2048
    response = {"model": "tiny", "input": "x" * 2100, "max_output_tokens": 1}
    assert extended.post("/v1/responses", json={**response, "rope": {"method": "yarn"}}).status_code == 200
    assert extended.post("/v1/responses", json={**response, "rope": "none"}).status_code == 400


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_beyond_its_method_is_refused_with_one_that_covers_it(extended, client, stream):
    text = {"model": "tiny", "prompt": [97] * 3000, "max_tokens": 4, "stream": stream, "rope": "none"}
    chat = {**CHAT, "messages": [{"role": "user", "content": "x" * 3000}], "stream": stream, "rope": "none"}
    for path, body in (("/v1/completions", text), ("/v1/chat/completions", chat)):
        for each, remedy in ((extended, "covers 4,096 tokens here"), (client, "--rope dynamic_ntk --context 30")):
            answer = each.post(path, json=body)
            error = answer.json()["error"]
            assert answer.status_code == 400 and error["code"] == "context_length_exceeded"
            assert "is 2048 tokens" in error["message"] and remedy in error["message"]
    assert extended.post("/v1/embeddings", json={"model": "tiny", "input": [97] * 3000}).status_code == 200


def test_an_answer_ends_at_the_limit_of_its_method(extended):
    body = {**CHAT, "max_tokens": None, "ignore_eos": True, "messages": [{"role": "user", "content": "x" * 1900}]}
    answer = extended.post("/v1/chat/completions", json={**body, "rope": "none"}).json()
    assert answer["choices"][0]["finish_reason"] == "length" and answer["usage"]["total_tokens"] == 2048


@pytest.mark.parametrize("rope", ["ntk", {"method": "yarn", "factor": 0}, {"method": 1}, ["yarn"]])
def test_a_wrong_method_is_a_400_with_the_field(extended, rope):
    answer = extended.post("/v1/chat/completions", json={**CHAT, "rope": rope})
    assert answer.status_code == 400 and answer.json()["error"]["param"].startswith("rope")


@pytest.mark.parametrize("stream", [False, True])
def test_a_growth_that_the_server_excludes_is_a_400_with_the_field(client, stream):
    answer = client.post("/v1/chat/completions", json={**CHAT, "stream": stream, "rope": {"on_growth": "rerotate"}})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "rope"
