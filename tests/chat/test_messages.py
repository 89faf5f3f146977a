import pytest

from qianwen.chat import FunctionSpec, Message, ToolCall, from_openai, to_openai
from qianwen.runtime.errors import RequestError


def test_a_conversation_survives_openais_form():
    call = ToolCall("add", '{"x": 1}', "call_1")
    messages = [
        Message("system", "Be brief."),
        Message("user", "1+1?", name="ann"),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "2", tool_call_id="call_1"),
    ]
    assert [from_openai(to_openai(message)) for message in messages] == messages
    assert from_openai(to_openai(messages[2])).tool_calls[0].id == "call_1"


def test_older_forms_are_read():
    old = from_openai({"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}})
    assert old.tool_calls == (ToolCall("f", "{}"),) and old.content == ""
    assert from_openai({"role": "function", "name": "f", "content": "3"}).role == "tool"
    assert from_openai({"role": "developer", "content": "x"}).role == "system"
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert from_openai({"role": "user", "content": parts}).content == "ab"


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ({"role": "alien", "content": "x"}, "alien"),
        ({"role": ["user"], "content": "x"}, "user"),
        ({"role": "user", "content": 3}, "3"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "image_url"),
        ({"role": "user", "content": ["text"]}, "str"),
        ({"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}, "None"),
        ("hello", "hello"),
    ],
)
def test_what_cannot_be_read_is_named(message, named):
    with pytest.raises(RequestError, match=named):
        from_openai(message)


def test_functions_are_read_in_three_forms():
    schema = {"type": "object", "properties": {"q": {"type": "string"}}}
    spec = FunctionSpec("search", "Find pages.", schema)
    body = {"name": "search", "description": "Find pages.", "parameters": schema}
    assert FunctionSpec.from_openai(spec.to_openai()) == FunctionSpec.from_openai(body) == spec
    v1 = {
        "name_for_human": "Google",
        "name_for_model": "google",
        "description_for_model": "Finds.",
        "parameters": [{"name": "q"}],
        "args_format": "json",
    }
    assert FunctionSpec.from_openai(v1) == FunctionSpec("google", "Finds.", [{"name": "q"}], "Google", "json")
    with pytest.raises(RequestError, match="name"):
        FunctionSpec.from_openai({"description": "nameless"})
