"""Request bodies: null for every optional field, refusals by name, and errors in the words of JSON."""

import json
import re
from typing import Any, get_type_hints

import pytest

from qianwen.runtime.errors import RequestError
from qianwen.serve.protocol import BODIES, ChatCompletionRequest, CompletionRequest, EmbeddingRequest, parse
from qianwen.serve.responses_protocol import ResponsesRequest

from ..serve.conftest import model, server, start, tokenizer

__all__ = ["model", "server", "start", "tokenizer"]
USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
CHAT = {"model": "tiny", "messages": [USER]}
REQUIRED = {
    ChatCompletionRequest: CHAT,
    CompletionRequest: {"model": "tiny", "prompt": "ab"},
    EmbeddingRequest: {"model": "tiny", "input": "ab"},
    ResponsesRequest: {"model": "tiny", "input": "ab"},
}
PARAMETERS = {
    ChatCompletionRequest: ("chat.completion_create_params", "CompletionCreateParamsBase"),
    CompletionRequest: ("completion_create_params", "CompletionCreateParamsBase"),
    EmbeddingRequest: ("embedding_create_params", "EmbeddingCreateParams"),
    ResponsesRequest: ("responses.response_create_params", "ResponseCreateParamsBase"),
}


def problem(fields: dict[str, Any], kind: type = ChatCompletionRequest) -> RequestError:
    with pytest.raises(RequestError) as error:
        parse(json.dumps(REQUIRED[kind] | fields).encode(), kind)
    message = str(error.value)
    assert not re.search(r"\b(NoneType|None|True|False|dict|valid list|model_type|Input should)\b|list\[", message), (
        message
    )
    return error.value


@pytest.mark.parametrize("kind", REQUIRED)
def test_null_is_accepted_for_every_field_that_may_be_left_out(kind):
    optional = [field.alias or name for name, field in kind.model_fields.items() if not field.is_required()]
    for name in optional:
        parse(json.dumps(REQUIRED[kind] | {name: None}).encode(), kind)
    parse(json.dumps(REQUIRED[kind] | dict.fromkeys(optional)).encode(), kind)


@pytest.mark.parametrize("kind", PARAMETERS)
def test_every_field_of_the_official_client_is_known(kind):
    """Null is accepted; a value is accepted or refused with the field's name, never called unknown."""
    openai = pytest.importorskip("openai", reason="the official client is not installed")
    module, name = PARAMETERS[kind]
    types: Any = openai.types
    for part in module.split("."):
        types = getattr(types, part)
    for field in get_type_hints(getattr(types, name)):
        if field in REQUIRED[kind]:
            continue
        parse(json.dumps(REQUIRED[kind] | {field: None}).encode(), kind)
        for value in ({"x": 1}, "x", [1], True, -7):
            try:
                parse(json.dumps(REQUIRED[kind] | {field: value}).encode(), kind)
            except RequestError as error:
                assert field in str(error) and f"unknown field '{field}'" not in str(error), str(error)


def test_null_in_the_objects_inside():
    message = {"role": "assistant", "content": None, "refusal": None, "audio": None, "annotations": None, "name": None,
               "tool_calls": [CALL | {"type": None}], "function_call": None, "tool_call_id": None}  # fmt: skip
    tool = {"type": "function", "function": {"name": "f", "description": None, "parameters": None, "strict": None}}
    options = {"include_usage": None, "include_obfuscation": None}
    fields = {"messages": [USER, message], "tools": [tool], "stream": True, "stream_options": options}
    parse(json.dumps(CHAT | fields).encode(), ChatCompletionRequest)


def test_a_refusal_can_be_sent_again():
    answer = {"role": "assistant", "content": None, "refusal": "blocked"}
    request = parse(json.dumps(CHAT | {"messages": [USER, answer, USER]}).encode(), ChatCompletionRequest)
    assert request.messages[1].text == "blocked"


UNSUPPORTED = {
    "audio": {"voice": "a", "format": "wav"}, "prediction": {"type": "content", "content": "x"},
    "web_search_options": {}, "verbosity": "high", "modalities": ["text", "audio"], "store": True,
    "service_tier": "priority", "moderation": {"model": "m"}, "prompt_cache_options": {"mode": "explicit"},
    "prompt_cache_retention": "24h", "metadata": {"a": 1},
}  # fmt: skip


