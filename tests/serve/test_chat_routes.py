"""OpenAI's routes over a real socket, called by OpenAI's own client and by clients that misbehave."""

import base64
import json
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from qianwen.serve.admission import Limits

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
    """The objects of a streamed answer, which must end in [DONE]."""
    with client.stream("POST", path, json={**body, "stream": True}) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_the_official_client_is_content(sdk):
    assert [model.id for model in sdk.models.list()] == ["tiny"]
    assert sdk.models.retrieve("tiny").id == "tiny"
    answer = sdk.chat.completions.create(**CHAT, n=2, logprobs=True, top_logprobs=3, temperature=0.9, seed=1)
    assert len(answer.choices) == 2
    assert answer.usage.completion_tokens == sum(len(choice.logprobs.content) for choice in answer.choices)
    assert all(len(entry.top_logprobs) == 3 for choice in answer.choices for entry in choice.logprobs.content)
    text = sdk.completions.create(model="tiny", prompt=["ab", "cd"], max_tokens=5, echo=True)
    assert [choice.text[:2] for choice in text.choices] == ["ab", "cd"]
    vector = sdk.embeddings.create(model="tiny", input=["a", "b", "a"])
    assert vector.data[0].embedding == vector.data[2].embedding != vector.data[1].embedding
    with pytest.raises(openai.NotFoundError):
        sdk.chat.completions.create(**{**CHAT, "model": "other"})
    with pytest.raises(openai.BadRequestError):
        sdk.chat.completions.create(**{**CHAT, "temperature": 3})


@pytest.mark.parametrize("extra", [{}, {"n": 3, "seed": 5, "temperature": 1.0}, {"logprobs": True, "top_logprobs": 2}])
def test_a_stream_spells_the_unstreamed_answer(client, extra):
    whole = client.post("/v1/chat/completions", json={**CHAT, **extra}).json()
    chunks = events(client, "/v1/chat/completions", {**CHAT, **extra, "stream_options": {"include_usage": True}})
    for choice in whole["choices"]:
        pieces = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
        assert "".join(piece["delta"].get("content", "") for piece in pieces) == choice["message"]["content"]
        assert [p["finish_reason"] for p in pieces if p["finish_reason"]] == [choice["finish_reason"]]
        entries = [entry for piece in pieces for entry in (piece["logprobs"] or {"content": []})["content"]]
        assert entries == (choice["logprobs"] or {"content": []})["content"]
    assert (
        chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    )


@pytest.mark.parametrize("extra", [{}, {"logprobs": 2}, {"logprobs": 0, "echo": True}, {"echo": True, "n": 2}])
def test_a_text_stream_spells_the_unstreamed_answer(client, extra):
    body = {"model": "tiny", "prompt": ["one", "two"], "max_tokens": 6, "temperature": 0, **extra}
    whole = client.post("/v1/completions", json=body).json()["choices"]
    pieces = [choice for chunk in events(client, "/v1/completions", body) for choice in chunk["choices"]]
    for choice in whole:
        own = [piece for piece in pieces if piece["index"] == choice["index"]]
        assert "".join(piece["text"] for piece in own) == choice["text"]
        if choice["logprobs"]:
            for name, values in choice["logprobs"].items():
                assert [value for piece in own for value in piece["logprobs"][name]] == values


def test_echo_with_logprobs_scores_the_prompt_as_evaluations_need(client):
    body = {"model": "tiny", "prompt": "abc", "max_tokens": 0, "echo": True, "logprobs": 1}
    [choice] = client.post("/v1/completions", json=body).json()["choices"]
    logprobs = choice["logprobs"]
    assert choice["text"] == "abc" and logprobs["tokens"] == ["a", "b", "c"] and logprobs["text_offset"] == [0, 1, 2]
    assert logprobs["token_logprobs"][0] is None and all(value < 0 for value in logprobs["token_logprobs"][1:])


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_forced_tool_is_called_with_valid_arguments(client, choice):
    pytest.importorskip("llguidance", reason="constrained output needs llguidance")
    body = {**CHAT, "max_tokens": 400, "tools": TOOLS, "tool_choice": choice, "temperature": 1.0, "seed": 3}
    [whole] = client.post("/v1/chat/completions", json=body).json()["choices"]
    assert whole["finish_reason"] == "tool_calls"
    [call] = whole["message"]["tool_calls"]
    assert call["function"]["name"] == "weather" and "city" in json.loads(call["function"]["arguments"])
    pieces = [c for chunk in events(client, "/v1/chat/completions", body) for c in chunk["choices"]]
    streamed = [call for piece in pieces for call in piece["delta"].get("tool_calls", ())]
    assert [c["function"] for c in streamed] == [call["function"]]
    assert pieces[-1]["finish_reason"] == "tool_calls"


def test_a_schema_is_obeyed(client):
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


def test_tokenize_counts_what_a_chat_costs(client):
    text = client.post("/tokenize", json={"text": "ab"}).json()
    assert (text["count"], text["tokens"]) == (2, [97, 98])
    chat = client.post("/tokenize", json={"messages": CHAT["messages"]}).json()
    used = client.post("/v1/chat/completions", json=CHAT).json()["usage"]["prompt_tokens"]
    assert chat["count"] == used


