"""OpenAI's wire format, checked before anything else happens.

Requests are pydantic models in strict mode: a string is not a number, an unknown field is an error that names it,
and every number has a range. A field that is accepted is honoured; the few that have no meaning for a local model
(`user`, `metadata`, `store`, `service_tier`) are accepted only with values that ask for nothing.

Depth needs no check of our own: pydantic's parser gives up at 200 levels. Not here: what a request costs and whether
there is room for it (`admission.py`), and the answers (`chat_routes.py`).
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from qianwen.runtime.errors import RequestError
from qianwen.runtime.language import tr

MAX_CHOICES = 16
MAX_STOPS = 16
MAX_TOOLS = 128
MAX_MESSAGES = 2048
MAX_TOP_LOGPROBS = 20
MAX_LOGIT_BIAS = 1024
MAX_INPUTS = 256  # prompts or texts in one request

Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=256)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Request = TypeVar("Request", bound=BaseModel)


class Wire(BaseModel):
    """A JSON object whose fields are exactly those declared."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


# ---- messages -------------------------------------------------------------------------------------------------------


class TextPart(Wire):
    type: Literal["text"]
    text: str


class FunctionCall(Wire):
    name: Name
    arguments: str


class ToolCall(Wire):
    id: str = Field(max_length=128)
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(Wire):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[TextPart], Field(max_length=MAX_MESSAGES)] | None = None
    name: Name | None = None
    refusal: None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_TOOLS)] | None = None
    tool_call_id: str | None = Field(None, max_length=128)
    function_call: FunctionCall | None = None

    @model_validator(mode="before")
    @classmethod
    def _text_only(cls, value: Any) -> Any:
        """Name the reason when a part is an image or a sound, instead of a list of schema mismatches."""
        parts = value.get("content") if isinstance(value, dict) else None
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict) and isinstance(part.get("type"), str) and part["type"] != "text":
                raise ValueError(
                    tr("this model has no eyes or ears: a '{kind}' part cannot be read, only text", kind=part["type"])
                )
        return value

    @model_validator(mode="after")
    def _says_something(self) -> Message:
        if self.role == "tool" and not self.tool_call_id:
            raise ValueError(tr("a tool message needs the tool_call_id it answers"))
        if self.role == "function" and not self.name:
            raise ValueError(tr("a function message needs the name of the function it answers"))
        if self.role == "assistant":
            if self.content is None and not self.tool_calls and self.function_call is None:
                raise ValueError(tr("an assistant message needs content or tool_calls"))
        elif self.content is None:
            raise ValueError(tr("a {role} message needs content", role=self.role))
        return self

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


# ---- tools and formats ----------------------------------------------------------------------------------------------


class FunctionDefinition(Wire):
    name: Name
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})
    strict: bool | None = None


class ToolDefinition(Wire):
    type: Literal["function"]
    function: FunctionDefinition


class FunctionName(Wire):
    name: Name


class NamedTool(Wire):
    type: Literal["function"]
    function: FunctionName


class JsonSchema(Wire):
    name: Name
    description: str = ""
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(Wire):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_present(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError(tr("json_schema goes with type 'json_schema' and with no other type"))
        return self


class StreamOptions(Wire):
    include_usage: bool = False


# ---- requests -------------------------------------------------------------------------------------------------------


class Sampling(Wire):
    """The sampling fields chat and text completions share; all but the last five are OpenAI's."""

    model: str = Field(min_length=1, max_length=256)
    n: int = Field(1, ge=1, le=MAX_CHOICES)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = Field(None, max_length=MAX_LOGIT_BIAS)
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = Field(None, max_length=512)
    metadata: dict[str, str] | None = Field(None, max_length=16)
    service_tier: Literal["auto", "default"] | None = None
    top_k: int | None = Field(None, ge=0, lt=2**31)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    ignore_eos: bool = False
    stop_token_ids: list[TokenId] = Field(default_factory=list, max_length=MAX_STOPS)

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or ())

    @model_validator(mode="after")
    def _streaming(self) -> Sampling:
        if self.stream_options is not None and not self.stream:
            raise ValueError(tr("stream_options needs stream: true"))
        for key in self.logit_bias or ():
            if not (key.isascii() and key.isdigit() and int(key) < 2**31):
                raise ValueError(tr("logit_bias: '{key}' is not a token id", key=key[:20]))
        return self