@pytest.mark.parametrize("field", UNSUPPORTED)
def test_what_is_not_supported_is_refused_by_name(field):
    error = problem({field: UNSUPPORTED[field]})
    assert (error.param or "").split("[")[0].split(".")[0] == field and field in str(error)


@pytest.mark.parametrize(
    "field", ["previous_response_id", "conversation", "background", "prompt", "truncation", "store"]
)
def test_what_responses_do_not_support_is_refused_by_name(field):
    value = {"truncation": "auto", "background": True, "store": True}.get(field, "resp_1")
    error = problem({field: value}, ResponsesRequest)
    assert error.param == field and field in str(error)


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"temperature": "0.5"}, "temperature", 'temperature must be a number; got "0.5"'),
        ({"temperature": True}, "temperature", "temperature must be a number; got true"),
        ({"temperature": 9}, "temperature", "temperature must be at most 2; got 9"),
        ({"n": 1.5}, "n", "n must be an integer; got 1.5"), ({"n": 0}, "n", "n must be at least 1; got 0"),
        ({"stream": "yes"}, "stream", 'stream must be true or false; got "yes"'),
        ({"stop": 5}, "stop", "stop must be a string or an array; got 5"),
        ({"stop": ["a", 5]}, "stop[1]", "stop[1] must be a string; got 5"),
        ({"logit_bias": []}, "logit_bias", "logit_bias must be an object; got []"),
        ({"messages": {}}, "messages", "messages must be an array; got {}"),
        ({"messages": []}, "messages", "messages must have at least 1 item; got []"),
        ({"messages": [USER, 5]}, "messages[1]", "messages[1] must be an object; got 5"),
        ({"messages": [USER, {"content": "x"}]}, "messages[1].role", "messages[1].role is missing"),
        ({"messages": [USER | {"content": 5}]}, "messages[0].content",
        "messages[0].content must be a string or an array"),
        ({"messages": [USER, USER, USER | {"content": [{"type": "text", "text": 5}]}]}, "messages[2].content[0].text",
         "messages[2].content[0].text must be a string; got 5"),
        ({"messages": [USER | {"content": [{"type": "text"}]}]}, "messages[0].content[0].text", "is missing"),
        ({"messages": [USER | {"content": [{"text": "x"}]}]}, "messages[0].content[0].type", "is missing"),
        ({"messages": [USER | {"content": ["x"]}]}, "messages[0].content[0]", "must be an object"),
        ({"messages": [{"role": "alien", "content": "x"}]}, "messages[0].role", "messages[0].role must be 'system'"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "c"}]}]}, "messages[0].tool_calls[0].function",
         "is missing"),
        ({"messages": [{"role": "assistant", "tool_calls": [CALL | {"function": {"name": "f", "arguments": {}}}]}]},
         "messages[0].tool_calls[0].function.arguments", "must be a string; got {}"),
        ({"tools": [TOOL, {"type": "custom", "custom": {}}]}, "tools[1]", "tools[1]"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name",
        "tools[0].function.name is missing"),
        ({"tool_choice": 5}, "tool_choice", "tool_choice must be"),
        ({"tool_choice": "sometimes"}, "tool_choice", "tool_choice must be 'none', 'auto' or 'required'"),
        ({"tool_choice": {"type": "function", "function": {}}}, "tool_choice.function.name", "is missing"),
        ({"response_format": "json"}, "response_format", 'response_format must be an object; got "json"'),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": 5}}},
         "response_format.json_schema.schema", "must be an object; got 5"),
        ({"metadata": {"a": 1}}, "metadata.a", "metadata.a must be a string; got 1"),
        ({"temprature": 1}, None, "unknown field 'temprature'"),
    ],
)  # fmt: skip
def test_an_error_names_the_real_cause(fields, param, message):
    error = problem(fields)
    assert error.param == param and message in str(error)


@pytest.mark.parametrize(
    ("value", "param"),
    [
        (5, "prompt"), ({}, "prompt"), ([], "prompt"), ([[]], "prompt[0]"), ([1, "a"], "prompt[1]"),
        (["a", 1], "prompt[1]"),
        ([[1], ["a"]], "prompt[1][0]"), ([1.5], "prompt[0]"), ([-1], "prompt[0]"), ([["a"]], "prompt[0][0]"),
    ],
)  # fmt: skip
def test_a_wrong_prompt_names_its_place(value, param):
    assert problem({"prompt": value}, CompletionRequest).param == param


