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
from dataclasses import replace
from typing import Any, NamedTuple

from qianwen.chat.messages import FunctionSpec, Message, ToolCall, from_openai
from qianwen.runtime.errors import DataError, RequestError
from qianwen.runtime.translation import tr

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
    """Raises DataError, which says what is wrong, for what holds no conversation."""
    try:
        return _read(row)
    except KeyError as error:
        raise DataError(tr("`{key}` is missing", key=error.args[0])) from error
    except (RequestError, TypeError, ValueError, AttributeError) as error:
        raise DataError(str(error)) from error


def _read(row: Any) -> Dialogue:
    _require_object(row)
    if "messages" in row:
        messages = [_text_message(from_openai(message)) for message in _list(row, "messages")]
    elif "conversations" in row:
        messages = [_turn(turn) for turn in _list(row, "conversations")]
    elif "instruction" in row and "output" in row:
        messages = _alpaca(row)
    else:
        raise ValueError(tr("it has neither `messages`, nor `conversations`, nor `instruction` and `output`"))
    if (system := row.get("system")) and messages and messages[0].role != "system":
        messages.insert(0, Message("system", system))
    if not any(message.role == "assistant" for message in messages):
        raise ValueError(tr("it has no assistant message"))
    tools = row.get("tools") or row.get("functions") or ()
    if isinstance(tools, str):
        tools = json.loads(tools)
    return Dialogue(messages, [FunctionSpec.from_openai(spec) for spec in tools])


def _text_message(message: Message) -> Message:
    """The message with its content as one text; RequestError for images and audio, here, where the record is known."""
    return replace(message, content=message.text)


def _require_object(value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(tr("expected a JSON object; got {value!r}", value=value))


def _list(row: Mapping[str, Any], name: str) -> list[Any]:
    if not isinstance(row[name], list):
        raise TypeError(tr("`{name}` must be a list; got {value!r}", name=name, value=row[name]))
    return row[name]


def _turn(turn: Any) -> Message:
    """A turn of `from` and `value`."""
    _require_object(turn)
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
    for pair in row.get("history") or ():
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError(tr("`history` must be a list of pairs; got {value!r}", value=pair))
        messages += [Message("user", pair[0]), Message("assistant", pair[1])]
    for text in (question, row["output"]):
        if not isinstance(text, str):
            raise TypeError(tr("a turn's value must be text; got {value!r}", value=text))
    return [*messages, Message("user", question), Message("assistant", row["output"])]
