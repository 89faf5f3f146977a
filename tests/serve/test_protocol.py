"""Requests with unsupported or invalid fields are refused with the field's name."""

import json
from dataclasses import replace

import pytest

from qianwen.model.long_context import LongContext
from qianwen.runtime.errors import RequestError
from qianwen.serve.protocol import ChatCompletionRequest, CompletionRequest, EmbeddingRequest, TokenizeRequest, parse

REQUESTS = [ChatCompletionRequest, CompletionRequest, EmbeddingRequest, TokenizeRequest]
HELLO = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def chat(**fields: object) -> ChatCompletionRequest:
    return parse(json.dumps(HELLO | fields).encode(), ChatCompletionRequest)


def test_defaults():
    request = chat()
    assert (request.n, request.stream, request.temperature, request.limit, request.stops) == (1, False, None, None, [])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -1), ("temperature", 2.5), ("temperature", "0.5"), ("temperature", True), ("top_p", 0),
        ("top_p", 1.5), ("top_k", -1), ("top_k", 1.5), ("min_p", 2), ("repetition_penalty", 0), ("n", 0), ("n", 10**9),
        ("max_tokens", 0), ("max_tokens", -5), ("max_tokens", 2**31), ("max_tokens", "10"), ("presence_penalty", 3),
        ("frequency_penalty", -3), ("seed", 1.5), ("seed", 2**70), ("stop", ["x"] * 17), ("stop", ""), ("stop", [1]),
        ("stop", "x" * 257), ("logit_bias", {"a": 1}), ("logit_bias", {"1": 101}), ("logit_bias", {"-1": 1}),
        ("logit_bias", {str(i): 1 for i in range(1025)}), ("top_logprobs", 21), ("top_logprobs", 3), ("stream", "yes"),
        ("stream_options", {"include_usage": True}), ("tools", [TOOL] * 129), ("tools", [TOOL, TOOL]), ("tools", "x"),
        ("tool_choice", "required"), ("tool_choice", {"type": "function", "function": {"name": "other"}}),
        ("response_format", {"type": "xml"}), ("response_format", {"type": "json_schema"}), ("unknown", 1),
        ("messages", []), ("messages", [{"role": "alien", "content": "x"}]), ("messages", [{"role": "user"}]),
        ("messages", [{"role": "user", "content": 5}]), ("messages", [{"role": "tool", "content": "x"}]),
        ("messages", [{"role": "assistant"}]), ("messages", ["hi"]), ("model", ""), ("model", None), ("store", True),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused_with_the_field(field, value):
    with pytest.raises(RequestError) as error:
        chat(**{field: value})
    assert error.value.status == 400
    assert field in str(error.value) or error.value.param in (None, field)


DEFAULT = LongContext(rope="yarn", factor=2, logn=True)


@pytest.mark.parametrize(
    ("rope", "extension"),
    [
        (None, DEFAULT),
        ("dynamic_ntk", LongContext(rope="dynamic_ntk", factor=2, logn=True)),
        ({}, DEFAULT),
        ({"method": "linear", "factor": 8, "logn": False}, LongContext(rope="linear", factor=8, logn=False)),
        ({"method": "yarn", "factor": None, "on_growth": "fixed"}, replace(DEFAULT, on_growth="fixed")),
    ],
)
def test_the_method_for_long_texts_replaces_that_of_the_server(rope, extension):
    assert chat(rope=rope).extension(DEFAULT) == extension


@pytest.mark.parametrize(
    ("rope", "words"),
    [
        ("ntk", "rope must be"),
        (4, "rope must be"),
        ({"method": "llama3"}, "rope.method must be"),
        ({"method": "yarn", "factor": 0.5}, "rope.factor must be at least 1"),
        ({"method": "yarn", "factor": "4"}, "rope.factor must be a number"),
        ({"factor": 4}, "rope: factor is only allowed with method yarn or linear"),
        ({"method": "dynamic_ntk", "factor": 4}, "rope: factor is only allowed"),
        ({"method": "yarn", "logn": "yes"}, "rope.logn must be true or false"),
        ({"on_growth": "never"}, "rope.on_growth must be"),
        ({"base": 1e6}, "unknown field 'base'"),
    ],
)
def test_a_wrong_method_is_refused_with_its_field(rope, words):
    for kind, body in ((ChatCompletionRequest, HELLO), (CompletionRequest, {"model": "m", "prompt": "x"})):
        with pytest.raises(RequestError) as error:
            parse(json.dumps(body | {"rope": rope}).encode(), kind)
        assert words in str(error.value) and error.value.param.startswith("rope") and error.value.status == 400


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file", "video"])
def test_content_that_is_not_text_is_refused_with_its_type(kind):
    with pytest.raises(RequestError, match=f"reads text only; content of type '{kind}'"):
        chat(messages=[{"role": "user", "content": [{"type": kind, kind: {"url": "x"}}]}])


