"""Tags that are no calls come back as they were written, and numbers in arguments stay JSON."""

import json

import pytest

from qianwen.chat.exact_json import read_json, write_json
from qianwen.chat.functions import ToolCallReader

NOT_CALLS = [
    "Use <tool_call> like this.", "a\n\n<tool_call>\nnot json\n</tool_call>\n\nb", "  <tool_call></tool_call>  ",
    "<tool_call>", "x <tool_call", "\t<tool_call>\t[1]\t</tool_call>\t", "a <tool_call> b <tool_call> c",
    'In XML: <tool_call>{"name": 5}</tool_call> is wrong', "</tool_call> first", "\n\n<tool_call>{}</tool_call>",
    '<tool_call>{"name": "f", "arguments": {"x": NaN}}</tool_call>', "text \n ",
    " <tool_call>\n{'name': 'f'}\n</tool_call>",
]  # fmt: skip


def read(text: str, size: int) -> tuple[str, list]:
    reader = ToolCallReader()
    deltas = [delta for start in range(0, len(text), size) for delta in reader.feed(text[start : start + size])]
    deltas += reader.finish()
    return "".join(delta.text for delta in deltas), [call for delta in deltas for call in delta.tool_calls]


@pytest.mark.parametrize("text", NOT_CALLS)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_text_around_a_tag_comes_back_as_it_was(text, size):
    assert read(text, size) == (text, [])


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_blanks_around_a_call_are_not_content(size):
    text, [call] = read('Let me see. \n\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>\n', size)
    assert (text, call.name) == ("Let me see.", "f")


NUMBERS = [
    "1e400", "-1e400", "1E+400", "1e-400", "12345678901234567890123456789", "0.1000000000000000055", "1.0", "-0",
    "-0.0",
    "1" + "0" * 5000, "3.14159265358979323846264338327950288", "1e5",
]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_stay_as_they_are_written(number):
    body = f'{{"name": "f", "arguments": {{"x": {number}, "y": [{number}, "é"]}}}}'
    _, [call] = read(f"<tool_call>\n{body}\n</tool_call>", 1000)
    assert call.arguments == f'{{"x": {number}, "y": [{number}, "é"]}}'


@pytest.mark.parametrize(
    "value", ["{}", "[]", '"a"', "true", "null", '{"a": {"b": [1, 2.50, {"c": null}]}}', '"\\u0001"']
)
def test_other_values_are_those_of_python(value):
    assert write_json(read_json(value)) == value == write_json(read_json(value + " "))
    assert json.loads(write_json(read_json(value))) == json.loads(value)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "nan"])
def test_constants_of_other_languages_are_not_json(constant):
    with pytest.raises(ValueError):
        read_json(constant)


def test_deep_arguments_are_text():
    text = '<tool_call>{"name": "f", "arguments": ' + "[" * 5000 + "]" * 5000 + "}</tool_call>"
    assert read(text, 1000) == (text, [])
