"""The body of `/v1/responses`, and the chat request that it stands for.

OpenAI's Responses API has items (messages, function calls, results of functions) where chat completions have messages.
This server stores no responses, so a client sends the earlier items again. What needs stored state or tools that run on
the server is refused with its name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationError, model_validator

from qianwen.model.long_context import Extension
from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr
from qianwen.serve.body_errors import body_error
from qianwen.serve.protocol import MAX_TOP_LOGPROBS, ChatCompletionRequest, ReasoningEffort
from qianwen.serve.wire import (
    MAX_MESSAGES,
    MAX_TOOLS,
    DefaultFalse,
    DefaultTrue,
    FunctionTool,
    Label,
    Name,
    NullMeans,
    Rope,
    Unsupported,
    Wire,
    max_entries,
)


def _stored(value: Any) -> None:
    if value is not None:
        raise ValueError(tr("this server stores no responses; send the earlier items again in `input`"))


Stored = Annotated[None, BeforeValidator(_stored)]
Status = Literal["in_progress", "completed", "incomplete"] | None
ItemId = Annotated[str, Field(max_length=128)] | None


class Part(Wire):
    """A part of a message: text that was sent (`input_text`) or generated (`output_text`), or a refusal."""

    type: Literal["input_text", "output_text", "refusal"]
    text: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _text_only(cls, value: Any) -> Any:
        kind = value.get("type") if isinstance(value, dict) else None
        if isinstance(kind, str) and kind not in ("input_text", "output_text", "refusal"):
            raise ValueError(tr("this model reads text only; content of type '{kind}' is not supported", kind=kind))
        return value

    @model_validator(mode="after")
    def _has_text(self) -> Part:
        if self.content is None:
            name = "refusal" if self.type == "refusal" else "text"
            raise ValueError(tr("a part of type '{kind}' needs {name}", kind=self.type, name=name))
        return self

    @property
    def content(self) -> str | None:
        return self.refusal if self.type == "refusal" else self.text


Parts = Annotated[list[Part], Field(fail_fast=True, max_length=MAX_MESSAGES)]


class MessageItem(Wire):
    type: Annotated[Literal["message"], NullMeans("message")] = "message"
    id: ItemId = None
    status: Status = None
    role: Literal["user", "assistant", "system", "developer"]
    content: str | Parts
    phase: Literal["commentary", "final_answer"] | None = None


class CallItem(Wire):
    type: Literal["function_call"]
    id: ItemId = None
    status: Status = None
    call_id: str = Field(max_length=128)
    name: Name
    arguments: str
    caller: Unsupported = None
    namespace: Unsupported = None
    async_: Unsupported = Field(None, alias="async")


class OutputItem(Wire):
    type: Literal["function_call_output"]
    id: ItemId = None
    status: Status = None
    call_id: str = Field(max_length=128)
    output: str | Parts
    name: Name | None = None
    caller: Unsupported = None
    namespace: Unsupported = None


class ReasoningItem(Wire):
    """Earlier thoughts. A model does not see them again, so they are accepted and left out."""

    type: Literal["reasoning"]
    id: ItemId = None
    status: Status = None
    summary: list[Any] | None = None
    content: list[Any] | None = None
    encrypted_content: str | None = None


class ReferenceItem(Wire):
    """An item of a stored response; there are none."""

    type: Literal["item_reference"]
    id: Stored = None


def _kind(item: Any) -> str:
    return str(item.get("type") or "message") if isinstance(item, dict) else "message"


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[CallItem, Tag("function_call")]
    | Annotated[OutputItem, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")]
    | Annotated[ReferenceItem, Tag("item_reference")],
    Discriminator(_kind),
]


class NamedFunctionTool(FunctionTool):
    """A function; its fields are not in an object of their own, as they are for chat completions."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    allowed_callers: Annotated[list[Literal["direct"]], Field(max_length=1)] | None = None
    async_: Unsupported = Field(None, alias="async")
    defer_loading: Literal[False] | None = None
    output_schema: Unsupported = None


class ToolChoice(Wire):
    type: Literal["function"]
    name: Name


class TextFormat(Wire):
    type: Literal["text", "json_object", "json_schema"]
    name: Name | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None

    @model_validator(mode="after")
    def _schema_present(self) -> TextFormat:
        if (self.type == "json_schema") != (self.schema_ is not None and self.name is not None):
            raise ValueError(tr("type 'json_schema' needs the fields name and schema, and no other type allows them"))
        return self


class TextOptions(Wire):
    format: TextFormat | None = None
    verbosity: Literal["medium"] | None = None