def test_text_parts_are_joined():
    request = chat(
        messages=[{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    )
    assert request.messages[0].text == "ab"


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"1", b'"x"', b"{", b"\xff", b'{"a":NaN}', b"[" * 100_000])
@pytest.mark.parametrize("request_type", REQUESTS)
def test_a_body_that_is_not_a_json_object_is_refused(body, request_type):
    with pytest.raises(RequestError) as error:
        parse(body, request_type)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_numbers_that_are_not_finite_are_refused(number):
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":' + number + b"}"
    with pytest.raises(RequestError):
        parse(body, ChatCompletionRequest)


def test_deeply_nested_schemas_are_refused_quickly():
    body = json.dumps(HELLO)[:-1].encode() + b',"tools":[{"type":"function","function":{"name":"f","parameters":'
    with pytest.raises(RequestError):
        parse(body + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}}]}", ChatCompletionRequest)


@pytest.mark.parametrize("request_type", REQUESTS)
def test_every_body_of_the_json_test_suite_is_refused(shared, request_type):
    """None of the 318 bodies is a valid request, so each gives a RequestError and no other exception."""
    bodies = sorted((shared / "data/json_test_suite/test_parsing").iterdir())
    assert len(bodies) == 318
    for body in bodies:
        with pytest.raises(RequestError):
            parse(body.read_bytes(), request_type)


def test_all_forms_of_prompts():
    def prompts(prompt: object) -> list:
        return parse(json.dumps({"model": "m", "prompt": prompt}).encode(), CompletionRequest).prompts

    assert prompts("a") == ["a"]
    assert prompts(["a", "b"]) == ["a", "b"]
    assert prompts([1, 2]) == [[1, 2]]
    assert prompts([[1], [2, 3]]) == [[1], [2, 3]]
    for wrong in ([], [[]], [1, "a"], [-1], None, {}):
        with pytest.raises(RequestError):
            prompts(wrong)


NAMED = {"type": "function", "function": {"name": "weather"}}
OLDER = {"functions": [TOOL["function"]]}


@pytest.mark.parametrize(
    ("fields", "choice"),
    [
        ({}, "auto"),
        ({"tools": [TOOL], "tool_choice": "auto"}, "auto"),
        ({"tools": [TOOL], "tool_choice": "none"}, "none"),
        ({"tools": [TOOL], "tool_choice": "required"}, "required"),
        ({"tools": [TOOL], "tool_choice": NAMED}, "weather"),
        (OLDER | {"function_call": "none"}, "none"),
        (OLDER | {"function_call": "auto"}, "auto"),
        (OLDER | {"function_call": {"name": "weather"}}, "weather"),
    ],
)
def test_both_forms_of_tool_choice_are_equal(fields, choice):
    assert chat(**fields).choice == choice


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"tools": [TOOL], "tool_choice": "required", "function_call": "none"},
            "tool_choice and function_call contradict each other",
        ),
        (
            {"tools": [TOOL], "tool_choice": NAMED, "function_call": "none"},
            "tool_choice and function_call contradict each other",
        ),
        ({"functions": [{"name": "auto"}], "function_call": {"name": "auto"}}, "cannot name a function called 'auto'"),
    ],
)
def test_tool_choices_that_contradict_are_refused(fields, message):
    with pytest.raises(RequestError, match=message):
        chat(**fields)


def test_response_formats():
    schema = {"type": "object"}
    assert chat().format is None and chat(response_format={"type": "text"}).format is None
    assert chat(response_format={"type": "json_object"}).format == "json_object"
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    assert chat(response_format=wanted).format == schema
