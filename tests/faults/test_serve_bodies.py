"""Bodies that are invalid, huge or malicious are refused cheaply, with the field's name (R31, R32, R36, R37)."""

import copy
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from .conftest import percentile

MESSAGES = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": [{"type": "text", "text": "hi"}], "name": "ann"},
    {"role": "assistant", "content": None, "tool_calls": [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "c", "content": "r"},
]  # fmt: skip
FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
SAMPLING = {
    "model": "tiny", "n": 1, "temperature": 0.5, "top_p": 0.5, "presence_penalty": 0.1, "frequency_penalty": 0.1,
    "seed": 1, "stop": ["x"], "logit_bias": {"5": 1}, "stream": True, "stream_options": {"include_usage": True},
    "user": "u", "safety_identifier": "u", "prompt_cache_key": "k", "metadata": {"a": "b"}, "service_tier": "auto",
    "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1, "ignore_eos": False, "stop_token_ids": [3], "max_tokens": 1,
}  # fmt: skip
CHAT = SAMPLING | {"messages": MESSAGES, "logprobs": True, "top_logprobs": 2, "store": False, "modalities": ["text"]}
VALID = {
    "/v1/chat/completions": [
        CHAT | {
            "tools": [{"type": "function", "function": FUNCTION}], "parallel_tool_calls": False,
            "tool_choice": {"type": "function", "function": {"name": "f"}}, "max_completion_tokens": 1},
        CHAT | {"functions": [FUNCTION], "function_call": {"name": "f"}},
        CHAT | {"response_format": {"type": "json_schema", "json_schema": {
            "name": "j", "description": "d", "schema": {"type": "object"}, "strict": True}}},
    ],
    "/v1/responses": [{
        "model": "tiny", "input": [{"role": "user", "content": "a"}], "instructions": "i", "max_output_tokens": 1,
        "temperature": 0.5, "top_p": 0.5, "top_logprobs": 2, "include": ["message.output_text.logprobs"],
        "store": False,
        "stream": True, "text": {"format": {"type": "json_schema", "name": "j", "schema": {"type": "object"}}},
        "parallel_tool_calls": False, "max_tool_calls": 1, "truncation": "disabled", "metadata": {"a": "b"},
        "user": "u",
        "background": False, "service_tier": "auto"}],
    "/v1/completions": [SAMPLING | {"prompt": ["a", "b"], "echo": True, "logprobs": 2, "best_of": 1}],
    "/v1/embeddings": [{"model": "tiny", "input": ["a"], "encoding_format": "float", "pooling": "mean", "user": "u"}],
    "/tokenize": [{"model": "tiny", "messages": MESSAGES}, {"model": "tiny", "text": "a"}],
}  # fmt: skip
SAMPLES = {
    "null": None, "boolean": True, "integer": 7, "number": 1.5, "string": "no such value", "array": [{}],
    "object": {"zebra": 1},
}  # fmt: skip
Path = tuple[str | int, ...]


@pytest.fixture(scope="module")
def server(start):
    with start() as running:
        yield running


@pytest.fixture(scope="module")
def document(server) -> dict:
    with server.client() as client:
        return client.get("/openapi.json").json()


def post_routes(document: dict) -> list[str]:
    return [path for path, item in document["paths"].items() if "post" in item]