class Reasoning(Wire):
    """Whether the model thinks before it answers; there is no model here that summarises its thoughts."""

    effort: ReasoningEffort | None = None
    summary: Unsupported = None
    generate_summary: Unsupported = None
    context: Unsupported = None
    mode: Unsupported = None


class ResponseStreamOptions(Wire):
    include_obfuscation: Literal[False] | None = None


class ResponsesRequest(Wire):
    model: str = Field(min_length=1, max_length=256)
    input: str | Annotated[list[Item], Field(fail_fast=True, min_length=1, max_length=MAX_MESSAGES)]
    instructions: str | None = None
    max_output_tokens: int | None = Field(None, ge=1, lt=2**31)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    include: Annotated[list[Literal["message.output_text.logprobs"]], Field(max_length=1)] | None = None
    stream: DefaultFalse = False
    stream_options: ResponseStreamOptions | None = None
    text: TextOptions | None = None
    tools: Annotated[list[NamedFunctionTool], Field(fail_fast=True, max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: DefaultTrue = True
    max_tool_calls: int | None = Field(None, ge=1)  # of tools that the server runs; there are none
    truncation: Literal["disabled"] | None = None
    store: Literal[False] | None = None
    previous_response_id: Stored = None
    conversation: Stored = None
    background: Literal[False] | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16), max_entries(16)] | None = None
    user: Label | None = None
    safety_identifier: Label | None = None
    service_tier: Literal["auto", "default"] | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Literal["in-memory", "in_memory"] | None = None
    reasoning: Reasoning | None = None
    rope: Extension | Rope | None = None  # not in OpenAI's API: how this request extends the trained length
    prompt: Unsupported = None
    context_management: Unsupported = None
    moderation: Unsupported = None
    image: Unsupported = None
    access_programs: Unsupported = None
    background_options: Unsupported = None
    prompt_cache_options: Unsupported = None

    def as_chat(self) -> ChatCompletionRequest:
        """The same request for chat completions. Raises RequestError for combinations that it does not allow."""
        text = self.text.format if self.text else None
        wants_logprobs = bool(self.include) or self.top_logprobs is not None
        body: dict[str, Any] = {
            "model": self.model,
            "messages": self._messages(),
            "max_completion_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "logprobs": wants_logprobs,
            "top_logprobs": self.top_logprobs,
            "tools": [_chat_tool(tool) for tool in self.tools] if self.tools else None,
            "tool_choice": _chat_tool_choice(self.tool_choice),
            "parallel_tool_calls": self.parallel_tool_calls,
            "response_format": _chat_format(text) if text else None,
            "stream": self.stream,
            "reasoning_effort": self.reasoning.effort if self.reasoning else None,
            "rope": self.rope,
        }
        try:
            return ChatCompletionRequest.model_validate(body)
        except ValidationError as error:
            raise body_error(error, b"") from None

    def _messages(self) -> list[dict[str, Any]]:
        items = [MessageItem(role="user", content=self.input)] if isinstance(self.input, str) else self.input
        messages: list[dict[str, Any]] = []
        for item in items:
            if isinstance(item, MessageItem):
                messages.append({"role": item.role, "content": _text(item.content)})
            elif isinstance(item, OutputItem):
                messages.append({"role": "tool", "tool_call_id": item.call_id, "content": _text(item.output)})
            elif isinstance(item, CallItem):
                call = {"id": item.call_id, "function": {"name": item.name, "arguments": item.arguments}}
                if not messages or messages[-1]["role"] != "assistant":
                    messages.append({"role": "assistant", "content": None})
                messages[-1].setdefault("tool_calls", []).append(call)
        if self.instructions is not None:
            later = messages.pop(0)["content"] if messages and messages[0]["role"] in ("system", "developer") else ""
            messages.insert(0, {"role": "system", "content": "\n\n".join(filter(None, (self.instructions, later)))})
        if not messages:
            raise RequestError(tr("input has no message"), param="input")
        return messages


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.content or "" for part in content)


def _chat_tool(tool: NamedFunctionTool) -> dict[str, Any]:
    names = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {name: getattr(tool, name) for name in names}}


def _chat_tool_choice(choice: Any) -> Any:
    return {"type": "function", "function": {"name": choice.name}} if isinstance(choice, ToolChoice) else choice


def _chat_format(text: TextFormat) -> dict[str, Any]:
    if text.type != "json_schema":
        return {"type": text.type}
    return {"type": text.type, "json_schema": {"name": text.name, "schema": text.schema_, "strict": text.strict}}
