"""One turn of a record → a `Message`, whatever names its fields have.

    role, content                   OpenAI; also `from` and `value`, ShareGPT
    tool_calls, function_call       calls of an assistant; in ShareGPT a turn with the role `function_call`
    weight, train, loss             whether the answer is learned (OpenAI, axolotl, swift); 0 and false exclude it
    reasoning_content, refusal      thoughts, written in <think> before the answer; a refusal is an answer

An answer that is empty and calls nothing is not learned: a model would learn to say nothing. A turn that cannot be read
is a `RecordError` with the name of its field. Not here: which field of a record holds the turns (`records.py`).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from qianwen.chat.messages import FunctionSpec, Message, from_openai
from qianwen.runtime.errors import DataError, RequestError, excerpt
from qianwen.runtime.translation import tr

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "bot": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "function_response": "tool",
}
CALLS = ("function_call", "tool_call")  # roles of turns that are calls of functions
SWITCHES = ("weight", "train", "loss")  # fields that say whether a turn is learned
THOUGHTS = ("reasoning_content", "reasoning")


class RecordError(DataError):
    """A record that cannot be used. `reason` is equal for records with the same fault, to count them."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message


def wrong(field: str, rule: str, value: Any) -> RecordError:
    """The error for a field whose value breaks a rule, such as "must be text"."""
    message = tr("`{field}` {rule}; got {value}", field=field, rule=rule, value=excerpt(value))
    return RecordError(message, f"`{_any_index(field)}` {rule}")


def missing(field: str) -> RecordError:
    """The error for a field that a record must have."""
    return RecordError(*(tr("`{field}` is missing", field=name) for name in (field, _any_index(field))))


def _any_index(field: str) -> str:
    """`messages[3].content` → `messages[n].content`."""
    return re.sub(r"\[\d+\]", "[n]", field)


class TrainingTurn(NamedTuple):
    """A message, and whether the model learns to write it."""

    message: Message
    is_learned: bool


def read_turn(turn: Any, field: str) -> TrainingTurn:
    """The message of a turn; `field` names it in errors."""
    if not isinstance(turn, Mapping):
        raise wrong(field, tr("must be an object with `role` and `content`, or `from` and `value`"), turn)
    role_name = "role" if "role" in turn else "from"
    text_name = "value" if "value" in turn or (role_name == "from" and "content" not in turn) else "content"
    if role_name not in turn:
        raise missing(f"{field}.role")
    name = str(turn[role_name]).strip().lower()
    if name in CALLS:
        calls = _json_list(turn.get(text_name), f"{field}.{text_name}")
        return _with_switches(_message(turn, field, "assistant", "", calls), turn, field)
    if name not in ROLES:
        known = ", ".join(ROLES)
        raise wrong(f"{field}.{role_name}", tr("must be one of {names}", names=known), turn[role_name])
    role = ROLES[name]
    if text_name == "value" and "value" not in turn:
        raise missing(f"{field}.value")
    content = _content(role, turn, f"{field}.{text_name}", turn.get(text_name))
    calls = _calls(turn, field) if role == "assistant" else []
    return _with_switches(_message(turn, field, role, content, calls), turn, field)


def read_functions(value: Any, field: str) -> list[FunctionSpec]:
    """The functions of `tools` or `functions`: a list, an object, or either of them as JSON text."""
    entries = _json_list(value, field) if value else []
    entries = [entry for part in entries for entry in (_json_list(part, field) if isinstance(part, str) else [part])]
    try:
        return [FunctionSpec.from_openai(entry) for entry in entries]
    except RequestError as error:
        raise RecordError(f"`{field}`: {error}", f"`{field}`") from error


def _content(role: str, turn: Mapping[str, Any], field: str, value: Any) -> Any:
    """Text, or a list of parts in OpenAI's form."""
    is_parts = isinstance(value, list) and all(isinstance(part, Mapping) and "type" in part for part in value)
    if role == "tool":
        if value is None or isinstance(value, str) or is_parts:
            return value or ""
        return json.dumps(value, ensure_ascii=False)  # a result that is data; the model reads it as JSON
    if role == "assistant" and value is None:
        value = turn.get("refusal") or ""
    if not isinstance(value, str) and not is_parts:
        raise wrong(field, tr("must be text or a list of parts"), value)
    thoughts = next((turn[name] for name in THOUGHTS if turn.get(name)), None) if role == "assistant" else None
    if thoughts is None:
        return value
    if not isinstance(thoughts, str) or not isinstance(value, str):
        raise wrong(field.rpartition(".")[0] + ".reasoning_content", tr("must be text"), thoughts)
    return f"<think>\n{thoughts.strip()}\n</think>\n\n{value}"


def _message(turn: Mapping[str, Any], field: str, role: str, content: Any, calls: list[Any]) -> Message:
    names = {key: turn[key] for key in ("name", "tool_call_id") if isinstance(turn.get(key), str)}
    try:
        message = from_openai({"role": role, "content": content, "tool_calls": calls, **names})
        return replace(message, content=message.text)  # raises for images and audio
    except RequestError as error:
        raise RecordError(f"`{field}`: {error}", str(error)) from error


def _calls(turn: Mapping[str, Any], field: str) -> list[Any]:
    """The calls of an assistant's turn, in either generation of OpenAI's API."""
    if turn.get("tool_calls"):
        return _json_list(turn["tool_calls"], f"{field}.tool_calls")
    return _json_list(turn["function_call"], f"{field}.function_call") if turn.get("function_call") else []


def _json_list(value: Any, field: str) -> list[Any]:
    """A list of objects, one object, or either as JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise wrong(field, tr("must be JSON"), value) from error
    if isinstance(value, Mapping):
        return [value]
    if not isinstance(value, list):
        raise wrong(field, tr("must be a list"), value)
    return value


def _with_switches(message: Message, turn: Mapping[str, Any], field: str) -> TrainingTurn:
    """The message; it is not learned if its turn says so or if it is an empty answer."""
    is_learned = message.role == "assistant"
    for name in SWITCHES:
        value = turn.get(name)
        if value is not None and value not in (0, 1):  # True and False are 1 and 0
            raise wrong(f"{field}.{name}", tr("must be 0, 1, true or false"), value)
        if value and message.role != "assistant":
            raise wrong(f"{field}.{name}", tr("must be false here, because only answers are learned"), value)
        is_learned = is_learned and (value is None or bool(value))
    is_empty = not message.text.strip() and not message.tool_calls
    return TrainingTurn(message, is_learned and not is_empty)