class Wrong:
    """All changes of one value that make a valid body invalid, according to the server's own description."""

    def __init__(self, document: dict) -> None:
        self.document = document

    def bodies(self, path: str, valid: dict) -> Iterator[tuple[Path, dict]]:
        content = self.document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        for where, value in self._at((), valid, content["schema"]):
            body = copy.deepcopy(valid)
            target = body
            for step in where[:-1]:
                target = target[step]
            target[where[-1]] = value
            yield where, body

    def _at(self, where: Path, value: object, schema: dict) -> Iterator[tuple[Path, object]]:
        branches = self._branches(schema)
        if where:
            yield from ((where, wrong) for wrong in self._values(branches))
        arrays = [branch for branch in branches if branch.get("type") == "array"]
        for branch in branches:
            if branch.get("type") == "object" and isinstance(value, dict) and "properties" in branch:
                yield (*where, "no_such_field"), 1
                for name, inner in branch["properties"].items():
                    if name in value:
                        yield from self._at((*where, name), value[name], inner)
            elif isinstance(value, list) and arrays == [branch]:  # else an item wrong for one is right for another
                for index, item in enumerate(value):
                    yield from self._at((*where, index), item, branch["items"])

    def _branches(self, schema: dict) -> list[dict]:
        if "$ref" in schema:
            name = schema["$ref"].removeprefix("#/components/schemas/")
            return self._branches(self.document["components"]["schemas"][name])
        return [b for part in schema["anyOf"] for b in self._branches(part)] if "anyOf" in schema else [schema]

    @staticmethod
    def _values(branches: list[dict]) -> Iterator[object]:
        """Values of other types, and values just outside the allowed range."""
        types = {branch.get("type") for branch in branches}
        if None in types:  # anything at all
            return
        for kind, sample in SAMPLES.items():
            is_free = kind == "object" and any(b.get("type") == "object" and "properties" not in b for b in branches)
            if not (kind in types or is_free or (kind == "integer" and "number" in types)):
                yield sample
        for branch in branches:
            yield from (beyond(branch[key]) for key, beyond in BEYOND.items() if branch.get(key) is not None)


BEYOND: dict[str, Callable] = {
    "enum": lambda _: "no such value",
    "const": lambda _: "no such value",
    "minimum": lambda bound: bound - 1,
    "maximum": lambda bound: bound + 1,
    "exclusiveMinimum": lambda bound: bound,
    "exclusiveMaximum": lambda bound: bound,
    "maxLength": lambda bound: "x" * (bound + 1),
    "pattern": lambda _: "\n bad \n",
    "minItems": lambda _: [],
}


def test_every_wrong_type_and_range_is_refused_with_the_field(server, document, report):
    """R32: for each field of each route, at any depth."""
    wrong, count = Wrong(document), 0
    with server.client() as client:
        for path, bodies in VALID.items():
            for valid in bodies:
                assert client.post(path, json=valid).status_code == 200, valid
                for where, body in wrong.bodies(path, valid):
                    response = client.post(path, content=json.dumps(body))
                    assert response.status_code in (400, 404), (path, where, body)
                    error = response.json()["error"]
                    named = f"{error['param']} {error['message']}"
                    assert str(where[0]) in named or error["code"] == "model_not_found", (where, error)
                    count += 1
    assert count >= 300
    report(R32_invalid_requests=count)


def test_null_means_the_default_as_in_openais_api(server):
    """Some clients send every field, most of them as null."""
    nullable = [
        "n", "temperature", "top_p", "stop", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "stream",
        "stream_options", "logprobs", "top_logprobs", "max_completion_tokens", "tools", "tool_choice",
        "parallel_tool_calls", "functions", "response_format", "user",
    ]  # fmt: skip
    body = {"model": "tiny", "messages": MESSAGES[:2], "max_tokens": 2} | dict.fromkeys(nullable)
    with server.client() as client:
        assert client.post("/v1/chat/completions", json=body).json()["usage"]["completion_tokens"] == 2


def test_the_json_test_suite_gets_no_server_error_on_any_route(server, document, shared, report):
    """R31: 318 bodies on every POST route."""
    bodies = sorted((shared / "data/json_test_suite/test_parsing").iterdir())
    assert len(bodies) == 318
    seconds = []
    with server.client() as client:
        for path in post_routes(document):
            for body in bodies:
                started = time.perf_counter()
                response = client.post(path, content=body.read_bytes(), headers={"content-type": "application/json"})
                seconds.append(time.perf_counter() - started)
                assert response.status_code in (400, 422), (path, body.name, response.status_code)
                assert response.json()["error"]["message"]
    assert len(post_routes(document)) == len(VALID)
    report(R31_bodies=len(seconds), p50_ms=percentile(seconds, 0.5), p99_ms=percentile(seconds, 0.99))