@pytest.mark.parametrize("excess", [0, 1, 10, 1000])
def test_a_prompt_beyond_the_context_is_refused_never_cut(client, server, excess):
    context = server.engine.max_model_len
    body = {"model": "tiny", "prompt": [65] * (context + excess), "max_tokens": 1}
    response = client.post("/v1/completions", json=body)
    assert response.status_code == 400 and response.json()["error"]["code"] == "context_length_exceeded"


def test_a_prompt_that_just_fits_is_answered(client, server):
    context = server.engine.max_model_len
    body = {"model": "tiny", "prompt": [65] * (context - 1), "max_tokens": 1}
    assert client.post("/v1/completions", json=body).status_code == 200


def test_token_ids_outside_the_vocabulary_are_refused(client):
    assert client.post("/v1/completions", json={"model": "tiny", "prompt": [999_999]}).status_code == 400
    assert (
        client.post("/v1/completions", json={"model": "tiny", "prompt": "a", "logit_bias": {"9999": 1}}).status_code
        == 400
    )


def test_the_json_test_suite_gets_no_server_error_on_any_route(client, shared):
    """R31: 318 bodies on every POST route."""
    for body in sorted((shared / "data/json_test_suite/test_parsing").iterdir()):
        for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize"):
            response = client.post(path, content=body.read_bytes(), headers={"content-type": "application/json"})
            assert response.status_code in (400, 422), (path, body.name, response.status_code)
            assert response.json()["error"]["message"]


def test_requests_that_would_cost_the_world_are_refused_at_once(client):
    """R36."""
    deep: dict = {"type": "object"}
    for _ in range(150):
        deep = {"type": "object", "properties": {"a": deep}}
    bodies = [
        {"stop": ["x"] * 1000}, {"n": 10**9}, {"max_tokens": 10**12}, {"logit_bias": {str(i): 1 for i in range(10**5)}},
        {"logprobs": True, "top_logprobs": 10**6}, {"tools": TOOLS * 10_000}, {"messages": CHAT["messages"] * 5000},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": deep, "extra": 1}}},
    ]  # fmt: skip
    for extra in bodies:
        content = json.dumps({**CHAT, **extra}).encode()
        started = time.perf_counter()
        response = client.post("/v1/chat/completions", content=content)
        assert response.status_code in (400, 413), extra.keys()
        assert time.perf_counter() - started < 2


def test_a_large_body_is_cut_off(client):
    assert client.post("/tokenize", content=b" " * (5 * 2**20)).status_code == 413
    chunks = (b" " * 2**16 for _ in range(100))
    assert client.post("/tokenize", content=chunks).status_code == 413


def test_many_clients_get_their_own_answers(server):
    """R33 in small: 16 clients with prompts of their own, streamed and whole, get what each gets alone."""

    def answer(number: int, stream: bool) -> str:
        body = {"model": "tiny", "prompt": f"client {number} says", "max_tokens": 16, "temperature": 0}
        with server.client() as client:
            if stream:
                return "".join(c["text"] for e in events(client, "/v1/completions", body) for c in e["choices"])
            return client.post("/v1/completions", json=body).json()["choices"][0]["text"]

    alone = [answer(number, False) for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(answer, [*range(16)] * 2, [True] * 16 + [False] * 16))
    assert together == alone * 2


def test_a_client_that_hangs_up_frees_its_slot(server):
    """R34: cancelled requests leak nothing and the next one is answered at once."""
    body = {"model": "tiny", "prompt": "x", "max_tokens": 1900, "ignore_eos": True}

    def hang_up(number: int) -> None:
        with server.client() as client, pytest.raises(httpx.TimeoutException):
            if number % 2:
                client.post("/v1/completions", json=body, timeout=0.3)
            else:
                with client.stream("POST", "/v1/completions", json={**body, "stream": True}, timeout=0.3) as response:
                    for _ in response.iter_lines():
                        time.sleep(0.35)
                        raise httpx.ReadTimeout("enough")

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(hang_up, range(40)))
    with server.client() as client:
        started = time.monotonic()
        assert client.post("/v1/completions", json={**body, "max_tokens": 1}).status_code == 200
        assert time.monotonic() - started < 5
    deadline = time.monotonic() + 5
    while server.service.admission.requests or server.engine.has_work:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert server.engine.blocks.num_free_blocks == server.engine.blocks.num_blocks
    assert (server.service.admission.tokens, server.service.model(None).bridge._mailboxes) == (0, {})


def test_a_full_queue_is_a_429_with_a_time_to_wait(start):
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


def test_a_guard_is_heard_on_both_sides(start):
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
        [choice] = client.post("/v1/chat/completions", json=body).json()["choices"]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("content_filter", "")
        pieces = [c for event in events(client, "/v1/chat/completions", body) for c in event["choices"]]
        assert not any(piece["delta"].get("content") for piece in pieces)


def test_a_failed_engine_turns_health_red_and_tells_everyone(start):
    with start() as server, server.client() as client:

        def broken(*_: object) -> None:
            raise MemoryError("out")

        server.engine.runner.run = broken
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 503
        assert client.get("/health").status_code == 503
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 503
