"""Many clients at once, and many that disconnect: no mixed-up answers, no starvation, no leaks (R33, R34, R39)."""

import asyncio
import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.engine.sampling_params import SamplingParams

from .conftest import full, percentile

TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {
        "type": "object", "properties": {"a": {"type": "string", "maxLength": 6}}, "required": ["a"]}}}
    for name in ("one", "two")
]  # fmt: skip


@pytest.fixture(scope="module")
def server(start):
    with start(config=EngineConfig(num_blocks=1024, batch_invariant=True)) as running:
        yield running


def streamed(client: httpx.Client, path: str, body: dict) -> list[dict]:
    with client.stream("POST", path, json=body | {"stream": True}) as response:
        assert response.status_code == 200, response.read()
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


class Crowd:
    """Clients that send requests one after another, streamed or not, with a nonce that must be in the answer."""

    def __init__(self, server, num_clients: int, num_requests: int) -> None:
        self.server, self.num_requests = server, num_requests
        self.done = [0] * num_clients
        self.at_first_finish: list[int] = []
        self.replies: list[tuple[str, str]] = []
        self.seconds: list[float] = []
        self._lock = threading.Lock()
        self._all_ready = threading.Barrier(num_clients)

    def run(self) -> float:
        started = time.perf_counter()
        with ThreadPoolExecutor(len(self.done)) as pool:
            list(pool.map(self._client, range(len(self.done))))
        return time.perf_counter() - started

    def _client(self, number: int) -> None:
        with self.server.client() as client:
            client.get("/health").raise_for_status()
            self._all_ready.wait(timeout=60)  # what is measured is the server, not how fast clients come to life
            for turn in range(self.num_requests):
                prompt = f"nonce {number * 1009 + turn:06d} "
                body = {"model": "tiny", "prompt": prompt, "max_tokens": 12, "temperature": 0, "echo": True}
                started = time.perf_counter()
                if (number + turn) % 2:
                    pieces = streamed(client, "/v1/completions", body)
                    text = "".join(choice["text"] for piece in pieces for choice in piece["choices"])
                else:
                    text = client.post("/v1/completions", json=body).raise_for_status().json()["choices"][0]["text"]
                with self._lock:
                    self.seconds.append(time.perf_counter() - started)
                    self.replies.append((prompt, text))
                    self.done[number] += 1
                    if self.done[number] == self.num_requests and not self.at_first_finish:
                        self.at_first_finish = list(self.done)


@pytest.mark.parametrize("num_clients", [16, full(64)])
def test_many_clients_are_served_fairly_and_get_their_own_answers(server, model, tokenizer, num_clients, report):
    """R33: every reply carries its nonce and goes on as the same prompt does alone; no client waits for the others."""
    num_requests = 20 if num_clients == 64 else 10
    single = Crowd(server, 1, 20)
    alone = single.run() / 20
    crowd = Crowd(server, num_clients, num_requests)
    took = crowd.run()
    prompts = [prompt for prompt, _ in crowd.replies]
    assert len(set(prompts)) == num_clients * num_requests
    reference = LLM(model, tokenizer, EngineConfig(batch_invariant=True))
    wanted = reference.generate(prompts, SamplingParams(temperature=0, max_tokens=12))
    mixed = [prompt for (prompt, got), want in zip(crowd.replies, wanted, strict=True) if got != prompt + want.text]
    assert not mixed, f"{len(mixed)} replies are not their own"
    assert max(crowd.at_first_finish) <= 3 * min(crowd.at_first_finish), crowd.at_first_finish
    report(
        R33_replies=len(prompts), cross_talk=len(mixed),
        throughput_over_one_client=round(alone * len(prompts) / took, 2),
        slowest_client_at_first_finish=f"{min(crowd.at_first_finish)}/{num_requests}",
        p50_ms=percentile(crowd.seconds, 0.5), p99_ms=percentile(crowd.seconds, 0.99),
    )  # fmt: skip


def is_idle(server) -> bool:
    bridge, admission = server.service.model(None).bridge, server.service.admission
    blocks = bridge.engine.blocks
    return not (
        admission.requests or admission.tokens or bridge._mailboxes or bridge.engine.has_work
        or bridge.engine._requests or bridge.engine._siblings or blocks.num_free_blocks < blocks.num_blocks
    )  # fmt: skip


def wait_until_idle(server, seconds: float) -> float:
    started = time.monotonic()
    while not is_idle(server):
        assert time.monotonic() - started < seconds, "something is still held"
        time.sleep(0.01)
    return time.monotonic() - started


