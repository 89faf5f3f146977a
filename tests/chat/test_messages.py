import pytest

from qianwen.chat import AudioPart, FunctionSpec, ImagePart, Message, TextPart, ToolCall, from_openai, render, to_openai
from qianwen.runtime.errors import RequestError


def test_to_openai_and_back():
    call = ToolCall("add", '{"x": 1}', "call_1")
    messages = [
        Message("system", "Be brief."),
        Message("user", "1+1?", name="ann"),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "2", tool_call_id="call_1"),
        Message("user", [TextPart("What is this?"), ImagePart("data:image/png;base64,AA==", "low")]),
        Message("user", [AudioPart("AA==", "wav"), ImagePart("https://example.org/a.png")]),
    ]
    assert [from_openai(to_openai(message)) for message in messages] == messages
    assert from_openai(to_openai(messages[2])).tool_calls[0].id == "call_1"


def test_older_forms_are_read():
    old = from_openai({"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}})
    assert old.tool_calls == (ToolCall("f", "{}"),) and old.content is None and old.text == ""
    assert from_openai({"role": "function", "name": "f", "content": "3"}).role == "tool"
    assert from_openai({"role": "developer", "content": "x"}).role == "system"
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    message = from_openai({"role": "user", "content": parts})
    assert message.text == "ab" and to_openai(message)["content"] == parts


def test_parts_in_openais_form():
    parts = [TextPart("a"), ImagePart("https://example.org/a.png"), ImagePart("b", "high"), AudioPart("AA==", "mp3")]
    assert to_openai(Message("user", parts))["content"] == [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "image_url", "image_url": {"url": "b", "detail": "high"}},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}},
    ]


def test_a_message_of_parts_can_be_hashed_and_has_a_text():
    message = Message("user", [TextPart("a"), TextPart("b")])
    assert message == Message("user", (TextPart("a"), TextPart("b"))) and len({message, message}) == 1
    assert message.text == "ab" and Message("user", "ab").text == "ab"


@pytest.mark.parametrize("part", [ImagePart("https://example.org/a.png"), AudioPart("AA==", "wav")])
def test_a_text_model_refuses_images_and_audio_by_their_type(part, tokenizer, tag_tokenizer):
    message = Message("user", [TextPart("What is this?"), part])
    pattern = f"^this model reads text only; content of type '{part.type}' is not supported$"
    for vocabulary in (tokenizer, tag_tokenizer):
        for functions in ((), (FunctionSpec("f"),)):
            with pytest.raises(RequestError, match=pattern):
                render([message], vocabulary, functions=functions)
            joined = [Message("user", [TextPart("a "), TextPart("b")])]
            assert render(joined, vocabulary, functions=functions) == render(
                [Message("user", "a b")], vocabulary, functions=functions
            )


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ({"role": "alien", "content": "x"}, "alien"),
        ({"role": ["user"], "content": "x"}, "user"),
        ({"role": "user", "content": 3}, "3"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "image_url"),
        ({"role": "user", "content": ["text"]}, '"text"'),
        ({"role": "user", "content": [{"type": "text", "text": 3}]}, "3"),
        ({"role": "user", "content": [{"type": "video", "video": {"url": "x"}}]}, "video"),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA=="}}]}, "input_audio"),
        ({"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}, '{"id": "1"}'),
        ("hello", "hello"),
    ],
)
def test_an_invalid_message_is_refused_with_its_value(message, named):
    with pytest.raises(RequestError, match=named):
        from_openai(message)


@pytest.mark.parametrize("content", [None, 3, ["a"], {"type": "text", "text": "a"}])
def test_content_is_text_or_parts(content):
    with pytest.raises(RequestError, match="must be text or a list of parts"):
        Message("user", content)


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