@pytest.mark.parametrize(
    ("item", "param"),
    [
        (5, "input[0]"), ({"type": "alien"}, "input[0]"), ({"role": "user"}, "input[0].content"),
        ({"role": "user", "content": 5}, "input[0].content"), ({"role": "tool", "content": "x"}, "input[0].role"),
        ({"role": "user", "content": [{"type": "input_text", "text": 5}]}, "input[0].content[0].text"),
        ({"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}, "input[0].content[0]"),
        ({"type": "function_call", "call_id": "c", "name": "f"}, "input[0].arguments"),
        ({"type": "function_call_output", "output": "x"}, "input[0].call_id"),
        ({"type": "item_reference", "id": "x"}, "input[0].id"), ({"type": "web_search_call"}, "input[0]"),
    ],
)  # fmt: skip
def test_a_wrong_item_names_its_place(item, param):
    error = problem({"input": [item]}, ResponsesRequest)
    assert error.param == param and (param in str(error) or "item_reference" in json.dumps(item))


@pytest.mark.parametrize("kind", ["web_search", "file_search", "code_interpreter", "mcp", "custom", "image_generation"])
def test_a_tool_of_the_server_is_refused_by_name(kind):
    error = problem({"tools": [{"type": kind}]}, ResponsesRequest)
    assert error.param == "tools[0]" and f"'{kind}'" in str(error)


@pytest.mark.parametrize("body", [b'{"model": "tiny",}', b"{'a': 1}", b"{", b"", b"nul", b'{"a": tru}'])
def test_json_that_is_not_valid_is_called_that(body):
    for kind in (*BODIES, ResponsesRequest):
        with pytest.raises(RequestError, match="not valid JSON: "):
            parse(body, kind)


# ---- answers ----


def test_two_thousand_texts_are_embedded(server):
    with server.client() as client:
        texts = [f"text {number % 7}" for number in range(2048)]
        answer = client.post("/v1/embeddings", json={"model": "tiny", "input": texts})
        assert answer.status_code == 200 and len(answer.json()["data"]) == 2048
        answer = client.post("/v1/embeddings", json={"model": "tiny", "input": [*texts, "x"]})
        assert answer.status_code == 400 and "at most 2048 items" in answer.json()["error"]["message"]


@pytest.mark.parametrize("prompt", ["ab", "é", "你好", "a😀b", [228], [97, 240, 159], [258, 97], "x" * 40])
@pytest.mark.parametrize("echo", [True, False])
@pytest.mark.parametrize("bias", [{}, {"228": 30, "189": 30, "160": 30}, {"97": 100}])
def test_text_offsets_point_into_the_text(server, prompt, echo, bias):
    body = {"model": "tiny", "prompt": prompt, "echo": echo, "logprobs": 1, "max_tokens": 12, "logit_bias": bias,
            "ignore_eos": True, "temperature": 1, "seed": 5}  # fmt: skip
    with server.client() as client:
        [choice] = client.post("/v1/completions", json=body).json()["choices"]
    check_offsets(choice["text"], choice["logprobs"])


def check_offsets(text: str, logprobs: dict) -> None:
    offsets = logprobs["text_offset"]
    assert offsets == sorted(offsets) and all(0 <= offset <= len(text) for offset in offsets)
    for token, offset in zip(logprobs["tokens"], offsets, strict=True):
        if "\ufffd" not in token and not token.startswith("<|"):
            assert text.startswith(token, offset) or offset == len(text)


@pytest.mark.parametrize("stop", ["a", "aa", "aaa", "é"])
def test_text_offsets_after_a_stop_string(server, stop):
    body = {"model": "tiny", "prompt": "b", "echo": True, "logprobs": 0, "max_tokens": 12, "logit_bias": {"97": 100}}
    with server.client() as client:
        [choice] = client.post("/v1/completions", json=body | {"stop": stop}).json()["choices"]
        check_offsets(choice["text"], choice["logprobs"])
        events = client.post("/v1/completions", json=body | {"echo": False, "stream": True, "stop": stop}).text
    pieces = [json.loads(line[6:])["choices"][0] for line in events.splitlines() if line.startswith("data: {")]
    text = "".join(piece["text"] for piece in pieces)
    offsets = [offset for piece in pieces for offset in piece["logprobs"]["text_offset"]]
    assert offsets == sorted(offsets) and all(offset <= len(text) or stop != "é" for offset in offsets)