async def leave(client: httpx.AsyncClient, number: int, timeout: float) -> None:
    """Request an answer as long as the context, and disconnect; a 429 is also accepted."""
    body = {"model": "tiny", "prompt": "x" * (number % 40 + 1), "max_tokens": 1900, "ignore_eos": True}
    body |= {"n": number % 3 + 1, "stream": number % 2 == 0}
    try:
        async with asyncio.timeout(timeout), client.stream("POST", "/v1/completions", json=body) as response:
            await response.aread()
    except (TimeoutError, httpx.HTTPError):
        return
    assert response.status_code == 429, "it was answered before it could leave"


async def leave_all(url: str, count: int, timeout: float) -> None:
    limits = httpx.Limits(max_connections=count)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits, trust_env=False) as client:
        await asyncio.gather(*(leave(client, number, timeout) for number in range(count)))


@pytest.mark.parametrize(("count", "repeats"), [(40, 1), pytest.param(200, 100, marks=[*full(0).marks])])
def test_clients_that_disconnect_leave_nothing_behind(server, count, repeats, report):
    """R34: cancelled by timeout while they wait and while they are answered; then once more, many times."""
    waits, answers = [], []
    for repeat in range(repeats):
        asyncio.run(leave_all(server.url, count if repeat == 0 else 20, 0.5 if repeat == 0 else 0.05))
        with server.client() as client:
            started = time.perf_counter()
            body = {"model": "tiny", "prompt": "x", "max_tokens": 1}
            assert client.post("/v1/completions", json=body, timeout=5).status_code == 200
            answers.append(time.perf_counter() - started)
        waits.append(wait_until_idle(server, 5))
    report(
        R34_cancelled=count + 20 * (repeats - 1), next_answer_max_ms=percentile(answers, 1),
        all_free_after_max_ms=percentile(waits, 1),
    )  # fmt: skip


def folded(pieces: list[dict], index: int) -> dict:
    """The chat choice that a client builds from a stream."""
    content, calls, reason, legacy = "", {}, None, None
    for piece in (choice for chunk in pieces for choice in chunk["choices"] if choice["index"] == index):
        delta = piece["delta"]
        content += delta.get("content") or ""
        legacy = delta.get("function_call", legacy)
        for call in delta.get("tool_calls", ()):
            entry = calls.setdefault(call["index"], {"name": "", "arguments": ""})
            entry["name"] += call["function"].get("name") or ""
            entry["arguments"] += call["function"].get("arguments") or ""
        reason = piece["finish_reason"] or reason
    return {"content": content, "calls": list(calls.values()), "function_call": legacy, "reason": reason}


def chats(count: int) -> list[dict]:
    """Requests of every kind, the same for the same count."""
    rng = random.Random(1)
    kinds: list[dict] = [
        {}, {"n": 3, "temperature": 1.0, "seed": 3}, {"stop": ["a", "e"]}, {"tools": TOOLS},
        {"tools": TOOLS, "tool_choice": "required", "max_tokens": 90, "temperature": 1.0, "seed": 5},
        {"functions": [TOOLS[0]["function"]], "function_call": {"name": "one"}, "max_tokens": 90},
        {"logprobs": True, "top_logprobs": 2}, {"response_format": {"type": "json_object"}, "max_tokens": 40},
    ]  # fmt: skip
    body = {"model": "tiny", "max_tokens": 10, "temperature": 0}
    return [
        body | kinds[index % len(kinds)] | {"messages": [{"role": "user", "content": str(rng.random())}]}
        for index in range(count)
    ]


@pytest.mark.parametrize("count", [16, full(200)])
def test_a_stream_equals_the_unstreamed_answer(server, count, report):
    """R39: text, calls, reasons, usage, in whatever way the request was made."""
    pytest.importorskip("llguidance", reason="constrained output needs llguidance")
    with server.client() as client:
        for body in chats(count):
            whole = client.post("/v1/chat/completions", json=body).json()
            pieces = streamed(client, "/v1/chat/completions", body | {"stream_options": {"include_usage": True}})
            assert pieces[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
            assert pieces[-1]["usage"]["prompt_tokens"] == whole["usage"]["prompt_tokens"]
            for choice in whole["choices"]:
                said, message = folded(pieces, choice["index"]), choice["message"]
                assert said["content"] == (message["content"] or "")
                assert said["calls"] == [call["function"] for call in message.get("tool_calls", ())]
                assert said["function_call"] == message.get("function_call")
                assert said["reason"] == choice["finish_reason"]
    report(R39_answers_compared=count)