class ChatCompletionRequest(Sampling):
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_tokens: int | None = Field(None, ge=1, lt=2**31)
    max_completion_tokens: int | None = Field(None, ge=1, lt=2**31)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    tools: Annotated[list[ToolDefinition], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool = True
    functions: Annotated[list[FunctionDefinition], Field(max_length=MAX_TOOLS)] | None = None
    function_call: Literal["none", "auto"] | FunctionName | None = None
    response_format: ResponseFormat | None = None
    store: Literal[False] | None = None

    @model_validator(mode="after")
    def _agree(self) -> ChatCompletionRequest:
        if self.top_logprobs and not self.logprobs:
            raise ValueError(tr("top_logprobs needs logprobs: true"))
        if self.tools and self.functions:
            raise ValueError(tr("give tools or the older functions, not both"))
        if self.max_tokens and self.max_completion_tokens and self.max_tokens != self.max_completion_tokens:
            raise ValueError(tr("max_tokens and max_completion_tokens disagree"))
        names = [f.name for f in self.definitions]
        if len(set(names)) != len(names):
            raise ValueError(tr("two tools have the same name"))
        if self.forced_name is not None and self.forced_name not in names:
            raise ValueError(tr("tool_choice names '{name}', which is not among the tools", name=self.forced_name))
        if self.tool_choice == "required" and not self.tools:
            raise ValueError(tr("tool_choice 'required' needs tools"))
        return self

    @property
    def definitions(self) -> list[FunctionDefinition]:
        return [tool.function for tool in self.tools or ()] + list(self.functions or ())

    @property
    def forced_name(self) -> str | None:
        """The one function that must be called, if the request names one."""
        if isinstance(self.tool_choice, NamedTool):
            return self.tool_choice.function.name
        return self.function_call.name if isinstance(self.function_call, FunctionName) else None

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


Prompt = str | list[TokenId]


class CompletionRequest(Sampling):
    prompt: (
        str
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[str], Field(min_length=1, max_length=MAX_INPUTS)]
        | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1, max_length=MAX_INPUTS)]
    )
    max_tokens: int = Field(16, ge=0, lt=2**31)
    echo: bool = False
    logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    best_of: Literal[1] | None = None
    suffix: None = None

    @model_validator(mode="after")
    def _something_to_do(self) -> CompletionRequest:
        if self.max_tokens == 0 and not self.echo:
            raise ValueError(tr("max_tokens 0 asks for nothing unless echo is true"))
        return self

    @property
    def prompts(self) -> list[Prompt]:
        if isinstance(self.prompt, str):
            return [self.prompt]
        return [self.prompt] if isinstance(self.prompt[0], int) else list(self.prompt)  # type: ignore[list-item]


class EmbeddingRequest(Wire):
    model: str = Field(min_length=1, max_length=256)
    input: (
        str
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[str], Field(min_length=1, max_length=MAX_INPUTS)]
        | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1, max_length=MAX_INPUTS)]
    )
    encoding_format: Literal["float", "base64"] = "float"
    pooling: Literal["last", "mean"] = "last"
    dimensions: None = None
    user: str | None = Field(None, max_length=512)

    @property
    def inputs(self) -> list[Prompt]:
        if isinstance(self.input, str):
            return [self.input]
        return [self.input] if isinstance(self.input[0], int) else list(self.input)  # type: ignore[list-item]


class TokenizeRequest(Wire):
    model: str | None = Field(None, max_length=256)
    text: str | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)] | None = None

    @model_validator(mode="after")
    def _one_of(self) -> TokenizeRequest:
        if (self.text is None) == (self.messages is None):
            raise ValueError(tr("give text or messages, one of the two"))
        return self


# ---- parsing and errors ---------------------------------------------------------------------------------------------


def parse(body: bytes, request: type[Request]) -> Request:
    """The request in `body`. Raises `RequestError` (400) that names the first wrong field."""
    try:
        return request.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(
            str(part) for part in first["loc"] if not str(part).startswith(("list[", "function-", "constrained"))
        )
        reason = first["msg"].removeprefix("Value error, ")
        raise RequestError(f"{field}: {reason}" if field else reason, param=field or None) from None
    except (ValueError, RecursionError) as error:  # lone surrogates and the like
        raise RequestError(tr("the body is not valid JSON: {reason}", reason=str(error)[:200])) from None


def error_body(
    message: str, *, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> dict:
    """OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def event(data: dict | str) -> bytes:
    """One server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"data: {text}\n\n".encode("utf-8", "replace")
