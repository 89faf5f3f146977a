"""Calls in the text of a reply: their thought, their arguments, and text that is no call."""

import json

import pytest

from qianwen.agents.written_calls import written_call

NAMES = ("get_price", "run_python")
CALL = '{"name": "get_price", "arguments": {"product": "desk lamp"}}'
ARGUMENTS = {"product": "desk lamp"}


@pytest.mark.parametrize(
    ("text", "thought"),
    [
        (CALL, ""),
        (f"```json\n{CALL}\n```", ""),
        (f"<tool_call>\n{CALL}\n</tool_call>", ""),
        (f"First the price:\n```json\n{CALL}\n```\nIt is $10.", "First the price:"),
        (f"1. **Price**:\n   ```json\n   {CALL}\n   ```\n2. Then:\n{CALL.replace('lamp', 'top')}", "1. **Price**:"),
        (f"I call {CALL}", "I call"),
        (CALL.replace("arguments", "parameters"), ""),
        ('{"type": "function", "function": ' + CALL + "}", ""),
        (CALL.replace("get_price", "get_prices"), ""),
        (CALL.replace("}}", ",}}"), ""),
        ('The set {"name": 1} and then\n' + CALL, 'The set {"name": 1} and then'),
    ],
)
def test_a_written_call_is_read_with_its_thought(text, thought):
    found = written_call(text, NAMES)
    assert found is not None
    assert found[0] == thought and json.loads(found[1].arguments) == ARGUMENTS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The price is {unknown}.",
        "Such a call is " + CALL.replace("get_price", "get_prices") + ".",
        '{"name": "get_price"}',
        '{"name": "get_price", "arguments": {"product": "desk',
        '{"name": "get_price", "arguments": {}, "colour": "red"}',
        '{"person": {"name": "Anna", "arguments": "many"}}',
        '{"name": "greeting", "arguments": {}}',
        '{"get_price": {"arguments": {}}}',
        "```python\nprint({'name': 'get_price'})\n```",
        "{" * 5000,
    ],
)
def test_any_other_text_is_an_answer(text):
    assert written_call(text, NAMES) is None


@pytest.mark.parametrize("quotes", ['"""', "'''"])
def test_code_in_triple_quotes_is_read_as_it_is(quotes):
    code = 'd = {"a": "b"}\nprint(f"{d}\\n", \'c\')'
    text = f'```json\n{{\n "name": "run_python",\n "arguments": {{\n  "code": {quotes}\n{code}\n{quotes}\n }}\n}}\n```'
    found = written_call(text, NAMES)
    assert found is not None and json.loads(found[1].arguments) == {"code": code}
