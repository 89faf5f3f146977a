"""What a conversation is made of, and its form in OpenAI's chat API.

A `Message` is text with a role; an assistant's message may carry `ToolCall`s, and a `tool` message answers one of them.
`arguments` stay the string that the model wrote: it may be broken JSON or bare code, and whoever runs the tool decides.
Both generations of the API are read: `tools`, `tool_calls` and role `tool`; `functions`, `function_call` and role
`function`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)
ArgsFormat = Literal["json", "code"]


@dataclass(frozen=True)
class FunctionSpec:
    """A function the model may call; `parameters` is a JSON schema, or Qwen v1's list of named parameters."""

    name: str
    description: str = ""
    parameters: Any = field(default_factory=lambda: {"type": "object", "properties": {}})
    name_for_human: str = ""  # what ReAct's prompt calls it; empty: the name
    args_format: ArgsFormat | None = None  # the closing sentence of its line in ReAct's prompt

    @classmethod
    def from_openai(cls, spec: Mapping[str, Any]) -> FunctionSpec:
        """Read a `tools` entry, a bare function, or Qwen v1's `name_for_model` form."""
        body = spec.get("function", spec)
        name = body.get("name_for_model") or body.get("name")
        if not isinstance(name, str) or not name:
            raise RequestError(tr("A function needs a name; got {value!r}.", value=name))
        parameters = body.get("parameters")
        return cls(
            name=name,
            description=body.get("description_for_model") or body.get("description") or "",
            parameters={"type": "object", "properties": {}} if parameters is None else parameters,
            name_for_human=body.get("name_for_human") or "",
            args_format=body.get("args_format"),
        )

    def to_openai(self) -> dict[str, Any]:
        """The entry of OpenAI's `tools` list."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}


def new_call_id() -> str:
    """A fresh id for a tool call, in the form clients expect."""
    return f"call_{uuid.uuid4().hex[:24]}"


@dataclass(frozen=True)
class ToolCall:
    """One call the model asked for. Equality ignores the id: two readings of one text are the same call."""

    name: str
    arguments: str
    id: str = field(default_factory=new_call_id, compare=False)


@dataclass(frozen=True)
class Message:
    """One turn. `name` tells people with one role apart; `tool_call_id` says which call a `tool` message answers."""

    role: Role
    content: str
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise RequestError(tr("Unknown role {role!r}: use one of {roles}.", role=self.role, roles=", ".join(ROLES)))


@dataclass(frozen=True)
class Span:
    """A piece of a turn's content. A `tag` is placed by a template and is one id where the vocabulary has it."""

    text: str
    is_model: bool = False  # the model wrote it, so it is what a model learns to write
    is_tag: bool = False


@dataclass(frozen=True)
class Turn:
    """What a template puts between <|im_start|> and <|im_end|>."""

    role: str
    spans: tuple[Span, ...]


def to_openai(message: Message) -> dict[str, Any]:
    """A message as OpenAI's API writes it; fields that say nothing are left out."""
    out: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name is not None:
        out["name"] = message.name
    if message.tool_calls:
        out["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        out["tool_call_id"] = message.tool_call_id
    return out


def from_openai(message: Mapping[str, Any]) -> Message:
    """Read one message of a request; raises RequestError for what no text model can take."""
    if not isinstance(message, Mapping):
        raise RequestError(tr("A message must be an object with role and content; got {value!r}.", value=message))
    role = message.get("role")
    if role == "function":
        role = "tool"
    elif role == "developer":
        role = "system"
    calls = message.get("tool_calls") or ()
    if message.get("function_call"):
        calls = [{"function": message["function_call"]}]
    return Message(
        role=role,  # type: ignore[arg-type]  # __post_init__ refuses any other
        content=_text(message.get("content")),
        name=message.get("name"),
        tool_calls=tuple(_call(call) for call in calls),
        tool_call_id=message.get("tool_call_id"),
    )


def _call(call: Mapping[str, Any]) -> ToolCall:
    function = call.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise RequestError(tr("A tool call needs a function with a name; got {value!r}.", value=function))
    return ToolCall(function["name"], function.get("arguments") or "", call.get("id") or new_call_id())


def _text(content: object) -> str:
    """Content is a string, nothing, or a list of text parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise RequestError(tr("A message's content must be text; got {value!r}.", value=content))
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        if kind != "text" or not isinstance(part.get("text"), str):
            raise RequestError(
                tr("This model reads text only: it has no eyes or ears for a part of type {kind!r}.", kind=kind)
            )
        texts.append(part["text"])
    return "".join(texts)
