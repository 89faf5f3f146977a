"""One record of a dialogue file → the conversation it holds, in whichever of the usual forms it is written.

    {"messages": [{"role": "user", "content": "…"}, …], "tools": […]}                    ours, and OpenAI's
    {"conversations": [{"from": "user", "value": "…"}, …]}                               the released finetune.py's
    {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", …}], "tools": "[…]"}       ShareGPT's
    {"instruction": "…", "input": "…", "output": "…", "history": [["…", "…"], …]}        Alpaca's

A system message may come first, as a turn or as a field `system`. In ShareGPT's form calls and results of functions
are turns of their own, `function_call` and `observation`. Not here: files (`dialogues.py`).
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from qianwen.chat.messages import FunctionSpec, Message, ToolCall, from_openai
from qianwen.runtime.language import tr

ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}
CALL = "function_call"


class Dialogue(NamedTuple):
    """A conversation to learn from, with the functions it may call."""

    messages: list[Message]
    functions: list[FunctionSpec] = []


def read_record(row: Any) -> Dialogue:
    """Raises RequestError, KeyError, TypeError, ValueError or AttributeError for what holds no conversation."""
    if "messages" in row:
        messages = [from_openai(message) for message in row["messages"]]
    elif "conversations" in row:
        messages = [_turn(turn) for turn in row["conversations"]]
    elif "instruction" in row and "output" in row:
        messages = _alpaca(row)
    else:
        raise KeyError(tr("neither `messages` nor `conversations` nor `instruction` and `output` in it"))
    if (system := row.get("system")) and messages and messages[0].role != "system":
        messages.insert(0, Message("system", system))
    if not any(message.role == "assistant" for message in messages):
        raise KeyError(tr("the assistant never speaks in it"))
    tools = row.get("tools") or row.get("functions") or ()
    if isinstance(tools, str):
        tools = json.loads(tools)
    return Dialogue(messages, [FunctionSpec.from_openai(spec) for spec in tools])


def _turn(turn: Mapping[str, Any]) -> Message:
    """A turn of `from` and `value`."""
    who, value = turn["from"], turn["value"]
    if who == CALL:
        calls = json.loads(value)
        return Message(
            "assistant", "", tool_calls=tuple(_call(call) for call in (calls if isinstance(calls, list) else [calls]))
        )
    if not isinstance(value, str):
        raise TypeError(tr("a turn's value must be text; got {value!r}", value=value))
    return Message(ROLES.get(who, who), value)  # type: ignore[arg-type]  # Message refuses any other


def _call(call: Mapping[str, Any]) -> ToolCall:
    arguments = call.get("arguments", {})
    return ToolCall(
        call["name"], arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    )


def _alpaca(row: Mapping[str, Any]) -> list[Message]:
    question = "\n".join(part for part in (row["instruction"], row.get("input")) if part)
    messages = []
    for asked, answered in row.get("history") or ():
        messages += [Message("user", asked), Message("assistant", answered)]
    for text in (question, row["output"]):
        if not isinstance(text, str):
            raise TypeError(tr("a turn's value must be text; got {value!r}", value=text))
    return [*messages, Message("user", question), Message("assistant", row["output"])]
