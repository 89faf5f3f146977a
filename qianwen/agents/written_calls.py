"""A call that the model wrote into its text, where a chat model's reader of calls sees only an answer.

    To know the cost, I look up the price first:             the thought
    ```json
    {"name": "get_price", "arguments": {"product": "desk lamp"}}
    ```
    The price is $10, so …                                   left out: the model made this up

Small models write calls in this way, also after they were asked for tags, and code in triple quotes instead of a JSON
string. For an API such a text is an answer (`chat/bare_calls.py`). An agent has to go on: a call of an offered tool
counts wherever it is. Its arguments are checked like those of any other call.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection
from typing import Any

from qianwen.chat.call_arguments import parse_arguments
from qianwen.chat.messages import ToolCall, arguments_text
from qianwen.runtime.errors import QianwenError

KEYS = {"name", "arguments", "parameters", "type", "id"}
_OPENING = re.compile(r'\{\s*"(?:name|arguments|parameters|type|id|function)"\s*:')
_TRIPLE = re.compile(r"(:\s*)(\"\"\"|''')(.*?)\2", re.DOTALL)
_FENCE = re.compile(r"\s*(?:```\w*|<tool_call>)?\s*\Z")


def written_call(text: str, names: Collection[str]) -> tuple[str, ToolCall] | None:
    """The thought before the first call in a text, and the call; None if there is none.

    A reply that is a call and nothing else may have a name that is only near to that of a tool.
    """
    source = _TRIPLE.sub(lambda match: match[1] + json.dumps(match[3].strip("\n"), ensure_ascii=False), text)
    for match in _OPENING.finditer(source):
        before = _FENCE.sub("", source[: match.start()])
        call = _call(_value(source[match.start() :]))
        if call and (call.name in names or (not before and difflib.get_close_matches(call.name, names, 1))):
            return before, call
    return None


def _value(text: str) -> Any:
    """The JSON value at the start of a text; with common mistakes, if the whole text is one."""
    try:
        return json.JSONDecoder(strict=False).raw_decode(text)[0]
    except (ValueError, RecursionError):
        pass
    try:
        return parse_arguments(ToolCall("", text.strip().removesuffix("</tool_call>")))
    except QianwenError:
        return None


def _call(value: Any) -> ToolCall | None:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or value.keys() - KEYS:
        return None
    arguments = value.get("arguments", value.get("parameters"))
    return None if arguments is None else ToolCall(value["name"], arguments_text(arguments))
