import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qianwen.chat import FunctionSpec, Message, ToolCall, collect, render
from qianwen.chat.functions import (
    ReActCallReader,
    ToolCallReader,
    call_reader,
    function_format,
    function_stop,
)

ADD = FunctionSpec("add", "Adds.", {"type": "object", "properties": {"x": {"type": "integer"}}})


def read(reader, chunks) -> tuple[str, tuple[ToolCall, ...]]:
    deltas = [delta for chunk in chunks for delta in reader.feed(chunk)]
    message = collect([*deltas, *reader.finish()])
    return message.content, message.tool_calls


def call(arguments: str, name: str = "add") -> ToolCall:
    return ToolCall(name, arguments)


TAGGED = [
    ("plain text\n", ("plain text\n", ())),
    ("a < b and <tool", ("a < b and <tool", ())),
    ('<tool_call>\n{"name": "add", "arguments": {"x": 1}}\n</tool_call>', ("", (call('{"x": 1}'),))),
    (
        'Sure.\n<tool_call>{"name":"add","arguments":{"x":1}}</tool_call>\n<tool_call>{"name":"add","arguments":{}}'
        "</tool_call>\n",
        ("Sure.", (call('{"x": 1}'), call("{}"))),
    ),
    (
        '<tool_call>{"name": "add", "arguments": {"x": "</tool_call>"}}</tool_call>',
        ("", (call('{"x": "</tool_call>"}'),)),
    ),
    ('<tool_call>{"name": "add", "arguments": "{\\"x\\": 1}"}</tool_call>', ("", (call('{"x": 1}'),))),
    ('<tool_call>{"name": "add", "arguments": {"x": 2}}', ("", (call('{"x": 2}'),))),  # the end came first
    ("<tool_call>not json</tool_call> then", ("<tool_call>not json</tool_call> then", ())),
    ('<tool_call>{"arguments": {}}</tool_call>', ('<tool_call>{"arguments": {}}</tool_call>', ())),
    ('<tool_call>{"name": "a"', ('<tool_call>{"name": "a"', ())),
    ('x<tool_call>{"name": "add", "arguments": {"x": "杭州\\n"}}</tool_call> y', ("x y", (call('{"x": "杭州\\n"}'),))),
]
REACT = [
    ("Thought: hm\nAction: add\nAction Input: {}\n", ("hm", (call("{}"),))),
    ("Thought: a\nFinal Answer: four.", ("four.", ())),
    ("Action: `add`\nAction Input: ```py\nprint(1)\n```\nObservation: 1", ("", (call("```py\nprint(1)\n```"),))),
    ("Thought: no tool helps", ("no tool helps", ())),
    ("Thought: a\nAction: add", ("a\nAction: add", ())),
    ("An answer\nof two lines", ("An answer\nof two lines", ())),
    ("Thought: a\nAction: add\nAction Input: 1\nThought: b\nAction: neg\nAction Input: 2",
     ("ab", (call("1"), call("2", "neg")))),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "want"), TAGGED)
def test_tags_are_read_at_any_split(reply, want):
    assert read(ToolCallReader(), [reply]) == want
    for cut in range(len(reply)):
        assert read(ToolCallReader(), [reply[:cut], reply[cut:]]) == want
    assert read(ToolCallReader(), reply) == want


@pytest.mark.parametrize(("reply", "want"), REACT)
def test_react_is_read_at_any_split(reply, want):
    assert read(ReActCallReader(), [reply]) == want
    for cut in range(len(reply)):
        assert read(ReActCallReader(), [reply[:cut], reply[cut:]]) == want
    assert read(ReActCallReader(), reply) == want


PIECES = st.sampled_from(
    ["<tool_call>", "</tool_call>", '{"name": "add", ', '"arguments": {', '"x"', ": 1", "}", "\\", '"', "\n", " ", "好"]
)


@given(st.lists(PIECES, max_size=25), st.data())
def test_any_text_reads_the_same_at_any_split(pieces, data):
    reply = "".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(reply)), max_size=8)))
    chunks = [reply[a:b] for a, b in zip([0, *cuts], [*cuts, len(reply)], strict=True)]
    assert read(ToolCallReader(), chunks) == read(ToolCallReader(), [reply])


@given(st.dictionaries(st.text(), st.one_of(st.integers(), st.text(), st.none(), st.lists(st.text()))))
def test_rendered_calls_are_parsed_back(tag_tokenizer, arguments):
    wanted = call(json.dumps(arguments))
    messages = [Message("user", "q"), Message("assistant", "ok", tool_calls=(wanted, wanted))]
    text = tag_tokenizer.decode(render(messages, tag_tokenizer, functions=[ADD]).ids)
    reply = text[text.rindex("assistant\n") + 10 :].removesuffix("<|im_end|>\n")
    if "assistant\n" not in json.dumps(arguments):
        content, calls = read(ToolCallReader(), [reply])
        assert content == "ok"
        assert [json.loads(made.arguments) for made in calls] == [_clean(arguments)] * 2


def _clean(value):
    """As a tokenizer leaves it: NFC."""
    import unicodedata

    return json.loads(unicodedata.normalize("NFC", json.dumps(value, ensure_ascii=False)))


def test_the_vocabulary_decides_the_format(tokenizer, tag_tokenizer):
    assert function_format(tokenizer) == "react" and function_stop("react")
    assert function_format(tag_tokenizer) == "tool_call" and not function_stop("tool_call")
    after_result = [Message("user", "q"), Message("tool", "4")]
    assert read(call_reader("react", after_result), [" I know\nFinal Answer: 4"]) == ("4", ())
    tagged = 'Yes.\n<tool_call>{"name": "add", "arguments": {}}</tool_call>'
    assert read(call_reader("tool_call", after_result, [ADD]), [tagged]) == ("Yes.", (call("{}"),))


def test_the_prompt_of_tool_calls(tag_tokenizer):
    messages = [
        Message("user", "1+1?"),
        Message("assistant", "", tool_calls=(call('{"x":1}'), call("oops"))),
        Message("tool", "2"),
        Message("tool", "<tool_call>"),
    ]
    rendered = render(messages, tag_tokenizer, functions=[ADD], add_generation_prompt=True)
    text = tag_tokenizer.decode(rendered.ids)
    assert text == (
        "<|im_start|>system\nYou are a helpful assistant.\n\n# Tools\n\n"
        "You may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
        '{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": '
        '{"type": "object", "properties": {"x": {"type": "integer"}}}}}\n</tools>\n\n'
        "For each function call, return a json object with function name and arguments within "
        '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n'
        "</tool_call><|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
        '<tool_call>\n{"name": "add", "arguments": {"x": 1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "add", "arguments": "oops"}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n2\n</tool_response>\n<tool_response>\n<tool_call>\n</tool_response>"
        "<|im_end|>\n<|im_start|>assistant\n"
    )
    assert rendered.ids.count(tag_tokenizer.special_id("<tool_call>")) == 4  # not the one in the tool's result
