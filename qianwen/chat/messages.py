"""Messages, function specifications and tool calls, and their form in OpenAI's chat API.

A `Message` has a role and content: text, or a list of parts (text, images, audio). `Message.text` is the content for a
text model; it raises RequestError if a part is not text. An assistant message may have `ToolCall`s; a `tool` message
has the result of one of them. `arguments` is the string that the model wrote. It may be invalid JSON, or code; the code
that runs the tool parses it. Both generations of the API are read: `tools`, `tool_calls` and role `tool`; `functions`,
`function_call` and role `function`. Other programs write arguments as an object, as null or as JSON inside a JSON
string; all of these are read (`arguments_text`).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, get_args

from qianwen.runtime.errors import RequestError, excerpt
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
    name_for_human: str = ""  # its name in the ReAct prompt; empty: `name`
    args_format: ArgsFormat | None = None  # chooses the last sentence of its line in the ReAct prompt
    sent: Mapping[str, Any] | None = field(
        default=None, repr=False, compare=False
    )  # its entry of `tools`, as it was sent

    @classmethod
    def from_openai(cls, spec: Mapping[str, Any]) -> FunctionSpec:
        """Read an entry of `tools`, a function without that wrapper, or Qwen v1's form with `name_for_model`."""
        body = spec.get("function", spec) if isinstance(spec, Mapping) else spec
        if not isinstance(body, Mapping):
            raise RequestError(tr("A function must be a JSON object with a name; got {value}.", value=excerpt(body)))
        name = body.get("name_for_model") or body.get("name")
        if not isinstance(name, str) or not name:
            raise RequestError(tr("A function needs a name (a non-empty string); got {value}.", value=excerpt(name)))
        parameters = body.get("parameters")
        return cls(
            name=name,
            description=body.get("description_for_model") or body.get("description") or "",
            parameters={"type": "object", "properties": {}} if parameters is None else parameters,
            name_for_human=body.get("name_for_human") or "",
            args_format=body.get("args_format"),
            sent=None
            if "name_for_model" in body
            else spec
            if "function" in spec
            else {"type": "function", "function": body},
        )

    def to_openai(self) -> dict[str, Any]:
        """The entry of OpenAI's `tools` list: as it was sent, or with the fields that are not empty."""
        if self.sent is not None:
            return dict(self.sent)
        description = {"description": self.description} if self.description else {}
        return {"type": "function", "function": {"name": self.name, **description, "parameters": self.parameters}}


def new_call_id() -> str:
    """A new id for a tool call, in the form that clients expect."""
    return f"call_{uuid.uuid4().hex[:24]}"


@dataclass(frozen=True)
class ToolCall:
    """A function call that the model requested. Equality ignores the id, which is random, and compares the content."""

    name: str
    arguments: str
    id: str = field(default_factory=new_call_id, compare=False)


@dataclass(frozen=True)
class TextPart:
    """Text."""

    type: ClassVar[str] = "text"
    text: str

    def to_openai(self) -> dict[str, Any]:
        return {"type": self.type, "text": self.text}


@dataclass(frozen=True)
class ImagePart:
    """An image: an https URL, or a data URL with the bytes. `detail` is OpenAI's `low`, `high` or `auto`."""

    type: ClassVar[str] = "image_url"
    url: str
    detail: str | None = None

    def to_openai(self) -> dict[str, Any]:
        image = {"url": self.url} if self.detail is None else {"url": self.url, "detail": self.detail}
        return {"type": self.type, "image_url": image}


@dataclass(frozen=True)
class AudioPart:
    """Audio: the bytes in base64, and their format (`wav`, `mp3`)."""

    type: ClassVar[str] = "input_audio"
    data: str
    format: str

    def to_openai(self) -> dict[str, Any]:
        return {"type": self.type, "input_audio": {"data": self.data, "format": self.format}}


Part = TextPart | ImagePart | AudioPart


@dataclass(frozen=True)
class Message:
    """One message. `name` distinguishes speakers of one role; `tool_call_id` is the call that a `tool` message answers.

    `content` None is OpenAI's null in an assistant's message, which some chat templates tell from an empty text.
    `reasoning_content` are the thoughts before an answer. A list of parts is stored as a tuple, so that a message
    can be hashed.
    """

    role: Role
    content: str | Sequence[Part] | None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    reasoning_content: str = ""

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            message = "Unknown role {role}: use one of {roles}."
            raise RequestError(tr(message, role=excerpt(self.role), roles=", ".join(ROLES)))
        for name in ("name", "tool_call_id"):
            if not isinstance(getattr(self, name), str | None):
                message = "A message's {name} must be text; got {value}."
                raise RequestError(tr(message, name=name, value=excerpt(getattr(self, name))))
        if isinstance(self.content, str) or (self.content is None and self.role == "assistant"):
            return
        if not isinstance(self.content, (list, tuple)) or not all(isinstance(part, Part) for part in self.content):
            raise RequestError(
                tr("A message's content must be text or a list of parts; got {value}.", value=excerpt(self.content))
            )
        object.__setattr__(self, "content", tuple(self.content))

    @property
    def text(self) -> str:
        """The content as one string, empty for null. Raises RequestError for an image or audio."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        texts = []
        for part in self.content:
            if not isinstance(part, TextPart):
                message = "this model reads text only; content of type '{kind}' is not supported"
                raise RequestError(tr(message, kind=part.type), param="messages")
            texts.append(part.text)
        return "".join(texts)


@dataclass(frozen=True)
class Span:
    """A piece of a turn's content. A template writes the tags; a tag is one id if the vocabulary has it."""

    text: str
    is_model: bool = False  # written by the model, so part of the training target
    is_tag: bool = False


