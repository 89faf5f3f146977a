"""Steps are the conversation, the record, and the only state of a run."""

import json
from pathlib import Path

import pytest

from qianwen.agents.step import (
    Answer,
    Call,
    End,
    Given,
    Result,
    Thought,
    conversation,
    from_record,
    open_calls,
    since_given,
    to_record,
)
from qianwen.agents.tool import Observation
from qianwen.chat.messages import ImagePart, Message, TextPart, ToolCall

FIRST, SECOND = ToolCall("add", '{"x": 1}', "r-2"), ToolCall("look", "kein JSON \ud800", "r-3")
STEPS = [
    Given(Message("system", "Be brief.")),
    Given(Message("user", "1 + 1?")),
    Thought("I add.", "Hm."),
    Call(FIRST, "none"),
    Call(SECOND, "changes"),
    Result("r-2", "add", Observation("2", files=(Path("a") / "b.png",))),
    Result("r-3", "look", Observation("failed", is_error=True), "failed", "KeyError: 'x'"),
    Call(ToolCall("add", "{}", "r-7"), "none"),
    Result("r-7", "add", Observation("0")),
    Answer("2."),
    End("answered"),
    Given(Message("user", "Thanks.")),
]


def test_the_conversation_joins_a_thought_and_its_calls():
    assert [(each.role, each.text, len(each.tool_calls)) for each in conversation(STEPS)] == [
        ("system", "Be brief.", 0),
        ("user", "1 + 1?", 0),
        ("assistant", "I add.", 2),
        ("tool", "2", 0),
        ("tool", "failed", 0),
        ("assistant", "", 1),
        ("tool", "0", 0),
        ("assistant", "2.", 0),
        ("user", "Thanks.", 0),
    ]
    assistant, first, second = conversation(STEPS)[2:5]
    assert assistant.reasoning_content == "Hm." and [call.id for call in assistant.tool_calls] == ["r-2", "r-3"]
    assert (first.tool_call_id, second.tool_call_id) == ("r-2", "r-3")


@pytest.mark.parametrize("step", [*STEPS, Given(Message("user", [TextPart("See"), ImagePart("data:x")]))])
def test_a_record_is_read_back_as_the_same_step(step):
    read = from_record(json.loads(json.dumps(to_record(step))))
    assert read == step
    if isinstance(step, Call):
        assert read.call.id == step.call.id  # equality of calls ignores it


def test_open_calls_are_those_without_a_result_in_their_order():
    assert [step.call.id for step in open_calls(STEPS[:5])] == ["r-2", "r-3"]
    assert [step.call.id for step in open_calls(STEPS[:6])] == ["r-3"]
    assert open_calls(STEPS) == []


def test_since_given_begins_after_the_last_message():
    assert list(since_given(STEPS)) == [] and since_given(STEPS[:4]) == STEPS[2:4]