def deep(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


def expensive() -> Iterator[tuple[str, bytes]]:
    """Requests that would be very expensive."""
    chat = {"model": "tiny", "messages": [{"role": "user", "content": "x"}]}
    tool = {"type": "function", "function": FUNCTION}
    fields = {
        "stop": ["x"] * 1000, "n": 10**9, "max_tokens": 10**9, "logit_bias": {str(i): 1 for i in range(10**6)},
        "top_logprobs": 10**6, "messages": chat["messages"] * 5000, "stop_token_ids": [1] * 10**5,
        "metadata": {str(i): "x" for i in range(10**5)}, "seed": 10**40,
    }  # fmt: skip
    for name, value in fields.items():
        yield name, json.dumps(chat | {"logprobs": True, name: value}).encode()
    yield (
        "tools",
        json.dumps(
            chat | {"tools": [tool | {"function": FUNCTION | {"name": f"f{i}"}} for i in range(10**4)]}
        ).encode(),
    )
    head = json.dumps(chat)[:-1].encode()
    yield (
        "tool depth",
        head + b',"tools":[{"type":"function","function":{"name":"f","parameters":' + deep(10**4) + b"}}]}",
    )
    yield (
        "schema depth",
        (head + b',"response_format":{"type":"json_schema","json_schema":{"name":"s","schema":' + deep(10**4) + b"}}}"),
    )
    yield "whitespace", b" " * (10 * 2**20)
    yield "digits", head + b',"seed":' + b"1" * 10**6 + b"}"
    yield "keys", b"{" + b",".join(b'"%d":1' % i for i in range(10**5)) + b"}"


def test_very_expensive_requests_are_refused_at_once(server, report):
    """R36."""
    slowest = {}
    with server.client() as client:
        for name, content in expensive():
            started = time.perf_counter()
            response = client.post("/v1/chat/completions", content=content)
            slowest[name] = round((time.perf_counter() - started) * 1e3, 1)
            assert response.status_code in (400, 413), (name, response.status_code)
    worst = max(slowest, key=slowest.__getitem__)
    report(R36_requests=len(slowest), slowest=worst.replace(" ", "_"), slowest_ms=slowest[worst])


@pytest.mark.parametrize("size", [-1, 0, 1, 10, 1000])
def test_a_prompt_is_used_in_full_or_refused(server, size):
    """R37: one token below the context, at it, beyond it, and ten and a thousand times as long."""
    context = server.engine.max_model_len
    length = context + size if abs(size) <= 1 else context * size
    with server.client() as client:
        response = client.post("/v1/completions", json={"model": "tiny", "prompt": "a" * length, "max_tokens": 1})
        if size < 0:
            assert response.json()["usage"]["prompt_tokens"] == length
        elif size <= 10:
            assert (response.status_code, response.json()["error"]["code"]) == (400, "context_length_exceeded")
        else:
            assert response.status_code in (400, 413)
            ids = client.post("/v1/completions", json={"model": "tiny", "prompt": [97] * length, "max_tokens": 1})
            assert ids.status_code in (400, 413)


@pytest.mark.peer
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_schemathesis_finds_no_server_error(server, mode, tmp_path, report):
    """R32 by an independent tool that reads only the description of the API (QIANWEN_SCHEMATHESIS, or on the path)."""
    program = os.environ.get("QIANWEN_SCHEMATHESIS") or shutil.which("schemathesis")
    if program is None:
        pytest.skip("schemathesis is not installed: pip install schemathesis, in any environment")
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    checks += ",negative_data_rejection" if mode == "negative" else ""
    examples = os.environ.get("QIANWEN_EXAMPLES", "200")
    command = [
        program, "run", f"{server.url}/openapi.json", "--mode", mode, "--checks", checks, "--max-examples", examples,
        "--seed", "1", "--phases", "examples,coverage,fuzzing", "--workers", "1", "--request-timeout", "60",
        "--exclude-path", "/health", "--exclude-path", "/ready", "--exclude-path", "/metrics",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    report(**{f"R32_schemathesis_{mode}": done.stdout.strip().splitlines()[-1].replace(" ", "_")})
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert server.service.is_healthy
