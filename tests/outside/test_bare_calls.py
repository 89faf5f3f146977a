"""Calls that a model writes as JSON alone or in a fence, though it was asked for tags (as the qwen2.5 coders do)."""

import json

import pytest

from qianwen.chat import FunctionSpec, ToolCall, collect
from qianwen.chat.functions import call_reader

CITY = {"type": "string"}
WEATHER = FunctionSpec(
    "get_weather",
    "Weather of a city.",
    {"type": "object", "properties": {"city": CITY, "days": {"type": "integer", "minimum": 1}}, "required": ["city"]},
)
TIME = FunctionSpec("time", "The time.", {"type": "object", "properties": {}, "additionalProperties": False})
OFFERED = [WEATHER, TIME]
PARIS = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
NOW = '{"name": "time", "arguments": {}}'
PARIS_CALL, NOW_CALL = ToolCall("get_weather", '{"city": "Paris"}'), ToolCall("time", "{}")

CALLS = {
    PARIS: [PARIS_CALL],
    f"```json\n{PARIS}\n```": [PARIS_CALL],
    f"```\n{PARIS}\n```": [PARIS_CALL],
    f"```JSON\n{PARIS}```\n": [PARIS_CALL],
    f"\n\n{PARIS}\n": [PARIS_CALL],
    f"[{PARIS}, {NOW}]": [PARIS_CALL, NOW_CALL],
    f"{PARIS}\n{NOW}": [PARIS_CALL, NOW_CALL],
    f"```json\n{PARIS}\n{NOW}\n```": [PARIS_CALL, NOW_CALL],
    '{"name":"get_weather","parameters":{"city":"Paris"}}': [PARIS_CALL],
    '{"arguments": {"city": "Paris"}, "name": "get_weather"}': [PARIS_CALL],
    '{\n  "name": "get_weather",\n  "arguments": {\n    "city": "Paris"\n  }\n}': [PARIS_CALL],
    '{"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}': [PARIS_CALL],
    '{"name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\"}"}': [PARIS_CALL],
    '{"name": "get_weather", "arguments": {"city": "a \\"{[`\\\\", "days": 2}}': [
        ToolCall("get_weather", '{"city": "a \\"{[`\\\\", "days": 2}')
    ],
    '{"name": "get_weather", "arguments": {"city": "杭州"}}': [ToolCall("get_weather", '{"city": "杭州"}')],
    NOW: [NOW_CALL],
    '{"name": "time"}': [NOW_CALL],
}
ANSWERS = [
    "Paris is warm.",
    '{"city": "Paris"}',
    f"Sure: {PARIS}",
    f"{PARIS}\nThis calls the weather.",
    f"```json\n{PARIS}\n```\nRun it.",
    f"```python\nprint({PARIS})\n```",
    '{"name": "other", "arguments": {}}',
    '{"name": "get_weather", "arguments": {"city": 7}}',
    '{"name": "get_weather", "arguments": {}}',
    '{"name": "get_weather", "arguments": {"city": "Paris", "days": 0}}',
    '{"name": "time", "arguments": {"zone": "UTC"}}',
    '{"name": "get_weather", "arguments": ["Paris"]}',
    '{"name": "get_weather", "arguments": {"city": "Paris"}',
    f"[{PARIS}, 7]",
    f'{PARIS}\n{{"name": "other", "arguments": {{}}}}',
    "[]",
    "[1, 2]",
    "{}",
    "```json\n[]\n```",
    '{"name": ',
    "```",
    "",
    "  ",
    '"get_weather"',
    '{"name": ["get_weather"], "arguments": {}}',
]


def read(reply: str, pieces: list[str]) -> tuple[str, tuple[ToolCall, ...]]:
    reader = call_reader("tool_call", [], OFFERED)
    message = collect([delta for piece in pieces for delta in reader.feed(piece)] + reader.finish())
    return message.text, message.tool_calls


def splits(reply: str) -> list[list[str]]:
    return [[reply], list(reply), *([reply[:cut], reply[cut:]] for cut in range(1, len(reply)))]


@pytest.mark.parametrize("reply", CALLS)
def test_a_reply_that_is_nothing_but_calls_is_calls(reply: str) -> None:
    for pieces in splits(reply):
        assert read(reply, pieces) == ("", tuple(CALLS[reply]))


@pytest.mark.parametrize("reply", ANSWERS)
def test_any_other_reply_is_text_as_it_was(reply: str) -> None:
    for pieces in splits(reply):
        assert read(reply, pieces) == (reply, ())


@pytest.mark.parametrize(
    ("reply", "is_sent"),
    [("Paris", True), ("{}", True), ('{"city": "Par', True), ('{"name": "other', True), ("```python\nprint", True),
     ("[1", True), ("x{", True), ('{"na', False), ("```js", False), ("\n ", False), ('[{"name": "tim', False),
     ('{"name": "get_weather", "arguments": {"city": "P', False)],
)  # fmt: skip
def test_text_is_held_back_only_while_it_may_become_a_call(reply: str, is_sent: bool) -> None:
    reader = call_reader("tool_call", [], OFFERED)
    sent = "".join(delta.text for char in reply for delta in reader.feed(char))
    assert bool(sent) == is_sent
    assert sent + "".join(delta.text for delta in reader.finish()) == reply


def test_text_after_a_call_is_sent_when_it_comes() -> None:
    reader = call_reader("tool_call", [], OFFERED)
    assert not reader.feed(PARIS + "\n")
    assert "".join(delta.text for delta in reader.feed("This")) == f"{PARIS}\nThis"


def test_calls_in_tags_are_still_read() -> None:
    for reply in (
        f"<tool_call>\n{PARIS}\n</tool_call>",
        f"<tool_call>{PARIS}</tool_call>\n<tool_call>{NOW}</tool_call>",
    ):
        text, calls = read(reply, list(reply))
        assert not text and calls[0] == PARIS_CALL


def test_without_functions_json_is_text() -> None:
    reader = call_reader("tool_call", [], [])
    assert "".join(delta.text for delta in reader.feed(PARIS) + reader.finish()) == PARIS


def test_a_long_call_is_read_in_linear_time() -> None:
    reply = json.dumps({"name": "get_weather", "arguments": {"city": "a{" * 20_000}})
    assert read(reply, list(reply))[1]