@dataclass(frozen=True)
class Turn:
    """The role and content that a template puts between <|im_start|> and <|im_end|>."""

    role: str
    spans: tuple[Span, ...]


def to_openai(message: Message) -> dict[str, Any]:
    """A message in the form of OpenAI's API, without empty fields."""
    parts, is_list = message.content, isinstance(message.content, tuple)
    content = [part.to_openai() for part in parts] if is_list else parts  # type: ignore[union-attr]
    out: dict[str, Any] = {"role": message.role, "content": content}
    if message.reasoning_content:
        out["reasoning_content"] = message.reasoning_content
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
    """Read one message of a request. Raises RequestError for a message that is not in OpenAI's form."""
    if not isinstance(message, Mapping):
        raise RequestError(
            tr("A message must be an object with role and content; got {value}.", value=excerpt(message))
        )
    role = message.get("role")
    if role == "function":
        role = "tool"
    elif role == "developer":
        role = "system"
    calls = message.get("tool_calls") or ()
    if not isinstance(calls, (list, tuple)):
        raise RequestError(
            tr("A message's {name} must be a list; got {value}.", name="tool_calls", value=excerpt(calls))
        )
    if message.get("function_call"):
        calls = [{"function": message["function_call"]}]
    if not isinstance(calls, (list, tuple)):
        raise RequestError(
            tr("A message's {name} must be a list; got {value}.", name="tool_calls", value=excerpt(calls))
        )
    return Message(
        role=role,  # type: ignore[arg-type]  # __post_init__ refuses an unknown role
        content=_content(message.get("content"), role),
        name=message.get("name"),
        tool_calls=tuple(_call(call) for call in calls),
        tool_call_id=message.get("tool_call_id"),
        reasoning_content=_reasoning(message),
    )


def text_messages(messages: Any) -> list[Message]:
    """Read the messages of a request to a text model. Raises RequestError, which names the message by its number."""
    if not isinstance(messages, list) or not messages:
        message = "`{name}` must be a list of messages; got {value}"
        raise RequestError(tr(message, name="messages", value=excerpt(messages)), param="messages")
    read = []
    for number, each in enumerate(messages):
        try:
            parsed = from_openai(each)
            # refuses images and audio; null stays null, which a chat template may render differently
            read.append(parsed if parsed.content is None else replace(parsed, content=parsed.text))
        except RequestError as error:
            message = "messages[{number}]: {error}"
            raise RequestError(tr(message, number=number, error=error), param=f"messages[{number}]") from error
    return read


def _call(call: Any) -> ToolCall:
    """An entry of `tool_calls`, or the function in it without that wrapper."""
    function = call.get("function", call) if isinstance(call, Mapping) else call
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise RequestError(tr("A tool call needs a function with a name; got {value}.", value=excerpt(call)))
    return ToolCall(function["name"], arguments_text(function.get("arguments")), call.get("id") or new_call_id())


def arguments_text(value: Any) -> str:
    """The arguments of a call as the text that the model writes. Raises RequestError for a number that JSON has not.

    A string is that text. Its JSON may be encoded once more, as a JSON string; no arguments are an empty object.
    """
    if isinstance(value, str):
        encoded = _json_or_none(value) if value.lstrip().startswith('"') else None
        if isinstance(encoded, str) and encoded.lstrip().startswith(("{", '"')):
            return arguments_text(encoded)
        return "{}" if value.strip() in ("", "null") else value
    if value is None:
        return "{}"
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise RequestError(
            tr("The arguments {value} are not valid JSON: {error}.", value=excerpt(value), error=error)
        ) from error


def _json_or_none(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _reasoning(message: Mapping[str, Any]) -> str:
    thoughts = message.get("reasoning_content")
    if not (thoughts is None or isinstance(thoughts, str)):
        raise RequestError(tr("reasoning_content must be text; got {value}", value=repr(thoughts)[:200]))
    return thoughts or ""


def _content(content: Any, role: Any) -> Any:
    """Content is a string, null, or a list of parts; `Message` refuses any other type."""
    if content is None and role != "assistant":
        return ""
    return [_part(part) for part in content] if isinstance(content, list) else content


def _part(part: Any) -> Part:
    kind = part.get("type") if isinstance(part, Mapping) else None
    body = part.get(kind) if isinstance(kind, str) else None
    if kind == TextPart.type and isinstance(body, str):
        return TextPart(body)
    if kind == ImagePart.type and isinstance(body, Mapping) and isinstance(body.get("url"), str):
        return ImagePart(body["url"], body.get("detail"))
    if kind == AudioPart.type and isinstance(body, Mapping):
        data, audio_format = body.get("data"), body.get("format")
        if isinstance(data, str) and isinstance(audio_format, str):
            return AudioPart(data, audio_format)
    raise RequestError(
        tr(
            "A content part must be text, image_url or input_audio as in OpenAI's API; got {value}.",
            value=excerpt(part),
        )
    )
