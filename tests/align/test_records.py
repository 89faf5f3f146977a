"""Records in every form become the same conversation."""

import json
from typing import Any

import pytest

from qianwen.align.records import read_record
from qianwen.chat.messages import Message, ToolCall
from qianwen.runtime.errors import DataError

PAIR = [Message("user", "你好"), Message("assistant", "我叫通义千问。")]
FORMS: dict[str, dict[str, Any]] = {
    "openai": {"messages": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "我叫通义千问。"}]},
    "finetune.py": {
        "id": "identity_0",
        "conversations": [{"from": "user", "value": "你好"}, {"from": "assistant", "value": "我叫通义千问。"}],
    },
    "sharegpt": {"conversations": [{"from": "human", "value": "你好"}, {"from": "gpt", "value": "我叫通义千问。"}]},
    "alpaca": {"instruction": "你好", "input": "", "output": "我叫通义千问。"},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_the_same(form: str) -> None:
    assert read_record(FORMS[form]).messages == PAIR
    with_system = read_record(FORMS[form] | {"system": "Be brief."})
    assert with_system.messages == [Message("system", "Be brief."), *PAIR]


def test_a_system_turn_of_the_released_form() -> None:
    row = {"conversations": [{"from": "system", "value": "Be brief."}, *FORMS["finetune.py"]["conversations"]]}
    assert read_record(row | {"system": "unused"}).messages == [Message("system", "Be brief."), *PAIR]


def test_alpacas_input_and_history() -> None:
    row = {"instruction": "Add.", "input": "2 + 2", "output": "4", "history": [["Hi", "Hello"]]}
    contents = [(message.role, message.content) for message in read_record(row).messages]
    assert contents == [("user", "Hi"), ("assistant", "Hello"), ("user", "Add.\n2 + 2"), ("assistant", "4")]


def test_calls_and_results_of_sharegpt() -> None:
    call = {"name": "search", "arguments": {"query": "天气"}}
    turns = [("human", "?"), ("function_call", json.dumps(call)), ("observation", "sunny"), ("gpt", "Sunny.")]
    tools = json.dumps([{"name": "search", "description": "d", "parameters": {"type": "object", "properties": {}}}])
    found = read_record({"conversations": [{"from": who, "value": value} for who, value in turns], "tools": tools})
    assert [message.role for message in found.messages] == ["user", "assistant", "tool", "assistant"]
    assert found.messages[1].tool_calls == (ToolCall("search", '{"query": "天气"}'),)
    assert found.functions[0].name == "search"
    several = [{"from": "function_call", "value": json.dumps([call, call])}, {"from": "human", "value": "?"}]
    assert len(read_record({"conversations": several}).messages[0].tool_calls) == 2


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"text": "a"}, "it is plain text"),
        ({"instruction": "a"}, "neither `messages`, nor"),
        ({"instruction": 3, "output": "a"}, "`instruction` must be text; got 3"),
        ({"messages": 7}, "`messages` must be a list of turns; got 7"),
        ({"messages": ["hello"]}, 'must be an object with `role` and `content`, .*got "hello"'),
        ({"conversations": [{"from": "human", "value": "?"}]}, "it has no assistant message"),
        ({"conversations": [{"from": "gpt", "value": 7}]}, "must be text or a list of parts; got 7"),
        ({"conversations": [{"from": "gpt"}]}, r"^`conversations\[0\].value` is missing"),
        ({"conversations": ["hello"]}, r"`conversations\[0\]` must be an object"),
        ({"conversations": [{"from": "alien", "value": "a"}]}, "alien"),
        ({"conversations": [{"from": "function_call", "value": "no JSON"}]}, "must be JSON"),
        (FORMS["openai"] | {"tools": "no JSON"}, "`tools` must be JSON"),
        (FORMS["alpaca"] | {"history": [["only one"]]}, r'must be a pair .*; got \["only one"\]'),
        (7, "expected a JSON object; got 7"),
    ],
)
def test_what_holds_no_conversation(row: Any, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        read_record(row)
