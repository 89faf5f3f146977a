"""The record of a dialogue with calls, as `qianwen sft` reads it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from qianwen.chat.messages import FunctionSpec, Message, ToolCall, to_openai

ABILITY = "service"


def call(number: int, name: str, arguments: Mapping[str, Any]) -> ToolCall:
    """A call. Its id is its number in the dialogue, so that the same seed gives the same file."""
    return ToolCall(name, json.dumps(arguments, ensure_ascii=False), f"call_{number}")


def calling(thought: str, *calls: ToolCall) -> Message:
    """The assistant's message with the thought before the calls, and the calls."""
    return Message("assistant", thought, tool_calls=calls)


def result(made: ToolCall, value: Any) -> Message:
    """The result of a call: a text as it is, other values as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return Message("tool", text, tool_call_id=made.id)


def service_row(messages: Sequence[Message], tools: Sequence[FunctionSpec], kind: str, language: str) -> dict[str, Any]:
    """A record: OpenAI's messages and tools, with the ability, what kind of dialogue it is, and its language."""
    return {
        "messages": [to_openai(message) for message in messages],
        "tools": [tool.to_openai() for tool in tools],
        "ability": ABILITY,
        "kind": kind,
        "language": language,
    }
